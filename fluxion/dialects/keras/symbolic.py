"""Symbolic tensors, of which functional models are made: shapes and dtypes, and the calls they came from.

A layer or an operation called on a `KerasTensor` computes nothing: its output's shape is found by `jax.eval_shape`, and
the call is noted as a `Node`. A size that is not known (None) is tried with two numbers: what differs between the two
results is not known either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import jax
import jax.numpy as jnp

from fluxion.dialects.keras.layer import CallShapes, Layer, call_spec, mask_of, set_mask
from fluxion.dialects.keras.names import automatic_name, known_arguments
from fluxion.dialects.keras.variables import Box
from fluxion.errors import ArgumentError, DTypeError, StateError
from fluxion.transform.sizes import abstract_call, is_sizing, size_layers


class KerasTensor:
    """What a layer returns for a symbolic input: a shape, in which unknown sizes are None, and a dtype.

    >>> from fluxion.dialects import keras
    >>> x = keras.Input((28, 28, 1), name="image")
    >>> x, (x[:, 0] + 1).shape
    (<KerasTensor shape=(None, 28, 28, 1), dtype=float32, name=image>, (None, 28, 1))
    """

    __keras_tensor__ = True
    __array_priority__ = 1000

    def __fluxion_key__(self) -> Any:
        """Nothing: what computes is the `Plan`."""
        return ()

    def __init__(
        self, shape: Sequence[int | None], dtype: str, node: Node, index: int, name: str, mask: Spec | None = None
    ) -> None:
        self.shape = tuple(shape)
        self.dtype = dtype
        self.mask = mask
        self.node = node
        self.index = index  # among the node's outputs
        self.name = name

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def spec(self) -> Spec:
        """Shape, dtype and mask."""
        return Spec(self.shape, self.dtype, self.mask)

    def __getitem__(self, key: Any) -> Any:
        return _operation("get_item")(self, key)

    def __jax_array__(self) -> NoReturn:
        raise DTypeError(
            "a KerasTensor has no values: it stands for the input of a model that is being built. "
            "Use functions of keras.ops on it, or put the computation into a layer's call."
        )

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        self.__jax_array__()

    def __iter__(self) -> NoReturn:
        raise DTypeError("a KerasTensor cannot be iterated over. Use keras.ops.unstack or slices.")

    def __bool__(self) -> NoReturn:
        raise DTypeError("a KerasTensor has no truth value: its numbers are known when the model is called.")

    def __repr__(self) -> str:
        return f"<KerasTensor shape={self.shape}, dtype={self.dtype}, name={self.name}>"


def _operation(name: str) -> Callable[..., Any]:
    from fluxion.dialects.keras import ops

    return getattr(ops, name)


def _binary(name: str, swapped: bool) -> Callable[..., Any]:
    def operator(self: KerasTensor, other: Any) -> Any:
        return _operation(name)(other, self) if swapped else _operation(name)(self, other)

    return operator


_TWO_SIDED = [("add", "add"), ("sub", "subtract"), ("mul", "multiply"), ("truediv", "true_divide")]
_TWO_SIDED += [("floordiv", "floor_divide"), ("mod", "mod"), ("pow", "power"), ("matmul", "matmul")]
for _short, _name in _TWO_SIDED:
    setattr(KerasTensor, f"__{_short}__", _binary(_name, False))
    setattr(KerasTensor, f"__r{_short}__", _binary(_name, True))
for _short, _name in [("lt", "less"), ("le", "less_equal"), ("gt", "greater"), ("ge", "greater_equal")]:
    setattr(KerasTensor, f"__{_short}__", _binary(_name, False))
for _short, _name in [("neg", "negative"), ("abs", "absolute")]:
    setattr(KerasTensor, f"__{_short}__", (lambda name: lambda self: _operation(name)(self))(_name))
del _short, _name


class Node:
    """One call of a layer or operation on symbolic tensors."""

    def __fluxion_key__(self) -> Any:
        """Nothing: what computes is the `Plan`."""
        return ()

    def __init__(self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.operation = operation
        self.args = args
        self.kwargs = kwargs
        self.inputs = [leaf for leaf in jax.tree.leaves((args, kwargs)) if is_symbolic(leaf)]
        self.outputs: list[KerasTensor] = []


class Operation:
    """A function of `keras.ops` in a functional model; named like a layer, and without weights."""

    def __fluxion_key__(self) -> Any:
        return self.function

    def __init__(self, function_name: str, function: Any, class_name: str, name: str | None = None) -> None:
        self.function_name = function_name
        self.function = function
        self.class_name = class_name
        self.name = name or automatic_name(function_name)
        self.inbound_nodes: list[Node] = []


def is_symbolic(value: Any) -> bool:
    """Whether a value is a `KerasTensor`."""
    return isinstance(value, KerasTensor)


def symbolic_call(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Note a call of a layer or an `Operation` on symbolic tensors; returns symbolic tensors."""
    if isinstance(operation, Layer) and not operation.built:
        operation._build_for_call(call_spec(type(operation)).shapes(args, kwargs))
    leaves, structure = jax.tree.flatten(output_specs(operation, args, kwargs))
    node = Node(operation, args, kwargs)
    vars(operation).setdefault("inbound_nodes", []).append(node)
    node.outputs = [
        KerasTensor(spec.shape, spec.dtype, node, i, automatic_name("keras_tensor"), spec.mask)
        for i, spec in enumerate(leaves)
    ]
    return jax.tree.unflatten(structure, node.outputs)


class Spec:
    """A shape, with None for what is not known, a dtype, and the same of the mask that goes along."""

    def __init__(self, shape: tuple[int | None, ...], dtype: str, mask: Spec | None) -> None:
        self.shape = shape
        self.dtype = dtype
        self.mask = mask

    def filled(self, fill: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct([fill if size is None else size for size in self.shape], jnp.dtype(self.dtype))


_FILLS = (320, 448)  # multiples of 64, so that halving a few times leaves no remainder


def output_specs(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`Spec`s in the structure of what a layer or operation returns for symbolic arguments."""
    leaves, structure = jax.tree.flatten((args, kwargs), is_leaf=lambda leaf: isinstance(leaf, Box))
    places = [i for i, leaf in enumerate(leaves) if is_symbolic(leaf)]
    masks = [i for i in places if leaves[i].mask is not None]

    def run(fill: int) -> Any:
        xs = [leaves[i].spec.filled(fill) for i in places] + [leaves[i].mask.filled(fill) for i in masks]

        def call(function: Any, *arrays: Any) -> Any:
            filled = list(leaves)
            for i, array in zip(places, arrays, strict=False):
                filled[i] = array
            for i, mask in zip(masks, arrays[len(places) :], strict=True):
                set_mask(filled[i], mask)
            positional, named = jax.tree.unflatten(structure, filled)
            out = function(*positional, **named)
            return out, [mask_of(leaf) for leaf in jax.tree.leaves(out)]

        if isinstance(operation, Operation):
            return jax.eval_shape(lambda *arrays: call(operation.function, *arrays), *xs)
        size_layers(operation, tuple(xs), call)
        return abstract_call(operation, tuple(xs), lambda working, *arrays: call(working.roots[0], *arrays))

    first, first_masks = run(_FILLS[0])
    known = all(None not in leaves[i].shape for i in places)
    second, second_masks = (first, first_masks) if known else run(_FILLS[1])

    def spec(a: Any, b: Any, mask: Spec | None = None) -> Spec:
        if len(a.shape) != len(b.shape):
            raise StateError(f"{operation.name}: the rank of the output depends on a size that is not known.")
        shape = tuple(n if n == m else None for n, m in zip(a.shape, b.shape, strict=True))
        return Spec(shape, str(a.dtype), mask)

    pairs = zip(first_masks, second_masks, strict=True)
    mask_specs = iter([None if a is None else spec(a, b) for a, b in pairs])
    return jax.tree.map(lambda a, b: spec(a, b, next(mask_specs)), first, second)


def output_shape(layer: Layer, input_shape: Any) -> Any:
    """The shape, or shapes, of a layer's output for an input of this shape, or inputs of these."""
    tensors = symbolic_inputs(input_shape, layer.dtype)
    if layer.unsized and not is_sizing():
        layer._build_with(CallShapes({call_spec(type(layer)).names[0]: input_shape}))
    specs = output_specs(layer, (tensors,), {})
    return jax.tree.map(lambda spec: spec.shape, specs)


def symbolic_inputs(shape: Any, dtype: str = "float32") -> Any:
    """Symbolic tensors of a shape with its batch size, or of a list or dict of such shapes."""
    if isinstance(shape, dict):
        return {name: symbolic_inputs(inner, dtype) for name, inner in shape.items()}
    if is_shape(shape):
        return Input(batch_shape=tuple(shape), dtype=dtype)
    return [symbolic_inputs(inner, dtype) for inner in shape]


def is_shape(value: Any) -> bool:
    """Whether a value is one shape, not a list of them."""
    return isinstance(value, (list, tuple)) and all(size is None or isinstance(size, int) for size in value)


# -------------------------------------------------------------------------------------------------- inputs


class InputLayer(Layer):
    """Where a functional model begins; made by `Input`."""

    def __init__(
        self,
        shape: Any = None,
        batch_size: int | None = None,
        dtype: Any = None,
        batch_shape: Any = None,
        name: str | None = None,
        sparse: bool = False,
        ragged: bool = False,
        optional: bool = False,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        if sparse or ragged or optional:
            option = "sparse" if sparse else "ragged" if ragged else "optional"
            raise ArgumentError(f"Input: {option} inputs are not supported. Leave {option} out.")
        if (shape is None) == (batch_shape is None):
            raise ArgumentError("Input: expected shape=(...), without the batch, or batch_shape=(...).")
        if shape is not None:
            shape = (shape,) if isinstance(shape, int) else shape
            batch_shape = (batch_size, *shape)
        if not is_shape(batch_shape):
            raise ArgumentError(
                f"Input: expected a shape such as (28, 28, 1) or (None,), got {shape or batch_shape!r}."
            )
        self.batch_shape = tuple(batch_shape)
        self.built = True
        node = Node(self, (), {})
        self.inbound_nodes = [node]
        node.outputs = [KerasTensor(self.batch_shape, self.dtype, node, 0, self.name)]

    def call(self, inputs: Any) -> Any:
        return inputs

    def get_config(self) -> dict[str, Any]:
        return {
            "batch_shape": list(self.batch_shape),
            "dtype": self.dtype,
            "sparse": False,
            "ragged": False,
            "name": self.name,
            "optional": False,
        }


@known_arguments
def Input(
    shape: Any = None,
    batch_size: int | None = None,
    dtype: Any = None,
    batch_shape: Any = None,
    name: str | None = None,
) -> KerasTensor:
    """A symbolic input for a functional model, or the first entry of a `Sequential`.

    Arguments:
      shape: of one example, without the batch; None for a size that may vary.
      batch_size: the size of a batch, if it never varies.
      dtype: "float32" by default.
      batch_shape: in the place of `shape` and `batch_size`.
      name: by default `input_layer`, `input_layer_1` ...

    >>> from fluxion.dialects import keras
    >>> keras.Input((None, 8), dtype="int32").shape
    (None, None, 8)
    """
    layer = InputLayer(shape, batch_size, dtype, batch_shape, name)
    return layer.inbound_nodes[0].outputs[0]


# --------------------------------------------------------------------------------------------------- graph


class Graph:
    """The calls between a model's inputs and outputs, in the order of Keras' `model.layers`.

    `operations` are layers and `Operation`s, each once; `plan` runs them.
    """

    def __fluxion_key__(self) -> Any:
        """Nothing: what computes is the `Plan`."""
        return ()

    def __init__(self, inputs: Any, outputs: Any) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self.input_tensors = flat_tensors(inputs)
        self.output_tensors = flat_tensors(outputs)
        for role, tensors in (("inputs", self.input_tensors), ("outputs", self.output_tensors)):
            if not tensors or not all(map(is_symbolic, tensors)):
                raise ArgumentError(f"Model: expected symbolic {role} made by keras.Input and calls on it.")
        self._sort()

    def _sort(self) -> None:
        starts = {id(tensor) for tensor in self.input_tensors}
        finished: dict[Node, None] = {}
        order: dict[Any, int] = {}  # operations, in the order in which they are met from the outputs
        for tensor in self.output_tensors:
            self._visit(tensor, starts, finished, order)
        depth: dict[Node, int] = {}
        of_operation: dict[Any, int] = {}
        for node in reversed(finished):
            d = max(depth.get(node, 0), of_operation.get(node.operation, 0))
            depth[node] = of_operation[node.operation] = d
            for tensor in node.inputs:
                if id(tensor) not in starts or tensor.node in finished:
                    depth[tensor.node] = max(d + 1, depth.get(tensor.node, 0))
        for tensor in self.input_tensors:  # inputs that nothing uses
            if isinstance(tensor.node.operation, InputLayer) and tensor.node not in finished:
                of_operation.setdefault(tensor.node.operation, 0)
                order[tensor.node.operation] = -1
                depth[tensor.node] = 0
        self.operations = sorted(of_operation, key=lambda op: (-of_operation[op], order[op]))
        self.nodes = sorted((node for node in depth if node in finished or not node.inputs), key=lambda n: -depth[n])

    def _visit(self, start: KerasTensor, starts: set[int], finished: dict[Node, None], order: dict[Any, int]) -> None:
        """Depth first from an output, what a node depends on before the node itself."""
        todo: list[tuple[KerasTensor, bool]] = [(start, False)]
        while todo:
            tensor, done = todo.pop()
            node = tensor.node
            if done:
                finished[node] = None
                continue
            if node in finished:
                continue
            given = id(tensor) in starts
            if given and not isinstance(node.operation, InputLayer):
                continue  # an intermediate tensor as input of a model
            if not given and isinstance(node.operation, InputLayer):
                raise StateError(
                    f"Model: the outputs depend on {node.operation.name!r}, none of the inputs. Add it to them."
                )
            order.setdefault(node.operation, len(order))
            todo.append((tensor, True))
            todo += [(t, False) for t in reversed(node.inputs) if t.node not in finished]


def flat_tensors(tensors: Any) -> list[Any]:
    """The tensors of a structure in Keras' order: dicts by their sorted keys."""
    return jax.tree.leaves(tensors)


class Plan:
    """How a functional model computes: steps over numbered values."""

    def __fluxion_key__(self) -> Any:
        return self.steps, self.results, self.structure

    def __init__(self, graph: Graph) -> None:
        index = {op: i for i, op in enumerate(graph.operations)}
        slots: dict[int, int] = {}
        self.operands: list[Box] = []  # variables among the arguments
        for tensor in graph.input_tensors:
            slots[id(tensor)] = len(slots)
        self.steps: list[tuple[int, Any, list[tuple[str, Any]], list[int]]] = []
        for node in graph.nodes:
            if isinstance(node.operation, InputLayer):
                continue
            leaves, structure = jax.tree.flatten((node.args, node.kwargs), is_leaf=lambda leaf: isinstance(leaf, Box))
            sources = [self._source(leaf, slots) for leaf in leaves]
            for tensor in node.outputs:
                slots.setdefault(id(tensor), len(slots))
            self.steps.append((index[node.operation], structure, sources, [slots[id(t)] for t in node.outputs]))
        self.results = [slots[id(tensor)] for tensor in graph.output_tensors]
        self.structure = jax.tree.structure(graph.outputs)

    def _source(self, leaf: Any, slots: dict[int, int]) -> tuple[str, Any]:
        if is_symbolic(leaf):
            return "value", slots[id(leaf)]
        if isinstance(leaf, Box):
            self.operands.append(leaf)
            return "operand", len(self.operands) - 1
        return "constant", leaf

    def run(self, operations: Sequence[Any], operands: Sequence[Box], inputs: Sequence[Any]) -> Any:
        """The outputs, in their structure, for flat inputs."""
        values = dict(enumerate(inputs))
        for index, structure, sources, targets in self.steps:
            leaves = [values[x] if kind == "value" else operands[x] if kind == "operand" else x for kind, x in sources]
            args, kwargs = jax.tree.unflatten(structure, leaves)
            operation = operations[index]
            out = (operation.function if isinstance(operation, Operation) else operation)(*args, **kwargs)
            values.update(zip(targets, jax.tree.leaves(out), strict=True))
        return jax.tree.unflatten(self.structure, [values[slot] for slot in self.results])
