"""The record of a run: one row of numbers per epoch, to print, plot, keep as CSV and read back."""

from __future__ import annotations

import csv
import html
import io
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from fluxion.errors import ArgumentError, DTypeError, FileFormatError, nearest
from fluxion.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Number = int | float
Mode = Literal["min", "max"]

# A row takes some 100 bytes; more than this is no history.
LARGEST_FILE = 256 * 2**20


class History:
    """What `fit` returns: one row per epoch, a dict of numbers by name.

    `history["loss"]` is a column, `for row in history` goes through the rows, `history.last` is the last one,
    `history.best("loss")` the best; `history.plot("curves.png")` draws it and `history.to_csv("log.csv")` keeps it.
    `fit` writes the names `epoch` (from 1), `loss`, the metrics, the same again with `validation_` before them,
    `learning_rate`, `seconds` and `samples_per_second`.

    Arguments:
        rows: rows to begin with.

    >>> import fluxion as fx
    >>> history = fx.History()
    >>> history.append({"epoch": 1, "loss": 0.5, "validation_loss": 0.6})
    >>> history.append({"epoch": 2, "loss": 0.25, "validation_loss": 0.7})
    >>> history["loss"]
    [0.5, 0.25]
    >>> history.best("validation_loss")["epoch"]
    1
    >>> history
    History of 2 epochs
    epoch    loss  validation_loss
        1  0.5000           0.6000
        2  0.2500           0.7000
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        self._rows: list[dict[str, Number]] = []
        self._names: dict[str, None] = {}  # in the order in which they first came
        for row in rows:
            self.append(row)

    def append(self, row: Mapping[str, Any]) -> None:
        """Add the row of one more epoch: numbers, or NumPy and JAX scalars, by name; it is copied."""
        numbers = {name: _number(name, value) for name, value in row.items()}
        self._rows.append(numbers)
        self._names.update(dict.fromkeys(numbers))

    @property
    def rows(self) -> list[dict[str, Number]]:
        """All rows, as copies: plain Python numbers, fit for JSON."""
        return [dict(row) for row in self._rows]

    @property
    def names(self) -> list[str]:
        """The names of the columns, in the order in which they first came."""
        return list(self._names)

    @property
    def last(self) -> dict[str, Number]:
        """The row of the last epoch."""
        self._check_not_empty("last")
        return dict(self._rows[-1])

    def best(self, name: str, mode: Mode | None = None) -> dict[str, Number]:
        """The row with the least (`mode="min"`) or greatest (`mode="max"`) value of `name`; the first of equals.

        Losses need no mode: for `loss` and names that end in `_loss` it is `"min"`. NaN is never the best.
        """
        sign = 1 if check_mode("best", name, mode) == "min" else -1
        self._check_not_empty("best")
        self._check_name(name)
        scored = [row for row in self._rows if name in row and row[name] == row[name]]
        if not scored:
            raise ArgumentError(f"best: expected at least one value of {name!r} that is not NaN, got none.")
        return dict(min(scored, key=lambda row: sign * row[name]))

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the table to `path`, wholly or not at all: a crash or a full disk leaves the old file.

        Numbers are written in full precision (`from_csv` gives the same back); what a row does not have is left empty.
        """
        atomic_write(path, lambda file: file.write(self.csv_text().encode()))

    @classmethod
    def from_csv(cls, path: str | os.PathLike[str]) -> History:
        """Read what `to_csv` wrote. `FileFormatError`, naming the line, for anything else."""
        size = os.path.getsize(path)
        if size > LARGEST_FILE:
            raise FileFormatError(
                f"{os.fspath(path)}: expected a history of at most {LARGEST_FILE} bytes, got {size} bytes."
            )
        with open(path, "rb") as file:
            return cls.from_text(file.read(), os.fspath(path))

    @classmethod
    def from_text(cls, text: bytes, where: str) -> History:
        """As `from_csv`, of the bytes of such a file, which came from `where`."""
        try:
            lines = io.StringIO(text.decode(), newline="")
            return cls(_read_rows(where, csv.reader(lines, strict=True)))
        except (csv.Error, UnicodeDecodeError) as error:
            raise FileFormatError(f"{where}: expected a history as CSV, got {error}.") from error

    def plot(self, path: str | os.PathLike[str] | None = None, *, names: Iterable[str] | None = None) -> Figure:
        """The loss and each metric over the epochs, training solid and validation dashed, as one figure.

        Arguments:
            path: where to write it, if anywhere: `.png` or `.svg`.
            names: what to draw, `["loss", "accuracy"]`; all but times and the learning rate unless given.

        Returns: the `matplotlib.figure.Figure`; a notebook shows it.
        """
        from fluxion.train.plots import plot_history

        return plot_history(self, path, names=names)

    def __getitem__(self, name: str) -> list[float]:
        self._check_name(name)
        return [row.get(name, float("nan")) for row in self._rows]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[dict[str, Number]]:
        return iter(self.rows)

    def __repr__(self) -> str:
        title, lines = self._table()
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
        return "\n".join([title, *text])

    def _repr_html_(self) -> str:
        title, lines = self._table()
        head, *body = [[html.escape(cell) for cell in line] for line in lines] or [[]]
        rows = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in line)}</tr>" for line in body)
        return (
            f"<table><caption>{title}</caption><thead><tr>{''.join(f'<th>{cell}</th>' for cell in head)}</tr></thead>"
            f"<tbody>{rows}</tbody></table>"
        )

    def _table(self) -> tuple[str, list[list[str]]]:
        """The title, and the cells, header first; of a long history the first and last rows."""
        if not self._rows:
            return "History of 0 epochs", []
        title = f"History of {len(self)} epoch{'s' if len(self) > 1 else ''}"
        body = [[shown(name, row[name]) if name in row else "" for name in self._names] for row in self._rows]
        if len(body) > 20:
            body = [*body[:8], ["..."] * len(self._names), *body[-8:]]
        return title, [self.names, *body]

    def csv_text(self) -> str:
        """What `to_csv` writes."""
        lines = csv_lines(self.names, self._rows)
        return csv_line(self.names) + lines if self._names else ""

    def _check_name(self, name: str) -> None:
        if name not in self._names:
            there = ", ".join(map(repr, self._names)) or "none; it is empty"
            raise ArgumentError(
                f"history: expected one of its names ({there}), got {name!r}.{nearest(str(name), self._names)}"
            )

    def _check_not_empty(self, what: str) -> None:
        if not self._rows:
            raise ArgumentError(f"history.{what}: expected at least one epoch, got none. Train first.")


def check_mode(caller: str, name: str, mode: Mode | None) -> Mode:
    """Whether the best of `name` is its `"min"` or `"max"`; only a loss goes without saying."""
    if mode is None and (name == "loss" or name.endswith("_loss")):
        return "min"
    if mode not in ("min", "max"):
        raise ArgumentError(
            f'{caller}: expected mode="min" or mode="max" for {name!r}, got {mode!r}. '
            "Say whether lower or higher values are better."
        )
    return mode


def shown(name: str, value: Number) -> str:
    """A number as people read it: four decimals, or the exponent where they would hide it."""
    if name == "samples_per_second" and value == value:
        return f"{value:,.0f}"
    if name == "seconds":
        return f"{value:.2f}" if value < 100 else f"{value:.0f}"
    if isinstance(value, int) or name == "learning_rate":
        return f"{value:.4g}" if isinstance(value, float) else str(value)
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.4f}"
    return f"{value:.3e}"


def csv_line(cells: Iterable[str]) -> str:
    """One line of CSV, with its end."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def csv_lines(names: list[str], rows: Iterable[Mapping[str, Number]]) -> str:
    """The rows as CSV, without the header: numbers in full precision, nothing where a row has no such name."""
    # A line of one empty cell would be an empty line, which csv.writer avoids by quoting it.
    return "".join(csv_line([repr(row[name]) if name in row else "" for name in names]) for row in rows)


def _number(name: object, value: Any) -> Number:
    if not isinstance(name, str) or not name or not name.isprintable():
        raise DTypeError(f"history: expected names to be printable text, got {name!r}.")
    plain = value.item() if getattr(value, "ndim", None) == 0 else value
    if isinstance(plain, bool) or not isinstance(plain, int | float):
        raise DTypeError(f"history: expected {name!r} to be a single number, got {value!r}.")
    return plain


def _read_rows(path: str, lines: Any) -> Iterator[dict[str, Number]]:
    names: list[str] = next(lines, [])
    if len(set(names)) != len(names) or "" in names:
        raise FileFormatError(f"{path}: expected a header with each name once, got {names}.")
    for cells in lines:
        if len(cells) != len(names):
            raise FileFormatError(
                f"{path}, line {lines.line_num}: expected {len(names)} cells, got {len(cells)}. "
                "The file is damaged or was cut short."
            )
        yield {n: _parsed(path, lines.line_num, n, cell) for n, cell in zip(names, cells, strict=True) if cell}


def _parsed(path: str, line: int, name: str, cell: str) -> Number:
    # 4300 digits is where Python refuses; a counter of epochs or steps has a few.
    if re.fullmatch(r"-?[0-9]{1,100}", cell):
        return int(cell)
    if re.fullmatch(r"-?([0-9]{1,40}\.?[0-9]{0,40}(e[+-]?[0-9]{1,5})?|inf)|nan", cell, re.IGNORECASE):
        return float(cell)
    raise FileFormatError(f"{path}, line {line}: expected {name!r} to be a number, got {cell[:40]!r}.")
