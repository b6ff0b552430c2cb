"""IDX, the format of MNIST and its kin: an array of one type behind a header of a few bytes."""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from fluxion.data.untrusted import UnpackedFile, damaged
from fluxion.errors import DTypeError
from fluxion.files import atomic_write

if TYPE_CHECKING:
    from jaxtyping import UInt8

_TYPES = {8: np.uint8, 9: np.int8, 11: np.int16, 12: np.int32, 13: np.float32, 14: np.float64}
_AXES = 32  # as many as every NumPy has


def read_idx(file: str | Path) -> np.ndarray:
    """The array in an IDX file, plain or packed by gzip or xz.

    The header is four bytes (0, 0, type, number of axes) and one big-endian 32-bit size per axis. The types are 8 and
    9 for unsigned and signed bytes, 11 and 12 for integers of 16 and 32 bits, 13 and 14 for floats of 32 and 64 bits.

    Errors: `FileFormatError` with file, offset and reason; `DataError` where there is no such file.

    >>> import gzip, tempfile, os
    >>> file = os.path.join(tempfile.mkdtemp(), "a.gz")
    >>> with gzip.open(file, "wb") as f:
    ...     _ = f.write(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]))
    >>> read_idx(file)
    array([7, 9], dtype=uint8)
    """
    file = Path(file)
    with UnpackedFile.open(file, "an IDX file") as data:
        magic = data.read(4)
        if magic[0] or magic[1] or int(magic[2]) not in _TYPES or not 1 <= magic[3] <= _AXES:
            raise damaged(
                file,
                0,
                "expected an IDX header: 00 00, a type (08, 09, 0b, 0c, 0d, 0e) and 1 to 32 axes, "
                f"got {magic.tobytes().hex(' ')}",
            )
        data.expect(4 * int(magic[3]), "the header promises sizes")
        shape = tuple(int(size) for size in data.read(4 * int(magic[3])).view(">u4"))
        dtype = np.dtype(_TYPES[int(magic[2])])
        count = math.prod(shape) * dtype.itemsize
        data.expect(count, f"the header promises {shape}")
        if math.prod(size or 1 for size in shape) >= 2**48:  # an empty array, of a shape that NumPy cannot have
            raise data.damaged(f"the header promises {shape}, which no array has")
        array = data.read(count).view(dtype.newbyteorder(">"))
        data.end("the array that its header promises")
    return array.astype(dtype, copy=False).reshape(shape)


def read_idx_images(
    image_file: Path, label_file: Path
) -> tuple[UInt8[np.ndarray, "images height width"], UInt8[np.ndarray, " images"]]:
    """The bytes of images and of their labels, in two IDX files.

    Errors: as of `read_idx`, and where the two do not fit together.
    """
    pixels, labels = read_idx(image_file), read_idx(label_file)
    if pixels.ndim != 3 or pixels.dtype != np.uint8:
        raise damaged(image_file, 2, f"expected bytes of shape (N, height, width), got {pixels.dtype} {pixels.shape}")
    if labels.shape != pixels.shape[:1] or labels.dtype != np.uint8:
        given = f"{labels.dtype} {labels.shape}"
        raise damaged(label_file, 2, f"expected bytes, one label for each of {len(pixels)} images, got {given}")
    return pixels, labels


def write_idx(file: str | Path, array: np.ndarray) -> None:
    """Write an array as an IDX file, packed by gzip if the name ends in `.gz`; at once or not at all.

    Errors: `DTypeError` for a type that IDX does not have; `OSError` from the disk.

    >>> import numpy as np, tempfile, os
    >>> file = os.path.join(tempfile.mkdtemp(), "a")
    >>> write_idx(file, np.array([[1, -2]], np.int16))
    >>> read_idx(file)
    array([[ 1, -2]], dtype=int16)
    """
    codes = {np.dtype(dtype): code for code, dtype in _TYPES.items()}
    if array.dtype.newbyteorder("=") not in codes:
        known = ", ".join(str(dtype) for dtype in codes)
        raise DTypeError(f"write_idx: expected an array of type {known}, got {array.dtype}.")
    code = codes[array.dtype.newbyteorder("=")]
    header = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    body = np.ascontiguousarray(array, array.dtype.newbyteorder(">"))

    def write(stream: BinaryIO) -> None:
        if Path(file).suffix == ".gz":  # without the time, so that the same array gives the same file
            with gzip.GzipFile(filename="", mode="wb", fileobj=stream, compresslevel=6, mtime=0) as packed:
                packed.write(header)
                packed.write(body.data)
        else:
            stream.write(header)
            stream.write(body.data)

    atomic_write(file, write)
