"""Multi-layer perceptron: linear layers with a non-linearity in between.

Rumelhart, Hinton, Williams, "Learning representations by back-propagating errors", Nature 323
(1986); dropout: Srivastava et al., JMLR 15 (2014).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from .. import nn
from ..tensor import Tensor


class MLP(nn.Module):
    """Linear → ReLU → dropout, as often as there are hidden layers, then one more Linear.

    h₀ = flatten(x);  hᵢ = dropout(relu(Wᵢ·hᵢ₋₁ + bᵢ));  y = W·h + b

    Shape: (N, …) with `inputs` numbers per sample -> (N, outputs) scores

    Args:
        inputs: numbers per sample.
        hidden: width of each hidden layer.
        outputs: scores per sample.
        dropout: probability that a hidden value is dropped in training.

    >>> import toumei as tm
    >>> MLP(784, [100], 10)(tm.zeros(2, 28, 28)).shape
    Size([2, 10])
    """

    def __init__(
        self, inputs: int, hidden: Sequence[int], outputs: int, dropout: float = 0.0
    ) -> None:
        widths = [inputs, *hidden]
        self.hidden = [nn.Linear(n, m) for n, m in pairwise(widths)]
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(widths[-1], outputs)

    def forward(self, x: Tensor) -> Tensor:
        h = x.flatten(1)  # (N, inputs)
        for layer in self.hidden:
            h = self.dropout(layer(h).relu())  # (N, width)
        return self.output(h)  # (N, outputs)
