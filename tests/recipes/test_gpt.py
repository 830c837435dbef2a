"""GPT: its size and start, that it sees the past alone, that it learns, writes and resumes."""

from __future__ import annotations

import math
import pathlib
from collections import Counter

import numpy as np
import pytest

import toumei as tm
from toumei.data import embedded_text
from toumei.errors import ModuleError, ToumeiError
from toumei.models.gpt import GPT
from toumei.recipes import find
from toumei.recipes.recipe import Options, Sampling
from toumei.recipes.run import Opened, Run, open_finished
from toumei.recipes.texts import WindowReader, write

TEXT = np.array([[3, 1, 4, 1, 5, 9, 2, 6], [5, 3, 5, 8, 9, 7, 9, 3]])


def small(**options: float) -> GPT:
    tm.manual_seed(0)
    model = GPT(10, 16, 2, 4, 8, **{"dropout": 0.0, **options})  # type: ignore[arg-type]
    for p in model.parameters():
        tm.nn.init.normal_(p, std=0.3)
    return model


def parameters(vocabulary: int, dim: int, layers: int, length: int) -> int:
    return (vocabulary + length) * dim + layers * (12 * dim**2 + 13 * dim) + 2 * dim


def test_it_has_the_size_of_gpt_2() -> None:
    assert parameters(50257, 768, 12, 1024) == 124_439_808  # as published
    model = GPT(65, 128, 4, 4, 64)
    assert sum(p.numel() for p in model.parameters()) == parameters(65, 128, 4, 64)
    assert model.lm_head.weight is model.transformer.wte.weight
    names = list(model.state_dict())
    assert names[:3] == ["transformer.wte.weight", "transformer.wpe.weight",
                         "transformer.h.0.ln_1.weight"]  # fmt: skip
    assert "transformer.h.3.mlp.c_proj.bias" in names and names[-1] == "lm_head.weight"
    with pytest.raises(ModuleError, match="10 numbers per token can't be divided among 4 heads"):
        GPT(65, 10, 1, 4)


def test_how_it_starts() -> None:
    tm.manual_seed(0)
    model = GPT(65, 128, 8, 4, 64)
    std = {name: float(p.std()) for name, p in model.named_parameters() if p.ndim > 1}
    for name, value in std.items():
        expected = 0.02 / math.sqrt(16) if "c_proj" in name else 0.02
        assert value == pytest.approx(expected, rel=0.05), name
    scores = model.eval()(tm.from_numpy(np.arange(64)[None]))
    loss = tm.nn.functional.cross_entropy(scores[0], tm.from_numpy(np.arange(64)[::-1].copy()))
    assert abs(float(loss) - math.log(65)) < 0.5  # it knows nothing yet


def test_the_future_is_not_seen() -> None:
    model, other = small(), TEXT.copy()
    other[:, 5:] = 0
    one, two = (model(tm.from_numpy(t)).detach().numpy() for t in (TEXT, other))
    np.testing.assert_array_equal(one[:, :5], two[:, :5])
    assert (np.abs(one[:, 5:] - two[:, 5:]).max(-1) > 1e-3).all()
    with pytest.raises(ModuleError, match="a text has 9 tokens, but there are 8 positions"):
        model(tm.zeros(1, 9, dtype="int64"))


def test_attention_maps_are_what_forward_takes() -> None:
    model = small()
    maps = model.attention_maps(tm.from_numpy(TEXT))
    assert [tuple(m.shape) for m in maps] == [(2, 4, 8, 8)] * 2
    weights = maps[0].detach().numpy()
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)
    assert (np.triu(weights, 1) == 0).all() and (np.tril(weights) > 0).sum() == 2 * 4 * 36
    block = model.transformer.h[0]
    x = block.ln_1(model.transformer.embed(tm.from_numpy(TEXT)))
    values = block.attn.c_attn(x).chunk(3, -1)[2].unflatten(-1, (4, 4)).transpose(1, 2)
    mixed = block.attn.c_proj((maps[0] @ values).transpose(1, 2).flatten(2))
    difference = mixed - block.attn(x)
    assert float(difference.abs().max()) < 1e-5


def test_dropout_is_for_training() -> None:
    model, text = small(dropout=0.5), tm.from_numpy(TEXT)
    first, second = (model(text).detach().numpy() for _ in range(2))
    assert not np.allclose(first, second)
    model.eval()
    np.testing.assert_array_equal(model(text).detach().numpy(), model(text).detach().numpy())


def test_a_window_slides_over_what_is_written() -> None:
    model, prompt = small().eval(), TEXT[0, :3]
    written = write(WindowReader(model, 8), prompt, Sampling(length=12, temperature=0))[0]
    text = prompt.tolist()
    for character in written.tolist():  # each from the last 8, without padding
        scores = model(tm.from_numpy(np.array([text[-8:]]))).detach().numpy()[0, -1]
        assert scores.argmax() == character
        text.append(character)


def test_a_long_text_is_read_by_halves_of_windows() -> None:
    model = small().eval()
    text = np.random.default_rng(0).integers(0, 10, 19)
    found = WindowReader(model, 8).follow(text)
    starts = [0] * 8 + [4] * 4 + [8] * 4 + [12] * 3
    for place, start in enumerate(starts):
        part = tm.from_numpy(text[None, start : place + 1])
        np.testing.assert_allclose(found[place], model(part).detach().numpy()[0, -1], atol=1e-5)
    for length in (1, 4, 5, 8, 9, 12, 13):
        assert len(WindowReader(model, 8).follow(text[:length])) == length


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    options = Options(preset="fast", epochs=2, samples=600, data_dir="/nowhere")
    run = Run(find("gpt"), tmp_path_factory.mktemp("gpt"), options)
    run.fit()
    return run


@pytest.fixture(scope="module")
def opened(run: Run) -> Opened:
    return open_finished(run.folder)


def test_it_learns(run: Run) -> None:
    history = run.trainer.history
    counts = np.array(list(Counter(embedded_text()).values()))
    p = counts / counts.sum()
    assert history["loss"][-1] < 0.9 * history["loss"][0]
    assert history["validation_loss"][-1] < -(p * np.log(p)).sum() - 0.3


def test_what_it_leaves(run: Run) -> None:
    names = {"loss.png", "samples.png", "surprise.png", "attention.png", "samples.txt"}
    assert names <= {p.name for p in run.folder.iterdir()}


def test_decay_is_for_matrices(run: Run) -> None:
    decayed, others = run.trainer.optimizer.param_groups
    assert {p.ndim for p in decayed["params"]} == {2} and decayed["weight_decay"] == 0.1
    assert {p.ndim for p in others["params"]} == {1} and others["weight_decay"] == 0
    assert sum(len(g["params"]) for g in (decayed, others)) == len(list(run.model.parameters()))


def test_it_writes_and_is_surprised(opened: Opened, tmp_path: pathlib.Path) -> None:
    wish = Sampling(prompt="Call me ", length=70)
    text = opened.recipe.sample(opened, wish)
    assert text == opened.recipe.sample(opened, wish)
    assert text.startswith("Call me ") and len(text) == 78
    out = opened.recipe.predict(opened, "The whale! The whale!", tmp_path / "x.png")
    assert "20 characters after the first" in out and (tmp_path / "x.png").stat().st_size > 1000
    with pytest.raises(ToumeiError, match="never seen: é ü"):
        opened.recipe.predict(opened, "üé", None)


def test_the_long_preset_is_a_larger_model_on_longer_windows() -> None:
    recipe = find("gpt")
    data = recipe.data(Options(preset="long", data_dir="/nowhere"))
    assert len(data.train[0][0]) == 128
    sizes = [sum(p.numel() for p in recipe.model(d.facts).parameters())
             for d in (recipe.data(Options(data_dir="/nowhere")), data)]  # fmt: skip
    assert sizes[1] > 3 * sizes[0]
