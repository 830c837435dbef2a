"""Texts, and windows of them: to predict the next token, or masked ones.

A text is a row of token numbers (see `vocabulary`).  A shift of the windows and the choice of
masked tokens are functions of (seed, epoch, index), so that an interrupted run resumes exactly.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..ops.creation import from_numpy
from ..tensor import Tensor
from .dataset import Batch, Dataset
from .files import KNOWN, find, locate, read_checked
from .keys import Keys, fold, item_keys, seed_key, uniform

Ids = NDArray[np.int64]
Row = TypeVar("Row", str, Ids)

_BOOK = Path(__file__).parent / "assets" / "moby_dick.txt.xz"
_EPOCH = -3  # the "index" of what is common to an epoch's items, which count from 0
IGNORED = -100  # the target that cross_entropy leaves out


class Text(NamedTuple):
    """A text, and a line that says what it is."""

    text: str
    title: str


def embedded_text() -> str:
    """Return Melville's "Moby-Dick" (1851): 1.2 million characters, 80 different ones, ASCII.

    >>> embedded_text()[22:39]
    'Call me Ishmael. '
    """
    import lzma

    return lzma.decompress(_BOOK.read_bytes()).decode("ascii")


def load_text(root: str | os.PathLike[str] | None = None, name: str | None = None) -> Text:
    """Return tinyshakespeare if the data folder has it, else the embedded text.

    Args:
        root: the data folder; else $TOUMEI_DATA, else the user's cache.
        name: "tinyshakespeare" or "moby-dick", to have that one.

    Raises:
        DataError: tinyshakespeare is asked for and not there, or it is cut short or damaged.
    """
    known = KNOWN["tinyshakespeare"]
    folder = find(known, root) if name == known.name else locate(known, root)
    if folder is None or name == "moby-dick":
        return Text(embedded_text(), "Moby-Dick (Melville, 1851), embedded")
    content = read_checked(known, folder, known.files[0].name)
    return Text(content.decode("utf-8"), "tinyshakespeare")


class Parts(NamedTuple):
    """The parts of a text (or of its numbers) to train, validate and test with."""

    train: Any
    validation: Any
    test: Any


def split_text(text: Row, validation: float = 0.05, test: float = 0.05) -> Parts:
    """Cut a text in three: the beginning to train, then what validates, the end to test.

    The parts are contiguous, so that no window of one is in another.  With 5 % and 5 %, what
    others call tinyshakespeare's validation part (its last 10 %) is these two together.

    Args:
        text: a text, or its numbers.
        validation, test: the fractions of these parts, rounded down to whole tokens.

    Raises:
        ValueError: the fractions are negative, or leave nothing to train with.

    >>> split_text("abcdefghij", validation=0.2, test=0.1)
    Parts(train='abcdefg', validation='hi', test='j')
    """
    if min(validation, test) < 0 or validation + test >= 1:
        raise ValueError(
            f"split_text: the fractions {validation} and {test} must not be negative, and must add "
            "up to less than 1"
        )
    end = len(text) - int(len(text) * test)
    start = end - int(len(text) * validation)
    return Parts(text[:start], text[start:end], text[end:])


class _Windows(Dataset[tuple[Tensor, ...]]):
    """Windows that don't overlap; where they start may be shifted anew in each epoch."""

    _ahead = 0  # how many tokens a window needs beyond its length

    def __init__(self, ids: Any, length: int, shifted: bool) -> None:
        self.ids = np.asarray(ids)
        self.length, self.shifted = length, shifted
        name = type(self).__name__
        if self.ids.ndim != 1 or self.ids.dtype.kind not in "iu":
            raise ValueError(
                f"{name}: the numbers must be one row of integers, they are "
                f"{self.ids.dtype} {self.ids.shape}"
            )
        if length < 1:
            raise ValueError(f"{name}: the length must be positive, it is {length}")
        if len(self) < 1:
            raise ValueError(
                f"{name}: {len(self.ids):,} tokens are too few for a window of {length}"
                + (" that can be shifted" if shifted else "")
            )

    def __len__(self) -> int:
        spare = self.length - 1 if self.shifted else 0  # the largest shift
        return max(0, (len(self.ids) - self._ahead - spare) // self.length)

    def _shift(self) -> int:
        """Return the epoch's shift, in [0, length)."""
        return int(uniform(item_keys([_EPOCH]), 1)[0, 0] * self.length) if self.shifted else 0

    def _rows(self, indices: Sequence[int]) -> tuple[Ids, Ids]:
        """Return the windows at some indices, with what lies ahead, and the indices from 0 on."""
        where = np.asarray(indices, np.int64)
        size = len(self)
        if ((where < -size) | (where >= size)).any():
            raise IndexError(f"indices {where.tolist()} are out of range for {size} windows")
        where = where % size
        places = (where * self.length + self._shift())[:, None]
        rows = self.ids[places + np.arange(self.length + self._ahead)]
        return rows.astype(np.int64, copy=False), where

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        sample: tuple[Tensor, ...] = self.__getitems__([index])[0]
        return sample

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        raise NotImplementedError(f"{type(self).__name__} must define __getitems__(indices)")


class TextWindows(_Windows):
    """Windows of a text, each with the same window one token on: what comes next.

    The windows don't overlap: an epoch shows (nearly) every token once.

    Args:
        ids: the text's numbers.  Shape: (n)
        length: tokens per window.
        random_offset: shift all windows by the same 0 … length − 1 tokens, anew in each epoch of
            a loader, so that a token is not always at the same place; for training.

    Shape: a sample is (input, target), both (length), int64

    Raises:
        ValueError: the text is shorter than a window and its targets.

    >>> inputs, targets = TextWindows(np.arange(10), length=3)[1]
    >>> inputs.tolist(), targets.tolist()
    ([3, 4, 5], [4, 5, 6])
    """

    _ahead = 1

    def __init__(self, ids: Any, length: int, random_offset: bool = False) -> None:
        super().__init__(ids, length, random_offset)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        rows, _ = self._rows(indices)
        inputs, targets = (np.ascontiguousarray(part) for part in (rows[:, :-1], rows[:, 1:]))
        return Batch(from_numpy(inputs), from_numpy(targets))


class MaskedWindows(_Windows):
    """Windows of a text with some tokens hidden, which are the targets: masked-language training.

    A share p of each window's tokens (at least one) is chosen.  Of the chosen ones 80 % become
    the mask, 10 % a token drawn at random (the mask is never drawn), and 10 % stay.
    Paper: Devlin et al., "BERT", NAACL 2019, section 3.1.

    Args:
        ids: the text's numbers.  Shape: (n)
        length: tokens per window.
        mask_id: the number of the mask.
        vocabulary_size: how many tokens there are.
        p: the share of tokens that is chosen, in (0, 1].
        random: choose anew, and shift the windows, in each epoch of a loader: for training.
            Else both are the same each time, for validation.
        specials: tokens with numbers below this are neither chosen nor drawn.
        seed: what the choice is a function of, if it is not `random`.

    Shape: a sample is (input, target), both (length), int64; where no token was chosen the
        target is −100, which `cross_entropy` leaves out

    Raises:
        ValueError: the text is shorter than a window, p is not in (0, 1], or a number is none of
            the vocabulary's.

    >>> inputs, targets = MaskedWindows(np.arange(20) % 5, 10, mask_id=5, vocabulary_size=6)[0]
    >>> int((targets != -100).sum()), bool(((inputs == 5) <= (targets >= 0)).all())
    (2, True)
    """

    def __init__(
        self,
        ids: Any,
        length: int,
        mask_id: int,
        vocabulary_size: int,
        p: float = 0.15,
        *,
        random: bool = False,
        specials: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(ids, length, random)
        if not 0 < p <= 1:
            raise ValueError(f"MaskedWindows: p must lie in (0, 1], it is {p}")
        if not 0 <= mask_id < vocabulary_size:
            raise ValueError(f"MaskedWindows: mask_id {mask_id} is none of {vocabulary_size}")
        if self.ids.min() < 0 or self.ids.max() >= vocabulary_size:
            raise ValueError(f"MaskedWindows: numbers must lie in 0 … {vocabulary_size - 1}")
        if vocabulary_size - specials - (mask_id >= specials) < 1:
            raise ValueError("MaskedWindows: no token is left that could be drawn")
        self.mask_id, self.vocabulary_size, self.p = mask_id, vocabulary_size, p
        self.random, self.specials, self.seed = random, specials, seed

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        rows, where = self._rows(indices)
        keys = item_keys(where.tolist()) if self.random else fold(seed_key(self.seed), where)
        chosen = self._chosen(rows, keys)
        inputs = np.where(chosen, self._disguised(rows, keys), rows)
        targets = np.where(chosen, rows, IGNORED)
        return Batch(from_numpy(inputs), from_numpy(targets))

    def _chosen(self, rows: Ids, keys: Keys) -> NDArray[np.bool_]:
        """Tell which tokens are chosen: those with the smallest random numbers."""
        count = max(1, round(self.p * self.length))
        lots = np.where(rows < self.specials, 2.0, uniform(fold(keys, 0), self.length))
        limit = np.partition(lots, count - 1, axis=1)[:, count - 1 : count]
        return (lots <= limit) & (lots < 1)

    def _disguised(self, rows: Ids, keys: Keys) -> Ids:
        """Return what chosen tokens become: the mask, a random token, or themselves."""
        kind = uniform(fold(keys, 1), self.length)
        apart = int(self.mask_id >= self.specials)  # the mask's number is passed over
        choices = self.vocabulary_size - self.specials - apart
        drawn = self.specials + (uniform(fold(keys, 2), self.length) * choices).astype(np.int64)
        if apart:
            drawn += drawn >= self.mask_id
        return np.where(kind < 0.8, self.mask_id, np.where(kind < 0.9, drawn, rows))
