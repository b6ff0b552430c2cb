"""Recurrent layers over sequences `(batch, time, features)`: `RNN` with any cell, `SimpleRNN`, `LSTM`, `GRU`.

`Bidirectional` and `TimeDistributed`, which wrap a layer, are here too.
"""

from __future__ import annotations

import math
from typing import Any, Unpack

import jax
import jax.numpy as jnp

from fluxion.dialects.keras.layer import Layer, call_spec
from fluxion.dialects.keras.layers.base import BuiltIn, CommonOptions, LayerOptions, floats, one_of, unsupported
from fluxion.dialects.keras.layers.cells import (
    Cell,
    GRUCell,
    LSTMCell,
    SimpleRNNCell,
    StackedRNNCells,
    call_cell,
    initial_state,
)
from fluxion.errors import ArgumentError, ShapeError
from fluxion.ops.recurrent import unroll


class RNN(BuiltIn):
    """A cell, or a list of cells, over the steps of a sequence.

    The output is that of the last step, `(batch, units)`, or with `return_sequences` those of all,
    `(batch, time, units)`. With `return_state` a call returns `(output, *states)`. The call takes `initial_state`, a
    list, and `mask`, `(batch, time)`: at a step that does not count the states stay and the output is the last one, or
    0 with `zero_output_for_mask`. With `go_backwards` the last step comes first.

    A cell is a layer with `state_size` and `call(inputs, states)`, which returns the output and the next states.

    >>> from fluxion.dialects import keras
    >>> layer = keras.layers.RNN([keras.layers.LSTMCell(4), keras.layers.GRUCell(5)], return_sequences=True)
    >>> layer(keras.ops.ones((8, 10, 3))).shape
    (8, 10, 5)
    """

    cell: Any

    def __init__(
        self,
        cell: Any,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        cell = StackedRNNCells(cell) if isinstance(cell, list | tuple) else cell
        if not callable(cell) or not hasattr(cell, "state_size"):
            raise ArgumentError(f"RNN: expected a cell with a state_size, such as LSTMCell(4), got {cell!r}.")
        self.keep(cell=cell)
        self._over_time(return_sequences, return_state, go_backwards, stateful, unroll, zero_output_for_mask)

    def _over_time(
        self,
        return_sequences: bool,
        return_state: bool,
        go_backwards: bool,
        stateful: bool,
        unroll: bool,
        zero_output_for_mask: bool = False,
    ) -> None:
        unsupported(type(self).__name__, stateful=stateful, unroll=unroll)
        self.supports_masking = True
        self.keep(
            return_sequences=bool(return_sequences),
            return_state=bool(return_state),
            go_backwards=bool(go_backwards),
            stateful=False,
            unroll=False,
            zero_output_for_mask=bool(zero_output_for_mask),
        )

    def build(self, sequences_shape: Any, initial_state_shape: Any = None) -> None:
        if len(sequences_shape) < 3:
            raise ShapeError(f"{type(self).__name__}: expected input (batch, time, features), got {sequences_shape}.")
        if isinstance(self.cell, Layer) and not self.cell.built:
            self.cell.build((sequences_shape[0], *sequences_shape[2:]))

    def get_initial_state(self, batch_size: int) -> list[Any]:
        """The cell's own, or zeros."""
        return initial_state(self.cell, batch_size, self.dtype)

    def call(self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool = False) -> Any:
        x = floats(sequences)
        if x.ndim < 3:
            raise ShapeError(f"expected input (batch, time, features), got {x.shape}.")
        states = self.get_initial_state(x.shape[0]) if initial_state is None else initial_state
        states = list(states) if isinstance(states, list | tuple) else [states]
        keep = None if mask is None else jnp.asarray(mask).astype(bool)
        if isinstance(self.cell, Cell):
            out, last = self.cell.sequence(x, states, keep, reverse=self.go_backwards, training=training)
        else:
            out, last = self._any_cell(x, states, keep, training)
        if self.go_backwards:
            out, keep = jnp.flip(out, 1), None if keep is None else jnp.flip(keep, 1)
        if keep is not None and not self.zero_output_for_mask:
            out = held(out, keep)
        out = out if self.return_sequences else out[:, -1]
        return (out, *last) if self.return_state else out

    def _any_cell(self, x: Any, states: list[Any], keep: Any, training: bool) -> tuple[Any, list[Any]]:
        def step(x: Any, states: Any) -> tuple[Any, Any]:
            return call_cell(self.cell, x, states, training)

        kept = None if keep is None else keep.T
        out, last = unroll(step, jnp.moveaxis(x, 1, 0), states, kept, reverse=self.go_backwards)
        return jnp.moveaxis(out, 0, 1), last

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """That of the input, for an output with all steps."""
        own = jax.tree.leaves(mask)[0] if self.return_sequences and jax.tree.leaves(mask) else None
        return [own] + [None] * len(jax.tree.leaves(self.cell.state_size)) if self.return_state else own


def held(out: Any, keep: Any) -> Any:
    """Outputs `(batch, time, ...)` with the last one that counted at the steps that do not; 0 before the first."""
    steps = jnp.where(keep, jnp.arange(keep.shape[1])[None], -1)
    steps = jax.lax.cummax(steps, axis=1)
    wide = (..., *(None,) * (out.ndim - 2))
    return jnp.where(steps[wide] < 0, 0, jnp.take_along_axis(out, jnp.maximum(steps, 0)[wide], axis=1))


class _GatedLayer(RNN):
    """A layer that makes its cell of its own arguments, and shows them as its own."""

    def __getattr__(self, name: str) -> Any:
        cell = vars(self).get("cell")
        if cell is not None and name in (*cell._kept, "kernel", "recurrent_kernel", "bias"):
            return getattr(cell, name)
        return super().__getattr__(name)

    def _with_cell(self, cell: Cell) -> None:
        self.cell = cell
        self._kept = (*self._kept, *cell._kept)


class SimpleRNN(_GatedLayer):
    """`h = activation(x @ kernel + h @ recurrent_kernel + bias)` over the steps of a sequence; called as `RNN`.

    >>> from fluxion.dialects import keras
    >>> keras.layers.SimpleRNN(4)(keras.ops.ones((8, 10, 3))).shape
    (8, 4)
    """

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        seed: int | None = None,
        zero_output_for_mask: bool = False,
        **options: Unpack[CommonOptions],
    ) -> None:
        BuiltIn.__init__(self, **options)
        self._over_time(return_sequences, return_state, go_backwards, stateful, unroll, zero_output_for_mask)
        self.keep(activity_regularizer=activity_regularizer)
        self._with_cell(
            SimpleRNNCell(
                units,
                activation,
                use_bias,
                kernel_initializer,
                recurrent_initializer,
                bias_initializer,
                kernel_regularizer,
                recurrent_regularizer,
                bias_regularizer,
                kernel_constraint,
                recurrent_constraint,
                bias_constraint,
                dropout,
                recurrent_dropout,
                seed,
                name="simple_rnn_cell",
                dtype=self.dtype,
            )
        )


class LSTM(_GatedLayer):
    """Long short-term memory over the steps of a sequence, as in `LSTMCell`; called as `RNN`.

    >>> from fluxion.dialects import keras
    >>> out, h, c = keras.layers.LSTM(4, return_sequences=True, return_state=True)(keras.ops.ones((8, 10, 3)))
    >>> out.shape, h.shape, c.shape
    ((8, 10, 4), (8, 4), (8, 4))
    """

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        use_cudnn: Any = "auto",
        zero_output_for_mask: bool = False,
        **options: Unpack[CommonOptions],
    ) -> None:
        BuiltIn.__init__(self, **options)
        one_of("LSTM", "use_cudnn", use_cudnn, ("auto", False))
        self._over_time(return_sequences, return_state, go_backwards, stateful, unroll, zero_output_for_mask)
        self.keep(activity_regularizer=activity_regularizer)
        self._with_cell(
            LSTMCell(
                units,
                activation,
                recurrent_activation,
                use_bias,
                kernel_initializer,
                recurrent_initializer,
                bias_initializer,
                unit_forget_bias,
                kernel_regularizer,
                recurrent_regularizer,
                bias_regularizer,
                kernel_constraint,
                recurrent_constraint,
                bias_constraint,
                dropout,
                recurrent_dropout,
                seed,
                name="lstm_cell",
                dtype=self.dtype,
            )
        )


class GRU(_GatedLayer):
    """A gated recurrent unit over the steps of a sequence, as in `GRUCell`; called as `RNN`.

    >>> from fluxion.dialects import keras
    >>> layer = keras.layers.GRU(4)
    >>> layer(keras.ops.ones((8, 10, 3))).shape, layer.weights[2].shape
    ((8, 4), (2, 12))
    """

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        reset_after: bool = True,
        use_cudnn: Any = "auto",
        zero_output_for_mask: bool = False,
        **options: Unpack[CommonOptions],
    ) -> None:
        BuiltIn.__init__(self, **options)
        one_of("GRU", "use_cudnn", use_cudnn, ("auto", False))
        self._over_time(return_sequences, return_state, go_backwards, stateful, unroll, zero_output_for_mask)
        self.keep(activity_regularizer=activity_regularizer)
        self._with_cell(
            GRUCell(
                units,
                activation,
                recurrent_activation,
                use_bias,
                kernel_initializer,
                recurrent_initializer,
                bias_initializer,
                kernel_regularizer,
                recurrent_regularizer,
                bias_regularizer,
                kernel_constraint,
                recurrent_constraint,
                bias_constraint,
                dropout,
                recurrent_dropout,
                reset_after,
                seed,
                name="gru_cell",
                dtype=self.dtype,
            )
        )


# Wrappers

MERGES = ("concat", "sum", "ave", "mul", None)


class Bidirectional(BuiltIn):
    """A recurrent layer in both directions; `layer` is copied, with `go_backwards` for the second.

    `merge_mode` says how the two outputs become one: "concat", "sum", "ave", "mul", or None for both.

    >>> from fluxion.dialects import keras
    >>> keras.layers.Bidirectional(keras.layers.LSTM(4))(keras.ops.ones((8, 10, 3))).shape
    (8, 8)
    """

    def __init__(
        self,
        layer: Any,
        merge_mode: str | None = "concat",
        weights: Any = None,
        backward_layer: Any = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        if not isinstance(layer, RNN) or not isinstance(backward_layer, RNN | None):
            raise ArgumentError("Bidirectional: expected a recurrent layer, such as LSTM(4).")
        unsupported("Bidirectional", weights=weights)
        self.supports_masking = True
        self.keep(merge_mode=one_of("Bidirectional", "merge_mode", merge_mode, MERGES))
        name = layer.name
        self.forward_layer = copied(layer, name=f"forward_{name.removeprefix('forward_')}")
        if backward_layer is None:
            backward_layer = copied(layer, name=f"backward_{name.removeprefix('backward_')}", go_backwards=True)
        self.backward_layer = backward_layer
        one, two = self.forward_layer, self.backward_layer
        if one.go_backwards == two.go_backwards:
            raise ArgumentError("Bidirectional: expected layers of different go_backwards, got two of the same.")
        for option in ("return_sequences", "return_state"):
            if getattr(one, option) != getattr(two, option):
                raise ArgumentError(f"Bidirectional: expected layers with the same {option}, got different ones.")
            setattr(self, option, getattr(one, option))
        one.zero_output_for_mask = two.zero_output_for_mask = self.return_sequences

    def build(self, sequences_shape: Any, initial_state_shape: Any = None) -> None:
        for layer in (self.forward_layer, self.backward_layer):
            if not layer.built:
                layer.build(sequences_shape)

    def call(self, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool | None = None) -> Any:
        starts: Any = (None, None)
        if initial_state is not None:
            half = len(initial_state) // 2
            starts = (initial_state[:half], initial_state[half:])
        y, back = (
            layer(sequences, initial_state=start, mask=mask, training=training)
            for layer, start in zip((self.forward_layer, self.backward_layer), starts, strict=True)
        )
        states: tuple[Any, ...] = ()
        if self.return_state:
            states = (*y[1:], *back[1:])
            y, back = y[0], back[0]
        back = jnp.flip(back, 1) if self.return_sequences else back
        if self.merge_mode is None:
            return (y, back, *states)
        out = {
            "concat": lambda: jnp.concatenate([y, back], -1),
            "sum": lambda: y + back,
            "ave": lambda: (y + back) / 2,
            "mul": lambda: y * back,
        }[self.merge_mode]()
        return (out, *states) if states else out

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """That of the input, for an output with all steps."""
        own = jax.tree.leaves(mask)[0] if self.return_sequences and jax.tree.leaves(mask) else None
        outputs = [own, own] if self.merge_mode is None else [own]
        if not self.return_state:
            return outputs if self.merge_mode is None else own
        return outputs + [None] * 2 * len(jax.tree.leaves(self.forward_layer.cell.state_size))

    def get_config(self) -> dict[str, Any]:
        from fluxion.dialects.keras.saving import serialize

        config = super().get_config()
        layer = serialize(self.forward_layer)
        layer["config"]["name"] = self.forward_layer.name.removeprefix("forward_")
        return config | {"layer": layer, "backward_layer": serialize(self.backward_layer)}


class TimeDistributed(BuiltIn):
    """A layer that is applied to each step of a sequence `(batch, time, ...)` by itself.

    All steps go through the layer as one batch of `batch * time` examples.

    >>> from fluxion.dialects import keras
    >>> keras.layers.TimeDistributed(keras.layers.Conv2D(4, 3))(keras.ops.ones((8, 10, 5, 5, 3))).shape
    (8, 10, 3, 3, 4)
    """

    def __init__(self, layer: Any, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        if not isinstance(layer, Layer):
            raise ArgumentError(f"TimeDistributed: expected a layer, got {layer!r}.")
        self.supports_masking = True
        self.layer = layer

    def build(self, input_shape: Any) -> None:
        if len(input_shape) < 3:
            raise ShapeError(f"TimeDistributed: expected input (batch, time, ...), got {input_shape}.")
        if not self.layer.built:
            self.layer.build((input_shape[0], *input_shape[2:]))

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        x = jnp.asarray(inputs)
        first = x.shape[:2]

        def joined(a: Any) -> Any:
            return a.reshape(math.prod(first), *a.shape[2:])

        options: dict[str, Any] = {"training": training} if call_spec(type(self.layer)).takes_training else {}
        if mask is not None and "mask" in call_spec(type(self.layer)).all:
            options["mask"] = joined(mask)
        return jax.tree.map(lambda y: y.reshape(*first, *y.shape[1:]), self.layer(joined(x), **options))

    def get_config(self) -> dict[str, Any]:
        from fluxion.dialects.keras.saving import serialize

        return super().get_config() | {"layer": serialize(self.layer)}


def copied(layer: Any, **changes: Any) -> Any:
    """A new layer with the same arguments but for these, and weights of its own."""
    return type(layer).from_config(layer.get_config() | changes)
