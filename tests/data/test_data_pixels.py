"""Tables of pixels: the numbers of the file, in the shape of images."""

import gzip

import numpy as np
import pytest

import fluxion as fx


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
        ("7,0,1\n", {}, fx.ShapeError, "got 2 in a row. Give the shape"),
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
