"""Tensors put together: one after another, on top of each other, as a grid."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import OpError
from ..names import numpy_names
from ..op import Array, Case, Op, Refused, Spec, op
from ..tape import apply, spec_of
from .parts import split_with_sizes
from .shape import (
    atleast_1d,
    atleast_2d,
    atleast_3d,
    expand,
    normal_dim_of,
    permute,
    reshape,
    unsqueeze,
)

if TYPE_CHECKING:
    from ..tensor import Tensor


__all__ = [
    "block_diag",
    "cartesian_prod",
    "cat",
    "column_stack",
    "combinations",
    "concat",
    "concatenate",
    "dstack",
    "hstack",
    "meshgrid",
    "row_stack",
    "stack",
    "vstack",
]


@op
class Cat(Op):
    """The inputs one after another along `dim`; each gets its part of the gradient"""

    dim: int
    promote: ClassVar[str] = "common"

    def forward(self, xp: Any, *xs: Array) -> Array:
        return xp.concatenate(xs, axis=self.dim)

    def infer(self, *xs: Spec) -> Spec:
        dim, first = self.dim, xs[0].shape
        for i, x in enumerate(xs):
            if x.ndim != len(first):
                raise Refused(f"tensor 0 has {len(first)} dimensions, tensor {i} has {x.ndim}")
            for d, (n, m) in enumerate(zip(first, x.shape, strict=True)):
                if d != dim and n != m:
                    raise Refused(
                        f"only dim {dim} may differ, but dim {d} is {n} in tensor 0 and {m} in "
                        f"tensor {i}"
                    )
        if not first:
            raise Refused("tensors without dimensions can't be joined; use stack()")
        size = sum(x.shape[dim] for x in xs)
        return Spec((*first[:dim], size, *first[dim + 1 :]), xs[0].dtype)

    def backward(self, gy: Tensor, *xs_spec: Spec) -> tuple[Tensor, ...]:
        sizes = [s.shape[self.dim] for s in xs_spec]
        return tuple(split_with_sizes(gy, sizes, self.dim))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case(cls(1), tuple(rng.normal(size=(2, n)) for n in (3, 1, 0)))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls(0), (np.zeros((2, 3)), np.zeros((2, 4)))), "only dim 0 may differ"


# --- functions -----------------------------------------------------------------------------------


@numpy_names
def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """The tensors one after another along `dim`.  Shape: (…, nᵢ, …) -> (…, Σ nᵢ, …)

    Tensors of shape (0,) fit everything, as in PyTorch.

    >>> import toumei as tm
    >>> tm.cat([tm.zeros(1, 2), tm.ones(2, 2)])
    tensor([[0., 0.],
            [1., 1.],
            [1., 1.]])
    """
    group = _nonempty("cat", tensors)
    model = next((x for x in group if tuple(x.shape) != (0,)), group[0])
    d = normal_dim_of("cat", model, dim)
    if model.ndim != 1:
        fit = (*model.shape[:d], 0, *model.shape[d + 1 :])
        group = [reshape(x, fit) if tuple(x.shape) == (0,) else x for x in group]
    return apply(Cat(d), *group)


concat = concatenate = cat


def _nonempty(name: str, tensors: Sequence[Tensor]) -> list[Tensor]:
    group = list(tensors)
    if not group:
        raise OpError(f"{name}: there are no tensors to join")
    return group


@numpy_names
def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """The tensors along a new dimension `dim`.  Shape: n × (…) -> (…, n, …)"""
    group = _nonempty("stack", tensors)
    for i, x in enumerate(group):
        if x.shape != group[0].shape:
            raise OpError(
                f"stack: tensor 0 has shape {tuple(group[0].shape)}, tensor {i} "
                f"{tuple(x.shape)}; they must agree"
            )
    d = normal_dim_of("stack", group[0], dim, group[0].ndim + 1)
    return apply(Cat(d), *(unsqueeze(x, d) for x in group))


def hstack(tensors: Sequence[Tensor]) -> Tensor:
    """The tensors side by side: along dim 1, or dim 0 of vectors."""
    group = [atleast_1d(x) for x in _nonempty("hstack", tensors)]
    return cat(group, 0 if group[0].ndim == 1 else 1)


def vstack(tensors: Sequence[Tensor]) -> Tensor:
    """The tensors below one another, vectors as rows: along dim 0."""
    return cat([atleast_2d(x) for x in _nonempty("vstack", tensors)], 0)


row_stack = vstack


def dstack(tensors: Sequence[Tensor]) -> Tensor:
    """The tensors behind one another: along dim 2."""
    return cat([atleast_3d(x) for x in _nonempty("dstack", tensors)], 2)


def column_stack(tensors: Sequence[Tensor]) -> Tensor:
    """The tensors side by side, vectors as columns: along dim 1."""
    group = _nonempty("column_stack", tensors)
    return cat([reshape(x, -1, 1) if x.ndim < 2 else x for x in group], 1)


def block_diag(*tensors: Tensor) -> Tensor:
    """The matrices along the diagonal of a larger one, zeros elsewhere.

    Shape: (nᵢ, mᵢ) each -> (Σ nᵢ, Σ mᵢ)
    """
    blocks = [atleast_2d(x) for x in _nonempty("block_diag", tensors)]
    for i, b in enumerate(blocks):
        if b.ndim != 2:
            raise OpError(f"block_diag: tensor {i} has {b.ndim} dimensions, a block has at most 2")
    width, left, rows = sum(b.shape[1] for b in blocks), 0, []
    for b in blocks:
        n, m = b.shape
        zeros = [b.new_zeros((n, left)), b.new_zeros((n, width - left - m))]
        rows.append(cat([zeros[0], b, zeros[1]], 1))
        left += m
    return cat(rows, 0)


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """Grids of the coordinates that the vectors name.  Shape: (nᵢ) each -> (n₀, n₁, …) each

    `indexing` "xy" swaps the first two dimensions of the grids.

    >>> import toumei as tm
    >>> tm.meshgrid(tm.arange(2), tm.arange(3))[0]
    tensor([[0, 0, 0],
            [1, 1, 1]])
    """
    listed = len(tensors) == 1 and isinstance(tensors[0], tuple | list)
    group = list(tensors[0] if listed else tensors)
    if indexing not in ("ij", "xy"):
        raise OpError(f"meshgrid: indexing must be 'ij' or 'xy', not {indexing!r}")
    for i, x in enumerate(_nonempty("meshgrid", group)):
        if x.ndim > 1:
            raise OpError(f"meshgrid: tensor {i} is {spec_of(x)}, it may have at most 1 dimension")
    shape = tuple(x.numel() for x in group)
    ndim = len(shape)
    grids = [
        expand(reshape(x, *(-1 if d == i else 1 for d in range(ndim))), shape)
        for i, x in enumerate(group)
    ]
    if indexing == "xy" and ndim > 1:
        order = (1, 0, *range(2, ndim))
        grids = [permute(g, order) for g in grids]
    return tuple(grids)


def cartesian_prod(*tensors: Tensor) -> Tensor:
    """Every combination of one element of each vector.  Shape: (nᵢ) each -> (Π nᵢ, count)"""
    if len(tensors) == 1:
        return tensors[0]
    return stack([reshape(g, -1) for g in meshgrid(*tensors)], 1)


def combinations(input: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:
    """Every choice of `r` elements of a vector, in order.  Shape: (n) -> (count, r)"""
    if input.ndim != 1 or r < 0:
        raise OpError(f"combinations({spec_of(input)}, r={r}): it takes a vector, and r from 0 on")
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    places = np.array(list(choose(range(input.shape[0]), r)), np.int64)
    if r == 0:
        return input[:0]
    return input[places.reshape(-1, r)]
