"""`fit`: the loop written out once, with validation, metrics, callbacks, a history and a progress display.

    history = fx.fit(model, (x, y), loss=fx.logitcrossentropy, optimizer=fx.Adam(1e-3), epochs=10,
                     batch_size=64, validation=0.1, metrics=[fx.accuracy])

It takes the same compiled step as `train`, in the same order, and gives the same numbers.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from fluxion.data.loader import DataLoader
from fluxion.data.splits import splitobs
from fluxion.data.streaming import TableStream
from fluxion.errors import ArgumentError, DataError, StateError, user_frames
from fluxion.optim.optimizer import Optimizer, adjust, setup
from fluxion.optim.rules import Adam
from fluxion.train.callbacks import Callback, Callbacks, FitContext
from fluxion.train.checkpoint import Checkpoint, EpochPart, Moment
from fluxion.train.evaluate import Metrics, batch_length, evaluate, is_arrays, is_by_prediction, named_metrics
from fluxion.train.history import History
from fluxion.train.progress import Progress
from fluxion.train.runfolder import RunFolder, check_seed
from fluxion.train.step import Objective, Training, as_arguments, as_batch
from fluxion.train.steps import (
    CALL_SECONDS,
    Block,
    batches_from,
    can_seek,
    epochs_at_once,
    epochs_block,
    feed,
    in_blocks,
)
from fluxion.transform.randomness import load_stream, next_seed, stream_state
from fluxion.transform.sizes import autosize
from fluxion.tree.model import first_unsized
from fluxion.tree.walk import scan


@user_frames
def fit(
    model: Any,
    data: Any,
    *,
    loss: Callable[..., Any],
    optimizer: Any = None,
    epochs: int = 1,
    batch_size: int | None = None,
    validation: Any = None,
    metrics: Metrics = (),
    callbacks: Sequence[Callback | Callable[[FitContext], object]] = (),
    schedule: Callable[[int], float] | None = None,
    run: str | os.PathLike[str] | None = None,
    seed: int | None = None,
    progress: bool = True,
    check: bool = True,
) -> History:
    """Train `model` in place for some epochs and return the `History`, one row per epoch.

    Arguments:
        data: a tuple of arrays (inputs, target), shuffled into batches of `batch_size` (32 by default) in every epoch;
            or a `DataLoader` or another iterable of batches, taken as it is.
        loss: `loss(prediction, target)`, or `loss(model, *batch)` as for `train`.
        optimizer: a rule such as `Adam(1e-3)` (the default), or an optimizer from `setup`, which is continued.
        validation: a fraction of the arrays to hold out, or data of its own; evaluated after every epoch.
        metrics: functions of `(prediction, target)`, in a list or a dict by name; with `loss(model, *batch)` they are
            computed in validation only.
        callbacks: `Callback` objects, or functions called at the end of each epoch.
        schedule: a function of the step that gives the learning rate from here on.
        run: a folder in which to keep the run: configuration, history, checkpoints, the final model. A call that finds
            a checkpoint there goes on from it, with the same numbers as if it had never been interrupted, up to
            `epochs` in all. See `Checkpoint` for when they are written.
        seed: decides the order of the batches, the held-out part, and the random numbers of the steps.
        progress: whether to show a live bar in a terminal or a notebook, or plain lines elsewhere.
        check: whether to check values (finite inputs, labels in range, probabilities where they belong).

    Sizes left out of the model are inferred from the first batch. Errors are those of `train`; after any exception,
    Ctrl-C included, model and optimizer are those of the last completed step, and the exception's attribute
    `history` holds the completed epochs. A run folder of another model, optimizer or data is refused with StateError, a
    damaged checkpoint with FileFormatError.

    >>> import fluxion as fx
    >>> x, y = fx.datasets.iris()
    >>> model = fx.Chain(fx.Dense(None, 10, fx.relu), fx.Dense(10, 3))
    >>> history = fx.fit(model, (x, y), loss=fx.logitcrossentropy, epochs=2, seed=0, progress=False)
    >>> len(history), history.names[:2], model
    (2, ['epoch', 'loss'], Chain(Dense(4, 10, relu), Dense(10, 3)))
    """
    if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
        raise ArgumentError(f"fit: expected epochs of at least 1, got {epochs!r}.")
    named = named_metrics(metrics)
    checkpoint, others = _taken_out(callbacks)
    if run is None and checkpoint is not None:
        raise ArgumentError(f'fit: expected a folder for {checkpoint!r}, got none. Write fit(..., run="runs/a").')
    folder = None if run is None else RunFolder(run, checkpoint)
    saved = None if folder is None else folder.saved()
    seed = check_seed(saved, seed, run)
    seed = next_seed() if seed is None else seed
    batches, held_out = _prepare(data, batch_size, validation, seed)
    infer_sizes(model, batches)
    opt = optimizer if isinstance(optimizer, Optimizer) else setup(Adam() if optimizer is None else optimizer, model)
    if opt.seed is None:
        opt.seed = seed
    if schedule is not None:
        adjust(opt, schedule)
    followers = Callbacks(others)
    context = FitContext(model=model, opt=opt, epochs=epochs)
    moment = None if folder is None else folder.begin(context, followers, batches, saved, seed, named)
    going = _Run(context, followers, loss, named, check, batches, folder, moment)
    try:
        with Progress(epochs, _length(batches), enabled=progress) as display:
            if context.resumed:
                display.say(f"{run}: going on after step {context.step}, {context.epoch} epochs done")
            going.begin()
            while going.part.sizes or (context.epoch < epochs and not context.stopping):
                going.epochs(held_out, batch_size, display)
            going.end()
    except BaseException as error:
        context.error = error
        error.history = context.history  # type: ignore[attr-defined]
        if folder is not None:
            folder.keep_after(error, context, going.moment)
        followers.on_exception(context)
        raise
    return context.history


class _Run:
    """What stays the same from epoch to epoch of one `fit`."""

    def __init__(
        self,
        context: FitContext,
        callbacks: Callbacks,
        loss: Callable[..., Any],
        metrics: dict[str, Any],
        check: bool,
        batches: Iterable[Any],
        folder: RunFolder | None,
        moment: Moment | None,
    ) -> None:
        self.context = context
        self.callbacks = callbacks
        self.loss = loss
        self.metrics = metrics
        self.check = check
        self.batches = batches
        self.kept: Training | None = None  # that of the epoch before, where nobody can have changed the model since
        self.folder = folder
        self.moment = moment  # where an exception would leave the run; None without a folder
        self.part = EpochPart() if moment is None else moment.part
        self.epoch_begun = moment is not None and moment.epoch_begun
        self.step_begun = 0 if moment is None else moment.step_begun
        self.data_epoch = None if moment is None else moment.data_epoch
        self.random = None if moment is None or can_seek(batches) else moment.random

    def begin(self) -> None:
        """Before the first step of a new run or of the rest of one."""
        self.callbacks.on_fit_begin(self.context)
        if self.folder is not None:
            self.folder.log.on_fit_begin(self.context)
        if self.moment is None:
            self.between_epochs()
        elif self.moment.random is not None:
            load_stream(self.moment.random)

    def end(self) -> None:
        """After the last step."""
        self.keep()
        self.callbacks.on_fit_end(self.context)
        if self.folder is not None:
            self.folder.complete(self.context)

    def between_epochs(self) -> None:
        """Nothing is done yet of the next epoch."""
        self.part, self.epoch_begun = EpochPart(), False
        if self.folder is not None:
            if can_seek(self.batches):
                self.data_epoch = int(self.batches.epoch)
            else:
                self.random = stream_state()
            self.remember(self.context.epoch)

    def remember(self, finished: int) -> None:
        """Note where the run stands after so many epochs, for a checkpoint now or after an exception."""
        if self.folder is not None:
            self.moment = Moment.of(
                self.context,
                self.callbacks,
                self.part,
                finished=finished,
                epoch_begun=self.epoch_begun,
                step_begun=self.step_begun,
                data_epoch=self.data_epoch,
                random=self.random,
            )

    def keep(self) -> None:
        """Write a checkpoint of what was remembered last."""
        if self.folder is not None and self.moment is not None:
            self.folder.keep(self.context, self.moment)

    def epochs(self, held_out: Any, batch_size: int | None, display: Progress) -> None:
        """The next epoch; or several short ones, where nothing but steps happens to the model in this run."""
        context, batches = self.context, self.batches
        alone = held_out is None and not self.callbacks.all
        if alone and self.folder is None and in_blocks(batches):
            most = min(epochs_at_once(batches), context.epochs)
            if most > 1:
                self.short_epochs(batches, most, display)
                return
        context.epoch += 1
        display.start_epoch(context.epoch, len(self.part.sizes))
        if not self.epoch_begun:
            self.callbacks.on_epoch_begin(context)
            self.epoch_begun = True
            self.remember(context.epoch - 1)
        means, samples = self.steps(display, alone)
        self.remember(context.epoch - 1)
        row: dict[str, Any] = {"epoch": context.epoch, **means}
        if held_out is not None:
            result = evaluate(
                context.model, held_out, loss=self.loss, metrics=self.metrics, batch_size=max(batch_size or 0, 256)
            )
            row |= {f"validation_{name}": value for name, value in result.items()}
        self.end_epoch(row, self.part.seconds, samples, display)
        self.between_epochs()
        if self.folder is not None and self.folder.is_due_after(context.epoch, context.step):
            self.keep()

    def short_epochs(self, loader: DataLoader, most: int, display: Progress) -> None:
        """Up to `most` epochs in one piece of work of a tenth of a second, each with its row in the history."""
        context, period = self.context, len(loader)
        first_step, first_epoch = context.opt.step, loader.epoch
        started = time.perf_counter()
        count = min(most, context.epochs - context.epoch)
        if context.history:
            count = max(1, min(count, int(CALL_SECONDS / context.history.last["seconds"])))
        block = epochs_block(loader, count, most * period)
        training = self.training(block.data)
        if not context.history:  # as many as the pace of an earlier run allows, or one
            pace = training.pace(block) or CALL_SECONDS
            count = max(1, min(block.count, int(CALL_SECONDS / pace)) // period)
            block = dataclasses.replace(block, count=count * period)
        try:
            training.steps(block)
            training.finish()
            training.sync()
        except BaseException:
            training.recover()
            raise
        finally:
            step, results = context.opt.step, training.values()
            done = len(results) // period
            loader.epoch = first_epoch + min(done + 1, count)
            sizes = [block.rows(i) for i in range(period)]
            seconds = (time.perf_counter() - started) / max(done, 1)
            by_epoch = results[: done * period].reshape(done, period, -1)
            for k, means in enumerate(self.means(by_epoch, sizes)):
                context.epoch += 1
                context.opt.step = first_step + (k + 1) * period
                display.start_epoch(context.epoch)
                display.step(by_epoch[k, -1, 0].item(), loader.count, period)
                self.end_epoch({"epoch": context.epoch, **means}, seconds, sum(sizes), display)
            context.step = context.opt.step = step
        context.loss = float(results[-1, 0])
        self.kept = training

    def end_epoch(self, row: dict[str, Any], seconds: float, samples: int, display: Progress) -> None:
        """Complete the row of an epoch and show it to all who wait for it."""
        context = self.context
        rate = _learning_rate(context.opt)
        row |= {} if rate is None else {"learning_rate": rate}
        row |= {"seconds": seconds, "samples_per_second": samples / seconds}
        context.history.append(row)
        context.logs = context.history.last
        self.callbacks.on_epoch_end(context)
        if self.folder is not None:
            self.folder.log.on_epoch_end(context)
        display.end_epoch(context.logs)

    def training(self, batch: Any) -> Training:
        """What takes the steps: that of the epoch before, where the model is as it left it, or a new one."""
        training, self.kept = self.kept, None
        if training is not None:
            training.again()
            return training
        objective = Objective(self.loss, is_by_prediction(self.loss, batch), tuple(self.metrics.values()))
        return Training(objective, self.context.model, self.context.opt, check=self.check)

    def means(self, results: np.ndarray, sizes: list[int]) -> list[dict[str, float]]:
        """Loss and metrics of each epoch, from the rows of its steps: an array (epochs, steps, columns)."""
        names = ["loss", *list(self.metrics)[: results.shape[2] - 2]]  # metrics are of the prediction alone
        chosen = results[:, :, [0, *range(2, results.shape[2])]]
        means = np.average(chosen, axis=1, weights=sizes)
        return [dict(zip(names, row, strict=True)) for row in means.tolist()]

    def steps(self, display: Progress, alone: bool) -> tuple[dict[str, float], int]:
        """What is left of a pass over the batches: the means of loss and metrics, and the number of observations.

        `alone` says that nothing but steps happens to the model in this run.
        """
        context, part, before = self.context, self.part, self.part.seconds
        training: Training | None = None
        earlier, started = part.rows, time.perf_counter()
        every_step = self.callbacks.every_step
        if self.step_begun and self.step_begun == len(part.sizes):
            self.end_step()
        stopped = context.stopping and part.sizes  # before the run was interrupted
        try:
            for piece in () if stopped else (batches_from if every_step else feed)(self.batches, len(part.sizes)):
                batch = piece.data if isinstance(piece, Block) else as_batch(piece)
                if training is None:
                    training = self.training(batch)
                at, count = (piece.first, piece.count) if isinstance(piece, Block) else (0, 1)
                while at < count:
                    self.keep_if_due(training, earlier, before + time.perf_counter() - started)
                    end = self.limit(training, at, count)
                    new = list(map(piece.rows, range(at, end))) if isinstance(piece, Block) else [batch_length(batch)]
                    part.sizes += new
                    if isinstance(piece, Block):
                        training.steps(piece, at, end)
                    elif every_step:
                        self.observed_step(training, batch)
                    else:
                        training.step(batch)
                    display.step(training.last_loss, sum(new), len(new))
                    at = end
                if context.stopping:
                    break
            if not part.sizes:
                raise DataError(
                    f"fit: expected at least one batch in epoch {context.epoch}, got none. "
                    "A generator lasts for one epoch; give arrays, a list or a DataLoader."
                )
            if training is not None:
                training.finish()
                training.sync()
        except BaseException:
            if training is not None:
                training.recover()
            raise
        finally:
            context.step = context.opt.step
            part.seconds = before + time.perf_counter() - started
            if training is not None:
                part.rows = _joined(earlier, training.values())
            del part.sizes[len(part.rows) :]
        self.kept = training if alone and in_blocks(self.batches) else None
        context.loss = float(part.rows[-1, 0])
        return self.means(part.rows[None], part.sizes)[0], sum(part.sizes)

    def limit(self, training: Training, at: int, count: int) -> int:
        """The batch of a block, or its end, before which the next checkpoint is due."""
        left = None if self.folder is None else self.folder.steps_left(training.state.step)
        return count if left is None else min(count, at + left)

    def keep_if_due(self, training: Training, earlier: np.ndarray, seconds: float) -> None:
        """Write a checkpoint before the next step, if one is due."""
        folder, part = self.folder, self.part
        if folder is None or not part.sizes or not folder.is_due(training.state.step):
            return
        training.finish()
        training.sync()
        self.context.step = self.context.opt.step
        part.rows, part.seconds = _joined(earlier, training.values()), seconds
        self.remember(self.context.epoch - 1)
        self.keep()

    def observed_step(self, training: Training, batch: Any) -> None:
        """A step with callbacks around it, for which the model is brought up to date."""
        context, number = self.context, len(self.part.sizes)
        if self.step_begun != number:
            self.remember(context.epoch - 1)
            self.callbacks.on_step_begin(context)
            self.step_begun = number
        self.remember(context.epoch - 1)
        training.attach()
        training.step(batch)
        training.finish()
        training.sync()
        context.step = context.opt.step
        context.loss = training.last_loss()
        self.end_step()

    def end_step(self) -> None:
        self.callbacks.on_step_end(self.context)
        self.step_begun = 0


def _taken_out(
    callbacks: Sequence[Callback | Callable[[FitContext], object]],
) -> tuple[Checkpoint | None, Sequence[Callback | Callable[[FitContext], object]]]:
    """The `Checkpoint` among the callbacks, and the others, which are called."""
    if not isinstance(callbacks, Sequence):
        return None, callbacks
    found = [callback for callback in callbacks if isinstance(callback, Checkpoint)]
    if len(found) > 1:
        raise ArgumentError(f"fit: expected one Checkpoint at most, got {len(found)}.")
    others = [callback for callback in callbacks if not isinstance(callback, Checkpoint)]
    return (found[0], others) if found else (None, callbacks)


def _joined(earlier: np.ndarray, new: np.ndarray) -> np.ndarray:
    return np.concatenate([earlier, new]) if len(earlier) else new


def _prepare(data: Any, batch_size: int | None, validation: Any, seed: int) -> tuple[Iterable[Any], Any]:
    """The batches, and the held-out data."""
    if isinstance(validation, (int, float)) and not isinstance(validation, bool):
        if not is_arrays(data):
            raise ArgumentError(
                f"fit: validation={validation} holds out a fraction of arrays, but data is a "
                f"{type(data).__name__}. Give validation data of its own."
            )
        if not 0 < validation < 1:
            raise ArgumentError(f"fit: expected validation between 0 and 1, got {validation}.")
        data, validation = splitobs(data, 1 - validation, shuffle=True, seed=seed)
    if isinstance(validation, (bool, str)):
        raise ArgumentError(f"fit: expected validation as a fraction, arrays or batches, got {validation!r}.")
    if is_arrays(data):
        return DataLoader(
            data, batch_size=32 if batch_size is None else batch_size, shuffle=True, seed=seed
        ), validation
    if batch_size is not None:
        raise ArgumentError(
            f"fit: batch_size={batch_size} is for arrays, but data is a {type(data).__name__} of batches."
        )
    if not hasattr(data, "__iter__"):
        raise ArgumentError(f"fit: expected a tuple of arrays, a DataLoader or batches, got {type(data).__name__}.")
    return data, validation


def infer_sizes(model: Any, batches: Iterable[Any]) -> None:
    """Give a model the sizes that were left out, from the first batch."""
    if first_unsized(scan(model)) is None:
        return
    if isinstance(batches, DataLoader | TableStream):
        first = batches.example()
    elif isinstance(batches, Sequence):
        first = batches[0] if batches else None
    else:
        raise ArgumentError(
            "fit: sizes are inferred from a DataLoader, arrays or a list. Call fx.autosize(model, shape)."
        )
    if first is None:
        raise DataError("fit: expected at least one batch, got none.")
    parts = as_arguments(as_batch(first))
    inputs = parts[:-1] if len(parts) > 1 else parts
    if not all(hasattr(part, "dtype") for part in inputs):
        raise ArgumentError("fit: sizes are inferred from batches (inputs, target). Call fx.autosize(model, shape).")
    autosize(model, inputs)


def _learning_rate(opt: Optimizer) -> float | None:
    """The learning rate, where there is one for the whole model."""
    try:
        rate = opt.learning_rate
    except StateError:  # an optax transformation keeps it to itself
        return None
    return rate if isinstance(rate, float) else None


def _length(batches: Iterable[Any]) -> int | None:
    """The number of batches, where it is known."""
    try:
        return len(batches)  # type: ignore[arg-type]
    except TypeError:
        return None
