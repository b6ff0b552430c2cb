"""trainmode, testmode, auto, istraining: which layers they reach, and that they undo one another."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

import fluxion as fx
from fluxion.transform.modes import gradient_mode
from fluxion.tree.layer import Layer


class Noisy(Layer):
    training: bool | None = None

    def __call__(self, x):
        return x + fx.istraining(self)


@dataclasses.dataclass
class Plain:
    inner: Noisy
    training: bool | None = None

    def __call__(self, x):
        return self.inner(x) + 10 * fx.istraining(self)


def test_the_mode_is_whether_a_gradient_is_taken():
    layer = Noisy()
    assert layer(0) == 0
    with gradient_mode(True):
        assert layer(0) == 1
        assert fx.testmode(layer)(0) == 0
    assert fx.trainmode(layer)(0) == 1
    assert fx.auto(layer)(0) == 0


def test_every_layer_that_has_a_mode_is_reached():
    inside = Noisy()
    model = fx.Chain(
        fx.Parallel(jnp.add, a=inside, b=fx.Chain(fx.Dropout(0.5))),
        fx.SkipConnection(fx.BatchNorm(3), jnp.add),
        lambda x: inside(x),
        Plain(Noisy()),
        fx.Dense(3, 2),
    )
    for change, mode in ((fx.trainmode, True), (fx.testmode, False), (fx.auto, None)):
        assert change(model) is model
        parts = [inside, model[0]["b"][0], model[1].layer, model[3], model[3].inner]
        assert [part.training for part in parts] == [mode] * 5
    assert not hasattr(model[4], "training")


def test_auto_leaves_no_trace():
    layer = fx.BatchNorm(3)
    assert jax.tree.structure(fx.auto(fx.testmode(layer))) == jax.tree.structure(fx.BatchNorm(3))
    assert "training" not in vars(layer)
    plain = fx.auto(fx.trainmode(Plain(Noisy())))
    assert plain.training is None and plain(0) == 0


def test_a_part_of_a_model_alone():
    model = fx.Chain(fx.BatchNorm(3), fx.BatchNorm(3))
    fx.testmode(model[0])
    with gradient_mode(True):
        model(jnp.ones((2, 3)) * 5)
    assert not model[0].mean.any() and model[1].mean.any()


def test_closures_and_what_has_no_mode():
    layer = Noisy()
    f = fx.trainmode(lambda x: layer(x))
    assert f(0) == 1
    dense = fx.Dense(2, 2)
    assert fx.testmode(dense) is dense
    assert fx.trainmode([layer, "text", 3])[0] is layer


def test_the_compiled_call_keeps_the_mode_of_its_layer():
    run = jax.jit(lambda m, x: m(x))
    layer = fx.BatchNorm(2)
    x = jnp.array([[0.0, 1.0], [2.0, 5.0]])
    quiet, active = run(layer, x), run(fx.trainmode(layer), x)
    assert not jnp.allclose(quiet, active)
    assert jnp.allclose(run(fx.auto(layer), x), quiet)


@pytest.mark.parametrize("mode", [fx.trainmode, fx.testmode])
def test_the_mode_is_copied_with_the_model(mode):
    import copy

    layer = mode(fx.Dropout(0.5))
    assert fx.istraining(copy.deepcopy(layer)) is (mode is fx.trainmode)
    assert fx.istraining(jax.tree.map(lambda a: a, layer)) is (mode is fx.trainmode)
