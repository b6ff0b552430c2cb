"""A network, an optimizer and a loss in words that belong to no framework, and the first weights.

A network is a tuple of parts (`Dense(784, 128, "relu")`, ...); an adapter builds it in its framework's own idiom and
takes its weights from `Workload.weights()`, named after the place of the part: `0.weight`, `0.bias`. Arrays are
channels last: `Dense.weight` is (in, out), `Conv.weight` (height, width, in, out), `LSTM.weight` (in, 4 out) with the
gates input, forget, cell, output.

Every framework's interpreter reads this file: it imports the standard library and NumPy only, and needs no more than
Python 3.10.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, dataclass, fields
from typing import Any, get_args

import numpy as np

# ----------------------------------------------------------------------------------------------- parts


@dataclass(frozen=True)
class Dense:
    inputs: int
    outputs: int
    activation: str = ""  # "relu", "tanh" or nothing

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
class Dropout:
    """In training: zeros with probability `rate`, the others divided by 1 - rate; drawn by the framework itself."""

    rate: float

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
    Dense | Conv | MaxPool | Dropout | Flatten | BatchNorm | Residual | SpatialMean
    | LSTM | LastStep | Embedding | Positions | LayerNorm | Block
)  # fmt: skip
PARTS = {part.__name__: part for part in get_args(Part)}

# ------------------------------------------------------------------------------------------ optimizers


@dataclass(frozen=True)
class Adam:
    """`m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g^2`, `w -= rate m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)`."""

    rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8


@dataclass(frozen=True)
class Momentum:
    """`v = rho v + g`, `w -= rate v`."""

    rate: float = 0.01
    rho: float = 0.9


@dataclass(frozen=True)
class SGD:
    """`w -= rate g`."""

    rate: float = 0.01


Optimizer = Adam | Momentum | SGD
OPTIMIZERS = {rule.__name__: rule for rule in get_args(Optimizer)}

# -------------------------------------------------------------------------------------------- workload

LOSSES = {
    "cross entropy": "mean of -log softmax(outputs)[label] over the batch and, of a text, its steps",
    "cross entropy of softmax": "the same, of softmax(outputs) instead of the outputs: softmax applied twice",
    "squared error of softmax": "mean of (softmax(outputs) - one-hot label)^2 over the batch and the classes",
}


@dataclass(frozen=True)
class Workload:
    """What one process does with one framework; an adapter reads the first fields, `worker.py` the others."""

    name: str
    title: str
    network: tuple[Part, ...]
    shape: tuple[int, ...]  # of one example
    batch: int
    classes: int = 10
    optimizer: Optimizer = Adam()
    loss: str = "cross entropy"  # of LOSSES
    penalty: float = 0.0  # times the sum of all squared weights (not biases), added to the loss
    restart: bool = False  # the optimizer forgets its state at the beginning of each epoch
    init: str = "glorot"  # of INITIAL
    kind: str = "train"  # or "infer": one forward pass per call; "start": until the first step is made; "compare"
    examples: int = 256  # in one epoch
    epochs: int = 1
    block: int = 1  # steps in one sample of the time on prebuilt batches
    checked: int = 10  # first steps whose losses are compared; later ones drift apart by rounding alone
    evaluation: int = 0  # examples to evaluate at the end, in batches of 1000

    @property
    def training(self) -> bool:
        return self.kind != "infer"

    @property
    def has_convolution(self) -> bool:
        return any(isinstance(part, Conv | Residual) for part in self.network)

    @property
    def has_batchnorm(self) -> bool:
        return any(isinstance(part, BatchNorm | Residual) for part in self.network)

    def weights(self, seed: int = 0) -> dict[str, np.ndarray]:
        """The first weights: as `init` says; rows of an embedding 0.02 normal, scales 1, biases 0 unless it says so."""
        random = np.random.default_rng(seed)
        arrays: dict[str, np.ndarray] = {}
        for i, part in enumerate(self.network):
            shapes = part.shapes()
            for name, shape in shapes.items():
                if name.endswith("scale"):
                    array = np.ones(shape)
                elif isinstance(part, Embedding | Positions):
                    array = random.normal(0, 0.02, shape)
                else:
                    kernel = shapes.get(name.replace("bias", "weight"), shape)
                    array = INITIAL[self.init](random, shape, kernel)
                arrays[f"{i}.{name}"] = array.astype(np.float32)
        return arrays

    @property
    def parameters(self) -> int:
        return sum(math.prod(shape) for part in self.network for shape in part.shapes().values())


def _uniform(gain: float) -> Any:
    """Uniform within sqrt(gain / (inputs + outputs)), biases 0; inputs are cells of the kernel times channels."""

    def draw(random: np.random.Generator, shape: tuple[int, ...], kernel: tuple[int, ...]) -> np.ndarray:
        if len(shape) < 2:
            return np.zeros(shape)
        limit = math.sqrt(gain / (math.prod(shape[:-2]) * (shape[-2] + shape[-1])))
        return random.uniform(-limit, limit, shape)

    return draw


def _fan_in(random: np.random.Generator, shape: tuple[int, ...], kernel: tuple[int, ...]) -> np.ndarray:
    limit = 1 / math.sqrt(math.prod(kernel[:-1]))
    return random.uniform(-limit, limit, shape)


def _truncated(random: np.random.Generator, shape: tuple[int, ...], kernel: tuple[int, ...]) -> np.ndarray:
    if len(shape) < 2:
        return np.zeros(shape)
    values = random.normal(0, 1, shape)
    while (outside := np.abs(values) > 2).any():
        values[outside] = random.normal(0, 1, outside.sum())
    return 0.01 * values


INITIAL = {
    "glorot": _uniform(6),  # of Flux.jl and Keras
    "knet": _uniform(2),  # of Knet.jl's param
    "fan in": _fan_in,  # of torch: uniform within 1 / sqrt(inputs), biases too
    "uniform 0.01": lambda random, shape, kernel: random.uniform(-0.01, 0.01, shape) * (len(shape) > 1),  # of MXNet
    "normal": lambda random, shape, kernel: random.normal(0, 1, shape) * (len(shape) > 1),
    "normal with biases": lambda random, shape, kernel: random.normal(0, 1, shape),
    "truncated normal 0.01": _truncated,
}


# ------------------------------------------------------------------------------------------------ JSON


def to_json(workload: Workload) -> dict[str, Any]:
    """Every field as JSON has it, for a process in another interpreter or another language."""
    plain = {field.name: getattr(workload, field.name) for field in fields(Workload)}
    tagged = lambda value: {"type": type(value).__name__, **asdict(value)}  # noqa: E731
    return {**plain, "network": [tagged(p) for p in workload.network], "optimizer": tagged(workload.optimizer)}


def from_json(plain: dict[str, Any]) -> Workload:
    """The workload that `to_json` wrote."""

    def read(value: dict[str, Any], kinds: dict[str, Any]) -> Any:
        given = {k: tuple(v) if isinstance(v, list) else v for k, v in value.items() if k != "type"}
        return kinds[value["type"]](**given)

    network = tuple(read(part, PARTS) for part in plain["network"])
    optimizer = read(plain["optimizer"], OPTIMIZERS)
    return Workload(**{**plain, "network": network, "optimizer": optimizer, "shape": tuple(plain["shape"])})


# ---------------------------------------------------------------------------------------------- networks


def mlp(*sizes: int, activation: str = "relu") -> tuple[Part, ...]:
    """Dense layers of these sizes, the last one without an activation."""
    hidden = [Dense(a, b, activation) for a, b in itertools.pairwise(sizes[:-1])]
    return (*hidden, Dense(sizes[-2], sizes[-1]))


def lenet() -> tuple[Part, ...]:
    """Two convolutions of 20 and 50 channels, for pictures of 28 by 28."""
    convolutions = (Conv(5, 1, 20, "relu"), MaxPool(), Conv(5, 20, 50, "relu"), MaxPool(), Flatten((4, 4, 50)))
    return (*convolutions, Dense(800, 500, "relu"), Dense(500, 10))


def blitz() -> tuple[Part, ...]:
    """The network of Flux.jl's 60-minute blitz, for pictures of 32 by 32."""
    convolutions = (Conv(5, 3, 16, "relu"), MaxPool(), Conv(5, 16, 8, "relu"), MaxPool(), Flatten((5, 5, 8)))
    return (*convolutions, Dense(200, 120), Dense(120, 84), Dense(84, 10))


def batches(x: np.ndarray, y: np.ndarray, size: int, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The first `count` batches of `size`, in the order of the data, starting anew where they end: the same for all."""
    whole = max(len(x) // size, 1)
    starts = [i % whole * size for i in range(count)]
    return [(x[s : s + size], y[s : s + size]) for s in starts]
