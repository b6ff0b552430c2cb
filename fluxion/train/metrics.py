"""How good predictions are, in numbers made for people.

`accuracy` and its kin are pure functions of `(prediction, target)` and run inside a compiled step. The rest reads
whole data sets on the host, in NumPy and float64, for reports: a confusion matrix, precision and recall, R^2.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.errors import ArgumentError, DataError, DTypeError, ShapeError
from fluxion.ops import checks

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Shaped

    Agg = Callable[[Array], Array]

# Inside a compiled step


def accuracy(
    prediction: Shaped[Array, ...],
    target: Shaped[Array, ...],
    *,
    threshold: float | None = None,
    agg: Agg = jnp.mean,
) -> Array:
    """The share of right predictions, `agg(argmax(prediction, -1) == label)`.

    Which reading applies follows from the arguments:

    * scores `(..., classes)` (logits or probabilities) and integer labels `(...)`: the highest score is the
      predicted class, the first of equal ones;
    * scores `(..., classes)` and one-hot targets of the same shape, whose rows sum to 1: the same;
    * `threshold` given, any two arrays of one shape: each number is a yes-or-no decision, yes where
      `prediction > threshold`; the target is 0 or 1. Give 0 for logits and 0.5 for probabilities;
    * integer or boolean prediction: it holds the predicted labels themselves, one for each of the target's.

    A prediction of NaN is wrong.

    Arguments:
        prediction: what the model says.
        target: what is true.
        threshold: for decisions; there is no default, since that for logits is wrong for probabilities.
        agg: makes the 1s and 0s (float32) into the result: `jnp.mean`, or `fx.identity` to keep them.

    Errors: `ShapeError` for other shapes, `DTypeError` for labels that are not integers, `ArgumentError` where the
    threshold is missing, `DataError` for a label out of range or a target that is not one-hot; under a trace, where
    values cannot be seen, these two yield NaN.

    The numbers are those of scikit-learn's `accuracy_score` of the predicted classes.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> float(fx.accuracy(jnp.array([[2.0, 1.0], [0.3, 0.1], [0.0, 3.0], [5.0, 0.0]]), jnp.array([0, 1, 1, 0])))
    0.75
    >>> float(fx.accuracy(jnp.array([-1.5, 0.2]), jnp.array([0, 1]), threshold=0))
    1.0
    """
    p, t = _pair("accuracy", prediction, target)
    if threshold is not None:
        return agg(_decisions(p, t, threshold))
    if not jnp.issubdtype(p.dtype, jnp.inexact):
        return agg(_equal_labels(p, t))
    if p.shape == t.shape and (p.ndim < 2 or p.shape[-1] == 1):
        raise ArgumentError(
            f"accuracy: expected a threshold for yes-or-no predictions of shape {p.shape}, got none. "
            "Give threshold=0 for logits or threshold=0.5 for probabilities."
        )
    scores, labels, valid = _scores_and_labels("accuracy", p, t)
    right = (jnp.argmax(scores, axis=-1) == labels) & ~jnp.isnan(scores).any(-1)
    return agg(jnp.where(valid, right.astype(jnp.float32), jnp.nan))


def topk_accuracy(
    prediction: Shaped[Array, "... classes"], target: Shaped[Array, ...], *, k: int = 5, agg: Agg = jnp.mean
) -> Array:
    """The share of examples whose true class is among the `k` highest scores.

    `agg(rank < k)`, where `rank` is the number of classes with a higher score, or an equal one and a lower index;
    so `k=1` is `accuracy`.

    Shapes: scores `(..., classes)` with integer labels `(...)` or one-hot targets `(..., classes)`. NaN scores count
    as wrong.

    Errors: those of `accuracy`; `ArgumentError` unless `1 <= k <= classes`.

    The numbers are those of scikit-learn's `top_k_accuracy_score`, ties aside.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> scores = jnp.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])
    >>> float(fx.topk_accuracy(scores, jnp.array([1, 0]), k=2))
    0.5
    """
    scores, labels, valid = _scores_and_labels("topk_accuracy", *_pair("topk_accuracy", prediction, target))
    classes = scores.shape[-1]
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 1 <= k <= classes:
        raise ArgumentError(f"topk_accuracy: expected a whole number k from 1 to {classes}, the classes, got {k!r}.")
    index = jax.lax.broadcasted_iota(labels.dtype, scores.shape, scores.ndim - 1)
    own = labels[..., None]
    score = jnp.sum(jnp.where(index == own, scores, 0), axis=-1, keepdims=True)
    rank = jnp.sum((scores > score) | ((scores == score) & (index < own)), axis=-1)
    right = (rank < k) & ~jnp.isnan(scores).any(-1)
    return agg(jnp.where(valid, right.astype(jnp.float32), jnp.nan))


def r2_score(prediction: Shaped[Array, "n ..."], target: Shaped[Array, "n ..."]) -> Array:
    """The share of the target's variance that is explained, `1 - sum((target - p)^2) / sum((target - mean)^2)`.

    Shapes: both `(n,)`, or both `(n, ...)`: then the mean over the columns. A constant column scores 1 where it is
    predicted exactly and 0 where it is not; a single example gives NaN, for it has no variance.

    This is a property of a whole data set. The mean over batches of `r2_score` is not the `r2_score` of their union:
    predict everything first.

    Errors: `ShapeError` where the shapes differ, `DataError` for NaN in the target.

    The numbers are those of scikit-learn's `r2_score`, which takes its arguments the other way around.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> round(float(fx.r2_score(jnp.array([2.5, 0.0, 2.0, 8.0]), jnp.array([3.0, -0.5, 2.0, 7.0]))), 4)
    0.9486
    """
    prediction, target = checks.pair("r2_score", prediction, target)
    if prediction.ndim == 0:
        raise ShapeError("r2_score: expected arrays of shape (n,) or (n, ...), got single numbers.")
    if prediction.shape[0] < 2:
        return jnp.full((), jnp.nan, prediction.dtype)
    centered = target - jnp.broadcast_to(jnp.mean(target, axis=0, keepdims=True), target.shape)
    return _explained(jnp.sum((target - prediction) ** 2, axis=0), jnp.sum(centered**2, axis=0), jnp)


# Reports, on the host


class ClassScores(NamedTuple):
    """What `precision_recall` returns: one number per class in each array."""

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray


def confusion_matrix(predicted_labels: Any, labels: Any, classes: int | Sequence[Hashable]) -> np.ndarray:
    """How often each class was taken for each: `matrix[i, j]` counts the examples of class i predicted as class j.

    Shapes: two arrays `(n,)` (or any one shape) -> `(classes, classes)`, int64: rows true, columns predicted.

    Arguments:
        predicted_labels: the predicted classes, `fx.onecold(scores)`.
        labels: the true classes.
        classes: their number, for labels 0, ..., classes - 1; or all the labels there are, in order.

    Errors: `ShapeError` where the shapes differ; `DataError` for a label that is none of the classes.

    The numbers are those of scikit-learn's `confusion_matrix`, which takes the true labels first.

    >>> import fluxion as fx
    >>> fx.confusion_matrix([0, 2, 2, 1], [0, 1, 2, 1], 3)
    array([[1, 0, 0],
           [0, 1, 1],
           [0, 0, 1]])
    """
    predicted, true = np.asarray(predicted_labels), np.asarray(labels)
    if predicted.shape != true.shape:
        raise ShapeError(
            f"confusion_matrix: expected predicted labels of shape {true.shape}, got {predicted.shape}. "
            "Give one predicted label (fx.onecold of the scores) for each true one."
        )
    names = _class_names(classes)
    rows, columns = _class_indices("label", true, names), _class_indices("predicted label", predicted, names)
    count = len(names)
    return np.bincount(rows * count + columns, minlength=count * count).reshape(count, count)


def precision_recall(confusion: Any) -> ClassScores:
    """Precision, recall, F1 and support of each class, from a confusion matrix.

    With `hits = confusion[i, i]`: `precision = hits / predicted as i`, `recall = hits / examples of i`,
    `f1 = 2 hits / (predicted as i + examples of i)`, `support = examples of i`. Each is 0 where its denominator is 0.

    Shapes: `(classes, classes)`, rows true and columns predicted -> four arrays `(classes,)`, `support` int64.

    Errors: `ShapeError` unless the matrix is square; `DataError` for counts that are negative or not whole.

    The numbers are those of scikit-learn's `precision_recall_fscore_support(zero_division=0)`.

    >>> from fluxion.train.metrics import precision_recall
    >>> scores = precision_recall([[8, 2], [4, 6]])
    >>> scores.precision.round(3), scores.recall.round(3), scores.support
    (array([0.667, 0.75 ]), array([0.8, 0.6]), array([10, 10]))
    """
    matrix = square_counts("precision_recall", confusion)
    hits, predicted, support = np.diagonal(matrix), matrix.sum(0), matrix.sum(1)
    return ClassScores(
        _ratio(hits, predicted), _ratio(hits, support), _ratio(2 * hits, predicted + support), support.astype(np.int64)
    )


def regression_report(prediction: Any, target: Any) -> dict[str, float]:
    """`{"mae": mean |p - t|, "rmse": sqrt(mean (p - t)^2), "r2": r2_score}` in float64, all finite data required.

    Shapes: both `(n,)`, or both `(n, ...)`. `mae` and `rmse` are in the target's units; `r2` is NaN for n = 1.

    Errors: `ShapeError` where the shapes differ or n is 0; `DataError` for NaN or infinity in either.

    >>> from fluxion.train.metrics import regression_report
    >>> regression_report([1.0, 2.0, 6.0], [1.0, 2.0, 3.0])
    {'mae': 1.0, 'rmse': 1.7320508075688772, 'r2': -3.5}
    """
    p, t = finite_pair("regression_report", prediction, target)
    error = p - t
    residual, total = np.sum(error**2, axis=0), np.sum((t - t.mean(axis=0, keepdims=True)) ** 2, axis=0)
    return {
        "mae": float(np.mean(np.abs(error))),
        "rmse": float(np.sqrt(np.mean(error**2))),
        "r2": float(_explained(residual, total, np)) if len(t) > 1 else float("nan"),
    }


# Helpers


def finite_pair(name: str, prediction: Any, target: Any) -> tuple[np.ndarray, np.ndarray]:
    """Two arrays `(n, ...)` of one shape in float64, every value finite, n > 0."""
    p, t = (np.asarray(checks.numbers(name, what, x)) for what, x in _named(prediction, target))
    if p.shape != t.shape or p.ndim == 0 or p.size == 0:
        raise ShapeError(
            f"{name}: expected a prediction and a target of one shape (n, ...), got {p.shape} and {t.shape}. "
            "Reshape one of them; nothing broadcasts."
        )
    for what, x in _named(p, t):
        if jnp.issubdtype(x.dtype, jnp.complexfloating):
            raise DTypeError(f"{name}: expected a real {what}, got dtype {x.dtype}. Take its real part or its modulus.")
        checks.refuse(name, what, x, ~np.isfinite(x), "is not finite.", "Remove it before the report.")
    return p.astype(np.float64), t.astype(np.float64)


def square_counts(name: str, confusion: Any) -> np.ndarray:
    """A confusion matrix as a square array of int64."""
    matrix = np.asarray(confusion)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.size == 0:
        raise ShapeError(f"{name}: expected a confusion matrix of shape (classes, classes), got {matrix.shape}.")
    if not np.issubdtype(matrix.dtype, np.number) or np.issubdtype(matrix.dtype, np.complexfloating):
        raise DTypeError(f"{name}: expected a confusion matrix of counts, got dtype {matrix.dtype}.")
    bad = ~((matrix >= 0) & (matrix == np.floor(matrix)) & np.isfinite(matrix))
    checks.refuse(name, "count", matrix, bad, "is no number of examples. Give the matrix before any normalization.")
    return matrix.astype(np.int64)


def _named(prediction: Any, target: Any) -> tuple[tuple[str, Any], tuple[str, Any]]:
    return ("prediction", prediction), ("target", target)


def _pair(name: str, prediction: Any, target: Any) -> tuple[Any, Any]:
    p, t = (checks.numbers(name, what, x) for what, x in _named(prediction, target))
    checks.nonempty(name, p)
    return p, t


def _decisions(prediction: Any, target: Any, threshold: float) -> Array:
    if prediction.shape != target.shape:
        raise ShapeError(
            f"accuracy: expected a target of shape {prediction.shape} (one decision per number, as threshold is "
            f"given), got {target.shape}. Reshape one of them; metrics never broadcast."
        )
    binary = checks.Rule(lambda x: (x == 0) | (x == 1), "is neither 0 nor 1.")
    truth = checks.held("accuracy", "target", target, jnp.float32, binary)
    right = (jnp.asarray(prediction) > threshold) == (truth == 1)
    right = right & ~jnp.isnan(jnp.asarray(prediction))
    return jnp.where((truth == 0) | (truth == 1), right.astype(jnp.float32), jnp.nan)


def _equal_labels(prediction: Any, target: Any) -> Array:
    if prediction.shape != target.shape:
        raise ShapeError(
            f"accuracy: expected a target of shape {prediction.shape} (one label per predicted label), "
            f"got {target.shape}. Give floating scores of shape (..., classes), or as many labels."
        )
    if jnp.issubdtype(target.dtype, jnp.inexact):
        raise DTypeError(
            f"accuracy: expected integer labels to compare with the predicted labels, got {target.dtype}. "
            "Convert them with target.astype(int)."
        )
    return (jnp.asarray(prediction) == jnp.asarray(target)).astype(jnp.float32)


def _scores_and_labels(name: str, prediction: Any, target: Any) -> tuple[Array, Array, Bool[Array, ...]]:
    """Scores `(..., classes)`, labels `(...)`, and where the labels are such; one-hot targets become labels."""
    shape = prediction.shape
    if prediction.ndim == 0 or shape[-1] < 2 or target.shape not in (shape, shape[:-1]):
        raise ShapeError(
            f"{name}: expected scores of shape (..., classes) with integer labels of shape {shape[:-1]} or one-hot "
            f"targets of shape {shape}, got shapes {shape} and {target.shape}. Reshape one of them; metrics never "
            "broadcast."
        )
    if jnp.issubdtype(prediction.dtype, jnp.complexfloating):
        raise DTypeError(f"{name}: expected real scores, got dtype {prediction.dtype}. Take the modulus.")
    scores = jnp.asarray(prediction)
    if target.shape != shape:
        return scores, *checks.class_labels(name, target, shape[-1], f"give one-hot targets of shape {shape}")
    # Rows of smoothed labels sum to 1 as well; rows with several ones are decisions, and have no one true class.
    target_dtype = checks.compute_dtype(name, target.dtype)
    hot = checks.held(name, "target", target, target_dtype)
    valid = jnp.abs(hot.sum(-1) - 1) < 1e-2
    values = checks.known(target)
    if values is not None:
        sums = values.astype(np.float64).sum(-1)
        bad = abs(sums - 1) >= 1e-2
        if bad.any():
            where = int(np.argmax(bad))
            raise DataError(
                f"{name}: expected one-hot targets, got a row that sums to {checks.shown(sums.flat[where])} at index "
                f"{checks.index_text(sums, where)}. Give threshold=... where each class is its own yes or no."
            )
    return scores, jnp.argmax(hot, axis=-1), valid


def _explained(residual: Any, total: Any, xp: Any) -> Any:
    """Mean over columns of `1 - residual / total`, where `total` is 0: 1 if `residual` is, else 0."""
    constant = total == 0
    score = 1 - residual / xp.where(constant, 1, total)
    return xp.mean(xp.where(constant, xp.where(residual == 0, 1.0, 0.0 * residual), score))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(part.shape), where=whole != 0)


def _class_names(classes: int | Sequence[Hashable]) -> Sequence[Hashable]:
    if isinstance(classes, int | np.integer):
        if classes < 1:
            raise ArgumentError(f"confusion_matrix: expected at least 1 class, got {classes}.")
        return range(int(classes))
    names = list(classes)
    if len(set(names)) != len(names) or not names:
        raise ArgumentError(f"confusion_matrix: expected the classes, each once, got {classes!r}.")
    return names


def _class_indices(what: str, labels: np.ndarray, names: Sequence[Hashable]) -> np.ndarray:
    """The position of each label among `names`, flat."""
    if isinstance(names, range):
        if not (np.issubdtype(labels.dtype, np.integer) or labels.dtype == bool):
            if labels.size:
                raise DTypeError(
                    f"confusion_matrix: expected integer {what}s, got dtype {labels.dtype}. "
                    "Take fx.onecold of scores; for labels that are names, give the list of all names as `classes`."
                )
            labels = labels.astype(np.int64)
        bad = (labels < 0) | (labels >= len(names)) if labels.dtype != bool else np.zeros(labels.shape, bool)
        checks.refuse("confusion_matrix", what, labels, bad, f"is outside [0, {len(names)}).")
        return labels.reshape(-1).astype(np.int64)
    position = {name: i for i, name in enumerate(names)}
    found = [position.get(label, -1) for label in labels.reshape(-1).tolist()]
    if -1 in found:
        where = found.index(-1)
        raise DataError(
            f"confusion_matrix: {what} {labels.reshape(-1).tolist()[where]!r} at index "
            f"{checks.index_text(labels, where)} is none of the {len(names)} classes."
        )
    return np.asarray(found, dtype=np.int64)
