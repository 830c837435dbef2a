"""What every picture is drawn with: figures without a display, colours, and files written whole."""

from __future__ import annotations

import io
import math
import os
import textwrap
import unicodedata
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ToumeiError
from ..io.files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

Path = str | os.PathLike[str]

# Okabe and Ito's colours: told apart by colour-blind readers too.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
DARK_TO_LIGHT = "viridis"  # perceptually uniform: equal steps of a value look equal
AROUND_ZERO = "RdBu_r"  # blue below zero, white at it, red above
DPI = 120


def blank_figure(width: float, height: float) -> Figure:
    """Return an empty figure, sizes in inches, that lays its axes out when it is drawn."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def new_figure(
    panels: int, width: float = 5.2, height: float = 3.9
) -> tuple[Figure, Sequence[Axes]]:
    """Return a figure with panels, up to three side by side, without a window or a display."""
    columns = panels if panels <= 3 else math.ceil(math.sqrt(panels))
    rows = math.ceil(panels / columns)
    figure = blank_figure(width * columns, height * rows)
    axes = [figure.add_subplot(rows, columns, i + 1) for i in range(panels)]
    for ax in axes:
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes


def inch_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure and bare axes over all of it: (x, y) is in inches from the upper left."""
    width, height = (math.ceil(size * DPI - 1e-6) / DPI for size in (width, height))
    figure = blank_figure(width, height)  # whole pixels
    figure.set_layout_engine("none")
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, width), ylim=(height, 0))
    ax.set_axis_off()
    return figure, ax


def titled_page(width: float, height: float, title: str) -> tuple[Figure, Axes, float]:
    """Return `inch_axes` with a title above, and how much of the height that takes; 0.1 if none."""
    lines = wrapped(title, width - 0.2) if title else ""
    top = 0.2 + 0.17 * (lines.count("\n") + 1) if title else 0.1
    figure, page = inch_axes(width, top + height)
    page.text(0.1, 0.1, plain(lines), fontsize=10, va="top")
    return figure, page, top


def inner_axes(page: Axes, x: float, y: float, width: float, height: float) -> Axes:
    """Return axes within `inch_axes`: a rectangle in inches, (x, y) its upper left corner."""
    full, high = page.get_xlim()[1], page.get_ylim()[0]
    figure = page.get_figure(root=True)
    assert figure is not None
    return figure.add_axes((x / full, 1 - (y + height) / high, width / full, height / high))


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure to a file, whole or not at all; the name's ending says which format."""
    buffer = io.BytesIO()
    kind = os.path.splitext(os.fspath(path))[1].lstrip(".").lower() or "png"
    if kind not in (known := figure.canvas.get_supported_filetypes()):
        raise ToumeiError(
            f"{os.fspath(path)}: no picture can be a .{kind} file; there are {', '.join(known)}"
        )
    with warnings.catch_warnings():  # on a busy machine matplotlib finds itself slow, and says so
        warnings.filterwarnings("ignore", "Creating legend with loc", UserWarning)
        figure.savefig(buffer, format=kind)
    write_whole(path, buffer.getvalue())


def write_title(figure: Figure, title: str) -> None:
    """Write a figure's title, in as many lines as its width asks for; nothing for no title."""
    if title:
        figure.suptitle(plain(wrapped(title, figure.get_figwidth())), fontsize=10)


def light_to_dark() -> Colormap:
    """Return a colour map from white over orange to dark purple; NaN is grey.

    It is matplotlib's magma backwards, which is perceptually uniform, with white at its light end.
    """
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    place = np.linspace(0, 1, 256)[:, None]
    white = np.maximum(0, 1 - place / 0.15)
    colours = white + (1 - white) * colormaps["magma_r"](0.92 * place[:, 0])[:, :3]
    return ListedColormap(colours, name="light_to_dark").with_extremes(bad="0.85")


def text_width(text: str, points: float) -> float:
    """Return how many inches the widest line of a text takes at a font size."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family=FONTS[0], size=points)
    lines = plain(text).replace(r"\$", "$").split("\n")
    sizes = [text_to_path.get_text_width_height_descent(line, font, False) for line in lines]
    return max(width for width, _, _ in sizes) / 72


def wrapped(text: str, inches: float, points: float = 10) -> str:
    """Break a text into lines that fit a width, at a font size in points."""
    per_line = max(8, int(inches * 72 / (0.58 * points)))  # 0.58 em: a letter of DejaVu Sans
    return "\n".join(textwrap.fill(line, per_line) for line in text.split("\n"))


def plain(text: str) -> str:
    """Return a text as matplotlib has to be given it to draw just that: dollars aren't TeX.

    What the font can't draw (control characters, scripts it lacks) becomes U+FFFD.
    """
    return "".join(c if _drawable(c) else "\ufffd" for c in text).replace("$", r"\$")


def token(text: str) -> str:
    """Return a token so that one sees it: spaces and line ends become marks."""
    for space, mark in ((" ", "␣"), ("\n", "↵"), ("\t", "⇥")):
        text = text.replace(space, mark)
    return text or "∅"


def _drawable(character: str) -> bool:
    if character == "\n" or " " <= character <= "~":
        return True
    return not unicodedata.category(character).startswith("C") and ord(character) in _glyphs()


def _glyphs() -> frozenset[int]:
    """Return the characters that both of matplotlib's own fonts can draw."""
    if not _GLYPHS:
        from matplotlib.font_manager import findfont, get_font

        maps = [get_font(findfont(name)).get_charmap() for name in FONTS]
        _GLYPHS.append(frozenset(maps[0]) & frozenset(maps[1]))
    return _GLYPHS[0]


FONTS = ("DejaVu Sans", "DejaVu Sans Mono")  # matplotlib brings both
_GLYPHS: list[frozenset[int]] = []  # filled when the first text is drawn that isn't ASCII


def ink_on(colour: Sequence[float]) -> str:
    """Return black or white, whichever stands out from a background (r, g, b[, a]), each 0..1."""
    red, green, blue = colour[:3]
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.55 else "black"


def share(value: float) -> str:
    """Write a share in whole per cent; 100 % and 0 % only for what is all or nothing.

    >>> share(0.973), share(0.9999), share(0.0001), share(1.0)
    ('97 %', '>99 %', '<1 %', '100 %')
    """
    if 0 < value < 0.005:
        return "<1 %"
    return ">99 %" if 0.995 <= value < 1 else f"{100 * value:.0f} %"


def array(value: Any, name: str, ndim: int | tuple[int, ...]) -> np.ndarray:
    """Return what is to be drawn as an array of numbers; it must have (one of) `ndim` axes."""
    found = np.asarray(value)
    allowed = (ndim,) if isinstance(ndim, int) else ndim
    if found.dtype.kind not in "buif":
        raise ToumeiError(f"{name} must hold numbers, not {found.dtype}")
    if found.ndim not in allowed or 0 in found.shape:
        axes = " or ".join(map(str, allowed))
        raise ToumeiError(f"{name} must have {axes} axes, none empty: the shape is {found.shape}")
    return found


def class_numbers(value: Any, name: str, classes: int) -> np.ndarray:
    """Return class numbers as an array (n,) of integers in 0..classes - 1."""
    numbers = array(value, name, 1)
    if numbers.dtype.kind not in "ui":
        raise ToumeiError(f"{name} must hold class numbers (integers), not {numbers.dtype}")
    if numbers.min() < 0 or numbers.max() >= classes:
        raise ToumeiError(
            f"{name} holds {numbers.min()} to {numbers.max()}, but there are {classes} classes"
        )
    return numbers.astype(np.intp)


def pixels(images: Any, leading: int, name: str = "images") -> np.ndarray:
    """Return images as uint8, (*leading, H, W) for grey ones and (*leading, H, W, 3) for colour.

    Args:
        images: uint8, or floats in 0..1; (*leading, H, W), or with an axis of 1 or 3 channels
            before H, as in a batch, or after W (where both fit, it is the one before H).
        leading: how many axes come before the image's own.
        name: what errors call it.

    Raises:
        ToumeiError: another shape or dtype, a NaN, or values outside 0..1.
    """
    found = array(images, name, (leading + 2, leading + 3))
    if found.dtype != np.uint8:
        found = _bytes_of(found, name)
    if found.ndim == leading + 2:
        return found
    if found.shape[leading] in (1, 3):
        found = np.moveaxis(found, leading, -1)
    elif found.shape[-1] not in (1, 3):
        raise ToumeiError(f"{name} must have 1 or 3 channels: the shape is {found.shape}")
    return found[..., 0] if found.shape[-1] == 1 else found


def _bytes_of(found: np.ndarray, name: str) -> np.ndarray:
    if found.dtype.kind != "f":
        raise ToumeiError(f"{name} must be uint8 or floats in 0..1, not {found.dtype}")
    low, high = float(found.min()), float(found.max())
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # a NaN fails as well
        raise ToumeiError(
            f"{name} must be floats in 0..1 (or uint8): these are {low:.4g}..{high:.4g}"
        )
    return np.rint(np.clip(found, 0, 1) * 255).astype(np.uint8)


def evenly(count: int, most: int) -> list[int]:
    """Return at most `most` of the numbers 0..count - 1, evenly spread, first and last included.

    >>> evenly(4, 16), evenly(10, 4)
    ([0, 1, 2, 3], [0, 3, 6, 9])
    """
    if count <= most:
        return list(range(count))
    return [math.floor(i * (count - 1) / (most - 1) + 0.5) for i in range(most)]
