"""What a walk has read, kept so that the next call sees at once whether all of it is still there.

A walk (`scan_call`) takes longer than a small network's arithmetic. What it finds follows from the objects it reads:
attributes, items, variables of closures, globals, code. A `Watch` reads all of them again, in a few passes that run in
C, and compares them by identity. Where nothing differs but arrays in the places of arrays, the graph is the same and
the watch knows its leaves; where anything else does, there is another walk.

The arguments of a call, and its function, may be new objects in every call (a batch, a lambda in a loop). They are
not compared but read: `Outline`. A watch keeps no reference to them, nor to an array that can be replaced.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
import itertools
import operator
import types
import weakref
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import numpy as np

from fluxion.tree.functions import CELL, FUNCTION, METHOD, MODULE, NAMESPACE, PARTIAL, absent
from fluxion.tree.graph import Graph, LeafRef, Node, NodeRef, Static, is_array, is_floating
from fluxion.tree.kinds import BULK, DICT, LIST, OBJECT, TUPLE, Bulk, kind_of, slots_of, static_parts
from fluxion.tree.protocol import Kind, is_library_module, static_key
from fluxion.tree.walk import Scan, program_key, scan_call, walked_class

P = TypeVar("P")


class UnwatchableError(Exception):
    """Something whose changes identities do not show: such a call is walked every time."""


# ----------------------------------------------------------------------------------------------------- arguments


class Outline:
    """What a call was given, taken apart. Equal `marks` mean the same structure, but for what the `objects` hold."""

    __slots__ = ("arrays", "containers", "marks", "objects")

    def __init__(self, function: Any, args: Sequence[Any], kwargs: dict[str, Any] | None = None) -> None:
        """With `kwargs`, even empty ones, numbers among the arguments count as arrays, as `jit` has it."""
        self.arrays: list[Any] = []  # and numbers
        self.objects: list[Any] = []  # to be looked into
        self.containers: list[Any] = []  # looked into already
        numbers = kwargs is not None
        marks = [self.add(arg, numbers, 0) for arg in args]
        if kwargs:
            marks += kwargs
            marks += [self.add(arg, numbers, 0) for arg in kwargs.values()]
        marks.append(self.add(function, False, 0))
        self.marks = tuple(marks)

    def add(self, value: Any, numbers: bool, depth: int) -> Hashable:
        cls = type(value)
        sort = _SORTS[cls]
        if sort == "array":
            self.arrays.append(value)
            return _ROLES[value.dtype]
        if sort == "object":
            self.objects.append(value)
            return cls, id(value)
        if sort == "function":
            self.objects.append(value)
            return cls, id(value.__code__)
        if sort == "number" and numbers:
            self.arrays.append(value)
            return ("number", cls)
        if sort in ("number", "plain"):
            return static_key(value)
        if sort == "container" and depth < 8:
            if value != ():  # of which there is only one
                self.containers.append(value)
            items = tuple([self.add(item, numbers, depth + 1) for item in (value.values() if cls is dict else value)])
            return (cls, tuple(value), items) if cls is dict else (cls, items)
        if sort == "method" and depth < 8:
            self.containers.append(value)
            return cls, self.add(value.__self__, False, depth + 1), self.add(value.__func__, False, depth + 1)
        if sort == "partial" and depth < 8:
            self.containers.append(value)
            parts = [self.add(part, False, depth + 1) for part in (value.func, *value.args, *value.keywords.values())]
            return cls, len(value.args), tuple(value.keywords), tuple(parts)
        if sort != "other" or is_array(value) or kind_of(value) not in (OBJECT, None):
            raise UnwatchableError
        if not isinstance(value, np.ndarray):
            _SORTS[cls] = "object"
        self.objects.append(value)
        return cls, id(value)


def is_plain_array(value: Any) -> bool:
    """Whether `value` is an array of numpy or jax, and no tracer."""
    return _SORTS[type(value)] == "array"


class _Sorts(dict[type, str]):
    """How a value is treated, by its type; "other" where it takes an example to tell."""

    def __missing__(self, cls: type) -> str:
        if issubclass(cls, np.generic):
            sort = "number"
        elif issubclass(cls, jax.Array) and not issubclass(cls, jax.core.Tracer):
            sort = "array"
        elif issubclass(cls, tuple) and hasattr(cls, "_fields"):
            sort = "container"
        else:
            sort = "other"
        self[cls] = sort
        return sort


class _Roles(dict[Any, bool]):
    """Whether arrays of a dtype may have gradients."""

    def __missing__(self, dtype: Any) -> bool:
        example: Any = np.empty(0, dtype) if isinstance(dtype, np.dtype) else jax.ShapeDtypeStruct((), dtype)
        if not is_array(example):
            raise UnwatchableError
        self[dtype] = is_floating(example)
        return self[dtype]


_SORTS = _Sorts(
    {  # type: ignore[misc]
        np.ndarray: "array",
        **dict.fromkeys((bool, int, float, complex), "number"),
        **dict.fromkeys((str, bytes, type(None)), "plain"),
        **dict.fromkeys((list, tuple, dict), "container"),
        types.FunctionType: "function",
        types.MethodType: "method",
        functools.partial: "partial",
    }
)
_ROLES = _Roles()


# --------------------------------------------------------------------------------------------------------- watch


class Reads:
    """What of a graph is to be read again: for each read the object, and in whose name its arrays are leaves.

    That is the group of the walk, or None for what is compared even where it is an array.
    """

    def __init__(self) -> None:
        self.types: list[Any] = []
        self.attributes: list[tuple[Any, str, Any]] = []
        self.items: list[tuple[Any, Any]] = []  # of lists, of dicts and their values
        self.lookups: list[tuple[dict[str, Any], str, Any]] = []  # in modules' globals
        self.hidden: list[tuple[Any, Any]] = []  # arrays in tuples, where they stay as long as the tuples do

    def add(self, node: Node, group: Any) -> None:
        """Whatever `kind.children` reads of the node's object."""
        kind, value = node.kind, node.original
        if kind is OBJECT:
            self.types.append(value)
            attributes = getattr(value, "__dict__", None)
            if attributes is not None:
                self.add_attributes(value, ("__dict__",), group)
                self.add_dict(attributes, group)
            self.add_attributes(value, slots_of(value.__class__), group)
        elif kind in (DICT, BULK[dict]) and type(value) in (dict, OrderedDict):
            self.add_dict(value, group)
        elif kind in (LIST, BULK[list]) and type(value) is list:
            self.items.append((value, group))
        elif kind is FUNCTION:
            self.add_attributes(value, ("__code__", "__defaults__", "__kwdefaults__", "__dict__"), group)
            self.add_dict(vars(value), group)
            self.add_dict(value.__kwdefaults__ or {}, group)
        elif kind is PARTIAL:
            self.types.append(value)
            self.add_attributes(value, ("func", "args", "keywords"), group)
            self.add_dict(value.keywords, group)
        elif kind is CELL and node.children:
            self.add_attributes(value, ("cell_contents",), group)
        elif kind not in (TUPLE, METHOD) and not (kind in (MODULE, NAMESPACE) and type(value) in _PLAIN_MODULES):
            raise UnwatchableError

    def add_attributes(self, owner: Any, names: Sequence[str], group: Any) -> None:
        self.attributes += [(owner, name, group) for name in names]

    def add_dict(self, items: Any, group: Any) -> None:
        self.items += [(items, None), (items.values(), group)]

    def add_class(self, cls: type) -> None:
        """Whatever `program_key` reads of a class."""
        if not static_parts(cls):
            return
        graph, found = walked_class(cls)
        self.add_attributes(cls, ("__mro__",), None)
        for base in cls.__mro__:
            if base is not object and not is_library_module(base.__module__):
                self.add_dict(vars(base), None)
        for node in graph.nodes:
            self.add(node, None)
        self.add_lookups(found, None)
        _check_static(graph)

    def add_lookups(self, found: Scan, group: Any) -> None:
        for (_, name), space in found.lookups.items():
            if type(space) is not dict:
                raise UnwatchableError
            self.lookups.append((space, name, group))

    def add_hidden(self, graph: Graph, node: Node, group: Any) -> None:
        places = _HIDDEN.get(node.kind, ())
        for (place, _), ref in node.children:
            if isinstance(ref, LeafRef) and place in places:
                self.hidden.append((graph.leaves[ref.index], group))


_HIDDEN: dict[Kind, tuple[str, ...]] = {
    TUPLE: ("item", "attr"),
    METHOD: ("self", "func"),
    PARTIAL: ("item",),
    FUNCTION: ("default",),
}
_PLAIN_MODULES = (dict, types.ModuleType)


_dtype = operator.attrgetter("dtype")
_UNREADABLE = (ValueError, RuntimeError)  # a variable without a value, a dict that another thread changes


class Watch:
    """The reads of one walk, and the graph it gave, without the arrays and the arguments."""

    def __init__(self, graph: Graph, found: Scan, outline: Outline, walked: Outline, around: Sequence[Any]) -> None:
        """`walked` is the outline of what was walked for the arguments, `around` are the containers around these."""
        index_of: dict[int, int] = {}
        for (address, _), index in found.node_index.items():
            index_of.setdefault(address, index)
        group_of = {index: group for (_, group), index in found.node_index.items()}
        objects = [index_of.get(id(value)) for value in walked.objects]
        containers = [index_of.get(id(value)) for value in walked.containers]
        cells = [index_of[id(cell)] for value in walked.objects for cell in _cells(value)]
        holders = {*containers, *(index_of.get(id(value)) for value in around)}
        referred = Counter(i for n, node in enumerate(graph.nodes) if n not in holders for i in _child_nodes(node))
        if any(referred[i] for i in (*objects, *containers) if i is not None):
            raise UnwatchableError  # an argument is a part of another, or of what the function has
        self.pinned = any(referred[i] > 1 for i in cells)  # functions share a variable: it must be this one
        self.places = [*objects, *containers, *(() if self.pinned else cells)]  # of the given objects among the nodes
        given: set[int | None] = {*self.places, *holders}

        reads = Reads()
        for i, node in enumerate(graph.nodes):
            if i not in given:
                reads.add(node, group_of[i])
            if i not in holders:
                reads.add_hidden(graph, node, group_of[i])
        reads.add_lookups(found, "function")
        for cls in dict.fromkeys(node.meta for node in graph.nodes if node.kind is OBJECT):
            reads.add_class(cls)
        _check_static(graph)
        self.types = reads.types
        self.owners = [owner for owner, _, _ in reads.attributes]
        self.names = [name for _, name, _ in reads.attributes]
        self.items = [items for items, _ in reads.items]
        self.spaces = [space for space, _, _ in reads.lookups]
        self.variables = [name for _, name, _ in reads.lookups]
        self.hidden = [array for array, _ in reads.hidden]
        self.known = {id(node.original) for i, node in enumerate(graph.nodes) if i not in given}

        try:
            now, self.sizes = self.read(walked)
        except _UNREADABLE:
            raise UnwatchableError from None
        groups: list[Any] = [_leaf_group(found, array) for array in walked.arrays]
        for value, place in zip(walked.objects, objects, strict=True):
            groups += [None if place is None else group_of[place]] * len(_looked_into(value, self.pinned, []))
        groups += [None] * len(self.types)
        groups += [group for _, _, group in reads.attributes]
        groups += [group for items, group in reads.items for _ in items]
        groups += [group for _, _, group in reads.lookups]
        groups += [group for _, group in reads.hidden]
        self.split(graph, found, outline, now, groups)
        nodes = [dataclasses.replace(node, original=None) if i in given else node for i, node in enumerate(graph.nodes)]
        self.graph = Graph(nodes, graph.roots, [None] * len(graph.leaves), graph.paths, graph.roles)

    def split(self, graph: Graph, found: Scan, outline: Outline, now: list[Any], groups: list[Any]) -> None:
        """Tell the arrays, which may be replaced, from what must be the same object."""
        first: dict[int, int] = {}  # where each leaf is met first
        self.ties: list[tuple[int, int]] = []  # where it is met again
        self.is_static = [True] * len(now)
        for at, (value, group) in enumerate(zip(now, groups, strict=True)):
            if group is None or not is_array(value):
                continue
            self.is_static[at] = False
            leaf = found.leaf_index.get((id(value), group))
            if leaf is None:
                raise UnwatchableError
            if first.setdefault(leaf, at) != at:
                self.ties.append((first[leaf], at))
        if len(first) != len(graph.leaves):
            raise UnwatchableError
        count = len(outline.arrays)
        held = [at for at in range(count, len(now)) if not self.is_static[at]]
        if not all(_SORTS[type(now[at])] == "array" for at in held):
            raise UnwatchableError
        other = object()
        self.expected = [value if static else other for value, static in zip(now, self.is_static, strict=True)]
        self.held = _picker(held)
        self.types_held = {type(now[at]) for at in held}
        self.dtypes = [now[at].dtype for at in held]
        self.leaf_places = _picker([first[i] for i in range(len(first))])
        by_group: dict[Any, list[int]] = {}
        for at in first.values():
            if at >= count or _SORTS[type(outline.arrays[at])] == "array":  # every number is an array of its own
                by_group.setdefault(groups[at], []).append(at)
        self.distinct = [(_picker(places), len(places)) for places in by_group.values() if len(places) > 1]

    def read(self, given: Outline) -> tuple[list[Any], list[int]]:
        """All that was read in the walk, as it is now, and the number of items of each container."""
        now = list(given.arrays)
        sizes: list[int] = []
        for value in given.objects:
            now += _looked_into(value, self.pinned, sizes)
        now += map(type, self.types)
        now += map(getattr, self.owners, self.names, itertools.repeat(absent))
        now += itertools.chain.from_iterable(self.items)
        now += map(dict.get, self.spaces, self.variables, itertools.repeat(absent))
        now += self.hidden
        sizes += map(len, self.items)
        return now, sizes

    def leaves(self, given: Outline) -> list[Any] | None:
        """The leaves of the graph now, or None where it may be another graph."""
        try:
            now, sizes = self.read(given)
        except _UNREADABLE:
            return None
        if sizes != self.sizes or list(map(operator.is_, now, self.expected)) != self.is_static:
            return None
        held = self.held(now)
        if not self.types_held.issuperset(map(type, held)) or list(map(_dtype, held)) != self.dtypes:
            return None
        if any(now[a] is not now[b] for a, b in self.ties):
            return None
        for pick, count in self.distinct:
            if len(set(map(id, pick(now)))) != count:
                return None
        ids = set(map(id, self.objects(given)))
        if len(ids) != len(self.places) or not self.known.isdisjoint(ids):
            return None
        return list(self.leaf_places(now))

    def objects(self, given: Outline) -> list[Any]:
        """The objects at `places`."""
        objects = [*given.objects, *given.containers]
        if not self.pinned:
            for value in given.objects:
                objects += _cells(value)
        return objects

    def graph_of(self, given: Outline, leaves: list[Any]) -> Graph:
        """The graph of a call for which `leaves` gave these leaves."""
        nodes = list(self.graph.nodes)
        for i, value in zip(self.places, self.objects(given), strict=True):
            if i is not None:
                nodes[i] = dataclasses.replace(nodes[i], original=value)
        return Graph(nodes, self.graph.roots, leaves, self.graph.paths, self.graph.roles)


def watch_call(
    function: Any,
    args: Sequence[Any],
    graph: Graph,
    found: Scan,
    outline: Outline,
    made: Callable[[], Outline] | None = None,
) -> Watch:
    """The watch over `walked_call(function, args)`; `made` gives the outline of `args` if not of the same objects.

    Raises UnwatchableError where to read again would not tell all.
    """
    watch = Watch(graph, found, outline, made(), args) if made else Watch(graph, found, outline, outline, ())
    again = scan_call(function, args)  # another thread may have changed something before it was read
    same = program_key(again) == program_key(graph) and all(map(operator.is_, again.leaves, graph.leaves))
    if not same or any(a.original is not b.original for a, b in zip(again.nodes, graph.nodes, strict=True)):
        raise UnwatchableError
    return watch


def _picker(places: list[int]) -> Callable[[list[Any]], Sequence[Any]]:
    """What gives the items at some places of a list."""
    if len(places) > 1:
        return operator.itemgetter(*places)
    return lambda items: [items[at] for at in places]


def _looked_into(value: Any, pinned: bool, sizes: list[int]) -> list[Any]:
    """What a walk reads of an argument that is an object."""
    cls = type(value)
    if cls is types.FunctionType:
        read = [cls, value.__code__, value.__globals__, value.__defaults__]
        for items in (value.__kwdefaults__ or {}, vars(value)):
            sizes.append(len(items))
            read += items
            read += items.values()
        cells = _cells(value)
        return [*read, *[cell.cell_contents for cell in cells], *(cells if pinned else ())]
    if kind_of(value) is not OBJECT:
        return [value]
    attributes = getattr(value, "__dict__", {})
    sizes.append(len(attributes))
    slots = [getattr(value, name, absent) for name in slots_of(cls)]
    return [cls, *attributes, *attributes.values(), *slots]


def _cells(value: Any) -> tuple[Any, ...]:
    return value.__closure__ or () if type(value) is types.FunctionType else ()


def _child_nodes(node: Node) -> list[int]:
    return [ref.index for _, ref in node.children if isinstance(ref, NodeRef)]


def _leaf_group(found: Scan, array: Any) -> Any:
    """The group in which an array among the arguments was walked."""
    groups = [group for address, group in found.leaf_index if address == id(array)]  # the arguments before the function
    if groups[1:] not in ([], ["function"]):
        raise UnwatchableError
    return groups[0]


def _check_static(graph: Graph) -> None:
    """Raise UnwatchableError where a static value may come to compare otherwise while it is the same object."""
    refs = [*graph.roots, *(ref for node in graph.nodes for _, ref in node.children)]
    keys = [step[1] for node in graph.nodes if node.kind is DICT for step, _ in node.children]
    values = [ref.value for ref in refs if isinstance(ref, Static) and not isinstance(ref.value, Bulk)]
    if not all(map(_is_fixed, [*values, *keys])):
        raise UnwatchableError


def _is_fixed(value: Any) -> bool:
    cls = type(value)
    if isinstance(value, (tuple, frozenset)):
        return all(map(_is_fixed, value))
    if isinstance(value, _FIXED) or cls.__hash__ in (None, object.__hash__, enum.Enum.__hash__):
        return True
    return isinstance(value, type) and is_library_module(cls.__module__)


_FIXED = (
    *(bool, int, float, complex, str, bytes, type(None), type(...), range, types.BuiltinFunctionType),
    *(np.generic, np.dtype, jax.numpy.ufunc, jax.sharding.Sharding),
)


# -------------------------------------------------------------------------------------------------------- memory


class Recalled(NamedTuple, Generic[P]):
    """A call that is known: its program, and its leaves as they are now."""

    program: P
    leaves: list[Any]
    watch: Watch
    outline: Outline

    def graph(self) -> Graph:
        """What `scan_call` would give."""
        return self.watch.graph_of(self.outline, self.leaves)


class Known(Generic[P]):
    """What is known of a call: the watch over what its walk read, and the program to which it led."""

    __slots__ = ("owners", "program", "useless", "watch")

    def __init__(self, watch: Watch | None, program: P, useless: int) -> None:
        self.watch = watch
        self.program = program
        self.useless = useless  # how many watches in a row, with this one, have been of no use
        self.owners: list[Any] = []  # weak references to what it must not outlive


class Memory(Generic[P]):
    """The last calls, by the marks of their outlines and the settings in which they were made."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.known: dict[Hashable, Known[P]] = {}

    def find(self, outline: Outline, settings: Hashable) -> Recalled[P] | None:
        """The call, if nothing has changed that makes it another."""
        known = self.known.get((outline.marks, settings))
        if known is None or known.watch is None:
            return None
        leaves = known.watch.leaves(outline)
        if leaves is None:
            return None
        known.useless = 0
        return Recalled(known.program, leaves, known.watch, outline)

    def keep(self, outline: Outline, settings: Hashable, program: P, make: Callable[[], Watch]) -> None:
        """Remember a call that was walked. `make` makes the watch; it may raise UnwatchableError."""
        key = outline.marks, settings
        before = self.known.get(key)
        useless = 1 if before is None else before.useless + 1
        known = Known(None, program, useless)
        if useless < 4 or useless % 64 == 0:  # something may change from call to call
            with contextlib.suppress(UnwatchableError):
                known.watch = make()
        for value in outline.objects:
            if _SORTS[type(value)] == "object" and type(value).__weakrefoffset__:
                known.owners.append(weakref.ref(value, lambda _: self.known.pop(key, None)))
        self.known.pop(key, None)  # to be the last again
        self.known[key] = known
        for oldest in list(self.known)[: -self.size]:
            self.known.pop(oldest, None)
