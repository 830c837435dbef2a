"""Writing LLVM IR as text: functions, typed values, arithmetic on numbers and vectors, loops.

    f = Function("scale", [("x", "ptr"), ("n", "i64")])
    x, n = f.args
    with f.loop(0, n, 16) as loop:
        place = f.at(x, loop.index, "float")
        f.store(f.fmul(f.load(place, vector("float", 16)), f.splat("float", 2.0, 16)), place)
    f.ret()
    text = str(f)

A Value is a name and a type.  Nothing is optimised here: what is written is what LLVM's code
generator gets, without a pass in between, so loop-carried values are phi nodes from the start.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple

SIZES = {
    "i1": 1, "i8": 1, "i16": 2, "i32": 4, "i64": 8, "float": 4, "double": 8, "ptr": 8,
}  # bytes  # fmt: skip


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
        value = struct.unpack("<f", struct.pack("<f", value))[0] if abs(value) <= 3.4028235677973366e38 else value
    return "0x" + struct.pack(">d", value).hex().upper()


class Loop:
    """A loop that is being written: its index and the values that it carries along."""

    def __init__(self, index: Value, carried: list[Value]) -> None:
        self.index = index
        self.carried = carried  # as the body finds them
        self.next: list[Value] | None = None  # as the body leaves them: it must say
        self.results: list[Value] = []  # after the loop


class Function:
    """A function that is being written.

    Args:
        name: of the function; unique within a module.
        args: (name, type) of each argument.
        returns: the type of what it returns.
        flags: fast-math flags of float arithmetic.
        private: not visible outside of the module.
    """

    def __init__(
        self,
        name: str,
        args: Sequence[tuple[str, str]],
        returns: str = "void",
        *,
        flags: str = "nsz contract",
        attributes: str = "nounwind",
        private: bool = False,
    ) -> None:
        self.name, self.returns, self.flags = name, returns, flags
        self.args = [Value(f"%{n}", t) for n, t in args]
        self.private, self.attributes = private, attributes
        self.lines: list[str] = []
        self.locals: list[str] = []  # variables on the stack: made at the start, before the lines
        self.here = "entry"  # the block that is being written
        self.count = 0
        self.declarations: dict[str, None] = {}  # of what is called, for the module
        self.helpers: dict[str, Function] = {}  # private functions that it calls, by name

    def __str__(self) -> str:
        args = ", ".join(f"{a.type} {a.name}" for a in self.args)
        linkage = "internal " if self.private else ""
        head = f"define {linkage}{self.returns} @{self.name}({args}) {self.attributes} {{"
        return "\n".join([head, "entry:", *self.locals, *self.lines, "}"])

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

    def comment(self, text: str) -> None:
        """Write a remark into the IR."""
        self.lines.append(f"  ; {text}")

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
        return self._binary(f"fadd {self.flags}", a, b)

    def fsub(self, a: Value, b: Value | float) -> Value:
        return self._binary(f"fsub {self.flags}", a, b)

    def fmul(self, a: Value, b: Value | float) -> Value:
        return self._binary(f"fmul {self.flags}", a, b)

    def fdiv(self, a: Value, b: Value | float) -> Value:
        return self._binary(f"fdiv {self.flags}", a, b)

    def fneg(self, a: Value) -> Value:
        return self.emit(f"fneg {a.type} {a.name}", a.type)

    def add(self, a: Value, b: Value | int) -> Value:
        return a if b == 0 and not isinstance(b, Value) else self._binary("add", a, b)

    def sub(self, a: Value, b: Value | int) -> Value:
        return self._binary("sub", a, b)

    def mul(self, a: Value, b: Value | int) -> Value:
        return a if b == 1 and not isinstance(b, Value) else self._binary("mul", a, b)

    def udiv(self, a: Value, b: Value | int) -> Value:
        return self._binary("udiv", a, b)

    def urem(self, a: Value, b: Value | int) -> Value:
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
        other = self.as_value(b, a.type)
        text = f"select {condition.type} {condition.name}, {a.type} {a.name}, {a.type} {other.name}"
        return self.emit(text, a.type)

    def cast(self, name: str, a: Value, element: str) -> Value:
        """Write "sitofp", "fptosi", "fpext", "fptrunc", "zext", "sext", "trunc", "bitcast" …"""
        kind = vector(element, split(a.type)[1])
        return a if kind == a.type else self.emit(f"{name} {a.type} {a.name} to {kind}", kind)

    def intrinsic(self, name: str, kind: str, *args: Value) -> Value:
        """Call llvm.<name> overloaded on a type, as "fma", "sqrt", "fabs", "floor"."""
        element, lanes = split(kind)
        short = {"float": "f32", "double": "f64"}.get(element, element)
        full = f"llvm.{name}.{f'v{lanes}' if lanes > 1 else ''}{short}"
        return self.call(full, kind, *args)

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

    def call_helper(self, helper: Function, *args: Value) -> Value:
        """Call a private function, which comes into the module along with this one."""
        self.helpers.setdefault(helper.name, helper)
        return self.call(helper.name, helper.returns, *args)

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
        size = align or SIZES[split(kind)[0]]
        return self.emit(f"load {kind}, ptr {place.name}, align {size}", kind)

    def store(self, value: Value, place: Value, align: int | None = None) -> None:
        size = align or SIZES[split(value.type)[0]]
        self.do(f"store {value.type} {value.name}, ptr {place.name}, align {size}")

    def load_masked(self, place: Value, kind: str, mask: Value) -> Value:
        """Load the lanes that a mask names; the others are zero."""
        element, lanes = split(kind)
        short = {"float": "f32", "double": "f64"}.get(element, element)
        name = f"llvm.masked.load.v{lanes}{short}.p0"
        align = Value(str(SIZES[element]), "i32")
        return self.call(name, kind, place, align, mask, Value("zeroinitializer", kind))

    def store_masked(self, value: Value, place: Value, mask: Value) -> None:
        """Store the lanes that a mask names."""
        element, lanes = split(value.type)
        short = {"float": "f32", "double": "f64"}.get(element, element)
        align = Value(str(SIZES[element]), "i32")
        self.call(f"llvm.masked.store.v{lanes}{short}.p0", "void", value, place, align, mask)

    def prefetch(self, place: Value, write: bool = True, near: int = 3) -> None:
        """Ask for a piece of memory to be brought into a cache.

        Args:
            place: somewhere in it.
            write: whether it will be written.
            near: 3 for the first cache, 2 for the second.
        """
        kind = (Value(str(n), "i32") for n in (int(write), near, 1))
        self.call("llvm.prefetch.p0", "void", place, *kind)

    # --- memory that threads share ---

    def local(self, value: Value) -> Value:
        """Return the address of a new variable on the stack that holds a value."""
        self.count += 1
        place = Value(f"%local{self.count}", "ptr")
        self.locals.append(f"  {place.name} = alloca {value.type}")
        self.store(value, place)
        return place

    def buffer(self, index: int) -> Value:
        """Return an address from the array that the first argument points to; it is read once."""
        name = f"%buffer{index}"
        if not any(line.startswith(f"  {name} =") for line in self.locals):
            array = f"getelementptr ptr, ptr {self.args[0].name}, i64 {index}"
            self.locals += [f"  {name}.p = {array}", f"  {name} = load ptr, ptr {name}.p, align 8"]
        return Value(name, "ptr")

    def scratch(self, size: int) -> Value:
        """Return the address of new memory on the stack, aligned to 64 bytes."""
        self.count += 1
        place = Value(f"%scratch{self.count}", "ptr")
        self.locals.append(f"  {place.name} = alloca i8, i64 {size}, align 64")
        return place

    def table(self, element: str, numbers: Sequence[float]) -> Value:
        """Return the address of constant numbers."""
        self.count += 1
        place = Value(f"@{self.name}.table{self.count}", "ptr")
        text = ", ".join(f"{element} {number(element, n)}" for n in numbers)
        kind = f"[{len(numbers)} x {element}]"
        line = f"{place.name} = private unnamed_addr constant {kind} [{text}], align 64"
        self.declarations[line] = None
        return place

    def atomic_load(self, place: Value, kind: str = "i64", order: str = "acquire") -> Value:
        """Load what another thread may be writing: "monotonic", "acquire", "seq_cst"."""
        return self.emit(f"load atomic {kind}, ptr {place.name} {order}, align {SIZES[kind]}", kind)

    def atomic_store(self, value: Value, place: Value, order: str = "release") -> None:
        """Store what another thread may be reading: "monotonic", "release", "seq_cst"."""
        align = SIZES[value.type]
        target = f"ptr {place.name} {order}, align {align}"
        self.do(f"store atomic {value.type} {value.name}, {target}")

    def atomic_add(self, place: Value, value: Value | int, kind: str = "i64") -> Value:
        """Add to a number in memory, as one thread at a time; return what was there before."""
        amount = self.as_value(value, kind)
        return self.emit(f"atomicrmw add ptr {place.name}, {kind} {amount.name} seq_cst", kind)

    def atomic_replace(self, place: Value, old: Value, new: Value) -> Value:
        """Store a number where another is, if it still is there; return whether it was."""
        kinds = f"{old.type} {old.name}, {new.type} {new.name}"
        pair = f"{{ {old.type}, i1 }}"
        done = self.emit(f"cmpxchg ptr {place.name}, {kinds} seq_cst seq_cst", pair)
        return self.emit(f"extractvalue {pair} {done.name}, 1", "i1")

    def fence(self, order: str = "seq_cst") -> None:
        """Keep the memory accesses before this point from mixing with those after it."""
        self.do(f"fence {order}")

    # --- vectors ---

    def splat(self, element: str, x: Value | float, lanes: int) -> Value:
        """Return a vector with a number in all lanes."""
        kind = vector(element, lanes)
        if not isinstance(x, Value):
            return self.const(kind, x)
        if lanes == 1:
            return x
        one = self.emit(f"insertelement {kind} poison, {element} {x.name}, i64 0", kind)
        zeros = f"<{lanes} x i32> zeroinitializer"
        return self.emit(f"shufflevector {kind} {one.name}, {kind} poison, {zeros}", kind)

    def extract(self, v: Value, lane: int) -> Value:
        return self.emit(f"extractelement {v.type} {v.name}, i64 {lane}", split(v.type)[0])

    def shuffle(self, a: Value, b: Value, lanes: Sequence[int]) -> Value:
        """Pick lanes of two vectors, those of the second counted on from the first's."""
        element, _ = split(a.type)
        picked = ", ".join(f"i32 {i}" for i in lanes)
        kind = vector(element, len(lanes))
        text = f"shufflevector {a.type} {a.name}, {b.type} {b.name}, <{len(lanes)} x i32> <{picked}>"
        return self.emit(text, kind)

    def reduce(self, v: Value, name: str) -> Value:
        """Combine the lanes in a fixed order, by halves: "fadd", "fmul", "fmax", "add" …"""
        element, lanes = split(v.type)
        while lanes > 1:
            lanes //= 2
            low = self.shuffle(v, v, range(lanes)) if lanes > 1 else self.extract(v, 0)
            high = self.shuffle(v, v, range(lanes, 2 * lanes)) if lanes > 1 else self.extract(v, 1)
            v = getattr(self, name)(low, high)
        return v

    def fmax(self, a: Value, b: Value) -> Value:
        """The larger of two; a NaN in either survives."""
        kept = self.select(self.compare("ogt", a, b), a, b)
        return self.select(self.compare("uno", a, a), a, kept)

    def fmin(self, a: Value, b: Value) -> Value:
        """The smaller of two; a NaN in either survives."""
        kept = self.select(self.compare("olt", a, b), a, b)
        return self.select(self.compare("uno", a, a), a, kept)

    def iota(self, lanes: int, element: str = "i64") -> Value:
        """Return 0, 1, 2 …"""
        return self.lanes(element, range(lanes)) if lanes > 1 else self.const(element, 0)

    # --- control ---

    @contextmanager
    def loop(
        self,
        start: Value | int,
        stop: Value | int,
        step: int = 1,
        carried: Sequence[Value] = (),
        nonempty: bool = False,
    ) -> Iterator[Loop]:
        """Write a loop; its body says what the carried values become: `loop.next = [...]`.

        Args:
            start, stop, step: of the index, i64.
            carried: values that change from turn to turn, as they are before the first.
            nonempty: the loop is known to have a turn.
        """
        first, last = self.as_value(start, "i64"), self.as_value(stop, "i64")
        if isinstance(start, int) and isinstance(stop, int):
            nonempty = start < stop
        before, body, after = self.here, self.label("loop"), self.label("after")
        if nonempty:
            self.do(f"br label %{body}")
        else:
            begun = self.compare("slt", first, last)
            self.do(f"br i1 {begun.name}, label %{body}, label %{after}")
        mark = len(self.lines)  # the phi nodes are written when their values are known
        self.block(body)
        index = Value(f"%{body}.i", "i64")
        loop = Loop(index, [Value(f"%{body}.c{i}", v.type) for i, v in enumerate(carried)])
        yield loop
        following = loop.next if loop.next is not None else loop.carried
        assert len(following) == len(carried), "a loop must say what becomes of all that it carries"
        moved = self.add(index, step)
        goes_on = self.compare("slt", moved, last)
        end = self.here
        self.do(f"br i1 {goes_on.name}, label %{body}, label %{after}")
        phis = [f"  {index.name} = phi i64 [{first.name}, %{before}], [{moved.name}, %{end}]"]
        for c, old, new in zip(loop.carried, carried, following, strict=True):
            phis.append(f"  {c.name} = phi {c.type} [{old.name}, %{before}], [{new.name}, %{end}]")
        self.lines[mark + 1 : mark + 1] = phis
        self.block(after)
        for old, new in zip(carried, following, strict=True):
            if nonempty:
                loop.results.append(new)
            else:
                pairs = f"[{old.name}, %{before}], [{new.name}, %{end}]"
                loop.results.append(self.emit(f"phi {old.type} {pairs}", old.type))

    def any(self, mask: Value) -> Value:
        """Return whether a mask holds in any lane."""
        lanes = split(mask.type)[1]
        if lanes == 1:
            return mask
        bits = self.emit(f"bitcast {mask.type} {mask.name} to i{lanes}", f"i{lanes}")
        return self.compare("ne", bits, 0)

    def choose(self, condition: Value, then: Callable[[], Value], otherwise: Value) -> Value:
        """Return what `then` writes if a condition holds, else a value that is there already."""
        before = self.here
        with self.when(condition):
            other = then()
            end = self.here
        pairs = f"[{otherwise.name}, %{before}], [{other.name}, %{end}]"
        return self.emit(f"phi {otherwise.type} {pairs}", otherwise.type)

    @contextmanager
    def when(self, condition: Value) -> Iterator[None]:
        """Write what is done only if a condition holds."""
        then, after = self.label("then"), self.label("after")
        self.do(f"br i1 {condition.name}, label %{then}, label %{after}")
        self.block(then)
        yield
        self.do(f"br label %{after}")
        self.block(after)

    @contextmanager
    def repeat(self) -> Iterator[Callable[[Value], None]]:
        """Write a loop that goes on until `leave(condition)`, anywhere in its body, ends it.

        What changes from turn to turn is kept in memory: see `local`.
        """
        head, after = self.label("repeat"), self.label("after")
        self.do(f"br label %{head}")
        self.block(head)

        def leave(condition: Value) -> None:
            stay = self.label("stay")
            self.do(f"br i1 {condition.name}, label %{after}, label %{stay}")
            self.block(stay)

        yield leave
        self.do(f"br label %{head}")
        self.block(after)

    def ret(self, value: Value | None = None) -> None:
        self.do("ret void" if value is None else f"ret {value.type} {value.name}")


def module(functions: Sequence[Function], triple: str = "") -> str:
    """Write a module: functions, and what they call from outside."""
    helpers = {name: h for f in functions for name, h in f.helpers.items()}
    functions = [*functions, *helpers.values()]
    defined = {f.name for f in functions}
    wanted = dict.fromkeys(d for f in functions for d in f.declarations)
    outside = [d for d in wanted if d.split("@")[1].split("(")[0] not in defined]
    head = [f'target triple = "{triple}"'] if triple else []
    return "\n\n".join(["\n".join([*head, *outside]), *map(str, functions)])
