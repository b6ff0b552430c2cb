"""How one column of a table becomes numbers: what `TableEncoder` decides per column, and how it is applied.

Cells come as polars read them. A missing number is NaN here, a missing text None.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fluxion.data.tabletypes import MISSING
from fluxion.errors import DataError

if TYPE_CHECKING:
    import polars

TASKS = ("classification", "regression")
KINDS = ("number", "boolean", "date", "category")
FEW_CLASSES = 20  # whole numbers with at most so many different values are classes, not quantities
MANY_TEXTS, MANY_SHARE = 20, 0.2  # text with more values than both is taken for a name or a number of a ticket
MOST_CATEGORIES = 1000


@dataclass(frozen=True)
class Column:
    """How one column becomes features: a standardized number, or one feature per category."""

    name: str
    kind: str  # one of KINDS
    missing: int  # cells that were missing in training
    median: float = 0.0  # of a number, a boolean (0, 1) or a date (days since 1970): put where a cell is missing
    mean: float = 0.0
    std: float = 1.0
    categories: tuple[str | None, ...] = ()  # sorted; None last, where cells were missing in training

    @property
    def feature_names(self) -> tuple[str, ...]:
        if self.kind != "category":
            return (self.name,)
        return tuple(f"{self.name}={'(missing)' if value is None else value}" for value in self.categories)


@dataclass(frozen=True)
class Target:
    """What is predicted: one of `classes`, or a number, standardized with `mean` and `std`."""

    name: str
    task: str  # one of TASKS
    classes: tuple[Any, ...] = ()
    counts: tuple[int, ...] = ()  # rows of each class in training
    mean: float = 0.0
    std: float = 1.0


def fit_column(series: polars.Series, known: np.ndarray, standardize: bool = True) -> Column | str:
    """How to use a column, judged by its rows that have a target, or the reason why it is not used."""
    import polars as pl

    dtype = series.dtype
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return _fit_texts(series.name, series.filter(known).cast(pl.String))
    if dtype.is_numeric():
        kind = "number"
    elif dtype == pl.Boolean:
        kind = "boolean"
    elif dtype in (pl.Date, pl.Datetime):
        kind = "date"
    elif dtype == pl.Null:
        return "all values are missing"
    else:
        return f"values of type {dtype} are neither numbers, text nor dates"
    values = numbers_of(series, kind)[known]
    absent = np.isnan(values)
    if absent.all():
        return "all values are missing"
    present = values[~absent]
    if present.min() == present.max():
        return f"a single value ({series.filter(known).drop_nulls()[0]})"
    median = float(np.median(present))
    mean, std = _mean_std(np.where(absent, median, values), series.name)
    if std == 0:
        return f"no spread that float64 can hold ({present.min():g} to {present.max():g})"
    if not standardize and kind != "date":  # a date, as a number of days, is too large as it is
        mean, std = 0.0, 1.0
    return Column(series.name, kind, int(absent.sum()), median, mean, std)


def _fit_texts(name: str, series: polars.Series) -> Column | str:
    missing = series.null_count()
    values = sorted(series.drop_nulls().unique().to_list())
    present = len(series) - missing
    if not values:
        return "all values are missing"
    if len(values) == 1 and not missing:
        return f"a single value ({values[0]})"
    if len(values) > MANY_TEXTS and len(values) > MANY_SHARE * present:
        return f"text with {len(values)} different values in {present} rows"
    if len(values) > MOST_CATEGORIES:
        return f"text with {len(values)} different values, more than {MOST_CATEGORIES}"
    return Column(name, "category", missing, categories=(*values, None) if missing else tuple(values))


def counts_rows(series: polars.Series) -> bool:
    """Whether whole numbers are a row counter: all different and consecutive, as in 1, 2, 3, ...

    In 50 rows and more half of the numbers may be absent: a part of a table that had a counter still has one.
    """
    if not series.dtype.is_integer() or len(series) < 2 or series.null_count() or series.n_unique() < len(series):
        return False
    span = int(series.max()) - int(series.min()) + 1  # type: ignore[arg-type]
    return span == len(series) or (len(series) >= 50 and span <= 2 * len(series))


def fit_target(series: polars.Series, rows: np.ndarray, task: str | None) -> Target:
    """What to predict from the target's values, none of them missing; `rows` are their places in the table."""
    import polars as pl

    name, dtype = series.name, series.dtype
    textual = dtype in (pl.String, pl.Categorical, pl.Enum)
    if not (textual or dtype.is_numeric() or dtype == pl.Boolean):
        raise DataError(f"{name}: expected a target of numbers, text or booleans, got {dtype}.")
    if textual and task == "regression":
        raise DataError(f"{name}: expected numbers for a regression, got {series[0]!r} in row {rows[0]}.")
    numbers = np.zeros(0) if textual else numbers_of(series, "number", rows)
    if task is None:
        quantity = dtype.is_numeric() and not _few_whole(numbers)
        task = "regression" if quantity else "classification"
    if task == "classification":
        example: Any = "" if textual else False
        if dtype.is_numeric():
            example = 0 if _whole(numbers) else 0.5
        values = labels_of(series, example)
        counts = dict(sorted(Counter(values).items()))
        if len(counts) == 1:
            raise DataError(f"{name}: expected at least two classes, every row has {values[0]!r}.")
        if textual and len(counts) == len(values) > 2:
            raise DataError(f"{name}: expected classes that occur more than once, got {len(values)} different texts.")
        return Target(name, task, tuple(counts), tuple(counts.values()))
    if numbers.min() == numbers.max():
        raise DataError(f"{name}: expected a target that varies, every row has {numbers[0]:g}.")
    mean, std = _mean_std(numbers, name)
    if std == 0:
        raise DataError(f"{name}: expected a target that varies, its spread is too small for float64.")
    return Target(name, task, mean=mean, std=std)


def known_rows(series: polars.Series) -> np.ndarray:
    """Which cells are not missing (NaN counts as missing)."""
    known = series.is_not_null().to_numpy()
    if series.dtype.is_float():
        known = known & ~series.is_nan().fill_null(True).to_numpy()
    return known


def numbers_of(series: polars.Series, kind: str, rows: np.ndarray | None = None) -> np.ndarray:
    """The cells as float64, missing ones NaN; `rows` are their places in the table, for errors."""
    import polars as pl

    dtype = series.dtype
    if dtype in (pl.Categorical, pl.Enum):
        series = series.cast(pl.String)
        dtype = series.dtype
    accepted = {"number": "a number", "boolean": "a number or true or false", "date": "a date"}[kind]
    if dtype == pl.Null:
        return np.full(len(series), np.nan)
    if kind == "date" and dtype in (pl.Date, pl.Datetime):
        cast = series.dt.timestamp("us").cast(pl.Float64) / 86_400_000_000
    elif kind != "date" and dtype == pl.String:
        text = series.str.strip_chars()
        text = text.set(text.is_in(list(MISSING)).fill_null(False), None)
        series = text
        if kind == "boolean":
            text = text.str.to_lowercase().replace({"true": "1", "false": "0"})
        cast = text.cast(pl.Float64, strict=False)
    elif kind != "date" and (dtype.is_numeric() or dtype == pl.Boolean):
        cast = series.cast(pl.Float64)
    else:
        cast = pl.Series(series.name, [None] * len(series), dtype=pl.Float64)
    bad = (cast.is_null() & series.is_not_null()).to_numpy()
    values = cast.fill_null(np.nan).to_numpy()
    reason = f"expected {accepted}"
    if not bad.any():
        bad, reason = np.isinf(values), "expected finite numbers"
    if bad.any():
        at = int(bad.argmax())
        value = series[at] if not isinstance(series[at], float) else float(values[at])
        raise DataError(f"{series.name}: {reason}, got {value!r} in row {at if rows is None else rows[at]}.")
    return values


def codes_of(series: polars.Series, categories: tuple[str | None, ...]) -> np.ndarray:
    """The place of each cell among the categories, -1 where it is not one."""
    import polars as pl

    if isinstance(series.dtype, pl.List | pl.Array | pl.Struct | pl.Object):
        raise DataError(f"{series.name}: expected text, got values of type {series.dtype}.")
    place = {value: i for i, value in enumerate(categories)}
    return np.array([place.get(value, -1) for value in series.cast(pl.String).to_list()], dtype=np.intp)


def labels_of(series: polars.Series, example: Any) -> list[Any]:
    """The cells as Python values of the type of `example` (str, bool, int or float), for a target without gaps."""
    import polars as pl

    if isinstance(example, str):
        return series.cast(pl.String).to_list()
    if isinstance(example, bool):
        # Numbers other than 0 and 1 stay numbers: they are no class, and the caller says so.
        return [bool(x) if x in (0, 1) else x for x in numbers_of(series, "boolean").tolist()]
    values = numbers_of(series, "number").tolist()
    return [int(x) if x == int(x) else x for x in values] if isinstance(example, int) else values


def standardize(values: np.ndarray, mean: float, std: float, name: str) -> np.ndarray:
    """`(values - mean) / std` as float32, or an error where that is too large for it."""
    with np.errstate(over="ignore"):
        scaled = ((values - mean) / std).astype(np.float32)
    bad = np.isinf(scaled)
    if bad.any():
        at = int(bad.argmax())
        raise DataError(f"{name}: expected values near those of training ({mean:g}), got {values[at]:g} in row {at}.")
    return scaled


def _mean_std(values: np.ndarray, name: str) -> tuple[float, float]:
    with np.errstate(over="ignore", invalid="ignore"):
        mean, std = float(values.mean()), float(values.std())
    if not (np.isfinite(mean) and np.isfinite(std)):
        raise DataError(f"{name}: expected numbers whose squares float64 can hold, got up to {np.abs(values).max():g}.")
    return mean, std


def _whole(values: np.ndarray) -> bool:
    return bool(np.all(values == np.floor(values)) and np.all(np.abs(values) < 2**53))


def _few_whole(values: np.ndarray) -> bool:
    return _whole(values) and len(np.unique(values)) <= min(FEW_CLASSES, max(2, len(values) // 2))
