"""Fractional max pooling: windows, indices, refusals."""

from __future__ import annotations

import pytest

import toumei as tm
from toumei import nn
from toumei.errors import ModuleError, OpError
from toumei.nn import functional as F


def test_windows_follow_the_random_numbers() -> None:
    x = tm.arange(10.0).reshape(1, 1, 1, 10)
    for u, ends in ((0.0, [1, 3, 6, 9]), (0.5, [1, 4, 6, 9])):  # (i + u)·8/3, rounded down
        y = F.fractional_max_pool2d(x, (1, 2), (1, 4), _random_samples=tm.full((1, 1, 2), u))
        assert y.tolist() == [[[ends]]]


def test_indices_lead_back_to_the_input() -> None:
    x = tm.rand(2, 3, 7, 9)
    y, at = F.fractional_max_pool2d(x, 3, output_ratio=0.5, return_indices=True)
    assert y.shape == (2, 3, 3, 4)
    assert (x.flatten(2).gather(2, at.flatten(2)).reshape(y.shape) == y).all()


def test_draws_are_reproducible_and_differ() -> None:
    x = tm.rand(1, 8, 20, 20)

    def pooled(seed: int) -> tm.Tensor:
        tm.manual_seed(seed)
        return nn.FractionalMaxPool2d(2, output_size=9)(x)

    assert (pooled(1) == pooled(1)).all()
    assert not (pooled(1) == pooled(2)).all()


def test_refused() -> None:
    with pytest.raises(OpError, match="needs an output_size or an output_ratio"):
        F.fractional_max_pool2d(tm.zeros(1, 4, 4), 2)
    with pytest.raises(OpError, match="4 windows of size 2 need more than 4 cells"):
        F.fractional_max_pool2d(tm.zeros(1, 4, 4), 2, 4)
    with pytest.raises(OpError, match="_random_samples is"):
        F.fractional_max_pool2d(tm.zeros(1, 4, 4), 2, 2, _random_samples=tm.zeros(1, 1, 3))
    for options in ({}, {"output_size": 2, "output_ratio": 0.5}):
        with pytest.raises(ModuleError, match="either an output_size or an output_ratio"):
            nn.FractionalMaxPool3d(2, **options)
    with pytest.raises(ModuleError, match="between 0 and 1"):
        nn.FractionalMaxPool2d(2, output_ratio=(0.5, 1.0))
