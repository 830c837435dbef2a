"""PyTorch's twins in bench/quality: their losses and what they measure are Toumei's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bench.quality.compare import distance  # noqa: E402
from bench.quality.course import Course, open_course  # noqa: E402
from toumei.recipes.recipe import Options  # noqa: E402


def course_of(side: str, rung: str, exact: bool = True) -> Course:
    dataset = "moby-dick" if rung == "gpt" else "sample"
    options = Options(dataset=dataset, samples=192, epochs=2, batch_size=16, compile=False)
    found = open_course(side, rung, options, exact)
    trainer: Any = getattr(found.side, "trainer", None)
    if trainer is not None:
        trainer.compile = False
    return found


@pytest.mark.parametrize("rung", ["mlp", "cnn", "gpt"])
def test_losses_and_figures(rung: str) -> None:
    ours, theirs = (course_of(side, rung) for side in ("toumei", "torch"))
    assert distance(ours.losses(6), theirs.losses(6)) < 1e-3
    some = [batch for batch, _ in zip(ours.validation, range(3), strict=False)]
    found, expected = (c._measure(some)[c.metric] for c in (theirs, ours))
    assert found == pytest.approx(expected, abs=0.03)  # of an accuracy: one image of 48


@pytest.mark.parametrize("rung", ["mlp", "cnn"])
def test_dropout_is_drawn_from_the_seed(rung: str) -> None:
    once, again = (course_of("torch", rung, exact=False).losses(2) for _ in range(2))
    exact = course_of("torch", rung).losses(2)
    assert once == again and once != exact


def test_a_snapshot_stays_as_it_is() -> None:
    found = course_of("torch", "mlp")
    kept = found.side.snapshot()
    before = {name: value.clone() for name, value in kept.items()}
    found.losses(1)
    assert all(torch.equal(kept[name], value) for name, value in before.items())
    moved = found.side.snapshot()["output.weight"]
    assert not torch.equal(moved, kept["output.weight"])
    found.side.restore(kept)
    assert np.array_equal(found.side.snapshot()["output.weight"], kept["output.weight"])
