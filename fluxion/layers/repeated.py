"""`Repeated`: many layers of one kind, compiled once and run in a loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fluxion.errors import ArgumentError, ShapeError, StateError
from fluxion.layers.containers import Container, checked_layers
from fluxion.layers.inputs import as_array
from fluxion.layers.recurrence import call_copy, point_to, stream_of_step
from fluxion.layers.recurrent import own_stream
from fluxion.transform.compile import jit
from fluxion.transform.randomness import next_key, randomness
from fluxion.transform.sizes import is_sizing
from fluxion.tree.graph import Graph, replace_at
from fluxion.tree.layer import is_observed, observed
from fluxion.tree.walk import program_key, scan_call


class Repeated(Container):
    """Layers of one kind, one after another: the result of a `Chain` of them, compiled for one of them only.

    XLA compiles one layer and repeats it, with the arrays of all layers side by side. So 48 blocks compile about as
    fast as 2. In training this holds for the layers and their gradients; the optimizer's update of each array is
    compiled besides, so that only blocks of some size gain. Each step copies the arrays once more.

    Shapes: each layer returns an array of the shape and dtype it is given, and so does the whole.

    Layers may keep state and draw random numbers, each its own. Sizes may be left out (`fx.autosize`).

    Arguments:
      *layers: layers that differ in the values of their arrays alone, each an object of its own.

    Errors: ArgumentError for no layers, one that is given twice, and layers of several kinds; ShapeError where a layer
    returns something else than it was given; StateError where one assigns anything but arrays of the same shape to
    itself. Source: `flax.linen.scan` over layers, here for layers that exist already.

    >>> import fluxion as fx
    >>> blocks = fx.Repeated(*(fx.TransformerBlock(16, num_heads=2) for _ in range(12)))
    >>> blocks(fx.ones(8, 10, 16)).shape, len(blocks), blocks[11].features
    ((8, 10, 16), 12, 16)
    """

    def __init__(self, *layers: Callable[..., Any]) -> None:
        self.layers = checked_layers("Repeated", layers, {}, at_least_one=True)
        twice = next((n for n, layer in enumerate(layers) if any(layer is other for other in layers[:n])), None)
        if twice is not None:
            raise ArgumentError(
                f"Repeated: expected layers of their own, got layers[{twice}] a second time. "
                "Write fx.Repeated(*(make() for _ in range(count)))."
            )

    def config(self) -> dict[str, Any]:
        return {"layers": self.layers}

    def __call__(self, x: Any) -> Any:
        if is_sizing():
            for layer in self:
                x = observed(layer, x)
            return x
        try:
            return _repeated(tuple(self.layers), jnp.asarray(as_array(x)))
        except Exception as error:
            point_to(error, self[0])
            raise


def _repeat(layers: Sequence[Callable[..., Any]], x: jax.Array) -> jax.Array:
    graphs = [scan_call(layer, ()) for layer in layers]
    for n, graph in enumerate(graphs):
        _check_alike(n, graph, graphs[0])
    changing, draws = _trial(graphs[0], x)
    with own_stream(draws):
        key = next_key() if draws else None
    if is_observed():
        for n, layer in enumerate(layers):
            with stream_of_step(key, n):
                x = observed(layer, x)
        return x

    def step(x: jax.Array, at: tuple[Any, list[Any]]) -> tuple[jax.Array, list[Any]]:
        n, leaves = at
        with stream_of_step(key, n):
            out, changed = _call(graphs[0], leaves, x)
        return out, [changed[i] for i in changing]

    leaves = [jnp.stack(same) for same in zip(*(graph.leaves for graph in graphs), strict=True)]
    out, changed = jax.lax.scan(step, x, (jnp.arange(len(layers)), leaves))
    for n, graph in enumerate(graphs):
        if changing:
            graph.assign(replace_at(graph.leaves, changing, [array[n] for array in changed]))
    return out


_repeated = jit(_repeat)


def _check_alike(n: int, graph: Graph, first: Graph) -> None:
    """ArgumentError unless layer `n` differs from the first one in the values of its arrays alone."""
    shapes, expected = ([(leaf.shape, leaf.dtype.name) for leaf in g.leaves] for g in (graph, first))
    if shapes != expected or program_key(graph) != program_key(first):
        different = [path for path, a, b in zip(graph.paths, shapes, expected, strict=False) if a != b]
        where = f": {different[0] or 'an array'} has another shape or dtype" if different else ""
        raise ArgumentError(
            f"expected layers that differ in the values of their arrays alone, but layers[{n}] is of another kind than "
            f"layers[0]{where}. Use fx.Chain for layers of several kinds."
        )


def _trial(graph: Graph, x: jax.Array) -> tuple[list[int], bool]:
    """Which arrays a layer replaces on itself, and whether it draws random numbers: found out on shapes."""
    drawn = 0
    changing: dict[int, Any] = {}

    def step(key: jax.Array, x: jax.Array) -> jax.Array:
        nonlocal drawn
        with randomness(key) as stream:
            out, changed = _call(graph, graph.leaves, x)
        drawn = stream.count
        changing.update({i: (new.shape, new.dtype) for i, new in changed.items()})
        return out

    out = jax.eval_shape(step, jax.eval_shape(lambda: jax.random.key(0)), jax.ShapeDtypeStruct(x.shape, x.dtype))
    if not hasattr(out, "shape") or (out.shape, out.dtype) != (x.shape, x.dtype):
        got = f"{out.dtype}{out.shape}" if hasattr(out, "shape") else f"a {type(out).__name__}"
        raise ShapeError(
            f"expected each layer to return an array like its input, {x.dtype}{x.shape}, got {got}. "
            "Use fx.Chain for layers that change the shape."
        )
    for i, (shape, dtype) in changing.items():
        old = graph.leaves[i]
        if (old.shape, old.dtype) != (shape, dtype):
            raise StateError(f"expected the layer to keep {graph.paths[i]} {old.dtype}{old.shape}, got {dtype}{shape}.")
    return sorted(changing), drawn > 0


def _call(graph: Graph, leaves: Sequence[Any], x: jax.Array) -> tuple[Any, dict[int, Any]]:
    """Output of a layer that holds `leaves`, and the arrays that it assigned to itself."""
    return call_copy(
        graph,
        leaves,
        lambda layer: layer(x),
        "a layer assigned to {}, which held no array before. In a loop that would happen once for all layers: "
        "set the array in the constructor, or use fx.Chain.",
    )
