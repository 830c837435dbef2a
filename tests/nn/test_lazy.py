"""Lazy layers become ordinary ones at the first call."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import pytest

import toumei as tm
from toumei import nn
from toumei.errors import LoadError, ModuleError, OpError

CASES = [
    (nn.LazyLinear(2, bias=False), (5, 3), nn.Linear(3, 2, bias=False)),
    (nn.LazyConv1d(4, 2, stride=2), (3, 6), nn.Conv1d(3, 4, 2, stride=2)),
    (nn.LazyConv2d(4, 2, groups=2), (1, 6, 5, 5), nn.Conv2d(6, 4, 2, groups=2)),
    (nn.LazyConv3d(4, 2), (1, 3, 4, 4, 4), nn.Conv3d(3, 4, 2)),
    (nn.LazyConvTranspose1d(4, 2), (1, 3, 6), nn.ConvTranspose1d(3, 4, 2)),
    (nn.LazyConvTranspose2d(4, 2, 3), (2, 5, 5), nn.ConvTranspose2d(2, 4, 2, 3)),
    (nn.LazyConvTranspose1d(4, 2, groups=2), (6, 5), nn.ConvTranspose1d(6, 4, 2, groups=2)),
    (nn.LazyConvTranspose3d(4, 2), (1, 3, 4, 4, 4), nn.ConvTranspose3d(3, 4, 2)),
    (nn.LazyBatchNorm1d(momentum=None), (5, 3), nn.BatchNorm1d(3, momentum=None)),
    (nn.LazyBatchNorm2d(affine=False), (5, 3, 2, 2), nn.BatchNorm2d(3, affine=False)),
    (nn.LazyBatchNorm3d(), (5, 3, 2, 2, 2), nn.BatchNorm3d(3)),
    (nn.LazyInstanceNorm1d(), (3, 5), nn.InstanceNorm1d(3, 1e-5, 0.1, True, True)),
    (nn.LazyInstanceNorm2d(affine=False), (5, 3, 2, 2),
     nn.InstanceNorm2d(3, track_running_stats=True)),
    (nn.LazyInstanceNorm3d(0.1, 0.2, False, False), (1, 3, 2, 2, 2),
     nn.InstanceNorm3d(3, 0.1, 0.2)),
]  # fmt: skip


@pytest.mark.parametrize(("lazy", "shape", "plain"), CASES)
def test_it_becomes_the_ordinary_layer(
    lazy: nn.Module, shape: tuple[int, ...], plain: nn.Module
) -> None:
    lazy, x = copy.deepcopy(lazy), tm.randn(*shape)
    assert isinstance(lazy, type(plain))
    lazy(x)
    assert type(lazy) is type(plain) and repr(lazy) == repr(plain)
    assert sorted(vars(lazy)) == sorted(vars(plain))
    plain.load_state_dict(lazy.state_dict())
    assert (lazy.eval()(x) == plain.eval()(x)).all()


def test_an_optimiser_made_before_the_first_call_trains_it() -> None:
    tm.manual_seed(0)
    model = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(1))
    optimizer = tm.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x = tm.randn(32, 3)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


def test_conversion_mode_and_freezing_before_the_first_call_hold() -> None:
    layer = nn.LazyBatchNorm1d().double().eval().requires_grad_(False)
    y = layer(tm.ones(2, 3, dtype=tm.float64))
    assert y.dtype == tm.float64 and not y.requires_grad and not layer.training
    assert layer.running_var.shape == (3,)


def test_before_the_first_call_there_is_nothing() -> None:
    layer: Any = nn.LazyConv2d(4, 3)
    assert repr(layer) == "LazyConv2d(0, 4, kernel_size=(3, 3), stride=(1, 1))"
    assert [p.numel() for p in layer.parameters()] == [0, 0]
    with pytest.raises(LoadError, match="weight is"):
        layer.load_state_dict(nn.Conv2d(1, 4, 3).state_dict())


def test_signature() -> None:
    assert list(inspect.signature(nn.LazyLinear).parameters) == ["out_features", "bias", "dtype"]


def test_refused() -> None:
    with pytest.raises(ModuleError, match="out_features must be a positive integer"):
        nn.LazyLinear(0)
    with pytest.raises(TypeError, match="missing a required argument"):
        nn.LazyConv2d(4)
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        nn.LazyLinear(4, device="cuda")
    with pytest.raises(OpError, match="too few dimensions"):
        nn.LazyConv2d(4, 3)(tm.zeros(3))
    with pytest.raises(ModuleError, match="in_channels must be divisible by groups: 3 by 2"):
        nn.LazyConv2d(4, 3, groups=2)(tm.zeros(3, 5, 5))
