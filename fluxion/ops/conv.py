"""Convolution over one, two or three spatial axes, and its transpose.

`x` is `(batch, *spatial, channels)`, a weight `(*kernel, in // groups, out)`. The public functions read and check
their arguments; `_convolve` gets everything resolved and is the one place where a convolution is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from fluxion import native
from fluxion.errors import ArgumentError, ShapeError
from fluxion.ops.activations import identity, relu
from fluxion.ops.windows import (
    MOST_DIMS,
    Padding,
    Pairs,
    check_rank,
    input_axes,
    padding_pairs,
    per_axis,
    reach,
    resolved,
    window_counts,
)

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Shaped


def conv(
    x: Shaped[Array, "n *spatial in"],
    weight: Shaped[Array, "*kernel in_of_group out"],
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    flip: bool = False,
    bias: Shaped[Array, " out"] | None = None,
    activation: Callable[[Array], Array] = identity,
) -> Float[Array, "n *windows out"]:
    """Cross-correlation: at each place of the window, the sum of the cells under it times `weight`.

    `y[n, p, o] = sum over k and i of x[n, p * stride + k * dilation - low, i] * weight[k, i, o]`, where `p` and `k`
    stand for one index per spatial axis, `low` is the padding before the axis, and cells outside of `x` are 0. The
    result is `activation(y + bias)`.

    Shapes: `x` is `(batch, *spatial, in)`, `weight` `(*kernel, in // groups, out)`, the result `(batch, *windows, out)`
    with `(size + low + high - (kernel - 1) * dilation - 1) // stride + 1` windows along each axis.

    Arguments:
      x, weight: arrays, promoted to one floating dtype.
      stride: cells from one window to the next, a number or one per axis.
      padding: zeros around `x`: a number, one per axis, a pair (low, high) per axis, or "same" for
        `ceil(size / stride)` windows, the odd cell on the high side.
      dilation: cells from one cell of the kernel to the next, a number or one per axis.
      groups: channels in and out fall into so many groups, each output seeing the inputs of its group only.
      flip: whether the kernel is reversed along its spatial axes: the convolution of the textbooks, and of Flux.
      bias: a number per channel out, or None.
      activation: function applied to the result. On a CPU `fx.relu` and the bias cost no pass of their own.

    Errors: ShapeError for arrays that do not fit, or a kernel larger than the padded input. The numbers are those of
    `torch.nn.functional.conv1d`, `conv2d` and `conv3d`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> x, w = jnp.array([1.0, 2.0, 4.0, 8.0]), jnp.array([1.0, 10.0])
    >>> fx.conv(x[None, :, None], w[:, None, None])[0, :, 0].tolist()
    [21.0, 42.0, 84.0]
    >>> fx.conv(x[None, :, None], w[:, None, None], flip=True, padding="same", stride=2)[0, :, 0].tolist()
    [12.0, 48.0]
    """
    x, weight = _promoted(x, weight)
    dims = _kernel_dims(weight)
    strides, dilations = per_axis("conv", "stride", stride, dims), per_axis("conv", "dilation", dilation, dims)
    padding = padding_pairs("conv", padding, dims)
    kernel, (size, out) = weight.shape[:dims], weight.shape[dims:]
    _check_groups("conv", groups, out, weight.shape)
    _check_channels(x.shape, dims, size * groups)
    pairs = resolved(padding, x.shape[1:-1], kernel, strides, dilations)
    window_counts(x.shape[1:-1], kernel, strides, pairs, dilations)
    if flip:
        weight = jnp.flip(weight, range(dims))
    if bias is not None:
        bias = jnp.asarray(bias)
        if bias.shape != (out,):
            raise ShapeError(f"expected a bias ({out},), a number per channel out, got {bias.shape}.")
    return _convolve(x, weight, strides, pairs, (1,) * dims, dilations, groups, bias, activation)


def conv_transpose(
    x: Shaped[Array, "n *spatial in"],
    weight: Shaped[Array, "*kernel out_of_group in"],
    *,
    stride: int | Sequence[int] = 1,
    padding: Padding = 0,
    output_padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    flip: bool = False,
) -> Float[Array, "n *cells out"]:
    """The transpose of `conv` as a linear map: each cell of `x` adds a multiple of `weight` to a window of the result.

    `y[n, p * stride + k * dilation - low, o] += x[n, p, i] * weight[k, o, i]` for all `p`, `k`, `i`; what falls outside
    is dropped. It is the gradient with respect to its input of the `conv` that has this weight and these options,
    and goes from `out` channels to `in`.

    Shapes: `x` is `(batch, *spatial, in)`, `weight` `(*kernel, out // groups, in)`, the result `(batch, *cells, out)`
    with `(size - 1) * stride + (kernel - 1) * dilation + 1 - low - high + output_padding` cells along each axis.

    Arguments:
      x, weight: arrays, promoted to one floating dtype.
      stride: cells from one window of the result to the next, a number or one per axis.
      padding: cells dropped around the result: a number, one per axis, a pair (low, high) per axis, or "same" for
        `size * stride` cells.
      output_padding: cells more on the high side. With a stride, inputs of several sizes have a `conv` of one size;
        this says which is meant. Smaller than `stride` or `dilation`.
      dilation: cells from one cell of the kernel to the next, a number or one per axis.
      groups: channels in and out fall into so many groups.
      flip: whether the kernel is reversed along its spatial axes.

    Errors: ShapeError for arrays that do not fit, or where no cell is left. The numbers are those of
    `torch.nn.functional.conv_transpose1d`, `2d` and `3d`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> x, w = jnp.array([1.0, 2.0]), jnp.array([1.0, 10.0, 100.0])
    >>> fx.conv_transpose(x[None, :, None], w[:, None, None], stride=2)[0, :, 0].tolist()
    [1.0, 10.0, 102.0, 20.0, 200.0]
    """
    x, weight = _promoted(x, weight)
    dims = _kernel_dims(weight)
    kernel, (out, size) = weight.shape[:dims], weight.shape[dims:]
    strides = per_axis("conv_transpose", "stride", stride, dims)
    dilations = per_axis("conv_transpose", "dilation", dilation, dims)
    extra = output_paddings("conv_transpose", output_padding, padding, strides, dilations)
    pairs = padding_pairs("conv_transpose", padding, dims)
    _check_groups("conv_transpose", groups, size, weight.shape)
    _check_channels(x.shape, dims, size)
    reaches = tuple(map(reach, kernel, dilations))
    if pairs == "same":
        pairs = resolved(
            "same", [n * s for n, s in zip(x.shape[1:-1], strides, strict=True)], kernel, strides, dilations
        )
        extra = tuple(max(s - r, 0) for s, r in zip(strides, reaches, strict=True))
    cells = tuple(
        (n - 1) * s + r - low - high + e
        for n, s, r, (low, high), e in zip(x.shape[1:-1], strides, reaches, pairs, extra, strict=True)
    )
    if min(cells) < 1:
        raise ShapeError(
            f"expected an input {input_axes(dims, size)} that leaves cells after padding, got {x.shape}, which would "
            f"leave {cells}. Use less padding."
        )
    if _in_library(strides, dilations) and native.takes(x, weight):
        from fluxion.native.convolution import transposed  # here, because it loads Pallas

        if flip:
            weight = jnp.flip(weight, range(dims))
        ends = tuple((low, high - e) for (low, high), e in zip(pairs, extra, strict=True))
        if dims == 2:
            return transposed(x, weight, strides, ends, cells, dilations, groups)
        row = transposed(x[:, None], weight[None], (1, *strides), ((0, 0), *ends), (1, *cells), (1, *dilations), groups)
        return jnp.squeeze(row, 1)
    around = tuple((r - 1 - low, r - 1 - high + e) for r, (low, high), e in zip(reaches, pairs, extra, strict=True))
    # The window slides backwards over the cells of x, `stride` apart; in and out change places within each group.
    if not flip:
        weight = jnp.flip(weight, range(dims))
    weight = weight.reshape(*kernel, out, groups, size // groups).swapaxes(-3, -1)
    weight = weight.reshape(*kernel, size // groups, groups * out)
    return _convolve(x, weight, (1,) * dims, around, strides, dilations, groups)


def _convolve(
    x: Array,
    weight: Array,
    stride: tuple[int, ...],
    padding: Pairs,
    spread: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    bias: Array | None = None,
    activation: Callable[[Array], Array] = identity,
) -> Array:
    """Cross-correlation with everything resolved; the cells of `x` are `spread` apart, with zeros between them.

    Padding may be negative: it crops. Where the C++ library has this convolution it computes it, by the same formula:
    2 to 20 times as fast as XLA's own on a CPU, and far more than that in groups or inside a loop (`lax.scan`).
    """
    if max(spread) == 1 and _in_library(stride, dilation) and native.takes(x, weight):
        from fluxion.native.convolution import convolution  # here, because it loads Pallas

        fused = bias is not None and native.takes(bias)
        rectified = fused and activation is relu
        row = len(stride) == 1
        if row:
            x, weight, stride, padding = x[:, None], weight[None], (1, *stride), ((0, 0), *padding)
            dilation = (1, *dilation)
        several, out = weight.shape[-1] // groups, weight.shape[-1]
        if groups > 1 and weight.shape[-2] == 1 and 1 < several < 8:
            # Too few channels of a group for a vector: each of them with its own copy of the channel in is faster.
            x, groups = jnp.repeat(x, several, axis=-1, total_repeat_length=out), out
        y = convolution(x, weight, stride, padding, bias if fused else None, rectified, dilation, groups)
        if row:
            y = jnp.squeeze(y, 1)
        bias, activation = None if fused else bias, identity if rectified else activation
    else:
        spatial = "DHW"[-len(stride) :]
        y = jax.lax.conv_general_dilated(
            x,
            weight,
            stride,
            padding,
            spread,
            dilation,
            (f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"),
            groups,
        )
    return activation(y if bias is None else y + jnp.expand_dims(bias, range(y.ndim - 1)))


def _in_library(stride: tuple[int, ...], dilation: tuple[int, ...]) -> bool:
    """Whether the C++ library has convolutions with these options; it is the faster one at all of them."""
    return len(stride) <= 2 and all(s == 1 or d == 1 for s, d in zip(stride, dilation, strict=True))


def output_paddings(
    name: str, output_padding: Any, padding: Any, strides: Sequence[int], dilations: Sequence[int]
) -> tuple[int, ...]:
    """`output_padding` as one number per axis, checked against the other options of a transposed convolution."""
    extra = per_axis(name, "output_padding", output_padding, len(strides), least=0)
    if isinstance(padding, str) and any(extra):
        raise ArgumentError(
            f'{name}: expected no output_padding beside padding="same", which fixes the size, got {output_padding!r}.'
        )
    if any(e >= max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True)):
        raise ArgumentError(
            f"{name}: expected output_padding smaller than stride or dilation, got {output_padding!r} with stride "
            f"{tuple(strides)} and dilation {tuple(dilations)}. Give a larger kernel, or pad the result."
        )
    return extra


def _promoted(x: Any, weight: Any) -> tuple[Array, Array]:
    """Both as arrays of one floating (or complex) dtype."""
    x, weight = jnp.asarray(x), jnp.asarray(weight)
    dtype = jnp.result_type(x, weight)
    if not jnp.issubdtype(dtype, jnp.inexact):
        dtype = jnp.result_type(float)
    return x.astype(dtype), weight.astype(dtype)


def _kernel_dims(weight: Array) -> int:
    dims = weight.ndim - 2
    if not 1 <= dims <= MOST_DIMS or 0 in weight.shape:
        raise ShapeError(
            f"expected a weight (*kernel, in // groups, out) with 1 to {MOST_DIMS} kernel axes, got {weight.shape}."
        )
    return dims


def _check_groups(name: str, groups: Any, channels: int, shape: Sequence[int]) -> None:
    (groups,) = per_axis(name, "groups", groups, 1)
    if channels % groups:
        raise ArgumentError(
            f"{name}: expected groups that divide the last axis of the weight {tuple(shape)}, got {groups}."
        )


def _check_channels(shape: Sequence[int], dims: int, channels: int) -> None:
    """Rank and channels of an input. Layers look at the channels first, and add what to write instead."""
    check_rank(shape, dims, channels)
    if shape[-1] != channels:
        remedy = " Give it with channels last: jnp.moveaxis(x, 1, -1)." if shape[1] == channels else ""
        raise ShapeError(f"expected input {input_axes(dims, channels)}, got {tuple(shape)}.{remedy}")
