"""The next character of Shakespeare at every place: stacked GRUs over an embedding, batches from a generator."""

from program_data import same_weights, shakespeare

import keras
from keras import layers

x, y, vocabulary = shakespeare(128, window=16)

model = keras.Sequential(
    [
        layers.Embedding(vocabulary, 12),
        layers.GRU(16, return_sequences=True),
        layers.GRU(16, return_sequences=True, reset_after=False),
        layers.TimeDistributed(layers.Dense(vocabulary)),
    ]
)
model.build((None, 16))
same_weights(model)
model.compile(
    optimizer=keras.optimizers.Adam(5e-3, beta_1=0.8, global_clipnorm=1.0),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
)


def batches():
    while True:
        for i in range(0, len(x), 32):
            yield x[i : i + 32], y[i : i + 32]


history = model.fit(batches(), steps_per_epoch=4, epochs=3, verbose=0)
result = [*history.history["loss"], model.evaluate(x, y, verbose=0)]
