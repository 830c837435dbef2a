"""Metrics: functions of (output, target) that give one number per sample.

The trainer averages them over the epoch, so a metric knows nothing of batches.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import no_grad
from ..errors import OpError
from ..tape import spec_of
from ..tensor import Tensor


@no_grad()
def accuracy(output: Tensor, target: Tensor) -> Tensor:
    """1 where the largest score is the target's class, else 0.

    Shape: output (N, C) scores, target (N) classes or (N, C) probabilities -> (N); of
    probabilities, as MixUp makes them, the most probable class is the target.

    >>> import toumei as tm
    >>> accuracy(tm.tensor([[0.1, 0.9], [0.8, 0.2]]), tm.tensor([1, 1]))
    tensor([1., 0.])
    """
    return top_k_accuracy(output, target, k=1)


@no_grad()
def top_k_accuracy(output: Tensor, target: Tensor, k: int = 5) -> Tensor:
    """1 where the target's class is among the k largest scores, else 0.

    Shape: output (N, C) scores, target (N) classes or (N, C) probabilities -> (N)
    """
    if output.ndim != 2 or target.shape not in (output.shape, output.shape[:1]):
        raise OpError(
            "accuracy needs scores (N, C) and classes (N) or probabilities (N, C), "
            f"got {spec_of(output)} and {spec_of(target)}"
        )
    classes = target.argmax(1) if target.ndim == 2 else target
    if k == 1:
        return (output.argmax(1) == classes).float()
    return (output.topk(k, 1)[1] == classes.unsqueeze(1)).any(1).float()


@no_grad()
def absolute_error(output: Tensor, target: Tensor) -> Tensor:
    """|output − target|, averaged over all but the first dimension.  Shape: (N, …) -> (N)"""
    difference = (output - target).abs()
    return difference.reshape(len(output), -1).mean(dim=1)


@no_grad()
def squared_error(output: Tensor, target: Tensor) -> Tensor:
    """(output − target)², averaged over all but the first dimension.  Shape: (N, …) -> (N)"""
    difference = output - target
    return (difference * difference).reshape(len(output), -1).mean(dim=1)


def confusion_matrix(output: Any, target: Any, classes: int) -> np.ndarray[Any, Any]:
    """Count the samples of each true class (row) that were taken for each class (column).

    Shape: output (N, C) scores, target (N) classes -> (C, C) int64
    """
    guess = output.detach().numpy().argmax(1)
    return np.bincount(target.numpy() * classes + guess, minlength=classes**2).reshape(
        classes, classes
    )
