"""Files of Keras' formats: read to Keras' numbers, written so that Keras reads them, and refused where damaged.

The files in `keras_files.zip` were written by Keras with `record_keras_files.py`.
"""

import io
import json
import os
import zipfile
from pathlib import Path

import h5py
import jax
import jax.numpy as jnp
import keras_file_models
import numpy as np
import pytest
from keras_file_models import MODELS, inputs

import fluxion as fx
from fluxion.dialects import keras

HERE = Path(__file__).parent
FORMATS = [(name, ending) for name in MODELS for ending in (".weights.h5", ".keras", ".h5")]
FORMATS = [case for case in FORMATS if case[0] != "subclassed" or case[1] == ".weights.h5"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keras")
    with zipfile.ZipFile(HERE / "keras_files.zip") as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def models():
    """Each model, built once; tests that load into it load everything."""
    return {name: make(keras) for name, make in MODELS.items()}


def outputs(model, name):
    return [np.asarray(out) for out in jax.tree.leaves(model(inputs(name)))]


def assert_outputs(model, name, files):
    with np.load(files / f"{name}.npz") as expected:
        for got, key in zip(outputs(model, name), expected, strict=True):
            np.testing.assert_allclose(got, expected[key], atol=1e-5)


@pytest.mark.parametrize(("name", "ending"), FORMATS)
def test_weights_of_keras_give_the_outputs_of_keras(files, models, name, ending):
    model = models[name]
    model.set_weights([np.full(w.shape, 0.3) for w in model.weights])
    model.load_weights(files / f"{name}{ending}")
    assert_outputs(model, name, files)


@pytest.mark.parametrize("name", ["functional", "sequential"])
def test_a_model_of_keras_is_read_without_its_program_and_written_again(files, tmp_path, name):
    model = keras.models.load_model(files / f"{name}.keras")
    assert_outputs(model, name, files)
    again = tmp_path / "again.keras"
    model.save(again)
    loaded = keras.models.load_model(again)
    assert_outputs(loaded, name, files)
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in model.layers]
    with pytest.raises(fx.StateError, match=r"again.keras exists"):
        model.save(again, overwrite=False)
    copy = keras.models.clone_model(model)
    assert [w.shape for w in copy.weights] == [w.shape for w in model.weights]
    assert not np.array_equal(copy.weights[0], model.weights[0])


def test_weights_written_are_read_into_another_model(models, tmp_path):
    for name, make in MODELS.items():
        path = tmp_path / f"{name}.weights.h5"
        models[name].save_weights(path)
        other = make(keras)
        other.load_weights(path)
        for a, b in zip(outputs(other, name), outputs(models[name], name), strict=True):
            np.testing.assert_array_equal(a, b)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{name}.weights.h5" for name in MODELS)


def unchanged(model, before):
    return all(np.array_equal(a, b) for a, b in zip(model.get_weights(), before, strict=True))


def refused(model, path, match, error=fx.FileFormatError):
    before = model.get_weights()
    with pytest.raises(error, match=match) as raised:
        model.load_weights(path)
    assert unchanged(model, before)
    return str(raised.value)


def test_what_does_not_fit_names_file_layer_expected_and_got(files, models, tmp_path):
    model = models["sequential"]
    text = refused(model, files / "functional.weights.h5", "functional.weights.h5 does not fit sequential")
    assert "layer conv2d (layers/conv2d): expected 2 arrays (kernel, bias), got 0" in text
    assert "layers/lstm" not in text.split(";")[0]
    path = tmp_path / "other.weights.h5"
    data = bytearray((files / "sequential.weights.h5").read_bytes())
    path.write_bytes(data)
    with h5py.File(path, "r+") as file:
        del file["layers/dense/vars/0"]
        file["layers/dense/vars/0"] = np.zeros((9, 2), "float32")
    refused(model, path, r"layer dense\w* \(layers/dense/vars\): kernel: expected shape \(8, 2\), got \(9, 2\)")
    with h5py.File(path, "r+") as file:
        del file["layers/dense/vars/0"]
        file["layers/dense_2/vars/0"] = np.zeros(3, "float32")
    refused(model, path, r"expected 2 arrays \(kernel, bias\), got 1.*layers/dense_2/vars has 1 arrays for which")
    with pytest.warns(UserWarning, match="left as they were"):
        model.load_weights(path, skip_mismatch=True)
    legacy = tmp_path / "old.h5"
    legacy.write_bytes((files / "sequential.h5").read_bytes())
    with h5py.File(legacy, "r+") as file:
        group = file["model_weights/dense"]
        group.attrs["weight_names"] = group.attrs["weight_names"][:1]
    refused(model, legacy, r"layer dense\w* \(dense\): expected 2 arrays \(kernel, bias\), got 1")


def test_damaged_files_leave_the_model_as_it_was(files, models, tmp_path):
    model = models["sequential"]
    for ending in (".weights.h5", ".h5", ".keras"):
        data = (files / f"sequential{ending}").read_bytes()
        for part in (0, 100, len(data) // 2, len(data) - 100):
            path = tmp_path / f"cut{ending}"
            path.write_bytes(data[:part])
            refused(model, path, "cut.*(cannot|damaged)")
    changed = bytearray((files / "sequential.keras").read_bytes())
    with zipfile.ZipFile(io.BytesIO(changed)) as archive:
        info = archive.getinfo("model.weights.h5")
    changed[info.header_offset + 2000] ^= 255
    (tmp_path / "bit.keras").write_bytes(changed)
    refused(model, tmp_path / "bit.keras", "model.weights.h5 is damaged")
    refused(model, tmp_path / "none.weights.h5", "no file", FileNotFoundError)
    refused(model, tmp_path / "weights.txt", r"expected a file \*.weights.h5", fx.ArgumentError)
    with pytest.raises(fx.StateError, match="not built yet"):
        keras.Sequential([keras.layers.Dense(2)]).load_weights(files / "sequential.weights.h5")


def test_links_and_data_elsewhere_are_refused(files, models, tmp_path):
    model = models["sequential"]
    secret = tmp_path / "secret.bin"
    secret.write_bytes(np.zeros(16, "float32").tobytes())
    path = tmp_path / "links.weights.h5"

    def written(make):
        path.write_bytes((files / "sequential.weights.h5").read_bytes())
        with h5py.File(path, "r+") as file:
            group = file["layers/dense/vars"]
            del group["0"]
            make(group)
        refused(model, path, r"got a link at|with its own data at")

    written(lambda group: group.__setitem__("0", h5py.SoftLink("/layers/dense_1/vars/0")))
    written(lambda group: group.__setitem__("0", h5py.ExternalLink(str(files / "sequential.weights.h5"), "/layers")))
    written(lambda group: group.create_dataset("0", (8, 2), "float32", external=[(str(secret), 0, 64)]))


def altered(files, tmp_path, change):
    """`sequential.keras` with another config."""
    with zipfile.ZipFile(files / "sequential.keras") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    change(config)
    parts["config.json"] = json.dumps(config).encode()
    path = tmp_path / "altered.keras"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return path


def set_layer(**changes):
    return lambda config: config["config"]["layers"][4].update(changes)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (set_layer(class_name="Dence"), "altered.keras: expected classes of the catalogue, got 'Dence'.*Did you mean"),
        (set_layer(class_name="Mine", module="my_program"), "got 'Mine' of my_program.*custom_objects={'Mine'"),
        (set_layer(config={"units": {"class_name": "__lambda__", "config": {"value": "abc"}}}), "expected no code"),
        (set_layer(config={"units": 10**12}), "expected a weight that the file has, got one of shape"),
        (set_layer(config={"units": 3}), "expected shape .8, 3., got .8, 2."),
        (set_layer(config={"unitz": 3}), "there is no argument 'unitz'|does not make one"),
        (lambda config: config.update(config=7), "expected its config|expected a config"),
        (lambda config: config["config"].pop("layers"), "expected a list of layers"),
        (lambda config: config.update(class_name="Dense"), "Dense"),
    ],
)
def test_configs_that_no_model_is_made_of(files, tmp_path, change, match):
    with pytest.raises(fx.FluxionError, match=match):
        keras.models.load_model(altered(files, tmp_path, change))


def test_deep_and_large_archives_are_refused(files, tmp_path):
    path = tmp_path / "bomb.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", b" " * 50_000_000)
    with pytest.raises(fx.FileFormatError, match=r"bomb.keras: config.json claims 50000000 bytes"):
        keras.models.load_model(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "[" * 100_000)
        archive.writestr("model.weights.h5", b"")
    with pytest.raises(fx.FileFormatError, match=r"config.json is damaged"):
        keras.models.load_model(path)
    deep = {"class_name": "Sequential", "module": "keras", "config": {"layers": []}}
    for _ in range(200):
        deep = {"class_name": "Sequential", "module": "keras", "config": {"layers": [deep]}}
    with pytest.raises(fx.FileFormatError, match="without end"):
        keras.models.model_from_json(json.dumps(deep))


def test_lambda_layers_are_refused(files, tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x + 1)])
    with pytest.raises(fx.StateError, match="lambda is a Lambda layer"):
        model.save(tmp_path / "model.keras")
    assert not os.listdir(tmp_path)
    path = altered(files, tmp_path, set_layer(class_name="Lambda", config={"name": "plus_one", "function": {}}))
    with pytest.raises(fx.FileFormatError, match=r"altered.keras: expected no code, got the Lambda layer 'plus_one'"):
        keras.models.load_model(path)


class Twice(keras.Layer):
    def __init__(self, factor=2, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def build(self, input_shape):
        self.scale = self.add_weight((input_shape[-1],), initializer="ones", name="scale")

    def call(self, inputs):
        return inputs * self.scale * self.factor


def test_classes_of_the_users(tmp_path):
    inputs = keras.Input((2,))
    model = keras.Model(inputs, Twice(3)(inputs))
    model.get_layer(index=1).scale.assign([1.0, 5.0])
    path = tmp_path / "model.keras"
    model.save(path)
    with pytest.raises(fx.FileFormatError, match=r"got 'Twice'.*custom_objects"):
        keras.models.load_model(path)
    loaded = keras.models.load_model(path, custom_objects={"Twice": Twice})
    assert loaded(jnp.ones((1, 2))).tolist() == [[3.0, 15.0]]
    keras.saving.register_keras_serializable("mine")(Twice)
    model.save(path)
    assert keras.models.load_model(path)(jnp.ones((1, 2))).tolist() == [[3.0, 15.0]]


def test_a_compiled_model_is_compiled_again(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, kernel_regularizer=keras.regularizers.L2(0.1))])
    schedule = keras.optimizers.schedules.ExponentialDecay(0.01, 100, 0.9)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(schedule), loss, metrics=["accuracy"])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x, y = np.random.RandomState(0).randn(8, 3).astype("float32"), np.arange(8) % 2
    assert loaded.evaluate(x, y, verbose=0) == pytest.approx(model.evaluate(x, y, verbose=0))
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    assert keras.models.load_model(tmp_path / "model.keras", compile=False).optimizer is None


@pytest.mark.keras
@pytest.mark.parametrize("name", list(MODELS))
def test_keras_reads_what_is_written_here(models, files, tmp_path, name):
    real = pytest.importorskip("keras")
    model = models[name]
    model.load_weights(files / f"{name}.weights.h5")
    model.save_weights(tmp_path / "ours.weights.h5")
    theirs = MODELS[name](real)
    theirs.load_weights(tmp_path / "ours.weights.h5")
    for a, b in zip(jax.tree.leaves(theirs(keras_file_models.inputs(name))), outputs(model, name), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    if name != "subclassed":
        model.save(tmp_path / "ours.keras")
        theirs = real.models.load_model(tmp_path / "ours.keras")
        for a, b in zip(jax.tree.leaves(theirs(keras_file_models.inputs(name))), outputs(model, name), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.keras
@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
def test_the_recorded_files_are_those_of_keras_as_it_is_now(models, tmp_path):
    real = pytest.importorskip("keras")
    for name, make in MODELS.items():
        theirs = make(real)
        random = np.random.RandomState(2)
        theirs.set_weights([random.uniform(0.1, 1, w.shape) for w in theirs.weights])
        path = tmp_path / f"{name}.weights.h5"
        theirs.save_weights(path)
        models[name].load_weights(path)
        for a, b in zip(jax.tree.leaves(theirs(inputs(name))), outputs(models[name], name), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)
        if name != "subclassed":
            theirs.save(tmp_path / f"{name}.keras")
            loaded = keras.models.load_model(tmp_path / f"{name}.keras")
            for a, b in zip(jax.tree.leaves(theirs(inputs(name))), outputs(loaded, name), strict=True):
                np.testing.assert_allclose(a, b, atol=1e-5)
