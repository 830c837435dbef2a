"""Softmax and its logarithm: numbers made into a distribution along one dimension."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import OpError
from ..names import numpy_names
from ..op import Array, Case, Composite, Spec, op
from ..tape import apply, dims_of, spec_of
from .blocks import BLOCK, in_blocks
from .elementwise import need_floats

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = [
    "log_softmax",
    "softmax",
    "softmin",
]


class Rowwise(Composite):
    """A function of the numbers along `dim`; the shape stays.  0-d tensors have `dim` ()."""

    dim: tuple[int, ...]

    def check(self, *arrays: Array) -> None:
        need_floats(*arrays)

    def along(self, xp: Any, function: Callable[..., Array], *arrays: Array) -> Array:
        """Return function(xp, *arrays, dim); large rows of the last dimension piece by piece."""
        x = arrays[0]
        if x.size > BLOCK and self.dim == (x.ndim - 1,):
            last = partial(function, dim=(-1,))
            return (
                in_blocks(xp, last, *arrays, row=x.shape[-1])
                if x.shape[-1] > 1
                else last(xp, *arrays)
            )
        return function(xp, *arrays, dim=self.dim)

    def infer(self, *specs: Spec) -> Spec:
        need_floats(*specs)
        return Spec(specs[0].shape, specs[0].dtype)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for shape, dim in (
            ((), ()),
            ((4,), (0,)),
            ((2, 0), (1,)),
            ((0, 2), (1,)),
            ((2, 3, 4), (1,)),
        ):
            yield Case(cls(dim), tuple(rng.normal(size=shape) for _ in cls.params))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls((0,)), tuple(np.ones(3, np.int64) for _ in cls.params)), "floating-point"


_SHORT = 64  # NumPy reduces rows of up to so many elements one by one, slowly


def _has_short_rows(x: Array, dim: tuple[int, ...]) -> bool:
    last = x.ndim > 1 and dim in ((x.ndim - 1,), (-1,))
    return last and 0 < x.shape[-1] <= _SHORT and x.size >= 4096


def max_along(xp: Any, x: Array, dim: tuple[int, ...]) -> Array:
    """Return the maximum along `dim`, which is kept as 1."""
    if _has_short_rows(x, dim):  # all first elements, all second ones …: whole vectors
        columns = xp.ascontiguousarray(x.reshape(-1, x.shape[-1]).T)
        return xp.max(columns, axis=0).reshape(*x.shape[:-1], 1)
    return xp.max(x, axis=dim, keepdims=True)


def sum_along(xp: Any, x: Array, dim: tuple[int, ...]) -> Array:
    """Return the sum along `dim`, which is kept as 1."""
    if _has_short_rows(x, dim):
        return xp.einsum("...i->...", x)[..., None]
    return xp.sum(x, axis=dim, keepdims=True)


def below_max(xp: Any, x: Array, dim: tuple[int, ...]) -> Array:
    """Return x less its maximum along `dim`: its exponential can't overflow."""
    if not x.size:
        return x.copy()
    return xp.asarray(x - max_along(xp, x, dim))


def _below_max(x: Tensor, dim: tuple[int, ...]) -> Tensor:
    # The maximum cancels out: no gradient flows through it.
    return x - x.detach().amax(dim, keepdim=True) if x.numel() and dim else x - x.detach()


@op
class Softmax(Rowwise):
    """y = eˣ/Σ eˣ;   ∂x = y·(gy − Σ gy·y)"""

    def forward(self, xp: Any, x: Array) -> Array:
        return self.along(xp, _softmax, x)

    def decompose(self, x: Tensor) -> Tensor:
        e = _below_max(x, self.dim).exp()
        return e / (e.sum(self.dim, keepdim=True) if self.dim else e)

    def backward(self, gy: Tensor, y: Tensor) -> Tensor:
        return apply(SoftmaxGrad(self.dim), gy, y)


@op
class SoftmaxGrad(Rowwise):
    """∂x = y·(g − Σ g·y): the derivative of softmax, from its output y"""

    def forward(self, xp: Any, g: Array, y: Array) -> Array:
        return self.along(xp, _softmax_grad, g, y)

    def decompose(self, g: Tensor, y: Tensor) -> Tensor:
        gy = g * y
        return gy - y * (gy.sum(self.dim, keepdim=True) if self.dim else gy)


@op
class LogSoftmax(Rowwise):
    """y = x − ln Σ eˣ;   ∂x = gy − eʸ·Σ gy"""

    def forward(self, xp: Any, x: Array) -> Array:
        return self.along(xp, _log_softmax, x)

    def decompose(self, x: Tensor) -> Tensor:
        y = _below_max(x, self.dim)
        return y - (y.exp().sum(self.dim, keepdim=True) if self.dim else y.exp()).log()

    def backward(self, gy: Tensor, y: Tensor) -> Tensor:
        return apply(LogSoftmaxGrad(self.dim), gy, y)


@op
class LogSoftmaxGrad(Rowwise):
    """∂x = g − eʸ·Σ g: the derivative of log-softmax, from its output y"""

    def forward(self, xp: Any, g: Array, y: Array) -> Array:
        return self.along(xp, _log_softmax_grad, g, y)

    def decompose(self, g: Tensor, y: Tensor) -> Tensor:
        return g - y.exp() * (g.sum(self.dim, keepdim=True) if self.dim else g)


def _softmax(xp: Any, x: Array, dim: tuple[int, ...]) -> Array:
    y = below_max(xp, x, dim)
    xp.exp(y, out=y)
    y /= sum_along(xp, y, dim)
    return y


def _softmax_grad(xp: Any, g: Array, y: Array, dim: tuple[int, ...]) -> Array:
    out = xp.asarray(g * y)
    out -= y * sum_along(xp, out, dim)
    return out


def _log_softmax(xp: Any, x: Array, dim: tuple[int, ...]) -> Array:
    y = below_max(xp, x, dim)
    y -= xp.log(sum_along(xp, xp.exp(y), dim))
    return y


def _log_softmax_grad(xp: Any, g: Array, y: Array, dim: tuple[int, ...]) -> Array:
    out = xp.asarray(xp.exp(y))
    out *= sum_along(xp, g, dim)
    xp.subtract(g, out, out=out)
    return out


# --- functions -----------------------------------------------------------------------------------


def _along(name: str, input: Tensor, dim: int | None, dtype: Any) -> tuple[Tensor, tuple[int, ...]]:
    if not isinstance(dim, int):
        raise OpError(f"{name}({spec_of(input)}): say which dimension: {name}(x, dim=-1)")
    return (input if dtype is None else input.to(dtype)), dims_of(name, input, dim)


@numpy_names
def softmax(input: Tensor, dim: int | None = None, dtype: Any = None) -> Tensor:
    """Positive numbers with the sum 1 along `dim`: eˣ/Σ eˣ.  Shape: (…) -> (…)

    Args:
        dim: the dimension that the sum runs over; it must be given.
        dtype: cast the input to it first.

    Raises:
        OpError: `dim` is missing or out of range, or the input holds integers.

    >>> import toumei as tm
    >>> tm.softmax(tm.tensor([0.0, 0.0]), dim=0)
    tensor([0.5, 0.5])
    """
    x, d = _along("softmax", input, dim, dtype)
    return apply(Softmax(d), x)


@numpy_names
def log_softmax(input: Tensor, dim: int | None = None, dtype: Any = None) -> Tensor:
    """ln softmax(x) = x − ln Σ eˣ along `dim`, without overflow.  Shape: (…) -> (…)"""
    x, d = _along("log_softmax", input, dim, dtype)
    return apply(LogSoftmax(d), x)


@numpy_names
def softmin(input: Tensor, dim: int | None = None, dtype: Any = None) -> Tensor:
    """softmax(−x): the smallest number gets the largest share.  Shape: (…) -> (…)"""
    return softmax(-input, dim, dtype=dtype)
