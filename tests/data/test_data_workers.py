"""Worker processes: the same batches, errors from far away, and how they end."""

import gc
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

import fluxion as fx
from fluxion.data import workers

MODULE = """
import os, signal
import numpy as np


class Pictures:
    def __init__(self, count=20, bad=None):
        self.count, self.bad = count, bad

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        import fluxion as fx

        if i == 7 and self.bad == "key":
            raise KeyError("no picture 7")
        if i == 7 and self.bad == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        return np.full((4, 2), i, np.float32), np.asarray(fx.rand(1)), os.getpid()


def plus_one(observations):
    import fluxion as fx

    return fx.batch([(x + 1, r, p) for x, r, p in observations])
"""


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """A module that the workers can import."""
    (tmp_path / "pictures_of_a_test.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    import pictures_of_a_test

    yield pictures_of_a_test
    del sys.modules["pictures_of_a_test"]


def children():
    return [p for p in multiprocessing.active_children() if p.name == "fluxion-data"]


def test_the_same_batches_with_workers(pictures):
    def loader(workers):
        return fx.DataLoader(
            pictures.Pictures(), batch_size=6, shuffle=True, seed=5, workers=workers, collate=pictures.plus_one
        )

    def epochs(loader):
        return [batch for part in (loader, loader.batches(1, start=1)) for batch in part]

    here, there = loader(0), loader(2)
    processes = set()
    for (x, r, p), (y, s, q) in zip(epochs(here), epochs(there), strict=True):
        np.testing.assert_array_equal(x, y)
        np.testing.assert_array_equal(r, s)
        assert set(p) == {os.getpid()}
        processes |= set(q.tolist())
    assert len(processes) <= 2 and os.getpid() not in processes  # those of epoch 0 were kept for epoch 1
    assert {p.pid for p in children()} >= processes
    for _ in there:
        break
    assert not children() and there.epoch == 2  # leaving early ends them


def test_workers_end_with_the_loader(pictures):
    loader = fx.DataLoader(pictures.Pictures(4), batch_size=2, workers=1)
    assert len(list(loader)) == 2 and len(children()) == 1
    del loader
    gc.collect()
    assert not children()


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [("key", KeyError, "no picture 7"), ("kill", fx.StateError, "ended by signal 9 while it made batch 3")],
)
def test_what_goes_wrong_in_a_worker(pictures, bad, error, message):
    loader = fx.DataLoader(pictures.Pictures(bad=bad), batch_size=2, workers=1)
    seen = []
    with pytest.raises(error, match=message) as caught:
        for x, _, _ in loader:
            seen.append(x[0, 0, 0])
    assert seen == [0, 2, 4] and not children()
    if bad == "key":
        where, there = caught.value.__notes__
        assert where == "This came from observation 7 of the Pictures."
        assert there.startswith("In a worker process") and 'raise KeyError("no picture 7")' in there


class StrangeError(Exception):
    """Cannot be made again from its `args`, as unpickling does."""

    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")


def test_every_exception_can_be_sent():
    def strange():
        error = StrangeError("this", "that")
        error.add_note("a note")
        raise error

    done, error = pickle.loads(pickle.dumps(workers._attempt(strange)))
    assert not done and type(error) is fx.DataError and str(error) == "StrangeError: this and that"
    assert error.__notes__[0] == "a note" and "in strange" in error.__notes__[1]
    done, error = workers._attempt(pickle.dumps, lambda: 0)  # a batch that cannot be sent
    assert not done and "lambda" in str(pickle.loads(pickle.dumps(error)))


def test_arrays_are_sliced_here():
    loader = fx.DataLoader((np.arange(6), np.ones(6)), batch_size=2, workers=4)
    assert [x.tolist() for x, _ in loader] == [[0, 1], [2, 3], [4, 5]] and not children()
    assert "workers=4" in repr(loader)


def test_what_cannot_be_sent_is_refused():
    loader = fx.DataLoader([1, 2, 3], workers=2, collate=lambda items: items)
    with pytest.raises(fx.DTypeError, match=r"sent to the workers, and these cannot be: .*lambda.*or use workers=0"):
        list(loader)
    assert not children()


def run(tmp_path, script, **options):
    (tmp_path / "pictures_of_a_test.py").write_text(MODULE)
    (tmp_path / "script.py").write_text(textwrap.dedent(script))
    pipe = subprocess.PIPE
    command = [sys.executable, "script.py"]
    return subprocess.Popen(command, cwd=tmp_path, stdout=pipe, stderr=pipe, text=True, **options)


def test_ctrl_c_ends_the_workers_without_a_word(tmp_path):
    script = """
        import multiprocessing, signal
        import fluxion as fx
        from pictures_of_a_test import Pictures

        if __name__ == "__main__":
            signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell runs in the background
            loader = fx.DataLoader(Pictures(10**6), batch_size=2, workers=1)
            try:
                for i, _ in enumerate(loader):
                    if i == 3:
                        print([p.pid for p in multiprocessing.active_children()], flush=True)
            except KeyboardInterrupt:
                print(len(multiprocessing.active_children()), "left")
        """
    process = run(tmp_path, script, start_new_session=True)
    pids = eval(process.stdout.readline())
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all processes of the group
    out, error = process.communicate(timeout=60)
    assert (process.returncode, out, error) == (0, "0 left\n", "")
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_script_without_its_guard_is_told(tmp_path):
    script = """
        import fluxion as fx
        from pictures_of_a_test import Pictures

        for _ in fx.DataLoader(Pictures(), workers=1):
            pass
        """
    process = run(tmp_path, script)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "before its first batch. Workers begin by importing the main script" in error
    assert 'if __name__ == "__main__":' in error


@pytest.mark.slow
def test_workers_end_when_their_parent_is_killed(tmp_path):
    script = """
        import multiprocessing, os, signal
        import fluxion as fx
        from pictures_of_a_test import Pictures

        if __name__ == "__main__":
            for _ in fx.DataLoader(Pictures(10**6), batch_size=2, workers=1):
                print([p.pid for p in multiprocessing.active_children()], flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
        """
    process = run(tmp_path, script)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    (pid,) = eval(out)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and _alive(pid):
        time.sleep(0.02)
    assert not _alive(pid)


def _alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
