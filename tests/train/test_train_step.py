"""The compiled step: compiled once, equal to torch's, and true to models with state of every sort."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_help import assert_close, classes, cross, everything_model, in_batches, weights

import fluxion as fx

TRACES = 0


def trained(model, batches, rule=None, loss=cross, **options):
    opt = fx.setup(rule or fx.Adam(1e-2), model)
    fx.train(loss, model, batches, opt, **options)
    return opt


# ------------------------------------------------------------------------------------------------ compiled once


def counted_by_list():
    calls = []

    def loss(m, x, y):
        calls.append(1)
        return cross(m, x, y)

    return lambda: loss, lambda: len(calls)


def counted_by_nonlocal():
    calls = 0

    def loss(m, x, y):
        nonlocal calls
        calls += 1
        return cross(m, x, y)

    return lambda: loss, lambda: calls


def counted_by_global():
    global TRACES
    TRACES = 0

    def make():
        def loss(m, x, y):
            global TRACES
            TRACES += 1
            return cross(m, x, y)

        return loss

    return make, lambda: TRACES


def counted_by_foreign_object():
    calls = set()  # no part of a model: neither copied nor compared by value

    def make():
        def loss(m, x, y):
            calls.add(object())
            return cross(m, x, y)

        return loss

    return make, lambda: len(calls)


@pytest.mark.parametrize(
    "counter", [counted_by_list, counted_by_nonlocal, counted_by_global, counted_by_foreign_object]
)
def test_several_train_calls_compile_once(counter, caplog):
    make_loss, count = counter()
    model = fx.Chain(fx.Dense(4, 5, fx.relu), fx.Dense(5, 3))
    opt = fx.setup(fx.Adam(), model)
    batches = in_batches(*classes())
    with caplog.at_level(logging.INFO, "fluxion"):
        for _ in range(4):
            fx.train(make_loss(), model, batches, opt)
    assert count() == 1
    assert opt.step == 16
    assert not caplog.records


def test_a_lambda_created_in_every_epoch_is_compiled_once():
    calls = {"traces": 0}

    def count(value):
        calls["traces"] += 1
        return value

    model = fx.Chain(fx.Dense(4, 5, fx.relu), fx.BatchNorm(5), fx.Dropout(0.1), fx.Dense(5, 3))
    opt = fx.setup(fx.Adam(), model)
    for _ in range(3):
        fx.train(lambda m, x, y: count(fx.logitcrossentropy(m(x), y)), model, in_batches(*classes()), opt)
        fx.trainstep(lambda m, x, y: count(fx.logitcrossentropy(m(x), y)), model, in_batches(*classes())[0], opt)
    assert calls["traces"] == 2  # one of each of the two lambdas, which are different code


def test_learning_rates_and_schedules_compile_nothing_and_freezing_does():
    make_loss, count = counted_by_foreign_object()
    model = fx.Chain(fx.Dense(4, 5, fx.relu), fx.Dense(5, 3))
    opt = fx.setup(fx.Adam(), model)
    batches = in_batches(*classes())
    for rate in (1e-2, 1e-3, lambda step: 1e-2 / (1 + step)):
        fx.adjust(opt, rate)
        fx.train(make_loss(), model, batches, opt)
    assert count() == 1
    fx.freeze(opt, "layers[0]")
    fx.train(make_loss(), model, batches, opt)
    assert count() == 2


def test_a_second_compile_says_which_shape_changed(caplog):
    model = fx.Dense(4, 3)
    opt = fx.setup(fx.Adam(), model)
    x, y = classes(20)
    with caplog.at_level(logging.INFO, "fluxion"):
        for _ in range(3):  # the short batch is compiled once
            fx.train(lambda m, x, y: 0.5 * cross(m, x, y), model, in_batches(x, y.astype(np.int32)), opt)
    (record,) = caplog.records
    assert record.name == "fluxion"
    assert record.getMessage() == (
        "fluxion: the step is compiled again: batch[0] was float32[8,4] and is float32[4,4]."
    )
    caplog.clear()
    wider = fx.Dense(6, 3)  # another model of the same structure is no news
    with caplog.at_level(logging.INFO, "fluxion"):
        fx.train(lambda m, x, y: 0.5 * cross(m, x, y), wider, in_batches(*classes(8, 6)), fx.setup(fx.Adam(), wider))
    assert not caplog.records


def test_a_changed_dtype_and_structure_are_announced(caplog):
    model = fx.Dense(1, 1)
    opt = fx.setup(fx.Adam(), model)

    def loss(m, x, y):
        return jnp.mean((m(x) - y) ** 2)

    x = np.ones((4, 1), np.float32)
    with caplog.at_level(logging.INFO, "fluxion"):
        fx.train(loss, model, [(x, x), (x, np.ones((4, 1), np.int32)), (x, 1.0)], opt)
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [
        "fluxion: the step is compiled again: batch[1] was float32[4,1] and is int32[4,1].",
        "fluxion: the step is compiled again: batch[1] was int32[4,1] and is float32[].",
    ]


# -------------------------------------------------------------------------------------------- against torch


def test_thirty_steps_give_torchs_losses_and_weights():
    torch = pytest.importorskip("torch", reason="torch is the outside reference")
    x, y = classes(240, features=6)
    batches = in_batches(x, y)
    model = fx.Chain(fx.Dense(6, 16, fx.relu), fx.Dense(16, 3))
    theirs = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    linear = [theirs[0], theirs[2]]
    with torch.no_grad():
        for ours, layer in zip(model.layers, linear, strict=True):
            layer.weight.copy_(torch.tensor(np.array(ours.weight).T))
            layer.bias.copy_(torch.tensor(np.array(ours.bias)))
    optimizer = torch.optim.Adam(theirs.parameters(), lr=1e-3)
    expected = []
    for a, b in batches:
        loss = torch.nn.functional.cross_entropy(theirs(torch.tensor(a)), torch.tensor(b))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
    opt = fx.setup(fx.Adam(1e-3), model)
    losses = fx.train(cross, model, batches, opt)
    np.testing.assert_allclose(losses, expected, atol=1e-5, rtol=0)
    for ours, layer in zip(model.layers, linear, strict=True):
        np.testing.assert_allclose(ours.weight, layer.weight.detach().numpy().T, atol=1e-5, rtol=0)
        np.testing.assert_allclose(ours.bias, layer.bias.detach().numpy(), atol=1e-5, rtol=0)


def test_batchnorm_statistics_move_once_per_step_as_torchs():
    torch = pytest.importorskip("torch", reason="torch is the outside reference")
    x, y = classes(40)
    model = fx.Chain(fx.BatchNorm(4), fx.Dense(4, 3))
    theirs = torch.nn.BatchNorm1d(4)
    for a, _ in in_batches(x, y):
        theirs(torch.tensor(a))
    trained(model, in_batches(x, y))
    np.testing.assert_allclose(model.layers[0].mean, theirs.running_mean.numpy(), atol=1e-6)
    np.testing.assert_allclose(model.layers[0].var, theirs.running_var.numpy(), atol=1e-6)


# ------------------------------------------------------------------------------------------- models with state


def test_everything_a_model_is_made_of_is_trained_in_place():
    x, y = classes()
    model = everything_model()
    arrays = fx.state(model)
    before = {path: np.array(a) for path, a in arrays.items()}
    opt = fx.setup(fx.Adam(1e-2), model)
    fx.freeze(opt, next(path for path in opt.paths if path.endswith("layers[1].weight")))
    fx.train(cross, model, in_batches(x, y), opt)
    after = fx.state(model)
    assert list(after) == list(before)
    (frozen,) = [path for path in opt.paths if path.endswith("layers[1].weight")]
    for path in opt.paths:
        changed = not np.array_equal(before[path], after[path])
        assert changed == (path != frozen), path
    (calls,) = [a for path, a in after.items() if path.endswith("calls")]
    assert calls == 4  # once per step
    (order,) = [a for path, a in after.items() if path.endswith("order")]
    assert order.tolist() == [5, 4, 3, 2, 1, 0]
    assert np.isfinite(model(x)).all()


def test_a_tied_layer_gets_the_sum_of_its_gradients():
    layer = fx.Dense(2, 2, bias=False, init=fx.ones)
    x = np.ones((1, 2), np.float32)
    trained([layer, layer], [(x, x)], fx.Descent(0.01), lambda m, x, y: (m[0](x) + m[1](x)).sum())
    np.testing.assert_allclose(layer.weight, 1 - 0.01 * 2 * np.ones((2, 2)), rtol=1e-6)


def test_frozen_parameters_and_their_memory_are_bit_equal():
    model = fx.Chain(fx.Dense(4, 5, fx.relu), fx.Dense(5, 3))
    opt = trained(model, in_batches(*classes()), fx.AdamW(1e-2))
    fx.freeze(opt, "layers[0]")
    before, rest = weights(model.layers[0]), weights(model.layers[1])
    moments = [np.array(a) for a in jax.tree.leaves(opt.state)]
    fx.train(cross, model, in_batches(*classes()), opt)
    for a, b in zip(weights(model.layers[0]), before, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(model.layers[1].weight, rest[0])
    frozen_shapes = {(4, 5), (5,)}
    for a, b in zip(jax.tree.leaves(opt.state), moments, strict=True):
        if a.shape in frozen_shapes:
            np.testing.assert_array_equal(a, b)
    fx.thaw(opt)
    fx.train(cross, model, in_batches(*classes()), opt)
    assert not np.array_equal(model.layers[0].weight, before[0])


class Remembering(fx.Layer):
    """Keeps its last input, which is None before the first call, and a list that grows in its first two calls."""

    buffers = ("last",)

    def __init__(self):
        self.inner = fx.Dense(4, 3)
        self.last = None
        self.seen = []

    def __call__(self, x):
        self.last = x.sum(axis=1)
        if len(self.seen) < 2:
            self.seen.append(x[0])
        return self.inner(x)


def test_state_that_appears_and_changes_shape_is_kept():
    model, plain = Remembering(), fx.Dense(4, 3)
    plain.weight, plain.bias = model.inner.weight, model.inner.bias
    x, y = classes(20)
    opt = fx.setup({"inner": fx.Adam(1e-2)}, model)
    with pytest.raises(fx.StateError, match=r"seen\[0\] is new"):  # a floating array in a list is a parameter
        fx.train(cross, model, in_batches(x, y), opt)
    assert opt.step == 1
    np.testing.assert_allclose(model.last, x[:8].sum(axis=1), rtol=1e-6)
    np.testing.assert_array_equal(model.seen[0], x[0])

    model = Remembering()
    model.seen = [0, 0]
    model.inner.weight, model.inner.bias = plain.weight, plain.bias
    opt = fx.setup(fx.Adam(1e-2), model)
    fx.train(cross, model, in_batches(x, y), opt)
    np.testing.assert_allclose(model.last, x[16:].sum(axis=1), rtol=1e-6)  # the short batch
    trained(plain, in_batches(x, y))
    assert_close(weights(model), weights(plain))


def test_state_of_a_new_shape_is_not_taken_from_a_step_that_fails():
    model = Remembering()
    model.seen = [0, 0]
    opt = fx.setup(fx.Adam(), model)
    x, y = classes(20)
    with pytest.raises(fx.NonFiniteError):
        fx.train(lambda m, x, y: cross(m, x, y) + jnp.log(len(x) - 7.9), model, in_batches(x, y), opt)
    assert opt.step == 2
    np.testing.assert_allclose(model.last, x[8:16].sum(axis=1), rtol=1e-6)


def test_python_values_change_once_per_trace():
    class Counting(fx.Layer):
        def __init__(self):
            self.inner = fx.Dense(4, 3)
            self.traces = 0

        def __call__(self, x):
            self.traces += 1
            return self.inner(x)

    model = Counting()
    opt = fx.setup(fx.Adam(), model)
    for _ in range(2):
        fx.train(cross, model, in_batches(*classes()), opt)
    assert model.traces == 1


def test_captured_arrays_are_inputs_not_constants():
    scale = jnp.ones(())
    model, opt = fx.Dense(1, 1, bias=False, init=fx.ones), None
    opt = fx.setup(fx.Descent(0.0), model)
    x = np.ones((2, 1), np.float32)

    def loss(m, x):
        return scale * m(x).mean()

    assert fx.trainstep(loss, model, x, opt) == 1.0
    scale = jnp.full((), 3.0)
    assert fx.trainstep(loss, model, x, opt) == 3.0


# ---------------------------------------------------------------------------------------------------- numbers


def test_half_precision_models_report_and_learn():
    model = fx.bf16(fx.Chain(fx.Dense(4, 8, fx.relu), fx.Dense(8, 3)))
    x, y = classes(64)
    opt = fx.setup(fx.Adam(1e-2), model)
    losses = np.concatenate([fx.train(cross, model, in_batches(x, y), opt) for _ in range(5)])
    assert losses.dtype == np.float32
    assert model.layers[0].weight.dtype == jnp.bfloat16
    assert losses[-8:].mean() < losses[:8].mean()


def test_float64_steps_agree_with_explicit_gradients(x64):
    model, copy = (fx.f64(fx.Dense(4, 3)) for _ in range(2))
    copy.weight, copy.bias = model.weight, model.bias
    x, y = classes()
    batches = [(a.astype(np.float64), b) for a, b in in_batches(x, y)]
    losses = fx.train(cross, model, batches, fx.setup(fx.Adam(), model))
    opt = fx.setup(fx.Adam(), copy)
    for batch in batches:
        fx.update(opt, copy, fx.gradient(cross, copy, *batch)[0])
    assert losses.dtype == np.float64
    assert model.weight.dtype == jnp.float64
    assert_close(weights(model), weights(copy), 1e-12)


def test_numpy_weights_become_device_arrays():
    w = [np.ones((4, 3))]
    opt = fx.setup(fx.Adam(), w)
    fx.train(lambda m, x, y: fx.logitcrossentropy(x @ m[0], y), w, in_batches(*classes()), opt)
    assert isinstance(w[0], jax.Array)
    assert w[0].dtype == jnp.float32


def test_a_bare_array_cannot_be_trained_in_place():
    w = jnp.ones((4, 3))
    opt = fx.setup(fx.Adam(), w)
    with pytest.raises(fx.StateError, match="Put it in a list, a dict, a Param or a Layer"):
        fx.trainstep(lambda m, x, y: fx.logitcrossentropy(x @ m, y), w, classes(), opt)


def test_a_log_of_shapes_is_written_once_per_trace():
    shapes = []

    def loss(m, x, y):
        shapes.append(x.shape)
        return cross(m, x, y)

    model = fx.Dense(4, 3)
    opt = fx.setup(fx.Adam(), model)
    for _ in range(3):
        fx.train(loss, model, in_batches(*classes(20)), opt)
    assert shapes == [(8, 4), (4, 4)]


def test_a_counter_shared_by_training_and_validation_settles():
    calls = []

    def loss(prediction, target):
        calls.append(1)
        return fx.logitcrossentropy(prediction, target)

    x, y = classes()
    fx.fit(fx.Dense(4, 3), (x, y), loss=loss, epochs=4, batch_size=8, validation=(x, y), progress=False)
    assert len(calls) == 2  # the step, and the validation
