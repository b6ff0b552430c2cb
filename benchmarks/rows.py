"""The rows of the scoreboard, each described once in the words of `fluxion.compare.parts`, and their data."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fluxion.compare import parts as w
from fluxion.compare.worker import BATCHES


@dataclass(frozen=True)
class Row(w.Workload):
    """A workload of the scoreboard. Adam has betas 0.9 and 0.999 and eps 1e-8."""

    data: str = "random"
    tolerance: float = 1e-4  # relative: how far the losses, or the outputs, may be from one another
    goal: float | None = None  # what the ratio is to be
    against: str = ""  # the peer that the goal names; otherwise the best one
    cache: str = ""  # of compiled programs, for a start: "cold" is an empty folder, "warm" one filled by the same start


def _cnn() -> tuple[w.Part, ...]:
    convolutions = (w.Conv(3, 1, 32, "relu"), w.Conv(3, 32, 64, "relu"), w.MaxPool(), w.Flatten((12, 12, 64)))
    return (*convolutions, w.Dense(9216, 128, "relu"), w.Dense(128, 10))


def _normed() -> tuple[w.Part, ...]:
    return (w.Conv(3, 32, 64, same=True), w.BatchNorm(64), w.SpatialMean(), w.Dense(64, 10))


def _resnet18() -> tuple[w.Part, ...]:
    blocks = [w.Residual(64, 64), w.Residual(64, 64)]
    for width in (128, 256, 512):
        blocks += [w.Residual(width // 2, width, stride=2), w.Residual(width, width)]
    return (w.Conv(3, 3, 64, same=True, bias=False), w.BatchNorm(64), *blocks, w.SpatialMean(), w.Dense(512, 10))


def _gpt(vocabulary: int, length: int, width: int, depth: int) -> tuple[w.Part, ...]:
    blocks = [w.Block(width, 4, causal=True) for _ in range(depth)]
    ends = (w.LayerNorm(width), w.Dense(width, vocabulary))
    return (w.Embedding(vocabulary, width), w.Positions(length, width), *blocks, *ends)


def _rows() -> list[Row]:
    iris = {"network": w.mlp(4, 10, 3), "shape": (4,), "data": "iris", "classes": 3, "examples": 150, "epochs": 100}
    fashion = {"shape": (784,), "data": "fashion_mnist", "examples": 60000, "block": 50, "evaluation": 10000}
    images = {"shape": (28, 28, 1), "data": "fashion_mnist", "evaluation": 10000}
    pictures = {"shape": (32, 32, 3), "data": "cifar10", "optimizer": w.Momentum(0.01, 0.9)}
    shakespeare = {"data": "tinyshakespeare", "classes": 65}
    middle = w.mlp(784, 128, 10)
    lstm, block = (
        (w.LSTM(128, 128), w.LastStep(), w.Dense(128, 10)),
        (w.Block(128, 4, causal=False), w.LastStep(), w.Dense(128, 10)),
    )
    char_lstm = (w.Embedding(65, 32), w.LSTM(32, 128), w.LSTM(128, 128), w.Dense(128, 65))
    train = [
        *(Row(f"iris-b{b}", f"Iris 4-10-3, batch {b}, 100 epochs", batch=b, block=100, goal=0.2, **iris)
          for b in (8, 15, 32)),
        Row("mlp-small", "MLP 784-32-10, batch 32 (loop overhead)", w.mlp(784, 32, 10), batch=32, goal=1.3,
                 against="jax", **fashion),
        *(Row(f"mlp-b{b}", f"MLP 784-128-10, batch {b}", middle, batch=b, goal=0.8, **fashion)
          for b in (64, 128)),
        # Adam divides by roots of small squares: torch leaves JAX by 5e-4 at the tenth step, by 4e-5 up to the ninth.
        Row("mlp-large", "MLP 784-512-512-10, batch 128", w.mlp(784, 512, 512, 10), batch=128, goal=0.8,
                 tolerance=1e-3, **{**fashion, "examples": 12800}),
        Row("lenet", "LeNet 20-50, 5x5, batch 128", w.lenet(), batch=128, examples=3840, block=10, goal=0.85,
                 **images),
        Row("cnn", "Conv3 32, Conv3 64, pool, dense 128, batch 128", _cnn(), batch=128, examples=1280, block=4,
                 goal=0.9, **images),
        Row("cifar-b128", "CIFAR blitz, batch 128", w.blitz(), batch=128, examples=3840, block=10, goal=0.7,
                 evaluation=10000, **pictures),
        Row("cifar-b1000", "CIFAR blitz, batch 1000", w.blitz(), batch=1000, examples=5000, block=2, goal=0.6,
                 **pictures),
        *(Row(f"conv-bn-{n}", f"Conv3 32-64, BatchNorm, relu, {n}x{n}, batch 64", _normed(), (n, n, 32),
                   batch=64, examples=10240 // n * 16 // n, block=2048 // n // n, goal=0.95) for n in (16, 32)),
        # BatchNorm on barely different pixels blows up rounding: torch's own two modes are 6e-4 apart after a step.
        Row("resnet18", "ResNet-18, 32x32, batch 32", _resnet18(), batch=32, examples=64, checked=2,
                 tolerance=2e-3, goal=0.95, **pictures),
        Row("lstm", "LSTM 128, 50 steps, batch 64", lstm, (50, 128), batch=64, examples=1920, block=10, goal=0.9),
        Row("char-lstm", "Characters, 2 LSTM of 128, 64 steps, batch 16", char_lstm, (64,), batch=16,
                 examples=480, block=10, goal=0.9, **shakespeare),
        Row("transformer", "Transformer block 128, 4 heads, 64 tokens, batch 32", block, (64, 128), batch=32,
                 examples=640, block=10, goal=0.9),
        Row("gpt", "Characters, GPT 64 wide, 4 blocks, 128 characters, batch 8", _gpt(65, 128, 64, 4), (128,),
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
    tiny = Row("tiny", "MLP 6-5-3, batch 4 (for the tests)", w.mlp(6, 5, 3), (6,), batch=4, classes=3, examples=24,
                    block=3, evaluation=10)  # fmt: skip
    tests = [tiny, replace(tiny, name="tiny-infer", kind="infer")]
    return [*train, *infer, *start, *tests]


WORKLOADS = {workload.name: workload for workload in _rows()}
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


def prepare(workload: Row, folder: Path) -> dict[str, str]:
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


def _is_real(workload: Row) -> bool:
    return workload.data == "iris" or (workload.data != "random" and "FLUXION_DATA" in os.environ)


def _examples(workload: Row) -> tuple[np.ndarray, np.ndarray]:
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


def _synthetic(workload: Row, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Random arrays of the right shape; a class is a direction, so that there is something to learn."""
    random = np.random.default_rng(1)
    if workload.data == "tinyshakespeare":
        x = random.integers(0, workload.classes, (count, *workload.shape), dtype=np.int32)
        return x, np.roll(x, -1, axis=1)
    y = random.integers(0, workload.classes, count, dtype=np.int32)
    x = random.random((count, *workload.shape), dtype=np.float32)
    directions = random.random((workload.classes, *workload.shape), dtype=np.float32)
    return (x + directions[y]) / 2, y
