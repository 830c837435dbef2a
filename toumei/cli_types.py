"""What several commands take: files and folders, the name of a data set or a preset."""

from __future__ import annotations

import pathlib
from typing import Any

import click

from .recipes.recipe import Recipe

FOLDER = click.Path(exists=True, file_okay=False, resolve_path=True)
NEW = click.Path(file_okay=False, path_type=pathlib.Path)
FILE = click.Path(dir_okay=False, path_type=pathlib.Path)
RUN = click.Path(exists=True, file_okay=False, path_type=pathlib.Path)


def preset_options(command: Any) -> Any:
    """Let a command take --preset NAME, and --fast for the one that every recipe has."""
    named = click.option("--preset", metavar="NAME", default="default", show_default=True,
                         help='Budget and model: "fast", or a recipe\'s other ones.')  # fmt: skip
    fast = click.option("--fast", "preset", flag_value="fast", type=str,
                        help="The preset of about a minute that visibly learns.")  # fmt: skip
    return fast(named(command))


def check_choice(recipe: Recipe, name: str | None, preset: str) -> None:
    """Refuse a data set or a preset that a recipe doesn't have."""
    if preset not in recipe.presets:
        known = ", ".join(recipe.presets)
        raise click.UsageError(f"{recipe.name} has no preset {preset!r}: one of {known}")
    if name is None or name in recipe.datasets:
        return
    known = f"one of {', '.join(recipe.datasets)}" if recipe.datasets else "there is one set only"
    raise click.UsageError(f"{recipe.name} has no data {name!r}: {known}")
