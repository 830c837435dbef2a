"""Matrix products."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..op import Array, Case, Contraction, Refused, Spec, broadcast_shapes, op
from ..tape import Operand, apply, as_tensor

if TYPE_CHECKING:
    from ..tensor import Tensor


__all__ = [
    "matmul",
]


@op
class Matmul(Contraction):
    """y = a·b over the last two dimensions, the others broadcast;   ∂a = gy·bᵀ, ∂b = aᵀ·gy"""

    broadcasts = True

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.matmul(a, b)

    def infer(self, a: Spec, b: Spec) -> Spec:
        if a.ndim < 2 or b.ndim < 2:
            raise Refused("both tensors need at least one dimension")
        (rows, inner), (inner_b, columns) = a.shape[-2:], b.shape[-2:]
        if inner != inner_b:
            raise Refused(f"inner sizes differ: a has {inner} columns, b has {inner_b} rows")
        batch = broadcast_shapes(self.params, [a.shape[:-2], b.shape[:-2]])
        return Spec((*batch, rows, columns), a.dtype)

    def backward_a(self, gy: Tensor, b: Tensor) -> Tensor:
        return apply(self, gy, b.transpose(-1, -2))

    def backward_b(self, gy: Tensor, a: Tensor) -> Tensor:
        return apply(self, a.transpose(-1, -2), gy)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for a, b in [((2, 3), (3, 4)), ((5, 2, 3), (3, 2)), ((2, 1, 2, 3), (4, 3, 1)), ((2, 0), (0, 3))]:
            yield Case(cls(), (rng.normal(size=a), rng.normal(size=b)))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls(), (np.zeros((2, 3)), np.zeros((4, 5)))), "a has 3 columns, b has 4 rows"


def matmul(input: Operand, other: Operand) -> Tensor:
    """Matrix product; the leading dimensions broadcast, 1-d tensors are vectors.

    y = input · other

    Shape: (…, n, k), (…, k, m) -> (…, n, m);  (k), (…, k, m) -> (…, m);  (…, n, k), (k) -> (…, n)

    Raises:
        OpError: the inner sizes differ, or a tensor has no dimension.

    >>> import toumei as tm
    >>> tm.matmul(tm.ones(2, 3), tm.ones(3))
    tensor([3., 3.])
    """
    a, b = as_tensor(input), as_tensor(other)
    if a.ndim > 2 and b.ndim == 2:  # one large product instead of many small ones
        y = apply(Matmul(), a.reshape(-1, a.shape[-1]), b) if a.shape[-1] else apply(Matmul(), a, b)
        return y.reshape(*a.shape[:-1], b.shape[-1])  # type: ignore[no-any-return]
    row, column = a.ndim == 1, b.ndim == 1
    y = apply(Matmul(), a.unsqueeze(0) if row else a, b.unsqueeze(1) if column else b)
    if row and column:
        return y.reshape(())
    return y.squeeze(-2) if row else y.squeeze(-1) if column else y
