"""`fluxion train`: a table or images in, a run folder out."""

from __future__ import annotations

import contextlib
import logging
import math
import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fluxion.cli import runs
from fluxion.cli.augment import changed, known_changes, parse_changes
from fluxion.cli.images import ImageEncoder, ImageSource, input_shape
from fluxion.cli.models import HIDDEN, KINDS, ModelSpec, build_model, check_model, parse_model
from fluxion.cli.output import JSON, CtrlC, Debug, failures, only_result, say, show, warn, write_json
from fluxion.cli.prepare import SHARE, SHARE_WITH_TEST, Prepared, prepare_images, prepare_table
from fluxion.cli.sources import ImageOptions, Pixels, read_source
from fluxion.cli.tables import Source, chosen_target
from fluxion.errors import nearest
from fluxion.interrupts import uninterrupted

if TYPE_CHECKING:
    from fluxion.cli.report import Report
    from fluxion.data.tables import TableEncoder
    from fluxion.optim import Optimizer, Rule
    from fluxion.train.callbacks import FitContext
    from fluxion.train.history import History

RULES = [
    *("Descent", "Momentum", "Nesterov", "RMSProp", "Adam", "RAdam", "AdaMax", "OAdam"),
    *("AdaGrad", "AdaDelta", "AMSGrad", "NAdam", "AdamW", "AdaBelief", "Lion", "Rprop"),
]
EPOCHS, EPOCHS_OF_IMAGES = 100, 10
BATCH, BATCH_OF_MANY, MANY_IMAGES = 32, 128, 10_000
FEW_STEPS = 200
KEEP_EVERY = 60.0  # seconds of training after which the run folder is brought up to date


@dataclass(frozen=True)
class Options:
    """The command line, checked."""

    source: Source | ImageSource
    target: str | None
    task: str | None
    model: ModelSpec
    epochs: int
    batch_size: int | None
    rule: Rule
    validation: float | Source | ImageSource | None
    stratify: bool | None
    standardize: bool
    augment: tuple[str, ...]
    seed: int
    out: Path | None
    overwrite: bool


def train(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="A CSV, TSV or Parquet file, a folder with a subfolder of images for each class, or a data set: "
            "iris, mnist, fashion_mnist, cifar10, ...",
            show_default=False,
        ),
    ],
    target: Annotated[str | None, typer.Option(metavar="COLUMN", help="The column to predict.")] = None,
    task: Annotated[
        str | None, typer.Option(metavar="TASK", help="classification or regression; the target decides if not given.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="|".join((*KINDS, "FILE.py:function")),
            help="The model; function(inputs, outputs) of your file, which is executed, returns one.",
            show_default="mlp, of images cnn",
        ),
    ] = None,
    hidden: Annotated[
        str | None,
        typer.Option(
            metavar="SIZES", help="Sizes of the hidden layers of the mlp.", show_default=",".join(map(str, HIDDEN))
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1, help="Passes over the training part.", show_default=f"{EPOCHS}, of images {EPOCHS_OF_IMAGES}"
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Rows in a step.", show_default="32, of 10,000 images and more 128")
    ] = None,
    optimizer: Annotated[str, typer.Option(metavar="NAME", help=f"One of {', '.join(RULES).lower()}.")] = "adam",
    learning_rate: Annotated[float | None, typer.Option(help="The optimizer's own default if not given.")] = None,
    validation: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE|DATA",
            help="The share held out, 0 for none; or data of its own.",
            show_default=f"{SHARE}; {SHARE_WITH_TEST} where a test part is there too",
        ),
    ] = None,
    stratify: Annotated[
        bool | None,
        typer.Option("--stratify/--no-stratify", help="Hold out every class in proportion; done in a classification."),
    ] = None,
    standardize: Annotated[
        bool,
        typer.Option("--standardize/--no-standardize", help="Bring numbers and pixels to mean 0 and deviation 1."),
    ] = True,
    augment: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help=f"Random changes of training images, such as crop,flip: {known_changes()}."),
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="HxW", help="Height and width to bring the images of a folder to.")
    ] = None,
    channels: Annotated[int | None, typer.Option(metavar="1|3", help="Images of a folder gray or in color.")] = None,
    images: Pixels = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**31 - 1, help="The same seed gives the same model, to the bit.")
    ] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The run folder.", show_default="runs/NAME-1, runs/NAME-2, ...")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in an existing --out.")] = False,
    json: JSON = False,
    debug: Debug = False,
) -> None:
    """Train a model on a table or on images, and keep it in a run folder.

    The target column decides between classification and regression. Text is encoded, missing values are filled in,
    numbers standardized, by what the training part holds; all of that is kept with the model. So are the size of
    images and the mean and deviation of their channels. A table with a column of labels and one for each pixel (MNIST
    as CSV) is read as images.

    The models: linear is one dense layer. mlp has hidden layers before it, of 64 and 32. fcn has 512 and 256, with
    dropout of 0.2 after each. cnn has 3x3 convolutions of 32, 64, 128, ... channels, each with a 2x2 pool, until the
    image is smaller than 8x8, and a dense layer of 128. lenet is LeNet-5 with relu and max pools.

    Ctrl-C ends training and keeps what was learned.
    """
    with failures(debug), only_result(json) as stream:
        # Everything that needs no data is checked first.
        given = None if model is None else parse_model(model, hidden)
        rule = _rule(optimizer, learning_rate)
        kind = _task(task)
        share = None if validation is None else _share(validation)
        about_images = ImageOptions.parse(size, channels, images)
        changes = parse_changes(augment)
        if out is not None:
            runs.check_free(out, overwrite)
        source = read_source(data, about_images, target=target)
        pictures = isinstance(source, ImageSource)
        _check_use(source, task=task, augment=augment, size=size, channels=channels)
        held: float | Source | ImageSource | None = share or None
        if validation is None:
            held = SHARE_WITH_TEST if isinstance(source, ImageSource) and source.test is not None else SHARE
        elif share is None:
            held = _validation(validation, source, about_images)
        options = Options(
            source=source,
            target=None if isinstance(source, ImageSource) else chosen_target(source, target),
            task=kind,
            model=given or parse_model("cnn" if pictures and hidden is None else "mlp", hidden),
            epochs=epochs or (EPOCHS_OF_IMAGES if pictures else EPOCHS),
            batch_size=batch_size,
            rule=rule,
            validation=held,
            stratify=stratify,
            standardize=standardize,
            augment=changes,
            seed=seed,
            out=out,
            overwrite=overwrite,
        )
        result = _train(options)
        if json:
            write_json(stream, result)


def _prepare(options: Options) -> Prepared:
    how: dict[str, Any] = {
        "validation": options.validation,
        "stratify": options.stratify,
        "standardize": options.standardize,
        "seed": options.seed,
    }
    if isinstance(options.source, ImageSource):
        return prepare_images(options.source, **how)
    assert options.target is not None
    return prepare_table(options.source, options.target, task=options.task, **how)


def _train(options: Options) -> dict[str, Any]:
    """Train, write the run folder, tell about it; returns the results for `--json`."""
    import fluxion as fx
    from fluxion.cli.report import measure
    from fluxion.train.history import History

    # The last batch of an epoch is shorter, which compiles a second program; that is no news to a user of the command.
    logging.getLogger("fluxion").setLevel(logging.ERROR)
    source = options.source
    data = _prepare(options)
    encoder = data.encoder
    shape, classes = input_shape(encoder), len(encoder.classes) or 1
    check_model(options.model, shape)
    first, second, *others = data.lines
    say(first)
    say(second)
    for line in others:
        say(line, indent=2)

    fx.seed(options.seed)
    if options.model.file is not None:
        say(f"Executing {options.model.file} for the model of its function {options.model.function}.")
    model = build_model(options.model, shape, classes)
    opt = fx.setup(options.rule, model)
    count = len(data.training.targets)
    batch_size = options.batch_size or (BATCH_OF_MANY if len(shape) > 1 and count >= MANY_IMAGES else BATCH)
    parameters = sum(array.size for array in fx.trainables(model))
    say(f"Model: {model!r}, {parameters:,} parameters" if options.model.file is None else f"{parameters:,} parameters")
    changes = f", images changed by {' and '.join(options.augment)}" if options.augment else ""
    say(f"Training: {options.rule!r}, {options.epochs} epochs, batches of {batch_size}, seed {options.seed}{changes}")
    steps = options.epochs * -(-count // batch_size)
    if len(shape) > 1 and steps < FEW_STEPS:
        say(f"That is {steps} steps, which are few: take more --epochs or a smaller --batch-size if it learns little.")
    say()

    folder = runs.claim(options.out, source.name, options.overwrite)
    config = _config(options, data, parameters, batch_size)
    std = encoder.target.std
    metrics = {"accuracy": fx.accuracy} if encoder.classes else {"mae": lambda p, t: fx.mae(p, t) * std}
    batches = fx.DataLoader(
        (data.training.inputs, data.training.targets),
        batch_size=batch_size,
        shuffle=True,
        seed=options.seed,
        **changed(options.augment, encoder),
    )
    held_out = None if data.validation is None else (data.validation.inputs, data.validation.targets)
    started = time.perf_counter()
    with CtrlC() as ctrl_c:
        keeper = _Keeper(folder, config, encoder, ctrl_c)
        try:
            history = fx.fit(
                model,
                batches,
                loss=fx.logitcrossentropy if encoder.classes else fx.mse,
                optimizer=opt,
                epochs=options.epochs,
                validation=held_out,
                metrics=metrics,
                callbacks=[keeper.epoch],
                seed=options.seed,
            )
        except BaseException as error:
            _keep_unfinished(keeper, model, opt, getattr(error, "history", History()), error)
            raise
    seconds = time.perf_counter() - started
    with uninterrupted():
        keeper.keep(model, opt, history, complete=True)

    parts = {"training": data.training, "validation": data.validation, "test": data.test}
    there = {name: part for name, part in parts.items() if part is not None}
    reports = {name: measure(model, encoder, part) for name, part in there.items()}
    last = list(reports)[-1]
    runs.draw(folder, history, reports[last], there[last], encoder)
    new, labeled = ("NEW.png", "FOLDER") if len(shape) > 1 else ("NEW.csv", "LABELED.csv")
    commands = [["fluxion", "predict", str(folder), new], ["fluxion", "evaluate", str(folder), labeled]]
    _tell_results(folder, reports, seconds, commands)
    return {
        "run": str(folder),
        "files": {path.name: str(path) for path in runs.files(folder)},
        "task": encoder.task,
        "target": encoder.target.name,
        "epochs": len(history),
        "steps": opt.step,
        "parameters": parameters,
        "seconds": seconds,
        **{name: report.to_json() for name, report in reports.items()},
        "predict": shlex.join(commands[0]),
    }


class _Keeper:
    """Writes the run folder: at the end, and in a long training now and then, so that a crash costs little."""

    def __init__(
        self, folder: Path, config: dict[str, Any], encoder: TableEncoder | ImageEncoder, ctrl_c: CtrlC
    ) -> None:
        self.folder = folder
        self.config = config
        self.encoder = encoder
        self.ctrl_c = ctrl_c
        self.last = time.monotonic()

    def epoch(self, context: FitContext) -> None:
        self.ctrl_c.check()
        if time.monotonic() - self.last >= KEEP_EVERY and context.epoch < context.epochs:
            self.keep(context.model, context.opt, context.history, complete=False)

    def keep(self, model: Any, opt: Optimizer, history: History, complete: bool) -> None:
        trained = {"epochs": len(history), "steps": opt.step, "complete": complete}
        runs.keep(self.folder, model, self.encoder, {**self.config, "trained": trained}, history)
        self.last = time.monotonic()


def _keep_unfinished(keeper: _Keeper, model: Any, opt: Optimizer, history: History, error: BaseException) -> None:
    """After Ctrl-C or an error: keep the model of the last completed step, or leave no folder behind."""
    folder, pressed = keeper.folder, isinstance(error, KeyboardInterrupt)
    began = "Interrupted" if pressed else "Training stopped"
    with uninterrupted():
        if opt.step == 0:
            with contextlib.suppress(OSError):
                folder.rmdir()  # only if it is empty
            kept = "before the first step was done: nothing was learned, and nothing is kept."
        else:
            keeper.keep(model, opt, history, complete=False)
            kept = f"in epoch {len(history) + 1}: {folder} keeps the model of step {opt.step}, the last completed one."
        if pressed or opt.step:
            warn(f"{began} {kept}")
        if opt.step:
            runs.draw(folder, history)
    if pressed:
        raise typer.Exit(130)


# ----------------------------------------------------------------------------------------- the command line


def _rule(name: str, learning_rate: float | None) -> Rule:
    from fluxion import optim

    by_name = {rule.lower(): rule for rule in RULES}
    if name.lower() not in by_name:
        hint = " Did you mean 'descent'?" if name.lower() == "sgd" else nearest(name.lower(), by_name)
        raise typer.BadParameter(f"expected one of {', '.join(by_name)}, got {name!r}.{hint}", param_hint="--optimizer")
    rule: type[Rule] = getattr(optim, by_name[name.lower()])
    if learning_rate is None:
        return rule()
    if not (0 < learning_rate < math.inf):
        raise typer.BadParameter(f"expected a number above 0, got {learning_rate}.", param_hint="--learning-rate")
    return rule(learning_rate)  # type: ignore[call-arg]


def _task(task: str | None) -> str | None:
    tasks = ("classification", "regression")
    if task is not None and task not in tasks:
        raise typer.BadParameter(
            f"expected classification or regression, got {task!r}.{nearest(task, tasks)}", param_hint="--task"
        )
    return task


def _share(validation: str) -> float | None:
    """The share to hold out; None if `validation` names data."""
    try:
        share = float(validation)
    except ValueError:
        return None
    if not 0 <= share < 1:
        raise typer.BadParameter(
            f"expected a share from 0 to below 1, or a file, got {validation}.", param_hint="--validation"
        )
    return share


def _check_use(
    source: Source | ImageSource, *, task: str | None, augment: str | None, size: str | None, channels: int | None
) -> None:
    """A usage error for options that these data have no use for."""
    pictures = isinstance(source, ImageSource)
    folder = isinstance(source, ImageSource) and source.names is not None
    if task == "regression" and pictures:
        raise typer.BadParameter(f"{source.path}: images are told apart by class.", param_hint="--task")
    if augment is not None and not pictures:
        raise typer.BadParameter(f"it is for images, {source.path} is a table.", param_hint="--augment")
    for option, value in (("--size", size), ("--channels", channels)):
        if value is not None and not folder:
            raise typer.BadParameter(f"it is for a folder of images, {source.path} is none.", param_hint=option)


def _validation(data: str, source: Source | ImageSource, options: ImageOptions) -> Source | ImageSource:
    """The data that `--validation` names, read as those for training were."""
    if isinstance(source, ImageSource):
        shape: Any = source.data.images.shape[1:]
        options = ImageOptions(shape[:2], shape[2], shape)
    else:
        options = ImageOptions(table=True)
    held = read_source(data, options, target=source.target, split="test")
    if isinstance(held, ImageSource) != isinstance(source, ImageSource):
        what = "images" if isinstance(source, ImageSource) else "a table"
        raise typer.BadParameter(f"expected {what}, like {source.path}; {data} is not.", param_hint="--validation")
    return held


# ---------------------------------------------------------------------------------------------- what is said


def _tell_results(folder: Path, reports: dict[str, Report], seconds: float, commands: list[list[str]]) -> None:
    from fluxion.cli.report import show_classes, show_metrics
    from fluxion.train.progress import duration

    say()
    show_metrics(reports)
    name, report = list(reports.items())[-1]
    if report.classes:
        say()
        say(f"Per class, on the {name} part:")
    show_classes(report)
    say()
    say(f"Trained in {duration(seconds)}. The run is in {folder}:")
    say(", ".join(path.name for path in runs.files(folder)), indent=2)
    say("Go on with")
    for command in commands:
        show(f"  {shlex.join(command)}")


def _config(options: Options, data: Prepared, parameters: int, batch_size: int) -> dict[str, Any]:
    """The settings of the run, as `config.json` keeps them."""
    from fluxion.version import __version__

    encoder, source, validation = data.encoder, options.source, options.validation
    parts = {"training": data.training, "validation": data.validation, "test": data.test}
    rows = {name: 0 if part is None else len(part.truth) for name, part in parts.items()}
    if data.test is None:
        del rows["test"]
    return {
        "fluxion": __version__,
        "data": _place(source.path),
        "rows": rows,
        "task": encoder.task,
        "classes": list(encoder.classes),
        **data.settings,
        "model": options.model.to_json(),
        "inputs": math.prod(input_shape(encoder)),
        "outputs": len(encoder.classes) or 1,
        "parameters": parameters,
        "epochs": options.epochs,
        "batch_size": batch_size,
        "optimizer": repr(options.rule),
        "learning_rate": options.rule.learning_rate,  # type: ignore[attr-defined]
        "validation": validation or 0 if isinstance(validation, float | None) else _place(validation.path),
        "stratify": data.stratified,
        "standardize": options.standardize,
        "augment": list(options.augment),
        "seed": options.seed,
    }


def _place(path: str) -> str:
    """Where data are: the whole path, or the name of a data set."""
    return str(Path(path).resolve()) if Path(path).exists() else path
