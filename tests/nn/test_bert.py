"""BERT: masks, segments, pooling, the tied head, training, and files of other makers."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import numpy as np
import pytest

import toumei as tm
from toumei import nn
from toumei.errors import LoadError, ModuleError
from toumei.models.bert import BERT, MaskedLM, mean_pool
from toumei.nn import functional as F

Path = pathlib.Path
TOKENS = tm.tensor([[5, 7, 2, 9], [3, 4, 0, 0]])
MASK = tm.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])


def small(**options: Any) -> BERT:
    tm.manual_seed(0)
    sizes = {"vocab_size": 20, "dim": 16, "layers": 2, "heads": 4, "max_length": 8}
    return BERT(**(sizes | options)).eval()


def same(a: tm.Tensor, b: tm.Tensor) -> bool:
    return bool(np.allclose(a.detach().numpy(), b.detach().numpy(), atol=1e-6))


def test_what_is_masked_is_not_seen() -> None:
    model = small()
    other = tm.tensor([[5, 7, 2, 9], [3, 4, 11, 12]])
    assert same(model(TOKENS, MASK)[1, :2], model(other, MASK)[1, :2])
    assert same(model(TOKENS, MASK), model(TOKENS, MASK.to(tm.float32)))
    assert same(model(TOKENS, MASK), model(TOKENS, MASK != 0))
    assert not same(model(TOKENS)[1, :2], model(other)[1, :2])
    assert same(model(TOKENS, MASK)[1:, :2], model(TOKENS[1:, :2]))


def test_order_and_segments_count() -> None:
    model = small()
    assert not same(model(TOKENS)[0], model(TOKENS.flip(1)).flip(1)[0])
    first = tm.zeros(2, 4, dtype=tm.int64)
    assert same(model(TOKENS), model(TOKENS, segments=first))
    assert not same(model(TOKENS), model(TOKENS, segments=first + 1))
    with pytest.raises(ModuleError, match="a text has 9 tokens, but there are 8 positions"):
        model(tm.ones(1, 9, dtype=tm.int64))
    with pytest.raises(ModuleError, match="16 numbers per token can't be divided among 3 heads"):
        small(heads=3)


def test_attention_maps_are_what_the_blocks_weigh_by() -> None:
    model = small()
    maps = model.attention_maps(TOKENS, MASK)
    assert [tuple(m.shape) for m in maps] == [(2, 4, 4, 4)] * 2
    assert same(maps[0].sum(-1), tm.ones(2, 4, 4)) and (maps[1][1, :, :, 2:] == 0).all()
    attention = model.encoder.layer[0].attention.self
    h = model.embeddings(TOKENS, None)
    values = attention._split(attention.value(h))
    visible = (MASK != 0)[:, None, None, :]
    assert same(attention(h, visible), (maps[0] @ values).transpose(1, 2).flatten(2))


def test_pooling() -> None:
    model = small()
    hidden = model(TOKENS, MASK)
    assert same(mean_pool(hidden, MASK)[1], hidden[1, :2].mean(0))
    assert model.pooler is not None and tuple(model.pooler(hidden).shape) == (2, 16)
    assert small(pooler=False).pooler is None
    assert same(mean_pool(hidden, tm.zeros(2, 4)), tm.zeros(2, 16))


def test_weights_start_as_in_the_paper() -> None:
    table = small(vocab_size=500).embeddings.word_embeddings.weight
    assert table[1:].std().item() == pytest.approx(0.02, rel=0.05)
    assert (table[0] == 0).all()


def test_the_head_is_tied_to_the_words(tmp_path: Path) -> None:
    model = MaskedLM(small(pooler=False))
    words = model.bert.embeddings.word_embeddings.weight
    names = dict(model.named_parameters(remove_duplicate=False))
    assert names["cls.predictions.decoder.weight"] is words
    assert names["cls.predictions.bias"] is names["cls.predictions.decoder.bias"]
    tm.save(model.state_dict(), tmp_path / "x")
    other = MaskedLM(small(pooler=False))
    other.load_state_dict(tm.load(tmp_path / "x"))
    assert same(other.eval()(TOKENS), model.eval()(TOKENS))


def test_it_learns_what_is_behind_the_mask() -> None:
    """Texts count upwards, so the others tell which token was masked; by its place alone: ln 8."""
    tm.manual_seed(0)
    model = MaskedLM(BERT(14, 32, 1, 4, max_length=5, dropout=0.0, pooler=False))
    optimizer = tm.optim.Adam(model.parameters(), lr=1e-2)
    rng = np.random.default_rng(0)
    losses = []
    for _ in range(150):
        texts = rng.integers(2, 10, (32, 1)) + np.arange(5)
        hidden = rng.integers(0, 5, (32, 1)) == np.arange(5)
        targets = tm.tensor(np.where(hidden, texts, -100))
        scores = model(tm.tensor(np.where(hidden, 1, texts)))
        loss = F.cross_entropy(scores.flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 2.3 and np.mean(losses[-10:]) < 0.3


CONFIG = {
    "vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 64, "max_position_embeddings": 8, "type_vocab_size": 2,
    "hidden_dropout_prob": 0.1, "layer_norm_eps": 1e-12, "hidden_act": "gelu",
}  # fmt: skip


def folder_of(tmp_path: Path, state: dict[str, tm.Tensor], **config: Any) -> Path:
    tm.save(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | config))
    return tmp_path


def test_a_folder_of_the_encoder_alone(tmp_path: Path) -> None:
    for model in (small(), small(pooler=False)):
        state = {**model.state_dict(), "embeddings.position_ids": tm.arange(8)[None]}
        loaded = BERT.from_folder(folder_of(tmp_path, state))
        assert not loaded.training and same(loaded(TOKENS, MASK), model(TOKENS, MASK))
        assert (loaded.pooler is None) == (model.pooler is None)


def test_a_folder_with_a_head_and_old_names(tmp_path: Path) -> None:
    model = MaskedLM(small())
    state = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("Norm.bias", "Norm.beta"): t
        for name, t in model.state_dict().items()
    }
    assert "bert.embeddings.LayerNorm.beta" in state
    loaded = BERT.from_folder(folder_of(tmp_path, state))
    assert same(loaded(TOKENS), model.bert(TOKENS))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"hidden_act": "relu"}, "hidden_act is 'relu'; this model knows 'gelu' only"),
        ({"model_type": "roberta"}, "model_type is 'roberta'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({"num_hidden_layers": 1}, r"unexpected encoder\.layer\.1"),
    ],
)
def test_folders_of_other_models(config: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=words):
        BERT.from_folder(folder_of(tmp_path, small().state_dict(), **config))


def test_folders_without_a_config(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, small().state_dict())
    (folder / "config.json").write_text('{"hidden_size": 3}')
    with pytest.raises(LoadError, match=r"config\.json is not that of a BERT: it has no 'vocab"):
        BERT.from_folder(folder)
    (folder / "config.json").unlink()
    with pytest.raises(LoadError, match=r"config\.json can't be read"):
        BERT.from_folder(folder)


def test_shapes_without_numbers_and_dropout() -> None:
    model = small(dropout=0.5)
    assert tm.summary(model, (2, 5), (2, 5), dtype=tm.int64).rows[0].output == "[2, 5, 16]"
    assert same(model(TOKENS), model(TOKENS))
    model.train()
    assert not same(model(TOKENS), model(TOKENS))
    assert isinstance(model.encoder.layer[0], nn.Module)
