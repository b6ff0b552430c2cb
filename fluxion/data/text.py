"""Text: the lines of a file, and characters as numbers."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fluxion.data.untrusted import UnpackedFile, damaged
from fluxion.errors import ArgumentError, DataError, DTypeError

if TYPE_CHECKING:
    import jax
    from jaxtyping import Int32


def read_lines(path: str | os.PathLike[str]) -> list[str]:
    r"""The lines of a text file, without their ends.

    The file is UTF-8 text, plain or packed by gzip or xz. A line ends with `\n` or `\r\n`.

    Errors: `DataError` where there is no such file, `FileFormatError` with offset and reason where it is not text.

    >>> import fluxion as fx, pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp(), "words.txt")
    >>> file.write_text("to be\n\nor not\n")
    14
    >>> fx.read_lines(file)
    ['to be', '', 'or not']
    """
    file = Path(path)
    with UnpackedFile.open(file, "a text file") as stream:
        data = b"".join(stream.rest())
    if (where := data.find(0)) >= 0:
        raise damaged(file, where, "expected text, got a zero byte", "Give a file of UTF-8 text.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise damaged(
            file,
            error.start,
            f"expected UTF-8 text, got the byte {data[error.start]:#04x} ({error.reason})",
            "Save it as UTF-8.",
        ) from error
    lines = text.split("\n")
    if not lines[-1]:
        del lines[-1]
    return [line.removesuffix("\r") for line in lines]


class Characters:
    r"""The different characters of a text, in their order, and the text as their numbers.

    Arguments:
        text: any text that has all characters; `Characters(c.alphabet)` is `c` again.

    Errors: `DataError` for an empty text, and where a character is not one of these.

    >>> import fluxion as fx
    >>> characters = fx.Characters("abracadabra")
    >>> characters, len(characters)
    (Characters('abcdr'), 5)
    >>> characters.encode("cab")
    array([2, 0, 1], dtype=int32)
    >>> characters.decode([1, 0, 3])
    'bad'
    >>> x, y = characters.windows("abracad", 3)
    >>> [(characters.decode(a), characters.decode(b)) for a, b in zip(x, y)]
    [('abr', 'bra'), ('aca', 'cad')]
    """

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise DTypeError(
                f"Characters: expected a text, got {type(text).__name__}. Join lines by chr(10).join(lines)."
            )
        if not text:
            raise DataError("Characters: expected a text, got an empty one.")
        self.alphabet = "".join(sorted(set(text)))
        self._points = _code_points(self.alphabet)

    def encode(self, text: str) -> Int32[np.ndarray, " characters"]:
        """The numbers of the characters, 0 to `len(self) - 1`."""
        points = _code_points(text)
        codes = np.searchsorted(self._points, points).astype(np.int32)
        known = self._points[np.minimum(codes, len(self) - 1)] == points
        if not known.all():
            where = int(known.argmin())
            raise DataError(
                f"Characters: expected characters of {self.alphabet!r}, got {text[where]!r} at index {where}."
            )
        return codes

    def decode(self, codes: np.ndarray | jax.Array | Iterable[int]) -> str:
        """The text that has these numbers."""
        array = np.asarray(codes if hasattr(codes, "__array__") else list(codes))
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
            raise DTypeError(f"Characters: expected a row of integers, got {array.dtype} of shape {array.shape}.")
        wrong = (array < 0) | (array >= len(self))
        if wrong.any():
            where = int(wrong.argmax())
            raise DataError(f"Characters: expected codes 0 to {len(self) - 1}, got {array[where]} at index {where}.")
        return self._points[array.astype(np.intp)].tobytes().decode("utf-32-le", "surrogatepass")

    def windows(
        self, text: str, length: int, *, stride: int | None = None
    ) -> tuple[Int32[np.ndarray, "windows length"], Int32[np.ndarray, "windows length"]]:
        """Pieces of a text to learn from, and the same one character later: the inputs and targets of `fit`.

        Both are views of the same numbers. What is left over at the end is left out.

        Arguments:
            text: at least `length + 1` characters.
            length: of a piece.
            stride: how many characters after one piece the next begins; `length` if not given.
        """
        stride = length if stride is None else stride
        if length < 1 or stride < 1:
            raise ArgumentError(f"Characters: expected length and stride of at least 1, got {length} and {stride}.")
        if len(text) <= length:
            raise DataError(f"Characters: expected more than {length} characters, got {len(text)}.")
        pieces = np.lib.stride_tricks.sliding_window_view(self.encode(text), length + 1)[::stride]
        return pieces[:, :-1], pieces[:, 1:]

    def __len__(self) -> int:
        return len(self.alphabet)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Characters) and other.alphabet == self.alphabet

    def __hash__(self) -> int:
        return hash(self.alphabet)

    def __repr__(self) -> str:
        return f"Characters({self.alphabet!r})"


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
