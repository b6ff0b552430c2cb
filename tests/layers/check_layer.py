"""The contract every layer keeps, whatever it computes."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx
from fluxion.transform.sizes import autosize, outputsize
from fluxion.tree.model import bf16, f16, f32, f64, load_state, state, trainables, with_trainables
from fluxion.tree.walk import scan

TOLERANCE = {np.float32: 1e-4, np.float16: 2e-2, jnp.bfloat16: 1e-1}


def case(**arguments):
    """One case of a layer: the arguments of `check_layer`, `inputs` being a list."""
    return arguments


def check_layer(
    make,
    *inputs,
    unsized=None,
    wrong=None,
    match="expected.*got",
    independent=True,
    gradients=True,
    namespace=None,
    folder=None,
):
    """Hold a layer to the contract. To be run under the `x64` fixture.

    `make()` makes the layer. `inputs` are shapes, filled with normal numbers, or integer arrays. `unsized()` makes
    it with sizes left out. `wrong` is a tuple of inputs that it must refuse, with a message that `match` finds.
    `independent` says that a row of the output depends on that row of the input only, in test mode; `gradients=False`
    that finite differences do not apply. `namespace` are
    the names, beside Fluxion's, that its printed form needs. In `folder` it is saved and loaded.
    """
    layer = f64(make())
    xs = arrays_of(inputs, np.float64)
    check_shapes(layer, xs)
    check_transformed(layer, xs, gradients)
    if independent:
        check_rows(layer, xs)
    check_dtypes(layer, inputs)
    check_copies(layer, make, xs, folder)
    check_printed(layer, xs, namespace or {})
    if unsized is not None:
        check_unsized(make, unsized, xs)
    if wrong is not None:
        check_refused(layer, arrays_of(wrong, np.float64), match)


def arrays_of(inputs, dtype):
    random = np.random.default_rng(1)
    filled = (random.normal(size=x).astype(dtype) if isinstance(x, tuple) else x.astype(np.int32) for x in inputs)
    return tuple(map(jnp.asarray, filled))


def close(a, b, rtol=1e-12):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        left, right = (np.asarray(x).astype(np.float64) for x in (left, right))
        np.testing.assert_allclose(left, right, rtol=rtol, atol=rtol)


def modes_of(layer):
    """The layer, which is in test mode, and a copy of it in training mode where that makes a difference."""
    differs = any(hasattr(type(node.original), "training") for node in scan(layer).nodes)
    return [layer, fx.trainmode(copy.deepcopy(layer))] if differs else [layer]


def check_shapes(layer, xs):
    """The inferred shape is the real one."""
    real = jax.tree.map(jnp.shape, layer(*xs), is_leaf=lambda x: hasattr(x, "shape"))
    assert outputsize(layer, xs if len(xs) > 1 else xs[0]) == real


def check_transformed(layer, xs, gradients):
    """In both modes: compiled equals eager, state included; test mode changes nothing; gradients with respect to
    parameters and inputs are those of finite differences; no tracer stays behind."""
    floating = [i for i, x in enumerate(xs) if jnp.issubdtype(x.dtype, jnp.floating)]
    random = np.random.default_rng(2)
    for m in modes_of(layer):

        def loss(variables, m=m):
            parameters, some = variables
            every = list(xs)
            for i, x in zip(floating, some, strict=True):
                every[i] = x
            m = with_trainables(m, parameters)
            with fx.randomness(jax.random.key(0)):
                out = m(*every)
            # A plain sum would hide errors where outputs sum to a constant, as after a normalization.
            weighted = (jnp.sin(jnp.arange(y.size).reshape(y.shape)) * y for y in jax.tree.leaves(out))
            return sum(y.sum() for y in weighted), (out, state(m))

        before = state(m)
        f = jax.jit(jax.value_and_grad(loss, has_aux=True))
        at = (trainables(m), [xs[i] for i in floating])
        (_, compiled), gradient = f(at)
        assert all(a is b for a, b in zip(before.values(), state(m).values(), strict=True))
        with fx.randomness(jax.random.key(0)):
            close(compiled, (m(*xs), state(m)))
        if m is layer:
            assert all(a is b for a, b in zip(before.values(), state(m).values(), strict=True))
        for _ in range(3 if gradients else 0):
            way = jax.tree.map(lambda x: random.normal(size=x.shape), at)
            ahead, behind = (f(jax.tree.map(lambda x, d, h=h: x + h * d, at, way))[0][0] for h in (1e-5, -1e-5))
            slope = sum((g * d).sum() for g, d in zip(*map(jax.tree.leaves, (gradient, way)), strict=True))
            np.testing.assert_allclose(slope, (ahead - behind) / 2e-5, rtol=1e-6, atol=1e-7)


def check_rows(layer, xs):
    """In test mode rows do not know of each other, called one by one or with `jax.vmap` over batches of one."""
    together = layer(*xs)
    alone = layer(*(x[1:2] for x in xs))
    close(jax.tree.map(lambda y: y[1:2], together), alone, 1e-10)
    batches = [x[:, None] for x in xs]
    close(jax.jit(jax.vmap(layer))(*batches), jax.tree.map(lambda y: y[:, None], together), 1e-10)


def check_dtypes(layer, inputs):
    """The output has the dtype of the layer and its input, and the values too; buffers keep theirs in training."""

    def run(m, *xs):  # the layer is a pytree here
        with fx.randomness(jax.random.key(0)):
            return m(*xs), state(m)

    casts = {np.float64: f64, np.float32: f32, np.float16: f16, jnp.bfloat16: bf16}
    given = {dtype: (casts[dtype](layer), arrays_of(inputs, dtype)) for dtype in casts}
    for dtype, (m, xs) in given.items():
        for mode in modes_of(m):
            y, after = jax.eval_shape(run, mode, *xs)
            assert all(y.dtype == dtype for y in jax.tree.leaves(y))
            assert all(a.dtype == after[path].dtype for path, a in state(m).items())
    exact = layer(*given.pop(np.float64)[1])
    found = jax.jit(lambda every: [run(m, *xs)[0] for m, xs in every])(list(given.values()))  # one compilation
    for y, dtype in zip(found, given, strict=True):
        close(y, exact, TOLERANCE[dtype])


def check_copies(layer, make, xs, folder):
    """A deep copy, a layer with this one's state, and one saved and loaded, all compute the same."""
    expected = layer(*xs)
    twin = copy.deepcopy(layer)
    assert not {id(a) for a in trainables(twin)} & {id(a) for a in trainables(layer)}
    close(twin(*xs), expected, 0)
    close(load_state(f64(make()), state(layer))(*xs), expected, 0)
    if folder is not None:
        path = folder / "layer.safetensors"
        fx.save(path, layer)
        own = "add" in repr(layer)  # a function that is not the library's
        loaded = fx.loadmodel(f64(make()), path) if own else fx.load(path)
        assert repr(loaded) == repr(layer)
        assert jax.tree.structure(loaded) == jax.tree.structure(layer)
        close(loaded(*xs), expected, 0)


def check_printed(layer, xs, namespace):
    """`repr` and `str` are Python that makes a layer of the same structure."""
    for text in (repr(layer), str(layer)):
        again = f64(eval(text, {**vars(fx), **namespace}))
        assert repr(again) == repr(layer)
        assert jax.tree.map(jnp.shape, state(again)) == jax.tree.map(jnp.shape, state(layer))
        again = load_state(again, state(layer))
        close(again(*xs), layer(*xs), 0)
        assert jax.tree.structure(again) == jax.tree.structure(layer)


def check_unsized(make, unsized, xs):
    """With sizes left out, the layer says so until `autosize`, and is then the layer with the sizes given."""
    m = unsized()
    assert "None" in repr(m)
    with pytest.raises(fx.StateError, match=r"fx.autosize\(model, input_shape\)"):
        m(*xs)
    with pytest.raises(fx.StateError, match="no input size yet"):
        trainables(m)
    assert autosize(m, xs if len(xs) > 1 else xs[0]) is m
    assert not any(isinstance(leaf, jax.core.Tracer) for leaf in scan(m).leaves)
    made = make()
    assert repr(m) == repr(made)
    assert jax.tree.structure(m) == jax.tree.structure(made)
    assert jax.tree.map(jnp.shape, state(m)) == jax.tree.map(jnp.shape, state(made))
    load_state(m, state(made))
    close(m(*xs), made(*xs), 0)


def check_refused(layer, wrong, match):
    """A wrong input is refused with path, layer, what was expected and what came."""
    for model, path in ((layer, "model "), (fx.Chain(fx.identity, layer), "model.layers[1] ")):
        with pytest.raises(fx.FluxionError, match=match) as caught:
            model(*wrong)
        assert str(caught.value).startswith(f"{path}{layer!r}: "), str(caught.value)
