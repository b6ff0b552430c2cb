"""Data sets made of others: mapped, filtered, in windows, in groups. What is not an array is read when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from fluxion.data.arrays import check_whole, getob, getobs, is_array, map_parts, numobs
from fluxion.data.splits import subset
from fluxion.errors import DataError, DTypeError, ShapeError


def mapobs(f: Callable[[Any], Any], data: Any) -> Mapped:
    """The data set whose observation `i` is `f` of observation `i` of `data`, computed each time it is read.

    Arguments:
        f: a function of one observation, such as `(x, y)` of a tuple of arrays.
        data: data as for `DataLoader`.

    Errors: `DTypeError` unless `f` is a function, and for data that are no data.

    Matches MLUtils' `mapobs` with `batched=:never`. In a `DataLoader` it is Python work for each observation; for whole
    batches at once there is `augment`.

    >>> import fluxion as fx, numpy as np
    >>> lines = fx.mapobs(str.split, ["a b", "c d e"])
    >>> len(lines), lines[1], lines
    (2, ['c', 'd', 'e'], mapobs(split, list)  # 2 observations)
    """
    return Mapped(_function(f, "mapobs"), data, numobs(data, "mapobs"))


class Mapped:
    """What `mapobs` returns."""

    def __init__(self, function: Callable[[Any], Any], data: Any, count: int) -> None:
        self.function = function
        self.data = data
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> Any:
        return self.function(getob(self.data, _index(i, self.count)))

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(self.count))

    def __repr__(self) -> str:
        name = getattr(self.function, "__name__", repr(self.function))
        return f"mapobs({name}, {type(self.data).__name__})  # {self.count} observations"


def filterobs(f: Callable[[Any], Any], data: Any) -> Any:
    """The observations for which `f` is true, in a container like that of `data`.

    Every observation is read once to find out; those of a data set that is no array are read again when used.

    Arguments:
        f: a function of one observation that gives a truth value.
        data: data as for `DataLoader`.

    Errors: `DataError` where no observation is left, `DTypeError` unless `f` is a function.

    Matches MLUtils' `filterobs`.

    >>> import fluxion as fx, numpy as np
    >>> fx.filterobs(lambda xy: xy[0] > 1, (np.arange(4), np.array([5, 6, 7, 8])))
    (array([2, 3]), array([7, 8]))
    """
    _function(f, "filterobs")
    count = numobs(data, "filterobs")
    chosen = np.array([i for i in range(count) if f(getob(data, i))], dtype=np.intp)
    if len(chosen) == 0:
        raise DataError(f"filterobs: expected some observations to be left, got none of {count}.")
    return subset(data, chosen)


def groupby(f: Any, data: Any) -> dict[Any, Any]:
    """The observations of each group, in containers like that of `data`, by what `f` says of them.

    Arguments:
        f: a function of one observation that gives the name of its group, or an array or list of one per observation.
        data: data as for `DataLoader`.

    Returns a dict from name to data; groups are in the order of their first observations.

    Errors: `ShapeError` where names are not as many as observations, `DTypeError` for a name that cannot be one.

    Matches MLUtils' `groupobs`.

    >>> import fluxion as fx, numpy as np
    >>> fx.groupby(lambda word: word[0], ["ant", "bee", "ape"])
    {'a': ['ant', 'ape'], 'b': ['bee']}
    >>> fx.groupby([1, 0, 1], np.array([5, 6, 7]))
    {1: array([5, 7]), 0: array([6])}
    """
    count = numobs(data, "groupby")
    if callable(f):
        names = [f(getob(data, i)) for i in range(count)]
    else:
        names = f.to_list() if hasattr(f, "to_list") else np.asarray(f).tolist() if is_array(f) else list(f)
        if len(names) != count:
            raise ShapeError(f"groupby: expected a group for each of {count} observations, got {len(names)}.")
    members: dict[Any, list[int]] = {}
    for i, name in enumerate(names):
        name = name.item() if hasattr(name, "item") and np.ndim(name) == 0 else name
        try:
            members.setdefault(name, []).append(i)
        except TypeError:
            raise DTypeError(
                f"groupby: expected groups named by numbers, strings or tuples, got a {type(name).__name__} "
                f"for observation {i}."
            ) from None
    return {name: subset(data, np.array(indices)) for name, indices in members.items()}


def slidingwindow(data: Any, size: int, stride: int = 1) -> Any:
    """The windows of `size` observations that follow one another, one beginning every `stride`.

    Window `i` is `data[i * stride : i * stride + size]`; only whole ones count.

    Shapes: `(N, ...)` -> `((N - size) // stride + 1, size, ...)`.

    Arguments:
        data: data as for `DataLoader`. Windows of NumPy arrays are views that take no memory, those of JAX arrays
            copies; any other data set becomes one whose observations are windows.
        size: observations in a window.
        stride: how much later the next window begins.

    Errors: `ArgumentError` for a size or stride below 1, `DataError` where the data are shorter than a window.

    Matches MLUtils' `slidingwindow`, and NumPy's `sliding_window_view` with the windows' axis second.

    >>> import fluxion as fx, numpy as np
    >>> fx.slidingwindow(np.arange(6), 3, stride=2)
    array([[0, 1, 2],
           [2, 3, 4]])
    >>> fx.slidingwindow("a b c d".split(), 2)[2]
    ['c', 'd']
    """
    count = numobs(data, "slidingwindow")
    size = check_whole(size, "slidingwindow: size", 1)
    stride = check_whole(stride, "slidingwindow: stride", 1)
    if count < size:
        raise DataError(f"slidingwindow: expected at least {size} observations for one window, got {count}.")

    def windows(part: Any) -> Any:
        if isinstance(part, np.ndarray):
            view = np.lib.stride_tricks.sliding_window_view(part, size, axis=0)
            return np.moveaxis(view, -1, 1)[::stride]
        if isinstance(part, jax.Array):
            return part[np.arange(0, count - size + 1, stride)[:, None] + np.arange(size)]
        return Windows(part, size, stride)

    return map_parts(windows, data)


class Windows:
    """The windows of a data set that is no array."""

    def __init__(self, data: Any, size: int, stride: int) -> None:
        self.data = data
        self.size = size
        self.stride = stride

    def __len__(self) -> int:
        return (len(self.data) - self.size) // self.stride + 1

    def __getitem__(self, i: int) -> Any:
        start = _index(i, len(self)) * self.stride
        window = slice(start, start + self.size)
        return self.data[window] if isinstance(self.data, list) else getobs(self.data, window)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"Windows({type(self.data).__name__}, size={self.size}, stride={self.stride})  # {len(self)} windows"


def _index(i: int, count: int) -> int:
    """`i` counted from the front, within range."""
    if not -count <= i < count:
        raise IndexError(f"expected an index below {count}, got {i}.")
    return i % count


def _function(f: Any, name: str) -> Any:
    if not callable(f):
        raise DTypeError(f"{name}: expected a function of an observation, got {f!r}.")
    return f
