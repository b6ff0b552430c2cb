"""A toy residual network in the functional form, and its summary."""

from program_data import cifar, same_weights

import keras
from keras import layers

x, y = cifar(128)
y = keras.utils.to_categorical(y, 10)

inputs = keras.Input(shape=(32, 32, 3), name="img")
h = layers.Conv2D(8, 3, activation="relu")(inputs)
h = layers.Conv2D(16, 3, activation="relu")(h)
block_1_output = layers.MaxPooling2D(3)(h)

h = layers.Conv2D(16, 3, activation="relu", padding="same")(block_1_output)
h = layers.Conv2D(16, 3, activation="relu", padding="same")(h)
block_2_output = layers.add([h, block_1_output])

h = layers.Conv2D(16, 3, activation="relu", padding="same")(block_2_output)
h = layers.Conv2D(16, 3, activation="relu", padding="same")(h)
block_3_output = layers.add([h, block_2_output])

h = layers.Conv2D(16, 3, activation="relu")(block_3_output)
h = layers.GlobalAveragePooling2D()(h)
h = layers.Dense(32, activation="relu")(h)
h = layers.Dropout(0.0)(h)
outputs = layers.Dense(10)(h)

model = keras.Model(inputs, outputs, name="toy_resnet")
same_weights(model)
model.compile(
    optimizer=keras.optimizers.RMSprop(1e-3),
    loss=keras.losses.CategoricalCrossentropy(from_logits=True),
    metrics=["acc"],
)
history = model.fit(x, y, batch_size=32, epochs=2, validation_split=0.25, shuffle=False, verbose=0)
lines = []
model.summary(print_fn=lines.append)
assert "toy_resnet" in "".join(lines)
result = [*history.history["loss"], *history.history["val_loss"], model.count_params()]
