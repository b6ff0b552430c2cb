"""Named numbers beside the loss: means over observations, and what is added up first."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx

RNG = np.random.default_rng(0)
X = RNG.normal(size=(23, 4)).astype("float32")
Y = (X[:, :1] + 0.3 * RNG.normal(size=(23, 1)) > 0).astype("float32")


def counts(prediction, target):
    """Precision by totals."""
    yes = prediction > 0
    return fx.Summed(jnp.stack([(yes * target).sum(), yes.sum()]), lambda t: t[0] / max(t[1], 1))


def with_numbers(model, x, y):
    prediction = model(x)
    error = jnp.abs(prediction - y)
    return fx.mse(prediction, y), {"mae": error.mean(), "precision": counts(prediction, y)}


def fitted(loss, metrics=(), validation=None, callbacks=(), data=None, epochs=3):
    fx.seed(0)
    model = fx.Dense(4, 1)
    data = fx.DataLoader((X, Y), batch_size=5, shuffle=True, seed=3) if data is None else data
    options = {"metrics": metrics, "validation": validation, "callbacks": callbacks, "epochs": epochs}
    return model, fx.fit(model, data, loss=loss, optimizer=fx.Descent(0.0), seed=1, progress=False, **options)


def expected(model):
    """The numbers over all the data, by NumPy; the learning rate is 0, so they are those of every epoch."""
    p = X @ np.asarray(model.weight) + np.asarray(model.bias)
    yes = p > 0
    return {"loss": ((p - Y) ** 2).mean(), "mae": abs(p - Y).mean(), "precision": Y[yes].sum() / yes.sum()}


def test_a_loss_may_return_named_numbers_which_fit_and_evaluate_record():
    model, history = fitted(with_numbers, validation=(X[:7], Y[:7]))
    assert history.names[:4] == ["epoch", "loss", "mae", "precision"]
    assert history.names[4:7] == ["validation_loss", "validation_mae", "validation_precision"]
    for name, value in expected(model).items():
        np.testing.assert_allclose(history[name], [value] * 3, rtol=1e-6)
    scores = fx.evaluate(model, (X, Y), loss=with_numbers, batch_size=5)
    for name, value in expected(model).items():
        np.testing.assert_allclose(scores[name], value, rtol=1e-6)


@pytest.mark.parametrize("way", ["several epochs in one call", "epochs one by one", "steps one by one", "a generator"])
def test_the_numbers_are_the_same_however_the_steps_are_taken(way):
    def mae(prediction, target):
        return jnp.abs(prediction - target).mean()

    callbacks, data, epochs = [], None, 3
    if way == "epochs one by one":
        callbacks = [lambda context: None]
    if way == "steps one by one":

        class Steps(fx.Callback):
            def on_step_end(self, context):
                seen.append(context.means())

        seen = []
        callbacks = [Steps()]
    if way == "a generator":
        data, epochs = iter([(X[i : i + 5], Y[i : i + 5]) for i in range(0, 23, 5)]), 1
    metrics = {"precision": counts, "mae": mae}
    model, history = fitted(fx.mse, metrics, callbacks=callbacks, data=data, epochs=epochs)
    for name, value in expected(model).items():
        np.testing.assert_allclose(history[name], [value] * epochs, rtol=1e-6)
    if way == "steps one by one":
        assert list(seen[0]) == ["loss", "precision", "mae"] and len(seen) == 15
        for name in seen[0]:
            np.testing.assert_allclose(seen[4][name], history[name][0], rtol=1e-12)


def test_means_of_an_epoch_under_way_are_those_of_its_batches_so_far():
    seen = []

    class Steps(fx.Callback):
        def on_step_end(self, context):
            seen.append((context.loss, context.means()["loss"]))

    fitted(fx.mse, callbacks=[Steps()], epochs=2)
    sizes = [5, 5, 5, 5, 3]
    for start in (0, 5):
        losses = [loss for loss, _ in seen[start : start + 5]]
        for i in range(5):
            mean = np.average(losses[: i + 1], weights=sizes[: i + 1])
            np.testing.assert_allclose(seen[start + i][1], mean, rtol=1e-12)


def test_summed_totals_may_have_any_shape_and_pass_through_jit():
    totals = fx.Summed(jnp.ones((2, 3)), lambda t: t.sum())
    assert jax.jit(lambda s: s)(totals).totals.shape == (2, 3)

    def grid(prediction, target):
        return fx.Summed(jnp.ones((2, 3)) * len(prediction), lambda t: t.sum() / t.size)

    _, history = fitted(fx.mse, {"grid": grid})
    assert history["grid"] == [23.0] * 3


def test_resumed_runs_record_the_same_numbers(tmp_path):
    class Stop(fx.Callback):
        def on_step_end(self, context):
            if context.step == 8 and not context.resumed:
                raise KeyboardInterrupt

    def run(folder, callbacks):
        fx.seed(0)
        data = fx.DataLoader((X, Y), batch_size=5, shuffle=True, seed=3)
        options = {"optimizer": fx.Adam(0.1), "epochs": 3, "seed": 1, "progress": False, "callbacks": callbacks}
        return fx.fit(fx.Dense(4, 1), data, loss=with_numbers, run=folder, **options)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "a", [Stop()])
    resumed, whole = run(tmp_path / "a", [Stop()]), run(tmp_path / "b", [Stop.__base__()])
    for name in ("loss", "mae", "precision"):
        assert resumed[name] == whole[name]


def test_a_metric_that_gives_no_number_is_refused():
    with pytest.raises(fx.ShapeError, match=r"errors: expected a number, got shape \(5, 1\)\. .*fx\.Summed"):
        fitted(fx.mse, {"errors": lambda p, t: p - t})
    with pytest.raises(fx.ArgumentError, match="metrics: expected a name of its own, got 'seconds'"):
        fitted(fx.mse, {"seconds": lambda p, t: p.mean()})
    two = {"two": lambda p, t: fx.Summed(jnp.ones(2), lambda t: t)}
    with pytest.raises(fx.ShapeError, match=r"two: expected its result to be a number, got an array of shape \(2,\)"):
        fitted(fx.mse, two)


def test_what_else_a_loss_returns_is_left_alone():
    def loss(model, x, y):
        prediction = model(x)
        value = fx.mse(prediction, y)
        return value, {"loss": 2 * value, "prediction": prediction, "note": "kept", "bias": model.bias[0]}, x

    _, history = fitted(loss)
    assert history.names[:3] == ["epoch", "loss", "bias"]
    assert "bias" in fx.evaluate(fx.Dense(4, 1), (X, Y), loss=lambda m, x, y: (fx.mse(m(x), y), {"bias": m.bias[0]}))
