"""A model saved in the middle, loaded again and trained on; its weights alone, too."""

import os
import tempfile

import numpy as np
from program_data import mnist, same_weights

import keras
from keras import layers

x, y = mnist(192)
x = x[..., None].astype("float32") / 255


def build():
    return keras.Sequential(
        [
            layers.Input((28, 28, 1)),
            layers.Conv2D(4, 5, strides=2, activation="relu", name="conv"),
            layers.Flatten(name="flat"),
            layers.Dense(10, activation="softmax", name="scores"),
        ]
    )


model = build()
same_weights(model)
model.compile("adam", "sparse_categorical_crossentropy")
first = model.fit(x, y, batch_size=64, epochs=1, shuffle=False, verbose=0)

folder = tempfile.mkdtemp()
model.save(os.path.join(folder, "model.keras"))
model.save_weights(os.path.join(folder, "model.weights.h5"))
loaded = keras.models.load_model(os.path.join(folder, "model.keras"))
np.testing.assert_allclose(loaded.predict(x[:8], verbose=0), model.predict(x[:8], verbose=0), rtol=1e-5)

fresh = build()
fresh.load_weights(os.path.join(folder, "model.weights.h5"))
fresh.compile(optimizer=keras.optimizers.Adagrad(0.01), loss=keras.losses.SparseCategoricalCrossentropy())
second = fresh.fit(x, y, batch_size=64, epochs=2, shuffle=False, verbose=0)
result = [*first.history["loss"], *second.history["loss"]]
