"""`fluxion evaluate`: how good a trained model is on a table."""

from __future__ import annotations

from typing import Annotated

import typer

from fluxion.cli.output import JSON, Debug, failures, only_result, say, write_json

RUN = Annotated[str, typer.Argument(metavar="RUN", help="A run folder of fluxion train.", show_default=False)]
ModelFile = Annotated[
    str | None,
    typer.Option("--model", metavar="FILE.py:function", help="Where the model's own Python file is now, if it moved."),
]


def evaluate(
    run: RUN,
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA", help="A table with the target column, or a built-in set: iris.", show_default=False
        ),
    ],
    model: ModelFile = None,
    json: JSON = False,
    debug: Debug = False,
) -> None:
    """Measure a trained model on a table.

    Prints accuracy, precision and recall of each class and the confusion matrix; of a regression MAE, RMSE and R2.
    """
    with failures(debug), only_result(json) as stream:
        from fluxion.cli.report import measure, show_classes, show_metrics
        from fluxion.cli.runs import open_run
        from fluxion.cli.tables import about, read_source
        from fluxion.errors import DataError

        source = read_source(data)
        trained = open_run(run, model)
        target = trained.encoder.target.name
        with about(data):
            frame = trained.encoder.labeled(source.frame)
        left_out = source.frame.height - frame.height
        if frame.height == 0:
            raise DataError(f"{data}: expected rows with a {target}, all are missing.")
        with about(data):
            report = measure(trained.model, trained.encoder, frame)
        say(f"{run} on {data}: {trained.encoder.task} of {target}")
        if left_out:
            say(f"{left_out:,} rows left out: {target} is missing")
        say()
        show_metrics({source.name: report})
        show_classes(report)
        if json:
            write_json(
                stream,
                {"run": run, "data": data, "task": trained.encoder.task, "target": target, "left_out": left_out}
                | report.to_json(),
            )
