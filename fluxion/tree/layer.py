"""`Layer`: what a layer of yours inherits from, and `Param`: a box that makes one array a parameter.

A layer needs no declaration. Its floating arrays are its parameters, except those it names in `buffers`; its
layers are its children; everything else is static. Subclasses are JAX pytrees from the moment they are defined,
so `jax.grad`, `jax.vmap` and `optax` take them as they are.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, ClassVar

import jax

from fluxion.errors import FluxionError
from fluxion.tree.graph import Identity, is_array, scan
from fluxion.tree.kinds import kind_of
from fluxion.tree.printing import compact, long_form

# Set on layers that JAX rebuilt: the names of their children, whatever `jax.tree.map` has put there.
_CHILDREN = "_pytree_children"


class Layer:
    """Base class of layers: subclass it, set arrays and layers as attributes, define `__call__`.

    `buffers` names the attributes that are state rather than parameters. Assigning to an attribute inside
    `__call__` is allowed everywhere: transforms work on a copy and write changed arrays back.

    >>> import fluxion as fx
    >>> class Residual(fx.Layer):
    ...     def __init__(self, width):
    ...         self.inner = fx.Dense(width, width, fx.relu)
    ...     def __call__(self, x):
    ...         return x + self.inner(x)
    >>> Residual(4)
    Residual(inner=Dense(4, 4, relu))
    >>> [path for path, _ in fx.trainables(Residual(4), path=True)]
    ['inner.weight', 'inner.bias']
    """

    __fluxion_node__: ClassVar[bool] = True
    buffers: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "__call__" in cls.__dict__:
            cls.__call__ = _located(cls.__dict__["__call__"])  # type: ignore[attr-defined]
        jax.tree_util.register_pytree_with_keys(
            cls,
            _flatten_with_keys,
            functools.partial(_unflatten, cls),
            _flatten,
        )

    @property
    def unsized(self) -> bool:
        """Whether an input size was left out and is not inferred yet."""
        return False

    def infer(self, shape: tuple[int, ...]) -> None:
        """Take the sizes that were left out from the shape of an input."""
        raise NotImplementedError(f"{type(self).__name__} has no sizes to infer")

    def config(self) -> dict[str, Any]:
        """The arguments, by name, with which the constructor makes this layer again (with fresh weights).

        The printed form and saved files are made of it. By default every argument is looked up as an
        attribute of the same name; a layer that keeps its arguments elsewhere overrides this.
        """
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def __repr__(self) -> str:
        return compact(self)

    def __str__(self) -> str:
        return long_form(self)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text("..." if cycle else long_form(self))


def _located(call: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a layer's call: on the way out of an error, say which layer it came from."""

    @functools.wraps(call)
    def located_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            out = call(self, *args, **kwargs)
        except FluxionError as error:
            locate(error, self)
            raise
        observe = _observer.get()
        if observe is not None:
            observe(self, (args, kwargs), out)
        return out

    return located_call


_observer: ContextVar[Callable[[Any, Any, Any], None] | None] = ContextVar("fluxion_observer", default=None)


@contextlib.contextmanager
def observing(observe: Callable[[Any, Any, Any], None]) -> Iterator[None]:
    """Call `observe(layer, inputs, output)` after every layer call inside the block, inner layers first.

    The plain functions of a `Chain` are observed too.
    """
    token = _observer.set(observe)
    try:
        yield
    finally:
        _observer.reset(token)


def observed(part: Callable[[Any], Any], x: Any) -> Any:
    """`part(x)`, shown to the observer if `part` is a plain function: layers show theirs themselves."""
    out = part(x)
    observe = _observer.get()
    if observe is not None and not isinstance(part, Layer):
        observe(part, x, out)
    return out


def locate(error: FluxionError, owner: object) -> None:
    """Add to `error` the path of its layer within `owner`; called by each enclosing layer, the outermost last."""
    if error.layer is None:
        error.layer = owner
    path = path_of(owner, error.layer)
    if path is not None:
        joint = "" if not path or path.startswith("[") else "."
        error.where = f"model{joint}{path} {compact(error.layer)}"


def path_of(model: object, part: object) -> str | None:
    """The path at which `part` (a layer or an array) is found in `model`, or None."""
    graph = scan(model)
    for node in graph.nodes:
        if node.original is part:
            return node.path
    for path, leaf in zip(graph.paths, graph.leaves, strict=True):
        if leaf is part:
            return path
    return None


# -------------------------------------------------------------------------------------------- JAX pytree


def _reaches_array(value: Any) -> bool:
    if is_array(value) or isinstance(value, (Layer, Param)):
        return True
    if isinstance(value, (list, tuple, dict)) and kind_of(value) is not None:
        return any(map(_reaches_array, value.values() if isinstance(value, dict) else value))
    return False


class _Aux:
    """A layer's static attributes, compared by value where they can be, else by identity."""

    def __init__(self, children: tuple[str, ...], static: tuple[tuple[str, Any], ...]) -> None:
        self.children = children
        self.static = static
        self.key = (children, tuple((name, _hashable(value)) for name, value in static))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Aux) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


def _hashable(value: Any) -> Any:
    try:
        hash(value)
    except TypeError:
        return Identity(value)
    return value


def _flatten(layer: Layer) -> tuple[tuple[Any, ...], _Aux]:
    values = vars(layer)
    names = values.get(_CHILDREN)
    if names is None:
        names = tuple(name for name, value in values.items() if _reaches_array(value))
    static = tuple((name, value) for name, value in values.items() if name not in names and name != _CHILDREN)
    return tuple(values[name] for name in names), _Aux(names, static)


def _flatten_with_keys(layer: Layer) -> tuple[tuple[tuple[Any, Any], ...], _Aux]:
    children, aux = _flatten(layer)
    return tuple((jax.tree_util.GetAttrKey(n), c) for n, c in zip(aux.children, children, strict=True)), aux


def _unflatten(cls: type[Layer], aux: _Aux, children: tuple[Any, ...]) -> Layer:
    layer = object.__new__(cls)
    vars(layer).update(aux.static)
    vars(layer).update(zip(aux.children, children, strict=True))
    if not all(map(_reaches_array, children)):  # `jax.tree.map` may have put None or axis numbers in place
        vars(layer)[_CHILDREN] = aux.children
    return layer


# ------------------------------------------------------------------------------------------------- Param


class Param:
    """A box that makes the array in it a parameter wherever the box is reached: a global, a closure, a list.

    It behaves like its array in arithmetic and in `jax.numpy`; training replaces `value`.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> w = fx.Param(jnp.array([1.0, 2.0]))
    >>> g = fx.gradient(lambda: (w * w).sum(), fx.params(w))
    >>> g[w].tolist()
    [2.0, 4.0]
    """

    __fluxion_node__: ClassVar[bool] = True
    __slots__ = ("value",)
    __array_priority__ = 100

    def __init__(self, value: Any) -> None:
        self.value = value if is_array(value) else jax.numpy.asarray(value)

    def __jax_array__(self) -> Any:
        return self.value

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        import numpy as np

        return np.asarray(self.value, dtype=dtype)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "value":
            raise AttributeError(name)
        return getattr(self.value, name)

    def __getitem__(self, index: Any) -> Any:
        return self.value[index]

    def __len__(self) -> int:
        return len(self.value)

    def __repr__(self) -> str:
        return f"Param({compact(self.value)})"


def _forward(name: str) -> Callable[..., Any]:
    def operator(self: Param, *args: Any) -> Any:
        plain = (arg.value if isinstance(arg, Param) else arg for arg in args)
        return getattr(self.value, name)(*plain)

    operator.__name__ = name
    return operator


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul"):
    setattr(Param, f"__{_name}__", _forward(f"__{_name}__"))
    setattr(Param, f"__r{_name}__", _forward(f"__r{_name}__"))
for _name in ("neg", "abs", "float", "int", "lt", "le", "gt", "ge"):
    setattr(Param, f"__{_name}__", _forward(f"__{_name}__"))
del _name

jax.tree_util.register_pytree_node(Param, lambda box: ((box.value,), None), lambda _, children: _box(children[0]))


def _box(value: Any) -> Param:
    box = object.__new__(Param)
    box.value = value
    return box
