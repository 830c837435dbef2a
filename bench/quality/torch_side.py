"""What PyTorch's twins share: eager mode, its own optimisers, one loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch

from .side import Arrays, Mean, Rates, Setup, Side

Losses = Callable[[Any, tuple[Any, ...]], dict[str, Any]]


class TorchSide(Side):
    """Trains a model on "loss", one of the figures that a function of model and batch returns.

    Args:
        model: with its first weights.
        optimizer: its rates are set before each step.
        figures: measures a batch: the loss, and the metric if that is another one.
        clip: the largest norm of all gradients together; None for any.
        prepare: makes the model's batch of tensors, for instance in another layout.
    """

    def __init__(
        self, model: Any, optimizer: Any, figures: Losses, clip: float | None = None,
        prepare: Callable[[tuple[Any, ...]], tuple[Any, ...]] = tuple,
    ) -> None:  # fmt: skip
        self.model, self.optimizer, self.figures = model, optimizer, figures
        self.clip, self.prepare = clip, prepare
        model.train()

    def _tensors(self, batch: Arrays) -> tuple[Any, ...]:
        return self.prepare(tuple(map(torch.from_numpy, batch)))

    def step(self, batch: Arrays, rates: Rates) -> Mapping[str, Any]:
        set_rates(self.optimizer, rates)
        self.optimizer.zero_grad()
        found = self.figures(self.model, self._tensors(batch))
        found["loss"].backward()
        if self.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        return {name: value.detach() for name, value in found.items()}

    def evaluate(self, batches: Iterable[Arrays]) -> dict[str, float]:
        found = Mean()
        self.model.eval()
        with torch.inference_mode():
            for batch in batches:
                found.add(self.figures(self.model, self._tensors(batch)), len(batch[0]))
        self.model.train()
        return found.means()

    def snapshot(self) -> Any:
        kept = self.model.state_dict()
        return {name: value.detach().clone() for name, value in kept.items()}

    def restore(self, kept: Any) -> None:
        self.model.load_state_dict(kept)


def set_rates(optimizer: Any, rates: Rates) -> None:
    """Set the learning rate and the momentum, or beta1, of all groups."""
    for group in optimizer.param_groups:
        group["lr"] = rates.lr
        if "betas" in group:
            group["betas"] = (rates.momentum, group["betas"][1])
        elif "momentum" in group:
            group["momentum"] = rates.momentum


def load(model: Any, setup: Setup) -> Any:
    """Return a model with the first weights; what it drops is the seed's, or nothing is."""
    torch.manual_seed(setup.seed)
    model.load_state_dict({k: torch.from_numpy(w.copy()) for k, w in setup.weights.items()})
    if setup.exact:
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    return model
