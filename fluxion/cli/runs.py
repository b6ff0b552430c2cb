"""The run folder: what `fluxion train` leaves and `fluxion evaluate` and `fluxion predict` take.

config.json          the settings of the run, for people and scripts
metrics.csv          one line per epoch
model.safetensors    the weights, the architecture and the encoder of the table or the images: all that predicting needs
loss.png, ...        the curves; the confusion matrix, or predictions over truth; of images the worst mistakes
"""

from __future__ import annotations

import itertools
import json
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from fluxion.cli.images import FORMAT as IMAGES
from fluxion.cli.images import ImageEncoder, input_shape
from fluxion.cli.models import ModelSpec, build_model, parse_model
from fluxion.cli.output import clean, warn
from fluxion.errors import DataError, FileFormatError, StateError, nearest
from fluxion.files import atomic_write

if TYPE_CHECKING:
    from fluxion.cli.report import Part, Report
    from fluxion.data.tables import TableEncoder
    from fluxion.train.history import History

CONFIG, METRICS, MODEL = "config.json", "metrics.csv", "model.safetensors"
PICTURES = ("loss.png", "accuracy.png", "mae.png", "confusion.png", "prediction.png", "mistakes.png")
FORMAT, VERSION = "fluxion.run", 1
LARGEST_CONFIG = 1 << 20
MISTAKES = 30


class Run(NamedTuple):
    """A trained model and the encoder of its tables or images."""

    model: Any
    encoder: TableEncoder | ImageEncoder


# ------------------------------------------------------------------------------------------------- writing


def claim(out: Path | None, name: str, overwrite: bool) -> Path:
    """The folder of a new run, made: `out`, or the next free `runs/NAME-1`, `runs/NAME-2`, ..."""
    if out is None:
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:60] or "data"
        for i in itertools.count(1):
            folder = Path("runs", f"{stem}-{i}")
            try:
                folder.mkdir(parents=True)  # of two runs that start at once, one gets it
            except FileExistsError:
                continue
            return folder
    assert out is not None
    check_free(out, overwrite)
    out.mkdir(parents=True, exist_ok=True)
    return out


def check_free(out: Path, overwrite: bool) -> None:
    """A usage error unless a run may be written to `out`."""
    if not out.exists():
        return
    if not out.is_dir():
        raise typer.BadParameter(f"expected a folder, {out} is a file.", param_hint="--out")
    if not any(out.iterdir()):
        return
    if not overwrite:
        raise typer.BadParameter(f"{out} is not empty. Use another folder, or --overwrite.", param_hint="--out")
    if not _is_run(out):  # an innocent folder may have a config.json of its own
        raise typer.BadParameter(f"{out} is not empty and holds no run, so it is not overwritten.", param_hint="--out")


def keep(
    folder: Path, model: Any, encoder: TableEncoder | ImageEncoder, config: dict[str, Any], history: History
) -> None:
    """Write model, configuration and metrics, each in one rename."""
    from fluxion.io.files import save

    text = json.dumps({"format": FORMAT, "version": VERSION, **config}, indent=2, allow_nan=False) + "\n"
    for name in PICTURES:  # those of an older run are not of this model
        (folder / name).unlink(missing_ok=True)
    # Nothing but what the model is: the same seed on the same data is the same file, wherever it lies.
    save(folder / MODEL, model, metadata={"format": FORMAT, "version": VERSION, "encoder": encoder.to_json()})
    atomic_write(folder / CONFIG, lambda file: file.write(text.encode()) and None)
    history.to_csv(folder / METRICS)


def draw(
    folder: Path,
    history: History,
    report: Report | None = None,
    part: Part | None = None,
    encoder: TableEncoder | ImageEncoder | None = None,
) -> None:
    """Write the curves, and pictures of the report: a confusion matrix and mistakes, or predictions over truth."""
    from fluxion.train.plots import plot_confusion, plot_loss, plot_metric, plot_regression

    if len(history):
        plot_loss(history, folder / "loss.png")
        for name in ("accuracy", "mae"):
            if name in history.names:
                plot_metric(history, name, folder / f"{name}.png")
    if report is None:
        return
    if report.confusion is None:
        plot_regression(report.prediction, report.truth, folder / "prediction.png")
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a class in a script that the font does not have
        names = [clean(str(name)) for name in report.classes]
        plot_confusion(report.confusion, names, folder / "confusion.png")
        if isinstance(encoder, ImageEncoder) and part is not None:
            draw_mistakes(report, part, encoder, folder / "mistakes.png")


def draw_mistakes(report: Report, part: Part, encoder: ImageEncoder, path: Path) -> None:
    """Write a picture of the images that the model is most wrongly sure of, if there is one it is wrong about."""
    import numpy as np

    from fluxion.data.previews import draw_images, short
    from fluxion.drawing import write_figure

    assert report.losses is not None
    wrong = np.flatnonzero(report.prediction != report.truth)
    worst = wrong[np.argsort(-report.losses[wrong], kind="stable")][:MISTAKES]
    if len(worst) == 0:
        return
    names = [short(clean(str(name))) for name in report.classes]
    labels = [f"said {names[report.prediction[i]]}\nis {names[report.truth[i]]}" for i in worst]
    note = f"{len(worst)} of {len(wrong):,} images that are taken for something else, the most certain first"
    write_figure(draw_images(encoder.decode(part.inputs[worst]), labels, note), path, "png")


def files(folder: Path) -> list[Path]:
    """The files of a run that are there."""
    return [folder / name for name in (CONFIG, METRICS, MODEL, *PICTURES) if (folder / name).is_file()]


# ------------------------------------------------------------------------------------------------- reading


def open_run(run: str, model: str | None = None) -> Run:
    """The model of a run folder and its encoder; `model` is where `FILE.py:function` is now, if it was moved.

    A model of the library's layers is read from its file alone. For one with parts of the user's own, the Python file
    that the run names is executed, and the weights are put into what its function returns.
    """
    from fluxion.data.tables import TableEncoder
    from fluxion.io.files import load, read_metadata

    folder = Path(run)
    file = folder / MODEL
    if not folder.is_dir():
        hint = nearest(folder.name, [p.name for p in folder.parent.iterdir()]) if folder.parent.is_dir() else ""
        raise DataError(f"{run}: expected a run folder of fluxion train, there is none.{hint}")
    if not file.is_file():
        raise DataError(f"{run}: expected a run folder with {MODEL}, it has none. Was its training interrupted?")
    metadata = read_metadata(file)
    if metadata.get("format") != FORMAT:
        raise FileFormatError(f"{file}: expected a model of fluxion train, it holds no encoder of data.")
    if metadata.get("version") != VERSION:
        raise FileFormatError(
            f"{file}: expected version {VERSION}, got {metadata.get('version')!r:.20}. Update Fluxion."
        )
    document = metadata.get("encoder")
    of_images = isinstance(document, dict) and document.get("format") == IMAGES
    try:
        encoder = (ImageEncoder if of_images else TableEncoder).from_json(document)  # type: ignore[arg-type]
    except FileFormatError as error:
        error.where = str(file)
        raise
    if model is None:
        try:
            return Run(load(file), encoder)
        except StateError:
            spec = _recorded(folder)
            if spec is None:
                raise
    else:
        spec = parse_model(model, None)
    return Run(_loaded(spec, file, encoder), encoder)


def _loaded(spec: ModelSpec, file: Path, encoder: TableEncoder | ImageEncoder) -> Any:
    from fluxion.io.files import loadmodel

    if spec.file is not None:
        warn(f"Executing {spec.file} for the model of its function {spec.function}.")
    return loadmodel(build_model(spec, input_shape(encoder), len(encoder.classes) or 1), file)


def _recorded(folder: Path) -> ModelSpec | None:
    """The Python file that the run's configuration names, or None if it names none."""
    config = _config(folder)
    model = config.get("model")
    if not isinstance(model, dict) or model.get("kind") != "file":
        return None
    function, file = model.get("function"), model.get("file")
    if not (isinstance(file, str) and isinstance(function, str) and function.isidentifier()):
        raise FileFormatError(
            f"{folder / CONFIG}: expected the file and the function of the model, got {model!r:.200}."
        )
    path = Path(file)
    remedy = f"Say where it is: --model FILE.py:{function}."
    # A folder from a stranger must not bring the code along that is executed.
    if not path.is_absolute() or path.suffix != ".py" or folder.resolve() in path.resolve().parents:
        raise FileFormatError(f"{folder / CONFIG}: the model's file {file!r} is not executed unasked. {remedy}")
    if not path.is_file():
        raise DataError(f"{folder}: its model comes from {file}, which is not there any more. {remedy}")
    return ModelSpec("file", file=path, function=function)


def _config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        raise DataError(f"{folder}: expected a run folder with {CONFIG}, it has none.")
    if path.stat().st_size > LARGEST_CONFIG:
        raise FileFormatError(f"{path}: expected at most {LARGEST_CONFIG} bytes, got {path.stat().st_size}.")
    try:
        config = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path}: expected JSON, got an error: {error}.") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise FileFormatError(f"{path}: expected the configuration of a run by fluxion train.")
    return config


def _is_run(folder: Path) -> bool:
    try:
        return bool(_config(folder))
    except DataError:
        return False
