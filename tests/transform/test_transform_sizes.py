"""Shapes without arithmetic, sizes that were left out, the summary."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx
from fluxion.transform.sizes import ensure_sized


def test_outputsize_is_the_shape_of_the_output():
    model = fx.Chain(fx.flatten, fx.Dense(12, 5, fx.relu), fx.BatchNorm(5), fx.Dense(5, 2))
    for shape in ((7, 3, 4), (1, 12), (2, 2, 2, 3)):
        assert fx.outputsize(model, shape) == model(jnp.zeros(shape)).shape
    assert fx.outputsize(model, (None, 3, 4)) == (None, 2)
    assert fx.outputsize(lambda a, b: {"sum": a.sum(), "b": b}, ((None, 3), (None, 2))) == {"sum": (), "b": (None, 2)}
    assert fx.outputsize(lambda a, b: a + b, ((4, 3), (4, 3))) == (4, 3)
    assert fx.outputsize(fx.Embedding(10, 4), (None, 6), dtype=int) == (None, 6, 4)
    assert fx.outputsize(lambda x: x, jax.ShapeDtypeStruct((2, 3), jnp.int32)) == (2, 3)
    assert fx.outputsize(lambda x: x, (np.int64(4), 3)) == (4, 3)
    assert fx.outputsize(lambda x: x, ()) == ()


def test_nothing_is_drawn_and_nothing_changes():
    model = fx.trainmode(fx.Chain(fx.Dense(3, 4), fx.Dropout(0.5), fx.BatchNorm(4)))
    mean = model.layers[2].mean
    fx.seed(3)
    expected = fx.randn(4)
    fx.seed(3)
    fx.outputsize(model, (8, 3))
    fx.summary(model, (8, 3))
    fx.autosize(model, (8, 3))
    np.testing.assert_array_equal(fx.randn(4), expected)
    assert model.layers[2].mean is mean


@pytest.mark.parametrize("shape", [784, "ab", None, (2.5, 3), (3, -1), (3, None), (True, 3), ((None, 3), "b")])
def test_what_is_no_shape(shape):
    with pytest.raises(fx.ArgumentError, match="expected a shape such as"):
        fx.outputsize(fx.Dense(3, 2), shape)


def unsized():
    return fx.Chain(fx.flatten, fx.Dense(None, 8, fx.relu), fx.BatchNorm(None), fx.Dense(8, 4), fx.Dense(None, 2))


def test_autosize_fills_in_and_keeps_what_is_there():
    model = unsized()
    kept = model.layers[3].weight
    assert fx.autosize(model, (None, 3, 4)) is model
    assert repr(model) == "Chain(flatten, Dense(12, 8, relu), BatchNorm(8), Dense(8, 4), Dense(4, 2))"
    assert model.layers[3].weight is kept
    weights = fx.trainables(model)
    fx.autosize(model, (None, 3, 4))
    assert all(a is b for a, b in zip(weights, fx.trainables(model), strict=True))
    assert not any("seen" in name for layer in fx.modules(model) for name in vars(layer))


def test_an_inferred_layer_is_drawn_like_one_with_sizes():
    fx.seed(5)
    inferred = fx.autosize(fx.Chain(fx.Dense(None, 8), fx.Dense(None, 2)), (None, 3))
    fx.seed(5)
    given = fx.Chain(fx.Dense(3, 8), fx.Dense(8, 2))
    for a, b in zip(fx.trainables(inferred), fx.trainables(given), strict=True):
        np.testing.assert_array_equal(a, b)


def test_autosize_through_inner_transforms():
    class Slope(fx.Layer):
        def __init__(self):
            self.net = fx.Chain(fx.Dense(None, 4, fx.tanh), fx.jit(fx.Dense(None, 1)))

        def __call__(self, x):
            return fx.gradient(lambda x: self.net(x).sum(), x)[0]

    model = fx.autosize(Slope(), (None, 3))
    assert [a.shape for a in fx.trainables(model)] == [(3, 4), (4,), (4, 1), (1,)]
    assert not any(isinstance(a, jax.core.Tracer) for a in fx.trainables(model))
    assert model(jnp.ones((2, 3))).shape == (2, 3)


def test_a_layer_without_sizes_says_what_to_do():
    for call in (lambda m, x: m(x), lambda m, x: fx.jit(m)(x), lambda m, x: fx.gradient(lambda m: m(x).sum(), m)):
        with pytest.raises(fx.StateError) as caught:
            call(unsized(), jnp.ones((2, 3, 4)))
        assert str(caught.value) == (
            "model.layers[1] Dense(None, 8, relu): the input size is not known yet, the input has shape (2, 12). "
            "Call fx.autosize(model, input_shape) first, or give the size."
        )


def test_errors_of_the_model_are_its_own():
    model = fx.Chain(fx.Dense(None, 4), fx.Dense(999, 2))
    for ask in (fx.outputsize, fx.autosize, fx.summary):
        with pytest.raises((fx.ShapeError, fx.StateError), match=r"^model\.layers\["):
            ask(model, (None, 3))
    assert model.layers[0].unsized  # all or nothing


def test_summary_counts():
    shared = fx.Dense(8, 8)
    model = fx.Chain(fx.Dense(None, 8), shared, fx.relu, shared, fx.BatchNorm(8), fx.Dropout(0.5))
    table = fx.summary(model, (32, 3))
    assert table.parameters == 3 * 8 + 8 + 8 * 8 + 8 + 16
    rows = {row.path: row for row in table.rows}
    assert list(rows) == ["layers[0]", "layers[1]", "layers[4]", "layers[5]"]
    assert rows["layers[1]"].output_shape == (32, 8) and rows["layers[1]"].bytes == 4 * 72
    assert rows["layers[5]"].parameters == 0
    assert table.parts["parameters"] == table.parts["gradients"] == 4 * table.parameters
    assert table.parts["optimizer"] == 8 * table.parameters and table.parts["buffers"] == 4 * 16
    assert table.parts["activations"] == 4 * 32 * 8 * 5  # each call of the shared layer counts
    assert table.training_bytes == sum(table.parts.values())
    text = repr(table)
    assert text.splitlines()[0].split() == ["path", "layer", "output", "shape", "parameters", "bytes"]
    assert "Dense(3, 8)" in text and f"{table.parameters:_} parameters" in text
    opt = fx.setup(fx.Momentum(0.1), model)
    assert fx.summary(model, (32, 3), opt=opt).parts["optimizer"] < table.parts["optimizer"]


def test_summary_of_other_models():
    assert fx.summary(fx.Dense(3, 2), (4, 3)).rows[0].path == "model"
    layer = fx.Dense(3, 2)
    table = fx.summary(lambda x: layer(x) * 2, (None, 3))
    assert [(row.path, row.output_shape) for row in table.rows] == [("layer", (1, 2))]
    assert [row.output_shape for row in fx.summary(fx.Chain(fx.jit(layer)), (4, 3)).rows] == [(4, 2)]
    unused = fx.summary({"a": layer}["a"].__call__, (4, 3))
    assert unused.parameters == 8


def test_layers_made_while_sizing_get_their_sizes_too():
    class Block(fx.Layer):
        inner = None

        @property
        def unsized(self):
            return self.inner is None

        def infer(self, shape):
            self.inner = fx.Chain(fx.Dense(None, 4), fx.Dense(None, shape[-1]))

        def __call__(self, x):
            ensure_sized(self, x)
            return self.inner(x)

    model = fx.autosize(fx.Chain(Block(), fx.Dense(None, 2)), (None, 3))
    assert [a.shape for a in fx.trainables(model)] == [(3, 4), (4,), (4, 3), (3,), (3, 2), (2,)]
