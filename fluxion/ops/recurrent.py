"""One step of the recurrent networks, and `unroll`, which runs any step over a sequence as one compiled loop.

The steps take what the input contributes to all gates as `projected = x @ weight + bias`: that does not depend on the
state, so it is one product for all times, done before the loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

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
    i, f, g, o = jnp.split(projected + h @ recurrent_weight, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c


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
    px, pn = jnp.split(projected, [2 * size], axis=-1)
    if reset_after:
        ux, un = jnp.split(h @ recurrent_weight, [2 * size], axis=-1)
    else:
        ux, un = h @ recurrent_weight[:, : 2 * size], None
    r, z = jnp.split(sigmoid(px + ux), 2, axis=-1)
    if un is None:
        n = tanh(pn + (r * h) @ recurrent_weight[:, 2 * size :])
    else:
        n = tanh(pn + r * (un if recurrent_bias is None else un + jnp.broadcast_to(recurrent_bias, un.shape)))
    return (1 - z) * n + z * h


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
