"""The layers that normalize their input: torch's numbers, first and second derivatives and running statistics; modes,
precision, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against_torch import same_as_torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from second_derivatives import torch_with_derivatives, with_derivatives

import fluxion as fx
from fluxion.transform.sizes import autosize
from fluxion.tree.model import bf16, f16, state, trainables

some = settings(
    max_examples=4, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
sizes = st.integers(2, 4)
shapes = st.lists(st.integers(1, 3), max_size=2)


def drawn(data, *shape):
    return np.random.default_rng(data.draw(st.integers(0, 99), "seed")).normal(size=shape)


def affine_arrays(data, affine, *size):
    return [drawn(data, *size) + 1, drawn(data, *size)] if affine else []


def in_torch(f, x, *arrays):
    """`f` in torch's layout, channels second; its first output back in ours."""
    y = f(x.movedim(-1, 1) if x.ndim > 1 else x, *arrays)
    return y.movedim(1, -1) if y.ndim > 1 else y


@pytest.mark.parametrize("cls", [fx.BatchNorm, fx.InstanceNorm])
@some
@given(data=st.data())
def test_channel_norms_are_torchs(cls, x64, data):
    torch = pytest.importorskip("torch", reason="torch is the outside reference")
    n, channels = data.draw(sizes), data.draw(st.integers(1, 3))
    spatial = data.draw(shapes) if cls is fx.BatchNorm else [data.draw(sizes), *data.draw(shapes)]
    affine, track, training = (data.draw(st.booleans(), what) for what in ("affine", "track", "training"))
    options = {"momentum": data.draw(st.sampled_from([0.1, 0.3, 1.0])), "eps": data.draw(st.sampled_from([1e-5, 0.1]))}
    running = [drawn(data, channels), drawn(data, channels) ** 2 + 0.1] if track else []

    def ours(x, *arrays):
        layer = cls(channels, affine=affine, track_stats=track, **options)
        layer.training = training
        if affine:
            layer.scale, layer.bias = arrays
        if track:
            layer.mean, layer.var = map(jnp.asarray, running)
        y = layer(x)
        return (y, layer.mean, layer.var) if track else (y,)

    def theirs(x, *arrays):
        moved = list(map(torch.tensor, running)) or [None, None]
        scale_and_bias = arrays or (None, None)
        f = torch.nn.functional.batch_norm if cls is fx.BatchNorm else torch.nn.functional.instance_norm
        y = in_torch(lambda x: f(x, *moved, *scale_and_bias, training or not track, **options), x)
        return (y, *moved) if track else (y,)

    x = drawn(data, n, *spatial, channels) * 2 + 1
    arrays = affine_arrays(data, affine, channels)
    same_as_torch(with_derivatives(ours), torch_with_derivatives(theirs), x, *arrays, tolerance=1e-9)


@pytest.mark.parametrize("cls", [fx.LayerNorm, fx.RMSNorm])
@some
@given(data=st.data())
def test_norms_over_the_last_axes_are_torchs(cls, x64, data):
    torch = pytest.importorskip("torch", reason="torch is the outside reference")
    size, leading = [*data.draw(shapes), data.draw(sizes)], data.draw(shapes)
    affine, eps = data.draw(st.booleans()), data.draw(st.sampled_from([1e-5, 0.1]))

    def ours(x, *arrays):
        layer = cls(*size, affine=affine, eps=eps)
        if affine:
            layer.scale, layer.bias = (*arrays, None)[:2]
        return (layer(x),)

    def theirs(x, *arrays):
        f = torch.nn.functional.layer_norm if cls is fx.LayerNorm else torch.nn.functional.rms_norm
        return (f(x, size, *arrays, eps=eps),)

    arrays = affine_arrays(data, affine, *size)[: 2 if cls is fx.LayerNorm else 1]
    x = drawn(data, *leading, *size)
    same_as_torch(with_derivatives(ours), torch_with_derivatives(theirs), x, *arrays, tolerance=1e-9)


@some
@given(data=st.data())
def test_group_norm_is_torchs(x64, data):
    torch = pytest.importorskip("torch", reason="torch is the outside reference")
    groups, each, spatial = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3)), data.draw(shapes)
    spatial = [2, *spatial] if each == 1 else spatial
    affine, eps = data.draw(st.booleans()), data.draw(st.sampled_from([1e-5, 0.1]))
    channels = groups * each

    def ours(x, *arrays):
        layer = fx.GroupNorm(channels, groups, affine=affine, eps=eps)
        if affine:
            layer.scale, layer.bias = arrays
        return (layer(x),)

    def theirs(x, *arrays):
        return (in_torch(lambda x: torch.nn.functional.group_norm(x, groups, *arrays, eps=eps), x),)

    x = drawn(data, data.draw(sizes), *spatial, channels)
    arrays = affine_arrays(data, affine, channels)
    same_as_torch(with_derivatives(ours), torch_with_derivatives(theirs), x, *arrays, tolerance=1e-9)


def test_groups_between_one_and_all():
    x = fx.randn(3, 4, 6)
    layers = [fx.GroupNorm(6, 6), fx.InstanceNorm(6), fx.GroupNorm(6, 1), fx.LayerNorm(4, 6, affine=False)]
    each, instance, one, whole = jax.jit(lambda x: [layer(x) for layer in layers])(x)
    np.testing.assert_allclose(each, instance, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(one, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cls", [fx.BatchNorm, fx.InstanceNorm])
def test_running_statistics_over_several_steps(cls, x64):
    torch = pytest.importorskip("torch", reason="torch is the outside reference")
    theirs = {fx.BatchNorm: torch.nn.BatchNorm1d, fx.InstanceNorm: torch.nn.InstanceNorm1d}[cls]
    theirs = theirs(3, momentum=0.3, affine=False, track_running_stats=True, dtype=torch.float64)
    layer = cls(3, momentum=0.3, affine=False, track_stats=True)
    for x in np.random.default_rng(0).normal(size=(3, 5, 4, 3)) + 1:
        theirs(torch.tensor(x).movedim(-1, 1))
        fx.gradient(lambda m, x=x: m(x).sum(), layer)
    np.testing.assert_allclose(layer.mean, theirs.running_mean, rtol=1e-12)
    np.testing.assert_allclose(layer.var, theirs.running_var, rtol=1e-12)
    before = state(layer)
    x = np.random.default_rng(1).normal(size=(5, 4, 3))
    expected = theirs.eval()(torch.tensor(x).movedim(-1, 1)).movedim(1, -1)
    np.testing.assert_allclose(fx.testmode(layer)(x), expected, rtol=1e-12, atol=1e-12)
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
    with pytest.raises(fx.ShapeError, match=r"than one value per channel, got .*\. Use larger batches\.$"):
        fx.BatchNorm(3, track_stats=False)(jnp.ones(shape))


@pytest.mark.parametrize("shape", [(5, 3), (3,), (2, 1, 3), (2, 0, 3), (2, 1, 1, 3)])
def test_instance_norm_refuses_a_single_value(shape):
    message = r"expected input \(batch, \*spatial, 3\) with more than one value per example and channel, got .* Use B"
    with pytest.raises(fx.ShapeError, match=message):
        fx.InstanceNorm(3)(jnp.ones(shape))
    tracking = fx.InstanceNorm(3, track_stats=True)
    assert tracking(jnp.ones(shape)).shape == shape  # test mode
    with pytest.raises(fx.ShapeError, match=message):
        fx.trainmode(tracking)(jnp.ones(shape))


def test_group_norm_refuses_a_single_value():
    with pytest.raises(fx.ShapeError) as caught:
        fx.GroupNorm(3, 3)(jnp.ones((5, 1, 3)))
    assert str(caught.value) == (
        "model GroupNorm(3, 3): expected more than one value per group of each example, got (5, 1, 3) in 3 groups. "
        "Use fewer groups, or LayerNorm(3)."
    )
    assert fx.GroupNorm(3, 1)(jnp.ones((5, 3))).shape == (5, 3)


def test_an_empty_batch_stays_empty():
    for layer in (fx.LayerNorm(3), fx.RMSNorm(3), fx.GroupNorm(3, 1), fx.InstanceNorm(3), fx.BatchNorm(3)):
        assert layer(jnp.ones((0, 4, 3))).shape == (0, 4, 3)
    layer = fx.trainmode(fx.InstanceNorm(3, track_stats=True))
    assert layer(jnp.ones((0, 4, 3))).shape == (0, 4, 3)
    assert layer.mean.tolist() == [0.0] * 3 and layer.var.tolist() == [1.0] * 3


LAYERS = {
    "batch": lambda: fx.trainmode(fx.BatchNorm(2)),
    "batch in test mode": lambda: fx.BatchNorm(2),
    "instance": lambda: fx.trainmode(fx.InstanceNorm(2, affine=True, track_stats=True)),
    "layer": lambda: fx.LayerNorm(64, 2),
    "group": lambda: fx.GroupNorm(2, 1),
    "rms": lambda: fx.RMSNorm(64, 2),
}


@pytest.mark.parametrize(("dtype", "cast", "std"), [(jnp.bfloat16, bf16, 1), (jnp.float16, f16, 300)])
def test_half_precision_has_the_statistics_of_single(dtype, cast, std):
    """Beside a mean of 1000, bfloat16 cannot tell the values apart; float16 overflows when it squares 300."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(8, 64, 2)) * std + 1000, dtype)

    @jax.jit
    def run(x):
        layers = [(make(), make(), cast(make())) for make in LAYERS.values()]  # single, mixed, half throughout
        outputs = [(single(x.astype(jnp.float32)), mixed(x), half(x)) for single, mixed, half in layers]
        return outputs, [[getattr(layer, "mean", None) for layer in several] for several in layers]

    outputs, means = run(x)
    for several, running in zip(outputs, means, strict=True):
        single, *halves = (np.asarray(y, np.float32) for y in several)
        assert [y.dtype for y in several] == [jnp.float32, dtype, dtype]
        for y in halves:
            np.testing.assert_allclose(y, single, rtol=1e-2, atol=1e-2)
        if running[0] is not None:
            assert running[1].dtype == jnp.float32 and running[2].dtype == dtype
            np.testing.assert_allclose(running[1], running[0], rtol=1e-6)
            np.testing.assert_allclose(running[2].astype(np.float32), running[0], rtol=1e-2)


def test_constant_input_has_finite_derivatives():
    @jax.jit
    def second(xs):
        layers = [make() for make in LAYERS.values()]

        def loss(xs):
            return sum((jnp.sin(layer(x)) ** 2).sum() for layer, x in zip(layers, xs, strict=True))

        return jax.jvp(jax.grad(loss), (xs,), ([x.at[0, 0, 0].set(-1) for x in xs],))

    for derivative in jax.tree.leaves(second([jnp.full((3, 64, 2), 5.0)] * len(LAYERS))):
        assert bool(jnp.isfinite(derivative).all())


def test_large_means_cost_no_digits():
    x = np.random.default_rng(0).normal(size=(1000, 2)).astype(np.float32) + 10_000
    exact = (x.astype(np.float64) - x.mean(0, np.float64)) / np.sqrt(x.var(0, dtype=np.float64) + 1e-5)
    np.testing.assert_allclose(fx.trainmode(fx.BatchNorm(2))(x), exact, atol=2e-3)


def test_other_inputs_take_the_dtype_of_the_layer(x64):
    layers = (fx.BatchNorm(2), fx.LayerNorm(2), fx.RMSNorm(2), fx.GroupNorm(2, 1))
    for layer in layers:
        narrow = jax.tree.map(lambda a: a.astype(jnp.float32), layer)
        for dtype in (float, int):
            assert jax.eval_shape(narrow, np.ones((3, 2), dtype)).dtype == jnp.float32
    assert jax.eval_shape(fx.LayerNorm(2, affine=False), np.ones((3, 2), int)).dtype == jnp.float64
    for layer in layers:
        with pytest.raises(fx.DTypeError, match="expected real input, got dtype complex128"):
            layer(np.ones((3, 2)) * 1j)


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
        (lambda: fx.RMSNorm(), "RMSNorm: expected at least one size, got none."),
        (lambda: fx.InstanceNorm(3, momentum="0.1"), "InstanceNorm: expected a momentum between 0 and 1, got '0.1'."),
        (
            lambda: fx.GroupNorm(6, 4),
            r"^GroupNorm: expected channels that divide into 4 groups, got 6. Use GroupNorm\(6, 2\).",
        ),
        (lambda: fx.GroupNorm(6, 0), "GroupNorm: expected a positive whole number for groups, got 0."),
        (
            lambda: autosize(fx.Chain(fx.identity, fx.GroupNorm(None, 4)), (None, 6)),
            r"^model.layers\[1\] GroupNorm\(None, 4\): expected channels that divide into 4 groups, got 6. Use",
        ),
    ],
)
def test_constructors_refuse(make, message):
    with pytest.raises(fx.FluxionError, match=message):
        make()
