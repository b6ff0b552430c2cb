"""Files that were changed at random: every reader gives an array, or an error of its own, and takes no more memory than
the bytes of the file can unpack to.
"""

import gzip
import io
import lzma
import struct
import tarfile
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fluxion as fx
from fluxion.data.cifar import Records, read_cifar, read_cifar_archive
from fluxion.data.idx import read_idx
from fluxion.data.pixels import read_pixel_bytes

TWO = Records(2, (20, 100))
RECORDS = bytes(2 * (2 + 3072))


def saved(save, *args, **arrays):
    stream = io.BytesIO()
    save(stream, *args, **arrays)
    return stream.getvalue()


def tar():
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as file:
        for name in ("b.bin", "a.bin"):
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(RECORDS), 0.5
            file.addfile(info, io.BytesIO(RECORDS))
    return stream.getvalue()


IDX = b"\0\0\x0b\x02" + struct.pack(">2I", 3, 4) + bytes(24)
CSV = b"label,1x1,1x2,2x1,2x2\n" + b"7,0,255,1,20\n" * 20
READERS = {
    "idx": (read_idx, [IDX, gzip.compress(IDX), lzma.compress(IDX)]),
    "cifar": (lambda file: read_cifar(file, TWO), [RECORDS, gzip.compress(RECORDS), lzma.compress(RECORDS)]),
    "tar": (lambda file: read_cifar_archive(file, {"a.bin": TWO}), [tar(), gzip.compress(tar())]),
    "arrays": (
        fx.read_arrays,
        [
            IDX,
            saved(np.save, np.arange(10.0)),
            saved(np.save, np.array(["ab", "c"])),
            saved(np.savez, a=np.arange(5), b=np.ones((2, 3), np.float32)),
            saved(np.savez_compressed, a=np.arange(50), b=np.zeros(1000)),
        ],
    ),
    "lines": (fx.read_lines, ["zwei Wörter\nund noch\r\n".encode() * 5, gzip.compress(b"word\n" * 20)]),
    "pixels": (read_pixel_bytes, [CSV, CSV[22:], gzip.compress(CSV)]),
}


@st.composite
def changed(draw, originals):
    """One of the files with some bytes set, cut out, doubled or put in; packed ones may be packed anew afterwards."""
    data = draw(st.sampled_from(originals))
    repack = data[:2] == b"\x1f\x8b" and draw(st.booleans())
    data = bytearray(gzip.decompress(data) if repack else data)
    for _ in range(draw(st.integers(1, 4))):
        # Headers are at the beginning, and those of a zip archive at the end.
        where = draw(st.one_of(st.integers(0, min(len(data), 80)), st.integers(0, len(data))))
        if draw(st.booleans()):
            where = max(0, len(data) - where)
        kind = draw(st.sampled_from(["set", "set", "number", "cut", "end", "double", "insert"]))
        if kind == "set":
            data[where : where + 1] = draw(st.sampled_from([b"\0", b"\xff", b"\x80", b"9", b"(", b"O", b"-", b","]))
        elif kind == "number":
            value = draw(st.sampled_from([0, 1, 2**15, 2**31 - 1, 2**31, 2**32 - 1]))
            data[where : where + 4] = struct.pack(draw(st.sampled_from("<>")) + "I", value)
        elif kind == "cut":
            del data[where : where + draw(st.integers(1, 40))]
        elif kind == "end":
            del data[where:]
        elif kind == "double":
            data[where:where] = data[where : where + draw(st.integers(1, 600))]
        else:
            data[where:where] = draw(st.binary(min_size=1, max_size=8))
    return gzip.compress(bytes(data)) if repack else bytes(data)


def read(reader, file, data):
    file.write_bytes(data)
    tracemalloc.start()
    try:
        reader(file)
    except fx.DataError as error:
        assert str(file) in str(error) and "\n" not in str(error) and len(str(error)) < len(str(file)) + 500
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    # What a byte can unpack to: of xz, whose decoder also has a dictionary, and of the method of gzip and zip.
    ratio, fixed = (10_000, 140 << 20) if data[:6] == b"\xfd7zXZ\0" else (1032, 8 << 20)
    assert peak < fixed + 2 * ratio * len(data)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "file"


@pytest.mark.parametrize("name", READERS)
def test_changed_files(file, name):
    reader, originals = READERS[name]
    for data in originals:
        reader_works(reader, file, data)

    @settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(changed(originals))
    def run(data):
        read(reader, file, data)

    run()


def reader_works(reader, file, data):
    file.write_bytes(data)
    reader(file)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_many_changed_files(file, name):
    reader, originals = READERS[name]

    @settings(max_examples=3000, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(changed(originals))
    def run(data):
        read(reader, file, data)

    run()
