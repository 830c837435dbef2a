"""Matrix products."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import OpError
from ..op import Array, Case, Contraction, Refused, Spec, broadcast_shapes, op
from ..tape import Operand, apply, dims_of, operand, spec_of
from .arithmetic import mul
from .parts import diagonal
from .shape import permute

if TYPE_CHECKING:
    from ..tensor import Tensor


__all__ = [
    "addbmm",
    "addmm",
    "addmv",
    "addr",
    "baddbmm",
    "bmm",
    "chain_matmul",
    "cross",
    "dot",
    "ger",
    "inner",
    "kron",
    "matmul",
    "mm",
    "mv",
    "outer",
    "vdot",
]


@op
class Matmul(Contraction):
    """y = a·b over the last two dimensions, the others broadcast;   ∂a = gy·bᵀ, ∂b = aᵀ·gy"""

    broadcasts: ClassVar[bool] = True

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

    def backward_a(self, gy: Tensor, a_spec: Spec, b: Tensor) -> Tensor:
        if a_spec.ndim == 2 and gy.ndim > 2:  # one product sums over the batch as well
            return apply(self, rows(gy), rows(b.expand(*gy.shape[:-2], *b.shape[-2:])).mT)
        return apply(self, gy, b.mT)

    def backward_b(self, gy: Tensor, a: Tensor, b_spec: Spec) -> Tensor:
        if b_spec.ndim == 2 and gy.ndim > 2:
            a = a.expand(*gy.shape[:-2], *a.shape[-2:])
            return apply(self, rows(a.mT), rows(gy.mT).mT)
        return apply(self, a.mT, gy)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for a, b in [
            ((2, 3), (3, 4)),
            ((5, 2, 3), (3, 2)),
            ((2, 1, 2, 3), (4, 3, 1)),
            ((2, 3), (4, 3, 2)),
            ((2, 0), (0, 3)),
        ]:
            yield Case(cls(), (rng.normal(size=a), rng.normal(size=b)))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls(), (np.zeros((2, 3)), np.zeros((4, 5)))), "a has 3 columns, b has 4 rows"


def rows(x: Tensor) -> Tensor:
    """A batch of matrices as one matrix, side by side.  Shape: (…, n, m) -> (n, …·m)"""
    d = x.ndim - 2
    count = math.prod(x.shape[:d])
    return permute(x, d, *range(d), d + 1).reshape(x.shape[d], count * x.shape[d + 1])


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
    a, b = operand(input), operand(other)
    if a.ndim > 2 and b.ndim == 2 and a.shape[-1]:  # one large product instead of many small ones
        y = apply(Matmul(), a.reshape(-1, a.shape[-1]), b)
        return y.reshape(*a.shape[:-1], b.shape[-1])
    row, column = a.ndim == 1, b.ndim == 1
    y = apply(Matmul(), a.unsqueeze(0) if row else a, b.unsqueeze(1) if column else b)
    if row and column:
        return y.reshape(())
    return y.squeeze(-2) if row else y.squeeze(-1) if column else y


def _product(name: str, a: Tensor, b: Tensor, dims: tuple[int, int]) -> Tensor:
    """Multiply, after a look at the numbers of dimensions that this name asks for."""
    if (a.ndim, b.ndim) != dims:
        raise OpError(
            f"{name}({spec_of(a)}, {spec_of(b)}): it takes tensors of {dims[0]} and {dims[1]} "
            f"dimensions, not {a.ndim} and {b.ndim}"
        )
    if dims == (3, 3) and a.shape[0] != b.shape[0]:
        raise OpError(f"{name}: the batches differ: {a.shape[0]} and {b.shape[0]} matrices")
    return matmul(a, b)


def mm(input: Tensor, mat2: Tensor) -> Tensor:
    """Product of two matrices, without broadcasting.  Shape: (n, k), (k, m) -> (n, m)"""
    return _product("mm", input, mat2, (2, 2))


def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """Products of two batches of matrices.  Shape: (b, n, k), (b, k, m) -> (b, n, m)"""
    return _product("bmm", input, mat2, (3, 3))


def mv(input: Tensor, vec: Tensor) -> Tensor:
    """Product of a matrix and a vector.  Shape: (n, k), (k) -> (n)"""
    return _product("mv", input, vec, (2, 1))


def dot(input: Tensor, tensor: Tensor) -> Tensor:
    """Σᵢ inputᵢ·tensorᵢ of two vectors.  Shape: (n), (n) -> ()"""
    return _product("dot", input, tensor, (1, 1))


def vdot(input: Tensor, other: Tensor) -> Tensor:
    """The same as `dot`: there are no complex numbers.  Shape: (n), (n) -> ()"""
    return _product("vdot", input, other, (1, 1))


def inner(input: Tensor, other: Tensor) -> Tensor:
    """Sums of products over the last dimensions.  Shape: (a…, k), (b…, k) -> (a…, b…)"""
    if input.ndim == 0 or other.ndim == 0:
        return mul(input, other)
    if input.shape[-1] != other.shape[-1]:
        raise OpError(f"inner({spec_of(input)}, {spec_of(other)}): the last dimensions differ")
    flat = matmul(input.reshape(-1, input.shape[-1]), other.reshape(-1, other.shape[-1]).mT)
    return flat.reshape(*input.shape[:-1], *other.shape[:-1])


def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """yᵢⱼ = inputᵢ·vec2ⱼ.  Shape: (n), (m) -> (n, m)

    >>> import toumei as tm
    >>> tm.outer(tm.tensor([1, 2]), tm.tensor([3, 4]))
    tensor([[3, 4],
            [6, 8]])
    """
    if input.ndim != 1 or vec2.ndim != 1:
        raise OpError(f"outer({spec_of(input)}, {spec_of(vec2)}): both must be vectors")
    return mul(input.unsqueeze(1), vec2)


ger = outer


# --- sums with a product -------------------------------------------------------------------------


def _plus(input: Operand, product: Tensor, beta: float, alpha: float) -> Tensor:
    """beta·input + alpha·product; with beta = 0 the input's NaNs don't count."""
    product = product if alpha == 1 else product * alpha
    if beta == 0:
        return product
    total: Tensor = product + (operand(input) if beta == 1 else operand(input) * beta)
    if total.shape != product.shape:
        raise OpError(
            f"the input, {spec_of(operand(input))}, doesn't broadcast to the product's "
            f"shape {tuple(product.shape)}"
        )
    return total


def addmm(
    input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1
) -> Tensor:
    """beta·input + alpha·(mat1 · mat2).  Shape: (n, m) broadcast, (n, k), (k, m) -> (n, m)"""
    return _plus(input, _product("addmm", mat1, mat2, (2, 2)), beta, alpha)


def addmv(input: Tensor, mat: Tensor, vec: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta·input + alpha·(mat · vec).  Shape: (n) broadcast, (n, k), (k) -> (n)"""
    return _plus(input, _product("addmv", mat, vec, (2, 1)), beta, alpha)


def addr(input: Tensor, vec1: Tensor, vec2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta·input + alpha·(vec1 ⊗ vec2).  Shape: (n, m) broadcast, (n), (m) -> (n, m)"""
    return _plus(input, outer(vec1, vec2), beta, alpha)


def addbmm(
    input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1
) -> Tensor:
    """beta·input + alpha·Σᵢ batch1ᵢ·batch2ᵢ.  Shape: (n, m), (b, n, k), (b, k, m) -> (n, m)"""
    return _plus(input, _product("addbmm", batch1, batch2, (3, 3)).sum(0), beta, alpha)


def baddbmm(
    input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1
) -> Tensor:
    """beta·input + alpha·batch1ᵢ·batch2ᵢ.  Shape: (b, n, m), (b, n, k), (b, k, m) -> (b, n, m)"""
    return _plus(input, _product("baddbmm", batch1, batch2, (3, 3)), beta, alpha)


# --- other products ------------------------------------------------------------------------------


def kron(input: Tensor, other: Tensor) -> Tensor:
    """Kronecker product: every element of `input` times all of `other`.

    Shape: (a₀, a₁, …), (b₀, b₁, …) -> (a₀·b₀, a₁·b₁, …)
    """
    n = max(input.ndim, other.ndim)
    a = (*(1,) * (n - input.ndim), *input.shape)
    b = (*(1,) * (n - other.ndim), *other.shape)
    wide_a = [k for size in a for k in (size, 1)]
    wide_b = [k for size in b for k in (1, size)]
    y = input.reshape(wide_a) * other.reshape(wide_b)
    return y.reshape([i * j for i, j in zip(a, b, strict=True)])


def cross(input: Tensor, other: Tensor, dim: int | None = None) -> Tensor:
    """Cross product of vectors of three along `dim` (None: the first dimension of size 3).

    Shape: (…, 3, …), (…, 3, …) broadcast -> (…, 3, …)
    """
    if dim is None:
        if 3 not in input.shape:
            raise OpError(f"cross({spec_of(input)}): no dimension has size 3")
        dim = list(input.shape).index(3)
    return linalg_cross(input, other, dim=dim)


def linalg_cross(input: Tensor, other: Tensor, *, dim: int = -1) -> Tensor:
    """Cross product of vectors of three along `dim`: yᵢ = aᵢ₊₁·bᵢ₊₂ − aᵢ₊₂·bᵢ₊₁.

    Shape: (…, 3, …), (…, 3, …) broadcast -> (…, 3, …)
    """
    if input.ndim != other.ndim:
        raise OpError(f"cross: the tensors have {input.ndim} and {other.ndim} dimensions")
    (d,) = dims_of("cross", input, dim)
    if input.shape[d] != 3 or other.shape[d] != 3:
        raise OpError(
            f"cross: dim {dim} must have size 3, it has {input.shape[d]} and {other.shape[d]}"
        )
    front = (slice(None),) * d
    first, second = (*front, [1, 2, 0]), (*front, [2, 0, 1])
    return input[first] * other[second] - input[second] * other[first]


def linalg_diagonal(A: Tensor, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """The elements A[…, i, i + offset], a view.  Shape: (…, n, n) -> (…, n)"""
    return diagonal(A, offset, dim1, dim2)


def vecdot(x: Tensor, y: Tensor, *, dim: int = -1) -> Tensor:
    """Sums of products along `dim`.  Shape: (…, n, …), (…, n, …) broadcast -> (…)"""
    if x.shape[dim] != y.shape[dim]:
        raise OpError(f"linalg.vecdot: dim {dim} is {x.shape[dim]} in x, {y.shape[dim]} in y")
    return (x * y).sum(dim)


def chain_matmul(*matrices: Tensor) -> Tensor:
    """Product of several matrices in the cheapest order.  Shape: (a, b), (b, c), … -> (a, z)"""
    return matrices[0].clone() if len(matrices) == 1 else multi_dot(matrices)


def multi_dot(tensors: Sequence[Tensor]) -> Tensor:
    """Product of several matrices in the order that needs the fewest multiplications.

    The first and the last may be vectors.

    Shape: (a, b), (b, c), …, (y, z) -> (a, z)

    Source: Cormen, Leiserson, Rivest, Stein: Introduction to Algorithms, matrix-chain order.
    """
    if len(tensors) < 2:
        raise OpError(f"linalg.multi_dot needs at least two tensors, not {len(tensors)}")
    chain = list(tensors)
    row, column = chain[0].ndim == 1, chain[-1].ndim == 1
    if row:
        chain[0] = chain[0].unsqueeze(0)
    if column:
        chain[-1] = chain[-1].unsqueeze(1)
    for i, t in enumerate(chain):
        if t.ndim != 2:
            raise OpError(f"linalg.multi_dot: tensor {i} must be a matrix, it is {spec_of(t)}")
    splits = chain_order([t.shape[0] for t in chain] + [chain[-1].shape[1]])

    def product(i: int, j: int) -> Tensor:
        return (
            chain[i] if i == j else matmul(product(i, splits[i, j]), product(splits[i, j] + 1, j))
        )

    y = product(0, len(chain) - 1)
    if row and column:
        return y.reshape(())
    return y.squeeze(0) if row else y.squeeze(1) if column else y


def chain_order(sizes: list[int]) -> dict[tuple[int, int], int]:
    """Return after which factor the product of factors i to j is best split."""
    n = len(sizes) - 1
    cost: dict[tuple[int, int], int] = {(i, i): 0 for i in range(n)}
    best: dict[tuple[int, int], int] = {}
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            cost[i, j], best[i, j] = min(
                (cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1], k)
                for k in range(i, j)
            )
    return best
