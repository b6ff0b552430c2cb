"""The command as a process: exit codes, streams, signals."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

import fluxion as fx
from fluxion import native

# A shell that puts pytest into the background has its children ignore Ctrl-C; the command is to hear of it.
START = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from fluxion.cli import main; main()"


def command(*args, code=START):
    return [sys.executable, "-c", code, *args]


def test_help_version_and_mistakes(cli):
    assert "train" in cli("--help").stdout and "--stratify" in cli("train", "--help").stdout
    assert cli("--version").stdout == f"fluxion {fx.__version__}\n"
    result = cli("trian")
    assert result.exit_code == 2 and "trian" in result.stderr


def test_module_and_info(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "fluxion", "info", "--json"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["versions"]["fluxion"] == fx.__version__ and found["devices"][0]["platform"]
    assert set(found["caches"]) == {"compiled programs", "data sets", "downloads"}
    assert found["native_kernels"] == native.status()


def test_info_for_people(cli, monkeypatch, tmp_path):
    monkeypatch.setenv("FLUXION_DATA", str(tmp_path))
    said = cli("info").stdout
    assert "jaxlib" in said and "cpu:0" in said and str(tmp_path) in said


def test_the_command_is_light_to_start():
    heavy = ("polars", "matplotlib", "optax", "rich.table")
    code = f"import sys, fluxion.cli; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert result.stdout == "[]\n"


def test_an_error_is_one_line_without_a_traceback(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "fluxion.cli", "evaluate", "nowhere", "iris"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr == "Error: nowhere: expected a run folder of fluxion train, there is none.\n"


def test_an_unforeseen_error_has_no_traceback_either(cli, monkeypatch):
    from fluxion.cli import info

    def fail():
        raise ZeroDivisionError("of all things")

    monkeypatch.setattr(sys.modules[info.__module__ if callable(info) else info.__name__], "_info", fail)
    result = cli("info")
    assert result.exit_code == 1
    assert result.stderr == "Error: ZeroDivisionError: of all things (Run again with --debug to see where.)\n"
    assert isinstance(cli("info", "--debug").exception, ZeroDivisionError)


def test_ctrl_c_keeps_what_was_learned(tmp_path):
    process = subprocess.Popen(
        command("train", "iris", "--epochs", "1000000", "--out", "r"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch       1/1000000"):
            break
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in out + err
    assert err.startswith("Interrupted in epoch ") and "r keeps the model of step" in err and err.count("\n") == 1
    names = {"config.json", "metrics.csv", "model.safetensors", "loss.png", "accuracy.png"}
    assert {path.name for path in (tmp_path / "r").iterdir()} == names
    config = json.loads((tmp_path / "r/config.json").read_text())
    assert config["trained"]["complete"] is False and config["trained"]["steps"] > 0
    assert len(fx.History.from_csv(tmp_path / "r/metrics.csv")) == config["trained"]["epochs"]
    assert len(fx.load(tmp_path / "r/model.safetensors")) == 3


def test_ctrl_c_before_the_first_step_leaves_nothing(cli, tmp_path, monkeypatch):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(fx, "fit", interrupted)
    result = cli("train", "iris", "--out", "r")
    assert result.exit_code == 130
    assert result.stderr.endswith("nothing was learned, and nothing is kept.\n") and not (tmp_path / "r").exists()


def test_ctrl_c_elsewhere(cli, monkeypatch):
    from fluxion.cli import runs

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "open_run", interrupted)
    result = cli("evaluate", "r", "iris")
    assert result.exit_code == 130 and result.stderr == "Interrupted.\n"


def test_ctrl_c_waits_for_what_must_not_be_interrupted():
    from fluxion.interrupts import uninterrupted

    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    done = False
    try:
        try:
            with uninterrupted():
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.01)
                done = True
        except KeyboardInterrupt:
            assert done
        else:
            raise AssertionError("Ctrl-C was lost")
    finally:
        signal.signal(signal.SIGINT, old)


def test_a_long_training_is_kept_now_and_then(cli, monkeypatch, tmp_path):
    from fluxion.cli import runs
    from fluxion.cli.train import train

    kept = []
    monkeypatch.setitem(train.__globals__, "KEEP_EVERY", 0.0)
    real = runs.keep
    monkeypatch.setattr(runs, "keep", lambda *args: (kept.append(args[3]["trained"]), real(*args)))
    assert cli("train", "iris", "--epochs", 3, "--model", "linear", "--out", "r").exit_code == 0
    assert [entry["epochs"] for entry in kept] == [1, 2, 3]
    assert [entry["complete"] for entry in kept] == [False, False, True]


def test_a_swallowed_ctrl_c_is_not_lost(capfd):
    from fluxion.cli.output import CtrlC

    class Finalized:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)  # where the handler runs, and its exception goes nowhere

    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with CtrlC() as ctrl_c:
            ctrl_c.check()
            thing = Finalized()
            del thing
            with pytest.raises(KeyboardInterrupt):
                ctrl_c.check()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, old)
    assert capfd.readouterr().err == ""
