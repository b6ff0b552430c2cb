"""The folder of a run: what is in it, when it is refused, and what an accident leaves."""

import errno
import json
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from resume_help import Stop, X, Y, assert_equal, loader, run
from training_help import in_batches

import fluxion as fx
from fluxion.io.tensors import open_tensors, write_tensors
from fluxion.train import checkpoint as checkpoint_module


def plain(folder, data=None, model=None, **options):
    """A short run of a small network, without anything that costs time."""
    fx.seed(0)
    model = fx.Dense(4, 3) if model is None else model
    data = in_batches(X[:32], Y[:32]) if data is None else data
    options = {"loss": fx.logitcrossentropy, "epochs": 2, "optimizer": fx.Adam(1e-2), "seed": 3} | options
    return fx.fit(model, data, run=folder, progress=False, **options), model


def checkpoints(folder):
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def test_what_is_in_the_folder(tmp_path):
    history, model = plain(tmp_path / "deep" / "a", epochs=3, callbacks=[fx.Checkpoint(epochs=1, keep=2)])
    folder = tmp_path / "deep" / "a"
    assert sorted(p.name for p in folder.iterdir()) == [
        "checkpoints",
        "config.json",
        "metrics.csv",
        "model.safetensors",
    ]
    assert checkpoints(folder) == ["step-000000008.safetensors", "step-000000012.safetensors"]
    config = json.loads((folder / "config.json").read_text())
    assert config["optimizer"] == "Adam(0.01)"
    assert config["parameters"] == {"weight": "float32(4, 3)", "bias": "float32(3,)"}
    assert fx.History.from_csv(folder / "metrics.csv").rows == history.rows
    np.testing.assert_array_equal(fx.load(folder / "model.safetensors").weight, model.weight)


def test_a_complete_run_is_given_back_and_a_longer_one_goes_on(tmp_path):
    whole = run(tmp_path / "whole", loader(), epochs=3)
    short = run(tmp_path / "a", loader(), epochs=2)
    assert_equal(run(tmp_path / "a", loader(left=0), epochs=2), short)
    assert_equal(run(tmp_path / "a", loader(), epochs=3), whole)
    with pytest.raises(fx.ArgumentError, match=r"epochs=3 or more, .* got 2"):
        run(tmp_path / "a", loader(), epochs=2)


def test_the_ready_callbacks_go_on(tmp_path):
    def callbacks(folder):
        folder.mkdir(exist_ok=True)
        return [
            fx.ReduceOnPlateau("validation_loss", patience=1, min_delta=0.2, factor=0.5),
            fx.EarlyStopping("validation_accuracy", mode="max", patience=3, min_delta=0.05, restore_best=True),
            fx.CSVLogger(folder / "log.csv"),
        ]

    results = []
    for folder, stops in ((tmp_path / "a", []), (tmp_path / "b", [2, 6, 9])):
        for left in stops:
            with pytest.raises(Stop):
                run(folder, loader(left=left), epochs=12, callbacks=callbacks(tmp_path / "logs"))
        followers = callbacks(tmp_path / "logs")
        results.append(run(folder, loader(), epochs=12, callbacks=followers))
        assert (
            fx.History.from_csv(tmp_path / "logs" / "log.csv").rows == fx.History.from_csv(folder / "metrics.csv").rows
        )
        results[-1] += (followers[1].best, followers[1].best_epoch, followers[1].waited, followers[0].best)
    assert_equal(results[1], results[0])
    assert results[0][2] < 1e-2  # the rate was reduced
    assert len(results[0][3]) < 13  # and the run stopped early


def test_what_callbacks_change_in_the_optimizer_is_kept(tmp_path):
    def change(context):
        if context.epoch == 1:
            fx.freeze(context.opt, "layers[1]")
            fx.adjust(context.opt, beta=(0.5, 0.9))
            fx.adjust(context.opt, 0.5, at="layers[4]")

    whole = run(tmp_path / "whole", loader(), callbacks=[change])
    with pytest.raises(Stop):
        run(tmp_path / "a", loader(left=8), callbacks=[change])
    assert_equal(run(tmp_path / "a", loader(), callbacks=[change]), whole)


def test_in_one_session_the_very_same_objects_go_on(tmp_path):
    whole, expected = plain(tmp_path / "whole")
    model, data = fx.Dense(4, 3), in_batches(X[:32], Y[:32])
    fx.seed(0)
    model = fx.Dense(4, 3)
    opt = fx.setup(fx.Adam(1e-2), model)

    def stop(context):
        if context.epoch == 1 and not context.resumed:
            fx.adjust(context.opt, 1e-2)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        plain(tmp_path / "a", data, model, optimizer=opt, callbacks=[stop])
    assert len(caught.value.history) == 1
    history, _ = plain(tmp_path / "a", data, model, optimizer=opt, callbacks=[stop])
    np.testing.assert_array_equal(model.weight, expected.weight)
    assert history["loss"] == whole["loss"]


def test_seeds_that_were_drawn_are_those_of_the_run(tmp_path):
    def go(folder, seed, left=1000):
        fx.seed(seed)
        model, data = fx.Dense(4, 3, init=fx.ones), loader(left, seed=None)
        plain(tmp_path / folder, data, model, seed=None)
        return np.array(model.weight)

    whole = go("whole", 1)
    with pytest.raises(Stop):
        go("a", 1, left=7)
    np.testing.assert_array_equal(go("a", 2), whole)
    assert (go("b", 2) != whole).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer": fx.Adam(1e-3)}, r"optimizer was Adam\(0.01\) and is Adam\(0.001\)"),
        ({"seed": 4}, "seed was 3 and is 4"),
        ({"data": in_batches(X, Y)}, "batches was 4 and is 5"),
        ({"model": fx.Dense(4, 3, bias=False)}, r"bias was float32\(3,\) and is not there"),
        ({"model": fx.Dense(4, 3, fx.tanh)}, r"model was Dense\(4, 3\) and is Dense\(4, 3, tanh\)"),
        ({"metrics": [fx.accuracy]}, r"metrics was \[\] and is \['accuracy'\]"),
        ({"data": fx.DataLoader((X, Y), batch_size=8)}, "data was list and is DataLoader"),
    ],
)
def test_the_run_of_something_else_is_refused(tmp_path, change, message):
    plain(tmp_path / "a")
    model = change.get("model") or fx.Dense(4, 3)
    before = np.array(model.weight)
    with pytest.raises(fx.StateError, match=message):
        plain(tmp_path / "a", **{"model": model, **change, "epochs": 3})
    np.testing.assert_array_equal(model.weight, before)


def test_other_callbacks_are_refused(tmp_path):
    plain(tmp_path / "a")
    with pytest.raises(fx.StateError, match=r"expected those the run was saved with, \[\], got \[CSVLogger\]"):
        plain(tmp_path / "a", epochs=3, callbacks=[fx.CSVLogger(tmp_path / "x.csv")])


def test_what_is_no_run_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"format": "mine"}')
    (tmp_path / "empty").mkdir()
    for name, message in (("file", "is a file"), ("other", "holds something else")):
        with pytest.raises(fx.ArgumentError, match=message):
            plain(tmp_path / name)
    plain(tmp_path / "empty")
    with pytest.raises(fx.ArgumentError, match="expected a folder for Checkpoint"):
        plain(None, callbacks=[fx.Checkpoint(every=3)])
    with pytest.raises(fx.ArgumentError, match="one Checkpoint at most, got 2"):
        plain(tmp_path / "b", callbacks=[fx.Checkpoint(), fx.Checkpoint()])
    with pytest.raises(fx.ArgumentError, match="every to be a whole number"):
        fx.Checkpoint(every=0)


# ---------------------------------------------------------------------------------------------- accidents


def rewritten(path, change, seal=True):
    """The checkpoint with its arrays changed, and a checksum that is right."""
    with open_tensors(path) as (stored, metadata):
        arrays = {name: np.asarray(array) for name, array in stored.items()}
    change(arrays)
    if seal:
        metadata["crc32"] = f"{checkpoint_module._checksum(arrays):08x}"
    with open(path, "wb") as file:
        write_tensors(file, arrays, metadata)


def described(**changes):
    def change(arrays):
        said = json.loads(arrays["description"].tobytes()) | changes
        arrays["description"] = np.frombuffer(json.dumps(said).encode(), np.uint8)

    return change


DAMAGES = [
    (lambda p: rewritten(p, lambda arrays: arrays["model/weight"].fill(1), seal=False), "checksum"),
    (lambda p: p.write_bytes(p.read_bytes()[:-5]), "truncated"),
    (lambda p: p.write_bytes(b"\x80\x05pickle"), "pickle"),
    (lambda p: p.write_bytes(b""), "an empty file"),
    (lambda p: fx.save(p, fx.Dense(2, 2)), "another safetensors file"),
    (lambda p: rewritten(p, lambda arrays: arrays.pop("sizes")), "'sizes' of 1 axes, got none"),
    (lambda p: rewritten(p, described(finished=2)), "one row for each"),
    (lambda p: rewritten(p, described(step=-1)), "'step' in the description"),
    (lambda p: rewritten(p, described(random=[1, 2])), "'random' in the description"),
    (lambda p: rewritten(p, described(callbacks=None)), "'callbacks' in the description"),
    (lambda p: rewritten(p, described(callbacks={"callbacks": [["Evil"]]})), "'callbacks' in the description"),
    (lambda p: rewritten(p, lambda a: a.update(description=np.zeros(9, np.uint8))), "JSON for the description"),
]


def test_a_damaged_checkpoint_is_refused_and_the_one_before_offered(tmp_path):
    folder = tmp_path / "a"
    whole, expected = plain(folder, epochs=3, callbacks=[fx.Checkpoint(epochs=1)])
    newest = folder / "checkpoints" / "step-000000012.safetensors"
    sound = newest.read_bytes()
    for damage, message in DAMAGES:
        damage(newest)
        with pytest.raises(fx.FileFormatError, match=message) as caught:
            plain(folder, epochs=3)
        assert "Remove it to go on from the one before, step-000000008.safetensors." in str(caught.value)
        newest.write_bytes(sound)
    newest.unlink()
    history, model = plain(folder, epochs=3)
    np.testing.assert_array_equal(model.weight, expected.weight)
    assert history["loss"] == whole["loss"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda a: a.update({"model/weight": np.zeros((4, 4), np.float32)}),
            r"expected float32\(4, 3\), got float32\(4, 4\)",
        ),
        (lambda a: a.update({"model/bias": np.zeros(3, np.float64)}), "got float64"),
        (lambda a: a.pop("optimizer/0"), r"optimizer/0: expected .*, got missing"),
        (described(settings={"rates": [1.0]}), "expected settings of Adam"),
        (described(callbacks={"callbacks": [["Evil", {}]]}), r"\[Evil\], got \[\]"),
    ],
)
def test_a_checkpoint_that_does_not_fit_changes_nothing(tmp_path, change, message):
    plain(tmp_path / "a")
    rewritten(tmp_path / "a" / "checkpoints" / "step-000000008.safetensors", change)
    model = fx.Dense(4, 3)
    before = np.array(model.weight)
    with pytest.raises(fx.StateError, match=message):
        plain(tmp_path / "a", model=model)
    np.testing.assert_array_equal(model.weight, before)


def test_a_full_disk_loses_nothing(tmp_path, monkeypatch):
    whole, expected = plain(tmp_path / "whole", epochs=3)
    folder, callbacks = tmp_path / "a", [fx.Checkpoint(epochs=1)]
    write = checkpoint_module.write_tensors

    def full(file, arrays, metadata):
        write(file, arrays, metadata)
        if len(fx.History.from_text(np.asarray(arrays["history"]).tobytes(), "")) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_module, "write_tensors", full)
        with pytest.raises(
            OSError, match=r"step 8 was not written, and step-000000004.safetensors, .*, is whole"
        ) as caught:
            plain(folder, epochs=3, callbacks=callbacks)
    assert caught.value.errno == errno.ENOSPC and not hasattr(caught.value, "__notes__")
    assert checkpoints(folder) == ["step-000000004.safetensors"]
    history, model = plain(folder, epochs=3, callbacks=callbacks)
    np.testing.assert_array_equal(model.weight, expected.weight)
    assert history["loss"] == whole["loss"]


def test_states_that_are_no_json_are_named(tmp_path):
    class Odd(fx.Callback):
        def state(self):
            return {"loss": float("nan")}

    with pytest.raises(fx.ArgumentError, match="expected states of callbacks that fit JSON"):
        plain(tmp_path / "a", callbacks=[Odd()])


def test_what_a_killed_write_left_is_removed(tmp_path):
    plain(tmp_path / "a")
    left = tmp_path / "a" / "checkpoints" / ".0123456789abcdef.tmp"
    left.write_bytes(b"half")
    plain(tmp_path / "a", epochs=3)
    assert not left.exists()


SCRIPT = """
    import os, signal, sys
    sys.path[:0] = {paths}
    from pathlib import Path
    import resume_help, fluxion as fx
    from fluxion.train import checkpoint

    write = checkpoint.write_tensors
    def killed(file, arrays, metadata):
        write(file, arrays, metadata)
        if len(os.listdir(Path({folder!r}, "checkpoints"))) == 3:  # two of the past, and this one
            file.truncate(1000)
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoint.write_tensors = killed
    resume_help.run(Path({folder!r}), resume_help.loader(), callbacks=[fx.Checkpoint(every=4)])
"""


def test_a_process_that_is_killed_while_it_writes_goes_on(tmp_path):
    whole = run(tmp_path / "whole", loader(), callbacks=[fx.Checkpoint(every=4)])
    folder = tmp_path / "a"
    code = textwrap.dedent(SCRIPT).format(paths=[str(Path(__file__).parent)], folder=str(folder))
    process = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, check=False)
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()
    unfinished, *whole_ones = checkpoints(folder)
    assert unfinished.endswith(".tmp") and whole_ones == ["step-000000004.safetensors", "step-000000008.safetensors"]
    assert_equal(run(folder, loader(), callbacks=[fx.Checkpoint(every=4)]), whole)
    assert checkpoints(folder) == ["step-000000016.safetensors", "step-000000020.safetensors"]
