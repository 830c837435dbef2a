"""Writing LLVM IR as text: functions, typed values, arithmetic on numbers and vectors, loops.

    f = Function("scale", [("x", "ptr"), ("n", "i64")])
    x, n = f.args
    with f.loop(0, n, 16) as loop:
        place = f.at(x, loop.index, "float")
        f.store(f.fmul(f.load(place, vector("float", 16)), f.splat("float", 2.0, 16)), place)
    f.ret()
    text = str(f)

ir_code.py has the types, the constants and the plain instructions; here are vectors, control flow
and the functions themselves.  No optimisation pass comes after: loop-carried values are phi nodes
from the start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from .ir_code import SIZES, Code, Value, mangled, number, split, vector

__all__ = ["SIZES", "Function", "Loop", "Value", "mangled", "module", "number", "split", "vector"]


class Loop:
    """A loop that is being written: its index and the values that it carries along."""

    def __init__(self, index: Value, carried: list[Value]) -> None:
        self.index = index
        self.carried = carried  # as the body finds them
        self.next: list[Value] | None = None  # as the body leaves them: it must say
        self.results: list[Value] = []  # after the loop


class Function(Code):
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
        super().__init__(flags)
        self.name, self.returns = name, returns
        self.args = [Value(f"%{n}", t) for n, t in args]
        self.private, self.attributes = private, attributes
        self.locals: list[str] = []  # variables on the stack: made at the start, before the lines
        self.helpers: dict[str, Function] = {}  # private functions that it calls, by name

    def __str__(self) -> str:
        args = ", ".join(f"{a.type} {a.name}" for a in self.args)
        linkage = "internal " if self.private else ""
        head = f"define {linkage}{self.returns} @{self.name}({args}) {self.attributes} {{"
        return "\n".join([head, "entry:", *self.locals, *self.lines, "}"])

    def call_helper(self, helper: Function, *args: Value) -> Value:
        """Call a private function, which comes into the module along with this one."""
        self.helpers.setdefault(helper.name, helper)
        return self.call(helper.name, helper.returns, *args)

    # --- memory of its own ---

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

    # --- memory that threads share ---

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
        """Return a lane of a vector."""
        return self.emit(f"extractelement {v.type} {v.name}, i64 {lane}", split(v.type)[0])

    def shuffle(self, a: Value, b: Value, lanes: Sequence[int]) -> Value:
        """Pick lanes of two vectors, those of the second counted on from the first's."""
        picked = ", ".join(f"i32 {i}" for i in lanes)
        kind = vector(split(a.type)[0], len(lanes))
        pair = f"{a.type} {a.name}, {b.type} {b.name}"
        return self.emit(f"shufflevector {pair}, <{len(lanes)} x i32> <{picked}>", kind)

    def reduce(self, v: Value, name: str) -> Value:
        """Combine the lanes in a fixed order, by halves: "fadd", "fmul", "fmax", "add" …"""
        lanes = split(v.type)[1]
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
        """Write the end of the function, with what it returns."""
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
