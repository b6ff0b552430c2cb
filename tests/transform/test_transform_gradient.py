"""Gradients: closed forms, every shape of argument, the implicit form, higher derivatives, errors."""

import collections
import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx

SINE, COSINE = 0.5646424733950357, 0.8253356149096873  # of 0.6, by the Taylor polynomials below


def taylor_by_loop(x):
    return sum((-1) ** k * x ** (1 + 2 * k) / math.factorial(1 + 2 * k) for k in range(7))


def taylor_by_recursion(x, k=0):
    return 0.0 if k == 7 else (-1) ** k * x ** (1 + 2 * k) / math.factorial(1 + 2 * k) + taylor_by_recursion(x, k + 1)


def test_a_polynomial_and_its_derivatives(x64):
    def f(x):
        return 4 * x**2 + 12 * x + 3

    value, grad = fx.withgradient(f, 4)
    assert abs(value - 115) < 1e-12 and abs(grad[0] - 44) < 1e-12
    assert abs(fx.gradient(lambda x: fx.gradient(f, x)[0], 4)[0] - 8) < 1e-12
    assert abs(fx.hessian(f, 4) - 8) < 1e-12
    assert fx.gradient(lambda x: fx.gradient(lambda y: fx.gradient(f, y)[0], x)[0], 4)[0] == 0


@pytest.mark.parametrize("sine", [taylor_by_loop, taylor_by_recursion])
@pytest.mark.parametrize("compiled", [False, True])
def test_through_loops_and_recursion(x64, sine, compiled):
    value, grad = fx.withgradient(fx.jit(sine) if compiled else sine, 0.6)
    assert abs(value - SINE) < 1e-12 and abs(grad[0] - COSINE) < 1e-12


def test_through_branches(x64):
    def power(x, n):
        if n == 0:
            return 1.0
        half = power(x, n // 2)
        return half * half * (x if n % 2 else 1.0)

    for n in range(1, 7):
        assert abs(fx.gradient(lambda x, n=n: power(x, n), 1.5)[0] - n * 1.5 ** (n - 1)) < 1e-12
    assert fx.gradient(lambda x: x**2 if x > 0 else -x, -3.0)[0] == -1


def test_an_affine_map_explicit_and_implicit(x64):
    W, b, x = jnp.arange(6.0).reshape(2, 3), jnp.array([1.0, -1.0]), jnp.array([0.5, 2.0, -3.0])
    explicit = fx.gradient(lambda W, b, x: (W @ x + b).sum(), W, b, x)
    implicit = fx.gradient(lambda: (W @ x + b).sum(), fx.params(W, b, x))
    expected = np.ones((2, 1)) * np.asarray(x)[None], np.ones(2), np.asarray(W).sum(0)
    for e, one, two in zip(expected, explicit, (implicit[W], implicit[b], implicit[x]), strict=True):
        np.testing.assert_array_equal(one, e)
        np.testing.assert_array_equal(two, e)


Pair = collections.namedtuple("Pair", "x label")


@dataclasses.dataclass
class Point:
    x: object
    n: int


def test_a_gradient_has_the_shape_of_its_argument():
    def f(items, table, pair, point, nested):
        return items[0] * items[1] * table["a"] * pair.x * point.x * nested[0][0]

    grads = fx.gradient(
        f, [2, 3.0, "s"], {"a": 1.5, "b": 7}, Pair(2.0, "label"), Point(jnp.array(4.0), 5), ((2.0, 1), None)
    )
    product = 2 * 3.0 * 1.5 * 2.0 * 4.0 * 2.0
    assert grads[0] == [None, product / 3, None]
    assert grads[1] == {"a": product / 1.5, "b": None}
    assert grads[2] == Pair(product / 2, None)
    assert (grads[3].x, grads[3].n) == (product / 4, None)
    assert grads[4] == ((product / 2, None), None)
    assert fx.gradient(lambda x, mode, flag: x if flag else -x, 1.0, "mode", True) == (1.0, None, None)
    assert fx.gradient(lambda: 3.0) == ()
    assert fx.gradient(lambda x: x["n"] * 1.0, {"n": jnp.array(3)}) == ({"n": None},)


def test_a_gradient_of_a_model_keeps_settings_and_skips_buffers():
    model = fx.Chain(fx.Dense(3, 4, fx.relu), fx.BatchNorm(4), fx.relu, fx.Dropout(0.0))
    (grads,) = fx.gradient(lambda m: m(jnp.ones((5, 3))).sum(), model)
    assert grads.layers[1].mean is None and grads.layers[1].scale.shape == (4,)
    assert grads.layers[0].activation is fx.relu and grads.layers[2] is fx.relu and grads.layers[3].p == 0.0


def test_gradients_of_a_model_against_finite_differences(x64):
    model = fx.f64(fx.Chain(fx.Dense(2, 3, fx.tanh), fx.LayerNorm(3), fx.Dense(3, 1)))
    x = jnp.array([[0.3, -0.7], [1.1, 0.2]])
    vector, rebuild = fx.destructure(model)

    def loss(m):
        return (m(x) ** 2).sum()

    flat = jnp.concatenate([g.ravel() for g in fx.trainables(fx.gradient(loss, model)[0])])
    values = jax.jit(jax.vmap(lambda v: loss(rebuild(v))))
    steps = 1e-6 * jnp.eye(vector.size)
    numeric = (values(vector[None] + steps) - values(vector[None] - steps)) / 2e-6
    np.testing.assert_allclose(flat, numeric, atol=1e-7)


def test_a_model_reached_by_the_function_is_the_argument():
    model = fx.Dense(3, 2)
    x = jnp.ones((5, 3))
    grads = fx.gradient(lambda m: model(x).sum(), model)[0]
    np.testing.assert_array_equal(grads.bias, [5.0, 5.0])
    grads = fx.gradient(lambda m: model(x).sum() + m(x).sum(), model)[0]
    np.testing.assert_array_equal(grads.bias, [10.0, 10.0])


def test_arguments_given_twice_count_separately():
    w = jnp.array(3.0)
    assert fx.gradient(lambda a, b: a * b**2, w, w) == (9.0, 18.0)
    layer = fx.Scale(1, bias=False)
    layer.scale = jnp.array([3.0])
    a, b = fx.gradient(lambda a, b: (a.scale * b.scale**2).sum(), layer, layer)
    assert (a.scale.item(), b.scale.item()) == (9.0, 18.0)
    assert fx.gradient(lambda a: (a * w).sum(), w) == (3.0,)  # the variable is another one


def test_auxiliary_results():
    model = fx.Dense(3, 2)
    value, grads = fx.withgradient(lambda m: (m(jnp.ones(3)).sum(), {"n": 3, "name": "s", "m": m, "y": None}), model)
    assert value[1] == {"n": 3, "name": "s", "m": model, "y": None} and value[1]["m"] is model
    assert grads[0].bias.tolist() == [1.0, 1.0] and isinstance(value[0], jax.Array)
    assert fx.withgradient(lambda x: Pair(x * 2, x), 3.0).value == Pair(6.0, 3.0)


def test_complex_arguments_follow_jax():
    np.testing.assert_allclose(
        fx.gradient(lambda z: jnp.abs(z) ** 2, 1 + 2j)[0], jax.grad(lambda z: jnp.abs(z) ** 2)(1 + 2j)
    )


# --------------------------------------------------------------------------------- pullback, jacobian, hessian


def test_pullback():
    model, x = fx.Dense(3, 2), jnp.arange(3.0)
    y, back = fx.pullback(lambda m, x: m(x), model, x)
    np.testing.assert_allclose(y, model(x), rtol=1e-6)
    grads, dx = back(jnp.array([1.0, -2.0]))
    np.testing.assert_allclose(dx, model.weight @ jnp.array([1.0, -2.0]), rtol=1e-6)
    np.testing.assert_allclose(grads.weight, np.outer(x, [1.0, -2.0]), rtol=1e-6)
    _, back = fx.pullback(lambda x: (x**2, {"twice": 2 * x}), 3.0)
    assert back((1.0, {"twice": 10.0})) == (26.0,)
    with pytest.raises(fx.ShapeError, match=r"back: expected a cotangent of shape \(2,\), got \(3,\)"):
        fx.pullback(model, x)[1](jnp.ones(3))


def test_jacobian(x64):
    A = jnp.arange(6.0).reshape(2, 3)
    x = jnp.array([0.1, 0.2, 0.3])
    np.testing.assert_allclose(fx.jacobian(lambda x: A @ jnp.sin(x), x)[0], A * jnp.cos(x)[None], rtol=1e-12)
    model = fx.f64(fx.Dense(3, 2))
    (jacobians,) = fx.jacobian(lambda m: m(x), model)
    assert jacobians.weight.shape == (2, 3, 2) and jacobians.bias.tolist() == [[1.0, 0.0], [0.0, 1.0]]
    with pytest.raises(fx.DTypeError, match="jacobian: expected the function to return an array, got tuple"):
        fx.jacobian(lambda x: (x, x), x)
    with pytest.raises(fx.DTypeError, match="expected real floating values, got dtype int"):
        fx.jacobian(lambda x: jnp.arange(3), x)


def test_hessian(x64):
    A = jnp.array([[2.0, 1.0], [1.0, 3.0]])
    x = jnp.array([0.3, -0.4])
    np.testing.assert_allclose(fx.hessian(lambda x: 0.5 * x @ A @ x, x), A, atol=1e-12)
    np.testing.assert_allclose(fx.hessian(lambda x: jnp.sin(x).sum(), x), jnp.diag(-jnp.sin(x)), atol=1e-12)
    with pytest.raises(fx.ArgumentError, match=r"expected one array, got Dense.*destructure"):
        fx.hessian(lambda m: 0.0, fx.Dense(2, 2))


def test_jax_inside_and_outside():
    model, x = fx.Dense(3, 1, fx.tanh), jnp.linspace(0, 1, 15).reshape(5, 3)

    def slope(x):
        return fx.gradient(lambda x: model(x).sum(), x)[0]

    expected = jnp.stack([slope(row) for row in x])
    np.testing.assert_allclose(jax.vmap(slope)(x), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.vmap(slope))(x), expected, rtol=1e-6)
    ours = fx.gradient(lambda m: (jax.vmap(jax.grad(lambda x: m(x).sum()))(x) ** 2).sum(), model)[0]
    theirs = jax.grad(lambda m: (jax.vmap(jax.grad(lambda x: m(x).sum()))(x) ** 2).sum())(model)
    np.testing.assert_allclose(ours.weight, theirs.weight, rtol=1e-5)

    def unrolled(w):
        return jax.lax.scan(lambda c, _: (jnp.sin(w * c), None), 1.0, None, length=3)[0]

    by_hand = jax.grad(lambda w: jnp.sin(w * jnp.sin(w * jnp.sin(w))))(0.7)
    np.testing.assert_allclose(fx.gradient(unrolled, 0.7)[0], by_hand, rtol=1e-6)


# ----------------------------------------------------------------------------------------- the implicit form

W = fx.Param(jnp.array([1.0, 2.0]))
BOXES = [fx.Param(jnp.ones(2)), fx.Param(jnp.ones(2))]
ARRAY = jnp.array([3.0, 4.0])
MODEL = fx.Dense(2, 1)


def loss_of_globals(x):
    return (W * BOXES[0] * ARRAY * x).sum() + MODEL(x).sum()


def test_implicit_gradients_of_globals():
    x = jnp.array([1.0, 10.0])
    ps = fx.params(W, BOXES, ARRAY, MODEL)
    assert len(ps) == 6 and len(list(ps)) == 6
    value, g = fx.withgradient(lambda: loss_of_globals(x) + 0 * BOXES[1].sum(), ps)
    assert value.shape == () and len(g) == 6
    assert g[W].tolist() == [3.0, 40.0] and g[BOXES[0]].tolist() == [3.0, 80.0] and g[BOXES[1]].tolist() == [0.0, 0.0]
    assert g[ARRAY].tolist() == [1.0, 20.0]
    assert g[MODEL].weight.tolist() == [[1.0], [10.0]] and g[MODEL.bias].tolist() == [1.0]


def test_implicit_gradients_of_a_closure_and_of_an_object():
    def make():
        a, b = jnp.ones(2), fx.Param(jnp.full(2, 3.0))
        return lambda: (a * b).sum()

    f = make()
    g = fx.gradient(f, fx.params(f))
    assert [x.tolist() for x in g] == [[3.0, 3.0], [1.0, 1.0]]

    class Trainer:
        def __init__(self):
            self.model = fx.Dense(3, 2)

        def loss(self, x):
            return self.model(x).sum()

        def gradients(self, x):
            return fx.gradient(lambda: self.loss(x), fx.params(self.model))

    trainer = Trainer()
    assert trainer.gradients(jnp.ones((5, 3)))[trainer.model.bias].tolist() == [5.0, 5.0]


def test_implicit_errors():
    w, other = jnp.ones(2), fx.Param(jnp.ones(3))
    with pytest.raises(fx.StateError, match=r"does not reach 1 of the 2 parameters \(number 1 of shape \(3,\)\)"):
        fx.gradient(lambda: w.sum(), fx.params(w, other))
    box = fx.Param(jnp.ones(2))
    g = fx.gradient(lambda: box.sum(), fx.params(box))
    assert g[box].tolist() == [1.0, 1.0]
    box -= 0.1 * g[box]
    with pytest.raises(fx.StateError, match=r"none of the parameters.*look gradients up before updating"):
        g[box]
    with pytest.raises(fx.StateError, match="expected a parameter or a model that has some, got str"):
        g["w"]
    with pytest.raises(fx.DTypeError, match="params: expected models, Params and arrays, got str"):
        fx.params("w")
    with pytest.raises(fx.ArgumentError, match="got none"):
        fx.params()


# -------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "f, error, text",
    [
        (lambda x: jnp.ones(2) * x, fx.ShapeError, r"expected the function to return a scalar, got shape \(2,\)"),
        (lambda x: jnp.array(1), fx.DTypeError, "expected a real floating value, got dtype int32"),
        (lambda x: x > 0, fx.DTypeError, "expected a real floating value, got dtype bool"),
        (lambda x: x * 1j, fx.DTypeError, "expected a real floating value, got dtype complex64"),
        (lambda x: None, fx.DTypeError, "to return a number, got NoneType. Does it end with return?"),
        (lambda x: "loss", fx.DTypeError, "to return a number, got str"),
        (lambda x: [x], fx.DTypeError, "to return a number, got list"),
        (lambda x: (), fx.DTypeError, "to return a number, got tuple"),
        (lambda x: True, fx.DTypeError, "to return a number, got bool"),
    ],
)
def test_what_is_no_loss(f, error, text):
    with pytest.raises(error, match=text):
        fx.gradient(f, 1.0)


def test_a_shape_has_no_gradient():
    with pytest.raises(fx.StateError, match="is a shape without values"):
        fx.gradient(lambda x: x, jax.ShapeDtypeStruct((), jnp.float32))


def test_equal_gradients_are_not_taken_for_tied_ones():
    model = {"a": fx.ones(3), "b": fx.zeros(3)}
    grads = fx.gradient(lambda m: (m["a"] + m["b"]).sum(), model)[0]
    assert [path for path, _ in fx.trainables(grads, path=True)] == ["['a']", "['b']"]
    assert fx.destructure(grads)[0].tolist() == [1.0] * 6
    (slow,) = fx.gradient(
        lambda m: fx.destructure(fx.gradient(lambda n: (n["a"] * n["b"]).sum(), m)[0])[0].sum(), model
    )
    assert slow["a"].tolist() == [1.0] * 3
