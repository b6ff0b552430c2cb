"""The sorts of Python object a model may be made of, and how each is taken apart and put together.

`kind_of(obj)` answers the one question of the walk (`graph.py`): is this a node, and of which kind? Everything
else is either an array (a leaf) or static: numbers, strings, classes, compiled functions, foreign objects.
"""

from __future__ import annotations

import collections
import copy
import dataclasses
import dis
import functools
import sys
import types
from collections.abc import Hashable
from typing import Any, NamedTuple

# The name of one child within its node: ("attr", "weight"), ("item", 0), ("key", "head"), ("cell", "w"), ...
Step = tuple[str, Any]
Children = list[tuple[Step, Any]]

# Objects of these packages are tools, not parts of a model; their functions' globals are not searched.
LIBRARIES = frozenset({"jax", "jaxlib", "numpy", "optax", "polars", "matplotlib", "rich", "torch", "builtins"})


class Kind:
    """How objects of one sort are taken apart (`children`) and put together (`make`, then `write`)."""

    mutable = True  # can be written in place; otherwise a change means a new object in its owner
    always_copied = True  # part of every working copy, even when it reaches no array

    def children(self, obj: Any) -> Children:
        raise NotImplementedError

    def meta(self, obj: Any) -> Any:
        """What, beside the children, it takes to make another one."""
        return type(obj)

    def meta_key(self, meta: Any) -> Hashable:
        """The part of `meta` that tells one program from another."""
        return meta

    def is_early(self, step: Step) -> bool:
        """Whether this child must exist before the object can be made; the others are written afterwards."""
        return not self.mutable

    def make(self, meta: Any, early: Children) -> Any:
        raise NotImplementedError

    def write(self, obj: Any, step: Step, value: Any) -> None:
        raise NotImplementedError

    def remove(self, obj: Any, step: Step) -> None:
        raise NotImplementedError


class ObjectKind(Kind):
    """Instances with attributes: layers, dataclasses, `Param`, callable objects."""

    def children(self, obj: Any) -> Children:
        attributes = getattr(obj, "__dict__", {})
        found: Children = [(("attr", name), value) for name, value in attributes.items() if name != "_pytree_children"]
        for name in _slots(type(obj)):
            if hasattr(obj, name):
                found.append((("attr", name), getattr(obj, name)))
        return found

    def make(self, meta: Any, early: Children) -> Any:
        return object.__new__(meta)

    def write(self, obj: Any, step: Step, value: Any) -> None:
        object.__setattr__(obj, step[1], value)

    def remove(self, obj: Any, step: Step) -> None:
        object.__delattr__(obj, step[1])


class ListKind(Kind):
    def children(self, obj: list[Any]) -> Children:
        return [(("item", i), value) for i, value in enumerate(obj)]

    def make(self, meta: Any, early: Children) -> list[Any]:
        return []

    def write(self, obj: list[Any], step: Step, value: Any) -> None:
        if step[1] == len(obj):
            obj.append(value)
        else:
            obj[step[1]] = value

    def remove(self, obj: list[Any], step: Step) -> None:
        obj.pop()  # a shorter list is longer by its last items


class DictKind(Kind):
    def children(self, obj: dict[Any, Any]) -> Children:
        return [(("key", key), value) for key, value in obj.items()]

    def meta(self, obj: dict[Any, Any]) -> Any:
        empty = copy.copy(obj)  # keeps a defaultdict's factory
        empty.clear()
        return empty

    def meta_key(self, meta: Any) -> Hashable:
        return type(meta)

    def make(self, meta: Any, early: Children) -> dict[Any, Any]:
        return copy.copy(meta)

    def write(self, obj: dict[Any, Any], step: Step, value: Any) -> None:
        obj[step[1]] = value

    def remove(self, obj: dict[Any, Any], step: Step) -> None:
        del obj[step[1]]


class TupleKind(Kind):
    """Tuples and named tuples."""

    mutable = always_copied = False

    def children(self, obj: tuple[Any, ...]) -> Children:
        names = getattr(obj, "_fields", None)
        if names is None:
            return [(("item", i), value) for i, value in enumerate(obj)]
        return [(("attr", name), value) for name, value in zip(names, obj, strict=True)]

    def make(self, meta: Any, early: Children) -> Any:
        values = [value for _, value in early]
        return tuple(values) if meta is tuple else meta(*values)


class CellKind(Kind):
    """A closure's variable: a node of its own, because several functions may share it."""

    always_copied = False

    def children(self, obj: types.CellType) -> Children:
        try:
            return [(("contents", None), obj.cell_contents)]
        except ValueError:  # not assigned yet
            return []

    def make(self, meta: Any, early: Children) -> types.CellType:
        return types.CellType()

    def write(self, obj: types.CellType, step: Step, value: Any) -> None:
        obj.cell_contents = value

    def remove(self, obj: types.CellType, step: Step) -> None:
        del obj.cell_contents


class FunctionMeta(NamedTuple):
    code: types.CodeType
    namespace: dict[str, Any]
    name: str
    qualname: str
    attributes: dict[str, Any]


class FunctionKind(Kind):
    """Python functions: the variables they close over, their defaults, and the globals their code reads."""

    always_copied = False

    def children(self, obj: types.FunctionType) -> Children:
        code = obj.__code__
        cells = zip(code.co_freevars, obj.__closure__ or (), strict=True)
        found: Children = [(("cell", name), cell) for name, cell in cells]
        found += [(("default", i), value) for i, value in enumerate(obj.__defaults__ or ())]
        found += [(("kwdefault", name), value) for name, value in (obj.__kwdefaults__ or {}).items()]
        return found

    def global_children(self, obj: types.FunctionType) -> Children:
        if is_library(obj.__globals__):
            return []
        found = [(name, _look_up(obj.__globals__, name)) for name in code_facts(obj.__code__).global_names]
        return [(("global", name), value) for name, value in found if value is not _absent]

    def meta(self, obj: types.FunctionType) -> FunctionMeta:
        return FunctionMeta(obj.__code__, obj.__globals__, obj.__name__, obj.__qualname__, dict(vars(obj)))

    def meta_key(self, meta: FunctionMeta) -> Hashable:
        return meta.code, id(_root(meta.namespace))

    def is_early(self, step: Step) -> bool:
        return step[0] == "cell"

    def make(self, meta: FunctionMeta, early: Children) -> types.FunctionType:
        cells = tuple(cell for _, cell in early)
        made = types.FunctionType(meta.code, Namespace(meta.namespace), meta.name, None, cells)
        made.__qualname__ = meta.qualname
        made.__dict__.update(meta.attributes)
        return made

    def write(self, obj: types.FunctionType, step: Step, value: Any) -> None:
        place, name = step
        if place == "default":
            defaults = list(obj.__defaults__ or ())
            defaults[name:] = [value, *defaults[name + 1 :]]
            obj.__defaults__ = tuple(defaults)
        elif place == "kwdefault":
            obj.__kwdefaults__ = {**(obj.__kwdefaults__ or {}), name: value}
        else:
            obj.__globals__[name] = value


class MethodKind(Kind):
    """Bound methods."""

    mutable = always_copied = False

    def children(self, obj: types.MethodType) -> Children:
        return [(("self", None), obj.__self__), (("func", None), obj.__func__)]

    def make(self, meta: Any, early: Children) -> types.MethodType:
        (_, owner), (_, function) = early
        return types.MethodType(function, owner)


class PartialKind(Kind):
    """`functools.partial`."""

    mutable = always_copied = False

    def children(self, obj: functools.partial[Any]) -> Children:
        found: Children = [(("attr", "func"), obj.func)]
        found += [(("item", i), value) for i, value in enumerate(obj.args)]
        found += [(("key", name), value) for name, value in obj.keywords.items()]
        return found

    def make(self, meta: Any, early: Children) -> Any:
        args = [value for (place, _), value in early if place == "item"]
        keywords = {name: value for (place, name), value in early if place == "key"}
        return meta(early[0][1], *args, **keywords)


OBJECT, FUNCTION = ObjectKind(), FunctionKind()
_by_type: dict[type, Kind | None] = {
    list: ListKind(),
    dict: DictKind(),
    collections.OrderedDict: DictKind(),
    collections.defaultdict: DictKind(),
    tuple: TupleKind(),
    types.CellType: CellKind(),
    types.FunctionType: FUNCTION,
    types.MethodType: MethodKind(),
    functools.partial: PartialKind(),
}


def kind_of(obj: object) -> Kind | None:
    """The kind of `obj` if a model may be made of it, else None."""
    cls = type(obj)
    try:
        kind = _by_type[cls]
    except KeyError:
        kind = _by_type[cls] = _kind_of_type(cls)
    if kind is not None and cls in (list, dict, tuple) and len(obj) > 256 and _all_plain(obj):  # type: ignore[arg-type]
        return None  # a vocabulary, not a model: shared, not copied and compared item by item
    return kind


def _kind_of_type(cls: type) -> Kind | None:
    if cls.__module__.partition(".")[0] in LIBRARIES and not issubclass(cls, functools.partial):
        return None
    if issubclass(cls, tuple):
        return _by_type[tuple] if hasattr(cls, "_fields") else None
    if issubclass(cls, functools.partial):
        return _by_type[functools.partial]
    if getattr(cls, "__fluxion_node__", False) or dataclasses.is_dataclass(cls):
        return OBJECT
    callable_object = isinstance(getattr(cls, "__call__", None), types.FunctionType)  # noqa: B004
    return OBJECT if callable_object and not issubclass(cls, type) else None


def _all_plain(container: Any) -> bool:
    values = container.values() if isinstance(container, dict) else container
    return set(map(type, values)) <= {int, float, str, bool, bytes, type(None)}


@functools.cache
def _slots(cls: type) -> tuple[str, ...]:
    names: list[str] = []
    for base in cls.__mro__:
        slots = base.__dict__.get("__slots__", ())
        names += [slots] if isinstance(slots, str) else slots
    return tuple(name for name in names if name not in ("__dict__", "__weakref__"))


# ---------------------------------------------------------------------------------- functions and globals


class CodeFacts(NamedTuple):
    global_names: tuple[str, ...]  # names looked up outside the function, by it or by functions inside it
    rebinds: bool  # assigns to a variable of an enclosing scope (nonlocal, global)


@functools.lru_cache(maxsize=4096)
def code_facts(code: types.CodeType) -> CodeFacts:
    """Which global names a code object reads, and whether it assigns outside itself."""
    names: dict[str, None] = {}
    rebinds = False
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            names[str(instruction.argval)] = None
        elif instruction.opname == "STORE_GLOBAL":
            names[str(instruction.argval)] = None
            rebinds = True
        elif instruction.opname == "STORE_DEREF" and instruction.argval in code.co_freevars:
            rebinds = True
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            inner = code_facts(constant)
            names.update(dict.fromkeys(inner.global_names))
            rebinds = rebinds or inner.rebinds
    return CodeFacts(tuple(names), rebinds)


class Namespace(dict[str, Any]):
    """The globals of a rebuilt function: a few names replaced, all others looked up where they always were."""

    def __init__(self, base: dict[str, Any]) -> None:
        super().__init__()
        self.base = base
        self["__builtins__"] = _look_up(base, "__builtins__")

    def __missing__(self, name: str) -> Any:
        return self.base[name]


_absent = object()


def _look_up(namespace: dict[str, Any], name: str) -> Any:
    while isinstance(namespace, Namespace):
        if dict.__contains__(namespace, name):
            return dict.__getitem__(namespace, name)
        namespace = namespace.base
    return namespace.get(name, _absent)


def _root(namespace: dict[str, Any]) -> dict[str, Any]:
    while isinstance(namespace, Namespace):
        namespace = namespace.base
    return namespace


def is_library(namespace: dict[str, Any]) -> bool:
    """Whether these globals are those of an installed module rather than of the user's own code."""
    namespace = _root(namespace)
    name = namespace.get("__name__", "")
    module = sys.modules.get(name)
    if module is None or vars(module) is not namespace:
        return False
    top = name.partition(".")[0]
    if top in LIBRARIES or top == "fluxion" or top in sys.stdlib_module_names:
        return top != "__main__"
    return "site-packages" in (getattr(module, "__file__", None) or "")
