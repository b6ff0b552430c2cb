"""Dense, Scale, Bilinear and flatten: torch's numbers, dtypes, sizes left out, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against_torch import same_as_torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import fluxion as fx
from fluxion.transform.sizes import autosize
from fluxion.tree.model import bf16, trainables, with_trainables

torch = pytest.importorskip("torch", reason="torch is the outside reference")
F = torch.nn.functional


randomized = settings(
    max_examples=4,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.generate],  # to shrink a failure would compile for minutes
)
size = st.integers(1, 4)
sizes = st.lists(size, max_size=2)
ACTIVATIONS = [(fx.identity, lambda x: x), (fx.tanh, torch.tanh), (fx.gelu, lambda x: F.gelu(x, approximate="tanh"))]
activation = st.sampled_from(ACTIVATIONS)


def with_parameters(layer):
    """The layer as a function of its inputs and parameters; and values for the latter."""
    random = np.random.default_rng(0)
    values = [random.normal(size=a.shape) for a in trainables(layer)]
    count = len(values)
    return lambda *a: with_trainables(layer, list(a[len(a) - count :]))(*a[: len(a) - count]), values


@randomized
@given(sizes, size, size, activation, st.booleans())
def test_dense_is_torchs_linear(x64, batch, n, m, activation, bias):
    ours, parameters = with_parameters(fx.Dense(n, m, activation[0], bias=bias))
    x = np.random.default_rng(1).normal(size=(*batch, n))
    same_as_torch(ours, lambda x, w, *b: activation[1](F.linear(x, w.T, *b)), x, *parameters)


@randomized
@given(sizes, size, size, size, activation, st.booleans())
def test_bilinear_is_torchs(x64, batch, n, k, m, activation, bias):
    ours, parameters = with_parameters(fx.Bilinear((n, k), m, activation[0], bias=bias))
    x, y = (np.random.default_rng(i).normal(size=(*batch, size)) for i, size in ((1, n), (2, k)))
    same_as_torch(ours, lambda x, y, w, *b: activation[1](F.bilinear(x, y, w, *b)), x, y, *parameters)


@randomized
@given(sizes, st.lists(st.tuples(size, st.booleans()), min_size=1, max_size=2), activation, st.booleans())
def test_scale_is_a_product_in_torch(x64, batch, last, activation, bias):
    """Some of the sizes are 1, for the whole axis."""
    layer = fx.Scale(*(1 if whole else n for n, whole in last), activation=activation[0], bias=bias)
    ours, parameters = with_parameters(layer)
    x = np.random.default_rng(1).normal(size=(*batch, *(n for n, _ in last)))
    same_as_torch(ours, lambda x, w, b=0.0: activation[1](x * w + b), x, *parameters)


def test_bilinear_takes_one_input_or_a_pair():
    layer = fx.Bilinear((3, 3), 2)
    x = fx.randn(4, 3)
    np.testing.assert_array_equal(layer(x), layer(x, x))
    np.testing.assert_array_equal(layer((x, 2 * x)), layer(x, 2 * x))
    with pytest.raises(fx.ArgumentError, match="one input or two, got 3"):
        layer(x, x, x)
    with pytest.raises(fx.ShapeError, match=r"same leading axes, got \(4, 3\) and \(5, 3\)"):
        layer(x, fx.randn(5, 3))


def test_dense_starts_with_glorot_weights_and_no_bias():
    fx.seed(3)
    layer = fx.Dense(7, 5)
    fx.seed(3)
    np.testing.assert_array_equal(layer.weight, fx.glorot_uniform(7, 5))
    assert not layer.bias.any()
    assert float(fx.Dense(7, 5, init=fx.ones).weight.min()) == 1.0


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, bool, np.float16, np.float64])
def test_the_weight_decides_the_dtype(dtype):
    layer = fx.Dense(3, 2)
    x = np.array([[0, 1, 1], [1, 0, 1]], dtype)
    y = layer(x)
    assert y.dtype == jnp.float32
    np.testing.assert_allclose(y, np.asarray(x, np.float32) @ np.asarray(layer.weight), rtol=1e-6)
    assert bf16(layer)(x).dtype == jnp.bfloat16


def test_float64_data_do_not_widen_a_float32_layer(x64):
    layer = fx.Dense(3, 2, init=fx.glorot_uniform(dtype="float32"))
    assert layer.weight.dtype == layer.bias.dtype == jnp.float32
    assert layer(np.ones((4, 3))).dtype == jnp.float32
    assert fx.Scale(3, init=fx.ones(dtype="float32"))(np.ones((4, 3))).dtype == jnp.float32


def test_complex_numbers():
    layer = fx.Dense(3, 2, bias=False)
    x = np.array([[1 + 2j, 3, 4j]], np.complex64)
    np.testing.assert_allclose(layer(x), x @ np.asarray(layer.weight), rtol=1e-5)
    layer.weight = layer.weight.astype(jnp.complex64) * 1j
    np.testing.assert_allclose(layer(x), x @ np.asarray(layer.weight), rtol=1e-5)
    assert layer(np.ones((1, 3))).dtype == jnp.complex64


def test_any_number_of_leading_axes():
    layer = fx.Dense(3, 2)
    x = fx.randn(2, 3, 4, 3)
    assert layer(x).shape == (2, 3, 4, 2)
    np.testing.assert_allclose(layer(x[1, 2, 3]), layer(x)[1, 2, 3], rtol=1e-5)
    assert layer(jnp.zeros((0, 3))).shape == (0, 2)


def test_dense_error_names_the_layer_and_the_remedy():
    model = fx.Chain(fx.flatten, fx.Dense(12, 999), fx.Dropout(0.1), fx.Dense(998, 10))
    with pytest.raises(fx.ShapeError) as caught:
        model(jnp.ones((8, 3, 4)))
    assert str(caught.value) == (
        "model.layers[3] Dense(998, 10): expected input (..., 998), got (8, 999). "
        "Use Dense(999, 10) or Dense(None, 10)."
    )
    with pytest.raises(fx.ShapeError, match="Give it a batch axis"):
        fx.Dense(3, 2)(1.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fx.Dense(0, 2), "Dense: expected a positive whole number for in_features, got 0."),
        (lambda: fx.Dense(2, None), "Dense: expected a positive whole number for out_features, got None."),
        (lambda: fx.Dense(2, 1.5), "Dense: expected a positive whole number for out_features, got 1.5."),
        (lambda: fx.Dense(True, 2), "Dense: expected a positive whole number for in_features, got True."),
        (lambda: fx.Dense(2, 2, "relu"), "Dense: expected a function for activation, got 'relu'. Give the function"),
        (
            lambda: fx.Dense(2, 2, init=lambda *s: fx.ones(3)),
            r"Dense: expected init to give an array of shape \(2, 2\)",
        ),
        (lambda: fx.Dense(2, 2, init=lambda *s: jnp.ones(s, int)), "expected init to give a floating array, got int32"),
        (lambda: fx.Bilinear(3, 2), r"Bilinear: expected a pair of sizes \(in1, in2\), got 3."),
        (lambda: fx.Scale(), "Scale: expected at least one size"),
        (lambda: fx.Scale((3, 4)), r"Scale: expected sizes, got \(3, 4\). Use Scale\(\*\(3, 4\)\)."),
        (lambda: fx.Scale(3, fx.relu), "Scale: expected sizes, got a function among them. Give it as activation="),
    ],
)
def test_constructors_refuse(make, message):
    with pytest.raises(fx.FluxionError, match=message):
        make()


@pytest.mark.parametrize("x", [[[1.0, 2.0, 3.0]], (np.ones((2, 3)), np.ones((2, 3))), np.array(["a", "b", "c"]), None])
def test_what_is_not_one_array_of_numbers(x):
    with pytest.raises(fx.DTypeError, match=r"model Dense.*expected (one array|an array of numbers), got"):
        fx.Dense(3, 2)(x)


def test_sizes_are_read_from_the_arrays():
    layer = fx.Dense(4, 2)
    layer.weight = layer.weight[:3]  # as pruning would
    assert repr(layer) == "Dense(3, 2)"
    assert layer(jnp.ones((1, 3))).shape == (1, 2)


def test_numpy_sizes_print_as_numbers():
    assert repr(fx.Dense(np.int64(3), np.int32(2), bias=False)) == "Dense(3, 2, bias=False)"
    assert repr(fx.Dense(None, np.int32(2), bias=False)) == "Dense(None, 2, bias=False)"


def test_the_initializer_is_kept_only_while_it_is_needed():
    array = fx.randn(3, 2)
    layer = fx.Dense(3, 2, init=lambda *size: array + 0)
    assert [path for path, _ in trainables(layer, path=True)] == ["weight", "bias"]
    unsized = fx.Dense(None, 2, init=fx.zeros)
    assert repr(unsized) == "Dense(None, 2, init=zeros)"
    autosize(unsized, (None, 3))
    assert not unsized.weight.any()
    assert jax.tree.structure(unsized) == jax.tree.structure(fx.Dense(3, 2))


def test_partly_unsized():
    layer = autosize(fx.Bilinear((None, 4), 2), ((None, 3), (None, 4)))
    assert layer.weight.shape == (2, 3, 4)
    with pytest.raises(fx.ShapeError, match=r"expected inputs \(..., 3\) and \(..., 4\), got \(2, 3\) and \(2, 5\)"):
        layer(jnp.ones((2, 3)), jnp.ones((2, 5)))
    assert autosize(fx.Scale(5, None), (None, 5, 7)).scale.shape == (5, 7)
    with pytest.raises(fx.ShapeError, match=r"expected input \(..., 5, None\), got \(1,\)"):
        autosize(fx.Scale(5, None), (None,))


def test_scale_refuses_to_broadcast_its_input():
    x = np.ones((4, 2, 3), np.float32)
    assert fx.Scale(1, 3)(x).shape == (4, 2, 3)  # a size of 1 is for the whole axis
    with pytest.raises(fx.ShapeError, match=r"expected input \(..., 2, 3\), got \(3,\)\."):
        fx.Scale(2, 3)(x[0, 0])
    with pytest.raises(fx.ShapeError, match=r"got \(4, 2, 1\)"):
        fx.Scale(2, 3)(x[..., :1])


def test_flatten():
    x = np.arange(24).reshape(2, 3, 4)
    np.testing.assert_array_equal(fx.flatten(x), x.reshape(2, 12))
    assert fx.flatten(x).dtype == jnp.int32
    assert fx.flatten(jnp.ones(5)).shape == (5, 1)
    assert fx.flatten(jnp.ones((0, 3, 4))).shape == (0, 12)
    with pytest.raises(fx.ShapeError, match=r"flatten: expected input \(batch, ...\), got a single number"):
        fx.flatten(3.0)
