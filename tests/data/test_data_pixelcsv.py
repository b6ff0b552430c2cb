import csv
import gzip
import lzma

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fluxion as fx
from fluxion.data import untrusted
from fluxion.data.pixelcsv import read_pixel_bytes, write_pixels


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
    for got, expected in zip(read_pixel_bytes(file), (images, labels), strict=True):
        np.testing.assert_array_equal(got, expected, strict=True)
    if file.suffix == ".csv":
        rows = by_hand(file)
        np.testing.assert_array_equal(rows[:, 0], labels)
        np.testing.assert_array_equal(rows[:, 1:], images.reshape(count, -1))


@pytest.mark.parametrize("chunk", [7, 20, 1 << 20])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("header", ["", "label,1x1,1x2,2x1,2x2", "label,pixel1,pixel2,pixel3,pixel4"])
@pytest.mark.parametrize("pack", [bytes, lzma.compress])
def test_forms_of_the_file(tmp_path, monkeypatch, chunk, end, header, pack):
    monkeypatch.setattr(untrusted, "_CHUNK", chunk)
    file = tmp_path / "a.csv"
    lines = [header] * bool(header) + ["5,0,255,9,10", "0,1,02,099,100", "9,0,0,0,0"]
    for last in ("", end):
        file.write_bytes(pack((end.join(lines) + last).encode()))
        images, labels = read_pixel_bytes(file)
        assert labels.tolist() == [5, 0, 9]
        assert images.tolist() == [[[0, 255], [9, 10]], [[1, 2], [99, 100]], [[0, 0], [0, 0]]]


def test_pixels_to_train_on(tmp_path):
    (tmp_path / "a.csv").write_text("label,1x1,1x2\n3,0,51\n12,255,0\n")
    data = fx.read_pixels(tmp_path / "a.csv")
    assert data.images.shape == (2, 1, 2, 1) and data.images.dtype == np.float32 and data.labels.dtype == np.int32
    assert data.labels.tolist() == [3, 12]
    np.testing.assert_array_equal(data.images.ravel(), np.float32([0, 51, 255, 0]) / np.float32(255))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a label and pixels in each line, the first is empty"),
        ("\n1,2\n", "the first is empty"),
        ("label,1x1\n", "there is no line but the header"),
        ("hello\n", "got 1 cells in the first"),
        ("1,2,3\n", "as many pixels as a square has, or a header that ends in HEIGHTxWIDTH, got 2"),
        ("1,2\n3,4,5\n", "expected 2 cells in each line, got 3 in line 2"),
        ("label,1x1\n1,2\n3\n", "expected 2 cells in each line, got 1 in line 3"),
        ("1,2\n\n3,4\n", "expected 2 cells in each line, got 1 in line 2"),
        ("label,1x1\n1,2\n3,256\n", "a whole number from 0 to 255, got '256' in line 3, column 2"),
        ("label,1x1\n1,2\n-3,25\n", "got '-3' in line 3, column 1"),
        ("1,2\n3,\n", "got '' in line 2, column 2"),
        ("1,2\n3,1.0\n", "got '1.0' in line 2, column 2"),
        ("1,2\n3,0001\n", "got '0001' in line 2, column 2"),
        ("1,2\n3, 1\n", "got ' 1' in line 2, column 2"),
        ("1,2\n3,1a\n", "got '1a' in line 2, column 2"),
        ("1,2\n3,:1\n", "got ':1' in line 2, column 2"),
        ("1,2\n3,1::\n", "got '1::' in line 2, column 2"),
        ("1,é\n3,1\n", "got 'é' in line 1, column 2"),
        ("1,2\n" + "3" * 3_000_000, "expected 2 cells in each line, got 1 in line 2"),
        ("1," * 1_000_000, "got 1000001 cells in the first|cells in the first"),
    ],
    ids=lambda value: repr(value[:12]),
)
def test_files_that_are_wrong(tmp_path, text, message):
    file = tmp_path / "a.csv"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(fx.DataError, match=message) as caught:
        read_pixel_bytes(file)
    assert str(caught.value).startswith(f"{file}: ") and len(str(caught.value)) < 400


def test_arrays_that_are_wrong(tmp_path):
    with pytest.raises(fx.ShapeError, match=r"images \(N, height, width\) and labels \(N,\), got \(2, 3\) and \(2,\)"):
        write_pixels(tmp_path / "a.csv", np.zeros((2, 3), np.uint8), np.zeros(2, np.uint8))
    with pytest.raises(fx.DTypeError, match="expected bytes, got float64 and uint8"):
        write_pixels(tmp_path / "a.csv", np.zeros((2, 3, 3)), np.zeros(2, np.uint8))
    with pytest.raises(fx.DataError, match="expected a CSV file of labels and pixels, there is none"):
        read_pixel_bytes(tmp_path / "a.csv")


@pytest.mark.slow
def test_real_mnist_there_and_back(tmp_path, shared_data, monkeypatch):
    if not (shared_data / "mnist").is_dir():
        pytest.skip(f"no MNIST in {shared_data}")
    monkeypatch.setenv("FLUXION_DATA", str(shared_data))
    images, labels = fx.datasets.mnist_bytes("mnist", "train")
    write_pixels(tmp_path / "a.csv", images, labels)
    assert (tmp_path / "a.csv").stat().st_size == 109_580_200
    again, same = read_pixel_bytes(tmp_path / "a.csv")
    np.testing.assert_array_equal(again, images, strict=True)
    np.testing.assert_array_equal(same, labels, strict=True)
    with gzip.open(tmp_path / "b.csv.gz", "wb", 1) as file:
        file.write((tmp_path / "a.csv").read_bytes())
    np.testing.assert_array_equal(read_pixel_bytes(tmp_path / "b.csv.gz")[0], images)
