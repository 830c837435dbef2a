"""The command `toumei explain`: what a recipe's step becomes, and where its time goes."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from .cli_types import FILE, FOLDER, check_choice, preset_options
from .recipes import NAMES, find
from .recipes.recipe import Options

if TYPE_CHECKING:
    from .viz.explain import Explanation


@click.command()
@click.argument("recipe", type=click.Choice(NAMES))
@click.option("--inference", is_flag=True, help="A step of the validation instead of training.")
@click.option("--top", type=click.IntRange(1), default=15, show_default=True,
              help="How many kernels to show.")  # fmt: skip
@click.option("--passes", is_flag=True, help="Print the graph before and after each pass.")
@click.option("--groups", is_flag=True, help="Print what each kernel computes, as formulas.")
@click.option("--memory", is_flag=True, help="Print where each value lies in memory.")
@click.option("--kernel", type=click.IntRange(0), metavar="N", help="Which one --ir and "
              "--assembly are about: its number in the table.")  # fmt: skip
@click.option("--ir", is_flag=True, help="Print the kernel's LLVM IR.")
@click.option("--assembly", is_flag=True, help="Print the kernel's instructions.")
@click.option("--target", type=click.Choice(["avx512", "avx2", "generic", "aarch64"]),
              help="For which processor it is written.  [default: this one]")  # fmt: skip
@click.option("--picture", type=FILE, metavar="FILE", help="Draw where the time goes.")
@click.option("--threads", type=click.IntRange(1, 1024), help="How many run it.  [default: cores]")
@preset_options
@click.option("--data", "dataset", metavar="NAME", help="Which data, where a recipe has several.")
@click.option("--data-dir", type=FOLDER, help="Where the full data sets are.")
@click.option("--batch-size", type=click.IntRange(1), help="Samples per step.")
def explain(
    recipe: str,
    inference: bool,
    top: int,
    passes: bool,
    groups: bool,
    memory: bool,
    kernel: int | None,
    ir: bool,
    assembly: bool,
    target: str | None,
    picture: pathlib.Path | None,
    threads: int | None,
    **given: Any,
) -> None:
    """Show what a training step of RECIPE becomes when it is compiled.

    The step is compiled afresh and run on its data, with copies of the weights. The table has a
    line per kernel, the costliest first, and below it the line of the model that asked for it:

    \b
        #          its number, for --kernel
        time, %    median of several runs; ×4 stands for four such kernels together
        GFLOP/s    operations on floats, counted, per second
        GB/s       bytes read from memory and written to it, counted, per second
        peak       share of what the machine could do at most, which is measured first
        bound by   why it can't do more: arithmetic, the cache, or memory;
                   start: too small for any of these;  Python: no native kernel, NumPy runs

    \b
    Examples:
        toumei explain mlp
        toumei explain gpt --fast --picture gpt.png
        toumei explain mlp --passes            the graph, from pass to pass
        toumei explain mlp --kernel 0 --assembly

    docs/compiler.md follows a step on its way to machine code.
    """
    if (ir or assembly) is not (kernel is not None) or (target and kernel is None):
        raise click.UsageError(
            "--kernel N goes with --ir or --assembly, and they (and --target) with it"
        )
    found = find(recipe)
    check_choice(found, given["dataset"], given["preset"])
    from .recipes.explain import explain_recipe
    from .viz.explain import titled_graph

    with _threads(threads):
        explanation = explain_recipe(found, Options(**given), inference=inference)
    parts = [titled_graph(name, graph) for name, graph in explanation.passes] if passes else []
    if groups:
        parts.append(explanation.groups())
    if memory:
        parts.append(explanation.memory())
    if kernel is not None and ir:
        parts.append(explanation.ir(kernel, target))
    if kernel is not None and assembly:
        parts.append(explanation.assembly(kernel, target))
    if parts:
        click.echo("\n\n".join(parts))
    else:
        _show(explanation, top)
    if picture is not None:
        explanation.picture(picture)
        click.echo(f"wrote {picture}")


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Let so many threads run what is compiled within the block."""
    from .compiler.llvm.runtime import get_num_threads, set_num_threads

    before = get_num_threads()
    set_num_threads(count or before)
    try:
        yield
    finally:
        set_num_threads(before)


def _show(explanation: Explanation, top: int) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    console.print(explanation.rich(console.width, top), soft_wrap=True)
    console.print()
    console.print(
        "more: --passes, --groups, --memory, --kernel N --assembly, --picture FILE",
        soft_wrap=True,
    )
