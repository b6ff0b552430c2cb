"""Layers of several inputs: `Add`, `Subtract`, `Multiply`, `Average`, `Maximum`, `Minimum`, `Concatenate`, `Dot`.

Each has a function of the same name in small letters: `add([x, y])` is `Add()([x, y])`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Unpack

import jax.numpy as jnp

from fluxion.dialects.keras.layers.base import BuiltIn, LayerOptions, array
from fluxion.errors import ArgumentError, ShapeError


class Merge(BuiltIn):
    """A layer of two or more inputs, which broadcast against one another."""

    least, most = 1, 10**6

    def __init__(self, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.supports_masking = True

    def arrays(self, inputs: Any) -> list[Any]:
        """The inputs, with axes of size 1 after the batch where one has fewer than another."""
        if not isinstance(inputs, list | tuple) or not self.least <= len(inputs) <= self.most:
            count = "two inputs" if self.most == 2 else f"a list of at least {self.least} inputs"
            raise ArgumentError(f"expected {count}, got {len(inputs) if isinstance(inputs, list | tuple) else 'one'}.")
        xs = [array(x) for x in inputs]
        ndim = max(x.ndim for x in xs)
        xs = [x.reshape(x.shape[:1] + (1,) * (ndim - x.ndim) + x.shape[1:]) for x in xs]
        try:
            jnp.broadcast_shapes(*(x.shape for x in xs))
        except ValueError:
            raise ShapeError(
                f"expected inputs that broadcast, got {', '.join(str(x.shape) for x in inputs)}."
            ) from None
        return xs

    def call(self, inputs: Any) -> Any:
        return self.merged(self.arrays(inputs))

    def merged(self, xs: list[Any]) -> Any:
        raise NotImplementedError

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Where every input has a mask, a place counts in the output if it counts in one of them."""
        if mask is None or any(m is None for m in mask):
            return None
        return functools.reduce(jnp.logical_or, mask)


class MaskedMerge(Merge):
    """A merge in which a masked place of one input leaves the others' values as they are; 0 if all are masked."""

    def neutral(self, dtype: Any) -> Any:
        """The value that changes no other."""
        raise NotImplementedError

    def call(self, inputs: Any, mask: Any = None) -> Any:
        xs = self.arrays(inputs)
        if mask is None or all(m is None for m in mask):
            return self.merged(xs)
        wide = [
            jnp.ones_like(x, bool)
            if m is None
            else jnp.broadcast_to(m.reshape(m.shape + (1,) * (x.ndim - m.ndim)), x.shape)
            for m, x in zip(mask, xs, strict=True)
        ]
        y = self.merged([jnp.where(m, x, self.neutral(x.dtype)) for m, x in zip(wide, xs, strict=True)])
        return jnp.where(functools.reduce(jnp.logical_or, wide), y, 0)


class Add(Merge):
    """The sum of the inputs."""

    def merged(self, xs: list[Any]) -> Any:
        return functools.reduce(jnp.add, xs)


class Subtract(Merge):
    """The first input minus the second."""

    least = most = 2

    def merged(self, xs: list[Any]) -> Any:
        return xs[0] - xs[1]


class Multiply(MaskedMerge):
    """The product of the inputs, elementwise."""

    def neutral(self, dtype: Any) -> Any:
        return 1

    def merged(self, xs: list[Any]) -> Any:
        return functools.reduce(jnp.multiply, xs)


class Average(Merge):
    """The mean of the inputs."""

    def merged(self, xs: list[Any]) -> Any:
        return functools.reduce(jnp.add, xs) / len(xs)


class Maximum(MaskedMerge):
    """The largest of the inputs, elementwise."""

    def neutral(self, dtype: Any) -> Any:
        return -jnp.inf if jnp.issubdtype(dtype, jnp.inexact) else jnp.iinfo(dtype).min

    def merged(self, xs: list[Any]) -> Any:
        return functools.reduce(jnp.maximum, xs)


class Minimum(MaskedMerge):
    """The smallest of the inputs, elementwise."""

    def neutral(self, dtype: Any) -> Any:
        return jnp.inf if jnp.issubdtype(dtype, jnp.inexact) else jnp.iinfo(dtype).max

    def merged(self, xs: list[Any]) -> Any:
        return functools.reduce(jnp.minimum, xs)


class Concatenate(Merge):
    """The inputs beside one another along `axis`.

    >>> from fluxion.dialects import keras
    >>> keras.layers.Concatenate()([keras.ops.ones((2, 3)), keras.ops.zeros((2, 4))]).shape
    (2, 7)
    """

    def __init__(self, axis: int = -1, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.keep(axis=axis)

    def call(self, inputs: Any) -> Any:
        if not isinstance(inputs, list | tuple) or not inputs:
            raise ArgumentError("expected a list of inputs, got one.")
        xs = [array(x) for x in inputs]
        kept = {tuple(n for i, n in enumerate(x.shape) if i != self.axis % x.ndim) for x in xs}
        if len(kept) > 1:
            shapes = ", ".join(str(x.shape) for x in xs)
            raise ShapeError(f"expected inputs of the same shape but for axis {self.axis}, got {shapes}.")
        return jnp.concatenate(xs, self.axis)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        if mask is None or not any(m is not None for m in mask):
            return None
        masks = []
        for x, m in zip(inputs, mask, strict=True):
            whole = jnp.ones(x.shape, bool) if m is None else m.reshape(m.shape + (1,) * (x.ndim - m.ndim))
            masks.append(jnp.broadcast_to(whole, x.shape))
        return jnp.all(jnp.concatenate(masks, self.axis), axis=-1)


class Dot(Merge):
    """For each example the product of two arrays, summed over an axis of each.

    `axes` is that axis, or one for each input; the batch is axis 0. With `normalize` both are scaled to length 1
    along it first, so that the result is the cosine.

    >>> from fluxion.dialects import keras
    >>> keras.layers.Dot(axes=(1, 2))([keras.ops.ones((8, 5, 3)), keras.ops.ones((8, 4, 5))]).shape
    (8, 3, 4)
    """

    least = most = 2

    def __init__(self, axes: int | Sequence[int], normalize: bool = False, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        if not isinstance(axes, int) and (len(axes) != 2 or not all(isinstance(a, int) for a in axes)):
            raise ArgumentError(f"Dot: expected axes to be a whole number or two, got {axes!r}.")
        self.keep(axes=axes, normalize=normalize)

    def call(self, inputs: Any) -> Any:
        if not isinstance(inputs, list | tuple) or len(inputs) != 2:
            raise ArgumentError("expected two inputs.")
        xs = [array(x) for x in inputs]
        axes = (self.axes,) * 2 if isinstance(self.axes, int) else tuple(self.axes)
        moved = []
        for x, axis in zip(xs, axes, strict=True):
            if self.normalize:
                square = jnp.sum(jnp.square(x), axis=axis, keepdims=True)
                x = x / jnp.sqrt(jnp.maximum(square, 1e-12))
            moved.append(jnp.moveaxis(x, axis, -1))
        one, two = moved
        if one.shape[0] != two.shape[0] or one.shape[-1] != two.shape[-1]:
            raise ShapeError(f"expected inputs that agree along axes {axes}, got {xs[0].shape} and {xs[1].shape}.")
        product = jnp.einsum(
            "nak,nbk->nab", one.reshape(len(one), -1, one.shape[-1]), two.reshape(len(two), -1, two.shape[-1])
        )
        shape = one.shape[:1] + one.shape[1:-1] + two.shape[1:-1]
        return product.reshape(shape if len(shape) > 1 else (*shape, 1))

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return None


def _functional(cls: Callable[..., Merge], example: str) -> Callable[..., Any]:
    def merge(inputs: Any, **options: Any) -> Any:
        return cls(**options)(inputs)

    merge.__name__ = merge.__qualname__ = example
    merge.__doc__ = f"`{cls.__name__}(**options)(inputs)`."
    return merge


add, subtract, multiply = _functional(Add, "add"), _functional(Subtract, "subtract"), _functional(Multiply, "multiply")
average, maximum, minimum = (
    _functional(Average, "average"),
    _functional(Maximum, "maximum"),
    _functional(Minimum, "minimum"),
)


def concatenate(inputs: Any, axis: int = -1, **options: Unpack[LayerOptions]) -> Any:
    """`Concatenate(axis, **options)(inputs)`."""
    return Concatenate(axis, **options)(inputs)


def dot(inputs: Any, axes: int | Sequence[int] = -1, normalize: bool = False, **options: Unpack[LayerOptions]) -> Any:
    """`Dot(axes, normalize, **options)(inputs)`."""
    return Dot(axes, normalize, **options)(inputs)
