"""Training and test mode, and the streams of random numbers."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx


def test_mode_is_automatic_and_can_be_overridden():
    model = fx.Chain(fx.Dropout(0.5), fx.Chain(fx.BatchNorm(3)))
    drop, norm = model.layers[0], model.layers[1].layers[0]

    def inside():
        seen = []
        fx.gradient(lambda x: seen.append((fx.istraining(drop), fx.istraining(norm))) or x, 1.0)
        return seen[0]

    assert not fx.istraining(drop) and inside() == (True, True)
    assert fx.testmode(model) is model
    assert inside() == (False, False)
    fx.trainmode(norm)
    assert fx.istraining(norm) and inside() == (False, True)
    fx.auto(model)
    assert inside() == (True, True) and not fx.istraining(norm)
    assert "training" not in vars(drop)  # the same pytree as one that was never asked
    assert jax.tree.structure(fx.Dropout(0.5)) == jax.tree.structure(drop)


@pytest.mark.parametrize("differentiate", [fx.gradient, fx.withgradient, fx.pullback, fx.jacobian, fx.hessian])
def test_every_derivative_counts_as_training(differentiate):
    seen = []
    differentiate(lambda x: [seen.append(fx.within_gradient()), x**2][1], 2.0)
    assert set(seen) == {True} and not fx.within_gradient()
    with pytest.raises(ValueError, match="stop"):
        differentiate(lambda x: [][0] if seen is None else (_ for _ in ()).throw(ValueError("stop")), 2.0)
    assert not fx.within_gradient()


def test_a_mode_belongs_to_its_thread():
    seen = []

    def f(x):
        thread = threading.Thread(target=lambda: seen.append(fx.within_gradient()))
        thread.start()
        thread.join()
        return x

    fx.gradient(f, 1.0)
    assert seen == [False]


def test_seeds_and_streams():
    fx.seed(7)
    a, b = fx.randn(4), fx.randn(4)
    fx.seed(7)
    np.testing.assert_array_equal(a, fx.randn(4))
    with fx.randomness(jax.random.key(1)):
        inner = fx.randn(4)
        with fx.randomness(jax.random.key(2)):
            fx.randn(4)
        second = fx.randn(4)
    np.testing.assert_array_equal(b, fx.randn(4))  # the block drew nothing from the default stream
    with fx.randomness(jax.random.key(1)):
        np.testing.assert_array_equal(inner, fx.randn(4))
        np.testing.assert_array_equal(second, fx.randn(4))
    assert not np.array_equal(a, b) and not np.array_equal(inner, second)


def test_a_seed_inside_a_trace_leaves_no_tracer():
    jax.jit(lambda x: (fx.seed(3), fx.randn(2))[1] * x)(1.0)
    first = fx.randn(2)
    fx.seed(3)
    fx.randn(2)
    np.testing.assert_array_equal(first, fx.randn(2))


def test_masks_of_a_gradient_are_fresh_per_call():
    drop, x = fx.Dropout(0.5), jnp.ones(64)
    masks = [fx.gradient(lambda x: drop(x).sum(), x)[0] for _ in range(2)]
    assert not np.array_equal(*masks)
    np.testing.assert_array_equal(drop(x), x)
