"""Knet's losses and scores, of arrays and of whole data sets.

Labels count from 0, as everywhere in Fluxion (Knet's from 1), and a label of -1 leaves the observation out (Knet's 0).
Of a data set the model is `model(x)`, in test mode, batch by batch, and every observation counts once.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from fluxion.data.loader import DataLoader
from fluxion.errors import ArgumentError, DataError, DTypeError, ShapeError, user_frames
from fluxion.ops.activations import softplus
from fluxion.ops.losses import logitbinarycrossentropy, logitcrossentropy
from fluxion.train.evaluate import batch_length, evaluate, is_arrays
from fluxion.tree.graph import is_array

if TYPE_CHECKING:
    from jaxtyping import Array

IGNORED = -1


@user_frames
def nll(scores: Any, labels: Any = None, *, data: Any = None, average: bool = True) -> Any:
    """The negative log likelihood of the labels, `mean(-logsoftmax(scores)[label])`; or of a data set.

    Shapes: scores `(..., classes)`, integer labels `(...)` in `[0, classes)`, or -1 where one is not to count.

    Arguments:
        scores: what a model says before the softmax; or a model, and then a data set in the place of the labels.
        labels: what is true; or the data set, batches `(x, y)`.
        data: the data set by its name, `nll(model, data=dtst)`.
        average: `False` gives the pair `(total, count)` of the observations that count.

    Errors: those of `fx.logitcrossentropy`. Where no label counts the average is NaN, as in torch.

    The numbers are those of torch's `cross_entropy(ignore_index=-1)`.

    >>> from fluxion.dialects.knet import nll
    >>> import jax.numpy as jnp
    >>> scores = jnp.array([[8.0, 9.0, 7.5], [2.0, 3.0, 4.0], [0.0, 0.0, 0.0]])
    >>> round(float(nll(scores, jnp.array([1, 2, -1]))), 5)
    0.43599
    >>> [round(float(x), 4) for x in nll(scores, jnp.array([1, 2, -1]), average=False)]
    [0.872, 2.0]
    """
    return _scored("nll", _nll, scores, labels, data, average)


def _nll(scores: Any, labels: Any) -> tuple[Any, Any]:
    scores, labels, counts = _labeled("nll", scores, labels)
    losses = logitcrossentropy(scores, jnp.where(counts, labels, 0), agg=lambda x: x)
    return jnp.where(counts, losses, 0).sum(), counts.sum()


@user_frames
def accuracy(scores: Any, labels: Any = None, *, data: Any = None, average: bool = True) -> Any:
    """The share of observations whose highest score is that of the label; or that of a data set.

    Shapes and arguments are those of `nll`; `average=False` gives `(correct, count)`. A score of NaN is wrong.

    The numbers are those of scikit-learn's `accuracy_score` of the predicted classes.

    >>> from fluxion.dialects.knet import accuracy, minibatch
    >>> import fluxion as fx, jax.numpy as jnp
    >>> scores = jnp.array([[2.0, 1.0], [0.3, 0.1], [0.0, 3.0], [5.0, 0.0]])
    >>> float(accuracy(scores, jnp.array([0, 1, 1, 0])))
    0.75
    >>> [int(x) for x in accuracy(scores, jnp.array([0, 1, 1, -1]), average=False)]
    [2, 3]
    >>> x, y = fx.datasets.iris()
    >>> accuracy(lambda x: jnp.eye(3)[jnp.searchsorted(jnp.array([2.5, 4.8]), x[:, 2])], data=minibatch(x, y, 50))
    0.9533333333333334
    """
    return _scored("accuracy", _correct, scores, labels, data, average)


def _correct(scores: Any, labels: Any) -> tuple[Any, Any]:
    scores, labels, counts = _labeled("accuracy", scores, labels)
    right = (jnp.argmax(scores, axis=-1) == labels) & ~jnp.isnan(scores).any(-1)
    return (right & counts).sum(), counts.sum()


def zeroone(scores: Any, labels: Any = None, *, data: Any = None, average: bool = True) -> Any:
    """The share of wrong observations, `1 - accuracy`; `average=False` gives `(wrong, count)`.

    >>> from fluxion.dialects.knet import zeroone
    >>> import jax.numpy as jnp
    >>> float(zeroone(jnp.array([[2.0, 1.0], [0.3, 0.1]]), jnp.array([0, 1])))
    0.5
    """
    if average:
        return 1 - accuracy(scores, labels, data=data)
    correct, count = accuracy(scores, labels, data=data, average=False)
    return count - correct, count


@user_frames
def bce(scores: Any, labels: Any, *, average: bool = True) -> Any:
    """The binary cross entropy of scores before the sigmoid; labels are 0 or 1, of the same shape.

    `average=False` gives `(total, count)`. The numbers are those of torch's `binary_cross_entropy_with_logits`.

    >>> from fluxion.dialects.knet import bce
    >>> import jax.numpy as jnp
    >>> round(float(bce(jnp.array([0.5, -2.0]), jnp.array([1, 0]))), 5)
    0.3005
    """
    losses = logitbinarycrossentropy(scores, labels, agg=lambda x: x)
    return losses.mean() if average else (losses.sum(), losses.size)


@user_frames
def logistic(scores: Any, labels: Any, *, average: bool = True) -> Any:
    """The logistic loss `mean(log(1 + exp(-label * score)))`; labels are -1 or 1, of the same shape.

    `average=False` gives `(total, count)`. The numbers are those of torch's `soft_margin_loss`.

    >>> from fluxion.dialects.knet import logistic
    >>> import jax.numpy as jnp
    >>> round(float(logistic(jnp.array([0.5, -2.0]), jnp.array([1, -1]))), 5)
    0.3005
    """
    scores, labels = jnp.asarray(scores), jnp.asarray(labels)
    if scores.shape != labels.shape:
        raise ShapeError(f"logistic: expected labels of shape {scores.shape}, got {labels.shape}.")
    losses = softplus(-labels * scores)
    return losses.mean() if average else (losses.sum(), losses.size)


# ----------------------------------------------------------------------------------------------------- helpers


def _labeled(caller: str, scores: Any, labels: Any) -> tuple[Array, Array, Array]:
    """Scores, labels, and which of the labels count."""
    scores, labels = jnp.asarray(scores), jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise DTypeError(f"{caller}: expected integer labels, got {labels.dtype}.")
    if scores.shape[:-1] != labels.shape or scores.ndim == 0:
        raise ShapeError(
            f"{caller}: expected scores (..., classes) and labels (...), got {scores.shape} and {labels.shape}."
        )
    return scores, labels, labels != IGNORED


def _scored(
    caller: str, pair: Callable[[Any, Any], tuple[Any, Any]], scores: Any, labels: Any, data: Any, average: bool
) -> Any:
    """The pair `(total, count)` or its quotient, of arrays or of a model over a data set."""
    if data is None and (is_array(scores) or not callable(scores)):
        total, count = pair(scores, labels)
        return total / count if average else (total, count)
    if data is not None and labels is not None:
        raise ArgumentError(f"{caller}: expected labels or data, got both.")
    data = labels if data is None else data
    if not callable(scores) or data is None:
        raise ArgumentError(f"{caller}: expected scores and labels, or a model and a data set.")
    total, count = _over(pair, scores, data)
    if count == 0:
        raise DataError(f"{caller}: expected a data set with a label that counts, got none.")
    total = round(total) if pair is _correct else total
    return total / count if average else (total, count)


def _over(pair: Callable[[Any, Any], tuple[Any, Any]], model: Callable[..., Any], data: Any) -> tuple[float, int]:
    """Total and count over a data set, added up in float64."""
    if isinstance(data, DataLoader):
        data = copy.copy(data)  # to look at the data of a training is no epoch of it
    rows = 0

    def counted() -> Any:
        nonlocal rows
        for batch in DataLoader(data, batch_size=256) if is_arrays(data) else data:
            rows += batch_length(batch)
            yield batch

    def share(part: int) -> Callable[[Any, Any], Any]:
        return lambda prediction, target: pair(prediction, target)[part] / len(target)

    means = evaluate(model, counted(), loss=share(0), metrics={"count": share(1)})
    return means["loss"] * rows, round(means["count"] * rows)
