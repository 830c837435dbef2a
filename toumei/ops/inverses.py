"""Inverses, determinants and systems of equations; powers and the exponential of a matrix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from ..errors import OpError
from ..op import Array, Case, Refused, RefusedType, Spec, broadcast_shapes, op
from ..tape import apply, spec_of, wrap
from .combine import cat
from .linalg import matmul
from .pivoting import lu_in_place
from .triangular import INT, MatrixOp, stacked, well_conditioned, where_in

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = ["det", "inverse", "logdet", "matrix_exp", "matrix_power", "slogdet"]


def zero_pivots(a: Array) -> Array:
    """Return for each matrix 0, or which pivot of its LU factorisation is the first zero."""
    return lu_in_place(stacked(a).copy())[1].reshape(a.shape[:-2])


def singular(a: Array) -> Refused:
    """Return the refusal that names the singular matrix."""
    info = zero_pivots(a)
    if not info.any():
        return Refused("a matrix is singular")
    return Refused(
        f"{where_in(a.shape[:-2], info)} is singular: pivot {info[info > 0][0]} of its LU "
        "factorisation is zero"
    )


def solve_each(a: Array, b: Array) -> Array:
    """Solve matrix by matrix; singular ones give infinities."""
    out = np.empty(b.shape, b.dtype)
    for i, (one, right) in enumerate(zip(stacked(a), stacked(b), strict=True)):
        try:
            stacked(out)[i] = np.linalg.solve(one, right)
        except np.linalg.LinAlgError:
            stacked(out)[i] = np.inf
    return out


# --- solving -------------------------------------------------------------------------------------


@op
class Solve(MatrixOp):
    """a·y = b; info is 0, or which pivot of a is zero;   ∂b = a⁻ᵀ·gy, ∂a = −∂b·yᵀ"""

    strict: bool  # refuse singular matrices; else say so in info
    name: ClassVar[str] = "linalg.solve"
    broadcasts: ClassVar[bool] = True

    def forward(self, xp: Any, a: Array, b: Array) -> tuple[Array, Array]:
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        try:
            return xp.linalg.solve(a, b), np.zeros(a.shape[:-2], INT)
        except np.linalg.LinAlgError:
            if self.strict:
                raise singular(a) from None
        wide = np.broadcast_to(a, (*batch, *a.shape[-2:]))
        return solve_each(wide, np.broadcast_to(b, (*batch, *b.shape[-2:]))), zero_pivots(a)

    def infer(self, a: Spec, b: Spec) -> tuple[Spec, Spec]:
        self.matrix(a, "a")
        if b.ndim < 2 or b.shape[-2] != a.shape[-1]:
            raise Refused(f"a has {a.shape[-1]} columns, which b's shape {b.shape} doesn't fit")
        if a.dtype != b.dtype:
            raise RefusedType(f"a is {a.dtype}, but b is {b.dtype}")
        batch = broadcast_shapes(self.params, [a.shape[:-2], b.shape[:-2]])
        return Spec((*batch, *b.shape[-2:]), b.dtype), Spec(a.shape[:-2], INT)

    def backward_a(
        self, gys: tuple[Tensor | None, ...], a: Tensor, ys: tuple[Tensor, ...]
    ) -> Tensor | None:
        g = self.backward_b(gys, a)
        return None if g is None else -matmul(g, ys[0].mT)

    def backward_b(self, gys: tuple[Tensor | None, ...], a: Tensor) -> Tensor | None:
        return None if gys[0] is None else apply(Solve(True), a.mT, gys[0])[0]

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for a, b in (((3, 3), (3, 2)), ((2, 3, 3), (3, 1)), ((3, 3), (2, 3, 2))):
            yield Case(cls(True), (well_conditioned(rng, *a), rng.normal(size=b)))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls(True), (np.eye(2), np.zeros((3, 1)))), "a has 2 columns"


class SolveEx(NamedTuple):
    """What `linalg.solve_ex` returns."""

    result: Tensor
    info: Tensor


def solve(A: Tensor, B: Tensor, *, left: bool = True) -> Tensor:
    """X with A·X = B (X·A = B with left=False).

    B may hold vectors: it does if it has one dimension, or one less than A and the same sizes.

    Shape: (…, n, n), (…, n, k) or (…, n) -> (…, n, k) or (…, n)

    Raises:
        OpError: a matrix is singular.

    >>> import toumei as tm
    >>> tm.linalg.solve(tm.tensor([[2.0, 0.0], [0.0, 4.0]]), tm.tensor([2.0, 2.0]))
    tensor([1. , 0.5])
    """
    return _solve("linalg.solve", A, B, left, True)[0]


def solve_ex(A: Tensor, B: Tensor, *, left: bool = True, check_errors: bool = False) -> SolveEx:
    """As `solve`, but `info` says which pivot of A is zero (0: none is)."""
    return SolveEx(*_solve("linalg.solve_ex", A, B, left, check_errors))


def _solve(name: str, a: Tensor, b: Tensor, left: bool, strict: bool) -> tuple[Tensor, Tensor]:
    vector = b.ndim == 1 or (b.ndim == a.ndim - 1 and b.shape == a.shape[:-1])
    if vector and not left:
        raise OpError(f"{name}({spec_of(a)}, {spec_of(b)}): left=False needs a matrix B")
    if vector:
        x, info = apply(Solve(strict), a, b.unsqueeze(-1))
        return x.squeeze(-1), info
    if left:
        return apply(Solve(strict), a, b)
    x, info = apply(Solve(strict), a.mT, b.mT)
    return x.mT, info


# --- inverse -------------------------------------------------------------------------------------


@op
class Inverse(MatrixOp):
    """y = a⁻¹; info is 0, or which pivot of a is zero;   ∂a = −yᵀ·gy·yᵀ"""

    strict: bool  # refuse singular matrices; else say so in info
    name: ClassVar[str] = "linalg.inv"

    def forward(self, xp: Any, a: Array) -> tuple[Array, Array]:
        try:
            return xp.linalg.inv(a), np.zeros(a.shape[:-2], INT)
        except np.linalg.LinAlgError:
            if self.strict:
                raise singular(a) from None
        eye = np.broadcast_to(np.eye(a.shape[-1], dtype=a.dtype), a.shape)
        return solve_each(a, eye), zero_pivots(a)

    def infer(self, a: Spec) -> tuple[Spec, Spec]:
        self.matrix(a)
        return Spec(a.shape, a.dtype), Spec(a.shape[:-2], INT)

    def backward(self, gys: tuple[Tensor | None, ...], ys: tuple[Tensor, ...]) -> Tensor | None:
        y = ys[0].mT
        return None if gys[0] is None else -matmul(matmul(y, gys[0]), y)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case(cls(True), (well_conditioned(rng, 2, 3, 3),))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls(True), (np.zeros((2, 3)),)), "has 2 rows, 3 columns"


class InvEx(NamedTuple):
    """What `linalg.inv_ex` returns."""

    inverse: Tensor
    info: Tensor


def inv(A: Tensor) -> Tensor:
    """A⁻¹.  Shape: (…, n, n) -> (…, n, n)

    Raises:
        OpError: a matrix is singular.
    """
    return apply(Inverse(True), A)[0]


def inverse(input: Tensor) -> Tensor:
    """input⁻¹, another name of `linalg.inv`.  Shape: (…, n, n) -> (…, n, n)"""
    return inv(input)


def inv_ex(A: Tensor, *, check_errors: bool = False) -> InvEx:
    """As `inv`, but `info` says which pivot of A is zero (0: none is)."""
    return InvEx(*apply(Inverse(check_errors), A))


def tensorinv(A: Tensor, ind: int = 2) -> Tensor:
    """The inverse for `tensordot`: A's first `ind` dimensions are rows, the others columns.

    Shape: (a…, b…) -> (b…, a…), where a… and b… hold as many elements
    """
    if ind <= 0:
        raise OpError(f"linalg.tensorinv: ind must be positive, not {ind}")
    rows, columns = A.shape[:ind], A.shape[ind:]
    n, m = (int(np.prod(s, dtype=np.int64)) for s in (rows, columns))
    if n != m:
        raise OpError(f"linalg.tensorinv({spec_of(A)}): {n} rows, but {m} columns")
    return inv(A.reshape(n, m)).reshape(*columns, *rows)


def tensorsolve(A: Tensor, B: Tensor, dims: Sequence[int] | None = None) -> Tensor:
    """X with tensordot(A, X, X.ndim) = B.

    Args:
        dims: dimensions of A that are moved to its end first.

    Shape: (b…, x…), (b…) -> (x…)
    """
    if dims is not None:
        A = A.movedim(tuple(dims), tuple(range(A.ndim - len(dims), A.ndim)))
    shape = A.shape[B.ndim :]
    n, m = B.numel(), int(np.prod(shape, dtype=np.int64))
    if n != m or A.numel() != n * m:
        raise OpError(
            f"linalg.tensorsolve({spec_of(A)}, {spec_of(B)}): {n} equations, {m} unknowns"
        )
    return solve(A.reshape(n, m), B.reshape(n)).reshape(shape)


# --- determinant ---------------------------------------------------------------------------------


@op
class Det(MatrixOp):
    """y = det a;   ∂a = gy·C, the cofactors: C = det(a)·a⁻ᵀ where a is invertible"""

    name: ClassVar[str] = "linalg.det"

    def forward(self, xp: Any, a: Array) -> Array:
        return xp.linalg.det(a)

    def infer(self, a: Spec) -> Spec:
        self.matrix(a)
        return Spec(a.shape[:-2], a.dtype)

    def backward(self, gy: Tensor, a: Tensor) -> Tensor:
        return gy.unsqueeze(-1).unsqueeze(-1) * apply(Cofactors(), a)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case(cls(), (well_conditioned(rng, 2, 3, 3),))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls(), (np.zeros((2, 3)),)), "has 2 rows, 3 columns"


@op
class Cofactors(MatrixOp):
    """C = ∂(det a)/∂a = det(U·V)·U·diag(∏ⱼ≠ᵢ sⱼ)·V of a = U·diag(s)·V: right for singular a too

    ∂a = det(a)·(⟨gC, Y⟩·Y − Y·gCᵀ·Y) with Y = a⁻ᵀ, for an invertible a
    """

    def forward(self, xp: Any, a: Array) -> Array:
        u, s, vt = xp.linalg.svd(a)
        n = a.shape[-1]
        others = np.where(np.eye(n, dtype=bool), 1, s[..., None, :]).prod(axis=-1)
        sign = xp.linalg.det(u) * xp.linalg.det(vt)
        return (u * (others * np.round(sign)[..., None])[..., None, :]) @ vt

    def infer(self, a: Spec) -> Spec:
        self.matrix(a)
        return Spec(a.shape, a.dtype)

    def backward(self, gy: Tensor, a: Tensor) -> Tensor:
        y = inv(a).mT
        inner = (gy * y).sum((-2, -1), keepdim=True)
        size = det(a).unsqueeze(-1).unsqueeze(-1)
        return size * (inner * y - matmul(matmul(y, gy.mT), y))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case(cls(), (well_conditioned(rng, 2, 3, 3),))


@op
class Slogdet(MatrixOp):
    """sign(det a) and ln|det a|;   ∂a = a⁻ᵀ·g of the second"""

    name: ClassVar[str] = "linalg.slogdet"

    def forward(self, xp: Any, a: Array) -> tuple[Array, Array]:
        sign, log = xp.linalg.slogdet(a)
        return sign, log

    def infer(self, a: Spec) -> tuple[Spec, Spec]:
        self.matrix(a)
        return Spec(a.shape[:-2], a.dtype), Spec(a.shape[:-2], a.dtype)

    def backward(self, gys: tuple[Tensor | None, ...], a: Tensor) -> Tensor | None:
        g = gys[1]
        return None if g is None else g.unsqueeze(-1).unsqueeze(-1) * inv(a).mT

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case(cls(), (well_conditioned(rng, 2, 3, 3),))


class SlogdetResult(NamedTuple):
    """What `slogdet` returns."""

    sign: Tensor
    logabsdet: Tensor


def det(A: Tensor) -> Tensor:
    """Determinant.  Shape: (…, n, n) -> (…)

    >>> import toumei as tm
    >>> tm.linalg.det(tm.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor(-2.)
    """
    return apply(Det(), A)


def slogdet(A: Tensor) -> SlogdetResult:
    """Sign of the determinant and logarithm of its magnitude.  Shape: (…, n, n) -> (…), (…)"""
    return SlogdetResult(*apply(Slogdet(), A))


def logdet(input: Tensor) -> Tensor:
    """Logarithm of the determinant; NaN where that is negative.  Shape: (…, n, n) -> (…)"""
    sign, log = slogdet(input)
    return log.masked_fill(sign == -1, float("nan"))


# --- powers --------------------------------------------------------------------------------------


def matrix_power(input: Tensor, n: int) -> Tensor:
    """input·input·…·input, n times; the inverse's power for negative n.

    Shape: (…, m, m) -> (…, m, m)
    """
    if input.ndim < 2 or input.shape[-1] != input.shape[-2]:
        raise OpError(f"matrix_power({spec_of(input)}): it takes square matrices")
    if n < 0:
        return matrix_power(inv(input), -n)
    if n == 0:
        return input * 0 + wrap(np.eye(input.shape[-1], dtype=input.dtype))
    if n == 1:
        return input.clone()
    half = matrix_power(input, n // 2)
    even = matmul(half, half)
    return matmul(even, input) if n % 2 else even


# Coefficients of the Padé approximant of degree 13, and the norm up to which it is accurate.
PADE = (
    64764752532480000, 32382376266240000, 7771770303897600, 1187353796428800, 129060195264000,
    10559470521600, 670442572800, 33522128640, 1323241920, 40840800, 960960, 16380, 182, 1,
)  # fmt: skip
PADE_NORM = 5.371920351148152


@op
class MatrixExp(MatrixOp):
    """y = Σ aᵏ/k!;   ∂a = the upper right block of exp [[aᵀ, gy], [0, aᵀ]]

    Scaling and squaring with a Padé approximant: Higham (2005), "The scaling and squaring method
    for the matrix exponential revisited".
    """

    name: ClassVar[str] = "linalg.matrix_exp"

    def forward(self, xp: Any, a: Array) -> Array:
        if a.size == 0:
            return a.copy()
        norm = xp.abs(a).sum(axis=-2).max(axis=-1)
        halvings = xp.maximum(xp.ceil(xp.log2(xp.maximum(norm, 1e-300) / PADE_NORM)), 0)
        halvings = xp.where(xp.isfinite(halvings), halvings, 0)[..., None, None].astype(a.dtype)
        x = pade(a / 2**halvings)
        for i in range(int(halvings.max())):
            x = xp.where(i < halvings, x @ x, x)
        return x

    def infer(self, a: Spec) -> Spec:
        self.matrix(a)
        return Spec(a.shape, a.dtype)

    def backward(self, gy: Tensor, a: Tensor) -> Tensor:
        n = a.shape[-1]
        zero = gy.new_zeros(a.shape)
        block = cat([cat([a.mT, gy], -1), cat([zero, a.mT], -1)], -2)
        return apply(self, block)[..., :n, n:]

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case(cls(), (rng.normal(size=(2, 3, 3)),))
        yield Case(cls(), (rng.normal(size=(2, 2)) * 5,))


def pade(a: Array) -> Array:
    """Return the Padé approximant of degree 13 of exp a."""
    eye = np.eye(a.shape[-1], dtype=a.dtype)
    a2 = a @ a
    a4 = a2 @ a2
    a6 = a4 @ a2
    b = PADE
    u = a6 @ (b[13] * a6 + b[11] * a4 + b[9] * a2) + b[7] * a6 + b[5] * a4 + b[3] * a2 + b[1] * eye
    v = a6 @ (b[12] * a6 + b[10] * a4 + b[8] * a2) + b[6] * a6 + b[4] * a4 + b[2] * a2 + b[0] * eye
    u = a @ u
    return np.linalg.solve(v - u, v + u)


def matrix_exp(A: Tensor) -> Tensor:
    """exp A = Σ Aᵏ/k! of square matrices.  Shape: (…, n, n) -> (…, n, n)"""
    return apply(MatrixExp(), A)


def vander(x: Tensor, *, N: int | None = None) -> Tensor:
    """Rows of powers: 1, xᵢ, xᵢ², … up to N − 1 (default: as many as x has).

    Shape: (…, n) -> (…, n, N)
    """
    x = x.reshape(1) if x.ndim == 0 else x
    count = x.shape[-1] if N is None else N
    if count <= 1:
        raise OpError(f"linalg.vander: N must be greater than 1, not {count}")
    ones = x.new_ones((*x.shape, 1))
    powers = x.unsqueeze(-1).expand(*x.shape, count - 1).cumprod(-1)
    return cat([ones, powers], -1)
