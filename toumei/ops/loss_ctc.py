"""Connectionist temporal classification: a label sequence without its places in time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import OpError
from ..op import Array, Refused
from ..tape import Value, spec_of, wrap
from ..traced import numbers_of
from .choice import where
from .combine import cat
from .creation import full
from .labels import check_labels
from .loss import reduced, reduction_of
from .reduction import logsumexp

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = ["ctc_loss"]

# The logarithm of a probability of 0.  It is finite, so that differences of two are no NaN.
NEVER = -1e30


def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """−ln of the probability of all paths that spell the target, without repeats and blanks.

    The gradient is that of this formula.  PyTorch's adds the probabilities themselves to it; behind
    log_softmax, where log probabilities come from, both are the same.

    Shape: (t, n, c), (n, s) or (Σ lengths), (n), (n) -> (); (n) with reduction "none"; n may be
    left out

    Args:
        log_probs: log probabilities of the c classes at each of t steps.
        targets: labels, padded to (n, s), or one sequence after the other.
        input_lengths: how many steps of each sequence count.
        target_lengths: how many labels of each target count.
        blank: the class that spells nothing.
        reduction: "mean" divides each loss by its target's length, then takes the mean.
        zero_infinity: take 0 for targets that no path can spell (else they are infinite); either
            way their gradient is 0.

    Raises:
        OpError: the lengths don't fit. OpIndexError: a label is out of range.

    Paper: Graves et al. 2006.
    """
    reduction_of("ctc_loss", reduction)
    single = log_probs.ndim == 2
    if single:
        log_probs = log_probs.unsqueeze(1)
        targets = targets.unsqueeze(0)
    if log_probs.ndim != 3:
        raise OpError(f"ctc_loss(log_probs: {spec_of(log_probs)}): it needs the shape (t, n, c)")
    n = log_probs.shape[1]
    steps = _lengths("input_lengths", input_lengths, n, log_probs.shape[0])
    labels = _padded(targets, _lengths("target_lengths", target_lengths, n, None))
    counts = _lengths("target_lengths", target_lengths, n, labels.shape[1])
    _check(labels, counts, log_probs.shape[2], blank)
    losses = -_log_likelihood(log_probs, labels, steps, counts, blank)
    impossible = losses > -NEVER / 2
    losses = losses.masked_fill(impossible, 0 if zero_infinity else math.inf)
    if single:
        losses = losses.squeeze(0)
    if reduction != "mean":
        return reduced(losses, reduction)
    return (losses / wrap(np.maximum(counts, 1).astype(losses.dtype)).view_as(losses)).mean()


def _lengths(name: str, lengths: Any, n: int, limit: int | None) -> Array:
    """Return lengths as an array of n integers from 0 to `limit`."""
    array = np.asarray(
        numbers_of("ctc_loss", lengths) if isinstance(lengths, Value) else lengths
    ).reshape(-1)
    if array.dtype.kind not in "iu" or array.shape != (n,):
        raise OpError(
            f"ctc_loss: {name} must be {n} integers, not {array.dtype}{list(array.shape)}"
        )
    if n and (array.min() < 0 or (limit is not None and array.max() > limit)):
        raise OpError(
            f"ctc_loss: {name} reach from {array.min()} to {array.max()}, "
            f"but must be from 0 to {limit}"
        )
    return array.astype(np.int64)


def _padded(targets: Tensor, counts: Array) -> Array:
    """Return the labels as (n, s), also if they come one sequence after the other."""
    labels = numbers_of("ctc_loss", targets)
    if labels.ndim == 2 and len(labels) == len(counts):
        return labels
    if labels.ndim != 1 or labels.size < counts.sum():
        raise OpError(
            f"ctc_loss(targets: {spec_of(targets)}): it needs (n, s), n = {len(counts)}, or all "
            f"{counts.sum()} labels in one dimension"
        )
    out = np.zeros((len(counts), int(counts.max(initial=0))), labels.dtype)
    ends = np.cumsum(counts)
    for row, count, end in zip(out, counts, ends, strict=True):
        row[:count] = labels[end - count : end]
    return out


def _check(labels: Array, counts: Array, classes: int, blank: int) -> None:
    if not 0 <= blank < classes:
        raise OpError(f"ctc_loss: blank is {blank}, but there are {classes} classes")
    try:
        check_labels(
            np.where(np.arange(labels.shape[1]) < counts[:, None], labels, 0), classes, None
        )
    except Refused as reason:
        raise reason.error(f"ctc_loss: {reason}") from None


def _log_likelihood(
    log_probs: Tensor, labels: Array, steps: Array, counts: Array, blank: int
) -> Tensor:
    """Return ln p(target) by the forward recursion over the states blank, l₁, blank, l₂ … blank."""
    n, s = labels.shape
    states = np.full((n, 2 * s + 1), blank, np.int64)
    states[:, 1::2] = np.where(np.arange(s) < counts[:, None], labels, blank)
    no_skip = np.ones(states.shape, bool)  # a blank between two different labels may be left out
    no_skip[:, 2:] = (states[:, 2:] == blank) | (states[:, 2:] == states[:, :-2])
    emitted = log_probs.gather(2, wrap(np.broadcast_to(states, (len(log_probs), *states.shape))))
    never = full((n, 2), NEVER, dtype=log_probs.dtype)
    late = wrap(np.broadcast_to(np.arange(2 * s + 1) >= 2, states.shape))
    alpha = emitted[0].masked_fill(late, NEVER)
    for t in range(1, len(log_probs)):
        one = cat([never[:, :1], alpha[:, :-1]], 1)
        two = cat([never, alpha[:, :-2]], 1)[:, : 2 * s + 1].masked_fill(wrap(no_skip), NEVER)
        new = _sum_of_three(alpha, one, two) + emitted[t]
        over = t >= steps
        alpha = where(wrap(over[:, None]), alpha, new) if over.any() else new
    return _last_states(alpha, counts)


def _sum_of_three(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Return ln(eᵃ + eᵇ + eᶜ)."""
    top = a.detach().maximum(b.detach()).maximum(c.detach())
    return ((a - top).exp() + (b - top).exp() + (c - top).exp()).log() + top


def _last_states(alpha: Tensor, counts: Array) -> Tensor:
    """Return ln of the probability to end in the last label or the blank after it."""
    place = np.stack([2 * counts, np.maximum(2 * counts - 1, 0)], 1)
    ends = alpha.gather(1, wrap(place))
    nothing = np.stack([np.zeros(len(counts), bool), counts == 0], 1)
    return logsumexp(ends.masked_fill(wrap(nothing), NEVER), 1)
