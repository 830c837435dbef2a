"""What this machine can do at most, measured with kernels of our own in a fraction of a second.

    arithmetic   multiply-adds on registers alone
    cache        reading, or copying, blocks that stay in a core's second cache
    shared       the same with arrays that only a cache which the cores share can hold
    memory       the same with arrays that are larger than that
    start        a kernel that does nothing: what each one costs at least

The figures are kept in the cache folder, for each processor and number of threads.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from dataclasses import asdict, dataclass

import numpy as np

from ..errors import SaveError
from ..io.files import write_whole
from .llvm import cache, runtime
from .llvm.ir import SIZES, Function, vector
from .llvm.kernel import kernel_function
from .llvm.matmul_plan import L2
from .llvm.program import Program, Step, build
from .llvm.target import host

_CHAINS = 12  # multiply-adds that don't wait for each other: latency times units, and some more
_TURNS = 1 << 15
_NEAR = 128 << 10  # bytes of each block: more than a first cache, two fit into any second one
_FAR = 64 << 20  # bytes of each array that no cache is to hold
_MIDDLE = 16 << 20  # bytes of two arrays that a shared cache may hold, where there is one
_PIECE = 1 << 20  # bytes of an array that are one work item
_REPEATS = 32  # of the walk through the blocks
_UNROLL = 4  # vectors that are fetched before the first one is used


@dataclass(frozen=True)
class Peaks:
    """A machine's limits with some number of threads.

    Attributes:
        float32, float64: operations per second, two for a multiply-add.
        cache, shared, memory: bytes per second, each counted once as read and once as written.
        start: seconds that a kernel takes which has nothing to do.
        threads: that took part.
    """

    float32: float
    float64: float
    cache: float
    shared: float
    memory: float
    start: float
    threads: int

    def operations(self, dtype: str) -> float:
        """Return the operations per second in a dtype."""
        return self.float64 if dtype == "float64" else self.float32

    def place_of(self, size: int) -> tuple[str, float]:
        """Return where so many bytes are at best, "cache" or "memory", and how fast they come."""
        if size <= L2 * self.threads:
            return "cache", self.cache
        if size <= _MIDDLE and self.shared > 1.25 * self.memory:
            return "cache", self.shared
        return "memory", self.shared if size <= _MIDDLE else self.memory

    def best_of(self, other: Peaks) -> Peaks:
        """Return the better of two measurements: what disturbs can only make one worse."""
        mine, theirs = asdict(self), asdict(other)
        found = {
            k: min(v, theirs[k]) if k == "start" else max(v, theirs[k]) for k, v in mine.items()
        }
        return Peaks(**found)

    def __str__(self) -> str:
        return (
            f"{self.float32 / 1e9:.0f} GFLOP/s (float64: {self.float64 / 1e9:.0f}), "
            f"cache {self.cache / 1e9:.0f} GB/s (shared: {self.shared / 1e9:.0f}), "
            f"memory {self.memory / 1e9:.0f} GB/s"
        )


def peaks(again: bool = False) -> Peaks:
    """Return the limits of this machine, measured or found in the cache folder.

    Args:
        again: measure although they are known, and keep the better figures.
    """
    threads = runtime.get_num_threads()
    key = hashlib.sha256(f"{host()} {threads} 2".encode()).hexdigest()[:16]
    place = cache.folder() / f"peaks-{key}.json"
    known = None
    with contextlib.suppress(OSError, ValueError, TypeError):
        known = Peaks(**json.loads(place.read_text()))
    if known is not None and not again:
        return known
    found = _measure(threads)
    found = found if known is None else found.best_of(known)
    with contextlib.suppress(OSError, SaveError):
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(place, json.dumps(asdict(found)).encode())
    return found


def _measure(threads: int) -> Peaks:
    # In either dtype as many instructions fit into a second: what one of them missed was disturbed.
    vectors = max(_arithmetic(kind, threads) / host().lanes(kind) for kind in ("float", "double"))
    return Peaks(
        float32=vectors * host().lanes("float"),
        float64=vectors * host().lanes("double"),
        cache=_traffic(_NEAR, threads, _REPEATS, times=20),
        shared=_traffic(_PIECE // 8, 8 * _MIDDLE // 2 // _PIECE, 1, times=12),
        memory=_traffic(_PIECE, _FAR // _PIECE, 1, times=3),
        start=_start(threads),
        threads=threads,
    )


def _best(program: Program, buffers: np.ndarray, times: int) -> float:
    """Return the seconds of the quickest of some runs."""
    taken = []
    for _ in range(times + 1):  # the first one wakes the threads
        begun = time.perf_counter()
        program.run(buffers)
        taken.append(time.perf_counter() - begun)
    return min(taken)


def _arithmetic(kind: str, threads: int) -> float:
    """Return operations per second of multiply-adds in registers."""
    f = kernel_function("multiply_adds")
    lanes = host().lanes(kind)
    factor = f.load(f.buffer(0), vector(kind, lanes), 4)  # not known to the code generator
    _, begin, end = f.args
    with f.loop(begin, end) as item:
        with f.loop(0, _TURNS, carried=[factor] * _CHAINS, nonempty=True) as loop:
            loop.next = [f.fma(c, factor, factor) for c in loop.carried]
        place = f.at(f.buffer(1), f.mul(item.index, 64))
        for chain in loop.results:  # else nobody would need them
            f.store(chain, place, 4)
    f.ret()
    items = 4 * threads
    numbers = np.full(64, 0.5, np.float32 if kind == "float" else np.float64)  # c ← c/2 + 1/2
    program = build([f], [Step(f.name, items, 1)])
    seconds = _best(program, _addresses(numbers, np.zeros(64 * items, np.uint8)), 12)
    return items * _TURNS * _CHAINS * lanes * 2 / seconds


def _traffic(piece: int, items: int, repeats: int, times: int) -> float:
    """Return bytes per second of reading or copying, whichever is quicker.

    Args:
        piece: bytes of an item, in each array.
        items: how many there are.
        repeats: how often an item is gone through.
        times: how often all is measured.
    """
    source = np.ones(piece * items // 4, np.float32)
    target = np.ones_like(source)
    buffers = _addresses(source, target)
    found = []
    for write in (False, True):
        f = _walk(piece, repeats, write)
        seconds = _best(build([f], [Step(f.name, items, 1)]), buffers, times)
        found.append(items * piece * repeats * (2 if write else 1) / seconds)
    return max(found)


def _walk(piece: int, repeats: int, write: bool) -> Function:
    """Write a kernel that goes through its items' pieces: copies them, or adds up what is there."""
    f = kernel_function("copy" if write else "read")
    lanes = host().lanes("float")
    kind, step = vector("float", lanes), lanes * _UNROLL
    source, target = f.buffer(0), f.buffer(1)
    _, begin, end = f.args
    zero = f.const(kind, 0.0)
    with f.loop(begin, end) as item, f.loop(0, repeats, nonempty=True):
        start = f.mul(item.index, piece)
        here, there = f.at(source, start), f.at(target, start)
        sums = [] if write else [zero] * _UNROLL
        with f.loop(0, piece // SIZES["float"], step, carried=sums, nonempty=True) as loop:
            vectors = [
                f.load(f.at(here, f.add(loop.index, u * lanes), "float"), kind, 4)
                for u in range(_UNROLL)
            ]
            if write:
                for u, v in enumerate(vectors):
                    f.store(v, f.at(there, f.add(loop.index, u * lanes), "float"), 4)
            else:
                loop.next = [f.fadd(c, v) for c, v in zip(loop.carried, vectors, strict=True)]
        for u, total in enumerate(loop.results):
            f.store(total, f.at(there, u * lanes, "float"), 4)
    f.ret()
    return f


def _start(threads: int, kernels: int = 64) -> float:
    """Return the seconds of a kernel that has nothing to do."""
    f = kernel_function("nothing")
    f.ret()
    program = build([f], [Step(f.name, threads, 1)] * kernels)
    return _best(program, np.zeros(1, np.int64), 100) / kernels


def _addresses(*arrays: np.ndarray) -> np.ndarray:
    return np.array([a.ctypes.data for a in arrays], np.int64)
