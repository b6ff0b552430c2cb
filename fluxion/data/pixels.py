"""Tables whose rows are images: a label and the pixels from 0 to 255, as MNIST is often passed on."""

from __future__ import annotations

import gzip
import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from fluxion.data.datasets import Images
from fluxion.data.tablefiles import TextFile, check_column, is_parquet, read_table
from fluxion.errors import ArgumentError, DataError, DTypeError, ShapeError
from fluxion.files import atomic_write

if TYPE_CHECKING:
    import polars
    from jaxtyping import Int32, UInt8

_ROWS = 512  # that are turned from columns to rows at a time: they fit into the cache


def read_pixels(
    path: str | os.PathLike[str], *, label: str | int | None = 0, shape: tuple[int, ...] | None = None
) -> Images:
    """The images and labels of a CSV, TSV or Parquet file with one image per row.

    Shapes: `images` (N, height, width, channels) float32 with pixels / 255 in [0, 1], `labels` (N,) int32, both NumPy.

    Arguments:
        path: the file, as for `read_table`; a first line of numbers is an image, any other the header.
        label: the column of labels, whole numbers, by name or place (-1 is the last); None if there is none, which
            makes all labels -1.
        shape: height and width of an image, and channels where there are several; the pixels of a row are in this
            order. Without it a last column called `28x20` tells height and width, or else images are square and of one
            channel (784 pixels are 28 x 28) or of three.

    Errors: those of `read_table`; `DataError` for an absent column, cells that are no whole numbers from 0 to 255, and
    rows that are no squares; `ShapeError` where a row has not as many pixels as `shape` says.

    >>> import fluxion as fx, pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "digits.csv"
    >>> _ = file.write_text("label,1x1,1x2,2x1,2x2\\n7,0,51,102,255\\n3,0,0,255,0\\n")
    >>> images, labels = fx.read_pixels(file)
    >>> images.shape, images[0, :, :, 0].tolist(), labels.tolist()
    ((2, 2, 2, 1), [[0.0, 0.20000000298023224], [0.4000000059604645, 1.0]], [7, 3])
    """
    pixels, labels = read_pixel_bytes(path, label=label, shape=shape)
    images = np.empty(pixels.shape, np.float32)
    for at in range(0, len(pixels), _ROWS):
        np.divide(pixels[at : at + _ROWS], np.float32(255), out=images[at : at + _ROWS])
    return Images(images, labels)


def read_pixel_bytes(
    path: str | os.PathLike[str], *, label: str | int | None = 0, shape: tuple[int, ...] | None = None
) -> tuple[UInt8[np.ndarray, "images height width channels"], Int32[np.ndarray, " images"]]:
    """The same with the pixels as the bytes that the file has."""
    import polars as pl

    file = Path(path)
    plain = file.is_file() and not is_parquet(file)
    text = TextFile(file) if plain else None
    frame = None if text is None else _quick(text)
    if frame is None:  # what is wrong with the file is said by the reader of any table
        frame = read_table(file, header=text is None or text.header(None).in_file)
    labels = np.full(frame.height, -1, np.int32)
    pixels = frame
    if label is not None:
        column = _column(frame, label, f"{file}")
        _check(column, -(2**31), 2**31 - 1, "a whole number as label", f"{file}")
        labels = column.cast(pl.Int32).to_numpy()
        pixels = frame.drop(column.name)
    for column in pixels:
        _check(column, 0, 255, "a whole number from 0 to 255", f"{file}")
    shape = _shape(pixels.columns, shape, f"{file}")
    return pixels.cast(pl.UInt8).to_numpy().reshape(-1, *shape), labels


def write_pixels(path: str | os.PathLike[str], images: np.ndarray, labels: np.ndarray) -> None:
    """Write images (N, height, width) and labels (N,) of bytes as a CSV file, at once or not at all.

    The header is `label,1x1,1x2,...,28x28` (row and column). A name that ends in `.gz` makes a file packed by gzip.

    Errors: `ShapeError` unless there is one label for each image, `DTypeError` unless both are bytes.

    >>> import numpy as np, pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp(), "a.csv")
    >>> write_pixels(file, np.array([[[0, 255], [128, 1]]], np.uint8), np.array([7], np.uint8))
    >>> print(file.read_text())
    label,1x1,1x2,2x1,2x2
    7,0,255,128,1
    <BLANKLINE>
    """
    import polars as pl

    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise ShapeError(
            f"write_pixels: expected images (N, height, width) and labels (N,), got {images.shape} and {labels.shape}."
        )
    if images.dtype != np.uint8 or labels.dtype != np.uint8:
        raise DTypeError(f"write_pixels: expected bytes, got {images.dtype} and {labels.dtype}.")
    count, height, width = images.shape
    names = [f"{row}x{column}" for row in range(1, height + 1) for column in range(1, width + 1)]
    columns = np.ascontiguousarray(images.reshape(count, -1).T)
    frame = pl.DataFrame({"label": labels} | dict(zip(names, columns, strict=True)))

    def write(stream: BinaryIO) -> None:
        if Path(path).suffix == ".gz":  # without the time, so that the same images give the same file
            with gzip.GzipFile(filename="", mode="wb", fileobj=stream, compresslevel=6, mtime=0) as packed:
                frame.write_csv(packed)  # type: ignore[call-overload]
        else:
            frame.write_csv(stream)

    atomic_write(path, write)


def _column(frame: polars.DataFrame, label: str | int, where: str) -> polars.Series:
    if isinstance(label, str):
        check_column(frame, label, where)
        return frame[label]
    if not -frame.width <= label < frame.width:
        raise ArgumentError(f"{where}: expected label as the place of one of {frame.width} columns, got {label}.")
    return frame.to_series(label)


def _quick(text: TextFile) -> polars.DataFrame | None:
    """The table of a text in which every cell is a whole number from 0 to 255; None if one is not."""
    import polars as pl
    from polars.exceptions import PolarsError

    head = text.header(None)
    schema = dict.fromkeys(head.names, pl.UInt8)
    try:
        frame = pl.read_csv(text.source, separator=head.separator, has_header=head.in_file, schema=schema, glob=False)
    except PolarsError:
        return None
    return None if sum(frame.null_count().row(0)) else frame


def _check(column: polars.Series, low: int, high: int, what: str, where: str) -> None:
    """Raise unless every cell is a whole number from `low` to `high`."""
    import polars as pl

    if column.dtype == pl.UInt8 and not column.null_count():
        return
    fits = pl.repeat(False, len(column), eager=True)
    if column.dtype.is_numeric():
        fits = (column.is_between(low, high) & (column == column.floor())).fill_null(False)
    if not fits.all():
        row = fits.to_list().index(False)
        raise DataError(f"{where}: {column.name}: expected {what}, got {column[row]!r} in row {row}.")


def _shape(names: list[str], shape: tuple[int, ...] | None, where: str) -> tuple[int, ...]:
    """Height, width and channels: as asked for, as the last column's name says, or of square images."""
    pixels = len(names)
    if shape is not None:
        shape = tuple(shape) if len(shape) == 3 else (*shape, 1)
        if len(shape) != 3 or math.prod(shape) != pixels:
            raise ShapeError(f"{where}: expected rows of {math.prod(shape)} pixels for shape {shape}, got {pixels}.")
        return shape
    last = re.fullmatch("([0-9]{1,6})x([0-9]{1,6})", names[-1]) if names else None
    if last and int(last[1]) * int(last[2]) == pixels:
        return int(last[1]), int(last[2]), 1
    for channels in (1, 3):
        side = math.isqrt(pixels // channels)
        if pixels and side * side * channels == pixels:
            return side, side, channels
    raise DataError(
        f"{where}: expected the pixels of square images of 1 or 3 channels, or a last column called HEIGHTxWIDTH, got "
        f"{pixels} in a row. Give the shape."
    )
