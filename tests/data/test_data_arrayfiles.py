import gzip
import io
import lzma
import struct
import zipfile

import numpy as np
import pytest

import fluxion as fx


def npy(array, **options):
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def header(text, version=(1, 0), body=b"", length=None):
    """A .npy file by hand."""
    text = text.encode()
    length = len(text) if length is None else length
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H" if version == (1, 0) else "<I", length) + text + body


ARRAYS = [
    np.arange(12.0).reshape(3, 4),
    np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4)),
    np.arange(6, dtype=">i4").reshape(1, 2, 3),
    np.array([True, False]),
    np.array(7, np.int8),
    np.zeros((0, 5), np.uint16),
    np.array([1 + 2j, 3]),
    np.array(["bär", "c"]),
    np.array([b"ab", b"c"]),
    np.array(["2020-01-02", "NaT"], "M8[D]"),
    np.arange(3, dtype=np.float16),
    np.arange(100_000, dtype=np.int64),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}{a.shape}")
def test_arrays_are_numpys(tmp_path, array):
    file = tmp_path / "a.npy"
    for pack in (bytes, gzip.compress, lzma.compress):
        file.write_bytes(pack(npy(array)))
        read = fx.read_arrays(file)
        np.testing.assert_array_equal(read, array)
        assert read.dtype == array.dtype.newbyteorder("=") and read.dtype.isnative and read.flags.writeable


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_archives_are_numpys(tmp_path, save):
    given = {f"array{i}": array for i, array in enumerate(ARRAYS)} | {"a/b": np.ones(2)}
    save(tmp_path / "a.npz", **given)
    read = fx.read_arrays(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as reference:
        assert list(read) == list(reference.keys())
        for name in read:
            np.testing.assert_array_equal(read[name], reference[name])
    save(tmp_path / "b.npz")
    assert fx.read_arrays(tmp_path / "b.npz") == {}


def test_idx_is_read_too(tmp_path):
    (tmp_path / "a").write_bytes(b"\0\0\x08\x01\0\0\0\x02\x07\x09")
    assert fx.read_arrays(tmp_path / "a").tolist() == [7, 9]


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_versions_of_the_header(tmp_path, version):
    file = tmp_path / "a.npy"
    text = "{'descr': '<i2', 'fortran_order': False, 'shape': (2,), }\n"
    file.write_bytes(header(text, version, struct.pack("<2h", 5, -6)))
    assert fx.read_arrays(file).tolist() == np.load(file).tolist() == [5, -6]


FIELDS = "{{'descr': {}, 'fortran_order': {}, 'shape': {}}}"


def fields(descr="'<i2'", fortran="False", shape="(2,)", body=b"1234", **options):
    return header(FIELDS.format(descr, fortran, shape), body=body, **options)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "at byte 0: expected a .npy, .npz or IDX file, it begins with b''"),
        (b"hello world", "it begins with b'hello '"),
        (b"\x93NUMPY", "at byte 6: the file ends where 2 more"),
        (b"\x93NUMPY\x04\x00\x00\x00", "expected version 1.0, 2.0 or 3.0 of the .npy format, got 4.0"),
        (header("{}", length=60), r"at byte 10: a header is promised \(60 bytes\), more than the 2 that follow"),
        (header(" " * 10_001), "expected a header of at most 10000 bytes, got 10001"),
        (header("{}", (2, 0), length=2**32 - 1), "expected a header of at most 10000 bytes, got 4294967295"),
        (header("__import__('os')"), 'expected a header of the .npy format, got "__import__'),
        (header("(" * 5000), "expected a header of the .npy format"),
        (header("-" * 5000 + "1"), "expected a header"),
        (header("{'descr': '<i2'}"), "expected a header with descr, fortran_order and shape"),
        (fields(shape="(2.0,)"), r"expected a shape, got \(2.0,\)"),
        (fields(shape="(-2,)"), r"expected a shape, got \(-2,\)"),
        (fields(shape="(True,)"), "expected a shape"),
        (fields(shape="2"), "expected a shape, got 2"),
        (fields(shape="(0, 10**30)".replace("10**30", "1" + "0" * 30)), "expected a shape"),
        (fields(shape=str((1,) * 33)), "expected a shape"),
        (fields(fortran="0"), "expected fortran_order to be True or False, got 0"),
        (fields(descr="'<i3'"), "expected the type of an array, got '<i3'"),
        (fields(descr="'<U0'"), "expected the type of an array, got '<U0'"),
        (fields(descr="'i2,i2'"), "expected the type of an array"),
        (fields(descr="'<U99999999'"), "the header promises <U99999999 of shape"),
        (fields(descr="'<U999999999'"), "expected the type of an array, got '<U999999999'"),
        (fields(descr="None"), "expected the type of an array, got 'None'"),
        (fields(shape="(3,)"), r"int16 of shape \(3,\) \(6 bytes\), more than the 4 that follow"),
        (fields(shape="(70000, 70000, 4)"), "more than the 4 that follow"),
        (fields(shape="(1,)"), "the file goes on after the array that its header promises"),
        (gzip.compress(fields(shape="(3,)")), "the file ends where 2 more bytes should be"),
        (gzip.compress(fields(shape="(3000000,)")), "more than .* bytes can unpack to"),
        (gzip.compress(fields())[:-4], "not a whole gzip file"),
        (
            npy(np.array([{}, None]), allow_pickle=True),
            "got Python objects. They are pickled, and loading",
        ),
        (npy(np.zeros(2, [("a", "f4"), ("b", "i2")])), "got records. Save each field"),
        (fields(descr="'|V4'"), "got records"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_damaged_arrays(tmp_path, data, message):
    file = tmp_path / "a.npy"
    file.write_bytes(data)
    with pytest.raises(fx.DataError, match=message) as caught:
        fx.read_arrays(file)
    assert str(caught.value).startswith(f"{file}: ") and "\n" not in str(caught.value)


def archive(members, method=zipfile.ZIP_DEFLATED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as file:
        for name, data in members:
            file.writestr(name, data)
    return stream.getvalue()


GOOD = archive([("a.npy", npy(np.arange(100)))])


def patched(data, old, new):
    assert old in data
    return data.replace(old, new)


def bomb():
    """Zeros of 700 MB in 700 kB, which no one has to unpack to see it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file, file.open("a.npy", "w") as out:
        out.write(fields(descr="'|u1'", shape="(300000000,)", body=b""))
        for _ in range(300):
            out.write(bytes(1_000_000))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (GOOD[:-10], "not a whole .npz file .*not a zip file"),
        (GOOD[:60] + bytes([GOOD[60] ^ 255]) + GOOD[61:], "a.npz/a.npy: at byte .*: not a whole"),
        (archive([("a.npy", npy(np.arange(3))[:-1])]), "a.npz/a.npy: at byte .*int64 of shape|ends where"),
        (archive([("a.npy", b"text")]), r"a.npz/a.npy: at byte 4: expected a .npy file, it begins with b'text'"),
        (archive([("a.txt", b"text")]), "expected .npy files alone, got 'a.txt'"),
        (
            archive([("a.npy", npy(np.array([{}]), allow_pickle=True))]),
            "a.npz/a.npy: expected .* Python objects",
        ),
        (archive([("a.npy", npy(np.arange(3)))], zipfile.ZIP_LZMA), "packed by another method than deflate"),
        (archive([("a.npy", fields(shape="(3000000,)"))]), "a.npz/a.npy: at byte .* bytes can unpack to"),
        (bomb(), r"bytes would unpack to 3\d+\. If you trust the file, read it by np.load"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_damaged_archives(tmp_path, data, message):
    file = tmp_path / "a.npz"
    file.write_bytes(data)
    with pytest.raises(fx.DataError, match=message) as caught:
        fx.read_arrays(file)
    assert str(caught.value).startswith(str(file)) and "\n" not in str(caught.value)


def test_archives_that_lie_about_their_members(tmp_path):
    """Flags and sizes in the directory at the end of the file, by hand."""
    file, at = tmp_path / "a.npz", GOOD.rindex(b"PK\x01\x02")
    for offset, form, value, message in [
        (8, "<H", 1, "'a.npy' is encrypted"),
        (20, "<I", 10**6, r"'a.npy' is said to take 1000000 of the \d+ bytes"),
        (24, "<I", 2**32 - 2, "would unpack to 4294967294"),
        (24, "<I", 50, "ends where|Bad CRC|goes on"),
        (42, "<I", 77, "not a whole .npz file"),
    ]:
        changed = bytearray(GOOD)
        struct.pack_into(form, changed, at + offset, value)
        file.write_bytes(changed)
        with pytest.raises(fx.FileFormatError, match=message):
            fx.read_arrays(file)
    twice = archive([("a.npy", npy(np.ones(1))), ("b.npy", npy(np.ones(1)))])
    file.write_bytes(patched(twice, b"b.npy", b"a.npy"))
    with pytest.raises(fx.FileFormatError, match=r"expected each name once, got 'a.npy' again"):
        fx.read_arrays(file)


def test_no_file(tmp_path):
    with pytest.raises(fx.DataError, match=r"none.npy: expected a .npy, .npz or IDX file, there is none"):
        fx.read_arrays(tmp_path / "none.npy")
    with pytest.raises(fx.DataError, match="got a folder"):
        fx.read_arrays(tmp_path)
