"""Ways to look into a model."""

from __future__ import annotations

from .attention_maps import attention_maps
from .summary import Summary, summary

__all__ = ["Summary", "attention_maps", "summary"]
