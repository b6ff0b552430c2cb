"""What is computed alike by Keras and by the dialect: losses, metrics, trajectories of optimizers, histories of `fit`.

Each function takes the module, Keras itself or `fluxion.dialects.keras`, and gives numbers by name. Those of Keras
3.15.1 (JAX 0.10, CPU) are kept in `keras_training_recorded.json`, which this program writes:

    KERAS_BACKEND=jax python tests/dialects/keras_training_cases.py
"""

import json
import pathlib

import numpy as np

RECORDED = pathlib.Path(__file__).with_name("keras_training_recorded.json")

RNG = np.random.default_rng(7)
N = 6
P = RNG.dirichlet(np.ones(4), N).astype("float32")  # probabilities
LABELS = RNG.integers(0, 4, N)
HOT = np.eye(4, dtype="float32")[LABELS]
Z = RNG.normal(size=(N, 4)).astype("float32")  # scores
YES = RNG.integers(0, 2, (N, 4)).astype("float32")
U = RNG.uniform(size=(N, 4)).astype("float32")
T = RNG.normal(size=(N, 4)).astype("float32")  # real targets
W = RNG.uniform(0.5, 2, size=N).astype("float32")
UNIT = Z / np.linalg.norm(Z, axis=1, keepdims=True)
SPEECH = np.array([[1, 2, 0], [3, 0, 0], [2, 2, 1]])
SOUND = RNG.normal(size=(3, 8, 4)).astype("float32")

LOSSES = [
    ("MeanSquaredError", T, Z, {}),
    ("MeanAbsoluteError", T, Z, {}),
    ("MeanAbsolutePercentageError", T, Z, {}),
    ("MeanSquaredLogarithmicError", abs(T), abs(Z), {}),
    ("CosineSimilarity", T, Z, {}),
    ("Huber", T, Z, {"delta": 0.7}),
    ("LogCosh", T, Z, {}),
    ("Hinge", YES, Z, {}),
    ("SquaredHinge", YES, Z, {}),
    ("CategoricalHinge", HOT, Z, {}),
    ("KLDivergence", P, U, {}),
    ("Poisson", abs(T), abs(Z), {}),
    ("BinaryCrossentropy", YES, U, {}),
    ("BinaryCrossentropy", YES, Z, {"from_logits": True, "label_smoothing": 0.1}),
    ("BinaryFocalCrossentropy", YES, U, {"gamma": 1.5}),
    ("BinaryFocalCrossentropy", YES, Z, {"from_logits": True, "apply_class_balancing": True}),
    ("CategoricalCrossentropy", HOT, P, {}),
    ("CategoricalCrossentropy", HOT, Z, {"from_logits": True, "label_smoothing": 0.1}),
    ("CategoricalFocalCrossentropy", HOT, P, {}),
    ("CategoricalFocalCrossentropy", HOT, Z, {"from_logits": True}),
    ("SparseCategoricalCrossentropy", LABELS, P, {}),
    ("SparseCategoricalCrossentropy", LABELS[:, None], Z, {"from_logits": True}),
    ("SparseCategoricalCrossentropy", LABELS, Z, {"from_logits": True, "ignore_class": 2}),
    ("CategoricalGeneralizedCrossEntropy", LABELS, P, {"q": 0.7}),
    ("Dice", YES, U, {}),
    ("Tversky", YES, U, {"alpha": 0.3, "beta": 0.6}),
    ("Circle", np.array([0, 0, 1, 1, 2, 2]), UNIT, {}),
    ("CTC", SPEECH, SOUND, {}),
]

METRICS = [
    ("Accuracy", LABELS, LABELS[::-1].copy(), {}),
    ("BinaryAccuracy", YES, U, {"threshold": 0.4}),
    ("CategoricalAccuracy", HOT, P, {}),
    ("SparseCategoricalAccuracy", LABELS[:, None], P, {}),
    ("TopKCategoricalAccuracy", HOT, P, {"k": 2}),
    ("SparseTopKCategoricalAccuracy", LABELS, P, {"k": 2}),
    ("MeanSquaredError", T, Z, {}),
    ("RootMeanSquaredError", T, Z, {}),
    ("MeanAbsoluteError", T, Z, {}),
    ("MeanAbsolutePercentageError", T, Z, {}),
    ("MeanSquaredLogarithmicError", abs(T), abs(Z), {}),
    ("LogCoshError", T, Z, {}),
    ("CosineSimilarity", T, Z, {}),
    ("R2Score", T, Z, {}),
    ("R2Score", T, Z, {"class_aggregation": "variance_weighted_average", "num_regressors": 2}),
    ("KLDivergence", P, U, {}),
    ("Poisson", abs(T), abs(Z), {}),
    ("BinaryCrossentropy", YES, U, {}),
    ("CategoricalCrossentropy", HOT, P, {}),
    ("SparseCategoricalCrossentropy", LABELS, P, {}),
    ("Hinge", YES, Z, {}),
    ("SquaredHinge", YES, Z, {}),
    ("CategoricalHinge", HOT, Z, {}),
    ("TruePositives", YES, U, {}),
    ("FalsePositives", YES, U, {"thresholds": [0.2, 0.7]}),
    ("TrueNegatives", YES, U, {}),
    ("FalseNegatives", YES, U, {}),
    ("Precision", YES, U, {}),
    ("Precision", HOT, P, {"top_k": 2}),
    ("Precision", HOT, P, {"class_id": 1}),
    ("Recall", YES, U, {"thresholds": [0.2, 0.4]}),
    ("SensitivityAtSpecificity", YES, U, {"specificity": 0.6}),
    ("SpecificityAtSensitivity", YES, U, {"sensitivity": 0.4}),
    ("PrecisionAtRecall", YES, U, {"recall": 0.5}),
    ("RecallAtPrecision", YES, U, {"precision": 0.5}),
    ("AUC", YES, U, {}),
    ("AUC", YES, U, {"curve": "PR"}),
    ("AUC", YES, U, {"curve": "PR", "summation_method": "minoring"}),
    ("AUC", YES, Z, {"from_logits": True, "num_thresholds": 11, "summation_method": "majoring"}),
    ("AUC", YES, U, {"thresholds": [0.3, 0.45]}),
    ("F1Score", HOT, P, {}),
    ("F1Score", YES, U, {"average": "micro", "threshold": 0.5}),
    ("FBetaScore", HOT, P, {"average": "weighted", "beta": 2.0}),
    ("MeanIoU", LABELS, LABELS[::-1].copy(), {"num_classes": 4}),
]

OPTIMIZERS = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    ("RMSprop", {}),
    ("RMSprop", {"centered": True, "momentum": 0.8}),
    ("Adagrad", {}),
    ("Adadelta", {"learning_rate": 1.0}),
    ("Adamax", {}),
    ("Nadam", {}),
    ("Adam", {}),
    ("Adam", {"amsgrad": True}),
    ("Adam", {"clipnorm": 0.5}),
    ("Adam", {"clipvalue": 0.3}),
    ("Adam", {"global_clipnorm": 0.7}),
    ("Adam", {"gradient_accumulation_steps": 2}),
    ("AdamW", {}),
    ("Lion", {}),
    ("Lamb", {"weight_decay": 0.1}),
]

SCHEDULES = [
    ("ExponentialDecay", {"initial_learning_rate": 0.1, "decay_steps": 3, "decay_rate": 0.5}),
    ("ExponentialDecay", {"initial_learning_rate": 0.1, "decay_steps": 3, "decay_rate": 0.5, "staircase": True}),
    ("PiecewiseConstantDecay", {"boundaries": [2, 5], "values": [0.1, 0.05, 0.01]}),
    ("PolynomialDecay", {"initial_learning_rate": 0.1, "decay_steps": 4, "power": 2.0}),
    ("PolynomialDecay", {"initial_learning_rate": 0.1, "decay_steps": 4, "cycle": True}),
    ("InverseTimeDecay", {"initial_learning_rate": 0.1, "decay_steps": 2, "decay_rate": 0.5}),
    ("CosineDecay", {"initial_learning_rate": 0.1, "decay_steps": 5, "alpha": 0.1}),
    ("CosineDecay", {"initial_learning_rate": 0.01, "decay_steps": 5, "warmup_target": 0.1, "warmup_steps": 3}),
    ("CosineDecayRestarts", {"initial_learning_rate": 0.1, "first_decay_steps": 2, "m_mul": 0.8}),
    ("CosineDecayRestarts", {"initial_learning_rate": 0.1, "first_decay_steps": 3, "t_mul": 1.0}),
]


def name_of(name, options):
    return f"{name}({', '.join(f'{key}={value}' for key, value in options.items())})"


def loss_numbers(keras, quick=False):
    """Each loss, by reduction, without and with weights."""
    found = {}
    for name, target, prediction, options in LOSSES:
        for reduction in ("sum_over_batch_size", "sum", "mean_with_sample_weight", None)[: 1 if quick else 4]:
            for weight in (None, W[: len(target)]):
                if weight is not None and name in ("Dice", "Tversky"):
                    continue  # one value for all: nothing to weight
                loss = getattr(keras.losses, name)(reduction=reduction, **options)
                key = f"{name_of(name, options)} {reduction} {'weighted' if weight is not None else 'plain'}"
                found[key] = np.asarray(loss(target, prediction, sample_weight=weight))
    return found


def metric_numbers(keras, quick=False):
    """Each metric over two batches, without and with weights."""
    found = {}
    for name, target, prediction, options in METRICS:
        for weight in (None, W)[: 1 if quick else 2]:
            if weight is not None and name == "MeanIoU":
                continue  # Keras casts its weights to integers
            metric = getattr(keras.metrics, name)(**options)
            for rows in (slice(0, 2), slice(2, N)):
                part = None if weight is None else weight[rows]
                metric.update_state(target[rows], prediction[rows], sample_weight=part)
            key = f"{name_of(name, options)} {'weighted' if weight is not None else 'plain'}"
            found[key] = np.asarray(metric.result())
    return found


def schedule_numbers(keras, quick=False):
    """The rates of 14 steps."""
    made = {name_of(n, o): getattr(keras.optimizers.schedules, n)(**o) for n, o in SCHEDULES}
    return {name: np.array([float(schedule(step)) for step in range(14)]) for name, schedule in made.items()}


def optimizer_numbers(keras, quick=False):
    """Two arrays after ten updates, the learning rate changed after the fifth."""
    rng = np.random.default_rng(3)
    start = [rng.normal(size=(3, 2)).astype("float32"), rng.normal(size=4).astype("float32")]
    grads = [[rng.normal(size=x.shape).astype("float32") for x in start] for _ in range(10)]
    cases = [(name_of(n, o), getattr(keras.optimizers, n)(**o)) for n, o in OPTIMIZERS]
    for n, o in SCHEDULES[:3]:
        schedule = getattr(keras.optimizers.schedules, n)(**o)
        cases.append((f"SGD({name_of(n, o)})", keras.optimizers.SGD(schedule)))
    found = {}
    for name, optimizer in cases:
        variables = [keras.Variable(x) for x in start]
        for i, gradients in enumerate(grads):
            optimizer.apply_gradients(zip(gradients, variables, strict=True))
            if i == 4 and "Decay" not in name:
                optimizer.learning_rate = 0.02
        found[name] = np.concatenate([np.ravel(v.numpy()) for v in variables])
    return found


FIT = np.random.default_rng(11)
FX = FIT.normal(size=(50, 6)).astype("float32")
FY = FIT.integers(0, 3, 50)
FH = np.eye(3, dtype="float32")[FY]
FR = (FX @ FIT.normal(size=(6, 2))).astype("float32")
FW = FIT.uniform(0.5, 2, 50).astype("float32")


def mlp(keras):
    layers = keras.layers
    hidden = layers.Dense(8, activation="relu", kernel_regularizer=keras.regularizers.L2(1e-2))
    return given(keras.Sequential([keras.Input((6,)), hidden, layers.Dense(3, activation="softmax")]))


def two_outputs(keras):
    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(8, activation="tanh")(inputs)
    a = keras.layers.Dense(3, activation="softmax", name="a")(hidden)
    return given(keras.Model(inputs, [a, keras.layers.Dense(2, name="b")(hidden)]))


def given(model):
    """The model with weights that are the same in both."""
    rng = np.random.default_rng(5)
    model.set_weights([(0.3 * rng.normal(size=w.shape)).astype("float32") for w in model.get_weights()])
    return model


SPARSE = "sparse_categorical_crossentropy"
FITS = {
    "plain": (mlp, lambda k: {"optimizer": "adam", "loss": SPARSE, "metrics": ["accuracy"]}, {"epochs": 3}, (FX, FY)),
    "split": (
        mlp,
        lambda k: {"optimizer": "adam", "loss": SPARSE, "metrics": ["accuracy"]},
        {"epochs": 3, "validation_split": 0.3, "batch_size": 8},
        (FX, FY),
    ),
    "class weight": (
        mlp,
        lambda k: {"optimizer": "sgd", "loss": SPARSE, "metrics": ["acc"], "weighted_metrics": ["accuracy"]},
        {"epochs": 2, "class_weight": {0: 2.0, 1: 0.5}},
        (FX, FY),
    ),
    "sample weight": (
        mlp,
        lambda k: {"optimizer": "rmsprop", "loss": SPARSE, "metrics": ["accuracy"], "weighted_metrics": ["accuracy"]},
        {"epochs": 2, "sample_weight": FW},
        (FX, FY),
    ),
    "validation now and then": (
        mlp,
        lambda k: {"optimizer": "adam", "loss": SPARSE},
        {"epochs": 3, "validation_data": (FX[:9], FY[:9], FW[:9]), "validation_freq": 2},
        (FX, FY),
    ),
    "two outputs": (
        two_outputs,
        lambda k: {
            "optimizer": "nadam",
            "loss": [SPARSE, "mse"],
            "loss_weights": [1.0, 0.3],
            "metrics": [["accuracy"], ["mae"]],
        },
        {"epochs": 2},
        (FX, [FY, FR]),
    ),
    "two outputs by name": (
        two_outputs,
        lambda k: {"optimizer": "adam", "loss": {"a": SPARSE, "b": k.losses.Huber()}, "metrics": {"b": ["mae"]}},
        {"epochs": 2, "validation_split": 0.2},
        (FX, {"a": FY, "b": FR}),
    ),
    "sums": (
        mlp,
        lambda k: {
            "optimizer": k.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
            "loss": "categorical_crossentropy",
            "metrics": ["accuracy", k.metrics.Precision(name="p"), k.metrics.AUC(name="auc")],
        },
        {"epochs": 2, "validation_split": 0.2},
        (FX, FH),
    ),
    "callbacks": (
        mlp,
        lambda k: {"optimizer": "adam", "loss": SPARSE},
        {
            "epochs": 9,
            "validation_split": 0.3,
            "callbacks": lambda k: [
                k.callbacks.ReduceLROnPlateau(monitor="loss", patience=1, min_delta=0.02, factor=0.3),
                k.callbacks.EarlyStopping(patience=2, min_delta=0.01, restore_best_weights=True),
            ],
        },
        (FX, FY),
    ),
    "schedule": (
        mlp,
        lambda k: {
            "optimizer": k.optimizers.Adam(k.optimizers.schedules.ExponentialDecay(0.05, 3, 0.7)),
            "loss": SPARSE,
        },
        {"epochs": 2, "steps_per_epoch": 3, "batch_size": 8},
        (FX, FY),
    ),
}


def fit_numbers(keras, names=tuple(FITS)):
    """The columns of each history, in order, then what `evaluate` says, then a weight."""
    found = {}
    for name in names:
        make, compiled, options, data = FITS[name]
        model = make(keras)
        model.compile(**compiled(keras))
        options = dict(options)
        if "callbacks" in options:
            options["callbacks"] = options["callbacks"](keras)
        history = model.fit(*data, shuffle=False, verbose=0, **options)
        columns = history.history
        found[f"{name}: names"] = list(columns)
        for column, values in columns.items():
            found[f"{name}: {column}"] = np.array(values)
        scores = model.evaluate(*data, verbose=0, return_dict=True)
        found[f"{name}: evaluate"] = np.array([scores[key] for key in sorted(scores)])
        found[f"{name}: kernel"] = model.get_weights()[0]
    return found


def recorded(part):
    """What Keras gave."""
    return json.loads(RECORDED.read_text())[part]


PARTS = {
    "losses": loss_numbers,
    "metrics": metric_numbers,
    "schedules": schedule_numbers,
    "optimizers": optimizer_numbers,
    "fits": fit_numbers,
}


def assert_same(found, wanted, rtol=3e-5, atol=3e-6):
    """Equal names, equal numbers."""
    assert list(found) == list(wanted)
    for name, value in found.items():
        if isinstance(value, list):
            assert value == wanted[name], name
        else:
            np.testing.assert_allclose(value, np.array(wanted[name]), rtol=rtol, atol=atol, err_msg=name)


if __name__ == "__main__":
    import keras

    numbers = {
        part: {name: v if isinstance(v, list) else v.astype(float).round(8).tolist() for name, v in make(keras).items()}
        for part, make in PARTS.items()
    }
    RECORDED.write_text(json.dumps(numbers) + "\n")
