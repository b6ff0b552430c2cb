"""CIFAR-10, the network of Flux.jl's 60-minute blitz: two convolutions of 5 by 5, batches of 1000."""

from fluxion.compare import parts as w
from fluxion.compare.workloads import Comparison, Variant

FAIR = w.Workload(
    name="cifar-cnn",
    title="CIFAR-10, Conv5 16, pool, Conv5 8, pool, dense 120-84-10, batch 1000",
    network=w.blitz(),
    shape=(32, 32, 3),
    batch=1000,
    optimizer=w.Momentum(0.01, 0.9),
    epochs=10,
    examples=49000,
    evaluation=10000,
    block=1,
    checked=50,
    kind="compare",
)

WORKLOAD = Comparison(
    title="Small photographs, a convolutional network",
    post="N. (Nihal197), 2022-07-11: Introduction to Deep Learning in Julia, Flux.jl's 60-minute blitz",
    data="cifar10",
    split="49000 to train on, 1000 to validate on, 10000 to test on, pixels / 255",
    fair=FAIR,
    about="As in the post, but shuffled anew in each epoch. There is no activation between the dense layers.",
    band=(0.44, 0.56),
    variants=(
        Variant(
            "Flux.jl",
            FAIR,
            ("fluxion", "flux-jl"),
            "49 batches in the order of the files, never shuffled. Others who ran the same program published "
            "validation accuracies from 0.135 to 0.488 (Princeton, Julia 1.4.1) after 10 epochs.",
            batches="in order",
            published={
                "validation accuracy": [0.219, 0.292, 0.348, 0.394, 0.417, 0.454, 0.467, 0.490, 0.473, 0.508],
                "test accuracy": 0.4946,
            },
        ),
    ),
)
