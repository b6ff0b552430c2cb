"""The two searches, on functions whose minimum is known."""

import math

import numpy as np
import pytest

import fluxion as fx
from fluxion.dialects.knet import goldensection, hyperband


@pytest.mark.parametrize("n", [1, 2, 4])
def test_a_bowl_is_searched_to_its_bottom(n):
    rng = np.random.default_rng(n)
    for _ in range(5):
        center, stretch = rng.uniform(-5, 5, n), rng.uniform(0.5, 3, n)
        value, x = goldensection(lambda x, c=center, s=stretch: float((s * (x - c) ** 2).sum() + 7), n, dxmin=0.01)
        np.testing.assert_allclose(x, center, atol=0.02)
        assert value == pytest.approx(7, abs=0.01)


def test_no_point_is_computed_twice_and_nan_is_out_of_range(capsys):
    seen = []

    def f(x):
        seen.append(tuple(x.round(9)))
        return math.nan if x[0] > 1.5 else (x[0] - 2) ** 2 + abs(x[1])

    value, x = goldensection(f, 2, dxmin=0.001, verbose=True)
    assert len(set(seen)) == len(seen) == len(capsys.readouterr().out.splitlines())
    assert 1.49 < x[0] <= 1.5 and abs(x[1]) < 0.01 and value == pytest.approx(0.25, abs=0.02)


def test_a_learning_rate_is_found():
    def f(x):
        rate, w = 0.01 * np.exp(x[0]), 1.0
        for _ in range(10):
            w -= rate * 2 * w
        return w**2

    _, x = goldensection(f, 1, dxmin=0.01)
    assert 0.01 * np.exp(x[0]) == pytest.approx(0.5, rel=0.05)


def test_what_hyperband_asks_for_is_the_papers_table():
    """Table 1 of Li and others: R = 81, reduction 3."""
    asked, configs = {}, []

    def getconfig():
        configs.append(len(configs))
        return configs[-1]

    def getloss(config, resource):
        asked.setdefault(config, []).append(resource)
        return abs(config - 100)

    best = hyperband(getconfig, getloss, maxresource=81)
    runs = {}
    for resources in asked.values():
        runs.setdefault(resources[0], []).append(len(resources))
    # resource of a bracket: how many configurations came how far
    assert {r: len(v) for r, v in runs.items()} == {1: 81, 3: 34, 9: 15, 27: 8, 81: 5}
    assert [sum(n > i for n in runs[1]) for i in range(5)] == [81, 27, 9, 3, 1]
    assert [sum(n > i for n in runs[3]) for i in range(4)] == [34, 11, 3, 1]
    assert best.config == 100 and best.loss == 0


def test_nan_is_never_the_best():
    values = iter([math.nan, 2.0, math.nan, 1.0] * 20)
    best = hyperband(lambda: next(values), lambda config, resource: config, 9)
    assert best.loss == 1.0


def test_wrong_arguments():
    with pytest.raises(fx.ArgumentError, match="dimension"):
        goldensection(sum, 0)
    with pytest.raises(fx.ArgumentError, match="dxmin"):
        goldensection(sum, 1, dxmin=0)
    with pytest.raises(fx.ArgumentError, match="number at the beginning"):
        goldensection(lambda x: math.nan, 1)
    with pytest.raises(fx.ArgumentError, match="reduction"):
        hyperband(lambda: 0, lambda c, r: 0, 27, 1)
