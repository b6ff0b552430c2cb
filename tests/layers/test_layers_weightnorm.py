"""WeightNorm: torch's numbers and derivatives; training, files, state, refusals; and removing it again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against_torch import same_as_torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from second_derivatives import torch_with_derivatives, with_derivatives

import fluxion as fx
from fluxion.ops.normalization import weight_norm
from fluxion.tree.model import bf16, f16, state

some = settings(
    max_examples=4, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@some
@given(data=st.data())
def test_is_torchs(x64, data):
    torch = pytest.importorskip("torch", reason="torch is the outside reference")
    dims, inputs, outputs = (data.draw(st.integers(low, low + 2)) for low in (0, 1, 1))
    axis, random = data.draw(st.sampled_from([-1, 0, None])), np.random.default_rng(data.draw(st.integers(0, 99)))
    if dims:
        axis = None if axis is None else -1  # torch's first axis, ours the last
        theirs = (torch.nn.Conv1d, torch.nn.Conv2d)[dims - 1](inputs, outputs, 2, dtype=torch.float64)
        plain = fx.Conv((2,) * dims, inputs, outputs)
    else:
        theirs = torch.nn.Linear(inputs, outputs, dtype=torch.float64)
        plain = fx.Dense(inputs, outputs)
    theirs = torch.nn.utils.parametrizations.weight_norm(theirs, dim={None: None, -1: 0, 0: 1}[axis])
    x, v = random.normal(size=(3, *[3] * dims, inputs)), random.normal(size=(*[2] * dims, inputs, outputs))
    g = random.normal(size={None: (), -1: outputs, 0: inputs}[axis])

    def ours(x, v, g, bias):
        layer = fx.WeightNorm(plain, axis=axis)
        assert layer.g.shape == g.shape
        layer = jax.tree.map(lambda a: a, layer)  # a copy
        layer.layer.weight, layer.layer.bias, layer.g = v, bias, g
        return layer(x)

    def torchs(x, v, g, bias):
        x, v = (x.movedim(-1, 1), v.movedim((-1, -2), (0, 1))) if dims else (x, v.T)
        shape = [-1 if i == {-1: 0, 0: 1}[axis] else 1 for i in range(v.ndim)] if axis is not None else []
        names = ("parametrizations.weight.original1", "parametrizations.weight.original0", "bias")
        arrays = dict(zip(names, (v, g.reshape(shape), bias), strict=True))
        y = torch.func.functional_call(theirs, arrays, (x,))
        return y.movedim(1, -1) if dims else y

    bias = random.normal(size=outputs)
    same_as_torch(ours, torchs, x, v, g, bias)


def test_second_derivatives_are_those_of_the_formula(x64):
    """As torch differentiates it. Its own operation, `torch._weight_norm`, has a wrong second derivative (2.13)."""
    torch = pytest.importorskip("torch", reason="torch is the outside reference")
    v, g = np.random.default_rng(0).normal(size=(3, 2)), np.random.default_rng(1).normal(size=2)

    def theirs(v, g):
        return (g * v / torch.linalg.vector_norm(v, dim=0),)

    same_as_torch(with_derivatives(lambda v, g: (weight_norm(v, g),)), torch_with_derivatives(theirs), v, g)


def test_changes_nothing_at_first_and_trains_length_and_direction():
    x, y = fx.randn(8, 3), fx.randn(8, 2)
    dense = fx.Dense(3, 2)
    model = fx.Chain(fx.WeightNorm(dense), fx.tanh)
    np.testing.assert_allclose(model(x), jnp.tanh(dense(x)), rtol=1e-5, atol=1e-6)
    v, g = dense.weight, model[0].g
    opt = fx.setup(fx.Descent(0.1), model)
    losses = [float(fx.trainstep(lambda m, x, y: fx.mse(m(x), y), model, (x, y), opt)) for _ in range(3)]
    assert losses[2] < losses[0] and bool((model[0].g != g).any()) and bool((dense.weight != v).any())
    assert model[0].layer is dense and model[0].v is dense.weight
    # The gradient of the direction is orthogonal to it, so its length does not shrink (Salimans and Kingma, 2.1).
    grads = fx.gradient(lambda m: (m(x) ** 2).sum(), model)[0].layers[0]
    np.testing.assert_allclose((grads.layer.weight * dense.weight).sum(0), 0, atol=1e-4)


def test_half_precision_norms_are_computed_in_single():
    layer = fx.WeightNorm(fx.Dense(64, 2, init=lambda *size: 100 * fx.randn(*size)))
    for cast, dtype in ((f16, jnp.float16), (bf16, jnp.bfloat16)):  # squares overflow float16
        half = cast(layer)
        assert half.folded().weight.dtype == dtype
        np.testing.assert_allclose(half.folded().weight, layer.layer.weight.astype(dtype), rtol=2e-2)


def test_state_of_the_layer_moves():
    model = fx.WeightNorm(fx.BatchNorm(2), "scale")
    fx.gradient(lambda m: m(jnp.array([[1.0, 2.0], [3.0, 6.0]])).sum(), model)
    np.testing.assert_allclose(model.layer.mean, [0.2, 0.4], rtol=1e-6)
    fx.trainmode(model)(jnp.array([[1.0, 2.0], [3.0, 6.0]]))
    np.testing.assert_allclose(model.layer.mean, [0.38, 0.76], rtol=1e-6)
    assert model.layer.scale.tolist() == [1.0, 1.0]


def test_sizes_are_inferred_within():
    model = fx.autosize(fx.Chain(fx.WeightNorm(fx.Dense(None, 4)), fx.WeightNorm(fx.Dense(None, 2), axis=0)), (None, 3))
    assert repr(model) == "Chain(WeightNorm(Dense(3, 4)), WeightNorm(Dense(4, 2), axis=0))"
    assert [layer.g.shape for layer in model] == [(4,), (4,)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: fx.WeightNorm(fx.Dense(3, 2), "weigth"),
            r"^WeightNorm: expected the name of an array of Dense\(3, 2\) \(weight, bias\), got 'weigth'. Did you mean "
            r"'weight'\?$",
        ),
        (lambda: fx.WeightNorm(fx.relu), r"expected the name of an array of .*it has none\), got 'weight'"),
        (
            lambda: fx.WeightNorm(fx.Dense(3, 2, bias=False), "bias"),
            r"an array of Dense\(3, 2, bias=False\) \(weight\), got 'bias'",
        ),
        (
            lambda: fx.WeightNorm(fx.Dense(3, 2, init=fx.zeros)),
            r"^WeightNorm: expected weight to have a direction, but that of Dense\(3, 2.*\) is all zero. Initialize",
        ),
        (
            lambda: fx.WeightNorm(fx.Dense(3, 2, init=lambda *n: fx.ones(*n).at[:, 1].set(0))),
            "is all zero at index 1 of axis -1. Initialize it with random numbers.",
        ),
        (lambda: fx.WeightNorm(fx.Dense(3, 2), axis=2), r"expected an axis of weight, of shape \(3, 2\), got 2."),
        (lambda: fx.WeightNorm(fx.Dense(3, 2), axis="out"), "WeightNorm: expected an axis or None, got 'out'."),
        (lambda: fx.WeightNorm(fx.Dense), "expected a layer as its layer, got the class Dense"),
        (
            lambda: fx.autosize(fx.Chain(fx.WeightNorm(fx.Dense(None, 2), axis=5)), (None, 3)),
            r"^model.layers\[0\] WeightNorm\(Dense\(3, 2\), axis=5\): expected an axis of weight, of shape \(3, 2\)",
        ),
    ],
)
def test_refusals(make, message):
    with pytest.raises(fx.FluxionError, match=message):
        make()


def test_remove_from_wherever_they_are():
    class Block(fx.Layer):
        def __init__(self):
            self.parts = [fx.WeightNorm(fx.Dense(3, 3))]
            self.named = {"last": fx.WeightNorm(fx.Conv((1,), 3, 2))}

        def __call__(self, x):
            return self.named["last"](self.parts[0](x))

    shared = fx.WeightNorm(fx.Dense(3, 3))
    twice = fx.WeightNorm(fx.WeightNorm(fx.Dense(3, 3)), "g", axis=None)
    captured = fx.WeightNorm(fx.Dense(3, 3))
    model = fx.Chain(shared, shared, twice, lambda x: captured(x), fx.Chain(block=Block()))
    for p in (shared, twice, captured, model[4]["block"].parts[0]):
        p.g = p.g * 3 + 1
    x = fx.randn(2, 4, 3)
    expected, chain = model(x), model[4]
    assert fx.remove_weight_norms(model) is model and model[4] is chain
    assert not any(isinstance(part, fx.WeightNorm) for part in fx.modules(model))
    assert model[0] is model[1] and isinstance(captured, fx.Dense)
    np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-5)
    assert list(state(chain)) == [
        "layers['block'].parts[0].weight",
        "layers['block'].parts[0].bias",
        "layers['block'].named['last'].weight",
        "layers['block'].named['last'].bias",
    ]
    assert repr(fx.remove_weight_norms(fx.WeightNorm(fx.Dense(None, 2)))) == "Dense(None, 2)"
    dense = fx.Dense(3, 2)
    assert fx.remove_weight_norms(dense) is dense
    assert [type(part) for part in fx.remove_weight_norms((fx.WeightNorm(dense), jnp.ones(2)))[:1]] == [fx.Dense]


def test_a_summary_and_an_autopsy_name_it():
    model = fx.Chain(fx.WeightNorm(fx.Dense(3, 2)), fx.relu)
    assert "layers[0]  WeightNorm(Dense(3, 2))  (5, 2)" in repr(fx.summary(model, (5, 3)))
    model[0].layer.weight = model[0].layer.weight.at[:, 0].set(0)  # its norm is 0: NaN
    with pytest.raises(fx.NonFiniteError, match=r"not finite is model.layers\[0\] WeightNorm\(Dense\(3, 2\)\)"):
        fx.trainstep(lambda m, x: m(x).sum(), model, (fx.ones(2, 3),), fx.setup(fx.Descent(0.1), model))
