"""Reductions, scans and order against PyTorch: dtypes, ties, NaN, zeros in products."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import toumei as tm

torch = pytest.importorskip("torch")

Call = Callable[[Any, Any], Any]
NAN = float("nan")

# Each is called with the library and a tensor.
CALLS: dict[str, Call] = {
    "sum": lambda lib, x: x.sum(),
    "prod": lambda lib, x: x.prod(0),
    "cumsum": lambda lib, x: x.cumsum(0),
    "cumprod": lambda lib, x: x.cumprod(0),
    "max": lambda lib, x: x.max(),
    "max dim": lambda lib, x: x.max(0),
    "min dim keepdim": lambda lib, x: lib.min(x, 0, keepdim=True),
    "amax": lambda lib, x: x.amax(0),
    "amin": lambda lib, x: x.amin(),
    "aminmax": lambda lib, x: lib.aminmax(x),
    "argmax": lambda lib, x: (x * 1).argmax(),
    "argmin": lambda lib, x: (x * 1).argmin(0),
    "all": lambda lib, x: x.all(),
    "any": lambda lib, x: x.any(0),
    "count_nonzero": lambda lib, x: x.count_nonzero(),
    "cummax": lambda lib, x: x.cummax(0),
    "cummin": lambda lib, x: x.cummin(0),
    "sort": lambda lib, x: lib.sort(x, stable=True),
    "sort descending": lambda lib, x: lib.sort(x, descending=True, stable=True),
    "mode": lambda lib, x: x.mode(0),
    "topk": lambda lib, x: (x * 1).topk(3).values,
    "median": lambda lib, x: (x * 1).median(),
    "nanmedian dim": lambda lib, x: (x * 1).nanmedian(0).values,
    "kthvalue": lambda lib, x: (x * 1).kthvalue(2).values,
    "logsumexp": lambda lib, x: x.logsumexp(0),
    "nansum": lambda lib, x: x.nansum(),
    "unique": lambda lib, x: lib.unique(x, return_inverse=True, return_counts=True),
    "diff": lambda lib, x: lib.diff(x),
    "cat": lambda lib, x: lib.cat([x, x * 1.5, lib.zeros(0)]),
    "logcumsumexp": lambda lib, x: (x * 1.0).logcumsumexp(0),
}
# PyTorch has no derivative, or says that it is free to pick any of the elements that tie.
VALUES_ONLY = {"unique", "topk", "kthvalue"}
VALUES: dict[str, tuple[list[Any], str]] = {
    "ties": ([1.0, 3.0, 3.0, 2.0, 1.0], "float64"),
    "nan": ([1.0, NAN, 3.0, NAN, 2.0], "float64"),
    "one zero": ([2.0, 0.0, 3.0], "float64"),
    "two zeros": ([2.0, 0.0, 3.0, 0.0], "float32"),
    "int64": ([3, 1, 2, 1], "int64"),
    "int32": ([3, 1, 2, 1], "int32"),
    "uint8": ([3, 1, 2, 1], "uint8"),
    "bool": ([True, False, True], "bool"),
}


def both(call: Call, values: list[Any], dtype: str, grad: bool) -> Iterator[tuple[Any, Any]]:
    """Yield the results of both libraries, then their gradients."""
    a, b = torch.tensor(values, dtype=getattr(torch, dtype)), tm.tensor(values, dtype=dtype)
    if grad:
        a.requires_grad_()
        b.requires_grad_()
    theirs, mine = call(torch, a), call(tm, b)
    theirs = theirs if isinstance(theirs, tuple) else (theirs,)
    mine = mine if isinstance(mine, tuple) else (mine,)
    assert len(mine) == len(theirs)
    yield from zip(mine, theirs, strict=True)
    if grad and theirs[0].requires_grad:
        weights = np.arange(1.0, theirs[0].numel() + 1).reshape(theirs[0].shape).astype(dtype)
        theirs[0].backward(torch.tensor(weights))
        mine[0].backward(tm.tensor(weights))
        yield b.grad, a.grad


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("name", CALLS)
def test_as_pytorch(name: str, kind: str) -> None:
    values, dtype = VALUES[kind]
    # Through NaN, PyTorch's max() and median() share the gradient among the NaNs; ours is NaN.
    shared = kind == "nan" and name in ("max", "median")
    grad = dtype.startswith("float") and not shared and name not in VALUES_ONLY
    for mine, theirs in both(CALLS[name], values, dtype, grad):
        x, y = mine.detach().numpy(), theirs.detach().numpy()
        assert x.dtype == y.dtype
        np.testing.assert_allclose(x, y, rtol=1e-6)


def test_products_with_zeros_have_second_derivatives() -> None:
    for f in (lambda x: x.prod(), lambda x: (x.cumprod(0) ** 2).sum()):
        for values in ([2.0, 0.0, 3.0], [2.0, 0.0, 3.0, 0.0], [1.5, -2.0]):
            a = torch.tensor(values, dtype=torch.float64)
            b = tm.tensor(values, dtype=tm.float64)
            theirs = torch.autograd.functional.hessian(f, a)
            mine = tm.autograd.hessian(f, b)
            np.testing.assert_allclose(mine.numpy(), theirs.numpy(), atol=1e-12)
