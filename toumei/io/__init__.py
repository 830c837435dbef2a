"""Files: tensors in safetensors files, written whole or not at all."""

from __future__ import annotations

from .safetensors import load, save

__all__ = ["load", "save"]
