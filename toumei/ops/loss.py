"""Losses that compare an input with a target, element by element."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import OpError
from ..op import Array, Case, Op, Refused, RefusedType, Spec, op
from ..tape import apply, spec_of
from ..traced import known
from .activation import Softplus, logsigmoid
from .elementwise import need_floats

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "gaussian_nll_loss",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "mse_loss",
    "multilabel_soft_margin_loss",
    "poisson_nll_loss",
    "smooth_l1_loss",
    "soft_margin_loss",
]


# --- what all losses share -----------------------------------------------------------------------


def reduction_of(name: str, reduction: str, size_average: Any = None, reduce: Any = None) -> None:
    """Refuse an unknown reduction and PyTorch's two arguments of before 2018.

    Raises:
        OpError: always in these cases.
    """
    if size_average is not None or reduce is not None:
        raise OpError(
            f"{name}: size_average and reduce are no longer supported: use reduction='none', "
            "'mean' or 'sum'"
        )
    if reduction not in ("none", "mean", "sum"):
        raise OpError(f"{name}: reduction must be 'none', 'mean' or 'sum', not {reduction!r}")


def reduced(losses: Tensor, reduction: str) -> Tensor:
    """Return the mean or the sum of the losses, or (for "none") the losses."""
    if reduction == "mean":
        return losses.mean()
    return losses.sum() if reduction == "sum" else losses


def same_shape(
    name: str, a: Tensor, b: Tensor, first: str = "input", second: str = "target"
) -> None:
    """Refuse two shapes that differ: broadcasting in a loss is nearly always a mistake.

    Raises:
        OpError: they differ; the message proposes a cure.
    """
    if a._data.shape != b._data.shape:
        raise OpError(
            f"{name}({first}: {spec_of(a)}, {second}: {spec_of(b)}): shapes differ; losses don't "
            f"broadcast: {_cure(tuple(a.shape), tuple(b.shape), first, second)}"
        )


def _cure(a: tuple[int, ...], b: tuple[int, ...], first: str, second: str) -> str:
    for longer, shorter, name in ((a, b, first), (b, a, second)):
        for d in range(len(longer) if len(longer) == len(shorter) + 1 else 0):
            if longer[d] == 1 and longer[:d] + longer[d + 1 :] == shorter:
                return f"use {name}.squeeze({d})"
    if math.prod(a) == math.prod(b):
        return f"if the order of their elements is the same, use {second}.view_as({first})"
    try:
        whole = np.broadcast_shapes(a, b)
    except ValueError:
        return f"{math.prod(a)} elements can't be compared with {math.prod(b)}"
    name = second if whole == a else first if whole == b else "both"
    return f"if each is meant for several, use {name}.expand{whole}"


def _times(name: str, losses: Tensor, weight: Tensor | None) -> Tensor:
    """Multiply losses by a weight that may be smaller, but not larger."""
    if weight is None:
        return losses
    try:
        fits = np.broadcast_shapes(losses.shape, weight.shape) == tuple(losses.shape)
    except ValueError:
        fits = False
    if not fits:
        raise OpError(
            f"{name}: a weight of shape {tuple(weight.shape)} doesn't fit {spec_of(losses)}"
        )
    return losses * weight


def _weighted_mean(name: str, losses: Tensor, weight: Tensor | None, reduction: str) -> Tensor:
    """Reduce losses; with a weight, the mean is Σ w·loss / Σ w."""
    if weight is None:
        return reduced(losses, reduction)
    same_shape(name, losses, weight, "input", "weight")
    losses = losses * weight
    return losses.sum() / weight.sum() if reduction == "mean" else reduced(losses, reduction)


# --- regression ----------------------------------------------------------------------------------


def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """Squared error: (input − target)².  Shape: (…), (…) -> (); (…) with reduction "none"

    Raises:
        OpError: the shapes differ, or the reduction is unknown.

    >>> import toumei as tm
    >>> tm.nn.functional.mse_loss(tm.tensor([1.0, 2.0]), tm.tensor([1.0, 4.0]))
    tensor(2.)
    """
    reduction_of("mse_loss", reduction, size_average, reduce)
    same_shape("mse_loss", input, target)
    return _weighted_mean("mse_loss", (input - target).square(), weight, reduction)


def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """Absolute error: |input − target|.  Shape: (…), (…) -> (); (…) with reduction "none"

    Raises:
        OpError: the shapes differ, or the reduction is unknown.
    """
    reduction_of("l1_loss", reduction, size_average, reduce)
    same_shape("l1_loss", input, target)
    return _weighted_mean("l1_loss", (input - target).abs(), weight, reduction)


def _huber(difference: Tensor, delta: float) -> Tensor:
    """d²/2 up to |d| = δ, then δ·(|d| − δ/2): both are c·(d − c/2) with c = d cut off at ±δ."""
    cut = difference.clamp(-delta, delta)
    return cut * (difference - cut * 0.5)


def huber_loss(
    input: Tensor,
    target: Tensor,
    reduction: str = "mean",
    delta: float = 1.0,
    weight: Tensor | None = None,
) -> Tensor:
    """d²/2 where |d| ≤ δ, else δ·(|d| − δ/2), d = input − target.  Shape: (…), (…) -> ()

    Raises:
        OpError: the shapes differ, the reduction is unknown, or delta isn't positive.

    Paper: Huber 1964.
    """
    reduction_of("huber_loss", reduction)
    same_shape("huber_loss", input, target)
    if delta <= 0:
        raise OpError(f"huber_loss: delta must be positive, not {delta}")
    return _weighted_mean("huber_loss", _huber(input - target, delta), weight, reduction)


def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """d²/(2β) where |d| < β, else |d| − β/2, d = input − target.  Shape: (…), (…) -> ()

    Raises:
        OpError: the shapes differ, the reduction is unknown, or beta is negative.
    """
    reduction_of("smooth_l1_loss", reduction, size_average, reduce)
    same_shape("smooth_l1_loss", input, target)
    if beta < 0:
        raise OpError(f"smooth_l1_loss: beta must be at least 0, not {beta}")
    difference = input - target
    return reduced(_huber(difference, beta) / beta if beta else difference.abs(), reduction)


# --- yes or no -----------------------------------------------------------------------------------


class PairLoss(Op):
    """A loss of two tensors of one shape, element by element."""

    def check(self, x: Array, target: Array) -> None:
        need_floats(x)
        if target.dtype != x.dtype:
            raise RefusedType(f"the target must be {x.dtype} as x is, not {target.dtype}")
        if x.shape != target.shape:
            raise Refused("shapes differ; losses don't broadcast")

    def infer(self, x: Spec, target: Spec) -> Spec:
        self.check(x, target)  # type: ignore[arg-type]
        return Spec(x.shape, x.dtype)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for shape in ((), (0,), (3, 4)):
            yield Case(cls(), (rng.uniform(0.1, 0.9, shape), rng.uniform(0.1, 0.9, shape)))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls(), (np.ones((3, 1)) / 2, np.ones(3))), "losses don't broadcast"


@op
class LogitsLoss(PairLoss):
    """y = max(x, 0) − x·t + ln(1 + e^−|x|);   ∂x = σ(x) − t, ∂t = −x"""

    name: ClassVar[str] = "binary_cross_entropy_with_logits"

    def forward(self, xp: Any, x: Array, target: Array) -> Array:
        y = xp.log1p(xp.exp(-xp.abs(x)))
        return y + (xp.maximum(x, 0) - x * target)

    def lower(self, b: Any, x: Any, target: Any) -> Any:
        y = b.log1p(b.exp(b.neg(b.abs(x))))
        return b.add(y, b.sub(b.maximum(x, 0), b.mul(x, target)))

    def backward_x(self, gy: Tensor, x: Tensor, target: Tensor) -> Tensor:
        return gy * (x.sigmoid() - target)

    def backward_target(self, gy: Tensor, x: Tensor) -> Tensor:
        return -gy * x


@op
class ProbabilityLoss(PairLoss):
    """y = −t·ln x − (1 − t)·ln(1 − x), logarithms at least −100;   ∂x = (x − t)/(x·(1 − x))"""

    name: ClassVar[str] = "binary_cross_entropy"

    def check(self, x: Array, target: Array) -> None:
        super().check(x, target)
        if isinstance(x, np.ndarray) and x.size and not (x.min() >= 0 and x.max() <= 1):
            raise Refused(
                f"the input must hold probabilities, 0 to 1, but reaches from {x.min():.4g} to "
                f"{x.max():.4g}: apply sigmoid, or use binary_cross_entropy_with_logits"
            )

    def forward(self, xp: Any, x: Array, target: Array) -> Array:
        yes, no = xp.maximum(xp.log(x), -100), xp.maximum(xp.log1p(-x), -100)
        return (target - 1) * no - target * yes

    def backward_x(self, gy: Tensor, x: Tensor, target: Tensor) -> Tensor:
        return gy * ((x - target) / ((1 - x) * x).clamp(min=1e-12))

    def backward_target(self, gy: Tensor, x: Tensor) -> Tensor:
        return gy * ((1 - x).log().clamp(min=-100) - x.log().clamp(min=-100))


def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
) -> Tensor:
    """−t·ln x − (1 − t)·ln(1 − x) of probabilities x.  Shape: (…), (…) -> ()

    Raises:
        OpError: the shapes differ, or the input leaves 0 to 1.
    """
    name = "binary_cross_entropy"
    reduction_of(name, reduction, size_average, reduce)
    same_shape(name, input, target)
    return reduced(_times(name, apply(ProbabilityLoss(), input, target), weight), reduction)


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """−p·t·ln σ(x) − (1 − t)·ln(1 − σ(x)) of logits x, without overflow.  Shape: (…), (…) -> ()

    Args:
        weight: multiplies the losses; broadcast to them.
        pos_weight: p, which multiplies the positive term; broadcast to the target.

    Raises:
        OpError: the shapes differ, or the reduction is unknown.

    >>> import toumei as tm
    >>> tm.nn.functional.binary_cross_entropy_with_logits(tm.zeros(2), tm.tensor([0.0, 1.0]))
    tensor(0.6931)
    """
    name = "binary_cross_entropy_with_logits"
    reduction_of(name, reduction, size_average, reduce)
    same_shape(name, input, target)
    if pos_weight is None:
        losses = apply(LogitsLoss(), input, target)
    else:
        more = 1 + _times(name, target, pos_weight - 1)
        losses = (1 - target) * input + more * apply(Softplus(1.0, math.inf), -input)
    return reduced(_times(name, losses, weight), reduction)


def soft_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
) -> Tensor:
    """ln(1 + e^(−t·x)) for targets 1 and −1.  Shape: (…), (…) -> ()

    Raises:
        OpError: the shapes differ, or the reduction is unknown.
    """
    reduction_of("soft_margin_loss", reduction, size_average, reduce)
    same_shape("soft_margin_loss", input, target)
    return reduced(apply(Softplus(1.0, math.inf), -target * input), reduction)


def multilabel_soft_margin_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
) -> Tensor:
    """The mean over the classes of −t·ln σ(x) − (1 − t)·ln σ(−x).  Shape: (…, c), (…, c) -> ()

    Raises:
        OpError: the shapes differ, or the reduction is unknown.
    """
    name = "multilabel_soft_margin_loss"
    reduction_of(name, reduction, size_average, reduce)
    same_shape(name, input, target)
    losses = -(target * logsigmoid(input) + (1 - target) * logsigmoid(-input))
    return reduced(_times(name, losses, weight).mean(-1), reduction)


# --- distributions -------------------------------------------------------------------------------


def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """Kullback-Leibler divergence t·(ln t − x), with x a log probability.  Shape: (…), (…) -> ()

    Args:
        reduction: also "batchmean": the sum divided by the size of dim 0, which is the divergence.
        log_target: whether the target holds logarithms too.

    Raises:
        OpError: the shapes differ, or the reduction is unknown.
    """
    if reduction != "batchmean" or size_average is not None or reduce is not None:
        reduction_of("kl_div", reduction, size_average, reduce)
    same_shape("kl_div", input, target)
    if log_target:
        losses = target.exp() * (target - input)
    else:
        losses = target.xlogy(target) - target * input
    if reduction == "batchmean":
        return losses.sum() / (input.shape[0] if input.ndim else 1)
    return reduced(losses, reduction)


def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    size_average: None = None,
    eps: float = 1e-8,
    reduce: None = None,
    reduction: str = "mean",
) -> Tensor:
    """eˣ − t·x, or x − t·ln(x + eps) without `log_input`.  Shape: (…), (…) -> ()

    Args:
        full: add Stirling's t·ln t − t + ln(2πt)/2 for ln t! where t > 1.

    Raises:
        OpError: the shapes differ, or the reduction is unknown.
    """
    reduction_of("poisson_nll_loss", reduction, size_average, reduce)
    same_shape("poisson_nll_loss", input, target)
    losses = input.exp() - target * input if log_input else input - target * (input + eps).log()
    if full:
        stirling = target * target.log() - target + 0.5 * (2 * math.pi * target).log()
        losses = losses + stirling.masked_fill(target <= 1, 0)
    return reduced(losses, reduction)


def gaussian_nll_loss(
    input: Tensor,
    target: Tensor,
    var: Tensor | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """(ln v + (input − target)²/v)/2 with v = max(var, eps).  Shape: (…), (…), var -> ()

    Args:
        var: as the input, or without its last dimension, or with size 1 in one dimension, or one
            number; the gradient passes through the maximum as if it weren't there.
        full: add ln(2π)/2.

    Raises:
        OpError: the shapes don't fit, the variance is negative, or the reduction is unknown.
    """
    name = "gaussian_nll_loss"
    reduction_of(name, reduction)
    same_shape(name, input, target)
    v = _variance(name, input, var)
    v = v + (v.detach().clamp(min=eps) - v.detach())
    losses = 0.5 * (v.log() + (input - target).square() / v)
    return reduced(losses + 0.5 * math.log(2 * math.pi) if full else losses, reduction)


def _variance(name: str, input: Tensor, var: Any) -> Tensor:
    from .creation import full_like

    if isinstance(var, int | float):
        var = full_like(input, var)
    if var.shape != input.shape:
        if var.shape == input.shape[:-1]:
            var = var.unsqueeze(-1)
        elif var.ndim != input.ndim or _mismatches(input, var) != [1]:
            raise OpError(f"{name}(input: {spec_of(input)}, var: {spec_of(var)}): var doesn't fit")
    if known(var) and (var._data < 0).any():
        raise OpError(f"{name}: a variance is negative: {var._data.min():.4g}")
    return var


def _mismatches(input: Tensor, other: Tensor) -> list[int]:
    """Return the sizes of `other` in the dimensions where they differ."""
    return [m for n, m in zip(input.shape, other.shape, strict=True) if n != m]
