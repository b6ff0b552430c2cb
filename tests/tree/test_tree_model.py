"""Parameters, modules, vectors, state, precision and devices of a model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx
from fluxion.tree import load_state
from fluxion.tree.layer import path_of


def model():
    return fx.Chain(fx.Dense(3, 4, fx.relu), fx.BatchNorm(4), fx.Dense(4, 2, bias=False))


def test_trainables_and_modules():
    m = model()
    paths = ["layers[0].weight", "layers[0].bias", "layers[1].scale", "layers[1].bias", "layers[2].weight"]
    assert [path for path, _ in fx.trainables(m, path=True)] == paths
    assert all(a is b for a, (_, b) in zip(fx.trainables(m), fx.trainables(m, path=True), strict=True))
    assert fx.modules(m) == [m, *m.layers]
    inner = fx.Dense(1, 1)
    assert fx.modules([fx.Chain(inner, inner), inner])[1:] == [inner]
    assert path_of(m, m.layers[1]) == "layers[1]" and path_of(m, m.layers[2].weight) == paths[-1]
    assert path_of(m, inner) is None


def test_a_model_without_sizes_has_no_parameters_yet():
    m = fx.Chain(fx.relu, fx.Dense(None, 2))
    for ask in (fx.trainables, fx.state, fx.destructure, lambda m: fx.fmap(jnp.sin, m), lambda m: load_state(m, {})):
        with pytest.raises(fx.StateError, match=r"layers\[1\] Dense\(None, 2\) has no input size yet"):
            ask(m)


def test_destructure_is_the_parameters_one_after_the_other():
    m = model()
    vector, rebuild = fx.destructure(m)
    np.testing.assert_array_equal(vector, np.concatenate([np.ravel(a) for a in fx.trainables(m)]))
    again = rebuild(vector * 2)
    for a, b in zip(fx.trainables(again), fx.trainables(m), strict=True):
        np.testing.assert_array_equal(a, 2 * b)
    assert again.layers[1].mean is m.layers[1].mean
    with pytest.raises(fx.ShapeError, match=r"rebuild: expected a vector of shape \(32,\), got \(31,\)"):
        rebuild(vector[1:])
    with pytest.raises(fx.StateError, match="expected a model with parameters"):
        fx.destructure(fx.Dropout(0.5))


def test_destructure_is_differentiable_both_ways(x64):
    m = fx.f64(fx.Dense(2, 2, fx.tanh))
    x = jnp.array([[0.3, -0.2]])
    vector, rebuild = fx.destructure(m)

    def loss(v):
        return (rebuild(v)(x) ** 2).sum()

    (grad,) = fx.gradient(loss, vector)
    steps = 1e-6 * np.eye(vector.size)
    numeric = [(loss(vector + step) - loss(vector - step)) / 2e-6 for step in steps]
    np.testing.assert_allclose(grad, numeric, atol=1e-8)
    np.testing.assert_allclose(fx.jit(lambda v: fx.gradient(loss, v)[0])(vector), grad, rtol=1e-12)
    # d/dm of the squared length of its vector is twice its parameters.
    (grads,) = fx.gradient(lambda m: (fx.destructure(m)[0] ** 2).sum(), m)
    np.testing.assert_allclose(grads.weight, 2 * m.weight)
    assert fx.hessian(loss, vector).shape == (6, 6)


def test_state_round_trip():
    m, other = model(), model()
    saved = fx.state(m)
    assert list(saved)[4:6] == ["layers[1].mean", "layers[1].var"]
    assert load_state(other, {path: np.asarray(array) for path, array in saved.items()}) is other
    for a, b in zip(fx.state(other).values(), saved.values(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_load_state_lists_all_that_does_not_fit_and_changes_nothing():
    m = model()
    before = fx.state(m)
    wrong = dict(before)
    del wrong["layers[1].mean"]
    wrong["layers[1].meen"] = jnp.ones(4)
    wrong["layers[0].bias"] = jnp.ones(5)
    with pytest.raises(fx.StateError) as caught:
        load_state(m, wrong)
    text = str(caught.value)
    assert "Missing: layers[1].mean." in text
    assert "Unexpected: layers[1].meen (did you mean 'layers[1].mean'?)." in text
    assert "layers[0].bias: expected shape (4,), got (5,)" in text
    assert all(a is b for a, b in zip(fx.state(m).values(), before.values(), strict=True))
    load_state(m, {"layers[0].bias": jnp.full(4, 7.0), "unknown": 1}, strict=False)
    assert m.layers[0].bias.tolist() == [7.0] * 4


@pytest.mark.parametrize("cast, dtype", [(fx.f16, "float16"), (fx.bf16, "bfloat16"), (fx.f32, "float32")])
def test_precision(cast, dtype):
    tree = cast({"model": model(), "labels": jnp.arange(3), "key": jax.random.key(0), "numpy": np.ones(2)})
    assert {a.dtype.name for a in fx.trainables(tree)} == {dtype} and tree["model"].layers[1].var.dtype.name == dtype
    assert tree["labels"].dtype.name == "int32"
    assert cast([jnp.ones(2, jnp.complex64)])[0].dtype.name == "complex64"


def test_double_precision(x64):
    assert fx.f64([jnp.ones(2, jnp.float32)])[0].dtype.name == "float64"
    assert fx.f64([jnp.ones(2, jnp.complex64)])[0].dtype.name == "complex128"


def test_devices():
    m = fx.device(model(), jax.devices()[1])
    assert {a.device for a in fx.state(m).values()} == {jax.devices()[1]}
    assert {a.device for a in fx.state(fx.cpu(m)).values()} == {jax.devices()[0]}
    assert fx.gpu(m).layers[0].weight.shape == (3, 4)
    with pytest.raises(fx.ArgumentError, match="there is no 'quantum' here"):
        fx.device(m, "quantum")
