"""Processes that make batches, for data whose observations take Python work: decoding pictures, parsing text.

Each process is started afresh ("spawn": nothing is forked, on every system), is sent the job once, and then answers
one task at a time: `job(*task)`. Tasks are a few numbers, since the order of the observations is a function of them;
only results are large. What is pickled goes between these processes alone.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import queue
import signal
import traceback
import weakref
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

import jax

from fluxion.errors import DataError, DTypeError, StateError

SECONDS = 5.0  # that a process is given to end


class Workers:
    """`count` processes that answer `job(*task)`; `ask` may be called from as many threads."""

    def __init__(self, job: Callable[..., Any], count: int) -> None:
        payload = _packed(job)
        context = multiprocessing.get_context("spawn")
        self.workers: list[_Worker] = []
        self.close = weakref.finalize(self, _close, self.workers)
        with _ctrl_c_blocked():
            for _ in range(count):
                self.workers.append(_Worker(context, payload))
        self.idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for worker in self.workers:
            self.idle.put(worker)

    def ask(self, *task: int) -> Any:
        """`job(*task)`, made by a worker that has nothing to do, or the exception that it raised there."""
        worker = self.idle.get()
        try:
            return worker.ask(task)
        finally:
            self.idle.put(worker)

    def stop(self) -> None:
        """End the processes now; calls of `ask` under way fail."""
        for worker in self.workers:
            worker.process.terminate()


class _Worker:
    """One process, seen from this side."""

    def __init__(self, context: Any, payload: bytes) -> None:
        self.connection, theirs = context.Pipe()
        self.payload: bytes | None = payload  # until it is sent
        self.answered = False
        self.process = context.Process(target=_serve, args=(theirs,), name="fluxion-data", daemon=True)
        self.process.start()
        theirs.close()  # so that the end of the process ends the connection

    def ask(self, task: tuple[int, ...]) -> Any:
        try:
            if self.payload is not None:
                self.connection.send_bytes(self.payload)
                self.payload = None
            self.connection.send(task)
            answer = self.connection.recv_bytes()
        except (EOFError, OSError):
            raise self.ended(task) from None
        self.answered = True
        done, value = pickle.loads(answer)
        if not done:
            raise value
        return value

    def ended(self, task: tuple[int, ...]) -> StateError:
        self.process.join(SECONDS)
        code = self.process.exitcode
        how = f"by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"
        if not self.answered:
            return StateError(
                f"DataLoader: a worker process ended {how} before its first batch. Workers begin by importing the main "
                'script: what it does has to stand under `if __name__ == "__main__":`. Or use workers=0.'
            )
        return StateError(
            f"DataLoader: a worker process ended {how} while it made batch {task[-1]}. It ran out of memory, or "
            "crashed in a library; workers=0 shows where."
        )


def _close(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.process.terminate()
    for worker in workers:
        worker.process.join(SECONDS)
        if worker.process.exitcode is None:
            worker.process.kill()
            worker.process.join()
        worker.connection.close()


@contextlib.contextmanager
def _ctrl_c_blocked() -> Iterator[None]:
    """Processes started here do not see Ctrl-C, not even while they begin: this process ends them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # which else would be started below, and unblock Ctrl-C
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _packed(job: Any) -> bytes:
    try:
        return pickle.dumps(job, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        raise DTypeError(
            f"DataLoader: data, sampler and collate are sent to the workers, and these cannot be: {error}. Define "
            "their classes and functions at the top of a module, without lambdas and open files, or use workers=0."
        ) from None


def _serve(connection: Connection) -> None:
    """What a worker process does: take the job, then answer tasks until the connection ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    jax.config.update("jax_platforms", "cpu")  # an accelerator belongs to the process that trains
    with contextlib.suppress(EOFError, OSError):  # the other side has gone
        job = _attempt(pickle.loads, connection.recv_bytes())
        while True:
            task = connection.recv()
            answer = _attempt(job[1], *task) if job[0] else job
            packed = _attempt(pickle.dumps, answer, pickle.HIGHEST_PROTOCOL)
            connection.send_bytes(packed[1] if packed[0] else pickle.dumps(packed))


def _attempt(function: Callable[..., Any], *args: Any) -> tuple[bool, Any]:
    """`(True, value)`, or `(False, exception)` in a form that can be sent."""
    try:
        return True, function(*args)
    except Exception as error:
        return False, _sendable(error)


def _sendable(error: Exception) -> Exception:
    """The exception, with its traceback as a note; one that cannot be sent, as a `DataError` that says the same."""
    lines = "".join(traceback.format_tb(error.__traceback__)[1:])
    try:
        copy = pickle.loads(pickle.dumps(error))
    except Exception:
        copy = DataError(f"{type(error).__name__}: {error}")
        for note in getattr(error, "__notes__", ()):
            copy.add_note(note)
    copy.add_note(f"In a worker process, where the traceback was:\n{lines}".rstrip())
    return copy
