"""Normalization: `BatchNormalization`, `LayerNormalization`, `GroupNormalization`, `RMSNormalization`, ..."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import jax
import jax.numpy as jnp

from fluxion.dialects.keras.layers.base import (
    BuiltIn,
    LayerOptions,
    check_size,
    floats,
    known_size,
    unsupported,
    value,
)
from fluxion.errors import ArgumentError, ShapeError
from fluxion.ops.normalization import moments, standardize, wide


def along(vector: Any, axes: Sequence[int], ndim: int) -> Any:
    """The sizes of an array on these axes of `ndim`, with size 1 on the others; None for None."""
    if vector is None:
        return None
    shape = [1] * ndim
    for axis, size in zip(axes, vector.shape, strict=True):
        shape[axis] = size
    return vector.reshape(shape)


class BatchNormalization(BuiltIn):
    """`gamma * (x - mean) / sqrt(variance + epsilon) + beta`, for each index of `axis`.

    In training mean and variance are the batch's, those of the places that `mask` says count, and the moving ones
    follow: `moving = momentum * moving + (1 - momentum) * batch`, with the biased variance. Otherwise, and with
    `trainable=False`, the moving ones are used.

    >>> from fluxion.dialects import keras
    >>> layer = keras.layers.BatchNormalization()
    >>> y = layer(keras.ops.array([[1.0], [3.0]]), training=True)
    >>> [w.name for w in layer.weights]
    ['gamma', 'beta', 'moving_mean', 'moving_variance']
    >>> y.ravel().round(2).tolist(), round(float(layer.moving_mean[0]), 2)
    ([-1.0, 1.0], 0.02)
    """

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        renorm: bool = False,
        renorm_clipping: Any = None,
        renorm_momentum: float = 0.99,
        synchronized: bool = False,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        name = "BatchNormalization"
        unsupported(name, renorm=renorm, renorm_clipping=renorm_clipping, synchronized=synchronized)
        if renorm_momentum != 0.99:
            unsupported(name, renorm_momentum=renorm_momentum)
        if not isinstance(axis, int):
            raise ArgumentError(f"{name}: expected axis to be a whole number, got {axis!r}.")
        self.supports_masking = True
        self.keep(
            axis=axis,
            momentum=float(momentum),
            epsilon=float(epsilon),
            center=center,
            scale=scale,
            beta_initializer=beta_initializer,
            gamma_initializer=gamma_initializer,
            moving_mean_initializer=moving_mean_initializer,
            moving_variance_initializer=moving_variance_initializer,
            beta_regularizer=beta_regularizer,
            gamma_regularizer=gamma_regularizer,
            beta_constraint=beta_constraint,
            gamma_constraint=gamma_constraint,
            renorm=False,
            renorm_clipping=None,
            renorm_momentum=0.99,
            synchronized=False,
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        shape = (known_size("BatchNormalization", input_shape, self.axis),)
        self.gamma = self.weight("gamma", shape) if self.scale else None
        self.beta = self.weight("beta", shape) if self.center else None
        self.moving_mean = self.weight("moving_mean", shape, trainable=False)
        self.moving_variance = self.weight("moving_variance", shape, trainable=False)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        x = floats(inputs)
        check_size(x, self.axis, self.moving_mean.shape[0])
        axes = (self.axis % x.ndim,)
        if training and self.trainable:
            mean, variance = self._statistics(x, axes[0], mask)
            self._move(self.moving_mean, mean)
            self._move(self.moving_variance, variance)
        else:
            mean, variance = self.moving_mean.value, self.moving_variance.value
        parts = (along(part, axes, x.ndim) for part in (mean, variance, value(self.gamma), value(self.beta)))
        return standardize(x, *parts, eps=self.epsilon)

    def _statistics(self, x: Any, axis: int, mask: Any) -> tuple[Any, Any]:
        others = [i for i in range(x.ndim) if i != axis]
        if mask is None:
            mean, variance = moments(x, others)
            return mean.reshape(-1), variance.reshape(-1)
        if mask.ndim != x.ndim - 1:
            raise ShapeError(f"expected a mask with one axis less than the input, got {mask.shape} and {x.shape}.")
        x, kept = wide(x), mask.astype(jnp.float32)[..., None]
        count = jnp.sum(jnp.broadcast_to(kept, x.shape), others, keepdims=True) + 1e-7
        mean = jnp.sum(x * kept, others, keepdims=True) / count
        variance = jnp.sum(jnp.square(x - mean) * kept, others, keepdims=True) / count
        return mean.reshape(-1), variance.reshape(-1)

    def _move(self, moving: Any, batch: Any) -> None:
        now = wide(moving.value)
        moving.assign(now * self.momentum + jax.lax.stop_gradient(batch) * (1 - self.momentum))


class LayerNormalization(BuiltIn):
    """`gamma * (x - mean) / sqrt(variance + epsilon) + beta`, for each example and place, over the axes `axis`.

    >>> from fluxion.dialects import keras
    >>> keras.layers.LayerNormalization(epsilon=0.0)(keras.ops.array([[1.0, 3.0]])).tolist()
    [[-1.0, 1.0]]
    """

    axis: Any

    def __init__(
        self,
        axis: int | Sequence[int] = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        rms_scaling: bool = False,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        unsupported("LayerNormalization", rms_scaling=rms_scaling)
        self.supports_masking = True
        self.keep(
            rms_scaling=False,
            axis=axis if isinstance(axis, int) else sorted(axis),
            epsilon=epsilon,
            center=center,
            scale=scale,
            beta_initializer=beta_initializer,
            gamma_initializer=gamma_initializer,
            beta_regularizer=beta_regularizer,
            gamma_regularizer=gamma_regularizer,
            beta_constraint=beta_constraint,
            gamma_constraint=gamma_constraint,
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.axis = [self.axis] if isinstance(self.axis, int) else self.axis
        self.sizes = tuple(known_size("LayerNormalization", input_shape, axis) for axis in self.axis)
        self.gamma = self.weight("gamma", self.sizes) if self.scale else None
        self.beta = self.weight("beta", self.sizes) if self.center else None

    def call(self, inputs: Any) -> Any:
        x = floats(inputs)
        axes = [axis % x.ndim for axis in self.axis]
        for axis, size in zip(axes, self.sizes, strict=True):
            check_size(x, axis, size)
        mean, variance = moments(x, axes)
        gamma, beta = (along(value(part), axes, x.ndim) for part in (self.gamma, self.beta))
        return standardize(x, mean, variance, gamma, beta, eps=self.epsilon)


class GroupNormalization(BuiltIn):
    """Each example's channels, `axis`, fall into `groups`, each of which is standardized by itself; -1 for one each.

    >>> from fluxion.dialects import keras
    >>> keras.layers.GroupNormalization(2)(keras.ops.ones((8, 5, 5, 4))).shape
    (8, 5, 5, 4)
    """

    groups: int

    def __init__(
        self,
        groups: int = 32,
        axis: int = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        if not isinstance(groups, int) or groups == 0 or groups < -1:
            raise ArgumentError(f"GroupNormalization: expected groups of at least 1, or -1, got {groups!r}.")
        self.supports_masking = True
        self.keep(
            groups=groups,
            axis=axis,
            epsilon=epsilon,
            center=center,
            scale=scale,
            beta_initializer=beta_initializer,
            gamma_initializer=gamma_initializer,
            beta_regularizer=beta_regularizer,
            gamma_regularizer=gamma_regularizer,
            beta_constraint=beta_constraint,
            gamma_constraint=gamma_constraint,
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        size = known_size("GroupNormalization", input_shape, self.axis)
        self.groups = size if self.groups == -1 else self.groups
        if size % self.groups:
            raise ShapeError(f"GroupNormalization: expected channels that {self.groups} groups divide, got {size}.")
        self.gamma = self.weight("gamma", (size,)) if self.scale else None
        self.beta = self.weight("beta", (size,)) if self.center else None

    def call(self, inputs: Any) -> Any:
        x = floats(inputs)
        axis = self.axis % x.ndim
        split = (self.groups, x.shape[axis] // self.groups)
        grouped = x.reshape(*x.shape[:axis], *split, *x.shape[axis + 1 :])
        mean, variance = moments(grouped, [i for i in range(1, grouped.ndim) if i != axis])
        parts = (along(value(part), (axis,), x.ndim) for part in (self.gamma, self.beta))
        gamma, beta = (None if p is None else p.reshape(*p.shape[:axis], *split, *p.shape[axis + 1 :]) for p in parts)
        return standardize(grouped, mean, variance, gamma, beta, eps=self.epsilon).reshape(x.shape)


class RMSNormalization(BuiltIn):
    """`scale * x / sqrt(mean(x^2) + epsilon)` over the axes `axis`. Source: Zhang and Sennrich 2019.

    >>> from fluxion.dialects import keras
    >>> keras.layers.RMSNormalization()(keras.ops.array([[3.0, 3.0]])).round(4).tolist()
    [[1.0, 1.0]]
    """

    axis: Any

    def __init__(self, axis: int | Sequence[int] = -1, epsilon: float = 1e-6, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.supports_masking = True
        self.keep(axis=axis, epsilon=epsilon)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.axis = [self.axis] if isinstance(self.axis, int) else list(self.axis)
        shape = tuple(known_size("RMSNormalization", input_shape, axis) for axis in self.axis)
        self.scale = self.add_weight(shape, "ones", name="scale")

    def call(self, inputs: Any) -> Any:
        x = floats(inputs)
        axes = tuple(axis % x.ndim for axis in self.axis)
        power = jnp.mean(jnp.square(wide(x)), axes, keepdims=True)
        return (wide(x) * jax.lax.rsqrt(power + self.epsilon) * along(self.scale.value, axes, x.ndim)).astype(x.dtype)


class UnitNormalization(BuiltIn):
    """`x / sqrt(sum(x^2))` over the axes `axis`.

    >>> from fluxion.dialects import keras
    >>> print(keras.layers.UnitNormalization()(keras.ops.array([[3.0, 4.0]])))
    [[0.6 0.8]]
    """

    def __init__(self, axis: int | Sequence[int] = -1, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.supports_masking = True
        self.keep(axis=axis if isinstance(axis, int) else list(axis))

    def call(self, inputs: Any) -> Any:
        x = floats(inputs)
        axes = self.axis if isinstance(self.axis, int) else tuple(self.axis)
        return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(x), axes, keepdims=True), 1e-12))
