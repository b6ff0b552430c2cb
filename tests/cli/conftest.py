"""A shell without a process: commands run in a folder of their own, on small tables."""

import pytest
from small_tables import animals, prices, write_csv
from typer.testing import CliRunner

from fluxion.cli import app, runs


@pytest.fixture
def drawing_cli(tmp_path, monkeypatch):
    """Run a command in a fresh folder; returns typer's result, whose `stdout` and `stderr` are apart."""
    monkeypatch.chdir(tmp_path)
    return run


@pytest.fixture
def cli(drawing_cli, monkeypatch):
    """The same without its pictures, which take most of the time of a short run."""
    monkeypatch.setattr(runs, "draw", lambda *args: None)
    return drawing_cli


def run(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args], prog_name="fluxion")


@pytest.fixture(scope="session")
def shelf(tmp_path_factory):
    """Two tables and a short run of each: `animals`, `prices`."""
    folder = tmp_path_factory.mktemp("shelf")
    for name, (header, rows), target in (("animals", animals(), "kind"), ("prices", prices(), "price")):
        write_csv(folder / f"{name}.csv", header, rows)
        result = run("train", folder / f"{name}.csv", "--target", target, "--epochs", 30, "--out", folder / name)
        assert result.exit_code == 0, result.output
        (folder / f"{name}.txt").write_text(result.stdout)
    return folder
