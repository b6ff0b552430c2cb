"""MNIST, 784-512-256-10: larger matrix products."""

from dataclasses import replace

from fluxion.compare import parts as w
from fluxion.compare.workloads import Comparison, Variant

FAIR = w.Workload(
    name="mnist-fcn",
    title="MNIST, MLP 784-512-256-10, batch 128",
    network=w.mlp(784, 512, 256, 10),
    shape=(784,),
    batch=128,
    optimizer=w.Adam(1e-3),
    epochs=10,
    examples=54000,
    evaluation=10000,
    block=20,
    checked=50,
    kind="compare",
)


def dropped(first: float, second: float) -> tuple[w.Part, ...]:
    """The network with dropout after each hidden layer."""
    hidden = (w.Dense(784, 512, "relu"), w.Dropout(first), w.Dense(512, 256, "relu"), w.Dropout(second))
    return (*hidden, w.Dense(256, 10))


SMALL = (w.Dense(784, 128, "relu"), w.Dropout(0.2), w.Dense(128, 64, "relu"), w.Dropout(0.2), w.Dense(64, 10))
ON = "The post tested with dropout on; here it is off."

WORKLOAD = Comparison(
    title="Handwritten digits, two hidden layers",
    post="S. Pal, 2017-05-13: MNIST from CSV in Keras, TensorFlow, PyTorch, MXNet and Theano",
    data="mnist-csv",
    split="54000 to train on, 6000 to validate on, 10000 to test on, pixels / 255",
    fair=FAIR,
    about="The sizes of the post's Keras notebook, which set the others' too; without its dropout of 0.2, so that "
    "losses can be compared.",
    band=(0.970, 0.988),
    drift=5e-2,
    variants=(
        Variant(
            "Keras",
            replace(FAIR, network=dropped(0.2, 0.2), optimizer=w.Adam(1e-3, epsilon=1e-8)),
            ("keras-tf", "keras-jax", "keras-torch", "fluxion-keras"),
            "Dropout of 0.2; the last, smaller batch is kept.",
            partial=True,
            published={
                "train loss": [0.2831, 0.1121, 0.0790, 0.0601, 0.0506, 0.0401, 0.0346, 0.0306, 0.0278, 0.0263],
                "train accuracy": 0.9911,
                "validation accuracy": 0.9800,
                "test accuracy": 0.9805,
                "seconds per epoch": 4.0,
            },
        ),
        Variant(
            "TensorFlow",
            replace(
                FAIR,
                network=dropped(0.8, 0.5),
                init="truncated normal 0.01",
                loss="cross entropy of softmax",
                examples=59904,
            ),
            ("keras-tf",),
            "tf.nn.dropout(h, 0.2) kept 20 % and dropped 80 %; softmax twice, so that the loss cannot fall below "
            f"1.4612; trained on what the others validate on, too. {ON}",
            published={
                "train loss": [1.713, 1.580, 1.564, 1.555, 1.550, 1.547, 1.543, 1.541, 1.540, 1.538],
                "train accuracy": 0.923,
                "test accuracy": 0.9199,
            },
        ),
        Variant(
            "PyTorch",
            replace(FAIR, network=dropped(0.2, 0.2), init="fan in", loss="squared error of softmax", examples=59904),
            ("torch",),
            f"Squared error of the softmax instead of the cross entropy. {ON}",
            published={
                "train loss": [0.014, 0.006, 0.005, 0.004, 0.003, 0.003, 0.002, 0.002, 0.002, 0.002],
                "train accuracy": 0.988,
                "test accuracy": 0.9770,
            },
        ),
        Variant(
            "MXNet",
            replace(FAIR, network=SMALL, init="uniform 0.01", examples=60000),
            ("mxnet",),
            "A network a fifth of the size; pixels from 0 to 255; one order for all epochs. The accuracy that it "
            "published (0.9398) is none: labels and truncated probabilities were compared cell by cell, and an "
            "untrained network scores 0.90. Read back, it is 39.8 % of saturated right minus saturated wrong answers.",
            batches="shuffled once",
            partial=True,
            pixels="0 to 255",
        ),
        Variant(
            "Theano",
            replace(
                FAIR,
                network=w.mlp(784, 128, 64, 10),
                init="normal",
                optimizer=w.SGD(1e-3),
                penalty=0.01 / (2 * 60000),
                examples=59776,
            ),
            ("pytensor",),
            "A network a fifth of the size; plain gradient descent with a rate of 0.001 from normal weights, and a "
            "penalty on large ones. The post computed in float64; here float32.",
            published={
                "train loss": [91.08, 30.23, 21.07, 16.55, 13.76, 11.79, 10.29, 9.12, 8.15, 7.30],
                "train accuracy": 0.785,
                "test accuracy": 0.797,
            },
        ),
    ),
)
