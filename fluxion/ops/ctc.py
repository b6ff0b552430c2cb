"""Connectionist temporal classification: the loss of a sequence whose alignment with the input is not known."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.errors import DataError, DTypeError, ShapeError
from fluxion.ops import checks

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

# Stands for log(0): exp of it is 0 in every dtype, and differences of it are no NaN.
NEVER = -1e30


def ctc_loss(
    prediction: Float[Array, "*batch time classes"],
    target: Int[Array, "*batch length"],
    *,
    agg: Callable[[Array], Array] = jnp.mean,
    prediction_lengths: Int[Array, "*batch"] | None = None,
    target_lengths: Int[Array, "*batch"] | None = None,
) -> Array:
    """`agg(-log P(target))` of label sequences, `P` summed over all alignments. The blank is the last class.

    An alignment names one class per time step; it spells the target once repeats are merged and blanks dropped.

    Shapes: prediction, raw outputs, `(time, classes)` or `(batch, time, classes)`; target, integers in
    `[0, classes - 1)`, `(length,)` or `(batch, length)`; `agg` gets a number or `(batch,)`.
    Arguments: `prediction_lengths` and `target_lengths`, a number or `(batch,)`, say how much of each row counts;
    without them all of it. What lies beyond is ignored, whatever it is.
    Errors: `ShapeError`, `DTypeError`; `DataError` for a label or length out of range, and for a target that needs
    more time steps than there are (under a trace that loss is infinite, its gradient 0).
    Source: Graves et al. 2006; the numbers of `torch.nn.functional.ctc_loss(..., reduction="none")`, whose
    "mean" divides by the target length as well.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> round(float(fx.ctc_loss(jnp.zeros((2, 3)), jnp.array([0]))), 4)      # 3 alignments of 9: 00, 0_, _0
    1.0986
    """
    name = "ctc_loss"
    logits, labels = checks.numbers(name, "prediction", prediction), checks.numbers(name, "target", target)
    if logits.ndim not in (2, 3):
        raise ShapeError(
            f"{name}: expected a prediction of shape (time, classes) or (batch, time, classes), got {logits.shape}."
        )
    batch, (time, classes) = logits.shape[:-2], logits.shape[-2:]
    if labels.ndim != logits.ndim - 1 or labels.shape[:-1] != batch:
        expected = "(length,)" if not batch else f"({batch[0]}, length)"
        raise ShapeError(
            f"{name}: expected a target of shape {expected} for a prediction of shape {logits.shape}, "
            f"got {labels.shape}. Reshape one of them; losses never broadcast."
        )
    checks.nonempty(name, logits)
    if classes < 2:
        raise ShapeError(
            f"{name}: expected at least 2 classes, got a prediction of shape {logits.shape}. One is the blank."
        )
    length = labels.shape[-1]
    times, times_valid = _lengths("prediction_lengths", prediction_lengths, batch, 1, time)
    sizes, sizes_valid = _lengths("target_lengths", target_lengths, batch, 0, length)

    known_sizes = checks.host(sizes)
    counted = None if known_sizes is None else np.arange(length) < known_sizes[..., None]
    needless = "pad them with integers"
    array, valid = checks.class_labels(name, labels, classes - 1, needless, counted)
    places = jax.lax.broadcasted_iota(jnp.int32, labels.shape, labels.ndim - 1)
    inside = places < jnp.asarray(sizes)[..., None]
    valid = jnp.all(valid | ~inside, axis=-1) & times_valid & sizes_valid
    _feasible(labels, times, sizes)

    logits = checks.held(name, "prediction", logits, checks.compute_dtype(name, logits.dtype))
    array = jnp.where(inside & (array >= 0) & (array < classes - 1), array, 0)
    arguments = (logits, array, jnp.asarray(times), jnp.asarray(sizes))
    losses = _batch_loss(*arguments) if batch else _one_loss(*arguments)
    return agg(jnp.where(valid, losses, jnp.nan))


def _loss(logits: Array, labels: Array, time: Array, size: Array) -> Array:
    """One sequence. States of the recursion are blank, label 0, blank, label 1, ..., blank."""
    blank = logits.shape[-1] - 1
    states = jnp.full(2 * labels.shape[0] + 1, blank, labels.dtype).at[1::2].set(labels)
    emitted = jnp.maximum(jax.nn.log_softmax(logits)[:, states], NEVER)
    position = jnp.arange(states.shape[0])
    # Between two different labels the blank may be left out.
    skips = (position % 2 == 1) & (position >= 2) & (states != jnp.roll(states, 2))

    def step(alpha: Array, now: tuple[Array, Array]) -> tuple[Array, None]:
        index, emission = now
        arrived = jnp.logaddexp(alpha, jnp.where(position >= 1, jnp.roll(alpha, 1), NEVER))
        arrived = jnp.logaddexp(arrived, jnp.where(skips, jnp.roll(alpha, 2), NEVER))
        return jnp.where(index < time, arrived + emission, alpha), None

    start = jnp.where(position <= 1, emitted[0], NEVER)
    alpha, _ = jax.lax.scan(step, start, (jnp.arange(1, logits.shape[0]), emitted[1:]))
    last = jnp.where(size > 0, alpha[2 * size - 1], NEVER)
    loss = -jnp.logaddexp(alpha[2 * size], last)
    return jnp.where(loss > -0.5 * NEVER, jnp.inf, loss)


# Compiled here, for a scan called step by step would be compiled at every call.
_one_loss = jax.jit(_loss)
_batch_loss = jax.jit(jax.vmap(_loss))


def _lengths(what: str, lengths: Any, batch: tuple[int, ...], least: int, most: int) -> tuple[Any, Any]:
    if lengths is None:
        return np.full(batch, most, np.int32), True
    lengths = checks.numbers("ctc_loss", what, lengths)
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise DTypeError(f"ctc_loss: expected {what} to be integers, got {lengths.dtype}. Convert with astype(int).")
    if lengths.shape != batch:
        raise ShapeError(f"ctc_loss: expected {what} of shape {batch}, got {lengths.shape}. One per sequence.")
    values = checks.known(lengths)
    if values is not None:
        bad = (values < least) | (values > most)
        checks.refuse("ctc_loss", what, values, bad, f"is outside [{least}, {most}].")
    array = jnp.asarray(lengths).astype(jnp.int32)
    valid = (array >= least) & (array <= most)
    return (lengths if values is not None else jnp.clip(array, least, most)), valid


def _feasible(labels: Any, times: Any, sizes: Any) -> None:
    """Each label takes a time step, and so does the blank between two equal ones."""
    known = [checks.known(x) for x in (labels, times, sizes)]
    if any(x is None for x in known):
        return
    rows = labels.shape[:-1]
    sequences, times, sizes = (np.asarray(x) for x in known)
    for index in np.ndindex(rows):
        sequence = sequences[index][: sizes[index]]
        needed = len(sequence) + int(np.sum(sequence[1:] == sequence[:-1]))
        if needed > times[index]:
            where = f" at index {index}" if index else ""
            raise DataError(
                f"ctc_loss: the target{where} needs at least {needed} time steps (a repeated label takes a blank "
                f"between), but the prediction has {times[index]}. Shorten it or leave the example out."
            )
