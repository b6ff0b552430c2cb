import gzip
import hashlib
import lzma
import struct
import zlib

import numpy as np
import pytest

import fluxion as fx
from fluxion.data import imagefiles
from fluxion.data.imagefiles import read_cifar, read_idx


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


# CIFAR-10


@pytest.fixture
def short_batches(monkeypatch):
    """Batches of 4 images in the place of 10000."""
    monkeypatch.setattr(imagefiles, "CIFAR_IMAGES", 4)


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
        fx.DataError, match=r"expected data_batch_3.bin or data_batch_3.bin.xz in .*-bin, there is none"
    ):
        fx.datasets.cifar10()
    monkeypatch.delenv("FLUXION_DATA")
    with pytest.raises(fx.DataError, match=r"name a folder with cifar-10/cifar-10-batches-bin/data_batch_1.bin; it is"):
        fx.datasets.cifar10()


BATCH = cifar()
PACKED = lzma.compress(BATCH)
FLIPPED = PACKED[:-40] + bytes([PACKED[-40] ^ 1]) + PACKED[-39:]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.bin", BATCH[:-1], "at byte 12291: expected 12292 bytes, 4 records of 3073, got 12291"),
        ("a.bin", BATCH + b"x", "at byte 12292: expected 12292 bytes, .* got 12293"),
        ("a.bin", b"", "at byte 0: expected 12292 bytes"),
        ("a.bin", cifar(labels=(3, 0, 10, 1)), "at byte 6146: expected a label 0 to 9, got 10 for image 2"),
        ("a.bin.xz", lzma.compress(cifar(labels=(3, 0, 1, 255))), "at byte 9219 of the unpacked.* 255 for image 3"),
        ("a.bin.xz", lzma.compress(BATCH[:-3073]), "at byte 9219 .*: expected 12292 bytes, .* got 9219"),
        ("a.bin.xz", lzma.compress(BATCH + b"x"), "at byte 12292 .*: expected 12292 bytes, the file unpacks to more"),
        ("a.bin.xz", PACKED[:-12], "the xz file ends too early"),
        ("a.bin.xz", PACKED[:100], "the xz file ends too early"),
        ("a.bin.xz", b"", "at byte 0 .*: the xz file ends too early"),
        ("a.bin.xz", BATCH, "at byte 0 .*: not a whole xz file"),
        ("a.bin.xz", FLIPPED, "at byte .*: not a whole xz file .*[Cc]orrupt"),
        ("a.bin.xz", PACKED + b"x", "goes on after the end of its xz stream"),
        ("a.bin.xz", PACKED + PACKED, "goes on after the end of its xz stream"),
        ("a.bin.xz", lzma.compress(BATCH, lzma.FORMAT_ALONE), "not a whole xz file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_damaged_cifar_files(tmp_path, short_batches, name, data, message):
    file = tmp_path / name
    file.write_bytes(data)
    with pytest.raises(fx.FileFormatError, match=message) as caught:
        read_cifar(file)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


def test_a_cifar_file_that_unpacks_to_much_is_not_unpacked(tmp_path, monkeypatch, short_batches):
    unpacked = []

    class Watched:
        def __init__(self, *args, **options):
            self.decoder = decoder(*args, **options)

        def __getattr__(self, name):
            return getattr(self.decoder, name)

        def decompress(self, data, limit):
            unpacked.append(self.decoder.decompress(data, limit))
            return unpacked[-1]

    decoder = lzma.LZMADecompressor
    monkeypatch.setattr(lzma, "LZMADecompressor", Watched)
    bomb = tmp_path / "bomb.bin.xz"
    bomb.write_bytes(lzma.compress(bytes(50_000_000)))
    with pytest.raises(fx.FileFormatError, match="expected 12292 bytes, the file unpacks to more"):
        read_cifar(bomb)
    assert sum(map(len, unpacked)) == 12293
    # A header that asks for a gigabyte of memory, which a decoder takes before it has seen anything.
    packed = bytearray(lzma.compress(BATCH, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20}]))
    assert packed[16] == 16  # the size of the dictionary, in the coding of xz; 36 is 1 GiB
    packed[16] = 36
    packed[20:24] = struct.pack("<I", zlib.crc32(packed[12:20]))
    bomb.write_bytes(packed)
    with pytest.raises(fx.FileFormatError, match=r"not a whole xz file .*[Mm]emory"):
        read_cifar(bomb)


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
