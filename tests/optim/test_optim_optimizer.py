"""setup, update, adjust, freeze, thaw, averaged, and the pure pieces a compiled step is made of."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fluxion as fx
from fluxion import tree
from fluxion.optim import (
    EMA,
    AccumGrad,
    Adam,
    AdamW,
    ClipGlobalNorm,
    ClipNorm,
    Descent,
    Momentum,
    OptimizerChain,
    RMSProp,
    Rprop,
    WeightDecay,
    adjust,
    averaged,
    freeze,
    schedules,
    setup,
    thaw,
    update,
)


class Linear(tree.Layer):
    def __init__(self, size_in, size_out, seed=0):
        rng = np.random.default_rng(seed)
        self.weight = jnp.asarray(rng.normal(size=(size_in, size_out)), jnp.float32)
        self.bias = jnp.zeros(size_out)
        self.steps = jnp.zeros((), jnp.int32)  # an integer array is no parameter

    def __call__(self, x):
        return x @ self.weight + self.bias[None]


class Net(tree.Layer):
    def __init__(self, count=2):
        self.layers = [Linear(3, 3, seed) for seed in range(count)]

    def __call__(self, x):
        for layer in self.layers:
            x = jnp.tanh(layer(x))
        return x


PATHS = ["layers[0].weight", "layers[0].bias", "layers[1].weight", "layers[1].bias"]
X = np.random.default_rng(3).normal(size=(4, 3)).astype("float32")


def gradient_of(model):
    """The gradient as a model of the same structure."""
    arrays = tree.trainables(model)
    grads = jax.grad(lambda arrays: (tree.with_trainables(model, arrays)(X) ** 2).sum())(arrays)
    return tree.with_trainables(model, grads)


def train(opt, model, steps=1):
    for _ in range(steps):
        update(opt, model, gradient_of(model))


def arrays_of(model):
    return [np.asarray(x) for x in tree.trainables(model)]


def equal(a, b):
    return all((x == y).all() for x, y in zip(a, b, strict=True))


def rest(opt, i):
    """Everything an optimizer remembers of parameter `i`."""
    found = []
    # The sum that AccumGrad keeps belongs to the running window, not to the parameter.
    state = opt.state[0][1:] if "AccumGrad" in repr(opt) else opt.state
    for entry in jax.tree.leaves(state, is_leaf=lambda s: type(s) in (list, dict)):
        if type(entry) is dict:
            found.append(np.asarray(entry[opt.paths[i]]))
        elif type(entry) is list or entry.shape == (len(opt.paths),):
            found.append(np.asarray(entry[i]))
    return found


# ---------------------------------------------------------------------------------------------- the step


def test_update_changes_model_and_optimizer_in_place():
    model = Net()
    first = model.layers[0]
    opt = setup(Descent(0.1), model)
    before, grads = arrays_of(model), gradient_of(model)
    assert update(opt, model, grads) is None
    assert model.layers[0] is first
    assert opt.step == 1 and opt.paths == PATHS
    for old, g, new in zip(before, arrays_of(grads), arrays_of(model), strict=True):
        np.testing.assert_allclose(new, old - 0.1 * g, rtol=1e-6)


def test_a_closure_is_trained():
    w = jnp.array([1.0, 2.0])

    def model(x):
        return (w * x).sum()

    opt = setup(Descent(1.0), model)
    assert opt.paths == ["w"]
    update(opt, model, fx.optim.optimizer.with_trainables(model, [jnp.ones(2)]))
    assert w.tolist() == [0.0, 1.0]


def test_two_parameters_may_share_one_gradient_array():
    """The gradient of a + b is one array twice; neither parameter may be forgotten."""
    model, g = {"a": jnp.zeros(2), "b": jnp.ones(2)}, jnp.ones(2)
    update(setup(Descent(1.0), model), model, {"a": g, "b": g})
    assert model["a"].tolist() == [-1, -1] and model["b"].tolist() == [0, 0]


def test_tied_arrays_move_once():
    shared = jnp.ones(2)
    model = {"a": shared, "b": shared, "c": jnp.ones(2)}
    opt = setup(Momentum(1.0), model)
    assert opt.paths == ["['a']", "['c']"]
    update(opt, model, {"a": jnp.full(2, 3.0), "b": jnp.full(2, 3.0), "c": jnp.ones(2)})
    assert model["a"] is model["b"]
    assert model["a"].tolist() == [-2, -2]


def test_missing_gradients_leave_everything_alone():
    model = [jnp.ones(2), jnp.ones(3)]
    opt = setup(OptimizerChain(AdamW(0.1), EMA(0.5)), model)
    update(opt, model, [jnp.ones(2), jnp.ones(3)])
    before, memory = model[1], rest(opt, 1)
    update(opt, model, [jnp.ones(2), None])
    assert (model[1] == before).all() and equal(rest(opt, 1), memory)
    assert rest(opt, 0)[0] == 2 and rest(opt, 1)[0] == 1  # its own step count stood still


def test_a_gradient_missing_in_one_small_batch_counts_as_zero():
    model = [jnp.zeros(1), jnp.zeros(1), jnp.zeros(1)]
    opt = setup(OptimizerChain(AccumGrad(2), Descent(1.0)), model)
    freeze(opt, "[2]")
    update(opt, model, [jnp.full(1, 4.0), jnp.full(1, 4.0), jnp.full(1, 4.0)])
    update(opt, model, [jnp.full(1, 2.0), None, jnp.full(1, 4.0)])
    assert [x.item() for x in model] == [-3.0, -2.0, 0.0]


def test_apply_is_pure_and_compiles_with_donation():
    model = Net()
    opt = setup(OptimizerChain(ClipGlobalNorm(1.0), Adam(0.01), EMA(0.9)), model)
    reference, reference_opt = Net(), setup(OptimizerChain(ClipGlobalNorm(1.0), Adam(0.01), EMA(0.9)), Net())
    assert opt.signature() == reference_opt.signature() and hash(opt.signature()) == hash(reference_opt.signature())
    traces = []

    def step(params, state, rates):
        traces.append(1)
        grads = jax.grad(lambda p: (tree.with_trainables(model, p)(X) ** 2).sum())(params)
        return opt.apply(params, grads, state, rates)

    compiled = jax.jit(step, donate_argnums=(0, 1))
    params, state = [jnp.copy(x) for x in tree.trainables(model)], opt.snapshot().state
    for _ in range(3):
        params, state = compiled(params, state, opt.rates())
        train(reference_opt, reference)
    assert len(traces) == 1
    for a, b in zip(params, arrays_of(reference), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_state_shares_no_buffer_with_the_parameters():
    model = [jnp.ones(2), jnp.ones(2)]
    opt = setup(OptimizerChain(optax.contrib.dog(), EMA()), model)  # both remember the first parameters
    leaves = [leaf.unsafe_buffer_pointer() for leaf in [*jax.tree.leaves(opt.state), *model]]
    assert len(set(leaves)) == len(leaves)


def test_changing_the_learning_rate_compiles_nothing():
    model = [jnp.ones(2)]
    opt = setup(Adam(schedules.Exponential(0.1, 0.9)), model)
    signature = opt.signature()
    compiled = fx.optim.optimizer._compiled(signature)
    update(opt, model, [jnp.ones(2)])
    programs = compiled._cache_size()  # other tests may have had the same plan
    for rate in (None, 0.5, schedules.Constant(0.1)):
        if rate is not None:
            adjust(opt, rate)
        update(opt, model, [jnp.ones(2)])
        update(opt, model, [jnp.ones(2)])
    assert opt.signature() == signature
    assert compiled._cache_size() == programs


def test_dtypes_are_kept(x64):
    model = [jnp.ones(2, d) for d in ("float64", "float32", "bfloat16", "float16", "complex128", "complex64")]
    opt = setup(OptimizerChain(ClipGlobalNorm(1.0), WeightDecay(0.1), Adam(0.1), EMA()), model)
    names = [x.dtype for x in model]
    outline = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), opt.state)
    for _ in range(2):
        update(opt, model, [jnp.ones(2, d) for d in names])
    assert [x.dtype for x in model] == names
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), opt.state) == outline
    assert [x.dtype for x in averaged(opt, model)] == names
    assert all(abs(x[0]) < 1 for x in model)


# -------------------------------------------------------------------------------------- freezing and thawing

FREEZABLE = [
    Adam(0.01),
    Momentum(0.01),
    AdamW(0.01, weight_decay=0.1),
    OptimizerChain(WeightDecay(0.1), Adam(0.01), EMA(0.9)),
    OptimizerChain(Adam(0.01), WeightDecay(0.1)),
    Rprop(0.01),
    OptimizerChain(AccumGrad(2), Adam(0.01)),
    optax.adam(0.01),
    optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.01)),
    optax.adafactor(0.01, min_dim_size_to_factor=2),
]


@pytest.mark.parametrize("rule", FREEZABLE, ids=lambda rule: repr(rule)[:40])
def test_frozen_parameters_and_their_memory_are_bit_equal(rule):
    model = Net()
    opt = setup(rule, model)
    train(opt, model, 3)
    freeze(opt, "layers[0]")
    assert opt.active == [False, False, True, True]
    before = arrays_of(model)
    memory = [m for i in (0, 1) for m in rest(opt, i)]
    train(opt, model, 4)
    after = arrays_of(model)
    assert equal(before[:2], after[:2])
    assert not any((a == b).all() for a, b in zip(before[2:], after[2:], strict=True))
    assert equal(memory, [m for i in (0, 1) for m in rest(opt, i)])
    thaw(opt)
    assert opt.active == [True] * 4
    train(opt, model, 2)
    assert not any((a == b).all() for a, b in zip(after, arrays_of(model), strict=True))


@pytest.mark.parametrize("rule", FREEZABLE[:6], ids=lambda rule: repr(rule)[:40])
def test_thawing_resumes_as_if_the_steps_had_not_been(rule):
    """Step counts are per array: a layer thawed late gets Adam's bias correction from its own first step."""
    late, fresh = [jnp.ones(2), jnp.ones(2)], [jnp.ones(2), jnp.ones(2)]
    opt, reference = setup(rule, late), setup(rule, fresh)
    freeze(opt, "[1]")
    for _ in range(5):
        update(opt, late, [jnp.ones(2), jnp.ones(2)])
    thaw(opt, "[1]")
    for _ in range(3):
        update(opt, late, [jnp.ones(2), jnp.ones(2)])
        update(reference, fresh, [jnp.ones(2), jnp.ones(2)])
    assert (late[1] == fresh[1]).all()


def test_a_state_from_elsewhere_brings_its_own_counts():
    """Restored into a fresh optimizer, arrays that were stepped differently often stay apart."""
    model, grads = [jnp.ones(2), jnp.ones(2)], [jnp.ones(2), jnp.full(2, 3.0)]
    opt = setup(Adam(0.1), model)
    freeze(opt, "[1]")
    for _ in range(3):
        update(opt, model, grads)
    thaw(opt)
    update(opt, model, grads)
    freeze(opt, "[0]")
    fresh, weights = setup(Adam(0.1), model), list(model)
    fresh.restore(opt.snapshot())
    freeze(fresh, "[0]")
    assert opt.state[0][0].count.tolist() == [4, 1]
    results = []
    for each in (opt, fresh):
        tree.set_trainables(model, weights)
        update(each, model, grads)
        thaw(each)
        update(each, model, grads)
        update(each, model, grads)
        assert each.state[0][0].count.tolist() == [6, 4]
        results.append(arrays_of(model))
    assert equal(*results)


def test_global_norm_is_that_of_the_trained_arrays():
    model = [jnp.zeros(1), jnp.zeros(1)]
    opt = setup(OptimizerChain(ClipGlobalNorm(1.0), Descent(1.0)), model)
    freeze(opt, "[0]")
    update(opt, model, [jnp.full(1, 100.0), jnp.full(1, 3.0)])
    assert model[1].item() == pytest.approx(-1.0, rel=1e-5)


def test_selectors_of_freeze():
    model = Net()
    opt = setup(Adam(), model)
    freeze(opt, "**.bias")
    assert opt.active == [True, False, True, False]
    freeze(opt, model.layers[0])
    assert opt.active == [False, False, True, False]
    thaw(opt, ["layers[0].weight", model.layers[1].bias])
    assert opt.active == [True, False, True, True]
    freeze(opt, model)
    assert not any(opt.active)
    before = arrays_of(model)
    train(opt, model)
    assert equal(before, arrays_of(model))
    with pytest.raises(fx.ArgumentError, match=r"Did you mean 'layers\[0\].weight'"):
        freeze(opt, "layers[0].wait")
    with pytest.raises(fx.ArgumentError, match="not part of the model"):
        freeze(opt, Linear(1, 1))


# --------------------------------------------------------------------------------------------------- groups


def test_groups_first_match_wins():
    model, alone = Net(), Net()
    opt = setup({"layers[0]": Adam(1e-3), "**.bias": Descent(0.1), "**": Momentum(0.01)}, model)
    assert opt.learning_rate == {"layers[0]": 1e-3, "**": 0.01, "**.bias": 0.1}
    np.testing.assert_allclose(opt.rates(), [1e-3, 0.1, 0.01])  # one for each group
    grads = gradient_of(model)
    update(opt, model, grads)
    after = arrays_of(model)
    for rule, numbers in ((Adam(1e-3), (0, 1)), (Descent(0.1), (3,)), (Momentum(0.01), (2,))):
        one = tree.with_trainables(alone, tree.trainables(alone))
        update(setup(rule, one), one, grads)
        for i in numbers:
            np.testing.assert_allclose(after[i], arrays_of(one)[i], rtol=1e-6)


def test_groups_by_layer_and_by_tuple():
    model = Net()
    opt = setup({model.layers[1]: Descent(0.5), ("layers[0].bias", "layers[0].weight"): Descent(0.25)}, model)
    assert opt.learning_rate == {"layers[0].bias, layers[0].weight": 0.25, "layers[1]": 0.5}


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"layers[0]": Adam()}, r"no group covers layers\[1\].weight, layers\[1\].bias. Add a last group"),
        ({"**": Adam(), "layers[0]": Descent()}, r"the groups before 'layers\[0\]' leave it nothing"),
        ({"layer[0]": Adam(), "**": Adam()}, r"Did you mean 'layers\[0\]'"),
        ({}, "empty dict"),
        ({"**": 0.1}, "setup: expected a rule such as Adam"),
        (Adam, r"Write Adam\(\)"),
        (ClipNorm(1.0), r"setup: expected a rule with a learning rate, got ClipNorm\(1.0\), which only changes"),
        (OptimizerChain(), "rule with a learning rate"),
        (OptimizerChain(AccumGrad(2), EMA()), "rule with a learning rate"),
    ],
)
def test_bad_setups(rules, message):
    with pytest.raises(fx.ArgumentError, match=message):
        setup(rules, Net())


def test_setup_of_nothing_and_swapped():
    with pytest.raises(fx.ArgumentError, match="model with parameters"):
        setup(Adam(), [jnp.arange(3)])
    with pytest.raises(fx.ArgumentError, match=r"expected setup\(rule, model\), got Adam\(0.001\).*Swap"):
        setup(Net(), Adam())


# -------------------------------------------------------------------------------------- learning rates, adjust


def test_rates_by_group_and_by_array_are_the_same_step():
    model = Net()
    opt = setup({"layers[0]": Adam(0.1), "**": Momentum(0.2)}, model)
    params, grads = tree.trainables(model), tree.trainables(gradient_of(model))
    step = jax.jit(opt.apply)
    by_group, state = step(params, grads, opt.state, opt.rates())
    by_array, other = step(params, grads, opt.state, np.array([0.1, 0.1, 0.2, 0.2]))
    assert equal(by_group, by_array) and equal(jax.tree.leaves(state), jax.tree.leaves(other))


def test_schedules_follow_the_step():
    model = [jnp.zeros(1)]
    opt = setup(Descent(schedules.Step(1.0, 0.5, 2)), model)
    seen = []
    for _ in range(5):
        seen.append(opt.learning_rate)
        update(opt, model, [-jnp.ones(1)])
    assert seen == [1.0, 1.0, 0.5, 0.5, 0.25]
    assert model[0].item() == 3.25
    adjust(opt, optax.exponential_decay(1.0, 5, 0.5))
    assert opt.learning_rate == pytest.approx(0.5)


def test_a_schedule_must_give_a_learning_rate():
    opt = setup(Descent(lambda step: 1.0 - step), [jnp.zeros(1)])
    opt.step = 2
    with pytest.raises(fx.ArgumentError, match=r"0 or greater, from .* at step 2, got -1.0"):
        opt.rates()


def test_adjust_at_a_selector():
    model = Net()
    opt = setup({"layers[0]": Adam(0.1), "**": Descent(0.2)}, model)
    adjust(opt, learning_rate=0.5, at="**.bias")
    assert opt.learning_rate == {"layers[0]": 0.1, "**.bias": 0.5, "**": 0.2}
    np.testing.assert_allclose(opt.rates(), [0.1, 0.5, 0.2, 0.5])
    assert "learning_rate={'layers[0]': 0.1, '**.bias': 0.5, '**': 0.2}" in repr(opt)
    adjust(opt, schedules.Constant(0.3), at=model.layers[1])
    assert opt.learning_rate == {"layers[0]": 0.1, "**.bias": 0.5, "layers[1]": 0.3}
    adjust(opt, 0.7)
    assert opt.learning_rate == {"layers[0]": 0.7, "**": 0.7}
    assert repr(opt).startswith("Optimizer({'layers[0]': Adam(0.7), '**': Descent(0.7)}, step=0")


def test_adjust_on_one_group_names_the_rest():
    opt = setup(Adam(0.1), [jnp.zeros(1), jnp.zeros(1)])
    assert opt.learning_rate == 0.1
    adjust(opt, 0.0, at="[0]")
    assert opt.learning_rate == {"[0]": 0.0, "**": 0.1}
    adjust(opt, 0.2)
    assert opt.learning_rate == 0.2


def test_adjusted_options_act_and_memory_stays():
    model, reference = [jnp.zeros(1)], [jnp.zeros(1)]
    opt, other = setup(OptimizerChain(ClipNorm(1.0), Momentum(1.0, rho=0.5)), model), setup(Momentum(1.0), reference)
    update(opt, model, [jnp.ones(1)])
    adjust(opt, rho=0.9)
    update(opt, model, [jnp.zeros(1)])
    for g in (1.0, 0.0):
        update(other, reference, [jnp.full(1, g)])
    np.testing.assert_allclose(model[0], reference[0], rtol=1e-5)
    assert "Momentum(1.0)" in repr(opt)  # 0.9 is the default
    adjust(opt, 0.5, rho=0.8, max_norm=2.0)
    assert repr(opt).startswith("Optimizer(OptimizerChain(ClipNorm(2.0), Momentum(0.5, rho=0.8)), step=2")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"betas": (0.8, 0.9)}, r"options learning_rate, beta, eps of Adam\(0.001\), got 'betas'. Did you mean 'beta'"),
        ({"beta": (0.8, 1.0)}, "beta to be two numbers"),
        ({"learning_rate": -1.0}, "adjust: expected learning_rate to be"),
        ({}, "expected a learning rate or an option"),
        ({"beta": (0.8, 0.9), "at": "[0]"}, "at= goes with the learning rate alone, got beta"),
        ({"learning_rate": 0.1, "at": "nope"}, "selects none"),
    ],
)  # fmt: skip
def test_bad_adjustments_change_nothing(change, message):
    opt = setup(Adam(), [jnp.zeros(1)])
    before = opt.signature()
    with pytest.raises(fx.ArgumentError, match=message):
        adjust(opt, **change)
    assert opt.signature() == before and opt.learning_rate == 1e-3


def test_adjust_in_chains():
    opt = setup(OptimizerChain(ClipNorm(1.0), ClipGlobalNorm(1.0), RMSProp()), [jnp.zeros(1)])
    with pytest.raises(fx.ArgumentError, match="expected one rule of the chain to have max_norm"):
        adjust(opt, max_norm=3.0)
    with pytest.raises(fx.ArgumentError, match=r"changes what the rule remembers\. Call setup"):
        adjust(opt, centered=True)


def test_bare_optax_keeps_its_learning_rate():
    opt = setup(optax.adam(1e-3), [jnp.zeros(1)])
    for ask in (lambda: opt.learning_rate, lambda: adjust(opt, 0.1)):
        with pytest.raises(fx.StateError, match=r"an optax transformation keeps its learning rate.*OptimizerChain\("):
            ask()
    assert repr(opt) == "Optimizer(<GradientTransformationExtraArgs>, step=0, 1 arrays, 1 parameters)"
    mixed = setup({"[0]": optax.adam(1e-3), "[1]": Descent(0.1)}, [jnp.zeros(1), jnp.zeros(1)])
    assert mixed.learning_rate == 0.1
    with_ours = setup(OptimizerChain(optax.scale_by_adam(), Descent(0.1)), [jnp.zeros(1)])
    assert with_ours.learning_rate == 0.1


# ---------------------------------------------------------------------------------------------- what goes wrong


def test_wrong_optimizer():
    for call in (
        lambda: update(Adam(), Net(), Net()),
        lambda: adjust(Adam(), 0.1),
        lambda: freeze(Adam(), "**"),
        lambda: thaw(Adam()),
        lambda: averaged(Adam(), Net()),
    ):
        with pytest.raises(fx.ArgumentError, match=r"got a rule. Call opt = setup\(rule, model\) once first"):
            call()
    with pytest.raises(fx.ArgumentError, match="of type Net"):
        update(Net(), Adam(), Net())


def test_wrong_gradients():
    model = Net()
    opt, before = setup(Adam(), model), arrays_of(model)
    with pytest.raises(fx.ArgumentError, match=r"got a tuple of 1.*Write update\(opt, model, grads\[0\]\)"):
        update(opt, model, (gradient_of(model),))
    with pytest.raises(fx.ArgumentError, match=r"whose paths are layers\[0\].weight.*got one with \[0\], \[1\]"):
        update(opt, model, [jnp.ones(2), jnp.ones(2)])
    bad = gradient_of(model)
    bad.layers[1].bias = jnp.ones((3, 1))
    with pytest.raises(fx.ShapeError, match=r"layers\[1\].bias: expected a gradient of .* \(3,\), got \(3, 1\)"):
        update(opt, model, bad)
    assert opt.step == 0 and equal(before, arrays_of(model))
    pair = (jnp.ones(2), jnp.ones(2))  # a model may be a tuple
    holder = [pair]
    update(setup(Descent(1.0), holder), holder, [(jnp.ones(2), jnp.ones(2))])
    assert holder[0][1].tolist() == [0, 0]


def test_another_model():
    opt = setup(Adam(), Net())
    with pytest.raises(fx.StateError, match=r"layers\[2\].weight is new, layers\[2\].bias is new. Call opt = setup"):
        update(opt, Net(3), Net(3))
    changed = Net()
    changed.layers[0].weight = jnp.ones((4, 3))
    changed.layers[1].bias = None
    with pytest.raises(
        fx.StateError, match=r"bias is gone, layers\[0\].weight was float32\(3, 3\) and is float32\(4, 3\)"
    ):
        update(opt, changed, changed)
    half = tree.bf16(Net())
    with pytest.raises(fx.StateError, match=r"was float32.* and is bfloat16"):
        update(opt, half, half)


def test_update_inside_jit_is_refused():
    model = [jnp.ones(2)]
    opt = setup(Adam(), model)
    with pytest.raises(fx.StateError, match=r"cannot be compiled; use trainstep, or opt\.apply"):
        jax.jit(lambda g: update(opt, model, [g]))(jnp.ones(2))


# ------------------------------------------------------------------------------------------ snapshots, averages


def test_snapshot_and_restore():
    model = Net()
    opt = setup(OptimizerChain(AccumGrad(2), Adam(0.01), EMA(0.9)), model)
    train(opt, model, 3)
    taken, weights = opt.snapshot(), tree.trainables(model)
    train(opt, model, 4)
    end = arrays_of(model)
    for _ in range(2):
        opt.restore(taken)
        assert opt.step == 3
        tree.set_trainables(model, weights)
        train(opt, model, 4)
        assert equal(arrays_of(model), end)
    with pytest.raises(fx.StateError, match="snapshot of this optimizer"):
        setup(Adam(), model).restore(taken)


def test_averaged_is_a_copy():
    model = Net()
    opt = setup({"layers[0]": OptimizerChain(Descent(0.1), EMA(0.5)), "**": Descent(0.1)}, model)
    start = arrays_of(model)
    train(opt, model)
    mean, now = averaged(opt, model), arrays_of(model)
    assert type(mean) is Net and mean is not model
    np.testing.assert_allclose(mean.layers[0].weight, (start[0] + now[0]) / 2, rtol=1e-6)
    assert (mean.layers[1].weight == now[2]).all()  # no average kept for it
    assert equal(arrays_of(model), now)
    with pytest.raises(fx.StateError, match="expected a chain with an EMA"):
        averaged(setup(Adam(), model), model)


def test_printed_form():
    opt = setup(Adam(), Net())
    assert repr(opt) == "Optimizer(Adam(0.001), step=0, 4 arrays, 24 parameters)"
    freeze(opt, "layers[0].bias")
    opt.step = 7
    assert repr(opt) == "Optimizer(Adam(0.001), step=7, 4 arrays, 24 parameters, frozen: layers[0].bias)"
