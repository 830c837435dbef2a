"""All schedules under PyTorch's name for the module: `from toumei.optim.lr_scheduler import …`."""

from __future__ import annotations

from . import cycle, plateau, schedule
from .cycle import *
from .plateau import *
from .schedule import *

__all__ = [*cycle.__all__, *plateau.__all__, *schedule.__all__]
