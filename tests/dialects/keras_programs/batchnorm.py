"""CIFAR-10 with batch normalization, strides, "same" padding and SGD with Nesterov's momentum."""

from program_data import cifar, same_weights

import keras
from keras import layers

x, y = cifar(192)

model = keras.Sequential([keras.Input((32, 32, 3))])
for filters in (8, 16):
    model.add(layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False))
    model.add(layers.BatchNormalization())
    model.add(layers.Activation("relu"))
model.add(layers.AveragePooling2D(2))
model.add(layers.Flatten())
model.add(layers.Dense(10))
same_weights(model)

model.compile(
    optimizer=keras.optimizers.SGD(learning_rate=0.05, momentum=0.9, nesterov=True),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=[keras.metrics.SparseTopKCategoricalAccuracy(k=3, name="top3")],
)
history = model.fit(x, y, batch_size=32, epochs=2, shuffle=False, verbose=0)
moving_mean, moving_variance = model.layers[1].get_weights()[2:]
result = [*history.history["loss"], *history.history["top3"], *moving_mean, *moving_variance]
