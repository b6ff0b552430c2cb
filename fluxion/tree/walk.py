"""The walk over anything a model may be made of: `scan` for a model, `scan_call` for a call of a function."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

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
from fluxion.tree.graph import (
    BUFFER,
    CAPTURED,
    CONSTANT,
    PARAMETER,
    Graph,
    LeafRef,
    Node,
    NodeRef,
    Outside,
    Place,
    Ref,
    Static,
    extend_path,
    is_array,
    is_floating,
)
from fluxion.tree.kinds import OBJECT, buffers_of, kind_of, static_parts
from fluxion.tree.protocol import Identity, Kind, Step


def scan(obj: Any) -> Graph:
    """Walk a model: what it owns, without the globals its functions read."""
    found = Scan(follow_globals=False)
    return found.finish([found.add(obj, "")])


def scan_call(function: Any, args: Sequence[Any]) -> Graph:
    """Walk a function and its arguments: roots are `(function, *args)`.

    What is reached from two arguments counts once for each, as partial derivatives demand; an object that is both an
    argument and a variable of the function is one object. The function's own arrays are captured.
    """
    return walked_call(function, args)[0]


def walked_call(function: Any, args: Sequence[Any]) -> tuple[Graph, Scan]:
    """`scan_call`, and the walk."""
    found = Scan(follow_globals=True)
    refs = []
    for position, arg in enumerate(args):
        found.group = position
        refs.append(found.add(arg, ""))
    found.group, found.captured = "function", True
    return found.finish([found.add(function, ""), *refs]), found


def program_key(graph: Graph, ignored: frozenset[Place] = frozenset()) -> Hashable:
    """Equal for equal programs: `Graph.key`, and what the methods of the classes read beside their instances."""
    classes = {node.meta: None for node in graph.nodes if node.kind is OBJECT}
    return graph.key(ignored), tuple(map(_class_key, classes))


def _class_key(cls: type) -> Hashable:
    """What the methods of a user's class read beside the instance. Arrays among it are constants of the program."""
    parts = static_parts(cls)
    if not parts:
        return cls
    graph, _ = walked_class(cls)
    return cls, tuple(step for step, _ in parts), graph.key(), tuple(map(Identity, graph.leaves))


def walked_class(cls: type) -> tuple[Graph, Scan]:
    """What the methods of a user's class read beside the instance, and the walk."""
    found = Scan(follow_globals=True)
    return found.finish([found.add(value, str(step[1])) for step, value in static_parts(cls)]), found


class Scan:
    """The state of one walk."""

    def __init__(self, *, follow_globals: bool, outside: dict[int, int] | None = None) -> None:
        self.follow_globals = follow_globals
        self.outside = outside or {}
        self.nodes: list[Node] = []
        self.leaves: list[Any] = []
        self.paths: list[str] = []
        self.roles: list[str] = []
        self.node_index: dict[tuple[int, Any], int] = {}
        self.leaf_index: dict[tuple[int, Any], int] = {}
        self.argument_nodes: dict[int, int] = {}
        self.taken: set[tuple[Any, str]] = set()
        self.deferred: list[tuple[int, tuple[str, ...], tuple[str, ...]]] = []
        self.lookups: dict[tuple[int, str], dict[str, Any]] = {}  # the names looked up in modules' globals
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
            children.append((step, self.add(child, extend_path(path, step), buffer=is_buffer)))
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
        return Graph(self.nodes, roots, self.leaves, self.paths, self.roles)

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
                self.lookups[id(namespace), name] = namespace
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
            connect(i, names[namespace].get(("global", name), Static(None)))
    todo = [i for i, node in enumerate(nodes) if node.live]
    while todo:
        for owner in owners[todo.pop()]:
            if not nodes[owner].live:
                nodes[owner].live = True
                todo.append(owner)
