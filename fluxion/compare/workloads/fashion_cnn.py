"""Fashion-MNIST, two convolutions of 3 by 3."""

from dataclasses import replace

from fluxion.compare.workloads import Comparison, mnist_cnn

WORKLOAD = Comparison(
    title="Clothes, a convolutional network",
    post="antimon2, 2019: a second look at the Iris post on Fashion-MNIST, with Knet.jl, Flux.jl and TF-Keras",
    data="fashion-mnist",
    split="60000 to train on, 10000 to test on, pixels / 255",
    fair=replace(
        mnist_cnn.FAIR,
        name="fashion-cnn",
        title="Fashion-MNIST, Conv3 32, Conv3 64, pool, dense 128, batch 128",
        examples=60000,
    ),
    about="The slides found TF-Keras far ahead wherever there are convolutions; their networks are lost, and this is "
    "the one of mnist-cnn.",
    band=(0.895, 0.930),
    tolerance=1e-3,
    drift=5e-2,
)
