"""From a table to arrays: a transformation that is fitted once, and is plain data.

`TableEncoder.fit` looks at every column of a training table and decides how it becomes numbers. The result can be
printed (`describe`), kept as JSON (`to_json`) and applied to any later table with the same columns.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fluxion.data.columns import (
    TASKS,
    Column,
    Target,
    codes_of,
    counts_rows,
    fit_column,
    fit_target,
    known_rows,
    labels_of,
    numbers_of,
    standardize,
)
from fluxion.data.onehot import onecold
from fluxion.data.tablefiles import check_column
from fluxion.errors import ArgumentError, DataError, DTypeError, ShapeError, nearest

if TYPE_CHECKING:
    import polars
    from jaxtyping import Float32


@dataclass(frozen=True, repr=False)
class TableEncoder:
    """The way from a table to features and targets, fitted on a training table by `TableEncoder.fit`.

    Numbers, booleans and dates become `(x - mean) / std`, a missing cell the training median; text becomes one 0/1
    feature per category of the training table, in sorted order. Where cells were missing in training, missing is a
    category of its own; a category that training did not hold gives zeros in all of a column's features.

    >>> import fluxion as fx
    >>> table = fx.read_table(fx.datasets.path("iris"))
    >>> encoder = fx.TableEncoder.fit(table, target="species")
    >>> encoder
    TableEncoder(target='species', task='classification')  # 4 features, 3 classes, fitted on 150 rows
    >>> x, y = encoder.arrays(table)
    >>> x.shape, y.shape, encoder.classes
    ((150, 4), (150,), ('setosa', 'versicolor', 'virginica'))
    """

    target: Target
    columns: tuple[Column, ...]
    dropped: dict[str, str]  # the columns that are not used, and why
    rows: int  # rows in training
    unlabeled: int  # rows left out because their target is missing

    @staticmethod
    def fit(frame: polars.DataFrame, target: str, *, task: str | None = None, standardize: bool = True) -> TableEncoder:
        """Decide from a training table how its columns become features and targets.

        Left out, with the reason in `dropped`: columns with a single value or none; text with more than 20 different
        values that also are more than a fifth of all (names, tickets); whole numbers that only count rows, unless
        nothing else is there; values that are neither numbers, text nor dates. Mean and standard deviation (divided
        by N) are those of the column with missing cells replaced by the median.

        A target of text or booleans, or of whole numbers with at most 20 different values (each twice on average),
        makes a classification, any other number a regression. Rows without a target are left out.

        Arguments:
            frame: the training table.
            target: the name of the column to predict.
            task: "classification" or "regression", to decide it yourself.
            standardize: whether numbers are brought to mean 0 and deviation 1; dates and the target always are.

        Errors: `DataError` for a target that is not there or has a single value, for infinite numbers (with row and
        column), and where no column is left.

        >>> import fluxion as fx, polars as pl
        >>> table = pl.DataFrame({"size": [1.0, None, 8.0], "kind": ["b", "a", None], "price": [1.5, 2, 4]})
        >>> encoder = fx.TableEncoder.fit(table, "price")
        >>> encoder.feature_names
        ('size', 'kind=a', 'kind=b', 'kind=(missing)')
        """
        _check_frame(frame)
        check_column(frame, target, "TableEncoder: target")
        if task is not None and task not in TASKS:
            hint = nearest(str(task), TASKS)
            raise ArgumentError(f"TableEncoder: expected task as one of {', '.join(TASKS)}, got {task!r}.{hint}")
        known = known_rows(frame[target])
        if not known.any():
            raise DataError(f"TableEncoder: expected values in the target column {target!r}, all are missing.")
        goal = fit_target(frame[target].filter(known), np.flatnonzero(known), task)
        columns, dropped, counters = [], {}, []
        for series in frame.drop(target):
            column = fit_column(series, known, standardize)
            if isinstance(column, str):
                dropped[series.name] = column
            elif counts_rows(series.filter(known)):
                dropped[series.name] = "whole numbers that count the rows"
                counters.append(column)
            else:
                columns.append(column)
        if not columns:
            columns = counters
            dropped = {name: why for name, why in dropped.items() if name not in {column.name for column in columns}}
        if not columns:
            reasons = "; ".join(f"{name}: {why}" for name, why in dropped.items()) or "there is none"
            raise DataError(f"TableEncoder: expected a column to learn {target!r} from, none can be used ({reasons}).")
        rows = int(known.sum())
        return TableEncoder(goal, tuple(columns), dropped, rows, frame.height - rows)

    @property
    def task(self) -> str:
        """`"classification"` or `"regression"`."""
        return self.target.task

    @property
    def classes(self) -> tuple[Any, ...]:
        """The classes in the order of their numbers, strings, ints or booleans; empty in a regression."""
        return self.target.classes

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The name of each feature: the column's, with `=category` where it has several."""
        return tuple(name for column in self.columns for name in column.feature_names)

    def features(self, frame: polars.DataFrame) -> Float32[np.ndarray, "rows features"]:
        """The features of every row, float32, in the order of `feature_names`.

        Columns that the encoder does not know are ignored; the target may be absent.

        Errors: `DataError` for an absent column, and, with row (from 0) and value, for text in a column of numbers and
        infinite values.
        """
        _check_frame(frame)
        x = np.zeros((frame.height, len(self.feature_names)), dtype=np.float32)
        start = 0
        for column in self.columns:
            check_column(frame, column.name, "TableEncoder")
            if column.kind == "category":
                codes = codes_of(frame[column.name], column.categories)
                found = np.flatnonzero(codes >= 0)
                x[found, start + codes[found]] = 1
            else:
                values = numbers_of(frame[column.name], column.kind)
                values = np.where(np.isnan(values), column.median, values)
                x[:, start] = standardize(values, column.mean, column.std, column.name)
            start += len(column.feature_names)
        return x

    def targets(self, frame: polars.DataFrame) -> np.ndarray:
        """The targets of every row: class numbers (N,) int32, or standardized numbers (N, 1) float32.

        Errors: `DataError`, with the row (from 0), for a missing target (see `labeled`) and for an unknown class.
        """
        _check_frame(frame)
        goal = self.target
        check_column(frame, goal.name, "TableEncoder: target")
        series = frame[goal.name]
        known = known_rows(series)
        if not known.all():
            raise DataError(
                f"TableEncoder: expected a target in every row, {goal.name!r} is missing in row {known.argmin()}. "
                "Leave such rows out with encoder.labeled(table)."
            )
        if goal.task == "regression":
            return standardize(numbers_of(series, "number"), goal.mean, goal.std, goal.name)[:, None]
        place = {value: i for i, value in enumerate(goal.classes)}
        values = labels_of(series, goal.classes[0])
        for row, value in enumerate(values):
            if value not in place:
                shown = ", ".join(map(str, goal.classes[:20]))
                hint = nearest(str(value), map(str, goal.classes))
                raise DataError(f"{goal.name}: expected one of the classes {shown}, got {value!r} in row {row}.{hint}")
        return np.array([place[value] for value in values], dtype=np.int32)

    def labeled(self, frame: polars.DataFrame) -> polars.DataFrame:
        """The rows whose target is not missing."""
        _check_frame(frame)
        check_column(frame, self.target.name, "TableEncoder: target")
        return frame.filter(known_rows(frame[self.target.name]))

    def arrays(self, frame: polars.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """`(features, targets)` of the rows whose target is not missing."""
        frame = self.labeled(frame)
        return self.features(frame), self.targets(frame)

    def decode_target(self, y: Any) -> np.ndarray:
        """Undo `targets`: the classes of class numbers (or of scores, classes last), or `y * std + mean` in float64."""
        y = np.asarray(y)
        goal = self.target
        if goal.task == "regression":
            return y.astype(np.float64) * goal.std + goal.mean
        if y.dtype.kind == "f":
            if y.ndim == 0 or y.shape[-1] != len(goal.classes):
                raise ShapeError(
                    f"decode_target: expected class numbers, or scores of shape (..., {len(goal.classes)}), "
                    f"got {y.dtype} of shape {y.shape}."
                )
            y = onecold(y)
        if y.dtype.kind not in "iu":
            raise DTypeError(f"decode_target: expected class numbers or scores, got dtype {y.dtype}.")
        if y.size and not (y.min() >= 0 and y.max() < len(goal.classes)):
            raise DataError(
                f"decode_target: expected class numbers 0 to {len(goal.classes) - 1}, got {y.min()} to {y.max()}."
            )
        return np.array(goal.classes)[y]

    def describe(self) -> list[str]:
        """What was decided, in short sentences: the target, the columns used and not used, what was missing."""
        goal = self.target
        if goal.task == "classification":
            pairs = [f"{value} {count}" for value, count in zip(goal.classes, goal.counts, strict=True)]
            shown = ", ".join(pairs[:10]) + (", ..." if len(pairs) > 10 else "")
            lines = [f"{goal.name}: classification with {len(pairs)} classes ({shown})"]
        else:
            lines = [f"{goal.name}: regression, mean {goal.mean:.4g}, standard deviation {goal.std:.4g}"]
        if self.unlabeled:
            lines.append(f"{_number(self.unlabeled, 'row')} left out: {goal.name} is missing")
        kinds = [
            f"{c.name} ({c.kind if c.kind != 'category' else _number(len(c.categories), 'category')})"
            for c in self.columns
        ]
        features = _number(len(self.feature_names), "feature")
        lines.append(f"{features} of {_number(len(self.columns), 'column')}: {', '.join(kinds)}")
        lines.extend(f"{name}: not used, {why}" for name, why in self.dropped.items())
        for column in self.columns:
            if column.missing:
                fate = (
                    "a category of their own" if column.kind == "category" else f"set to the median {column.median:.4g}"
                )
                lines.append(f"{column.name}: {_number(column.missing, 'missing value')}, {fate}")
        return lines

    def to_json(self) -> dict[str, Any]:
        """The encoder as plain data that `json.dumps` takes; `from_json` reads it."""
        goal = self.target
        target: dict[str, Any] = {"name": goal.name, "task": goal.task}
        if goal.task == "classification":
            target |= {"classes": list(goal.classes), "counts": list(goal.counts)}
        else:
            target |= {"mean": goal.mean, "std": goal.std}
        columns = []
        for c in self.columns:
            entry: dict[str, Any] = {"name": c.name, "kind": c.kind, "missing": c.missing}
            numbers = {"median": c.median, "mean": c.mean, "std": c.std}
            columns.append(entry | ({"categories": list(c.categories)} if c.kind == "category" else numbers))
        return {
            "format": "fluxion.TableEncoder",
            "version": 1,
            "target": target,
            "columns": columns,
            "dropped": dict(self.dropped),
            "rows": self.rows,
            "unlabeled": self.unlabeled,
        }

    @staticmethod
    def from_json(document: Any) -> TableEncoder:
        """The encoder that `to_json` wrote.

        Errors: `FileFormatError` that names the entry for anything that `to_json` would not write.

        >>> import fluxion as fx
        >>> table = fx.read_table(fx.datasets.path("iris"))
        >>> encoder = fx.TableEncoder.fit(table, "species")
        >>> fx.TableEncoder.from_json(encoder.to_json()) == encoder
        True
        """
        from fluxion.data.tablejson import read_encoder

        return read_encoder(document)

    def __repr__(self) -> str:
        classes = f", {len(self.classes)} classes" if self.classes else ""
        return (
            f"TableEncoder(target={self.target.name!r}, task={self.task!r})"
            f"  # {_number(len(self.feature_names), 'feature')}{classes}, fitted on {_number(self.rows, 'row')}"
        )


def _check_frame(frame: Any) -> None:
    polars = sys.modules.get("polars")
    if polars is None or not isinstance(frame, polars.DataFrame):
        kind = type(frame)
        remedy = {"LazyFrame": " Call .collect() first.", "DataFrame": " Use polars.from_pandas(frame)."}
        raise DTypeError(
            f"TableEncoder: expected a polars.DataFrame (see fx.read_table), got {kind.__module__}.{kind.__name__}."
            + remedy.get(kind.__name__, "")
        )


def _number(count: int, what: str) -> str:
    """`1 row`, `2 rows`, `3 categories`."""
    if count == 1:
        return f"1 {what}"
    return f"{count} {what[:-1]}ies" if what.endswith("y") else f"{count} {what}s"
