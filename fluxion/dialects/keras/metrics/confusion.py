"""Metrics of decisions between yes and no: counts at thresholds, and what is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.dialects.keras.losses import EPSILON
from fluxion.dialects.keras.metrics.arrays import aligned, quotient
from fluxion.dialects.keras.metrics.base import Sums
from fluxion.dialects.keras.names import choose
from fluxion.errors import ArgumentError, ShapeError

if TYPE_CHECKING:
    from jaxtyping import Array


class _Confusion(Sums):
    """Counts at thresholds; `kinds` are those of "tp", "fp", "tn", "fn" that are kept."""

    kinds: ClassVar[tuple[str, ...]] = ("tp", "fp", "tn", "fn")
    written: ClassVar[dict[str, str]] = {
        "tp": "true_positives",
        "fp": "false_positives",
        "tn": "true_negatives",
        "fn": "false_negatives",
    }

    def __init__(self, thresholds: Sequence[float], name: str | None, dtype: Any) -> None:
        super().__init__(name=name, dtype=dtype)
        self.thresholds = list(thresholds)
        self.top_k: int | None = None
        self.class_id: int | None = None
        even = np.arange(len(self.thresholds), dtype=np.float32) / max(len(self.thresholds) - 1, 1)
        self.evenly = len(self.thresholds) >= 3 and np.allclose(self.thresholds, even, atol=2 * EPSILON)
        self.add_variables([(len(self.thresholds),)] * len(self.names))

    def sums(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> tuple[Array, ...]:
        t, p = (x.astype(jnp.float32) for x in aligned(self.name, y_true, y_pred))
        weight = None if sample_weight is None else jnp.asarray(sample_weight).astype(jnp.float32)
        if weight is not None:
            weight = weight.reshape(weight.shape + (1,) * (t.ndim - weight.ndim)) if weight.ndim < t.ndim else weight
        if self.top_k is not None:
            kept = jnp.sum(jax.nn.one_hot(jax.lax.top_k(p, self.top_k)[1], p.shape[-1]), axis=-2)
            p = p * kept - 1e10 * (1 - kept)
        if self.class_id is not None:
            if p.ndim < 2:
                raise ShapeError(f"{self.name}: expected y_pred (batch, classes) for class_id, got {p.shape}.")
            t, p = t[..., self.class_id, None], p[..., self.class_id, None]
        w = jnp.ones_like(t) if weight is None else jnp.broadcast_to(weight, t.shape)
        counts = self.counts((t != 0).astype(t.dtype), p, w)
        return tuple(counts[kind] for kind in self.kinds)

    def counts(self, t: Array, p: Array, w: Array) -> dict[str, Array]:
        """The four counts at each threshold, of labels 0 and 1."""
        t, p, w = t.reshape(-1), p.reshape(-1), w.reshape(-1)
        true, false = t * w, (1 - t) * w
        if self.evenly:
            last = len(self.thresholds) - 1
            bucket = jnp.ceil(jnp.clip(p, 0, 1) * last).astype(jnp.int32) - 1
            bucket = jnp.maximum(bucket, 0) if self.thresholds[0] < 0 else bucket
            tp, fp = (self.above(x, bucket) for x in (true, false))
        else:
            above = (p[None] > jnp.asarray(self.thresholds, jnp.float32)[:, None]).astype(jnp.float32)
            tp, fp = above @ true, above @ false
        return {"tp": tp, "fp": fp, "tn": jnp.sum(false) - fp, "fn": jnp.sum(true) - tp}

    def above(self, x: Array, bucket: Array) -> Array:
        sums = jax.ops.segment_sum(x, bucket, len(self.thresholds))
        return jnp.cumsum(sums[::-1])[::-1]

    def key(self) -> Any:
        return type(self), self.dtype, tuple(self.thresholds), self.top_k, self.class_id


def _thresholds(owner: str, thresholds: Any, default: float) -> list[float]:
    if thresholds is None:
        return [default]
    values = [float(t) for t in np.atleast_1d(np.asarray(thresholds, float))]
    if any(not 0 <= t <= 1 for t in values):
        raise ArgumentError(f"{owner}: expected thresholds in [0, 1], got {values}.")
    return values


class _Count(_Confusion):
    names = ("accumulator",)

    def __init__(self, thresholds: Any = None, name: str | None = None, dtype: Any = None) -> None:
        super().__init__(_thresholds(type(self).__name__, thresholds, 0.5), name, dtype)

    def value(self, xp: Any, *sums: Any) -> Any:
        return sums[0][0] if len(self.thresholds) == 1 else sums[0]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "thresholds": self.thresholds}


class TruePositives(_Count):
    """How many are rightly above the threshold, 0.5 by default."""

    kinds = ("tp",)


class FalsePositives(_Count):
    """How many are wrongly above the threshold."""

    kinds = ("fp",)


class TrueNegatives(_Count):
    """How many are rightly at or below the threshold."""

    kinds = ("tn",)


class FalseNegatives(_Count):
    """How many are wrongly at or below the threshold."""

    kinds = ("fn",)


class _Share(_Confusion):
    def __init__(
        self,
        thresholds: Any = None,
        top_k: int | None = None,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        default = 0.5 if top_k is None else -1e10
        super().__init__(_thresholds(type(self).__name__, thresholds, default), name, dtype)
        self.init_thresholds, self.top_k, self.class_id = thresholds, top_k, class_id

    def value(self, xp: Any, *sums: Any) -> Any:
        share = quotient(xp, sums[0], sums[0] + sums[1])
        return share[0] if len(self.thresholds) == 1 else share

    def get_config(self) -> dict[str, Any]:
        more = {"thresholds": self.init_thresholds, "top_k": self.top_k, "class_id": self.class_id}
        return {**super().get_config(), **more}


class Precision(_Share):
    """Of those above the threshold (0.5), or among the `top_k`, the share that is right.

    >>> from fluxion.dialects import keras
    >>> float(keras.metrics.Precision()([0, 1, 1, 1], [0.9, 0.8, 0.7, 0.1])).__round__(4)
    0.6667
    """

    kinds, names, direction = ("tp", "fp"), ("true_positives", "false_positives"), "up"


class Recall(_Share):
    """Of the positives, the share that is above the threshold (0.5), or among the `top_k`."""

    kinds, names, direction = ("tp", "fn"), ("true_positives", "false_negatives"), "up"


class _AtConstraint(_Confusion):
    """The best of one rate where another is at least a given value."""

    names = ("true_positives", "false_positives", "true_negatives", "false_negatives")
    direction = "up"
    argument: ClassVar[str] = ""

    def __init__(self, wanted: float, num_thresholds: int, class_id: int | None, name: str | None, dtype: Any) -> None:
        owner = type(self).__name__
        if not 0 <= wanted <= 1:
            raise ArgumentError(f"{owner}: expected {self.argument} in [0, 1], got {wanted!r}.")
        if num_thresholds < 1:
            raise ArgumentError(f"{owner}: expected at least 1 for num_thresholds, got {num_thresholds!r}.")
        inner = [(i + 1) / (num_thresholds - 1) for i in range(num_thresholds - 2)]
        super().__init__([0.5] if num_thresholds == 1 else [0.0, *inner, 1.0], name, dtype)
        self.wanted, self.num_thresholds, self.class_id = wanted, num_thresholds, class_id

    def rates(self, xp: Any, *sums: Any) -> tuple[Any, Any]:
        """What is to be at least `wanted`, and what is to be as large as possible."""
        raise NotImplementedError

    def value(self, xp: Any, *sums: Any) -> Any:
        bound, free = self.rates(xp, *sums)
        return xp.max(xp.where(bound >= self.wanted, free, 0.0))

    def get_config(self) -> dict[str, Any]:
        more = {self.argument: self.wanted, "num_thresholds": self.num_thresholds, "class_id": self.class_id}
        return {**super().get_config(), **more}

    def key(self) -> Any:
        return super().key(), self.wanted


class SensitivityAtSpecificity(_AtConstraint):
    """The best sensitivity at a specificity of at least `specificity`."""

    argument = "specificity"

    def __init__(
        self,
        specificity: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(specificity, num_thresholds, class_id, name, dtype)

    def rates(self, xp: Any, *sums: Any) -> tuple[Any, Any]:
        tp, fp, tn, fn = sums
        return quotient(xp, tn, tn + fp), quotient(xp, tp, tp + fn)


class SpecificityAtSensitivity(_AtConstraint):
    """The best specificity at a sensitivity of at least `sensitivity`."""

    argument = "sensitivity"

    def __init__(
        self,
        sensitivity: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(sensitivity, num_thresholds, class_id, name, dtype)

    def rates(self, xp: Any, *sums: Any) -> tuple[Any, Any]:
        tp, fp, tn, fn = sums
        return quotient(xp, tp, tp + fn), quotient(xp, tn, tn + fp)


class PrecisionAtRecall(_AtConstraint):
    """The best precision at a recall of at least `recall`."""

    argument = "recall"

    def __init__(
        self,
        recall: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(recall, num_thresholds, class_id, name, dtype)

    def rates(self, xp: Any, *sums: Any) -> tuple[Any, Any]:
        tp, fp, _, fn = sums
        return quotient(xp, tp, tp + fn), quotient(xp, tp, tp + fp)


class RecallAtPrecision(_AtConstraint):
    """The best recall at a precision of at least `precision`."""

    argument = "precision"

    def __init__(
        self,
        precision: float,
        num_thresholds: int = 200,
        class_id: int | None = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(precision, num_thresholds, class_id, name, dtype)

    def rates(self, xp: Any, *sums: Any) -> tuple[Any, Any]:
        tp, fp, _, fn = sums
        return quotient(xp, tp, tp + fp), quotient(xp, tp, tp + fn)


class AUC(_Confusion):
    """The area under a curve, by sums over `num_thresholds` thresholds.

    `curve` is "ROC" or "PR", `summation_method` "interpolation", "minoring" or "majoring". One yes or no per example;
    `multi_label` is not supported here.

    >>> from fluxion.dialects import keras
    >>> float(keras.metrics.AUC()([0, 0, 1, 1], [0, 0.5, 0.3, 0.9]))
    0.75
    """

    names = ("true_positives", "false_positives", "true_negatives", "false_negatives")
    direction = "up"

    def __init__(
        self,
        num_thresholds: int = 200,
        curve: str = "ROC",
        summation_method: str = "interpolation",
        name: str | None = None,
        dtype: Any = None,
        thresholds: Sequence[float] | None = None,
        multi_label: bool = False,
        num_labels: int | None = None,
        label_weights: Any = None,
        from_logits: bool = False,
    ) -> None:
        if multi_label or num_labels or label_weights is not None:
            raise ArgumentError("AUC: multi_label, num_labels and label_weights are not supported; use class by class.")
        if thresholds is None and num_thresholds <= 1:
            raise ArgumentError(f"AUC: expected num_thresholds of at least 2, got {num_thresholds!r}.")
        given = None if thresholds is None else sorted(_thresholds("AUC", thresholds, 0.5))
        count = num_thresholds if given is None else len(given) + 2
        inner = [(i + 1) / (count - 1) for i in range(count - 2)] if given is None else given
        super().__init__([-EPSILON, *inner, 1 + EPSILON], name, dtype)
        self.num_thresholds, self.given, self.from_logits = count, given, from_logits
        self.curve = choose("curve", curve.upper(), {"ROC": "ROC", "PR": "PR"})
        methods = ("interpolation", "minoring", "majoring")
        self.summation_method = choose("summation_method", summation_method.lower(), {m: m for m in methods})

    def sums(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> tuple[Array, ...]:
        y_pred = jnp.asarray(y_pred)
        return super().sums(y_true, jax.nn.sigmoid(y_pred) if self.from_logits else y_pred, sample_weight)

    def value(self, xp: Any, *sums: Any) -> Any:
        tp, fp, tn, fn = sums
        recall = quotient(xp, tp, tp + fn)
        if self.curve == "PR" and self.summation_method == "interpolation":
            return self.interpolated(xp, tp, tp + fp, tp + fn)
        x, y = (quotient(xp, fp, fp + tn), recall) if self.curve == "ROC" else (recall, quotient(xp, tp, tp + fp))
        height = {
            "interpolation": lambda: (y[:-1] + y[1:]) / 2,
            "minoring": lambda: xp.minimum(y[:-1], y[1:]),
            "majoring": lambda: xp.maximum(y[:-1], y[1:]),
        }[self.summation_method]()
        return xp.sum((x[:-1] - x[1:]) * height)

    def interpolated(self, xp: Any, tp: Any, chosen: Any, positives: Any) -> Any:
        """The area below precision over recall, interpolated between counts (Davis and Goadrich 2006)."""
        step = tp[:-1] - tp[1:]
        slope = quotient(xp, step, xp.maximum(chosen[:-1] - chosen[1:], 0))
        intercept = tp[1:] - slope * chosen[1:]
        both = (chosen[:-1] > 0) & (chosen[1:] > 0)
        ratio = xp.where(both, quotient(xp, chosen[:-1], xp.maximum(chosen[1:], 0)), 1.0)
        return xp.sum(quotient(xp, slope * (step + intercept * xp.log(ratio)), xp.maximum(positives[1:], 0)))

    def get_config(self) -> dict[str, Any]:
        more: dict[str, Any] = {"num_thresholds": self.num_thresholds, "curve": self.curve}
        more |= {"summation_method": self.summation_method, "from_logits": self.from_logits}
        return {**super().get_config(), **more, **({} if self.given is None else {"thresholds": self.given})}

    def key(self) -> Any:
        return super().key(), self.curve, self.summation_method, self.from_logits
