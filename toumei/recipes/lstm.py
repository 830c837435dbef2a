"""A recurrent network learns to write, character by character.

The figure to reach is that of Karpathy's char-rnn and its many descendants, two layers of some
hundred units: about 1.65 nats per character of tinyshakespeare.
"""

from __future__ import annotations

from .. import nn
from ..models.rnn import CharRNN
from ..train import Trainer
from .recipe import Budget, Facts
from .texts import (
    LanguageModel,
    Plan,
    Reader,
    StateReader,
    adamw,
    text_loss,
    vocabulary_of,
    warm_up_and_cosine,
)


class LSTMRecipe(LanguageModel):
    """Embedding → LSTM → scores of the next character, on windows of a text.

    It writes with its state carried from character to character.
    """

    name = "lstm"
    title = "LSTM that writes"
    source = "char-rnn (Karpathy, 2015): 1.65 nats on tinyshakespeare"

    def plan(self, real: bool, preset: str) -> Plan:
        model = {"embedding": 64, "hidden": 256, "layers": 1, "dropout": 0.0, "kind": "lstm"}
        if preset == "fast":
            small = model | {"hidden": 128}
            return Plan(Budget(epochs=6, batch_size=16, lr=5e-3), None, small)
        return Plan(Budget(epochs=12, batch_size=16, lr=5e-3), 1.65 if real else 1.55, model)

    def model(self, facts: Facts) -> CharRNN:
        return CharRNN(len(vocabulary_of(facts)), **facts["model"])

    def reader(self, model: nn.Module, facts: Facts) -> Reader:
        return StateReader(model)

    def trainer(self, model: nn.Module, budget: Budget, steps_per_epoch: int) -> Trainer:
        optimizer = adamw(model, budget.lr, 0.01)
        steps = budget.epochs * steps_per_epoch
        schedule = warm_up_and_cosine(optimizer, budget.lr, steps, 0.05)
        return Trainer(
            model, optimizer, text_loss, scheduler=schedule, schedule_every="step", clip=1.0
        )


RECIPE = LSTMRecipe()
