"""`fit`: the loop written out once, with validation, metrics, callbacks, a history and a progress display.

    history = fx.fit(model, (x, y), loss=fx.logitcrossentropy, optimizer=fx.Adam(1e-3), epochs=10,
                     batch_size=64, validation=0.1, metrics=[fx.accuracy])

It takes the same compiled step as `train`, in the same order, and gives the same numbers.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from fluxion.data.loader import DataLoader
from fluxion.data.splits import splitobs
from fluxion.data.streaming import TableStream
from fluxion.errors import ArgumentError, DataError, StateError, user_frames
from fluxion.optim.optimizer import Optimizer, adjust, setup
from fluxion.optim.rules import Adam
from fluxion.train.callbacks import Callback, Callbacks, FitContext
from fluxion.train.evaluate import Metrics, batch_length, evaluate, is_arrays, is_by_prediction, named_metrics
from fluxion.train.history import History
from fluxion.train.progress import Progress
from fluxion.train.step import Objective, Training, as_arguments, as_batch
from fluxion.train.steps import CALL_SECONDS, Block, epochs_at_once, epochs_block, feed, in_blocks
from fluxion.transform.randomness import next_seed
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
        seed: decides the order of the batches, the held-out part, and the random numbers of the steps.
        progress: whether to show a live bar in a terminal or a notebook, or plain lines elsewhere.
        check: whether to check values (finite inputs, labels in range, probabilities where they belong).

    Sizes left out of the model are inferred from the first batch. Errors are those of `train`; after any exception,
    Ctrl-C included, model and optimizer are those of the last completed step, and the exception's attribute
    `history` holds the completed epochs.

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
    seed = next_seed() if seed is None else seed
    batches, held_out = _prepare(data, batch_size, validation, seed)
    _infer_sizes(model, batches)
    opt = optimizer if isinstance(optimizer, Optimizer) else setup(Adam() if optimizer is None else optimizer, model)
    if opt.seed is None:
        opt.seed = seed
    if schedule is not None:
        adjust(opt, schedule)
    followers = Callbacks(callbacks)
    context = FitContext(model=model, opt=opt, epochs=epochs)
    run = _Run(context, followers, loss, named, check)
    try:
        with Progress(epochs, _length(batches), enabled=progress) as display:
            followers.on_fit_begin(context)
            while context.epoch < epochs and not context.stopping:
                run.epochs(batches, held_out, batch_size, display)
            followers.on_fit_end(context)
    except BaseException as error:
        context.error = error
        error.history = context.history  # type: ignore[attr-defined]
        followers.on_exception(context)
        raise
    return context.history


class _Run:
    """What stays the same from epoch to epoch of one `fit`."""

    def __init__(
        self, context: FitContext, callbacks: Callbacks, loss: Callable[..., Any], metrics: dict[str, Any], check: bool
    ) -> None:
        self.context = context
        self.callbacks = callbacks
        self.loss = loss
        self.metrics = metrics
        self.check = check
        self.kept: Training | None = None  # that of the epoch before, where nobody can have changed the model since

    def epochs(self, batches: Iterable[Any], held_out: Any, batch_size: int | None, display: Progress) -> None:
        """The next epoch; or several short ones, where nothing but steps happens to the model in this run."""
        context = self.context
        alone = held_out is None and not self.callbacks.all
        if alone and in_blocks(batches):
            most = min(epochs_at_once(batches), context.epochs)
            if most > 1:
                self.short_epochs(batches, most, display)
                return
        context.epoch += 1
        display.start_epoch(context.epoch)
        self.callbacks.on_epoch_begin(context)
        started = time.perf_counter()
        means, samples = self.steps(batches, display, alone)
        seconds = time.perf_counter() - started
        row: dict[str, Any] = {"epoch": context.epoch, **means}
        if held_out is not None:
            result = evaluate(
                context.model, held_out, loss=self.loss, metrics=self.metrics, batch_size=max(batch_size or 0, 256)
            )
            row |= {f"validation_{name}": value for name, value in result.items()}
        self.end_epoch(row, seconds, samples, display)

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
            for k, means in enumerate(self.means(training, by_epoch, sizes)):
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
        display.end_epoch(context.logs)

    def training(self, batch: Any) -> Training:
        """What takes the steps: that of the epoch before, where the model is as it left it, or a new one."""
        training, self.kept = self.kept, None
        if training is not None:
            training.again()
            return training
        objective = Objective(self.loss, is_by_prediction(self.loss, batch), tuple(self.metrics.values()))
        return Training(objective, self.context.model, self.context.opt, check=self.check)

    def means(self, training: Training, results: np.ndarray, sizes: list[int]) -> list[dict[str, float]]:
        """Loss and metrics of each epoch, from the rows of its steps: an array (epochs, steps, columns)."""
        names = ["loss", *(self.metrics if training.objective.by_prediction else ())]
        chosen = results[:, :, [0, *range(2, results.shape[2])]]
        means = np.average(chosen, axis=1, weights=sizes)
        return [dict(zip(names, row, strict=True)) for row in means.tolist()]

    def steps(self, batches: Iterable[Any], display: Progress, alone: bool) -> tuple[dict[str, float], int]:
        """One pass over the batches: the means of loss and metrics, and the number of observations.

        `alone` says that nothing but steps happens to the model in this run.
        """
        context = self.context
        training: Training | None = None
        sizes: list[int] = []
        try:
            every_step = self.callbacks.every_step
            for piece in batches if every_step else feed(batches):
                batch = piece.data if isinstance(piece, Block) else as_batch(piece)
                if training is None:
                    training = self.training(batch)
                if isinstance(piece, Block):
                    training.steps(piece)
                    new = list(map(piece.rows, range(piece.count)))
                else:
                    (partial(self.observed_step, training) if every_step else training.step)(batch)
                    new = [batch_length(batch)]
                sizes += new
                display.step(training.last_loss, sum(new), len(new))
                if context.stopping:
                    break
            if training is None:
                raise DataError(
                    f"fit: expected at least one batch in epoch {context.epoch}, got none. "
                    "A generator lasts for one epoch; give arrays, a list or a DataLoader."
                )
            training.finish()
            training.sync()
        except BaseException:
            if training is not None:
                training.recover()
            raise
        finally:
            context.step = context.opt.step
        self.kept = training if alone and in_blocks(batches) else None
        results = training.values()
        context.loss = float(results[-1, 0])
        return self.means(training, results[None], sizes)[0], sum(sizes)

    def observed_step(self, training: Training, batch: Any) -> None:
        """A step with callbacks around it, for which the model is brought up to date."""
        self.callbacks.on_step_begin(self.context)
        training.attach()
        training.step(batch)
        training.finish()
        training.sync()
        self.context.step = self.context.opt.step
        self.context.loss = training.last_loss()
        self.callbacks.on_step_end(self.context)


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


def _infer_sizes(model: Any, batches: Iterable[Any]) -> None:
    if first_unsized(scan(model)) is None:
        return
    if isinstance(batches, DataLoader):
        first = batches.example()
    elif isinstance(batches, TableStream):
        first = next(batches.batches(0), None)
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
