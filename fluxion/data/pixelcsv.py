"""Pictures as CSV: a label and the pixels per line, the form in which MNIST is handed around."""

from __future__ import annotations

import gzip
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from fluxion.data.datasets import Images
from fluxion.data.untrusted import UnpackedFile
from fluxion.errors import DataError, DTypeError, FileFormatError, ShapeError
from fluxion.files import atomic_write

if TYPE_CHECKING:
    from jaxtyping import UInt8

_LONGEST = 1 << 20  # bytes in a line; more are no picture


def read_pixels(path: str | os.PathLike[str]) -> Images:
    """Images and labels from a CSV file with a label and the pixels, row by row and 0 to 255, in each line.

    The file is plain or packed by gzip or xz, with a header line or without. A last column called `28x20` tells the
    height and the width; without it the images are square.

    Shapes: `images` (N, height, width, 1) float32 with pixels / 255 in [0, 1], `labels` (N,) int32, both NumPy.

    Errors: `DataError` where there is no such file, or it has no lines; `FileFormatError` with line, column and reason.

    >>> import fluxion as fx, pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp(), "a.csv")
    >>> file.write_text("7,0,255,51,0")
    12
    >>> images, labels = fx.read_pixels(file)
    >>> images[..., 0], labels
    (array([[[0. , 1. ],
            [0.2, 0. ]]], dtype=float32), array([7], dtype=int32))
    """
    pixels, labels = read_pixel_bytes(path)
    images = pixels[..., None].astype(np.float32)
    images /= 255
    return Images(images, labels.astype(np.int32))


def read_pixel_bytes(
    path: str | os.PathLike[str],
) -> tuple[UInt8[np.ndarray, "images height width"], UInt8[np.ndarray, " images"]]:
    """The same as the bytes that the file has."""
    file = Path(path)
    with UnpackedFile.open(file, "a CSV file of labels and pixels") as stream:
        lines = _whole_lines(stream.rest())
        block = next(lines, b"").removeprefix(b"\xef\xbb\xbf")
        first = block[: block.find(b"\n")].decode("latin-1")
        if not first.strip():
            raise DataError(f"{file}: expected a label and pixels in each line, the first is empty.")
        height, width = _size(file, first)
        number = 1
        if not first.split(",")[0].isdecimal():
            number, block = 2, block[len(first) + 1 :]
        parts = []
        while True:
            parts.append(_parse(file, block, 1 + height * width, number))
            number += len(parts[-1])
            if (block := next(lines, b"")) == b"":
                break
    table = np.concatenate(parts)
    if not len(table):
        raise DataError(f"{file}: expected a label and pixels in each line, there is no line but the header.")
    return table[:, 1:].reshape(-1, height, width), table[:, 0].copy()


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


def _whole_lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes, cut after the ends of lines, which become one newline each; none after the last full one."""
    rest = b""
    for piece in pieces:
        end = piece.rfind(b"\n") + 1
        if end:
            yield (rest + piece[:end]).replace(b"\r\n", b"\n")
            rest = b""
        rest += piece[end:]
        if len(rest) > _LONGEST:
            break  # no line of pixels: it is refused below
    if rest := rest.rstrip():
        yield rest + b"\n"


def _size(file: Path, line: str) -> tuple[int, int]:
    """Height and width of the images, given the first line."""
    count = line.count(",")
    if not 1 <= count <= _LONGEST // 4:
        raise FileFormatError(f"{file}: expected a label and pixels in each line, got {count + 1} cells in the first.")
    last = re.fullmatch(r'"?([0-9]{1,6})x([0-9]{1,6})"?', line.rpartition(",")[2].strip())
    if last and int(last[1]) * int(last[2]) == count:
        return int(last[1]), int(last[2])
    side = math.isqrt(count)
    if side * side != count:
        raise FileFormatError(
            f"{file}: expected as many pixels as a square has, or a header that ends in HEIGHTxWIDTH, got {count}."
        )
    return side, side


def _parse(file: Path, block: bytes, width: int, number: int) -> UInt8[np.ndarray, "lines width"]:
    """The numbers in whole lines, the first of which has that number in the file; no cell is looked at on its own."""
    codes = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero((codes == ord(",")) | (codes == ord("\n")))
    starts = np.concatenate(([0], ends[:-1] + 1))
    digits = np.concatenate(
        (np.zeros(3, np.uint8), codes - np.uint8(ord("0")))
    )  # so that each cell has three before it
    lengths = ends - starts
    ones, tens, hundreds = (digits[ends + place] for place in (2, 1, 0))
    values = ones.astype(np.uint16)
    values += np.where(lengths > 1, tens, 0) * np.uint16(10)
    values += np.where(lengths > 2, hundreds, 0) * np.uint16(100)
    right = (lengths > 0) & (lengths < 4) & (values < 256) & (ones < 10)
    right &= ((tens < 10) | (lengths < 2)) & ((hundreds < 10) | (lengths < 3))
    breaks = np.flatnonzero(codes[ends] == ord("\n")) + 1
    counts = np.diff(breaks, prepend=0)
    if not right.all() or (counts != width).any():
        wrong = int(right.argmin()) if not right.all() else len(right)
        line = int(np.searchsorted(breaks, wrong, side="right"))
        if (counts[: line + 1] != width).any():
            line = int((counts != width).argmax())
            said = f"expected {width} cells in each line, got {counts[line]} in line {number + line}"
        else:
            cell = block[starts[wrong] : ends[wrong]][:40].decode("latin-1")
            column = wrong - line * width + 1
            said = f"expected a whole number from 0 to 255, got {cell!r} in line {number + line}, column {column}"
        raise FileFormatError(f"{file}: {said}. Give a file with a label and the pixels in each line.")
    return values.astype(np.uint8).reshape(-1, width)
