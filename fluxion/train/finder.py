"""`find_learning_rate`: the loss under a learning rate that grows step by step, on a copy of the model."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fluxion.data.loader import DataLoader
from fluxion.errors import ArgumentError, DataError, NonFiniteError, user_frames
from fluxion.optim.optimizer import Optimizer, adjust, setup
from fluxion.optim.rules import Adam
from fluxion.optim.settings import copy_for
from fluxion.train.evaluate import is_arrays, is_by_prediction
from fluxion.train.fit import infer_sizes
from fluxion.train.step import Objective, Training, as_batch
from fluxion.train.steps import can_seek
from fluxion.train.throttle import check_count
from fluxion.tree.model import fmap

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DIVERGED = 4.0  # times the best loss
SMOOTH = 5  # losses that are averaged before the steepest fall is looked for


@dataclass(frozen=True)
class LearningRateTest:
    """What `find_learning_rate` found: `rates` and `losses`, shape `(steps,)`, and the `suggestion`.

    The suggestion is the rate at which the loss falls fastest per factor of the rate; None where it never falls.
    """

    rates: np.ndarray
    losses: np.ndarray
    suggestion: float | None

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """The loss over the rate, with the suggestion marked; written to `path`, `.png` or `.svg`, if it is given."""
        from fluxion.train.plots import plot_lines

        return plot_lines(
            "LearningRateTest.plot",
            self.rates,
            {"loss": self.losses},
            ("learning rate", "loss"),
            path,
            logarithmic=True,
            mark=self.suggestion,
        )

    def __repr__(self) -> str:
        suggestion = "None" if self.suggestion is None else f"{self.suggestion:.2g}"
        return f"LearningRateTest({len(self.rates)} steps, suggestion={suggestion})"


@user_frames
def find_learning_rate(
    model: Any,
    data: Any,
    *,
    loss: Callable[..., Any],
    optimizer: Any = None,
    lowest: float = 1e-7,
    highest: float = 10.0,
    steps: int = 100,
    batch_size: int | None = None,
    seed: int = 0,
    check: bool = True,
) -> LearningRateTest:
    """Train a copy of the model under a learning rate that grows from `lowest` to `highest`, and note the losses.

    `rates[i] = lowest * (highest / lowest) ** (i / (steps - 1))`, and `losses[i]` is the loss before step `i`. The test
    ends early where the loss is four times its best, or not finite. Model and optimizer stay as they are, and so does
    a loader's epoch; only sizes left out of the model are inferred, as in `fit`.

    Arguments:
        model, data, loss, optimizer, batch_size, check: as for `fit`; the data are gone through again when they end.
        lowest, highest: the range.
        steps: how many there are at most.
        seed: of the order of the batches and of the random numbers of the steps.

    Errors: `ArgumentError` for a range that is none; `StateError` where an optax transformation keeps its learning
    rate to itself; those of `train` in the first step.

    Source: Smith 2017, "Cyclical learning rates for training neural networks", section 3.3.

    >>> import fluxion as fx
    >>> x, y = fx.datasets.iris()
    >>> model = fx.Chain(fx.Dense(4, 10, fx.relu), fx.Dense(10, 3))
    >>> test = fx.find_learning_rate(model, (x, y), loss=fx.logitcrossentropy, optimizer=fx.Adam())
    >>> 1e-4 < test.suggestion < 1
    True
    """
    count = check_count("find_learning_rate", "steps", steps)
    if not 0 < lowest < highest < math.inf or count < 2 * SMOOTH:
        raise ArgumentError(
            f"find_learning_rate: expected 0 < lowest < highest and at least {2 * SMOOTH} steps, got lowest={lowest}, "
            f"highest={highest}, steps={steps}."
        )
    if is_arrays(data):
        data = DataLoader(data, batch_size=32 if batch_size is None else batch_size, shuffle=True, seed=seed)
    elif batch_size is not None:
        raise ArgumentError(
            f"find_learning_rate: batch_size={batch_size} is for arrays, but data is a {type(data).__name__}."
        )
    infer_sizes(model, data)
    copy = fmap(lambda array: array, model)
    if isinstance(optimizer, Optimizer):
        opt = copy_for(optimizer, copy)
    else:
        opt = setup(Adam() if optimizer is None else optimizer, copy)
    opt.seed = seed
    rates = lowest * (highest / lowest) ** (np.arange(count) / (count - 1))
    first = opt.step
    adjust(opt, lambda step: float(rates[min(step - first, count - 1)]))
    losses = _losses(copy, _endless(data), loss, opt, count, check)
    rates = rates[: len(losses)]
    return LearningRateTest(rates, losses, _steepest(rates, losses))


def _losses(
    model: Any, batches: Iterator[Any], loss: Callable[..., Any], opt: Optimizer, count: int, check: bool
) -> np.ndarray:
    """The losses of at most `count` steps, up to where they diverge."""
    batch = next(batches)
    training = Training(Objective(loss, is_by_prediction(loss, batch)), model, opt, check=check)
    best = math.inf
    for k in range(count):
        try:
            training.step(batch if k == 0 else next(batches))
            training.finish()
        except NonFiniteError:
            if k == 0:
                raise
            break
        value = float(training.results[-1][-1, 0])
        best = min(best, value)
        if value > DIVERGED * best > 0:
            break
    return training.values()[:, 0]


def _endless(data: Iterable[Any]) -> Iterator[Any]:
    """The batches of one epoch after another, without moving a loader on."""
    for epoch in itertools.count(data.epoch if can_seek(data) else 0):
        empty = True
        for batch in data.batches(epoch) if can_seek(data) else data:
            empty = False
            yield as_batch(batch)
        if empty:
            raise DataError(
                "find_learning_rate: expected batches for all steps, got too few. A generator can be read once; give "
                "arrays, a list or a DataLoader."
            )


def _steepest(rates: np.ndarray, losses: np.ndarray) -> float | None:
    """Where the loss, averaged over neighbors, falls fastest over the logarithm of the rate."""
    if len(losses) < 2 * SMOOTH:
        return None
    smooth = np.convolve(losses, np.full(SMOOTH, 1 / SMOOTH), "valid")
    middle = rates[SMOOTH // 2 : -(SMOOTH // 2)]
    slopes = np.gradient(smooth, np.log(middle))
    return float(middle[np.argmin(slopes)]) if slopes.min() < 0 else None
