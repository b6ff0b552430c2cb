"""Layers that multiply: `Dense`, `Scale`, `Bilinear`; and `flatten`, which comes before them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from fluxion.errors import ArgumentError, ShapeError
from fluxion.layers.inputs import as_array, as_input, drawn, function, plus, trailing, whole, whole_or_none
from fluxion.ops.activations import identity
from fluxion.ops.initializers import glorot_uniform, ones, zeros
from fluxion.ops.product import dense
from fluxion.transform.sizes import ensure_sized
from fluxion.tree.layer import Layer

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Shaped


class Dense(Layer):
    """`activation(x @ weight + bias)` over the last axis.

    Shapes: input `(..., in_features)`, output `(..., out_features)`; `weight` is `(in_features, out_features)`,
    `bias` `(out_features,)`. The input is converted to the dtype of the weight; a complex one stays complex.

    Arguments:
      in_features: size of the input's last axis; None to infer it (`fx.autosize`).
      out_features: size of the output's last axis.
      activation: function applied to the result.
      bias: whether a bias is added. It starts at 0.
      init: initializer of the weight, called with `(in_features, out_features)`.

    Errors: ShapeError for an input whose last axis is not `in_features`. The numbers are those of
    `torch.nn.Linear` with `weight` transposed.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> layer = fx.Dense(3, 2, fx.relu)
    >>> layer, layer.weight.shape, layer(jnp.ones((8, 3))).shape
    (Dense(3, 2, relu), (3, 2), (8, 2))
    """

    weight: Array  # (in, out)
    bias: Array | None  # (out,)
    activation: Callable[..., Any]
    recipe: tuple[int, bool, Callable[..., Any]] | None  # (out, bias, init), until the input size is known

    def __init__(
        self,
        in_features: int | None,
        out_features: int,
        activation: Callable[..., Any] = identity,
        *,
        bias: bool = True,
        init: Callable[..., Any] = glorot_uniform,
    ) -> None:
        size = whole_or_none("Dense", "in_features", in_features)
        self.weight = self.bias = None  # type: ignore[assignment]
        self.activation = function("Dense", "activation", activation)
        self.recipe = (whole("Dense", "out_features", out_features), bool(bias), function("Dense", "init", init))
        if size is not None:
            self._build(size)

    def _build(self, in_features: int) -> None:
        if self.recipe is not None:
            out, bias, init = self.recipe
            self.weight = drawn("Dense", init, in_features, out)
            self.bias = zeros(out, dtype=self.weight.dtype) if bias else None
            self.recipe = None

    @property
    def unsized(self) -> bool:
        return self.recipe is not None

    def infer(self, shape: tuple[int, ...]) -> None:
        if not shape:
            raise ShapeError("expected input (..., in_features), got a single number. Give it a batch axis.")
        self._build(shape[-1])

    def config(self) -> dict[str, Any]:
        sizes = (None, self.recipe[0]) if self.recipe else self.weight.shape
        return {
            "in_features": sizes[0],
            "out_features": sizes[1],
            "activation": self.activation,
            "bias": self.recipe[1] if self.recipe else self.bias is not None,
            "init": self.recipe[2] if self.recipe else glorot_uniform,
        }

    def __call__(self, x: Shaped[Array, "... in"]) -> Float[Array, "... out"]:
        ensure_sized(self, x)
        x = as_input(x, self.weight.dtype)
        size, out = self.weight.shape
        if x.ndim < 1 or x.shape[-1] != size:
            use = f" Use Dense({x.shape[-1]}, {out}) or Dense(None, {out})." if x.ndim else " Give it a batch axis."
            raise ShapeError(f"expected input (..., {size}), got {x.shape}.{use}")
        return dense(x, self.weight, bias=self.bias, activation=self.activation)


class Scale(Layer):
    """`activation(scale * x + bias)`, elementwise: learnable numbers of the given sizes, one per place.

    Shapes: input and output `(..., *size)`; `scale` and `bias` are `size`. A size of 1 stands for the whole axis.

    Arguments:
      *size: sizes of the input's last axes; None for one to infer (`fx.autosize`).
      activation: function applied to the result.
      bias: whether a bias is added. It starts at 0.
      init: initializer of the scale, called with `*size`.

    Errors: ShapeError for an input whose last axes are not `size`. Source: `Flux.Scale`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> layer = fx.Scale(2, activation=fx.relu)
    >>> layer, layer(jnp.array([[1.0, -1.0]])).tolist()
    (Scale(2, activation=relu), [[1.0, 0.0]])
    """

    scale: Array  # size
    bias: Array | None  # size
    activation: Callable[..., Any]
    recipe: tuple[tuple[int | None, ...], bool, Callable[..., Any]] | None  # (size, bias, init), until all is known

    def __init__(
        self,
        *size: int | None,
        activation: Callable[..., Any] = identity,
        bias: bool = True,
        init: Callable[..., Any] = ones,
    ) -> None:
        sizes = last_sizes("Scale", size)
        self.scale = self.bias = None  # type: ignore[assignment]
        self.activation = function("Scale", "activation", activation)
        self.recipe = (sizes, bool(bias), function("Scale", "init", init))
        if None not in sizes:
            self.infer(sizes)  # type: ignore[arg-type]

    @property
    def unsized(self) -> bool:
        return self.recipe is not None

    def infer(self, shape: tuple[int, ...]) -> None:
        if self.recipe is not None:
            size, bias, init = self.recipe
            self.scale = drawn("Scale", init, *inferred_sizes(size, shape))
            self.bias = zeros(self.scale.shape, dtype=self.scale.dtype) if bias else None
            self.recipe = None

    def config(self) -> dict[str, Any]:
        return {
            "size": self.recipe[0] if self.recipe else self.scale.shape,
            "activation": self.activation,
            "bias": self.recipe[1] if self.recipe else self.bias is not None,
            "init": self.recipe[2] if self.recipe else ones,
        }

    def __call__(self, x: Shaped[Array, ...]) -> Float[Array, ...]:
        ensure_sized(self, x)
        x = as_input(x, self.scale.dtype)
        size = self.scale.shape
        last = x.shape[-len(size) :]
        if len(last) != len(size) or any(n not in (1, m) for n, m in zip(size, last, strict=True)):
            raise ShapeError(f"expected input {last_axes(size)}, got {x.shape}.{remedy('Scale', size, x.shape)}")
        y = x * trailing(self.scale, x.ndim)
        return self.activation(y if self.bias is None else y + trailing(self.bias, x.ndim))


class Bilinear(Layer):
    """`activation(x1 @ weight[o] @ x2 + bias[o])` for each output `o`: what two inputs say together.

    Shapes: inputs `(..., in1)` and `(..., in2)` with the same leading axes, output `(..., out_features)`; `weight`
    is `(out_features, in1, in2)`. Called as `layer(x1, x2)`, with a pair `layer((x1, x2))`, or with one array, which
    is then both.

    Arguments:
      in_features: the pair `(in1, in2)`; None for one to infer (`fx.autosize`).
      out_features: size of the output's last axis.
      activation: function applied to the result.
      bias: whether a bias is added. It starts at 0.
      init: initializer of the weight, called with `(out_features, in1, in2)`.

    Errors: ShapeError for inputs that do not fit. The numbers are those of `torch.nn.Bilinear`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> layer = fx.Bilinear((3, 4), 2)
    >>> layer, layer(jnp.ones((8, 3)), jnp.ones((8, 4))).shape
    (Bilinear((3, 4), 2), (8, 2))
    """

    weight: Array  # (out, in1, in2)
    bias: Array | None  # (out,)
    activation: Callable[..., Any]
    recipe: tuple[tuple[int | None, int | None], int, bool, Callable[..., Any]] | None  # until the sizes are known

    def __init__(
        self,
        in_features: tuple[int | None, int | None],
        out_features: int,
        activation: Callable[..., Any] = identity,
        *,
        bias: bool = True,
        init: Callable[..., Any] = glorot_uniform,
    ) -> None:
        if not isinstance(in_features, tuple | list) or len(in_features) != 2:
            raise ArgumentError(f"Bilinear: expected a pair of sizes (in1, in2), got {in_features!r}.")
        in1, in2 = (whole_or_none("Bilinear", f"in{i}", size) for i, size in enumerate(in_features, 1))
        self.weight = self.bias = None  # type: ignore[assignment]
        self.activation = function("Bilinear", "activation", activation)
        out = whole("Bilinear", "out_features", out_features)
        self.recipe = ((in1, in2), out, bool(bias), function("Bilinear", "init", init))
        if in1 is not None and in2 is not None:
            self.infer((in1, in2))

    @property
    def unsized(self) -> bool:
        return self.recipe is not None

    def infer(self, shape: tuple[int, ...]) -> None:
        """Here `shape` is that of both inputs' last axes, `(in1, in2)`."""
        if self.recipe is not None:
            sizes, out, bias, init = self.recipe
            in1, in2 = inferred_sizes(sizes, shape)
            self.weight = drawn("Bilinear", init, out, in1, in2)
            self.bias = zeros(out, dtype=self.weight.dtype) if bias else None
            self.recipe = None

    def config(self) -> dict[str, Any]:
        return {
            "in_features": self.recipe[0] if self.recipe else self.weight.shape[1:],
            "out_features": self.recipe[1] if self.recipe else self.weight.shape[0],
            "activation": self.activation,
            "bias": self.recipe[2] if self.recipe else self.bias is not None,
            "init": self.recipe[3] if self.recipe else glorot_uniform,
        }

    def __call__(self, *inputs: Any) -> Float[Array, "... out"]:
        if len(inputs) == 1 and isinstance(inputs[0], tuple):
            (inputs,) = inputs
        if len(inputs) not in (1, 2):
            raise ArgumentError(f"expected one input or two, got {len(inputs)}.")
        first, second = as_array(inputs[0]), as_array(inputs[-1])
        if min(first.ndim, second.ndim) < 1 or first.shape[:-1] != second.shape[:-1]:
            raise ShapeError(
                f"expected inputs (..., in1) and (..., in2) with the same leading axes, "
                f"got {first.shape} and {second.shape}."
            )
        if self.unsized:
            ensure_sized(self, jnp.empty((first.shape[-1], second.shape[-1])))
        out, *sizes = self.weight.shape
        given = [first.shape[-1], second.shape[-1]]
        if given != sizes:
            raise ShapeError(
                f"expected inputs (..., {sizes[0]}) and (..., {sizes[1]}), got {first.shape} and {second.shape}. "
                f"Use Bilinear({tuple(given)}, {out}) or Bilinear((None, None), {out})."
            )
        dtype = self.weight.dtype
        y = jnp.einsum("...i,oij,...j->...o", as_input(first, dtype), self.weight, as_input(second, dtype))
        return self.activation(plus(y, self.bias))


def flatten(x: Shaped[Array, "n ..."]) -> Shaped[Array, "n m"]:
    """All axes but the first as one: `(n, a, b, ...)` becomes `(n, a * b * ...)`, in row-major order.

    Errors: ShapeError for a single number. The numbers are those of `torch.nn.Flatten`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> fx.flatten(jnp.ones((32, 28, 28, 1))).shape
    (32, 784)
    """
    x = jnp.asarray(as_array(x))
    if x.ndim == 0:
        raise ShapeError("flatten: expected input (batch, ...), got a single number.")
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))


# Layers over the last few axes: Scale, LayerNorm


def last_sizes(name: str, size: Sequence[Any]) -> tuple[int | None, ...]:
    """Sizes given as `*size`, checked."""
    if len(size) == 1 and isinstance(size[0], tuple | list):
        raise ArgumentError(f"{name}: expected sizes, got {size[0]!r}. Use {name}(*{size[0]!r}).")
    if any(callable(n) for n in size):
        raise ArgumentError(f"{name}: expected sizes, got a function among them. Give it as activation=...")
    if not size:
        raise ArgumentError(f"{name}: expected at least one size, got none.")
    return tuple(whole_or_none(name, "each size", n) for n in size)


def inferred_sizes(size: Sequence[int | None], shape: Sequence[int]) -> tuple[int, ...]:
    """`size` with each None read from the last axes of `shape`."""
    if len(shape) < len(size):
        raise ShapeError(f"expected input {last_axes(size)}, got {tuple(shape)}.")
    last = shape[len(shape) - len(size) :]
    return tuple(given if n is None else n for n, given in zip(size, last, strict=True))


def last_axes(size: Sequence[int | None]) -> str:
    return f"(..., {', '.join('None' if n is None else str(n) for n in size)})"


def remedy(name: str, size: Sequence[int | None], shape: Sequence[int]) -> str:
    if len(shape) < len(size):
        return ""
    return f" Use {name}({', '.join(map(str, shape[-len(size) :]))}) or {name}({', '.join(['None'] * len(size))})."
