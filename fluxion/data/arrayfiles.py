"""Arrays from files of NumPy and of IDX."""

from __future__ import annotations

import ast
import math
import os
import re
import struct
import zipfile
from pathlib import Path

import numpy as np

from fluxion.data.idx import read_idx
from fluxion.data.untrusted import UnpackedFile, damaged, is_bomb
from fluxion.errors import DataError

_NPY = b"\x93NUMPY"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_HEADER = 10_000  # characters; NumPy reads no longer one of an unknown file either
_DTYPE = re.compile(r"[<>|=]?[biufcSUmM?][0-9]{0,9}(\[[0-9]{0,9}[a-zA-Z]+\])?")


def read_arrays(path: str | os.PathLike[str]) -> np.ndarray | dict[str, np.ndarray]:
    """The array in a `.npy` or IDX file, or the arrays in a `.npz` file by their names.

    What is in the file decides, not its name; `.npy` and IDX may be packed by gzip or xz. Numbers, truth values, text
    of fixed width and dates are read. Nothing is unpickled, so arrays of Python objects are refused, and no memory is
    taken for more than the file holds.

    Errors: `DataError` where there is no such file, or it holds objects or records; `FileFormatError` with file, offset
    and reason where it is damaged, or would unpack to more than 256 MiB and 100 times its size.

    >>> import fluxion as fx, numpy as np, tempfile, os
    >>> file = os.path.join(tempfile.mkdtemp(), "data.npz")
    >>> np.savez(file, x=np.ones((2, 3)), y=np.array([0, 1]))
    >>> {name: array.shape for name, array in fx.read_arrays(file).items()}
    {'x': (2, 3), 'y': (2,)}
    """
    file = Path(path)
    with UnpackedFile.open(file, "a .npy, .npz or IDX file") as data:
        start = data.read(min(data.size, len(_NPY))).tobytes()
        if start == _NPY:
            return _read_npy(data)
    if start.startswith(_ZIP):
        return _read_npz(file)
    if start.startswith(b"\x00\x00"):
        return read_idx(file)
    raise damaged(file, 0, f"expected a .npy, .npz or IDX file, it begins with {start!r}", "Give one of these.")


def _read_npz(file: Path) -> dict[str, np.ndarray]:
    arrays = {}
    try:
        with zipfile.ZipFile(file) as archive:
            _check_members(file, archive.infolist())
            for member in archive.infolist():
                with UnpackedFile.member(file, archive, member) as data:
                    start = data.read(min(member.file_size, len(_NPY))).tobytes()
                    if start != _NPY:
                        raise data.damaged(f"expected a .npy file, it begins with {start!r}")
                    arrays[member.filename.removesuffix(".npy")] = _read_npy(data)
    except (zipfile.BadZipFile, NotImplementedError, OSError, EOFError, struct.error, UnicodeError) as error:
        raise damaged(file, 0, f"not a whole .npz file ({str(error).rstrip('.')})") from error
    return arrays


def _read_npy(data: UnpackedFile) -> np.ndarray:
    """The array behind the first six bytes."""
    version = tuple(data.read(2).tolist())
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise data.damaged(f"expected version 1.0, 2.0 or 3.0 of the .npy format, got {version[0]}.{version[1]}")
    length = int.from_bytes(data.read(2 if version == (1, 0) else 4).tobytes(), "little")
    if length > _HEADER:
        raise data.damaged(f"expected a header of at most {_HEADER} bytes, got {length}")
    data.expect(length, "a header is promised")
    header = data.read(length).tobytes()
    shape, dtype, fortran = _header(data, header.decode("utf-8" if version == (3, 0) else "latin-1", "replace"))
    count = math.prod(shape) * dtype.itemsize
    data.expect(count, f"the header promises {dtype} of shape {shape}")
    array = data.read(count).view(dtype).reshape(shape, order="F" if fortran else "C")
    data.end("the array that its header promises")
    return array.astype(dtype.newbyteorder("="), copy=False)


def _check_members(file: Path, members: list[zipfile.ZipInfo]) -> None:
    """Raise unless the files in the archive are harmless, by what its directory says of them."""
    size = file.stat().st_size
    names: set[str] = set()
    for member in members:
        name, at = member.filename, member.header_offset
        if not name.endswith(".npy"):
            raise damaged(file, at, f"expected .npy files alone, got {name!r}", "Give a .npz file.")
        if name in names:
            raise damaged(file, at, f"expected each name once, got {name!r} again")
        if member.flag_bits & 1:
            raise damaged(file, at, f"{name!r} is encrypted", "Decrypt it first.")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise damaged(file, at, f"{name!r} is packed by another method than deflate", "Write it by np.savez.")
        if member.compress_size > size or (not member.compress_type and member.compress_size != member.file_size):
            raise damaged(file, at, f"{name!r} is said to take {member.compress_size} of the {size} bytes of the file")
        names.add(name)
    total = sum(member.file_size for member in members)
    if is_bomb(size, total):
        raise damaged(file, 0, f"{size} bytes would unpack to {total}", "If you trust the file, read it by np.load.")


def _header(data: UnpackedFile, header: str) -> tuple[tuple[int, ...], np.dtype, bool]:
    """Shape, type and whether the first axis goes fastest; checked, as memory is taken for it."""
    try:
        fields = ast.literal_eval(header.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise data.damaged(f"expected a header of the .npy format, got {header[:60]!r}") from error
    if not isinstance(fields, dict) or set(fields) != {"descr", "fortran_order", "shape"}:
        raise data.damaged(f"expected a header with descr, fortran_order and shape, got {header[:60]!r}")
    shape, fortran = fields["shape"], fields["fortran_order"]
    if (
        not isinstance(shape, tuple)
        or len(shape) > 32
        or not all(type(size) is int and size >= 0 for size in shape)
        or math.prod(size or 1 for size in shape) >= 2**48
    ):
        raise data.damaged(f"expected a shape, got {str(shape)[:60]}")
    if not isinstance(fortran, bool):
        raise data.damaged(f"expected fortran_order to be True or False, got {str(fortran)[:60]}")
    return shape, _dtype(data, fields["descr"]), fortran


def _dtype(data: UnpackedFile, descr: object) -> np.dtype:
    expected = f"{data.file}: expected an array of numbers, text or dates"
    kind = descr.lstrip("<>|=")[:1] if isinstance(descr, str) else ""
    if isinstance(descr, list) or kind == "V":
        raise DataError(f"{expected}, got records. Save each field as an array.")
    if kind == "O":
        raise DataError(
            f"{expected}, got Python objects. They are pickled, and loading a pickle can run any program. Save numbers."
        )
    try:
        dtype = np.dtype(descr) if isinstance(descr, str) and _DTYPE.fullmatch(descr) else None
    except (TypeError, ValueError, OverflowError):
        dtype = None
    if dtype is None or dtype.itemsize == 0:
        raise data.damaged(f"expected the type of an array, got {str(descr)[:60]!r}")
    return dtype
