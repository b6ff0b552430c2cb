"""MNIST, two convolutions of 3 by 3: most of the work is the second one."""

from dataclasses import replace

from fluxion.compare import parts as w
from fluxion.compare.workloads import Comparison, Variant


def network(*dropout: w.Part) -> tuple[w.Part, ...]:
    """Keras' own example of 2017, with or without its dropout."""
    first, second = dropout or (None, None)
    parts = (
        w.Conv(3, 1, 32, "relu"), w.Conv(3, 32, 64, "relu"), w.MaxPool(), first, w.Flatten((12, 12, 64)),
        w.Dense(9216, 128, "relu"), second, w.Dense(128, 10),
    )  # fmt: skip
    return tuple(part for part in parts if part is not None)


FAIR = w.Workload(
    name="mnist-cnn",
    title="MNIST, Conv3 32, Conv3 64, pool, dense 128, batch 128",
    network=network(),
    shape=(28, 28, 1),
    batch=128,
    optimizer=w.Adam(1e-3),
    epochs=5,
    examples=54000,
    evaluation=10000,
    block=2,
    checked=50,
    kind="compare",
)
LARGE = (
    w.Conv(5, 1, 32, "relu", same=True), w.MaxPool(), w.Conv(5, 32, 64, "relu", same=True), w.MaxPool(),
    w.Flatten((7, 7, 64)), w.Dense(3136, 1024, "relu"), w.Dropout(0.25), w.Dense(1024, 10),
)  # fmt: skip
VALID = (w.Conv(5, 1, 32, "relu"), w.MaxPool(), w.Conv(5, 32, 64, "relu"), w.MaxPool(), w.Flatten((4, 4, 64)))
TANH = (
    w.Conv(5, 1, 32, "tanh", bias=False), w.MaxPool(), w.Conv(5, 32, 64, "tanh", bias=False), w.MaxPool(),
    w.Flatten((4, 4, 64)), w.Dense(1024, 512, "tanh"), w.Dense(512, 10),
)  # fmt: skip

WORKLOAD = Comparison(
    title="Handwritten digits, a convolutional network",
    post="S. Pal, 2017-05-13: MNIST from CSV in Keras, TensorFlow, PyTorch, MXNet and Theano",
    data="mnist-csv",
    split="54000 to train on, 6000 to validate on, 10000 to test on, pixels / 255",
    fair=FAIR,
    about="The network of the post's Keras notebook without its dropout of 0.25 and 0.5, so that losses can be "
    "compared.",
    band=(0.980, 0.994),
    tolerance=1e-3,
    drift=5e-2,
    variants=(
        Variant(
            "Keras",
            replace(FAIR, network=network(w.Dropout(0.25), w.Dropout(0.5))),
            ("keras-tf", "keras-jax", "keras-torch", "fluxion-keras"),
            "Dropout of 0.25 and 0.5; the last, smaller batch is kept.",
            partial=True,
            published={
                "train loss": [0.2633, 0.0883, 0.0673, 0.0552, 0.0471],
                "validation accuracy": [0.9835, 0.9880, 0.9893, 0.9900, 0.9903],
                "test accuracy": 0.9910,
                "seconds per epoch": 95.5,
            },
        ),
        Variant(
            "TensorFlow",
            replace(FAIR, network=LARGE, init="normal with biases", examples=59904),
            ("keras-tf",),
            "Kernels of 5 and a dense layer of 1024; normal first weights and biases; test images drawn again and "
            "again, here each once.",
            published={
                "train loss": [6903.0, 824.0, 413.0, 258.0, 178.0],
                "train accuracy": [0.799, 0.932, 0.950, 0.958, 0.963],
                "test accuracy": 0.9608,
            },
        ),
        Variant(
            "PyTorch",
            replace(FAIR, network=LARGE, init="fan in", loss="squared error of softmax", examples=59904),
            ("torch",),
            "Kernels of 5 and a dense layer of 1024; squared error of the softmax. The post tested with dropout on; "
            "here it is off.",
            published={
                "train loss": [0.008, 0.002, 0.002, 0.001, 0.001],
                "train accuracy": [0.946, 0.984, 0.989, 0.992, 0.993],
                "test accuracy": 0.9858,
            },
        ),
        Variant(
            "MXNet",
            replace(
                FAIR,
                network=(*VALID, w.Dense(1024, 512, "relu"), w.Dropout(0.25), w.Dense(512, 10)),
                init="uniform 0.01",
                examples=60000,
            ),
            ("mxnet",),
            "Kernels of 5; pixels from 0 to 255; one order for all epochs. The accuracy that it published (0.9689) is "
            "none: it compared labels and truncated probabilities cell by cell (68.9 % right minus wrong).",
            batches="shuffled once",
            partial=True,
            pixels="0 to 255",
            published={"seconds per epoch": 154.3},
        ),
        Variant(
            "Theano",
            replace(FAIR, network=TANH, init="normal", optimizer=w.SGD(1e-3), examples=59776),
            ("pytensor",),
            "Plain gradient descent with a rate of 0.001 from normal weights; tanh. The final notebook stopped after "
            "the first epoch; the accuracies are those of the complete run before it.",
            published={"train accuracy": [0.1622, 0.2275, 0.2973, 0.3568, 0.4033], "test accuracy": 0.399},
        ),
    ),
)
