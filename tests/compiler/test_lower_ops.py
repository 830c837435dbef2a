"""Each op that has a `lower`: its native code computes what its `forward` does.

The ops and their fields come from the registry.  All kernels of a target are compiled in one go.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

import toumei.nn  # noqa: F401  (its ops are to be in the registry)
from tests.compiler.mapkernel import Array, arguments, build, call, kernel
from toumei.compiler.expr import Const, Expr
from toumei.compiler.llvm.target import Target
from toumei.compiler.scalar import Scalars
from toumei.config import run_quietly
from toumei.op import REGISTRY, Elementwise, Op, Refused, Spec
from toumei.testing import op_cases

B = Scalars()
FLOATS = ("float32", "float64")
DTYPES = (*FLOATS, "int64", "int32", "uint8", "bool")
SIZES = (0, 1, 15, 16, 17, 1000)
ULPS = 8

# Made of functions that are rounded on the way; every other op gives the bits that NumPy does.
INEXACT = {
    *("Exp", "Exp2", "Expm1", "Log", "Log10", "Log2", "Log1p", "Pow", "Lerp", "Logaddexp"),
    *("Logaddexp2", "Sigmoid", "Erf", "Erfc", "Ndtr", "Xlogy", "Xlog1py", "Entr", "Elu"),
    *("Softplus", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Tanh", "Asinh"),
    *("Acosh", "Atanh", "Sinc", "Atan2", "Hypot", "Gelu", "GeluGrad", "Silu", "SiluGrad"),
    "LogitsLoss",
}
# Where terms cancel, what is left may be off by the rounding of the terms: their size.
TERMS: dict[str, Callable[..., Any]] = {
    "Lerp": lambda a, b, w: (np.abs(a) + np.abs(b)) * (1 + np.abs(w)),
    "Logaddexp": lambda a, b: np.maximum(np.abs(a), np.abs(b)),
    "Logaddexp2": lambda a, b: np.maximum(np.abs(a), np.abs(b)),
    "Gelu": lambda x: np.abs(x),
    "GeluGrad": lambda g, x: np.abs(g),
    "SiluGrad": lambda g, x: np.abs(g),
    "LogitsLoss": lambda x, t: np.abs(x) * (1 + np.abs(t)),
}
UNSIGNED_ZEROS = {"Relu", "Lerp", "Elu", "Gelu", "GeluGrad"}  # −0 may be 0 and 0 may be −0
NEEDED = {"Add", "Mul", "Exp", "Tanh", "Where", "Lt", "LogicalNot", "Relu", "Clamp", "Gelu", "Erf"}


class Work(NamedTuple):
    """An op with arguments, and an expression for it."""

    op: Any
    dtype: str
    arrays: tuple[Array, ...]
    expr: Expr
    known: bool = False  # the last argument is a constant


# --- arguments -----------------------------------------------------------------------------------

_COMMON = [0.0, -0.0, 1, -1, 0.5, -0.5, 2, 7.5, -2.5, math.inf, -math.inf, math.nan, 1e30, -1e-30]
_MORE = [-2, 3, -7, 88.5, -88.5, 110, -110, 1e5, -1e5, 1e9, 3.4e38, -3.4e38, 1.2e-38, -1.2e-38]


def floats(count: int, dtype: str) -> list[Array]:
    """Return special numbers in all combinations, and random ones of all sizes."""
    rng = np.random.default_rng(count)
    special = np.array(_COMMON + _MORE if count < 3 else _COMMON)
    if dtype == "float64" and count < 3:
        special = np.concatenate([special, [1e300, -1e300, 1e-300, 709.5, -745.0]])
    grids = np.meshgrid(*[special] * count)

    def some() -> Array:
        wide = np.exp(rng.uniform(-20, 20, 150)) * rng.choice([-1, 1], 150)
        return np.concatenate([rng.uniform(-3, 3, 150), rng.normal(size=150) * 30, wide])

    return [np.concatenate([g.ravel(), some()]).astype(dtype) for g in grids]


def whole(count: int, dtype: str) -> list[Array]:
    """Return integers: special ones in all combinations, and random ones."""
    rng = np.random.default_rng(count)
    limits = np.iinfo(dtype)
    near = [0, 1, 2, 3, 5, 7, 8, 31, 32, 33, 63, 64, 100, limits.max, limits.max - 1, limits.min]
    special = np.array(near + ([-1, -2, -7, -64] if limits.min else [200, 128]), dtype)
    return [
        np.concatenate([g.ravel(), rng.integers(limits.min, limits.max, 200, dtype)])
        for g in np.meshgrid(*[special] * count)
    ]


@functools.cache
def values(count: int, dtype: str) -> tuple[Array, ...]:
    """Return arguments of a dtype."""
    if dtype == "bool":
        grids = np.meshgrid(*[np.array([False, True])] * count)
        return tuple(np.resize(g.ravel(), 1000) for g in grids)
    made = floats(count, dtype) if dtype in FLOATS else whole(count, dtype)
    return tuple(np.resize(a, max(a.size, 1000)) for a in made)


def suited(op: Op, arrays: tuple[Array, ...]) -> tuple[Array, ...]:
    """Return arguments that an op has an answer to."""
    if type(op).__name__ == "Where":
        return (np.isfinite(arrays[0]) & (arrays[0] > 0), *arrays[1:])
    if type(op).__name__ == "LogitsLoss":  # x·t may overflow where it isn't rounded by itself
        return tuple(np.where(np.isinf(a), a, np.clip(a, -1e18, 1e18)) for a in arrays)
    if type(op).__name__ == "GeluGrad":  # at ±∞ eager's slope is not 0 but tiny: times ∞ it is ∞
        return (np.clip(arrays[0], -1e30, 1e30), arrays[1])
    return arrays


def refuses(op: Any, arrays: tuple[Array, ...]) -> bool:
    """Tell whether an op has a reason against the dtypes, or always gets floats by promotion."""
    if op.promote == "float" and arrays[0].dtype.kind != "f":
        return True
    try:
        op.infer(*(Spec(a.shape, a.dtype) for a in arrays))
        if op.check is not None:
            op.check(*(a[:0] for a in arrays))
    except Refused:
        return True
    return False


def ops() -> Iterator[Any]:
    """Yield the ops that have a `lower`, with each choice of fields that their samples show."""
    for op_class in REGISTRY.values():
        if op_class.__module__.startswith("toumei.") and hasattr(op_class, "lower"):
            yield from {c.op.token(): c.op for c in op_cases(op_class)}.values()


def lowered(op: Any, arrays: tuple[Array, ...], constant: float | None = None) -> Expr | None:
    """Return the expression of an op; the last argument may be a constant."""
    leaves: list[Expr] = list(arguments([a.dtype for a in arrays]))
    if constant is not None:
        leaves[-1] = Const(arrays[-1][0].item(), arrays[-1].dtype)
    found: Expr | None = op.lower(B, *leaves)
    return found


def plain() -> Iterator[Work]:
    """Yield every op on every dtype that it takes."""
    for op in ops():
        for dtype in DTYPES:
            arrays = suited(op, values(len(op.params), dtype))
            if refuses(op, arrays):
                continue
            expr = lowered(op, arrays)
            if expr is not None:
                yield Work(op, dtype, arrays, expr)


_EXPONENTS = (-9, -8, -3, -1, 0, 1, 2, 3, 7, 8, 9, 13, 0.5, -0.5, 1.5, math.inf, math.nan)
_DIVISORS = (1, -1, 3, -7)


def with_constants() -> Iterator[Work]:
    """Yield powers and divisions by numbers that are known beforehand."""
    for name in ("Pow", "FloorDivide", "TruncDivide", "Remainder", "Fmod"):
        op: Any = REGISTRY[name]()
        for dtype in DTYPES[:-1]:
            for c in _EXPONENTS if name == "Pow" else _DIVISORS:
                if dtype in FLOATS or _is_whole(c, signed=name != "Pow" and dtype != "uint8"):
                    x = values(1, dtype)[0]
                    arrays = (x, np.full(x.shape, c, dtype))
                    expr = lowered(op, arrays, c)
                    assert expr is not None, (name, dtype, c)
                    yield Work(op, dtype, arrays, expr, known=True)


def _is_whole(c: float, signed: bool) -> bool:
    return c == c // 1 and (c >= 0 or signed)


def expected(work: Work) -> Array:
    """Return what eager computes; a number that is known is one without dimensions there."""
    arrays = list(work.arrays)
    if work.known:
        arrays[-1] = np.asarray(arrays[-1][0])
    return np.asarray(run_quietly(work.op.forward, np, *arrays))


# --- comparison ----------------------------------------------------------------------------------


def check(work: Work, got: Array, want: Array) -> None:
    """Compare native and NumPy's numbers."""
    assert got.dtype == want.dtype
    wrong = got != want if want.dtype.kind != "f" else _differs(work, got, want)
    at = np.flatnonzero(wrong)[:3]
    message = f"{work.op} of {[a[at] for a in work.arrays]}: {got[at]}, expected {want[at]}"
    assert not at.size, message


def _differs(work: Work, got: Array, want: Array) -> Array:
    name, tiny = type(work.op).__name__, np.finfo(want.dtype).tiny
    with np.errstate(all="ignore"):
        size = np.abs(want)
        if name in TERMS:
            terms = TERMS[name](*(a[: want.size] for a in work.arrays))
            size = np.fmax(size, np.where(np.isfinite(terms), terms, 0))
        unit = np.spacing(np.maximum(size, tiny))  # below `tiny` numbers may be flushed to 0
        near = np.abs(got - want) <= (ULPS if name in INEXACT else 0) * unit
        flushed = (np.abs(want) <= tiny) & (np.abs(got) <= tiny)
    same = near | (got == want) | (np.isnan(got) & np.isnan(want)) | flushed
    zeros = (got == 0) & (want == 0) & (np.signbit(got) != np.signbit(want))
    return ~same | (zeros & (name not in UNSIGNED_ZEROS))


# --- tests ---------------------------------------------------------------------------------------


@pytest.fixture(params=["host", "avx2", "generic"])
def target(request: pytest.FixtureRequest) -> Target:
    found = Target.named(request.param)
    if not found.runs_here():
        pytest.skip(f"this processor can't run {found.name}")
    return found


@functools.cache
def compiled(target: Target) -> list[tuple[Work, Any]]:
    """Return everything there is to test, with its code."""
    works = [*plain(), *with_constants()]
    written = []
    for i, w in enumerate(works):
        out = run_quietly(w.op.forward, np, *(a[:1] for a in w.arrays)).dtype
        expr = B.cast(w.expr, out)
        written.append(kernel(f"op{i}", expr, len(w.arrays), target, target.lanes("float")))
    made = build(written, target)
    return [(w, made[f"op{i}"]) for i, w in enumerate(works)]


def test_native_code_computes_what_forward_does(target: Target) -> None:
    for work, function in compiled(target):
        want = expected(work)
        got = call(function, work.arrays, np.empty_like(want))
        check(work, got, want)


def test_every_size_is_filled_and_nothing_behind_it(target: Target) -> None:
    for work, function in compiled(target)[::7]:
        want = expected(work)
        for n in SIZES:
            n = min(n, want.size)
            room = np.ones(n + 32, want.dtype)
            call(function, work.arrays, room[:n])
            part = work._replace(arrays=tuple(a[:n] for a in work.arrays))
            check(part, room[:n], want[:n])
            assert (room[n:] == 1).all(), f"{work.op} writes behind the end"


def test_subnormal_numbers_count_as_they_are_or_as_zero() -> None:
    target = Target.named("host")
    for work, function in compiled(target):
        if work.dtype not in FLOATS or len(work.arrays) > 1:
            continue
        x = np.array([1e-40, -1e-40, 1e-45] if work.dtype == "float32" else [1e-310, -1e-320])
        x = x.astype(work.dtype)
        kept, flushed = (np.asarray(run_quietly(work.op.forward, np, v)) for v in (x, x * 0))
        got = call(function, [x], np.empty_like(kept))
        for i in range(x.size):
            one = work._replace(arrays=(x[i : i + 1],))
            try:
                check(one, got[i : i + 1], kept[i : i + 1])
            except AssertionError:
                check(one, got[i : i + 1], flushed[i : i + 1])


def test_most_elementwise_ops_have_native_code() -> None:
    names = {type(op).__name__ for op in ops()}
    assert names >= NEEDED
    all_of_them = [c for c in REGISTRY.values() if issubclass(c, Elementwise)]
    assert len(names) > 0.7 * len(all_of_them)


def test_integers_divided_by_what_may_be_zero_are_left_to_forward() -> None:
    """Its check refuses zeros; a known divisor needs no check."""
    for name in ("FloorDivide", "TruncDivide", "Remainder", "Fmod"):
        op: Any = REGISTRY[name]()
        for dtype in ("int64", "int32", "uint8"):
            x, y = arguments([np.dtype(dtype)] * 2)
            assert op.lower(B, x, y) is None
            assert op.lower(B, x, Const(0, x.dtype)) is None
            assert op.lower(B, x, Const(3, x.dtype)) is not None


def test_negative_powers_of_integers_are_left_to_forward() -> None:
    op: Any = REGISTRY["Pow"]()
    x, y = arguments([np.dtype("int64")] * 2)
    assert op.lower(B, x, y) is None
    assert op.lower(B, x, Const(-1, x.dtype)) is None


def test_known_powers_call_no_power() -> None:
    x = arguments([np.dtype("float32")])[0]
    for n in (-8, -2, -1, -0.5, 0, 0.5, 1, 2, 3, 8):
        text = repr(REGISTRY["Pow"]().lower(B, x, Const(n, x.dtype)))  # type: ignore[attr-defined]
        assert "'pow'" not in text, text
