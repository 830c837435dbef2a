"""The methods of Tensor that are linear algebra; `methods.py` has the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .mathmethods import MathMethods
from .views import in_place
from .ops import linalg

if TYPE_CHECKING:
    from .tensor import Tensor


class LinalgMethods(MathMethods):
    """Products and decompositions of matrices, as methods and operators."""

    __matmul__ = matmul = linalg.matmul

    def __rmatmul__(self, other: Any) -> Tensor:
        return linalg.matmul(other, self)

    # products
    mm, bmm, mv, dot, vdot = linalg.mm, linalg.bmm, linalg.mv, linalg.dot, linalg.vdot
    inner, outer, ger = linalg.inner, linalg.outer, linalg.ger
    addmm, addmv, addr = linalg.addmm, linalg.addmv, linalg.addr
    addbmm, baddbmm = linalg.addbmm, linalg.baddbmm
    kron, cross = linalg.kron, linalg.cross
    addmm_, addmv_, addr_ = in_place(addmm), in_place(addmv), in_place(addr)
    addbmm_, baddbmm_ = in_place(addbmm), in_place(baddbmm)
