"""The scoreboard's harness on its smallest workload, in real processes."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def tools():
    """The modules of `benchmarks/`, which is no package; their place is not left on the path."""
    sys.path.insert(0, str(BENCHMARKS))
    import harness
    import scoreboard

    sys.path.remove(str(BENCHMARKS))
    return harness, scoreboard


@pytest.fixture(scope="module")
def measured(tools, tmp_path_factory):
    """Results of Fluxion and plain JAX, beside a peer that crashes, one that hangs, one that is not there and one that
    answers nonsense."""
    harness, _ = tools
    folder = tmp_path_factory.mktemp("scoreboard")

    def script(name, text):
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
        return str(folder / name)

    broken = {
        "torch": script("crashing", "echo 'it broke' >&2; kill -SEGV $$"),
        "flax": script("hanging", "sleep 600"),
        "equinox": str(folder / "missing"),
        "keras-jax": script("talking", "echo hello"),
    }
    abilities = {name: {"modes": {"tiny": ["train" if name == "fluxion" else "jit"]}} for name in harness.PEERS}
    results = harness.Results(folder / "results.json")
    for name in [*broken, "fluxion", "jax"]:
        peer = dataclasses.replace(harness.PEERS[name], python=broken.get(name, sys.executable))
        tasks = harness.plan([peer], ["tiny"], ["default"], 1, abilities)
        limit = 1 if name == "flax" else 100
        assert [task.peer for task, _ in harness.carry_out(tasks, results, folder, 1, limit)] == [peer]
    return results


def one(measured, peer):
    (found,) = [m for m in measured.measurements if m["peer"] == peer]
    return found


def test_same_losses_and_every_time(measured, tools):
    harness, _ = tools
    ours, theirs = one(measured, "fluxion"), one(measured, "jax")
    assert harness.same_work(ours["outputs"], theirs["outputs"])
    assert ours["outputs"][6] < ours["outputs"][0]  # the first batch again: there are six
    assert abs(ours["accuracy"] - theirs["accuracy"]) < 0.35  # their last epochs were shuffled differently
    for m in (ours, theirs):
        assert set(m["times"]) == {"import", "build", "first", "step", "epoch", "evaluation"}
        assert all(value > 0 for values in m["times"].values() for value in values)
        assert m["memory"] > 10e6
        assert m["threads"] == 1


@pytest.mark.parametrize(
    ("peer", "why"),
    [("torch", "it broke"), ("flax", "within 1 s"), ("equinox", "cannot run"), ("keras-jax", "expected JSON")],
)
def test_a_broken_peer_says_why_and_spoils_nothing(measured, peer, why):
    assert why in one(measured, peer)["error"]


def test_a_second_call_continues(measured, tools):
    harness, _ = tools
    again = harness.Results(measured.file)
    assert again.measurements == measured.measurements
    assert {key[1] for key in again.done(threads=1)} == {"fluxion", "jax"}
    assert again.done(threads=2) == set()
    changed = [{**m, "code": "other"} if m["peer"] == "jax" else m for m in measured.measurements]
    file = measured.file.with_name("changed.json")
    file.write_text(json.dumps(changed))
    assert "jax" not in {m["peer"] for m in harness.Results(file).measurements}


def test_table(measured, tools):
    _, scoreboard = tools
    text = scoreboard.report(measured.measurements, ["tiny"], "the command")
    (row,) = [line for line in text.splitlines() if line.startswith("| MLP 6-5-3")]
    assert "(fluxion train)" in row
    assert "(jax jit)" in row
    assert "it broke" in text
    other = [{**m, "outputs": [1.01 * v for v in m["outputs"]]} if m["peer"] == "jax" else m
             for m in measured.measurements if "error" not in m]  # fmt: skip
    text = scoreboard.report(other, ["tiny"], "the command")
    assert "not the same work" in text
    (row,) = [line for line in text.splitlines() if line.startswith("| MLP 6-5-3")]
    assert row.endswith("| none | none: jax not the same work |  |")


def test_a_missing_framework_is_named(tools):
    harness, _ = tools
    peer = harness.Peer("other", "jax", ("no_such_framework",))
    assert harness.modes(peer) == {"missing": "no no_such_framework"}
    assert "tiny" in harness.modes(harness.PEERS["jax"])["modes"]


def test_wrong_words_on_the_command_line():
    command = [sys.executable, str(BENCHMARKS / "scoreboard.py"), "--only", "lennet"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 2
    assert "'lennet'" in ended.stderr
