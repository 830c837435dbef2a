"""Recurrent layers and packed sequences: what no other library is needed for."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import toumei as tm
from toumei import nn
from toumei.config import grad_mode
from toumei.errors import ModuleError, OpError, TraceError
from toumei.nn.utils.rnn import (
    PackedSequence,
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
    pad_sequence,
)
from toumei.op import REGISTRY, Spec
from toumei.tape import wrap

KINDS = {"RNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}


def normal(*shape: int, seed: int = 0) -> Any:
    return tm.from_numpy(np.random.default_rng(seed).normal(size=shape))


def states_of(last: Any) -> tuple[Any, ...]:
    return last if isinstance(last, tuple) else (last,)


@pytest.mark.parametrize("name", KINDS)
def test_packed_equals_each_sequence_alone(name: str) -> None:
    layer = KINDS[name](3, 4, 2, bidirectional=True).double()
    x, lengths = normal(5, 3, 3), [2, 5, 1]
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    y, last = layer(packed)
    padded, _ = pad_packed_sequence(y)
    for i, n in enumerate(lengths):
        alone, ends = layer(x[:n, i])
        np.testing.assert_allclose(padded[:n, i].detach(), alone.detach(), atol=1e-12)
        assert not padded[n:, i].detach().numpy().any()
        for a, b in zip(states_of(last), states_of(ends), strict=True):
            np.testing.assert_allclose(a[:, i].detach(), b.detach(), atol=1e-12)


@pytest.mark.parametrize("name", KINDS)
def test_padding_has_no_influence(name: str) -> None:
    """Neither on results nor on gradients, even where it is NaN."""
    layer = KINDS[name](3, 4, bidirectional=True).double()
    found = []
    for fill in (0.0, float("nan")):
        x = normal(5, 2, 3)
        x[3:, 1] = fill
        x.requires_grad_()
        layer.zero_grad()
        y, last = layer(pack_padded_sequence(x, [5, 3]))
        total = pad_packed_sequence(y)[0].square().sum()
        sum((s.sum() for s in states_of(last)), total).backward()
        assert not x.grad.numpy()[3:, 1].any()
        found.append([x.grad.numpy(), *(p.grad.numpy() for p in layer.parameters())])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", KINDS)
def test_layer_is_its_cell_step_by_step(name: str) -> None:
    layer = KINDS[name](3, 4).double()
    cell = getattr(nn, f"{name}Cell")(3, 4).double()
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    cell.load_state_dict({n: getattr(layer, f"{n}_l0").detach() for n in names})
    x = normal(4, 2, 3)
    state, outputs = None, []
    for step in x:
        state = cell(step, state)
        outputs.append(states_of(state)[0])
    y, last = layer(x)
    np.testing.assert_allclose(y.detach(), tm.stack(outputs).detach(), atol=1e-12)
    for a, b in zip(states_of(last), states_of(state), strict=True):
        np.testing.assert_allclose(a[0].detach(), b.detach(), atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"proj_size": 2}])
def test_third_derivative(options: dict[str, Any]) -> None:
    layer = nn.LSTM(2, 3, **options).double().requires_grad_(False)
    x = normal(3, 2, 2).requires_grad_()
    tm.testing.check_grads(lambda t: layer(t)[0], [x], order=3)


def test_dropout_between_layers() -> None:
    layer = nn.GRU(3, 4, 2, dropout=0.9)
    x = normal(5, 2, 3).float()
    tm.manual_seed(0)
    a, b = layer(x)[0], layer(x)[0]
    assert not np.allclose(a.detach(), b.detach())
    layer.eval()
    np.testing.assert_array_equal(layer(x)[0].detach(), layer(x)[0].detach())
    whole = nn.GRU(3, 4, 2, dropout=1.0)
    whole.load_state_dict(layer.state_dict())
    upper = nn.GRU(4, 4)
    upper.load_state_dict({k: getattr(whole, f"{k[:-1]}1").detach() for k in upper.state_dict()})
    np.testing.assert_allclose(  # nothing reaches the upper layer, nothing is dropped after it
        whole(x)[0].detach(), upper(tm.zeros(5, 2, 4))[0].detach(), atol=1e-7
    )


def test_float32_and_empty_batch() -> None:
    for name, cls in KINDS.items():
        y, last = cls(3, 4)(tm.ones(5, 0, 3))
        assert tuple(y.shape) == (5, 0, 4) and y.dtype == np.float32, name
        assert all(tuple(s.shape) == (1, 0, 4) for s in states_of(last))
        y.sum().backward()


def test_learns_to_remember() -> None:
    """The first of six random signs: a task that only the state can solve."""
    tm.manual_seed(1)
    x = tm.from_numpy(np.array(list(itertools.product([-1.0, 1.0], repeat=6)))).unsqueeze(2).float()
    layer, head = nn.LSTM(1, 8, batch_first=True), nn.Linear(8, 1)
    optimizer = tm.optim.Adam([*layer.parameters(), *head.parameters()], lr=0.02)
    losses = []
    for _ in range(120):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(head(layer(x)[0][:, -1]), x[:, 0])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 0.8 and losses[-1] < 0.1, losses[::20]


# --- traced --------------------------------------------------------------------------------------


def test_summary() -> None:
    text = str(tm.summary(nn.LSTM(3, 4, 2, bidirectional=True), (5, 2, 3)))
    assert "[5, 2, 8], [4, 2, 4], [4, 2, 4]" in text
    assert "[2, 4], [2, 4]" in str(tm.summary(nn.LSTMCell(3, 4), (2, 3)))


@pytest.mark.parametrize("name", ["RnnLoop", "LstmLoop", "GruLoop"])
def test_decompositions_are_traced(name: str) -> None:
    """Forward and backward of the decomposition, on shapes alone, give the shapes of the op."""
    for loop in (REGISTRY[name], REGISTRY[f"{name}Grad"]):
        for case in tm.testing.op_cases(loop):
            ghosts = [wrap(Spec(a.shape, a.dtype)) for a in case.inputs]
            with grad_mode(False):
                made = case.op.decompose(*ghosts)
            outs = case.op.forward(np, *case.inputs)
            shapes = [o.shape for o in (outs if isinstance(outs, tuple) else (outs,))]
            group = made if isinstance(made, tuple) else (made,)
            assert [tuple(m._data.shape) for m in group] == shapes


def test_packed_lengths_can_be_traced() -> None:
    """With `total_length`, no shape depends on the lengths: a traced step can pack."""
    layer = nn.GRU(3, 4, bidirectional=True)
    x, lengths = wrap(Spec((5, 2, 3), np.dtype("float32"))), wrap(Spec((2,), np.dtype("int64")))
    with grad_mode(False):
        y, h = layer(pack_padded_sequence(x, lengths, enforce_sorted=False))
        padded, ends = pad_packed_sequence(y, total_length=5)
        assert padded._data == Spec((5, 2, 8), np.dtype("float32")) and ends is lengths
        assert h._data.shape == (2, 2, 4)
        for needs_numbers in (
            lambda: pad_packed_sequence(y),
            lambda: y.data,
            lambda: pack_padded_sequence(x, lengths),
        ):
            with pytest.raises(TraceError):
                needs_numbers()


# --- refusals ------------------------------------------------------------------------------------


CALLS: list[tuple[Any, str]] = [
    (lambda: nn.LSTM(3, 4)(tm.ones(5, 2, 4)), "the input has 4 features, but input_size is 3"),
    (lambda: nn.LSTM(3, 4)(tm.ones(3)), "needs 3 dimensions"),
    (lambda: nn.LSTM(3, 4)(tm.ones(5, 2, 3).double()), "the weights are float32"),
    (lambda: nn.LSTM(3, 4)(tm.ones(5, 2, 3), tm.ones(1, 2, 4)), "hx must be h and c"),
    (lambda: nn.GRU(3, 4)(tm.ones(5, 2, 3), tm.ones(1, 4)), "both have a batch"),
    (lambda: nn.GRU(3, 4)(tm.ones(5, 2, 3), tm.ones(1, 1, 4)), "expected [1, 2, 4]"),
    (lambda: nn.GRU(3, 4, 2)(tm.ones(5, 2, 3), tm.ones(1, 2, 4)), "expected [2, 2, 4]"),
    (lambda: nn.RNN(3, 4)(tm.ones(0, 2, 3)), "no steps"),
    (lambda: nn.LSTMCell(3, 4)(tm.ones(2, 3), tm.ones(2, 4)), "takes 2 states"),
    (lambda: nn.GRUCell(3, 4)(tm.ones(2, 3), tm.ones(4)), "of 2 dimensions"),
    (lambda: nn.GRUCell(3, 4)(tm.ones(2, 3), tm.ones(1, 4)), "expected [2, 4]"),
    (lambda: nn.GRUCell(3, 4)(tm.ones(1, 2, 3)), "2 dimensions, or 1"),
    (lambda: pack_padded_sequence(tm.ones(5, 2), [3, 5]), "decreasing order"),
    (lambda: pack_padded_sequence(tm.ones(5, 2), [5, 0]), "from 1 to 5"),
    (lambda: pack_padded_sequence(tm.ones(5, 2), [6, 5]), "from 1 to 5"),
    (lambda: pack_padded_sequence(tm.ones(5, 2), [5, 3, 1]), "batch of 2"),
    (lambda: pack_padded_sequence(tm.ones(5, 2), [5, 2.5]), "must be integers"),
    (lambda: PackedSequence(tm.ones(5), [2, 3]), "must not grow"),
    (lambda: PackedSequence(tm.ones(5), [2, 2]), "add up to 4, but data holds 5"),
    (lambda: pack_sequence([]), "no sequences"),
]


@pytest.mark.parametrize(("call", "words"), CALLS)
def test_refused(call: Any, words: str) -> None:
    with pytest.raises((ModuleError, OpError)) as caught:
        call()
    assert words in str(caught.value)


def test_wrong_options() -> None:
    packed = pack_padded_sequence(tm.ones(5, 2), [5, 2])
    with pytest.raises(ValueError, match="longest sequence has 5 steps"):
        pad_packed_sequence(packed, total_length=4)
    with pytest.raises(ValueError, match="'left' or 'right'"):
        pad_sequence([tm.ones(2)], padding_side="top")
    with pytest.raises(OpError, match="3 parameters can't be"):
        tm.gru(tm.ones(2, 1, 3), tm.ones(1, 1, 4), [tm.ones(1)] * 3, True, 1, 0, True, False, False)
    with pytest.raises(ValueError, match="RNN_TANH"):
        nn.RNNBase("rnn", 2, 3)


def test_base_class_and_helpers() -> None:
    layer = nn.RNNBase("GRU", 3, 4, 2, bidirectional=True)
    assert [len(group) for group in layer.all_weights] == [4] * 4
    assert layer.all_weights[3][1] is layer.weight_hh_l1_reverse
    layer.flatten_parameters()
    assert len(list(layer.parameters())) == 16
    packed = pack_padded_sequence(tm.ones(5, 2), [5, 2])
    assert packed.double().data.dtype == np.float64 and packed.cpu() is packed
    assert packed.double().float()[0].dtype == np.float32 and len(packed) == 4
    assert "batch_sizes=tensor([2, 2, 1, 1, 1])" in repr(packed)
