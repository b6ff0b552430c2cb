"""`Model`, functional and subclassed, and `Sequential`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.dialects.keras.layer import CallShapes, Layer, mask_of, own_seeds, set_mask
from fluxion.dialects.keras.names import accepted_by, automatic_name, snake_case, unknown_argument
from fluxion.dialects.keras.symbolic import (
    Graph,
    Input,
    InputLayer,
    KerasTensor,
    Plan,
    flat_tensors,
    is_shape,
    is_symbolic,
)
from fluxion.dialects.keras.training import Trainer
from fluxion.dialects.keras.variables import plain
from fluxion.errors import ArgumentError, ShapeError, StateError, nearest
from fluxion.transform.sizes import size_layers
from fluxion.tree.walk import scan


class Model(Layer, Trainer):
    """A model: either `Model(inputs, outputs)` over symbolic tensors, or a subclass that writes `call`.

    Arguments:
      inputs, outputs: symbolic tensors: one, a list or a dict of them.
      name: by default `functional`, or the class in snake case; numbered.
      trainable: whether its layers are trained.

    >>> from fluxion.dialects import keras
    >>> inputs = keras.Input((4,))
    >>> hidden = keras.layers.Dense(8, activation="relu")(inputs)
    >>> model = keras.Model(inputs, keras.layers.Dense(3)(hidden) + 1.0)
    >>> model(keras.ops.ones((2, 4))).shape, model.count_params()
    ((2, 3), 67)
    """

    graph: Graph | None = None

    def __init__(
        self,
        inputs: Any = None,
        outputs: Any = None,
        *,
        name: str | None = None,
        trainable: bool = True,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        if kwargs:
            raise unknown_argument(type(self).__name__, kwargs, accepted_by(type(self)))
        if (inputs is None) != (outputs is None):
            raise ArgumentError(f"{type(self).__name__}: expected both inputs and outputs, or neither.")
        base = "functional" if inputs is not None and type(self) is Model else snake_case(type(self).__name__)
        super().__init__(name=name or automatic_name(base), dtype=dtype)
        if inputs is not None:
            self._set_graph(inputs, outputs)
            self.built = True
        if not trainable:
            self.trainable = False

    def _set_graph(self, inputs: Any, outputs: Any) -> None:
        self.graph = Graph(inputs, outputs)
        self.plan = Plan(self.graph)
        self.operations = self.graph.operations
        self.operands = self.plan.operands
        names = [op.name for op in self.operations]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ArgumentError(f"Model: expected layers with different names, got {twice!r} twice. Rename one.")

    # Calling

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        """The outputs. A subclass writes its own."""
        if self.graph is None:
            raise NotImplementedError(f"{type(self).__name__} has no call(inputs) method")
        flat = standardized(self.name, self.graph.inputs, inputs)
        if mask is not None:
            for x, m in zip(flat, jax.tree.leaves(mask), strict=True):
                set_mask(x, jnp.asarray(m))
        return self.plan.run(self.operations, self.operands, flat)

    # Building

    @property
    def unsized(self) -> bool:
        return not self.built and type(self).build not in (Model.build, Layer.build)

    def _build_for_call(self, shapes: CallShapes) -> None:
        if type(self).build is Model.build:
            self.built = True  # the layers within are built when they are called
        else:
            super()._build_for_call(shapes)

    def build(self, input_shape: Any) -> None:
        """Make the weights for inputs of this shape, with its batch size or None: `model.build((None, 28, 28, 1))`."""
        if self.graph is None:
            self.build_on(jax.tree.map(_placeholder, input_shape, is_leaf=is_shape))

    def build_on(self, *args: Any, **kwargs: Any) -> None:
        """Make the weights of all layers that have none yet, for a call `model(*args, **kwargs)` of such arrays."""
        leaves, structure = jax.tree.flatten((args, kwargs))
        specs = tuple(jax.ShapeDtypeStruct(np.shape(x), jnp.result_type(x)) for x in leaves)

        def call(model: Any, *arrays: Any) -> Any:
            positional, named = jax.tree.unflatten(structure, arrays)
            return model(*positional, **named)

        size_layers(self, specs, call)
        self.built = True

    # What is in it

    @property
    def layers(self) -> list[Layer]:
        """The layers that the model calls itself, in Keras' order."""
        if self.graph is not None:
            return [op for op in self.operations if isinstance(op, Layer)]
        return self._inner_layers()

    def _inner_layers(self) -> list[Layer]:
        if self.graph is None:
            return super()._inner_layers()
        return list(dict.fromkeys([*self.layers, *super()._inner_layers()]))

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """The layer of a name, or at a place of `layers`."""
        if (name is None) == (index is None):
            raise ArgumentError("get_layer: expected a name or an index.")
        layers = self.layers
        if index is not None:
            if not -len(layers) <= index < len(layers):
                raise ArgumentError(f"get_layer: expected an index below {len(layers)}, got {index}.")
            return layers[index]
        names = [layer.name for layer in layers]
        if name not in names:
            raise ArgumentError(f"get_layer: got {name!r}.{nearest(str(name), names)} There are: {', '.join(names)}.")
        return layers[names.index(name)]

    def _symbolic_graph(self) -> Graph:
        if self.graph is None:
            raise StateError(f"{self.name} has no symbolic inputs and outputs: it is not functional, or not built yet.")
        return self.graph

    @property
    def input(self) -> Any:
        """The symbolic inputs, as they were given."""
        return self._symbolic_graph().inputs

    @property
    def output(self) -> Any:
        """The symbolic outputs, as they were given."""
        return self._symbolic_graph().outputs

    @property
    def inputs(self) -> list[KerasTensor]:
        """The symbolic inputs as a list."""
        return self._symbolic_graph().input_tensors

    @property
    def outputs(self) -> list[KerasTensor]:
        """The symbolic outputs as a list."""
        return self._symbolic_graph().output_tensors

    @property
    def input_shape(self) -> Any:
        """The shapes of the inputs, in their structure."""
        return jax.tree.map(lambda tensor: tensor.shape, self.input)

    @property
    def output_shape(self) -> Any:
        """The shapes of the outputs, in their structure."""
        return jax.tree.map(lambda tensor: tensor.shape, self.output)

    def summary(
        self,
        line_length: int | None = None,
        positions: Sequence[float] | None = None,
        print_fn: Any = None,
        expand_nested: bool = False,
        show_trainable: bool = False,
        layer_range: Sequence[str] | None = None,
    ) -> None:
        """Print a table of the layers with their output shapes and parameters, and totals."""
        from fluxion.dialects.keras.summary import print_summary

        print_summary(self, line_length, positions, print_fn, expand_nested, show_trainable, layer_range)

    # Files and plain data

    def save_weights(self, filepath: Any, overwrite: bool = True) -> None:
        """Write the weights to a file `*.weights.h5`, as Keras 3 does."""
        from fluxion.dialects.keras import weights

        weights.save_weights(self, filepath, overwrite)

    def load_weights(self, filepath: Any, skip_mismatch: bool = False) -> None:
        """Read the weights from a file `*.weights.h5`, `*.keras` or `*.h5` that Keras or this library wrote.

        Either all of them are replaced, or, with an error that names the layer, none.
        """
        from fluxion.dialects.keras import weights

        weights.load_weights(self, filepath, skip_mismatch)

    def save(self, filepath: Any, overwrite: bool = True) -> None:
        """Write the model to a file `*.keras`, which Keras 3 reads, too."""
        from fluxion.dialects.keras import saving

        saving.save_model(self, filepath, overwrite)

    def get_config(self) -> dict[str, Any]:
        from fluxion.dialects.keras import saving

        if type(self) is Model and self.graph is not None:
            return saving.functional_config(self)
        return super().get_config()

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        from fluxion.dialects.keras import saving

        if "input_layers" in config and "output_layers" in config:
            return saving.functional_from_config(cls, config)
        return super().from_config(config)

    def to_json(self) -> str:
        """The model without its weights, as text; `keras.models.model_from_json` reads it."""
        from fluxion.dialects.keras import saving

        return saving.to_json(self)


class Sequential(Model):
    """Layers one after another.

    Arguments:
      layers: the layers, of which an `Input` may be the first. Without one the model is built at its first call.
      name, trainable: as for `Model`.

    >>> from fluxion.dialects import keras
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, activation="relu", name="hidden")])
    >>> model.add(keras.layers.Dense(3, name="head"))
    >>> model.output_shape, [layer.name for layer in model.layers]
    ((None, 3), ['hidden', 'head'])
    """

    def __init__(self, layers: Any = None, trainable: bool = True, name: str | None = None) -> None:
        super().__init__(name=name)
        self.input_layer: InputLayer | None = None
        self.own_layers: list[Layer] = []
        self.tensors: tuple[KerasTensor, ...] = ()  # before and after each layer, once the input is known
        self.declared = False  # whether the shape of the input was given, not found
        if layers is not None and not isinstance(layers, (list, tuple)):
            layers = [layers]
        for layer in layers or ():
            self.add(layer)
        if not trainable:
            self.trainable = False

    @property
    def layers(self) -> list[Layer]:
        """The layers, without the `Input`."""
        return list(self.own_layers)

    def _inner_layers(self) -> list[Layer]:
        return list(dict.fromkeys(self.own_layers))

    def add(self, layer: Any) -> None:
        """Append a layer; an `Input` may only be the first."""
        if isinstance(layer, KerasTensor):
            layer = layer.node.operation
        if not isinstance(layer, Layer):
            raise ArgumentError(f"Sequential: expected a layer, got {layer!r}. Wrap a function in layers.Lambda.")
        if isinstance(layer, InputLayer):
            if self.own_layers or self.input_layer is not None:
                raise ArgumentError("Sequential: an Input must be the first layer, and the only Input.")
            self._begin(layer)
            return
        if any(layer.name == other.name for other in self.own_layers):
            raise ArgumentError(f"Sequential: expected layers with different names, got {layer.name!r} twice.")
        if not self.own_layers and self.input_layer is None:
            self._begin_with(layer)
        self.own_layers.append(layer)
        if self.tensors:
            self._extend([layer])
        else:
            self.built = False

    def _begin_with(self, layer: Layer) -> None:
        """Take the input from a first layer that knows its shape."""
        if layer.given_input_shape is not None:
            self._begin(Input(batch_shape=layer.given_input_shape).node.operation)
        elif isinstance(layer, Model) and layer.graph is not None and len(layer.inputs) == 1:
            first = layer.inputs[0]
            self._begin(Input(batch_shape=first.shape, dtype=first.dtype).node.operation)

    def _begin(self, layer: InputLayer) -> None:
        self.input_layer = layer
        self.declared = True
        self.tensors = (layer.inbound_nodes[0].outputs[0],)

    def _extend(self, layers: Sequence[Layer]) -> None:
        tensors = list(self.tensors)
        for layer in layers:
            tensors.append(layer(tensors[-1]))
        if not is_symbolic(tensors[-1]):
            raise StateError(f"Sequential: {layers[-1].name} returns several outputs. Use keras.Model.")
        self._set_tensors(tensors)

    def _set_tensors(self, tensors: Sequence[KerasTensor]) -> None:
        self.tensors = tuple(tensors)
        self.built = len(tensors) > 1
        self.graph = Graph(tensors[0], tensors[-1]) if self.built else None

    def pop(self, rebuild: bool = True) -> Layer | None:
        """Remove the last layer and return it."""
        if not self.own_layers:
            return None
        layer = self.own_layers.pop()
        if self.tensors:
            self._set_tensors(self.tensors[:-1])
        return layer

    @property
    def unsized(self) -> bool:
        return not self.built

    def _build_for_call(self, shapes: CallShapes) -> None:
        Layer._build_for_call(self, shapes)

    def build(self, input_shape: Any = None) -> None:
        """Make the weights for inputs of this shape, with its batch size or None."""
        if self.tensors:
            return
        if not self.own_layers:
            raise StateError(f"{self.name} has no layers. Add them with add().")
        if not is_shape(input_shape):
            raise ArgumentError(f"Sequential: expected a shape such as (None, 784), got {input_shape!r}.")
        self._begin(Input(batch_shape=input_shape).node.operation)
        self.declared = False
        self._extend(self.own_layers)

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        """The output of the last layer."""
        if self.declared:
            (inputs,) = standardized(self.name, self.tensors[0], inputs)
        if mask is not None:
            set_mask(inputs, jnp.asarray(mask))
        for layer in self.own_layers:
            inputs = layer(inputs)
        return inputs

    def get_config(self) -> dict[str, Any]:
        from fluxion.dialects.keras import saving

        return saving.sequential_config(self) if type(self) is Sequential else Layer.get_config(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        from fluxion.dialects.keras import saving

        return saving.sequential_from_config(cls, config)


def _placeholder(shape: Any) -> Any:
    return jax.ShapeDtypeStruct([1 if size is None else size for size in shape], jnp.float32)


def standardized(name: str, expected: Any, inputs: Any) -> list[Any]:
    """The arrays for a model's symbolic inputs, flat: matched by place or name, their ranks and sizes checked."""
    tensors = flat_tensors(expected)
    if isinstance(inputs, dict):
        names = sorted(expected) if isinstance(expected, dict) else [tensor.name for tensor in tensors]
        missing = [key for key in names if key not in inputs]
        if missing:
            raise ArgumentError(
                f"{name}: expected inputs named {', '.join(names)}, got {', '.join(map(str, inputs))}."
                f"{nearest(missing[0], map(str, inputs))}"
            )
        arrays = [inputs[key] for key in names]
    elif isinstance(expected, dict):
        arrays = jax.tree.leaves(dict(zip(expected, _as_list(inputs), strict=False)))
    else:
        arrays = _as_list(inputs)
    if len(arrays) != len(tensors):
        raise ArgumentError(f"{name}: expected {len(tensors)} inputs, got {len(arrays)}.")
    return [_fitted(name, tensor, array) for tensor, array in zip(tensors, arrays, strict=True)]


def _as_list(inputs: Any) -> list[Any]:
    return list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]


def _fitted(name: str, tensor: KerasTensor, array: Any) -> Any:
    """The array in the dtype of a symbolic input; an axis of size 1 at the end may be missing, or too many."""
    x = jnp.asarray(plain(array))
    mask = mask_of(array)
    if x.ndim == len(tensor.shape) + 1 and x.shape[-1] == 1:
        x = x.squeeze(-1)
    elif x.ndim == len(tensor.shape) - 1 and tensor.shape[-1] == 1:
        x = x[..., None]
    fits = x.ndim == len(tensor.shape) and all(
        n in (None, m) for n, m in zip(tensor.shape[1:], x.shape[1:], strict=False)
    )
    if not fits:
        raise ShapeError(f"{name}: input {tensor.name!r}: expected shape {tensor.shape}, got {x.shape}.")
    x = x.astype(tensor.dtype)
    if mask is not None:
        set_mask(x, mask)
    return x


def load_model(filepath: Any, custom_objects: Any = None, compile: bool = True, safe_mode: bool = True) -> Model:
    """As `keras.saving.load_model`."""
    from fluxion.dialects.keras import saving

    return saving.load_model(filepath, custom_objects, compile, safe_mode)


def save_model(model: Model, filepath: Any, overwrite: bool = True) -> None:
    """As `model.save`."""
    model.save(filepath, overwrite)


def clone_model(model: Model, input_tensors: Any = None, clone_function: Any = None) -> Model:
    """As `keras.saving.clone_model`."""
    from fluxion.dialects.keras import saving

    return saving.clone_model(model, input_tensors, clone_function)


def model_from_json(json_string: str, custom_objects: Any = None) -> Model:
    """As `keras.saving.model_from_json`."""
    from fluxion.dialects.keras import saving

    return saving.model_from_json(json_string, custom_objects)


def stateless_call(layer: Layer, trainable: Any, others: Any, *args: Any, **kwargs: Any) -> Any:
    """`layer.stateless_call`: a call of a copy that holds the given arrays."""
    return_losses = kwargs.pop("return_losses", False)
    graph = scan(layer)
    copy: Layer = graph.build(graph.leaves).roots[0]
    for role, variables, values in (
        ("trainable", copy.trainable_variables, trainable),
        ("non-trainable", copy.non_trainable_variables, others),
    ):
        if len(values) != len(variables):
            raise StateError(
                f"{layer.name}.stateless_call: expected {len(variables)} {role} arrays, got {len(values)}."
            )
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
    with own_seeds():
        outputs = copy(*args, **kwargs)
    after = [variable.value for variable in copy.non_trainable_variables]
    return (outputs, after, copy.losses) if return_losses else (outputs, after)
