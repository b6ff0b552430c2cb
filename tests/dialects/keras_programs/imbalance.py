"""Rare cases count more: class weights, sample weights, precision, recall and the area under the curve."""

import numpy as np
from program_data import same_weights, titanic

import keras

table = titanic()
x = np.stack([table["age"], table["fare"], table["sex"], table["class"]], axis=1).astype("float32")
y = table["survived"]


def build():
    model = keras.Sequential(
        [
            keras.Input(shape=(4,)),
            keras.layers.Dense(16, activation="relu", kernel_regularizer=keras.regularizers.L2(1e-3)),
            keras.layers.Dense(1, activation="sigmoid", bias_initializer=keras.initializers.Constant(-0.5)),
        ]
    )
    same_weights(model)
    model.compile(
        optimizer=keras.optimizers.Adam(1e-2),
        loss=keras.losses.BinaryCrossentropy(label_smoothing=0.1),
        metrics=[
            keras.metrics.BinaryAccuracy(name="accuracy"),
            keras.metrics.Precision(name="precision"),
            keras.metrics.Recall(name="recall"),
            keras.metrics.AUC(name="auc"),
        ],
    )
    return model


weighted = build()
history = weighted.fit(
    x, y, batch_size=99, epochs=3, class_weight={0: 0.7, 1: 1.4}, validation_split=0.1, shuffle=False, verbose=0
)
by_sample = build()
weights = np.linspace(0.5, 1.5, len(x)).astype("float32")
second = by_sample.fit(x, y, batch_size=99, epochs=2, sample_weight=weights, shuffle=False, verbose=0)
result = [value for name in sorted(history.history) for value in history.history[name]]
result += [*second.history["loss"], *weighted.evaluate(x, y, verbose=0)]
