"""Attention, transformers and positions: what can be said without an oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import toumei as tm
from toumei import nn, viz
from toumei.errors import LoadError, ModuleError, OpError


def normal(*shape: int) -> tm.Tensor:
    return tm.from_numpy(np.random.default_rng(shape).normal(size=shape).astype(np.float32))


def test_each_copy_learns_for_itself() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16)
    stack = nn.TransformerEncoder(layer, 2)
    first, second = (list(m.parameters()) for m in stack.layers)
    assert all((a == b).all() for a, b in zip(first, second, strict=True))
    with tm.no_grad():
        first[0].fill_(0.0)
    assert (second[0] != 0).any()
    assert (layer.self_attn.in_proj_weight != 0).any()


@pytest.mark.parametrize("norm_first", [False, True])
def test_a_causal_mask_hides_what_follows(norm_first: bool) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, norm_first=norm_first, batch_first=True)
    model = nn.TransformerEncoder(layer, 2).eval()
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    x = normal(3, 5, 8)
    whole, start = model(x, mask, is_causal=True), model(x[:, :3], mask[:3, :3])
    np.testing.assert_allclose(whole[:, :3].detach(), start.detach(), rtol=1e-5, atol=1e-6)


def test_padding_changes_nothing() -> None:
    """Whatever stands at padded positions, the others' results are the same; none is NaN."""
    model = nn.Transformer(8, 2, 2, 2, 16, batch_first=True).eval()
    hidden = tm.tensor([[False] * 3 + [True] * 2, [True] * 5])  # all of the second is padding
    src, tgt = normal(2, 5, 8), normal(2, 4, 8)
    other = src.clone()
    other[:, 3:] = 9.0
    a, b = (
        model(x, tgt, src_key_padding_mask=hidden, memory_key_padding_mask=hidden)
        for x in (src, other)
    )
    np.testing.assert_array_equal(a[0].detach(), b[0].detach())
    assert np.isfinite(a.detach().numpy()).all()


@pytest.mark.parametrize("separate", [False, True])
def test_shapes_are_known_without_numbers(separate: bool) -> None:
    other = {"kdim": 3, "vdim": 5} if separate else {}
    sizes = (3, 5) if separate else (8, 8)
    attention = nn.MultiheadAttention(8, 2, add_bias_kv=True, add_zero_attn=True, **other)
    table = tm.summary(attention, (4, 2, 8), *[(6, 2, n) for n in sizes])
    assert table.rows[0].output == "[4, 2, 8], [2, 4, 8]"
    transformer = nn.Transformer(8, 2, 1, 1, 16)
    rows = tm.summary(transformer, (5, 2, 8), (4, 2, 8)).rows
    assert [rows[0].output, rows[1].output] == ["[4, 2, 8]", "[5, 2, 8]"]


REFUSED: list[tuple[Any, str]] = [
    (lambda: nn.MultiheadAttention(8, 3), "8 can't be divided among 3 heads"),
    (lambda: nn.MultiheadAttention(8, 0), "num_heads must be a positive integer"),
    (lambda: nn.MultiheadAttention(8, 2, kdim=0), "kdim must be a positive integer"),
    (lambda: nn.TransformerEncoderLayer(8, 2, activation="swish"), "'relu', 'gelu' or a function"),
    (lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer, 2), "write TransformerEncoderLayer"),
    (lambda: nn.TransformerDecoder(nn.Identity(), 1.5), "num_layers must be an integer"),
    (lambda: nn.Transformer(8, 2, 1, 1)(normal(4, 3, 8), normal(5, 2, 8)), "3 sequences in src"),
    (lambda: nn.Transformer(8, 2, 1, 1)(normal(4, 3, 8), normal(5, 3, 6)), "must be d_model, 8"),
    (lambda: nn.SinusoidalPosition(8, max_len=4)(normal(5, 2, 8)), "ends at max_len = 4"),
    (lambda: nn.LearnedPosition(8, 4)(normal(2, 5, 6)), "d_model = 8"),
    (lambda: nn.LearnedPosition(8, 0), "max_len must be a positive integer"),
    (lambda: nn.LearnedPosition(8, 4)(normal(8)), "not (L, N, d_model) or (L, d_model)"),
    (lambda: viz.attention_maps(nn.Linear(2, 2), normal(1, 2)), "has no nn.MultiheadAttention"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "words"), REFUSED)
def test_refused(call: Any, words: str) -> None:
    with pytest.raises(ModuleError) as caught:
        call()
    assert words in str(caught.value)


BAD_CALLS: list[tuple[dict[str, Any], str]] = [
    ({"attn_mask": tm.zeros(4, 4)}, "neither (4, 5) nor (6, 4, 5)"),
    ({"attn_mask": tm.zeros(3, 4, 5)}, "neither (4, 5) nor (6, 4, 5)"),
    ({"attn_mask": tm.zeros(4, 5, dtype=tm.int64)}, "must be bool or float"),
    ({"key_padding_mask": tm.zeros(5, 3)}, "not (3, 5)"),
    ({"is_causal": True}, "must be given with it"),
    ({"key": normal(5, 2, 8), "value": normal(5, 2, 8)}, "3 queries, but 2 keys"),
    ({"value": normal(6, 3, 8)}, "differ in length"),
    ({"query": normal(4, 3, 6)}, "6 features, not 8"),
]


@pytest.mark.parametrize(("call", "words"), BAD_CALLS)
def test_arguments_that_do_not_fit(call: dict[str, Any], words: str) -> None:
    given = {"query": normal(4, 3, 8), "key": normal(5, 3, 8), "value": normal(5, 3, 8)} | call
    with pytest.raises(OpError) as caught:
        nn.MultiheadAttention(8, 2)(**given)
    assert words in str(caught.value)
    assert "MultiheadAttention" in str(caught.value)


def test_probabilities_are_checked() -> None:
    for make in (
        lambda: nn.MultiheadAttention(8, 2, dropout=1.5),
        lambda: nn.SinusoidalPosition(8, dropout=-0.5),
    ):
        with pytest.raises(ValueError, match="probability"):
            make()


# --- positions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 6, 7])
def test_sinusoids_are_those_of_the_paper(d: int) -> None:
    got = nn.SinusoidalPosition(d, max_len=50, dtype=tm.float64)(tm.zeros(50, d, dtype=tm.float64))
    for i, j in [(0, 0), (1, 0), (49, d - 1), (7, d // 2)]:
        angle = i / 10000 ** (j // 2 * 2 / d)
        assert got[i, j].item() == pytest.approx(np.sin(angle) if j % 2 == 0 else np.cos(angle))


@pytest.mark.parametrize("make", [
    lambda **kw: nn.SinusoidalPosition(6, max_len=9, **kw),
    lambda **kw: nn.LearnedPosition(6, 9, **kw),
])  # fmt: skip
def test_positions_are_added_along_the_sequence(make: Any) -> None:
    for batch_first in (False, True):
        layer = make(batch_first=batch_first)
        x = normal(3, 5, 6) if batch_first else normal(5, 3, 6)
        added = (layer(x) - x).detach().numpy()
        added = added if batch_first else added.swapaxes(0, 1)
        for sequence in added:
            np.testing.assert_allclose(sequence, layer.weight[:5].detach(), atol=1e-6)
        np.testing.assert_array_equal(layer(x[0])[:, 0].shape, x.shape[1:2])
    dropped = make(dropout=0.5)(tm.ones(9, 100, 6))
    assert (dropped == 0).float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_what_is_learnt_and_saved() -> None:
    fixed, learnt = nn.SinusoidalPosition(6, max_len=9), nn.LearnedPosition(6, 9)
    assert not fixed.state_dict()
    assert not list(fixed.parameters())
    assert list(learnt.state_dict()) == ["weight"]
    learnt(tm.ones(4, 2, 6)).sum().backward()
    np.testing.assert_array_equal(learnt.weight.grad[:, 0], [2.0] * 4 + [0.0] * 5)
    wide = nn.LearnedPosition(100, 400).weight
    assert wide.std().item() == pytest.approx(0.02, rel=0.02)
    with pytest.raises(LoadError):
        learnt.load_state_dict(nn.LearnedPosition(6, 8).state_dict())


# --- maps ----------------------------------------------------------------------------------------


class Model(nn.Module):
    """Asks one attention for weights (averaged, by place), another for none."""

    def __init__(self) -> None:
        self.first = nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True)
        self.parts = [nn.TransformerDecoderLayer(8, 4, 16, batch_first=True)]
        self.unused = nn.MultiheadAttention(8, 2)

    def forward(self, x: tm.Tensor, *, mask: Any = None) -> tm.Tensor:
        y, weights = self.first(x, x, x, None, True, mask)
        assert weights is not None
        assert weights.ndim == x.ndim
        return self.parts[0](y, x)


def test_attention_maps() -> None:
    model, x = Model(), normal(3, 5, 8)
    model.first.eval()  # to see that modes are restored one by one
    mask = tm.triu(tm.ones(5, 5), 1).bool()
    mask[0] = True  # the first position looks nowhere
    maps = viz.attention_maps(model, x, mask=mask)
    heads = {"first": 2, "parts.0.self_attn": 4, "parts.0.multihead_attn": 4}
    assert {k: m.shape for k, m in maps.items()} == {k: (3, h, 5, 5) for k, h in heads.items()}
    weights = model.first(x, x, x, attn_mask=mask, average_attn_weights=False)[1]
    wanted = weights.detach().numpy()
    np.testing.assert_array_equal(maps["first"], wanted)
    assert np.isnan(maps["first"][:, :, 0]).all()
    assert model.training
    assert not model.first.training
    assert not model.first._hooks


def test_attention_maps_say_how_results_arise() -> None:
    """The maps times the values, projected out, are the layer's result."""
    attention, x = nn.MultiheadAttention(8, 2), normal(5, 8)
    maps = viz.attention_maps(attention, x, x, x, need_weights=False)[""]
    assert maps.shape == (1, 2, 5, 5)
    v = nn.functional.linear(x, attention.in_proj_weight[16:], attention.in_proj_bias[16:])
    heads = tm.from_numpy(maps[0]) @ v.reshape(5, 2, 4).transpose(0, 1)
    got = attention.out_proj(heads.transpose(0, 1).reshape(5, 8))
    wanted = attention(x, x, x, need_weights=False)[0]
    np.testing.assert_allclose(got.detach(), wanted.detach(), rtol=1e-5, atol=1e-6)


def test_learns_to_reverse() -> None:
    """A small model learns where to look: position i of the result is position n − 1 − i."""
    tm.manual_seed(0)
    n, rng = 6, np.random.default_rng(0)
    table, out = nn.Parameter(tm.randn(5, 16)), nn.Linear(16, 5)
    place = nn.LearnedPosition(16, n, batch_first=True, std=1.0)
    attention = nn.MultiheadAttention(16, 2, batch_first=True)
    parts = [table, *out.parameters(), *place.parameters(), *attention.parameters()]
    update = tm.optim.Adam(parts, lr=0.01)
    losses = []
    for _ in range(150):
        tokens = rng.integers(0, 5, (32, n))
        x = place(table[tm.from_numpy(tokens)])
        logits = out(attention(x, x, x, need_weights=False)[0])
        target = tm.from_numpy(np.ascontiguousarray(tokens[:, ::-1])).reshape(-1)
        loss = nn.functional.cross_entropy(logits.reshape(-1, 5), target)
        update.zero_grad()
        loss.backward()
        update.step()
        losses.append(loss.item())
    assert losses[0] > 1.4
    assert losses[-1] < 0.1
