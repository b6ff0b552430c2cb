"""What `--augment` names: random changes of the training images, made on the device, anew in every epoch.

crop     pads an eighth of the shorter side, and cuts the old size out at a random place
flip     mirrors left and right, every other image
shift    moves by up to a tenth of height and width
rotate   turns by up to 15 degrees
cutout   covers a square of a quarter of the shorter side
noise    adds noise of deviation 0.1

What comes in at the borders is 0: the mean of the channel, or black with --no-standardize.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

from fluxion.errors import nearest

if TYPE_CHECKING:
    from fluxion.cli.images import ImageEncoder
    from fluxion.data.tables import TableEncoder

CHANGES = ("crop", "flip", "shift", "rotate", "cutout", "noise")


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
    side = min(encoder.shape[:2])
    by_name: dict[str, Callable[[Any], Any]] = {
        "crop": lambda images: fx.random_crop(images, max(1, side // 8)),
        "flip": fx.random_flip,
        "shift": fx.random_shift,
        "rotate": fx.random_rotation,
        "cutout": lambda images: fx.cutout(images, max(1, side // 4)),
        "noise": fx.gaussian_noise,
    }

    def augment(images: Any, labels: Any) -> tuple[Any, Any]:
        for name in names:
            images = by_name[name](images)
        return images, labels

    return {"augment": augment}
