import gzip
import struct

import numpy as np
import pytest

import fluxion as fx
from fluxion.data.datasets import read_idx


def idx(shape, body, magic=b"\x00\x00\x08"):
    return magic + bytes([len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + body


def write_mnist(folder, images, labels, split="t10k"):
    folder.mkdir(parents=True, exist_ok=True)
    with gzip.open(folder / f"{split}-images-idx3-ubyte.gz", "wb") as file:
        file.write(idx(images.shape, images.tobytes()))
    with gzip.open(folder / f"{split}-labels-idx1-ubyte.gz", "wb") as file:
        file.write(idx(labels.shape, labels.tobytes()))


def test_iris_is_fishers_data():
    data = fx.datasets.iris()
    x, y = data
    assert x.shape == (150, 4) and x.dtype == np.float32 and y.dtype == np.int32
    assert np.bincount(y).tolist() == [50, 50, 50]
    # The sums that Fisher's table has: 876.5, 458.6, 563.7, 179.9 centimeters.
    np.testing.assert_allclose(x.astype(float).sum(0), [876.5, 458.6, 563.7, 179.9], atol=1e-4)
    np.testing.assert_allclose(x.mean(0), [5.8433, 3.0573, 3.758, 1.1993], atol=5e-5)
    # The standard deviations that R prints for `sapply(iris[1:4], sd)`.
    np.testing.assert_allclose(x.std(0, ddof=1), [0.8280661, 0.4358663, 1.7652982, 0.7622377], rtol=1e-6)
    np.testing.assert_array_equal(x[34], np.float32([4.9, 3.1, 1.5, 0.2]))  # the two rows that UCI has wrong
    np.testing.assert_array_equal(x[37], np.float32([4.9, 3.6, 1.4, 0.1]))
    assert data.features is x and data.names[0] == "sepal_length" and data.classes[2] == "virginica"
    batch = next(iter(fx.DataLoader(data, batch_size=3)))
    assert type(batch) is fx.datasets.Iris and batch.classes == data.classes


def test_iris_equals_scikit_learns():
    sklearn = pytest.importorskip("sklearn.datasets", reason="scikit-learn is the outside reference")
    reference = sklearn.load_iris()
    x, y = fx.datasets.iris()
    np.testing.assert_array_equal(x, reference.data.astype(np.float32))
    np.testing.assert_array_equal(y, reference.target)


def test_names_and_paths():
    assert all(callable(getattr(fx.datasets, name)) for name in fx.datasets.names())
    assert (
        fx.datasets.path("iris").read_text().startswith("sepal_length,sepal_width,petal_length,petal_width,species\n")
    )
    with pytest.raises(fx.DataError, match="got 'mnist', which is images"):
        fx.datasets.path("mnist")
    with pytest.raises(fx.DataError, match=r"got 'irris'\. Did you mean 'iris'\?"):
        fx.datasets.path("irris")


def test_mnist_is_read_from_the_folder(tmp_path, monkeypatch):
    images = np.arange(3 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(3, 28, 28)
    write_mnist(tmp_path / "mnist", images, np.array([3, 0, 9], np.uint8))
    write_mnist(tmp_path / "fashion-mnist", 255 - images, np.array([1, 1, 2], np.uint8), "train")
    monkeypatch.setenv("FLUXION_DATA", str(tmp_path))
    x, y = fx.datasets.mnist("test")
    assert x.shape == (3, 28, 28, 1) and x.dtype == np.float32 and y.dtype == np.int32 and y.tolist() == [3, 0, 9]
    np.testing.assert_array_equal(x[..., 0], images / np.float32(255))
    fashion = fx.datasets.fashion_mnist()
    np.testing.assert_allclose(fashion.images + x, 1, rtol=1e-6)
    assert fashion.classes[fashion.labels[0]] == "trouser"
    with pytest.raises(fx.DataError, match=r"expected train-images-idx3-ubyte.gz in .*mnist, there is none"):
        fx.datasets.mnist()
    monkeypatch.delenv("FLUXION_DATA")
    with pytest.raises(fx.DataError, match="FLUXION_DATA to name a folder with mnist/train-images"):
        fx.datasets.mnist()
    with pytest.raises(fx.ArgumentError, match='expected split "train" or "test", got 3'):
        fx.datasets.mnist(3)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((2, 28, 27)), np.zeros(2), r"images of shape \(N, 28, 28\), got \(2, 28, 27\)"),
        (np.zeros((2, 28, 28)), np.zeros(3), r"one label for each of 2 images, got shape \(3,\)"),
        (np.zeros((2, 28, 28)), np.array([1, 10]), "at byte 9 .*: expected labels 0 to 9, got 10"),
    ],
)
def test_mnist_files_that_do_not_fit(tmp_path, monkeypatch, images, labels, message):
    write_mnist(tmp_path / "mnist", images.astype(np.uint8), labels.astype(np.uint8))
    monkeypatch.setenv("FLUXION_DATA", str(tmp_path))
    with pytest.raises(fx.FileFormatError, match=message):
        fx.datasets.mnist("test")


GOOD = idx((2, 3), bytes(range(6)))


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        (gzip.compress(GOOD)[:-12], "at byte .*: not a whole gzip file"),
        (gzip.compress(GOOD)[:-8] + bytes(8), "not a whole gzip file .*CRC"),
        (gzip.compress(GOOD) + b"garbage", "not a whole gzip file"),
        (b"garbage", "at byte 0 .*: not a whole gzip file"),
        (b"", "at byte 0 .*: the file ends where 4 more bytes should be"),
        (gzip.compress(GOOD[:-2]), "at byte 16 .*: the file ends where 2 more bytes should be"),
        (gzip.compress(GOOD + b"x"), "at byte 18 .*: the file goes on after"),
        (gzip.compress(GOOD[:6]), "at byte 6 .*: the file ends where 6 more"),
        (gzip.compress(idx((2,), b"ab", b"\x00\x00\x0d")), "at byte 0 .*expected an IDX header .* got 00 00 0d 01"),
        (gzip.compress(idx((1,) * 5, b"a")), "1 to 4 axes, got 00 00 08 05"),
        (gzip.compress(idx((2**32 - 1,) * 4, b"")), "at byte 4 .*more than .* bytes can unpack to"),
        (gzip.compress(idx((2**31,), b"abc")), "2147483648 bytes, more than"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # the bytes hold the time of their packing
)
def test_damaged_idx_files(tmp_path, packed, message):
    file = tmp_path / "a.gz"
    file.write_bytes(packed)
    with pytest.raises(fx.FileFormatError, match=message) as caught:
        read_idx(file)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


def test_idx_files(tmp_path):
    file = tmp_path / "a.gz"
    file.write_bytes(gzip.compress(GOOD))
    np.testing.assert_array_equal(read_idx(file), [[0, 1, 2], [3, 4, 5]])
    file.write_bytes(gzip.compress(idx((0, 28, 28), b"")))
    assert read_idx(file).shape == (0, 28, 28)
    with pytest.raises(fx.DataError, match="there is none"):
        read_idx(tmp_path / "b.gz")


def test_real_mnist(shared_data, monkeypatch):
    if not (shared_data / "mnist").is_dir():
        pytest.skip(f"no MNIST in {shared_data}")
    monkeypatch.setenv("FLUXION_DATA", str(shared_data))
    x, y = fx.datasets.mnist("test")
    assert x.shape == (10000, 28, 28, 1) and x.min() == 0 and x.max() == 1
    # The published counts of the digits in the test set, and its first labels.
    assert np.bincount(y).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert y[:5].tolist() == [7, 2, 1, 0, 4]
