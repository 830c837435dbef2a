"""The ops, one file per family; see `toumei.op` for what an op is.

What stands here is the public face `toumei.X`; neural-network functions are in `nn.functional`.
"""

from __future__ import annotations

from . import arithmetic, creation, elementwise, indexing, linalg, reduction, shape
from .arithmetic import *
from .creation import *
from .elementwise import *
from .indexing import *
from .linalg import *
from .reduction import *
from .shape import *

__all__ = [
    *arithmetic.__all__,
    *creation.__all__,
    *elementwise.__all__,
    *indexing.__all__,
    *linalg.__all__,
    *reduction.__all__,
    *shape.__all__,
]
