"""The encoder: what it starts with, that it learns, what it fills in; and counting beside it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import toumei as tm
from toumei.errors import ToumeiError
from toumei.models.bert import BERT
from toumei.recipes import find
from toumei.recipes.encoder import accuracy, look_around
from toumei.recipes.ngrams import NGrams
from toumei.recipes.recipe import Options
from toumei.recipes.run import Opened, Run, open_finished
from toumei.viz.canvas import token


def brute_force(text: str, before: str, after: str, size: int) -> np.ndarray:
    """Return the probabilities between two contexts, by the formula, with slices of strings."""
    p = np.full(size, 1 / size)
    sides = [(0, 0)]
    while sides[-1] != (len(before), len(after)):
        left, right = sides[-1]
        more_left = left < len(before) and (left <= right or right == len(after))
        sides.append((left + 1, right) if more_left else (left, right + 1))
    for left, right in sides:
        context = before[len(before) - left :], after[:right]
        seen = Counter(
            text[k]
            for k in range(left, len(text) - right)
            if (text[k - left : k], text[k + 1 : k + 1 + right]) == context
        )
        n, kinds = sum(seen.values()), len(seen)
        if n:
            p = np.array([(seen[chr(97 + c)] + kinds * p[c]) / (n + kinds) for c in range(size)])
    return p


def numbers(text: str) -> np.ndarray:
    return np.array([ord(c) - 97 for c in text])


def test_counting_follows_its_formula() -> None:
    rng = np.random.default_rng(0)
    text = "".join(rng.choice(list("abcd"), 300, p=[0.4, 0.3, 0.2, 0.1]))
    grams = NGrams(numbers(text), 4, (2, 1))
    # ? is hidden, and ends a context; so do the row's ends.
    row = "ab?adcb"
    hidden = np.array([[c == "?" for c in row]])
    wanted = np.array([[k in (0, 2, 4, 6) for k in range(7)]])
    found = grams.probabilities(numbers(row.replace("?", "a"))[None], wanted, hidden)
    contexts = [("", "b"), ("ab", "a"), ("a", "c"), ("dc", "")]
    for p, (before, after) in zip(found, contexts, strict=True):
        np.testing.assert_allclose(p, brute_force(text, before, after, 4), atol=1e-12)
        assert p.sum() == pytest.approx(1)


def test_each_head_of_the_first_block_starts_at_a_neighbour() -> None:
    tm.manual_seed(0)
    bert = BERT(50, dim=128, layers=2, heads=4, max_length=64, pooler=False).eval()
    look_around(bert)
    tokens = tm.from_numpy(np.random.default_rng(0).integers(1, 50, (4, 64)))
    maps, others = (m.detach().numpy() for m in bert.attention_maps(tokens))
    for head, offset in enumerate((-1, 1, -2, 2)):
        places = np.arange(max(0, -offset), 64 - max(0, offset))
        share = maps[:, head, places, places + offset]
        assert share.mean() > 0.6
        assert (maps[:, head, places].argmax(-1) == places + offset).mean() > 0.8
    assert others.max(-1).mean() < 0.3  # the second block looks everywhere
    assert not bert.embeddings.word_embeddings.weight[0].any()  # padding


def test_accuracy_counts_what_is_hidden() -> None:
    scores = tm.tensor([[[1.0, 0], [0, 1], [0, 1]], [[1.0, 0], [0, 1], [1, 0]]])
    targets = tm.tensor([[0, -100, 0], [-100, 1, -100]])
    assert accuracy(scores, targets).tolist() == [0.5, 1]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    options = Options(
        preset="fast", epochs=2, samples=960, batch_size=8, lr=2e-3, data_dir="/nowhere"
    )
    run = Run(find("encoder"), tmp_path_factory.mktemp("encoder"), options)
    run.summed = run.fit()  # type: ignore[attr-defined]
    return run


@pytest.fixture(scope="module")
def opened(run: Run) -> Opened:
    return open_finished(run.folder)


def test_it_learns(run: Run) -> None:
    history = run.trainer.history
    assert history["loss"][-1] < 0.9 * history["loss"][0]
    targets = np.concatenate([t.numpy().ravel() for _, t in run.validation])
    most_frequent = np.bincount(targets[targets >= 0]).max() / (targets >= 0).sum()
    assert history["validation_accuracy"][-1] > most_frequent + 0.05


def test_what_it_leaves_and_what_it_is_compared_with(run: Run) -> None:
    assert {"loss.png", "attention.png"} <= {p.name for p in run.folder.iterdir()}
    summary = run.summed  # type: ignore[attr-defined]
    assert summary["accuracy_of_n_grams"] > summary["accuracy_of_left_n_grams"] + 0.05
    assert 1 < summary["loss_of_n_grams"] < summary["loss_of_left_n_grams"] < 3
    ahead = summary["loss_of_n_grams"] - summary["value"]
    assert summary["nats_ahead"] == pytest.approx(ahead, abs=2e-4)


def test_it_fills_gaps(opened: Opened) -> None:
    line = "the wh_le and t_e sea"
    filled, _, head, *guesses = opened.recipe.predict(opened, line, None).split("\n")
    assert len(filled) == len(line) and "_" not in filled
    assert all(a == b for a, b in zip(line, filled, strict=True) if a != "_")
    assert head.startswith("gap at") and len(guesses) == 2
    place, *rest = guesses[0].split()
    assert place == "7" and rest[0] == token(filled[6]) and len(rest) == 6
    assert [float(r[:-1]) for r in rest[1::2]] == sorted(
        (float(r[:-1]) for r in rest[1::2]), reverse=True
    )
    long = "so_e " * 40
    assert len(opened.recipe.predict(opened, long, None).split("\n")[0]) == 200
    for wrong, words in (("no gap", "hide some characters"), ("_é", "never seen: é"),
                         ("", "hide some characters")):  # fmt: skip
        with pytest.raises(ToumeiError, match=words):
            opened.recipe.predict(opened, wrong, None)
