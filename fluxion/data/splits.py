"""Training, validation and test parts of data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from fluxion.data.arrays import check_whole, getob, getobs, is_array, is_table, map_parts, numobs, permutation
from fluxion.errors import ArgumentError, DataError, DTypeError, ShapeError
from fluxion.transform.randomness import next_seed


def splitobs(
    data: Any,
    at: float | tuple[float, ...] = 0.7,
    *,
    shuffle: bool = False,
    stratified: Any = None,
    seed: int | None = None,
) -> tuple[Any, ...]:
    """Cut data into parts of given sizes, such as a training and a test set.

    Part `k` gets `at[k] * N` observations, rounded so that the sizes add up to N; a half goes to the earlier part
    (`floor(x + 0.5)`). With `stratified` the same holds within each class, and what rounding leaves is passed on from
    class to class, so that the parts are also of the right size as a whole. Every observation is in one part.

    Shapes: `(N, ...)` -> `(N0, ...), (N1, ...), ...` with `N0 + N1 + ... = N`.

    Arguments:
        data: an array, a container of arrays, a table or a data set, as for `DataLoader`. Parts of arrays are arrays
            (views where they are contiguous), parts of lists lists; another data set is not read but indexed later.
        at: the share of the first part (0.7), the shares of several parts ((0.7, 0.15, 0.15)), or numbers of
            observations as ints (100, or (100, 25, 25)). What `at` leaves over becomes a last part.
        shuffle: whether observations are put in a random order first.
        stratified: one label per observation; each part then holds every class in its proportion, within one.
        seed: the number that decides the order; `None` draws one from the default stream (`fx.seed`).

    Errors: `ArgumentError` for shares outside (0, 1) or more than there is, `ShapeError` where `stratified` has another
    length, `DataError` where a part would be empty.

    Matches MLUtils' `splitobs`, except that a half is not rounded to even.

    >>> import fluxion as fx, numpy as np
    >>> train, test = fx.splitobs(np.arange(10), 0.7)
    >>> train, test
    (array([0, 1, 2, 3, 4, 5, 6]), array([7, 8, 9]))
    >>> x, y = fx.datasets.iris()
    >>> (xtrain, ytrain), (xtest, ytest) = fx.splitobs((x, y), 0.7, shuffle=True, stratified=y, seed=0)
    >>> np.bincount(ytrain), np.bincount(ytest)
    (array([35, 35, 35]), array([15, 15, 15]))
    """
    count = numobs(data, "splitobs")
    shares = _shares(at, count)
    order = _order(count, shuffle, seed, "splitobs")
    if stratified is None:
        sizes = next(_apportion([count], shares))
        cuts = np.cumsum([0, *sizes])
        spans = [slice(int(a), int(b)) for a, b in pairwise(cuts)]
        parts = [order[span] for span in spans]
    else:
        groups = class_members(stratified, order, "splitobs", "stratified")
        members: list[list[np.ndarray]] = [[] for _ in shares]
        for group, sizes in zip(groups, _apportion([len(group) for group in groups], shares), strict=True):
            for k, piece in enumerate(np.split(group, np.cumsum(sizes)[:-1])):
                members[k].append(piece)
        parts = [_in_order(np.concatenate(pieces), order) for pieces in members]
    for k, part in enumerate(parts):
        if len(part) == 0:
            raise DataError(
                f"splitobs: expected observations for every part, got none for part {k} of {count} at {at}."
            )
    if stratified is None and not shuffle:
        return tuple(subset(data, span) for span in spans)
    return tuple(subset(data, part) for part in parts)


def kfolds(
    data: Any, k: int = 5, *, shuffle: bool = False, stratified: Any = None, seed: int | None = None
) -> list[tuple[Any, Any]]:
    """The k pairs of training and validation parts of k-fold cross-validation.

    Each observation is in the validation part of exactly one pair; the folds' sizes differ by at most one, and with
    `stratified` so do those of each class.

    Shapes: `(N, ...)` -> k times `(N - N / k, ...), (N / k, ...)`.

    Arguments:
        data: data as for `splitobs`, or an int N: then the parts are arrays of indices.
        k: the number of folds.
        shuffle: whether observations are put in a random order first; otherwise folds are consecutive.
        stratified: one label per observation; each fold then holds every class in its proportion.
        seed: the number that decides the order; `None` draws one from the default stream (`fx.seed`).

    Errors: `ArgumentError` unless `2 <= k <= N`, `ShapeError` where `stratified` has another length, `DataError` for
    a class with fewer than k members.

    Matches scikit-learn's `KFold` in the sizes of the folds.

    >>> import fluxion as fx
    >>> for train, validation in fx.kfolds(5, 2):
    ...     print(train, validation)
    [3 4] [0 1 2]
    [0 1 2] [3 4]
    """
    whole = isinstance(data, int | np.integer)
    count = check_whole(data, "kfolds: data", 2, what="a number of observations") if whole else numobs(data, "kfolds")
    k = check_whole(k, "kfolds: k", 2, max(count, 2), "a number of folds")
    if count < k:
        raise DataError(f"kfolds: expected at least {k} observations for {k} folds, got {count}.")
    order = _order(count, shuffle, seed, "kfolds")
    fold = np.empty(count, dtype=np.intp)
    if stratified is None:
        sizes = [count // k + (1 if i < count % k else 0) for i in range(k)]
        fold[order] = np.repeat(np.arange(k), sizes)
    else:
        groups = class_members(stratified, order, "kfolds", "stratified")
        small = min(groups, key=len)
        if len(small) < k:
            label = np.asarray(stratified)[small[0]]
            raise DataError(f"kfolds: expected at least {k} members of every class, got {len(small)} of {label!s}.")
        # Dealt like cards, class after class: a class's counts per fold differ by at most one, and so do the folds'.
        fold[np.concatenate(groups)] = np.arange(count) % k
    pairs = [(order[fold[order] != i], order[fold[order] == i]) for i in range(k)]
    return pairs if whole else [(subset(data, train), subset(data, held)) for train, held in pairs]


def timeseries_kfolds(data: Any, k: int = 5, *, gap: int = 0, max_train: int | None = None) -> list[tuple[Any, Any]]:
    """The k pairs of training and validation parts of a series in time: each trains on the past of what it validates.

    With `size = N // (k + 1)`, validation part `i` (of 0 ... k - 1) begins at `start = N - (k - i) * size` and has
    `size` observations; its training part is all of `data[: start - gap]`, or the last `max_train` of it.

    Shapes: `(N, ...)` -> k times `(start - gap, ...), (size, ...)`.

    Arguments:
        data: data as for `splitobs`, in the order of time, or an int N: then the parts are arrays of indices.
        k: the number of folds.
        gap: observations left out between training and validation, such as those whose target lies in the future.
        max_train: the most observations to train on; all there are by default.

    Errors: `ArgumentError` for bad options, `DataError` where the first part would have nothing to train on.

    Matches scikit-learn's `TimeSeriesSplit`.

    >>> import fluxion as fx
    >>> for train, validation in fx.timeseries_kfolds(7, 3):
    ...     print(train, validation)
    [0 1 2 3] [4]
    [0 1 2 3 4] [5]
    [0 1 2 3 4 5] [6]
    """
    whole = isinstance(data, int | np.integer)
    name = "timeseries_kfolds"
    count = check_whole(data, f"{name}: data", 2, what="a number of observations") if whole else numobs(data, name)
    k = check_whole(k, f"{name}: k", 2, what="a number of folds")
    gap = check_whole(gap, f"{name}: gap", 0)
    if max_train is not None:
        max_train = check_whole(max_train, f"{name}: max_train", 1)
    size = count // (k + 1)
    if size == 0 or count - k * size - gap < 1:
        raise DataError(
            f"{name}: expected enough observations for {k} folds with a gap of {gap}, got {count}. "
            "Use a smaller k or gap."
        )
    pairs = []
    for start in range(count - k * size, count, size):
        end = start - gap
        train = slice(0 if max_train is None else max(0, end - max_train), end)
        pairs.append((train, slice(start, start + size)))
    indices = np.arange(count)
    if whole:
        return [(indices[train], indices[held]) for train, held in pairs]
    return [(subset(data, train), subset(data, held)) for train, held in pairs]


class Subset:
    """Some observations of a data set, read when they are asked for."""

    def __init__(self, data: Any, indices: np.ndarray) -> None:
        self.data = data
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, i: int) -> Any:
        return getob(self.data, int(self.indices[i]))

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"Subset({type(self.data).__name__})  # {len(self)} of {len(self.data)} observations"


def subset(data: Any, index: slice | np.ndarray) -> Any:
    """The observations at `index` in a container like that of `data`; other data sets become a lazy `Subset`."""

    def take(part: Any) -> Any:
        if is_array(part) or is_table(part):
            return getobs(part, index)
        indices = np.arange(len(part))[index]
        if isinstance(part, list):
            return [part[i] for i in indices]
        return Subset(part, indices)

    return map_parts(take, data)


def _shares(at: Any, count: int) -> list[float]:
    """The share of each part, adding up to 1."""
    several = isinstance(at, tuple | list)
    given = list(at) if several else [at]
    if not given:
        raise ArgumentError("splitobs: expected at least one share in at, got none.")
    for value in given:
        if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
            raise DTypeError(f"splitobs: expected at as a share or a number of observations, got {at!r}.")
    if all(isinstance(value, int | np.integer) for value in given):
        if any(value < 1 for value in given) or sum(given) > count or given == [count]:
            raise ArgumentError(
                f"splitobs: expected positive numbers of observations that leave some of {count}, got at={at!r}."
            )
        shares = [value / count for value in given]
        rest = 1 - sum(given) / count if sum(given) < count else 0.0
    else:
        if not all(0 < value < 1 for value in given) or sum(given) > 1 + 1e-9:
            raise ArgumentError(f"splitobs: expected shares between 0 and 1 that add up to at most 1, got at={at!r}.")
        shares = [float(value) for value in given]
        rest = 1 - sum(shares)
    return [*shares, rest] if rest > 1e-9 else shares


def _apportion(sizes: Sequence[int], shares: list[float]) -> Iterator[list[int]]:
    """Whole numbers near `size * share` that add up to `size`, for one class after the other.

    Each part gets the floor of its quota; what is left of the class goes, one each, to the parts that are owed most,
    counting what earlier classes left.
    """
    owed = np.zeros(len(shares))
    for size in sizes:
        quotas = np.round(np.asarray(shares) * size, 9)  # 0.29 * 50 is 14.499999999999998
        given = np.floor(quotas)
        owed += quotas - given
        extra = np.argsort(-np.round(owed, 9), kind="stable")[: size - int(given.sum())]
        given[extra] += 1
        owed[extra] -= 1
        yield [int(number) for number in given]


def class_members(labels: Any, order: np.ndarray | int | None, name: str, what: str) -> list[np.ndarray]:
    """The indices of each class; classes are sorted.

    `order` is the order within a class, or the number of observations; `name` and `what` stand in errors.
    """
    labels = np.asarray(labels.to_list() if hasattr(labels, "to_list") else labels)
    if labels.dtype.kind == "O":
        labels = np.asarray(labels.tolist())
    if order is None:
        order = np.arange(labels.size)
    elif isinstance(order, int):
        order = np.arange(order)
    if labels.shape != order.shape or len(order) == 0:
        raise ShapeError(
            f"{name}: expected {what} to hold one label for each of {len(order)} observations, "
            f"got shape {labels.shape}."
        )
    if labels.dtype.kind == "O":
        raise DTypeError(f"{name}: expected {what} as numbers or strings of one type, got mixed or missing values.")
    if labels.dtype.kind == "f" and np.isnan(labels).any():
        raise DataError(
            f"{name}: expected a label for every observation, got NaN at index {np.isnan(labels).argmax()}."
        )
    _, codes = np.unique(labels, return_inverse=True)
    codes = codes[order]
    by_class = order[np.argsort(codes, kind="stable")]
    return np.split(by_class, np.cumsum(np.bincount(codes))[:-1])


def _order(count: int, shuffle: bool, seed: int | None, name: str) -> np.ndarray:
    if seed is not None:
        check_whole(seed, f"{name}: seed", 0)
    if not shuffle:
        return np.arange(count)
    return permutation(count, next_seed() if seed is None else seed)


def _in_order(members: np.ndarray, order: np.ndarray) -> np.ndarray:
    """`members` in the sequence in which `order` holds them."""
    rank = np.empty(len(order), dtype=np.intp)
    rank[order] = np.arange(len(order))
    return members[np.argsort(rank[members])]
