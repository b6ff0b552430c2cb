"""Native max-pooling against a loop over windows, and its derivatives against the plain form and torch."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fluxion as fx
from fluxion import native
from fluxion.native import pooling
from fluxion.native.pooling import Windows, largest

needs_library = pytest.mark.skipif(not native.available(), reason=native.status())


def by_loop(x, windows):
    """Largest values and their places, one window after the other; `np.argmax` takes the first, and NaN before all."""
    (kernel, stride, padding, _), shape = windows, windows.counts()
    y, places = np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
    for n, i, j, c in np.ndindex(*shape):
        cells = {}
        for r, s in np.ndindex(*kernel):
            h, w = i * stride[0] + r - padding[0][0], j * stride[1] + s - padding[1][0]
            if 0 <= h < x.shape[1] and 0 <= w < x.shape[2]:
                cells[r * kernel[1] + s] = x[n, h, w, c]
        first = int(np.argmax(list(cells.values())))
        places[n, i, j, c], y[n, i, j, c] = list(cells.items())[first]
    return y, places


def cases():
    sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))
    kernels = st.tuples(st.integers(1, 4), st.integers(1, 4))
    return st.builds(
        lambda n, size, channels, kernel, stride, ends: Windows(
            kernel,
            stride,
            tuple((min(low, k // 2), min(high, k // 2)) for (low, high), k in zip(ends, kernel, strict=True)),
            (n, *size, channels),
        ),
        st.sampled_from([1, 3]),
        sizes,
        st.sampled_from([1, 7, 8, 16, 20, 33]),
        kernels,
        st.tuples(st.integers(1, 5), st.integers(1, 5)),
        st.tuples(st.tuples(st.integers(0, 2), st.integers(0, 2)), st.tuples(st.integers(0, 2), st.integers(0, 2))),
    )


def awkward(shape, rng):
    """Many equal values, some infinite, some NaN."""
    x = rng.integers(-2, 3, shape).astype(np.float32)
    x[rng.random(shape) < 0.1] = -np.inf
    x[rng.random(shape) < 0.1] = np.nan
    return x


@needs_library
@settings(max_examples=15, deadline=None, derandomize=True)
@given(cases(), st.integers(0, 99))
def test_values_places_and_both_linear_functions(windows, seed):
    if min(windows.counts()) < 1:
        return
    rng = np.random.default_rng(seed)
    x = awkward(windows.shape, rng)
    y, places = by_loop(x, windows)
    t, g = (rng.normal(size=shape).astype(np.float32) for shape in (windows.shape, y.shape))
    results = jax.jit(partial(all_three, windows=windows))(x, t, g, places)
    np.testing.assert_array_equal(results[0], y)
    np.testing.assert_array_equal(results[1], places)
    picked, placed = np.zeros_like(y), np.zeros_like(x)
    for n, i, j, c in np.ndindex(*y.shape):
        r, s = divmod(int(places[n, i, j, c]), windows.kernel[1])
        cell = (
            n,
            i * windows.stride[0] + r - windows.padding[0][0],
            j * windows.stride[1] + s - windows.padding[1][0],
            c,
        )
        picked[n, i, j, c] = t[cell]
        placed[cell] += g[n, i, j, c]
    np.testing.assert_array_equal(results[2], picked)
    np.testing.assert_allclose(results[3], placed, atol=1e-5)


def all_three(x, t, g, places, *, windows):
    pick, place = (
        primitive.bind(a, places, windows=windows) for primitive, a in ((pooling.pick, t), (pooling.place, g))
    )
    return *pooling.pool.bind(x, windows=windows), pick, place


@needs_library
def test_the_plain_form_gives_the_same_places():
    windows = Windows((3, 2), (2, 1), ((1, 1), (1, 0)), (2, 8, 7, 9))
    x = awkward(windows.shape, np.random.default_rng(0))
    for ours, loop in zip(jax.jit(partial(pooling._plain_pool, windows=windows))(x), by_loop(x, windows), strict=True):
        np.testing.assert_array_equal(ours, loop)


@needs_library
def test_gradient_is_that_of_torch_and_the_first_of_equal_values_has_it():
    x = np.random.default_rng(0).integers(0, 3, (2, 9, 8, 5)).astype(np.float32)
    for kernel, stride, padding in [(2, 2, 0), (3, 2, 1), ((2, 3), (1, 3), (1, 0))]:
        theirs = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
        out = torch.nn.functional.max_pool2d(theirs, kernel, stride, padding)
        (out**2).sum().backward()
        pool = partial(fx.max_pool, kernel=kernel, stride=stride, padding=padding)
        assert "fluxion_max_pool" in str(jax.make_jaxpr(pool)(x))
        gradient = jax.jit(jax.grad(lambda x, pool=pool: jnp.sum(pool(x) ** 2)))(x)
        np.testing.assert_allclose(gradient, theirs.grad.numpy().transpose(0, 2, 3, 1), atol=1e-5)


@needs_library
def test_derivatives_of_any_order_batches_and_loops():
    x = jnp.asarray(np.random.default_rng(1).normal(size=(3, 2, 6, 7, 3)), jnp.float32)
    windows = Windows((3, 2), (2, 2), ((1, 0), (0, 1)), (2, 6, 7, 3))

    def all_orders(pool, x):
        def loss(x):
            return jnp.sum(jnp.sin(pool(x)))

        tangent = jnp.cos(x)
        hessian = jax.jvp(jax.grad(loss), (x,), (tangent,))
        back = jax.grad(lambda x: jnp.vdot(jax.grad(loss)(x), tangent))(x)
        linear = jax.linear_transpose(jax.linearize(pool, x)[1], x)(pool(x))
        looped = jax.grad(lambda x: jax.lax.scan(lambda c, _: (c + jnp.sum(pool(c * x)), None), 1.0, length=2)[0])(x)
        return jax.jvp(loss, (x,), (tangent,)), hessian, back, linear, looped

    def plain(x):
        return pooling._plain_pool(x, windows=windows)[0]

    ours, reference = (
        jax.jit(jax.vmap(partial(all_orders, pool)))(x) for pool in (partial(largest, windows=windows), plain)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), ours, reference)
    one = jax.vmap(lambda g: jax.vjp(lambda x: largest(x, windows), x[0])[1](g)[0])(jnp.ones((4, *windows.counts())))
    np.testing.assert_array_equal(one[0], one[3])  # places that are not batched beside gradients that are


@needs_library
def test_one_axis_and_what_is_left_to_plain_jax():
    x = jnp.asarray(np.random.default_rng(2).normal(size=(2, 9, 3)), jnp.float32)
    np.testing.assert_array_equal(fx.max_pool(x, 3, stride=2), fx.max_pool(x.astype(jnp.float16) * 0 + x, 3, stride=2))
    for array, kernel, options in [
        (x.astype(jnp.bfloat16), 2, {}),
        (x.astype(jnp.int32), 2, {}),
        (x, 2, {"dilation": 2}),
        (jnp.ones((1, 4, 4, 4, 1)), 2, {}),
        (jnp.ones((1, 20, 20, 1)), 17, {}),
    ]:
        assert "fluxion_max_pool" not in str(jax.make_jaxpr(partial(fx.max_pool, kernel=kernel, **options))(array))


@needs_library
def test_the_library_refuses_what_does_not_fit():
    x = jnp.ones((1, 4, 4, 2))
    for windows, message in [
        (Windows((2, 2), (2, 2), ((0, 0), (2, 0)), x.shape), "padding smaller"),
        (Windows((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 5, 6, 2)), "number of windows"),
        (Windows((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 4, 4, 3)), "channels"),
        (Windows((16, 16), (1, 1), ((15, 0), (15, 0)), x.shape), "255 cells"),
    ]:
        with pytest.raises(jax.errors.JaxRuntimeError, match=message):
            jax.block_until_ready(pooling.pool.bind(x, windows=windows))


@needs_library
def test_two_devices_share_a_batch():
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    x = jnp.asarray(np.random.default_rng(3).normal(size=(4, 6, 6, 3)), jnp.float32)
    halves = jax.device_put(x, jax.NamedSharding(mesh, jax.P("data")))
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(fx.max_pool(x, 2) ** 2)))
    np.testing.assert_array_equal(gradient(halves), gradient(x))
    part = jax.shard_map(lambda x: fx.max_pool(x, 2), mesh=mesh, in_specs=jax.P("data"), out_specs=jax.P("data"))
    np.testing.assert_array_equal(jax.device_get(part(halves)), jax.device_get(fx.max_pool(x, 2)))
