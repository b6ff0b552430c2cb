"""Metrics against closed forms, scipy, and plain Python counting."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx
from fluxion.train.metrics import precision_recall, regression_report

SCORES = jnp.array([[2.0, 1.0, 0.0], [0.3, 0.1, 0.2], [0.0, 3.0, 1.0], [5.0, 0.0, 9.0]])
LABELS = jnp.array([0, 1, 1, 0])


def test_accuracy_of_scores_counts_the_highest():
    assert float(fx.accuracy(SCORES, LABELS)) == 0.5
    assert float(fx.accuracy(SCORES, jax.nn.one_hot(LABELS, 3))) == 0.5
    smoothed = 0.9 * jax.nn.one_hot(LABELS, 3) + 0.1 / 3
    assert float(jax.jit(fx.accuracy)(SCORES, smoothed)) == 0.5
    assert fx.accuracy(SCORES, LABELS, agg=fx.identity).tolist() == [1, 0, 1, 0]


def test_accuracy_agrees_with_torch_on_many_axes():
    torch = pytest.importorskip("torch", reason="torch is the outside reference")
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(4, 5, 6)).astype(np.float32), rng.integers(0, 6, (4, 5))
    expected = (torch.tensor(scores).argmax(-1) == torch.tensor(labels)).double().mean().item()
    assert float(jax.jit(fx.accuracy)(scores, labels)) == pytest.approx(expected)
    for k in (1, 3, 6):
        hits = (torch.tensor(scores).topk(k).indices == torch.tensor(labels)[..., None]).any(-1)
        assert float(fx.topk_accuracy(scores, labels, k=k)) == pytest.approx(hits.double().mean().item())


@pytest.mark.parametrize("shape", [(4,), (4, 1), (2, 2)])
def test_accuracy_of_decisions(shape):
    logits = jnp.array([-1.0, 0.2, 0.0, 3.0]).reshape(shape)
    target = jnp.array([0, 1, 1, 0]).reshape(shape)
    assert float(fx.accuracy(logits, target, threshold=0)) == 0.5
    assert float(fx.accuracy(jax.nn.sigmoid(logits), target, threshold=0.5)) == 0.5


def test_accuracy_of_predicted_labels():
    assert float(fx.accuracy(jnp.array([0, 2, 1]), jnp.array([0, 1, 1]))) == pytest.approx(2 / 3)
    assert float(fx.accuracy(jnp.array([True, False]), jnp.array([True, True]))) == 0.5


def test_accuracy_of_nothing_in_particular():
    # The first of equal scores is predicted; it must not count for every class.
    flat = jnp.zeros((3, 3))
    assert fx.accuracy(flat, jnp.arange(3), agg=fx.identity).tolist() == [1, 0, 0]
    assert fx.topk_accuracy(flat, jnp.arange(3), k=2, agg=fx.identity).tolist() == [1, 1, 0]


def test_nan_predictions_are_wrong():
    scores = SCORES.at[0, 0].set(jnp.nan)
    assert fx.accuracy(scores, LABELS, agg=fx.identity).tolist() == [0, 0, 1, 0]
    assert fx.topk_accuracy(scores, LABELS, k=3, agg=fx.identity).tolist() == [0, 1, 1, 1]
    decisions = fx.accuracy(jnp.array([jnp.nan, jnp.nan]), jnp.array([0, 1]), threshold=0, agg=fx.identity)
    assert decisions.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("prediction", "target", "options", "error", "message"),
    [
        (jnp.zeros((4, 3)), jnp.zeros((4, 1), int), {}, fx.ShapeError, r"labels of shape \(4,\).*got shapes \(4, 3\)"),
        (jnp.zeros((4, 3)), jnp.zeros((3,), int), {}, fx.ShapeError, "never broadcast"),
        (jnp.zeros((4, 1)), jnp.zeros((4,), int), {}, fx.ShapeError, "never broadcast"),
        (jnp.zeros((4, 1)), jnp.zeros((4,), int), {"threshold": 0}, fx.ShapeError, r"shape \(4, 1\).*got \(4,\)"),
        (jnp.zeros((4, 1)), jnp.zeros((4, 1), int), {}, fx.ArgumentError, "threshold=0 for logits"),
        (jnp.zeros((4,)), jnp.zeros((4,), int), {}, fx.ArgumentError, "threshold=0 for logits"),
        (jnp.zeros((4, 3)), jnp.zeros(4), {}, fx.DTypeError, "integer class labels"),
        (jnp.zeros((4, 3), int), jnp.zeros(4, int), {}, fx.ShapeError, "one label per predicted label"),
        (jnp.zeros(4, int), jnp.zeros(4), {}, fx.DTypeError, "integer labels"),
        (jnp.zeros((2, 3)), jnp.array([0, 3]), {}, fx.DataError, r"label 3 at index \(1,\) is outside \[0, 3\)"),
        (jnp.zeros((2, 3)), jnp.ones((2, 3)), {}, fx.DataError, r"sums to 3 at index \(0,\).*threshold"),
        (jnp.zeros(2), jnp.array([0, 2]), {"threshold": 0}, fx.DataError, "neither 0 nor 1"),
        (jnp.zeros((0, 3)), jnp.zeros(0, int), {}, fx.ShapeError, "at least one value"),
    ],
)
def test_accuracy_refuses(prediction, target, options, error, message):
    with pytest.raises(error, match=message):
        fx.accuracy(prediction, target, **options)


def test_bad_values_under_a_trace_are_nan():
    assert jnp.isnan(jax.jit(fx.accuracy)(SCORES, jnp.array([0, 1, 1, 3])))
    assert jnp.isnan(jax.jit(fx.accuracy)(SCORES, jnp.ones((4, 3))))
    assert jnp.isnan(jax.jit(fx.topk_accuracy, static_argnames="k")(SCORES, jnp.array([0, 1, 1, -1]), k=2))
    decide = jax.jit(functools.partial(fx.accuracy, threshold=0))
    assert jnp.isnan(decide(jnp.zeros(2), jnp.array([0, 2])))


@pytest.mark.parametrize("k", [0, 4, True, 1.0])
def test_topk_refuses(k):
    with pytest.raises(fx.ArgumentError, match="from 1 to 3"):
        fx.topk_accuracy(SCORES, LABELS, k=k)


def test_r2_of_a_straight_line_is_the_squared_correlation(x64):
    stats = pytest.importorskip("scipy.stats", reason="scipy is the outside reference")
    rng = np.random.default_rng(1)
    x = rng.normal(size=50)
    y = 3 * x + rng.normal(size=50)
    line = stats.linregress(x, y)
    fitted = line.intercept + line.slope * x
    assert float(fx.r2_score(fitted, y)) == pytest.approx(line.rvalue**2, rel=1e-12)
    report = regression_report(fitted, y)
    assert report["r2"] == pytest.approx(line.rvalue**2, rel=1e-12)
    assert report["rmse"] == pytest.approx(np.linalg.norm(fitted - y) / np.sqrt(50), rel=1e-12)
    assert report["mae"] == pytest.approx(sum(abs(a - b) for a, b in zip(fitted, y, strict=True)) / 50, rel=1e-12)


def test_r2_closed_forms():
    target = jnp.array([1.0, 2.0, 3.0])
    assert float(fx.r2_score(target, target)) == 1
    assert float(fx.r2_score(jnp.full(3, 2.0), target)) == 0  # as good as the mean
    assert float(fx.r2_score(target[::-1], target)) == -3
    constant = jnp.full(3, 5.0)
    assert float(fx.r2_score(constant, constant)) == 1  # as sklearn's force_finite
    assert float(fx.r2_score(target, constant)) == 0
    columns = jnp.stack([target, target], axis=1)
    predicted = jnp.stack([target, target[::-1]], axis=1)
    assert float(fx.r2_score(predicted, columns)) == -1  # the mean of 1 and -3
    assert regression_report(predicted, columns)["r2"] == -1
    assert jnp.isnan(fx.r2_score(jnp.ones(1), jnp.ones(1)))
    assert np.isnan(regression_report([1.0], [2.0])["r2"])
    assert jnp.isnan(fx.r2_score(target.at[0].set(jnp.nan), target))


def test_regression_refuses():
    with pytest.raises(fx.ShapeError, match=r"shape \(3, 1\), got \(3,\)"):
        fx.r2_score(jnp.ones((3, 1)), jnp.ones(3))
    with pytest.raises(fx.ShapeError, match=r"got \(3, 1\) and \(3,\)"):
        regression_report(np.ones((3, 1)), np.ones(3))
    with pytest.raises(fx.ShapeError, match=r"got \(0,\)"):
        regression_report([], [])
    with pytest.raises(fx.DataError, match=r"prediction is NaN at index \(1,\)"):
        regression_report([0.0, np.nan], [0.0, 1.0])
    with pytest.raises(fx.DataError, match=r"target inf at index \(0,\) is not finite"):
        regression_report([0.0, 1.0], [np.inf, 1.0])


def test_confusion_matrix_counts():
    rng = np.random.default_rng(2)
    true, predicted = rng.integers(0, 4, 100), rng.integers(0, 4, 100)
    matrix = fx.confusion_matrix(predicted, jnp.array(true), 5)
    expected = [[sum((true == i) & (predicted == j)) for j in range(5)] for i in range(5)]
    assert matrix.tolist() == expected
    names = np.array(["ant", "bee", "cat", "dog", "eel"])
    assert fx.confusion_matrix(names[predicted], names[true], names.tolist()).tolist() == expected
    assert fx.confusion_matrix([], [], 2).tolist() == [[0, 0], [0, 0]]
    assert fx.confusion_matrix([True, False], [True, True], 2).tolist() == [[0, 0], [1, 1]]
    assert fx.confusion_matrix([3], [1], [1, 3]).tolist() == [[0, 1], [0, 0]]


def test_confusion_matrix_refuses():
    with pytest.raises(fx.ShapeError, match=r"shape \(2,\), got \(2, 3\).*onecold"):
        fx.confusion_matrix(np.zeros((2, 3)), [0, 1], 3)
    with pytest.raises(fx.DataError, match=r"predicted label 3 at index \(1,\) is outside \[0, 3\)"):
        fx.confusion_matrix([0, 3], [0, 1], 3)
    with pytest.raises(fx.DataError, match=r"label 'bee' at index \(0,\) is none of the 2 classes"):
        fx.confusion_matrix(["ant"], ["bee"], ["ant", "cat"])
    with pytest.raises(fx.DTypeError, match="integer labels, got dtype float64"):
        fx.confusion_matrix([0, 1], [0.0, 1.0], 2)
    with pytest.raises(fx.ArgumentError, match="at least 1 class"):
        fx.confusion_matrix([], [], 0)
    with pytest.raises(fx.ArgumentError, match="each once"):
        fx.confusion_matrix(["a"], ["a"], ["a", "a"])


def test_precision_recall_closed_form():
    # Class 0: 8 right of 10 true and 12 predicted. Class 2: never true, never predicted: 0 / 0 is 0.
    scores = precision_recall([[8, 2, 0], [4, 6, 0], [0, 0, 0]])
    assert scores.precision.tolist() == [8 / 12, 6 / 8, 0]
    assert scores.recall.tolist() == [8 / 10, 6 / 10, 0]
    harmonic = [2 / (12 / 8 + 10 / 8), 2 / (8 / 6 + 10 / 6), 0]
    assert scores.f1 == pytest.approx(harmonic)
    assert scores.support.tolist() == [10, 10, 0]


def test_precision_recall_refuses():
    with pytest.raises(fx.ShapeError, match=r"got \(2, 3\)"):
        precision_recall(np.zeros((2, 3)))
    with pytest.raises(fx.DataError, match=r"count 0.5 at index \(0, 0\)"):
        precision_recall([[0.5, 0.5], [0.0, 1.0]])
    with pytest.raises(fx.DataError, match="count -1"):
        precision_recall([[1, -1], [0, 1]])
