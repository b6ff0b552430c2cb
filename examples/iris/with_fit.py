"""Iris, as one writes it in Keras: `fit`, `evaluate`, `predict`.

python examples/iris/with_fit.py
"""

import fluxion as fx


def main(seed: int = 0) -> list[float]:
    fx.seed(seed)
    x, y = fx.datasets.iris()
    train, test = fx.splitobs((x, y), 105, shuffle=True, stratified=y, seed=seed)

    model = fx.Chain(fx.Dense(None, 10, fx.relu), fx.Dense(None, 3))
    history = fx.fit(
        model,
        train,
        loss=fx.logitcrossentropy,
        optimizer=fx.Adam(1e-3),
        epochs=100,
        batch_size=15,
        metrics=[fx.accuracy],
        seed=seed,
        progress=__name__ == "__main__",
    )

    result = fx.evaluate(model, test, loss=fx.logitcrossentropy, metrics=[fx.accuracy])
    print(f"test accuracy {result['accuracy']:.3f}")
    print(f"the first flower of the test set is {fx.datasets.iris().classes[fx.predict(model, test[0])[0].argmax()]}")
    return history["loss"]


if __name__ == "__main__":
    main()
