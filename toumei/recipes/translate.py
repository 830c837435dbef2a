"""A Transformer learns to translate: German captions to English, or dates to their ISO form.

The figure to reach on Multi30k is a BLEU of 36.5 on its test part of 2016, a little more than a
published Transformer of this size gets (see `source`).  The score of a translation task in words
is BLEU, in per cent; that of one in characters, such as the dates, is the share of translations
that are right to the last character.
"""

from __future__ import annotations

import html
import pathlib
import re
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .. import nn, optim
from ..autograd import no_grad
from ..data import DataLoader, Subset
from ..data.buckets import BucketBatchSampler, bucket_shapes, pad_collate
from ..data.files import KNOWN, locate
from ..data.translation import Pairs, corpus_vocabularies, load_dates, load_multi30k
from ..data.vocabulary import BOS, EOS, PAD, UNK, vocabulary_from_dict
from ..errors import ToumeiError
from ..io.files import write_whole
from ..models.transformer import Transformer, Translated, beam_search, greedy
from ..ops.creation import tensor
from ..tensor import Tensor
from ..train import Trainer
from ..train.bleu import corpus_bleu
from ..train.callbacks import Callback
from ..train.history import Row
from ..train.trainer import Average
from .recipe import Budget, Data, Facts, Options, Recipe
from .run import Opened, Run

SIZES = {  # of the model, by data set and preset
    ("multi30k", "default"): {
        "d_model": 256, "heads": 8, "encoder_layers": 3, "decoder_layers": 3, "feedforward": 512,
        "dropout": 0.2,
    },
    ("multi30k", "fast"): {
        "d_model": 128, "heads": 4, "encoder_layers": 1, "decoder_layers": 1, "feedforward": 256,
        "dropout": 0.1,
    },
    ("dates", "default"): {
        "d_model": 64, "heads": 4, "encoder_layers": 2, "decoder_layers": 2, "feedforward": 128,
        "dropout": 0.0,
    },
    ("dates", "fast"): {
        "d_model": 64, "heads": 4, "encoder_layers": 1, "decoder_layers": 1, "feedforward": 128,
        "dropout": 0.0,
    },
}  # fmt: skip
PLANS: dict[tuple[str, str], tuple[Budget, float | None]] = {  # and the score to reach
    ("multi30k", "default"): (Budget(epochs=20, batch_size=128, lr=1e-3), 36.5),
    ("multi30k", "fast"): (Budget(epochs=3, batch_size=64, lr=3e-3, samples=6_000), None),
    ("dates", "default"): (Budget(epochs=6, batch_size=128, lr=3e-3), 0.98),
    ("dates", "fast"): (Budget(epochs=6, batch_size=64, lr=3e-3, samples=8_000), None),
}


SCORES = {"word": "BLEU in per cent", "char": "share of translations that are right"}
WIDTH = 5  # of the beam search for sentences of words
BUCKETS = 6  # batches have so many shapes
SHOWN = 4  # sentences that pictures show


class BucketedPairs(Pairs):
    """Sentence pairs that know the shapes to pad them to."""

    buckets: list[tuple[int, ...]]


class Translator(Transformer):
    """A Transformer that knows its two vocabularies, its window and how its score is measured.

    Args:
        facts: what `TranslateRecipe.data` says of its data.
    """

    def __init__(self, facts: Facts) -> None:
        self.source = vocabulary_from_dict(facts["source"])
        self.target = vocabulary_from_dict(facts["target"])
        self.words = facts["level"] == "word"
        self.shapes = [tuple(shape) for shape in facts["buckets"]]
        pad, bos, eos = (self.target.id(token) for token in (PAD, BOS, EOS))
        super().__init__(
            len(self.source), len(self.target), **facts["sizes"],
            norm_first=True, max_length=max(self.shapes[-1]), pad=pad, bos=bos, eos=eos,
        )  # fmt: skip

    def read(self, lines: Sequence[str]) -> Tensor:
        """Return lines as numbers, padded to the longest bucket's length.  Shape: (N, S)"""
        length = self.shapes[-1][0]
        rows = [[*self.source.encode(line).tolist(), self.source.id(EOS)] for line in lines]
        return tensor([row + [self.pad] * (length - len(row)) for row in rows])

    def translate(self, source: Tensor, width: int = 1) -> Translated:
        """Return translations of padded sources: greedy ones, or those of a wider beam search."""
        find = greedy if width == 1 else partial(beam_search, width=width)
        return find(self, source, self.shapes[-1][1] - 1, banned=[self.target.id(UNK)])

    def sentences(self, tokens: Tensor) -> list[list[int]]:
        """Return the numbers of each row's words, without <bos>, <eos> and padding."""
        special = (self.pad, self.bos, self.eos)
        return [[n for n in row if n not in special] for row in tokens.tolist()]

    def texts(self, tokens: Tensor) -> list[str]:
        """Return what the numbers stand for."""
        return [self.target.decode(row) for row in self.sentences(tokens)]

    def score(self, found: list[list[int]], wanted: list[list[int]]) -> float:
        """Return BLEU in per cent, or of characters the share of translations that are right."""
        if self.words:
            return corpus_bleu(found, wanted)
        return sum(a == b for a, b in zip(found, wanted, strict=True)) / len(wanted)


class TranslationTrainer(Trainer):
    """Trains to predict each word of the target from those before it, and measures translations."""

    model: Translator

    def accumulate_step(self, batch: Sequence[Tensor]) -> dict[str, Tensor]:
        source, target = batch
        loss = self.loss(self.model(source, target[:, :-1]).flatten(0, 1), target[:, 1:].flatten())
        self.backward(loss, len(source))
        return {"loss": loss.detach()}

    def evaluate(self, batches: Iterable[Any]) -> Row:
        """Return the loss and the score.

        The validation after an epoch decodes greedily, which is several times as fast; else words
        are found by beam search.
        """
        means, found, wanted = Average(), [], []
        validation = batches is self.loaders.get("validation")
        with self._measuring(), no_grad():
            model = self.model
            width = 1 if validation or not model.words else WIDTH
            for source, target in batches:
                scores = model(source, target[:, :-1]).flatten(0, 1)
                means.add("loss", float(self.loss(scores, target[:, 1:].flatten())), len(source))
                found += model.sentences(model.translate(source, width).tokens)
                wanted += model.sentences(target)
            return means.means() | {"score": model.score(found, wanted)}


class Progress(Callback):
    """Translates a few sentences of the validation data after each epoch.

    Args:
        sentences: (source, reference) texts.
        path: the text file for the translations so far.
    """

    def __init__(self, sentences: Sequence[tuple[str, str]], path: pathlib.Path) -> None:
        self.sentences, self.path = list(sentences), path
        self.epochs: dict[int, list[str]] = {}

    def on_epoch_end(self, trainer: Trainer, row: Row) -> None:
        model: Any = trainer.evaluated
        training = model.training
        source = model.eval().read([source for source, _ in self.sentences])
        self.epochs[row["epoch"]] = model.texts(model.translate(source).tokens)
        model.train(training)
        write_whole(self.path, self.text().encode())

    def text(self) -> str:
        """Return each source with its reference and the translations of each epoch."""
        blocks = []
        for k, (source, reference) in enumerate(self.sentences):
            lines = [("source", source), ("reference", reference)]
            lines += [(f"epoch {epoch}", texts[k]) for epoch, texts in self.epochs.items()]
            blocks.append("".join(f"{name:<11} {line}".rstrip() + "\n" for name, line in lines))
        return html.unescape("\n".join(blocks))

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": [[epoch, texts] for epoch, texts in self.epochs.items()]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epochs = {int(epoch): list(texts) for epoch, texts in state["epochs"]}


class TranslateRecipe(Recipe):
    """An encoder-decoder on Multi30k, or on dates where the data folder doesn't have it."""

    name = "translate"
    title = "Transformer that translates"
    metric = "score"  # BLEU in per cent of words; of characters the share of right translations
    source = "Trevett, pytorch-seq2seq 6: BLEU 36.1 with a Transformer of 3 + 3 layers"
    datasets = ("multi30k", "dates")

    def data(self, options: Options) -> Data:
        there = locate(KNOWN["multi30k"], options.data_dir) is not None
        name = options.dataset or ("multi30k" if there else "dates")
        corpus = load_multi30k(options.data_dir) if name == "multi30k" else load_dates()
        source, target = corpus_vocabularies(corpus)
        parts = [BucketedPairs(part, source, target) for part in corpus[:3]]
        buckets = _buckets(*parts)
        for part in parts:
            part.buckets = buckets
        budget, aim = PLANS[name, options.preset]
        return Data(
            text=f"{corpus.title}; score: {SCORES[corpus.level]}",
            train=parts[0],
            validation=parts[1],
            test=parts[2],
            budget=budget,
            target=aim,
            facts={
                "dataset": name,
                "level": corpus.level,
                "source": source.to_dict(),
                "target": target.to_dict(),
                "buckets": [list(shape) for shape in buckets],
                "sizes": SIZES[name, options.preset],
            },
        )

    def model(self, facts: Facts) -> Translator:
        return Translator(facts)

    def example(self, facts: Facts) -> tuple[Any, ...]:
        source, target = facts["buckets"][-1]
        return tensor([[1] * source]), tensor([[1] * (target - 1)])

    def loader(self, dataset: Any, batch_size: int, *, training: bool, seed: int) -> DataLoader:
        """Return batches of pairs of similar length, padded to one of few shapes."""
        pairs, lengths = dataset, None
        if isinstance(dataset, Subset):
            pairs, lengths = dataset.dataset, dataset.dataset.lengths[dataset.indices]
        sampler = BucketBatchSampler(
            pairs.lengths if lengths is None else lengths,
            pairs.buckets,
            batch_size if training else 2 * batch_size,  # no room is needed for gradients
            shuffle=training,
            drop_last=training,
        )
        collate = pad_collate(pairs.buckets, pairs.source_vocabulary.id(PAD))
        return DataLoader(dataset, batch_sampler=sampler, collate_fn=collate, seed=seed)

    def trainer(self, model: nn.Module, budget: Budget, steps_per_epoch: int) -> Trainer:
        assert isinstance(model, Translator)
        optimizer = optim.Adam(model.parameters(), lr=budget.lr, betas=(0.9, 0.98), eps=1e-9)
        schedule = optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=budget.lr, total_steps=budget.epochs * steps_per_epoch, pct_start=0.1
        )
        loss = partial(
            nn.functional.cross_entropy,
            ignore_index=model.pad,
            label_smoothing=0.1 if model.words else 0.0,  # a date has one right answer
        )
        return TranslationTrainer(
            model, optimizer, loss, scheduler=schedule, schedule_every="step", clip=1.0
        )

    def watchers(self, run: Run) -> list[Callback]:
        shown = run.data.validation.sentences[:SHOWN]
        return [Progress(shown, run.folder / "translations.txt")]

    def report(self, run: Run) -> dict[str, Any]:
        from ..viz.translation import plot_alignments, plot_translations

        model, folder = run.model, run.folder
        assert isinstance(model, Translator)
        (progress,) = (c for c in run.trainer.callbacks if isinstance(c, Progress))
        sentences = [(html.unescape(a), html.unescape(b)) for a, b in progress.sentences]
        epochs = {n: [html.unescape(t) for t in texts] for n, texts in progress.epochs.items()}
        plot_translations(sentences, epochs, folder / "translations.png", run.data.text)
        test = run.data.test.sentences
        chosen = [test[k * len(test) // SHOWN][0] for k in range(SHOWN)]
        answers = [explain(model, line) for line in chosen]
        plot_alignments(
            [(a.weights, a.written, a.read) for a in answers], folder / "attention.png",
            "attention of each written token (down) to the tokens read (across)",
        )  # fmt: skip
        return {"metric": "test BLEU" if model.words else "test exact share"}

    def predict(self, opened: Opened, line: str, out: pathlib.Path | None) -> str:
        model = opened.model
        assert isinstance(model, Translator)
        line = tokenised(line) if model.words else line.strip().lower()
        unknown = _check(model, line)
        answer = explain(model, line)
        if out is not None:
            from ..viz.translation import plot_alignments

            plot_alignments([(answer.weights, answer.written, answer.read)], out)
        lines = [html.unescape(answer.text)]
        lines += [f"log-probability {answer.log_probability:.3f}"]
        if unknown:
            lines += [f"not in the vocabulary: {', '.join(unknown)}"]
        if out is not None:
            lines += [f"wrote {out}"]
        return "\n".join(lines)


class Answer(NamedTuple):
    """A translation, and where the model looked when it wrote it."""

    text: str
    log_probability: float
    read: list[str]  # the source's S tokens, with <eos>
    written: list[str]  # the translation's T tokens, with <eos>
    weights: Any  # (T, S), the mean over the heads of the last layer


@no_grad()
def explain(model: Translator, line: str) -> Answer:
    """Translate a line, and say to which tokens each written one attended."""
    from ..viz.attention_maps import attention_maps

    source = model.read([line])
    tokens, log_probability = model.translate(source, WIDTH if model.words else 1)
    written = [n for n in tokens[0].tolist() if n != model.pad]
    given = tensor([[model.bos, *written[:-1]]])
    maps = attention_maps(model, source, given)
    last = f"transformer.decoder.layers.{len(model.transformer.decoder.layers) - 1}.multihead_attn"
    read = [*_parts(model, line), EOS]
    return Answer(
        model.texts(tokens)[0],
        float(log_probability),
        [html.unescape(token) for token in read],
        [html.unescape(model.target.tokens[n]) for n in written],
        maps[last][0].mean(axis=0)[:, : len(read)],
    )


def _parts(model: Translator, line: str) -> list[str]:
    """Return a line's words, or its characters."""
    return line.split() if model.words else list(line)


def tokenised(line: str) -> str:
    """Return a line as Multi30k has it: lower case, punctuation apart, and & \" ' as entities.

    >>> tokenised('Ein Hund, der "rennt".')
    'ein hund , der &quot; rennt &quot; .'
    """
    parted = re.sub(r"([^\w\s-])", r" \1 ", html.unescape(line).lower())
    for mark, entity in (("&", "&amp;"), ('"', "&quot;"), ("'", "&apos;")):
        parted = parted.replace(mark, entity)
    return " ".join(parted.split())


def _check(model: Translator, line: str) -> list[str]:
    """Return what of a line is not in the vocabulary.

    Raises:
        ToumeiError: the line is empty, or longer than those of the data.
    """
    parts = _parts(model, line)
    longest = model.shapes[-1][0] - 1
    kind = "words" if model.words else "characters"
    if not 0 < len(parts) <= longest:
        raise ToumeiError(f"the line has {len(parts)} {kind}; the model reads 1 to {longest}")
    return list(dict.fromkeys(part for part in parts if part not in model.source))


def _buckets(*parts: Pairs) -> list[tuple[int, ...]]:
    """Return the shapes that training batches are padded to; the last one holds every pair."""
    shapes = bucket_shapes(parts[0].lengths, BUCKETS)
    longest = np.max([shapes[-1], *(part.lengths.max(axis=0) for part in parts)], axis=0)
    return [*shapes[:-1], tuple(longest.tolist())]


RECIPE = TranslateRecipe()
