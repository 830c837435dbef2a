"""What the machine can do at most: arithmetic from registers, and copying of memory."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from bench.peers.serve import stay_on
from toumei.compiler.llvm import ir, jit
from toumei.compiler.llvm.target import host

_CHAINS = 12  # multiply-adds that don't wait for each other: latency times units, and some more
_TURNS = 1 << 20


class Peak(NamedTuple):
    """A machine's limits with some number of threads.

    Args:
        gflops: float32 multiply-adds in registers, two operations each, 10⁹ per second.
        copy: bytes copied between arrays far larger than the caches, 10⁹ per second, each counted
            once as read and once as written.
    """

    gflops: float
    copy: float


def measure(threads: int, repeats: int = 5) -> Peak:
    """Return the best of some repeats: what disturbs can only make it less.

    The calling thread keeps to the processors of the sides from then on.
    """
    stay_on(threads)
    flops = [_arithmetic(threads) for _ in range(repeats)]
    copies = [_copying(threads) for _ in range(repeats)]
    return Peak(max(flops), max(copies))


def _arithmetic(threads: int) -> float:
    run, operations = _multiply_adds()
    return threads * operations / _seconds(run, threads) / 1e9


def _copying(threads: int, size: int = 1 << 27) -> float:
    source = np.ones((threads, size // 4), np.float32)
    target = np.ones_like(source)  # its pages exist before the clock runs
    places = iter(range(threads))
    seconds = _seconds(lambda: np.copyto(target[(i := next(places))], source[i]), threads)
    return 2 * threads * size / seconds / 1e9


def _seconds(task: Callable[[], object], threads: int) -> float:
    """Return how long it takes until each thread has done a task; they begin together."""
    ready = threading.Barrier(threads + 1)
    ends: list[float] = []

    def work() -> None:
        ready.wait()
        task()
        ends.append(time.perf_counter())

    team = [threading.Thread(target=work) for _ in range(threads)]
    for thread in team:
        thread.start()
    ready.wait()
    start = time.perf_counter()
    for thread in team:
        thread.join()
    return max(ends) - start


def _multiply_adds() -> tuple[Callable[[], object], int]:
    """Return native code that multiplies and adds in registers only, and its operations."""
    global _library
    f = ir.Function("multiply_adds", [("out", "ptr")])
    lanes = host().lanes("float")
    kind = ir.vector("float", lanes)
    factor = f.load(f.args[0], kind, 4)  # not known to the code generator
    with f.loop(0, _TURNS, carried=[factor] * _CHAINS) as loop:
        loop.next = [f.fma(c, factor, factor) for c in loop.carried]
    total = loop.results[0]
    for chain in loop.results[1:]:
        total = f.fadd(total, chain)
    f.store(total, f.args[0], 4)
    f.ret()
    _library = _library or jit.Library(jit.compile_ir(ir.module([f])), [f.name])
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_library.address(f.name))

    def run() -> None:
        out = np.full(lanes, 0.5, np.float32)  # c ← c/2 + 1/2 tends to 1
        function(out.ctypes.data)

    return run, 2 * lanes * _CHAINS * _TURNS


_library: jit.Library | None = None
