"""The sorts of Python object a model may be made of, and how each is taken apart and put together.

`kind_of(obj)` answers the one question of the walk (`graph.py`): is this a node, and of which kind? Everything
else is either an array (a leaf) or static: numbers, strings, classes, compiled functions, foreign objects.
"""

from __future__ import annotations

import collections
import copy
import dataclasses
import enum
import functools
import types
from collections.abc import Hashable
from typing import Any

import jax

from fluxion.tree.functions import CELL, FUNCTION, METHOD, MODULE, PARTIAL, ModuleView, is_library, namespace_of
from fluxion.tree.protocol import Children, Kind, Step, is_library_module, is_tool_module

PYTREE_MEMORY = "_pytree_memory"  # an attribute of layers rebuilt by JAX, see `pytree.py`
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: set on classes written in Python


class ObjectKind(Kind):
    """Instances with attributes: layers, dataclasses, `Param`, callable objects, objects of the user's classes."""

    def children(self, obj: Any) -> Children:
        attributes = getattr(obj, "__dict__", {})
        found: Children = [(("attr", name), value) for name, value in attributes.items() if name != PYTREE_MEMORY]
        for name in slots_of(type(obj)):
            if hasattr(obj, name):
                found.append((("attr", name), getattr(obj, name)))
        return found

    def make(self, meta: Any, early: Children) -> Any:
        return types.SimpleNamespace() if meta is types.SimpleNamespace else object.__new__(meta)

    def write(self, obj: Any, step: Step, value: Any) -> None:
        object.__setattr__(obj, step[1], value)

    def remove(self, obj: Any, step: Step) -> None:
        if hasattr(obj, step[1]):  # unless another thread was first
            object.__delattr__(obj, step[1])


class ListKind(Kind):
    """Lists, and what is one by inheritance."""

    def children(self, obj: Any) -> Children:
        return [(("item", i), value) for i, value in enumerate(obj)]

    def meta(self, obj: Any) -> Any:
        return list if type(obj) is list else _emptied(obj)

    def meta_key(self, meta: Any) -> Hashable:
        return meta if meta is list else (type(meta), getattr(meta, "maxlen", None))

    def make(self, meta: Any, early: Children) -> Any:
        return [] if meta is list else copy.copy(meta)

    def write(self, obj: Any, step: Step, value: Any) -> None:
        if step[1] == len(obj):
            obj.append(value)
        else:
            obj[step[1]] = value

    def remove(self, obj: Any, step: Step) -> None:
        if step[1] < len(obj):
            obj.pop()  # a shorter list is longer by its last items


class DictKind(Kind):
    """Dicts, and what is one by inheritance."""

    def children(self, obj: dict[Any, Any]) -> Children:
        return [(("key", key), value) for key, value in obj.items()]

    def meta(self, obj: dict[Any, Any]) -> Any:
        return dict if type(obj) is dict else _emptied(obj)  # keeps a defaultdict's factory

    def meta_key(self, meta: Any) -> Hashable:
        return meta if meta is dict else (type(meta), getattr(meta, "default_factory", None))

    def make(self, meta: Any, early: Children) -> dict[Any, Any]:
        return {} if meta is dict else copy.copy(meta)

    def write(self, obj: dict[Any, Any], step: Step, value: Any) -> None:
        obj[step[1]] = value

    def remove(self, obj: dict[Any, Any], step: Step) -> None:
        obj.pop(step[1], None)


@dataclasses.dataclass(frozen=True)
class Bulk:
    """All of a long list or dict without arrays, as one value."""

    items: tuple[Any, ...]


class BulkKind(Kind):
    """A long list or dict of plain values, such as a vocabulary: one child instead of thousands."""

    def __init__(self, inner: ListKind | DictKind) -> None:
        self.inner = inner
        self.meta, self.meta_key, self.make = inner.meta, inner.meta_key, inner.make  # type: ignore[method-assign]

    def children(self, obj: Any) -> Children:
        if not _all_plain(obj):  # something else was added to a working copy
            return self.inner.children(obj)
        return [(("bulk", None), Bulk(tuple(obj.items() if isinstance(obj, dict) else obj)))]

    def write(self, obj: Any, step: Step, value: Any) -> None:
        if step[0] != "bulk":
            self.inner.write(obj, step, value)
        else:
            obj.clear()
            obj.update(value.items) if isinstance(obj, dict) else obj.extend(value.items)

    def remove(self, obj: Any, step: Step) -> None:
        if step[0] != "bulk":
            self.inner.remove(obj, step)


class TupleKind(Kind):
    """Tuples and named tuples."""

    mutable = always_copied = False

    def children(self, obj: tuple[Any, ...]) -> Children:
        names = getattr(obj, "_fields", None)
        if names is None:
            return [(("item", i), value) for i, value in enumerate(obj)]
        return [(("attr", name), value) for name, value in zip(names, obj, strict=True)]

    def make(self, meta: Any, early: Children) -> Any:
        values = (value for _, value in early)
        return tuple(values) if meta is tuple else tuple.__new__(meta, values)


class PytreeKind(Kind):
    """What only JAX can take apart: objects of libraries that registered their classes as pytrees."""

    mutable = always_copied = False

    def children(self, obj: Any) -> Children:
        children, _ = jax.tree_util.default_registry.flatten_one_level(obj)
        return [(("item", i), value) for i, value in enumerate(children)]

    def meta(self, obj: Any) -> Any:
        return jax.tree.structure(obj, is_leaf=lambda part: part is not obj)

    def make(self, meta: Any, early: Children) -> Any:
        return jax.tree.unflatten(meta, [value for _, value in early])


OBJECT, LIST, DICT, TUPLE, PYTREE = ObjectKind(), ListKind(), DictKind(), TupleKind(), PytreeKind()
BULK = {list: BulkKind(LIST), dict: BulkKind(DICT)}
_by_type: dict[type, Kind | None] = {
    list: LIST,
    collections.deque: LIST,
    dict: DICT,
    collections.OrderedDict: DICT,
    collections.defaultdict: DICT,
    collections.Counter: DICT,
    tuple: TUPLE,
    types.SimpleNamespace: OBJECT,
    types.CellType: CELL,
    types.FunctionType: FUNCTION,
    types.MethodType: METHOD,
    types.ModuleType: MODULE,
    ModuleView: MODULE,
    functools.partial: PARTIAL,
}


def kind_of(obj: object) -> Kind | None:
    """The kind of `obj` if a model may be made of it, else None."""
    cls = type(obj)
    try:
        kind = _by_type[cls]
    except KeyError:
        kind = _by_type[cls] = _kind_of_type(cls, obj)
    if kind is MODULE and is_library(namespace_of(obj)):  # type: ignore[arg-type]
        return None
    if cls is tuple and _all_plain(obj):
        return None  # such as a shape: it cannot change, and a log of shapes can grow without adding nodes
    if cls in (list, dict) and len(obj) > 256 and _all_plain(obj):  # type: ignore[arg-type]
        return BULK[cls]
    return kind


def _kind_of_type(cls: type, example: object) -> Kind | None:
    library = is_library_module(cls.__module__)
    if issubclass(cls, tuple):
        return TUPLE if hasattr(cls, "_fields") or not library else None
    if issubclass(cls, functools.partial):
        return PARTIAL
    if getattr(cls, "__fluxion_node__", False) or (dataclasses.is_dataclass(cls) and not library):
        return OBJECT
    if issubclass(cls, list | dict) and not library:
        return LIST if issubclass(cls, list) else DICT
    callable_tool = _has_call(cls) and not is_tool_module(cls.__module__)
    if _is_plain_class(cls) and (not library or callable_tool):
        return OBJECT
    return PYTREE if _is_pytree(example) else None


def _is_plain_class(cls: type) -> bool:
    """Whether instances can be copied attribute by attribute: all Python, nothing to close, no singletons."""
    if issubclass(cls, type | enum.Enum) or hasattr(cls, "__del__"):
        return False
    return all(base is object or base.__flags__ & _HEAP_TYPE for base in cls.__mro__)


def _has_call(cls: type) -> bool:
    return any(isinstance(vars(base).get("__call__"), types.FunctionType) for base in cls.__mro__)


def _is_pytree(example: object) -> bool:
    try:
        return jax.tree_util.default_registry.flatten_one_level(example) is not None and example is not None
    except ValueError:  # how some versions of JAX say no
        return False


def _emptied(container: Any) -> Any:
    empty = copy.copy(container)
    empty.clear()
    return empty


def _all_plain(container: Any) -> bool:
    values = container.values() if isinstance(container, dict) else container
    return set(map(type, values)) <= {int, float, str, bool, bytes, type(None)}


def slots_of(cls: type) -> tuple[str, ...]:
    """The names of the `__slots__` of a class and its bases, as attributes."""
    return _slots(cls)


@functools.cache
def _slots(cls: Any) -> tuple[str, ...]:
    names: list[str] = []
    for base in cls.__mro__:
        slots = base.__dict__.get("__slots__", ())
        for name in [slots] if isinstance(slots, str) else slots:
            private = name.startswith("__") and not name.endswith("__")
            names.append(f"_{base.__name__.lstrip('_')}{name}" if private else name)
    return tuple(name for name in names if name not in ("__dict__", "__weakref__"))


@functools.cache
def buffers_of(cls: Any) -> frozenset[str]:
    """The attributes that a class or one of its bases lists in `buffers`."""
    names: set[str] = set()
    for base in cls.__mro__:
        listed = vars(base).get("buffers", ())
        if isinstance(listed, str):
            names.add(listed)
        elif isinstance(listed, tuple | list | set | frozenset):
            names.update(listed)
    return frozenset(names)


def static_parts(cls: type) -> Children:
    """What the methods of a user's class see outside of the instance: the class's own values, and its functions."""
    found: Children = []
    for base in cls.__mro__:
        if base is object or is_library_module(base.__module__):
            continue
        for name, value in vars(base).items():
            if name in ("__init__", "__repr__", "__str__"):  # not what a call runs
                continue
            if isinstance(value, property):
                found += [(("attr", name), part) for part in (value.fget, value.fset) if part is not None]
            elif isinstance(value, staticmethod | classmethod):
                found.append((("attr", name), value.__func__))
            elif not (name.startswith("__") and name.endswith("__")) or isinstance(value, types.FunctionType):
                found.append((("attr", name), value))
    return found
