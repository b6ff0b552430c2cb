"""Initializers: shapes, distributions against closed forms, structure, currying, tracing."""

import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import fluxion as fx

SCALED = [fx.glorot_uniform, fx.glorot_normal, fx.kaiming_uniform, fx.kaiming_normal, fx.lecun_normal]
RANDOM = [*SCALED, fx.truncated_normal, fx.orthogonal, fx.rand, fx.randn]
ALL = [*RANDOM, fx.identity_init, fx.zeros, fx.ones]
by_name = pytest.mark.parametrize("init", ALL, ids=lambda f: f.__name__)


@by_name
def test_sizes_keys_dtypes_and_tracing(init):
    key = jax.random.key(7)
    weight = init(6, 4, key=key)
    assert weight.shape == (6, 4) and weight.dtype == jnp.float32
    np.testing.assert_array_equal(weight, init((6, 4), key=key))
    np.testing.assert_array_equal(weight, init(np.int64(6), 4, key=key))
    half = init(6, 4, key=key, dtype="bfloat16")
    assert half.dtype == jnp.bfloat16
    if init is not fx.rand:  # drawn in 32 bits, then rounded
        np.testing.assert_array_equal(half, weight.astype(jnp.bfloat16))
    assert init(6, 0).shape == (6, 0)
    # loading builds models abstractly
    assert jax.eval_shape(lambda: init(300000, 400000)).shape == (300000, 400000)


def test_default_dtype_is_float64_under_x64(x64):
    assert {jax.eval_shape(lambda: init(3, 4)).dtype for init in ALL} == {jnp.dtype(jnp.float64)}
    assert fx.orthogonal(3, 4, dtype=jnp.float32).dtype == jnp.float32


@by_name
def test_without_sizes_it_is_an_initializer(init):
    curried = init(dtype=jnp.float16)
    assert repr(curried) == f"{init.__name__}(dtype='float16')" and repr(init()) == f"{init.__name__}()"
    assert curried == init(dtype="float16") != init() and hash(curried) == hash(init(dtype="float16"))
    assert eval(repr(curried), vars(fx)) == curried
    assert curried(2, 3).dtype == jnp.float16 and curried(2, 3, dtype=jnp.float32).dtype == jnp.float32
    np.testing.assert_array_equal(curried(2, 3, key=jax.random.key(1)), curried((2, 3), key=jax.random.key(1)))
    # whatever may be said of one may be said of any other
    assert list(inspect.signature(init).parameters)[-2:] == ["key", "dtype"]


def test_options_print_and_compare():
    init = fx.kaiming_uniform(gain=1.0)
    assert repr(init) == "kaiming_uniform(gain=1.0)"
    assert init == fx.kaiming_uniform(gain=1.0) and init != fx.kaiming_uniform() and init != fx.kaiming_normal(gain=1.0)
    assert repr(fx.truncated_normal(std=0.1, low=-1.0)) == "truncated_normal(std=0.1, low=-1.0)"
    assert repr(fx.sparse_init(sparsity=0.5)) == "sparse_init(sparsity=0.5)"
    assert repr(fx.identity_init(gain=2.0, shift=(0, 1))) == "identity_init(gain=2.0, shift=(0, 1))"
    with pytest.raises(fx.ArgumentError, match=r"glorot_normal: expected sizes along with key, got none\."):
        fx.glorot_normal(key=jax.random.key(0))
    with pytest.raises(fx.ArgumentError, match=r"kaiming_uniform\(gain=1\.0\): expected sizes, got none\."):
        init()


def test_draws_follow_the_seed_and_differ():
    fx.seed(5)
    first, second = fx.randn(4), fx.randn(4)
    fx.seed(5)
    np.testing.assert_array_equal(first, fx.randn(4))
    assert not (first == second).any()
    with fx.randomness(jax.random.key(1)):
        inside = fx.glorot_uniform(4, 5)
    with fx.randomness(jax.random.key(1)):
        np.testing.assert_array_equal(inside, fx.glorot_uniform(4, 5))


def test_fans_of_our_layouts():
    assert fx.nfan(784, 128) == fx.nfan((784, 128)) == (784, 128)
    assert fx.nfan(3, 5, 16, 32) == (15 * 16, 15 * 32)
    assert fx.nfan(7) == (1, 7) and fx.nfan(()) == (1, 1)


SHAPE = (3, 3, 40, 120)  # 43200 numbers, fan_in 360, fan_out 1080


@pytest.mark.parametrize(
    ("init", "law"),
    [
        (fx.glorot_uniform, scipy.stats.uniform(-((6 / 1440) ** 0.5), 2 * (6 / 1440) ** 0.5)),
        (fx.glorot_uniform(gain=3.0), scipy.stats.uniform(-3 * (6 / 1440) ** 0.5, 6 * (6 / 1440) ** 0.5)),
        (fx.glorot_normal, scipy.stats.norm(0, (2 / 1440) ** 0.5)),
        (fx.kaiming_uniform, scipy.stats.uniform(-((6 / 360) ** 0.5), 2 * (6 / 360) ** 0.5)),
        (fx.kaiming_uniform(gain=1.0), scipy.stats.uniform(-((3 / 360) ** 0.5), 2 * (3 / 360) ** 0.5)),
        (fx.kaiming_normal, scipy.stats.norm(0, (2 / 360) ** 0.5)),
        (fx.kaiming_normal(gain=0.5), scipy.stats.norm(0, 0.5 / 360**0.5)),
        (fx.lecun_normal, scipy.stats.truncnorm(-2, 2, 0, 1 / 360**0.5 / scipy.stats.truncnorm(-2, 2).std())),
        (fx.truncated_normal, scipy.stats.truncnorm(-2, 2)),
        (fx.truncated_normal(mean=1.0, std=0.5, low=0.0, high=1.25), scipy.stats.truncnorm(-2, 0.5, 1, 0.5)),
        (fx.rand, scipy.stats.uniform(0, 1)),
        (fx.randn, scipy.stats.norm(0, 1)),
    ],
    ids=lambda x: getattr(x, "__name__", None) or (repr(x) if isinstance(x, fx.Initializer) else ""),
)
def test_distributions(init, law):
    x = np.asarray(init(*SHAPE, key=jax.random.key(11)), np.float64).ravel()
    n, std = x.size, law.std()
    low, high = law.support()
    assert (x >= low - 1e-7).all() and (x <= high + 1e-7).all()
    assert abs(x.mean() - law.mean()) < 4 * std / n**0.5
    assert abs(x.std() / std - 1) < 0.02
    assert scipy.stats.kstest(x, law.cdf).pvalue > 1e-3


def test_lecun_normal_is_that_of_jax():
    key = jax.random.key(3)
    reference = jax.nn.initializers.lecun_normal()(key, SHAPE, jnp.float32)
    np.testing.assert_allclose(fx.lecun_normal(*SHAPE, key=key), reference, rtol=1e-5)


def test_orthogonal(x64):
    for shape in [(5, 3), (3, 5), (3, 3, 2, 7)]:
        weight = np.asarray(fx.orthogonal(*shape, gain=2.0)).reshape(-1, shape[-1])
        small = weight if weight.shape[0] <= weight.shape[1] else weight.T
        np.testing.assert_allclose(small @ small.T, 4 * np.eye(len(small)), atol=1e-12)
    single = np.asarray(fx.orthogonal(30, 30, dtype=jnp.float32))
    np.testing.assert_allclose(single.T @ single, np.eye(30), atol=1e-6)
    # drawn uniformly: without the sign of R, entry (0, 0) would never be positive
    corners = jax.vmap(lambda key: fx.orthogonal(3, 3, key=key)[0, 0])(jax.random.split(jax.random.key(0), 200))
    assert 70 < (corners > 0).sum() < 130
    # each entry of a unit vector uniform on the sphere in 3 dimensions is uniform
    assert scipy.stats.kstest(corners, scipy.stats.uniform(-1, 2).cdf).pvalue > 1e-3


def test_sparse_init():
    weight = np.asarray(fx.sparse_init(50, 40, sparsity=0.31, std=0.1))
    empty = weight == 0
    assert (empty.sum(0) == math.ceil(0.31 * 50)).all()
    assert len({column.tobytes() for column in empty.T}) == 40  # every output has holes of its own
    assert abs(weight[~empty].std() / 0.1 - 1) < 0.1
    assert not np.asarray(fx.sparse_init(5, 4, sparsity=1)).any()
    assert np.asarray(fx.sparse_init(5, 4, sparsity=0)).all()


def test_identity_init_is_the_identity():
    np.testing.assert_array_equal(fx.identity_init(3, 3, gain=2.0), 2 * np.eye(3))
    np.testing.assert_array_equal(fx.identity_init(4), np.zeros(4))
    np.testing.assert_array_equal(fx.identity_init(3, 3, shift=1), np.roll(np.eye(3), 1, 0))
    np.testing.assert_array_equal(fx.identity_init(3, 3, shift=(0, 1)), np.roll(np.eye(3), 1, 1))
    x = fx.randn(2, 6, 7, 3)
    for kernel in [(3, 3), (2, 4), (1, 5)]:
        weight = fx.identity_init(*kernel, 3, 3)
        y = jax.lax.conv_general_dilated(x, weight, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        np.testing.assert_allclose(y, x, rtol=1e-6)
    assert fx.identity_init(3, 3, 2, 5).sum() == 2


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: fx.glorot_uniform(None, 3),
            fx.ArgumentError,
            "expected sizes that are whole numbers >= 0, got (None, 3).",
        ),
        (lambda: fx.zeros(-1), fx.ArgumentError, "zeros: expected sizes that are whole numbers >= 0, got (-1,)."),
        (lambda: fx.rand(2.0), fx.ArgumentError, "rand: expected sizes that are whole numbers >= 0, got (2.0,)."),
        (lambda: fx.randn(2, dtype=int), fx.DTypeError, "randn: expected a floating dtype, got int"),
        (
            lambda: fx.ones(2, dtype=jnp.float64),
            fx.DTypeError,
            'ones: float64 needs jax.config.update("jax_enable_x64", True).',
        ),
        (lambda: fx.zeros(2, dtype="flot32"), fx.DTypeError, "zeros: expected a dtype, got 'flot32'."),
        (lambda: fx.orthogonal(3), fx.ShapeError, "orthogonal: expected at least two sizes, got (3,)."),
        (
            lambda: fx.sparse_init(3, sparsity=0.5),
            fx.ShapeError,
            "sparse_init: expected two sizes (in, out), got (3,).",
        ),
        (
            lambda: fx.sparse_init(3, 3, sparsity=2),
            fx.ArgumentError,
            "sparse_init: expected 0 <= sparsity <= 1, got 2.",
        ),
        (lambda: fx.truncated_normal(3, low=1, high=1), fx.ArgumentError, "expected std > 0 and low < high"),
        (lambda: fx.truncated_normal(3, std=0.01, low=1, high=2), fx.ArgumentError, "low and high are absolute"),
        (
            lambda: fx.identity_init(3, 3, shift=(1, 1, 1)),
            fx.ArgumentError,
            "expected at most 2 shifts for shape (3, 3)",
        ),
    ],
)
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error) as raised:
        call()
    assert message in str(raised.value)


def test_zeros_and_ones_take_any_dtype():
    assert fx.zeros(2, 3, dtype=bool).dtype == bool and not fx.zeros(2, 3, dtype=bool).any()
    np.testing.assert_array_equal(fx.ones(2, dtype=jnp.int8), [1, 1])
    np.testing.assert_array_equal(fx.zeros(2, dtype=int), [0, 0])
    assert fx.zeros(()).shape == ()
