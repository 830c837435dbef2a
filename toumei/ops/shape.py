"""Other shapes for the same numbers (views), and tensors put together or taken apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import OpError, OpIndexError
from ..op import Array, Case, Op, Refused, RefusedIndex, Spec, View, normal_dim, op
from ..tape import apply, dims_of, spec_of
from ..views import ViewScatter

if TYPE_CHECKING:
    from ..tensor import Tensor


__all__ = [
    "cat",
    "expand",
    "permute",
    "reshape",
    "split_with_sizes",
    "squeeze",
    "stack",
    "sum_to_size",
    "transpose",
    "unsqueeze",
    "view_as",
]


@op
class Reshape(View):
    """The same elements, in the same order, in another shape (a copy where a view can't be)."""

    shape: tuple[int, ...]

    def forward(self, xp: Any, x: Array) -> Array:
        return x.reshape(self.shape)

    def infer(self, x: Spec) -> Spec:
        return Spec(full_shape(self.shape, x), x.dtype)

    def backward(self, gy: Tensor, x_spec: Spec) -> Tensor:
        return gy.reshape(x_spec.shape)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case(cls((3, -1)), (rng.normal(size=(2, 6)),))
        yield Case(cls((0,)), (rng.normal(size=(2, 0)),))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls((4, 2)), (np.zeros((2, 3)),)), "6 elements don't fill the shape (4, 2)"


def full_shape(shape: tuple[int, ...], x: Spec) -> tuple[int, ...]:
    """Replace the one -1 in `shape` by the size that remains."""
    known = int(np.prod([n for n in shape if n != -1], dtype=np.int64))
    if shape.count(-1) > 1 or any(n < -1 for n in shape):
        raise Refused(f"the shape {shape} has more than one size left open (-1), or a negative one")
    if -1 not in shape:
        if known != x.size:
            raise Refused(f"{x.size} elements don't fill the shape {shape}, which holds {known}")
        return shape
    if known == 0 or x.size % known:
        raise Refused(f"{x.size} elements can't fill the shape {shape}: no size fits in place of -1")
    return tuple(x.size // known if n == -1 else n for n in shape)


@op
class Permute(View):
    """y[i_dims] = x[i]: the dimensions in another order"""

    dims: tuple[int, ...]

    def forward(self, xp: Any, x: Array) -> Array:
        return x.transpose(self.dims)

    def backward(self, gy: Tensor) -> Tensor:
        return apply(Permute(tuple(int(d) for d in np.argsort(self.dims))), gy)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case(cls((2, 0, 1)), (rng.normal(size=(2, 3, 4)),))


@op
class Expand(View):
    """Dimensions of size 1, and new ones in front, repeated without a copy; the gradient sums"""

    shape: tuple[int, ...]

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.broadcast_to(x, self.shape)

    def backward(self, gy: Tensor, x_spec: Spec) -> Tensor:
        return gy.sum_to_size(x_spec.shape)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case(cls((4, 2, 3)), (rng.normal(size=(2, 1)),))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls((4, 3)), (np.zeros((2, 3)),)), "expand"


@op
class Slice(View):
    """x[index] for integers, slices, None and Ellipsis: no element is copied"""

    index: tuple[int | slice | None, ...]

    def forward(self, xp: Any, x: Array) -> Array:
        return x[self.index]

    def backward(self, gy: Tensor, x_spec: Spec) -> Tensor:
        return apply(ViewScatter(self), np.zeros(x_spec.shape, x_spec.dtype), gy)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for index in ((1,), (slice(None), slice(0, 3, 2)), (Ellipsis, None, 0)):
            yield Case(cls(index), (rng.normal(size=(2, 4)),))


@op
class Cat(Op):
    """The inputs one after another along `dim`; each gets its part of the gradient"""

    dim: int

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
                        f"only dim {dim} may differ, but dim {d} is {n} in tensor 0 and {m} in tensor {i}"
                    )
        size = sum(x.shape[dim] for x in xs)
        return Spec((*first[:dim], size, *first[dim + 1 :]), xs[0].dtype)

    def backward(self, gy: Tensor, *xs_spec: Spec) -> tuple[Tensor, ...]:
        sizes = [s.shape[self.dim] for s in xs_spec]
        return tuple(split_with_sizes(gy, sizes, self.dim))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case(cls(1), (rng.normal(size=(2, 3)), rng.normal(size=(2, 1)), rng.normal(size=(2, 0))))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls(0), (np.zeros((2, 3)), np.zeros((2, 4)))), "only dim 0 may differ"


# --- functions -----------------------------------------------------------------------------------


def normal_dim_of(name: str, x: Tensor, dim: int, ndim: int) -> int:
    """Return `dim` of a result with `ndim` dimensions, counted from the front."""
    try:
        return normal_dim(dim, ndim)
    except RefusedIndex as reason:
        raise OpIndexError(f"{name}({spec_of(x)}): {reason}") from None


def sizes_of(args: tuple[Any, ...]) -> tuple[int, ...]:
    """Return (2, 3) of f(2, 3) and of f((2, 3))."""
    if len(args) == 1 and not isinstance(args[0], int):
        args = tuple(args[0])
    return tuple(int(a) for a in args)


def reshape(input: Tensor, *shape: Any) -> Tensor:
    """The same elements in another shape; one size may be -1.  Shape: (…) -> shape

    >>> import toumei as tm
    >>> tm.arange(6).reshape(2, -1)
    tensor([[0, 1, 2],
            [3, 4, 5]])
    """
    return apply(Reshape(sizes_of(shape)), input)


def permute(input: Tensor, *dims: Any) -> Tensor:
    """The dimensions in the order `dims`.  Shape: (d₀, d₁, …) -> (d_{dims₀}, d_{dims₁}, …)"""
    order = sizes_of(dims)
    normal = tuple(dims_of("permute", input, d)[0] for d in order)
    if sorted(normal) != list(range(input.ndim)):
        raise OpError(f"permute({spec_of(input)}): {order} doesn't name each dimension once")
    return apply(Permute(normal), input)


def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two dimensions swapped.  Shape: (…, n, …, m, …) -> (…, m, …, n, …)"""
    if input.ndim == 0:
        return input.view_as(input)
    a, b = (dims_of("transpose", input, d)[0] for d in (dim0, dim1))
    order = list(range(input.ndim))
    order[a], order[b] = order[b], order[a]
    return apply(Permute(tuple(order)), input)


def expand(input: Tensor, *shape: Any) -> Tensor:
    """Dimensions of size 1 repeated, without a copy; -1 keeps a size.  Shape: (…) -> shape"""
    sizes = list(sizes_of(shape))
    extra = len(sizes) - input.ndim
    for d in range(extra, len(sizes)):
        if d >= 0 and sizes[d] == -1:
            sizes[d] = input.shape[d - extra]
    return apply(Expand(tuple(sizes)), input)


def split_with_sizes(input: Tensor, split_sizes: Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """Parts of the given sizes along `dim`, as views."""
    (d,) = dims_of("split_with_sizes", input, dim)
    if sum(split_sizes) != input.shape[d]:
        raise OpError(
            f"split_with_sizes({spec_of(input)}): the sizes {list(split_sizes)} add up to "
            f"{sum(split_sizes)}, dim {dim} has {input.shape[d]}"
        )
    ends = np.cumsum(split_sizes).tolist()
    front = (slice(None),) * d
    return tuple(
        apply(Slice((*front, slice(end - n, end))), input)
        for n, end in zip(split_sizes, ends, strict=True)
    )


def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """A new dimension of size 1 at `dim`.  Shape: (…) -> (…, 1, …)"""
    d = normal_dim_of("unsqueeze", input, dim, input.ndim + 1)
    return apply(Reshape((*input.shape[:d], 1, *input.shape[d:])), input)


def squeeze(input: Tensor, dim: int | tuple[int, ...] | None = None) -> Tensor:
    """Without the dimensions of size 1 (all, or those in `dim`).  Shape: (…, 1, …) -> (…)"""
    dims = range(input.ndim) if dim is None else dims_of("squeeze", input, dim)
    if dim == ():
        dims = ()
    shape = tuple(n for d, n in enumerate(input.shape) if not (d in dims and n == 1))
    return apply(Reshape(shape), input)


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """The tensors along a new dimension `dim`.  Shape: n × (…) -> (…, n, …)"""
    return cat([unsqueeze(t, dim) for t in tensors], dim)


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """The tensors one after another along `dim`.  Shape: (…, nᵢ, …) -> (…, Σ nᵢ, …)"""
    (d,) = dims_of("cat", tensors[0], dim)
    return apply(Cat(d), *tensors)


def sum_to_size(input: Tensor, *size: Any) -> Tensor:
    """Summed until it has `size`: the reverse of broadcasting.  Shape: (…) -> size"""
    shape = sizes_of(size)
    extra = input.ndim - len(shape)
    dims = [d for d, n in enumerate(shape, start=extra) if n == 1 and input.shape[d] != 1]
    if extra < 0 or any(n not in (1, input.shape[d]) for d, n in enumerate(shape, start=extra)):
        raise OpError(f"sum_to_size({spec_of(input)}): it can't be summed to the shape {shape}")
    out = input.sum(dim=(*range(extra), *dims), keepdim=True) if extra or dims else input
    return out.reshape(shape) if extra else out


def view_as(input: Tensor, other: Tensor) -> Tensor:
    """The same memory in the shape of `other`.  Shape: (…) -> other.shape"""
    return apply(Reshape(tuple(other.shape)), input)
