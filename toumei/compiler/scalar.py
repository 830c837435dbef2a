"""The language that an elementwise op's `lower` is written in: scalar functions, typed.

    def lower(self, b, x):
        return b.div(b.sub(b.exp(x), b.exp(b.neg(x))), 2.0)

`b` builds expressions (see `expr.py`); the functions are those of `llvm/vecmath.py`, and fma(a, b,
c) = a·b + c.  Python numbers become constants of the other argument's dtype; what has only
constants for arguments is a constant.  What can't be said is None: the op runs its `forward` then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..config import bool_
from ..op import DType
from .expr import Apply, Const, Expr

Operand = Expr | float

_NUMPY: dict[str, Callable[..., Any]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "neg": np.negative,
    "sqrt": np.sqrt, "exp": np.exp, "log": np.log, "abs": np.abs,
}  # fmt: skip
_COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")
_NEUTRAL = {"add": 0, "sub": 0, "mul": 1, "div": 1}  # as the second argument
_MOST = 8  # the largest power of floats that is multiplied out: errors grow with it


class Scalars:
    """Builds scalar expressions."""

    def apply(self, name: str, *args: Operand, dtype: DType | None = None) -> Expr:
        """Return a function of some expressions, of the first one's dtype unless told otherwise."""
        kind = next((a.dtype for a in args if not isinstance(a, bool | int | float)), None)
        assert kind is not None, f"{name} of numbers alone"
        exprs = tuple(self.const(a, kind) if isinstance(a, bool | int | float) else a for a in args)
        out = dtype or kind
        if name in _NUMPY and all(isinstance(e, Const) for e in exprs):
            values = [np.asarray(e.value, e.dtype) for e in exprs]  # type: ignore[union-attr]
            with np.errstate(all="ignore"):
                return Const(_NUMPY[name](*values).astype(out).item(), out)
        if name in _NEUTRAL and self.number(exprs[1]) == _NEUTRAL[name] and kind != bool_:
            return exprs[0]
        return Apply(name, exprs, out)

    def const(self, value: float, dtype: DType) -> Const:
        """Return a number."""
        with np.errstate(all="ignore"):
            return Const(np.asarray(value).astype(dtype).item(), dtype)

    def number(self, x: Operand) -> float | None:
        """Return the number that an operand is known to be, None if it isn't known yet."""
        if isinstance(x, Const):
            return x.value
        return x if isinstance(x, bool | int | float) else None

    def cast(self, x: Expr, dtype: DType) -> Expr:
        """Return x as another dtype."""
        if x.dtype == dtype:
            return x
        if isinstance(x, Const):
            return self.const(x.value, dtype)
        return Apply("cast", (x,), dtype)

    def compare(self, how: str, a: Operand, b: Operand) -> Expr:
        """Return whether a is "lt", "le", "gt", "ge", "eq" or "ne" b."""
        return self.apply(how, a, b, dtype=bool_)

    def where(self, condition: Expr, a: Operand, b: Operand) -> Expr:
        """Return a where the condition holds, else b."""
        kind = next(e.dtype for e in (a, b) if not isinstance(e, bool | int | float))
        pair = [self.const(e, kind) if isinstance(e, bool | int | float) else e for e in (a, b)]
        if isinstance(condition, Const):
            return pair[0] if condition.value else pair[1]
        return Apply("where", (condition, *pair), kind)

    # --- what kind of number it is: integers are all finite ---

    def isnan(self, x: Expr) -> Expr:
        """Return whether x is NaN."""
        return self._test("isnan", x, integers=False)

    def isinf(self, x: Expr) -> Expr:
        """Return whether x is ∞ or −∞."""
        return self._test("isinf", x, integers=False)

    def isfinite(self, x: Expr) -> Expr:
        """Return whether x is neither NaN nor infinite."""
        return self._test("isfinite", x, integers=True)

    def signbit(self, x: Expr) -> Expr:
        """Return whether x is negative, −0 and −NaN included."""
        return self.apply("signbit", x, dtype=bool_)

    def _test(self, name: str, x: Expr, integers: bool) -> Expr:
        if x.dtype.kind != "f":
            return self.const(integers, bool_)
        return self.apply(name, x, dtype=bool_)

    # --- powers ---

    def pow(self, a: Expr, b: Expr) -> Expr | None:
        """Return aᵇ: by products or roots where the exponent is known and suits; None: by NumPy."""
        n = self.number(b)
        whole = n is not None and n == n // 1
        if a.dtype.kind != "f":
            # Integers have no negative powers: `forward` says so.
            return self._product(a, int(n)) if n is not None and n >= 0 else None
        if n is not None and whole and abs(n) <= _MOST:
            return self._product(a if n >= 0 else self.reciprocal(a), abs(int(n)))
        if n == 0.5:
            return self.sqrt(a)
        if n == -0.5:  # ∞ at −0 and 0 at −∞: not so its inverse square root
            root = self.abs(self.rsqrt(a))
            return self.where(self.eq(a, -np.inf), 0.0, root)
        return self.exp2(b) if self.number(a) == 2 else self.apply("pow", a, b)

    def _product(self, a: Expr, n: int) -> Expr:
        """Return aⁿ, n ≥ 0, by squares: a¹³ = a·a⁴·a⁸."""
        product: Expr | None = None
        while n:
            if n % 2:
                product = a if product is None else self.mul(product, a)
            n //= 2
            a = self.mul(a, a) if n else a
        return self.const(1, a.dtype) if product is None else product

    def __getattr__(self, name: str) -> Callable[..., Expr]:
        """Any other function: b.exp(x), b.add(x, y) …"""
        if name in _COMPARISONS:
            return lambda x, y: self.compare(name, x, y)
        return lambda *args: self.apply(name, *args)
