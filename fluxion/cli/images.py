"""The images of a command: read from DATA, brought to one size, cut into parts, and how they become a network's input.

DATA is the name of a data set, a folder with a subfolder of images for each class, or a CSV file with the pixels of one
image in each row.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np
import typer

from fluxion.cli.tables import about
from fluxion.data.picturefiles import SUFFIXES
from fluxion.errors import DataError, FileFormatError, nearest

if TYPE_CHECKING:
    from jaxtyping import Float32, Int32

    from fluxion.data.columns import Target
    from fluxion.data.tables import TableEncoder

SIDE = 64  # images of different or large sizes are brought to squares of this side, unless --size says more
LARGEST_KEPT = 128  # the side up to which images of one size are taken as they are
SMALLEST_PIXELS = 64  # a table with fewer numbered columns is a table
FLAT = 1e-6  # a channel that varies less is left as it is
FORMAT, VERSION = "fluxion.ImageEncoder", 1
TEST_FOLDERS = ("test", "val", "valid", "validation")
LABELS = ("label", "labels", "class", "target", "digit", "y")

Shape = tuple[int, int, int]


class Labeled(NamedTuple):
    """Images in [0, 1] with the numbers of their classes; -1 where there is none."""

    images: Float32[np.ndarray, "images height width channels"]
    labels: Int32[np.ndarray, " images"]


class ImageSource(NamedTuple):
    """What DATA names."""

    name: str  # for the run folder
    path: str
    target: str  # what the classes are called
    classes: tuple[str, ...]
    data: Labeled
    names: Sequence[str] | None  # of the files, in order
    test: Labeled | None  # where the data come with a part for testing
    notes: tuple[str, ...]  # what was decided, in short sentences


@dataclass(frozen=True)
class ImageEncoder:
    """From images to what a network takes: their shape, `(pixels - mean) / std` in each channel, and the classes.

    >>> import numpy as np
    >>> from fluxion.cli.images import ImageEncoder
    >>> images = np.array([0.0, 0.5, 1.0, 0.5], np.float32).reshape(1, 2, 2, 1)
    >>> encoder = ImageEncoder.fit(images, np.array([0]), "class", ("cat", "dog"))
    >>> encoder.encode(images).ravel().round(3)
    array([-1.414,  0.   ,  1.414,  0.   ], dtype=float32)
    """

    target: Target
    shape: Shape
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @staticmethod
    def fit(
        images: np.ndarray, labels: np.ndarray, target: str, classes: tuple[str, ...], *, standardize: bool = True
    ) -> ImageEncoder:
        """The encoder of training images; means and deviations are 0 and 1 if `standardize` is False."""
        from fluxion.data.colors import channel_statistics
        from fluxion.data.columns import Target

        height, width, channels = images.shape[1:]
        mean, std = np.zeros(channels), np.ones(channels)
        if standardize:
            mean, std = channel_statistics(images)
            std = np.where(std < FLAT, 1.0, std)
        counts = np.bincount(labels, minlength=len(classes))
        goal = Target(target, "classification", classes, tuple(counts.tolist()))
        return ImageEncoder(goal, (height, width, channels), tuple(mean.tolist()), tuple(std.tolist()))

    @property
    def task(self) -> str:
        """`"classification"`."""
        return self.target.task

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes in the order of their numbers."""
        return self.target.classes

    def describe(self) -> list[str]:
        """What was decided, in short sentences."""
        pairs = [f"{name} {count:,}" for name, count in zip(self.classes, self.target.counts, strict=True)]
        shown = ", ".join(pairs[:10]) + (", ..." if len(pairs) > 10 else "")
        lines = [f"{self.target.name}: classification with {len(pairs)} classes ({shown})"]
        if set(self.mean) != {0.0} or set(self.std) != {1.0}:
            mean, std = (", ".join(f"{value:.4f}" for value in values) for values in (self.mean, self.std))
            lines.append(f"pixels, from 0 to 1, brought to mean 0 and deviation 1 (mean {mean}; deviation {std})")
        return lines

    def encode(self, images: np.ndarray, *, in_place: bool = False) -> np.ndarray:
        """`(images - mean) / std`, float32; `in_place` writes it into `images`."""
        encoded = np.subtract(images, np.array(self.mean, np.float32), out=images if in_place else None)
        encoded /= np.array(self.std, np.float32)
        return encoded

    def decode(self, inputs: np.ndarray) -> np.ndarray:
        """Undo `encode`: images in [0, 1]."""
        return np.clip(inputs * np.array(self.std, np.float32) + np.array(self.mean, np.float32), 0, 1)

    def to_json(self) -> dict[str, Any]:
        """The encoder as plain data; `from_json` reads it."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "target": self.target.name,
            "classes": list(self.classes),
            "counts": list(self.target.counts),
            "shape": list(self.shape),
            "mean": list(self.mean),
            "std": list(self.std),
        }

    @staticmethod
    def from_json(document: dict[str, Any]) -> ImageEncoder:
        """The encoder that `to_json` wrote; `FileFormatError` that names the entry for anything else."""
        from fluxion.data.columns import Target

        if document.get("version") != VERSION:
            _refuse("version", str(VERSION), document.get("version"))
        shape = _listed(document, "shape", int, 3)
        if not all(1 <= size <= 100_000 for size in shape):
            _refuse("shape", "height, width and channels", shape)
        mean, std = (_listed(document, name, float, shape[2]) for name in ("mean", "std"))
        if not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
            _refuse("mean, std", "finite numbers, deviations above 0", (mean, std))
        classes = _listed(document, "classes", str)
        if len(classes) < 2 or len(set(classes)) < len(classes):
            _refuse("classes", "two or more different names", classes)
        counts = _listed(document, "counts", int, len(classes))
        name = document.get("target")
        if not isinstance(name, str):
            _refuse("target", "a name", name)
        return ImageEncoder(Target(name, "classification", classes, counts), shape, mean, std)


def input_shape(encoder: TableEncoder | ImageEncoder) -> tuple[int, ...]:
    """The shape of one input: the number of features, or height, width and channels."""
    return encoder.shape if isinstance(encoder, ImageEncoder) else (len(encoder.feature_names),)


def size_text(shape: Sequence[int]) -> str:
    """`28x28x1`."""
    return "x".join(map(str, shape))


def parse_size(text: str, option: str, numbers: int) -> tuple[int, ...]:
    """`28x28` or `28x28x1` as numbers; a usage error for anything else."""
    found = re.fullmatch("x".join([r"([1-9]\d{0,4})"] * numbers), text.strip().lower(), flags=re.ASCII)
    if found is None:
        example = {2: "28x28", 3: "28x28x1 (height, width, channels)"}[numbers]
        raise typer.BadParameter(f"expected a size such as {example}, got {text!r}.", param_hint=option)
    return tuple(map(int, found.groups()))


# ----------------------------------------------------------------------------------------------- data sets


def image_sets() -> tuple[str, ...]:
    """The data sets that are images, by name."""
    from fluxion.data import datasets

    return tuple(name for name in datasets.names() if name.startswith("cifar") or name.endswith("mnist"))


def read_set(name: str, split: str) -> ImageSource:
    """A data set: both of its parts for `split` "train", else its test images alone."""
    from fluxion.data import datasets

    read = getattr(datasets, name)
    test = read("test")
    if split == "test":
        notes = (f"the test images of {name}",)
        return ImageSource(name, name, "class", tuple(test.classes), Labeled(*test), None, None, notes)
    train = read("train")
    notes = (f"{name} comes with {len(test.labels):,} test images, which take no part in training",)
    return ImageSource(name, name, "class", tuple(train.classes), Labeled(*train), None, Labeled(*test), notes)


# ------------------------------------------------------------------------------------------------- folders


def is_picture(path: Path) -> bool:
    """Whether a path ends like the file of a picture."""
    return path.suffix.lower() in SUFFIXES


def read_labeled(path: Path, size: tuple[int, int] | None, channels: int | None, split: str) -> ImageSource:
    """The images of a folder with a subfolder for each class.

    A folder of two folders, `train` and `test` (or `val`, `valid`, `validation`), is a set with images for testing.
    """
    from fluxion.data.imagefolders import ImageFolder, read_images

    parts = split_folders(path)
    folder = path if parts is None else parts[0 if split == "train" else 1]
    found = ImageFolder(folder, size=size, channels=channels)
    notes = [] if folder == path else [f"the images in {folder}"]
    if found.skipped:
        notes.append(f"{found.skipped:,} other files left out")
    shape, said = common_shape([folder / file for file in found.files], size, channels)
    notes += said
    data = read_images(folder, size=shape[:2], channels=shape[2])
    test = None
    if parts is not None and split == "train":
        given = read_images(parts[1], size=shape[:2], channels=shape[2])
        with about(str(parts[1])):
            test = recoded(given.images, given.labels, given.classes, found.classes)  # type: ignore[attr-defined]
        notes.append(f"{parts[1]} has {len(test.labels):,} images for testing, which take no part in training")
    labeled = Labeled(data.images, data.labels)
    return ImageSource(path.name, str(path), "class", found.classes, labeled, found.files, test, tuple(notes))


def read_pictures(path: Path, shape: Shape) -> ImageSource:
    """The image in a file, or all those in a folder and below it, brought to one shape; what they show is not asked."""
    from fluxion.data.picturefiles import read_picture

    if path.is_file():
        files, names = [path], [str(path)]
    elif path.is_dir():
        files = sorted(file for file in path.rglob("*") if is_picture(file) and not file.name.startswith("."))
        names = [file.relative_to(path).as_posix() for file in files]
    else:
        hint = nearest(path.name, [other.name for other in path.parent.iterdir()]) if path.parent.is_dir() else ""
        raise DataError(f"{path}: expected an image, there is none.{hint}")
    if not files:
        raise DataError(f"{path}: expected images ({', '.join(SUFFIXES)}), the folder holds none.")
    images = np.empty((len(files), *shape), np.float32)
    for i, file in enumerate(files):
        images[i] = read_picture(file, shape[:2], shape[2])
    data = Labeled(images, np.full(len(files), -1, np.int32))
    return ImageSource(path.stem, str(path), "class", (), data, names, None, ())


def split_folders(path: Path) -> tuple[Path, Path] | None:
    """The folders for training and for testing in a folder that holds nothing but these two, else None."""
    children = {child.name.lower(): child for child in path.iterdir() if child.is_dir() and child.name[0] != "."}
    tests = [children[name] for name in TEST_FOLDERS if name in children]
    if "train" not in children or len(children) != 2 or not tests:
        return None
    train = children["train"]
    return (train, tests[0]) if any(child.is_dir() for child in train.iterdir()) else None


def common_shape(files: Sequence[Path], size: tuple[int, int] | None, channels: int | None) -> tuple[Shape, list[str]]:
    """The shape that images are brought to, as the options say or the files' headers, and how it was found."""
    from fluxion.data.picturefiles import picture_shape

    shapes = [picture_shape(file) for file in files]
    found = {shape[:2] for shape in shapes}
    kinds = {shape[2] for shape in shapes}
    notes = []
    if channels is None:
        channels = 1 if kinds == {1} else 3
        if 4 in kinds:
            notes.append("transparency is left out")
    if size is None and len(found) == 1 and max(min(found)) <= LARGEST_KEPT:
        size = min(found)
    elif size is None:
        many = f"{len(found)} sizes, {size_text(min(found))} to {size_text(max(found))}"
        size = (SIDE, SIDE)
        notes.append(
            f"images of {many if len(found) > 1 else size_text(min(found))}, brought to {size_text(size)}; "
            "--size HxW for another"
        )
    elif found != {size}:
        notes.append(f"images brought to {size_text(size)}")
    return (*size, channels), notes


# ------------------------------------------------------------------------------------------ tables of pixels


def looks_like_pixels(path: Path) -> bool:
    """Whether a file may be a table of pixels, by its header alone.

    Such a table has a column of labels, or none, and as many others as a square image of 1 or 3 channels and at least
    8x8 has pixels. These have numbers in their names (pixel0, 1x1), or the file has no header.
    """
    names, in_file = _header(path)
    numbered = [name for name in names if re.fullmatch(r"\D*\d+(\D\d+)?", name)]
    if in_file and len(names) - len(numbered) > 1:
        return False
    return _said_shape(names) is not None or any(_square(count) for count in (len(names), len(names) - 1))


def read_rows(path: Path, target: str | None, shape: Shape | None) -> ImageSource:
    """The images of a table with the pixels of one in each row; the shape is guessed if not given.

    The labels are in the column `target`, one that is called label or the like, the one whose name holds no number, or
    the first; a table that has as many columns as an image has pixels has none.
    """
    from fluxion.data.pixels import read_pixels

    names, _ = _header(path)
    shape = _said_shape(names) if shape is None else shape
    pixels = len(names) if shape is None else math.prod(shape)
    labeled = len(names) != pixels if shape is not None else _square(len(names) - 1)
    column: str | int | None = None
    if labeled:
        named = [name for name in names if name.lower() in LABELS]
        bare = [name for name in names if not re.search(r"\d", name)]
        column = target if target in names else next(iter([*named, *bare]), 0)
    images, labels = read_pixels(path, label=column, shape=shape)
    found = np.unique(labels)
    classes = tuple(map(str, found.tolist())) if labeled else ()
    where = "no labels" if column is None else "labels in the first column" if column == 0 else f"labels in {column}"
    notes = (f"{len(names)} columns read as images of {size_text(images.shape[1:])}, {where}; --images no for a table",)
    data = Labeled(images, np.searchsorted(found, labels).astype(np.int32) if labeled else labels)
    return ImageSource(path.stem, str(path), str(column or "class"), classes, data, None, None, notes)


def _header(path: Path) -> tuple[list[str], bool]:
    """The names of a table's columns, and whether they stand in the file."""
    from fluxion.data.tablefiles import TextFile, is_parquet

    if is_parquet(path):
        import polars as pl
        from polars.exceptions import PolarsError

        try:
            return pl.scan_parquet(path, glob=False).collect_schema().names(), True
        except (PolarsError, OSError):  # the reader of tables says what is wrong
            return [], True
    head = TextFile(path).header(None)
    return head.names, head.in_file


def _said_shape(names: list[str]) -> Shape | None:
    """The shape of gray images whose last pixel is called `28x20`, of row 28 and column 20."""
    last = re.fullmatch(r"(\d{1,4})x(\d{1,4})", names[-1]) if names else None
    shape = (int(last[1]), int(last[2]), 1) if last else (0, 0, 0)
    return shape if last and math.prod(shape) in (len(names), len(names) - 1) else None


def _square(pixels: int) -> bool:
    """Whether square images of 1 or 3 channels have so many numbers."""
    sides = (math.isqrt(pixels // channels) ** 2 * channels for channels in (1, 3))
    return pixels >= SMALLEST_PIXELS and pixels in sides


# ------------------------------------------------------------------------------------------------ one encoder


def recoded(images: np.ndarray, labels: np.ndarray, given: tuple[str, ...], classes: tuple[str, ...]) -> Labeled:
    """Images with the class numbers of a model; `DataError` for a class that it does not have.

    Names that are numbers are the numbers of the classes, where no class is called by a number.
    """
    if given == classes:
        return Labeled(images, labels)
    if all(name.isdigit() for name in given) and not any(name.isdigit() for name in classes):
        given = tuple(classes[int(name)] if int(name) < len(classes) else name for name in given)
    for name in given:
        if name not in classes:
            shown = ", ".join(classes[:20]) + (", ..." if len(classes) > 20 else "")
            raise DataError(f"expected images of the classes {shown}, got some of {name!r}.{nearest(name, classes)}")
    place = np.array([classes.index(name) for name in given], np.int32)
    return Labeled(images, place[labels])


def _listed(document: dict[str, Any], name: str, kind: type, count: int | None = None) -> tuple[Any, ...]:
    values: Any = document.get(name)
    accepted = (int, float) if kind is float else kind
    right = isinstance(values, list) and all(isinstance(v, accepted) and not isinstance(v, bool) for v in values)
    if not right or (count is not None and len(values) != count):
        many = "" if count is None else f"{count} "
        _refuse(name, f"a list of {many}{ {int: 'whole numbers', float: 'numbers', str: 'names'}[kind] }", values)
    return tuple(map(kind, values))


def _refuse(name: str, expected: str, got: object) -> NoReturn:
    raise FileFormatError(f"ImageEncoder.from_json: {name}: expected {expected}, got {got!r:.100}.")
