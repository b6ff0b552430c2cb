"""A closure is a model: three arrays learn 2x - x^3 on [-2, 2].

python examples/closure.py
"""

import jax
import jax.numpy as jnp
import numpy as np

import fluxion as fx


def make(units: int = 23):
    """`x -> sum(v * tanh(w * x + b))` for a number x."""
    w, b, v = (fx.randn(units) for _ in range(3))
    return lambda x: jnp.sum(v * jnp.tanh(w * x + b))


def loss(model, x, y):
    return fx.mse(jax.vmap(model)(x), y)


def main(steps: int = 3000) -> float:
    fx.seed(0)
    model = make()
    x = np.linspace(-2, 2, 101, dtype=np.float32)
    y = 2 * x - x**3
    opt = fx.setup(fx.Adam(fx.schedules.Cosine(5e-2, steps)), model)
    fx.train(loss, model, [(x, y)] * steps, opt)
    error = float(loss(model, x, y))
    print(f"mean squared error {error:.2g}, model(1.0) = {model(1.0):.3f}, to be 1")
    return error


if __name__ == "__main__":
    main()
