import copy
import datetime
import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fluxion as fx
from fluxion import TableEncoder


def frame(**columns):
    return pl.DataFrame(columns, strict=False)


MIXED = frame(
    size=[1.0, None, 4.0, 7.0, 2.0, 2.5],
    kind=["b", "a", None, "b", "a", "c"],
    wet=[True, False, None, True, True, False],
    day=[datetime.date(1970, 1, d) for d in (1, 2, 11, 21, 2, 3)],
    y=["u", "v", "u", "v", "u", None],
)


def test_features_are_the_closed_forms():
    encoder = TableEncoder.fit(MIXED, "y")
    assert encoder.feature_names == ("size", "kind=a", "kind=b", "kind=(missing)", "wet", "day")
    x, y = encoder.arrays(MIXED)
    assert x.dtype == np.float32 and x.shape == (5, 6) and y.dtype == np.int32 and y.tolist() == [0, 1, 0, 1, 0]

    def standard(values):
        return (values - np.mean(values)) / np.std(values)

    size = np.array([1.0, np.median([1, 4, 7, 2]), 4.0, 7.0, 2.0])
    np.testing.assert_allclose(x[:, 0], standard(size), rtol=1e-6)
    np.testing.assert_array_equal(x[:, 1:4], [[0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]])
    np.testing.assert_allclose(x[:, 4], standard(np.array([1, 0, 1, 1, 1])), rtol=1e-6)
    np.testing.assert_allclose(x[:, 5], standard(np.array([0, 1, 10, 20, 1])), rtol=1e-6)


def test_a_later_table():
    encoder = TableEncoder.fit(MIXED, "y")
    new = frame(day=[datetime.datetime(1970, 1, 9, 9, 36)], extra=[3], wet=["FALSE"], kind=["zebra"], size=[" 3.5"])
    x = encoder.features(new)
    size, day = encoder.columns[0], encoder.columns[3]
    np.testing.assert_allclose(x[0, 0], (3.5 - size.mean) / size.std, rtol=1e-6)
    assert x[0, 1:4].tolist() == [0, 0, 0]  # unknown
    np.testing.assert_allclose(x[0, 5], (8.4 - day.mean) / day.std, rtol=1e-6)
    nothing = frame(size=[None], kind=[None], wet=[None], day=[None])
    medians = [(c.median - c.mean) / c.std for c in encoder.columns if c.kind != "category"]
    np.testing.assert_allclose(encoder.features(nothing)[0], [medians[0], 0, 0, 1, *medians[1:]], rtol=1e-5)
    assert encoder.features(MIXED.clear()).shape == (0, 6)


def test_description():
    assert TableEncoder.fit(MIXED.with_columns(name=pl.lit("same")), "y").describe() == [
        "y: classification with 2 classes (u 3, v 2)",
        "1 row left out: y is missing",
        "6 features of 4 columns: size (number), kind (3 categories), wet (boolean), day (date)",
        "name: not used, a single value (same)",
        "size: 1 missing value, set to the median 3",
        "kind: 1 missing value, a category of their own",
        "wet: 1 missing value, set to the median 1",
    ]
    numbers = TableEncoder.fit(frame(a=[1.0, 2.5, 7.0], b=[1.5, 2.5, 4.0]), "b")
    assert numbers.describe()[0] == "b: regression, mean 2.667, standard deviation 1.027"
    assert repr(numbers) == "TableEncoder(target='b', task='regression')  # 1 feature, fitted on 3 rows"


def test_regression_targets():
    table = frame(a=[1.0, 2.5, 7.0, 9.0], price=[10.5, None, 20.0, 40.0])
    encoder = TableEncoder.fit(table, "price")
    x, y = encoder.arrays(table)
    prices = np.array([10.5, 20, 40])
    assert encoder.task == "regression" and encoder.classes == () and x.shape == (3, 1) and y.shape == (3, 1)
    np.testing.assert_allclose(y[:, 0], (prices - prices.mean()) / prices.std(), rtol=1e-6)
    np.testing.assert_allclose(encoder.decode_target(y)[:, 0], prices, rtol=1e-6)
    with pytest.raises(fx.DataError, match=r"'price' is missing in row 1\. Leave such rows out with encoder.labeled"):
        encoder.targets(table)
    assert encoder.labeled(table).height == 3


@pytest.mark.parametrize(
    ("values", "task", "classes"),
    [
        (["b", "a", "b"], "classification", ("a", "b")),
        ([True, False, True], "classification", (False, True)),
        ([3, 1, 3, 1], "classification", (1, 3)),
        ([0.0, 1.0, 0.0], "classification", (0, 1)),
        ([1, 2, 3, 4], "regression", ()),
        ([0.5, 1.5, 0.5], "regression", ()),
        (list(range(25)) * 3, "regression", ()),
        (list(range(20)) * 2, "classification", tuple(range(20))),
    ],
)
def test_the_task_is_guessed(values, task, classes):
    table = frame(x=np.linspace(0, 1, len(values)), y=values)
    encoder = TableEncoder.fit(table, "y")
    assert encoder.task == task and encoder.classes == classes
    assert [type(a) for a in encoder.classes] == [type(a) for a in classes]
    y = encoder.targets(table)
    decoded = encoder.decode_target(y).ravel().tolist()
    assert decoded == pytest.approx(values, rel=1e-6, abs=1e-5) if task == "regression" else decoded == values


def test_the_task_is_given():
    table = frame(x=[1.0, 3.0, 2.0], y=[1, 2, 2])
    assert TableEncoder.fit(table, "y", task="regression").task == "regression"
    encoder = TableEncoder.fit(frame(x=[1.0, 3.0, 2.0], y=[0.5, 1.5, 0.5]), "y", task="classification")
    assert encoder.classes == (0.5, 1.5)
    flags = TableEncoder.fit(frame(x=[1.0, 3.0, 2.0], y=[True, False, False]), "y", task="regression")
    assert flags.target.mean == pytest.approx(1 / 3)
    with pytest.raises(fx.ArgumentError, match=r"got 'regresion'\. Did you mean 'regression'\?"):
        TableEncoder.fit(table, "y", task="regresion")


def test_scores_are_decoded():
    encoder = TableEncoder.fit(MIXED, "y")
    assert encoder.decode_target(np.array([[0.1, 0.9], [3.0, -1.0]])).tolist() == ["v", "u"]
    assert encoder.decode_target(np.int64(1)) == "v"
    with pytest.raises(fx.ShapeError, match=r"scores of shape \(..., 2\), got float64 of shape \(1, 3\)"):
        encoder.decode_target(np.ones((1, 3)))
    with pytest.raises(fx.DataError, match="class numbers 0 to 1, got 0 to 2"):
        encoder.decode_target([0, 2])
    with pytest.raises(fx.DataError, match="got NaN"):
        encoder.decode_target(np.array([[np.nan, 1.0]]))


def test_columns_that_are_not_used():
    n = 60
    table = frame(
        x=np.linspace(0, 1, n) ** 2,
        counter=range(100, 100 + n),
        gaps=[i + i // 3 for i in range(n)],
        name=[f"n{i}" for i in range(n)],
        rare=["a"] * 40 + [f"n{i}" for i in range(20)],
        constant=[2.5] * n,
        nothing=[None] * n,
        lists=[[1]] * n,
        repeated=[i // 2 for i in range(n)],
        same=["s"] * (n - 1) + [None],
        y=["u", "v"] * (n // 2),
    )
    encoder = TableEncoder.fit(table, "y")
    assert encoder.dropped == {
        "counter": "whole numbers that count the rows",
        "gaps": "whole numbers that count the rows",
        "name": "text with 60 different values in 60 rows",
        "rare": "text with 21 different values in 60 rows",
        "constant": "a single value (2.5)",
        "nothing": "all values are missing",
        "lists": "values of type List(Int64) are neither numbers, text nor dates",
    }
    assert encoder.feature_names == ("x", "repeated", "same=s", "same=(missing)")
    # A counter that is all there is is used.
    assert TableEncoder.fit(table.select("counter", "name", "y"), "y").feature_names == ("counter",)


def test_spread_beyond_float64():
    tiny = frame(a=[1e-200, 2e-200, 1e-200], b=[1.0, 2.0, 4.0], y=["u", "v", "u"])
    assert TableEncoder.fit(tiny, "y").dropped == {"a": "no spread that float64 can hold (1e-200 to 2e-200)"}
    with pytest.raises(fx.DataError, match="a: expected numbers whose squares float64 can hold, got up to 1e"):
        TableEncoder.fit(frame(a=[1e308, -1e308, 0.0], y=["u", "v", "u"]), "y")
    encoder = TableEncoder.fit(frame(a=[1.0, 2.0, 4.0], y=["u", "v", "u"]), "y")
    with pytest.raises(fx.DataError, match=r"a: expected values near those of training .* got 1e\+300 in row 1"):
        encoder.features(frame(a=[1.0, 1e300]))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda e: TableEncoder.fit(MIXED, "yy"), fx.DataError, r"target: expected a column 'yy', .* Did you mean 'y'"),
        (lambda e: TableEncoder.fit({"a": [1]}, "a"), fx.DTypeError, r"polars.DataFrame .* got builtins.dict"),
        (lambda e: TableEncoder.fit(MIXED.lazy(), "y"), fx.DTypeError, r"Call .collect\(\) first"),
        (lambda e: TableEncoder.fit(frame(a=[1.5], y=[None]), "y"), fx.DataError, "column 'y', all are missing"),
        (
            lambda e: TableEncoder.fit(frame(a=[1.5, 2], y=["u"] * 2), "y"),
            fx.DataError,
            "two classes, every row has 'u'",
        ),
        (lambda e: TableEncoder.fit(frame(a=[1.5, 2], y=[1.5] * 2), "y"), fx.DataError, "varies, every row has 1.5"),
        (lambda e: TableEncoder.fit(frame(a=[1, 2, 4], y=[*"uvw"]), "y"), fx.DataError, "got 3 different texts"),
        (
            lambda e: TableEncoder.fit(MIXED, "y", task="regression"),
            fx.DataError,
            "numbers for a regression, got 'u' in row 0",
        ),
        (lambda e: TableEncoder.fit(MIXED, "day"), fx.DataError, "numbers, text or booleans, got Date"),
        (
            lambda e: TableEncoder.fit(frame(y=[1, 2, 2]), "y"),
            fx.DataError,
            "'y' from, none can be used .there is none",
        ),
        (
            lambda e: TableEncoder.fit(frame(c=[1, 1], y=[1, 2]), "y"),
            fx.DataError,
            r"none can be used \(c: a single value \(1\)\)",
        ),
        (
            lambda e: TableEncoder.fit(frame(a=[1, 2, np.inf], y=[1, 2, 2]), "y"),
            fx.DataError,
            "a: expected finite numbers, got inf in row 2",
        ),
        (
            lambda e: TableEncoder.fit(frame(a=[1, 2, 4, 5], y=[None, 1.5, 2, -np.inf]), "y"),
            fx.DataError,
            "y: expected finite numbers, got -inf in row 3",
        ),
        (
            lambda e: e.features(MIXED.drop("kind")),
            fx.DataError,
            "expected a column 'kind', the columns are size, wet, day, y",
        ),
        (
            lambda e: e.features(MIXED.rename({"size": "sizes"})),
            fx.DataError,
            r"a column 'size', .* Did you mean 'sizes'",
        ),
        (
            lambda e: e.features(MIXED.with_columns(size=pl.lit("big"))),
            fx.DataError,
            "size: expected a number, got 'big' in row 0",
        ),
        (
            lambda e: e.features(MIXED.with_columns(size=pl.lit(np.inf))),
            fx.DataError,
            "size: expected finite numbers, got inf in row 0",
        ),
        (lambda e: e.features(MIXED.with_columns(day=pl.lit(3))), fx.DataError, "day: expected a date, got 3 in row 0"),
        (
            lambda e: e.features(MIXED.with_columns(size="day")),
            fx.DataError,
            r"size: expected a number, got datetime.date\(1970",
        ),
        (
            lambda e: e.features(MIXED.with_columns(wet=pl.lit("maybe"))),
            fx.DataError,
            "wet: expected .* got 'maybe' in row 0",
        ),
        (
            lambda e: e.features(MIXED.with_columns(kind=pl.lit([1]))),
            fx.DataError,
            "kind: expected text, got values of type List",
        ),
        (lambda e: e.targets(MIXED.drop("y")), fx.DataError, "target: expected a column 'y'"),
        (
            lambda e: e.targets(frame(y=["u", "w"])),
            fx.DataError,
            "y: expected one of the classes u, v, got 'w' in row 1",
        ),
    ],
)
def test_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(TableEncoder.fit(MIXED, "y"))


def test_unknown_classes_of_every_type():
    x = [1.0, 2.5, 3.0, 4.0]
    whole = TableEncoder.fit(frame(x=x, y=[1, 2, 1, 2]), "y")
    assert whole.targets(frame(y=["2", " 1"])).tolist() == [1, 0]
    with pytest.raises(fx.DataError, match="one of the classes 1, 2, got 3 in row 0"):
        whole.targets(frame(y=[3]))
    with pytest.raises(fx.DataError, match=r"got 1\.5 in row 0"):
        whole.targets(frame(y=[1.5]))
    flags = TableEncoder.fit(frame(x=x, y=[True, False, True, False]), "y")
    assert flags.targets(frame(y=[0, 1])).tolist() == [0, 1] and flags.targets(frame(y=["True"])).tolist() == [1]
    with pytest.raises(fx.DataError, match=r"got 2\.0 in row 1"):
        flags.targets(frame(y=[0, 2]))


cells = {
    "number": st.none() | st.floats(-1e6, 1e6) | st.just(float("nan")),
    "whole": st.none() | st.integers(-5, 5),
    "text": st.none() | st.text(max_size=2),
    "flag": st.none() | st.booleans(),
    "date": st.none() | st.dates(datetime.date(1900, 1, 1)),
}
types = {"number": pl.Float64, "whole": pl.Int64, "text": pl.String, "flag": pl.Boolean, "date": pl.Date}


@given(st.data(), st.integers(4, 12), st.sampled_from(["number", "whole", "text", "flag"]))
@settings(max_examples=60, deadline=None)
def test_json_keeps_everything(data, rows, target):
    columns = {
        name: pl.Series(name, data.draw(st.lists(cell, min_size=rows, max_size=rows)), dtype=types[name])
        for name, cell in cells.items()
    }
    table = pl.DataFrame(columns)
    try:
        encoder = TableEncoder.fit(table, target)
    except fx.DataError:
        return
    back = TableEncoder.from_json(json.loads(json.dumps(encoder.to_json(), allow_nan=False)))
    assert back == encoder and back.describe() == encoder.describe()
    x, y = encoder.arrays(table)
    x2, y2 = back.arrays(table)
    np.testing.assert_array_equal(x, x2)
    np.testing.assert_array_equal(y, y2)
    assert np.isfinite(x).all() and np.isfinite(y).all() and x.shape == (encoder.rows, len(encoder.feature_names))
    assert len(y) == encoder.rows and encoder.rows + encoder.unlabeled == rows
    for i, column in enumerate(encoder.columns):
        if column.kind != "category" and column.std > 1e-9 * abs(column.mean):  # below, the mean itself is rounded
            feature = x[:, sum(len(c.feature_names) for c in encoder.columns[:i])]
            assert abs(feature.mean()) < 1e-3 and abs(feature.std() - 1) < 1e-3


def broken(*path, value):
    document = copy.deepcopy(TableEncoder.fit(MIXED, "y").to_json())
    entry = document
    for key in path[:-1]:
        entry = entry[key]
    if value is KeyError:
        del entry[path[-1]]
    else:
        entry[path[-1]] = value
    return document


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], r"the document: expected a JSON object, got \[\]"),
        (broken("format", value="other"), "format, version: expected"),
        (broken("version", value=3), "'fluxion.TableEncoder', 1 or 2, got 'fluxion.TableEncoder', 3"),
        (broken("version", value=True), "1 or 2, got 'fluxion.TableEncoder', True"),
        (broken("columns", 0, "scale", value="root"), r"columns\[0\].scale: expected one of standard, minmax"),
        (broken("columns", 0, "scale", value=KeyError), r"columns\[0\].scale: expected an entry"),
        (broken("columns", 1, "embedding", value=-1), r"columns\[1\].embedding: expected a whole number"),
        (broken("columns", 1, "embedding", value=10**9), r"columns\[1\].embedding: expected at most 600"),
        (broken("target", value=None), "target: expected a JSON object"),
        (broken("target", "name", value=3), "target.name: expected a string, got 3"),
        (broken("target", "task", value="guess"), "target.task: expected one of classification, regression"),
        (broken("target", "task", value="regression"), "target.mean: expected an entry of that name, got none"),
        (broken("target", "classes", value=["u"]), "target.classes: expected two or more"),
        (broken("target", "classes", value=["u", 1]), "of one type"),
        (broken("target", "classes", value=[["u"], ["v"]]), "strings, booleans or numbers"),
        (broken("target", "classes", value=["v", "u"]), "sorted order"),
        (broken("target", "classes", value=[1.0, float("nan")]), "finite numbers"),
        (broken("target", "counts", value=[1]), "2 numbers, as many as classes, got 1"),
        (broken("target", "counts", value=[1, -1]), r"target.counts\[1\]: expected a whole number of at least 0"),
        (broken("columns", value={}), "columns: expected a JSON array"),
        (broken("columns", value=[]), "at least one column"),
        (broken("columns", 0, value=7), r"columns\[0\]: expected a JSON object, got 7"),
        (broken("columns", 0, "kind", value="magic"), r"columns\[0\].kind: expected one of number"),
        (broken("columns", 0, "kind", value=["number"]), r"columns\[0\].kind"),
        (broken("columns", 0, "std", value=0), r"columns\[0\].std: expected a positive number, got 0"),
        (broken("columns", 0, "std", value=KeyError), r"columns\[0\].std: expected an entry"),
        (broken("columns", 0, "mean", value=float("inf")), r"columns\[0\].mean: expected a finite number, got inf"),
        (broken("columns", 0, "mean", value=10**400), r"columns\[0\].mean: expected a finite number"),
        (broken("columns", 0, "median", value=True), r"columns\[0\].median: expected a finite number, got True"),
        (broken("columns", 0, "missing", value=1.5), r"columns\[0\].missing: expected a whole number"),
        (broken("columns", 1, "categories", value=[]), r"columns\[1\].categories: expected different strings"),
        (broken("columns", 1, "categories", value=["b", "a"]), "sorted order"),
        (broken("columns", 1, "categories", value=[None, "a"]), r"columns\[1\].categories\[0\]: expected a string"),
        (broken("columns", 1, "name", value="size"), "expected different names, got 'size' twice"),
        (broken("dropped", value=["x"]), "dropped: expected a JSON object"),
        (broken("dropped", value={"x": 1}), r"dropped\['x'\]: expected a string"),
        (broken("rows", value="5"), "rows: expected a whole number"),
        (broken("unlabeled", value=KeyError), "unlabeled: expected an entry"),
    ],
)
def test_json_is_not_trusted(document, message):
    with pytest.raises(fx.FileFormatError, match=r"TableEncoder.from_json: .*" + message):
        TableEncoder.from_json(document)


@pytest.mark.parametrize(
    ("file", "target", "task", "features", "dropped", "missing"),
    [
        ("penguins/penguins.csv", "species", "classification", 11, [], 19),
        ("titanic/titanic.csv", "Survived", "classification", 11, ["PassengerId", "Name", "Ticket", "Cabin"], 179),
        ("boston-housing/boston_housing.csv", "MEDV", "regression", 13, [], 0),
        ("auto-mpg/mpg.csv", "mpg", "regression", 9, ["name"], 6),
        ("timeseries/airline-passengers.csv", "Passengers", "regression", 1, [], 0),
    ],
)
def test_real_tables(shared_data, file, target, task, features, dropped, missing):
    if not (shared_data / file).is_file():
        pytest.skip(f"no {file} in {shared_data}")
    table = fx.read_table(shared_data / file)
    encoder = TableEncoder.fit(table, target)
    x, y = encoder.arrays(table)
    assert encoder.task == task and list(encoder.dropped) == dropped
    assert x.shape == (table.height, features) and np.isfinite(x).all() and len(y) == table.height
    assert sum(column.missing for column in encoder.columns) == missing
    if task == "classification":
        assert encoder.decode_target(y).tolist() == table[target].to_list()
    else:
        np.testing.assert_allclose(encoder.decode_target(y)[:, 0], table[target].to_numpy(), rtol=1e-5)


def test_a_real_table_can_be_learned(shared_data):
    """Least squares on the features tells the penguins apart, as any linear classifier does."""
    if not (shared_data / "penguins").is_dir():
        pytest.skip(f"no penguins in {shared_data}")
    table = fx.read_table(shared_data / "penguins" / "penguins.csv")
    train, test = fx.splitobs(table, 0.7, shuffle=True, stratified=table["species"], seed=0)
    encoder = TableEncoder.fit(train, "species")
    x, y = encoder.arrays(train)
    weights = np.linalg.lstsq(np.c_[x, np.ones(len(x))], fx.onehotbatch(y, 3), rcond=None)[0]
    x, y = encoder.arrays(test)
    assert (fx.onecold(np.c_[x, np.ones(len(x))] @ weights) == y).mean() > 0.97


def test_numbers_are_left_as_they_are_when_asked():
    frame = pl.DataFrame({"a": [1.0, 2.5, None, 40.0], "b": [True, False, True, True], "y": ["p", "q", "p", "q"]})
    encoder = fx.TableEncoder.fit(frame, "y", standardize=False)
    np.testing.assert_array_equal(encoder.features(frame), [[1, 1], [2.5, 0], [2.5, 1], [40, 1]])
    again = fx.TableEncoder.from_json(encoder.to_json())
    np.testing.assert_array_equal(again.features(frame), encoder.features(frame))


WIDE = frame(
    city=[f"c{i % 25:02}" for i in range(250)] + ["once", None],
    few=["a", "b"] * 126,
    size=np.linspace(-1, 1, 252) ** 3,
    y=["u", "v"] * 126,
)


def test_scales_are_the_closed_forms():
    values = np.array([0.0, 3.0, 1.0, 10.0])
    table = frame(a=values, b=values, c=values, d=[*values[:3], None], y=["u", "v", "u", "v"])
    scale = {"a": "minmax", "b": "log", "c": "none", "d": "log"}
    encoder = TableEncoder.fit(table, "y", scale=scale)
    x = encoder.features(table)
    logs, filled = np.log1p(values), np.log1p([0, 3, 1, 1])
    np.testing.assert_allclose(x[:, 0], values / 10, rtol=1e-6)
    np.testing.assert_allclose(x[:, 1], (logs - logs.mean()) / logs.std(), rtol=1e-5)
    np.testing.assert_array_equal(x[:, 2], values)
    np.testing.assert_allclose(x[:, 3], (filled - filled.mean()) / filled.std(), rtol=1e-5)
    new = frame(a=[20.0], b=[99.0], c=[7.0], d=[None])
    np.testing.assert_allclose(
        encoder.features(new)[0, :3], [2, (np.log(100) - logs.mean()) / logs.std(), 7], rtol=1e-5
    )
    assert "a (number, minmax), b (number, log), c (number), d (number, log)" in encoder.describe()[1]
    with pytest.raises(fx.DataError, match="b: expected numbers of at least 0 for the scale log, got -2 in row 1"):
        encoder.features(frame(a=[1.0, 1], b=[1.0, -2], c=[1, 1], d=[1, 1]))
    with pytest.raises(fx.DataError, match="a: expected numbers of at least 0 for the scale log, got -1 in row 2"):
        TableEncoder.fit(frame(a=[1.0, 2, -1, 3], y=[None, "u", "v", "u"]), "y", scale={"a": "log"})
    plain = TableEncoder.fit(table, "y", standardize=False, scale={"a": "standard"})
    assert [column.scale for column in plain.columns] == ["standard", "none", "none", "none"]
    assert TableEncoder.from_json(json.loads(json.dumps(encoder.to_json()))) == encoder


def test_kinds_asked_for():
    table = frame(
        klass=[1, 2, 3, 1],
        text=["1.5", "2", "x3", "4"],
        flag=["y", "N", "y", None],
        when=["3/2/2020", "13/2/2020", "1/2/2020", None],
        clock=["10:00", "12:30", "11:00", "0:00"],
        row=[1, 2, 3, 4],
        word=["p", "q", "r", "s"],
        y=["u", "v", "u", "v"],
    )
    kinds = {"klass": "category", "flag": "boolean", "when": "date", "clock": "time", "row": "number", "word": "drop"}
    encoder = TableEncoder.fit(table, "y", kinds=kinds | {"text": "drop"}, standardize=False)
    assert encoder.feature_names == ("klass=1", "klass=2", "klass=3", "flag", "when", "clock", "row")
    assert encoder.dropped == {"text": "as asked for", "word": "as asked for"}
    x = encoder.features(table)
    np.testing.assert_array_equal(x[:, :4], [[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 1], [1, 0, 0, 1]])
    days = np.array([3.0, 13, 1, 3])
    hours = np.array([10, 12.5, 11, 0])
    np.testing.assert_allclose(x[:, 4], (days - days.mean()) / days.std(), rtol=1e-4)
    np.testing.assert_allclose(x[:, 5], (hours - hours.mean()) / hours.std(), rtol=1e-5)
    later = table.with_columns(klass=pl.Series([1.0, None, 3.0, 4.0]))  # whole numbers, with a gap read as floats
    np.testing.assert_array_equal(encoder.features(later)[:, :3], [[1, 0, 0], [0, 0, 0], [0, 0, 1], [0, 0, 0]])
    with pytest.raises(fx.DataError, match="text: expected a number, got 'x3' in row 2"):
        TableEncoder.fit(table, "y", kinds={"text": "number"})
    assert TableEncoder.from_json(encoder.to_json()) == encoder


def test_yes_and_no_are_truth_values_where_that_is_asked_for():
    table = frame(paid=["yes", "No", None, "yes"], y=["yes", "no", "no", "yes"])
    encoder = TableEncoder.fit(table, "y", standardize=False, kinds={"paid": "boolean"})
    assert encoder.feature_names == ("paid",) and encoder.classes == ("no", "yes")
    assert encoder.features(table)[:, 0].tolist() == [1, 0, 1, 1]
    # Not asked for, they are categories: a third answer is an unknown one then, and no error.
    guessed = TableEncoder.fit(table, "y")
    assert guessed.features(frame(paid=["perhaps"])).tolist() == [[0, 0, 0]]


def test_wide_categories_become_codes():
    encoder = TableEncoder.fit(WIDE, "y", embed=True)
    assert encoder.feature_names == ("city", "few=a", "few=b", "size")
    city = encoder.columns[0]
    assert city.categories == (*(f"c{i:02}" for i in range(25)), None) and city.embedding == round(1.6 * 27**0.56)
    codes = encoder.features(WIDE)[:, 0]
    assert codes[:3].tolist() == [1, 2, 3] and codes[24] == 25
    assert codes[250:].tolist() == [0, 26]  # what occurs once stands for what is unknown; missing comes last
    new = frame(city=["nowhere", None, "c07"], few=["a"] * 3, size=[0.0] * 3)
    assert encoder.features(new)[:, 0].tolist() == [0, 26, 8]
    assert "26 categories embedded in 10 numbers" in encoder.describe()[1]
    assert TableEncoder.from_json(json.loads(json.dumps(encoder.to_json()))) == encoder
    layer = encoder.input_layer()
    assert layer(encoder.features(WIDE)).shape == (252, 10 + 3)
    named = TableEncoder.fit(WIDE, "y", embed=["few"], kinds={"city": "drop"})
    assert named.features(WIDE)[:4, 0].tolist() == [1, 2, 1, 2] and named.columns[0].embedding == 3
    assert TableEncoder.fit(WIDE, "y").feature_names[-1] == "size"
    assert TableEncoder.fit(WIDE, "y").input_layer()(np.ones((2, 30), np.float32)).shape == (2, 30)


def test_embedded_categories_are_learned():
    rng = np.random.default_rng(0)
    city = rng.integers(0, 30, 600)
    effect = rng.normal(size=30)
    table = frame(city=[f"c{i}" for i in city], price=effect[city])
    encoder = TableEncoder.fit(table, "price", embed=True)
    model = fx.Chain(encoder.input_layer(), fx.Dense(None, 1))
    fx.fit(model, encoder.arrays(table), loss=fx.mse, optimizer=fx.Adam(0.05), epochs=20, seed=0, progress=False)
    assert fx.mse(model(encoder.features(table)), encoder.targets(table)) < 0.01


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"kinds": {"sizes": "number"}}, fx.DataError, r"kinds: expected a column 'sizes', .* Did you mean 'size'"),
        ({"kinds": {"size": "numbers"}}, fx.ArgumentError, "got 'numbers'. Did you mean 'number'"),
        ({"kinds": {"y": "category"}}, fx.ArgumentError, "'y' is the target"),
        ({"kinds": ["size"]}, fx.ArgumentError, "expected kinds as a dict"),
        (
            {"scale": {"size": "logarithm"}},
            fx.ArgumentError,
            "expected scale of 'size' as one of standard, minmax, log",
        ),
        ({"scale": {"few": "log"}}, fx.ArgumentError, "expected scale for columns of numbers, 'few' is a category"),
        ({"scale": {"size": "log"}}, fx.DataError, "size: expected numbers of at least 0 for the scale log"),
        ({"embed": ["towns"]}, fx.DataError, "embed: expected a column 'towns'"),
        ({"embed": ["size"], "kinds": {"size": "number"}}, fx.ArgumentError, "expected embed for categories"),
    ],
)
def test_choices_that_cannot_be(options, error, message):
    with pytest.raises(error, match=message):
        TableEncoder.fit(WIDE, "y", **options)


def test_many_categories_need_an_embedding():
    table = frame(zip=[f"z{i // 2}" for i in range(2400)], y=["u", "v"] * 1200)
    with pytest.raises(fx.DataError, match="zip: text with 1200 different values in 2400 rows"):
        TableEncoder.fit(table, "y")
    with pytest.raises(fx.DataError, match=r"at most 1000 categories .* got 1200\. Embed them: embed=\['zip'\]"):
        TableEncoder.fit(table, "y", kinds={"zip": "category"})
    encoder = TableEncoder.fit(table, "y", kinds={"zip": "category"}, embed=True)
    assert encoder.features(table)[:, 0].max() == 1200


def test_the_first_version_of_the_document_is_read():
    document = {
        "format": "fluxion.TableEncoder",
        "version": 1,
        "target": {"name": "y", "task": "classification", "classes": ["u", "v"], "counts": [3, 2]},
        "columns": [
            {"name": "size", "kind": "number", "missing": 1, "median": 3.0, "mean": 2.0, "std": 4.0},
            {"name": "paid", "kind": "category", "missing": 0, "categories": ["no", "yes"]},
        ],
        "dropped": {},
        "rows": 5,
        "unlabeled": 0,
    }
    encoder = TableEncoder.from_json(document)
    x = encoder.features(frame(size=[10.0, None], paid=["yes", "no"]))
    np.testing.assert_array_equal(x, [[2, 0, 1], [0.25, 1, 0]])
    assert TableEncoder.from_json(encoder.to_json()) == encoder and encoder.to_json()["version"] == 2


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_any_document_is_read_or_refused(data):
    encoder = TableEncoder.fit(WIDE, "y", embed=True, scale={"size": "minmax"})
    document = encoder.to_json()
    entry = document
    while True:
        keys = list(entry) if isinstance(entry, dict) else range(len(entry))
        key = data.draw(st.sampled_from(list(keys)))
        if not isinstance(entry[key], dict | list) or not entry[key] or data.draw(st.booleans()):
            break
        entry = entry[key]
    entry[key] = data.draw(anything)
    try:
        read = TableEncoder.from_json(document)
    except fx.FileFormatError:
        return
    assert TableEncoder.from_json(json.loads(json.dumps(read.to_json()))) == read
    read.describe()


def test_class_weights_are_those_of_scikit_learn():
    """`compute_class_weight("balanced")` of scikit-learn 1.9 on the columns of Titanic and the penguins."""
    labels = [0] * 549 + [1] * 342
    np.testing.assert_allclose(fx.class_weights(labels), [0.8114754098360656, 1.3026315789473684], rtol=1e-6)
    table = frame(x=np.arange(344.0) ** 2, species=["Adelie"] * 152 + ["Chinstrap"] * 68 + ["Gentoo"] * 124)
    weights = TableEncoder.fit(table, "species").class_weights()
    np.testing.assert_allclose(weights, [0.7543859649122807, 1.6862745098039216, 0.9247311827956989], rtol=1e-6)
    assert weights.dtype == np.float32
    with pytest.raises(fx.DataError, match="expected a classification, 'size' is a number"):
        TableEncoder.fit(WIDE, "size").class_weights()


@pytest.mark.parametrize(
    ("labels", "classes", "error", "message"),
    [
        ([0.0, 1.0], None, fx.DTypeError, "expected class numbers, got dtype float64"),
        ([[0], [1]], None, fx.ShapeError, r"labels of shape \(n,\), got \(2, 1\)"),
        ([0, -1], None, fx.DataError, "expected labels from 0, got -1 to 0"),
        ([0, 3], 3, fx.DataError, "expected labels from 0 to 2, got 0 to 3"),
        ([0, 2], None, fx.DataError, "there is none of class 1"),
        ([0, 1], 3, fx.DataError, "there is none of class 2"),
    ],
)
def test_class_weights_refused(labels, classes, error, message):
    with pytest.raises(error, match=message):
        fx.class_weights(labels, classes)
