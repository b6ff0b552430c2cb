"""Recurrent cells, one step each: `SimpleRNNCell`, `LSTMCell`, `GRUCell`, and `StackedRNNCells` of several.

A cell is called as `output, states = cell(inputs, states)`, `states` being a list. The layers in `recurrent.py` run
cells over sequences; these have loops of their own for that (`sequence`), those of Fluxion's `LSTM` and `GRU`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Unpack

import jax.numpy as jnp

from fluxion.dialects.keras import activations
from fluxion.dialects.keras.layers.base import BuiltIn, LayerOptions, Seeded, check_size, known_size, value
from fluxion.errors import ArgumentError
from fluxion.layers.inputs import as_input, plus, whole
from fluxion.ops.dropout import dropout
from fluxion.ops.product import product
from fluxion.ops.recurrent import (
    gru_gates,
    gru_sums,
    lstm_gates,
    lstm_native,
    lstm_sequence,
    unroll,
    unroll_product,
)

States = list[Any]


class Cell(Seeded):
    """What the cells have in common: `kernel` `(in, gates * units)`, `recurrent_kernel` `(units, gates * units)`."""

    gates: ClassVar[int] = 1
    states: ClassVar[int] = 1

    def _cell(
        self,
        units: int,
        activation: Any,
        use_bias: bool,
        kernel_initializer: Any,
        recurrent_initializer: Any,
        bias_initializer: Any,
        kernel_regularizer: Any,
        recurrent_regularizer: Any,
        bias_regularizer: Any,
        kernel_constraint: Any,
        recurrent_constraint: Any,
        bias_constraint: Any,
        dropout: float,
        recurrent_dropout: float,
        seed: int | None,
    ) -> None:
        name = type(self).__name__
        self.keep(
            units=whole(name, "units", units),
            activation=activation,
            use_bias=bool(use_bias),
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            recurrent_regularizer=recurrent_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            recurrent_constraint=recurrent_constraint,
            bias_constraint=bias_constraint,
            dropout=min(1.0, max(0.0, dropout)),
            recurrent_dropout=min(1.0, max(0.0, recurrent_dropout)),
        )
        self.seeded(seed)

    @property
    def state_size(self) -> Any:
        return self.units if self.states == 1 else [self.units] * self.states

    @property
    def output_size(self) -> int:
        return self.units

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        columns = self.gates * self.units
        self.kernel = self.weight("kernel", (known_size(type(self).__name__, input_shape), columns))
        self.recurrent_kernel = self.add_weight(
            (self.units, columns),
            self.recurrent_initializer,
            regularizer=self.recurrent_regularizer,
            name="recurrent_kernel",
        )
        self.bias = self._make_bias() if self.use_bias else None

    def _make_bias(self) -> Any:
        return self.weight("bias", (self.gates * self.units,))

    def get_initial_state(self, batch_size: int) -> States:
        """Zeros."""
        return [jnp.zeros((batch_size, self.units), self.dtype) for _ in range(self.states)]

    # One step

    def projected(self, x: Any) -> Any:
        """What the input contributes to the gates."""
        return plus(product(x, self.kernel.value), value(self.bias))

    def step(self, projected: Any, states: States, kept: Any = None) -> tuple[Any, States]:
        """Output and states after a step; `kept` multiplies the state that enters the gates: recurrent dropout."""
        raise NotImplementedError

    def call(self, inputs: Any, states: Any, training: bool = False) -> tuple[Any, States]:
        states = list(states) if isinstance(states, list | tuple) else [states]
        x, kept = self._dropped(as_input(inputs, self.kernel.value.dtype), training)
        return self.step(self.projected(x), states, kept)

    def _dropped(self, x: Any, training: bool) -> tuple[Any, Any]:
        """The input after dropout, and the factor of the state. One decision holds for all steps of a sequence."""
        check_size(x, -1, self.kernel.shape[0])
        if not training:
            return x, None
        if self.dropout:
            drawn = (0, -1) if x.ndim == 3 else None
            x = dropout(x, self.dropout, axis=drawn, key=self.key())
        kept = None
        if self.recurrent_dropout:
            kept = dropout(jnp.ones((x.shape[0], self.units), x.dtype), self.recurrent_dropout, key=self.key())
        return x, kept

    # A whole sequence

    def sequence(
        self, x: Any, states: States, keep: Any = None, *, reverse: bool = False, training: bool = False
    ) -> tuple[Any, States]:
        """The outputs `(batch, time, units)`, 0 where `keep` is false, and the last states."""
        x, kept = self._dropped(x, training)
        if kept is None and self.is_plain:
            out, last = self.fast_sequence(x, states, keep, reverse)
            return out, list(last)
        steps = jnp.moveaxis(self.projected(x), 1, 0)
        keep = None if keep is None else keep.T
        out, last = unroll(lambda total, s: self.step(total, s, kept), steps, states, keep, reverse=reverse)
        return jnp.moveaxis(out, 0, 1), last

    @property
    def is_plain(self) -> bool:
        """Whether the activations are those that Fluxion's own loops have."""
        return True

    def fast_sequence(self, x: Any, states: States, keep: Any, reverse: bool) -> tuple[Any, Any]:
        """As `sequence`, by a loop whose gradient is cheaper than that of the steps."""
        raise NotImplementedError


def _loop(gates: Any, added: Any, states: States, weight: Any, other: Any, keep: Any, reverse: bool) -> tuple[Any, Any]:
    """`unroll_product` with time as the second axis."""
    other, keep = (None if a is None else jnp.moveaxis(a, 1, 0) for a in (other, keep))
    out, last = unroll_product(gates, jnp.moveaxis(added, 1, 0), tuple(states), weight, other, keep, reverse=reverse)
    return jnp.moveaxis(out, 0, 1), last


def _times(h: Any, kept: Any) -> Any:
    return h if kept is None else h * kept


class SimpleRNNCell(Cell):
    """`h = activation(x @ kernel + h @ recurrent_kernel + bias)`."""

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
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self._cell(
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
        )

    def step(self, projected: Any, states: States, kept: Any = None) -> tuple[Any, States]:
        h = self.activation(projected + _times(states[0], kept) @ self.recurrent_kernel.value)
        return h, [h]

    def fast_sequence(self, x: Any, states: States, keep: Any, reverse: bool) -> tuple[Any, Any]:
        def gates(total: Any, _: None, state: Any) -> tuple[Any]:
            return (self.activation(total),)

        return _loop(gates, self.projected(x), states, self.recurrent_kernel.value, None, keep, reverse)


class LSTMCell(Cell):
    """`i, f, g, o` in the columns of `x @ kernel + h @ recurrent_kernel + bias`; the states are `[h, c]`.

    `c = recurrent_activation(f) * c + recurrent_activation(i) * activation(g)`,
    `h = recurrent_activation(o) * activation(c)`. The bias of `f` starts at 1, unless `unit_forget_bias=False`.
    """

    gates, states = 4, 2

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
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self._cell(
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
        )
        self.keep(recurrent_activation=recurrent_activation, unit_forget_bias=unit_forget_bias)

    def _make_bias(self) -> Any:
        def forgetting(shape: Sequence[int], dtype: Any = None) -> Any:
            n = self.units
            parts = (self.bias_initializer((n,), dtype), jnp.ones((n,), dtype), self.bias_initializer((2 * n,), dtype))
            return jnp.concatenate(parts)

        init = forgetting if self.unit_forget_bias else self.bias_initializer
        return self.add_weight((4 * self.units,), init, regularizer=self.bias_regularizer, name="bias")

    def step(self, projected: Any, states: States, kept: Any = None) -> tuple[Any, States]:
        h, c = states
        total = projected + _times(h, kept) @ self.recurrent_kernel.value
        if self.is_plain:
            h, c = lstm_gates(total, c)
            return h, [h, c]
        act, gate = self.activation, self.recurrent_activation
        i, f, g, o = jnp.split(total, 4, axis=-1)
        c = gate(f) * c + gate(i) * act(g)
        h = gate(o) * act(c)
        return h, [h, c]

    @property
    def is_plain(self) -> bool:
        return self.activation is activations.tanh and self.recurrent_activation is activations.sigmoid

    def fast_sequence(self, x: Any, states: States, keep: Any, reverse: bool) -> tuple[Any, Any]:
        weight = self.recurrent_kernel.value
        if lstm_native(x, weight):
            kernel, bias = self.kernel.value, value(self.bias)
            return lstm_sequence(kernel, weight, bias, x, tuple(states), keep, reverse=reverse)

        def gates(total: Any, _: None, state: Any) -> tuple[Any, Any]:
            return lstm_gates(total, state[1])

        return _loop(gates, self.projected(x), states, weight, None, keep, reverse)


class GRUCell(Cell):
    """`h = z * h + (1 - z) * n`, with the gates `z, r, n` in the columns of the kernels.

    `n = activation(x_n + r * (h @ recurrent_kernel_n + bias_n))` with `reset_after`, whose bias is `(2, 3 * units)`,
    one row for the input and one for the state; else `n = activation(x_n + (r * h) @ recurrent_kernel_n)`.
    """

    gates = 3

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
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        reset_after: bool = True,
        seed: int | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self._cell(
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
        )
        self.keep(recurrent_activation=recurrent_activation, reset_after=bool(reset_after))

    def _make_bias(self) -> Any:
        return self.weight("bias", (2, 3 * self.units) if self.reset_after else (3 * self.units,))

    def projected(self, x: Any) -> Any:
        """What the input contributes to the gates, the state's own bias of `z` and `r` included."""
        bias = value(self.bias)
        if bias is not None and self.reset_after:
            bias = bias[0] + jnp.where(jnp.arange(3 * self.units) < 2 * self.units, bias[1], 0)
        return plus(product(x, self.kernel.value), bias)

    def step(self, projected: Any, states: States, kept: Any = None) -> tuple[Any, States]:
        n, (h,) = 2 * self.units, states
        weight, seen = self.recurrent_kernel.value, _times(h, kept)
        z, r = jnp.split(self.recurrent_activation(projected[..., :n] + seen @ weight[:, :n]), 2, axis=-1)
        if self.reset_after:
            candidate = r * plus(seen @ weight[:, n:], None if self.bias is None else self.bias.value[1, n:])
        else:
            candidate = (r * seen) @ weight[:, n:]
        h = z * h + (1 - z) * self.activation(projected[..., n:] + candidate)
        return h, [h]

    @property
    def is_plain(self) -> bool:
        plain = self.activation is activations.tanh and self.recurrent_activation is activations.sigmoid
        return plain and self.reset_after

    def fast_sequence(self, x: Any, states: States, keep: Any, reverse: bool) -> tuple[Any, Any]:
        units = self.units

        def reset_first(a: Any) -> Any:  # Fluxion's gates are in the order r, z, n
            z, r, n = jnp.split(a, [units, 2 * units], axis=-1)
            return jnp.concatenate([r, z, n], axis=-1)

        def gates(total: Any, candidate: Any, state: Any) -> tuple[Any]:
            return (gru_gates(total, candidate, *state),)

        recurrent_bias = None if self.bias is None else self.bias.value[1, 2 * units :]
        added, candidate = gru_sums(reset_first(self.projected(x)), recurrent_bias)
        return _loop(gates, added, states, reset_first(self.recurrent_kernel.value), candidate, keep, reverse)


class StackedRNNCells(BuiltIn):
    """Cells above one another as one cell, whose states are a list with those of each."""

    def __init__(self, cells: Sequence[Any], **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        if not cells or not all(hasattr(cell, "state_size") for cell in cells):
            raise ArgumentError("StackedRNNCells: expected cells with a state_size, such as LSTMCell.")
        self.keep(cells=list(cells))

    @property
    def state_size(self) -> list[Any]:
        return [cell.state_size for cell in self.cells]

    @property
    def output_size(self) -> int:
        return output_size(self.cells[-1])

    def build(self, input_shape: Any) -> None:
        for cell in self.cells:
            if not getattr(cell, "built", True):
                cell.build(input_shape)
            input_shape = (input_shape[0], output_size(cell))

    def get_initial_state(self, batch_size: int) -> list[Any]:
        """Those of the cells."""
        return [initial_state(cell, batch_size, self.dtype) for cell in self.cells]

    def call(self, inputs: Any, states: Any, training: bool = False) -> tuple[Any, list[Any]]:
        new = []
        for cell, state in zip(self.cells, states, strict=True):
            inputs, state = call_cell(cell, inputs, state, training)
            new.append(state)
        return inputs, new


# Cells of any make


def output_size(cell: Any) -> int:
    """How many numbers a cell puts out."""
    size = getattr(cell, "output_size", None)
    if size is not None:
        return size
    size = cell.state_size
    return size[0] if isinstance(size, list | tuple) else size


def initial_state(cell: Any, batch_size: int, dtype: Any) -> list[Any]:
    """The states that a cell starts from: its own, or zeros."""
    if hasattr(cell, "get_initial_state"):
        state = cell.get_initial_state(batch_size=batch_size)
        return list(state) if isinstance(state, list | tuple) else [state]
    sizes = cell.state_size if isinstance(cell.state_size, list | tuple) else [cell.state_size]
    return [jnp.zeros((batch_size, size), dtype) for size in sizes]


def call_cell(cell: Any, inputs: Any, states: Any, training: bool) -> tuple[Any, list[Any]]:
    """One step of a cell; its states as a list."""
    from fluxion.dialects.keras.layer import Layer, call_spec

    told = isinstance(cell, Layer) and call_spec(type(cell)).takes_training
    out, new = cell(inputs, states, **({"training": training} if told else {}))
    return out, list(new) if isinstance(new, list | tuple) else [new]
