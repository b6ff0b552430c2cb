"""`Recurrence`: any cell over whole sequences, as one compiled loop.

The cell runs in `jax.lax.scan`, where nothing may be assigned and every step would draw the same random numbers. So it
runs on a working copy; arrays that it assigns to itself are carried from step to step like its state, and each step has
a random key of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.errors import DTypeError, ShapeError, StateError
from fluxion.layers.cells import shapes
from fluxion.layers.containers import checked_layer
from fluxion.layers.inputs import as_array
from fluxion.layers.recurrent import own_stream, steps_kept
from fluxion.ops.recurrent import held, unroll
from fluxion.transform.compile import jit
from fluxion.transform.randomness import next_key, randomness
from fluxion.transform.sizes import is_sizing
from fluxion.tree.changes import find_changes, running
from fluxion.tree.graph import Graph, extend_path, replace_at
from fluxion.tree.layer import Layer, is_observed, observing
from fluxion.tree.walk import scan_call

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Int, Shaped


class Recurrence(Layer):
    """Any cell over whole sequences: `out[t], state = cell(x[t], state)`, as one compiled loop.

    Called as `layer(x, state, mask=..., lengths=...)`; all but `x` may be left out. A state left out is what
    `cell.initial_state(batch_shape)` returns; a cell without that method is called with `None` for its first state.

    The cell may be a layer or a function. Arrays that it assigns to itself are carried from step to step and are on it
    after the call; random numbers are drawn anew at each step.

    Shapes: `x` `(batch, time, ...)`, outputs likewise with whatever axes follow for the cell; one sequence
    `(time, features)` gives `(time, ...)`. State, `mask` and `lengths` are as in `LSTM`; with these two the arrays of
    the state begin with the batch axis.

    Arguments:
      cell: called with the input of one step, `(batch, ...)`, and the state; returns output and state, any
        arrays in tuples, lists or dicts. The state keeps its structure and shapes.
      return_state: whether a call returns the last state, too.

    Errors: as for `LSTM`; ShapeError if the cell returns another kind of state than it was given; StateError if it
    assigns anything but arrays of the same shape to itself, or, together with a mask, any array. Source:
    `Flux.Recurrence`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> class Leaky(fx.Layer):
    ...     def __init__(self, rate): self.rate = jnp.asarray(rate)
    ...     def initial_state(self, batch_shape): return jnp.zeros((*batch_shape, 1))
    ...     def __call__(self, x, state):
    ...         state = self.rate * state + x
    ...         return state, state
    >>> fx.Recurrence(Leaky(0.5))(jnp.ones((3, 1))).tolist()
    [[1.0], [1.5], [1.75]]
    >>> fx.Recurrence(fx.LSTMCell(3, 5))(fx.ones(8, 10, 3)).shape
    (8, 10, 5)
    """

    cell: Callable[..., Any]
    return_state: bool

    def __init__(self, cell: Callable[..., Any], *, return_state: bool = False) -> None:
        self.cell = checked_layer("Recurrence", cell, "as its cell")
        self.return_state = bool(return_state)

    def initial_state(self, batch_shape: int | tuple[int, ...] = ()) -> Any:
        """What the cell's `initial_state` returns; `batch_shape` is the batch size, or `()` for a single sequence."""
        if not hasattr(self.cell, "initial_state"):
            raise StateError("the cell has no method initial_state(batch_shape). Give it one, or give the state.")
        return self.cell.initial_state((batch_shape,) if isinstance(batch_shape, int) else batch_shape)

    def __call__(
        self,
        x: Shaped[Array, "*batch time ..."],
        state: Any = None,
        *,
        mask: Bool[Array, "*batch time"] | None = None,
        lengths: Int[Array, "*batch"] | None = None,
    ) -> Any:
        x = jnp.asarray(as_array(x))
        if x.ndim < 2:
            raise ShapeError(
                f"expected input (batch, time, ...), or (time, features) for one sequence, got {x.shape}. Reshape it."
            )
        kept = steps_kept(x.shape[: 1 if x.ndim == 2 else 2], mask, lengths)
        if state is None and hasattr(self.cell, "initial_state"):
            state = self.initial_state(x.shape[: x.ndim > 2])
        try:
            result = kept.marked(_repeated(self.cell, kept.cleared(x), state, kept.mask))
        except Exception as error:
            point_to(error, self.cell)
            raise
        return result if self.return_state else result[0]


def _repeat(cell: Callable[..., Any], x: Array, state: Any, mask: Array | None) -> tuple[Any, Any]:
    """Outputs and last state of a cell over a sequence; writes to the cell what its steps assign to it.

    The first step runs outside of the loop where only the cell knows its first state, where it may have no size yet,
    and where somebody looks into the model (`observing`).
    """
    time = min(x.ndim - 2, 1)
    x, mask = jnp.moveaxis(x, time, 0), None if mask is None else jnp.moveaxis(mask, time, 0)
    unknown = state is None or is_sizing()
    if unknown and not len(x):
        raise ShapeError("expected at least one step for a cell whose state is not known, got none. Give the state.")
    if state is None and mask is not None:
        raise StateError(
            "expected an initial state beside mask or lengths. Give the cell a method initial_state(batch_shape), or "
            "give the state."
        )
    loop, key = Loop(cell), None
    if not is_sizing():
        state = loop.prepare(x, state)
        with own_stream(loop.draws):
            key = next_key() if loop.draws else None
    first: tuple[Any, ...] = ()
    if unknown or (is_observed() and len(x)):
        start = state
        try:
            with stream_of_step(key, 0):
                out, state = pair(cell(x[0], start))
        except Exception as error:
            mark(error, [node.original for node in loop.graph.nodes])
            raise
        if mask is not None:
            out, state = held(mask[0], out, state, start)
        first, loop = (jax.tree.map(lambda y: y[None], out),), Loop(cell)
        state = loop.prepare(x, state)
    if mask is not None and loop.changing:
        paths = ", ".join(loop.graph.paths[i] for i in loop.changing)
        raise StateError(
            f"{paths} changes at every step, at the masked ones too. Leave mask and lengths out, or keep it in the "
            "state."
        )
    rest, state = loop.run(x, state, mask, key, len(first))
    outputs = jax.tree.map(lambda *parts: jnp.moveaxis(jnp.concatenate(parts), 0, time), *first, rest)
    return outputs, state


_repeated = jit(_repeat)


class Loop:
    """A cell as a pure function, to be repeated.

    `prepare` finds out, by a trial on shapes, what a step does beside its result: `changing` are the arrays (leaves of
    the graph) that it replaces on the cell, `draws` says whether it draws random numbers.
    """

    def __init__(self, cell: Callable[..., Any]) -> None:
        self.graph = scan_call(cell, ())
        self.draws = False
        self.changing: list[int] = []

    def prepare(self, x: Array, state: Any) -> Any:
        """The state in the dtypes that a step returns; None if it is not known yet."""
        if state is None:
            self._trial(x, None)
            return None
        state = arrays(state)
        for _ in range(2):  # once more if the first state was, say, of integers
            after, own = self._trial(x, state)
            if kind_of_state(after) != kind_of_state(state):
                raise ShapeError(
                    f"expected the cell to return a state like the one it is given, of shapes {shapes(state)}, "
                    f"got {shapes(after)}."
                )
            before, state = state, jax.tree.map(lambda a, b: a.astype(b.dtype), state, after)
            if dtypes(before) == dtypes(state):
                break
        else:
            raise DTypeError(
                f"expected the cell to return a state of the dtypes it is given, {dtypes(before)}, got {dtypes(state)}."
            )
        for i, new in zip(self.changing, own, strict=True):
            old = self.graph.leaves[i]
            if (old.shape, old.dtype) != (new.shape, new.dtype):
                raise ShapeError(
                    f"expected the cell to keep {self.graph.paths[i]} {old.dtype}{old.shape}, "
                    f"got {new.dtype}{new.shape}."
                )
        return state

    def _trial(self, x: Array, state: Any) -> tuple[Any, list[Any]]:
        """What kind of state and of arrays of its own a step makes; notes what it does beside."""

        def step(key: Array, x: Array, state: Any) -> tuple[Any, list[Any]]:
            with randomness(key) as stream:
                _, after, changed = self._step(self.graph.leaves, x, state)
            self.draws, self.changing = stream.count > 0, sorted(changed)
            return after, [changed[i] for i in self.changing]

        key = jax.eval_shape(lambda: jax.random.key(0))
        return jax.eval_shape(step, key, jax.ShapeDtypeStruct(x.shape[1:], x.dtype), state)

    def _step(self, leaves: Any, x: Array, state: Any) -> tuple[Any, Any, dict[int, Any]]:
        """Output, state, and the arrays that the cell assigned to itself, for a cell that holds `leaves`."""
        (out, state), changed = call_copy(
            self.graph,
            leaves,
            lambda cell: pair(cell(x, state)),
            "the cell assigned to {}, which held no array before. It would happen once, not at every step: "
            "set the array in the constructor, or keep it in the state.",
        )
        return out, state, changed

    def run(self, x: Array, state: Any, mask: Array | None, key: Array | None, begin: int) -> tuple[Any, Any]:
        """Outputs and last state of the steps from `begin`; then the cell holds the arrays it has assigned."""
        leaves = self.graph.leaves

        def step(at: tuple[Array, Array], carry: tuple[Any, Any]) -> tuple[Any, tuple[Any, Any]]:
            (index, one), (state, own) = at, carry
            with stream_of_step(key, index):
                out, state, changed = self._step(replace_at(leaves, self.changing, own), one, state)
            return out, (state, [changed[i] for i in self.changing])

        own = [jnp.asarray(leaves[i]) for i in self.changing]
        xs = (jnp.arange(begin, len(x)), x[begin:])
        outputs, (state, own) = unroll(step, xs, (state, own), None if mask is None else mask[begin:])
        if own:
            self.graph.assign(replace_at(leaves, self.changing, own))
        return outputs, state


def call_copy(
    graph: Graph, leaves: Sequence[Any], call: Callable[[Any], Any], refusal: str
) -> tuple[Any, dict[int, Any]]:
    """What `call` makes of a copy of the graph's layer that holds `leaves`, and the arrays that it assigned to itself.

    StateError with `refusal`, which has a place for the path, where it assigned anything else.
    """
    working = graph.build(leaves)
    try:
        with running(working), observing(ignore) if is_observed() else contextlib.nullcontext():
            result = call(working.roots[0])
    except Exception as error:
        mark(error, [working.made.get(i) for i in range(len(graph.nodes))])
        raise
    changed: dict[int, Any] = {}
    other = find_changes(working, changed)
    for index, step in (*other.written, *other.removed):
        raise StateError(refusal.format(extend_path(graph.nodes[index].path, step)))
    return result, changed


def stream_of_step(key: Array | None, index: Any) -> contextlib.AbstractContextManager[Any]:
    """The random numbers of one step; None for a cell that draws none."""
    return contextlib.nullcontext() if key is None else randomness(jax.random.fold_in(key, index))


def pair(result: Any) -> tuple[Any, Any]:
    """Output and state that a cell returned, as arrays."""
    if not isinstance(result, tuple) or len(result) != 2:
        what = f"a tuple of {len(result)}" if isinstance(result, tuple) else f"a {type(result).__name__}"
        raise DTypeError(f"expected the cell to return the pair (output, state), got {what}.")
    out, state = result
    return jax.tree.map(jnp.asarray, out), arrays(state)


def kind_of_state(state: Any) -> tuple[str, list[tuple[int, ...]]]:
    leaves, structure = jax.tree.flatten(state)
    return str(structure), [leaf.shape for leaf in leaves]


def dtypes(state: Any) -> str:
    return ", ".join(leaf.dtype.name for leaf in jax.tree.leaves(state))


def arrays(state: Any) -> Any:
    """The state with its numbers as arrays."""
    for leaf in jax.tree.leaves(state):
        if not isinstance(leaf, jax.Array | np.ndarray | np.generic | int | float | complex | jax.ShapeDtypeStruct):
            raise DTypeError(
                f"expected a state of arrays in tuples, lists or dicts, got a {type(leaf).__name__}. "
                "Register its class with jax.tree_util, or give its arrays in a tuple."
            )
    return jax.tree.map(jnp.asarray, state)


# Where in a cell an error happened: the copies in which a cell runs have their parts in the same order


def mark(error: Any, parts: list[Any]) -> None:
    """Note on an error which of the `parts` of a copy it came from."""
    error.part = next((i for i, p in enumerate(parts) if p is not None and p is getattr(error, "layer", None)), None)


def point_to(error: Any, cell: Any) -> None:
    """Let an error speak of the part of `cell` that was marked, not of the copy."""
    part, error.part = getattr(error, "part", None), None
    if part is not None:
        error.layer = scan_call(cell, ()).nodes[part].original


def ignore(layer: Any, inputs: Any, out: Any) -> None:
    """In place of an observer, who could not read what the loop computes."""
