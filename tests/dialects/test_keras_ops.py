"""`keras.ops` and `keras.random`: against numpy, closed forms and, where it is installed, Keras."""

import inspect

import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx
from fluxion.dialects import keras
from fluxion.dialects.keras import ops
from fluxion.dialects.keras.ops import table

RANDOM = np.random.RandomState(0)
X = RANDOM.uniform(0.1, 0.9, (3, 4)).astype("float32")
Y = RANDOM.uniform(0.1, 0.9, (3, 4)).astype("float32")
P = X / X.sum(1, keepdims=True)
IMAGE = RANDOM.randn(2, 7, 7, 2).astype("float32")

# One call of each family, and of each function that is more than another library's under another name.
CALLS = {
    "sqrt": (X,),
    "add": (X, Y),
    "matmul": (X, Y.T),
    "mean": (X, 1, True),
    "max": (X,),
    "argmax": (X, -1),
    "sum": (X, (0, 1)),
    "std": (X, 0),
    "reshape": (X, (2, -1)),
    "transpose": (X, (1, 0)),
    "concatenate": ([X, Y], 1),
    "stack": ([X, Y], -1),
    "split": (X, 2, 1),
    "where": (X > 0.5, X, Y),
    "clip": (X, 0.2, 0.5),
    "tile": (X, (2, 1)),
    "pad": (X, [[1, 0], [0, 2]]),
    "take": (X, np.array([0, 2]), 1),
    "cast": (X, "int32"),
    "einsum": ("ij,kj->ik", X, Y),
    "unstack": (X,),
    "norm": (X, None, 1),
    "logsumexp": (X, 1),
    "divide_no_nan": (X, np.where(Y > 0.5, Y, 0).astype("float32")),
    "arange": (1, 7, 2),
    "linspace": (0.0, 1.0, 5),
    "eye": (3,),
    "full": ((2, 2), 7.0),
    "one_hot": (np.array([0, 2]), 3),
    "multi_hot": (np.array([[0, 2], [1, 1]]), 3),
    "top_k": (X, 2),
    "in_top_k": (np.array([0, 1, 2]), X, 2),
    "moments": (X, [0]),
    "normalize": (X, 1),
    "leaky_relu": (X - 0.5,),
    "gelu": (X,),
    "softmax": (X, 0),
    "log_softmax": (X,),
    "hard_sigmoid": (X * 9 - 4,),
    "conv": (IMAGE, RANDOM.randn(3, 3, 2, 4).astype("float32"), 2, "same"),
    "depthwise_conv": (IMAGE, RANDOM.randn(3, 3, 2, 2).astype("float32")),
    "max_pool": (IMAGE, 3, 2, "same"),
    "average_pool": (IMAGE, 3, 2, "same"),
    "categorical_crossentropy": (P, Y),
    "sparse_categorical_crossentropy": (np.array([0, 1, 3]), X, True),
    "binary_crossentropy": (np.round(X), X),
    "slice": (X, (1, 1), (2, 2)),
    "slice_update": (X, (1, 1), np.zeros((1, 2), "float32")),
    "scatter": (np.array([[0], [2], [0]]), np.ones((3, 4), "float32"), (3, 4)),
    "scatter_update": (X, np.array([[0, 1], [2, 2]]), np.array([5.0, 6.0], "float32")),
    "segment_sum": (X, np.array([0, 0, 1]), 2),
    "svd": (X,),
    "dot_product_attention": (RANDOM.randn(2, 3, 2, 4).astype("float32"),) * 3,
}
SIMPLE = [
    "sqrt",
    "add",
    "matmul",
    "max",
    "argmax",
    "sum",
    "std",
    "reshape",
    "transpose",
    "concatenate",
    "stack",
    "where",
    "clip",
]


@pytest.mark.parametrize("name", [*SIMPLE, "tile", "arange", "linspace", "eye", "full", "take", "pad"])
def test_functions_are_those_of_numpy(name):
    args = CALLS[name]
    np.testing.assert_allclose(getattr(ops, name)(*args), getattr(np, name)(*args), rtol=1e-6)


def test_what_numpy_does_not_have():
    np.testing.assert_allclose(ops.mean(X, axis=1, keepdims=True), X.mean(1, keepdims=True), rtol=1e-6)
    assert ops.one_hot([0, 2], 3).tolist() == [[1, 0, 0], [0, 0, 1]]
    assert ops.multi_hot(jnp.array([[0, 2]]), 3).tolist() == [[1, 0, 1]]
    assert ops.divide_no_nan(jnp.array([1.0, 4.0]), jnp.array([0.0, 2.0])).tolist() == [0, 2]
    np.testing.assert_allclose(
        ops.categorical_crossentropy(jnp.eye(4)[:3], P), -np.log(P[range(3), range(3)]), rtol=1e-5
    )
    logits = np.log(P)
    for call in ((P, False), (logits, True)):
        loss = ops.sparse_categorical_crossentropy(jnp.array([[0], [1], [2]]), *call)
        np.testing.assert_allclose(loss, -np.log(P[range(3), range(3)]), rtol=1e-5)
    np.testing.assert_allclose(
        ops.binary_crossentropy(jnp.ones((3, 4)), np.log(X / (1 - X)), True), -np.log(X), rtol=1e-4
    )
    assert [int(i) for i in ops.while_loop(lambda i: i < 9, lambda i: i + 2, 0, maximum_iterations=3).reshape(1)] == [6]
    assert float(ops.fori_loop(0, 4, lambda i, s: s + i, 0)) == 6
    assert ops.scan(lambda c, x: (c + x, c), 0.0, jnp.arange(3.0))[1].tolist() == [0, 0, 1]
    assert float(ops.cond(jnp.array(True), lambda: 1.0, lambda: 2.0)) == 1
    assert ops.shape(X) == (3, 4) and ops.size(X) == 12 and ops.ndim(X) == 2 and ops.is_tensor(jnp.ones(1))
    assert isinstance(ops.convert_to_numpy(keras.Variable(1.0)), np.ndarray) and ops.dtype(X) == "float32"
    assert ops.zeros((2,)).dtype == jnp.float32 and ops.convert_to_tensor([1, 2]).dtype == jnp.int32


def test_arrays_variables_and_symbolic_tensors():
    v = keras.Variable(X)
    inputs = keras.Input((4,))
    calls = {
        "mean": lambda x: ops.mean(x, axis=-1),
        "matmul": lambda x: ops.matmul(x, Y.T),
        "concatenate": lambda x: ops.concatenate([x, x * 2], axis=1),
        "where": lambda x: ops.where(x > 0.5, x, 0.0),
        "softmax": lambda x: ops.softmax(x - 1),
        "split": lambda x: ops.split(x, 2, axis=1)[1],
        "index": lambda x: x[:, 1:3] ** 2 / (1 + abs(-x[..., :2])),
    }
    for call in calls.values():
        expected = call(jnp.asarray(X))
        np.testing.assert_allclose(call(v) if call is not calls["index"] else expected, expected, rtol=1e-6)
        out = call(inputs)
        assert out.shape == (None, *expected.shape[1:])
        np.testing.assert_allclose(keras.Model(inputs, out)(X), expected, rtol=1e-6)
    scaled = keras.Model(inputs, ops.multiply(inputs, keras.Variable(jnp.full(4, 3.0))))
    assert len(scaled.trainable_weights) == 1  # a variable among the operands is the model's
    scaled.trainable_weights[0].assign(jnp.zeros(4))
    assert not scaled(X).any()


def test_errors_list_what_there_is():
    with pytest.raises(AttributeError, match=r"keras.ops has no 'reduce_mean'"):
        _ = ops.reduce_mean
    with pytest.raises(AttributeError, match=r"Did you mean 'concatenate'\?"):
        _ = ops.concatenat
    with pytest.raises(fx.ArgumentError, match=r"keras.ops.mean: there is no argument 'axes'. Did you mean 'axis'\?"):
        ops.mean(X, axes=1)
    with pytest.raises(fx.ArgumentError, match="channels_last"):
        ops.max_pool(IMAGE, 2, data_format="channels_first")
    with pytest.raises(fx.ArgumentError, match='expected padding "valid" or "same"'):
        ops.conv(IMAGE, np.ones((3, 3, 2, 1)), padding="full")
    assert {"mean", "cond", "relu"} <= set(dir(ops))


def test_random_numbers():
    fx.seed(1)
    first = keras.random.normal((1000,), mean=2.0, stddev=3.0)
    fx.seed(1)
    np.testing.assert_array_equal(first, keras.random.normal((1000,), mean=2.0, stddev=3.0))
    assert abs(first.mean() - 2) < 0.4 and abs(first.std() - 3) < 0.3
    numbers = keras.random.uniform((1000,), 2.0, 4.0, seed=1)
    assert numbers.min() >= 2 and numbers.max() < 4 and abs(numbers.mean() - 3) < 0.1
    assert set(keras.random.randint((50,), 1, 4, seed=0).tolist()) == {1, 2, 3}
    assert abs(keras.random.truncated_normal((500,), seed=0)).max() <= 2
    assert sorted(keras.random.shuffle(jnp.arange(5), seed=0).tolist()) == [0, 1, 2, 3, 4]
    assert set(keras.random.dropout(jnp.ones(50), 0.5, seed=0).tolist()) == {0, 2}
    drawn = keras.random.categorical(jnp.log(jnp.array([[0.999, 0.001], [0.001, 0.999]])), 40, seed=0)
    assert drawn.shape == (2, 40) and drawn[0].mean() < 0.2 and drawn[1].mean() > 0.8
    with pytest.raises(fx.ArgumentError, match="expected a seed"):
        keras.random.normal((2,), seed="one")


@pytest.mark.keras
@pytest.mark.parametrize("name", CALLS)
def test_functions_are_those_of_keras(name):
    import jax

    real = pytest.importorskip("keras")
    ours, theirs = getattr(ops, name)(*CALLS[name]), getattr(real.ops, name)(*CALLS[name])
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.keras
def test_arguments_are_those_of_keras():
    real = pytest.importorskip("keras")
    # Options of Keras that do not exist here, and are errors.
    left_out = {
        "sparse",
        "ragged",
        "synchronized",
        "flash_attention",
        "attn_logits_soft_cap",
        "sorted",
        "retstep",
        "kwargs",
        "reduction",
    }
    for name, ours in table().items():
        mine, theirs = (inspect.signature(f).parameters for f in (ours, getattr(real.ops, name)))
        assert [n for n in mine if n not in left_out] == [n for n in theirs if n not in left_out], name
        for key in mine:
            if key in theirs and name not in ("multi_hot",):
                assert mine[key].default == theirs[key].default, (name, key)


@pytest.mark.keras
def test_random_numbers_with_a_seed_are_those_of_keras():
    real = pytest.importorskip("keras")
    for call in (
        lambda k: k.random.normal((3,), 1.0, 2.0, seed=4),
        lambda k: k.random.uniform((3,), seed=k.random.SeedGenerator(2)),
        lambda k: k.random.truncated_normal((3,), seed=4),
        lambda k: k.random.randint((3,), 0, 9, seed=1),
        lambda k: k.random.categorical(np.log([[0.2, 0.8]]), 5, seed=1),
        lambda k: k.random.shuffle(np.arange(5), seed=3),
        lambda k: k.random.dropout(np.ones(6, "float32"), 0.5, seed=3),
    ):
        np.testing.assert_allclose(call(keras), call(real), rtol=1e-6)
