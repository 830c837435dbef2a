"""What the twins of the recipe pinn share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from toumei.recipes import find

from .side import Array, Setup


def first_of(setup: Setup) -> int:
    """Return after how many steps L-BFGS takes over."""
    recipe = find("pinn")
    model = recipe.model(setup.facts)
    trainer: Any = recipe.trainer(model, setup.budget, setup.steps_per_epoch)
    return int(trainer.first)


def relative(found: Iterable[tuple[Array, Array]]) -> dict[str, float]:
    """Return the relative L2 error ‖predicted − exact‖ / ‖exact‖ over pairs of both.

    >>> relative([(np.array([3.0, 0.0]), np.array([2.0, 0.0]))])
    {'error': 0.5}
    """
    missed = whole = 0.0
    for predicted, exact in found:
        missed += float(np.square(predicted - exact).sum())
        whole += float(np.square(exact).sum())
    return {"error": (missed / whole) ** 0.5}
