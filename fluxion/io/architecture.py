"""A model as plain data, and back: which layers, with which arguments, sharing which.

`describe` writes a table of layers, each after those it is given, so that a layer used twice is one row. `build` makes
the model again from such a table, which may come from a stranger: it looks names up in the catalogue below and nowhere
else, works on shapes without values, and compares them with the arrays of the file before any of these is read.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.errors import FileFormatError, StateError, nearest
from fluxion.io.catalogue import catalogue, is_init, is_initializer
from fluxion.io.tensors import NAMES
from fluxion.ops.initializers import Initializer, zeros
from fluxion.transform.randomness import randomness
from fluxion.tree.graph import Graph, is_array
from fluxion.tree.layer import Layer
from fluxion.tree.model import first_unsized
from fluxion.tree.walk import scan

MAX_LAYERS = 100_000
MAX_DEPTH = 100  # layers within layers
MAX_NESTING = 20  # tuples within tuples
MAX_PRINTED = 200_000  # layers in the printed form, where a shared one counts at each place

# -------------------------------------------------------------------------------------------- from a model


def describe(model: Any) -> dict[str, Any]:
    """The model as data that JSON can hold: `{"layers": [...], "model": ...}`.

    Errors: `StateError` naming the first part that is not the library's own.

    >>> import fluxion as fx
    >>> from fluxion.io.architecture import describe
    >>> describe(fx.Chain(fx.relu, fx.Dropout(0.5)))["layers"][0]
    {'layer': 'Dropout', 'arguments': {'p': 0.5, 'axis': None}}
    >>> describe(fx.Chain(lambda x: x + 1))
    Traceback (most recent call last):
        ...
    fluxion.errors.StateError: model.layers[0] is a function of yours, <lambda>
    """
    return _Description().of(model)


class _Description:
    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.index: dict[int, int | None] = {}  # of each layer, by identity; None while it is being described

    def of(self, model: Any) -> dict[str, Any]:
        return {"model": self.value(model, "model"), "layers": self.rows}

    def value(self, value: Any, where: str) -> Any:
        if isinstance(value, np.generic):
            value = value.item()
        if value is None or isinstance(value, (bool, str)) or (type(value) is int and abs(value) < 2**63):
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"number": str(value)}
        if type(value) is list:
            return [self.value(item, f"{where}[{i}]") for i, item in enumerate(value)]
        if type(value) is tuple:
            return {"tuple": [self.value(item, f"{where}[{i}]") for i, item in enumerate(value)]}
        if type(value) is dict:
            return {"dict": self.options(value, where)}
        if is_array(value) and value.dtype in NAMES:
            return {"array": np.dtype(value.dtype).name, "shape": list(value.shape)}
        if isinstance(value, np.dtype):
            return {"dtype": value.name}
        if isinstance(value, Layer):
            return {"layer": self.layer(value, where)}
        return self.function(value, where)

    def options(self, value: Mapping[Any, Any], where: str) -> dict[str, Any]:
        for key in value:
            if not isinstance(key, str):
                raise StateError(f"{where} is a dict with keys that are no strings")
        return {key: self.value(item, f"{where}[{key!r}]") for key, item in value.items()}

    def function(self, value: Any, where: str) -> dict[str, Any]:
        known = catalogue()
        if id(value) in known.names:
            return {"function": known.names[id(value)]}
        if type(value) is Initializer and known.names.get(id(value.function)) in known.initializers:
            return {"initializer": value.function.__name__, "options": self.options(value.options, where)}
        if type(value) is functools.partial and known.names.get(id(value.func)) not in (None, *known.initializers):
            arguments = [self.value(item, f"{where}.args[{i}]") for i, item in enumerate(value.args)]
            named = self.options(value.keywords, where)
            return {"partial": known.names[id(value.func)], "arguments": arguments, "options": named}
        if inspect.isroutine(value):
            raise StateError(f"{where} is a function of yours, {value.__name__}")
        raise StateError(f"{where} is of a class of yours or of another library, {type(value).__name__}")

    def layer(self, value: Layer, where: str) -> int:
        if id(value) in self.index:
            index = self.index[id(value)]
            if index is None:
                raise StateError(f"{where} contains itself")
            return index
        name = type(value).__name__
        if catalogue().layers.get(name) is not type(value):
            raise StateError(f"{where} is of a class of yours, {name}")
        self.index[id(value)] = None
        config = value.config()
        row: dict[str, Any] = {"layer": name, "arguments": {}}
        for key, argument in config.items():
            row["arguments"][key] = self.value(argument, f"{where}.{key}")
            if is_init(key) and not is_initializer(argument):
                raise StateError(f"{where}.{key} is none of the library's initializers")
        if "training" in vars(value) and "training" not in config:
            row["training"] = self.value(vars(value)["training"], f"{where}.training")
        self.rows.append(row)
        self.index[id(value)] = len(self.rows) - 1
        return len(self.rows) - 1


# ---------------------------------------------------------------------------------------------- to a model


def build(document: Any, arrays: Mapping[str, Any], ties: Mapping[str, str]) -> tuple[Graph, list[str]]:
    """The model of a description, as a graph that holds shapes without values, and the array that belongs at each.

    It is made twice, on shapes alone. First with stand-ins for the initializers, to learn what shapes there are: these
    must be those of `arrays`. Then, with sizes that are known to be the file's, with its own initializers.

    Errors: `FileFormatError` for a description that `describe` would not write or that does not fit the arrays.
    """
    budget = 16 * len(arrays) + 256  # random draws; a hostile `num_layers` would make them without end
    _matched(_abstract(document, budget, stand_in=True), arrays, ties)
    graph = _abstract(document, budget, stand_in=False)
    return graph, _matched(graph, arrays, ties)


def _matched(graph: Graph, arrays: Mapping[str, Any], ties: Mapping[str, str]) -> list[str]:
    """The name of the array for each leaf of the graph."""
    names = [path if path in arrays else ties.get(path, "") for path in graph.paths]
    for path, name, leaf in zip(graph.paths, names, graph.leaves, strict=True):
        if name not in arrays:
            _refuse(f"an array for {path}", "none", nearest(path, arrays))
        array = arrays[name]
        if tuple(array.shape) != tuple(leaf.shape):
            _refuse(f"shape {tuple(leaf.shape)} for {path}", f"{tuple(array.shape)}")
        if _sort(array.dtype) != _sort(leaf.dtype):
            _refuse(f"a dtype like {leaf.dtype} for {path}", f"{array.dtype}")
    unused = arrays.keys() - set(names)
    if unused:
        _refuse("an array for each place in the model and no other", f"also {min(unused)!r}")
    return names


def _sort(dtype: Any) -> str:
    sorts = {"float": jnp.floating, "int": jnp.integer, "complex": jnp.complexfloating, "bool": jnp.bool_}
    return next((name for name, sort in sorts.items() if jnp.issubdtype(dtype, sort)), str(dtype))


def _abstract(document: Any, budget: int, *, stand_in: bool) -> Graph:
    made: list[Any] = []

    def run() -> list[Any]:
        draws = 0
        with randomness(jax.random.key(0)) as stream:
            key = stream.next_key()

            def drawn() -> Any:
                nonlocal draws
                draws += 1
                if draws > budget:
                    _refuse(f"a model of {budget // 16 - 16} arrays", "one that draws many more")
                return key

            stream.next_key = drawn  # type: ignore[method-assign]
            made.append(_Reading(document, drawn if stand_in else None).model())
        graph = scan(made[0])
        if first_unsized(graph) is not None:
            _refuse("layers with all their sizes", "one without")
        return graph.leaves

    shapes = jax.eval_shape(run)
    return scan(scan(made[0]).rebuilt(shapes))


class _Reading:
    """A description on its way to a model. With `draw`, initializers are replaced by zeros that only count."""

    def __init__(self, document: Any, draw: Callable[[], Any] | None) -> None:
        self.document = _fields(document, "the architecture", {"model", "layers"})
        self.rows = _typed(self.document["layers"], list, "layers")
        self.draw = draw
        self.made: list[Any] = []
        self.depth: list[int] = []  # layers within layers, of each row
        self.printed: list[int] = []  # layers that its printed form shows
        self.used: list[int] = []  # rows that the value being read refers to

    def model(self) -> Any:
        if len(self.rows) > MAX_LAYERS:
            _refuse(f"at most {MAX_LAYERS} layers", f"{len(self.rows)}")
        for i, row in enumerate(self.rows):
            self.used = []
            self.made.append(self.layer(row, f"layers[{i}]"))
            self.depth.append(1 + max((self.depth[j] for j in self.used), default=0))
            self.printed.append(1 + sum(self.printed[j] for j in self.used))
            if self.depth[i] > MAX_DEPTH or self.printed[i] > MAX_PRINTED:
                _refuse(f"at most {MAX_DEPTH} layers within each other and {MAX_PRINTED} in all", "more")
        return self.value(self.document["model"], "model", 0)

    def layer(self, row: Any, where: str) -> Any:
        row = _fields(row, where, {"layer", "arguments"}, {"training"})
        name = _typed(row["layer"], str, f"{where}.layer")
        cls = _looked_up(name, catalogue().layers, where)
        arguments = _typed(row["arguments"], dict, f"{where}.arguments")
        given = {key: self.argument(key, item, f"{where}.{key}") for key, item in arguments.items()}
        positional: list[Any] = []
        named: dict[str, Any] = {}
        signature = inspect.signature(cls).parameters
        for key in given:
            if key not in signature:
                _refuse(f"arguments of {name} at {where}", f"{key!r:.60}", nearest(key[:60], signature))
        many = any(p.kind is p.VAR_POSITIONAL for p in signature.values())
        for key, parameter in signature.items():
            if key not in given:
                continue
            if parameter.kind is parameter.VAR_POSITIONAL:
                positional += _typed(given[key], tuple, f"{where}.{key}")
            elif parameter.kind is parameter.VAR_KEYWORD:
                named.update(_typed(given[key], dict, f"{where}.{key}"))
            elif many and parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
                positional.append(given[key])
            else:
                named[key] = given[key]
        try:
            made = cls(*positional, **named)
        except FileFormatError:
            raise
        except Exception as error:  # whatever a constructor says of arguments that no program would give it
            raise FileFormatError(f"architecture: {where} {name} cannot be made: {error!s:.300}") from error
        if "training" in row:
            made.training = None if row["training"] is None else _typed(row["training"], bool, f"{where}.training")
        return made

    def argument(self, key: str, item: Any, where: str) -> Any:
        value = self.value(item, where, 0)
        if is_init(key) and not is_initializer(value):
            _refuse(f"an initializer for {where}", f"{item!r:.60}")
        return self.counted if self.draw and is_initializer(value) else value

    def counted(self, *size: Any, key: Any = None, dtype: Any = None) -> Any:
        """Stands in for any initializer: its shape, with nothing drawn or computed."""
        if self.draw:
            self.draw()
        return zeros(*size)

    def value(self, item: Any, where: str, nesting: int) -> Any:
        if nesting > MAX_NESTING:
            _refuse(f"at most {MAX_NESTING} values within each other at {where}", "more")
        if item is None or isinstance(item, (bool, str)):
            return item
        if isinstance(item, (int, float)):
            sound = math.isfinite(item) if isinstance(item, float) else abs(item) < 2**63
            return item if sound else _refuse(f"a number below 2**63 at {where}", f"{item!r:.60}")
        if isinstance(item, list):
            return [self.value(inner, where, nesting + 1) for inner in item]
        sort = next((sort for sort in _FIELDS if sort in item), "")
        if not sort:
            _refuse(f"one of {', '.join(_FIELDS)} at {where}", f"{item!r:.60}")
        _fields(item, where, {sort, *_FIELDS[sort]})
        content = item[sort]
        if sort == "tuple":
            return tuple(self.value(inner, where, nesting + 1) for inner in _typed(content, list, where))
        if sort == "dict":
            return self.options(content, where, nesting)
        if sort == "layer":
            index = _typed(content, int, where)
            if not 0 <= index < len(self.made):
                _refuse(f"one of the {len(self.made)} layers before it at {where}", f"number {index!r:.60}")
            self.used.append(index)
            return self.made[index]
        content = _typed(content, str, where)
        if sort == "number":
            return float(content) if content in ("inf", "-inf", "nan") else _refuse(f"inf or nan at {where}", content)
        if sort == "dtype":
            return _dtype(content, where)
        if sort == "array":
            shape = _typed(item["shape"], list, where)
            if len(shape) > 64 or not all(type(n) is int and 0 <= n < 2**31 for n in shape):
                _refuse(f"a shape at {where}", f"{shape!r:.60}")
            return jnp.zeros(tuple(shape), _dtype(content, where))
        function = _looked_up(content, catalogue().functions, where)
        if sort == "function":
            return function
        options = self.options(item["options"], where, nesting)
        if sort == "initializer" and content in catalogue().initializers:
            return _made_initializer(function, options, where)
        if sort == "partial" and content not in catalogue().initializers:
            arguments = _typed(item["arguments"], list, where)
            return functools.partial(function, *(self.value(a, where, nesting + 1) for a in arguments), **options)
        return _refuse(f"a function for {sort} at {where}", content)

    def options(self, item: Any, where: str, nesting: int) -> dict[str, Any]:
        return {key: self.value(v, where, nesting + 1) for key, v in _typed(item, dict, where).items()}


# The forms of a value that is no plain JSON, by the field that tells them, with their other fields.
_FIELDS: dict[str, tuple[str, ...]] = {
    "layer": (),
    "tuple": (),
    "dict": (),
    "function": (),
    "number": (),
    "dtype": (),
    "array": ("shape",),
    "initializer": ("options",),
    "partial": ("arguments", "options"),
}


def _made_initializer(function: Callable[..., Any], options: dict[str, Any], where: str) -> Initializer:
    try:
        made = function(**options)
    except Exception as error:
        raise FileFormatError(f"architecture: {where} {function.__name__} cannot be made: {error!s:.300}") from error
    return made if type(made) is Initializer else _refuse(f"an initializer at {where}", f"{type(made).__name__}")


def _dtype(name: str, where: str) -> np.dtype[Any]:
    known = {dtype.name: dtype for dtype in NAMES}
    return known[name] if name in known else _refuse(f"a dtype at {where}", f"{name!r:.60}")


def _looked_up(name: str, known: Mapping[str, Any], where: str) -> Any:
    if name not in known:
        _refuse(f"a layer or function of Fluxion at {where}", f"{name!r:.60}", nearest(name[:60], known))
    return known[name]


def _fields(value: Any, where: str, needed: set[str], allowed: set[str] = frozenset()) -> dict[str, Any]:  # type: ignore[assignment]
    if not isinstance(value, dict) or not needed <= value.keys() <= needed | allowed:
        _refuse(f"{', '.join(sorted(needed))} at {where}", f"{value!r:.80}")
    return value


def _typed(value: Any, kind: type, where: str) -> Any:
    return value if type(value) is kind else _refuse(f"a {kind.__name__} at {where}", f"{value!r:.60}")


def _refuse(expected: str, got: str, hint: str = "") -> NoReturn:
    raise FileFormatError(f"architecture: expected {expected}, got {got}.{hint}")
