"""Neural-network functions under PyTorch's names: `import toumei.nn.functional as F`.

They are defined in `toumei.ops`, one module per family; this is the list.
"""

from __future__ import annotations

from ..ops import (
    activation,
    attention,
    conv,
    dense,
    distance,
    dropping,
    folding,
    gelu as _gelu,
    loss,
    loss_classes,
    loss_pairs,
    norm,
    rowwise,
)
from ..ops.activation import *
from ..ops.attention import *
from ..ops.conv import *
from ..ops.dense import *
from ..ops.distance import *
from ..ops.dropping import *
from ..ops.folding import *
from ..ops.gelu import *
from ..ops.loss import *
from ..ops.loss_classes import *
from ..ops.loss_pairs import *
from ..ops.norm import *
from ..ops.rowwise import *

__all__ = [
    *activation.__all__,
    *attention.__all__,
    *conv.__all__,
    *dense.__all__,
    *distance.__all__,
    *dropping.__all__,
    *folding.__all__,
    *_gelu.__all__,
    *loss.__all__,
    *loss_classes.__all__,
    *loss_pairs.__all__,
    *norm.__all__,
    *rowwise.__all__,
]
