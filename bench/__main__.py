"""python -m bench: ten training steps, Toumei and its peers in turns."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np

from toumei.machine import cpu_name

from . import measure, report, sides
from .measure import Plan, Result
from .peak import Peak
from .peak import measure as measure_peak
from .sides import OURS, PEERS, Side
from .venvs import InstallError
from .workloads import WORKLOADS, inputs

RESULTS = Path(__file__).parent / "results"
MEMORY = ("W3", "W4", "W6", "W8")  # where the growth of memory is measured

HELP = """Time training steps of Toumei and its peers, in turns.

WORKLOADS are W1 to W10 (all if none is named):

\b
{workloads}

Each peer runs in a process and a virtual environment of its own, made on first use in the user's
cache folder (some 4 GB for all).  First the sides build the same network from the same weights and
their losses are compared with ours; then they take turns of some steps each.  A peer whose losses
differ does not count.

\b
Examples:
    python -m bench                      the whole table, and bench/results/<machine>.json, .png
    python -m bench W5 W7 --peers jax    two workloads, one peer
    python -m bench --check              compare the losses of all sides, time nothing
    python -m bench W1 --no-peers        Toumei alone
    python -m bench --quick              few steps: to see that everything runs

Ratios of one run mean something, times of different runs don't: leave the machine alone meanwhile.
"""


def peer_names(_: object, __: object, text: str) -> list[str]:
    """Return the peers of a list with commas.

    >>> peer_names(None, None, "jax,tf")
    ['jax', 'tf']
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in PEERS]:
        raise click.BadParameter(f"there is no {unknown[0]!r}: the peers are {', '.join(PEERS)}")
    return list(dict.fromkeys(names))


_LINES = "\n".join(f"    {name:4} {w.title}" for name, w in WORKLOADS.items())


@click.command(
    help=HELP.format(workloads=_LINES), context_settings={"help_option_names": ["-h", "--help"]}
)
@click.argument("names", metavar="[WORKLOADS]...", nargs=-1, type=click.Choice(list(WORKLOADS)))
@click.option("--steps", type=click.IntRange(1), default=30, show_default=True,
              help="Timed steps of each side, at least; 10 if one takes over 0.4 s.")  # fmt: skip
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True,
              help="Threads of each side.")  # fmt: skip
@click.option("--peers", callback=peer_names, default=",".join(PEERS), show_default=True,
              help="Who is compared, separated by commas.")  # fmt: skip
@click.option("--no-peers", is_flag=True, help="Time Toumei alone.")
@click.option("--json", "path", type=click.Path(dir_okay=False, path_type=Path),
              help="Write the results to this file, and the picture beside it.")  # fmt: skip
@click.option("--quick", is_flag=True, help="Two turns of two steps: not to be quoted.")
@click.option("--check", is_flag=True, help="Compare the losses only.")
@click.option("--eager", is_flag=True, help="Toumei's steps without its compiler.")
def main(
    names: Sequence[str], steps: int, threads: int, peers: list[str], no_peers: bool,
    path: Path | None, quick: bool, check: bool, eager: bool,
) -> None:  # fmt: skip
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what is open is closed
    plan = Plan(threads, 4 if quick else steps, 2 if quick else 6, check)
    names = list(dict.fromkeys(names)) or list(WORKLOADS)
    measure.warn_if_busy(lambda line: click.secho(line, fg="yellow"))
    ours = sides.ours(not eager and _has_compiler())
    kinds = {OURS: ours, **({} if no_peers else {name: PEERS[name] for name in peers})}
    ready, absent = _environments(kinds)
    results, peak = _measure_all(names, ready, plan)
    titles = {side: kind.title for side, (kind, _) in ready.items()}
    _show(results, titles, peak, plan)
    for side, why in absent.items():
        click.echo(f"{side} is left out: {why}")
    problems = report.problems(results, titles)
    for line in problems:
        click.secho(line, fg="red")
    if not check:
        complete = not quick and len(results) == len(WORKLOADS) and not no_peers
        versions = _versions(ready, threads)
        compiled = ours.mode == "compiled"
        found = report.document(results, plan, peak, versions, absent, compiled)
        target = path or (RESULTS / f"{report.slug(cpu_name())}.json" if complete else None)
        _save(found, titles, target)
    sys.exit(1 if problems else 0)


def _has_compiler() -> bool:
    import toumei

    return hasattr(toumei, "compile")


def _say(line: str) -> None:
    """Show a line of progress on the error output, so that tables can be piped."""
    click.echo(line, err=True)


def _environments(
    kinds: Mapping[str, Side],
) -> tuple[dict[str, tuple[Side, Path]], dict[str, str]]:
    """Return the sides that can run, each with its Python, and why the others can't."""
    ready, absent = {}, {}
    for name, kind in kinds.items():
        try:
            ready[name] = (kind, kind.python(_say))
        except InstallError as error:
            absent[name] = str(error)
    return ready, absent


def _measure_all(
    names: Sequence[str], ready: Mapping[str, tuple[Side, Path]], plan: Plan
) -> tuple[dict[str, dict[str, Result]], Peak]:
    """Measure the workloads one after another, and the machine's peak in between."""
    results, peak = {}, Peak(0.0, 0.0)
    with TemporaryDirectory(prefix="bench-") as folder:
        for name in names:
            file = Path(folder) / f"{name}.npz"
            _write_start(name, file)
            if not plan.check_only:
                peak = Peak(*map(max, peak, measure_peak(plan.threads, 2)))
            dropout = WORKLOADS[name].dropout
            results[name] = measure.run(name, ready, file, dropout, plan, _say)
            if name in MEMORY and not plan.check_only:
                _measure_memory(name, ready, file, plan, results[name])
    return results, peak


def _measure_memory(
    name: str, ready: Mapping[str, tuple[Side, Path]], file: Path, plan: Plan,
    results: Mapping[str, Result],
) -> None:  # fmt: skip
    for side in (OURS, "torch"):
        if side in ready and not results[side].error:
            _say(f"{name}: memory of {ready[side][0].title}")
            measure.memory(name, *ready[side], file, plan, results[side])


def _write_start(name: str, file: Path) -> None:
    """Write the inputs and the first weights of a workload: Toumei's own."""
    import toumei as tm

    from .peers import networks

    tm.manual_seed(0)
    weights = networks.build(tm, name, dropout=True).state_dict()
    arrays: dict[str, Any] = {f"input.{key}": value for key, value in inputs(name).items()}
    arrays |= {f"weight.{key}": value.numpy() for key, value in weights.items()}
    np.savez(file, **arrays)


def _versions(ready: Mapping[str, tuple[Side, Path]], threads: int) -> dict[str, dict[str, str]]:
    found = {}
    with TemporaryDirectory(prefix="bench-") as folder:
        for name, (kind, python) in ready.items():
            with kind.start(python, threads, Path(folder)) as process:
                found[name] = process.ask("about")["versions"]
    return found


def _show(
    results: dict[str, dict[str, Result]], titles: Mapping[str, str], peak: Peak, plan: Plan
) -> None:
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 160)
    tables = [report.checks(results, titles)]
    if not plan.check_only:
        tables += [report.first_steps(results, titles), report.speeds(results, titles, peak)]
        if memory := report.memories(results, titles):
            tables.append(memory)
    for table in tables:
        console.print(table, "")
    if not plan.check_only:
        console.print(
            f"The machine's peak, {plan.threads} threads: {peak.gflops:.0f} GFLOP/s of float32 "
            f"multiply-adds in registers; memory is copied at {peak.copy:.0f} GB/s.",
            highlight=False,
        )


def _save(found: Mapping[str, object], titles: Mapping[str, str], path: Path | None) -> None:
    if path is None:
        click.echo("Only whole runs are kept in bench/results; --json PATH keeps any.")
        return
    from .picture import draw

    picture = path.with_suffix(".png")
    report.write(path, found)
    draw(found, titles, picture)
    click.echo(f"Written: {path}, {picture}")


if __name__ == "__main__":
    main()
