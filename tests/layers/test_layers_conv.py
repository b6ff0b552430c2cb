"""Convolution layers: torch's numbers and gradients, what they print, sizes inferred, refusals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against_torch import same_as_torch

import fluxion as fx
from fluxion.transform.sizes import autosize
from fluxion.tree.model import trainables, with_trainables

torch = pytest.importorskip("torch", reason="torch is the outside reference")
F = torch.nn.functional


def torchs(f, **options):
    """A function of torch's over our axes, with the activation."""

    def called(x, weight, bias):
        y = f(x.movedim(-1, 1), weight.movedim((-1, -2), (0, 1)), bias, **options)
        return y.movedim(1, -1).tanh()

    return called


@pytest.mark.parametrize(
    ("make", "theirs", "shape"),
    [
        (
            lambda: fx.Conv((3, 2), 4, 6, fx.tanh, stride=(2, 1), padding=1, dilation=(1, 2), groups=2),
            torchs(F.conv2d, stride=(2, 1), padding=1, dilation=(1, 2), groups=2),
            (2, 5, 4, 4),
        ),
        (lambda: fx.DepthwiseConv((3,), 2, 4, fx.tanh), torchs(F.conv1d, groups=2), (2, 5, 2)),
        (
            lambda: fx.ConvTranspose((2, 3), 4, 6, fx.tanh, stride=2, padding=(0, 1), output_padding=1, groups=2),
            torchs(F.conv_transpose2d, stride=2, padding=(0, 1), output_padding=1, groups=2),
            (2, 3, 2, 4),
        ),
    ],
)
def test_numbers_are_torchs(make, theirs, shape, x64):
    layer = make()
    random = np.random.default_rng(0)
    weight, bias = (random.normal(size=a.shape) for a in trainables(layer))
    same_as_torch(
        lambda x, weight, bias: with_trainables(layer, [weight, bias])(x),
        theirs,
        random.normal(size=shape),
        weight,
        bias,
    )


def test_rows_are_independent():
    layers = [
        fx.Conv((3,), 4, 4, padding="same", groups=2),
        fx.DepthwiseConv((3,), 4),
        fx.ConvTranspose((3,), 4, 2, stride=2),
        fx.Pad(1, "circular"),
    ]
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4, 4)))

    @jax.jit
    def both(x):
        return [(layer(x), jax.vmap(lambda row, layer=layer: layer(row[None])[0])(x)) for layer in layers]

    for together, alone in both(x):
        np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)


def made(text):
    """The layer that the text makes, without drawing weights."""
    return jax.eval_shape(lambda: eval(text, vars(fx)))


@pytest.mark.parametrize(
    ("written", "printed"),
    [
        ("Conv((3, 3), 1, 16)", None),
        ("Conv([3, 3], 1, 16, stride=(1, 1), padding=[0, 0])", "Conv((3, 3), 1, 16)"),
        ("Conv((3, 3), 1, 16, stride=(2, 2), padding=(1, 1))", "Conv((3, 3), 1, 16, stride=2, padding=1)"),
        ("Conv((3, 3), 1, 16, padding=((1, 1), (2, 2)))", "Conv((3, 3), 1, 16, padding=(1, 2))"),
        ("Conv((3,), 1, 16, padding=((1, 2),))", None),
        ("Conv((3,), 2, 4, relu, dilation=2, groups=2, flip=True, bias=False)", None),
        ("Conv((1, 2, 3), None, 4, padding='same', init=kaiming_uniform)", None),
        ("DepthwiseConv((3,), 4, 4, relu)", "DepthwiseConv((3,), 4, activation=relu)"),
        ("DepthwiseConv((3,), None, None, relu)", "DepthwiseConv((3,), None, activation=relu)"),
        ("DepthwiseConv((3,), 4, 8, relu, stride=2)", None),
        (
            "ConvTranspose((2, 2), 4, 8, stride=2, output_padding=(1, 1))",
            "ConvTranspose((2, 2), 4, 8, stride=2, output_padding=1)",
        ),
        ("Pad((1, 1))", None),
        ("Pad([[1, 1], [0, 2]], 'edge')", "Pad(((1, 1), (0, 2)), 'edge')"),
        ("Pad(2, value=1.0)", None),
    ],
)
def test_printed(written, printed):
    assert repr(made(written)) == (printed or written)
    assert repr(made(printed or written)) == (printed or written)


def test_weights_and_their_fans():
    assert made("Conv((3, 5), 4, 6, groups=2)").weight.shape == (3, 5, 2, 6)
    assert made("DepthwiseConv((3, 5), 4, 8)").weight.shape == (3, 5, 1, 8)
    assert made("ConvTranspose((3, 5), 4, 6, groups=2)").weight.shape == (3, 5, 3, 4)
    wide = fx.Conv((3, 5), 8, 32).weight
    limit = np.sqrt(6 / (15 * 8 + 15 * 32))
    assert 0.95 * limit < abs(wide).max() <= limit
    half = fx.Conv((3,), 1, 2, init=fx.ones(dtype=jnp.bfloat16))
    assert half.bias.dtype == jnp.bfloat16
    assert half(np.ones((1, 4, 1), int)).dtype == jnp.bfloat16


def test_identity_kernels_leave_the_input_alone():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 4, 3)), jnp.float32)
    for layer in (
        fx.Conv((3, 3), 3, 3, padding="same", init=fx.identity_init),
        fx.ConvTranspose((3, 3), 3, 3, padding="same", init=fx.identity_init),
    ):
        np.testing.assert_array_equal(layer(x), x)


def test_transpose_goes_back_where_conv_went():
    for size in (7, 8):
        there = fx.Conv((3,), 2, 4, stride=2, padding=1, init=fx.ones)
        back = fx.ConvTranspose((3,), 4, 2, stride=2, padding=1, output_padding=(size - 1) % 2, init=fx.ones)
        assert fx.outputsize(fx.Chain(there, back), (None, size, 2)) == (None, size, 2)


def test_sizes_are_inferred_along_a_chain():
    model = fx.Chain(
        fx.Pad(1),
        fx.Conv((3, 3), None, 6, fx.relu, init=fx.ones),
        fx.DepthwiseConv((3, 3), None, init=fx.ones),
        fx.ConvTranspose((2, 2), None, 3, stride=2, init=fx.ones),
    )
    autosize(model, (None, 8, 8, 2))
    assert [a.shape for a in trainables(model)] == [(3, 3, 2, 6), (6,), (3, 3, 1, 6), (6,), (2, 2, 3, 6), (3,)]
    assert repr(model[2]) == "DepthwiseConv((3, 3), 6)"
    assert fx.outputsize(model, (None, 8, 8, 2)) == (None, 12, 12, 3)


X = np.ones((8, 28, 28, 3))
Drawless = functools.partial(fx.Conv, init=fx.ones)  # one that costs no compilation


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: fx.Conv(3, 1, 16),
            r"Conv: expected a kernel of one size per .*, got 3. Use \(3,\) for seq.*\(3, 3\) for",
        ),
        (lambda: fx.Conv((3, 0), 1, 16), "Conv: expected kernel of whole numbers of at least 1"),
        (lambda: fx.Conv((3,) * 4, 1, 16), "Conv: expected a kernel of 1 to 3 sizes"),
        (lambda: fx.Conv((3,), 0, 16), "Conv: expected a positive whole number for in_channels, got 0"),
        (lambda: fx.Conv((3,), 1, None), "Conv: expected a positive whole number for out_channels, got None"),
        (lambda: fx.Conv((3,), 1, 1, "relu"), "Conv: expected a function for activation, got 'relu'"),
        (lambda: fx.Conv((3,), 1, 1, stride=0), "Conv: expected stride of whole numbers of at least 1, got 0"),
        (lambda: fx.Conv((3,), 1, 1, padding=-1), "Conv: expected padding of whole numbers of at least 0, got -1"),
        (lambda: fx.Conv((3,), 1, 1, padding="full"), "Conv: expected padding to be numbers or \"same\", got 'full'"),
        (lambda: fx.Conv((3,), 1, 1, dilation=1.5), "Conv: expected dilation of whole numbers of at least 1, got 1.5"),
        (lambda: fx.Conv((3,), 4, 6, groups=0), "Conv: expected a positive whole number for groups, got 0"),
        (
            lambda: fx.Conv((3,), 4, 6, groups=4),
            "Conv: expected groups that divide the channels in and out, got 4 groups for 4 channels in and 6 out.",
        ),
        (lambda: fx.ConvTranspose((3,), None, 5, groups=2), "ConvTranspose: expected groups that divide"),
        (
            lambda: autosize(fx.Conv((3,), None, 4, groups=2), (None, 8, 3)),
            r"Conv\(\(3,\), None, 4, groups=2\): expected groups that divide .* The input has shape \(1, 8, 3\).",
        ),
        (lambda: autosize(fx.Conv((3, 3), None, 4), (28, 28, 3)), r"Add a batch axis: x\[None\], or a channel axis"),
        (
            lambda: fx.DepthwiseConv((3,), 4, 6),
            "DepthwiseConv: expected out_channels that are a multiple of in_channels, got 6 for 4 channels in.",
        ),
        (
            lambda: fx.ConvTranspose((3,), 1, 1, stride=2, output_padding=2),
            "ConvTranspose: expected output_padding smaller than stride or dilation, got 2",
        ),
        (lambda: Drawless((3, 3), 3, 4)(X[0]), r"got \(28, 28, 3\). Add a batch axis: x\[None\].$"),
        (lambda: Drawless((3, 3), 1, 4)(X[..., 0]), r"got \(8, 28, 28\). Add a channel axis: x\[..., None\].$"),
        (
            lambda: Drawless((3, 3), 3, 4)(np.moveaxis(X, -1, 1)),
            r"Conv\(\(3, 3\), 3, 4\): expected input .*, got \(8, 3, 28, 28\). Give it with channels last",
        ),
        (lambda: Drawless((29, 29), 3, 4)(X), r"expected spatial axes of at least \(29, 29\) cells"),
        (lambda: Drawless((3, 3), 3, 4)(X.astype(str)), "expected an array of numbers, got dtype"),
        (lambda: fx.Pad("same"), "Pad: expected padding to be numbers, got 'same'"),
        (lambda: fx.Pad((1, -1)), r"Pad: expected padding of whole numbers of at least 0, got \(1, -1\)"),
        (lambda: fx.Pad(1, "mirror"), "Pad: expected a mode out of"),
        (lambda: fx.Pad((1, 1))(X[..., 0]), r"expected input \(batch, height, width, channels\), got \(8, 28, 28\)"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(fx.FluxionError, match=message):
        make()
