"""Training as an iterator: the formulas, exactly one step per `next`, what is trained, what is refused."""

import io
import itertools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from knet_help import Chain, Dense, iris

import fluxion as fx
from fluxion.dialects import knet
from fluxion.dialects.knet import (
    Param,
    adadelta,
    adagrad,
    adam,
    converge,
    minibatch,
    minimize,
    momentum,
    nesterov,
    nll,
    progress,
    repeat,
    rmsprop,
    sgd,
)

CENTERS = np.random.default_rng(0).normal(size=(12, 5))


def followed(optimizer, step, **options):
    """The parameter after 12 steps of an optimizer, and after 12 of a formula: `w, state = step(w, g, state, t)`."""
    w = Param(jnp.ones(5))
    optimizer(lambda c: ((w - c) ** 2).sum() / 2, list(CENTERS), **options).run()
    expected, state = np.ones(5), {}
    for t, center in enumerate(CENTERS, 1):
        expected = step(expected, expected - center, state, t)
    return np.asarray(w.value), expected


def sgd_step(w, g, state, t):
    return w - 0.1 * g


def momentum_step(w, g, state, t):
    state["v"] = 0.95 * state.get("v", 0) - 0.05 * g
    return w + state["v"]


def nesterov_step(w, g, state, t):
    before = state.get("v", 0)
    state["v"] = 0.95 * before - 0.05 * g
    return w - 0.95 * before + 1.95 * state["v"]


def adagrad_step(w, g, state, t):
    state["G"] = state.get("G", 0) + g**2
    return w - 0.05 * g / np.sqrt(state["G"] + 1e-6)


def rmsprop_step(w, g, state, t):
    state["G"] = 0.9 * state.get("G", 0) + 0.1 * g**2
    return w - 0.01 * g / np.sqrt(state["G"] + 1e-6)


def adadelta_step(w, g, state, t):
    state["G"] = 0.9 * state.get("G", 0) + 0.1 * g**2
    update = g * np.sqrt(state.get("d", 0) + 1e-6) / np.sqrt(state["G"] + 1e-6)
    state["d"] = 0.9 * state.get("d", 0) + 0.1 * update**2
    return w - update


def adam_step(w, g, state, t):
    state["m"] = 0.9 * state.get("m", 0) + 0.1 * g
    state["v"] = 0.999 * state.get("v", 0) + 0.001 * g**2
    return w - 0.001 * state["m"] / (1 - 0.9**t) / (np.sqrt(state["v"] / (1 - 0.999**t)) + 1e-8)


FORMULAS = [
    (sgd, sgd_step),
    (momentum, momentum_step),
    (nesterov, nesterov_step),
    (adagrad, adagrad_step),
    (rmsprop, rmsprop_step),
    (adadelta, adadelta_step),
    (adam, adam_step),
]


@pytest.mark.parametrize(("optimizer", "step"), FORMULAS, ids=lambda f: f.__name__)
def test_steps_are_those_of_knets_formulas_with_its_defaults(x64, optimizer, step):
    got, expected = followed(optimizer, step)
    np.testing.assert_allclose(got, expected, rtol=1e-10)


def test_minimize_takes_adam_unless_told(x64):
    np.testing.assert_allclose(*followed(minimize, adam_step), rtol=1e-10)
    np.testing.assert_allclose(*followed(minimize, sgd_step, opt=fx.Descent()), rtol=1e-10)


def test_the_options_reach_the_formulas():
    w = Param(jnp.array([3.0]))
    trainings = [
        adam(lambda: (w**2).sum(), [()], lr=0.5, beta1=0.5, beta2=0.5, eps=1.0),
        rmsprop(lambda: (w**2).sum(), [()], lr=0.5, rho=0.5, eps=1.0),
        adadelta(lambda: (w**2).sum(), [()], lr=0.5, rho=0.5, eps=1.0),
        adagrad(lambda: (w**2).sum(), [()], lr=0.5, eps=1.0),
        momentum(lambda: (w**2).sum(), [()], lr=0.5, gamma=0.5),
        nesterov(lambda: (w**2).sum(), [()], lr=0.5, gamma=0.5),
    ]
    expected = [3 - 0.5 * 6 / 7, 3 - 0.5 * 6 / 19**0.5, 3 - 0.5 * 6 / 19**0.5, 3 - 0.5 * 6 / 37**0.5, 0.0, -1.5]
    for training, after in zip(trainings, expected, strict=True):
        w.value = jnp.array([3.0])
        next(training)
        assert w[0] == pytest.approx(after), training.caller


def test_gclip_scales_the_gradient_of_each_array():
    a, b = Param(jnp.array([3.0, 4.0])), Param(jnp.array([0.1]))
    sgd(lambda: (a**2).sum() / 2 + (b**2).sum() / 2, [()], lr=1.0, gclip=1.0).run()
    np.testing.assert_allclose(a.value, [3 - 0.6, 4 - 0.8], rtol=1e-5)
    np.testing.assert_allclose(b.value, [0.0], atol=1e-7)  # shorter than 1: left alone


def test_each_next_is_one_step_and_the_model_is_up_to_date():
    w, seen = Param(1.0), []

    def batches():
        for i in range(10):
            seen.append(i)
            yield float(i)

    training = sgd(lambda x: (w - x) ** 2, batches())
    assert seen == [] and w.value == 1.0
    values = [float(w.value) for _ in itertools.islice(training, 3)]
    assert seen == [0, 1, 2]
    assert training.opt.step == 3
    after = [1.0]
    for i in range(3):
        after.append(after[-1] - 0.2 * (after[-1] - i))
    np.testing.assert_allclose(values, after[1:], rtol=1e-6)
    losses = training.run()  # the rest
    assert seen == list(range(10)) and len(losses) == 7
    assert next(training, None) is None


def test_it_is_zipped_sliced_wrapped_and_taken_up_again():
    model, dtrn, _ = iris()
    expected = adam(model, repeat(dtrn, 4)).run()
    model, dtrn, _ = iris()
    training = adam(model, repeat(dtrn, 4))
    losses = [loss for loss, _ in zip(training, range(9), strict=False)]
    assert training.done == 10  # as with any iterator, zip has asked for one more
    model, dtrn, _ = iris()
    training = adam(model, repeat(dtrn, 4))
    losses = list(itertools.islice(training, 9))
    losses += [loss for _, loss in zip(range(3), progress(training, stream=None, seconds=1e9), strict=False)]
    losses += training.run().tolist()
    assert len(losses) == len(training) == 28
    np.testing.assert_array_equal(np.float32(losses), expected)
    assert dtrn.epoch == 4


def test_looking_at_the_data_meanwhile_changes_nothing():
    model, dtrn, dtst = iris()
    expected = adam(model, repeat(dtrn, 3)).run()
    model, dtrn, dtst = iris()
    losses = []
    for loss in adam(model, repeat(dtrn, 3)):
        losses.append(loss)
        knet.accuracy(model, dtrn), knet.nll(model, dtst), next(iter(dtrn))
    np.testing.assert_array_equal(np.float32(losses), expected)


def test_the_posts_line_is_a_training_like_fx_train(capsys):
    model, dtrn, dtst = iris()
    other = fx.Chain(fx.Dense(4, 10, fx.relu), fx.Dense(10, 3))
    for layer, mine in zip(other, model.layers, strict=True):
        layer.weight, layer.bias = mine.w.value, mine.b.value
    loader, opt = (
        fx.DataLoader(dtrn.data, batch_size=15, shuffle=True, partial=False, seed=0),
        fx.setup(fx.Adam(), other),
    )
    expected = [fx.train(lambda m, x, y: fx.logitcrossentropy(m(x), y), other, loader, opt) for _ in range(100)]

    losses = progress(adam(model, repeat(dtrn, 100))).run()

    assert len(losses) == 700
    np.testing.assert_allclose(losses, np.concatenate(expected), atol=1e-5)
    assert knet.accuracy(model, dtst) > 0.9
    assert capsys.readouterr().err.splitlines()[-1].startswith("┣████████████████████┫ [100.00%, 700/700, ")


def test_what_fits_is_run_in_few_calls(monkeypatch):
    from fluxion.train import steps

    calls = []
    call = steps.Loop.__call__
    monkeypatch.setattr(steps.Loop, "__call__", lambda self, *args: calls.append(args[-1]) or call(self, *args))
    for around in (lambda itr: itr, lambda itr: progress(itr, stream=io.StringIO())):
        model, dtrn, _ = iris()
        around(adam(model, repeat(dtrn, 60))).run()
        assert sum(calls) == 420 and len(calls) < 20
        calls.clear()


# ----------------------------------------------------------------------------------------------- what is trained


w_global = Param(1.0)
layer_global = fx.Dense(1, 1, bias=False, init=fx.ones)
bystander = Param(1.0)


def loss_of_globals(x):
    return ((layer_global(x) * helper() - 2) ** 2).mean()


def helper():
    return w_global


X = np.ones((4, 1), np.float32)


def test_globals_that_the_code_names_are_trained():
    training = sgd(loss_of_globals, [X, X])
    assert set(training.owners) == {"layer_global", "w_global"}
    before = float(w_global.value), layer_global.weight.item()
    losses = training.run()
    assert losses[1] < losses[0]
    assert float(w_global.value) != before[0] and layer_global.weight.item() != before[1]
    assert bystander.value == 1.0


def test_a_script_of_globals_trains():
    script = """
import fluxion as fx
from fluxion.dialects.knet import *
x, y = fx.datasets.iris()
model = fx.Chain(fx.Dense(4, 10, fx.relu), fx.Dense(10, 3))
loss = lambda x, y: nll(model(x), y)
losses = adam(loss, repeat(minibatch(x, y, 50), 20), lr=0.01).run()
"""
    module = types.ModuleType("knet_script")
    exec(compile(script, "knet_script.py", "exec"), vars(module))
    assert module.losses[-1] < 0.7 * module.losses[0]


def test_closures_partials_methods_and_containers_are_looked_into():
    class Net:
        def __init__(self):
            self.parts = {"a": [Param(1.0)], "b": (Param(1.0),)}

        def loss(self, x):
            return (self.parts["a"][0] * self.parts["b"][0] * scale * x - 1) ** 2

    scale = Param(2.0)
    net = Net()
    training = sgd(net.loss, [1.0], lr=0.01)
    assert len(training.owners) == 3
    training.run()
    assert all(float(p.value) != v for p, v in ((net.parts["a"][0], 1), (net.parts["b"][0], 1), (scale, 2)))


def test_a_tied_layer_is_one():
    layer = fx.Dense(2, 2)
    twice = fx.Chain(layer, layer)
    training = sgd(lambda x: (layer(x) + twice(x)).sum(), [fx.ones(1, 2)])
    assert list(training.owners.values()) == [twice]
    training.run()
    assert len(training.opt.paths) == 2


def test_params_restricts():
    model, dtrn, _ = iris()
    first, second = model.layers
    before = [np.array(v.value) for v in (first.w, first.b, second.w)]
    adam(model, dtrn, params=[second.w]).run()
    assert (np.asarray(first.w.value) == before[0]).all() and (np.asarray(first.b.value) == before[1]).all()
    assert (np.asarray(second.w.value) != before[2]).any()
    chain = fx.Chain(fx.Dense(4, 3), fx.Dense(3, 3))
    kept = np.array(chain[0].weight)
    sgd(lambda x, y: nll(chain(x), y), dtrn, params=chain[1]).run()
    assert (np.asarray(chain[0].weight) == kept).all()


def test_statistics_of_normalization_move_and_dropout_is_on():
    norm, drop = fx.BatchNorm(4), fx.Dropout(0.5)
    net = fx.Chain(norm, drop, fx.Dense(4, 3))
    _, dtrn, _ = iris()
    losses = sgd(lambda x, y: nll(net(x), y), repeat(dtrn, 2), lr=0.0).run()
    assert float(abs(norm.mean).sum()) > 0
    assert len(set(losses.tolist())) == 14


def test_left_out_sizes_come_from_the_first_batch():
    _, dtrn, _ = iris()
    net = fx.Chain(fx.Dense(None, 6, fx.relu), fx.Dense(None, 3))
    training = adam(lambda x, y: nll(net(x), y), dtrn)
    next(training)
    assert net[0].weight.shape == (4, 6) and net[1].weight.shape == (6, 3)


def test_the_optimizer_can_be_adjusted_and_continued():
    w = Param(1.0)
    training = sgd(lambda: w**2, repeat([()], 10))
    next(training)
    fx.adjust(training.opt, 0.0)
    kept = float(w.value)
    next(training)
    assert float(w.value) == kept
    more = minimize(training.loss, [()], training.opt)
    more.run()
    assert float(w.value) == kept and more.opt.step == 3


def test_a_batch_that_is_no_tuple_is_one_argument():
    w = Param(jnp.ones(2))
    losses = sgd(lambda x: ((w[None] - x) ** 2).mean(), minibatch(np.zeros((6, 2), np.float32), 3), lr=0.0).run()
    assert losses.tolist() == [1.0, 1.0]
    losses = sgd(lambda d: ((w - d["x"]) ** 2).mean(), [{"x": np.zeros(2)}], lr=0.0).run()
    assert losses.tolist() == [1.0]


def test_endless_data_until_it_no_longer_helps():
    w = Param(1.0)
    training = sgd(lambda x: (w - x) ** 2, repeat([0.0, 1.0, 3.0, -2.0]), lr=0.3)
    losses = converge(training, alpha=0.2).run()
    assert 0 < len(losses) < 10_000
    with pytest.raises(TypeError, match="no end"):
        len(training)


# ---------------------------------------------------------------------------------------------- what is refused


def test_nothing_to_train_is_an_error():
    array = jnp.ones(3)
    with pytest.raises(fx.StateError, match=r"sgd: found nothing to train.*Write Param\(array\)"):
        sgd(lambda x: (array * x).sum(), [1.0])
    with pytest.raises(fx.StateError, match="adam: found nothing to train"):
        adam(lambda x: x, [1.0])


class Careless:
    shared = Param(1.0)

    def __init__(self):
        self.w = Param(1.0)

    def __call__(self, x):
        return self.loss(x)

    def loss(self, x):
        return (self.w * w_global - x) ** 2

    def other(self, x):
        return (self.w * self.shared - x) ** 2

    def compare(self):
        return bystander


class CarelessLayer(fx.Layer):
    def __call__(self, x):
        return (w_global - x) ** 2


def test_parameters_that_no_instance_holds_are_refused():
    net = Careless()
    with pytest.raises(fx.StateError, match=r"w_global is used by Careless\.loss but is no part of the instance"):
        sgd(net, [1.0])
    with pytest.raises(fx.StateError, match=r"w_global is used by CarelessLayer\.__call__"):
        sgd(CarelessLayer(), [1.0])
    with pytest.raises(fx.StateError, match=r"shared is used by Careless\.shared but"):
        sgd(net.other, [1.0])
    sgd(net.loss, [1.0]).run()  # a bound method is a function, whose globals can be replaced
    with pytest.raises(fx.StateError, match=r"Careless\.loss"):  # used rightly elsewhere, but half of its gradient lost
        sgd(lambda x: net(x) * w_global, [1.0])


def test_params_must_be_reached_and_be_parameters():
    w, v = Param(1.0), Param(1.0)
    with pytest.raises(fx.StateError, match="does not reach"):
        sgd(lambda: w**2, [()], params=[v])
    with pytest.raises(fx.ArgumentError, match="Params and layers"):
        sgd(lambda: w**2, [()], params=[w.value])
    with pytest.raises(fx.ArgumentError, match="at least one"):
        sgd(lambda: w**2, [()], params=[])


def test_arrays_of_layers_cannot_be_listed():
    net = fx.Dense(2, 2)
    with pytest.raises(fx.ArgumentError, match=r"got weight, an array of a layer\. Give the layer"):
        sgd(lambda x: net(x).sum(), [fx.ones(1, 2)], params=knet.params(net))


def test_data_of_unknown_length_are_taken_as_they_come():
    def numbers():
        yield from np.arange(12, dtype=np.float32)

    class Endless:
        def __iter__(self):
            return itertools.count(0.0)

    w = Param(0.0)
    streamed = sgd(lambda x: ((w - x) ** 2).mean(), fx.DataLoader(numbers(), batch_size=3), lr=0.0)
    assert [next(streamed), *streamed.run()] == pytest.approx([5 / 3, 50 / 3, 149 / 3, 302 / 3])
    counting = sgd(lambda x: (w - x) ** 2, Endless(), lr=0.0)
    assert list(itertools.islice(counting, 3)) == [0.0, 1.0, 4.0]
    assert repr(counting) == "sgd(<lambda>, ...)  # 3 of unknown steps"
    assert repr(sgd(lambda x: w, repeat([1.0], 7))).endswith("# 0 of 7 steps")
    once = sgd(lambda x: (w - x) ** 2, repeat(iter([1.0, 2.0, 3.0]), 1), lr=0.0)
    assert [next(once), *once.run()] == [1.0, 4.0, 9.0]


def test_data_and_loss_are_checked():
    w = Param(1.0)
    with pytest.raises(fx.ArgumentError, match=r"adam: expected an iterable of batches, got int\. Write \[batch\]"):
        adam(lambda: w**2, 3)
    with pytest.raises(fx.ArgumentError, match="order is loss, data"):
        adam([()], lambda: w**2)
    with pytest.raises(fx.ArgumentError, match="learning_rate"):
        sgd(lambda: w**2, [()], lr=-1)
    with pytest.raises(fx.ArgumentError, match="max_norm"):
        sgd(lambda: w**2, [()], gclip=-1)


def test_another_parameter_in_the_place_of_one_is_noticed():
    model, dtrn, _ = iris()
    training = adam(model, dtrn)
    next(training)
    model.layers[0].w = Param(jnp.zeros((4, 10)))
    with pytest.raises(fx.StateError, match="others than when the training began"):
        next(training)


def test_a_step_that_is_not_finite_is_not_applied_and_the_rest_goes_on():
    w = Param(1.0)
    batches = [0.0, 0.0, np.inf, 0.0]
    for take in (list, lambda training: training.run()):
        w.value = jnp.ones(())
        training = sgd(lambda x: (w - x) ** 2, [np.float32(b) for b in batches])
        with pytest.raises(fx.FluxionError, match=r"step 2|not finite"):
            take(training)
        assert float(w.value) == pytest.approx(0.64)
        assert training.opt.step == 2
        assert float(next(training)) == pytest.approx(0.64**2)  # the batch behind the bad one
        assert next(training, None) is None


def test_a_failure_in_a_block_leaves_the_place_behind_it():
    x = np.zeros((60, 1), np.float32)
    x[35] = 2.0  # in batch 3 of the second epoch's, wherever it is
    w = Param(1.0)

    def loss(x):
        return jnp.where(x.max() > 1, jnp.nan, ((w - x) ** 2).mean())

    dtrn = minibatch(x, 10, shuffle=True, seed=0)
    at = [i for i, batch in enumerate(repeat(minibatch(x, 10, shuffle=True, seed=0), 3)) if batch.max() > 1]
    training = sgd(loss, repeat(dtrn, 3), lr=0.01)
    with pytest.raises(fx.NonFiniteError):
        training.run()
    assert training.opt.step == at[0] and training.done == at[0] + 1
    assert dtrn.epoch == 1
    expected = 0.98 ** (2 * at[0])
    assert next(training) == pytest.approx(expected, rel=1e-5)


def test_interrupted_it_goes_on_where_it_was(monkeypatch):
    model, dtrn, _ = iris()
    expected = adam(model, repeat(dtrn, 40)).run()
    model, dtrn, _ = iris()
    training = adam(model, repeat(dtrn, 40))

    def interrupt(done, loss):
        if done > 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.exhaust(interrupt)
    done = training.opt.step
    assert training.done == done > 100
    np.testing.assert_array_equal(training.run(), expected[done:])
    assert dtrn.epoch == 40


def test_no_tracer_stays_in_a_model():
    model, dtrn, _ = iris()
    training = adam(model, dtrn)
    next(training)
    with pytest.raises(TypeError):
        adam(lambda x, y: nll(model(x), y, "wrong"), dtrn).run()
    assert all(isinstance(v.value, jax.Array) and not isinstance(v.value, jax.core.Tracer) for v in knet.params(model))
    assert isinstance(model, Chain) and isinstance(model.layers[0], Dense)
