"""Functions of `(y_true, y_pred)` that are higher for better predictions, a value per example."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from fluxion.dialects.keras.losses import unit
from fluxion.dialects.keras.metrics.arrays import aligned, label_pair

if TYPE_CHECKING:
    from jaxtyping import Array


def accuracy(y_true: Any, y_pred: Any) -> Array:
    """1 where the two are equal, 0 elsewhere."""
    t, p = aligned("accuracy", y_true, y_pred)
    return (t == p).astype(jnp.float32)


def binary_accuracy(y_true: Any, y_pred: Any, threshold: float = 0.5) -> Array:
    """1 where `y_pred > threshold` is what `y_true` says."""
    t, p = aligned("binary_accuracy", y_true, y_pred)
    return (t == (p > threshold).astype(t.dtype)).astype(jnp.float32)


def categorical_accuracy(y_true: Any, y_pred: Any) -> Array:
    """1 where the highest score is that of the class of one-hot `y_true`."""
    t, p = aligned("categorical_accuracy", y_true, y_pred)
    return (jnp.argmax(t, axis=-1) == jnp.argmax(p, axis=-1)).astype(jnp.float32)


def sparse_categorical_accuracy(y_true: Any, y_pred: Any) -> Array:
    """1 where the highest score is that of the label.

    >>> from fluxion.dialects import keras
    >>> keras.metrics.sparse_categorical_accuracy([0, 1], [[0.9, 0.1], [0.8, 0.2]]).tolist()
    [1.0, 0.0]
    """
    labels, p = label_pair("sparse_categorical_accuracy", y_true, y_pred)
    return (labels == jnp.argmax(p, axis=-1)).astype(jnp.float32)


def top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> Array:
    """1 where the class of one-hot `y_true` is among the `k` highest scores."""
    t, p = aligned("top_k_categorical_accuracy", y_true, y_pred)
    return _among(jnp.argmax(t, axis=-1), p, k)


def sparse_top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> Array:
    """1 where the label is among the `k` highest scores."""
    labels, p = label_pair("sparse_top_k_categorical_accuracy", y_true, y_pred)
    return _among(labels, p, k)


def _among(labels: Any, p: Array, k: int) -> Array:
    own = jnp.take_along_axis(
        p, jnp.asarray(labels)[..., None].astype(jnp.int32), axis=-1, mode="fill", fill_value=jnp.nan
    )
    return (jnp.sum(p > own, axis=-1) < k).astype(jnp.float32) * jnp.isfinite(own[..., 0])


def cosine_similarity(y_true: Any, y_pred: Any, axis: int = -1) -> Array:
    """The cosine of the angle between the two: 1 is alike."""
    t, p = (x.astype(jnp.float32) for x in aligned("cosine_similarity", y_true, y_pred))
    return jnp.sum(unit(t, axis) * unit(p, axis), axis=axis)


ACCURACIES = (
    accuracy,
    binary_accuracy,
    categorical_accuracy,
    sparse_categorical_accuracy,
    top_k_categorical_accuracy,
    sparse_top_k_categorical_accuracy,
)
