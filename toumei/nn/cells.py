"""Recurrent cells: one step of an RNN, LSTM or GRU."""

from __future__ import annotations

from typing import Any

from ..errors import ModuleError
from ..ops.creation import zeros
from ..ops.recurrent import gru_cell, lstm_cell, rnn_relu_cell, rnn_tanh_cell
from ..tape import spec_of
from ..tensor import Parameter, Tensor
from . import init
from .linear import check_sizes, new_parameter
from .module import Module

__all__ = ["GRUCell", "LSTMCell", "RNNCell", "RNNCellBase"]

_FUNCTIONS = {"tanh": rnn_tanh_cell, "relu": rnn_relu_cell}


class RNNCellBase(Module):
    """What the cells share: weights for the input and for the state, in `num_chunks` blocks.

    All weights start uniform in ±1/√hidden_size.
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool, num_chunks: int, *, dtype: Any = None
    ) -> None:
        check_sizes(type(self).__name__, input_size=input_size, hidden_size=hidden_size)
        self.input_size = input_size
        self.hidden_size = hidden_size
        width = num_chunks * hidden_size
        self.weight_ih = new_parameter(width, input_size, dtype=dtype)
        self.weight_hh = new_parameter(width, hidden_size, dtype=dtype)
        self.bias_ih = new_parameter(width, dtype=dtype) if bias else None
        self.bias_hh = new_parameter(width, dtype=dtype) if bias else None
        self.reset_parameters()

    @property
    def bias(self) -> bool:
        """Whether there are biases."""
        return self.bias_ih is not None

    def reset_parameters(self) -> None:
        """Draw new weights."""
        for weight in self.parameters():
            init.uniform_(weight, *init.symmetric(self.hidden_size**-0.5))

    def _weights(self) -> tuple[Parameter | None, ...]:
        return self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh

    def _run(self, function: Any, input: Tensor, states: Any, count: int) -> tuple[Tensor, ...]:
        """Call a function with input and states that have a batch; return states as given."""
        name = type(self).__name__
        if input.ndim not in (1, 2):
            raise ModuleError(f"{name}: the input needs 2 dimensions, or 1 without a batch, got "
                              f"{spec_of(input)}")  # fmt: skip
        if states is None:
            shape = (*input.shape[:-1], self.hidden_size)
            states = tuple(zeros(shape, dtype=input.dtype) for _ in range(count))
        if len(states) != count or any(s.ndim != input.ndim for s in states):
            given = ", ".join(str(spec_of(s)) for s in states)
            raise ModuleError(f"{name}: for the input {spec_of(input)} it takes {count} states of "
                              f"{input.ndim} dimensions, got {given}")  # fmt: skip
        single = input.ndim == 1
        if single:
            input, states = input.unsqueeze(0), [s.unsqueeze(0) for s in states]
        out = function(input, states if count > 1 else states[0], *self._weights())
        made = out if isinstance(out, tuple) else (out,)
        return tuple(s.squeeze(0) for s in made) if single else made

    def extra_repr(self) -> str:
        sizes = f"{self.input_size}, {self.hidden_size}"
        return sizes if self.bias else f"{sizes}, bias=False"


class RNNCell(RNNCellBase):
    """h′ = tanh(W_ih·x + b_ih + W_hh·h + b_hh), or max(0, …): one step of `nn.RNN`.

    Shape: (B, input_size), (B, H) -> (B, H), or all without B;  weight_ih (H, input_size)

    Args:
        input_size: features of the input.
        hidden_size: size of the state, H.
        bias: whether there are biases.
        nonlinearity: "tanh" or "relu".
        dtype: of the parameters; the default dtype if None.

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.RNNCell(3, 4)(tm.ones(2, 3)).shape
    Size([2, 4])
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        *,
        dtype: Any = None,
    ) -> None:
        if nonlinearity not in _FUNCTIONS:
            raise ValueError(f"RNNCell: nonlinearity is 'tanh' or 'relu', not {nonlinearity!r}")
        super().__init__(input_size, hidden_size, bias, 1, dtype=dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        states = None if hx is None else (hx,)
        return self._run(_FUNCTIONS[self.nonlinearity], input, states, 1)[0]

    def extra_repr(self) -> str:
        other = "" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity}"
        return super().extra_repr() + other


class LSTMCell(RNNCellBase):
    """One step of `nn.LSTM`, which says what is computed.

    Shape: (B, input_size), (h, c) of (B, H) each -> (h′, c′), or all without B;
        weight_ih (4·H, input_size), weight_hh (4·H, H)

    Args:
        input_size: features of the input.
        hidden_size: size of the states, H.
        bias: whether there are biases.
        dtype: of the parameters; the default dtype if None.

    >>> import toumei as tm
    >>> from toumei import nn
    >>> h, c = nn.LSTMCell(3, 4)(tm.ones(2, 3))
    >>> h.shape, c.shape
    (Size([2, 4]), Size([2, 4]))
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, *, dtype: Any = None
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 4, dtype=dtype)

    def forward(self, input: Tensor, hx: Any = None) -> tuple[Tensor, Tensor]:
        states = (hx,) if isinstance(hx, Tensor) else hx
        h, c = self._run(lstm_cell, input, states, 2)
        return h, c


class GRUCell(RNNCellBase):
    """One step of `nn.GRU`, which says what is computed.

    Shape: (B, input_size), (B, H) -> (B, H), or all without B;  weight_ih (3·H, input_size)

    Args:
        input_size: features of the input.
        hidden_size: size of the state, H.
        bias: whether there are biases.
        dtype: of the parameters; the default dtype if None.

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.GRUCell(3, 4)(tm.ones(2, 3)).shape
    Size([2, 4])
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, *, dtype: Any = None
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 3, dtype=dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        return self._run(gru_cell, input, None if hx is None else (hx,), 1)[0]
