"""What the built-in layers have in common: how they keep their arguments, and write them into a config."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypedDict

import jax.numpy as jnp

from fluxion.dialects.keras import activations, initializers, regularizers
from fluxion.dialects.keras.configured import Configured, serialize
from fluxion.dialects.keras.layer import Layer, has_own_seeds
from fluxion.dialects.keras.random import SeedGenerator
from fluxion.errors import ArgumentError, ShapeError, nearest
from fluxion.layers.inputs import as_array
from fluxion.transform.randomness import next_key

if TYPE_CHECKING:
    from jaxtyping import Array


def _no_constraint(given: Any) -> None:
    if given is not None:
        raise ArgumentError(f"constraints on weights are not supported here, got {given!r}. Leave it out.")


FINDERS = {
    "initializer": initializers.get,
    "regularizer": regularizers.get,
    "constraint": _no_constraint,
    "activation": activations.get,
}


class CommonOptions(TypedDict, total=False):
    """The arguments that every layer takes, beside its own."""

    name: str | None
    trainable: bool
    dtype: Any
    input_shape: Any


class LayerOptions(CommonOptions, total=False):
    """Those, and two that some layers have among their own."""

    activity_regularizer: Any
    input_dim: int | None


class BuiltIn(Layer):
    """A layer of the catalogue: every argument is an attribute of the same name, and all of them are its config."""

    supports_masking = False
    _kept: tuple[str, ...] = ()

    def keep(self, **arguments: Any) -> None:
        """Set attributes; of an activation, an initializer, a regularizer or a constraint what a name stands for."""
        for name, value in arguments.items():
            finder = FINDERS.get(name.rpartition("_")[2])
            setattr(self, name, finder(value) if finder is not None else value)
        self._kept = (*self._kept, *arguments)

    def get_config(self) -> dict[str, Any]:
        config = {"name": self.name, "trainable": self.trainable, "dtype": self.dtype}
        kept = ("activity_regularizer", *self._kept)
        return config | {name: as_config(name, getattr(self, name)) for name in kept}

    def weight(self, name: str, shape: Sequence[int], *, trainable: bool = True) -> Any:
        """`add_weight` with what the arguments `name_initializer` and `name_regularizer` say."""
        return self.add_weight(
            shape=tuple(shape),
            initializer=getattr(self, f"{name}_initializer"),
            regularizer=getattr(self, f"{name}_regularizer", None),
            trainable=trainable,
            name=name,
        )


def as_config(name: str, value: Any) -> Any:
    """An argument as a config holds it."""
    if name.rpartition("_")[2] == "activation":
        return activations.serialize(value)
    if isinstance(value, Layer) or (isinstance(value, list) and any(isinstance(item, Layer) for item in value)):
        from fluxion.dialects.keras import saving  # here, because it knows all layers

        return saving.serialize(value)
    return serialize(value) if isinstance(value, Configured) or callable(value) else value


# Inputs


def array(x: Any) -> Array:
    """`x` as an array of JAX's."""
    return jnp.asarray(as_array(x))


def floats(x: Any) -> Array:
    """`x` as floats: of the dtype it has, or the default one."""
    x = array(x)
    return x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(jnp.result_type(float))


def value(variable: Any) -> Any:
    """The array of a variable, or None."""
    return None if variable is None else variable.value


def check_size(x: Any, axis: int, size: int) -> None:
    """ShapeError unless the input has the size that it was built for."""
    if x.ndim < 1 or x.shape[axis] != size:
        where = "last axis" if axis == -1 else f"axis {axis}"
        raise ShapeError(f"expected input with {size} on its {where}, as it was built with, got {x.shape}.")


def known_size(name: str, shape: Sequence[int | None], axis: int = -1) -> int:
    """The size of an axis that weights depend on."""
    size = shape[axis] if -len(shape) <= axis < len(shape) else None
    if size is None:
        raise ShapeError(f"{name}: expected input whose axis {axis} is known, got shape {tuple(shape)}.")
    return size


# Arguments


def channels_last(name: str, data_format: Any) -> str:
    """`data_format`, of which there is one."""
    if data_format not in (None, "channels_last"):
        raise ArgumentError(f"{name}: expected data_format channels_last, got {data_format!r}. Move the channels last.")
    return "channels_last"


def numbers(name: str, what: str, given: Any, dims: int, least: int = 1) -> tuple[int, ...]:
    """`given`, a whole number or one per axis, as one per axis."""
    values = tuple(given) if isinstance(given, tuple | list) else (given,) * dims
    try:
        values = tuple(map(operator.index, values))
    except TypeError:
        values = ()
    if len(values) != dims or min(values) < least:
        raise ArgumentError(
            f"{name}: expected {what} to be a whole number of at least {least} or {dims} of them, got {given!r}."
        )
    return values


def one_of(name: str, what: str, given: Any, known: Sequence[Any]) -> Any:
    """`given`, if it is one of the known strings."""
    given = given.lower() if isinstance(given, str) else given
    if given not in known:
        hint = nearest(given, [k for k in known if isinstance(k, str)]) if isinstance(given, str) else ""
        raise ArgumentError(f"{name}: expected {what} to be one of {', '.join(map(repr, known))}, got {given!r}.{hint}")
    return given


def unsupported(name: str, **options: Any) -> None:
    """ArgumentError for an option of Keras' that is given but does not exist here."""
    for option, given in options.items():
        if given not in (None, False):
            raise ArgumentError(f"{name}: {option}={given!r} is not supported here. Leave it out.")


def rate(name: str, given: Any) -> float:
    """A rate of dropout."""
    if not isinstance(given, int | float) or not 0 <= given <= 1:
        raise ArgumentError(f"{name}: expected a rate between 0 and 1, got {given!r}.")
    return given


def pairs(name: str, what: str, given: Any, dims: int) -> tuple[tuple[int, int], ...]:
    """A number, one per axis, or a pair (low, high) per axis, as pairs."""
    if dims == 1 and isinstance(given, tuple | list) and len(given) == 2 and not isinstance(given[0], tuple | list):
        given = (given,)
    values = given if isinstance(given, tuple | list) else (given,) * dims
    if len(values) != dims:
        raise ArgumentError(f"{name}: expected {what} to be a number, {dims} of them or {dims} pairs, got {given!r}.")
    return tuple(numbers(name, what, v, 2, 0) for v in values)  # type: ignore[misc]


# Randomness


class Seeded(BuiltIn):
    """A layer that draws: from the stream of the step, or, with a `seed`, from a generator of its own.

    In `stateless_call` every one draws from its generator.
    """

    seed: int | None

    def seeded(self, seed: int | None) -> None:
        self.keep(seed=seed)
        self._generator = None if seed is None else SeedGenerator(seed)

    @property
    def seed_generator(self) -> SeedGenerator:
        """The generator of its own, made when it is first asked for."""
        if self._generator is None:
            self._generator = SeedGenerator(self.seed)
        return self._generator

    def key(self) -> Any:
        return self.seed_generator.next() if self.seed is not None or has_own_seeds() else next_key()
