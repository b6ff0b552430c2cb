"""The loop of `fit`: epochs of compiled steps, with validation, callbacks, a display, a history and a run folder.

`fit` prepares a run and says how it is shown; a front of another taste (`fluxion.dialects.keras`) does the same in its
own way. Neither has a loop of its own.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import numpy as np

from fluxion.data.loader import DataLoader
from fluxion.errors import DataError, StateError
from fluxion.optim.optimizer import Optimizer
from fluxion.train.callbacks import Callbacks, FitContext
from fluxion.train.checkpoint import EpochPart, Moment
from fluxion.train.columns import Running, by_epoch
from fluxion.train.evaluate import batch_length
from fluxion.train.progress import Loss
from fluxion.train.runfolder import RunFolder
from fluxion.train.step import Objective, Training, as_batch
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
from fluxion.transform.randomness import load_stream, stream_state


class Display(Protocol):
    """What is told how a run goes, so that people see it; `Progress` is one."""

    def start_epoch(self, epoch: int, done: int = 0) -> None:
        """Epoch number `epoch`, from 1, begins; `done` of its steps were made before the run was resumed."""

    def step(self, loss: Loss = None, samples: int = 0, steps: int = 1) -> None:
        """So many more steps over so many observations are under way; the last loss that is known."""

    def end_epoch(self, row: Mapping[str, int | float]) -> None:
        """The epoch is over; `row` is its row of the history."""


class Run:
    """One call of `fit`, from the first step to the last."""

    def __init__(
        self,
        context: FitContext,
        batches: Iterable[Any],
        objective: Callable[[Any], Objective],
        *,
        callbacks: Callbacks,
        validate: Callable[[], Mapping[str, float]] | None,
        display: Display,
        check: bool = True,
        folder: RunFolder | None = None,
        moment: Moment | None = None,
    ) -> None:
        """`objective` is asked with the first batch; `validate` gives more numbers for the row of the epoch."""
        self.context = context
        self.batches = batches
        self.objective = objective
        self.callbacks = callbacks
        self.validate = validate
        self.display = display
        self.check = check
        context.means = self.means
        self.current: Training | None = None  # that of the epoch under way
        self.running: Running | None = None  # over its steps so far, as far as somebody asked
        self.kept: Training | None = None  # that of the epoch before, where nobody can have changed the model since
        self.folder = folder
        self.moment = moment  # where an exception would leave the run; None without a folder
        self.part = EpochPart() if moment is None else moment.part
        self.epoch_begun = moment is not None and moment.epoch_begun
        self.step_begun = 0 if moment is None else moment.step_begun
        self.data_epoch = None if moment is None else moment.data_epoch
        self.random = None if moment is None or can_seek(batches) else moment.random

    def go(self) -> None:
        """All epochs that are left; after an exception the model is that of the last completed step."""
        context = self.context
        try:
            self.begin()
            while self.part.sizes or (context.epoch < context.epochs and not context.stopping):
                self.epoch()
            self.end()
        except BaseException as error:
            context.error = error
            error.history = context.history  # type: ignore[attr-defined]
            if self.folder is not None:
                self.folder.keep_after(error, context, self.moment)
            self.callbacks.on_exception(context)
            raise

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

    def epoch(self) -> None:
        """The next epoch; or several short ones, where nothing but steps happens to the model in this run."""
        context, batches = self.context, self.batches
        alone = self.validate is None and not self.callbacks.all
        if alone and self.folder is None and in_blocks(batches):
            most = min(epochs_at_once(batches), context.epochs)
            if most > 1:
                self.short_epochs(batches, most)
                return
        context.epoch += 1
        self.display.start_epoch(context.epoch, len(self.part.sizes))
        if not self.epoch_begun:
            self.callbacks.on_epoch_begin(context)
            self.epoch_begun = True
            self.remember(context.epoch - 1)
        means, samples = self.steps(alone)
        self.remember(context.epoch - 1)
        row: dict[str, Any] = {"epoch": context.epoch, **means}
        if self.validate is not None:
            row |= self.validate()
        self.end_epoch(row, self.part.seconds, samples)
        self.between_epochs()
        if self.folder is not None and self.folder.is_due_after(context.epoch, context.step):
            self.keep()

    def short_epochs(self, loader: DataLoader, most: int) -> None:
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
            rows = results[: done * period].reshape(done, period, results.shape[1])
            columns = training.columns(block.batch(0)) if done else ()
            for k, means in enumerate(by_epoch(columns, rows, sizes)):
                context.epoch += 1
                context.opt.step = first_step + (k + 1) * period
                self.display.start_epoch(context.epoch)
                self.display.step(rows[k, -1, 0].item(), loader.count, period)
                self.end_epoch({"epoch": context.epoch, **means}, seconds, sum(sizes))
            context.step = context.opt.step = step
        context.loss = float(results[-1, 0])
        self.kept = training

    def end_epoch(self, row: dict[str, Any], seconds: float, samples: int) -> None:
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
        self.display.end_epoch(context.logs)

    def training(self, batch: Any) -> Training:
        """What takes the steps: that of the epoch before, where the model is as it left it, or a new one."""
        training, self.kept = self.kept, None
        if training is not None:
            training.again()
            return training
        return Training(self.objective(batch), self.context.model, self.context.opt, check=self.check)

    def means(self) -> dict[str, float]:
        """The loss and the named numbers over the steps of this epoch that are known to be complete."""
        training, sizes = self.current, self.part.sizes
        if training is None or not training.results or training.program.columns is None:
            return {}
        if self.running is None:
            self.running = Running(training.program.columns)
            self.running.add(self.earlier, sizes[: len(self.earlier)])
        for rows in training.results[self.running.pieces - 1 :]:
            self.running.add(rows, sizes[self.running.steps :][: len(rows)])
        return self.running.numbers()

    def steps(self, alone: bool) -> tuple[dict[str, float], int]:
        """What is left of a pass over the batches: the means of loss and metrics, and the number of observations.

        `alone` says that nothing but steps happens to the model in this run.
        """
        context, part, before = self.context, self.part, self.part.seconds
        training: Training | None = None
        self.earlier = earlier = part.rows
        self.running, started = None, time.perf_counter()
        every_step = self.callbacks.every_step
        if self.step_begun and self.step_begun == len(part.sizes):
            self.end_step()
        stopped = context.stopping and part.sizes  # before the run was interrupted
        try:
            for piece in () if stopped else (batches_from if every_step else feed)(self.batches, len(part.sizes)):
                batch = piece.data if isinstance(piece, Block) else as_batch(piece)
                if training is None:
                    self.current = training = self.training(batch)
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
                    self.display.step(training.last_loss, sum(new), len(new))
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
            self.current = None
            context.step = context.opt.step
            part.seconds = before + time.perf_counter() - started
            if training is not None:
                part.rows = _joined(earlier, training.values())
            del part.sizes[len(part.rows) :]
        self.kept = training if alone and in_blocks(self.batches) else None
        context.loss = float(part.rows[-1, 0])
        if training is None:  # the run was interrupted after the last step of this epoch
            batches: Any = self.batches
            batch = as_batch(batches.example() if hasattr(batches, "example") else next(iter(batches)))
            columns = self.training(batch).columns(batch)
        else:
            columns = training.columns(batch)
        return by_epoch(columns, part.rows[None], part.sizes)[0], sum(part.sizes)

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


def _joined(earlier: np.ndarray, new: np.ndarray) -> np.ndarray:
    return np.concatenate([earlier, new]) if len(earlier) and len(new) else new if len(new) else earlier


def _learning_rate(opt: Optimizer) -> float | None:
    """The learning rate, where there is one for the whole model."""
    try:
        rate = opt.learning_rate
    except StateError:  # an optax transformation keeps it to itself
        return None
    return rate if isinstance(rate, float) else None
