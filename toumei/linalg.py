"""Linear algebra: `toumei.linalg`, with the names of torch.linalg."""

from __future__ import annotations

from .ops.decompositions import cholesky, cholesky_ex, eig, eigh, eigvals, eigvalsh, svdvals
from .ops.decompositions import linalg_qr as qr
from .ops.decompositions import linalg_svd as svd
from .ops.indefinite import ldl_factor, ldl_factor_ex, ldl_solve
from .ops.inverses import (
    det,
    inv,
    inv_ex,
    matrix_exp,
    matrix_power,
    slogdet,
    solve,
    solve_ex,
    tensorinv,
    tensorsolve,
    vander,
)
from .ops.leastsquares import householder_product, lstsq, matrix_rank, pinv
from .ops.linalg import linalg_cross as cross
from .ops.linalg import linalg_diagonal as diagonal
from .ops.linalg import matmul, multi_dot, vecdot
from .ops.magnitude import cond, matrix_norm, vector_norm
from .ops.magnitude import linalg_norm as norm
from .ops.pivoting import linalg_lu_solve as lu_solve
from .ops.pivoting import lu_factor, lu_factor_ex
from .ops.pivoting import plu as lu
from .ops.triangular import solve_triangular

__all__ = [
    "cholesky",
    "cholesky_ex",
    "cond",
    "cross",
    "det",
    "diagonal",
    "eig",
    "eigh",
    "eigvals",
    "eigvalsh",
    "householder_product",
    "inv",
    "inv_ex",
    "ldl_factor",
    "ldl_factor_ex",
    "ldl_solve",
    "lstsq",
    "lu",
    "lu_factor",
    "lu_factor_ex",
    "lu_solve",
    "matmul",
    "matrix_exp",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "multi_dot",
    "norm",
    "pinv",
    "qr",
    "slogdet",
    "solve",
    "solve_ex",
    "solve_triangular",
    "svd",
    "svdvals",
    "tensorinv",
    "tensorsolve",
    "vander",
    "vecdot",
    "vector_norm",
]
