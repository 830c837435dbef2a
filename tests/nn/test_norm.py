"""Normalisation layers: running statistics, options, names, refusals."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import toumei as tm
from toumei import nn
from toumei.errors import ModuleError, OpError

RNG = np.random.default_rng(0)


def batches(count: int, *shape: int) -> list[Any]:
    return [RNG.normal(2.0, 3.0, shape) for _ in range(count)]


def test_batch_norm_normalises_each_channel_in_training() -> None:
    (x,) = batches(1, 4, 3, 5)
    y = nn.BatchNorm1d(3, eps=1e-12, dtype=tm.float64)(tm.tensor(x)).detach().numpy()
    np.testing.assert_allclose(y.mean((0, 2)), 0, atol=1e-12)
    np.testing.assert_allclose(y.var((0, 2)), 1)


def test_running_statistics_follow_the_batches() -> None:
    m = nn.BatchNorm1d(3, momentum=0.3, dtype=tm.float64)
    mean, var = np.zeros(3), np.ones(3)
    for x in batches(3, 8, 3):
        m(tm.tensor(x))
        mean = 0.7 * mean + 0.3 * x.mean(0)
        var = 0.7 * var + 0.3 * x.var(0, ddof=1)
    np.testing.assert_allclose(m.running_mean.numpy(), mean)
    np.testing.assert_allclose(m.running_var.numpy(), var)
    assert m.num_batches_tracked.item() == 3


def test_momentum_none_is_the_mean_over_all_batches() -> None:
    m = nn.BatchNorm2d(2, momentum=None, dtype=tm.float64)
    xs = batches(5, 3, 2, 4, 4)
    for x in xs:
        m(tm.tensor(x))
    np.testing.assert_allclose(
        m.running_mean.numpy(), np.mean([x.mean((0, 2, 3)) for x in xs], 0), rtol=1e-12
    )


def test_evaluation_takes_the_running_statistics_and_leaves_them() -> None:
    m = nn.BatchNorm1d(2, eps=0.0, dtype=tm.float64)
    m.running_mean.copy_(tm.tensor([1.0, 2.0]))
    m.running_var.copy_(tm.tensor([4.0, 9.0]))
    x = tm.tensor([[3.0, 8.0]], dtype=tm.float64)
    np.testing.assert_allclose(m.eval()(x).detach().numpy(), [[1.0, 2.0]])
    np.testing.assert_array_equal(m.running_mean.numpy(), [1.0, 2.0])
    assert m.num_batches_tracked.item() == 0


def test_without_running_statistics_evaluation_takes_the_batch() -> None:
    m = nn.BatchNorm1d(2, eps=1e-12, track_running_stats=False, affine=False)
    x = tm.tensor([[1.0, 5.0], [3.0, 9.0]])
    assert m.eval()(x).tolist() == [[-1.0, -1.0], [1.0, 1.0]]
    assert not m.state_dict()


def test_a_flag_changed_later_means_what_it_means_in_pytorch() -> None:
    m = nn.BatchNorm1d(2)
    m.track_running_stats = False
    m(tm.tensor(batches(1, 4, 2)[0], dtype=tm.float32))
    assert m.running_mean.tolist() == [0.0, 0.0] and m.num_batches_tracked.item() == 0


def test_an_empty_batch_leaves_the_statistics() -> None:
    m = nn.BatchNorm1d(2)
    assert m(tm.zeros(0, 2, 3)).shape == (0, 2, 3)
    assert m.running_mean.tolist() == [0.0, 0.0] and m.running_var.tolist() == [1.0, 1.0]


def test_reset() -> None:
    m = nn.BatchNorm1d(2)
    m(tm.tensor(batches(1, 4, 2)[0], dtype=tm.float32))
    with tm.no_grad():
        m.weight.fill_(5.0)
    m.reset_running_stats()
    assert m.weight.tolist() == [5.0, 5.0]
    m.reset_parameters()
    state = {k: v.tolist() for k, v in m.state_dict().items()}
    zero, one = [0.0, 0.0], [1.0, 1.0]
    assert state == {
        "weight": one,
        "bias": zero,
        "running_mean": zero,
        "running_var": one,
        "num_batches_tracked": 0,
    }


@pytest.mark.parametrize(
    ("layer", "names"),
    [
        (nn.BatchNorm1d(2, bias=False), "weight running_mean running_var num_batches_tracked"),
        (nn.BatchNorm3d(2, affine=False), "running_mean running_var num_batches_tracked"),
        (nn.InstanceNorm1d(2), ""),
        (nn.InstanceNorm2d(2, affine=True), "weight bias"),
        (nn.LayerNorm((2, 3)), "weight bias"),
        (nn.LayerNorm(2, bias=False), "weight"),
        (nn.LayerNorm(2, elementwise_affine=False), ""),
        (nn.RMSNorm(2), "weight"),
        (nn.GroupNorm(1, 2, bias=False), "weight"),
        (nn.LocalResponseNorm(2), ""),
    ],
)
def test_names(layer: nn.Module, names: str) -> None:
    assert list(layer.state_dict()) == names.split()


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (
            nn.BatchNorm2d(3, momentum=None),
            "BatchNorm2d(3, eps=1e-05, momentum=None, affine=True, bias=True, "
            "track_running_stats=True)",
        ),
        (
            nn.InstanceNorm1d(4),
            "InstanceNorm1d(4, eps=1e-05, momentum=0.1, affine=False, bias=False, "
            "track_running_stats=False)",
        ),
        (nn.LayerNorm(4), "LayerNorm((4,), eps=1e-05, elementwise_affine=True, bias=True)"),
        (nn.RMSNorm((2, 3)), "RMSNorm((2, 3), eps=None, elementwise_affine=True)"),
        (nn.GroupNorm(2, 4), "GroupNorm(2, 4, eps=1e-05, affine=True, bias=True)"),
        (nn.CrossMapLRN2d(4), "CrossMapLRN2d(4, alpha=0.0001, beta=0.75, k=1.0)"),
    ],
)
def test_repr(layer: nn.Module, text: str) -> None:
    assert repr(layer) == text


def test_instance_norm_takes_an_input_without_a_batch() -> None:
    (x,) = batches(1, 3, 4, 5)
    y = nn.InstanceNorm2d(3, eps=0.0)(tm.tensor(x)).numpy()
    np.testing.assert_allclose(y.mean((1, 2)), 0, atol=1e-12)
    np.testing.assert_allclose(y.var((1, 2)), 1)


def test_instance_norm_warns_of_a_number_of_features_without_effect() -> None:
    with pytest.warns(UserWarning, match=r"4 channels, not 3, which has no effect"):
        nn.InstanceNorm1d(3)(tm.tensor(batches(1, 2, 4, 5)[0]))
    with warnings.catch_warnings(), pytest.raises(OpError, match="4 channels, not 3"):
        nn.InstanceNorm1d(3, affine=True)(tm.zeros(2, 4, 5))


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_local_response_norm(size: int) -> None:
    (x,) = batches(1, 2, 5, 3, 3)
    expected = np.empty_like(x)
    for c in range(5):
        near = x[:, max(0, c - size // 2) : c + (size - 1) // 2 + 1]
        expected[:, c] = x[:, c] / (1.5 + 0.1 / size * (near**2).sum(1)) ** 0.6
    for layer in (nn.LocalResponseNorm, nn.CrossMapLRN2d):
        y = layer(size, alpha=0.1, beta=0.6, k=1.5)(tm.tensor(x))
        np.testing.assert_allclose(y.numpy(), expected)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: nn.BatchNorm1d(0), "num_features must be a positive integer, got 0"),
        (lambda: nn.LayerNorm((3, -1)), "normalized_shape must be a positive integer, got -1"),
        (lambda: nn.LayerNorm(()), "at least one dimension"),
        (lambda: nn.RMSNorm(2.5), "normalized_shape must be"),
        (lambda: nn.GroupNorm(2, 3), "num_channels=3 can't be divided into num_groups=2"),
    ],
)
def test_refused_options(make: Any, words: str) -> None:
    with pytest.raises(ModuleError, match=words):
        make()


@pytest.mark.parametrize(
    ("layer", "shape", "words"),
    [
        (nn.BatchNorm1d(3), (3,), "expected 2 or 3 dimensions, got 1"),
        (nn.BatchNorm2d(3), (2, 3), "expected 4 dimensions, got 2"),
        (nn.BatchNorm1d(3), (4, 2), "each of the 2 channels"),
        (nn.BatchNorm1d(3), (1, 3), "larger batch"),
        (nn.BatchNorm1d(3, eps=0.0), (4, 3), "eps must be positive"),
        (nn.BatchNorm1d(3, eps=-1.0).eval(), (4, 3), "eps must be positive"),
        (nn.InstanceNorm3d(3), (2, 3), "expected 4 or 5 dimensions, got 2"),
        (nn.LayerNorm(3), (2, 4), r"last dimensions are \(4,\), not \(3,\)"),
        (nn.GroupNorm(1, 3), (2, 4), "each of the 4 channels"),
        (nn.CrossMapLRN2d(3), (2, 4, 5), "expected 4 dimensions"),
        (nn.LocalResponseNorm(3), (2, 4), "at least 3 dimensions"),
    ],
)
def test_refused_inputs(layer: nn.Module, shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(OpError, match=words):
        layer(tm.zeros(*shape))


def test_shapes_alone() -> None:
    model = nn.Sequential(nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4, affine=True))
    assert [row.output for row in tm.summary(model, (2, 4, 3, 3)).rows] == ["[2, 4, 3, 3]"] * 4
    assert model[0].num_batches_tracked.item() == 0
