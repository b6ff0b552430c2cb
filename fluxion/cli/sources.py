"""What DATA names on the command line: a table, or images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from fluxion.cli.images import (
    ImageSource,
    Shape,
    image_sets,
    is_picture,
    looks_like_pixels,
    parse_size,
    read_labeled,
    read_pictures,
    read_rows,
    read_set,
)
from fluxion.cli.output import warn
from fluxion.cli.tables import BUILT_IN, Source
from fluxion.errors import DataError, ShapeError, nearest

Pixels = Annotated[
    str | None,
    typer.Option(
        "--images",
        metavar="HxWxC|no",
        help="What the rows of a table of pixels show, 28x28x1 for example; or that they are no images.",
    ),
]


@dataclass(frozen=True)
class ImageOptions:
    """What the command line says about images."""

    size: tuple[int, int] | None = None  # --size, of those in a folder
    channels: int | None = None  # --channels, likewise
    pixels: Shape | None = None  # --images, of those in a table
    table: bool = False  # --images no: a table is a table

    @staticmethod
    def parse(size: str | None, channels: int | None, images: str | None) -> ImageOptions:
        """The options as given; usage errors for what they cannot be."""
        if channels not in (None, 1, 3):
            raise typer.BadParameter(f"expected 1 (gray) or 3 (color), got {channels}.", param_hint="--channels")
        side = None if size is None else parse_size(size, "--size", 2)
        plain = images is not None and images.lower() == "no"
        pixels = None if images is None or plain else parse_size(images, "--images", 3)
        return ImageOptions(side, channels, pixels, plain)  # type: ignore[arg-type]


def read_source(
    data: str,
    options: ImageOptions = ImageOptions(),
    *,
    target: str | None = None,
    split: str = "train",
    labeled: bool = True,
) -> Source | ImageSource:
    """The table or the images that `data` names.

    A path is a folder of images or the file of a table; any other word is the name of a data set. A table whose
    columns are a label and pixels is read as images.

    Arguments:
        split: the part of a set that has one for testing: "train", which brings the other along, or "test".
        labeled: whether the subfolders of a folder are classes. If not, `options` have the shape of the images.
    """
    from fluxion.data import datasets
    from fluxion.data.tablefiles import read_table

    path = Path(data)
    if path.is_dir() or is_picture(path):
        if not labeled and options.pixels is not None:
            return read_pictures(path, options.pixels)
        return read_labeled(path, options.size, options.channels, split)
    if path.exists() or path.suffix or path.name != data:
        if path.is_file() and not options.table and (options.pixels or looks_like_pixels(path)):
            try:
                return read_rows(path, target, options.pixels)
            except (DataError, ShapeError) as error:
                if options.pixels:
                    raise
                no_images = error
            warn(f"Not read as images, but as a table: {no_images}")
        return Source(path.stem, data, read_table(path), None)
    if data in BUILT_IN:
        return Source(data, data, read_table(datasets.path(data)), BUILT_IN[data])
    if data in image_sets():
        return read_set(data, split)
    known = (*BUILT_IN, *image_sets())
    if data in datasets.names():
        raise DataError(f"{data}: expected a table or images, this data set is neither. Use {', '.join(known)}.")
    raise DataError(
        f"{data}: expected a CSV, TSV or Parquet file, a folder of images or a data set ({', '.join(known)}), "
        f"there is none.{nearest(data, known)}"
    )
