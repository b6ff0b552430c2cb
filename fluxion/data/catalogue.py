"""What the data sets' files are, where they are looked for, and where they come from.

A file is looked for in the folder of its set below `FLUXION_DATA`, then below `datasets` in the user's cache folder,
and is downloaded to the latter. `FLUXION_MIRROR` names a place that has all files, in the place of the public ones:
`https://mirror.example/data` for `https://mirror.example/data/mnist/train-images-idx3-ubyte.gz`, or `off` for none.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from fluxion.errors import DataError
from fluxion.folders import cache_folder


class File(NamedTuple):
    """A file as it was published."""

    name: str
    size: int  # in bytes
    sha256: str
    places: tuple[str, ...] = ()  # public folders that have it under this name
    parts: tuple[str, ...] = ()  # the files in it, which may be there in its place, each plain or packed


class Entry(NamedTuple):
    """A data set: the folder with its files, and what it is."""

    folder: str
    files: tuple[File, ...]
    what: str


_MNIST = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
_FASHION = (
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
)
_CIFAR = ("https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/")
_BATCHES = [f"data_batch_{i}" for i in range(1, 6)]
_GITHUB = "https://raw.githubusercontent.com/"
_BROWNLEE = _GITHUB + "jbrownlee/Datasets/master/"

IRIS = Path(__file__).with_name("iris.csv")

# The checksums are those of files that equal the published ones (of auto_mpg and sunspots only size and last lines were
# compared), of the CIFAR archives those that public repositories agree on. No public copy of the airline passengers is
# known to equal ours.
CATALOGUE = {
    "airline_passengers": Entry(
        "timeseries",
        (
            File(
                "airline-passengers.csv",
                2180,
                "8cb51be753a718d9be5d76d7e238cc224792754676adc21faa59e954b0201621",
            ),
        ),
        "international airline passengers per month, 1949 to 1960",
    ),
    "auto_mpg": Entry(
        "auto-mpg",
        (
            File(
                "mpg.csv",
                21222,
                "c14b8b855ea7ee86cb9736bf8caaf281c4685ca08826f3eb2acaccaaf40f0d5a",
                (
                    _GITHUB + "mwaskom/seaborn-data/master/",
                    _GITHUB + "mwaskom/seaborn-data/2fae127e7dfdb4080e82396c47194c3acb22c86f/",
                ),
            ),
        ),
        "miles per gallon of 398 cars, with missing values",
    ),
    "boston_housing": Entry(
        "boston-housing",
        (
            File(
                "boston_housing.csv",
                34722,
                "98134236b4a7c71da63ada2de5a11f985afa9f21df6f5a952429ca7f66a0abc7",
                (_GITHUB + "JuliaML/MLDatasets.jl/e7f2afa4858ab3ef1a5294872c59aa98cc7b225a/src/BostonHousing/",),
            ),
        ),
        "prices of homes in 506 tracts of Boston",
    ),
    "cifar10": Entry(
        "cifar-10",
        (
            File(
                "cifar-10-binary.tar.gz",
                170_052_171,
                "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
                _CIFAR,
                tuple(f"cifar-10-batches-bin/{part}.bin" for part in (*_BATCHES, "test_batch")),
            ),
        ),
        "small photographs in 10 classes, 50000 and 10000",
    ),
    "cifar100": Entry(
        "cifar-100",
        (
            File(
                "cifar-100-binary.tar.gz",
                168_513_733,
                "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
                _CIFAR,
                ("cifar-100-binary/train.bin", "cifar-100-binary/test.bin"),
            ),
        ),
        "small photographs in 100 classes, 50000 and 10000",
    ),
    "daily_min_temperatures": Entry(
        "timeseries",
        (
            File(
                "daily-min-temperatures.csv",
                67921,
                "8b9de63ed6789492bf497625e7f9beb96a63d367b4b0a21754006f749fa5e5da",
                (_BROWNLEE,),
            ),
        ),
        "minimum temperatures of Melbourne per day, 1981 to 1990",
    ),
    "fashion_mnist": Entry(
        "fashion-mnist",
        (
            File(
                "train-images-idx3-ubyte.gz",
                26421880,
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                _FASHION,
                ("train-images-idx3-ubyte",),
            ),
            File(
                "train-labels-idx1-ubyte.gz",
                29515,
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                _FASHION,
                ("train-labels-idx1-ubyte",),
            ),
            File(
                "t10k-images-idx3-ubyte.gz",
                4422102,
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                _FASHION,
                ("t10k-images-idx3-ubyte",),
            ),
            File(
                "t10k-labels-idx1-ubyte.gz",
                5148,
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
                _FASHION,
                ("t10k-labels-idx1-ubyte",),
            ),
        ),
        "pictures of clothes in 10 classes, 60000 and 10000",
    ),
    "first_names": Entry(
        "names",
        (
            File(
                "names.txt",
                228145,
                "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d",
                (
                    _GITHUB + "karpathy/makemore/988aa59e4d8fefa526d06f3b453ad116258398d4/",
                    _GITHUB + "karpathy/makemore/master/",
                ),
            ),
        ),
        "32033 first names, a to z",
    ),
    "iris": Entry("iris", (), "150 flowers of three species"),
    "mnist": Entry(
        "mnist",
        (
            File(
                "train-images-idx3-ubyte.gz",
                9912422,
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                _MNIST,
                ("train-images-idx3-ubyte",),
            ),
            File(
                "train-labels-idx1-ubyte.gz",
                28881,
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                _MNIST,
                ("train-labels-idx1-ubyte",),
            ),
            File(
                "t10k-images-idx3-ubyte.gz",
                1648877,
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                _MNIST,
                ("t10k-images-idx3-ubyte",),
            ),
            File(
                "t10k-labels-idx1-ubyte.gz",
                4542,
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                _MNIST,
                ("t10k-labels-idx1-ubyte",),
            ),
        ),
        "handwritten digits, 60000 and 10000",
    ),
    "penguins": Entry(
        "penguins",
        (
            File(
                "penguins.csv",
                15241,
                "f204db2c753b0937caac3cb35258562c14f073e4bbc76be24b4c51ce22767a93",
                (
                    _GITHUB + "allisonhorst/palmerpenguins/156daa4301838d9fdcc5b018b29b9149bf975552/inst/extdata/",
                    _GITHUB + "allisonhorst/palmerpenguins/main/inst/extdata/",
                ),
            ),
        ),
        "344 penguins of three species, with missing values",
    ),
    "sunspots": Entry(
        "timeseries",
        (
            File(
                "monthly-sunspots.csv",
                45039,
                "c4ec8cc57d9f6fb6ecdb3e1f37f25b6f4badd5124c55931052b0cd2fc3bc71f3",
                (
                    _GITHUB + "jbrownlee/Datasets/7041c0cc3d65519cf5af38b3afa82087a7d80748/",
                    _BROWNLEE,
                ),
            ),
        ),
        "sunspots per month, 1749 to 1983",
    ),
    "tinyshakespeare": Entry(
        "tinyshakespeare",
        (
            File(
                "input.txt",
                1_115_394,
                "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
                (_GITHUB + "karpathy/char-rnn/master/data/tinyshakespeare/",),
            ),
        ),
        "a million characters of Shakespeare's plays",
    ),
    "titanic": Entry(
        "titanic",
        (
            File(
                "titanic.csv",
                60302,
                "4a437fde05fe5264e1701a7387ac6fb75393772ba38bb2c9c566405af5af4bd7",
                (_GITHUB + "datasciencedojo/datasets/master/",),
            ),
        ),
        "891 passengers of the Titanic, with missing values",
    ),
}


def folders() -> list[Path]:
    """Where data sets are looked for, each in a subfolder; the last is also where they are put, if there is a cache."""
    given, cache = os.environ.get("FLUXION_DATA"), cache_folder()
    return ([Path(given).expanduser()] if given else []) + ([cache / "datasets"] if cache else [])


def look(name: str, *files: str) -> Path | None:
    """The first of the files, given by their paths in the folder of the set, that is there."""
    for root in folders():
        for file in files:
            if (found := root / CATALOGUE[name].folder / file).is_file():
                return found
    return None


def look_packed(name: str, file: str) -> Path | None:
    """The same for one file, which may be packed."""
    return look(name, file, file + ".gz", file + ".xz")


def places(name: str) -> list[Path]:
    """The files of a set if all are there, else none."""
    if name == "iris":
        return [IRIS]
    found: list[Path | None] = []
    for file in CATALOGUE[name].files:
        whole = look(name, file.name)
        found += [whole] if whole or not file.parts else [look_packed(name, part) for part in file.parts]
    return [] if None in found else [path for path in found if path]


def fetch(name: str) -> list[Path]:
    """The files of a set, downloaded if they are not there.

    Errors: `DataError` where there is none, or it could not be downloaded.
    """
    return places(name) or [find(name, file.name) for file in CATALOGUE[name].files]


def find(name: str, *files: str) -> Path:
    """The first of the files that is there; otherwise the first that can be downloaded, which it is.

    Errors: `DataError` where there is none, or it could not be downloaded.
    """
    if (found := look(name, *files)) is not None:
        return found
    entry, cache, mirror = CATALOGUE[name], cache_folder(), os.environ.get("FLUXION_MIRROR", "")
    known = [file for file in entry.files if file.name in files]
    wanted = known[0] if known else None
    if mirror and mirror != "off" and not mirror.startswith(("http://", "https://")):
        raise DataError(f"FLUXION_MIRROR: expected a URL that begins with https:// or http://, or off, got {mirror!r}.")
    if wanted is None or not (mirror or wanted.places):
        why = "no public copy of it is known"
    elif mirror == "off":
        why = "it is not downloaded, because FLUXION_MIRROR is off"
    elif cache is None:
        why = "it is not downloaded, because FLUXION_CACHE is off"
    else:
        target = cache / "datasets" / entry.folder / wanted.name
        urls = (
            [f"{mirror.rstrip('/')}/{entry.folder}/{wanted.name}"]
            if mirror
            else [place + wanted.name for place in wanted.places]
        )
        from fluxion.data.download import download

        try:
            download(urls, target, size=wanted.size, sha256=wanted.sha256)
        except DataError as error:
            error.where = f"datasets.{name}"
            raise
        return target
    given = os.environ.get("FLUXION_DATA")
    places = " or ".join(str(root / entry.folder) for root in folders()) or f"FLUXION_DATA/{entry.folder}"
    hint = f"to the folder above {entry.folder}" + (f" (now {given})" if given else "")
    raise DataError(
        f"datasets.{name}: expected {' or '.join(files)} in {places}, there is none, and {why}. "
        f"Put it there, or set the environment variable FLUXION_DATA {hint}."
    )
