"""Normalization: subtract a mean, divide by a standard deviation, then scale and shift.

All of it is computed in float32 at least, whatever the dtype of the input, and returned in the dtype of the input.
`eps` is added to the variance. Arrays meet with the same number of axes, or along the last ones.
"""

from __future__ import annotations

import functools
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
    scale = None if scale is None else _aligned(scale, x.ndim)
    if scale is not None and scale.shape == factor.shape:
        factor, scale = factor * scale, None  # two small arrays; of others the product could be as large as `x`
    y = (wide(x) - _aligned(mean, x.ndim)) * factor
    if scale is not None:
        y = y * scale
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
    _has_axes("layer_norm", x, ndim)
    y = _standardized(ndim, eps, wide(x))
    if scale is not None:
        y = y * _aligned(scale, x.ndim)
    if bias is not None:
        y = y + _aligned(bias, x.ndim)
    return y.astype(x.dtype)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _standardized(ndim: int, eps: float, x: Float[Array, ...]) -> Float[Array, ...]:
    return standardize(x, *moments(x, range(-ndim, 0)), eps=eps)


@_standardized.defjvp
def _standardized_jvp(ndim: int, eps: float, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # Stated, so that the backward pass keeps the result and one factor a row, not `x` and its deviations as well.
    (x,), (dx,) = primals, tangents
    axes = tuple(range(-ndim, 0))
    y, factor = _standardized(ndim, eps, x), jax.lax.rsqrt(moments(x, axes)[1] + eps)
    return y, factor * (dx - dx.mean(axes, keepdims=True) - y * (y * dx).mean(axes, keepdims=True))


def rms_norm(
    x: Float[Array, ...], ndim: int = 1, scale: Float[Array, ...] | None = None, *, eps: float = 1e-6
) -> Float[Array, ...]:
    """`x / sqrt(mean(x**2) + eps) * scale`, the mean taken over the last `ndim` axes.

    Errors: ShapeError if `x` has fewer axes. Source: Zhang and Sennrich 2019; the numbers are those of
    `torch.nn.functional.rms_norm` with the same `eps`.

    >>> import jax.numpy as jnp
    >>> from fluxion.ops.normalization import rms_norm
    >>> rms_norm(jnp.array([[0.0, 0.0, 0.0, -8.0]]), eps=0.0).tolist()
    [[0.0, 0.0, 0.0, -2.0]]
    """
    _has_axes("rms_norm", x, ndim)
    y = wide(x)
    y = y * jax.lax.rsqrt(jnp.square(y).mean(tuple(range(-ndim, 0)), keepdims=True) + eps)
    return (y if scale is None else y * _aligned(scale, x.ndim)).astype(x.dtype)


def group_norm(
    x: Float[Array, "n ... channels"],
    groups: int,
    scale: Float[Array, " channels"] | None = None,
    bias: Float[Array, " channels"] | None = None,
    *,
    eps: float = 1e-5,
) -> Float[Array, "n ... channels"]:
    """Standardize each example over each of `groups` groups of neighboring channels, the last axis, and over all axes
    between the first and the last.

    With as many groups as channels it is instance normalization. The numbers are those of
    `torch.nn.functional.group_norm`. Errors: ShapeError if the channels do not divide into the groups.
    Source: Wu and He 2018.

    >>> import jax.numpy as jnp
    >>> from fluxion.ops.normalization import group_norm
    >>> group_norm(jnp.array([[1.0, 3.0, 0.0, 20.0]]), 2, eps=0.0).tolist()
    [[-1.0, 1.0, -1.0, 1.0]]
    """
    if x.ndim < 1 or groups < 1 or x.shape[-1] % groups:
        raise ShapeError(f"group_norm: expected channels that divide into {groups} groups, got shape {x.shape}.")
    split = (groups, x.shape[-1] // groups)
    y = x.reshape(*x.shape[:-1], *split)
    mean, var = moments(y, (*range(1, x.ndim - 1), x.ndim))
    scale, bias = (None if a is None else a.reshape(split) for a in (scale, bias))
    return standardize(y, mean, var, scale, bias, eps=eps).reshape(x.shape)


def weight_norm(v: Float[Array, ...], g: Float[Array, ...], axis: int | None = -1) -> Float[Array, ...]:
    """`g * v / norm(v)`, with one norm for each index along `axis`, or a single one if it is None.

    Shapes: `g` is that of `norms_along(v, axis)`; output like `v`, in the dtype of `v`. A `v` of zeros gives NaN.
    Source: Salimans and Kingma 2016; the numbers are those of `torch.nn.utils.parametrizations.weight_norm`.

    >>> import jax.numpy as jnp
    >>> from fluxion.ops.normalization import weight_norm
    >>> weight_norm(jnp.array([[3.0], [4.0]]), jnp.array([10.0])).tolist()
    [[6.0], [8.0]]
    """
    norms = norms_along(v, axis)
    factor = g.astype(norms.dtype) / norms
    if axis is not None:
        factor = factor.reshape([-1 if i == axis % v.ndim else 1 for i in range(v.ndim)])
    return (v.astype(jnp.promote_types(v.dtype, jnp.float32)) * factor).astype(v.dtype)


def norms_along(v: Float[Array, ...], axis: int | None) -> Float[Array, ...]:
    """The Euclidean norm of `v` at each index along `axis`, or of the whole; in float32 at least.

    >>> import jax.numpy as jnp
    >>> from fluxion.ops.normalization import norms_along
    >>> norms_along(jnp.array([[3.0, 1.0], [4.0, 0.0]]), -1).tolist()
    [5.0, 1.0]
    """
    v = v.astype(jnp.promote_types(v.dtype, jnp.float32))
    others = tuple(i for i in range(v.ndim) if axis is None or i != axis % v.ndim)
    return jnp.sqrt(jnp.real(v * v.conj()).sum(others))


def wide(x: Float[Array, ...]) -> Float[Array, ...]:
    """`x` in float32 at least: half precision overflows at 65504 and has three digits."""
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        raise DTypeError(f"expected real input, got dtype {x.dtype}. Normalize the real and imaginary parts.")
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _aligned(a: Float[Array, ...], ndim: int) -> Float[Array, ...]:
    return wide(a).reshape((1,) * (ndim - a.ndim) + a.shape)


def _has_axes(name: str, x: Float[Array, ...], ndim: int) -> None:
    if not 1 <= ndim <= x.ndim:
        raise ShapeError(f"{name}: expected at least {ndim} axes, got shape {x.shape}.")
