"""What layers check and convert: the sizes they are made with, the arrays they are given.

Constructors speak with the name of the class, for there is no layer yet; calls state the reason alone, for the
layer's path is added on the way out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.errors import DTypeError, ShapeError
from fluxion.ops.checks import whole

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Shaped


def whole_or_none(name: str, what: str, value: Any) -> int | None:
    """`whole`, or None for a size that is to be inferred."""
    return None if value is None else whole(name, what, value)


def function(name: str, what: str, value: Any) -> Callable[..., Any]:
    """`value` if it can be called; `DTypeError` if not."""
    if not callable(value):
        instead = f"Give the function itself, such as fx.{value}." if isinstance(value, str) else "Give a function."
        raise DTypeError(f"{name}: expected a function for {what}, got {value!r}. {instead}")
    return value


def drawn(name: str, init: Callable[..., Any], *size: int) -> Array:
    """`init(*size)`, checked: a floating array of that shape."""
    array = jnp.asarray(init(*size))
    if array.shape != size:
        raise ShapeError(f"{name}: expected init to give an array of shape {size}, got {array.shape}.")
    if not jnp.issubdtype(array.dtype, jnp.inexact):
        raise DTypeError(f"{name}: expected init to give a floating array, got {array.dtype}. It could not be trained.")
    return array


def as_array(x: Any) -> Array | np.ndarray:
    """`x` as the array it is, not copied to a device; `DTypeError` if it is not one array of numbers."""
    if isinstance(x, list | tuple):
        raise DTypeError(
            f"expected one array, got a {type(x).__name__} of {len(x)}. Several inputs belong to Parallel, Bilinear or "
            "a layer of yours; stack them or call jnp.array on them if they are one."
        )
    if not isinstance(x, jax.Array | np.ndarray):
        x = jnp.asarray(x) if hasattr(x, "__jax_array__") else np.asarray(x)
    if not (jnp.issubdtype(x.dtype, jnp.number) or x.dtype == bool):
        raise DTypeError(f"expected an array of numbers, got dtype {x.dtype}. Convert it first.")
    return x


def as_input(x: Any, dtype: Any) -> Shaped[Array, ...]:
    """`x` in the dtype of the layer's arrays, so that a model decides its own precision; complex stays complex."""
    x = as_array(x)
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        dtype = jnp.result_type(dtype, x.dtype)
    return jnp.asarray(x).astype(dtype)


def moved_channels(shape: tuple[int, ...], channels: int | None) -> str:
    """The remedy for an input whose channels stand where other libraries have them, or nothing."""
    return " Give it with channels last: jnp.moveaxis(x, 1, -1)." if len(shape) > 2 and shape[1] == channels else ""


def trailing(vector: Shaped[Array, ...], ndim: int) -> Shaped[Array, ...]:
    """`vector` with leading axes of size 1, `ndim` axes in all: how a bias meets a batch."""
    return vector.reshape((1,) * (ndim - vector.ndim) + vector.shape)


def plus(y: Float[Array, "... n"], bias: Float[Array, " n"] | None) -> Float[Array, "... n"]:
    """`y + bias` along the last axis, or `y`."""
    return y if bias is None else y + trailing(bias, y.ndim)
