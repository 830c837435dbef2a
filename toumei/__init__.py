"""Toumei (透明, "transparent"): a deep-learning framework that a person can read end to end.

import toumei as tm
from toumei import nn
import toumei.nn.functional as F
"""

from __future__ import annotations

import importlib
from math import e, inf, nan, pi
from typing import TYPE_CHECKING, Any

from . import autograd, errors, linalg, testing
from .autograd import (
    debug,
    enable_grad,
    inference_mode,
    is_grad_enabled,
    no_grad,
    set_grad_enabled,
)
from .config import bool_ as bool
from .config import (
    float32,
    float64,
    get_default_dtype,
    int32,
    int64,
    set_default_dtype,
    uint8,
)
from .config import float32 as float
from .config import float64 as double
from .config import int32 as int
from .config import int64 as long
from .device import (
    Generator,
    default_generator,
    device,
    get_rng_state,
    initial_seed,
    manual_seed,
    seed,
    set_rng_state,
)
from .eager import set_native_eager
from .ops import *
from .ops import __all__ as _ops
from .tensor import Size, Tensor

if TYPE_CHECKING:
    from . import data, io, masked, models, nn, optim, recipes, signal, special, train, viz
    from .compiler import get_num_threads, set_num_threads
    from .compiler.compiled import compile
    from .io import load, save
    from .nn.module import untracked
    from .viz.explain import explain
    from .viz.summary import summary

__version__ = "0.1.0"

# What `import toumei` leaves unread until it is asked for, and where it is.
_LAZY = {
    "compile": "compiler",
    "data": "",
    "explain": "viz",
    "get_num_threads": "compiler",
    "io": "",
    "load": "io",
    "masked": "",
    "models": "",
    "nn": "",
    "optim": "",
    "recipes": "",
    "save": "io",
    "set_num_threads": "compiler",
    "signal": "",
    "special": "",
    "summary": "viz",
    "train": "",
    "untracked": "nn.module",
    "viz": "",
}

# Names of memory formats, for `memory_format=`.
preserve_format = "preserve_format"
contiguous_format = "contiguous_format"
channels_last = "channels_last"


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'toumei' has no attribute {name!r}")
    home = _LAZY[name]
    module = importlib.import_module(f".{home or name}", __name__)
    value = getattr(module, name) if home else module
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


__all__ = [
    "Generator",
    "Size",
    "Tensor",
    "autograd",
    "bool",
    "channels_last",
    "compile",
    "contiguous_format",
    "data",
    "debug",
    "default_generator",
    "device",
    "double",
    "e",
    "enable_grad",
    "errors",
    "explain",
    "float",
    "float32",
    "float64",
    "get_default_dtype",
    "get_num_threads",
    "get_rng_state",
    "inference_mode",
    "inf",
    "initial_seed",
    "int",
    "int32",
    "int64",
    "io",
    "is_grad_enabled",
    "linalg",
    "load",
    "long",
    "manual_seed",
    "masked",
    "models",
    "nan",
    "nn",
    "no_grad",
    "optim",
    "pi",
    "preserve_format",
    "recipes",
    "save",
    "seed",
    "set_default_dtype",
    "set_grad_enabled",
    "set_native_eager",
    "set_num_threads",
    "set_rng_state",
    "signal",
    "special",
    "summary",
    "testing",
    "train",
    "uint8",
    "untracked",
    "viz",
    *_ops,
]
