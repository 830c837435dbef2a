"""Toumei's side: the recipe's own trainer, its steps compiled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from toumei import from_numpy, get_rng_state, nn, set_rng_state
from toumei.recipes import find

from .side import Arrays, Rates, Setup, Side


class ToumeiSide(Side):
    """Trains a recipe with its trainer; schedule and averages are the trainer's."""

    def __init__(self, rung: str, setup: Setup) -> None:
        recipe = find(rung)
        state = get_rng_state()  # the weights are given: what it takes to draw others is put back
        model = recipe.model(setup.facts)
        set_rng_state(state)
        model.load_state_dict({name: from_numpy(w) for name, w in setup.weights.items()})
        if setup.exact:
            without_dropout(model)
        self.trainer = recipe.trainer(model, setup.budget, setup.steps_per_epoch)
        model.train()

    def step(self, batch: Arrays, rates: Rates) -> Mapping[str, Any]:
        trainer = self.trainer
        found: Mapping[str, Any] = trainer.run_step("training_step", _tensors(batch))
        trainer.steps += 1
        trainer._after_update()
        return found

    def evaluate(self, batches: Iterable[Arrays]) -> dict[str, float]:
        return dict(self.trainer.evaluate(map(_tensors, batches)))

    def snapshot(self) -> Any:
        kept = self.trainer.evaluated.state_dict()
        return {name: value.detach().clone() for name, value in kept.items()}

    def restore(self, kept: Any) -> None:
        self.trainer.evaluated.load_state_dict(kept)

    def samples(self, count: int, seed: int) -> Any:
        from toumei.recipes.generators import draw, noise

        model: Any = self.trainer.evaluated.eval()
        return draw(model, noise(count, model.latent, seed)).numpy()


def make(rung: str, setup: Setup) -> ToumeiSide:
    return ToumeiSide(rung, setup)


def without_dropout(model: nn.Module) -> None:
    """Set all probabilities of dropping something to 0."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0


def _tensors(batch: Arrays) -> tuple[Any, ...]:
    return tuple(map(from_numpy, batch))
