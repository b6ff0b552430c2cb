"""The metrics of `keras.metrics`: numbers that are followed over batches, in `compile` or alone.

Every metric here is a sum over batches and a number made of it: that is what lets `fit` compute them inside the
compiled step (`fluxion.Summed`). Alone, `update_state` adds to the sums, `result` is the number so far, `reset_state`
forgets. A metric of your own adds to variables made by `add_variable`, as in Keras.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.dialects.keras import losses as keras_losses
from fluxion.dialects.keras.layer import mask_of
from fluxion.dialects.keras.losses import EPSILON, Loss, family, found, same_rank, unit
from fluxion.dialects.keras.names import automatic_name, choose, known_arguments, snake_case
from fluxion.dialects.keras.variables import Box, Variable, plain
from fluxion.errors import ArgumentError, ShapeError
from fluxion.ops import checks
from fluxion.train.columns import Summed

if TYPE_CHECKING:
    from jaxtyping import Array


class Metric:
    """The base of metrics: variables that `update_state` adds to, and a `result` made of them.

    >>> from fluxion.dialects import keras
    >>> class Positives(keras.metrics.Metric):
    ...     def __init__(self, name="positives"):
    ...         super().__init__(name=name)
    ...         self.count = self.add_variable(shape=(), initializer="zeros", name="count")
    ...     def update_state(self, y_true, y_pred, sample_weight=None):
    ...         self.count.assign_add((y_pred > 0.5).sum())
    ...     def result(self):
    ...         return self.count.value
    >>> metric = Positives()
    >>> float(metric([0, 1], keras.ops.array([0.2, 0.7]))), metric.name
    (1.0, 'positives')
    """

    direction: ClassVar[str | None] = None  # whether more is better, "up", or less, "down"

    def __init__(self, dtype: Any = None, name: str | None = None) -> None:
        self.name = name or automatic_name(snake_case(type(self).__name__))
        self.dtype = str(jnp.dtype("float32" if dtype is None else dtype))
        self._variables: list[Variable] = []

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            parameters = inspect.signature(cls.__init__).parameters.values()
            if not any(p.kind is p.VAR_KEYWORD for p in parameters):
                cls.__init__ = known_arguments(cls.__init__)  # type: ignore[method-assign]

    def add_variable(
        self, shape: Any = (), initializer: Any = "zeros", dtype: Any = None, name: str | None = None
    ) -> Variable:
        """A variable of this metric, which `reset_state` sets to 0."""
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        dtype = dtype or self.dtype
        with jax.ensure_compile_time_eval():  # made while a step is traced, it is an array too
            start = jnp.zeros(shape, dtype) if initializer in ("zeros", None) else initializer
            variable = Variable(start, shape, dtype, trainable=False, name=name)
        variable.path = f"{self.name}/{variable.name}"
        self._variables.append(variable)
        return variable

    add_weight = add_variable

    @property
    def variables(self) -> list[Variable]:
        """The variables, in the order in which they were added."""
        return list(self._variables)

    def update_state(self, *args: Any, **kwargs: Any) -> Any:
        """Add a batch."""
        raise NotImplementedError(f"{type(self).__name__} defines no update_state.")

    def result(self) -> Any:
        """The number over all batches so far."""
        raise NotImplementedError(f"{type(self).__name__} defines no result.")

    def reset_state(self) -> None:
        """Forget all batches."""
        for variable in self._variables:
            variable.assign(jnp.zeros(variable.shape, variable.dtype))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.update_state(*args, **kwargs)
        return self.result()

    def stateless_update_state(self, metric_variables: Sequence[Any], *args: Any, **kwargs: Any) -> list[Any]:
        """New values of the variables after a batch, for these; the metric itself stays as it is."""
        with self.holding(metric_variables):
            self.update_state(*args, **kwargs)
            return [variable.value for variable in self._variables]

    def stateless_result(self, metric_variables: Sequence[Any]) -> Any:
        """The result for these values of the variables."""
        with self.holding(metric_variables):
            return self.result()

    def stateless_reset_state(self) -> list[Any]:
        """The values of the variables before the first batch."""
        with self.holding([variable.value for variable in self._variables]):
            self.reset_state()
            return [variable.value for variable in self._variables]

    @contextlib.contextmanager
    def holding(self, values: Sequence[Any] | None) -> Iterator[None]:
        """The metric with other values in its variables, 0 for None; those it has come back."""
        known = len(self._variables)
        if values is not None and len(values) != known:
            raise ArgumentError(f"{self.name}: expected {known} values, one for each variable, got {len(values)}.")
        before = [variable.value for variable in self._variables]
        given = [jnp.zeros_like(v) for v in before] if values is None else list(map(plain, values))
        try:
            for variable, value in zip(self._variables, given, strict=True):
                variable.value = value
            yield
        finally:
            for variable, value in zip(self._variables, before, strict=False):
                variable.value = value
            for variable in self._variables[len(before) :]:  # made by the first batch
                variable.value = np.zeros(np.shape(variable.value), variable.dtype)

    def summed(self, *args: Any) -> Summed:
        """What a batch adds, for a compiled step."""
        with self.holding(None):
            self.update_state(*args)
            added = [jnp.asarray(variable.value) for variable in self._variables]
        with self.holding([jnp.ones_like(x) for x in added]):
            self.update_state(*args)
            again = [variable.value - 1 for variable in self._variables]
        # Whatever is no sum shows as NaN, which `number` explains.
        pairs = zip(added, again, strict=True)
        held = [jnp.where(jnp.abs(a - b) <= 1e-3 * (1 + jnp.abs(a)), a, jnp.nan) for a, b in pairs]
        return Summed(_flat(held), partial(self.number, shapes=[x.shape for x in added]))

    def number(self, totals: np.ndarray, shapes: Sequence[tuple[int, ...]]) -> Any:
        """The result for sums over all batches."""
        if np.isnan(totals).any():
            raise ArgumentError(
                f"{self.name}: expected update_state to add to the metric's variables, but what it does to them "
                "depends on their values. In compile a metric is a sum over batches; use this one alone."
            )
        with self.holding([jnp.asarray(x, self.dtype) for x in _split(totals, shapes)]):
            return np.asarray(self.result())

    def get_config(self) -> dict[str, Any]:
        """The arguments that make this metric again."""
        return {"name": self.name, "dtype": self.dtype}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """The metric that `get_config` described."""
        return cls(**config)

    def key(self) -> Any:
        """What tells one metric from another in compiled code."""
        return self

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}>"


class _Sums(Metric):
    """A metric written as `sums(...)` of a batch, a tuple of arrays, and `value(xp, *sums)`, its number."""

    names: ClassVar[tuple[str, ...]] = ()

    def sums(self, *args: Any) -> tuple[Array, ...]:
        raise NotImplementedError

    def value(self, xp: Any, *sums: Any) -> Any:
        raise NotImplementedError

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        added = self.sums(*map(_array, args), **{name: _array(value) for name, value in kwargs.items()})
        if not self._variables:
            self.add_variables([x.shape for x in added])
        for variable, x in zip(self._variables, added, strict=True):
            variable.assign_add(x)

    def add_variables(self, shapes: Sequence[tuple[int, ...]]) -> None:
        for name, shape in zip(self.names, shapes, strict=True):
            vars(self)[name] = self.add_variable(shape, name=name)

    def result(self) -> Any:
        if not self._variables:
            return jnp.zeros((), self.dtype)
        values = [variable.value for variable in self._variables]
        if any(isinstance(x, jax.core.Tracer) for x in values):
            return self.value(jnp, *values)
        with np.errstate(all="ignore"):
            return jnp.asarray(self.value(np, *(np.asarray(x) for x in values)), self.dtype)

    def summed(self, *args: Any) -> Summed:
        if type(self).update_state not in _OWN_UPDATES:
            return super().summed(*args)
        added = self.sums(*args)
        return Summed(_flat(added), partial(self.number, shapes=[x.shape for x in added]))

    def number(self, totals: np.ndarray, shapes: Sequence[tuple[int, ...]]) -> Any:
        if type(self).update_state not in _OWN_UPDATES or type(self).result is not _Sums.result:
            return super().number(totals, shapes)
        with np.errstate(all="ignore"):
            return self.value(np, *_split(totals, shapes))


_OWN_UPDATES = {_Sums.update_state}

# ------------------------------------------------------------------------------------------- means


class Sum(_Sums):
    """The sum of all values, times their weights."""

    names = ("total",)

    def __init__(self, name: str = "sum", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self.add_variables([()])

    def sums(self, values: Any, sample_weight: Any = None) -> tuple[Array, ...]:
        return (jnp.sum(_per_sample(values, sample_weight, jnp.sum)[0]),)

    def value(self, xp: Any, *sums: Any) -> Any:
        return sums[0]


class Mean(_Sums):
    """The mean of all values, weighted by `sample_weight`.

    >>> from fluxion.dialects import keras
    >>> mean = keras.metrics.Mean()
    >>> mean.update_state([1.0, 3.0]); mean.update_state([5.0])
    >>> float(mean.result())
    3.0
    """

    names = ("total", "count")

    def __init__(self, name: str = "mean", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self.add_variables([(), ()])

    def sums(self, values: Any, sample_weight: Any = None) -> tuple[Array, ...]:
        values, weight = _per_sample(values, sample_weight, jnp.mean)
        count = jnp.sum(weight) if weight is not None else jnp.asarray(len(values) if values.ndim else 1, jnp.float32)
        return jnp.sum(values), count

    def value(self, xp: Any, *sums: Any) -> Any:
        return _ratio(xp, sums[0], sums[1])


class MeanMetricWrapper(Mean):
    """The mean of a function `(y_true, y_pred, **options)` of values per example."""

    def __init__(self, fn: Callable[..., Any], name: str | None = None, dtype: Any = None, **options: Any) -> None:
        super().__init__(name=name or str(getattr(fn, "__name__", type(fn).__name__)), dtype=dtype)
        self.fn, self.options = fn, options
        vars(self).update(options)
        if fn in _DOWN or isinstance(fn, Loss):
            self.direction = "down"  # type: ignore[misc]
        elif fn in _UP:
            self.direction = "up"  # type: ignore[misc]

    def sums(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> tuple[Array, ...]:  # type: ignore[override]
        mask = mask_of(y_pred)
        values = jnp.asarray(self.fn(y_true, y_pred, **self.options))
        if mask is not None:
            mask = jnp.asarray(mask).astype(jnp.float32)
            if sample_weight is not None:
                mask, sample_weight = same_rank(mask, jnp.asarray(sample_weight))
                mask = mask * sample_weight
            sample_weight = mask
        return super().sums(values, sample_weight)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self.options}

    def key(self) -> Any:
        return type(self), self.fn, self.dtype, tuple(self.options.items())


def _per_sample(values: Any, weight: Any, reduce: Callable[..., Array]) -> tuple[Array, Array | None]:
    """Values `(batch, ...)` reduced to one per example, weighted, and the weights of the examples."""
    values = jnp.asarray(values).astype(jnp.float32)
    if weight is not None:
        values, weight = same_rank(values, jnp.asarray(weight).astype(values.dtype))
        if values.ndim > weight.ndim:
            values = reduce(values, axis=tuple(range(weight.ndim, values.ndim)))
        if any(w not in (1, v) for w, v in zip(weight.shape, values.shape, strict=True)):
            raise ShapeError(
                f"sample_weight: expected weights of the values' shape {values.shape}, or of its first axes, got "
                f"{weight.shape}."
            )
        weight = jnp.broadcast_to(weight, values.shape)
        values = values * weight
        if weight.ndim > 1:
            weight = reduce(weight, axis=tuple(range(1, weight.ndim)))
    if values.ndim > 1:
        values = reduce(values, axis=tuple(range(1, values.ndim)))
    return values, weight


# ------------------------------------------------------------------------------------------- accuracies


def accuracy(y_true: Any, y_pred: Any) -> Array:
    """1 where the two are equal, 0 elsewhere."""
    t, p = _aligned("accuracy", y_true, y_pred)
    return (t == p).astype(jnp.float32)


def binary_accuracy(y_true: Any, y_pred: Any, threshold: float = 0.5) -> Array:
    """1 where `y_pred > threshold` is what `y_true` says."""
    t, p = _aligned("binary_accuracy", y_true, y_pred)
    return (t == (p > threshold).astype(t.dtype)).astype(jnp.float32)


def categorical_accuracy(y_true: Any, y_pred: Any) -> Array:
    """1 where the highest score is that of the class of one-hot `y_true`."""
    t, p = _aligned("categorical_accuracy", y_true, y_pred)
    return (jnp.argmax(t, axis=-1) == jnp.argmax(p, axis=-1)).astype(jnp.float32)


def sparse_categorical_accuracy(y_true: Any, y_pred: Any) -> Array:
    """1 where the highest score is that of the label.

    >>> from fluxion.dialects import keras
    >>> keras.metrics.sparse_categorical_accuracy([0, 1], [[0.9, 0.1], [0.8, 0.2]]).tolist()
    [1.0, 0.0]
    """
    labels, p = _labels("sparse_categorical_accuracy", y_true, y_pred)
    return (labels == jnp.argmax(p, axis=-1)).astype(jnp.float32)


def top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> Array:
    """1 where the class of one-hot `y_true` is among the `k` highest scores."""
    t, p = _aligned("top_k_categorical_accuracy", y_true, y_pred)
    return _among(jnp.argmax(t, axis=-1), p, k)


def sparse_top_k_categorical_accuracy(y_true: Any, y_pred: Any, k: int = 5) -> Array:
    """1 where the label is among the `k` highest scores."""
    labels, p = _labels("sparse_top_k_categorical_accuracy", y_true, y_pred)
    return _among(labels, p, k)


def _among(labels: Any, p: Array, k: int) -> Array:
    own = jnp.take_along_axis(
        p, jnp.asarray(labels)[..., None].astype(jnp.int32), axis=-1, mode="fill", fill_value=jnp.nan
    )
    return (jnp.sum(p > own, axis=-1) < k).astype(jnp.float32) * jnp.isfinite(own[..., 0])


# ------------------------------------------------------------------------------------------- regression


def cosine_similarity(y_true: Any, y_pred: Any, axis: int = -1) -> Array:
    """The cosine of the angle between the two: 1 is alike."""
    t, p = (x.astype(jnp.float32) for x in _aligned("cosine_similarity", y_true, y_pred))
    return jnp.sum(unit(t, axis) * unit(p, axis), axis=axis)


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
        t, p = _aligned(self.name, y_true, y_pred)
        return super().sums((p - t.astype(p.dtype)) ** 2, sample_weight)

    def value(self, xp: Any, *sums: Any) -> Any:
        return xp.sqrt(super().value(xp, *sums))

    def key(self) -> Any:
        return type(self), self.dtype


class R2Score(_Sums):
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
        t, p = (x.astype(jnp.float32) for x in _aligned(self.name, y_true, y_pred))
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


# ------------------------------------------------------------------------------------------- yes or no


class _Confusion(_Sums):
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
        t, p = (x.astype(jnp.float32) for x in _aligned(self.name, y_true, y_pred))
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
        share = _ratio(xp, sums[0], sums[0] + sums[1])
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
        return _ratio(xp, tn, tn + fp), _ratio(xp, tp, tp + fn)


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
        return _ratio(xp, tp, tp + fn), _ratio(xp, tn, tn + fp)


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
        return _ratio(xp, tp, tp + fn), _ratio(xp, tp, tp + fp)


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
        return _ratio(xp, tp, tp + fp), _ratio(xp, tp, tp + fn)


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
        recall = _ratio(xp, tp, tp + fn)
        if self.curve == "PR" and self.summation_method == "interpolation":
            return self.interpolated(xp, tp, tp + fp, tp + fn)
        x, y = (_ratio(xp, fp, fp + tn), recall) if self.curve == "ROC" else (recall, _ratio(xp, tp, tp + fp))
        height = {
            "interpolation": lambda: (y[:-1] + y[1:]) / 2,
            "minoring": lambda: xp.minimum(y[:-1], y[1:]),
            "majoring": lambda: xp.maximum(y[:-1], y[1:]),
        }[self.summation_method]()
        return xp.sum((x[:-1] - x[1:]) * height)

    def interpolated(self, xp: Any, tp: Any, chosen: Any, positives: Any) -> Any:
        """The area below precision over recall, interpolated between counts (Davis and Goadrich 2006)."""
        step = tp[:-1] - tp[1:]
        slope = _ratio(xp, step, xp.maximum(chosen[:-1] - chosen[1:], 0))
        intercept = tp[1:] - slope * chosen[1:]
        both = (chosen[:-1] > 0) & (chosen[1:] > 0)
        ratio = xp.where(both, _ratio(xp, chosen[:-1], xp.maximum(chosen[1:], 0)), 1.0)
        return xp.sum(_ratio(xp, slope * (step + intercept * xp.log(ratio)), xp.maximum(positives[1:], 0)))

    def get_config(self) -> dict[str, Any]:
        more: dict[str, Any] = {"num_thresholds": self.num_thresholds, "curve": self.curve}
        more |= {"summation_method": self.summation_method, "from_logits": self.from_logits}
        return {**super().get_config(), **more, **({} if self.given is None else {"thresholds": self.given})}

    def key(self) -> Any:
        return super().key(), self.curve, self.summation_method, self.from_logits


class FBetaScore(_Sums):
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
        t, p = (x.astype(jnp.float32) for x in _aligned(self.name, y_true, y_pred))
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


class MeanIoU(_Sums):
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
        scores = _ratio(xp, xp.diagonal(matrix), union)
        return _ratio(xp, xp.sum(xp.where(known, scores, 0.0)), xp.sum(known) * 1.0)

    def get_config(self) -> dict[str, Any]:
        more: dict[str, Any] = {"num_classes": self.num_classes, "ignore_class": self.ignore_class}
        more |= {"sparse_y_true": self.sparse_y_true, "sparse_y_pred": self.sparse_y_pred}
        return {**super().get_config(), **more}


# ------------------------------------------------------------------------------------------- classes of functions

_ACCURACIES = (
    accuracy,
    binary_accuracy,
    categorical_accuracy,
    sparse_categorical_accuracy,
    top_k_categorical_accuracy,
    sparse_top_k_categorical_accuracy,
)
_UP: set[Any] = {*_ACCURACIES, cosine_similarity}
_DOWN: set[Any] = {f for f in keras_losses.TABLE.values() if not isinstance(f, type)}


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
    **{f.__name__: f for f in _ACCURACIES[1:]},
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


# ------------------------------------------------------------------------------------------- helpers


def _array(x: Any) -> Any:
    """Lists, variables and NumPy arrays as arrays; None and what is one already as it is."""
    if x is None or isinstance(x, jax.Array | np.ndarray):
        return x
    return plain(x) if isinstance(x, Box) else jnp.asarray(x)


def _aligned(name: str, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    """Two arrays of one shape, after Keras' changes of rank; nothing broadcasts."""
    t, p = same_rank(
        *(jnp.asarray(checks.numbers(name, what, x)) for what, x in (("y_true", y_true), ("y_pred", y_pred)))
    )
    if t.shape != p.shape:
        raise ShapeError(f"{name}: expected y_true of shape {p.shape}, got {t.shape}. Reshape one of them.")
    return t, p


def _labels(name: str, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
    """Labels of the shape of the scores without their last axis."""
    t, p = (jnp.asarray(checks.numbers(name, what, x)) for what, x in (("y_true", y_true), ("y_pred", y_pred)))
    if t.ndim == p.ndim and t.shape[-1] == 1:
        t = t[..., 0]
    if t.shape != p.shape[:-1]:
        raise ShapeError(
            f"{name}: expected labels of shape {p.shape[:-1]} for scores of shape {p.shape}, got {t.shape}. "
            "One-hot targets belong to categorical_accuracy."
        )
    return t, p


def _ratio(xp: Any, part: Any, whole: Any) -> Any:
    return xp.where(whole == 0, 0.0, part / xp.where(whole == 0, 1.0, whole))


def _flat(arrays: Sequence[Any]) -> Array:
    return jnp.concatenate([jnp.asarray(x).astype(jnp.float32).reshape(-1) for x in arrays])


def _split(totals: np.ndarray, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    ends = np.cumsum([int(np.prod(shape, dtype=int)) for shape in shapes])
    return [part.reshape(shape) for part, shape in zip(np.split(np.asarray(totals), ends[:-1]), shapes, strict=True)]
