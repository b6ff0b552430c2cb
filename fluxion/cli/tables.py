"""The table of a command: read from DATA, its task recognized, cut into a training and a validation part."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import typer

from fluxion.errors import DataError, FluxionError, nearest

if TYPE_CHECKING:
    import polars

    from fluxion.data.tables import TableEncoder

# The sets that are tables, and what most predict from them.
BUILT_IN = {
    "iris": "species",
    "penguins": "species",
    "titanic": "Survived",
    "boston_housing": "MEDV",
    "auto_mpg": "mpg",
    "airline_passengers": None,
    "sunspots": None,
    "daily_min_temperatures": None,
}


class Source(NamedTuple):
    """What DATA names."""

    name: str  # for the run folder
    path: str
    frame: polars.DataFrame
    target: str | None  # of a built-in set


class Parts(NamedTuple):
    """A table made ready for training; the encoder knows the training part alone."""

    encoder: TableEncoder
    training: polars.DataFrame
    validation: polars.DataFrame | None
    stratified: bool
    notes: list[str]


@contextlib.contextmanager
def about(path: str) -> Iterator[None]:
    """Say of an error of the library inside the block that it is about this table."""
    try:
        yield
    except FluxionError as error:
        error.where = error.where or path
        raise


def chosen_target(source: Source, target: str | None) -> str:
    """The column to predict; a usage error that lists the columns if it is not given or not there."""
    target = source.target if target is None else target
    columns = source.frame.columns
    if target in columns:
        return target
    listed = ", ".join(columns[:40]) + (f", ... ({len(columns)} in all)" if len(columns) > 40 else "")
    if target is None:
        problem = f"say which column of {source.path} to predict"
    else:
        problem = f"{source.path} has no column {target!r}"
    hint = nearest(target, columns) if target else ""
    raise typer.BadParameter(f"{problem}. Its columns: {listed}.{hint}", param_hint="--target")


def divide(
    source: Source,
    target: str,
    *,
    task: str | None,
    validation: float | Source | None,
    stratify: bool | None,
    seed: int,
    standardize: bool = True,
) -> Parts:
    """Recognize the task, hold a part out, and fit the encoder on the rest.

    The whole table decides the task and which columns are no features (names, row numbers); every number that the
    encoder holds comes from the training part.
    """
    import numpy as np

    from fluxion.data.splits import splitobs
    from fluxion.data.tables import TableEncoder

    whole = TableEncoder.fit(source.frame, target, task=task)
    frame = whole.labeled(source.frame).drop(list(whole.dropped))
    classify = whole.task == "classification"
    if stratify and not classify:
        raise typer.BadParameter(f"classes are kept in proportion, {target} is a number.", param_hint="--stratify")
    if stratify and not isinstance(validation, float):
        raise typer.BadParameter("nothing is cut off the table; leave it out.", param_hint="--stratify")
    stratify = classify and stratify is not False and isinstance(validation, float)
    notes: list[str] = []
    if isinstance(validation, float):
        labels = frame[target].to_list()
        kept, held = splitobs(
            np.arange(frame.height), 1 - validation, shuffle=True, stratified=labels if stratify else None, seed=seed
        )
        if classify:  # a class can be learned only where training has it
            seen = {labels[i] for i in kept}
            rare = np.array([labels[i] not in seen for i in held])
            if rare.any():
                names = ", ".join(sorted({str(labels[i]) for i in held[rare]}))
                notes.append(f"too rare to be held out, in the training part alone: {names}")
                kept, held = np.concatenate([kept, held[rare]]), held[~rare]
        if len(held) == 0:
            raise DataError(f"{source.path}: no row is left to hold out for validation. Use --validation 0.")
        training, held_out = frame[kept], frame[held]
    else:
        training, held_out = frame, None
    encoder = TableEncoder.fit(training, target, task=whole.task, standardize=standardize)
    encoder = replace(encoder, dropped={**whole.dropped, **encoder.dropped}, unlabeled=whole.unlabeled)
    if isinstance(validation, Source):
        held_out = encoder.labeled(validation.frame)
        if held_out.height == 0:
            raise DataError(f"{validation.path}: expected rows with a {target}, all are missing.")
    return Parts(encoder, training, held_out, stratify, notes)
