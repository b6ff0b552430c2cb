"""Batches of observations, in an order that depends on the seed and the epoch alone."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial as bound
from itertools import count as counting
from itertools import islice
from typing import Any

import jax
import numpy as np

from fluxion.data.ahead import END, default_device, made_ahead, on_device, one_by_one
from fluxion.data.arrays import (
    batch,
    check_whole,
    getob,
    getobs,
    is_array,
    is_table,
    leaves,
    numobs,
)
from fluxion.data.orders import Order, Sampler
from fluxion.data.workers import Workers
from fluxion.errors import ArgumentError, DataError, DTypeError
from fluxion.transform.compile import jit
from fluxion.transform.randomness import next_seed, randomness

STREAM = 0x64617461  # keeps the random numbers of data apart from those of training steps with the same seed


class DataLoader:
    """Iterate over batches of data, one epoch per `for` loop.

    Batch `i` holds observations `order[i * batch_size : (i + 1) * batch_size]`; `order` is 0, 1, 2, ... or, with
    `shuffle`, a permutation drawn anew each epoch as a function of `(seed, epoch)` alone; or what `sampler` says.

    Shapes: arrays of `(N, ...)` -> batches of `(batch_size, ...)` in the container the data came in.

    Arguments:
        data: an array whose first axis counts observations; a tuple, named tuple, dict or list of arrays of equal
            length; a table; any object with `__len__` and `__getitem__`, whose observations are stacked by `fx.batch`;
            or any other iterable of observations, taken as they come: then the number of batches is not known.
            NumPy arrays give NumPy batches (views of the data, unless shuffled), JAX arrays JAX batches.
        batch_size: observations per batch; `None` where the items of an iterable are batches already.
        shuffle: whether each epoch has a new random order.
        partial: whether the short last batch is kept.
        seed: the number that decides all that is random; `None` draws one from the default stream (`fx.seed`).
        collate: a function of the list of observations of a batch, in place of `fx.batch`; `list` gives them as they
            are. It sees whole observations, such as `(x, y)` of a tuple of arrays.
        workers: the number of processes that make batches; 0 makes them here. For data whose observations take Python
            work: arrays are sliced here in any case. The batches are the same for every number.
        prefetch: how many of such batches are made ahead, in the background, while the one before is used; with an
            accelerator they are put there, too. 0 makes each when it is asked for.
        sampler: what decides the order in place of `shuffle`: `fx.WeightedSampler`, `fx.BalancedSampler`,
            `fx.LengthSampler`, or an object whose `order(seed, epoch)` gives the indices of an epoch's observations, or
            a list of them for each batch (then `batch_size` is left out).
        augment: a function of the parts of a batch that gives the batch in its place, such as
            `lambda x, y: (fx.random_crop(x), y)`. It is compiled, and draws its random numbers from
            `(seed, epoch, number of the batch)`.

    Errors: `ShapeError` where parts hold different numbers of observations, `DataError` without observations or
    where no batch would come, `DTypeError` for data that are no data, `ArgumentError` for bad options. An exception
    of the data set's own comes out as it is, also out of a worker, with a note that names the observation.

    Each `for` loop runs epoch `loader.epoch` and moves it on by one, also when it is left early; set `loader.epoch` to
    repeat one. `loader.batches(epoch, start)` runs a given epoch from a given batch and changes nothing: `seed`,
    `epoch` and the number of the batch are the whole state. `len` is the number of batches.

    Random numbers drawn by `fx` functions while a batch is made, such as `fx.rand` in `__getitem__`, are functions of
    `(seed, epoch, number of the batch)` as well. Workers stay for the next epoch, and end with the loader or when a
    loop is left early.

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
        batch_size: int | None = 1,
        shuffle: bool = False,
        partial: bool = True,
        seed: int | None = None,
        collate: Callable[[list[Any]], Any] | None = None,
        workers: int = 0,
        prefetch: int = 2,
        sampler: Sampler | None = None,
        augment: Callable[..., Any] | None = None,
    ) -> None:
        self.data = data
        self.batch_size = 0 if batch_size is None else check_whole(batch_size, "DataLoader: batch_size", 1)
        self.shuffle = _check_bool(shuffle, "shuffle")
        self.partial = _check_bool(partial, "partial")
        self.collate = _check_function(collate, "collate", "the list of observations")
        self.workers = check_whole(workers, "DataLoader: workers", 0)
        self.prefetch = check_whole(prefetch, "DataLoader: prefetch", 0)
        self.sampler = sampler
        self.augment = _check_function(augment, "augment", "the parts of a batch")
        self.epoch = 0
        self.streams = _is_stream(data, self.batch_size)
        self.sliced = collate is None and not self.streams and all(is_array(x) or is_table(x) for x in leaves(data))
        if seed is not None:
            seed = check_whole(seed, "DataLoader: seed", 0)
        elif shuffle or sampler is not None or augment is not None or not self.sliced:
            seed = next_seed()
        self._seed = seed
        self._augment = None if augment is None else jit(bound(_augmented, augment))
        self._pool: Workers | None = None  # idle between two epochs
        self._begun = False
        self.count = 0  # of observations in an epoch, where it is known
        if self.streams:
            self._check_stream()
            return
        available = numobs(data, "DataLoader")
        if available == 0:
            raise DataError("DataLoader: expected at least one observation, got none.")
        self._order = Order(available, self.batch_size, self.shuffle, self.partial, self._root, sampler)
        self.count = self._order.count
        if len(self) == 0:
            raise DataError(
                f"DataLoader: expected at least {batch_size} observations for one whole batch, got {self.count}. "
                "Use a smaller batch_size or partial=True."
            )

    def _check_stream(self) -> None:
        kind = type(self.data).__name__
        for name, given in (("shuffle", self.shuffle), ("sampler", self.sampler), ("workers", self.workers)):
            if given:
                raise ArgumentError(
                    f"DataLoader: {name} is for data with __len__ and __getitem__, got a {kind}, whose observations "
                    "are taken as they come. Read them into a list or arrays first."
                )
        if not self.batch_size and self.collate is not None:
            raise ArgumentError("DataLoader: collate is for observations; with batch_size=None the items are batches.")

    @property
    def seed(self) -> int | None:
        """The number that decides all that is random; a loader that is given another goes on with that one's orders."""
        return self._seed

    @seed.setter
    def seed(self, value: int) -> None:
        self._seed = check_whole(value, "DataLoader: seed", 0)

    @property
    def _root(self) -> int:
        """The seed as a number; there is none only where nothing is random."""
        return self.seed or 0

    @property
    def epoch(self) -> int:
        """The epoch that the next `for` loop runs, counted from 0."""
        return self._epoch

    @epoch.setter
    def epoch(self, value: int) -> None:
        self._epoch = check_whole(value, "DataLoader: epoch", 0)

    @property
    def in_order(self) -> bool:
        """Whether observations come as the data hold them."""
        return not self.shuffle and self.sampler is None

    @property
    def only_slices(self) -> bool:
        """Whether a batch is `batch_size` rows of each part and nothing else happens to it."""
        return self.sliced and self.augment is None and not self._order.lists

    def __len__(self) -> int:
        if self.streams:
            raise DTypeError(f"DataLoader: the number of batches of a {type(self.data).__name__} is not known.")
        return len(self._order)

    def __iter__(self) -> Iterator[Any]:
        epoch = self.epoch
        self.epoch = epoch + 1
        return self.batches(epoch)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Any]:
        """The batches of `epoch` from number `start` on; `self.epoch` stays as it is."""
        epoch = check_whole(epoch, "DataLoader.batches: epoch", 0)
        start = check_whole(start, "DataLoader.batches: start", 0, None if self.streams else len(self))
        return self._run(epoch, start)

    def example(self) -> Any:
        """The first batch of epoch 0, made without workers; an iterator that can be read once would lose it."""
        if isinstance(self.data, Iterator):
            raise DataError(
                f"DataLoader: a {type(self.data).__name__} gives its first batch once, and it is for training. "
                "Infer sizes by fx.autosize(model, shape)."
            )
        if self.streams:
            return next(self._run(0, 0), None)
        return self._augmented(0, 0, self._made(self._root, 0, 0))

    def indices(self, epoch: int) -> np.ndarray:
        """The observations of `epoch` in their order, shape `(N,)`."""
        epoch = check_whole(epoch, "DataLoader.indices: epoch", 0)
        if self.streams:
            raise DTypeError(f"DataLoader.indices: a {type(self.data).__name__} has no indices.")
        return self._order.indices(self._root, epoch)

    def _run(self, epoch: int, start: int) -> Iterator[Any]:
        for i, made in enumerate(self._raw(epoch, start), start):
            yield self._augmented(epoch, i, made)

    def _raw(self, epoch: int, start: int) -> Iterator[Any]:
        """The batches before `augment`."""
        if self.streams:
            return self._in_background(self._stream(epoch, start), counting())
        numbers = range(start, len(self))
        if self.sliced:
            return one_by_one(bound(self._made, self._root, epoch), numbers)
        if self.workers:
            return self._by_workers(epoch, numbers)
        return self._in_background(bound(self._made, self._root, epoch), numbers)

    def _in_background(self, make: Callable[[int], Any], numbers: Iterable[int]) -> Iterator[Any]:
        if not self.prefetch:
            return one_by_one(make, numbers)
        device = default_device()
        return made_ahead(lambda i: on_device(make(i), device), numbers, count=self.prefetch)

    def _by_workers(self, epoch: int, numbers: range) -> Iterator[Any]:
        device, seed = default_device(), self._root
        pool, self._pool = self._pool, None
        if pool is None:
            twin = copy.copy(self)
            twin.augment = twin._augment = None
            pool = Workers(twin._made, self.workers)
        complete = False
        try:
            yield from made_ahead(
                lambda i: on_device(pool.ask(seed, epoch, i), device),
                numbers,
                count=self.workers + self.prefetch,
                threads=self.workers,
                stop=pool.stop,
            )
            complete = True
        finally:
            if complete and self._pool is None:
                self._pool = pool
            else:
                pool.close()

    def _made(self, seed: int, epoch: int, i: int) -> Any:
        """Batch `i` of an epoch."""
        if self.sliced:
            return getobs(self.data, self._order.rows(seed, epoch, i))
        with randomness(_key(_words(seed, epoch, i))):
            return self._batch(self._order.rows(seed, epoch, i))

    def _batch(self, index: slice | np.ndarray) -> Any:
        if self.collate is None:
            return getobs(self.data, index)
        chosen = range(*index.indices(self.count)) if isinstance(index, slice) else index
        return self.collate([getob(self.data, int(i)) for i in chosen])

    def _stream(self, epoch: int, start: int) -> Callable[[int], Any]:
        """A function that makes the next batch of an iterable at each call, or gives `END`."""
        if isinstance(self.data, Iterator):
            if self._begun:
                raise DataError(
                    f"DataLoader: a {type(self.data).__name__} can be read once, and has been. Give an object whose "
                    "__iter__ begins anew, or a list."
                )
            self._begun = True
        items = islice(iter(self.data), start * max(self.batch_size, 1), None)
        numbers = counting(start)

        def make(_: int) -> Any:
            with randomness(_key(_words(self._root, epoch, next(numbers)))):
                if not self.batch_size:
                    return next(items, END)
                observations = list(islice(items, self.batch_size))
                if not observations or (len(observations) < self.batch_size and not self.partial):
                    return END
                return (self.collate or batch)(observations)

        return make

    def _augmented(self, epoch: int, i: int, made: Any) -> Any:
        return made if self._augment is None else self._augment(_words(self._root, epoch, i), made)

    def __repr__(self) -> str:
        options = [_describe(self.data)]
        if self.batch_size != 1:
            options.append(f"batch_size={self.batch_size or None}")
        if self.shuffle:
            options.append(f"shuffle=True, seed={self.seed}")
        if self.sampler is not None:
            options.append(f"sampler={self.sampler!r}, seed={self.seed}")
        if not self.partial:
            options.append("partial=False")
        for name, function in (("collate", self.collate), ("augment", self.augment)):
            if function is not None:
                options.append(f"{name}={getattr(function, '__name__', function)}")
        if self.workers:
            options.append(f"workers={self.workers}")
        if self.prefetch != 2:
            options.append(f"prefetch={self.prefetch}")
        told = "batches as they come"
        if not self.streams:
            batches = "1 batch" if len(self) == 1 else f"{len(self)} batches"
            told = f"{self.count} observations in {batches}"
        return f"DataLoader({', '.join(options)})  # {told}"


def _words(seed: int, epoch: int, i: int) -> np.ndarray:
    """The root of the random numbers of batch `i`."""
    return np.random.SeedSequence([seed, epoch, i, STREAM]).generate_state(2)


def _key(words: Any) -> jax.Array:
    return jax.random.wrap_key_data(words, impl="threefry2x32")


def _augmented(function: Callable[..., Any], words: Any, batch: Any) -> Any:
    """The batch after `function`; compiled, with the making of the key, which by itself would take longer."""
    with randomness(_key(words)):
        return function(*batch) if isinstance(batch, tuple | list) else function(batch)


def _is_stream(data: Any, batch_size: int) -> bool:
    """Whether the data are to be read from beginning to end, and not by index."""
    parts = is_array(data) or is_table(data) or isinstance(data, tuple | Mapping | str | bytes)
    if not batch_size:
        if parts or not hasattr(data, "__iter__"):
            raise ArgumentError(
                f"DataLoader: batch_size=None is for an iterable of batches, got {type(data).__name__}."
            )
        return True
    return not parts and hasattr(data, "__iter__") and not (hasattr(data, "__len__") and hasattr(data, "__getitem__"))


def _check_function(value: Any, name: str, of: str) -> Any:
    if value is not None and not callable(value):
        raise DTypeError(f"DataLoader: expected {name} as a function of {of}, got {value!r}.")
    return value


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
