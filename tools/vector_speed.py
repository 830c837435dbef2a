"""Compare the generated elementary functions with NumPy's, on one thread.

    python tools/vector_speed.py [number of elements]

Prints nanoseconds an element and NumPy's time divided by ours (the best of several runs each); a
function that NumPy lacks has no ratio.  Arrays of a million elements measure the memory as well.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from toumei.compiler.llvm import jit
from toumei.compiler.llvm.ir import Function, module, vector
from toumei.compiler.llvm.target import host
from toumei.compiler.llvm.vecmath import FUNCTIONS

NUMPY = {
    "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "log": np.log, "log2": np.log2,
    "log10": np.log10, "log1p": np.log1p, "sin": np.sin, "cos": np.cos, "tan": np.tan,
    "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh,
    "tanh": np.tanh, "asinh": np.arcsinh, "atanh": np.arctanh, "sigmoid": None, "softplus": None,
    "erf": None, "erfc": None, "gelu": None, "gelu_slope": None,
    "pow": np.power, "fmod": np.fmod, "remainder": np.remainder,
}  # fmt: skip
ELEMENT = {"float32": "float", "float64": "double"}
BINARY = ("pow", "fmod", "remainder")


def compiled(name: str, dtype: str) -> tuple[jit.Library, float]:
    """Return a loop over arrays, and the seconds it took to make."""
    start, to, element = time.perf_counter(), host(), ELEMENT[dtype]
    lanes = to.lanes(element)
    f = Function("loop", [("x", "ptr"), ("x2", "ptr"), ("y", "ptr"), ("n", "i64")])
    *inputs, out, n = f.args
    with f.loop(0, n, lanes) as loop:
        places = [f.at(p, loop.index, element) for p in inputs[: 1 + (name in BINARY)]]
        y = FUNCTIONS[name](f, [f.load(p, vector(element, lanes)) for p in places], to)
        f.store(y, f.at(out, loop.index, element))
    f.ret()
    return jit.Library(jit.compile_ir(module([f])), ["loop"]), time.perf_counter() - start


def aligned(count: int, dtype: str) -> np.ndarray[Any, Any]:
    """Return memory that begins at a multiple of a vector's size."""
    raw = np.zeros(count + 64, dtype)
    return raw[-raw.ctypes.data % 64 // raw.itemsize :][:count]


def best(call: Callable[[], Any]) -> float:
    """Return the shortest of many runs, in seconds."""
    times = []
    for _ in range(40):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    count = (int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000) // 16 * 16
    rng = np.random.default_rng(0)
    for dtype in ELEMENT:
        x, other, y = (aligned(count, dtype) for _ in range(3))
        x[:], other[:] = rng.uniform(0.01, 0.99, count), rng.uniform(0.1, 3, count)
        for name, numpy in NUMPY.items():
            library, seconds = compiled(name, dtype)
            kinds = [ctypes.c_void_p] * 3 + [ctypes.c_int64]
            entry = ctypes.CFUNCTYPE(None, *kinds)(library.address("loop"))
            pointers = [a.ctypes.data for a in (x, other, y)]
            ours = best(lambda: entry(*pointers, count))  # noqa: B023
            line = (
                f"{dtype} {name:10} {ours / count * 1e9:6.3f} ns, made in {seconds * 1e3:5.1f} ms"
            )
            if numpy is not None:
                inputs = (x, other) if name in BINARY else (x,)
                theirs = best(lambda: numpy(*inputs, out=y))  # noqa: B023
                line += f", {theirs / ours:5.2f} times NumPy's speed"
            print(line)


if __name__ == "__main__":
    main()
