"""Bars of characters, for a terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from ..errors import ToumeiError

_EIGHTHS = ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")


def bars(labels: Sequence[object], values: Sequence[float], width: int = 30) -> str:
    """Return a table of probabilities: a line per label, with a bar `width` long for 1.

    Args:
        labels: what each line is about.
        values: each label's probability, 0..1.
        width: length of a bar for 1, characters.

    Raises:
        ToumeiError: no line, lengths that differ, a width below 1, or a value outside 0..1.

    >>> print(bars([7, "none"], [0.75, 0.0625], width=8))
    7     ██████     75.0 %
    none  ▌           6.2 %
    """
    names = [" ".join(str(label).split()) for label in labels]
    if not names or len(names) != len(values):
        raise ToumeiError(
            f"bars needs a value per label: {len(names)} labels, {len(values)} values"
        )
    if width < 1:
        raise ToumeiError(f"width must be at least 1: {width}")
    if bad := [v for v in values if not -1e-6 <= v <= 1 + 1e-6]:
        raise ToumeiError(f"a probability is in 0..1: {bad[0]:.6g}")
    longest = max(map(_columns, names))
    shares = [min(max(v, 0.0), 1.0) for v in values]  # rounding errors aside
    return "\n".join(
        f"{name}{' ' * (longest - _columns(name))}  {_bar(v, width):<{width}}  {100 * v:5.1f} %"
        for name, v in zip(names, shares, strict=True)
    )


def _bar(value: float, width: int) -> str:
    whole, rest = divmod(round(value * width * 8), 8)
    return "█" * whole + _EIGHTHS[rest]


def _columns(text: str) -> int:
    """Return how many columns a terminal gives to a text: two to a wide character, as 漢."""
    marks = sum(unicodedata.combining(c) > 0 for c in text)
    return len(text) - marks + sum(unicodedata.east_asian_width(c) in "WF" for c in text)
