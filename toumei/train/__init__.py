"""Training: the loop, its history, callbacks, metrics and pictures."""

from __future__ import annotations

from .callbacks import (
    BestModel,
    Callback,
    Checkpoint,
    EarlyStopping,
    HistoryLog,
    LossPlot,
    Schedule,
)
from .history import History
from .lr_finder import LRCurve, find_lr
from .metrics import absolute_error, accuracy, confusion_matrix, squared_error, top_k_accuracy
from .plots import plot_history
from .progress import Progress
from .tensorboard import TensorBoard
from .trainer import Trainer

__all__ = [
    "BestModel",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "History",
    "HistoryLog",
    "LRCurve",
    "LossPlot",
    "Progress",
    "Schedule",
    "TensorBoard",
    "Trainer",
    "absolute_error",
    "accuracy",
    "confusion_matrix",
    "find_lr",
    "plot_history",
    "squared_error",
    "top_k_accuracy",
]
