"""Errors of numbers that are no means over examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from fluxion.dialects.keras.metrics.arrays import aligned
from fluxion.dialects.keras.metrics.base import Mean, Sums
from fluxion.dialects.keras.names import choose
from fluxion.errors import ShapeError

if TYPE_CHECKING:
    from jaxtyping import Array


class RootMeanSquaredError(Mean):
    """The root of the mean of the squares over all batches.

    >>> from fluxion.dialects import keras
    >>> round(float(keras.metrics.RootMeanSquaredError()([0.0, 0.0], [3.0, 4.0])), 4)
    3.5355
    """

    direction = "down"

    def __init__(self, name: str = "root_mean_squared_error", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)

    def sums(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> tuple[Array, ...]:  # type: ignore[override]
        t, p = aligned(self.name, y_true, y_pred)
        return super().sums((p - t.astype(p.dtype)) ** 2, sample_weight)

    def value(self, xp: Any, *sums: Any) -> Any:
        return xp.sqrt(super().value(xp, *sums))

    def key(self) -> Any:
        return type(self), self.dtype


class R2Score(Sums):
    """The share of the variance that is explained, over all batches; `y` has shape `(batch, outputs)`.

    `class_aggregation` is "uniform_average", "variance_weighted_average" or None, `num_regressors` adjusts the score.
    """

    names = ("squared_sum", "sum", "residual", "count", "num_samples")
    direction = "up"

    def __init__(
        self,
        class_aggregation: str | None = "uniform_average",
        num_regressors: int = 0,
        name: str = "r2_score",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        if class_aggregation is not None:
            kinds = ("uniform_average", "variance_weighted_average")
            choose("class_aggregation", class_aggregation, {kind: kind for kind in kinds})
        self.class_aggregation, self.num_regressors = class_aggregation, num_regressors

    def sums(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> tuple[Array, ...]:
        t, p = (x.astype(jnp.float32) for x in aligned(self.name, y_true, y_pred))
        if t.ndim != 2:
            raise ShapeError(f"{self.name}: expected y of shape (batch, outputs), got {t.shape}.")
        w = (
            jnp.ones_like(t)
            if sample_weight is None
            else jnp.broadcast_to(jnp.asarray(sample_weight).reshape(-1, 1), t.shape)
        )
        sums = [jnp.sum(x, axis=0) for x in (w * t**2, w * t, w * (t - p) ** 2, w)]
        return *sums, jnp.asarray(t.size, jnp.float32)

    def value(self, xp: Any, *sums: Any) -> Any:
        squares, total, residual, count, size = sums
        variance = squares - total * (total / count)
        scores = 1 - residual / variance
        scores = xp.where(xp.isinf(scores), 0.0, scores)
        score = scores
        if self.class_aggregation == "uniform_average":
            score = xp.mean(scores)
        elif self.class_aggregation is not None:
            score = xp.sum(variance * scores) / xp.sum(variance)
        if self.num_regressors and self.num_regressors < size - 1:
            score = 1 - (1 - score) * (size - 1) / (size - self.num_regressors - 1)
        return score

    def get_config(self) -> dict[str, Any]:
        more = {"class_aggregation": self.class_aggregation, "num_regressors": self.num_regressors}
        return {**super().get_config(), **more}
