"""Models, one self-contained file each."""

from __future__ import annotations

from .mlp import MLP

__all__ = ["MLP"]
