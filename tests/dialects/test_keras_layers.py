"""Every layer of the catalogue against Keras' own: weights, numbers, gradients, configs, shapes.

By default against the numbers in `keras_layers.npz`, which `record_keras_layers.py` wrote; with Keras installed (marker
`keras`) also against numbers that it writes now.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from keras_layer_cases import CASES, argument_of, data_of, plain, shapes_of, weights_of

import fluxion as fx
from fluxion.dialects import keras
from fluxion.dialects.keras.layer import call_spec

HERE = Path(__file__).parent
SOURCES = ["recorded", pytest.param("keras", marks=pytest.mark.keras)]


@pytest.fixture(params=SOURCES)
def theirs(request, tmp_path):
    """The numbers of Keras: from the file, or as it computes them now."""
    path = HERE / "keras_layers.npz"
    if request.param == "keras":
        pytest.importorskip("keras")
        path = tmp_path / "layers.npz"
        environment = os.environ | {"KERAS_BACKEND": "jax"}
        subprocess.run([sys.executable, HERE / "record_keras_layers.py", path], env=environment, check=True)
    with np.load(path) as file:
        return dict(file)


def built(case):
    """The layer with the weights of the comparison."""
    layer = case.make(keras.layers)
    layer._build_for_call(shapes_of(case, layer))
    weights = layer.weights
    layer.set_weights(weights_of([w.shape for w in weights], [w.name for w in weights]))
    return layer


def outputs_of(layers, data, **options):
    """The outputs of each layer, in a list."""
    found = {}
    for name, layer in layers.items():
        told = options if call_spec(type(layer)).takes_training else {}
        found[name] = jax.tree.leaves(layer(*argument_of(CASES[name], data[name]), **CASES[name].call, **told))
    return found


def loss(layers, data):
    outputs = outputs_of(layers, data, training=True)
    floats = (y for ys in outputs.values() for y in ys if jnp.issubdtype(y.dtype, jnp.floating))
    return sum((jnp.sum(jnp.square(y)) for y in floats), jnp.zeros(())), outputs


def same(ours, theirs, what):
    assert ours.shape == theirs.shape, what
    np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-5, err_msg=what)


def compare(name, layer, inference, trained, theirs):
    """One layer with Keras'; `inference` and `trained` are what it computed, None where it did not."""
    case, theirs = CASES[name], {key[len(name) + 1 :]: v for key, v in theirs.items() if key.startswith(f"{name}/")}
    known = json.loads(str(theirs["facts"]))
    assert [w.name for w in layer.weights] == known["names"]
    assert [list(w.shape) for w in layer.weights] == known["shapes"]
    assert [w.trainable for w in layer.weights] == known["trainable"]
    for i, y in enumerate(inference or ()):
        same(y, theirs[f"inference/output/{i}"], f"output {i}")
    if trained is not None:
        outputs, weights, inputs = trained
        assert f"inference/output/{len(outputs)}" not in theirs
        for i, y in enumerate(outputs):
            same(y, theirs.get(f"training/output/{i}", theirs[f"inference/output/{i}"]), f"output {i} in training")
        for i, weight in enumerate(weights.trainable_weights):
            same(weight.value, theirs[f"gradient/weight/{i}"], f"gradient of {weight.name}")
        floats = [g for x, g in zip(data_of(case), inputs, strict=True) if x.dtype == np.float32]
        for i, gradient in enumerate(floats):
            same(gradient, theirs[f"gradient/input/{i}"], f"gradient of input {i}")
        for i, weight in enumerate(layer.non_trainable_weights):  # moved by the training step
            same(weight.value, theirs[f"state/{i}"], weight.name)
    if known["config"] is not None:
        config = json.loads(json.dumps(plain(layer.get_config())))
        assert {key: config.get(key, "nothing") for key in known["config"]} == plain(known["config"])
        again = type(layer).from_config(json.loads(json.dumps(layer.get_config())))
        assert plain(again.get_config()) == plain(layer.get_config())
    shapes = [(None, *x.shape[1:]) for x in data_of(case)]
    if not case.spread:
        shape = layer.compute_output_shape(shapes[0] if len(shapes) == 1 else shapes)
        assert fits(json.loads(json.dumps(shape)), known["output_shape"])


@pytest.mark.keras  # takes half a minute
def test_every_layer_is_that_of_keras(theirs):
    jax.config.update("jax_disable_most_optimizations", True)
    layers = {name: built(case) for name, case in CASES.items()}
    data = {name: data_of(case) for name, case in CASES.items()}
    # Two programs for all layers: one of training with gradients, and one of those that are otherwise in inference.
    two_faced = {n: layer for n, layer in layers.items() if call_spec(type(layer)).takes_training or CASES[n].random}
    inference = fx.jit(lambda *args: outputs_of(*args, training=False))(two_faced, data)
    trained = {name: layer for name, layer in layers.items() if not CASES[name].random}
    (_, outputs), (gradients, of_data) = fx.jit(lambda *args: fx.withgradient(loss, *args))(trained, data)
    problems = {}
    for name, layer in layers.items():
        try:
            of_training = (outputs[name], gradients[name], of_data[name]) if name in trained else None
            compare(name, layer, inference.get(name), of_training, theirs)
        except AssertionError as error:
            problems[name] = str(error)
    assert not problems, "\n\n".join(f"{name}: {problem}" for name, problem in problems.items())


def fits(ours, theirs):
    """Whether a shape, or a list of them, is Keras', or says more, where Keras has None."""
    if isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(fits, ours, theirs))
    return theirs is None or ours == theirs


def test_every_layer_is_compared():
    kinds = {type(layer) for name, case in CASES.items() for layer in [case.make(keras.layers)]}
    for name in keras.layers.__all__:
        layer = getattr(keras.layers, name)
        if isinstance(layer, type) and issubclass(layer, keras.Layer) and layer not in NOT_COMPARED:
            assert layer in kinds, name


NOT_COMPARED = {
    keras.Layer,
    keras.layers.InputLayer,
    keras.layers.LSTMCell,  # within their layers
    keras.layers.GRUCell,
    keras.layers.SimpleRNNCell,
    keras.layers.StackedRNNCells,
    keras.layers.RandomCrop,  # which in Keras leaves images as they are in inference, other than documented
}
