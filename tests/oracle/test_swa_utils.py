"""Averages of weights against PyTorch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import toumei as tm
from toumei.optim import swa_utils

torch = pytest.importorskip("torch")
theirs = torch.optim.swa_utils

KINDS: list[tuple[dict[str, Any], bool]] = [
    ({}, False),
    ({"multi_avg_fn": ("get_ema_multi_avg_fn", 0.9)}, False),
    ({"multi_avg_fn": ("get_ema_multi_avg_fn", 0.3)}, True),
    ({"multi_avg_fn": ("get_swa_multi_avg_fn",)}, False),
    ({"avg_fn": ("get_ema_avg_fn", 0.7)}, True),
    ({"avg_fn": ("get_swa_avg_fn",)}, False),
]


class Affine(tm.nn.Module):
    """Two parameters and a buffer, for either library."""

    def __init__(self, values: list[np.ndarray]) -> None:
        self.a, self.b = (tm.nn.Parameter(tm.from_numpy(v.copy())) for v in values[:2])
        self.register_buffer("c", tm.from_numpy(values[2].copy()))

    def forward(self, x: Any) -> Any:
        return x * self.a + self.b + self.c


class TorchAffine(torch.nn.Module):
    def __init__(self, values: list[np.ndarray]) -> None:
        super().__init__()
        self.a, self.b = (torch.nn.Parameter(torch.from_numpy(v.copy())) for v in values[:2])
        self.register_buffer("c", torch.from_numpy(values[2].copy()))

    def forward(self, x: Any) -> Any:
        return x * self.a + self.b + self.c


def made(library: Any, options: dict[str, Any]) -> dict[str, Any]:
    return {k: getattr(library, v[0])(*v[1:]) for k, v in options.items()}


@pytest.mark.parametrize(("options", "use_buffers"), KINDS)
def test_averages_of_weights(options: dict[str, Any], use_buffers: bool) -> None:
    rng = np.random.default_rng(0)
    values = [rng.normal(size=4).astype(np.float32) for _ in range(3)]
    model, other = Affine(values), TorchAffine(values)
    average = swa_utils.AveragedModel(model, use_buffers=use_buffers, **made(swa_utils, options))
    wanted = theirs.AveragedModel(other, use_buffers=use_buffers, **made(theirs, options))
    for _ in range(6):
        for name, value in {n: rng.normal(size=4).astype(np.float32) for n in "abc"}.items():
            with tm.no_grad(), torch.no_grad():
                getattr(model, name).copy_(tm.from_numpy(value))
                getattr(other, name).copy_(torch.from_numpy(value))
        average.update_parameters(model)
        wanted.update_parameters(other)
        mine, right = average.state_dict(), wanted.state_dict()
        assert mine.keys() == right.keys()
        for name, tensor in right.items():
            np.testing.assert_allclose(mine[name].numpy(), tensor.numpy(), rtol=2e-6, atol=1e-7)
    x = rng.normal(size=4).astype(np.float32)
    np.testing.assert_allclose(
        average(tm.from_numpy(x)).detach().numpy(),
        wanted(torch.from_numpy(x)).detach().numpy(), rtol=1e-5, atol=1e-6,
    )  # fmt: skip


def test_update_bn() -> None:
    rng = np.random.default_rng(0)
    batches = [rng.normal(2, 3, size=(n, 5)).astype(np.float32) for n in (8, 8, 3)]

    def layers(nn: Any) -> Any:
        return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4, momentum=0.3), nn.Tanh())

    other = layers(torch.nn).eval()
    model = layers(tm.nn).eval()
    model.load_state_dict({k: v.numpy() for k, v in other.state_dict().items()})
    swa_utils.update_bn([tm.from_numpy(b) for b in batches], model)
    theirs.update_bn([torch.from_numpy(b) for b in batches], other)
    for name, tensor in other.state_dict().items():
        np.testing.assert_allclose(model.state_dict()[name].numpy(), tensor.numpy(), rtol=1e-5)
    assert not model.training and model[1].momentum == 0.3


@pytest.mark.parametrize("strategy", ["cos", "linear"])
@pytest.mark.parametrize("epochs", [0, 1, 4])
@pytest.mark.parametrize("rates", [0.05, [0.3, 0.01]])
def test_swalr_after_another_schedule(strategy: str, epochs: int, rates: Any) -> None:
    found = []
    for library, utils in ((tm, swa_utils), (torch, theirs)):
        p, q = (library.ones(1, requires_grad=True) for _ in range(2))
        optimizer = library.optim.SGD([{"params": [p]}, {"params": [q], "lr": 0.5}], lr=0.1)
        first = library.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        last = utils.SWALR(optimizer, rates, anneal_epochs=epochs, anneal_strategy=strategy)
        seen = []
        for i in range(12):
            (p * q).sum().backward()
            optimizer.step()
            (first if i < 4 else last).step()
            seen.append([group["lr"] for group in optimizer.param_groups])
            if i == 6:  # its state goes on in another
                state = last.state_dict()
                last = utils.SWALR(optimizer, rates, epochs, strategy)
                for group, rate in zip(optimizer.param_groups, seen[-1], strict=True):
                    group["lr"] = rate
                last.load_state_dict(state)
        found.append(seen)
    np.testing.assert_allclose(*found, rtol=1e-9)


@pytest.mark.parametrize("shape", [(6, 4), (2, 4, 3)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_label_smoothing_of_soft_targets(
    shape: tuple[int, ...], smoothing: float, weighted: bool, reduction: str
) -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=shape)
    target = np.moveaxis(rng.dirichlet(np.ones(4), (shape[0], *shape[2:])), -1, 1).copy()
    weight = np.array([0.5, 1.0, 2.0, 0.25])
    results = []
    for library in (tm, torch):
        x = library.from_numpy(scores.copy()).requires_grad_()
        loss = library.nn.functional.cross_entropy(
            x, library.from_numpy(target), library.from_numpy(weight) if weighted else None,
            label_smoothing=smoothing, reduction=reduction,
        )  # fmt: skip
        (loss * loss).sum().backward()
        results.append((loss.detach().numpy(), x.grad.numpy()))
    for mine, right in zip(*results, strict=True):
        np.testing.assert_allclose(mine, right, rtol=1e-9, atol=1e-12)
