"""Small models, built alike with Keras and with the dialect: `MODELS[name](keras)`."""

import numpy as np


def functional(keras):
    """Several inputs and outputs, a shared layer, operations on tensors, a mask, a model in the model."""
    layers = keras.layers
    words, extra = keras.Input((5,), name="words"), keras.Input((3,), name="extra")
    vectors = layers.Embedding(10, 4, mask_zero=True, name="vectors")(words)
    state = layers.LSTM(3, name="state")(vectors)
    x = layers.Add(name="sum")([state, extra]) * 2.0
    dense = layers.Dense(3, activation="relu", name="shared")
    y = dense(dense(x))
    y = layers.BatchNormalization(name="norm")(layers.Dropout(0.5, name="drop")(y))
    mean = keras.ops.mean(x, axis=1, keepdims=True)
    joined = layers.Concatenate(name="joined")([x[:, 0:1], mean, y])
    inner = keras.Sequential([keras.Input((5,)), layers.Dense(2, name="head")], name="inner")
    return keras.Model([words, extra], {"mean": mean, "head": inner(joined)}, name="net")


def sequential(keras):
    """An image network."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Conv2D(2, 3, padding="same", strides=2, activation="relu"),
            layers.MaxPooling2D(3, strides=2, padding="same"),
            layers.Flatten(),
            layers.Dense(2),
            layers.Dense(2, activation="softmax"),
        ]
    )


def subclassed(keras):
    """A model with layers in attributes, lists and dicts, and a weight of its own."""

    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.z = keras.layers.Dense(2)
            self.blocks = [keras.layers.Dense(3, activation="tanh"), keras.layers.Dense(2)]
            self.table = {"a": keras.layers.Dense(2, use_bias=False)}
            self.shift = self.add_weight(shape=(2,), initializer="zeros", name="shift")

        def call(self, x):
            for block in self.blocks:
                x = block(x)
            return self.table["a"](self.z(x)) + self.shift

    model = Net()
    model(np.zeros((1, 3), "float32"))
    return model


MODELS = {"functional": functional, "sequential": sequential, "subclassed": subclassed}


def inputs(name):
    random = np.random.RandomState(1)
    if name == "functional":
        return [np.array([[1, 2, 0, 0, 0], [3, 4, 5, 6, 7]]), random.randn(2, 3).astype("float32")]
    return random.randn(*{"sequential": (2, 6, 6, 1), "subclassed": (2, 3)}[name]).astype("float32")
