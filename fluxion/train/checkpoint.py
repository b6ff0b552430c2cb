"""A checkpoint: all that a run needs to go on as if it had never been interrupted, in one safetensors file.

    model/PATH        every array of the model
    optimizer/NUMBER  what the rules remember, in the order of `jax.tree.leaves`
    callbacks/NAME    the arrays of the callbacks
    rows, sizes       of the epoch under way: loss and metrics of each step that is done, and its observations
    history           the finished epochs, as CSV
    description       the rest, as JSON

Nothing is pickled. What a file claims is compared with the model and the optimizer before any array is read, and a
checksum with all that was read before anything is changed.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from fluxion.errors import ArgumentError, FileFormatError, StateError
from fluxion.files import atomic_write
from fluxion.interrupts import uninterrupted
from fluxion.io.tensors import open_tensors, parse_json, write_tensors
from fluxion.optim.optimizer import Snapshot
from fluxion.optim.settings import load_settings, rules_of, settings
from fluxion.train.callbacks import Callback, FitContext
from fluxion.train.history import History
from fluxion.train.throttle import check_count
from fluxion.transform.randomness import stream_state
from fluxion.tree.model import load_state, state
from fluxion.version import __version__

VERSION = 1
LARGEST_DESCRIPTION = 64 * 2**20  # bytes


class Checkpoint(Callback):
    """When `fit(..., run="folder")` writes checkpoints, and how many it keeps.

    Without one, `fit` writes at the end of an epoch, but of short epochs only so often that it takes some 5% of the
    time. It always writes at the end of the run, and after an exception or Ctrl-C, then with the last completed step.
    A run that is killed goes on from the last checkpoint: with the same numbers, whichever that was.

    Arguments:
        every: after each so many steps; the model is brought up to date for it, the steps between are not slowed.
        epochs: after each so many epochs.
        keep: how many checkpoints stay in the folder; older ones are removed once a new one is whole.

    Errors: `ArgumentError` for numbers below 1; from `fit` where there is no `run`, or more than one `Checkpoint`.

    >>> import fluxion as fx
    >>> fx.Checkpoint(every=1000)
    Checkpoint(every=1000)
    """

    def __init__(self, every: int | None = None, *, epochs: int | None = None, keep: int = 2) -> None:
        self.every = None if every is None else check_count("Checkpoint", "every", every)
        self.epochs = None if epochs is None else check_count("Checkpoint", "epochs", epochs)
        self.keep = check_count("Checkpoint", "keep", keep)

    def __repr__(self) -> str:
        given = [f"every={self.every}"] if self.every else []
        given += [f"epochs={self.epochs}"] if self.epochs else []
        given += [f"keep={self.keep}"] if self.keep != 2 else []
        return f"Checkpoint({', '.join(given)})"


@dataclass
class EpochPart:
    """What is done of the epoch under way."""

    rows: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))  # `[loss, applied, ...]` of each step
    sizes: list[int] = field(default_factory=list)  # the observations of each
    seconds: float = 0.0


class Moment(NamedTuple):
    """Where a run stands between two steps, beside the arrays of its model and optimizer."""

    finished: int  # epochs
    part: EpochPart
    epoch_begun: bool  # whether the callbacks have seen the beginning of the epoch under way
    step_begun: int  # the step of the epoch, from 1, whose beginning but not whose end the callbacks have seen; or 0
    data_epoch: int | None  # of the loader, for the epoch under way
    callbacks: Mapping[str, Any]
    arrays: Mapping[str, Any]  # of the callbacks
    settings: Mapping[str, Any]  # of the optimizer
    stopping: bool
    stop_reason: str
    random: list[int] | None  # the default stream; at the epoch's beginning, where its batches would be read again

    @staticmethod
    def of(context: FitContext, callbacks: Callback, part: EpochPart, **rest: Any) -> Moment:
        """The present moment."""
        return Moment(
            part=part,
            callbacks=callbacks.state(),
            arrays=callbacks.arrays(),
            settings=settings(context.opt),
            stopping=context.stopping,
            stop_reason=context.stop_reason,
            **rest,
        )


def write_checkpoint(path: str | os.PathLike[str], context: FitContext, moment: Moment, more: dict[str, Any]) -> None:
    """Write the run as it is at `moment`, wholly or not at all; `more` is what else is to be found in the description.

    Errors: `ArgumentError` for a callback whose `state` is no JSON; `OSError` from the disk.
    """
    opt, part = context.opt, moment.part
    description = {
        **more,
        "version": VERSION,
        "fluxion": __version__,
        "step": opt.step,
        "step_seed": opt.seed,
        "rules": rules_of(opt),
        "settings": moment.settings,
        "finished": moment.finished,
        "seconds": part.seconds,
        "epoch_begun": moment.epoch_begun,
        "step_begun": moment.step_begun,
        "data_epoch": moment.data_epoch,
        "stopping": moment.stopping,
        "stop_reason": moment.stop_reason,
        "random": moment.random or stream_state(),
        "loss": context.loss,
        "callbacks": moment.callbacks,
    }
    try:
        text = json.dumps(description, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ArgumentError(
            f"checkpoint: expected states of callbacks that fit JSON, and finite numbers in them, but {error}. "
            "Return plain values from state, and arrays from arrays."
        ) from error
    history = History(context.history.rows[: moment.finished]).csv_text()
    arrays: dict[str, Any] = {f"model/{name}": array for name, array in state(context.model).items()}
    arrays |= {f"optimizer/{i}": leaf for i, leaf in enumerate(jax.tree.leaves(opt.state))}
    arrays |= {f"callbacks/{name}": array for name, array in moment.arrays.items()}
    arrays = {name: _plain(array) for name, array in arrays.items()}
    arrays |= {"rows": part.rows, "sizes": np.array(part.sizes, np.int64)}
    arrays |= {"history": _bytes_of(history), "description": _bytes_of(text)}
    metadata = {"fluxion": "checkpoint", "crc32": f"{_checksum(arrays):08x}"}
    atomic_write(path, lambda file: write_tensors(file, arrays, metadata))


class Saved:
    """A checkpoint in a file: its description, read and checked; `load` takes the rest.

    Errors: `FileFormatError` for anything but a whole checkpoint.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        with open_tensors(path) as (arrays, self.metadata):
            self.description = self._described(arrays)
            self.batches = arrays["sizes"].shape[0]  # of an epoch under way

    def load(self, context: FitContext, callbacks: Callback) -> Moment:
        """Put everything into the model, the optimizer, the callbacks and the context; returns the moment.

        Errors: `FileFormatError` for a damaged file, `StateError` for one of another model, optimizer or callbacks;
        model and optimizer are then as they were.
        """
        opt, said = context.opt, self.description
        own = {f"model/{name}": leaf for name, leaf in state(context.model).items()}
        leaves = jax.tree.leaves(opt.state)
        own |= {f"optimizer/{i}": leaf for i, leaf in enumerate(leaves)}
        with open_tensors(self.path) as (stored, metadata):
            self._compare({name: _plain(leaf) for name, leaf in own.items()}, stored)
            arrays = {name: np.asarray(array) for name, array in stored.items()}
            if metadata != self.metadata or metadata["crc32"] != f"{_checksum(arrays):08x}":
                self._refuse("its checksum", "another one")
        rows, sizes = arrays["rows"], arrays["sizes"].tolist()
        history = History.from_text(arrays["history"].tobytes(), self.path)
        if len(rows) != len(sizes) or min(sizes, default=1) < 1 or len(history) != said["finished"]:
            self._refuse("one row for each step and each epoch", f"{len(rows)}, {len(sizes)} and {len(history)}")
        try:
            callbacks.load_state(said["callbacks"])
            callbacks.load_arrays(_below("callbacks/", arrays))
        except (LookupError, TypeError) as error:
            raise FileFormatError(
                f"{self.path}: expected states of callbacks as they give them, but one could not load its own "
                f"({type(error).__name__}: {error}). The file is damaged, or the callback was changed."
            ) from error
        saved = [_placed(arrays[f"optimizer/{i}"], leaf) for i, leaf in enumerate(leaves)]
        with uninterrupted():
            load_settings(opt, said["settings"])
            opt.restore(Snapshot(jax.tree.unflatten(jax.tree.structure(opt.state), saved), said["step"]))
            load_settings(opt, said["settings"])  # once more: `restore` has counted anew which arrays go together
            opt.seed = said["step_seed"]
            load_state(
                context.model, {name: _keyed(a, own[f"model/{name}"]) for name, a in _below("model/", arrays).items()}
            )
        context.resumed = True
        context.history, context.epoch, context.step = history, said["finished"], said["step"]
        context.logs = history.last if len(history) else {}
        context.loss = said["loss"]
        context.stopping, context.stop_reason = said["stopping"], said["stop_reason"]
        part = EpochPart(rows, sizes, said["seconds"])
        begun = {name: said[name] for name in ("epoch_begun", "step_begun", "data_epoch", "random")}
        return Moment.of(context, callbacks, part, finished=said["finished"], **begun)

    def _described(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        if self.metadata.get("fluxion") != "checkpoint" or "crc32" not in self.metadata:
            self._refuse("a checkpoint of fx.fit", "another safetensors file")
        types = {"rows": (2, "f"), "sizes": (1, "i"), "history": (1, "u"), "description": (1, "u")}
        for name, (axes, kind) in types.items():
            if name not in arrays or len(arrays[name].shape) != axes or arrays[name].dtype.kind != kind:
                self._refuse(f"an array {name!r} of {axes} axes", "none" if name not in arrays else "another")
        if arrays["rows"].shape[1] < 2 or arrays["description"].shape[0] > LARGEST_DESCRIPTION:
            self._refuse("rows of loss and metrics and a description of 64 MiB at most", "others")
        said = parse_json(self.path, "the description", np.asarray(arrays["description"]).tobytes())
        if not isinstance(said, dict) or said.get("version") != VERSION:
            self._refuse(f"a description of version {VERSION}", f"{said!r:.80}")
        wrong = next((name for name, is_sound in _FIELDS.items() if name not in said or not is_sound(said[name])), None)
        if wrong is not None:
            self._refuse(f"{wrong!r} in the description as fx.fit writes it", f"{said.get(wrong)!r:.80}")
        return said

    def _compare(self, own: Mapping[str, Any], stored: Mapping[str, Any]) -> None:
        """Refuse arrays that are not those of this model and optimizer."""
        wrong = []
        for name in sorted(own.keys() | {n for n in stored if n.startswith(("model/", "optimizer/"))}):
            mine, its = (f"{x[name].dtype}{tuple(x[name].shape)}" if name in x else "missing" for x in (own, stored))
            if mine != its:
                wrong.append(f"{name}: expected {mine}, got {its}")
        if wrong:
            raise StateError(f"{self.path}: the arrays do not fit: {'; '.join(wrong[:4])}.")

    def _refuse(self, expected: str, got: str) -> NoReturn:
        raise FileFormatError(f"{self.path}: expected {expected}, got {got}. The file is damaged.")


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and [type(part) for part in value] == [str, dict]


def _is_or_none(is_sound: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or is_sound(value)


_FIELDS: dict[str, Callable[[Any], bool]] = {
    "fingerprint": lambda x: isinstance(x, dict),
    "seed": _is_count,
    "data_seed": _is_or_none(_is_count),
    "step": lambda x: _is_count(x) and x < 2**31,
    "step_seed": _is_or_none(_is_count),
    "rules": lambda x: isinstance(x, str),
    "settings": lambda x: isinstance(x, dict),
    "finished": _is_count,
    "seconds": lambda x: isinstance(x, float),
    "epoch_begun": lambda x: isinstance(x, bool),
    "step_begun": _is_count,
    "data_epoch": _is_or_none(_is_count),
    "stopping": lambda x: isinstance(x, bool),
    "stop_reason": lambda x: isinstance(x, str),
    "random": _is_or_none(lambda x: isinstance(x, list) and len(x) in (3, 5) and all(map(_is_count, x))),
    "loss": _is_or_none(lambda x: isinstance(x, float)),
    "callbacks": lambda x: (
        isinstance(x, dict) and isinstance(x.get("callbacks"), list) and all(map(_is_pair, x["callbacks"]))
    ),
}


def _below(start: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}


def _is_key(array: Any) -> bool:
    return jnp.issubdtype(array.dtype, jax.dtypes.extended)


def _plain(array: Any) -> Any:
    """The array; of random keys their words."""
    return jax.random.key_data(array) if _is_key(array) else array


def _keyed(array: Any, like: Any) -> Any:
    return jax.random.wrap_key_data(jnp.array(array), impl=jax.random.key_impl(like)) if _is_key(like) else array


def _placed(array: np.ndarray, like: Any) -> Any:
    """A leaf of the optimizer's state, on the device that it has now."""
    placed = jnp.asarray(array)
    return placed if placed.sharding == like.sharding else jax.device_put(placed, like.sharding)


def _bytes_of(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


def _checksum(arrays: Mapping[str, Any]) -> int:
    total = 0
    for name in sorted(arrays):
        values = np.ascontiguousarray(np.asarray(arrays[name]))
        total = zlib.crc32(values.reshape(-1).view(np.uint8).data, zlib.crc32(name.encode(), total))
    return total
