"""Two images through one network: shared layers, an operation as a layer, a loss of one's own."""

import numpy as np
from program_data import mnist, same_weights

import keras
from keras import layers, ops

x, y = mnist(257)
x = x.reshape(-1, 784).astype("float32") / 255
left, right = x[:256], x[1:257]
same = (y[:256] == y[1:257]).astype("float32")[:, None]

tower = keras.Sequential([layers.Input((784,)), layers.Dense(16, activation="tanh"), layers.Dense(8)], name="tower")
input_1, input_2 = layers.Input((784,)), layers.Input((784,))
tower_1, tower_2 = tower(input_1), tower(input_2)
distance = ops.sqrt(ops.maximum(ops.sum(ops.square(tower_1 - tower_2), axis=1, keepdims=True), 1e-7))
output = layers.Dense(1, activation="sigmoid")(layers.BatchNormalization()(distance))
model = keras.Model(inputs=[input_1, input_2], outputs=output)
same_weights(model)


def contrastive(y_true, y_pred, margin=1.0):
    square_pred = ops.square(y_pred)
    margin_square = ops.square(ops.maximum(margin - y_pred, 0))
    return ops.mean((1 - y_true) * square_pred + y_true * margin_square)


model.compile(loss=contrastive, optimizer="RMSprop", metrics=["accuracy"])
history = model.fit([left, right], same, batch_size=64, epochs=2, shuffle=False, verbose=0)
result = [
    *history.history["loss"],
    *history.history["accuracy"],
    model.count_params(),
    *np.ravel(model.predict([left[:3], right[:3]], verbose=0)),
]
