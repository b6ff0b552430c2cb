"""What a call wrote to a working copy: found by comparing, carried out of a trace, repeated on the originals."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import jax

from fluxion.errors import StateError
from fluxion.tree.graph import (
    Graph,
    LeafRef,
    Node,
    NodeRef,
    Outside,
    Place,
    Ref,
    Working,
    any_item,
    extend_path,
    is_array,
)
from fluxion.tree.kinds import Bulk
from fluxion.tree.protocol import Step
from fluxion.tree.walk import Scan


def find_changes(working: Working, replaced: dict[int, Any] | None = None, result: Any = None) -> Changes:
    """What has been written to the working copy since it was made, and what came out of it.

    Where `replaced` is given, an array put in the place of a leaf goes there, by the leaf's index.
    """
    nodes = working.graph.nodes
    index_of = {id(made): i for i, made in working.made.items() if nodes[i].live}
    written: list[tuple[int, Step]] = []
    removed: list[tuple[int, Step]] = []
    values: list[Any] = []
    for i, made in working.made.items():
        node = nodes[i]
        if not (node.live and node.kind.mutable):
            continue
        before = dict(node.children)
        after = node.kind.children(made)
        for step, value in after:
            ref = before.get(step)
            if ref is not None and _is_unchanged(working.get(ref), value):
                continue
            if replaced is not None and isinstance(ref, LeafRef) and is_array(value):
                replaced[ref.index] = value
            else:
                written.append((i, step))
                values.append(value)
        present = {step for step, _ in after}
        # The last items of a list first: each removal takes one from its end.
        removed += [(i, step) for step in reversed(before) if step not in present and step[0] != "globals"]
    found = Scan(follow_globals=False, outside=index_of)
    refs = [found.add(value, f"changed {step}") for (_, step), value in zip(written, values, strict=True)]
    graph = found.finish([*refs, found.add(result, "result")])
    for (i, step), ref in zip(written, refs, strict=True):
        if isinstance(ref, LeafRef) and _is_dead(graph.leaves[ref.index]):
            raise StateError(
                f"{extend_path(nodes[i].path, step)} was assigned inside a loop or function that JAX transforms (such "
                "as lax.scan or vmap), and its value does not exist outside. Return it from there first."
            )
    return Changes(graph.template(), tuple(written), tuple(removed), graph.leaves)


def _is_unchanged(before: Any, value: Any) -> bool:
    return before is value or (isinstance(value, Bulk) and before == value)


class Changes:
    """Writes made to a working copy, to be repeated on the originals, and the result of the call.

    A JAX pytree whose leaves are the arrays.
    """

    def __init__(
        self,
        graph: Graph,
        written: tuple[tuple[int, Step], ...],
        removed: tuple[tuple[int, Step], ...],
        leaves: list[Any],
    ) -> None:
        self.graph = graph  # its roots are the values written, and last the result
        self.written = written
        self.removed = removed
        self.leaves = leaves

    def is_result_alone(self) -> bool:
        """Whether nothing was written, and no object of the call is part of its result."""
        if self.written or self.removed or type(self.graph.roots[-1]) is Outside:
            return False
        return not any(type(ref) is Outside for node in self.graph.nodes for _, ref in node.children)

    def python_places(self) -> frozenset[Place]:
        """Where Python values were written or removed, as opposed to arrays."""
        written = [
            place for place, ref in zip(self.written, self.graph.roots[:-1], strict=True) if not self.has_array(ref)
        ]
        return frozenset((index, any_item(step)) for index, step in [*written, *self.removed])

    def places(self) -> tuple[frozenset[Place], ...]:
        """Where something was written, and where something was removed."""
        return tuple(frozenset((i, any_item(step)) for i, step in list_) for list_ in (self.written, self.removed))

    def has_array(self, ref: Ref) -> bool:
        """Whether a changed value is, or holds, an array."""
        todo, seen = [ref], set()
        while todo:
            ref = todo.pop()
            if isinstance(ref, LeafRef):
                return True
            if isinstance(ref, NodeRef) and ref.index not in seen:
                seen.add(ref.index)
                todo += [child for _, child in self.graph.nodes[ref.index].children]
        return False

    def apply(self, originals: Sequence[Node], *, arrays_only: bool = False) -> Any:
        """Write to the originals; `arrays_only` leaves out what Python code did while it was being traced.

        Returns the result of the call, in which the originals stand for their working copies.
        """
        if not self.graph.nodes and not self.written and not self.removed:  # an array or a static value
            (ref,) = self.graph.roots
            if type(ref) is LeafRef:
                return self.leaves[ref.index]
        *values, result = Working(self.graph, self.leaves, originals).roots
        for (index, step), value in zip(self.written, values, strict=True):
            if isinstance(value, jax.core.Tracer) and _must_stay_concrete(originals[index]):
                raise StateError(
                    f"{extend_path(originals[index].path, step)} changes inside a transformation of JAX's own (such as "
                    "jax.jit), which cannot write it back. Use fx.jit or fx.gradient there, or give it the model as an "
                    "argument."
                )
        for (index, step), ref, value in zip(self.written, self.graph.roots[:-1], values, strict=True):
            if not arrays_only or self.has_array(ref):
                originals[index].kind.write(originals[index].original, step, value)
        if not arrays_only:
            for index, step in self.removed:
                originals[index].kind.remove(originals[index].original, step)
        return result


# The ids of the objects of the working copies in which the call runs.
_copies: ContextVar[frozenset[int]] = ContextVar("fluxion_copies", default=frozenset())


@contextlib.contextmanager
def running(working: Working) -> Iterator[None]:
    """To be entered while a working copy is called: inner transforms may write tracers to it."""
    token = _copies.set(_copies.get() | set(map(id, working.made.values())))
    try:
        yield
    finally:
        _copies.reset(token)


def _must_stay_concrete(node: Node) -> bool:
    """Whether an object holds arrays that nobody traces and is no working copy: a tracer would stay in it."""
    arrays = [value for _, value in node.kind.children(node.original) if is_array(value)]
    traced = any(isinstance(array, jax.core.Tracer) for array in arrays)
    return bool(arrays) and not traced and id(node.original) not in _copies.get()


def _is_dead(value: Any) -> bool:
    """Whether a tracer belongs to a trace that is over."""
    try:
        if isinstance(value, jax.core.Tracer):
            jax.numpy.copy(value)
    except jax.errors.UnexpectedTracerError:
        return True
    return False


jax.tree_util.register_pytree_node(
    Changes,
    lambda c: (c.leaves, (c.graph, c.written, c.removed)),
    lambda aux, leaves: Changes(*aux, list(leaves)),
)
