"""The command `fluxion`: look at data, train a model of a table or of images, evaluate and use it, from a shell.

    fluxion inspect passengers.csv --target Survived
    fluxion train iris
    fluxion train passengers.csv --target Survived --epochs 50
    fluxion predict runs/passengers-1 new.csv

Exit codes: 0; 1 for data and files that cannot be used; 2 for a command line that cannot; 130 after Ctrl-C.
Results go to standard output, errors and warnings to standard error, a traceback only with `--debug`.
"""

from __future__ import annotations

from typing import Annotated

import typer

from fluxion.cli.compare import compare as compare_command
from fluxion.cli.datasets import datasets
from fluxion.cli.evaluate import evaluate as evaluate_command
from fluxion.cli.info import info as info_command
from fluxion.cli.inspect import inspect as inspect_command
from fluxion.cli.predict import predict as predict_command
from fluxion.cli.train import train as train_command

# Plain help and errors: boxes break the lines of a message that a script looks for.
app = typer.Typer(
    name="fluxion",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("inspect")(inspect_command)
app.command("train")(train_command)
app.command("evaluate")(evaluate_command)
app.command("predict")(predict_command)
app.command("compare")(compare_command)
app.add_typer(datasets)
app.command("info")(info_command)


def _show_version(wanted: bool) -> None:
    if wanted:
        from fluxion.version import __version__

        typer.echo(f"fluxion {__version__}")
        raise typer.Exit


@app.callback()
def _fluxion(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Train a neural network on a table or on images, and use it.

    Start with: fluxion train iris
    """


def main() -> None:
    """The entry point of the command `fluxion`; reads `sys.argv` and ends the process with an exit code.

    >>> from typer.testing import CliRunner
    >>> from fluxion.cli import app
    >>> CliRunner().invoke(app, ["--version"]).exit_code
    0
    """
    from fluxion.memory import keep_memory

    keep_memory()
    app(prog_name="fluxion")
