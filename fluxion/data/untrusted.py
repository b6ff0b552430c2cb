"""Bytes of files from outside, which are not trusted: sizes are checked before memory is taken, and every error names
the file, the place in it and the reason.
"""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, Self, cast

import numpy as np

from fluxion.errors import DataError, FileFormatError

if TYPE_CHECKING:
    from jaxtyping import UInt8

_GZIP, _XZ = b"\x1f\x8b", b"\xfd7zXZ\x00"
_RATIO = {"gzip": 1032, "xz": 10_000}  # no byte can unpack to more than this
_MODEST = 256 << 20  # what any packed file may unpack to
_GENEROUS = 100  # how many times its size a larger one may; the data sets here are below 10
_XZ_MEMORY = 128 << 20  # what a decoder may take; `xz -9` asks for 65 MiB, a hostile header for 4 GiB
_CHUNK = 1 << 20


def damaged(file: Path, offset: int, reason: str, remedy: str = "Get the file anew.") -> FileFormatError:
    """The error about a file, to be raised; `offset` counts from the beginning of its unpacked bytes."""
    what = " of the unpacked file" if file.suffix in (".gz", ".xz", ".tgz") else ""
    return FileFormatError(f"{file}: at byte {offset}{what}: {reason}. {remedy}")


def is_bomb(packed: int, unpacked: int) -> bool:
    """Whether `packed` bytes must not unpack to `unpacked` bytes."""
    return unpacked > max(_MODEST, _GENEROUS * packed)


class UnpackedFile:
    """The bytes of a file from its beginning to its end, unpacked if it is packed by gzip or xz, whatever its name.

    `offset` is the number of bytes that were read. A file that would unpack to more than 256 MiB and 100 times its
    size is refused.

    Errors: `DataError` where there is no such file; `FileFormatError` from each method.
    """

    def __init__(self, file: Path, stream: _Stream, size: int, packer: str | None) -> None:
        self.file, self.size, self.packer = file, size, packer  # the size is that of the packed bytes
        self.offset = 0
        self._stream = stream

    @classmethod
    def open(cls, file: Path, what: str) -> Self:
        """A file on the disk; `what` is expected there."""
        if not file.is_file():
            raise DataError(f"{file}: expected {what}, {'got a folder' if file.is_dir() else 'there is none'}.")
        plain = file.open("rb")
        magic, size = plain.read(6), file.stat().st_size
        plain.seek(0)
        if magic.startswith(_GZIP):
            return cls(file, _GzipStream(plain), size, "gzip")
        if magic == _XZ:
            return cls(file, _XzStream(plain), size, "xz")
        return cls(file, plain, size, None)

    @classmethod
    def member(cls, file: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Self:
        """A file in a zip archive, stored or deflated."""
        packer = "gzip" if info.compress_type else None  # the same method, behind another header
        return cls(file / info.filename, cast("_Stream", archive.open(info)), info.compress_size, packer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.close()

    def damaged(self, reason: str, remedy: str = "Get the file anew.") -> FileFormatError:
        """The error about the place up to which the file was read."""
        return damaged(self.file, self.offset, reason, remedy)

    def expect(self, count: int, what: str) -> None:
        """Raise if `count` more bytes cannot be there; `what` tells who promised them."""
        end = self.offset + count
        if self.packer is None:
            if end > self.size:
                raise self.damaged(
                    f"{what} ({count} bytes), more than the {max(0, self.size - self.offset)} that follow"
                )
        elif end > _RATIO[self.packer] * self.size:
            raise self.damaged(f"{what} ({count} bytes), more than {self.size} bytes can unpack to")
        elif is_bomb(self.size, end):
            raise self.damaged(
                f"{what} ({count} bytes), more than {_GENEROUS} times the {self.size} bytes of the file",
                "Unpack it first if you trust it.",
            )

    def read(self, count: int) -> UInt8[np.ndarray, " count"]:
        """The next `count` bytes."""
        data = np.empty(count, np.uint8)
        self._read_into(memoryview(data.data))
        return data

    def skip(self, count: int) -> None:
        """Go on by `count` bytes."""
        while count:
            count -= len(self.read(min(count, _CHUNK)))

    def rest(self) -> Iterator[bytes]:
        """All that follows, in pieces."""
        while piece := bytes(self._some(memoryview(bytearray(_CHUNK)))):
            if self.packer and is_bomb(self.size, self.offset):
                raise self.damaged(
                    f"the file unpacks to more than {_GENEROUS} times its {self.size} bytes",
                    "Unpack it first if you trust it.",
                )
            yield piece

    def end(self, what: str) -> None:
        """Raise unless the file ends here, after `what`; this is also where a packed file's checksum is verified."""
        start = self.offset
        if self._some(memoryview(bytearray(1))):
            raise damaged(self.file, start, f"the file goes on after {what}")

    def _read_into(self, view: memoryview) -> None:
        filled = 0
        while filled < len(view):
            got = len(self._some(view[filled : filled + _CHUNK]))
            if not got:
                raise self.damaged(f"the file ends where {len(view) - filled} more bytes should be")
            filled += got

    def _some(self, view: memoryview) -> memoryview:
        """The part of `view` that could be filled; none at the end of the file."""
        try:
            got = self._stream.readinto(view)
        except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
            kind = f"not a whole {self.packer} file" if self.packer else "the file cannot be read"
            raise self.damaged(f"{kind} ({str(error).rstrip('.')})") from error
        self.offset += got
        return view[:got]


class _Stream(Protocol):
    def readinto(self, view: memoryview, /) -> int: ...

    def close(self) -> None: ...


class _GzipStream(gzip.GzipFile):
    """The unpacked bytes of a gzip file, which is closed with it."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(fileobj=file, mode="rb")
        self._packed = file

    def close(self) -> None:
        super().close()
        self._packed.close()


class _XzStream:
    """The unpacked bytes of a file of one xz stream, which takes no more memory than `_XZ_MEMORY`."""

    def __init__(self, file: BinaryIO) -> None:
        import lzma  # here, because some builds of Python are without it

        self.file, self.error = file, lzma.LZMAError
        self.decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)

    def readinto(self, view: memoryview) -> int:
        data = b""
        while not data and not self.decoder.eof:
            packed = self.file.read(_CHUNK) if self.decoder.needs_input else b""
            if self.decoder.needs_input and not packed:
                raise EOFError("it ends too early")
            try:
                data = self.decoder.decompress(packed, len(view))
            except self.error as error:
                raise OSError(str(error)) from error
        if not data and (self.decoder.unused_data or self.file.read(1)):
            raise OSError("it goes on after the end of its xz stream")
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self.file.close()
