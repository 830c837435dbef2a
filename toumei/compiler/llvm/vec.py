"""Formulas on vectors: a Vec is a value of the IR with operators.

    y = x * 2 + 1          # writes fmul and fadd into the function that x belongs to
    y = where(x < 0, -x, x)

So that the elementary functions read as what they compute.  Python numbers become constants of the
other operand's type.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from .ir import Function, Value, split
from .polynomials import Table
from .target import Target

INTEGER = {"float": "i32", "double": "i64"}  # of the same size
MANTISSA = {"float": 23, "double": 52}  # bits
BIAS = {"float": 127, "double": 1023}  # of the exponent
FLOATS = ("float", "double")

Number = float | int


class Vec:
    """A vector of any lanes, or a single number, with the operators of its type."""

    __slots__ = ("element", "f", "target", "value")

    def __init__(self, f: Function, target: Target, value: Value) -> None:
        self.f, self.target, self.value = f, target, value
        self.element = split(value.type)[0]

    def wrap(self, value: Value) -> Vec:
        """Return a value of the same function as a Vec."""
        return Vec(self.f, self.target, value)

    def const(self, number: Number) -> Vec:
        """Return a constant of this type."""
        return self.wrap(self.f.const(self.value.type, number))

    def same(self, other: Vec | Number) -> Value:
        """Return another operand as a value: a number becomes a constant of this type."""
        return other.value if isinstance(other, Vec) else self.f.const(self.value.type, other)

    @property
    def is_float(self) -> bool:
        return self.element in FLOATS

    # --- arithmetic ---

    def __add__(self, b: Vec | Number) -> Vec:
        write = self.f.fadd if self.is_float else self.f.add
        return self.wrap(write(self.value, self.same(b)))

    def __sub__(self, b: Vec | Number) -> Vec:
        write = self.f.fsub if self.is_float else self.f.sub
        return self.wrap(write(self.value, self.same(b)))

    def __mul__(self, b: Vec | Number) -> Vec:
        write = self.f.fmul if self.is_float else self.f.mul
        return self.wrap(write(self.value, self.same(b)))

    def __truediv__(self, b: Vec | Number) -> Vec:
        return self.wrap(self.f.fdiv(self.value, self.same(b)))

    def __radd__(self, a: Number) -> Vec:
        return self + a

    def __rmul__(self, a: Number) -> Vec:
        return self * a

    def __rsub__(self, a: Number) -> Vec:
        return self.const(a) - self

    def __rtruediv__(self, a: Number) -> Vec:
        return self.const(a) / self

    def __neg__(self) -> Vec:
        return self.wrap(self.f.fneg(self.value)) if self.is_float else 0 - self

    def __abs__(self) -> Vec:
        if self.is_float:
            return self.intrinsic("fabs")
        return where(self < 0, -self, self)

    # --- comparisons (NaN compares false) and bits ---

    def compare(self, how: str, b: Vec | Number) -> Vec:
        """Compare by one of LLVM's ways."""
        return self.wrap(self.f.compare(how, self.value, self.same(b)))

    def __lt__(self, b: Vec | Number) -> Vec:
        return self.compare("olt" if self.is_float else "slt", b)

    def __gt__(self, b: Vec | Number) -> Vec:
        return self.compare("ogt" if self.is_float else "sgt", b)

    def __le__(self, b: Vec | Number) -> Vec:
        return self.compare("ole" if self.is_float else "sle", b)

    def __ge__(self, b: Vec | Number) -> Vec:
        return self.compare("oge" if self.is_float else "sge", b)

    def equals(self, b: Vec | Number) -> Vec:
        """Return which lanes are equal; NaN equals nothing."""
        return self.compare("oeq" if self.is_float else "eq", b)

    def isnan(self) -> Vec:
        """Return which lanes are NaN."""
        return self.compare("uno", self)

    def bit(self, name: str, b: Vec | Number) -> Vec:
        """Write "and", "or", "xor", "shl", "lshr" … of integers or masks."""
        return self.wrap(self.f.bits(name, self.value, self.same(b)))

    def __and__(self, b: Vec | Number) -> Vec:
        return self.bit("and", b)

    def __or__(self, b: Vec | Number) -> Vec:
        return self.bit("or", b)

    def __xor__(self, b: Vec | Number) -> Vec:
        return self.bit("xor", b)

    def __invert__(self) -> Vec:
        return self ^ (1 if self.element == "i1" else -1)

    def __lshift__(self, b: Vec | Number) -> Vec:
        return self.bit("shl", b)

    def __rshift__(self, b: Vec | Number) -> Vec:
        """Shift with zeros coming in from above."""
        return self.bit("lshr", b)

    # --- the rest ---

    def intrinsic(self, name: str, *more: Vec) -> Vec:
        """Call one of LLVM's functions, as "fabs" or "floor"."""
        args = [self.value, *(m.value for m in more)]
        return self.wrap(self.f.intrinsic(name, self.value.type, *args))

    def cast(self, how: str, element: str) -> Vec:
        """Convert by one of LLVM's instructions, as "sitofp"."""
        return self.wrap(self.f.cast(how, self.value, element))

    def to_bits(self) -> Vec:
        """Return the bits of floats, as integers."""
        return self.cast("bitcast", INTEGER[self.element])

    def to_floats(self) -> Vec:
        """Return the floats that integers are the bits of."""
        return self.cast("bitcast", "float" if self.element == "i32" else "double")

    def sqrt(self) -> Vec:
        """Return the square root, rounded correctly."""
        return self.intrinsic("sqrt")

    def with_sign_of(self, other: Vec) -> Vec:
        """Return the magnitude with the sign of another."""
        return self.intrinsic("copysign", other)


def where(mask: Vec, a: Vec | Number, b: Vec | Number) -> Vec:
    """Return a in the lanes where a mask holds, b in the others; one of them is a Vec."""
    kind = a if isinstance(a, Vec) else b
    assert isinstance(kind, Vec)
    return kind.wrap(kind.f.select(mask.value, kind.same(a), kind.same(b)))


def at_most(x: Vec, limit: Vec | Number) -> Vec:
    """Return min(x, limit): one instruction; a NaN in x stays, none may be in the limit."""
    return where(x > limit, limit, x)


def at_least(x: Vec, limit: Vec | Number) -> Vec:
    """Return max(x, limit): one instruction; a NaN in x stays, none may be in the limit."""
    return where(x < limit, limit, x)


def polynomial(x: Vec, table: Table) -> Vec:
    """Return c₀ + c₁·x + c₂·x² + … with the coefficients for the type of x."""
    return horner(x, table[x.element])


def horner(x: Vec, coefficients: Sequence[float]) -> Vec:
    """Return c₀ + c₁·x + …; of a long one, all but the first terms as two chains side by side."""
    if len(coefficients) <= 10:
        return _chain(None, x, coefficients)
    rest, square = coefficients[3:], x * x
    y = _chain(None, square, rest[1::2]) * x + _chain(None, square, rest[::2])
    return _chain(y, x, coefficients[:3])


def _chain(y: Vec | None, x: Vec, coefficients: Sequence[float]) -> Vec:
    """Return c₀ + x·(c₁ + x·(… + x·y))."""
    for c in reversed(coefficients):
        y = x.const(c) if y is None else y * x + c
    assert y is not None
    return y


def bits_of(element: str, number: float) -> int:
    """Return the bits of a number as an integer.

    >>> hex(bits_of("float", 1.0))
    '0x3f800000'
    """
    whole, real = ("<i", "<f") if element == "float" else ("<q", "<d")
    found: int = struct.unpack(whole, struct.pack(real, number))[0]
    return found


def nearest(x: Vec, factor: float, offset: float = 0.0) -> tuple[Vec, Vec]:
    """Return the whole number nearest to x·factor + offset, and it in the low bits of a float.

    Adding 1.5·2²³ (2⁵² in double) pushes what stands after the point out of the mantissa.  Neither
    a rounding instruction nor a conversion is needed; good for |x·factor| < 2²² (2⁵¹).
    """
    magic = 1.5 * 2.0 ** MANTISSA[x.element]
    shifted = x * factor
    if offset:
        shifted = shifted + offset
    shifted = shifted + magic
    return shifted - magic, shifted


def power_of_two(shifted: Vec, extra: int) -> Vec:
    """Return 2^(n + extra), for n in the low bits of a float as `nearest` returns it."""
    bits = MANTISSA[shifted.element]
    exponent = (BIAS[shifted.element] + extra) << bits
    return ((shifted.to_bits() << bits) + exponent).to_floats()


def rare(x: Vec, condition: Vec, usual: Vec, name: str, *more: Vec) -> Vec:
    """Return `usual`; if a condition holds in any lane, what the C library says in those lanes."""

    def slow() -> Value:
        return where(condition, lane_by_lane(name, x, *more), usual).value

    return x.wrap(x.f.choose(x.f.any(condition.value), slow, usual.value))


def lane_by_lane(name: str, x: Vec, *more: Vec) -> Vec:
    """Return what the C library says: for what has no vector code of its own."""
    return x.wrap(x.f.call_helper(library(name, x, *more), x.value, *(m.value for m in more)))


def library(name: str, *args: Vec) -> Function:
    """Return a private function that calls the C library's lane by lane.

    "frem" is an instruction; the others are LLVM's intrinsics "sin", "cos", "tan", "pow" …  The
    code generator makes one call a lane of either.
    """
    kind = args[0].value.type
    short = kind.strip("<>").replace(" ", "")
    names = [f"x{i}" for i in range(len(args))]
    # cold: the code around is laid out, and its registers are kept, for the case without the call
    helper = Function(
        f"lanes.{name}.{short}", [(n, kind) for n in names], kind,
        attributes="nounwind cold", private=True,
    )  # fmt: skip
    if name == "frem":
        a, b = helper.args
        helper.ret(helper.emit(f"frem {kind} {a.name}, {b.name}", kind))
    else:
        helper.ret(helper.intrinsic(name, kind, *helper.args))
    return helper
