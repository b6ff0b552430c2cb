"""What may happen beside training: at its beginning and end, and at those of every epoch and step.

A callback is an object with any of the seven methods of `Callback`, or a plain function `f(context)` that runs at the
end of each epoch. Both are given the one `FitContext` of the run: they read it, and may call `context.stop(reason)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from fluxion.errors import ArgumentError, StateError
from fluxion.train.history import History, Number


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
        resumed: whether this call of `fit` goes on with an earlier run.
        means: a function that gives the loss and the metrics over the steps of the epoch under way so far.
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
    means: Callable[[], dict[str, float]] = dict
    resumed: bool = False
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
    so that a run can be resumed exactly; arrays go through `arrays` and `load_arrays`. Both return values of their own,
    not such as the callback goes on changing. A resumed run loads the memory first, then calls `on_fit_begin`; where
    it goes on in the middle of an epoch, it does not call `on_epoch_begin` for that one again.

    >>> import fluxion as fx
    >>> class Print(fx.Callback):
    ...     def on_epoch_end(self, context):
    ...         print(f"epoch {context.epoch}: loss {context.logs['loss']}")
    >>> Print().every_step
    False
    """

    def on_fit_begin(self, context: FitContext) -> None:
        """Before the first step; `context.epoch` is 0, or in a run that is `resumed` the number of finished epochs."""

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
