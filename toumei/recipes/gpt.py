"""A small GPT learns to write, character by character.

The figure to reach is that of nanoGPT (Karpathy, 2022) at its setting for a CPU: 1.88 nats per
character of tinyshakespeare after 2,000 steps, with the same model.
"""

from __future__ import annotations

from typing import Any

from .. import nn
from ..autograd import no_grad
from ..models.gpt import GPT
from ..ops import from_numpy
from ..train import Trainer
from .recipe import Budget, Facts
from .run import Run
from .texts import (
    LanguageModel,
    Plan,
    Reader,
    WindowReader,
    adamw,
    passage_of,
    text_loss,
    vocabulary_of,
    warm_up_and_cosine,
)

_GLIMPSE = 28  # characters whose attention is drawn


class GPTRecipe(LanguageModel):
    """A transformer decoder of four layers, 128 wide, on windows of 64 characters.

    `--preset long` is one of six layers, 192 wide, on windows of 128, with dropout.
    It writes with the last characters that fit into its window.
    """

    name = "gpt"
    title = "GPT that writes"
    source = (
        "nanoGPT on tinyshakespeare: 1.88 nats after 2,000 steps at its CPU setting, 1.47 on a GPU"
    )
    presets = ("default", "fast", "long")

    def plan(self, real: bool, preset: str) -> Plan:
        model = {
            "dim": 128,
            "layers": 4,
            "heads": 4,
            "max_length": 64,
            "dropout": 0.0,
            "bias": True,
        }
        if preset == "fast":
            small = model | {"dim": 96, "layers": 3}
            return Plan(Budget(epochs=3, batch_size=12, lr=3e-3), None, small)
        if preset == "long":
            large = model | {"dim": 192, "layers": 6, "heads": 6, "max_length": 128, "dropout": 0.2}
            budget = Budget(epochs=20, batch_size=32, lr=2e-3)
            return Plan(budget, 1.55 if real else None, large, window=128)
        return Plan(Budget(epochs=8, batch_size=12, lr=3e-3), 1.8 if real else 1.7, model)

    def model(self, facts: Facts) -> GPT:
        model = GPT(len(vocabulary_of(facts)), **facts["model"])
        model.reset_parameters(std=0.06)
        return model

    def reader(self, model: nn.Module, facts: Facts) -> Reader:
        return WindowReader(model, facts["window"])

    def trainer(self, model: nn.Module, budget: Budget, steps_per_epoch: int) -> Trainer:
        optimizer = adamw(model, budget.lr, 0.1)
        steps = budget.epochs * steps_per_epoch
        schedule = warm_up_and_cosine(optimizer, budget.lr, steps, 0.05)
        return Trainer(
            model, optimizer, text_loss, scheduler=schedule, schedule_every="step", clip=1.0
        )

    def report(self, run: Run) -> dict[str, Any]:
        from ..viz.attention import plot_attention

        text = passage_of(run)[:_GLIMPSE]
        ids = vocabulary_of(run.facts).encode(text)
        with no_grad():
            maps = run.model.attention_maps(from_numpy(ids[None]))
        title = "GPT, second block: which characters (columns) each one (row) looks at"
        plot_attention(maps[1][0], text, text, run.folder / "attention.png", title)
        return super().report(run)


RECIPE = GPTRecipe()
