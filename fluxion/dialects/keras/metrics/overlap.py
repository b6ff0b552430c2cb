"""Metrics of classes, each against the others: F scores and intersection over union."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from fluxion.dialects.keras.losses import EPSILON
from fluxion.dialects.keras.metrics.arrays import aligned, quotient
from fluxion.dialects.keras.metrics.base import Sums
from fluxion.dialects.keras.names import choose
from fluxion.errors import ArgumentError, ShapeError

if TYPE_CHECKING:
    from jaxtyping import Array


class FBetaScore(Sums):
    """`(1 + beta^2) * precision * recall / (beta^2 * precision + recall)` by class, of arrays `(batch, classes)`.

    `average` is None, "micro", "macro" or "weighted"; without `threshold` the highest score is the predicted class.
    """

    names = ("true_positives", "false_positives", "false_negatives", "intermediate_weights")
    direction = "up"

    def __init__(
        self,
        average: str | None = None,
        beta: float = 1.0,
        threshold: float | None = None,
        name: str = "fbeta_score",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        if average is not None:
            choose("average", average, {kind: kind for kind in ("micro", "macro", "weighted")})
        if beta <= 0:
            raise ArgumentError(f"{type(self).__name__}: expected beta above 0, got {beta!r}.")
        if threshold is not None and not 0 < threshold <= 1:
            raise ArgumentError(f"{type(self).__name__}: expected threshold in (0, 1], got {threshold!r}.")
        self.average, self.beta, self.threshold = average, beta, threshold

    def sums(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> tuple[Array, ...]:
        t, p = (x.astype(jnp.float32) for x in aligned(self.name, y_true, y_pred))
        if t.ndim != 2:
            raise ShapeError(f"{self.name}: expected arrays of shape (batch, classes), got {t.shape}.")
        if self.threshold is None:
            said = (p >= jnp.max(p, axis=-1, keepdims=True)) & (jnp.abs(p) > 1e-9)
        else:
            said = p > self.threshold
        yes = said.astype(t.dtype)
        w = jnp.ones((len(t), 1)) if sample_weight is None else jnp.asarray(sample_weight).reshape(-1, 1)
        axis = None if self.average == "micro" else 0
        terms = (yes * t, yes * (1 - t), (1 - yes) * t, t)
        return tuple(jnp.sum(x * w.astype(t.dtype), axis=axis) for x in terms)

    def value(self, xp: Any, *sums: Any) -> Any:
        tp, fp, fn, count = sums
        precision, recall = tp / (tp + fp + EPSILON), tp / (tp + fn + EPSILON)
        score = precision * recall / (self.beta**2 * precision + recall + EPSILON) * (1 + self.beta**2)
        if self.average == "weighted":
            return xp.sum(score * count / (xp.sum(count) + EPSILON))
        return score if self.average is None else xp.mean(score)

    def get_config(self) -> dict[str, Any]:
        more = {"average": self.average, "beta": self.beta, "threshold": self.threshold}
        return {**super().get_config(), **more}

    def key(self) -> Any:
        return type(self), self.dtype, self.average, self.beta, self.threshold


class F1Score(FBetaScore):
    """`FBetaScore` with `beta=1`: the harmonic mean of precision and recall."""

    def __init__(
        self, average: str | None = None, threshold: float | None = None, name: str = "f1_score", dtype: Any = None
    ) -> None:
        super().__init__(average=average, threshold=threshold, name=name, dtype=dtype)

    def get_config(self) -> dict[str, Any]:
        return {name: value for name, value in super().get_config().items() if name != "beta"}


class MeanIoU(Sums):
    """The mean over classes of intersection over union, of integer classes in `y_true` and `y_pred`.

    With `sparse_y_true=False` or `sparse_y_pred=False` the class is the highest score along the last axis; labels equal
    to `ignore_class` do not count. Classes that never occur are left out.
    """

    names = ("total_confusion_matrix",)
    direction = "up"

    def __init__(
        self,
        num_classes: int,
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_true: bool = True,
        sparse_y_pred: bool = True,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.num_classes, self.ignore_class = num_classes, ignore_class
        self.sparse_y_true, self.sparse_y_pred = sparse_y_true, sparse_y_pred
        self.add_variables([(num_classes, num_classes)])

    def sums(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> tuple[Array, ...]:
        t = jnp.asarray(y_true) if self.sparse_y_true else jnp.argmax(jnp.asarray(y_true), axis=-1)
        p = jnp.asarray(y_pred) if self.sparse_y_pred else jnp.argmax(jnp.asarray(y_pred), axis=-1)
        t, p = (x.astype(jnp.int32).reshape(-1) for x in (t, p))
        if t.shape != p.shape:
            raise ShapeError(
                f"{self.name}: expected as many classes in y_true as in y_pred, got {t.size} and {p.size}."
            )
        w = jnp.ones(t.shape) if sample_weight is None else jnp.asarray(sample_weight).reshape(-1)
        if self.ignore_class is not None:
            w = jnp.where(t == self.ignore_class, 0, w)
        zero = jnp.zeros((self.num_classes,) * 2)
        return (zero.at[t, p].add(w.astype(jnp.float32), mode="drop"),)

    def value(self, xp: Any, *sums: Any) -> Any:
        matrix = sums[0]
        union = matrix.sum(0) + matrix.sum(1) - xp.diagonal(matrix)
        known = union > 0
        scores = quotient(xp, xp.diagonal(matrix), union)
        return quotient(xp, xp.sum(xp.where(known, scores, 0.0)), xp.sum(known) * 1.0)

    def get_config(self) -> dict[str, Any]:
        more: dict[str, Any] = {"num_classes": self.num_classes, "ignore_class": self.ignore_class}
        more |= {"sparse_y_true": self.sparse_y_true, "sparse_y_pred": self.sparse_y_pred}
        return {**super().get_config(), **more}
