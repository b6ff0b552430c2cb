"""BatchNorm and LayerNorm: torch's numbers, gradients and running statistics; modes, precision, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx
from fluxion.transform.sizes import autosize
from fluxion.tree.model import bf16, f16, state, trainables


def channels_last(x):
    return jnp.asarray(np.moveaxis(x.detach().numpy(), 1, -1))


@pytest.mark.parametrize("dims", [0, 1, 2])
@pytest.mark.parametrize("options", [{}, {"affine": False}, {"track_stats": False}, {"momentum": 0.3, "eps": 1e-3}])
def test_batch_norm_is_torchs(dims, options, x64):
    torch = pytest.importorskip("torch", reason="torch is the outside reference")
    cls = (torch.nn.BatchNorm1d, torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)[dims]
    renamed = {{"track_stats": "track_running_stats"}.get(k, k): v for k, v in options.items()}
    theirs = cls(3, dtype=torch.float64, **renamed)
    layer = fx.trainmode(fx.BatchNorm(3, **options))
    if theirs.affine:
        torch.nn.init.normal_(theirs.weight)
        torch.nn.init.normal_(theirs.bias)
        layer.scale, layer.bias = (jnp.asarray(p.detach().numpy()) for p in (theirs.weight, theirs.bias))

    @jax.jit
    def step(m, x):
        def loss(m, x):
            y = m(x)
            return (y**3).sum(), (y, m)

        return jax.grad(loss, (0, 1), has_aux=True)(m, x)

    for _ in range(3):  # several steps: running statistics
        x = (torch.randn(5, 3, *[4] * dims, dtype=torch.float64) * 2 + 1).requires_grad_()
        y = theirs(x)
        theirs.zero_grad()
        (y**3).sum().backward()
        (gm, gx), (ours, layer) = step(layer, channels_last(x))
        np.testing.assert_allclose(ours, channels_last(y), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(gx, channels_last(x.grad), rtol=1e-9, atol=1e-11)
        if theirs.affine:
            np.testing.assert_allclose(gm.scale, theirs.weight.grad, rtol=1e-12, atol=1e-10)
            np.testing.assert_allclose(gm.bias, theirs.bias.grad, rtol=1e-12, atol=1e-10)
        if layer.track_stats:
            np.testing.assert_allclose(layer.mean, theirs.running_mean, rtol=1e-12)
            np.testing.assert_allclose(layer.var, theirs.running_var, rtol=1e-12)
    layer = fx.testmode(layer)
    before = state(layer)
    np.testing.assert_allclose(layer(channels_last(x)), channels_last(theirs.eval()(x)), rtol=1e-12, atol=1e-12)
    assert all(a is b for a, b in zip(before.values(), state(layer).values(), strict=True))


def test_batch_norm_state_is_no_parameter():
    layer = fx.BatchNorm(4)
    assert [path for path, _ in trainables(layer, path=True)] == ["scale", "bias"]
    assert list(state(fx.BatchNorm(4, affine=False))) == ["mean", "var"]
    assert not state(fx.BatchNorm(4, affine=False, track_stats=False))


def test_batch_norm_takes_test_mode_outside_a_gradient():
    layer = fx.BatchNorm(2, affine=False)
    x = jnp.array([[1.0, 10.0], [3.0, 30.0]])
    np.testing.assert_allclose(layer(x), x, rtol=1e-4)
    assert not layer.mean.any()


@pytest.mark.parametrize("shape", [(1, 3), (3,), (1, 1, 1, 3), (0, 3)])
def test_batch_norm_refuses_a_single_value_per_channel(shape):
    layer = fx.trainmode(fx.BatchNorm(3))
    with pytest.raises(fx.ShapeError) as caught:
        layer(jnp.ones(shape))
    assert str(caught.value) == (
        f"model BatchNorm(3): expected more than one value per channel in training, got {shape}. "
        "Use larger batches, or fx.testmode(model) to use the running statistics."
    )
    assert fx.testmode(layer)(jnp.ones(shape)).shape == shape


def test_large_means_cost_no_digits():
    x = np.random.default_rng(0).normal(size=(1000, 2)).astype(np.float32) + 10_000
    exact = (x.astype(np.float64) - x.mean(0, np.float64)) / np.sqrt(x.var(0, dtype=np.float64) + 1e-5)
    np.testing.assert_allclose(fx.trainmode(fx.BatchNorm(2))(x), exact, atol=2e-3)


def test_half_precision_is_computed_in_single():
    x = (np.random.default_rng(0).normal(size=(4096, 2)) * 300 + 1000).astype(np.float16)  # squares overflow float16
    for layer in (fx.BatchNorm(2), f16(fx.BatchNorm(2))):  # mixed and plain
        y = fx.trainmode(layer)(x)
        assert y.dtype == jnp.float16 and bool(jnp.isfinite(y).all())
        assert abs(float(y.astype(np.float32).std()) - 1) < 1e-2
        np.testing.assert_allclose(layer.mean, 0.1 * x.mean(0, np.float64), rtol=2e-3)
    assert fx.LayerNorm(2)(x.astype(jnp.bfloat16)).dtype == jnp.bfloat16
    assert bf16(fx.LayerNorm(2))(np.ones((3, 2), np.float32)).dtype == jnp.bfloat16


def test_other_inputs_take_the_dtype_of_the_layer(x64):
    for layer in (fx.BatchNorm(2), fx.LayerNorm(2)):
        narrow = jax.tree.map(lambda a: a.astype(jnp.float32), layer)
        assert narrow(np.ones((3, 2))).dtype == jnp.float32
        assert narrow(np.ones((3, 2), int)).dtype == jnp.float32
    assert fx.LayerNorm(2, affine=False)(np.ones((3, 2), int)).dtype == jnp.float64
    for layer in (fx.BatchNorm(2), fx.LayerNorm(2)):
        with pytest.raises(fx.DTypeError, match="expected real input, got dtype complex128"):
            layer(np.ones((3, 2)) * 1j)


@pytest.mark.parametrize("size", [(4,), (3, 4)])
@pytest.mark.parametrize("affine", [True, False])
def test_layer_norm_is_torchs(size, affine, x64):
    torch = pytest.importorskip("torch", reason="torch is the outside reference")
    theirs = torch.nn.LayerNorm(size, eps=1e-3, elementwise_affine=affine, dtype=torch.float64)
    layer = fx.LayerNorm(*size, affine=affine, eps=1e-3)
    if affine:
        torch.nn.init.normal_(theirs.weight)
        torch.nn.init.normal_(theirs.bias)
        layer.scale, layer.bias = (jnp.asarray(p.detach().numpy()) for p in (theirs.weight, theirs.bias))
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    y = theirs(x)
    (y**3).sum().backward()
    ours = jnp.asarray(x.detach().numpy())
    np.testing.assert_allclose(layer(ours), y.detach(), rtol=1e-12, atol=1e-12)
    gm, gx = jax.grad(lambda m, x: (m(x) ** 3).sum(), (0, 1))(layer, ours)
    np.testing.assert_allclose(gx, x.grad, rtol=1e-9, atol=1e-11)
    if affine:
        np.testing.assert_allclose(gm.scale, theirs.weight.grad, rtol=1e-12, atol=1e-11)
        np.testing.assert_allclose(gm.bias, theirs.bias.grad, rtol=1e-12, atol=1e-11)


def test_nan_stays_in_its_row():
    x = jnp.ones((3, 4)).at[1, 2].set(jnp.nan)
    np.testing.assert_array_equal(jnp.isnan(fx.LayerNorm(4)(x)).all(1), [False, True, False])
    np.testing.assert_array_equal(jnp.isnan(fx.trainmode(fx.BatchNorm(4))(x)).all(0), [False, False, True, False])


def test_partly_unsized_layer_norm():
    assert repr(autosize(fx.LayerNorm(3, None), (None, 3, 5))) == "LayerNorm(3, 5)"
    with pytest.raises(fx.ShapeError, match=r"expected input \(..., 3, 5\), got \(5,\)\.$"):
        fx.LayerNorm(3, 5)(jnp.ones(5))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fx.BatchNorm(0), "BatchNorm: expected a positive whole number for channels, got 0."),
        (lambda: fx.BatchNorm(3, momentum=2), "BatchNorm: expected a momentum between 0 and 1, got 2."),
        (lambda: fx.BatchNorm(3, eps=-1.0), "BatchNorm: expected eps >= 0, got -1.0."),
        (lambda: fx.BatchNorm(3, "relu"), "BatchNorm: expected a function for activation, got 'relu'"),
        (
            lambda: fx.LayerNorm(3, fx.relu),
            "LayerNorm: expected sizes, got a function among them. Give it as activation=",
        ),
        (lambda: fx.LayerNorm((3, 4)), r"LayerNorm: expected sizes, got \(3, 4\). Use LayerNorm\(\*\(3, 4\)\)."),
        (lambda: fx.LayerNorm(3, eps=float("nan")), "LayerNorm: expected eps >= 0, got nan."),
    ],
)
def test_constructors_refuse(make, message):
    with pytest.raises(fx.FluxionError, match=message):
        make()
