"""Sentences and their translations: Multi30k, and a generated task that needs no file.

The generated task is to write a date in the ISO form: "the 3rd of march, 2017" -> "2017-03-03".
It is done character by character, and no date of one part is in another.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import date
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..ops.creation import from_numpy
from ..tensor import Tensor
from .dataset import Dataset
from .files import KNOWN, find, locate, read_checked
from .keys import fold, permutation, seed_key, uniform
from .vocabulary import BOS, EOS, PAD, UNK, CharVocabulary, Vocabulary, WordVocabulary

Root = str | os.PathLike[str] | None
Sentences = list[tuple[str, str]]  # (source, target)


class Corpus(NamedTuple):
    """Sentence pairs (source, target) in three parts, what they are, and what a token is."""

    train: Sentences
    validation: Sentences
    test: Sentences
    title: str
    level: str  # "word" (words are parted by spaces) or "char"


# --- Multi30k ---

_PARTS = ("train", "val", "test_2016_flickr")


def load_multi30k(root: Root = None, source: str = "de", target: str = "en") -> Corpus:
    """Return Multi30k, task 1: 29,000, 1,014 and 1,000 captions, tokenised and in lower case.

    Its test part is the one of 2016.
    Paper: Elliott, Frank, Sima'an and Specia, "Multi30K: Multilingual English-German image
    descriptions", Workshop on Vision and Language 2016.

    Args:
        root: the data folder; else $TOUMEI_DATA, else the user's cache.
        source, target: the languages: "de" (German) and "en" (English), or the other way round.

    Raises:
        ValueError: the languages are others, or both the same.
        DataError: a file is missing, cut short or damaged.
    """
    if {source, target} != {"de", "en"}:
        raise ValueError(f"load_multi30k has 'de' and 'en', not {source!r} to {target!r}")
    folder = find(KNOWN["multi30k"], root)

    def lines(part: str, language: str) -> list[str]:
        content = read_checked(KNOWN["multi30k"], folder, f"multi30k_{part}.{language}")
        return content.decode("utf-8").rstrip("\n").split("\n")

    pairs = [list(zip(lines(p, source), lines(p, target), strict=True)) for p in _PARTS]
    title = f"Multi30k, {source} to {target}"
    return Corpus(pairs[0], pairs[1], pairs[2], title, "word")


# --- dates ---

_MONTHS = [
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
]
_DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
# A numeric date with "/" is month first, one with "." day first; two digits of a year are enough
# in a span of a hundred years: so each text means one date.
_FORMATS = (
    "{month} {d}, {year}",
    "{mon} {d}, {year}",
    "the {nth} of {month}, {year}",
    "the {nth} of {mon} '{yy}",
    "{weekday}, {d} {month} {year}",
    "{weekday} the {nth} of {month} {year}",
    "{wd} {mon} {d} {year}",
    "{d:02d}-{mon}-{yy}",
    "{m}/{d}/{yy}",
    "{m:02d}/{d:02d}/{yy} ({weekday})",
    "{m:02d}/{d:02d}/{year}",
    "{d}.{m}.{year}",
    "{wd} {d:02d}.{m:02d}.{yy}",
    "{year}, {month} {nth}",
)
_FIRST, _LAST = date(1950, 1, 1), date(2049, 12, 31)
_DATE_PARTS = ("train", "validation", "test")
_SHARES = (0.8, 0.1, 0.1)


def _ordinal(day: int) -> str:
    """Return "1st", "2nd", …"""
    ending = "th" if day in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return f"{day}{ending}"


def write_date(day: date, style: int) -> str:
    """Return a date as a person might write it, in one of 14 styles.

    Args:
        day: from 1950-01-01 to 2049-12-31, where two digits of a year tell which it is.
        style: the number of the style, from 0.

    >>> [write_date(date(2017, 3, 3), style) for style in (2, 7, 9)]
    ['the 3rd of march, 2017', '03-mar-17', '03/03/17 (friday)']
    """
    month, weekday = _MONTHS[day.month - 1], _DAYS[day.weekday()]
    return _FORMATS[style].format(
        d=day.day,
        m=day.month,
        year=day.year,
        yy=f"{day.year % 100:02d}",
        nth=_ordinal(day.day),
        month=month,
        mon=month[:3],
        weekday=weekday,
        wd=weekday[:3],
    )


def date_sentences(part: str = "train", size: int | None = None, seed: int = 0) -> Sentences:
    """Return dates as people write them, each with its ISO form.

    The days from 1950 to 2049 are dealt out to the parts at random, 80 : 10 : 10; each comes once,
    in a style drawn at random.

    Args:
        part: "train", "validation" or "test".
        size: how many; all (29,220, 3,652 and 3,653) unless given.
        seed: what the parts, the order and the styles are functions of.

    Raises:
        ValueError: the part is unknown, or has fewer dates than `size`.

    >>> date_sentences("validation", 2)
    [('the 2nd of october, 1978', '1978-10-02'), ('oct 10, 2019', '2019-10-10')]
    """
    if part not in _DATE_PARTS:
        raise ValueError(f"date_sentences: part is one of {_DATE_PARTS}, not {part!r}")
    number, key = _DATE_PARTS.index(part), seed_key(seed)
    days = _FIRST.toordinal() + permutation(key, (_LAST - _FIRST).days + 1)
    ends = [round(len(days) * sum(_SHARES[:k])) for k in range(4)]
    days = days[ends[number] : ends[number + 1]]
    if size is not None and not 0 < size <= len(days):
        raise ValueError(f"date_sentences: size must lie in 1 … {len(days)}, it is {size}")
    days = days[:size]
    styles = (uniform(fold(key, number), len(days))[0] * len(_FORMATS)).astype(int)
    made = [(date.fromordinal(n), s) for n, s in zip(days.tolist(), styles.tolist(), strict=True)]
    return [(write_date(day, style), day.isoformat()) for day, style in made]


def load_dates(train: int = 20_000, held_out: int = 1_000, seed: int = 0) -> Corpus:
    """Return the generated date task.

    Args:
        train: how many pairs to train with, at most 29,220.
        held_out: how many to validate with, and how many to test with, at most 3,652.
        seed: see `date_sentences`.

    Raises:
        ValueError: there are not so many.
    """
    sizes = (train, held_out, held_out)
    parts = [date_sentences(p, n, seed) for p, n in zip(_DATE_PARTS, sizes, strict=True)]
    title = f"dates to their ISO form ({train:,} + {held_out:,} + {held_out:,}), generated"
    return Corpus(parts[0], parts[1], parts[2], title, "char")


def load_translation(root: Root = None) -> Corpus:
    """Return Multi30k (German to English) if the data folder has it, else the date task.

    Raises:
        DataError: Multi30k is there, but incomplete or damaged.
    """
    there = locate(KNOWN["multi30k"], root) is not None
    return load_multi30k(root) if there else load_dates()


# --- pairs of numbers ---


def corpus_vocabularies(
    corpus: Corpus, min_freq: int = 2, max_size: int | None = None
) -> tuple[Vocabulary, Vocabulary]:
    """Return the vocabularies of a corpus's source and target, made from its training part.

    In both, the numbers 0 to 3 are those of <pad>, <unk>, <bos> and <eos>.

    Args:
        corpus: what `load_multi30k` or `load_dates` returns.
        min_freq: how often a word must come to be taken; of no effect on characters.
        max_size: how many words there are at most; of no effect on characters.
    """
    sides = [[pair[side] for pair in corpus.train] for side in (0, 1)]
    if corpus.level == "word":
        source, target = (WordVocabulary(side, min_freq, max_size) for side in sides)
        return source, target
    specials = (PAD, UNK, BOS, EOS)
    first, second = (CharVocabulary("".join(side), specials, UNK) for side in sides)
    return first, second


class Pairs(Dataset[tuple[Tensor, Tensor]]):
    """Sentence pairs as numbers: (source … <eos>, <bos> target … <eos>).

    A decoder is given the target without its last token, and is to predict it without its first.

    Args:
        sentences: (source, target) texts.
        source_vocabulary, target_vocabulary: with <eos>, and <bos> in the target's.
        max_length: leave out pairs with more tokens than this on a side, <bos> and <eos>
            included; `left_out` counts them.

    Shape: a sample is (source, target), (m) and (n), int64

    Raises:
        ValueError: no pair is left.
        KeyError: a vocabulary lacks <eos> or <bos>.

    >>> words = WordVocabulary(["a b c"])
    >>> [ids.tolist() for ids in Pairs([("a b", "c")], words, words)[0]]
    [[4, 5, 3], [2, 6, 3]]
    """

    def __init__(
        self,
        sentences: Sequence[tuple[str, str]],
        source_vocabulary: Vocabulary,
        target_vocabulary: Vocabulary,
        max_length: int | None = None,
    ) -> None:
        self.source_vocabulary, self.target_vocabulary = source_vocabulary, target_vocabulary
        source_end = [source_vocabulary.id(EOS)]
        target_start, target_end = [target_vocabulary.id(BOS)], [target_vocabulary.id(EOS)]
        self.sentences: Sentences = []
        self._ids: list[tuple[Any, Any]] = []
        for source, target in sentences:
            first = np.concatenate([source_vocabulary.encode(source), source_end])
            second = np.concatenate([target_start, target_vocabulary.encode(target), target_end])
            if max_length is None or max(len(first), len(second)) <= max_length:
                self.sentences.append((source, target))
                self._ids.append((first, second))
        self.left_out = len(sentences) - len(self._ids)
        if not self._ids:
            raise ValueError(f"Pairs: of {len(sentences)} pairs none is left, {max_length=}")

    @property
    def lengths(self) -> NDArray[np.int64]:
        """How many tokens the sources and the targets have.  Shape: (n, 2)"""
        return np.array([(len(source), len(target)) for source, target in self._ids], np.int64)

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        source, target = self._ids[index]
        return from_numpy(source), from_numpy(target)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self):,} pairs, {self.left_out:,} left out)"


class DatePairs(Pairs):
    """The date task as numbers, character by character.

    The vocabularies are the same whatever the part, the size and the seed.

    Args:
        part, size, seed: see `date_sentences`.

    >>> data = DatePairs("test", size=100)
    >>> source, target = data[0]
    >>> data.source_vocabulary.decode(source), data.target_vocabulary.decode(target)
    ('10-mar-38', '2038-03-10')
    """

    def __init__(self, part: str = "train", size: int | None = None, seed: int = 0) -> None:
        specials = (PAD, UNK, BOS, EOS)
        letters = "".join(_MONTHS + _DAYS) + "stndrdth the of 0123456789,-/.'()"
        source = CharVocabulary(letters, specials, UNK)
        target = CharVocabulary("0123456789-", specials, UNK)
        super().__init__(date_sentences(part, size, seed), source, target)
