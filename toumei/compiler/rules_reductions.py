"""How reductions become nodes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..op import Reduction, Spec
from .expr import Const, Expr, Read, dense, reshape
from .graph import Call
from .lowering import Lowering, order_of, rule
from .nodes import Shape

_HOW = {"Sum": "sum", "Prod": "prod", "Amax": "max", "Amin": "min", "Any_": "any", "All": "all"}


@rule(*_HOW)
def reduction(low: Lowering, call: Call) -> Expr | None:
    """A reduction: a node of its own, or several, from the innermost dims outwards."""
    v, (out,) = call.inputs[0], call.outputs
    assert isinstance(call.op, Reduction)
    how, shape, e = _HOW[type(call.op).__name__], low.shape(v), low.expr(v)
    spec = low.specs[out]
    dims = {d % len(shape) for d in call.op.dim if shape}
    if how in ("any", "all"):
        e = low.scalars.cast(e, np.dtype(bool))
        if spec.dtype != bool:
            return None
    if e.dtype != spec.dtype:
        e = low.scalars.cast(e, spec.dtype)
    while len(runs := _runs(e, shape, dims)) > 1:
        part = tuple(1 if d in runs[0] else n for d, n in enumerate(shape))
        e = reduced(low, call, low.new(Spec(part, spec.dtype)), shape, e, runs[0], how, part)
        shape = part
    if runs:
        return reduced(low, call, out, shape, e, runs[0], how, spec.shape)
    kept = reshape(e, shape, spec.shape)
    assert kept is not None
    return kept


def _runs(e: Expr, shape: Shape, dims: set[int]) -> list[list[int]]:
    """Return the reduced dims in groups that lie side by side in memory, the innermost first.

    >>> by = np.dtype(np.float32)
    >>> _runs(Read(0, by, (60, 20, 5, 1)), (2, 3, 4, 5), {0, 2, 3})
    [[3, 2], [0]]
    >>> _runs(Read(0, by, (60, 1, 15, 3)), (2, 3, 4, 5), {0, 2, 3})
    [[3, 2, 0]]
    """
    runs: list[list[int]] = []
    last = False
    for d in reversed(order_of(e, shape)):
        if shape[d] == 1:
            continue
        if d in dims:
            if last:
                runs[-1].append(d)
            else:
                runs.append([d])
        last = d in dims
    return runs


_NOTHING = {"sum": 0, "prod": 1, "max": -math.inf, "min": math.inf, "any": 0, "all": 1}


def reduced(
    low: Lowering, call: Call, out: int, shape: Shape, e: Expr, run: Sequence[int], how: str,
    to: Shape,
) -> Expr:  # fmt: skip
    """Combine along some dims into a value of the shape `to`, and return its elements."""
    kept = tuple(0 if d in run else n for d, n in enumerate(shape))
    sizes = tuple(1 if d in run else n for d, n in enumerate(shape))
    strides = tuple(0 if not k else s for k, s in zip(kept, dense(sizes), strict=True))
    memory = Read(out, low.specs[out].dtype, strides)
    if math.prod(shape) == 0:
        return Const(_NOTHING[how], low.specs[out].dtype)
    low.compute(memory, shape, e, call, tuple(sorted(run)), how)
    return low.read(out)
