"""What was measured, as tables for a terminal and as a JSON file."""

from __future__ import annotations

import json
import math
import os
import platform
import re
import statistics
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toumei.machine import cpu_name

from .flops import FLOPS
from .measure import TOLERANCE, Plan, Result
from .peak import Peak
from .sides import OURS
from .workloads import WORKLOADS

if TYPE_CHECKING:
    from rich.table import Table

Results = Mapping[str, Mapping[str, Result]]  # by workload and side


# --- figures ---


def fastest_peer(results: Mapping[str, Result]) -> str | None:
    """Return which peer has the smallest median, of those whose losses are right."""
    times = {
        side: r.median
        for side, r in results.items()
        if side != OURS and r.median is not None and r.is_right
    }
    return min(times, key=lambda side: times[side] or math.inf) if times else None


def ratio(results: Mapping[str, Result]) -> float | None:
    """Return the fastest peer's median divided by ours: above 1 we are faster."""
    peer, mine = fastest_peer(results), results[OURS].median
    theirs = results[peer].median if peer else None
    return theirs / mine if theirs and mine else None


def geometric_mean(values: Iterable[float]) -> float | None:
    """Return exp(mean(log)), None of nothing.

    >>> geometric_mean([1.0, 4.0])
    2.0
    """
    kept = list(values)
    return math.exp(statistics.fmean(map(math.log, kept))) if kept else None


def slug(text: str) -> str:
    """Return a name of a file for a text.

    >>> slug("Intel(R) Xeon(R) Processor @ 2.60GHz")
    'intel-xeon-processor-2-60ghz'
    """
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)", "", text.lower())).strip("-")


def document(
    results: Results,
    plan: Plan,
    peak: Peak,
    versions: Mapping[str, Mapping[str, str]],
    absent: Mapping[str, str],
    compiled: bool,
) -> dict[str, Any]:
    """Return all that was measured, as what a JSON file can hold."""
    return {
        "machine": {"cpu": cpu_name(), "cores": os.cpu_count(), "system": platform.platform()},
        "python": sys.version.split()[0],
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "threads": plan.threads,
        "compiled": compiled,
        "peak": {"gflops": round(peak.gflops, 1), "copy_gb_per_s": round(peak.copy, 1)},
        "versions": versions,
        "absent": absent,
        "workloads": {name: _workload(name, found, peak) for name, found in results.items()},
        "geometric_mean": geometric_mean(filter(None, map(ratio, results.values()))),
    }


def _workload(name: str, results: Mapping[str, Result], peak: Peak) -> dict[str, Any]:
    speed = gflops(name, results[OURS])
    return {
        "title": WORKLOADS[name].title,
        "flops": FLOPS[name],
        "sides": {side: _side(result) for side, result in results.items()},
        "fastest_peer": fastest_peer(results),
        "ratio": ratio(results),
        "gflops": speed,
        "share_of_peak": speed / peak.gflops if speed else None,
    }


def _side(result: Result) -> dict[str, Any]:
    milliseconds = [1e3 * t for t in result.times]
    spread = statistics.quantiles(milliseconds, n=4) if len(milliseconds) > 1 else None
    return {
        "median_ms": statistics.median(milliseconds) if milliseconds else None,
        "quartiles_ms": spread,
        "steps": len(milliseconds),
        "first_step_s": result.first,
        "first_step_warm_s": result.warm,
        "memory_bytes": result.memory,
        "losses": result.losses,
        "losses_off": result.off,
        "is_right": result.is_right,
        "error": result.error,
    }


def gflops(name: str, result: Result) -> float | None:
    """Return how much of the counted arithmetic is done per second, 10⁹ operations."""
    return FLOPS[name] / result.median / 1e9 if result.median else None


def write(path: Path, found: Mapping[str, Any]) -> None:
    from toumei.io.files import write_whole

    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(found, indent=1).encode() + b"\n")


# --- tables ---


def speeds(results: Results, titles: Mapping[str, str], peak: Peak) -> Table:
    """Return the table of medians: the fastest peer's in bold, those with wrong losses marked."""
    table = _table("Milliseconds per step, median", "", *titles.values(),
                   "fastest peer / ours", "GFLOP/s", "of peak")  # fmt: skip
    for name, found in results.items():
        best = fastest_peer(found)
        times = [_time(found.get(side), side == best) for side in titles]
        speed = gflops(name, found[OURS])
        table.add_row(
            f"{name} {WORKLOADS[name].title}",
            *times,
            _number(ratio(found), 2),
            _number(speed, 0),
            f"{speed / peak.gflops:.0%}" if speed else "",
        )
    mean = geometric_mean(filter(None, map(ratio, results.values())))
    if mean is not None:
        table.add_section()
        table.add_row("geometric mean", *[""] * len(titles), f"[bold]{mean:.2f}[/]", "", "")
    return table


def first_steps(results: Results, titles: Mapping[str, str]) -> Table:
    """Return the table of first steps: compilation, where there is any."""
    ours, *peers = titles
    table = _table("Seconds of the first step", "", f"{titles[ours]} cold", "warm cache",
                   *(titles[side] for side in peers))  # fmt: skip
    for name, found in results.items():
        others = [_number(found[side].first, 2) if side in found else "" for side in peers]
        table.add_row(name, _number(found[ours].first, 2), _number(found[ours].warm, 2), *others)
    return table


def memories(results: Results, titles: Mapping[str, str]) -> Table | None:
    """Return the table of memory, None if it wasn't measured."""
    rows = {
        name: {side: r.memory for side, r in found.items() if r.memory is not None}
        for name, found in results.items()
    }
    rows = {name: row for name, row in rows.items() if row}
    if not rows:
        return None
    sides = [side for side in titles if any(side in row for row in rows.values())]
    table = _table("Growth of peak memory over five steps, MB", "", *(titles[s] for s in sides))
    for name, row in rows.items():
        table.add_row(name, *(_number(row[s] / 1e6, 0) if s in row else "" for s in sides))
    return table


def checks(results: Results, titles: Mapping[str, str]) -> Table:
    """Return the table of how far the peers' losses are from ours."""
    table = _table("Losses of three steps, without dropout: relative difference from ours", "",
                   "our losses", *(titles[s] for s in titles if s != OURS))  # fmt: skip
    for name, found in results.items():
        own = "  ".join(" ".join(f"{x:.4f}" for x in step) for step in found[OURS].losses)
        others = [_difference(found.get(side)) for side in titles if side != OURS]
        table.add_row(name, own or "[red]failed[/]", *others)
    return table


def problems(results: Results, titles: Mapping[str, str]) -> list[str]:
    """Return what went wrong, a line each."""
    lines = []
    for name, found in results.items():
        for side, result in found.items():
            if result.error:
                lines.append(f"{name}, {titles[side]}: {result.error}")
            if not result.is_right:
                lines.append(
                    f"{name}, {titles[side]}: its losses differ from ours by {result.off:.1e}, more"
                    f" than {TOLERANCE}: it does not count"
                )
    return lines


def _table(title: str, first: str, *columns: str) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column(first, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _time(result: Result | None, is_best: bool) -> str:
    if result is None or result.median is None:
        return "failed" if result and result.error else "–"
    text = f"{1e3 * result.median:.2f}"
    if not result.is_right:
        return f"[red]{text} ≠[/]"
    return f"[bold]{text}[/]" if is_best else text


def _difference(result: Result | None) -> str:
    if result is None or result.off is None:
        return "[red]failed[/]" if result and result.error else "–"
    return f"{result.off:.0e}" if result.is_right else f"[red]{result.off:.1e}[/]"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
