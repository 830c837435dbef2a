"""Embedding and EmbeddingBag, without PyTorch."""

from __future__ import annotations

from typing import Any

import pytest

import toumei as tm
from toumei import nn
from toumei.errors import ModuleError, OpError, TraceError

INDEX = tm.tensor([[0, 2, 2], [4, 1, 2]])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: nn.Embedding(0, 3), "num_embeddings must be a positive integer"),
        (lambda: nn.Embedding(4, 3, padding_idx=4), "padding_idx 4 is out of range for 4 rows"),
        (lambda: nn.Embedding(4, 3, padding_idx=-5), "padding_idx -5 is out of range"),
        (lambda: nn.Embedding(4, 3, sparse=True), "sparse gradients aren't supported"),
        (lambda: nn.Embedding(4, 3, _weight=tm.ones(3, 4)), r"isn't a table of 4 rows of 3"),
        (lambda: nn.Embedding.from_pretrained(tm.ones(3)), "needs a table of 2 dimensions"),
        (lambda: nn.EmbeddingBag(4, 3, mode="min"), "not 'min'"),
        (lambda: nn.EmbeddingBag(4, 3, sparse=True), "sparse gradients aren't supported"),
    ],
)
def test_wrong_options(make: Any, words: str) -> None:
    with pytest.raises(ModuleError, match=words):
        make()


@pytest.mark.parametrize(
    ("inputs", "options", "words"),
    [
        (([1, 2],), {}, "1 dimension with offsets"),
        (([[1, 2]], [0]), {}, "1 dimension with offsets"),
        (([1, 2], [1]), {}, "offsets must start with 0"),
        (([1, 2], [0, 3]), {}, "stay within 2"),
        (([1, 2], [0.0]), {}, "row of integers"),
        (([1, 2], [0, 1]), {"include_last_offset": True}, "number of indices, 2, not 1"),
        (([[1, 4]],), {}, "index 4 is out of range"),
        (([[1, 2]], None, [[0.5, 2.0]]), {"mode": "mean"}, "need mode 'sum'"),
    ],
)
def test_bags_that_do_not_fit(inputs: Any, options: dict[str, Any], words: str) -> None:
    layer = nn.EmbeddingBag(4, 3, **options)
    with pytest.raises(OpError, match=words):
        layer(*[None if x is None else tm.tensor(x) for x in inputs])


def test_the_padding_row_is_zero_and_stays_so() -> None:
    layer = nn.Embedding(5, 3, padding_idx=-3)
    assert layer.padding_idx == 2
    layer(INDEX).sum().backward()
    assert layer.weight[2].eq(0).all() and not layer.weight[[0, 1, 3, 4]].eq(0).any()
    assert layer.weight.grad[:, 0].tolist() == [1, 1, 0, 0, 1]
    layer.reset_parameters()
    assert layer.weight[2].eq(0).all()


def test_a_pretrained_table_is_shared_and_frozen() -> None:
    table = tm.randn(5, 3)
    frozen = nn.Embedding.from_pretrained(table, padding_idx=1)
    assert not frozen.weight.requires_grad and not frozen.weight[1].eq(0).any()
    table[0] = 7
    assert frozen(tm.tensor(0)).tolist() == [7, 7, 7]
    assert nn.Embedding.from_pretrained(table, freeze=False).weight.requires_grad
    bags = nn.EmbeddingBag.from_pretrained(table, mode="sum", padding_idx=2)
    assert not bags.weight.requires_grad
    assert bags(INDEX)[0].allclose(table[0])


def test_max_norm_shortens_what_is_looked_up() -> None:
    layer = nn.Embedding(3, 4, max_norm=0.5)
    before = layer.weight.norm(dim=1)
    layer(tm.tensor([0, 2, 0]))
    after = layer.weight.norm(dim=1)
    assert before.min().item() > 0.5
    assert after[[0, 2]].allclose(tm.full((2,), 0.5), rtol=1e-5)
    assert after[1].item() == before[1].item()


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_gradient_by_frequency(mode: str) -> None:
    """Each use of a row counts 1/(number of its uses)."""
    plain = nn.EmbeddingBag(5, 3, mode=mode)
    scaled = nn.EmbeddingBag(5, 3, mode=mode, scale_grad_by_freq=True)
    scaled.load_state_dict(plain.state_dict())
    for layer in (plain, scaled):
        layer(INDEX).square().sum().backward()
    uses = tm.tensor([1.0, 1.0, 3.0, 1.0, 1.0]).unsqueeze(1)
    assert scaled.weight.grad.allclose(plain.weight.grad / uses)


def test_shapes_are_known_without_numbers() -> None:
    index = tm.tensor([1, 2, 3, 0, 0])
    rows = tm.summary(nn.Embedding(5, 3, padding_idx=0, scale_grad_by_freq=True), index).rows
    assert rows[0].output == "[5, 3]"
    for mode in ("sum", "mean", "max"):
        for last, bags in ((False, 3), (True, 2)):
            layer = nn.EmbeddingBag(5, 3, mode=mode, padding_idx=0, include_last_offset=last)
            rows = tm.summary(layer, index, tm.tensor([0, 2, 5])).rows
            assert rows[0].output == f"[{bags}, 3]"
    with pytest.raises(TraceError, match="max_norm changes the table"):
        tm.summary(nn.Embedding(5, 3, max_norm=1.0), index)


def test_reprs() -> None:
    assert repr(nn.Embedding(4, 3, -1, 1.0, 1.0, True)) == (
        "Embedding(4, 3, padding_idx=3, max_norm=1.0, norm_type=1.0, scale_grad_by_freq=True)"
    )
    assert repr(nn.EmbeddingBag(4, 3, padding_idx=0)) == (
        "EmbeddingBag(4, 3, mode='mean', padding_idx=0)"
    )
