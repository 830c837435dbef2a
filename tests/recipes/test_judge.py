"""The judge of digits: that it reads them, and that its distance is the Fréchet distance."""

from __future__ import annotations

import numpy as np
import pytest

import toumei as tm
from toumei.data import MNISTSample
from toumei.errors import ToumeiError
from toumei.recipes.judge import WEIGHTS, Judge, frechet_distance, judge, moments, shares


def _grey(images: np.ndarray) -> tm.Tensor:
    return tm.from_numpy(images.astype(np.float32) / 255)


def test_it_reads_the_test_digits() -> None:
    digits = MNISTSample(train=False)
    features, found = judge().look(_grey(digits.images))
    assert (found == digits.labels).mean() >= 0.985
    assert features.shape == (2000, Judge.WIDTH)
    assert features.var(0).mean() == pytest.approx(1, abs=0.1)
    assert WEIGHTS.stat().st_size < 150_000


def test_looking_in_parts_is_looking_at_all() -> None:
    images = _grey(MNISTSample(train=False).images[:600])
    features, classes = judge().look(images)
    with tm.no_grad():
        whole = judge().features(images)
    np.testing.assert_allclose(features, whole.numpy(), atol=1e-5)
    assert (classes == judge()(images).argmax(1).numpy()).all()


def test_worse_digits_are_farther_away() -> None:
    digits = MNISTSample(train=False).images
    rng = np.random.default_rng(0)
    clean = judge().look(_grey(digits[:1000]))[0]
    distances = []
    for spoilt in (0.0, 0.1, 0.3, 0.6):
        other = np.where(rng.random(digits[1000:].shape) < spoilt, 128, digits[1000:])
        distances.append(frechet_distance(judge().look(_grey(other))[0], clean))
    assert distances == sorted(distances)
    assert distances[0] < 0.5 < 10 < distances[-1]


def _with_moments(mean: np.ndarray, cov: np.ndarray, count: int = 40) -> np.ndarray:
    """Return samples with exactly this mean and covariance."""
    x = np.random.default_rng(3).normal(size=(count, len(mean)))
    x -= x.mean(0)
    x = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T))).T
    return x @ np.linalg.cholesky(cov).T + mean


def test_closed_form_of_diagonal_covariances() -> None:
    """Then the distance is that of each coordinate: (μ₁ − μ₂)² + (σ₁ − σ₂)²."""
    a = _with_moments(np.array([0.0, 1.0, 2.0]), np.diag([1.0, 4.0, 9.0]))
    b = _with_moments(np.array([1.0, 1.0, -1.0]), np.diag([4.0, 4.0, 0.25]))
    assert frechet_distance(a, b) == pytest.approx(1 + 0 + 9 + 1 + 0 + 2.5**2)


def test_it_is_the_formula_with_the_root_of_the_product() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(50, 4)) @ rng.normal(size=(4, 4)), rng.normal(size=(60, 4)) + 0.3
    (mean_a, cov_a), (mean_b, cov_b) = moments(a), moments(b)
    np.testing.assert_allclose(cov_a, np.cov(a.T))
    values, vectors = np.linalg.eig(cov_a @ cov_b)  # positive: similar to a symmetric product
    root = (vectors * np.sqrt(values)) @ np.linalg.inv(vectors)
    np.testing.assert_allclose(root @ root, cov_a @ cov_b, atol=1e-9)
    expected = ((mean_a - mean_b) ** 2).sum() + np.trace(cov_a + cov_b - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(float(expected))
    assert frechet_distance(b, a) == pytest.approx(float(expected))


def test_singular_covariances_are_no_trouble() -> None:
    flat = np.random.default_rng(2).normal(size=(30, 5)) * [1, 0, 2, 0, 0]
    assert frechet_distance(flat, flat) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(flat, flat + 1) == pytest.approx(5, abs=1e-6)


def test_what_it_refuses() -> None:
    with pytest.raises(ToumeiError, match="N > 1"):
        frechet_distance(np.ones((1, 3)), np.ones((4, 3)))
    with pytest.raises(ToumeiError, match="widths differ: 3 and 2"):
        frechet_distance(np.ones((4, 3)), np.ones((4, 2)))


def test_shares_add_up() -> None:
    found = shares(np.array([1, 1, 9, 0]))
    assert found.tolist() == [0.25, 0.5, 0, 0, 0, 0, 0, 0, 0, 0.25]
