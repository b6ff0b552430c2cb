"""Layers as JAX pytrees: what `jax.grad`, `jax.vmap` and optax see when they are given one.

The children of a layer are its arrays, its layers, and whatever else reaches arrays: containers keep their shape with
the rest fixed in place, and a closure, a dataclass or a bound method counts as the sequence of arrays it reaches.
All other attributes are static and are compared by value where they can be.

`jax.tree.map` may put anything in the place of an array (None, axis numbers). A layer rebuilt so remembers, in an
attribute of its own, where its children were.
"""

from __future__ import annotations

import collections
import functools
from collections.abc import Hashable
from typing import Any

import jax

from fluxion.tree.graph import Graph, is_array
from fluxion.tree.kinds import PYTREE_MEMORY, kind_of
from fluxion.tree.protocol import static_key
from fluxion.tree.walk import scan


class Compared:
    """Static data of a pytree, equal when their keys are. A key is made at once: what it is made of may change."""

    def __init__(self, value: Any, key: Hashable) -> None:
        self.value = value
        self.key = key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Compared) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


class Fixed:
    """A static value between children: a pytree without leaves."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Items:
    """A dict, whose order JAX would change."""

    def __init__(self, cls: type, keys: tuple[Any, ...], values: tuple[Any, ...]) -> None:
        self.cls = cls
        self.keys = keys
        self.values = values


class Part:
    """A closure, dataclass, ... by the arrays it reaches."""

    def __init__(self, template: Graph, leaves: list[Any]) -> None:
        self.template = template
        self.leaves = leaves


def register_layer(cls: type) -> None:
    """Make a class of layers known to JAX."""
    jax.tree_util.register_pytree_with_keys(cls, _flatten_with_keys, functools.partial(_unflatten, cls), _flatten)


def _flatten(layer: Any) -> tuple[tuple[Any, ...], Compared]:
    values = vars(layer)
    memory = values.get(PYTREE_MEMORY, {})
    children: dict[str, Any] = {}
    static: list[tuple[str, Any]] = []
    for name, value in values.items():
        if name == PYTREE_MEMORY:
            continue
        child = memory[name][0] if name in memory and memory[name][1] is value else _child(value)
        if isinstance(child, Fixed):
            static.append((name, value))
        else:
            children[name] = child
    aux = (tuple(children), tuple(static))
    return tuple(children.values()), Compared(aux, static_key(aux))


def _flatten_with_keys(layer: Any) -> tuple[tuple[tuple[Any, Any], ...], Compared]:
    children, aux = _flatten(layer)
    names = aux.value[0]
    return tuple((jax.tree_util.GetAttrKey(n), child) for n, child in zip(names, children, strict=True)), aux


def _unflatten(cls: type, aux: Compared, children: tuple[Any, ...]) -> Any:
    names, static = aux.value
    layer: Any = object.__new__(cls)
    values = vars(layer)
    values.update((name, _own(value)) for name, value in static)
    memory = {}
    for name, child in zip(names, children, strict=True):
        values[name] = _value(child)
        if not _is_regular(child):
            memory[name] = child, values[name]
    if memory:
        values[PYTREE_MEMORY] = memory
    return layer


def _child(value: Any) -> Any:
    """The pytree that stands for a value; `Fixed` if it reaches no array."""
    if is_array(value) or getattr(type(value), "__fluxion_node__", False):
        return value
    kind = kind_of(value)
    if kind is None:
        return Fixed(value)
    cls = type(value)
    if cls is list or isinstance(value, tuple):
        children = [_child(item) for item in value]
        if all(isinstance(child, Fixed) for child in children):
            return Fixed(value)
        return children if cls is list else tuple.__new__(cls, children)
    if cls in (dict, collections.OrderedDict):
        values = tuple(_child(item) for item in value.values())
        return Fixed(value) if all(isinstance(child, Fixed) for child in values) else Items(cls, tuple(value), values)
    graph = scan(value)
    return Part(graph.template(), graph.leaves) if graph.leaves else Fixed(value)


def _value(child: Any) -> Any:
    """The value that a pytree made by `_child` stands for, whatever its leaves are now."""
    if isinstance(child, Fixed):
        return _own(child.value)
    if isinstance(child, Items):
        return child.cls(zip(child.keys, map(_value, child.values), strict=True))
    if isinstance(child, Part):
        return child.template.rebuilt(child.leaves)
    if type(child) is list:
        return [_value(item) for item in child]
    if isinstance(child, tuple):
        return tuple.__new__(type(child), map(_value, child))
    return child


def _own(value: Any) -> Any:
    """A copy of a list or dict, so that what a call adds to it never reaches the layer that JAX was given."""
    return scan(value).rebuilt([]) if isinstance(value, (list, dict, collections.deque)) else value


def _is_regular(child: Any) -> bool:
    """Whether the leaves are arrays and layers, so that the value alone tells what its children are."""
    if isinstance(child, Items):
        return all(map(_is_regular, child.values))
    if isinstance(child, Part):
        return all(map(is_array, child.leaves))
    if isinstance(child, (list, tuple)):
        return all(map(_is_regular, child))
    return isinstance(child, Fixed) or is_array(child) or getattr(type(child), "__fluxion_node__", False)


def _item_key(key: Any) -> Any:
    return jax.tree_util.DictKey(key)


jax.tree_util.register_pytree_node(
    Fixed,
    lambda fixed: ((), Compared(fixed.value, static_key(fixed.value))),
    lambda aux, _: Fixed(aux.value),
)
jax.tree_util.register_pytree_with_keys(
    Items,
    lambda items: (tuple(zip(map(_item_key, items.keys), items.values, strict=True)), (items.cls, items.keys)),
    lambda aux, values: Items(*aux, tuple(values)),
    lambda items: (items.values, (items.cls, items.keys)),
)
jax.tree_util.register_pytree_node(
    Part,
    lambda part: (part.leaves, Compared(part.template, part.template.key())),
    lambda aux, leaves: Part(aux.value, list(leaves)),
)
