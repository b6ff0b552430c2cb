"""Pooling: `MaxPooling2D`, `AveragePooling2D`, `GlobalAveragePooling2D`, ..., for one, two and three spatial axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Unpack

import jax.numpy as jnp

from fluxion import ops
from fluxion.dialects.keras.layers.base import BuiltIn, LayerOptions, array, channels_last, floats, numbers, one_of
from fluxion.ops.windows import check_rank

Sizes = int | Sequence[int]


class _Pooling(BuiltIn):
    """A window of `pool_size` cells that moves by `strides`; "same" padding gives `ceil(size / stride)` windows."""

    dims: ClassVar[int]
    pool: ClassVar[Callable[..., Any]]

    def __init__(
        self,
        pool_size: Sizes,
        strides: Sizes | None = None,
        padding: str = "valid",
        data_format: str | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        name = type(self).__name__
        size = numbers(name, "pool_size", pool_size, self.dims)
        self.keep(
            pool_size=size,
            strides=size if strides is None else numbers(name, "strides", strides, self.dims),
            padding=one_of(name, "padding", padding, ("valid", "same")),
            data_format=channels_last(name, data_format),
        )

    def call(self, inputs: Any) -> Any:
        pad = "same" if self.padding == "same" else 0
        return type(self).pool(array(inputs), self.pool_size, stride=self.strides, padding=pad)


class _MaxPooling(_Pooling):
    pool = staticmethod(ops.max_pool)

    def __init__(
        self,
        pool_size: Sizes = 2,
        strides: Sizes | None = None,
        padding: str = "valid",
        data_format: str | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(pool_size, strides, padding, data_format, **options)


class MaxPooling1D(_MaxPooling):
    """The largest value of each window of `pool_size` time steps."""

    dims = 1


class MaxPooling2D(_MaxPooling):
    """The largest value of each window of an image.

    >>> from fluxion.dialects import keras
    >>> keras.layers.MaxPooling2D()(keras.ops.ones((8, 28, 28, 3))).shape
    (8, 14, 14, 3)
    """

    dims = 2


class MaxPooling3D(_MaxPooling):
    """The largest value of each window of a volume."""

    dims = 3


def _mean(x: Any, size: Any, *, stride: Any, padding: Any) -> Any:
    return ops.mean_pool(x, size, stride=stride, padding=padding, count_padding=False)


class _AveragePooling(_Pooling):
    pool = staticmethod(_mean)


class AveragePooling1D(_AveragePooling):
    """The mean of each window of `pool_size` time steps; cells of the padding do not count."""

    dims = 1


class AveragePooling2D(_AveragePooling):
    """The mean of each window of an image; cells of the padding do not count."""

    dims = 2


class AveragePooling3D(_AveragePooling):
    """The mean of each window of a volume; cells of the padding do not count."""

    dims = 3


class _GlobalPooling(BuiltIn):
    """One number for each channel of an example; with `keepdims` the spatial axes stay, with size 1."""

    dims: ClassVar[int]

    def __init__(self, data_format: str | None = None, keepdims: bool = False, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.keep(data_format=channels_last(type(self).__name__, data_format), keepdims=bool(keepdims))

    def call(self, inputs: Any) -> Any:
        x = array(inputs)
        check_rank(x.shape, self.dims)
        return self.pooled(x, tuple(range(1, self.dims + 1)))

    def pooled(self, x: Any, axes: tuple[int, ...]) -> Any:
        raise NotImplementedError


class _GlobalMax(_GlobalPooling):
    def pooled(self, x: Any, axes: tuple[int, ...]) -> Any:
        return jnp.max(x, axes, keepdims=self.keepdims)


class _GlobalMean(_GlobalPooling):
    def pooled(self, x: Any, axes: tuple[int, ...]) -> Any:
        return jnp.mean(floats(x), axes, keepdims=self.keepdims)


class GlobalMaxPooling1D(_GlobalMax):
    """The largest value of each feature over time."""

    dims = 1


class GlobalMaxPooling2D(_GlobalMax):
    """The largest value of each channel of an image."""

    dims = 2


class GlobalMaxPooling3D(_GlobalMax):
    """The largest value of each channel of a volume."""

    dims = 3


class GlobalAveragePooling1D(_GlobalMean):
    """The mean of each feature over time, over the steps that count where there is a mask.

    >>> from fluxion.dialects import keras
    >>> x, mask = keras.ops.array([[[1.0], [3.0], [9.0]]]), keras.ops.array([[True, True, False]])
    >>> keras.layers.GlobalAveragePooling1D()(x, mask=mask).tolist()
    [[2.0]]
    """

    dims = 1

    def __init__(self, data_format: str | None = None, keepdims: bool = False, **options: Unpack[LayerOptions]) -> None:
        super().__init__(data_format, keepdims, **options)
        self.supports_masking = True

    def call(self, inputs: Any, mask: Any = None) -> Any:
        if mask is None:
            return super().call(inputs)
        x = floats(inputs)
        check_rank(x.shape, 1)
        kept = jnp.asarray(mask).astype(x.dtype)[:, :, None]
        return jnp.sum(x * kept, 1, keepdims=self.keepdims) / jnp.sum(kept, 1, keepdims=self.keepdims)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return None


class GlobalAveragePooling2D(_GlobalMean):
    """The mean of each channel of an image.

    >>> from fluxion.dialects import keras
    >>> keras.layers.GlobalAveragePooling2D()(keras.ops.ones((8, 4, 4, 3))).shape
    (8, 3)
    """

    dims = 2


class GlobalAveragePooling3D(_GlobalMean):
    """The mean of each channel of a volume."""

    dims = 3


MaxPool1D, MaxPool2D, MaxPool3D = MaxPooling1D, MaxPooling2D, MaxPooling3D
AvgPool1D, AvgPool2D, AvgPool3D = AveragePooling1D, AveragePooling2D, AveragePooling3D
GlobalMaxPool1D, GlobalMaxPool2D, GlobalMaxPool3D = GlobalMaxPooling1D, GlobalMaxPooling2D, GlobalMaxPooling3D
GlobalAvgPool1D, GlobalAvgPool2D = GlobalAveragePooling1D, GlobalAveragePooling2D
GlobalAvgPool3D = GlobalAveragePooling3D
