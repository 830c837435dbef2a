"""Grids, sheets and animations of images."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from toumei.errors import ToumeiError
from toumei.viz import images as sheets
from toumei.viz.images import image_grid, save_animation, save_epoch_sheet, save_images

from .looks import assert_legible, box_of, read, texts_of


def colour_of(k: int) -> tuple[int, int, int]:
    return k, 255 - k, 200


def plain_images(*shape: int) -> np.ndarray:
    """Return images (*shape, 3, 28, 28), image k all of `colour_of(k)`."""
    colours = np.array([colour_of(k) for k in range(np.prod(shape))], np.uint8)
    return np.broadcast_to(colours.reshape(*shape, 3, 1, 1), (*shape, 3, 28, 28))


@pytest.mark.parametrize("padding", [0, 1, 3])
@pytest.mark.parametrize("columns", [1, 3, 5])
def test_a_grid_has_each_image_in_its_place(padding: int, columns: int) -> None:
    images = np.random.default_rng(0).integers(0, 255, (5, 4, 6), dtype=np.uint8)
    grid = image_grid(images, columns, padding)
    rows = -(-5 // columns)
    assert grid.shape == (rows * (4 + padding) + padding, columns * (6 + padding) + padding)
    for k, image in enumerate(images):
        y, x = padding + k // columns * (4 + padding), padding + k % columns * (6 + padding)
        assert (grid[y : y + 4, x : x + 6] == image).all()
        grid[y : y + 4, x : x + 6] = 255
    assert (grid == 255).all()  # the rest is white


def test_a_grid_of_colour_images() -> None:
    images = np.zeros((2, 3, 4, 4))
    images[0, 0], images[1, 2] = 1, 0.5
    grid = image_grid(images)
    assert grid.shape == (6, 11, 3) and grid.dtype == np.uint8
    assert grid[1, 1].tolist() == [255, 0, 0] and grid[1, 6].tolist() == [0, 0, 128]
    assert (image_grid(images[:, :1]) == image_grid(images[:, 0])).all()


def test_a_grid_is_about_square_by_itself() -> None:
    assert image_grid(np.zeros((10, 2, 2)), padding=0).shape == (6, 8)


@pytest.mark.parametrize(("columns", "padding", "message"), [(0, 1, "column"), (2, -1, "padding")])
def test_a_bad_grid_is_refused(columns: int, padding: int, message: str) -> None:
    with pytest.raises(ToumeiError, match=message):
        image_grid(np.zeros((2, 2, 2)), columns, padding)


def test_a_sheet_has_every_image_and_label(tmp_path: pathlib.Path, figures: list[Any]) -> None:
    images = plain_images(7)
    long = "a very long label that takes a few lines"
    labels = ["a cat", "漢", "$5 or $6", long, 3, "x" * 90, ""]
    save_images(images, tmp_path / "a.png", 3, labels, "seven images")
    assert_legible(figures[0])
    found = read(tmp_path / "a.png")
    boxes = [box_of(found, colour_of(k)) for k in range(7)]
    assert {(b - t, r - l) for t, l, b, r in boxes} == {(84, 84)}  # 28 pixels, each three times
    assert len({t for t, *_ in boxes}) == 3 and len({l for _, l, *_ in boxes}) == 3
    assert boxes == sorted(boxes)  # row by row
    written = texts_of(figures[0])
    assert {"seven images", "a cat", "$5 or $6", "3"} <= set(written)
    assert any(w.replace("\n", " ") == long for w in written)
    assert any("…" in w for w in written)


def test_a_sheet_shows_the_pixels_themselves(tmp_path: pathlib.Path) -> None:
    image = np.random.default_rng(0).integers(0, 250, (1, 28, 28), dtype=np.uint8)
    save_images(image, tmp_path / "a.png")
    found = read(tmp_path / "a.png")[..., 0]
    ys, xs = np.nonzero(found < 250)
    shown = found[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
    assert (shown == image[0].repeat(3, 0).repeat(3, 1)).all()


def test_large_images_are_made_smaller(tmp_path: pathlib.Path) -> None:
    save_images(np.zeros((2, 3, 600, 300)), tmp_path / "a.png")
    top, left, bottom, right = box_of(read(tmp_path / "a.png"), (0, 0, 0))
    assert bottom - top == pytest.approx(240, abs=2)
    assert right - left == pytest.approx(2 * 120 + 10, abs=3)


def test_a_sheet_without_a_label_per_image_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ToumeiError, match="2 images, but 1 labels"):
        save_images(np.zeros((2, 4, 4)), tmp_path / "a.png", labels=["a"])
    assert not list(tmp_path.iterdir())


def test_an_epoch_sheet_has_a_row_per_epoch(tmp_path: pathlib.Path, figures: list[Any]) -> None:
    save_epoch_sheet(plain_images(4, 5), tmp_path / "a.png", [0, 5, 10, 12], "better downwards")
    assert_legible(figures[0])
    assert {"0", "5", "10", "12", "epoch", "better downwards"} == set(texts_of(figures[0]))
    found = read(tmp_path / "a.png")
    boxes = [box_of(found, colour_of(k)) for k in range(20)]
    assert {(b - t, r - l) for t, l, b, r in boxes} == {(84, 84)}
    tops = np.array([b[0] for b in boxes]).reshape(4, 5)
    lefts = np.array([b[1] for b in boxes]).reshape(4, 5)
    assert (np.ptp(tops, axis=1) <= 1).all() and (np.diff(tops[:, 0]) > 84).all()
    assert (np.ptp(lefts, axis=0) <= 1).all() and (np.diff(lefts[0]) > 84).all()


def test_an_epoch_sheet_chooses_16_rows_and_12_columns(
    tmp_path: pathlib.Path, figures: list[Any]
) -> None:
    save_epoch_sheet(np.zeros((100, 20, 8, 8, 3)), tmp_path / "a.png", range(1, 101))
    rows = [text for text in texts_of(figures[0]) if text != "epoch"]
    assert len(rows) == 16 and rows[0] == "1" and rows[-1] == "100"
    assert len(figures[0].axes[0].get_images()) == 16 * 12
    with pytest.raises(ToumeiError, match="3 frames, but 2 epochs"):
        save_epoch_sheet(np.zeros((3, 2, 8, 8)), tmp_path / "a.png", [1, 2])


@pytest.mark.parametrize("ending", ["gif", "png", "apng"])
@pytest.mark.parametrize("colour", [False, True])
def test_an_animation_plays_its_frames(tmp_path: pathlib.Path, ending: str, colour: bool) -> None:
    frames = np.zeros((3, 4, 8, 8))
    for e in range(3):
        frames[e, e] = 1  # another sample is white in each frame
    if colour:
        frames = np.stack([frames, frames, 0 * frames], axis=2)
    path = tmp_path / f"a.{ending}"
    save_animation(frames, path, columns=2, milliseconds=120)
    with Image.open(path) as animation:
        assert animation.n_frames == 3 and animation.info["loop"] == 0
        assert animation.format == {"gif": "GIF"}.get(ending, "PNG")
        times, shown = [], []
        for e in range(3):
            animation.seek(e)
            times.append(animation.info["duration"])
            shown.append(np.asarray(animation.convert("RGB")).astype(int))
    assert times == [120, 120, 2000]
    grid = image_grid(frames[0], 2)
    scale = shown[0].shape[1] // grid.shape[1]
    assert shown[0].shape == (grid.shape[0] * scale + 30, grid.shape[1] * scale, 3)
    bright = (255, 255, 0) if colour else (255, 255, 255)
    for e in range(3):
        for k in range(4):
            y, x = 30 + int((5 + k // 2 * 9) * scale), int((5 + k % 2 * 9) * scale)
            assert np.abs(shown[e][y, x] - (bright if e == k else 0)).max() < 8, (e, k)
    heads = [frame[:30] for frame in shown]  # the epoch's number: another in each
    assert all(head.min() < 60 for head in heads)
    assert (heads[0] != heads[1]).any() and (heads[1] != heads[2]).any()


def test_an_animation_that_cannot_be_is_refused(tmp_path: pathlib.Path) -> None:
    frames = np.zeros((2, 1, 4, 4))
    for wrong, message in (
        ({"path": "a.mp4"}, r"ends in \.gif, \.png or \.apng"),
        ({"milliseconds": 10}, "at least 20: 10"),
        ({"epochs": [1]}, "2 frames, but 1 epochs"),
        ({"frames": frames[0]}, "frames must have 4 or 5 axes"),
        ({"frames": frames + 2}, "floats in 0..1"),
    ):
        given: dict[str, Any] = {"frames": frames, "path": "a.gif", **wrong}
        given["path"] = tmp_path / given["path"]
        with pytest.raises(ToumeiError, match=message):
            save_animation(**given)
    assert not list(tmp_path.iterdir())


def test_a_caption_isnt_broken_at_a_no_break_space() -> None:
    wide = sheets.text_width("taken for 28 %", sheets._CAPTION)
    broken = sheets._caption("bird, taken for 28\N{NO-BREAK SPACE}%", wide - 0.05)
    assert broken.split("\n")[-1].endswith("28\N{NO-BREAK SPACE}%")
    assert broken.count("\n") >= 1
