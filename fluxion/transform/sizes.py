"""Shapes without arithmetic: what a model returns for an input shape, and the sizes that were left out.

Both run the model on abstract arrays (`jax.eval_shape`). `ensure_sized` is the question an unsized layer asks at
the start of its call: inside `autosize` it gets its sizes, elsewhere the reader is told to call `autosize`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.errors import ArgumentError, StateError, user_frames
from fluxion.transform.randomness import randomness
from fluxion.tree.graph import Working
from fluxion.tree.layer import Layer
from fluxion.tree.model import unsized_layers
from fluxion.tree.walk import scan_call

_sizing: ContextVar[bool] = ContextVar("fluxion_sizing", default=False)

# On a layer of the working copy in which `autosize` runs: the shape it saw. Written back through inner transforms.
_SEEN = "_seen_shape"

ShapeLike = Sequence[Any]


def is_sizing() -> bool:
    """Whether the call happens inside `autosize`."""
    return _sizing.get()


def ensure_sized(layer: Layer, x: Any) -> None:
    """To be called first by a layer whose input size may be missing (`layer.unsized`); then calls `layer.infer`."""
    if not layer.unsized:
        return
    shape = tuple(jnp.shape(x))
    if not _sizing.get():
        raise StateError(
            f"the input size is not known yet, the input has shape {shape}. "
            "Call fx.autosize(model, input_shape) first, or give the size."
        )
    vars(layer)[_SEEN] = shape
    layer.infer(shape)


def abstract_inputs(shapes: Any, dtype: Any) -> tuple[Any, ...]:
    """One `jax.ShapeDtypeStruct` per shape: `shapes` is one shape or several of them; arrays stand for themselves."""
    if hasattr(shapes, "dtype"):
        return (jax.ShapeDtypeStruct(shapes.shape, shapes.dtype),)
    if not isinstance(shapes, (list, tuple)):
        raise ArgumentError(f"expected a shape such as (None, 784) or (32, 28, 28, 1), got {shapes!r}.")
    if any(isinstance(size, (list, tuple)) or getattr(size, "shape", ()) != () for size in shapes):
        return tuple(spec for shape in shapes for spec in abstract_inputs(shape, dtype))
    sizes = [1 if size is None and i == 0 else size for i, size in enumerate(shapes)]
    if not all(isinstance(size, (int, np.integer)) and not isinstance(size, bool) and size >= 0 for size in sizes):
        raise ArgumentError(f"expected a shape such as (None, 784) or (32, 28, 28, 1), got {tuple(shapes)}.")
    return (jax.ShapeDtypeStruct(tuple(map(int, sizes)), jnp.result_type(dtype)),)


@user_frames
def outputsize(model: Any, input_shape: ShapeLike, *, dtype: Any = float) -> Any:
    """The shape a model returns for `input_shape`, found without arithmetic.

    `input_shape` includes the batch axis, which may be `None`; several inputs are given as several shapes,
    integer inputs with `dtype=int`. Errors are those the model itself raises.

    >>> import fluxion as fx
    >>> fx.outputsize(fx.Chain(fx.flatten, fx.Dense(784, 10)), (None, 28, 28, 1))
    (None, 10)
    """
    out = abstract_call(model, abstract_inputs(input_shape, dtype))
    unknown_batch = _leaves_out_batch(input_shape)

    def shape(spec: Any) -> tuple[int | None, ...]:
        return (None, *spec.shape[1:]) if unknown_batch and spec.shape else tuple(spec.shape)

    return jax.tree.map(shape, out)


@user_frames
def autosize(model: Any, input_shape: ShapeLike, *, dtype: Any = float) -> Any:
    """Give every layer of the model the input size that was left out as `None`; changes and returns the model.

    `input_shape` is as for `outputsize`. Layers that have their sizes keep them and their weights.

    >>> import fluxion as fx
    >>> fx.autosize(fx.Chain(fx.flatten, fx.Dense(None, 10)), (None, 28, 28, 1))
    Chain(flatten, Dense(784, 10))
    """
    inputs = abstract_inputs(input_shape, dtype)
    size_layers(model, inputs)
    return model


def size_layers(model: Any, inputs: tuple[Any, ...], call: Callable[..., Any] | None = None) -> None:
    """Give every layer the sizes that were left out, by `model(*inputs)` or `call(model, *inputs)` on a copy."""
    before, left = None, unsized_layers(model)
    while left and left != before:  # a layer that gets its sizes may make others in it
        infer_by_call(model, inputs, call)
        before, left = left, unsized_layers(model)


def infer_by_call(model: Any, inputs: tuple[Any, ...], call: Callable[..., Any] | None = None) -> None:
    """Give the layers that one call reaches, globals included, the sizes that it shows."""
    seen: list[tuple[Any, tuple[int, ...]]] = []

    def run(working: Working, *xs: Any) -> Any:
        copy = working.roots[0]
        out = copy(*xs) if call is None else call(copy, *xs)
        for i, made in sorted(working.made.items()):
            shape = getattr(made, "__dict__", {}).get(_SEEN)
            if shape is not None:
                seen.append((working.graph.nodes[i].original, shape))
        return out

    token = _sizing.set(True)
    try:
        abstract_call(model, inputs, run)
    finally:
        _sizing.reset(token)
    for layer, shape in seen:
        layer.infer(shape)


def abstract_call(model: Any, inputs: tuple[Any, ...], run: Callable[..., Any] | None = None) -> Any:
    """The shapes of the model's output, or of `run(working copy, *inputs)`; changes no model and no random stream."""
    graph = scan_call(model, ())

    def abstract_run(leaves: list[Any], key: Any, *xs: Any) -> Any:
        working = graph.build(leaves)
        with randomness(key):
            return working.roots[0](*xs) if run is None else run(working, *xs)

    return jax.eval_shape(abstract_run, graph.leaves, jax.eval_shape(lambda: jax.random.key(0)), *inputs)


def _leaves_out_batch(shapes: Any) -> bool:
    if hasattr(shapes, "dtype") or len(shapes) == 0:
        return False
    return shapes[0] is None or (isinstance(shapes[0], (list, tuple)) and any(map(_leaves_out_batch, shapes)))
