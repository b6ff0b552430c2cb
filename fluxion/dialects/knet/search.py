"""Two small searches for hyperparameters: without derivatives, and without knowing anything."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np

from fluxion.errors import ArgumentError

Config = TypeVar("Config")
GOLDEN = (1 + math.sqrt(5)) / 2


class Found(NamedTuple):
    """What `goldensection` returns: the smallest value and where it is.

    >>> from fluxion.dialects.knet.search import Found
    >>> Found(0.5, [1.0]).value
    0.5
    """

    value: float
    x: Any


def goldensection(f: Callable[[np.ndarray], Any], n: int, *, dxmin: float = 0.1, verbose: bool = False) -> Found:
    """A minimum of a function of `n` numbers: a golden section search in all dimensions at once.

    It begins at zeros with steps of 1. A step that helps is made and the next one in its dimension is longer by the
    golden ratio; one that does not is turned round and shorter by it. The next dimension is the one with the largest
    gain to be hoped for, until all steps are shorter than `dxmin`. So scale and shift the numbers in `f`: for positive
    ones such as a learning rate write `lr0 * exp(x)`.

    Arguments:
        f: takes an array `(n,)`, returns a number; NaN where `x` is out of its range.
        verbose: whether to print a line for each step.

    Returns `(value, x)`. No point is computed twice.

    >>> from fluxion.dialects.knet import goldensection
    >>> value, x = goldensection(lambda x: (x[0] - 2) ** 2 + (x[1] + 1) ** 2, 2, dxmin=0.001)
    >>> x.round(2).tolist(), bool(value < 1e-4)
    ([2.0, -1.0], True)
    """
    if n < 1:
        raise ArgumentError(f"goldensection: expected at least 1 dimension, got {n}.")
    if not 0 < dxmin < 1:
        raise ArgumentError(f"goldensection: expected dxmin between 0 and 1, got {dxmin}.")
    known: list[tuple[np.ndarray, float]] = []

    def at(x: np.ndarray) -> float:
        for other, value in known:
            if np.allclose(x, other):
                return value
        known.append((x, float(f(x.copy()))))
        if verbose:
            print(f"{known[-1][1]:.6g} at {x.round(4).tolist()}")
        return known[-1][1]

    x, steps, gains = np.zeros(n), np.ones(n), np.full(n, math.inf)
    best = at(x)
    if math.isnan(best):
        raise ArgumentError("goldensection: expected a number at the beginning, f of zeros, got nan.")
    while np.abs(steps).max() > dxmin:
        i = int(np.argmax(gains))
        moved = x.copy()
        moved[i] += steps[i]
        value = at(moved)
        if value < best:
            gains[i] = GOLDEN * (best - value)
            steps[i] *= GOLDEN
            x, best = moved, value
            ended = (
                np.abs(steps) < GOLDEN * dxmin
            )  # another dimension has moved: these may have something to gain again
            steps[ended] = np.sign(steps[ended]) * GOLDEN * dxmin
            gains[ended] = np.maximum(gains[ended], 0)
        else:
            loss = gains[i] if math.isnan(value) else value - best
            steps[i] /= -GOLDEN
            gains[i] = loss / GOLDEN if abs(steps[i]) >= dxmin else -1.0
    return Found(best, x)


class Best(NamedTuple):
    """What `hyperband` returns: the smallest loss, what it was given to get there, and the configuration.

    >>> from fluxion.dialects.knet.search import Best
    >>> Best(0.5, 27.0, {"lr": 0.1}).config
    {'lr': 0.1}
    """

    loss: float
    resource: float
    config: Any


def hyperband(
    getconfig: Callable[[], Config],
    getloss: Callable[[Config, float], Any],
    maxresource: float = 27,
    reduction: float = 3,
) -> Best:
    """The best of many random configurations, most of which are given little (Li and others 2016).

    In each of several rounds, many configurations are tried with a small resource, such as a number of epochs; the
    best of them, one in `reduction`, are tried again with `reduction` times as much, up to `maxresource`.

    Arguments:
        getconfig: draws a configuration, of any type.
        getloss: `getloss(config, resource)`; NaN counts as the worst.

    Returns `(loss, resource, config)`.

    >>> from fluxion.dialects.knet import hyperband
    >>> import random
    >>> draw = random.Random(0)
    >>> best = hyperband(lambda: draw.uniform(-3, 3), lambda x, epochs: (x - 1) ** 2 + 1 / epochs)
    >>> abs(best.config - 1) < 0.1, best.resource
    (True, 27)
    """
    if not (reduction > 1 and maxresource >= 1):
        raise ArgumentError(
            f"hyperband: expected maxresource >= 1 and reduction > 1, got {maxresource} and {reduction}."
        )
    rounds = int(math.log(maxresource) / math.log(reduction) + 1e-9)
    best = Best(math.inf, 0.0, None)
    for s in range(rounds, -1, -1):
        count = math.ceil((rounds + 1) * reduction**s / (s + 1) - 1e-9)
        configs = [getconfig() for _ in range(count)]
        for i in range(s + 1):
            resource = maxresource * reduction ** (i - s)
            losses = [float(getloss(config, resource)) for config in configs]
            order = np.argsort(losses, kind="stable")  # NaN last
            first = int(order[0])
            if losses[first] < best.loss:
                best = Best(losses[first], resource, configs[first])
            keep = int(len(configs) / reduction + 1e-9)
            configs = [configs[k] for k in order[:keep]]
            if not configs:
                break
    return best
