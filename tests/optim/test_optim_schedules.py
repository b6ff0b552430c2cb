"""Schedules against torch's, optax's and closed forms."""

import dataclasses
import math
import warnings

import optax
import pytest

import fluxion as fx
from fluxion.optim.schedules import (
    Constant,
    Cosine,
    Exponential,
    Inverse,
    MultiStep,
    OneCycle,
    Polynomial,
    Sequence,
    Step,
)


def torch_rates(make, start, count):
    torch = pytest.importorskip("torch", reason="torch is the outside reference")
    opt = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=start)
    schedule = make(torch.optim.lr_scheduler, opt)
    rates = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of a deprecated argument it passes to itself
        for _ in range(count):
            rates.append(opt.param_groups[0]["lr"])
            opt.step()
            schedule.step()
    return rates


@pytest.mark.parametrize(
    ("schedule", "make"),
    [
        (Step(0.5, 0.3, 7), lambda s, o: s.StepLR(o, 7, gamma=0.3)),
        (MultiStep(0.5, 0.3, (5, 6, 20)), lambda s, o: s.MultiStepLR(o, [5, 6, 20], gamma=0.3)),
        (Exponential(0.5, 0.9), lambda s, o: s.ExponentialLR(o, 0.9)),
        (Polynomial(0.5, 1.7, 25), lambda s, o: s.PolynomialLR(o, 25, power=1.7)),
        (Cosine(0.5, 40, end=0.1), lambda s, o: s.CosineAnnealingLR(o, 40, eta_min=0.1)),
        (
            Cosine(0.5, 10, end=0.1, restarts=1),
            lambda s, o: s.CosineAnnealingWarmRestarts(o, 10, T_mult=1, eta_min=0.1),
        ),
        (Cosine(0.5, 5, restarts=2), lambda s, o: s.CosineAnnealingWarmRestarts(o, 5, T_mult=2)),
        (Cosine(0.5, 1, restarts=3), lambda s, o: s.CosineAnnealingWarmRestarts(o, 1, T_mult=3)),
        (
            OneCycle(41, 0.5),
            lambda s, o: s.OneCycleLR(o, 0.5, 41, pct_start=0.25, div_factor=25, final_div_factor=1e5 / 25),
        ),
        (
            OneCycle(41, 0.5, start=0.05, end=0.01, warmup_fraction=0.4),
            lambda s, o: s.OneCycleLR(o, 0.5, 41, pct_start=0.4, div_factor=10, final_div_factor=5),
        ),
    ],
    ids=lambda value: repr(value) if not callable(value) or hasattr(value, "__dataclass_fields__") else "",
)
def test_torch(schedule, make):
    ours = [schedule(step) for step in range(41)]
    assert ours == pytest.approx(torch_rates(make, 0.5, 41), abs=1e-12)


@pytest.mark.parametrize(
    ("schedule", "theirs"),
    [
        (Cosine(0.5, 30, end=0.1, warmup=6), optax.warmup_cosine_decay_schedule(0.0, 0.5, 6, 30, 0.1)),
        (Exponential(0.5, 0.9, every=4), optax.exponential_decay(0.5, 4, 0.9)),
        (Polynomial(0.5, 3, 30, end=0.1), optax.polynomial_schedule(0.5, 0.1, 3, 30)),
        (
            Sequence((Polynomial(0.0, 1, 10, end=0.5), 10), (Cosine(0.5, 20), 20)),
            optax.join_schedules([optax.linear_schedule(0, 0.5, 10), optax.cosine_decay_schedule(0.5, 20)], [10]),
        ),
    ],
    ids=lambda value: repr(value) if dataclasses.is_dataclass(value) else "",
)
def test_optax(schedule, theirs, x64):
    for step in range(45):
        assert schedule(step) == pytest.approx(float(theirs(step)), abs=1e-12)


def test_closed_forms():
    assert Constant(0.3)(10**9) == 0.3
    assert Inverse(1.0, 0.1, 2)(10) == pytest.approx(1 / 4)
    assert Cosine(1.0, 8)(2) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)


def test_restarts_after_a_warm_up():
    schedule = Cosine(1.0, 12, warmup=4, restarts=2)
    assert [schedule(step) for step in (0, 2, 4)] == [0.0, 0.5, 1.0]
    assert schedule(11) == pytest.approx((1 + math.cos(math.pi * 7 / 8)) / 2)
    assert schedule(12) == 1.0  # the second period: 16 steps, no warm-up
    assert schedule(20) == pytest.approx(0.5)
    assert schedule(28) == 1.0


@pytest.mark.parametrize("restarts", [1.5, 2, 3])
def test_restarts_begin_exactly_where_the_period_ends(restarts):
    schedule, begin = Cosine(1.0, 6, restarts=restarts), 0.0
    for n in range(12):
        if begin == int(begin):
            assert schedule(int(begin)) == 1.0
        begin += 6 * restarts**n
        assert schedule(math.ceil(begin) - 1) < 0.5


@pytest.mark.parametrize(
    ("schedule", "last"),
    [
        (Polynomial(1.0, 2, 10, end=0.1), 0.1),
        (Cosine(1.0, 10, end=0.2), 0.2),
        (Cosine(1.0, 10, end=0.2, warmup=3), 0.2),
        (OneCycle(10, 1.0, end=0.3), 0.3),
        (MultiStep(1.0, 0.5, (2, 10)), 0.25),
        (Sequence((Constant(1.0), 5), (0.4, 5)), 0.4),
        (Sequence((Constant(1.0), 5), (Polynomial(1.0, 1, 10), 5)), 0.5),
    ],
    ids=repr,
)
def test_the_last_value_holds(schedule, last):
    for step in (10, 11, 10**7):
        assert schedule(step) == pytest.approx(last)


def test_short_cycles():
    assert OneCycle(1, 1.0)(0) == 1.0
    assert [OneCycle(2, 1.0)(step) for step in range(3)] == pytest.approx([1.0, 1e-5, 1e-5])
    assert OneCycle(4, 1.0, warmup_fraction=1.0)(3) == 1.0
    assert OneCycle(4, 1.0, warmup_fraction=0.0)(0) == 1.0


def test_sequence_counts_each_part_from_zero():
    schedule = Sequence((Step(1.0, 0.1, 2), 3), (Step(5.0, 0.1, 2), 4))
    assert [schedule(step) for step in range(6)] == pytest.approx([1, 1, 0.1, 5, 5, 0.5])


@pytest.mark.parametrize(
    "schedule",
    [
        Constant(0.1),
        Step(0.1, 0.5, 10),
        MultiStep(0.1, 0.5, (10, 20)),
        Exponential(0.1, 0.5, every=3),
        Inverse(0.1, 0.5),
        Polynomial(0.1, 2.0, 10, end=0.01),
        Cosine(0.1, 10, warmup=2, restarts=2),
        OneCycle(10, 0.1, end=0.01),
        Sequence((Constant(0.1), 3), (0.2, 4)),
    ],
    ids=repr,
)
def test_printed_form_is_the_constructor_call(schedule):
    assert eval(repr(schedule), vars(fx.optim.schedules)) == schedule
    assert hash(schedule) == hash(eval(repr(schedule), vars(fx.optim.schedules)))
    assert repr(Cosine(0.1, 10)) == "Cosine(0.1, 10)"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constant(-1), "Constant: expected value to be a finite number, 0 or greater, got -1"),
        (lambda: Constant(float("inf")), "finite"),
        (lambda: Step(0.1, 0.5, 0), "Step: expected every to be a whole number, 1 or greater, got 0"),
        (lambda: Step(0.1, 0.5, 2.5), "whole number"),
        (lambda: MultiStep(0.1, 0.5, (3, "x")), "milestone"),
        (lambda: Polynomial(0.1, 1, -3), "steps"),
        (lambda: Cosine(0.1, 10, warmup=10), "warmup steps from 0 to steps - 1 = 9, got 10"),
        (lambda: Cosine(0.1, 10, restarts=0.5), "restarts"),
        (lambda: Cosine(0.1, 10, restarts=True), "restarts"),
        (lambda: OneCycle(10, 0.1, warmup_fraction=2), "between 0 and 1"),
        (lambda: Sequence(), "at least one pair"),
        (lambda: Sequence(Constant(0.1)), r"pairs \(schedule, steps\)"),
        (lambda: Sequence((0.1, 0)), "steps"),
        (lambda: Cosine(0.1, 10)(-1), "Cosine: expected a step counted from 0, got -1"),
        (lambda: Sequence((0.1, 3))(-1), "counted from 0"),
    ],
)
def test_bad_options(make, message):
    with pytest.raises(fx.ArgumentError, match=message):
        make()
