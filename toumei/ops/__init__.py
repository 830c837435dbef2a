"""The ops, one file per family; see `toumei.op` for what an op is.

What stands here is the public face `toumei.X`; neural-network functions are in `nn.functional`.
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
    elementwise,
    inverses,
    kinds,
    leastsquares,
    linalg,
    logic,
    magnitude,
    native,
    neural,
    parts,
    pivoting,
    random,
    rearrange,
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
from .elementwise import *
from .inverses import *
from .kinds import *
from .leastsquares import *
from .linalg import *
from .logic import *
from .magnitude import *
from .native import *
from .neural import *
from .parts import *
from .pivoting import *
from .random import *
from .rearrange import *
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
    *elementwise.__all__,
    *inverses.__all__,
    *kinds.__all__,
    *leastsquares.__all__,
    *linalg.__all__,
    *logic.__all__,
    *magnitude.__all__,
    *native.__all__,
    *neural.__all__,
    *parts.__all__,
    *pivoting.__all__,
    *random.__all__,
    *rearrange.__all__,
    *reduction.__all__,
    *rounding.__all__,
    *scan.__all__,
    *scattering.__all__,
    *selection.__all__,
    *shape.__all__,
    *sorting.__all__,
    *special.__all__,
    *triangular.__all__,
    *statistics.__all__,
    *trigonometry.__all__,
]
