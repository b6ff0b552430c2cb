"""Losses, metrics, optimizers, `fit`: Keras' recorded numbers, and Keras itself where it is installed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from keras_training_cases import PARTS, assert_same, fit_numbers, recorded

import fluxion as fx
from fluxion.dialects import keras
from fluxion.dialects.keras import layers

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 4)).astype("float32")
Y = RNG.integers(0, 3, 40)
QUICK = ("sample weight", "two outputs", "callbacks")  # the others run with `make test-keras`


@pytest.fixture
def keras_itself(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    return pytest.importorskip("keras")


def model(**more):
    made = keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="softmax")])
    made.compile("adam", "sparse_categorical_crossentropy", **more)
    return made


@pytest.mark.keras  # takes half a minute
@pytest.mark.parametrize("part", ["losses", "metrics", "schedules", "optimizers"])
def test_numbers_are_those_recorded_from_keras(part):
    found = PARTS[part](keras, quick=True)
    assert_same(found, {name: value for name, value in recorded(part).items() if name in found})


def test_histories_are_those_recorded_from_keras():
    wanted = {name: v for name, v in recorded("fits").items() if name.split(":")[0] in QUICK}
    assert_same(fit_numbers(keras, [name for name in PARTS_OF_FITS if name in QUICK]), wanted, rtol=3e-4, atol=3e-5)


PARTS_OF_FITS = list(dict.fromkeys(name.split(":")[0] for name in recorded("fits")))


@pytest.mark.keras
@pytest.mark.filterwarnings("ignore")  # of Keras itself
@pytest.mark.parametrize("part", list(PARTS))
def test_numbers_are_those_of_keras(part, keras_itself):
    wanted = PARTS[part](keras_itself)
    assert_same(wanted, recorded(part), rtol=1e-3, atol=1e-5)  # the record is true
    assert_same(PARTS[part](keras), wanted, rtol=3e-4, atol=3e-5)


# ------------------------------------------------------------------------------------------- losses, metrics


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: keras.losses.get("mee"), fx.ArgumentError, "loss: got 'mee'. Did you mean 'mse'"),
        (lambda: keras.metrics.get("acuracy"), fx.ArgumentError, "Did you mean 'accuracy'"),
        (lambda: keras.optimizers.get("adm"), fx.ArgumentError, "Did you mean 'adam'"),
        (lambda: keras.losses.Huber(dleta=1), fx.ArgumentError, "no argument 'dleta'. Did you mean 'delta'"),
        (lambda: keras.metrics.AUC(tresholds=3), fx.ArgumentError, "no argument 'tresholds'"),
        (lambda: keras.optimizers.Adam(beta1=0.9), fx.ArgumentError, "no argument 'beta1'. Did you mean 'beta_1'"),
        (lambda: keras.optimizers.Adam(use_ema=True), fx.ArgumentError, "no argument 'use_ema'"),
        (lambda: keras.optimizers.SGD(clipnorm=1.0, clipvalue=1.0), fx.ArgumentError, "one way of clipping"),
        (lambda: keras.losses.MeanSquaredError(reduction="average"), fx.ArgumentError, "reduction: got 'average'"),
        (lambda: keras.losses.mean_squared_error(X, X[:, :1]), fx.ShapeError, r"\(40, 1\), got \(40, 4\)"),
        (lambda: keras.losses.get("mse")([[0.0, 1.0]], [[1.0]]), fx.ShapeError, "losses never broadcast"),
        (lambda: keras.losses.MeanSquaredError()(X, X, np.ones(3)), fx.ShapeError, "sample_weight"),
        (
            lambda: keras.losses.sparse_categorical_crossentropy([3], [[0.5, 0.5]]),
            fx.DataError,
            r"label 3 at index \(0,\) is outside \[0, 2\)",
        ),
        (
            lambda: keras.losses.categorical_crossentropy([[0.0, 1.0]], [[-1.0, 2.0]]),
            fx.DataError,
            "is no probability. End the model with softmax, or give the loss from_logits=True",
        ),
        (
            lambda: keras.losses.binary_crossentropy([[1.0]], [[1.5]]),
            fx.DataError,
            "is no probability. End the model with sigmoid",
        ),
        (lambda: keras.metrics.sparse_categorical_accuracy(X, X), fx.ShapeError, r"expected labels of shape \(40,\)"),
        (lambda: keras.metrics.Precision(thresholds=2.0), fx.ArgumentError, r"thresholds in \[0, 1\]"),
    ],
)
def test_what_cannot_be_right_is_an_error(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_masks_weigh_losses_as_in_keras():
    """From Keras: MeanSquaredError()(t, p) with p._keras_mask = m gives 13 / 3; the sum of the kept squares is 13."""
    from fluxion.dialects.keras.losses import reduced

    values, mask = jnp.array([[4.0, 100.0], [9.0, 0.0]]), jnp.array([[True, False], [True, True]])
    assert float(reduced(values, None, mask, "sum_over_batch_size")) == pytest.approx(13 / 3)
    assert float(reduced(values, None, mask, "sum")) == 13.0
    assert float(reduced(values, jnp.array([1.0, 2.0]), mask, "sum_over_batch_size")) == pytest.approx(22 / 3)


def test_a_metric_of_ones_own_is_summed_in_the_step_and_refused_where_it_is_no_sum():
    class Positives(keras.metrics.Metric):
        def __init__(self, name="positives"):
            super().__init__(name=name)
            self.count = self.add_variable(shape=(), initializer="zeros", name="count")

        def update_state(self, y_true, y_pred, sample_weight=None):
            self.count.assign(self.count + jnp.sum(y_pred[:, 0] > -1))

        def result(self):
            return self.count

    class Largest(Positives):
        def update_state(self, y_true, y_pred, sample_weight=None):
            self.count.assign(jnp.maximum(self.count.value, jnp.max(y_pred)))

    history = model(metrics=[Positives()]).fit(X, Y, epochs=2, verbose=0)
    assert history.history["positives"] == [40.0, 40.0]
    with pytest.raises(fx.ArgumentError, match="expected update_state to add to the metric's variables"):
        model(metrics=[Largest("largest")]).fit(X, Y, verbose=0)
    largest = Largest()
    largest.update_state(Y, X)
    largest.update_state(Y, X - 1)
    assert float(largest.result()) == pytest.approx(X.max())
    largest.reset_state()
    assert float(largest.result()) == 0


# ------------------------------------------------------------------------------------------- optimizers


def test_a_loop_of_ones_own_with_pure_functions():
    """Keras' guide for JAX: stateless_call, stateless_apply, stateless_update_state in one jitted step."""
    net = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    optimizer, accuracy = keras.optimizers.Adam(0.05), keras.metrics.SparseCategoricalAccuracy()
    optimizer.build(net.trainable_variables)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def compute(trainable, fixed, seen, x, y):
        logits, fixed = net.stateless_call(trainable, fixed, x, training=True)
        return loss(y, logits), (fixed, accuracy.stateless_update_state(seen, y, logits))

    @jax.jit
    def step(state, x, y):
        trainable, fixed, slots, seen = state
        (value, (fixed, seen)), grads = jax.value_and_grad(compute, has_aux=True)(trainable, fixed, seen, x, y)
        trainable, slots = optimizer.stateless_apply(slots, grads, trainable)
        return value, (trainable, fixed, slots, seen)

    parts = (net.trainable_variables, net.non_trainable_variables, optimizer.variables, accuracy.variables)
    state = tuple([v.value for v in part] for part in parts)
    values = []
    for _ in range(20):
        value, state = step(state, X, Y)
        values.append(float(value))
    assert values[-1] < values[0]
    assert 0 < float(accuracy.stateless_result(state[3])) <= 1
    for variable, value in zip(optimizer.variables, state[2], strict=True):
        variable.assign(value)
    assert optimizer.iterations == 20

    # The same by variables in place.
    other = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    other.set_weights(net.get_weights())
    again = keras.optimizers.Adam(0.05)
    for _ in range(20):
        grads = jax.grad(compute, has_aux=True)(
            [v.value for v in other.trainable_variables], [], [v.value for v in accuracy.variables], X, Y
        )[0]
        again.apply_gradients(zip(grads, other.trainable_variables, strict=True))
    for a, b in zip(other.get_weights(), state[0], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_the_learning_rate_is_a_number_to_read_and_set():
    optimizer = keras.optimizers.SGD(0.1)
    assert float(optimizer.learning_rate.numpy()) == pytest.approx(0.1)
    optimizer.learning_rate.assign(0.2)
    optimizer.learning_rate = optimizer.learning_rate * 0.5
    assert optimizer.learning_rate == pytest.approx(0.1)
    net = model()
    net.fit(X, Y, verbose=0)
    net.optimizer.learning_rate = 0.0
    before = net.get_weights()
    net.fit(X, Y, verbose=0)
    assert all(map(np.array_equal, before, net.get_weights()))
    scheduled = keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 10))
    with pytest.raises(fx.StateError, match="is a schedule, so that it cannot be set"):
        scheduled.learning_rate = 0.1


def test_an_optimizer_comes_back_from_its_config():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    made = keras.optimizers.Adam(schedule, beta_1=0.8, clipnorm=1.0)
    again = keras.optimizers.get({"class_name": "Adam", "config": made.get_config()})
    assert again.get_config() == made.get_config() and again.beta_1 == 0.8
    # as a file of Keras has it, with options that are not supported at their standard values
    config = {"learning_rate": 0.1, "use_ema": False, "ema_momentum": 0.99, "loss_scale_factor": None}
    assert keras.optimizers.SGD.from_config(config).learning_rate == pytest.approx(0.1)
    with pytest.raises(fx.ArgumentError, match="use_ema is not supported"):
        keras.optimizers.SGD.from_config({**config, "use_ema": True})


# ------------------------------------------------------------------------------------------- fit


def test_training_goes_on_in_the_engines_loop_of_many_steps(monkeypatch):
    """Without callbacks that ask for steps, no step is taken one by one."""
    from fluxion.train.step import Training

    taken = []
    step, steps = Training.step, Training.steps
    monkeypatch.setattr(Training, "step", lambda self, *args: taken.append("one") or step(self, *args))
    monkeypatch.setattr(Training, "steps", lambda self, *args: taken.append("many") or steps(self, *args))
    net = model(metrics=["accuracy"])
    history = net.fit(X, Y, epochs=6, verbose=0, batch_size=10)
    assert set(taken) == {"many"} and len(history.history["accuracy"]) == 6
    net.fit(X, Y, epochs=2, verbose=0, batch_size=10, callbacks=[keras.callbacks.EarlyStopping("loss")])
    assert set(taken) == {"many"}
    seen = []
    batches = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append((batch, sorted(logs))))
    net.fit(X, Y, verbose=0, batch_size=10, callbacks=[batches])
    assert seen == [(i, ["accuracy", "loss"]) for i in range(4)]


def test_data_in_all_forms_train_alike():
    class Rows(keras.utils.PyDataset):
        def __len__(self):
            return 4

        def __getitem__(self, i):
            return X[10 * i : 10 * i + 10], Y[10 * i : 10 * i + 10]

    def endless():
        while True:
            yield from (Rows()[i] for i in range(4))

    start = model().get_weights()
    results = []
    for data, options in [
        ((X, Y), {"batch_size": 10, "shuffle": False}),
        ((X.tolist(), Y.tolist()), {"batch_size": 10, "shuffle": False}),
        ((fx.DataLoader((X, Y), batch_size=10),), {}),
        ((Rows(),), {}),
        ((endless(),), {"steps_per_epoch": 4}),
    ]:
        net = model()
        net.set_weights(start)
        results.append(net.fit(*data, epochs=2, verbose=0, **options).history["loss"])
    np.testing.assert_allclose(results, [results[0]] * len(results), rtol=1e-5)


def test_single_batches_and_predictions():
    net = model(metrics=["accuracy"])
    before = net.evaluate(X, Y, verbose=0, return_dict=True)
    assert net.test_on_batch(X, Y, return_dict=True) == pytest.approx(before)
    assert net.train_on_batch(X, Y) == pytest.approx([before["loss"], before["accuracy"]], rel=1e-5)
    assert net.evaluate(X, Y, verbose=0) != pytest.approx([before["loss"], before["accuracy"]])
    wanted = np.asarray(net(X))
    np.testing.assert_allclose(net.predict(X, batch_size=7, verbose=0), wanted, rtol=1e-6)
    np.testing.assert_allclose(net.predict_on_batch(X[:3]), wanted[:3], rtol=1e-6)


def test_losses_that_layers_add_and_a_loss_of_ones_own():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(1, kernel_initializer="ones", use_bias=False)
            self.size = keras.metrics.Mean(name="size")

        def call(self, x):
            self.add_loss(0.5)
            return self.dense(x)

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            size = jnp.mean(y_pred**2)
            self.size.update_state(size)
            return super().compute_loss(x, y, y_pred, sample_weight) + size

    net = Net()
    net.compile(keras.optimizers.SGD(0.0), "mse")
    history = net.fit(X, X.sum(1), verbose=0, batch_size=40).history
    size = (X.sum(1) ** 2).mean()
    assert history["size"] == pytest.approx([size], rel=1e-5)
    assert history["loss"] == pytest.approx([0.5 + size], rel=1e-5)
    assert [metric.name for metric in net.metrics] == ["loss", "size"]


def test_frozen_layers_stay_and_train_again_after_compile():
    first, last = layers.Dense(5, activation="relu"), layers.Dense(3, activation="softmax")
    net = keras.Sequential([keras.Input((4,)), first, last])
    first.trainable = False
    net.compile("adam", "sparse_categorical_crossentropy")
    before = net.get_weights()
    net.fit(X, Y, verbose=0)
    kept = [np.array_equal(a, b) for a, b in zip(before, net.get_weights(), strict=True)]
    assert kept == [True, True, False, False]
    first.trainable = True
    net.compile("adam", "sparse_categorical_crossentropy")
    net.fit(X, Y, verbose=0)
    assert not any(np.array_equal(a, b) for a, b in zip(before[:1], net.get_weights()[:1], strict=True))


def test_a_failed_fit_leaves_the_model_as_it_was():
    net = model()
    before = net.get_weights()
    dirty = X.copy()
    dirty[3, 1] = np.nan
    for data, error, words in [
        ((X, Y + 1), fx.DataError, r"label 3 at index .* is outside \[0, 3\)"),
        ((dirty, Y), fx.DataError, "holds nan at index"),
        ((X, np.eye(3)[Y]), fx.ShapeError, "One-hot targets belong to categorical_crossentropy"),
        ((X[:10], Y), fx.ShapeError, "equal first axis"),
    ]:
        with pytest.raises(error, match=words):
            net.fit(*data, verbose=0, batch_size=40)
        assert all(map(np.array_equal, before, net.get_weights()))
    net = keras.Sequential([keras.Input((4,)), layers.Dense(1)])
    net.compile(keras.optimizers.SGD(1e30), "mse")
    with pytest.raises(fx.NonFiniteError, match="the step was not applied"):
        net.fit(X, Y, epochs=3, verbose=0)
    assert all(np.isfinite(w).all() for w in net.get_weights())


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: keras.Sequential([layers.Dense(1)]).fit(X, Y), fx.StateError, "expected a compiled model"),
        (lambda: model(metric=["accuracy"]), fx.ArgumentError, "no argument 'metric'. Did you mean 'metrics'"),
        (lambda: model(run_eagerly=True), fx.ArgumentError, "steps are always compiled"),
        (lambda: model(metrics="accuracy"), fx.ArgumentError, "expected a list or a dict"),
        (lambda: model(metrics=["acuracy"]), fx.ArgumentError, "metric: got 'acuracy'"),
        (lambda: model().fit(X, Y, epoch=2), fx.ArgumentError, "no argument 'epoch'. Did you mean 'epochs'"),
        (lambda: model().fit(X, Y, epochs=0), fx.ArgumentError, "epochs of at least 1"),
        (lambda: model().fit(X, Y, verbose=3), fx.ArgumentError, "verbose: got '3'"),
        (lambda: model().fit(X, Y, validation_split=1.5), fx.ArgumentError, "validation_split between 0 and 1"),
        (lambda: model().fit(X, verbose=0), fx.DataError, "expected targets y"),
        (lambda: model().fit(iter([(X, Y)]), Y), fx.ArgumentError, "y goes with arrays"),
        (
            lambda: model().fit(X, Y, class_weight={0: 1.0}, sample_weight=np.ones(40)),
            fx.ArgumentError,
            "class_weight or sample_weight, got both",
        ),
        (lambda: model().fit(X, Y, callbacks=[print]), fx.ArgumentError, "expected keras.callbacks.Callback"),
    ],
)
def test_what_fit_and_compile_refuse(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_an_overridden_step_is_refused_at_compile():
    class Own(keras.Sequential):
        def train_step(self, state, data):
            return {}, state

    with pytest.raises(fx.ArgumentError, match=r"overridden train_step is not supported\. Override compute_loss"):
        Own([layers.Dense(1)]).compile("adam", "mse")


# ------------------------------------------------------------------------------------------- utils


def test_utils():
    utils = keras.utils
    assert utils.to_categorical([[1], [0]], 3).tolist() == [[0, 1, 0], [1, 0, 0]]
    with pytest.raises(fx.DataError, match=r"label 3 at index \(1,\) is none of 3 classes"):
        utils.to_categorical([0, 3], 3)
    # recorded from Keras 3.15.1
    assert utils.pad_sequences([[1], [2, 3, 4]], maxlen=2, padding="post", truncating="post").tolist() == [
        [1, 0],
        [2, 3],
    ]
    assert utils.pad_sequences([[1, 2], []], value=9).tolist() == [[1, 2], [9, 9]]
    np.testing.assert_allclose(utils.normalize([[3.0, 4.0], [0.0, 0.0]]), [[0.6, 0.8], [0.0, 0.0]])
    left, right = utils.split_dataset((X, Y), left_size=0.75)
    assert left[0].shape == (30, 4) and right[1].tolist() == Y[30:].tolist()
    utils.set_random_seed(3)
    first = model().get_weights()[0]
    utils.set_random_seed(3)
    assert np.array_equal(first, model().get_weights()[0])
