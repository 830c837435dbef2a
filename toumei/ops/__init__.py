"""The ops, one file per family; see `toumei.op` for what an op is.

What stands here is the public face `toumei.X`; neural-network functions are in `nn.functional`.
A file holds the ops of its family and, below them, the functions that people call.

    one number at a time   elementwise trigonometry special bessel rounding dtypes
    two or three           arithmetic logic choice
    along dimensions       reduction statistics sorting scan counting calculus
    shape, memory          creation shape parts (views)  rearrange combine copies
    x[i]                   indexing selection scattering
    matrices               linalg (products)  contraction (einsum)  decompositions pivoting
                           indefinite triangular inverses leastsquares magnitude (norms)  distance
    random numbers         random (functions)  draws (ops)  philox (bits)  dropping (dropout)
    images                 conv (functions)  convolution (ops)  pool (functions)  pooling (ops)
                           fractional averages folding
                           padding resize grid shuffling;  below them: windows axismap
    layers                 dense embeddings attention activation smooth rowwise (softmax)
                           norm (functions)  standardize (their op)  blocks (pieces for the cache)
    sequences              recurrent (functions)  loop_rnn loop_lstm loop_gru (ops)  timeloop
    losses                 loss loss_classes loss_margins loss_ctc labels
    PyTorch's other names  neural
"""

from __future__ import annotations

from . import (
    arithmetic,
    bessel,
    calculus,
    choice,
    combine,
    contraction,
    copies,
    counting,
    creation,
    decompositions,
    dtypes,
    elementwise,
    inverses,
    leastsquares,
    linalg,
    logic,
    magnitude,
    neural,
    parts,
    pivoting,
    random,
    rearrange,
    recurrent,
    reduction,
    rounding,
    scan,
    scattering,
    selection,
    shape,
    sorting,
    special,
    statistics,
    triangular,
    trigonometry,
)
from .arithmetic import *
from .bessel import *
from .calculus import *
from .choice import *
from .combine import *
from .contraction import *
from .copies import *
from .counting import *
from .creation import *
from .decompositions import *
from .dtypes import *
from .elementwise import *
from .inverses import *
from .leastsquares import *
from .linalg import *
from .logic import *
from .magnitude import *
from .neural import *
from .parts import *
from .pivoting import *
from .random import *
from .rearrange import *
from .recurrent import *
from .reduction import *
from .rounding import *
from .scan import *
from .scattering import *
from .selection import *
from .shape import *
from .sorting import *
from .special import *
from .statistics import *
from .triangular import *
from .trigonometry import *

__all__ = [
    *arithmetic.__all__,
    *bessel.__all__,
    *calculus.__all__,
    *choice.__all__,
    *combine.__all__,
    *contraction.__all__,
    *copies.__all__,
    *counting.__all__,
    *creation.__all__,
    *decompositions.__all__,
    *dtypes.__all__,
    *elementwise.__all__,
    *inverses.__all__,
    *leastsquares.__all__,
    *linalg.__all__,
    *logic.__all__,
    *magnitude.__all__,
    *neural.__all__,
    *parts.__all__,
    *pivoting.__all__,
    *random.__all__,
    *rearrange.__all__,
    *recurrent.__all__,
    *reduction.__all__,
    *rounding.__all__,
    *scan.__all__,
    *scattering.__all__,
    *selection.__all__,
    *shape.__all__,
    *sorting.__all__,
    *special.__all__,
    *statistics.__all__,
    *triangular.__all__,
    *trigonometry.__all__,
]
