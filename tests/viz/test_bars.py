"""Bars for a terminal."""

from __future__ import annotations

import pytest

from toumei.errors import ToumeiError
from toumei.viz.bars import bars


def test_bars_are_as_long_as_their_values() -> None:
    values = [0.0, 0.01, 0.125, 0.5, 0.973, 1.0]
    lines = bars(range(6), values, width=20).split("\n")
    assert len({len(line) for line in lines}) == 1
    for line, value in zip(lines, values, strict=True):
        assert line.endswith(f"{100 * value:.1f} %")
        blocks = line[3:23]
        eighths = 8 * blocks.count("█") + sum("▏▎▍▌▋▊▉".find(c) + 1 for c in blocks)
        assert eighths == round(value * 160)
        assert blocks.rstrip() == blocks.rstrip().replace(" ", "")  # it begins at the left


def test_names_of_any_width_keep_the_bars_in_line() -> None:
    lines = bars(["a", "漢字", "é", "two\nlines"], [0.25] * 4, width=4).split("\n")
    assert lines == [
        "a          █      25.0 %",
        "漢字       █      25.0 %",
        "é          █      25.0 %",
        "two lines  █      25.0 %",
    ]
    decomposed = bars(["e\N{COMBINING ACUTE ACCENT}", "ab"], [1, 1], width=1).split("\n")
    assert decomposed[0] == "e\N{COMBINING ACUTE ACCENT}   █  100.0 %"


@pytest.mark.parametrize(
    ("labels", "values", "width", "message"),
    [
        ([], [], 30, "0 labels, 0 values"),
        (["a"], [0.5, 0.5], 30, "1 labels, 2 values"),
        (["a"], [1.5], 30, "in 0..1: 1.5"),
        (["a"], [-0.5], 30, "in 0..1: -0.5"),
        (["a"], [float("nan")], 30, "in 0..1: nan"),
        (["a"], [0.5], 0, "width"),
    ],
)
def test_what_is_no_probability_is_refused(
    labels: list[str], values: list[float], width: int, message: str
) -> None:
    with pytest.raises(ToumeiError, match=message):
        bars(labels, values, width)


def test_a_rounding_error_is_no_reason_to_refuse() -> None:
    assert bars(["a", "b"], [1 + 1e-7, -1e-7], width=2) == "a  ██  100.0 %\nb        0.0 %"
