"""The ops, one file per family; see `toumei.op` for what an op is.

What stands here is the public face `toumei.X`; neural-network functions are in `nn.functional`.
"""

from __future__ import annotations

from . import (
    arithmetic,
    choice,
    combine,
    copies,
    creation,
    elementwise,
    indexing,
    linalg,
    logic,
    native,
    parts,
    random,
    rearrange,
    reduction,
    rounding,
    scan,
    scattering,
    shape,
    sorting,
    special,
    trigonometry,
)
from .activation import celu, prelu, relu, rrelu, selu, threshold
from .arithmetic import *
from .choice import *
from .combine import *
from .copies import *
from .creation import *
from .dense import bilinear, channel_shuffle, pixel_shuffle, pixel_unshuffle
from .distance import cosine_similarity, pairwise_distance
from .elementwise import *
from .indexing import *
from .linalg import *
from .logic import *
from .native import *
from .norm import (
    batch_norm,
    group_norm,
    instance_norm,
    layer_norm,
    native_batch_norm,
    native_group_norm,
    native_layer_norm,
    rms_norm,
)
from .parts import *
from .random import *
from .rearrange import *
from .reduction import *
from .rounding import *
from .rowwise import log_softmax, softmax
from .scan import *
from .scattering import *
from .shape import *
from .sorting import *
from .special import *
from .trigonometry import *

__all__ = [
    "batch_norm",
    "bilinear",
    "celu",
    "channel_shuffle",
    "cosine_similarity",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "log_softmax",
    "native_batch_norm",
    "native_group_norm",
    "native_layer_norm",
    "pairwise_distance",
    "pixel_shuffle",
    "pixel_unshuffle",
    "prelu",
    "relu",
    "rms_norm",
    "rrelu",
    "selu",
    "softmax",
    "threshold",
    *arithmetic.__all__,
    *choice.__all__,
    *combine.__all__,
    *copies.__all__,
    *creation.__all__,
    *elementwise.__all__,
    *indexing.__all__,
    *linalg.__all__,
    *logic.__all__,
    *native.__all__,
    *parts.__all__,
    *random.__all__,
    *rearrange.__all__,
    *reduction.__all__,
    *rounding.__all__,
    *scan.__all__,
    *scattering.__all__,
    *shape.__all__,
    *sorting.__all__,
    *special.__all__,
    *trigonometry.__all__,
]
