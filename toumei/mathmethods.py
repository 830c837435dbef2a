"""The methods and operators of Tensor that work element by element.

A function `f(input, …)` becomes the method `x.f(…)`; `in_place(f)` becomes `x.f_(…)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from .ops import arithmetic, bessel, choice, elementwise, logic, rounding, special, trigonometry
from .tape import Value
from .views import in_place

if TYPE_CHECKING:
    from .tensor import Tensor


# What == compares with by elements; anything else is just different, as `x == None`.
_OPERANDS = (Value, np.ndarray, np.generic, bool, int, float)


class MathMethods(Value):
    """The element-by-element ops as methods and operators."""

    # elementwise
    abs, absolute, neg = elementwise.abs, elementwise.absolute, elementwise.neg
    negative, positive, sign = elementwise.negative, elementwise.positive, elementwise.sign
    sgn, signbit, angle = elementwise.sgn, elementwise.signbit, elementwise.angle
    conj, conj_physical = elementwise.conj, elementwise.conj_physical
    resolve_conj, resolve_neg = elementwise.resolve_conj, elementwise.resolve_neg
    square, sqrt, rsqrt = elementwise.square, elementwise.sqrt, elementwise.rsqrt
    reciprocal, exp, exp2 = elementwise.reciprocal, elementwise.exp, elementwise.exp2
    expm1, log, log10 = elementwise.expm1, elementwise.log, elementwise.log10
    log1p, log2, clone = elementwise.log1p, elementwise.log2, elementwise.clone
    abs_, absolute_, neg_ = in_place(abs), in_place(absolute), in_place(neg)
    negative_, sign_, sgn_ = in_place(negative), in_place(sign), in_place(sgn)
    square_, sqrt_, rsqrt_ = in_place(square), in_place(sqrt), in_place(rsqrt)
    reciprocal_, exp_, exp2_ = in_place(reciprocal), in_place(exp), in_place(exp2)
    expm1_, log_, log10_ = in_place(expm1), in_place(log), in_place(log10)
    log1p_, log2_ = in_place(log1p), in_place(log2)
    # trigonometry
    sin, cos, tan = trigonometry.sin, trigonometry.cos, trigonometry.tan
    asin, acos, atan = trigonometry.asin, trigonometry.acos, trigonometry.atan
    sinh, cosh, tanh = trigonometry.sinh, trigonometry.cosh, trigonometry.tanh
    asinh, acosh, atanh = trigonometry.asinh, trigonometry.acosh, trigonometry.atanh
    sinc, arcsin, arccos = trigonometry.sinc, trigonometry.arcsin, trigonometry.arccos
    arctan, arcsinh, arccosh = trigonometry.arctan, trigonometry.arcsinh, trigonometry.arccosh
    arctanh, atan2, arctan2 = trigonometry.arctanh, trigonometry.atan2, trigonometry.arctan2
    hypot, deg2rad, rad2deg = trigonometry.hypot, trigonometry.deg2rad, trigonometry.rad2deg
    sin_, cos_, tan_, asin_ = in_place(sin), in_place(cos), in_place(tan), in_place(asin)
    acos_, atan_, sinh_, cosh_ = in_place(acos), in_place(atan), in_place(sinh), in_place(cosh)
    tanh_, asinh_, acosh_ = in_place(tanh), in_place(asinh), in_place(acosh)
    atanh_, sinc_, arcsin_ = in_place(atanh), in_place(sinc), in_place(arcsin)
    arccos_, arctan_, arcsinh_ = in_place(arccos), in_place(arctan), in_place(arcsinh)
    arccosh_, arctanh_, atan2_ = in_place(arccosh), in_place(arctanh), in_place(atan2)
    arctan2_, hypot_, deg2rad_ = in_place(arctan2), in_place(hypot), in_place(deg2rad)
    rad2deg_ = in_place(rad2deg)
    # rounding
    floor, ceil, round, trunc = rounding.floor, rounding.ceil, rounding.round, rounding.trunc
    fix, frac, clamp, clip = rounding.fix, rounding.frac, rounding.clamp, rounding.clip
    clamp_min, clamp_max = rounding.clamp_min, rounding.clamp_max
    nan_to_num, floor_divide = rounding.nan_to_num, rounding.floor_divide
    remainder, fmod = rounding.remainder, rounding.fmod
    floor_, ceil_, round_ = in_place(floor), in_place(ceil), in_place(round)
    trunc_, fix_, frac_, clamp_ = in_place(trunc), in_place(fix), in_place(frac), in_place(clamp)
    clip_, clamp_min_, clamp_max_ = in_place(clip), in_place(clamp_min), in_place(clamp_max)
    nan_to_num_, floor_divide_ = in_place(nan_to_num), in_place(floor_divide)
    remainder_, fmod_ = in_place(remainder), in_place(fmod)
    # arithmetic
    add, sub, mul, div = arithmetic.add, arithmetic.sub, arithmetic.mul, arithmetic.div
    true_divide, pow = arithmetic.true_divide, arithmetic.pow
    float_power, subtract = arithmetic.float_power, arithmetic.subtract
    multiply, divide, addcmul = arithmetic.multiply, arithmetic.divide, arithmetic.addcmul
    addcdiv, lerp, logaddexp = arithmetic.addcdiv, arithmetic.lerp, arithmetic.logaddexp
    logaddexp2, copysign = arithmetic.logaddexp2, arithmetic.copysign
    nextafter, ldexp, frexp = arithmetic.nextafter, arithmetic.ldexp, arithmetic.frexp
    gcd, lcm = arithmetic.gcd, arithmetic.lcm
    add_, sub_, mul_, div_ = in_place(add), in_place(sub), in_place(mul), in_place(div)
    true_divide_, pow_, float_power_ = in_place(true_divide), in_place(pow), in_place(float_power)
    subtract_, multiply_, divide_ = in_place(subtract), in_place(multiply), in_place(divide)
    addcmul_, addcdiv_, lerp_ = in_place(addcmul), in_place(addcdiv), in_place(lerp)
    copysign_, nextafter_, ldexp_ = in_place(copysign), in_place(nextafter), in_place(ldexp)
    gcd_, lcm_ = in_place(gcd), in_place(lcm)
    # choice
    maximum, minimum, fmax, fmin = choice.maximum, choice.minimum, choice.fmax, choice.fmin
    heaviside = choice.heaviside
    heaviside_ = in_place(heaviside)
    # logic
    eq, ne, lt, le, gt, ge = logic.eq, logic.ne, logic.lt, logic.le, logic.gt, logic.ge
    not_equal, less, less_equal = logic.not_equal, logic.less, logic.less_equal
    greater, greater_equal = logic.greater, logic.greater_equal
    logical_and, logical_or = logic.logical_and, logic.logical_or
    logical_xor, logical_not, isnan = logic.logical_xor, logic.logical_not, logic.isnan
    isinf, isfinite, isposinf = logic.isinf, logic.isfinite, logic.isposinf
    isneginf, isreal, isclose = logic.isneginf, logic.isreal, logic.isclose
    allclose, equal, bitwise_and = logic.allclose, logic.equal, logic.bitwise_and
    bitwise_or, bitwise_xor = logic.bitwise_or, logic.bitwise_xor
    bitwise_not, bitwise_left_shift = logic.bitwise_not, logic.bitwise_left_shift
    bitwise_right_shift = logic.bitwise_right_shift
    eq_, ne_, lt_, le_, gt_ = in_place(eq), in_place(ne), in_place(lt), in_place(le), in_place(gt)
    ge_, not_equal_, less_ = in_place(ge), in_place(not_equal), in_place(less)
    less_equal_, greater_ = in_place(less_equal), in_place(greater)
    greater_equal_, logical_and_ = in_place(greater_equal), in_place(logical_and)
    logical_or_, logical_xor_ = in_place(logical_or), in_place(logical_xor)
    logical_not_, bitwise_and_ = in_place(logical_not), in_place(bitwise_and)
    bitwise_or_, bitwise_xor_ = in_place(bitwise_or), in_place(bitwise_xor)
    bitwise_not_, bitwise_left_shift_ = in_place(bitwise_not), in_place(bitwise_left_shift)
    bitwise_right_shift_ = in_place(bitwise_right_shift)
    # bessel
    i0 = bessel.i0
    i0_ = in_place(i0)
    # special
    sigmoid, logit, erf, erfc = special.sigmoid, special.logit, special.erf, special.erfc
    erfinv, lgamma, digamma = special.erfinv, special.lgamma, special.digamma
    mvlgamma, igamma, igammac = special.mvlgamma, special.igamma, special.igammac
    xlogy = special.xlogy
    sigmoid_, logit_, erf_ = in_place(sigmoid), in_place(logit), in_place(erf)
    erfc_, erfinv_, lgamma_ = in_place(erfc), in_place(erfinv), in_place(lgamma)
    digamma_, mvlgamma_, igamma_ = in_place(digamma), in_place(mvlgamma), in_place(igamma)
    igammac_, xlogy_ = in_place(igammac), in_place(xlogy)

    real = property(elementwise.real)

    def where(self, condition: Any, other: Any) -> Tensor:
        """The elements of this tensor where `condition` holds, else those of `other`."""
        return cast("Tensor", choice.where(condition, cast("Tensor", self), other))

    def polygamma(self, n: int) -> Tensor:
        """The n-th derivative of the digamma function."""
        return special.polygamma(n, cast("Tensor", self))

    polygamma_ = in_place(polygamma)

    # --- operators ---

    __add__ = __radd__ = add
    __sub__, __rsub__ = sub, arithmetic.rsub
    __mul__ = __rmul__ = mul
    __truediv__, __floordiv__, __mod__, __pow__ = div, floor_divide, remainder, pow
    __neg__, __pos__, __abs__, __invert__ = neg, positive, abs, bitwise_not
    __and__ = __rand__ = bitwise_and
    __or__ = __ror__ = bitwise_or
    __xor__ = __rxor__ = bitwise_xor
    __lshift__, __rshift__ = bitwise_left_shift, bitwise_right_shift

    def __eq__(self, other: object) -> Any:
        if not isinstance(other, _OPERANDS):
            return NotImplemented
        return logic.eq(cast("Tensor", self), cast("Tensor", other))

    def __ne__(self, other: object) -> Any:
        if not isinstance(other, _OPERANDS):
            return NotImplemented
        return logic.ne(cast("Tensor", self), cast("Tensor", other))

    __lt__, __le__, __gt__, __ge__ = lt, le, gt, ge
    __iadd__, __isub__, __imul__, __itruediv__ = add_, sub_, mul_, div_
    __ifloordiv__, __imod__, __ipow__ = floor_divide_, remainder_, pow_
    __iand__, __ior__, __ixor__ = bitwise_and_, bitwise_or_, bitwise_xor_
    __ilshift__, __irshift__ = bitwise_left_shift_, bitwise_right_shift_

    def __hash__(self) -> int:
        return id(self)

    def __rtruediv__(self, other: Any) -> Tensor:
        return arithmetic.div(other, cast("Tensor", self))

    def __rfloordiv__(self, other: Any) -> Tensor:
        return rounding.floor_divide(other, cast("Tensor", self))

    def __rmod__(self, other: Any) -> Tensor:
        return rounding.remainder(other, cast("Tensor", self))

    def __rpow__(self, other: Any) -> Tensor:
        return arithmetic.pow(other, cast("Tensor", self))

    def __rlshift__(self, other: Any) -> Tensor:
        return logic.bitwise_left_shift(other, cast("Tensor", self))

    def __rrshift__(self, other: Any) -> Tensor:
        return logic.bitwise_right_shift(other, cast("Tensor", self))

    __rdiv__ = __rtruediv__
