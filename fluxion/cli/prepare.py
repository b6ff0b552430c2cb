"""Data made ready for training: cut into parts, encoded by what the training part holds, and described."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fluxion.cli.images import ImageEncoder, ImageSource, Labeled, recoded, size_text
from fluxion.cli.report import Part
from fluxion.cli.tables import Source, about, divide
from fluxion.errors import DataError

if TYPE_CHECKING:
    from fluxion.data.tables import TableEncoder

SHARE, SHARE_WITH_TEST = 0.2, 0.1  # held out for validation


class Prepared(NamedTuple):
    """What a model is trained on, and how it came to be."""

    encoder: TableEncoder | ImageEncoder
    training: Part
    validation: Part | None
    test: Part | None
    stratified: bool
    lines: list[str]  # to be said
    settings: dict[str, Any]  # for `config.json`


def prepare_table(
    source: Source,
    target: str,
    *,
    task: str | None,
    validation: float | Source | None,
    stratify: bool | None,
    standardize: bool,
    seed: int,
) -> Prepared:
    """The parts of a table; see `divide`."""
    with about(source.path):
        parts = divide(
            source, target, task=task, validation=validation, stratify=stratify, standardize=standardize, seed=seed
        )
        training = Part.of_table(parts.encoder, parts.training)
    held = None
    if parts.validation is not None:
        with about(validation.path if isinstance(validation, Source) else source.path):
            held = Part.of_table(parts.encoder, parts.validation)
    lines = [f"{source.path}: {source.frame.height:,} rows, {source.frame.width} columns"]
    how = validation.path if isinstance(validation, Source) else _how(parts.stratified)
    lines += [_divided("rows", training, held, how), *parts.encoder.describe(), *parts.notes]
    settings = {"target": target, "features": list(parts.encoder.feature_names)}
    return Prepared(parts.encoder, training, held, None, parts.stratified, lines, settings)


def prepare_images(
    source: ImageSource,
    *,
    validation: float | ImageSource | None,
    stratify: bool | None,
    standardize: bool,
    seed: int,
) -> Prepared:
    """The parts of images; where the source has images for testing, they are a part of their own."""
    from fluxion.data.splits import splitobs

    images, labels = source.data
    if len(source.classes) < 2:
        found = f"only {source.classes[0]}" if source.classes else "none"
        raise DataError(f"{source.path}: expected images of two or more classes, each in a subfolder, got {found}.")
    stratify = stratify is not False and isinstance(validation, float)
    held = None
    if isinstance(validation, float):
        at, order = 1 - validation, labels if stratify else None
        with about(source.path):
            kept, out = splitobs(np.arange(len(labels)), at, shuffle=True, stratified=order, seed=seed)
        held = Labeled(images[out], labels[out])
        images, labels = images[kept], labels[kept]
        missing = sorted(set(source.data.labels.tolist()) - set(labels.tolist()))
        if missing:
            raise DataError(
                f"{source.path}: expected images of every class to train on, {source.classes[missing[0]]} has too few. "
                "Use --validation 0."
            )
    elif validation is not None:
        with about(validation.path):
            check_shape(validation, images.shape[1:])
            held = recoded(*validation.data, validation.classes, source.classes)
    encoder = ImageEncoder.fit(images, labels, source.target, source.classes, standardize=standardize)
    parts = {}
    for name, part in (("training", Labeled(images, labels)), ("validation", held), ("test", source.test)):
        if part is not None:  # the arrays are nobody else's
            parts[name] = Part.of_images(encoder, part, in_place=True)
    lines = [f"{source.path}: {len(source.data.labels):,} images of {size_text(encoder.shape)}"]
    how = validation.path if isinstance(validation, ImageSource) else _how(stratify)
    lines += [_divided("images", parts["training"], parts.get("validation"), how)]
    lines += [*encoder.describe(), *source.notes]
    settings = {"target": source.target, "shape": list(encoder.shape), "mean": encoder.mean, "std": encoder.std}
    return Prepared(encoder, parts["training"], parts.get("validation"), parts.get("test"), stratify, lines, settings)


def labeled_part(encoder: TableEncoder | ImageEncoder, source: Source | ImageSource) -> tuple[Part, int]:
    """The data of `source` beside the truth, to be compared with what a model says, and how many rows have none."""
    with about(source.path):
        if isinstance(source, ImageSource):
            assert isinstance(encoder, ImageEncoder)
            check_shape(source, encoder.shape)
            if not source.classes:
                raise DataError("expected images with their classes, in a subfolder each, got none.")
            return Part.of_images(encoder, recoded(*source.data, source.classes, encoder.classes), in_place=True), 0
        assert not isinstance(encoder, ImageEncoder)
        frame = encoder.labeled(source.frame)
        if frame.height == 0:
            raise DataError(f"expected rows with a {encoder.target.name}, all are missing.")
        return Part.of_table(encoder, frame), source.frame.height - frame.height


def check_shape(source: ImageSource, shape: tuple[int, ...]) -> None:
    """A `DataError` for images of another shape."""
    got = source.data.images.shape[1:]
    if got != shape:
        raise DataError(f"expected images of {size_text(shape)}, got {size_text(got)}.")


def _how(stratified: bool) -> str:
    return "every class in proportion" if stratified else "drawn at random"


def _divided(what: str, training: Part, held: Part | None, how: str) -> str:
    if held is None:
        return f"{len(training.truth):,} {what} for training, none held out for validation. The training part:"
    return (
        f"{len(training.truth):,} {what} for training, {len(held.truth):,} for validation ({how}). The training part:"
    )
