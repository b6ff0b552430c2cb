"""The native LSTM against the plain loop and NumPy, in every derivative and at every awkward size."""

import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from digests import printed
from hypothesis import given, settings
from hypothesis import strategies as st

import fluxion as fx
from fluxion import native
from fluxion.ops.recurrent import lstm_gates, lstm_native, lstm_sequence, unroll_product

needs_library = pytest.mark.skipif(not native.available(), reason=native.status())


def plain(w, u, bias, x, h, c, keep=None, reverse=False):
    def gates(total, _, state):
        return lstm_gates(total, state[1])

    added, keep = jnp.moveaxis(x @ w + bias[None, None], 1, 0), None if keep is None else keep.T
    out, state = unroll_product(gates, added, (h, c), u, None, keep, reverse=reverse)
    return jnp.moveaxis(out, 0, 1), *state


def ours(w, u, bias, x, h, c, keep=None, reverse=False):
    out, state = lstm_sequence(w, u, bias, x, (h, c), keep, reverse=reverse)
    return out, *state


def arrays(n, time, size, units, seed=0, spread=1.0):
    """Weights, bias, x, h, c and the gradients of the results."""
    rng = np.random.default_rng(seed)
    shapes = (size, 4 * units), (units, 4 * units), (4 * units,), (n, time, size), (n, units), (n, units)
    scales = spread / size**0.5, spread / units**0.5, 1, 1, 1, 1, 1, 1, 1
    more = (n, time, units), (n, units), (n, units)
    drawn = [jnp.asarray(s * rng.normal(size=a), jnp.float32) for a, s in zip((*shapes, *more), scales, strict=True)]
    return drawn[:6], tuple(drawn[6:])


def by_numpy(arguments, gradients, keep, reverse):
    """Results and gradients in float64, by the formulas as they stand in the textbook."""
    w, u, bias, x, h, c, d_out, d_h, d_c = (np.asarray(a, np.float64) for a in (*arguments, *gradients))
    n, time, _ = x.shape
    keep = np.ones((n, time), bool) if keep is None else np.asarray(keep)
    order = range(time)[:: -1 if reverse else 1]
    out, seen = np.zeros_like(d_out), {}
    for t in order:
        i, f, g, o = np.split(x[:, t] @ w + h @ u + bias, 4, axis=1)
        i, f, g, o = (*(1 / (1 + np.exp(-a)) for a in (i, f)), np.tanh(g), 1 / (1 + np.exp(-o)))
        new, kept = f * c + i * g, keep[:, t, None]
        seen[t] = h, c, i, f, g, o, np.tanh(new)
        h, c = np.where(kept, o * np.tanh(new), h), np.where(kept, new, c)
        out[:, t] = np.where(kept, h, 0)
    results, dw, du, db, dx = (out, h, c), 0 * w, 0 * u, 0 * bias, 0 * x
    for t in reversed(order):
        before, c, i, f, g, o, s = seen[t]
        kept = keep[:, t, None]
        dh = np.where(kept, d_h + d_out[:, t], 0)
        dn = np.where(kept, d_c + dh * o * (1 - s * s), 0)
        d = np.concatenate([dn * g * i * (1 - i), dn * c * f * (1 - f), dn * i * (1 - g * g), dh * s * o * (1 - o)], 1)
        d_h, d_c = np.where(kept, d @ u.T, d_h), np.where(kept, dn * f, d_c)
        dw, du, db, dx[:, t] = dw + x[:, t].T @ d, du + before.T @ d, db + d.sum(0), d @ w.T
    return (*results, dw, du, db, dx, d_h, d_c)


def assert_close(a, reference, tolerance=1e-5):
    assert a.shape == reference.shape
    scale = max(1.0, float(np.max(np.abs(reference))))
    np.testing.assert_allclose(a, reference, rtol=0, atol=tolerance * scale)


@needs_library
@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    st.sampled_from([1, 2, 3, 6, 7, 13, 60, 101]),
    st.integers(1, 6),
    st.integers(1, 70),
    st.integers(1, 70),
    st.booleans(),
    st.booleans(),
    st.integers(0, 99),
)
def test_result_and_gradients_at_any_size(n, time, size, units, masked, reverse, seed):
    arguments, gradients = arrays(n, time, size, units, seed, spread=2.0)
    keep = jnp.asarray(np.random.default_rng(seed).random((n, time)) < 0.6) if masked else None
    results, back = jax.vjp(partial(ours, keep=keep, reverse=reverse), *arguments)
    for a, reference in zip((*results, *back(gradients)), by_numpy(arguments, gradients, keep, reverse), strict=True):
        assert_close(a, reference)


@needs_library
def test_a_large_layer_and_a_part_of_the_gradients():
    arguments, gradients = arrays(10, 3, 200, 264)
    expected = by_numpy(arguments, gradients, None, False)

    def only(places, *some):
        now = dict(enumerate(arguments)) | dict(zip(places, some, strict=True))
        return ours(*(now[i] for i in range(6)))

    for places in [(0, 1, 2), (3,), (1, 4), (5,)]:
        some = [arguments[i] for i in places]
        found = jax.jit(lambda *a, p=places: jax.vjp(partial(only, p), *a)[1](gradients))(*some)
        for i, a in zip(places, found, strict=True):
            assert_close(a, expected[3 + i])


@needs_library
def test_sigmoid_and_tanh_at_any_argument():
    """One unit, whose input enters one gate alone; the others are open."""
    x = np.concatenate([np.linspace(-110, 110, 4001), np.geomspace(1e-30, 100, 500), [0, -1e30, 1e30, np.nan]])
    x = jnp.asarray(x, jnp.float32)
    zero, weight, large = jnp.zeros((len(x), 1)), jnp.zeros((1, 4)), jnp.full(4, 50.0)

    def gate(place, result):
        into, bias = weight.at[0, place].set(1), large.at[place].set(0)
        return ours(into, weight, bias, x[:, None, None], zero, zero)[result]

    exact = np.asarray(x, np.float64)
    with np.errstate(over="ignore"):
        sigmoid = 1 / (1 + np.exp(-exact))
    np.testing.assert_allclose(gate(0, 2)[:, 0], sigmoid, rtol=6e-7, atol=2e-38)
    np.testing.assert_allclose(gate(2, 2)[:, 0], np.tanh(exact), rtol=6e-7)
    np.testing.assert_allclose(gate(3, 1)[:, 0], sigmoid * np.tanh(1), rtol=8e-7, atol=2e-38)


@needs_library
@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_nan_and_infinity_pass_through_their_own_sequence_only(bad):
    (w, u, bias, x, h, c), gradients = arrays(5, 4, 3, 18)
    x = x.at[2, 1, 0].set(bad)

    def both(function):
        results, back = jax.vjp(function, w, u, bias, x, h, c)
        return (*results, *back(gradients))

    for a, reference in zip(both(ours), both(plain), strict=True):
        np.testing.assert_array_equal(jnp.isnan(a), jnp.isnan(reference))
    out = ours(w, u, bias, x, h, c)[0]
    assert bool(jnp.isfinite(jnp.delete(out, 2, axis=0)).all()) and bool(jnp.isfinite(out[2, 0]).all())


@needs_library
def test_second_derivatives_and_forward_mode():
    arguments, _ = arrays(2, 3, 3, 4)
    tangents, _ = arrays(2, 3, 3, 4, seed=1)
    keep = jnp.array([[True, True, False], [False, True, True]])

    def all_orders(function):
        def loss(*a):
            return sum(jnp.sum(jnp.sin(y)) for y in function(*a, keep=keep, reverse=True))

        gradient = jax.grad(loss, tuple(range(6)))
        along = lambda *a: sum(jnp.vdot(p, q) for p, q in zip(gradient(*a), tangents, strict=True))
        first = jax.jvp(loss, arguments, tangents)
        return first, jax.jvp(gradient, arguments, tangents), jax.grad(along, tuple(range(6)))(*arguments)

    jax.tree.map(assert_close, *(jax.jit(partial(all_orders, f))() for f in (ours, plain)))


@needs_library
def test_batched_over_sequences_over_weights_and_over_gradients():
    arguments, _ = arrays(6, 3, 4, 5)
    split = [a.reshape(2, 3, *a.shape[1:]) for a in arguments[3:]]
    weights = [jnp.stack([a, 2 * a]) for a in arguments[:3]]
    keep = jnp.asarray(np.random.default_rng(0).random((3, 3)) < 0.6)

    def both(function):
        function = partial(function, keep=keep)
        one = jax.vmap(lambda x, h, c: function(*arguments[:3], x, h, c), in_axes=(1, 0, None))
        sequences = one(jnp.moveaxis(split[0], 0, 1), split[1], split[2][0])
        several = jax.vmap(function, in_axes=(0, 0, 0, None, None, None))(*weights, *(a[0] for a in split))
        each = jax.vmap(lambda *a: jax.grad(lambda *a: jnp.sum(function(*a)[0] ** 2), (0, 1, 3))(*arguments[:3], *a))
        return sequences, several, each(*split)

    jax.tree.map(assert_close, *(jax.jit(partial(both, f))() for f in (ours, plain)))


@needs_library
def test_in_a_loop_and_under_checkpoint():
    (w, u, bias, x, h, c), _ = arrays(2, 3, 4, 4)

    def loss(function, w):
        step = jax.checkpoint(lambda x, _: (function(w, u, bias, x, h, c)[0], None))
        return jnp.sum(jax.lax.scan(step, x, length=3)[0] ** 2)

    assert_close(*(jax.jit(jax.grad(partial(loss, f)))(w) for f in (ours, plain)))


@needs_library
def test_lstm_takes_it_where_it_applies():
    def text(layer, x, **options):
        return str(jax.make_jaxpr(lambda x: layer(x, **options))(x))

    layer, x = fx.LSTM(3, 5, num_layers=2, bidirectional=True), jnp.ones((2, 4, 3))
    assert text(layer, x).count("fluxion_lstm_forward") == 4 and "scan" not in text(layer, x)
    assert "fluxion_lstm_forward" in text(layer, x[0])
    assert "fluxion_lstm_forward" in text(layer, x, lengths=jnp.array([4, 2]))
    for one, y in [(layer, x[:, :0]), (layer, x[:0]), (fx.bf16(layer), x)]:
        assert "fluxion_lstm_forward" not in text(one, y)
    assert lstm_native(x, jnp.ones((5, 20))) and not lstm_native(x.astype(jnp.float16), jnp.ones((5, 20)))


@needs_library
def test_the_library_refuses_what_does_not_fit():
    (w, u, bias, x, h, c), _ = arrays(2, 3, 4, 5)
    for wrong in [(w[:3], u, bias, x, h, c), (w, u, bias, x, h[:, :4], c), (w, u, bias[:7], x, h, c)]:
        with pytest.raises(jax.errors.JaxRuntimeError, match="sizes of the"):
            jax.block_until_ready(jax.jit(ours)(*wrong))


@needs_library
def test_two_devices_share_a_batch():
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    (w, u, bias, x, h, c), _ = arrays(4, 3, 3, 5)
    halves = [jax.device_put(a, jax.NamedSharding(mesh, jax.P("data"))) for a in (x, h, c)]
    whole = [jax.device_put(a, jax.NamedSharding(mesh, jax.P())) for a in (w, u, bias)]
    gradient = jax.jit(jax.grad(lambda *a: jnp.sum(ours(*a)[0] ** 2), (0, 1, 3)))
    jax.tree.map(assert_close, jax.device_get(gradient(*whole, *halves)), jax.device_get(gradient(w, u, bias, x, h, c)))
    layer = fx.LSTM(3, 5)
    part = jax.shard_map(lambda x: layer(x), mesh=mesh, in_specs=jax.P("data"), out_specs=jax.P("data"))
    assert_close(jax.device_get(part(halves[0])), jax.device_get(layer(x)))


DIGEST = """
import hashlib, jax, jax.numpy as jnp, fluxion as fx
from fluxion import native
fx.seed(0)
layer, x = fx.LSTM(20, 37), jnp.sin(jnp.arange(23 * 5 * 20, dtype=jnp.float32)).reshape(23, 5, 20)
loss, grads = fx.withgradient(lambda layer, x: (layer(x) ** 2).sum(), layer, x)
arrays = [loss, *jax.tree.leaves(grads)]
print(native.status(), hashlib.sha256(b"".join(bytes(a) for a in jax.device_get(arrays))).hexdigest())
print(*(f"{float(jnp.sum(jnp.abs(a))):.3f}" for a in arrays))
"""


digest = partial(printed, DIGEST)


@needs_library
@pytest.mark.skipif(sys.platform != "linux", reason="taskset is a program of Linux")
def test_same_bits_on_one_thread_and_on_many():
    assert digest() == digest(cores=1)


def test_off_and_the_narrow_instructions_agree():
    off, narrow = digest(FLUXION_NATIVE="off"), digest(FLUXION_NATIVE="avx2")
    assert off[0].startswith("off (FLUXION_NATIVE)")
    assert not native.available() or narrow[0].startswith("AVX2")
    np.testing.assert_allclose(np.array(off[1].split(), float), np.array(narrow[1].split(), float), rtol=1e-5)
