"""One measurement of one peer, in the fresh process that `harness.py` starts; the answer is the last line printed.

python benchmarks/worker.py '{"workload": "iris-b8", "module": "jax", "mode": "jit", "file": "x.npz", "threads": 2}'

A peer is a module in `peers/`, as small as the documentation of its framework would have it:

    MODES = {"train": ("eager", ...), "infer": (...)}   # the fast ones; the best of them is what counts
    def supports(workload, mode) -> bool
    def versions() -> dict[str, str]
    class Session:
        def __init__(self, workload, weights, mode): ...  # the model with these weights, and its optimizer
        def prepare(self, batches): ...    # batches as the loop below gets them; not timed
        def losses(self, prepared): ...    # a step on each; the loss before each step
        def train(self, prepared): ...     # the same, timed; returns when all is computed
        def epochs(self, x, y, count): ... # the framework's own way with arrays: new random order, whole batches only
        def evaluate(self, x, y): ...      # accuracy, in batches of 1000
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
from workloads import WORKLOADS, Workload, batches

CHECKED = 10  # first steps whose losses are compared; later ones drift apart by rounding alone
BLOCKS = 9  # blocks of the steady state; the first is not counted
EPOCH_SECONDS = 2.0  # epochs are repeated, up to five times, for so long


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    workload = WORKLOADS[spec["workload"]]
    if hasattr(os, "sched_setaffinity"):  # XLA starts as many threads as it may use cores
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: spec["threads"]])
    with np.load(spec["file"]) as arrays:  # before the clock starts
        x, y = arrays["x"], arrays["y"]
        weights = {name.removeprefix("weights/"): arrays[name] for name in arrays.files if name.startswith("weights/")}
    clock = Clock()
    peer = clock("import", lambda: importlib.import_module(f"peers.with_{spec['module']}"))
    peer.threads(spec["threads"])
    session = clock("build", lambda: peer.Session(workload, weights, spec["mode"]))
    if workload.training:
        values = _training(clock, session, workload, x, y)
    else:
        values = _inference(clock, session, workload, x)
    return {"times": clock.times, "memory": peak_memory(), "versions": peer.versions(), **values}


def _training(clock: Clock, session: Any, workload: Workload, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    checked = session.prepare(batches(x, y, workload.batch, CHECKED)[:1])
    first = clock("first", lambda: session.losses(checked))
    rest = session.losses(session.prepare(batches(x, y, workload.batch, CHECKED)[1:]))
    block = session.prepare(batches(x, y, workload.batch, workload.block))
    for _ in range(BLOCKS):
        clock("step", lambda: session.train(block), workload.block)
    steps = workload.examples // workload.batch
    arrays = x[: workload.examples], y[: workload.examples]
    session.epochs(*arrays, 1)  # this may compile
    until = time.perf_counter() + EPOCH_SECONDS
    while not clock.times.get("epoch") or (time.perf_counter() < until and len(clock.times["epoch"]) < 5):
        clock("epoch", lambda: session.epochs(*arrays, workload.epochs), steps * workload.epochs)
    clock.drop_first("step")
    values: dict[str, Any] = {"outputs": [float(v) for v in (*first, *rest)]}
    if workload.evaluation:
        arrays = x[: workload.evaluation], y[: workload.evaluation]
        for _ in range(3):
            values["accuracy"] = float(clock("evaluation", lambda: session.evaluate(*arrays)))
        clock.drop_first("evaluation")
    return values


def _inference(clock: Clock, session: Any, workload: Workload, x: np.ndarray) -> dict[str, Any]:
    inputs = session.inputs(x[: workload.batch])
    outputs = clock("first", lambda: session.forward(inputs))
    outputs = np.asarray(outputs).ravel()[:CHECKED]

    def block() -> None:
        for _ in range(workload.block):
            session.forward(inputs)

    for _ in range(BLOCKS):
        clock("step", block, workload.block)
    clock.drop_first("step")
    return {"outputs": outputs.tolist()}


class Clock:
    """Seconds by name: of each call, divided by `parts`."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {}

    def __call__(self, name: str, f: Callable[[], Any], parts: int = 1) -> Any:
        started = time.perf_counter()
        result = f()
        self.times.setdefault(name, []).append((time.perf_counter() - started) / parts)
        return result

    def drop_first(self, name: str) -> None:
        self.times[name] = self.times[name][1:]


def peak_memory() -> int:
    """Bytes. The kernel's own mark where there is one: ru_maxrss begins with what the parent process had."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
