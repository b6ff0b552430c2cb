"""What a saved model may be made of: the only names that a file can make Fluxion look up."""

from __future__ import annotations

import builtins
import functools
import inspect
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import fluxion.layers
import fluxion.ops
from fluxion.ops.initializers import Initializer, zeros
from fluxion.tree.layer import Layer

# Functions of other libraries that models are made with: activations, connections, reductions.
_BORROWED: dict[Any, str] = {
    jnp: "abs add arctan ceil clip concatenate cos cosh divide exp expand_dims expm1 floor hstack log log1p matmul max "
    "maximum mean min minimum moveaxis multiply negative ravel reciprocal reshape round sign sin sinh sqrt square "
    "squeeze stack std subtract sum swapaxes tanh transpose var vstack where",
    jax.nn: "celu elu gelu glu hard_sigmoid hard_silu hard_swish hard_tanh identity leaky_relu log_sigmoid log_softmax "
    "mish relu relu6 selu sigmoid silu soft_sign softmax softplus sparse_plus squareplus standardize swish tanh",
    operator: "add matmul mul neg sub truediv",
    builtins: "abs",
}


class Catalogue(NamedTuple):
    """All that a file may name."""

    layers: dict[str, type[Layer]]
    functions: dict[str, Callable[..., Any]]
    names: dict[int, str]  # of the functions, by identity
    initializers: frozenset[str]


@functools.cache
def catalogue() -> Catalogue:
    """The library's own layers and functions, by their public names, and a short list of borrowed functions."""
    layers: dict[str, type[Layer]] = {}
    functions: dict[str, Callable[..., Any]] = {}
    for module in (fluxion.ops, fluxion.layers):
        for name in module.__all__:
            value = getattr(module, name)
            if isinstance(value, type):
                if issubclass(value, Layer) and value is not Layer:
                    layers[name] = value
            elif callable(value):
                functions[name] = value
    for module, borrowed in _BORROWED.items():
        for name in borrowed.split():
            if hasattr(module, name):  # JAX takes a name away now and then
                functions[f"{module.__name__}.{name}"] = getattr(module, name)
    names: dict[int, str] = {}
    for name, value in functions.items():
        names.setdefault(id(value), name)
    drawing = inspect.getmodule(zeros)
    initializers = {name for name, f in functions.items() if inspect.getmodule(f) is drawing and name != "nfan"}
    return Catalogue(layers, functions, names, frozenset(initializers))


def is_init(argument: str) -> bool:
    """Whether a layer's argument of this name is an initializer."""
    return argument == "init" or argument.endswith("_init")


def is_initializer(value: Any) -> bool:
    """Whether `value` is one of the library's initializers, with options or without."""
    known = catalogue()
    return type(value) is Initializer or known.names.get(id(value)) in known.initializers
