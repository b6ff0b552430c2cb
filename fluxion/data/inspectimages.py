"""What a set of images holds, and what in it is suspicious: damaged files, images that are there twice, flat ones."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fluxion.data.inspect import Finding, about_classes
from fluxion.data.picturefiles import SUFFIXES, read_picture
from fluxion.errors import DataError, FluxionError

if TYPE_CHECKING:
    from jaxtyping import Float

FLAT = 2 / 255  # the deviation of the pixels below which there is nothing to see in an image
SHOWN = 5  # files that are named in a finding


@dataclass(frozen=True)
class ImagePart:
    """What one part of a set of images holds, such as that for training."""

    name: str
    images: int
    shapes: dict[str, int]  # height x width x channels, and how many have it
    classes: dict[str, int]
    low: float  # of all pixels, between 0 and 1
    high: float
    mean: tuple[float, ...]  # of each channel, if all images have as many channels
    std: tuple[float, ...]


@dataclass(frozen=True)
class ImageInspection:
    """What `inspect_images` or `inspect_files` found."""

    parts: tuple[ImagePart, ...]
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


class ImageArrays(NamedTuple):
    """A part of a set of images, in memory."""

    name: str
    images: Float[np.ndarray, "images height width channels"]
    labels: np.ndarray
    classes: Sequence[str]  # empty where nothing is known about the classes


class ImageFiles(NamedTuple):
    """A part of a set of images, in files."""

    name: str
    folder: Path
    files: Sequence[str]  # below the folder
    labels: np.ndarray
    classes: Sequence[str]


class _Image(NamedTuple):
    name: str
    label: int
    shape: tuple[int, int, int]
    digest: bytes
    std: float
    low: float
    high: float
    sums: np.ndarray  # of the pixels and of their squares, in each channel


def inspect_images(*parts: ImageArrays | ImageFiles) -> ImageInspection:
    """Count images, and find what is suspicious in them.

    Reported are files that cannot be read, images that are the same to the pixel (within a part, between parts, and
    with different labels), images of nearly one color, other sizes and kinds than most, classes of very different
    sizes.

    Arguments:
        parts: a set's parts for training, testing and so on. Images are between 0 and 1.

    >>> import numpy as np
    >>> from fluxion.data.inspectimages import ImageArrays, inspect_images
    >>> images = np.random.default_rng(0).random((4, 8, 8, 1), np.float32)
    >>> train = ImageArrays("train", images, np.array([0, 1, 0, 1]), ("cat", "dog"))
    >>> test = ImageArrays("test", images[:1], np.array([0]), ("cat", "dog"))
    >>> found = inspect_images(train, test)
    >>> found.parts[0].classes, [finding.kind for finding in found.findings]
    ({'cat': 2, 'dog': 2}, ['in both', 'rare class'])
    """
    summaries: list[ImagePart] = []
    findings: list[Finding] = []
    seen: list[tuple[str, list[_Image]]] = []
    for part in parts:
        images, damaged = _looked_at(part)
        if not images:
            raise DataError(f"{part.name}: expected images, {'all are damaged' if damaged else 'there are none'}.")
        summaries.append(_summary(part, images))
        if damaged:
            findings.append(Finding("damaged", part.name, _named(len(damaged), "damaged", damaged)))
        findings += _about_part(part.name, images)
        for name, earlier in seen:
            findings += _about_both(name, earlier, part.name, images)
        seen.append((part.name, images))
    classes = summaries[0].classes
    if len(classes) > 1:
        findings += about_classes(classes)
    empty = [name for name, count in classes.items() if count == 0]
    if empty:
        findings.append(Finding("empty class", empty[0], f"no images of {', '.join(empty[:SHOWN])}"))
    return ImageInspection(tuple(summaries), tuple(findings))


def image_files(folder: Path) -> ImageFiles:
    """The image files in the subfolders of a folder, which are their classes; or in the folder, without classes.

    Nothing is opened, so that damaged files are among them.
    """
    folders = sorted(child for child in folder.iterdir() if child.is_dir() and child.name[0] != ".")
    by_class = {child.name: _pictures(folder, child.rglob("*")) for child in folders}
    if not any(by_class.values()):
        found = _pictures(folder, folder.iterdir())
        return ImageFiles(folder.name, folder, found, np.full(len(found), -1), ())
    labels = np.repeat(np.arange(len(by_class)), [len(files) for files in by_class.values()])
    found = [file for files in by_class.values() for file in files]
    return ImageFiles(folder.name, folder, found, labels, tuple(by_class))


def _pictures(folder: Path, paths: Iterable[Path]) -> list[str]:
    """The images among the paths, in order, as they are called below the folder."""
    images = [p for p in paths if p.suffix.lower() in SUFFIXES and p.name[0] != "." and p.is_file()]
    return sorted(path.relative_to(folder).as_posix() for path in images)


def _looked_at(part: ImageArrays | ImageFiles) -> tuple[list[_Image], list[str]]:
    """What is to be known of every image, and the files that cannot be read, with the reasons."""
    if isinstance(part, ImageArrays):
        return [_image(f"image {i}", int(part.labels[i]), image) for i, image in enumerate(part.images)], []
    damaged: list[str] = []

    def look(i: int) -> _Image | str:
        file = part.folder / part.files[i]
        try:
            return _image(part.files[i], int(part.labels[i]), read_picture(file))
        except FluxionError as error:
            return f"{part.files[i]}{str(error).removeprefix(str(file)).rstrip('.')}"

    images = []
    with ThreadPoolExecutor() as pool:
        for found in pool.map(look, range(len(part.files))):
            if isinstance(found, _Image):
                images.append(found)
            else:
                damaged.append(found)
    return images, damaged


def _image(name: str, label: int, pixels: np.ndarray) -> _Image:
    height, width, channels = pixels.shape
    coarse = np.rint(pixels * 255).astype(np.uint8)
    digest = hashlib.blake2b(coarse.tobytes(), digest_size=12).digest()
    flat = pixels.reshape(-1, channels)
    sums = np.stack([flat.sum(0, dtype=np.float64), np.einsum("ic,ic->c", flat, flat, dtype=np.float64)])
    mean = sums[0] / len(flat)
    std = float(np.sqrt(np.maximum(sums[1] / len(flat) - mean**2, 0)).max())
    return _Image(name, label, (height, width, channels), digest, std, float(flat.min()), float(flat.max()), sums)


def _summary(part: ImageArrays | ImageFiles, images: list[_Image]) -> ImagePart:
    shapes = Counter("x".join(map(str, image.shape)) for image in images)
    counts = Counter(image.label for image in images)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    if len({image.shape[2] for image in images}) == 1:
        pixels = sum(image.shape[0] * image.shape[1] for image in images)
        total = np.sum([image.sums for image in images], axis=0) / pixels
        mean = tuple(total[0].tolist())
        std = tuple(np.sqrt(np.maximum(total[1] - total[0] ** 2, 0)).tolist())
    return ImagePart(
        part.name,
        len(images),
        dict(shapes.most_common()),
        {name: counts[i] for i, name in enumerate(part.classes)},
        min(image.low for image in images),
        max(image.high for image in images),
        mean,
        std,
    )


def _about_part(name: str, images: list[_Image]) -> Iterator[Finding]:
    sizes = Counter(image.shape[:2] for image in images)
    if len(sizes) > 1:
        low, high = ("x".join(map(str, size)) for size in (min(sizes), max(sizes)))
        yield Finding("sizes", name, f"{len(sizes)} sizes from {low} to {high}: give one to bring them to")
    kinds = Counter({1: "gray", 3: "color", 4: "transparent"}[image.shape[2]] for image in images)
    if len(kinds) > 1:
        shown = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
        yield Finding("kinds", name, f"images of several kinds: {shown}")
    flat = [image.name for image in images if image.std < FLAT]
    if flat:
        yield Finding("flat", name, _named(len(flat), "of nearly one color", flat))
    first: dict[bytes, _Image] = {}
    again: list[str] = []
    torn: list[str] = []
    for image in images:
        other = first.setdefault(image.digest, image)
        if other is not image:
            again.append(f"{image.name} is {other.name}")
            if other.label != image.label:
                torn.append(f"{image.name} is {other.name}")
    if again:
        yield Finding("repeated", name, _named(len(again), "the same as an earlier one", again))
    if torn:
        yield Finding("contradicting", name, _named(len(torn), "the same as one of another class", torn))


def _about_both(one: str, earlier: list[_Image], name: str, images: list[_Image]) -> Iterator[Finding]:
    known = {image.digest: image for image in earlier}
    both = [f"{image.name} is {known[image.digest].name}" for image in images if image.digest in known]
    if both:
        yield Finding("in both", name, _named(len(both), f"also in {one}", both))


def _named(count: int, what: str, names: Sequence[str]) -> str:
    """`3 images are flat: a.png, b.png, c.png`."""
    shown = "; ".join(names[:SHOWN]) + (f"; and {count - SHOWN:,} more" if count > SHOWN else "")
    return f"{'1 image is' if count == 1 else f'{count:,} images are'} {what}: {shown}"
