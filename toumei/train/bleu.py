"""BLEU: how much translations have in common with reference translations.

Papineni, Roukos, Ward and Zhu, "BLEU: a method for automatic evaluation of machine translation",
ACL 2002.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence

Tokens = Sequence[Hashable]


def corpus_bleu(
    candidates: Sequence[Tokens], references: Sequence[Tokens], order: int = 4
) -> float:
    """Return the BLEU of a corpus in percent: 100·B·exp(1/N Σₙ ln pₙ), n = 1 … N.

    pₙ is the share of the candidates' n-grams that their references have too, each counted at
    most as often as there.  The brevity penalty B is exp(1 − r/c) if the candidates have fewer
    tokens in all, c, than the references, r; else 1.  Counts are summed over the corpus first, and
    nothing is smoothed: if there is no common n-gram of some n, BLEU is 0.

    Args:
        candidates: translations, each a sequence of tokens: words, or their numbers.
        references: one for each candidate.
        order: N, the longest n-grams.

    Raises:
        ValueError: there are not as many references as candidates, or none, or `order` is not
            positive.

    Paper: Papineni et al., ACL 2002.

    >>> reference = "the cat sat on the mat".split()
    >>> corpus_bleu([reference], [reference])
    100.0
    >>> round(corpus_bleu(["the cat sat on a mat".split()], [reference]), 2)
    53.73
    """
    if len(candidates) != len(references) or not candidates or order < 1:
        raise ValueError(
            "corpus_bleu needs a reference for each candidate, at least one, and a positive order: "
            f"{len(candidates)} candidates, {len(references)} references, {order=}"
        )
    pairs = list(zip(candidates, references, strict=True))
    logs = 0.0
    for n in range(1, order + 1):
        counted = [_common(candidate, reference, n) for candidate, reference in pairs]
        common, total = (sum(column) for column in zip(*counted, strict=True))
        if not common:
            return 0.0
        logs += math.log(common / total) / order
    c, r = (sum(map(len, side)) for side in (candidates, references))
    return 100 * min(1.0, math.exp(1 - r / c)) * math.exp(logs)


def _common(candidate: Tokens, reference: Tokens, n: int) -> tuple[int, int]:
    """Return how many n-grams of a candidate its reference has too, and how many it has."""
    mine, theirs = _ngrams(candidate, n), _ngrams(reference, n)
    return (mine & theirs).total(), mine.total()


def _ngrams(tokens: Tokens, n: int) -> Counter[tuple[Hashable, ...]]:
    return Counter(tuple(tokens[k : k + n]) for k in range(len(tokens) - n + 1))
