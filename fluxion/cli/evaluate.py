"""`fluxion evaluate`: how good a trained model is on other data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fluxion.cli.images import ImageEncoder, ImageSource
from fluxion.cli.output import JSON, Debug, failures, only_result, say, write_json
from fluxion.cli.sources import ImageOptions, read_source
from fluxion.cli.tables import Source, about
from fluxion.errors import DataError

if TYPE_CHECKING:
    from fluxion.data.tables import TableEncoder

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
            metavar="DATA",
            help="A table with the target column, a folder of images by class, or a data set, of which the test part.",
            show_default=False,
        ),
    ],
    model: ModelFile = None,
    json: JSON = False,
    debug: Debug = False,
) -> None:
    """Measure a trained model on a table or on images.

    Prints accuracy, precision and recall of each class and the confusion matrix; of a regression MAE, RMSE and R2.
    """
    with failures(debug), only_result(json) as stream:
        from fluxion.cli.prepare import labeled_part
        from fluxion.cli.report import measure, show_classes, show_metrics
        from fluxion.cli.runs import open_run

        trained = open_run(run, model)
        encoder = trained.encoder
        target = encoder.target.name
        source = data_for(encoder, data, labeled=True)
        part, left_out = labeled_part(encoder, source)
        with about(data):
            report = measure(trained.model, encoder, part)
        say(f"{run} on {data}: {encoder.task} of {target}")
        if isinstance(source, ImageSource):
            for note in source.notes:
                say(note)
        if left_out:
            say(f"{left_out:,} rows left out: {target} is missing")
        say()
        show_metrics({source.name: report})
        show_classes(report)
        if json:
            write_json(
                stream,
                {"run": run, "data": data, "task": encoder.task, "target": target, "left_out": left_out}
                | report.to_json(),
            )


def data_for(encoder: TableEncoder | ImageEncoder, data: str, *, labeled: bool) -> Source | ImageSource:
    """What `data` names, read as the data were that the encoder was fitted on."""
    if isinstance(encoder, ImageEncoder):
        height, width, channels = encoder.shape
        options = ImageOptions((height, width), channels, encoder.shape)
    else:
        options = ImageOptions(table=True)
    source = read_source(data, options, target=encoder.target.name, split="test", labeled=labeled)
    if isinstance(encoder, ImageEncoder) != isinstance(source, ImageSource):
        wanted, got = ("images", "a table") if isinstance(encoder, ImageEncoder) else ("a table", "images")
        raise DataError(f"{data}: expected {wanted}, as in training, got {got}.")
    return source
