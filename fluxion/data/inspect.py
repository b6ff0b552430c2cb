"""What a table holds, and what in it is suspicious, before a network learns from it.

`inspect_table` counts, and finds what people find too late: a column that gives the target away, rows that are there
twice, numbers that stand for missing ones. It changes nothing and decides nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fluxion.data.columns import counts_rows, fit_column, fit_target, known_rows, numbers_of
from fluxion.data.tablefiles import check_column
from fluxion.errors import DataError

if TYPE_CHECKING:
    import polars

LEAK = 0.97  # the share of what there is to know about the target from which a single column is suspicious
SAMPLE = 20_000  # rows from which the power of a single column is told
BINS = 64  # in which a column of many different numbers is cut for that
FEW = 20  # rows below which nothing is said about single columns
TOP = 6  # the values of a column that are listed
KINDS = ("whole", "number", "text", "date")  # that can be told apart by value, like truth values
COMPARED = 150  # columns that are compared with each other


@dataclass(frozen=True)
class Finding:
    """Something to look at before training."""

    kind: str  # such as "leak": for scripts
    where: str  # the column, class or file; "" for the data as a whole
    text: str  # for people


@dataclass(frozen=True)
class ColumnSummary:
    """What a column of a table holds. Of numbers and dates there are quantiles, of others the most frequent values."""

    name: str
    type: str  # whole, number, text, boolean, date, or polars' name of another type
    missing: int
    different: int  # values, missing ones aside
    low: float | None = None  # of numbers; of dates days since 1970
    median: float | None = None
    high: float | None = None
    mean: float | None = None
    std: float | None = None
    top: tuple[tuple[str, int], ...] = ()
    alone: float | None = None  # how much this column alone tells about the target: 0 nothing, 1 everything


@dataclass(frozen=True)
class TableInspection:
    """What `inspect_table` found."""

    rows: int
    columns: tuple[ColumnSummary, ...]
    target: str | None
    task: str | None  # classification or regression
    classes: dict[str, int]  # rows of each class
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"rows": self.rows, **asdict(self), "columns": [asdict(column) for column in self.columns]}


def inspect_table(
    frame: polars.DataFrame, target: str | None = None, *, test: polars.DataFrame | None = None
) -> TableInspection:
    """Count what the columns hold, and find what is suspicious.

    How much a column alone tells about the target is, in a classification, the share of the errors of always saying
    the most frequent class that are avoided by saying the most frequent class of the other rows with the same value
    (numbers are cut into up to 64 bins of equally many rows); in a regression the explained variance of the mean of
    those rows, or the squared correlation of values or ranks where that is more. A column from 0.97 on is reported.

    Arguments:
        frame: the table.
        target: the column to predict; without it nothing is said about what depends on it.
        test: another table with the columns of the first, to be predicted by what is learned from it.

    Errors: `DataError` for a target that is not there or cannot be predicted.

    >>> import fluxion as fx, polars as pl
    >>> from fluxion.data.inspect import inspect_table
    >>> table = pl.DataFrame({"a": [1.5, 2.5, None, 0.5], "b": [7, 7, 7, 7], "y": ["u", "v", "u", "v"]})
    >>> found = inspect_table(table, "y")
    >>> found.columns[0].missing, found.classes, [(f.kind, f.where) for f in found.findings]
    (1, {'u': 2, 'v': 2}, [('constant', 'b'), ('rare class', '')])
    """
    goal, task, classes = None, None, {}
    if target is not None:
        check_column(frame, target, "target")
        known = known_rows(frame[target])
        if not known.any():
            raise DataError(f"{target}: expected values to predict, all are missing.")
        goal = fit_target(frame[target].filter(known), np.flatnonzero(known), None)
        task = goal.task
        classes = dict(zip(map(str, goal.classes), goal.counts, strict=True))
    columns = []
    findings: list[Finding] = []
    power = {} if target is None or task is None else _powers(frame, target, task)
    for series in frame:
        summary = _summary(series, power.get(series.name))
        columns.append(summary)
        findings += _about_column(series, summary, is_target=series.name == target)
    for name, share in power.items():
        if share >= LEAK:
            how = "perfectly" if share > 1 - 1e-9 else f"almost perfectly ({share:.3f} of 1)"
            findings.append(Finding("leak", name, f"predicts {target} {how} by itself: was it known beforehand?"))
    findings += _about_pairs(frame, target)
    findings += _about_rows(frame, target, {f.where for f in findings if f.kind == "identifier"})
    if task == "classification":
        findings += about_classes(classes)
    if test is not None:
        findings += _about_test(frame, test, target)
    return TableInspection(frame.height, tuple(columns), target, task, classes, tuple(findings))


def about_classes(classes: dict[str, int]) -> Iterator[Finding]:
    """What is to be said about how many there are of each class."""
    most, least = max(classes, key=lambda c: classes[c]), min(classes, key=lambda c: classes[c])
    total = sum(classes.values())
    if classes[most] >= 10 * classes[least]:
        yield Finding(
            "imbalance",
            "",
            f"{most} is {classes[most] / max(1, classes[least]):.0f} times as frequent as {least}: always saying "
            f"{most} is right in {100 * classes[most] / total:.1f} %",
        )
    rare = [name for name, count in classes.items() if count < 5]
    if rare:
        shown = ", ".join(rare[:5]) + (", ..." if len(rare) > 5 else "")
        yield Finding("rare class", "", f"fewer than 5 of {shown}")


def type_name(dtype: Any) -> str:
    """whole, number, text, boolean, date, or polars' name."""
    import polars as pl

    if dtype.is_integer():
        return "whole"
    if dtype.is_numeric():
        return "number"
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return "text"
    others = {pl.Boolean: "boolean", pl.Date: "date", pl.Datetime: "date", pl.Null: "empty"}
    return others.get(dtype.base_type(), str(dtype).lower())


# ------------------------------------------------------------------------------------------------ one column


def _summary(series: polars.Series, alone: float | None) -> ColumnSummary:
    kind = type_name(series.dtype)
    known = series.drop_nulls()
    counts: Any = ()
    different = known.n_unique() if kind in KINDS or kind == "boolean" else 0
    if kind in ("text", "boolean") or (kind == "whole" and different <= FEW):
        table = known.cast(str).value_counts(sort=True).head(TOP)
        counts = tuple((str(value), int(count)) for value, count in table.rows())
    numbers: dict[str, float] = {}
    if kind in ("whole", "number", "date") and len(known):
        values = finite(series)
        if values.size:
            numbers = {
                "low": float(values.min()),
                "median": float(np.median(values)),
                "high": float(values.max()),
                "mean": float(values.mean()),
                "std": float(values.std()),
            }
    return ColumnSummary(series.name, kind, series.null_count(), different, **numbers, top=counts, alone=alone)


def finite(series: polars.Series) -> np.ndarray:
    """The numbers of a column, dates as days, without missing and infinite ones."""
    import polars as pl

    kind = "date" if series.dtype in (pl.Date, pl.Datetime) else "number"
    if kind == "number":
        series = series.cast(pl.Float64)
        series = series.set(series.is_infinite().fill_null(False), None)
    values = numbers_of(series, kind)
    return values[~np.isnan(values)]


def _about_column(series: polars.Series, summary: ColumnSummary, is_target: bool) -> Iterator[Finding]:
    name, rows, missing = summary.name, len(series), summary.missing
    present = rows - missing
    if present == 0:
        yield Finding("empty", name, "all values are missing")
        return
    if is_target:
        if missing:
            yield Finding("target missing", name, f"the target is missing in {_rows(missing)}, which are left out")
        return
    if summary.different == 1 and not missing:
        yield Finding("constant", name, f"every row has {series[0]!r}")
        return
    if missing > rows / 2:
        yield Finding("mostly missing", name, f"{100 * missing / rows:.0f} % of the values are missing")
    if rows >= FEW and counts_rows(series.drop_nulls()):
        yield Finding("identifier", name, "counts the rows")
    elif rows >= FEW and summary.different == present and summary.type == "text":
        yield Finding("identifier", name, "another text in every row: a name or a number, nothing to learn from")
    elif rows >= FEW and summary.different == present and summary.type == "whole" and _named_id(name):
        yield Finding("identifier", name, "another number in every row")
    elif summary.type == "text":
        reason = fit_column(series, np.ones(rows, bool))
        if isinstance(reason, str) and summary.different > FEW:
            yield Finding("many categories", name, f"{reason}; not used in training")
    if summary.type == "text":
        yield from _about_text(series, summary)
    elif summary.type in ("whole", "number"):
        yield from _about_numbers(series, summary)


def _about_text(series: polars.Series, summary: ColumnSummary) -> Iterator[Finding]:
    import polars as pl

    values = series.drop_nulls().cast(pl.String).unique().sort()
    numbers = values.cast(pl.Float64, strict=False)
    others = values.filter(numbers.is_null())
    if len(values) >= 5 and 0 < len(others) <= 0.1 * len(values):
        shown = ", ".join(map(repr, others.head(3).to_list()))
        yield Finding("numbers as text", summary.name, f"numbers but for {shown}: say that these are missing")
    if len(values) <= 1000:
        by_form: dict[str, list[str]] = {}
        for value in values.to_list():
            by_form.setdefault(" ".join(value.split()).casefold(), []).append(value)
        same = [forms for forms in by_form.values() if len(forms) > 1]
        if same:
            shown = " and ".join(map(repr, same[0][:3]))
            yield Finding("spellings", summary.name, f"{shown} are different categories")


def _about_numbers(series: polars.Series, summary: ColumnSummary) -> Iterator[Finding]:
    import polars as pl

    infinite = int(series.cast(pl.Float64).is_infinite().sum())
    if infinite:
        yield Finding("infinite", summary.name, f"infinite in {_rows(infinite)}")
    values = finite(series)
    if values.size < FEW:
        return
    found, counts = np.unique(values, return_counts=True)
    most = int(counts.argmax())
    if counts[most] >= 0.99 * len(series):
        share = 100 * counts[most] / len(series)
        yield Finding("nearly constant", summary.name, f"{found[most]:g} in {share:.1f} % of the rows")
        return
    # A number far from all others that comes again and again is no measurement: -999, 9999.
    for value, count, rest in ((found[0], counts[0], found[1:]), (found[-1], counts[-1], found[:-1])):
        spread = float(rest.max() - rest.min())
        distance = float(np.abs(rest - value).min())
        if rest.size >= 5 and spread > 0 and distance > spread and (count > 1 or distance > 5 * spread):
            times = "once" if count == 1 else f"{count:,} times"
            meaning = "does it stand for a missing value?" if count > 1 else "a mistake?"
            yield Finding(
                "far value",
                summary.name,
                f"{value:g} ({times}) is far from the others, {rest.min():g} to {rest.max():g}: {meaning}",
            )


def _named_id(name: str) -> bool:
    return re.search(r"(?i)(^|[^a-z])(id|uuid|key|index|nr|no|number)$|[a-z]I[dD]$", name) is not None


# ------------------------------------------------------------------------------------- columns and the target


def _powers(frame: polars.DataFrame, target: str, task: str) -> dict[str, float]:
    """How much each column alone tells about the target."""
    import polars as pl

    frame = frame.filter(known_rows(frame[target]))
    if frame.height < FEW:
        return {}
    if frame.height > SAMPLE:
        frame = frame.sample(SAMPLE, seed=0)
    if task == "classification":
        goal = frame[target].cast(pl.String).rank("dense").to_numpy().astype(np.intp) - 1
    else:
        goal = numbers_of(frame[target], "number")
    powers = {}
    for series in frame.drop(target):
        groups = _groups(series)
        if groups is None:
            continue
        if task == "classification":
            powers[series.name] = _avoided(groups, goal)
        else:
            powers[series.name] = max(_explained(groups, goal), _correlation(series, goal))
    return powers


def _groups(series: polars.Series) -> np.ndarray | None:
    """The rows with one value, or with numbers close together, by number; None for what cannot be told apart."""
    import polars as pl

    kind = type_name(series.dtype)
    if kind not in (*KINDS, "boolean"):
        return None
    if kind in ("text", "boolean") or series.n_unique() <= FEW:
        return series.cast(pl.String).fill_null("").rank("dense").to_numpy().astype(np.intp) - 1
    kind = "date" if kind == "date" else "number"
    values = numbers_of(series.set(series.is_infinite(), None) if series.dtype.is_float() else series, kind)
    bins = max(2, min(BINS, len(values) // 10))
    missing = np.isnan(values)
    if missing.all():
        return np.zeros(len(values), np.intp)
    edges = np.unique(np.nanquantile(values, np.linspace(0, 1, bins + 1)[1:-1]))
    return np.where(missing, bins, np.searchsorted(edges, values, side="right"))


def _avoided(groups: np.ndarray, labels: np.ndarray) -> float:
    """The share of errors avoided by saying of each row what most of the others in its group are."""
    classes = int(labels.max()) + 1
    counts = np.zeros((int(groups.max()) + 1, classes))
    np.add.at(counts, (groups, labels), 1)
    others = counts[groups]
    own = others[np.arange(len(labels)), labels] - 1
    others[np.arange(len(labels)), labels] = -1
    right = own > np.maximum(others.max(axis=1), 0)
    base = np.bincount(labels).max() / len(labels)
    return float(max(0.0, (right.mean() - base) / (1 - base))) if base < 1 else 0.0


def _explained(groups: np.ndarray, numbers: np.ndarray) -> float:
    """The share of the variance explained by the mean of the others in each row's group."""
    sizes = np.bincount(groups)[groups]
    sums = np.bincount(groups, numbers)[groups]
    rest = np.where(sizes > 1, (sums - numbers) / np.maximum(sizes - 1, 1), numbers.mean())
    variance = np.square(numbers - numbers.mean()).sum()
    return float(max(0.0, 1 - np.square(numbers - rest).sum() / variance)) if variance > 0 else 0.0


def _correlation(series: polars.Series, numbers: np.ndarray) -> float:
    """The squared correlation of values, or of ranks if that is more, of the rows where there are both."""
    import polars as pl

    if not series.dtype.is_numeric():
        return 0.0
    pair = pl.DataFrame({"x": series.cast(pl.Float64), "y": numbers}).drop_nulls()
    pair = pair.filter(pair["x"].is_finite())
    if pair.height < FEW or pair["x"].n_unique() < 3:
        return 0.0
    both = [pair.select(pl.corr("x", "y", method=method)).item() for method in ("pearson", "spearman")]
    return max(r * r if r is not None and np.isfinite(r) else 0.0 for r in both)


def _about_pairs(frame: polars.DataFrame, target: str | None) -> Iterator[Finding]:
    """Columns that say the same as another."""
    features = [series for series in frame if series.name != target and series.null_count() < len(series)]
    features = [series for series in features[:COMPARED] if type_name(series.dtype) in KINDS and series.n_unique() > 1]
    said: set[str] = set()
    for i, a in enumerate(features):
        for b in features[i + 1 :]:
            if b.name not in said and a.dtype == b.dtype and a.null_count() == b.null_count() and a.equals(b):
                said.add(b.name)
                yield Finding("same column", b.name, f"the same as {a.name} in every row")
    numeric = [s for s in features if s.dtype.is_numeric() and s.name not in said and s.null_count() == 0]
    numeric = [s for s in numeric if s.n_unique() > 2 and not counts_rows(s)]
    if len(numeric) > 1 and frame.height >= FEW:
        values = np.stack([s.to_numpy().astype(np.float64) for s in numeric])[:, :SAMPLE]
        names = [s.name for s, row in zip(numeric, values, strict=True) if np.isfinite(row).all()]
        values = values[np.isfinite(values).all(axis=1)]
        if len(names) > 1:
            with np.errstate(invalid="ignore", divide="ignore"):  # a column may be constant in the sample
                related = np.abs(np.corrcoef(values)) > 1 - 1e-6
            for j in range(1, len(names)):
                first = int(related[j].argmax())
                if first < j:
                    yield Finding("same column", names[j], f"a multiple of {names[first]}: their correlation is 1")


# ----------------------------------------------------------------------------------------------------- rows


def _about_rows(frame: polars.DataFrame, target: str | None, identifiers: set[str]) -> Iterator[Finding]:
    """Rows that are there twice, and rows that differ in nothing but the target."""
    frame = frame.drop(identifiers - {target})
    if frame.width == 0:
        return
    repeated = frame.height - frame.n_unique()
    if repeated:
        aside = "" if not identifiers else f" ({', '.join(sorted(identifiers))} aside)"
        yield Finding(
            "repeated rows",
            "",
            f"{_rows(repeated, 'repeat')} an earlier one{aside}: held-out rows may be among those learned from",
        )
    if target is not None and frame.width > 1:
        alike = frame.n_unique() - frame.drop(target).n_unique()
        if alike:
            yield Finding(
                "contradicting rows",
                "",
                f"{_rows(alike, 'differ')} from another one in {target} alone: no model can tell them apart",
            )


def _about_test(frame: polars.DataFrame, test: polars.DataFrame, target: str | None) -> Iterator[Finding]:
    """What is wrong between a table to learn from and one to predict."""
    absent = [name for name in frame.columns if name not in test.columns and name != target]
    if absent:
        yield Finding("absent column", "", f"not in the test table: {', '.join(absent)}")
    shared = [name for name in frame.columns if name in test.columns]
    for name in shared:
        if type_name(frame[name].dtype) != type_name(test[name].dtype):
            kinds = f"{type_name(frame[name].dtype)}, in the test table {type_name(test[name].dtype)}"
            yield Finding("other type", name, kinds)
        elif type_name(frame[name].dtype) == "text" and frame[name].n_unique() <= 1000:
            new = set(test[name].drop_nulls().unique()) - set(frame[name].drop_nulls().unique())
            if new:
                shown = ", ".join(map(repr, sorted(map(str, new))[:3]))
                yield Finding("new category", name, f"{len(new)} in the test table alone: {shown}")
    same = [name for name in shared if frame[name].dtype == test[name].dtype]
    same = [name for name in same if not counts_rows(frame[name].drop_nulls())]
    if same:
        both = test.select(same).join(frame.select(same).unique(), on=same, how="semi", nulls_equal=True)
        if both.height:
            yield Finding("in both", "", f"{_rows(both.height)} of the test table are also rows to learn from")


def _rows(count: int, verb: str = "") -> str:
    """`1 row repeats`, `2 rows repeat`."""
    text = "1 row" if count == 1 else f"{count:,} rows"
    return f"{text} {verb}{'s' if count == 1 else ''}" if verb else text
