"""Layers, losses and what they are made of, under PyTorch's names."""

from __future__ import annotations

from ..tensor import Buffer, Parameter
from . import (
    activation,
    container,
    conv,
    dropout,
    embedding,
    functional,
    init,
    linear,
    loss,
    norm,
    pooling,
    utils,
)
from .activation import *
from .container import *
from .conv import *
from .dropout import *
from .embedding import *
from .linear import *
from .loss import *
from .module import Module
from .norm import *
from .pooling import *

__all__ = [
    "Buffer",
    "Module",
    "Parameter",
    "functional",
    "init",
    "utils",
    *activation.__all__,
    *container.__all__,
    *conv.__all__,
    *dropout.__all__,
    *embedding.__all__,
    *linear.__all__,
    *loss.__all__,
    *norm.__all__,
    *pooling.__all__,
]
