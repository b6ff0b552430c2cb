"""How models print: the constructor call back, and a long form with parameter counts beside it.

    Chain(
      Dense(784, 128, relu),                # 100_480 parameters
      Dropout(0.2),
      Dense(128, 10),                       # 1_290 parameters
    )                                       # Total: 4 arrays, 101_770 parameters, 407_080 bytes.

Both forms are Python that evaluates to a model of the same structure, as long as it is made of the library's parts.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import reprlib
import types
from typing import Any

import jax
import numpy as np

from fluxion.tree.graph import BUFFER, PARAMETER, Graph, is_array
from fluxion.tree.kinds import OBJECT
from fluxion.tree.walk import scan

COMMENT_COLUMN = 40


@reprlib.recursive_repr("...")
def compact(value: Any) -> str:
    """One line: the constructor call of a layer, the name of a function, the shape of an array."""
    if is_array(value):
        return f"array({_dtype(value)}[{','.join(map(str, value.shape))}])"
    if isinstance(value, types.MethodType):
        return f"{compact(value.__self__)}.{value.__name__}"
    if isinstance(value, types.FunctionType | types.BuiltinFunctionType) or _is_named_callable(value):
        return str(value.__name__)
    if isinstance(value, functools.partial):
        parts = [compact(value.func), *map(compact, value.args)]
        return f"partial({', '.join([*parts, *(f'{k}={compact(v)}' for k, v in value.keywords.items())])})"
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        pairs = zip(value._fields, value, strict=True)
        return f"{type(value).__name__}({', '.join(f'{name}={compact(v)}' for name, v in pairs)})"
    if isinstance(value, tuple):
        return f"({', '.join(map(compact, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, list):
        return f"[{', '.join(map(compact, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k!r}: {compact(v)}" for k, v in value.items()) + "}"
    if _is_layer(value) and type(value).__repr__.__module__ == "fluxion.tree.layer":  # no __repr__ of its own
        return f"{type(value).__name__}({', '.join(text + compact(v) for text, v in arguments(value))})"
    if dataclasses.is_dataclass(value) or type(value).__repr__ is object.__repr__:
        shown = [(step[1], v) for step, v in OBJECT.children(value) if not step[1].startswith("_")]
        return f"{type(value).__name__}({', '.join(f'{name}={compact(v)}' for name, v in shown)})"
    return repr(value)


def arguments(layer: Any) -> list[tuple[str, Any]]:
    """The constructor's arguments that are not defaults: `("", 784)` or `("bias=", False)`."""
    try:
        config = layer.config()
    except AttributeError:  # a class of the user's whose arguments are not its attributes
        shown = {name: value for name, value in vars(layer).items() if not name.startswith("_")}
        return [(f"{name}=", value) for name, value in shown.items()]
    found: list[tuple[str, Any]] = []
    positional = True
    for name, parameter in inspect.signature(type(layer)).parameters.items():
        value = config[name]
        if parameter.kind is parameter.VAR_POSITIONAL:
            found += [("", item) for item in value]
        elif parameter.kind is parameter.VAR_KEYWORD:
            found += [(f"{key}=", item) for key, item in value.items()]
        elif _is_default(value, parameter.default):
            positional = False
        elif positional and parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            found.append(("", value))
        else:
            found.append((f"{name}=", value))
    return found


def long_form(model: Any) -> str:
    """The model over several lines, with the number of parameters beside each layer and a total."""
    lines = _lines(model, "", "")
    graph = scan(model)
    if len(graph.indices(PARAMETER)) + len(graph.indices(BUFFER)) > 0 and len(lines) > 1:
        lines[-1] = (lines[-1][0], _total(graph))
    elif len(lines) == 1:
        lines = [(lines[0][0], _note(graph))]
    return "\n".join(f"{code:<{COMMENT_COLUMN - 1}} # {note}" if note else code for code, note in lines)


def _lines(value: Any, indent: str, label: str) -> list[tuple[str, str]]:
    if not _is_layer(value) or not any(map(_holds_layer, (v for _, v in arguments(value)))):
        note = _note(scan(value)) if _is_layer(value) else ""
        return [(f"{indent}{label}{compact(value)}", note)]
    lines = [(f"{indent}{label}{type(value).__name__}(", "")]
    for name, child in arguments(value):
        inner = _lines(child, indent + "  ", name)
        inner[-1] = (inner[-1][0] + ",", inner[-1][1])
        lines += inner
    own = sum(1 for v in vars(value).values() if is_array(v))
    return [*lines, (f"{indent})", _note(scan(value)) if own else "")]


def _note(graph: Graph) -> str:
    """`100_480 parameters (some NaN)`, or nothing for a layer without arrays."""
    parameters = [graph.leaves[i] for i in graph.indices(PARAMETER)]
    buffers = [graph.leaves[i] for i in graph.indices(BUFFER)]
    notes = []
    if parameters:
        count = count_elements(parameters)
        notes.append(f"{count:_} parameter{'s' * (count != 1)}")
    if buffers:
        notes.append(f"{count_elements(buffers):_} buffer values")
    return ", ".join(notes) + health([*parameters, *buffers])


def _total(graph: Graph) -> str:
    parameters = [graph.leaves[i] for i in graph.indices(PARAMETER)]
    buffers = [graph.leaves[i] for i in graph.indices(BUFFER)]
    text = (
        f"Total: {len(parameters)} array{'s' * (len(parameters) != 1)}, "
        f"{count_elements(parameters):_} parameters, {count_bytes(parameters):_} bytes."
    )
    if buffers:
        text += f" Plus {len(buffers)} buffers, {count_elements(buffers):_} values, {count_bytes(buffers):_} bytes."
    return text


def count_elements(arrays: list[Any]) -> int:
    return sum(int(np.prod(a.shape, dtype=np.int64)) for a in arrays)


def count_bytes(arrays: list[Any]) -> int:
    return sum(int(np.prod(a.shape, dtype=np.int64)) * np.dtype(a.dtype).itemsize for a in arrays)


def health(arrays: list[Any]) -> str:
    """` (some NaN)`, ` (some Inf)` or ` (all zero)` where the values are known and worth a word."""
    known = [np.asarray(a) for a in arrays if not isinstance(a, (jax.core.Tracer, jax.ShapeDtypeStruct))]
    known = [a.astype(np.float32) if a.dtype.kind == "V" else a for a in known]  # bfloat16
    if any(np.isnan(a).any() for a in known):
        return " (some NaN)"
    if any(np.isinf(a).any() for a in known):
        return " (some Inf)"
    if known and all(not a.any() for a in known):
        return " (all zero)"
    return ""


def _is_layer(value: Any) -> bool:
    return hasattr(type(value), "config") and getattr(type(value), "__fluxion_node__", False)


def _holds_layer(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_holds_layer, value))
    if isinstance(value, dict):
        return any(map(_holds_layer, value.values()))
    return _is_layer(value)


def _is_named_callable(value: Any) -> bool:
    """Compiled functions, such as `jax.nn.relu`, print by name like any other."""
    return callable(value) and not isinstance(value, type) and not _is_layer(value) and hasattr(value, "__name__")


def _is_default(value: Any, default: Any) -> bool:
    if value is default:
        return True
    same_type = type(value) is type(default)
    return same_type and not is_array(value) and not _is_layer(value) and bool(value == default)


def _dtype(value: Any) -> str:
    name = np.dtype(value.dtype).name if not jax.numpy.issubdtype(value.dtype, jax.dtypes.extended) else "key"
    short = {"float": "f", "bfloat": "bf", "uint": "u", "int": "i", "complex": "c"}
    for long, brief in short.items():
        if name.startswith(long):
            return brief + name.removeprefix(long)
    return name
