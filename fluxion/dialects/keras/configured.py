"""Objects that are given by name, by class, by config or as they are: initializers, regularizers, constraints.

Keras writes each into a model's config as a dict `{"module": ..., "class_name": ..., "config": {...}}`, and
activations, which are functions, as a name.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from fluxion.dialects.keras.names import choose, known_arguments
from fluxion.errors import ArgumentError


class Configured:
    """An object that is made again from its config, the arguments of its constructor by name."""

    module: ClassVar[str]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "__init__" in vars(cls):
            type.__setattr__(cls, "__init__", known_arguments(cls.__init__))

    def get_config(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        return cls(**config)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.get_config().items())})"


def find(kind: str, identifier: Any, table: Mapping[str, Callable[..., Any]]) -> Any:
    """The object that a name, a class, a config or the object itself stands for; None for None."""
    if identifier is None:
        return None
    if isinstance(identifier, str):
        identifier = choose(kind, identifier, table)
    if isinstance(identifier, Mapping):
        return from_dict(kind, identifier, table)
    if isinstance(identifier, type):
        return identifier()
    if not callable(identifier):
        raise ArgumentError(f"expected {kind} as a name, a class, a function or an object, got {identifier!r}.")
    return identifier


def from_dict(kind: str, config: Mapping[str, Any], table: Mapping[str, Callable[..., Any]]) -> Any:
    """The object that a config dict describes; its class is looked up in `table` and nowhere else."""
    if "class_name" not in config:
        raise ArgumentError(f'expected a config of {kind} with a "class_name", got {dict(config)!r}.')
    made = choose(kind, config["class_name"], table)
    return made(**config.get("config", {})) if isinstance(made, type) else made


def serialize(thing: Any) -> Any:
    """What a config holds in place of `thing`: a dict of its class and config, or a function's name."""
    if thing is None or isinstance(thing, str):
        return thing
    if isinstance(thing, types.FunctionType):
        return {"module": "builtins", "class_name": "function", "config": thing.__name__, "registered_name": "function"}
    if not hasattr(thing, "get_config"):
        raise ArgumentError(f"expected an object with get_config(), got {thing!r}. It cannot be written into a config.")
    module = getattr(thing, "module", None)
    cls = type(thing)
    return {
        "module": module if module and cls.__module__.startswith("fluxion.") else None,
        "class_name": cls.__name__,
        "config": thing.get_config(),
        "registered_name": None if module and cls.__module__.startswith("fluxion.") else f"Custom>{cls.__name__}",
    }
