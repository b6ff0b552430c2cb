"""The helpers of `keras.utils` that programs use around training."""

from __future__ import annotations

from typing import Any

import numpy as np

import fluxion
from fluxion.dialects.keras.feeding import PyDataset, split_off
from fluxion.dialects.keras.names import choose, forget_names, known_arguments
from fluxion.errors import ArgumentError, DataError

__all__ = [
    "PyDataset",
    "Sequence",
    "clear_session",
    "normalize",
    "pad_sequences",
    "set_random_seed",
    "split_dataset",
    "to_categorical",
]

Sequence = PyDataset  # its older name


@known_arguments
def to_categorical(x: Any, num_classes: int | None = None) -> np.ndarray:
    """Integer labels as one-hot rows, float64: `(...)` or `(..., 1)` becomes `(..., num_classes)`.

    A label outside `[0, num_classes)` is an error; without `num_classes` there are as many as the greatest label says.

    >>> from fluxion.dialects import keras
    >>> keras.utils.to_categorical([0, 2])
    array([[1., 0., 0.],
           [0., 0., 1.]])
    """
    given = np.asarray(x)
    labels = given.astype(np.int64)
    if labels.ndim > 1 and labels.shape[-1] == 1:
        labels, given = labels[..., 0], given[..., 0]
    classes = int(num_classes or (labels.max(initial=-1) + 1))
    bad = (labels < 0) | (labels >= classes) | (given != labels)
    if bad.any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        raise DataError(f"to_categorical: label {given[index]} at index {index} is none of {classes} classes from 0.")
    return np.eye(classes)[labels]


@known_arguments
def normalize(x: Any, axis: int = -1, order: int = 2) -> np.ndarray:
    """`x` over its norm along `axis`; where that is 0, as it is.

    >>> from fluxion.dialects import keras
    >>> keras.utils.normalize([[3.0, 4.0]])
    array([[0.6, 0.8]])
    """
    array = np.asarray(x)
    norm = np.linalg.norm(array, order, axis, keepdims=True)
    return array / np.where(norm == 0, 1, norm)


@known_arguments
def set_random_seed(seed: int) -> None:
    """Seed everything random here, `fx.seed(seed)`, and Python's and NumPy's own streams, as Keras does."""
    import random

    fluxion.seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002


def clear_session() -> None:
    """Begin anew with automatic names: `dense`, `dense_1` ..."""
    forget_names()


@known_arguments
def pad_sequences(
    sequences: Any,
    maxlen: int | None = None,
    dtype: Any = "int32",
    padding: str = "pre",
    truncating: str = "pre",
    value: float = 0.0,
) -> np.ndarray:
    """Lists of several lengths as one array `(n, maxlen)`, filled up and cut off before ("pre") or behind ("post").

    >>> from fluxion.dialects import keras
    >>> keras.utils.pad_sequences([[1], [2, 3, 4]], maxlen=2)
    array([[0, 1],
           [3, 4]], dtype=int32)
    """
    sides = {"pre": "pre", "post": "post"}
    padding, truncating = choose("padding", padding, sides), choose("truncating", truncating, sides)
    rows = [np.asarray(row) for row in sequences]
    if any(row.ndim == 0 for row in rows):
        raise ArgumentError("pad_sequences: expected a list of lists, got a list that holds single values.")
    length = max((len(row) for row in rows), default=0) if maxlen is None else maxlen
    shape = next((row.shape[1:] for row in rows if len(row)), ())
    out = np.full((len(rows), length, *shape), value, dtype=dtype)
    for i, row in enumerate(rows):
        kept = row[len(row) - min(len(row), length) :] if truncating == "pre" else row[:length]
        if len(kept):
            out[i, length - len(kept) :] = kept if padding == "pre" else out[i, length - len(kept) :]
            if padding == "post":
                out[i, : len(kept)] = kept
    return out


@known_arguments
def split_dataset(
    dataset: Any,
    left_size: float | None = None,
    right_size: float | None = None,
    shuffle: bool = False,
    seed: Any = None,
) -> tuple[Any, Any]:
    """Arrays in two parts, by the share or the number of examples of one of them.

    >>> from fluxion.dialects import keras
    >>> import numpy as np
    >>> left, right = keras.utils.split_dataset((np.arange(10), np.arange(10)), left_size=0.8)
    >>> left[0].shape, right[0].tolist()
    ((8,), [8, 9])
    """
    parts = dataset if isinstance(dataset, tuple) else (dataset,)
    count = len(parts[0])
    if shuffle:
        order = np.random.default_rng(seed).permutation(count)
        parts = tuple(np.asarray(part)[order] for part in parts)
    if (left_size is None) == (right_size is None):
        raise ArgumentError("split_dataset: expected one of left_size and right_size.")

    def share(size: float) -> float:
        return size / count if isinstance(size, int) else size

    held = 1 - share(left_size) if left_size is not None else share(right_size or 0)
    left, right = split_off(parts, held, "split_dataset")
    return (left, right) if isinstance(dataset, tuple) else (left[0], right[0])
