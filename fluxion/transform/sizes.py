"""Shapes without arithmetic: what a model returns for an input shape, and the sizes that were left out.

Both run the model on abstract arrays (`jax.eval_shape`). `ensure_sized` is the question an unsized layer asks at
the start of its call: inside `autosize` it gets its sizes, elsewhere the reader is told to call `autosize`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp

from fluxion.errors import ArgumentError, StateError
from fluxion.tree.graph import scan
from fluxion.tree.layer import Layer

# While `autosize` runs: (the layer of the working copy, the shape it saw), in the order of the calls.
_sizing: ContextVar[list[tuple[Layer, tuple[int, ...]]] | None] = ContextVar("fluxion_sizing", default=None)

ShapeLike = Sequence[Any]


def ensure_sized(layer: Layer, x: Any) -> None:
    """To be called first by a layer whose input size may be missing (`layer.unsized`); then calls `layer.infer(shape)`."""
    if not layer.unsized:
        return
    seen = _sizing.get()
    if seen is None:
        raise StateError(
            f"the input size is not known yet, the input has shape {tuple(jnp.shape(x))}. "
            "Call fx.autosize(model, input_shape) first, or give the size."
        )
    seen.append((layer, tuple(jnp.shape(x))))
    layer.infer(tuple(jnp.shape(x)))


def abstract_inputs(shapes: Any, dtype: Any) -> tuple[Any, ...]:
    """One `jax.ShapeDtypeStruct` per shape: `shapes` is one shape or a sequence of them; arrays stand for themselves."""
    if isinstance(shapes, jax.ShapeDtypeStruct) or hasattr(shapes, "dtype"):
        return (jax.ShapeDtypeStruct(shapes.shape, shapes.dtype),)
    if all(isinstance(size, int) or size is None for size in shapes):
        if any(size is None for size in shapes[1:]) or any(size is not None and size < 0 for size in shapes):
            raise ArgumentError(f"expected a shape such as (None, 784) or (32, 28, 28, 1), got {tuple(shapes)}.")
        concrete = tuple(1 if size is None else size for size in shapes)
        return (jax.ShapeDtypeStruct(concrete, jnp.result_type(dtype)),)
    return tuple(spec for shape in shapes for spec in abstract_inputs(shape, dtype))


def outputsize(model: Any, input_shape: ShapeLike, *, dtype: Any = float) -> Any:
    """The shape a model returns for `input_shape`, found without arithmetic.

    `input_shape` includes the batch axis, which may be `None`; several inputs are given as several shapes,
    integer inputs with `dtype=int`. Errors are those the model itself raises.

    >>> import fluxion as fx
    >>> fx.outputsize(fx.Chain(fx.flatten, fx.Dense(784, 10)), (None, 28, 28, 1))
    (None, 10)
    """
    unknown_batch = not hasattr(input_shape, "dtype") and len(input_shape) > 0 and input_shape[0] is None
    inputs = abstract_inputs(input_shape, dtype)
    graph = scan(model)

    def run(leaves: list[Any], *xs: Any) -> Any:
        return graph.build(leaves).roots[0](*xs)

    out = jax.eval_shape(run, graph.leaves, *inputs)
    return jax.tree.map(lambda spec: (None, *spec.shape[1:]) if unknown_batch else tuple(spec.shape), out)


def autosize(model: Any, input_shape: ShapeLike, *, dtype: Any = float) -> Any:
    """Give every layer of the model the input size that was left out as `None`; changes and returns the model.

    `input_shape` is as for `outputsize`. Layers that have their sizes keep them and their weights.

    >>> import fluxion as fx
    >>> fx.autosize(fx.Chain(fx.flatten, fx.Dense(None, 10)), (None, 28, 28, 1))
    Chain(flatten, Dense(784, 10))
    """
    inputs = abstract_inputs(input_shape, dtype)
    graph = scan(model)
    sizes: list[tuple[Layer, tuple[int, ...]]] = []

    def run(leaves: list[Any], *xs: Any) -> Any:
        working = graph.build(leaves)
        seen: list[tuple[Layer, tuple[int, ...]]] = []
        with _recording(seen):
            out = working.roots[0](*xs)
        original = {id(made): graph.nodes[i].original for i, made in working.made.items()}
        sizes[:] = [(original[id(layer)], shape) for layer, shape in seen]
        return out

    jax.eval_shape(run, graph.leaves, *inputs)
    for layer, shape in sizes:
        layer.infer(shape)
    return model


@contextlib.contextmanager
def _recording(seen: list[tuple[Layer, tuple[int, ...]]]) -> Iterator[None]:
    token = _sizing.set(seen)
    try:
        yield
    finally:
        _sizing.reset(token)
