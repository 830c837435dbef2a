"""Keep finished runs under results/, and write docs/results.md about them.

    python tools/make_results.py                    write docs/results.md anew
    python tools/make_results.py add RUN [RUN …]    keep these runs as well, then write it

Of a run the small files are kept: summary, history, pictures; not the weights.
"""

from __future__ import annotations

import re
import shutil
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from toumei.io.files import write_whole
from toumei.recipes import NAMES
from toumei.recipes.page import is_reached, read_summary

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results"
PAGE = ROOT / "docs" / "results.md"
LARGEST = 300_000  # bytes of a picture that is kept
PERCENT = {"test accuracy"}
# What a run shows besides its curves: the first of these that it has.
SHOWN = ("field.png", "samples.png", "translations.png", "attention.png", "mistakes.png")

BEGIN = """# Results

What the recipes reach on the full data sets. A row is one run, or the median of several seeds; the
runs' summaries, histories and pictures are under [results/](../results). The test set was measured
once per run, with the weights that were best on the validation data. The commands find the data
sets in the folder that `TOUMEI_DATA` names (`toumei data fetch NAME` brings them).

"""


class Row(NamedTuple):
    """The runs of one command, which differ in their seed."""

    folders: list[Path]
    summaries: list[dict[str, Any]]

    @property
    def first(self) -> dict[str, Any]:
        """The summary of the first seed."""
        return self.summaries[0]


def keep(run: Path, results: Path = RESULTS) -> None:
    """Copy the small files of a finished run."""
    read_summary(run)
    folder = results / run.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in sorted(run.iterdir()):
        small = path.suffix == ".png" and path.stat().st_size <= LARGEST
        if path.name in ("summary.json", "history.json") or small:
            shutil.copy(path, folder)


def rows(folders: Iterable[Path]) -> list[Row]:
    """Return the runs by command, in the order of the ladder."""
    found: dict[str, Row] = {}
    for folder in sorted(folders):
        summary = read_summary(folder)
        row = found.setdefault(_command(summary), Row([], []))
        row.folders.append(folder)
        row.summaries.append(summary)
    return sorted(found.values(), key=lambda row: (NAMES.index(row.first["recipe"]), row.folders))


def page(found: Sequence[Row]) -> str:
    """Return the text of docs/results.md."""
    machines = sorted({s["machine"] for row in found for s in row.summaries})
    lines = [BEGIN, f"Machine: {'; '.join(machines)}.\n\n" if machines else ""]
    lines += ["| rung | data | figure to reach | reached | minutes | command |\n"]
    lines += ["|---|---|---|---|---|---|\n", *map(_line, found)]
    lines += ["\n## What the figures are compared with\n\n", *map(_anchor, found)]
    lines += ["\n## Curves and pictures\n", *map(_curves, found)]
    return "".join(lines)


def _line(row: Row) -> str:
    values = [s["value"] for s in row.summaries]
    reached = _figure(statistics.median(values), row.first)
    if len(values) > 1:
        ends = f"{_figure(min(values), row.first)} to {_figure(max(values), row.first)}"
        reached = f"{reached}, median of {len(values)} seeds ({ends})"
    cells = [
        f"[{row.first['title']}](../results/{row.folders[0].name})",
        row.first["data"],
        _goal(row),
        f"**{reached}**" if _is_reached(row) else f"{reached}: missed",
        f"{max(s['seconds'] for s in row.summaries) / 60:.1f}",
        f"`{_command(row.first)}`",
    ]
    return f"| {' | '.join(cells)} |\n"


def _goal(row: Row) -> str:
    target = row.first["target"]
    sign = "≥" if row.first["mode"] == "max" else "≤"
    what = row.first["metric"].removeprefix("test ")
    return what if target is None else f"{what} {sign} {_figure(target, row.first)}"


def _is_reached(row: Row) -> bool:
    median = statistics.median(s["value"] for s in row.summaries)
    return is_reached(row.first | {"value": median}) is not False


def _figure(value: float, summary: dict[str, Any]) -> str:
    return f"{100 * value:.2f} %" if summary["metric"] in PERCENT else f"{value:.4g}"


def _anchor(row: Row) -> str:
    return f"- {row.first['title']}, {row.first['data']}: {row.first['source']}\n"


def _curves(row: Row) -> str:
    folder, title = row.folders[0], row.first["title"]
    shown = [name for name in SHOWN if (folder / name).exists()][:1]
    lines = [f"\n![{title}](../results/{folder.name}/{name})\n" for name in ("loss.png", *shown)]
    return f"\n### {title}\n" + "".join(lines)


def _command(summary: dict[str, Any]) -> str:
    """Return the command of a run without its seed."""
    return re.sub(r" --seed -?\d+", "", summary["command"])


def main() -> None:
    """Do what the command line says."""
    for run in sys.argv[2:] if sys.argv[1:2] == ["add"] else []:
        keep(Path(run))
    found = rows(path.parent for path in RESULTS.glob("*/summary.json"))
    write_whole(PAGE, page(found).encode())
    print(f"wrote {PAGE}: {len(found)} rows")


if __name__ == "__main__":
    main()
