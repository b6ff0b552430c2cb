"""Activations as layers: `Activation`, `ReLU`, `LeakyReLU`, `PReLU`, `ELU`, `Softmax`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import jax.numpy as jnp
from jax.nn import logsumexp

from fluxion.dialects.keras import activations
from fluxion.dialects.keras.layers.base import BuiltIn, LayerOptions, floats, known_size
from fluxion.errors import ArgumentError


class Activation(BuiltIn):
    """A function of `keras.activations`, by name, or any other, as a layer.

    >>> from fluxion.dialects import keras
    >>> keras.layers.Activation("relu")(keras.ops.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """

    def __init__(self, activation: Any, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.supports_masking = True
        self.keep(activation=activation)

    def call(self, inputs: Any) -> Any:
        return self.activation(inputs)


class ReLU(BuiltIn):
    """`x` from `threshold` on, `negative_slope * (x - threshold)` below, and never more than `max_value`."""

    def __init__(
        self,
        max_value: float | None = None,
        negative_slope: float = 0.0,
        threshold: float = 0.0,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        for what, given in (("max_value", max_value), ("negative_slope", negative_slope), ("threshold", threshold)):
            if (given is None and what != "max_value") or (given is not None and given < 0):
                raise ArgumentError(f"ReLU: expected {what} of at least 0, got {given!r}.")
        self.supports_masking = True
        self.keep(max_value=max_value, negative_slope=negative_slope, threshold=threshold)

    def call(self, inputs: Any) -> Any:
        return activations.relu(inputs, self.negative_slope, self.max_value, self.threshold)


class LeakyReLU(BuiltIn):
    """`x` where positive, `negative_slope * x` elsewhere."""

    def __init__(self, negative_slope: float = 0.3, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        if negative_slope is None or negative_slope < 0:
            raise ArgumentError(f"LeakyReLU: expected negative_slope of at least 0, got {negative_slope!r}.")
        self.supports_masking = True
        self.keep(negative_slope=negative_slope)

    def call(self, inputs: Any) -> Any:
        return activations.leaky_relu(inputs, self.negative_slope)


class PReLU(BuiltIn):
    """`x` where positive, `alpha * x` elsewhere; `alpha` is learned, one for each place of an example.

    Along `shared_axes` the same `alpha` holds: `shared_axes=[1, 2]` gives one for each channel of an image.

    >>> from fluxion.dialects import keras
    >>> layer = keras.layers.PReLU(shared_axes=[1, 2])
    >>> layer(keras.ops.ones((8, 4, 4, 3))).shape, layer.alpha.shape
    ((8, 4, 4, 3), (1, 1, 3))
    """

    def __init__(
        self,
        alpha_initializer: Any = "Zeros",
        alpha_regularizer: Any = None,
        alpha_constraint: Any = None,
        shared_axes: int | Sequence[int] | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self.supports_masking = True
        self.keep(
            alpha_initializer=alpha_initializer,
            alpha_regularizer=alpha_regularizer,
            alpha_constraint=alpha_constraint,
            shared_axes=[shared_axes] if isinstance(shared_axes, int) else shared_axes and list(shared_axes),
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        shared = self.shared_axes or ()
        axes = range(1, len(input_shape))
        sizes = [1 if axis in shared else known_size("PReLU", input_shape, axis) for axis in axes]
        self.alpha = self.weight("alpha", sizes)

    def call(self, inputs: Any) -> Any:
        x = floats(inputs)
        return jnp.maximum(x, 0) - self.alpha.value[None] * jnp.maximum(-x, 0)


class ELU(BuiltIn):
    """`x` where positive, `alpha * (exp(x) - 1)` elsewhere."""

    def __init__(self, alpha: float = 1.0, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.supports_masking = True
        self.keep(alpha=alpha)

    def call(self, inputs: Any) -> Any:
        return activations.elu(inputs, self.alpha)


class Softmax(BuiltIn):
    """`exp(x) / sum(exp(x))` along `axis`, or over several axes; places where `mask` is false get 0.

    >>> from fluxion.dialects import keras
    >>> layer = keras.layers.Softmax()
    >>> layer(keras.ops.array([1.0, 1.0, 5.0]), mask=keras.ops.array([True, True, False])).tolist()
    [0.5, 0.5, 0.0]
    """

    def __init__(self, axis: int | Sequence[int] = -1, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.supports_masking = True
        self.keep(axis=axis)

    def call(self, inputs: Any, mask: Any = None) -> Any:
        x = floats(inputs)
        if mask is not None:
            mask = jnp.asarray(mask)
            mask = mask if mask.dtype == bool else mask > 0.5
            mask = mask.reshape((1,) * (x.ndim - mask.ndim) + mask.shape)
            x = jnp.where(mask, x, -3e4 if x.dtype == jnp.float16 else -1e9)
        if isinstance(self.axis, int):
            y = activations.softmax(x, self.axis)
        else:
            y = jnp.exp(x - logsumexp(x, axis=tuple(self.axis), keepdims=True))
        return y if mask is None else jnp.where(mask, y, 0)
