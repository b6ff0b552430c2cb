"""What `fit`, `evaluate` and `predict` take for data, as batches `(x, y, sample_weight)` of the engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from fluxion.data.loader import DataLoader
from fluxion.dialects.keras.variables import Box, plain
from fluxion.errors import ArgumentError, DataError, ShapeError
from fluxion.transform.randomness import next_seed

BATCH_SIZE = 32


class PyDataset:
    """The base of data sets by batch: override `__len__`, the number of batches, and `__getitem__(i)`, a batch.

    `on_epoch_end` is called after each epoch. Batches are made in this process: `workers` and the like are not there.

    >>> from fluxion.dialects import keras
    >>> class Squares(keras.utils.PyDataset):
    ...     def __len__(self):
    ...         return 2
    ...     def __getitem__(self, i):
    ...         x = keras.ops.ones((4, 1)) * i
    ...         return x, x**2
    >>> len(Squares())
    2
    """

    def __init__(self) -> None:
        pass

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} defines no __len__.")

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError(f"{type(self).__name__} defines no __getitem__(index).")

    def on_epoch_end(self) -> None:
        """After an epoch."""


def feed(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    batch_size: int | None = None,
    shuffle: bool = False,
    steps: int | None = None,
    class_weight: Mapping[int, float] | None = None,
    caller: str = "fit",
) -> Iterable[Any]:
    """Batches of arrays, or of anything that can be iterated."""
    if is_arrays(x):
        arrays = as_batch(x, y, sample_weight, class_weight, caller)
        size = BATCH_SIZE if batch_size is None else batch_size
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ArgumentError(f"{caller}: expected batch_size of at least 1, got {batch_size!r}.")
        loader = DataLoader(arrays, batch_size=size, shuffle=shuffle, seed=next_seed() if shuffle else None)
        return loader if steps is None or steps == len(loader) else Steps(loader, steps)
    given = {"y": y, "sample_weight": sample_weight, "batch_size": batch_size}
    odd = [name for name, value in given.items() if value is not None]
    if odd:
        raise ArgumentError(f"{caller}: {odd[0]} goes with arrays, but x is a {type(x).__name__}, which gives batches.")
    if isinstance(x, DataLoader) and steps is None and class_weight is None:
        return x
    if not isinstance(x, PyDataset) and not hasattr(x, "__iter__"):
        raise ArgumentError(f"{caller}: expected arrays or batches, got {type(x).__name__}.")
    batches = Batches(x, class_weight, caller)
    return batches if steps is None else Steps(batches, steps)


class Batches:
    """The batches of an iterable or a `PyDataset`, each as the engine takes it."""

    def __init__(self, source: Any, class_weight: Mapping[int, float] | None, caller: str) -> None:
        self.source, self.class_weight, self.caller = source, class_weight, caller

    def __len__(self) -> int:
        return len(self.source)  # a TypeError where it has none, as it should be

    def __iter__(self) -> Iterator[Any]:
        for batch in self.raw():
            yield as_batch(*unpacked(batch), self.class_weight, self.caller)
        if hasattr(self.source, "on_epoch_end"):
            self.source.on_epoch_end()

    def raw(self) -> Iterator[Any]:
        if isinstance(self.source, PyDataset):
            return (self.source[i] for i in range(len(self.source)))
        return iter(self.source)


class Steps:
    """A certain number of batches an epoch; the next epoch goes on where this one ended."""

    def __init__(self, source: Iterable[Any], steps: int) -> None:
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ArgumentError(f"fit: expected a number of steps of at least 1, got {steps!r}.")
        self.source, self.steps = source, steps
        self.going: Iterator[Any] | None = None

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Any]:
        for _ in range(self.steps):
            batch = None if self.going is None else next(self.going, None)
            if batch is None:
                self.going = iter(self.source)
                batch = next(self.going, None)
            if batch is None:  # an iterator that is exhausted
                return
            yield batch


class Peeked:
    """Batches of which the first was already taken, to build the model with."""

    def __init__(self, source: Iterable[Any]) -> None:
        self.source = source
        self.iterator: Iterator[Any] | None = iter(source)
        self.batch = next(self.iterator, None)
        if self.batch is None:
            raise DataError("fit: expected at least one batch, got none.")

    def __len__(self) -> int:
        return len(self.source)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        if self.iterator is None:
            yield from self.source
            return
        going, self.iterator = self.iterator, None
        yield self.batch
        yield from going


def first_batch(batches: Iterable[Any]) -> tuple[Any, Iterable[Any]]:
    """A batch to look at, and the batches, all of them."""
    if isinstance(batches, DataLoader):
        return batches.example(), batches
    peeked = Peeked(batches)
    return peeked.batch, peeked


def is_arrays(x: Any) -> bool:
    """Whether `x` is arrays to be cut into batches, rather than batches."""
    if isinstance(x, Mapping):
        return True
    if isinstance(x, list | tuple):
        return bool(x) and all(is_array(part) or isinstance(part, list | tuple | int | float | Mapping) for part in x)
    return is_array(x)


def is_array(x: Any) -> bool:
    return isinstance(x, Box) or (hasattr(x, "shape") and hasattr(x, "dtype")) or hasattr(x, "__array__")


def as_batch(x: Any, y: Any, sample_weight: Any, class_weight: Mapping[int, float] | None, caller: str) -> Any:
    """A tuple of as many parts as there are, of arrays that JAX takes, all of one length."""
    parts = (arrays_of(x), arrays_of(y), arrays_of(sample_weight))
    if class_weight is not None:
        if sample_weight is not None:
            raise ArgumentError(f"{caller}: expected class_weight or sample_weight, got both. Multiply them yourself.")
        if not hasattr(parts[1], "shape"):
            raise ArgumentError(f"{caller}: class_weight needs one y of class labels, got {type(y).__name__}.")
        parts = (*parts[:2], class_weights(parts[1], class_weight))
    if parts[2] is not None and parts[1] is None:
        raise ArgumentError(f"{caller}: sample_weight needs a y.")
    given = tuple(part for part in parts if part is not None)
    lengths = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(given)}
    if len(lengths) != 1 or () in lengths:
        shapes = {n: [np.shape(a) for a in jax.tree.leaves(p)] for n, p in zip(("x", "y", "w"), parts, strict=True)}
        raise ShapeError(f"{caller}: expected arrays with one equal first axis, got {shapes}.")
    return given


def arrays_of(value: Any) -> Any:
    """Arrays as JAX takes them: float64 as float32, lists of arrays as tuples, others' tensors as NumPy arrays."""
    if value is None or isinstance(value, jax.Array):
        return value
    if isinstance(value, Mapping):
        return {key: arrays_of(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        if any(is_array(part) and np.ndim(plain(part)) for part in value):
            return tuple(map(arrays_of, value))
        return arrays_of(np.asarray(value))
    value = plain(value)
    if isinstance(value, jax.Array):
        return value
    array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    if array.dtype == np.float64 and not jax.config.read("jax_enable_x64"):
        return array.astype(np.float32)
    return array


def class_weights(y: Any, class_weight: Mapping[int, float]) -> np.ndarray:
    """The weight of each example, by its class: a label, or the greatest of a one-hot row."""
    labels = np.asarray(y)
    if labels.ndim > 1:
        labels = labels[..., 0] if labels.shape[-1] == 1 else np.argmax(labels, axis=-1)
    return np.array([class_weight.get(int(label), 1.0) for label in np.round(labels).ravel()], np.float32)


def split_off(parts: Sequence[Any], share: float, caller: str = "fit") -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The first part of arrays, and the last `share` of them."""
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1:
        raise ArgumentError(f"{caller}: expected validation_split between 0 and 1, got {share!r}.")
    if not is_arrays(parts[0]):
        raise ArgumentError(
            f"{caller}: validation_split holds out a part of arrays, but x is a {type(parts[0]).__name__}. "
            "Give validation_data."
        )
    arrays = tuple(map(arrays_of, parts))
    count = len(jax.tree.leaves(arrays[0])[0])
    at = int(np.floor(count * (1 - share)))
    if at in (0, count):
        raise ArgumentError(f"{caller}: validation_split={share} of {count} examples leaves one part empty.")

    def cut(rows: slice) -> tuple[Any, ...]:
        return tuple(None if part is None else jax.tree.map(lambda array: array[rows], part) for part in arrays)

    return cut(slice(None, at)), cut(slice(at, None))


def unpacked(data: Any) -> tuple[Any, Any, Any]:
    """`x`, `(x, y)` or `(x, y, sample_weight)` as three parts."""
    if not isinstance(data, list | tuple):
        return data, None, None
    if not 1 <= len(data) <= 3:
        raise ArgumentError(f"data: expected x, (x, y) or (x, y, sample_weight), got a tuple of {len(data)}.")
    x, y, w = (*data, None, None)[:3]
    return x, y, w
