"""Other shapes for the same numbers: views, which share memory with what they show.

A view is changed with its base and the base with its views (`toumei.views`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..device import sized
from ..errors import OpError, OpIndexError
from ..op import Array, Case, Refused, RefusedIndex, Spec, View, normal_dim, op, repeated_zero
from ..op import broadcast_shapes as common_shape
from ..tape import Value, apply, dims_of, spec_of
from ..views import ViewScatter

if TYPE_CHECKING:
    from ..tensor import Size, Tensor


__all__ = [
    "adjoint",
    "atleast_1d",
    "atleast_2d",
    "atleast_3d",
    "broadcast_shapes",
    "broadcast_tensors",
    "broadcast_to",
    "flatten",
    "moveaxis",
    "movedim",
    "permute",
    "ravel",
    "reshape",
    "squeeze",
    "swapaxes",
    "swapdims",
    "t",
    "transpose",
    "unflatten",
    "unsqueeze",
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
    known = math.prod([n for n in shape if n != -1])
    if shape.count(-1) > 1 or any(n < -1 for n in shape):
        raise Refused(f"the shape {shape} has more than one size left open (-1), or a negative one")
    if -1 not in shape:
        if known != x.size:
            raise Refused(f"{x.size} elements don't fill the shape {shape}, which holds {known}")
        return shape
    if known == 0 or x.size % known:
        raise Refused(f"{x.size} elements can't fill the shape {shape}: no size fits for -1")
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

    def infer(self, x: Spec) -> Spec:
        extra = len(self.shape) - x.ndim
        if extra < 0:
            raise Refused(f"{x.ndim} dimensions can't become the {len(self.shape)} of {self.shape}")
        for d, (n, m) in enumerate(zip(x.shape, self.shape[extra:], strict=True)):
            if n not in (1, m) or m < 0:
                raise Refused(f"dim {d} has size {n}, which can't become {m}: only size 1 can")
        return Spec(self.shape, x.dtype)

    def backward(self, gy: Tensor, x_spec: Spec) -> Tensor:
        return gy.sum_to_size(x_spec.shape)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case(cls((4, 2, 3)), (rng.normal(size=(2, 1)),))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls((4, 3)), (np.zeros((2, 3)),)), "size 2, which can't become 4"


@op
class Slice(View):
    """x[index] for integers, slices, None and Ellipsis: no element is copied"""

    index: tuple[Any, ...]  # integers, slices, None, Ellipsis

    def forward(self, xp: Any, x: Array) -> Array:
        # With an Ellipsis NumPy returns a view even where one element is left.
        return x[self.index if Ellipsis in self.index else (*self.index, Ellipsis)]

    def infer(self, x: Spec) -> Spec:
        try:
            return super().infer(x)
        except IndexError as error:
            raise RefusedIndex(str(error)) from None

    def backward(self, gy: Tensor, x_spec: Spec) -> Tensor:
        return apply(ViewScatter(self), repeated_zero(x_spec), gy)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        full = slice(None)
        for index in ((1,), (full, slice(0, 3, 2)), (Ellipsis, None, 0)):
            yield Case(cls(index), (rng.normal(size=(2, 4)),))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls((3,)), (np.zeros((2, 3)),)), "index 3 is out of bounds"


# --- arguments -----------------------------------------------------------------------------------


def normal_dim_of(name: str, x: Value, dim: int, ndim: int | None = None) -> int:
    """Return `dim` of something with `ndim` dimensions (x's if None), counted from the front."""
    try:
        return normal_dim(dim, len(x._data.shape) if ndim is None else ndim)
    except RefusedIndex as reason:
        raise OpIndexError(f"{name}({spec_of(x)}): {reason}") from None


def sizes_of(args: tuple[Any, ...], named: Any = None) -> tuple[int, ...]:
    """Return (2, 3) of f(2, 3), of f((2, 3)) and of f(name=(2, 3))."""
    if named is not None:
        args = (*args, named)
    if len(args) == 1 and isinstance(args[0], tuple | list):
        args = tuple(args[0])
    return tuple([int(a) for a in args])


def along(dim: int, part: Any) -> tuple[Any, ...]:
    """Return the index that takes `part` of the dimension `dim` and all of those before it."""
    return (*(slice(None),) * dim, part)


# --- the same elements in another shape ----------------------------------------------------------


def reshape(input: Tensor, *args: Any, shape: Any = None) -> Tensor:
    """The same elements in another shape; one size may be -1.  Shape: (…) -> shape

    A view where the memory allows it, else a copy.

    >>> import toumei as tm
    >>> tm.arange(6).reshape(2, -1)
    tensor([[0, 1, 2],
            [3, 4, 5]])
    """
    return apply(Reshape(sizes_of(args, shape)), input)


def view(input: Tensor, *args: Any, size: Any = None) -> Tensor:
    """The same memory in another shape; one size may be -1.  Shape: (…) -> shape

    Raises:
        OpError: the elements don't lie in memory so that the shape could show them.
    """
    shape = sizes_of(args, size)
    out: Tensor = apply(Reshape(shape), input)
    if out._parent is None and out._data.size:
        raise OpError(
            f"view({spec_of(input)}, shape={shape}): with the strides {input.stride()} the "
            "elements don't lie in memory in that order. Use reshape(), which copies"
        )
    return out


def view_as(input: Tensor, other: Tensor) -> Tensor:
    """The same memory in the shape of `other`.  Shape: (…) -> other.shape"""
    return view(input, tuple(other.shape))


def reshape_as(input: Tensor, other: Tensor) -> Tensor:
    """The same elements in the shape of `other`.  Shape: (…) -> other.shape"""
    return reshape(input, tuple(other.shape))


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """The dimensions from `start_dim` to `end_dim` as one.  Shape: (a, b, c, …) -> (a·b·c, …)

    >>> import toumei as tm
    >>> tm.zeros(2, 3, 4).flatten(1).shape
    Size([2, 12])
    """
    a, b = (normal_dim_of("flatten", input, d) for d in (start_dim, end_dim))
    if a > b:
        raise OpError(f"flatten({spec_of(input)}): dim {start_dim} comes after {end_dim}")
    shape = tuple(input.shape) or (1,)
    merged = math.prod(shape[a : b + 1])
    return reshape(input, (*shape[:a], merged, *shape[b + 1 :]))


def unflatten(input: Tensor, dim: int, sizes: Any) -> Tensor:
    """The dimension `dim` as several; one size may be -1.  Shape: (…, n, …) -> (…, *sizes, …)"""
    d = normal_dim_of("unflatten", input, dim)
    parts = Spec((input.shape[d],), input.dtype)
    try:
        inner = full_shape(sizes_of((sizes,)), parts)
    except Refused as reason:
        raise OpError(f"unflatten({spec_of(input)}, dim={dim}): {reason}") from None
    return reshape(input, (*input.shape[:d], *inner, *input.shape[d + 1 :]))


def ravel(input: Tensor) -> Tensor:
    """All elements in one dimension.  Shape: (…) -> (n)"""
    return reshape(input, -1)


def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """A new dimension of size 1 at `dim`.  Shape: (…) -> (…, 1, …)"""
    d = normal_dim_of("unsqueeze", input, dim, input.ndim + 1)
    return apply(Reshape((*input.shape[:d], 1, *input.shape[d:])), input)


def squeeze(input: Tensor, dim: int | Sequence[int] | None = None) -> Tensor:
    """Without the dimensions of size 1 (all, or those in `dim`).  Shape: (…, 1, …) -> (…)"""
    dims = range(input.ndim) if dim is None else dims_of("squeeze", input, dim)
    if isinstance(dim, tuple | list) and not dim:
        dims = ()
    shape = tuple(n for d, n in enumerate(input.shape) if not (d in dims and n == 1))
    return apply(Reshape(shape), input)


def _at_least(tensors: tuple[Any, ...], fit: Any) -> Any:
    if len(tensors) == 1 and not isinstance(tensors[0], tuple | list):
        return fit(tensors[0])
    group = tensors[0] if len(tensors) == 1 else tensors
    return tuple(fit(t) for t in group)


def atleast_1d(*tensors: Any) -> Any:
    """Each tensor with one dimension at least.  Shape: () -> (1)"""
    return _at_least(tensors, lambda t: t if t.ndim else reshape(t, 1))


def atleast_2d(*tensors: Any) -> Any:
    """Each tensor with two dimensions at least.  Shape: (n) -> (1, n)"""
    return _at_least(tensors, lambda t: t if t.ndim > 1 else reshape(t, 1, -1))


def atleast_3d(*tensors: Any) -> Any:
    """Each tensor with three dimensions at least.  Shape: (n) -> (1, n, 1); (n, m) -> (n, m, 1)"""

    def fit(t: Tensor) -> Tensor:
        if t.ndim < 2:
            return reshape(t, 1, -1, 1)
        return unsqueeze(t, -1) if t.ndim == 2 else t

    return _at_least(tensors, fit)


# --- the dimensions in another order -------------------------------------------------------------


def permute(input: Tensor, *args: Any, dims: Any = None) -> Tensor:
    """The dimensions in the order `dims`.  Shape: (d₀, d₁, …) -> (d_{dims₀}, d_{dims₁}, …)"""
    order = sizes_of(args, dims)
    normal = tuple([normal_dim_of("permute", input, d) for d in order])
    if sorted(normal) != list(range(input.ndim)):
        raise OpError(f"permute({spec_of(input)}): {order} doesn't name each dimension once")
    return apply(Permute(normal), input)


def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two dimensions swapped.  Shape: (…, n, …, m, …) -> (…, m, …, n, …)"""
    a, b = (normal_dim_of("transpose", input, d) for d in (dim0, dim1))
    order = list(range(input.ndim))
    if order:
        order[a], order[b] = order[b], order[a]
    return apply(Permute(tuple(order)), input)


swapdims = transpose


def swapaxes(input: Tensor, axis0: int, axis1: int) -> Tensor:
    """Two dimensions swapped; another name of `transpose`."""
    return transpose(input, axis0, axis1)


def movedim(input: Tensor, source: Any, destination: Any) -> Tensor:
    """The dimensions `source` moved to the places `destination`, the others in their old order.

    >>> import toumei as tm
    >>> tm.zeros(2, 3, 4).movedim(0, -1).shape
    Size([3, 4, 2])
    """
    pairs = [sizes_of((v,)) for v in (source, destination)]
    froms, tos = ([normal_dim_of("movedim", input, d) for d in dims] for dims in pairs)
    if len(froms) != len(tos) or len(set(froms)) < len(froms) or len(set(tos)) < len(tos):
        raise OpError(
            f"movedim({spec_of(input)}): source {source} and destination {destination} must name "
            "equally many dimensions, each once"
        )
    if input.ndim == 0:
        return permute(input, ())
    rest = [d for d in range(input.ndim) if d not in froms]
    for to, d in sorted(zip(tos, froms, strict=True)):
        rest.insert(to, d)
    return apply(Permute(tuple(rest)), input)


moveaxis = movedim


def t(input: Tensor) -> Tensor:
    """A matrix transposed; fewer dimensions stay as they are.  Shape: (n, m) -> (m, n)"""
    if input.ndim > 2:
        raise OpError(f"t({spec_of(input)}): at most 2 dimensions; use transpose() or mT")
    return apply(Permute(tuple(range(input.ndim))[::-1]), input)


def adjoint(input: Tensor) -> Tensor:
    """The last two dimensions swapped (numbers here are real).  Shape: (…, n, m) -> (…, m, n)"""
    if input.ndim < 2:
        raise OpError(f"adjoint({spec_of(input)}): it takes at least 2 dimensions")
    return transpose(input, -2, -1)


def matrix_H(input: Tensor) -> Tensor:  # noqa: N802
    """A matrix transposed: what `x.H` is.  Shape: (n, m) -> (m, n)"""
    if input.ndim not in (0, 2):
        raise OpError(f"H of {spec_of(input)}: it takes a matrix; use mH for a batch of them")
    return t(input)


# --- repeated ------------------------------------------------------------------------------------


def expand(input: Tensor, *args: Any, size: Any = None) -> Tensor:
    """Dimensions of size 1 repeated, without a copy; -1 keeps a size.  Shape: (…) -> size"""
    sizes = list(sizes_of(args, size))
    extra = len(sizes) - input.ndim
    for d in range(max(extra, 0), len(sizes)):
        if sizes[d] == -1:
            sizes[d] = input.shape[d - extra]
    return apply(Expand(tuple(sizes)), input)


def expand_as(input: Tensor, other: Tensor) -> Tensor:
    """Dimensions of size 1 repeated to the shape of `other`.  Shape: (…) -> other.shape"""
    return expand(input, tuple(other.shape))


@sized
def broadcast_to(input: Tensor, *size: Any) -> Tensor:
    """Dimensions of size 1 repeated, without a copy; another name of `expand`."""
    return expand(input, *size)


def broadcast_shapes(*shapes: Any) -> Size:
    """The shape that all `shapes` broadcast to."""
    from ..tensor import Size

    sizes = [sizes_of((s,)) for s in shapes]
    try:
        return Size(common_shape((), sizes))
    except Refused as reason:
        raise OpError(f"broadcast_shapes: {reason}") from None


def broadcast_tensors(*tensors: Any) -> tuple[Tensor, ...]:
    """All tensors expanded to the shape that they broadcast to.  Shape: n × (…) -> n × (…)"""
    group = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], tuple | list) else tensors
    shape = broadcast_shapes(*(tuple(x.shape) for x in group))
    return tuple(expand(x, shape) for x in group)


def sum_to_size(input: Tensor, *size: Any) -> Tensor:
    """Summed until it has `size`: the reverse of broadcasting.  Shape: (…) -> size"""
    shape = sizes_of(size)
    extra = input.ndim - len(shape)
    dims = [d for d, n in enumerate(shape, start=extra) if n == 1 and input.shape[d] != 1]
    if extra < 0 or any(n not in (1, input.shape[d]) for d, n in enumerate(shape, start=extra)):
        raise OpError(f"sum_to_size({spec_of(input)}): it can't be summed to the shape {shape}")
    out = input.sum(dim=(*range(extra), *dims), keepdim=True) if extra or dims else input
    return out.reshape(shape) if extra else out
