"""The metrics of `keras.metrics`: numbers that are followed over batches, in `compile` or alone.

Every metric here is a sum over batches and a number made of it: that is what lets `fit` compute them inside the
compiled step (`fluxion.Summed`). Alone, `update_state` adds to the sums, `result` is the number so far, `reset_state`
forgets. A metric of your own adds to variables made by `add_variable`, as in Keras.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fluxion.dialects.keras import losses as keras_losses
from fluxion.dialects.keras.losses import family, found
from fluxion.dialects.keras.metrics.base import Mean, MeanMetricWrapper, Metric, Sum
from fluxion.dialects.keras.metrics.confusion import (
    AUC,
    FalseNegatives,
    FalsePositives,
    Precision,
    PrecisionAtRecall,
    Recall,
    RecallAtPrecision,
    SensitivityAtSpecificity,
    SpecificityAtSensitivity,
    TrueNegatives,
    TruePositives,
)
from fluxion.dialects.keras.metrics.overlap import F1Score, FBetaScore, MeanIoU
from fluxion.dialects.keras.metrics.regression import R2Score, RootMeanSquaredError
from fluxion.dialects.keras.metrics.scores import (
    ACCURACIES,
    accuracy,
    binary_accuracy,
    categorical_accuracy,
    cosine_similarity,
    sparse_categorical_accuracy,
    sparse_top_k_categorical_accuracy,
    top_k_categorical_accuracy,
)
from fluxion.dialects.keras.names import choose

if TYPE_CHECKING:
    from jaxtyping import Array


def _class(name: str, fn: Callable[..., Array], metric_name: str | None = None) -> Any:
    return family(MeanMetricWrapper, name, fn, (), {"name": metric_name or fn.__name__, "dtype": None})


def _named_first(name: str, fn: Callable[..., Array], metric_name: str | None = None) -> Any:
    return family(MeanMetricWrapper, name, fn, ("name", "dtype"), {"name": metric_name or fn.__name__, "dtype": None})


Accuracy = _named_first("Accuracy", accuracy)
BinaryAccuracy = _named_first("BinaryAccuracy", binary_accuracy)
CategoricalAccuracy = _named_first("CategoricalAccuracy", categorical_accuracy)
SparseCategoricalAccuracy = _named_first("SparseCategoricalAccuracy", sparse_categorical_accuracy)
TopKCategoricalAccuracy = _class("TopKCategoricalAccuracy", top_k_categorical_accuracy)
SparseTopKCategoricalAccuracy = _class("SparseTopKCategoricalAccuracy", sparse_top_k_categorical_accuracy)
MeanSquaredError = _named_first("MeanSquaredError", keras_losses.mean_squared_error)
MeanAbsoluteError = _named_first("MeanAbsoluteError", keras_losses.mean_absolute_error)
MeanAbsolutePercentageError = _named_first("MeanAbsolutePercentageError", keras_losses.mean_absolute_percentage_error)
MeanSquaredLogarithmicError = _named_first("MeanSquaredLogarithmicError", keras_losses.mean_squared_logarithmic_error)
LogCoshError = _named_first("LogCoshError", keras_losses.log_cosh, "logcosh")
CosineSimilarity = _named_first("CosineSimilarity", cosine_similarity)
KLDivergence = _named_first("KLDivergence", keras_losses.kl_divergence)
Poisson = _named_first("Poisson", keras_losses.poisson)
BinaryCrossentropy = _named_first("BinaryCrossentropy", keras_losses.binary_crossentropy)
CategoricalCrossentropy = _named_first("CategoricalCrossentropy", keras_losses.categorical_crossentropy)
SparseCategoricalCrossentropy = _named_first(
    "SparseCategoricalCrossentropy", keras_losses.sparse_categorical_crossentropy
)
Hinge = _named_first("Hinge", keras_losses.hinge)
SquaredHinge = _named_first("SquaredHinge", keras_losses.squared_hinge)
CategoricalHinge = _named_first("CategoricalHinge", keras_losses.categorical_hinge)

TABLE: dict[str, Any] = {
    **{f.__name__: f for f in ACCURACIES[1:]},
    **{name: f for name, f in keras_losses.TABLE.items() if not isinstance(f, type)},
    "cosine_similarity": cosine_similarity,
    **{
        c.__name__: c
        for c in (
            Accuracy,
            BinaryAccuracy,
            CategoricalAccuracy,
            SparseCategoricalAccuracy,
            TopKCategoricalAccuracy,
            SparseTopKCategoricalAccuracy,
            MeanSquaredError,
            RootMeanSquaredError,
            MeanAbsoluteError,
            MeanAbsolutePercentageError,
            MeanSquaredLogarithmicError,
            LogCoshError,
            CosineSimilarity,
            R2Score,
            KLDivergence,
            Poisson,
            BinaryCrossentropy,
            CategoricalCrossentropy,
            SparseCategoricalCrossentropy,
            Hinge,
            SquaredHinge,
            CategoricalHinge,
            TruePositives,
            FalsePositives,
            TrueNegatives,
            FalseNegatives,
            Precision,
            Recall,
            SensitivityAtSpecificity,
            SpecificityAtSensitivity,
            PrecisionAtRecall,
            RecallAtPrecision,
            AUC,
            F1Score,
            FBetaScore,
            MeanIoU,
            Mean,
            Sum,
        )
    },
}


def get(identifier: Any) -> Any:
    """The metric that a name, a config, a class, a function or an object stands for.

    >>> from fluxion.dialects import keras
    >>> keras.metrics.get("mae")
    <function mean_absolute_error at ...>
    >>> keras.metrics.get("acuracy")
    Traceback (most recent call last):
        ...
    fluxion.errors.ArgumentError: metric: got 'acuracy'. Did you mean 'accuracy'? There are: ...
    """
    if isinstance(identifier, str) and identifier not in TABLE:
        return choose("metric", identifier, {"accuracy": accuracy, "acc": accuracy, **TABLE})
    return found("metric", identifier, TABLE)


def as_metric(identifier: Any, target_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> Metric:
    """A `Metric` of whatever `compile` was given; "accuracy" by the shapes, as Keras chooses it."""
    if isinstance(identifier, str) and identifier.lower() in ("accuracy", "acc"):
        value: Any = categorical_accuracy
        if output_shape[-1:] == (1,):
            value = binary_accuracy
        elif len(target_shape) < len(output_shape) or (target_shape[-1:] == (1,) and output_shape[-1] > 1):
            value = sparse_categorical_accuracy
    else:
        value = get(identifier)
    if isinstance(value, Metric):
        return value
    return MeanMetricWrapper(value, name=identifier if isinstance(identifier, str) else None)
