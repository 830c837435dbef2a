"""A transformer encoder learns to fill in characters that are hidden, from both sides.

It must beat what can be counted: the recipe also guesses each hidden character by its neighbours
in the training text (see `ngrams`), from the left alone and from both sides.
"""

from __future__ import annotations

import math
import pathlib
from typing import Any

import numpy as np

from .. import nn
from ..autograd import no_grad
from ..data import Dataset, MaskedWindows
from ..data.text import IGNORED
from ..data.vocabulary import MASK, PAD
from ..errors import ToumeiError
from ..models.bert import BERT, MaskedLM
from ..ops import from_numpy
from ..tensor import Tensor
from ..train import Trainer
from ..viz.canvas import token
from .ngrams import NGrams
from .recipe import Budget, Facts
from .run import Opened, Run
from .texts import (
    Floats,
    Ids,
    Plan,
    TextRecipe,
    adamw,
    encode,
    passage_of,
    text_loss,
    vocabulary_of,
    warm_up_and_cosine,
)

HIDDEN = 0.5  # the share of characters that are to be guessed
GAP = "_"  # what stands for a hidden character in a line to predict
_PAD, _MASK = 0, 1
_SHOWN = 28  # characters whose attention is drawn


class EncoderRecipe(TextRecipe):
    """BERT on characters: half of each window is to be guessed, most of it hidden by a mask."""

    name = "encoder"
    title = "Encoder that fills in characters"
    source = "counted n-grams of the same text, printed beside"
    specials = (PAD, MASK)

    def plan(self, real: bool, preset: str) -> Plan:
        model = {"dim": 96, "layers": 2, "heads": 4, "max_length": 64, "dropout": 0.0}
        if preset == "fast":
            return Plan(Budget(epochs=4, batch_size=16, lr=3e-3), None, model)
        return Plan(Budget(epochs=16, batch_size=16, lr=5e-3), 2.2 if real else 1.95, model)

    def windows(self, ids: Ids, window: int, size: int, training: bool) -> Dataset[Any]:
        return MaskedWindows(ids, window, _MASK, size, HIDDEN, random=training, specials=2)

    def model(self, facts: Facts) -> MaskedLM:
        size = len(vocabulary_of(facts))
        model = MaskedLM(BERT(size, **facts["model"], segments=1, pooler=False))
        look_around(model.bert)
        return model

    def trainer(self, model: nn.Module, budget: Budget, steps_per_epoch: int) -> Trainer:
        optimizer = adamw(model, budget.lr, 0.01)
        steps = budget.epochs * steps_per_epoch
        schedule = warm_up_and_cosine(optimizer, budget.lr, steps, 0.1)
        return Trainer(
            model, optimizer, text_loss, metrics={"accuracy": accuracy}, scheduler=schedule,
            schedule_every="step", clip=1.0,
        )  # fmt: skip

    def report(self, run: Run) -> dict[str, Any]:
        from ..viz.attention import plot_attention

        text = "".join(GAP if k % 4 == 2 else c for k, c in enumerate(passage_of(run)[:_SHOWN]))
        ids = _with_gaps(run.facts, text)
        with no_grad():
            maps = run.model.bert.attention_maps(from_numpy(ids[None]))
        title = f"Encoder, first block: which characters each one looks at; {GAP} is hidden"
        plot_attention(maps[0][0], text, text, run.folder / "attention.png", title)
        return compare(run)

    def predict(self, opened: Opened, line: str, out: pathlib.Path | None) -> str:
        if out is not None:
            raise ToumeiError("the encoder's answer is a text: there is no picture for --out")
        if GAP not in line:
            raise ToumeiError(f'hide some characters with {GAP}, as in "the wh{GAP}le"')
        vocabulary = vocabulary_of(opened.facts)
        probabilities = self._probabilities(opened, _with_gaps(opened.facts, line))
        gaps = [k for k, c in enumerate(line) if c == GAP]
        best = {k: np.argsort(-probabilities[k])[:3].tolist() for k in gaps}
        filled = "".join(
            vocabulary.tokens[best[k][0]] if k in best else c for k, c in enumerate(line)
        )
        guesses = (
            f"{k + 1:4}  "
            + "   ".join(
                f"{token(vocabulary.tokens[c])} {probabilities[k, c]:4.0%}" for c in best[k]
            )
            for k in gaps
        )
        return "\n".join([filled, "", "gap at  likeliest characters", *guesses])

    def _probabilities(self, opened: Opened, ids: Ids) -> Floats:
        """Return the probability of each character at each place of a line.  Shape: (n) -> (n, V)

        A line is read by windows that overlap by half, padded at the right; a place is judged in
        the window whose middle is nearest.
        """
        window = opened.facts["window"]
        half, result = window // 2, np.zeros((len(ids), len(vocabulary_of(opened.facts))))
        for start in range(0, max(1, len(ids) - half), half):
            part = ids[start : start + window]
            padded = np.full((1, window), _PAD)
            padded[0, : len(part)] = part
            with no_grad():
                scores = opened.model(from_numpy(padded), from_numpy(padded != _PAD)).numpy()
            skip = half // 2 if start else 0
            result[start + skip : start + len(part)] = _softmax(scores[0, skip : len(part)])
        return result


def _with_gaps(facts: Facts, line: str) -> Ids:
    """Return a line's numbers, with masks in its gaps."""
    ids = encode(vocabulary_of(facts), line.replace(GAP, " "), "line")
    ids[[c == GAP for c in line]] = _MASK
    return ids


def _softmax(scores: Floats) -> Floats:
    scores = scores.astype(np.float64)
    scores[:, : len(EncoderRecipe.specials)] = -np.inf  # no gap hides these
    weights = np.exp(scores - scores.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True)


def accuracy(scores: Tensor, targets: Tensor) -> Tensor:
    """Return the share of each window's hidden characters that are guessed right.

    Shape: (N, L, V), (N, L) -> (N)
    """
    chosen = targets != IGNORED
    right = (scores.argmax(-1) == targets) & chosen
    return right.sum(1) / chosen.sum(1)


# --- how it starts -------------------------------------------------------------------------------


def look_around(bert: BERT) -> None:
    """Let each head of the first block begin by looking at one neighbour: −1, +1, −2, +2 …

    With weights drawn at random an encoder first finds out how frequent each character is, and
    spends a thousand steps more until it notices that neighbours tell something.  So the places
    start as waves, cos and sin of ωₖ·i, and the queries as keys that are turned by ωₖ·offset: the
    product Σₖ cos(ωₖ·(j − i − offset)) is largest where j = i + offset.
    """
    places = bert.embeddings.position_embeddings.weight
    length, dim = places.shape
    for module in bert.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=dim**-0.5)
    omega = math.pi * (np.arange(dim // 2) + 0.5) / (dim // 2)
    angles = np.arange(length)[:, None] * omega
    waves = np.stack([np.cos(angles), np.sin(angles)], -1).reshape(length, dim)
    attention = bert.encoder.layer[0].attention.self
    keys, queries = _turned(omega, attention.heads)
    with no_grad():
        bert.embeddings.word_embeddings.weight[_PAD].zero_()
        places.copy_(_float(2 * dim**-0.5 * waves))
        attention.key.weight.copy_(_float(keys))
        attention.query.weight.copy_(_float(queries))


def _turned(omega: Floats, heads: int) -> tuple[Floats, Floats]:
    """Return weights of the keys and of the queries: pairs of waves, and the same ones turned."""
    dim, gain = 2 * len(omega), 2.0
    keys, queries = np.zeros((dim, dim)), np.zeros((dim, dim))
    for place, k in enumerate(np.random.default_rng(0).permutation(len(omega))):
        head = place * heads // len(omega)
        offset = (head // 2 + 1) * (1 if head % 2 else -1)
        c, s = gain * math.cos(omega[k] * offset), gain * math.sin(omega[k] * offset)
        rows, columns = slice(2 * place, 2 * place + 2), slice(2 * k, 2 * k + 2)
        keys[rows, columns] = gain * np.eye(2)
        queries[rows, columns] = [[c, -s], [s, c]]
    return keys, queries


def _float(values: Floats) -> Tensor:
    return from_numpy(values.astype(np.float32))


# --- what counting can do ------------------------------------------------------------------------


def compare(run: Run) -> dict[str, Any]:
    """Return how well counted neighbours do on the test part, and by how much the model is better.

    Both see the same windows.  A character that was replaced or left as it is, not hidden, is
    weighed by Bayes' rule: it is itself as often as it is any other.
    """
    first, size = len(EncoderRecipe.specials), len(vocabulary_of(run.facts))
    test, train = run.data.test, run.data.train
    inputs, targets = (c.numpy() for c in test.__getitems__(range(len(test))).columns)
    chosen = targets != IGNORED
    truth = targets[chosen] - first
    own = run.trainer.evaluate(run.test)
    result, best = {"accuracy": round(own["accuracy"], 4)}, math.inf
    for name, sides in (("left_n_grams", (5, 0)), ("n_grams", (4, 4))):
        grams = NGrams(train.ids - first, size - first, sides)
        p = grams.probabilities(inputs - first, chosen, inputs == _MASK)
        p = _weighed(p, inputs[chosen] - first)
        loss = float(-np.log(p[np.arange(len(p)), truth]).mean())
        result[f"loss_of_{name}"] = round(loss, 4)
        result[f"accuracy_of_{name}"] = round(float((p.argmax(1) == truth).mean()), 4)
        best = min(best, loss)
    return result | {"nats_ahead": round(best - own["loss"], 4)}


def _weighed(p: Floats, shown: Ids) -> Floats:
    """Take into account the characters that are shown; a negative number is the mask."""
    there = shown >= 0
    p = p.copy()
    likelihood = np.full((int(there.sum()), p.shape[1]), 1 / p.shape[1])
    likelihood[np.arange(len(likelihood)), shown[there]] += 1
    p[there] *= likelihood
    return p / p.sum(1, keepdims=True)


RECIPE = EncoderRecipe()
