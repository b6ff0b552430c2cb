"""MNIST with one hidden layer and dropout, as in Keras."""

from data import mnist

import fluxion as fx
from fluxion.dialects import keras


def main(epochs: int = 5) -> list[float]:
    """The mean loss of each epoch."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(123)
    train, (xtst, ytst) = mnist()

    model = keras.models.Sequential(
        [
            keras.Input((784,)),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(10),
        ]
    )
    model.compile(
        optimizer=fx.Adam(1e-3),  # Keras' own Adam has its epsilon at another place
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    batches = fx.DataLoader(train, batch_size=64, shuffle=True, partial=False, seed=123)
    history = model.fit(batches, epochs=epochs, verbose=0)

    _, accuracy = model.evaluate(xtst, ytst, verbose=0)
    print(f"Keras  test accuracy {accuracy:.4f}")
    return history.history["loss"]


if __name__ == "__main__":
    main()
