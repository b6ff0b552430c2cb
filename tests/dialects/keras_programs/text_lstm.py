"""Is a word a first name? A bidirectional LSTM over letters; the padding is masked."""

from program_data import same_weights, words

import keras
from keras import layers

x, y = words(256, length=10)

inputs = keras.Input(shape=(None,), dtype="int32")
h = layers.Embedding(27, 16, mask_zero=True)(inputs)
h = layers.Bidirectional(layers.LSTM(8, return_sequences=True))(h)
h = layers.Bidirectional(layers.LSTM(8))(h)
outputs = layers.Dense(1, activation="sigmoid")(h)
model = keras.Model(inputs, outputs)
same_weights(model)

model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
history = model.fit(x, y, batch_size=32, epochs=2, validation_data=(x[:64], y[:64]), shuffle=False, verbose=0)
result = [*history.history["loss"], *history.history["accuracy"], *history.history["val_loss"]]
