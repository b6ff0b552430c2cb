"""Digits as TensorFlow's beginners meet them: logits, a loss object, and a model wrapped around the trained one."""

import numpy as np
from program_data import mnist, same_weights

import keras

x, y = mnist(600)
x = x / 255.0
x_train, y_train, x_test, y_test = x[:500], y[:500], x[500:], y[500:]

model = keras.models.Sequential(
    [
        keras.layers.Input((28, 28)),
        keras.layers.Flatten(),
        keras.layers.Dense(128, activation="relu"),
        keras.layers.Dropout(0.0),  # random numbers cannot be compared
        keras.layers.Dense(10),
    ]
)
same_weights(model)

loss_fn = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
before = float(loss_fn(y_train[:1], model(x_train[:1])))

model.compile(optimizer="adam", loss=loss_fn, metrics=["accuracy"])
history = model.fit(x_train, y_train, epochs=2, shuffle=False, verbose=0)
scores = model.evaluate(x_test, y_test, verbose=0)

probability_model = keras.Sequential([model, keras.layers.Softmax()])
probabilities = np.asarray(probability_model(x_test[:5]))
result = [before, *history.history["loss"], *scores, *probabilities.max(axis=1)]
