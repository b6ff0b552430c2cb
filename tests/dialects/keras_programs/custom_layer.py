"""Layers of one's own: weights made in `build`, state that is not trained, a penalty added to the loss."""

from program_data import miles_per_gallon, same_weights

import keras
from keras import layers, ops


class Linear(layers.Layer):
    def __init__(self, units=32, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        self.w = self.add_weight(shape=(input_shape[-1], self.units), initializer="random_normal", trainable=True)
        self.b = self.add_weight(shape=(self.units,), initializer="zeros", trainable=True)

    def call(self, inputs):
        return ops.matmul(inputs, self.w) + self.b

    def get_config(self):
        config = super().get_config()
        config.update({"units": self.units})
        return config


class CallCounter(layers.Layer):
    def __init__(self):
        super().__init__()
        self.total = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, inputs):
        self.total.assign_add(1.0)
        return inputs


class SmallActivity(layers.Layer):
    def __init__(self, rate=1e-2):
        super().__init__()
        self.rate = rate

    def call(self, inputs):
        self.add_loss(self.rate * ops.mean(inputs**2))
        return inputs


x, y = miles_per_gallon()
counter = CallCounter()
model = keras.Sequential([Linear(16), layers.ReLU(), SmallActivity(), counter, Linear(1)])
model(x[:1])
before = float(counter.total.value)
same_weights(model)
model.compile(optimizer=keras.optimizers.Adam(learning_rate=1e-2), loss="mse", metrics=["mae"])
history = model.fit(x, y, batch_size=56, epochs=3, shuffle=False, verbose=0)

again = Linear.from_config(model.layers[0].get_config())
assert again.units == 16
assert len(model.trainable_weights) == 4 and len(model.non_trainable_weights) == 1
result = [*history.history["loss"], *history.history["mae"], before, float(counter.total.value)]
