"""Triangular systems, and what a Cholesky factor is used for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from ..op import Array, Case, Op, Refused, RefusedType, Spec, broadcast_shapes, op
from ..tape import apply, wrap
from .linalg import matmul
from .rearrange import tril, triu

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = ["cholesky_inverse", "cholesky_solve", "triangular_solve"]

INT = np.dtype(np.int32)
BLOCK = 32  # rows that are solved one by one before a matrix product takes them on


class MatrixOp(Op):
    """Works on the last two dimensions; the others are a batch."""

    square: ClassVar[bool] = True

    def matrix(self, a: Spec, name: str = "it") -> None:
        """Refuse what is no (square) floating matrix."""
        if a.ndim < 2:
            raise Refused(f"{name} must be a matrix or a batch of them, it has {a.ndim} dimensions")
        if self.square and a.shape[-1] != a.shape[-2]:
            raise Refused(
                f"{name} must be square, but has {a.shape[-2]} rows, {a.shape[-1]} columns"
            )
        if a.dtype.kind != "f":
            raise RefusedType(f"{name} must hold floats, not {a.dtype}")

    def check(self, *arrays: Array) -> None:
        """Let `infer` look at every call: NumPy takes integers and says little of shapes."""
        self.infer(*(Spec(a.shape, a.dtype) for a in arrays))


def stacked(a: Array) -> Array:
    """Return a batch of matrices with one batch dimension."""
    return a.reshape(math.prod(a.shape[:-2]), *a.shape[-2:])


def where_in(batch: tuple[int, ...], bad: Array) -> str:
    """Say which matrix of a batch is the first bad one."""
    first = np.unravel_index(int(np.flatnonzero(bad)[0]), batch) if batch else ()
    return f"matrix {tuple(map(int, first))} of the batch" if batch else "the matrix"


def well_conditioned(rng: np.random.Generator, *shape: int) -> Array:
    """Return random matrices far from singular ones: for samples."""
    return rng.uniform(-0.5, 0.5, shape) + 2 * np.eye(shape[-2], shape[-1])


def substitute(a: Array, b: Array, unit: bool) -> Array:
    """Solve a·x = b for lower triangular matrices, by forward substitution in blocks."""
    n = a.shape[-1]
    x = b.copy()
    for start in range(0, n, BLOCK):
        end = min(start + BLOCK, n)
        for i in range(start, end):
            x[..., i, :] -= (a[..., i, None, start:i] @ x[..., start:i, :])[..., 0, :]
            if not unit:
                x[..., i, :] /= a[..., i, i, None]
        x[..., end:, :] -= a[..., end:, start:end] @ x[..., start:end, :]
    return x


@op
class SolveTriangular(MatrixOp):
    """a·y = b with a triangular;   ∂b = a⁻ᵀ·gy, ∂a = the triangle of −∂b·yᵀ"""

    upper: bool
    unit: bool  # take ones for the diagonal, whatever is there
    name: ClassVar[str] = "linalg.solve_triangular"
    broadcasts: ClassVar[bool] = True

    def forward(self, xp: Any, a: Array, b: Array) -> Array:
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        b = np.broadcast_to(b, (*batch, *b.shape[-2:]))
        if not self.upper:
            return substitute(a, b, self.unit)
        flipped = substitute(a[..., ::-1, ::-1], b[..., ::-1, :], self.unit)
        return np.ascontiguousarray(flipped[..., ::-1, :])

    def infer(self, a: Spec, b: Spec) -> Spec:
        self.matrix(a, "a")
        if b.ndim < 2 or b.shape[-2] != a.shape[-1]:
            raise Refused(f"a has {a.shape[-1]} columns, which b's shape {b.shape} doesn't fit")
        if a.dtype != b.dtype:
            raise RefusedType(f"a is {a.dtype}, but b is {b.dtype}")
        batch = broadcast_shapes(self.params, [a.shape[:-2], b.shape[:-2]])
        return Spec((*batch, *b.shape[-2:]), b.dtype)

    def backward_a(self, gy: Tensor, a: Tensor, y: Tensor) -> Tensor:
        g = -matmul(self._transposed(a, gy), y.mT)
        edge = int(self.unit)  # a diagonal that isn't read has no gradient
        return triu(g, edge) if self.upper else tril(g, -edge)

    def backward_b(self, gy: Tensor, a: Tensor) -> Tensor:
        return self._transposed(a, gy)

    def _transposed(self, a: Tensor, b: Tensor) -> Tensor:
        return apply(SolveTriangular(not self.upper, self.unit), a.mT, b)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for upper in (False, True):
            for unit in (False, True):
                a = well_conditioned(rng, 2, 4, 4)
                yield Case(cls(upper, unit), (a, rng.normal(size=(2, 4, 3))))
        yield Case(cls(True, False), (well_conditioned(rng, 3, 3), rng.normal(size=(2, 3, 1))))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls(True, False), (np.zeros((2, 3)), np.zeros((2, 1)))), "has 2 rows, 3 columns"
        yield Case(cls(True, False), (np.eye(2), np.zeros((3, 1)))), "a has 2 columns"


def copy_lower(x: Tensor) -> Tensor:
    """The symmetric matrix with the lower triangle of x."""
    return tril(x) + tril(x, -1).mT


def upper_solve(a: Tensor, b: Tensor) -> Tensor:
    """Solve a·y = b for an upper triangular a."""
    return apply(SolveTriangular(True, False), a, b)


def solve_triangular(
    A: Tensor, B: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Tensor:
    """X with A·X = B (or X·A = B with left=False) for a triangular A.

    Only the triangle that `upper` says is read; `unitriangular` takes ones for the diagonal.

    Shape: (…, n, n), (…, n, k) -> (…, n, k)
    """
    if left:
        return apply(SolveTriangular(upper, unitriangular), A, B)
    return apply(SolveTriangular(not upper, unitriangular), A.mT, B.mT).mT


class TriangularSolve(NamedTuple):
    """What `triangular_solve` returns."""

    solution: Tensor
    cloned_coefficient: Tensor


def triangular_solve(
    b: Tensor, A: Tensor, upper: bool = True, transpose: bool = False, unitriangular: bool = False
) -> TriangularSolve:
    """X with A·X = b (Aᵀ·X = b with `transpose`) for a triangular A, and a copy of A.

    Shape: (…, n, k), (…, n, n) -> (…, n, k), (…, n, n)
    """
    a, up = (A.mT, not upper) if transpose else (A, upper)
    batch = np.broadcast_shapes(A.shape[:-2], b.shape[:-2])
    x = apply(SolveTriangular(up, unitriangular), a, b)
    return TriangularSolve(x, A.expand(*batch, *A.shape[-2:]).clone())


@op
class CholeskySolve(MatrixOp):
    """(l·lᵀ)·y = b;   ∂b = z = (l·lᵀ)⁻¹·gy, ∂l = −(z·yᵀ + y·zᵀ)·l"""

    broadcasts: ClassVar[bool] = True
    exempt: ClassVar[dict[str, str]] = {
        "gradient of l": "PyTorch's: that of l·lᵀ, also for what isn't read",
    }

    def forward(self, xp: Any, b: Array, l: Array) -> Array:
        lower = SolveTriangular(False, False).forward(xp, l, b)
        return SolveTriangular(True, False).forward(xp, l.swapaxes(-1, -2), lower)

    def infer(self, b: Spec, l: Spec) -> Spec:
        return SolveTriangular(False, False).infer(l, b)

    def backward_b(self, gy: Tensor, l: Tensor) -> Tensor:
        return apply(self, gy, l)

    def backward_l(self, gy: Tensor, l: Tensor, y: Tensor) -> Tensor:
        half = matmul(apply(self, gy, l), y.mT)
        return -matmul(half + half.mT, l)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case(cls(), (rng.normal(size=(2, 3, 2)), well_conditioned(rng, 3, 3)))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls(), (np.zeros((3, 1)), np.eye(2))), "a has 2 columns"


def cholesky_solve(B: Tensor, L: Tensor, upper: bool = False) -> Tensor:
    """X with A·X = B, from the Cholesky factor of A = L·Lᵀ (= Lᵀ·L with `upper`).

    Shape: (…, n, k), (…, n, n) -> (…, n, k)
    """
    return apply(CholeskySolve(), B, L.mT if upper else L)


def cholesky_inverse(L: Tensor, upper: bool = False) -> Tensor:
    """A⁻¹, from the Cholesky factor of A = L·Lᵀ (= Lᵀ·L with `upper`).

    Shape: (…, n, n) -> (…, n, n)
    """
    return cholesky_solve(wrap(np.eye(L.shape[-1], dtype=L.dtype)), L, upper)
