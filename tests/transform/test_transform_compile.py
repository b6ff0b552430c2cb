"""`jit`: what is traced and what is static, when it compiles again, randomness, modes, what it returns."""

import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx
from fluxion.transform.compile import _programs

X = jnp.linspace(-1.0, 1.0, 12).reshape(4, 3)
FACTOR, TABLE = 2.0, jnp.ones(3)


HERE = sys.modules[__name__]
LOG = types.MappingProxyType({"traces": []})  # an object that no working copy undoes changes to


@pytest.fixture
def traces():
    """Grows by one whenever `note` runs."""
    LOG["traces"].clear()
    return LOG["traces"]


def note(x):
    LOG["traces"].append(1)
    return x


def test_a_lambda_made_anew_in_a_loop_is_one_program(traces):
    model = fx.Dense(3, 2)
    before = len(_programs.programs)
    for i in range(4):
        w = jnp.full(2, float(i))
        out = fx.jit(lambda x: note(model(x) * w[None]))(X)
        np.testing.assert_allclose(out, model(X) * w[None], rtol=1e-5)
    assert len(traces) == 1 and len(_programs.programs) == before + 1


def test_a_trained_model_is_seen_as_it_is(traces):
    model = fx.Chain(fx.Dense(3, 2), note)
    compiled = fx.jit(model)
    opt = fx.setup(fx.Adam(0.1), model)
    for _ in range(3):
        np.testing.assert_allclose(compiled(X), model(X), rtol=1e-5)
        fx.update(opt, model, fx.gradient(lambda m: (m(X) ** 2).sum(), model)[0])
    traces.clear()
    compiled(X)
    assert not traces


def scaled(x):
    return x * FACTOR * TABLE


class ByClass(fx.Layer):
    power = 1

    def __call__(self, x):
        return self.inner(x) ** self.power

    def inner(self, x):
        return scaled(x)


@pytest.mark.parametrize("function", [scaled, ByClass(), ByClass().inner])
def test_globals_are_seen_as_they_are(monkeypatch, function):
    compiled = fx.jit(function)
    x = jnp.ones(3)
    assert compiled(x).tolist() == [2.0, 2.0, 2.0]
    monkeypatch.setattr(HERE, "FACTOR", 3.0)
    assert compiled(x).tolist() == [3.0, 3.0, 3.0]
    monkeypatch.setattr(HERE, "TABLE", jnp.array([1.0, 2.0, 3.0]))
    assert compiled(x).tolist() == [3.0, 6.0, 9.0]
    if isinstance(function, ByClass):
        monkeypatch.setattr(ByClass, "power", 2)
        assert compiled(x).tolist() == [9.0, 36.0, 81.0]
        monkeypatch.setattr(ByClass, "inner", lambda self, x: x)
        assert compiled(x).tolist() == [1.0, 1.0, 1.0]


def test_a_global_array_is_an_input(monkeypatch, traces):
    def f(x):
        return note(x) * TABLE

    compiled = fx.jit(f)
    for i in range(3):
        monkeypatch.setattr(HERE, "TABLE", jnp.full(3, float(i)))
        assert compiled(jnp.ones(3)).tolist() == [i, i, i]
    assert len(traces) == 1


def test_static_values_compile_anew():
    def power(n):
        return fx.jit(lambda x: x**n)

    assert [power(n)(3.0).item() for n in (1, 2, 3, 2)] == [3.0, 9.0, 27.0, 9.0]
    layer = fx.Dense(3, 2)
    compiled = fx.jit(layer)
    for activation in (fx.relu, jnp.abs, lambda y: y * 0, lambda y: y * 0 + 1):
        layer.activation = activation
        np.testing.assert_allclose(compiled(X), layer(X), rtol=1e-5)
    sign = 0.0
    f = fx.jit(lambda x: jnp.copysign(x, sign))
    assert f(1.0) == 1.0
    sign = -0.0
    assert f(1.0) == -1.0
    flag = 1
    f = fx.jit(lambda x: x if flag is True else -x)
    assert f(1.0) == -1.0
    flag = True
    assert f(1.0) == 1.0
    sizes = [1, 2]
    f = fx.jit(lambda x: x * sizes[1])
    assert f(1.0) == 2.0
    sizes[1] = 5
    assert f(1.0) == 5.0
    long = list(range(1000))
    f = fx.jit(lambda x: x * long[7])
    assert f(1.0) == 7.0
    long[7] = 70
    assert f(1.0) == 70.0


def test_python_numbers_are_traced_and_strings_are_static(traces):
    f = fx.jit(lambda x, k, flag, mode: note(jnp.where(flag, x * k, x)) if mode == "a" else -x)
    assert [f(X[0, 0], k, k > 1, "a").shape for k in range(4)] == [()] * 4 and len(traces) == 1
    f(X[0, 0], 1.5, True, "a")
    assert len(traces) == 2  # a float is another type
    assert f(2.0, 3, True, "b") == -2.0
    assert fx.jit(lambda x: x * 2)(jnp.ones(2, jnp.float16)).dtype == jnp.float16  # numbers stay weakly typed
    assert fx.jit(lambda x, k: x * k)(jnp.ones(2, jnp.float16), 2.0).dtype == jnp.float16


def test_keywords_defaults_and_containers():
    assert fx.jit(lambda x, *, k, name="n": {"y": x * k["a"][0], name: None})(2.0, k={"a": [3]}) == {
        "y": 6.0,
        "n": None,
    }
    assert fx.jit(lambda *args, **kwargs: sum(args) + sum(kwargs.values()))(1, 2, a=3) == 6


def test_what_it_returns_is_what_the_function_returns():
    model = fx.Dense(3, 2)

    def f(m, x):
        return {"y": (m(x), None, "text", [1, 2.5]), "model": m, "later": lambda z: z * x, "type": int}

    for _ in range(2):
        out = fx.jit(f)(model, X)
        assert out["model"] is model and out["y"][1:] == (None, "text", [1, 2.5]) and out["type"] is int
        assert out["later"](2.0).tolist() == (2 * X).tolist()
    assert fx.jit(lambda: None)() is None
    tied = fx.jit(lambda m: m)(lambda: 1)
    assert tied() == 1


def test_models_made_inside():
    made = fx.jit(lambda w: fx.Chain(fx.Scale(3), lambda x: x * w))(jnp.full(3, 2.0))
    assert made(jnp.ones(3)).tolist() == [2.0, 2.0, 2.0]


def test_modes():
    assert fx.jit(lambda: fx.within_gradient())() is False
    f = fx.jit(lambda x: x * 2 if fx.within_gradient() else x)
    assert f(1.0) == 1.0 and fx.gradient(f, 1.0)[0] == 2.0 and f(1.0) == 1.0
    inside = fx.jit(lambda x: fx.gradient(lambda x: x * 2 if fx.within_gradient() else x, x)[0])
    assert inside(1.0) == 2.0


@pytest.mark.parametrize("wrap", [lambda f: f, lambda f: fx.jit(lambda x: f(x))])
def test_random_masks_are_fresh_and_reproducible(wrap):
    compiled = wrap(fx.jit(fx.trainmode(fx.Dropout(0.5))))
    x = jnp.ones(64)
    fx.seed(1)
    first = [compiled(x) for _ in range(3)]
    fx.seed(1)
    again = [compiled(x) for _ in range(3)]
    for i in range(3):
        np.testing.assert_array_equal(first[i], again[i])
        assert not np.array_equal(first[i], first[(i + 1) % 3])
    drop = fx.Dropout(0.5)
    f = fx.jit(lambda x: fx.gradient(lambda x: drop(x).sum(), x)[0])
    assert not np.array_equal(f(x), f(x)) and set(np.unique(f(x))) == {0.0, 2.0}


def test_the_first_random_number_may_be_drawn_inside_a_trace():
    randomness = sys.modules["fluxion.transform.randomness"]  # the name in the package is the function
    default, randomness._default = randomness._default, randomness.DefaultStream()
    try:
        jax.jit(lambda x: fx.trainmode(fx.Dropout(0.5))(x))(jnp.ones(3))
        assert fx.randn(2).shape == (2,)
    finally:
        randomness._default = default


def test_double_precision_is_another_program():
    f = fx.jit(lambda x: x * 2)
    assert f(1.0).dtype == jnp.float32
    jax.config.update("jax_enable_x64", True)
    try:
        assert f(1.0).dtype == jnp.float64
    finally:
        jax.config.update("jax_enable_x64", False)
    assert f(1.0).dtype == jnp.float32


def test_methods_can_be_decorated():
    class Model(fx.Layer):
        def __init__(self):
            self.w = jnp.ones(3)

        @fx.jit
        def scaled(self, k):
            return k * self.w

        @fx.jit
        def __call__(self, x):
            return x + self.w

    model = Model()
    assert model.scaled(2.0).tolist() == [2.0] * 3 and model(1.0).tolist() == [2.0] * 3
    model.w = model.w * 3
    assert model.scaled(2.0).tolist() == [6.0] * 3
    assert fx.gradient(lambda m: m(1.0).sum(), model)[0].w.tolist() == [1.0] * 3


def test_a_function_that_fails_can_be_called_again():
    fail = [True]

    def f(x):
        if fail[0]:
            raise ValueError("not yet")
        return x

    compiled = fx.jit(f)
    with pytest.raises(ValueError, match="not yet"):
        compiled(1.0)
    fail[0] = False
    assert compiled(1.0) == 1.0


def test_jit_of_nothing_to_call():
    with pytest.raises(fx.DTypeError, match="jit: expected a function or a model, got int"):
        fx.jit(3)
    assert fx.jit(f := fx.jit(abs)) is f


def test_recursion_and_closures_under_jit():
    def power(x, n):
        return x if n == 0 else power(x, n - 1) * w

    w = jnp.array(2.0)
    assert fx.jit(lambda x: power(x, 3))(1.0) == 8.0
    w = jnp.array(3.0)
    assert fx.jit(lambda x: power(x, 3))(1.0) == 27.0
    v, rebuild = fx.destructure(fx.Dense(3, 2))
    np.testing.assert_allclose(fx.jit(lambda v: rebuild(v)(X))(v), rebuild(v)(X), rtol=1e-5)
