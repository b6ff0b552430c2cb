import gzip
import io
import lzma
import struct
import tarfile
import zlib

import numpy as np
import pytest

import fluxion as fx
from fluxion.data import cifar as cifar_files
from fluxion.data.cifar import Records, read_cifar, read_cifar_archive

FOUR = Records(4, (10,))


def cifar(start=0, labels=(3, 0, 9, 1)):
    """The bytes of a batch: in record i, the pixel of plane c, row h, column w is start + i + 50c + 4h + w mod 256."""
    i, c, h, w = np.ogrid[: len(labels), :3, :32, :32]
    pixels = (start + i + 50 * c + 4 * h + w).astype(np.uint8).reshape(len(labels), -1)
    return np.hstack([np.array(labels, np.uint8)[:, None], pixels]).tobytes()


BATCH = cifar()
PACKED = lzma.compress(BATCH)
FLIPPED = PACKED[:-40] + bytes([PACKED[-40] ^ 1]) + PACKED[-39:]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (
            "a.bin",
            BATCH[:-1],
            "at byte 0: 4 records of 3073 bytes are expected .12292 bytes., more than the 12291 that follow",
        ),
        ("a.bin", BATCH + b"x", "at byte 12292: the file goes on after 4 records of 3073 bytes"),
        ("a.bin", b"", "at byte 0: 4 records .* .12292 bytes., more than the 0 that follow"),
        ("a.bin", cifar(labels=(3, 0, 10, 1)), "at byte 6146: expected a label 0 to 9, got 10 for image 2"),
        ("a.bin.xz", lzma.compress(cifar(labels=(3, 0, 1, 255))), "at byte 9219 of the unpacked.* 255 for image 3"),
        ("a.bin.xz", lzma.compress(BATCH[:-3073]), "at byte 9219 .*: the file ends where 3073 more bytes should be"),
        ("a.bin.xz", lzma.compress(BATCH + b"x"), "at byte 12292 .*: the file goes on after 4 records of 3073 bytes"),
        ("a.bin.xz", PACKED[:-12], "not a whole xz file .it ends too early"),
        ("a.bin.xz", PACKED[:100], "not a whole xz file .it ends too early"),
        ("a.bin.xz", b"", "at byte 0 .*: 4 records .* more than the 0"),
        ("a.bin.xz", FLIPPED, "at byte .*: not a whole xz file .*[Cc]orrupt"),
        ("a.bin.xz", PACKED + b"x", "goes on after the end of its xz stream"),
        ("a.bin.xz", PACKED + PACKED, "goes on after the end of its xz stream"),
        ("a.bin.xz", lzma.compress(BATCH, lzma.FORMAT_ALONE), "12292 bytes., more than the"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_damaged_cifar_files(tmp_path, name, data, message):
    file = tmp_path / name
    file.write_bytes(data)
    with pytest.raises(fx.FileFormatError, match=message) as caught:
        read_cifar(file, FOUR)
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)


def test_a_cifar_file_that_unpacks_to_much_is_not_unpacked(tmp_path, monkeypatch):
    unpacked = []

    class Watched:
        def __init__(self, *args, **options):
            self.decoder = decoder(*args, **options)

        def __getattr__(self, name):
            return getattr(self.decoder, name)

        def decompress(self, data, limit):
            unpacked.append(self.decoder.decompress(data, limit))
            return unpacked[-1]

    decoder = lzma.LZMADecompressor
    monkeypatch.setattr(lzma, "LZMADecompressor", Watched)
    bomb = tmp_path / "bomb.bin.xz"
    bomb.write_bytes(lzma.compress(bytes(20_000_000), preset=0))
    with pytest.raises(fx.FileFormatError, match="goes on after 4 records"):
        read_cifar(bomb, FOUR)
    assert sum(map(len, unpacked)) == 12293
    # A header that asks for a gigabyte of memory, which a decoder takes before it has seen anything.
    packed = bytearray(lzma.compress(BATCH, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20}]))
    assert packed[16] == 16  # the size of the dictionary, in the coding of xz; 36 is 1 GiB
    packed[16] = 36
    packed[20:24] = struct.pack("<I", zlib.crc32(packed[12:20]))
    bomb.write_bytes(packed)
    with pytest.raises(fx.FileFormatError, match=r"not a whole xz file .*[Mm]emory"):
        read_cifar(bomb, FOUR)


# The published archive


def archive(*members, mode="w:gz", **options):
    """A tar archive of (name, bytes) or of headers."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode, **options) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size, info.mtime = len(member[1]), 1.5  # half a second needs an extended header
                tar.addfile(info, io.BytesIO(member[1]))
    return stream.getvalue()


def special(name, kind, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_records_in_an_archive(tmp_path, mode, form):
    folder = special("cifar/", tarfile.DIRTYPE)
    file = tmp_path / "cifar.tar.gz"
    members = [folder, ("cifar/readme.html", b"<html>"), ("./cifar/b.bin", cifar(9)), ("cifar/a.bin", BATCH)]
    file.write_bytes(archive(*members, mode=mode, format=form))
    found = read_cifar_archive(file, {"cifar/a.bin": FOUR, "cifar/b.bin": FOUR})
    assert list(found) == ["cifar/a.bin", "cifar/b.bin"]
    for name, data in (("a", BATCH), ("b", cifar(9))):
        (tmp_path / name).write_bytes(data)
        for got, expected in zip(found[f"cifar/{name}.bin"], read_cifar(tmp_path / name, FOUR), strict=True):
            np.testing.assert_array_equal(got, expected)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "cifar.tar.gz"]


WHOLE = archive(("a.bin", BATCH))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (archive(("../a.bin", BATCH)), "at byte 1024 .*: expected paths inside of the archive, got '../a.bin'"),
        (archive(("/a.bin", BATCH)), "expected paths inside of the archive, got '/a.bin'"),
        (archive(("c:a.bin", BATCH)), "expected paths inside of the archive"),
        (archive(special("a.bin", tarfile.SYMTYPE, "/etc/passwd")), "at byte 0 .*files and folders, 'a.bin' is a link"),
        (archive(special("a.bin", tarfile.LNKTYPE, "b.bin")), "'a.bin' is a link"),
        (archive(special("a.bin", tarfile.CHRTYPE)), "'a.bin' is a device"),
        (archive(special("a.bin", tarfile.FIFOTYPE)), "'a.bin' is a device or another special file"),
        (archive(("b.bin", BATCH)), "expected a.bin in the archive, it ends without"),
        (archive(("a.bin", BATCH[:-1])), "expected 12292 bytes in a.bin, the archive has 12291"),
        (
            archive(("a.bin", cifar(labels=(3, 0, 10, 1)))),
            "at byte 7682 .*: expected a label 0 to 9, got 10 for image 2",
        ),
        (archive(("b.bin", bytes(2_000_000)), ("a.bin", BATCH)), "'b.bin' is 2000000 bytes long, the archive is too"),
        (archive(("x" * 101, BATCH), format=tarfile.GNU_FORMAT), "is a device or another special file"),
        (WHOLE[:-20], "not a whole gzip file"),
        (WHOLE[:-8] + bytes(8), "not a whole gzip file"),
        (gzip.compress(BATCH), "expected the header of a member of a tar archive"),
        (gzip.compress(b""), "the file ends where 512 more bytes should be"),
        (gzip.compress(bytes(1024)), "expected a.bin in the archive, it ends without"),
        (gzip.compress(gzip.decompress(WHOLE) + bytes(2_000_000)), "the archive is too large"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_archives_that_are_refused(tmp_path, monkeypatch, data, message):
    monkeypatch.setattr(cifar_files, "_LARGEST", 1_000_000)
    file = tmp_path / "cifar.tar.gz"
    file.write_bytes(data)
    with pytest.raises(fx.FileFormatError, match=message) as caught:
        read_cifar_archive(file, {"a.bin": FOUR})
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)
