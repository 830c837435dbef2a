"""Schedules.  That their numbers are PyTorch's is tested in tests/oracle."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

import toumei as tm
from toumei.optim import SGD, Adagrad
from toumei.optim import lr_scheduler as schedules


def optimizer(lr: float = 1.0) -> SGD:
    return SGD([tm.ones(1, requires_grad=True)], lr=lr, momentum=0.9)


def rates(schedule: Any, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        found.append(schedule.get_last_lr()[0])
        schedule.step()
    return found


def test_warmup_cosine() -> None:
    schedule = schedules.WarmupCosine(optimizer(), 4, 14, min_lr=0.1)
    found = rates(schedule, 20)
    assert found[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert found[9] == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 2)) / 2)
    assert found[14:] == pytest.approx([0.1] * 6)
    with pytest.raises(ValueError, match="warmup_steps"):
        schedules.WarmupCosine(optimizer(), 5, 5)


MAKERS = {
    "step": lambda o: schedules.StepLR(o, 2),
    "multi-step": lambda o: schedules.MultiStepLR(o, [2, 5]),
    "cosine": lambda o: schedules.CosineAnnealingLR(o, 5),
    "restarts": lambda o: schedules.CosineAnnealingWarmRestarts(o, 3),
    "lambda": lambda o: schedules.LambdaLR(o, lambda t: 1 / (t + 1)),
    "cyclic": lambda o: schedules.CyclicLR(o, 0.1, 1.0, 3),
    "one-cycle": lambda o: schedules.OneCycleLR(o, 1.0, total_steps=20),
    "warm-up": lambda o: schedules.WarmupCosine(o, 3, 10),
    "sequential": lambda o: schedules.SequentialLR(
        o, [schedules.LinearLR(o), schedules.ExponentialLR(o, 0.5)], [5]
    ),
    "chained": lambda o: schedules.ChainedScheduler(
        [schedules.ConstantLR(o), schedules.PolynomialLR(o, 10)]
    ),
}


@pytest.mark.parametrize("name", MAKERS)
def test_going_on_from_a_state(name: str) -> None:
    first, second = optimizer(), optimizer()
    a = MAKERS[name](first)
    rates(a, 4)
    state = json.loads(json.dumps(a.state_dict()))  # plain values: a checkpoint can hold it
    kept = json.loads(json.dumps(first.state_dict()))
    b = MAKERS[name](second)
    second.load_state_dict(kept)
    b.load_state_dict(state)
    assert rates(b, 8) == rates(a, 8)


def test_plateau_goes_on_from_a_state() -> None:
    first, second = optimizer(), optimizer()
    a = schedules.ReduceLROnPlateau(first, patience=2)
    for value in (1.0, 2.0, 2.0):
        a.step(tm.tensor(value))
    b = schedules.ReduceLROnPlateau(second, patience=2)
    b.load_state_dict(json.loads(json.dumps(a.state_dict())))
    b.step(2.0)
    assert b.get_last_lr() == [0.1] == [second.param_groups[0]["lr"]]


def test_two_schedules_multiply() -> None:
    o = optimizer()
    a, b = schedules.ExponentialLR(o, 0.5), schedules.StepLR(o, 1, gamma=0.1)
    a.step()
    b.step()
    assert o.param_groups[0]["lr"] == pytest.approx(0.05)


def test_cycles_move_the_momentum() -> None:
    o = optimizer()
    schedule = schedules.OneCycleLR(o, 1.0, total_steps=10)
    found = []
    for _ in range(9):
        found.append(o.param_groups[0]["momentum"])
        schedule.step()
    assert found[0] == 0.95 and min(found) == 0.85
    schedule.step()
    with pytest.raises(ValueError, match="made for 10 steps"):
        schedule.step()


def test_restarts_at_a_point_in_time() -> None:
    schedule = schedules.CosineAnnealingWarmRestarts(optimizer(), 4)
    schedule.step(1.5)
    assert schedule.get_last_lr()[0] == pytest.approx((1 + math.cos(math.pi * 1.5 / 4)) / 2)
    schedule.step()
    assert schedule.last_epoch == 2
    with pytest.raises(ValueError, match="negative"):
        schedule.step(-1)


def test_resuming_by_number() -> None:
    o = optimizer()
    with pytest.raises(KeyError, match="initial_lr"):
        schedules.StepLR(o, 2, last_epoch=3)
    first = schedules.CosineAnnealingLR(o, 10)
    rates(first, 5)
    again = schedules.CosineAnnealingLR(o, 10, last_epoch=4)
    assert again.get_last_lr() == pytest.approx(first.get_last_lr())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda o: schedules.LambdaLR(o, [abs, abs]), "2 values for 1 parameter groups"),
        (lambda o: schedules.ConstantLR(o, factor=2), "factor"),
        (lambda o: schedules.LinearLR(o, start_factor=0), "start_factor"),
        (lambda o: schedules.LinearLR(o, end_factor=2), "end_factor"),
        (lambda o: schedules.CosineAnnealingWarmRestarts(o, 0), "T_0"),
        (lambda o: schedules.CyclicLR(o, 0.1, 1.0, mode="square"), "mode must be one of"),
        (lambda o: schedules.OneCycleLR(o, 1.0), "total_steps, or both"),
        (lambda o: schedules.OneCycleLR(o, 1.0, 10, pct_start=2), "share"),
        (lambda o: schedules.OneCycleLR(o, 1.0, 10, anneal_strategy="exp"), "'cos' or 'linear'"),
        (lambda o: schedules.ReduceLROnPlateau(o, factor=1.0), "below 1"),
        (lambda o: schedules.ReduceLROnPlateau(o, mode="low"), "'min' or 'max'"),
        (lambda o: schedules.SequentialLR(o, [schedules.StepLR(o, 2)], [3]), "0 milestones"),
        (lambda o: schedules.SequentialLR(o, [], []), "at least one"),
        (lambda o: schedules.ChainedScheduler([schedules.ReduceLROnPlateau(o)]), "metric"),
        (lambda o: schedules.ChainedScheduler([schedules.StepLR(o, 2)], optimizer()), "one and"),
        (lambda o: schedules.CyclicLR(Adagrad([tm.ones(1)]), 0.1, 1.0), "no momentum to cycle"),
    ],
)
def test_refusals(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make(optimizer())


def test_a_schedule_needs_an_optimizer() -> None:
    with pytest.raises(TypeError, match="needs an optimizer, got int"):
        schedules.StepLR(3, 1)  # type: ignore[arg-type]
