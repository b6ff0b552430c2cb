"""Iris, 4-10-3: the smallest one. It shows what a step costs beside its arithmetic, and is no measure of speed."""

from dataclasses import replace

from fluxion.compare import parts as w
from fluxion.compare.workloads import Comparison, Variant

FAIR = w.Workload(
    name="iris",
    title="Iris, MLP 4-10-3, batch 15",
    network=w.mlp(4, 10, 3),
    shape=(4,),
    batch=15,
    classes=3,
    optimizer=w.Adam(1e-3),
    epochs=100,
    examples=105,
    evaluation=45,
    block=100,
    checked=50,
    kind="compare",
)
CHARTS = "Its results are charts that are lost, so no numbers stand beside these."

WORKLOAD = Comparison(
    title="Iris flowers, a network of 83 parameters",
    post="A.-A. Asaad, estadistika, 2019-06-20: Iris in Knet.jl, Flux.jl and TF-Keras",
    data="iris",
    split="105 to train on and 45 to test on, 15 of each species; Fisher's data as R has them, not standardized",
    fair=FAIR,
    about="The steps are so small that their cost is all overhead: read no verdict on speed from it. Fluxion's `fit`, "
    "and the loop over single steps in Knet's style, are timed in two processes only.",
    band=(0.80, 1.0),
    whole=1,  # all of its time is starting and compiling, and all of it is to take no more than a minute
    others=2,
    variants=(
        Variant(
            "Knet.jl",
            replace(FAIR, batch=10, init="knet"),
            ("fluxion-knet", "knet-jl"),
            f"Batches of 10, so that 5 of 105 rows are left out in each epoch; narrower first weights. {CHARTS}",
        ),
        Variant(
            "Flux.jl",
            replace(FAIR, examples=150, restart=True),
            ("fluxion", "flux-jl"),
            "Ten batches of 15 drawn once with replacement, so that a quarter of the rows is never seen; Adam "
            f"forgets its state at each epoch. {CHARTS}",
            batches="drawn once",
        ),
        Variant(
            "TF-Keras",
            replace(FAIR, optimizer=w.Adam(1e-3, epsilon=1e-7)),
            ("keras-tf", "fluxion-keras"),
            f"700 updates where the others made 1000; eps 1e-7. {CHARTS}",
        ),
    ),
)
