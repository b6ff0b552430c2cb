"""The constructor call back, and the long form."""

import dataclasses
import functools

import jax.numpy as jnp
import pytest

import fluxion as fx


class Residual(fx.Layer):
    def __init__(self, width):
        self.inner = fx.Dense(width, width, fx.relu)
        self.scale = jnp.ones(width)

    def __call__(self, x):
        return x + self.inner(x) * self.scale


class Known(fx.Layer):
    def __init__(self, width, *, power=2, name="k"):
        self.width, self.power, self.name = width, power, name

    def __call__(self, x):
        return x


@dataclasses.dataclass
class Data:
    w: object
    n: int

    def __call__(self, x):
        return x * self.w


class Bare:
    def __init__(self):
        self.w = jnp.ones(3)

    def __call__(self, x):
        return x * self.w


def double(x):
    return 2 * x


@pytest.mark.parametrize(
    "layer, text",
    [
        (fx.Dense(784, 10), "Dense(784, 10)"),
        (fx.Dense(3, 2, fx.relu, bias=False), "Dense(3, 2, relu, bias=False)"),
        (fx.Dense(None, 2), "Dense(None, 2)"),
        (fx.BatchNorm(4, momentum=0.2), "BatchNorm(4, momentum=0.2)"),
        (fx.Chain(first=fx.Dropout(0.2), second=fx.flatten), "Chain(first=Dropout(0.2), second=flatten)"),
        (Known(3), "Known(3)"),
        (Known(3, name="other"), "Known(3, name='other')"),
        (Residual(2), "Residual(inner=Dense(2, 2, relu), scale=array(f32[2]))"),
        (fx.Chain(Data(jnp.ones(3), 2)), "Chain(Data(w=array(f32[3]), n=2))"),
        (fx.Chain(Bare()), "Chain(Bare(w=array(f32[3])))"),
        (fx.Chain(lambda x: x, double), "Chain(<lambda>, double)"),
        (fx.Chain(functools.partial(jnp.sum, axis=-1)), "Chain(partial(sum, axis=-1))"),
        (fx.Chain(fx.Dense(2, 2).__call__), "Chain(Dense(2, 2).__call__)"),
        (fx.jit(fx.Dense(2, 2)), "jit(Dense(2, 2))"),
        (fx.gradient(lambda m: m(jnp.ones(2)).sum(), fx.Dense(2, 2))[0], "Dense(2, 2)"),
    ],
)
def test_repr_is_the_constructor_call(layer, text):
    assert repr(layer) == text


def test_what_is_printed_makes_the_model_again():
    model = fx.Chain(
        fx.Dense(3, 4, fx.relu), fx.BatchNorm(4), fx.SkipConnection(fx.Dense(4, 4), jnp.add), fx.Dropout(0.1)
    )
    names = {name: getattr(fx, name) for name in fx.__all__} | {"add": jnp.add}
    for text in (repr(model), str(model)):
        assert repr(eval(text, names)) == repr(model)


def test_long_form():
    model = fx.Chain(fx.Dense(784, 128, fx.relu), fx.Dropout(0.2), fx.Dense(128, 10))
    assert str(model).splitlines() == [
        "Chain(",
        "  Dense(784, 128, relu),                # 100_480 parameters",
        "  Dropout(0.2),",
        "  Dense(128, 10),                       # 1_290 parameters",
        ")                                       # Total: 4 arrays, 101_770 parameters, 407_080 bytes.",
    ]


def test_the_long_form_notes_unusual_values_and_buffers():
    model = fx.Chain(fx.Dense(1, 1), fx.Dense(2, 2), fx.Dense(3, 3), fx.BatchNorm(4))
    model.layers[0].weight = jnp.array([[jnp.nan]])
    model.layers[1].bias = jnp.array([1.0, jnp.inf])
    model.layers[2].weight = jnp.zeros((3, 3))
    notes = [line.partition("#")[2].strip() for line in str(model).splitlines()]
    assert notes[1:] == [
        "2 parameters (some NaN)",
        "6 parameters (some Inf)",
        "12 parameters (all zero)",
        "8 parameters, 8 buffer values",
        "Total: 8 arrays, 28 parameters, 112 bytes. Plus 2 buffers, 8 values, 32 bytes.",
    ]


def test_tied_layers_count_once_in_the_total():
    layer = fx.Dense(2, 2)
    assert "Total: 2 arrays, 6 parameters, 24 bytes." in str(fx.Chain(layer, layer))


def test_a_layer_that_holds_itself():
    class Loop(fx.Layer):
        def __init__(self, inner=None):
            self.inner = self

        def __call__(self, x):
            return x

    assert repr(Loop()) == "Loop(...)"


def test_precisions_print_short():
    class One(fx.Layer):
        def __init__(self, dtype):
            self.value = jnp.ones((2, 3), dtype)

        def __call__(self, x):
            return x

    for dtype, short in [
        ("bfloat16", "bf16"),
        ("int32", "i32"),
        ("uint8", "u8"),
        ("bool", "bool"),
        ("complex64", "c64"),
    ]:
        assert repr(One(dtype)) == f"One(value=array({short}[2,3]))"


def test_a_layer_with_a_repr_of_its_own_is_shown_by_it():
    class Named(fx.Layer):
        def __init__(self):
            self.weight = jnp.ones(2)

        def __call__(self, x):
            return x * self.weight

        def __repr__(self):
            return "<named>"

    assert repr(fx.Chain(Named(), fx.relu)) == "Chain(<named>, relu)"
