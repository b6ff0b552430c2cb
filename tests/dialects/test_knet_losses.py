"""Losses and scores against torch, and over data sets."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from knet_help import iris

import fluxion as fx
from fluxion.dialects.knet import accuracy, bce, logistic, minibatch, nll, zeroone


@given(shape=st.lists(st.integers(1, 4), min_size=1, max_size=2), classes=st.integers(2, 5), seed=st.integers(0, 99))
@settings(max_examples=4, deadline=None, derandomize=True)
def test_nll_is_torchs_cross_entropy(shape, classes, seed):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    scores, labels = 3 * rng.normal(size=(*shape, classes)), rng.integers(-1, classes, shape)
    labels.flat[0] = 0  # one counts
    flat = torch.tensor(scores.reshape(-1, classes)), torch.tensor(labels.reshape(-1))
    for average, reduction in ((True, "mean"), (False, "sum")):
        expected = torch.nn.functional.cross_entropy(*flat, ignore_index=-1, reduction=reduction)
        got = nll(jnp.float32(scores), labels, average=average)
        np.testing.assert_allclose(got if average else got[0], expected, rtol=1e-5)
    assert int(got[1]) == (labels >= 0).sum()


def test_the_gradient_of_what_is_left_out_is_zero():
    scores = jnp.array([[1.0, 2.0], [3.0, jnp.inf]])
    grads = fx.gradient(lambda s: nll(s, jnp.array([0, -1])), scores)[0]
    assert np.isfinite(grads[0]).all() and float(abs(grads[0]).sum()) > 0
    scores = scores.at[1, 1].set(5.0)
    assert fx.gradient(lambda s: nll(s, jnp.array([0, -1])), scores)[0][1].tolist() == [0.0, 0.0]


def test_binary_losses_are_torchs():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    scores, labels = 4 * rng.normal(size=(3, 4)).astype(np.float32), rng.integers(0, 2, (3, 4))
    expected = torch.nn.functional.binary_cross_entropy_with_logits(torch.tensor(scores), torch.tensor(1.0 * labels))
    np.testing.assert_allclose(bce(scores, labels), expected, rtol=1e-5)
    np.testing.assert_allclose(logistic(scores, 2 * labels - 1), expected, rtol=1e-5)
    assert bce(scores, labels, average=False)[1] == logistic(scores, 2 * labels - 1, average=False)[1] == 12
    np.testing.assert_allclose(bce(scores, labels, average=False)[0] / 12, expected, rtol=1e-5)
    with pytest.raises(fx.ShapeError, match="logistic"):
        logistic(scores, labels[0])


def test_accuracy_counts():
    scores, labels = jnp.array([[2.0, 1.0], [0.0, 1.0], [jnp.nan, 0.0], [1.0, 0.0]]), jnp.array([0, 0, 0, -1])
    assert accuracy(scores, labels) == pytest.approx(1 / 3) and zeroone(scores, labels) == pytest.approx(2 / 3)
    assert [int(n) for n in accuracy(scores, labels, average=False)] == [1, 3]
    assert [int(n) for n in zeroone(scores, labels, average=False)] == [2, 3]


def test_of_a_data_set_every_observation_counts_once():
    model, _, _ = iris()
    x, y = fx.datasets.iris()
    y = np.where(np.arange(150) % 7 == 0, -1, y)
    expected = nll(model(x), y)
    right = int(accuracy(model(x), y, average=False)[0])
    for data in (minibatch(x, y, 40, partial=True, shuffle=True), (x, y), [(x[:10], y[:10]), (x[10:], y[10:])]):
        assert nll(model, data) == pytest.approx(float(expected), rel=1e-6)
        assert nll(model, data=data, average=False)[1] == 128
        assert accuracy(model, data, average=False) == (right, 128)
        assert accuracy(model, data=data) == right / 128
        assert zeroone(model, data=data) == 1 - right / 128
        assert zeroone(model, data, average=False) == (128 - right, 128)
    assert accuracy(model, data=minibatch(x, y, 40), average=False)[1] == np.count_nonzero(y[:120] >= 0)


def test_a_data_set_is_looked_at_in_test_mode():
    net = fx.Chain(fx.Dropout(0.5), fx.BatchNorm(4), fx.Dense(4, 3))
    x, y = fx.datasets.iris()
    assert nll(net, (x, y)) == nll(net, (x, y)) == pytest.approx(float(nll(net(x), y)), rel=1e-5)
    assert float(abs(net[1].mean).sum()) == 0


def test_wrong_arguments_are_named():
    scores = jnp.zeros((2, 3))
    with pytest.raises(fx.DataError, match="label 3"):
        nll(scores, jnp.array([0, 3]))
    with pytest.raises(fx.DataError, match="label -2"):
        nll(scores, jnp.array([0, -2]))
    with pytest.raises(fx.DTypeError, match="nll: expected integer labels, got float32"):
        nll(scores, jnp.zeros(2))
    with pytest.raises(fx.ShapeError, match="accuracy: expected scores"):
        accuracy(scores, jnp.zeros(3, int))
    with pytest.raises(fx.ArgumentError, match="a model and a data set"):
        accuracy(lambda x: x)
    with pytest.raises(fx.ArgumentError, match="got both"):
        nll(lambda x: x, scores, data=[])
    with pytest.raises(fx.DataError, match="label 7"):
        nll(fx.Dense(4, 3), [(jnp.zeros((1, 4)), jnp.array([7]))])
    with pytest.raises(fx.DataError, match="a label that counts"):
        accuracy(fx.Dense(4, 3), [(jnp.zeros((1, 4)), jnp.array([-1]))])
