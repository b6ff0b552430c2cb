"""Encoder and decoder as models of their own, joined in a third one."""

import numpy as np
from program_data import fashion, same_weights

import keras
from keras import layers

x, _ = fashion(128)
x = np.reshape(x.astype("float32") / 255, (len(x), 28, 28, 1))

encoder_input = keras.Input(shape=(28, 28, 1), name="original_img")
h = layers.Conv2D(8, 3, activation="relu", padding="same")(encoder_input)
h = layers.MaxPooling2D(2, padding="same")(h)
h = layers.Conv2D(4, 3, activation="relu", padding="same")(h)
encoder_output = layers.MaxPooling2D(2, padding="same")(h)
encoder = keras.Model(encoder_input, encoder_output, name="encoder")

decoder_input = keras.Input(shape=(7, 7, 4), name="encoded_img")
h = layers.Conv2DTranspose(4, 3, strides=2, activation="relu", padding="same")(decoder_input)
h = layers.UpSampling2D(2)(h)
decoder_output = layers.Conv2D(1, 3, activation="sigmoid", padding="same")(h)
decoder = keras.Model(decoder_input, decoder_output, name="decoder")

autoencoder_input = keras.Input(shape=(28, 28, 1), name="img")
autoencoder = keras.Model(autoencoder_input, decoder(encoder(autoencoder_input)), name="autoencoder")
same_weights(autoencoder)
autoencoder.compile(optimizer="adam", loss="binary_crossentropy")
history = autoencoder.fit(x, x, epochs=2, batch_size=32, shuffle=False, validation_data=(x[:32], x[:32]), verbose=0)

codes = encoder.predict(x[:4], verbose=0)
assert codes.shape == (4, 7, 7, 4)
result = [*history.history["loss"], *history.history["val_loss"], codes.mean(), np.mean(decoder(codes))]
