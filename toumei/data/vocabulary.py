"""Vocabularies: tokens and their numbers, the tokens being characters or words.

Numbers count from 0: first the special tokens, which no text contains, then the others.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import LoadError

Ids = NDArray[np.int64]

PAD, UNK, BOS, EOS, MASK = "<pad>", "<unk>", "<bos>", "<eos>", "<mask>"


class Vocabulary:
    """Tokens and their numbers; the base of `CharVocabulary` and `WordVocabulary`.

    Args:
        tokens: those that a text is made of, each once.
        specials: tokens that come before them and that no text contains.
        unknown: the token that stands for all that are in neither; None refuses them.

    Raises:
        ValueError: a token comes twice, or `unknown` is none of them.
    """

    kind: ClassVar[str] = ""

    def __init__(
        self, tokens: Iterable[str], specials: Sequence[str] = (), unknown: str | None = None
    ) -> None:
        self.specials = tuple(specials)
        self.tokens = (*self.specials, *tokens)
        self.unknown = unknown
        self._ids = {token: number for number, token in enumerate(self.tokens)}
        if len(self._ids) < len(self.tokens):
            twice = sorted({t for t in self.tokens if self.tokens.count(t) > 1})[:5]
            raise ValueError(f"{type(self).__name__}: tokens that come twice: {twice}")
        if unknown is not None and unknown not in self._ids:
            raise ValueError(f"{type(self).__name__}: unknown={unknown!r} is none of its tokens")
        self._prepare()

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: object) -> bool:
        return token in self._ids

    def id(self, token: str) -> int:
        """Return the number of a token, of a special one too.

        Raises:
            KeyError: it is not in the vocabulary.
        """
        if token not in self._ids:
            raise KeyError(f"{type(self).__name__} has no token {token!r}")
        return self._ids[token]

    def encode(self, text: str) -> Ids:
        """Return the numbers of a text's tokens.  Shape: (n)

        Raises:
            ValueError: a token is not in the vocabulary, and none stands for unknown ones.
        """
        ids, tokens = self._ids, self._split(text)
        missing = -1 if self.unknown is None else ids[self.unknown]
        numbers = np.fromiter((ids.get(t, missing) for t in tokens), np.int64, len(tokens))
        self._refuse(tokens[k] for k in np.flatnonzero(numbers < 0).tolist())
        return numbers

    def decode(self, ids: Any, skip_specials: bool = True) -> str:
        """Return the text that numbers stand for.

        Args:
            ids: integers: a list, an array or a Tensor of one dimension.
            skip_specials: leave special tokens out.

        Raises:
            ValueError: a number is no token's.
        """
        numbers = np.asarray(ids.tolist() if hasattr(ids, "tolist") else ids, np.int64).reshape(-1)
        if ((numbers < 0) | (numbers >= len(self))).any():
            raise ValueError(
                f"{type(self).__name__}: numbers must lie in 0 … {len(self) - 1}; they reach from "
                f"{numbers.min()} to {numbers.max()}"
            )
        first = len(self.specials) if skip_specials else 0
        return self._join([self.tokens[n] for n in numbers.tolist() if n >= first])

    def to_dict(self) -> dict[str, Any]:
        """Return what `vocabulary_from_dict` makes the same vocabulary of, for `json`."""
        return {
            "kind": self.kind,
            "specials": list(self.specials),
            "tokens": list(self.tokens[len(self.specials) :]),
            "unknown": self.unknown,
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Any:
        """Return the vocabulary that `to_dict` described.

        Raises:
            LoadError: the dictionary describes none, or one of another kind.
        """
        if state.get("kind") != cls.kind:
            raise LoadError(
                f"{cls.__name__}: a vocabulary of kind {cls.kind!r} was expected, the dictionary's "
                f"kind is {state.get('kind')!r}"
            )
        made = cls.__new__(cls)
        try:
            Vocabulary.__init__(made, state["tokens"], state["specials"], state["unknown"])
        except (KeyError, TypeError, ValueError) as error:
            raise LoadError(f"{cls.__name__}: the dictionary is damaged: {error!r}") from error
        return made

    def _prepare(self) -> None:
        """Make what a kind of vocabulary needs besides."""

    def _split(self, text: str) -> Sequence[str]:
        """Return a text's tokens."""
        raise NotImplementedError(f"{type(self).__name__} must define _split(text)")

    def _join(self, tokens: Sequence[str]) -> str:
        """Return the text of some tokens."""
        raise NotImplementedError(f"{type(self).__name__} must define _join(tokens)")

    def _refuse(self, unknown: Iterable[str]) -> None:
        """Raise if there is an unknown token."""
        if found := sorted(set(unknown)):
            shown = ", ".join(map(repr, found[:8])) + (", …" if len(found) > 8 else "")
            raise ValueError(
                f"{type(self).__name__}: not in the vocabulary: {shown}; unknown=TOKEN would let a "
                "token stand for them"
            )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.kind, self.tokens, self.unknown))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} tokens, unknown={self.unknown!r})"


class CharVocabulary(Vocabulary):
    """The characters of a text, in the order of their code points.

    Args:
        text: what holds each character at least once.
        specials: tokens before them, such as "<pad>".
        unknown: the character or special token that stands for others; None refuses them.

    Raises:
        ValueError: `unknown` is none of the tokens.

    >>> chars = CharVocabulary("hello")
    >>> chars.encode("hole").tolist(), chars.decode([1, 0, 2, 3])
    ([1, 3, 2, 0], 'helo')
    """

    kind = "char"

    def __init__(self, text: str, specials: Sequence[str] = (), unknown: str | None = None) -> None:
        super().__init__(sorted(set(text)), specials, unknown)

    def encode(self, text: str) -> Ids:
        """Return the numbers of a text's characters.  Shape: (n)

        Raises:
            ValueError: a character is not in the vocabulary, and none stands for unknown ones.
        """
        given = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.int64)
        where = np.searchsorted(self._codes, given)
        known = self._codes[where] == given
        if self.unknown is None:
            self._refuse(map(chr, np.unique(given[~known]).tolist()))
        return np.where(known, self._numbers[where], self._ids.get(str(self.unknown), -1))

    def _prepare(self) -> None:
        """Make the table to search: ascending code points, an impossible one at its end."""
        codes = np.array([ord(c) for c in self.tokens[len(self.specials) :]], np.int64)
        order = np.argsort(codes)
        self._codes = np.append(codes[order], sys.maxunicode + 1)
        self._numbers = np.append(order + len(self.specials), -1)

    def _split(self, text: str) -> Sequence[str]:
        return text

    def _join(self, tokens: Sequence[str]) -> str:
        return "".join(tokens)


class WordVocabulary(Vocabulary):
    """The words of sentences, parted by spaces: frequent ones first, then by the alphabet.

    The numbers 0 to 3 are those of <pad>, <unk>, <bos> (a sentence begins) and <eos> (it ends).

    Args:
        sentences: texts, or one text.
        min_freq: how often a word must come to be taken.
        max_size: how many tokens there are at most, the special ones included.

    Raises:
        ValueError: `min_freq` is not positive, or `max_size` leaves no room for a word.

    >>> words = WordVocabulary(["a cat", "a dog", "a cat !"], min_freq=2)
    >>> words.tokens[4:], words.encode("a dog").tolist()
    (('a', 'cat'), [4, 1])
    """

    kind = "word"

    def __init__(
        self, sentences: Iterable[str], min_freq: int = 1, max_size: int | None = None
    ) -> None:
        from collections import Counter

        specials = (PAD, UNK, BOS, EOS)
        if min_freq < 1:
            raise ValueError(f"WordVocabulary: min_freq must be positive, it is {min_freq}")
        if max_size is not None and max_size <= len(specials):
            raise ValueError(f"WordVocabulary: max_size must exceed {len(specials)}: {max_size}")
        counts: Counter[str] = Counter()
        for sentence in [sentences] if isinstance(sentences, str) else sentences:
            counts.update(sentence.split())
        frequent = [word for word, n in counts.items() if n >= min_freq and word not in specials]
        frequent.sort(key=lambda word: (-counts[word], word))
        room = len(frequent) if max_size is None else max_size - len(specials)
        super().__init__(frequent[:room], specials, UNK)

    def _split(self, text: str) -> Sequence[str]:
        return text.split()

    def _join(self, tokens: Sequence[str]) -> str:
        return " ".join(tokens)


def vocabulary_from_dict(state: Mapping[str, Any]) -> Vocabulary:
    """Return the vocabulary that `to_dict` described, of whichever kind.

    Raises:
        LoadError: the dictionary describes none.

    >>> vocabulary_from_dict(CharVocabulary("abc").to_dict()).decode([2, 0])
    'ca'
    """
    for kind in (CharVocabulary, WordVocabulary):
        if state.get("kind") == kind.kind:
            made: Vocabulary = kind.from_dict(state)
            return made
    raise LoadError(f"a vocabulary's kind is 'char' or 'word', not {state.get('kind')!r}")
