"""Data sets to start with: `x, y = fx.datasets.iris()`.

Iris comes with the package. The others are looked for in the folder that the environment variable `FLUXION_DATA` names,
then in the user's cache folder, and are else downloaded to the latter, once. Each has a subfolder there (`mnist`,
`fashion-mnist`, `cifar-10`, ...) with the files as they were published.

A data set of pictures gives `(images, labels)` of a split, a table a polars table, a text the text.

>>> import fluxion as fx
>>> x, y = fx.datasets.iris()
>>> x.shape, y.shape
((150, 4), (150,))
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from fluxion.data.catalogue import CATALOGUE, IRIS, find, look_packed
from fluxion.data.cifar import Records, read_cifar, read_cifar_archive
from fluxion.data.idx import read_idx_images
from fluxion.data.tablefiles import read_table
from fluxion.data.text import read_lines
from fluxion.data.untrusted import damaged
from fluxion.errors import ArgumentError, DataError, FileFormatError, nearest

if TYPE_CHECKING:
    import polars
    from jaxtyping import Float32, Int32, UInt8

T = TypeVar("T")

_MNIST = {"train": "train", "test": "t10k"}  # what the names of the files begin with
_CIFAR10 = {
    "train": {f"cifar-10-batches-bin/data_batch_{i}.bin": Records(10_000, (10,)) for i in range(1, 6)},
    "test": {"cifar-10-batches-bin/test_batch.bin": Records(10_000, (10,))},
}
_CIFAR100 = {
    "train": {"cifar-100-binary/train.bin": Records(50_000, (20, 100))},
    "test": {"cifar-100-binary/test.bin": Records(10_000, (20, 100))},
}
_FINE = (
    "apple,aquarium fish,baby,bear,beaver,bed,bee,beetle,bicycle,bottle,bowl,boy,bridge,bus,butterfly,camel,can,"
    "castle,caterpillar,cattle,chair,chimpanzee,clock,cloud,cockroach,couch,crab,crocodile,cup,dinosaur,dolphin,"
    "elephant,flatfish,forest,fox,girl,hamster,house,kangaroo,keyboard,lamp,lawn mower,leopard,lion,lizard,lobster,"
    "man,maple tree,motorcycle,mountain,mouse,mushroom,oak tree,orange,orchid,otter,palm tree,pear,pickup truck,"
    "pine tree,plain,plate,poppy,porcupine,possum,rabbit,raccoon,ray,road,rocket,rose,sea,seal,shark,shrew,skunk,"
    "skyscraper,snail,snake,spider,squirrel,streetcar,sunflower,sweet pepper,table,tank,telephone,television,tiger,"
    "tractor,train,trout,tulip,turtle,wardrobe,whale,willow tree,wolf,woman,worm"
)
_COARSE = (
    "aquatic mammals,fish,flowers,food containers,fruit and vegetables,household electrical devices,"
    "household furniture,insects,large carnivores,large man-made outdoor things,large natural outdoor scenes,"
    "large omnivores and herbivores,medium mammals,non-insect invertebrates,people,reptiles,small mammals,trees,"
    "vehicles 1,vehicles 2"
)


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


class CIFAR100(Images):
    """Images and fine labels of `cifar100`, with the names of the classes.

    >>> import fluxion as fx
    >>> len(fx.datasets.CIFAR100.classes), fx.datasets.CIFAR100.classes[0]
    (100, 'apple')
    """

    __slots__ = ()
    classes = tuple(_FINE.split(","))


class CIFAR100Coarse(Images):
    """Images and coarse labels of `cifar100`, with the names of the classes.

    >>> import fluxion as fx
    >>> len(fx.datasets.CIFAR100Coarse.classes), fx.datasets.CIFAR100Coarse.classes[0]
    (20, 'aquatic mammals')
    """

    __slots__ = ()
    classes = tuple(_COARSE.split(","))


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
    with IRIS.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    features = np.array([row[:4] for row in rows], dtype=np.float32)
    labels = np.array([Iris.classes.index(row[4]) for row in rows], dtype=np.int32)
    return Iris(features, labels)


def mnist(split: str = "train") -> MNIST:
    """Handwritten digits: 60000 images to train on, 10000 to test on.

    Shapes: `images` (N, 28, 28, 1) float32 with pixels / 255 in [0, 1], `labels` (N,) int32 in 0, ..., 9, both NumPy.

    Arguments:
        split: "train" or "test".

    Errors: `DataError` where the files are absent and cannot be downloaded, `FileFormatError` where one is damaged,
    `ArgumentError` for another split. The four IDX files are in the folder `mnist`, packed by gzip or plain.

    Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits".

    >>> import fluxion as fx
    >>> fx.datasets.mnist("tran")
    Traceback (most recent call last):
        ...
    fluxion.errors.ArgumentError: datasets.mnist: expected split "train" or "test", got 'tran'. Did you mean 'train'?
    """
    return MNIST(*_read_mnist("mnist", split))


def fashion_mnist(split: str = "train") -> FashionMNIST:
    """Pictures of clothes in ten classes, in the form of MNIST: 60000 to train on, 10000 to test on.

    Shapes: `images` (N, 28, 28, 1) float32 with pixels / 255 in [0, 1], `labels` (N,) int32 in 0, ..., 9, both NumPy.

    Arguments:
        split: "train" or "test".

    Errors: as for `mnist`; the four files of the same names are in the folder `fashion-mnist`.

    Source: H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST", arXiv:1708.07747.

    >>> import fluxion as fx
    >>> fx.datasets.fashion_mnist("validation")
    Traceback (most recent call last):
        ...
    fluxion.errors.ArgumentError: datasets.fashion_mnist: expected split "train" or "test", got 'validation'.
    """
    return FashionMNIST(*_read_mnist("fashion_mnist", split))


def cifar10(split: str = "train") -> CIFAR10:
    """Small photographs of animals and vehicles in ten classes: 50000 to train on, 10000 to test on.

    Shapes: `images` (N, 32, 32, 3) float32 with red, green and blue / 255 in [0, 1], `labels` (N,) int32 in 0, ..., 9,
    both NumPy and in the order of the files.

    Arguments:
        split: "train" or "test".

    Errors: as for `mnist`. The folder `cifar-10` has the archive `cifar-10-binary.tar.gz`, which is not unpacked, or a
    folder `cifar-10-batches-bin` with what is in it, each file as it is or packed by gzip or xz.

    Source: A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009.

    >>> import fluxion as fx
    >>> fx.datasets.cifar10("tests")
    Traceback (most recent call last):
        ...
    fluxion.errors.ArgumentError: datasets.cifar10: expected split "train" or "test", got 'tests'. Did you mean 'test'?
    """
    return CIFAR10(*_read_cifar("cifar10", "cifar-10-binary.tar.gz", _choose("cifar10", split, _CIFAR10), 0))


def cifar100(split: str = "train", *, labels: str = "fine") -> CIFAR100 | CIFAR100Coarse:
    """Small photographs in a hundred classes, or in the twenty that these belong to: 50000 and 10000.

    Shapes: `images` (N, 32, 32, 3) float32 with red, green and blue / 255 in [0, 1], `labels` (N,) int32 in 0, ..., 99
    or 0, ..., 19, both NumPy and in the order of the files.

    Arguments:
        split: "train" or "test".
        labels: "fine" for the hundred classes, "coarse" for the twenty.

    Errors: as for `mnist`. The folder `cifar-100` has the archive `cifar-100-binary.tar.gz`, which is not unpacked, or
    a folder `cifar-100-binary` with what is in it, each file as it is or packed by gzip or xz.

    Source: A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009.

    >>> import fluxion as fx
    >>> fx.datasets.cifar100(labels="course")
    Traceback (most recent call last):
        ...
    fluxion.errors.ArgumentError: datasets.cifar100: expected labels "fine" or "coarse", got 'course'. Did you mean
    'coarse'?
    """
    files = _choose("cifar100", split, _CIFAR100)
    if labels not in ("fine", "coarse"):
        hint = nearest(labels, ("fine", "coarse")) if isinstance(labels, str) else ""
        raise ArgumentError(f'datasets.cifar100: expected labels "fine" or "coarse", got {labels!r}.{hint}')
    if labels == "coarse":
        return CIFAR100Coarse(*_read_cifar("cifar100", "cifar-100-binary.tar.gz", files, 0))
    return CIFAR100(*_read_cifar("cifar100", "cifar-100-binary.tar.gz", files, 1))


def titanic() -> polars.DataFrame:
    """Who was on board of the Titanic, and who survived: 891 passengers, 12 columns, 866 missing cells.

    `Survived` (0 or 1) is what most predict. The file is `titanic/titanic.csv`, the training set of Kaggle.

    >>> import fluxion as fx
    >>> fx.datasets.titanic().shape  # doctest: +SKIP
    (891, 12)
    """
    return read_table(path("titanic"))


def penguins() -> polars.DataFrame:
    """Measurements of 344 penguins of three species on three islands, 8 columns, some cells missing.

    `species` is what most predict. The file is `penguins/penguins.csv`.

    Source: A. Horst, A. Hill, K. Gorman, "palmerpenguins", 2020.

    >>> import fluxion as fx
    >>> fx.datasets.penguins()["species"].n_unique()  # doctest: +SKIP
    3
    """
    return read_table(path("penguins"))


def boston_housing() -> polars.DataFrame:
    """Median prices of homes in 506 tracts of Boston in 1970, in thousands of dollars (`MEDV`), and 13 features.

    The file is `boston-housing/boston_housing.csv`. One of the features, `B`, was made from the share of Black
    residents; the set is here for comparison with what was published, not as an example to follow.

    Source: D. Harrison, D. Rubinfeld, "Hedonic prices and the demand for clean air", 1978.

    >>> import fluxion as fx
    >>> fx.datasets.boston_housing().shape  # doctest: +SKIP
    (506, 14)
    """
    return read_table(path("boston_housing"))


def auto_mpg() -> polars.DataFrame:
    """Miles per gallon (`mpg`) of 398 cars of 1970 to 1982, and 8 features, six cells of `horsepower` missing.

    The file is `auto-mpg/mpg.csv`.

    Source: R. Quinlan, "Combining instance-based and model-based learning", 1993.

    >>> import fluxion as fx
    >>> fx.datasets.auto_mpg()["horsepower"].null_count()  # doctest: +SKIP
    6
    """
    return read_table(path("auto_mpg"))


def airline_passengers() -> polars.DataFrame:
    """International airline passengers per month in thousands (`Passengers`), January 1949 to December 1960.

    The file is `timeseries/airline-passengers.csv`. It is not downloaded.

    Source: G. Box, G. Jenkins, "Time series analysis: forecasting and control", 1976, series G.

    >>> import fluxion as fx
    >>> fx.datasets.airline_passengers()["Passengers"][0]  # doctest: +SKIP
    112
    """
    return read_table(path("airline_passengers"))


def sunspots() -> polars.DataFrame:
    """Sunspots per month as counted in Zurich (`Sunspots`), January 1749 to December 1983.

    The file is `timeseries/monthly-sunspots.csv`.

    Source: D. Andrews, A. Herzberg, "Data", 1985.

    >>> import fluxion as fx
    >>> len(fx.datasets.sunspots())  # doctest: +SKIP
    2820
    """
    return read_table(path("sunspots"))


def daily_min_temperatures() -> polars.DataFrame:
    """The lowest temperature of each day in Melbourne (`Temp`, degrees Celsius), 1981 to 1990.

    The file is `timeseries/daily-min-temperatures.csv`. The 31st of December of leap years is not in it.

    Source: Australian Bureau of Meteorology.

    >>> import fluxion as fx
    >>> len(fx.datasets.daily_min_temperatures())  # doctest: +SKIP
    3650
    """
    return read_table(path("daily_min_temperatures"))


def tinyshakespeare() -> str:
    """A million characters of Shakespeare's plays, 65 of them different: the text to learn writing from.

    Errors: `DataError` where the file is absent and cannot be downloaded, `FileFormatError` where it is not the 1115394
    ASCII characters that were published. It is `tinyshakespeare/input.txt`.

    Source: A. Karpathy, "The unreasonable effectiveness of recurrent neural networks", 2015.

    >>> import fluxion as fx
    >>> text = fx.datasets.tinyshakespeare()  # doctest: +SKIP
    >>> text[:14]  # doctest: +SKIP
    'First Citizen:'
    """
    file, size = find("tinyshakespeare", "input.txt"), CATALOGUE["tinyshakespeare"].files[0].size
    found = file.stat().st_size
    if found != size:
        raise FileFormatError(f"{file}: expected {size} bytes, got {found}. Get the file anew.")
    data = file.read_bytes()
    if not data.isascii():
        where = next(i for i, byte in enumerate(data) if byte > 127)
        raise damaged(file, where, f"expected ASCII characters, got the byte {data[where]:#04x}")
    return data.decode("ascii")


def first_names() -> list[str]:
    """32033 first names of the letters a to z, one to learn inventing more from.

    Errors: `DataError` where the file is absent and cannot be downloaded. It is `names/names.txt`.

    Source: A. Karpathy, "makemore", 2022, from the United States' Social Security Administration.

    >>> import fluxion as fx
    >>> fx.datasets.first_names()[:2]  # doctest: +SKIP
    ['emma', 'olivia']
    """
    return read_lines(find("first_names", "names.txt"))


def names() -> tuple[str, ...]:
    """The names of the data sets, each of which is a function of this module.

    >>> import fluxion as fx
    >>> fx.datasets.names()[:4]
    ('airline_passengers', 'auto_mpg', 'boston_housing', 'cifar10')
    """
    return tuple(CATALOGUE)


def path(name: str) -> Path:
    """The CSV file of a data set that is a table; downloaded if it is not there.

    Errors: `DataError` for a name that has no CSV file, and where the file is absent and cannot be downloaded.

    >>> import fluxion as fx
    >>> fx.read_table(fx.datasets.path("iris")).columns[-1]
    'species'
    """
    if name == "iris":
        return IRIS
    files = {other: entry.files[0].name for other, entry in CATALOGUE.items() if entry.files}
    if files.get(name, "").endswith(".csv"):
        return find(name, files[name])
    tables = ", ".join(["iris", *(other for other, file in files.items() if file.endswith(".csv"))])
    problem = ", which has none." if name in CATALOGUE else f".{nearest(name, CATALOGUE)}"
    raise DataError(f"datasets.path: expected a data set with a CSV file ({tables}), got {name!r}{problem}")


def mnist_bytes(name: str, split: str) -> tuple[UInt8[np.ndarray, "N 28 28"], UInt8[np.ndarray, " N"]]:
    """The pixels and labels of `mnist` or `fashion_mnist` as the files have them."""
    start = _choose(name, split, _MNIST)
    files = (f"{start}-{part}" for part in ("images-idx3-ubyte", "labels-idx1-ubyte"))
    image_file, label_file = (find(name, file + ".gz", file) for file in files)
    pixels, labels = read_idx_images(image_file, label_file)
    if pixels.shape[1:] != (28, 28):
        raise damaged(image_file, 4, f"expected images of shape (N, 28, 28), got {pixels.shape}")
    if labels.size and labels.max() > 9:
        worst = int(labels.argmax())
        raise damaged(label_file, 8 + worst, f"expected labels 0 to 9, got {labels[worst]}")
    return pixels, labels


def _read_mnist(name: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    pixels, labels = mnist_bytes(name, split)
    images = pixels[..., None].astype(np.float32)
    images /= 255
    return images, labels.astype(np.int32)


def _read_cifar(name: str, archive: str, files: Mapping[str, Records], label: int) -> tuple[np.ndarray, np.ndarray]:
    """The images and the labels of that index, from files of their own if all are there, else from the archive."""
    found = {file: look_packed(name, file) for file in files}
    absent = [file for file, place in found.items() if place is None]
    if absent:
        batches = list(read_cifar_archive(find(name, archive, absent[0]), files).values())
    else:
        with ThreadPoolExecutor() as pool:
            batches = list(pool.map(read_cifar, found.values(), files.values()))
    images = np.empty((sum(len(labels) for _, labels in batches), 32, 32, 3), np.float32)
    start = 0
    for pixels, _ in batches:
        np.divide(pixels, np.float32(255), out=images[start : start + len(pixels)])
        start += len(pixels)
    return images, np.concatenate([labels[:, label] for _, labels in batches]).astype(np.int32)


def _choose(name: str, split: str, files: Mapping[str, T]) -> T:
    """What belongs to a split."""
    if split not in files:
        hint = nearest(split, files) if isinstance(split, str) else ""
        raise ArgumentError(f'datasets.{name}: expected split "train" or "test", got {split!r}.{hint}')
    return files[split]
