"""Plain JAX: the loop that one would write by hand, a jitted step with donated buffers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .. import parts as w

MODES = {"train": ("jit",), "infer": ("jit",), "start": ("jit",)}


def supports(workload: w.Workload, mode: str) -> bool:
    return True


def versions() -> dict[str, str]:
    return {"jax": jax.__version__}


def threads(count: int) -> None:
    """XLA starts as many threads as the process may use cores."""


Params = dict[str, Any]


def apply(part: w.Part, p: Params, x: Any) -> tuple[Any, Params]:
    """The output, and the running statistics that the part would have after a step of training."""
    match part:
        case w.Dense():
            return activated(part.activation, x @ p["weight"] + p["bias"]), {}
        case w.Conv():
            return conv(part, p, x), {}
        case w.MaxPool():
            return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"), {}
        case w.Flatten():
            return x.reshape(len(x), -1), {}
        case w.BatchNorm():
            y, running = batchnorm(p, "", x)
            return jax.nn.relu(y), running
        case w.Residual():
            return residual(part, p, x)
        case w.SpatialMean():
            return x.mean((1, 2)), {}
        case w.LSTM():
            return lstm(p, x, part.outputs), {}
        case w.LastStep():
            return x[:, -1], {}
        case w.Embedding():
            return p["weight"][x], {}
        case w.Positions():
            return x + p["weight"][: x.shape[1]], {}
        case w.LayerNorm():
            return standardized(x) * p["scale"] + p["bias"], {}
        case w.Block():
            return block(part, p, x), {}


def conv(part: w.Conv, p: Params, x: Any) -> Any:
    numbers, padding = ("NHWC", "HWIO", "NHWC"), [(part.padding, part.padding)] * 2
    y = lax.conv_general_dilated(x, p["weight"], (part.stride,) * 2, padding, dimension_numbers=numbers)
    return activated(part.activation, y + p["bias"] if part.bias else y)


def batchnorm(p: Params, name: str, x: Any) -> tuple[Any, Params]:
    """By the running statistics in `p`, for inference; without them by those of the batch, which are returned."""
    if f"{name}mean" in p:
        mean, variance, running = p[f"{name}mean"], p[f"{name}variance"], {}
    else:
        mean, variance, count = x.mean((0, 1, 2)), x.var((0, 1, 2)), x.size // x.shape[-1]
        running = lax.stop_gradient({f"{name}mean": mean, f"{name}variance": variance * count / (count - 1)})
    return (x - mean) * lax.rsqrt(variance + 1e-5) * p[f"{name}scale"] + p[f"{name}bias"], running


def residual(part: w.Residual, p: Params, x: Any) -> tuple[Any, Params]:
    running: Params = {}

    def normed(i: str, x: Any) -> Any:
        y = conv(part.convolutions[i], {"weight": p[f"conv{i}.weight"]}, x)
        y, own = batchnorm(p, f"norm{i}.", y)
        running.update(own)
        return y

    y = normed("2", jax.nn.relu(normed("1", x)))
    return jax.nn.relu(y + (normed("3", x) if "3" in part.convolutions else x)), running


def activated(name: str, x: Any) -> Any:
    return jax.nn.relu(x) if name == "relu" else x


def standardized(x: Any) -> Any:
    return (x - x.mean(-1, keepdims=True)) * lax.rsqrt(x.var(-1, keepdims=True) + 1e-5)


def lstm(p: Params, x: Any, size: int) -> Any:
    def step(state: Any, gates: Any) -> Any:
        h, c = state
        i, f, g, o = jnp.split(gates + h @ p["recurrent_weight"], 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zeros = jnp.zeros((len(x), size))
    return lax.scan(step, (zeros, zeros), (x @ p["weight"] + p["bias"]).swapaxes(0, 1))[1].swapaxes(0, 1)


def block(part: w.Block, p: Params, x: Any) -> Any:
    n, t, d = x.shape
    y = standardized(x) * p["norm1.scale"] + p["norm1.bias"]
    q, k, v = (
        (y @ p[f"{name}.weight"] + p[f"{name}.bias"]).reshape(n, t, part.heads, -1)
        for name in ("query", "key", "value")
    )
    y = jax.nn.dot_product_attention(q, k, v, is_causal=part.causal).reshape(n, t, d)
    x = x + y @ p["out.weight"] + p["out.bias"]
    y = standardized(x) * p["norm2.scale"] + p["norm2.bias"]
    y = jax.nn.gelu(y @ p["up.weight"] + p["up.bias"])
    return x + y @ p["down.weight"] + p["down.bias"]


def adam(params: Params, grads: Params, state: Any) -> Any:
    m, v, t = state
    t = t + 1
    m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, grads)
    v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, grads)
    rate, root = 1e-3 / (1 - 0.9**t), jnp.sqrt(1 - 0.999**t)
    return jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) / root + 1e-8), params, m, v), (m, v, t)


def momentum(params: Params, grads: Params, state: Any) -> Any:
    v = jax.tree.map(lambda v, g: 0.9 * v + g, state[0], grads)
    return jax.tree.map(lambda p, v: p - 0.01 * v, params, v), (v, *state[1:])


class Session:
    def __init__(self, workload: w.Workload, weights: dict[str, np.ndarray], mode: str) -> None:
        self.workload = workload
        parts = list(enumerate(workload.network))
        self.params = {
            str(i): {name: jnp.asarray(weights[f"{i}.{name}"]) for name in part.shapes()} for i, part in parts
        }
        self.state = (*(jax.tree.map(jnp.zeros_like, self.params) for _ in range(2)), jnp.zeros(()))
        self.running = {str(i): statistics(part) for i, part in parts}

        def model(params: Params, x: Any) -> Any:
            running = {}
            for i, part in parts:
                x, running[str(i)] = apply(part, params[str(i)], x)
            return x, running

        def forward(params: Params, running: Params, x: Any) -> Any:
            return model({name: params[name] | running[name] for name in params}, x)[0]

        def score(params: Params, running: Params, x: Any, y: Any) -> Any:
            outputs = forward(params, running, x)
            return jnp.stack([cross(outputs, y), (outputs.argmax(-1) == y).mean()])

        rule = adam if isinstance(workload.optimizer, w.Adam) else momentum
        self.step = jax.jit(functools.partial(step, model, rule), donate_argnums=(0, 1, 2))
        self.model, self.score = jax.jit(forward), jax.jit(score)

    def prepare(self, batches: list[Any]) -> list[Any]:
        return [(jnp.asarray(x), jnp.asarray(y)) for x, y in batches]

    def losses(self, batches: Any) -> np.ndarray:
        losses = []
        for x, y in batches:
            self.params, self.state, self.running, loss = self.step(self.params, self.state, self.running, x, y)
            losses.append(loss)
        jax.block_until_ready(self.params)
        return np.array(losses)

    train = losses

    def epochs(self, x: np.ndarray, y: np.ndarray, count: int) -> None:
        random, size = np.random.default_rng(), self.workload.batch
        for _ in range(count):
            order = random.permutation(len(x))
            rows = (order[s : s + size] for s in range(0, len(x) - size + 1, size))
            self.losses((x[r], y[r]) for r in rows)

    def evaluate(self, x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
        starts = range(0, len(x), 1000)
        scores = [self.score(self.params, self.running, x[s : s + 1000], y[s : s + 1000]) for s in starts]
        loss, accuracy = np.mean(scores, 0)
        return loss, accuracy

    def inputs(self, x: np.ndarray) -> Any:
        return jnp.asarray(x)

    def forward(self, x: Any) -> Any:
        return self.model(self.params, self.running, x).block_until_ready()


def statistics(part: w.Part) -> Params:
    """The first running statistics of a part."""
    names = {name: shape for name, shape in part.shapes().items() if name.endswith("scale")}
    if not isinstance(part, w.BatchNorm | w.Residual):
        return {}
    means = {name.replace("scale", "mean"): jnp.zeros(shape) for name, shape in names.items()}
    return means | {name.replace("scale", "variance"): jnp.ones(shape) for name, shape in names.items()}


def cross(logits: Any, y: Any) -> Any:
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[..., None], -1).mean()


def step(
    model: Callable[..., Any], update: Callable[..., Any], params: Params, state: Any, running: Params, x: Any, y: Any
) -> Any:
    def loss(params: Params) -> Any:
        outputs, found = model(params, x)
        return cross(outputs, y), found

    (value, found), grads = jax.value_and_grad(loss, has_aux=True)(params)
    running = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, running, found)
    return *update(params, grads, state), running, value
