"""A recurrent network that guesses the next character of a text.

Elman, "Finding structure in time", Cognitive Science 14 (1990); LSTM: Hochreiter, Schmidhuber,
"Long short-term memory", Neural Computation 9 (1997); GRU: Cho et al., EMNLP 2014,
arXiv:1406.1078; of characters: Karpathy, "The unreasonable effectiveness of recurrent neural
networks", 2015 (char-rnn).

Shapes: N texts, L characters, E numbers per character, H of the state, V characters that there are.
"""

from __future__ import annotations

from typing import Any

from .. import nn
from ..errors import ModuleError
from ..tensor import Tensor

_KINDS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


class CharRNN(nn.Module):
    """Scores of each character that may come next, at each place of a text.

    hₜ, stateₜ = cell(E[characterₜ], stateₜ₋₁);  scoresₜ = W·hₜ + b

    Shape: (N, L) of integers -> (N, L, vocab_size)

    Args:
        vocab_size: how many different characters there are.
        embedding: numbers per character.
        hidden: numbers of the state of a layer.
        layers: recurrent layers, each on top of the one before.
        dropout: probability that a number between the layers, or before the scores, is dropped in
            training.
        kind: "lstm", "gru" or "rnn".

    Raises:
        ModuleError: there is no such kind.

    >>> import toumei as tm
    >>> model = CharRNN(65, embedding=8, hidden=16)
    >>> model(tm.tensor([[5, 7, 2]])).shape
    Size([1, 3, 65])
    >>> scores, state = model.read(tm.tensor([[5, 7]]))
    >>> more, state = model.read(tm.tensor([[2]]), state)
    >>> more.shape
    Size([1, 1, 65])
    """

    def __init__(
        self,
        vocab_size: int,
        embedding: int = 128,
        hidden: int = 128,
        layers: int = 1,
        dropout: float = 0.0,
        kind: str = "lstm",
    ) -> None:
        if kind not in _KINDS:
            raise ModuleError(f"CharRNN: kind is one of {', '.join(_KINDS)}, not {kind!r}")
        self.embedding = nn.Embedding(vocab_size, embedding)
        between = dropout if layers > 1 else 0.0
        self.rnn = _KINDS[kind](embedding, hidden, layers, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, vocab_size)

    def forward(self, characters: Tensor) -> Tensor:
        return self.read(characters)[0]

    def read(self, characters: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Return the scores, and the state to go on from.

        Args:
            characters: their numbers.  Shape: (N, L)
            state: what an earlier call returned: that of nn.LSTM, a pair (h, c), each (layers, N,
                hidden), or of nn.GRU and nn.RNN, h alone; zeros if None.
        """
        x = self.embedding(characters)  # (N, L, E)
        h, state = self.rnn(x, state)  # (N, L, H)
        return self.head(self.dropout(h)), state  # (N, L, V)
