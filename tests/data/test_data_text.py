import gzip
import lzma

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fluxion as fx


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress])
@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a", ["a"]),
        (b"a\nb\n", ["a", "b"]),
        (b"a\r\n\r\n b \r\n", ["a", "", " b "]),
        ("\ufeffä\u2028b\x0bc\n€".encode(), ["ä\u2028b\x0bc", "€"]),
    ],
    ids=repr,
)
def test_lines(tmp_path, pack, data, lines):
    file = tmp_path / "a.txt"
    file.write_bytes(pack(data))
    assert fx.read_lines(file) == lines


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"ab\xe9\n", r"a.txt: at byte 2: expected UTF-8 text, got the byte 0xe9 \(.*\). Save it as UTF-8"),
        (b"ab\0\n", "a.txt: at byte 2: expected text, got a zero byte"),
        (gzip.compress(b"abc\n")[:-2], "not a whole gzip file"),
        (gzip.compress(bytes(300 << 20), 1), "unpacks to more than 100 times its .* Unpack it first if you trust it"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_what_is_no_text(tmp_path, data, message):
    (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(fx.FileFormatError, match=message):
        fx.read_lines(tmp_path / "a.txt")


def test_no_text_file(tmp_path):
    with pytest.raises(fx.DataError, match="expected a text file, there is none"):
        fx.read_lines(tmp_path / "a.txt")


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.text(min_size=1))
def test_decoding_undoes_encoding(text):
    characters = fx.Characters(text)
    codes = characters.encode(text)
    assert characters.decode(codes) == text and codes.dtype == np.int32 and codes.shape == (len(text),)
    # The numbers by the definition.
    alphabet = sorted(set(text))
    assert codes.tolist() == [alphabet.index(character) for character in text]
    assert list(characters.alphabet) == alphabet and len(characters) == len(alphabet)
    assert fx.Characters(characters.alphabet) == characters
    assert characters.encode("").shape == (0,) and characters.decode([]) == ""


def test_windows():
    characters = fx.Characters("abcdefghij")
    x, y = characters.windows("abcdefghij", 3)
    assert [characters.decode(row) for row in x] == ["abc", "def", "ghi"]
    assert [characters.decode(row) for row in y] == ["bcd", "efg", "hij"]
    x, y = characters.windows("abcdefghi", 3)
    assert len(x) == 2  # i has no successor
    x, y = characters.windows("abcdef", 3, stride=1)
    assert [characters.decode(row) for row in y] == ["bcd", "cde", "def"]
    assert np.shares_memory(x, y)
    loader = fx.DataLoader((x, y), batch_size=2)
    assert next(iter(loader))[0].tolist() == [[0, 1, 2], [1, 2, 3]]


def test_characters_that_are_wrong():
    characters = fx.Characters("abc")
    for call, error, message in [
        (lambda: characters.encode("abxc"), fx.DataError, "characters of 'abc', got 'x' at index 2"),
        (lambda: characters.encode("ab\U0001f600"), fx.DataError, "got '\U0001f600' at index 2"),
        (lambda: characters.decode([0, 3]), fx.DataError, "codes 0 to 2, got 3 at index 1"),
        (lambda: characters.decode([-1]), fx.DataError, "codes 0 to 2, got -1 at index 0"),
        (lambda: characters.decode([0.5]), fx.DTypeError, "a row of integers, got float64"),
        (lambda: characters.decode(np.zeros((2, 2), int)), fx.DTypeError, r"of shape \(2, 2\)"),
        (lambda: characters.windows("abc", 3), fx.DataError, "more than 3 characters, got 3"),
        (lambda: characters.windows("abc", 0), fx.ArgumentError, "length and stride of at least 1, got 0 and 0"),
        (lambda: fx.Characters(""), fx.DataError, "expected a text, got an empty one"),
        (lambda: fx.Characters(["a"]), fx.DTypeError, "expected a text, got list"),
    ]:
        with pytest.raises(error, match=message):
            call()
