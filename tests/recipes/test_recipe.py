"""What the user sets of a recipe's budget."""

from __future__ import annotations

import pytest

from toumei.recipes.recipe import Budget, Data, Options, budget_of, target_of

DATA = Data("digits", range(1000), range(9), range(9), Budget(4, 10, 0.1), 0.9)


@pytest.mark.parametrize(
    ("options", "target"),
    [
        (Options(), 0.9),
        (Options(epochs=5, lr=0.2, batch_size=20), 0.9),
        (Options(samples=2000), 0.9),  # more than there are
        (Options(epochs=3), None),
        (Options(samples=999), None),
    ],
)
def test_a_shorter_training_has_no_figure_to_reach(options: Options, target: float | None) -> None:
    assert target_of(DATA, budget_of(DATA, options)) == target
