"""Models, data and comparisons shared by the tests of training."""

import jax
import jax.numpy as jnp
import numpy as np

import fluxion as fx


def classes(count=32, features=4, classes=3, seed=0):
    """Random inputs with labels that can be learned from them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, features)).astype(np.float32)
    return x, np.argmax(x[:, :classes], axis=1)


def in_batches(x, y, size=8):
    return [(x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)]


def cross(m, x, y):
    return fx.logitcrossentropy(m(x), y)


class Tied(fx.Layer):
    """One matrix used twice, a frozen one, a box, a buffer that counts calls."""

    buffers = ("calls",)

    def __init__(self, width):
        self.inner = fx.Dense(width, width, fx.tanh)
        self.again = self.inner
        self.gain = fx.Param(jnp.ones(width))
        self.calls = jnp.zeros(())

    def __call__(self, x):
        self.calls = self.calls + 1
        return self.again(self.inner(x)) * self.gain.value[None]


def everything_model():
    """What a model may be made of: closure, layers, tied weights, a Param, buffers, Dropout, an integer array."""
    net = fx.Chain(
        Tied(4), fx.Dense(4, 6), fx.BatchNorm(6, fx.relu), fx.Dropout(0.3), lambda h: h[:, order], fx.Dense(6, 3)
    )
    order = jnp.array([5, 4, 3, 2, 1, 0])
    shift = fx.Param(jnp.zeros(3))
    return lambda x: net(x) + shift.value[None]


def snapshot(model, opt):
    """All arrays of model and optimizer as numpy, which also shows that none of them is a tracer."""
    arrays = [*fx.state(model).values(), *jax.tree.leaves(opt.state)]
    return [np.array(a) for a in arrays], opt.step


def assert_same(got, expected):
    assert got[1] == expected[1]
    for a, b in zip(got[0], expected[0], strict=True):
        np.testing.assert_array_equal(a, b)


def weights(model):
    return [np.array(w) for w in fx.trainables(model)]


def assert_close(got, expected, tolerance=1e-6):
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
