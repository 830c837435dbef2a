"""Matrices taken apart: Cholesky, QR, eigenvalues, singular values.  LU is in pivoting.py.

Forward is LAPACK by way of NumPy; the derivatives are the published ones:
Giles (2008), "An extended collection of matrix derivative results"; Murray (2016),
"Differentiation of the Cholesky decomposition"; Walter and Lehmann (2010), "Algorithmic
differentiation of linear algebra functions" (QR); Townsend (2016), "Differentiating the singular
value decomposition"; eigenvectors and singular vectors of equal values have no derivative.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from ..errors import GradError, OpError
from ..op import Array, Case, Refused, Spec, op
from ..tape import apply, spec_of, wrap
from .combine import cat
from .creation import zeros_like
from .linalg import matmul
from .rearrange import diag_embed
from .triangular import INT, MatrixOp, copy_lower, stacked, upper_solve, where_in

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = ["cholesky", "geqrf", "qr", "svd"]

# --- Cholesky ------------------------------------------------------------------------------------


@op
class Cholesky(MatrixOp):
    """a = L·Lᵀ for symmetric positive definite matrices; info is 0, or the minor that isn't

    ∂a = ½ L⁻ᵀ·(Φ + Φᵀ)·L⁻¹ with Φ = tril(Lᵀ·gL), its diagonal halved
    """

    strict: bool  # refuse a matrix that isn't positive definite; else say so in info
    name: ClassVar[str] = "linalg.cholesky"
    exempt: ClassVar[dict[str, str]] = {
        "gradients": "it is that for symmetric changes; forward reads only the lower triangle",
    }

    def forward(self, xp: Any, a: Array) -> tuple[Array, Array]:
        try:
            return xp.linalg.cholesky(a), np.zeros(a.shape[:-2], INT)
        except np.linalg.LinAlgError:
            factors, info = zip(*map(_cholesky_as_far, stacked(a)), strict=True)
        orders = np.array(info, INT)
        if self.strict:
            raise Refused(
                f"{where_in(a.shape[:-2], orders)} is not positive definite: its leading minor of "
                f"order {orders[orders > 0][0]} isn't"
            )
        return np.stack(factors).reshape(a.shape), orders.reshape(a.shape[:-2])

    def infer(self, a: Spec) -> tuple[Spec, Spec]:
        self.matrix(a)
        return Spec(a.shape, a.dtype), Spec(a.shape[:-2], INT)

    def backward(self, gys: tuple[Tensor | None, ...], ys: tuple[Tensor, ...]) -> Tensor | None:
        g, factor = gys[0], ys[0]
        if g is None:
            return None
        inner = copy_lower(matmul(factor.mT, g)) / 2
        return upper_solve(factor.mT, upper_solve(factor.mT, inner).mT).mT

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        x = rng.normal(size=(2, 3, 3))
        yield Case(cls(True), (x @ x.swapaxes(-1, -2) + np.eye(3),))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls(True), (np.zeros((2, 3)),)), "has 2 rows, 3 columns"


def _cholesky_as_far(a: Array) -> tuple[Array, int]:
    """Return the factor of a matrix, and 0 or the order of the first minor that isn't positive."""
    for n in range(1, len(a) + 1):
        try:
            part = np.linalg.cholesky(a[:n, :n])
        except np.linalg.LinAlgError:
            out = np.tril(a)
            out[: n - 1, : n - 1] = np.linalg.cholesky(a[: n - 1, : n - 1])
            return out, n
    return part if len(a) else a, 0


class CholeskyEx(NamedTuple):
    """What `linalg.cholesky_ex` returns."""

    L: Tensor
    info: Tensor


def cholesky(input: Tensor, upper: bool = False) -> Tensor:
    """L with input = L·Lᵀ, for a symmetric positive definite input (`upper`: U with Uᵀ·U).

    Only the lower triangle is read; the derivative is that for symmetric changes.

    Shape: (…, n, n) -> (…, n, n)

    Raises:
        OpError: a matrix isn't positive definite.

    >>> import toumei as tm
    >>> tm.linalg.cholesky(tm.tensor([[4.0, 2.0], [2.0, 5.0]]))
    tensor([[2., 0.],
            [1., 2.]])
    """
    factor, _ = apply(Cholesky(True), input.mT if upper else input)
    return factor.mT if upper else factor


def cholesky_ex(input: Tensor, *, upper: bool = False, check_errors: bool = False) -> CholeskyEx:
    """As `cholesky`, but `info` says which leading minor isn't positive definite (0: all are)."""
    factor, info = apply(Cholesky(check_errors), input.mT if upper else input)
    return CholeskyEx(factor.mT if upper else factor, info)


# --- QR ------------------------------------------------------------------------------------------


@op
class Qr(MatrixOp):
    """a = Q·R with orthonormal columns of Q and upper triangular R

    ∂a = (gQ + Q·copyltu(R·gRᵀ − gQᵀ·Q))·R⁻ᵀ, where copyltu mirrors the lower triangle
    """

    complete: bool
    square: ClassVar[bool] = False
    name: ClassVar[str] = "linalg.qr"

    def forward(self, xp: Any, a: Array) -> tuple[Array, Array]:
        q, r = xp.linalg.qr(a, mode="complete" if self.complete else "reduced")
        return q, r

    def infer(self, a: Spec) -> tuple[Spec, Spec]:
        self.matrix(a)
        *batch, m, n = a.shape
        k = m if self.complete else min(m, n)
        return Spec((*batch, m, k), a.dtype), Spec((*batch, k, n), a.dtype)

    def backward(self, gys: tuple[Tensor | None, ...], ys: tuple[Tensor, ...]) -> Tensor:
        (gq, gr), (q, r) = gys, ys
        m, n = q.shape[-2], r.shape[-1]
        if self.complete and m > n:
            raise GradError(f"linalg.qr: the complete Q of a {m} x {n} matrix has no derivative")
        gq = zeros_like(q) if gq is None else gq
        gr = zeros_like(r) if gr is None else gr
        if m >= n:
            return _qr_tall(gq, gr, q, r)
        square, rest = r[..., :m], gr[..., m:]  # a = [X | Y] = Q·[U | V]: Y only meets V = Qᵀ·Y
        left = _qr_tall(gq + q @ r[..., m:] @ rest.mT, gr[..., :m], q, square)
        return cat([left, q @ rest], -1)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for shape in ((2, 4, 3), (3, 3), (2, 4)):
            yield Case(cls(False), (rng.normal(size=shape),))
        yield Case(cls(True), (rng.normal(size=(2, 3)),))


def _qr_tall(gq: Tensor, gr: Tensor, q: Tensor, r: Tensor) -> Tensor:
    """The gradient of a = Q·R for a square R."""
    inner = gq + q @ copy_lower(r @ gr.mT - gq.mT @ q)
    return upper_solve(r, inner.mT).mT


class QR(NamedTuple):
    """What `linalg.qr` returns."""

    Q: Tensor
    R: Tensor


def linalg_qr(A: Tensor, mode: str = "reduced") -> QR:
    """Q with orthonormal columns and upper triangular R, with A = Q·R.

    Args:
        mode: "reduced": Q is (n, min(n, m)); "complete": Q is (n, n); "r": R alone, Q is empty.

    Shape: (…, n, m) -> (…, n, k), (…, k, m)

    Raises:
        GradError: backward of mode="complete" for n > m.
    """
    if mode not in ("reduced", "complete", "r"):
        raise OpError(f"linalg.qr: mode must be 'reduced', 'complete' or 'r', not {mode!r}")
    q, r = apply(Qr(mode == "complete"), A)
    return QR(wrap(np.zeros(0, A.dtype)) if mode == "r" else q, r)


def qr(input: Tensor, some: bool = True) -> QR:
    """`linalg.qr` with mode="reduced", or "complete" with some=False."""
    return linalg_qr(input, "reduced" if some else "complete")


@op
class Geqrf(MatrixOp):
    """The reflectors and their factors that Q is the product of, as LAPACK packs them"""

    square: ClassVar[bool] = False

    def forward(self, xp: Any, a: Array) -> tuple[Array, Array]:
        packed, tau = xp.linalg.qr(a, mode="raw")
        return np.ascontiguousarray(packed.swapaxes(-1, -2)), tau

    def infer(self, a: Spec) -> tuple[Spec, Spec]:
        self.matrix(a)
        k = min(a.shape[-2:])
        return Spec(a.shape, a.dtype), Spec((*a.shape[:-2], k), a.dtype)

    exempt: ClassVar[dict[str, str]] = {"gradients": "it has none, as in PyTorch"}

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case(cls(), (rng.normal(size=(2, 4, 3)),))


class Packed(NamedTuple):
    """What `geqrf` returns."""

    a: Tensor
    tau: Tensor


def geqrf(input: Tensor) -> Packed:
    """R above the diagonal, below it the reflectors whose product is Q, and their factors tau.

    Shape: (…, n, m) -> (…, n, m), (…, min(n, m))
    """
    return Packed(*apply(Geqrf(), input))


# --- eigenvalues ---------------------------------------------------------------------------------


@op
class Eigh(MatrixOp):
    """a = V·diag(λ)·Vᵀ for symmetric matrices, λ ascending

    ∂a = V·(diag(gλ) + the symmetric part of (Vᵀ·gV)ᵢⱼ/(λⱼ − λᵢ))·Vᵀ
    """

    upper: bool
    name: ClassVar[str] = "linalg.eigh"
    exempt: ClassVar[dict[str, str]] = {
        "gradients": "it is that for symmetric changes; forward reads only one triangle",
    }

    def forward(self, xp: Any, a: Array) -> tuple[Array, Array]:
        values, vectors = xp.linalg.eigh(a, UPLO="U" if self.upper else "L")
        return values, vectors

    def infer(self, a: Spec) -> tuple[Spec, Spec]:
        self.matrix(a)
        return Spec(a.shape[:-1], a.dtype), Spec(a.shape, a.dtype)

    def backward(self, gys: tuple[Tensor | None, ...], ys: tuple[Tensor, ...]) -> Tensor:
        (g_values, g_vectors), (values, vectors) = gys, ys
        inner = None if g_values is None else diag_embed(g_values)
        if g_vectors is not None:
            turned = off_diagonal(vectors.mT @ g_vectors) / gaps(values)
            turned = (turned + turned.mT) / 2
            inner = turned if inner is None else inner + turned
        assert inner is not None
        return vectors @ inner @ vectors.mT

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        x = rng.normal(size=(2, 3, 3))
        yield Case(cls(False), (x + x.swapaxes(-1, -2),))
        yield Case(cls(True), (x + x.swapaxes(-1, -2),))


def gaps(values: Tensor) -> Tensor:
    """values[j] − values[i], and 1 on the diagonal.  Shape: (…, n) -> (…, n, n)"""
    eye = wrap(np.eye(values.shape[-1], dtype=values.dtype))
    return values.unsqueeze(-2) - values.unsqueeze(-1) + eye


def off_diagonal(x: Tensor) -> Tensor:
    """x with zeros on its diagonal."""
    return x.masked_fill(wrap(np.eye(x.shape[-1], dtype=bool)), 0)


class EighResult(NamedTuple):
    """What `linalg.eigh` returns."""

    eigenvalues: Tensor
    eigenvectors: Tensor


def eigh(A: Tensor, UPLO: str = "L") -> EighResult:
    """Eigenvalues, ascending, and eigenvectors (columns) of a symmetric A = V·diag(λ)·Vᵀ.

    Args:
        UPLO: the triangle that is read: "L" lower, "U" upper.

    Shape: (…, n, n) -> (…, n), (…, n, n)

    >>> import toumei as tm
    >>> tm.linalg.eigh(tm.tensor([[2.0, 0.0], [0.0, 1.0]])).eigenvalues
    tensor([1., 2.])
    """
    if UPLO.upper() not in ("L", "U"):
        raise OpError(f"linalg.eigh: UPLO must be 'L' or 'U', not {UPLO!r}")
    return EighResult(*apply(Eigh(UPLO.upper() == "U"), A))


def eigvalsh(A: Tensor, UPLO: str = "L") -> Tensor:
    """Eigenvalues, ascending, of a symmetric A.  Shape: (…, n, n) -> (…, n)"""
    return eigh(A, UPLO).eigenvalues


def eig(A: Tensor) -> Tensor:
    """Refused: eigenvalues of any matrix are complex, and there are no complex numbers.

    Raises:
        OpError: always; for symmetric matrices see `eigh`.
    """
    raise OpError(
        f"linalg.eig({spec_of(A)}): eigenvalues of a matrix that isn't symmetric are complex, and "
        "there is no complex dtype. For a symmetric matrix use linalg.eigh or linalg.eigvalsh"
    )


eigvals = eig


# --- singular values -----------------------------------------------------------------------------


@op
class Svd(MatrixOp):
    """a = U·diag(s)·Vᵀ with orthonormal columns of U and V, s descending

    ∂a = U·(skew(Uᵀ·gU)/E·S + S·skew(Vᵀ·gV)/E + diag(gs))·Vᵀ
         + (1 − U·Uᵀ)·gU·S⁻¹·Vᵀ + U·S⁻¹·gVᵀ·(1 − V·Vᵀ),   Eᵢⱼ = sⱼ² − sᵢ², skew(x) = x − xᵀ
    """

    full: bool
    square: ClassVar[bool] = False
    name: ClassVar[str] = "linalg.svd"

    def forward(self, xp: Any, a: Array) -> tuple[Array, Array, Array]:
        u, s, vt = xp.linalg.svd(a, full_matrices=self.full)
        return u, s, vt

    def infer(self, a: Spec) -> tuple[Spec, Spec, Spec]:
        self.matrix(a)
        *batch, m, n = a.shape
        k = min(m, n)
        u, v = (m, n) if self.full else (k, k)
        shapes = (*batch, m, u), (*batch, k), (*batch, v, n)
        return tuple(Spec(s, a.dtype) for s in shapes)  # type: ignore[return-value]

    def backward(self, gys: tuple[Tensor | None, ...], ys: tuple[Tensor, ...]) -> Tensor:
        k = ys[1].shape[-1]
        u, s, vt = ys[0][..., :k], ys[1], ys[2][..., :k, :]
        gu, gs, gvt = gys
        inner = zeros_like(u[..., :k, :]) if gs is None else diag_embed(gs)
        row, turn = s.unsqueeze(-2), gaps(s * s)
        outer = None
        if gu is not None:
            gu = gu[..., :k]
            inner = inner + _skew(u.mT @ gu) / turn * row
            outer = _outside(gu / row, u) @ vt
        if gvt is not None:
            gv = gvt[..., :k, :].mT
            inner = inner + s.unsqueeze(-1) * _skew(vt @ gv) / turn
            part = u @ _outside(gv / row, vt.mT).mT
            outer = part if outer is None else outer + part
        g = u @ inner @ vt
        return g if outer is None else g + outer

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for shape in ((2, 3, 3), (4, 2), (2, 4)):
            yield Case(cls(False), (rng.normal(size=shape),))


def _skew(x: Tensor) -> Tensor:
    return x - x.mT


def _outside(x: Tensor, basis: Tensor) -> Tensor:
    """The part of x that is orthogonal to the columns of `basis`."""
    return x - basis @ (basis.mT @ x)


@op
class SingularValues(MatrixOp):
    """s of a = U·diag(s)·Vᵀ;   ∂a = U·diag(gs)·Vᵀ"""

    square: ClassVar[bool] = False
    name: ClassVar[str] = "linalg.svdvals"

    def forward(self, xp: Any, a: Array) -> Array:
        return xp.linalg.svd(a, compute_uv=False)

    def infer(self, a: Spec) -> Spec:
        self.matrix(a)
        return Spec((*a.shape[:-2], min(a.shape[-2:])), a.dtype)

    def backward(self, gy: Tensor, a: Tensor) -> Tensor:
        u, _, vt = apply(Svd(False), a)
        return (u * gy.unsqueeze(-2)) @ vt

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for shape in ((2, 3, 3), (4, 2)):
            yield Case(cls(), (rng.normal(size=shape),))


class LinalgSVD(NamedTuple):
    """What `linalg.svd` returns."""

    U: Tensor
    S: Tensor
    Vh: Tensor


class SVD(NamedTuple):
    """What `svd` returns."""

    U: Tensor
    S: Tensor
    V: Tensor


def linalg_svd(A: Tensor, full_matrices: bool = True, *, driver: str | None = None) -> LinalgSVD:
    """Singular vectors and, descending, singular values: A = U·diag(S)·Vh.

    Derivatives with respect to columns of U and rows of Vh beyond min(n, m) are taken as 0.

    Shape: (…, n, m) -> (…, n, n or k), (…, k), (…, m or k, m) with k = min(n, m)
    """
    if driver is not None:
        raise OpError("linalg.svd: driver= chooses among CUDA libraries; there is only LAPACK")
    return LinalgSVD(*apply(Svd(full_matrices), A))


def svd(input: Tensor, some: bool = True, compute_uv: bool = True) -> SVD:
    """As `linalg.svd`, but V isn't transposed; without `compute_uv` U and V are zeros."""
    if compute_uv:
        u, s, vt = apply(Svd(not some), input)
        return SVD(u, s, vt.mT)
    n, m = input.shape[-2:]
    u, v = (input.new_zeros((*input.shape[:-2], size, size)) for size in (n, m))
    return SVD(u, svdvals(input), v)


def svdvals(A: Tensor, *, driver: str | None = None) -> Tensor:
    """Singular values, descending.  Shape: (…, n, m) -> (…, min(n, m))"""
    if driver is not None:
        raise OpError("linalg.svdvals: driver= chooses among CUDA libraries; there is only LAPACK")
    return apply(SingularValues(), A)
