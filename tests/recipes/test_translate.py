"""The Transformer, its search for translations, and the recipe that trains it."""

from __future__ import annotations

import itertools
import json
import math
import pathlib
from typing import Any

import numpy as np
import pytest

import toumei as tm
from toumei.data.translation import load_dates
from toumei.errors import ModuleError, ToumeiError
from toumei.models.transformer import Transformer, beam_search, greedy
from toumei.nn import functional as F
from toumei.recipes import find
from toumei.recipes.recipe import Options
from toumei.recipes.run import Run, open_finished
from toumei.recipes.translate import Translator, tokenised
from toumei.viz import summary

PAD, UNK, BOS, EOS = range(4)


def tiny(norm_first: bool = False, target_size: int = 9, **options: Any) -> Transformer:
    tm.manual_seed(3)
    model = Transformer(
        12, target_size, d_model=8, heads=2, encoder_layers=2, decoder_layers=2, feedforward=16,
        norm_first=norm_first, **options,
    )  # fmt: skip
    with tm.no_grad():  # scores far apart, so that which word is likeliest depends on the source
        for p in model.parameters():
            p.mul_(2.5)
    return model.eval().double()


SOURCE = tm.tensor([[4, 5, 6, 7, EOS], [9, EOS, PAD, PAD, PAD], [8, 8, 11, EOS, PAD]])
TARGET = tm.tensor([[BOS, 4, 5, 6], [BOS, 8, 4, 7], [BOS, 5, 5, 5]])


def log_probability(model: Transformer, source: tm.Tensor, words: list[int]) -> float:
    """Return the log-probability of one translation, from `forward`."""
    with tm.no_grad():
        scores = F.log_softmax(model(source, tm.tensor([[BOS, *words[:-1]]])), -1).numpy()[0]
    return float(scores[np.arange(len(words)), words].sum())


def test_the_base_model_has_the_size_of_the_paper() -> None:
    """65 million parameters, of six layers each and one table of 37,000 words: table 3."""
    model = Transformer(9, 9, encoder_layers=1, decoder_layers=1, shared=True)
    attention, feed_forward, norm = 4 * 512 * 513, 2 * 512 * 2048 + 2048 + 512, 2 * 512
    pair = 3 * attention + 2 * feed_forward + 5 * norm
    assert sum(p.numel() for p in model.parameters()) == pair + 2 * norm + 9 * 512 + 9
    assert 6 * pair + 37_000 * 512 == pytest.approx(65e6, rel=0.04)


def test_tied_and_shared_tables() -> None:
    def tables(**options: bool) -> int:
        model = Transformer(9, 9, d_model=8, heads=2, **options)
        rows = (model.source_embedding, model.target_embedding, model.output)
        return len({id(m.weight) for m in rows})

    assert tables() == 2 and tables(tied=False) == 3
    assert tables(shared=True) == 1 and tables(shared=True, tied=False) == 2
    with pytest.raises(ModuleError, match="one vocabulary: 9 and 10"):
        Transformer(9, 10, shared=True)


def test_embeddings_start_with_the_variance_of_positions() -> None:
    model = Transformer(500, 500, d_model=64, heads=4)
    assert model.target_embedding.weight.std().item() * 8 == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("norm_first", [False, True])
def test_padding_changes_nothing(norm_first: bool) -> None:
    model = tiny(norm_first)
    longer = F.pad(SOURCE, (0, 3), value=PAD)
    with tm.no_grad():
        plain, padded = model(SOURCE, TARGET), model(longer, F.pad(TARGET, (0, 2), value=PAD))
        alone = model(SOURCE[1:2, :2], TARGET[1:2])
    np.testing.assert_allclose(padded[:, :4].numpy(), plain.numpy(), atol=1e-10)
    np.testing.assert_allclose(alone.numpy(), plain[1:2].numpy(), atol=1e-10)


def test_no_place_sees_a_later_one_but_all_see_the_source() -> None:
    model = tiny()
    later, other = TARGET.clone(), SOURCE.clone()
    later[:, 2] = 8
    other[:, 0] = 10
    with tm.no_grad():
        plain, changed, moved = model(SOURCE, TARGET), model(SOURCE, later), model(other, TARGET)
    difference = np.abs(changed.numpy() - plain.numpy()).max(axis=(0, 2))
    assert (difference[:2] == 0).all() and (difference[2:] > 1e-3).all()
    assert (np.abs(moved.numpy() - plain.numpy()).max(axis=2) > 1e-4).all()


@pytest.mark.parametrize("norm_first", [False, True])
def test_place_by_place_is_the_same_as_all_at_once(norm_first: bool) -> None:
    model = tiny(norm_first)
    with tm.no_grad():
        whole = F.log_softmax(model(SOURCE, TARGET), -1).numpy()
    state = model.start(SOURCE, 6)
    shapes = [past.keys.shape for past in state.layers]
    for place in range(4):
        found, state = model.step(TARGET[:, place], tm.tensor(place), state)
        np.testing.assert_allclose(found.numpy(), whole[:, place], atol=1e-10)
        assert [past.keys.shape for past in state.layers] == shapes  # a window of fixed size


def test_greedy_takes_the_likeliest_word_of_the_whole_model() -> None:
    model = tiny()
    found = greedy(model, SOURCE, 7)
    for row, source in enumerate(SOURCE):
        words: list[int] = []
        while len(words) < 6 and EOS not in words:
            with tm.no_grad():
                scores = model(source[None], tm.tensor([[BOS, *words]]))[0, -1].numpy()
            scores[[PAD, BOS]] = -np.inf
            words.append(int(scores.argmax()))
        words += [] if EOS in words else [EOS]
        assert found.tokens[row].tolist() == words + [PAD] * (7 - len(words))
        expected = log_probability(model, source[None], words)
        assert float(found.log_probability[row]) == pytest.approx(expected, abs=1e-10)
    assert len({tuple(row) for row in found.tokens.tolist()}) > 1  # it does depend on the source


def test_greedy_is_a_beam_of_one_and_sentences_do_not_depend_on_each_other() -> None:
    model = tiny()
    for width in (1, 3):
        found = beam_search(model, SOURCE, 7, width=width)
        for row in range(3):
            alone = beam_search(model, SOURCE[row : row + 1], 7, width=width)
            assert alone.tokens[0].tolist() == found.tokens[row].tolist()
    one, plain = beam_search(model, SOURCE, 7, width=1, alpha=0.3), greedy(model, SOURCE, 7)
    assert one.tokens.tolist() == plain.tokens.tolist()
    np.testing.assert_allclose(one.log_probability.numpy(), plain.log_probability.numpy())


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
def test_a_beam_of_all_beginnings_finds_the_optimum(alpha: float) -> None:
    """Words 4, 5 and <unk>, at most 3 of them and <eos>."""
    model = tiny(target_size=6)
    choices = [
        [*words, EOS] for n in range(4) for words in itertools.product((UNK, 4, 5), repeat=n)
    ]
    found = beam_search(model, SOURCE, 4, width=3**4, alpha=alpha)
    for row in range(3):
        logs = [log_probability(model, SOURCE[row : row + 1], words) for words in choices]
        scores = [p / ((5 + len(c)) / 6) ** alpha for p, c in zip(logs, choices, strict=True)]
        best = int(np.argmax(scores))
        assert [n for n in found.tokens[row].tolist() if n != PAD] == choices[best]
        assert float(found.log_probability[row]) == pytest.approx(logs[best], abs=1e-10)


def test_banned_words_never_come_and_a_width_must_be_positive() -> None:
    model = tiny(target_size=6)
    everything = {n for row in greedy(model, SOURCE, 5).tokens.tolist() for n in row}
    assert 4 in everything
    for tokens in (
        greedy(model, SOURCE, 5, banned=[4, UNK]).tokens,
        beam_search(model, SOURCE, 5, width=4, banned=[4, UNK]).tokens,
    ):
        assert {n for row in tokens.tolist() for n in row} <= {PAD, EOS, 5}
    with pytest.raises(ValueError, match="width must be positive"):
        beam_search(model, SOURCE, 5, width=0)


# --- the recipe ---


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    options = Options(
        preset="fast", epochs=2, samples=2_500, batch_size=50, lr=8e-3, data_dir="/nowhere"
    )
    run = Run(find("translate"), tmp_path_factory.mktemp("translate"), options)
    run.fit()
    return run


def test_batches_have_few_shapes_and_hold_all_tokens() -> None:
    run = Run(find("translate"), pathlib.Path("/nowhere"), Options(data_dir="/nowhere"))
    shapes = {(source.shape, target.shape) for source, target in run.train}
    assert 2 <= len(shapes) <= 8
    tokens = sum(int((source != PAD).sum()) for source, _ in run.test)
    assert tokens == sum(len(source) + 1 for source, _ in load_dates().test)


def test_the_model_can_be_traced(run: Run) -> None:
    table = summary(run.model, *run.recipe.example(run.facts))
    assert table.rows[0].output == "[1, 11, 15]"
    assert table.parameters == sum(p.numel() for p in run.model.parameters())


def test_it_learns(run: Run) -> None:
    history = run.trainer.history
    assert history["loss"][-1] < history["loss"][0] * 0.55
    # A trivial answer: each character of a date drawn as often as it comes at its place.
    targets = [target for _, target in load_dates().validation]
    columns = [[target[k] for target in targets] for k in range(10)]
    shares = [[column.count(c) / len(column) for c in set(column)] for column in columns]
    entropy = -sum(p * math.log(p) for share in shares for p in share) / 11  # <eos> costs nothing
    assert history["validation_loss"][-1] < entropy * 0.85


def test_what_it_leaves(run: Run) -> None:
    names = {"loss.png", "attention.png", "translations.png", "translations.txt", "summary.json"}
    assert names <= {p.name for p in run.folder.iterdir()}
    summary = json.loads((run.folder / "summary.json").read_text())
    assert summary["metric"] == "test exact share" and 0 <= summary["value"] <= 1
    text = (run.folder / "translations.txt").read_text()
    source, reference = load_dates().validation[0]
    lines = text.splitlines()[:5]
    assert lines[0].split(maxsplit=1)[1] == source and lines[1].split(maxsplit=1)[1] == reference
    assert [line[:7] for line in lines[2:]] == ["epoch 1", "epoch 2", ""]


def test_the_score_is_the_share_of_right_translations(run: Run) -> None:
    model = run.model
    assert isinstance(model, Translator)
    pairs = load_dates().test[:40]
    found = model.texts(model.translate(model.read([source for source, _ in pairs])).tokens)
    right = sum(a == b for a, (_, b) in zip(found, pairs, strict=True))
    ids = [model.sentences(model.target.encode(text)[None])[0] for text in found]
    wanted = [model.sentences(model.target.encode(text)[None])[0] for _, text in pairs]
    assert model.score(ids, wanted) == right / 40
    model.words = True
    assert model.score(wanted, wanted) == 100
    model.words = False


def test_predict_needs_the_folder_alone(run: Run, tmp_path: pathlib.Path) -> None:
    opened = open_finished(run.folder)
    picture = tmp_path / "look.png"
    answer = opened.recipe.predict(opened, "March 3, 2017", picture).splitlines()
    assert len(answer) == 3 and answer[2] == f"wrote {picture}"
    assert answer[0][4] == "-" and answer[1].startswith("log-probability -")
    assert picture.read_bytes()[:4] == b"\x89PNG"
    noted = opened.recipe.predict(opened, "märz 3, 2017%", None).splitlines()
    assert noted[2] == "not in the vocabulary: ä, z, %"
    for line, words in [("", "has 0 characters"), ("x" * 99, "has 99 characters")]:
        with pytest.raises(ToumeiError, match=words):
            opened.recipe.predict(opened, line, None)
    with pytest.raises(ToumeiError, match="makes nothing up"):
        opened.recipe.sample(opened, None)  # type: ignore[arg-type]


def test_what_was_translated_survives_a_resume(tmp_path: pathlib.Path) -> None:
    class Kill(tm.train.Callback):
        def on_batch_end(self, trainer: Any) -> None:
            if trainer.steps == 7:
                raise KeyboardInterrupt

    options = Options(
        preset="fast", epochs=2, samples=1_000, batch_size=250, data_dir="/nowhere",
        checkpoint_seconds=0,
    )  # fmt: skip
    cut = Run(find("translate"), tmp_path, options)
    with pytest.raises(KeyboardInterrupt):
        cut.fit(Kill())
    before = (tmp_path / "translations.txt").read_text().splitlines()
    again = Run(find("translate"), tmp_path, options)
    again.resume()
    assert again.trainer.steps == 6
    again.trainer.fit(again.train, again.validation, epochs=2)
    after = (tmp_path / "translations.txt").read_text().splitlines()
    assert [line for line in after if not line.startswith("epoch 2")] == before
    assert len(after) == len(before) + 4


def test_lines_are_tokenised_as_multi30k_is() -> None:
    assert tokenised("Zwei Männer, im Schnee!") == "zwei männer , im schnee !"
    line = "ein t-shirt mit &quot; walt &apos; s &quot; -schild &amp; hut ."
    assert tokenised(line) == line
