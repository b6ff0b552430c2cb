"""The files that data sets of pictures are published in: IDX (MNIST and its kin) and CIFAR's binary batches.

Files come from outside and are not trusted: sizes are checked before memory is taken, nothing is unpacked beyond the
bytes that are expected, and every error names the file, the place in it and the reason.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fluxion.errors import DataError, FileFormatError

if TYPE_CHECKING:
    from jaxtyping import UInt8

CIFAR_IMAGES = 10_000  # in each batch file
CIFAR_RECORD = 1 + 3 * 32 * 32  # the bytes of an image: its label, then its red, green and blue plane

_DEFLATE_RATIO = 1032  # deflate cannot pack more bytes than this into one
_XZ_MEMORY = 128 << 20  # what a decoder may take; `xz -9` asks for 65 MiB, a hostile header for 4 GiB
_CHUNK = 1 << 20


def read_idx(file: str | Path) -> UInt8[np.ndarray, "*shape"]:
    """The array of bytes in a gzipped IDX file (the format of MNIST).

    The header is four bytes (0, 0, type, number of axes) and one big-endian 32-bit size per axis. Type 8, unsigned
    bytes, is read.

    Errors: `FileFormatError` with file, offset and reason; `DataError` where there is no such file.

    >>> import gzip, tempfile, os
    >>> file = os.path.join(tempfile.mkdtemp(), "a.gz")
    >>> with gzip.open(file, "wb") as f:
    ...     _ = f.write(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]))
    >>> read_idx(file)
    array([7, 9], dtype=uint8)
    """
    file = Path(file)
    if not file.is_file():
        raise DataError(f"{file}: expected a gzipped IDX file, there is none.")
    with gzip.open(file, "rb") as stream:
        magic = _read(stream, file, 0, 4)
        if magic[0] or magic[1] or magic[2] != 8 or not 1 <= magic[3] <= 4:
            raise damaged(file, 0, f"expected an IDX header 00 00 08 and 1 to 4 axes, got {magic.tobytes().hex(' ')}")
        sizes = _read(stream, file, 4, 4 * int(magic[3]))
        shape = tuple(int(size) for size in sizes.view(">u4"))
        start, count = 4 + sizes.size, int(np.prod([int(size) for size in shape], dtype=object))
        packed = file.stat().st_size
        if count > _DEFLATE_RATIO * packed:
            raise damaged(
                file, 4, f"the header promises {shape}, {count} bytes, more than {packed} bytes can unpack to"
            )
        data = _read(stream, file, start, count)
        _read_end(stream, file, start + count)
    return data.reshape(shape)


def read_cifar(file: str | Path) -> tuple[UInt8[np.ndarray, "images 32 32 3"], UInt8[np.ndarray, " images"]]:
    """The pixels and the labels of a batch of CIFAR-10 in its binary version, plain (.bin) or packed by xz (.bin.xz).

    A file is 10000 records and nothing else. A record is a byte with the label, 0 to 9, and 3072 with the red, the
    green and the blue plane, row by row. Both arrays are views of the file's bytes.

    Errors: `FileFormatError` with file, offset and reason; `DataError` where there is no such file.

    >>> import numpy as np, tempfile, os
    >>> file = os.path.join(tempfile.mkdtemp(), "batch.bin")
    >>> np.full((10000, 3073), 7, np.uint8).tofile(file)
    >>> pixels, labels = read_cifar(file)
    >>> pixels.shape, labels[:3]
    ((10000, 32, 32, 3), array([7, 7, 7], dtype=uint8))
    """
    file = Path(file)
    if not file.is_file():
        raise DataError(f"{file}: expected a binary batch of CIFAR-10, there is none.")
    count = CIFAR_IMAGES * CIFAR_RECORD
    data = _unpack_xz(file, count) if file.suffix == ".xz" else _read_plain(file, count)
    records = np.frombuffer(data, np.uint8).reshape(CIFAR_IMAGES, CIFAR_RECORD)
    labels = records[:, 0]
    if labels.max() > 9:
        worst = int(labels.argmax())
        raise damaged(file, worst * CIFAR_RECORD, f"expected a label 0 to 9, got {labels[worst]} for image {worst}")
    return records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels


def damaged(file: Path, offset: int, reason: str) -> FileFormatError:
    """The error about a file, to be raised; `offset` counts from the beginning of its unpacked bytes."""
    what = " of the unpacked file" if file.suffix in (".gz", ".xz") else ""
    return FileFormatError(f"{file}: at byte {offset}{what}: {reason}. Get the file anew.")


def _read_plain(file: Path, count: int) -> bytes | bytearray:
    size = file.stat().st_size
    if size != count:
        raise damaged(file, min(size, count), _wrong_size(size, count))
    with file.open("rb") as stream:
        data = stream.read(count)
    if len(data) < count:  # it shrank since
        raise damaged(file, len(data), _wrong_size(len(data), count))
    return data


def _unpack_xz(file: Path, count: int) -> bytes | bytearray:
    """The `count` bytes that a file of one xz stream unpacks to; at most one byte more is ever unpacked."""
    import lzma  # here, because some builds of Python are without it

    decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
    data = bytearray()
    with file.open("rb") as stream:
        while not decoder.eof:
            packed = stream.read(_CHUNK) if decoder.needs_input else b""
            if decoder.needs_input and not packed:
                raise damaged(file, len(data), "the xz file ends too early")
            try:
                data += decoder.decompress(packed, min(_CHUNK, count + 1 - len(data)))
            except lzma.LZMAError as error:
                raise damaged(file, len(data), f"not a whole xz file ({error})") from error
            if len(data) > count:
                raise damaged(file, count, f"expected {count} bytes, the file unpacks to more")
        if decoder.unused_data or stream.read(1):
            raise damaged(file, len(data), "the file goes on after the end of its xz stream")
    if len(data) < count:
        raise damaged(file, len(data), _wrong_size(len(data), count))
    return data


def _wrong_size(size: int, count: int) -> str:
    return f"expected {count} bytes, {CIFAR_IMAGES} records of {CIFAR_RECORD}, got {size}"


def _read(stream: gzip.GzipFile, file: Path, offset: int, count: int) -> np.ndarray:
    """The next `count` bytes; `offset` is where they begin in the unpacked file."""
    data = np.empty(count, dtype=np.uint8)
    view, filled = memoryview(data.data), 0
    while filled < count:
        try:
            got = stream.readinto(view[filled : filled + _CHUNK])
        except (OSError, EOFError, zlib.error) as error:
            raise damaged(file, offset + filled, f"not a whole gzip file ({error})") from error
        if not got:
            raise damaged(file, offset + filled, f"the file ends where {count - filled} more bytes should be")
        filled += got
    return data


def _read_end(stream: gzip.GzipFile, file: Path, offset: int) -> None:
    try:
        more = stream.read(1)  # the end of the stream is where its checksum is verified
    except (OSError, EOFError, zlib.error) as error:
        raise damaged(file, offset, f"not a whole gzip file ({error})") from error
    if more:
        raise damaged(file, offset, "the file goes on after the array that its header promises")
