"""Types, constants and instructions of LLVM IR, as text; ir.py puts functions together of them.

A Value is a name and a type.  Nothing is optimised here: what is written is what LLVM's code
generator gets.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

SIZES = {
    "i1": 1, "i8": 1, "i16": 2, "i32": 4, "i64": 8, "float": 4, "double": 8, "ptr": 8,
}  # bytes  # fmt: skip
_OVERFLOWS = 2.0**128 - 2.0**103  # where a float would become infinity


class Value(NamedTuple):
    """A number, a vector or an address in the IR: its name, as written, and its type."""

    name: str
    type: str


def vector(element: str, lanes: int) -> str:
    """Return the type of a vector; one lane is the element itself.

    >>> vector("float", 16), vector("float", 1)
    ('<16 x float>', 'float')
    """
    return element if lanes == 1 else f"<{lanes} x {element}>"


@lru_cache(maxsize=256)
def split(kind: str) -> tuple[str, int]:
    """Return the element type and the lanes of a type.

    >>> split("<8 x i32>"), split("double")
    (('i32', 8), ('double', 1))
    """
    if not kind.startswith("<"):
        return kind, 1
    lanes, element = kind[1:-1].split(" x ")
    return element, int(lanes)


def number(element: str, value: float) -> str:
    """Write a number as LLVM reads it: floats by their bits.

    >>> number("float", 0.5), number("i64", 3), number("i1", True)
    ('0x3FE0000000000000', '3', 'true')
    """
    if element == "i1":
        return "true" if value else "false"
    if element[0] == "i":
        return str(int(value))
    if element == "float":  # written as the double of the same value
        fits = abs(value) < _OVERFLOWS
        value = struct.unpack("<f", struct.pack("<f", value))[0] if fits else value * math.inf
    return "0x" + struct.pack(">d", value).hex().upper()


def mangled(kind: str) -> str:
    """Return a type as it stands in the names of LLVM's intrinsics.

    >>> mangled("<8 x float>"), mangled("i32")
    ('v8f32', 'i32')
    """
    element, lanes = split(kind)
    short = {"float": "f32", "double": "f64"}.get(element, element)
    return short if lanes == 1 else f"v{lanes}{short}"


class Code:
    """Code that is being written: instructions, block by block.

    Args:
        flags: fast-math flags of float arithmetic.
    """

    def __init__(self, flags: str) -> None:
        self.flags = flags
        self.lines: list[str] = []
        self.here = "entry"  # the block that is being written
        self.count = 0
        self.declarations: dict[str, None] = {}  # of what is called, for the module

    # --- writing ---

    def emit(self, text: str, kind: str) -> Value:
        """Write an instruction with a result."""
        self.count += 1
        name = f"%v{self.count}"
        self.lines.append(f"  {name} = {text}")
        return Value(name, kind)

    def do(self, text: str) -> None:
        """Write an instruction without a result."""
        self.lines.append(f"  {text}")

    def label(self, hint: str) -> str:
        """Return the name of a new block."""
        self.count += 1
        return f"{hint}{self.count}"

    def block(self, name: str) -> None:
        """Begin a block."""
        self.lines.append(f"{name}:")
        self.here = name

    # --- constants ---

    def const(self, kind: str, value: float) -> Value:
        """Return a constant; of a vector type, in all lanes."""
        element, lanes = split(kind)
        text = number(element, value)
        if lanes > 1:
            text = f"splat ({element} {text})"
        return Value(text, kind)

    def lanes(self, element: str, values: Sequence[float]) -> Value:
        """Return a constant vector."""
        text = ", ".join(f"{element} {number(element, v)}" for v in values)
        return Value(f"<{text}>", vector(element, len(values)))

    def as_value(self, x: Value | float, kind: str) -> Value:
        """Return a Value as it is, a Python number as a constant of a type."""
        return x if isinstance(x, Value) else self.const(kind, x)

    # --- arithmetic ---

    def _binary(self, name: str, a: Value, b: Value | float) -> Value:
        other = self.as_value(b, a.type)
        assert other.type == a.type, (name, a, other)
        return self.emit(f"{name} {a.type} {a.name}, {other.name}", a.type)

    def fadd(self, a: Value, b: Value | float) -> Value:
        """Return a + b of floats."""
        return self._binary(f"fadd {self.flags}", a, b)

    def fsub(self, a: Value, b: Value | float) -> Value:
        """Return a - b of floats."""
        return self._binary(f"fsub {self.flags}", a, b)

    def fmul(self, a: Value, b: Value | float) -> Value:
        """Return a · b of floats."""
        return self._binary(f"fmul {self.flags}", a, b)

    def fdiv(self, a: Value, b: Value | float) -> Value:
        """Return a / b of floats."""
        return self._binary(f"fdiv {self.flags}", a, b)

    def fneg(self, a: Value) -> Value:
        """Return -a of a float."""
        return self.emit(f"fneg {a.type} {a.name}", a.type)

    def add(self, a: Value, b: Value | int) -> Value:
        """Return a + b of integers; nothing is written for + 0."""
        return a if b == 0 and not isinstance(b, Value) else self._binary("add", a, b)

    def sub(self, a: Value, b: Value | int) -> Value:
        """Return a - b of integers."""
        return self._binary("sub", a, b)

    def mul(self, a: Value, b: Value | int) -> Value:
        """Return a · b of integers; nothing is written for · 1."""
        return a if b == 1 and not isinstance(b, Value) else self._binary("mul", a, b)

    def udiv(self, a: Value, b: Value | int) -> Value:
        """Return a / b of unsigned integers, rounded down."""
        return self._binary("udiv", a, b)

    def urem(self, a: Value, b: Value | int) -> Value:
        """Return the remainder of a / b of unsigned integers."""
        return self._binary("urem", a, b)

    def bits(self, name: str, a: Value, b: Value | int) -> Value:
        """Write "and", "or", "xor", "shl", "lshr", "ashr", "sdiv", "srem"."""
        return self._binary(name, a, b)

    def compare(self, how: str, a: Value, b: Value | float) -> Value:
        """Compare: "olt", "oeq", "uno" … for floats, "slt", "eq", "ult" … for integers."""
        other = self.as_value(b, a.type)
        element, lanes = split(a.type)
        name = "fcmp" if element in ("float", "double") else "icmp"
        return self.emit(f"{name} {how} {a.type} {a.name}, {other.name}", vector("i1", lanes))

    def select(self, condition: Value, a: Value, b: Value | float) -> Value:
        """Return a where a condition holds, b elsewhere; lane by lane if it is a vector."""
        other = self.as_value(b, a.type)
        text = f"select {condition.type} {condition.name}, {a.type} {a.name}, {a.type} {other.name}"
        return self.emit(text, a.type)

    def cast(self, name: str, a: Value, element: str) -> Value:
        """Write "sitofp", "fptosi", "fpext", "fptrunc", "zext", "sext", "trunc", "bitcast" …"""
        kind = vector(element, split(a.type)[1])
        return a if kind == a.type else self.emit(f"{name} {a.type} {a.name} to {kind}", kind)

    def intrinsic(self, name: str, kind: str, *args: Value) -> Value:
        """Call llvm.<name> overloaded on a type, as "fma", "sqrt", "fabs", "floor"."""
        return self.call(f"llvm.{name}.{mangled(kind)}", kind, *args)

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """Return a·b + c; the product and the sum may be fused where the processor can."""
        return self.fadd(self.fmul(a, b), c)

    def call(self, name: str, returns: str, *args: Value) -> Value:
        """Call a function by name; it is declared in the module."""
        kinds = ", ".join(a.type for a in args)
        self.declarations[f"declare {returns} @{name}({kinds})"] = None
        text = f"call {returns} @{name}({', '.join(f'{a.type} {a.name}' for a in args)})"
        if returns == "void":
            self.do(text)
            return Value("", "void")
        return self.emit(text, returns)

    def call_at(self, address: Value, *args: Value) -> None:
        """Call a function by its address; it returns nothing."""
        self.do(f"call void {address.name}({', '.join(f'{a.type} {a.name}' for a in args)})")

    # --- memory ---

    def at(self, base: Value, index: Value | int, element: str = "i8") -> Value:
        """Return the address of an element: base + index · size."""
        if not isinstance(index, Value) and index == 0:
            return base
        where = self.as_value(index, "i64")
        return self.emit(f"getelementptr {element}, ptr {base.name}, i64 {where.name}", "ptr")

    def load(self, place: Value, kind: str, align: int | None = None) -> Value:
        """Load a number or a vector; aligned to its elements unless more is known."""
        size = align or SIZES[split(kind)[0]]
        return self.emit(f"load {kind}, ptr {place.name}, align {size}", kind)

    def store(self, value: Value, place: Value, align: int | None = None) -> None:
        """Store a number or a vector; aligned to its elements unless more is known."""
        size = align or SIZES[split(value.type)[0]]
        self.do(f"store {value.type} {value.name}, ptr {place.name}, align {size}")

    def load_masked(self, place: Value, kind: str, mask: Value | None) -> Value:
        """Load the lanes that a mask names, None: all; the others are zero."""
        if mask is None:
            return self.load(place, kind)
        align, zeros = Value(str(SIZES[split(kind)[0]]), "i32"), Value("zeroinitializer", kind)
        return self.call(f"llvm.masked.load.{mangled(kind)}.p0", kind, place, align, mask, zeros)

    def store_masked(self, value: Value, place: Value, mask: Value | None) -> None:
        """Store the lanes that a mask names, None: all."""
        if mask is None:
            self.store(value, place)
            return
        align = Value(str(SIZES[split(value.type)[0]]), "i32")
        name = f"llvm.masked.store.{mangled(value.type)}.p0"
        self.call(name, "void", value, place, align, mask)

    def clear(self, place: Value, size: Value | int) -> None:
        """Write zeros into so many bytes of memory."""
        rest = self.const("i8", 0), self.as_value(size, "i64"), self.const("i1", False)
        self.call("llvm.memset.p0.i64", "void", place, *rest)

    def prefetch(self, place: Value, write: bool = True, near: int = 3) -> None:
        """Ask for a piece of memory to be brought into a cache.

        Args:
            place: somewhere in it.
            write: whether it will be written.
            near: 3 for the first cache, 2 for the second.
        """
        kind = (Value(str(n), "i32") for n in (int(write), near, 1))
        self.call("llvm.prefetch.p0", "void", place, *kind)
