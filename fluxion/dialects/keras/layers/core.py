"""The layers that most models are made of: `Dense`, `EinsumDense`, `Embedding`, `Lambda`, `Masking`, `Identity`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Unpack

import jax.numpy as jnp

from fluxion.dialects.keras.activations import fused
from fluxion.dialects.keras.layers.base import (
    BuiltIn,
    CommonOptions,
    LayerOptions,
    array,
    check_size,
    known_size,
    unsupported,
    value,
)
from fluxion.errors import ArgumentError, ShapeError
from fluxion.layers.inputs import as_input, plus, whole
from fluxion.ops.indexing import gather
from fluxion.ops.product import product


class Dense(BuiltIn):
    """`activation(x @ kernel + bias)` over the last axis; kernel `(in, units)`, bias `(units,)`.

    >>> from fluxion.dialects import keras
    >>> layer = keras.layers.Dense(2, activation="relu")
    >>> layer(keras.ops.ones((8, 3))).shape, [w.name for w in layer.weights]
    ((8, 2), ['kernel', 'bias'])
    """

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        quantization_config: Any = None,
        **options: Unpack[CommonOptions],
    ) -> None:
        super().__init__(**options)
        unsupported("Dense", lora_rank=lora_rank, lora_alpha=lora_alpha, quantization_config=quantization_config)
        self.supports_masking = True
        self.keep(
            units=whole("Dense", "units", units),
            activation=activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.kernel = self.weight("kernel", (known_size("Dense", input_shape), self.units))
        self.bias = self.weight("bias", (self.units,)) if self.use_bias else None

    def call(self, inputs: Any) -> Any:
        kernel = self.kernel.value
        x = as_input(inputs, kernel.dtype)
        check_size(x, -1, kernel.shape[0])
        return fused(self.activation)(plus(product(x, kernel), value(self.bias)))


class EinsumDense(BuiltIn):
    """`activation(einsum(equation, x, kernel) + bias)`.

    Arguments:
      equation: such as `"ab,bc->ac"`; `...` stands for any axes of input and output, before or after the others.
      output_shape: sizes of the output without the batch; None where an axis is the input's.
      bias_axes: letters of the output's axes along which there is a bias, or None for no bias.

    >>> from fluxion.dialects import keras
    >>> layer = keras.layers.EinsumDense("abc,cd->abd", output_shape=(None, 4), bias_axes="d")
    >>> layer(keras.ops.ones((8, 5, 3))).shape, layer.kernel.shape
    ((8, 5, 4), (3, 4))
    """

    def __init__(
        self,
        equation: str,
        output_shape: int | Sequence[int | None],
        activation: Any = None,
        bias_axes: str | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        gptq_unpacked_column_size: int | None = None,
        quantization_config: Any = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        unsupported(
            "EinsumDense",
            lora_rank=lora_rank,
            lora_alpha=lora_alpha,
            gptq_unpacked_column_size=gptq_unpacked_column_size,
            quantization_config=quantization_config,
        )
        if not re.fullmatch(r"(\.\.\.)?[a-zA-Z]+(\.\.\.)?,[a-zA-Z]+->(\.\.\.)?[a-zA-Z]*(\.\.\.)?", equation):
            raise ArgumentError(f'EinsumDense: expected an equation such as "ab,bc->ac", got {equation!r}.')
        self.keep(
            output_shape=(output_shape,) if isinstance(output_shape, int) else tuple(output_shape),
            equation=equation,
            activation=activation,
            bias_axes=bias_axes,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        given, sizes = self._sizes(input_shape)
        kernel, result = self.equation.split(",")[1].split("->")
        self.kernel = self.weight("kernel", self._known(kernel, sizes, input_shape))
        self.bias = None
        if self.bias_axes is not None:
            letters = result.replace("...", "")
            stray = [letter for letter in self.bias_axes if letter not in letters]
            if stray:
                raise ArgumentError(f"EinsumDense: expected bias_axes of the output {letters!r}, got {stray[0]!r}.")
            first = min(letters.index(letter) for letter in self.bias_axes)
            after = 1 if result.endswith("...") else 0
            more = len(input_shape) - len(given.replace("...", "")) if after else 0
            found = self._known(self.bias_axes, sizes, input_shape)
            own = dict(zip(self.bias_axes, found, strict=True))
            self.bias = self.weight("bias", (*(own.get(letter, 1) for letter in letters[first:]), *(1,) * more))

    def _known(self, letters: str, sizes: dict[str, int | None], input_shape: Any) -> list[int]:
        """The sizes of these letters, which must be known."""
        found = []
        for letter in letters:
            size = sizes.get(letter)
            if size is None:
                raise ShapeError(
                    f"EinsumDense: the size of {letter!r} in {self.equation!r} is not known for {input_shape}."
                )
            found.append(size)
        return found

    def _sizes(self, input_shape: Sequence[int | None]) -> tuple[str, dict[str, int | None]]:
        """The letters of the input, and the sizes of all letters."""
        given, rest = self.equation.split(",")
        result = rest.split("->")[1]
        letters = given.replace("...", "")
        shape = list(input_shape)
        shape = shape[len(shape) - len(letters) :] if given.startswith("...") else shape[: len(letters)]
        if len(shape) != len(letters) or ("..." not in given and len(input_shape) != len(letters)):
            raise ShapeError(f"EinsumDense: expected input of the axes {given!r}, got shape {tuple(input_shape)}.")
        sizes = dict(zip(letters, shape, strict=True))
        # The output's sizes are given without the batch; from the right where the ellipsis stands on the left.
        out = result.replace("...", "")
        wanted = self.output_shape
        if given.startswith("..."):
            named = list(zip(reversed(out), reversed(wanted), strict=False))
        else:
            named = list(zip(out[1:], wanted, strict=False))
        for letter, size in named:
            if size is not None:
                if sizes.get(letter) not in (None, size):
                    raise ShapeError(
                        f"EinsumDense: output_shape {wanted} does not fit {self.equation!r} with input {input_shape}."
                    )
                sizes[letter] = size
        return given, sizes

    def call(self, inputs: Any) -> Any:
        kernel = self.kernel.value
        y = jnp.einsum(self.equation, as_input(inputs, kernel.dtype), kernel)
        if self.bias is not None:
            bias = self.bias.value
            y = y + bias.reshape((1,) * (y.ndim - bias.ndim) + bias.shape)
        return fused(self.activation)(y)


class Embedding(BuiltIn):
    """A row of `embeddings`, `(input_dim, output_dim)`, for each whole number below `input_dim`.

    With `mask_zero` the number 0 is padding: layers after this one are told which places count.

    >>> from fluxion.dialects import keras
    >>> keras.layers.Embedding(1000, 16)(keras.ops.ones((8, 5), dtype="int32")).shape
    (8, 5, 16)
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        mask_zero: bool = False,
        weights: Any = None,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        quantization_config: Any = None,
        **options: Unpack[CommonOptions],
    ) -> None:
        super().__init__(**options)
        unsupported("Embedding", lora_rank=lora_rank, lora_alpha=lora_alpha, quantization_config=quantization_config)
        self.supports_masking = mask_zero
        self.keep(
            input_dim=whole("Embedding", "input_dim", input_dim),
            output_dim=whole("Embedding", "output_dim", output_dim),
            embeddings_initializer=embeddings_initializer,
            embeddings_regularizer=embeddings_regularizer,
            embeddings_constraint=embeddings_constraint,
            mask_zero=mask_zero,
        )
        if weights is not None:
            self.build()
            self.built = True
            self.set_weights(weights if isinstance(weights, list | tuple) else [weights])

    def build(self, input_shape: Any = None) -> None:
        self.embeddings = self.weight("embeddings", (self.input_dim, self.output_dim))

    def call(self, inputs: Any) -> Any:
        index = array(inputs)
        return gather(self.embeddings.value, index if jnp.issubdtype(index.dtype, jnp.integer) else index.astype(int))

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return jnp.not_equal(array(inputs), 0) if self.mask_zero else None


class Masking(BuiltIn):
    """Time steps whose features all equal `mask_value` are set to 0, and layers after this one skip them.

    >>> from fluxion.dialects import keras
    >>> layer = keras.layers.Masking(mask_value=9.0)
    >>> x = keras.ops.array([[[1.0, 2.0], [9.0, 9.0]]])
    >>> layer(x).tolist(), layer.compute_mask(x).tolist()
    ([[[1.0, 2.0], [0.0, 0.0]]], [[True, False]])
    """

    def __init__(self, mask_value: float = 0.0, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.supports_masking = True
        self.keep(mask_value=mask_value)

    def call(self, inputs: Any) -> Any:
        x = array(inputs)
        return x * jnp.any(x != self.mask_value, axis=-1, keepdims=True).astype(x.dtype)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return jnp.any(array(inputs) != self.mask_value, axis=-1)


class Lambda(BuiltIn):
    """`function(inputs, **arguments)` as a layer.

    `mask` is the output's mask, or a function of the inputs and their mask. `output_shape` need not be given: it is
    found by running the function on shapes. A function cannot be written into a config.

    >>> from fluxion.dialects import keras
    >>> keras.layers.Lambda(lambda x: x ** 2)(keras.ops.array([3.0])).tolist()
    [9.0]
    """

    def __init__(
        self,
        function: Callable[..., Any],
        output_shape: Any = None,
        mask: Any = None,
        arguments: dict[str, Any] | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        if not callable(function):
            raise ArgumentError(f"Lambda: expected a function, got {function!r}.")
        self.supports_masking = mask is not None
        self.keep(function=function, output_shape=output_shape, mask=mask, arguments=dict(arguments or {}))

    def call(self, inputs: Any) -> Any:
        return self.function(inputs, **self.arguments)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return self.mask(inputs, mask) if callable(self.mask) else self.mask


class Identity(BuiltIn):
    """The input, unchanged."""

    def __init__(self, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        return inputs
