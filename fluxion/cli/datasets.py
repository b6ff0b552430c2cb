"""`fluxion datasets`: which there are and where, download one, and MNIST as CSV and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fluxion.cli.output import JSON, Debug, failures, only_result, say, show, size, table, write_json
from fluxion.errors import DataError, nearest

if TYPE_CHECKING:
    import numpy as np

datasets = typer.Typer(
    name="datasets",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List, download and convert data sets.",
)

_IMAGES = ("images-idx3-ubyte", "images.idx3-ubyte")
_PICTURES = ("mnist", "fashion_mnist")


@datasets.command("list")
def list_command(json: JSON = False, debug: Debug = False) -> None:
    """Show the data sets, their sizes, and where they were found."""
    from fluxion.data.catalogue import CATALOGUE, folders, places

    with failures(debug), only_result(json) as stream:
        cells, rows = [], []
        for name, entry in CATALOGUE.items():
            found = sorted({str(path.parent) for path in places(name)})
            bytes_ = sum(file.size for file in entry.files) or None
            public = all(file.places for file in entry.files)
            rows.append({"name": name, "what": entry.what, "bytes": bytes_, "found": found, "public": public})
            where = ", ".join(found) or ("not here" if public else "not here, and no public copy is known")
            cells.append([name, size(bytes_), entry.what, where if entry.files else "comes with Fluxion"])
        if json:
            write_json(stream, {"datasets": rows, "folders": [str(folder) for folder in folders()]})
            return
        table(["data set", "size", "what", "where"], cells, numbers=False)
        say()
        say("fluxion datasets get NAME downloads one; in Python, its first use does.")


@datasets.command("get")
def get_command(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Data sets of fluxion datasets list.")],
    debug: Debug = False,
) -> None:
    """Download data sets that are not here yet, and show where their files are."""
    from fluxion.data.catalogue import CATALOGUE, fetch

    with failures(debug):
        for name in names:
            if name not in CATALOGUE:
                hint = nearest(name, CATALOGUE)
                raise typer.BadParameter(f"there is no data set {name!r}.{hint} fluxion datasets list shows all.")
        for name in names:
            for path in fetch(name):
                show(str(path))


@datasets.command("convert")
def convert_command(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="mnist or fashion_mnist, an IDX file of images, or a CSV file.")
    ],
    target: Annotated[
        Path, typer.Argument(metavar="TARGET", help="The CSV file, or the IDX file of images, to write.")
    ],
    split: Annotated[str, typer.Option("--split", help="train or test, of a data set.")] = "train",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    debug: Debug = False,
) -> None:
    """Turn images with labels from IDX into CSV, or from CSV into IDX.

    A line of the CSV has the label and the pixels, under the header label,1x1,...,28x28; a file to be read may be
    without it. The labels of images-idx3-ubyte are in labels-idx1-ubyte beside it. Names that end in .gz are packed.
    """
    with failures(debug):
        for path in written(target):
            if path.exists() and not overwrite:
                raise DataError(f"{path}: is there already. Use --overwrite to replace it.")
            if not path.parent.is_dir():
                raise DataError(f"{path}: expected an existing folder, there is no {path.parent}.")
        from fluxion.data.idx import write_idx
        from fluxion.data.pixels import write_pixels

        images, labels = read(source, split)
        if is_csv(target):
            write_pixels(target, images, labels)
        else:
            write_idx(target, images)
            write_idx(beside(target), labels)
        count, height, width = images.shape
        say(f"{count} images of {height} x {width} pixels, with labels:")
        for path in written(target):
            show(str(path))


def read(source: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels, as bytes, of a data set, a CSV file or a pair of IDX files."""
    import numpy as np

    from fluxion.data.datasets import mnist_bytes
    from fluxion.data.idx import read_idx_images
    from fluxion.data.pixels import read_pixel_bytes

    if source in _PICTURES:
        return mnist_bytes(source, split)
    path = Path(source)
    if not is_csv(path):
        return read_idx_images(path, beside(path))
    images, labels = read_pixel_bytes(path)
    if images.shape[-1] != 1:
        raise DataError(
            f"{path}: expected gray images, got {images.shape[-1]} channels, which IDX files have no place for."
        )
    if labels.min() < 0 or labels.max() > 255:
        wrong = labels.min() if labels.min() < 0 else labels.max()
        raise DataError(f"{path}: expected labels from 0 to 255, got {wrong}.")
    return images[..., 0], labels.astype(np.uint8)


def is_csv(path: Path) -> bool:
    return path.name.removesuffix(".gz").endswith(".csv")


def beside(images: Path) -> Path:
    """The file with the labels of an IDX file of images."""
    for part in _IMAGES:
        if part in images.name:
            return images.with_name(images.name.replace(part, part.replace("images", "labels").replace("idx3", "idx1")))
    raise DataError(
        f"{images}: expected a name that ends in .csv, or has {_IMAGES[0]} in it, so that the labels have a name, too."
    )


def written(target: Path) -> list[Path]:
    return [target] if is_csv(target) else [target, beside(target)]
