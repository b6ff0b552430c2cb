"""Weights that make rare classes count as much as frequent ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fluxion.errors import DataError, DTypeError, ShapeError

if TYPE_CHECKING:
    from jaxtyping import Float32


def class_weights(labels: Any, classes: int | None = None) -> Float32[np.ndarray, " classes"]:
    """What each class is to count in a loss so that all classes count alike.

    `n / (k * count)` for a class that `count` of `n` labels have, with `k` classes: over the labels the weights have
    mean 1. A loss takes them by its `agg`, which gets the loss of each example:

    `loss = lambda scores, y: fx.logitcrossentropy(scores, y, agg=lambda each: (weights[y] * each).mean())`

    with `weights` as a JAX array. (`torch.nn.CrossEntropyLoss(weight=...)` divides by the sum of the weights in the
    batch instead of the number of examples.)

    Shapes: labels `(n,)` -> weights `(classes,)`, float32.

    Arguments:
        labels: the class numbers of the training set.
        classes: how many classes there are; one more than the largest label if not given.

    Errors: `DTypeError` for labels that are no whole numbers, `ShapeError` unless they have one axis, `DataError` for
    negative ones, ones from `classes` on, and a class without a label.

    Matches `compute_class_weight("balanced")` of scikit-learn.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> fx.class_weights([0, 0, 0, 1])
    array([0.6666667, 2.       ], dtype=float32)
    >>> weights = jnp.array(fx.class_weights([0, 0, 0, 1]))
    >>> scores, y = jnp.array([[2.0, 0.0], [1.0, 3.0]]), jnp.array([0, 1])
    >>> round(float(fx.logitcrossentropy(scores, y, agg=lambda each: (weights[y] * each).mean())), 4)
    0.1692
    """
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu":
        raise DTypeError(f"class_weights: expected class numbers, got dtype {labels.dtype}.")
    if labels.ndim != 1 or len(labels) == 0:
        raise ShapeError(f"class_weights: expected labels of shape (n,), got {labels.shape}.")
    if labels.min() < 0 or (classes is not None and labels.max() >= classes):
        most = "" if classes is None else f" to {classes - 1}"
        raise DataError(f"class_weights: expected labels from 0{most}, got {labels.min()} to {labels.max()}.")
    counts = np.bincount(labels, minlength=classes or 0)
    if not counts.all():
        raise DataError(f"class_weights: expected labels of every class, there is none of class {counts.argmin()}.")
    return balanced(counts)


def balanced(counts: np.ndarray) -> Float32[np.ndarray, " classes"]:
    """The weights of classes that occur so many times."""
    return (counts.sum() / (len(counts) * counts)).astype(np.float32)
