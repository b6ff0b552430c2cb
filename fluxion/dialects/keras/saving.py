"""Models as plain data, and in `.keras` files.

A config is what Keras 3 writes: classes by name, arguments as plain values. Reading one looks names up in the catalogue
of layers, in what `register_keras_serializable` has registered and in `custom_objects`, and nowhere else; no code is
executed.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import inspect
import io
import json
import os
import reprlib
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, TypeVar

import jax
import numpy as np

from fluxion.dialects.keras import ops, weights
from fluxion.dialects.keras.layer import Layer, weight_budget
from fluxion.dialects.keras.models import Model, Sequential
from fluxion.dialects.keras.names import accepted_by
from fluxion.dialects.keras.symbolic import InputLayer, KerasTensor, Node, Operation, is_symbolic, symbolic_call
from fluxion.errors import ArgumentError, FileFormatError, FluxionError, StateError, nearest
from fluxion.files import atomic_write
from fluxion.tree.graph import is_array

T = TypeVar("T")
KERAS_VERSION = "3.15.1"  # whose format is written
MAX_DEPTH = 50  # objects within objects

# ------------------------------------------------------------------------------------------------ custom objects

_registered: dict[str, Any] = {}
_in_scope: ContextVar[dict[str, Any] | None] = ContextVar("fluxion_keras_custom_objects", default=None)


def register_keras_serializable(package: str = "Custom", name: str | None = None) -> Callable[[T], T]:
    """Decorate a class or function of yours, so that files that name it can be read."""

    def register(thing: T) -> T:
        _registered[f"{package}>{name or thing.__name__}"] = thing  # type: ignore[attr-defined]
        return thing

    return register


@contextlib.contextmanager
def custom_object_scope(custom_objects: Mapping[str, Any] | None) -> Iterator[None]:
    """Inside, configs may name these classes and functions.

    >>> from fluxion.dialects import keras
    >>> class Twice(keras.Layer):
    ...     def call(self, inputs):
    ...         return 2 * inputs
    >>> text = keras.Sequential([keras.Input((2,)), Twice(name="twice")]).to_json()
    >>> with keras.saving.custom_object_scope({"Twice": Twice}):
    ...     keras.models.model_from_json(text).layers
    [<Twice name=twice, built=True>]
    """
    token = _in_scope.set({**(_in_scope.get() or {}), **(custom_objects or {})})
    try:
        yield
    finally:
        _in_scope.reset(token)


def _custom(config: Mapping[str, Any]) -> Any:
    scope = _in_scope.get() or {}
    registered, name = config.get("registered_name"), config.get("class_name")
    wanted = [registered, name] if name != "function" else [registered, config.get("config")]
    for key in wanted:
        if isinstance(key, str) and (key in scope or key in _registered):
            return scope.get(key, _registered.get(key))
    return None


# -------------------------------------------------------------------------------------------------------- values


def serialize(value: Any) -> Any:
    """A value as a config holds it: plain, or a dict that names its class."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (list, tuple)):
        return [serialize(item) for item in value]
    if isinstance(value, dict):
        return {key: serialize(item) for key, item in value.items()}
    if isinstance(value, slice):
        parts = {"start": value.start, "stop": value.stop, "step": value.step}
        return {"class_name": "__slice__", "config": {name: serialize(part) for name, part in parts.items()}}
    if value is Ellipsis:
        return {"class_name": "__ellipsis__", "config": {}}
    if is_array(value):
        data = {"value": np.asarray(value).tolist(), "dtype": str(value.dtype)}
        return {"class_name": "__numpy__" if isinstance(value, np.ndarray) else "__tensor__", "config": data}
    if isinstance(value, Layer):
        return serialize_layer(value)
    if isinstance(value, functools.partial) or not hasattr(value, "get_config"):
        return _function_name(value)
    cls = type(value)
    part = cls.__module__.removeprefix("fluxion.dialects.keras.")
    module = None if part == cls.__module__ else "keras." + {"schedules": "optimizers.schedules"}.get(part, part)
    return _object(module, cls, serialize(value.get_config()))


def _object(module: str | None, cls: Any, config: Any) -> dict[str, Any]:
    if module is not None:
        return {"module": module, "class_name": cls.__name__, "config": config, "registered_name": None}
    known = next((key for key, thing in _registered.items() if thing is cls), f"Custom>{cls.__name__}")
    return {"module": None, "class_name": cls.__name__, "config": config, "registered_name": known}


def _function_name(function: Any) -> Any:
    from fluxion.dialects.keras import activations

    name = getattr(function, "__name__", None)
    if name is None or name == "<lambda>" or not callable(function):
        raise StateError(f"{function!r} cannot be written into a config. Use a named function or a class.")
    if getattr(activations, name, None) is function:
        return activations.serialize(function)
    return {"module": "builtins", "class_name": "function", "config": name, "registered_name": name}


def serialize_layer(layer: Layer) -> dict[str, Any]:
    """A layer as a config holds it."""
    cls = type(layer)
    if cls.__name__ == "Lambda":
        raise StateError(
            f"{layer.name} is a Lambda layer, whose function cannot be written into a config. Make it a class of yours."
        )
    config = layer.get_config()
    if cls is Model:
        name = "Functional"
        return {"module": "keras.src.models.functional", "class_name": name, "config": config, "registered_name": name}
    builtin = cls.__module__.startswith("fluxion.")
    module = "keras" if issubclass(cls, Model) else "keras.layers"
    return _object(module if builtin else None, cls, config)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The value that a config holds, layers and what is in them included.

    Errors: `FileFormatError` for a class that is not known, and for functions that are written as code.
    """
    if custom_objects:
        with custom_object_scope(custom_objects):
            return deserialize(config)
    return _value(config, 0)


def _value(config: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise FileFormatError(f"expected fewer than {MAX_DEPTH} objects within objects")
    if isinstance(config, list):
        return [_value(item, depth + 1) for item in config]
    if not isinstance(config, dict):
        return config
    name = config.get("class_name")
    if not isinstance(name, str) or "config" not in config:
        return {key: _value(item, depth + 1) for key, item in config.items()}
    inner = config["config"]
    if name == "__slice__":
        return slice(*(_value(inner.get(part), depth + 1) for part in ("start", "stop", "step")))
    if name == "__ellipsis__":
        return Ellipsis
    if name in ("__numpy__", "__tensor__"):
        return np.asarray(inner["value"], dtype=inner["dtype"])
    if name == "__tuple__":
        return tuple(_value(item, depth + 1) for item in inner)
    if name in ("Lambda", "__lambda__"):
        which = inner.get("name") if isinstance(inner, dict) else None
        raise FileFormatError(
            f"expected no code, got the {'Lambda layer ' + repr(which) if which else 'lambda of a layer'}, which would "
            "have to be executed. Write the layer as a class of yours and give it in custom_objects."
        )
    if name == "DTypePolicy":
        return inner.get("name")
    if name == "function":
        return _custom(config) or inner
    cls = _custom(config) or (layer_classes().get(name) if str(config.get("module", "")).startswith("keras") else None)
    if cls is not None and isinstance(cls, type) and issubclass(cls, Layer):
        return _layer(cls, config, depth)
    if cls is not None:
        return cls.from_config(inner) if hasattr(cls, "from_config") else cls(**inner)
    if str(config.get("module", "")) in _PLAIN_MODULES:
        return config  # an initializer, a regularizer: the layer knows
    raise FileFormatError(
        f"expected classes of the catalogue, got {name!r} of {config.get('module')}."
        f"{nearest(name, layer_classes())} Give a class of your own in custom_objects={{{name!r}: ...}}."
    )


_PLAIN_MODULES = {"keras.initializers", "keras.regularizers", "keras.constraints", "keras.activations"}
_PLAIN_MODULES |= {"keras.losses", "keras.metrics", "keras.optimizers", "keras.optimizers.schedules"}


@functools.cache
def layer_classes() -> dict[str, type]:
    """The classes that a config may name."""
    from fluxion.dialects.keras import layers

    found = {name: getattr(layers, name) for name in layers.__all__}
    found = {name: thing for name, thing in found.items() if isinstance(thing, type) and issubclass(thing, Layer)}
    return found | {"InputLayer": InputLayer, "Sequential": Sequential, "Functional": Model, "Model": Model}


def _layer(cls: Any, config: Mapping[str, Any], depth: int) -> Layer:
    inner = config["config"]
    if not isinstance(inner, dict):
        raise FileFormatError(f"{cls.__name__}: expected a config, got {inner!r}")
    custom = "from_config" in vars(cls) and not cls.__module__.startswith("fluxion.")
    try:
        if custom or issubclass(cls, Model):
            return cls.from_config(inner)
        return cls.from_config(_arguments(cls, {key: _value(item, depth + 1) for key, item in inner.items()}))
    except FluxionError:
        raise
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise FileFormatError(f"{cls.__name__}: the config {reprlib.repr(inner)} does not make one: {error}") from error


def _arguments(cls: Any, config: dict[str, Any]) -> dict[str, Any]:
    """The config without options that are off and do not exist here."""
    known = accepted_by(cls)
    return {name: value for name, value in config.items() if name in known or value not in (None, False)}


# ------------------------------------------------------------------------------------------------------- models


def sequential_config(model: Sequential) -> dict[str, Any]:
    """The config of a `Sequential`."""
    first = [] if model.input_layer is None else [model.input_layer]
    config: dict[str, Any] = {"name": model.name, "trainable": model.trainable, "dtype": model.dtype}
    config["layers"] = [serialize_layer(layer) for layer in [*first, *model.own_layers]]
    if model.tensors:
        config["build_input_shape"] = list(model.tensors[0].shape)
    return config


def sequential_from_config(cls: Any, config: Mapping[str, Any]) -> Any:
    """The `Sequential` of a config."""
    entries = config.get("layers")
    if not isinstance(entries, list):
        raise FileFormatError("Sequential: expected a list of layers in the config")
    model = cls([_value(entry, 1) for entry in entries], name=config.get("name"))
    shape = config.get("build_input_shape")
    if shape is not None and not model.built and model.own_layers:
        model.build(tuple(shape))
    if not config.get("trainable", True):
        model.trainable = False
    return model


def functional_config(model: Model) -> dict[str, Any]:
    """The config of a functional model: its layers, and how they are called."""
    graph = model._symbolic_graph()
    own = set(graph.nodes)
    numbers: dict[Node, int] = {}
    for operation in graph.operations:
        kept = [node for node in operation.inbound_nodes if node in own]
        numbers |= {node: i for i, node in enumerate(kept)}

    def tensor(t: KerasTensor) -> dict[str, Any]:
        history = [t.node.operation.name, numbers[t.node], t.index]
        return {
            "class_name": "__keras_tensor__",
            "config": {"shape": list(t.shape), "dtype": t.dtype, "keras_history": history},
        }

    def argument(value: Any) -> Any:
        if is_symbolic(value):
            return tensor(value)
        if isinstance(value, (list, tuple)):
            return [argument(item) for item in value]
        if isinstance(value, dict):
            return {key: argument(item) for key, item in value.items()}
        return serialize(value)

    def place(t: KerasTensor) -> list[Any]:
        # Keras counts the calls of a model within a model from 1 here.
        first = int(isinstance(t.node.operation, Model) and not isinstance(t.node.operation, Sequential))
        return [t.node.operation.name, numbers[t.node] + first, t.index]

    layers = []
    for operation in graph.operations:
        nodes = [node for node in operation.inbound_nodes if node in own and node.inputs]
        if isinstance(operation, Operation):
            entry, calls = _operation_config(operation, nodes[0])
        else:
            entry, calls = serialize_layer(operation), [(node.args, node.kwargs) for node in nodes]
        entry["name"] = operation.name
        entry["inbound_nodes"] = [{"args": argument(args), "kwargs": argument(kwargs)} for args, kwargs in calls]
        layers.append(entry)
    return {
        "name": model.name,
        "trainable": model.trainable,
        "layers": layers,
        "input_layers": jax.tree.map(place, graph.inputs),
        "output_layers": jax.tree.map(place, graph.outputs),
    }


# Of an operation's arguments, those that Keras gives to the call; the others are part of its config.
_CALLED_WITH = {
    *("x", "x1", "x2", "xs", "y", "a", "b", "key", "condition", "inputs", "kernel", "indices", "updates", "operands"),
    *("target", "output"),
}
_MODULES = {  # of Keras' operations, where not numpy
    "core": {"cast", "convert_to_tensor", "stop_gradient", "unstack", "slice", "slice_update", "scatter_update"},
    "math": {"logsumexp", "top_k", "in_top_k", "rsqrt", "erf", "erfinv", "segment_sum", "segment_max"},
    "linalg": {"norm", "inv", "det", "solve", "cholesky", "qr", "svd", "eigh"},
    "nn": {
        *("relu", "relu6", "leaky_relu", "elu", "celu", "selu", "gelu", "silu", "swish", "sigmoid", "log_sigmoid"),
        *("hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh", "softplus", "softsign", "soft_shrink", "tanh_shrink"),
        *("softmax", "log_softmax", "glu", "one_hot", "multi_hot", "moments", "normalize", "conv", "depthwise_conv"),
        *("max_pool", "average_pool", "categorical_crossentropy", "sparse_categorical_crossentropy"),
        "binary_crossentropy",
    },
}


def _operation_config(operation: Operation, node: Node) -> tuple[dict[str, Any], list[tuple[Any, Any]]]:
    signature = inspect.signature(getattr(ops, operation.function_name))
    bound = signature.bind(*node.args, **node.kwargs)
    called, config = [], {"name": operation.name}
    for name, value in bound.arguments.items():
        if signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL:
            called += value
        elif name in _CALLED_WITH:
            called.append(value)
        else:
            config[name] = serialize(value)
    module = next((m for m, names in _MODULES.items() if operation.function_name in names), "numpy")
    return {
        "module": f"keras.src.ops.{module}",
        "class_name": operation.class_name,
        "config": config,
        "registered_name": operation.class_name,
    }, [(called, {})]


@functools.cache
def _operation_names() -> dict[str, str]:
    return {"".join(part.capitalize() for part in name.split("_")): name for name in ops.table()}


def _operation(config: Mapping[str, Any]) -> tuple[Operation, dict[str, Any]]:
    """The operation of a config, and the arguments that are not in the call."""
    names = _operation_names()
    name = config["class_name"]
    if name not in names:
        raise FileFormatError(f"expected an operation of keras.ops, got {name!r}.{nearest(name, names)}")
    options = dict(_value(config.get("config", {}), 1))
    own_name = options.pop("name", None)
    function = getattr(ops, names[name])
    known = inspect.signature(function).parameters
    options = {key: value for key, value in options.items() if key in known or value not in (None, False)}
    return Operation(names[name], function, name, own_name), options


def functional_from_config(cls: Any, config: Mapping[str, Any]) -> Any:
    """The functional model of a config."""
    made: dict[str, Any] = {}
    todo: dict[str, list[Any]] = {}
    calls: dict[str, list[Node]] = {}
    options: dict[str, dict[str, Any]] = {}  # of operations
    for entry in config["layers"]:
        if not isinstance(entry, dict) or "class_name" not in entry or not isinstance(entry.get("name"), str):
            raise FileFormatError("functional model: expected layers with class_name and name")
        name = entry["name"]
        if str(entry.get("module", "")).startswith("keras.src.ops."):
            operation, options[name] = _operation(entry)
        else:
            operation = _value(entry, 1)
        made[name] = operation
        todo[name] = list(entry.get("inbound_nodes", []))
        calls[name] = list(operation.inbound_nodes) if isinstance(operation, InputLayer) else []
    while any(todo.values()):
        progress = False
        for name, waiting in todo.items():
            while waiting:
                arguments = _call_arguments(waiting[0], calls)
                if arguments is None:
                    break
                args, kwargs = arguments
                operation = made[name]
                if isinstance(operation, Operation):
                    if operation.function_name == "get_item":  # JSON has no tuples
                        args = [tuple(arg) if isinstance(arg, list) else arg for arg in args]
                    symbolic_call(operation, tuple(args), kwargs | options[name])
                else:
                    operation(*args, **kwargs)
                calls[name].append(operation.inbound_nodes[-1])
                del waiting[0]
                progress = True
        if not progress:
            left = ", ".join(name for name, waiting in todo.items() if waiting)
            raise FileFormatError(f"functional model: got calls that wait for each other: {left}")

    def tensors(place: Any) -> Any:
        if isinstance(place, list) and len(place) == 3 and isinstance(place[0], str):
            return _tensor(place, calls, made)
        if isinstance(place, dict):
            return {key: tensors(inner) for key, inner in place.items()}
        if not isinstance(place, list):
            raise FileFormatError(f"functional model: expected places of tensors, got {place!r}")
        return [tensors(inner) for inner in place]

    inputs, outputs = tensors(config["input_layers"]), tensors(config["output_layers"])
    model = cls(inputs=inputs, outputs=outputs, name=config.get("name"))
    if not config.get("trainable", True):
        model.trainable = False
    return model


def _tensor(place: list[Any], calls: Mapping[str, list[Node]], made: Mapping[str, Any]) -> KerasTensor:
    name, number, index = place
    operation = made.get(name)
    first = int(isinstance(operation, Model) and not isinstance(operation, Sequential))
    try:
        return calls[name][number - first].outputs[index]
    except (KeyError, IndexError, TypeError):
        raise FileFormatError(f"functional model: there is no output {place!r}") from None


def _call_arguments(entry: Any, calls: Mapping[str, list[Node]]) -> tuple[list[Any], dict[str, Any]] | None:
    """The arguments of a call, or None while a tensor among them does not exist yet."""
    missing = False

    def argument(value: Any) -> Any:
        nonlocal missing
        if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
            name, number, index = value["config"]["keras_history"]
            if name not in calls:
                raise FileFormatError(f"functional model: there is no layer {name!r}")
            if number >= len(calls[name]):
                missing = True
                return None
            return calls[name][number].outputs[index]
        if isinstance(value, list):
            return [argument(item) for item in value]
        if isinstance(value, dict) and "class_name" not in value:
            return {key: argument(item) for key, item in value.items()}
        return _value(value, 1)

    if not isinstance(entry, dict) or "args" not in entry:
        raise FileFormatError("functional model: expected calls as args and kwargs; older formats are not read")
    args = argument(entry["args"])
    kwargs = {key: argument(value) for key, value in entry.get("kwargs", {}).items()}
    # Keras writes training=False and mask=None where nothing was given.
    kwargs = {key: value for key, value in kwargs.items() if value is not None and (key, value) != ("training", False)}
    return None if missing else (args, kwargs)


def to_json(model: Model) -> str:
    """A model without its weights, as text."""
    return json.dumps(serialize_layer(model))


def model_from_json(json_string: str, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """The model of a text by `to_json`, with fresh weights.

    >>> from fluxion.dialects import keras
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="head")])
    >>> keras.models.model_from_json(model.to_json()).get_layer("head").units
    3
    """
    try:
        config = json.loads(json_string)
    except (json.JSONDecodeError, RecursionError) as error:
        raise FileFormatError(f"expected a model as JSON, got text that is none: {error}") from None
    return _model(config, custom_objects)


def _model(config: Any, custom_objects: Mapping[str, Any] | None) -> Any:
    try:
        model = deserialize(config, custom_objects)
    except RecursionError:
        raise FileFormatError("expected a model, got models within models without end") from None
    if not isinstance(model, Model):
        raise FileFormatError(f"expected the config of a model, got {type(model).__name__}")
    return model


def clone_model(model: Model, input_tensors: Any = None, clone_function: Any = None) -> Any:
    """A model of the same layers with fresh weights: functional, sequential, or a subclass with `get_config`."""
    if input_tensors is not None or clone_function is not None:
        raise ArgumentError("clone_model: input_tensors and clone_function are not supported. Leave them out.")
    own = {type(layer).__name__: type(layer) for layer in model._flatten_layers()}
    return deserialize(serialize_layer(model), own)


# -------------------------------------------------------------------------------------------------------- files


def save_model(model: Model, filepath: Any, overwrite: bool = True) -> None:
    """Write a model to a file `*.keras`: its config, and its weights."""
    path = os.fspath(filepath)
    if not path.endswith(".keras"):
        raise ArgumentError(
            f"save: expected a file name ending in .keras, got {path!r}. "
            "For the weights alone use save_weights with a name ending in .weights.h5."
        )
    weights.check_overwrite(path, overwrite)
    config = serialize_layer(model)
    if hasattr(model, "get_compile_config"):
        config["compile_config"] = serialize(model.get_compile_config())
    date = datetime.datetime.now().strftime("%Y-%m-%d@%H:%M:%S")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": KERAS_VERSION, "date_saved": date}))
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", weights.weights_bytes(model))
    atomic_write(path, lambda file: file.write(buffer.getvalue()))


def load_model(
    filepath: Any, custom_objects: Mapping[str, Any] | None = None, compile: bool = True, safe_mode: bool = True
) -> Any:
    """Read a model from a file `*.keras` by Keras 3 or by this library.

    Arguments:
      custom_objects: classes and functions of yours, by name.
      compile: whether the model is compiled as it was saved.
      safe_mode: only True; code in files is never executed.

    Errors: `FileFormatError` for a damaged file, an unknown class, a Lambda layer, or weights that do not fit.
    """
    path = os.fspath(filepath)
    if not safe_mode:
        raise ArgumentError("load_model: code in files is never executed. Leave safe_mode out.")
    if not path.endswith(".keras"):
        raise ArgumentError(
            f"load_model: expected a file name ending in .keras, got {path!r}. "
            "For a file of weights make the model and call load_weights."
        )
    with weights.opened_archive(path) as archive:
        text = weights.member(path, archive, "config.json")
        data = weights.member(path, archive, "model.weights.h5")
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path}: config.json is damaged: {error}") from None
    try:
        with weight_budget(2 * len(data) + 1000):
            model = _model(config, custom_objects)
    except FileFormatError as error:
        raise FileFormatError(f"{path}: {error.reason}") from None
    if not model.built and isinstance(config.get("build_config"), dict):
        shape = config["build_config"].get("input_shape")
        if shape is not None:
            model.build(_as_shapes(shape))
    weights.load_from(model, path, io.BytesIO(data))
    compiled = config.get("compile_config")
    if compile and isinstance(compiled, dict) and compiled.get("optimizer"):
        try:
            _compile(model, compiled)
        except (FluxionError, TypeError) as error:
            raise FileFormatError(
                f"{path}: cannot be compiled as it was: {error} Give compile=False and compile it afterwards."
            ) from error
    return model


def _compile(model: Model, config: Mapping[str, Any]) -> None:
    """`model.compile` with what was saved."""
    from fluxion.dialects.keras import losses, metrics, optimizers

    def each(get: Callable[[Any], Any], value: Any) -> Any:
        if isinstance(value, list):
            return [each(get, item) for item in value]
        if not isinstance(value, dict):
            return value
        if "class_name" not in value:
            return {key: each(get, item) for key, item in value.items()}
        made = _value(value, 0)
        return get(made) if isinstance(made, dict) else made

    optimizer = dict(config["optimizer"])
    if isinstance(optimizer.get("config"), dict):
        options = {name: value for name, value in optimizer["config"].items() if value not in (None, False)}
        if not optimizer["config"].get("use_ema"):
            options.pop("ema_momentum", None)
        optimizer["config"] = options
    model.compile(
        optimizer=optimizers.get(optimizer),
        loss=each(losses.get, config.get("loss")),
        loss_weights=config.get("loss_weights"),
        metrics=each(metrics.get, config.get("metrics")),
        weighted_metrics=each(metrics.get, config.get("weighted_metrics")),
    )


def _as_shapes(shape: Any) -> Any:
    if isinstance(shape, list) and any(isinstance(size, list) for size in shape):
        return [_as_shapes(inner) for inner in shape]
    return tuple(shape) if isinstance(shape, list) else shape
