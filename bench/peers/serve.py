"""What every side does: it reads requests, lines of JSON, and answers each with a line.

    {"do": "load", "workload": "W3", "file": "W3.npz", "dropout": true}  -> {"seconds": 0.1}
    {"do": "step", "count": 5}          -> {"times": [0.01, …], "losses": [[2.3], …]}
    {"do": "memory", "count": 5}        -> {"bytes": 1000000}
    {"do": "about"}                     -> {"versions": {"torch": "2.13.0"}}

A request that fails is answered with {"error": "…"}.  The file holds inputs and first weights.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bench.workloads import WORKLOADS

Step = Callable[[], list[Any]]
Arrays = dict[str, Any]


class Side(Protocol):
    """A framework.

    `step` returns when the losses and the new weights are there; `float` reads a loss.
    """

    def load(self, name: str, inputs: Arrays, weights: Arrays, dropout: bool) -> Step: ...

    def versions(self) -> dict[str, str]: ...


class Answering:
    """Answers requests, each by a method of its name."""

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        action = getattr(self, f"do_{request.pop('do')}")
        found: dict[str, Any] = action(**request)
        return found


class Server(Answering):
    """Answers requests about one side."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.take_step: Step | None = None

    def do_about(self) -> dict[str, Any]:
        return {"versions": self.side.versions()}

    def do_load(self, workload: str, file: str, dropout: bool) -> dict[str, Any]:
        start = time.perf_counter()
        with np.load(file) as arrays:
            inputs, weights = (
                {name.partition(".")[2]: arrays[name] for name in arrays if name.startswith(kind)}
                for kind in ("input.", "weight.")
            )
        dropout = dropout and WORKLOADS[workload].dropout  # the layers that several share obey it
        self.take_step = self.side.load(workload, inputs, weights, dropout)
        return {"seconds": time.perf_counter() - start}

    def do_step(self, count: int) -> dict[str, Any]:
        assert self.take_step is not None
        times, losses = [], []
        for _ in range(count):
            start = time.perf_counter()
            found = self.take_step()
            times.append(time.perf_counter() - start)
            losses.append([float(loss) for loss in found])
        return {"times": times, "losses": losses}

    def do_memory(self, count: int) -> dict[str, Any]:
        """By how many bytes the largest memory of the process grows over some steps."""
        before = begin_peak()
        self.do_step(count)
        return {"bytes": peak() - before}


def begin_peak() -> int:
    """Return the memory in use, from which the peak is counted; on Linux the old peak is undone."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not Linux, or not allowed: the peak so far stands for what is in use
        return peak()
    return _status("VmRSS")


def peak() -> int:
    """Return the most memory that the process has had, bytes."""
    try:
        return _status("VmHWM")
    except OSError:
        import resource  # not on Windows

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"no {field} in /proc/self/status")


def stay_on(threads: int) -> None:
    """Keep to as many processors as there are threads: some libraries can't be told otherwise."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, chosen(sorted(os.sched_getaffinity(0)), threads, _core))


def chosen(processors: list[int], count: int, core: Callable[[int], str]) -> list[int]:
    """Return some processors, of different cores as far as there are enough.

    >>> chosen([0, 1, 2, 3], 2, core={0: "a", 1: "a", 2: "b", 3: "b"}.__getitem__)
    [0, 2]
    """
    firsts = {core(p): p for p in reversed(processors)}.values()
    return sorted(processors, key=lambda p: (p not in firsts, p))[:count]


def _core(processor: int) -> str:
    """Return what the processors of one core have in common."""
    topology = Path(f"/sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list")
    return topology.read_text() if topology.exists() else str(processor)


def serve(make: Callable[[], Side]) -> None:
    """Answer requests about a framework; see `listen`."""
    listen(lambda: Server(make()))


def listen(make: Callable[[], Answering]) -> None:
    """Answer requests until the input ends; what libraries print goes to the error output."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    server: Answering | None = None
    for line in sys.stdin:
        try:
            server = server or make()
            found = server.answer(json.loads(line))
        except Exception as error:
            traceback.print_exc()
            found = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(found), file=answers, flush=True)
