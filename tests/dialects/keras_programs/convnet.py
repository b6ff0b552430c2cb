"""A small convolutional network on digits, with one-hot labels."""

import numpy as np
from program_data import mnist, same_weights

import keras
from keras import layers

num_classes = 10
input_shape = (28, 28, 1)

x, y = mnist(256)
x = np.expand_dims(x.astype("float32") / 255, -1)
y = keras.utils.to_categorical(y, num_classes)

model = keras.Sequential(
    [
        keras.Input(shape=input_shape),
        layers.Conv2D(8, kernel_size=(3, 3), activation="relu"),
        layers.MaxPooling2D(pool_size=(2, 2)),
        layers.Conv2D(16, kernel_size=(3, 3), activation="relu"),
        layers.MaxPooling2D(pool_size=(2, 2)),
        layers.Flatten(),
        layers.Dense(num_classes, activation="softmax"),
    ]
)
same_weights(model)
model.compile(loss="categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
history = model.fit(x, y, batch_size=64, epochs=2, validation_split=0.25, shuffle=False, verbose=0)
result = [*history.history["loss"], *history.history["val_loss"], model.count_params()]
