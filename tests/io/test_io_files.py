"""`save`, `load`, `loadmodel`: what goes in comes out, bit for bit, and other libraries read it."""

import errno
import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx
from fluxion.io import read_metadata
from fluxion.io.tensors import DTYPES, open_tensors
from fluxion.tree.model import aliases


def same(a, b):
    a, b = fx.state(a), fx.state(b)
    assert list(a) == list(b)
    for name in a:
        assert a[name].dtype == b[name].dtype
        assert np.asarray(a[name]).tobytes() == np.asarray(b[name]).tobytes(), name


def model():
    return fx.Chain(fx.Dense(3, 4, fx.relu), fx.BatchNorm(4), fx.Dropout(0.5), fx.Dense(4, 2, bias=False))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def all_dtypes():
    """An array of every dtype that a file can hold, 0-d and empty ones, and one that is not contiguous."""
    arrays = {dtype.name: np.arange(6).reshape(2, 3).astype(dtype) for dtype in DTYPES.values()}
    return arrays | {
        "scalar": np.array(2.5, np.float32),
        "empty": np.zeros((0, 3), np.float16),
        "transposed": np.arange(6, dtype=np.int16).reshape(2, 3).T,
        "big endian": np.arange(3, dtype=">f4"),
        "größe": np.array([np.nan, np.inf, -0.0], np.float32),
    }


# ------------------------------------------------------------------------------------------------- round trip


def test_a_model_comes_back(path):
    m = model()
    m[1].mean = jnp.array([1.0, 2.0, 3.0, 4.0])
    fx.save(path, m)
    again = fx.load(path)
    same(m, again)
    assert repr(m) == repr(again) and str(m) == str(again)
    x = fx.randn(5, 3)
    assert (m(x) == again(x)).all()
    fx.trainstep(lambda m, x: (m(x) ** 2).mean(), again, (x,), fx.setup(fx.Descent(0.1), again))
    assert (again[0].weight != m[0].weight).any()  # and is a model like any other


def test_every_dtype_in_a_state(path, x64):
    fx.save(path, all_dtypes())
    again = fx.load(path)
    assert list(again) == list(all_dtypes())
    for name, array in all_dtypes().items():
        assert again[name].shape == array.shape
        assert again[name].dtype == array.dtype.newbyteorder("=")
        assert np.asarray(again[name]).tobytes() == array.astype(array.dtype.newbyteorder("=")).tobytes()


def test_the_safetensors_library_reads_it(path):
    library = pytest.importorskip("safetensors.numpy")
    arrays = {name: array for name, array in all_dtypes().items() if not name.startswith("float8")}
    fx.save(path, arrays, metadata={"a": 1})
    again = library.load_file(path)
    assert again.keys() == arrays.keys()
    for name, array in arrays.items():
        assert again[name].shape == array.shape and again[name].dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(again[name], array)
    for array in open_header(path).values():  # aligned, for readers that map the file
        assert array.begin % array.dtype.itemsize == 0


def open_header(path):
    with open_tensors(path) as stored:
        return stored.arrays


def test_torch_reads_it_and_writes_for_it(path):
    torch = pytest.importorskip("torch", reason="torch is the outside reference")
    library = pytest.importorskip("safetensors.torch")
    m = fx.bf16(fx.Dense(3, 2))
    fx.save(path, m)
    tensors = library.load_file(path)
    assert tensors["weight"].dtype == torch.bfloat16
    np.testing.assert_array_equal(tensors["weight"].float().numpy(), np.asarray(m.weight, np.float32))

    tensors = {"weight": torch.randn(3, 2), "bias": torch.randn(2)}
    library.save_file(tensors, path)
    other = fx.Dense(3, 2)
    assert fx.loadmodel(other, path) is other
    np.testing.assert_array_equal(other.weight, tensors["weight"].numpy())
    with pytest.raises(
        fx.StateError, match=r"holds 2 arrays and no architecture\. Build the model and call fx.loadmodel"
    ):
        fx.load(path)
    library.save_file(tensors, path, {"format": "pt"})
    assert read_metadata(path) == {"format": "pt"}


@pytest.mark.parametrize("cast", [fx.f16, fx.bf16])
def test_half_precision_stays(path, cast):
    m = cast(model())
    fx.save(path, m)
    same(m, fx.load(path))


def test_float64(path, x64):
    m = fx.f64(model())
    fx.save(path, m)
    same(m, fx.load(path))
    jax.config.update("jax_enable_x64", False)
    with pytest.raises(fx.StateError, match=r"layers\[0\].weight is float64, and JAX computes in 32 bits"):
        fx.load(path)
    assert fx.loadmodel(model(), path)[0].weight.dtype == np.float32


def test_named_layers_modes_and_containers(path):
    m = fx.Chain(first=fx.Dense(2, 3), then=fx.testmode(fx.BatchNorm(3)), drop=fx.trainmode(fx.Dropout(0.5)))
    fx.save(path, m)
    again = fx.load(path)
    same(m, again)
    assert repr(m) == repr(again) and list(again.layers) == ["first", "then", "drop"]
    assert (again["then"].training, again["drop"].training, again["first"]) == (False, True, again[0])
    for pair in ({"a": fx.Dense(2, 2), "b": (fx.Dense(2, 2), [fx.relu])}, (fx.Dense(2, 2), fx.tanh), fx.relu):
        fx.save(path, pair)
        assert repr(fx.load(path)) == repr(pair)


def test_sizes_that_were_inferred(path):
    m = fx.autosize(fx.Chain(fx.Dense(None, 4), fx.Dense(None, 2)), (None, 3))
    fx.save(path, m)
    same(m, fx.load(path))
    with pytest.raises(fx.StateError, match="no input size yet"):
        fx.save(path, fx.Dense(None, 4))


def test_random_keys(path):
    m = fx.Chain(fx.Dense(2, 2))
    m.key = jax.random.key(7)
    fx.save(path, m)
    assert aliases(m) == {}
    other = fx.Chain(fx.Dense(2, 2))
    other.key = jax.random.key(1)
    fx.loadmodel(other, path)
    assert jax.random.uniform(other.key) == jax.random.uniform(m.key)
    fx.save(path, {"key": m.key, "many": jax.random.split(m.key, 3)})
    assert jax.random.uniform(fx.load(path)["key"]) == jax.random.uniform(m.key)
    other.key = jnp.zeros(())
    with pytest.raises(fx.StateError, match=r"key: expected float32, got key<fry>"):
        fx.loadmodel(other, m)


# -------------------------------------------------------------------------------------------------- sharing


def test_shared_layers_stay_shared(path):
    shared = fx.Dense(3, 3)
    m = fx.Chain(shared, fx.tanh, shared, fx.Parallel(jnp.add, shared, fx.Dense(3, 3)))
    fx.save(path, m)
    other = "layers[3].layers[1]"
    assert list(open_header(path)) == ["layers[0].weight", "layers[0].bias", f"{other}.weight", f"{other}.bias"]
    again = fx.load(path)
    assert again[0] is again[2] is again[3][0] is not again[3][1]
    same(m, again)


def test_tied_arrays_stay_tied(path):
    m = fx.Chain(fx.Dense(3, 3), fx.Dense(3, 3))
    m[1].weight = m[0].weight
    fx.save(path, m)
    assert list(open_header(path)) == ["layers[0].weight", "layers[0].bias", "layers[1].bias"]
    again = fx.load(path)
    assert again[0].weight is again[1].weight and again[0].bias is not again[1].bias
    same(m, again)

    untied = fx.Chain(fx.Dense(3, 3), fx.Dense(3, 3))
    fx.loadmodel(untied, path)
    assert untied[0].weight is not untied[1].weight
    assert (untied[0].weight == untied[1].weight).all()
    fx.loadmodel(untied, m)
    fx.loadmodel(m, untied)  # the values are equal
    assert m[0].weight is m[1].weight

    untied[1].weight = untied[1].weight + 1
    before = fx.state(m)
    with pytest.raises(fx.StateError, match=r"layers\[0\].weight and layers\[1\].weight are one array in this model"):
        fx.loadmodel(m, untied)
    assert all(array is before[name] for name, array in fx.state(m).items())
    given = {"layers[1].weight": jnp.ones((3, 3)), "layers[0].bias": jnp.ones(3), "layers[1].bias": jnp.ones(3)}
    assert fx.loadmodel(m, given)[0].weight.sum() == 9  # by the other path alone


def test_sharing_within_sharing_ends():
    m = fx.Dense(1, 1)
    for _ in range(60):  # 2 ** 60 paths
        m = fx.Chain(m, m)
    assert len(aliases(m)) > 0


# ------------------------------------------------------------------------------------------- parts of one's own


class Residual(fx.Layer):
    def __init__(self, width):
        self.inner = fx.Dense(width, width)

    def __call__(self, x):
        return x + self.inner(x)


def closure():
    w, b = fx.randn(3), fx.Param(fx.randn(()))
    return lambda x: jnp.tanh(w * x + b)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Residual(2), "model is of a class of yours, Residual"),
        (lambda: fx.Chain(fx.Dense(1, 1), Residual(2)), r"model.layers\[1\] is of a class of yours, Residual"),
        (
            lambda: fx.Chain(fx.Dense(2, 2, lambda x: x)),
            r"model.layers\[0\].activation is a function of yours, <lambda>",
        ),
        (closure, "model is a function of yours, <lambda>"),
        (lambda: [fx.Param(fx.randn(2))], r"model\[0\] is of a class of yours or of another library, Param"),
    ],
)
def test_what_is_not_the_librarys_own(path, make, reason):
    m, other = make(), make()
    fx.save(path, m, metadata={"note": "mine"})
    with pytest.raises(fx.StateError, match=reason + ".*Build the model and call fx.loadmodel"):
        fx.load(path)
    assert read_metadata(path) == {"note": "mine"}
    fx.loadmodel(other, path)
    same(m, other)


def test_an_array_that_no_constructor_makes(path):
    m = fx.Dense(2, 2)
    m.extra = jnp.ones(2)
    fx.save(path, m)
    with pytest.raises(fx.StateError, match=r"its layers are not as their constructors make them \(.*also 'extra'"):
        fx.load(path)
    m = fx.Dense(2, 2)
    m.weight = m.weight.astype(jnp.int8)  # quantized
    fx.save(path, m)
    with pytest.raises(fx.StateError, match="expected a dtype like float32 for weight, got int8"):
        fx.load(path)


# ----------------------------------------------------------------------------------------------------- loadmodel


def test_sources(path):
    m, source = model(), model()
    same(fx.loadmodel(m, source), source)
    m, state = model(), fx.state(source)
    same(fx.loadmodel(m, state), source)
    assert all(array is not state[name] for name, array in fx.state(m).items())  # donation would take them away
    fx.save(path, state)
    same(fx.loadmodel(model(), path), source)
    same(fx.loadmodel(model(), str(path)), source)
    arrays = {"w": jnp.ones(2), "b": jnp.zeros(())}
    fx.save(path, {"w": jnp.zeros(2), "b": jnp.ones(())})
    assert fx.loadmodel(arrays, path) is arrays
    assert arrays["w"].sum() == 0 and arrays["b"] == 1
    arrays = {"w": np.ones(2), "b": np.zeros(())}  # numpy stays numpy, and float64
    fx.loadmodel(arrays, path)
    assert type(arrays["w"]) is np.ndarray and arrays["w"].dtype == np.float64


def test_names_that_do_not_fit(path):
    m = model()
    before = fx.state(m)
    given = dict(fx.state(model()))
    given["layers[0].wieght"] = given.pop("layers[0].weight")
    given["layers[1].mean"] = jnp.zeros(5)
    with pytest.raises(fx.StateError) as error:
        fx.loadmodel(m, given)
    assert str(error.value) == (
        "loadmodel: the arrays do not fit the model. Missing: layers[0].weight. Unexpected: layers[0].wieght (did you "
        "mean 'layers[0].weight'?). Not fitting: layers[1].mean: expected shape (4,), got (5,)."
    )
    with pytest.raises(fx.StateError, match="Not fitting"):  # a shape is an error, strict or not
        fx.loadmodel(m, given, strict=False)
    assert all(array is before[name] for name, array in fx.state(m).items())
    del given["layers[1].mean"]
    given["layers[0].bias"] = jnp.full(4, 3.0)
    fx.loadmodel(m, given, strict=False)
    assert (m[0].bias == 3).all() and m[0].weight is before["layers[0].weight"]
    with pytest.raises(fx.StateError, match=r"Missing: a0, .*a9 and 20 more"):
        fx.loadmodel(_many(), {})


def _many():
    layer = fx.Dense(1, 1, bias=False)
    del layer.weight
    for i in range(30):
        setattr(layer, f"a{i}", jnp.ones(1))
    return layer


class Foreign:
    """Like an array of another library."""

    shape, dtype = (1, 1), "foreign.float32"


def test_dtypes_that_lose_nothing():
    m = {"f": jnp.zeros(2), "h": jnp.zeros(2, jnp.float16), "i": jnp.zeros(2, jnp.int8), "c": jnp.zeros(2, complex)}

    def given(**arrays):
        return fx.loadmodel(dict(m), arrays, strict=False)

    assert given(f=np.array([1.0, 2.0]))["f"].dtype == np.float32
    assert given(f=np.array([1, 2]))["f"].tolist() == [1, 2]
    assert given(c=np.array([True, False]))["c"].dtype == np.complex64
    assert given(i=np.array([1, -128]))["i"].dtype == np.int8
    assert np.isinf(given(h=np.array([np.inf, 1.0]))["h"][0])
    with pytest.raises(fx.StateError, match=r"'i'.: expected int8, got float32, which it cannot hold"):
        given(i=jnp.ones(2))
    with pytest.raises(fx.StateError, match=r"'f'.: expected float32, got complex64"):
        given(f=jnp.ones(2, complex))
    with pytest.raises(fx.StateError, match=r"'i'.: expected numbers that int8 can hold, got 128"):
        given(i=np.array([1, 128]))
    with pytest.raises(fx.StateError, match=r"'h'.: expected numbers that float16 can hold, got 100000"):
        given(h=np.array([1.0, 1e5]))
    with pytest.raises(fx.StateError, match="expected a jax or numpy array, got Foreign"):
        fx.loadmodel(fx.Dense(1, 1), {"weight": Foreign(), "bias": jnp.ones(1)})


def test_the_place_stays():
    first, second = jax.devices()[:2]
    m = fx.device(fx.Dense(2, 2), second)
    fx.loadmodel(m, fx.device(fx.Dense(2, 2), first))
    assert m.weight.devices() == {second}


def test_a_closure_takes_the_arrays():
    f, g = closure(), closure()
    fx.loadmodel(f, g)
    assert (f(jnp.ones(3)) == g(jnp.ones(3))).all()


def test_all_or_none_where_a_part_cannot_be_written():
    m = (fx.Dense(2, 2), jnp.ones(2))  # the tuple itself would have to be another
    before = fx.state(m)
    with pytest.raises(fx.StateError, match="expected a model whose arrays can be replaced in place"):
        fx.loadmodel(m, (fx.Dense(2, 2), jnp.zeros(2)))
    assert all(array is before[name] for name, array in fx.state(m).items())


# --------------------------------------------------------------------------------------------- metadata, failures


def test_metadata(path):
    metadata = {"encoder": {"columns": ["a", "ä\n"], "mean": 0.1, "none": None, "yes": True}, "n": [1, (2, 3)]}
    fx.save(path, fx.Dense(1, 1), metadata=metadata)
    assert read_metadata(path) == json.loads(json.dumps(metadata))
    fx.save(path, fx.Dense(1, 1))
    assert read_metadata(path) == {}
    for bad in ({"a": np.ones(2)}, {1: 2}, {"a": float("nan")}, {"a": {"b": [object()]}}, [1], {"a": 2**70}):
        with pytest.raises(fx.ArgumentError, match="save: expected JSON at metadata"):
            fx.save(path, fx.Dense(1, 1), metadata=bad)
    with pytest.raises(fx.ArgumentError, match="names and metadata of at most 16777216 bytes"):
        fx.save(path, fx.Dense(1, 1), metadata={"a": "x" * 2**24})
    assert read_metadata(path) == {}  # the old file


def test_what_cannot_be_saved(path):
    with pytest.raises(fx.DTypeError, match=r"a: expected a dtype that safetensors has .*got complex128"):
        fx.save(path, {"a": np.ones(2, complex)})
    for name in ("", "a\nb", "__metadata__"):
        with pytest.raises(fx.ArgumentError, match="printable characters"):
            fx.save(path, {name: np.ones(2)})
    with pytest.raises(fx.StateError, match="expected arrays with values"):
        fx.save(path, {"a": jax.ShapeDtypeStruct((2,), np.float32)})
    with pytest.raises(fx.StateError, match="Save outside of jit and gradient"):
        jax.jit(lambda x: fx.save(path, {"a": x}))(jnp.ones(2))
    with pytest.raises(FileNotFoundError, match="existing folder"):
        fx.save(path.parent / "none" / "model", fx.Dense(1, 1))
    assert os.listdir(path.parent) == []


class FullDisk:
    """An array that cannot be written: its values come only when all before it is on the disk."""

    dtype, shape = np.dtype(np.float32), (2,)

    def __init__(self, error):
        self.error = error

    def __array__(self, dtype=None, copy=None):
        raise self.error


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_file(path, error, monkeypatch):
    m = model()
    fx.save(path, m)
    import fluxion.io.files as files

    write = files.write_tensors
    monkeypatch.setattr(files, "write_tensors", lambda file, a, m: write(file, {**a, "z": FullDisk(error)}, m))
    with pytest.raises(type(error)):
        fx.save(path, model())
    assert os.listdir(path.parent) == [path.name]
    same(fx.load(path), m)


def test_missing_and_folder(tmp_path):
    for read in (fx.load, read_metadata, lambda path: fx.loadmodel(fx.Dense(1, 1), path)):
        with pytest.raises(FileNotFoundError, match=r"none\.safetensors"):
            read(tmp_path / "none.safetensors")
        with pytest.raises(fx.FileFormatError, match="expected a safetensors file, got a folder"):
            read(tmp_path)
