"""Recipes: data, model, budget and figure to reach, one file per rung of the ladder."""

from __future__ import annotations

from importlib import import_module

from ..errors import ToumeiError
from .recipe import Recipe

NAMES = (
    "mlp",
    "cnn",
    "resnet",
    "pinn",
    "lstm",
    "encoder",
    "gpt",
    "translate",
    "vit",
    "gan",
    "wgan",
    "vae",
)


def find(name: str) -> Recipe:
    """Return the recipe of a name.

    Raises:
        ToumeiError: there is none.

    >>> find("mlp").title
    'MLP on MNIST'
    """
    if name not in NAMES:
        raise ToumeiError(f"there is no recipe {name!r}; there are: {', '.join(NAMES)}")
    recipe: Recipe = import_module(f".{name}", __name__).RECIPE
    return recipe


__all__ = ["NAMES", "Recipe", "find"]
