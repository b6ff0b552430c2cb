"""Dropout: setting some values at random to zero, or to what `selu` makes of minus infinity.

These functions always drop; the layers `Dropout` and `AlphaDropout` do it in training only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.errors import ArgumentError, ShapeError
from fluxion.transform.randomness import next_key

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Shaped

# selu(-inf) = -scale * alpha, of Klambauer et al. 2017
SELU_FLOOR = -1.7580993408473766


def dropout(
    x: Shaped[Array, ...], p: float, *, axis: int | Sequence[int] | None = None, key: Array | None = None
) -> Float[Array, ...]:
    """Each value is 0 with probability `p`, and divided by `1 - p` otherwise, so that the mean stays.

    Shapes: output like `x`. Integers become the default float.

    Arguments:
      p: probability, 0 to 1.
      axis: the axes along which to draw; along the others the same decision holds, so that `axis=-1` drops whole
        channels of the batch and `axis=(0, -1)` whole channels of each example. None draws for every value.
      key: a `jax.random.key`; without it the key comes from `fx.randomness` or the default stream.

    Errors: ArgumentError for a `p` outside [0, 1], ShapeError for an axis that `x` has not.
    Source: Srivastava et al. 2014; `Flux.dropout`, whose `dims` is `axis`.

    >>> import jax.numpy as jnp
    >>> from fluxion.ops.dropout import dropout
    >>> sorted(set(dropout(jnp.ones(1000), 0.5).tolist()))
    [0.0, 2.0]
    """
    p = probability("dropout", p)
    x = _floating(x)
    shape = _mask_shape(x.shape, axis)
    if p == 0:
        return x
    if p == 1:
        return jnp.zeros_like(x)
    keep = jax.random.bernoulli(next_key() if key is None else key, 1 - p, shape)
    return jnp.where(keep, x / (1 - p), 0)


def alpha_dropout(x: Shaped[Array, ...], p: float, *, key: Array | None = None) -> Float[Array, ...]:
    """Dropout for `selu` networks: keeps mean 0 and variance 1.

    With `f = -1.758...`, the limit of `selu` at minus infinity, `y = a * (f with probability p, else x) + b`, where
    `a = 1 / sqrt((1 - p) * (1 + p * f**2))` and `b = -a * p * f`. `p = 1` gives zeros.

    Errors: ArgumentError for a `p` outside [0, 1]. Source: Klambauer et al. 2017; `torch.nn.AlphaDropout`.

    >>> import jax.numpy as jnp
    >>> from fluxion.ops.dropout import alpha_dropout
    >>> len(set(alpha_dropout(jnp.zeros(1000), 0.5).tolist()))
    2
    """
    p = probability("alpha_dropout", p)
    x = _floating(x)
    if p == 0:
        return x
    if p == 1:
        return jnp.zeros_like(x)
    a = 1 / math.sqrt((1 - p) * (1 + p * SELU_FLOOR**2))
    keep = jax.random.bernoulli(next_key() if key is None else key, 1 - p, x.shape)
    return a * jnp.where(keep, x, SELU_FLOOR) - a * p * SELU_FLOOR


def probability(name: str, p: Any) -> float:
    """`p`, if it is a number between 0 and 1."""
    if isinstance(p, np.number) or (isinstance(p, np.ndarray | jax.Array) and p.ndim == 0):
        p = p.item()  # for it prints as a number
    if not isinstance(p, int | float) or not 0 <= p <= 1:
        raise ArgumentError(f"{name}: expected a probability p between 0 and 1, got {p!r}.")
    return p


def _floating(x: Any) -> Float[Array, ...]:
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(jnp.result_type(float))


def _mask_shape(shape: tuple[int, ...], axis: int | Sequence[int] | None) -> tuple[int, ...]:
    if axis is None:
        return shape
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    if any(not -len(shape) <= a < len(shape) for a in axes):
        raise ShapeError(f"expected input with an axis {axis} to drop along, got shape {shape}.")
    drawn = {a % len(shape) for a in axes}
    return tuple(n if i in drawn else 1 for i, n in enumerate(shape))
