"""`Layer`: what every Keras layer inherits from, a Fluxion layer with Keras' names for things.

A layer's arrays are `Variable`s, or those of a Fluxion layer that it keeps as an attribute. Arrays that a layer merely
keeps (`self.positions = ...`) are constants, which training leaves alone.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fluxion
from fluxion.dialects.keras.names import accepted_by, automatic_name, snake_case, unknown_argument
from fluxion.dialects.keras.random import SeedGenerator
from fluxion.dialects.keras.variables import Box, Variable, plain, views
from fluxion.errors import ArgumentError, DTypeError, FileFormatError, ShapeError, StateError
from fluxion.transform.modes import gradient_mode, within_gradient
from fluxion.transform.sizes import is_sizing
from fluxion.tree.graph import is_array, is_floating

_SEEN = "_seen_shape"  # where `fx.autosize` looks for the shape that an unsized layer saw


class Layer(fluxion.Layer):
    """Base class of Keras layers: `build(input_shape)` makes the weights, `call(inputs)` computes.

    `call` may also take `training` (in training or not) and `mask`; both are filled in. A layer is built at its first
    call, and called on a `KerasTensor` it makes a node of a functional model.

    Arguments:
      name: by default the class in snake case, numbered: `dense`, `dense_1`.
      trainable: whether its weights are trained.
      dtype: of its weights and its inputs: "float32" by default.
      activity_regularizer: function of the output whose value is added to the loss.
      input_shape, input_dim: the shape of an input without the batch, for the first layer of a `Sequential`.

    >>> from fluxion.dialects import keras
    >>> class Linear(keras.Layer):
    ...     def __init__(self, units, **kwargs):
    ...         super().__init__(**kwargs)
    ...         self.units = units
    ...     def build(self, input_shape):
    ...         self.w = self.add_weight((input_shape[-1], self.units), initializer="zeros", name="w")
    ...     def call(self, inputs):
    ...         return inputs @ self.w
    >>> layer = Linear(2)
    >>> layer(keras.ops.ones((3, 4))).shape, layer.name, layer.count_params()
    ((3, 2), 'linear', 8)
    """

    buffers = ("constants",)
    supports_masking: bool = True
    built: bool = False

    def __init__(
        self,
        *,
        name: str | None = None,
        trainable: bool = True,
        dtype: Any = None,
        activity_regularizer: Any = None,
        input_shape: Any = None,
        input_dim: int | None = None,
        **kwargs: Any,
    ) -> None:
        cls = type(self)
        if kwargs:
            raise unknown_argument(cls.__name__, kwargs, accepted_by(cls))
        if name is not None and (not isinstance(name, str) or not name):
            raise ArgumentError(f"{cls.__name__}: expected a name, got {name!r}.")
        self.name = name or automatic_name(snake_case(cls.__name__))
        self.dtype = dtype_name(cls.__name__, dtype)
        self.constants: dict[str, Any] = {}
        self._trainable = bool(trainable)
        self.activity_regularizer = None
        if activity_regularizer is not None:
            from fluxion.dialects.keras import regularizers

            self.activity_regularizer = regularizers.get(activity_regularizer)
        given = (input_dim,) if input_dim is not None else input_shape
        self.given_input_shape = None if given is None else (None, *given)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "build" in vars(cls):
            cls.build = _marked_as_built(cls.build)  # type: ignore[method-assign]

    # What a layer does

    def build(self, input_shape: Any) -> None:
        """Make the weights for inputs of this shape, whose first size is that of the batch or None."""
        self.built = True

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """The output for the inputs."""
        raise NotImplementedError(f"{type(self).__name__} has no call(inputs) method")

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """The mask of the output; by default that of the input."""
        return previous_mask

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the output for inputs of this shape, found without arithmetic."""
        from fluxion.dialects.keras.symbolic import output_shape

        return output_shape(self, input_shape)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if "name" not in vars(self):
            raise StateError(f"{type(self).__name__} is not initialized. Call super().__init__() first in __init__.")
        if _has_symbolic(args, kwargs):
            from fluxion.dialects.keras.symbolic import symbolic_call

            return symbolic_call(self, args, kwargs)
        spec = call_spec(type(self))
        args, kwargs = spec.converted(self, args, kwargs)
        nested = _pass.get() is not None
        training = kwargs.pop("training", None)
        if training is None and not nested and not within_gradient():
            training = spec.default_training
        if not self.built:
            self._build_for_call(spec.shapes(args, kwargs))
        first = spec.first(args, kwargs)
        previous = jax.tree.map(mask_of, first)
        spec.add_masks(args, kwargs)
        token = None if nested else _pass.set(object())
        _last[self] = _pass.get()
        try:
            with gradient_mode(within_gradient() if training is None else bool(training)):
                if spec.takes_training:
                    kwargs["training"] = within_gradient()
                outputs = self.call(*args, **kwargs)
            if self.activity_regularizer is not None:
                for output in jax.tree.leaves(outputs):
                    self.add_loss(self.activity_regularizer(output) / output.shape[0])
        finally:
            if token is not None:
                _pass.reset(token)
        if any(mask is not None for mask in jax.tree.leaves(previous)) or _makes_mask(type(self)):
            self._pass_mask_on(first, outputs, previous)
        return outputs

    def _pass_mask_on(self, inputs: Any, outputs: Any, previous: Any) -> None:
        if not self.supports_masking and not _makes_mask(type(self)):
            return
        masks = self.compute_mask(inputs, previous)
        leaves = jax.tree.leaves(outputs)
        masks = list(masks) if isinstance(masks, (list, tuple)) else [masks] * len(leaves)
        for output, mask in zip(leaves, masks, strict=False):
            if mask is not None and mask_of(output) is None:
                set_mask(output, mask)

    # Building

    @property
    def unsized(self) -> bool:
        return not self.built and type(self).build is not Layer.build

    def infer(self, shape: Any) -> None:
        if not self.built:
            self._build_with(shape)

    def _build_for_call(self, shapes: CallShapes) -> None:
        if is_sizing():  # a working copy, on shapes: `fx.autosize` builds the layer itself afterwards
            vars(self)[_SEEN] = shapes
            self._build_with(shapes)
        elif self.unsized and within_gradient():
            raise StateError(
                f"{self.name} is not built yet, so that there are no weights to differentiate. "
                "Call the model on data once first, or model.build(input_shape)."
            )
        else:
            with jax.ensure_compile_time_eval():  # weights made during a trace are arrays, too
                self._build_with(shapes)

    def _build_with(self, shapes: Any) -> None:
        """Build for the shapes of the call's arguments by name, or for the shape of the only one."""
        if not isinstance(shapes, CallShapes):
            self.build(shapes)
            return
        self.built_for = next(iter(shapes.values()), None)  # for `summary`
        names = [p for p in inspect.signature(self.build).parameters if p.endswith("_shape")]
        by_name = {f"{name}_shape": shape for name, shape in shapes.items()}
        if len(names) > 1 and names[0] in by_name:
            self.build(**{name: by_name[name] for name in names if name in by_name})
        else:
            self.build(next(iter(shapes.values()), None))

    def add_weight(
        self,
        shape: Any = (),
        initializer: Any = None,
        dtype: Any = None,
        trainable: bool = True,
        regularizer: Any = None,
        name: str | None = None,
    ) -> Variable:
        """A variable of this layer; by default Glorot-uniform where floating, and zeros where not."""
        from fluxion.dialects.keras import initializers, regularizers

        dtype = dtype_name(type(self).__name__, dtype or self.dtype)
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        if initializer is None:
            initializer = "glorot_uniform" if "float" in dtype else "zeros"
        _spend(self.name, shape)
        variable = Variable(initializers.get(initializer), shape, dtype, trainable=trainable, name=name)
        variable.path = f"{self.name}/{variable.name}"
        variable.regularizer = None if regularizer is None else regularizers.get(regularizer)
        return variable

    # Losses of its own

    def add_loss(self, loss: Any) -> None:
        """Add a number, or several, to what training minimizes. To be called within `call`."""
        now = _pass.get()
        known = _added.get(self)
        if known is None or known[0] is not now:
            known = _added[self] = (now, [])
        known[1].extend(jax.tree.leaves(loss))

    @property
    def losses(self) -> list[Any]:
        """What the last call added by `add_loss`, and the regularizers' values for the weights."""
        added = [_added[layer] for layer in self._flatten_layers() if layer in _added]
        values = [value for now, several in added if now is _last.get(self) for value in several]
        for weight in self.trainable_weights:
            if weight.regularizer is not None:
                values.append(weight.regularizer(weight.value))
        return values

    # Weights

    def _own_variables(self) -> list[Any]:
        """The variables that this layer holds itself, trainable ones first."""
        found: dict[Any, None] = {}
        for name, value in vars(self).items():
            found |= dict.fromkeys(_parts(value, Box))
            for inner in _parts(value, fluxion.Layer):
                if not isinstance(inner, Layer):
                    found |= dict.fromkeys(views(inner, name, self.name))
        return sorted(found, key=lambda v: not v.trainable)

    def _inner_layers(self) -> list[Layer]:
        """The layers that this one holds itself, in the order of its attributes."""
        found: dict[Layer, None] = {}
        for value in vars(self).values():
            found |= dict.fromkeys(_parts(value, Layer))
        return list(found)

    def _flatten_layers(self) -> list[Layer]:
        """This layer and all within it, depth first, each once."""
        found: dict[Layer, None] = {}

        def visit(layer: Layer) -> None:
            if layer not in found:
                found[layer] = None
                for inner in layer._inner_layers():
                    visit(inner)

        visit(self)
        return list(found)

    @property
    def variables(self) -> list[Any]:
        """All variables, those of random seeds included."""
        found: dict[Any, None] = {}
        for layer in self._flatten_layers():
            found |= dict.fromkeys(layer._own_variables())
            generators = [getattr(layer, "seed_generator", None), *vars(layer).values()]
            for value in generators:
                found |= dict.fromkeys(generator.state for generator in _parts(value, SeedGenerator))
        return list(found)

    @property
    def weights(self) -> list[Any]:
        """All variables but those of random seeds, in Keras' order."""
        found: dict[Any, None] = {}
        for layer in self._flatten_layers():
            found |= dict.fromkeys(layer._own_variables())
        return list(found)

    @property
    def trainable_weights(self) -> list[Any]:
        """The weights that training changes: none of a layer with `trainable=False`."""
        found: dict[Any, None] = {}
        frozen: set[int] = set()
        for layer in self._flatten_layers():
            if not layer.trainable:
                frozen |= set(map(id, layer._flatten_layers()))
            if id(layer) not in frozen:
                found |= dict.fromkeys(v for v in layer._own_variables() if v.trainable)
        return list(found)

    @property
    def non_trainable_weights(self) -> list[Any]:
        """The other weights."""
        trainable = set(self.trainable_weights)
        return [v for v in self.weights if v not in trainable]

    @property
    def trainable_variables(self) -> list[Any]:
        """As `trainable_weights`."""
        return self.trainable_weights

    @property
    def non_trainable_variables(self) -> list[Any]:
        """All variables but the trainable ones."""
        trainable = set(self.trainable_weights)
        return [v for v in self.variables if v not in trainable]

    @property
    def trainable(self) -> bool:
        """Whether training changes the weights; a change takes effect at the next `compile`."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        for layer in self._flatten_layers():
            layer._trainable = bool(value)

    def get_weights(self) -> list[np.ndarray]:
        """The weights as numpy arrays."""
        return [weight.numpy() for weight in self.weights]

    def set_weights(self, weights: Any) -> None:
        """Replace all weights by arrays in the order of `get_weights`, all or none."""
        own = self.weights
        arrays = [np.asarray(plain(array)) for array in weights]
        if len(arrays) != len(own):
            raise StateError(f"{self.name}.set_weights: expected {len(own)} arrays, got {len(arrays)}.")
        for weight, array in zip(own, arrays, strict=True):
            if weight.shape != array.shape:
                raise ShapeError(f"{self.name}.set_weights: {weight.path}: expected {weight.shape}, got {array.shape}.")
        for weight, array in zip(own, arrays, strict=True):
            weight.assign(array)

    def count_params(self) -> int:
        """The number of numbers in the weights."""
        if self.unsized:
            raise StateError(f"{self.name} is not built yet. Call it on data, or build(input_shape).")
        return sum(weight.size for weight in self.weights)

    def stateless_call(
        self, trainable_variables: Any, non_trainable_variables: Any, *args: Any, **kwargs: Any
    ) -> tuple[Any, ...]:
        """A call without side effects: `(outputs, non_trainable_variables)`, of which the layer itself keeps nothing.

        With `return_losses=True` also the losses. This is what `jax.grad` and `jax.jit` are used on.
        """
        from fluxion.dialects.keras.models import stateless_call

        return stateless_call(self, trainable_variables, non_trainable_variables, *args, **kwargs)

    # As plain data

    def get_config(self) -> dict[str, Any]:
        """The arguments that make such a layer again, as plain data.

        Every argument of the constructor is looked up as an attribute of the same name.
        """
        from fluxion.dialects.keras.saving import serialize

        config: dict[str, Any] = {"name": self.name, "trainable": self.trainable, "dtype": self.dtype}
        common = set(accepted_by(Layer))
        for name in accepted_by(type(self)):
            if name in common:
                continue
            if not hasattr(self, name):
                raise StateError(
                    f"{type(self).__name__}: there is no attribute {name!r} for the argument {name!r}. Keep it as "
                    "self." + name + ", or write a get_config() of your own."
                )
            config[name] = serialize(getattr(self, name))
        if self.activity_regularizer is not None:
            config["activity_regularizer"] = serialize(self.activity_regularizer)
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """A new layer of such arguments."""
        from fluxion.dialects.keras.saving import deserialize

        return cls(**{name: deserialize(value) for name, value in config.items()})

    # Attributes

    def __setattr__(self, name: str, value: Any) -> None:
        if _is_constant(value):
            self.__dict__.pop(name, None)
            self.constants[name] = value
        else:
            if name in vars(self).get("constants", ()):
                del self.constants[name]
            super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        constants = vars(self).get("constants", {})
        if name in constants:
            return constants[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __delattr__(self, name: str) -> None:
        if name in vars(self).get("constants", ()):
            del self.constants[name]
        else:
            super().__delattr__(name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={vars(self).get('name')}, built={self.built}>"

    __str__ = __repr__

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))


# ------------------------------------------------------------------------------------------------ one pass

_pass: ContextVar[Any] = ContextVar("fluxion_keras_pass", default=None)  # a mark of the outermost call
_own_seeds: ContextVar[bool] = ContextVar("fluxion_keras_own_seeds", default=False)  # inside `stateless_call`
_added: weakref.WeakKeyDictionary[Layer, tuple[Any, list[Any]]] = weakref.WeakKeyDictionary()  # by `add_loss`
_last: weakref.WeakKeyDictionary[Layer, Any] = weakref.WeakKeyDictionary()  # the pass in which each was called
_masks: dict[int, tuple[Any, Any]] = {}  # by the id of an array: a weak reference to it, and its mask


_budget: ContextVar[list[float] | None] = ContextVar("fluxion_keras_weight_budget", default=None)


@contextlib.contextmanager
def weight_budget(size: float) -> Iterator[None]:
    """Inside, layers may make `size` numbers of weights in all: no more than the file has that they are read from."""
    token = _budget.set([size])
    try:
        yield
    finally:
        _budget.reset(token)


def _spend(name: str, shape: Sequence[int]) -> None:
    budget = _budget.get()
    if budget is not None:
        budget[0] -= math.prod(shape)
        if budget[0] < 0:
            raise FileFormatError(f"layer {name}: expected a weight that the file has, got one of shape {tuple(shape)}")


@contextlib.contextmanager
def own_seeds() -> Iterator[None]:
    """Inside, random layers draw from their own seed generators, whose state is part of `variables`."""
    token = _own_seeds.set(True)
    try:
        yield
    finally:
        _own_seeds.reset(token)


def has_own_seeds() -> bool:
    """Whether the call happens inside `own_seeds`."""
    return _own_seeds.get()


def set_mask(array: Any, mask: Any) -> None:
    """Let a mask go along with an array, to the layers that are called on it."""
    key = id(array)
    _masks[key] = weakref.ref(array, lambda _: _masks.pop(key, None)), mask


def mask_of(array: Any) -> Any:
    """The mask that goes along with an array, or None."""
    known = _masks.get(id(array))
    return known[1] if known is not None and known[0]() is array else None


def _makes_mask(cls: type) -> bool:
    return cls.compute_mask is not Layer.compute_mask  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------------ what call takes


class CallShapes(dict[str, Any]):
    """The shapes of the arguments of a call, by their names."""


class CallSpec:
    """What the `call` method of a class takes."""

    def __init__(self, cls: Any) -> None:
        parameters = list(inspect.signature(cls.call).parameters.values())[1:]
        self.names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        self.all = {p.name: p for p in parameters}
        self.takes_training = "training" in self.all
        default = self.all["training"].default if self.takes_training else None
        self.default_training = None if default is inspect.Parameter.empty else default

    def converted(self, layer: Layer, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The arguments, with `training` by its name and arrays as JAX has them, in the layer's dtype if floating."""
        kwargs = dict(kwargs)
        if "training" in self.names and len(args) > self.names.index("training"):
            at = self.names.index("training")
            kwargs["training"] = args[at]
            args = (*args[:at],)
        convert = functools.partial(_converted, dtype=layer.dtype)
        args = tuple(jax.tree.map(convert, arg, is_leaf=_is_tensor_like) for arg in args)
        for name, value in kwargs.items():
            if name != "training":
                kwargs[name] = jax.tree.map(convert, value, is_leaf=_is_tensor_like)
        return args, kwargs

    def first(self, args: Any, kwargs: dict[str, Any]) -> Any:
        """The first argument."""
        return args[0] if args else kwargs.get(self.names[0]) if self.names else None

    def shapes(self, args: Any, kwargs: dict[str, Any]) -> CallShapes:
        named = dict(zip(self.names, args, strict=False)) | kwargs
        shapes = {name: _shape_of(value) for name, value in named.items() if name not in ("training", "mask")}
        return CallShapes({name: shape for name, shape in shapes.items() if shape is not None})

    def add_masks(self, args: Any, kwargs: dict[str, Any]) -> None:
        """Fill in `mask`, and `x_mask` for each argument `x`, from the arrays' own masks."""
        named = dict(zip(self.names, args, strict=False))
        for i, (name, value) in enumerate((named | kwargs).items()):
            target = f"{name}_mask" if f"{name}_mask" in self.all else "mask" if i == 0 and "mask" in self.all else None
            if target is None or target in named or kwargs.get(target) is not None:
                continue
            mask = jax.tree.map(mask_of, value)
            if any(m is not None for m in jax.tree.leaves(mask)):
                kwargs[target] = mask


_specs: dict[Any, CallSpec] = {}


def call_spec(cls: Any) -> CallSpec:
    """What `call` of a class of layers takes."""
    if cls not in _specs:
        _specs[cls] = CallSpec(cls)
    return _specs[cls]


def _is_tensor_like(value: Any) -> bool:
    return isinstance(value, (Box, np.ndarray)) or hasattr(value, "__jax_array__")


def _converted(value: Any, dtype: str) -> Any:
    value = plain(value)
    if isinstance(value, np.ndarray) and value.dtype.kind not in "biufcV":
        raise DTypeError(f"expected an array of numbers, got dtype {value.dtype}. Convert it first.")
    if not is_array(value):
        return value
    return jnp.asarray(value, dtype) if is_floating(value) and "float" in dtype else jnp.asarray(value)


def _shape_of(value: Any) -> Any:
    """The shape of an array or symbolic tensor, the shapes of a list or dict of them; None where there are none."""
    if hasattr(value, "shape"):
        return tuple(value.shape)
    if isinstance(value, (list, tuple)):
        shapes = [_shape_of(item) for item in value]
        return shapes if shapes and None not in shapes else None
    if isinstance(value, dict):
        return {key: _shape_of(item) for key, item in value.items()}
    return None


def _has_symbolic(args: Any, kwargs: Any) -> bool:
    return any(hasattr(leaf, "__keras_tensor__") for leaf in jax.tree.leaves((args, kwargs)))


def _marked_as_built(build: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(build)
    def marked(self: Layer, *args: Any, **kwargs: Any) -> None:
        build(self, *args, **kwargs)
        self.built = True

    return marked


# --------------------------------------------------------------------------------------------- attributes


def _parts(value: Any, cls: Any) -> Iterator[Any]:
    """The objects of a class in an attribute's value: the value, or items of lists, tuples and dicts in it."""
    if isinstance(value, cls):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _parts(item, cls)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _parts(item, cls)


def _is_constant(value: Any) -> bool:
    """Whether a value is an array, or a list or dict that holds arrays and no layer or variable."""
    if is_array(value):
        return is_floating(value)
    if not isinstance(value, (list, tuple, dict)):
        return False
    leaves = jax.tree.leaves(value, is_leaf=lambda part: isinstance(part, (Box, fluxion.Layer, fluxion.Param)))
    if any(isinstance(leaf, (Box, fluxion.Layer, fluxion.Param)) for leaf in leaves):
        return False
    return any(is_array(leaf) and is_floating(leaf) for leaf in leaves)


def dtype_name(owner: str, dtype: Any) -> str:
    """The name of a dtype, which may also be given as an object or as Keras' files write it."""
    if dtype is None:
        return "float32"
    if isinstance(dtype, dict) and dtype.get("class_name") == "DTypePolicy":
        dtype = dtype.get("config", {}).get("name")
    try:
        name = dtype if isinstance(dtype, str) else np.dtype(dtype).name
        jnp.dtype(name)
    except TypeError:
        raise ArgumentError(f'{owner}: expected a dtype such as "float32" or "bfloat16", got {dtype!r}.') from None
    return name
