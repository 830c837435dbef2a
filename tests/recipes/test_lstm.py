"""The LSTM: its state, that it learns, how it writes and is surprised, and that it resumes."""

from __future__ import annotations

import pathlib
from collections import Counter

import numpy as np
import pytest

import toumei as tm
from toumei.data import embedded_text
from toumei.errors import ModuleError, ToumeiError
from toumei.models.rnn import CharRNN
from toumei.recipes import find
from toumei.recipes.recipe import Options, Sampling
from toumei.recipes.run import Opened, Run, open_finished
from toumei.recipes.texts import StateReader, surprises, write
from toumei.train import Callback, Trainer
from toumei.train.history import Row


def options(epochs: int) -> Options:
    return Options(
        preset="fast", epochs=epochs, samples=640, batch_size=16, lr=0.01, data_dir="/nowhere"
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(find("lstm"), tmp_path_factory.mktemp("lstm"), options(2))
    run.fit()
    return run


@pytest.fixture(scope="module")
def opened(run: Run) -> Opened:
    return open_finished(run.folder)


def unigram_entropy() -> float:
    counts = np.array(list(Counter(embedded_text()).values()))
    p = counts / counts.sum()
    return float(-(p * np.log(p)).sum())


def test_its_size() -> None:
    model = CharRNN(65, embedding=128, hidden=128)
    gates = 4 * 128 * (128 + 128 + 2)
    assert sum(p.numel() for p in model.parameters()) == 65 * 128 + gates + 128 * 65 + 65
    with pytest.raises(ModuleError, match="kind is one of lstm, gru, rnn, not 'tcn'"):
        CharRNN(65, kind="tcn")


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
def test_the_state_stands_for_all_that_was_read(kind: str) -> None:
    tm.manual_seed(0)
    model = CharRNN(7, 5, 6, layers=2, kind=kind)
    text = tm.tensor([[1, 5, 6, 0, 2], [2, 2, 3, 4, 4]])
    first, state = model.read(text[:, :2])
    rest, _ = model.read(text[:, 2:], state)
    whole = model(text).detach().numpy()
    np.testing.assert_allclose(tm.cat([first, rest], 1).detach().numpy(), whole, atol=1e-6)


def test_it_learns(run: Run) -> None:
    history = run.trainer.history
    assert run.trainer.steps == 80
    assert history["loss"][-1] < 0.85 * history["loss"][0]
    assert history["validation_loss"][-1] < unigram_entropy() - 0.3


def test_what_it_leaves(run: Run) -> None:
    names = {"loss.png", "samples.png", "surprise.png", "samples.txt", "summary.json"}
    assert names <= {p.name for p in run.folder.iterdir()}
    text = (run.folder / "samples.txt").read_text()
    assert text.startswith("--- epoch 1\n") and "--- epoch 2\n" in text


def test_the_same_seed_writes_the_same(opened: Opened) -> None:
    def sample(**wish: object) -> str:
        return opened.recipe.sample(opened, Sampling(length=40, **wish))  # type: ignore[arg-type]

    one = sample(prompt="The ")
    assert len(one) == 44 and one.startswith("The ")
    assert one == sample(prompt="The ") != sample(prompt="The ", seed=1)
    three = sample(prompt="The ", count=3)
    assert three.startswith(f"--- 1\n{one}\n\n--- 2\nThe ") and three.count("---") == 3
    assert sample(temperature=0) == sample(temperature=0, seed=1) != sample(temperature=1)


def test_the_likeliest_character_is_written_at_temperature_0(opened: Opened) -> None:
    prompt = np.array([40, 50])
    written = write(StateReader(opened.model), prompt, Sampling(length=5, temperature=0))[0]
    text = np.concatenate([prompt, written])
    scores = opened.model(tm.from_numpy(text[None])).detach().numpy()[0]
    np.testing.assert_array_equal(scores.argmax(1)[1:-1], written)


def test_temperature_changes_how_often() -> None:
    class Always:
        """Scores that never change: ln 1, ln 2, ln 5."""

        def read(self, characters: np.ndarray) -> np.ndarray:
            return np.tile(np.log([1.0, 2, 5]), (len(characters), 1))

        def follow(self, text: np.ndarray) -> np.ndarray:
            return np.tile(np.log([1.0, 2, 5]), (len(text), 1))

    for temperature, weights in ((1.0, [1, 2, 5]), (0.5, [1, 4, 25])):
        wish = Sampling(count=1, length=20_000, temperature=temperature)
        written = write(Always(), np.array([0]), wish)
        share = np.bincount(written[0], minlength=3) / 20_000
        np.testing.assert_allclose(share, np.array(weights) / sum(weights), atol=0.01)
    losses = surprises(Always(), np.array([0, 2, 0]))
    np.testing.assert_allclose(losses, [np.nan, -np.log(5 / 8), -np.log(1 / 8)])


def test_losses_of_a_line(opened: Opened, tmp_path: pathlib.Path) -> None:
    line = "Call me Ishmael."
    ids = tm.from_numpy(np.array([opened.facts["vocabulary"]["tokens"].index(c) for c in line]))
    scores = opened.model(ids[None, :-1])
    total = float(tm.nn.functional.cross_entropy(scores[0], ids[1:], reduction="sum"))
    out = opened.recipe.predict(opened, line, tmp_path / "line.png")
    assert f"15 characters after the first: {total:.1f} nats, {total / 15:.2f} each" in out
    assert f"{total / 15 / np.log(2):.2f} bits per character" in out
    assert out.endswith(f"wrote {tmp_path / 'line.png'}") and (tmp_path / "line.png").exists()
    for line, words in (("ça", "never seen: ç"), ("a", "at least two"), ("", "at least two")):
        with pytest.raises(ToumeiError, match=words):
            opened.recipe.predict(opened, line, None)
    with pytest.raises(ToumeiError, match="the prompt has characters"):
        opened.recipe.sample(opened, Sampling(prompt="☃"))


class Cut(Callback):
    """Ends the run in the middle of its second epoch."""

    def on_batch_end(self, trainer: Trainer) -> None:
        if trainer.steps == 50:
            raise KeyboardInterrupt

    def on_epoch_end(self, trainer: Trainer, row: Row) -> None:
        assert trainer.epoch == 1


def test_a_run_that_was_cut_off_goes_on(run: Run, tmp_path: pathlib.Path) -> None:
    cut = Run(find("lstm"), tmp_path, options(2))
    with pytest.raises(KeyboardInterrupt):
        cut.fit(Cut())
    again = Run(find("lstm"), tmp_path, options(2))
    again.resume()
    assert again.trainer.epoch == 1
    again.fit()
    for name, weight in run.model.state_dict().items():
        np.testing.assert_array_equal(again.model.state_dict()[name].numpy(), weight.numpy())
    texts = [(r.folder / "samples.txt").read_text() for r in (run, again)]
    assert texts[0] == texts[1]
