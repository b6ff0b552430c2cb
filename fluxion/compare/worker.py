"""What a framework can do, or one measurement of it, in the fresh process that `processes.py` starts.

python fluxion/compare/worker.py abilities|measure SPEC.json      the answer is the last line printed, JSON

It runs in the interpreter that has the framework, which need not have Fluxion: the adapters and `parts.py` are loaded
from this folder under a name of their own, and import each other relatively (`from .. import parts`).
`adapters/__init__.py` says what an adapter has.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import resource
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
if __name__ != "fluxion.compare.worker":
    sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != HERE]  # its names would hide other packages
    sys.modules["compared"] = package = types.ModuleType("compared")
    package.__path__ = [str(HERE)]
    __package__ = "compared"

from . import parts  # noqa: E402

BATCHES = (1, 256)  # of inference
SAMPLES = 10  # of every time, after one that is not counted
FEW = 4  # samples of what is so slow that it does not matter
SECONDS, LONG, MOST = 0.5, 5.0, 100  # more samples until so many seconds, but FEW alone after LONG ones; and at most
COMPARED = 20  # outputs, for inference


def adapter(name: str) -> Any:
    """The module of a framework."""
    return importlib.import_module(f"{__package__}.adapters.with_{name}")


def abilities(spec: dict[str, Any]) -> dict[str, Any]:
    """Which modes work on which workloads, why the others do not, and the versions."""
    if absent := [name for name in spec["needs"] if importlib.util.find_spec(name) is None]:
        return {"error": f"no {', '.join(absent)}"}
    peer = adapter(spec["module"])
    modes: dict[str, list[str]] = {}
    reasons: dict[str, dict[str, str]] = {}
    for workload in map(parts.from_json, spec["workloads"]):
        # Until every adapter has modes for all kinds together.
        names = peer.MODES.get({"compare": "train"}.get(workload.kind, workload.kind), peer.MODES)
        said = {mode: peer.supports(workload, mode) for mode in names}
        modes[workload.name] = [mode for mode, able in said.items() if able is True]
        reasons[workload.name] = {mode: able for mode, able in said.items() if isinstance(able, str)}
    return {"modes": modes, "reasons": reasons, "versions": peer.versions()}


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    workload = parts.from_json(spec["workload"])
    if hasattr(os, "sched_setaffinity"):  # XLA starts as many threads as it may use cores
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: spec["threads"]])
    with np.load(spec["file"]) as arrays:  # before the clock starts
        x, y = arrays["x"], arrays["y"]
        weights = {name.removeprefix("weights/"): arrays[name] for name in arrays.files if name.startswith("weights/")}
    clock = Clock(spec.get("quick", False))
    started = time.perf_counter()
    peer = clock("import", lambda: adapter(spec["module"]))
    peer.threads(spec["threads"])
    session = clock("build", lambda: peer.Session(workload, weights, spec["mode"]))
    kinds = {"train": _training, "infer": _inference, "start": _start}
    values = kinds[workload.kind](clock, session, workload, x, y)
    if workload.kind == "start":
        clock.times["start"] = [time.perf_counter() - started]
    return {"times": clock.times, "memory": peak_memory(), "versions": peer.versions(), **values}


def _start(clock: Clock, session: Any, workload: parts.Workload, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    first = session.prepare(parts.batches(x, y, workload.batch, 1))
    return {"outputs": [float(v) for v in clock("first", lambda: session.losses(first))]}


def _training(clock: Clock, session: Any, workload: parts.Workload, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    outputs = _start(clock, session, workload, x, y)["outputs"]
    outputs += map(float, session.losses(session.prepare(parts.batches(x, y, workload.batch, workload.checked)[1:])))
    block = session.prepare(parts.batches(x, y, workload.batch, workload.block))
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


def _inference(clock: Clock, session: Any, workload: parts.Workload, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
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
    given = json.loads(Path(sys.argv[2]).read_text())
    print(json.dumps({"abilities": abilities, "measure": measure}[sys.argv[1]](given)))
