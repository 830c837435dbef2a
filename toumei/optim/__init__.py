"""Optimisers, learning-rate schedules and gradient clipping."""

from __future__ import annotations

from . import clip, lr_scheduler, swa_utils
from .adadelta import Adadelta
from .adagrad import Adagrad
from .adam import Adam, Adamax, AdamW, NAdam, RAdam
from .clip import clip_grad_norm_, clip_grad_value_
from .lbfgs import LBFGS
from .lr_scheduler import *
from .optimizer import Group, Optimizer
from .rmsprop import RMSprop
from .sgd import SGD

__all__ = [
    "LBFGS",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Group",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "clip",
    "clip_grad_norm_",
    "clip_grad_value_",
    "lr_scheduler",
    "swa_utils",
    *lr_scheduler.__all__,
]
