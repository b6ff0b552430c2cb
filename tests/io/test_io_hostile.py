"""Files that are damaged or made to do harm: an error that says what is wrong, never anything else."""

import json
import os
import tracemalloc

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fluxion as fx
from fluxion.io import read_metadata
from fluxion.io.tensors import open_tensors


def tensors(header, data=b"", *, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(begin=0, end=4, dtype="F32", shape=(1,)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The bytes of a small model, and where its header ends."""
    path = tmp_path_factory.mktemp("small") / "model"
    fx.save(path, fx.Chain(fx.Dense(2, 1, fx.relu), fx.Dropout(0.5)), metadata={"a": [1]})
    content = path.read_bytes()
    return content, 8 + int.from_bytes(content[:8], "little")


@pytest.fixture
def load(tmp_path):
    def load(content):
        path = tmp_path / "file"
        path.write_bytes(content)
        return fx.load(path)

    return load


# ------------------------------------------------------------------------------------------------ the container


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "an empty file"),
        (b"abc", "3 bytes that begin with b'abc'"),
        (b"\x80\x04\x95" + bytes(20), "a Python pickle, which is never read here because it can run code"),
        (b"PK\x03\x04" + bytes(20), "a zip archive"),
        (b"\x89PNG\r\n\x1a\n" + bytes(20), "a PNG image"),
        (b"\x89HDF\r\n\x1a\n" + bytes(20), "an HDF5 file"),
        (b"\x93NUMPY" + bytes(20), "a NumPy .npy array"),
        (b"<!DOCTYPE html><html>", "text or HTML"),
        (b'{"weight": [1, 2, 3]}', "text .JSON"),
        (b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer"),
        (bytes(1000), "1000 bytes that begin with"),
        (tensors({}, length=2**63), "it is truncated"),
        (tensors(b"{" + b" " * (2**24 + 1)), "a header of at most 16777216 bytes"),
        (tensors(b'{"a":' * 300_000), "expected JSON for the header, got brackets nested too deeply"),
        (tensors(b'{"a":[' + b"[]," * 600_000 + b"[]]}"), "at most 1000000 entries"),
        (tensors(b"{]      "), "expected JSON for the header"),
        (tensors(b'{"\xff":1}  '), "expected JSON for the header"),
        (tensors(b'{"a":' + b"9" * 5000 + b"}"), "expected JSON for the header"),
        (tensors(b'{"a":NaN}    '), "the number NaN"),
        (tensors(b'{"a":1,"a":1}'), "the name 'a' twice"),
        (tensors({"__metadata__": {"a": 1}}), "metadata of strings"),
        (tensors({"__metadata__": []}), "metadata of strings"),
        (tensors({"a": 1}), "dtype, shape and data_offsets of 'a'"),
        (tensors({"a": entry() | {"more": 1}}, bytes(4)), "dtype, shape and data_offsets of 'a'"),
        (tensors({"a": entry(dtype="F33")}, bytes(4)), "a dtype of 'a' among BOOL"),
        (tensors({"a": entry(dtype=["F32"])}, bytes(4)), "a dtype of 'a' among BOOL"),
        (tensors({"a": entry(shape=(-1,))}, bytes(4)), "a shape of 'a'"),
        (tensors({"a": entry(shape=(True,))}, bytes(4)), "a shape of 'a'"),
        (tensors({"a": entry(shape=(1.0,))}, bytes(4)), "a shape of 'a'"),
        (tensors({"a": entry(shape=(1,) * 65)}, bytes(4)), "a shape of 'a' of at most 64"),
        (tensors({"a": entry(0, 0, shape=(0, 2**62, 2**62))}), "that an array can have"),
        (tensors({"a": entry(0, 0, shape=(2**63,))}), "a shape of 'a'"),
        (tensors({"a": entry(4, 0)}, bytes(4)), "data_offsets of 'a'"),
        (tensors({"a": entry(0, 8)}, bytes(8)), r"4 bytes for 'a', F32\[1\], got 8"),
        (tensors({"a": entry(), "b": entry()}, bytes(4)), "'b' to begin at byte 4, got 0, which overlaps"),
        (tensors({"a": entry(0, 8, shape=(2,)), "b": entry(4, 8)}, bytes(8)), "which overlaps another array"),
        (tensors({"a": entry(), "b": entry(8, 12)}, bytes(12)), "which leaves a gap before it"),
        (tensors({"a": entry()}, bytes(3)), "4 bytes of arrays, got 3; the file is truncated"),
        (tensors({"a": entry()}, bytes(5)), "there is more behind the last array"),
        (tensors({"": entry()}, bytes(4)), "printable characters, got ''"),
        (tensors({"a\u0000": entry()}, bytes(4)), "printable characters"),
        (tensors({"\ud800": entry()}, bytes(4)), "printable characters"),
        (tensors({"a" * 5000: entry()}, bytes(4)), "printable characters"),
        (tensors({"__metadata__": {"fluxion": "{"}}), "expected JSON for the description"),
        (tensors({"__metadata__": {"fluxion": "[" * 100_000}}), "nested too deeply"),
        (tensors({"__metadata__": {"fluxion": "[]"}}), "expected a description by fx.save"),
        (tensors({"__metadata__": {"fluxion": '{"format": 2, "version": "9.1"}'}}), "written by Fluxion '9.1'"),
    ],
)
def test_damage_is_told(load, tmp_path, content, reason):
    with pytest.raises(fx.FileFormatError, match=reason) as error:
        load(content)
    assert str(tmp_path / "file") in str(error.value)
    with pytest.raises(fx.FileFormatError):
        fx.loadmodel(fx.Dense(1, 1), tmp_path / "file")
    with pytest.raises(fx.FileFormatError):
        read_metadata(tmp_path / "file")


def test_booleans_are_0_or_1(tmp_path):
    fx.save(tmp_path / "file", {"a": np.array([True, False])})
    content = (tmp_path / "file").read_bytes()
    (tmp_path / "file").write_bytes(content[:-1] + b"\x02")
    with pytest.raises(fx.FileFormatError, match="booleans 0 and 1 in 'a', got the byte 2"):
        fx.load(tmp_path / "file")


def test_a_file_cut_while_it_is_read(tmp_path):
    fx.save(tmp_path / "file", {"a": np.ones(1000)})
    with open_tensors(tmp_path / "file") as stored:
        os.truncate(tmp_path / "file", 1000)
        with pytest.raises(fx.FileFormatError, match="cut while it was read"):
            np.asarray(stored.arrays["a"])


def test_no_regular_file(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("there are no pipes in the folders of this system")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(fx.FileFormatError, match="something that is no regular file"):
            fx.load(path)


def test_truncated_at_every_byte(small, load):
    content, _ = small
    for end in range(len(content)):
        with pytest.raises(fx.FileFormatError):
            load(content[:end])


def test_every_bit_of_the_header(small, load):
    content, header = small
    for place in range(header):
        mutated = bytearray(content)
        mutated[place] ^= 1 << place % 7
        try:
            model = load(mutated)
        except (fx.FileFormatError, fx.StateError):
            continue
        assert sorted(a.shape for a in fx.state(model).values()) == [(1,), (2, 1)]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_random_bytes(small, tmp_path_factory, data):
    content, header = small
    path = tmp_path_factory.getbasetemp() / "mutated"
    mutated = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.one_of(st.integers(0, header - 1), st.integers(0, len(content) - 1)))
        mutated[place] = data.draw(st.one_of(st.integers(0, 255), st.sampled_from(b'0123456789"{}[],')))
    path.write_bytes(mutated)
    model = fx.Chain(fx.Dense(2, 1), fx.Dropout(0.5))
    for read in (fx.load, lambda path: fx.loadmodel(model, path), read_metadata):
        try:
            result = read(path)
        except (fx.FileFormatError, fx.StateError) as error:
            assert str(error)
        else:
            if read is fx.load and not isinstance(result, dict):
                assert sorted(a.shape for a in fx.state(result).values()) == [(1,), (2, 1)]


# ---------------------------------------------------------------------------------------------- the description


@pytest.fixture
def crafted(tmp_path):
    """Load a file whose architecture, ties and arrays are given."""

    def load(layers, arrays=None, model=None, **fields):
        described = {
            "format": 1,
            "version": "0",
            "kind": "model",
            "reason": None,
            "keys": {},
            "ties": {},
            "metadata": {},
        }
        model = {"layer": len(layers) - 1} if model is None else model
        described |= {"architecture": {"model": model, "layers": layers}} | fields
        header, data, end = {"__metadata__": {"fluxion": json.dumps(described)}}, b"", 0
        for name, array in (arrays or {}).items():
            header[name] = entry(end, end + array.nbytes, "F32", array.shape)
            data, end = data + array.tobytes(), end + array.nbytes
        path = tmp_path / "file"
        path.write_bytes(tensors(header, data))
        return fx.load(path)

    return load


def row(layer, **arguments):
    return {"layer": layer, "arguments": arguments}


def dense(*sizes, **more):
    return row("Dense", in_features=sizes[0], out_features=sizes[1], **more)


def init(name, **options):
    return {"initializer": name, "options": options}


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        ([dense(10**9, 10**9)], "expected an array for weight, got none"),
        ([dense(10**9, 10**9, init={"function": "identity_init"})], "expected an array for weight"),
        ([dense(10**9, 1, init=init("sparse_init", sparsity=0.5))], "expected an array for weight"),
        ([dense(10**20, 1)], r"a number below 2\*\*63"),
        ([dense(2**62, 2**62)], "layers.0. Dense cannot be made|an array for weight"),
        ([dense(-1, 2)], "cannot be made: Dense: expected a positive whole number"),
        ([dense("a", {"tuple": []})], "cannot be made"),
        ([dense(None, 2)], "layers with all their sizes, got one without"),
        ([dense(1, 1, wieght=3)], r"arguments of Dense at layers\[0\], got 'wieght'"),
        ([dense(1, 1, bais=3)], r"got 'bais'. Did you mean 'bias'\?"),
        ([dense(1, 1, activation={"function": "os.system"})], "a layer or function of Fluxion at .*got 'os.system'"),
        ([dense(1, 1, activation={"function": "rleu"})], r"got 'rleu'. Did you mean 'relu'\?"),
        ([dense(1, 1, activation={"function": "builtins.eval"})], "got 'builtins.eval'"),
        ([dense(1, 1, activation={"function": "__import__"})], "got '__import__'"),
        ([dense(1, 1, activation={"function": ["relu"]})], "expected a str"),
        ([dense(1, 1, activation={"call": "relu"})], "expected one of layer, tuple"),
        ([dense(1, 1, activation={"function": "relu", "x": 1})], "expected function at"),
        ([dense(1, 1, activation={"partial": "glorot_uniform", "arguments": [], "options": {}})], "for partial"),
        ([dense(1, 1, init={"function": "operator.add"})], "expected an initializer for"),
        ([dense(1, 1, init=init("relu"))], "a function for initializer"),
        ([dense(1, 1, init=init("glorot_uniform", gian=1.0))], "glorot_uniform cannot be made"),
        ([dense(1, 1, activation={"array": "float32", "shape": [10**9, 10**9]})], "cannot be made|expected an array"),
        ([dense(1, 1, activation={"array": "U8", "shape": [1]})], "a dtype at"),
        ([row("Dropout", p={"number": "1e5"}, axis=None)], "expected inf or nan"),
        ([row("Os", a=1)], "a layer or function of Fluxion at .*got 'Os'"),
        ([row("Layer")], "got 'Layer'"),
        ([{"layer": "Dense"}], "expected arguments, layer at"),
        (["Dense"], "expected arguments, layer at"),
        ([row("Chain", layers={"tuple": [{"layer": 0}]}, named={"dict": {}})], "one of the 0 layers before it"),
        ([row("Chain", layers={"tuple": [{"layer": -1}]}, named={"dict": {}})], "number -1"),
        ([row("Chain", layers={"tuple": [{"layer": True}]}, named={"dict": {}})], "expected a int"),
        ([row("Chain", layers=[{"function": "relu"}], named={"dict": {}})], "expected a tuple"),
        ([row("Chain", layers={"tuple": []}, named=None)], "expected a dict"),
        (
            [row("Chain", layers={"tuple": [3]}, named={"dict": {}})],
            "cannot be made: Chain: expected something to call",
        ),
        ([row("Dropout", p=0.5, axis=None) | {"training": "yes"}], "expected a bool"),
        ([row("Dropout", p=2.0, axis=None)], "cannot be made: Dropout: expected a probability"),
    ],
)
def test_a_hostile_architecture(crafted, layers, reason):
    with pytest.raises((fx.FileFormatError, fx.StateError), match=reason) as error:
        crafted(layers)
    assert "file" in str(error.value)


def nested(depth, item):
    for _ in range(depth):
        item = {"tuple": [item]}
    return item


def chains(count, width):
    """Chains within chains: each holds the one before `width` times."""
    rows = [row("Chain", layers={"tuple": [{"function": "relu"}]}, named={"dict": {}})]
    for i in range(count):
        rows.append(row("Chain", layers={"tuple": [{"layer": i}] * width}, named={"dict": {}}))
    return rows


def test_limits(crafted):
    assert len(crafted(chains(90, 1))) == 1
    for layers, reason in [
        (chains(110, 1), "at most 100 layers within each other"),
        (chains(60, 2), "200000 in all, got more"),
        ([row("Chain", layers=nested(30, 1), named={"dict": {}})], "at most 20 values within each other"),
        ([row("Dropout", p=0.5)] * 100_001, "at most 100000 layers|of at most 1000000 entries"),
    ]:
        with pytest.raises(fx.FileFormatError, match=reason):
            crafted(layers)


def test_draws_without_end(crafted):
    """A constructor that would make arrays forever is stopped: a file cannot ask for more than it holds."""
    from fluxion.io.catalogue import catalogue

    class Many(fx.Layer):
        def __init__(self, num_layers):
            self.layers = [fx.Dense(1, 1) for _ in range(num_layers)]

    catalogue().layers["Many"] = Many
    try:
        with pytest.raises(fx.FileFormatError, match="a model of 0 arrays, got one that draws many more"):
            crafted([row("Many", num_layers=10**12)])
    finally:
        del catalogue().layers["Many"]


def test_arrays_that_do_not_fit(crafted):
    one = np.ones((1, 1), np.float32)
    good = {"weight": one, "bias": one[0]}
    assert crafted([dense(1, 1)], good).weight == 1
    for arrays, fields, reason in [
        ({"weight": one}, {}, "expected an array for bias, got none"),
        (good | {"more": one}, {}, "also 'more'"),
        (good | {"bias": one}, {}, r"expected shape \(1,\) for bias, got \(1, 1\)"),
        ({"weight": one}, {"ties": {"bias": "weight"}}, r"expected shape \(1,\) for bias, got \(1, 1\)"),
        (good, {"ties": {"a": "none"}}, "a description by fx.save"),
        (good, {"ties": {"weight": "bias"}}, "a description by fx.save"),
        (good, {"keys": {"weight": "threefry2x32"}}, "expected a random key of one of threefry2x32"),
        (good, {"keys": {"weight": 5}}, "expected a random key"),
        (good, {"kind": "pickle"}, "a description by fx.save"),
        (good, {"metadata": []}, "a description by fx.save"),
        (good, {"architecture": []}, "expected layers, model at the architecture"),
        (good, {"architecture": {"model": {"layer": 0}, "layers": {}}}, "expected a list at layers"),
    ]:
        with pytest.raises(fx.FileFormatError, match=reason):
            crafted([dense(1, 1)], arrays, **fields)


def test_nothing_large_is_allocated(crafted):
    tracemalloc.start()
    try:
        for layers in ([dense(10**9, 10**9)], [dense(10**5, 10**5, init={"function": "identity_init"})]):
            with pytest.raises(fx.FileFormatError):
                crafted(layers)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


def test_a_shape_is_compared_before_it_is_read(tmp_path):
    """A sparse file of 64 GiB whose header is honest, offered to a small model."""
    path = tmp_path / "file"
    size = 2**36
    path.write_bytes(tensors({"weight": entry(0, size, "U8", (2**36,))}))
    os.truncate(path, os.path.getsize(path) + size)
    with pytest.raises(fx.StateError, match=r"weight: expected shape \(2, 2\), got \(68719476736,\)"):
        fx.loadmodel(fx.Dense(2, 2, bias=False), path)
    assert fx.loadmodel({"other": jnp.ones(2)}, path, strict=False)["other"].sum() == 2
