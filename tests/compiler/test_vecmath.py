"""Elementary functions as vector code: accuracy, limits, integers, conversions, random numbers."""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from toumei.compiler.llvm import jit, vecphilox
from toumei.compiler.llvm.ir import Function, Value, module, vector
from toumei.compiler.llvm.target import Target, host
from toumei.compiler.llvm.vecmath import FUNCTIONS, convert
from toumei.ops import philox
from toumei.ops.dropping import DropMask

ELEMENT = {
    "float32": "float", "float64": "double", "int32": "i32", "int64": "i64", "uint8": "i8",
}  # fmt: skip
Body = Callable[[Function, list[Value], Target], Value]


@functools.cache
def library(
    bodies: tuple[tuple[str, Body], ...],
    types: tuple[str, ...],
    out: str,
    lanes: int,
    target: Target,
) -> tuple[jit.Library, str]:
    """Compile functions over arrays of some types, all in one module."""
    written = [_loop(name, body, types, out, lanes, target) for name, body in bodies]
    text = module(written)
    return jit.Library(jit.compile_ir(text, target), [f.name for f in written]), text


def _loop(
    name: str, body: Body, types: Sequence[str], out: str, lanes: int, target: Target
) -> Function:
    f = Function(f"run_{name}", [("arrays", "ptr"), ("n", "i64")])
    arrays, n = f.args
    places = [f.load(f.at(arrays, i, "ptr"), "ptr") for i in range(len(types) + 1)]
    with f.loop(0, n, lanes) as loop:
        args = [
            f.load(f.at(p, loop.index, ELEMENT[t]), vector(ELEMENT[t], lanes))
            for p, t in zip(places, types, strict=False)
        ]
        y = body(f, args, target)
        if y.type.endswith(("i1", "i1>")):  # a mask: 0 or 1 in the type of the result
            y = f.cast("zext" if ELEMENT[out][0] == "i" else "uitofp", y, ELEMENT[out])
        f.store(y, f.at(places[-1], loop.index, ELEMENT[out]))
    f.ret()
    return f


def call(
    made: jit.Library, name: str, arrays: Sequence[np.ndarray[Any, Any]], out: str, lanes: int
) -> np.ndarray[Any, Any]:
    count = len(arrays[0])
    padded = -(-count // lanes) * lanes
    inputs = [np.resize(a, padded) for a in arrays]
    y = np.empty(padded, out)
    addresses = (ctypes.c_void_p * (len(inputs) + 1))(*(a.ctypes.data for a in (*inputs, y)))
    entry = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)
    entry(made.address(f"run_{name}"))(addresses, padded)
    return y[:count]


def compute(
    name: str, *arrays: np.ndarray[Any, Any], lanes: int = 8, group: Sequence[str] = ()
) -> np.ndarray[Any, Any]:
    """Compute one of FUNCTIONS, compiled for the host; `group` shares its module."""
    types = tuple(a.dtype.name for a in arrays)
    names = tuple(group) or (name,)
    bodies = tuple((n, FUNCTIONS[n]) for n in names)
    made, _ = library(bodies, types, types[0], lanes, host())
    return call(made, name, arrays, types[0], lanes)


# --- functions of one number ---------------------------------------------------------------------

WIDE = np.longdouble


def scalar(f: Callable[[float], float]) -> Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]:
    return lambda x: np.frompyfunc(lambda v: f(float(v)), 1, 1)(x).astype(WIDE)


REFERENCE: dict[str, Callable[..., Any]] = {
    "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "log": np.log, "log2": np.log2,
    "log10": np.log10, "log1p": np.log1p, "sin": np.sin, "cos": np.cos, "tan": np.tan,
    "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh,
    "tanh": np.tanh, "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
    "erf": scalar(math.erf), "erfc": scalar(math.erfc), "sqrt": np.sqrt,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "rsqrt": lambda x: 1 / np.sqrt(x),
    "reciprocal": lambda x: 1 / x, "softplus": lambda x: np.logaddexp(x, 0),
    "log_sigmoid": lambda x: -np.logaddexp(-x, 0),
}  # fmt: skip
EXACT: dict[str, Callable[..., Any]] = {
    "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "round_even": np.rint,
    "abs": np.abs, "neg": np.negative, "square": np.square, "signbit": np.signbit,
    "isnan": np.isnan, "isinf": np.isinf, "isfinite": np.isfinite,
    "sign": lambda x: np.where(np.isnan(x), 0, np.sign(x)),
    "frac": lambda x: x - np.trunc(x),
}  # fmt: skip
UNARY = (*REFERENCE, *EXACT)
# The largest error in units of the last place, where it isn't 3.
LIMITS = {"tanh": 6.0, "tan": 4.0, "erfc": 6.0}
SPECIAL = [0.0, -0.0, 1, -1, 0.5, -0.5, 2, -2, 1.5, 2.5, math.inf, -math.inf, math.nan, 3e38, -3e38]


def samples(dtype: str, count: int = 3000) -> np.ndarray[Any, Any]:
    """Numbers of every size, dense where the functions bend, and the special ones."""
    rng = np.random.default_rng(5)
    far = 750 if dtype == "float64" else 105
    parts = [rng.uniform(-r, r, count) for r in (0.5, 1, 4, 20, far)]
    parts.append(rng.choice([-1, 1], count) * 10.0 ** rng.uniform(-30, 30, count))
    parts.append(np.arange(1, 200) * (math.pi / 2))  # where sin or cos vanish
    parts.append(rng.uniform(-99_999, 99_999, count))
    return np.concatenate([*parts, SPECIAL]).astype(dtype)


def check_unary(name: str, dtype: str, lanes: int, target: Target, x: np.ndarray[Any, Any]) -> None:
    bodies = tuple((n, FUNCTIONS[n]) for n in UNARY)
    made, _ = library(bodies, (dtype,), dtype, lanes, target)
    y = call(made, name, [x], dtype, lanes)
    with np.errstate(all="ignore"):
        if name in EXACT:
            expected = EXACT[name](x).astype(dtype)
            np.testing.assert_array_equal(y, expected, err_msg=name)
            ok = ~np.isnan(expected)
            assert (np.signbit(y) == np.signbit(expected))[ok].all(), name
            return
        right = REFERENCE[name](x.astype(WIDE))
        assert_close(name, x, y, right, LIMITS.get(name, 3.0))


def assert_close(
    name: str, x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], right: Any, limit: float
) -> None:
    """Check the error against the true values; infinities and NaN must be in the same places."""
    rounded = right.astype(y.dtype)
    smallest = np.finfo(y.dtype).tiny * 2
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(y[~finite], rounded[~finite], err_msg=name)
    tiny = finite & (np.abs(right) < smallest)
    assert (np.abs(y[tiny]) <= smallest).all(), name  # flushed to zero or not
    usual = finite & ~tiny
    error = np.abs(y[usual].astype(WIDE) - right[usual]) / np.spacing(np.abs(rounded[usual]))
    worst = int(np.argmax(error))
    assert error[worst] <= limit, (name, x[usual][worst], y[usual][worst], float(error[worst]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("lanes", [1, 4, 8, 16])
def test_functions_of_one_number(dtype: str, lanes: int) -> None:
    x = samples(dtype, 3000 if lanes == 8 else 300)
    for name in UNARY:
        check_unary(name, dtype, lanes, host(), x)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("target", ["generic", "avx2"])
def test_narrow_targets(dtype: str, target: str) -> None:
    to = Target.named(target)
    if not to.runs_here():
        pytest.skip(f"this processor has no {target}")
    for name in UNARY:
        check_unary(name, dtype, to.lanes(ELEMENT[dtype]), to, samples(dtype, 300))


def test_no_instruction_of_wider_targets_is_used() -> None:
    bodies = tuple((n, FUNCTIONS[n]) for n in UNARY)
    to = Target.named("generic")
    _, text = library(bodies, ("float32",), "float32", 4, to)
    assembly = jit.assembly(text, to)
    assert "ymm" not in assembly and "fmadd" not in assembly and "xmm" in assembly
    assert "fmla" in jit.assembly(text, Target.named("aarch64"))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_zeros_keep_their_sign(dtype: str) -> None:
    x = np.array([0.0, -0.0], dtype)
    for name in ("expm1", "log1p", "sin", "tan", "asin", "atan", "sinh", "tanh", "asinh",
                 "atanh", "erf"):  # fmt: skip
        y = compute(name, x, lanes=8)
        assert (y == 0).all() and list(np.signbit(y)) == [False, True], name


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_arguments_of_sin_and_cos(dtype: str) -> None:
    x = np.array([1e5, -1e5, 123456.7, 1e8, -1e15, 1e22, 1e30, 3e38, 1.0, math.inf], dtype)
    for name in ("sin", "cos", "tan"):
        with np.errstate(all="ignore"):
            right = getattr(np, name)(x.astype(np.float64 if dtype == "float32" else WIDE))
        assert_close(name, x, compute(name, x), right.astype(WIDE), 4.0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("target", ["host", "avx2", "generic"])
def test_gelu(dtype: str, target: str) -> None:
    to = Target.named(target)
    if not to.runs_here():
        pytest.skip(f"this processor has no {target}")
    bodies = tuple((n, FUNCTIONS[n]) for n in ("gelu", "gelu_slope", "gelu_tanh"))
    made, _ = library(bodies, (dtype,), dtype, 8, to)
    x = np.linspace(-12, 12, 20001).astype(dtype)
    gelu, slope, by_tanh = (call(made, name, [x], dtype, 8) for name, _ in bodies)
    wide = x.astype(float)
    below = scalar(math.erfc)(-wide / math.sqrt(2)).astype(float) / 2
    inner = math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)
    tolerance, tail = (3e-7, 5e-4) if dtype == "float32" else (2e-15, 5e-10)
    assert np.abs(gelu - wide * below).max() < tolerance
    some = (wide > -5) & (wide != 0)
    assert np.abs(gelu / (wide * below) - 1, where=some, out=0 * wide).max() < tail
    density = np.exp(-(wide**2) / 2) / math.sqrt(2 * math.pi)
    assert np.abs(slope - (below + wide * density)).max() < tolerance
    assert np.abs(by_tanh - 0.5 * wide * (1 + np.tanh(inner))).max() < tolerance * 4


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_limits_of_gelu(dtype: str) -> None:
    x = np.array([0.0, -0.0, 100, -100, 3e38, -3e38, math.inf, -math.inf, math.nan], dtype)
    np.testing.assert_array_equal(compute("gelu", x), np.where(x < 0, 0, x))
    right = np.array([0.5, 0.5, 1, 0, 1, 0, 1, 0, math.nan], dtype)
    np.testing.assert_array_equal(compute("gelu_slope", x), right)


# --- of two --------------------------------------------------------------------------------------

PAIRS: dict[str, Callable[..., Any]] = {
    "atan2": np.arctan2, "pow": np.power, "logaddexp": np.logaddexp, "fmod": np.fmod,
    "remainder": np.remainder, "floor_divide": np.floor_divide, "maximum": np.maximum,
    "minimum": np.minimum, "fmax": np.fmax, "fmin": np.fmin, "copysign": np.copysign,
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "eq": np.equal, "ne": np.not_equal, "div": np.divide,
}  # fmt: skip


def pairs(dtype: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """All pairs of special numbers, and random ones."""
    rng = np.random.default_rng(3)
    some = np.array([*SPECIAL, 3, -3, 0.1, -7.3, 1e-3, 16777215, 4194305, 4194304.5], dtype)
    a, b = (m.ravel() for m in np.meshgrid(some, some))
    random = rng.normal(size=(2, 2000)) * 10.0 ** rng.uniform(-3, 3, (2, 2000))
    random[0, :500] = np.abs(random[0, :500])
    random[1, :1000] = np.clip(random[1, :1000], -20, 20)
    a, b = np.concatenate([a, random[0]]), np.concatenate([b, random[1]])
    return a.astype(dtype), b.astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("lanes", [1, 8, 16])
def test_functions_of_two_numbers(dtype: str, lanes: int) -> None:
    a, b = pairs(dtype)
    for name, numpy in PAIRS.items():
        y = compute(name, a, b, lanes=lanes, group=tuple(PAIRS))
        with np.errstate(all="ignore"):
            if name in ("atan2", "pow", "logaddexp"):
                right = numpy(a.astype(WIDE), b.astype(WIDE))
                if name == "logaddexp":  # a + b of opposite signs cancels: judge by the larger
                    assert_near(y, right, np.maximum(np.abs(a), np.abs(b)), dtype)
                    continue
                assert_close(name, np.stack([a, b], 1), y, right, 3.0)
            else:
                np.testing.assert_array_equal(y, numpy(a, b).astype(dtype), err_msg=name)


def assert_near(y: Any, right: Any, scale: Any, dtype: str) -> None:
    np.testing.assert_array_equal(np.isfinite(y), np.isfinite(right.astype(dtype)))
    ok = np.isfinite(y)
    np.testing.assert_array_equal(y[~ok], right[~ok].astype(dtype))
    assert (np.abs(y[ok] - right[ok]) <= 3 * np.finfo(dtype).eps * (scale[ok] + 0.7)).all()


def test_remainders_on_a_target_without_fma() -> None:
    names = ("fmod", "remainder", "floor_divide")
    for dtype, lanes in (("float32", 4), ("float64", 2)):
        a, b = pairs(dtype)
        bodies = tuple((n, FUNCTIONS[n]) for n in names)
        made, _ = library(bodies, (dtype, dtype), dtype, lanes, Target.named("generic"))
        for name in names:
            y = call(made, name, [a, b], dtype, lanes)
            with np.errstate(all="ignore"):
                np.testing.assert_array_equal(y, getattr(np, name)(a, b), err_msg=name)


def test_limits_that_are_constants() -> None:
    def between(f: Function, args: list[Value], target: Target) -> Value:
        low, high = (f.const(args[0].type, c) for c in (-1.0, 2.0))
        return FUNCTIONS["clamp"](f, [args[0], low, high], target)

    x = np.array([-3, -1, 0.5, 2, 7, math.nan, math.inf, -math.inf], np.float32)
    made, _ = library((("clamp", between),), ("float32",), "float32", 4, host())
    np.testing.assert_array_equal(call(made, "clamp", [x], "float32", 4), np.clip(x, -1, 2))


# --- integers and conversions --------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("lanes", [1, 8])
def test_integers(dtype: str, lanes: int) -> None:
    info, rng = np.iinfo(dtype), np.random.default_rng(1)
    some = np.array([0, 1, -1, 2, -2, 7, -7, 100, info.max, info.min, info.min + 1], dtype)
    a, b = (m.ravel() for m in np.meshgrid(some, some))
    a = np.concatenate([a, rng.integers(-1000, 1000, 500).astype(dtype)])
    b = np.concatenate([b, rng.integers(-20, 20, 500).astype(dtype)])
    names = ("floor_divide", "remainder", "fmod", "maximum", "minimum", "add", "mul")
    for name in names:
        y = compute(name, a, b, lanes=lanes, group=names)
        with np.errstate(all="ignore"):
            right = getattr(np, {"mul": "multiply"}.get(name, name))(a, b)
        np.testing.assert_array_equal(y, right, err_msg=name)
    shifts = np.abs(b % 70)
    for name, numpy in (("shift_left", np.left_shift), ("shift_right", np.right_shift)):
        np.testing.assert_array_equal(compute(name, a, shifts, lanes=lanes), numpy(a, shifts))


CONVERSIONS = [(a, b) for a in ELEMENT for b in ELEMENT if a != b]


@pytest.mark.parametrize(("source", "to"), CONVERSIONS)
def test_conversions(source: str, to: str) -> None:
    def body(f: Function, args: list[Value], target: Target) -> Value:
        return convert(f, args[0], target, source, to)

    x = np.array([0, 1, 2, 3, 100, 127, 128, 255, 1.9, 200.5] * 2, "float64")
    if source != "uint8" and to != "uint8":
        x = np.concatenate([x, -x, [2**24 + 1, -(2**30), 2**31 - 65, 16777216.75]])
    x = x.astype(source)
    for lanes in (1, 8):
        made, _ = library((("convert", body),), (source,), to, lanes, host())
        np.testing.assert_array_equal(call(made, "convert", [x], to, lanes), x.astype(to))


@pytest.mark.parametrize("to", ["int32", "int64"])
def test_floats_out_of_range_become_the_smallest_integer(to: str) -> None:
    def body(f: Function, args: list[Value], target: Target) -> Value:
        return convert(f, args[0], target, "float32", to)

    if host().name == "aarch64":
        pytest.skip("as x86 has it")
    x = np.array([math.nan, math.inf, -math.inf, 1e30, -1e30], np.float32)
    made, _ = library((("convert", body),), ("float32",), to, 8, host())
    assert (call(made, "convert", [x], to, 8) == np.iinfo(to).min).all()


# --- random numbers ------------------------------------------------------------------------------

KEY = np.array([-12345678901234567, (1 << 33) + 77])


def draw(blocks: int, count: int, kind: str, finish: Callable[..., Value]) -> np.ndarray[Any, Any]:
    """Make `count` steps of a draw, so many blocks each."""
    to = host()
    f = Function("draw", [("out", "ptr"), ("key", "ptr"), ("n", "i64")])
    out, key, n = f.args
    made = vecphilox.Philox(f, to, f.load(key, "i64"), f.load(f.at(key, 8), "i64"), blocks)
    with f.loop(0, n) as loop:
        y = finish(f, to, made.words(f.mul(loop.index, blocks)))
        size = 1 if not y.type.startswith("<") else int(y.type[1:].split(" ")[0])
        if "i1>" in y.type:
            y = f.cast("zext", y, "i8")
        element = vector(ELEMENT.get(kind, "i32"), 1)
        f.store(y, f.at(out, f.mul(loop.index, size), element))
    f.ret()
    library = jit.Library(jit.compile_ir(module([f])), ["draw"])
    result = np.empty(count * size, kind)
    entry = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    entry(library.address("draw"))(result.ctypes.data, KEY.ctypes.data, count)
    return result


def finished(
    emitter: Callable[..., Value], element: str, f: Function, to: Target, words: Value
) -> Value:
    return emitter(f, to, words, element)


@pytest.mark.parametrize("blocks", [1, 2, 4, 8])
def test_random_words_are_those_of_eager(blocks: int) -> None:
    words = draw(blocks, 100, "uint32", lambda f, to, words: words)
    np.testing.assert_array_equal(words, philox.random_words(KEY, 400 * blocks))
    for dtype in ("float32", "float64"):
        element = ELEMENT[dtype]
        y = draw(blocks, 99, dtype, functools.partial(finished, vecphilox.uniform, element))
        np.testing.assert_array_equal(y, philox.uniform(KEY, len(y), np.dtype(dtype)))
        z = draw(blocks, 99, dtype, functools.partial(finished, vecphilox.normal, element))
        right = philox.normal(KEY, len(z), np.dtype(dtype))
        assert np.abs(z - right).max() < 20 * np.finfo(dtype).eps


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.999])
def test_dropout_keeps_what_eager_keeps(p: float) -> None:
    mask = draw(2, 50, "uint8", lambda f, to, words: vecphilox.kept(f, to, words, p))
    right = DropMask((len(mask),), np.dtype("float32"), p, 1.0).forward(np, KEY)
    np.testing.assert_array_equal(mask, right)


def test_target_names() -> None:
    assert host() == Target.named("host") and host().runs_here()
    with pytest.raises(ValueError, match="no target 'sse9'"):
        Target.named("sse9")
