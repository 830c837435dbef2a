"""A picture's figure, kept for the tests to look at after it has been written."""

from __future__ import annotations

from typing import Any

import pytest

from toumei.viz import attention, canvas, classification, fields, images, latent, text


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the figures that are saved, in their order; each is written to its file as always."""
    saved: list[Any] = []

    def save(figure: Any, path: Any) -> None:
        canvas.save_figure(figure, path)
        saved.append(figure)

    for module in (attention, classification, fields, images, latent, text):
        monkeypatch.setattr(module, "save_figure", save)
    return saved
