"""What the walk asks of every sort of object a model may be made of, and what it leaves alone."""

from __future__ import annotations

import collections
import sys
from collections.abc import Hashable
from typing import Any

# The name of one child within its node: ("attr", "weight"), ("item", 0), ("key", "head"), ("cell", "w"), ...
Step = tuple[str, Any]
Children = list[tuple[Step, Any]]


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
        return static_key(meta)

    def is_early(self, step: Step) -> bool:
        """Whether this child must exist before the object can be made; the others are written afterwards."""
        return not self.mutable

    def make(self, meta: Any, early: Children) -> Any:
        raise NotImplementedError

    def write(self, obj: Any, step: Step, value: Any) -> None:
        raise NotImplementedError

    def remove(self, obj: Any, step: Step) -> None:
        raise NotImplementedError


class Identity:
    """Wraps an object that cannot be hashed: equal only to itself."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identity) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def static_key(value: Any) -> Hashable:
    """Equal for values that a program cannot tell apart: 1 and True are different, and so are 0.0 and -0.0."""
    cls = type(value)
    if cls is float:
        return cls, value.hex()
    if isinstance(value, (list, collections.deque)) or cls is tuple:
        return cls, tuple(map(static_key, value))
    if isinstance(value, dict):
        return cls, tuple((static_key(key), static_key(item)) for key, item in value.items())
    own = getattr(cls, "__fluxion_key__", None)  # all that a program can tell it by from others of its class
    if own is not None:
        return cls, static_key(own(value))
    try:
        hash(value)
    except TypeError:
        return Identity(value)
    return cls, value


# Objects of these packages are tools, not parts of a model; their functions' globals are not searched.
LIBRARIES = frozenset({"jax", "jaxlib", "numpy", "scipy", "optax", "polars", "pandas", "matplotlib", "rich", "torch"})


def is_tool_module(name: str) -> bool:
    """Whether a module is Python's or one of `LIBRARIES`."""
    top = name.partition(".")[0]
    return top != "__main__" and (top in LIBRARIES or top in sys.stdlib_module_names)


def is_library_module(name: str) -> bool:
    """Whether a module is part of an installed package rather than the user's own code."""
    if is_tool_module(name) or name.partition(".")[0] == "fluxion":
        return True
    return "site-packages" in (getattr(sys.modules.get(name), "__file__", None) or "")
