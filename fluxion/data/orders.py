"""Which observations each batch of an epoch has: as they come, shuffled, or as a sampler says.

An order is a function of the seed and the epoch alone, so that an epoch can be repeated and a run resumed.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from fluxion.data.arrays import permutation
from fluxion.errors import ArgumentError, DataError, DTypeError


class Sampler(Protocol):
    """Which observations an epoch has, and in which order: indices, or a list of those of each batch."""

    def order(self, seed: int, epoch: int) -> np.ndarray | list[np.ndarray]: ...


class Order:
    """The batches of every epoch of a `DataLoader`, as indices."""

    def __init__(
        self, available: int, batch_size: int, shuffle: bool, partial: bool, seed: int, sampler: Sampler | None
    ) -> None:
        self.available = available  # observations in the data
        self.count = available  # in an epoch
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.partial = partial
        self.sampler = sampler
        self.lists = 0  # the number of batches, where the sampler makes them
        self.latest: tuple[Any, Any] = (None, None)  # the last seed and epoch asked for, and their order
        if sampler is not None:
            self.check_sampler(seed)

    def check_sampler(self, seed: int) -> None:
        if not hasattr(self.sampler, "order"):
            raise DTypeError(f"DataLoader: expected a sampler with a method order(seed, epoch), got {self.sampler!r}.")
        if self.shuffle:
            raise ArgumentError("DataLoader: expected either shuffle or a sampler, which decides the order; got both.")
        order = self.of(seed, 0)
        if isinstance(order, list):
            if self.batch_size != 1 or not self.partial:
                raise ArgumentError(
                    f"DataLoader: {type(self.sampler).__name__} makes the batches. Leave out batch_size and partial."
                )
            self.lists, self.count = len(order), sum(map(len, order))
        else:
            self.count = len(order)

    def __len__(self) -> int:
        if self.lists:
            return self.lists
        whole, rest = divmod(self.count, self.batch_size)
        return whole + (1 if rest and self.partial else 0)

    def of(self, seed: int, epoch: int) -> Any:
        """The indices of an epoch, a list of those of its batches, or `None` for 0, 1, 2, ..."""
        if not self.shuffle and self.sampler is None:
            return None
        known, order = self.latest
        if known != (seed, epoch):
            order = permutation(self.count, seed, epoch) if self.sampler is None else self.sampled(seed, epoch)
            self.latest = ((seed, epoch), order)
        return order

    def indices(self, seed: int, epoch: int) -> np.ndarray:
        """The indices of an epoch, one after the other."""
        order = self.of(seed, epoch)
        if isinstance(order, list):
            return np.concatenate(order)
        return np.arange(self.count) if order is None else order

    def rows(self, seed: int, epoch: int, i: int) -> slice | np.ndarray:
        """The observations of batch `i`."""
        order = self.of(seed, epoch)
        if isinstance(order, list):
            return order[i]
        rows = slice(i * self.batch_size, min((i + 1) * self.batch_size, self.count))
        return rows if order is None else order[rows]

    def sampled(self, seed: int, epoch: int) -> Any:
        """What the sampler gives, checked."""
        name = f"{type(self.sampler).__name__}.order"
        order = self.sampler.order(seed, epoch)  # type: ignore[union-attr]
        if isinstance(order, list) and order and np.ndim(order[0]) > 0:
            order = [np.asarray(indices) for indices in order]
            flat = np.concatenate(order)
        else:
            flat = order = np.asarray(order)
        if flat.ndim != 1 or flat.dtype.kind not in "iu":
            raise DTypeError(f"{name}: expected indices or a list of batches of them, got {flat.dtype}{flat.shape}.")
        if len(flat) == 0:
            raise DataError(f"{name}: expected at least one index for epoch {epoch}, got none.")
        if flat.min() < 0 or flat.max() >= self.available:
            wrong = flat.min() if flat.min() < 0 else flat.max()
            raise DataError(f"{name}: expected indices between 0 and {self.available - 1}, got {wrong}.")
        if epoch > 0 and self.lists and (not isinstance(order, list) or len(order) != self.lists):
            raise DataError(f"{name}: expected {self.lists} batches, as in epoch 0, got {len(order)} in {epoch}.")
        if epoch > 0 and len(flat) != self.count:
            raise DataError(f"{name}: expected {self.count} observations, as in epoch 0, got {len(flat)} in {epoch}.")
        return order
