"""Ways to look into a model."""

from __future__ import annotations

from .summary import Summary, summary

__all__ = ["Summary", "summary"]
