"""A variational autoencoder for Fashion-MNIST, as a layer of one's own that draws random numbers.

    python examples/vae.py

The encoder gives each picture x a normal distribution q of codes; the decoder turns a code drawn from it into the
probability p that each pixel is ink. Both learn to raise the evidence lower bound

    ELBO(x) = mean over codes z of q of log p(x given z) - KL(q, standard normal),

a lower bound on the log-likelihood of the picture in nats. It prints the ELBO of the test set, a mean per picture, and
writes runs/vae.png: pictures, their reconstructions, and new ones drawn from the model.

Source: D. P. Kingma and M. Welling, "Auto-encoding variational Bayes", arXiv:1312.6114.
"""

import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import fluxion as fx


class VAE(fx.Layer):
    """Pictures (batch, 28, 28, 1) -> logits of the pixels for a random code, and mean and log-variance of the codes.

    A step of training draws from its own stream of random numbers, which depends on the seed and the number of the
    step alone. So `fx.randn` is all there is to do, and the same seed gives the same run.
    """

    def __init__(self, latent: int):
        self.latent = latent
        self.encoder = fx.Chain(
            fx.flatten, fx.Dense(784, 512, fx.relu), fx.Dense(512, 256, fx.relu), fx.Dense(256, 2 * latent)
        )
        self.decoder = fx.Chain(fx.Dense(latent, 256, fx.relu), fx.Dense(256, 512, fx.relu), fx.Dense(512, 784))

    def encode(self, x):
        mean, log_variance = jnp.split(self.encoder(x), 2, axis=-1)
        return mean, log_variance

    def decode(self, code):
        return self.decoder(code).reshape(-1, 28, 28, 1)

    def __call__(self, x):
        mean, log_variance = self.encode(x)
        code = mean + jnp.exp(log_variance / 2) * fx.randn(mean.shape)
        return self.decode(code), mean, log_variance


def divergence(mean, log_variance):
    """KL(N(mean, variance), N(0, 1)) of each row, summed over its independent coordinates: (batch, n) -> (batch,)."""
    return jnp.sum(jnp.exp(log_variance) + mean**2 - 1 - log_variance, axis=-1) / 2


def negative_elbo(model, x):
    """In nats, a mean over the pictures; the code is one draw."""
    logits, mean, log_variance = model(x)
    surprise = fx.logitbinarycrossentropy(logits, x, agg=jnp.sum) / len(x)
    return surprise + jnp.mean(divergence(mean, log_variance))


def draw(model, test, file: Path) -> None:
    """Originals, reconstructions, samples."""
    from matplotlib.figure import Figure

    decode = fx.jit(lambda model, code: fx.sigmoid(model.decode(code)))
    originals = test.images[[np.flatnonzero(test.labels == label)[i] for i in range(4) for label in range(10)]]
    panels = {
        "test set": originals,
        "reconstructed from the mean of their codes": decode(model, model.encode(originals)[0]),
        "drawn from the model": decode(model, fx.randn(40, model.latent)),
    }
    figure = Figure(figsize=(5.6, 7.4), layout="constrained")
    for axes, (title, pictures) in zip(figure.subplots(3, 1), panels.items(), strict=True):
        rows = np.reshape(pictures, (4, 10, 28, 28)).transpose(0, 2, 1, 3).reshape(4 * 28, 10 * 28)
        axes.imshow(rows, cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(title, fontsize=10)
        axes.set_axis_off()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=130)


def main(epochs: int = 20, latent: int = 10, picture: str = "runs/vae.png", progress: bool = True) -> float:
    fx.seed(0)
    train, test = fx.datasets.fashion_mnist(), fx.datasets.fashion_mnist("test")
    model = VAE(latent)

    started = time.perf_counter()
    fx.fit(
        model,
        (train.images,),
        loss=negative_elbo,
        optimizer=fx.Adam(1e-3),
        epochs=epochs,
        batch_size=128,
        seed=0,
        progress=progress,
    )
    seconds = time.perf_counter() - started
    with fx.randomness(jax.random.key(0)):
        elbo = -fx.evaluate(model, (test.images,), loss=negative_elbo, batch_size=500)["loss"]
        draw(model, test, Path(picture))
    print(f"test ELBO {elbo:.2f} nats per picture after {epochs} epochs in {seconds:.0f} s")
    print(f"pictures are in {picture}")
    return elbo


if __name__ == "__main__":
    main()
