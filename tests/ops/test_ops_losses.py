"""Losses against torch's numbers and two orders of its gradients, Flux's documented numbers; what they refuse."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from against_torch import same_as_torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import fluxion as fx
from fluxion.ops.checks import checking, strict_checking

torch = pytest.importorskip("torch", reason="torch is the outside reference")
F = torch.nn.functional

randomized = settings(
    max_examples=4,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.generate],  # to shrink a failure would compile for minutes
)
EPS = np.finfo(np.float64).eps


def examples(random, shape, axis):
    """Predictions and targets of every kind, as attributes; rows and labels run along `axis`."""
    of = SimpleNamespace(
        real=random.normal(0, 2, shape),
        other=random.normal(0, 2, shape),
        positive=random.uniform(0.1, 3, shape),
        counts=random.integers(0, 4, shape),
        probable=random.uniform(0.05, 0.95, shape),
        soft=random.uniform(0.05, 0.95, shape),
        bits=random.integers(0, 2, shape),
        signs=2 * random.integers(0, 2, shape) - 1,
        labels=np.asarray(random.integers(0, shape[axis], np.delete(shape, axis))),
    )
    of.rows, of.soft_rows = (x / x.sum(axis, keepdims=True) for x in (of.probable, of.soft))
    of.hot = np.moveaxis(np.eye(shape[axis], dtype=int)[of.labels], -1, axis)
    return of


def of_classes(f, axis):
    """torch's `f(prediction, target)` without its mean, for a class axis anywhere."""
    second = lambda x: x.movedim(axis, 1) if x.ndim > 1 else x
    return lambda p, y: f(second(p), y if y.ndim < p.ndim else second(y), reduction="none")


def floating(y, p):
    """Counts and bits in float64; labels stay what they are."""
    return y if y.ndim < p.ndim else y.to(p.dtype)


def chosen(logs, y, axis):
    """`-sum(y * logs)` along `axis`, for labels as for distributions."""
    return of_classes(F.nll_loss, axis)(logs, y) if y.ndim < logs.ndim else -(y * logs).sum(axis)


def cases(of, soft=False, axis=-1, eps=None, gamma=2.0, delta=1.0, smooth=1.0, beta=0.7, margin=1.0):
    """Loss, options, prediction, target, and what torch, or the formula in torch, says before `agg`.

    Targets are labels and probabilities if `soft`, one-hot rows, bits and counts if not.
    """
    e = EPS if eps is None else eps
    eps, classes = {"eps": eps}, {"axis": axis}
    focal = {"gamma": gamma}
    kl_div = lambda p, y: (torch.xlogy(y, y) - y * (p + e).log()).sum(axis)
    crossentropy = lambda p, y: chosen((p + e).log(), y, axis)
    focal_loss = lambda p, y: chosen((1 - p) ** gamma * (p + e).log(), y, axis)
    bce = lambda p, y: -y * (p + e).log() - (1 - y) * (1 - p + e).log()

    def binary_focal(p, y):
        q = y * p + (1 - y) * (1 - p)
        return -((1 - q) ** gamma) * (q + e).log()

    def dice(p, y):
        return 1 - (2 * (y * p).sum() + smooth) / ((y**2).sum() + (p**2).sum() + smooth)

    def tversky(p, y):
        return 1 - ((y * p).sum() + 1) / ((y * p + beta * (1 - y) * p + (1 - beta) * y * (1 - p)).sum() + 1)

    siamese = lambda p, y: (1 - y) * p**2 + y * F.relu(margin - p) ** 2
    each = lambda f, **options: functools.partial(f, reduction="none", **options)
    rows, bits, counts = (of.soft_rows, of.soft, of.soft) if soft else (of.hot, of.bits, of.counts)
    return [
        (fx.mse, {}, of.real, of.other, each(F.mse_loss)),
        (fx.mae, {}, of.real, of.other, each(F.l1_loss)),
        (fx.msle, eps, of.positive, of.probable, lambda p, y: ((p + e).log() - (y + e).log()) ** 2),
        (fx.huber_loss, {"delta": delta}, of.real, of.other, each(F.huber_loss, delta=delta)),
        (fx.poisson_loss, {}, of.positive, counts, each(F.poisson_nll_loss, log_input=False, eps=0)),
        *((fx.logitcrossentropy, classes, of.real, y, of_classes(F.cross_entropy, axis)) for y in (of.labels, rows)),
        *((fx.crossentropy, classes | eps, of.rows, y, crossentropy) for y in (of.labels, rows)),
        *((fx.focal_loss, classes | focal | eps, of.rows, y, focal_loss) for y in (of.labels, rows)),
        (fx.kldivergence, classes | eps, of.rows, rows, kl_div),
        (fx.logitbinarycrossentropy, {}, of.real, bits, each(F.binary_cross_entropy_with_logits)),
        (fx.binarycrossentropy, eps, of.probable, bits, bce),
        (fx.binary_focal_loss, focal | eps, of.probable, bits, binary_focal),
        (fx.hinge_loss, {}, of.real, of.signs, lambda p, y: F.relu(1 - p * y)),
        (fx.squared_hinge_loss, {}, of.real, of.signs, lambda p, y: F.relu(1 - p * y) ** 2),
        (fx.dice_coeff_loss, {"smooth": smooth}, of.probable, bits, dice),
        (fx.tversky_loss, {"beta": beta}, of.probable, bits, tversky),
        (fx.siamese_contrastive_loss, {"margin": margin}, of.positive, bits, siamese),
    ]


FIXED = examples(np.random.default_rng(0), (4, 3), 1)
REAL, OTHER, ROWS = FIXED.real, FIXED.other, FIXED.rows
LABELS = np.array([2, 0, 1, 2])
HOT = np.eye(3)[LABELS]
CASES = cases(FIXED)
LOSSES = [fx.ctc_loss, *dict.fromkeys(case[0] for case in CASES)]
AGGREGATES = [
    (jnp.mean, torch.mean),
    (jnp.sum, torch.sum),
    (fx.identity, lambda x: x),
    (lambda x: (x**2).mean(), lambda x: (x**2).mean()),
]


@randomized
@given(st.lists(st.integers(2, 4), min_size=1, max_size=3), st.sampled_from(AGGREGATES), st.booleans(), st.data())
def test_equals_torch(x64, shape, agg, soft, data):
    """All losses, with gradients by prediction and floating target."""
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    options = {
        "eps": data.draw(st.sampled_from([None, 0.0, 0.01])),
        "gamma": data.draw(st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.5])),
        "delta": data.draw(st.floats(0.1, 3)),
        "smooth": data.draw(st.floats(0.1, 2)),
        "beta": data.draw(st.floats(0, 1)),
        "margin": data.draw(st.floats(0, 3)),
    }
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    drawn = cases(examples(random, shape, axis % len(shape)), soft, axis, **options)

    def ours(*xs):
        pairs = zip(drawn, xs[::2], xs[1::2], strict=True)
        return [loss(p, y, agg=agg[0], **options) for (loss, options, *_), p, y in pairs]

    def theirs(*xs):
        pairs = zip(drawn, xs[::2], xs[1::2], strict=True)
        return [agg[1](reference(p, floating(y, p))) for (*_, reference), p, y in pairs]

    same_as_torch(ours, theirs, *(x for case in drawn for x in case[2:4]))


def test_second_derivatives_are_torchs(x64):
    smooth = {fx.mse, fx.msle, fx.logitcrossentropy, fx.crossentropy, fx.focal_loss, fx.kldivergence}
    smooth |= {fx.logitbinarycrossentropy, fx.binary_focal_loss, fx.squared_hinge_loss, fx.tversky_loss}
    some = [case for case in CASES if case[0] in smooth]
    found = jax.jit(
        lambda ps: [
            jax.hessian(lambda p: loss(p, y, **options))(p)
            for (loss, options, _, y, _), p in zip(some, ps, strict=True)
        ]
    )([case[2] for case in some])
    for (loss, _, p, y, reference), curvature in zip(some, found, strict=True):
        p, y = torch.tensor(p), torch.tensor(y)
        expected = torch.autograd.functional.hessian(lambda p: reference(p, floating(y, p)).mean(), p)
        np.testing.assert_allclose(curvature, expected, rtol=1e-10, atol=1e-10, err_msg=loss.__name__)


def test_numbers_in_flux_documentation():
    found = jax.jit(flux_documentation)()
    np.testing.assert_allclose([ours for ours, _ in found], [theirs for _, theirs in found], rtol=2e-6, atol=1e-8)


def flux_documentation():
    steps = fx.softmax(jnp.arange(-7.0, 8).reshape(5, 3))
    labels = jnp.array([0, 1, 2, 1, 0])
    logits = jnp.array([*range(-9, 1), *range(10), 7.5]).reshape(7, 3)
    smooth = fx.label_smoothing(jax.nn.one_hot(labels, 3), 0.15)
    half = jnp.array([[0.268941, 0.731059], [0.5, 0.5], [0.268941, 0.731059]])
    bits = jnp.array([1, 0, 1])
    counting = jnp.array([1, 2, 3])
    return [
        (fx.mse(jnp.array([1.1, 1.9, 3.1]), counting), 0.010000000000000018),
        (fx.mae(jnp.array([1.1, 1.9, 3.1]), counting), 0.10000000000000009),
        (fx.msle(jnp.array([1.1, 2.2, 3.3]), counting), 0.009084041),
        (fx.msle(jnp.array([0.9, 1.8, 2.7]), counting), 0.011100831),
        (fx.crossentropy(steps, labels), 1.6076053),
        (fx.crossentropy(steps, labels, agg=jnp.sum), 5 * 1.6076053),
        (fx.crossentropy(steps, smooth), 1.5776052),
        (fx.logitcrossentropy(logits, jnp.array([0, 1, 2, 0, 1, 0, 0])), 1.5791205),
        (fx.binarycrossentropy(half[:, 1], bits), 0.43989),
        (fx.logitbinarycrossentropy(jnp.array([2, -1, jnp.pi]), bits), 0.160832),
        (fx.kldivergence(jnp.full((2, 2), 0.5), jnp.eye(2)), np.log(2)),
        (fx.kldivergence(jnp.full((2, 2), 0.5), jnp.eye(2), agg=jnp.sum), 2 * np.log(2)),
        (fx.kldivergence(jnp.full((2, 2), 0.5), jnp.full((2, 2), 0.5), eps=0), 0.0),
        (fx.kldivergence(jnp.eye(2), jnp.full((2, 2), 0.5), eps=0), np.inf),
    ]


def test_agg_gets_values_per_element_or_per_example():
    assert fx.mse(REAL, OTHER, agg=fx.identity).shape == (4, 3)
    np.testing.assert_allclose(fx.mae(REAL, OTHER, agg=jnp.sum), np.abs(REAL - OTHER).sum(), rtol=1e-6)
    each = fx.logitcrossentropy(REAL, LABELS, agg=fx.identity)
    np.testing.assert_allclose(each, scipy.special.logsumexp(REAL, 1) - REAL[range(4), LABELS], rtol=1e-5)
    for loss in (fx.crossentropy, fx.focal_loss, fx.kldivergence):
        assert loss(ROWS, HOT, agg=fx.identity).shape == (4,)
    images = jnp.zeros((2, 5, 4, 3))
    assert fx.logitcrossentropy(images, jnp.zeros((2, 5, 4), int), agg=fx.identity).shape == (2, 5, 4)
    assert fx.logitcrossentropy(images, jnp.zeros((2, 5, 3), jnp.uint8), agg=fx.identity, axis=-2).shape == (2, 5, 3)
    np.testing.assert_allclose(fx.logitcrossentropy(jnp.zeros(3), 1), np.log(3), rtol=1e-6)


def test_targets_of_every_kind():
    expected = fx.logitcrossentropy(REAL, LABELS)
    for target in (HOT, HOT.astype(bool), HOT.astype(np.int8), jnp.asarray(HOT, jnp.bfloat16), LABELS.astype(np.uint8)):
        np.testing.assert_allclose(fx.logitcrossentropy(REAL, target), expected, rtol=1e-6)
    wide = jnp.zeros((1, 300)).at[0, 7].set(50.0)  # more classes than the labels' dtype can count
    np.testing.assert_allclose(fx.logitcrossentropy(wide, np.array([7], np.uint8)), 0, atol=1e-6)
    # A Python number stands for every place; an array never does.
    np.testing.assert_allclose(fx.mse(REAL, 1), ((REAL - 1) ** 2).mean(), rtol=1e-6)
    np.testing.assert_allclose(fx.logitbinarycrossentropy(REAL, True), np.logaddexp(0, -REAL).mean(), rtol=1e-6)
    np.testing.assert_allclose(fx.mse(jnp.array([1 + 2j, 0]), jnp.array([0j, 1j])), 3.0)
    np.testing.assert_allclose(fx.mae(jnp.array([3 + 4j]), jnp.array([0j])), 5.0)


def test_half_precision_is_computed_and_returned_in_float32():
    examples = {loss: next((c[2:4] for c in CASES if c[0] is loss), (REAL, np.array([0, 1]))) for loss in LOSSES}

    def of_one(loss, prediction, target):
        rounded = [jnp.asarray(prediction, dtype) for dtype in (jnp.float16, jnp.bfloat16)]
        return [
            (jax.value_and_grad(lambda x: loss(x, target))(x), loss(x.astype(jnp.float32), target), x) for x in rounded
        ]

    for results in jax.jit(lambda: [of_one(loss, *example) for loss, example in examples.items()])():
        for (value, slope), exact, x in results:
            assert value.dtype == jnp.float32 and slope.dtype == x.dtype
            np.testing.assert_allclose(value, exact, rtol=1e-5)


def test_gradients_are_finite_at_extremes():
    logits = jnp.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]])
    certain = jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    wrong = jnp.array([2, 0])
    bits, signs = jnp.array([[0, 1, 1], [0, 0, 1]]), jnp.array([[1, -1, 1], [-1, 1, 1]])
    calls = [
        *((f, logits, y) for f in (fx.logitcrossentropy,) for y in (wrong, jax.nn.one_hot(wrong, 3))),
        *((f, certain, y) for f in (fx.crossentropy, fx.focal_loss) for y in (wrong, jax.nn.one_hot(wrong, 3))),
        (lambda p, y: fx.focal_loss(p, y, gamma=0.5), certain, jnp.array([0, 0])),
        (lambda p, y: fx.binary_focal_loss(p, y, gamma=0.5), certain, bits),
        *(
            (f, certain, bits)
            for f in (fx.binarycrossentropy, fx.binary_focal_loss, fx.dice_coeff_loss, fx.tversky_loss)
        ),
        (fx.kldivergence, certain, jnp.roll(certain, 1, 1)),
        (fx.logitbinarycrossentropy, logits, bits),
        *((f, logits, jnp.zeros((2, 3))) for f in (fx.mse, fx.mae, fx.huber_loss)),
        *((f, logits, signs) for f in (fx.hinge_loss, fx.squared_hinge_loss)),
        *((f, jnp.abs(logits), jnp.zeros((2, 3))) for f in (fx.msle, fx.poisson_loss)),
        (fx.ctc_loss, logits, jnp.array([1, 0])),
    ]
    found = jax.jit(lambda: [jax.value_and_grad(f)(x, y) for f, x, y in calls])()
    for (f, x, _), (value, slope) in zip(calls, found, strict=True):
        assert np.isfinite(value), f
        assert np.isfinite(slope).all() and slope.shape == x.shape, f
    np.testing.assert_allclose(found[0][0], (1e4 + 2e4) / 2)
    np.testing.assert_allclose(found[0][1], [[0.5, 0, -0.5], [-0.5, 0.5, 0]])


def test_digits_are_kept_in_the_tails():
    # confident and right: the loss is small, not 0
    np.testing.assert_allclose(
        fx.logitcrossentropy(jnp.array([[1010.0, 1000.0]]), jnp.array([0])), np.exp(-10.0), rtol=3e-3
    )
    np.testing.assert_allclose(
        fx.logitbinarycrossentropy(jnp.array([20.0, -20.0]), jnp.array([1, 0])), np.exp(-20.0), rtol=1e-5
    )
    # at 0 the slope is the one of the smooth function
    np.testing.assert_allclose(
        jax.grad(lambda x: fx.logitbinarycrossentropy(x, jnp.array([1.0])))(jnp.zeros(1)), [-0.5]
    )
    # a class ruled out by -inf costs nothing, and is not learned
    ruled_out = jnp.array([[0.0, 0.0, -jnp.inf]])
    for target in (jnp.array([0]), jnp.array([[1.0, 0, 0]])):
        value, slope = jax.value_and_grad(fx.logitcrossentropy)(ruled_out, target)
        np.testing.assert_allclose(value, np.log(2), rtol=1e-6)
        np.testing.assert_allclose(slope, [[-0.5, 0.5, 0]], rtol=1e-6)
    # the sum of a group of probabilities may exceed 1 by a rounding
    assert np.isfinite(fx.binarycrossentropy(np.array([1 + 5e-7], np.float32), np.array([1])))


def test_label_smoothing_equals_torch():
    expected = F.cross_entropy(torch.tensor(REAL), torch.tensor(LABELS), label_smoothing=0.2).item()
    np.testing.assert_allclose(fx.logitcrossentropy(REAL, fx.label_smoothing(HOT, 0.2)), expected, rtol=1e-6)
    np.testing.assert_allclose(fx.label_smoothing(HOT.T, 0.2, axis=0), fx.label_smoothing(HOT, 0.2).T)
    np.testing.assert_allclose(fx.label_smoothing(np.array([0, 1, 1]), 0.2, axis=None), [0.1, 0.9, 0.9], rtol=1e-6)
    assert fx.label_smoothing(jnp.eye(2, dtype=jnp.bfloat16), 0.5).dtype == jnp.bfloat16
    for alpha in (0, 1, -0.1):
        with pytest.raises(fx.ArgumentError, match=r"label_smoothing: expected 0 < alpha < 1, got"):
            fx.label_smoothing(HOT, alpha)
    with pytest.raises(
        fx.DataError, match=r"label_smoothing: target 2 at index \(0,\) is outside \[0, 1\]\. Make labels one-hot"
    ):
        fx.label_smoothing(LABELS, 0.1)


def test_xlogx_and_xlogy_equal_scipy(x64):
    x, y = (a.ravel() for a in np.meshgrid([0.0, 0.5, 2.0, np.nan], [0.0, 0.3, 1.0, -1.0, np.inf, np.nan]))
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(fx.xlogy(x, y), scipy.special.xlogy(x, y), rtol=1e-14)
    np.testing.assert_allclose(fx.xlogx(jnp.array([0.0, 0.5, 2.0])), -scipy.special.entr([0.0, 0.5, 2.0]), rtol=1e-14)
    assert jax.grad(fx.xlogx)(0.0) == 0 and np.isnan(fx.xlogx(-1.0)) and np.isnan(fx.xlogx(jnp.nan))
    assert jax.grad(fx.xlogy, (0, 1))(0.0, 0.0) == (0, 0)
    np.testing.assert_allclose(jax.grad(fx.xlogy, (0, 1))(0.0, 0.5), (np.log(0.5), 0))
    with pytest.raises(fx.ShapeError, match=r"xlogy: expected two arrays of one shape, got \(2,\) and \(1, 2\)\."):
        fx.xlogy(jnp.ones(2), jnp.ones((1, 2)))


ONE, THREE = jnp.ones((3, 1)), jnp.zeros((5, 3))
NAN = np.array([[0.0], [1.0], [np.nan]])
REFUSED = [
    (
        fx.mse,
        ONE,
        jnp.ones(3),
        fx.ShapeError,
        "mse: expected a target of shape (3, 1), got (3,). Reshape one of them; losses never broadcast.",
    ),
    (fx.mae, ONE, jnp.ones(()), fx.ShapeError, "mae: expected a target of shape (3, 1), got (). Reshape"),
    (
        fx.mse,
        jnp.ones((0, 2)),
        jnp.ones((0, 2)),
        fx.ShapeError,
        "mse: expected at least one value, got a prediction of shape (0, 2).",
    ),
    (fx.logitcrossentropy, THREE[:0], jnp.ones(0, int), fx.ShapeError, "expected at least one value"),
    (
        fx.logitcrossentropy,
        THREE,
        jnp.zeros((5, 1), int),
        fx.ShapeError,
        "expected a target of shape (5, 3) or integer labels of shape (5,), got (5, 1). Reshape",
    ),
    (
        fx.logitcrossentropy,
        ONE,
        jnp.zeros(3, int),
        fx.ShapeError,
        "expected at least 2 classes along axis 1, got a prediction of shape (3, 1).",
    ),
    (
        fx.crossentropy,
        jnp.ones(()),
        jnp.array(0),
        fx.ShapeError,
        "crossentropy: expected a prediction with a class axis -1, got shape ().",
    ),
    (
        fx.logitcrossentropy,
        THREE,
        jnp.array([0, 1, 2, 0, 1.5]),
        fx.DTypeError,
        "expected integer class labels of shape (5,), got float32 (0 at index (0,)).",
    ),
    (fx.logitcrossentropy, THREE, np.ones(5, bool), fx.DTypeError, "got bool (True at index (0,))"),
    (fx.mse, ONE, np.array([["a"]] * 3), fx.DTypeError, "mse: expected a target of numbers, got dtype <U1."),
    (fx.mse, ONE, np.ones((3, 1)) * 1j, fx.DTypeError, "mse: expected a real target, got dtype complex128."),
    (fx.huber_loss, ONE * 1j, ONE, fx.DTypeError, "huber_loss: expected a real prediction, got dtype complex64."),
    (
        fx.logitcrossentropy,
        jnp.zeros((5, 10)),
        jnp.array([0, 1, 9, 10, 3]),
        fx.DataError,
        "logitcrossentropy: label 10 at index (3,) is outside [0, 10).",
    ),
    (
        fx.focal_loss,
        jnp.full((5, 3), 0.3),
        np.array([0, 1, -1, 2, 0]),
        fx.DataError,
        "focal_loss: label -1 at index (2,) is outside [0, 3).",
    ),
    (fx.logitcrossentropy, THREE, np.array([0, 1, 2, 0, 2**32]), fx.DataError, "label 4294967296 at index (4,)"),
    (fx.mse, ONE, NAN, fx.DataError, "mse: target is NaN at index (2, 0)."),
    (
        fx.logitcrossentropy,
        jnp.zeros((3, 2)),
        np.hstack([NAN, NAN]),
        fx.DataError,
        "logitcrossentropy: target is NaN at index (2, 0).",
    ),
    (
        fx.hinge_loss,
        ONE,
        np.array([[1], [0], [1]]),
        fx.DataError,
        "hinge_loss: target 0 at index (1, 0) is neither 1 nor -1.",
    ),
    (
        fx.crossentropy,
        jnp.array([[0.5, 0.5], [2.5, -1.5]]),
        jnp.array([0, 1]),
        fx.DataError,
        "crossentropy: prediction 2.5 at index (1, 0) is outside [0, 1]. Apply softmax or use logitcrossentropy.",
    ),
    (
        fx.binarycrossentropy,
        jnp.array([-0.5]),
        jnp.array([0]),
        fx.DataError,
        "binarycrossentropy: prediction -0.5 at index (0,) is outside [0, 1]. Apply sigmoid",
    ),
    (
        fx.kldivergence,
        jnp.array([[1.5, 0.0]]),
        jnp.array([[0.5, 0.5]]),
        fx.DataError,
        "kldivergence: prediction 1.5 at index (0, 0)",
    ),
    (
        fx.logitbinarycrossentropy,
        jnp.zeros(2),
        jnp.array([1, -1]),
        fx.DataError,
        "logitbinarycrossentropy: target -1 at index (1,) is outside [0, 1].",
    ),
    (
        fx.poisson_loss,
        jnp.array([-0.25]),
        jnp.array([1]),
        fx.DataError,
        "poisson_loss: prediction -0.25 at index (0,) is negative.",
    ),
]


@pytest.mark.parametrize(("loss", "prediction", "target", "error", "message"), REFUSED)
def test_refuses_with_a_reason(loss, prediction, target, error, message):
    with pytest.raises(error) as raised:
        loss(prediction, target)
    assert message in str(raised.value)
    if error is fx.DataError:  # where values cannot be seen, the loss is NaN
        if target.dtype != np.int64:
            assert np.isnan(jax.jit(loss)(prediction, target))
        # known targets are looked at during a trace too
        if "prediction" not in message:
            with pytest.raises(error):
                jax.grad(loss)(prediction, target)
    elif target.dtype not in (np.complex128, "<U1"):
        with pytest.raises(error):
            jax.jit(loss)(prediction, target)


def test_traced_labels_out_of_range_are_nan_row_by_row():
    labels = jnp.array([0, 3, -1, 2, -3])
    for loss in (fx.logitcrossentropy, fx.crossentropy, fx.focal_loss):
        each = jax.jit(lambda p, y: loss(p, y, agg=fx.identity))(jnp.full((5, 3), 1 / 3), labels)
        np.testing.assert_array_equal(np.isnan(each), [False, True, True, False, True])
        with checking(False):
            np.testing.assert_array_equal(
                np.isnan(loss(jnp.full((5, 3), 1 / 3), labels, agg=fx.identity)), np.isnan(each)
            )
    each = jax.vmap(lambda p, y: fx.logitcrossentropy(p, y))(jnp.zeros((5, 3)), labels)
    np.testing.assert_array_equal(np.isnan(each), [False, True, True, False, True])
    with checking(False):  # 64 bits cut to 32 do not land in range either
        assert np.isnan(fx.logitcrossentropy(THREE[:1], np.array([2**32])))


def test_checking_off_leaves_shapes_and_types_checked():
    with checking(False):
        assert np.isnan(fx.mse(ONE, NAN))
        assert fx.hinge_loss(ONE, jnp.zeros((3, 1))) == 1
        assert np.isfinite(jax.jit(fx.hinge_loss)(ONE, jnp.zeros((3, 1))))
        assert fx.crossentropy(jnp.array([[2.0, 0.0]]), jnp.array([0])) < 0
        with pytest.raises(fx.ShapeError):
            fx.mse(ONE, jnp.ones(3))
        with pytest.raises(fx.DTypeError):
            fx.logitcrossentropy(THREE, jnp.ones(5))
    with pytest.raises(fx.DataError):
        fx.mse(ONE, NAN)


def test_strict_checking_finds_probabilities_where_logits_belong():
    rows = fx.softmax(jnp.asarray(REAL))
    assert np.isfinite(fx.logitcrossentropy(rows, LABELS))
    with strict_checking(True):
        for prediction, axis in ((rows, -1), (rows.T, 0), (rows.astype(jnp.bfloat16), -1)):
            with pytest.raises(fx.DataError, match=r"logitcrossentropy: expected logits, got probabilities"):
                fx.logitcrossentropy(prediction, LABELS, axis=axis)
            assert np.isnan(jax.jit(lambda p, y: fx.logitcrossentropy(p, y, axis=axis))(prediction, LABELS))
        assert np.isfinite(jax.jit(lambda p, y: fx.logitcrossentropy(p, y))(REAL, LABELS))
        assert np.isfinite(fx.logitcrossentropy(rows[:1], LABELS[:1]))  # one row may do so by accident
        assert np.isfinite(fx.logitcrossentropy(rows.at[0, 0].add(0.01), LABELS))
        with checking(False):
            assert np.isfinite(fx.logitcrossentropy(rows, LABELS))


def test_options_out_of_range():
    for call, message in [
        (lambda: fx.huber_loss(ONE, ONE, delta=0), "huber_loss: expected delta > 0, got 0."),
        (lambda: fx.siamese_contrastive_loss(ONE, ONE, margin=-1), "expected margin >= 0, got -1."),
        (lambda: fx.focal_loss(ROWS, HOT, gamma=-1), "focal_loss: expected gamma >= 0, got -1."),
        (lambda: fx.tversky_loss(ONE, ONE, beta=2), "tversky_loss: expected 0 <= beta <= 1, got 2."),
    ]:
        with pytest.raises(fx.ArgumentError) as raised:
            call()
        assert message in str(raised.value)
