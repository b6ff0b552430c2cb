"""`fluxion predict`: a CSV file with what a trained model says about each row of a table."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fluxion.cli.evaluate import RUN, ModelFile
from fluxion.cli.output import JSON, Debug, failures, only_result, show, write_json
from fluxion.errors import ArgumentError, DataError

if TYPE_CHECKING:
    import polars

    from fluxion.cli.runs import Run


def predict(
    run: RUN,
    new: Annotated[
        str, typer.Argument(metavar="NEW.csv", help="A table with the columns of training.", show_default=False)
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
    """Predict the target of every row of a table.

    Writes a CSV file with one line per row, in order: the prediction in a column with the target's name, and of a
    classification the probability of each class. The table needs no target column.
    """
    if json and out == "-":
        raise typer.BadParameter("standard output takes the predictions or --json, not both.", param_hint="--out")
    with failures(debug), only_result(json or out == "-") as stream:
        from fluxion.cli.runs import open_run
        from fluxion.cli.tables import about, read_source
        from fluxion.files import atomic_write

        source = read_source(new)
        path = Path(out) if out is not None else Path(new).with_name(f"{source.name}.predictions.csv")
        if out != "-" and path.exists() and Path(new).exists() and path.samefile(new):
            raise typer.BadParameter(f"{path} is the table itself.", param_hint="--out")
        trained = open_run(run, model)
        with about(new):
            result = predictions(trained, source.frame, keep or [])
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


def predictions(run: Run, frame: polars.DataFrame, keep: list[str]) -> polars.DataFrame:
    """The table to write: the columns to keep, the prediction, and the probability of each class."""
    import numpy as np
    import polars as pl

    from fluxion.cli.report import outputs
    from fluxion.data.tablefiles import check_column

    encoder = run.encoder
    for name in keep:
        check_column(frame, name, "--keep")
    columns: list[tuple[str, Any]] = [(name, frame[name]) for name in dict.fromkeys(keep)]
    result = outputs(run.model, encoder, encoder.features(frame))
    decoded = encoder.decode_target(result)
    if not encoder.classes:  # the digits that float32 can tell apart; more would only look precise
        decoded = decoded[:, 0].round(6 - math.floor(math.log10(encoder.target.std)))
    columns.append((encoder.target.name, decoded))
    if encoder.classes:
        scores = np.exp(result.astype(np.float64) - result.max(axis=1, keepdims=True))
        probabilities = (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32)
        columns += [(f"probability_{name}", probabilities[:, i]) for i, name in enumerate(encoder.classes)]
    names = [name for name, _ in columns]
    for i, name in enumerate(names):
        if name in names[:i]:
            if name in keep:
                raise ArgumentError(f"--keep {name}: the predictions have a column of that name.")
            raise DataError(f"the predictions would have two columns {name!r}. Rename the target in training.")
    return pl.DataFrame({name: pl.Series(name, values) for name, values in columns})
