"""Recurrent layers, cells and packed sequences against PyTorch's: values and two derivatives."""

from __future__ import annotations

import inspect
import itertools
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

import toumei as tm

torch = pytest.importorskip("torch")

Arrays = list[np.ndarray[Any, Any]]
T, B, IN, H = 4, 3, 2, 3
LENGTHS = [2, 4, 1]  # not in order
rng = np.random.default_rng(0)


class Setup(NamedTuple):
    """A layer and how it is called."""

    name: str
    options: dict[str, Any]
    lengths: list[int] | None = None
    batched: bool = True
    states: bool = True  # whether first states are given

    def __str__(self) -> str:
        options = ",".join(f"{k}={v}" for k, v in self.options.items() if v)
        extra = ["packed"] * bool(self.lengths) + ["unbatched"] * (not self.batched)
        extra += ["no states"] * (not self.states)
        return " ".join([self.name, options, *extra])


KINDS: list[tuple[str, dict[str, Any]]] = [
    ("RNN", {"nonlinearity": "tanh"}),
    ("RNN", {"nonlinearity": "relu"}),
    ("LSTM", {}),
    ("LSTM", {"proj_size": 2}),
    ("GRU", {}),
]


def setups() -> Iterator[Setup]:
    for name, kind in KINDS:
        for layers, both, lengths in itertools.product((1, 2), (False, True), (None, LENGTHS)):
            options = {**kind, "num_layers": layers, "bidirectional": both}
            yield Setup(name, options, lengths)
        yield Setup(name, {**kind, "batch_first": True, "bias": False})
        yield Setup(name, {**kind, "batch_first": True, "bidirectional": True}, states=False)
        yield Setup(name, {**kind, "batch_first": True}, LENGTHS, states=False)
        yield Setup(name, {**kind, "num_layers": 2, "bidirectional": True}, batched=False)
        yield Setup(name, {**kind, "batch_first": True}, batched=False, states=False)
        yield Setup(name, {**kind, "num_layers": 2, "dropout": 0.5})  # in evaluation


def inputs(setup: Setup) -> Arrays:
    """Return the input and the first states."""
    lead = [T, B] if setup.batched else [T]
    if setup.options.get("batch_first"):
        lead = lead[::-1]
    rows = setup.options.get("num_layers", 1) * (1 + setup.options.get("bidirectional", False))
    sizes = [setup.options.get("proj_size", 0) or H, H][: 1 + (setup.name == "LSTM")]
    middle = [B] if setup.batched else []
    states = [rng.normal(size=(rows, *middle, n)) for n in sizes] if setup.states else []
    return [rng.normal(size=(*lead, IN)), *states]


def weighted(library: Any, values: list[Any], seed: int) -> Any:
    """Return a random sum of all elements, the same one for both libraries."""
    draw = np.random.default_rng(seed)
    parts = [(v * library.tensor(draw.normal(size=tuple(v.shape)))).sum() for v in values]
    return sum(parts[1:], parts[0])


def results(library: Any, outputs: list[Any], leaves: list[Any]) -> Arrays:
    """Return outputs, gradients, and gradients of a sum of gradients, as arrays."""
    grad = library.autograd.grad
    loss = weighted(library, outputs, 1)
    first = list(grad(loss, leaves, create_graph=True))
    second = grad(weighted(library, first, 2), leaves, allow_unused=True)
    filled = [s if s is not None else x * 0 for s, x in zip(second, leaves, strict=True)]
    return [v.detach().numpy() for v in [*outputs, *first, *filled]]


def agree(ours: Arrays, theirs: Arrays) -> None:
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


def call(library: Any, layer: Any, setup: Setup, arrays: Arrays) -> Arrays:
    x, *states = [library.tensor(a).requires_grad_() for a in arrays]
    given: Any = x
    rnn = library.nn.utils.rnn
    first = setup.options.get("batch_first", False)
    if setup.lengths:
        given = rnn.pack_padded_sequence(x, setup.lengths, first, enforce_sorted=False)
    hx = tuple(states) if setup.name == "LSTM" else states[0] if states else None
    y, last = layer(given, hx or None) if setup.name == "LSTM" else layer(given, hx)
    outputs = [y, *(last if isinstance(last, tuple) else [last])]
    if setup.lengths:
        outputs[:1] = [y.data, rnn.pad_packed_sequence(y, first, -1.5)[0]]
    return results(library, outputs, [x, *states, *layer.parameters()])


@pytest.mark.parametrize("setup", list(setups()), ids=str)
def test_layer(setup: Setup) -> None:
    cls = getattr(torch.nn, setup.name)
    theirs = cls(IN, H, **setup.options).double().eval()
    ours = getattr(tm.nn, setup.name)(IN, H, **setup.options).double().eval()
    assert repr(ours) == repr(theirs)
    weights = {k: v.numpy() for k, v in theirs.state_dict().items()}
    assert list(ours.state_dict()) == list(weights)
    ours.load_state_dict(weights)
    arrays = inputs(setup)
    agree(call(tm, ours, setup, arrays), call(torch, theirs, setup, arrays))


@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("states", [False, True])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("RNNCell", {}),
        ("RNNCell", {"nonlinearity": "relu", "bias": False}),
        ("LSTMCell", {}),
        ("LSTMCell", {"bias": False}),
        ("GRUCell", {}),
        ("GRUCell", {"bias": False}),
    ],
)
def test_cell(name: str, options: dict[str, Any], states: bool, batch: tuple[int, ...]) -> None:
    theirs = getattr(torch.nn, name)(IN, H, **options).double()
    ours = getattr(tm.nn, name)(IN, H, **options).double()
    assert repr(ours) == repr(theirs)
    weights = {k: v.numpy() for k, v in theirs.state_dict().items()}
    assert list(ours.state_dict()) == list(weights)
    ours.load_state_dict(weights)
    count = (1 + (name == "LSTMCell")) * states
    arrays = [rng.normal(size=(*batch, n)) for n in (IN, *[H] * count)]
    got = []
    for library, cell in ((tm, ours), (torch, theirs)):
        x, *hx = [library.tensor(a).requires_grad_() for a in arrays]
        y = cell(x, (tuple(hx) if count > 1 else hx[0]) if hx else None)
        outputs = list(y) if isinstance(y, tuple) else [y]
        got.append(results(library, outputs, [x, *hx, *cell.parameters()]))
    agree(*got)


@pytest.mark.parametrize("name", ["lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"])
def test_cell_function(name: str) -> None:
    width = {"l": 4, "g": 3, "r": 1}[name[0]] * H
    shapes = [(B, IN), (B, H), (B, H), (width, IN), (width, H), (width,), (width,)]
    arrays = [rng.normal(size=s) for s in shapes]
    got = []
    for library in (tm, torch):
        x, h, c, *weights = map(library.tensor, arrays)
        y = getattr(library, name)(x, (h, c) if name == "lstm_cell" else h, *weights)
        got.append([v.numpy() for v in (y if isinstance(y, tuple) else (y,))])
    agree(*got)


def test_function_of_layers() -> None:
    theirs = torch.nn.LSTM(IN, H, 2, bidirectional=True).double()
    weights = [p.detach() for p in theirs.parameters()]
    x, h, c = rng.normal(size=(T, B, IN)), *rng.normal(size=(2, 4, B, H))
    got = []
    for library in (tm, torch):
        params = weights if library is torch else [tm.tensor(w.numpy()) for w in weights]
        hx = [library.tensor(h), library.tensor(c)]
        y = library.lstm(library.tensor(x), hx, params, True, 2, 0.3, False, True, False)
        got.append([v.numpy() for v in y])
    agree(*got)


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_defaults(name: str) -> None:
    """PyTorch's signatures hide in *args: its base class has them."""
    ours = inspect.signature(getattr(tm.nn, name)).parameters
    theirs = inspect.signature(torch.nn.RNNBase).parameters
    for key in ours.keys() - {"nonlinearity"}:
        assert ours[key].default == theirs[key].default, key
    places = [k for k in ours if k not in ("nonlinearity", "dtype")]
    wanted = [k for k in theirs if k not in ("mode", "device", "dtype")]
    assert places == wanted[: len(places)]
    positional = (2, 3, 2, "relu") if name == "RNN" else (2, 3, 2, False)
    assert repr(getattr(tm.nn, name)(*positional)) == repr(getattr(torch.nn, name)(*positional))


def test_initial_weights() -> None:
    bound = 50**-0.5
    for name in ("LSTM", "GRUCell"):
        for library in (tm, torch):
            for p in getattr(library.nn, name)(40, 50).parameters():
                values = p.detach().numpy()
                assert abs(values).max() <= bound
                assert values.std() == pytest.approx(bound / 3**0.5, rel=0.15)


REFUSED: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("LSTM", (3, 4, 0), {}),
    ("GRU", (3, 0), {}),
    ("RNN", (0, 3), {}),
    ("LSTM", (3, 4), {"proj_size": 4}),
    ("LSTM", (3, 4), {"proj_size": -1}),
    ("GRU", (3, 4), {"proj_size": 2}),
    ("RNN", (3, 4), {"nonlinearity": "sigmoid"}),
    ("GRU", (3, 4, 2), {"dropout": 1.5}),
    ("LSTM", (3, 4.0), {}),
]


@pytest.mark.parametrize(("name", "args", "options"), REFUSED)
def test_both_refuse(name: str, args: tuple[Any, ...], options: dict[str, Any]) -> None:
    for library in (tm, torch):
        with pytest.raises((ValueError, TypeError, RuntimeError)):
            getattr(library.nn, name)(*args, **options)


def test_dropout_warning() -> None:
    for library in (tm, torch):
        with pytest.warns(UserWarning, match="dropout"):
            library.nn.GRU(2, 3, dropout=0.5)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            library.nn.GRU(2, 3, 2, dropout=0.5)


# --- packed sequences ----------------------------------------------------------------------------


def same(ours: Any, theirs: Any) -> None:
    """Compare tensors, packed sequences, None, and lists of them."""
    if theirs is None or isinstance(theirs, int):
        assert ours == theirs
    elif isinstance(theirs, torch.Tensor):
        assert str(ours.dtype) == str(theirs.dtype).removeprefix("torch.")
        np.testing.assert_array_equal(ours.detach().numpy(), theirs.detach().numpy())
    else:
        parts, wanted = list(ours), list(theirs)
        assert len(parts) == len(wanted)
        for a, b in zip(parts, wanted, strict=True):
            same(a, b)


@pytest.mark.parametrize("features", [(), (2,), (2, 3)])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("lengths", [[5, 3, 3, 1], [2, 4, 1, 4], [1, 1, 1, 1]])
def test_packing(lengths: list[int], batch_first: bool, features: tuple[int, ...]) -> None:
    x = rng.normal(size=(4, 5, *features) if batch_first else (5, 4, *features))
    ordered = lengths == sorted(lengths, reverse=True)
    packed = [
        lib.nn.utils.rnn.pack_padded_sequence(lib.tensor(x), given, batch_first, ordered)
        for lib, given in ((tm, lengths), (torch, torch.tensor(lengths)))
    ]
    same(*packed)
    for options in (
        {},
        {"batch_first": True},
        {"padding_value": -2.0},
        {"total_length": 5},
        {"total_length": 7, "batch_first": batch_first},
    ):
        pads = [
            lib.nn.utils.rnn.pad_packed_sequence(p, **options)
            for lib, p in zip((tm, torch), packed, strict=True)
        ]
        same(*pads)
    same(*[lib.nn.utils.rnn.unpack_sequence(p) for lib, p in zip((tm, torch), packed, strict=True)])
    ours = tm.nn.utils.rnn.PackedSequence(*[None if v is None else v for v in packed[0]])
    same(ours, packed[1])
    same(
        tm.nn.utils.rnn.pad_packed_sequence(ours), torch.nn.utils.rnn.pad_packed_sequence(packed[1])
    )


def test_gradient_through_packing() -> None:
    x = rng.normal(size=(4, 3, 2))
    got = []
    for lib in (tm, torch):
        rnn, leaf = lib.nn.utils.rnn, lib.tensor(x).requires_grad_()
        packed = rnn.pack_padded_sequence(leaf, LENGTHS, enforce_sorted=False)
        again = rnn.PackedSequence(packed.data**2, *list(packed)[1:])
        padded = rnn.pad_packed_sequence(again)[0]
        (weighted(lib, [padded], 0) + weighted(lib, [packed.data], 1)).backward()
        got.append([leaf.grad.numpy()])
    agree(*got)


def test_lists_of_sequences() -> None:
    arrays = [rng.normal(size=(n, 2)) for n in (3, 1, 4)]
    for options in (
        {},
        {"batch_first": True, "padding_value": 9.0},
        {"padding_side": "left", "batch_first": True},
    ):
        same(*[
            lib.nn.utils.rnn.pad_sequence([lib.tensor(a) for a in arrays], **options)
            for lib in (tm, torch)
        ])  # fmt: skip
    packed = [
        lib.nn.utils.rnn.pack_sequence([lib.tensor(a) for a in arrays], enforce_sorted=False)
        for lib in (tm, torch)
    ]
    same(*packed)
    x, n = rng.normal(size=(4, 3, 2)), [4, 1, 2]
    same(*[
        lib.nn.utils.rnn.unpad_sequence(lib.tensor(x), lib.tensor(n)) for lib in (tm, torch)
    ])  # fmt: skip
    order = [2, 0, 3, 1]
    same(*[lib.nn.utils.rnn.invert_permutation(lib.tensor(order)) for lib in (tm, torch)])
