"""python -m bench.quality: minutes to a recipe's published figure, Toumei and its peers."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from bench.measure import warn_if_busy
from bench.venvs import InstallError
from toumei.errors import ToumeiError
from toumei.recipes.recipe import Options

from . import compare, report
from .compare import KINDS, Ready
from .rungs import OURS, RUNGS, SIDES, has

RESULTS = Path(__file__).parent.parent / "results"

HELP = """Train recipes on Toumei, PyTorch and JAX: how long until the recipe's figure is reached?

RECIPES are {rungs}.

All sides train on the same batches from the same first weights, with the same learning rates.
First the losses of some steps are compared; then the sides take turns, an epoch each.  Minutes are
those of training, compilation included; measuring isn't counted.

\b
Examples:
    python -m bench.quality mlp cnn --seeds 0,1     a table, and bench/results/quality-mlp.json, ...
    python -m bench.quality gpt --check             compare the losses of all sides, train nothing
    python -m bench.quality cnn --data fashion-mnist --sides torch
    python -m bench.quality mlp --epochs 1          a short one: to see that everything runs

Ratios of one run mean something, times of different runs don't: leave the machine alone meanwhile.
"""


def side_names(_: object, __: object, text: str) -> list[str]:
    """Return the sides of a list with commas; Toumei is always the first.

    >>> side_names(None, None, "jax")
    ['toumei', 'jax']
    """
    names = _split(text)
    if unknown := [name for name in names if name not in SIDES]:
        raise click.BadParameter(f"there is no {unknown[0]!r}: the sides are {', '.join(SIDES)}")
    return list(dict.fromkeys([OURS, *names]))


def seed_numbers(_: object, __: object, text: str) -> list[int]:
    """Return the seeds of a list with commas.

    >>> seed_numbers(None, None, "0, 3")
    [0, 3]
    """
    seeds = _split(text)
    if not seeds or not all(seed.isdecimal() for seed in seeds):
        raise click.BadParameter(f"seeds are numbers such as 0,1,2, not {text!r}")
    return list(dict.fromkeys(map(int, seeds)))


def _split(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


@click.command(
    help=HELP.format(rungs=", ".join(RUNGS)),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("names", metavar="RECIPES...", nargs=-1, required=True, type=click.Choice(RUNGS))
@click.option("--sides", callback=side_names, default=",".join(SIDES), show_default=True,
              help="Who takes part, separated by commas; Toumei always does.")  # fmt: skip
@click.option("--seeds", callback=seed_numbers, default="0", show_default=True,
              help="Seeds, separated by commas.")  # fmt: skip
@click.option("--epochs", type=click.IntRange(1), help="Instead of the recipe's own.")
@click.option("--samples", type=click.IntRange(1), help="Train on so many samples only.")
@click.option("--fast", "preset", flag_value="fast", default="default", type=str,
              help="The recipe's short form.")  # fmt: skip
@click.option("--data", "dataset", help="Which of the recipe's data sets.")
@click.option("--data-dir", help="Folder of the data.  [default: $TOUMEI_DATA]")
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True,
              help="Threads of each side.")  # fmt: skip
@click.option("--check", is_flag=True, help="Compare the losses only.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path),
              help="Folder of the results, for short runs too.")  # fmt: skip
def main(
    names: Sequence[str], sides: list[str], seeds: list[int], threads: int, check: bool,
    out: Path | None, **given: Any,
) -> None:  # fmt: skip
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what is open is closed
    options = Options(**given)
    whole = not (options.epochs or options.samples or options.preset != Options.preset)
    folder = out or (RESULTS if whole else None)
    lines: list[str] = []
    warn_if_busy(lambda line: click.secho(line, fg="yellow", err=True))
    try:
        ready = _environments(sides)
        for name in dict.fromkeys(names):
            here = {side: python for side, python in ready.items() if _takes_part(side, name)}
            found = _one(name, here, options, [] if check else seeds, threads, folder)
            lines += report.problems(found)
    except ToumeiError as error:
        raise click.ClickException(str(error)) from error
    if folder is None and not check:
        click.echo("Only whole runs are kept in bench/results; --out FOLDER keeps any.")
    for line in lines:
        click.secho(line, fg="red")
    sys.exit(1 if lines else 0)


def _environments(sides: Sequence[str]) -> dict[str, Path]:
    """Return the Python of each side that can run; say why the others can't."""
    ready = {}
    for side in sides:
        try:
            ready[side] = KINDS[side].python(_say)
        except InstallError as error:
            _say(f"{KINDS[side].title} is left out: {error}")
    return ready


def _takes_part(side: str, rung: str) -> bool:
    if not has(side, rung):
        _say(f"{KINDS[side].title} has no twin of {rung}: it is left out")
    return has(side, rung)


def _one(
    rung: str, ready: Ready, options: Options, seeds: Sequence[int], threads: int,
    folder: Path | None,
) -> dict[str, Any]:  # fmt: skip
    """Compare the losses of a recipe, train it with each seed, show what came out and write it."""
    from .course import about

    facts = about(rung, options)
    _say(f"{rung}: {facts['data']}; the losses of the first steps")
    offs = compare.check(rung, ready, options, threads)
    for side, off in offs.items():
        shown = off if isinstance(off, str) else f"{off:.0e} from ours"
        _say(f"{rung}: {KINDS[side].title}: {shown}")
    versions = compare.versions(ready, threads)

    def found_of(results: Sequence[compare.Result]) -> dict[str, Any]:
        given = _given(options)
        return report.document(rung, facts, given, threads, versions, offs, results)

    everything: list[compare.Result] = []
    for seed in seeds:
        mine = replace(options, seed=seed)
        epochs = facts["budget"]["epochs"]
        results = compare.train(rung, ready, mine, epochs, threads, folder, _say)
        everything += results
        if folder is not None:  # after each seed: the next one may take long
            _keep(found_of(results), folder)
    found = found_of(everything)
    if seeds:
        _show(found)
    return found


def _given(options: Options) -> dict[str, Any]:
    """Return the options that aren't the defaults, without the seed and where the data are."""
    plain = asdict(Options())
    chosen = {k: v for k, v in asdict(options).items() if v != plain[k]}
    return {k: v for k, v in chosen.items() if k not in ("seed", "data_dir")}


def _show(found: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(report.table(found), "")


def _keep(found: dict[str, Any], folder: Path) -> None:
    """Write what came out, and the picture of all seeds that are there."""
    from .picture import draw

    data = found["options"].get("dataset")
    path = folder / f"quality-{found['rung']}{f'-{data}' if data else ''}.json"
    whole = report.write(path, found)
    draw(whole, path.with_suffix(".png"))
    _say(f"written: {path}, {path.with_suffix('.png').name}")


def _say(line: str) -> None:
    """Show a line of progress on the error output, so that tables can be piped."""
    click.echo(line, err=True)


if __name__ == "__main__":
    main()
