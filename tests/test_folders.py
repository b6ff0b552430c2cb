"""Compiled programs that are kept: another process finds them, the folder stays bounded, and no failure stops a run."""

import logging
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import jax
import pytest

from fluxion import folders

TRAIN = """
import collections, jax
import fluxion as fx
events = collections.Counter()
jax.monitoring.register_event_listener(lambda event, **_: events.update([event.rsplit("/")[-1]]))
fx.seed(0)
model = fx.Chain(fx.Conv((3, 3), 1, 2, fx.relu), fx.flatten, fx.Dense(72, 3))
x, y = fx.rand(4, 8, 8, 1), jax.numpy.array([0, 1, 2, 0])
opt = fx.setup(fx.Adam(), model)
loss = fx.trainstep(lambda m, x, y: fx.logitcrossentropy(m(x), y), model, (x, y), opt)
print(loss, events["cache_hits"], events["cache_misses"])
"""


def train(folder):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    environment |= {"FLUXION_CACHE": str(folder), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", TRAIN], env=environment, capture_output=True, text=True, check=True)
    loss, hits, misses = done.stdout.split()
    return float(loss), int(hits), int(misses), done.stderr


def test_a_second_process_compiles_nothing_and_broken_files_stop_no_run(tmp_path):
    loss, _, misses, _ = train(tmp_path)
    kept = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert 0 < misses == len(kept)
    assert train(tmp_path)[:3] == (loss, misses, 0)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == kept
    for path in kept:
        path.write_bytes(path.read_bytes()[:-20])
    again, hits, _, said = train(tmp_path)
    assert (again, hits) == (loss, 0) and "Error reading persistent compilation cache entry" in said


@pytest.fixture
def configured(monkeypatch, tmp_path):
    """What `keep_compiled_programs` sets, in a process that has set nothing yet and has a cache folder."""
    settings = {}
    config = types.SimpleNamespace(jax_compilation_cache_dir=None, update=settings.__setitem__)
    monkeypatch.setattr(jax, "config", config)
    monkeypatch.setenv("FLUXION_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FLUXION_CACHE_MB", raising=False)
    return settings


def keep():
    folders.keep_compiled_programs.__wrapped__()


def test_what_was_not_used_for_longest_is_deleted(configured, monkeypatch, tmp_path):
    monkeypatch.setenv("FLUXION_CACHE_MB", "0.0025")
    other = tmp_path / "cache" / "compiled" / "another processor"
    other.mkdir(parents=True)
    for age, name in enumerate(["newest", "read of late", "old", "oldest"]):
        (other / name).write_bytes(bytes(1000))
        os.utime(other / name, (1e9 - age, 1e9 - (9 if name == "read of late" else age)))
    keep()
    assert sorted(path.name for path in other.iterdir()) == ["newest", "read of late"]
    folder = Path(configured["jax_compilation_cache_dir"])
    assert folder.is_dir() and folder.parent == other.parent and folder == folders.programs_folder()


@pytest.mark.parametrize(("variable", "value"), [("FLUXION_CACHE", "off"), ("FLUXION_CACHE_MB", "0")])
def test_switched_off(configured, monkeypatch, caplog, variable, value):
    monkeypatch.setenv(variable, value)
    keep()
    assert not configured and not caplog.records


def test_a_folder_of_the_users_own_is_left_as_it_is(configured, tmp_path):
    jax.config.jax_compilation_cache_dir = "elsewhere"
    keep()
    assert not configured and not (tmp_path / "cache").exists()


@pytest.mark.parametrize("trouble", ["a file", "read only", "full"])
def test_a_folder_that_cannot_be_used_gives_a_warning(configured, monkeypatch, caplog, tmp_path, trouble):
    if trouble == "a file":
        (tmp_path / "cache").write_text("")
    elif trouble == "read only":
        monkeypatch.setattr(os, "access", lambda path, mode: False)
    else:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=1000))
    with caplog.at_level(logging.WARNING, "fluxion"):
        keep()
    assert not configured and "compiled programs are not kept" in caplog.text and "FLUXION_CACHE" in caplog.text


@pytest.mark.parametrize("given", ["much", "nan", "inf", ""])
def test_a_limit_that_is_no_number_is_told(configured, monkeypatch, caplog, given):
    monkeypatch.setenv("FLUXION_CACHE_MB", given)
    assert folders.programs_limit() == 512_000_000 and "FLUXION_CACHE_MB" in caplog.text


def test_files_that_vanish_meanwhile_are_no_trouble(monkeypatch, tmp_path):
    for name in "abc":
        (tmp_path / name).write_bytes(bytes(10))
    found = folders.sizes(tmp_path)
    monkeypatch.setattr(folders, "sizes", lambda folder: found)
    (tmp_path / "a").unlink()
    folders.delete_oldest(tmp_path, 15)
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
