"""MNIST, 784-128-10: matrix products of middling size."""

from dataclasses import replace

from fluxion.compare import parts as w
from fluxion.compare.workloads import Comparison, Variant

FAIR = w.Workload(
    name="mnist-mlp",
    title="MNIST, MLP 784-128-10, batch 64",
    network=w.mlp(784, 128, 10),
    shape=(784,),
    batch=64,
    optimizer=w.Adam(1e-3),
    epochs=5,
    examples=60000,
    evaluation=10000,
    block=50,
    checked=50,
    kind="compare",
)
DROPPED = (w.Dense(784, 128, "relu"), w.Dropout(0.2), w.Dense(128, 10))
NONE = "The post publishes no numbers."

WORKLOAD = Comparison(
    title="Handwritten digits, one hidden layer",
    post="alecokas, 2020-07-20: MNIST in Flux.jl, TensorFlow and PyTorch",
    data="mnist",
    split="60000 to train on, 10000 to test on, pixels / 255",
    fair=FAIR,
    about="Without the dropout of 0.2 of the post: each framework would draw other masks, and no two losses would "
    "agree.",
    band=(0.965, 0.985),
    variants=(
        Variant(
            "Flux.jl, functional",
            replace(FAIR, network=DROPPED, optimizer=w.Adam(1e-4), epochs=1),
            ("fluxion", "flux-jl"),
            f"A learning rate a tenth of the others', one epoch. {NONE}",
            partial=True,
        ),
        Variant(
            "Flux.jl, modular",
            replace(FAIR, network=DROPPED, optimizer=w.Adam(1e-4)),
            ("fluxion", "fluxion-knet", "flux-jl"),
            f"A learning rate a tenth of the others'. The model ran twice per step, which is not repeated here. {NONE}",
            partial=True,
        ),
        Variant(
            "TensorFlow",
            replace(FAIR, network=DROPPED, optimizer=w.Adam(1e-3, epsilon=1e-7), batch=32),
            ("keras-tf", "fluxion-keras"),
            f"Batches of 32, twice the updates; eps 1e-7. {NONE}",
            partial=True,
        ),
        Variant(
            "PyTorch",
            replace(FAIR, network=DROPPED, init="fan in"),
            ("torch",),
            f"Standardized pixels, other first weights. It divided by too many examples; here by the right number. "
            f"{NONE}",
            partial=True,
            pixels="standardized",
        ),
    ),
)
