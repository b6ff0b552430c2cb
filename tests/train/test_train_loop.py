"""`trainstep` and `train`: the same numbers whatever way a loop is written, and the batches they take."""

import jax.numpy as jnp
import numpy as np
import pytest
from training_help import assert_close, assert_same, classes, cross, in_batches, snapshot, weights

import fluxion as fx

X, Y = classes()


def mlp(dropout=0.0):
    fx.seed(5)
    middle = [fx.Dropout(dropout)] if dropout else []
    return fx.Chain(fx.Dense(4, 5, fx.relu), *middle, fx.Dense(5, 3))


def prepared(dropout=0.0, rule=None):
    model = mlp(dropout)
    return model, fx.setup(rule or fx.Adam(1e-2), model)


# ---------------------------------------------------------------------------------------- one loop or another


def test_the_same_seed_gives_bit_equal_runs_and_another_does_not():
    def run(seed):
        model, opt = prepared(dropout=0.5)
        fx.seed(seed)
        losses = fx.train(cross, model, in_batches(X, Y), opt)
        return losses, snapshot(model, opt)

    (first, state), (again, same_state), (other, _) = run(1), run(1), run(2)
    np.testing.assert_array_equal(first, again)
    assert_same(state, same_state)
    assert not np.array_equal(first, other)


def test_one_call_three_calls_and_single_steps_are_bit_equal():
    batches = in_batches(X, Y, size=6)
    states, losses = [], []
    for cut in ([batches], [batches[:1], batches[1:4], batches[4:]], None):
        model, opt = prepared(dropout=0.5)
        opt.seed = 11
        if cut is None:
            losses.append([fx.trainstep(cross, model, batch, opt) for batch in batches])
        else:
            losses.append(np.concatenate([fx.train(cross, model, part, opt) for part in cut]))
        states.append(snapshot(model, opt))
    for loss, state in zip(losses[1:], states[1:], strict=True):
        np.testing.assert_array_equal(loss, losses[0])
        assert_same(state, states[0])


def test_dropout_differs_from_step_to_step():
    model = fx.Chain(fx.Dropout(0.5), fx.Dense(8, 1, bias=False, init=fx.ones))
    opt = fx.setup(fx.Descent(0.0), model)
    x = np.ones((16, 8), np.float32)
    losses = fx.train(lambda m, x: m(x).mean(), model, [x] * 4, opt)
    assert len(set(losses.tolist())) == 4


def test_train_fit_and_explicit_gradients_agree():
    batches = in_batches(X, Y)
    by_train, opt = prepared()
    losses = [fx.train(cross, by_train, batches, opt) for _ in range(3)]
    by_hand, opt = prepared()
    hand_losses = []
    for x, y in batches * 3:
        value, grads = fx.withgradient(cross, by_hand, x, y)
        fx.update(opt, by_hand, grads[0])
        hand_losses.append(value.item())
    by_fit = mlp()
    history = fx.fit(by_fit, batches, loss=fx.logitcrossentropy, optimizer=fx.Adam(1e-2), epochs=3, progress=False)
    np.testing.assert_allclose(np.concatenate(losses), hand_losses, atol=1e-6)
    np.testing.assert_allclose(history["loss"], [each.mean() for each in losses], atol=1e-6)
    assert_close(weights(by_train), weights(by_hand))
    assert_close(weights(by_train), weights(by_fit))


def test_losses_are_those_before_each_step():
    model, opt = prepared()
    first = cross(model, *in_batches(X, Y)[0])
    losses = fx.train(cross, model, in_batches(X, Y), opt)
    assert losses.shape == (4,)
    np.testing.assert_allclose(losses[0], first, rtol=1e-6)
    assert isinstance(fx.trainstep(cross, model, (X, Y), opt), float)


# ------------------------------------------------------------------------------------------------- rules


def test_accumulated_gradients_equal_one_large_batch():
    small, opt = prepared(rule=fx.OptimizerChain(fx.AccumGrad(4), fx.Adam(1e-2)))
    fx.train(cross, small, in_batches(X, Y), opt)
    large, opt_large = prepared()
    fx.train(cross, large, [(X, Y)], opt_large)
    assert_close(weights(small), weights(large))
    assert opt.step == 4


def test_ema_follows_the_weights():
    model, opt = prepared(rule=fx.OptimizerChain(fx.Descent(0.1), fx.EMA(0.5)))
    average = weights(model)
    for batch in in_batches(X, Y):
        fx.trainstep(cross, model, batch, opt)
        average = [0.5 * a + 0.5 * w for a, w in zip(average, weights(model), strict=True)]
    assert_close(weights(fx.averaged(opt, model)), average)


def test_groups_have_their_own_rules():
    model, opt = prepared(rule={"layers[0]": fx.Descent(0.0), "**": fx.Descent(0.1)})
    before, gradient = weights(model), fx.gradient(cross, model, X, Y)[0]
    fx.trainstep(cross, model, (X, Y), opt)
    after = weights(model)
    for a, b in zip(before[:2], after[:2], strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(after[2], before[2] - 0.1 * gradient.layers[1].weight, atol=1e-6)


def test_a_schedule_is_read_at_the_step_of_the_optimizer():
    w = [jnp.zeros(())]
    opt = fx.setup(fx.Descent(lambda step: 10.0**step), w)
    fx.train(lambda m, x: m[0] * x, w, [np.float32(1)] * 2, opt)
    fx.train(lambda m, x: m[0] * x, w, [np.float32(1)], opt)
    assert w[0] == -111.0


def test_any_optax_transformation_is_a_rule():
    optax = pytest.importorskip("optax")
    ours, opt = prepared()
    theirs, opt_theirs = prepared(rule=optax.adam(1e-2))
    fx.train(cross, ours, in_batches(X, Y), opt)
    fx.train(cross, theirs, in_batches(X, Y), opt_theirs)
    assert_close(weights(ours), weights(theirs))


# ------------------------------------------------------------------------------------------------- batches


def as_lists(x, y):
    return x.tolist(), y.tolist()


@pytest.mark.parametrize(
    "convert",
    [
        lambda x, y: (jnp.asarray(x), jnp.asarray(y)),
        lambda x, y: (x.astype(np.float64), y.astype(np.uint8)),
        lambda x, y: [x, y],
        as_lists,
        lambda x, y: (x, np.eye(3, dtype=np.int64)[y]),
    ],
    ids=["jax", "float64", "list", "numbers", "onehot"],
)
def test_batches_of_any_array_are_taken(convert):
    model, opt = prepared()
    losses = fx.train(cross, model, [convert(x, y) for x, y in in_batches(X, Y)], opt)
    plain, plain_opt = prepared()
    np.testing.assert_allclose(losses, fx.train(cross, plain, in_batches(X, Y), plain_opt), atol=1e-6)


def test_integer_inputs_reach_the_model_as_integers():
    model = fx.Chain(fx.Embedding(7, 4), fx.Dense(4, 3))
    opt = fx.setup(fx.Adam(1e-2), model)
    tokens = np.arange(8) % 7
    losses = [fx.trainstep(cross, model, (tokens, Y[:8]), opt) for _ in range(30)]
    assert losses[-1] < losses[0]


def test_a_dict_is_one_part():
    def loss(m, batch):
        return cross(m, batch["x"], batch["y"])

    model, opt = prepared()
    losses = fx.train(loss, model, [{"x": x, "y": y} for x, y in in_batches(X, Y)], opt)
    plain, plain_opt = prepared()
    np.testing.assert_array_equal(losses, fx.train(cross, plain, in_batches(X, Y), plain_opt))


def test_an_array_is_one_part_and_a_tuple_several():
    decoder = fx.Chain(fx.Dense(4, 2), fx.Dense(2, 4))
    opt = fx.setup(fx.Adam(1e-2), decoder)
    losses = fx.train(lambda m, x: fx.mse(m(x), x), decoder, [x for x, _ in in_batches(X, Y)] * 10, opt)
    assert losses[-4:].mean() < losses[:4].mean()
    two = fx.Parallel(jnp.add, fx.Dense(3, 3), fx.Dense(1, 3))
    opt = fx.setup(fx.Adam(1e-2), two)
    losses = fx.train(lambda m, a, b, y: fx.logitcrossentropy(m(a, b), y), two, [(X[:, :3], X[:, 3:], Y)] * 30, opt)
    assert losses[-1] < losses[0]


def test_an_auxiliary_result_is_left_alone():
    model, opt = prepared()
    losses = fx.train(lambda m, x, y: (cross(m, x, y), {"note": "kept"}, x), model, in_batches(X, Y), opt)
    plain, plain_opt = prepared()
    np.testing.assert_array_equal(losses, fx.train(cross, plain, in_batches(X, Y), plain_opt))


def test_generators_loaders_and_no_data_at_all():
    expected = None
    for data in (in_batches(X, Y), (batch for batch in in_batches(X, Y)), fx.DataLoader((X, Y), batch_size=8)):
        model, opt = prepared()
        losses = fx.train(cross, model, data, opt)
        expected = losses if expected is None else expected
        np.testing.assert_array_equal(losses, expected)
    before = snapshot(model, opt)
    assert fx.train(cross, model, [], opt).shape == (0,)
    assert_same(snapshot(model, opt), before)
