"""Convolutions: `Conv2D`, `Conv2DTranspose`, `DepthwiseConv2D`, `SeparableConv2D` and their like for other dimensions.

`padding` is "valid" (none), "same" (`ceil(size / stride)` cells, the odd one at the end) or, for sequences, "causal"
(as many zeros before the first step as no output sees the future).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Unpack

import jax.numpy as jnp

from fluxion import ops
from fluxion.dialects.keras.activations import fused
from fluxion.dialects.keras.layers.base import (
    BuiltIn,
    CommonOptions,
    channels_last,
    check_size,
    known_size,
    numbers,
    one_of,
    value,
)
from fluxion.errors import ArgumentError, ShapeError
from fluxion.layers.inputs import as_input, plus, whole
from fluxion.ops.windows import check_rank, reach

Sizes = int | Sequence[int]


class _Windowed(BuiltIn):
    """What convolutions have in common: windows, a bias, an activation."""

    dims: ClassVar[int]
    paddings: ClassVar[tuple[str, ...]] = ("valid", "same")

    def _windows(
        self,
        kernel_size: Sizes,
        strides: Sizes,
        padding: str,
        data_format: str | None,
        dilation_rate: Sizes,
        activation: Any,
        use_bias: bool,
    ) -> None:
        name, dims = type(self).__name__, self.dims
        self.keep(
            kernel_size=numbers(name, "kernel_size", kernel_size, dims),
            strides=numbers(name, "strides", strides, dims),
            padding=one_of(name, "padding", padding, self.paddings),
            data_format=channels_last(name, data_format),
            dilation_rate=numbers(name, "dilation_rate", dilation_rate, dims),
            activation=activation,
            use_bias=bool(use_bias),
        )
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ArgumentError(
                f"{name}: expected strides or dilation_rate to be 1, got {self.strides} and {self.dilation_rate}."
            )

    def _pad(self) -> Any:
        """The padding as Fluxion's convolutions take it."""
        if self.padding == "causal":
            return ((self.dilation_rate[0] * (self.kernel_size[0] - 1), 0),)
        return "same" if self.padding == "same" else 0

    def _input(self, inputs: Any, dtype: Any, channels: int) -> Any:
        x = as_input(inputs, dtype)
        check_rank(x.shape, self.dims, channels)
        check_size(x, -1, channels)
        return x


class _Conv(_Windowed):
    """`activation(convolution of x with kernel + bias)`; kernel `(*kernel_size, in // groups, filters)`."""

    def __init__(
        self,
        filters: int,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Sizes = 1,
        groups: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **options: Unpack[CommonOptions],
    ) -> None:
        super().__init__(**options)
        name = type(self).__name__
        self.keep(filters=whole(name, "filters", filters), groups=whole(name, "groups", groups))
        if self.filters % self.groups:
            raise ArgumentError(f"{name}: expected groups that divide filters, got {groups} and {filters}.")
        self._windows(kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias)
        self.keep(
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        name = type(self).__name__
        check_rank(input_shape, self.dims)  # type: ignore[arg-type]
        channels = known_size(name, input_shape)
        if channels % self.groups:
            raise ShapeError(f"{name}: expected channels that {self.groups} groups divide, got {input_shape}.")
        self.kernel = self.weight("kernel", (*self.kernel_size, channels // self.groups, self.filters))
        self.bias = self.weight("bias", (self.filters,)) if self.use_bias else None

    def call(self, inputs: Any) -> Any:
        kernel = self.kernel.value
        return ops.conv(
            self._input(inputs, kernel.dtype, kernel.shape[-2] * self.groups),
            kernel,
            stride=self.strides,
            padding=self._pad(),
            dilation=self.dilation_rate,
            groups=self.groups,
            bias=value(self.bias),
            activation=fused(self.activation),
        )


class Conv1D(_Conv):
    """Convolution over sequences `(batch, time, channels)`.

    >>> from fluxion.dialects import keras
    >>> keras.layers.Conv1D(4, 3, padding="causal")(keras.ops.ones((8, 10, 3))).shape
    (8, 10, 4)
    """

    dims, paddings = 1, ("valid", "same", "causal")


class Conv2D(_Conv):
    """Convolution over images `(batch, height, width, channels)`.

    >>> from fluxion.dialects import keras
    >>> layer = keras.layers.Conv2D(16, 3, strides=2, padding="same", activation="relu")
    >>> layer(keras.ops.ones((8, 28, 28, 3))).shape, layer.kernel.shape
    ((8, 14, 14, 16), (3, 3, 3, 16))
    """

    dims = 2


class Conv3D(_Conv):
    """Convolution over volumes `(batch, depth, height, width, channels)`."""

    dims = 3


class _ConvTranspose(_Windowed):
    """The transpose of a convolution from `filters` channels; kernel `(*kernel_size, filters, in)`.

    Without `output_padding` the result has `size * stride` cells ("same"), or `size * stride + max(kernel - stride, 0)`
    ("valid"); with it `(size - 1) * stride + kernel + output_padding` cells ("valid"), or as many less the kernel and
    plus 1 for an odd one ("same").
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: str = "valid",
        output_padding: Sizes | None = None,
        data_format: str | None = None,
        dilation_rate: Sizes = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **options: Unpack[CommonOptions],
    ) -> None:
        super().__init__(**options)
        name = type(self).__name__
        self.keep(filters=whole(name, "filters", filters))
        self._windows(kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias)
        extra = None if output_padding is None else numbers(name, "output_padding", output_padding, self.dims, 0)
        if extra is not None and any(e >= s for e, s in zip(extra, self.strides, strict=True)):
            raise ArgumentError(
                f"{name}: expected output_padding less than strides {self.strides}, got {output_padding!r}."
            )
        self.keep(
            output_padding=extra,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        check_rank(input_shape, self.dims)  # type: ignore[arg-type]
        channels = known_size(type(self).__name__, input_shape)
        self.kernel = self.weight("kernel", (*self.kernel_size, self.filters, channels))
        self.bias = self.weight("bias", (self.filters,)) if self.use_bias else None

    def call(self, inputs: Any) -> Any:
        kernel = self.kernel.value
        x = self._input(inputs, kernel.dtype, kernel.shape[-1])
        ends = [self._ends(axis) for axis in range(self.dims)]
        y = ops.conv_transpose(
            x,
            kernel,
            stride=self.strides,
            padding=tuple((low, max(high, 0)) for low, high in ends),
            dilation=self.dilation_rate,
        )
        if any(high < 0 for _, high in ends):  # cells that no window reaches
            y = jnp.pad(y, ((0, 0), *((0, max(-high, 0)) for _, high in ends), (0, 0)))
        return fused(self.activation)(plus(y, value(self.bias)))

    def _ends(self, axis: int) -> tuple[int, int]:
        """The cells dropped before and after the result along a spatial axis; below 0 where cells are added."""
        size, stride = reach(self.kernel_size[axis], self.dilation_rate[axis]), self.strides[axis]
        extra = None if self.output_padding is None else self.output_padding[axis]
        if self.padding == "valid":
            return 0, -(max(stride - size, 0) if extra is None else extra)
        total = stride + size - 2 if extra is None else size + size % 2 - 2 + extra
        low = min(total - total // 2, size - 1)
        return size - 1 - low, size - 1 - (total - low)


class Conv1DTranspose(_ConvTranspose):
    """The transpose of a `Conv1D`: sequences `strides` times as long.

    >>> from fluxion.dialects import keras
    >>> keras.layers.Conv1DTranspose(4, 3, strides=2, padding="same")(keras.ops.ones((8, 10, 3))).shape
    (8, 20, 4)
    """

    dims = 1


class Conv2DTranspose(_ConvTranspose):
    """The transpose of a `Conv2D`: images `strides` times as large.

    >>> from fluxion.dialects import keras
    >>> keras.layers.Conv2DTranspose(4, 3, strides=2, padding="same")(keras.ops.ones((8, 7, 7, 3))).shape
    (8, 14, 14, 4)
    """

    dims = 2


class Conv3DTranspose(_ConvTranspose):
    """The transpose of a `Conv3D`: volumes `strides` times as large."""

    dims = 3


class _DepthwiseConv(_Windowed):
    """`depth_multiplier` filters for each channel by itself; kernel `(*kernel_size, in, depth_multiplier)`."""

    def __init__(
        self,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: str = "valid",
        depth_multiplier: int = 1,
        data_format: str | None = None,
        dilation_rate: Sizes = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
        bias_constraint: Any = None,
        **options: Unpack[CommonOptions],
    ) -> None:
        super().__init__(**options)
        self.keep(depth_multiplier=whole(type(self).__name__, "depth_multiplier", depth_multiplier))
        self._windows(kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias)
        self.keep(
            depthwise_initializer=depthwise_initializer,
            bias_initializer=bias_initializer,
            depthwise_regularizer=depthwise_regularizer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            depthwise_constraint=depthwise_constraint,
            bias_constraint=bias_constraint,
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        check_rank(input_shape, self.dims)  # type: ignore[arg-type]
        channels = known_size(type(self).__name__, input_shape)
        self.kernel = self.add_weight(
            (*self.kernel_size, channels, self.depth_multiplier),
            self.depthwise_initializer,
            regularizer=self.depthwise_regularizer,
            name="kernel",
        )
        self.bias = self.weight("bias", (channels * self.depth_multiplier,)) if self.use_bias else None

    def call(self, inputs: Any) -> Any:
        kernel = self.kernel.value
        channels = kernel.shape[-2]
        return ops.conv(
            self._input(inputs, kernel.dtype, channels),
            kernel.reshape(*self.kernel_size, 1, channels * self.depth_multiplier),
            stride=self.strides,
            padding=self._pad(),
            dilation=self.dilation_rate,
            groups=channels,
            bias=value(self.bias),
            activation=fused(self.activation),
        )


class DepthwiseConv1D(_DepthwiseConv):
    """A convolution of each channel of a sequence by itself."""

    dims = 1


class DepthwiseConv2D(_DepthwiseConv):
    """A convolution of each channel of an image by itself.

    >>> from fluxion.dialects import keras
    >>> layer = keras.layers.DepthwiseConv2D(3, depth_multiplier=2)
    >>> layer(keras.ops.ones((8, 5, 5, 4))).shape, layer.kernel.shape
    ((8, 3, 3, 8), (3, 3, 4, 2))
    """

    dims = 2


class _SeparableConv(_Windowed):
    """A depthwise convolution, then one of single cells across the channels."""

    def __init__(
        self,
        filters: int,
        kernel_size: Sizes,
        strides: Sizes = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Sizes = 1,
        depth_multiplier: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        pointwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        pointwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
        pointwise_constraint: Any = None,
        bias_constraint: Any = None,
        **options: Unpack[CommonOptions],
    ) -> None:
        super().__init__(**options)
        name = type(self).__name__
        self.keep(
            filters=whole(name, "filters", filters),
            depth_multiplier=whole(name, "depth_multiplier", depth_multiplier),
        )
        self._windows(kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias)
        self.keep(
            depthwise_initializer=depthwise_initializer,
            pointwise_initializer=pointwise_initializer,
            bias_initializer=bias_initializer,
            depthwise_regularizer=depthwise_regularizer,
            pointwise_regularizer=pointwise_regularizer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            depthwise_constraint=depthwise_constraint,
            pointwise_constraint=pointwise_constraint,
            bias_constraint=bias_constraint,
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        check_rank(input_shape, self.dims)  # type: ignore[arg-type]
        channels = known_size(type(self).__name__, input_shape)
        several = channels * self.depth_multiplier
        self.depthwise_kernel = self.add_weight(
            (*self.kernel_size, channels, self.depth_multiplier),
            self.depthwise_initializer,
            regularizer=self.depthwise_regularizer,
            name="depthwise_kernel",
        )
        self.pointwise_kernel = self.add_weight(
            (*(1,) * self.dims, several, self.filters),
            self.pointwise_initializer,
            regularizer=self.pointwise_regularizer,
            name="pointwise_kernel",
        )
        self.bias = self.weight("bias", (self.filters,)) if self.use_bias else None

    def call(self, inputs: Any) -> Any:
        kernel = self.depthwise_kernel.value
        channels = kernel.shape[-2]
        y = ops.conv(
            self._input(inputs, kernel.dtype, channels),
            kernel.reshape(*self.kernel_size, 1, channels * self.depth_multiplier),
            stride=self.strides,
            padding=self._pad(),
            dilation=self.dilation_rate,
            groups=channels,
        )
        return ops.conv(y, self.pointwise_kernel.value, bias=value(self.bias), activation=fused(self.activation))


class SeparableConv1D(_SeparableConv):
    """A depthwise convolution of sequences, then one across the channels."""

    dims = 1


class SeparableConv2D(_SeparableConv):
    """A depthwise convolution of images, then one across the channels.

    >>> from fluxion.dialects import keras
    >>> layer = keras.layers.SeparableConv2D(16, 3)
    >>> layer(keras.ops.ones((8, 5, 5, 4))).shape, layer.pointwise_kernel.shape
    ((8, 3, 3, 16), (1, 1, 4, 16))
    """

    dims = 2


Convolution1D, Convolution2D, Convolution3D = Conv1D, Conv2D, Conv3D
Convolution1DTranspose, Convolution2DTranspose = Conv1DTranspose, Conv2DTranspose
Convolution3DTranspose = Conv3DTranspose
SeparableConvolution1D, SeparableConvolution2D = SeparableConv1D, SeparableConv2D
