"""The learning-rate range test, against the same steps taken by hand in NumPy."""

import numpy as np
import pytest
from training_help import in_batches, snapshot

import fluxion as fx

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3)).astype(np.float32)
Y = (X @ np.array([[1.0], [-2.0], [0.5]]) + 3).astype(np.float32)


def by_hand(batches, rates):
    """Losses of gradient descent on a linear model from zero, until four times the best."""
    weight, bias, losses = np.zeros((3, 1)), np.zeros(1), []
    for rate, (x, y) in zip(rates, batches, strict=False):
        error = x.astype(float) @ weight + bias - y
        losses.append(np.mean(error**2))
        if losses[-1] > 4 * min(losses):
            break
        weight = weight - rate * 2 * x.T @ error / len(x)
        bias = bias - rate * 2 * error.mean(0)
    return np.array(losses)


def find(model, data, **options):
    options = {"optimizer": fx.Descent(), "lowest": 1e-5, "steps": 60} | options
    return fx.find_learning_rate(model, data, loss=fx.mse, **options)


def test_losses_and_suggestion_are_those_by_hand(tmp_path):
    model, batches = fx.Dense(3, 1, init=fx.zeros), in_batches(X, Y)
    test = find(model, batches)
    rates = np.geomspace(1e-5, 10, 60)
    expected = by_hand(batches * 12, rates)
    assert 40 < len(expected) < 60
    np.testing.assert_allclose(test.losses, expected, rtol=1e-4)
    np.testing.assert_allclose(test.rates, rates[: len(expected)])
    smooth = np.array([expected[i - 2 : i + 3].mean() for i in range(2, len(expected) - 2)])
    assert test.suggestion == pytest.approx(
        rates[2 + np.argmin(np.gradient(smooth, np.log(rates[2 : 2 + len(smooth)])))]
    )
    assert repr(test) == f"LearningRateTest({len(expected)} steps, suggestion={test.suggestion:.2g})"
    axes = test.plot(tmp_path / "test.png").axes[0]
    assert axes.get_xscale() == "log" and (tmp_path / "test.png").stat().st_size > 1000


def test_model_optimizer_loader_and_stream_stay_as_they_are():
    model = fx.Chain(fx.Dense(3, 4, fx.relu), fx.BatchNorm(4), fx.Dropout(0.2), fx.Dense(4, 1))
    opt = fx.setup({"layers[0]": fx.Momentum(0.3), "**": fx.Adam()}, model)
    loader = fx.DataLoader((X, Y), batch_size=8, shuffle=True, seed=1)
    next(iter(loader))
    fx.train(lambda m, x, y: fx.mse(m(x), y), model, loader, opt)
    before, shown, drawn = snapshot(model, opt), repr(opt), None
    for _ in range(2):
        fx.seed(3)
        tests = [find(model, loader, optimizer=opt, highest=1.0) for _ in range(2)]
        again = float(fx.rand(1)[0])
        assert drawn in (None, again)
        drawn = again
    np.testing.assert_array_equal(tests[0].losses, tests[1].losses)
    after = snapshot(model, opt)
    assert (repr(opt), loader.epoch, after[1]) == (shown, 2, before[1])
    for a, b in zip(after[0], before[0], strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_loss_that_becomes_infinite_ends_the_test():
    model = fx.Dense(3, 1, init=fx.zeros)
    test = find(model, [(X, Y)], lowest=1.0, highest=1e30, steps=20)
    assert len(test.losses) < 20 and test.suggestion is None and "None" in repr(test)
    with pytest.raises(fx.DataError, match="nan"):
        find(model, [(X * np.nan, Y)])


def test_sizes_are_inferred_and_arrays_cut_into_batches():
    model = fx.Dense(None, 1)
    assert len(find(model, (X, Y), batch_size=10, highest=1e-3, optimizer=None).losses) == 60
    assert repr(model) == "Dense(3, 1)"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"lowest": 0.0}, fx.ArgumentError, "expected 0 < lowest < highest"),
        ({"lowest": 20.0}, fx.ArgumentError, "lowest=20.0"),
        ({"steps": 3}, fx.ArgumentError, "at least 10 steps"),
        ({"batch_size": 3}, fx.ArgumentError, "batch_size=3 is for arrays"),
        ({"data": iter([(X, Y)])}, fx.DataError, "A generator can be read once"),
    ],
)
def test_what_cannot_be_is_refused(options, error, message):
    data = options.pop("data", [(X, Y)])
    with pytest.raises(error, match=message):
        find(fx.Dense(3, 1), data, **options)
