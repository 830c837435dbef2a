"""A judge of generated digits: a small CNN that reads them, and the distance between two sets.

Its weights come with the package; `tools/make_judge.py` trained them.  A generator that drew
digits as people do would have the same mean and covariance of the judge's features as people's
digits have: the Fréchet distance is how far apart they are.

Paper: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash
Equilibrium", 2017 (there with the features of another network, so that distances differ)
"""

from __future__ import annotations

import functools
import pathlib
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .. import data, nn
from ..autograd import no_grad
from ..data import MNIST
from ..errors import ToumeiError
from ..io.safetensors import load
from ..tensor import Tensor

Floats: TypeAlias = NDArray[np.float64]

WEIGHTS = pathlib.Path(data.__file__).parent / "assets" / "digit_judge.safetensors"
CHUNK = 250  # images that are looked at together


class Judge(nn.Module):
    """Convolution → convolution → pool, twice, then two linear layers; it reads digits.

    Shape: (N, 1, 28, 28), grey in 0..1 -> (N, 10) scores

    >>> import toumei as tm
    >>> Judge()(tm.zeros(2, 1, 28, 28)).shape
    Size([2, 10])
    """

    WIDTH = 48  # numbers that a digit's features are

    def __init__(self) -> None:
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.conv3 = nn.Conv2d(32, 64, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.dense = nn.Linear(64 * 3 * 3, self.WIDTH)
        self.scores = nn.Linear(self.WIDTH, 10)

    def features(self, images: Tensor) -> Tensor:
        """Return what the last layer decides from.  Shape: (N, 1, 28, 28) -> (N, WIDTH)"""
        x = (images - MNIST.mean[0]) / MNIST.std[0]
        x = self.pool(self.conv1(x).relu())  # (N, 16, 14, 14)
        x = self.pool(self.conv2(x).relu())  # (N, 32, 7, 7)
        x = self.pool(self.conv3(x).relu())  # (N, 64, 3, 3)
        return self.dense(x.flatten(1)).relu()  # (N, WIDTH)

    def forward(self, images: Tensor) -> Tensor:
        return self.scores(self.features(images))  # (N, 10)

    @no_grad()
    def look(self, images: Tensor) -> tuple[Floats, NDArray[np.int64]]:
        """Return the features of images and the digits that they are taken for.

        Shape: (N, 1, 28, 28), grey in 0..1 -> (N, WIDTH), (N)
        """
        parts = [self.features(images[i : i + CHUNK]) for i in range(0, len(images), CHUNK)]
        found = [self.scores(part).argmax(1).numpy() for part in parts]
        features = np.concatenate([part.numpy() for part in parts])
        return features.astype(np.float64), np.concatenate(found)

    def classes(self, images: Tensor) -> NDArray[np.int64]:
        """Return the digit that each image is taken for.  Shape: (N, 1, 28, 28) -> (N)"""
        return self.look(images)[1]


@functools.cache
def judge() -> Judge:
    """Return the judge that comes with the package.

    >>> import toumei as tm
    >>> digits = tm.data.MNISTSample(train=False, transform=tm.data.ToTensor())
    >>> images = tm.stack([digits[k][0] for k in range(5)])
    >>> (judge().classes(images) == digits.labels[:5]).all()
    np.True_
    """
    found = Judge()
    found.load_state_dict(load(WEIGHTS))
    return found.eval().requires_grad_(False)


def moments(features: Any) -> tuple[Floats, Floats]:
    """Return the mean and the covariance of features.  Shape: (N, D) -> (D), (D, D)

    Raises:
        ToumeiError: there are fewer than two samples, or not two axes.
    """
    found = np.asarray(features, np.float64)
    if found.ndim != 2 or len(found) < 2:
        raise ToumeiError(f"features must be (N, D) with N > 1: the shape is {found.shape}")
    centred = found - found.mean(0)
    return found.mean(0), centred.T @ centred / (len(found) - 1)


def frechet_distance(a: Any, b: Any) -> float:
    """Return the Fréchet distance (squared) between two sets, each taken as normally distributed.

    d² = |μ₁ − μ₂|² + tr(C₁ + C₂ − 2 (C₁ C₂)^½)

    The root's trace is that of (S C₂ S)^½ with S = C₁^½: symmetric, so eigenvalues give it exactly,
    also where a covariance is singular.

    Shape: a (N, D), b (M, D)

    Raises:
        ToumeiError: a set has fewer than two samples, or the widths differ.

    >>> rng = np.random.default_rng(0)
    >>> a = rng.normal(size=(500, 3))
    >>> round(frechet_distance(a, a + 2.0), 6)  # only the means differ: 3 · 2²
    12.0
    """
    (mean_a, cov_a), (mean_b, cov_b) = moments(a), moments(b)
    if len(mean_a) != len(mean_b):
        raise ToumeiError(f"the features' widths differ: {len(mean_a)} and {len(mean_b)}")
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(0)).sum()
    apart = ((mean_a - mean_b) ** 2).sum()
    return float(apart + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


def shares(classes: NDArray[np.int64]) -> Floats:
    """Return which part of the images each digit has.  Shape: (N) -> (10)"""
    return np.bincount(classes, minlength=10) / len(classes)
