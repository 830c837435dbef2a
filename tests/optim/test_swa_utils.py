"""Averages of weights: what isn't compared with PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

import toumei as tm
from toumei import nn
from toumei.optim.swa_utils import (
    SWALR,
    AveragedModel,
    get_ema_multi_avg_fn,
    get_swa_avg_fn,
    get_swa_multi_avg_fn,
    update_bn,
)


def set_weight(model: nn.Linear, value: float) -> None:
    with tm.no_grad():
        model.weight.fill_(value)


def test_the_first_value_is_copied_and_the_model_is_left_alone() -> None:
    model = nn.Linear(1, 1)
    set_weight(model, 8.0)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.75))
    set_weight(model, 4.0)
    assert average.module.weight.item() == 8.0 and int(average.n_averaged) == 0
    average.update_parameters(model)
    assert average.module.weight.item() == 4.0
    set_weight(model, 8.0)
    average.update_parameters(model)
    assert average.module.weight.item() == 5.0 and model.weight.item() == 8.0
    assert int(average.n_averaged) == 2


def test_swa_is_the_mean() -> None:
    model = nn.Linear(1, 1)
    average = AveragedModel(model, multi_avg_fn=get_swa_multi_avg_fn())
    values = [3.0, -1.0, 7.0, 2.5]
    for value in values:
        set_weight(model, value)
        average.update_parameters(model)
    assert average.module.weight.item() == pytest.approx(np.mean(values))


def test_a_state_goes_on() -> None:
    model = nn.Linear(3, 2)
    straight, first = (AveragedModel(model) for _ in range(2))
    for value in (1.0, 2.0, 5.0):
        set_weight(model, value)
        straight.update_parameters(model)
        if value < 5:
            first.update_parameters(model)
    second = AveragedModel(nn.Linear(3, 2))
    second.load_state_dict(first.state_dict())
    second.update_parameters(model)
    for name, value in straight.state_dict().items():
        assert second.state_dict()[name].numpy().tobytes() == value.numpy().tobytes()


def test_whole_numbers_among_the_buffers_are_averaged_as_far_as_they_go() -> None:
    model = nn.Linear(1, 1)
    model.register_buffer("count", tm.tensor(10))
    average = AveragedModel(model, use_buffers=True)
    for count in (10, 20, 30):
        model.count.fill_(count)
        average.update_parameters(model)
    assert average.module.count.item() == 20 and average.module.count.dtype == tm.int64


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="decay must lie between 0 and 1"):
        get_ema_multi_avg_fn(1.5)
    with pytest.raises(ValueError, match="exclude each other"):
        AveragedModel(nn.Linear(1, 1), avg_fn=get_swa_avg_fn(), multi_avg_fn=get_swa_multi_avg_fn())
    optimizer = tm.optim.SGD([tm.ones(1, requires_grad=True)], lr=0.1)
    with pytest.raises(ValueError, match="'cos' or 'linear'"):
        SWALR(optimizer, 0.1, anneal_strategy="exp")
    with pytest.raises(ValueError, match="an integer >= 0"):
        SWALR(optimizer, 0.1, anneal_epochs=-1)
    with pytest.raises(tm.errors.OpError, match="the only device is 'cpu'"):
        AveragedModel(nn.Linear(1, 1), "cuda")


def test_update_bn_leaves_a_model_without_batch_norm_alone() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)).eval()

    def never() -> object:
        raise AssertionError("a batch was read")
        yield

    update_bn(never(), model)  # type: ignore[arg-type]
    assert not model.training
