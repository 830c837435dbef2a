"""Views whose result is copied: `f_copy` is `f` with memory of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np

from ..op import Array, Elementwise, op
from ..tape import apply
from . import parts, shape

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = [
    "alias_copy",
    "as_strided_copy",
    "diagonal_copy",
    "expand_copy",
    "narrow_copy",
    "permute_copy",
    "select_copy",
    "slice_copy",
    "split_copy",
    "split_with_sizes_copy",
    "squeeze_copy",
    "t_copy",
    "transpose_copy",
    "unbind_copy",
    "unfold_copy",
    "unsqueeze_copy",
    "view_copy",
]

P = ParamSpec("P")
R = TypeVar("R")


@op
class Contiguous(Elementwise):
    """y = x, in memory of its own in the order of the indices;   dy/dx = 1"""

    def forward(self, xp: Any, x: Array) -> Array:
        return x.copy(order="C")

    def lower(self, b: Any, x: Any) -> Any:
        return x

    def backward(self, gy: Tensor) -> Tensor:
        return gy


def contiguous(input: Tensor) -> Tensor:
    """The tensor itself if its elements lie in memory in the order of indices, else a copy."""
    data = input._data
    if isinstance(data, np.ndarray) and data.flags.c_contiguous:
        return input
    return apply(Contiguous(), input)


def _copied(function: Callable[P, R]) -> Callable[P, R]:
    """Make `f_copy` of the view `f`."""

    def copy(*args: P.args, **kwargs: P.kwargs) -> R:
        out: Any = function(*args, **kwargs)
        if isinstance(out, tuple):
            return tuple(apply(Contiguous(), o) for o in out)  # type: ignore[return-value]
        return apply(Contiguous(), out)

    copy.__name__ = copy.__qualname__ = f"{function.__name__}_copy"
    copy.__doc__ = f"As `{function.__name__}`, but in memory of its own."
    return copy


def _alias(input: Tensor) -> Tensor:
    return input


alias_copy = _copied(_alias)
alias_copy.__doc__ = "A contiguous copy.  Shape: (…) -> (…)"
as_strided_copy = _copied(parts.as_strided)
diagonal_copy = _copied(parts.diagonal)
expand_copy = _copied(shape.expand)
narrow_copy = _copied(parts.narrow)
permute_copy = _copied(shape.permute)
select_copy = _copied(parts.select)
slice_copy = _copied(parts.slice)
split_copy = _copied(parts.split)
split_with_sizes_copy = _copied(parts.split_with_sizes)
squeeze_copy = _copied(shape.squeeze)
t_copy = _copied(shape.t)
transpose_copy = _copied(shape.transpose)
unbind_copy = _copied(parts.unbind)
unfold_copy = _copied(parts.unfold)
unsqueeze_copy = _copied(shape.unsqueeze)
view_copy = _copied(shape.view)
