"""One picture file, read by Pillow, as an array.

Files come from outside and are not trusted: only the five kinds below are decoded, whatever a file's name says; its
header is held against a limit before memory is taken; and every error names the file and the reason.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fluxion.errors import DataError, FileFormatError, FluxionError

if TYPE_CHECKING:
    from jaxtyping import Float32
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
KINDS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's word for so many channels
MAX_PIXELS = 2**26  # 8192 x 8192

_ORIENTATION = 0x0112  # the tag of EXIF that says how the camera was held
_QUARTER_TURNS = (5, 6, 7, 8)  # its values that exchange height and width


def read_picture(
    file: str | os.PathLike[str], size: tuple[int, int] | None = None, channels: int | None = None
) -> Float32[np.ndarray, "height width channels"]:
    """The pixels of a file between 0 and 1, upright as its EXIF orientation says; of an animation the first frame.

    Shapes: `(*size, channels)`, by default of as many rows, columns and channels as the file has: 1 for gray, 4 where
    there is transparency, else 3.

    Arguments:
        file: PNG, JPEG, BMP, GIF or WebP; what it holds decides, not its name.
        size: height and width to resize to, by Pillow's bilinear filter, whatever the proportions. A large JPEG is
            then decoded at the half, quarter or eighth that is still twice that size.
        channels: 1, 3 or 4. Colors become gray by Pillow's weights (ITU-R 601), transparency is dropped or is 1.

    Errors: `DataError` where there is no such file, `FileFormatError` with file and reason for a damaged or truncated
    one, another kind, and more than 2^26 pixels. Gray of 16 bits is read in full, colors of 16 bits in Pillow's 8.

    >>> import numpy as np, os, tempfile
    >>> from PIL import Image
    >>> file = os.path.join(tempfile.mkdtemp(), "a.png")
    >>> Image.fromarray(np.array([[0, 51], [102, 255]], np.uint8)).save(file)
    >>> read_picture(file)[..., 0]
    array([[0. , 0.2],
           [0.4, 1. ]], dtype=float32)
    """
    with _opened(file) as picture:
        _load(picture, size)
        kept = channels or own_channels(picture)
        if picture.mode.startswith("I"):
            return _deep_gray(picture, size, kept)
        result = _with_channels(picture, kept)
        if size is not None and result.size != (size[1], size[0]):
            result = result.resize((size[1], size[0]), _bilinear())
        pixels = np.asarray(result)
    return np.divide(pixels.reshape(*pixels.shape[:2], kept), 255, dtype=np.float32)


def picture_shape(file: str | os.PathLike[str]) -> tuple[int, int, int]:
    """Height, width and channels that `read_picture(file)` has, by the file's header."""
    with _opened(file) as picture:
        width, height = picture.size
        if picture.getexif().get(_ORIENTATION) in _QUARTER_TURNS:
            width, height = height, width
        return height, width, own_channels(picture)


def own_channels(picture: Image) -> int:
    """1, 3 or 4: what it takes to hold all that a picture shows."""
    if picture.has_transparency_data:
        return 4
    return 1 if picture.mode in ("1", "L") or picture.mode.startswith("I") else 3


@contextlib.contextmanager
def _opened(file: str | os.PathLike[str]) -> Iterator[Image]:
    """A file whose header is read and in order; what Pillow raises while it is open becomes an error about the file."""
    from PIL import Image, WebPImagePlugin  # noqa: F401 - Pillow loads the other kinds by itself

    if not Path(file).is_file():
        raise DataError(f"{file}: expected a picture, there is no such file.")
    try:
        with Image.open(file, formats=KINDS) as picture:
            _check_pixels(file, *picture.size)
            yield picture
    except FluxionError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise FileFormatError(f"{file}: {error}".rstrip(".") + ".") from error
    except Image.UnidentifiedImageError as error:
        raise FileFormatError(f"{file}: expected a picture, PNG, JPEG, BMP, GIF or WebP; it is none.") from error
    except Exception as error:  # a damaged file makes Pillow's decoders raise errors of every kind
        unreadable = isinstance(error, OSError) and error.errno is not None
        what = "cannot be read" if unreadable else "not a whole picture"
        raise FileFormatError(f"{file}: {what} ({str(error) or type(error).__name__}).") from error


def _check_pixels(file: str | os.PathLike[str], width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise FileFormatError(
            f"{file}: expected at most {MAX_PIXELS} pixels, its header promises {height} x {width}. Make it smaller."
        )


def _load(picture: Image, size: tuple[int, int] | None) -> None:
    """Decode a picture and turn it upright, in its place."""
    from PIL import ImageOps

    if size is not None:
        height, width = size
        if picture.getexif().get(_ORIENTATION) in _QUARTER_TURNS:
            height, width = width, height
        picture.draft(None, (2 * width, 2 * height))  # of use to JPEG, and nothing to the others
    picture.load()
    ImageOps.exif_transpose(picture, in_place=True)


def _with_channels(picture: Image, channels: int) -> Image:
    if picture.mode == "P" and picture.has_transparency_data:
        picture = picture.convert("RGBA")  # the only mode that Pillow turns such palettes into without a warning
    elif picture.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
        picture = picture.convert("RGB")  # CMYK and the like know no other way
    mode = MODES[channels]
    return picture if picture.mode == mode else picture.convert(mode)


def _deep_gray(picture: Image, size: tuple[int, int] | None, channels: int) -> np.ndarray:
    """Gray of 16 bits, which Pillow would clip at 255 on its way to another mode."""
    from PIL import Image

    gray = np.divide(np.asarray(picture), 65535, dtype=np.float32)
    if size is not None and gray.shape != size:
        gray = np.asarray(Image.fromarray(gray).resize((size[1], size[0]), _bilinear()))
    pixels = np.repeat(gray[..., None], channels, axis=-1)
    if channels == 4:
        pixels[..., 3] = 1
    return pixels


def _bilinear() -> int:
    from PIL import Image

    return Image.Resampling.BILINEAR
