"""The table of functions on vectors: name -> emitter.

    y = FUNCTIONS["tanh"](f, [x], target)

An emitter writes the function's instructions into `f`, for values of any number of lanes, and picks
float32, float64 or integer code by their type.  The formulas are in vecexp (exponentials, logarithms,
powers), vectrig (trigonometric and hyperbolic), vecerror (erf, gelu) and vecround (rounding, limits,
remainders); the polynomials are made by tools/vector_polynomials.py.

Accuracy, largest error in units of the last place: float32 at most 4 (exp, log, sin, cos, tanh,
sigmoid, erf: 2 or less), float64 likewise but where the C library is called lane by lane: pow,
and sin, cos, tan from 100 000 on.  Subnormal numbers count as zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
_FORMULAS = (
    *(vecexp.exp, vecexp.exp2, vecexp.expm1, vecexp.sigmoid, vecexp.log, vecexp.log2, vecexp.log10),
    *(vecexp.log1p, vecexp.softplus, vecexp.log_sigmoid, vecexp.logaddexp, vecexp.pow),
    *vectrig.TRIGONOMETRY.values(),
    *(vecerror.erf, vecerror.erfc, vecerror.gelu, vecerror.gelu_tanh),
    *(vecround.floor, vecround.ceil, vecround.trunc, vecround.round_even, vecround.frac),
    *(vecround.sign, vecround.copysign, vecround.signbit, vecround.sqrt, vecround.rsqrt),
    *(vecround.reciprocal, vecround.maximum, vecround.minimum, vecround.fmax, vecround.fmin),
    *(vecround.clamp, vecround.isnan, vecround.isinf, vecround.isfinite, vecround.fmod),
    *(vecround.remainder, vecround.floor_divide, vecround.shift_left, vecround.shift_right),
)
for _name, _formula in _ARITHMETIC.items():
    _register(_name, _formula)
for _formula in _FORMULAS:
    _register(_formula.__name__, _formula)


def convert(f: Function, x: Value, target: Target, source: str, to: str) -> Value:
    """Write a conversion between NumPy's types, by their names (see `vecround.convert`)."""
    return vecround.convert(Vec(f, target, x), source, to).value
