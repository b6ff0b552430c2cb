"""What Keras' callbacks decide, and what is printed."""

import csv
import io

import numpy as np
import pytest

import fluxion as fx
from fluxion.dialects import keras
from fluxion.dialects.keras import layers
from fluxion.dialects.keras.display import Bar, Epochs, line

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 4)).astype("float32")
Y = RNG.integers(0, 3, 40)


def model():
    made = keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="softmax")])
    made.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return made


class Told:
    """A model to be told of, with weights that say in which epoch they were read."""

    def __init__(self, module):
        self.optimizer = module.optimizers.SGD(0.1)
        self.stop_training = False
        self.metrics = [module.metrics.MeanSquaredError(name="mse"), module.metrics.Recall(name="recall")]
        self.epoch = -1
        self.restored = None
        self.saved = []

    def get_weights(self):
        return self.epoch

    def set_weights(self, weights):
        self.restored = weights

    def save(self, path, **options):
        self.saved.append(path)

    save_weights = save


NAN = float("nan")
SERIES = {
    "falling": [1.0, 0.9, 0.8, 0.7, 0.6, 0.5],
    "flat": [1.0] * 6,
    "bump": [1.0, 0.5, 0.6, 0.55, 0.4, 0.45, 0.44, 0.43],
    "slow": [1.0, 0.99995, 0.99994, 0.9, 0.8999, 0.8998],
    "nan": [1.0, NAN, 0.5, NAN, 0.6, 0.7],
}
CALLBACKS = {
    "stop": lambda k: k.callbacks.EarlyStopping("loss", patience=2),
    "stop at once": lambda k: k.callbacks.EarlyStopping("loss"),
    "stop, best": lambda k: k.callbacks.EarlyStopping("loss", patience=1, restore_best_weights=True, min_delta=0.1),
    "stop, base": lambda k: k.callbacks.EarlyStopping("loss", patience=2, baseline=0.5),
    "stop, later": lambda k: k.callbacks.EarlyStopping("loss", patience=1, start_from_epoch=3),
    "stop, max": lambda k: k.callbacks.EarlyStopping("loss", patience=2, mode="max", restore_best_weights=True),
    "reduce": lambda k: k.callbacks.ReduceLROnPlateau("loss", patience=1, factor=0.5),
    "reduce, cool": lambda k: k.callbacks.ReduceLROnPlateau("loss", patience=1, cooldown=2, min_lr=0.02),
    "save best": lambda k: k.callbacks.ModelCheckpoint("m-{epoch:02d}-{loss:.2f}.keras", "loss", save_best_only=True),
    "save all": lambda k: k.callbacks.ModelCheckpoint("m-{epoch}.weights.h5", save_weights_only=True),
    "save below": lambda k: k.callbacks.ModelCheckpoint(
        "m-{epoch}.keras", "loss", save_best_only=True, initial_value_threshold=0.6
    ),
    "schedule": lambda k: k.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5 if epoch else rate),
}


def decisions(module, make, losses):
    """What a callback does on logs of these losses: rates, paths, epochs, weights."""
    told, callback = Told(module), make(module)
    callback.set_params({})
    callback.set_model(told)
    callback.on_train_begin()
    rates, epochs = [], 0
    for epoch, loss in enumerate(losses):
        told.epoch, epochs = epoch, epoch + 1
        callback.on_epoch_begin(epoch)
        callback.on_epoch_end(epoch, {"loss": loss})
        rates.append(round(float(told.optimizer.learning_rate), 6))
        if told.stop_training:
            break
    callback.on_train_end()
    return [epochs, rates, told.saved, told.restored]


@pytest.fixture
def keras_itself(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    return pytest.importorskip("keras")


@pytest.mark.keras
@pytest.mark.filterwarnings("ignore")  # of Keras itself
@pytest.mark.parametrize("name", list(CALLBACKS))
def test_decisions_are_those_of_keras(name, keras_itself, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for series, losses in SERIES.items():
        wanted = decisions(keras_itself, CALLBACKS[name], losses)
        assert decisions(keras, CALLBACKS[name], losses) == wanted, series


@pytest.mark.parametrize(
    ("name", "series", "wanted"),
    [  # recorded from Keras 3.15.1 by `decisions`: epochs, rates, paths, the epoch of the weights that are restored
        ("stop", "falling", [6, [0.1, 0.1, 0.1, 0.1, 0.1, 0.1], [], None]),
        ("stop", "bump", [4, [0.1, 0.1, 0.1, 0.1], [], None]),
        ("stop at once", "flat", [2, [0.1, 0.1], [], None]),
        ("stop at once", "bump", [3, [0.1, 0.1, 0.1], [], None]),
        ("stop, best", "bump", [3, [0.1, 0.1, 0.1], [], 1]),
        ("stop, best", "nan", [2, [0.1, 0.1], [], 0]),
        ("stop, base", "bump", [3, [0.1, 0.1, 0.1], [], None]),
        ("stop, later", "bump", [6, [0.1, 0.1, 0.1, 0.1, 0.1, 0.1], [], None]),
        ("stop, max", "bump", [3, [0.1, 0.1, 0.1], [], 0]),
        ("reduce", "slow", [6, [0.1, 0.05, 0.025, 0.025, 0.0125, 0.0125], [], None]),
        ("reduce", "nan", [6, [0.1, 0.05, 0.05, 0.025, 0.0125, 0.00625], [], None]),
        ("reduce, cool", "flat", [6, [0.1, 0.02, 0.02, 0.02, 0.02, 0.02], [], None]),
        (
            "save best",
            "bump",
            [
                8,
                [0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1],
                ["m-01-1.00.keras", "m-02-0.50.keras", "m-05-0.40.keras"],
                None,
            ],
        ),
        (
            "save all",
            "flat",
            [
                6,
                [0.1, 0.1, 0.1, 0.1, 0.1, 0.1],
                [
                    "m-1.weights.h5",
                    "m-2.weights.h5",
                    "m-3.weights.h5",
                    "m-4.weights.h5",
                    "m-5.weights.h5",
                    "m-6.weights.h5",
                ],
                None,
            ],
        ),
        ("save below", "bump", [8, [0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1], ["m-2.keras", "m-5.keras"], None]),
        ("schedule", "flat", [6, [0.1, 0.05, 0.025, 0.0125, 0.00625, 0.003125], [], None]),
    ],
)
def test_decisions_are_those_recorded(name, series, wanted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert decisions(keras, CALLBACKS[name], SERIES[series]) == wanted


def test_hooks_come_in_keras_order():
    calls = []

    class All(keras.callbacks.Callback):
        pass

    for name in [n for n in dir(keras.callbacks.Callback) if n.startswith("on_")]:

        def hook(self, *args, name=name):
            calls.append((name, args[0] if len(args) > 1 else None, sorted(args[-1] or {})))

        setattr(All, name, hook)
    model().fit(X, Y, batch_size=20, epochs=1, verbose=0, validation_data=(X[:8], Y[:8]), callbacks=[All()])
    now = ["accuracy", "loss"]
    assert calls == [
        ("on_train_begin", None, []),
        ("on_epoch_begin", 0, []),
        ("on_train_batch_begin", 0, []),
        ("on_train_batch_end", 0, now),
        ("on_train_batch_begin", 1, []),
        ("on_train_batch_end", 1, now),
        ("on_test_begin", None, []),
        ("on_test_batch_begin", 0, []),
        ("on_test_batch_end", 0, now),
        ("on_test_end", None, now),
        ("on_epoch_end", 0, [*now, "val_accuracy", "val_loss"]),
        ("on_train_end", None, [*now, "val_accuracy", "val_loss"]),
    ]


def test_csv_logger_history_and_learning_rate(tmp_path):
    path = tmp_path / "log.csv"
    halve = keras.callbacks.LearningRateScheduler(lambda epoch: 0.1 / (epoch + 1))
    history = model().fit(X, Y, epochs=2, verbose=0, callbacks=[halve, keras.callbacks.CSVLogger(path)])
    assert list(history.history) == ["accuracy", "loss", "learning_rate"]
    assert history.history["learning_rate"] == pytest.approx([0.1, 0.05])
    assert history.epoch == [0, 1] and history.params["epochs"] == 2 and history.params["steps"] == 2
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert [float(row["loss"]) for row in rows] == pytest.approx(history.history["loss"])


def test_early_stopping_restores_the_best_weights():
    class Best(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                self.weights = self.model.get_weights()
            logs["val_loss"] = [1.0, 0.5, 0.6, 0.7][epoch]

    net, best = model(), Best()
    stopping = keras.callbacks.EarlyStopping(patience=2, restore_best_weights=True)
    history = net.fit(X, Y, epochs=9, verbose=0, callbacks=[best, stopping])
    assert len(history.epoch) == 4
    assert all(map(np.array_equal, net.get_weights(), best.weights))


def test_terminate_on_nan_ends_quietly_with_the_step_before(capsys):
    net = keras.Sequential([keras.Input((4,)), layers.Dense(1)])
    net.compile(keras.optimizers.SGD(1e30), "mse")
    net.fit(X, Y, epochs=5, verbose=0, callbacks=[keras.callbacks.TerminateOnNaN()])
    assert "Invalid loss, terminating training" in capsys.readouterr().out
    assert all(np.isfinite(w).all() for w in net.get_weights())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: keras.callbacks.EarlyStopping(patence=3), "no argument 'patence'. Did you mean 'patience'"),
        (lambda: keras.callbacks.EarlyStopping(mode="best"), "mode: got 'best'"),
        (lambda: keras.callbacks.ModelCheckpoint("model"), "expected filepath to end in .keras or .h5"),
        (lambda: keras.callbacks.ModelCheckpoint("m.h5", save_weights_only=True), "end in .weights.h5"),
        (lambda: keras.callbacks.ReduceLROnPlateau(factor=2.0), "expected factor below 1"),
        (lambda: keras.callbacks.LambdaCallback(on_epoch_stop=print), "no hook 'on_epoch_stop'"),
        (lambda: keras.callbacks.BackupAndRestore("a"), "BackupAndRestore is not supported"),
    ],
)
def test_bad_options_are_refused(make, words):
    with pytest.raises(fx.ArgumentError, match=words):
        make()


def test_a_number_that_is_not_there_is_refused():
    with pytest.raises(fx.ArgumentError, match=r"expected to monitor one of 'accuracy', 'loss', got 'val_loss'"):
        model().fit(X, Y, verbose=0, callbacks=[keras.callbacks.EarlyStopping()])
    with pytest.raises(fx.ArgumentError, match=r"'val_lost'\. Did you mean 'val_loss'"):
        stopping = keras.callbacks.EarlyStopping("val_lost")
        model().fit(X, Y, verbose=0, callbacks=[stopping], validation_split=0.5)


# ------------------------------------------------------------------------------------------- display


def test_lines_are_keras_lines(capsys):
    """The shape of the lines that Keras 3.15.1 prints, without its control characters."""
    net = model()
    net.fit(X, Y, epochs=2, validation_split=0.2)
    net.fit(X, Y, epochs=2, verbose=2)
    net.evaluate(X, Y)
    net.predict(X)
    net.fit(X, Y, verbose=0)
    lines = [_without_times(text) for text in capsys.readouterr().out.splitlines()]
    numbers = " - accuracy: N - loss: N"
    bar = "━" * 20
    assert lines == [
        "Epoch 1/2",
        f"1/1 {bar} T T{numbers} - val_accuracy: N - val_loss: N",
        "Epoch 2/2",
        f"1/1 {bar} T T{numbers} - val_accuracy: N - val_loss: N",
        "Epoch 1/2",
        f"2/2 - T - T{numbers}",
        "Epoch 2/2",
        f"2/2 - T - T{numbers}",
        f"2/2 {bar} T T{numbers}",
        f"2/2 {bar} T T",
    ]


def _without_times(text):
    import re

    text = re.sub(r"\d+(ms|us|s)/step", "T", text)
    text = re.sub(r" \d+s ", " T ", text)
    return re.sub(r": \d\.\d{4}(e-\d\d)?", ": N", text)


def test_a_line_is_that_of_keras():
    """Recorded from `keras.utils.Progbar` of Keras 3.15.1, colors taken out."""
    numbers = {"accuracy": 0.91563, "loss": 0.00021}
    assert line(422, 422, 2.4, 0.0043, numbers) == (
        "422/422 ━━━━━━━━━━━━━━━━━━━━ 2s 4ms/step - accuracy: 0.9156 - loss: 2.1000e-04"
    )
    assert line(7, 120, 0.2, 0.025, {"loss": 1.5}, left=2.9).startswith("  7/120 ━━━━━━━━━━━━━━━━━━━━ 2s 25ms/step")
    assert line(3, None, 1.2, 0.4, {}) == "      3/Unknown 1s 400ms/step"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_bar_moves_in_a_terminal_and_is_written_over(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    bar = Bar(2, 1, stream)
    bar.next_draw = 0
    bar.step(1, lambda: {"loss": 0.5})
    bar.end({"loss": 0.25})
    text = stream.getvalue()
    assert text.count("\r") == 2 and text.count("\n") == 1 and text.endswith("\n")
    assert "\x1b[1m1/2\x1b[0m \x1b[32m━━━━━━━━━━\x1b[0m\x1b[37m━━━━━━━━━━\x1b[0m" in text


def test_epochs_ask_for_the_numbers_only_where_they_are_drawn():
    asked = []
    epochs = Epochs(3, 4, 0, lambda: asked.append(1) or {}, lambda row: {})
    epochs.start_epoch(1)
    for _ in range(4):
        epochs.step(0.5, 32)
    epochs.end_epoch({"epoch": 1, "seconds": 0.1})
    assert not asked
