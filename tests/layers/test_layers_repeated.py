"""Repeated: what a Chain of the same layers computes, learns and keeps; compiled once; refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx


def blocks(count=4, width=5):
    fx.seed(3)
    return [fx.Chain(fx.Dense(width, width, fx.tanh), fx.BatchNorm(width), fx.Dropout(0.0)) for _ in range(count)]


def cross(m, x, y):
    return fx.logitcrossentropy(m(x), y)


X = np.random.default_rng(0).normal(size=(16, 5)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 5, 16)


def test_it_is_a_chain_in_result_gradient_and_state():
    loop, chain = fx.Repeated(*blocks()), fx.Chain(*blocks())
    np.testing.assert_allclose(loop(X), chain(X), rtol=1e-5, atol=1e-6)
    losses = []
    for model in (loop, chain):
        opt = fx.setup(fx.Adam(1e-2), model)
        losses.append(fx.train(cross, model, [(X, Y)] * 5, opt))
    np.testing.assert_allclose(*losses, rtol=1e-4)
    assert list(fx.state(loop)) == list(fx.state(chain))  # paths too
    for a, b in zip(fx.state(loop).values(), fx.state(chain).values(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    means = [np.asarray(block[1].mean) for block in loop]
    assert all(np.any(means[0] != mean) for mean in means[1:])  # each layer has its own


def test_the_layer_is_compiled_once_whatever_the_depth():
    programs = [jax.jit(fx.Repeated(*(fx.Dense(5, 5, fx.tanh) for _ in range(n)))).lower(X).as_text() for n in (3, 30)]
    assert programs[0].count("tanh") == programs[1].count("tanh") > 0


def test_each_layer_draws_its_own_random_numbers():
    model = fx.trainmode(fx.Repeated(*(fx.Dropout(0.5) for _ in range(2))))
    fx.seed(0)
    kept = np.asarray(model(jnp.ones((40, 50)))) != 0
    assert 0.2 < kept.mean() < 0.3  # one mask for both would keep a half
    fx.seed(0)
    np.testing.assert_array_equal(np.asarray(model(jnp.ones((40, 50)))) != 0, kept)


def test_it_can_be_looked_into():
    text = str(fx.summary(fx.Repeated(*(fx.Dense(None, 5) for _ in range(3))), (None, 5)))
    assert text.count("Dense(5, 5)") == 3


class Counter(fx.Layer):
    def __call__(self, x):
        self.seen = x
        return x


class Growing(fx.Layer):
    buffers = ("log",)

    def __init__(self):
        self.log = jnp.zeros(1)

    def __call__(self, x):
        self.log = jnp.zeros(2)
        return x


one = fx.Dense(5, 5)


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: fx.Repeated(), fx.ArgumentError, "at least one layer"),
        (lambda: fx.Repeated(one, one), fx.ArgumentError, r"layers\[1\] a second time\. Write"),
        (lambda: fx.Repeated(one, 3), fx.DTypeError, "position 1"),
        (lambda: fx.Repeated(one, fx.Dense(5, 5, fx.relu))(X), fx.ArgumentError, r"layers\[1\] is of another kind"),
        (lambda: fx.Repeated(fx.Dense(5, 5), fx.Dense(5, 6))(X), fx.ArgumentError, "weight has another shape"),
        (lambda: fx.Repeated(fx.Dense(5, 6), fx.Dense(5, 6))(X), fx.ShapeError, r"like its input, float32\(16, 5\)"),
        (lambda: fx.Repeated(Counter(), Counter())(X), fx.StateError, "seen, which held no array before"),
        (lambda: fx.Repeated(Growing(), Growing())(X), fx.StateError, "keep log"),
        (lambda: fx.Repeated(fx.Dense(4, 4), fx.Dense(4, 4))(X), fx.ShapeError, r"layers\[0\].*expected input"),
    ],
)
def test_refusals(make, error, match):
    with pytest.raises(error, match=match):
        make()
