"""Models, one self-contained file each."""

from __future__ import annotations

from .bert import BERT, MaskedLM
from .mlp import MLP

__all__ = ["BERT", "MLP", "MaskedLM"]
