"""Layers, losses and what they are made of, under PyTorch's names."""

from __future__ import annotations

from ..tensor import Buffer, Parameter
from . import (
    activation,
    attention,
    cells,
    container,
    conv,
    distance,
    dropout,
    embedding,
    functional,
    init,
    lazy,
    linear,
    loss,
    norm,
    padding,
    pooling,
    position,
    recurrent,
    resizing,
    transformer,
    utils,
)
from .activation import *
from .attention import *
from .cells import *
from .container import *
from .conv import *
from .distance import *
from .dropout import *
from .embedding import *
from .lazy import *
from .linear import *
from .loss import *
from .module import Module
from .norm import *
from .padding import *
from .pooling import *
from .position import *
from .recurrent import *
from .resizing import *
from .transformer import *

__all__ = [
    "Buffer",
    "Module",
    "Parameter",
    "functional",
    "init",
    "utils",
    *activation.__all__,
    *attention.__all__,
    *cells.__all__,
    *container.__all__,
    *conv.__all__,
    *distance.__all__,
    *dropout.__all__,
    *embedding.__all__,
    *lazy.__all__,
    *linear.__all__,
    *loss.__all__,
    *norm.__all__,
    *padding.__all__,
    *pooling.__all__,
    *position.__all__,
    *recurrent.__all__,
    *resizing.__all__,
    *transformer.__all__,
]
