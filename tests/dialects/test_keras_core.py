"""Layers, variables, symbolic tensors and models of the Keras dialect, by closed forms and by what Keras documents."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluxion as fx
from fluxion.dialects import keras
from fluxion.dialects.keras import layers, ops
from fluxion.tree.walk import scan


class Linear(keras.Layer):
    """A layer as the guides write them."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.offset = np.array([0.5, 0.25])  # a constant
        self.calls = self.add_weight((), initializer="zeros", trainable=False, name="calls")

    def build(self, input_shape):
        self.w = self.add_weight((input_shape[-1], self.units), initializer="ones", regularizer="l2", name="w")

    def call(self, inputs, training=None):
        self.calls.assign_add(1.0)
        if training:
            self.add_loss(0.5 * ops.mean(inputs))
        return inputs @ self.w + self.offset


X = np.array([[1.0, 2.0, 3.0], [0.0, 1.0, 0.0]], "float32")

# ------------------------------------------------------------------------------------------------------ layers


def test_a_layer_of_the_users():
    layer = Linear(2)
    assert not layer.built and layer.name == "linear" and Linear(2).name == "linear_1"
    np.testing.assert_allclose(layer(X), [[6.5, 6.25], [1.5, 1.25]])
    assert layer.built and float(layer.calls) == 1 and layer.count_params() == 7
    assert [w.path for w in layer.weights] == ["linear/w", "linear/calls"]
    assert [w.name for w in layer.trainable_weights] == ["w"] and [w.name for w in layer.non_trainable_weights] == [
        "calls"
    ]
    assert [path for path, _ in fx.trainables(layer, path=True)] == ["w.value"]  # neither the constant nor the state
    layer(X, training=True)
    added, regularizer = layer.losses
    assert float(added) == pytest.approx(0.5 * X.mean()) and float(regularizer) == pytest.approx(0.01 * 6)
    layer(X)
    assert len(layer.losses) == 1  # of the last call alone
    layer.trainable = False
    assert not layer.trainable_weights and [w.name for w in layer.non_trainable_weights] == ["w", "calls"]


def test_weights_as_arrays():
    layer = layers.Dense(2)
    layer.build((None, 3))
    kernel = np.arange(6.0).reshape(3, 2)
    layer.set_weights([kernel, [1, 2]])
    np.testing.assert_array_equal(layer.get_weights()[0], kernel)
    np.testing.assert_allclose(layer(X), X @ kernel + [1, 2])
    with pytest.raises(fx.StateError, match=r"dense.set_weights: expected 2 arrays, got 1"):
        layer.set_weights([kernel])
    with pytest.raises(fx.ShapeError, match=r"dense.set_weights: dense/bias: expected \(2,\), got \(3,\)"):
        layer.set_weights([np.zeros((3, 2)), np.zeros(3)])
    np.testing.assert_array_equal(layer.get_weights()[0], kernel)
    assert layers.Dense.from_config(layer.get_config()).get_config() == layer.get_config()


def test_arguments_that_do_not_exist_are_listed():
    with pytest.raises(fx.ArgumentError, match=r"there is no argument 'unit'. Did you mean 'units'\? It takes units"):
        Linear(2, unit=3)
    with pytest.raises(fx.ArgumentError, match=r"no argument 'shpae'. Did you mean 'shape'"):
        keras.Input(shpae=(2,))
    with pytest.raises(fx.ArgumentError, match="expected both inputs and outputs"):
        keras.Model(keras.Input((2,)))
    with pytest.raises(fx.ArgumentError, match="sparse inputs are not supported"):
        layers.InputLayer((2,), sparse=True)
    with pytest.raises(fx.ArgumentError, match="expected a dtype"):
        layers.Dense(2, dtype="floot32")

    class Forgetful(keras.Layer):
        def __init__(self):
            self.units = 2

    with pytest.raises(fx.StateError, match=r"Call super\(\).__init__\(\) first"):
        Forgetful()(X)


def test_variables():
    v = keras.Variable([[1.0, 2.0]], name="v")
    assert v.shape == (1, 2) and v.dtype == "float32" and v.trainable
    np.testing.assert_allclose((2 * v - v / 2 + jnp.ones((1, 2)) @ jnp.eye(2)).tolist(), [[2.5, 4.0]])
    v.assign_sub([[1.0, 1.0]])
    np.testing.assert_array_equal(v.numpy(), [[0, 1]])
    assert v[0, 1] == 1 and len(v) == 1 and float(keras.Variable(3.0)) == 3
    with pytest.raises(fx.ShapeError, match=r"v: expected a value of shape \(1, 2\), got \(2,\)"):
        v.assign([1.0, 2.0])
    assert not keras.Variable(0.0, trainable=False).trainable
    assert keras.Variable("ones", shape=(3,), dtype="bfloat16").dtype == "bfloat16"
    assert keras.Variable(np.arange(3)).dtype == "int32"
    with pytest.raises(fx.ArgumentError, match="Give shape"):
        keras.Variable("ones")


def test_a_fluxion_layer_in_a_keras_layer():
    class Both(keras.Layer):
        def __init__(self):
            super().__init__()
            self.inner = fx.Dense(3, 2)
            self.head = layers.Dense(1)

        def call(self, x):
            return self.head(self.inner(x))

    layer = Both()
    layer(X)
    assert [w.name for w in layer.weights] == ["inner.weight", "inner.bias", "kernel", "bias"]
    layer.set_weights([np.ones(w.shape) for w in layer.weights])
    assert layer.inner.weight.tolist() == [[1, 1]] * 3 and layer(X).tolist() == [[15.0], [5.0]]


def test_weights_made_in_a_trace_are_arrays():
    layer = layers.Dense(2)
    jax.jit(lambda x: layer(x))(X)
    assert isinstance(layer.kernel.value, jax.Array) and not isinstance(layer.kernel.value, jax.core.Tracer)
    with pytest.raises(fx.StateError, match="is not built yet, so that there are no weights to differentiate"):
        fx.gradient(lambda m: m(X).sum(), layers.Dense(2))

    class Failing(keras.Layer):
        def build(self, input_shape):
            self.w = self.add_weight((2,), name="w")

        def call(self, inputs):
            raise KeyError("no")

    layer = Failing()
    with pytest.raises(KeyError):
        jax.grad(lambda x: layer(x))(jnp.ones(2))
    assert not isinstance(layer.w.value, jax.core.Tracer)


def test_training_reaches_the_layers_within():
    class Wrapper(keras.Layer):
        def __init__(self):
            super().__init__()
            self.drop = layers.Dropout(0.5)

        def call(self, x):
            return self.drop(x)

    wrapper, ones = Wrapper(), jnp.ones((1, 200))
    assert wrapper(ones).min() == 1 and wrapper(ones, training=True).min() == 0
    assert fx.gradient(lambda x: wrapper(x).sum(), ones)[0].min() == 0
    assert fx.gradient(lambda x: wrapper(x, training=False).sum(), ones)[0].min() == 1


def test_masks_go_along():
    embedding, lstm = layers.Embedding(5, 3, mask_zero=True), layers.LSTM(2)
    model = keras.Sequential([embedding, layers.Dropout(0.1), lstm])
    padded, short = model(np.array([[1, 2, 0, 0]])), model(np.array([[1, 2]]))
    np.testing.assert_allclose(padded, short, atol=1e-6)
    inputs = keras.Input((4,), dtype="int32")
    functional = keras.Model(inputs, lstm(layers.Dropout(0.1)(embedding(inputs))))
    np.testing.assert_allclose(functional(np.array([[1, 2, 0, 0]])), short, atol=1e-6)
    np.testing.assert_allclose(fx.jit(functional)(np.array([[1, 2, 0, 0]])), short, atol=1e-6)

    class Seen(keras.Layer):
        def call(self, inputs, mask=None):
            return ops.cast(mask, "float32")

    assert keras.Sequential([embedding, Seen()])(np.array([[1, 0]])).tolist() == [[1, 0]]


# -------------------------------------------------------------------------------------------------- functional


def test_functional_models_are_what_is_written():
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    dense = layers.Dense(2, kernel_initializer="ones", name="shared")
    x = dense(a) + dense(ops.pad(b, [[0, 0], [0, 1]]))
    y = ops.stack([x[:, 0], ops.mean(x * b, axis=1)], axis=-1)
    model = keras.Model([a, b], {"x": x, "y": 1 - y})
    B = np.array([[1.0, 2.0], [3.0, 4.0]], "float32")
    expected = np.repeat(X.sum(1, keepdims=True) + B.sum(1, keepdims=True), 2, 1)
    expected_y = 1 - np.stack([expected[:, 0], (expected * B).mean(1)], 1)
    for inputs in ([X, B], (X, B), {"a": X, "b": B}, {"b": B, "a": X}):
        out = model(inputs)
        np.testing.assert_allclose(out["x"], expected, rtol=1e-6)
        np.testing.assert_allclose(out["y"], expected_y, rtol=1e-6)
    assert [layer.name for layer in model.layers] == ["b", "a", "shared"] or len(model.layers) == 3
    assert model.input_shape == [(None, 3), (None, 2)] and model.output_shape == {"x": (None, 2), "y": (None, 2)}
    assert len(model.weights) == 2 and model.count_params() == 8
    features = keras.Model(model.inputs, dense.inbound_nodes[0].outputs[0])
    np.testing.assert_allclose(features([X, B])[:, 0], X.sum(1))
    tail = keras.Model(x, x * 2)
    np.testing.assert_allclose(tail(np.ones((1, 2), "float32")), [[2, 2]])
    outer = keras.Model([a, b], keras.Sequential([layers.Dense(1, kernel_initializer="ones")])(model([a, b])["x"]))
    np.testing.assert_allclose(outer([X, B]), 2 * expected[:, :1], rtol=1e-6)
    assert len(outer.weights) == 4


def test_inputs_are_checked():
    a, b = keras.Input((3,), name="a"), keras.Input((1,), name="b")
    model = keras.Model([a, b], layers.Concatenate()([a, b]))
    assert model([X, np.ones(2)]).shape == (2, 4)  # the axis of size 1 may be missing
    with pytest.raises(fx.ShapeError, match=r"functional: input 'a': expected shape \(None, 3\), got \(2, 4\)"):
        model([np.ones((2, 4)), np.ones(2)])
    with pytest.raises(fx.ArgumentError, match="expected 2 inputs, got 1"):
        model(X)
    with pytest.raises(fx.ArgumentError, match="expected inputs named a, b, got a, c"):
        model({"a": X, "c": X})
    with pytest.raises(fx.StateError, match="depend on 'b', none of the inputs"):
        keras.Model(a, layers.Concatenate()([a, b]))
    with pytest.raises(fx.ArgumentError, match="expected layers with different names, got 'x' twice"):
        keras.Model(a, layers.Dense(1, name="x")(layers.Dense(1, name="x")(a)))
    with pytest.raises(fx.ArgumentError, match="expected symbolic outputs"):
        keras.Model(a, X)
    for use in (bool, iter, np.asarray):
        with pytest.raises(fx.DTypeError, match="KerasTensor"):
            use(a)


def test_sizes_that_are_not_known():
    x = keras.Input((None, 4))
    assert layers.LSTM(3, return_sequences=True)(x).shape == (None, None, 3)
    assert ops.reshape(x, (-1, 8)).shape == (None, 8) and ops.mean(x, axis=1).shape == (None, 4)
    assert ops.shape(x) == (None, None, 4) and x.ndim == 3 and (x > 0).dtype == "bool"
    image = keras.Input((None, None, 3))
    assert layers.Conv2D(5, 3, strides=2, padding="same")(image).shape == (None, None, None, 5)
    assert layers.GlobalAveragePooling2D()(image).shape == (None, 3)
    assert Linear(2).compute_output_shape((None, 3)) == (None, 2)


def test_sequential():
    model = keras.Sequential([layers.Dense(4, activation="relu"), layers.Dense(2)])
    assert model.unsized and not model.weights
    with pytest.raises(fx.StateError, match="not built"):
        model.count_params()
    assert model(X).shape == (2, 2) and len(model.weights) == 4
    model.add(layers.Dense(1))
    assert model(X).shape == (2, 1) and model.pop().name == "dense_2" and model(X).shape == (2, 2)
    inner = keras.Model(model.inputs, [layer.inbound_nodes[0].outputs[0] for layer in model.layers])
    assert [out.shape for out in inner(X)] == [(2, 4), (2, 2)]
    with pytest.raises(fx.ArgumentError, match="an Input must be the first"):
        model.add(keras.Input((3,)))
    with pytest.raises(fx.ArgumentError, match="different names, got 'dense' twice"):
        model.add(layers.Dense(2, name="dense"))
    with pytest.raises(fx.ArgumentError, match="expected a layer, got <function"):
        model.add(lambda x: x)
    by_shape = keras.Sequential([layers.Dense(2, input_shape=(3,))])
    assert by_shape.built and by_shape.output_shape == (None, 2)
    assert model.get_layer("dense_1").units == 2 and model.get_layer(index=0).units == 4
    with pytest.raises(fx.ArgumentError, match=r"get_layer: got 'dense_l'. Did you mean 'dense_1'\?"):
        model.get_layer("dense_l")


class Net(keras.Model):
    def __init__(self):
        super().__init__()
        self.first = layers.Dense(4, activation="tanh")
        self.rest = [layers.Dropout(0.5), layers.Dense(2)]

    def call(self, inputs, training=None):
        x = self.first(inputs)
        for layer in self.rest:
            x = layer(x)
        return x


def test_subclassed_models():
    model = Net()
    with pytest.raises(fx.StateError, match="not built yet"):
        model.save_weights("x.weights.h5")
    model.build((None, 3))
    assert [w.shape for w in model.weights] == [(3, 4), (4,), (4, 2), (2,)]
    assert [type(layer).__name__ for layer in model.layers] == ["Dense", "Dropout", "Dense"]
    assert model(X).shape == (2, 2) and len(model.variables) == 5  # and the state of the seed
    other = Net()
    other.build_on(X)
    other.set_weights(model.get_weights())
    np.testing.assert_array_equal(other(X), model(X))


def test_stateless_call_is_a_function():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2), layers.BatchNormalization(), layers.Dropout(0.5)])
    trainable = [v.value for v in model.trainable_variables]
    others = [v.value for v in model.non_trainable_variables]
    before = model.get_weights()

    @jax.jit
    def step(trainable, others, x):
        def loss(trainable):
            y, after = model.stateless_call(trainable, others, x, training=True)
            return (y**2).sum(), (y, after)

        return jax.value_and_grad(loss, has_aux=True)(trainable)

    (_, (first, after)), grads = step(trainable, others, X)
    (_, (second, _)), _ = step(trainable, after, X)
    assert [g.shape for g in grads] == [t.shape for t in trainable] and not np.array_equal(first, second)
    moved = 0.99 * others[0] + 0.01 * (X @ trainable[0] + trainable[1]).mean(0)
    np.testing.assert_allclose(after[0], moved, atol=1e-6)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    with pytest.raises(fx.StateError, match="expected 4 trainable arrays, got 0"):
        model.stateless_call([], others, X)
    outputs, _, losses = built_linear().stateless_call([np.ones((3, 2))], [0.0], X, training=True, return_losses=True)
    assert outputs.shape == (2, 2) and len(losses) == 2


def built_linear():
    layer = Linear(2)
    layer.build((None, 3))
    return layer


# ------------------------------------------------------------------------------------------------- the engine


def test_models_are_models_of_fluxion(tmp_path):
    def make():
        inputs = keras.Input((3,))
        x = layers.BatchNormalization()(layers.Dense(4, activation="tanh")(inputs))
        return keras.Model(inputs, layers.Dense(2)(x + 1))

    model = make()
    y = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    opt = fx.setup(fx.Adam(0.05), model)
    first, *_, last = [fx.trainstep(lambda m, x, y: fx.mse(m(x), y), model, (X, y), opt) for _ in range(60)]
    assert last < first / 5 and np.abs(model.get_layer(index=2).moving_mean).max() > 0
    assert fx.summary(model, (2, 3)).parameters == 4 * 3 + 4 + 8 + 8 + 2
    path = tmp_path / "model.safetensors"
    fx.save(path, model)
    other = fx.loadmodel(make(), path)
    np.testing.assert_array_equal(other(X), model(X))
    np.testing.assert_allclose(fx.jit(model)(X), model(X), atol=1e-6)
    sequential = fx.autosize(keras.Sequential([layers.Dense(2), Linear(2)]), (None, 3))
    assert [a.shape for a in fx.trainables(sequential)] == [(3, 2), (2,), (2, 2)]
    subclassed = fx.autosize(Net(), (7, 3))
    assert [a.shape for a in fx.trainables(subclassed)] == [(3, 4), (4,), (4, 2), (2,)]
    vector, rebuild = fx.destructure(subclassed)
    np.testing.assert_allclose(rebuild(vector * 0)(X), 0)
    grads = jax.grad(lambda m: m(jnp.asarray(X)).sum())(subclassed)
    assert grads.first.kernel.shape == (3, 4)


def test_errors_name_the_layer():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, name="narrow"), layers.Dense(2, name="wide")])
    model.get_layer("wide").kernel.value = jnp.ones((5, 2))
    with pytest.raises(fx.ShapeError, match="<Dense name=wide, built=True>: expected input"):
        model(X)


# ------------------------------------------------------------------------------------------------- the summary

SUMMARY = """\
Model: "net"
┏━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━┓
┃ Layer (type)                    ┃ Output Shape           ┃       Param # ┃
┡━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━┩
│ dense (Dense)                   │ (None, 2)              │             8 │
├─────────────────────────────────┼────────────────────────┼───────────────┤
│ batch_normalization             │ (None, 2)              │             8 │
│ (BatchNormalization)            │                        │               │
├─────────────────────────────────┼────────────────────────┼───────────────┤
│ dropout (Dropout)               │ (None, 2)              │             0 │
└─────────────────────────────────┴────────────────────────┴───────────────┘
 Total params: 16 (64.00 B)
 Trainable params: 12 (48.00 B)
 Non-trainable params: 4 (16.00 B)
"""


def summary_of(model, **options):
    written = io.StringIO()
    model.summary(print_fn=written.write, **options)
    return written.getvalue()


def test_summary():
    model = keras.Sequential(
        [keras.Input((3,)), layers.Dense(2), layers.BatchNormalization(), layers.Dropout(0.5)], name="net"
    )
    assert summary_of(model, line_length=76) == SUMMARY
    assert "Trainable" in summary_of(model, show_trainable=True)
    a = keras.Input((3,), name="a")
    shared = layers.Dense(3, name="shared")
    net = keras.Model(a, keras.Sequential([keras.Input((3,)), layers.Dense(1)], name="inner")(shared(shared(a)) + a))
    text = summary_of(net, line_length=100, expand_nested=True)
    assert "Connected to" in text and "shared[1][0], a[0][0]" in " ".join(text.replace("│", " ").split())
    assert "add (Add)" in text and "└ dense_1 (Dense)" in text
    assert "shared (Dense)" not in summary_of(net, layer_range=("add", "inner"))
    with pytest.raises(fx.ArgumentError, match="no layer is named like"):
        net.summary(layer_range=("x", "y"))
    unbuilt = keras.Sequential([layers.Dense(2)])
    assert "0 (unbuilt)" in summary_of(unbuilt) and "?" in summary_of(unbuilt)


@pytest.mark.keras
def test_order_and_summary_are_those_of_keras():
    real = pytest.importorskip("keras")

    def net(k):
        a, b = k.Input((4,), name="a"), k.Input((4,), name="b")
        shared = k.layers.Dense(4, name="shared")
        x = k.layers.Add(name="sum")([shared(a), shared(b)])
        left = k.layers.Dense(2, name="left")(x)
        right = k.layers.Dense(2, name="right")(k.layers.LayerNormalization(name="norm")(x))
        return k.Model([a, b], [k.layers.Concatenate(name="join")([right, left]), left], name="net")

    theirs, ours = net(real), net(keras)
    assert [layer.name for layer in ours.layers] == [layer.name for layer in theirs.layers]
    assert [w.shape for w in ours.weights] == [w.shape for w in theirs.weights]
    for options in ({}, {"show_trainable": True}):
        assert summary_of(ours, **options).strip() == summary_of(theirs, **options).strip()
    arrays = [np.random.RandomState(0).randn(*w.shape) for w in theirs.weights]
    ours.set_weights(arrays), theirs.set_weights(arrays)
    x = [np.ones((2, 4), "float32"), np.zeros((2, 4), "float32")]
    for a, b in zip(ours(x), theirs(x), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_model_made_again_is_the_same_program():
    def make():
        keras.utils.clear_session()
        inputs = keras.Input((4,))
        hidden = keras.layers.Dense(3, activation="relu")(inputs)
        return keras.Model(inputs, keras.layers.add([hidden, 2 * hidden]))

    first, second = make(), make()
    assert scan(first).key() == scan(second).key()
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(3, activation="relu")(inputs)
    keras.utils.clear_session()
    assert scan(keras.Model(inputs, keras.layers.add([hidden, 3 * hidden]))).key() != scan(first).key()
