"""Flax NNX: a jitted step with `cached_partial`, which walks through the model only once."""

from __future__ import annotations

from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from .. import parts as w

MODES = {"train": ("cached_partial",), "infer": ("cached_partial",), "start": ("cached_partial",)}


def supports(workload: w.Workload, mode: str) -> bool:
    return True


def versions() -> dict[str, str]:
    return {"flax": flax.__version__, "optax": optax.__version__, "jax (flax)": jax.__version__}


def threads(count: int) -> None:
    """XLA starts as many threads as the process may use cores."""


class Positions(nnx.Module):
    def __init__(self, part: w.Positions, rngs: nnx.Rngs) -> None:
        self.rows = nnx.Embed(part.length, part.features, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return x + self.rows(jnp.arange(x.shape[1]))


class Residual(nnx.Module):
    def __init__(self, part: w.Residual, rngs: nnx.Rngs) -> None:
        self.projected = "3" in part.convolutions
        for i, conv in part.convolutions.items():
            setattr(self, f"conv{i}", make(conv, rngs))
            setattr(self, f"norm{i}", nnx.BatchNorm(part.outputs, momentum=0.9, epsilon=1e-5, rngs=rngs))

    def __call__(self, x: Any) -> Any:
        y = self.norm2(self.conv2(nnx.relu(self.norm1(self.conv1(x)))))
        return nnx.relu(y + (self.norm3(self.conv3(x)) if self.projected else x))


class Block(nnx.Module):
    def __init__(self, part: w.Block, rngs: nnx.Rngs) -> None:
        d = part.features
        self.causal = part.causal
        self.norm1, self.norm2 = (nnx.LayerNorm(d, epsilon=1e-5, rngs=rngs) for _ in range(2))
        self.attention = nnx.MultiHeadAttention(part.heads, d, decode=False, rngs=rngs)
        self.up, self.down = nnx.Linear(d, 4 * d, rngs=rngs), nnx.Linear(4 * d, d, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        mask = nnx.make_causal_mask(jnp.ones(x.shape[:2])) if self.causal else None
        x = x + self.attention(self.norm1(x), mask=mask)
        return x + self.down(nnx.gelu(self.up(self.norm2(x))))


def make(part: w.Part, rngs: nnx.Rngs) -> Any:
    match part:
        case w.Dense():
            return nnx.Linear(part.inputs, part.outputs, rngs=rngs)
        case w.Conv():
            options = {"strides": part.stride, "padding": part.padding, "use_bias": part.bias}
            return nnx.Conv(part.inputs, part.outputs, (part.kernel, part.kernel), **options, rngs=rngs)
        case w.MaxPool():
            return lambda x: nnx.max_pool(x, (2, 2), (2, 2))
        case w.Flatten():
            return lambda x: x.reshape(len(x), -1)
        case w.BatchNorm():
            return nnx.BatchNorm(part.channels, momentum=0.9, epsilon=1e-5, rngs=rngs)
        case w.Residual():
            return Residual(part, rngs)
        case w.SpatialMean():
            return lambda x: x.mean((1, 2))
        case w.LSTM():
            return nnx.RNN(nnx.OptimizedLSTMCell(part.inputs, part.outputs, rngs=rngs))
        case w.LastStep():
            return lambda x: x[:, -1]
        case w.Embedding():
            return nnx.Embed(part.vocabulary, part.features, rngs=rngs)
        case w.Positions():
            return Positions(part, rngs)
        case w.LayerNorm():
            return nnx.LayerNorm(part.features, epsilon=1e-5, rngs=rngs)
        case w.Block():
            return Block(part, rngs)


def load(part: w.Part, layer: Any, own: dict[str, np.ndarray]) -> None:
    match part:
        case w.Dense() | w.Conv():
            put(layer, **{{"weight": "kernel"}.get(name, name): array for name, array in own.items()})
        case w.Residual():
            for i in part.convolutions:
                put(getattr(layer, f"conv{i}"), kernel=own[f"conv{i}.weight"])
                put(getattr(layer, f"norm{i}"), scale=own[f"norm{i}.scale"], bias=own[f"norm{i}.bias"])
        case w.BatchNorm() | w.LayerNorm():
            put(layer, scale=own["scale"], bias=own["bias"])
        case w.LSTM():
            put(layer.cell.dense_i, kernel=own["weight"])
            put(layer.cell.dense_h, kernel=own["recurrent_weight"], bias=own["bias"])
        case w.Embedding():
            put(layer, embedding=own["weight"])
        case w.Positions():
            put(layer.rows, embedding=own["weight"])
        case w.Block():
            for name in ("norm1", "norm2"):
                put(getattr(layer, name), scale=own[f"{name}.scale"], bias=own[f"{name}.bias"])
            for name in ("up", "down"):
                put(getattr(layer, name), kernel=own[f"{name}.weight"], bias=own[f"{name}.bias"])
            for name in ("query", "key", "value", "out"):
                put(getattr(layer.attention, name), kernel=own[f"{name}.weight"], bias=own[f"{name}.bias"])


def put(layer: Any, **arrays: np.ndarray) -> None:
    for name, array in arrays.items():
        variable = getattr(layer, name)
        variable.value = jnp.asarray(array.reshape(variable.value.shape))


class Model(nnx.Module):
    def __init__(self, network: tuple[w.Part, ...], weights: dict[str, np.ndarray]) -> None:
        rngs = nnx.Rngs(0)
        layers = []
        for i, part in enumerate(network):
            layer = make(part, rngs)
            load(part, layer, {name: weights[f"{i}.{name}"] for name in part.shapes()})
            layers.append(layer)
            if isinstance(part, w.BatchNorm) or getattr(part, "activation", "") == "relu":
                layers.append(nnx.relu)
        self.layers = nnx.Sequential(*layers)

    def __call__(self, x: Any) -> Any:
        return self.layers(x)


@nnx.jit
def step(model: Model, opt: nnx.Optimizer, x: Any, y: Any) -> Any:
    def loss(model: Model) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

    value, grads = nnx.value_and_grad(loss)(model)
    opt.update(model, grads)
    return value


@nnx.jit
def score(model: Model, x: Any, y: Any) -> Any:
    outputs = model(x)
    loss = optax.softmax_cross_entropy_with_integer_labels(outputs, y).mean()
    return jnp.stack([loss, (outputs.argmax(-1) == y).mean()])


@nnx.jit
def forward(model: Model, x: Any) -> Any:
    return model(x)


class Session:
    def __init__(self, workload: w.Workload, weights: dict[str, np.ndarray], mode: str) -> None:
        self.workload = workload
        self.model = Model(workload.network, weights)
        rule = optax.adam(1e-3) if isinstance(workload.optimizer, w.Adam) else optax.sgd(0.01, momentum=0.9)
        opt = nnx.Optimizer(self.model, rule, wrt=nnx.Param)
        if not workload.training:
            self.model.eval()
        self.step = nnx.cached_partial(step, self.model, opt)
        self.call, self.score = nnx.cached_partial(forward, self.model), nnx.cached_partial(score, self.model)

    def prepare(self, batches: list[Any]) -> list[Any]:
        return [(jnp.asarray(x), jnp.asarray(y)) for x, y in batches]

    def losses(self, batches: Any) -> np.ndarray:
        losses = [self.step(x, y) for x, y in batches]
        jax.block_until_ready(nnx.state(self.model))
        return np.array(losses)

    train = losses

    def epochs(self, x: np.ndarray, y: np.ndarray, count: int) -> None:
        random, size = np.random.default_rng(), self.workload.batch
        for _ in range(count):
            order = random.permutation(len(x))
            rows = (order[s : s + size] for s in range(0, len(x) - size + 1, size))
            self.losses((x[r], y[r]) for r in rows)

    def evaluate(self, x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
        scores = [self.score(x[s : s + 1000], y[s : s + 1000]) for s in range(0, len(x), 1000)]
        loss, accuracy = np.mean(scores, 0)
        return loss, accuracy

    def inputs(self, x: np.ndarray) -> Any:
        return jnp.asarray(x)

    def forward(self, x: Any) -> Any:
        return self.call(x).block_until_ready()
