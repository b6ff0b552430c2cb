"""`evaluate` and `predict`: the model's own numbers, in test mode, exact means, one compilation."""

import jax.numpy as jnp
import numpy as np
import pytest
from training_help import classes, cross, in_batches

import fluxion as fx

X, Y = classes(37)


class Counting(fx.Layer):
    """A model that counts how often it is traced, with layers that behave differently in training."""

    def __init__(self):
        self.net = fx.Chain(fx.Dense(4, 6), fx.BatchNorm(6), fx.Dropout(0.5), fx.Dense(6, 3))
        self.calls = []

    def __call__(self, x):
        self.calls.append(x.shape)
        return self.net(x)


# ------------------------------------------------------------------------------------------------- predict


def test_predict_is_the_model_itself_and_compiles_once():
    model = Counting()
    expected = model.net(jnp.asarray(X))
    out = fx.predict(model, X, batch_size=8)
    assert isinstance(out, np.ndarray)
    np.testing.assert_allclose(out, expected, atol=1e-6)
    np.testing.assert_allclose(fx.predict(model, jnp.asarray(X), batch_size=8), expected, atol=1e-6)
    assert model.calls == [(8, 4)]


def test_predict_takes_several_inputs_and_gives_several_outputs():
    def model(a, b):
        return {"sum": a + b, "first": a[:, 0]}

    out = fx.predict(model, (X[:, :2], X[:, 2:]), batch_size=10)
    np.testing.assert_allclose(out["sum"], X[:, :2] + X[:, 2:], atol=1e-6)
    assert out["first"].shape == (37,)


def test_predict_is_in_test_mode_inside_a_gradient_too():
    model = fx.Chain(fx.Dense(4, 3), fx.Dropout(0.5))
    expected = model(X)
    seen = []

    def loss(w):
        seen.append(fx.predict(model, X))
        return (w**2).sum()

    fx.gradient(loss, jnp.ones(2))
    np.testing.assert_allclose(seen[0], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("inputs", "error", "match"),
    [
        (np.ones((0, 4), np.float32), fx.DataError, "expected at least one observation, got none"),
        ((np.ones((3, 4)), np.ones((2, 4))), fx.ShapeError, r"one equal first axis, got shapes \[\(3, 4\), \(2, 4\)\]"),
        (np.float32(1), fx.ShapeError, r"one equal first axis, got shapes \[\(\)\]"),
        ([[1.0, 2.0]], fx.ArgumentError, "expected an array, or a tuple of them for model.*, got float"),
        (np.ones((3, 5), np.float32), fx.ShapeError, r"expected .*4.*, got .*\(3, 5\)"),
    ],
)
def test_predict_refuses_what_is_no_input(inputs, error, match):
    with pytest.raises(error, match=match):
        fx.predict(fx.Dense(4, 3), inputs)


def test_predict_refuses_loaders_bad_sizes_and_outputs_without_a_batch_axis():
    with pytest.raises(fx.ArgumentError, match="got DataLoader"):
        fx.predict(fx.Dense(4, 3), fx.DataLoader((X, Y)))
    with pytest.raises(fx.ArgumentError, match="batch_size of at least 1, got 0"):
        fx.predict(fx.Dense(4, 3), X, batch_size=0)
    with pytest.raises(fx.ShapeError, match=r"expected an output of shape \(37, ...\), got \(\)"):
        fx.predict(lambda x: x.sum(), X)


# ------------------------------------------------------------------------------------------------- evaluate


@pytest.mark.parametrize("data", [(X, Y), in_batches(X, Y), [tuple(a.tolist() for a in b) for b in in_batches(X, Y)]])
def test_evaluate_gives_exact_means_with_a_short_last_batch(data):
    model = Counting()
    result = fx.evaluate(model, data, loss=fx.logitcrossentropy, metrics=[fx.accuracy], batch_size=8)
    logits = np.asarray(model.net(jnp.asarray(X)), np.float64)
    shifted = logits - logits.max(1, keepdims=True)
    logp = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    assert list(result) == ["loss", "accuracy"]
    np.testing.assert_allclose(result["loss"], -logp[np.arange(37), Y].mean(), rtol=1e-5)
    np.testing.assert_allclose(result["accuracy"], (logits.argmax(1) == Y).mean(), rtol=1e-6)
    assert model.calls in ([], [(8, 4)])  # none where another test had the same program compiled


def test_evaluate_takes_a_loss_of_the_model():
    model = fx.Chain(fx.Dense(4, 3), fx.Dropout(0.5))
    by_model = fx.evaluate(model, (X, Y), loss=lambda m, x, y: (cross(m, x, y), "aux"), metrics={"right": fx.accuracy})
    by_prediction = fx.evaluate(model, (X, Y), loss=fx.logitcrossentropy, metrics={"right": fx.accuracy})
    np.testing.assert_allclose(by_model["loss"], by_prediction["loss"], rtol=1e-6)
    assert by_model["right"] == by_prediction["right"]


def test_evaluate_changes_nothing():
    model = fx.Chain(fx.BatchNorm(4), fx.Dense(4, 3))
    before = {path: np.array(a) for path, a in fx.state(model).items()}
    fx.evaluate(model, (X, Y), loss=fx.logitcrossentropy)
    for path, a in fx.state(model).items():
        np.testing.assert_array_equal(a, before[path])


def test_evaluate_names_values_that_cannot_be_meant():
    labels = Y.copy()
    labels[9] = 3
    with pytest.raises(fx.DataError, match=r"label 3 at index \(1,\) is outside \[0, 3\)"):
        fx.evaluate(fx.Dense(4, 3), (X, labels), loss=fx.logitcrossentropy, batch_size=8)


def test_evaluate_sees_the_model_as_it_is_now():
    model = fx.Dense(4, 3, init=fx.zeros)
    first = fx.evaluate(model, (X, Y), loss=fx.logitcrossentropy)["loss"]
    model.bias = jnp.array([5.0, 0.0, 0.0])
    assert fx.evaluate(model, (X, Y), loss=fx.logitcrossentropy)["loss"] != first
    np.testing.assert_allclose(first, np.log(3), rtol=1e-6)


def test_evaluate_explains_wrong_arguments():
    model = fx.Dense(4, 3)
    with pytest.raises(fx.DataError, match="expected at least one batch, got none"):
        fx.evaluate(model, [], loss=fx.logitcrossentropy)
    with pytest.raises(fx.ArgumentError, match="expected a tuple of arrays, a DataLoader or batches, got int"):
        fx.evaluate(model, 3, loss=fx.logitcrossentropy)
    with pytest.raises(fx.ArgumentError, match=r"Write \[fx.accuracy\]"):
        fx.evaluate(model, (X, Y), loss=fx.logitcrossentropy, metrics=fx.accuracy)
    with pytest.raises(fx.ArgumentError, match="got 'accuracy'"):
        fx.evaluate(model, (X, Y), loss=fx.logitcrossentropy, metrics=["accuracy"])
    with pytest.raises(fx.ArgumentError, match="different names"):
        fx.evaluate(model, (X, Y), loss=fx.logitcrossentropy, metrics=[fx.accuracy, fx.accuracy])
    with pytest.raises(fx.ArgumentError, match="got one of 1 arguments"):
        fx.evaluate(model, (X, Y), loss=lambda prediction: 0.0)
