"""Tables of pixels: the numbers of the file, in the shape of images."""

import csv
import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fluxion as fx
from fluxion.data.pixels import read_pixel_bytes, write_pixels


@pytest.fixture
def pixels(tmp_path):
    """A table of seven images of 3 x 3 as CSV, and its numbers."""
    numbers = np.random.default_rng(0).integers(0, 256, (7, 9))
    labels = np.arange(7) % 3
    rows = "".join(f"{label},{','.join(map(str, row))}\n" for label, row in zip(labels, numbers, strict=True))
    file = tmp_path / "a.csv"
    file.write_text(rows)
    return file, numbers, labels


def check(data, numbers, labels, shape=(3, 3, 1)):
    assert data.images.dtype == np.float32 and data.labels.dtype == np.int32
    np.testing.assert_array_equal(data.images, (numbers / np.float32(255)).astype(np.float32).reshape(-1, *shape))
    np.testing.assert_array_equal(data.labels, labels)


def test_with_and_without_a_header(pixels, tmp_path):
    file, numbers, labels = pixels
    check(fx.read_pixels(file), numbers, labels)
    rows = file.read_text()
    names = [f"{r}x{c}" for r in range(1, 4) for c in range(1, 4)]
    file.write_text(",".join(["label", *names]) + "\n" + rows)
    check(fx.read_pixels(file), numbers, labels)
    check(fx.read_pixels(file, label="label"), numbers, labels)
    check(fx.read_pixels(file, shape=(3, 3)), numbers, labels)
    check(fx.read_pixels(file, shape=(1, 3, 3)), numbers, labels, (1, 3, 3))
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(file.read_bytes()))
    check(fx.read_pixels(tmp_path / "a.csv.gz"), numbers, labels)
    table = fx.read_table(file)
    table.write_parquet(tmp_path / "a.parquet")
    check(fx.read_pixels(tmp_path / "a.parquet"), numbers, labels)
    table.select(*names, "label").write_csv(file)
    check(fx.read_pixels(file, label=-1), numbers, labels)


def test_labels_beyond_a_byte_and_missing_cells(pixels):
    file, numbers, labels = pixels
    file.write_text(file.read_text() + "70000" + ",0" * 9 + "\n")
    data = fx.read_pixels(file)
    assert data.labels[-1] == 70000
    check(fx.datasets.Images(data.images[:-1], data.labels[:-1]), numbers, labels)


@pytest.mark.parametrize(
    ("text", "options", "error", "message"),
    [
        ("7,0,1,2,256\n", {}, fx.DataError, "column_5: expected a whole number from 0 to 255, got 256 in row 0"),
        ("7,0,1,2,-1\n", {}, fx.DataError, "from 0 to 255, got -1 in row 0"),
        ("7,0,1,2,1.5\n", {}, fx.DataError, r"from 0 to 255, got 1\.5 in row 0"),
        ("7,0,1,2,3\n7,0,?,2,3\n", {}, fx.DataError, "column_3: expected .* got None in row 1"),
        ("7,0,1,2,3\n7,0,2,3\n", {}, fx.FileFormatError, "expected 5 cells in every line"),
        ("7,0,1,2,3\n7,0,2,3,4,5\n", {}, fx.FileFormatError, "expected 5 cells in every line"),
        ("label,a,b,c,d\ncat,0,1,2,3\n", {}, fx.DataError, "label: expected a whole number .* got 'cat'"),
        ("7,0,1\n", {}, fx.DataError, "got 2 in a row. Give the shape"),
        ("7,0,1,2,3\n", {"shape": (3, 2)}, fx.ShapeError, r"rows of 6 pixels for shape \(3, 2, 1\), got 4"),
        ("7,0,1,2,3\n", {"label": 5}, fx.ArgumentError, "the place of one of 5 columns, got 5"),
        ("7,0,1,2,3\n", {"label": "digit"}, fx.DataError, "expected a column 'digit'"),
        ("", {}, fx.DataError, "the file is empty"),
    ],
)  # fmt: skip
def test_refused(tmp_path, text, options, error, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(error, match=message):
        fx.read_pixels(tmp_path / "a.csv", **options)


def by_hand(file):
    """The numbers as Python's own reader gives them."""
    with file.open(newline="") as stream:
        rows = [[int(cell) for cell in row] for row in csv.reader(stream) if row[0].isdecimal()]
    return np.array(rows)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.data())
def test_what_is_written_is_read(tmp_path_factory, data):
    count, height, width = (data.draw(st.integers(1, n)) for n in (40, 5, 5))
    generator = np.random.default_rng(data.draw(st.integers(0, 100)))
    most = data.draw(st.sampled_from([2, 11, 256]))
    images = generator.integers(0, most, (count, height, width), np.uint8)
    labels = generator.integers(0, most, count, np.uint8)
    file = tmp_path_factory.mktemp("csv") / data.draw(st.sampled_from(["a.csv", "a.csv.gz"]))
    write_pixels(file, images, labels)
    read, numbers = read_pixel_bytes(file)
    np.testing.assert_array_equal(read, images[..., None], strict=True)
    np.testing.assert_array_equal(numbers, labels)
    if file.suffix == ".csv":
        rows = by_hand(file)
        np.testing.assert_array_equal(rows[:, 0], labels)
        np.testing.assert_array_equal(rows[:, 1:], images.reshape(count, -1))


def test_arrays_that_are_wrong(tmp_path):
    with pytest.raises(fx.ShapeError, match=r"images \(N, height, width\) and labels \(N,\), got \(2, 3\) and \(2,\)"):
        write_pixels(tmp_path / "a.csv", np.zeros((2, 3), np.uint8), np.zeros(2, np.uint8))
    with pytest.raises(fx.DTypeError, match="expected bytes, got float64 and uint8"):
        write_pixels(tmp_path / "a.csv", np.zeros((2, 3, 3)), np.zeros(2, np.uint8))


@pytest.mark.slow
def test_real_mnist_there_and_back(tmp_path, shared_data, monkeypatch):
    if not (shared_data / "mnist").is_dir():
        pytest.skip(f"no MNIST in {shared_data}")
    monkeypatch.setenv("FLUXION_DATA", str(shared_data))
    images, labels = fx.datasets.mnist_bytes("mnist", "train")
    write_pixels(tmp_path / "a.csv", images, labels)
    assert (tmp_path / "a.csv").stat().st_size == 109_580_200
    again, same = read_pixel_bytes(tmp_path / "a.csv")
    np.testing.assert_array_equal(again[..., 0], images, strict=True)
    np.testing.assert_array_equal(same, labels)
    with gzip.open(tmp_path / "b.csv.gz", "wb", 1) as file:
        file.write((tmp_path / "a.csv").read_bytes())
    np.testing.assert_array_equal(read_pixel_bytes(tmp_path / "b.csv.gz")[0][..., 0], images)
