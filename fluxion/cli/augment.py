"""What `--augment` names: random changes of the training images, made on the device, anew in every epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

from fluxion.errors import nearest

if TYPE_CHECKING:
    from fluxion.cli.images import ImageEncoder
    from fluxion.data.tables import TableEncoder

CHANGES = ("crop", "flip")


def known_changes() -> str:
    """The names, for the help."""
    return ", ".join(CHANGES)


def parse_changes(text: str | None) -> tuple[str, ...]:
    """`crop,flip` as names; a usage error for one that is not known."""
    names = [] if text is None else [name.strip().lower() for name in text.split(",")]
    for name in names:
        if name not in CHANGES:
            raise typer.BadParameter(
                f"expected names of {known_changes()} with commas between, got {name!r}.{nearest(name, CHANGES)}",
                param_hint="--augment",
            )
    return tuple(dict.fromkeys(names))


def changed(names: tuple[str, ...], encoder: TableEncoder | ImageEncoder) -> dict[str, Any]:
    """The options of a DataLoader whose training images are changed as `names` say."""
    if not names:
        return {}
    import fluxion as fx
    from fluxion.cli.images import ImageEncoder

    assert isinstance(encoder, ImageEncoder)
    padding = max(1, min(encoder.shape[:2]) // 8)
    by_name: dict[str, Callable[[Any], Any]] = {
        "crop": lambda images: fx.random_crop(images, padding),
        "flip": fx.random_flip,
    }

    def augment(images: Any, labels: Any) -> tuple[Any, Any]:
        for name in names:
            images = by_name[name](images)
        return images, labels

    return {"augment": augment}
