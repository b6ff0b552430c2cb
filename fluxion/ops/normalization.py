"""Normalization: subtract a mean, divide by a standard deviation, then scale and shift.

All of it is computed in float32 at least, whatever the dtype of the input, and returned in the dtype of the input.
`eps` is added to the variance. Arrays meet with the same number of axes, or along the last ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from fluxion.errors import DTypeError, ShapeError

if TYPE_CHECKING:
    from jaxtyping import Array, Float


def moments(x: Float[Array, ...], axis: int | Sequence[int]) -> tuple[Float[Array, ...], Float[Array, ...]]:
    """Mean and variance over `axis`, whose axes are kept with size 1, in float32 at least.

    The variance is the biased one, `mean((x - mean)**2)`, computed in two passes so that a large mean costs no digits.
    Errors: DTypeError for complex input.

    >>> import jax.numpy as jnp
    >>> from fluxion.ops.normalization import moments
    >>> mean, var = moments(jnp.array([[1.0, 10.0], [3.0, 10.0]]), 0)
    >>> mean.tolist(), var.tolist()
    ([[2.0, 10.0]], [[1.0, 0.0]])
    """
    x = wide(x)
    axes = axis if isinstance(axis, int) else tuple(axis)
    mean = x.mean(axes, keepdims=True)
    return mean, jnp.square(x - mean).mean(axes, keepdims=True)


def standardize(
    x: Float[Array, ...],
    mean: Float[Array, ...],
    var: Float[Array, ...],
    scale: Float[Array, ...] | None = None,
    bias: Float[Array, ...] | None = None,
    *,
    eps: float = 1e-5,
) -> Float[Array, ...]:
    """`(x - mean) / sqrt(var + eps) * scale + bias`, in the dtype of `x`.

    Shapes: every other array broadcasts to `x`; those with fewer axes stand for its last ones.

    >>> import jax.numpy as jnp
    >>> from fluxion.ops.normalization import standardize
    >>> standardize(jnp.array([[1.0, 5.0]]), jnp.array([1.0, 1.0]), jnp.array([1.0, 4.0]), eps=0.0).tolist()
    [[0.0, 2.0]]
    """
    factor = jax.lax.rsqrt(_aligned(var, x.ndim) + eps)
    if scale is not None:
        factor = factor * _aligned(scale, x.ndim)
    y = (wide(x) - _aligned(mean, x.ndim)) * factor
    if bias is not None:
        y = y + _aligned(bias, x.ndim)
    return y.astype(x.dtype)


def layer_norm(
    x: Float[Array, ...],
    ndim: int = 1,
    scale: Float[Array, ...] | None = None,
    bias: Float[Array, ...] | None = None,
    *,
    eps: float = 1e-5,
) -> Float[Array, ...]:
    """Standardize `x` over its last `ndim` axes. The numbers are those of `torch.nn.functional.layer_norm`.

    Errors: ShapeError if `x` has fewer axes. Source: Ba et al. 2016.

    >>> import jax.numpy as jnp
    >>> from fluxion.ops.normalization import layer_norm
    >>> layer_norm(jnp.array([[1.0, 3.0], [0.0, 20.0]]), eps=0.0).tolist()
    [[-1.0, 1.0], [-1.0, 1.0]]
    """
    if not 1 <= ndim <= x.ndim:
        raise ShapeError(f"layer_norm: expected at least {ndim} axes, got shape {x.shape}.")
    mean, var = moments(x, range(-ndim, 0))
    return standardize(x, mean, var, scale, bias, eps=eps)


def wide(x: Float[Array, ...]) -> Float[Array, ...]:
    """`x` in float32 at least: half precision overflows at 65504 and has three digits."""
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        raise DTypeError(f"expected real input, got dtype {x.dtype}. Normalize the real and imaginary parts.")
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _aligned(a: Float[Array, ...], ndim: int) -> Float[Array, ...]:
    return wide(a).reshape((1,) * (ndim - a.ndim) + a.shape)
