"""Symmetric matrices that needn't be positive: the LDLᵀ factorisation of Bunch and Kaufman (1977).

D has blocks of one or two rows.  LAPACK's packed form: D and the columns of L below the diagonal;
pivots[k] = p > 0 where rows k and p were exchanged; −p twice for a block of two, whose second row
was exchanged.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from ..op import Array, Case, Refused, Spec, broadcast_shapes, op
from ..tape import apply
from .triangular import INT, MatrixOp, stacked, where_in

if TYPE_CHECKING:
    from ..tensor import Tensor

ALPHA = (1 + 17**0.5) / 8  # balances the growth of the two kinds of block


def choose(s: Array) -> tuple[int, int]:
    """Return which row to exchange next, and how many rows the block has."""
    first = abs(s[0, 0])
    if len(s) == 1:
        return 0, 1
    best = 1 + int(np.abs(s[1:, 0]).argmax())
    column = abs(s[best, 0])
    if first >= ALPHA * column:
        return 0, 1
    row = np.abs(np.delete(s[best], best)).max()
    if first * row >= ALPHA * column * column:
        return 0, 1
    return (best, 1) if abs(s[best, best]) >= ALPHA * row else (best, 2)


def ldl_in_place(a: Array) -> tuple[Array, int]:
    """Factorise one symmetric matrix in place; return the pivots, and which is zero (0: none)."""
    n, k, info = len(a), 0, 0
    pivots = np.empty(n, INT)
    while k < n:
        s = a[k:, k:]
        if not s[:, 0].any():
            info = info or k + 1
            pivots[k] = k + 1
            k += 1
            continue
        p, size = choose(s)
        last = size - 1
        s[[last, p]] = s[[p, last]]
        s[:, [last, p]] = s[:, [p, last]]
        pivots[k : k + size] = (k + p + 1) * (1 if size == 1 else -1)
        below = s[size:, :size].copy()
        factor = np.linalg.solve(s[:size, :size], below.T).T
        s[size:, size:] -= factor @ below.T
        s[size:, :size] = factor
        k += size
    a[...] = np.tril(a)
    return pivots, info


def ldl_substitute(a: Array, pivots: Array, x: Array) -> None:
    """Solve one system in place."""
    n, k = len(a), 0
    starts = []
    while k < n:
        size = 1 if pivots[k] > 0 else 2
        starts.append((k, size))
        _exchange(x, k + size - 1, pivots[k])
        block = np.tril(a[k : k + size, k : k + size])
        x[k + size :] -= a[k + size :, k : k + size] @ x[k : k + size]
        x[k : k + size] = np.linalg.solve(block + np.tril(block, -1).T, x[k : k + size])
        k += size
    for k, size in reversed(starts):
        x[k : k + size] -= a[k + size :, k : k + size].T @ x[k + size :]
        _exchange(x, k + size - 1, pivots[k])


def _exchange(x: Array, row: int, pivot: int) -> None:
    other = abs(int(pivot)) - 1
    x[[row, other]] = x[[other, row]]


@op
class LdlFactor(MatrixOp):
    """a = L·D·Lᵀ for symmetric a, packed; its pivots; which of them is zero"""

    strict: bool
    name: ClassVar[str] = "linalg.ldl_factor"
    exempt: ClassVar[dict[str, str]] = {"gradients": "it has none, as in PyTorch"}

    def forward(self, xp: Any, a: Array) -> tuple[Array, Array, Array]:
        packed = np.tril(a) + np.tril(a, -1).swapaxes(-1, -2)
        pivots, info = np.empty(a.shape[:-1], INT), np.zeros(a.shape[:-2], INT)
        for i, one in zip(np.ndindex(*a.shape[:-2]), stacked(packed), strict=True):
            pivots[i], info[i] = ldl_in_place(one)
        if self.strict and info.any():
            raise Refused(f"{where_in(a.shape[:-2], info)} is singular: D has a zero block")
        return packed, pivots, info

    def infer(self, a: Spec) -> tuple[Spec, Spec, Spec]:
        self.matrix(a)
        return Spec(a.shape, a.dtype), Spec(a.shape[:-1], INT), Spec(a.shape[:-2], INT)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        x = rng.normal(size=(2, 4, 4))
        yield Case(cls(True), (x + x.swapaxes(-1, -2),))


@op
class LdlSolve(MatrixOp):
    """a·y = b from the factorisation of a"""

    name: ClassVar[str] = "linalg.ldl_solve"
    exempt: ClassVar[dict[str, str]] = {"gradients": "it has none, as in PyTorch"}

    def forward(self, xp: Any, packed: Array, pivots: Array, b: Array) -> Array:
        batch = np.broadcast_shapes(packed.shape[:-2], b.shape[:-2])
        out = np.broadcast_to(b, (*batch, *b.shape[-2:])).copy()
        packed = np.broadcast_to(packed, (*batch, *packed.shape[-2:]))
        pivots = np.broadcast_to(pivots, (*batch, pivots.shape[-1]))
        for i in np.ndindex(*batch):
            ldl_substitute(packed[i], pivots[i], out[i])
        return out

    def infer(self, packed: Spec, pivots: Spec, b: Spec) -> Spec:
        self.matrix(packed, "LD")
        if b.ndim < 2 or b.shape[-2] != packed.shape[-1] or pivots.shape != packed.shape[:-1]:
            raise Refused("LD, pivots and B differ in their numbers of rows")
        batch = broadcast_shapes(self.params, [packed.shape[:-2], (), b.shape[:-2]])
        return Spec((*batch, *b.shape[-2:]), b.dtype)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        a = np.tril(rng.normal(size=(2, 3, 3)))
        pivots = np.array([[2, 2, 3], [-3, -3, 3]], INT)
        yield Case(cls(), (a, pivots, rng.normal(size=(2, 3, 2))))


class LDLFactor(NamedTuple):
    """What `linalg.ldl_factor` returns."""

    LD: Tensor
    pivots: Tensor


class LDLFactorEx(NamedTuple):
    """What `linalg.ldl_factor_ex` returns."""

    LD: Tensor
    pivots: Tensor
    info: Tensor


def ldl_factor_ex(A: Tensor, *, hermitian: bool = False, check_errors: bool = False) -> LDLFactorEx:
    """As `ldl_factor`, but `info` says which block of D is zero (0: none is)."""
    return LDLFactorEx(*apply(LdlFactor(check_errors), A))


def ldl_factor(A: Tensor, *, hermitian: bool = False) -> LDLFactor:
    """A = P·L·D·Lᵀ·Pᵀ of a symmetric A, packed as `ldl_solve` takes it; without derivatives.

    Only the lower triangle is read; for real numbers `hermitian` means the same as symmetric.

    Shape: (…, n, n) -> (…, n, n), (…, n)

    Raises:
        OpError: a matrix is singular.
    """
    return LDLFactor(*apply(LdlFactor(True), A)[:2])


def ldl_solve(LD: Tensor, pivots: Tensor, B: Tensor, *, hermitian: bool = False) -> Tensor:
    """X with A·X = B, from `ldl_factor` of A; without derivatives.

    For real numbers `hermitian` means the same as symmetric.

    Shape: (…, n, n), (…, n), (…, n, k) -> (…, n, k)

    >>> import toumei as tm
    >>> packed, pivots = tm.linalg.ldl_factor(tm.tensor([[0.0, 2.0], [2.0, 0.0]]))
    >>> tm.linalg.ldl_solve(packed, pivots, tm.tensor([[2.0], [4.0]]))
    tensor([[2.],
            [1.]])
    """
    return apply(LdlSolve(), LD, pivots, B)
