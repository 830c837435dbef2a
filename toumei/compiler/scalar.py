"""The language that an elementwise op's `lower` is written in: scalar functions, typed.

    def lower(self, b, x):
        return b.div(b.sub(b.exp(x), b.exp(b.neg(x))), 2.0)

`b` builds expressions (see `expr.py`).  Python numbers become constants of the other argument's
dtype; what has only constants for arguments is a constant.
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
        return Apply(name, exprs, out)

    def const(self, value: float, dtype: DType) -> Const:
        """Return a number."""
        return Const(np.asarray(value).astype(dtype).item(), dtype)

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
        return Apply("where", (condition, *pair), kind)

    def __getattr__(self, name: str) -> Callable[..., Expr]:
        """Any other function: b.exp(x), b.add(x, y) …"""
        if name in ("lt", "le", "gt", "ge", "eq", "ne"):
            return lambda x, y: self.compare(name, x, y)
        return lambda *args: self.apply(name, *args)
