"""Variables: boxes with an array that training changes, or that a layer changes itself.

A `Variable` holds its array, and the engine walks to it: a trainable one is a parameter, another is a buffer. The
arrays of a Fluxion layer inside a Keras layer are seen through views; there is no second copy of an array.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.errors import ArgumentError, ShapeError
from fluxion.tree.graph import BUFFER, PARAMETER, LeafRef, is_array
from fluxion.tree.protocol import Kind, Step
from fluxion.tree.walk import scan


class Box:
    """What variables and views have in common: an array to be read, replaced and computed with."""

    __fluxion_node__: ClassVar[bool] = True
    __slots__ = ()
    __array_priority__ = 100

    name: str
    path: str
    trainable: bool
    value: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.value.shape)

    @property
    def dtype(self) -> str:
        return str(self.value.dtype)

    @property
    def ndim(self) -> int:
        return self.value.ndim

    @property
    def size(self) -> int:
        return self.value.size

    def numpy(self) -> np.ndarray:
        """A copy as a numpy array."""
        return np.array(self.value)

    def assign(self, value: Any) -> Any:
        """Replace the array by `value`, of the same shape, in the variable's dtype; returns the new array."""
        given = jnp.asarray(plain(value))
        if given.shape != self.shape:
            raise ShapeError(f"{self.path}: expected a value of shape {self.shape}, got {given.shape}.")
        self.value = given.astype(self.value.dtype)
        return self.value

    def assign_add(self, value: Any) -> Any:
        """Add `value` to the array."""
        return self.assign(self.value + jnp.asarray(plain(value)))

    def assign_sub(self, value: Any) -> Any:
        """Subtract `value` from the array."""
        return self.assign(self.value - jnp.asarray(plain(value)))

    def __jax_array__(self) -> Any:
        return self.value

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.asarray(self.value, dtype=dtype)

    def __getitem__(self, index: Any) -> Any:
        return self.value[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.value)

    def __len__(self) -> int:
        return len(self.value)

    def __bool__(self) -> bool:
        return bool(self.value)

    def __float__(self) -> float:
        return float(self.value)

    def __int__(self) -> int:
        return int(self.value)

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"<Variable path={self.path}, shape={self.shape}, dtype={self.dtype}>"


def _forward(name: str) -> Callable[..., Any]:
    def operator(self: Box, *args: Any) -> Any:
        if args and hasattr(args[0], "__keras_tensor__"):
            return NotImplemented
        return getattr(self.value, name)(*map(plain, args))

    operator.__name__ = name
    return operator


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul"):
    setattr(Box, f"__{_name}__", _forward(f"__{_name}__"))
    setattr(Box, f"__r{_name}__", _forward(f"__r{_name}__"))
for _name in ("neg", "pos", "abs", "lt", "le", "gt", "ge"):
    setattr(Box, f"__{_name}__", _forward(f"__{_name}__"))
del _name


def plain(value: Any) -> Any:
    """The array of a variable; anything else as it is."""
    return value.value if isinstance(value, Box) else value


class Variable(Box):
    """An array that training changes (`trainable=True`), or that a layer or a program assigns to.

    Arguments:
      initializer: the initial value, or a function `initializer(shape, dtype=dtype)`, or the name of one.
      shape: the shape, where `initializer` is a function.
      dtype: by default that of the value; "float32" where there is none.
      trainable: whether training changes it.
      name: by default `variable`, `variable_1` ...

    >>> from fluxion.dialects import keras
    >>> v = keras.Variable([1.0, 2.0])
    >>> v.assign_add([1.0, 1.0]).tolist(), (v * 2).tolist(), v.trainable
    ([2.0, 3.0], [4.0, 6.0], True)
    """

    __slots__ = ("name", "path", "regularizer", "value")

    trainable: ClassVar[bool] = True  # type: ignore[misc]

    def __new__(
        cls, initializer: Any, shape: Any = None, dtype: Any = None, trainable: bool = True, name: Any = None
    ) -> Variable:
        return object.__new__(cls if trainable or cls is not Variable else StateVariable)

    def __init__(
        self,
        initializer: Any,
        shape: Any = None,
        dtype: Any = None,
        trainable: bool = True,
        name: str | None = None,
    ) -> None:
        from fluxion.dialects.keras.names import automatic_name

        if isinstance(initializer, str):
            from fluxion.dialects.keras import initializers

            initializer = initializers.get(initializer)
        if callable(initializer):
            if shape is None:
                raise ArgumentError("Variable: expected a shape, as the initializer is a function. Give shape=...")
            value = initializer(tuple(shape), dtype=dtype or "float32")
        else:
            value = plain(initializer)
            if not is_array(value):
                value = np.asarray(value)
                if dtype is None and value.dtype == np.float64:
                    dtype = "float32"
        self.value = jnp.asarray(value, dtype=dtype)
        if shape is not None and tuple(shape) != self.value.shape:
            raise ShapeError(f"Variable: expected a value of shape {tuple(shape)}, got {self.value.shape}.")
        self.name = name or automatic_name("variable")
        self.path = self.name
        self.regularizer: Any = None


class StateVariable(Variable):
    """A variable that training leaves alone: a layer's state."""

    __slots__ = ()
    buffers: ClassVar[tuple[str, ...]] = ("value",)
    trainable: ClassVar[bool] = False  # type: ignore[misc]


class View(Box):
    """An array of a Fluxion layer inside a Keras layer, as a variable."""

    __slots__ = ("kind", "name", "owner", "path", "step", "trainable")

    regularizer: Any = None

    def __init__(self, owner: Any, kind: Kind, step: Step, name: str, path: str, trainable: bool) -> None:
        self.owner = owner
        self.kind = kind
        self.step = step
        self.name = name
        self.path = path
        self.trainable = trainable

    @property
    def value(self) -> Any:
        return getattr(self.owner, self.step[1]) if self.step[0] == "attr" else self.owner[self.step[1]]

    @value.setter
    def value(self, new: Any) -> None:
        self.kind.write(self.owner, self.step, new)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, View) and other.owner is self.owner and other.step == self.step

    def __hash__(self) -> int:
        return hash((id(self.owner), self.step))


def views(layer: Any, name: str, path: str) -> list[View]:
    """The parameters and buffers of a Fluxion layer, each once; `name` and `path` are what theirs begin with."""
    graph = scan(layer)
    found: dict[int, View] = {}
    for node in graph.nodes:
        for step, ref in node.children:
            if isinstance(ref, LeafRef) and graph.roles[ref.index] in (PARAMETER, BUFFER) and node.kind.mutable:
                inner = f"{name}.{graph.paths[ref.index]}"
                trainable = graph.roles[ref.index] == PARAMETER
                found.setdefault(ref.index, View(node.original, node.kind, step, inner, f"{path}/{inner}", trainable))
    return list(found.values())


def _rebuild_variable(cls: type) -> Callable[..., Any]:
    def rebuild(aux: Any, children: Any) -> Any:
        box: Any = object.__new__(cls)
        (box.value,) = children
        box.name, box.path, box.regularizer = aux
        return box

    return rebuild


for _cls in (Variable, StateVariable):
    jax.tree_util.register_pytree_node(
        _cls, lambda box: ((box.value,), (box.name, box.path, box.regularizer)), _rebuild_variable(_cls)
    )
