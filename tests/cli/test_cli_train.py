"""`fluxion train`: what is said, kept, refused, and repeated to the bit."""

import csv
import json
import math

import numpy as np
import polars as pl
import pytest
from small_tables import animals, prices, write_csv

import fluxion as fx
from fluxion.cli.tables import Source, divide
from fluxion.io.files import read_metadata


def test_a_classification_says_what_it_does_and_keeps_it(shelf):
    said = (shelf / "animals.txt").read_text()
    assert "80 rows, 4 columns" in said
    assert "kind: classification with 3 classes (ant 22, bee 21, cat 21)" in said
    assert "64 rows for training, 16 for validation (every class in proportion)" in said
    assert "id: not used, whole numbers that count the rows" in said
    assert "epoch 30/30  loss" in said and "\x1b" not in said and "\r" not in said
    assert "precision  recall" in said and "true, predicted as:  ant  bee  cat" in said
    assert f"fluxion predict {shelf / 'animals'} NEW.csv" in said
    names = {"config.json", "metrics.csv", "model.safetensors", "loss.png", "accuracy.png", "confusion.png"}
    assert {path.name for path in (shelf / "animals").iterdir()} == names
    for picture in (shelf / "animals").glob("*.png"):
        assert picture.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_a_regression_has_its_own_pictures(shelf):
    said = (shelf / "prices.txt").read_text()
    assert "price: regression, mean" in said and "(drawn at random)" in said
    assert "MAE" in said and "RMSE" in said and "R2" in said and "precision" not in said
    names = {"config.json", "metrics.csv", "model.safetensors", "loss.png", "mae.png", "prediction.png"}
    assert {path.name for path in (shelf / "prices").iterdir()} == names


def test_the_folder_holds_settings_and_metrics(shelf):
    config = json.loads((shelf / "animals" / "config.json").read_text())
    assert config["target"] == "kind" and config["task"] == "classification" and config["seed"] == 0
    assert config["classes"] == ["ant", "bee", "cat"] and config["rows"] == {"training": 64, "validation": 16}
    assert config["trained"] == {"epochs": 30, "steps": 60, "complete": True}
    history = fx.History.from_csv(shelf / "animals" / "metrics.csv")
    assert len(history) == 30
    assert {"epoch", "loss", "accuracy", "validation_loss", "validation_accuracy"} <= set(history.names)
    metadata = read_metadata(shelf / "animals" / "model.safetensors")
    assert fx.TableEncoder.from_json(metadata["encoder"]).classes == ("ant", "bee", "cat")


def test_the_columns_of_a_regression_are_in_the_units_of_the_target(shelf):
    history = fx.History.from_csv(shelf / "prices" / "metrics.csv")
    # Standardized errors are below 3; those of prices are hundreds at first.
    assert history["mae"][0] > 100


def test_json_is_one_object_alone_on_stdout(cli, tmp_path):
    result = cli("train", "iris", "--epochs", 2, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["run"] == "runs/iris-1" and found["target"] == "species" and found["epochs"] == 2
    assert found["validation"]["rows"] == 30 and 0 <= found["validation"]["metrics"]["accuracy"] <= 1
    assert np.sum(found["validation"]["confusion"]) == 30
    assert [entry["class"] for entry in found["validation"]["classes"]] == ["setosa", "versicolor", "virginica"]
    assert all((tmp_path / path).is_file() for path in found["files"].values())
    assert "epoch 2/2" in result.stderr


def test_runs_are_numbered(cli, tmp_path):
    for _ in range(2):
        assert cli("train", "iris", "--epochs", 1, "--validation", 0, "--model", "linear").exit_code == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["iris-1", "iris-2"]


def test_the_same_seed_gives_the_same_file(cli, tmp_path):
    header, rows = animals()
    (tmp_path / "elsewhere").mkdir()
    for name in ("a.csv", "elsewhere/b.csv"):
        write_csv(tmp_path / name, header, rows)
    options = ("--target", "kind", "--epochs", 2, "--model", "linear")
    for out, table, seed in (("one", "a.csv", 3), ("two", "elsewhere/b.csv", 3), ("three", "a.csv", 4)):
        assert cli("train", table, *options, "--seed", seed, "--out", out).exit_code == 0
    one, two, three = ((tmp_path / out / "model.safetensors").read_bytes() for out in ("one", "two", "three"))
    assert one == two and one != three


def test_nothing_leaks_from_the_held_out_rows(cli, tmp_path):
    header, rows = prices(40)
    write_csv(tmp_path / "a.csv", header, rows)
    frame = fx.read_table(tmp_path / "a.csv")
    source = Source("a", "a.csv", frame, None)
    parts = divide(source, "price", task=None, validation=0.3, stratify=None, seed=0)
    assert parts.training.height == 28
    column = next(c for c in parts.encoder.columns if c.name == "a")
    assert math.isclose(column.mean, parts.training["a"].mean(), rel_tol=1e-12)
    held = {tuple(row) for row in parts.validation.rows()}
    changed = [
        [99.5, 77.25, 1234.5] if tuple(map(float, row)) in held else row for row in rows
    ]  # the counters and the task stay as they are
    write_csv(tmp_path / "b.csv", header, changed)
    for name in ("a", "b"):
        result = cli("train", f"{name}.csv", "--target", "price", "--validation", "0.3", "--epochs", 2, "--out", name)
        assert result.exit_code == 0, result.output
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()


def test_a_linear_model_finds_least_squares(cli, tmp_path):
    header, rows = prices()
    write_csv(tmp_path / "p.csv", header, rows)
    args = ("--model", "linear", "--validation", 0, "--epochs", 60, "--batch-size", 80, "--optimizer", "DESCENT")
    result = cli("train", "p.csv", "--target", "price", *args, "--out", "run", "--json")
    assert result.exit_code == 0, result.output
    values = np.array(rows, dtype=float)
    design = np.column_stack([values[:, :2], np.ones(len(values))])
    residual = values[:, 2] - design @ np.linalg.lstsq(design, values[:, 2], rcond=None)[0]
    metrics = json.loads(result.stdout)["training"]["metrics"]
    assert metrics["rmse"] == pytest.approx(np.sqrt(np.mean(residual**2)), rel=1e-2)
    assert metrics["r2"] == pytest.approx(1 - np.var(residual) / np.var(values[:, 2]), abs=1e-6)
    assert "validation" not in json.loads(result.stdout)


def test_validation_may_be_a_file(cli, tmp_path):
    write_csv(tmp_path / "t.csv", *animals(30))
    write_csv(tmp_path / "v.tsv", *animals(12, seed=5))
    result = cli("train", "t.csv", "--target", "kind", "--validation", "v.tsv", "--epochs", 1)
    assert result.exit_code == 0, result.output
    assert "30 rows for training, 12 for validation (v.tsv)" in result.stdout
    header, rows = animals(12)
    write_csv(tmp_path / "w.csv", header, [[*rows[0][:3], "dog"], *rows[1:]])
    result = cli("train", "t.csv", "--target", "kind", "--validation", "w.csv", "--epochs", 1)
    assert result.exit_code == 1
    assert result.stderr == "Error: w.csv: kind: expected one of the classes ant, bee, cat, got 'dog' in row 0.\n"


def test_numbers_are_left_as_they_are_when_asked(cli, tmp_path):
    result = cli("train", "iris", "--epochs", 1, "--no-standardize", "--out", "raw")
    assert result.exit_code == 0, result.output
    encoder = fx.TableEncoder.from_json(read_metadata("raw/model.safetensors")["encoder"])
    frame = fx.read_table(fx.datasets.path("iris"))
    np.testing.assert_array_equal(encoder.features(frame), fx.datasets.iris().features)


def test_a_class_too_rare_to_hold_out_stays_in_training():
    labels = ["a"] * 10 + ["b"] * 10 + ["c"]
    frame = pl.DataFrame({"x": np.arange(21.0) ** 1.5, "y": labels})
    for seed in range(12):
        for stratify in (None, False):
            parts = divide(Source("t", "t", frame, None), "y", task=None, validation=0.4, stratify=stratify, seed=seed)
            assert "c" in parts.encoder.classes and "c" not in parts.validation["y"].to_list()
            assert parts.training.height + parts.validation.height == 21


def test_stratified_parts_keep_the_proportions():
    frame = pl.DataFrame({"x": np.arange(100.0) ** 1.5, "y": ["a"] * 90 + ["b"] * 10})
    parts = divide(Source("t", "t", frame, None), "y", task=None, validation=0.3, stratify=None, seed=0)
    assert parts.validation["y"].to_list().count("b") == 3 and parts.validation.height == 30


def test_rows_without_a_target_are_left_out(cli, tmp_path):
    header, rows = animals(30)
    write_csv(tmp_path / "t.csv", header, [*rows, ["1.0", "no", 31, ""]])
    result = cli("train", "t.csv", "--target", "kind", "--epochs", 1)
    assert result.exit_code == 0, result.output
    assert "1 row left out: kind is missing" in result.stdout


def test_the_task_can_be_said(cli, tmp_path):
    write_csv(tmp_path / "t.csv", ["x", "stars"], [[i**1.5, i % 5] for i in range(40)])
    options = ("--target", "stars", "--epochs", 1, "--model", "linear")
    assert "stars: classification with 5 classes" in cli("train", "t.csv", *options).stdout
    result = cli("train", "t.csv", *options, "--task", "regression")
    assert "stars: regression" in result.stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["t.csv"], "say which column of t.csv to predict. Its columns: size, wings, id, kind."),
        (
            ["t.csv", "--target", "knd"],
            "no column 'knd'. Its columns: size, wings, id, kind. Did you mean 'kind'?",
        ),
        (["iris", "--optimizer", "adm"], "got 'adm'. Did you mean 'adam'?"),
        (["iris", "--optimizer", "SGD"], "Did you mean 'descent'?"),
        (["iris", "--learning-rate", "-1"], "expected a number above 0, got -1.0."),
        (["iris", "--learning-rate", "nan"], "expected a number above 0, got nan."),
        (["iris", "--hidden", "32,x"], "expected sizes such as 32,16 or 64, got '32,x'."),
        (["iris", "--hidden", "0"], "expected sizes such as 32,16"),
        (["iris", "--hidden", "8", "--model", "linear"], "are for --model mlp, not linear."),
        (["iris", "--model", "lineer"], "got 'lineer'. Did you mean 'linear'?"),
        (["iris", "--model", "gone.py:make"], "there is no file gone.py."),
        (["iris", "--validation", "1"], "expected a share from 0 to below 1, or a file, got 1."),
        (["iris", "--validation", "0", "--stratify"], "nothing is cut off the table; leave it out."),
        (["iris", "--target", "petal_width", "--stratify"], "classes are kept in proportion, petal_width is a number."),
        (["iris", "--task", "clasification"], "got 'clasification'. Did you mean 'classification'?"),
        (["iris", "--epochs", "0"], "--epochs"),
        (["iris", "--out", "t.csv"], "expected a folder, t.csv is a file."),
        (["iris", "--out", "full"], "full is not empty. Use another folder, or --overwrite."),
        (["iris", "--out", "full", "--overwrite"], "full is not empty and holds no run, so it is not overwritten."),
    ],
)
def test_usage_errors(cli, tmp_path, args, message):
    write_csv(tmp_path / "t.csv", *animals(9))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "config.json").write_text("{}")
    result = cli("train", *args)
    assert result.exit_code == 2
    assert message in result.stderr and result.stdout == ""
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["gone.csv"], "Error: gone.csv: expected a CSV, TSV or Parquet file, there is none of that name."),
        (["irs"], "there is none. Did you mean 'iris'?"),
        (["tinyshakespeare"], "Error: tinyshakespeare: expected a table or images, this data set is neither."),
        (["ragged.csv", "--target", "b"], "expected 2 cells in every line, as in the header, got 3 in line 3."),
        (["one.csv", "--target", "b"], "Error: one.csv: b: expected at least two classes, every row has 'x'."),
        (["iris", "--validation", "gone.csv"], "Error: gone.csv: expected a CSV, TSV or Parquet file"),
    ],
)
def test_data_errors(cli, tmp_path, args, message):
    (tmp_path / "ragged.csv").write_text("a,b\n1,2\n1,2,3\n")
    (tmp_path / "one.csv").write_text("a,b\n1,x\n2,x\n")
    result = cli("train", *args)
    assert result.exit_code == 1
    assert message in result.stderr and result.stderr.count("\n") == 1
    assert result.stdout == "" and not (tmp_path / "runs").exists()


def test_control_characters_do_not_reach_the_terminal(drawing_cli, tmp_path):
    header, rows = animals()
    write_csv(tmp_path / "t.csv", header, [[*row[:3], row[3] + "\x1b[2J"] for row in rows])
    result = drawing_cli("train", "t.csv", "--target", "kind", "--epochs", 1)
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.output and "ant\\x1b[2J" in result.stdout


def test_a_run_is_replaced_only_when_asked(drawing_cli, tmp_path):
    assert drawing_cli("train", "iris", "--epochs", 1, "--out", "r").exit_code == 0
    first = (tmp_path / "r/model.safetensors").read_bytes()
    assert drawing_cli("train", "iris", "--epochs", 1, "--out", "r", "--seed", 1).exit_code == 2
    assert (tmp_path / "r/model.safetensors").read_bytes() == first
    write_csv(tmp_path / "p.csv", *prices(20))
    result = drawing_cli("train", "p.csv", "--target", "price", "--epochs", 1, "--out", "r", "--overwrite")
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "r/confusion.png").exists() and (tmp_path / "r/prediction.png").exists()


def test_a_diverging_training_keeps_the_last_good_step(cli, tmp_path):
    result = cli("train", "iris", "--optimizer", "descent", "--learning-rate", "1e20", "--epochs", 5, "--out", "r")
    assert result.exit_code == 1
    assert "Training stopped in epoch 1: r keeps the model of step" in result.stderr
    assert "Error: the loss of step" in result.stderr and "Traceback" not in result.output
    config = json.loads((tmp_path / "r/config.json").read_text())
    assert config["trained"]["complete"] is False and config["trained"]["steps"] >= 1
    assert np.isfinite(fx.load(tmp_path / "r/model.safetensors")[0].weight).all()


MODEL = """
import fluxion as fx
from neighbor import WIDTH

class Residual(fx.Layer):
    def __init__(self, width):
        self.inner = fx.Dense(width, width, fx.relu)

    def __call__(self, x):
        return x + self.inner(x)

def make(inputs, outputs):
    return fx.Chain(fx.Dense(None, WIDTH), Residual(WIDTH), fx.Dense(WIDTH, outputs))

def plain(inputs, outputs):
    return fx.Chain(fx.Dense(inputs, outputs))

def wrong(inputs, outputs):
    return fx.Dense(inputs, 7)

def broken(inputs, outputs):
    return nothing_of_the_kind

def number(inputs, outputs):
    return 3
"""


def test_a_model_of_ones_own(cli, tmp_path):
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "neighbor.py").write_text("WIDTH = 6\nprint('imported')\n")
    result = cli("train", "iris", "--model", "model.py:make", "--epochs", 1, "--out", "r", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["parameters"] == (4 * 6 + 6) + (6 * 6 + 6) + (6 * 3 + 3)
    assert f"Executing {tmp_path / 'model.py'} for the model of its function make." in result.stderr
    trained = json.loads(result.stdout)["validation"]["metrics"]

    result = cli("evaluate", "r", "iris", "--json")
    assert result.exit_code == 0, result.output
    assert "Executing" in result.stderr
    assert json.loads(result.stdout)["rows"] == 150 and trained["accuracy"] <= 1

    (tmp_path / "model.py").rename(tmp_path / "moved.py")
    result = cli("evaluate", "r", "iris")
    assert result.exit_code == 1
    assert "which is not there any more. Say where it is: --model FILE.py:make." in result.stderr
    assert cli("predict", "r", "iris", "--model", "moved.py:make").exit_code == 0
    result = cli("predict", "r", "iris", "--model", "moved.py:plain")
    assert result.exit_code == 1 and "loadmodel: the arrays do not fit the model" in result.stderr

    # A folder that brings its own code along is refused.
    (tmp_path / "moved.py").rename(tmp_path / "r" / "model.py")
    config = json.loads((tmp_path / "r/config.json").read_text())
    for file in (str(tmp_path / "r" / "model.py"), "r/model.py"):
        config["model"]["file"] = file
        (tmp_path / "r/config.json").write_text(json.dumps(config))
        result = cli("predict", "r", "iris")
        assert result.exit_code == 1 and "is not executed unasked" in result.stderr


def test_a_model_of_library_layers_needs_no_file_to_predict(cli, tmp_path):
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "neighbor.py").write_text("WIDTH = 6\n")
    assert cli("train", "iris", "--model", "model.py:plain", "--epochs", 1, "--out", "r").exit_code == 0
    (tmp_path / "model.py").unlink()
    assert cli("evaluate", "r", "iris").exit_code == 0


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("wrong", "expected a model of (rows, 4) -> (rows, 3), it returns (None, 7)."),
        ("broken", "model.py, line 22: NameError: name 'nothing_of_the_kind' is not defined"),
        ("number", "expected it to return a model, something to call, got int."),
        ("mke", "expected a function mke(inputs, outputs), there is none. Did you mean 'make'?"),
    ],
)
def test_errors_of_a_model_of_ones_own(cli, tmp_path, function, message):
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "neighbor.py").write_text("WIDTH = 6\n")
    result = cli("train", "iris", "--model", f"model.py:{function}", "--epochs", 1)
    assert result.exit_code == 1
    assert message in result.stderr.replace("\n", " ") and "Traceback" not in result.output
    assert not (tmp_path / "runs").exists()


def test_a_syntax_error_is_named(cli, tmp_path):
    (tmp_path / "model.py").write_text("def make(inputs, outputs):\n    return (\n")
    result = cli("train", "iris", "--model", "model.py:make")
    assert result.exit_code == 1 and "model.py, line 2: SyntaxError:" in result.stderr


def test_metrics_csv_is_plain(shelf):
    with open(shelf / "prices" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == [str(i) for i in range(1, 31)]
