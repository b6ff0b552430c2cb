"""`fluxion train`: a table in, a run folder out."""

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
from fluxion.cli.models import HIDDEN, ModelSpec, build_model, parse_model
from fluxion.cli.output import JSON, CtrlC, Debug, failures, only_result, say, show, warn, write_json
from fluxion.cli.tables import Parts, Source, about, chosen_target, divide, read_source
from fluxion.errors import nearest
from fluxion.interrupts import uninterrupted

if TYPE_CHECKING:
    from fluxion.cli.report import Report
    from fluxion.optim import Optimizer, Rule
    from fluxion.train.callbacks import FitContext
    from fluxion.train.history import History

RULES = [
    *("Descent", "Momentum", "Nesterov", "RMSProp", "Adam", "RAdam", "AdaMax", "OAdam"),
    *("AdaGrad", "AdaDelta", "AMSGrad", "NAdam", "AdamW", "AdaBelief", "Lion", "Rprop"),
]
KEEP_EVERY = 60.0  # seconds of training after which the run folder is brought up to date


@dataclass(frozen=True)
class Options:
    """The command line, checked."""

    source: Source
    target: str
    task: str | None
    model: ModelSpec
    epochs: int
    batch_size: int
    rule: Rule
    validation: float | Source | None
    stratify: bool | None
    standardize: bool
    seed: int
    out: Path | None
    overwrite: bool


def train(
    data: Annotated[
        str,
        typer.Argument(metavar="DATA", help="A CSV, TSV or Parquet file, or a built-in set: iris.", show_default=False),
    ],
    target: Annotated[str | None, typer.Option(metavar="COLUMN", help="The column to predict.")] = None,
    task: Annotated[
        str | None, typer.Option(metavar="TASK", help="classification or regression; the target decides if not given.")
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            metavar="mlp|linear|FILE.py:function",
            help="The model; function(inputs, outputs) of your file, which is executed, returns one.",
        ),
    ] = "mlp",
    hidden: Annotated[
        str | None,
        typer.Option(
            metavar="SIZES", help="Sizes of the hidden layers of the mlp.", show_default=",".join(map(str, HIDDEN))
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training part.")] = 100,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows in a step.")] = 32,
    optimizer: Annotated[str, typer.Option(metavar="NAME", help=f"One of {', '.join(RULES).lower()}.")] = "adam",
    learning_rate: Annotated[float | None, typer.Option(help="The optimizer's own default if not given.")] = None,
    validation: Annotated[
        str, typer.Option(metavar="SHARE|FILE", help="The share of rows held out, 0 for none; or a file of its own.")
    ] = "0.2",
    stratify: Annotated[
        bool | None,
        typer.Option("--stratify/--no-stratify", help="Hold out every class in proportion; done in a classification."),
    ] = None,
    standardize: Annotated[
        bool, typer.Option("--standardize/--no-standardize", help="Bring numbers to mean 0 and deviation 1.")
    ] = True,
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
    """Train a model on a table and keep it in a run folder.

    The target column decides between classification and regression. Text is encoded, missing values are filled in,
    numbers standardized, by what the training part holds; all of that is kept with the model.

    Ctrl-C ends training and keeps what was learned.
    """
    with failures(debug), only_result(json) as stream:
        spec = parse_model(model, hidden)
        rule = _rule(optimizer, learning_rate)
        kind = _task(task)
        share = _share(validation)
        if out is not None:
            runs.check_free(out, overwrite)
        source = read_source(data)
        options = Options(
            source=source,
            target=chosen_target(source, target),
            task=kind,
            model=spec,
            epochs=epochs,
            batch_size=batch_size,
            rule=rule,
            validation=read_source(validation) if share is None else (share or None),
            stratify=stratify,
            standardize=standardize,
            seed=seed,
            out=out,
            overwrite=overwrite,
        )
        result = _train(options)
        if json:
            write_json(stream, result)


def _train(options: Options) -> dict[str, Any]:
    """Train, write the run folder, tell about it; returns the results for `--json`."""
    import fluxion as fx
    from fluxion.cli.report import measure
    from fluxion.train.history import History

    # The last batch of an epoch is shorter, which compiles a second program; that is no news to a user of the command.
    logging.getLogger("fluxion").setLevel(logging.ERROR)
    source = options.source
    with about(source.path):
        parts = divide(
            source,
            options.target,
            task=options.task,
            validation=options.validation,
            stratify=options.stratify,
            standardize=options.standardize,
            seed=options.seed,
        )
    encoder = parts.encoder
    _tell_table(options, parts)
    with about(source.path):
        data = (encoder.features(parts.training), encoder.targets(parts.training))
    held_out = None
    if parts.validation is not None:
        with about(options.validation.path if isinstance(options.validation, Source) else source.path):
            held_out = (encoder.features(parts.validation), encoder.targets(parts.validation))

    fx.seed(options.seed)
    if options.model.file is not None:
        say(f"Executing {options.model.file} for the model of its function {options.model.function}.")
    model = build_model(options.model, len(encoder.feature_names), len(encoder.classes) or 1)
    opt = fx.setup(options.rule, model)
    parameters = sum(array.size for array in fx.trainables(model))
    say(f"Model: {model!r}, {parameters:,} parameters" if options.model.file is None else f"{parameters:,} parameters")
    say(f"Training: {options.rule!r}, {options.epochs} epochs, batches of {options.batch_size}, seed {options.seed}")
    say()

    folder = runs.claim(options.out, source.name, options.overwrite)
    config = _config(options, parts, parameters)
    std = encoder.target.std
    metrics = {"accuracy": fx.accuracy} if encoder.classes else {"mae": lambda p, t: fx.mae(p, t) * std}
    started = time.perf_counter()
    with CtrlC() as ctrl_c:
        keeper = _Keeper(folder, config, parts, ctrl_c)
        try:
            history = fx.fit(
                model,
                data,
                loss=fx.logitcrossentropy if encoder.classes else fx.mse,
                optimizer=opt,
                epochs=options.epochs,
                batch_size=options.batch_size,
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

    reports = {"training": measure(model, encoder, parts.training)}
    if parts.validation is not None:
        reports["validation"] = measure(model, encoder, parts.validation)
    runs.draw(folder, history, list(reports.values())[-1])
    commands = [["fluxion", "predict", str(folder), "NEW.csv"], ["fluxion", "evaluate", str(folder), "LABELED.csv"]]
    _tell_results(folder, reports, seconds, commands)
    return {
        "run": str(folder),
        "files": {path.name: str(path) for path in runs.files(folder)},
        "task": encoder.task,
        "target": options.target,
        "epochs": len(history),
        "steps": opt.step,
        "parameters": parameters,
        "seconds": seconds,
        **{name: report.to_json() for name, report in reports.items()},
        "predict": shlex.join(commands[0]),
    }


class _Keeper:
    """Writes the run folder: at the end, and in a long training now and then, so that a crash costs little."""

    def __init__(self, folder: Path, config: dict[str, Any], parts: Parts, ctrl_c: CtrlC) -> None:
        self.folder = folder
        self.config = config
        self.encoder = parts.encoder
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
    """The share of rows to hold out; None if `validation` names a file."""
    try:
        share = float(validation)
    except ValueError:
        return None
    if not 0 <= share < 1:
        raise typer.BadParameter(
            f"expected a share from 0 to below 1, or a file, got {validation}.", param_hint="--validation"
        )
    return share


# ---------------------------------------------------------------------------------------------- what is said


def _tell_table(options: Options, parts: Parts) -> None:
    source, held = options.source, parts.validation
    say(f"{source.path}: {source.frame.height:,} rows, {source.frame.width} columns")
    if held is None:
        say(f"{parts.training.height:,} rows for training, none held out for validation. The training part:")
    else:
        how = "every class in proportion" if parts.stratified else "drawn at random"
        how = options.validation.path if isinstance(options.validation, Source) else how
        say(f"{parts.training.height:,} rows for training, {held.height:,} for validation ({how}). The training part:")
    for line in [*parts.encoder.describe(), *parts.notes]:
        say(line, indent=2)


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


def _config(options: Options, parts: Parts, parameters: int) -> dict[str, Any]:
    """The settings of the run, as `config.json` keeps them."""
    from fluxion.version import __version__

    encoder, source, validation = parts.encoder, options.source, options.validation
    held = parts.validation
    return {
        "fluxion": __version__,
        "data": source.path if source.target else str(Path(source.path).resolve()),
        "rows": {"training": parts.training.height, "validation": 0 if held is None else held.height},
        "target": options.target,
        "task": encoder.task,
        "classes": list(encoder.classes),
        "features": list(encoder.feature_names),
        "model": options.model.to_json(),
        "inputs": len(encoder.feature_names),
        "outputs": len(encoder.classes) or 1,
        "parameters": parameters,
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "optimizer": repr(options.rule),
        "learning_rate": options.rule.learning_rate,  # type: ignore[attr-defined]
        "validation": str(Path(validation.path).resolve()) if isinstance(validation, Source) else (validation or 0),
        "stratify": parts.stratified,
        "standardize": options.standardize,
        "seed": options.seed,
    }
