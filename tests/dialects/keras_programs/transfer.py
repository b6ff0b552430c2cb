"""Transfer learning: a frozen base, a new head, then all of it at a small rate; batches by hand."""

from program_data import cifar, same_weights

import keras
from keras import layers

x, y = cifar(128)
animals = ((y >= 2) & (y <= 7)).astype("float32")[:, None]

base_inputs = keras.Input((32, 32, 3))
h = layers.SeparableConv2D(8, 3, strides=2, activation="relu")(base_inputs)
h = layers.BatchNormalization()(h)
h = layers.DepthwiseConv2D(3, activation="relu")(h)
base = keras.Model(base_inputs, layers.GlobalMaxPooling2D()(h), name="base")
base.trainable = False

inputs = keras.Input(shape=(32, 32, 3))
outputs = layers.Dense(1)(base(inputs, training=False))
model = keras.Model(inputs, outputs)
same_weights(model)
frozen = [w.copy() for w in base.get_weights()]


def compile(rate):
    model.compile(
        optimizer=keras.optimizers.Adam(rate),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=[keras.metrics.BinaryAccuracy(threshold=0.0)],
    )


compile(1e-2)
assert len(model.trainable_weights) == 2
first = model.fit(x, animals, batch_size=32, epochs=2, shuffle=False, verbose=0)
assert all((a == b).all() for a, b in zip(frozen, base.get_weights()))

base.trainable = True
for layer in base.layers:
    if isinstance(layer, layers.BatchNormalization):
        layer.trainable = False  # its statistics stay as they are
compile(1e-3)
losses = [float(model.train_on_batch(x[i : i + 32], animals[i : i + 32])[0]) for i in range(0, 128, 32)]
assert not (frozen[0] == base.get_weights()[0]).all()
result = [*first.history["loss"], *first.history["binary_accuracy"], *losses, *model.test_on_batch(x, animals)]
