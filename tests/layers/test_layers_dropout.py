"""Dropout, AlphaDropout, StochasticDepth: probabilities, scaling, axes, modes, randomness, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx
from fluxion.ops.dropout import alpha_dropout, dropout
from fluxion.tree.model import bf16


def training(layer):
    return fx.trainmode(layer)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_values_are_zero_or_scaled(p):
    x = fx.rand(200, 300) + 1
    y = training(fx.Dropout(p))(x)
    zero = np.asarray(y) == 0
    assert abs(zero.mean() - p) < 5 * (p * (1 - p) / x.size) ** 0.5
    np.testing.assert_allclose(y[~zero], x[~zero] / (1 - p), rtol=1e-6)


@pytest.mark.parametrize("layer", [fx.Dropout(0.5), fx.AlphaDropout(0.5), fx.StochasticDepth(0.5)], ids=repr)
def test_nothing_happens_in_test_mode(layer):
    x = fx.randn(4, 3)
    np.testing.assert_array_equal(layer(x), x)
    np.testing.assert_array_equal(fx.testmode(layer)(np.asarray(x)), x)
    assert bool((fx.auto(training(layer))(x) == x).all())


@pytest.mark.parametrize("cls", [fx.Dropout, fx.AlphaDropout, fx.StochasticDepth])
def test_ends_of_the_range(cls):
    x = jnp.array([1.0, jnp.inf, jnp.nan])
    np.testing.assert_array_equal(training(cls(0))(x), x)
    np.testing.assert_array_equal(training(cls(1))(x), 0)
    for grad, layer in ((0.0, training(cls(1))), (1.0, training(cls(0.0)))):
        assert jax.grad(lambda x, layer=layer: layer(x).sum())(jnp.array([2.0])) == grad
    for p in (1.5, -0.1, float("nan"), "0.5", None):
        with pytest.raises(fx.ArgumentError) as caught:
            cls(p)
        assert str(caught.value) == f"{cls.__name__}: expected a probability p between 0 and 1, got {p!r}."
    assert repr(cls(np.float64(0.25))) == f"{cls.__name__}(0.25)"


def test_axes_along_which_to_draw():
    x = jnp.ones((40, 5, 30))
    for axis in (0, (0, 2), (0, -1), [-1], -2):
        y = np.asarray(training(fx.Dropout(0.5, axis=axis))(x))
        axes = {a % 3 for a in (axis if isinstance(axis, (list, tuple)) else [axis])}
        along = np.take(y, [0], 0) if 0 not in axes else y
        for other in {0, 1, 2} - axes:  # the same decision along the others
            np.testing.assert_array_equal(y, np.broadcast_to(np.take(y, [0], other), y.shape))
        assert set(np.unique(along)) <= {0.0, 2.0}
        if len(axes) > 1:
            assert set(np.unique(y)) == {0.0, 2.0}
    assert repr(fx.Dropout(0.5, axis=[0, -1])) == "Dropout(0.5, axis=(0, -1))"
    with pytest.raises(
        fx.ShapeError, match=r"^model Dropout\(0.5, axis=3\): expected input with an axis 3 .* \(40, 5, 30\)"
    ):
        training(fx.Dropout(0.5, axis=3))(x)
    with pytest.raises(fx.ArgumentError, match="Dropout: expected an axis, a tuple of axes or None, got 'channels'"):
        fx.Dropout(0.5, axis="channels")


@pytest.mark.parametrize("layer", [fx.Dropout(0.5), fx.AlphaDropout(0.5), fx.StochasticDepth(0.5)], ids=repr)
def test_randomness_is_of_the_block_or_the_seed(layer):
    layer = training(layer)
    x = fx.randn(100)
    fx.seed(1)
    first, second = layer(x), layer(x)
    assert bool((first != second).any())
    fx.seed(1)
    np.testing.assert_array_equal(layer(x), first)
    for run in (layer, jax.jit(layer)):
        with fx.randomness(jax.random.key(3)):
            drawn = run(x)
        with fx.randomness(jax.random.key(3)):
            np.testing.assert_allclose(layer(x), drawn, rtol=1e-5)


def test_gradient_is_the_mask():
    layer = training(fx.Dropout(0.25))

    def f(x):
        with fx.randomness(jax.random.key(0)):
            return layer(x)

    x = jnp.ones(50)
    np.testing.assert_allclose(jax.grad(lambda x: f(x).sum())(x), f(x))


def test_complex_values_are_dropped_whole():
    x = fx.randn(200) + 1j * fx.randn(200)
    y = np.asarray(training(fx.Dropout(0.25))(x))
    np.testing.assert_allclose(y[y != 0], np.asarray(x)[y != 0] / 0.75, rtol=1e-6)
    assert 0.5 < (y != 0).mean() < 0.95


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_stochastic_depth_drops_whole_examples(p):
    x = fx.rand(2000, 3, 2) + 1
    y = np.asarray(training(fx.StochasticDepth(p))(x))
    kept = y[:, 0, 0] != 0
    np.testing.assert_allclose(y[kept], x[kept] / (1 - p), rtol=1e-6)
    assert not y[~kept].any() and abs((~kept).mean() - p) < 5 * (p * (1 - p) / 2000) ** 0.5
    layer = training(fx.StochasticDepth(p, mode="batch"))
    ratios = np.stack([np.unique((layer(x[:2]) / x[:2]).round(4)) for _ in range(40)])  # one value for all, each time
    assert set(ratios.ravel()) == {np.float32(0), np.float32(1 / (1 - p)).round(4)}


def test_stochastic_depth_around_a_branch():
    block = fx.SkipConnection(fx.Chain(fx.Dense(2, 2), fx.StochasticDepth(0.5)), jnp.add)
    x = fx.randn(64, 2)
    np.testing.assert_allclose(block(x), x + block.layer[0](x), rtol=1e-6)
    y, branch = np.asarray(training(block)(x)), 2 * np.asarray(block.layer[0](x))
    dropped = (y == x).all(1)
    assert 0 < dropped.sum() < 64
    np.testing.assert_allclose(y[~dropped], (x + branch)[~dropped], rtol=1e-5, atol=1e-6)


def test_stochastic_depth_refuses():
    with pytest.raises(
        fx.ArgumentError, match=r"^StochasticDepth: expected mode 'row' or 'batch', got 'rows'. Did you"
    ):
        fx.StochasticDepth(0.1, mode="rows")
    with pytest.raises(fx.ShapeError, match="expected input with an axis 0"):
        training(fx.StochasticDepth(0.1))(1.0)


def test_dtypes():
    for dtype in (jnp.float16, jnp.bfloat16, jnp.float32, jnp.complex64):
        assert training(fx.Dropout(0.5))(jnp.ones(8, dtype)).dtype == dtype
    assert training(fx.Dropout(0.5))(np.ones(8, int)).dtype == jnp.float32
    assert bf16(fx.Dropout(0.5))(np.ones(8, int)).dtype == jnp.int32  # test mode: untouched


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_alpha_dropout_keeps_mean_and_variance(p):
    x = fx.randn(500, 500)
    y = np.asarray(training(fx.AlphaDropout(p))(x), np.float64)
    assert abs(y.mean()) < 0.01 and abs(y.var() - 1) < 0.01


def test_alpha_dropout_is_torchs_formula(x64):
    torch = pytest.importorskip("torch", reason="torch is the outside reference")
    p, x = 0.3, np.linspace(-2, 2, 1000)
    theirs = torch.nn.functional.alpha_dropout(torch.tensor(x), p, training=True).numpy()
    ours = np.asarray(alpha_dropout(x, p))
    # Dropped places differ; what is dropped, and what becomes of the rest, may not.
    dropped_value = np.bincount(np.unique(theirs, return_inverse=True)[1]).argmax()
    dropped_value = np.unique(theirs)[dropped_value]
    dropped = np.isclose(ours, dropped_value, rtol=1e-12)
    assert 0.2 < dropped.mean() < 0.4
    kept = ~dropped & (theirs != dropped_value)
    np.testing.assert_allclose(ours[kept], theirs[kept], rtol=1e-12, atol=1e-14)


def test_functions_always_drop():
    key = jax.random.key(0)
    y = dropout(jnp.ones(1000), 0.5, key=key)
    assert set(np.unique(y)) == {0.0, 2.0}
    np.testing.assert_array_equal(y, dropout(jnp.ones(1000), 0.5, key=key))
    with pytest.raises(fx.ArgumentError, match=r"^dropout: expected a probability p between 0 and 1, got 2\."):
        dropout(jnp.ones(3), 2)
    with pytest.raises(fx.ArgumentError, match=r"^alpha_dropout: expected a probability"):
        alpha_dropout(jnp.ones(3), -1)
