"""The list of workloads, each described once, in words that belong to no framework.

A network is a tuple of parts (`Dense(784, 128, "relu")`, ...); a peer builds it in its own idiom and takes its weights
from `weights()`, named after the place of the part: `0.weight`, `0.bias`. Arrays are channels last: `Dense.weight` is
(in, out), `Conv.weight` (height, width, in, out), `LSTM.weight` (in, 4 out) with the gates input, forget, cell, output.

Only NumPy is imported, because every peer's interpreter reads this file.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Dense:
    inputs: int
    outputs: int
    activation: str = ""  # "relu" or nothing

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"weight": (self.inputs, self.outputs), "bias": (self.outputs,)}


@dataclass(frozen=True)
class Conv:
    """A square kernel, stride 1."""

    kernel: int
    inputs: int
    outputs: int
    activation: str = ""
    same: bool = False  # as many windows as cells, by padding with zeros

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"weight": (self.kernel, self.kernel, self.inputs, self.outputs), "bias": (self.outputs,)}


@dataclass(frozen=True)
class MaxPool:
    """Windows of 2 by 2, side by side; a row or column left over is dropped."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {}


@dataclass(frozen=True)
class Flatten:
    """Rows of numbers, channels fastest; the shape is that of one example, for frameworks with another order."""

    shape: tuple[int, int, int]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {}


@dataclass(frozen=True)
class BatchNorm:
    """Statistics of the batch in training, momentum 0.1 for the running ones, eps 1e-5; then relu."""

    channels: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"scale": (self.channels,), "bias": (self.channels,)}


@dataclass(frozen=True)
class SpatialMean:
    """The mean of each channel over all cells: (batch, channels)."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {}


@dataclass(frozen=True)
class LSTM:
    """All outputs, (batch, time, outputs); one bias."""

    inputs: int
    outputs: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        gates = 4 * self.outputs
        return {"weight": (self.inputs, gates), "recurrent_weight": (self.outputs, gates), "bias": (gates,)}


@dataclass(frozen=True)
class LastStep:
    """(batch, time, features) to (batch, features)."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {}


@dataclass(frozen=True)
class Embedding:
    """A row for each token plus a row for each position."""

    vocabulary: int
    length: int
    features: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"token": (self.vocabulary, self.features), "position": (self.length, self.features)}


@dataclass(frozen=True)
class LayerNorm:
    """eps 1e-5."""

    features: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"scale": (self.features,), "bias": (self.features,)}


@dataclass(frozen=True)
class Block:
    """`x + attention(norm(x))`, `x + feed(norm(x))`, where feed is Dense(d, 4 d), gelu (of tanh), Dense(4 d, d)."""

    features: int
    heads: int
    causal: bool

    def shapes(self) -> dict[str, tuple[int, ...]]:
        d = self.features
        sizes: dict[str, tuple[int, ...]] = {"norm1.scale": (d,), "norm1.bias": (d,)}
        for name in ("query", "key", "value", "out"):
            sizes |= {f"{name}.weight": (d, d), f"{name}.bias": (d,)}
        sizes |= {"norm2.scale": (d,), "norm2.bias": (d,)}
        sizes |= {"up.weight": (d, 4 * d), "up.bias": (4 * d,), "down.weight": (4 * d, d), "down.bias": (d,)}
        return sizes


Part = Dense | Conv | MaxPool | Flatten | BatchNorm | SpatialMean | LSTM | LastStep | Embedding | LayerNorm | Block


@dataclass(frozen=True)
class Workload:
    """One row of the scoreboard. Loss: mean cross entropy of the logits."""

    name: str
    title: str
    network: tuple[Part, ...]
    shape: tuple[int, ...]  # of one example
    batch: int
    data: str = "random"
    classes: int = 10
    examples: int = 12800  # in one epoch
    epochs: int = 1  # that the time of an epoch is the mean of
    block: int = 20  # steps in a block of the steady state
    optimizer: str = "adam"  # Adam(0.001, betas 0.9 and 0.999, eps 1e-8) or momentum: SGD(0.01, momentum 0.9)
    training: bool = True  # or one forward pass per step
    evaluation: int = 0  # examples to evaluate at the end, in batches of 1000
    measure: str = "step"  # what the ratio is taken of: "step", with prebuilt batches, or "epoch", with shuffled arrays
    goal: float | None = None  # what issue 4 asks of that ratio
    against: str = ""  # the peer that the goal names; otherwise the best one

    @property
    def unit(self) -> str:
        """What the times of a step are times of."""
        if not self.training:
            return "call"
        return "step, prebuilt batches" if self.measure == "step" else "step, whole epochs"

    def weights(self) -> dict[str, np.ndarray]:
        """The first weights: Glorot uniform, rows of an embedding 0.02 normal, scales 1, biases 0."""
        random = np.random.default_rng(0)
        arrays: dict[str, np.ndarray] = {}
        for i, part in enumerate(self.network):
            for name, shape in part.shapes().items():
                if name.endswith("bias"):
                    array = np.zeros(shape)
                elif name.endswith("scale"):
                    array = np.ones(shape)
                elif isinstance(part, Embedding):
                    array = random.normal(0, 0.02, shape)
                else:
                    limit = math.sqrt(6 / (math.prod(shape[:-2]) * (shape[-2] + shape[-1])))
                    array = random.uniform(-limit, limit, shape)
                arrays[f"{i}.{name}"] = array.astype(np.float32)
        return arrays


def _lenet() -> tuple[Part, ...]:
    return (
        Conv(5, 1, 20, "relu"),
        MaxPool(),
        Conv(5, 20, 50, "relu"),
        MaxPool(),
        Flatten((4, 4, 50)),
        Dense(800, 500, "relu"),
        Dense(500, 10),
    )


def _blitz() -> tuple[Part, ...]:
    convolutions = (Conv(5, 3, 16, "relu"), MaxPool(), Conv(5, 16, 8, "relu"), MaxPool(), Flatten((5, 5, 8)))
    return (*convolutions, Dense(200, 120), Dense(120, 84), Dense(84, 10))


def _mlp(*sizes: int) -> tuple[Part, ...]:
    hidden = [Dense(a, b, "relu") for a, b in itertools.pairwise(sizes[:-1])]
    return (*hidden, Dense(sizes[-2], sizes[-1]))


def _normed(cells: int) -> tuple[Part, ...]:
    return (Conv(3, 32, 64, same=True), BatchNorm(64), SpatialMean(), Dense(64, 10))


def _gpt(vocabulary: int, length: int, width: int, depth: int) -> tuple[Part, ...]:
    blocks = [Block(width, 4, causal=True) for _ in range(depth)]
    return (Embedding(vocabulary, length, width), *blocks, LayerNorm(width), Dense(width, vocabulary))


def _workloads() -> list[Workload]:
    iris = {"network": _mlp(4, 10, 3), "shape": (4,), "data": "iris", "classes": 3, "examples": 150, "epochs": 100}
    digits = {"shape": (784,), "data": "fashion_mnist", "evaluation": 10000}
    images = {"shape": (28, 28, 1), "data": "fashion_mnist", "evaluation": 10000}
    pictures = {"shape": (32, 32, 3), "data": "cifar10", "optimizer": "momentum", "evaluation": 10000}
    small, middle, large = _mlp(784, 32, 10), _mlp(784, 128, 10), _mlp(784, 512, 512, 10)
    cnn = (Conv(3, 1, 32, "relu"), Conv(3, 32, 64, "relu"), MaxPool(), Flatten((12, 12, 64)))
    return [
        *(Workload(f"iris-b{b}", f"Iris 4-10-3, batch {b}, 100 epochs", batch=b, block=100, measure="epoch", goal=0.2,
                   **iris) for b in (8, 15, 32)),
        Workload("mlp-small", "MLP 784-32-10, batch 32 (loop overhead)", small, batch=32, examples=60000, block=300,
                 goal=1.3, against="jax", **digits),
        *(Workload(f"mlp-b{b}", f"MLP 784-128-10, batch {b}, epochs", middle, batch=b, examples=60000, block=200,
                   measure="epoch", goal=0.8, **digits) for b in (64, 128)),
        Workload("mlp-large", "MLP 784-512-512-10, batch 128, epochs", large, batch=128, examples=60000, block=50,
                 measure="epoch", goal=0.8, **digits),
        Workload("lenet", "LeNet 20-50, 5x5, batch 128", _lenet(), batch=128, goal=0.85, **images),
        Workload("cnn", "Conv3 32, Conv3 64, pool, dense 128, batch 128", (*cnn, Dense(9216, 128, "relu"),
                 Dense(128, 10)), batch=128, block=5, goal=0.9, **{**images, "examples": 2560, "evaluation": 0}),
        Workload("cifar-b128", "CIFAR blitz, batch 128", _blitz(), batch=128, goal=0.7, **pictures),
        Workload("cifar-b1000", "CIFAR blitz, batch 1000", _blitz(), batch=1000, block=5, goal=0.6, **pictures),
        *(Workload(f"conv-bn-{n}", f"Conv3 32-64, BatchNorm, relu, {n}x{n}, batch 64", _normed(n), (n, n, 32),
                   batch=64, examples=1280 // (n // 16) ** 2, block=160 // n, goal=0.95) for n in (16, 32)),
        Workload("lstm", "LSTM 128, 50 steps, batch 64", (LSTM(128, 128), LastStep(), Dense(128, 10)), (50, 128),
                 batch=64, examples=2560, goal=0.9),
        Workload("transformer", "Transformer block 128, 4 heads, 64 tokens, batch 32", (Block(128, 4, causal=False),
                 LastStep(), Dense(128, 10)), (64, 128), batch=32, examples=1280, block=10, goal=0.9),
        Workload("gpt", "GPT 64 wide, 4 blocks, 128 characters, batch 8", _gpt(65, 128, 64, 4), (128,), batch=8,
                 data="tinyshakespeare", classes=65, examples=320, block=10, goal=0.9),
        *(Workload(f"{name}-infer-b{b}", f"{title} inference, batch {b}", network, shape, batch=b, data="fashion_mnist",
                   block=200 if b == 1 else 20, training=False, goal=0.9)
          for name, title, network, shape in (("mlp", "MLP 784-128-10", middle, (784,)),
                                              ("lenet", "LeNet", _lenet(), (28, 28, 1))) for b in (1, 256)),
        Workload("tiny", "MLP 6-5-3, batch 4 (for the tests)", _mlp(6, 5, 3), (6,), batch=4, classes=3, examples=24,
                 block=3, evaluation=10),
    ]  # fmt: skip


WORKLOADS = {workload.name: workload for workload in _workloads()}


# ------------------------------------------------------------------------------------------------- data


def prepare(workload: Workload, folder: Path) -> dict[str, str]:
    """Write data and weights of a workload to `folder`, unless they are there; what they are, and their hash."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{workload.name}.npz"
    mark = folder / f"{workload.name}.{'real' if _is_real(workload) else 'synthetic'}"
    if not (file.exists() and mark.exists()):
        x, y = _examples(workload)
        arrays = {f"weights/{name}": array for name, array in workload.weights().items()}
        partial = file.with_suffix(".partial.npz")
        np.savez(partial, x=x, y=y, **arrays)  # type: ignore[arg-type]
        partial.replace(file)
        mark.touch()
    return {"file": str(file), "data": mark.suffix[1:], "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}


def _is_real(workload: Workload) -> bool:
    return workload.data == "iris" or (workload.data != "random" and "FLUXION_DATA" in os.environ)


def _examples(workload: Workload) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and labels, as many as an epoch or an evaluation needs."""
    count = max(workload.examples, workload.evaluation)
    if not _is_real(workload):
        return _synthetic(workload, count)
    from fluxion.data import datasets

    if workload.data == "iris":
        x, y = datasets.iris()
    elif workload.data == "tinyshakespeare":
        text = datasets.tinyshakespeare()
        codes = np.unique(list(text), return_inverse=True)[1].astype(np.int32)
        (length,) = workload.shape
        pieces = np.lib.stride_tricks.sliding_window_view(codes, length + 1)[::length]
        x, y = pieces[:, :-1], pieces[:, 1:]
    else:
        x, y = getattr(datasets, workload.data)()
    order = np.random.default_rng(1).permutation(len(x))[:count]
    return np.ascontiguousarray(x[order].reshape(-1, *workload.shape)), np.ascontiguousarray(y[order].astype(np.int32))


def _synthetic(workload: Workload, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Random arrays of the right shape; a class is a direction, so that there is something to learn."""
    random = np.random.default_rng(1)
    if workload.data == "tinyshakespeare":
        x = random.integers(0, workload.classes, (count, *workload.shape), dtype=np.int32)
        return x, np.roll(x, -1, axis=1)
    y = random.integers(0, workload.classes, count, dtype=np.int32)
    x = random.random((count, *workload.shape), dtype=np.float32)
    directions = random.random((workload.classes, *workload.shape), dtype=np.float32)
    return (x + directions[y]) / 2, y


def batches(x: np.ndarray, y: np.ndarray, size: int, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The first `count` batches of `size`, in the order of the data, starting anew where they end: the same for all."""
    whole = max(len(x) // size, 1)
    starts = [i % whole * size for i in range(count)]
    return [(x[s : s + size], y[s : s + size]) for s in starts]
