"""Pictures of images: grids, labelled sheets, samples by epoch, animations."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ToumeiError
from ..io.files import write_whole
from .canvas import DPI, Path, evenly, pixels, plain, save_figure, text_width, titled_page

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.Image import Image

WHITE = 255
_GAP = 0.08  # inches between the images of a sheet
_SIDE = 84  # pixels: about how large a sheet shows a small image
_CAPTION = 7.5  # points
_WIDEST = 1.25  # inches that a caption may take from the images beside it
_ANIMATIONS = {".gif": "GIF", ".png": "PNG", ".apng": "PNG"}


def image_grid(images: Any, columns: int | None = None, padding: int = 1) -> np.ndarray:
    """Put images side by side into one, row by row, with white lines between and around them.

    Image k stands in row k // columns and column k % columns, its upper left pixel at
    (padding + row · (H + padding), padding + column · (W + padding)).

    Args:
        images: uint8, or floats in 0..1.
        columns: images per row; None for about as many as rows.
        padding: width of the lines, pixels.

    Shape: images (N, H, W), (N, 1, H, W) or (N, 3, H, W); returns uint8,
    (rows · (H + padding) + padding, columns · (W + padding) + padding), with a last axis of 3 for
    colour.

    Raises:
        ToumeiError: no image, another shape or dtype, floats outside 0..1, no column, or a
            negative padding.

    >>> image_grid(np.zeros((3, 2, 2)), columns=2, padding=1)[:, 1]
    array([255,   0,   0, 255,   0,   0, 255], dtype=uint8)
    """
    found = pixels(images, 1)
    columns = _columns(columns, len(found))
    if padding < 0:
        raise ToumeiError(f"padding must not be negative: {padding}")
    height, width = (size + padding for size in found.shape[1:3])
    rows = math.ceil(len(found) / columns)
    size = (rows * height + padding, columns * width + padding, *found.shape[3:])
    grid = np.full(size, WHITE, np.uint8)
    for k, image in enumerate(found):
        y, x = padding + k // columns * height, padding + k % columns * width
        grid[y : y + image.shape[0], x : x + image.shape[1]] = image
    return grid


def save_images(
    images: Any,
    path: Path,
    columns: int | None = None,
    labels: Sequence[object] | None = None,
    title: str = "",
) -> None:
    """Draw images on a sheet, row by row, each with its label below it.

    Args:
        images: uint8, or floats in 0..1.
        path: the picture's file; .png, .svg and .pdf are possible.
        columns: images per row; None for about as many as rows.
        labels: one per image, of any type that `str` makes a short text of.
        title: what stands above.

    Shape: images (N, H, W), (N, 1, H, W) or (N, 3, H, W).

    Raises:
        ToumeiError: bad images as in `image_grid`, or another number of labels than of images.
    """
    found = pixels(images, 1)
    captions = [""] * len(found) if labels is None else [str(label) for label in labels]
    if len(captions) != len(found):
        raise ToumeiError(f"there are {len(found)} images, but {len(captions)} labels")
    save_figure(image_sheet(found, captions, _columns(columns, len(found)), title), path)


def image_sheet(
    found: np.ndarray, captions: Sequence[str], columns: int, title: str, reduce: bool = True
) -> Figure:
    """Return a figure of images, uint8 (N, H, W[, 3]), with a caption below each.

    Small images are enlarged; large ones are made smaller unless `reduce` is False.
    """
    height, width = _inches(found) if reduce else (size / DPI for size in found.shape[1:3])
    widest = max(text_width(text, _CAPTION) for text in captions)
    cell = max(width, min(widest, _WIDEST) + 0.06)  # long captions take room, then lines
    texts = [plain(_caption(text, cell - 0.06)) for text in captions]
    below = 0.145 * max(text.count("\n") + 1 if text else 0 for text in texts)
    columns = min(columns, len(found))
    full = max(columns * (cell + _GAP) + _GAP, 2.4)
    rows = math.ceil(len(found) / columns)
    figure, ax, top = titled_page(full, rows * (height + below + _GAP) + _GAP, title)
    left = (full - columns * (cell + _GAP) + _GAP) / 2
    for k, image in enumerate(found):
        x = left + k % columns * (cell + _GAP) + (cell - width) / 2
        y = top + k // columns * (height + below + _GAP)
        put_image(ax, image, x, y, width, height)
        ax.text(
            x + width / 2, y + height + 0.03, texts[k], fontsize=_CAPTION, ha="center", va="top"
        )
    return figure


def put_image(ax: Axes, image: np.ndarray, x: float, y: float, width: float, height: float) -> None:
    """Draw an image, uint8 (H, W[, 3]), on `inch_axes`, its upper left corner at (x, y).

    It goes to the nearest whole pixel of the page, so that its own pixels are all of one size.
    """
    x, y = round(x * DPI) / DPI, round(y * DPI) / DPI
    enlarged = width * DPI >= image.shape[1]
    ax.imshow(
        image if image.ndim == 3 else np.stack([image] * 3, axis=-1),  # no map changes its greys
        extent=(x, x + width, y + height, y),
        interpolation="nearest" if enlarged else "antialiased",
        aspect="auto",
    )


def save_epoch_sheet(frames: Any, path: Path, epochs: Sequence[int], title: str = "") -> None:
    """Draw one row of samples per epoch, the epoch's number at the left: they get better downwards.

    At most 16 epochs are drawn, evenly chosen with the first and the last, and the first 12 samples
    of each.

    Args:
        frames: the samples of each epoch; sample k should come from the same noise in each.
        path: the picture's file; .png, .svg and .pdf are possible.
        epochs: the number of each frame's epoch.
        title: what stands above.

    Shape: frames (E, N, H, W), or with 1 or 3 channels before H or after W.

    Raises:
        ToumeiError: bad images as in `image_grid`, or another number of epochs than of frames.
    """
    found = pixels(frames, 2, "frames")
    if len(epochs) != len(found):
        raise ToumeiError(f"there are {len(found)} frames, but {len(epochs)} epochs")
    chosen = evenly(len(found), 16)
    found = found[chosen, :12]
    height, width = _inches(found[0])
    left, gap = 0.62, 0.03
    full = left + found.shape[1] * (width + gap) + _GAP
    figure, ax, top = titled_page(full, 0.2 + len(chosen) * (height + gap) + _GAP, title)
    ax.text(left - 0.08, top + 0.1, "epoch", fontsize=8, ha="right", va="center", color="0.35")
    for row, (number, samples) in enumerate(zip(chosen, found, strict=True)):
        y = top + 0.2 + row * (height + gap)
        ax.text(left - 0.08, y + height / 2, f"{epochs[number]}", ha="right", va="center")
        for column, image in enumerate(samples):
            put_image(ax, image, left + column * (width + gap), y, width, height)
    save_figure(figure, path)


def save_animation(
    frames: Any,
    path: Path,
    columns: int | None = None,
    milliseconds: int = 120,
    epochs: Sequence[int] | None = None,
) -> None:
    """Write an animation of samples, a grid per epoch with its number above; the last stays longer.

    It repeats for ever.  A frame that equals the one before it is stored once and shown longer.

    Args:
        frames: the samples of each epoch; sample k should come from the same noise in each.
        path: the file; its ending says which format: .gif (256 colours), or .png or .apng (all).
        columns: samples per row; None for about as many as rows.
        milliseconds: how long each frame is shown; the last stays for 2 s at least.
        epochs: the number of each frame's epoch; None for 1, 2, ...

    Shape: frames (E, N, H, W), or with 1 or 3 channels before H or after W.

    Raises:
        ToumeiError: bad images as in `image_grid`, another ending, less than 20 ms, or another
            number of epochs than of frames.
    """
    kind = _ANIMATIONS.get(os.path.splitext(os.fspath(path))[1].lower())
    if kind is None:
        raise ToumeiError(f"{os.fspath(path)}: an animation's file ends in .gif, .png or .apng")
    if milliseconds < 20:
        raise ToumeiError(f"milliseconds must be at least 20: {milliseconds}")
    found = pixels(frames, 2, "frames")
    numbers = range(1, len(found) + 1) if epochs is None else epochs
    if len(numbers) != len(found):
        raise ToumeiError(f"there are {len(found)} frames, but {len(numbers)} epochs")
    drawn = [
        _frame(samples, columns, f"epoch {number}")
        for samples, number in zip(found, numbers, strict=True)
    ]
    times = [milliseconds] * (len(drawn) - 1) + [max(2000, 4 * milliseconds)]
    buffer = io.BytesIO()
    drawn[0].save(buffer, kind, save_all=True, append_images=drawn[1:], duration=times, loop=0)
    write_whole(path, buffer.getvalue())


def _frame(samples: np.ndarray, columns: int | None, text: str) -> Image:
    """Return a grid of samples, (N, H, W[, 3]), enlarged, with a text above it."""
    from matplotlib.font_manager import findfont
    from PIL import Image, ImageDraw, ImageFont

    grid = image_grid(samples, columns)
    scale = max(1, round(400 / max(grid.shape[:2])))
    large = grid.repeat(scale, axis=0).repeat(scale, axis=1)
    frame = Image.new(
        "RGB" if large.ndim == 3 else "L", (large.shape[1], large.shape[0] + 30), "white"
    )
    frame.paste(Image.fromarray(large), (0, 30))
    font = ImageFont.truetype(findfont("DejaVu Sans"), 18)
    ImageDraw.Draw(frame).text((scale, 4), text, fill="black", font=font)
    return frame


def _columns(columns: int | None, count: int) -> int:
    if columns is None:
        return math.ceil(math.sqrt(count))
    if columns < 1:
        raise ToumeiError(f"a grid must have a column at least: columns={columns}")
    return columns


def _inches(found: np.ndarray) -> tuple[float, float]:
    """Return how high and wide to draw images (N, H, W[, 3]): in whole pixels where possible."""
    height, width = found.shape[1:3]
    scale = max(1, round(_SIDE / max(height, width)))
    scale = min(scale, 240 / max(height, width))  # large ones are reduced
    return height * scale / DPI, width * scale / DPI


def _caption(text: str, inches: float) -> str:
    """Break a caption between words into lines of a cell's width; at most four, cut to it."""
    lines = [""]
    for word in filter(None, text.replace("\n", " ").split(" ")):  # a no-break space splits no word
        longer = f"{lines[-1]} {word}".lstrip()
        if text_width(longer, _CAPTION) <= inches + 1e-9:
            lines[-1] = longer
        else:
            lines.append(word)
    lines = [line for line in lines if line]
    return "\n".join(_cut(line, inches) for line in [*lines[:3], " ".join(lines[3:])] if line)


def _cut(line: str, inches: float) -> str:
    while text_width(line, _CAPTION) > inches + 1e-9 and len(line) > 1:
        line = line[:-2] + "…"
    return line
