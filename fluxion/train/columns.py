"""The named numbers of a step, beside the loss: what metrics give, and what a loss returns with itself.

A step gives them back in one row `[loss, applied, ...]`. What is a number becomes its mean over the observations of an
epoch; what is `Summed` is added up over the epoch first and becomes a number then.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.errors import ArgumentError, ShapeError

if TYPE_CHECKING:
    from jaxtyping import Array

# What a row of the history has beside the numbers of its steps.
RESERVED = ("loss", "epoch", "learning_rate", "seconds", "samples_per_second")


@dataclasses.dataclass(frozen=True, slots=True)
class Summed:
    """A metric that is no mean over observations: `totals` are added up over batches, `result` makes the number.

    Return it from a metric, or by name from a loss, where the mean of the batches' values would be another number than
    that of the whole: precision, recall, F1, the root of a mean.

    Arguments:
        totals: an array of any shape, the same for every batch.
        result: a function of the sum of all `totals`, a NumPy array in float64, that returns a number.

    >>> import fluxion as fx, jax.numpy as jnp
    >>> def rmse(prediction, target):
    ...     squares = (prediction - target) ** 2
    ...     return fx.Summed(jnp.array([squares.sum(), squares.size]), lambda t: (t[0] / t[1]) ** 0.5)
    >>> x = jnp.zeros((3, 1))
    >>> batches = [(x[:1], x[:1] + 3), (x[1:], x[1:])]
    >>> round(fx.evaluate(lambda x: x, batches, loss=fx.mse, metrics=[rmse])["rmse"], 4)
    1.7321
    """

    totals: Array
    result: Callable[[np.ndarray], Any]


jax.tree_util.register_dataclass(Summed, data_fields=["totals"], meta_fields=["result"])


class Column(NamedTuple):
    """One named number in the rows of steps: how many entries it takes there, and how they become the number."""

    name: str
    shape: tuple[int, ...]
    result: Callable[[np.ndarray], Any] | None  # None for a mean

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=int))


def split_loss(returned: Any) -> tuple[Any, OrderedDict[str, Any]]:
    """The loss, and the named numbers that a loss function has returned with it.

    A tuple's first element is the loss. Of a dict that comes second, what is a number or `Summed` is recorded; the
    rest, and what has a name that a history needs for itself, is the caller's own affair.
    """
    if not isinstance(returned, tuple) or not returned:
        return returned, OrderedDict()
    loss, *rest = returned
    beside = rest[0] if rest and isinstance(rest[0], Mapping) else {}
    return loss, OrderedDict(
        (n, v) for n, v in beside.items() if isinstance(n, str) and n not in RESERVED and _is_one(v)
    )


def _is_one(value: Any) -> bool:
    if isinstance(value, Summed):
        return True
    if isinstance(value, bool | int | float):
        return True
    return getattr(value, "shape", None) == () and getattr(value.dtype, "kind", "O") in "biuf"


def checked(named: Mapping[str, Any]) -> OrderedDict[str, Any]:
    """What metrics give by name, in an order that JAX keeps; errors for what is neither a number nor `Summed`."""
    for name, value in named.items():
        if name in RESERVED:
            raise ArgumentError(f"metrics: expected a name of its own, got {name!r}. {', '.join(RESERVED)} are taken.")
        if not isinstance(value, Summed) and np.shape(value) != ():
            raise ShapeError(
                f"{name}: expected a number, got shape {np.shape(value)}. Take its mean, or return "
                "fx.Summed(totals, result) for what is to be added up over all batches."
            )
    return OrderedDict(named)


def columns_of(named: Mapping[str, Any]) -> tuple[Column, ...]:
    """The columns that these numbers take."""
    return tuple(
        Column(name, np.shape(value.totals), value.result) if isinstance(value, Summed) else Column(name, (), None)
        for name, value in named.items()
    )


def packed(numbers: Sequence[Any], named: Mapping[str, Any], dtype: Any) -> Array:
    """One row: `numbers`, then the named ones."""
    values = [*numbers, *(value.totals if isinstance(value, Summed) else value for value in named.values())]
    arrays = [jnp.asarray(value).astype(dtype) for value in values]
    if all(array.ndim == 0 for array in arrays):
        return jnp.stack(arrays)
    return jnp.concatenate([array.reshape(-1) for array in arrays])


def by_epoch(columns: Sequence[Column], rows: np.ndarray, sizes: Sequence[int]) -> list[dict[str, float]]:
    """The loss and the named numbers of each epoch, from an array (epochs, steps, entries of a row).

    `sizes` are the observations of each step of an epoch.
    """
    means = np.average(rows, axis=1, weights=sizes).tolist()
    summed = any(column.result for column in columns)
    sums = rows.sum(1, dtype=np.float64) if summed else means
    return [_numbers(columns, *row) for row in zip(means, sums, strict=True)]


def _numbers(columns: Sequence[Column], means: Sequence[float], sums: Any) -> dict[str, float]:
    numbers = {"loss": means[0]}
    start = 2
    for column in columns:
        end = start + column.size
        numbers[column.name] = means[start] if column.result is None else number(column, sums[start:end])
        start = end
    return numbers


def number(column: Column, totals: np.ndarray) -> float:
    """The number that the totals of a column stand for."""
    if column.result is None:
        return float(totals)
    result = np.asarray(column.result(np.reshape(totals, column.shape)))
    if result.shape != ():
        raise ShapeError(f"{column.name}: expected its result to be a number, got an array of shape {result.shape}.")
    return float(result)


class Running:
    """The loss and the named numbers over the steps of an epoch so far."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = columns
        self.pieces = self.steps = 0  # how often `add` was called, and with how many steps in all
        self.weight = 0.0
        self.weighted: Any = 0.0
        self.sums: Any = 0.0

    def add(self, rows: np.ndarray, sizes: Sequence[int]) -> None:
        """Some more steps: their rows, and the observations of each."""
        self.pieces, self.steps = self.pieces + 1, self.steps + len(rows)
        if not len(rows):
            return
        self.weight += sum(sizes)
        self.weighted = self.weighted + np.asarray(sizes, float) @ rows
        self.sums = self.sums + rows.sum(0, dtype=np.float64)

    def numbers(self) -> dict[str, float]:
        return _numbers(self.columns, (self.weighted / self.weight).tolist(), self.sums) if self.weight else {}
