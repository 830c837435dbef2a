"""Times of the sides of one workload: processes that take turns, all in one run."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from .process import Process, SideError
from .sides import OURS, Side

TOLERANCE = 1e-3  # of losses, relative
CHECKED = 3  # steps whose losses are compared
SLOW = 0.4  # seconds of a step; slower sides take fewer steps
FEW_STEPS = 10
TURN = 0.1  # seconds of a turn, at least, but for
MOST_STEPS = 200
_WARM_UP = 3  # steps after the first one
BUSY = 0.5  # a load of the machine above which the figures can't be trusted
_PAUSE = 0.05  # seconds between turns: threads that wait in a loop have gone to sleep by then

Say = Callable[[str], None]


@dataclass
class Result:
    """What was found of a side on a workload; a side that failed has an `error` and no times.

    Args:
        times: seconds of each timed step.
        first: seconds of the first step, compilation included.
        warm: the same in a new process, with what the first one left on the disk; ours only.
        memory: bytes by which the largest memory grows over five steps, where it is measured.
        losses: of the first steps, without dropout.
        off: largest relative difference between these and ours.
        error: why there is nothing, or not all, in one line.
    """

    times: list[float] = field(default_factory=list)
    first: float | None = None
    warm: float | None = None
    memory: int | None = None
    losses: list[list[float]] = field(default_factory=list)
    off: float | None = None
    error: str = ""

    @property
    def median(self) -> float | None:
        """Seconds of a step."""
        return statistics.median(self.times) if self.times else None

    @property
    def is_right(self) -> bool:
        """Its losses are ours (also if they weren't compared)."""
        return self.off is None or self.off <= TOLERANCE


@dataclass(frozen=True)
class Plan:
    """How to measure.

    Args:
        threads: of each side.
        steps: timed steps of each side, at least.
        rounds: turns of each side.
        check_only: compare losses, time nothing.
    """

    threads: int
    steps: int
    rounds: int
    check_only: bool = False


def run(
    name: str,
    sides: Mapping[str, tuple[Side, Path]],
    file: Path,
    has_dropout: bool,
    plan: Plan,
    say: Say,
) -> dict[str, Result]:
    """Measure a workload.

    Args:
        name: of the workload.
        sides: who takes part, by name, each with its Python.
        file: the inputs and the first weights.
        has_dropout: losses are compared in a second network, without it.
        plan: how.
        say: shows what is going on.
    """
    results = {side: Result() for side in sides}
    with ExitStack() as stack:
        processes: dict[str, Process] = {}
        for side, (kind, python) in sides.items():
            say(f"{name}: {kind.title} begins")
            caches = Path(stack.enter_context(TemporaryDirectory(prefix="bench-")))
            with _Noting(results[side]):
                if side == OURS and not plan.check_only:
                    results[side].first = _first_step(kind, python, name, file, plan, caches)
                process = stack.enter_context(kind.start(python, plan.threads, caches))
                _begin(process, name, file, results[side], has_dropout, plan, side == OURS)
                processes[side] = process
        if not plan.check_only:
            say(f"{name}: timing")
            take_turns(processes, results, plan)
        if has_dropout:
            say(f"{name}: losses without dropout")
            for side, process in processes.items():
                with _Noting(results[side]):
                    process.ask("load", workload=name, file=str(file), dropout=False)
                    results[side].losses = process.ask("step", count=CHECKED)["losses"]
    compare(results)
    return results


def warn_if_busy(say: Say) -> None:
    """Say it if others are using the machine."""
    if hasattr(os, "getloadavg") and (load := os.getloadavg()[0]) > BUSY:
        say(f"The machine is busy (load {load:.1f}): expect wrong ratios.")


def memory(name: str, kind: Side, python: Path, file: Path, plan: Plan, result: Result) -> None:
    """Measure by how much the memory grows in a new process, with a warm cache."""
    with TemporaryDirectory(prefix="bench-") as folder, _Noting(result):
        if kind.module.endswith(OURS):
            _first_step(kind, python, name, file, plan, Path(folder))
        with kind.start(python, plan.threads, Path(folder)) as process:
            process.ask("load", workload=name, file=str(file), dropout=True)
            result.memory = process.ask("memory", count=5)["bytes"]


class _Noting:
    """Turns a failure into a result's `error`."""

    def __init__(self, result: Result) -> None:
        self.result = result

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: object, __: object) -> bool:
        if isinstance(error, SideError):
            self.result.error = str(error)
            self.result.times.clear()
        return isinstance(error, SideError)


def _first_step(kind: Side, python: Path, name: str, file: Path, plan: Plan, caches: Path) -> float:
    """Return the seconds of a first step in a process of its own."""
    with kind.start(python, plan.threads, caches) as process:
        process.ask("load", workload=name, file=str(file), dropout=True)
        return float(process.ask("step", count=1)["times"][0])


def _begin(
    process: Process, name: str, file: Path, result: Result, has_dropout: bool, plan: Plan,
    is_ours: bool,
) -> None:  # fmt: skip
    """Build the network and take the first steps."""
    if plan.check_only and has_dropout:
        return
    process.ask("load", workload=name, file=str(file), dropout=True)
    answer = process.ask("step", count=CHECKED)
    if is_ours:
        result.warm = answer["times"][0]
    else:
        result.first = answer["times"][0]
    if not has_dropout:
        result.losses = answer["losses"]


def take_turns(
    processes: Mapping[str, Any], results: Mapping[str, Result], plan: Plan, pause: float = _PAUSE
) -> None:
    """Let the sides take steps in turns; who begins changes, a turn's first steps don't count."""
    names = list(processes)
    counts = {}
    for side, process in processes.items():
        with _Noting(results[side]):
            times = process.ask("step", count=_WARM_UP)["times"]
            counts[side] = steps_per_turn(min(times), plan.steps, plan.rounds)
    for turn in range(plan.rounds):
        for side in rotated(names, turn):
            if results[side].error:
                continue
            time.sleep(pause)
            with _Noting(results[side]):
                idle = 1 + counts[side] // 10  # its first steps wake threads and fill caches
                times = processes[side].ask("step", count=counts[side] + idle)["times"]
                results[side].times += times[idle:]


def steps_per_turn(seconds: float, steps: int, rounds: int) -> int:
    """Return how many steps of a turn are timed, for a side whose step takes so many seconds.

    >>> [steps_per_turn(s, steps=30, rounds=6) for s in (0.001, 0.1, 0.9)]
    [100, 5, 2]
    """
    wanted = min(steps, FEW_STEPS) if seconds > SLOW else steps
    return max(-(-wanted // rounds), min(MOST_STEPS, round(TURN / seconds)))


def rotated(names: Sequence[str], turn: int) -> list[str]:
    """Return names, beginning with another one each turn.

    >>> rotated(["a", "b", "c"], 1)
    ['b', 'c', 'a']
    """
    place = turn % len(names) if names else 0
    return [*names[place:], *names[:place]]


def compare(results: Mapping[str, Result]) -> None:
    """Note how far the losses of each peer are from ours."""
    right = results[OURS].losses if OURS in results else []
    for side, result in results.items():
        if side != OURS and right and result.losses:
            result.off = difference(result.losses, right)


def difference(losses: Sequence[Sequence[float]], right: Sequence[Sequence[float]]) -> float:
    """Return the largest relative difference; inf if one is not a number.

    >>> difference([[2.0, 1.0]], [[2.0, 1.25]])
    0.2
    """
    pairs = [(a, b) for x, y in zip(losses, right, strict=True) for a, b in zip(x, y, strict=True)]
    found = [abs(a - b) / max(abs(b), 1e-12) for a, b in pairs]
    return max((x if x == x else float("inf") for x in found), default=0.0)
