"""Activation functions under Keras' names: `relu`, `gelu`, `silu`, ...; most of them are Fluxion's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fluxion import ops
from fluxion.dialects.keras import configured
from fluxion.dialects.keras.configured import find
from fluxion.ops.activations import (
    celu,
    elu,
    glu,
    mish,
    relu6,
    selu,
    sigmoid,
    softmax,
    softplus,
    softsign,
    tanh,
)
from fluxion.ops.activations import hardsigmoid as hard_sigmoid
from fluxion.ops.activations import hardswish as hard_silu
from fluxion.ops.activations import hardtanh as hard_tanh
from fluxion.ops.activations import identity as linear
from fluxion.ops.activations import logsigmoid as log_sigmoid
from fluxion.ops.activations import logsoftmax as log_softmax
from fluxion.ops.activations import softshrink as soft_shrink
from fluxion.ops.activations import swish as silu
from fluxion.ops.activations import tanhshrink as tanh_shrink

hard_swish, swish = hard_silu, silu


def relu(x: Any, negative_slope: float = 0.0, max_value: float | None = None, threshold: float = 0.0) -> Any:
    """`x` from `threshold` on, `negative_slope * (x - threshold)` below, and never more than `max_value`.

    >>> from fluxion.dialects.keras import activations
    >>> activations.relu([-2.0, 1.0, 9.0], negative_slope=0.5, max_value=6.0).tolist()
    [-1.0, 1.0, 6.0]
    """
    x = jnp.asarray(x)
    if negative_slope == 0 and threshold == 0:
        return ops.relu(x) if max_value is None else jnp.clip(x, 0, max_value)
    above = jnp.where(x > threshold, x, 0)
    above = above if max_value is None else jnp.clip(above, 0, max_value)
    return above - negative_slope * ops.relu(threshold - x)


def leaky_relu(x: Any, negative_slope: float = 0.2) -> Any:
    """`x` where positive, `negative_slope * x` elsewhere.

    >>> from fluxion.dialects.keras import activations
    >>> activations.leaky_relu([-10.0, 5.0]).tolist()
    [-2.0, 5.0]
    """
    return ops.leakyrelu(x, negative_slope)


def gelu(x: Any, approximate: bool = False) -> Any:
    """`x * P(Z <= x)` for a standard normal Z, by `tanh` if `approximate`.

    >>> from fluxion.dialects.keras import activations
    >>> round(float(activations.gelu(1.0)), 5)
    0.84134
    """
    return ops.gelu(x, approximate)


def exponential(x: Any) -> Any:
    """`exp(x)`.

    >>> from fluxion.dialects.keras import activations
    >>> float(activations.exponential(0.0))
    1.0
    """
    return jnp.exp(x)


def hard_shrink(x: Any, threshold: float = 0.5) -> Any:
    """`x` where `|x| > threshold`, 0 elsewhere.

    >>> from fluxion.dialects.keras import activations
    >>> activations.hard_shrink([-0.4, 0.6]).tolist()
    [0.0, 0.6000000238418579]
    """
    x = jnp.asarray(x)
    return jnp.where(jnp.abs(x) > threshold, x, 0)


def threshold(x: Any, threshold: float, default_value: float) -> Any:
    """`x` where `x > threshold`, `default_value` elsewhere.

    >>> from fluxion.dialects.keras import activations
    >>> activations.threshold([1.0, 3.0], 2.0, -1.0).tolist()
    [-1.0, 3.0]
    """
    x = jnp.asarray(x)
    return jnp.where(x > threshold, x, default_value)


def squareplus(x: Any, b: float = 4) -> Any:
    """`(x + sqrt(x^2 + b)) / 2`.

    >>> from fluxion.dialects.keras import activations
    >>> float(activations.squareplus(0.0))
    1.0
    """
    return jax.nn.squareplus(x, b)


def sparse_plus(x: Any) -> Any:
    """0 up to -1, `(x + 1)^2 / 4` between -1 and 1, `x` from 1 on.

    >>> from fluxion.dialects.keras import activations
    >>> activations.sparse_plus([-2.0, 0.0, 2.0]).tolist()
    [0.0, 0.25, 2.0]
    """
    return jax.nn.sparse_plus(jnp.asarray(x))


def sparse_sigmoid(x: Any) -> Any:
    """0 up to -1, `(x + 1) / 2` between -1 and 1, 1 from 1 on.

    >>> from fluxion.dialects.keras import activations
    >>> activations.sparse_sigmoid([-2.0, 0.0, 2.0]).tolist()
    [0.0, 0.5, 1.0]
    """
    return jax.nn.sparse_sigmoid(jnp.asarray(x))


def sparsemax(x: Any, axis: int = -1) -> Any:
    """The nonnegative numbers with sum 1 along `axis` that are nearest to `x`. Source: Martins and Astudillo 2016.

    >>> from fluxion.dialects.keras import activations
    >>> activations.sparsemax([2.0, 1.5, 0.0]).tolist()
    [0.75, 0.25, 0.0]
    """
    x = jnp.moveaxis(jnp.asarray(x), axis, -1)
    falling = -jnp.sort(-x, axis=-1)
    sums = jnp.cumsum(falling, axis=-1) - 1
    places = jnp.arange(1, x.shape[-1] + 1, dtype=x.dtype).reshape((1,) * (x.ndim - 1) + (-1,))
    count = jnp.sum(falling * places > sums, axis=-1, keepdims=True)  # how many of the largest stay above 0
    cut = jnp.take_along_axis(sums, count - 1, axis=-1) / count
    return jnp.moveaxis(jnp.maximum(x - cut, 0), -1, axis)


NAMES: dict[str, Callable[..., Any]] = {
    "relu": relu,
    "leaky_relu": leaky_relu,
    "relu6": relu6,
    "softmax": softmax,
    "celu": celu,
    "elu": elu,
    "selu": selu,
    "softplus": softplus,
    "softsign": softsign,
    "squareplus": squareplus,
    "soft_shrink": soft_shrink,
    "sparse_plus": sparse_plus,
    "silu": silu,
    "gelu": gelu,
    "glu": glu,
    "tanh": tanh,
    "tanh_shrink": tanh_shrink,
    "threshold": threshold,
    "sigmoid": sigmoid,
    "sparse_sigmoid": sparse_sigmoid,
    "exponential": exponential,
    "hard_sigmoid": hard_sigmoid,
    "hard_silu": hard_silu,
    "hard_tanh": hard_tanh,
    "hard_shrink": hard_shrink,
    "linear": linear,
    "mish": mish,
    "log_softmax": log_softmax,
    "log_sigmoid": log_sigmoid,
    "sparsemax": sparsemax,
    "swish": silu,
    "hard_swish": hard_silu,
}


def get(identifier: Any) -> Callable[..., Any]:
    """The activation of that name, a function as it is, or `linear` for None.

    >>> from fluxion.dialects.keras import activations
    >>> activations.get("relu") is activations.relu
    True
    """
    if identifier is None:
        return linear
    if isinstance(identifier, dict) and identifier.get("class_name") == "function":
        identifier = identifier["config"]
    return find("an activation", identifier, NAMES)


def deserialize(config: Any) -> Callable[..., Any]:
    """The activation that `serialize` wrote."""
    return get(config)


def serialize(activation: Any) -> Any:
    """The name of an activation as configs have it.

    >>> from fluxion.dialects.keras import activations
    >>> activations.serialize(activations.swish)
    'silu'
    """
    name = next((name for name, known in NAMES.items() if known is activation), None)
    return configured.serialize(activation) if name is None else name


def fused(activation: Callable[..., Any]) -> Callable[..., Any]:
    """The activation as Fluxion's layers and ops know it: they compute some, such as `relu`, with what precedes it."""
    return ops.relu if activation is relu else activation
