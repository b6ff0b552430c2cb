"""MNIST from CSV files, 784-512-256-10 with dropout, as in Keras."""

import sys

from data import mnist_csv

import fluxion as fx
from fluxion.dialects.keras import Input, Sequential
from fluxion.dialects.keras.layers import Dense, Dropout
from fluxion.dialects.keras.losses import SparseCategoricalCrossentropy
from fluxion.dialects.keras.utils import clear_session, set_random_seed


def main(train_file: str, test_file: str, epochs: int = 10) -> list[float]:
    """The mean loss of each epoch."""
    clear_session()
    set_random_seed(123)
    train, (xtst, ytst) = mnist_csv(train_file, test_file)

    model = Sequential()
    model.add(Input((784,)))
    model.add(Dense(512, activation="relu"))
    model.add(Dropout(0.2))
    model.add(Dense(256, activation="relu"))
    model.add(Dropout(0.2))
    model.add(Dense(10))
    model.compile(
        optimizer=fx.Adam(),  # Keras' own Adam has its epsilon at another place
        loss=SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    batches = fx.DataLoader(train, batch_size=128, shuffle=True, partial=False, seed=123)
    history = model.fit(batches, epochs=epochs, verbose=0)

    _, accuracy = model.evaluate(xtst, ytst, verbose=0)
    print(f"Keras  test accuracy {accuracy:.4f}")
    return history.history["loss"]


if __name__ == "__main__":
    main(*sys.argv[1:])
