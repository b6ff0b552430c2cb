"""`diff`, `grad`, `params` and files."""

import jax.numpy as jnp
import numpy as np
import pytest
from knet_help import Chain, Dense, iris

import fluxion as fx
from fluxion.dialects import knet
from fluxion.dialects.knet import Param, diff, grad, load, nll, param, param0, params, save, value

X = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
Y = np.array([0, 1, 2, 0, 1])


def test_gradients_are_those_of_the_explicit_form():
    model, _, _ = iris()
    J = diff(model, X, Y)
    weights = [np.array(w.value) for w in params(model)]
    explicit = fx.gradient(
        lambda ws: nll(fx.relu(X @ ws[0] + ws[1][None]) @ ws[2] + ws[3][None], Y), [jnp.array(w) for w in weights]
    )[0]
    assert float(value(J)) == pytest.approx(float(model(X, Y)))
    assert len(params(J)) == 4
    for w, expected in zip(params(J), explicit, strict=True):
        np.testing.assert_allclose(grad(J, w), expected, rtol=1e-5, atol=1e-7)


def test_a_loop_by_hand_is_sgd():
    model, dtrn, _ = iris()
    expected = knet.sgd(model, dtrn, lr=0.1).run()
    model, dtrn, _ = iris()
    losses = []
    for x, y in dtrn:
        J = diff(model, x, y)
        for w in params(J):
            w -= 0.1 * grad(J, w)
        losses.append(float(value(J)))
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


def test_layers_are_parameters_too():
    net = fx.Chain(fx.Dense(4, 6, fx.relu), fx.BatchNorm(6), fx.Dense(6, 3))
    J = diff(lambda x, y: nll(net(x), y), X, Y)
    assert sorted(w.path for w in params(J)) == sorted(path for path, _ in fx.trainables(net, path=True))
    before = np.array(net[2].weight)
    inner = grad(J, net[2])
    for w in params(J):
        w -= 0.5 * grad(J, w)
    np.testing.assert_allclose(net[2].weight, before - 0.5 * inner.weight, rtol=1e-6)
    np.testing.assert_array_equal(grad(J, net).layers[2].weight, inner.weight)  # also after the update
    assert float(abs(net[1].mean).sum()) > 0  # in training mode


def test_tied_arrays_are_one_parameter_and_stay_tied():
    layer = fx.Dense(2, 2)
    layer.bias = layer.weight[0]
    other = fx.Dense(2, 2)
    other.weight = layer.weight
    pair = fx.Chain(layer, other)
    found = params(pair)
    assert len(found) == 3
    for w in found:
        w *= 2.0
    assert pair[0].weight is pair[1].weight


def test_what_the_value_does_not_depend_on_has_no_gradient():
    w, v = Param(2.0), Param(3.0)
    J = diff(lambda: w * w)
    assert grad(J, v) is None and grad(J, "w") is None
    assert float(grad(J, w)) == 4.0
    J = diff(lambda x: x + 1, 1.0)
    assert value(J) == 2.0 and params(J) == [] and grad(J, w) is None
    with pytest.raises(fx.ArgumentError, match="what diff returned"):
        grad(1.0, w)


def test_the_first_of_several_values_is_differentiated():
    w = Param(3.0)
    J = diff(lambda: (w * w, "note"))
    assert value(J)[1] == "note" and float(grad(J, w)) == 6.0


def test_initial_values():
    w = param(100, 50)
    limit = (6 / 150) ** 0.5
    assert (
        isinstance(w, Param) and float(abs(w.value).max()) <= limit and w.std() == pytest.approx(limit / 3**0.5, 0.05)
    )
    assert param(3, init=fx.ones).value.tolist() == [1, 1, 1]
    assert param0(2, 3).shape == (2, 3) and float(param0(2).sum()) == 0
    knet.setseed(1)
    first = param(3, 3).value
    knet.setseed(1)
    assert (param(3, 3).value == first).all()


def test_models_and_dicts_are_saved_and_loaded(tmp_path):
    model, _, _ = iris(seed=0)
    other, _, _ = iris(seed=1)
    save(tmp_path / "model.safetensors", model)
    assert load(tmp_path / "model.safetensors", other) is other
    np.testing.assert_array_equal(other(X), model(X))
    with pytest.raises(fx.StateError, match="loadmodel"):  # a class of one's own is not made from a file
        load(tmp_path / "model.safetensors")
    net = fx.Chain(fx.Dense(4, 3))
    save(tmp_path / "net.safetensors", net)
    np.testing.assert_array_equal(load(tmp_path / "net.safetensors")(X), net(X))
    save(tmp_path / "d.safetensors", {"w": model.layers[0].w, "n": np.arange(3, dtype=np.int32)})
    loaded = load(tmp_path / "d.safetensors")
    np.testing.assert_array_equal(loaded["w"], model.layers[0].w.value)
    assert loaded["n"].tolist() == [0, 1, 2]
    with pytest.raises(fx.StateError, match="Not fitting"):
        load(tmp_path / "model.safetensors", Chain(Dense(4, 5), Dense(5, 3)))
