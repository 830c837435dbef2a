"""Keep finished runs under results/, and write docs/results.md about them.

    python tools/make_results.py                    write docs/results.md anew
    python tools/make_results.py add RUN [RUN …]    keep these runs as well, then write it

Of a run the small files are kept: summary, history, pictures; not the weights.  What the page says
of PyTorch and JAX is in the files that `python -m bench.quality` writes to bench/results.
"""

from __future__ import annotations

import json
import re
import shutil
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from toumei.io.files import write_whole
from toumei.recipes import NAMES
from toumei.recipes.page import is_reached, read_summary

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results"
PAGE = ROOT / "docs" / "results.md"
BESIDE = ROOT / "bench" / "results"
LARGEST = 700_000  # bytes of a picture that is kept
SIDES = {"toumei": "Toumei", "torch": "PyTorch", "jax": "JAX"}
# What is told besides the figure, by its name in the summary.
MORE = {
    "validation_loss": lambda loss: f"validation {loss:.4g}",
    "loss_of_n_grams": lambda loss: f"n-grams {loss:.4g}",
    "frechet": lambda distance: f"Fréchet distance {distance:.3g}",
    "frechet of real digits": lambda distance: f"of real digits {distance:.2f}",
    "share of each digit": lambda shares: f"rarest digit {100 * min(shares):.1f} %",
}
# What a run shows besides its curves: the first of these that it has.
SHOWN = ("field.png", "samples.png", "translations.png", "attention.png", "mistakes.png")

BEGIN = """# Results

What the recipes reach on the full data sets. A row is one run, or the median of several seeds and
the minutes of the slowest; the runs' summaries, histories and pictures are under
[results/](../results). The test set was measured once per run, with the weights that were best on
the validation data. The commands find the data sets in the folder that `TOUMEI_DATA` names
(`toumei data fetch NAME` brings them), and take `--seed` for another seed than 0.

"""

EQUALLY_LONG = """
## The same training by PyTorch and JAX

The same recipe on each side: batches, first weights and learning rates are the same, what is random
within a step is each side's own. [The bench](../bench/README.md#minutes-to-a-published-figure) says
how. A figure is that of the test set with the weights of the best epoch by validation, a mean over
the seeds; in brackets, each seed's.

| rung | data | what | epochs | seeds | Toumei | PyTorch | JAX |
|---|---|---|---|---|---|---|---|
"""

UNTIL_THE_FIGURE = """
### Minutes until the figure is reached

Minutes of training, compilation included, until the validation part first is as good as the figure;
a mean over the seeds. Behind ×: that time divided by ours.

| rung | data | figure | Toumei | PyTorch | JAX |
|---|---|---|---|---|---|
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


def comparisons(folder: Path = BESIDE) -> list[dict[str, Any]]:
    """Return what the bench found out about equal trainings, in the order of the ladder."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("quality-*.json"))]
    return sorted(found, key=lambda one: NAMES.index(one["rung"]))


def page(found: Sequence[Row], compared: Sequence[Mapping[str, Any]] = ()) -> str:
    """Return the text of docs/results.md."""
    machines = sorted({s["machine"] for row in found for s in row.summaries})
    lines = [BEGIN, f"Machine: {'; '.join(machines)}.\n\n" if machines else ""]
    lines += ["| rung | data | figure to reach | reached | minutes | seeds | command |\n"]
    lines += ["|---|---|---|---|---|---|---|\n", *map(_line, found)]
    lines += ["\n## What the figures are compared with\n\n", *map(_anchor, found)]
    if compared:
        lines += [EQUALLY_LONG, *map(_equally_long, compared)]
        lines += [UNTIL_THE_FIGURE, *map(_until_the_figure, compared)]
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
        (f"**{reached}**" if _is_reached(row) else f"{reached}: missed") + _more(row.first),
        f"{max(s['seconds'] for s in row.summaries) / 60:.1f}",
        ", ".join(map(str, sorted(s["seed"] for s in row.summaries))),
        f"`{_command(row.first)}`",
    ]
    return f"| {' | '.join(cells)} |\n"


def _more(summary: Mapping[str, Any]) -> str:
    told = [tell(summary[name]) for name, tell in MORE.items() if name in summary]
    return f" ({', '.join(told)})" if told else ""


def _goal(row: Row) -> str:
    target = row.first["target"]
    sign = "≥" if row.first["mode"] == "max" else "≤"
    what = row.first["metric"].removeprefix("test ")
    return what if target is None else f"{what} {sign} {_figure(target, row.first)}"


def _is_reached(row: Row) -> bool:
    median = statistics.median(s["value"] for s in row.summaries)
    return is_reached(row.first | {"value": median}) is not False


def _figure(value: float, summary: dict[str, Any]) -> str:
    return _amount(value, summary["metric"].removeprefix("test "))


def _anchor(row: Row) -> str:
    return f"- {row.first['title']}, {row.first['data']}: {row.first['source']}\n"


def _equally_long(one: Mapping[str, Any]) -> str:
    seeds = {run["seed"] for run in one["runs"]}
    cells = [f"`{one['rung']}`", one["data"], one["metric"], str(one["budget"]["epochs"])]
    cells += [str(len(seeds)), *(_tests(one, side) for side in SIDES)]
    return f"| {' | '.join(cells)} |\n"


def _tests(one: Mapping[str, Any], side: str) -> str:
    """Return a side's test figure: the mean, and each seed's."""
    runs = [run for run in one["runs"] if run["side"] == side]
    if not runs:
        return "–"
    if any(run["error"] for run in runs):
        return "failed"
    texts = [_amount(run["test"], one["metric"]) for run in runs]
    mean = _amount(statistics.mean(run["test"] for run in runs), one["metric"])
    return f"{mean} ({', '.join(texts)})" if len(runs) > 1 else mean


def _until_the_figure(one: Mapping[str, Any]) -> str:
    """Return the line of minutes to the figure; nothing where no side was to reach it."""
    minutes = {side: _minutes(one, side) for side in SIDES}
    if one["target"] is None or not any(minutes.values()):
        return ""
    cells = [f"`{one['rung']}`", one["data"], _amount(one["target"], one["metric"])]
    for side in SIDES:
        time, ours = minutes[side], minutes["toumei"]
        if time is None:
            took_part = any(run["side"] == side for run in one["runs"])
            cells.append("not reached" if took_part else "–")
        else:
            ratio = f" (× {time / ours:.2f})" if ours and side != "toumei" else ""
            cells.append(f"{time:.2f}{ratio}")
    return f"| {' | '.join(cells)} |\n"


def _minutes(one: Mapping[str, Any], side: str) -> float | None:
    """Return a side's mean time to the figure, if it was reached with each seed."""
    times = [run["seconds_to_figure"] for run in one["runs"] if run["side"] == side]
    return statistics.mean(times) / 60 if times and all(times) else None


def _amount(value: float, metric: str) -> str:
    return f"{100 * value:.2f} %" if metric == "accuracy" else f"{value:.4g}"


def _curves(row: Row) -> str:
    folder, title = row.folders[0], f"{row.first['title']}: {row.first['data']}"
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
    write_whole(PAGE, page(found, comparisons()).encode())
    print(f"wrote {PAGE}: {len(found)} rows")


if __name__ == "__main__":
    main()
