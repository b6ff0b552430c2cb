"""Layers that act in training: `Dropout` and its relatives, noise, and `ActivityRegularization`.

In training is what the `training` argument says, else whether the call is a training step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Unpack

import jax
import jax.numpy as jnp

from fluxion.dialects.keras import regularizers
from fluxion.dialects.keras.layers.base import (
    BuiltIn,
    LayerOptions,
    Seeded,
    array,
    channels_last,
    floats,
    rate,
)
from fluxion.errors import ArgumentError, ShapeError
from fluxion.ops.dropout import SELU_FLOOR, dropout
from fluxion.ops.windows import check_rank


class Dropout(Seeded):
    """In training each value is 0 with probability `rate`, and divided by `1 - rate` otherwise.

    `noise_shape` is the shape of what is drawn, with 1 for an axis along which one decision holds for all.

    >>> from fluxion.dialects import keras
    >>> layer = keras.layers.Dropout(0.5)
    >>> x = keras.ops.ones((1000,))
    >>> sorted(set(layer(x).tolist())), sorted(set(layer(x, training=True).tolist()))
    ([1.0], [0.0, 2.0])
    """

    def __init__(
        self,
        rate: float,
        noise_shape: Sequence[int | None] | None = None,
        seed: int | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self.supports_masking = True
        self.keep(rate=_rate(type(self).__name__, rate), noise_shape=noise_shape and tuple(noise_shape))
        self.seeded(seed)

    def call(self, inputs: Any, training: bool = False) -> Any:
        x = array(inputs)
        if not training or self.rate == 0:
            return x
        return dropout(x, self.rate, axis=drawn_axes(x.shape, self.noise_shape), key=self.key())


class _SpatialDropout(Seeded):
    """Dropout of whole channels: one decision for each channel of an example."""

    dims: ClassVar[int]

    def _drop(self, given: float, seed: int | None, data_format: str | None = None) -> None:
        name = type(self).__name__
        self.supports_masking = True
        self.keep(rate=_rate(name, given))
        self.seeded(seed)
        channels_last(name, data_format)

    def call(self, inputs: Any, training: bool = False) -> Any:
        x = array(inputs)
        check_rank(x.shape, self.dims)
        return dropout(x, self.rate, axis=(0, -1), key=self.key()) if training and self.rate else x


class SpatialDropout1D(_SpatialDropout):
    """Dropout of whole features of sequences."""

    dims = 1

    def __init__(self, rate: float, seed: int | None = None, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self._drop(rate, seed)


class SpatialDropout2D(_SpatialDropout):
    """Dropout of whole channels of images."""

    dims = 2

    def __init__(
        self,
        rate: float,
        data_format: str | None = None,
        seed: int | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self._drop(rate, seed, data_format)
        self.keep(data_format="channels_last")


class SpatialDropout3D(SpatialDropout2D):
    """Dropout of whole channels of volumes."""

    dims = 3


class GaussianNoise(Seeded):
    """In training normal noise of standard deviation `stddev` is added."""

    def __init__(self, stddev: float, seed: int | None = None, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        if not 0 <= stddev <= 1:
            raise ArgumentError(f"GaussianNoise: expected stddev between 0 and 1, got {stddev!r}.")
        self.supports_masking = True
        self.keep(stddev=stddev)
        self.seeded(seed)

    def call(self, inputs: Any, training: bool = False) -> Any:
        x = array(inputs)
        if not training or self.stddev == 0:
            return x
        x = floats(x)
        return x + self.stddev * jax.random.normal(self.key(), x.shape, x.dtype)


class GaussianDropout(Seeded):
    """In training values are multiplied by normal noise of mean 1 and variance `rate / (1 - rate)`."""

    def __init__(self, rate: float, seed: int | None = None, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.supports_masking = True
        self.keep(rate=_rate("GaussianDropout", rate))
        if rate == 1:
            raise ArgumentError("GaussianDropout: expected a rate less than 1, got 1.")
        self.seeded(seed)

    def call(self, inputs: Any, training: bool = False) -> Any:
        x = array(inputs)
        if not training or self.rate == 0:
            return x
        x = floats(x)
        return x * (1 + math.sqrt(self.rate / (1 - self.rate)) * jax.random.normal(self.key(), x.shape, x.dtype))


class AlphaDropout(Seeded):
    """Dropout for `selu` networks: dropped values become `selu(-inf)`, and mean 0 and variance 1 stay."""

    def __init__(
        self,
        rate: float,
        noise_shape: Sequence[int | None] | None = None,
        seed: int | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self.supports_masking = True
        self.keep(rate=_rate("AlphaDropout", rate), noise_shape=noise_shape and tuple(noise_shape))
        self.seeded(seed)

    def call(self, inputs: Any, training: bool = False) -> Any:
        x = array(inputs)
        p = self.rate
        if not training or p == 0:
            return x
        x = floats(x)
        if p == 1:
            return jnp.zeros_like(x)
        axes = drawn_axes(x.shape, self.noise_shape)
        shape = x.shape if axes is None else tuple(n if i in axes else 1 for i, n in enumerate(x.shape))
        keep = jax.random.bernoulli(self.key(), 1 - p, shape)
        a = 1 / math.sqrt((1 - p) * (1 + p * SELU_FLOOR**2))
        return a * jnp.where(keep, x, SELU_FLOOR) - a * p * SELU_FLOOR


class ActivityRegularization(BuiltIn):
    """The input, whose size costs: `l1 * sum(|x|) + l2 * sum(x^2)` per example is added to the loss."""

    def __init__(self, l1: float = 0.0, l2: float = 0.0, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.supports_masking = True
        self.activity_regularizer = regularizers.L1L2(l1=l1, l2=l2)
        self.keep(l1=l1, l2=l2)

    def call(self, inputs: Any) -> Any:
        return inputs


_rate = rate  # where an argument has its name


def drawn_axes(shape: tuple[int, ...], noise_shape: Sequence[int | None] | None) -> tuple[int, ...] | None:
    """The axes along which values are drawn: those of size other than 1 in `noise_shape`."""
    if noise_shape is None:
        return None
    if len(noise_shape) != len(shape) or any(n not in (None, 1, m) for n, m in zip(noise_shape, shape, strict=True)):
        raise ShapeError(f"expected a noise_shape like the input's, {shape}, with 1 for some axes, got {noise_shape}.")
    return tuple(i for i, n in enumerate(noise_shape) if n != 1)
