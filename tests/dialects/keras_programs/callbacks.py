"""Callbacks: early stopping, a schedule, a plateau, a log, the best weights, and one written here."""

import os
import tempfile

from program_data import miles_per_gallon, same_weights

import keras

x, y = miles_per_gallon()


class BatchLosses(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.losses = []

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(logs["loss"])

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 18:
            self.model.stop_training = True


def build():
    keras.backend.clear_session()
    inputs = keras.Input((6,))
    outputs = keras.layers.Dense(1)(keras.layers.Dense(8, activation="elu")(inputs))
    model = keras.Model(inputs, outputs)
    same_weights(model)
    model.compile(optimizer=keras.optimizers.SGD(0.02), loss="mean_squared_error", metrics=["mae"])
    return model


folder = tempfile.mkdtemp()
own = BatchLosses()
first = build()
history = first.fit(
    x,
    y,
    batch_size=64,
    epochs=20,
    validation_split=0.25,
    shuffle=False,
    verbose=0,
    callbacks=[
        own,
        keras.callbacks.EarlyStopping(monitor="val_loss", patience=2, restore_best_weights=True),
        keras.callbacks.ReduceLROnPlateau(monitor="loss", factor=0.5, patience=1, min_delta=5.0),
        keras.callbacks.CSVLogger(os.path.join(folder, "log.csv")),
        keras.callbacks.ModelCheckpoint(
            os.path.join(folder, "best.weights.h5"), save_best_only=True, save_weights_only=True
        ),
    ],
)
with open(os.path.join(folder, "log.csv")) as file:
    names = file.readline().strip().split(",")

second = build()
second.load_weights(os.path.join(folder, "best.weights.h5"))
third = build()
schedule = keras.callbacks.LearningRateScheduler(lambda epoch, lr: lr if epoch < 2 else lr * 0.5)
scheduled = third.fit(x, y, batch_size=64, epochs=4, shuffle=False, verbose=0, callbacks=[schedule])
result = [
    len(history.epoch),
    *history.history["loss"],
    *history.history["learning_rate"],
    *own.losses[:12],
    *first.evaluate(x, y, verbose=0),
    *second.evaluate(x, y, verbose=0),
    *scheduled.history["loss"],
    *scheduled.history["learning_rate"],
    len(names),
]
