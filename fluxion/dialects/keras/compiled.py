"""What `compile` makes of losses and metrics: the function that a step of the engine minimizes and what it records.

Losses and metrics are given by name, object or function, for one output or, in a list or a dict, for several. Which is
which is known once an output has been seen, so that they are resolved then.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.dialects.keras import losses as keras_losses
from fluxion.dialects.keras import metrics as keras_metrics
from fluxion.dialects.keras.losses import (
    FunctionLoss,
    Loss,
    as_loss,
    binary_crossentropy,
    categorical_crossentropy,
    sparse_categorical_crossentropy,
)
from fluxion.dialects.keras.metrics import Metric, as_metric
from fluxion.errors import ArgumentError, DataError, ShapeError, nearest
from fluxion.train.columns import Summed

Named = dict[str, Any]


class Outputs(NamedTuple):
    """The outputs of a model, one after the other, with their names; None where it has but one."""

    names: tuple[str | None, ...]
    arrays: tuple[Any, ...]

    @staticmethod
    def of(y_pred: Any, names: Sequence[str] | None) -> Outputs:
        """Taken apart by position, or by key; a dict in the order of the model's own names, or sorted."""
        if isinstance(y_pred, Mapping):
            known = names if names and set(names) == set(y_pred) else sorted(y_pred)
            return Outputs(tuple(known), tuple(y_pred[name] for name in known))
        if isinstance(y_pred, list | tuple):
            if len(y_pred) == 1:
                return Outputs((None,), tuple(y_pred))
            fitting = names if names and len(names) == len(y_pred) else [f"output_{i + 1}" for i in range(len(y_pred))]
            return Outputs(tuple(fitting), tuple(y_pred))
        return Outputs((None,), (y_pred,))

    def spread(self, what: str, value: Any, *, shared: bool = False) -> list[Any]:
        """A value for each output, given as a list by position or a dict by name; `shared`: one that is for all."""
        count = len(self.names)
        if isinstance(value, Mapping):
            known = [name for name in self.names if name is not None]
            if count == 1 and len(value) == 1:
                return list(value.values())
            unknown = [name for name in value if name not in known]
            if unknown:
                raise ArgumentError(
                    f"{what}: got {unknown[0]!r}.{nearest(str(unknown[0]), known)} The outputs are: {', '.join(known)}."
                )
            return [value.get(name) for name in self.names]
        if isinstance(value, list | tuple) and not (count == 1 and len(value) != 1):
            if len(value) != count:
                raise ArgumentError(
                    f"{what}: expected {count} entries, one for each output, got {len(value)}. "
                    "Give a list, or a dict by the names of the outputs."
                )
            return list(value)
        if count > 1 and not shared:
            raise ArgumentError(
                f"{what}: expected a list of {count} entries, or a dict by the names of the outputs "
                f"({', '.join(map(str, self.names))}), got {value!r}."
            )
        return [value] * count


class Spec:
    """What `compile` was given, and the losses and metrics it was resolved to at the first batch."""

    def __init__(
        self, loss: Any, loss_weights: Any, metrics: Any, weighted_metrics: Any, output_names: Callable[[], Any]
    ) -> None:
        for name, value in (("metrics", metrics), ("weighted_metrics", weighted_metrics)):
            if value is not None and not isinstance(value, list | tuple | Mapping):
                raise ArgumentError(f"{name}: expected a list or a dict, got {value!r}. Write [{value!r}].")
        for identifier in jax.tree.leaves(loss):
            if isinstance(identifier, str) and identifier.lower() not in ("crossentropy", "ce"):
                keras_losses.get(identifier)  # so that a name that is none is known now
        for identifier in jax.tree.leaves((metrics, weighted_metrics)):
            if isinstance(identifier, str):
                keras_metrics.get(identifier)
        self.loss, self.loss_weights = loss, loss_weights
        self.metrics, self.weighted_metrics = metrics, weighted_metrics
        self.output_names = output_names
        self.losses: list[tuple[Loss | None, float | None]] | None = None
        self.named_metrics: dict[str, tuple[Metric, int, bool]] | None = None  # with the output, and whether weighted

    def outputs(self, y_pred: Any) -> Outputs:
        return Outputs.of(y_pred, self.output_names())

    def resolve(self, y_true: Any, y_pred: Any) -> None:
        """Find losses and metrics, once; the shapes of targets and outputs choose between kinds of accuracy."""
        if self.losses is not None:
            return
        outputs = self.outputs(y_pred)
        targets = targets_for(outputs, y_true)
        given = [None] * len(outputs.names) if self.loss is None else outputs.spread("loss", self.loss, shared=True)
        weights: list[Any] = [None] * len(outputs.names)
        if self.loss_weights is not None:
            weights = outputs.spread("loss_weights", self.loss_weights)
        shapes = [(np.shape(t), np.shape(p)) for t, p in zip(targets, outputs.arrays, strict=True)]
        losses = [None if loss is None else _loss(loss, *shape) for loss, shape in zip(given, shapes, strict=True)]
        named: dict[str, tuple[Metric, int, bool]] = {}
        for weighted, metrics in ((False, self.metrics), (True, self.weighted_metrics)):
            for i, several in enumerate(_by_output(outputs, metrics, weighted)):
                for identifier in several:
                    metric = as_metric(identifier, *shapes[i])
                    named[_name(metric.name, outputs.names[i], named, weighted)] = (metric, i, weighted)
        self.losses, self.named_metrics = list(zip(losses, weights, strict=True)), named

    def compute(self, y_true: Any, y_pred: Any, sample_weight: Any) -> tuple[Any, Named]:
        """The weighted sum of the losses, None where there is no loss, and each one where there are several."""
        self.resolve(y_true, y_pred)
        assert self.losses is not None
        outputs = self.outputs(y_pred)
        targets, weights = targets_for(outputs, y_true), _weights_for(outputs, sample_weight)
        values, named = [], {}
        for (loss, weight), name, t, p, w in zip(
            self.losses, outputs.names, targets, outputs.arrays, weights, strict=True
        ):
            if loss is None:
                continue
            if t is None:
                raise DataError("fit: expected targets y for the loss, got none. Give y, or compile without a loss.")
            value = _scalar(loss(t, p, w), loss)
            if name is not None:
                named[f"{name}_loss"] = value
            values.append(value if weight is None else value * weight)
        return (sum(values[1:], values[0]) if values else None), (named if len(values) > 1 else {})

    def record(self, y_true: Any, y_pred: Any, sample_weight: Any) -> Named:
        """What the metrics add for a batch."""
        self.resolve(y_true, y_pred)
        assert self.named_metrics is not None
        outputs = self.outputs(y_pred)
        targets, weights = targets_for(outputs, y_true), _weights_for(outputs, sample_weight)
        recorded: Named = {}
        for name, (metric, i, weighted) in self.named_metrics.items():
            if targets[i] is None:
                raise DataError(f"fit: expected targets y for the metric {name!r}, got none.")
            more = (weights[i],) if weighted and weights[i] is not None else ()
            recorded[name] = metric.summed(targets[i], outputs.arrays[i], *more)
        return recorded

    def key(self) -> Any:
        """What tells one specification from another in compiled code."""
        if self.losses is None or self.named_metrics is None:
            return self
        losses = tuple((None if loss is None else loss.key(), weight) for loss, weight in self.losses)
        return losses, tuple((n, m.key(), i, weighted) for n, (m, i, weighted) in self.named_metrics.items())


class StepLoss:
    """`loss(model, x, y, sample_weight)` for the engine: the model's `compute_loss`, and the metrics by name."""

    def __init__(self, spec: Spec) -> None:
        self.spec = Held(spec)

    def __call__(self, model: Any, x: Any, y: Any = None, sample_weight: Any = None) -> tuple[Any, Named]:
        spec: Spec = self.spec.value
        y_pred = model(x)
        own = own_metrics(model)
        with recording() as named, contextlib.ExitStack() as stack:
            for metric in own:
                stack.enter_context(metric.holding(None))
            loss = model.compute_loss(x, y, y_pred, sample_weight)
            named |= {m.name: _own_sum(m) for m in own if m.name != "loss" and m.variables}
        return loss, named | spec.record(y, y_pred, sample_weight)


class Held:
    """A value that the engine's walk takes as one: it tells programs apart by the value's `key()`."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Held) and (other.value is self.value or other.value.key() == self.value.key())

    def __hash__(self) -> int:
        return hash(self.value.key())


_recorded: ContextVar[Named | None] = ContextVar("fluxion_keras_recorded", default=None)


@contextlib.contextmanager
def recording() -> Iterator[Named]:
    """Inside the block the default `compute_loss` notes the losses of several outputs in the dict."""
    named: Named = {}
    token = _recorded.set(named)
    try:
        yield named
    finally:
        _recorded.reset(token)


def note(named: Named) -> None:
    """Add to what is being recorded, if anything is."""
    known = _recorded.get()
    if known is not None:
        known |= named


def own_metrics(model: Any) -> list[Metric]:
    """The metrics that a subclassed model keeps as attributes and updates itself."""
    return [value for value in vars(model).values() if isinstance(value, Metric)]


def targets_for(outputs: Outputs, y_true: Any) -> list[Any]:
    """A target for each output."""
    if y_true is None:
        return [None] * len(outputs.names)
    if len(outputs.names) == 1 and not isinstance(y_true, Mapping | list | tuple):
        return [y_true]
    return outputs.spread("y", y_true)


def _weights_for(outputs: Outputs, sample_weight: Any) -> list[Any]:
    if sample_weight is None:
        return [None] * len(outputs.names)
    return outputs.spread("sample_weight", sample_weight, shared=True)


def _by_output(outputs: Outputs, metrics: Any, weighted: bool) -> list[list[Any]]:
    """The metrics of each output."""
    if metrics is None:
        return [[] for _ in outputs.names]
    if len(outputs.names) == 1:
        several = list(metrics.values()) if isinstance(metrics, Mapping) else metrics
        return [[m for entry in several for m in (entry if isinstance(entry, list | tuple) else [entry])]]
    entries = outputs.spread("weighted_metrics" if weighted else "metrics", metrics)
    return [[] if m is None else list(m) if isinstance(m, list | tuple) else [m] for m in entries]


def _name(base: str, output: str | None, known: Mapping[str, Any], weighted: bool) -> str:
    """The name of a metric in the logs, as Keras gives it."""
    name = base if output is None else f"{output}_{base}"
    if weighted and name in known:
        name = f"weighted_{base}" if output is None else f"{output}_weighted_{base}"
    number, unique = 1, name
    while unique in known:
        unique, number = f"{name}_{number}", number + 1
    return unique


def _loss(identifier: Any, target: tuple[int, ...], output: tuple[int, ...]) -> Loss:
    if isinstance(identifier, str) and identifier.lower() in ("crossentropy", "ce"):
        if output[-1:] == (1,):
            return FunctionLoss(binary_crossentropy)
        sparse = len(target) < len(output) or (target[-1:] == (1,) and output[-1] > 1)
        return FunctionLoss(sparse_categorical_crossentropy if sparse else categorical_crossentropy)
    return as_loss(identifier)


def _scalar(value: Any, loss: Loss) -> Any:
    value = jnp.asarray(value)
    if value.ndim:
        if loss.reduction == "none":
            return jnp.mean(value)
        raise ShapeError(f"{loss.name}: expected the loss to be a number after reduction, got shape {value.shape}.")
    return value


def _own_sum(metric: Metric) -> Summed:
    values = [jnp.asarray(variable.value) for variable in metric.variables]
    shapes = [x.shape for x in values]
    flat = jnp.concatenate([x.astype(jnp.float32).reshape(-1) for x in values])
    return Summed(flat, lambda totals: metric.number(totals, shapes))


def is_traced(*values: Any) -> bool:
    """Whether one of these is being traced."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values))
