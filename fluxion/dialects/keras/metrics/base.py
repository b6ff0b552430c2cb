"""`Metric`, and the metrics that sum up values: the base of all the others."""

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
from fluxion.dialects.keras.losses import Loss, same_rank
from fluxion.dialects.keras.metrics.arrays import as_array, flat, quotient, split
from fluxion.dialects.keras.metrics.scores import ACCURACIES, cosine_similarity
from fluxion.dialects.keras.names import automatic_name, known_arguments, snake_case
from fluxion.dialects.keras.variables import Variable, plain
from fluxion.errors import ArgumentError, ShapeError
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
        return Summed(flat(held), partial(self.number, shapes=[x.shape for x in added]))

    def number(self, totals: np.ndarray, shapes: Sequence[tuple[int, ...]]) -> Any:
        """The result for sums over all batches."""
        if np.isnan(totals).any():
            raise ArgumentError(
                f"{self.name}: expected update_state to add to the metric's variables, but what it does to them "
                "depends on their values. In compile a metric is a sum over batches; use this one alone."
            )
        with self.holding([jnp.asarray(x, self.dtype) for x in split(totals, shapes)]):
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


class Sums(Metric):
    """A metric written as `sums(...)` of a batch, a tuple of arrays, and `value(xp, *sums)`, its number."""

    names: ClassVar[tuple[str, ...]] = ()

    def sums(self, *args: Any) -> tuple[Array, ...]:
        raise NotImplementedError

    def value(self, xp: Any, *sums: Any) -> Any:
        raise NotImplementedError

    def update_state(self, *args: Any, **kwargs: Any) -> None:
        added = self.sums(*map(as_array, args), **{name: as_array(value) for name, value in kwargs.items()})
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
        return Summed(flat(added), partial(self.number, shapes=[x.shape for x in added]))

    def number(self, totals: np.ndarray, shapes: Sequence[tuple[int, ...]]) -> Any:
        if type(self).update_state not in _OWN_UPDATES or type(self).result is not Sums.result:
            return super().number(totals, shapes)
        with np.errstate(all="ignore"):
            return self.value(np, *split(totals, shapes))


_OWN_UPDATES = {Sums.update_state}


class Sum(Sums):
    """The sum of all values, times their weights."""

    names = ("total",)

    def __init__(self, name: str = "sum", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self.add_variables([()])

    def sums(self, values: Any, sample_weight: Any = None) -> tuple[Array, ...]:
        return (jnp.sum(_per_sample(values, sample_weight, jnp.sum)[0]),)

    def value(self, xp: Any, *sums: Any) -> Any:
        return sums[0]


class Mean(Sums):
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
        return quotient(xp, sums[0], sums[1])


class MeanMetricWrapper(Mean):
    """The mean of a function `(y_true, y_pred, **options)` of values per example."""

    def __init__(self, fn: Callable[..., Any], name: str | None = None, dtype: Any = None, **options: Any) -> None:
        super().__init__(name=name or str(getattr(fn, "__name__", type(fn).__name__)), dtype=dtype)
        self.fn, self.options = fn, options
        vars(self).update(options)
        if fn in DOWN or isinstance(fn, Loss):
            self.direction = "down"  # type: ignore[misc]
        elif fn in UP:
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


UP: set[Any] = {*ACCURACIES, cosine_similarity}
DOWN: set[Any] = {f for f in keras_losses.TABLE.values() if not isinstance(f, type)}
