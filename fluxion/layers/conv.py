"""Layers that convolve: `Conv`, `DepthwiseConv`, `ConvTranspose`; and `Pad`, which widens the spatial axes.

Inputs are `(batch, *spatial, channels)` with one, two or three spatial axes, as many as the kernel has sizes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import jax.numpy as jnp

from fluxion.errors import ArgumentError, ShapeError
from fluxion.layers.inputs import as_array, as_input, drawn, function, moved_channels, plus, whole, whole_or_none
from fluxion.ops.activations import identity
from fluxion.ops.conv import conv, conv_transpose, output_paddings
from fluxion.ops.initializers import glorot_uniform, zeros
from fluxion.ops.padding import Mode, check_mode, pad, pad_pairs
from fluxion.ops.windows import Padding, brief, check_rank, input_axes, kernel_sizes, padding_pairs, per_axis
from fluxion.transform.sizes import ensure_sized
from fluxion.tree.layer import Layer

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Shaped


class _Convolution(Layer):
    """What the layers of this family share: options, and a weight that is drawn once the channels are known."""

    _transposed: ClassVar[bool] = False  # whether the weight is that of a convolution from out to in

    weight: Array
    bias: Array | None  # (out,)
    activation: Callable[..., Any]
    stride: int | tuple[int, ...]
    padding: Padding
    dilation: int | tuple[int, ...]
    groups: int
    flip: bool
    recipe: tuple[tuple[int, ...], int | None, bool, Callable[..., Any]] | None  # (kernel, out, bias, init) until then

    def _prepare(
        self,
        kernel: Sequence[int],
        in_channels: int | None,
        out_channels: int | None,
        activation: Callable[..., Any],
        stride: int | Sequence[int],
        padding: Padding,
        dilation: int | Sequence[int],
        groups: int,
        flip: bool,
        bias: bool,
        init: Callable[..., Any],
    ) -> None:
        name = type(self).__name__
        sizes = kernel_sizes(name, kernel)
        self.weight = self.bias = None  # type: ignore[assignment]
        self.activation = function(name, "activation", activation)
        self.stride = brief(per_axis(name, "stride", stride, len(sizes)))
        self.padding = brief(padding_pairs(name, padding, len(sizes)))
        self.dilation = brief(per_axis(name, "dilation", dilation, len(sizes)))
        self.groups = whole(name, "groups", groups)
        self.flip = bool(flip)
        out = whole_or_none(name, "out_channels", out_channels)
        self.recipe = (sizes, out, bool(bias), function(name, "init", init))
        size = whole_or_none(name, "in_channels", in_channels)
        reason = self._misfit(size, out)
        if reason:
            raise ArgumentError(f"{name}: {reason}")
        if size is not None:
            self._build(size)

    def _build(self, size: int) -> None:
        if self.recipe is not None:
            kernel, out, bias, init = self.recipe
            out = size if out is None else out
            channels = (out // self.groups, size) if self._transposed else (size // self.groups, out)
            self.weight = drawn(type(self).__name__, init, *kernel, *channels)
            self.bias = zeros(out, dtype=self.weight.dtype) if bias else None
            self.recipe = None

    def _misfit(self, size: int | None, out: int | None) -> str:
        """What is wrong with these numbers of channels, as far as they are known; nothing if they fit."""
        if any(channels is not None and channels % self.groups for channels in (size, out)):
            return (
                f"expected groups that divide the channels in and out, got {self.groups} groups for {size} channels "
                f"in and {out} out. Use a divisor of {math.gcd(size or 0, out or 0)}."
            )
        return ""

    @property
    def unsized(self) -> bool:
        return self.recipe is not None

    def infer(self, shape: tuple[int, ...]) -> None:
        if self.recipe is not None:
            kernel, out, _, _ = self.recipe
            check_rank(shape, len(kernel))
            reason = self._misfit(shape[-1], out)
            if reason:
                raise ShapeError(f"{reason} The input has shape {shape}.")
            self._build(shape[-1])

    def _sizes(self) -> tuple[tuple[int, ...], int | None, int | None]:
        """Kernel, channels in, channels out."""
        if self.recipe is not None:
            return self.recipe[0], None, self.recipe[1]
        *kernel, first, last = self.weight.shape
        size, out = (last, first * self.groups) if self._transposed else (first * self.groups, last)
        return tuple(kernel), size, out

    def config(self) -> dict[str, Any]:
        kernel, size, out = self._sizes()
        return {
            "kernel": kernel,
            "in_channels": size,
            "out_channels": out,
            "activation": self.activation,
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
            "flip": self.flip,
            "bias": self.recipe[2] if self.recipe else self.bias is not None,
            "init": self.recipe[3] if self.recipe else glorot_uniform,
        }

    def _given(self, x: Any) -> Array:
        """`x` in the dtype of the weight, checked: rank and channels."""
        ensure_sized(self, x)
        x = as_input(x, self.weight.dtype)
        kernel, size, out = self._sizes()
        check_rank(x.shape, len(kernel), size)
        given = x.shape[-1]
        if given != size:
            outs = "" if self.config()["out_channels"] is None else f", {out}"
            fitting = [n for n in (given, None) if not outs or not self._misfit(n, out)]
            remedy = f" Use {' or '.join(f'{type(self).__name__}({kernel}, {n}{outs})' for n in fitting)}."
            remedy = moved_channels(x.shape, size) or remedy
            raise ShapeError(f"expected input {input_axes(len(kernel), str(size))}, got {x.shape}.{remedy}")
        return x


class Conv(_Convolution):
    """`activation(cross-correlation of x with weight + bias)`: a window slides over one, two or three spatial axes.

    `y[n, p, o] = sum over k and i of x[n, p * stride + k * dilation - low, i] * weight[k, i, o]`; see `fx.conv`.

    Shapes: input `(batch, *spatial, in_channels)`, output `(batch, *windows, out_channels)` with
    `(size + low + high - (kernel - 1) * dilation - 1) // stride + 1` windows along each axis; `weight` is
    `(*kernel, in_channels // groups, out_channels)`, `bias` `(out_channels,)`. The input is converted to the dtype
    of the weight.

    Arguments:
      kernel: sizes of the window, one per spatial axis: `(3,)` for sequences, `(3, 3)` for images.
      in_channels: size of the input's last axis; None to infer it (`fx.autosize`).
      out_channels: size of the output's last axis.
      activation: function applied to the result.
      stride: cells from one window to the next, a number or one per axis.
      padding: zeros around the input: a number, one per axis, a pair (low, high) per axis, or "same" for
        `ceil(size / stride)` windows, the odd cell on the high side.
      dilation: cells from one cell of the kernel to the next, a number or one per axis.
      groups: channels in and out fall into so many groups, each output seeing the inputs of its group only.
      flip: whether the kernel is reversed: the convolution of the textbooks, and of `Flux.Conv`.
      bias: whether a bias is added. It starts at 0.
      init: initializer of the weight, called with `(*kernel, in_channels // groups, out_channels)`, whose fans are
        both times the cells of the kernel.

    Errors: ShapeError for an input of another rank or number of channels, or smaller than the kernel. The numbers are
    those of `torch.nn.Conv1d`, `Conv2d` and `Conv3d` with the axes of the weight moved.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> layer = fx.Conv((3, 3), 1, 16, fx.relu, padding="same")
    >>> layer, layer.weight.shape, layer(jnp.ones((8, 28, 28, 1))).shape
    (Conv((3, 3), 1, 16, relu, padding='same'), (3, 3, 1, 16), (8, 28, 28, 16))
    """

    def __init__(
        self,
        kernel: Sequence[int],
        in_channels: int | None,
        out_channels: int,
        activation: Callable[..., Any] = identity,
        *,
        stride: int | Sequence[int] = 1,
        padding: Padding = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        flip: bool = False,
        bias: bool = True,
        init: Callable[..., Any] = glorot_uniform,
    ) -> None:
        out = whole("Conv", "out_channels", out_channels)
        self._prepare(kernel, in_channels, out, activation, stride, padding, dilation, groups, flip, bias, init)

    def __call__(self, x: Shaped[Array, "n *spatial in"]) -> Float[Array, "n *windows out"]:
        return conv(
            self._given(x),
            self.weight,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            flip=self.flip,
            bias=self.bias,
            activation=self.activation,
        )


class DepthwiseConv(Conv):
    """A `Conv` of each channel by itself: `groups = in_channels`, so that an output sees one channel of the input.

    Output `o` belongs to channel `o // (out_channels // in_channels)`.

    Shapes: input `(batch, *spatial, in_channels)`, output `(batch, *windows, out_channels)`; `weight` is
    `(*kernel, 1, out_channels)`, `bias` `(out_channels,)`.

    Arguments:
      in_channels: size of the input's last axis; None to infer it (`fx.autosize`).
      out_channels: size of the output's last axis, a multiple of `in_channels`; None for the same.
      kernel, activation, stride, padding, dilation, flip, bias, init: as for `Conv`.

    Errors: as for `Conv`; ArgumentError for `out_channels` that are no multiple. The numbers are those of
    `torch.nn.Conv2d` with `groups=in_channels`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> layer = fx.DepthwiseConv((3, 3), 4, 8)
    >>> layer, layer.weight.shape, layer(jnp.ones((2, 9, 9, 4))).shape
    (DepthwiseConv((3, 3), 4, 8), (3, 3, 1, 8), (2, 7, 7, 8))
    """

    def __init__(
        self,
        kernel: Sequence[int],
        in_channels: int | None,
        out_channels: int | None = None,
        activation: Callable[..., Any] = identity,
        *,
        stride: int | Sequence[int] = 1,
        padding: Padding = 0,
        dilation: int | Sequence[int] = 1,
        flip: bool = False,
        bias: bool = True,
        init: Callable[..., Any] = glorot_uniform,
    ) -> None:
        self._prepare(kernel, in_channels, out_channels, activation, stride, padding, dilation, 1, flip, bias, init)

    def _build(self, size: int) -> None:
        self.groups = size
        super()._build(size)

    def _misfit(self, size: int | None, out: int | None) -> str:
        if size is None or out is None or out % size == 0:
            return ""
        return (
            f"expected out_channels that are a multiple of in_channels, got {out} for {size} channels in. "
            f"Use {size * -(-out // size)}."
        )

    def config(self) -> dict[str, Any]:
        config = super().config()
        del config["groups"]
        if config["out_channels"] == config["in_channels"]:
            config["out_channels"] = None
        return config


class ConvTranspose(_Convolution):
    """`activation(transpose of a Conv, applied to x, + bias)`: each cell of the input adds a kernel to the output.

    `y[n, p * stride + k * dilation - low, o] += x[n, p, i] * weight[k, o, i]`; see `fx.conv_transpose`. With a stride
    the output is larger than the input: this goes back where a `Conv` with the same options went.

    Shapes: input `(batch, *spatial, in_channels)`, output `(batch, *cells, out_channels)` with
    `(size - 1) * stride + (kernel - 1) * dilation + 1 - low - high + output_padding` cells along each axis; `weight`
    is `(*kernel, out_channels // groups, in_channels)`, that of the `Conv` from out to in; `bias` `(out_channels,)`.

    Arguments:
      kernel: sizes of the window, one per spatial axis.
      in_channels: size of the input's last axis; None to infer it (`fx.autosize`).
      out_channels: size of the output's last axis.
      activation: function applied to the result.
      stride: cells from one window of the output to the next, a number or one per axis.
      padding: cells dropped around the output: a number, one per axis, a pair (low, high) per axis, or "same" for
        `size * stride` cells.
      output_padding: cells more on the high side of the output, smaller than `stride` or `dilation`.
      dilation: cells from one cell of the kernel to the next, a number or one per axis.
      groups: channels in and out fall into so many groups.
      flip: whether the kernel is reversed.
      bias: whether a bias is added. It starts at 0.
      init: initializer of the weight, called with `(*kernel, out_channels // groups, in_channels)`.

    Errors: ShapeError for an input of another rank or number of channels. The numbers are those of
    `torch.nn.ConvTranspose1d`, `2d` and `3d` with the axes of the weight moved.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> layer = fx.ConvTranspose((4, 4), 16, 3, stride=2, padding="same")
    >>> layer.weight.shape, layer(jnp.ones((8, 7, 7, 16))).shape
    ((4, 4, 3, 16), (8, 14, 14, 3))
    """

    _transposed = True

    output_padding: int | tuple[int, ...]

    def __init__(
        self,
        kernel: Sequence[int],
        in_channels: int | None,
        out_channels: int,
        activation: Callable[..., Any] = identity,
        *,
        stride: int | Sequence[int] = 1,
        padding: Padding = 0,
        output_padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        flip: bool = False,
        bias: bool = True,
        init: Callable[..., Any] = glorot_uniform,
    ) -> None:
        name = type(self).__name__
        out = whole(name, "out_channels", out_channels)
        sizes = kernel_sizes(name, kernel)
        strides = per_axis(name, "stride", stride, len(sizes))
        dilations = per_axis(name, "dilation", dilation, len(sizes))
        self.output_padding = brief(output_paddings(name, output_padding, padding, strides, dilations))
        self._prepare(kernel, in_channels, out, activation, stride, padding, dilation, groups, flip, bias, init)

    def config(self) -> dict[str, Any]:
        return {**super().config(), "output_padding": self.output_padding}

    def __call__(self, x: Shaped[Array, "n *spatial in"]) -> Float[Array, "n *cells out"]:
        y = conv_transpose(
            self._given(x),
            self.weight,
            stride=self.stride,
            padding=self.padding,
            output_padding=self.output_padding,
            dilation=self.dilation,
            groups=self.groups,
            flip=self.flip,
        )
        return self.activation(plus(y, self.bias))


class Pad(Layer):
    """Cells added before and after each spatial axis, as `fx.pad` does, so that it can stand in a `Chain`.

    Shapes: input `(batch, *spatial, channels)`, output with `size + low + high` cells along each spatial axis. The
    dtype is that of the input.

    Arguments:
      padding: a number for both sides of every axis, one per axis, or a pair (low, high) per axis.
      mode: what the new cells hold: `"constant"`, `"reflect"`, `"symmetric"`, `"edge"` or `"circular"`; see `fx.pad`.
      value: the constant of mode `"constant"`.

    Errors: ShapeError for an input of another rank, or an axis too short for the mode. The numbers are those of
    `torch.nn.ReflectionPad2d` and its relatives.

    >>> import fluxion as fx
    >>> fx.outputsize(fx.Chain(fx.Pad(((0, 1), (2, 2)), "reflect"), fx.Conv((3, 3), 1, 8)), (None, 10, 10, 1))
    (None, 9, 12, 8)
    """

    padding: int | tuple[Any, ...]
    mode: Mode
    value: float

    def __init__(
        self,
        padding: int | Sequence[int] | Sequence[tuple[int, int]],
        mode: Mode = "constant",
        *,
        value: float = 0.0,
    ) -> None:
        check_mode("Pad", mode, value)
        axes = len(padding) if isinstance(padding, tuple | list) else 1
        short = brief(pad_pairs("Pad", padding, axes))
        self.padding = (short,) * axes if isinstance(short, int) and isinstance(padding, tuple | list) else short
        self.mode = mode
        self.value = value

    def __call__(self, x: Shaped[Array, "n *spatial channels"]) -> Shaped[Array, "n *padded channels"]:
        return pad(jnp.asarray(as_array(x)), self.padding, self.mode, value=self.value)
