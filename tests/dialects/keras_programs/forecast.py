"""Passengers of the next month: a causal convolution, a GRU, and a learning rate that decays."""

from program_data import passengers, same_weights

import keras
from keras import layers

x, y = passengers(12)

model = keras.Sequential(
    [
        keras.Input(shape=x.shape[1:]),
        layers.Conv1D(8, 3, padding="causal", activation="relu"),
        layers.GRU(8, return_sequences=True),
        layers.SimpleRNN(6),
        layers.Dense(1),
    ]
)
same_weights(model)
schedule = keras.optimizers.schedules.ExponentialDecay(1e-2, decay_steps=10, decay_rate=0.9)
model.compile(optimizer=keras.optimizers.Nadam(schedule), loss=keras.losses.Huber(), metrics=["mse"])
history = model.fit(x[:96], y[:96], batch_size=24, epochs=3, validation_data=(x[96:], y[96:]), shuffle=False, verbose=0)
result = [*history.history["loss"], *history.history["mse"], *history.history["val_loss"]]
