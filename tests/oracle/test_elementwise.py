"""Element-by-element functions against PyTorch: every dtype, awkward numbers, in place."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import toumei as tm
from toumei.errors import OpError

torch = pytest.importorskip("torch")

AWKWARD = [0.0, -0.0, 1, -1, 0.5, -0.5, 1.5, 2, -2, 2.5, 3, -3, 7, 10, 1e-30, 1e30, -1e30,
           np.inf, -np.inf, np.nan]  # fmt: skip
NUMBERS = {
    "float32": np.array(AWKWARD, "f4"),
    "float64": np.array(AWKWARD),
    "int64": np.array([0, 1, -1, 2, -2, 3, 7, -9, 100]),
    "int32": np.array([0, 1, -1, 2, -2, 3, 7, -9, 100], "i4"),
    "uint8": np.array([0, 1, 2, 3, 7, 200, 255], "u1"),
    "bool": np.array([True, False]),
}
UNARY = (
    "abs acos acosh asin asinh atan atanh ceil floor round trunc fix frac sign sgn signbit exp "
    "exp2 expm1 log log10 log1p log2 rsqrt square reciprocal sinh cosh tan tanh sin cos sqrt "
    "sigmoid sinc deg2rad rad2deg nan_to_num positive neg angle isreal isfinite isinf isnan "
    "isneginf isposinf "
    "logical_not bitwise_not erf erfc erfinv lgamma digamma"
)
BINARY = (
    "add sub mul div true_divide pow float_power atan2 copysign fmax fmin maximum minimum xlogy "
    "gcd lcm logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor eq ne lt le gt "
    "ge rsub clamp_min clamp_max"
)
WHOLE = "floor_divide remainder fmod bitwise_left_shift bitwise_right_shift"
# PyTorch's rounding is its own here: quotients of 1e30 and 1e-30, −0 for 1 − 1.
TOLERANCE = {"float32": 2e-6, "float64": 1e-13}


def both(name: str, *arrays: Any) -> tuple[Any, Any]:
    """Call both functions: results, or None where the call is refused."""
    ours = [tm.from_numpy(a) if isinstance(a, np.ndarray) else a for a in arrays]
    theirs = [torch.from_numpy(a) if isinstance(a, np.ndarray) else a for a in arrays]
    try:
        y = getattr(tm, name)(*ours)
    except OpError:
        y = None
    try:
        return y, getattr(torch, name)(*theirs)
    except (RuntimeError, NotImplementedError):
        return y, None


def check(name: str, *arrays: Any) -> None:
    """Same refusal, dtype and numbers."""
    y, wanted = both(name, *arrays)
    assert (y is None) == (wanted is None), f"{name}: {y}, PyTorch {wanted}"
    if y is not None:
        a, b = y.numpy(), wanted.numpy()
        assert a.dtype == b.dtype, f"{name}: {a.dtype}, PyTorch {b.dtype}"
        np.testing.assert_allclose(a, b, TOLERANCE.get(str(a.dtype), 0), 0, err_msg=name)


@pytest.mark.parametrize("name", UNARY.split())
@pytest.mark.parametrize("dtype", NUMBERS)
def test_one_argument(name: str, dtype: str) -> None:
    check(name, NUMBERS[dtype])


@pytest.mark.parametrize("name", BINARY.split())
@pytest.mark.parametrize("dtype", NUMBERS)
def test_two_arguments(name: str, dtype: str) -> None:
    a = NUMBERS[dtype][:, None].copy()
    for b in NUMBERS.values():
        if name == "pow":
            if a.dtype.kind == b.dtype.kind == "b":
                continue
            b = np.unique(np.clip(b[~np.isnan(b)], 0, 20))
        check(name, a, b[None].copy())
    if name in ("add", "sub", "mul", "div", "eq", "lt", "clamp_min", "bitwise_and"):
        for number in (2, -3, 2.5, 0):
            check(name, NUMBERS[dtype], number)


@pytest.mark.parametrize("name", WHOLE.split())
@pytest.mark.parametrize("dtype", NUMBERS)
def test_whole_numbers(name: str, dtype: str) -> None:
    a = NUMBERS[dtype]
    a = a[(np.abs(a) < 1e6) | ~np.isfinite(a)] if a.dtype.kind == "f" else a
    for b in (np.array([1, 2, -3, 7]), np.array([1, 2, 3, 70], "u1"), np.array([0.5, -2.5, 0, 3])):
        if "shift" in name and b.min() < 0:
            b = np.abs(b)
        check(name, a[:, None].copy(), b[None].copy())


@pytest.mark.parametrize("name", ["floor_divide", "remainder", "fmod"])
def test_integers_are_not_divided_by_zero(name: str) -> None:
    with pytest.raises(OpError, match="ZeroDivisionError"):
        getattr(tm, name)(tm.tensor([1, 2]), tm.tensor([1, 0]))
    with pytest.raises(OpError, match="ZeroDivisionError"):
        getattr(tm, name)(tm.tensor([1, 2]), 0)


OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "//": operator.floordiv, "%": operator.mod, "**": operator.pow, "-": operator.sub,
    "/": operator.truediv, "&": operator.and_, "|": operator.or_, "^": operator.xor,
    "<<": operator.lshift, ">>": operator.rshift,
}  # fmt: skip


@pytest.mark.parametrize("symbol", OPERATORS)
def test_operators(symbol: str) -> None:
    function = OPERATORS[symbol]
    a, b = np.array([5, 9, 12]), np.array([1, 2, 3])
    t, u = torch.from_numpy(a), torch.from_numpy(b)
    pairs = [((tm.from_numpy(a), tm.from_numpy(b)), (t, u)), ((tm.from_numpy(a), 2), (t, 2)),
             ((7, tm.from_numpy(b)), (7, u))]  # fmt: skip
    for x, y in pairs:
        ours, theirs = function(*x), function(*y)
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), 3e-7)
        assert ours.numpy().dtype == theirs.numpy().dtype


@pytest.mark.parametrize("name", (UNARY + " " + BINARY).split())
def test_in_place(name: str) -> None:
    method = getattr(tm.Tensor, name + "_", None)
    if not hasattr(torch.Tensor, name + "_"):
        assert method is None or name in ("fmax", "fmin", "rsub"), f"PyTorch has no {name}_"
        return
    whole = name in ("gcd", "lcm") or name.startswith("bitwise")
    a = np.array([1, 2, 3]) if whole else np.array([0.25, 0.5, 0.75])
    others = [np.array([3, 2, 1]).astype(a.dtype)] if name in BINARY.split() else []
    mine, theirs = tm.from_numpy(a.copy()), torch.from_numpy(a.copy())
    assert method is not None, f"there is no {name}_"
    result = method(mine, *map(tm.from_numpy, others))
    getattr(theirs, name + "_")(*map(torch.from_numpy, others))
    assert result is mine
    np.testing.assert_allclose(mine.numpy(), theirs.numpy(), 1e-13)


def test_clamp_gradient_at_the_limits() -> None:
    x = tm.tensor([-2.0, -1.0, 0.0, 1.0, 2.0], requires_grad=True)
    tm.clamp(x, -1, 1).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [0, 1, 1, 1, 0]


def test_refusals_say_why() -> None:
    flags = tm.tensor([True])
    with pytest.raises(OpError, match="no subtraction of bools"):
        tm.tensor([1.0]) - flags
    with pytest.raises(OpError, match="no negative of bools"):
        tm.neg(flags)
    with pytest.raises(OpError, match="not of float32"):
        tm.tensor([1.0]) & 1
    with pytest.raises(OpError, match="at least one of min and max"):
        tm.clamp(tm.tensor([1.0]))
    with pytest.raises(OpError, match="no such power"):
        tm.tensor([2]) ** -1
    with pytest.raises(OpError, match="dtypes differ"):
        tm.allclose(tm.tensor([1.0]), tm.tensor([1]))
