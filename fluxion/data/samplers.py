"""Which observations are taken how often: samplers for a `DataLoader`, and data made balanced once and for all.

A sampler's `order(seed, epoch)` gives the indices of an epoch's observations, or a list of those of each batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fluxion.data.arrays import check_whole, generator, numobs
from fluxion.data.splits import class_members, subset
from fluxion.errors import ArgumentError, DataError, DTypeError, ShapeError
from fluxion.transform.randomness import next_seed


class WeightedSampler:
    """Draw each observation with a probability in proportion to its weight.

    Arguments:
        weights: one number from 0 per observation; they need not add up to 1.
        count: the number of draws in an epoch; as many as there are weights by default.
        replace: whether an observation may be drawn again; otherwise each is drawn at most once.

    Errors: `ShapeError` unless weights are a vector, `DataError` for weights that are negative, not finite or all 0,
    `ArgumentError` for more draws than observations of positive weight where none is drawn again.

    Matches torch's `WeightedRandomSampler` in distribution.

    >>> import fluxion as fx
    >>> sampler = fx.WeightedSampler([0.0, 1.0, 3.0], count=8)
    >>> order = sampler.order(seed=0, epoch=0)
    >>> len(order), 0 in order, (order == sampler.order(seed=0, epoch=0)).all().item()
    (8, False, True)
    >>> fx.DataLoader([10.0, 20.0, 30.0], batch_size=2, sampler=sampler, seed=0)
    DataLoader(list, batch_size=2, sampler=WeightedSampler(3 weights, count=8), seed=0)  # 8 observations in 4 batches
    """

    def __init__(self, weights: Any, *, count: int | None = None, replace: bool = True) -> None:
        values = np.asarray(weights, dtype=np.float64)
        if values.ndim != 1:
            raise ShapeError(f"WeightedSampler: expected one weight per observation, got shape {values.shape}.")
        wrong = ~np.isfinite(values) | (values < 0)
        if wrong.any():
            i = int(wrong.argmax())
            raise DataError(f"WeightedSampler: expected finite weights of at least 0, got {values[i]} at index {i}.")
        if not values.any():
            raise DataError("WeightedSampler: expected a weight above 0, got none.")
        self.probabilities = values / values.sum()
        self.count = len(values) if count is None else check_whole(count, "WeightedSampler: count", 1)
        self.replace = replace
        if not replace and self.count > np.count_nonzero(values):
            raise ArgumentError(
                f"WeightedSampler: expected at most {np.count_nonzero(values)} draws, one for each positive weight, "
                f"got count={self.count}. Use replace=True."
            )

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """The indices of an epoch."""
        draw = generator(seed, epoch)
        return draw.choice(len(self.probabilities), self.count, replace=self.replace, p=self.probabilities)

    def __repr__(self) -> str:
        return f"WeightedSampler({len(self.probabilities)} weights, count={self.count})"


class BalancedSampler:
    """Draw every class equally often, and the observations of a class equally often, each within one.

    Of `count` draws each of k classes gets `count / k`; which get one more is random, and so is which observations of
    a class do. A rare class is repeated, a common one is thinned out anew in each epoch.

    Arguments:
        labels: one label per observation.
        count: the number of draws in an epoch; as many as there are labels by default.

    Errors: `ShapeError` unless labels are a vector, `DataError` for a missing label.

    >>> import fluxion as fx, numpy as np
    >>> labels = np.array([0, 0, 0, 0, 0, 0, 0, 1])
    >>> np.bincount(labels[fx.BalancedSampler(labels).order(seed=0, epoch=0)])
    array([4, 4])
    """

    def __init__(self, labels: Any, *, count: int | None = None) -> None:
        self.classes = class_members(labels, None, "BalancedSampler", "labels")
        size = sum(map(len, self.classes))
        self.count = size if count is None else check_whole(count, "BalancedSampler: count", 1)

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """The indices of an epoch."""
        draw = generator(seed, epoch)
        share, rest = divmod(self.count, len(self.classes))
        more = set(draw.permutation(len(self.classes))[:rest].tolist())
        chosen = []
        for k, members in enumerate(self.classes):
            wanted = share + (k in more)
            chosen.append(np.tile(members, wanted // len(members)))
            chosen.append(draw.permutation(members)[: wanted % len(members)])
        return draw.permutation(np.concatenate(chosen))

    def __repr__(self) -> str:
        return f"BalancedSampler({len(self.classes)} classes, count={self.count})"


class LengthSampler:
    """Make batches of observations of similar length, so that little of a padded batch is padding.

    Each epoch puts the observations in a random order, sorts every `pool` batches of them by length, cuts them into
    batches and shuffles these. Every observation is in one batch.

    Arguments:
        lengths: one number per observation.
        batch_size: observations per batch; one batch may be short.
        pool: over how many batches observations are sorted; 1 sorts nothing, many leave less to chance.

    Errors: `ShapeError` unless lengths are a vector, `DTypeError` unless they are numbers, `DataError` for none.

    Pad the batches in `collate` to few lengths, such as multiples of 32: each length compiles a program of its own.

    >>> import fluxion as fx
    >>> words = ["a", "the", "of", "batch", "in", "data", "words", "to"]
    >>> sampler = fx.LengthSampler([len(word) for word in words], 2)
    >>> for batch in fx.DataLoader(words, sampler=sampler, seed=0):
    ...     print(sorted(batch))
    ['in', 'to']
    ['data', 'the']
    ['a', 'of']
    ['batch', 'words']
    """

    def __init__(self, lengths: Any, batch_size: int, *, pool: int = 100) -> None:
        self.lengths = np.asarray(lengths)
        if self.lengths.ndim != 1:
            raise ShapeError(f"LengthSampler: expected one length per observation, got shape {self.lengths.shape}.")
        if self.lengths.dtype.kind not in "iuf":
            raise DTypeError(f"LengthSampler: expected lengths as numbers, got dtype {self.lengths.dtype}.")
        if len(self.lengths) == 0:
            raise DataError("LengthSampler: expected at least one length, got none.")
        self.batch_size = check_whole(batch_size, "LengthSampler: batch_size", 1)
        self.pool = check_whole(pool, "LengthSampler: pool", 1)

    def order(self, seed: int, epoch: int) -> list[np.ndarray]:
        """The indices of each batch of an epoch."""
        draw = generator(seed, epoch)
        order = draw.permutation(len(self.lengths))
        batches = []
        for pool in _pieces(order, self.pool * self.batch_size):
            batches += _pieces(pool[np.argsort(self.lengths[pool], kind="stable")], self.batch_size)
        return [batches[i] for i in draw.permutation(len(batches))]

    def __repr__(self) -> str:
        return f"LengthSampler({len(self.lengths)} lengths, {self.batch_size})"


def oversample(
    data: Any, labels: Any = None, *, fraction: float = 1.0, shuffle: bool = True, seed: int | None = None
) -> Any:
    """Repeat observations of the smaller classes, until each has at least `fraction` times those of the largest.

    All observations are kept. A class of n that needs m more gets each of its observations `m // n` times, and
    `m % n` of them, chosen at random, once more.

    Shapes: `(N, ...)` -> `(M, ...)` with `M >= N`.

    Arguments:
        data: data as for `DataLoader`.
        labels: one label per observation; the last part of a tuple by default.
        fraction: the share of the largest class's number, above 0; 1 makes all classes equal.
        shuffle: whether the result is put in a random order; otherwise what was added is at the end, by class.
        seed: the number that decides what is random; `None` draws one from the default stream (`fx.seed`).

    Returns the data; with `labels`, data and labels. Split off validation data first: copies must not be in both.

    Errors: `ShapeError` where labels have another length, `ArgumentError` without labels for data that are no tuple.

    Matches MLUtils' `oversample`.

    >>> import fluxion as fx, numpy as np
    >>> x, y = fx.oversample((np.arange(5), np.array(["a", "b", "b", "b", "b"])), seed=0)
    >>> [(y == name).sum().item() for name in "ab"], sorted(x.tolist())
    ([4, 4], [0, 0, 0, 0, 1, 2, 3, 4])
    """
    fraction = _fraction(fraction, "oversample")
    classes = class_members(_labels_of(data, labels, "oversample"), numobs(data, "oversample"), "oversample", "labels")
    draw = _generator(seed, "oversample")
    wanted = round(fraction * max(map(len, classes)))
    added = [np.empty(0, np.intp)]
    for members in classes:
        extra = max(0, wanted - len(members))
        added.append(np.tile(members, extra // len(members)))
        added.append(draw.choice(members, extra % len(members), replace=False, shuffle=shuffle))
    index = np.concatenate([np.arange(sum(map(len, classes))), *added])
    return _resampled(data, labels, draw.permutation(index) if shuffle else index)


def undersample(
    data: Any, labels: Any = None, *, fraction: float = 1.0, shuffle: bool = True, seed: int | None = None
) -> Any:
    """Leave out observations of the larger classes, until the smallest has at least `fraction` times those of each.

    What is left of a class is chosen at random.

    Shapes: `(N, ...)` -> `(M, ...)` with `M <= N`.

    Arguments:
        data: data as for `DataLoader`.
        labels: one label per observation; the last part of a tuple by default.
        fraction: what the smallest class's number is to be of that of any other, above 0; 1 makes all classes equal.
        shuffle: whether the result is put in a random order; otherwise it is in that of the data.
        seed: the number that decides what is random; `None` draws one from the default stream (`fx.seed`).

    Returns the data; with `labels`, data and labels.

    Errors: as for `oversample`.

    Matches MLUtils' `undersample`, which has no `fraction`.

    >>> import fluxion as fx, numpy as np
    >>> x, y = fx.undersample((np.arange(5), np.array(["a", "b", "b", "b", "b"])), shuffle=False, seed=0)
    >>> len(x), y
    (2, array(['a', 'b'], dtype='<U1'))
    """
    fraction = _fraction(fraction, "undersample")
    labels_ = _labels_of(data, labels, "undersample")
    classes = class_members(labels_, numobs(data, "undersample"), "undersample", "labels")
    draw = _generator(seed, "undersample")
    allowed = int(min(map(len, classes)) / fraction)
    chosen = np.concatenate([draw.permutation(members)[:allowed] for members in classes])
    return _resampled(data, labels, draw.permutation(chosen) if shuffle else np.sort(chosen))


def _pieces(array: np.ndarray, size: int) -> list[np.ndarray]:
    return [array[i : i + size] for i in range(0, len(array), size)]


def _fraction(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise DTypeError(f"{name}: expected fraction as a number, got {value!r}.")
    if not 0 < value <= 1:
        raise ArgumentError(f"{name}: expected a fraction above 0 and up to 1, got {value}.")
    return float(value)


def _labels_of(data: Any, labels: Any, name: str) -> Any:
    if labels is not None:
        return labels
    if not isinstance(data, tuple) or not data:
        raise ArgumentError(
            f"{name}: expected labels, or data as a tuple whose last part they are, got a {type(data).__name__} alone."
        )
    return data[-1]


def _generator(seed: int | None, name: str) -> np.random.Generator:
    return generator(next_seed() if seed is None else check_whole(seed, f"{name}: seed", 0))


def _resampled(data: Any, labels: Any, index: np.ndarray) -> Any:
    return subset(data, index) if labels is None else subset((data, labels), index)
