"""Folders of images by class: a subfolder for each class, in it its pictures.

clothes/
  bag/    0.png  1.png  ...
  coat/   0.png  1.png  ...
"""

from __future__ import annotations

import functools
import operator
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fluxion.data.arrays import check_whole
from fluxion.data.datasets import Images
from fluxion.data.picturefiles import MODES, SUFFIXES, picture_shape, read_picture
from fluxion.errors import ArgumentError, DataError, ShapeError

if TYPE_CHECKING:
    from jaxtyping import Float32, Int32

_LITTER = ("Thumbs.db", "desktop.ini", "__MACOSX")  # what systems leave behind that hide no files by a dot
_SMALL = 2**13  # pixels, below which decoding takes less time than threads take from each other


class ImageFolder:
    """The pictures in the subfolders of a folder, each read when it is asked for; the subfolders are the classes.

    `folder[i]` is `(image, label)`: the image float32 `(height, width, channels)` between 0 and 1, the label an int32,
    the place of its subfolder in `folder.classes`. `folder.files` are the paths below the folder, `folder.labels` all
    labels, `folder.shape` the shape of every image. Classes are in the order of their names, and so are the files of
    a class, those in subfolders of its subfolder among them.

    PNG, JPEG, BMP, GIF (the first frame) and WebP are read, as the EXIF orientation says. Names that begin with a dot
    are left out, and files with other endings; how many these are is in `folder.skipped` and shown.

    Arguments:
        folder: the folder above the classes.
        size: height and width, or one number for both, to which images are resized whatever their proportions.
            Without it all must have one size.
        channels: 1 (gray), 3 (colors) or 4 (and transparency), to which images are converted. Without it all must
            have what the first has.
        follow_links: whether a symbolic link may lead out of the folder.

    Errors: `DataError` without classes, for a class without images, for a link that leads out of the folder, nowhere
    or in a circle; `ShapeError`, when an image is read that differs from the first in size or channels, with both
    names; `FileFormatError` for a file that is damaged, truncated, another kind than its name says or has more than
    2^26 pixels. For `DataLoader` it is a data set like any other: it is small, and opens a file where an item is read.

    Its classes are those of torchvision's `ImageFolder`.

    >>> import fluxion as fx, numpy as np, pathlib, tempfile
    >>> from PIL import Image
    >>> root = pathlib.Path(tempfile.mkdtemp())
    >>> for name, gray in (("night", 0), ("day", 255)):
    ...     (root / name).mkdir()
    ...     Image.fromarray(np.full((2, 3), gray, np.uint8)).save(root / name / "a.png")
    >>> folder = fx.ImageFolder(root)
    >>> folder.classes, folder.files, folder.shape
    (('day', 'night'), ('day/a.png', 'night/a.png'), (2, 3, 1))
    >>> image, label = folder[0]
    >>> image[..., 0], label
    (array([[1., 1., 1.],
           [1., 1., 1.]], dtype=float32), np.int32(0))
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        size: int | tuple[int, int] | None = None,
        channels: int | None = None,
        follow_links: bool = False,
    ) -> None:
        self.folder = Path(folder)
        self.size = _check_size(size)
        if channels is not None and channels not in MODES:
            raise ArgumentError(f"ImageFolder: expected channels to be 1, 3 or 4, got {channels!r}.")
        self.channels = channels
        self.follow_links = follow_links
        found = _Scan(self.folder, follow_links)
        self.classes = tuple(found.files)
        self.files = tuple(file for files in found.files.values() for file in files)
        counts = [len(files) for files in found.files.values()]
        self.labels: Int32[np.ndarray, " observations"] = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        self.skipped = sum(found.others.values())
        self._endings = tuple(sorted(found.others))
        height, width, own = picture_shape(self.folder / self.files[0])
        self.shape = (*(self.size or (height, width)), channels or own)
        self._pixels = height * width  # of the first file, before it is resized

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Float32[np.ndarray, "height width channels"], np.int32]:
        i = operator.index(index)
        if not -len(self) <= i < len(self):
            raise IndexError(f"ImageFolder: expected an index below {len(self)}, got {index}")
        return self._image(i), self.labels[i]

    def _image(self, i: int) -> np.ndarray:
        image = read_picture(self.folder / self.files[i], self.size, self.channels)
        if image.shape != self.shape:
            which = "channels" if image.shape[:2] == self.shape[:2] else "size"
            raise ShapeError(
                f"ImageFolder: expected images of one shape, got {self.shape} from {self.files[0]} and {image.shape} "
                f"from {self.files[i]}. Give {which}=, to which all are converted."
            )
        return image

    def __repr__(self) -> str:
        options = [repr(str(self.folder))]
        options += [f"{name}={value}" for name in ("size", "channels") if (value := getattr(self, name)) is not None]
        options += ["follow_links=True"] if self.follow_links else []
        text = f"ImageFolder({', '.join(options)})  # {len(self)} images {self.shape} in {len(self.classes)} classes"
        if self.skipped:
            text += f", {self.skipped} other files skipped ({', '.join(self._endings)})"
        return text


def read_images(
    folder: str | os.PathLike[str],
    *,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    follow_links: bool = False,
) -> Images:
    """All pictures of a folder with a subfolder for each class, in memory; several are decoded at the same time.

    `images, labels = read_images(folder)`; `.classes` has the names of the subfolders. What is read and what is not,
    in which order, and the arguments, are those of `ImageFolder`, which reads one image at a time and so has room for
    any number of them.

    Shapes: `images` `(N, height, width, channels)` float32 between 0 and 1, `labels` `(N,)` int32, both NumPy.

    Errors: those of `ImageFolder`; the first damaged file in its order is the one that is named.

    >>> import fluxion as fx, numpy as np, pathlib, tempfile
    >>> from PIL import Image
    >>> root = pathlib.Path(tempfile.mkdtemp())
    >>> for name, gray in (("night", 0), ("day", 255)):
    ...     (root / name).mkdir()
    ...     Image.fromarray(np.full((2, 3), gray, np.uint8)).save(root / name / "a.png")
    >>> data = fx.read_images(root)
    >>> data.images.shape, data.labels, data.classes
    ((2, 2, 3, 1), array([0, 1], dtype=int32), ('day', 'night'))
    """
    source = ImageFolder(folder, size=size, channels=channels, follow_links=follow_links)
    images = np.empty((len(source), *source.shape), np.float32)

    def decode(i: int) -> None:
        images[i] = source._image(i)

    threads = 1 if source._pixels < _SMALL else os.cpu_count()
    if threads == 1:
        for i in range(len(source)):
            decode(i)
    else:
        executor = ThreadPoolExecutor(threads)
        try:
            for _ in executor.map(decode, range(len(source))):
                pass  # an error is raised here
        finally:
            executor.shutdown(cancel_futures=True)
    return _images_of(source.classes)(images, source.labels)


@functools.cache
def _images_of(classes: tuple[str, ...]) -> type[Images]:
    """A named tuple like those of `fx.datasets`, whose type knows the classes, so that its parts and batches do."""

    class ImagesByClass(Images):
        __slots__ = ()

        def __reduce__(self) -> Any:  # its type is in no module where an unpickler could find it
            return _of_classes, (classes, *self)

    ImagesByClass.classes = classes  # type: ignore[attr-defined]
    return ImagesByClass


def _of_classes(classes: tuple[str, ...], images: Any, labels: Any) -> Images:
    return _images_of(classes)(images, labels)


def _check_size(size: Any) -> tuple[int, int] | None:
    if size is None:
        return None
    pair = size if isinstance(size, tuple | list) else (size, size)
    if len(pair) != 2:
        raise ArgumentError(f"ImageFolder: expected size to be a number or a pair (height, width), got {size!r}.")
    height, width = (check_whole(side, "ImageFolder: size", 1, 2**13) for side in pair)
    return height, width


class _Scan:
    """What is in the class folders of a folder: `files` by class, and how many `others` there are by their endings."""

    def __init__(self, folder: Path, follow_links: bool) -> None:
        if not folder.is_dir():
            raise DataError(f"{folder}: expected a folder with a subfolder of images for each class, there is none.")
        self.root = os.path.realpath(folder)
        self.follow_links = follow_links
        self.others: Counter[str] = Counter()
        self.files: dict[str, list[str]] = {}
        loose = 0
        for entry in _entries(folder):
            if self.is_folder(entry, (self.root,)):
                self.files[entry.name] = list(self.walk(entry, f"{entry.name}/", (self.root,)))
            elif entry.name.lower().endswith(SUFFIXES):
                loose += 1
            else:
                self.count(entry)
        if loose or not self.files:
            raise DataError(
                f"{folder}: expected subfolders, one for each class, and the images in them, "
                f"got {len(self.files)} subfolders and {loose} images outside of them."
            )
        for name, files in self.files.items():
            if not files:
                raise DataError(
                    f"{folder / name}: expected images of the class {name!r} ({', '.join(SUFFIXES)}), there are none. "
                    "Put some there, or remove the folder."
                )

    def walk(self, folder: os.DirEntry[str], prefix: str, above: tuple[str, ...]) -> Iterator[str]:
        """The paths of the images below a folder, each beginning with `prefix`."""
        above = (*above, os.path.realpath(folder.path))
        for entry in _entries(folder.path):
            if self.is_folder(entry, above):
                yield from self.walk(entry, f"{prefix}{entry.name}/", above)
            elif entry.is_file() and entry.name.lower().endswith(SUFFIXES):
                yield prefix + entry.name
            else:
                self.count(entry)

    def is_folder(self, entry: os.DirEntry[str], above: tuple[str, ...]) -> bool:
        """Whether an entry is a folder; an error for a link that is not to be followed."""
        if entry.is_symlink():
            target = os.path.realpath(entry.path)
            if not os.path.exists(target):
                raise DataError(f"{entry.path}: expected a file or a folder, the link leads to nothing at {target}.")
            if not self.follow_links and os.path.commonpath([self.root, target]) != self.root:
                raise DataError(
                    f"{entry.path}: expected what is inside of the folder, the link leads out of it to {target}. "
                    "Remove it, or allow it by follow_links=True."
                )
            if target in above:
                raise DataError(f"{entry.path}: expected no circle, the link leads back to {target}. Remove it.")
        return entry.is_dir()

    def count(self, entry: os.DirEntry[str]) -> None:
        self.others[os.path.splitext(entry.name)[1] or entry.name] += 1


def _entries(folder: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        shown = [entry for entry in entries if not entry.name.startswith(".") and entry.name not in _LITTER]
    return sorted(shown, key=operator.attrgetter("name"))
