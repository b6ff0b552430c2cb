"""Recurrent cells, one step of a recurrent network each: `RNNCell`, `LSTMCell`, `GRUCell`.

A cell is called as `out, state = cell(x, state)`; it keeps nothing between calls. `RNN`, `LSTM`, `GRU` and
`Recurrence` (`recurrent.py`) run cells over whole sequences.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import jax.numpy as jnp

from fluxion.errors import ShapeError
from fluxion.layers.inputs import as_input, drawn, function, plus, whole, whole_or_none
from fluxion.ops.activations import tanh
from fluxion.ops.initializers import glorot_uniform, zeros
from fluxion.ops.product import product
from fluxion.ops.recurrent import (
    gru_gates,
    gru_step,
    gru_sums,
    lstm_gates,
    lstm_native,
    lstm_sequence,
    lstm_step,
    rnn_step,
    unroll,
    unroll_product,
)
from fluxion.transform.sizes import ensure_sized
from fluxion.tree.layer import Layer

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Shaped


class Cell(Layer):
    """What the cells have in common: two weights, a bias, and states made of arrays `(*batch_shape, out_features)`."""

    gates: ClassVar[int]  # how many gates share the columns of the weights

    weight: Array  # (in, gates * out)
    recurrent_weight: Array  # (out, gates * out)
    bias: Array | None  # (gates * out,)
    recipe: tuple[int, bool, Callable[..., Any], Callable[..., Any]] | None  # until the input size is known

    def _start(
        self,
        in_features: int | None,
        out_features: int,
        bias: bool,
        init: Callable[..., Any],
        recurrent_init: Callable[..., Any],
    ) -> None:
        name = type(self).__name__
        size = whole_or_none(name, "in_features", in_features)
        self.weight = self.recurrent_weight = self.bias = None  # type: ignore[assignment]
        init, recurrent_init = function(name, "init", init), function(name, "recurrent_init", recurrent_init)
        self.recipe = (whole(name, "out_features", out_features), bool(bias), init, recurrent_init)
        if size is not None:
            self._build(size)

    def _build(self, in_features: int) -> None:
        if self.recipe is not None:
            name = type(self).__name__
            out, bias, init, recurrent_init = self.recipe
            self.weight = drawn(name, init, in_features, self.gates * out)
            self.recurrent_weight = drawn(name, recurrent_init, out, self.gates * out)
            self.bias = zeros(self.gates * out, dtype=self.weight.dtype) if bias else None
            self.recipe = None

    @property
    def unsized(self) -> bool:
        return self.recipe is not None

    def infer(self, shape: tuple[int, ...]) -> None:
        if not shape:
            raise ShapeError("expected input (..., in_features), got a single number.")
        self._build(shape[-1])

    @property
    def out_features(self) -> int:
        return self.recipe[0] if self.recipe else self.recurrent_weight.shape[0]

    def config(self) -> dict[str, Any]:
        return {
            "in_features": None if self.recipe else self.weight.shape[0],
            "out_features": self.out_features,
            "bias": self.recipe[1] if self.recipe else self.bias is not None,
            "init": self.recipe[2] if self.recipe else glorot_uniform,
            "recurrent_init": self.recipe[3] if self.recipe else glorot_uniform,
        }

    def initial_state(self, batch_shape: int | tuple[int, ...] = ()) -> Any:
        """Zeros: the state a call starts from where none is given. For one example `batch_shape` is `()`."""
        axes = (batch_shape,) if isinstance(batch_shape, int) else tuple(batch_shape)
        return zeros(*axes, self.out_features, dtype=None if self.recipe else self.weight.dtype)

    def project(self, x: Float[Array, "... in"]) -> Float[Array, "... gates"]:
        """What the input contributes to the gates."""
        return plus(product(x, self.weight), self.bias)

    def step(self, projected: Float[Array, "*batch gates"], state: Any) -> tuple[Float[Array, "*batch out"], Any]:
        """Output and next state, for an input that is projected already."""
        raise NotImplementedError

    def unrolled(
        self,
        projected: Float[Array, "time *batch gates"],
        state: Any,
        keep: Bool[Array, "time ..."] | None = None,
        *,
        reverse: bool = False,
    ) -> tuple[Float[Array, "time *batch out"], Any]:
        """The outputs of all steps, and the last state, as by `unroll(self.step, projected, state, keep)`."""
        return unroll(self.step, projected, state, keep, reverse=reverse)

    def sequence(
        self,
        x: Float[Array, "*batch time in"],
        state: Any,
        keep: Bool[Array, "*batch time"] | None = None,
        *,
        reverse: bool = False,
    ) -> tuple[Float[Array, "*batch time out"], Any]:
        """The outputs of all steps, and the last state; where `keep` is false the state stays and the output is zero.

        Time is the first axis in between: the one over which the loop runs.
        """
        projected, keep = self.project(jnp.moveaxis(x, -2, 0)), None if keep is None else jnp.moveaxis(keep, -1, 0)
        out, state = self.unrolled(projected, state, keep, reverse=reverse)
        return jnp.moveaxis(out, 0, -2), state

    def __call__(self, x: Shaped[Array, "*batch in"], state: Any = None) -> tuple[Float[Array, "*batch out"], Any]:
        ensure_sized(self, x)
        x = as_input(x, self.weight.dtype)
        size = self.weight.shape[0]
        if x.ndim < 1 or x.shape[-1] != size:
            name, out = type(self).__name__, self.out_features
            use = f" Use {name}({x.shape[-1]}, {out}) or {name}(None, {out})." if x.ndim else " Give it features."
            raise ShapeError(f"expected input (..., {size}), got {x.shape}.{use}")
        return self.step(self.project(x), as_state(state, self.initial_state(x.shape[:-1]), x.shape[:-1]))


class RNNCell(Cell):
    """`h' = activation(x @ weight + h @ recurrent_weight + bias)`: one step of a plain recurrent network.

    Called as `out, state = cell(x, state)`; output and state are both `h'`, and a state left out is zero.

    Shapes: `x` `(..., in_features)`, output and state `(..., out_features)`; `weight` is
    `(in_features, out_features)`, `recurrent_weight` `(out_features, out_features)`, `bias` `(out_features,)`.

    Arguments:
      in_features: size of the input's last axis; None to infer it (`fx.autosize`).
      out_features: size of the output and of the state.
      activation: function applied to the sum.
      bias: whether a bias is added. It starts at 0.
      init: initializer of `weight`.
      recurrent_init: initializer of `recurrent_weight`.

    Errors: ShapeError for an input or a state of another size. Source: Elman 1990; the numbers are those of
    `Flux.RNNCell`, and of `torch.nn.RNNCell` with its two biases added up.

    >>> import fluxion as fx
    >>> cell = fx.RNNCell(3, 5)
    >>> out, state = cell(fx.ones(8, 3))
    >>> out, state = cell(fx.ones(8, 3), state)
    >>> cell, out.shape
    (RNNCell(3, 5), (8, 5))
    """

    gates = 1

    activation: Callable[..., Any]

    def __init__(
        self,
        in_features: int | None,
        out_features: int,
        activation: Callable[..., Any] = tanh,
        *,
        bias: bool = True,
        init: Callable[..., Any] = glorot_uniform,
        recurrent_init: Callable[..., Any] = glorot_uniform,
    ) -> None:
        self.activation = function("RNNCell", "activation", activation)
        self._start(in_features, out_features, bias, init, recurrent_init)

    def config(self) -> dict[str, Any]:
        return {**super().config(), "activation": self.activation}

    def step(
        self, projected: Float[Array, "*batch out"], state: Float[Array, "*batch out"]
    ) -> tuple[Float[Array, "*batch out"], Float[Array, "*batch out"]]:
        h = rnn_step(projected, state, self.recurrent_weight, self.activation)
        return h, h

    def unrolled(self, projected: Array, state: Any, keep: Any = None, *, reverse: bool = False) -> tuple[Array, Any]:
        def gates(total: Array, _: None, state: Any) -> tuple[Array]:
            return (self.activation(total),)

        out, (h,) = unroll_product(gates, projected, (state,), self.recurrent_weight, None, keep, reverse=reverse)
        return out, h


class LSTMCell(Cell):
    """One step of a long short-term memory, whose state is the pair `(h, c)`.

    With the four gates in the columns of `i, f, g, o = split(x @ weight + h @ recurrent_weight + bias)`:
    `c' = sigmoid(f) * c + sigmoid(i) * tanh(g)` and `h' = sigmoid(o) * tanh(c')`.

    Called as `out, (h, c) = cell(x, (h, c))`; the output is `h'`, and a state left out is zero.

    Shapes: `x` `(..., in_features)`, output, `h` and `c` `(..., out_features)`; `weight` is
    `(in_features, 4 * out_features)`, `recurrent_weight` `(out_features, 4 * out_features)`, `bias`
    `(4 * out_features,)`.

    Arguments:
      in_features: size of the input's last axis; None to infer it (`fx.autosize`).
      out_features: size of the output, of `h` and of `c`.
      bias: whether a bias is added. It starts at 0, that of the gate `f` too.
      init: initializer of `weight`.
      recurrent_init: initializer of `recurrent_weight`.

    Errors: ShapeError for an input or a state of another size. Source: Hochreiter and Schmidhuber 1997, Gers et al.
    2000; the numbers are those of `Flux.LSTMCell`, and of `torch.nn.LSTMCell` with its two biases added up.

    >>> import fluxion as fx
    >>> cell = fx.LSTMCell(3, 5)
    >>> out, (h, c) = cell(fx.ones(8, 3))
    >>> cell, out.shape, c.shape
    (LSTMCell(3, 5), (8, 5), (8, 5))
    """

    gates = 4

    def __init__(
        self,
        in_features: int | None,
        out_features: int,
        *,
        bias: bool = True,
        init: Callable[..., Any] = glorot_uniform,
        recurrent_init: Callable[..., Any] = glorot_uniform,
    ) -> None:
        self._start(in_features, out_features, bias, init, recurrent_init)

    def initial_state(self, batch_shape: int | tuple[int, ...] = ()) -> tuple[Array, Array]:
        """The pair of zeros `(h, c)` that a call starts from where no state is given."""
        return super().initial_state(batch_shape), super().initial_state(batch_shape)

    def step(
        self, projected: Float[Array, "*batch gates"], state: tuple[Array, Array]
    ) -> tuple[Float[Array, "*batch out"], tuple[Array, Array]]:
        h, c = lstm_step(projected, state, self.recurrent_weight)
        return h, (h, c)

    def sequence(self, x: Array, state: Any, keep: Any = None, *, reverse: bool = False) -> tuple[Array, Any]:
        if lstm_native(x, self.recurrent_weight):
            return lstm_sequence(self.weight, self.recurrent_weight, self.bias, x, state, keep, reverse=reverse)
        return super().sequence(x, state, keep, reverse=reverse)

    def unrolled(self, projected: Array, state: Any, keep: Any = None, *, reverse: bool = False) -> tuple[Array, Any]:
        def gates(total: Array, _: None, state: Any) -> tuple[Array, Array]:
            return lstm_gates(total, state[1])

        return unroll_product(gates, projected, state, self.recurrent_weight, None, keep, reverse=reverse)


class GRUCell(Cell):
    """One step of a gated recurrent unit: `h' = (1 - z) * n + z * h`.

    With the gates `r, z, n` in the columns of `p = x @ weight + bias` and of `u = h @ recurrent_weight`:
    `r = sigmoid(p_r + u_r)`, `z = sigmoid(p_z + u_z)` and `n = tanh(p_n + r * (u_n + recurrent_bias))`. With
    `reset_after=False`, `r` acts before the product: `n = tanh(p_n + (r * h) @ recurrent_weight_n)`.

    Called as `out, state = cell(x, state)`; output and state are both `h'`, and a state left out is zero.

    Shapes: `x` `(..., in_features)`, output and state `(..., out_features)`; `weight` is
    `(in_features, 3 * out_features)`, `recurrent_weight` `(out_features, 3 * out_features)`, `bias`
    `(3 * out_features,)`, `recurrent_bias` `(out_features,)`.

    Arguments:
      in_features: size of the input's last axis; None to infer it (`fx.autosize`).
      out_features: size of the output and of the state.
      reset_after: whether `r` acts after the product with the recurrent weight.
      bias: whether biases are added. They start at 0. In `r` and `z` a second bias would be the same as the first;
        in `n` it is not, for `r` multiplies it: hence `recurrent_bias`, with `reset_after` only.
      init: initializer of `weight`.
      recurrent_init: initializer of `recurrent_weight`.

    Errors: ShapeError for an input or a state of another size. Source: Cho et al. 2014, which is `reset_after=False`.
    The numbers are those of `torch.nn.GRUCell` with its two biases of `r` and `z` added up; with `recurrent_bias` zero
    those of `Flux.GRUCell`.

    >>> import fluxion as fx
    >>> cell = fx.GRUCell(3, 5)
    >>> out, state = cell(fx.ones(8, 3))
    >>> cell, out.shape, cell.recurrent_bias.shape
    (GRUCell(3, 5), (8, 5), (5,))
    """

    gates = 3

    recurrent_bias: Array | None  # (out,)
    reset_after: bool

    def __init__(
        self,
        in_features: int | None,
        out_features: int,
        *,
        reset_after: bool = True,
        bias: bool = True,
        init: Callable[..., Any] = glorot_uniform,
        recurrent_init: Callable[..., Any] = glorot_uniform,
    ) -> None:
        self.weight = self.recurrent_weight = self.bias = self.recurrent_bias = None  # type: ignore[assignment]
        self.reset_after = bool(reset_after)
        self._start(in_features, out_features, bias, init, recurrent_init)

    def _build(self, in_features: int) -> None:
        super()._build(in_features)
        if self.bias is not None and self.reset_after:
            self.recurrent_bias = zeros(self.out_features, dtype=self.weight.dtype)

    def config(self) -> dict[str, Any]:
        return {**super().config(), "reset_after": self.reset_after}

    def step(
        self, projected: Float[Array, "*batch gates"], state: Float[Array, "*batch out"]
    ) -> tuple[Float[Array, "*batch out"], Float[Array, "*batch out"]]:
        h = gru_step(projected, state, self.recurrent_weight, self.recurrent_bias, reset_after=self.reset_after)
        return h, h

    def unrolled(self, projected: Array, state: Any, keep: Any = None, *, reverse: bool = False) -> tuple[Array, Any]:
        def gates(total: Array, candidate: Array, state: Any) -> tuple[Array]:
            return (gru_gates(total, candidate, *state),)

        if not self.reset_after:  # `r` acts on the state before the product, which is then another one
            return super().unrolled(projected, state, keep, reverse=reverse)
        added, candidate = gru_sums(projected, self.recurrent_bias)
        out, (h,) = unroll_product(gates, added, (state,), self.recurrent_weight, candidate, keep, reverse=reverse)
        return out, h


# States


def as_state(state: Any, initial: Any, batch_shape: tuple[int, ...]) -> Any:
    """`state` in the dtype of `initial`, which it must be built like; `initial` itself for None."""
    if state is None:
        return initial
    if shapes(state) != shapes(initial):
        argument = batch_shape[0] if len(batch_shape) == 1 else batch_shape
        raise ShapeError(
            f"expected a state of shapes {shapes(initial)}, got {shapes(state)}. initial_state({argument}) gives one "
            "of zeros."
        )
    dtype = jax.tree.leaves(initial)[0].dtype
    return jax.tree.unflatten(jax.tree.structure(initial), [as_input(a, dtype) for a in jax.tree.leaves(state)])


def shapes(state: Any) -> Any:
    """The shapes of the arrays of a state, in tuples like it; for what is no array, the name of its type."""
    if isinstance(state, tuple | list):
        return tuple(map(shapes, state))
    return tuple(jnp.shape(state)) if hasattr(state, "shape") else type(state).__name__
