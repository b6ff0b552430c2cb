"""The product of a matrix of weights with many vectors: the one place where dense layers multiply."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from fluxion import native
from fluxion.errors import ShapeError
from fluxion.ops.activations import identity

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Shaped

# Multiplications from which on XLA's own product, which works in larger blocks, is as fast; and cells of a weight.
MOST, MOST_CELLS = 2**28, 2**21


def dense(
    x: Shaped[Array, "*batch in"],
    weight: Shaped[Array, "in out"],
    *,
    bias: Shaped[Array, " out"] | None = None,
    activation: Callable[[Array], Array] = identity,
) -> Float[Array, "*batch out"]:
    """`activation(x @ weight + bias)` over the last axis: what the layer `Dense` computes, with arrays of your own.

    Shapes: `x` is `(..., in)`, `weight` `(in, out)`, `bias` `(out,)`, the result `(..., out)`, in the floating dtype to
    which `x` and `weight` are promoted. In float32 on a CPU it is faster than `x @ weight`.

    Errors: ShapeError for arrays that do not fit.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> fx.dense(jnp.array([1, -2]), jnp.array([[1.0, 2.0], [3.0, 0.0]]), bias=jnp.ones(2), activation=fx.relu).tolist()
    [0.0, 3.0]
    """
    x, weight = jnp.asarray(x), jnp.asarray(weight)
    dtype = jnp.result_type(x, weight)
    if not jnp.issubdtype(dtype, jnp.inexact):
        dtype = jnp.result_type(float)
    if weight.ndim != 2 or x.ndim < 1 or x.shape[-1] != weight.shape[0]:
        raise ShapeError(f"dense: expected arrays (..., in) and (in, out), got {x.shape} and {weight.shape}.")
    y = product(x.astype(dtype), weight.astype(dtype))
    if bias is not None:
        bias = jnp.asarray(bias)
        if bias.shape != weight.shape[1:]:
            raise ShapeError(f"dense: expected a bias ({weight.shape[1]},), a number per output, got {bias.shape}.")
        y = y + bias.reshape((1,) * (y.ndim - 1) + bias.shape)
    return activation(y)


def product(x: Float[Array, "*batch in"], weight: Float[Array, "in out"]) -> Float[Array, "*batch out"]:
    """`x @ weight`.

    In float32 on a CPU and up to middling sizes it is computed by the native kernels, which take a third to nine tenths
    of XLA's time, and as little for the gradient of the weight.
    """
    if x.ndim == 1 or weight.ndim != 2:
        return x @ weight
    # One product of matrices: with more axes XLA's on the CPU is slower (a GPT's whole step by 1.2 to 1.4 times).
    rows = x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    y = _native(rows, weight) if _is_native(rows, weight) else rows @ weight
    return y if x.ndim == 2 else y.reshape(*x.shape[:-1], weight.shape[1])


def _is_native(x: Array, weight: Array) -> bool:
    if jax.default_backend() != "cpu" or not native.takes(x, weight):
        return False
    return 0 < x.size * weight.shape[1] <= MOST and weight.size <= MOST_CELLS


def _native(x: Array, weight: Array) -> Array:
    from fluxion.native.product import product  # here, because it loads Pallas

    return product.bind(x, weight)
