"""One language to point at parts of a model, for freezing, for groups of an optimizer, for all that asks *which*.

A path is a list of steps: `layers[0].weight` is `layers`, `[0]`, `weight`. A selector is one of

| selector | selects |
|---|---|
| `"layers[0]"` | what stands at that path and everything below it; whole steps only, so never `layers[01]` |
| `"layers[*].bias"`, `"conv*"` | `*` stands for one step, or for a part of one |
| `"**.bias"`, `"**"` | `**` stands for any number of steps, none included |
| a layer or an array of the model | every path below that object |
| a list or tuple of selectors | what any of them selects |
| a function `path -> bool` | where it answers true |

A selector that selects nothing is an error that lists the paths there are: a typo never passes silently.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Sequence

from fluxion.errors import ArgumentError, nearest

# Given an object, the paths at which a model holds it; an empty list when it holds it nowhere.
Resolve = Callable[[object], Sequence[str]]

# One step: an index or key in brackets (a quoted key may hold anything), or a name.
_STEP = re.compile(r"""\[(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\]'"])+\]|[^.\[\]]+""")
_SHOWN = 12


def select(paths: Sequence[str], selector: object, *, resolve: Resolve | None = None) -> list[int]:
    """The positions in `paths` that `selector` selects, in order.

    `resolve(object)` gives the paths at which the model holds an object; without it only strings, functions and lists
    of these are understood.

    Raises `ArgumentError` when the selector, or one member of a list of selectors, selects nothing.

    >>> from fluxion.tree.selectors import select
    >>> paths = ["layers[0].weight", "layers[0].bias", "layers[1].weight", "layers[1].bias"]
    >>> select(paths, "layers[1]"), select(paths, "**.bias"), select(paths, ["layers[0].weight", "layers[*].bias"])
    ([2, 3], [1, 3], [0, 1, 3])
    """
    if isinstance(selector, str):
        return _select_string(paths, selector)
    if isinstance(selector, list | tuple):
        return _select_union(paths, selector, resolve)
    held = list(resolve(selector)) if resolve is not None else []
    if held:
        chosen = _below(paths, held)
        if not chosen:
            raise ArgumentError(f"selector: {held[0]} holds no parameters.{_listing(paths)}")
        return chosen
    if inspect.isroutine(selector) or isinstance(selector, functools.partial):
        chosen = [i for i, path in enumerate(paths) if selector(path)]
        if not chosen:
            raise ArgumentError(f"selector: the function {describe(selector)} selects no path.{_listing(paths)}")
        return chosen
    raise ArgumentError(
        f"selector: expected a path such as 'layers[0]' or '**.bias', a layer or array of this model, a list of these, "
        f"or a function path -> bool; got an object of type {type(selector).__name__} that is not part of the model."
        f"{_listing(paths)}"
    )


def describe(selector: object, resolve: Resolve | None = None) -> str:
    """A selector in one line, for errors, `repr` and the keys of `Optimizer.learning_rate`.

    >>> from fluxion.tree.selectors import describe
    >>> describe("layers[0]"), describe(["layers[0]", "**.bias"])
    ('layers[0]', 'layers[0], **.bias')
    """
    if isinstance(selector, str):
        return selector
    if isinstance(selector, list | tuple):
        return ", ".join(describe(member, resolve) for member in selector)
    held = list(resolve(selector)) if resolve is not None else []
    if held:
        return held[0]
    return getattr(selector, "__qualname__", type(selector).__name__)


def matches(path: str, pattern: str) -> bool:
    """Whether `pattern` selects `path`.

    >>> from fluxion.tree.selectors import matches
    >>> matches("layers[10].bias", "layers[1]"), matches("layers[1].bias", "layers[1]")
    (False, True)
    """
    return _matches(steps(path), steps(pattern))


def steps(path: str) -> list[str]:
    """The steps of a path or pattern.

    Raises `ArgumentError` when it is not well formed.

    >>> from fluxion.tree.selectors import steps
    >>> steps("encoder.layers[0]['a.b'].weight")
    ['encoder', 'layers', '[0]', "['a.b']", 'weight']
    """
    found: list[str] = []
    end = 0
    while end < len(path):
        start = end + 1 if path[end] == "." and found else end
        step = _STEP.match(path, start)
        if step is None or (found and start == end and path[end] != "["):
            raise ArgumentError(
                f"selector: expected steps such as layers[0].weight, got {path!r}, which cannot be read from "
                f"{path[end:]!r} on. Close every bracket and separate names by one dot."
            )
        found.append(step.group().replace('"', "'") if step.group().startswith('["') else step.group())
        end = step.end()
    return found


def _select_string(paths: Sequence[str], pattern: str) -> list[int]:
    parts = steps(pattern)
    chosen = [i for i, path in enumerate(paths) if parts and _matches(steps(path), parts)]
    if not chosen:
        raise ArgumentError(f"selector: {pattern!r} selects none of the paths.{_hint(paths, pattern)}{_listing(paths)}")
    return chosen


def _select_union(paths: Sequence[str], members: Sequence[object], resolve: Resolve | None) -> list[int]:
    chosen: set[int] = set()
    for member in members:
        held = [] if isinstance(member, str | list | tuple) or resolve is None else list(resolve(member))
        # A part of the model without parameters (a relu in `model.layers[:3]`) adds nothing and is no typo.
        chosen.update(_below(paths, held) if held else select(paths, member, resolve=resolve))
    if not chosen:
        raise ArgumentError(f"selector: a list of {len(members)} selectors selects nothing.{_listing(paths)}")
    return sorted(chosen)


def _below(paths: Sequence[str], prefixes: Sequence[str]) -> list[int]:
    """The positions of the paths at or below one of `prefixes`, which are plain paths and may be empty (the whole)."""
    heads = [steps(prefix) for prefix in prefixes]
    split = [steps(path) for path in paths]
    return [i for i, path in enumerate(split) if any(path[: len(head)] == head for head in heads)]


def _matches(path: list[str], pattern: list[str]) -> bool:
    """Whether the pattern matches the path or the beginning of it."""
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(_matches(path[skipped:], pattern[1:]) for skipped in range(len(path) + 1))
    return bool(path) and _step_matches(path[0], pattern[0]) and _matches(path[1:], pattern[1:])


def _step_matches(step: str, pattern: str) -> bool:
    if "*" not in pattern or pattern.startswith("['"):
        return step == pattern
    # A lone `*` is any step; `[*]` any index or key; `conv*` any name that begins so.
    return pattern == "*" or re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), step, re.DOTALL) is not None


def _hint(paths: Sequence[str], pattern: str) -> str:
    """The nearest path, or nearest beginning of a path."""
    known = list(paths)
    for path in paths:
        parts = steps(path)
        known += [_join(parts[:count]) for count in range(1, len(parts))]
    return nearest(pattern, dict.fromkeys(known))


def _join(parts: Sequence[str]) -> str:
    text = ""
    for part in parts:
        text += part if part.startswith("[") or not text else f".{part}"
    return text


def _listing(paths: Sequence[str]) -> str:
    if not paths:
        return " The model has no parameters."
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return f" The paths are {', '.join(paths[:_SHOWN])}{more}."
