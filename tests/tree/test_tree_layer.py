"""Layers as JAX pytrees, errors that name their layer, and `Param`."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fluxion as fx
from fluxion.tree.layer import observing


def chain():
    w = jnp.full((3, 3), 0.5)
    return fx.Chain(fx.Dense(3, 4, fx.relu), fx.tanh, lambda x: x[:, :3] @ w, fx.Dense(3, 2))


X = jnp.linspace(-1, 1, 15).reshape(5, 3)


def test_a_chain_with_functions_works_in_jax():
    model = chain()
    grads = jax.grad(lambda m: m(X).sum())(model)
    ours = fx.gradient(lambda m: m(X).sum(), model)[0]
    assert isinstance(grads, fx.Chain) and len(jax.tree.leaves(grads)) == len(jax.tree.leaves(model)) == 5
    for a, b in zip(jax.tree.leaves(grads), fx.trainables(ours), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    np.testing.assert_allclose(jax.jit(lambda m, x: m(x))(model, X), model(X), rtol=1e-5)
    assert jax.eval_shape(lambda m: m(X), model).shape == (5, 2)


def test_jit_of_jax_sees_a_closure_that_was_trained():
    model = chain()
    compiled = jax.jit(lambda m, x: m(x))
    compiled(model, X)
    opt = fx.setup(fx.Descent(0.1), model)
    fx.update(opt, model, fx.gradient(lambda m: (m(X) ** 2).sum(), model)[0])
    np.testing.assert_allclose(compiled(model, X), model(X), rtol=1e-5)


def test_ensembles_by_vmap():
    models = [fx.Chain(fx.Dense(3, 4, fx.relu), fx.relu, fx.BatchNorm(4)) for _ in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *models)
    axes = jax.tree.map(lambda _: 0, stacked)
    assert axes.layers[0].weight == 0 and axes.layers[1] is fx.relu
    for in_axes in ((axes, None), (0, None)):
        y = jax.vmap(lambda m, x: m(x), in_axes=in_axes)(stacked, X)
        np.testing.assert_allclose(y, jnp.stack([m(X) for m in models]), rtol=1e-5)
    made = jax.vmap(lambda w: jax.tree.map(lambda a: a * w, models[0]))(jnp.arange(2.0))
    assert made.layers[0].weight.shape == (2, 3, 4)


def test_tree_map_to_anything_and_back():
    model = chain()
    nothing = jax.tree.map(lambda _: None, model)
    assert jax.tree.leaves(nothing) == []
    numbers = jax.tree.map(lambda a: a.size, model)
    assert jax.tree.leaves(numbers) == [12, 4, 9, 6, 2]
    again = jax.tree.map(lambda a, n: a.reshape(-1)[:n], model, numbers)
    assert [a.shape for a in jax.tree.leaves(again)] == [(12,), (4,), (9,), (6,), (2,)]
    numbers.layers = ()
    assert jax.tree.leaves(numbers) == []  # what was set since counts, not what tree.map had put there


def test_optax_takes_a_model_as_it_is():
    model = fx.Chain(fx.Dense(3, 4, fx.relu), fx.relu, fx.Dense(4, 1))
    rule = optax.adam(0.01)
    state = rule.init(model)

    @jax.jit
    def step(model, state):
        loss, grads = jax.value_and_grad(lambda m: (m(X) ** 2).mean())(model)
        updates, state = rule.update(grads, state, model)
        return optax.apply_updates(model, updates), state, loss

    losses = []
    for _ in range(30):
        model, state, loss = step(model, state)
        losses.append(float(loss))
    assert step._cache_size() == 1 and losses[-1] < losses[0] / 2
    updates, _ = rule.update(fx.gradient(lambda m: m(X).sum(), model)[0], state, model)  # our gradients fit too
    assert isinstance(optax.apply_updates(model, updates), fx.Chain)


def test_dicts_keep_their_order_and_paths_are_readable():
    class Blocks(fx.Layer):
        def __init__(self):
            self.parts = {"second": fx.Scale(1), "first": [jnp.ones(1), "name"]}

        def __call__(self, x):
            return x

    copied = jax.tree.map(lambda a: a, Blocks())
    assert list(copied.parts) == ["second", "first"] and copied.parts["first"][1] == "name"
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(Blocks())]
    assert paths[0] == ".parts['second'].scale"


def test_static_attributes_are_compared_by_value():
    class Sized(fx.Layer):
        def __init__(self, sizes):
            self.w, self.sizes = jnp.ones(1), sizes

        def __call__(self, x):
            return x * self.w * self.sizes[0]

    f = jax.jit(lambda m, x: m(x))
    model = Sized([2])
    assert f(model, 1.0)[0] == 2 and f(Sized([2]), 1.0)[0] == 2 and f._cache_size() == 1
    model.sizes[0] = 5  # the same list, another value
    assert f(model, 1.0)[0] == 5
    assert jax.tree.structure(Sized([1])) != jax.tree.structure(Sized([True]))


def test_class_keywords_and_generic_bases():
    class Option(fx.Layer):
        def __init_subclass__(cls, *, flavor="plain", **rest):
            super().__init_subclass__(**rest)
            cls.flavor = flavor

        def __call__(self, x):
            return x

    class Sweet(Option, flavor="sweet"):
        pass

    assert Sweet.flavor == "sweet" and Sweet()(1) == 1


# ---------------------------------------------------------------------------------------------------- errors

WAYS = {
    "eager": lambda m: m,
    "fx.jit": fx.jit,
    "jax.jit": jax.jit,
    "gradient": lambda m: lambda x: fx.gradient(lambda m: m(x).sum(), m),
    "gradient in jit": lambda m: fx.jit(lambda x: fx.gradient(lambda m: m(x).sum(), m)),
    "jit in gradient": lambda m: lambda x: fx.gradient(fx.jit(lambda m: m(x).sum()), m),
    "outputsize": lambda m: lambda x: fx.outputsize(m, x.shape),
}


@pytest.mark.parametrize("way", WAYS)
def test_an_error_names_its_layer(way):
    model = fx.Chain(fx.Dense(3, 4), fx.relu, fx.Chain(fx.relu), fx.Dense(999, 10))
    with pytest.raises(fx.ShapeError) as caught:
        WAYS[way](model)(X)
    assert str(caught.value).startswith("model.layers[3] Dense(999, 10): expected input (..., 999), got (5, 4)")
    nested = fx.Chain(block=fx.Chain(fx.relu, fx.SkipConnection(fx.Dense(9, 9), jnp.add)))
    with pytest.raises(fx.ShapeError, match=r"^model\.layers\['block'\]\.layers\[1\]\.layer Dense\(9, 9\): "):
        WAYS[way](nested)(X)


@pytest.mark.parametrize("way", WAYS)
def test_another_error_in_a_layer_gets_one_note(way):
    class Mine(fx.Layer):
        def __init__(self):
            self.w = jnp.ones(3)

        def __call__(self, x):
            return jnp.dot(self.w, "three")

    with pytest.raises(TypeError) as caught:
        WAYS[way](fx.Chain(fx.Dense(3, 3), fx.Chain(Mine())))(X)
    assert [note for note in caught.value.__notes__ if "Mine" in note] == ["In model.layers[1].layers[0] Mine()."]


def test_calls_by_mixin_and_by_super_are_located_and_observed_once():
    class Mixin:
        def __call__(self, x):
            return self.inner(x)

    class Model(Mixin, fx.Layer):
        def __init__(self):
            self.inner = fx.Dense(9, 2)

    with pytest.raises(fx.ShapeError, match=r"^model\.inner Dense\(9, 2\)"):
        Model()(X)

    class Twice(fx.Dense):
        def __call__(self, x):
            return 2 * super().__call__(x)

    seen = []
    with observing(lambda layer, inputs, out: seen.append(layer)):
        Twice(3, 2)(X)
    assert len(seen) == 1


# ----------------------------------------------------------------------------------------------------- Param


def test_param_is_its_array_in_arithmetic():
    w, plain, x = fx.Param(jnp.array([1.0, 4.0])), jnp.array([1.0, 4.0]), jnp.array([3.0, 5.0])
    for f in (
        lambda w: w + x,
        lambda w: x - w,
        lambda w: 2 * w / w**2,
        lambda w: 2**w,
        lambda w: -w,
        lambda w: abs(w) @ x,
        lambda w: x @ w,
        jnp.sin,
        jax.nn.softmax,
        fx.relu,
        lambda w: jnp.stack([w, w]),
        lambda w: jnp.einsum("i,i->", w, x),
        lambda w: jnp.where(w > 2, w, 0.0),
        lambda w: w.T.sum(),
        lambda w: w[0],
        lambda w: w.at[0].set(9),
        lambda w: jnp.stack(list(w)),
        lambda w: w == 4,
        lambda w: np.asarray(w),
        lambda w: w + w,
    ):
        np.testing.assert_allclose(f(w), f(plain), rtol=1e-6)
    assert len(w) == 2 and float(fx.Param(3.0)) == 3.0 and not fx.Param(0.0) and w.shape == (2,) and w in {w}
    assert repr(w) == "Param(array(f32[2]))"


def test_param_in_place():
    w = kept = fx.Param(jnp.ones(2))
    w -= 0.5
    w *= fx.Param(jnp.full(2, 4.0))
    assert w is kept and w.value.tolist() == [2.0, 2.0]
    other = copy.deepcopy(w)
    other += 1
    assert w.value.tolist() == [2.0, 2.0] and other.value.tolist() == [3.0, 3.0]


def test_param_is_a_pytree():
    w = fx.Param(jnp.ones(2))
    grads = jax.grad(lambda w: (w * w).sum())(w)
    assert isinstance(grads, fx.Param) and grads.value.tolist() == [2.0, 2.0]
    assert jax.tree.leaves(jax.tree.map(lambda _: None, w)) == []
