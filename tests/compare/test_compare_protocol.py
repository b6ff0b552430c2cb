"""What is run and kept: order, failures, Ctrl-C, continuing, verdicts. The processes are made up here."""

import json
from pathlib import Path

import numpy as np
import pytest

from fluxion.compare import export, processes, protocol, report, results, summary
from fluxion.errors import ArgumentError, FileFormatError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FLUXION_CACHE", str(tmp_path / "cache"))


class World:
    """Frameworks that answer as a test wants: `bad[framework]` is a change of the answer or raises."""

    def __init__(self, monkeypatch, reference):
        self.calls, self.bad, self.reference = [], {}, reference
        monkeypatch.setattr(processes, "measure", self.measure)

    def measure(self, peer, workload, mode, file, **options):
        self.calls.append((peer.name, mode, options["part"]))
        step = {"jax": 2e-5, "torch": 5e-6}.get(peer.name, 1e-5)
        times = {"import": [0.5], "data": [0.1], "build": [0.1], "first": [0.3], "step": [step, 2 * step, step]}
        answer = {"times": times, "memory": 10**8, "versions": {}, "losses": self.reference[:10]}
        if options["part"] == "accuracy":
            curves = [
                {"seed": s, "seconds": [1.0], "train loss": [0.1], "test loss": [0.1], "test accuracy": [0.95]}
                for s in options["seeds"]
            ]
            answer = {"times": {}, "memory": 1, "versions": {}, "curves": curves}
        change = self.bad.get(peer.name, lambda answer: answer)
        return change(answer)


@pytest.fixture
def reference():
    """The losses of Iris, once."""
    comparing = protocol.Comparing(protocol.Settings(("iris",), ("jax",)), Path("unused"), lambda text: None)
    from fluxion.compare import examples, workloads

    comparison = workloads.find("iris")
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        found = examples.prepare(Path(folder), comparison, comparison.fair, None, 1, False)
    return comparing._reference(comparison, comparison.fair, found["arrays"])["losses"]


@pytest.fixture
def world(monkeypatch, reference):
    return World(monkeypatch, reference)


def compared(tmp_path, frameworks=("fluxion", "jax", "torch"), **options):
    options = {"runs": 2, "seeds": 2, **options}
    said = []
    settings = protocol.Settings(("iris",), frameworks, **options)
    return protocol.Comparing(settings, tmp_path / "out" / "results.json", said.append), said


def entry(document, framework):
    return next(e for e in document["summary"] if e["framework"] == framework)


def test_runs_are_interleaved_and_times_come_first(tmp_path, world):
    comparing, _ = compared(tmp_path)
    comparing.run()
    parts = [part for _, _, part in world.calls]
    assert parts == sorted(parts, reverse=True)  # timing, then accuracy
    modes = parts.count("timing") // 2
    first, second = world.calls[:modes], world.calls[modes : 2 * modes]
    assert sorted(first) == sorted(second)
    assert len(set(first)) == modes
    assert [name for name, _, part in world.calls if part == "accuracy"].count("jax") == 1  # Iris: seeds together


def test_the_styles_of_fluxion(tmp_path, world):
    """On Iris the first mode of each style has all runs, the others two; the report does not call that incomplete."""
    comparing, _ = compared(tmp_path, ("fluxion", "fluxion-knet", "fluxion-keras", "jax"), runs=4)
    comparing.run()
    document = comparing.report()
    found = {(e["framework"], e["mode"]): e["times"]["step"]["n"] for e in document["summary"]}
    assert found == {
        ("fluxion", "train"): 4, ("fluxion", "fit"): 2, ("fluxion-knet", "run"): 4, ("fluxion-knet", "for"): 2,
        ("fluxion-keras", "fit"): 4, ("jax", "jit"): 4,
    }  # fmt: skip
    assert not report._warnings(document)
    document["summary"][0]["times"]["step"]["n"] = 3
    assert "Not complete" in str(report._warnings(document))


def test_programs_are_kept_from_the_last_cold_run_on(tmp_path, world, monkeypatch):
    """Each mode has a folder of its own for them, so that no other mode's programs are in the cold times."""
    folders = []
    monkeypatch.setattr(processes, "caches", lambda folder: folders.append(folder) or {})
    comparing, _ = compared(tmp_path, ("fluxion-keras", "jax"), runs=2, seeds=1)
    comparing.run()
    *timed, _, _ = folders
    assert set(timed[:2]) == set(timed[2:])
    assert len(set(folders)) == 4  # and one for the accuracy of each, whose time includes compiling
    assert [m["cold"] for m in comparing.report()["measurements"]] == [True, True, False, False, True, True]


def test_ratio_and_sentences(tmp_path, world):
    comparing, _ = compared(tmp_path)
    comparing.run()
    document = comparing.report()
    assert document == json.loads((tmp_path / "out" / "results.json").read_text()) | {"date": document["date"]}
    assert entry(document, "jax")["ratio"] == pytest.approx(2)
    assert entry(document, "torch")["ratio"] == pytest.approx(0.5)
    assert entry(document, "jax")["verdict"] == "same work"
    assert entry(document, "jax")["times"]["step"]["n"] == 2
    assert entry(document, "jax")["accuracy"]["in band"] is True
    told = " ".join(export.conclusions(document, "iris"))
    assert "Fluxion is slower than torch eager: its step takes 2.00 times as long." in told
    assert "jax jit takes 2.00 times as long as Fluxion" in told
    export.write_csv(document, tmp_path / "x.csv")
    lines = (tmp_path / "x.csv").read_text().splitlines()
    assert any(line.startswith("iris,,jax,jit,same work,step,s,2,2e-05") for line in lines)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda losses: [v * (1 + 1e-3) for v in losses], "of its size off"),
        (lambda losses: [*losses[:-1], float("nan")], "inf of its size off"),
        (lambda losses: losses[::-1], "of its size off"),
    ],
)
def test_other_work_has_no_ratio(tmp_path, world, change, why):
    world.bad["jax"] = lambda answer: answer | {"losses": change(answer["losses"])} if "losses" in answer else answer
    comparing, _ = compared(tmp_path)
    comparing.run()
    found = entry(comparing.report(), "jax")
    assert found["verdict"] == "not the same work"
    assert found["ratio"] is None
    assert why in found["why"]
    told = " ".join(export.conclusions(comparing.report(), "iris"))
    assert "jax jit: not the same work, no ratio given" in told
    assert entry(comparing.report(), "torch")["ratio"] is not None


def test_late_drift_is_allowed_only_so_far(reference):
    drifted = np.array(reference)
    drifted[20:] *= 1.01
    assert summary.deviations(drifted.tolist(), reference).max() < 2e-2
    limits = {"losses": reference, "tolerance": 1e-4, "drift": 2e-2}
    for factor, verdict in ((1.01, summary.SAME), (1.05, summary.OTHER)):
        losses = [v * (factor if i >= 20 else 1) for i, v in enumerate(reference)]
        assert summary._verdict([{"losses": losses}], [], limits, [])["verdict"] == verdict


@pytest.mark.parametrize(("hung", "tries"), [({}, protocol.FAILURES), ({"hung": True}, 1)])
def test_a_failure_spoils_nothing_and_is_not_repeated_for_ever(tmp_path, world, hung, tries):
    world.bad["jax"] = lambda answer: {"error": "no answer within 300 s"} | hung
    comparing, said = compared(tmp_path, runs=5)
    comparing.run()
    assert [name for name, *_ in world.calls].count("jax") == tries
    document = comparing.report()
    assert entry(document, "jax")["verdict"] == "failed"
    assert entry(document, "torch")["times"]["step"]["n"] == 5
    assert any("jax jit timing: no answer within 300 s" in text for text in said)
    assert "no answer within 300 s" in " ".join(export.conclusions(document, "iris"))


def test_ctrl_c_keeps_what_is_measured_and_a_second_call_goes_on(tmp_path, world):
    def interrupt(answer):
        if len(world.calls) > 3:
            raise KeyboardInterrupt
        return answer

    world.bad = dict.fromkeys(("fluxion", "jax", "torch"), interrupt)
    comparing, _ = compared(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        comparing.run()
    kept = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(kept["measurements"]) == 3
    world.bad, world.calls = {}, []
    again, _ = compared(tmp_path)
    again.run()
    left = len(world.calls)
    other, _ = compared(tmp_path, threads=2)  # other settings are other measurements
    other.run()
    assert len(world.calls) - left == left + 3
    assert len(other.report()["measurements"]) == 2 * (left + 3)  # all are kept, and one kind is told
    assert {e["times"]["step"]["n"] for e in other.report()["summary"]} == {2}


def test_a_full_disk_leaves_the_old_file(tmp_path, world, monkeypatch):
    comparing, _ = compared(tmp_path)
    comparing.run()
    file = tmp_path / "out" / "results.json"
    before = file.read_text()

    def full(path, write):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(results, "atomic_write", full)
    with pytest.raises(OSError, match="No space left"):
        compared(tmp_path, threads=2)[0].run()
    assert file.read_text() == before


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", '{"measurements": 3}', '[{"workload": "iris"}]'])
def test_a_damaged_file_is_named_and_left(tmp_path, text):
    (tmp_path / "out").mkdir()
    file = tmp_path / "out" / "results.json"
    file.write_text(text)
    with pytest.raises(FileFormatError, match=r"results\.json: expected a list of measurements"):
        compared(tmp_path)
    assert file.read_text() == text


def test_absent_frameworks_are_named(tmp_path, world):
    comparing, said = compared(tmp_path, pythons={"torch": str(tmp_path / "none")})
    comparing.run()
    assert {name for name, *_ in world.calls} == {"fluxion", "jax"}
    assert "cannot run" in comparing.report()["frameworks"]["torch"]["missing"]
    assert any("torch: not run here" in text and "fluxion compare setup torch" in text for text in said)


def test_as_published(tmp_path, world):
    comparing, _ = compared(tmp_path, protocol="as-published")
    comparing.run()
    assert {(name, part) for name, _, part in world.calls} == {("fluxion", "accuracy")}  # Flux.jl's variant
    document = comparing.report()
    assert document["runs"]["iris/Flux.jl"]["batches"] == "drawn once"
    assert entry(document, "fluxion")["variant"] == "Flux.jl"
    assert export.published(document, "iris")[1][0][:3] == ["Flux.jl", "fluxion", "0.9500"]
    world.bad["fluxion"] = lambda answer: {"error": "it broke"}
    again, _ = compared(tmp_path, protocol="as-published", threads=2)
    again.run()
    told = export.conclusions(again.report(), "iris")
    assert any("Adam forgets its state" in line for line in told)
    assert told[-1] == "fluxion train: it broke"


def test_wrong_words():
    with pytest.raises(ArgumentError, match="Did you mean 'iris'"):
        protocol.Settings(("irsi",))
    with pytest.raises(ArgumentError, match="Did you mean 'torch'"):
        protocol.Settings(("iris",), ("troch",))
    with pytest.raises(ArgumentError, match="fair or as-published"):
        protocol.Settings(("iris",), protocol="unfair")
    with pytest.raises(ArgumentError, match="char-lstm has no settings"):
        protocol.Settings(("char-lstm",), protocol="as-published")
