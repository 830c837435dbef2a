"""What several commands take: files and folders, and the name of a data set."""

from __future__ import annotations

import pathlib

import click

from .recipes.recipe import Recipe

FOLDER = click.Path(exists=True, file_okay=False, resolve_path=True)
NEW = click.Path(file_okay=False, path_type=pathlib.Path)
FILE = click.Path(dir_okay=False, path_type=pathlib.Path)
RUN = click.Path(exists=True, file_okay=False, path_type=pathlib.Path)


def check_dataset(recipe: Recipe, name: str | None) -> None:
    """Refuse a data set that a recipe doesn't have."""
    if name is None or name in recipe.datasets:
        return
    known = f"one of {', '.join(recipe.datasets)}" if recipe.datasets else "there is one set only"
    raise click.UsageError(f"{recipe.name} has no data {name!r}: {known}")
