"""Several inputs and outputs: losses, weights and metrics by the names of the outputs, data by those of the inputs."""

import numpy as np
from program_data import same_weights, titanic

import keras
from keras import layers

table = titanic()
numbers = np.stack([table["age"], table["fare"]], axis=1)
sex = table["sex"][:, None]
ticket_class = table["class"]
survived = table["survived"][:, None].astype("float32")

numbers_input = keras.Input(shape=(2,), name="numbers")
sex_input = keras.Input(shape=(1,), name="sex", dtype="int32")

sex_features = layers.Flatten()(layers.Embedding(2, 4)(sex_input))
h = layers.concatenate([numbers_input, sex_features])
h = layers.Dense(16, activation="tanh")(h)
survived_output = layers.Dense(1, name="survived")(h)
class_output = layers.Dense(3, name="ticket_class")(h)

model = keras.Model(
    inputs=[numbers_input, sex_input],
    outputs={"survived": survived_output, "ticket_class": class_output},
)
same_weights(model)
model.compile(
    optimizer=keras.optimizers.RMSprop(1e-2),
    loss={
        "survived": keras.losses.BinaryCrossentropy(from_logits=True),
        "ticket_class": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    },
    loss_weights={"survived": 1.0, "ticket_class": 0.2},
    metrics={"ticket_class": ["accuracy"]},
)
history = model.fit(
    {"numbers": numbers, "sex": sex},
    {"survived": survived, "ticket_class": ticket_class},
    epochs=2,
    batch_size=64,
    shuffle=False,
    verbose=0,
)
found = model.evaluate(
    {"numbers": numbers, "sex": sex},
    {"survived": survived, "ticket_class": ticket_class},
    return_dict=True,
    verbose=0,
)
outputs = model.predict({"numbers": numbers[:3], "sex": sex[:3]}, verbose=0)
result = [
    *history.history["loss"],
    *history.history["survived_loss"],
    *history.history["ticket_class_accuracy"],
    *(found[name] for name in sorted(found)),
    *outputs["survived"][:, 0],
]
