"""Data sets to start with: `x, y = fx.datasets.iris()`.

Iris comes with the package. The others are read from the folder that the environment variable `FLUXION_DATA` names;
each has a subfolder there (`mnist`, `fashion-mnist`, `cifar-10`, `tinyshakespeare`) with the files as they were
published.

>>> import fluxion as fx
>>> x, y = fx.datasets.iris()
>>> x.shape, y.shape
((150, 4), (150,))
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fluxion.data.imagefiles import damaged, read_cifar, read_idx
from fluxion.errors import ArgumentError, DataError, FileFormatError, nearest

if TYPE_CHECKING:
    from jaxtyping import Float32, Int32

_MNIST = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
_CIFAR = {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)}
_SHAKESPEARE_BYTES = 1_115_394


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


class CIFAR10(Images):
    """Images and labels of `cifar10`, with the names of the classes.

    >>> import fluxion as fx
    >>> fx.datasets.CIFAR10.classes[3]
    'cat'
    """

    __slots__ = ()
    classes = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


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
    return MNIST(*_read_mnist("mnist", "mnist", split))


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
    return FashionMNIST(*_read_mnist("fashion_mnist", "fashion-mnist", split))


def cifar10(split: str = "train") -> CIFAR10:
    """Small photographs of animals and vehicles in ten classes: 50000 to train on, 10000 to test on.

    Shapes: `images` (N, 32, 32, 3) float32 with red, green and blue / 255 in [0, 1], `labels` (N,) int32 in 0, ..., 9,
    both NumPy and in the order of the files.

    Arguments:
        split: "train" or "test".

    Errors: as for `mnist`. The binary version's batches are read from `cifar-10/cifar-10-batches-bin/` in the folder
    `FLUXION_DATA` names, `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin`, each as it is or packed by xz.

    Source: A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009.

    >>> import fluxion as fx
    >>> fx.datasets.cifar10("tests")
    Traceback (most recent call last):
        ...
    fluxion.errors.ArgumentError: datasets.cifar10: expected split "train" or "test", got 'tests'. Did you mean 'test'?
    """
    names = _choose("cifar10", split, _CIFAR)
    files = [_find("cifar10", "cifar-10/cifar-10-batches-bin", name, name + ".xz") for name in names]
    with ThreadPoolExecutor() as pool:
        batches = list(pool.map(read_cifar, files))
    images = np.empty((sum(len(labels) for _, labels in batches), 32, 32, 3), np.float32)
    start = 0
    for pixels, _ in batches:
        np.divide(pixels, np.float32(255), out=images[start : start + len(pixels)])
        start += len(pixels)
    return CIFAR10(images, np.concatenate([labels for _, labels in batches]).astype(np.int32))


def tinyshakespeare() -> str:
    """A million characters of Shakespeare's plays, 65 of them different: the text to learn writing from.

    Errors: `DataError` where the file is absent, `FileFormatError` where it is not the 1115394 ASCII characters that
    were published. It is read from `tinyshakespeare/input.txt` in the folder that the environment variable
    `FLUXION_DATA` names.

    Source: A. Karpathy, "The unreasonable effectiveness of recurrent neural networks", 2015.

    >>> import fluxion as fx
    >>> text = fx.datasets.tinyshakespeare()  # doctest: +SKIP
    >>> text[:14]  # doctest: +SKIP
    'First Citizen:'
    """
    file = _find("tinyshakespeare", "tinyshakespeare", "input.txt")
    size = file.stat().st_size
    if size != _SHAKESPEARE_BYTES:
        raise FileFormatError(f"{file}: expected {_SHAKESPEARE_BYTES} bytes, got {size}. Get the file anew.")
    data = file.read_bytes()
    if not data.isascii():
        where = next(i for i, byte in enumerate(data) if byte > 127)
        raise damaged(file, where, f"expected ASCII characters, got the byte {data[where]:#04x}")
    return data.decode("ascii")


def names() -> tuple[str, ...]:
    """The names of the data sets, each of which is a function of this module.

    >>> import fluxion as fx
    >>> fx.datasets.names()
    ('cifar10', 'fashion_mnist', 'iris', 'mnist', 'tinyshakespeare')
    """
    return ("cifar10", "fashion_mnist", "iris", "mnist", "tinyshakespeare")


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
        raise DataError(f"datasets.path: expected a data set with a CSV file (iris), got {name!r}, which has none.")
    raise DataError(f"datasets.path: expected a data set with a CSV file (iris), got {name!r}.{nearest(name, names())}")


def _read_mnist(name: str, folder: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    image_file, label_file = (_find(name, folder, file) for file in _choose(name, split, _MNIST))
    pixels, labels = read_idx(image_file), read_idx(label_file)
    if pixels.ndim != 3 or pixels.shape[1:] != (28, 28):
        raise damaged(image_file, 4, f"expected images of shape (N, 28, 28), got {pixels.shape}")
    if labels.shape != pixels.shape[:1]:
        raise damaged(label_file, 4, f"expected one label for each of {len(pixels)} images, got shape {labels.shape}")
    if labels.size and labels.max() > 9:
        worst = int(labels.argmax())
        raise damaged(label_file, 8 + worst, f"expected labels 0 to 9, got {labels[worst]}")
    images = pixels[..., None].astype(np.float32)
    images /= 255
    return images, labels.astype(np.int32)


def _choose(name: str, split: str, files: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The names of the files of a split."""
    if split not in files:
        hint = nearest(split, files) if isinstance(split, str) else ""
        raise ArgumentError(f'datasets.{name}: expected split "train" or "test", got {split!r}.{hint}')
    return files[split]


def _find(name: str, folder: str, *wanted: str) -> Path:
    """The first of the files `wanted` that is in the folder of the data set `name`."""
    root = os.environ.get("FLUXION_DATA")
    if not root:
        raise DataError(
            f"datasets.{name}: expected the environment variable FLUXION_DATA to name a folder with "
            f"{folder}/{wanted[0]}; it is not set. Put the files there and set FLUXION_DATA to that folder."
        )
    parent = Path(root) / folder
    for file in wanted:
        if (parent / file).is_file():
            return parent / file
    raise DataError(
        f"datasets.{name}: expected {' or '.join(wanted)} in {parent}, there is none. "
        f"Put it there, or set the environment variable FLUXION_DATA (now {root}) to the folder above {folder}."
    )
