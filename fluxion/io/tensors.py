"""Arrays in a safetensors file: written in one pass, read with every claim of the file checked before it is believed.

A file is 8 bytes with the length of its header, the header (JSON: dtype, shape and place of each array, and strings of
metadata), then the bytes of the arrays. Every safetensors library reads what is written here, and the other way round.

It is not left to the `safetensors` package for three reasons: the header that was checked and the bytes that are read
must come from the same open file, a model must not be in memory twice while it is written, and an error must say what
is wrong with the file.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple, NoReturn

import jax.numpy as jnp
import numpy as np

from fluxion.errors import ArgumentError, DTypeError, FileFormatError

DTYPES = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "U16": np.dtype(np.uint16),
    "U32": np.dtype(np.uint32),
    "U64": np.dtype(np.uint64),
    "I8": np.dtype(np.int8),
    "I16": np.dtype(np.int16),
    "I32": np.dtype(np.int32),
    "I64": np.dtype(np.int64),
    "F8_E4M3": np.dtype(jnp.float8_e4m3fn),
    "F8_E5M2": np.dtype(jnp.float8_e5m2),
    "F8_E4M3FNUZ": np.dtype(jnp.float8_e4m3fnuz),
    "F8_E5M2FNUZ": np.dtype(jnp.float8_e5m2fnuz),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(jnp.bfloat16),
    "F32": np.dtype(np.float32),
    "F64": np.dtype(np.float64),
    "C64": np.dtype(np.complex64),
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}

MAX_HEADER = 16 * 2**20  # bytes
MAX_TOKENS = 1_000_000  # commas and brackets in the header: bounds what parsing it can take
MAX_AXES = 64  # as many as numpy has
MAX_NAME = 4096

METADATA = "__metadata__"


class TensorFile(NamedTuple):
    """An open file: its arrays by name, in the order of the header, and its metadata."""

    arrays: dict[str, StoredArray]
    metadata: dict[str, str]


class StoredArray:
    """An array in an open file. Its dtype and shape are known; `np.asarray` reads its values."""

    def __init__(self, name: str, dtype: np.dtype[Any], shape: tuple[int, ...], begin: int, end: int) -> None:
        self.name, self.dtype, self.shape = name, dtype, shape
        self.begin, self.end = begin, end  # within the part of the file behind the header
        self.file: BinaryIO
        self.start = 0  # where that part begins
        self.path = ""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values = np.empty(self.end - self.begin, np.uint8)
        self.file.seek(self.start + self.begin)
        if self.file.readinto(values.data) != values.size:  # type: ignore[attr-defined]
            _refuse(self.path, f"{values.size} bytes of {self.name!r}", "fewer; the file was cut while it was read")
        if self.dtype == np.bool_ and values.size and values.max() > 1:
            _refuse(self.path, f"booleans 0 and 1 in {self.name!r}", f"the byte {values.max()}")
        array = values.view(self.dtype).reshape(self.shape)
        return array if dtype is None else array.astype(dtype)


# ------------------------------------------------------------------------------------------------- writing


def write_tensors(file: BinaryIO, arrays: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    """Write numpy or JAX arrays of any of the `DTYPES`, fetching one at a time from its device.

    Errors: `DTypeError` for a dtype that the format does not have, `ArgumentError` for a name or metadata that it
    cannot hold. Source: the format of https://github.com/huggingface/safetensors, version 0.4.

    >>> import io, numpy as np
    >>> from fluxion.io.tensors import write_tensors
    >>> file = io.BytesIO()
    >>> write_tensors(file, {"a": np.zeros(2, np.float32)}, {})
    >>> file.getvalue()[8:]
    b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}  \\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00'
    """
    header: dict[str, Any] = {METADATA: dict(metadata)} if metadata else {}
    for name, array in arrays.items():
        if name == METADATA or not _is_sane(name):
            raise ArgumentError(
                f"save: expected names of 1 to {MAX_NAME} printable characters, not {METADATA!r}, got {name!r:.60}."
            )
        kind = np.dtype(array.dtype).newbyteorder("=")
        if kind not in NAMES:
            raise DTypeError(
                f"save: {name}: expected a dtype that safetensors has ({', '.join(d.name for d in NAMES)}), got "
                f"{array.dtype}. Convert the array."
            )
        header[name] = {"dtype": NAMES[kind], "shape": list(array.shape)}
    # The widest first: every array then begins at a multiple of its item size, so that readers can map it.
    order = sorted(arrays, key=lambda name: -np.dtype(arrays[name].dtype).itemsize)
    end = 0
    for name in order:
        begin, end = end, end + math.prod(arrays[name].shape) * np.dtype(arrays[name].dtype).itemsize
        header[name]["data_offsets"] = [begin, end]
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER or _tokens(text) > MAX_TOKENS:
        raise ArgumentError(f"save: expected names and metadata of at most {MAX_HEADER} bytes, got {len(text)}.")
    file.write(len(text).to_bytes(8, "little"))
    file.write(text)
    for name in order:
        array = np.asarray(arrays[name])
        array = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
        file.write(array.reshape(-1).view(np.uint8).data)


# ------------------------------------------------------------------------------------------------- reading


@contextlib.contextmanager
def open_tensors(path: str | os.PathLike[str]) -> Iterator[TensorFile]:
    """Open a safetensors file and check its header against the size of the file; no array is read yet.

    Errors: `FileFormatError` for anything but a whole safetensors file, `FileNotFoundError` where there is none.

    >>> import pathlib, tempfile
    >>> from fluxion.io.tensors import open_tensors
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "x.safetensors")
    ...     path.write_bytes(b"PK\\x03\\x04 and more")
    ...     with open_tensors(path) as stored:
    ...         pass
    Traceback (most recent call last):
        ...
    fluxion.errors.FileFormatError: ...x.safetensors: expected a safetensors file, got a zip archive (a PyTorch .pt, ...
    """
    where = os.fspath(path)
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):  # before it is opened: opening a pipe would wait for its other end
        _refuse(where, "a safetensors file", "a folder" if stat.S_ISDIR(mode) else "something that is no regular file")
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(16)
        length = int.from_bytes(start[:8], "little")
        if len(start) < 10 or start[8:9] != b"{" or length > size - 8:
            _refuse(where, "a safetensors file", _looks_like(start, size, length))
        if length > MAX_HEADER:
            _refuse(where, f"a header of at most {MAX_HEADER} bytes", f"{length}")
        file.seek(8)
        arrays, metadata = _parsed(where, file.read(length), size - 8 - length)
        for array in arrays.values():
            array.file, array.start, array.path = file, 8 + length, where
        yield TensorFile(arrays, metadata)


def _parsed(where: str, text: bytes, size: int) -> tuple[dict[str, StoredArray], dict[str, str]]:
    """The header, checked against the `size` of what follows it."""
    if _tokens(text) > MAX_TOKENS:
        _refuse(where, f"a header of at most {MAX_TOKENS} entries", "more")
    header = parse_json(where, "the header", text)
    if not isinstance(header, dict):
        _refuse(where, "a JSON object for header", type(header).__name__)
    metadata = header.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        _refuse(where, "metadata of strings", f"{metadata!r:.60}")
    arrays = {name: _entry(where, name, entry) for name, entry in header.items()}
    end = 0
    for array in sorted(arrays.values(), key=lambda array: (array.begin, array.end)):
        if array.begin != end:
            fault = "overlaps another array" if array.begin < end else "leaves a gap before it"
            _refuse(where, f"{array.name!r} to begin at byte {end}", f"{array.begin}, which {fault}")
        end = array.end
    if end != size:
        cut = "the file is truncated" if end > size else "there is more behind the last array"
        _refuse(where, f"{end} bytes of arrays", f"{size}; {cut}")
    return arrays, metadata


def _entry(where: str, name: str, entry: Any) -> StoredArray:
    if not _is_sane(name):
        _refuse(where, f"names of 1 to {MAX_NAME} printable characters", f"{name!r:.60}")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        _refuse(where, f"dtype, shape and data_offsets of {name!r}", f"{entry!r:.80}")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in DTYPES:
        _refuse(where, f"a dtype of {name!r} among {', '.join(DTYPES)}", f"{kind!r:.60}")
    if not _is_sizes(shape) or len(shape) > MAX_AXES:
        _refuse(where, f"a shape of {name!r} of at most {MAX_AXES} whole numbers", f"{shape!r:.60}")
    if not _is_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        _refuse(where, f"data_offsets of {name!r}: the first byte and the one behind the last", f"{offsets!r:.60}")
    dtype = DTYPES[kind]
    # An empty array may not claim sizes that no array can have either.
    if math.prod(max(1, n) for n in shape) * dtype.itemsize >= 2**63:
        _refuse(where, f"a shape of {name!r} that an array can have", f"{shape!r:.60}")
    count = math.prod(shape) * dtype.itemsize
    if offsets[1] - offsets[0] != count:
        _refuse(where, f"{count} bytes for {name!r}, {kind}{shape}", f"{offsets[1] - offsets[0]}")
    return StoredArray(name, dtype, tuple(shape), *offsets)


def parse_json(where: str, what: str, text: bytes | str) -> Any:
    """JSON without the liberties that Python's reader takes: no name twice, no NaN, no endless nesting."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise ValueError(f"the name {twice!r:.60} twice")
        return found

    def number(constant: str) -> NoReturn:
        raise ValueError(f"the number {constant}")

    try:
        text = text.decode() if isinstance(text, bytes) else text
        return json.loads(text, object_pairs_hook=unique, parse_constant=number)
    except RecursionError:
        _refuse(where, f"JSON for {what}", "brackets nested too deeply")
    except ValueError as error:  # of the two lines above alone: bad UTF-8, bad JSON
        raise FileFormatError(f"{where}: expected JSON for {what}, got {error}.{_DAMAGED}") from error


_DAMAGED = " The file is damaged or was made by something else; take another copy."


def _refuse(where: str, expected: str, got: str) -> NoReturn:
    raise FileFormatError(f"{where}: expected {expected}, got {got}.{_DAMAGED}")


def _is_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 2**63 for n in value)


def _is_sane(name: str) -> bool:
    return 0 < len(name) <= MAX_NAME and name.isprintable()


def _tokens(text: bytes) -> int:
    return sum(map(text.count, (b",", b"{", b"[")))


_SIGNATURES = {
    b"PK\x03\x04": "a zip archive (a PyTorch .pt, a Keras .keras or a NumPy .npz file?)",
    b"\x80": "a Python pickle, which is never read here because it can run code",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"\x89HDF": "an HDF5 file (Keras .h5 or JLD2?)",
    b"\x93NUMPY": "a NumPy .npy array",
    b"GGUF": "a GGUF file",
    b"\x1f\x8b": "a gzip archive",
    b"<": "text or HTML (a web page instead of the download?)",
    b"{": "text (JSON?)",
    b"version https://": "a Git LFS pointer instead of the file itself",
}


def _looks_like(start: bytes, size: int, length: int) -> str:
    """What a file is that is not a safetensors file, or what is wrong with it."""
    if size == 0:
        return "an empty file"
    if start[8:9] == b"{" and length > size - 8:
        return f"{size} bytes, where the header alone should have {length}; it is truncated"
    for signature, meaning in _SIGNATURES.items():
        if start.startswith(signature) and not (len(signature) == 1 and start[8:9] == b"{"):
            return meaning
    return f"{size} bytes that begin with {start[:8]!r}"
