"""One step of the recurrent networks, and the loops: `unroll` for any step, `unroll_product` for these.

The steps take what the input contributes to all gates as `projected = x @ weight + bias`: that does not depend on the
state, so it is one product for all times, done before the loop. `unroll_product` does the like for the gradient of the
recurrent weight: one product for all times, after the loop.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from fluxion import native
from fluxion.errors import ShapeError
from fluxion.ops.activations import sigmoid, tanh

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float

Step = Callable[[Any, Any], tuple[Any, Any]]


def rnn_step(
    projected: Float[Array, "*batch out"],
    h: Float[Array, "*batch out"],
    recurrent_weight: Float[Array, "out out"],
    activation: Callable[..., Any] = tanh,
) -> Float[Array, "*batch out"]:
    """`activation(projected + h @ recurrent_weight)`.

    >>> import jax.numpy as jnp
    >>> from fluxion.ops.recurrent import rnn_step
    >>> rnn_step(jnp.zeros((4, 3)), jnp.zeros((4, 3)), jnp.eye(3)).shape
    (4, 3)
    """
    return activation(projected + h @ recurrent_weight)


def lstm_step(
    projected: Float[Array, "*batch gates"],
    state: tuple[Float[Array, "*batch out"], Float[Array, "*batch out"]],
    recurrent_weight: Float[Array, "out gates"],
) -> tuple[Float[Array, "*batch out"], Float[Array, "*batch out"]]:
    """`(h, c)` after one step, with the gates `i, f, g, o` in the columns of `projected` and `recurrent_weight`.

    `c' = sigmoid(f) * c + sigmoid(i) * tanh(g)`, `h' = sigmoid(o) * tanh(c')`.

    >>> import jax.numpy as jnp
    >>> from fluxion.ops.recurrent import lstm_step
    >>> h, c = lstm_step(jnp.zeros(4), (jnp.zeros(1), jnp.ones(1)), jnp.zeros((1, 4)))
    >>> c.tolist()
    [0.5]
    """
    h, c = state
    return lstm_gates(projected + h @ recurrent_weight, c)


@jax.custom_jvp
def lstm_gates(
    total: Float[Array, "*batch gates"], c: Float[Array, "*batch out"]
) -> tuple[Float[Array, "*batch out"], Float[Array, "*batch out"]]:
    """`(h', c')` of `lstm_step`, from the sum that enters the gates.

    >>> import jax.numpy as jnp
    >>> from fluxion.ops.recurrent import lstm_gates
    >>> lstm_gates(jnp.zeros(4), jnp.ones(1))[1].tolist()
    [0.5]
    """
    i, f, g, o = jnp.split(total, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c


@lstm_gates.defjvp
def _lstm_gates_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Any, Any]:
    # Stated, so that the backward pass keeps six arrays per step, the slopes, not every factor of every product.
    (total, c), (d_total, dc) = primals, tangents
    i, f, g, o = jnp.split(total, 4, axis=-1)
    i, f, g, o = sigmoid(i), sigmoid(f), tanh(g), sigmoid(o)
    new = f * c + i * g
    out = tanh(new)
    di, df, dg, do = jnp.split(d_total, 4, axis=-1)
    d_new = f * dc + (c * f * (1 - f)) * df + (g * i * (1 - i)) * di + (i * (1 - g * g)) * dg
    return (o * out, new), ((out * o * (1 - o)) * do + (o * (1 - out * out)) * d_new, d_new)


def gru_step(
    projected: Float[Array, "*batch gates"],
    h: Float[Array, "*batch out"],
    recurrent_weight: Float[Array, "out gates"],
    recurrent_bias: Float[Array, " out"] | None = None,
    *,
    reset_after: bool = True,
) -> Float[Array, "*batch out"]:
    """`(1 - z) * n + z * h`, with the gates `r, z, n` in the columns of `projected` and `recurrent_weight`.

    `n = tanh(projected_n + r * (h @ recurrent_weight_n + recurrent_bias))`, or, without `reset_after`,
    `n = tanh(projected_n + (r * h) @ recurrent_weight_n)`, where no `recurrent_bias` is used.

    >>> import jax.numpy as jnp
    >>> from fluxion.ops.recurrent import gru_step
    >>> gru_step(jnp.zeros(3), jnp.ones(1), jnp.zeros((1, 3))).tolist()
    [0.5]
    """
    size = h.shape[-1]
    if reset_after:
        added, candidate = gru_sums(projected, recurrent_bias)
        return gru_gates(added + h @ recurrent_weight, candidate, h)
    px, pn = jnp.split(projected, [2 * size], axis=-1)
    r, z = jnp.split(sigmoid(px + h @ recurrent_weight[:, : 2 * size]), 2, axis=-1)
    n = tanh(pn + (r * h) @ recurrent_weight[:, 2 * size :])
    return (1 - z) * n + z * h


def gru_sums(
    projected: Float[Array, "*batch gates"], recurrent_bias: Float[Array, " out"] | None
) -> tuple[Float[Array, "*batch gates"], Float[Array, "*batch out"]]:
    """What is added to `h @ recurrent_weight`, and what is added to it only after `r` has acted.

    >>> import jax.numpy as jnp
    >>> from fluxion.ops.recurrent import gru_sums
    >>> [part.tolist() for part in gru_sums(jnp.array([1.0, 2.0, 3.0]), jnp.array([4.0]))]
    [[1.0, 2.0, 4.0], [3.0]]
    """
    px, candidate = jnp.split(projected, [projected.shape[-1] // 3 * 2], axis=-1)
    zero = jnp.zeros_like(candidate)
    after = zero if recurrent_bias is None else jnp.broadcast_to(recurrent_bias, zero.shape)
    return jnp.concatenate([px, after], axis=-1), candidate


def gru_gates(
    total: Float[Array, "*batch gates"], candidate: Float[Array, "*batch out"], h: Float[Array, "*batch out"]
) -> Float[Array, "*batch out"]:
    """`h'` of `gru_step` with `reset_after`, from the sums that enter the gates.

    >>> import jax.numpy as jnp
    >>> from fluxion.ops.recurrent import gru_gates
    >>> gru_gates(jnp.zeros(3), jnp.zeros(1), jnp.ones(1)).tolist()
    [0.5]
    """
    size = h.shape[-1]
    r, z = jnp.split(sigmoid(total[..., : 2 * size]), 2, axis=-1)
    return (1 - z) * tanh(candidate + r * total[..., 2 * size :]) + z * h


def lstm_native(x: Array, weight: Array) -> bool:
    """Whether the C++ library runs whole sequences `x` `(*batch, time, in)` with this recurrent weight.

    >>> import jax.numpy as jnp
    >>> from fluxion.ops.recurrent import lstm_native
    >>> lstm_native(jnp.zeros((8, 10, 3), jnp.bfloat16), jnp.zeros((5, 20)))
    False
    """
    return 0 not in (*x.shape, *weight.shape) and jax.default_backend() == "cpu" and native.takes(x, weight)


def lstm_sequence(
    weight: Float[Array, "in gates"],
    recurrent_weight: Float[Array, "out gates"],
    bias: Float[Array, " gates"] | None,
    x: Float[Array, "*batch time in"],
    state: tuple[Float[Array, "*batch out"], Float[Array, "*batch out"]],
    keep: Bool[Array, "*batch time"] | None = None,
    *,
    reverse: bool = False,
) -> tuple[Float[Array, "*batch time out"], tuple[Float[Array, "*batch out"], Float[Array, "*batch out"]]]:
    """The steps of `lstm_step` over time, as by `unroll`, in C++: for arrays of which `lstm_native` is true.

    >>> import jax.numpy as jnp
    >>> from fluxion.ops.recurrent import lstm_native, lstm_sequence
    >>> weight, x, state = jnp.zeros((1, 4)), jnp.zeros((2, 1)), (jnp.zeros(1), jnp.ones(1))
    >>> if lstm_native(x, weight):
    ...     hs, (h, c) = lstm_sequence(weight, weight, None, x, state)
    ...     assert c.tolist() == [0.25]
    """
    from fluxion.native.recurrent import lstm  # here, because it loads Pallas

    batch, time = x.shape[:-2], x.shape[-2]
    n = math.prod(batch)
    h, c = (a.reshape(n, -1) for a in state)
    bias = jnp.zeros(recurrent_weight.shape[1:], x.dtype) if bias is None else bias
    kept = None if keep is None else keep.reshape(n, time)
    hs, c = lstm(weight, recurrent_weight, bias, x.reshape(n, time, -1), h, c, kept, reverse=reverse)
    h = hs[:, 0] if reverse else hs[:, -1]
    hs, h, c = (a.reshape(*batch, *a.shape[1:]) for a in (hs, h, c))
    return hs if keep is None else where(keep, hs, jnp.zeros_like(hs)), (h, c)


def unroll(
    step: Step, xs: Any, state: Any, keep: Bool[Array, "time ..."] | None = None, *, reverse: bool = False
) -> tuple[Any, Any]:
    """Run `out, state = step(x, state)` over the leading axis of `xs`; returns all outputs and the last state.

    It is one `jax.lax.scan`: compiled once, whatever the number of steps. Where `keep` is false the state stays as it
    was and the output is zero. With `reverse` it goes from the last step to the first, and outputs stay in place.

    Shapes: arrays of `xs` are `(time, ...)`, those of the outputs too. With `keep`, the arrays of the state begin with
    the axes `batch`.

    Errors: ShapeError for a state that `keep` does not fit.

    >>> import jax.numpy as jnp
    >>> from fluxion.ops.recurrent import unroll
    >>> outputs, last = unroll(lambda x, total: (x + total, x + total), jnp.arange(4.0), jnp.zeros(()))
    >>> outputs.tolist(), float(last)
    ([0.0, 1.0, 3.0, 6.0], 6.0)
    """

    def body(state: Any, at: tuple[Any, Any]) -> tuple[Any, Any]:
        x, kept = at
        out, new = step(x, state)
        if kept is not None:
            out, new = held(kept, out, new, state)
        return new, out

    state, outputs = jax.lax.scan(body, state, (xs, keep), reverse=reverse)
    return outputs, state


def unroll_product(
    gates: Callable[..., tuple[Any, ...]],
    added: Float[Array, "time *batch gates"],
    state: tuple[Float[Array, "*batch out"], ...],
    recurrent_weight: Float[Array, "out gates"],
    other: Float[Array, "time *batch ..."] | None = None,
    keep: Bool[Array, "time ..."] | None = None,
    *,
    reverse: bool = False,
) -> tuple[Float[Array, "time *batch out"], tuple[Float[Array, "*batch out"], ...]]:
    """Run `state = gates(added[t] + state[0] @ recurrent_weight, other[t], state)` over time, as `unroll` would;
    the outputs are `state[0]`.

    The gradient of the weight is one product for all times, after the loop that goes back, in which it would have to
    be read and written at every step.

    >>> import jax.numpy as jnp
    >>> from fluxion.ops.recurrent import unroll_product
    >>> gates = lambda total, other, state: (total,)
    >>> outputs, (last,) = unroll_product(gates, jnp.ones((3, 1)), (jnp.zeros(1),), jnp.array([[2.0]]))
    >>> outputs[:, 0].tolist(), last.tolist()
    ([1.0, 3.0, 7.0], [7.0])
    """
    # An activation may hold arrays of its own, to be differentiated like the rest.
    one = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), (added, other))
    gates, held_by_gates = jax.closure_convert(gates, *one, state)
    hs, state = _products(gates, reverse, added, other, keep, state, recurrent_weight, tuple(held_by_gates))
    return hs if keep is None else where(keep, hs, jnp.zeros_like(hs)), state


def _loop(
    gates: Any, reverse: bool, added: Any, other: Any, keep: Any, state: Any, recurrent_weight: Any, more: Any
) -> tuple[Any, Any]:
    """`state[0]` after each step, and the last state."""

    def body(state: Any, at: tuple[Any, Any, Any]) -> tuple[Any, Any]:
        total, one, kept = at
        new = gates(total + state[0] @ recurrent_weight, one, state, *more)
        if kept is not None:
            new = jax.tree.map(lambda after, before: where(kept, after, before), new, state)
        return new, new[0]

    state, hs = jax.lax.scan(body, state, (added, other, keep), reverse=reverse)
    return hs, state


_products = functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))(_loop)


@_products.defjvp
def _products_jvp(gates: Any, reverse: bool, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    # A change of the weight changes the sums by `h @ d_weight`, as a change of `added` by as much would do. So the loop
    # is differentiated by `added` alone, and the product with `d_weight`, or its transpose, is done for all times.
    added, other, keep, state, weight, more = primals
    d_added, d_other, _, d_state, d_weight, d_more = tangents

    def run(added: Any, other: Any, state: Any, more: Any) -> Any:
        return _loop(gates, reverse, added, other, keep, state, weight, more)

    out, linear = jax.linearize(run, added, other, state, more)
    hs, first = out[0], state[0][None]
    before = jnp.concatenate([hs, first])[1:] if reverse else jnp.concatenate([first, hs])[:-1]
    return out, linear(d_added + before @ d_weight, d_other, d_state, d_more)


def held(kept: Bool[Array, "*batch"], out: Any, new: Any, state: Any) -> tuple[Any, Any]:
    """Output and state of a step where `kept`; zero and the old state where not."""
    out = jax.tree.map(lambda y: where(kept, y, jnp.zeros_like(y)), out)
    return out, jax.tree.map(lambda after, before: where(kept, after, before), new, state)


def where(condition: Bool[Array, "*batch"], yes: Array, no: Any) -> Array:
    """`yes` or `no` for each element of the leading axes."""
    if yes.shape[: condition.ndim] != condition.shape:
        raise ShapeError(
            f"expected arrays that begin with the axes {condition.shape} of the batch, got {yes.shape}. "
            "Give outputs and state of the cell a batch axis, or leave mask and lengths out."
        )
    return jnp.where(condition.reshape(condition.shape + (1,) * (yes.ndim - condition.ndim)), yes, no)
