"""The scoreboard's harness on its smallest workload, in real processes."""

import dataclasses
import json
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from fluxion.compare import processes

BENCHMARKS = Path(__file__).parent.parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def tools():
    """The modules of `benchmarks/`, which is no package; their place is not left on the path."""
    sys.path.insert(0, str(BENCHMARKS))
    import board
    import scoreboard

    sys.path.remove(str(BENCHMARKS))
    return board, scoreboard


@pytest.fixture(scope="module")
def measured(tools, tmp_path_factory):
    """Results of Fluxion and plain JAX, beside a peer that crashes, one that hangs, one that is not there and one that
    answers nonsense."""
    board, _ = tools
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
    modes = {"fluxion": {"tiny": ["train"], "tiny-infer": ["predict"]}}
    abilities = {n: {"modes": modes.get(n, {"tiny": ["jit"], "tiny-infer": ["jit"]})} for n in board.PEERS}
    results = board.open_results(folder / "results.json")
    for name in [*broken, "fluxion", "jax"]:
        peer = dataclasses.replace(board.PEERS[name], python=broken.get(name, sys.executable))
        names = ["tiny"] if name in broken else ["tiny", "tiny-infer"]
        tasks = board.plan([peer], names, ["default"], 1, abilities)
        limit = 1 if name == "flax" else 100
        done = list(board.carry_out(tasks, results, folder, 1, limit, quick=True))
        assert [task.peer for task, _ in done] == [peer] * len(names)
    return results


def one(measured, peer, workload="tiny"):
    (found,) = [m for m in measured.measurements if m["peer"] == peer and m["workload"] == workload]
    return found


def test_same_losses_and_every_time(measured):
    ours, theirs = one(measured, "fluxion"), one(measured, "jax")
    assert processes.same_work(ours["outputs"], theirs["outputs"])
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


def test_inference_gives_the_same_outputs(measured):
    ours, theirs = one(measured, "fluxion", "tiny-infer"), one(measured, "jax", "tiny-infer")
    assert processes.same_work(ours["outputs"], theirs["outputs"])
    assert {"batch 1", "batch 256"} <= set(ours["times"])


def test_a_second_call_continues(measured, tools):
    board, _ = tools
    again = board.open_results(measured.file)
    assert again.measurements == measured.measurements
    assert {key[1] for key in again.done()} == {"fluxion", "jax"}
    assert {key[-1] for key in again.done()} == {1}  # threads
    changed = [{**m, "code": "other"} if m["peer"] == "jax" else m for m in measured.measurements]
    file = measured.file.with_name("changed.json")
    file.write_text(json.dumps(changed))
    assert "jax" not in {m["peer"] for m in board.open_results(file).measurements}


def test_table(measured, tools):
    _, scoreboard = tools
    text = scoreboard.report(measured.measurements, ["tiny", "tiny-infer"], "the command", peak=1e9)
    rows = [line for line in text.splitlines() if line.startswith("| MLP 6-5-3")]
    assert len(rows) == 7  # training, evaluation, two of inference, memory, the arithmetic limit twice
    ours, theirs = (statistics.median(one(measured, peer)["times"]["epoch"]) for peer in ("fluxion", "jax"))
    assert f"**{ours / theirs:.2f}** train" in rows[0]
    assert " jax jit |" in rows[0]
    assert "it broke" in text
    other = [{**m, "outputs": [1.01 * v for v in m["outputs"]]} if m["peer"] == "jax" else m
             for m in measured.measurements if "error" not in m]  # fmt: skip
    text = scoreboard.report(other, ["tiny"], "the command")
    row = next(line for line in text.splitlines() if line.startswith("| MLP 6-5-3"))
    assert "| none: jax jit not the same work |" in row


def test_goals(tools):
    _, scoreboard = tools
    workload = scoreboard.WORKLOADS["tiny"]
    assert scoreboard.met(workload, {"train": 0.5, "fit": 0.6}, 0.6) == "yes"
    assert scoreboard.met(workload, {"train": 0.5, "fit": 0.7}, 0.6) == "by train"
    assert scoreboard.met(workload, {"train": 0.7, "fit": 0.7}, 0.6) == "no"


def test_arithmetic(tools):
    _, scoreboard = tools
    work, workloads = scoreboard.arithmetic.work, scoreboard.WORKLOADS
    assert work(workloads["tiny"], 4) == 4 * 2 * (2 * 6 * 5 + 3 * 5 * 3)  # no gradient by the data
    lenet = 2 * (24 * 24 * 25 * 20 + 8 * 8 * 25 * 20 * 50 + 800 * 500 + 500 * 10)
    assert work(workloads["lenet-infer"], 1) == lenet
    assert abs(work(workloads["resnet18-infer"], 1) / 2 - 0.556e9) < 1e6  # multiply-adds, as commonly published


def test_the_less_common_peers_have_fewer_rows(tools):
    board, _ = tools
    abilities = {"flax": {"modes": {"lenet": ["jit"], "cnn": ["jit"]}}}
    chosen = board.plan([board.PEERS["flax"]], ["lenet", "cnn"], ["default"], 1, abilities, everything=False)
    assert [task.workload for task in chosen] == ["lenet"]
    assert len(board.plan([board.PEERS["flax"]], ["lenet", "cnn"], ["default"], 1, abilities)) == 2


def test_a_missing_framework_is_named(tools):
    board, _ = tools
    peer = processes.Peer("other", "jax", ("no_such_framework",))
    assert board.modes(peer) == {"missing": "no no_such_framework"}
    assert "tiny" in board.modes(board.PEERS["jax"])["modes"]


def test_wrong_words_on_the_command_line():
    command = [sys.executable, str(BENCHMARKS / "scoreboard.py"), "--only", "lennet"]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 2
    assert "'lennet'" in ended.stderr
