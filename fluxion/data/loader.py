"""Batches of observations, in an order that depends on the seed and the epoch alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Any

import numpy as np

from fluxion.data.arrays import check_whole, getobs, is_array, map_parts, numobs, permutation
from fluxion.errors import DataError, DTypeError
from fluxion.transform.randomness import next_seed


class DataLoader:
    """Iterate over batches of data, one epoch per `for` loop.

    Batch `i` holds observations `order[i * batch_size : (i + 1) * batch_size]`; `order` is 0, 1, 2, ... or, with
    `shuffle`, a permutation drawn anew each epoch as a function of `(seed, epoch)` alone.

    Shapes: arrays of `(N, ...)` -> batches of `(batch_size, ...)` in the container the data came in.

    Arguments:
        data: an array whose first axis counts observations; a tuple, named tuple, dict or list of arrays of equal
            length; or any object with `__len__` and `__getitem__`, whose observations are stacked by `fx.batch`.
            NumPy arrays give NumPy batches (views of the data, unless shuffled), JAX arrays JAX batches.
        batch_size: observations per batch.
        shuffle: whether each epoch has a new random order.
        partial: whether the short last batch is kept.
        seed: the number that decides the orders; `None` draws one from the default stream (`fx.seed`).
        collate: a function of the list of observations of a batch, in place of `fx.batch`; `list` gives them as they
            are. It sees whole observations, such as `(x, y)` of a tuple of arrays.

    Errors: `ShapeError` where parts hold different numbers of observations, `DataError` without observations or
    where no batch would come, `DTypeError` for data that cannot be indexed, `ArgumentError` for a bad `batch_size`.

    Each `for` loop runs epoch `loader.epoch` and moves it on by one, also when it is left early; set `loader.epoch` to
    repeat one. `loader.batches(epoch, start)` runs a given epoch from a given batch and changes nothing. `len` is the
    number of batches.

    Matches MLUtils' `DataLoader` in what a batch holds; orders are NumPy's `PCG64` of `SeedSequence([seed, epoch])`.

    >>> import fluxion as fx, numpy as np
    >>> loader = fx.DataLoader((np.arange(5), np.eye(5)), batch_size=2)
    >>> [x for x, y in loader]
    [array([0, 1]), array([2, 3]), array([4])]
    >>> loader
    DataLoader((int64(5,), float64(5, 5)), batch_size=2)  # 5 observations in 3 batches
    """

    def __init__(
        self,
        data: Any,
        *,
        batch_size: int = 1,
        shuffle: bool = False,
        partial: bool = True,
        seed: int | None = None,
        collate: Callable[[list[Any]], Any] | None = None,
    ) -> None:
        self.data = data
        self.batch_size = check_whole(batch_size, "DataLoader: batch_size", 1)
        self.shuffle = _check_bool(shuffle, "shuffle")
        self.partial = _check_bool(partial, "partial")
        if collate is not None and not callable(collate):
            raise DTypeError(f"DataLoader: expected collate as a function of a list of observations, got {collate!r}.")
        self.collate = collate
        self.count = numobs(data, "DataLoader")
        if self.count == 0:
            raise DataError("DataLoader: expected at least one observation, got none.")
        if len(self) == 0:
            raise DataError(
                f"DataLoader: expected at least {batch_size} observations for one whole batch, got {self.count}. "
                "Use a smaller batch_size or partial=True."
            )
        if seed is not None:
            seed = check_whole(seed, "DataLoader: seed", 0)
        elif shuffle:
            seed = next_seed()
        self.seed = seed
        self.epoch = 0

    @property
    def epoch(self) -> int:
        """The epoch that the next `for` loop runs, counted from 0."""
        return self._epoch

    @epoch.setter
    def epoch(self, value: int) -> None:
        self._epoch = check_whole(value, "DataLoader: epoch", 0)

    def __len__(self) -> int:
        whole, rest = divmod(self.count, self.batch_size)
        return whole + (1 if rest and self.partial else 0)

    def __iter__(self) -> Iterator[Any]:
        epoch = self.epoch
        self.epoch = epoch + 1
        return self.batches(epoch)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Any]:
        """The batches of `epoch` from number `start` on; `self.epoch` stays as it is."""
        epoch = check_whole(epoch, "DataLoader.batches: epoch", 0)
        start = check_whole(start, "DataLoader.batches: start", 0, len(self))
        return self._run(epoch, start)

    def indices(self, epoch: int) -> np.ndarray:
        """The order of all observations in `epoch`, shape `(N,)`."""
        epoch = check_whole(epoch, "DataLoader.indices: epoch", 0)
        if not self.shuffle or self.seed is None:
            return np.arange(self.count)
        return permutation(self.count, self.seed, epoch)

    def _run(self, epoch: int, start: int) -> Iterator[Any]:
        order = self.indices(epoch) if self.shuffle else None
        for i in range(start, len(self)):
            rows = slice(i * self.batch_size, min((i + 1) * self.batch_size, self.count))
            yield self._batch(rows if order is None else order[rows])

    def _batch(self, index: slice | np.ndarray) -> Any:
        if self.collate is None:
            return getobs(self.data, index)
        chosen = range(*index.indices(self.count)) if isinstance(index, slice) else index
        return self.collate([map_parts(itemgetter(int(i)), self.data) for i in chosen])

    def __repr__(self) -> str:
        options = [_describe(self.data)]
        if self.batch_size != 1:
            options.append(f"batch_size={self.batch_size}")
        if self.shuffle:
            options.append(f"shuffle=True, seed={self.seed}")
        if not self.partial:
            options.append("partial=False")
        if self.collate is not None:
            options.append(f"collate={getattr(self.collate, '__name__', self.collate)}")
        batches = "1 batch" if len(self) == 1 else f"{len(self)} batches"
        return f"DataLoader({', '.join(options)})  # {self.count} observations in {batches}"


def _check_bool(value: Any, name: str) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise DTypeError(f"DataLoader: expected {name} as True or False, got {value!r}.")
    return bool(value)


def _describe(data: Any) -> str:
    """`(float32(150, 4), int64(150,))`: the container with the types and shapes of its arrays."""
    if is_array(data):
        return f"{data.dtype}{data.shape}"
    if isinstance(data, dict):
        return "{" + ", ".join(f"{key!r}: {_describe(value)}" for key, value in data.items()) + "}"
    if hasattr(data, "_fields"):
        fields = zip(data._fields, data, strict=True)
        return f"{type(data).__name__}(" + ", ".join(f"{key}={_describe(value)}" for key, value in fields) + ")"
    if isinstance(data, tuple):
        return "(" + ", ".join(_describe(part) for part in data) + ("," if len(data) == 1 else "") + ")"
    if isinstance(data, list) and all(is_array(part) for part in data):
        return "[" + ", ".join(_describe(part) for part in data) + "]"
    return type(data).__name__
