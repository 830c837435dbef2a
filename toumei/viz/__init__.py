"""Ways to look into a model."""

from __future__ import annotations

from .attention_maps import attention_maps
from .explain import Explanation, explain
from .summary import Summary, summary

__all__ = ["Explanation", "Summary", "attention_maps", "explain", "summary"]
