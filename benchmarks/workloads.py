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
from dataclasses import dataclass, replace
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
    """A square kernel."""

    kernel: int
    inputs: int
    outputs: int
    activation: str = ""
    same: bool = False  # zeros around: half a kernel on each side
    stride: int = 1
    bias: bool = True

    @property
    def padding(self) -> int:
        return self.kernel // 2 if self.same else 0

    def shapes(self) -> dict[str, tuple[int, ...]]:
        weight = {"weight": (self.kernel, self.kernel, self.inputs, self.outputs)}
        return weight | ({"bias": (self.outputs,)} if self.bias else {})


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
class Residual:
    """`relu(norm2(conv2(relu(norm1(conv1(x))))) + shortcut(x))`: 3 by 3, the first with a stride; BatchNorm as above.

    The shortcut is x itself where the shape stays, else `norm3(conv3(x))`, 1 by 1 with that stride.
    """

    inputs: int
    outputs: int
    stride: int = 1

    @property
    def convolutions(self) -> dict[str, Conv]:
        """By the number in their names."""
        found = {
            "1": Conv(3, self.inputs, self.outputs, same=True, stride=self.stride, bias=False),
            "2": Conv(3, self.outputs, self.outputs, same=True, bias=False),
        }
        if self.inputs != self.outputs or self.stride != 1:
            found["3"] = Conv(1, self.inputs, self.outputs, stride=self.stride, bias=False)
        return found

    def shapes(self) -> dict[str, tuple[int, ...]]:
        sizes: dict[str, tuple[int, ...]] = {}
        for i, conv in self.convolutions.items():
            sizes[f"conv{i}.weight"] = conv.shapes()["weight"]
            sizes |= {f"norm{i}.scale": (self.outputs,), f"norm{i}.bias": (self.outputs,)}
        return sizes


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
    """A row for each token."""

    vocabulary: int
    features: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"weight": (self.vocabulary, self.features)}


@dataclass(frozen=True)
class Positions:
    """Plus a row for each position."""

    length: int
    features: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"weight": (self.length, self.features)}


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


Part = (
    Dense | Conv | MaxPool | Flatten | BatchNorm | Residual | SpatialMean
    | LSTM | LastStep | Embedding | Positions | LayerNorm | Block
)  # fmt: skip


@dataclass(frozen=True)
class Workload:
    """One row of the scoreboard. Loss: mean cross entropy of the logits."""

    name: str
    title: str
    network: tuple[Part, ...]
    shape: tuple[int, ...]  # of one example
    batch: int
    kind: str = "train"  # or "infer": one forward pass per call; "start": until the first step is made
    data: str = "random"
    classes: int = 10
    examples: int = 256  # in one epoch
    epochs: int = 1  # that one sample of the time of an epoch is the mean of
    block: int = 1  # steps in one sample of the time on prebuilt batches
    checked: int = 10  # first steps whose losses are compared; later ones drift apart by rounding alone
    tolerance: float = 1e-4  # relative: how far these losses, or the outputs, may be from one another
    optimizer: str = "adam"  # Adam(0.001, betas 0.9 and 0.999, eps 1e-8) or momentum: SGD(0.01, momentum 0.9)
    evaluation: int = 0  # examples to evaluate at the end, in batches of 1000
    goal: float | None = None  # what issue 4 asks of the ratio
    against: str = ""  # the peer that the goal names; otherwise the best one
    cache: str = ""  # of compiled programs, for a start: "cold" is an empty folder, "warm" one filled by the same start

    @property
    def training(self) -> bool:
        return self.kind != "infer"

    @property
    def has_convolution(self) -> bool:
        return any(isinstance(part, Conv | Residual) for part in self.network)

    @property
    def has_batchnorm(self) -> bool:
        return any(isinstance(part, BatchNorm | Residual) for part in self.network)

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
                elif isinstance(part, Embedding | Positions):
                    array = random.normal(0, 0.02, shape)
                else:
                    limit = math.sqrt(6 / (math.prod(shape[:-2]) * (shape[-2] + shape[-1])))
                    array = random.uniform(-limit, limit, shape)
                arrays[f"{i}.{name}"] = array.astype(np.float32)
        return arrays


def _mlp(*sizes: int) -> tuple[Part, ...]:
    hidden = [Dense(a, b, "relu") for a, b in itertools.pairwise(sizes[:-1])]
    return (*hidden, Dense(sizes[-2], sizes[-1]))


def _lenet() -> tuple[Part, ...]:
    convolutions = (Conv(5, 1, 20, "relu"), MaxPool(), Conv(5, 20, 50, "relu"), MaxPool(), Flatten((4, 4, 50)))
    return (*convolutions, Dense(800, 500, "relu"), Dense(500, 10))


def _cnn() -> tuple[Part, ...]:
    convolutions = (Conv(3, 1, 32, "relu"), Conv(3, 32, 64, "relu"), MaxPool(), Flatten((12, 12, 64)))
    return (*convolutions, Dense(9216, 128, "relu"), Dense(128, 10))


def _blitz() -> tuple[Part, ...]:
    convolutions = (Conv(5, 3, 16, "relu"), MaxPool(), Conv(5, 16, 8, "relu"), MaxPool(), Flatten((5, 5, 8)))
    return (*convolutions, Dense(200, 120), Dense(120, 84), Dense(84, 10))


def _normed() -> tuple[Part, ...]:
    return (Conv(3, 32, 64, same=True), BatchNorm(64), SpatialMean(), Dense(64, 10))


def _resnet18() -> tuple[Part, ...]:
    blocks = [Residual(64, 64), Residual(64, 64)]
    for width in (128, 256, 512):
        blocks += [Residual(width // 2, width, stride=2), Residual(width, width)]
    return (Conv(3, 3, 64, same=True, bias=False), BatchNorm(64), *blocks, SpatialMean(), Dense(512, 10))


def _gpt(vocabulary: int, length: int, width: int, depth: int) -> tuple[Part, ...]:
    blocks = [Block(width, 4, causal=True) for _ in range(depth)]
    ends = (LayerNorm(width), Dense(width, vocabulary))
    return (Embedding(vocabulary, width), Positions(length, width), *blocks, *ends)


def _workloads() -> list[Workload]:
    iris = {"network": _mlp(4, 10, 3), "shape": (4,), "data": "iris", "classes": 3, "examples": 150, "epochs": 100}
    fashion = {"shape": (784,), "data": "fashion_mnist", "examples": 60000, "block": 50, "evaluation": 10000}
    images = {"shape": (28, 28, 1), "data": "fashion_mnist", "evaluation": 10000}
    pictures = {"shape": (32, 32, 3), "data": "cifar10", "optimizer": "momentum"}
    shakespeare = {"data": "tinyshakespeare", "classes": 65}
    middle = _mlp(784, 128, 10)
    lstm, block = (
        (LSTM(128, 128), LastStep(), Dense(128, 10)),
        (Block(128, 4, causal=False), LastStep(), Dense(128, 10)),
    )
    char_lstm = (Embedding(65, 32), LSTM(32, 128), LSTM(128, 128), Dense(128, 65))
    train = [
        *(Workload(f"iris-b{b}", f"Iris 4-10-3, batch {b}, 100 epochs", batch=b, block=100, goal=0.2, **iris)
          for b in (8, 15, 32)),
        Workload("mlp-small", "MLP 784-32-10, batch 32 (loop overhead)", _mlp(784, 32, 10), batch=32, goal=1.3,
                 against="jax", **fashion),
        *(Workload(f"mlp-b{b}", f"MLP 784-128-10, batch {b}", middle, batch=b, goal=0.8, **fashion)
          for b in (64, 128)),
        # Adam divides by roots of small squares: torch leaves JAX by 5e-4 at the tenth step, by 4e-5 up to the ninth.
        Workload("mlp-large", "MLP 784-512-512-10, batch 128", _mlp(784, 512, 512, 10), batch=128, goal=0.8,
                 tolerance=1e-3, **{**fashion, "examples": 12800}),
        Workload("lenet", "LeNet 20-50, 5x5, batch 128", _lenet(), batch=128, examples=3840, block=10, goal=0.85,
                 **images),
        Workload("cnn", "Conv3 32, Conv3 64, pool, dense 128, batch 128", _cnn(), batch=128, examples=1280, block=4,
                 goal=0.9, **images),
        Workload("cifar-b128", "CIFAR blitz, batch 128", _blitz(), batch=128, examples=3840, block=10, goal=0.7,
                 evaluation=10000, **pictures),
        Workload("cifar-b1000", "CIFAR blitz, batch 1000", _blitz(), batch=1000, examples=5000, block=2, goal=0.6,
                 **pictures),
        *(Workload(f"conv-bn-{n}", f"Conv3 32-64, BatchNorm, relu, {n}x{n}, batch 64", _normed(), (n, n, 32),
                   batch=64, examples=10240 // n * 16 // n, block=2048 // n // n, goal=0.95) for n in (16, 32)),
        # BatchNorm on barely different pixels blows up rounding: torch's own two modes are 6e-4 apart after a step.
        Workload("resnet18", "ResNet-18, 32x32, batch 32", _resnet18(), batch=32, examples=64, checked=2,
                 tolerance=2e-3, goal=0.95, **pictures),
        Workload("lstm", "LSTM 128, 50 steps, batch 64", lstm, (50, 128), batch=64, examples=1920, block=10, goal=0.9),
        Workload("char-lstm", "Characters, 2 LSTM of 128, 64 steps, batch 16", char_lstm, (64,), batch=16,
                 examples=480, block=10, goal=0.9, **shakespeare),
        Workload("transformer", "Transformer block 128, 4 heads, 64 tokens, batch 32", block, (64, 128), batch=32,
                 examples=640, block=10, goal=0.9),
        Workload("gpt", "Characters, GPT 64 wide, 4 blocks, 128 characters, batch 8", _gpt(65, 128, 64, 4), (128,),
                 batch=8, examples=240, block=10, goal=0.9, **shakespeare),
    ]  # fmt: skip
    rows = {workload.name: workload for workload in train}
    titles = {
        "mlp-b128": "MLP 784-128-10", "lenet": "LeNet", "cnn": "Conv3 32, Conv3 64", "cifar-b128": "CIFAR blitz",
        "conv-bn-16": "Conv3 32-64, BatchNorm, 16x16", "resnet18": "ResNet-18", "lstm": "LSTM 128, 50 steps",
        "char-lstm": "Characters, 2 LSTM", "transformer": "Transformer block", "gpt": "Characters, GPT",
    }  # fmt: skip
    infer = [
        replace(rows[name], name=f"{name.removesuffix('-b128')}-infer", title=title, kind="infer", batch=BATCHES[-1],
                examples=BATCHES[-1], evaluation=0, goal=0.9)
        for name, title in titles.items()
    ]  # fmt: skip
    start = [
        replace(rows["lenet"], name=f"start-{cache}", title=f"LeNet, {cache} cache", kind="start", cache=cache,
                examples=128, evaluation=0, goal=goal, against="torch")
        for cache, goal in (("cold", 2.5), ("warm", 1.0))
    ]  # fmt: skip
    tiny = Workload("tiny", "MLP 6-5-3, batch 4 (for the tests)", _mlp(6, 5, 3), (6,), batch=4, classes=3, examples=24,
                    block=3, evaluation=10)  # fmt: skip
    tests = [tiny, replace(tiny, name="tiny-infer", kind="infer")]
    return [*train, *infer, *start, *tests]


BATCHES = (1, 256)  # of the rows of inference
WORKLOADS = {workload.name: workload for workload in _workloads()}
TESTS = ("tiny", "tiny-infer")

# What the less common peers are run on, and all peers with the tuned allocator, unless all is asked for.
SAMPLE = (
    "iris-b15",
    "mlp-b128",
    "lenet",
    "cifar-b128",
    "lstm",
    "transformer",
    "lenet-infer",
    "start-cold",
    "start-warm",
)
CONVOLUTIONS = ("cnn", "cifar-b1000", "conv-bn-32", "resnet18", "resnet18-infer")  # for TensorFlow too, strong there


# ------------------------------------------------------------------------------------------------- data


def prepare(workload: Workload, folder: Path) -> dict[str, str]:
    """Write data and weights of a workload to `folder`, unless they are there; the file, and what kind of data."""
    folder.mkdir(parents=True, exist_ok=True)
    kind = "real" if _is_real(workload) else "synthetic"
    described = hashlib.sha256(repr(workload).encode()).hexdigest()[:8]
    file = folder / f"{workload.name}-{kind}-{described}.npz"
    if not file.exists():
        x, y = _examples(workload)
        arrays = {f"weights/{name}": array for name, array in workload.weights().items()}
        partial = file.with_suffix(".partial.npz")
        np.savez(partial, x=x, y=y, **arrays)  # type: ignore[arg-type]
        partial.replace(file)
    return {"file": str(file), "data": kind}


def _is_real(workload: Workload) -> bool:
    return workload.data == "iris" or (workload.data != "random" and "FLUXION_DATA" in os.environ)


def _examples(workload: Workload) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and labels, as many as an epoch or an evaluation needs."""
    count = max(workload.examples, workload.evaluation)
    if not _is_real(workload):
        return _synthetic(workload, count)
    from fluxion.data import Characters, datasets

    if workload.data == "iris":
        x, y = datasets.iris()
    elif workload.data == "tinyshakespeare":
        text = datasets.tinyshakespeare()
        x, y = Characters(text).windows(text, *workload.shape)
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
