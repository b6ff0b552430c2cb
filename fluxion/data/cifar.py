"""The binary version of CIFAR-10 and CIFAR-100: files of records, or the published archive with all of them.

A record is one byte with the label (CIFAR-100: two, the coarse and the fine one) and 3072 bytes with the red, the green
and the blue plane, row by row.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fluxion.data.untrusted import UnpackedFile, damaged

if TYPE_CHECKING:
    import tarfile

    from jaxtyping import UInt8

PIXELS = 3 * 32 * 32
_BLOCK = 512  # of a tar archive
_FILE, _FOLDER, _NOTE = (b"0", b"\0"), b"5", (b"x", b"g")  # types of its members; notes are times and owners
_LARGEST = 256 << 20  # bytes of an unpacked archive; those of CIFAR have 177 MiB
_NOTES = 1 << 16  # bytes that a note may have


class Records(NamedTuple):
    """How the files of a set are made up."""

    number: int
    classes: tuple[int, ...]  # the number of classes of each label

    @property
    def width(self) -> int:
        return len(self.classes) + PIXELS


def read_cifar(
    file: str | Path, records: Records
) -> tuple[UInt8[np.ndarray, "images 32 32 3"], UInt8[np.ndarray, "images labels"]]:
    """The pixels and the labels in a file of records, plain or packed by gzip or xz. Both are views of its bytes.

    Errors: `FileFormatError` with file, offset and reason; `DataError` where there is no such file.

    >>> import numpy as np, tempfile, os
    >>> file = os.path.join(tempfile.mkdtemp(), "batch.bin")
    >>> np.full((4, 3073), 7, np.uint8).tofile(file)
    >>> pixels, labels = read_cifar(file, Records(4, (10,)))
    >>> pixels.shape, labels.ravel()
    ((4, 32, 32, 3), array([7, 7, 7, 7], dtype=uint8))
    """
    file, count = Path(file), records.number * records.width
    with UnpackedFile.open(file, "a file of CIFAR's binary version") as data:
        data.expect(count, f"{records.number} records of {records.width} bytes are expected")
        bytes_ = data.read(count)
        data.end(f"{records.number} records of {records.width} bytes")
    return _parts(bytes_, records, file, 0)


def read_cifar_archive(
    file: str | Path, files: Mapping[str, Records]
) -> dict[str, tuple[UInt8[np.ndarray, "images 32 32 3"], UInt8[np.ndarray, "images labels"]]]:
    """The same for some files of an archive (`cifar-10-binary.tar.gz`), by their paths in it; nothing is unpacked.

    An archive is refused if it holds anything but files and folders, a path that leads out of it, or more than
    256 MiB.

    Errors: as of `read_cifar`.
    """
    file = Path(file)
    found = read_members(file, {name: records.number * records.width for name, records in files.items()})
    return {name: _parts(found[name][1], records, file, found[name][0]) for name, records in files.items()}


def read_members(file: Path, sizes: Mapping[str, int]) -> dict[str, tuple[int, UInt8[np.ndarray, " bytes"]]]:
    """Offset and bytes of some members of a tar archive, plain or packed, given their paths and sizes."""
    found: dict[str, tuple[int, np.ndarray]] = {}
    with UnpackedFile.open(file, "a tar archive") as data:
        while True:
            start = data.offset
            block = data.read(_BLOCK)
            if not block.any():  # marks the end
                break
            member = _member(file, start, block.tobytes())
            if start + member.size > _LARGEST:
                raise damaged(file, start, f"{member.name!r} is {member.size} bytes long, the archive is too large")
            padding = -member.size % _BLOCK
            name = posixpath.normpath(member.name)
            if member.type in _FILE and name in sizes and name not in found:
                if member.size != sizes[name]:
                    raise damaged(file, start, f"expected {sizes[name]} bytes in {name}, the archive has {member.size}")
                data.expect(member.size, f"{name} is promised")
                found[name] = (data.offset, data.read(member.size))
                data.skip(padding)
            else:
                data.skip(member.size + padding)
        for name in sizes:
            if name not in found:
                raise damaged(file, start, f"expected {name} in the archive, it ends without")
        for _ in data.rest():  # to the end, where the checksum of a packed file is
            if data.offset > _LARGEST:
                raise damaged(file, _LARGEST, "the archive is too large")
    return found


def _member(file: Path, start: int, block: bytes) -> tarfile.TarInfo:
    """What a header of the archive says; an error if it is not harmless."""
    import tarfile

    try:
        member = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise damaged(
            file, start, f"expected the header of a member of a tar archive, got other bytes ({error})"
        ) from error
    name = member.name
    if member.type in _NOTE:
        if member.size > _NOTES:
            raise damaged(file, start, f"the extended header is {member.size} bytes long")
    elif member.type not in (*_FILE, _FOLDER):
        kind = "link" if member.issym() or member.islnk() else "device or another special file"
        raise damaged(file, start, f"expected files and folders, {name!r} is a {kind}")
    if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or ":" in name:
        raise damaged(file, start, f"expected paths inside of the archive, got {name!r}")
    if member.size < 0:
        raise damaged(file, start, f"expected a size, got {member.size} for {name!r}")
    return member


def _parts(data: np.ndarray, records: Records, file: Path, start: int) -> tuple[np.ndarray, np.ndarray]:
    rows = data.reshape(records.number, records.width)
    labels, pixels = rows[:, : len(records.classes)], rows[:, len(records.classes) :]
    for i, classes in enumerate(records.classes):
        if len(labels) and labels[:, i].max() >= classes:
            worst = int(labels[:, i].argmax())
            reason = f"expected a label 0 to {classes - 1}, got {labels[worst, i]} for image {worst}"
            raise damaged(file, start + worst * records.width + i, reason)
    return pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels
