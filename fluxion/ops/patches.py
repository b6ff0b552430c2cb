"""Pictures taken apart and put together: windows as rows of their own, channels as cells.

`unfold` and `fold` are transposes of each other, `pixel_shuffle` and `pixel_unshuffle` inverses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from fluxion.errors import ArgumentError, ShapeError
from fluxion.ops.windows import (
    MOST_DIMS,
    Padding,
    check_rank,
    kernel_sizes,
    padding_pairs,
    per_axis,
    resolved,
    window_counts,
)

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Shaped


def unfold(
    x: Shaped[Array, "n *spatial c"],
    kernel: Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
) -> Shaped[Array, "n *windows k c"]:
    """The cells under each place of a sliding window, side by side: what a convolution multiplies with its weight.

    `y[n, p, k, c] = x[n, p * stride + k * dilation - low, c]`, where `p` and `k` stand for one index per spatial axis,
    `k` flattened, `low` is the padding before the axis, and cells outside of `x` are 0.

    Shapes: `x` is `(batch, *spatial, channels)`, the result `(batch, *windows, prod(kernel), channels)` with
    `(size + low + high - (kernel - 1) * dilation - 1) // stride + 1` windows along each axis. The dtype stays.

    Arguments:
      kernel: sizes of the window, one per spatial axis.
      stride: cells from one window to the next, a number or one per axis.
      padding: zeros around `x`: a number, one per axis, a pair (low, high) per axis, or "same" for
        `ceil(size / stride)` windows, the odd cell on the high side.
      dilation: cells from one cell of the window to the next, a number or one per axis.

    Errors: ShapeError for another number of spatial axes, or a kernel larger than the padded input. The numbers are
    those of `torch.nn.functional.unfold`, whose `(batch, channels * prod(kernel), windows)` is this one transposed.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> fx.unfold(jnp.array([1.0, 2.0, 4.0, 8.0])[None, :, None], (2,), stride=2)[0, :, :, 0].tolist()
    [[1.0, 2.0], [4.0, 8.0]]

    A convolution in one line:

    >>> x, weight = jnp.ones((1, 5, 5, 2)), jnp.ones((3, 3, 2, 4))
    >>> jnp.tensordot(fx.unfold(x, (3, 3)), weight.reshape(9, 2, 4), 2).shape
    (1, 3, 3, 4)
    """
    kernel = kernel_sizes("unfold", kernel)
    dims = len(kernel)
    strides, dilations = per_axis("unfold", "stride", stride, dims), per_axis("unfold", "dilation", dilation, dims)
    padding = padding_pairs("unfold", padding, dims)
    x = jnp.asarray(x)
    check_rank(x.shape, dims)
    pairs = resolved(padding, x.shape[1:-1], kernel, strides, dilations)
    counts = window_counts(x.shape[1:-1], kernel, strides, pairs, dilations)
    x = jnp.pad(x, ((0, 0), *pairs, (0, 0)))
    # Axis after axis: as many slices as the kernel sizes have in sum, not in product.
    for axis, (size, step, apart, count) in enumerate(zip(kernel, strides, dilations, counts, strict=True), 1):
        ends = [(k * apart, k * apart + (count - 1) * step + 1) for k in range(size)]
        x = jnp.stack([jax.lax.slice_in_dim(x, low, high, step, axis) for low, high in ends], -2)
    return x.reshape(x.shape[0], *counts, math.prod(kernel), x.shape[-1])


def fold(
    patches: Shaped[Array, "n *windows k c"],
    spatial_size: Sequence[int],
    kernel: Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
) -> Float[Array, "n *spatial c"]:
    """The transpose of `unfold`: each window is added to the cells that `unfold` took it from.

    `x[n, p * stride + k * dilation - low, c] += patches[n, p, k, c]` for all `p` and `k`; what falls outside is
    dropped. Divided by `fold(unfold(ones))` it is the mean of overlapping windows, and `fold(unfold(x))` is `x` again.

    Shapes: `patches` is `(batch, *windows, prod(kernel), channels)`, the result `(batch, *spatial_size, channels)`. The
    dtype stays; integers become the default float.

    Arguments:
      spatial_size: sizes of the spatial axes of the result: those of the input of `unfold`.
      kernel, stride, padding, dilation: as in `unfold`.

    Errors: ShapeError for patches that are not of the shape that `unfold` gives. The numbers are those of
    `torch.nn.functional.fold`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> windows = fx.unfold(jnp.array([1.0, 2.0, 4.0])[None, :, None], (2,))
    >>> fx.fold(windows, (3,), (2,))[0, :, 0].tolist()
    [1.0, 4.0, 4.0]
    """
    kernel = kernel_sizes("fold", kernel)
    dims = len(kernel)
    if not isinstance(spatial_size, tuple | list) or len(spatial_size) != dims:
        raise ArgumentError(
            f"fold: expected spatial_size to be {dims} sizes, as many as the kernel {kernel} has, got {spatial_size!r}."
        )
    sizes = per_axis("fold", "spatial_size", spatial_size, dims)
    strides, dilations = per_axis("fold", "stride", stride, dims), per_axis("fold", "dilation", dilation, dims)
    pairs = resolved(padding_pairs("fold", padding, dims), sizes, kernel, strides, dilations)
    counts = window_counts(sizes, kernel, strides, pairs, dilations)
    patches = jnp.asarray(patches)
    if patches.ndim != dims + 3 or patches.shape[1:-1] != (*counts, math.prod(kernel)):
        expected = ", ".join(map(str, ("batch", *counts, math.prod(kernel), "channels")))
        raise ShapeError(
            f"fold: expected patches ({expected}), as unfold gives for spatial axes {sizes}, got {patches.shape}. "
            "Give both the same kernel, stride, padding and dilation."
        )
    if not jnp.issubdtype(patches.dtype, jnp.inexact):
        patches = patches.astype(jnp.result_type(float))
    picture = jax.ShapeDtypeStruct((patches.shape[0], *sizes, patches.shape[-1]), patches.dtype)
    transpose = jax.linear_transpose(
        lambda x: unfold(x, kernel, stride=strides, padding=pairs, dilation=dilations), picture
    )
    return transpose(patches)[0]


def pixel_shuffle(x: Shaped[Array, "n *spatial cr"], factor: int) -> Shaped[Array, "n *larger c"]:
    """Channels become cells: `factor` times as many along each spatial axis.

    `y[n, h * r + i, w * r + j, c] = x[n, h, w, (c * r + i) * r + j]` for a factor `r` and two spatial axes; with one or
    three likewise.

    Shapes: `x` is `(batch, *spatial, channels * factor**dims)` with `dims` one to three spatial axes, the result
    `(batch, *(spatial * factor), channels)`. The dtype stays.

    Errors: ShapeError for channels that `factor**dims` does not divide. Source: Shi et al. 2016; the numbers are those
    of `torch.nn.functional.pixel_shuffle` with the channels moved last.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> fx.pixel_shuffle(jnp.array([[[[1, 2, 3, 4]]]]), 2)[0, :, :, 0].tolist()
    [[1, 2], [3, 4]]
    """
    x, factor, dims = _shuffled("pixel_shuffle", x, factor)
    n, *spatial, channels = x.shape
    if channels % factor**dims:
        raise ShapeError(
            f"expected channels divisible by {factor**dims}, {factor} for each of {dims} spatial axes, got {x.shape}. "
            f"Let the layer before give {factor**dims} times the channels that are wanted."
        )
    x = x.reshape(n, *spatial, channels // factor**dims, *[factor] * dims)
    cells = (axis for i in range(dims) for axis in (1 + i, 2 + dims + i))
    return x.transpose(0, *cells, 1 + dims).reshape(n, *(size * factor for size in spatial), -1)


def pixel_unshuffle(x: Shaped[Array, "n *spatial c"], factor: int) -> Shaped[Array, "n *smaller cr"]:
    """Cells become channels: the inverse of `pixel_shuffle`.

    Shapes: `x` is `(batch, *spatial, channels)` with `dims` one to three spatial axes, the result
    `(batch, *(spatial / factor), channels * factor**dims)`. The dtype stays.

    Errors: ShapeError for spatial axes that `factor` does not divide. The numbers are those of
    `torch.nn.functional.pixel_unshuffle` with the channels moved last.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> fx.pixel_unshuffle(jnp.array([[[[1], [2]], [[3], [4]]]]), 2).tolist()
    [[[[1, 2, 3, 4]]]]
    """
    x, factor, dims = _shuffled("pixel_unshuffle", x, factor)
    n, *spatial, channels = x.shape
    if any(size % factor for size in spatial):
        raise ShapeError(
            f"pixel_unshuffle: expected spatial axes divisible by {factor}, got {x.shape}. Pad or crop the input."
        )
    smaller = [size // factor for size in spatial]
    x = x.reshape(n, *(part for size in smaller for part in (size, factor)), channels)
    blocks, within = range(1, 2 * dims, 2), range(2, 2 * dims + 1, 2)
    return x.transpose(0, *blocks, 2 * dims + 1, *within).reshape(n, *smaller, channels * factor**dims)


def _shuffled(name: str, x: Any, factor: Any) -> tuple[Shaped[Array, ...], int, int]:
    """`x` as an array, the factor as a number, and how many spatial axes there are."""
    x = jnp.asarray(x)
    dims = x.ndim - 2
    if not 1 <= dims <= MOST_DIMS:
        raise ShapeError(
            f"expected input (batch, *spatial, channels) with 1 to {MOST_DIMS} spatial axes, got {x.shape}. "
            "Reshape it; a single example has a batch axis too: x[None]."
        )
    return x, per_axis(name, "factor", factor, 1)[0], dims
