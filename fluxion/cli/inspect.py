"""`fluxion inspect`: what data hold, what in them is suspicious, and a picture of them; before training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from fluxion.cli.images import ImageSource, split_folders
from fluxion.cli.output import (
    JSON,
    Debug,
    clean,
    cut,
    failures,
    only_result,
    percent,
    say,
    show,
    table,
    width,
    write_json,
)
from fluxion.cli.sources import ImageOptions, Pixels, read_source
from fluxion.cli.tables import Source, about
from fluxion.errors import DataError, nearest

if TYPE_CHECKING:
    from fluxion.data.inspect import ColumnSummary, Finding, TableInspection
    from fluxion.data.inspectimages import ImageArrays, ImageFiles, ImageInspection, ImagePart

COLUMNS, CLASSES, SIZES = 60, 40, 8  # that are listed; --json has all
LONGEST = 60  # characters of the values of a column
GUESSED = ("target", "label", "class", "y")  # names of columns that are taken for the target


def inspect(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="A CSV, TSV or Parquet file, a folder of images, or a data set: iris, titanic, mnist, ...",
            show_default=False,
        ),
    ],
    target: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column to predict, to find what gives it away.")
    ] = None,
    test: Annotated[
        str | None, typer.Option(metavar="DATA", help="Data of the same kind for testing, to find what is in both.")
    ] = None,
    images: Pixels = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the data into a .png or .svg file.", show_default=False)
    ] = None,
    json: JSON = False,
    debug: Debug = False,
) -> None:
    """Show what data hold, and what in them is suspicious.

    Of a table: types, missing values, ranges, classes, and columns that are constant, name the row, repeat another or
    give the target away; rows that are there twice. Of images: sizes, kinds, classes, ranges, damaged files, images of
    one color and images that are there twice, in the part for testing too.

    --out draws it: a histogram of each column and where values are missing; or some images of each class.
    """
    with failures(debug), only_result(json) as stream:
        if out is not None:
            _check_out(out)
        options = ImageOptions.parse(None, None, images)
        folders = _folders(data, test)
        source = other = None
        if folders is None:
            source = read_source(data, options, target=target)
            other = None if test is None else read_source(test, options, target=target, split="test")
            if other is not None and isinstance(other, ImageSource) != isinstance(source, ImageSource):
                what = "images" if isinstance(source, ImageSource) else "a table"
                raise typer.BadParameter(f"expected {what}, like {data}; {test} is not.", param_hint="--test")
        found: TableInspection | ImageInspection
        if isinstance(source, Source):
            found = _table(source, target, other)
            if out is not None:
                from fluxion.cli.drawings import draw_table

                draw_table(source.frame, found, out)
        else:
            from fluxion.data.inspectimages import inspect_images

            parts = folders if source is None else _arrays(source, other)
            assert parts is not None
            say(f"{data}: images")
            if source is not None:
                for note in source.notes:
                    say(note)
            found = inspect_images(*parts)
            _show_images(found)
            if out is not None:
                from fluxion.cli.drawings import draw_images

                draw_images(parts[0], out)
        say()
        _show_findings(found.findings)
        if out is not None:
            show(f"Drawn in {out}")
        if json:
            write_json(stream, {"data": data, **found.to_json()})


def _check_out(out: Path) -> None:
    if out.suffix.lower() not in (".png", ".svg"):
        raise typer.BadParameter(f"expected a file that ends in .png or .svg, got {out}.", param_hint="--out")
    if not out.parent.is_dir():
        raise typer.BadParameter(f"there is no folder {out.parent}.", param_hint="--out")


# --------------------------------------------------------------------------------------------------- tables


def _table(source: Source, target: str | None, other: Any) -> TableInspection:
    """Inspect a table and show what is in it."""
    from fluxion.data.inspect import inspect_table

    frame = source.frame
    guessed = None
    if target is None:
        guessed = source.target or next((name for name in frame.columns if name.lower() in GUESSED), None)
    if target is not None and target not in frame.columns:
        hint = nearest(target, frame.columns)
        raise typer.BadParameter(f"{source.path} has no column {target!r}.{hint}", param_hint="--target")
    chosen = target or guessed
    with about(source.path):
        found = inspect_table(frame, chosen, test=None if other is None else other.frame)
    size = frame.estimated_size()
    say(f"{source.path}: {frame.height:,} rows, {frame.width} columns, {_bytes(size)} in memory")
    if chosen is None:
        say("No target: --target COLUMN shows its classes and finds columns that give it away.")
    elif target is None:
        say(f"The target is taken to be {chosen}; --target COLUMN for another.")
    say()
    shown = found.columns[:COLUMNS]
    header = ["column", "type", "missing", "different", "values", *(["alone"] if found.task else [])]
    rows = [[*_row(column, found.rows), *([_alone(column, chosen)] if found.task else [])] for column in shown]
    table(header, rows, texts=("column", "type", "values"))
    if len(found.columns) > COLUMNS:
        say(f"and {len(found.columns) - COLUMNS:,} more columns; --json has all")
    if found.task:
        say()
        say(f"alone: how much of {chosen} a column tells by itself, from 0 (nothing) to 1 (everything)")
    if found.classes:
        say()
        _show_classes(str(chosen), [("rows", found.classes)])
    return found


def _row(column: ColumnSummary, rows: int) -> list[str]:
    missing = f"{column.missing:,} ({percent(column.missing, rows)})" if column.missing else ""
    return [column.name, column.type, missing, f"{column.different:,}", _values(column)]


def _values(column: ColumnSummary) -> str:
    """The most frequent values, or the range."""
    if column.top and column.top[0][1] > 1:
        shown = ", ".join(f"{value} ({count:,})" for value, count in column.top)
        return cut(shown + (", ..." if column.different > len(column.top) else ""), LONGEST)
    if column.low is not None and column.median is not None and column.high is not None:
        numbers = (column.low, column.median, column.high)
        if column.type == "date":
            return " .. ".join(str(np.datetime64(0, "D") + int(number)) for number in numbers)
        return " .. ".join(f"{number:.6g}" for number in numbers)
    return cut(", ".join(value for value, _ in column.top), LONGEST)


def _alone(column: ColumnSummary, target: str | None) -> str:
    if column.name == target:
        return "target"
    return "" if column.alone is None else f"{column.alone:.2f}"


def _bytes(count: float) -> str:
    for unit in ("bytes", "KB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


# --------------------------------------------------------------------------------------------------- images


def _folders(data: str, test: str | None) -> list[ImageFiles] | None:
    """The files of a folder of images, in parts, if `data` is one: read later, for some may be damaged."""
    from fluxion.data.inspectimages import image_files

    path = Path(data)
    if not path.is_dir():
        return None
    folders = split_folders(path) or (path,)
    if test is not None:
        if not Path(test).is_dir():
            raise typer.BadParameter(f"expected a folder of images, like {data}; {test} is none.", param_hint="--test")
        folders = (path, Path(test))
    parts = [image_files(folder) for folder in folders]
    for part in parts:
        if not part.files:
            raise DataError(f"{part.name}: expected images, or a folder of them for each class, there are none.")
    return parts


def _arrays(source: ImageSource, other: ImageSource | Source | None) -> list[ImageArrays]:
    from fluxion.data.inspectimages import ImageArrays

    parts = [ImageArrays(source.path, *source.data, source.classes)]
    if isinstance(other, ImageSource):
        parts.append(ImageArrays(other.path, *other.data, other.classes))
    elif source.test is not None:
        parts = [parts[0]._replace(name="train"), ImageArrays("test", *source.test, source.classes)]
    return parts


def _show_images(found: ImageInspection) -> None:
    parts = found.parts
    say()
    rows: list[tuple[str, Callable[[ImagePart], str]]] = [
        ("images", lambda part: f"{part.images:,}"),
        ("size", _sizes),
        ("classes", lambda part: f"{len(part.classes):,}"),
        ("pixels", lambda part: f"{part.low:.4g} to {part.high:.4g}"),
        ("mean", lambda part: " ".join(f"{value:.4f}" for value in part.mean)),
        ("deviation", lambda part: " ".join(f"{value:.4f}" for value in part.std)),
    ]
    table(["", *(part.name for part in parts)], [[name, *(of(part) for part in parts)] for name, of in rows])
    if parts[0].classes:
        say()
        _show_classes("class", [(part.name if len(parts) > 1 else "images", part.classes) for part in parts])


def _sizes(part: ImagePart) -> str:
    shown = [shape if len(part.shapes) == 1 else f"{shape} ({count:,})" for shape, count in part.shapes.items()]
    return "\n".join(shown[:SIZES]) + (f"\nand {len(shown) - SIZES} more" if len(shown) > SIZES else "")


# ----------------------------------------------------------------------------------------------------- both


def _show_classes(name: str, counts: Sequence[tuple[str, dict[str, int]]]) -> None:
    """How many there are of each class; in a terminal with bars."""
    first = counts[0][1]
    names = list(dict.fromkeys(name for _, classes in counts for name in classes))
    total = sum(first.values())
    most = max(first.values(), default=0) or 1
    bars = width() <= 1000
    rows = []
    for each in names[:CLASSES]:
        count = first.get(each, 0)
        row = [each, *(f"{classes.get(each, 0):,}" for _, classes in counts), f"{100 * count / max(total, 1):.1f} %"]
        rows.append([*row, "█" * round(20 * count / most)] if bars else row)
    table([name, *(what for what, _ in counts), "share", *([""] if bars else [])], rows, texts=("", name))
    if len(names) > CLASSES:
        say(f"and {len(names) - CLASSES:,} more classes; --json has all")


def _show_findings(findings: Sequence[Finding]) -> None:
    if not findings:
        say("Nothing suspicious was found.")
        return
    say("To look at before training:")
    for finding in findings:
        where = f"{finding.where}: " if finding.where and not finding.text.startswith(finding.where) else ""
        say(f"- {clean(where)}{finding.text}", indent=2)
