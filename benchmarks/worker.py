"""One measurement of one peer, in the fresh process that `harness.py` starts; the answer is the last line printed.

python benchmarks/worker.py '{"workload": "iris-b8", "module": "jax", "mode": "jit", "file": "x.npz", "threads": 2,
                             "quick": false}'

A peer is a module in `peers/`, as small as the documentation of its framework would have it:

    MODES = {"train": ("eager", ...), "infer": (...), "start": (...)}   # the fast ones; the best of them is what counts
    def supports(workload, mode) -> bool
    def versions() -> dict[str, str]
    class Session:
        def __init__(self, workload, weights, mode): ...  # the model with these weights, and its optimizer
        def prepare(self, batches): ...    # batches as the loop below gets them; not timed
        def losses(self, prepared): ...    # a step on each; the loss before each step
        def train(self, prepared): ...     # the same, timed; returns when all is computed
        def epochs(self, x, y, count): ... # the framework's own way with arrays: new random order, whole batches only
        def evaluate(self, x, y): ...      # mean loss and accuracy, in batches of 1000
        def inputs(self, x): ...           # for inference: x as `forward` gets it; not timed
        def forward(self, inputs): ...     # the outputs, computed
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from workloads import BATCHES, WORKLOADS, Workload, batches

SAMPLES = 10  # of every time, after one that is not counted
FEW = 4  # samples of what is so slow that it does not matter
SECONDS, LONG, MOST = 0.5, 5.0, 100  # more samples until so many seconds, but FEW alone after LONG ones; and at most
COMPARED = 20  # outputs, for inference


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    workload = WORKLOADS[spec["workload"]]
    if hasattr(os, "sched_setaffinity"):  # XLA starts as many threads as it may use cores
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: spec["threads"]])
    with np.load(spec["file"]) as arrays:  # before the clock starts
        x, y = arrays["x"], arrays["y"]
        weights = {name.removeprefix("weights/"): arrays[name] for name in arrays.files if name.startswith("weights/")}
    clock = Clock(spec["quick"])
    started = time.perf_counter()
    peer = clock("import", lambda: importlib.import_module(f"peers.with_{spec['module']}"))
    peer.threads(spec["threads"])
    session = clock("build", lambda: peer.Session(workload, weights, spec["mode"]))
    kinds = {"train": _training, "infer": _inference, "start": _start}
    values = kinds[workload.kind](clock, session, workload, x, y)
    if workload.kind == "start":
        clock.times["start"] = [time.perf_counter() - started]
    return {"times": clock.times, "memory": peak_memory(), "versions": peer.versions(), **values}


def _start(clock: Clock, session: Any, workload: Workload, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    first = session.prepare(batches(x, y, workload.batch, 1))
    return {"outputs": [float(v) for v in clock("first", lambda: session.losses(first))]}


def _training(clock: Clock, session: Any, workload: Workload, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    outputs = _start(clock, session, workload, x, y)["outputs"]
    outputs += map(float, session.losses(session.prepare(batches(x, y, workload.batch, workload.checked)[1:])))
    block = session.prepare(batches(x, y, workload.batch, workload.block))
    clock.sample("step", lambda: session.train(block), workload.block)
    arrays = x[: workload.examples], y[: workload.examples]
    steps = workload.examples // workload.batch * workload.epochs
    clock.sample("epoch", lambda: session.epochs(*arrays, workload.epochs), steps)
    values: dict[str, Any] = {"outputs": outputs}
    if workload.evaluation:
        values["memory"] = peak_memory()  # of the training; batches of 1000 are another matter
        arrays = x[: workload.evaluation], y[: workload.evaluation]
        loss, accuracy = clock.sample("evaluation", lambda: session.evaluate(*arrays))
        values |= {"loss": float(loss), "accuracy": float(accuracy)}
        _check_evaluation(session, *arrays)
    return values


def _check_evaluation(session: Any, x: np.ndarray, y: np.ndarray) -> None:
    """That the evaluation of some examples is what their outputs say: later ones cannot be compared between peers."""
    x, y = x[:1000], y[:1000]
    outputs = np.asarray(session.forward(session.inputs(x)), np.float64)
    shifted = outputs - outputs.max(-1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    expected = -logs[np.arange(len(y)), y].mean(), (outputs.argmax(-1) == y).mean()
    found = session.evaluate(x, y)
    if not np.allclose(found, expected, rtol=1e-3, atol=1e-3):
        raise ValueError(f"evaluate says loss and accuracy {found}, the outputs say {expected}")


def _inference(clock: Clock, session: Any, workload: Workload, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    compared: list[float] = []
    for size in BATCHES:
        inputs = session.inputs(x[:size])
        outputs = clock(f"first {size}", lambda inputs=inputs: session.forward(inputs))
        compared += np.asarray(outputs).ravel()[:COMPARED].tolist()
        clock("again", lambda inputs=inputs: session.forward(inputs))
        calls = max(1, min(50, int(0.01 / clock.times.pop("again")[0])))  # so many that the clock costs nothing

        def block(inputs: Any = inputs, calls: int = calls) -> None:
            for _ in range(calls):
                session.forward(inputs)

        clock.sample(f"batch {size}", block, calls)
    return {"outputs": compared}


class Clock:
    """Seconds by name: of each call, divided by `parts`."""

    def __init__(self, quick: bool) -> None:
        self.quick = quick  # one sample of everything
        self.times: dict[str, list[float]] = {}

    def __call__(self, name: str, f: Callable[[], Any], parts: int = 1) -> Any:
        started = time.perf_counter()
        result = f()
        self.times.setdefault(name, []).append((time.perf_counter() - started) / parts)
        return result

    def sample(self, name: str, f: Callable[[], Any], parts: int = 1) -> Any:
        """The time of one call again and again, after one that is not counted: it may compile."""
        result = f()
        started = time.perf_counter()
        while True:
            self(name, f, parts)
            passed, count = time.perf_counter() - started, len(self.times[name])
            if (
                self.quick
                or count >= MOST
                or (count >= SAMPLES and passed > SECONDS)
                or (count >= FEW and passed > LONG)
            ):
                return result


def peak_memory() -> int:
    """Bytes. The kernel's own mark where there is one: ru_maxrss begins with what the parent process had."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
