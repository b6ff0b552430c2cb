"""Convolution and its transpose: torch's numbers and first and second derivatives, the rule of "same", refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from against_torch import same_as_torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fluxion as fx

torch = pytest.importorskip("torch", reason="torch is the outside reference")
F = torch.nn.functional

randomized = settings(
    max_examples=4, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@st.composite
def convolutions(draw, transposed=False):
    """Options of a convolution and an input size along each axis that leaves at least one window."""
    dims = draw(st.integers(1, 3))

    def axes(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(dims))

    kernel, stride, dilation = axes(1, 4 - (dims == 3)), axes(1, 3), axes(1, 2)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    padding = draw(st.sampled_from(["same", "one", "symmetric", "pairs"]))
    pairs = {
        "one": ((1, 1),) * dims,
        "symmetric": tuple((p, p) for p in axes(0, 2)),
        "pairs": tuple(zip(axes(0, 2), axes(0, 1), strict=True)),
        "same": ((0, 0),) * dims,
    }[padding]
    more = axes(0, 3)
    if transposed:
        size = tuple(-(-(sum(p) + m + 1) // s) + 1 for p, s, m in zip(pairs, stride, more, strict=True))
    else:
        size = tuple(max(r - sum(p), 1) + m for r, p, m in zip(reach, pairs, more, strict=True))
    written = {"one": 1, "symmetric": tuple(low for low, _ in pairs)}.get(padding, pairs)
    return {
        "dims": dims,
        "batch": draw(st.integers(1, 2)),
        "size": size,
        "channels": (draw(st.integers(1, 2)), draw(st.integers(1, 2))),
        "kernel": kernel,
        "pairs": None if padding == "same" else pairs,
        "output_padding": tuple(
            draw(st.integers(0, max(s, d) - 1)) * (padding != "same") for s, d in zip(stride, dilation, strict=True)
        ),
        "options": {
            "stride": stride[0] if len(set(stride)) == 1 else stride,
            "padding": "same" if padding == "same" else written,
            "dilation": dilation,
            "groups": draw(st.sampled_from([1, 2, 3])),
            "flip": draw(st.booleans()),
        },
    }


def tensorflow_same(n, k, s, d):
    """The padding of SAME as TensorFlow documents it (tf.nn.convolution, "Notes on padding"), the odd cell high."""
    reach = (k - 1) * d + 1
    total = max(reach - s, 0) if n % s == 0 else max(reach - n % s, 0)
    return total // 2, total - total // 2


def for_torch(c):
    """Stride and dilation as tuples, and the arrays' axes as torch has them."""
    stride = c["options"]["stride"]
    return (stride,) * c["dims"] if isinstance(stride, int) else stride, c["options"]["dilation"]


def torchs_conv(c, x, weight):
    stride, dilation = for_torch(c)
    pairs = c["pairs"] or tuple(map(tensorflow_same, c["size"], c["kernel"], stride, dilation))
    if c["options"]["flip"]:
        weight = weight.flip(tuple(range(c["dims"])))
    if len(set(map(len, map(set, pairs)))) == 1 and all(low == high for low, high in pairs):
        padding = tuple(low for low, _ in pairs)
    else:
        padding = 0
        x = F.pad(x, (0, 0, *(p for pair in reversed(pairs) for p in pair)))
    x, weight = x.movedim(-1, 1), weight.movedim((-1, -2), (0, 1))
    convolve = (F.conv1d, F.conv2d, F.conv3d)[c["dims"] - 1]
    return convolve(x, weight, None, stride, padding, dilation, c["options"]["groups"]).movedim(1, -1)


def torchs_conv_transpose(c, x, weight):
    stride, dilation = for_torch(c)
    if c["options"]["flip"]:
        weight = weight.flip(tuple(range(c["dims"])))
    x, weight = x.movedim(-1, 1), weight.movedim((-1, -2), (0, 1))
    convolve = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[c["dims"] - 1]
    pairs = c["pairs"]
    symmetric = all(low == high for low, high in pairs)
    padding = tuple(low for low, _ in pairs) if symmetric else 0
    y = convolve(x, weight, None, stride, padding, c["output_padding"], c["options"]["groups"], dilation).movedim(1, -1)
    if not symmetric:
        y = y[(slice(None), *(slice(low, n - high) for n, (low, high) in zip(y.shape[1:-1], pairs, strict=True)))]
    return y


def arrays(c, transposed=False):
    random = np.random.default_rng(0)
    first, second = c["channels"]
    groups = c["options"]["groups"]
    given = second * groups if transposed else first * groups
    return (
        random.normal(size=(c["batch"], *c["size"], given)),
        random.normal(size=(*c["kernel"], first, second * groups)),
    )


def with_gradients(f):
    """`f(x, w)` and its gradients: compared with theirs in value and gradient, they hold the second derivatives too."""

    def ours(x, w):
        def total(x, w):
            y = f(x, w)
            return jnp.sin(y).sum(), y

        gradients, y = jax.grad(total, (0, 1), has_aux=True)(x, w)
        return y, *gradients

    return ours


def torchs_with_gradients(f):
    def theirs(x, w):
        y = f(x, w)
        return y, *torch.autograd.grad(y.sin().sum(), (x, w), create_graph=True)

    return theirs


@given(convolutions())
@randomized
def test_conv_is_torchs(x64, c):
    same_as_torch(
        with_gradients(lambda x, w: fx.conv(x, w, **c["options"])),
        torchs_with_gradients(lambda x, w: torchs_conv(c, x, w)),
        *arrays(c),
    )


@given(convolutions(transposed=True))
@randomized
def test_conv_transpose_is_torchs(x64, c):
    options = {**c["options"], "output_padding": c["output_padding"]}
    x, w = arrays(c, transposed=True)
    if c["pairs"] is None:  # torch has no "same" here; it is the transpose of a convolution with "same"
        stride, _ = for_torch(c)
        out = w.shape[-2] * options["groups"]
        larger = jnp.zeros((c["batch"], *(n * s for n, s in zip(c["size"], stride, strict=True)), out))
        ours = fx.conv_transpose(x, w, **options)
        assert ours.shape == larger.shape
        c = {**c, "size": larger.shape[1:-1]}
        tensor = torch.zeros(larger.shape, dtype=torch.float64, requires_grad=True)
        (wanted,) = torch.autograd.grad(torchs_conv(c, tensor, torch.tensor(w)), tensor, torch.tensor(x))
        np.testing.assert_allclose(ours, wanted, rtol=1e-10, atol=1e-10)
        return
    same_as_torch(
        with_gradients(lambda x, w: fx.conv_transpose(x, w, **options)),
        torchs_with_gradients(lambda x, w: torchs_conv_transpose(c, x, w)),
        x,
        w,
    )


def test_by_hand():
    x = jnp.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])[None, :, :, None]
    w = jnp.array([[1.0, 0.0], [0.0, 10.0]])[:, :, None, None]
    assert fx.conv(x, w)[0, :, :, 0].tolist() == [[51.0, 62.0]]
    assert fx.conv(x, w, flip=True)[0, :, :, 0].tolist() == [[15.0, 26.0]]
    assert fx.conv(x, w, padding="same")[0, :, :, 0].tolist() == [[51.0, 62.0, 3.0], [4.0, 5.0, 6.0]]  # extra cell high
    wide = fx.conv_transpose(x[:, :1], w, stride=2)[0, :, :, 0]
    wider = fx.conv_transpose(x[:, 0, :2], jnp.full((1, 1, 1), 5.0), stride=3, padding="same")[0, :, 0]
    assert wider.tolist() == [
        5.0,
        0.0,
        0.0,
        10.0,
        0.0,
        0.0,
    ]  # a stride larger than the kernel: size * stride all the same
    assert wide.tolist() == [[1.0, 0.0, 2.0, 0.0, 3.0, 0.0], [0.0, 10.0, 0.0, 20.0, 0.0, 30.0]]


def test_flip_is_the_convolution_of_the_textbooks():
    random = np.random.default_rng(0)
    x, w = random.normal(size=9), random.normal(size=4)
    ours = fx.conv(x[None, :, None], w[:, None, None], padding=3, flip=True)[0, :, 0]
    np.testing.assert_allclose(ours, np.convolve(x, w), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("f", [fx.conv, fx.conv_transpose])
def test_empty_batch(f):
    w = jnp.ones((3, 2, 2))
    x = jnp.ones((0, 5, 2))
    y, back = jax.vjp(lambda x, w: f(x, w, padding="same", stride=2), x, w)
    gx, gw = back(y)
    assert y.shape == (0, {fx.conv: 3, fx.conv_transpose: 10}[f], 2)
    assert gx.shape == x.shape and not gw.any()


@pytest.mark.parametrize("f", [fx.conv, fx.conv_transpose])
def test_dtypes_are_promoted(f):
    def of(x, w):
        return jax.eval_shape(lambda: f(jnp.ones((1, 4, 2), x), jnp.ones((3, 2, 2), w))).dtype

    assert of(int, int) == of(bool, jnp.float32) == of(jnp.float16, jnp.float32) == jnp.float32
    assert of(jnp.int32, jnp.bfloat16) == jnp.bfloat16 and of(jnp.float16, jnp.float16) == jnp.float16
    y = f(jnp.ones((1, 4, 2)) * 1j, jnp.ones((3, 2, 2)))
    np.testing.assert_array_equal(y, 1j * f(jnp.ones((1, 4, 2)), jnp.ones((3, 2, 2))))


def test_half_precision_adds_up_in_more():
    x = jnp.full((1, 4096, 1), 1.0, jnp.bfloat16)  # adding 1 to 256 is lost in bfloat16
    assert fx.conv(x, jnp.ones((4096, 1, 1), jnp.bfloat16)).tolist() == [[[4096.0]]]


IMAGES, KERNEL = np.ones((2, 8, 8, 4)), np.ones((3, 3, 4, 6))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: fx.conv(IMAGES[0], KERNEL),
            r"expected input \(batch, height, width, 4\), got \(8, 8, 4\). Add a batch",
        ),
        (
            lambda: fx.conv(IMAGES[..., 0], KERNEL[:, :, :1]),
            r"\(batch, height, width, 1\), got \(2, 8, 8\). Add a channel axis: x\[..., None\].",
        ),
        (
            lambda: fx.conv(IMAGES[..., 0], KERNEL),
            r"\(2, 8, 8\). Add a batch axis: x\[None\], or a channel axis: x\[..., None\].",
        ),
        (lambda: fx.conv(IMAGES[0, ..., 0], KERNEL), r"Add a batch axis and a channel axis: x\[None, ..., None\]."),
        (lambda: fx.conv(IMAGES[None], KERNEL), r"got \(1, 2, 8, 8, 4\). Give 3 sizes, one per"),
        (
            lambda: fx.conv(IMAGES[..., :3], KERNEL),
            r"^expected input \(batch, height, width, 4\), got \(2, 8, 8, 3\).$",
        ),
        (lambda: fx.conv(IMAGES, KERNEL, groups=2), r"expected input \(batch, height, width, 8\)"),
        (
            lambda: fx.conv(np.moveaxis(IMAGES, -1, 1), KERNEL),
            r"got \(2, 4, 8, 8\). Give it with channels last: jnp.moveaxis\(x, 1, -1\).",
        ),
        (lambda: fx.conv(IMAGES, KERNEL[0, 0]), r"expected a weight \(\*kernel, in // groups, out\) with 1 to 3"),
        (lambda: fx.conv(IMAGES, KERNEL[:, :, :1], groups=4), "conv: expected groups that divide the last axis"),
        (lambda: fx.conv(IMAGES, KERNEL, groups=0), "conv: expected groups of whole numbers of at least 1, got 0."),
        (lambda: fx.conv(IMAGES, KERNEL, stride=0), "conv: expected stride of whole numbers of at least 1, got 0."),
        (lambda: fx.conv(IMAGES, KERNEL, stride=(1, 2, 3)), r"conv: expected stride to be a number or 2 of them"),
        (lambda: fx.conv(IMAGES, KERNEL, padding=-1), "conv: expected padding of whole numbers of at least 0, got -1."),
        (lambda: fx.conv(IMAGES, KERNEL, padding="valid"), "expected padding to be numbers or \"same\", got 'valid'"),
        (
            lambda: fx.conv(IMAGES, KERNEL, dilation=4),
            r"at least \(9, 9\) cells, the reach of the kernel, got \(8, 8\)",
        ),
        (
            lambda: fx.conv_transpose(IMAGES, KERNEL),
            r"expected input \(batch, height, width, 6\), got \(2, 8, 8, 4\).$",
        ),
        (
            lambda: fx.conv_transpose(IMAGES, KERNEL[..., :4], stride=2, output_padding=2),
            r"expected output_padding smaller than stride or dilation, got 2 with stride \(2, 2\)",
        ),
        (
            lambda: fx.conv_transpose(IMAGES, KERNEL[..., :4], padding="same", stride=2, output_padding=1),
            'expected no output_padding beside padding="same", which fixes the size, got 1',
        ),
        (
            lambda: fx.conv_transpose(IMAGES, KERNEL[..., :4], padding=5),
            r"would leave \(0, 0\). Use less padding",
        ),
    ],
)
def test_refusals(make, message):
    with pytest.raises(fx.FluxionError, match=message):
        make()
