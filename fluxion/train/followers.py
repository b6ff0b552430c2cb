"""The ready callbacks: stop early, lower the learning rate on a plateau, log to a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from fluxion.errors import ArgumentError, StateError, nearest
from fluxion.files import naming
from fluxion.optim import adjust
from fluxion.train.callbacks import Callback, FitContext
from fluxion.train.history import Mode, check_mode, csv_lines
from fluxion.train.throttle import check_count, check_number
from fluxion.tree import load_state, state


class _Watch(Callback):
    """Follows one number of the row: its best value, and for how many epochs it has not been bettered."""

    def __init__(self, monitor: str, patience: int, min_delta: float, mode: Mode | None) -> None:
        self.caller = type(self).__name__
        self.monitor = monitor
        self.mode = check_mode(self.caller, monitor, mode)
        self.patience = check_count(self.caller, "patience", patience)
        self.min_delta = check_number(self.caller, "min_delta", min_delta, 0.0)
        self.forget()

    def forget(self) -> None:
        self.best: float | None = None
        self.waited = 0

    def on_fit_begin(self, context: FitContext) -> None:
        if not context.resumed:
            self.forget()

    def improved(self, context: FitContext) -> bool | None:
        """Whether the epoch's value is better than the best so far; None if it has no value (a gap in validation)."""
        if self.monitor not in context.logs:
            if self.monitor in context.history.names:
                return None
            remedy = "Give fit validation data." if self.monitor.startswith("validation_") else "Name one of those."
            raise ArgumentError(
                f"{self.caller}: expected to monitor one of {', '.join(map(repr, context.logs))}, got "
                f"{self.monitor!r}.{nearest(self.monitor, context.logs)} {remedy}"
            )
        value = float(context.logs[self.monitor])
        gain = 0.0 if self.best is None else (self.best - value if self.mode == "min" else value - self.best)
        better = value == value if self.best is None else gain > self.min_delta  # false for NaN
        if better:
            self.best, self.waited = value, 0
        else:
            self.waited += 1
        return better

    def __repr__(self) -> str:
        return f"{self.caller}({self.monitor!r}, patience={self.patience})"

    def state(self) -> dict[str, Any]:
        # As text, since JSON has no infinities, and a repr gives every bit back.
        return {"best": None if self.best is None else repr(self.best), "waited": self.waited}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.best = None if state["best"] is None else float(state["best"])
        self.waited = int(state["waited"])


class EarlyStopping(_Watch):
    """Stop when the monitored value has not improved for `patience` epochs in a row.

    An improvement is `best - value > min_delta` for `mode="min"` and `value - best > min_delta` for `mode="max"`.
    An equal value and NaN are none.

    Arguments:
        monitor: the name of a value in the row of an epoch.
        patience: after how many epochs without improvement to stop.
        min_delta: the least change that counts.
        mode: whether lower or higher is better; needed unless `monitor` is a loss.
        restore_best: whether to put the arrays of the best epoch back into the model when training ends, early or
            not. They are copied at each improvement. The optimizer is left as it is.

    Errors: `ArgumentError` for bad options, and for a name that the row does not have.

    Source: Prechelt 1998, "Early stopping, but when?"; counts epochs as Keras' `EarlyStopping`, not as Flux's
    `early_stopping`, for which a flat score is an improvement.

    >>> import fluxion as fx
    >>> fx.EarlyStopping("validation_accuracy", patience=3, mode="max").monitor
    'validation_accuracy'
    """

    def __init__(
        self,
        monitor: str = "validation_loss",
        patience: int = 5,
        *,
        min_delta: float = 0.0,
        mode: Mode | None = None,
        restore_best: bool = False,
    ) -> None:
        super().__init__(monitor, patience, min_delta, mode)
        self.restore_best = restore_best

    def forget(self) -> None:
        super().forget()
        self.best_epoch = 0
        self._best_arrays: dict[str, Any] = {}

    def on_epoch_end(self, context: FitContext) -> None:
        improved = self.improved(context)
        if improved:
            self.best_epoch = context.epoch
            if self.restore_best:
                self._best_arrays = _copies(state(context.model))
        elif improved is False and self.waited >= self.patience:
            since = f"since epoch {self.best_epoch} ({self.best:.6g})" if self.best_epoch else "ever"
            context.stop(f"EarlyStopping: no better {self.monitor} {since}")

    def on_fit_end(self, context: FitContext) -> None:
        if self._best_arrays and self.best_epoch != context.epoch:
            # Copied once more: a later step may donate the memory of the model's own arrays.
            load_state(context.model, _copies(self._best_arrays))

    def state(self) -> dict[str, Any]:
        return super().state() | {"best_epoch": self.best_epoch}

    def load_state(self, state: Mapping[str, Any]) -> None:
        super().load_state(state)
        self.best_epoch = int(state["best_epoch"])

    def arrays(self) -> dict[str, Any]:
        return dict(self._best_arrays)

    def load_arrays(self, arrays: Mapping[str, Any]) -> None:
        self._best_arrays = _copies(arrays)


class ReduceOnPlateau(_Watch):
    """Multiply the learning rate by `factor` when the monitored value has not improved for `patience` epochs in a row.

    Counting begins anew after each reduction; the best value is kept. The rate does not go below `min_learning_rate`.

    Arguments:
        monitor, patience, min_delta, mode: as for `EarlyStopping`.
        factor: between 0 and 1.
        min_learning_rate: where to end.

    Errors: `ArgumentError` for bad options, and for a name that the row does not have; `StateError` where the
    learning rate is a schedule, or parts of the model have their own.

    The rates are those of torch's `ReduceLROnPlateau(threshold_mode="abs", threshold=min_delta)` with one less
    `patience`, for torch reduces after `patience + 1` epochs.

    >>> import fluxion as fx
    >>> fx.ReduceOnPlateau(factor=0.1, patience=2).factor
    0.1
    """

    def __init__(
        self,
        monitor: str = "validation_loss",
        patience: int = 3,
        *,
        factor: float = 0.5,
        min_delta: float = 0.0,
        mode: Mode | None = None,
        min_learning_rate: float = 0.0,
    ) -> None:
        super().__init__(monitor, patience, min_delta, mode)
        self.factor = check_number(self.caller, "factor", factor, 0.0)
        if not 0 < self.factor < 1:
            raise ArgumentError(f"{self.caller}: expected factor between 0 and 1, got {factor!r}.")
        self.min_learning_rate = check_number(self.caller, "min_learning_rate", min_learning_rate, 0.0)

    def on_fit_begin(self, context: FitContext) -> None:
        super().on_fit_begin(context)
        self._rate(context.opt)

    def on_epoch_end(self, context: FitContext) -> None:
        if self.improved(context) is False and self.waited >= self.patience:
            self.waited = 0
            rate = self._rate(context.opt)
            lower = max(rate * self.factor, self.min_learning_rate)
            if lower < rate:
                adjust(context.opt, lower)

    def _rate(self, opt: Any) -> float:
        rate = opt.learning_rate
        if isinstance(rate, dict) or opt.has_schedule:
            got = repr(rate) if isinstance(rate, dict) else "a schedule"
            raise StateError(
                f"{self.caller}: expected an optimizer with one learning rate, a number, got {got}. "
                "Use either this callback or a schedule; for parts of a model call fx.adjust(opt, rate, at=...) in a "
                "callback of your own."
            )
        return float(rate)


class CSVLogger(Callback):
    """Keep the history as a CSV file at `path`, one row more at the end of each epoch.

    The file is written anew, atomically, when the run begins or a column comes in; rows in between are appended and
    flushed. So a killed run leaves at worst a torn last line, which resuming mends. `History.from_csv` reads it.

    >>> import fluxion as fx
    >>> fx.CSVLogger("log.csv").path
    'log.csv'
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._names: list[str] | None = None  # the columns of the file; None before this run wrote it

    def __repr__(self) -> str:
        return f"CSVLogger({self.path!r})"

    def on_fit_begin(self, context: FitContext) -> None:
        context.history.to_csv(self.path)  # so that a path that cannot be written is known before training
        self._names = context.history.names

    def on_epoch_end(self, context: FitContext) -> None:
        names = context.history.names
        if names != self._names:
            context.history.to_csv(self.path)
            self._names = names
            return
        with naming(self.path), open(self.path, "a", encoding="utf-8", newline="") as file:
            file.write(csv_lines(names, [context.history.last]))


def _copies(arrays: Mapping[str, Any]) -> dict[str, Any]:
    return {name: jnp.array(array, copy=True) for name, array in arrays.items()}
