"""The methods of Tensor that are ops: each is the function of the same name in `toumei.ops`.

A function `f(input, …)` becomes the method `x.f(…)`; `in_place(f)` becomes `x.f_(…)`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, cast

from .ops import arithmetic, elementwise, indexing, linalg, reduction
from .ops import shape as shapes
from .tape import Value, as_tensor
from .views import assign

if TYPE_CHECKING:
    from .tensor import Tensor

P = ParamSpec("P")


def in_place(
    function: Callable[Concatenate[Any, P], Tensor],
) -> Callable[Concatenate[Any, P], Tensor]:
    """Make `x.f_()` of `f`: the result takes the place of x's value."""

    def method(self: Any, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        return assign(self, function(self, *args, **kwargs), method.__name__)

    method.__name__ = f"{function.__name__}_"
    method.__doc__ = f"{function.__name__}, in place: the result takes the place of the tensor's value."
    return method


class TensorMethods(Value):
    """The ops as methods and operators."""

    __add__ = __radd__ = add = arithmetic.add
    __sub__ = sub = arithmetic.sub
    __mul__ = __rmul__ = mul = arithmetic.mul
    __truediv__ = div = arithmetic.div
    __pow__ = pow = arithmetic.pow
    __matmul__ = matmul = linalg.matmul
    __neg__ = neg = elementwise.neg
    __eq__ = eq = arithmetic.eq  # type: ignore[assignment]
    __ne__ = ne = arithmetic.ne  # type: ignore[assignment]
    __lt__ = lt = arithmetic.lt
    __le__ = le = arithmetic.le
    __gt__ = gt = arithmetic.gt
    __ge__ = ge = arithmetic.ge
    __getitem__ = indexing.getitem
    __setitem__ = indexing.setitem

    def __rsub__(self, other: Any) -> Tensor:
        return arithmetic.sub(other, self)

    def __rtruediv__(self, other: Any) -> Tensor:
        return arithmetic.div(other, self)

    def __rpow__(self, other: Any) -> Tensor:
        return arithmetic.pow(other, self)

    def __rmatmul__(self, other: Any) -> Tensor:
        return linalg.matmul(other, self)

    def copy_(self, source: Any) -> Tensor:
        """Take over the numbers of `source`, broadcast and cast."""
        target, value = cast("Tensor", self), as_tensor(source).to(self._data.dtype)
        return assign(target, value.expand(target.shape).clone(), "copy_")

    def __hash__(self) -> int:
        return id(self)

    @property
    def T(self) -> Tensor:  # noqa: N802
        return shapes.permute(cast("Tensor", self), *reversed(range(len(self._data.shape))))

    @property
    def mT(self) -> Tensor:  # noqa: N802
        return shapes.transpose(cast("Tensor", self), -1, -2)

    clone = elementwise.clone
    exp, log, sqrt = elementwise.exp, elementwise.log, elementwise.sqrt
    sin, cos, tanh = elementwise.sin, elementwise.cos, elementwise.tanh
    maximum, minimum = arithmetic.maximum, arithmetic.minimum
    sum, mean, amax, amin = reduction.sum, reduction.mean, reduction.amax, reduction.amin
    reshape, permute, transpose = shapes.reshape, shapes.permute, shapes.transpose
    squeeze, unsqueeze = shapes.squeeze, shapes.unsqueeze
    expand, view_as, sum_to_size = shapes.expand, shapes.view_as, shapes.sum_to_size
    masked_fill = indexing.masked_fill

    add_, sub_, mul_ = in_place(arithmetic.add), in_place(arithmetic.sub), in_place(arithmetic.mul)
    div_ = in_place(arithmetic.div)
    __iadd__, __isub__, __imul__, __itruediv__ = add_, sub_, mul_, div_
