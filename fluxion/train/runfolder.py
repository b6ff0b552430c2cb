"""The folder of a run, `fit(..., run="runs/a")`: what lies in it, when it is written, and whose it is.

config.json          what is trained, for people and scripts
metrics.csv          the history, a row per epoch
checkpoints/         step-000001000.safetensors, ...; see `checkpoint.py`
model.safetensors    the model, once the run is complete
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fluxion.errors import ArgumentError, FileFormatError, StateError
from fluxion.files import atomic_write
from fluxion.interrupts import uninterrupted
from fluxion.io.files import save
from fluxion.optim.settings import rules_of
from fluxion.train.callbacks import Callback, FitContext
from fluxion.train.checkpoint import Checkpoint, Moment, Saved, write_checkpoint
from fluxion.train.followers import CSVLogger
from fluxion.train.steps import can_seek
from fluxion.tree.model import trainables
from fluxion.version import __version__

FORMAT = "fluxion.fit"
LARGEST_CONFIG = 2**26  # bytes
SHARE = 20  # without a Checkpoint, the time between two is at least so many times that of writing one

_CHECKPOINT = re.compile(r"step-([0-9]{9,12})\.safetensors")
_UNFINISHED = re.compile(r"\.[0-9a-f]{16}\.tmp")  # what a killed `atomic_write` leaves


class RunFolder:
    """One run on the disk.

    Errors: `ArgumentError` where `path` holds something else.
    """

    def __init__(self, path: str | os.PathLike[str], checkpoint: Checkpoint | None) -> None:
        self.path = Path(path)
        self.checkpoint = checkpoint or Checkpoint()
        self.adapts = self.checkpoint.every is None and self.checkpoint.epochs is None
        self.log = CSVLogger(self.path / "metrics.csv")
        self.description: dict[str, Any] = {}  # of the run, for its checkpoints
        self.written: tuple[int, ...] = ()  # the place of the newest checkpoint
        self.failed = False  # whether the last one could not be written
        self.ready_at = 0.0  # when another one is worth its time
        self._check_own()

    def saved(self) -> Saved | None:
        """The newest checkpoint, if there is one."""
        paths = self._checkpoints()
        if not paths:
            return None
        with self._offering():
            return Saved(paths[-1])

    def begin(
        self,
        context: FitContext,
        callbacks: Callback,
        data: Any,
        saved: Saved | None,
        seed: int,
        metrics: Iterable[str],
    ) -> Moment | None:
        """Go on with what was saved, if anything, and make the folder ready; returns where the run stands."""
        fingerprint = _fingerprint(context, data, metrics)
        moment = None
        if saved is not None:
            self._compare(fingerprint, saved)
            begun = saved.description["finished"] + (saved.batches > 0)
            if begun > context.epochs:
                raise ArgumentError(
                    f"fit: expected epochs={begun} or more, for the run in {self.path} is there already, got "
                    f"{context.epochs}."
                )
            fingerprint = saved.description["fingerprint"]
            with self._offering():
                moment = saved.load(context, callbacks)
            if can_seek(data) and moment.data_epoch is not None:
                data.epoch = moment.data_epoch
                if saved.description["data_seed"] is not None:  # drawn anew where the loader was given none
                    data.seed = saved.description["data_seed"]
        self.written = _place(context, moment)
        self.description = {"fingerprint": fingerprint, "seed": seed, "data_seed": _number(data, "seed")}
        config = {
            "format": FORMAT,
            "fluxion": __version__,
            "epochs": context.epochs,
            "seed": seed,
            **fingerprint,
        }
        text = json.dumps(config, indent=2) + "\n"
        self.path.mkdir(parents=True, exist_ok=True)
        for folder in (self.path, self.path / "checkpoints"):
            folder.mkdir(exist_ok=True)
            for name in filter(_UNFINISHED.fullmatch, os.listdir(folder)):
                (folder / name).unlink(missing_ok=True)
        atomic_write(self.path / "config.json", lambda file: file.write(text.encode()))
        return moment

    # ------------------------------------------------------------------------------------------------ when

    def steps_left(self, step: int) -> int | None:
        """After how many more steps a checkpoint is due within an epoch; None for never."""
        every = self.checkpoint.every
        return None if every is None else every - step % every

    def is_due(self, step: int) -> bool:
        """Whether one is due after this step."""
        every = self.checkpoint.every
        return every is not None and step > 0 and step % every == 0

    def is_due_after(self, epoch: int, step: int) -> bool:
        """Whether one is due after this epoch."""
        if self.adapts:
            return time.monotonic() >= self.ready_at
        return self.is_due(step) or (self.checkpoint.epochs is not None and epoch % self.checkpoint.epochs == 0)

    # ------------------------------------------------------------------------------------------------ writing

    def keep(self, context: FitContext, moment: Moment) -> None:
        """Write a checkpoint, unless there is one of this very place, and remove those that are too many.

        Errors: `OSError`, of the kind that the disk gave; the checkpoints that were there still are.
        """
        place = _place(context, moment)
        if place == self.written:
            return
        path = self.path / "checkpoints" / f"step-{context.opt.step:09}.safetensors"
        started = time.monotonic()
        self.failed = True
        try:
            write_checkpoint(path, context, moment, self.description)
        except OSError as error:
            older = self._checkpoints()
            there = f"{older[-1].name}, the one before, is whole" if older else "there is none yet"
            raise type(error)(
                error.errno,
                f"{error.strerror or error}; the checkpoint of step {context.opt.step} was not written, and {there}; "
                "the model in memory is that of this step",
                str(path),
            ) from error
        self.failed = False
        self.written = place
        for old in self._checkpoints()[: -self.checkpoint.keep]:
            old.unlink(missing_ok=True)
        now = time.monotonic()
        self.ready_at = now + SHARE * (now - started)

    def keep_after(self, error: BaseException, context: FitContext, moment: Moment | None) -> None:
        """Write the last completed step after an exception; that this fails too is a note to `error`."""
        if self.failed or moment is None:
            return
        with uninterrupted():
            try:
                self.keep(context, moment)
            except Exception as another:
                error.add_note(f"fluxion: no checkpoint of the last step: {another}")

    def complete(self, context: FitContext) -> None:
        """Write the model that `fit` leaves."""
        save(self.path / "model.safetensors", context.model, metadata={"epochs": context.epoch, "steps": context.step})

    # ------------------------------------------------------------------------------------------------ whose it is

    def _checkpoints(self) -> list[Path]:
        """The checkpoints, the oldest first."""
        folder = self.path / "checkpoints"
        found = {
            int(match[1]): folder / match[0]
            for match in map(_CHECKPOINT.fullmatch, os.listdir(folder) if folder.is_dir() else [])
            if match
        }
        return [found[step] for step in sorted(found)]

    @contextlib.contextmanager
    def _offering(self) -> Iterator[None]:
        """Say what to do about a damaged checkpoint."""
        try:
            yield
        except FileFormatError as error:
            older = self._checkpoints()[:-1]
            there = f"to go on from the one before, {older[-1].name}" if older else "to begin anew; there is no other"
            error.reason += f" Remove it {there}."
            raise

    def _check_own(self) -> None:
        """Nothing but a new folder, an empty one, or one that `fit` has made is written to."""
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise ArgumentError(f"fit: expected run as the path of a folder, but {self.path} is a file.")
        if not any(not _UNFINISHED.fullmatch(name) for name in os.listdir(self.path)):
            return
        path = self.path / "config.json"
        config: Any = None
        if path.is_file() and path.stat().st_size <= LARGEST_CONFIG:
            with contextlib.suppress(ValueError, RecursionError):
                config = json.loads(path.read_bytes())
        if not isinstance(config, dict) or config.get("format") != FORMAT:
            raise ArgumentError(
                f"fit: expected run as a new folder, an empty one, or one of an earlier fit, but {self.path} holds "
                "something else. Give another folder."
            )

    def _compare(self, now: dict[str, Any], saved: Saved) -> None:
        """Refuse to go on with the run of another model, optimizer or data, and say what differs."""
        before = saved.description["fingerprint"]
        # An optimizer that this run has changed by `adjust` is its own.
        own_rules = now["optimizer"] in (before.get("optimizer"), saved.description["rules"])
        differing = [
            difference
            for name in [*now, *(name for name in before if name not in now)]
            if not (name == "optimizer" and own_rules)
            for difference in _differences(name, before.get(name), now.get(name))
        ]
        if differing:
            raise StateError(
                f"fit: {self.path} holds a run of something else: {'; '.join(differing[:6])}. "
                "Give another folder as run=, or remove this one to begin anew."
            )


def check_seed(saved: Saved | None, seed: int | None, path: object) -> int | None:
    """The seed of the run that is to go on; another one may not be asked for."""
    if saved is None:
        return seed
    if seed is not None and seed != saved.description["seed"]:
        raise StateError(
            f"fit: {path} holds a run of something else: seed was {saved.description['seed']} and is {seed}. "
            "Give another folder as run=, or remove this one to begin anew."
        )
    return saved.description["seed"]


def _place(context: FitContext, moment: Moment | None) -> tuple[int, ...]:
    return (context.opt.step, *((moment.finished, len(moment.part.sizes)) if moment else (0, 0)))


def _fingerprint(context: FitContext, data: Any, metrics: Iterable[str]) -> dict[str, Any]:
    """What must be the same for a run to go on; JSON."""
    return {
        "parameters": {path: f"{x.dtype}{tuple(x.shape)}" for path, x in trainables(context.model, path=True)},
        "model": _without_addresses(repr(context.model)),
        "optimizer": _without_addresses(rules_of(context.opt)),
        "data": type(data).__name__,
        "observations": _number(data, "count"),
        "batches": len(data) if hasattr(data, "__len__") else None,
        "batch_size": _number(data, "batch_size"),
        "shuffle": _number(data, "shuffle"),
        "metrics": list(metrics),
    }


def _number(data: Any, name: str) -> int | None:
    """What a loader calls so; another iterable may have anything under that name."""
    value = getattr(data, name, None)
    return value if isinstance(value, int) else None


def _differences(name: str, before: Any, now: Any) -> list[str]:
    if before == now:
        return []
    if name != "parameters" or not isinstance(before, dict):
        return [f"{name} was {_short(before)} and is {_short(now)}"]
    return [
        f"{path} was {_short(before.get(path, 'not there'))} and is {_short(now.get(path, 'not there'))}"
        for path in {**before, **now}
        if before.get(path) != now.get(path)
    ]


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 200 else text[:197] + "..."


def _without_addresses(text: str) -> str:
    """A printed object without where it lies in memory, which every process has elsewhere."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)
