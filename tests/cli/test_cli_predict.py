"""`fluxion evaluate` and `fluxion predict`, against the same numbers found by hand."""

import json

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file
from small_tables import animals, prices, write_csv

import fluxion as fx
from fluxion.io.files import read_metadata


def by_hand(run, columns):
    """The outputs of a `Dense, Dense, Dense` model of relu layers for features given as columns."""
    weights = load_file(run / "model.safetensors")
    x = np.column_stack(columns).astype(np.float64)
    for i in range(3):
        x = x @ weights[f"layers[{i}].weight"] + weights[f"layers[{i}].bias"]
        x = np.maximum(x, 0) if i < 2 else x
    return x


def encoding(run):
    document = read_metadata(run / "model.safetensors")["encoder"]
    return document["target"], {column["name"]: column for column in document["columns"]}


def test_predictions_of_a_regression_are_those_of_the_weights(cli, shelf, tmp_path):
    header, rows = prices(25, seed=9)
    write_csv(tmp_path / "new.csv", header[:2], [row[:2] for row in rows])
    result = cli("predict", shelf / "prices", "new.csv")
    assert result.exit_code == 0, result.output
    assert result.stdout == "25 predictions of price are in new.predictions.csv\n"
    written = pl.read_csv(tmp_path / "new.predictions.csv")
    assert written.columns == ["price"] and written.height == 25
    target, columns = encoding(shelf / "prices")
    values = np.array(rows, dtype=float)
    inputs = [(values[:, i] - columns[name]["mean"]) / columns[name]["std"] for i, name in enumerate("ab")]
    expected = by_hand(shelf / "prices", inputs)[:, 0] * target["std"] + target["mean"]
    assert np.abs(written["price"].to_numpy() - expected).max() < 1e-5 * target["std"]


def test_predictions_of_a_classification_are_those_of_the_weights(cli, shelf, tmp_path):
    header, rows = animals(24, seed=8)
    rows = [["", "sometimes", 1, ""], *rows]  # a category that training did not hold
    write_csv(tmp_path / "new.csv", header[:3], [row[:3] for row in rows])
    result = cli("predict", shelf / "animals", "new.csv", "--out", "p.csv", "--keep", "wings", "--keep", "id")
    assert result.exit_code == 0, result.output
    written = pl.read_csv(tmp_path / "p.csv")
    names = ["ant", "bee", "cat"]
    assert written.columns == ["wings", "id", "kind", *(f"probability_{name}" for name in names)]
    assert written["id"].to_list() == [row[2] for row in rows]
    _, columns = encoding(shelf / "animals")
    size = columns["size"]
    sizes = np.array([float(row[0]) if row[0] else size["median"] for row in rows])
    assert columns["wings"]["categories"] == ["no", "yes", None]
    hot = [[float(row[1] == value) for row in rows] for value in ("no", "yes", "")]
    scores = by_hand(shelf / "animals", [(sizes - size["mean"]) / size["std"], *hot])
    expected = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    got = written.select(pl.col("^probability_.*$")).to_numpy()
    assert np.abs(got - expected).max() < 1e-5
    assert written["kind"].to_list() == [names[i] for i in expected.argmax(1)]


def test_predictions_go_to_stdout_alone(cli, shelf):
    result = cli("predict", shelf / "animals", shelf / "animals.csv", "--out", "-")
    assert result.exit_code == 0 and result.stderr == ""
    assert pl.read_csv(result.stdout.encode()).height == 80


def test_predict_as_json(cli, shelf, tmp_path):
    found = json.loads(cli("predict", shelf / "prices", shelf / "prices.csv", "--out", "p.csv", "--json").stdout)
    assert found["rows"] == 80 and found["out"] == "p.csv" and found["columns"] == ["price"]
    assert (tmp_path / "p.csv").is_file()


def test_evaluate_agrees_with_the_predictions(cli, shelf, tmp_path):
    found = json.loads(cli("evaluate", shelf / "animals", shelf / "animals.csv", "--json").stdout)
    cli("predict", shelf / "animals", shelf / "animals.csv", "--out", "p.csv")
    written = pl.read_csv(tmp_path / "p.csv")
    predicted = written["kind"].to_numpy()
    true = pl.read_csv(shelf / "animals.csv")["kind"].to_numpy()
    names = ["ant", "bee", "cat"]
    matrix = [[int(((true == a) & (predicted == b)).sum()) for b in names] for a in names]
    assert found["confusion"] == matrix and found["rows"] == 80
    assert found["metrics"]["accuracy"] == pytest.approx((true == predicted).mean())
    chances = [row[f"probability_{name}"] for row, name in zip(written.rows(named=True), true, strict=True)]
    assert found["metrics"]["loss"] == pytest.approx(-np.log(chances).mean(), rel=1e-5)
    for entry in found["classes"]:
        name = entry["class"]
        hits = ((true == name) & (predicted == name)).sum()
        assert entry["recall"] == pytest.approx(hits / (true == name).sum())
        assert entry["precision"] == pytest.approx(hits / max(1, (predicted == name).sum()))


def test_evaluate_a_regression_in_the_units_of_the_target(cli, shelf, tmp_path):
    result = cli("evaluate", shelf / "prices", shelf / "prices.csv", "--json")
    metrics = json.loads(result.stdout)["metrics"]
    cli("predict", shelf / "prices", shelf / "prices.csv", "--out", "p.csv")
    true = pl.read_csv(shelf / "prices.csv")["price"].to_numpy()
    error = pl.read_csv(tmp_path / "p.csv")["price"].to_numpy() - true
    assert metrics["mae"] == pytest.approx(np.abs(error).mean(), rel=1e-5)
    assert metrics["rmse"] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-5)
    assert metrics["r2"] == pytest.approx(1 - (error**2).sum() / ((true - true.mean()) ** 2).sum(), rel=1e-5)
    assert "MAE" in cli("evaluate", shelf / "prices", shelf / "prices.csv").stdout


def test_evaluate_prints_classes_and_confusions(cli, shelf):
    said = cli("evaluate", shelf / "animals", shelf / "animals.csv").stdout
    assert "kind  precision  recall     F1  rows" in said and "true, predicted as:  ant  bee  cat" in said


def test_a_number_that_json_does_not_have_is_null(cli, shelf, tmp_path):
    header, rows = prices(1)
    write_csv(tmp_path / "one.csv", header, rows)
    found = json.loads(cli("evaluate", shelf / "prices", "one.csv", "--json").stdout)
    assert found["metrics"]["r2"] is None


def test_rows_without_a_target_are_left_out(cli, shelf, tmp_path):
    header, rows = animals(6)
    write_csv(tmp_path / "t.csv", header, [[*rows[0][:3], ""], *rows[1:]])
    result = cli("evaluate", shelf / "animals", "t.csv")
    assert result.exit_code == 0 and "1 rows left out: kind is missing" in result.stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["{shelf}/animls", "{shelf}/animals.csv"],
            "there is none. Did you mean 'animals'?",
        ),
        (["empty", "{shelf}/animals.csv"], "expected a run folder with model.safetensors, it has none."),
        (["{shelf}/animals", "{shelf}/prices.csv"], "expected a column 'size', the columns are a, b, price."),
        (["{shelf}/animals", "text.csv"], "text.csv: size: expected a number, got 'large' in row 1."),
        (["other", "{shelf}/animals.csv"], "expected a model of fluxion train, it holds no encoder of data."),
        (["damaged", "{shelf}/animals.csv"], "damaged/model.safetensors"),
        (["{shelf}/animals", "gone.csv"], "gone.csv: expected a CSV, TSV or Parquet file"),
        (["{shelf}/animals", "{shelf}/animals.csv", "--keep", "sise"], "--keep: expected a column 'sise'"),
        (["{shelf}/animals", "{shelf}/animals.csv", "--keep", "kind"], "--keep kind: the predictions have a column"),
        (["{shelf}/animals", "{shelf}/animals.csv", "--out", "no/such/folder.csv"], "no/such/folder.csv"),
    ],
)
def test_errors(cli, shelf, tmp_path, args, message):
    (tmp_path / "text.csv").write_text("size,wings\n1,no\nlarge,no\n")
    for name in ("empty", "other", "damaged"):
        (tmp_path / name).mkdir()
    fx.save(tmp_path / "other/model.safetensors", fx.Dense(2, 2))
    whole = (shelf / "animals/model.safetensors").read_bytes()
    (tmp_path / "damaged/model.safetensors").write_bytes(whole[: len(whole) // 2])
    result = cli("predict", *(arg.format(shelf=shelf) for arg in args))
    assert result.exit_code == 1
    assert message in result.stderr and result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
    assert result.stdout == "" and not (tmp_path / "animals.predictions.csv").exists()


def test_usage_errors(cli, shelf, tmp_path):
    table = write_csv(tmp_path / "t.csv", *animals(6))
    result = cli("predict", shelf / "animals", table, "--out", table)
    assert result.exit_code == 2 and "is the table itself" in result.stderr
    result = cli("predict", shelf / "animals", table, "--out", "-", "--json")
    assert result.exit_code == 2 and "not both" in result.stderr
    assert cli("predict", shelf / "animals").exit_code == 2
    assert cli("evaluate", shelf / "animals").exit_code == 2


def test_an_unknown_class_is_an_error_of_the_data(cli, shelf):
    result = cli("evaluate", shelf / "animals", "iris")
    assert result.exit_code == 1 and "expected a column 'kind'" in result.stderr


def test_debug_lets_the_error_through(cli, shelf):
    result = cli("evaluate", shelf / "animals", "gone.csv", "--debug")
    assert isinstance(result.exception, fx.DataError)


def test_many_classes_are_shown_as_their_confusions(capsys, monkeypatch):
    from fluxion.cli import report

    monkeypatch.setattr(report, "width", lambda: 80)
    names = tuple(f"class{i:02}" for i in range(20))
    confusion = np.diag(np.full(20, 5))
    confusion[3, 7] = 4
    report.show_classes(report.Report("y", names, {}, np.zeros(104), np.zeros(104), confusion))
    said = capsys.readouterr().out
    assert "class03 taken for class07: 4" in said and "taken for class08" not in said
