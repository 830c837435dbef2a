"""One HTML page about finished runs: a table of the figures, curves and pictures.

The page is a single file: style and pictures are in it, nothing is fetched from a network.
"""

from __future__ import annotations

import base64
import json
import os
import pathlib
from collections.abc import Sequence
from html import escape
from typing import Any

from ..errors import LoadError, ToumeiError
from ..io.files import write_whole
from ..train.history import History

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --dim: #777; --good: #1a7f37; --bad: #b35900 }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; font-size: .9rem }
th, td { text-align: left; padding: .3rem 1rem .3rem 0; border-bottom: 1px solid var(--line) }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.wide { overflow-x: auto }
img { max-width: 100%; background: #fff; border-radius: 4px }
figure { display: inline-block; margin: 0 1rem 1rem 0; vertical-align: top }
figcaption, .dim { color: var(--dim); font-size: .85rem }
.reached { color: var(--good) } .missed { color: var(--bad) }
section { margin-top: 3rem }
"""
_TYPES = {".png": "image/png", ".gif": "image/gif"}
_COLUMNS = ("run", "figure", "value", "to reach", "", "epochs", "minutes", "seed", "data")


def write_page(folders: Sequence[pathlib.Path], path: str | os.PathLike[str]) -> None:
    """Write a page about finished runs.

    Args:
        folders: of the runs, in the order of the page.
        path: the page's file.

    Raises:
        LoadError: a folder holds no finished run.
        ToumeiError: there are no folders.
    """
    if not folders:
        raise ToumeiError("there is nothing to report: no run is named, and runs/ holds none")
    summaries = [read_summary(folder) for folder in folders]
    parts = [_table(folders, summaries)]
    parts += [_section(f, s) for f, s in zip(folders, summaries, strict=True)]
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Toumei: runs</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head>\n<body><h1>Training runs</h1>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )
    write_whole(path, page.encode())


def read_summary(folder: pathlib.Path) -> dict[str, Any]:
    """Return the facts of the finished run in a folder.

    Raises:
        LoadError: there is none, or its summary is damaged.
    """
    path = folder / "summary.json"
    if not path.exists():
        raise LoadError(f"{folder} holds no finished run: there is no {path.name}")
    try:
        summary: dict[str, Any] = json.loads(path.read_text())
        for name in ("recipe", "metric", "value", "target", "mode", "epochs", "seconds", "data"):
            summary[name]
    except (ValueError, KeyError, TypeError) as error:
        raise LoadError(f"{path} is damaged: {error!r}") from error
    return summary


def is_reached(summary: dict[str, Any]) -> bool | None:
    """Tell whether a run reached its figure; None if it had none to reach."""
    value, target = summary["value"], summary["target"]
    if target is None:
        return None
    return bool(value >= target if summary["mode"] == "max" else value <= target)


def figure(value: float | None) -> str:
    """Return a figure with four digits that count; nothing for None."""
    return "" if value is None else f"{value:.4g}"


# --- the parts of the page -----------------------------------------------------------------------


def _table(folders: Sequence[pathlib.Path], summaries: Sequence[dict[str, Any]]) -> str:
    rows = "\n".join(_row(f, s) for f, s in zip(folders, summaries, strict=True))
    head = "".join(f"<th>{name}</th>" for name in _COLUMNS)
    return f'<div class="wide"><table><tr>{head}</tr>\n{rows}\n</table></div>'


def _row(folder: pathlib.Path, summary: dict[str, Any]) -> str:
    verdict = {None: "", True: "reached", False: "missed"}[is_reached(summary)]
    cells = [
        f'<td><a href="#{escape(_anchor(folder))}">{escape(folder.name)}</a></td>',
        f"<td>{escape(summary['metric'])}</td>",
        _number(figure(summary["value"])),
        _number(figure(summary["target"])),
        f'<td class="{verdict}">{verdict}</td>',
        _number(str(summary["epochs"])),
        _number(f"{summary['seconds'] / 60:.1f}"),
        _number(str(summary.get("seed", ""))),
        f"<td>{escape(summary['data'])}</td>",
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _number(text: str) -> str:
    return f'<td class="number">{escape(text)}</td>'


def _section(folder: pathlib.Path, summary: dict[str, Any]) -> str:
    title = escape(f"{folder.name}: {summary.get('title', summary['recipe'])}")
    facts = " · ".join(escape(str(f)) for f in _facts(summary) if f)
    return "\n".join(
        [
            f'<section id="{escape(_anchor(folder))}"><h2>{title}</h2>',
            f'<p class="dim">{facts}</p>',
            f"<p><code>{escape(summary.get('command', ''))}</code></p>",
            *map(_picture, _pictures(folder)),
            _numbers(History.load(folder / "history.json")),
            "</section>",
        ]
    )


def _facts(summary: dict[str, Any]) -> list[str]:
    return [
        f"{summary.get('parameters', 0):,} parameters",
        "compiled" if summary.get("compiled") else "not compiled",
        summary.get("machine", ""),
        f"the figure to reach: {summary['source']}" if summary.get("source") else "",
    ]


def _picture(path: pathlib.Path) -> str:
    content = base64.b64encode(path.read_bytes()).decode()
    source = f"data:{_TYPES[path.suffix]};base64,{content}"
    name = escape(path.stem.replace("_", " "))
    return f'<figure><img src="{source}" alt="{name}"><figcaption>{name}</figcaption></figure>'


def _pictures(folder: pathlib.Path) -> list[pathlib.Path]:
    """Return the pictures of a run, the curves first."""
    found = [p for p in folder.iterdir() if p.suffix in _TYPES]
    return sorted(found, key=lambda p: (p.name != "loss.png", p.name))


def _numbers(history: History) -> str:
    """Return the history as a table that opens when it is clicked."""
    columns = history.columns
    head = "".join(f"<th>{escape(c.replace('_', ' '))}</th>" for c in columns)
    rows = "\n".join(
        f"<tr>{''.join(_number(figure(row.get(c))) for c in columns)}</tr>" for row in history
    )
    table = f'<div class="wide"><table><tr>{head}</tr>\n{rows}\n</table></div>'
    return f"<details><summary>the numbers of each epoch</summary>{table}</details>"


def _anchor(folder: pathlib.Path) -> str:
    return str(folder).replace(" ", "-")
