"""Runs a program eager and compiled, and compares all that it leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import toumei as tm
from toumei.compiler.compiled import Compiled
from toumei.compiler.program import Backend
from toumei.compiler.reference import Reference
from toumei.tensor import Tensor

#: Each op as eager computes it: composites stay whole, so that all bits agree.
EXACT = Backend(Reference, passes=())

Build = Callable[[Callable[..., Any]], Iterator[Any]]


def exact(function: Any = None, *, keep_grads: bool = False) -> Any:
    """Compile for the reference executor, without passes."""
    if function is None:
        return lambda f: exact(f, keep_grads=keep_grads)
    return Compiled(function, keep_grads, EXACT)


def passed(function: Any = None, *, keep_grads: bool = False) -> Any:
    """Compile for the reference executor, with all passes."""
    if function is None:
        return lambda f: passed(f, keep_grads=keep_grads)
    return Compiled(function, keep_grads, Backend(Reference))


def plain(function: Any = None, *, keep_grads: bool = False) -> Any:
    """Leave a function as it is."""
    return function if function is not None else (lambda f: f)


def arrays(value: Any) -> Any:
    """Return nested values with copies of arrays in the places of tensors."""
    if isinstance(value, Tensor):
        return value.detach().numpy().copy()
    if isinstance(value, dict):
        return {k: arrays(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [arrays(v) for v in value]
    return value


def trail(build: Build, compile: Callable[..., Any], seed: int = 0) -> list[Any]:
    """Run a program that yields what is to be compared; end with the generator's state.

    Eager ops run their NumPy forward, as they do in the reference executor.
    """
    tm.manual_seed(seed)
    tm.set_native_eager(False)
    try:
        found = [arrays(value) for value in build(compile)]
    finally:
        tm.set_native_eager(True)
    return [*found, tm.get_rng_state().tolist()]


def same(a: Any, b: Any, close: bool = False) -> None:
    """Compare nested values: bit for bit, or nearly."""
    assert type(a) is type(b), (type(a), type(b))
    if isinstance(a, dict):
        assert list(a) == list(b)
        for k in a:
            same(a[k], b[k], close)
    elif isinstance(a, list):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y, close)
    elif isinstance(a, np.ndarray):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        if close:
            np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)
        else:
            np.testing.assert_array_equal(a, b)
    else:
        assert a == b


def check(build: Build, close: bool = False) -> list[Any]:
    """Compare a program eager, compiled exactly and compiled with all passes; return its trail."""
    eager = trail(build, plain)
    assert eager[:-1], "the program yields nothing to compare"
    same(eager, trail(build, exact), close)
    same(eager, trail(build, passed), close=True)
    return eager
