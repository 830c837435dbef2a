"""Functions that PyTorch has at its top level for the parts of neural-network functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = ["native_dropout_backward"]


def native_dropout_backward(grad_output: Tensor, mask: Tensor, scale: float) -> Tensor:
    """The gradient of dropout: grad_output · mask · scale.  Shape: (…), (…) -> (…)"""
    return grad_output * mask * scale
