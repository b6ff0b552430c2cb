"""Pooling layers: what they print and refuse, that rows are independent, and that they stand in a model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (fx.MaxPool(2), "MaxPool(2)"),
        (fx.MaxPool(2, stride=2), "MaxPool(2)"),
        (fx.MaxPool([2, 2], stride=2), "MaxPool((2, 2))"),
        (fx.MaxPool((2, 3), stride=[2, 3], padding=(1, 1)), "MaxPool((2, 3), padding=1)"),
        (fx.MaxPool(3, stride=2, padding="same"), "MaxPool(3, stride=2, padding='same')"),
        (fx.MaxPool(np.int64(3), stride=(1, 2), padding=((0, 1), (1, 1))), None),
        (fx.MeanPool((2, 2), stride=1, count_padding=False), "MeanPool((2, 2), stride=1, count_padding=False)"),
        (fx.LpPool(2), "LpPool(2)"),
        (fx.LpPool(2, 1.5, stride=1), "LpPool(2, 1.5, stride=1)"),
        (fx.AdaptiveMaxPool([7, 7]), "AdaptiveMaxPool((7, 7))"),
        (fx.AdaptiveMeanPool(1), "AdaptiveMeanPool(1)"),
        (fx.GlobalMaxPool(), "GlobalMaxPool()"),
        (fx.GlobalMeanPool(), "GlobalMeanPool()"),
    ],
)
def test_printed(layer, text):
    assert repr(layer) == (text or "MaxPool(3, stride=(1, 2), padding=((0, 1), (1, 1)))")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fx.MaxPool(0), "MaxPool: expected kernel of whole numbers of at least 1, got 0"),
        (lambda: fx.MaxPool(2.5), "MaxPool: expected kernel of whole numbers of at least 1, got 2.5"),
        (lambda: fx.MaxPool(2, stride=0), "MaxPool: expected stride of whole numbers of at least 1, got 0"),
        (lambda: fx.MeanPool((2, 2), stride=(1,)), "MeanPool: expected stride to be a number or 2 of them"),
        (lambda: fx.LpPool(2, padding="sam"), "LpPool: expected padding to be numbers or \"same\", got 'sam'"),
        (lambda: fx.LpPool(2, -1), "LpPool: expected a power p > 0, got -1"),
        (lambda: fx.LpPool(2, "2"), "LpPool: expected a power p > 0, got '2'"),
        (lambda: fx.AdaptiveMaxPool(0), "AdaptiveMaxPool: expected output_size of whole numbers of at least 1, got 0"),
        (lambda: fx.AdaptiveMeanPool((2, None)), "AdaptiveMeanPool: expected output_size of whole numbers"),
    ],
)
def test_constructors_refuse(make, message):
    with pytest.raises(fx.ArgumentError, match=message):
        make()


def test_rows_are_independent():
    layers = [
        fx.MaxPool(3, stride=2, padding=1),
        fx.MeanPool(2),
        fx.LpPool(2),
        fx.AdaptiveMaxPool(3),
        fx.AdaptiveMeanPool(3),
        fx.GlobalMaxPool(),
        fx.GlobalMeanPool(),
    ]
    x = fx.randn(3, 5, 5, 2)

    @jax.jit
    def compute(x):
        together = [layer(x) for layer in layers]
        return together, [jax.vmap(lambda row, layer=layer: layer(row[None])[0])(x) for layer in layers]

    for together, alone in zip(*compute(x), strict=True):
        np.testing.assert_allclose(together, alone, rtol=1e-6)


def test_a_kernel_too_large_names_the_layer():
    model = fx.Chain(fx.MaxPool(2), fx.MaxPool(2), fx.flatten)
    with pytest.raises(fx.ShapeError) as caught:
        model(jnp.ones((1, 3, 3, 1)))
    assert str(caught.value) == (
        "model.layers[1] MaxPool(2): expected spatial axes of at least (2, 2) cells, the reach of the kernel, got "
        "(1, 1) with padding. Use a smaller kernel, fewer pooling layers before it, or padding."
    )


def test_integers_pass_through_a_layer():
    x = np.arange(8, dtype=np.uint8).reshape(1, 8, 1)
    assert fx.MaxPool(2)(x).dtype == fx.GlobalMaxPool()(x).dtype == np.uint8
    assert fx.MeanPool(2)(x).dtype == fx.AdaptiveMeanPool(3)(x).dtype == np.float32
    with pytest.raises(fx.DTypeError, match="expected one array, got a list of 2"):
        fx.MaxPool(2)([x, x])
