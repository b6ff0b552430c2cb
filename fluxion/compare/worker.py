"""What a framework can do, or one measurement of it, in the fresh process that `processes.py` starts.

python fluxion/compare/worker.py abilities|measure SPEC.json      the answer is the last line printed, JSON

It runs in the interpreter that has the framework, which need not have Fluxion: the adapters and `parts.py` are loaded
from this folder under a name of their own, and import each other relatively (`from .. import parts`).
`adapters/__init__.py` says what an adapter has.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import os
import resource
import shutil
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
    """Which modes work on which workloads, and why the others do not."""
    peer = adapter(spec["module"])
    absent = [name for name in spec["needs"] if importlib.util.find_spec(name) is None]
    absent += [name for name in getattr(peer, "PROGRAMS", ()) if shutil.which(name) is None]
    if absent:
        return {"missing": f"no {', '.join(absent)}"}
    modes: dict[str, list[str]] = {}
    reasons: dict[str, dict[str, str]] = {}
    for workload in map(parts.from_json, spec["workloads"]):
        said = {mode: peer.supports(workload, mode) for mode in peer.MODES}
        modes[workload.name] = [mode for mode, able in said.items() if able is True]
        reasons[workload.name] = {mode: able for mode, able in said.items() if isinstance(able, str)}
    return {"modes": modes, "reasons": reasons}


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    workload = parts.from_json(spec["workload"])
    if workload.kind == "compare":
        return compare(spec, workload)
    use_cores(spec["threads"])
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
        outputs = clock(f"first {size}", functools.partial(session.forward, inputs))
        compared += np.asarray(outputs).ravel()[:COMPARED].tolist()
        clock("again", functools.partial(session.forward, inputs))
        calls = max(1, min(50, int(0.01 / clock.times.pop("again")[0])))  # so many that the clock costs nothing

        def block(inputs: Any = inputs, calls: int = calls) -> None:
            for _ in range(calls):
                session.forward(inputs)

        clock.sample(f"batch {size}", block, calls)
    return {"outputs": compared}


# ----------------------------------------------------------------------------------------- fluxion compare

FIRST = 10  # steps whose losses are compared in every process; all `workload.checked` of them in the first one
CHUNK = 64 << 20  # bytes of batches that lie ready at once in an epoch
PIXELS = {
    "0 to 1": lambda x: x.astype(np.float32) / np.float32(255),
    "0 to 255": lambda x: x.astype(np.float32),
    "standardized": lambda x: (x.astype(np.float32) / np.float32(255) - np.float32(0.1307)) / np.float32(0.3081),
}
Steps = list[tuple[np.ndarray, np.ndarray]]


def compare(spec: dict[str, Any], workload: parts.Workload) -> dict[str, Any]:
    """The times of one fresh process, or how accuracy grows for each of some seeds."""
    use_cores(spec["threads"])
    clock = Clock(spec["quick"], seconds=0.1, long=1.5, few=2)

    def bring() -> Any:
        importlib.import_module(f"{__package__}.adapters.with_{spec['module']}")
        return [importlib.import_module(name) for name in spec["needs"]]

    clock("import", bring)
    peer = adapter(spec["module"])
    peer.threads(spec["threads"])
    arrays = clock("data", lambda: read(spec["file"], spec["pixels"]))
    part = {"timing": timing, "accuracy": accuracy}[spec["part"]]
    found = part(clock, peer, workload, arrays, spec)
    return {"times": clock.times, "versions": peer.versions(), **found}


def timing(
    clock: Clock, peer: Any, workload: parts.Workload, arrays: dict[str, np.ndarray], spec: dict[str, Any]
) -> dict[str, Any]:
    """The columns of the table; those after the steady state are left out unless `spec["whole"]`."""
    x, y = arrays["x"], arrays["y"]
    session = clock("build", lambda: peer.Session(workload, weights_of(arrays, 0), spec["mode"]))
    rows = steps_of(arrays["order/0"], workload.batch)
    count = workload.checked if spec["whole"] else FIRST
    steps: Steps = [(x[r], y[r]) for r in (rows * (count // len(rows) + 1))[:count]]
    first = session.prepare(steps[:1])
    losses = [float(value) for value in clock("first", lambda: session.losses(first))]
    losses += map(float, session.losses(session.prepare(steps[1:])))
    block = session.prepare((steps * (workload.block // len(steps) + 1))[: workload.block])
    clock.sample("step", lambda: session.train(block), workload.block)
    values: dict[str, Any] = {"losses": losses, "memory": peak_memory()}
    if spec["whole"]:
        some = (rows * (workload.block // len(rows) + 1))[: workload.block]
        clock.sample("batches", lambda: session.prepare([(x[r], y[r]) for r in some]), workload.block)
        whole = len(rows[: arrays["order/0"].shape[1] // workload.batch])
        wanted = max(1, int(0.3 / min(clock.times["step"])))
        taken = min(whole, max(wanted, 4))
        times = max(1, min(workload.epochs, wanted // whole))
        own = x[: taken * workload.batch], y[: taken * workload.batch]
        clock.sample("epoch", lambda: session.epochs(*own, times), times * taken / whole)
        values["memory"] = peak_memory()  # of the training; batches of 1000 are another matter
        test = arrays["x_test"], arrays["y_test"]
        clock.sample("evaluation", lambda: session.evaluate(*test))
        _check_evaluation(session, *test)
    return values


def accuracy(
    clock: Clock, peer: Any, workload: parts.Workload, arrays: dict[str, np.ndarray], spec: dict[str, Any]
) -> dict[str, Any]:
    """Training by the table of batches, epoch after epoch, for each of `spec["seeds"]`."""
    x, y = arrays["x"], arrays["y"]
    curves = []
    for seed in spec["seeds"]:
        session = peer.Session(workload, weights_of(arrays, seed), spec["mode"])
        curve: dict[str, Any] = {"seed": seed, "seconds": [], "train loss": [], "test loss": [], "test accuracy": []}
        for order in arrays[f"order/{seed}"]:
            if workload.restart:
                session.restart()
            started = time.perf_counter()
            losses = epoch(session, x, y, steps_of(order[None], workload.batch))
            curve["seconds"].append(time.perf_counter() - started)
            curve["train loss"].append(float(np.mean(losses)))
            loss, right = session.evaluate(arrays["x_test"], arrays["y_test"])
            curve["test loss"].append(float(loss))
            curve["test accuracy"].append(float(right))
            if "x_validation" in arrays:
                _, right = session.evaluate(arrays["x_validation"], arrays["y_validation"])
                curve.setdefault("validation accuracy", []).append(float(right))
            if not np.isfinite(losses).all():
                break
        curves.append(curve)
    return {"curves": curves, "memory": peak_memory()}


def epoch(session: Any, x: np.ndarray, y: np.ndarray, rows: list[np.ndarray]) -> list[float]:
    """A step on each batch, several batches ready at a time; the loss before each step."""
    size = max(1, CHUNK // max(1, x[rows[0]].nbytes))
    losses: list[float] = []
    for start in range(0, len(rows), size):
        prepared = session.prepare([(x[r], y[r]) for r in rows[start : start + size]])
        losses += map(float, session.losses(prepared))
    return losses


def read(file: str, pixels: str) -> dict[str, np.ndarray]:
    """The arrays of a comparison; pixels as the workload has them, in float32."""
    with np.load(file) as saved:
        arrays = {name: saved[name] for name in saved.files}
    for name in ("x", "x_test", "x_validation"):
        if name in arrays and arrays[name].dtype == np.uint8:
            arrays[name] = PIXELS[pixels](arrays[name])
    return arrays


def weights_of(arrays: dict[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    start = f"weights/{seed}/"
    return {name[len(start) :]: array for name, array in arrays.items() if name.startswith(start)}


def steps_of(order: np.ndarray, batch: int) -> list[np.ndarray]:
    """The rows of each batch, through all epochs of the table."""
    return [row[start : start + batch] for row in order for start in range(0, len(row), batch)]


# -------------------------------------------------------------------------------------------------- clocks


def use_cores(count: int) -> None:
    """Leave so many cores to this process: XLA starts as many threads as it may use."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


class Clock:
    """Seconds by name: of each call, divided by `parts`."""

    def __init__(self, quick: bool, seconds: float = SECONDS, long: float = LONG, few: int = FEW) -> None:
        self.quick = quick  # one sample of everything
        self.seconds, self.long, self.few = seconds, long, few
        self.times: dict[str, list[float]] = {}

    def __call__(self, name: str, f: Callable[[], Any], parts: float = 1) -> Any:
        started = time.perf_counter()
        result = f()
        self.times.setdefault(name, []).append((time.perf_counter() - started) / parts)
        return result

    def sample(self, name: str, f: Callable[[], Any], parts: float = 1) -> Any:
        """The time of one call again and again, after one that is not counted: it may compile."""
        result = f()
        started = time.perf_counter()
        while True:
            self(name, f, parts)
            passed, count = time.perf_counter() - started, len(self.times[name])
            if (
                self.quick
                or count >= MOST
                or (count >= SAMPLES and passed > self.seconds)
                or (count >= self.few and passed > self.long)
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
    print(json.dumps({"abilities": abilities, "measure": measure}[sys.argv[1]](given)), flush=True)
    os._exit(0)  # what frameworks do at the end takes as long as many a measurement
