"""The latent plane and what is decoded from it."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest

from toumei.errors import ToumeiError
from toumei.viz.latent import plot_latent, plot_manifold

from .looks import assert_legible, read, texts_of


def names_of(figure: Any) -> dict[str, Any]:
    return {text.get_text(): text for text in figure.axes[0].texts}


def test_each_class_is_named_at_its_middle(tmp_path: pathlib.Path, figures: list[Any]) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 2000)
    middles = rng.permutation(10)[:, None] * [1.0, 0] + [0, 5]
    codes = middles[labels] + 0.05 * rng.standard_normal((2000, 2))
    plot_latent(codes, labels, range(10), tmp_path / "a.png", "latent plane")
    assert_legible(figures[0])
    names = names_of(figures[0])
    assert sorted(names) == [str(i) for i in range(10)]
    for i in range(10):
        assert names[str(i)].get_position() == pytest.approx(middles[i], abs=0.05)
    clouds = figures[0].axes[0].collections
    looks = {(tuple(c.get_facecolor()[0]), c.get_paths()[0].vertices.tobytes()) for c in clouds}
    assert len(clouds) == len(looks) == 10  # no two classes look alike
    assert sum(len(c.get_offsets()) for c in clouds) == 2000


def test_names_in_one_place_are_moved_apart(tmp_path: pathlib.Path, figures: list[Any]) -> None:
    codes = np.random.default_rng(0).standard_normal((300, 2))
    codes = np.concatenate([codes] * 10)  # ten classes, each with the same middle
    plot_latent(codes, np.repeat(np.arange(10), 300), range(10), tmp_path / "a.png")
    assert_legible(figures[0])
    places = np.array([text.get_position() for text in names_of(figures[0]).values()])
    assert np.abs(places - np.median(codes, 0)).max() < 1.5  # not further than needed


def test_a_class_without_a_sample_has_no_name(tmp_path: pathlib.Path, figures: list[Any]) -> None:
    plot_latent([[0, 0], [1, 1.0]], [0, 2], ["$a$", "b", "c"], tmp_path / "a.png")
    assert {"$a$", "c"} <= set(texts_of(figures[0])) and "b" not in texts_of(figures[0])


@pytest.mark.parametrize(
    ("codes", "labels", "message"),
    [
        (np.zeros((2, 3)), [0, 1], r"codes must be \(2, 2\), not \(2, 3\)"),
        (np.zeros((3, 2)), [0, 1], r"not \(3, 2\)"),
        (np.full((2, 2), np.nan), [0, 1], "NaN"),
        (np.zeros((2, 2)), [0, 9], "2 classes"),
    ],
)
def test_codes_that_do_not_fit_are_refused(
    tmp_path: pathlib.Path, codes: np.ndarray, labels: list[int], message: str
) -> None:
    with pytest.raises(ToumeiError, match=message):
        plot_latent(codes, labels, "ab", tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("channels", [0, 1, 3])
def test_a_manifold_is_one_picture(
    tmp_path: pathlib.Path, figures: list[Any], channels: int
) -> None:
    images = np.random.default_rng(0).integers(0, 250, (3, 4, 28, 28), dtype=np.uint8)
    given = images if not channels else np.repeat(images[:, :, None], channels, 2)
    plot_manifold(given, tmp_path / "a.png", "decoded")
    assert_legible(figures[0])
    whole = images.transpose(0, 2, 1, 3).reshape(84, 112)
    found = read(tmp_path / "a.png")[..., 0]
    scale = round(900 / 112)
    ys = np.nonzero((found < 250).mean(1) > 0.8)[0]
    xs = np.nonzero((found < 250).mean(0) > 0.8)[0]
    shown = found[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
    assert (shown == whole.repeat(scale, 0).repeat(scale, 1)).all()


def test_a_manifold_of_a_batch_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ToumeiError, match="4 or 5 axes"):
        plot_manifold(np.zeros((9, 28, 28)), tmp_path / "a.png")
