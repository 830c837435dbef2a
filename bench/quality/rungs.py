"""Who trains what: the modules of twins, by side and rung."""

from __future__ import annotations

from importlib import import_module

from .side import Setup, Side

#: The modules of bench/quality by side and rung; Toumei trains every recipe.
TWINS: dict[str, dict[str, str]] = {
    "torch": {
        "mlp": "torch_networks",
        "cnn": "torch_networks",
        "gpt": "torch_networks",
        "pinn": "torch_pinn",
        "resnet": "torch_images",
        "vit": "torch_images",
        "gan": "torch_generators",
        "wgan": "torch_generators",
        "vae": "torch_generators",
    },
    "jax": {
        "mlp": "jax_networks",
        "cnn": "jax_networks",
        "gpt": "jax_networks",
        "pinn": "jax_pinn",
    },
}
OURS = "toumei"
SIDES = (OURS, *TWINS)
RUNGS = tuple(TWINS["torch"])


def has(side: str, rung: str) -> bool:
    """Return whether a side has a twin of a rung.

    >>> has("toumei", "vae"), has("jax", "vae")
    (True, False)
    """
    return side == OURS or rung in TWINS[side]


def make(side: str, rung: str, setup: Setup) -> Side:
    """Return a side's twin of a rung; its framework is imported here."""
    name = "toumei_side" if side == OURS else TWINS[side][rung]
    twin: Side = import_module(f"bench.quality.{name}").make(rung, setup)
    return twin
