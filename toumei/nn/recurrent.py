"""Recurrent layers: RNN, LSTM and GRU over whole sequences."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, ClassVar

from ..errors import ModuleError
from ..ops.creation import zeros
from ..ops.recurrent import gru, lstm, rnn_relu, rnn_tanh
from ..tape import spec_of
from ..tensor import Parameter, Tensor
from . import init
from .linear import check_sizes, new_parameter
from .module import Module
from .utils.rnn import PackedSequence

__all__ = ["GRU", "LSTM", "RNN", "RNNBase"]

# How many gates, and which function, by mode.
_MODES: dict[str, tuple[int, Callable[..., Any]]] = {
    "RNN_TANH": (1, rnn_tanh),
    "RNN_RELU": (1, rnn_relu),
    "LSTM": (4, lstm),
    "GRU": (3, gru),
}


class RNNBase(Module):
    """What RNN, LSTM and GRU share: weights by layer and direction, and how they are called.

    All weights start uniform in ±1/√hidden_size.

    Args:
        mode: "RNN_TANH", "RNN_RELU", "LSTM" or "GRU".
        input_size: features of each step of the input.
        hidden_size: size of the state.
        num_layers: how many layers; each gets the outputs of the one before.
        bias: whether the gates have biases.
        batch_first: whether input and outputs are (B, T, …) instead of (T, B, …); the states are
            (layers·directions, B, …) in any case.
        dropout: the probability of dropout between the layers, while training.
        bidirectional: whether a second direction runs from the end to the start.
        proj_size: project the states h of an LSTM to this size; 0 for not.
        dtype: of the parameters; the default dtype if None.
    """

    _states: ClassVar[tuple[str, ...]] = ("h",)

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        *,
        dtype: Any = None,
    ) -> None:
        if mode not in _MODES:
            raise ValueError(f"RNNBase: mode is one of {', '.join(_MODES)}, not {mode!r}")
        self.mode = mode
        sizes = {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers}
        check_sizes(self._get_name(), **sizes)
        for option, flag in {"bias": bias, "batch_first": batch_first}.items():
            if not isinstance(flag, bool):
                raise TypeError(f"{self._get_name()}: {option} must be a bool, not {flag!r}")
        self._check_options(num_layers, hidden_size, dropout, proj_size)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        self._make_weights(dtype)
        self.reset_parameters()

    def _check_options(self, layers: int, hidden: int, dropout: Any, proj_size: Any) -> None:
        name = self._get_name()
        number = isinstance(dropout, int | float) and not isinstance(dropout, bool)
        if not number or not 0 <= dropout <= 1:
            raise ValueError(f"{name}: dropout is a probability, 0 to 1, not {dropout!r}")
        if dropout and layers == 1:
            warnings.warn(
                f"{name}: dropout={dropout} does nothing: it acts between layers, and there is "
                "one layer",
                stacklevel=4,
            )
        if not isinstance(proj_size, int) or not 0 <= proj_size < hidden:
            raise ValueError(f"{name}: proj_size is from 0 to {hidden - 1}, not {proj_size!r}")
        if proj_size and self.mode != "LSTM":
            raise ValueError(f"{name}: only an LSTM has proj_size")

    def _make_weights(self, dtype: Any) -> None:
        width = _MODES[self.mode][0] * self.hidden_size
        state = self.proj_size or self.hidden_size
        directions = 2 if self.bidirectional else 1
        names = []
        for layer in range(self.num_layers):
            inputs = state * directions if layer else self.input_size
            shapes: dict[str, tuple[int, ...]] = {
                "weight_ih": (width, inputs),
                "weight_hh": (width, state),
            }
            if self.bias:
                shapes |= {"bias_ih": (width,), "bias_hh": (width,)}
            if self.proj_size:
                shapes["weight_hr"] = (self.proj_size, self.hidden_size)
            for suffix in ("", "_reverse")[:directions]:
                group = [f"{name}_l{layer}{suffix}" for name in shapes]
                for name, shape in zip(group, shapes.values(), strict=True):
                    setattr(self, name, new_parameter(*shape, dtype=dtype))
                names.append(group)
        self._names = names  # by layer and direction

    def reset_parameters(self) -> None:
        """Draw new weights."""
        for weight in self.parameters():
            init.uniform_(weight, *init.symmetric(self.hidden_size**-0.5))

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """The parameters, a list for each layer and direction."""
        return [[getattr(self, name) for name in group] for group in self._names]

    def flatten_parameters(self) -> None:
        """Return at once: the weights may lie anywhere.  PyTorch gathers them on a GPU."""

    def forward(self, input: Tensor | PackedSequence, hx: Any = None) -> Any:
        packed = input if isinstance(input, PackedSequence) else None
        x = input.padded if isinstance(input, PackedSequence) else input
        self._check_input(x, packed is not None)
        single = x.ndim == 2
        batch_first = self.batch_first and packed is None
        first = self._first_states(hx, x, single, batch_first)
        if single:
            x = x.unsqueeze(0 if batch_first else 1)
        y, *last = _MODES[self.mode][1](
            x,
            first if len(first) > 1 else first[0],
            [weight for group in self.all_weights for weight in group],
            self.bias,
            self.num_layers,
            self.dropout,
            self.training,
            self.bidirectional,
            batch_first,
            lengths=None if packed is None else packed.lengths,
        )
        if single:
            y, last = y.squeeze(0 if batch_first else 1), [s.squeeze(1) for s in last]
        out = y if packed is None else packed.replace_padded(y)
        return out, tuple(last) if len(last) > 1 else last[0]

    def _check_input(self, x: Tensor, packed: bool) -> None:
        name, weight = self._get_name(), self.all_weights[0][0]
        if x.ndim not in ((3,) if packed else (2, 3)):
            raise ModuleError(f"{name}: the input needs 3 dimensions, or 2 without a batch, got "
                              f"{spec_of(x)}")  # fmt: skip
        if x.shape[-1] != self.input_size:
            raise ModuleError(f"{name}: the input has {x.shape[-1]} features, "
                              f"but input_size is {self.input_size}")  # fmt: skip
        if x.dtype != weight.dtype:
            raise ModuleError(
                f"{name}: the input is {x.dtype}, but the weights are {weight.dtype}; convert the "
                f"input with .to({str(weight.dtype)!r}) or the layer"
            )

    def _first_states(
        self, hx: Any, x: Tensor, single: bool, batch_first: bool
    ) -> tuple[Tensor, ...]:
        """Return the first states, with a batch; zeros where none are given."""
        name, count = self._get_name(), len(self._states)
        if hx is None:
            batch = 1 if single else x.shape[0 if batch_first else 1]
            rows = len(self._names)
            sizes = (self.proj_size or self.hidden_size, self.hidden_size)[:count]
            return tuple(zeros(rows, batch, size, dtype=x.dtype) for size in sizes)
        states = (hx,) if isinstance(hx, Tensor) else tuple(hx)
        if len(states) != count:
            raise ModuleError(f"{name}: hx must be {' and '.join(self._states)}, "
                              f"got {len(states)} tensors")  # fmt: skip
        for state in states:
            if state.ndim != x.ndim:
                raise ModuleError(
                    f"{name}: input and states both have a batch or neither has: the input has "
                    f"{x.ndim} dimensions, a state {state.ndim}"
                )
        return tuple(state.unsqueeze(1) for state in states) if single else states

    def extra_repr(self) -> str:
        defaults = {"proj_size": 0, "num_layers": 1, "bias": True, "batch_first": False,
                    "dropout": 0.0, "bidirectional": False}  # fmt: skip
        changed = [
            f"{name}={getattr(self, name)}"
            for name, default in defaults.items()
            if getattr(self, name) != default
        ]
        return ", ".join([str(self.input_size), str(self.hidden_size), *changed])


class RNN(RNNBase):
    """h′ = tanh(W_ih·x + b_ih + W_hh·h + b_hh), or max(0, …), for each step x of a sequence.

    Shape: (T, B, input_size), hx (layers·directions, B, H) -> outputs (T, B, directions·H), h_n
        like hx;  without a batch (T, input_size);  a PackedSequence gives one;
        weight_ih_l0 (H, input_size), weight_hh_l0 (H, H)

    Args:
        input_size: features of each step of the input.
        hidden_size: size of the state, H.
        num_layers: how many layers; each gets the outputs of the one before.
        nonlinearity: "tanh" or "relu".
        bias: whether there are biases.
        batch_first: whether input and outputs are (B, T, …) instead of (T, B, …).
        dropout: the probability of dropout between the layers, while training.
        bidirectional: whether a second direction runs from the end to the start.
        dtype: of the parameters; the default dtype if None.

    Raises:
        ValueError: an option isn't one that there is.
        ModuleError: a size isn't a positive integer, or input or states don't fit.

    Paper: Elman, "Finding structure in time" (1990)

    >>> import toumei as tm
    >>> from toumei import nn
    >>> output, h_n = nn.RNN(3, 4, num_layers=2)(tm.ones(5, 2, 3))
    >>> output.shape, h_n.shape
    (Size([5, 2, 4]), Size([2, 2, 4]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dtype: Any = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"RNN: nonlinearity is 'tanh' or 'relu', not {nonlinearity!r}")
        self.nonlinearity = nonlinearity
        super().__init__(
            f"RNN_{nonlinearity.upper()}", input_size, hidden_size, num_layers, bias,
            batch_first, dropout, bidirectional, dtype=dtype,
        )  # fmt: skip


class LSTM(RNNBase):
    """Long short-term memory: a state c that gates write to and read from.

    i, f, o = σ(…), g = tanh(…) of W_ih·x + b_ih + W_hh·h + b_hh, in blocks in the order i, f, g, o
    c′ = f·c + i·g,  h′ = o·tanh(c′);  with `proj_size` h′ = W_hr·(o·tanh(c′))

    Shape: (T, B, input_size), hx = (h, c), each (layers·directions, B, H)
        -> outputs (T, B, directions·H), (h_n, c_n) like hx;  without a batch (T, input_size);
        a PackedSequence gives one;  weight_ih_l0 (4·H, input_size), weight_hh_l0 (4·H, H);
        with `proj_size` P, h has size P, weight_hh_l0 (4·H, P), weight_hr_l0 (P, H)

    Args:
        input_size: features of each step of the input.
        hidden_size: size of the states, H.
        num_layers: how many layers; each gets the outputs of the one before.
        bias: whether the gates have biases.
        batch_first: whether input and outputs are (B, T, …) instead of (T, B, …).
        dropout: the probability of dropout between the layers, while training.
        bidirectional: whether a second direction runs from the end to the start.
        proj_size: project h to this size, less than H; 0 for not.
        dtype: of the parameters; the default dtype if None.

    Raises:
        ValueError: an option isn't one that there is.
        ModuleError: a size isn't a positive integer, or input or states don't fit.

    Paper: Hochreiter & Schmidhuber, "Long short-term memory" (1997)

    >>> import toumei as tm
    >>> from toumei import nn
    >>> output, (h_n, c_n) = nn.LSTM(3, 4, bidirectional=True)(tm.ones(5, 2, 3))
    >>> output.shape, h_n.shape
    (Size([5, 2, 8]), Size([2, 2, 4]))
    """

    _states: ClassVar[tuple[str, ...]] = ("h", "c")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        *,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            "LSTM", input_size, hidden_size, num_layers, bias, batch_first, dropout,
            bidirectional, proj_size, dtype=dtype,
        )  # fmt: skip


class GRU(RNNBase):
    """Gated recurrent units: h′ = (1 − z)·n + z·h.

    r = σ(W_ir·x + b_ir + W_hr·h + b_hr),  z = σ(W_iz·x + b_iz + W_hz·h + b_hz),
    n = tanh(W_in·x + b_in + r·(W_hn·h + b_hn));  the weights hold blocks in the order r, z, n

    Shape: (T, B, input_size), hx (layers·directions, B, H) -> outputs (T, B, directions·H), h_n
        like hx;  without a batch (T, input_size);  a PackedSequence gives one;
        weight_ih_l0 (3·H, input_size), weight_hh_l0 (3·H, H)

    Args:
        input_size: features of each step of the input.
        hidden_size: size of the state, H.
        num_layers: how many layers; each gets the outputs of the one before.
        bias: whether the gates have biases.
        batch_first: whether input and outputs are (B, T, …) instead of (T, B, …).
        dropout: the probability of dropout between the layers, while training.
        bidirectional: whether a second direction runs from the end to the start.
        dtype: of the parameters; the default dtype if None.

    Raises:
        ValueError: an option isn't one that there is.
        ModuleError: a size isn't a positive integer, or input or states don't fit.

    Paper: Cho et al., "Learning phrase representations using RNN encoder-decoder" (2014)

    >>> import toumei as tm
    >>> from toumei import nn
    >>> output, h_n = nn.GRU(3, 4, batch_first=True)(tm.ones(2, 5, 3))
    >>> output.shape, h_n.shape
    (Size([2, 5, 4]), Size([1, 2, 4]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            "GRU", input_size, hidden_size, num_layers, bias, batch_first, dropout,
            bidirectional, dtype=dtype,
        )  # fmt: skip
