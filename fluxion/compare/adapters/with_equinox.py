"""Equinox: a `filter_jit` step over one example's model, mapped over the batch by `vmap`."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from .. import parts as w

MODES = {"train": ("filter_jit",), "infer": ("filter_jit",), "start": ("filter_jit",)}


def supports(workload: w.Workload, mode: str) -> bool:
    return not workload.has_batchnorm  # its statistics would have to go through every layer by hand


def versions() -> dict[str, str]:
    return {"equinox": eqx.__version__, "optax": optax.__version__, "jax (equinox)": jax.__version__}


def threads(count: int) -> None:
    """XLA starts as many threads as the process may use cores."""


KEY = jax.random.key(0)


class LSTM(eqx.Module):
    cell: eqx.nn.LSTMCell

    def __call__(self, x: Any) -> Any:
        def step(state: Any, x: Any) -> Any:
            state = self.cell(x, state)
            return state, state[0]

        zeros = jnp.zeros(self.cell.hidden_size)
        return jax.lax.scan(step, (zeros, zeros), x)[1]


class Positions(eqx.Module):
    weight: Any

    def __call__(self, x: Any) -> Any:
        return x + self.weight[: len(x)]


class Mapped(eqx.Module):
    """A layer for vectors, over the positions of a sequence."""

    layer: Any

    def __call__(self, x: Any) -> Any:
        return jax.vmap(self.layer)(x)


class Model(eqx.Module):
    layers: list[Any]

    def __call__(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x)
        return x


class Block(eqx.Module):
    norm1: eqx.nn.LayerNorm
    norm2: eqx.nn.LayerNorm
    attention: eqx.nn.MultiheadAttention
    up: eqx.nn.Linear
    down: eqx.nn.Linear
    causal: bool

    def __init__(self, part: w.Block) -> None:
        d = part.features
        self.norm1, self.norm2 = eqx.nn.LayerNorm(d), eqx.nn.LayerNorm(d)
        biases = {f"use_{name}_bias": True for name in ("query", "key", "value", "output")}
        self.attention = eqx.nn.MultiheadAttention(part.heads, d, **biases, key=KEY)
        self.up, self.down = eqx.nn.Linear(d, 4 * d, key=KEY), eqx.nn.Linear(4 * d, d, key=KEY)
        self.causal = part.causal

    def __call__(self, x: Any) -> Any:
        y = jax.vmap(self.norm1)(x)
        mask = jnp.tril(jnp.ones((len(x), len(x)), bool)) if self.causal else None
        x = x + self.attention(y, y, y, mask)
        y = jax.nn.gelu(jax.vmap(self.up)(jax.vmap(self.norm2)(x)))
        return x + jax.vmap(self.down)(y)


def make(part: w.Part, before: w.Part | None, sequence: bool, own: dict[str, np.ndarray]) -> list[Any]:
    """The layers of a part, with its arrays: for one example, channels first."""
    match part:
        case w.Dense():
            weight = own["weight"]
            if isinstance(before, w.Flatten):
                weight = weight.reshape(*before.shape, -1).transpose(2, 0, 1, 3).reshape(weight.shape)
            layer = linear(eqx.nn.Linear(part.inputs, part.outputs, key=KEY), weight, own["bias"])
            return [Mapped(layer) if sequence else layer, *relu(part)]
        case w.Conv():
            padding = part.kernel // 2 if part.same else 0
            layer = eqx.nn.Conv2d(part.inputs, part.outputs, part.kernel, padding=padding, key=KEY)
            layer = put(layer, "weight", own["weight"].transpose(3, 2, 0, 1))
            return [put(layer, "bias", own["bias"].reshape(layer.bias.shape)), *relu(part)]
        case w.MaxPool():
            return [eqx.nn.MaxPool2d(2, 2)]
        case w.Flatten():
            return [jnp.ravel]
        case w.LSTM():
            cell = eqx.nn.LSTMCell(part.inputs, part.outputs, key=KEY)
            cell = put(cell, "weight_ih", own["weight"].T)
            return [LSTM(put(put(cell, "weight_hh", own["recurrent_weight"].T), "bias", own["bias"]))]
        case w.LastStep():
            return [lambda x: x[-1]]
        case w.Embedding():
            return [Mapped(put(eqx.nn.Embedding(part.vocabulary, part.features, key=KEY), "weight", own["weight"]))]
        case w.Positions():
            return [Positions(jnp.asarray(own["weight"]))]
        case w.LayerNorm():
            return [Mapped(norm(eqx.nn.LayerNorm(part.features), own["scale"], own["bias"]))]
        case w.Block():
            return [block(part, own)]
    raise NotImplementedError(part)


def relu(part: w.Dense | w.Conv) -> list[Any]:
    return [jax.nn.relu] if part.activation == "relu" else []


def put(layer: Any, name: str, value: Any) -> Any:
    """A copy of the layer with another array, or another layer, in the place of that name."""
    value = jnp.asarray(value) if isinstance(value, np.ndarray) else value
    return eqx.tree_at(lambda layer: getattr(layer, name), layer, value)


def linear(layer: Any, weight: np.ndarray, bias: np.ndarray) -> Any:
    return put(put(layer, "weight", weight.T), "bias", bias)


def norm(layer: Any, scale: np.ndarray, bias: np.ndarray) -> Any:
    return put(put(layer, "weight", scale), "bias", bias)


def block(part: w.Block, own: dict[str, np.ndarray]) -> Block:
    layer = Block(part)
    for name in ("norm1", "norm2"):
        layer = put(layer, name, norm(getattr(layer, name), own[f"{name}.scale"], own[f"{name}.bias"]))
    for name in ("up", "down"):
        layer = put(layer, name, linear(getattr(layer, name), own[f"{name}.weight"], own[f"{name}.bias"]))
    attention = layer.attention
    for name in ("query", "key", "value", "out"):
        theirs = {"out": "output_proj"}.get(name, f"{name}_proj")
        loaded = linear(getattr(attention, theirs), own[f"{name}.weight"], own[f"{name}.bias"])
        attention = put(attention, theirs, loaded)
    return put(layer, "attention", attention)


@eqx.filter_jit(donate="all-except-first")
def step(data: Any, model: Any, state: Any, update: Any) -> Any:
    @eqx.filter_value_and_grad
    def loss(model: Any) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(jax.vmap(model)(data[0]), data[1]).mean()

    value, grads = loss(model)
    updates, state = update(grads, state)
    return eqx.apply_updates(model, updates), state, value


@eqx.filter_jit
def score(model: Any, x: Any, y: Any) -> Any:
    outputs = jax.vmap(model)(x)
    loss = optax.softmax_cross_entropy_with_integer_labels(outputs, y).mean()
    return jnp.stack([loss, (outputs.argmax(-1) == y).mean()])


@eqx.filter_jit
def forward(model: Any, x: Any) -> Any:
    return jax.vmap(model)(x)


class Session:
    def __init__(self, workload: w.Workload, weights: dict[str, np.ndarray], mode: str) -> None:
        self.workload = workload
        self.images = len(workload.shape) == 3
        layers: list[Any] = []
        sequence = len(workload.shape) < 3 and isinstance(workload.network[0], w.Embedding)
        for i, part in enumerate(workload.network):
            own = {name: weights[f"{i}.{name}"] for name in part.shapes()}
            layers += make(part, workload.network[i - 1] if i else None, sequence, own)
        self.model = Model(layers)
        rule = optax.adam(1e-3) if isinstance(workload.optimizer, w.Adam) else optax.sgd(0.01, momentum=0.9)
        self.update, self.state = rule.update, rule.init(eqx.filter(self.model, eqx.is_inexact_array))

    def inputs(self, x: np.ndarray) -> Any:
        return jnp.asarray(x.transpose(0, 3, 1, 2) if self.images else x)

    def prepare(self, batches: list[Any]) -> list[Any]:
        return [(self.inputs(x), jnp.asarray(y)) for x, y in batches]

    def losses(self, batches: Any) -> np.ndarray:
        losses = []
        for batch in batches:
            self.model, self.state, loss = step(batch, self.model, self.state, self.update)
            losses.append(loss)
        jax.block_until_ready(self.state)
        return np.array(losses)

    train = losses

    def epochs(self, x: np.ndarray, y: np.ndarray, count: int) -> None:
        random, size = np.random.default_rng(), self.workload.batch
        x = np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if self.images else x
        for _ in range(count):
            order = random.permutation(len(x))
            rows = (order[s : s + size] for s in range(0, len(x) - size + 1, size))
            self.losses((x[r], y[r]) for r in rows)

    def evaluate(self, x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
        starts = range(0, len(x), 1000)
        scores = [score(self.model, self.inputs(x[s : s + 1000]), y[s : s + 1000]) for s in starts]
        loss, accuracy = np.mean(scores, 0)
        return loss, accuracy

    def forward(self, x: Any) -> Any:
        return forward(self.model, x).block_until_ready()
