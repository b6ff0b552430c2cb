"""Blocks of steps in one executable: the numbers, state and errors of single steps, to the bit."""

import logging
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_help import assert_same, classes, cross, everything_model, snapshot

import fluxion as fx
from fluxion.train import run as run_module
from fluxion.train import step as step_module
from fluxion.train import steps as steps_module
from fluxion.train.steps import Block, feed
from fluxion.tree import load_state

X, Y = classes(90)


def mlp(*more):
    fx.seed(5)
    return fx.Chain(fx.Dense(4, 5, fx.relu), *more, fx.Dense(5, 3))


def loader(size=8, **options):
    return fx.DataLoader((X, Y), batch_size=size, **({"shuffle": True, "seed": 4} | options))


def run(model, data, rule=None, loss=cross, calls=3, **options):
    start = fx.state(model)
    opt = fx.setup(rule or fx.Adam(1e-2), model)
    opt.seed = 11
    losses = [fx.train(loss, model, part, opt, **options) for part in [data] * calls]
    result = np.concatenate(losses), snapshot(model, opt)
    load_state(model, start)
    return result


@pytest.fixture
def looped(monkeypatch):
    """How many steps went into each call of a loop."""
    counts = []
    call = steps_module.Loop.__call__

    def counted(self, *args):
        counts.append(args[-1])
        return call(self, *args)

    monkeypatch.setattr(steps_module.Loop, "__call__", counted)
    return counts


class Single(fx.DataLoader):
    """A loader of a class of its own is an iterable like any other: its steps are taken one by one."""


class Listed(list):
    """So is a list of a class of its own."""


def singly(data):
    if isinstance(data, list):
        return Listed(data)
    return Single(data.data, batch_size=data.batch_size, shuffle=data.shuffle, partial=data.partial, seed=data.seed)


def same_as_singly(model, data, looped, **options):
    losses, state = run(model, data, **options)
    assert len(looped) > 1
    assert max(looped) > 1
    looped.clear()
    expected, expected_state = run(model, singly(data), **options)
    assert not looped
    np.testing.assert_array_equal(losses, expected)
    assert_same(state, expected_state)


def scheduled(step):
    return 1e-2 / (1 + step)


@pytest.mark.parametrize("rule", [fx.Adam(1e-2), fx.Descent(scheduled)], ids=["adam", "schedule"])
@pytest.mark.parametrize("options", [{}, {"shuffle": False, "partial": False}], ids=["shuffled", "in order"])
def test_a_loop_gives_the_bits_of_single_steps(rule, options, looped):
    same_as_singly(mlp(fx.Dropout(0.3)), loader(**options), looped, rule=rule)


def test_models_and_rules_with_state(looped):
    rule = fx.OptimizerChain(fx.AccumGrad(3), fx.AdamW(scheduled), fx.EMA(0.9))
    same_as_singly(everything_model(), loader(), looped, rule=rule)


def test_recurrent_networks_too(looped):
    x = np.random.default_rng(0).normal(size=(40, 6, 3)).astype(np.float32)
    model = fx.Chain(fx.LSTM(3, 5), lambda h: h[:, -1], fx.Dense(5, 3))
    same_as_singly(model, fx.DataLoader((x, Y[:40]), batch_size=8, shuffle=True, seed=1), looped)


def as_dicts(m, batch):
    return cross(m, batch["x"], batch["y"])


@pytest.mark.parametrize(
    ("data", "loss"),
    [
        ((jnp.asarray(X), jnp.asarray(Y)), cross),
        ((X.astype(np.float64), Y.astype(np.uint8)), cross),
        ([X, Y], cross),
        ({"x": X, "y": jnp.asarray(Y)}, as_dicts),
        (X, lambda m, x: (m(x) ** 2).mean()),
    ],
    ids=["jax", "other dtypes", "list", "dict", "array"],
)
def test_any_container_of_arrays(data, loss, looped):
    same_as_singly(mlp(), fx.DataLoader(data, batch_size=8, shuffle=True, seed=2), looped, loss=loss)


def cut(x, y, sizes):
    ends = np.cumsum(sizes)
    return [(x[end - size : end], y[end - size : end]) for end, size in zip(ends, sizes, strict=True)]


@pytest.mark.parametrize("as_array", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
def test_lists_of_batches(as_array, looped):
    data = cut(as_array(X), as_array(Y), [8, 8, 8, 8, 6, 8, 8, 20, 6, 6, 4])
    same_as_singly(mlp(), data, looped)
    same_as_singly(mlp(), [{"x": x, "y": y} for x, y in data], looped, loss=as_dicts)


def test_lists_that_are_not_alike_are_stepped_singly(looped):
    x, y = X[:8], Y[:8]
    run(mlp(), [(x, y), (x.tolist(), y), (x, jnp.asarray(1))], loss=lambda m, x, y: (m(x) ** 2).mean() * jnp.mean(y))
    assert not looped
    weights = np.ones(3, np.float32)  # parts of different length
    run(mlp(), [(x, weights)] * 3, loss=lambda m, x, w: (m(x) ** 2 * w[None]).mean())
    assert not looped


def test_float64(x64, looped):
    data = fx.DataLoader((X.astype(np.float64), Y), batch_size=8, shuffle=True, seed=2)
    same_as_singly(fx.f64(mlp()), data, looped)


def test_epochs_of_several_blocks(looped, monkeypatch):
    monkeypatch.setattr(steps_module, "BLOCK_BYTES", 600)
    for options in ({}, {"shuffle": False}):
        same_as_singly(mlp(), loader(**options), looped)


def test_blocks_hold_what_the_batches_hold(monkeypatch):
    monkeypatch.setattr(steps_module, "BLOCK_BYTES", 600)
    for shuffle in (True, False):
        data, plain = loader(shuffle=shuffle), loader(shuffle=shuffle)
        for _ in range(2):
            batches = []
            for piece in feed(data):
                batches += [piece.batch(i) for i in range(piece.count)] if isinstance(piece, Block) else [piece]
            for (x, y), (a, b) in zip(batches, plain, strict=True):
                np.testing.assert_array_equal(x, a)
                np.testing.assert_array_equal(y, b)
        assert data.epoch == plain.epoch == 2


def test_fit_with_metrics_gives_the_history_of_single_steps(looped):
    class Every(fx.Callback):
        def on_step_end(self, context):
            pass

    rows = []
    for callbacks in ((), [Every()]):
        model = mlp(fx.BatchNorm(5))
        history = fx.fit(
            model, (X, Y), loss=fx.logitcrossentropy, epochs=3, batch_size=8, metrics=[fx.accuracy], seed=3,
            callbacks=callbacks, progress=False,
        )  # fmt: skip
        rows.append((history["loss"], history["accuracy"], *map(np.array, fx.state(model).values())))
        assert bool(looped) != bool(callbacks)
        looped.clear()
    for a, b in zip(*rows, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture
def together(monkeypatch):
    """All short epochs of a `fit` go into one piece of work, whatever the clock says."""
    monkeypatch.setattr(run_module, "CALL_SECONDS", 1e9)


def fitted(data, callbacks=(), epochs=6, model=None, **options):
    model = model or mlp(fx.BatchNorm(5))
    opt = fx.setup(fx.Adam(scheduled), model)
    history = fx.fit(
        model, data, loss=fx.logitcrossentropy, optimizer=opt, epochs=epochs, metrics=[fx.accuracy], seed=3,
        callbacks=callbacks, progress=False, **options,
    )  # fmt: skip
    return history, snapshot(model, opt)


@pytest.mark.parametrize("size", [8, 9, 45])
def test_short_epochs_together_are_epochs_one_by_one(size, looped, together, monkeypatch):
    names = ["epoch", "loss", "accuracy", "learning_rate"]
    history, state = fitted((X, Y), batch_size=size)
    assert sum(looped) == 6 * -(-90 // size)
    looped.clear()
    expected, expected_state = fitted((X, Y), [lambda context: None], batch_size=size)
    assert len(looped) >= 6
    assert [[row[name] for name in names] for row in history] == [[row[name] for name in names] for row in expected]
    assert_same(state, expected_state)
    monkeypatch.setattr(steps_module, "BLOCK_STEPS", 32)  # which some of the epochs fill
    assert_same(fitted((X, Y), batch_size=size)[1], state)


def test_epochs_of_one_batch_together(looped, together):
    history, state = fitted((X, Y), batch_size=100)
    assert sum(looped) == 6
    expected, expected_state = fitted((X, Y), [lambda context: None], batch_size=100)
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-6)
    for a, b in zip(state[0], expected_state[0], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_failure_among_short_epochs_keeps_those_before_it(together):
    class Exploding(fx.Layer):
        buffers = ("count",)

        def __init__(self, limit):
            fx.seed(5)
            self.inner, self.count, self.limit = fx.Dense(4, 3), jnp.zeros(()), limit

        def __call__(self, x):
            self.count = self.count + 1
            return self.inner(x) * jnp.where(self.count > self.limit, jnp.inf, 1)

    data, model = loader(), Exploding(40.0)
    with pytest.raises(fx.NonFiniteError, match="the loss of step 40 is") as caught:
        fitted(data, model=model)
    assert caught.value.history["epoch"] == [1, 2, 3]
    assert data.epoch == 4  # in which it was
    again = loader()
    history, (_, step) = fitted(again, model=Exploding(1e9), epochs=3)
    assert step == 36
    assert history["loss"] == caught.value.history["loss"]
    assert model.count == 40


def test_the_step_is_traced_once(looped, caplog):
    traces = set()  # no part of a model: neither copied nor compared by value

    def loss(m, x, y):
        traces.add(object())
        return cross(m, x, y)

    model = mlp()
    opt = fx.setup(fx.Adam(), model)
    with caplog.at_level(logging.INFO, "fluxion"):
        for _ in range(3):
            fx.train(loss, model, loader(partial=False), opt)
        fx.trainstep(loss, model, (X[:8], Y[:8]), opt)
    assert looped
    assert len(traces) == 1
    assert not caplog.records


def test_models_that_change_more_than_arrays_are_stepped_singly(looped):
    class Counting(fx.Layer):
        def __init__(self):
            self.inner = fx.Dense(4, 3)
            self.traces = 0

        def __call__(self, x):
            self.traces += 1
            return self.inner(x)

    model = Counting()
    run(model, loader(partial=False))
    assert model.traces == 1

    class Remembering(fx.Layer):
        buffers = ("last",)

        def __init__(self):
            self.inner = fx.Dense(4, 3)
            self.last = jnp.zeros(0)

        def __call__(self, x):
            self.last = x.sum(axis=1)
            return self.inner(x)

    model = Remembering()
    data = loader(shuffle=False, partial=False)
    fx.train(cross, model, data, fx.setup(fx.Adam(), model))
    np.testing.assert_allclose(model.last, X[80:88].sum(axis=1), rtol=1e-6)


def test_a_convolution_of_xlas_own_is_stepped_singly_on_a_cpu(looped):
    def loss(m, x, y):
        numbers = ("NWC", "WIO", "NWC")
        out = jax.lax.conv_general_dilated(x[:, :, None], m["kernel"], (1,), "SAME", dimension_numbers=numbers)
        return fx.logitcrossentropy(out.mean(axis=1), y)

    model = {"kernel": jnp.ones((3, 1, 3))}
    run(model, loader(), loss=loss)
    assert bool(looped) == (jax.default_backend() != "cpu")


def test_large_steps_are_stepped_singly(looped, monkeypatch):
    monkeypatch.setattr(steps_module, "LARGE", 8)
    step_module._programs.clear()
    run(mlp(), loader())
    assert not looped


# ---------------------------------------------------------------------------------------------------- failures


def spoiled(at, part, value):
    """Data in which one value of batch `at` of 11 is bad."""
    parts = [X.copy(), Y.copy()]
    parts[part][(8 * at + 3, 1) if part == 0 else 8 * at + 3] = value
    return fx.DataLoader(tuple(parts), batch_size=8)


@pytest.mark.parametrize(
    ("part", "value", "error", "match"),
    [
        (0, np.nan, fx.DataError, r"^batch\[0\] of step {} holds nan at index \(3, 1\)"),
        (1, 3, fx.DataError, r"label 3 at index \(3,\) is outside \[0, 3\)"),
        (0, 1e38, fx.NonFiniteError, "the loss of step {} is"),
    ],
)
@pytest.mark.parametrize("at", [0, 1, 6, 10])
def test_a_bad_step_in_a_loop_is_not_applied_and_is_named(at, part, value, error, match, looped):
    model = mlp(lambda h: h**2)
    run(model, loader())  # a program whose pace is known takes all steps in one call
    looped.clear()
    opt = fx.setup(fx.Adam(1e-2), model)
    opt.seed = 11
    start = fx.state(model)
    with pytest.raises(error, match=match.format(at)):
        fx.train(cross, model, spoiled(at, part, value), opt)
    got = snapshot(model, opt)
    assert looped or at == 0
    load_state(model, start)
    again = fx.setup(fx.Adam(1e-2), model)
    again.seed = 11
    batches = list(spoiled(at, part, value))
    fx.train(cross, model, batches[:at], again)
    assert got[1] == at
    assert_same(got, snapshot(model, again))


# Where the collector of garbage swallows the interrupt, Python only warns.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_leaves_a_whole_step(looped):
    model = mlp(fx.Dropout(0.3))
    opt = fx.setup(fx.Adam(1e-2), model)
    opt.seed = 3
    start, memory = fx.state(model), opt.snapshot()
    fx.train(cross, model, loader(), opt)  # compiles
    load_state(model, start)
    opt.restore(memory)
    states = [snapshot(model, opt)]
    for batch in loader():
        fx.trainstep(cross, model, batch, opt)
        states.append(snapshot(model, opt))
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    hits = 0
    try:
        for k in range(40):
            load_state(model, start)
            opt.restore(memory)
            data = loader()
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-4 + 1e-4 * k)
                fx.train(cross, model, data, opt)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                hits += 1
            assert_same(snapshot(model, opt), states[opt.step])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert hits
    assert looped
