"""Recurrent layers and cells as functions: RNN, LSTM, GRU.

The time loops themselves are ops: see `timeloop`.  Here layers and directions are put together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import OpError
from ..tape import apply, operand, spec_of
from ..traced import known
from .choice import where
from .combine import cat, stack
from .creation import zeros
from .dense import linear
from .dropping import dropout as drop
from .loop_gru import GruLoop
from .loop_lstm import LstmLoop
from .loop_rnn import RnnLoop
from .timeloop import optional

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = [
    "gru",
    "gru_cell",
    "lstm",
    "lstm_cell",
    "rnn_relu",
    "rnn_relu_cell",
    "rnn_tanh",
    "rnn_tanh_cell",
]


class Weights(NamedTuple):
    """The parameters of one layer in one direction."""

    w_ih: Tensor
    w_hh: Tensor
    b_ih: Tensor | None = None
    b_hh: Tensor | None = None
    w_hr: Tensor | None = None


class Run(NamedTuple):
    """How a loop is run: the mask of the steps that count, and whether from the end."""

    mask: Tensor | None
    reverse: bool

    def last(self, states: Tensor) -> Tensor:
        """Return the state after all steps."""
        return states[0 if self.reverse else -1]


# Runs one layer in one direction: (input, weights, first states, how) -> outputs, last states.
Loop = Callable[["Tensor", Weights, Sequence["Tensor"], Run], "tuple[Tensor, tuple[Tensor, ...]]"]


def _gate_inputs(x: Tensor, w: Weights) -> Tensor:
    """Return what the inputs add to the gates, with both biases: one product for all steps."""
    bias = w.b_ih if w.b_hh is None or w.b_ih is None else w.b_ih + w.b_hh
    return linear(x, w.w_ih, bias)


def _plain(relu: bool) -> Loop:
    def loop(x: Tensor, w: Weights, first: Sequence[Tensor], how: Run) -> Any:
        gx = _gate_inputs(x, w)
        ys = apply(RnnLoop(how.reverse, relu), gx, w.w_hh, *first, *optional(how.mask))
        return ys, (how.last(ys),)

    return loop


def _lstm(x: Tensor, w: Weights, first: Sequence[Tensor], how: Run) -> Any:
    op, gx = LstmLoop(how.reverse), _gate_inputs(x, w)
    if w.w_hr is None:
        ys, cs, _ = apply(op, gx, w.w_hh, *first, *optional(how.mask))
    else:
        ys, cs, _ = op.in_tensors(gx, w.w_hh, first[0], first[1], how.mask, w.w_hr)
    return ys, (how.last(ys), how.last(cs))


def _gru(x: Tensor, w: Weights, first: Sequence[Tensor], how: Run) -> Any:
    b_hh = zeros(w.w_hh.shape[0], dtype=w.w_hh.dtype) if w.b_hh is None else w.b_hh
    gx = linear(x, w.w_ih, w.b_ih)
    ys, _ = apply(GruLoop(how.reverse), gx, w.w_hh, b_hh, *first, *optional(how.mask))
    return ys, (how.last(ys),)


# --- cells: a loop of one step -------------------------------------------------------------------


def _cell(name: str, loop: Loop, input: Tensor, hx: Sequence[Tensor], w: Weights) -> Any:
    """Run one step on (N, in); return the new states."""
    if input.ndim != 2 or any(h.ndim != 2 for h in hx):
        given = ", ".join(str(spec_of(t)) for t in (input, *hx))
        raise OpError(f"{name}: input and states must have 2 dimensions, (N, …), got {given}")
    for h in hx:
        _need_shape(name, h, (input.shape[0], w.w_hh.shape[1]))
    return loop(input.unsqueeze(0), w, hx, Run(None, False))[1]


def _need_shape(name: str, state: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(state.shape) != shape:
        raise OpError(f"{name}: a state has the shape {list(state.shape)}, expected {list(shape)}")


def rnn_tanh_cell(
    input: Tensor,
    hx: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> Tensor:
    """One step: h′ = tanh(w_ih·x + b_ih + w_hh·h + b_hh).  Shape: (N, in), (N, H) -> (N, H)

    Raises:
        OpError: the sizes don't fit.
    """
    weights = Weights(w_ih, w_hh, b_ih, b_hh)
    return _cell("rnn_tanh_cell", _plain(False), input, (hx,), weights)[0]


def rnn_relu_cell(
    input: Tensor,
    hx: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> Tensor:
    """One step: h′ = max(0, w_ih·x + b_ih + w_hh·h + b_hh).  Shape: (N, in), (N, H) -> (N, H)

    Raises:
        OpError: the sizes don't fit.
    """
    weights = Weights(w_ih, w_hh, b_ih, b_hh)
    return _cell("rnn_relu_cell", _plain(True), input, (hx,), weights)[0]


def gru_cell(
    input: Tensor,
    hx: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> Tensor:
    """One step of a GRU; `nn.GRU` says what it computes.  Shape: (N, in), (N, H) -> (N, H)

    Raises:
        OpError: the sizes don't fit.
    """
    weights = Weights(w_ih, w_hh, b_ih, b_hh)
    return _cell("gru_cell", _gru, input, (hx,), weights)[0]


def lstm_cell(
    input: Tensor,
    hx: Sequence[Tensor],
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One step of an LSTM; `nn.LSTM` says what it computes.

    Shape: (N, in), ((N, H), (N, H)) -> (N, H), (N, H);  w_ih (4·H, in), w_hh (4·H, H)

    Raises:
        OpError: the sizes don't fit.

    >>> import toumei as tm
    >>> h, c = tm.lstm_cell(tm.ones(2, 3), (tm.zeros(2, 1),) * 2, tm.ones(4, 3), tm.ones(4, 1))
    >>> h.shape, c.shape
    (Size([2, 1]), Size([2, 1]))
    """
    _need_pair("lstm_cell", hx)
    return _cell("lstm_cell", _lstm, input, hx, Weights(w_ih, w_hh, b_ih, b_hh))


def _need_pair(name: str, hx: Any) -> None:
    if not isinstance(hx, tuple | list) or len(hx) != 2:
        raise OpError(f"{name}: the state is a pair (h, c), got {type(hx).__name__}")


# --- layers and directions -----------------------------------------------------------------------


class _Options(NamedTuple):
    """What the functions of whole stacks of layers share."""

    has_biases: bool
    num_layers: int
    dropout: float
    train: bool
    bidirectional: bool
    batch_first: bool
    lengths: Any


def rnn_tanh(
    input: Tensor,
    hx: Tensor,
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
    *,
    lengths: Any = None,
) -> tuple[Tensor, Tensor]:
    """Layers of tanh(w_ih·x + b_ih + w_hh·h + b_hh); the arguments are those of `lstm`."""
    options = _Options(has_biases, num_layers, dropout, train, bidirectional, batch_first, lengths)
    return _layers("rnn_tanh", _plain(False), input, (hx,), params, options)


def rnn_relu(
    input: Tensor,
    hx: Tensor,
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
    *,
    lengths: Any = None,
) -> tuple[Tensor, Tensor]:
    """Layers of max(0, w_ih·x + b_ih + w_hh·h + b_hh); the arguments are those of `lstm`."""
    options = _Options(has_biases, num_layers, dropout, train, bidirectional, batch_first, lengths)
    return _layers("rnn_relu", _plain(True), input, (hx,), params, options)


def gru(
    input: Tensor,
    hx: Tensor,
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
    *,
    lengths: Any = None,
) -> tuple[Tensor, Tensor]:
    """Layers of a GRU: returns the outputs and h_n; the arguments are those of `lstm`."""
    options = _Options(has_biases, num_layers, dropout, train, bidirectional, batch_first, lengths)
    return _layers("gru", _gru, input, (hx,), params, options)


def lstm(
    input: Tensor,
    hx: Sequence[Tensor],
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
    *,
    lengths: Any = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Layers of an LSTM; `nn.LSTM` says what they compute.  Returns the outputs, h_n and c_n.

    Shape: (T, B, in), or (B, T, in) if `batch_first`, hx 2 × (layers·directions, B, H)
        -> (T, B, directions·H), (layers·directions, B, H) twice

    Args:
        input: the sequences, padded to one length.
        hx: the first states h and c.
        params: w_ih, w_hh, then b_ih and b_hh if `has_biases`, then w_hr if h is projected; this
            for each direction of each layer.
        has_biases: whether there are biases.
        num_layers: how many layers there are on top of each other.
        dropout: the probability of dropout between the layers, if `train`.
        train: whether there is dropout.
        bidirectional: whether a second direction runs from the end to the start.
        batch_first: whether the batch comes before the steps in input and outputs.
        lengths: how many steps of each sequence count, (B); all of them if None.  What lies behind
            has no influence: outputs there are 0, states are those at the end of each sequence.

    Raises:
        OpError: the sizes don't fit.
    """
    _need_pair("lstm", hx)
    options = _Options(has_biases, num_layers, dropout, train, bidirectional, batch_first, lengths)
    return _layers("lstm", _lstm, input, hx, params, options)


def _layers(
    name: str,
    loop: Loop,
    input: Tensor,
    hx: Sequence[Tensor],
    params: Sequence[Tensor],
    options: _Options,
) -> Any:
    """Run all layers and directions; return the outputs and the last states."""
    if input.ndim != 3:
        raise OpError(f"{name}: the input needs 3 dimensions, got {spec_of(input)}")
    x = input.transpose(0, 1) if options.batch_first else input
    steps, batch = x.shape[:2]
    if not steps:
        raise OpError(f"{name}({spec_of(input)}): there are no steps to run")
    weights = _weights(name, params, options)
    _check_states(name, hx, weights, batch)
    mask = None if options.lengths is None else mask_of(name, options.lengths, steps, batch)
    x = x if mask is None else where(mask, x, 0)
    directions = 1 + options.bidirectional
    last = []
    for k in range(0, len(weights), directions):
        made = []
        for reverse in range(directions):
            first = [h[k + reverse] for h in hx]
            ys, ends = loop(x, weights[k + reverse], first, Run(mask, bool(reverse)))
            made.append(ys if mask is None else where(mask, ys, 0))
            last.append(ends)
        x = cat(made, -1) if options.bidirectional else made[0]
        if k + directions < len(weights):
            x = drop(x, options.dropout, options.train)
    output = x.transpose(0, 1) if options.batch_first else x
    return output, *(stack(group) for group in zip(*last, strict=True))


def _weights(name: str, params: Sequence[Tensor], options: _Options) -> list[Weights]:
    """Sort the parameters by layer and direction."""
    count = options.num_layers * (1 + options.bidirectional)
    plain = 2 + 2 * options.has_biases
    size, rest = divmod(len(params), max(count, 1))
    if rest or size not in (plain, plain + (name == "lstm")):
        raise OpError(
            f"{name}: {len(params)} parameters can't be those of {count} layers and directions, "
            f"which have {plain} each"
        )
    groups = [list(params[k * size : (k + 1) * size]) for k in range(count)]
    biases = [] if options.has_biases else [None, None]
    return [Weights(*group[:2], *biases, *group[2:]) for group in groups]


def _check_states(name: str, hx: Sequence[Tensor], weights: list[Weights], batch: int) -> None:
    w = weights[0]
    sizes = [w.w_hh.shape[1], w.w_hh.shape[1] if w.w_hr is None else w.w_hr.shape[1]]
    for h, size in zip(hx, sizes, strict=False):
        _need_shape(name, h, (len(weights), batch, size))


def mask_of(name: str, lengths: Any, steps: int, batch: int) -> Tensor:
    """Return whether each step is within its sequence.  Shape: (B) -> (T, B, 1), bool

    Raises:
        OpError: there aren't as many lengths as sequences, or one is outside of 1 to `steps`.
    """
    ends = operand(np.asarray(lengths) if isinstance(lengths, list | tuple) else lengths)
    if tuple(ends.shape) != (batch,):
        raise OpError(f"{name}: lengths of {spec_of(ends)} for a batch of {batch} sequences")
    data = ends._data
    if known(ends) and data.size and not 1 <= data.min() <= data.max() <= steps:
        raise OpError(
            f"{name}: lengths must be from 1 to {steps}, they go from {data.min()} to {data.max()}"
        )
    return operand(np.arange(steps).reshape(-1, 1, 1)) < ends.unsqueeze(1)
