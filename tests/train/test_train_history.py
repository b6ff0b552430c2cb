"""The table of a run, and that its file is written wholly or not at all."""

import csv
import math
import os
import pathlib
import stat

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fluxion as fx
from fluxion.files import atomic_write
from fluxion.train import history as history_file


@pytest.fixture
def history():
    rows = [{"epoch": i, "loss": 1 / i, "accuracy": 1 - 1 / i} for i in (1, 2, 3)]
    rows[1]["validation_loss"] = 0.7
    return fx.History(rows)


def test_columns_rows_and_best(history):
    assert history["loss"] == [1, 1 / 2, 1 / 3]
    assert history.names == ["epoch", "loss", "accuracy", "validation_loss"]
    assert len(history) == 3 and [row["epoch"] for row in history] == [1, 2, 3]
    assert history.last == {"epoch": 3, "loss": 1 / 3, "accuracy": 1 - 1 / 3}
    assert history.best("loss")["epoch"] == 3
    assert history.best("accuracy", "max")["epoch"] == 3
    assert history.best("accuracy", "min")["epoch"] == 1
    missing = history["validation_loss"]
    assert missing[1] == 0.7 and math.isnan(missing[0]) and math.isnan(missing[2])
    assert history.best("validation_loss")["epoch"] == 2


def test_best_skips_nan_and_takes_the_first_of_equals():
    history = fx.History({"epoch": i, "loss": x} for i, x in enumerate([math.nan, 2.0, 1.0, 1.0, math.inf], 1))
    assert history.best("loss")["epoch"] == 3
    assert history.best("loss", "max")["epoch"] == 5
    with pytest.raises(fx.ArgumentError, match="not NaN"):
        fx.History([{"loss": math.nan}]).best("loss")


def test_rows_are_copies_of_plain_numbers(history):
    history.rows[0]["loss"] = 9
    history.last["loss"] = 9
    assert history["loss"] == [1, 1 / 2, 1 / 3]
    taken = fx.History([{"a": np.float32(0.5), "b": jnp.array(2), "c": np.int64(3), "d": np.array(1.5)}]).last
    assert taken == {"a": 0.5, "b": 2, "c": 3, "d": 1.5}
    assert [type(value) for value in taken.values()] == [float, int, int, float]


def test_history_refuses(history):
    with pytest.raises(fx.ArgumentError, match=r"'epoch', 'loss', .* got 'los'. Did you mean 'loss'\?"):
        history["los"]
    with pytest.raises(fx.ArgumentError, match='mode="min" or mode="max" for \'accuracy\', got None'):
        history.best("accuracy")
    with pytest.raises(fx.ArgumentError, match="at least one epoch"):
        _ = fx.History().last
    with pytest.raises(fx.ArgumentError, match="it is empty"):
        fx.History()["loss"]
    for value in ("0.5", None, True, np.ones(2), [1]):
        with pytest.raises(fx.DTypeError, match="'loss' to be a single number"):
            history.append({"loss": value})
    with pytest.raises(fx.DTypeError, match="printable text"):
        history.append({1: 2.0})
    with pytest.raises(fx.DTypeError, match="printable text"):
        history.append({"a\nb": 2.0})
    assert len(history) == 3


def test_print(history):
    assert repr(history).splitlines() == [
        "History of 3 epochs",
        "epoch    loss  accuracy  validation_loss",
        "    1  1.0000    0.0000                 ",
        "    2  0.5000    0.5000           0.7000",
        "    3  0.3333    0.6667                 ",
    ]
    assert repr(fx.History()) == "History of 0 epochs"
    long = fx.History({"epoch": i, "loss": 1e-9 * i} for i in range(1, 1001))
    lines = repr(long).splitlines()
    assert len(lines) == 2 + 17
    assert lines[2].split() == ["1", "1.000e-09"] and lines[10].split() == ["...", "..."]
    assert lines[-1].split() == ["1000", "1.000e-06"]
    assert "nan" in repr(fx.History([{"loss": math.nan, "samples_per_second": math.nan, "seconds": math.nan}]))


def test_html_is_escaped():
    page = fx.History([{"<b>": 1}])._repr_html_()
    assert "&lt;b&gt;" in page and "<b>" not in page and page.count("<tr>") == 2
    assert "0 epochs" in fx.History()._repr_html_()


names = st.text(min_size=1, max_size=5).filter(str.isprintable)
numbers = st.integers(-(10**30), 10**30) | st.floats()


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.dictionaries(names, numbers, max_size=4), max_size=4))
def test_csv_gives_every_bit_back(tmp_path_factory, rows):
    # A row without a single number cannot be told from no row.
    rows = [row | {"epoch": i} for i, row in enumerate(rows, 1)]
    path = tmp_path_factory.mktemp("csv") / "log.csv"
    fx.History(rows).to_csv(path)
    back = fx.History.from_csv(path)
    assert [{n: repr(v) for n, v in row.items()} for row in back] == [
        {n: repr(v) for n, v in row.items()} for row in rows
    ]


def test_csv_is_what_others_read(history, tmp_path):
    history.to_csv(tmp_path / "log.csv")
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in rows] == history["loss"]
    polars = pytest.importorskip("polars", reason="polars is the outside reference")
    table = polars.read_csv(tmp_path / "log.csv")
    assert table["loss"].to_list() == history["loss"]
    assert table["validation_loss"].to_list() == [None, 0.7, None]
    fx.History().to_csv(tmp_path / "empty.csv")
    assert len(fx.History.from_csv(tmp_path / "empty.csv")) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch,loss\n1,0.5\n2,0.", None),  # cut within a number: still a number
        ("epoch,loss\n1,0.5\n2", "line 3: expected 2 cells, got 1. The file is damaged or was cut short"),
        ("epoch,loss\n1,abc\n", "line 2: expected 'loss' to be a number, got 'abc'"),
        ("epoch,loss\n1,1_000\n", "got '1_000'"),
        ("epoch,loss\n1," + "9" * 5000, "to be a number"),
        ("epoch,epoch\n1,2\n", "each name once"),
        ("epoch,\n1,2\n", "each name once"),
        ('epoch,"loss\n1,2\n', "expected a history as CSV"),
        ("epoch,loss\n1,\xff\n", "expected a history as CSV"),
    ],
)
def test_damaged_csv(tmp_path, text, message):
    path = tmp_path / "log.csv"
    path.write_bytes(text.encode("latin-1"))
    if message is None:
        assert fx.History.from_csv(path)["loss"] == [0.5, 0.0]
        return
    with pytest.raises(fx.FileFormatError, match=message):
        fx.History.from_csv(path)


def test_large_file_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(history_file, "LARGEST_FILE", 10)
    (tmp_path / "log.csv").write_text("epoch,loss\n1,2\n")
    with pytest.raises(fx.FileFormatError, match="at most 10 bytes, got 15 bytes"):
        fx.History.from_csv(tmp_path / "log.csv")


# Writing


def test_atomic_write_keeps_the_old_file_on_failure(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def full_disk(file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    def interrupted(file):
        file.write(b"half")
        raise KeyboardInterrupt

    for write, error in ((full_disk, OSError), (interrupted, KeyboardInterrupt)):
        with pytest.raises(error):
            atomic_write(path, write)
        assert path.read_text() == "old"
        assert os.listdir(tmp_path) == ["a.txt"]
    atomic_write(path, lambda file: file.write(b"new"))
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions and links")
def test_atomic_write_keeps_permissions_and_links(tmp_path):
    path, link = tmp_path / "a.txt", tmp_path / "link.txt"
    atomic_write(path, lambda file: file.write(b"1"))
    plain = tmp_path / "plain.txt"
    plain.write_text("")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
    path.chmod(0o640)
    link.symlink_to("a.txt")
    atomic_write(link, lambda file: file.write(b"2"))
    assert link.is_symlink() and path.read_text() == "2"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    atomic_write("/dev/null", lambda file: file.write(b"2"))
    assert pathlib.Path("/dev/null").is_char_device()


def test_atomic_write_names_the_folder(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="expected an existing folder"):
        atomic_write(tmp_path / "no" / "a.txt", lambda file: None)
    with pytest.raises(IsADirectoryError, match="got a folder"):
        atomic_write(tmp_path, lambda file: None)
    monkeypatch.chdir(tmp_path)
    atomic_write("a.txt", lambda file: file.write(b"1"))
    assert (tmp_path / "a.txt").read_text() == "1"
