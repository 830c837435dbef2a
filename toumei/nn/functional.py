"""Neural-network functions under PyTorch's names: `import toumei.nn.functional as F`.

They are defined in `toumei.ops`, one module per family; this is the list.
"""

from __future__ import annotations

from ..ops import (
    activation,
    attention,
    averages,
    conv,
    dense,
    distance,
    dropping,
    embeddings,
    folding,
    fractional,
    grid,
    labels,
    loss,
    loss_classes,
    loss_ctc,
    loss_margins,
    padding,
    pool,
    resize,
    rowwise,
    shuffling,
    smooth,
)
from ..ops.activation import *
from ..ops.attention import *
from ..ops.averages import *
from ..ops.conv import *
from ..ops.dense import *
from ..ops.distance import *
from ..ops.dropping import *
from ..ops.embeddings import *
from ..ops.folding import *
from ..ops.fractional import *
from ..ops.grid import *
from ..ops.labels import *
from ..ops.loss import *
from ..ops.loss_classes import *
from ..ops.loss_ctc import *
from ..ops.loss_margins import *
from ..ops.magnitude import pdist
from ..ops.norm import *
from ..ops.norm import __all__ as _norms  # `ops.norm` is the function
from ..ops.padding import *
from ..ops.pool import *
from ..ops.resize import *
from ..ops.rowwise import *
from ..ops.shuffling import *
from ..ops.smooth import *

__all__ = [
    *activation.__all__,
    *attention.__all__,
    *averages.__all__,
    *conv.__all__,
    *dense.__all__,
    *distance.__all__,
    *dropping.__all__,
    *embeddings.__all__,
    *folding.__all__,
    *fractional.__all__,
    *labels.__all__,
    *grid.__all__,
    *loss.__all__,
    *loss_classes.__all__,
    *loss_ctc.__all__,
    *loss_margins.__all__,
    *_norms,
    *padding.__all__,
    "pdist",
    *pool.__all__,
    *resize.__all__,
    *rowwise.__all__,
    *shuffling.__all__,
    *smooth.__all__,
]
