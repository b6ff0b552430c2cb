"""Iris as in Keras: layers by the size of their output, names for the rest, compile and fit."""

from data import iris

import fluxion as fx
from fluxion.dialects import keras


def main(epochs: int = 100) -> list[float]:
    """The mean loss of each epoch."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(123)
    (xtrn, ytrn), (xtst, ytst) = iris()

    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(10, activation="relu"),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile(
        optimizer=fx.Adam(),  # Keras' own Adam has its epsilon at another place
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    dtrn = fx.DataLoader((xtrn, ytrn), batch_size=15, shuffle=True, seed=123)
    history = model.fit(dtrn, epochs=epochs, verbose=0)

    _, accuracy = model.evaluate(xtst, ytst, verbose=0)
    print(f"Keras  test accuracy {accuracy:.4f}")
    return history.history["loss"]


if __name__ == "__main__":
    main()
