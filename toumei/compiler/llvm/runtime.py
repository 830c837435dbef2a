"""The pool of threads that run compiled programs, and how many there are.

The caller is thread 0; the others are daemon threads of Python that enter native code once and
stay there, where they neither hold nor need Python's lock.  What they do there: pool_ir.py.
"""

from __future__ import annotations

import atexit
import collections
import contextlib
import ctypes
import functools
import os
import platform
import struct
import sys
import threading
import time
from typing import Any, NamedTuple

import numpy as np

from . import cache
from . import pool_ir as layout
from .pool_ir import Machine

MOST_THREADS = 1024
_SPIN = 20e-6  # seconds of waiting in a loop before going to sleep, which costs about as much
_FUTEX = {"x86_64": 202, "aarch64": 98, "riscv64": 98}  # the number of the system call
_CLOCKS = {"linux": 1, "darwin": 6}  # CLOCK_MONOTONIC


# --- the number of threads ---

_wanted: int | None = None  # what the user asked for


def get_num_threads() -> int:
    """Return how many threads run a compiled program.

    >>> get_num_threads() >= 1
    True
    """
    return _wanted or _default_threads()


def set_num_threads(threads: int) -> None:
    """Set how many threads run a compiled program: 1 to 1024; results don't depend on it.

    At first it is the number of cores that this process may use.

    Raises:
        TypeError: `threads` is no int.
        ValueError: it is less than 1 or more than 1024.

    >>> before = get_num_threads()
    >>> set_num_threads(1); get_num_threads()
    1
    >>> set_num_threads(before)
    """
    global _wanted
    if not isinstance(threads, int) or isinstance(threads, bool):
        raise TypeError(f"threads must be an int, not {type(threads).__name__}")
    if not 1 <= threads <= MOST_THREADS:
        raise ValueError(f"threads must be from 1 to {MOST_THREADS}, not {threads}")
    _wanted = threads
    if _team is not None and _team.threads != threads:
        stop()


@functools.cache
def _default_threads() -> int:
    """Cores that this process may use: two threads on one core share its arithmetic units."""
    try:
        allowed = os.sched_getaffinity(0)
    except AttributeError:  # not on this system
        return os.cpu_count() or 1
    cores = {_core(cpu) for cpu in allowed}
    return max(1, min(len(cores), _quota(), MOST_THREADS))


def _core(cpu: int) -> str:
    """Name the core that a logical processor belongs to."""
    try:
        with open(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") as file:
            return file.read()
    except OSError:
        return str(cpu)


def _quota() -> int:
    """Processors that a container leaves to this process."""
    try:
        with open("/sys/fs/cgroup/cpu.max") as file:
            quota, period = file.read().split()
    except (OSError, ValueError):
        return MOST_THREADS
    return MOST_THREADS if quota == "max" else -(-int(quota) // int(period))


# --- native functions ---


_SIGNATURES: dict[str, tuple[Any, ...]] = {  # what each returns and takes
    "run": (ctypes.c_int64, *[ctypes.c_void_p] * 4),
    "solo": (None, *[ctypes.c_void_p] * 3),
    "work": (None, ctypes.c_void_p, ctypes.c_int64),
    "settle": (ctypes.c_int64, *[ctypes.c_void_p] * 2),
    "stop": (None, ctypes.c_void_p),
    "pauses": (None, ctypes.c_int64),
}


class Native(NamedTuple):
    """The runtime's functions: what they do is said in pool_ir.py."""

    library: Any  # the machine code, which must outlive them
    run: Any
    solo: Any
    work: Any
    settle: Any
    stop: Any
    spins: int  # turns of a waiting loop in _SPIN seconds
    has_clock: bool


def supported() -> bool:
    """Whether programs can be compiled here: LLVM is there, on a 64-bit little-endian machine."""
    if sys.byteorder != "little" or struct.calcsize("P") != 8:
        return False
    try:
        import llvmlite.binding  # noqa: F401
    except ImportError:
        return False
    return True


def this_machine() -> Machine:
    """Return what the runtime must know of this system."""
    name = platform.machine().lower()
    processor = {"x86_64": "x86", "amd64": "x86", "aarch64": "aarch64", "arm64": "aarch64"}
    clock = _CLOCKS.get(sys.platform, 0)
    if sys.platform == "linux" and name in _FUTEX:
        return Machine(processor.get(name, ""), "futex", _FUTEX[name], clock)
    sleep = "Sleep" if sys.platform == "win32" else "usleep"
    return Machine(processor.get(name, ""), sleep, 0, clock)


@functools.cache
def native(machine: Machine | None = None) -> Native:
    """Return the runtime's functions, compiled for this machine (or, in tests, as for another)."""
    machine = machine or this_machine()
    names = [f"toumei_{name}" for name in _SIGNATURES]
    library = cache.library(layout.runtime_ir(machine), names)
    made: dict[str, Any] = {
        name: ctypes.CFUNCTYPE(*kinds)(library.address(f"toumei_{name}"))
        for name, kinds in _SIGNATURES.items()
    }
    spins = _spins(made.pop("pauses"))
    return Native(library=library, spins=spins, has_clock=machine.clock > 0, **made)


def _spins(pauses: Any) -> int:
    """Return how many turns of a waiting loop take as long as a thread should wait awake."""
    turns, best = 500, float("inf")
    for _ in range(5):
        start = time.perf_counter()
        pauses(turns)
        best = min(best, time.perf_counter() - start)
    return max(10, int(turns * _SPIN / best))


def aligned(bytes_: int, alignment: int = 128) -> tuple[np.ndarray[Any, Any], int]:
    """Return memory full of zeros, and the address of its first aligned byte."""
    memory = np.zeros(bytes_ + alignment, np.uint8)
    return memory, -(-memory.ctypes.data // alignment) * alignment


# --- the pool ---


class Team:
    """Threads that run programs together; their memory lives as long as one of them does.

    Args:
        threads: 2 or more, the caller's included.
        functions: of the runtime.
    """

    def __init__(self, threads: int, functions: Native) -> None:
        self.threads, self.native = threads, functions
        self._memory, self.address = aligned(layout.OWN + threads * layout.OWN_SIZE)
        start = self.address - self._memory.ctypes.data
        numbers = self._memory[start : start + layout.OWN].view(np.int64)
        numbers[layout.THREADS // 8], numbers[layout.SPINS // 8] = threads, functions.spins
        self._empty, self._empty_address = aligned(layout.ROW)  # a plan without steps
        self._workers: list[threading.Thread] = []
        with contextlib.suppress(RuntimeError):  # the system has no more: fewer do the same work
            for thread in range(1, threads):
                worker = threading.Thread(
                    target=_work, args=(self, thread), name=f"toumei-{thread}", daemon=True
                )
                worker.start()
                self._workers.append(worker)

    def run(self, plan: int, buffers: int, times: int = 0) -> bool:
        """Run a plan on all threads; return False, with nothing done, if another run is on."""
        return bool(self.native.run(self.address, plan, buffers, times))

    def settled(self) -> bool:
        """Whether no thread can be in, or get into, a plan that was run so far."""
        return bool(self.native.settle(self.address, self._empty_address))

    def stop(self, timeout: float | None = None) -> None:
        """End the threads, as soon as each has done the chunk that it is at."""
        self.native.stop(self.address)
        deadline = None if timeout is None else time.monotonic() + timeout
        for worker in self._workers:
            worker.join(None if deadline is None else max(0.0, deadline - time.monotonic()))


def _work(team: Team, thread: int) -> None:
    """Be a worker.  Holding `team` keeps the memory that it polls."""
    team.native.work(team.address, thread)


_team: Team | None = None
_closed = False  # at exit, when no thread may be started any more
_starting = threading.RLock()


def team() -> Team | None:
    """Return the threads to run a program on; None: the caller alone."""
    global _team
    wanted = get_num_threads()
    if wanted == 1 or _closed:
        return None
    current = _team
    if current is None or current.threads != wanted:
        with _starting:
            if _team is None or _team.threads != wanted:
                _team = Team(wanted, native())
            current = _team
    return current


def stop() -> None:
    """End the pool's threads; the next run starts new ones."""
    global _team
    with _starting:
        try:
            if _team is not None:
                _team.stop()
        finally:  # after an interrupt, too: a pool that was told to stop is of no use
            _team = None


# --- the end of programs, of the process, and of a fork's parent in its child ---

_retired: collections.deque[Any] = collections.deque()


def retire(thing: Any) -> None:
    """Let go of code or plans as soon as no thread can be using them.

    A thread that comes late may still be passing through a plan whose run is over.
    """
    _retired.append(thing)
    mine = []
    with contextlib.suppress(IndexError):
        while True:
            mine.append(_retired.popleft())
    if _team is not None and not _team.settled():
        _retired.extend(mine)  # later


def _at_exit() -> None:
    global _closed, _team
    _closed = True
    old, _team = _team, None
    if old is not None:
        old.stop(timeout=2.0)


_lost: list[Any] = []  # in a child: what belonged to threads that don't exist here; never freed


def _in_child() -> None:
    global _team, _starting
    _lost.append((_team, list(_retired)))
    _retired.clear()
    _team, _starting = None, threading.RLock()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
