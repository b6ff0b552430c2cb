"""What may be changed in an optimizer between its steps, as plain values: for a checkpoint.

The moments and counts of the rules are `opt.state`. Beside them a run may change learning rates and other options
(`adjust`) and freeze parts of the model; a schedule is a function, which the program that goes on has to give again.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from fluxion.errors import StateError
from fluxion.optim.base import Rule
from fluxion.optim.chain import OptimizerChain, flat, show
from fluxion.optim.optimizer import Optimizer


def rules_of(opt: Optimizer) -> str:
    """The rules in one line, without what depends on the step.

    >>> import fluxion as fx
    >>> from fluxion.optim.settings import rules_of
    >>> rules_of(fx.setup({"[0]": fx.Descent(0.1), "**": fx.Adam()}, [fx.randn(2), fx.randn(2)]))
    '[0]: Descent(0.1), **: Adam(0.001)'
    """
    return ", ".join(
        show(rule) if name is None else f"{name}: {show(rule)}"
        for name, rule in zip(opt._names, opt._rules, strict=True)
    )


def settings(opt: Optimizer) -> dict[str, Any]:
    """Learning rates, options, frozen parameters, as values that fit JSON.

    >>> import fluxion as fx
    >>> from fluxion.optim.settings import settings
    >>> settings(fx.setup(fx.Momentum(0.1), [fx.randn(2)]))["rates"]
    [0.1]
    """
    return {
        "rates": [None if callable(rate) else rate for rate in opt._rates],
        "labels": list(opt._labels),
        "uniform": opt._uniform,
        "frozen": sorted(opt._plan.frozen),
        "cohorts": list(opt._plan.cohorts),
        "options": [[_options(part) for part in flat(rule)] for rule in opt._rules],
    }


def load_settings(opt: Optimizer, saved: Mapping[str, Any]) -> None:
    """Put back what `settings` returned, of an optimizer of the same rules and parameters; schedules stay as they are.

    Errors: `StateError` for settings of another optimizer; nothing is changed then.
    """
    count = len(opt.paths)
    rates, options = saved.get("rates", []), saved.get("options", [])
    sound = (
        saved.keys() == settings(opt).keys()
        and _is_list(rates, count, lambda x: x is None or (type(x) is float and 0 <= x < math.inf))
        and _is_list(saved["labels"], count, lambda x: type(x) is str)
        and type(saved["uniform"]) is bool
        and _is_list(saved["cohorts"], count, lambda x: type(x) is int)
        and isinstance(saved["frozen"], list)
        and all(type(i) is int and 0 <= i < count for i in saved["frozen"])
        and _is_list(options, len(opt._rules), lambda x: isinstance(x, list))
        and all(_fits(part, x) for rule, xs in zip(opt._rules, options, strict=True) for part, x in _pairs(rule, xs))
        and all(rate is not None or not isinstance(own, float) for own, rate in zip(opt._rates, rates, strict=True))
    )
    if not sound:
        raise StateError(f"optimizer: expected settings of {rules_of(opt)} over {count} arrays, got {saved!r:.120}.")
    opt._set_rules([_with_options(rule, xs) for rule, xs in zip(opt._rules, options, strict=True)])
    opt._rates = [own if rate is None else rate for own, rate in zip(opt._rates, rates, strict=True)]
    opt._labels, opt._uniform = list(saved["labels"]), saved["uniform"]
    opt._plan = replace(opt._plan, frozen=frozenset(saved["frozen"]), cohorts=tuple(saved["cohorts"]))


def copy_for(opt: Optimizer, model: Any) -> Optimizer:
    """An optimizer of its own, as `opt` is now, for a copy of its model.

    >>> import fluxion as fx
    >>> from fluxion.optim.settings import copy_for
    >>> model = [fx.randn(2)]
    >>> opt = fx.setup(fx.Adam(), model)
    >>> fx.adjust(copy_for(opt, fx.fmap(fx.identity, model)), 1e-4)
    >>> opt.learning_rate
    0.001
    """
    other = copy.copy(opt)  # arrays never change, and all else is replaced, but for these lists
    other._model, other._rates, other._labels = model, list(opt._rates), list(opt._labels)
    return other


def _is_list(value: Any, length: int, is_item: Any) -> bool:
    return isinstance(value, list) and len(value) == length and all(map(is_item, value))


def _pairs(rule: Any, saved: list[Any]) -> list[tuple[Any, Any]]:
    parts = flat(rule)
    return list(zip(parts, saved, strict=True)) if len(parts) == len(saved) else [(rule, None)]


def _options(part: Any) -> dict[str, Any]:
    """The options of a rule that are numbers, or lists of them."""
    if not isinstance(part, Rule):
        return {}
    values = {option.name: getattr(part, option.name) for option in fields(part)}
    values = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
    return {name: value for name, value in values.items() if _is_numbers(value)}


def _is_numbers(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_numbers, value))
    return type(value) in (bool, int) or (type(value) is float and math.isfinite(value))


def _fits(part: Any, saved: Any) -> bool:
    """Whether these can be the options of a rule."""
    names = {option.name for option in fields(part)} if isinstance(part, Rule) else set()
    return isinstance(saved, dict) and saved.keys() <= names and all(map(_is_numbers, saved.values()))


def _with_options(rule: Any, saved: list[dict[str, Any]]) -> Any:
    parts = [
        replace(part, **{name: tuple(x) if isinstance(x, list) else x for name, x in values.items()})
        if values
        else part
        for part, values in zip(flat(rule), saved, strict=True)
    ]
    return OptimizerChain(*parts) if isinstance(rule, OptimizerChain) else parts[0]
