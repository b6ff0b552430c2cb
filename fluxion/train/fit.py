"""`fit`: the loop written out once, with validation, metrics, callbacks, a history and a progress display.

    history = fx.fit(model, (x, y), loss=fx.logitcrossentropy, optimizer=fx.Adam(1e-3), epochs=10,
                     batch_size=64, validation=0.1, metrics=[fx.accuracy])

It takes the same compiled step as `train`, in the same order, and gives the same numbers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fluxion.data.loader import DataLoader
from fluxion.data.splits import splitobs
from fluxion.data.streaming import TableStream
from fluxion.errors import ArgumentError, DataError, user_frames
from fluxion.optim.optimizer import Optimizer, adjust, setup
from fluxion.optim.rules import Adam
from fluxion.train.callbacks import Callback, Callbacks, FitContext
from fluxion.train.checkpoint import Checkpoint
from fluxion.train.evaluate import Metrics, evaluate, is_arrays, is_by_prediction, named_metrics
from fluxion.train.history import History
from fluxion.train.progress import Progress
from fluxion.train.run import Run
from fluxion.train.runfolder import RunFolder, check_seed
from fluxion.train.step import Objective, as_arguments, as_batch
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
    run: str | os.PathLike[str] | None = None,
    seed: int | None = None,
    progress: bool = True,
    check: bool = True,
) -> History:
    """Train `model` in place for some epochs and return the `History`, one row per epoch.

    Arguments:
        data: a tuple of arrays (inputs, target), shuffled into batches of `batch_size` (32 by default) in every epoch;
            or a `DataLoader` or another iterable of batches, taken as it is.
        loss: `loss(prediction, target)`, or `loss(model, *batch)` as for `train`. It may return
            `(loss, {"name": number})`: these numbers become columns of the history, as metrics do.
        optimizer: a rule such as `Adam(1e-3)` (the default), or an optimizer from `setup`, which is continued.
        validation: a fraction of the arrays to hold out, or data of its own; evaluated after every epoch.
        metrics: functions of `(prediction, target)`, in a list or a dict by name, that return a number or `fx.Summed`;
            with `loss(model, *batch)` they are computed in validation only.
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

    def objective(batch: Any) -> Objective:
        return Objective(loss, is_by_prediction(loss, batch), tuple(named.items()))

    def validate() -> dict[str, float]:
        size = max(batch_size or 0, 256)
        scores = evaluate(context.model, held_out, loss=loss, metrics=named, batch_size=size)
        return {f"validation_{name}": value for name, value in scores.items()}

    with Progress(epochs, _length(batches), enabled=progress) as display:
        if context.resumed:
            display.say(f"{run}: going on after step {context.step}, {context.epoch} epochs done")
        Run(
            context,
            batches,
            objective,
            callbacks=followers,
            validate=None if held_out is None else validate,
            display=display,
            check=check,
            folder=folder,
            moment=moment,
        ).go()
    return context.history


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


def _length(batches: Iterable[Any]) -> int | None:
    """The number of batches, where it is known."""
    try:
        return len(batches)  # type: ignore[arg-type]
    except TypeError:
        return None
