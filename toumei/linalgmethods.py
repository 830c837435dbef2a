"""The methods of Tensor that are linear algebra; `methods.py` has the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from .mathmethods import MathMethods
from .ops import decompositions, inverses, leastsquares, linalg, magnitude, pivoting, triangular
from .views import in_place

if TYPE_CHECKING:
    from .tensor import Tensor


class LinalgMethods(MathMethods):
    """Products and decompositions of matrices, as methods and operators."""

    __matmul__ = matmul = linalg.matmul

    def __rmatmul__(self, other: Any) -> Tensor:
        return linalg.matmul(other, cast("Tensor", self))

    # products
    mm, bmm, mv, dot, vdot = linalg.mm, linalg.bmm, linalg.mv, linalg.dot, linalg.vdot
    inner, outer, ger = linalg.inner, linalg.outer, linalg.ger
    addmm, addmv, addr = linalg.addmm, linalg.addmv, linalg.addr
    addbmm, baddbmm = linalg.addbmm, linalg.baddbmm
    kron, cross = linalg.kron, linalg.cross
    addmm_, addmv_, addr_ = in_place(addmm), in_place(addmv), in_place(addr)
    addbmm_, baddbmm_ = in_place(addbmm), in_place(baddbmm)
    # decompositions, inverses
    cholesky, qr, svd = decompositions.cholesky, decompositions.qr, decompositions.svd
    geqrf, ormqr, orgqr = decompositions.geqrf, leastsquares.ormqr, leastsquares.orgqr
    lu, lu_solve = pivoting.lu, pivoting.lu_solve
    cholesky_solve, cholesky_inverse = triangular.cholesky_solve, triangular.cholesky_inverse
    triangular_solve = triangular.triangular_solve
    inverse, pinverse = inverses.inverse, leastsquares.pinverse
    det, slogdet, logdet = inverses.det, inverses.slogdet, inverses.logdet
    matrix_power, matrix_exp = inverses.matrix_power, inverses.matrix_exp
    norm = magnitude.norm
