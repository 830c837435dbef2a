"""Helpers around parameters and sequences, under PyTorch's names."""

from __future__ import annotations

from . import parameters, rnn
from .parameters import *

__all__ = ["rnn", *parameters.__all__]
