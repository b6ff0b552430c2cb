"""Streams give the rows of `read_table`, in pieces of any size, and an order that is a function of seed and epoch."""

import gzip

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fluxion as fx
from fluxion.data import streaming

ROWS = 500


def table(rows=ROWS, first=0):
    rng = np.random.default_rng(first)
    return pl.DataFrame(
        {
            "row": np.arange(first, first + rows),
            "size": np.where(rng.random(rows) < 0.1, np.nan, rng.normal(size=rows).round(3)),
            "kind": rng.choice(["a", "b, c", 'd "e"', "f\ng"], rows),
            "wet": rng.random(rows) < 0.5,
            "day": rng.choice(np.arange("2020-01-01", "2021-01-01", dtype="datetime64[D]"), rows),
            "y": rng.choice(["u", "v", None], rows, p=[0.5, 0.45, 0.05]).tolist(),
        }
    ).with_columns(pl.col("size").fill_nan(None))


@pytest.fixture(params=["csv", "parquet"])
def files(request, tmp_path, monkeypatch):
    """Two files of one table, and pieces of some 2000 bytes."""
    monkeypatch.setattr(streaming, "PIECE", 2000)
    frame = table()
    for i, part in enumerate((frame[:350], frame[350:])):
        file = tmp_path / f"part{i}.{request.param}"
        part.write_csv(file) if request.param == "csv" else part.write_parquet(file, row_group_size=100)
    return tmp_path / f"part*.{request.param}", frame


def test_tables_come_in_order(files):
    path, frame = files
    stream = fx.stream_table(path, batch_size=64)
    batches = list(stream)
    assert [batch.height for batch in batches] == [64] * 7 + [52]
    assert pl.concat(batches).equals(frame, null_equal=True)
    assert stream.epoch == 1 and pl.concat(stream).equals(frame, null_equal=True)
    narrow = fx.stream_table(path, batch_size=ROWS, columns=["wet", "row"])
    assert next(iter(narrow)).equals(frame.select("wet", "row"))


def test_arrays_are_those_of_the_encoder(files):
    path, frame = files
    encoder = fx.TableEncoder.fit(frame, "y", kinds={"row": "number"})
    x, y = encoder.arrays(frame)
    stream = fx.stream_table(path, batch_size=50, encoder=encoder)
    parts = list(stream)
    assert len(parts) == -(-len(y) // 50) and {len(part) for part, _ in parts[:-1]} == {50}
    np.testing.assert_array_equal(np.concatenate([part for part, _ in parts]), x)
    np.testing.assert_array_equal(np.concatenate([part for _, part in parts]), y)
    assert repr(stream).endswith("batch_size=50, encoder=TableEncoder(target='y', task='classification'))")


def test_the_order_is_a_function_of_seed_and_epoch(files):
    path, frame = files
    stream = fx.stream_table(path, batch_size=64, columns=["row"], shuffle=True, seed=3)
    first, second = (pl.concat(stream)["row"].to_list() for _ in range(2))
    assert stream.epoch == 2
    assert sorted(first) == sorted(second) == frame["row"].to_list() != first != second
    again = fx.stream_table(path, batch_size=100, columns=["row"], shuffle=True, seed=3)
    assert pl.concat(again.batches(1))["row"].to_list() == second
    assert pl.concat(again.batches(1, start=2))["row"].to_list() == second[200:]
    assert again.epoch == 0
    other = fx.stream_table(path, batch_size=100, columns=["row"], shuffle=True, seed=4)
    assert pl.concat(other)["row"].to_list() != first
    # Rows come from all over the table: neighbors in the order are far from each other.
    assert np.abs(np.diff(first)).mean() > ROWS / 10
    drawn = fx.stream_table(path, batch_size=100, shuffle=True)
    assert isinstance(drawn.seed, int)


cells = st.text(st.sampled_from('ab,"\n é'), max_size=4)


@given(st.lists(st.tuples(cells, st.integers(-9, 9)), min_size=1, max_size=30), st.integers(8, 64), st.integers(1, 7))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_lines_are_cut_only_at_their_ends(tmp_path, monkeypatch, rows, piece, batch_size):
    monkeypatch.setattr(streaming, "PIECE", piece)
    file = tmp_path / "a.csv"
    pl.DataFrame(rows, schema=["text", "n"], orient="row").write_csv(file, quote_style="non_numeric")
    types = {"text": "text", "n": "whole"}
    whole = fx.read_table(file, types=types)
    assert pl.concat(fx.stream_table(file, batch_size=batch_size, types=types)).equals(whole, null_equal=True)
    shuffled = pl.concat(fx.stream_table(file, batch_size=batch_size, types=types, shuffle=True, seed=0))
    assert shuffled.sort("text", "n").equals(whole.sort("text", "n"), null_equal=True)


def test_types_are_those_of_the_first_piece(tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "PIECE", 40)
    file = tmp_path / "a.csv"
    file.write_text("n,d,y\n" + "1,13/2/2020,u\n" * 9 + "2.5,1/2/2020,v\n?,NA,v\n")
    with pytest.raises(fx.DataError, match=r"a\.csv, after byte \d+: n: expected whole, .* got '2\.5'"):
        list(fx.stream_table(file, batch_size=4))
    frame = pl.concat(fx.stream_table(file, batch_size=4, types={"n": "number"}))
    assert frame.equals(fx.read_table(file), null_equal=True)
    assert frame["d"].to_list()[-2].isoformat() == "2020-02-01"
    encoder = fx.TableEncoder.fit(fx.read_table(file), "y")  # knows that n is a number
    x = np.concatenate([x for x, _ in fx.stream_table(file, batch_size=4, encoder=encoder)])
    np.testing.assert_array_equal(x, encoder.features(fx.read_table(file)))


def test_packed_text(tmp_path):
    file = tmp_path / "a.csv.gz"
    file.write_bytes(gzip.compress(b"a,b\n1,x\n2,y\n"))
    assert pl.concat(fx.stream_table(file, batch_size=1)).rows() == [(1, "x"), (2, "y")]
    with pytest.raises(fx.ArgumentError, match="not packed for shuffle=True"):
        fx.stream_table(file, batch_size=1, shuffle=True)
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(fx.FileFormatError, match="packed with gzip, it is damaged"):
        fx.stream_table(file, batch_size=1)


@pytest.mark.parametrize(
    ("contents", "options", "error", "message"),
    [
        ({}, {}, fx.DataError, "expected files, there are none like"),
        ({"a.csv": "a,b\n1,2\n3\n"}, {}, fx.FileFormatError, "expected 2 cells in every line, .* got 1 in line 2"),
        ({"a.csv": "a,b\n1,2\n3,4,5\n"}, {}, fx.FileFormatError, "expected 2 cells in every line, .* got 3 in line 2"),
        ({"a.csv": "a,b\n"}, {}, fx.DataError, "the table has columns a, b and no rows"),
        ({"a.csv": "a\n1\n", "b.csv": "b\n1\n"}, {}, fx.DataError, r"b\.csv: expected the columns of .*a\.csv"),
        ({"a.csv": "a\n1\n"}, {"columns": ["b"]}, fx.DataError, "expected a column 'b'"),
        ({"a.csv": "a\n1\n"}, {"types": {"a": "txt"}}, fx.ArgumentError, "got 'txt'. Did you mean 'text'"),
        ({"a.csv": "a\n1\n"}, {"batch_size": 0}, fx.ArgumentError, "batch_size"),
        ({"a.csv": 'a,b\n"x,1\n2,3\n'}, {}, fx.FileFormatError, "a.csv"),
        ({"a.csv": "a\n1\n", "b.csv": "PAR1xxxxPAR1"}, {}, fx.ArgumentError, "files of one kind"),
        ({"a.csv": "PAR1xxxxPAR1"}, {}, fx.FileFormatError, "expected a table, it is damaged"),
        ({"a.csv": "a\n1\n"}, {"encoder": 3}, fx.DTypeError, "expected a TableEncoder, got int"),
    ],
)  # fmt: skip
def test_refused(tmp_path, contents, options, error, message):
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(error, match=message):
        list(fx.stream_table(str(tmp_path / "*.csv"), **{"batch_size": 2} | options))


def test_a_column_of_another_type_in_a_later_file(tmp_path):
    for name, value in (("a", 1), ("b", "x")):
        pl.DataFrame({"v": [value]}).write_parquet(tmp_path / f"{name}.parquet")
    with pytest.raises(fx.DataError, match=r"b\.parquet: expected the columns and types of .*a\.parquet"):
        fx.stream_table(tmp_path / "*.parquet", batch_size=1)


def test_it_trains(files):
    path, frame = files
    frame = frame.with_columns(y=pl.when(pl.col("wet")).then(pl.lit("v")).otherwise(pl.lit("u")))
    for i, part in enumerate((frame[:350], frame[350:])):
        file = str(path).replace("*", str(i))
        part.write_csv(file) if file.endswith("csv") else part.write_parquet(file)
    encoder = fx.TableEncoder.fit(frame, "y")
    stream = fx.stream_table(path, batch_size=50, encoder=encoder, shuffle=True, seed=0)
    model = fx.Chain(encoder.input_layer(), fx.Dense(None, 2))
    history = fx.fit(model, stream, loss=fx.logitcrossentropy, optimizer=fx.Adam(0.05), epochs=3, progress=False)
    assert len(history) == 3 and history.last["loss"] < 0.2
