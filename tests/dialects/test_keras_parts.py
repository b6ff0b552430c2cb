"""Activations, initializers and regularizers under Keras' names: against Keras, closed forms, statistics."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx
from fluxion.dialects import keras
from fluxion.dialects.keras import activations, initializers, regularizers

X = np.array([[-7.0, -3.0, -1.0, -0.6, -0.3], [0.0, 0.2, 0.7, 1.5, 6.5]], np.float32)


def near(ours, theirs, tolerance=1e-5):
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=tolerance, atol=tolerance)


# Activations


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("relu", {}, np.maximum(X, 0)),
        ("relu", {"negative_slope": 0.1, "max_value": 1.0}, np.where(X < 0, 0.1 * X, np.minimum(X, 1))),
        ("relu", {"threshold": 0.5}, np.where(X > 0.5, X, 0)),
        ("relu", {"threshold": 0.5, "negative_slope": 0.1}, np.where(X > 0.5, X, 0.1 * (X - 0.5))),
        ("leaky_relu", {}, np.where(X < 0, 0.2 * X, X)),
        ("relu6", {}, np.clip(X, 0, 6)),
        ("exponential", {}, np.exp(X)),
        ("linear", {}, X),
        ("softsign", {}, X / (1 + abs(X))),
        ("silu", {}, X / (1 + np.exp(-X))),
        ("hard_sigmoid", {}, np.clip(X / 6 + 0.5, 0, 1)),
        ("hard_silu", {}, X * np.clip(X / 6 + 0.5, 0, 1)),
        ("hard_shrink", {}, np.where(abs(X) > 0.5, X, 0)),
        ("soft_shrink", {}, np.sign(X) * np.maximum(abs(X) - 0.5, 0)),
        ("threshold", {"threshold": 0.5, "default_value": -1.0}, np.where(X > 0.5, X, -1)),
        ("squareplus", {}, (X + np.sqrt(X * X + 4)) / 2),
        ("sparse_plus", {}, np.where(X <= -1, 0, np.where(X < 1, (X + 1) ** 2 / 4, X))),
        ("sparse_sigmoid", {}, np.clip((X + 1) / 2, 0, 1)),
        ("sparsemax", {"axis": 0}, np.clip((X - X[::-1] + 1) / 2, 0, 1)),
        ("tanh_shrink", {}, X - np.tanh(X)),
        ("log_sigmoid", {}, -np.log1p(np.exp(-X))),
        ("mish", {}, X * np.tanh(np.log1p(np.exp(X)))),
    ],
)
def test_activations_have_their_formulas(name, options, expected):
    near(activations.get(name)(jnp.asarray(X), **options), expected)


@pytest.mark.keras
def test_activations_are_those_of_keras():
    real = pytest.importorskip("keras")
    # Keras' sparsemax is left out: its rows do not sum to 1, [0, 0, 0.1, 0.5, 0.8] for the first of X.
    for name in (n for n in activations.NAMES if n not in ("threshold", "glu", "sparsemax")):
        theirs, ours = real.activations.get(name), activations.get(name)
        near(ours(jnp.asarray(X)), theirs(X))
        near(jax.grad(lambda x: ours(x).sum())(X + 0.01), jax.grad(lambda x: theirs(x).sum())(X + 0.01), 1e-4)
        assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters), name
        assert activations.serialize(ours) == real.activations.serialize(theirs)
    near(activations.glu(X[:, :4]), real.activations.glu(X[:, :4]))
    for options in (
        {"negative_slope": 0.2, "max_value": 1.0, "threshold": 0.3},
        {"max_value": 6.0},
        {"threshold": 1.0},
    ):
        near(activations.relu(X, **options), real.activations.relu(X, **options))
    missing = set(real.activations.__all__ if hasattr(real.activations, "__all__") else dir(real.activations))
    assert not {n for n in missing if not n.startswith("_")} - set(dir(activations))


def test_an_activation_by_name():
    assert activations.get(None) is activations.linear
    assert activations.get("swish") is activations.silu
    own = lambda x: x
    assert activations.get(own) is own
    assert activations.deserialize(activations.serialize(activations.relu)) is activations.relu
    with pytest.raises(fx.ArgumentError, match=r"got 'rleu'\. Did you mean 'relu'"):
        activations.get("rleu")
    with pytest.raises(fx.ArgumentError, match="got 3"):
        activations.get(3)


# Initializers

SHAPE = (200, 300)


@pytest.mark.parametrize(
    ("made", "std", "bound"),
    [
        (initializers.RandomNormal(), 0.05, None),
        (initializers.RandomNormal(mean=0.0, stddev=2.0), 2.0, None),
        (initializers.TruncatedNormal(), 0.05 * 0.87962566, 0.1),
        (initializers.RandomUniform(), 0.05 / np.sqrt(3), 0.05),
        (initializers.GlorotUniform(), np.sqrt(2 / 500), np.sqrt(6 / 500)),
        (initializers.GlorotNormal(), np.sqrt(2 / 500), 2 * np.sqrt(2 / 500) / 0.87962566),
        (initializers.HeUniform(), np.sqrt(2 / 200), np.sqrt(6 / 200)),
        (initializers.HeNormal(), np.sqrt(2 / 200), 2 * np.sqrt(2 / 200) / 0.87962566),
        (initializers.LecunUniform(), np.sqrt(1 / 200), np.sqrt(3 / 200)),
        (initializers.LecunNormal(), np.sqrt(1 / 200), 2 * np.sqrt(1 / 200) / 0.87962566),
        (initializers.VarianceScaling(3.0, "fan_out", "untruncated_normal"), np.sqrt(3 / 300), None),
    ],
)
def test_what_is_drawn_has_the_spread_of_its_formula(made, std, bound):
    x = np.asarray(made(SHAPE))
    assert abs(x.mean()) < 5 * std / np.sqrt(x.size)
    assert abs(x.std() / std - 1) < 0.02
    if bound is not None:
        assert bound * 0.99 < abs(x).max() <= bound * 1.0001
    assert made(SHAPE).dtype == jnp.float32
    assert not np.array_equal(x, made(SHAPE))  # without a seed each draw is another


def test_fans_of_a_kernel():
    x = np.asarray(initializers.HeUniform()((3, 3, 50, 20)))
    assert abs(abs(x).max() / np.sqrt(6 / 450) - 1) < 0.01
    x = np.asarray(initializers.LecunUniform(input_axes=[2], output_axes=[0, 1])((4, 5, 3000)))
    assert abs(abs(x).max() / np.sqrt(3 / 3000) - 1) < 0.01


def test_orthogonal_identity_and_constants():
    for shape in ((5, 3), (3, 5), (2, 3, 4)):
        w = np.asarray(initializers.Orthogonal(gain=2.0)(shape)).reshape(-1, shape[-1])
        product = w @ w.T if w.shape[0] < w.shape[1] else w.T @ w
        near(product, 4 * np.eye(len(product)), 1e-4)
    near(initializers.Identity(gain=3.0)((2, 3)), [[3, 0, 0], [0, 3, 0]])
    near(initializers.Constant([1.0, 2.0])((2,)), [1, 2])
    assert initializers.Ones()((2,), dtype="int32").dtype == jnp.int32
    with pytest.raises(fx.ShapeError, match="the shape of a matrix"):
        initializers.Identity()((2, 2, 2))
    with pytest.raises(fx.ShapeError, match="at least two sizes"):
        initializers.Orthogonal()((2,))
    with pytest.raises(fx.ShapeError, match=r"of shape \(3,\)"):
        initializers.Constant([1.0, 2.0])((3,))


# What Keras 3.15.1 on JAX 0.10.2 draws: `keras.initializers.NAME(seed=3)((1, 3))`.
DRAWN = {
    "random_normal": [0.053132266, -0.0020025063, 0.014971412],
    "truncated_normal": [0.049687792, -0.0019113496, 0.014270926],
    "random_uniform": [0.035602856, -0.0015973449, 0.011769331],
    "glorot_uniform": [0.87208831, -0.039126799, 0.28828856],
    "glorot_normal": [0.79885286, -0.030729624, 0.22944006],
    "he_uniform": [1.7441766, -0.078253597, 0.57657713],
    "he_normal": [1.5977057, -0.061459247, 0.45888013],
    "lecun_uniform": [1.233319, -0.055333648, 0.40770155],
    "lecun_normal": [1.1297486, -0.043458249, 0.32447726],
}


def test_a_seed_gives_the_numbers_of_keras():
    for name, numbers in DRAWN.items():
        near(initializers.NAMES[name](seed=3)((1, 3)), [numbers], 1e-6)


@pytest.mark.keras
def test_initializers_are_those_of_keras():
    real = pytest.importorskip("keras")
    for name, made in initializers.NAMES.items():
        theirs = getattr(real.initializers, made.__name__)
        assert list(inspect.signature(made).parameters) == list(inspect.signature(theirs).parameters), name
        assert theirs().get_config().items() <= made().get_config().items()
        if "seed" in inspect.signature(made).parameters:
            for shape in ((4, 3), (3, 3, 2, 5)):
                near(made(seed=7)(shape), theirs(seed=7)(shape), 1e-6)


def test_initializers_by_name_and_config():
    made = initializers.get({"class_name": "HeNormal", "config": {"seed": 4}})
    near(made((2, 2)), initializers.he_normal(seed=4)((2, 2)))
    assert initializers.serialize(made)["config"] == {"seed": 4, "input_axes": None, "output_axes": None}
    assert initializers.get(None) is None
    near(initializers.get(np.ones(3, np.float32))((3,)), np.ones(3))
    with pytest.raises(fx.ArgumentError, match="Did you mean 'glorot_uniform'"):
        initializers.get("glorot_unifrm")
    with pytest.raises(fx.ArgumentError, match="there is no argument 'std'"):
        initializers.RandomNormal(std=1.0)
    with pytest.raises(fx.ArgumentError, match="expected mode to be one of fan_in"):
        initializers.VarianceScaling(mode="fan")
    with pytest.raises(fx.ArgumentError, match="whole number, a SeedGenerator or None"):
        initializers.HeNormal(seed=1.5)


# Regularizers


def test_penalties():
    w = np.array([[1.0, -2.0], [0.5, 0.0]], np.float32)
    near(regularizers.L1(0.1)(w), 0.35)
    near(regularizers.L2(0.1)(w), 0.525)
    near(regularizers.L1L2(0.1, 0.2)(w), 0.35 + 1.05)
    near(regularizers.get("l1")(w), 0.035)
    near(regularizers.OrthogonalRegularizer(1.0)(w), 1 / np.sqrt(5))
    assert regularizers.get({"class_name": "L2", "config": {"l2": 0.3}}).l2 == 0.3
    with pytest.raises(fx.ArgumentError, match="at least 0, got -1"):
        regularizers.L2(-1)
    with pytest.raises(fx.ArgumentError, match="got 'l3'"):
        regularizers.get("l3")


def test_a_layer_reports_the_penalties_of_its_weights_and_outputs():
    layer = keras.layers.Dense(
        2, use_bias=False, kernel_initializer="ones", kernel_regularizer="l2", activity_regularizer=regularizers.L1(0.1)
    )
    layer(np.ones((4, 3), np.float32))
    assert sorted(round(float(loss), 4) for loss in layer.losses) == [0.06, 0.6]  # 0.01 * 6, and 0.1 * 24 / 4


# Layers: what Keras' numbers do not show


def test_dropout_acts_in_training_and_a_seed_repeats_it():
    x = np.ones((50, 40), np.float32)
    layer = keras.layers.Dropout(0.25, noise_shape=(50, 1))
    y = np.asarray(layer(x, training=True))
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.75)}
    assert (y == y[:, :1]).all()
    near(layer(x), x)
    one, two = (keras.layers.Dropout(0.5, seed=5) for _ in range(2))
    first = one(x, training=True)
    near(first, two(x, training=True))
    assert not np.array_equal(first, one(x, training=True))


@pytest.mark.parametrize(
    ("layer", "mean", "std"),
    [
        (keras.layers.GaussianNoise(0.5), 1.0, 0.5),
        (keras.layers.GaussianDropout(0.2), 1.0, 0.5),
        (keras.layers.SpatialDropout1D(0.5), 1.0, 1.0),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_noise_has_its_mean_and_spread(layer, mean, std):
    y = np.asarray(layer(np.ones((100, 4, 50), np.float32), training=True))
    assert abs(y.mean() - mean) < 0.05
    assert abs(y.std() - std) < 0.05


def test_recurrent_dropout_holds_one_decision_for_a_sequence():
    layer = keras.layers.LSTM(3, return_sequences=True, dropout=0.5, recurrent_dropout=0.5)
    x = np.random.default_rng(0).standard_normal((4, 6, 5)).astype("float32")
    calm = layer(x)
    near(calm, layer(x, training=False))
    assert abs(np.asarray(layer(x, training=True) - calm)).max() > 1e-3


def test_masks_go_through_layers():
    tokens = np.array([[1, 2, 0, 0], [3, 0, 0, 0]], np.int32)
    embedding, lstm = keras.layers.Embedding(5, 3, mask_zero=True), keras.layers.LSTM(4)
    padded = lstm(embedding(tokens))
    near(padded[0], lstm(embedding(tokens[:1, :2]))[0])
    near(padded[1], lstm(embedding(tokens[1:, :1]))[0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda k: k.Dense(0), "Dense: expected a positive whole number for units"),
        (lambda k: k.Dense(2, kernel_initialiser="zeros"), "Did you mean 'kernel_initializer'"),
        (lambda k: k.Dense(2, lora_rank=3), "lora_rank=3 is not supported"),
        (lambda k: k.Dense(2, kernel_constraint="max_norm"), "constraints on weights are not supported"),
        (lambda k: k.Conv2D(4, 3, padding="sam"), "Did you mean 'same'"),
        (lambda k: k.Conv2D(4, 3, padding="causal"), "'valid', 'same', got 'causal'"),
        (lambda k: k.Conv2D(4, 3, strides=2, dilation_rate=2), "strides or dilation_rate to be 1"),
        (lambda k: k.Conv2D(4, 3, data_format="channels_first"), "expected data_format channels_last"),
        (lambda k: k.MaxPooling2D((2, 2, 2)), "pool_size to be a whole number"),
        (lambda k: k.LSTM(4, stateful=True), "stateful=True is not supported"),
        (lambda k: k.Dropout(1.5), "rate between 0 and 1"),
        (lambda k: k.Bidirectional(k.Dense(3)), "expected a recurrent layer"),
        (lambda k: k.Permute((1, 3)), "the numbers 1 to 2"),
        (lambda k: k.BatchNormalization(renorm=True), "renorm=True is not supported"),
        (lambda k: k.MultiHeadAttention(2, 4, flash_attention=True), "flash_attention=True is not supported"),
    ],
)
def test_what_is_not_there_is_an_error(make, message):
    with pytest.raises(fx.ArgumentError, match=message):
        make(keras.layers)


def test_normalization_adapts_to_arrays_and_batches():
    x = np.random.default_rng(0).normal(3.0, 2.0, (50, 4)).astype("float32")
    one, two = keras.layers.Normalization(), keras.layers.Normalization(axis=None)
    one.adapt(x)
    near(one(x), (x - x.mean(0)) / x.std(0), 1e-4)
    two.adapt([x[:20], x[20:]])
    near(two(x), (x - x.mean()) / x.std(), 1e-4)
    with pytest.raises(fx.StateError, match="nothing to adapt"):
        keras.layers.Normalization(mean=0.0, variance=1.0).adapt(x)


def test_random_images():
    images = np.arange(2 * 6 * 8 * 1, dtype=np.float32).reshape(2, 6, 8, 1)
    cropped = np.asarray(keras.layers.RandomCrop(3, 4)(images))
    corner = int(cropped[0, 0, 0, 0])
    near(cropped, images[:, corner // 8 : corner // 8 + 3, corner % 8 : corner % 8 + 4])
    near(keras.layers.RandomCrop(3, 4)(images, training=False), keras.layers.Resizing(3, 4)(images))
    many = np.repeat(images[:1], 40, axis=0)
    flipped = np.asarray(keras.layers.RandomFlip("horizontal")(many))
    kinds = {tuple(image.ravel()) for image in flipped}
    assert kinds == {tuple(images[0].ravel()), tuple(images[0, :, ::-1].ravel())}
    near(keras.layers.RandomRotation(0.2)(images[0], training=False), images[0])


def test_layers_of_layers_are_made_again_from_their_configs():
    layers = keras.layers
    both = layers.Bidirectional(layers.GRU(3, return_sequences=True), merge_mode="ave")
    again = layers.Bidirectional.from_config(both.get_config())
    assert (again.merge_mode, again.forward_layer.units, again.backward_layer.go_backwards) == ("ave", 3, True)
    timed = layers.TimeDistributed.from_config(layers.TimeDistributed(layers.Dense(3, "relu")).get_config())
    assert timed.layer.activation is activations.relu
    stack = layers.RNN.from_config(layers.RNN([layers.LSTMCell(2), layers.GRUCell(4)]).get_config())
    assert [cell.units for cell in stack.cell.cells] == [2, 4]


def test_inputs_that_do_not_fit():
    layer = keras.layers.Dense(2)
    layer(np.ones((3, 4), np.float32))
    with pytest.raises(fx.ShapeError, match="expected input with 4 on its last axis"):
        layer(np.ones((3, 5), np.float32))
    with pytest.raises(fx.ShapeError, match="expected input"):
        keras.layers.Conv2D(2, 3)(np.ones((3, 5, 5), np.float32))
    with pytest.raises(fx.ArgumentError, match="a list of at least"):
        keras.layers.Add()(np.ones((3, 5), np.float32))
