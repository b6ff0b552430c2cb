"""The native convolution against XLA's and NumPy's, in every derivative and at every awkward size."""

import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from digests import printed
from hypothesis import given, settings
from hypothesis import strategies as st

import fluxion as fx
from fluxion import native
from fluxion.native.convolution import convolution, forward

needs_library = pytest.mark.skipif(not native.available(), reason=native.status())


@pytest.fixture(autouse=True, scope="module")
def one_thread_for_torch():
    """Two threads of its own that wait for each other take three times as long on these sizes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def plain(x, weight, stride, padding, dilation=(1, 1), groups=1):
    return jax.lax.conv_general_dilated(
        x,
        weight,
        stride,
        padding,
        rhs_dilation=dilation,
        feature_group_count=groups,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def in_groups(stride=(1, 1), dilation=(1, 1), groups=1):
    """Ours and XLA's as functions of x, weight, and the padding."""
    return (
        lambda x, w, padding: convolution(x, w, stride, padding, dilation=dilation, groups=groups),
        lambda x, w, padding: plain(x, w, stride, padding, dilation, groups),
    )


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def assert_close(ours, reference):
    assert ours.shape == reference.shape and ours.dtype == reference.dtype
    scale = 1.0 if reference.size == 0 else max(1.0, float(jnp.max(jnp.abs(reference))))
    np.testing.assert_allclose(ours, reference, rtol=0, atol=2e-5 * scale)


def with_gradients(function, stride, padding, x, weight, gradient):
    y, back = jax.vjp(lambda x, w: function(x, w, stride, padding), x, weight)
    return (y, *back(gradient))


def against_numpy(x, w, stride, padding, g):
    """The sums of the definition in float64: result, gradient by x, gradient by the weight."""
    (top, bottom), (left, right) = padding
    x, w, g = (np.asarray(a, np.float64) for a in (x, w, g))
    n, height, width, _ = x.shape
    around = np.zeros((n, height + max(top, 0) + max(bottom, 0), width + max(left, 0) + max(right, 0), x.shape[3]))
    around[:, max(top, 0) : max(top, 0) + height, max(left, 0) : max(left, 0) + width] = x
    cut = (
        slice(None),
        slice(max(-top, 0), around.shape[1] - max(-bottom, 0)),
        slice(max(-left, 0), around.shape[2] - max(-right, 0)),
    )
    seen = around[cut]
    dx, dw, y = np.zeros_like(around), np.zeros_like(w), np.zeros(g.shape)
    rows, columns = g.shape[1:3]
    for r in range(w.shape[0]):
        for s in range(w.shape[1]):
            at = (
                slice(None),
                slice(r, r + (rows - 1) * stride[0] + 1, stride[0]),
                slice(s, s + (columns - 1) * stride[1] + 1, stride[1]),
            )
            y += seen[at] @ w[r, s]
            dw[r, s] = np.einsum("nijc,nijo->co", seen[at], g)
            dx[cut][at] += g @ w[r, s].T
    dx = dx[:, max(top, 0) : max(top, 0) + height, max(left, 0) : max(left, 0) + width]
    return y, dx, dw


def against_torch(x, w, stride, padding, dilation, groups, g):
    """PyTorch's numbers in float64: result, gradient by x, gradient by the weight."""
    x, w, g = (torch.tensor(np.asarray(a, np.float64)) for a in (x, w, g))
    x.requires_grad_(), w.requires_grad_()
    around = torch.nn.functional.pad(x.movedim(-1, 1), (*padding[1], *padding[0]))
    y = torch.nn.functional.conv2d(
        around, w.permute(3, 2, 0, 1), stride=stride, dilation=dilation, groups=groups
    ).movedim(1, -1)
    y.backward(g)
    return [a.detach().numpy() for a in (y, x.grad, w.grad)]


def with_gradients_in_groups(stride, padding, dilation, groups, x, weight, g):
    ours = in_groups(stride, dilation, groups)[0]
    y, back = jax.vjp(lambda x, w: ours(x, w, padding), x, weight)
    return (y, *back(g))


sizes = st.integers(1, 9)
pads = st.tuples(st.integers(-1, 3), st.integers(-1, 3))


@needs_library
@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    st.sampled_from([0, 1, 2, 3, 17]),
    st.tuples(sizes, sizes),
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(pads, pads),
)
def test_result_and_gradients_at_any_size(n, size, channels, kernel, stride, padding):
    room = [s + low + high - k for s, (low, high), k in zip(size, padding, kernel, strict=True)]
    left = [s + min(low, 0) + min(high, 0) for s, (low, high) in zip(size, padding, strict=True)]
    if min(room) < 0 or min(left) < 1:
        return
    x, weight = normal(n, *size, channels[0]), normal(*kernel, *channels, seed=1)
    g = normal(n, *(r // s + 1 for r, s in zip(room, stride, strict=True)), channels[1], seed=2)
    run = partial(with_gradients, convolution, stride, padding)
    for ours, reference in zip(run(x, weight, g), against_numpy(x, weight, stride, padding, g), strict=True):
        assert_close(ours, jnp.asarray(reference, jnp.float32))


@needs_library
@pytest.mark.parametrize(
    ("n", "size", "kernel", "channels", "stride"),
    [
        (1, (97, 130), (3, 3), (33, 20), (1, 1)),  # one large image, cut into bands
        (2, (7, 7), (3, 3), (300, 530), (2, 1)),  # a weight too large for a sum per group of images
        (11, (4, 4), (3, 3), (70, 130), (1, 1)),  # several small images at a time, panels of channels
        (40, (6, 5), (1, 1), (64, 50), (1, 1)),  # rows that lie behind each other
        (3, (8, 8), (1, 2), (5, 6), (3, 4)),  # strides beyond the kernel: cells of x that are never seen
        (2, (3, 2), (2, 2), (4, 3), (7, 9)),  # and beyond x
    ],
)
def test_sizes_that_take_other_ways(n, size, kernel, channels, stride):
    x, weight, padding = normal(n, *size, channels[0]), normal(*kernel, *channels, seed=1), ((1, 0), (0, 2))
    y = jax.eval_shape(partial(plain, stride=stride, padding=padding), x, weight)
    g = normal(*y.shape, seed=2)
    ours = jax.jit(partial(with_gradients, convolution, stride, padding))(x, weight, g)
    for one, reference in zip(ours, against_numpy(x, weight, stride, padding, g), strict=True):
        assert_close(one, jnp.asarray(reference, jnp.float32))


axes = st.sampled_from([(1, 1), (1, 1), (2, 1), (3, 1), (1, 2), (1, 3), (1, 5)])  # stride and dilation


@needs_library
@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    st.sampled_from([1, 2, 17]),
    st.tuples(st.integers(3, 12), st.integers(3, 12)),
    st.tuples(st.sampled_from([1, 2, 5]), st.integers(1, 20), st.integers(1, 20), st.booleans()),
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.tuples(axes, axes),
    st.tuples(pads, pads),
)
def test_groups_and_dilation_at_any_size(n, size, channels, kernel, steps, padding):
    groups, group_in, group_out, depthwise = channels
    groups, group_in, group_out = (groups * group_in, 1, 1) if depthwise else (groups, group_in, group_out)
    stride, dilation = zip(*steps, strict=True)
    room = [
        s + low + high - (k - 1) * d - 1 for s, (low, high), k, d in zip(size, padding, kernel, dilation, strict=True)
    ]
    if min(room) < 0 or min(s + min(low, 0) + min(high, 0) for s, (low, high) in zip(size, padding, strict=True)) < 1:
        return
    x, weight = normal(n, *size, groups * group_in), normal(*kernel, group_in, groups * group_out, seed=1)
    g = normal(n, *(r // s + 1 for r, s in zip(room, stride, strict=True)), groups * group_out, seed=2)
    ours = with_gradients_in_groups(stride, padding, dilation, groups, x, weight, g)
    for a, b in zip(ours, against_torch(x, weight, stride, padding, dilation, groups, g), strict=True):
        assert_close(a, jnp.asarray(b, jnp.float32))


@needs_library
@pytest.mark.parametrize(
    ("n", "size", "kernel", "groups", "channels", "stride", "dilation"),
    [
        (1, (50, 61), (3, 3), 70, (70, 70), (1, 1), (1, 1)),  # each channel on its own, in bands and panels
        (2, (9, 8), (7, 7), 150, (150, 150), (2, 1), (1, 1)),
        (33, (5, 4), (3, 2), 40, (40, 40), (1, 2), (2, 1)),  # and several images at a time
        (1, (60, 45), (3, 3), 3, (60, 210), (1, 1), (1, 3)),  # groups in bands
        (2, (6, 7), (3, 3), 2, (600, 540), (1, 1), (1, 1)),  # a weight too large for a sum per batch of images
        (40, (6, 5), (1, 1), 4, (64, 100), (1, 1), (1, 1)),  # rows that lie behind each other
        (3, (40, 64), (3, 4), 1, (300, 70), (1, 1), (2, 5)),  # a kernel in parts
    ],
)
def test_groups_and_dilation_that_take_other_ways(n, size, kernel, groups, channels, stride, dilation):
    x, weight = normal(n, *size, channels[0]), normal(*kernel, channels[0] // groups, channels[1], seed=1)
    padding = ((1, 0), (0, 2))
    y = jax.eval_shape(lambda x, w: plain(x, w, stride, padding, dilation, groups), x, weight)
    g = normal(*y.shape, seed=2)
    ours = jax.jit(partial(with_gradients_in_groups, stride, padding, dilation, groups))(x, weight, g)
    for a, b in zip(ours, against_torch(x, weight, stride, padding, dilation, groups, g), strict=True):
        assert_close(a, jnp.asarray(b, jnp.float32))


@needs_library
@pytest.mark.parametrize(
    "options", [{"stride": (1, 1)}, {"stride": (2, 3)}, {"stride": (2, 1), "dilation": (1, 2), "groups": 3}]
)
def test_second_derivatives_and_forward_mode(options):
    shape = (3, 2, 3 // options.get("groups", 1), 6)
    x, weight, padding = normal(2, 5, 6, 3), normal(*shape, seed=1), ((1, 0), (0, 2))
    tangents = (normal(2, 5, 6, 3, seed=2), normal(*shape, seed=3))

    def all_orders(function, x, weight):
        def loss(x, w):
            return jnp.sum(jnp.sin(function(x, w, padding)))

        gradient = jax.grad(loss, (0, 1))
        first = jax.jvp(loss, (x, weight), tangents)
        second = jax.jvp(gradient, (x, weight), tangents)
        back = jax.grad(lambda x, w: sum(jnp.vdot(a, b) for a, b in zip(gradient(x, w), tangents, strict=True)), (0, 1))
        return first, second, back(x, weight)

    ours, reference = (jax.jit(partial(all_orders, f))(x, weight) for f in in_groups(**options))
    jax.tree.map(assert_close, ours, reference)


@needs_library
@pytest.mark.parametrize("relu", [False, True])
def test_bias_and_relu_in_the_same_pass(relu):
    x, weight, bias = normal(3, 2, 6, 5, 3), normal(3, 2, 3, 20, seed=1), normal(20, seed=2)
    x = x.at[0, 1, 2, 2, 0].set(jnp.nan)
    options = ((2, 1), ((1, 0), (0, 2)))
    tangents = (normal(2, 6, 5, 3, seed=3), normal(3, 2, 3, 20, seed=4), normal(20, seed=5))

    def reference(x, w, b):
        y = plain(x, w, *options) + b[None, None, None]
        return jax.nn.relu(y) if relu else y

    def ours(x, w, b):
        return convolution(x, w, *options, b, relu)

    def all_orders(function, x, w, b):
        def loss(x, w, b):
            return jnp.sum(jnp.sin(function(x, w, b)))

        gradient = jax.grad(loss, (0, 1, 2))
        return (
            function(x, w, b),
            gradient(x, w, b),
            jax.jvp(gradient, (x, w, b), tangents)[1],
            jax.grad(loss, 2)(x, w, b),
        )

    for axes, arguments in [
        ((0, None, None), (x, weight, bias)),
        ((None, None, 0), (x[1], weight, bias[None] + jnp.eye(3, 20))),
    ]:
        a, b = (jax.jit(jax.vmap(partial(all_orders, f), in_axes=axes))(*arguments) for f in (ours, reference))
        jax.tree.map(assert_close, jax.tree.map(jnp.nan_to_num, a), jax.tree.map(jnp.nan_to_num, b))
        jax.tree.map(np.testing.assert_array_equal, *(jax.tree.map(jnp.isnan, both) for both in (a, b)))


@needs_library
def test_layers_take_bias_and_relu_along():
    layer = fx.Conv((3, 3), 4, 6, fx.relu)
    assert "relu=True" in str(jax.make_jaxpr(layer)(normal(1, 8, 8, 4)))
    x, weight, bias = normal(1, 8, 4), normal(3, 4, 6), normal(6, seed=1)
    together = fx.conv(x, weight, bias=bias, activation=fx.relu)
    np.testing.assert_array_equal(together, fx.relu(fx.conv(x, weight, bias=bias, activation=lambda y: y)))
    assert_close(together, fx.relu(fx.conv(x, weight) + bias[None, None]))
    with pytest.raises(fx.ShapeError, match="bias \\(6,\\)"):
        fx.conv(x, weight, bias=bias[:1])


@needs_library
@pytest.mark.parametrize("groups", [1, 2])
def test_batched_over_either_argument_both_and_none(groups):
    x, weight = normal(3, 2, 5, 5, 2), normal(3, 3, 3, 2 // groups, 4, seed=1)

    def gradients(function, x, w):
        return jax.grad(lambda x, w: jnp.sum(function(x, w, ((1, 1), (0, 1))) ** 2), (0, 1))(x, w)

    functions = in_groups((2, 1), (1, 2), groups)
    for axes, arguments in {
        (0, None): (x, weight[0]),
        (None, 0): (x[0], weight),
        (0, 0): (x, weight),
        (1, None): (x, weight[0]),
    }.items():
        moved = (jnp.moveaxis(arguments[0], 0, 1), arguments[1]) if axes[0] == 1 else arguments
        ours, reference = (jax.vmap(partial(gradients, f), in_axes=axes)(*moved) for f in functions)
        jax.tree.map(assert_close, ours, reference)


@needs_library
def test_in_a_loop_and_under_checkpoint():
    x, weight = normal(2, 6, 6, 3), 0.2 * normal(3, 3, 3, 3, seed=1)

    def loss(function, weight):
        step = jax.checkpoint(lambda x, _: (jnp.tanh(function(x, weight, (1, 1), ((1, 1), (1, 1)))), None))
        return jnp.sum(jax.lax.scan(step, x, length=3)[0] ** 2)

    ours, reference = (jax.jit(jax.grad(partial(loss, f)))(weight) for f in (convolution, plain))
    assert_close(ours, reference)


@needs_library
@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
@pytest.mark.parametrize(("groups", "dilation"), [(1, (1, 1)), (3, (1, 1)), (1, (1, 2))])
def test_nan_and_infinity_pass_through(bad, groups, dilation):
    channels = groups if groups > 1 else 20
    x, weight = normal(2, 5, 5, 3).at[1, 2, 2, 0].set(bad), normal(3, 3, 3 // groups, channels, seed=1)
    g = normal(2, 3, 5 - 2 * dilation[1], channels, seed=2).at[0, 0, 0, -1].set(bad)

    def run(function):
        y, back = jax.vjp(lambda x, w: function(x, w, ((0, 0), (0, 0))), x, weight)
        return (y, *back(g))

    ours, reference = map(run, in_groups(dilation=dilation, groups=groups))
    for a, b in zip(ours, reference, strict=True):
        np.testing.assert_array_equal(jnp.isfinite(a), jnp.isfinite(b))
        np.testing.assert_array_equal(jnp.isnan(a), jnp.isnan(b))


@needs_library
def test_bytes_beside_the_arrays_are_untouched_and_unread():
    """Tails are masked: NaN in the channels, rows and images that lie next in memory never shows."""
    x = normal(4, 6, 6, 5)
    wide = jnp.full((4, 6, 6, 8), jnp.nan).at[..., :5].set(x)
    weight = normal(2, 2, 5, 7, seed=1)
    ours = jax.jit(lambda x: convolution(x[..., :5], weight, (1, 1), ((0, 0), (0, 0))))(wide)
    assert_close(ours, plain(x, weight, (1, 1), ((0, 0), (0, 0))))


@needs_library
@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((2, 9, 3, 4), {}, "number of windows"),
        ((2, 3, 3, 5), {}, "channels"),
        ((2, 3, 3, 4), {"groups": 2}, "groups"),
        ((2, 3, 3, 4), {"stride": (0, 1)}, "strides"),
        ((2, 3, 3, 4), {"dilation": (1, 0)}, "dilations"),
        ((2, 1, 3, 4), {"stride": (2, 1), "dilation": (2, 1)}, "no stride along a dilated axis"),
    ],
)
def test_the_library_refuses_what_does_not_fit(shape, options, message):
    x, weight = normal(2, 5, 5, 3), normal(3, 3, 3, 4, seed=1)
    with pytest.raises(jax.errors.JaxRuntimeError, match=message):
        forward.bind(
            x,
            weight,
            **{"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1, **options},
            shape=shape,
        ).block_until_ready()


@needs_library
def test_conv_takes_it_where_it_applies():
    def primitives(*arguments, **options):
        return str(jax.make_jaxpr(partial(fx.conv, **options))(*arguments))

    image, weight = normal(1, 8, 8, 4), normal(3, 3, 4, 6, seed=1)
    assert "fluxion_conv_forward" in primitives(image, weight, padding="same", stride=2)
    assert "fluxion_conv_forward" in primitives(normal(1, 8, 4), normal(3, 4, 6))
    assert "fluxion_conv_forward" in primitives(image, normal(3, 3, 2, 6), groups=2, dilation=2)
    assert "fluxion_conv_input_gradient" in str(jax.make_jaxpr(fx.conv_transpose)(image, normal(2, 2, 6, 4)))
    for arguments, options in [
        ((image, weight), {"dilation": 2, "stride": 2}),
        ((image.astype(jnp.bfloat16), weight.astype(jnp.bfloat16)), {}),
        ((normal(1, 4, 4, 4, 2), normal(2, 2, 2, 2, 2)), {}),
    ]:
        assert "conv_general_dilated" in primitives(*arguments, **options)


@needs_library
@pytest.mark.parametrize("several", [2, 9])
def test_several_channels_out_for_each_channel_in(several):
    x, weight = normal(2, 6, 5, 3), normal(3, 2, 1, 3 * several, seed=1)
    g = normal(2, 4, 4, 3 * several, seed=2)
    y, back = jax.vjp(lambda x, w: fx.conv(x, w, groups=3), x, weight)
    for ours, theirs in zip((y, *back(g)), against_torch(x, weight, 1, ((0, 0), (0, 0)), 1, 3, g), strict=True):
        assert_close(ours, jnp.asarray(theirs, jnp.float32))


@needs_library
@pytest.mark.parametrize(
    ("size", "kernel", "groups", "options"),
    [
        ((5, 4), (3, 2), 1, {"stride": (2, 3), "padding": 1, "output_padding": (1, 2)}),
        ((3, 6), (2, 3), 2, {"stride": (1, 2), "dilation": (3, 1), "output_padding": (2, 0)}),
        ((4, 4), (3, 3), 6, {"stride": 2, "padding": 1, "output_padding": 1}),
        ((7,), (4,), 3, {"stride": 2, "padding": 2}),
        ((3,), (2,), 1, {"stride": 5}),  # cells that no window reaches
    ],
)
def test_transposed(size, kernel, groups, options):
    x, weight = normal(2, *size, 6), normal(*kernel, 12 // groups, 6, seed=1)
    y, back = jax.vjp(lambda x, w: fx.conv_transpose(x, w, groups=groups, **options), x, weight)
    g = normal(*y.shape, seed=2)
    there, kernels = (torch.tensor(np.asarray(a, np.float64), requires_grad=True) for a in (x, weight))
    transpose = torch.nn.functional.conv_transpose1d if len(size) == 1 else torch.nn.functional.conv_transpose2d
    reference = transpose(there.movedim(-1, 1), kernels.movedim(-1, 0).movedim(-1, 1), groups=groups, **options)
    reference.movedim(1, -1).backward(torch.tensor(np.asarray(g, np.float64)))
    references = (reference.movedim(1, -1).detach(), there.grad, kernels.grad)
    for ours, theirs in zip((y, *back(g)), references, strict=True):
        assert_close(ours, jnp.asarray(theirs.numpy(), jnp.float32))


@needs_library
def test_two_devices_share_a_batch():
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    x, weight = normal(4, 6, 6, 3), normal(3, 3, 3, 5, seed=1)
    halves = jax.device_put(x, jax.NamedSharding(mesh, jax.P("data")))
    whole = jax.device_put(weight, jax.NamedSharding(mesh, jax.P()))
    function = jax.jit(jax.grad(lambda x, w: jnp.sum(fx.conv(x, w) ** 2), (0, 1)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), function(halves, whole), function(x, weight))
    part = jax.shard_map(fx.conv, mesh=mesh, in_specs=(jax.P("data"), jax.P()), out_specs=jax.P("data"))
    assert_close(jax.device_get(part(halves, whole)), jax.device_get(fx.conv(x, weight)))


DIGEST = """
import hashlib, jax, jax.numpy as jnp, fluxion as fx
from fluxion import native
x = jnp.sin(jnp.arange(19 * 9 * 8 * 5, dtype=jnp.float32)).reshape(19, 9, 8, 5)
w = jnp.cos(jnp.arange(3 * 3 * 5 * 21, dtype=jnp.float32)).reshape(3, 3, 5, 21)
y, back = jax.vjp(lambda x, w: fx.conv(x, w, stride=(1, 2), padding=1), x, w)
channels = jnp.cos(jnp.arange(3 * 3 * 21, dtype=jnp.float32)).reshape(3, 3, 1, 21)
apart, up = jax.vjp(lambda y, w: fx.conv(y, w, groups=21, stride=(2, 1), dilation=(1, 2), padding=1), y, channels)
three, across = jax.vjp(lambda y, w: fx.conv(y, w[:, :, :, :12].repeat(7, 2), groups=3), y, channels)
pooled, down = jax.vjp(lambda y: fx.max_pool(y, 3, stride=2, padding=1), y)
arrays = [y, *back(y), pooled, *down(pooled), apart, *up(apart), three, *across(three)]
print(native.status(), hashlib.sha256(b"".join(bytes(a) for a in jax.device_get(arrays))).hexdigest())
print(*(f"{float(jnp.sum(jnp.abs(a))):.2f}" for a in arrays))
"""


digest = partial(printed, DIGEST)


@needs_library
@pytest.mark.skipif(sys.platform != "linux", reason="taskset is a program of Linux")
def test_same_bits_on_one_thread_and_on_many():
    assert digest() == digest(cores=1)


def test_off_and_the_narrow_instructions_agree():
    off = digest(FLUXION_NATIVE="off")
    assert off[0].startswith("off (FLUXION_NATIVE)")
    narrow = digest(FLUXION_NATIVE="avx2")
    assert not native.available() or narrow[0].startswith("AVX2")
    np.testing.assert_allclose(np.array(off[1].split(), float), np.array(narrow[1].split(), float), rtol=1e-5)
