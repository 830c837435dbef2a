"""The table of functions on vectors: name -> emitter.

    y = FUNCTIONS["tanh"](f, [x], target)

An emitter writes the function's instructions into `f`, for values of any number of lanes, and
picks float32, float64 or integer code by their type.  The formulas are in vecexp (exponentials,
logarithms, powers), vectrig (trigonometric and hyperbolic), vecerror (erf, gelu) and vecround
(rounding, limits, remainders); the polynomials are made by tools/vector_polynomials.py.

Largest errors seen, in units of the last place: 3; but 4 of tan, 6 of erfc in float64, and of tanh
in float32 5, or 6 without fused multiply-add (both from |x| = 2 on).  gelu in float32 is off by
up to 2.6e-7·|x|, its slope by 2e-7.

The C library is called lane by lane by pow in float64, by sin, cos and tan from 100 000 on, and by
remainders whose quotient has more bits than a mantissa.  Subnormal numbers may count as zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from . import vecerror, vecexp, vecround, vectrig
from .ir import Function, Value
from .target import Target
from .vec import Vec, where

Emitter = Callable[[Function, Sequence[Value], Target], Value]

FUNCTIONS: dict[str, Emitter] = {}


def _register(name: str, formula: Callable[..., Vec]) -> None:
    def emit(f: Function, args: Sequence[Value], target: Target) -> Value:
        return formula(*(Vec(f, target, a) for a in args)).value

    emit.__name__, emit.__doc__ = name, formula.__doc__
    FUNCTIONS[name] = emit


def _not_equal(a: Vec, b: Vec) -> Vec:
    return a.compare("une" if a.is_float else "ne", b)


_ARITHMETIC: dict[str, Callable[..., Vec]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "neg": lambda a: -a,
    "abs": abs,
    "square": lambda a: a * a,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "eq": lambda a, b: a.equals(b),
    "ne": _not_equal,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
    "not": lambda a: ~a,
    "where": where,
}
_FORMULAS: tuple[Any, ...] = (
    *(vecexp.exp, vecexp.exp2, vecexp.expm1, vecexp.sigmoid, vecexp.log, vecexp.log2, vecexp.log10),
    *(vecexp.log1p, vecexp.softplus, vecexp.log_sigmoid, vecexp.logaddexp, vecexp.pow),
    *vectrig.TRIGONOMETRY.values(),
    *(vecerror.erf, vecerror.erfc, vecerror.gelu, vecerror.gelu_slope, vecerror.gelu_tanh),
    *(vecround.floor, vecround.ceil, vecround.trunc, vecround.round_even, vecround.frac),
    *(vecround.sign, vecround.copysign, vecround.signbit, vecround.sqrt, vecround.rsqrt),
    *(vecround.reciprocal, vecround.maximum, vecround.minimum, vecround.fmax, vecround.fmin),
    *(vecround.clamp, vecround.isnan, vecround.isinf, vecround.isfinite, vecround.fmod),
    *(vecround.remainder, vecround.floor_divide, vecround.shift_left, vecround.shift_right),
)
for _name, _formula in [*_ARITHMETIC.items(), *((f.__name__, f) for f in _FORMULAS)]:
    _register(_name, _formula)


def convert(f: Function, x: Value, target: Target, source: str, to: str) -> Value:
    """Write a conversion between NumPy's types, by their names (see `vecround.convert`)."""
    return vecround.convert(Vec(f, target, x), source, to).value
