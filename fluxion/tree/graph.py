"""What is known of a model after a walk over it, and the way back: copies that hold other arrays, writing in place.

`scan` and `scan_call` (`walk.py`) make a `Graph`: the arrays that were found (each once, however many paths lead to
it), the path and the role of each, and enough structure to

* build a working copy that holds other leaves (`Graph.build`): how transforms hand tracers to a model; what a call
  changes on that copy is then repeated on the originals (`changes.py`),
* put new arrays into the originals (`Graph.assign`),
* tell whether two objects are the same program (`program_key`), which is what the compile cache asks.

Nothing here knows what a layer means.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence
from typing import Any

import jax
import numpy as np

from fluxion.errors import StateError
from fluxion.tree.protocol import Kind, Step, static_key

PARAMETER = "parameter"  # a floating array, which training changes
BUFFER = "buffer"  # a layer's state, such as running statistics
CONSTANT = "constant"  # integers, booleans, random keys
CAPTURED = "captured"  # used by a function, but no part of what is trained


def is_array(value: object) -> bool:
    """Whether `value` is a leaf: a jax array, tracer or shape, or a numeric numpy array."""
    if isinstance(value, (jax.Array, jax.ShapeDtypeStruct)):
        return True
    return isinstance(value, np.ndarray) and (value.dtype.kind in "biufc" or _is_small_float(value.dtype))


def is_floating(value: Any) -> bool:
    """Whether an array can have a gradient (real or complex, of any precision)."""
    return jax.numpy.issubdtype(value.dtype, np.inexact)


def _is_small_float(dtype: np.dtype) -> bool:
    """bfloat16 and its kin, which numpy itself takes for raw bytes."""
    return dtype.kind == "V" and dtype.names is None and jax.numpy.issubdtype(dtype, np.inexact)


class _Numbered:
    """A number with a meaning: equal only to the same number with the same meaning."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.index == self.index

    def __hash__(self) -> int:
        return hash((type(self).__name__, self.index))


# What stands at a child's place: an array, a node, a static value.
class LeafRef(_Numbered):
    __slots__ = ()


class NodeRef(_Numbered):
    __slots__ = ()


class Static:
    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class Outside(_Numbered):
    """A node of another graph, met again inside a changed value."""

    __slots__ = ()


Ref = LeafRef | NodeRef | Static | Outside
Place = tuple[int, Step]  # a child, by the index of its node


@dataclasses.dataclass(slots=True)
class Node:
    kind: Kind
    meta: Any
    children: list[tuple[Step, Ref]]
    original: Any  # kept by a template only where the object itself is shared
    path: str
    live: bool = False  # part of a working copy; the others are shared


class Working:
    """A working copy of a graph's objects, and what was installed in it."""

    def __init__(self, graph: Graph, leaves: Sequence[Any], outside: Sequence[Node] = ()) -> None:
        self.graph = graph
        self.leaves = leaves
        self.outside = outside
        self.made: dict[int, Any] = {}
        self.late: list[tuple[int, Step, Ref]] = []
        self.roots = tuple(self.get(ref) for ref in graph.roots)
        for index, step, ref in self.late:  # grows while it is read
            self.graph.nodes[index].kind.write(self.made[index], step, self.get(ref))

    def get(self, ref: Ref) -> Any:
        if isinstance(ref, LeafRef):
            return self.leaves[ref.index]
        if isinstance(ref, Static):
            return ref.value
        if isinstance(ref, Outside):
            return self.outside[ref.index].original
        if ref.index in self.made:
            return self.made[ref.index]
        node = self.graph.nodes[ref.index]
        if not node.live:
            self.made[ref.index] = node.original
            return node.original
        early = [(step, self.get(child)) for step, child in node.children if node.kind.is_early(step)]
        made = self.made[ref.index] = node.kind.make(node.meta, early)
        self.late += [(ref.index, step, child) for step, child in node.children if not node.kind.is_early(step)]
        return made


class Graph:
    """The result of `scan`: see the module's first lines."""

    def __init__(
        self,
        nodes: list[Node],
        roots: list[Ref],
        leaves: list[Any],
        paths: list[str],
        roles: list[str],
    ) -> None:
        self.nodes = nodes
        self.roots = roots
        self.leaves = leaves
        self.paths = paths
        self.roles = roles

    def indices(self, *roles: str) -> list[int]:
        return [i for i, role in enumerate(self.roles) if role in roles]

    def build(self, leaves: Sequence[Any]) -> Working:
        """A working copy of the roots which holds `leaves` in place of the arrays."""
        return Working(self, leaves)

    def rebuilt(self, leaves: Sequence[Any]) -> Any:
        """A copy of the only root with other leaves."""
        (root,) = Working(self, leaves).roots
        return root

    def assign(self, leaves: Sequence[Any]) -> None:
        """Write `leaves` into the original objects, in place."""
        done: dict[int, Any] = {}

        def current(ref: Ref) -> Any:
            if isinstance(ref, LeafRef):
                return leaves[ref.index]
            return ref.value if isinstance(ref, Static) else visit(ref.index)

        def before(ref: Ref) -> Any:
            if isinstance(ref, LeafRef):
                return self.leaves[ref.index]
            return ref.value if isinstance(ref, Static) else self.nodes[ref.index].original

        def visit(index: int) -> Any:
            if index in done:
                return done[index]
            node = self.nodes[index]
            done[index] = node.original
            if not node.live:
                return node.original
            fresh = [(step, current(ref)) for step, ref in node.children]
            changed = [new for new, (_, ref) in zip(fresh, node.children, strict=True) if new[1] is not before(ref)]
            if not changed:
                return node.original
            if not node.kind.mutable:
                done[index] = node.kind.make(node.meta, fresh)
                return done[index]
            for step, value in changed:
                node.kind.write(node.original, step, value)
            return node.original

        for ref in self.roots:
            if current(ref) is not before(ref):
                held = type(before(ref)).__name__
                raise StateError(
                    f"expected a model whose arrays can be replaced in place, got a bare {held}. "
                    "Put it in a list, a dict, a Param or a Layer."
                )

    def template(self) -> Graph:
        """The structure alone: what a cached program keeps, without the arrays or the objects that held them."""
        nodes = [dataclasses.replace(node, original=None) if node.live else node for node in self.nodes]
        return Graph(nodes, self.roots, [None] * len(self.leaves), self.paths, self.roles)

    def key(self, ignored: frozenset[Place] = frozenset()) -> Hashable:
        """Equal for equal structures with the same code and static values; arrays count only as places.

        Static values at the places `ignored` do not count.
        """

        def children(index: int, node: Node) -> Hashable:
            return tuple(
                (step, _ref_key(ref))
                for step, ref in node.children
                if not (ignored and isinstance(ref, Static) and (index, any_item(step)) in ignored)
            )

        return (
            tuple(self.roles),
            tuple(map(_ref_key, self.roots)),
            tuple((node.kind.meta_key(node.meta), children(i, node)) for i, node in enumerate(self.nodes)),
        )


def replace_at(leaves: Sequence[Any], indices: Sequence[int], values: Sequence[Any]) -> list[Any]:
    """A copy of `leaves` with `values` at `indices`."""
    replaced = list(leaves)
    for i, value in zip(indices, values, strict=True):
        replaced[i] = value
    return replaced


def any_item(step: Step) -> Step:
    """The step, all items of a list being one: lists grow."""
    return ("item", None) if step[0] == "item" else step


def _ref_key(ref: Ref) -> Hashable:
    return static_key(ref.value) if isinstance(ref, Static) else ref


def extend_path(path: str, step: Step) -> str:
    """The path of a child: `layers[0]` and `("attr", "weight")` give `layers[0].weight`."""
    place, name = step
    if place in ("contents", "self"):
        return path
    if place in ("item", "key"):
        return f"{path}[{name!r}]"
    if place == "default":
        name = name[1]
    return f"{path}.{name}" if path else str(name)
