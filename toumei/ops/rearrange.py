"""Elements moved, repeated, masked out or padded: the results have memory of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..device import on_cpu
from ..errors import OpError, OpIndexError
from ..op import Array, Case, Op, Refused, Spec, op, repeated_zero
from ..tape import Value, apply, dims_of, spec_of, wrap
from ..traced import numbers_of
from ..views import ViewScatter
from .parts import Diagonal, narrow
from .parts import diagonal as diagonal_of
from .shape import (
    Slice,
    along,
    expand,
    normal_dim_of,
    reshape,
    sizes_of,
    transpose,
)

if TYPE_CHECKING:
    from ..tensor import Tensor


__all__ = [
    "constant_pad_nd",
    "diag",
    "diag_embed",
    "diagflat",
    "flip",
    "fliplr",
    "flipud",
    "repeat_interleave",
    "roll",
    "rot90",
    "tile",
    "trace",
    "tril",
    "tril_indices",
    "triu",
    "triu_indices",
    "unravel_index",
]


class SameShape(Op):
    """Moves or masks elements: the output is like the input."""

    def infer(self, x: Spec) -> Spec:
        return Spec(x.shape, x.dtype)


@op
class Flip(SameShape):
    """y[…, i, …] = x[…, n − 1 − i, …] for each of `dims`"""

    dims: tuple[int, ...]

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.flip(x, self.dims).copy()

    def backward(self, gy: Tensor) -> Tensor:
        return apply(self, gy)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for dims in ((), (0,), (0, 2)):
            yield Case(cls(dims), (rng.normal(size=(2, 0, 3)),))
            yield Case(cls(dims), (rng.normal(size=(2, 1, 3)),))


@op
class Roll(SameShape):
    """y[…, (i + shift) mod n, …] = x[…, i, …] for each of `dims`"""

    shifts: tuple[int, ...]
    dims: tuple[int, ...]

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.roll(x, self.shifts, self.dims)

    def backward(self, gy: Tensor) -> Tensor:
        return apply(Roll(tuple(-s for s in self.shifts), self.dims), gy)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for shifts, dims in (((1,), (0,)), ((-1, 5), (0, 1)), ((), ())):
            yield Case(cls(shifts, dims), (rng.normal(size=(2, 3)),))
            yield Case(cls(shifts, dims), (rng.normal(size=(0, 3)),))


class Triangle(SameShape):
    """Keeps the part of each matrix on one side of a diagonal, zeros elsewhere."""

    diagonal: int

    def check(self, x: Array) -> None:
        if x.ndim < 2:
            raise Refused(f"it takes at least 2 dimensions, there are {x.ndim}")

    def backward(self, gy: Tensor) -> Tensor:
        return apply(self, gy)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for k in (0, 1, -1, 5):
            yield Case(cls(k), (rng.normal(size=(2, 3, 4)),))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls(0), (np.zeros(3),)), "at least 2 dimensions, there are 1"


@op
class Tril(Triangle):
    """y_ij = x_ij where j ≤ i + diagonal, else 0"""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.tril(x, self.diagonal)


@op
class Triu(Triangle):
    """y_ij = x_ij where j ≥ i + diagonal, else 0"""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.triu(x, self.diagonal)


@op
class ConstantPad(Op):
    """x with `before` and `after` elements of `value` around it in each dimension"""

    before: tuple[int, ...]
    after: tuple[int, ...]
    value: float

    def forward(self, xp: Any, x: Array) -> Array:
        y = xp.full(self._shape(x.shape), self.value, x.dtype)
        y[self._inner(x.shape)] = x
        return y

    def infer(self, x: Spec) -> Spec:
        return Spec(self._shape(x.shape), x.dtype)

    def _shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(b + n + a for b, n, a in zip(self.before, shape, self.after, strict=True))

    def _inner(self, shape: tuple[int, ...]) -> tuple[slice, ...]:
        return tuple(slice(b, b + n) for b, n in zip(self.before, shape, strict=True))

    def backward(self, gy: Tensor, x_spec: Spec) -> Tensor:
        return apply(Slice(self._inner(x_spec.shape)), gy)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for shape in ((2, 3), (0, 3)):
            yield Case(cls((1, 0), (2, 0), 0.5), (rng.normal(size=shape),))


# --- in another order ----------------------------------------------------------------------------


def flip(input: Tensor, *args: Any, dims: Any = None) -> Tensor:
    """The order of the elements reversed along `dims`.  Shape: (…) -> (…)

    >>> import toumei as tm
    >>> tm.flip(tm.arange(3), (0,))
    tensor([2, 1, 0])
    """
    wanted = sizes_of(args, dims)
    return apply(Flip(dims_of("flip", input, wanted) if wanted else ()), input)


def fliplr(input: Tensor) -> Tensor:
    """Left and right exchanged: dim 1 reversed.  Shape: (n, m, …) -> (n, m, …)"""
    if input.ndim < 2:
        raise OpError(f"fliplr({spec_of(input)}): it takes at least 2 dimensions")
    return flip(input, 1)


def flipud(input: Tensor) -> Tensor:
    """Up and down exchanged: dim 0 reversed.  Shape: (n, …) -> (n, …)"""
    if input.ndim < 1:
        raise OpError(f"flipud({spec_of(input)}): it takes at least 1 dimension")
    return flip(input, 0)


def roll(input: Tensor, shifts: Any, dims: Any = None) -> Tensor:
    """The elements moved on by `shifts` along `dims`; those that fall out come in again.

    Without `dims` the tensor is rolled as if it had one dimension.  Shape: (…) -> (…)
    """
    by = sizes_of((shifts,))
    if dims is None or dims == () or dims == []:
        if len(by) != 1:
            raise OpError(f"roll({spec_of(input)}): {len(by)} shifts without dims; give one")
        return reshape(apply(Roll(by, (0,)), reshape(input, -1)), tuple(input.shape))
    along_dims = [normal_dim_of("roll", input, d) for d in sizes_of((dims,))]
    if len(by) != len(along_dims):
        raise OpError(f"roll({spec_of(input)}): {len(by)} shifts for {len(along_dims)} dims")
    if input.ndim == 0:
        return input.clone()
    return apply(Roll(by, tuple(along_dims)), input)


def rot90(input: Tensor, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
    """Turned k times by 90° in the plane of two dimensions, from the first towards the second."""
    plane = sizes_of((dims,))
    if len(plane) != 2 or input.ndim < 2 or len(set(dims_of("rot90", input, plane))) < 2:
        raise OpError(f"rot90({spec_of(input)}): dims must name two of its dimensions, not {plane}")
    a, b = plane
    if k % 4 == 0:
        return input.clone()
    if k % 4 == 2:
        return flip(input, a, b)
    return flip(transpose(input, a, b), a if k % 4 == 1 else b)


def trace(input: Tensor) -> Tensor:
    """The sum of the diagonal of a matrix.  Shape: (n, m) -> ()"""
    if input.ndim != 2:
        raise OpError(f"trace({spec_of(input)}): it takes a matrix")
    return diagonal_of(input).sum()


# --- repeated ------------------------------------------------------------------------------------


def repeat(input: Tensor, *args: Any, repeats: Any = None) -> Tensor:
    """Copies side by side, `repeats` along each dimension.  Shape: (nᵢ) -> (nᵢ·repeatsᵢ)"""
    times = sizes_of(args, repeats)
    extra = len(times) - input.ndim
    if extra < 0 or any(r < 0 for r in times):
        raise OpError(f"repeat({spec_of(input)}): {times} must give each dimension a count ≥ 0")
    shape = (*(1,) * extra, *input.shape)
    if all(r == 1 for r in times):
        return reshape(input, shape).clone()
    split = [n for size in shape for n in (1, size)]
    spread = [n for r, size in zip(times, shape, strict=True) for n in (r, size)]
    merged = [r * size for r, size in zip(times, shape, strict=True)]
    out = reshape(expand(reshape(input, split), spread), merged)
    return out if out._parent is None else out.clone()


def tile(input: Tensor, *args: Any, dims: Any = None) -> Tensor:
    """Copies side by side; missing counts in front are 1.  Shape: (nᵢ) -> (nᵢ·dimsᵢ)"""
    times = sizes_of(args, dims)
    return repeat(input, *(1,) * (input.ndim - len(times)), *times)


def repeat_interleave(
    input: Tensor, repeats: Any = None, dim: int | None = None, *, output_size: int | None = None
) -> Tensor:
    """Each element along `dim` repeated.  Shape: (…, n, …) -> (…, Σ repeats, …)

    Args:
        input: the tensor; of one alone, its indices are repeated as often as it says.
        repeats: a count, or one for each element.
        dim: along which; None flattens first.
        output_size: the size that comes out, checked.

    >>> import toumei as tm
    >>> tm.tensor([1, 2]).repeat_interleave(tm.tensor([2, 1]))
    tensor([1, 1, 2])
    """
    if repeats is None:
        return wrap(np.repeat(np.arange(input.numel()), numbers_of("repeat_interleave", input)))
    x = reshape(input, -1) if dim is None or input.ndim == 0 else input
    d = normal_dim_of("repeat_interleave", x, 0 if dim is None else dim)
    n = x.shape[d]
    given = numbers_of("repeat_interleave", repeats) if isinstance(repeats, Value) else repeats
    counts = np.asarray(given).reshape(-1)
    if counts.size not in (1, n) or (counts < 0).any():
        raise OpError(
            f"repeat_interleave({spec_of(input)}): {counts.size} counts for {n} elements along dim "
            f"{d}; it takes one, or one for each, none negative"
        )
    places = np.repeat(np.arange(n), counts)
    if output_size is not None and output_size != len(places):
        raise OpError(f"repeat_interleave: output_size is {output_size}, it must be {len(places)}")
    return x[along(d, places)]


# --- diagonals and triangles ---------------------------------------------------------------------


def tril(input: Tensor, diagonal: int = 0) -> Tensor:
    """The lower triangle of each matrix, zeros above `diagonal`.  Shape: (…, n, m) -> (…, n, m)"""
    return apply(Tril(diagonal), input)


def triu(input: Tensor, diagonal: int = 0) -> Tensor:
    """The upper triangle of each matrix, zeros below `diagonal`.  Shape: (…, n, m) -> (…, n, m)"""
    return apply(Triu(diagonal), input)


@on_cpu
def tril_indices(row: int, col: int, offset: int = 0, *, dtype: Any = np.int64) -> Tensor:
    """The places (i, j) with j ≤ i + offset of a matrix, row by row.  Shape: -> (2, count)"""
    return wrap(np.stack(np.tril_indices(row, offset, col)).astype(dtype))


@on_cpu
def triu_indices(row: int, col: int, offset: int = 0, *, dtype: Any = np.int64) -> Tensor:
    """The places (i, j) with j ≥ i + offset of a matrix, row by row.  Shape: -> (2, count)"""
    return wrap(np.stack(np.triu_indices(row, offset, col)).astype(dtype))


def diag_embed(input: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Matrices, zero but for a diagonal, in dim1 and dim2.  Shape: (…, n) -> (…, n, n)"""
    ndim = input.ndim + 1
    a, b = (normal_dim_of("diag_embed", input, d, ndim) for d in (dim1, dim2))
    if a == b or not input.ndim:
        raise OpError(f"diag_embed({spec_of(input)}): dim1 is {a}, dim2 is {b}; they must differ")
    shape = list(input.shape[:-1])
    for d in sorted((a, b)):
        shape.insert(d, input.shape[-1] + abs(offset))
    zeros = repeated_zero(Spec(tuple(shape), input.dtype))
    return apply(ViewScatter(Diagonal(offset, a, b)), zeros, input)


def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """The diagonal of a matrix, or a matrix with the vector on its diagonal.

    Shape: (n, m) -> (k), or (n) -> (n + |diagonal|, n + |diagonal|)
    """
    if input.ndim == 1:
        return diag_embed(input, diagonal)
    if input.ndim != 2:
        raise OpError(f"diag({spec_of(input)}): it takes a vector or a matrix")
    return diagonal_of(input, diagonal).clone()


def diagflat(input: Tensor, offset: int = 0) -> Tensor:
    """A matrix with all n elements on its diagonal.  Shape: (…) -> (n + |offset|, n + |offset|)"""
    return diag_embed(reshape(input, -1), offset)


# --- padding and places --------------------------------------------------------------------------


def constant_pad_nd(input: Tensor, pad: Sequence[int], value: float = 0) -> Tensor:
    """`value` around the elements; a negative pad takes elements away.

    Args:
        input: the tensor.
        pad: (before, after) of the last dimension, then of the one before it, …
        value: what to pad with.
    """
    pads = sizes_of((pad,))
    if len(pads) % 2 or len(pads) > 2 * input.ndim:
        raise OpError(
            f"constant_pad_nd({spec_of(input)}): pad {pads} must be pairs, at most {input.ndim} "
            "of them"
        )
    before, after, x = [0] * input.ndim, [0] * input.ndim, input
    for i in range(len(pads) // 2):
        d = input.ndim - 1 - i
        left, right = pads[2 * i : 2 * i + 2]
        if left < 0 or right < 0:
            start = max(-left, 0)
            x = narrow(x, d, start, x.shape[d] - start - max(-right, 0))
        before[d], after[d] = max(left, 0), max(right, 0)
    return apply(ConstantPad(tuple(before), tuple(after), value), x)


def unravel_index(indices: Tensor, shape: Any) -> tuple[Tensor, ...]:
    """The places, a tensor for each dimension of `shape`, of indices into its flat order."""
    sizes = sizes_of((shape,) if isinstance(shape, int) else tuple(shape))
    flat = numbers_of("unravel_index", indices)
    try:
        return tuple(wrap(np.asarray(p)) for p in np.unravel_index(flat, sizes))
    except ValueError as error:
        raise OpIndexError(f"unravel_index({spec_of(indices)}, {sizes}): {error}") from None
