"""How much arithmetic a workload asks for, and how fast this machine is at matrix products.

python benchmarks/arithmetic.py 2      the best of NumPy's and torch's products on two cores, as JSON

The time that the additions and multiplications would take at that speed is the arithmetic limit of a workload.
Only matrix products and convolutions are counted: the rest is a few percent of them in every network here. Methods
with fewer multiplications than the definition (Winograd's) could go below the limit.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from fluxion.compare import parts as w


def work(workload: w.Workload, batch: int) -> float:
    """Floating-point operations of a step, or of a forward pass where there is no training.

    The gradient costs two products for each one forward: by the weights and by the input. The first layer's is not
    needed where the inputs are data.
    """
    forward, first = _forward(workload.network, workload.shape)
    return batch * (3 * forward - first if workload.training else forward)


def _forward(network: tuple[w.Part, ...], shape: tuple[int, ...]) -> tuple[float, float]:
    """Operations for one example, and those of the products that have the data as input."""
    counts, length = [], shape[0]
    for part in network:
        count, shape = _part(part, shape)
        counts.append(count)
    match network[0]:
        case w.Dense() | w.Conv():
            return sum(counts), counts[0]
        case w.LSTM(inputs, outputs):
            return sum(counts), counts[0] * inputs / (inputs + outputs)
        case w.Block(features):
            return sum(counts), 6.0 * features**2 * length
    return sum(counts), 0.0


def _part(part: w.Part, shape: tuple[int, ...]) -> tuple[float, tuple[int, ...]]:
    """Operations and the shape of the output of one part."""
    match part:
        case w.Dense(inputs, outputs):
            positions = int(np.prod(shape[:-1]))
            return 2.0 * positions * inputs * outputs, (*shape[:-1], outputs)
        case w.Conv():
            cells = [(n + 2 * part.padding - part.kernel) // part.stride + 1 for n in shape[:2]]
            return 2.0 * part.kernel**2 * part.inputs * part.outputs * cells[0] * cells[1], (*cells, part.outputs)
        case w.MaxPool():
            return 0.0, (shape[0] // 2, shape[1] // 2, shape[2])
        case w.Flatten():
            return 0.0, (int(np.prod(shape)),)
        case w.Residual():
            one, inner = _part(part.convolutions["1"], shape)
            two, _ = _part(part.convolutions["2"], inner)
            three = _part(part.convolutions["3"], shape)[0] if "3" in part.convolutions else 0.0
            return one + two + three, inner
        case w.SpatialMean() | w.LastStep():
            return 0.0, shape[-1:]
        case w.LSTM(inputs, outputs):
            return 2.0 * shape[0] * (inputs + outputs) * 4 * outputs, (shape[0], outputs)
        case w.Embedding(_, features):
            return 0.0, (*shape, features)
        case w.Block(d):
            return 2.0 * shape[0] * 12 * d * d + 4.0 * shape[0] ** 2 * d, shape
    return 0.0, shape


SECONDS = 15.0  # of tries


def peak() -> float:
    """Operations per second in products of float32 matrices: the best of the libraries, sizes and tries."""
    products: list[Callable[[np.ndarray], Any]] = [lambda a: a @ a]
    try:
        import torch

        products.append(lambda a: torch.from_numpy(a) @ torch.from_numpy(a))
    except ImportError:
        pass
    best = 0.0
    ends = time.perf_counter() + SECONDS  # other machines on the same processor come and go
    while time.perf_counter() < ends:
        for size in (1024, 2048):
            a = np.random.default_rng(0).random((size, size), np.float32)
            for product in products:
                started = time.perf_counter()
                product(a)
                best = max(best, 2.0 * size**3 / (time.perf_counter() - started))
    return best


if __name__ == "__main__":
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[1])])
    print(json.dumps({"peak": peak()}))
