"""From a table to arrays: a transformation that is fitted once, and is plain data.

`TableEncoder.fit` looks at every column of a training table and decides how it becomes numbers. The result can be
printed (`describe`), kept as JSON (`to_json`) and applied to any later table with the same columns.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fluxion.data.classweights import balanced
from fluxion.data.columns import (
    KINDS,
    SCALES,
    TASKS,
    Column,
    Target,
    counts_rows,
    fit_column,
    fit_target,
    known_rows,
    labels_of,
    numbers_of,
    scaled,
)
from fluxion.data.onehot import onecold
from fluxion.data.tablefiles import check_column
from fluxion.errors import ArgumentError, DataError, DTypeError, ShapeError, nearest

if TYPE_CHECKING:
    import polars
    from jaxtyping import Float32

    from fluxion.layers.tableembedding import TableEmbedding


@dataclass(frozen=True, repr=False)
class TableEncoder:
    """The way from a table to features and targets, fitted on a training table by `TableEncoder.fit`.

    Numbers, booleans, dates and times become `(x - mean) / std`, a missing cell the training median; text becomes one
    0/1 feature per category of the training table, in sorted order. Where cells were missing in training, missing is a
    category of its own; a category that training did not hold gives zeros in all of a column's features.

    An embedded category is one feature, its code: 0 for what training did not hold or held once, then the categories
    in sorted order, missing last. `encoder.input_layer()` is the layer that embeds the codes.

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
    def fit(
        frame: polars.DataFrame,
        target: str,
        *,
        task: str | None = None,
        standardize: bool = True,
        kinds: Mapping[str, str] | None = None,
        scale: Mapping[str, str] | None = None,
        embed: bool | Sequence[str] = False,
    ) -> TableEncoder:
        """Decide from a training table how its columns become features and targets.

        Left out, with the reason in `dropped`: columns with a single value or none (the border pixels of MNIST); text
        with more than 20 different values that also are more than a fifth of all (names, tickets); whole numbers that
        only count rows, unless nothing else is there; values that are neither numbers, text, dates nor times. Mean and
        standard deviation (divided by N) are those of the column with missing cells replaced by the median.

        A target of text or booleans, or of whole numbers with at most 20 different values (each twice on average),
        makes a classification, any other number a regression. Rows without a target are left out.

        Arguments:
            frame: the training table.
            target: the name of the column to predict.
            task: "classification" or "regression", to decide it yourself.
            standardize: whether numbers are brought to mean 0 and deviation 1; dates, times and the target always are.
            kinds: what columns are, where it is not to be guessed: "number", "boolean", "date", "time", "category",
                or "drop" to leave one out.
            scale: how the numbers of a column are scaled: "standard"; "minmax", `(x - min) / (max - min)` with those of
                training; "log", `log(1 + x)` and then standard; "none".
            embed: whether text with more than 20 categories is embedded, or the names of the columns that are.

        Errors: `DataError` for a target or column that is not there, a target with a single value, infinite numbers,
            negative ones where the scale is log, cells that are not of the kind asked for (with row and column), more
            than 1000 categories without embedding, and where no column is left.

        >>> import fluxion as fx, polars as pl
        >>> table = pl.DataFrame({"size": [1.0, None, 8.0], "kind": ["b", "a", None], "price": [1.5, 2, 4]})
        >>> encoder = fx.TableEncoder.fit(table, "price", scale={"size": "minmax"})
        >>> encoder.feature_names
        ('size', 'kind=a', 'kind=b', 'kind=(missing)')
        >>> encoder.features(table)[:, 0]
        array([0. , 0.5, 1. ], dtype=float32)
        """
        _check_frame(frame)
        check_column(frame, target, "TableEncoder: target")
        if task is not None and task not in TASKS:
            hint = nearest(str(task), TASKS)
            raise ArgumentError(f"TableEncoder: expected task as one of {', '.join(TASKS)}, got {task!r}.{hint}")
        kinds = _choices(frame, target, kinds, "kinds", (*KINDS, "drop"))
        scales = _choices(frame, target, scale, "scale", SCALES)
        embedded = _choices(frame, target, {} if isinstance(embed, bool) else dict.fromkeys(embed), "embed", ())
        known = known_rows(frame[target])
        if not known.any():
            raise DataError(f"TableEncoder: expected values in the target column {target!r}, all are missing.")
        goal = fit_target(frame[target].filter(known), np.flatnonzero(known), task)
        columns, dropped, counters = [], {}, []
        for series in frame.drop(target):
            name = series.name
            kind = kinds.get(name, "category" if name in embedded else None)
            if kind == "drop":
                dropped[name] = "as asked for"
                continue
            column = fit_column(
                series,
                known,
                kind=kind,
                scale=scales.get(name),
                standardize=standardize,
                embed=None if embed is True else name in embedded,
            )
            _check_choices(column, name in scales, name in embedded)
            if isinstance(column, str):
                dropped[name] = column
            elif kind is None and counts_rows(series.filter(known)):
                dropped[name] = "whole numbers that count the rows"
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
        """The name of each feature: the column's, with `=category` where each category has one."""
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
            stop = start + len(column.feature_names)
            column.features(frame[column.name], x[:, start:stop])
            start = stop
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
            return scaled(numbers_of(series, "number"), goal.mean, goal.std, goal.name)[:, None]
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

    def class_weights(self) -> Float32[np.ndarray, " classes"]:
        """What each class is to count in a loss so that all classes count alike, by their numbers in training.

        `n / (k * count)` for a class with `count` of `n` rows and `k` classes; see `fx.class_weights`.

        >>> import fluxion as fx, polars as pl
        >>> table = pl.DataFrame({"size": [1.0, 2.5, 8.0, 3.5], "kind": ["a", "a", "b", "a"]})
        >>> fx.TableEncoder.fit(table, "kind").class_weights()
        array([0.6666667, 2.       ], dtype=float32)
        """
        if self.task != "classification":
            raise DataError(f"class_weights: expected a classification, {self.target.name!r} is a number.")
        return balanced(np.array(self.target.counts))

    def input_layer(self) -> TableEmbedding:
        """The layer that a model of the features begins with: it embeds the codes of embedded categories.

        A category of `n` codes is embedded in `min(600, round(1.6 * n**0.56))` numbers, the rule of fastai.

        >>> import fluxion as fx, polars as pl
        >>> table = pl.DataFrame({"city": ["Rome", "Oslo"] * 2, "size": [1.0, 2, 8, 9], "price": [1.5, 2, 4, 8]})
        >>> encoder = fx.TableEncoder.fit(table, "price", embed=["city"])
        >>> encoder.input_layer()
        TableEmbedding(2, [(0, 3, 3)])
        >>> model = fx.Chain(encoder.input_layer(), fx.Dense(None, 32, fx.relu), fx.Dense(32, 1))
        """
        from fluxion.layers.tableembedding import TableEmbedding

        codes, at = [], 0
        for column in self.columns:
            if column.embedding:
                codes.append((at, len(column.categories) + 1, column.embedding))
            at += len(column.feature_names)
        return TableEmbedding(at, codes)

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
        features = _number(len(self.feature_names), "feature")
        shown = _shortened([f"{c.name} ({_what(c)})" for c in self.columns])
        lines.append(f"{features} of {_number(len(self.columns), 'column')}: {shown}")
        for why in dict.fromkeys(self.dropped.values()):
            names = [name for name, reason in self.dropped.items() if reason == why]
            lines.append(f"{_shortened(names)}: not used, {why}")
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
            if c.kind == "category":
                columns.append(entry | {"categories": list(c.categories), "embedding": c.embedding})
            else:
                columns.append(entry | {"median": c.median, "scale": c.scale, "mean": c.mean, "std": c.std})
        return {
            "format": "fluxion.TableEncoder",
            "version": 2,
            "target": target,
            "columns": columns,
            "dropped": dict(self.dropped),
            "rows": self.rows,
            "unlabeled": self.unlabeled,
        }

    @staticmethod
    def from_json(document: Any) -> TableEncoder:
        """The encoder that `to_json` wrote, of this version or an earlier one.

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


def _choices(
    frame: polars.DataFrame, target: str, chosen: Mapping[str, Any] | None, what: str, options: Sequence[str]
) -> dict[str, Any]:
    """The argument `what` of `fit`, a value for some columns, checked."""
    if chosen is not None and not isinstance(chosen, Mapping):
        raise ArgumentError(f"TableEncoder: expected {what} as a dict of columns, got {chosen!r:.60}.")
    for name, value in (chosen or {}).items():
        check_column(frame, name, f"TableEncoder: {what}")
        if name == target:
            raise ArgumentError(f"TableEncoder: expected {what} for columns to learn from, {name!r} is the target.")
        if options and value not in options:
            hint = nearest(str(value), options)
            raise ArgumentError(
                f"TableEncoder: expected {what} of {name!r} as one of {', '.join(options)}, got {value!r}.{hint}"
            )
    return dict(chosen or {})


def _check_choices(column: Column | str, is_scaled: bool, is_embedded: bool) -> None:
    if isinstance(column, str):
        return
    if is_scaled and column.kind == "category":
        raise ArgumentError(f"TableEncoder: expected scale for columns of numbers, {column.name!r} is a category.")
    if is_embedded and column.kind != "category":
        raise ArgumentError(f"TableEncoder: expected embed for categories, kinds says {column.name!r} is none.")


def _what(column: Column) -> str:
    """`number`, `number, log`, `3 categories`, `40 categories embedded in 13 numbers`."""
    if column.kind == "category":
        many = _number(len(column.categories), "category")
        return f"{many} embedded in {_number(column.embedding, 'number')}" if column.embedding else many
    return column.kind if column.scale in ("standard", "none") else f"{column.kind}, {column.scale}"


def _shortened(names: Sequence[str], most: int = 20) -> str:
    return ", ".join(names[:most]) + (f", ... ({len(names)} in all)" if len(names) > most else "")


def _number(count: int, what: str) -> str:
    """`1 row`, `2 rows`, `3 categories`."""
    if count == 1:
        return f"1 {what}"
    return f"{count} {what[:-1]}ies" if what.endswith("y") else f"{count} {what}s"
