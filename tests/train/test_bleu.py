"""BLEU: known values, its properties, and sacrebleu as the oracle."""

from __future__ import annotations

import math
import random

import pytest

from toumei.train.bleu import corpus_bleu


def corpus(seed: int, size: int) -> tuple[list[list[str]], list[list[str]]]:
    """Return sentences and references that have much in common, of changing lengths."""
    draw = random.Random(seed)
    words = [f"w{k}" for k in range(12)]
    references = [draw.choices(words, k=draw.randint(1, 15)) for _ in range(size)]
    candidates = []
    for reference in references:
        kept = [w if draw.random() < 0.8 else draw.choice(words) for w in reference]
        candidates.append(kept[: len(kept) - draw.randint(0, 2)] + draw.choices(words, k=1))
    return candidates, references


def test_the_clipped_precision_of_the_paper() -> None:
    """Papineni et al., section 2.1: "the the the …" has the modified unigram precision 2/7."""
    candidate, reference = ["the"] * 7, ["the", "cat", "is", "on", "the", "mat"]
    assert corpus_bleu([candidate], [reference], order=1) == pytest.approx(100 * 2 / 7)
    assert corpus_bleu([candidate], [reference], order=2) == 0


def test_the_brevity_penalty_alone() -> None:
    reference = list("abcdefgh")
    assert corpus_bleu([reference[:5]], [reference]) == pytest.approx(100 * math.exp(1 - 8 / 5))
    longer = corpus_bleu([[*reference, "x"]], [reference])
    assert longer == pytest.approx(100 * (8 / 9 * 7 / 8 * 6 / 7 * 5 / 6) ** 0.25)


def test_counts_are_summed_over_the_corpus_before_they_are_divided() -> None:
    candidates, references = [list("ab"), list("abcdef")], [list("ab"), list("abcdxf")]
    expected = (7 / 8) * (4 / 6) * (2 / 4) * (1 / 3)
    assert corpus_bleu(candidates, references) == pytest.approx(100 * expected**0.25)


def test_numbers_do_as_well_as_words() -> None:
    candidates, references = corpus(0, 20)
    numbers = {word: k for k, word in enumerate({w for s in candidates + references for w in s})}
    ids = [[[numbers[w] for w in s] for s in side] for side in (candidates, references)]
    assert corpus_bleu(*ids) == corpus_bleu(candidates, references) > 0


def test_empty_candidates_and_bad_arguments() -> None:
    assert corpus_bleu([[]], [["a"]]) == 0
    for arguments in [([], []), ([["a"]], [])]:
        with pytest.raises(ValueError, match="a reference for each candidate"):
            corpus_bleu(*arguments)
    with pytest.raises(ValueError, match="positive order"):
        corpus_bleu([["a"]], [["a"]], order=0)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [1, 3, 200])
def test_against_sacrebleu(seed: int, size: int) -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    candidates, references = corpus(seed, size)
    texts = [[" ".join(sentence) for sentence in side] for side in (candidates, references)]
    oracle = sacrebleu.corpus_bleu(texts[0], [texts[1]], smooth_method="none", tokenize="none")
    assert corpus_bleu(candidates, references) == pytest.approx(oracle.score, abs=1e-9)
