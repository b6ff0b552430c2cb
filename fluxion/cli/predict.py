"""`fluxion predict`: a CSV file with what a trained model says about each row of a table, or each image."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fluxion.cli.evaluate import RUN, ModelFile, data_for
from fluxion.cli.images import ImageEncoder, ImageSource
from fluxion.cli.output import JSON, Debug, failures, only_result, show, write_json
from fluxion.cli.tables import about
from fluxion.errors import ArgumentError, DataError

if TYPE_CHECKING:
    import numpy as np
    import polars

    from fluxion.cli.runs import Run

ENDING = ".predictions.csv"


def predict(
    run: RUN,
    new: Annotated[
        str,
        typer.Argument(
            metavar="NEW",
            help="A table with the columns of training; or an image, a folder of images, a table of pixels.",
            show_default=False,
        ),
    ],
    out: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="The CSV file to write, - for standard output.", show_default="NEW.predictions.csv"
        ),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="A column of the table to copy to the front; may be given several times."),
    ] = None,
    model: ModelFile = None,
    json: JSON = False,
    debug: Debug = False,
) -> None:
    """Predict the target of every row of a table, or the class of every image.

    Writes a CSV file with one line per row or image, in order: the prediction in a column with the target's name, and
    of a classification the probability of each class. Of images, the file or the row, the class and its probability
    come first. The data need no target column or subfolders.
    """
    if json and out == "-":
        raise typer.BadParameter("standard output takes the predictions or --json, not both.", param_hint="--out")
    with failures(debug), only_result(json or out == "-") as stream:
        from fluxion.cli.runs import open_run
        from fluxion.files import atomic_write

        stem = Path(new)
        path = Path(out) if out is not None else stem.with_name(f"{stem.name if stem.is_dir() else stem.stem}{ENDING}")
        if out != "-" and path.exists() and stem.exists() and path.samefile(stem):
            raise typer.BadParameter(f"{path} is the table itself.", param_hint="--out")
        trained = open_run(run, model)
        source = data_for(trained.encoder, new, labeled=False)
        with about(new):
            if isinstance(source, ImageSource):
                result = of_images(trained, source, keep or [])
            else:
                result = of_table(trained, source.frame, keep or [])
        if out == "-":
            stream.write(result.write_csv())
            stream.flush()
            return
        atomic_write(path, result.write_csv)
        show(f"{result.height:,} predictions of {trained.encoder.target.name} are in {shlex.quote(str(path))}")
        if json:
            write_json(
                stream,
                {
                    "run": run,
                    "data": new,
                    "out": str(path),
                    "rows": result.height,
                    "target": trained.encoder.target.name,
                    "columns": result.columns,
                },
            )


def of_table(run: Run, frame: polars.DataFrame, keep: list[str]) -> polars.DataFrame:
    """The table to write: the columns to keep, the prediction, and the probability of each class."""
    from fluxion.cli.report import outputs, probabilities
    from fluxion.data.tablefiles import check_column

    encoder = run.encoder
    assert not isinstance(encoder, ImageEncoder)
    for name in keep:
        check_column(frame, name, "--keep")
    columns: list[tuple[str, Any]] = [(name, frame[name]) for name in dict.fromkeys(keep)]
    result = outputs(run.model, encoder, encoder.features(frame))
    decoded = encoder.decode_target(result)
    if not encoder.classes:  # the digits that float32 can tell apart; more would only look precise
        decoded = decoded[:, 0].round(6 - math.floor(math.log10(encoder.target.std)))
    columns.append((encoder.target.name, decoded))
    if encoder.classes:
        columns += _per_class(encoder.classes, probabilities(result))
    return _table(columns, keep)


def of_images(run: Run, source: ImageSource, keep: list[str]) -> polars.DataFrame:
    """The table to write: the file or the row, the class, its probability, and that of each class."""
    import numpy as np

    from fluxion.cli.prepare import check_shape
    from fluxion.cli.report import outputs, probabilities

    encoder = run.encoder
    assert isinstance(encoder, ImageEncoder)
    if keep:
        raise ArgumentError(f"--keep {keep[0]}: images have no columns to keep.")
    check_shape(source, encoder.shape)
    likely = probabilities(outputs(run.model, encoder, encoder.encode(source.data.images, in_place=True)))
    best = likely.argmax(axis=1)
    columns: list[tuple[str, Any]] = [
        ("row", np.arange(len(best))) if source.names is None else ("file", list(source.names)),
        (encoder.target.name, np.array(encoder.classes)[best]),
        ("probability", likely.max(axis=1).astype(np.float32)),
        *_per_class(encoder.classes, likely),
    ]
    return _table(columns, keep)


def _per_class(classes: Sequence[Any], likely: np.ndarray) -> list[tuple[str, Any]]:
    return [(f"probability_{name}", likely[:, i].astype("float32")) for i, name in enumerate(classes)]


def _table(columns: list[tuple[str, Any]], keep: list[str]) -> polars.DataFrame:
    import polars as pl

    names = [name for name, _ in columns]
    for i, name in enumerate(names):
        if name in names[:i]:
            if name in keep:
                raise ArgumentError(f"--keep {name}: the predictions have a column of that name.")
            raise DataError(f"the predictions would have two columns {name!r}. Rename the target in training.")
    return pl.DataFrame({name: pl.Series(name, values) for name, values in columns})
