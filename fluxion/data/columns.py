"""How one column of a table becomes numbers: what `TableEncoder` decides per column, and how it is applied.

Cells come as polars read them. A missing number is NaN here, a missing text None.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fluxion.data.tabletypes import MISSING, WORDS, dates, times, without_markers
from fluxion.errors import DataError

if TYPE_CHECKING:
    import polars

TASKS = ("classification", "regression")
KINDS = ("number", "boolean", "date", "time", "category")
SCALES = ("standard", "minmax", "log", "none")
FEW_CLASSES = 20  # whole numbers with at most so many different values are classes, not quantities
MANY_TEXTS, MANY_SHARE = 20, 0.2  # text with more values than both is taken for a name or a number of a ticket
MOST_CATEGORIES = 1000  # that get a feature each
MOST_NUMBERS = 600  # that a category is embedded in
WIDE = 20  # categories, more than which are embedded where that is asked for
_FIGURES = {word: str(int(value)) for word, value in WORDS.items()}


@dataclass(frozen=True)
class Column:
    """How one column becomes features: a scaled number, one feature per category, or the code of the category."""

    name: str
    kind: str  # one of KINDS
    missing: int  # cells that were missing in training
    median: float = 0.0  # of a number, a boolean (0, 1), a date (days since 1970), a time (hours): for missing cells
    mean: float = 0.0  # subtracted; the smallest value where the scale is minmax, that of logarithms where it is log
    std: float = 1.0  # divided by
    categories: tuple[str | None, ...] = ()  # sorted; None last, where cells were missing in training
    scale: str = "standard"  # one of SCALES
    embedding: int = 0  # the numbers that a category is embedded in; 0 for a feature per category

    @property
    def feature_names(self) -> tuple[str, ...]:
        if self.kind != "category" or self.embedding:
            return (self.name,)
        return tuple(f"{self.name}={'(missing)' if value is None else value}" for value in self.categories)

    def features(self, series: polars.Series, into: np.ndarray) -> None:
        """Write the features of every cell into `into` (rows, features), which holds zeros."""
        if self.kind == "category":
            codes = codes_of(series, self.categories)
            if self.embedding:
                into[:, 0] = codes + 1
            else:
                found = np.flatnonzero(codes >= 0)
                into[found, codes[found]] = 1
            return
        values = numbers_of(series, self.kind)
        values = np.where(np.isnan(values), self.median, values)
        if self.scale == "log":
            values = _log(values, self.name)
        into[:, 0] = scaled(values, self.mean, self.std, self.name)


@dataclass(frozen=True)
class Target:
    """What is predicted: one of `classes`, or a number, standardized with `mean` and `std`."""

    name: str
    task: str  # one of TASKS
    classes: tuple[Any, ...] = ()
    counts: tuple[int, ...] = ()  # rows of each class in training
    mean: float = 0.0
    std: float = 1.0


def fit_column(
    series: polars.Series,
    known: np.ndarray,
    *,
    kind: str | None = None,
    scale: str | None = None,
    standardize: bool = True,
    embed: bool | None = False,
) -> Column | str:
    """How to use a column, judged by its rows that have a target, or the reason why it is not used.

    `kind` and `scale` are those asked for, or None; None for `embed` leaves it to the number of categories.
    """
    import polars as pl

    dtype, asked = series.dtype, kind is not None
    if kind is None:
        if dtype in (pl.String, pl.Categorical, pl.Enum):
            kind = "category"
        elif dtype.is_numeric():
            kind = "number"
        elif dtype == pl.Boolean:
            kind = "boolean"
        elif dtype in (pl.Date, pl.Datetime):
            kind = "date"
        elif dtype == pl.Time:
            kind = "time"
        elif dtype == pl.Null:
            return "all values are missing"
        else:
            return f"values of type {dtype} are neither numbers, text nor dates"
    if kind == "category":
        return _fit_texts(series.filter(known), embed, asked)
    if scale is None:  # a date, as a number of days, is too large as it is
        scale = "standard" if standardize or kind in ("date", "time") else "none"
    values = numbers_of(series, kind)[known]
    absent = np.isnan(values)
    if absent.all():
        return "all values are missing"
    present = values[~absent]
    if present.min() == present.max():
        return f"a single value ({series.filter(known).drop_nulls()[0]})"
    median = float(np.median(present))
    mean, std = 0.0, 1.0
    if scale == "minmax":
        mean, std = float(present.min()), float(present.max() - present.min())
    elif scale != "none":
        filled = np.where(absent, median, values)
        if scale == "log":
            filled = _log(filled, series.name, np.flatnonzero(known))
        mean, std = _mean_std(filled, series.name)
    if std == 0 or not np.isfinite(std):
        return f"no spread that float64 can hold ({present.min():g} to {present.max():g})"
    return Column(series.name, kind, int(absent.sum()), median, mean, std, scale=scale)


def _fit_texts(series: polars.Series, embed: bool | None, asked: bool) -> Column | str:
    name, series = series.name, _texts(series)
    missing = series.null_count()
    values = sorted(series.drop_nulls().unique().to_list())
    present = len(series) - missing
    if not values:
        return "all values are missing"
    if len(values) == 1 and not missing:
        return f"a single value ({values[0]})"
    if not asked and len(values) > MANY_TEXTS and len(values) > MANY_SHARE * present:
        return f"text with {len(values)} different values in {present} rows"
    wide = len(values) > WIDE if embed is None else embed
    if wide:
        counts = Counter(series.drop_nulls().to_list())
        # What occurs once shares the code of what training does not hold, whose numbers are learned by it.
        values = [value for value in values if counts[value] > 1]
        if not values:
            return f"text with {present} different values in {present} rows"
        size = len(values) + bool(missing)
        categories = (*values, None) if missing else tuple(values)
        return Column(name, "category", missing, categories=categories, embedding=embedding_size(size + 1))
    if len(values) > MOST_CATEGORIES:
        if asked:
            raise DataError(
                f"{name}: expected at most {MOST_CATEGORIES} categories for a feature each, got {len(values)}. "
                f"Embed them: embed=[{name!r}]."
            )
        return f"text with {len(values)} different values, more than {MOST_CATEGORIES}"
    return Column(name, "category", missing, categories=(*values, None) if missing else tuple(values))


def embedding_size(categories: int) -> int:
    """How many numbers so many categories are embedded in, by the rule of fastai."""
    return min(MOST_NUMBERS, round(1.6 * categories**0.56))


def counts_rows(series: polars.Series) -> bool:
    """Whether whole numbers are a row counter: all different and consecutive, as in 1, 2, 3, ...

    In 50 rows and more half of the numbers may be absent: a part of a table that had a counter still has one.
    """
    if not series.dtype.is_integer() or len(series) < 2 or series.null_count():
        return False
    span = int(series.max()) - int(series.min()) + 1  # type: ignore[arg-type]
    consecutive = span == len(series) or (len(series) >= 50 and len(series) < span <= 2 * len(series))
    return consecutive and series.n_unique() == len(series)


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
    accepted = {"boolean": "a number or true or false", "date": "a date", "time": "a time of day"}.get(kind, "a number")
    if dtype == pl.Null:
        return np.full(len(series), np.nan)
    if dtype == pl.String:
        series = without_markers(series, MISSING)
    cast = None
    if kind in ("date", "time"):
        read = (dates if kind == "date" else times)(series) if dtype == pl.String else series
        if kind == "date" and read is not None and read.dtype in (pl.Date, pl.Datetime):
            cast = read.dt.timestamp("us").cast(pl.Float64) / 86_400_000_000
        elif kind == "time" and read is not None and read.dtype == pl.Time:
            cast = read.cast(pl.Int64).cast(pl.Float64) / 3_600_000_000_000
    elif dtype == pl.String:
        text = series.str.to_lowercase().replace(_FIGURES) if kind == "boolean" else series
        cast = text.cast(pl.Float64, strict=False)
    elif dtype.is_numeric() or dtype == pl.Boolean:
        cast = series.cast(pl.Float64)
    if cast is None:
        cast = pl.repeat(None, len(series), dtype=pl.Float64, eager=True)
    bad = np.zeros(len(series), bool)
    if cast.null_count() > series.null_count():
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

    known = [value for value in categories if value is not None]
    texts = _texts(series)
    codes = texts.replace_strict(known, range(len(known)), default=-1, return_dtype=pl.Int64)
    absent = len(known) if len(known) < len(categories) else -1
    return codes.set(texts.is_null(), absent).to_numpy()


def _texts(series: polars.Series) -> polars.Series:
    """The cells as text; a whole number is written without a point whatever its type."""
    import polars as pl

    if isinstance(series.dtype, pl.List | pl.Array | pl.Struct | pl.Object):
        raise DataError(f"{series.name}: expected text, got values of type {series.dtype}.")
    if series.dtype.is_float():
        series = series.fill_nan(None)
        whole = series.cast(pl.Int64, strict=False)
        same = (whole.cast(pl.Float64) == series).fill_null(False)
        return whole.cast(pl.String).zip_with(same, series.cast(pl.String))
    return series.cast(pl.String)


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


def scaled(values: np.ndarray, mean: float, std: float, name: str) -> np.ndarray:
    """`(values - mean) / std` as float32, or an error where that is too large for it."""
    with np.errstate(over="ignore"):
        result = ((values - mean) / std).astype(np.float32)
    bad = np.isinf(result)
    if bad.any():
        at = int(bad.argmax())
        raise DataError(f"{name}: expected values near those of training ({mean:g}), got {values[at]:g} in row {at}.")
    return result


def _log(values: np.ndarray, name: str, rows: np.ndarray | None = None) -> np.ndarray:
    bad = values < 0
    if bad.any():
        at = int(bad.argmax())
        row = at if rows is None else rows[at]
        raise DataError(f"{name}: expected numbers of at least 0 for the scale log, got {values[at]:g} in row {row}.")
    return np.log1p(values)


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
