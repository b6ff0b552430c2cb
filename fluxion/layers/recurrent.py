"""Recurrent networks over whole sequences: `RNN`, `LSTM`, `GRU`.

Each runs its cells with `cell.sequence`, one compiled loop per cell. Outside of a compiled function,
too, a layer is compiled as a whole (`fx.jit`): once per shape, not once per call. `Recurrence` (`recurrence.py`) does
the same with any cell.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.errors import ArgumentError, DataError, DTypeError, ShapeError
from fluxion.layers.cells import Cell, GRUCell, LSTMCell, RNNCell, as_state
from fluxion.layers.inputs import as_array, as_input, function, whole, whole_or_none
from fluxion.ops.activations import tanh
from fluxion.ops.checks import known
from fluxion.ops.dropout import dropout as dropped
from fluxion.ops.initializers import glorot_uniform
from fluxion.ops.recurrent import where
from fluxion.transform.compile import jit
from fluxion.transform.modes import istraining
from fluxion.transform.randomness import next_key, randomness
from fluxion.transform.sizes import ensure_sized
from fluxion.tree.layer import Layer, is_observed

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Int, Shaped


class StackedCells(Layer):
    """What `RNN`, `LSTM` and `GRU` have in common: cells above one another, and beside one another if bidirectional."""

    cells: tuple[Cell, ...]  # layer after layer; of a bidirectional one forward before backward
    num_layers: int
    bidirectional: bool
    dropout: float
    return_state: bool
    training: bool | None = None

    def _stack(
        self,
        make: Callable[[int | None], Cell],
        in_features: int | None,
        out_features: int,
        num_layers: int,
        bidirectional: bool,
        dropout: float,
        return_state: bool,
    ) -> None:
        name = type(self).__name__
        size, out = whole_or_none(name, "in_features", in_features), whole(name, "out_features", out_features)
        self.num_layers = whole(name, "num_layers", num_layers)
        self.bidirectional = bool(bidirectional)
        if not isinstance(dropout, int | float) or not 0 <= dropout < 1:
            raise ArgumentError(f"{name}: expected dropout in [0, 1), got {dropout!r}.")
        if dropout and self.num_layers == 1:
            raise ArgumentError(
                f"{name}: expected dropout=0 for one layer, got {dropout!r}: it acts between layers. "
                "Give num_layers=2 or more, or put fx.Dropout after the layer."
            )
        self.dropout = dropout
        self.return_state = bool(return_state)
        directions = 2 if bidirectional else 1
        sizes = [size] * directions + [out * directions] * (directions * (self.num_layers - 1))
        self.cells = tuple(map(make, sizes))

    @property
    def unsized(self) -> bool:
        return self.cells[0].unsized

    def infer(self, shape: tuple[int, ...]) -> None:
        self._check_rank(shape)
        for cell in self.cells:
            cell.infer(shape)  # does nothing to those that have their sizes

    def config(self) -> dict[str, Any]:
        own = ("num_layers", "bidirectional", "dropout", "return_state")
        return {**self.cells[0].config(), **{name: getattr(self, name) for name in own}}

    def initial_state(self, batch_shape: int | tuple[int, ...] = ()) -> Any:
        """The state of zeros: that of the cell, or a tuple of such, in the order of `cells`, if there are several.

        `batch_shape` is the batch size, or `()` for a single sequence.
        """
        return self._per_cell([cell.initial_state(batch_shape) for cell in self.cells])

    def _per_cell(self, states: list[Any]) -> Any:
        return tuple(states) if len(states) > 1 else states[0]

    def __call__(
        self,
        x: Shaped[Array, "*batch time in"],
        state: Any = None,
        *,
        mask: Bool[Array, "*batch time"] | None = None,
        lengths: Int[Array, "*batch"] | None = None,
    ) -> Any:
        ensure_sized(self, x)
        x = as_input(x, self.cells[0].weight.dtype)
        self._check_rank(x.shape)
        size, out = self.cells[0].weight.shape[0], self.cells[0].out_features
        if x.shape[-1] != size:
            name = type(self).__name__
            raise ShapeError(
                f"expected input (batch, time, {size}), got {x.shape}. "
                f"Use {name}({x.shape[-1]}, {out}) or {name}(None, {out})."
            )
        batch_shape = x.shape[:-2]
        state = as_state(state, self.initial_state(batch_shape), batch_shape)
        kept = steps_kept(x.shape[:-1], mask, lengths)
        result = kept.marked(_stacked(self, kept.cleared(x), state, kept.mask))
        return result if self.return_state else result[0]

    def _check_rank(self, shape: tuple[int, ...]) -> None:
        if len(shape) not in (2, 3):
            raise ShapeError(
                f"expected input (batch, time, features), or (time, features) for one sequence, got {shape}. "
                "Reshape it."
            )

    def _unrolled(self, x: Array, state: Any, mask: Array | None) -> tuple[Array, Any]:
        """Outputs and last state."""
        states = state if len(self.cells) > 1 else (state,)
        last: list[Any] = []
        drops = self.dropout > 0 and istraining(self)
        with own_stream(drops):
            while len(last) < len(self.cells):
                x = dropped(x, self.dropout) if drops and last else x
                outputs = []
                for reverse in (False, True)[: 2 if self.bidirectional else 1]:
                    cell, start = self.cells[len(last)], states[len(last)]
                    out, end = cell.sequence(x, start, mask, reverse=reverse)
                    outputs.append(out)
                    last.append(end)
                x = jnp.concatenate(outputs, -1) if self.bidirectional else outputs[0]
        return x, self._per_cell(last)


_stacked = jit(lambda layer, x, state, mask: layer._unrolled(x, state, mask))


class RNN(StackedCells):
    """`h[t] = activation(x[t] @ weight + h[t - 1] @ recurrent_weight + bias)`, over whole sequences.

    Called as `layer(x, state, mask=..., lengths=...)`; all but `x` may be left out. Shapes, masks and states are those
    of `LSTM`, but that the state of a cell is one array `h`, and weights have `out_features` columns.

    Arguments: those of `LSTM`, and
      activation: function applied to the sum.

    Errors: as for `LSTM`. Source: Elman 1990; the numbers are those of `Flux.RNN`, and of `torch.nn.RNN` with its two
    biases added up.

    >>> import fluxion as fx
    >>> layer = fx.RNN(3, 5, fx.relu)
    >>> layer, layer(fx.ones(8, 10, 3)).shape
    (RNN(3, 5, relu), (8, 10, 5))
    """

    def __init__(
        self,
        in_features: int | None,
        out_features: int,
        activation: Callable[..., Any] = tanh,
        *,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        return_state: bool = False,
        bias: bool = True,
        init: Callable[..., Any] = glorot_uniform,
        recurrent_init: Callable[..., Any] = glorot_uniform,
    ) -> None:
        function("RNN", "activation", activation)
        inits = initializers("RNN", init, recurrent_init)

        def make(size: int | None) -> RNNCell:
            return RNNCell(size, out_features, activation, bias=bias, **inits)

        self._stack(make, in_features, out_features, num_layers, bidirectional, dropout, return_state)


class LSTM(StackedCells):
    """Long short-term memory over whole sequences: the outputs of an `LSTMCell` at every step.

    `i, f, g, o = split(x[t] @ weight + h[t - 1] @ recurrent_weight + bias)`, then
    `c[t] = sigmoid(f) * c[t - 1] + sigmoid(i) * tanh(g)`, and the output is `h[t] = sigmoid(o) * tanh(c[t])`.

    Called as `layer(x, state, mask=..., lengths=...)`; all but `x` may be left out.

    Shapes: `x` `(batch, time, in_features)`, output `(batch, time, out_features)`, twice as wide if `bidirectional`;
    one sequence `(time, in_features)` gives `(time, out_features)`. The weights are in `cells`, a tuple of `LSTMCell`.

    State: the pair `(h, c)` of arrays `(batch, out_features)`, zeros where left out. With `num_layers` or
    `bidirectional` it is a tuple of such pairs in the order of `cells`: layer after layer, in each the forward
    direction first. With `return_state`, a call returns `(output, state)`, and `layer(x, state)` with that state
    continues where the last call ended.

    Sequences of several lengths: `lengths` `(batch,)` are whole numbers up to `time`, or `mask` `(batch, time)` is true
    at the steps that count. At the others the output is zero, the state stays as it is, and what stands in `x` does not
    matter; the backward direction so starts at each sequence's own last step.

    Arguments:
      in_features: size of the input's last axis; None to infer it (`fx.autosize`).
      out_features: size of the output and of the state.
      num_layers: how many are put above one another.
      bidirectional: whether each layer runs in both directions, its outputs side by side.
      dropout: probability with which, in training, values between one layer and the next are set to zero.
      return_state: whether a call returns the last state, too.
      bias: whether there are biases. They start at 0.
      init: initializer of the weights, `(in, 4 * out_features)`.
      recurrent_init: initializer of the recurrent weights, `(out_features, 4 * out_features)`.

    Errors: ShapeError for an input, a mask or a state that does not fit, DataError for a length outside of
    `[0, time]`; where lengths are not known, under a trace, such a sequence yields NaN. ArgumentError for an option out
    of range. Source: Hochreiter and Schmidhuber 1997; the numbers are those of `Flux.LSTM`, and of `torch.nn.LSTM` with
    its two biases added up, packed sequences included.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> layer = fx.LSTM(3, 5)
    >>> layer, layer(fx.ones(8, 10, 3)).shape
    (LSTM(3, 5), (8, 10, 5))
    >>> layer = fx.LSTM(3, 5, num_layers=2, bidirectional=True, return_state=True)
    >>> out, state = layer(fx.ones(2, 10, 3), lengths=jnp.array([10, 4]))
    >>> out.shape, float(abs(out[1, 4:]).max()), len(state)
    ((2, 10, 10), 0.0, 4)
    """

    def __init__(
        self,
        in_features: int | None,
        out_features: int,
        *,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        return_state: bool = False,
        bias: bool = True,
        init: Callable[..., Any] = glorot_uniform,
        recurrent_init: Callable[..., Any] = glorot_uniform,
    ) -> None:
        inits = initializers("LSTM", init, recurrent_init)

        def make(size: int | None) -> LSTMCell:
            return LSTMCell(size, out_features, bias=bias, **inits)

        self._stack(make, in_features, out_features, num_layers, bidirectional, dropout, return_state)


class GRU(StackedCells):
    """Gated recurrent unit over whole sequences: the outputs of a `GRUCell` at every step.

    `h[t] = (1 - z) * n + z * h[t - 1]`, with `r`, `z` and `n` of `GRUCell`.

    Called as `layer(x, state, mask=..., lengths=...)`; all but `x` may be left out. Shapes, masks and states are those
    of `LSTM`, but that the state of a cell is one array `h`, and weights have `3 * out_features` columns.

    Arguments: those of `LSTM`, and
      reset_after: whether `r` acts after the product with the recurrent weight, as in torch, or before it.

    Errors: as for `LSTM`. Source: Cho et al. 2014; the numbers are those of `torch.nn.GRU` with its two biases of `r`
    and `z` added up, and of `Flux.GRU` where `recurrent_bias` is zero.

    >>> import fluxion as fx
    >>> layer = fx.GRU(3, 5, return_state=True)
    >>> out, state = layer(fx.ones(8, 10, 3))
    >>> layer, out.shape, bool((out[:, -1] == state).all())
    (GRU(3, 5, return_state=True), (8, 10, 5), True)
    """

    def __init__(
        self,
        in_features: int | None,
        out_features: int,
        *,
        reset_after: bool = True,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        return_state: bool = False,
        bias: bool = True,
        init: Callable[..., Any] = glorot_uniform,
        recurrent_init: Callable[..., Any] = glorot_uniform,
    ) -> None:
        inits = initializers("GRU", init, recurrent_init)

        def make(size: int | None) -> GRUCell:
            return GRUCell(size, out_features, reset_after=reset_after, bias=bias, **inits)

        self._stack(make, in_features, out_features, num_layers, bidirectional, dropout, return_state)


def own_stream(draws: bool) -> contextlib.AbstractContextManager[Any]:
    """The random stream that `fx.jit` gives to a program, also where it calls the function directly.

    So a step of training that is looked into (`observing`) draws the numbers that it drew when it was compiled.
    """
    return randomness(next_key()) if draws and is_observed() else contextlib.nullcontext()


# Sequences of several lengths


class Kept(NamedTuple):
    """Which steps count."""

    mask: Array | None  # (*batch, time), None for all
    valid: Array | None  # (*batch,): whether the length is possible, None if it is known to be

    def cleared(self, x: Array) -> Array:
        """`x` with zeros at the other steps: what stands there must not reach a gradient either."""
        return x if self.mask is None else where(self.mask, x, jnp.zeros_like(x))

    def marked(self, result: Any) -> Any:
        """The result with NaN for the sequences of an impossible length."""
        valid = self.valid
        if valid is None:
            return result
        return jax.tree.map(
            lambda y: where(valid, y, jnp.full_like(y, jnp.nan)) if jnp.issubdtype(y.dtype, jnp.inexact) else y, result
        )


def steps_kept(shape: tuple[int, ...], mask: Any, lengths: Any) -> Kept:
    """What `mask` or `lengths` say about sequences of the shape `(*batch, time)`."""
    if mask is not None and lengths is not None:
        raise ArgumentError("expected mask or lengths, got both. Leave one of them out.")
    if mask is not None:
        mask = as_array(mask)
        if mask.shape != shape:
            raise ShapeError(f"expected a mask of shape {shape}, (batch, time) of the input, got {mask.shape}.")
        if mask.dtype != bool:
            raise DTypeError(
                f"expected a mask of booleans, true at the steps that count, got {mask.dtype}. Use mask > 0."
            )
        return Kept(jnp.asarray(mask), None)
    if lengths is None:
        return Kept(None, None)
    lengths = as_array(np.asarray(lengths) if isinstance(lengths, list | tuple) else lengths)
    time = shape[-1]
    if lengths.shape != shape[:-1]:
        raise ShapeError(f"expected lengths of shape {shape[:-1]}, one for each sequence, got {lengths.shape}.")
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise DTypeError(f"expected lengths that are integers, got {lengths.dtype}. Use lengths.astype(int).")
    values = known(lengths)
    bad = np.zeros(0, bool) if values is None else (values < 0) | (values > time)
    if values is not None and bad.any():
        first = int(np.argmax(bad))
        raise DataError(
            f"expected lengths from 0 to {time}, the number of steps, got {values.flat[first]} for sequence {first}. "
            "Pad the input, or cut the lengths."
        )
    if isinstance(lengths, np.ndarray):
        lengths = np.clip(lengths.astype(np.int64), -1, time + 1)  # 64 bits cut to 32 on the way could land in range
    lengths = jnp.asarray(lengths)
    mask = jnp.arange(time).reshape((1,) * lengths.ndim + (time,)) < lengths[..., None]
    return Kept(mask, (lengths >= 0) & (lengths <= time) if values is None else None)


def initializers(name: str, init: Any, recurrent_init: Any) -> dict[str, Callable[..., Any]]:
    """Both initializers, checked in the name of the layer."""
    return {
        "init": function(name, "init", init),
        "recurrent_init": function(name, "recurrent_init", recurrent_init),
    }
