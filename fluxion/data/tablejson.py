"""Reading a `TableEncoder` from JSON that is not trusted: every entry is checked before it is used."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, NoReturn

from fluxion.data.columns import KINDS, MOST_NUMBERS, SCALES, TASKS, Column, Target
from fluxion.data.tables import TableEncoder
from fluxion.errors import FileFormatError


def read_encoder(document: Any) -> TableEncoder:
    """The encoder in a document of `TableEncoder.to_json`, or a `FileFormatError` that names the entry."""
    top = _dict(document, "the document")
    version = top.get("version")
    if top.get("format") != "fluxion.TableEncoder" or isinstance(version, bool) or version not in (1, 2):
        got = f"{top.get('format')!r:.60}, {version!r:.20}"
        _refuse("format, version", "'fluxion.TableEncoder', 1 or 2", got)
    target = _target(_dict(_entry(top, "target"), "target"))
    entries = _list(_entry(top, "columns"), "columns")
    columns = [_column(_dict(entry, f"columns[{i}]"), f"columns[{i}]", version) for i, entry in enumerate(entries)]
    if not columns:
        _refuse("columns", "at least one column", "none")
    dropped = _dict(_entry(top, "dropped"), "dropped")
    for name, reason in dropped.items():
        _text(name, "dropped")
        _text(reason, f"dropped[{name!r}]")
    names = [target.name, *(column.name for column in columns), *dropped]
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        _refuse("target, columns, dropped", "different names", f"{twice!r} twice")
    rows = _count(_entry(top, "rows"), "rows")
    unlabeled = _count(_entry(top, "unlabeled"), "unlabeled")
    return TableEncoder(target, tuple(columns), dict(dropped), rows, unlabeled)


def _target(entry: dict[str, Any]) -> Target:
    name, task = _text(_entry(entry, "name", "target."), "target.name"), _entry(entry, "task", "target.")
    if task not in TASKS:
        _refuse("target.task", f"one of {', '.join(TASKS)}", f"{task!r:.60}")
    if task == "regression":
        return Target(name, task, mean=_finite(entry, "mean", "target."), std=_positive(entry, "std", "target."))
    classes = _list(_entry(entry, "classes", "target."), "target.classes")
    counts = [
        _count(count, f"target.counts[{i}]")
        for i, count in enumerate(_list(_entry(entry, "counts", "target."), "target.counts"))
    ]
    kinds = {type(value) for value in classes}
    if len(classes) < 2 or len(kinds) != 1 or not kinds <= {str, bool, int, float}:
        _refuse("target.classes", "two or more strings, booleans or numbers of one type", f"{classes!r:.60}")
    if kinds == {float} and not all(math.isfinite(value) for value in classes):
        _refuse("target.classes", "finite numbers", f"{classes!r:.60}")
    if any(not low < high for low, high in pairwise(classes)):
        _refuse("target.classes", "different values in sorted order", f"{classes!r:.60}")
    if len(counts) != len(classes):
        _refuse("target.counts", f"{len(classes)} numbers, as many as classes", f"{len(counts)}")
    return Target(name, task, tuple(classes), tuple(counts))


def _column(entry: dict[str, Any], where: str, version: int) -> Column:
    if version == 1:  # there was one scale and no embedding
        entry = {"scale": "standard", "embedding": 0} | entry
    name = _text(_entry(entry, "name", where + "."), f"{where}.name")
    kind = _entry(entry, "kind", where + ".")
    if kind not in KINDS:
        _refuse(f"{where}.kind", f"one of {', '.join(KINDS)}", f"{kind!r:.60}")
    missing = _count(_entry(entry, "missing", where + "."), f"{where}.missing")
    if kind != "category":
        median, mean = _finite(entry, "median", where + "."), _finite(entry, "mean", where + ".")
        scale = _entry(entry, "scale", where + ".")
        if scale not in SCALES:
            _refuse(f"{where}.scale", f"one of {', '.join(SCALES)}", f"{scale!r:.60}")
        if scale == "log" and median < 0:
            _refuse(f"{where}.median", "a number of at least 0 for the scale log", f"{median!r}")
        return Column(name, kind, missing, median, mean, _positive(entry, "std", where + "."), scale=scale)
    categories = _list(_entry(entry, "categories", where + "."), f"{where}.categories")
    known = categories[:-1] if categories and categories[-1] is None else categories
    for i, value in enumerate(known):
        _text(value, f"{where}.categories[{i}]")
    if not categories or any(not low < high for low, high in pairwise(known)):
        _refuse(
            f"{where}.categories", "different strings in sorted order, null at most at the end", f"{categories!r:.60}"
        )
    embedding = _count(_entry(entry, "embedding", where + "."), f"{where}.embedding")
    if embedding > MOST_NUMBERS:
        _refuse(f"{where}.embedding", f"at most {MOST_NUMBERS}", f"{embedding}")
    return Column(name, kind, missing, categories=tuple(categories), embedding=embedding)


def _refuse(where: str, expected: str, got: str) -> NoReturn:
    raise FileFormatError(f"TableEncoder.from_json: {where}: expected {expected}, got {got}.")


def _entry(entries: dict[str, Any], key: str, where: str = "") -> Any:
    if key not in entries:
        _refuse(where + key, "an entry of that name", "none")
    return entries[key]


def _dict(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        _refuse(where, "a JSON object", f"{value!r:.60}")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        _refuse(where, "a JSON array", f"{value!r:.60}")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        _refuse(where, "a string", f"{value!r:.60}")
    return value


def _count(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        _refuse(where, "a whole number of at least 0", f"{value!r:.60}")
    return value


def _finite(entries: dict[str, Any], key: str, where: str) -> float:
    value = _entry(entries, key, where)
    # A whole number in JSON can have any length; float() refuses one that it cannot hold.
    number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1.7976931348623157e308
    if not number:
        _refuse(where + key, "a finite number", f"{value!r:.60}")
    return float(value)


def _positive(entries: dict[str, Any], key: str, where: str) -> float:
    value = _finite(entries, key, where)
    if value <= 0:
        _refuse(where + key, "a positive number", f"{value!r}")
    return value
