"""Random numbers drawn on the host are those of `jax.random`, bit by bit, and JAX draws wherever the host may not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx
from fluxion.transform import threefry

RNG = np.random.default_rng(0)


def test_keys_and_numbers_are_those_of_jax():
    for count in (0, 1, 7, threefry.BLOCK, 3 * threefry.BLOCK + 5):  # few: JAX compiles a program for each
        seed, number = (int(RNG.integers(-(2**62), 2**62)), int(RNG.integers(2**32)))
        key = threefry.make_key(seed)
        assert key == jax.random.key(seed)
        folded = threefry.fold_in(key, number)
        assert folded == jax.random.fold_in(key, number)
        for bound in (1, int(RNG.integers(2, 2**31)), 2**31 - 1):
            assert threefry.integer(folded, bound) == jax.random.randint(folded, (), 0, bound)
        low = -abs(float(RNG.normal(0, 3)))
        ours = threefry.uniform(folded, count, np.float32, low, -low), threefry.normal(folded, count, np.float32)
        theirs = jax.random.uniform(folded, (count,), np.float32, low, -low), jax.random.normal(folded, (count,))
        for x, y in zip(ours, theirs, strict=True):
            assert isinstance(x, np.ndarray) and x.dtype == y.dtype
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("seed", [0, -1, 2**31, -(2**40) + 3, np.int32(5)])
def test_seeds_of_all_sizes(seed, x64):
    assert threefry.make_key(seed) == jax.random.key(seed)
    with jax.enable_x64(False):
        assert threefry.make_key(seed) == jax.random.key(seed)


def test_seeds_that_jax_refuses():
    for seed, error in ((2**64, OverflowError), (1.5, TypeError)):
        with pytest.raises(error):
            threefry.make_key(seed)


def test_layers_start_with_the_numbers_of_jax():
    key = jax.random.key(3)
    with fx.randomness(key):
        layer = fx.Dense(30, 20)
    limit = (6 / 50) ** 0.5
    expected = jax.random.uniform(jax.random.fold_in(key, 0), (600,), jnp.float32, -limit, limit).reshape(30, 20)
    np.testing.assert_array_equal(layer.weight, expected)


@pytest.mark.parametrize("init", [fx.glorot_uniform, fx.randn, fx.rand, fx.zeros])
def test_inside_a_trace_nothing_is_drawn_on_the_host(init):
    key = jax.random.key(1)
    huge = jax.eval_shape(lambda: init(10**6, 10**6, key=key))  # the key is known, the numbers are not asked for
    assert huge.shape == (10**6, 10**6) and huge.dtype == jnp.float32
    traced = jax.jit(lambda key: init(5, 3, key=key))(key)
    np.testing.assert_allclose(traced, init(5, 3, key=key), rtol=1e-6)
    several = jax.vmap(lambda key: init(5, 3, key=key))(jax.random.split(key, 2))
    np.testing.assert_allclose(several[1], init(5, 3, key=jax.random.split(key, 2)[1]), rtol=1e-6)


def test_other_generators_and_settings_go_to_jax():
    key = jax.random.key(0, impl="rbg")
    for draw in (threefry.uniform, threefry.normal):
        assert isinstance(draw(key, 3, np.float32), jax.Array)
        assert isinstance(draw(jax.random.key(0), 3, np.dtype("bfloat16")), jax.Array)
    assert jax.random.key_impl(threefry.fold_in(key, 1)) == jax.random.key_impl(key)
    with jax.default_prng_impl("rbg"):
        assert threefry.make_key(4) == jax.random.key(4)
    with jax.threefry_partitionable(False):
        key = jax.random.key(0)
        np.testing.assert_array_equal(threefry.uniform(key, 5, np.float32), jax.random.uniform(key, (5,)))
    assert isinstance(fx.glorot_uniform(3, 4, key=jax.random.PRNGKey(0)), jax.Array)
