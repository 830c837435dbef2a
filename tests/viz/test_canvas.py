"""The canvas: pixels of images, texts that can be drawn, files that are whole."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
from matplotlib import colormaps

from toumei.errors import SaveError, ToumeiError
from toumei.viz.canvas import (
    array,
    blank_figure,
    class_numbers,
    evenly,
    inch_axes,
    ink_on,
    inner_axes,
    light_to_dark,
    pixels,
    plain,
    save_figure,
    share,
    text_width,
    titled_page,
    wrapped,
)

from .looks import assert_legible, box_of, read


def test_pixels_take_every_layout_to_one() -> None:
    grey = np.arange(40, dtype=np.uint8).reshape(2, 5, 4)
    colour = np.arange(90, dtype=np.uint8).reshape(2, 3, 3, 5)
    assert (pixels(grey, 1) == grey).all()
    assert (pixels(grey[:, None], 1) == grey).all()
    assert (pixels(grey[..., None], 1) == grey).all()
    assert pixels(colour, 1).shape == (2, 3, 5, 3)
    assert (pixels(colour, 1)[1, 2, 3] == colour[1, :, 2, 3]).all()
    last = np.zeros((2, 5, 4, 3), np.uint8)
    assert pixels(last, 1).shape == (2, 5, 4, 3)
    assert pixels(colour[0], 0).shape == (3, 5, 3)


def test_pixels_round_floats() -> None:
    found = pixels(np.array([[[0.0, 0.5, 1.0, 1.0005, -0.0005, 0.1]]]), 1)
    assert found.tolist() == [[[0, 128, 255, 255, 0, 26]]]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.full((1, 2, 2), 1.1), r"floats in 0..1 \(or uint8\): these are 1.1..1.1"),
        (np.full((1, 2, 2), -0.5), "these are -0.5"),
        (np.full((1, 2, 2), np.nan), "these are nan"),
        (np.zeros((1, 2, 2), int), "uint8 or floats in 0..1, not int64"),
        (np.zeros((1, 2, 4, 4)), "1 or 3 channels"),
        (np.zeros((2, 2)), "3 or 4 axes"),
        (np.zeros((0, 2, 2)), "none empty"),
        (np.array([["a"]]), "must hold numbers"),
    ],
)
def test_pixels_refuse(images: np.ndarray, message: str) -> None:
    with pytest.raises(ToumeiError, match=message):
        pixels(images, 1)


def test_class_numbers_are_whole_and_known() -> None:
    assert class_numbers([0, 2], "truth", 3).tolist() == [0, 2]
    for bad, message in (
        ([0.0], "integers"),
        ([3], "3 classes"),
        ([-1], "-1 to -1"),
        ([], "empty"),
    ):
        with pytest.raises(ToumeiError, match=message):
            class_numbers(np.array(bad, float if bad == [] else None), "truth", 3)


def test_array_says_what_it_wants() -> None:
    with pytest.raises(ToumeiError, match=r"codes must have 2 axes, .* the shape is \(3,\)"):
        array([1, 2, 3], "codes", 2)


def test_dollars_and_strange_characters_are_drawn_as_they_are(tmp_path: pathlib.Path) -> None:
    figure, ax = inch_axes(3, 1)
    shown = ax.text(0.1, 0.5, plain("$a$ \x07漢_é$"))
    assert shown.get_text() == r"\$a\$ ��_é\$"
    save_figure(figure, tmp_path / "a.png")  # a glyph that is missing would warn, and so fail
    box = shown.get_window_extent(figure.canvas.get_renderer())  # type: ignore[attr-defined]
    assert box.width / 120 == pytest.approx(text_width("$a$ \x07漢_é$", 10), rel=0.05)


def test_lines_are_wrapped_to_the_page() -> None:
    title = "a picture of something that takes a long time to say " * 4
    figure, _, top = titled_page(3, 1, title)
    assert_legible(figure)
    assert figure.get_figheight() == pytest.approx(top + 1, abs=0.01)
    assert wrapped("short", 3) == "short"
    assert titled_page(3, 1, "")[2] < titled_page(3, 1, "one")[2] < top


def test_axes_lie_where_they_were_put(tmp_path: pathlib.Path) -> None:
    figure, page = inch_axes(2, 1)
    ax = inner_axes(page, 0.5, 0.25, 1, 0.5)
    ax.set_axis_off()
    ax.imshow(np.full((1, 1, 3), (255, 0, 0), np.uint8), aspect="auto")
    save_figure(figure, tmp_path / "a.png")
    found = read(tmp_path / "a.png")
    assert found.shape == (120, 240, 3)
    assert box_of(found, (255, 0, 0)) == (30, 60, 90, 180)


def test_the_name_says_the_format_in_either_case(tmp_path: pathlib.Path) -> None:
    for name, start in (("a.PNG", b"\x89PNG"), ("a.Pdf", b"%PDF"), ("a", b"\x89PNG")):
        save_figure(blank_figure(1, 1), tmp_path / name)
        assert (tmp_path / name).read_bytes()[:4] == start


def test_a_figure_is_written_whole_or_not_at_all(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    broken = blank_figure(1, 1)
    broken.text(0, 0, "$\\nonsense$")  # TeX that can't be drawn
    with pytest.raises(ValueError, match="nonsense"):
        save_figure(broken, path)
    with pytest.raises(ToumeiError, match=r"no picture can be a \.xyz file"):
        save_figure(blank_figure(1, 1), tmp_path / "a.xyz")
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(SaveError):
        save_figure(blank_figure(1, 1), tmp_path / "folder.png")


def test_the_map_of_colours_darkens_steadily_from_white() -> None:
    colours = light_to_dark()(np.linspace(0, 1, 64))[:, :3]
    light = colours @ [0.2126, 0.7152, 0.0722]
    assert colours[0].tolist() == [1, 1, 1]
    assert (np.diff(light) < 0).all()
    assert light_to_dark()(np.nan)[0] == pytest.approx(0.85)


def test_ink_stands_out() -> None:
    for name in ("viridis", "magma", "gray"):
        for colour in colormaps[name](np.linspace(0, 1, 32)):
            light = colour[:3] @ [0.299, 0.587, 0.114]
            assert abs(light - (ink_on(colour) == "white")) >= 0.4


def test_shares_are_never_rounded_to_certainty() -> None:
    assert [share(v) for v in (0.0, 0.004, 0.5, 0.994, 0.9951, 1.0)] == [
        "0 %", "<1 %", "50 %", "99 %", ">99 %", "100 %",
    ]  # fmt: skip


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 40, 1000])
def test_evenly_keeps_first_and_last(count: int) -> None:
    found = evenly(count, 16)
    assert found[0] == 0 and found[-1] == count - 1
    assert len(found) == len(set(found)) == min(count, 16)
    steps = np.diff(found)
    assert not len(steps) or steps.max() - steps.min() <= 1
