"""`Dense`: the example of a built-in layer that stands on one of Fluxion's."""

from __future__ import annotations

from typing import Any

import fluxion
from fluxion.dialects.keras import activations, initializers, regularizers
from fluxion.dialects.keras.layer import Layer
from fluxion.dialects.keras.variables import Alias


class Dense(Layer):
    """`activation(inputs @ kernel + bias)` over the last axis.

    >>> from fluxion.dialects import keras
    >>> layer = keras.layers.Dense(2)
    >>> layer(keras.ops.ones((5, 3))).shape, layer.kernel.shape
    ((5, 2), (3, 2))
    """

    kernel = Alias("inner.weight")
    bias = Alias("inner.bias")

    supports_masking = True

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)

    def build(self, input_shape: Any) -> None:
        self.inner = fluxion.Dense(
            input_shape[-1],
            self.units,
            self.activation,
            bias=self.use_bias,
            init=lambda *size: self.kernel_initializer(size, dtype=self.dtype),
        )
        if self.use_bias:
            self.inner.bias = self.bias_initializer((self.units,), dtype=self.dtype)

    def call(self, inputs: Any) -> Any:
        return self.inner(inputs)
