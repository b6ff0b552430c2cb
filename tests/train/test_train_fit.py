"""`fit`: the loop of `train` with validation, metrics, callbacks and a history."""

import jax.numpy as jnp
import numpy as np
import pytest
from training_help import assert_close, assert_same, classes, cross, in_batches, snapshot, weights

import fluxion as fx

X, Y = classes(37)


def mlp():
    fx.seed(5)
    return fx.Chain(fx.Dense(4, 5, fx.relu), fx.Dense(5, 3))


def fit(model, data, *, loss=fx.logitcrossentropy, **options):
    return fx.fit(model, data, loss=loss, progress=False, **options)


# ---------------------------------------------------------------------------------------------- what is trained


def test_arrays_are_shuffled_into_batches_by_the_seed():
    model, by_hand = mlp(), mlp()
    history = fit(model, (X, Y), epochs=2, batch_size=8, seed=3)
    opt = fx.setup(fx.Adam(), by_hand)
    opt.seed = 3
    loader = fx.DataLoader((X, Y), batch_size=8, shuffle=True, seed=3)
    losses = [fx.train(cross, by_hand, loader, opt) for _ in range(2)]
    assert_close(weights(model), weights(by_hand), 0)
    sizes = [8, 8, 8, 8, 5]
    np.testing.assert_allclose(history["loss"], [np.average(each, weights=sizes) for each in losses], rtol=1e-6)
    assert history.names == ["epoch", "loss", "learning_rate", "seconds", "samples_per_second"]
    assert history["epoch"] == [1, 2]
    assert history["learning_rate"] == [0.001, 0.001]


def test_the_same_seed_gives_the_same_run():
    results = []
    for seed in (1, 1, 2):
        model = fx.Chain(*mlp().layers[:1], fx.Dropout(0.5), mlp().layers[1])
        history = fit(model, (X, Y), batch_size=8, seed=seed, validation=0.2)
        results.append((weights(model), history["loss"], history["validation_loss"]))
    assert_close(results[0][0], results[1][0], 0)
    assert results[0][1:] == results[1][1:]
    assert results[0][1] != results[2][1]


def test_an_optimizer_is_continued():
    model = mlp()
    opt = fx.setup(fx.Adam(1e-2), model)
    for _ in range(2):
        fit(model, in_batches(X, Y), optimizer=opt)
    whole = mlp()
    again = fx.setup(fx.Adam(1e-2), whole)
    again.seed = opt.seed
    fit(whole, in_batches(X, Y), optimizer=again, epochs=2)
    assert opt.step == 10
    assert_same(snapshot(model, opt), snapshot(whole, again))


@pytest.mark.parametrize(
    "loss",
    [
        fx.logitcrossentropy,
        cross,
        lambda m, x, y: (cross(m, x, y), "aux"),
        lambda p, y: (fx.logitcrossentropy(p, y), p),
    ],
)
def test_a_loss_may_be_of_the_prediction_or_of_the_model(loss):
    model, plain = mlp(), mlp()
    history = fit(model, in_batches(X, Y), loss=loss, validation=(X, Y))
    fx.train(cross, plain, in_batches(X, Y), fx.setup(fx.Adam(), plain))
    assert_close(weights(model), weights(plain))
    np.testing.assert_allclose(history["validation_loss"], [float(cross(plain, X, Y))], rtol=1e-5)


def test_several_inputs_dicts_and_a_loss_of_the_model():
    fx.seed(0)
    two = fx.Parallel(jnp.add, fx.Dense(3, 3), fx.Dense(1, 3))
    history = fit(two, (X[:, :3], X[:, 3:], Y), epochs=15, batch_size=8, optimizer=fx.Adam(1e-2), metrics=[fx.accuracy])
    assert history["loss"][-1] < history["loss"][0]
    assert history["accuracy"][-1] > 0.5
    model = mlp()
    history = fit(
        model,
        {"x": X, "y": Y},
        loss=lambda m, batch: cross(m, batch["x"], batch["y"]),
        epochs=3,
        validation=0.3,
        optimizer=fx.Adam(1e-2),
        seed=0,
    )
    assert history["loss"][-1] < history["loss"][0]
    assert len(history["validation_loss"]) == 3


@pytest.mark.parametrize("rows", [slice(0, 32), slice(0, 37)])
def test_sizes_are_inferred_from_the_first_batch(rows):
    for data in (
        (X[rows].astype(np.float64), Y[rows]),
        in_batches(X[rows], Y[rows]),
        as_list_batches(X[rows], Y[rows]),
    ):
        model = fx.Chain(fx.Dense(None, 5, fx.relu), fx.Dense(None, 3))
        fit(model, data)
        assert repr(model) == "Chain(Dense(4, 5, relu), Dense(5, 3))"


def as_list_batches(x, y):
    return [(a.tolist(), b.tolist()) for a, b in in_batches(x, y)]


def test_a_generator_is_one_epoch():
    model = mlp()
    assert len(fit(model, (batch for batch in in_batches(X, Y)))) == 1
    with pytest.raises(fx.DataError, match="A generator lasts for one") as caught:
        fit(model, (batch for batch in in_batches(X, Y)), epochs=3)
    assert len(caught.value.history) == 1


# ------------------------------------------------------------------------------------------ metrics, validation


def test_metrics_are_exact_means_over_all_observations():
    model = mlp()
    history = fit(model, (X, Y), batch_size=8, metrics=[fx.accuracy], optimizer=fx.Descent(0.0), validation=(X, Y))
    right = float((np.asarray(model(X)).argmax(1) == Y).mean())
    np.testing.assert_allclose(history["accuracy"], [right], rtol=1e-6)
    np.testing.assert_allclose(history["validation_accuracy"], [right], rtol=1e-6)
    np.testing.assert_allclose(history["loss"], history["validation_loss"], rtol=1e-5)
    assert history.names[:5] == ["epoch", "loss", "accuracy", "validation_loss", "validation_accuracy"]


def test_metrics_by_name_and_with_a_loss_of_the_model():
    history = fit(mlp(), (X, Y), loss=cross, metrics={"right": fx.accuracy}, validation=(X, Y))
    assert history.names[:4] == ["epoch", "loss", "validation_loss", "validation_right"]


def test_validation_is_a_fraction_arrays_or_a_loader():
    sizes = []

    class Sizes(fx.Callback):
        def on_step_end(self, context):
            sizes.append(context.step)

    fit(mlp(), (X, Y), validation=0.25, batch_size=7, seed=0, callbacks=[Sizes()])
    assert sizes == [1, 2, 3, 4]  # 28 of 37
    by_arrays = fit(mlp(), in_batches(X, Y), validation=(X, Y))
    by_loader = fit(mlp(), in_batches(X, Y), validation=fx.DataLoader((X, Y), batch_size=10))
    np.testing.assert_allclose(by_arrays["validation_loss"], by_loader["validation_loss"], rtol=1e-6)


def test_validation_is_in_test_mode_and_moves_no_statistics():
    model = fx.Chain(fx.BatchNorm(4), fx.Dropout(0.5), fx.Dense(4, 3))
    plain = fx.Chain(fx.BatchNorm(4), fx.Dropout(0.5), fx.Dense(4, 3))
    plain[2].weight, plain[2].bias = model[2].weight, model[2].bias
    history = fit(model, in_batches(X, Y), seed=0, validation=(X, Y))
    fit(plain, in_batches(X, Y), seed=0)
    np.testing.assert_array_equal(model[0].mean, plain[0].mean)
    np.testing.assert_allclose(history["validation_loss"], [float(cross(model, X, Y))], rtol=1e-5)


# ---------------------------------------------------------------------------------------- callbacks, schedules


class Log(fx.Callback):
    def __init__(self):
        self.events = []


def _logged(name):
    def method(self, context):
        self.events.append((name, context.epoch, context.step))

    return method


for _name in ("fit_begin", "epoch_begin", "step_begin", "step_end", "epoch_end", "fit_end", "exception"):
    setattr(Log, f"on_{_name}", _logged(_name))


def test_callbacks_are_called_in_order_with_a_model_that_is_up_to_date():
    log = Log()
    fit(mlp(), in_batches(X[:16], Y[:16]), epochs=2, callbacks=[log])
    assert log.events == [
        ("fit_begin", 0, 0),
        ("epoch_begin", 1, 0), ("step_begin", 1, 0), ("step_end", 1, 1), ("step_begin", 1, 1), ("step_end", 1, 2),
        ("epoch_end", 1, 2),
        ("epoch_begin", 2, 2), ("step_begin", 2, 2), ("step_end", 2, 3), ("step_begin", 2, 3), ("step_end", 2, 4),
        ("epoch_end", 2, 4),
        ("fit_end", 2, 4),
    ]  # fmt: skip


def test_callbacks_of_steps_change_nothing():
    model, observed = mlp(), mlp()
    fit(model, (X, Y), epochs=2, seed=0)
    fit(observed, (X, Y), epochs=2, seed=0, callbacks=[Log()])
    assert_close(weights(model), weights(observed), 0)


def test_what_a_callback_changes_is_kept():
    class Zero(fx.Callback):
        def on_step_end(self, context):
            context.model.layers[1].bias = 0 * context.model.layers[1].bias
            if context.step == 2:
                fx.adjust(context.opt, 0.5)
            if context.step == 4:
                raise OSError("after four steps")

    model = mlp()
    opt = fx.setup(fx.Adam(), model)
    with pytest.raises(OSError, match="after four steps") as caught:
        fit(model, in_batches(X, Y), optimizer=opt, callbacks=[Zero()], epochs=3)
    assert opt.step == 4
    assert opt.learning_rate == 0.5
    assert not np.asarray(model.layers[1].bias).any()
    assert len(caught.value.history) == 0


def test_an_exception_reaches_the_callbacks_and_keeps_the_history():
    log = Log()

    def bad_in_epoch_two(context):
        if context.epoch == 1:
            batches[1][1][3] = 9

    batches = [(np.array(x), np.array(y)) for x, y in in_batches(X, Y)]
    model = mlp()
    opt = fx.setup(fx.Adam(), model)
    with pytest.raises(fx.DataError, match=r"label 9 at index \(3,\)") as caught:
        fit(model, batches, optimizer=opt, epochs=3, callbacks=[log, bad_in_epoch_two])
    assert len(caught.value.history) == 1
    assert log.events[-1] == ("exception", 2, 6)
    assert opt.step == 6
    assert np.isfinite(fx.predict(model, X)).all()


def test_a_callback_stops_the_run():
    seen = []

    def stop(context):
        seen.append(context.epoch)
        if context.epoch == 2:
            context.stop("enough")

    assert len(fit(mlp(), (X, Y), epochs=9, callbacks=[stop])) == 2
    assert seen == [1, 2]

    class StopAtStep(fx.Callback):
        def on_step_end(self, context):
            if context.step == 3:
                context.stop()

    model = mlp()
    opt = fx.setup(fx.Adam(), model)
    assert len(fit(model, in_batches(X, Y), optimizer=opt, epochs=9, callbacks=[StopAtStep()])) == 1
    assert opt.step == 3


def test_early_stopping_restores_the_best_epoch():
    model = fx.Dense(4, 3)
    kept = {}

    def keep(context):
        kept[context.epoch] = weights(context.model)

    stopping = fx.EarlyStopping(patience=2, restore_best=True)
    schedule = [0.1, 0.1, 5e3, 5e3, 5e3, 5e3]
    history = fit(
        model,
        [(X, Y)],
        optimizer=fx.Descent(0.1),
        schedule=lambda step: schedule[min(step, 5)],
        epochs=9,
        validation=(X, Y),
        callbacks=[keep, stopping],
    )
    best = int(np.argmin(history["validation_loss"])) + 1
    assert len(history) == best + 2
    assert_close(weights(model), kept[best], 0)


def test_a_schedule_is_the_learning_rate_from_here_on():
    history = fit(
        mlp(), in_batches(X[:16], Y[:16]), optimizer=fx.Descent(1.0), schedule=lambda step: 0.1 / (1 + step), epochs=2
    )
    np.testing.assert_allclose(history["learning_rate"], [0.1 / 3, 0.1 / 5])
    optax = pytest.importorskip("optax")
    assert "learning_rate" not in fit(mlp(), (X, Y), optimizer=optax.sgd(0.1)).names


# -------------------------------------------------------------------------------------------- wrong arguments


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"epochs": 0}, fx.ArgumentError, "expected epochs of at least 1, got 0"),
        ({"epochs": 1.5}, fx.ArgumentError, "expected epochs of at least 1, got 1.5"),
        ({"batch_size": 0}, fx.FluxionError, "batch_size"),
        ({"validation": 1.5}, fx.ArgumentError, "expected validation between 0 and 1, got 1.5"),
        ({"validation": True}, fx.ArgumentError, "expected validation as a fraction, arrays or batches, got True"),
        ({"metrics": fx.accuracy}, fx.ArgumentError, r"Write \[fx.accuracy\]"),
        ({"callbacks": fx.EarlyStopping()}, fx.ArgumentError, r"Write \[callback\]"),
        ({"callbacks": [fx.EarlyStopping]}, fx.ArgumentError, r"Write EarlyStopping\(\)"),
        ({"optimizer": "adam"}, fx.FluxionError, "expected a rule"),
        ({"loss": "mse"}, fx.ArgumentError, "expected a function such as fx.logitcrossentropy, got 'mse'"),
        ({"loss": lambda p: 0.0}, fx.ArgumentError, "got one of 1 arguments"),
        ({"data": in_batches(X, Y), "batch_size": 3}, fx.ArgumentError, "batch_size=3 is for arrays"),
        ({"data": in_batches(X, Y), "validation": 0.1}, fx.ArgumentError, "Give validation data of its own"),
        ({"data": 3}, fx.ArgumentError, "expected a tuple of arrays, a DataLoader or batches, got int"),
        ({"data": []}, fx.DataError, "expected at least one batch in epoch 1, got none"),
        ({"data": (X, Y[:5])}, fx.ShapeError, "37"),
        ({"data": (X[:0], Y[:0])}, fx.DataError, "got none"),
    ],
)
def test_wrong_arguments_are_explained(options, error, match):
    model = mlp()
    before = weights(model)
    with pytest.raises(error, match=match):
        fit(model, **{"data": (X, Y), **options})
    assert_close(weights(model), before, 0)


def test_sizes_cannot_be_inferred_from_a_generator():
    with pytest.raises(fx.ArgumentError, match=r"Call fx.autosize\(model, shape\)"):
        fit(fx.Dense(None, 3), (batch for batch in in_batches(X, Y)))


def test_check_false_trains_on_what_is_doubtful():
    model = fx.Chain(fx.Dense(4, 3), fx.softmax)
    with pytest.raises(fx.DataError, match="expected logits, got probabilities"):
        fit(model, (X, Y))
    assert len(fit(model, (X, Y), check=False)) == 1
