"""A model as a class, with `training` passed on."""

from program_data import fashion, same_weights

import keras


class Classifier(keras.Model):
    def __init__(self, hidden, classes):
        super().__init__()
        self.flatten = keras.layers.Flatten()
        self.rescale = keras.layers.Rescaling(1 / 255)
        self.blocks = [keras.layers.Dense(units, activation="gelu") for units in hidden]
        self.norm = keras.layers.LayerNormalization()
        self.dropout = keras.layers.Dropout(0.0)
        self.head = keras.layers.Dense(classes)

    def call(self, inputs, training=False):
        h = self.rescale(self.flatten(inputs))
        for block in self.blocks:
            h = block(h)
        if training:
            h = self.dropout(h, training=training)
        return self.head(self.norm(h))


x, y = fashion(320)
model = Classifier([32, 16], 10)
model(x[:1])
same_weights(model)
model.compile(
    optimizer=keras.optimizers.AdamW(learning_rate=2e-3, weight_decay=0.01, clipnorm=1.0),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=[keras.metrics.SparseCategoricalAccuracy()],
)
history = model.fit(
    x[:256], y[:256], batch_size=32, epochs=2, validation_data=(x[256:], y[256:]), shuffle=False, verbose=0
)
result = [*history.history["loss"], *history.history["sparse_categorical_accuracy"], *history.history["val_loss"]]
