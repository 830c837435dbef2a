"""Parts of a tensor as views: one index, a range, a diagonal, windows, pieces; and the reverse.

The functions `…_scatter` return a copy in which a part is replaced.
"""

from __future__ import annotations

import builtins
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import OpError, OpIndexError
from ..op import Array, Case, Op, Refused, Spec, View, op, repeated_zero
from ..tape import apply, spec_of
from ..views import ViewScatter
from .shape import Slice, along, normal_dim_of, reshape, sizes_of

if TYPE_CHECKING:
    from ..tensor import Tensor


__all__ = [
    "as_strided",
    "as_strided_scatter",
    "chunk",
    "diagonal",
    "diagonal_scatter",
    "dsplit",
    "hsplit",
    "narrow",
    "select",
    "select_scatter",
    "slice",
    "slice_scatter",
    "split",
    "split_with_sizes",
    "tensor_split",
    "unbind",
    "unsafe_chunk",
    "unsafe_split",
    "vsplit",
]


@op
class Diagonal(View):
    """y[…, i] = x[…, i, i + offset] of the dimensions dim1 and dim2"""

    offset: int
    dim1: int
    dim2: int

    def forward(self, xp: Any, x: Array) -> Array:
        # NumPy's own diagonal() is read-only; einsum's is a view that can be written to.
        front = xp.moveaxis(x, (self.dim1, self.dim2), (0, 1))
        front = front[:, self.offset :] if self.offset >= 0 else front[-self.offset :]
        n = builtins.min(front.shape[:2])
        return xp.einsum("ii...->...i", front[:n, :n])

    def backward(self, gy: Tensor, x_spec: Spec) -> Tensor:
        return apply(ViewScatter(self), repeated_zero(x_spec), gy)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for offset, dim1, dim2 in ((0, 0, 1), (1, 2, 0), (-1, 0, 2), (7, 0, 1)):
            yield Case(cls(offset, dim1, dim2), (rng.normal(size=(3, 2, 4)),))


@op
class Unfold(View):
    """y[…, k, …, j] = x[…, k·step + j, …]: windows along `dim`, their elements in a new last one"""

    dim: int
    size: int
    step: int

    def forward(self, xp: Any, x: Array) -> Array:
        windows = xp.lib.stride_tricks.sliding_window_view(x, self.size, self.dim, writeable=True)
        return windows[along(self.dim, builtins.slice(None, None, self.step))]

    def infer(self, x: Spec) -> Spec:
        n = x.shape[self.dim]
        if not 0 <= self.size <= n or self.step < 1:
            raise Refused(
                f"dim {self.dim} of size {n} has no windows of {self.size}, {self.step} apart"
            )
        count = (n - self.size) // self.step + 1
        return Spec((*x.shape[: self.dim], count, *x.shape[self.dim + 1 :], self.size), x.dtype)

    def backward(self, gy: Tensor, x_spec: Spec) -> Tensor:
        return apply(AddWindows(self.dim, self.step, x_spec.shape[self.dim]), gy)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for dim, size, step in ((0, 2, 1), (1, 3, 2), (1, 2, 3)):
            yield Case(cls(dim, size, step), (rng.normal(size=(3, 7)),))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls(0, 5, 1), (np.zeros((3, 2)),)), "no windows of 5"


@op
class AddWindows(Op):
    """y[…, i, …] = Σ x[…, k, …, j] over k·step + j = i: the transpose of Unfold"""

    dim: int
    step: int
    n: int

    def forward(self, xp: Any, x: Array) -> Array:
        y = xp.zeros(self._shape(x.shape), x.dtype)
        front = (builtins.slice(None),) * self.dim
        reach = self.step * (x.shape[self.dim] - 1) + 1
        for j in range(x.shape[-1]):
            y[(*front, builtins.slice(j, j + reach, self.step))] += x[..., j]
        return y

    def infer(self, x: Spec) -> Spec:
        return Spec(self._shape(x.shape), x.dtype)

    def _shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape[: self.dim], self.n, *shape[self.dim + 1 : -1])

    def backward(self, gy: Tensor, x_spec: Spec) -> Tensor:
        return apply(Unfold(self.dim, x_spec.shape[-1], self.step), gy)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case(cls(0, 1, 4), (rng.normal(size=(3, 2)),))
        yield Case(cls(1, 2, 6), (rng.normal(size=(2, 2, 3)),))


@op
class AsStrided(View):
    """y[i] = x.ravel()[offset + Σ_d i_d·stride_d]"""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int

    def forward(self, xp: Any, x: Array) -> Array:
        flat = x.reshape(-1)
        steps = [s * flat.strides[0] for s in self.stride]
        return xp.lib.stride_tricks.as_strided(flat[self.offset :], self.size, steps)

    def check(self, x: Array) -> None:
        self.infer(Spec(x.shape, x.dtype))  # beyond the end lies other memory

    def infer(self, x: Spec) -> Spec:
        last = self.offset + builtins.sum(
            (n - 1) * s for n, s in zip(self.size, self.stride, strict=True)
        )
        if 0 not in self.size and not 0 <= self.offset <= last < x.size:
            raise Refused(f"it would show elements {self.offset} to {last} of {x.size}")
        return Spec(self.size, x.dtype)

    def backward(self, gy: Tensor, x_spec: Spec) -> Tensor:
        from .indexing import IndexAdd

        places = np.full(self.size, self.offset)
        for d, (n, s) in enumerate(zip(self.size, self.stride, strict=True)):
            places += (np.arange(n) * s).reshape(-1, *(1,) * (len(self.size) - d - 1))
        flat = np.zeros(x_spec.size, x_spec.dtype)
        return apply(IndexAdd(0), flat, gy, places).reshape(x_spec.shape)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case(cls((2, 2), (1, 2), 1), (rng.normal(size=(2, 3)),))
        yield Case(cls((3, 2), (1, 1), 0), (rng.normal(size=(5,)),))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls((3, 3), (3, 1), 0), (np.zeros(6),)), "elements 0 to 8 of 6"


# --- parts ---------------------------------------------------------------------------------------


def select(input: Tensor, dim: int, index: int) -> Tensor:
    """The part at `index` of `dim`, which goes away.  Shape: (…, n, …) -> (…, …)"""
    return apply(_select_view("select", input, dim, int(index)), input)


def _select_view(name: str, x: Tensor, dim: int, index: int) -> Slice:
    if x.ndim == 0:
        raise OpIndexError(f"{name}({spec_of(x)}): it has no dimension to select from")
    d = normal_dim_of(name, x, dim)
    n = x.shape[d]
    if not -n <= index < n:
        raise OpIndexError(f"{name}({spec_of(x)}): dim {d} of size {n} has no index {index}")
    return Slice(along(d, index))


def slice(
    input: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Tensor:
    """input[…, start:end:step, …] along `dim`.  Shape: (…, n, …) -> (…, m, …)"""
    return apply(slice_view(input, dim, start, end, step), input)


def slice_view(x: Tensor, dim: int, start: int | None, end: int | None, step: int) -> Slice:
    """Return the view of x[…, start:end:step, …]."""
    d = normal_dim_of("slice", x, dim)
    if step < 1:
        raise OpError(f"slice({spec_of(x)}): the step must be positive, not {step}; use flip()")
    return Slice(along(d, builtins.slice(start, end, step)))


def narrow(input: Tensor, dim: int, start: Any, length: int) -> Tensor:
    """`length` elements of `dim`, beginning at `start`.  Shape: (…, n, …) -> (…, length, …)"""
    d = normal_dim_of("narrow", input, dim)
    n, first = input.shape[d], int(start)
    first += n if first < 0 else 0
    if first < 0 or length < 0 or first + length > n:
        raise OpIndexError(
            f"narrow({spec_of(input)}): dim {dim} of size {n} has no {length} elements from "
            f"{start} on"
        )
    return apply(Slice(along(d, builtins.slice(first, first + length))), input)


def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The elements x[i, i + offset] of two dimensions, in a new last one.  Shape: (n, n) -> (n)"""
    return apply(diagonal_view(input, offset, dim1, dim2), input)


def diagonal_view(x: Tensor, offset: int, dim1: int, dim2: int) -> Diagonal:
    """Return the view of a diagonal."""
    a, b = (normal_dim_of("diagonal", x, d) for d in (dim1, dim2))
    if a == b:
        raise OpError(f"diagonal({spec_of(x)}): dim1 and dim2 are both {a}")
    return Diagonal(offset, a, b)


def unfold(input: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """Windows of `size` along `dimension`, `step` apart.  Shape: (…, n, …) -> (…, m, …, size)

    m = ⌊(n − size)/step⌋ + 1

    >>> import toumei as tm
    >>> tm.arange(5).unfold(0, 3, 2)
    tensor([[0, 1, 2],
            [2, 3, 4]])
    """
    d = normal_dim_of("unfold", input, dimension)
    if input.ndim:
        return apply(Unfold(d, size, step), input)
    return select(apply(Unfold(0, size, step), reshape(input, 1)), 0, 0)


def as_strided(input: Tensor, size: Any, stride: Any, storage_offset: int | None = None) -> Tensor:
    """The memory of a contiguous tensor read with other strides (in elements).  Shape: -> size

    Raises:
        OpError: it isn't contiguous, or the strides reach beyond it.
    """
    return apply(strided_view(input, size, stride, storage_offset), input)


def strided_view(x: Tensor, size: Any, stride: Any, storage_offset: int | None) -> AsStrided:
    """Return the view of a contiguous tensor with other strides."""
    if not x.is_contiguous():
        raise OpError(f"as_strided({spec_of(x)}): the strides {x.stride()} aren't contiguous")
    offset = 0 if storage_offset is None else storage_offset - x.storage_offset()
    sizes, strides = sizes_of((size,)), sizes_of((stride,))
    if len(sizes) != len(strides) or any(s < 0 for s in strides):
        raise OpError(f"as_strided({spec_of(x)}): size {sizes} and stride {strides} don't fit")
    return AsStrided(sizes, strides, offset)


# --- a copy with a part replaced -----------------------------------------------------------------


def _scatter(name: str, x: Tensor, source: Tensor, part: View) -> Tensor:
    shown = part.infer(spec_of(x)).shape
    if tuple(source.shape) != shown:
        raise OpError(
            f"{name}({spec_of(x)}): src has shape {tuple(source.shape)}, its place {shown}"
        )
    return apply(ViewScatter(part), x, source)


def select_scatter(input: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    """`input` with `src` at `index` of `dim`.  Shape: (…, n, …), (…, …) -> (…, n, …)"""
    part = _select_view("select_scatter", input, dim, int(index))
    return _scatter("select_scatter", input, src, part)


def slice_scatter(
    input: Tensor,
    src: Tensor,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Tensor:
    """`input` with `src` at start:end:step of `dim`.  Shape: (…, n, …), (…, m, …) -> (…, n, …)"""
    return _scatter("slice_scatter", input, src, slice_view(input, dim, start, end, step))


def diagonal_scatter(
    input: Tensor, src: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> Tensor:
    """`input` with `src` on a diagonal.  Shape: (n, n), (n) -> (n, n)"""
    return _scatter("diagonal_scatter", input, src, diagonal_view(input, offset, dim1, dim2))


def as_strided_scatter(
    input: Tensor, src: Tensor, size: Any, stride: Any, storage_offset: int | None = None
) -> Tensor:
    """`input` with `src` at the places that `as_strided` shows.  Shape: (…), size -> (…)"""
    part = strided_view(input, size, stride, storage_offset)
    return _scatter("as_strided_scatter", input, src, part)


# --- pieces --------------------------------------------------------------------------------------


def _pieces(x: Tensor, dim: int, ends: list[int]) -> tuple[Tensor, ...]:
    """Return the views between the given ends along `dim`."""
    pairs = itertools.pairwise([0, *ends])
    return tuple(apply(Slice(along(dim, builtins.slice(a, b))), x) for a, b in pairs)


def split_with_sizes(input: Tensor, split_sizes: Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Parts of the given sizes along `dim`, as views.  Shape: (Σ nᵢ, …) -> (nᵢ, …) each"""
    d, sizes = normal_dim_of("split_with_sizes", input, dim), sizes_of((split_sizes,))
    if builtins.sum(sizes) != input.shape[d] or builtins.min(sizes, default=0) < 0:
        raise OpError(
            f"split_with_sizes({spec_of(input)}): the sizes {list(sizes)} add up to "
            f"{builtins.sum(sizes)}, dim {dim} has {input.shape[d]}"
        )
    return _pieces(input, d, np.cumsum(sizes, dtype=np.int64).tolist())


def split(input: Tensor, split_size_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Parts of one size (the last may be smaller), or of the given sizes, as views.

    >>> import toumei as tm
    >>> [p.tolist() for p in tm.arange(5).split(2)]
    [[0, 1], [2, 3], [4]]
    """
    if isinstance(split_size_or_sections, tuple | list):
        return split_with_sizes(input, split_size_or_sections, dim)
    d, size = normal_dim_of("split", input, dim), int(split_size_or_sections)
    if input.ndim == 0:
        raise OpError(f"split({spec_of(input)}): it has no dimension to split")
    n = input.shape[d]
    if size < 0 or (size == 0 and n > 0):
        raise OpError(f"split({spec_of(input)}): parts of {size} can't fill dim {dim} of size {n}")
    return _pieces(input, d, [min(e, n) for e in range(size, n + size, size)] if n else [0])


def chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """At most `chunks` parts of one size ⌈n / chunks⌉, as views; the last may be smaller."""
    d = normal_dim_of("chunk", input, dim)
    if input.ndim == 0 or chunks < 1:
        raise OpError(f"chunk({spec_of(input)}): it can't be cut into {chunks} parts")
    n = input.shape[d]
    return split(input, math.ceil(n / chunks), d) if n else _pieces(input, d, [0] * chunks)


def unsafe_split(input: Tensor, split_size: int, dim: int = 0) -> tuple[Tensor, ...]:
    """As `split`, but each part in memory of its own."""
    return tuple(p.clone() for p in split(input, split_size, dim))


def unsafe_chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """As `chunk`, but each part in memory of its own."""
    return tuple(p.clone() for p in chunk(input, chunks, dim))


def tensor_split(input: Tensor, indices_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Parts between the given indices, or a number of parts as equal as can be, as views.

    >>> import toumei as tm
    >>> [p.tolist() for p in tm.arange(5).tensor_split(3)]
    [[0, 1], [2, 3], [4]]
    """
    return _split_at("tensor_split", input, indices_or_sections, dim)


def _split_at(name: str, x: Tensor, where: Any, dim: int) -> tuple[Tensor, ...]:
    d = normal_dim_of(name, x, dim)
    if x.ndim == 0:
        raise OpError(f"{name}({spec_of(x)}): it has no dimension to split")
    where = where.tolist() if hasattr(where, "tolist") else where
    n = x.shape[d]
    if isinstance(where, int):
        if where < 1:
            raise OpError(f"{name}({spec_of(x)}): it can't be cut into {where} parts")
        sizes = [n // where + (i < n % where) for i in range(where)]
        return split_with_sizes(x, sizes, d)
    bounds = [0, *(int(i) for i in where), n]
    pairs = itertools.pairwise(bounds)
    return tuple(apply(Slice(along(d, builtins.slice(a, b))), x) for a, b in pairs)


def _split_evenly(name: str, x: Tensor, where: Any, dim: int) -> tuple[Tensor, ...]:
    if isinstance(where, int) and (where < 1 or x.shape[dim] % where):
        raise OpError(
            f"{name}({spec_of(x)}): dim {dim} of size {x.shape[dim]} can't be cut into {where} "
            "equal parts"
        )
    return _split_at(name, x, where, dim)


def hsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """Equal parts, or parts between indices, along dim 1 (dim 0 of a vector), as views."""
    if input.ndim < 1:
        raise OpError(f"hsplit({spec_of(input)}): it takes at least 1 dimension")
    return _split_evenly("hsplit", input, indices_or_sections, 0 if input.ndim == 1 else 1)


def vsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """Equal parts, or parts between indices, along dim 0, as views."""
    if input.ndim < 2:
        raise OpError(f"vsplit({spec_of(input)}): it takes at least 2 dimensions")
    return _split_evenly("vsplit", input, indices_or_sections, 0)


def dsplit(input: Tensor, indices_or_sections: Any) -> tuple[Tensor, ...]:
    """Equal parts, or parts between indices, along dim 2, as views."""
    if input.ndim < 3:
        raise OpError(f"dsplit({spec_of(input)}): it takes at least 3 dimensions")
    return _split_evenly("dsplit", input, indices_or_sections, 2)


def unbind(input: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """The parts at each index of `dim`, as views.  Shape: (…, n, …) -> n × (…, …)"""
    if input.ndim == 0:
        raise OpIndexError(f"unbind({spec_of(input)}): it has no dimension to take apart")
    d = normal_dim_of("unbind", input, dim)
    return tuple(apply(Slice(along(d, i)), input) for i in range(input.shape[d]))
