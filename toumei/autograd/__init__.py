"""Derivatives: of tensors (`grad`, `backward`), of functions (`functional`), of your own ops.

Whatever is computed here is made of ops, so with `create_graph=True` it can be differentiated
again, to any order.
"""

from __future__ import annotations

from . import functional
from .derivatives import backward, grad
from .function import Function, FunctionCtx, once_differentiable
from .functional import hessian, hvp, jacobian, jvp, vhp, vjp
from .gradcheck import check_grads, gradcheck, gradgradcheck
from .modes import (
    debug,
    detect_anomaly,
    enable_grad,
    inference_mode,
    is_anomaly_enabled,
    is_grad_enabled,
    no_grad,
    set_detect_anomaly,
    set_grad_enabled,
)

__all__ = [
    "Function",
    "FunctionCtx",
    "backward",
    "check_grads",
    "debug",
    "detect_anomaly",
    "enable_grad",
    "functional",
    "grad",
    "gradcheck",
    "gradgradcheck",
    "hessian",
    "hvp",
    "inference_mode",
    "is_anomaly_enabled",
    "is_grad_enabled",
    "jacobian",
    "jvp",
    "no_grad",
    "once_differentiable",
    "set_detect_anomaly",
    "set_grad_enabled",
    "vhp",
    "vjp",
]
