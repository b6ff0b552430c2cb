import gzip
import hashlib
import io
import lzma
import struct
import tarfile

import numpy as np
import pytest

import fluxion as fx
from fluxion.data import datasets
from fluxion.data.catalogue import CATALOGUE
from fluxion.data.cifar import Records


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
    with pytest.raises(fx.DataError, match="got 'mnist', which has none"):
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
    with pytest.raises(
        fx.DataError, match=r"expected train-images-idx3-ubyte.gz or train-images-.* in .*mnist, there is"
    ):
        fx.datasets.mnist()
    monkeypatch.delenv("FLUXION_DATA")
    with pytest.raises(
        fx.DataError, match="in FLUXION_DATA/mnist, there is none, and it is not downloaded, because FLUXION_CACHE"
    ):
        fx.datasets.mnist()
    with pytest.raises(fx.ArgumentError, match='expected split "train" or "test", got 3'):
        fx.datasets.mnist(3)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((2, 28, 27)), np.zeros(2), r"images of shape \(N, 28, 28\), got \(2, 28, 27\)"),
        (np.zeros((2, 28, 28)), np.zeros(3), r"one label for each of 2 images, got uint8 \(3,\)"),
        (np.zeros((2, 28, 28)), np.array([1, 10]), "at byte 9 .*: expected labels 0 to 9, got 10"),
    ],
)
def test_mnist_files_that_do_not_fit(tmp_path, monkeypatch, images, labels, message):
    write_mnist(tmp_path / "mnist", images.astype(np.uint8), labels.astype(np.uint8))
    monkeypatch.setenv("FLUXION_DATA", str(tmp_path))
    with pytest.raises(fx.FileFormatError, match=message):
        fx.datasets.mnist("test")


def test_real_mnist(shared_data, monkeypatch):
    if not (shared_data / "mnist").is_dir():
        pytest.skip(f"no MNIST in {shared_data}")
    monkeypatch.setenv("FLUXION_DATA", str(shared_data))
    x, y = fx.datasets.mnist("test")
    assert x.shape == (10000, 28, 28, 1) and x.min() == 0 and x.max() == 1
    # The published counts of the digits in the test set, and its first labels.
    assert np.bincount(y).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert y[:5].tolist() == [7, 2, 1, 0, 4]


# CIFAR-10


@pytest.fixture
def short_batches(monkeypatch):
    """Batches of 4 images in the place of 10000."""
    for files in datasets._CIFAR10.values():
        for name in files:
            monkeypatch.setitem(files, name, Records(4, (10,)))


def cifar(start=0, labels=(3, 0, 9, 1)):
    """The bytes of a batch: in record i, the pixel of plane c, row h, column w is start + i + 50c + 4h + w mod 256."""
    i, c, h, w = np.ogrid[: len(labels), :3, :32, :32]
    pixels = (start + i + 50 * c + 4 * h + w).astype(np.uint8).reshape(len(labels), -1)
    return np.hstack([np.array(labels, np.uint8)[:, None], pixels]).tobytes()


def write_cifar(folder, start=0, labels=(3, 0, 9, 1)):
    folder = folder / "cifar-10" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for i in range(5):  # plain and packed files side by side
        data, name = cifar(start + 10 * i, labels), folder / f"data_batch_{i + 1}.bin"
        name.write_bytes(data) if i % 2 else name.with_suffix(".bin.xz").write_bytes(lzma.compress(data))
    (folder / "test_batch.bin").write_bytes(cifar(99))
    return folder


def test_cifar_is_read_in_the_order_of_the_files(tmp_path, monkeypatch, short_batches):
    folder = write_cifar(tmp_path)
    monkeypatch.setenv("FLUXION_DATA", str(tmp_path))
    data = fx.datasets.cifar10()
    assert type(data) is fx.datasets.CIFAR10 and data.images.dtype == np.float32 and data.labels.dtype == np.int32
    assert data.images.shape == (20, 32, 32, 3) and data.labels.tolist() == [3, 0, 9, 1] * 5
    b, i, h, w, c = np.ogrid[:5, :4, :32, :32, :3]
    expected = (10 * b + i + 50 * c + 4 * h + w).reshape(20, 32, 32, 3)
    np.testing.assert_array_equal(data.images, (expected % 256).astype(np.float32) / np.float32(255))
    assert data.classes[data.labels[0]] == "cat"
    assert fx.datasets.cifar10("test").images[0, 0, 0].tolist() == (np.float32([99, 149, 199]) / 255).tolist()
    (folder / "data_batch_3.bin.xz").unlink()
    with pytest.raises(
        fx.DataError,
        match=r"datasets.cifar10: expected cifar-10-binary.tar.gz or cifar-10-batches-bin/data_batch_3.bin in "
        r".*cifar-10, there is none, and it is not downloaded, because FLUXION_CACHE is off. Put it there, or set ",
    ):
        fx.datasets.cifar10()


def test_cifar_in_its_archive(tmp_path, monkeypatch, short_batches):
    monkeypatch.setenv("FLUXION_DATA", str(tmp_path))
    (tmp_path / "cifar-10").mkdir()
    with tarfile.open(tmp_path / "cifar-10" / "cifar-10-binary.tar.gz", "w:gz") as tar:
        for i, name in enumerate(["test_batch", *(f"data_batch_{i}" for i in range(5, 0, -1))]):
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            info.size = len(cifar())
            tar.addfile(info, io.BytesIO(cifar(10 * i)))
    x, y = fx.datasets.cifar10()
    assert x.shape == (20, 32, 32, 3) and y.tolist() == [3, 0, 9, 1] * 5
    assert (x[::4, 0, 0, 0] * 255).round().tolist() == [50, 40, 30, 20, 10]
    assert fx.datasets.cifar10("test").images[0, 0, 0, 0] == 0


def test_cifar100_has_fine_and_coarse_labels(tmp_path, monkeypatch):
    for files in datasets._CIFAR100.values():
        for name in files:
            monkeypatch.setitem(files, name, Records(4, (20, 100)))
    folder = tmp_path / "cifar-100" / "cifar-100-binary"
    folder.mkdir(parents=True)
    records = np.frombuffer(cifar(labels=(19, 0, 7, 3)), np.uint8).reshape(4, 3073)
    fine = np.array([99, 0, 50, 7], np.uint8)
    whole = np.hstack([records[:, :1], fine[:, None], records[:, 1:]])
    (folder / "train.bin").write_bytes(whole.tobytes())
    (folder / "test.bin.gz").write_bytes(gzip.compress(whole.tobytes()))
    monkeypatch.setenv("FLUXION_DATA", str(tmp_path))
    data, coarse = fx.datasets.cifar100(), fx.datasets.cifar100("test", labels="coarse")
    assert data.labels.tolist() == [99, 0, 50, 7] and data.classes[50] == "mouse" and data.classes[99] == "worm"
    assert coarse.labels.tolist() == [19, 0, 7, 3] and coarse.classes[19] == "vehicles 2"
    assert len(data.classes) == 100 and len(coarse.classes) == 20 and data.labels.dtype == np.int32
    assert data.images[0, 0, 0].tolist() == (np.float32([0, 50, 100]) / 255).tolist()
    np.testing.assert_array_equal(data.images, coarse.images)
    whole[2, 1] = 100
    (folder / "train.bin").write_bytes(whole.tobytes())
    with pytest.raises(fx.FileFormatError, match="at byte 6149: expected a label 0 to 99, got 100 for image 2"):
        fx.datasets.cifar100()


def test_real_cifar(shared_data, monkeypatch):
    folder = shared_data / "cifar-10" / "cifar-10-batches-bin"
    if not folder.is_dir():
        pytest.skip(f"no CIFAR-10 in {shared_data}")
    monkeypatch.setenv("FLUXION_DATA", str(shared_data))
    x, y = fx.datasets.cifar10("test")
    assert x.shape == (10000, 32, 32, 3) and x.dtype == np.float32 and np.bincount(y).tolist() == [1000] * 10
    # Back to bytes, the file is the one that was published.
    planes = np.rint(x * 255).astype(np.uint8).transpose(0, 3, 1, 2).reshape(10000, 3072)
    records = np.hstack([y.astype(np.uint8)[:, None], planes])
    assert hashlib.md5(records.tobytes()).hexdigest().startswith("803d5f7f")
    assert (folder / "batches.meta.txt").read_text().split() == list(fx.datasets.CIFAR10.classes)


@pytest.mark.slow
def test_real_cifar_to_train_on(shared_data, monkeypatch):
    if not (shared_data / "cifar-10").is_dir():
        pytest.skip(f"no CIFAR-10 in {shared_data}")
    monkeypatch.setenv("FLUXION_DATA", str(shared_data))
    x, y = fx.datasets.cifar10()
    assert x.shape == (50000, 32, 32, 3) and np.bincount(y).tolist() == [5000] * 10
    # The mean and the standard deviation of each channel as they stand in many a training script.
    np.testing.assert_allclose(x.mean((0, 1, 2), np.float64), [0.4914, 0.4822, 0.4465], atol=5e-5)
    np.testing.assert_allclose(x.std((0, 1, 2), np.float64), [0.2470, 0.2435, 0.2616], atol=5e-5)
    planes = np.rint(x[:10000] * 255).astype(np.uint8).transpose(0, 3, 1, 2).reshape(10000, 3072)
    records = np.hstack([y[:10000].astype(np.uint8)[:, None], planes])
    assert hashlib.md5(records.tobytes()).hexdigest().startswith("5dd7e06a")


@pytest.mark.slow
def test_real_cifar_in_an_archive_of_the_published_size(shared_data, tmp_path, monkeypatch):
    folder = shared_data / "cifar-10" / "cifar-10-batches-bin"
    if not folder.is_dir():
        pytest.skip(f"no CIFAR-10 in {shared_data}")
    (tmp_path / "cifar-10").mkdir()
    with tarfile.open(tmp_path / "cifar-10" / "cifar-10-binary.tar.gz", "w:gz", compresslevel=1) as tar:
        for packed in sorted(folder.glob("*.xz")):
            data = lzma.decompress(packed.read_bytes())
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{packed.stem}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    for split in ("train", "test"):
        monkeypatch.setenv("FLUXION_DATA", str(shared_data))
        expected = fx.datasets.cifar10(split)
        monkeypatch.setenv("FLUXION_DATA", str(tmp_path))
        for got, part in zip(fx.datasets.cifar10(split), expected, strict=True):
            np.testing.assert_array_equal(got, part)


# Tiny Shakespeare


def test_tinyshakespeare(tmp_path, monkeypatch):
    monkeypatch.setenv("FLUXION_DATA", str(tmp_path))
    with pytest.raises(fx.DataError, match=r"expected input.txt in .*tinyshakespeare, there is none"):
        fx.datasets.tinyshakespeare()
    file = tmp_path / "tinyshakespeare" / "input.txt"
    file.parent.mkdir()
    text = b"To be,\r\nor not" + bytes(1115380)
    file.write_bytes(text)
    assert fx.datasets.tinyshakespeare() == text.decode()
    file.write_bytes(text[:-1])
    with pytest.raises(fx.FileFormatError, match=r"input.txt: expected 1115394 bytes, got 1115393"):
        fx.datasets.tinyshakespeare()
    file.write_bytes(text[:-1] + b"\xe9")
    with pytest.raises(fx.FileFormatError, match=r"input.txt: at byte 1115393: expected ASCII .* got the byte 0xe9"):
        fx.datasets.tinyshakespeare()


def test_real_tinyshakespeare(shared_data, monkeypatch):
    if not (shared_data / "tinyshakespeare").is_dir():
        pytest.skip(f"no Tiny Shakespeare in {shared_data}")
    monkeypatch.setenv("FLUXION_DATA", str(shared_data))
    text = fx.datasets.tinyshakespeare()
    # "length of dataset in characters: 1,115,394", and "vocab size: 65", of Karpathy's nanoGPT.
    assert (len(text), len(set(text))) == (1_115_394, 65)
    assert "".join(sorted(set(text))) == "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


# Names and tables


def test_first_names(tmp_path, monkeypatch):
    monkeypatch.setenv("FLUXION_DATA", str(tmp_path))
    (tmp_path / "names").mkdir()
    (tmp_path / "names" / "names.txt").write_text("emma\nolivia")
    assert fx.datasets.first_names() == ["emma", "olivia"]


@pytest.mark.parametrize(
    ("name", "shape", "column", "total", "missing"),
    [  # totals that awk gives for the same files
        ("titanic", (891, 12), "Survived", 342, 866),
        ("penguins", (344, 8), "body_mass_g", 1437000, 19),
        ("boston_housing", (506, 14), "MEDV", 11401.6, 0),
        ("auto_mpg", (398, 9), "mpg", 9358.8, 6),
        ("airline_passengers", (144, 2), "Passengers", 40363, 0),
        ("sunspots", (2820, 2), "Sunspots", 144570.0, 0),
        ("daily_min_temperatures", (3650, 2), "Temp", 40798.8, 0),
    ],
)
def test_real_tables(shared_data, monkeypatch, name, shape, column, total, missing):
    monkeypatch.setenv("FLUXION_DATA", str(shared_data))
    table = getattr(fx.datasets, name)()
    assert table.shape == shape and abs(table[column].sum() - total) < 0.01
    assert sum(table.null_count().row(0)) == missing
    assert fx.datasets.path(name).read_text().count("\n") >= shape[0]


def test_the_files_are_those_of_the_catalogue(shared_data):
    """The checksums that a download must have are those of the files that were published."""
    compared = 0
    for entry in CATALOGUE.values():
        for file in entry.files:
            path = shared_data / entry.folder / file.name
            if path.is_file():
                compared += 1
                assert path.stat().st_size == file.size
                assert hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256
                assert all(place.startswith("http") and place.endswith("/") for place in file.places)
    assert compared >= 17 or not (shared_data / "mnist").is_dir()
