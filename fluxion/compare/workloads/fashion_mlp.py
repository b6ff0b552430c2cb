"""Fashion-MNIST, 784-512-256-10."""

from dataclasses import replace

from fluxion.compare.workloads import Comparison, mnist_fcn

WORKLOAD = Comparison(
    title="Clothes, two hidden layers",
    post="antimon2, 2019: a second look at the Iris post on Fashion-MNIST, with Knet.jl, Flux.jl and TF-Keras",
    data="fashion-mnist",
    split="60000 to train on, 10000 to test on, pixels / 255",
    fair=replace(
        mnist_fcn.FAIR, name="fashion-mlp", title="Fashion-MNIST, MLP 784-512-256-10, batch 128", examples=60000
    ),
    about="The networks of the slides are lost: this is the one of mnist-fcn.",
    band=(0.865, 0.905),
    tolerance=1e-3,
    drift=5e-2,
)
