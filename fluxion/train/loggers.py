"""Callbacks that keep more than the history: the learning rate of every step, event files for TensorBoard."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fluxion.errors import ArgumentError
from fluxion.train.callbacks import Callback, FitContext

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class LearningRateLogger(Callback):
    """Keep the learning rate of each step: `steps`, counted from 0 as schedules do, and `rates`, an array by name.

    The name is `learning_rate`, or the selector where parts of the model have their own. Schedules are read once an
    epoch, for all of its steps, so that training is not slowed; a rate that another callback sets in the middle of an
    epoch is known from the next one on.

    Errors: `StateError` where an optax transformation keeps its learning rate to itself.

    >>> import fluxion as fx
    >>> logger = fx.LearningRateLogger()
    >>> x, y = fx.datasets.iris()
    >>> history = fx.fit(fx.Dense(4, 3), (x, y), loss=fx.logitcrossentropy, batch_size=50, progress=False,
    ...                  schedule=lambda step: 0.1 / 2**step, callbacks=[logger])
    >>> logger.steps.tolist(), logger.rates["learning_rate"].tolist()
    ([0, 1, 2], [0.1, 0.05, 0.025])
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self._steps: list[int] = []
        self._rates: dict[str, list[float]] = {}
        self._first = 0  # the first step of the epoch
        self._at_first: dict[str, float] = {}

    @property
    def steps(self) -> np.ndarray:
        """The numbers of the steps."""
        return np.array(self._steps, np.int64)

    @property
    def rates(self) -> dict[str, np.ndarray]:
        """The rates of the steps; NaN before a part of the model had its own."""
        return {name: np.array(values) for name, values in self._rates.items()}

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """The rates over the steps; written to `path`, `.png` or `.svg`, if it is given."""
        from fluxion.train.plots import plot_lines

        if not self._steps:
            raise ArgumentError("LearningRateLogger.plot: expected at least one epoch, got none. Train first.")
        return plot_lines("LearningRateLogger.plot", self.steps, self.rates, ("step", "learning rate"), path)

    def on_fit_begin(self, context: FitContext) -> None:
        if not context.resumed:
            self.forget()

    def on_epoch_begin(self, context: FitContext) -> None:
        self._first, self._at_first = context.opt.step, _rates(context.opt)

    def on_epoch_end(self, context: FitContext) -> None:
        opt = context.opt
        end = opt.step
        try:
            for step in range(self._first, end):
                opt.step = step  # what schedules are read at
                self._add(step, _rates(opt) if opt.has_schedule else self._at_first)
        finally:
            opt.step = end

    def _add(self, step: int, rates: Mapping[str, float]) -> None:
        for name in [*self._rates, *rates]:
            column = self._rates.setdefault(name, [float("nan")] * len(self._steps))
            if len(column) == len(self._steps):
                column.append(rates.get(name, float("nan")))
        self._steps.append(step)

    def state(self) -> dict[str, Any]:
        return {"names": list(self._rates), "first": self._first, "at_first": dict(self._at_first)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._rates = {name: [] for name in state["names"]}
        self._first, self._at_first = state["first"], dict(state["at_first"])

    def arrays(self) -> dict[str, Any]:
        return {
            "steps": self.steps,
            "rates": np.array(list(self._rates.values())).reshape(len(self._rates), len(self._steps)),
        }

    def load_arrays(self, arrays: Mapping[str, Any]) -> None:
        self._steps = arrays["steps"].tolist()
        self._rates = dict(zip(self._rates, arrays["rates"].tolist(), strict=True))


class TensorBoard(Callback):
    """Write each epoch's row as scalars to event files in `folder`, for `tensorboard --logdir folder`.

    The axis is the epoch. A resumed run tells TensorBoard to forget the epochs that it makes again. The files are
    written by the package tensorboardX (`pip install "fluxion-ml[tensorboard]"`).

    Errors: `ImportError` at the beginning of training where tensorboardX is not installed.

    >>> import fluxion as fx
    >>> fx.TensorBoard("logs/a")
    TensorBoard('logs/a')
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = os.fspath(folder)
        self._writer: Any = None

    def __repr__(self) -> str:
        return f"TensorBoard({self.folder!r})"

    def on_fit_begin(self, context: FitContext) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise ImportError(
                "TensorBoard: expected the package tensorboardX, which is not installed. "
                'Run pip install "fluxion-ml[tensorboard]", or use fx.CSVLogger.'
            ) from error
        self._writer = SummaryWriter(
            self.folder,
            purge_step=context.epoch + 1 if context.resumed else None,
            filename_suffix=f".{time.time_ns()}",  # of two files of one second, the second would replace the first
        )

    def on_epoch_end(self, context: FitContext) -> None:
        for name, value in context.logs.items():
            if name != "epoch":
                self._writer.add_scalar(name, value, context.epoch)
        self._writer.flush()

    def on_fit_end(self, context: FitContext) -> None:
        self._writer.close()

    def on_exception(self, context: FitContext) -> None:
        if self._writer is not None:
            self._writer.close()


def _rates(opt: Any) -> dict[str, float]:
    rates = opt.learning_rate
    return rates if isinstance(rates, dict) else {"learning_rate": rates}
