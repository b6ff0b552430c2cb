"""What may happen beside training: at its beginning and end, and at those of every epoch and step.

A callback is an object with any of the seven methods of `Callback`, or a plain function `f(context)` that runs at the
end of each epoch. Both are given the one `FitContext` of the run: they read it, and may call `context.stop(reason)`.
"""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

import jax.numpy as jnp

from fluxion.errors import ArgumentError, StateError, nearest
from fluxion.optim import adjust
from fluxion.train.history import History, Mode, Number, check_mode, csv_lines
from fluxion.tree import load_state, state

P = ParamSpec("P")
R = TypeVar("R")


@dataclass
class FitContext:
    """The state of a run, as callbacks see it. One object from the beginning of `fit` to its end.

    Attributes:
        model: the model, up to date at the end of every epoch (of every step, for callbacks that ask for steps).
        opt: the optimizer, `opt.learning_rate`.
        history: the rows of the finished epochs; at `on_epoch_end` that epoch's row is its last.
        epochs: how many epochs the run is to have.
        epoch: the epoch under way, from 1; 0 before the first.
        step: how many steps were done in all.
        loss: the loss of the last step; None before the first.
        logs: the row of the epoch just finished; empty before the first.
        error: what went wrong, for `on_exception`.
        stopping, stop_reason: set by `stop`.

    >>> from fluxion.train.callbacks import FitContext
    >>> context = FitContext(model=None, opt=None, epochs=10)
    >>> context.stop("the loss is low enough")
    >>> context.stopping, context.stop_reason
    (True, 'the loss is low enough')
    """

    model: Any
    opt: Any
    history: History = field(default_factory=History)
    epochs: int = 1
    epoch: int = 0
    step: int = 0
    loss: float | None = None
    logs: Mapping[str, Number] = field(default_factory=dict)
    error: BaseException | None = None
    stopping: bool = False
    stop_reason: str = ""

    def stop(self, reason: str = "") -> None:
        """Ask `fit` to end after the step or epoch under way. The first reason given is kept."""
        if not self.stopping:
            self.stopping, self.stop_reason = True, reason


class Callback:
    """The base of callbacks: override what you need, all methods do nothing.

    `on_step_begin` and `on_step_end` cost speed, for `fit` then brings the model up to date at every step;
    it does so only if one of them is overridden (`every_step`).

    A callback with a memory returns it from `state` as plain values that fit JSON, and takes it back in `load_state`,
    so that a run can be resumed exactly; arrays go through `arrays` and `load_arrays`.

    >>> import fluxion as fx
    >>> class Print(fx.Callback):
    ...     def on_epoch_end(self, context):
    ...         print(f"epoch {context.epoch}: loss {context.logs['loss']}")
    >>> Print().every_step
    False
    """

    def on_fit_begin(self, context: FitContext) -> None:
        """Before the first step; `context.epoch` is 0, or in a resumed run the number of finished epochs."""

    def on_epoch_begin(self, context: FitContext) -> None:
        """Before the first step of an epoch."""

    def on_step_begin(self, context: FitContext) -> None:
        """Before a step."""

    def on_step_end(self, context: FitContext) -> None:
        """After a step."""

    def on_epoch_end(self, context: FitContext) -> None:
        """After the last step of an epoch and its validation; `context.logs` is the row."""

    def on_fit_end(self, context: FitContext) -> None:
        """After the last epoch, also when training was stopped early; not after an exception."""

    def on_exception(self, context: FitContext) -> None:
        """After any exception or Ctrl-C, `context.error`; the model is that of the last completed step."""

    @property
    def every_step(self) -> bool:
        """Whether this callback wants to be called at every step."""
        kind = type(self)
        return kind.on_step_begin is not Callback.on_step_begin or kind.on_step_end is not Callback.on_step_end

    def state(self) -> dict[str, Any]:
        """What this callback remembers, as plain values that fit JSON."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Remember what `state` returned."""

    def arrays(self) -> dict[str, Any]:
        """The arrays this callback remembers, by name."""
        return {}

    def load_arrays(self, arrays: Mapping[str, Any]) -> None:
        """Remember what `arrays` returned."""


class _EpochFunction(Callback):
    """A plain function as a callback."""

    def __init__(self, function: Callable[[FitContext], object]) -> None:
        self.function = function

    def on_epoch_end(self, context: FitContext) -> None:
        self.function(context)


class Callbacks(Callback):
    """Several callbacks as one, called in their order; plain functions become callbacks of the epoch's end.

    `state` and `arrays` are those of all; `load_state` refuses those of other callbacks.

    >>> from fluxion.train.callbacks import Callbacks, FitContext
    >>> both = Callbacks([lambda context: print("first"), lambda context: print("second")])
    >>> both.on_epoch_end(FitContext(model=None, opt=None))
    first
    second
    """

    def __init__(self, callbacks: Iterable[Callback | Callable[[FitContext], object]] = ()) -> None:
        if isinstance(callbacks, Callback) or not isinstance(callbacks, Iterable):
            raise ArgumentError(f"callbacks: expected a list of callbacks, got {callbacks!r}. Write [callback].")
        self.all = [_as_callback(item) for item in callbacks]

    @property
    def every_step(self) -> bool:
        return any(callback.every_step for callback in self.all)

    def on_fit_begin(self, context: FitContext) -> None:
        for callback in self.all:
            callback.on_fit_begin(context)

    def on_epoch_begin(self, context: FitContext) -> None:
        for callback in self.all:
            callback.on_epoch_begin(context)

    def on_step_begin(self, context: FitContext) -> None:
        for callback in self.all:
            callback.on_step_begin(context)

    def on_step_end(self, context: FitContext) -> None:
        for callback in self.all:
            callback.on_step_end(context)

    def on_epoch_end(self, context: FitContext) -> None:
        for callback in self.all:
            callback.on_epoch_end(context)

    def on_fit_end(self, context: FitContext) -> None:
        for callback in self.all:
            callback.on_fit_end(context)

    def on_exception(self, context: FitContext) -> None:
        with ExitStack() as stack:  # one that fails itself does not keep the others from cleaning up
            for callback in reversed(self.all):
                stack.callback(callback.on_exception, context)

    def state(self) -> dict[str, Any]:
        return {"callbacks": [[_kind(callback), callback.state()] for callback in self.all]}

    def load_state(self, state: Mapping[str, Any]) -> None:
        saved = state["callbacks"]
        kinds, mine = [kind for kind, _ in saved], [_kind(callback) for callback in self.all]
        if kinds != mine:
            raise StateError(
                f"callbacks: expected those the run was saved with, [{', '.join(kinds)}], got [{', '.join(mine)}]. "
                "Give the same callbacks in the same order."
            )
        for callback, (_, its_state) in zip(self.all, saved, strict=True):
            callback.load_state(its_state)

    def arrays(self) -> dict[str, Any]:
        return {f"{i}.{name}": a for i, callback in enumerate(self.all) for name, a in callback.arrays().items()}

    def load_arrays(self, arrays: Mapping[str, Any]) -> None:
        for i, callback in enumerate(self.all):
            start = f"{i}."
            callback.load_arrays({name.removeprefix(start): a for name, a in arrays.items() if name.startswith(start)})


class _Watch(Callback):
    """Follows one number of the row: its best value, and for how many epochs it has not been bettered."""

    def __init__(self, monitor: str, patience: int, min_delta: float, mode: Mode | None) -> None:
        self.caller = type(self).__name__
        self.monitor = monitor
        self.mode = check_mode(self.caller, monitor, mode)
        self.patience = _check_count(self.caller, "patience", patience)
        self.min_delta = _check_number(self.caller, "min_delta", min_delta, 0.0)
        self.forget()

    def forget(self) -> None:
        self.best: float | None = None
        self.waited = 0

    def on_fit_begin(self, context: FitContext) -> None:
        if context.epoch == 0:  # a new run, not a resumed one
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
        self.factor = _check_number(self.caller, "factor", factor, 0.0)
        if not 0 < self.factor < 1:
            raise ArgumentError(f"{self.caller}: expected factor between 0 and 1, got {factor!r}.")
        self.min_learning_rate = _check_number(self.caller, "min_learning_rate", min_learning_rate, 0.0)

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

    def on_fit_begin(self, context: FitContext) -> None:
        context.history.to_csv(self.path)  # so that a path that cannot be written is known before training
        self._names = context.history.names

    def on_epoch_end(self, context: FitContext) -> None:
        names = context.history.names
        if names != self._names:
            context.history.to_csv(self.path)
            self._names = names
            return
        with open(self.path, "a", encoding="utf-8", newline="") as file:
            file.write(csv_lines(names, [context.history.last]))


def throttle(
    f: Callable[P, R], seconds: float, *, leading: bool = True, trailing: bool = False
) -> Callable[P, R | None]:
    """`f`, called at most once in `seconds`; calls that come too soon return the last result.

    Arguments:
        f: any function.
        seconds: the length of the pause after each call.
        leading: whether the first call of a pause goes through at once.
        trailing: whether the last call of a pause is made up for at its end. It then runs in a thread of its own, and
            is lost if the program ends first.

    Errors: `ArgumentError` for a negative time, or if neither `leading` nor `trailing`.

    As Flux's `throttle`, except that both options off is an error.

    >>> import fluxion as fx
    >>> say = fx.throttle(print, 60)
    >>> for i in range(1000):
    ...     say(i)
    0
    """
    seconds = _check_number("throttle", "seconds", seconds, 0.0)
    if not (leading or trailing):
        raise ArgumentError("throttle: expected leading=True or trailing=True, got neither; nothing would be called.")
    lock = threading.RLock()
    ready_at = float("-inf")
    waiting: tuple[tuple[Any, ...], dict[str, Any]] | None = None
    timer: threading.Timer | None = None
    result: R | None = None

    def make_up() -> None:
        nonlocal ready_at, waiting, timer, result
        with lock:
            timer = None
            if waiting is not None:
                (args, kwargs), waiting = waiting, None
                ready_at = time.monotonic() + seconds
                result = f(*args, **kwargs)

    @functools.wraps(f)
    def throttled(*args: P.args, **kwargs: P.kwargs) -> R | None:
        nonlocal ready_at, waiting, timer, result
        with lock:
            now = time.monotonic()
            if now >= ready_at and timer is None:
                ready_at = now + seconds
                if leading:
                    result = f(*args, **kwargs)
                    return result
            if trailing:
                waiting = (args, kwargs)
                if timer is None:
                    timer = threading.Timer(max(ready_at - now, 0.0), make_up)
                    timer.daemon = True
                    timer.start()
            return result

    return throttled


def patience(predicate: Callable[P, object], wait: int) -> Callable[P, bool]:
    """A function that is true once `predicate` has been true `wait` times in a row.

    Errors: `ArgumentError` unless `wait` is a whole number, 1 or greater. As Flux's `patience`.

    >>> import fluxion as fx
    >>> high = fx.patience(lambda loss: loss > 1, 2)
    >>> [high(loss) for loss in (3, 0, 2, 2, 2)]
    [False, False, False, True, True]
    """
    _check_count("patience", "wait", wait)
    count = 0

    @functools.wraps(predicate)
    def patient(*args: P.args, **kwargs: P.kwargs) -> bool:
        nonlocal count
        count = count + 1 if predicate(*args, **kwargs) else 0
        return count >= wait

    return patient


def _as_callback(item: Any) -> Callback:
    if isinstance(item, Callback):
        return item
    if isinstance(item, type):
        raise ArgumentError(f"callbacks: expected a callback, got the class {item.__name__}. Write {item.__name__}().")
    if not callable(item):
        raise ArgumentError(f"callbacks: expected a Callback or a function of the context, got {item!r}.")
    return _EpochFunction(item)


def _kind(callback: Callback) -> str:
    return "function" if isinstance(callback, _EpochFunction) else type(callback).__name__


def _copies(arrays: Mapping[str, Any]) -> dict[str, Any]:
    return {name: jnp.array(array, copy=True) for name, array in arrays.items()}


def _check_count(caller: str, name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ArgumentError(f"{caller}: expected {name} to be a whole number, 1 or greater, got {value!r}.")
    return value


def _check_number(caller: str, name: str, value: Any, least: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < float("inf"):
        raise ArgumentError(f"{caller}: expected {name} to be a finite number, {least:g} or greater, got {value!r}.")
    return float(value)
