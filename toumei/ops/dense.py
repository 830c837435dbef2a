"""Layers without neighbourhoods: linear and bilinear."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import OpError
from ..op import Array, Case, Composite, Refused, Spec, op
from ..tape import apply, spec_of

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = [
    "bilinear",
    "linear",
]


@op
class Linear(Composite):
    """y = x·weightᵀ + bias;   ∂x = gy·weight, ∂weight = gyᵀ·x, ∂bias = Σ gy

    x has two dimensions; the function makes them.
    """

    promote = "common"

    def forward(self, xp: Any, x: Array, weight: Array, bias: Array | None = None) -> Array:
        y = xp.matmul(x, weight.T)
        if bias is not None:
            y += bias
        return y

    def check(self, x: Array, weight: Array, bias: Array | None = None) -> None:
        if bias is not None and bias.shape != weight.shape[:1]:  # NumPy would broadcast it
            self._refuse_bias(weight, bias)

    def _refuse_bias(self, weight: Any, bias: Any) -> None:
        raise Refused(f"bias has the shape {bias.shape}, but there are {weight.shape[0]} outputs")

    def infer(self, x: Spec, weight: Spec, bias: Spec | None = None) -> Spec:
        if weight.ndim != 2:
            raise Refused(f"weight needs the shape (outputs, inputs), not {weight.shape}")
        if x.shape[-1:] != weight.shape[1:]:
            raise Refused(
                f"inner sizes differ: x has {x.shape[-1]} columns, "
                f"weight takes {weight.shape[1]} inputs"
            )
        if bias is not None and bias.shape != weight.shape[:1]:
            self._refuse_bias(weight, bias)
        return Spec((x.shape[0], weight.shape[0]), x.dtype)

    def decompose(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        y = x @ weight.transpose(0, 1)
        return y if bias is None else y + bias

    def backward_x(self, gy: Tensor, weight: Tensor) -> Tensor:
        return gy @ weight

    def backward_weight(self, gy: Tensor, x: Tensor) -> Tensor:
        return gy.transpose(0, 1) @ x

    def backward_bias(self, gy: Tensor) -> Tensor:
        return gy.sum(dim=0)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for n, i, o in ((2, 3, 4), (1, 1, 1), (0, 2, 3), (2, 0, 3)):
            x, w = rng.normal(size=(n, i)), rng.normal(size=(o, i))
            yield Case(cls(), (x, w))
            yield Case(cls(), (x, w, rng.normal(size=o)))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        x, w = np.zeros((2, 3)), np.zeros((4, 5))
        yield Case(cls(), (x, w)), "x has 3 columns, weight takes 5 inputs"
        yield Case(cls(), (x, w[:, :3], np.zeros(1))), "bias has the shape (1,)"


# --- functions -----------------------------------------------------------------------------------


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x·weightᵀ + bias.  Shape: (…, in), (out, in), (out) -> (…, out)

    Raises:
        OpError: the sizes don't fit.

    >>> import toumei as tm
    >>> tm.nn.functional.linear(tm.ones(1, 3), tm.ones(2, 3), tm.tensor([0.0, 1.0]))
    tensor([[3., 4.]])
    """
    if weight.ndim == 1:  # one output, without a dimension of its own
        y = input @ weight
        return y if bias is None else y + bias
    inputs = [weight] if bias is None else [weight, bias]
    if input.ndim == 2:
        return apply(Linear(), input, *inputs)
    if input.ndim == 0:
        raise OpError(f"linear(input: {spec_of(input)}): the input needs at least one dimension")
    lead = tuple(input.shape[:-1])
    rows = math.prod(lead)
    y = apply(Linear(), input.reshape(rows, input.shape[-1]), *inputs)
    return y.reshape(*lead, weight.shape[0])


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Σ_ij x₁ᵢ·weight_oij·x₂ⱼ + bias_o.  Shape: (…, i), (…, j), (o, i, j), (o) -> (…, o)

    Raises:
        OpError: the sizes don't fit.
    """
    sizes = (input1.shape[-1:] + input2.shape[-1:]) if input1.ndim and input2.ndim else ()
    fits = weight.ndim == 3 and sizes == weight.shape[1:]
    if not fits or input1.shape[:-1] != input2.shape[:-1]:
        raise OpError(
            f"bilinear(input1: {spec_of(input1)}, input2: {spec_of(input2)}, weight: "
            f"{spec_of(weight)}): it needs (…, i), (…, j) and (o, i, j), the inputs with the same …"
        )
    o, i, j = weight.shape
    lead = tuple(input1.shape[:-1])
    rows = math.prod(lead)
    a, b = input1.reshape(rows, i), input2.reshape(rows, 1, j)
    half = (a @ weight.permute(1, 0, 2).reshape(i, o * j)).reshape(rows, o, j)
    y = (half * b).sum(-1).reshape(*lead, o)
    return y if bias is None else y + bias
