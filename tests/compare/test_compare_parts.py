"""Workloads in words of no framework: sizes as the posts published them, weights as the formulas say."""

import json

import numpy as np
import pytest

from fluxion.compare import parts as w
from fluxion.compare import workloads
from fluxion.errors import ArgumentError

PUBLISHED = {  # numbers of parameters, of posts and notebooks
    "iris": 83,
    "mnist-mlp": 101_770,
    "mnist-fcn": 535_818,
    "mnist-cnn": 1_199_882,
    "cifar-cnn": 39_558,
    "mnist-fcn MXNet": 109_386,
    "mnist-cnn TensorFlow": 3_274_634,
    "mnist-cnn MXNet": 582_026,
    "mnist-cnn Theano": 581_930,
}


def every():
    for name in workloads.names():
        found = workloads.find(name)
        yield name, found.fair
        yield from ((f"{name} {variant.name}", variant.workload) for variant in found.variants)


@pytest.mark.parametrize(("name", "count"), PUBLISHED.items())
def test_parameters_are_as_many_as_published(name, count):
    assert dict(every())[name].parameters == count


def test_the_eight_workloads_are_found_by_listing_the_folder():
    expected = "char-lstm cifar-cnn fashion-cnn fashion-mlp iris mnist-cnn mnist-fcn mnist-mlp"
    assert workloads.names() == expected.split()
    assert all(workloads.find(name).name == name for name in workloads.names())


def test_json_gives_the_same_workload():
    for _, workload in every():
        assert w.from_json(json.loads(json.dumps(w.to_json(workload)))) == workload
    block = w.Workload("b", "", (w.Block(8, 2, causal=True), w.Residual(3, 4, 2)), (4, 8), 2)
    assert w.from_json(json.loads(json.dumps(w.to_json(block)))) == block


@pytest.mark.parametrize(
    ("init", "limit"),
    [("glorot", np.sqrt(6 / 250)), ("knet", np.sqrt(2 / 250)), ("fan in", np.sqrt(1 / 200)), ("uniform 0.01", 0.01)],
)
def test_uniform_first_weights(init, limit):
    weights = w.Workload("", "", w.mlp(200, 50), (200,), 1, init=init).weights()
    assert weights["0.weight"].dtype == np.float32
    assert 0.98 * limit < np.abs(weights["0.weight"]).max() <= limit * (1 + 1e-6)
    assert bool(weights["0.bias"].any()) == (init == "fan in")


@pytest.mark.parametrize(("init", "deviation"), [("normal", 1), ("normal with biases", 1)])
def test_normal_first_weights(init, deviation):
    weights = w.Workload("", "", w.mlp(200, 50), (200,), 1, init=init).weights(seed=3)
    assert abs(weights["0.weight"].std() - deviation) < 0.03
    assert bool(weights["0.bias"].any()) == ("biases" in init)
    truncated = w.Workload("", "", w.mlp(200, 50), (200,), 1, init="truncated normal 0.01").weights()["0.weight"]
    assert np.abs(truncated).max() <= 0.02
    assert abs(truncated.std() - 0.0088) < 2e-4  # 0.8796 of the normal's


def test_seeds_give_other_weights():
    fair = workloads.find("iris").fair
    assert not np.array_equal(fair.weights(0)["0.weight"], fair.weights(1)["0.weight"])
    assert np.array_equal(fair.weights(1)["0.weight"], fair.weights(1)["0.weight"])


def test_losses_and_inits_of_workloads_are_known():
    for name, workload in every():
        assert workload.loss in w.LOSSES, name
        assert workload.init in w.INITIAL, name
    for name in workloads.names():
        for variant in workloads.find(name).variants:
            assert variant.batches in workloads.BATCHES
            known = {"train loss", "train accuracy", "validation accuracy", "test accuracy", "seconds per epoch"}
            assert variant.published.keys() <= known


def test_a_misspelled_workload():
    with pytest.raises(ArgumentError, match=r"no workload 'mnist-mpl'\. Did you mean 'mnist-mlp'"):
        workloads.find("mnist-mpl")
