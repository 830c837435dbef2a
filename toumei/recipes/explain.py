"""One step of a recipe on its own data, seen through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..autograd import no_grad
from ..train import Trainer
from ..viz.explain import Explanation, explain
from .recipe import Options, Recipe
from .run import Run, new_folder


def explain_recipe(recipe: Recipe, options: Options, *, inference: bool = False) -> Explanation:
    """Explain one training step of a recipe, or one of inference, on the first batch of its data.

    Args:
        recipe: which one.
        options: how it would be trained.
        inference: whether it is a step of the validation: no gradients, nothing is updated.

    Raises:
        TraceError: the step can't be compiled.
    """
    run = Run(recipe, new_folder(recipe.name), options)  # nothing is written there
    batch = next(iter(run.validation if inference else run.train))
    if inference:
        with run.trainer._measuring(), no_grad():
            found = explain(run.trainer.validation_step)(batch)
    else:
        run.model.train()
        found = explain(training_step(run.trainer))(batch)
    kind = "a step of inference" if inference else "a training step"
    found.name = f"{recipe.name}: {kind} with {len(batch[0])} samples"
    return found


def training_step(trainer: Trainer) -> Callable[[Any], Any]:
    """Return what makes a whole step of one batch; a trainer may have one of its own."""
    whole = "whole_step" in trainer.compiled
    return trainer.whole_step if whole else trainer.training_step
