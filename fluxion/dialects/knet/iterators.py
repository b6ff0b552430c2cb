"""What stands around a training: batches, epochs, the bar, and the end when it no longer helps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from fluxion.data.epochs import Epochs
from fluxion.data.loader import DataLoader
from fluxion.dialects.knet.bar import Bar
from fluxion.dialects.knet.parameters import value
from fluxion.dialects.knet.training import Minimize
from fluxion.errors import ArgumentError, DTypeError, user_frames


@user_frames
def minibatch(
    x: Any,
    y: Any = None,
    batch_size: int | None = None,
    *,
    shuffle: bool = False,
    partial: bool = False,
    seed: int | None = None,
    xtype: Any = None,
    ytype: Any = None,
) -> DataLoader:
    """Batches `(x, y)` of `batch_size` observations, as a `fx.DataLoader`; `minibatch(x, 32)` gives batches of `x`.

    Shapes: `x` is `(N, ...)`, `y` `(N, ...)`; a batch holds `batch_size` rows of each.

    Arguments:
        shuffle: whether each epoch has a new random order.
        partial: whether the last batch is kept where it is short. It is not, unlike in `DataLoader`.
        seed: decides the orders; by default drawn from the stream of `setseed`.
        xtype, ytype: dtypes to convert to.

    Errors: `ShapeError` for different lengths, `DataError` where no batch would come.

    >>> from fluxion.dialects.knet import minibatch
    >>> import numpy as np
    >>> dtrn = minibatch(np.zeros((105, 4)), np.zeros(105, int), 10, xtype=np.float32)
    >>> len(dtrn), len(minibatch(np.zeros((105, 4)), 10, partial=True))
    (10, 11)
    """
    if batch_size is None and isinstance(y, int) and not isinstance(y, bool):
        y, batch_size = None, y
    if batch_size is None:
        raise ArgumentError("minibatch: expected the size of a batch. Write minibatch(x, y, 32), or minibatch(x, 32).")
    if y is None and ytype is not None:
        raise ArgumentError("minibatch: expected y along with ytype, got none.")
    x = x if xtype is None else np.asarray(x, xtype)
    y = y if ytype is None else np.asarray(y, ytype)
    data = x if y is None else (x, y)
    return DataLoader(data, batch_size=batch_size, shuffle=shuffle, partial=partial, seed=seed)


def repeat(data: Any, epochs: int | None = None) -> Epochs:
    """`epochs` passes over the data, each of a shuffled `minibatch` in its own order; without a number, for ever.

    It is `fx.Epochs`, and Knet's `ncycle` and `cycle` too.

    >>> from fluxion.dialects.knet import minibatch, repeat
    >>> import numpy as np
    >>> len(repeat(minibatch(np.zeros((105, 4)), 10), 100))
    1000
    """
    return Epochs(data, epochs)


class Converge:
    """What `converge` returns.

    >>> from fluxion.dialects.knet import converge
    >>> converge([3.0, 2.0, 1.0, 2.0, 3.0, 4.0], alpha=0.5).run().tolist()
    [3.0, 2.0, 1.0, 2.0]
    """

    def __init__(self, itr: Iterable[Any], alpha: float) -> None:
        self.items = iter(itr)
        self.alpha = alpha
        self.mean: float | None = None  # of the values
        self.rise = 0.0  # the mean of their increases
        self.over = False

    def __iter__(self) -> Converge:
        return self

    def __next__(self) -> Any:
        if self.over:
            raise StopIteration
        item = next(self.items)
        x = _number(item)
        increase = 0.0 if self.mean is None else x - self.mean
        self.mean = x if self.mean is None else self.alpha * x + (1 - self.alpha) * self.mean
        self.rise = self.alpha * increase + (1 - self.alpha) * self.rise
        if self.rise > 0 or x != x:
            self.over = True
            raise StopIteration
        return item

    def run(self) -> np.ndarray:
        """Go through all of it; returns the values."""
        return np.array([_number(item) for item in self])


def converge(itr: Iterable[Any], *, alpha: float = 0.1) -> Converge:
    """The items of `itr`, numbers, until they stop decreasing; the item that ends it is not given.

    With `mean <- alpha * x + (1 - alpha) * mean` and `rise <- alpha * (x - mean) + (1 - alpha) * rise`, in which `mean`
    is the one before: over when `rise > 0`, or at NaN. Values that stay the same never end it.

    >>> from fluxion.dialects.knet import converge
    >>> list(converge([4.0, 3.0, 2.0, 3.0, 4.0, 5.0], alpha=0.5))
    [4.0, 3.0, 2.0, 3.0]
    """
    if not 0 < alpha <= 1:
        raise ArgumentError(f"converge: expected alpha in (0, 1], got {alpha}.")
    if not hasattr(itr, "__iter__"):
        raise DTypeError(f"converge: expected an iterable, got {type(itr).__name__}.")
    return Converge(itr, alpha)


class Progress:
    """What `progress` returns: the items of another iterator, with a bar.

    >>> from fluxion.dialects.knet import progress
    >>> import sys
    >>> len(progress([1, 2, 3], stream=sys.stdout))
    3
    """

    def __init__(self, itr: Any, bar: Bar) -> None:
        self.itr = itr
        self.bar = bar
        self.items: Iterator[Any] | None = None

    def __iter__(self) -> Progress:
        return self

    def __len__(self) -> int:
        return len(self.itr)

    def __next__(self) -> Any:
        if self.items is None:
            self.items = _shown(self.itr, self.bar)
        return next(self.items)

    def run(self) -> np.ndarray:
        """Go through all of it, a training many steps in one call; returns the values, such as the losses."""
        if not isinstance(self.itr, Minimize) or self.items is not None:
            return np.array([_number(item) for item in self])
        before = self.itr.done
        try:
            losses = self.itr.exhaust(lambda done, loss: self.bar.at(done - before, loss))
            self.bar.at(len(losses), losses[-1].item() if len(losses) else None)
            return losses
        finally:
            self.bar.close()


def _shown(itr: Any, bar: Bar) -> Iterator[Any]:
    """The items; the line of the bar is completed however it ends, also when the iterator is left and forgotten."""
    try:
        for item in itr:
            bar.item(item)
            yield item
    finally:
        bar.close()


def progress(
    itr: Iterable[Any],
    *,
    msg: str | Callable[[Any], object] | None = None,
    steps: int | None = None,
    seconds: float | None = None,
    stream: Any = None,
) -> Progress:
    """The items of any iterator, unchanged, and a bar about them: a line that is rewritten in a terminal or a notebook.

        ┣█████████████████▎  ┫ [86.83%, 903/1040, 01:36/01:50, 9.42i/s] 0.012

    It tells the share and number of items, the time since the first of them and that expected in all, the speed since
    the line before (in seconds per item where it is below 1) and the last item, if that is a number. Where the length
    is not known: number, time and speed. Elsewhere than in a terminal or notebook it writes lines, now and then and at
    the end.

    `progress(adam(model, data)).run()` goes through a training at the speed of `fx.train`.

    Arguments:
        msg: a text to stand in front; or a function of the last item, whose result stands at the end.
        steps: a line every so many items (about, in `run`).
        seconds: a line every so many seconds: 1, or 60 in a log, if neither is given.
        stream: where to write; standard error unless given.

    >>> from fluxion.dialects.knet import progress
    >>> import sys
    >>> for i in progress(range(3), steps=2, stream=sys.stdout):
    ...     pass
    ┣██████▋             ┫ [33.33%, 1/3, 00:00/?] 0
    ┣████████████████████┫ [100.00%, 3/3, 00:00/00:00, ...i/s] 2
    """
    if not hasattr(itr, "__iter__"):
        raise DTypeError(f"progress: expected an iterable, got {type(itr).__name__}.")
    if steps is not None and steps < 1:
        raise ArgumentError(f"progress: expected steps of at least 1, got {steps}.")
    if seconds is not None and not seconds > 0:
        raise ArgumentError(f"progress: expected seconds above 0, got {seconds}.")
    return Progress(itr, Bar(_length(itr), msg, steps, seconds, stream))


def _length(itr: Any) -> int | None:
    try:
        return len(itr)
    except TypeError:
        return None


def _number(item: Any) -> Any:
    """The number in an item: itself, an array of one number, a recorded value."""
    item = value(item)
    return float(item)
