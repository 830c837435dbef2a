"""The `toumei` command: train the recipes, look at runs, fetch data."""

from __future__ import annotations

import io
import math
import pathlib
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from . import __version__
from .cli_explain import explain
from .cli_types import FILE, FOLDER, NEW, RUN, check_choice, preset_options
from .errors import SaveError, ToumeiError
from .recipes import NAMES, find
from .recipes.page import is_reached, write_page
from .recipes.recipe import Options, Recipe, Sampling
from .recipes.run import Run, checkpoint_of, history_of, new_folder, open_finished, open_run

if TYPE_CHECKING:
    from .train.callbacks import Callback


class _Interrupted(click.ClickException):
    """Ctrl-C was pressed; the exit status is what a shell expects then."""

    exit_code = 130


class _Commands(click.Group):
    """Shows Toumei's own errors as one message, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal without … or × gets a ?
            sys.stdout.reconfigure(errors="replace")
        try:
            return super().invoke(ctx)
        except ToumeiError as error:
            raise click.ClickException(error.message) from error


class _Finite(click.FloatRange):
    """A number within a range, which "nan" and "inf" are not, although Python reads them."""

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


_TRY = {" INPUT": "predict", "": "sample"}


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="toumei")
def main() -> None:
    """Toumei: a deep-learning framework that can be read end to end.

    \b
    A first network, from nothing to its loss curve:
        toumei train mlp
    What else can be trained, and how far it should get:
        toumei list
    """


@main.command()
@click.argument("recipe", type=click.Choice(NAMES), required=False)
@click.option("--epochs", type=click.IntRange(1), help="Passes over the training data.")
@click.option("--batch-size", type=click.IntRange(1), help="Samples per step.")
@click.option("--lr", type=_Finite(0, min_open=True), help="Largest learning rate.")
@click.option("--samples", type=click.IntRange(1), help="Train on so many samples only.")
@preset_options
@click.option("--data", "dataset", metavar="NAME", help="Which data, where a recipe has several.")
@click.option("--seed", type=int, default=0, show_default=True, help="Same seed, same weights.")
@click.option("--out", type=NEW, help="Folder for the run.")
@click.option(
    "--data-dir", type=FOLDER, help="Where the full data sets are.  [default: $TOUMEI_DATA]"
)
@click.option("--resume", type=RUN, metavar="RUN", help="Go on with a run that was cut off.")
@click.option("--checkpoint-every", type=_Finite(0), default=30.0, show_default=True,
              metavar="SECONDS", help="How much work a kill may cost.")  # fmt: skip
@click.option(
    "--compile/--no-compile", default=None, help="Turn the steps into native code or not."
)
@click.option("--tensorboard", is_flag=True, help="Write event files too: RUN/tensorboard.")
@click.option("--quiet", is_flag=True, help="Print the result only.")
@click.pass_context
def train(
    ctx: click.Context,
    /,
    recipe: str | None,
    out: pathlib.Path | None,
    quiet: bool,
    tensorboard: bool,
    resume: pathlib.Path | None,
    **given: Any,
) -> None:
    """Train RECIPE and write its run to a folder.

    \b
    The folder (runs/RECIPE-TIME unless --out names it) gets
        loss.png            loss and metric against epoch, training and validation
        history.json        the same numbers
        summary.json        the result, measured once on the test set
        *.png               what the model does, in pictures
        model.safetensors   the weights that were best on the validation data
        checkpoint/         what --resume goes on from, to the same last bit

    \b
    Examples:
        toumei train mlp
        toumei train gpt --fast
        toumei train cnn --data fashion-mnist
        toumei train mlp --epochs 5 --lr 0.001 --out runs/short
        toumei train --resume runs/short
    """
    if resume:
        run = _resumed(ctx, resume, recipe, given["data_dir"], given["compile"])
    else:
        run = _started(recipe, out, given)
    _fit(run, quiet, tensorboard)


def _started(recipe: str | None, out: pathlib.Path | None, given: dict[str, Any]) -> Run:
    if recipe is None:
        raise click.UsageError(f"Which recipe? One of: {', '.join(NAMES)}")
    folder = out or new_folder(recipe)
    if checkpoint_of(folder).exists():
        raise click.UsageError(
            f"{folder} holds a run already: go on with --resume {folder}, or name another --out"
        )
    given["checkpoint_seconds"] = given.pop("checkpoint_every")
    found = find(recipe)
    check_choice(found, given["dataset"], given["preset"])
    return Run(found, folder, Options(**given))


def _resumed(
    ctx: click.Context,
    folder: pathlib.Path,
    recipe: str | None,
    data_dir: str | None,
    compile: bool | None,
) -> Run:
    """Open the run in a folder with the options it was started with; its data may have moved."""
    fixed = (
        "epochs", "batch_size", "lr", "samples", "preset", "dataset", "seed", "out",
        "checkpoint_every",
    )  # fmt: skip
    for name in fixed:
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            option = {"dataset": "data"}.get(name, name).replace("_", "-")
            raise click.UsageError(f"--{option} can't be changed in a resumed run: leave it out")
    name, options = open_run(folder)
    if recipe not in (None, name):
        raise click.UsageError(f"{folder} is a run of {name!r}, not of {recipe!r}")
    if compile is not None:
        options = replace(options, compile=compile)
    run = Run(find(name), folder, _with_data(options, data_dir))
    run.resume()
    return run


def _with_data(options: Options, folder: str | None) -> Options:
    return replace(options, data_dir=folder) if folder else options


def _fit(run: Run, quiet: bool, tensorboard: bool) -> None:
    from rich.console import Console

    from .train.progress import Progress
    from .train.tensorboard import TensorBoard

    console = Console(highlight=False)
    if not quiet:
        console.print(f"[bold]{run.recipe.title}[/bold]")
        console.print(f"data    {run.data.text}", soft_wrap=True)
        count = sum(p.numel() for p in run.model.parameters())
        budget = run.budget
        console.print(
            f"budget  {_epochs(budget.epochs)}, batches of {budget.batch_size}, learning rate "
            f"{budget.lr:g}, {count:,} parameters",
            soft_wrap=True,
        )
        if run.trainer.steps:
            console.print(f"resumed after {run.trainer.steps:,} steps")
    watchers: list[Callback] = [] if quiet else [Progress(console)]
    if tensorboard:
        watchers.append(TensorBoard(run.folder / "tensorboard"))
    try:
        summary = run.fit(*watchers)
    except KeyboardInterrupt:
        raise _Interrupted(f"interrupted. {_way_on(run)}") from None
    except SaveError as error:
        raise click.ClickException(f"{error.message}. {_way_on(run)}") from error
    console.print(_verdict(summary), soft_wrap=True)
    if not quiet:
        if figures := _further_figures(summary):
            console.print(f"also    {figures}", soft_wrap=True)
        console.print(f"run     {run.folder}", soft_wrap=True)
        pictures = sorted(p.name for p in run.folder.iterdir() if p.suffix in (".png", ".gif"))
        console.print(f"look    {', '.join(pictures)}", soft_wrap=True)
        for option, command in _TRY.items():
            if getattr(type(run.recipe), command) is not getattr(Recipe, command):
                console.print(f"try     toumei {command} {run.folder}{option}", soft_wrap=True)


def _way_on(run: Run) -> str:
    """Say how a run that was cut off is finished, if there is something to go on from."""
    begun = checkpoint_of(run.folder).exists()
    return f"Go on with:  toumei train --resume {run.folder}" if begun else ""


def _verdict(summary: dict[str, Any]) -> str:
    value, target = summary["value"], summary["target"]
    aim = ""
    if target is not None:
        aim = f"(aim: {target:.4g}, {'reached' if is_reached(summary) else 'missed'}) "
    return (
        f"result  {summary['metric']} [bold]{value:.4g}[/bold] {aim}"
        f"after {_epochs(summary['epochs'])}, {summary['seconds']:.0f} s"
    )


def _epochs(count: int) -> str:
    return f"{count} epoch{'s' * (count != 1)}"


def _further_figures(summary: dict[str, Any]) -> str:
    """Return the figures of the recipe's own report, which come after the common ones."""
    names = list(summary)[list(summary).index("version") + 1 :]
    figures = {name: summary[name] for name in names if isinstance(summary[name], int | float)}
    return ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in figures.items())


@main.command()
@click.argument("run", type=RUN)
@click.argument("line", metavar="INPUT")
@click.option("--out", type=FILE, help="File of the picture, where there is one.")
def predict(run: pathlib.Path, line: str, out: pathlib.Path | None) -> None:
    """Show what the model of a finished RUN makes of INPUT.

    INPUT is an image file, a line of text or numbers: what the model was trained on.

    \b
    Examples:
        toumei predict runs/cnn my-seven.png
        toumei predict runs/translate "ein hund rennt im schnee ."
        toumei predict runs/pinn "0.25 0.5"
    """
    opened = open_finished(run)
    click.echo(opened.recipe.predict(opened, line, out))


@main.command()
@click.argument("run", type=RUN)
@click.option("--count", type=click.IntRange(1, 10_000), help="How many samples.")
@click.option("--length", type=click.IntRange(1, 1_000_000), help="Characters of a text.")
@click.option("--temperature", type=_Finite(0),
              help="Below 1 likelier, above 1 more daring; 0 takes the likeliest.")  # fmt: skip
@click.option("--prompt", help="How a text begins.")
@click.option("--seed", type=int, default=0, show_default=True, help="Same seed, same samples.")
@click.option("--out", type=FILE, help="File of the picture.")
def sample(run: pathlib.Path, seed: int, **given: Any) -> None:
    """Let the model of a finished RUN make something up: a text, or digits.

    \b
    Examples:
        toumei sample runs/gpt --prompt "Call me " --length 500 --temperature 0.8
        toumei sample runs/gan --count 64 --out digits.png
    """
    opened = open_finished(run)
    wish = Sampling(seed=seed, **given)
    for name, value in given.items():
        if value is not None and opened.recipe.sampling and name not in opened.recipe.sampling:
            raise click.UsageError(f"--{name} means nothing to a run of {opened.recipe.name!r}")
    click.echo(opened.recipe.sample(opened, wish))


@main.command(name="find-lr")
@click.argument("recipe", type=click.Choice(NAMES))
@preset_options
@click.option("--data", "dataset", metavar="NAME", help="Which data, where a recipe has several.")
@click.option("--data-dir", type=FOLDER, help="Where the full data sets are.")
@click.option("--batch-size", type=click.IntRange(1), help="Samples per step.")
@click.option(
    "--compile/--no-compile", default=None, help="Turn the steps into native code or not."
)
@click.option("--steps", type=click.IntRange(3), default=100, show_default=True)
@click.option("--out", default="rates.png", show_default=True, help="The picture's file.")
def find_lr(recipe: str, steps: int, out: str, **given: Any) -> None:
    """Look for a learning rate for RECIPE: a short sweep that draws loss against rate.

    \b
    Example:
        toumei find-lr cnn --out rates.png
    """
    from .train.lr_finder import find_lr as sweep

    found = find(recipe)
    check_choice(found, given["dataset"], given["preset"])
    run = Run(found, new_folder(recipe), Options(**given))
    curve = sweep(run.trainer, run.train, steps=steps)
    curve.plot(out)
    best = "none: the loss never fell" if curve.suggestion is None else f"{curve.suggestion:.2g}"
    click.echo(f"suggestion  {best}  (the recipe takes {run.budget.lr:g})\nwrote {out}")


main.add_command(explain)


@main.command(name="list")
def list_() -> None:
    """List the recipes and the figures that they aim at."""
    from rich.console import Console
    from rich.table import Table

    table = Table("recipe", "what it trains", "published figure")
    for name in NAMES:
        recipe = find(name)
        table.add_row(name, recipe.title, recipe.source)
    Console().print(table)


@main.command()
@click.argument("runs", nargs=-1, required=True, type=RUN)
@click.option("--out", default="loss.png", show_default=True, help="The picture's file.")
def plot(runs: tuple[pathlib.Path, ...], out: str) -> None:
    """Draw the curves of one or several RUNS into one picture.

    \b
    Example:
        toumei plot runs/a runs/b --out compared.png
    """
    from .train.plots import plot_history

    plot_history({_label(run, runs): history_of(run) for run in runs}, out)
    click.echo(f"wrote {out}")


def _label(run: pathlib.Path, runs: tuple[pathlib.Path, ...]) -> str:
    """Return the folder's name, or its whole path where two runs have the same name."""
    return str(run) if sum(r.name == run.name for r in runs) > 1 else run.name


@main.command()
@click.argument("runs", nargs=-1, type=RUN)
@click.option("--out", default="report.html", show_default=True, help="The page's file.")
def report(runs: tuple[pathlib.Path, ...], out: str) -> None:
    """Write one HTML page about RUNS: figures, curves, pictures, numbers.

    Without RUNS it is about all finished ones in the folder runs/. The page is a single file that
    needs no network: it can be mailed.

    \b
    Examples:
        toumei report
        toumei report runs/a runs/b --out compared.html
    """
    found = runs or tuple(sorted(p.parent for p in pathlib.Path("runs").glob("*/summary.json")))
    write_page(found, out)
    click.echo(f"wrote {out}: {len(found)} run{'s' * (len(found) != 1)}")


@main.command()
@click.argument("run", type=RUN)
@click.option("--data-dir", type=FOLDER, help="Where the full data sets are now.")
def evaluate(run: pathlib.Path, data_dir: str | None) -> None:
    """Measure the weights of a finished RUN on its test set."""
    name, options = open_run(run)
    finished = open_finished(run)
    opened = Run(find(name), run, _with_data(options, data_dir))
    opened.check_facts(finished.facts)
    opened.trainer.evaluated.load_state_dict(finished.model.state_dict())
    values = opened.trainer.evaluate(opened.test)
    click.echo(f"data  {opened.data.text}, test part")
    for metric, value in values.items():
        click.echo(f"{metric:12}  {value:#.4g}")


@main.command()
@click.argument("recipe", type=click.Choice(NAMES))
def summary(recipe: str) -> None:
    """Show the layers of RECIPE's model, their shapes and parameters."""
    from .viz.summary import summary as summarise

    found = find(recipe)
    facts = found.data(Options()).facts
    click.echo(str(summarise(found.model(facts), *found.example(facts))))


@main.command(name="inspect")
@click.argument("file", type=click.Path())
@click.option("--stats", is_flag=True, help="Also each tensor's minimum, mean, maximum and std.")
def inspect_(file: str, stats: bool) -> None:
    """Show the tensors in FILE: names, dtypes, shapes, sizes and metadata.

    FILE is a safetensors file, the index of several, or a folder: a run's, or of weights.

    \b
    Examples:
        toumei inspect runs/a
        toumei inspect model.safetensors.index.json --stats
    """
    from rich.console import Console

    from .viz.inspect import inspect

    console = Console(highlight=False)
    if not console.is_terminal:  # a line per tensor for the next program, however long
        console = Console(highlight=False, width=10_000)
    console.print(inspect(file, stats))


@main.group()
def data() -> None:
    """List the known data sets, or fetch one."""


@data.command(name="list")
@click.option("--data-dir", help="Where to look.  [default: $TOUMEI_DATA, else the cache]")
def data_list(data_dir: str | None) -> None:
    """List the known data sets and where they are."""
    from rich.console import Console
    from rich.filesize import decimal
    from rich.table import Table

    from .data.files import catalogue

    table = Table("name", "what it is", "download", "where")
    for row in catalogue(data_dir):
        table.add_row(row["name"], row["title"], decimal(row["bytes"]), row["folder"] or "–")
    Console().print(table)


@data.command(name="fetch")
@click.argument("name")
@click.option("--data-dir", help="Where to put it.  [default: $TOUMEI_DATA, else the cache]")
def data_fetch(name: str, data_dir: str | None) -> None:
    """Download the data set NAME; a broken download goes on where it was."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    from .data.fetch import fetch

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar:
        task = bar.add_task(name, total=None)
        folder = fetch(
            name, data_dir, lambda done, size: bar.update(task, completed=done, total=size)
        )
    click.echo(f"{name} is in {folder}")


if __name__ == "__main__":
    main()
