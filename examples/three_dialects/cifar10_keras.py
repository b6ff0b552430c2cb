"""CIFAR-10 with the network of Flux's "60-minute blitz", as in Keras."""

from data import cifar10

import fluxion as fx
from fluxion.dialects import keras
from fluxion.dialects.keras import layers


def main(epochs: int = 10) -> list[float]:
    """The mean loss of each epoch."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(123)
    (xtrn, ytrn), (xtst, ytst) = cifar10()

    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Conv2D(16, 5, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(8, 5, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(120),
            layers.Dense(84),
            layers.Dense(10),
        ]
    )
    model.compile(
        optimizer=fx.Momentum(0.01, 0.9),  # keras.optimizers.SGD rounds otherwise
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    history = model.fit(xtrn, ytrn, batch_size=1000, epochs=epochs, shuffle=False, verbose=0)

    _, accuracy = model.evaluate(xtst, ytst, verbose=0)
    print(f"Keras  test accuracy {accuracy:.4f}")
    return history.history["loss"]


if __name__ == "__main__":
    main()
