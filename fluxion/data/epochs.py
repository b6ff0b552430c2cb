"""Several epochs as one stretch of batches."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeGuard

from fluxion.data.arrays import check_whole
from fluxion.errors import DataError, DTypeError

if TYPE_CHECKING:
    from fluxion.data.loader import DataLoader


class Epochs:
    """`count` passes over `data`, one behind the other; without a count, passes without end.

    A `DataLoader` has a new order in each pass, as in a loop over epochs. `train` goes through all of them in one call,
    many short epochs in one call of compiled code.

    Arguments:
        data: a `DataLoader`, a list of batches, or another iterable that can be iterated more than once.
        count: how many times.

    Errors: `DataError` for an iterator, which lasts for one pass, and for a pass without batches.

    Matches Julia's `ncycle` and `cycle`.

    >>> import fluxion as fx, numpy as np
    >>> epochs = fx.Epochs(fx.DataLoader(np.arange(3), batch_size=2), 2)
    >>> len(epochs), list(epochs)
    (4, [array([0, 1]), array([2]), array([0, 1]), array([2])])
    """

    def __init__(self, data: Any, count: int | None = None) -> None:
        if isinstance(data, dict | str) or not hasattr(data, "__iter__"):
            raise DTypeError(f"Epochs: expected an iterable of batches, got {type(data).__name__}.")
        self.count = None if count is None else check_whole(count, "Epochs: count", 0)
        if isinstance(data, Iterator) and self.count != 1:
            raise DataError(
                f"Epochs: expected data that can be read again, got a {type(data).__name__}, which lasts for one pass. "
                "Give a list or a DataLoader."
            )
        self.data = data

    def __len__(self) -> int:
        if self.count is None:
            raise DTypeError("Epochs: the number of batches is not known, for the passes have no end.")
        return self.count * len(self.data)

    def __iter__(self) -> Iterator[Any]:
        return self.batches()

    def batches(self, start: int = 0, first: int | None = None) -> Iterator[Any]:
        """The batches from number `start` on. Of a loader, the first pass is its epoch `first`, or the one due."""
        loader = self.data if can_seek(self.data) else None
        first = self.first if first is None else first
        done, start = divmod(start, len(self.data)) if start else (0, 0)
        for epoch in self.numbers(done):
            if loader is not None:  # by number, because the loader may be used for something else meanwhile
                loader.epoch = first + epoch + 1
                batches = loader.batches(first + epoch, start)
            else:
                batches = itertools.islice(self.data, start, None)
            empty = start == 0
            for batch in batches:
                empty = False
                yield batch
            if empty:
                raise DataError(f"Epochs: expected at least one batch in pass {epoch}, got none.")
            start = 0

    def stopped(self, first: int, done: int) -> None:
        """Put the loader where a run from its epoch `first` that was left after `done` batches leaves it."""
        if can_seek(self.data) and self.sized:
            begun = done // len(self.data) + 1
            self.data.epoch = first + (begun if self.count is None else min(begun, self.count))

    @property
    def sized(self) -> bool:
        """Whether the number of batches in a pass is known."""
        try:
            return len(self.data) >= 0
        except TypeError:
            return False

    @property
    def first(self) -> int:
        """The epoch of the loader that the next pass runs; 0 without a loader."""
        return self.data.epoch if can_seek(self.data) else 0

    @first.setter
    def first(self, epoch: int) -> None:
        if can_seek(self.data):
            self.data.epoch = epoch

    def numbers(self, done: int = 0) -> Iterable[int]:
        """The numbers of the passes, without the first `done`."""
        return itertools.count(done) if self.count is None else range(done, self.count)

    def __repr__(self) -> str:
        return f"Epochs({self.data!r}, {self.count})"


def can_seek(data: Any) -> TypeGuard[DataLoader]:
    """Whether `data` can begin an epoch at any batch, as a `DataLoader` can."""
    return hasattr(data, "batches") and hasattr(data, "epoch")


def batches_from(data: Iterable[Any], start: int) -> Iterator[Any]:
    """The batches of an epoch from number `start` on; what is no loader has to be read from its beginning."""
    if start and isinstance(data, Epochs):
        return data.batches(start)
    if start and can_seek(data):
        epoch = data.epoch
        data.epoch = epoch + 1
        return data.batches(epoch, start)
    return itertools.islice(data, start, None)
