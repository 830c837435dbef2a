"""Special functions: sigmoid and logit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..op import Array, op
from ..tape import Operand, apply, as_tensor
from .elementwise import Unary, log

if TYPE_CHECKING:
    from ..tensor import Tensor


__all__ = [
    "logit",
    "sigmoid",
]


@op
class Sigmoid(Unary):
    """y = 1/(1 + e⁻ˣ);   dy/dx = y·(1 − y)"""

    def forward(self, xp: Any, x: Array) -> Array:
        y = xp.asarray(xp.negative(x))
        xp.exp(y, out=y)
        y += 1
        return xp.divide(1, y, out=y)

    def backward(self, gy: Tensor, y: Tensor) -> Tensor:
        return gy * ((1 - y) * y)


# --- functions -----------------------------------------------------------------------------------


def sigmoid(input: Operand) -> Tensor:
    """The logistic function 1/(1 + e⁻ˣ).  Shape: (…) -> (…)

    >>> import toumei as tm
    >>> tm.sigmoid(tm.tensor([0.0, 100.0]))
    tensor([0.5, 1. ])
    """
    return apply(Sigmoid(), input)


def logit(input: Operand, eps: float | None = None) -> Tensor:
    """The inverse of sigmoid: ln(x/(1 − x)).  Shape: (…) -> (…)

    Args:
        input: probabilities; outside of [0, 1] the result is NaN.
        eps: x is clamped to [eps, 1 − eps] first; None leaves it as it is.
    """
    x = as_tensor(input)
    if eps is not None:
        x = x.clamp(eps, 1 - eps)
    return log(x / (1 - x))
