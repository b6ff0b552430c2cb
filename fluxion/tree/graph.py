"""One walk over anything a model may be made of, and the way back.

`scan(obj)` returns a `Graph`: the arrays it found (each once, however many paths lead to it), the path and the
role of each, and enough structure to

* build a working copy that holds other leaves (`Graph.build`): how transforms hand tracers to a model,
* see what a call changed on that copy (`Working.changes`) and repeat it on the originals (`Changes.apply`),
* put new arrays into the originals (`Graph.assign`),
* tell whether two objects are the same program (`Graph.key`), which is what the compile cache asks.

Nothing here knows what a layer means.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Hashable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import jax
import numpy as np

from fluxion.errors import StateError
from fluxion.tree.functions import (
    CELL,
    FUNCTION,
    MODULE,
    NAMESPACE,
    CodeFacts,
    absent,
    code_facts,
    is_library,
    look_up,
    namespace_of,
)
from fluxion.tree.kinds import OBJECT, Bulk, buffers_of, kind_of, static_parts
from fluxion.tree.protocol import Identity, Kind, Step, static_key

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


# A reference to a child: a leaf by its index, a node by its index, or a static value.
@dataclasses.dataclass(frozen=True, slots=True)
class LeafRef:
    index: int


@dataclasses.dataclass(frozen=True, slots=True)
class NodeRef:
    index: int


@dataclasses.dataclass(frozen=True, slots=True)
class Static:
    value: Any


@dataclasses.dataclass(frozen=True, slots=True)
class Outside:
    """A node of another graph, met again inside a changed value."""

    index: int


Ref = LeafRef | NodeRef | Static | Outside
_NOTHING = Static(None)
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

    def changes(self, replaced: dict[int, Any] | None = None, result: Any = None) -> Changes:
        """What has been written to the working copy since it was made, and what came out of it.

        Where `replaced` is given, an array put in the place of a leaf goes there, by the leaf's index.
        """
        nodes = self.graph.nodes
        index_of = {id(made): i for i, made in self.made.items() if nodes[i].live}
        written: list[tuple[int, Step]] = []
        removed: list[tuple[int, Step]] = []
        values: list[Any] = []
        for i, made in self.made.items():
            node = nodes[i]
            if not (node.live and node.kind.mutable):
                continue
            before = dict(node.children)
            after = node.kind.children(made)
            for step, value in after:
                ref = before.get(step)
                if ref is not None and self.unchanged(ref, value):
                    continue
                if replaced is not None and isinstance(ref, LeafRef) and is_array(value):
                    replaced[ref.index] = value
                else:
                    written.append((i, step))
                    values.append(value)
            present = {step for step, _ in after}
            # The last items of a list first: each removal takes one from its end.
            removed += [(i, step) for step in reversed(before) if step not in present and step[0] != "globals"]
        found = _Scan(follow_globals=False, outside=index_of)
        refs = [found.add(value, f"changed {step}") for (_, step), value in zip(written, values, strict=True)]
        graph = found.finish([*refs, found.add(result, "result")])
        for (i, step), ref in zip(written, refs, strict=True):
            if isinstance(ref, LeafRef) and _is_dead(graph.leaves[ref.index]):
                raise StateError(
                    f"{_extend(nodes[i].path, step)} was assigned inside a loop or function that JAX transforms (such "
                    "as lax.scan or vmap), and its value does not exist outside. Return it from there first."
                )
        return Changes(graph.template(), tuple(written), tuple(removed), graph.leaves)

    def unchanged(self, ref: Ref, value: Any) -> bool:
        before = self.get(ref)
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

    def python_places(self) -> frozenset[Place]:
        """Where Python values were written or removed, as opposed to arrays."""
        written = [
            place for place, ref in zip(self.written, self.graph.roots[:-1], strict=True) if not self.has_array(ref)
        ]
        return frozenset((index, _any_item(step)) for index, step in [*written, *self.removed])

    def places(self) -> tuple[frozenset[Place], ...]:
        """Where something was written, and where something was removed."""
        return tuple(frozenset((i, _any_item(step)) for i, step in list_) for list_ in (self.written, self.removed))

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
        *values, result = Working(self.graph, self.leaves, originals).roots
        for (index, step), value in zip(self.written, values, strict=True):
            if isinstance(value, jax.core.Tracer) and _must_stay_concrete(originals[index]):
                raise StateError(
                    f"{_extend(originals[index].path, step)} changes inside a transformation of JAX's own (such as "
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


class Graph:
    """The result of `scan`: see the module's first lines."""

    def __init__(
        self,
        nodes: list[Node],
        roots: list[Ref],
        leaves: list[Any],
        paths: list[str],
        roles: list[str],
        groups: list[Any],
    ) -> None:
        self.nodes = nodes
        self.roots = roots
        self.leaves = leaves
        self.paths = paths
        self.roles = roles
        self.groups = groups  # which root each leaf belongs to

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
        return Graph(nodes, self.roots, [None] * len(self.leaves), self.paths, self.roles, self.groups)

    def key(self, ignored: frozenset[Place] = frozenset()) -> Hashable:
        """Equal for equal programs: same code, same structure, same static values; arrays count only as places.

        Static values at the places `ignored` do not count.
        """
        classes = {node.meta: None for node in self.nodes if node.kind is OBJECT}
        return self.structure_key(ignored), tuple(map(_class_key, classes))

    def structure_key(self, ignored: frozenset[Place] = frozenset()) -> Hashable:
        def children(index: int, node: Node) -> Hashable:
            return tuple(
                (step, _ref_key(ref))
                for step, ref in node.children
                if not (ignored and isinstance(ref, Static) and (index, _any_item(step)) in ignored)
            )

        return (
            tuple(self.roles),
            tuple(map(_ref_key, self.roots)),
            tuple((node.kind.meta_key(node.meta), children(i, node)) for i, node in enumerate(self.nodes)),
        )


def _any_item(step: Step) -> Step:
    """The step, all items of a list being one: lists grow."""
    return ("item", None) if step[0] == "item" else step


def _ref_key(ref: Ref) -> Hashable:
    return static_key(ref.value) if isinstance(ref, Static) else ref


def _class_key(cls: type) -> Hashable:
    """What the methods of a user's class read beside the instance. Arrays among it are constants of the program."""
    parts = static_parts(cls)
    if not parts:
        return cls
    found = _Scan(follow_globals=True)
    graph = found.finish([found.add(value, str(step[1])) for step, value in parts])
    return cls, tuple(step for step, _ in parts), graph.structure_key(), tuple(map(Identity, graph.leaves))


class _Scan:
    """The state of one walk."""

    def __init__(self, *, follow_globals: bool, outside: dict[int, int] | None = None) -> None:
        self.follow_globals = follow_globals
        self.outside = outside or {}
        self.nodes: list[Node] = []
        self.leaves: list[Any] = []
        self.paths: list[str] = []
        self.roles: list[str] = []
        self.groups: list[Any] = []
        self.node_index: dict[tuple[int, Any], int] = {}
        self.leaf_index: dict[tuple[int, Any], int] = {}
        self.argument_nodes: dict[int, int] = {}
        self.taken: set[tuple[Any, str]] = set()
        self.deferred: list[tuple[int, tuple[str, ...], tuple[str, ...]]] = []
        self.kept: list[Any] = []  # temporary objects whose id must not be reused during the walk
        self.group: Any = None
        self.captured = False

    def add(self, value: Any, path: str, *, buffer: bool = False) -> Ref:
        if is_array(value):
            return self.add_leaf(value, path, buffer)
        if id(value) in self.outside:
            return Outside(self.outside[id(value)])
        kind = kind_of(value)
        if kind is None or (kind is MODULE and not self.follow_globals):
            return Static(value)
        known = self.known(value)
        if known is not None:
            return NodeRef(known)
        index = self.add_node(kind, value, path)
        children = self.nodes[index].children
        buffers = buffers_of(value.__class__) if kind is OBJECT else ()
        if kind is MODULE:
            children.append((("globals", None), self.add_namespace(namespace_of(value))))
            return NodeRef(index)
        for step, child in kind.children(value):
            is_buffer = buffer or (step[0] == "attr" and step[1] in buffers)
            children.append((step, self.add(child, _extend(path, step), buffer=is_buffer)))
        if kind is FUNCTION:
            self.add_function(value, index)
        return NodeRef(index)

    def known(self, value: Any) -> int | None:
        """The node of an object met before. What the function shares with its arguments is theirs."""
        index = self.node_index.get((id(value), self.group))
        if index is None and self.captured:
            index = self.argument_nodes.get(id(value))
        return index

    def add_node(self, kind: Kind, value: Any, path: str) -> int:
        index = self.node_index[id(value), self.group] = len(self.nodes)
        if not self.captured:
            self.argument_nodes.setdefault(id(value), index)
        self.nodes.append(Node(kind, kind.meta(value), [], value, path, kind.always_copied))
        self.kept.append(value)
        return index

    def add_function(self, function: Any, index: int) -> None:
        """What a function does outside of itself: the variables it assigns to, the globals it reads."""
        node, facts = self.nodes[index], code_facts(function.__code__)
        if facts.rebinds:
            node.live = True
            for step, ref in node.children:
                if step[0] == "cell" and isinstance(ref, NodeRef):
                    self.nodes[ref.index].live = True
        if self.follow_globals and not is_library(function.__globals__):
            namespace = self.add_namespace(function.__globals__)
            node.children.append((("globals", None), namespace))
            self.nodes[namespace.index].live |= bool(facts.stored)
            self.deferred.append((namespace.index, facts.global_names, facts.names))
            for _, cell in FUNCTION.children(function)[: len(function.__closure__ or ())]:
                for _, value in CELL.children(cell):
                    self.follow_module(value, facts.names)

    def add_namespace(self, namespace: dict[str, Any]) -> NodeRef:
        place = (id(namespace), "globals")  # one for all functions of a module, whoever reaches them
        if place not in self.node_index:
            self.node_index[place] = len(self.nodes)
            self.nodes.append(Node(NAMESPACE, NAMESPACE.meta(namespace), [], namespace, "", False))
        return NodeRef(self.node_index[place])

    def add_leaf(self, value: Any, path: str, buffer: bool) -> LeafRef:
        place = (id(value), self.group)
        if place not in self.leaf_index:
            self.leaf_index[place] = len(self.leaves)
            self.leaves.append(value)
            path = path or "value"
            while (self.group, path) in self.taken:  # two keys that print alike
                path += "~"
            self.taken.add((self.group, path))
            self.paths.append(path)
            self.groups.append(self.group)
            if self.captured:
                role = CAPTURED
            elif not is_floating(value):
                role = CONSTANT
            else:
                role = BUFFER if buffer else PARAMETER
            self.roles.append(role)
        return LeafRef(self.leaf_index[place])

    def finish(self, roots: list[Ref]) -> Graph:
        self.group, self.captured = "function", True
        self.add_globals()
        spread_liveness(self.nodes)
        return Graph(self.nodes, roots, self.leaves, self.paths, self.roles, self.groups)

    def add_globals(self) -> None:
        """Follow the names that functions read in their modules.

        Last, so that what a model owns is never taken for a captured global.
        """
        visited = set()
        followed: set[tuple[int, str]] = set()
        while self.deferred:
            entry = index, names, attributes = self.deferred.pop()
            if entry in visited:
                continue
            visited.add(entry)
            namespace = self.nodes[index].original
            for name in names:
                value = look_up(namespace, name)
                if value is absent:
                    continue
                if (index, name) not in followed:
                    followed.add((index, name))
                    self.nodes[index].children.append((("global", name), self.add(value, name)))
                self.follow_module(value, attributes)

    def follow_module(self, value: Any, attributes: tuple[str, ...]) -> None:
        """Of `net` in `net.model(x)`, any of the attributes that the code names may be meant."""
        if kind_of(value) is MODULE:
            inner = self.add_namespace(namespace_of(value))
            self.deferred.append((inner.index, attributes, attributes))


def spread_liveness(nodes: Sequence[Node]) -> None:
    """Whatever reaches an array or a live node is part of the working copy too.

    Of a module's globals, a function reaches those that its code names.
    """
    owners: list[list[int]] = [[] for _ in nodes]

    def connect(owner: int, ref: Ref) -> None:
        if isinstance(ref, NodeRef):
            owners[ref.index].append(owner)
        elif isinstance(ref, (LeafRef, Outside)):
            nodes[owner].live = True

    names: dict[int, dict[Step, Ref]] = {}  # what each namespace holds
    readers: list[tuple[int, int, CodeFacts]] = []  # function, its namespace, and what its code names
    for i, node in enumerate(nodes):
        for step, ref in node.children:
            if node.kind is FUNCTION and step[0] == "globals" and isinstance(ref, NodeRef):
                names.setdefault(ref.index, dict(nodes[ref.index].children))
                readers.append((i, ref.index, code_facts(node.meta.code)))
            else:
                connect(i, ref)
    stored = {(namespace, name) for _, namespace, facts in readers for name in facts.stored}
    for i, namespace, facts in readers:
        for name in facts.global_names:
            nodes[i].live |= (namespace, name) in stored
            connect(i, names[namespace].get(("global", name), _NOTHING))
    todo = [i for i, node in enumerate(nodes) if node.live]
    while todo:
        for owner in owners[todo.pop()]:
            if not nodes[owner].live:
                nodes[owner].live = True
                todo.append(owner)


def scan(obj: Any) -> Graph:
    """Walk a model: what it owns, without the globals its functions read."""
    found = _Scan(follow_globals=False)
    return found.finish([found.add(obj, "")])


def scan_call(function: Any, args: Sequence[Any]) -> Graph:
    """Walk a function and its arguments: roots are `(function, *args)`.

    What is reached from two arguments counts once for each, as partial derivatives demand; an object that is both an
    argument and a variable of the function is one object. The function's own arrays are captured.
    """
    found = _Scan(follow_globals=True)
    refs = []
    for position, arg in enumerate(args):
        found.group = position
        refs.append(found.add(arg, ""))
    found.group, found.captured = "function", True
    return found.finish([found.add(function, ""), *refs])


def _extend(path: str, step: Step) -> str:
    place, name = step
    if place in ("contents", "self"):
        return path
    if place == "item" or (place == "key" and not isinstance(name, str)):
        return f"{path}[{name!r}]"
    if place == "key":
        return f"{path}[{name!r}]"
    if place == "default":
        name = name[1]
    return f"{path}.{name}" if path else str(name)
