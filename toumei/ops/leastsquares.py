"""Pseudo-inverse, rank, least squares; products of Householder reflectors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from ..errors import OpError
from ..op import Array, Case, Spec, op
from ..tape import Value, apply, spec_of, wrap
from ..traced import numbers_of
from .decompositions import eigvalsh, svdvals
from .linalg import matmul
from .rearrange import tril
from .triangular import MatrixOp

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = ["orgqr", "ormqr", "pinverse"]


@op
class PseudoInverse(MatrixOp):
    """y = V·diag(1/s)·Uᵀ of a = U·diag(s)·Vᵀ; a singular value up to max(atol, rtol·s₀) counts as 0

    ∂a = −yᵀ·gy·yᵀ + (1 − a·y)·gyᵀ·y·yᵀ + yᵀ·y·gyᵀ·(1 − y·a): Golub and Pereyra (1973), "The
    differentiation of pseudo-inverses …"
    """

    symmetric: bool  # read the lower triangle alone
    square: ClassVar[bool] = False
    name: ClassVar[str] = "linalg.pinv"

    def forward(self, xp: Any, a: Array, atol: Array, rtol: Array) -> Array:
        if a.size == 0:
            return np.zeros((*a.shape[:-2], a.shape[-1], a.shape[-2]), a.dtype)
        if self.symmetric:
            a = np.tril(a) + np.tril(a, -1).swapaxes(-1, -2)
        u, s, vt = xp.linalg.svd(a, full_matrices=False)
        small = s <= xp.maximum(atol, rtol * s[..., 0])[..., None]
        inverse = xp.where(small, 0, 1 / xp.where(small, 1, s)).astype(a.dtype)
        return (vt.swapaxes(-1, -2) * inverse[..., None, :]) @ u.swapaxes(-1, -2)

    def infer(self, a: Spec, atol: Spec, rtol: Spec) -> Spec:
        self.matrix(a)
        return Spec((*a.shape[:-2], a.shape[-1], a.shape[-2]), a.dtype)

    def backward_a(self, gy: Tensor, a: Tensor, y: Tensor) -> Tensor:
        yt, gt = y.mT, gy.mT
        left = matmul(gt, matmul(y, yt))
        right = matmul(matmul(yt, y), gt)
        outside = left - matmul(a, matmul(y, left)) + right - matmul(matmul(right, y), a)
        return outside - matmul(matmul(yt, gy), yt)

    exempt: ClassVar[dict[str, str]] = {
        "gradient of atol": "y is constant in it, but for jumps",
        "gradient of rtol": "y is constant in it, but for jumps",
    }

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        none = np.zeros(())
        for shape in ((2, 3, 3), (4, 2), (2, 4)):
            yield Case(cls(False), (rng.normal(size=shape), none, none + 1e-10))


def tolerances(A: Tensor, atol: Any, rtol: Any) -> tuple[Any, Any]:
    """Return atol and rtol, with PyTorch's defaults: 0, and ε·max(n, m) unless atol is given."""
    if rtol is None:
        given = atol is not None and not (isinstance(atol, float | int) and atol <= 0)
        eps = float(np.finfo(A.dtype).eps) * max(A.shape[-2:])
        rtol = eps
        if given:
            a = numbers_of("atol", atol) if isinstance(atol, Value) else np.asarray(atol)
            rtol = np.where(a > 0, 0.0, eps)
    return (0.0 if atol is None else atol), rtol


def pinv(
    A: Tensor, rcond: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None
) -> Tensor:
    """Pseudo-inverse (Moore and Penrose): singular values up to max(atol, rtol·s₀) count as 0.

    Args:
        rcond: another name for rtol.
        hermitian: A is symmetric: only its lower triangle is read.
        atol, rtol: numbers, or tensors with one for each matrix (default: 0 and ε·max(n, m)).

    Shape: (…, n, m) -> (…, m, n)
    """
    atol, rtol = tolerances(A, atol, rcond if rtol is None else rtol)
    return apply(PseudoInverse(hermitian), A, _plain(atol, A), _plain(rtol, A))


def _plain(tolerance: Any, A: Tensor) -> Any:
    array = (
        numbers_of("the tolerance", tolerance)
        if isinstance(tolerance, Value)
        else np.asarray(tolerance)
    )
    return wrap(array.astype(A.dtype))


def pinverse(input: Tensor, rcond: float = 1e-15) -> Tensor:
    """Pseudo-inverse: `linalg.pinv` with rtol = rcond.  Shape: (…, n, m) -> (…, m, n)"""
    return pinv(input, rtol=rcond)


def matrix_rank(
    A: Tensor, tol: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None
) -> Tensor:
    """How many singular values are larger than max(atol, rtol·s₀).  Shape: (…, n, m) -> (…), int64

    Args:
        tol: another name for atol, with rtol = 0.
        hermitian: A is symmetric: its eigenvalues serve for singular values.
    """
    if tol is not None:
        atol, rtol = tol, 0.0
    atol, rtol = tolerances(A, atol, rtol)
    values = eigvalsh(A).abs() if hermitian else svdvals(A)
    if values.shape[-1] == 0:
        return wrap(np.zeros(values.shape[:-1], np.int64))
    limit = np.maximum(_plain(atol, A)._data, _plain(rtol, A)._data * values._data.max(axis=-1))
    return (values > wrap(np.asarray(limit)[..., None])).sum(-1)


class Lstsq(NamedTuple):
    """What `linalg.lstsq` returns."""

    solution: Tensor
    residuals: Tensor
    rank: Tensor
    singular_values: Tensor


def lstsq(A: Tensor, B: Tensor, rcond: Any = None, *, driver: str | None = None) -> Lstsq:
    """X that makes ‖A·X − B‖ smallest; of several, the one with the smallest ‖X‖.

    `residuals` are ‖A·X − B‖² for each column if A has more rows than columns and full rank.

    Args:
        rcond: singular values up to rcond·s₀ count as 0 (default: ε·max(n, m)).
        driver: LAPACK's routine in PyTorch: "gels", "gelsy", "gelsd" or "gelss"; it decides which
            of rank and singular values are returned, the solution is always made from the SVD.

    Shape: (…, n, m), (…, n, k) -> (…, m, k), (…, k), (…), (…, min(n, m))
    """
    drivers = (None, "gels", "gelsy", "gelsd", "gelss")
    if driver not in drivers:
        raise OpError(f"linalg.lstsq: driver must be one of {drivers}, not {driver!r}")
    vector = B.ndim == 1 or (A.ndim - 1 == B.ndim and B.shape == A.shape[:-1])
    b = B.unsqueeze(-1) if vector else B
    if A.ndim < 2 or b.shape[-2] != A.shape[-2]:
        raise OpError(f"linalg.lstsq({spec_of(A)}, {spec_of(B)}): the numbers of rows differ")
    x = matmul(pinv(A, rtol=rcond), b)
    n, m = A.shape[-2:]
    values = svdvals(A.detach())
    rank = matrix_rank(A.detach(), rtol=rcond)
    full = n > m and bool((rank == m).all())
    return Lstsq(
        x.squeeze(-1) if vector else x,
        (matmul(A, x) - b).square().sum(-2) if full and driver != "gelsy" else x.reshape(-1)[:0],
        wrap(np.zeros(0, np.int64)) if driver == "gels" else rank,
        values if driver in ("gelsd", "gelss") else values.reshape(-1)[:0],
    )


# --- products of reflectors ----------------------------------------------------------------------


def _reflect(x: Tensor, vectors: Tensor, tau: Tensor, i: int) -> Tensor:
    """(1 − τᵢ·vᵢ·vᵢᵀ)·x"""
    v = vectors[..., i : i + 1]
    return x - matmul(v * tau[..., i, None, None], matmul(v.mT, x))


def _reflectors(packed: Tensor, count: int) -> Tensor:
    """The vectors of `count` reflectors: ones on the diagonal, zeros above it."""
    n = packed.shape[-2]
    return tril(packed[..., :count], -1) + wrap(np.eye(n, count, dtype=packed.dtype))


def householder_product(A: Tensor, tau: Tensor) -> Tensor:
    """The first columns of Q = ∏ᵢ (1 − τᵢ·vᵢ·vᵢᵀ), with the vectors below A's diagonal.

    Shape: (…, n, m), (…, k) -> (…, n, m)
    """
    n, m = A.shape[-2:]
    count = tau.shape[-1]
    if m > n or count > m:
        raise OpError(f"householder_product({spec_of(A)}, {spec_of(tau)}): it needs n ≥ m ≥ k")
    vectors = _reflectors(A, count)
    q = wrap(np.eye(n, m, dtype=A.dtype)).expand(A.shape)
    if count == 0:
        return q + A * 0
    for i in reversed(range(count)):
        q = _reflect(q, vectors, tau, i)
    return q


orgqr = householder_product


def ormqr(
    input: Tensor, tau: Tensor, other: Tensor, left: bool = True, transpose: bool = False
) -> Tensor:
    """Q·other (other·Q with left=False; Qᵀ with transpose) for the Q of `geqrf`.

    Shape: (…, n, k), (…, k), (…, n, m) -> (…, n, m)
    """
    if not left:
        return ormqr(input, tau, other.mT, True, not transpose).mT
    count = tau.shape[-1]
    if input.shape[-2] != other.shape[-2] or count > input.shape[-1]:
        raise OpError(f"ormqr({spec_of(input)}, {spec_of(tau)}, {spec_of(other)}): sizes differ")
    vectors = _reflectors(input, count)
    for i in range(count) if transpose else reversed(range(count)):
        other = _reflect(other, vectors, tau, i)
    return other.clone() if count == 0 else other
