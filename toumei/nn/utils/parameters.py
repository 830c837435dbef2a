"""Helpers around parameters: clipping gradients, all parameters as one vector."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ...config import grad_mode
from ...errors import GradError, ModuleError
from ...ops import cat, zeros
from ...tensor import Tensor

__all__ = [
    "clip_grad_norm_",
    "clip_grad_value_",
    "get_total_norm",
    "parameters_to_vector",
    "vector_to_parameters",
]


def _gradients(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    several = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    return [p.grad for p in several if p.grad is not None]


def get_total_norm(
    tensors: Iterable[Tensor], norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> Tensor:
    """Return the norm of all elements of some tensors: (Σ |x|ᵖ)^(1/p), the maximum for p = ∞.

    Raises:
        GradError: it is NaN or infinite, and `error_if_nonfinite`.
    """
    parts = list(tensors)
    if not parts:
        return zeros(())
    p = float(norm_type)
    if p == math.inf:
        total = parts[0].abs().amax()
        for t in parts[1:]:
            total = total.maximum(t.abs().amax())
    elif p == 2:
        total = _sum([(t * t).sum() for t in parts]).sqrt()
    else:
        total = _sum([(t.abs() ** p).sum() for t in parts]) ** (1 / p)
    if error_if_nonfinite and not math.isfinite(total.item()):
        raise GradError(f"the norm of order {p} of the gradients is {total.item()}")
    return total


def _sum(values: list[Tensor]) -> Tensor:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Tensor:
    """Scale all gradients, in place, so that their norm together is at most `max_norm`.

    g ← g·min(1, max_norm/(norm + 10⁻⁶))

    Args:
        parameters: whose gradients; those without one are left out.
        max_norm: the largest norm that is let through.
        norm_type: the order of the norm; `inf` for the largest element.
        error_if_nonfinite: refuse a norm that is NaN or infinite.

    Returns:
        The norm before clipping.

    Raises:
        GradError: the norm isn't finite, and `error_if_nonfinite`.

    >>> import toumei as tm
    >>> p = tm.ones(4, requires_grad=True)
    >>> (3 * p).sum().backward()
    >>> tm.nn.utils.clip_grad_norm_(p, 1.0), p.grad.round(decimals=3)
    (tensor(6.), tensor([0.5, 0.5, 0.5, 0.5]))
    """
    gradients = _gradients(parameters)
    with grad_mode(False):
        total = get_total_norm(gradients, norm_type, error_if_nonfinite)
        factor = (float(max_norm) / (total + 1e-6)).clamp(max=1.0)
        for g in gradients:
            g.mul_(factor)
    return total


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Cut all elements of all gradients, in place, to within ±clip_value."""
    bound = float(clip_value)
    with grad_mode(False):
        for g in _gradients(parameters):
            g.clamp_(-bound, bound)


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """Return all elements of some tensors as one vector.  Shape: (…) … -> (n)"""
    return cat([p.reshape(-1) for p in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Copy consecutive elements of a vector into some tensors.  Shape: (n) -> (…) …

    Raises:
        ModuleError: the tensors have more or fewer elements than the vector.
    """
    targets = list(parameters)
    wanted = sum(p.numel() for p in targets)
    if vec.ndim != 1 or vec.numel() != wanted:
        raise ModuleError(
            f"vector_to_parameters: the parameters have {wanted} elements, "
            f"the vector has shape {list(vec.shape)}"
        )
    start = 0
    with grad_mode(False):
        for p in targets:
            p.copy_(vec[start : start + p.numel()].reshape(p.shape))
            start += p.numel()
