"""The callbacks of `keras.callbacks`, with Keras' hooks and decisions.

`fit` calls them from the engine's loop. Hooks of batches make it take its steps one by one; a callback that does not
override them costs nothing between epochs. A loss that is not finite ends training with the engine's error before any
callback sees it, and the step is not applied.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, TextIO

import numpy as np

import fluxion
from fluxion.dialects.keras.names import choose, known_arguments
from fluxion.errors import ArgumentError, nearest
from fluxion.train.callbacks import FitContext

BATCH_HOOKS = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")


class Callback:
    """The base of callbacks: override the hooks you need. `self.model` is the model, `self.params` what `fit` got.

    Epochs and batches count from 0; `logs` holds the numbers so far, `{"loss": ..., "val_loss": ...}`. To end training
    set `self.model.stop_training = True`.
    """

    def __init__(self) -> None:
        self.model: Any = None
        self.params: dict[str, Any] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls) and cls.__module__ == __name__ and cls.__name__ != "LambdaCallback":
            cls.__init__ = known_arguments(cls.__init__)  # type: ignore[method-assign]

    def set_params(self, params: dict[str, Any]) -> None:
        """Called before training with `{"verbose": ..., "epochs": ..., "steps": ...}`."""
        self.params = params

    def set_model(self, model: Any) -> None:
        """Called before training with the model."""
        self.model = model

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Before the first batch of an epoch."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """After an epoch and its validation."""

    def on_train_begin(self, logs: Any = None) -> None:
        """Before the first epoch."""

    def on_train_end(self, logs: Any = None) -> None:
        """After the last epoch; not after an exception."""

    def on_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Another name of `on_train_batch_begin`."""

    def on_batch_end(self, batch: int, logs: Any = None) -> None:
        """Another name of `on_train_batch_end`."""

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Before a step."""
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """After a step; `logs` are means over the epoch so far."""
        self.on_batch_end(batch, logs)

    def on_test_begin(self, logs: Any = None) -> None:
        """Before an evaluation."""

    def on_test_end(self, logs: Any = None) -> None:
        """After an evaluation."""

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Before a batch of an evaluation."""

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        """After a batch of an evaluation."""

    def on_predict_begin(self, logs: Any = None) -> None:
        """Before a prediction."""

    def on_predict_end(self, logs: Any = None) -> None:
        """After a prediction."""

    def on_predict_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Before a batch of a prediction."""

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        """After a batch of a prediction; `logs["outputs"]` are its outputs."""

    def wants(self, *hooks: str) -> bool:
        """Whether one of these hooks does something."""
        return any(_function(self, hook) is not getattr(Callback, hook) for hook in hooks)


def _function(callback: Any, hook: str) -> Any:
    method = getattr(callback, hook)
    return getattr(method, "__func__", method)


class History(Callback):
    """What `fit` returns: `history` has a list of numbers by name, `epoch` the numbers of the epochs, from 0."""

    def __init__(self) -> None:
        super().__init__()
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []

    def on_train_begin(self, logs: Any = None) -> None:
        self.epoch = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)


class LambdaCallback(Callback):
    """A callback made of functions, given by the names of the hooks.

    >>> from fluxion.dialects import keras
    >>> keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch)).on_epoch_end(3, {})
    3
    """

    def __init__(self, **hooks: Callable[..., Any] | None) -> None:
        super().__init__()
        known = [name for name in dir(Callback) if name.startswith("on_")]
        for name, function in hooks.items():
            if name not in known:
                raise ArgumentError(
                    f"LambdaCallback: there is no hook {name!r}.{nearest(name, known)} It takes {', '.join(known)}."
                )
            if function is not None:
                vars(self)[name] = function


class _Monitor(Callback):
    """Follows one number of the logs, of which less or more is better."""

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0, best: float | None = None) -> None:
        super().__init__()
        owner = type(self).__name__
        self.monitor, self.min_delta, self.best = monitor, abs(min_delta), best
        self.mode = choose(f"{owner} mode", mode, {m: m for m in ("auto", "min", "max")})

    def value(self, logs: Mapping[str, float] | None) -> float:
        """The number in the logs; an error where there is none of its name."""
        logs = logs or {}
        if self.monitor not in logs:
            raise ArgumentError(
                f"{type(self).__name__}: expected to monitor one of {', '.join(map(repr, logs))}, got {self.monitor!r}."
                f"{nearest(self.monitor, logs)}"
            )
        return logs[self.monitor]

    def is_missing(self, logs: Mapping[str, float] | None) -> bool:
        """Whether the number is not there in this epoch only, as validation is not made in each (`validation_freq`)."""
        return self.monitor.startswith("val_") and self.monitor not in (logs or {}) and self.params.get("gaps", False)

    def upwards(self) -> bool:
        """Whether more is better."""
        if self.mode != "auto":
            return self.mode == "max"
        name = self.monitor.removeprefix("val_")
        if name == "loss" or name.endswith("_loss"):
            return False
        metrics = getattr(self.model, "metrics", [])
        found = [m for m in metrics if m.name == name or name.endswith(f"_{m.name}")]
        direction = next((m.direction for m in found if m.direction), None)
        if direction is None:
            raise ArgumentError(
                f'{type(self).__name__}: expected mode="min" or mode="max" for {self.monitor!r}: of this number it is '
                "not known whether less or more is better."
            )
        return direction == "up"

    def is_better(self, value: float, reference: float | None) -> bool:
        if reference is None:
            return True
        return value - self.min_delta > reference if self.upwards() else value + self.min_delta < reference


class EarlyStopping(_Monitor):
    """Stop when a number has not bettered for `patience` epochs; `restore_best_weights` goes back to the best ones.

    Keras' rules, which differ from `fx.EarlyStopping`'s: the first epoch never stops, `baseline` must be bettered as
    well, and the first `start_from_epoch` epochs are not looked at.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience, self.verbose, self.baseline = patience, verbose, baseline
        self.restore_best_weights, self.start_from_epoch = restore_best_weights, start_from_epoch
        self.forget()

    def forget(self) -> None:
        self.wait, self.stopped_epoch, self.best_epoch = 0, 0, 0
        self.best, self.best_weights = None, None

    def on_train_begin(self, logs: Any = None) -> None:
        self.forget()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self.is_missing(logs) or epoch < self.start_from_epoch:
            return
        current = self.value(logs)
        if self.restore_best_weights and self.best_weights is None:
            self.best_weights, self.best_epoch = self.model.get_weights(), epoch
        self.wait += 1
        if self.is_better(current, self.best):
            self.best, self.best_epoch = current, epoch
            if self.restore_best_weights:
                self.best_weights = self.model.get_weights()
            if self.baseline is None or self.is_better(current, self.baseline):
                self.wait = 0
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Any = None) -> None:
        if self.stopped_epoch > 0 and self.verbose > 0:
            print(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.restore_best_weights and self.best_weights is not None:
            if self.verbose > 0:
                print(f"Restoring model weights from the end of the best epoch: {self.best_epoch + 1}.")
            self.model.set_weights(self.best_weights)


class ModelCheckpoint(_Monitor):
    """Save the model, or its weights, after each epoch or after each `save_freq` batches.

    `filepath` may hold `{epoch:02d}` (from 1), `{batch}` and names of the logs: `"{epoch:02d}-{val_loss:.2f}.keras"`.
    It ends in `.weights.h5` where `save_weights_only`, in `.keras` or `.h5` otherwise. With `save_best_only` it is
    written only where `monitor` is better than ever, and than `initial_value_threshold`.
    """

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
    ) -> None:
        super().__init__(monitor, mode, best=initial_value_threshold)
        self.filepath, self.verbose = os.fspath(filepath), verbose
        self.save_best_only, self.save_weights_only = save_best_only, save_weights_only
        self.save_freq = save_freq
        ends = (".weights.h5",) if save_weights_only else (".keras", ".h5")
        if not self.filepath.endswith(ends):
            raise ArgumentError(
                f"ModelCheckpoint: expected filepath to end in {' or '.join(ends)}, got {self.filepath!r}."
            )
        if save_freq != "epoch" and (isinstance(save_freq, str | bool) or save_freq < 1):
            raise ArgumentError(
                f'ModelCheckpoint: expected save_freq "epoch" or a number of batches, got {save_freq!r}.'
            )
        self.epoch, self.seen = 0, 0

    def wants(self, *hooks: str) -> bool:
        return False if self.save_freq == "epoch" and set(hooks) <= set(BATCH_HOOKS) else super().wants(*hooks)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.seen += 1
        if self.save_freq != "epoch" and self.seen >= int(self.save_freq):
            self.seen = 0
            self.save(self.epoch, batch, logs or {})

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self.save_freq == "epoch":
            self.save(epoch, None, logs or {})

    def save(self, epoch: int, batch: int | None, logs: Mapping[str, float]) -> None:
        path = self.path(epoch, batch, logs)
        if not self.is_due(epoch, logs, path):
            return
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        if self.save_weights_only:
            self.model.save_weights(path, overwrite=True)
        else:
            self.model.save(path, overwrite=True)

    def is_due(self, epoch: int, logs: Mapping[str, float], path: str) -> bool:
        if not self.save_best_only:
            self.say(f"\nEpoch {epoch + 1}: saving model to {path}")
            return True
        if self.is_missing(logs):
            return False
        current, best = self.value(logs), "None" if self.best is None else f"{self.best:.5f}"
        if not self.is_better(current, self.best):
            self.say(f"\nEpoch {epoch + 1}: {self.monitor} did not improve from {best}")
            return False
        self.say(f"\nEpoch {epoch + 1}: {self.monitor} improved from {best} to {current:.5f}, saving model to {path}")
        self.best = current
        return True

    def say(self, text: str) -> None:
        if self.verbose > 0:
            print(text)

    def path(self, epoch: int, batch: int | None, logs: Mapping[str, float]) -> str:
        known = {"epoch": epoch + 1, **({} if batch is None else {"batch": batch + 1}), **logs}
        wanted = [name for name in re.findall(r"\{(\w+)", self.filepath) if name not in known]
        if wanted:
            raise ArgumentError(
                f"ModelCheckpoint: filepath {self.filepath!r} names {wanted[0]!r}.{nearest(wanted[0], known)} There "
                f"are: {', '.join(known)}."
            )
        return self.filepath.format(**known)


class ReduceLROnPlateau(_Monitor):
    """Multiply the learning rate by `factor` when a number has not bettered for `patience` epochs.

    Then `cooldown` epochs pass before counting begins anew; the rate does not go below `min_lr`. Adds
    `learning_rate` to the logs.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        if factor >= 1:
            raise ArgumentError(f"ReduceLROnPlateau: expected factor below 1, got {factor!r}.")
        self.factor, self.patience, self.verbose = factor, patience, verbose
        self.cooldown, self.min_lr = cooldown, min_lr
        self.forget()

    def forget(self) -> None:
        self.best, self.cooldown_counter, self.wait = None, 0, 0

    def on_train_begin(self, logs: Any = None) -> None:
        self.forget()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs = {} if logs is None else logs
        logs["learning_rate"] = float(self.model.optimizer.learning_rate)
        if self.is_missing(logs):
            return
        current = self.value(logs)
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.wait = 0
        if self.is_better(current, self.best):
            self.best, self.wait = current, 0
        elif self.cooldown_counter == 0:
            self.wait += 1
            if self.wait >= self.patience:
                self.reduce(epoch)

    def reduce(self, epoch: int) -> None:
        optimizer = self.model.optimizer
        before = float(np.float32(optimizer.learning_rate))
        if before > np.float32(self.min_lr):
            optimizer.learning_rate = rate = max(before * self.factor, self.min_lr)
            if self.verbose > 0:
                print(f"\nEpoch {epoch + 1}: ReduceLROnPlateau reducing learning rate to {rate}.")
            self.cooldown_counter, self.wait = self.cooldown, 0


class LearningRateScheduler(Callback):
    """Set the learning rate before each epoch to `schedule(epoch, rate)`, or `schedule(epoch)`."""

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        super().__init__()
        self.schedule, self.verbose = schedule, verbose

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        import inspect

        optimizer = self.model.optimizer
        two = len(inspect.signature(self.schedule).parameters) > 1
        rate = self.schedule(epoch, float(optimizer.learning_rate)) if two else self.schedule(epoch)
        if isinstance(rate, bool) or (not isinstance(rate, float | np.floating) and not hasattr(rate, "__array__")):
            raise ArgumentError(f"LearningRateScheduler: expected a float from schedule, got {rate!r}.")
        optimizer.learning_rate = float(rate)
        if self.verbose > 0:
            print(f"\nEpoch {epoch + 1}: LearningRateScheduler setting learning rate to {float(rate)}.")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if logs is not None:
            logs["learning_rate"] = float(self.model.optimizer.learning_rate)


class CSVLogger(Callback):
    """Write the epochs' logs to a CSV file, with the epoch first and the other columns sorted by name."""

    def __init__(self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False) -> None:
        super().__init__()
        self.filename, self.separator, self.append = os.fspath(filename), separator, append
        self.keys: list[str] | None = None
        self.file: TextIO | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        self.close()
        self.header = not (self.append and os.path.exists(self.filename) and os.path.getsize(self.filename))
        self.file = open(self.filename, "a" if self.append else "w", newline="", encoding="utf-8")  # noqa: SIM115
        self.keys = None

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs = logs or {}
        if self.file is None:
            return
        writer = csv.writer(self.file, delimiter=self.separator)
        if self.keys is None:
            self.keys = sorted(logs)
            if self.keys and not any(key.startswith("val_") for key in self.keys):
                self.keys += [f"val_{key}" for key in self.keys]
            if self.header:
                writer.writerow(["epoch", *self.keys])
        writer.writerow([epoch, *(logs.get(key, "NA") for key in self.keys)])
        self.file.flush()

    def on_train_end(self, logs: Any = None) -> None:
        self.close()

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None


class TerminateOnNaN(Callback):
    """End training where the loss is not finite, in place of an error; the model is that of the step before.

    In Keras that step is applied. With `raise_error` the error stays.
    """

    def __init__(self, raise_error: bool = False) -> None:
        super().__init__()
        self.raise_error = raise_error


class ProgbarLogger(Callback):
    """What prints the bar; `fit` has its own, and this one changes nothing."""

    def __init__(self) -> None:
        super().__init__()


class TensorBoard(Callback):
    """Write the logs of each epoch to event files in `log_dir/train` and `log_dir/validation`, as `epoch_loss` etc.

    Written by tensorboardX (`pip install "fluxion-ml[tensorboard]"`). Graphs, histograms and profiles are not.
    """

    def __init__(self, log_dir: str | os.PathLike[str] = "logs", update_freq: str = "epoch") -> None:
        super().__init__()
        if update_freq != "epoch":
            raise ArgumentError(f'TensorBoard: expected update_freq="epoch", got {update_freq!r}.')
        self.log_dir = os.fspath(log_dir)
        self.writers: dict[str, Any] = {}

    def on_train_begin(self, logs: Any = None) -> None:
        for kind in ("train", "validation"):
            board = fluxion.TensorBoard(os.path.join(self.log_dir, kind))
            board.on_fit_begin(FitContext(model=None, opt=None))
            self.writers[kind] = board

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        for kind, start in (("train", ""), ("validation", "val_")):
            chosen = {n: v for n, v in (logs or {}).items() if n.startswith("val_") == bool(start)}
            row = {f"epoch_{name.removeprefix(start)}": value for name, value in chosen.items()}
            self.writers[kind].on_epoch_end(FitContext(model=None, opt=None, epoch=epoch, logs=row))

    def on_train_end(self, logs: Any = None) -> None:
        for board in self.writers.values():
            board.on_fit_end(FitContext(model=None, opt=None))


class BackupAndRestore(Callback):
    """Not supported here: `fx.fit(model, data, run="folder")` goes on exactly where it was interrupted."""

    def __init__(self, backup_dir: str | os.PathLike[str]) -> None:
        raise ArgumentError(
            "BackupAndRestore is not supported. Use ModelCheckpoint, or fx.fit(model, data, run=folder), which goes on "
            "bit for bit where it was interrupted."
        )


class CallbackList(fluxion.Callback):
    """Keras' callbacks as one of the engine's."""

    # The numbers of an engine's row that Keras' logs do not have.
    OWN: ClassVar[frozenset[str]] = frozenset({"epoch", "learning_rate", "seconds", "samples_per_second"})

    def __init__(self, callbacks: Any, model: Any, params: dict[str, Any]) -> None:
        self.callbacks = as_list(callbacks)
        self.model, self.batch = model, 0
        self.logs: dict[str, float] = {}
        for callback in self.callbacks:
            callback.set_params(params)
            callback.set_model(model)

    @property
    def every_step(self) -> bool:
        return self.wants(*BATCH_HOOKS)

    def wants(self, *hooks: str) -> bool:
        """Whether one of these hooks does something in one of the callbacks."""
        return any(callback.wants(*hooks) for callback in self.callbacks)

    def tell(self, hook: str, *args: Any) -> None:
        """Call a hook of all."""
        for callback in self.callbacks:
            getattr(callback, hook)(*args)

    def told(self, context: FitContext, hook: str, *args: Any) -> None:
        """Call a hook of all, and stop where one of them says so."""
        self.tell(hook, *args)
        if self.model.stop_training:
            context.stop("a callback set stop_training")

    def on_fit_begin(self, context: FitContext) -> None:
        self.told(context, "on_train_begin", {})

    def on_epoch_begin(self, context: FitContext) -> None:
        self.batch = 0
        self.told(context, "on_epoch_begin", context.epoch - 1, {})

    def on_step_begin(self, context: FitContext) -> None:
        self.told(context, "on_train_batch_begin", self.batch, {})

    def on_step_end(self, context: FitContext) -> None:
        self.told(context, "on_train_batch_end", self.batch, sorted_logs(context.means()))
        self.batch += 1

    def on_epoch_end(self, context: FitContext) -> None:
        self.logs = self.logs_of(context.logs)
        self.told(context, "on_epoch_end", context.epoch - 1, self.logs)

    def on_fit_end(self, context: FitContext) -> None:
        self.tell("on_train_end", self.logs)

    @classmethod
    def logs_of(cls, row: Mapping[str, Any]) -> dict[str, float]:
        """A row of the engine's history as Keras' logs."""
        return sorted_logs({name: value for name, value in row.items() if name not in cls.OWN})


def sorted_logs(logs: Mapping[str, float]) -> dict[str, float]:
    """Logs in Keras' order, that of the names."""
    return {name: logs[name] for name in sorted(logs)}


def as_list(callbacks: Any) -> list[Any]:
    """The callbacks that were given: None, one or several."""
    found: Sequence[Any] = (
        [] if callbacks is None else list(callbacks) if isinstance(callbacks, Iterable) else [callbacks]
    )
    for callback in found:
        if isinstance(callback, type) or not isinstance(callback, Callback):
            kind = callback.__name__ if isinstance(callback, type) else repr(callback)
            raise ArgumentError(f"callbacks: expected keras.callbacks.Callback objects, got {kind}.")
    return list(found)
