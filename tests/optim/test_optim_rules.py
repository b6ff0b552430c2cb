"""Every rule against torch, step by step on a small network; what only optax has, against optax."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fluxion as fx
from fluxion import optim
from fluxion.optim import (
    EMA,
    AccumGrad,
    AdaBelief,
    AdaDelta,
    AdaGrad,
    Adam,
    AdaMax,
    AdamW,
    AMSGrad,
    ClipGlobalNorm,
    ClipGrad,
    ClipNorm,
    Descent,
    Lion,
    Momentum,
    NAdam,
    Nesterov,
    OAdam,
    OptimizerChain,
    RAdam,
    RMSProp,
    Rprop,
    SignDecay,
    WeightDecay,
    setup,
    update,
)

STEPS = 20
SHAPES = [(5, 8), (8,), (8, 3), (3,)]


def weights(dtype):
    rng = np.random.default_rng(1)
    return [rng.normal(scale=0.4, size=shape).astype(dtype) for shape in SHAPES]


def batches(dtype, count=STEPS):
    rng = np.random.default_rng(2)
    return [(rng.normal(size=(16, 5)).astype(dtype), rng.normal(size=(16, 3)).astype(dtype)) for _ in range(count)]


def loss(model, x, y):
    w1, b1, w2, b2 = model
    return ((jnp.tanh(x @ w1 + b1[None]) @ w2 + b2[None] - y) ** 2).mean()


gradient = jax.jit(jax.grad(loss))


def ours(rule, dtype, steps=STEPS):
    model = [jnp.asarray(w) for w in weights(dtype)]
    opt = setup(rule, model)
    for x, y in batches(dtype, steps):
        update(opt, model, gradient(model, x, y))
    return model


def theirs(make, dtype, steps=STEPS, before_step=None):
    """The same training in torch: `make(params)` gives the optimizer."""
    torch = pytest.importorskip("torch", reason="torch is the outside reference")
    params = [torch.tensor(w, requires_grad=True) for w in weights(dtype)]
    opt = make(torch, params)
    for x, y in batches(dtype, steps):
        w1, b1, w2, b2 = params
        opt.zero_grad()
        ((torch.tanh(torch.tensor(x) @ w1 + b1) @ w2 + b2 - torch.tensor(y)) ** 2).mean().backward()
        if before_step is not None:
            before_step(torch, params)
        opt.step()
    return [p.detach().numpy() for p in params]


def optaxs(tx, dtype, steps=STEPS):
    model = [jnp.asarray(w) for w in weights(dtype)]
    state = tx.init(model)

    @jax.jit
    def step(model, state, x, y):
        updates, state = tx.update(jax.grad(loss)(model, x, y), state, model)
        return optax.apply_updates(model, updates), state

    for x, y in batches(dtype, steps):
        model, state = step(model, state, x, y)
    return model


def assert_close(got, expected, tolerance):
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


AGAINST_TORCH = {
    "Descent": (Descent(0.1), lambda t, p: t.optim.SGD(p, lr=0.1)),
    "Momentum": (Momentum(0.05, rho=0.8), lambda t, p: t.optim.SGD(p, lr=0.05, momentum=0.8)),
    "Nesterov": (Nesterov(0.05, rho=0.8), lambda t, p: t.optim.SGD(p, lr=0.05, momentum=0.8, nesterov=True)),
    "RMSProp": (RMSProp(0.002), lambda t, p: t.optim.RMSprop(p, lr=0.002, alpha=0.9)),
    "RMSProp centered": (
        RMSProp(0.002, rho=0.95, centered=True),
        lambda t, p: t.optim.RMSprop(p, lr=0.002, alpha=0.95, centered=True),
    ),
    "Adam": (Adam(0.003, beta=(0.8, 0.99)), lambda t, p: t.optim.Adam(p, lr=0.003, betas=(0.8, 0.99))),
    "RAdam": (RAdam(0.003), lambda t, p: t.optim.RAdam(p, lr=0.003)),
    "RAdam, short": (RAdam(0.003, beta=(0.9, 0.6)), lambda t, p: t.optim.RAdam(p, lr=0.003, betas=(0.9, 0.6))),
    "AdaMax": (AdaMax(0.003), lambda t, p: t.optim.Adamax(p, lr=0.003)),
    "AdaGrad": (AdaGrad(0.02), lambda t, p: t.optim.Adagrad(p, lr=0.02, eps=1e-8)),
    "AdaDelta": (AdaDelta(0.9, eps=1e-6), lambda t, p: t.optim.Adadelta(p, lr=1.0, rho=0.9, eps=1e-6)),
    "AMSGrad": (AMSGrad(0.003), lambda t, p: t.optim.Adam(p, lr=0.003, amsgrad=True)),
    "NAdam": (NAdam(0.003), lambda t, p: t.optim.NAdam(p, lr=0.003)),
    "AdamW": (AdamW(0.003, weight_decay=0.1), lambda t, p: t.optim.AdamW(p, lr=0.003, weight_decay=0.1)),
    "Rprop": (Rprop(0.001), lambda t, p: t.optim.Rprop(p, lr=0.001)),
    "Rprop, limits": (
        Rprop(0.001, factors=(0.4, 1.5), limits=(5e-4, 2e-3)),
        lambda t, p: t.optim.Rprop(p, lr=0.001, etas=(0.4, 1.5), step_sizes=(5e-4, 2e-3)),
    ),
    "WeightDecay, Adam": (
        OptimizerChain(WeightDecay(0.1), Adam(0.003)),
        lambda t, p: t.optim.Adam(p, lr=0.003, weight_decay=0.1),
    ),
    "WeightDecay, Nesterov": (
        OptimizerChain(WeightDecay(0.1), Nesterov(0.05)),
        lambda t, p: t.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.1),
    ),
}


@pytest.mark.parametrize("name", AGAINST_TORCH)
def test_torch_float64(name, x64):
    rule, make = AGAINST_TORCH[name]
    assert_close(ours(rule, "float64"), theirs(make, "float64"), 1e-10)


@pytest.mark.parametrize("name", [name for name in AGAINST_TORCH if "," not in name])
def test_torch_float32(name):
    rule, make = AGAINST_TORCH[name]
    assert_close(ours(rule, "float32"), theirs(make, "float32"), 1e-6)


@pytest.mark.parametrize(
    ("rule", "before_step"),
    [
        (OptimizerChain(ClipGrad(0.05), Descent(0.1)), lambda t, p: t.nn.utils.clip_grad_value_(p, 0.05)),
        (OptimizerChain(ClipGlobalNorm(0.2), Descent(0.1)), lambda t, p: t.nn.utils.clip_grad_norm_(p, 0.2)),
        (
            OptimizerChain(ClipNorm(0.1), Descent(0.1)),
            lambda t, p: [t.nn.utils.clip_grad_norm_([x], 0.1) for x in p],
        ),
    ],
    ids=["ClipGrad", "ClipGlobalNorm", "ClipNorm"],
)
def test_clipping_as_torch(rule, before_step, x64):
    expected = theirs(lambda t, p: t.optim.SGD(p, lr=0.1), "float64", 5, before_step)
    assert_close(ours(rule, "float64", 5), expected, 1e-12)
    assert abs(ours(Descent(0.1), "float64", 5)[0] - expected[0]).max() > 1e-3  # it did clip


@pytest.mark.parametrize(
    ("rule", "tx"),
    [
        (Lion(0.001), optax.lion(0.001, weight_decay=0)),
        (AdaBelief(0.003), optax.adabelief(0.003)),
        (OAdam(0.003), optax.optimistic_adam_v2(0.003, b1=0.5, b2=0.9, nesterov=False)),
        (OptimizerChain(Lion(0.001), WeightDecay(0.001 * 0.3)), optax.lion(0.001, weight_decay=0.3)),
    ],
    ids=["Lion", "AdaBelief", "OAdam", "Lion, decoupled decay"],
)
def test_optax(rule, tx, x64):
    assert_close(ours(rule, "float64"), optaxs(tx, "float64"), 1e-13)


@pytest.mark.parametrize(
    "make",
    [
        lambda: optax.adam(0.003),
        lambda: optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(0.1, momentum=0.9)),
        lambda: optax.adafactor(0.01, min_dim_size_to_factor=4),
        lambda: optax.MultiSteps(optax.adam(0.003), 3),
        lambda: optax.adam(optax.linear_schedule(0.1, 0.0, 10)),
    ],
    ids=["adam", "chain", "adafactor", "MultiSteps", "schedule"],
)
def test_optax_transformations_as_they_are(make, x64):
    assert_close(ours(make(), "float64", 7), optaxs(make(), "float64", 7), 1e-13)


def test_sign_decay_is_the_gradient_of_the_l1_penalty():
    model = [jnp.array([2.0, -3.0, 0.0])]
    update(setup(OptimizerChain(SignDecay(0.5), Descent(1.0)), model), model, [jnp.zeros(3)])
    np.testing.assert_allclose(model[0], [1.5, -2.5, 0.0])


def test_place_in_the_chain():
    """Before the learning rate decay is scaled by it, behind it is not; optax sees the same either way."""

    def one_step(*rules):
        model = [jnp.array([2.0])]
        update(setup(OptimizerChain(*rules), model), model, [jnp.array([10.0])])
        return model[0].item()

    assert one_step(WeightDecay(0.5), Descent(0.1)) == pytest.approx(2 - 0.1 * (10 + 0.5 * 2))
    assert one_step(Descent(0.1), WeightDecay(0.5)) == pytest.approx(2 - 0.1 * 10 - 0.5 * 2)
    assert one_step(Descent(0.1), SignDecay(0.5)) == pytest.approx(2 - 0.1 * 10 - 0.5)
    assert one_step(Descent(0.1), ClipGrad(0.25)) == pytest.approx(2 - 0.25)
    assert one_step(ClipGrad(0.25), Descent(0.1)) == pytest.approx(2 - 0.1 * 0.25)
    assert one_step(optax.clip(0.25), Descent(0.1)) == pytest.approx(2 - 0.1 * 0.25)
    assert one_step(optax.scale(3.0), Descent(0.1), optax.clip(0.25)) == pytest.approx(2 - 0.25)
    # behind the learning rate optax sees what is to be added: here it keeps the parameter from falling below 0
    assert one_step(Descent(1.0), optax.keep_params_nonnegative()) == 0
    # optax makes the step, and what it gives is added; ours behind it still decays
    assert one_step(WeightDecay(0.5), optax.sgd(0.1)) == pytest.approx(2 - 0.1 * (10 + 0.5 * 2))
    assert one_step(optax.sgd(0.1), WeightDecay(0.5)) == pytest.approx(2 - 0.1 * 10 - 0.5 * 2)
    assert one_step(optax.identity(), WeightDecay(0.5), optax.scale(-0.1)) == pytest.approx(2 - 0.1 * (10 + 0.5 * 2))
    # chains within chains are one chain
    assert one_step(OptimizerChain(ClipGrad(4.0), OptimizerChain(WeightDecay(0.5))), Descent(0.1)) == pytest.approx(1.5)


@pytest.mark.parametrize("rule", [Adam(0.003), Descent(0.1)], ids=repr)
def test_accumulated_small_batches_are_one_large_batch(rule, x64):
    model = [jnp.asarray(w) for w in weights("float64")]
    opt = setup(OptimizerChain(AccumGrad(4), rule), model)
    large = [jnp.asarray(w) for w in weights("float64")]
    reference = setup(rule, large)
    for x, y in batches("float64", 3):
        before = list(model)
        inner = jax.tree.leaves(opt.state[0][1])
        for part in range(4):
            update(opt, model, gradient(model, x[part * 4 : part * 4 + 4], y[part * 4 : part * 4 + 4]))
            if part < 3:
                assert all((a == b).all() for a, b in zip(model, before, strict=True))
                assert all((a == b).all() for a, b in zip(jax.tree.leaves(opt.state[0][1]), inner, strict=True))
        update(reference, large, gradient(large, x, y))
        assert_close(model, large, 1e-15)


def test_accumulation_and_schedule_count_moves():
    model = [jnp.zeros(1)]
    opt = setup(OptimizerChain(AccumGrad(2), Descent(lambda step: 10.0**-step)), model)
    seen = []
    for _ in range(4):
        seen.append(opt.learning_rate)
        update(opt, model, [-jnp.ones(1)])
    assert seen == [1.0, 1.0, 0.1, 0.1]
    assert model[0].item() == pytest.approx(1.1)


def test_average_as_torch(x64):
    torch = pytest.importorskip("torch", reason="torch is the outside reference")
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    model = [jnp.asarray(w) for w in weights("float64")]
    opt = setup(OptimizerChain(EMA(0.8), Descent(0.1)), model)
    reference = torch.nn.ParameterList([torch.tensor(w) for w in weights("float64")])
    average = AveragedModel(reference, multi_avg_fn=get_ema_multi_avg_fn(0.8))
    average.update_parameters(reference)
    for x, y in batches("float64", 6):
        update(opt, model, gradient(model, x, y))
        with torch.no_grad():
            for p, ours_now in zip(reference, model, strict=True):
                p.copy_(torch.tensor(np.asarray(ours_now)))
        average.update_parameters(reference)
    mean = optim.averaged(opt, model)
    assert_close(mean, [p.detach().numpy() for p in average.module], 1e-14)
    assert_close(model, ours(Descent(0.1), "float64", 6), 0)  # the steps themselves are as without
    assert abs(mean[0] - model[0]).max() > 1e-4


def test_average_with_accumulation_follows_the_moves_only():
    model = [jnp.zeros(1)]
    opt = setup(OptimizerChain(AccumGrad(2), Descent(1.0), EMA(0.5)), model)
    means = []
    for _ in range(4):
        update(opt, model, [-jnp.ones(1)])
        means.append(optim.averaged(opt, model)[0].item())
    assert means == [0.0, 0.5, 0.5, 1.25]


@pytest.mark.parametrize(
    ("rule", "dtype"),
    [
        (Adam(0.01), "float16"),
        (Adam(0.01), "bfloat16"),
        (OptimizerChain(AccumGrad(1), RMSProp(0.01), EMA()), "bfloat16"),
    ],
    ids=str,
)
def test_half_precision(rule, dtype):
    """eps = 1e-8 and beta = 0.999 do not exist in half precision: a step is float32's, rounded once."""
    model = [jnp.linspace(0.5, 2, 7).astype(dtype)]
    exact = [model[0].astype("float32")]
    opt, reference = setup(rule, model), setup(rule, exact)
    for _ in range(10):
        grads = [model[0] * 1e-4]
        exact[0] = model[0].astype("float32")
        update(opt, model, grads)
        update(reference, exact, [grads[0].astype("float32")])
        assert model[0].dtype == jnp.dtype(dtype)
        assert (model[0] == exact[0].astype(dtype)).all()
    assert {leaf.dtype.name for leaf in jax.tree.leaves(opt.state)} <= {"float32", "int32"}


@pytest.mark.parametrize(
    ("rule", "make"),
    [
        (Adam(0.1), lambda t, p: t.optim.Adam(p, lr=0.1)),
        (Momentum(0.1), lambda t, p: t.optim.SGD(p, lr=0.1, momentum=0.9)),
        (AdaGrad(0.1), lambda t, p: t.optim.Adagrad(p, lr=0.1, eps=1e-8)),
    ],
    ids=["Adam", "Momentum", "AdaGrad"],
)
def test_complex_parameters_as_torch(rule, make, x64):
    torch = pytest.importorskip("torch", reason="torch is the outside reference")
    start = np.array([1 + 2j, -0.5j, 3.0])
    target = np.array([0.5 - 1j, 1j, 2 + 2j])
    model = [jnp.asarray(start)]
    opt = setup(rule, model)
    z = torch.tensor(start, requires_grad=True)
    reference = make(torch, [z])
    for _ in range(10):
        update(opt, model, jax.grad(lambda m: (jnp.abs(m[0] - target) ** 3).sum())(model))
        reference.zero_grad()
        ((z - torch.tensor(target)).abs() ** 3).sum().backward()
        reference.step()
    np.testing.assert_allclose(model[0], z.detach().numpy(), atol=1e-12)


@pytest.mark.parametrize("rule", [AdaGrad(0.1, 0.01, True), RMSProp(0.1, 0.8, 0.01, False, True),
                                  RMSProp(0.1, 0.8, 0.01, True, True)])  # fmt: skip
def test_epsilon_may_stand_in_the_root(x64, rule):
    """As Keras writes these: `g / sqrt(s + eps)`."""
    model, expected, mean, square = [jnp.ones(3)], np.ones(3), np.zeros(3), np.zeros(3)
    opt = setup(rule, model)
    for gradient in np.random.default_rng(0).normal(size=(6, 3)):
        keep, new = (1.0, 1.0) if isinstance(rule, AdaGrad) else (0.8, 0.2)
        square, mean = keep * square + new * gradient**2, keep * mean + new * gradient
        centered = getattr(rule, "centered", False)
        expected = expected - 0.1 * gradient / np.sqrt(square - centered * mean**2 + 0.01)
        update(opt, model, [jnp.asarray(gradient)])
        np.testing.assert_allclose(model[0], expected, rtol=1e-12)


@pytest.mark.parametrize("rule", [AMSGrad(), RAdam(), NAdam(), Rprop(0.0), RMSProp(centered=True), Adam(beta=(0, 0))])
def test_zero_gradients_are_harmless(rule):
    model = [jnp.ones(3)]
    opt = setup(rule, model)
    for _ in range(8):
        update(opt, model, [jnp.zeros(3)])
    assert model[0].tolist() == [1, 1, 1]


@pytest.mark.parametrize("rule", [ClipNorm(1.0), ClipGlobalNorm(1.0), ClipGrad(1.0)], ids=repr)
def test_clipping_never_hides_what_is_not_finite(rule):
    model = [jnp.ones(2), jnp.ones(2)]
    bad = jnp.array([1.0, jnp.nan])
    update(setup(OptimizerChain(rule, Descent(0.1)), model), model, [bad, jnp.ones(2)])
    assert jnp.isnan(model[0][1])
    huge = [jnp.full(2, 1e30), jnp.ones(2)]  # the square overflows: without a check every step would silently be 0
    model = [jnp.ones(2), jnp.ones(2)]
    update(setup(OptimizerChain(rule, Descent(0.1)), model), model, huge)
    assert isinstance(rule, ClipGrad) or jnp.isnan(model[0]).all()


def test_rprop_scales_with_the_learning_rate():
    def train(rate_later):
        model = [jnp.array([100.0])]
        opt = setup(Rprop(0.1), model)
        for step in range(6):
            if step == 3:
                optim.adjust(opt, rate_later)
            before = model[0].item()
            update(opt, model, [jnp.ones(1)])
        return before - model[0].item()

    assert train(0.05) == pytest.approx(0.1 * 1.2**5 / 2, rel=1e-4)
    assert train(0.1) == pytest.approx(0.1 * 1.2**5, rel=1e-4)
    assert train(0.0) == 0.0


RULES = [
    Descent, Momentum, Nesterov, RMSProp, Adam, RAdam, AdaMax, OAdam, AdaGrad, AdaDelta, AMSGrad, NAdam, AdamW,
    AdaBelief, Lion, Rprop, WeightDecay, SignDecay, ClipGrad, ClipNorm, ClipGlobalNorm, EMA,
]  # fmt: skip


@pytest.mark.parametrize("cls", RULES)
def test_printed_form_is_the_constructor_call(cls):
    names = {rule.__name__: rule for rule in [*RULES, OptimizerChain, AccumGrad]}
    assert eval(repr(cls()), names) == cls()
    changed = {
        "rho": 0.5, "beta": (0.25, 0.5), "eps": 0.125, "weight_decay": 0.25, "decay": 0.5, "learning_rate": 0.5,
        "limit": 3.0, "max_norm": 2.0, "sign_decay": 0.5, "factors": (0.25, 1.5), "limits": (0.5, 2.0),
        "centered": True, "momentum_decay": 0.25, "eps_in_root": True,
    }  # fmt: skip
    options = {field.name: changed[field.name] for field in dataclasses.fields(cls)}
    rule = cls(**options)
    assert eval(repr(rule), names) == rule
    assert all(getattr(rule, name) == value for name, value in options.items())
    chain = OptimizerChain(AccumGrad(3), rule)
    assert eval(repr(chain), names) == chain
    hash(chain)


def test_defaults_print_short():
    assert repr(Adam()) == "Adam(0.001)"
    assert repr(Adam(3e-4, eps=1e-6)) == "Adam(0.0003, eps=1e-06)"
    assert repr(AdaDelta()) == "AdaDelta()"
    assert repr(ClipNorm(1)) == "ClipNorm(1.0)"
    assert repr(Adam(fx.optim.schedules.Step(0.1, 0.5, 10))) == "Adam(Step(0.1, 0.5, 10))"


def test_numbers_of_other_libraries_become_plain():
    rule = Adam(np.float32(0.5), beta=[np.float64(0.5), 0.75])
    assert repr(rule) == "Adam(0.5, beta=(0.5, 0.75))"
    assert repr(Descent(jnp.asarray(0.25))) == "Descent(0.25)"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Adam(-0.1), "Adam: expected learning_rate to be a finite number, 0 or greater, or a schedule"),
        (lambda: Adam(float("nan")), "learning_rate"),
        (lambda: Adam(True), "learning_rate"),
        (lambda: Adam("fast"), "got 'fast'"),
        (lambda: Adam(beta=(0.9, 1.0)), r"Adam: expected beta to be two numbers in \[0, 1\), got \(0.9, 1.0\)"),
        (lambda: Adam(beta=0.9), "beta"),
        (lambda: Adam(eps=-1e-8), "eps"),
        (lambda: Momentum(rho=1.0), "rho"),
        (lambda: Momentum(rho=-0.1), "rho"),
        (lambda: RMSProp(centered="yes"), "centered"),
        (lambda: Rprop(factors=(1.2, 0.5)), "shrink"),
        (lambda: Rprop(limits=(1.0, 0.1)), "low"),
        (lambda: WeightDecay(-1), "weight_decay"),
        (lambda: ClipNorm(0), "max_norm"),
        (lambda: ClipGrad(float("nan")), "limit"),
        (lambda: AccumGrad(0), "steps to be a whole number, 1 or greater, got 0"),
        (lambda: AccumGrad(2.0), "whole number"),
        (lambda: EMA(1.5), "decay"),
        (
            lambda: OptimizerChain(Adam(), Descent()),
            r"at most one rule with a learning rate, got Adam\(0.001\) and Descent",
        ),
        (lambda: OptimizerChain(AccumGrad(2), AccumGrad(3), Adam()), "at most one AccumGrad"),
        (lambda: OptimizerChain(Adam), r"got Adam\. Write Adam\(\)"),
        (lambda: OptimizerChain(0.1), "expected a rule such as Adam"),
    ],
)
def test_bad_options(make, message):
    with pytest.raises(fx.ArgumentError, match=message):
        make()


def test_a_rule_of_ones_own():

    @dataclasses.dataclass(frozen=True, repr=False)
    class SignDescent(optim.Rule):
        learning_rate: float = 0.1
        power: float = 0.5

        def direction(self):
            return optax.GradientTransformation(
                lambda x: (), lambda g, state, x=None: (jnp.sign(g) * jnp.abs(g) ** self.power, state)
            )

    model = [jnp.array([1.0, 1.0])]
    opt = setup(SignDescent(1.0, power=2.0), model)
    update(opt, model, [jnp.array([2.0, -3.0])])
    assert model[0].tolist() == [-3.0, 10.0]
    assert repr(opt) == "Optimizer(SignDescent(1.0, power=2.0), step=1, 1 arrays, 2 parameters)"
    optim.adjust(opt, power=1.0)
    update(opt, model, [jnp.array([2.0, -3.0])])
    assert model[0].tolist() == [-5.0, 13.0]
