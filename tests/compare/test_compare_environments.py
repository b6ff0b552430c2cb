"""Which interpreter runs a framework, and how one is set up; pip itself is not run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fluxion.compare import environments
from fluxion.errors import ArgumentError, DataError


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FLUXION_CACHE", str(tmp_path))
    return tmp_path / "compare"


@pytest.fixture
def commands(monkeypatch):
    """The commands that would be run; a new environment gets an interpreter."""
    ran = []

    def run(command, stdout=None):
        ran.append(command)
        if "venv" in command:
            python = Path(command[-1], "bin", "python")
            python.parent.mkdir(parents=True, exist_ok=True)
            python.write_text("")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(sys, "platform", "linux")
    return ran


def test_fluxion_comes_first():
    names = list(environments.adapters())
    assert names[0] == "fluxion"
    assert {"jax", "torch"} <= set(names)
    own = [name for name in names if name.startswith("fluxion")]
    assert names == [*sorted(own), *sorted(set(names) - set(own))]


def test_the_interpreter_of_a_framework(cache, monkeypatch):
    assert environments.peer("jax", {}).python == sys.executable
    assert environments.peer("jax", {"jax": "/somewhere/python"}).python == "/somewhere/python"
    monkeypatch.setattr(environments, "has", lambda packages: False)
    monkeypatch.setattr(environments, "remembered", lambda: {"jax": "/set/up/python"})
    assert environments.peer("jax", {}).python == "/set/up/python"
    assert environments.peer("torch", {}).python == sys.executable
    assert environments.remedy("torch") == "fluxion compare setup torch"


def test_set_up_once_and_remembered(cache, commands):
    python = environments.setup("torch")
    assert python == cache / "torch" / "bin" / "python"
    make, install = commands
    assert make[:3] == [sys.executable, "-m", "venv"]
    assert install[:4] == [str(python), "-m", "pip", "install"]
    assert "https://download.pytorch.org/whl/cpu" in install
    assert environments.remembered() == {"torch": str(python)}
    environments.setup("torch", "https://example.org/simple")
    assert commands[-1].count("--index-url") == 1
    assert commands[-1][-1] == "https://example.org/simple"
    python.unlink()
    assert environments.remembered() == {}  # gone from the disk


def test_what_cannot_be_set_up(cache, commands, monkeypatch):
    with pytest.raises(ArgumentError, match=r"no framework 'troch'\. Did you mean 'torch'"):
        environments.setup("troch")
    with pytest.raises(ArgumentError, match="nothing to set up"):
        environments.setup("fluxion")
    monkeypatch.setattr(subprocess, "run", lambda command, stdout=None: subprocess.CompletedProcess(command, 1))
    with pytest.raises(DataError, match="torch: this failed"):
        environments.setup("torch")
    assert environments.remembered() == {}
    monkeypatch.setenv("FLUXION_CACHE", "off")
    with pytest.raises(DataError, match="FLUXION_CACHE is off"):
        environments.setup("torch")


@pytest.mark.parametrize("text", ["{", "[1]", json.dumps({"torch": 1})])
def test_a_damaged_list_of_environments(cache, text):
    cache.mkdir()
    (cache / "environments.json").write_text(text)
    with pytest.raises(DataError, match="expected the interpreters"):
        environments.remembered()
