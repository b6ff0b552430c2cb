"""`fluxion compare` in real processes: one comparison from end to end, beside a framework that crashes."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import fluxion as fx
from fluxion.cli import app

ROOT = str(Path(fx.__file__).parent.parent)


def fluxion(*arguments, cwd=None, **environment):
    """The command, of the Fluxion that is tested."""
    environment["PYTHONPATH"] = ROOT
    command = [sys.executable, "-m", "fluxion", "compare", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=os.environ | environment, timeout=300)


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """Plain JAX, beside a framework that crashes when it is measured."""
    folder = tmp_path_factory.mktemp("compare")

    crashing = folder / "crashing"
    text = f'if [ "$2" = abilities ]; then exec {sys.executable} "$@"; fi; echo "it broke" >&2; kill -SEGV $$'
    crashing.write_text(f"#!/bin/sh\n{text}\n")
    crashing.chmod(0o755)
    result = fluxion(
        "iris", "--with", "jax,torch", "--env", f"torch={crashing}",
        "--quick", "--threads", "1", "--limit", "100", "--out", "out",
        cwd=folder, FLUXION_CACHE=str(folder / "cache"), COLUMNS="80",
    )  # fmt: skip
    return folder, result


def test_what_was_run_is_in_the_file(ended):
    folder, result = ended
    assert result.returncode == 0, result.stderr
    document = json.loads((folder / "out" / "results.json").read_text())
    found = {(e["framework"], e["mode"]): e for e in document["summary"]}
    e = found["jax", "jit"]
    assert e["verdict"] == "same work"
    assert set(e["times"]) == {"import", "data", "build", "first", "step", "batches", "epoch", "evaluation"}
    assert all(values["median"] > 0 for values in e["times"].values())
    (timed,) = [m for m in document["measurements"] if m["part"] == "timing" and "error" not in m]
    assert len(timed["losses"]) == 10  # 50 if not quick
    assert timed["threads"] == 1
    curves = [m["curves"][0] for m in document["measurements"] if m["part"] == "accuracy" and "error" not in m]
    assert all(len(curve["test accuracy"]) == 2 for curve in curves)
    program = next(p for p in document["programs"] if p["framework"] == "jax")
    assert "jax.jit" in program["text"]
    assert program["lines"] > 10
    assert document["runs"]["iris"]["data"] == "real"


def test_what_is_shown(ended):
    folder, result = ended
    assert "QUICK" in result.stdout
    assert "same work" in result.stdout
    assert "it broke" in result.stdout
    assert "out/results.json" in result.stdout and "out/report.html" in result.stdout
    assert "torch eager: failed: it broke" in re.sub("<[^>]*>", "", (folder / "out" / "report.html").read_text())


def test_it_goes_on_where_it_stopped(ended):
    folder, _ = ended
    before = json.loads((folder / "out" / "results.json").read_text())["measurements"]
    result = fluxion("iris", "--with", "jax", "--quick", "--threads", "1", "--out", "out", "--continue",
                     "--json", cwd=folder, FLUXION_CACHE=str(folder / "cache"))  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert " timing" not in result.stderr  # nothing was measured again
    after = json.loads(result.stdout)["measurements"]
    assert after == before
    again = fluxion("iris", "--out", "out", cwd=folder)
    assert again.returncode == 1
    assert "out is not empty. Use another folder, or --continue" in again.stderr


def test_ctrl_c_shows_what_is_there(tmp_path):
    command = [sys.executable, "-m", "fluxion", "compare", "iris", "--with", "jax", "--out", "out"]
    process = subprocess.Popen(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": ROOT}, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    for line in process.stderr:
        if "timing" in line:  # the first is measured
            process.send_signal(signal.SIGINT)
            break
    out, error = process.communicate(timeout=100)
    assert process.returncode == 130
    assert "same work" in out
    assert "--continue --out out goes on" in error
    assert len(json.loads((tmp_path / "out" / "results.json").read_text())["measurements"]) == 1


def invoke(*arguments):
    return CliRunner().invoke(app, ["compare", *arguments])


def test_list():
    found = json.loads(invoke("list", "--json").stdout)
    assert {"iris", "cifar-cnn"} <= {w["name"] for w in found["workloads"]}
    assert {"fluxion", "torch"} <= {f["name"] for f in found["frameworks"]}
    assert "mnist-fcn" in invoke("list").stdout


def test_code_is_shown_and_nothing_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke("iris", "--code", "--with", "fluxion,torch")
    assert result.exit_code == 0
    assert "import fluxion as fx" in result.stdout
    assert "PyTorch, eager: iris, " in result.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["irsi"], "Did you mean 'iris'"),
        (["iris", "--with", "troch"], "Did you mean 'torch'"),
        (["iris", "--env", "torch"], "NAME=PYTHON"),
        (["iris", "--protocol", "unfair"], "fair or as-published"),
        (["iris", "--continue"], "nothing to go on with"),
        (["setup"], "expected a framework"),
        (["setup", "fluxion"], "nothing to set up"),
    ],
)
def test_wrong_words(arguments, why, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke(*arguments)
    assert result.exit_code in (1, 2)
    assert why in " ".join(result.output.split())
    assert not (tmp_path / "runs").exists()
