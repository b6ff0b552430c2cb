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

from fluxion.errors import FluxionError, shortened, user_frames, without_source
from fluxion.tree.graph import is_array
from fluxion.tree.printing import compact, long_form
from fluxion.tree.pytree import register_layer
from fluxion.tree.walk import scan


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

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        call = next((vars(base)["__call__"] for base in cls.__mro__ if "__call__" in vars(base)), None)
        if call is not None and not hasattr(call, "_is_located"):
            type.__setattr__(cls, "__call__", _located(call))
        if "__init__" in vars(cls):  # what a constructor refuses is shown as what a call refuses
            type.__setattr__(cls, "__init__", user_frames(cls.__init__))
        register_layer(cls)

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


_calling: ContextVar[Any] = ContextVar("fluxion_calling", default=None)  # the innermost layer being called


def _located(call: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a layer's call: show it to the observer, and on the way out of an error say which layer it came from."""

    @functools.wraps(call)
    def located_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        outer = _calling.get()
        if outer is self:  # `super().__call__(x)`
            return call(self, *args, **kwargs)
        token = _calling.set(self)
        try:
            out = call(self, *args, **kwargs)
        except Exception as error:
            where = locate(error, self)
            if outer is None and isinstance(error, FluxionError):
                raise shortened(error) from None
            if outer is None and where is not None:
                error.add_note(f"In {where}.")
            raise
        finally:
            _calling.reset(token)
        observe = _observer.get()
        if observe is not None:
            observe(self, (args, kwargs), out)
        return out

    located_call._is_located = True  # type: ignore[attr-defined]
    return without_source(located_call)


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


def is_observed() -> bool:
    """Whether the call happens inside `observing`."""
    return _observer.get() is not None


def locate(error: Any, owner: object) -> str | None:
    """Add to `error` the path of its layer within `owner`; called by each enclosing layer, the outermost last.

    Returns it, as `model.layers[3] Dense(999, 10)`, unless it is not known.
    """
    layer = getattr(error, "layer", None)
    if layer is None:
        layer = error.layer = owner
    path = path_of(owner, layer)
    if path is not None:
        error.where = described(path, layer)
    return getattr(error, "where", None)


def described(path: str, part: object) -> str:
    """Part of a model as errors name it: `model.layers[3] Dense(999, 10)`."""
    joint = "" if not path or path.startswith("[") else "."
    return f"model{joint}{path} {compact(part)}"


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


# ------------------------------------------------------------------------------------------------- Param


class Param:
    """A box that makes the array in it a parameter wherever the box is reached: in a closure, a list, a layer.

    In the implicit form of `gradient` the box may also be a global variable.

    It behaves like its array in arithmetic and in `jax.numpy`; training replaces `value`, and so do `w += ...`,
    `w -= ...`, `w *= ...` and `w /= ...`.

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

    def __iter__(self) -> Iterator[Any]:
        return iter(self.value)

    def __len__(self) -> int:
        return len(self.value)

    def __bool__(self) -> bool:
        return bool(self.value)

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"Param({compact(self.value)})"


def _forward(name: str) -> Callable[..., Any]:
    def operator(self: Param, *args: Any) -> Any:
        plain = (arg.value if isinstance(arg, Param) else arg for arg in args)
        return getattr(self.value, name)(*plain)

    operator.__name__ = name
    return operator


def _forward_in_place(name: str) -> Callable[..., Any]:
    def operator(self: Param, other: Any) -> Param:
        self.value = getattr(self.value, name)(other.value if isinstance(other, Param) else other)
        return self

    operator.__name__ = name.replace("__", "__i", 1)
    return operator


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul"):
    setattr(Param, f"__{_name}__", _forward(f"__{_name}__"))
    setattr(Param, f"__r{_name}__", _forward(f"__r{_name}__"))
for _name in ("neg", "pos", "abs", "float", "int", "complex", "index", "lt", "le", "gt", "ge", "eq", "ne"):
    setattr(Param, f"__{_name}__", _forward(f"__{_name}__"))
for _name in ("add", "sub", "mul", "truediv"):
    setattr(Param, f"__i{_name}__", _forward_in_place(f"__{_name}__"))
del _name

jax.tree_util.register_pytree_node(Param, lambda box: ((box.value,), None), lambda _, children: _box(children[0]))


def _box(value: Any) -> Param:
    box = object.__new__(Param)
    box.value = value
    return box
