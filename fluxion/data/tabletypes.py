"""What the cells of a column of text mean: missing, numbers, truth values, dates, times.

`guessed` gives a column the first type that fits every cell, `as_type` the type that the user names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from fluxion.errors import ArgumentError, DataError, nearest

if TYPE_CHECKING:
    import polars

MISSING = ("", "?", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "null", "NULL")
TYPES = ("text", "number", "whole", "boolean", "date", "dmy", "mdy", "time")
TRUTHS = {"true": True, "false": False}
_ANSWERS = {"yes": True, "no": False, "t": True, "f": False, "y": True, "n": False, "on": True, "off": False}
WORDS = TRUTHS | _ANSWERS | {"1": True, "0": False}  # where a column is said to hold truth values

_FIGURES = r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{4}-\d{2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}"
_DAY = rf"(?<day>{_FIGURES}|\d{{1,2}}[- ][A-Za-z]{{3}}[- ]\d{{4}})"
_CLOCK = r"(?<clock>\d{1,2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?)"
_ZONE = r"(?<zone>Z|[+-]\d{2}:?\d{2})"
_MOMENT = f"^{_DAY}(?:[T ]+{_CLOCK} ?{_ZONE}?)?$"
_SAMPLE = 1000  # cells that are tried before the whole column is


def without_markers(column: polars.Series, markers: Iterable[str]) -> polars.Series:
    """Text without spaces around it, null where that is one of `markers`."""
    stripped = column.str.strip_chars()
    return stripped.set(stripped.is_in(list(markers)).fill_null(False), None)


def guessed(column: polars.Series) -> polars.Series:
    """A column of text as truth values, whole numbers, numbers, dates or times, if every cell is one."""
    head = column.drop_nulls().head(_SAMPLE)
    if len(head) == 0:
        return column
    for convert in (_truths, _whole, _numbers, dates, times):
        # Days and months that can be told in two ways in the first cells may be clear from a later one.
        if _fits(convert(head), head) or (convert is dates and is_ambiguous(head)):
            typed = convert(column)
            if typed is not None and _fits(typed, column):
                return typed
    return column


def as_type(column: polars.Series, asked: Any, where: str) -> polars.Series:
    """A column as one of `TYPES` or as a type of polars; a `DataError` names the first cell that cannot be."""
    import polars as pl

    if not isinstance(asked, str):
        typed = column.cast(asked, strict=False)
    elif asked == "text":
        typed = column.cast(pl.String)
    elif asked == "number" and column.dtype != pl.String:
        typed = column.cast(pl.Float64, strict=False)
    elif asked in ("date", "dmy", "mdy") and column.dtype in (pl.Date, pl.Datetime):
        typed = column
    else:
        typed = _CONVERTERS[asked](column.cast(pl.String))  # type: ignore[assignment]
    if typed is None:
        if asked == "date" and is_ambiguous(column.cast(pl.String)):
            raise DataError(
                f"{where}: {column.name}: expected dates, got days and months that can be told in two ways, such as "
                f'{column.drop_nulls()[0]!r}. Say "dmy" where the day comes first, "mdy" where the month does.'
            )
        typed = pl.Series(column.name, [None] * len(column), dtype=pl.Date)
    bad = typed.is_null() & column.is_not_null()
    if bad.any():
        row = bad.to_list().index(True)
        raise DataError(f"{where}: {column.name}: expected {asked}, as asked for, got {column[row]!r} in row {row}.")
    return typed


def check_types(types: Any, names: list[str], where: str) -> dict[str, Any]:
    """The argument `types` of the readers, with every name and every type known."""
    import polars as pl

    if types is None:
        return {}
    if not isinstance(types, dict):
        raise ArgumentError(f'{where}: expected types as a dict such as {{"zip": "text"}}, got {types!r:.60}.')
    for name, asked in types.items():
        if name not in names:
            raise DataError(f"{where}: types names a column {name!r} that is not there.{nearest(str(name), names)}")
        dtype = isinstance(asked, pl.DataType) or (isinstance(asked, type) and issubclass(asked, pl.DataType))
        if asked not in TYPES and not dtype:
            raise ArgumentError(
                f"{where}: expected the type of {name!r} as one of {', '.join(TYPES)} or a type of polars, "
                f"got {asked!r}.{nearest(str(asked), TYPES)}"
            )
    return dict(types)


def is_ambiguous(column: polars.Series) -> bool:
    """Whether a column of text holds dates that make sense with the day first and with the month first."""
    head = column.drop_nulls().head(_SAMPLE)
    if len(head) == 0 or dates(head) is not None:
        return False
    return all(_fits(dates(column, order), column) for order in ("dmy", "mdy"))


def dates(column: polars.Series, order: str | None = None) -> polars.Series | None:
    """Dates, or dates with a time of day, of cells that all have one form; None if they do not.

    `order` is "dmy" or "mdy" for days and months in figures. Without it they are what all cells can be; None where
    they can be both and mean different days. With points (31.12.2020) the day always comes first.
    """
    import polars as pl

    parts = column.str.extract_groups(_MOMENT).struct
    days = _days(parts.field("day"), order)
    if days is None or days.null_count() > column.null_count():
        return None
    clocks, zones = parts.field("clock"), parts.field("zone")
    if clocks.null_count() == len(clocks):
        return days.alias(column.name)
    zoned = zones.is_not_null()
    if zoned.any() and not (zoned | column.is_null()).all():
        return None
    nanoseconds = _clock(clocks).cast(pl.Int64).fill_null(0)
    moments = days.cast(pl.Datetime("us")) + (nanoseconds // 1000).cast(pl.Duration("us"))
    if zoned.any():
        offsets = zones.str.replace("Z", "+00:00").str.replace(":", "")
        minutes = offsets.str.slice(1, 2).cast(pl.Int64) * 60 + offsets.str.slice(3, 2).cast(pl.Int64)
        signs = offsets.str.slice(0, 1).replace_strict({"+": 1, "-": -1}, default=None, return_dtype=pl.Int64)
        moments = (moments - (signs * minutes * 60_000_000).cast(pl.Duration("us"))).dt.replace_time_zone("UTC")
    moments = moments.set(clocks.is_not_null() & _clock(clocks).is_null(), None)  # 25:00 is no time
    return moments.alias(column.name)


def _days(text: polars.Series, order: str | None) -> polars.Series | None:
    """The dates in a column of texts of one form."""
    even = text.str.replace_all(r"[/. ]", "-")
    for form in ("%Y-%m-%d", "%Y-%m", "%d-%b-%Y"):
        cells = even + "-01" if form == "%Y-%m" else even
        found = _parsed(cells, "%Y-%m-%d" if form == "%Y-%m" else form, r"^\d{4}" if form[1] == "Y" else r"[A-Za-z]")
        if found is not None:
            return found
    both = {key: _parsed(even, form, r"\d{4}$") for key, form in (("dmy", "%d-%m-%Y"), ("mdy", "%m-%d-%Y"))}
    if order is not None:
        return both[order]
    first, second = both["dmy"], both["mdy"]
    if first is None or second is None or first.equals(second, null_equal=True):
        return second if first is None else first
    return first if text.str.contains(".", literal=True).all() else None


def _parsed(text: polars.Series, form: str, pattern: str) -> polars.Series | None:
    if not text.str.contains(pattern).all():
        return None
    found = text.str.to_date(form, strict=False)
    return found if found.null_count() == text.null_count() else None


def _clock(text: polars.Series) -> polars.Series:
    """Times of day, with or without seconds."""
    import polars as pl

    short = text.str.count_matches(":") == 1
    whole = text.zip_with(~short.fill_null(False), text + ":00")
    return whole.str.to_time("%H:%M:%S%.f", strict=False).cast(pl.Time)


def times(column: polars.Series) -> polars.Series | None:
    """Times of day (23:59, 23:59:59.5), or None where a cell is none."""
    return _clock(column) if column.str.contains(f"^{_CLOCK}$").all() else None


def _truths(column: polars.Series, words: dict[str, bool] = TRUTHS) -> polars.Series:
    import polars as pl

    return column.str.to_lowercase().replace_strict(words, default=None, return_dtype=pl.Boolean)


def _whole(column: polars.Series) -> polars.Series:
    import polars as pl

    return column.cast(pl.Int64, strict=False)


def _numbers(column: polars.Series) -> polars.Series:
    import polars as pl

    return column.cast(pl.Float64, strict=False)


def _fits(typed: polars.Series | None, column: polars.Series) -> bool:
    return typed is not None and typed.null_count() == column.null_count()


_CONVERTERS: dict[str, Callable[[polars.Series], polars.Series | None]] = {
    "number": _numbers,
    "whole": _whole,
    "boolean": lambda column: _truths(column, WORDS),
    "date": dates,
    "dmy": lambda column: dates(column, "dmy"),
    "mdy": lambda column: dates(column, "mdy"),
    "time": times,
}
