"""What came out, as a JSON file and as a table; the table is made of what the file holds."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toumei.machine import cpu_name

from .compare import KINDS, Result, is_right
from .rungs import OURS

if TYPE_CHECKING:
    from rich.table import Table

#: What two runs have in common if their seeds may stand in one file.
SETTING = ("machine", "threads", "versions", "options", "data", "budget", "target")


# --- the file ---


def document(
    rung: str,
    facts: Mapping[str, Any],
    options: Mapping[str, Any],
    threads: int,
    versions: Mapping[str, Any],
    offs: Mapping[str, float | str],
    results: Iterable[Result],
) -> dict[str, Any]:
    """Return all that was measured of a recipe, as what a JSON file can hold.

    Args:
        rung: its name.
        facts: of recipe, data and budget; see `course.about`.
        options: that were given, other than the defaults.
        threads: of each side.
        versions: of each side.
        offs: how far the losses of each peer are from ours, or why that isn't known.
        results: of each side and seed.
    """
    return {
        "rung": rung,
        **facts,
        "options": dict(options),
        "machine": {"cpu": cpu_name(), "cores": os.cpu_count(), "system": platform.platform()},
        "threads": threads,
        "versions": versions,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "losses_off": dict(offs),
        "runs": [_run(result, facts) for result in results],
    }


def _run(result: Result, facts: Mapping[str, Any]) -> dict[str, Any]:
    rows = [asdict(row) for row in result.rows]
    reached = first_reaching(rows, facts["target"], facts["mode"])
    return {
        "side": result.side,
        "seed": result.seed,
        "test": result.test.get(facts["metric"]),
        "test_figures": result.test,
        "epochs": len(rows),
        "epochs_to_figure": reached and reached["epoch"],
        "seconds_to_figure": reached and reached["seconds"],
        "seconds": rows[-1]["seconds"] if rows else None,
        "seconds_of_data": rows[-1]["data"] if rows else None,
        "rows": [row | {"value": _finite(row["value"])} for row in rows],
        "error": result.error,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None  # JSON has no NaN


def first_reaching(
    rows: Iterable[Mapping[str, Any]], target: float | None, mode: str
) -> Mapping[str, Any] | None:
    """Return the first row whose validation figure is at least as good as the one to reach.

    >>> rows = [{"epoch": 1, "value": 0.9}, {"epoch": 2, "value": 0.99}]
    >>> first_reaching(rows, 0.98, "max")["epoch"]
    2
    """
    if target is None:
        return None
    sign = 1 if mode == "max" else -1
    return next((row for row in rows if sign * row["value"] >= sign * target), None)


def joined(found: Mapping[str, Any], before: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a document with the other seeds of one from before, if all else is the same."""
    if before is None or any(before.get(key) != found[key] for key in SETTING):
        return dict(found)
    new = {run["seed"] for run in found["runs"]}
    runs = [run for run in before["runs"] if run["seed"] not in new]
    return {**found, "runs": sorted([*runs, *found["runs"]], key=lambda run: run["seed"])}


def write(path: Path, found: Mapping[str, Any]) -> dict[str, Any]:
    """Write a document to a file, with the seeds that it holds already; return what it holds."""
    from toumei.io.files import write_whole

    plain = json.loads(json.dumps(found))
    before = json.loads(path.read_text()) if path.exists() else None
    whole = joined(plain, before)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(whole, indent=1).encode() + b"\n")
    return whole


# --- the table ---


def table(found: Mapping[str, Any]) -> Table:
    """Return a row for each side and seed; the ratios are to Toumei with the same seed."""
    from rich.table import Table

    target = "no figure" if found["target"] is None else f"figure {found['target']:g}"
    title = f"{found['rung']}: {found['title']}, {found['data']}; {target}"
    out = Table(title=title, title_justify="left", title_style="bold")
    out.add_column("side", no_wrap=True)
    for name in ("seed", f"test {found['metric']}", "epochs", "epochs to the figure",
                 "minutes to it", "÷ ours", "minutes in all", "÷ ours"):  # fmt: skip
        out.add_column(name, justify="right")
    last = None
    for run in found["runs"]:
        if last is not None and run["seed"] != last:
            out.add_section()
        last = run["seed"]
        out.add_row(*_cells(run, ours_of(found, last), found["losses_off"]))
    return out


def ours_of(found: Mapping[str, Any], seed: int) -> Mapping[str, Any] | None:
    """Return Toumei's run of a seed."""
    runs = (run for run in found["runs"] if run["side"] == OURS and run["seed"] == seed)
    return next(runs, None)


def _cells(
    run: Mapping[str, Any], ours: Mapping[str, Any] | None, offs: Mapping[str, float | str]
) -> list[str]:
    mark = "" if is_right(offs.get(run["side"])) else " [red]≠[/]"
    return [
        KINDS[run["side"]].title + mark,
        str(run["seed"]),
        "[red]failed[/]" if run["error"] else _number(run["test"], ".5g"),
        str(run["epochs"]),
        _number(run["epochs_to_figure"], "d"),
        _number(_minutes(run["seconds_to_figure"]), ".2f"),
        _number(ratio(run, ours, "seconds_to_figure"), ".2f"),
        _number(_minutes(run["seconds"]), ".2f"),
        _number(ratio(run, ours, "seconds"), ".2f"),
    ]


def ratio(run: Mapping[str, Any], ours: Mapping[str, Any] | None, what: str) -> float | None:
    """Return a time of a run divided by Toumei's: above 1, Toumei was faster."""
    if ours is None or run["side"] == OURS or run["error"] or ours["error"]:
        return None
    return run[what] / ours[what] if run[what] and ours[what] else None


def _minutes(seconds: float | None) -> float | None:
    return None if seconds is None else seconds / 60


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def problems(found: Mapping[str, Any]) -> list[str]:
    """Return what went wrong, a line each."""
    rung = found["rung"]
    lines = [
        f"{rung}, {KINDS[run['side']].title}, seed {run['seed']}: {run['error']}"
        for run in found["runs"]
        if run["error"]
    ]
    for side, off in found["losses_off"].items():
        name = f"{rung}, {KINDS[side].title}"
        if isinstance(off, str):
            lines.append(f"{name}: its losses could not be compared: {off}")
        elif not is_right(off):
            lines.append(f"{name}: its first losses differ from ours by {off:.1e}: ≠")
    return lines
