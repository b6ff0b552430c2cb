"""CTC against torch's numbers and gradients, and against the sum over all alignments."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fluxion as fx

torch = pytest.importorskip("torch", reason="torch is the outside reference")
LOGITS = np.random.default_rng(0).normal(0, 2, (4, 9, 5))
BATCH, TIME, CLASSES, LENGTH = 3, 7, 4, 4


@functools.cache
def compiled():
    """Values and slopes of one batch, and the curvature along a direction; compiled once, for lengths are data."""

    def loss(x, target, times, sizes):
        return fx.ctc_loss(x, target, agg=fx.identity, prediction_lengths=times, target_lengths=sizes)

    def slope(x, *rest):
        return jax.grad(lambda x: jnp.sum(jnp.asarray(SCALES) * loss(x, *rest)))(x)

    def all_of_it(x, way, *rest):
        value, (first, second) = loss(x, *rest), jax.jvp(lambda x: slope(x, *rest), [x], [way])
        return value, first, second

    return jax.jit(all_of_it)


SCALES = np.array([1.0, -0.5, 2.0])  # a gradient reaches each loss of the batch


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(st.integers(0, CLASSES - 2), max_size=LENGTH), min_size=BATCH, max_size=BATCH),
    st.lists(st.integers(1, TIME), min_size=BATCH, max_size=BATCH),
    st.floats(0.1, 20),
    st.integers(0, 2**32 - 1),
)
def test_equals_torch(x64, targets, times, scale, seed):
    """Random lengths, empty targets, repeated labels; a target too long for its time is infinite, its gradient 0."""
    random = np.random.default_rng(seed)
    logits, way = random.normal(0, (scale, 1), (BATCH, TIME, CLASSES, 2)).transpose(3, 0, 1, 2)
    sizes = [len(target) for target in targets]
    # beyond the lengths may stand anything
    padded = np.array([target + [9, -7, 3, 0][: LENGTH - len(target)] for target in targets])
    x = torch.tensor(logits, requires_grad=True)

    def theirs(zero_infinity):
        return torch.nn.functional.ctc_loss(
            torch.log_softmax(x, -1).transpose(0, 1),
            torch.tensor(padded.clip(0, CLASSES - 2)),
            tuple(times),
            tuple(sizes),
            blank=CLASSES - 1,
            reduction="none",
            zero_infinity=zero_infinity,
        )

    (slope,) = torch.autograd.grad((torch.tensor(SCALES) * theirs(True)).sum(), x)
    rest = way, padded, np.array(times), np.array(sizes)
    found = compiled()(logits, *rest)
    ahead, behind = (compiled()(logits + h * way, *rest)[1] for h in (1e-5, -1e-5))
    np.testing.assert_allclose(found[0], theirs(False).detach(), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(found[1], slope, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(found[2], (ahead - behind) / 2e-5, rtol=1e-6, atol=1e-6)
    assert not any(gradient[time:].any() for gradient, time in zip(found[1], times, strict=True))


def test_forms_of_the_arguments(x64):
    """One sequence without a batch axis; the default agg is the mean; lengths left out are those of the arrays."""
    target, times, sizes = np.array([[0, 1, 2, 3], [2, 2, 1, 9]]), np.array([9, 6]), np.array([4, 3])
    options = {"prediction_lengths": times, "target_lengths": sizes}
    each = fx.ctc_loss(LOGITS[:2], target, agg=fx.identity, **options)
    assert each.dtype == jnp.float64
    np.testing.assert_allclose(fx.ctc_loss(LOGITS[1, :6], target[1, :3]), each[1], rtol=1e-13)
    np.testing.assert_allclose(
        fx.ctc_loss(LOGITS[1], target[1], prediction_lengths=6, target_lengths=3), each[1], rtol=1e-13
    )
    np.testing.assert_allclose(fx.ctc_loss(LOGITS[:2], target, **options), each.mean(), rtol=1e-13)


def test_is_the_sum_over_all_alignments_and_its_gradient_a_difference(x64):
    x = LOGITS[0, :5, :3]
    p = np.asarray(fx.softmax(x))
    for target in ([0, 1], [1, 1], [0, 1, 0], []):
        total = 0.0
        for path in itertools.product(range(3), repeat=5):
            merged = [c for c, _ in itertools.groupby(path) if c != 2]
            if merged == target:
                total += np.prod(p[range(5), path])
        np.testing.assert_allclose(fx.ctc_loss(x, np.array(target, int)), -np.log(total), rtol=1e-12)
    f = lambda x: fx.ctc_loss(x, np.array([1, 1]))
    step = 1e-6 * np.eye(15).reshape(15, 5, 3)
    difference, slope = jax.jit(lambda x: ((jax.vmap(f)(x + step) - jax.vmap(f)(x - step)) / 2e-6, jax.grad(f)(x[0])))(
        x[None]
    )
    np.testing.assert_allclose(slope, difference.reshape(5, 3), atol=1e-8)


def test_what_is_wrong_is_named_or_nan():
    loss = jax.jit(lambda *a: fx.ctc_loss(*a[:2], agg=fx.identity, prediction_lengths=a[2], target_lengths=a[3]))
    x, y = LOGITS.astype(np.float32), np.array([[0, 1], [0, 4], [0, -1], [0, 1]])
    full, two = np.full(4, 9), np.full(4, 2)
    np.testing.assert_array_equal(np.isnan(loss(x, y, full, two)), [False, True, True, False])
    np.testing.assert_array_equal(np.isnan(loss(x, y, full, two - 1)), [False] * 4)  # padding may be anything
    np.testing.assert_array_equal(np.isnan(loss(x, y * 0, np.array([0, 9, 10, 3]), two)), [True, False, True, False])
    np.testing.assert_array_equal(np.isnan(loss(x, y * 0, full, np.array([2, 3, -1, 1]))), [False, True, True, False])
    # repeated labels need a blank between: 2 steps are too few, 3 enough
    np.testing.assert_array_equal(np.isinf(loss(x, y * 0, np.array([2, 3, 9, 9]), two)), [True, False, False, False])
    slope = jax.jit(jax.grad(lambda x: fx.ctc_loss(x, y[:1] * 0, prediction_lengths=full[:1] * 0 + jnp.array(2))))(
        x[:1]
    )
    assert not slope.any()

    def refused(error, message, *arguments, **options):
        with pytest.raises(error) as raised:
            fx.ctc_loss(*arguments, **options)
        assert message in str(raised.value)

    refused(fx.DataError, "ctc_loss: label 4 at index (1, 1) is outside [0, 4).", x, y)
    refused(fx.DataError, "ctc_loss: the target at index (0,) needs at least 3 time steps", x[:, :2], y * 0)
    refused(fx.DataError, "the target needs at least 3 time steps", x[0, :2], y[0] * 0)
    refused(fx.DataError, "target_lengths 3 at index (1,) is outside [0, 2].", x, y * 0, target_lengths=[2, 3, 0, 0])
    refused(
        fx.DataError, "prediction_lengths 0 at index (0,) is outside [1, 9].", x, y * 0, prediction_lengths=full * 0
    )
    refused(
        fx.ShapeError, "ctc_loss: expected prediction_lengths of shape (4,), got ().", x, y * 0, prediction_lengths=3
    )
    refused(fx.DTypeError, "expected target_lengths to be integers, got float64.", x, y * 0, target_lengths=two * 1.0)
    refused(
        fx.ShapeError, "expected a target of shape (4, length) for a prediction of shape (4, 9, 5), got (2,).", x, y[0]
    )
    refused(fx.ShapeError, "expected a target of shape (length,)", x[0], y)
    refused(
        fx.ShapeError,
        "expected a prediction of shape (time, classes) or (batch, time, classes), got (5,).",
        x[0, 0],
        y[0],
    )
    refused(fx.ShapeError, "expected at least 2 classes", x[..., :1], y)
    refused(fx.ShapeError, "expected at least one value", x[:0], y[:0])
    refused(
        fx.DTypeError, "expected integer class labels of shape (4, 2), got float64 (0 at index (0, 0)).", x, y * 1.0
    )
