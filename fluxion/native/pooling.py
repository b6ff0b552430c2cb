"""Max-pooling over two axes as primitives of JAX.

`pool(x)` gives the largest value of each window, and its place: the number of its cell in the window. The gradient is
`place(y, places)`, which puts each `y` where its place is and adds up; its transpose is `pick(x, places)`. On a CPU
they are the C++ functions of `pooling.cpp`, elsewhere they are made of slices.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching

from fluxion.native.lowering import define

if TYPE_CHECKING:
    from jaxtyping import Array, Float

pool = Primitive("fluxion_max_pool")
pool.multiple_results = True
pick = Primitive("fluxion_max_pool_pick")
place = Primitive("fluxion_max_pool_place")


class Windows(NamedTuple):
    """Windows over the two inner axes of an array of this shape."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    shape: tuple[int, ...]

    def counts(self) -> tuple[int, int, int, int]:
        """The shape of the result."""
        n, height, width, channels = self.shape
        rows, columns = (
            (size + low + high - kernel) // step + 1
            for size, (low, high), kernel, step in zip(
                (height, width), self.padding, self.kernel, self.stride, strict=True
            )
        )
        return n, rows, columns, channels

    def with_batch(self, n: int) -> Windows:
        return self._replace(shape=(n, *self.shape[1:]))

    def attributes(self) -> dict[str, np.ndarray]:
        """The options of the C++ functions."""
        return {name: np.array(getattr(self, name), np.int64).ravel() for name in ("kernel", "stride", "padding")}


def largest(x: Float[Array, "n height width c"], windows: Windows) -> Float[Array, "n rows columns c"]:
    """The largest value of each window; its gradient goes to the first one, in row-major order. NaN is the largest."""
    return pool.bind(x, windows=windows)[0]


# The three functions in plain JAX


def _cells(x: Any, windows: Windows) -> list[Any]:
    """What stands in each cell of the windows, cell by cell; zeros in the padding."""
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((*ends, 0) for ends in windows.padding), (0, 0, 0)])
    n, rows, columns, channels = windows.counts()
    down, right = windows.stride
    return [
        jax.lax.slice(
            x,
            (0, r, s, 0),
            (n, r + (rows - 1) * down + 1, s + (columns - 1) * right + 1, channels),
            (1, down, right, 1),
        )
        for r, s in itertools.product(*map(range, windows.kernel))
    ]


def _plain_pool(x: Any, *, windows: Windows) -> Any:
    best, *others = _cells(x, windows)
    begun, *inside = _cells(np.ones(windows.shape, bool), windows)
    places = jnp.zeros(best.shape, jnp.uint8)
    for cell, (value, real) in enumerate(zip(others, inside, strict=True), 1):
        better = real & (~begun | (value > best) | (jnp.isnan(value) & ~jnp.isnan(best)))
        best, places, begun = jnp.where(better, value, best), jnp.where(better, np.uint8(cell), places), begun | real
    return [best, places]


def _plain_pick(x: Any, places: Any, *, windows: Windows) -> Any:
    found = [jnp.where(places == cell, value, 0) for cell, value in enumerate(_cells(x, windows))]
    return functools.reduce(jnp.add, found)


def _plain_place(y: Any, places: Any, *, windows: Windows) -> Any:
    x = jax.ShapeDtypeStruct(windows.shape, y.dtype)
    return jax.linear_transpose(lambda x: _plain_pick(x, places, windows=windows), x)(y)[0]


# The three as C++ functions


def _native_pool(x: Any, *, windows: Windows) -> Any:
    shape = windows.counts()
    results = (jax.ShapeDtypeStruct(shape, x.dtype), jax.ShapeDtypeStruct(shape, np.uint8))
    return list(jax.ffi.ffi_call(pool.name, results)(x, **windows.attributes()))


def _native_pick(x: Any, places: Any, *, windows: Windows) -> Any:
    call = jax.ffi.ffi_call(pick.name, jax.ShapeDtypeStruct(windows.counts(), x.dtype))
    return call(x, places, **windows.attributes())


def _native_place(y: Any, places: Any, *, windows: Windows) -> Any:
    call = jax.ffi.ffi_call(place.name, jax.ShapeDtypeStruct(windows.shape, y.dtype))
    return call(y, places, **windows.attributes())


# How JAX derives and batches them


def _pool_jvp(primals: Any, tangents: Any, *, windows: Windows) -> Any:
    y, places = pool.bind(*primals, windows=windows)
    nothing = ad.Zero(jax.typeof(places).to_tangent_aval())
    return (y, places), (pick.bind(*tangents, places, windows=windows), nothing)


def _linear(primitive: Primitive, transpose: Primitive) -> None:
    """Of the first argument; the places are numbers that nothing depends on."""

    def jvp(primals: Any, tangents: Any, *, windows: Windows) -> Any:
        (a, places), (da, _) = primals, tangents
        return primitive.bind(a, places, windows=windows), primitive.bind(da, places, windows=windows)

    def transposed(gradient: Any, a: Any, places: Any, *, windows: Windows) -> Any:
        if isinstance(gradient, ad.Zero):
            return ad.Zero(a.aval), None
        return transpose.bind(gradient, places, windows=windows), None

    ad.primitive_jvps[primitive] = jvp
    ad.primitive_transposes[primitive] = transposed


def _batched(primitive: Primitive) -> Callable[..., Any]:
    """A batch of all arguments becomes part of their first axis."""

    def rule(arguments: Any, axes: Any, *, windows: Windows) -> Any:
        many = next(a.shape[axis] for a, axis in zip(arguments, axes, strict=True) if axis is not None)
        flat = [
            (jnp.broadcast_to(a, (many, *a.shape)) if axis is None else jnp.moveaxis(a, axis, 0))
            for a, axis in zip(arguments, axes, strict=True)
        ]
        flat = [a.reshape(-1, *a.shape[2:]) for a in flat]
        out = primitive.bind(*flat, windows=windows.with_batch(many * windows.shape[0]))
        split = [a.reshape(many, -1, *a.shape[1:]) for a in (out if primitive.multiple_results else [out])]
        return (split, [0] * len(split)) if primitive.multiple_results else (split[0], 0)

    return rule


define(pool, _plain_pool, _native_pool)
define(pick, _plain_pick, _native_pick)
define(place, _plain_place, _native_place)
pool.def_abstract_eval(
    lambda x, *, windows: [jax.core.ShapedArray(windows.counts(), dtype) for dtype in (x.dtype, np.dtype(np.uint8))]
)
pick.def_abstract_eval(lambda x, places, *, windows: jax.core.ShapedArray(windows.counts(), x.dtype))
place.def_abstract_eval(lambda y, places, *, windows: jax.core.ShapedArray(windows.shape, y.dtype))
ad.primitive_jvps[pool] = _pool_jvp
_linear(pick, place)
_linear(place, pick)
for _primitive in (pool, pick, place):
    batching.primitive_batchers[_primitive] = _batched(_primitive)
