"""Data sets to start with: `x, y = fx.datasets.iris()`.

Iris comes with the package. The others are read from the folder that the environment variable `FLUXION_DATA` names;
each has a subfolder there (`mnist`, `fashion-mnist`) with the files as they were published.

>>> import fluxion as fx
>>> x, y = fx.datasets.iris()
>>> x.shape, y.shape
((150, 4), (150,))
"""

from __future__ import annotations

import csv
import gzip
import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fluxion.errors import ArgumentError, DataError, FileFormatError, nearest

if TYPE_CHECKING:
    from jaxtyping import Float32, Int32, UInt8

_IMAGES = {"train": "train-images-idx3-ubyte.gz", "test": "t10k-images-idx3-ubyte.gz"}
_LABELS = {"train": "train-labels-idx1-ubyte.gz", "test": "t10k-labels-idx1-ubyte.gz"}
_DEFLATE_RATIO = 1032  # deflate cannot pack more bytes than this into one


class Table(NamedTuple):
    """The arrays of a data set of measurements."""

    features: Float32[np.ndarray, "observations features"]
    labels: Int32[np.ndarray, " observations"]


class Iris(Table):
    """Features and labels of `iris`, with the names of both.

    >>> import fluxion as fx
    >>> fx.datasets.iris().classes
    ('setosa', 'versicolor', 'virginica')
    """

    __slots__ = ()
    names = ("sepal_length", "sepal_width", "petal_length", "petal_width")
    classes = ("setosa", "versicolor", "virginica")


class Images(NamedTuple):
    """The arrays of a data set of pictures."""

    images: Float32[np.ndarray, "observations height width channels"]
    labels: Int32[np.ndarray, " observations"]


class MNIST(Images):
    """Images and labels of `mnist`, with the names of the classes.

    >>> import fluxion as fx
    >>> fx.datasets.MNIST.classes[:3]
    ('0', '1', '2')
    """

    __slots__ = ()
    classes = tuple("0123456789")


class FashionMNIST(Images):
    """Images and labels of `fashion_mnist`, with the names of the classes.

    >>> import fluxion as fx
    >>> fx.datasets.FashionMNIST.classes[9]
    'ankle boot'
    """

    __slots__ = ()
    classes = (
        "t-shirt/top",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle boot",
    )


def iris() -> Iris:
    """Fisher's iris flowers: four measurements in centimeters of 50 flowers of each of three species.

    Shapes: `features` (150, 4) float32, `labels` (150,) int32, both NumPy; `names` and `classes` say what the columns
    and the labels are. The tuple of the two goes into `DataLoader` and `splitobs` as it is.

    Source: R. A. Fisher, "The use of multiple measurements in taxonomic problems", 1936, in the version of R and of
    scikit-learn >= 0.20 (the UCI copy differs in two rows).

    >>> import fluxion as fx
    >>> x, y = fx.datasets.iris()
    >>> x.shape, y.shape, x.mean(0).round(4)
    ((150, 4), (150,), array([5.8433, 3.0573, 3.758 , 1.1993], dtype=float32))
    """
    with path("iris").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    features = np.array([row[:4] for row in rows], dtype=np.float32)
    labels = np.array([Iris.classes.index(row[4]) for row in rows], dtype=np.int32)
    return Iris(features, labels)


def mnist(split: str = "train") -> MNIST:
    """Handwritten digits: 60000 images to train on, 10000 to test on.

    Shapes: `images` (N, 28, 28, 1) float32 with pixels / 255 in [0, 1], `labels` (N,) int32 in 0, ..., 9, both NumPy.

    Arguments:
        split: "train" or "test".

    Errors: `DataError` where the files are absent, `FileFormatError` where one is damaged, `ArgumentError` for another
    split. The four files are read from `mnist/` in the folder that the environment variable `FLUXION_DATA` names.

    Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits".

    >>> import fluxion as fx
    >>> fx.datasets.mnist("tran")
    Traceback (most recent call last):
        ...
    fluxion.errors.ArgumentError: datasets.mnist: expected split "train" or "test", got 'tran'. Did you mean 'train'?
    """
    return MNIST(*_read_split("mnist", "mnist", split))


def fashion_mnist(split: str = "train") -> FashionMNIST:
    """Pictures of clothes in ten classes, in the form of MNIST: 60000 to train on, 10000 to test on.

    Shapes: `images` (N, 28, 28, 1) float32 with pixels / 255 in [0, 1], `labels` (N,) int32 in 0, ..., 9, both NumPy.

    Arguments:
        split: "train" or "test".

    Errors: as for `mnist`; the four files are read from `fashion-mnist/` in the folder `FLUXION_DATA` names.

    Source: H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST", arXiv:1708.07747.

    >>> import fluxion as fx
    >>> fx.datasets.fashion_mnist("validation")
    Traceback (most recent call last):
        ...
    fluxion.errors.ArgumentError: datasets.fashion_mnist: expected split "train" or "test", got 'validation'.
    """
    return FashionMNIST(*_read_split("fashion_mnist", "fashion-mnist", split))


def names() -> tuple[str, ...]:
    """The names of the data sets, each of which is a function of this module.

    >>> import fluxion as fx
    >>> fx.datasets.names()
    ('fashion_mnist', 'iris', 'mnist')
    """
    return ("fashion_mnist", "iris", "mnist")


def path(name: str) -> Path:
    """The CSV file of a data set that comes with the package.

    Errors: `DataError` for a name that has no CSV file.

    >>> import fluxion as fx
    >>> fx.read_table(fx.datasets.path("iris")).columns[-1]
    'species'
    """
    if name == "iris":
        return Path(__file__).with_name("iris.csv")
    if name in names():
        raise DataError(f"datasets.path: expected a data set with a CSV file (iris), got {name!r}, which is images.")
    raise DataError(f"datasets.path: expected a data set with a CSV file (iris), got {name!r}.{nearest(name, names())}")


def read_idx(file: str | Path) -> UInt8[np.ndarray, "*shape"]:
    """The array of bytes in a gzipped IDX file (the format of MNIST).

    The header is four bytes (0, 0, type, number of axes) and one big-endian 32-bit size per axis. Type 8, unsigned
    bytes, is read. The file is not trusted: sizes are checked against the file's own before memory is taken.

    Errors: `FileFormatError` with file, offset and reason; `DataError` where there is no such file.

    >>> import gzip, tempfile, os
    >>> file = os.path.join(tempfile.mkdtemp(), "a.gz")
    >>> with gzip.open(file, "wb") as f:
    ...     _ = f.write(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]))
    >>> read_idx(file)
    array([7, 9], dtype=uint8)
    """
    file = Path(file)
    if not file.is_file():
        raise DataError(f"{file}: expected a gzipped IDX file, there is none.")
    with gzip.open(file, "rb") as stream:
        magic = _read(stream, file, 0, 4)
        if magic[0] or magic[1] or magic[2] != 8 or not 1 <= magic[3] <= 4:
            raise _damaged(file, 0, f"expected an IDX header 00 00 08 and 1 to 4 axes, got {magic.tobytes().hex(' ')}")
        sizes = _read(stream, file, 4, 4 * int(magic[3]))
        shape = tuple(int(size) for size in sizes.view(">u4"))
        start, count = 4 + sizes.size, int(np.prod([int(size) for size in shape], dtype=object))
        packed = file.stat().st_size
        if count > _DEFLATE_RATIO * packed:
            raise _damaged(
                file, 4, f"the header promises {shape}, {count} bytes, more than {packed} bytes can unpack to"
            )
        data = _read(stream, file, start, count)
        _read_end(stream, file, start + count)
    return data.reshape(shape)


def _read_split(name: str, folder: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    if split not in _IMAGES:
        hint = nearest(split, _IMAGES) if isinstance(split, str) else ""
        raise ArgumentError(f'datasets.{name}: expected split "train" or "test", got {split!r}.{hint}')
    root = os.environ.get("FLUXION_DATA")
    if not root:
        raise DataError(
            f"datasets.{name}: expected the environment variable FLUXION_DATA to name a folder with "
            f"{folder}/{_IMAGES[split]}; it is not set. Put the files there and set FLUXION_DATA to that folder."
        )
    files = [Path(root) / folder / part[split] for part in (_IMAGES, _LABELS)]
    for file in files:
        if not file.is_file():
            raise DataError(
                f"datasets.{name}: expected {file.name} in {file.parent}, there is none. "
                f"Put it there, or set the environment variable FLUXION_DATA (now {root}) to the folder above {folder}."
            )
    pixels, labels = read_idx(files[0]), read_idx(files[1])
    if pixels.ndim != 3 or pixels.shape[1:] != (28, 28):
        raise _damaged(files[0], 4, f"expected images of shape (N, 28, 28), got {pixels.shape}")
    if labels.shape != pixels.shape[:1]:
        raise _damaged(files[1], 4, f"expected one label for each of {len(pixels)} images, got shape {labels.shape}")
    if labels.size and labels.max() > 9:
        worst = int(labels.argmax())
        raise _damaged(files[1], 8 + worst, f"expected labels 0 to 9, got {labels[worst]}")
    images = pixels[..., None].astype(np.float32)
    images /= 255
    return images, labels.astype(np.int32)


def _read(stream: gzip.GzipFile, file: Path, offset: int, count: int) -> np.ndarray:
    """The next `count` bytes; `offset` is where they begin in the unpacked file."""
    data = np.empty(count, dtype=np.uint8)
    view, filled = memoryview(data.data), 0
    while filled < count:
        try:
            got = stream.readinto(view[filled : filled + (1 << 20)])
        except (OSError, EOFError, zlib.error) as error:
            raise _damaged(file, offset + filled, f"not a whole gzip file ({error})") from error
        if not got:
            raise _damaged(file, offset + filled, f"the file ends where {count - filled} more bytes should be")
        filled += got
    return data


def _read_end(stream: gzip.GzipFile, file: Path, offset: int) -> None:
    try:
        more = stream.read(1)  # the end of the stream is where its checksum is verified
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(file, offset, f"not a whole gzip file ({error})") from error
    if more:
        raise _damaged(file, offset, "the file goes on after the array that its header promises")


def _damaged(file: Path, offset: int, reason: str) -> FileFormatError:
    return FileFormatError(f"{file}: at byte {offset} of the unpacked file: {reason}. Get the file anew.")
