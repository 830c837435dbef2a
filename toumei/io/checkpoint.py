"""Checkpoints: the whole state of a training run in one file, and the way back.

A checkpoint is what `tm.save` writes (safetensors with JSON metadata), whole or not at all.
Beside the trainer's state it names the circumstances under which the numbers are bit for bit the
same; a change of them is warned of when a run is resumed.
"""

from __future__ import annotations

import os
import platform
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import LoadError
from .safetensors import load, save

FORMAT = "toumei-checkpoint-1"


def circumstances() -> dict[str, Any]:
    """Return what the last bits of a result may depend on, besides the program itself."""
    from .. import __version__

    return {
        "toumei": __version__,
        "numpy": np.__version__,
        "threads": os.environ.get("OMP_NUM_THREADS") or os.cpu_count(),
        "machine": platform.machine(),
        "backend": "numpy",
    }


def save_checkpoint(path: str | os.PathLike[str], state: Mapping[str, Any], **more: Any) -> None:
    """Write a state, and further JSON-able facts by name, to one file.

    Raises:
        SaveError: it can't be written; an older checkpoint of that name is untouched.
    """
    save({"format": FORMAT, "circumstances": circumstances(), "state": dict(state), **more}, path)


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a checkpoint; warn if it was written under other circumstances.

    Raises:
        LoadError: there is no such file, it is damaged, or it is no checkpoint.
    """
    content = load(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise LoadError(f"{os.fspath(path)} is no checkpoint of this version of Toumei")
    now = circumstances()
    for name, before in content["circumstances"].items():
        if before != now.get(name):
            warnings.warn(
                f"{os.fspath(path)} was written with {name} {before}, now it is {now.get(name)}: "
                "the resumed run will not be the same to the last bit",
                stacklevel=2,
            )
    return content
