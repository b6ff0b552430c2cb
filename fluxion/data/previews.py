"""A picture of a batch of images with their labels, to be looked at before a network learns from them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from fluxion.data.arrays import batch, check_whole, is_array
from fluxion.data.loader import DataLoader
from fluxion.drawing import figure_class, file_kind, write_figure
from fluxion.errors import DataError, DTypeError, ShapeError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIDE, _GAP, _LINE = 1.25, 0.12, 0.16  # inches: the longer side of an image, the space between two, a line of text
_INK = "#262626"
_SHOWN = 0.05  # the least share of a class in a mixed label that is worth a line


def preview(
    data: Any, path: str | os.PathLike[str] | None = None, *, classes: Sequence[Any] | None = None, count: int = 32
) -> Figure:
    """Draw images as a network is given them, each with its label below.

    Of a `DataLoader` they are the first of its next epoch, augmented if it augments; the loader stays where it is. Of a
    batch or a data set with more than `count` they are taken at equal distances.

    Arguments:
        data: a `DataLoader`; a batch, `images` or `(images, labels)` or a dict of these; or a data set such as
            `fx.ImageFolder` or `fx.datasets.mnist()`. Images are the first array with four axes, `(N, height, width,
            channels)` with 1, 3 or 4 channels; labels are the first other one, `(N,)` or, one-hot or mixed,
            `(N, classes)`.
        path: where to write the figure, if anywhere; `.png` or `.svg`.
        classes: the names of the classes; those of the data unless given.
        count: how many images to draw, at most.

    Values between 0 and 1, and bytes, are shown as they are. Others, such as normalized ones, are brought between
    black and white all in the same way; the line at the bottom says so. It also tells shape, dtype and range.

    Returns: the `matplotlib.figure.Figure`; a notebook shows it.

    Errors: `ShapeError` for data that hold no images, `DTypeError` for what is no data or could be read only once,
    `ArgumentError` for another kind of file.

    >>> import fluxion as fx, numpy as np
    >>> images, labels = fx.ones(8, 28, 28, 1), np.arange(8) % 2
    >>> figure = fx.preview((images, labels), classes=("cat", "dog"))
    >>> [text.get_text() for text in figure.texts][:2], figure.texts[-1].get_text()
    (['cat', 'dog'], 'float32 (8, 28, 28, 1), values 1 to 1')
    """
    kind = file_kind("preview", path)
    count = check_whole(count, "preview: count", 1, 1000)
    gathered, whole = _gather(data, count)
    images, labels = _parts(gathered)
    images, labels = images[:count], None if labels is None else labels[:count]
    names = _classes_of(data) if classes is None else tuple(classes)
    shown, note = _displayed(images, whole)
    return write_figure(draw_images(shown, [_label(label, names) for label in _rows(labels)], note), path, kind)


# --------------------------------------------------------------------------------------------- what to draw


def _gather(data: Any, count: int) -> tuple[Any, int | None]:
    """Observations to draw, `count` or a few more, as a batch, and how many there are in all, if that is known."""
    if isinstance(data, DataLoader):
        return _first(data.batches(data.epoch), count), None
    if hasattr(data, "__next__"):
        raise DTypeError(f"preview: expected data that can be read again, got a {type(data).__name__}. Make a list.")
    if is_array(data) or isinstance(data, tuple | Mapping):
        images, _ = _parts(data)
        chosen = _spread(len(images), count)
        return _taken(data, chosen), len(images)
    if isinstance(data, list) and not (data and is_array(data[0])):
        return _first(iter(data), count), None  # a list of batches
    if isinstance(data, list):
        return _gather(tuple(data), count)
    if hasattr(data, "__len__") and hasattr(data, "__getitem__"):
        return batch([data[int(i)] for i in _spread(len(data), count)]), len(data)
    if hasattr(data, "__iter__"):
        return _first(iter(data), count), None
    raise DTypeError(f"preview: expected a DataLoader, a batch or a data set, got a {type(data).__name__}.")


def _first(batches: Iterator[Any], count: int) -> Any:
    """The first batches that together have `count` images, as one."""
    images: list[Any] = []
    labels: list[Any] = []
    found = 0
    try:
        for one in batches:
            part, its_labels = _parts(one)
            images.append(part)
            labels.append(its_labels)
            found += len(part)
            if found >= count:
                break
    finally:
        if hasattr(batches, "close"):
            batches.close()  # so that a loader's workers end
    if not images:
        raise DataError("preview: expected at least one batch, got none.")
    first = images[0].shape[1:]
    if any(part.shape[1:] != first for part in images):  # a loader may make batches of several sizes
        images, labels = images[:1], labels[:1]
    together = np.concatenate(images)
    return (together,) if labels[0] is None else (together, np.concatenate(labels))


def _spread(length: int, count: int) -> np.ndarray:
    if length == 0:
        raise DataError("preview: expected at least one image, got none.")
    return np.linspace(0, length - 1, min(length, count)).round().astype(int)


def _taken(data: Any, chosen: np.ndarray) -> Any:
    images, labels = _parts(data)
    return (images[chosen],) if labels is None else (images[chosen], labels[chosen])


def _parts(data: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """The images and the labels of a batch."""
    values = list(data.values()) if isinstance(data, Mapping) else data if isinstance(data, tuple | list) else [data]
    arrays = [np.asarray(value) for value in values if is_array(value) or _is_text(value)]
    images = next((array for array in arrays if array.ndim == 4), None)
    if images is None or images.shape[-1] not in (1, 3, 4) or not _is_numeric(images):
        shapes = ", ".join(f"{array.dtype}{array.shape}" for array in arrays) or f"a {type(data).__name__}"
        raise ShapeError(
            f"preview: expected images (N, height, width, channels) with 1, 3 or 4 channels, got {shapes}. "
            "Tables and series are no pictures."
        )
    others = (array for array in arrays if array is not images and array.ndim in (1, 2) and len(array) == len(images))
    return images, next(others, None)


def _is_text(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_numeric(array: np.ndarray) -> bool:
    return array.dtype.kind in "biuf" or jax.numpy.issubdtype(array.dtype, jax.numpy.floating)


def _classes_of(data: Any) -> tuple[Any, ...]:
    """The names of the classes, of the data or of what it is a part of."""
    while data is not None:
        classes = getattr(data, "classes", None)
        if isinstance(classes, tuple | list):
            return tuple(classes)
        data = getattr(data, "data", None) if not is_array(data) else None
    return ()


def _rows(labels: np.ndarray | None) -> list[Any]:
    return [] if labels is None else list(labels)


def _label(label: Any, classes: tuple[Any, ...]) -> str:
    """The words below an image: `cat`, `cat 0.7 / dog 0.3` in two lines, a number where there are no names."""
    if np.ndim(label) == 1:
        order = [int(i) for i in np.argsort(-label, kind="stable")[:3] if label[i] >= _SHOWN]
        names = [_name(i, classes) for i in order]
        alone = len(order) == 1 and label[order[0]] > 1 - _SHOWN
        return names[0] if alone else "\n".join(f"{n} {label[i]:.2f}" for n, i in zip(names, order, strict=True))
    if isinstance(label, np.integer | np.bool_):
        return _name(int(label), classes)
    return f"{label:.3g}" if isinstance(label, np.floating) else short(str(label))


def _name(index: int, classes: tuple[Any, ...]) -> str:
    return short(str(classes[index])) if 0 <= index < len(classes) else str(index)


def short(text: str) -> str:
    """A name of a class, cut to what fits below an image."""
    return text if len(text) <= 18 else text[:17] + "…"


def _displayed(images: np.ndarray, whole: int | None) -> tuple[np.ndarray, str]:
    """Images as float32 between 0 and 1, and the line that says what they were."""
    x = images.astype(np.float32)
    finite = np.isfinite(x)
    low, high = (float(f(x[finite])) if finite.any() else 0.0 for f in (np.min, np.max))
    shape = (whole or len(images), *images.shape[1:])
    note = f"{images.dtype} {shape}, values {low:.3g} to {high:.3g}"
    if whole is not None and whole > len(images):
        note += f", {len(images)} of {whole} images"
    is_bytes = images.dtype.kind in "iu" and low >= 0 and high <= 255
    if is_bytes:
        x /= 255
    elif low < 0 or high > 1:
        x = (x - low) / max(high - low, 1e-30)
        note += f"; shown with {low:.3g} as black, {high:.3g} as white"
    if not finite.all():
        x[~finite] = 0
        note += f"; {int((~finite).sum())} values are not finite"
    return x, note


# --------------------------------------------------------------------------------------------- drawing


def draw_images(images: np.ndarray, labels: list[str], note: str) -> Figure:
    """Images `(N, height, width, channels)` between 0 and 1, each with its label below, and a line under all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    number, tall, wide, _ = images.shape
    width, height = (_SIDE * side / max(tall, wide) for side in (wide, tall))
    columns = min(number, max(1, round(8 * _SIDE / max(width, 0.8 * _SIDE))))
    lines = max((label.count("\n") + 1 for label in labels), default=0)
    across = max(width, _SIDE if lines else 0) + _GAP  # room for the words below narrow images
    down = height + lines * _LINE + _GAP
    rows = math.ceil(number / columns)
    total = max(columns * across + _GAP, 0.075 * len(note)), rows * down + 2 * _GAP + _LINE
    left = (total[0] - columns * across + _GAP) / 2
    figure = figure_class()(figsize=total, facecolor="white")
    FigureCanvasAgg(figure)
    for i, image in enumerate(images):
        x, y = left + i % columns * across, total[1] - _GAP - i // columns * down
        middle = x + (across - _GAP) / 2
        place = (middle - width / 2, y - height, width, height)
        axes = figure.add_axes(tuple(part / total[k % 2] for k, part in enumerate(place)))
        gray = image.shape[-1] == 1
        axes.imshow(image[..., 0] if gray else image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(color="#BBBBBB", linewidth=0.5)
        if labels:
            for j, line in enumerate(labels[i].split("\n")):  # one by one, so that they stand in line with the others
                where = (middle / total[0], (y - height - (j + 0.85) * _LINE) / total[1])
                figure.text(*where, line, size=8, ha="center", color=_INK, parse_math=False)
    figure.text(left / total[0], _GAP / total[1], note, size=7.5, va="bottom", color="#666666", parse_math=False)
    return figure
