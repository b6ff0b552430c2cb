"""`evaluate` and `predict`: a model in test mode over data, in compiled batches."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from fluxion.data.loader import DataLoader
from fluxion.errors import ArgumentError, DataError, ShapeError, user_frames
from fluxion.train.columns import Column, Running, Summed, checked, columns_of, split_loss
from fluxion.train.step import Objective, as_arguments, as_batch
from fluxion.transform.compile import awaited, jit
from fluxion.transform.modes import gradient_mode
from fluxion.tree.watch import is_plain_array

Metric = Callable[[Any, Any], Any]
Metrics = Sequence[Metric] | Mapping[str, Metric]


@user_frames
def predict(model: Any, inputs: Any, *, batch_size: int = 256) -> Any:
    """The outputs of the model for `inputs`, in test mode, batch by batch, as numpy arrays.

    `inputs` is an array whose first axis counts observations, or a tuple of such arrays for `model(*inputs)`. All
    batches have one shape (the last is filled up and cut again), so one program is compiled.

    Raises DataError for empty inputs, ShapeError for inputs of different lengths and if the output does not keep the
    batch axis.

    >>> import fluxion as fx
    >>> fx.predict(fx.Dense(3, 2), fx.ones(1000, 3)).shape
    (1000, 2)
    """
    parts = as_arguments(inputs)
    arrays = _leaves(parts)
    odd = next((type(part).__name__ for part in arrays if not hasattr(part, "shape")), None)
    if odd is not None:
        raise ArgumentError(f"predict: expected an array, or a tuple of them for model(*inputs), got {odd}.")
    lengths = [part.shape[:1] for part in arrays]
    if not lengths or len(set(lengths)) > 1 or lengths[0] == ():
        shapes = ", ".join(str(part.shape) for part in arrays)
        raise ShapeError(f"predict: expected arrays with one equal first axis, got shapes [{shapes}].")
    ((count,), *_) = lengths
    if count == 0:
        raise DataError("predict: expected at least one observation, got none.")
    run = jit(model)
    size = min(_positive(batch_size, "predict"), count)
    with gradient_mode(False):
        if size == count:
            return _map(_copied, _checked(run(*parts), size))  # a copy: the outputs are the caller's to change
        outputs: list[Any] = []
        for start in range(0, count, size):
            batch = _cut(parts, slice(start, start + size))
            outputs.append(_checked(run(*_filled(batch, size)), size))
            if start:  # fetched one batch late, so that this one is computed meanwhile
                outputs[-2] = _map(np.asarray, outputs[-2])
    outputs[-1] = _cut(_map(np.asarray, outputs[-1]), slice(count - size * (len(outputs) - 1)))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *outputs)


def _copied(array: Any) -> np.ndarray:
    return np.array(awaited(array))


def _checked(output: Any, size: int) -> Any:
    """The output of `predict`'s model, if it has kept the batch axis."""
    for leaf in _leaves(output):
        if np.shape(leaf)[:1] != (size,):
            raise ShapeError(f"predict: expected an output of shape ({size}, ...), got {np.shape(leaf)}.")
    return output


@user_frames
def evaluate(
    model: Any, data: Any, *, loss: Callable[..., Any], metrics: Metrics = (), batch_size: int = 256
) -> dict[str, float]:
    """The loss and the metrics of the model over all of `data`, in test mode: `{"loss": ..., "accuracy": ...}`.

    `data` is a tuple of arrays (inputs, target), a `DataLoader`, or an iterable of batches. `loss` is
    `loss(prediction, target)`, or `loss(model, *batch)` as for `train`; `metrics` are functions of
    `(prediction, target)`, in a list or a dict by name, that return a number or `fx.Summed`; a loss may return named
    numbers beside itself, `(loss, {"name": number})`. Means over batches are weighted by their size, so every
    observation counts once.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> x, y = fx.datasets.iris()
    >>> result = fx.evaluate(fx.Dense(4, 3), (x, y), loss=fx.logitcrossentropy, metrics=[fx.accuracy])
    >>> sorted(result)
    ['accuracy', 'loss']
    """
    named = named_metrics(metrics)
    size = _positive(batch_size, "evaluate")
    batches = DataLoader(data, batch_size=size) if is_arrays(data) else data
    if not hasattr(batches, "__iter__"):
        raise ArgumentError(
            f"evaluate: expected a tuple of arrays, a DataLoader or batches, got {type(data).__name__}."
        )
    scoring, parts = Scoring(model), -1
    for batch in map(as_batch, batches):
        if len(as_arguments(batch)) != parts:
            parts = len(as_arguments(batch))
            objective = Objective(loss, is_by_prediction(loss, batch), tuple(named.items()))
        scoring.add(objective, batch)
    if scoring.count == 0:
        raise DataError("evaluate: expected at least one batch, got none.")
    return scoring.numbers()


class Scoring:
    """The loss and the named numbers of a model, batch by batch; `numbers` are those over all batches so far."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.forward = jit(model)
        self.count = 0  # of observations
        self.largest = 0
        self.running: Running | None = None
        self.pending: Pending | None = None

    def add(self, objective: Objective, batch: Any) -> None:
        """One more batch."""
        length = batch_length(batch)
        self.count += length
        self.largest = max(self.largest, length)
        with gradient_mode(False):
            before, self.pending = self.pending, _values(objective, self.model, self.forward, batch, self.largest)
            if before is not None:  # fetched one batch late, so that this one is computed meanwhile
                self.fetch(before)

    def so_far(self) -> dict[str, float]:
        """The numbers over the batches that are known by now."""
        return {} if self.running is None else self.running.numbers()

    def numbers(self) -> dict[str, float]:
        """The numbers over all batches."""
        if self.pending is not None:
            with gradient_mode(False):
                self.fetch(self.pending)
            self.pending = None
        return self.so_far()

    def fetch(self, pending: Pending) -> None:
        columns, row = pending.fetched()
        if self.running is None:
            self.running = Running(columns)
        elif [column[:2] for column in columns] != [column[:2] for column in self.running.columns]:
            raise ArgumentError("evaluate: expected the same named numbers, of the same shapes, from every batch.")
        self.running.add(row, [pending.length])


class Pending(NamedTuple):
    """The loss and the named numbers on a batch, perhaps still being computed.

    Compiled code cannot raise: what is not finite is computed again outside it, where bad values are named.
    """

    length: int
    values: dict[str, Any]
    again: dict[str, Callable[[], Any]]

    def fetched(self) -> tuple[tuple[Column, ...], np.ndarray]:
        """The columns, and the row of the batch."""
        values = {name: self.known(name) for name in self.values}
        loss = values.pop("loss")
        named = checked(values)
        numbers = [value.totals if isinstance(value, Summed) else value for value in named.values()]
        entries = [np.asarray([loss, 1.0], float), *(np.ravel(np.asarray(x, float)) for x in numbers)]
        return columns_of(named), np.concatenate(entries)[None]

    def known(self, name: str) -> Any:
        value = self.values[name]
        plain = awaited(value.totals if isinstance(value, Summed) else value)
        if not np.isfinite(plain).all():
            value = self.again[name]()
            plain = value.totals if isinstance(value, Summed) else value
        return Summed(plain, value.result) if isinstance(value, Summed) else plain


def _values(objective: Objective, model: Any, forward: Any, batch: Any, largest: int) -> Pending:
    """The loss and the metrics on one batch.

    The model runs on a batch filled up to `largest`, so that it is compiled once; loss and metrics see the batch as
    it is.
    """
    inputs, target = as_arguments(batch)[:-1], as_arguments(batch)[-1]
    length = batch_length(batch)
    pending = Pending(length, {}, {})
    if not objective.by_prediction:
        _add(pending, (("loss", objective.loss),), model, *as_arguments(batch))
    if objective.by_prediction or objective.metrics:
        prediction = forward(*_filled(inputs, largest))
        if any(leaf.shape[:1] != (largest,) for leaf in _leaves(prediction)):
            prediction = forward(*inputs)  # no batch axis to cut
        elif length != largest:
            prediction = _cut(prediction, slice(length))
        losses = (("loss", objective.loss),) if objective.by_prediction else ()
        _add(pending, (*losses, *objective.metrics), prediction, target)
    return pending


def _add(pending: Pending, functions: tuple[tuple[str, Callable[..., Any]], ...], *args: Any) -> None:
    """Compute the functions as one program."""
    names = [name for name, _ in functions]
    values = _compiled_scores(tuple(f for _, f in functions), *args)
    for name, f, scores in zip(names, [f for _, f in functions], values, strict=True):
        for beside, value in _by_name(name, scores).items():
            pending.values[beside] = value
            pending.again[beside] = functools.partial(_again, name, beside, f, *args)


def _again(name: str, wanted: str, f: Callable[..., Any], *args: Any) -> Any:
    return _by_name(name, _score(f, *args))[wanted]


def _score(f: Callable[..., Any], *args: Any) -> tuple[Any, Mapping[str, Any]]:
    """What a loss or a metric returns, and what it returns by name beside it."""
    return split_loss(f(*args))


def _by_name(name: str, scores: tuple[Any, Mapping[str, Any]]) -> dict[str, Any]:
    return {name: scores[0], **scores[1]}


@jit
def _compiled_scores(functions: tuple[Callable[..., Any], ...], *args: Any) -> list[Any]:
    return [_score(f, *args) for f in functions]


def _filled(parts: Any, size: int) -> Any:
    """The arrays with their last row repeated up to `size` rows."""
    if all(len(part) == size for part in _leaves(parts)):
        return parts
    return _map(lambda part: part[np.minimum(np.arange(size), len(part) - 1)], parts)


def _cut(parts: Any, rows: slice) -> Any:
    return _map(lambda part: part[rows], parts)


def _leaves(parts: Any) -> list[Any]:
    """`jax.tree.leaves`, short where it is an array or a tuple of arrays."""
    if type(parts) is not tuple:
        parts = (parts,)
    return list(parts) if all(map(is_plain_array, parts)) else jax.tree.leaves(parts)


def _map(f: Callable[[Any], Any], parts: Any) -> Any:
    """`jax.tree.map`, short where it is an array."""
    return f(parts) if is_plain_array(parts) else jax.tree.map(f, parts)


def is_by_prediction(loss: Callable[..., Any], batch: Any) -> bool:
    """Whether `loss` takes `(prediction, target)` rather than `(model, *batch)`: told by its number of arguments."""
    if not callable(loss):
        raise ArgumentError(f"loss: expected a function such as fx.logitcrossentropy, got {loss!r}.")
    parts = len(as_arguments(batch))
    try:
        parameters = inspect.signature(loss).parameters.values()
    except ValueError:  # a compiled function without a signature
        return parts >= 2
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = sum(p.default is p.empty for p in positional)
    if required == parts + 1:
        return False
    if required == 2 and parts >= 2:
        return True
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return False
    raise ArgumentError(
        f"loss: expected a function of (prediction, target), or of the model and the {parts} parts of a batch, "
        f"got one of {required} arguments."
    )


def named_metrics(metrics: Metrics) -> dict[str, Metric]:
    """Metrics by name, the name of a function being its own."""
    if isinstance(metrics, Mapping):
        return dict(metrics)
    if callable(metrics) or isinstance(metrics, str):
        raise ArgumentError(f"metrics: expected a list of functions, got {metrics!r}. Write [fx.accuracy].")
    named = {}
    for metric in metrics:
        if not callable(metric):
            raise ArgumentError(f"metrics: expected functions of (prediction, target), got {metric!r}.")
        named[getattr(metric, "__name__", type(metric).__name__.lower())] = metric
    if len(named) != len(metrics):
        raise ArgumentError("metrics: expected functions of different names. Give a dict {name: function}.")
    return named


def is_arrays(data: Any) -> bool:
    """Whether `data` is arrays to be cut into batches, rather than batches."""
    return hasattr(data, "shape") or isinstance(data, (tuple, dict))


def batch_length(batch: Any) -> int:
    """The number of observations in a batch: the first axis of its first array."""
    leaves = [leaf for leaf in jax.tree.leaves(batch) if np.ndim(leaf) > 0]
    return int(np.shape(leaves[0])[0]) if leaves else 1


def _positive(value: int, caller: str) -> int:
    if not isinstance(value, int) or value < 1:
        raise ArgumentError(f"{caller}: expected a batch_size of at least 1, got {value!r}.")
    return value
