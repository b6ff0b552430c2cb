"""What is in a table: the type of each column, what is missing, what the values are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fluxion.data.tabletypes import is_ambiguous
from fluxion.errors import DTypeError

if TYPE_CHECKING:
    import polars

_SHOWN, _WIDTH = 40, 44  # columns, and characters of the values of one


@dataclass(frozen=True)
class ColumnOverview:
    """What is in one column."""

    name: str
    type: str  # "whole number", "number", "boolean", "date", "time", "text" or that of polars
    missing: int
    different: int  # values, missing ones not counted
    low: Any  # the smallest value of numbers, dates and times; None where there is no order or no value
    high: Any
    frequent: tuple[tuple[str, int], ...]  # of text and booleans: the most frequent values and how often they occur
    note: str = ""

    @property
    def values(self) -> str:
        """The range or the most frequent values, in a few words."""
        if self.low is not None:
            return f"{_text(self.low)} to {_text(self.high)}" if self.low != self.high else f"always {_text(self.low)}"
        shown = ""
        for value, count in self.frequent:
            more = f"{', ' if shown else ''}{_clipped(value)} ({count})"
            if shown and len(shown) + len(more) > _WIDTH:
                return shown + ", ..."
            shown += more
        return shown + (", ..." if self.different > len(self.frequent) else "")


@dataclass(frozen=True, repr=False)
class TableOverview:
    """What `overview` gives; printing it shows a line per column."""

    rows: int
    columns: tuple[ColumnOverview, ...]

    def __repr__(self) -> str:
        lines = [f"{self.rows:,} rows, {len(self.columns):,} columns"]
        head = ("column", "type", "missing", "different", "values")
        shown = self.columns[:_SHOWN]
        cells = [
            (_clipped(c.name), c.type, str(c.missing or ""), str(c.different), f"{c.values}{c.note and '  '}{c.note}")
            for c in shown
        ]
        widths = [max(len(row[i]) for row in [head, *cells]) for i in range(4)]
        for row in [head, *cells]:
            sides = [row[i].ljust(widths[i]) if i < 2 else row[i].rjust(widths[i]) for i in range(4)]
            lines.append("  ".join([*sides, row[4]]).rstrip())
        if len(self.columns) > len(shown):
            lines.append(f"... and {len(self.columns) - len(shown)} more columns")
        return "\n".join(lines)


def overview(table: polars.DataFrame) -> TableOverview:
    """What is in a table, to be printed: for each column its type, what is missing, and its values.

    Shown are the smallest and largest number, date or time, or the most frequent texts with their counts. The types
    are those that `read_table` guessed; its argument `types` decides otherwise.

    Errors: `DTypeError` for what is no polars table.

    >>> import fluxion as fx
    >>> fx.overview(fx.read_table(fx.datasets.path("iris")))
    150 rows, 5 columns
    column        type    missing  different  values
    sepal_length  number                  35  4.3 to 7.9
    sepal_width   number                  23  2 to 4.4
    petal_length  number                  43  1 to 6.9
    petal_width   number                  22  0.1 to 2.5
    species       text                     3  setosa (50), versicolor (50), virginica (50)
    """
    import polars as pl

    if not isinstance(table, pl.DataFrame):
        raise DTypeError(f"overview: expected a polars.DataFrame (see fx.read_table), got {type(table).__name__}.")
    return TableOverview(table.height, tuple(_column(series) for series in table))


def _column(series: polars.Series) -> ColumnOverview:
    import polars as pl

    dtype, missing = series.dtype, series.null_count()
    frequent: tuple[tuple[str, int], ...] = ()
    kind, low, high, note = str(dtype), None, None, ""
    if dtype.is_nested() or dtype == pl.Object:
        return ColumnOverview(series.name, kind, missing, len(series) - missing, low, high, frequent)
    present = series.drop_nulls()
    if dtype.is_float():
        present = present.drop_nans()
        missing = len(series) - len(present)
    if dtype.is_numeric() or dtype.is_temporal():
        kind = {"Date": "date", "Time": "time"}.get(kind, "date and time" if dtype.is_temporal() else "number")
        kind = "whole number" if dtype.is_integer() else kind
        low, high = present.min(), present.max()
    elif dtype in (pl.String, pl.Categorical, pl.Enum, pl.Boolean):
        kind = "boolean" if dtype == pl.Boolean else "text"
        counts = present.cast(pl.String).value_counts(name="rows").sort("rows", series.name, descending=[True, False])
        frequent = tuple(counts.head(5).iter_rows())
        if dtype == pl.String and is_ambiguous(series):
            note = 'dates? say "dmy" or "mdy" by types'
    return ColumnOverview(series.name, kind, missing, present.n_unique(), low, high, frequent, note)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}" if np.isfinite(value) else str(value)
    return str(value)


def _clipped(text: str, most: int = 24) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 3] + "..."
