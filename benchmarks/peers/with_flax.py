"""Flax NNX: a jitted step, and the same with `cached_partial`, which walks through the model only once."""

from __future__ import annotations

from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import workloads as w
from flax import nnx

MODES = {"train": ("jit", "cached_partial"), "infer": ("jit", "cached_partial")}


def supports(workload: w.Workload, mode: str) -> bool:
    return True


def versions() -> dict[str, str]:
    return {"flax": flax.__version__, "optax": optax.__version__, "jax (flax)": jax.__version__}


def threads(count: int) -> None:
    """XLA starts as many threads as the process may use cores."""


class Embedding(nnx.Module):
    def __init__(self, part: w.Embedding, rngs: nnx.Rngs) -> None:
        self.token = nnx.Embed(part.vocabulary, part.features, rngs=rngs)
        self.position = nnx.Embed(part.length, part.features, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return self.token(x) + self.position(jnp.arange(x.shape[1]))


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
            padding = "SAME" if part.same else "VALID"
            return nnx.Conv(part.inputs, part.outputs, (part.kernel, part.kernel), padding=padding, rngs=rngs)
        case w.MaxPool():
            return lambda x: nnx.max_pool(x, (2, 2), (2, 2))
        case w.Flatten():
            return lambda x: x.reshape(len(x), -1)
        case w.BatchNorm():
            return nnx.BatchNorm(part.channels, momentum=0.9, epsilon=1e-5, rngs=rngs)
        case w.SpatialMean():
            return lambda x: x.mean((1, 2))
        case w.LSTM():
            return nnx.RNN(nnx.OptimizedLSTMCell(part.inputs, part.outputs, rngs=rngs))
        case w.LastStep():
            return lambda x: x[:, -1]
        case w.Embedding():
            return Embedding(part, rngs)
        case w.LayerNorm():
            return nnx.LayerNorm(part.features, epsilon=1e-5, rngs=rngs)
        case w.Block():
            return Block(part, rngs)


def load(part: w.Part, layer: Any, own: dict[str, np.ndarray]) -> None:
    match part:
        case w.Dense() | w.Conv():
            put(layer, kernel=own["weight"], bias=own["bias"])
        case w.BatchNorm() | w.LayerNorm():
            put(layer, scale=own["scale"], bias=own["bias"])
        case w.LSTM():
            put(layer.cell.dense_i, kernel=own["weight"])
            put(layer.cell.dense_h, kernel=own["recurrent_weight"], bias=own["bias"])
        case w.Embedding():
            put(layer.token, embedding=own["token"])
            put(layer.position, embedding=own["position"])
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
def forward(model: Model, x: Any) -> Any:
    return model(x)


class Session:
    def __init__(self, workload: w.Workload, weights: dict[str, np.ndarray], mode: str) -> None:
        self.workload = workload
        self.model = Model(workload.network, weights)
        rule = optax.adam(1e-3) if workload.optimizer == "adam" else optax.sgd(0.01, momentum=0.9)
        opt = nnx.Optimizer(self.model, rule, wrt=nnx.Param)
        if not workload.training:
            self.model.eval()
        if mode == "cached_partial":
            self.step = nnx.cached_partial(step, self.model, opt)
            self.call = nnx.cached_partial(forward, self.model)
        else:
            self.step = lambda x, y: step(self.model, opt, x, y)
            self.call = lambda x: forward(self.model, x)

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

    def evaluate(self, x: np.ndarray, y: np.ndarray) -> float:
        right = [(self.call(x[s : s + 1000]).argmax(-1) == y[s : s + 1000]).sum() for s in range(0, len(x), 1000)]
        return float(sum(right)) / len(x)

    def inputs(self, x: np.ndarray) -> Any:
        return jnp.asarray(x)

    def forward(self, x: Any) -> Any:
        return self.call(x).block_until_ready()
