"""From expressions to vector instructions: one vector of a value's elements at a time.

    elements = Elements(f, target, lanes, load)     # load(leaf): the caller knows where values lie
    y = elements(expr)                              # the instructions are in f now
    store_element(f, y, place, expr.dtype)

In registers a vector has its dtype's LLVM element; bools are i1 there, and a byte each in memory.
uint8 has no instructions of its own: where the sign bit matters it is computed in int32, as bools
are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...op import DType
from ..expr import Apply, Const, Expr, Index, Read
from .integers import times
from .ir import SIZES, Function, Value, mangled, split, vector
from .target import Target
from .vecmath import FUNCTIONS, convert

_REGISTERS = {
    "float32": "float", "float64": "double", "bool": "i1",
    "int64": "i64", "int32": "i32", "int16": "i16", "int8": "i8", "uint8": "i8",
}  # fmt: skip

Load = Callable[[Read | Index], Value]


def register_type(dtype: DType) -> str:
    """Return the type of an element in a register."""
    return _REGISTERS[dtype.name]


def memory_type(dtype: DType) -> str:
    """Return the type of an element in memory."""
    return "i8" if dtype.kind == "b" else _REGISTERS[dtype.name]


# --- expressions ---------------------------------------------------------------------------------

_BITS = {"and", "or", "xor", "not", "eq", "ne", "where"}  # the same for any meaning of the bits
_MODULAR = {*_BITS, "add", "sub", "mul", "neg", "square"}  # the same signed and unsigned


class Elements:
    """Writes expressions; what they share is computed once.

    What was computed is used again by later calls, so an Elements serves one stretch of code: each
    body of a loop, and each branch, needs one of its own.  (A function that branches to a slow path
    writes that path within itself; its result is there afterwards in either case.)

    Args:
        f: the function that is being written.
        target: the processor.
        lanes: elements at a time.
        load: writes the loading of a leaf: a vector of `lanes`, as `load_element` returns it.
    """

    def __init__(self, f: Function, target: Target, lanes: int, load: Load) -> None:
        self.f, self.target, self.lanes, self.load = f, target, lanes, load
        self._seen: dict[int, tuple[Expr, Value]] = {}  # by identity; the Expr keeps its id taken
        self._leaves: dict[Read | Index, Value] = {}
        self._computed: dict[tuple[str, ...], Value] = {}  # by function and arguments, as written

    def __call__(self, expr: Expr) -> Value:
        """Write an expression: its parts first, without recursion, however deep it is."""
        stack = [expr]
        while stack:
            e = stack[-1]
            missing = [a for a in _args(e) if id(a) not in self._seen]
            if missing:
                stack.extend(reversed(missing))
                continue
            stack.pop()
            if id(e) not in self._seen:
                self._seen[id(e)] = e, self._write(e)
        return self._seen[id(expr)][1]

    def _write(self, e: Expr) -> Value:
        """Write one step, whose arguments are there."""
        if isinstance(e, Const):
            return self.f.const(vector(register_type(e.dtype), self.lanes), e.value)
        if not isinstance(e, Apply):
            if e not in self._leaves:
                self._leaves[e] = self.load(e)
            return self._leaves[e]
        args = [self._seen[id(a)][1] for a in e.args]
        key = (e.name, e.dtype.name, *(a.dtype.name for a in e.args), *(v.name for v in args))
        if key not in self._computed:
            self._computed[key] = self._apply(e, args)
        return self._computed[key]

    def _apply(self, e: Apply, args: list[Value]) -> Value:
        """Write a function of values that are there."""
        kinds = [a.dtype.name for a in e.args]
        if e.name == "cast":
            return convert(self.f, args[0], self.target, kinds[0], e.dtype.name)
        if e.name == "fma":
            return _fma(self.f, args)
        return apply_function(self.f, self.target, e.name, args, kinds, e.dtype.name)


def apply_function(
    f: Function, target: Target, name: str, args: Sequence[Value], kinds: Sequence[str], out: str
) -> Value:
    """Write a function of vecmath for vectors of dtypes; bools and uint8 become int32 for it."""
    if _is_wide(name, kinds):
        return FUNCTIONS[name](f, args, target)
    wide = [convert(f, v, target, k, "int32") for v, k in zip(args, kinds, strict=True)]
    y = FUNCTIONS[name](f, wide, target)
    is_mask = split(y.type)[0] == "i1"
    return y if is_mask else convert(f, y, target, "int32", out)


def _args(e: Expr) -> Sequence[Expr]:
    return e.args if isinstance(e, Apply) else ()


def _is_wide(name: str, kinds: Sequence[str]) -> bool:
    """Tell whether a function's instructions suit the dtypes: bools and uint8 aren't numbers."""
    if "bool" in kinds:
        return name in _BITS
    return "uint8" not in kinds or name in _MODULAR


def _fma(f: Function, args: Sequence[Value]) -> Value:
    """Write a·b + c: one instruction where the processor has it, for floats."""
    a, b, c = args
    if split(a.type)[0] in ("float", "double"):
        return f.fma(a, b, c)
    return f.add(f.mul(a, b), c)


# --- places in memory ----------------------------------------------------------------------------


def load_element(
    f: Function,
    place: Value,
    dtype: DType,
    lanes: int,
    stride: Value | int = 1,
    mask: Value | None = None,
) -> Value:
    """Load a vector of elements, in the register's form.

    Args:
        f: the function that is being written.
        place: the address of the first one.
        dtype: of the elements.
        lanes: how many.
        stride: from one to the next, in elements: 1 is dense, 0 the same element in all lanes.
        mask: the lanes that exist (the first does); the others are not read and become 0, but with
            stride 0.
    """
    element = memory_type(dtype)
    kind = vector(element, lanes)
    if stride == 0:
        y = f.splat(element, f.load(place, element), lanes)
    elif stride != 1:
        y = _gather(f, place, kind, stride, mask)
    else:
        y = f.load_masked(place, kind, mask)
    return f.compare("ne", y, 0) if dtype.kind == "b" else y


def store_element(
    f: Function,
    value: Value,
    place: Value,
    dtype: DType,
    stride: Value | int = 1,
    mask: Value | None = None,
) -> None:
    """Store a vector of elements that is in the register's form; see `load_element`."""
    if dtype.kind == "b":
        value = f.cast("zext", value, "i8")
    if stride != 1:
        _scatter(f, value, place, stride, mask)
    else:
        f.store_masked(value, place, mask)


def ramp(f: Function, start: Value | int, step: Value | int, lanes: int) -> Value:
    """Return start, start + step, start + 2·step …, in i64: what an Index is along a dimension."""
    first = f.splat("i64", start, lanes)
    if step == 0:
        return first
    steps = f.iota(lanes)
    if step != 1:
        steps = f.mul(steps, f.splat("i64", step, lanes))
    return f.add(first, steps)


def _gather(f: Function, place: Value, kind: str, stride: Value | int, mask: Value | None) -> Value:
    """Load elements that are apart: one by one, which is as fast as the instruction for it."""
    element, lanes = split(kind)
    if mask is None:
        y = Value("poison", kind)
        for i in range(lanes):
            one = f.load(f.at(place, times(f, stride, i), element), element)
            y = _insert(f, y, one, i)
        return y
    places, align = _places(f, place, element, stride, lanes)
    name = f"llvm.masked.gather.{mangled(kind)}.v{lanes}p0"
    return f.call(name, kind, places, align, mask, Value("zeroinitializer", kind))


def _scatter(
    f: Function, value: Value, place: Value, stride: Value | int, mask: Value | None
) -> None:
    """Store elements that are apart."""
    element, lanes = split(value.type)
    if mask is None:
        for i in range(lanes):
            one = f.extract(value, i) if lanes > 1 else value
            f.store(one, f.at(place, times(f, stride, i), element))
        return
    places, align = _places(f, place, element, stride, lanes)
    name = f"llvm.masked.scatter.{mangled(value.type)}.v{lanes}p0"
    f.call(name, "void", value, places, align, mask)


def _insert(f: Function, v: Value, one: Value, lane: int) -> Value:
    if split(v.type)[1] == 1:
        return one
    text = f"insertelement {v.type} {v.name}, {one.type} {one.name}, i64 {lane}"
    return f.emit(text, v.type)


def _places(
    f: Function, place: Value, element: str, stride: Value | int, lanes: int
) -> tuple[Value, Value]:
    """Return the addresses of elements, and what they are all multiples of."""
    offsets = ramp(f, 0, stride, lanes)
    text = f"getelementptr {element}, ptr {place.name}, {offsets.type} {offsets.name}"
    return f.emit(text, vector("ptr", lanes)), Value(str(SIZES[element]), "i32")
