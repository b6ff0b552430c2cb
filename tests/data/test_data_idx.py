import gzip
import lzma
import struct

import numpy as np
import pytest

import fluxion as fx
from fluxion.data.idx import read_idx, write_idx


def idx(shape, body, magic=b"\x00\x00\x08"):
    return magic + bytes([len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + body


GOOD = idx((2, 3), bytes(range(6)))


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        (gzip.compress(GOOD)[:-12], "at byte .*: not a whole gzip file"),
        (gzip.compress(GOOD)[:-8] + bytes(8), "not a whole gzip file .*CRC"),
        (gzip.compress(GOOD) + b"garbage", "not a whole gzip file"),
        (b"garbage", "at byte 0 .*: expected an IDX header"),
        (b"", "at byte 0 .*: the file ends where 4 more bytes should be"),
        (gzip.compress(GOOD[:-2]), "at byte 16 .*: the file ends where 2 more bytes should be"),
        (gzip.compress(GOOD + b"x"), "at byte 18 .*: the file goes on after"),
        (gzip.compress(GOOD[:6]), "at byte 6 .*: the file ends where 6 more"),
        (gzip.compress(idx((2,), b"ab", b"\x00\x00\x0a")), "at byte 0 .*expected an IDX header: .* got 00 00 0a 01"),
        (gzip.compress(idx((1,) * 33, b"a")), "1 to 32 axes, got 00 00 08 21"),
        (gzip.compress(idx((2**32 - 1,) * 4, b"")), "at byte 20 .*more than .* bytes can unpack to"),
        (gzip.compress(idx((0, 2**32 - 1, 2**32 - 1), b"")), "which no array has"),
        (gzip.compress(bytes(300 << 20), 9), "expected an IDX header"),
        (
            gzip.compress(idx((300 << 20,), bytes(300 << 20)), 9),
            "more than 100 times the .* Unpack it first if you trust",
        ),
        (lzma.compress(GOOD)[:-12], "not a whole xz file .it ends too early"),
        (GOOD[:-2], "at byte 12: the header promises .2, 3. .6 bytes., more than the 4 that follow"),
        (GOOD[:9], "at byte 4: the header promises sizes .8 bytes., more than the 5 that follow"),
        (GOOD + b"x", "at byte 18: the file goes on after"),
        (gzip.compress(idx((2**31,), b"abc")), "2147483648 bytes., more than"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # the bytes hold the time of their packing
)
def test_damaged_idx_files(tmp_path, packed, message):
    file = tmp_path / ("a.gz" if " .*" in message or packed[:2] != GOOD[:2] else "a")
    file.write_bytes(packed)
    with pytest.raises(fx.FileFormatError, match=message) as caught:
        read_idx(file)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


def test_idx_files(tmp_path):
    file = tmp_path / "a.gz"
    file.write_bytes(gzip.compress(GOOD))
    np.testing.assert_array_equal(read_idx(file), [[0, 1, 2], [3, 4, 5]])
    file.write_bytes(gzip.compress(idx((0, 28, 28), b"")))
    assert read_idx(file).shape == (0, 28, 28)
    with pytest.raises(fx.DataError, match="there is none"):
        read_idx(tmp_path / "b.gz")


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress])
@pytest.mark.parametrize(("code", "dtype"), [(8, "u1"), (9, "i1"), (11, "i2"), (12, "i4"), (13, "f4"), (14, "f8")])
def test_all_types_of_idx(tmp_path, pack, code, dtype):
    values = np.array([[-1, 2, 100], [-128, 0, 7]]).astype(dtype)
    body = b"".join(
        struct.pack(">" + {"u1": "B", "i1": "b", "i2": "h", "i4": "i", "f4": "f", "f8": "d"}[dtype], v)
        for v in values.ravel().tolist()
    )
    file = tmp_path / "a"
    file.write_bytes(pack(idx((2, 3), body, bytes([0, 0, code]))))
    array = read_idx(file)
    np.testing.assert_array_equal(array, values, strict=True)
    assert array.dtype.isnative
    for name in ("b", "b.gz"):
        write_idx(tmp_path / name, values)
        np.testing.assert_array_equal(read_idx(tmp_path / name), values, strict=True)
    assert (tmp_path / "b").read_bytes() == idx((2, 3), body, bytes([0, 0, code]))


def test_types_that_idx_does_not_have(tmp_path):
    with pytest.raises(fx.DTypeError, match=r"expected an array of type uint8, .*, got int64"):
        write_idx(tmp_path / "a", np.arange(3))
    assert not list(tmp_path.iterdir())
