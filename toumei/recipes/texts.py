"""What the recipes of texts share: the text and its windows, writing, and what is told of it."""

from __future__ import annotations

import math
import pathlib
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from .. import nn, optim
from ..autograd import no_grad
from ..data import (
    CharVocabulary,
    DataLoader,
    Dataset,
    RandomSampler,
    TextWindows,
    load_text,
    split_text,
)
from ..data.files import KNOWN, locate
from ..data.keys import fold, seed_key, uniform
from ..errors import ToumeiError
from ..io.files import write_whole
from ..ops import from_numpy
from ..tensor import Tensor
from ..train import Callback, Trainer
from ..train.history import Row
from ..viz.canvas import token
from .recipe import Budget, Data, Facts, Options, Recipe, Sampling
from .run import Opened, Run

F = nn.functional
Ids = NDArray[np.int64]
Floats = NDArray[Any]

PASSAGE = 600  # characters of the test part that are drawn with their losses
GLANCE = 160  # characters that are written after each epoch
AT_A_TIME = 250  # texts that are written side by side
BEGIN = "\n\n"  # what a model goes on from without a prompt: a new paragraph


class Plan(NamedTuple):
    """How a recipe trains on a text: a budget, the figure to reach, the steps of an epoch.

    Attributes:
        budget: how long and how fast.
        target: the figure to reach; None if the budget is too short.
        model: the arguments of the model besides the vocabulary; JSON-able.
        window: characters of a window.
    """

    budget: Budget
    target: float | None
    model: dict[str, Any]
    window: int = 64


class TextRecipe(Recipe):
    """A recipe that trains on windows of a text; an epoch is at most so many steps."""

    mode = "min"
    metric = "loss"
    datasets = ("tinyshakespeare", "moby-dick")
    epoch_steps = 250
    specials: tuple[str, ...] = ()

    def plan(self, real: bool, preset: str) -> Plan:
        """Return how to train on tinyshakespeare (`real`) or on the embedded text."""
        raise NotImplementedError

    def windows(self, ids: Ids, window: int, size: int, training: bool) -> Dataset[Any]:
        """Return the windows of a part of the text; `size` is the vocabulary's."""
        raise NotImplementedError

    def data(self, options: Options) -> Data:
        there = locate(KNOWN["tinyshakespeare"], options.data_dir) is not None
        name = options.dataset or self.datasets[0 if there else 1]
        plan = self.plan(name == "tinyshakespeare", options.preset)
        text, title = load_text(options.data_dir, name)
        vocabulary = CharVocabulary(text, self.specials)
        parts = split_text(vocabulary.encode(text))
        train, validation, test = (
            self.windows(ids, plan.window, len(vocabulary), k == 0) for k, ids in enumerate(parts)
        )
        return Data(
            text=f"{title}: {len(text):,} characters, {len(set(text))} different ones",
            train=train,
            validation=validation,
            test=test,
            budget=plan.budget,
            target=plan.target,
            facts={
                "vocabulary": vocabulary.to_dict(),
                "window": plan.window,
                "model": plan.model,
            },
        )

    def example(self, facts: Facts) -> tuple[Any, ...]:
        return (from_numpy(np.zeros((1, facts["window"]), np.int64)),)

    def loader(self, dataset: Any, batch_size: int, *, training: bool, seed: int) -> DataLoader:
        if not training:
            return super().loader(dataset, batch_size, training=False, seed=seed)
        count = min(len(dataset), self.epoch_steps * batch_size)
        sampler = RandomSampler(dataset, num_samples=count)
        return DataLoader(dataset, batch_size, sampler=sampler, drop_last=True, seed=seed)


def vocabulary_of(facts: Facts) -> CharVocabulary:
    """Return the characters that a model knows."""
    vocabulary: CharVocabulary = CharVocabulary.from_dict(facts["vocabulary"])
    return vocabulary


def text_loss(scores: Tensor, targets: Tensor) -> Tensor:
    """Return the mean loss of all characters, nats.  Shape: (N, L, V), (N, L) -> ()"""
    return F.cross_entropy(scores.flatten(0, 1), targets.flatten())


def adamw(model: nn.Module, lr: float, decay: float, beta2: float = 0.99) -> optim.AdamW:
    """Return AdamW that decays matrices only: biases and the scales of norms are left alone."""
    params = list(model.parameters())
    groups = [
        {"params": [p for p in params if p.ndim >= 2], "weight_decay": decay},
        {"params": [p for p in params if p.ndim < 2], "weight_decay": 0.0},
    ]
    return optim.AdamW([g for g in groups if g["params"]], lr=lr, betas=(0.9, beta2))


def warm_up_and_cosine(optimizer: optim.Optimizer, lr: float, steps: int, warm_up: float) -> Any:
    """Return a schedule: up for a share of the steps, then down to a hundredth by a cosine."""
    return optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=lr, total_steps=steps, pct_start=warm_up, cycle_momentum=False,
        final_div_factor=4.0,
    )  # fmt: skip


# --- writing -------------------------------------------------------------------------------------


class Reader(Protocol):
    """A model on its way through texts; each step of the model has the same shapes."""

    def read(self, characters: Ids) -> Floats:
        """Take in more characters of each text; return the scores of what may follow.

        Shape: (N, k) -> (N, V)
        """

    def follow(self, text: Ids) -> Floats:
        """Return the scores of what follows each character of one text.  Shape: (n) -> (n, V)"""


class StateReader:
    """Reads with a recurrent model, one character at a time: the state is what it remembers."""

    def __init__(self, model: Any) -> None:
        self.model, self.state = model, None

    def read(self, characters: Ids) -> Floats:
        """Take in more characters; the state is carried on.  Shape: (N, k) -> (N, V)"""
        with no_grad():
            for column in np.ascontiguousarray(characters.T)[:, :, None]:
                scores, self.state = self.model.read(from_numpy(column), self.state)
        return _array(scores)[:, -1]

    def follow(self, text: Ids) -> Floats:
        """Return the scores of what follows each character.  Shape: (n) -> (n, V)"""
        self.state = None
        return np.concatenate([self.read(text[None, k : k + 1]) for k in range(len(text))])


class WindowReader:
    """Reads with a model that sees a window: the last characters, padded at the right.

    What is at the right of a character doesn't change its scores (the attention is causal): that
    is the mask of the padding.
    """

    def __init__(self, model: Any, window: int) -> None:
        self.model, self.window = model, window
        self.text: Ids | None = None

    def read(self, characters: Ids) -> Floats:
        """Take in more characters; the window moves on.  Shape: (N, k) -> (N, V)"""
        before = characters[:, :0] if self.text is None else self.text
        self.text = np.concatenate([before, characters], 1)[:, -self.window :]
        return self._scores(self.text)[:, self.text.shape[1] - 1]

    def follow(self, text: Ids) -> Floats:
        """Read by windows that overlap by half: each character is scored after half of one or more.

        Those at the beginning of the text are scored after all there is.
        """
        half, parts = self.window // 2, []
        for start in range(0, max(1, len(text) - half), half):
            scores = self._scores(text[None, start : start + self.window])[0]
            seen = len(text[start : start + self.window])
            parts.append(scores[half if start else 0 : seen])
        return np.concatenate(parts)

    def _scores(self, rows: Ids) -> Floats:
        padded = np.zeros((len(rows), self.window), np.int64)
        padded[:, : rows.shape[1]] = rows
        with no_grad():
            return _array(self.model(from_numpy(padded)))


def _array(tensor: Tensor) -> Floats:
    return tensor.detach().numpy()


def write(reader: Reader, prompt: Ids, wish: Sampling, first: int = 0) -> Ids:
    """Return what a model writes after a prompt; text k depends on the seed and first + k alone.

    Shape: prompt (k) -> (count, length)
    """
    count, length, temperature = wish.count or 1, wish.length or 1, wish.temperature
    keys = fold(seed_key(wish.seed), np.arange(first, first + count))
    lots, written = uniform(keys, length), np.empty((count, length), np.int64)
    new = np.repeat(prompt[None], count, 0)
    for k in range(length):
        scores = reader.read(new).astype(np.float64)
        written[:, k] = _choose(scores, temperature, lots[:, k])
        new = written[:, k : k + 1]
    return written


def _choose(scores: Floats, temperature: float | None, lots: Floats) -> Ids:
    """Return a character of each row: the likeliest at temperature 0, else one by its lot."""
    if temperature == 0:
        return scores.argmax(1)
    below = scores - scores.max(1, keepdims=True)
    weights = np.exp(below / (1.0 if temperature is None else temperature))
    steps = weights.cumsum(1)
    chosen: Ids = (steps <= lots[:, None] * steps[:, -1:]).sum(1)
    return np.minimum(chosen, scores.shape[1] - 1)


def surprises(reader: Reader, ids: Ids) -> Floats:
    """Return −ln p of each character after those before it, NaN for the first."""
    scores = reader.follow(ids[:-1]).astype(np.float64)
    highest = scores.max(1, keepdims=True)
    total = np.log(np.exp(scores - highest).sum(1)) + highest[:, 0]
    return np.append(np.nan, total - scores[np.arange(len(scores)), ids[1:]])


class Writing(Callback):
    """Keeps what the model writes after each epoch, and shows it in samples.txt.

    Args:
        recipe: says how to read with the model.
        run: its folder gets the file.
    """

    def __init__(self, recipe: LanguageModel, run: Run) -> None:
        self.recipe, self.folder, self.facts = recipe, run.folder, run.facts
        self.texts: dict[int, str] = {}

    def on_epoch_end(self, trainer: Trainer, row: Row) -> None:
        model = trainer.evaluated
        model.eval()  # the trainer sets it back when an epoch begins
        wish = Sampling(length=GLANCE, temperature=0.8)
        self.texts[trainer.epoch] = self.recipe.continued(model, self.facts, wish)[0]
        parts = (f"--- epoch {epoch}\n{text}\n" for epoch, text in self.texts.items())
        write_whole(self.folder / "samples.txt", "\n".join(parts).encode())

    def state_dict(self) -> dict[str, Any]:
        return {"texts": {str(epoch): text for epoch, text in self.texts.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.texts = {int(epoch): text for epoch, text in state["texts"].items()}


# --- language models -----------------------------------------------------------------------------


class LanguageModel(TextRecipe):
    """A recipe whose model reads a text from the left and scores what comes next."""

    sampling = ("prompt", "length", "temperature", "count")

    def reader(self, model: nn.Module, facts: Facts) -> Reader:
        """Return a reader at the beginning of a text."""
        raise NotImplementedError

    def windows(self, ids: Ids, window: int, size: int, training: bool) -> Dataset[Any]:
        return TextWindows(ids, window, random_offset=training)

    def continued(self, model: nn.Module, facts: Facts, wish: Sampling) -> list[str]:
        """Return what the model writes after a prompt, several times if wished."""
        vocabulary = vocabulary_of(facts)
        prompt = encode(vocabulary, wish.prompt or BEGIN, "prompt")
        count, texts = wish.count or 1, []
        for first in range(0, count, AT_A_TIME):
            some = replace(wish, count=min(AT_A_TIME, count - first))
            texts += list(write(self.reader(model, facts), prompt, some, first))
        return [vocabulary.decode(ids) for ids in texts]

    def watchers(self, run: Run) -> list[Callback]:
        return [Writing(self, run)]

    def report(self, run: Run) -> dict[str, Any]:
        from ..viz.text import plot_character_surprise, plot_samples

        kept = next(c for c in run.trainer.callbacks if isinstance(c, Writing))
        plot_samples(kept.texts, run.folder / "samples.png", f"{self.title}, epoch by epoch")
        passage = passage_of(run)
        vocabulary = vocabulary_of(run.facts)
        losses = surprises(self.reader(run.model, run.facts), vocabulary.encode(passage))
        plot_character_surprise(passage, losses, run.folder / "surprise.png")
        return {"validation_loss": round(min(run.trainer.history["validation_loss"]), 6)}

    def predict(self, opened: Opened, line: str, out: pathlib.Path | None) -> str:
        vocabulary = vocabulary_of(opened.facts)
        ids = encode(vocabulary, line, "line")
        if len(ids) < 2:
            raise ToumeiError("a line of at least two characters is needed: the first has no loss")
        losses = surprises(self.reader(opened.model, opened.facts), ids)
        shown = tell_surprises(line, losses)
        if out is None:
            return shown
        from ..viz.text import plot_character_surprise

        plot_character_surprise(line, losses, out)
        return f"{shown}\nwrote {out}"

    def sample(self, opened: Opened, wish: Sampling) -> str:
        prompt = wish.prompt or ""
        length = 500 if wish.length is None else wish.length
        temperature = 0.8 if wish.temperature is None else wish.temperature
        made = self.continued(
            opened.model,
            opened.facts,
            Sampling(wish.count, length, temperature, prompt, seed=wish.seed),
        )
        if len(made) == 1:
            return prompt + made[0]
        return "\n\n".join(f"--- {k + 1}\n{prompt}{text}" for k, text in enumerate(made))


# --- in words ------------------------------------------------------------------------------------


def encode(vocabulary: CharVocabulary, text: str, what: str) -> Ids:
    """Return the numbers of a person's text.

    Raises:
        ToumeiError: it has characters that the model has never seen.
    """
    unknown = sorted({c for c in text if c not in vocabulary})
    if unknown:
        shown = " ".join(unknown) if all(c.isprintable() for c in unknown) else repr(unknown)
        known = "".join(t for t in vocabulary.tokens if len(t) == 1 and t.isprintable())
        raise ToumeiError(
            f"the {what} has characters that the model has never seen: {shown}\nIt knows: {known}"
        )
    return vocabulary.encode(text)


def passage_of(run: Run) -> str:
    """Return the beginning of the test part, from a new paragraph on if there is one."""
    vocabulary = vocabulary_of(run.facts)
    text = vocabulary.decode(run.data.test.ids[: 3 * PASSAGE])
    start = text.find("\n\n") + 2 if "\n\n" in text[: 2 * PASSAGE] else 0
    return text[start : start + PASSAGE].rstrip()


def tell_surprises(text: str, losses: Floats) -> str:
    """Return a text's losses as lines: the sum, each character, and the five largest."""
    total, count = float(np.nansum(losses)), int((~np.isnan(losses)).sum())
    each = total / count
    return "\n".join(
        [
            f"{count} characters after the first: {total:.1f} nats, {each:.2f} each, "
            f"that is {each / math.log(2):.2f} bits per character",
            "",
            *_table(text, losses),
            "most surprising, −ln p in nats:",
            *_largest(text, losses, 5),
        ]
    )


_ACROSS = 16  # characters in a line of the table


def _table(text: str, losses: Floats) -> list[str]:
    marks = [token(c) for c in text]
    numbers = ["–" if np.isnan(x) else f"{x:.1f}" for x in losses]
    lines = []
    for k in range(0, len(text), _ACROSS):
        rows = (row[k : k + _ACROSS] for row in (marks, numbers))
        lines += [*("".join(f"{cell:>5}" for cell in row) for row in rows), ""]
    return lines


def _largest(text: str, losses: Floats, most: int) -> list[str]:
    order = np.argsort(-np.nan_to_num(losses), kind="stable")[: min(most, len(text) - 1)].tolist()
    return [
        f"{losses[k]:6.2f}  {token(text[k])}  after  {token(text[max(0, k - 20) : k])}"
        for k in order
    ]
