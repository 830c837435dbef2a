"""A picture from a file, made into what a classifier was trained on.

Digits go through what MNIST's own went through (http://yann.lecun.com/exdb/mnist): fitted into
20 x 20 pixels without changing their proportions, with grey levels from the anti-aliasing, then
placed in 28 x 28 pixels so that their centre of mass is in the middle.  Clothes are cut out and
fitted into 28 x 28.  Photographs are fitted and cut to a square.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ToumeiError

if TYPE_CHECKING:
    from PIL.Image import Image

_INK = 0.2  # of the strongest ink: what is weaker is paper
_FITTED = {"fashion-mnist": 28}  # pixels of the longest side; digits: 20


def read_picture(path: str) -> Image:
    """Read an image file of any size and mode; return RGB, upright, on white where transparent.

    Raises:
        ToumeiError: there is no such file, or it is no image, or damaged.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    file = pathlib.Path(path).expanduser()
    if not path or not file.is_file():  # "" would be this folder
        what = "is a folder" if path and file.is_dir() else "is not there"
        raise ToumeiError(f"the input is an image file, such as seven.png: {path!r} {what}")
    try:
        with Image.open(file) as opened:
            picture = ImageOps.exif_transpose(_eight_bit(opened))
            see_through = picture.convert("RGBA")
    except UnidentifiedImageError:
        raise ToumeiError(f"{path} is no image that can be read") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ToumeiError(f"{path} can't be read as an image: {error}") from error
    paper = Image.new("RGBA", see_through.size, "white")
    return Image.alpha_composite(paper, see_through).convert("RGB")


def _eight_bit(picture: Image) -> Image:
    """Return 16-bit, 32-bit and float greys as 8-bit ones, from 0 to the largest of their kind."""
    from PIL import Image

    if not picture.mode.startswith(("I", "F")):
        return picture
    values = np.asarray(picture).astype(np.float64)
    top = 65535 if values.max(initial=0) > 255 else 255 if values.max(initial=0) > 1 else 1
    return Image.fromarray(np.rint(np.clip(values / top, 0, 1) * 255).astype(np.uint8))


def seen(picture: Image, dataset: str, shape: Sequence[int]) -> np.ndarray[Any, Any]:
    """Return a picture as an image of a data set, uint8.  Shape: (channels, height, width)

    Raises:
        ToumeiError: there is nothing on it.
    """
    channels, height, width = shape
    if channels == 3:
        return square(picture, height)
    drawn = ink(np.asarray(picture.convert("L")).astype(np.float64))
    if drawn.shape == (height, width):  # it is such an image already
        return np.rint(drawn).astype(np.uint8)[None]
    if dataset in _FITTED:
        return _framed(_fitted(_cropped(drawn), _FITTED[dataset]), (height, width), False)[None]
    return _framed(_fitted(_cropped(drawn), 20), (height, width), True)[None]


def square(picture: Image, size: int) -> np.ndarray[Any, Any]:
    """Return the middle of a picture, its shorter side fitted.  Shape: (3, size, size)"""
    from PIL import Image, ImageOps

    return np.asarray(ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS)).transpose(
        2, 0, 1
    )


def ink(grey: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return how much stands out from the background, 0 to 255, whether it is darker or lighter.

    The background is the median of the picture's edge.
    """
    edge = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    paper = float(np.median(edge))
    drawn = np.clip(paper - grey if paper > 127 else grey - paper, 0, None)
    strongest = drawn.max()
    if strongest < 16:
        raise ToumeiError("the image is blank: nothing stands out from its background")
    result: np.ndarray[Any, Any] = drawn * (255 / strongest)
    return result


def _cropped(drawn: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Cut away the rows and columns around the ink, and what is too weak to be ink."""
    drawn = np.where(drawn < _INK * 255, 0, drawn)
    rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
    return drawn[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _fitted(drawn: np.ndarray[Any, Any], longest: int) -> np.ndarray[Any, Any]:
    """Resize such that the longer side has so many pixels; the strongest ink is 255 again."""
    from PIL import Image

    scale = longest / max(drawn.shape)
    height, width = (max(1, round(side * scale)) for side in drawn.shape)
    picture = Image.fromarray(drawn.astype(np.float32))
    small = np.asarray(picture.resize((width, height), Image.Resampling.HAMMING))
    return np.clip(small, 0, None) * (255 / small.max())


def _framed(
    drawn: np.ndarray[Any, Any], size: tuple[int, int], by_mass: bool
) -> np.ndarray[Any, Any]:
    """Put a drawing into the middle, of its mass or of its sides, of an empty image."""
    frame = np.zeros(size, np.uint8)
    at = []
    for axis, (room, side) in enumerate(zip(size, drawn.shape, strict=True)):
        share = drawn.sum(1 - axis) / drawn.sum()
        # MNIST's centres of mass are at pixel 14, counted from 0: half a pixel off the middle.
        middle = float(share @ np.arange(side)) if by_mass else side / 2
        at.append(int(min(max(round(room / 2 - middle), 0), room - side)))
    frame[at[0] : at[0] + drawn.shape[0], at[1] : at[1] + drawn.shape[1]] = np.rint(drawn)
    return frame
