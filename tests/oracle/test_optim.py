"""Optimisers and schedules against PyTorch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import toumei as tm

torch = pytest.importorskip("torch")

STEPS = 10
TOLERANCE = {"float32": 1e-6, "float64": 1e-10}
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "SGD": [
        {"lr": 0.1},
        {"lr": 0.1, "momentum": 0.9},
        {"lr": 0.1, "momentum": 0.9, "dampening": 0.3},
        {"lr": 0.1, "momentum": 0.9, "nesterov": True},
        {"lr": 0.1, "weight_decay": 0.1},
        {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.1, "maximize": True},
    ],
    "Adam": [
        {},
        {"lr": 0.1, "betas": (0.8, 0.99), "eps": 1e-3},
        {"lr": 0.1, "weight_decay": 0.1},
        {"lr": 0.1, "amsgrad": True},
        {"lr": 0.1, "maximize": True, "amsgrad": True, "weight_decay": 0.01},
    ],
    "AdamW": [{}, {"lr": 0.1, "weight_decay": 0.3}, {"lr": 0.1, "amsgrad": True, "maximize": True}],
    "Adamax": [{}, {"lr": 0.1, "weight_decay": 0.1}, {"lr": 0.1, "maximize": True, "eps": 1e-3}],
    "NAdam": [
        {},
        {"lr": 0.1, "weight_decay": 0.1, "momentum_decay": 0.1},
        {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True},
    ],
    "RAdam": [
        {"lr": 0.1},
        {"lr": 0.1, "betas": (0.8, 0.9), "weight_decay": 0.1},
        {"lr": 0.1, "betas": (0.8, 0.5)},
        {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True},
    ],
    "RMSprop": [
        {},
        {"lr": 0.1, "alpha": 0.9, "eps": 1e-3, "weight_decay": 0.1},
        {"lr": 0.1, "centered": True},
        {"lr": 0.01, "momentum": 0.9},
        {"lr": 0.01, "momentum": 0.9, "centered": True, "maximize": True},
    ],
    "Adagrad": [
        {},
        {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.5},
        {"lr": 0.1, "weight_decay": 0.1, "eps": 1e-3, "maximize": True},
    ],
    "Adadelta": [{}, {"lr": 0.5, "rho": 0.8, "eps": 1e-3}, {"weight_decay": 0.1, "maximize": True}],
}
CASES = [(kind, options) for kind, several in OPTIONS.items() for options in several]
SHAPES = [(3, 4), (4,), (), (200, 200)]  # the last is larger than one block


def make(library: Any, dtype: str) -> list[Any]:
    rng = np.random.default_rng(0)
    arrays = [np.asarray(rng.normal(size=shape)).astype(dtype) for shape in SHAPES]
    tensors = [library.tensor(a) for a in arrays]
    return [t.requires_grad_() for t in tensors]


def loss_of(params: list[Any], t: int) -> Any:
    """A loss whose gradients differ in size and change from step to step."""
    return sum((0.2 * (i + 1) * (p - 0.1 * t) ** 2 + p.sin()).sum() for i, p in enumerate(params))


def run(library: Any, optimizer: Any, params: list[Any], steps: int, start: int = 0) -> None:
    """Make steps along given gradients.

    They don't depend on the parameters and aren't near 0: there the division by the root of their
    square would enlarge the rounding, PyTorch's as much as ours.
    """
    for t in range(start, start + steps):
        rng = np.random.default_rng(t)
        for p in params:
            g = np.asarray(rng.normal(size=tuple(p.shape)))
            p.grad = library.tensor(g + np.copysign(0.5, g), dtype=p.dtype)
        optimizer.step()


def assert_near(ours: list[Any], theirs: list[Any], dtype: str) -> None:
    for a, b in zip(ours, theirs, strict=True):
        wanted = b.detach().numpy()
        np.testing.assert_allclose(
            a.detach().numpy(), wanted, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype]
        )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("kind", "options"), CASES)
def test_ten_steps(kind: str, options: dict[str, Any], dtype: str) -> None:
    ours, theirs = make(tm, dtype), make(torch, dtype)
    run(tm, getattr(tm.optim, kind)(ours, **options), ours, STEPS)
    run(torch, getattr(torch.optim, kind)(theirs, **options), theirs, STEPS)
    assert_near(ours, theirs, dtype)


@pytest.mark.parametrize(("kind", "options"), CASES)
def test_state_of_pytorch_is_continued(kind: str, options: dict[str, Any]) -> None:
    theirs = make(torch, "float64")
    reference = getattr(torch.optim, kind)(theirs, **options)
    run(torch, reference, theirs, 3)
    ours = [tm.tensor(p.detach().numpy()).requires_grad_() for p in theirs]
    optimizer = getattr(tm.optim, kind)(ours, **options)
    optimizer.load_state_dict(to_numpy(reference.state_dict()))
    run(torch, reference, theirs, 4, start=3)
    run(tm, optimizer, ours, 4, start=3)
    assert_near(ours, theirs, "float64")
    state, wanted = optimizer.state_dict()["state"], reference.state_dict()["state"]
    assert state.keys() == wanted.keys()
    for number, values in wanted.items():
        assert {k for k, v in values.items() if v is not None} <= set(state[number])


def to_numpy(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: to_numpy(v) for k, v in value.items()}
    if isinstance(value, list):
        return [to_numpy(v) for v in value]
    return value.detach().numpy() if isinstance(value, torch.Tensor) else value


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW", "RMSprop"])
def test_groups_and_missing_gradients(kind: str) -> None:
    results = []
    for library in (tm, torch):
        params = make(library, "float64")
        groups = [{"params": params[:2], "lr": 0.05}, {"params": params[2:], "weight_decay": 0.1}]
        optimizer = getattr(library.optim, kind)(groups, lr=0.01)
        for t in range(5):
            optimizer.zero_grad()
            used = params if t % 2 else params[1:]
            loss_of(used, t).backward()
            optimizer.step()
            optimizer.param_groups[0]["lr"] *= 0.9
        results.append(params)
    assert_near(*results, "float64")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "options",
    [
        {"line_search_fn": "strong_wolfe"},
        {"line_search_fn": "strong_wolfe", "max_iter": 4, "history_size": 3, "lr": 0.5},
        {"line_search_fn": "strong_wolfe", "max_iter": 10, "max_eval": 5},
        {"lr": 0.1, "max_iter": 4},
        {"lr": 0.3, "max_iter": 3, "history_size": 2},
    ],
)
def test_lbfgs(options: dict[str, Any], dtype: str) -> None:
    ours, theirs = (lbfgs_losses(library, options, dtype) for library in (tm, torch))
    # A line search takes another turn where a comparison comes out otherwise, which rounding of
    # float32 lets happen from the third step, of up to 20 iterations each, on.
    steps, near = (2, 1e-5) if dtype == "float32" else (STEPS, 1e-7)
    np.testing.assert_allclose(ours[:steps], theirs[:steps], rtol=near)


def lbfgs_losses(library: Any, options: dict[str, Any], dtype: str) -> list[float]:
    rng = np.random.default_rng(1)
    x, y, w, v = (
        library.tensor(rng.normal(size=size).astype(dtype)) for size in [(30, 4), 30, (4, 3), 3]
    )
    params = [w.requires_grad_(), v.requires_grad_()]
    optimizer = library.optim.LBFGS(params, **options)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = (((x @ w).tanh() @ v - y) ** 2).mean()
        loss.backward()
        return loss

    return [optimizer.step(closure).item() for _ in range(STEPS)]


Make = Callable[[Any, Any], Any]
SCHEDULES: dict[str, Make] = {
    "lambda": lambda s, o: s.LambdaLR(o, lambda t: 0.9**t),
    "lambdas": lambda s, o: s.LambdaLR(o, [lambda t: 0.9**t, lambda t: 1 / (t + 1)]),
    "multiplicative": lambda s, o: s.MultiplicativeLR(o, lambda t: 1 - 0.01 * t),
    "step": lambda s, o: s.StepLR(o, 7, gamma=0.3),
    "multi-step": lambda s, o: s.MultiStepLR(o, [3, 8, 8, 20], gamma=0.5),
    "constant": lambda s, o: s.ConstantLR(o, factor=0.2, total_iters=6),
    "linear": lambda s, o: s.LinearLR(o, start_factor=0.1, end_factor=0.8, total_iters=9),
    "exponential": lambda s, o: s.ExponentialLR(o, 0.9),
    "cosine": lambda s, o: s.CosineAnnealingLR(o, T_max=10, eta_min=0.001),
    "cosine-zero": lambda s, o: s.CosineAnnealingLR(o, T_max=13),
    "restarts": lambda s, o: s.CosineAnnealingWarmRestarts(o, 4, T_mult=2, eta_min=0.01),
    "restarts-equal": lambda s, o: s.CosineAnnealingWarmRestarts(o, 7),
    "polynomial": lambda s, o: s.PolynomialLR(o, total_iters=12, power=1.5),
    "cyclic": lambda s, o: s.CyclicLR(o, 0.01, 0.1, step_size_up=5, step_size_down=3),
    "cyclic2": lambda s, o: s.CyclicLR(o, 0.01, 0.1, step_size_up=4, mode="triangular2"),
    "cyclic-exp": lambda s, o: s.CyclicLR(
        o, [0.01, 0.02], [0.1, 0.3], step_size_up=4, mode="exp_range", gamma=0.95
    ),
    "cyclic-own": lambda s, o: s.CyclicLR(
        o, 0.01, 0.1, step_size_up=4, scale_fn=lambda t: 1 / (1 + t), scale_mode="iterations"
    ),
    "one-cycle": lambda s, o: s.OneCycleLR(o, 0.1, total_steps=31),
    "one-cycle-linear": lambda s, o: s.OneCycleLR(
        o, [0.1, 0.2], epochs=4, steps_per_epoch=8, anneal_strategy="linear", three_phase=True
    ),
    "sequential": lambda s, o: s.SequentialLR(
        o,
        [s.LinearLR(o, 0.1, total_iters=4), s.CosineAnnealingLR(o, 10), s.ExponentialLR(o, 0.8)],
        milestones=[4, 14],
    ),
    "sequential-multiplicative": lambda s, o: s.SequentialLR(
        o,
        [s.ExponentialLR(o, 0.8), s.MultiplicativeLR(o, lambda t: 0.9), s.StepLR(o, 3)],
        milestones=[5, 9],
    ),
    "chained": lambda s, o: s.ChainedScheduler(
        [s.ConstantLR(o, 0.1, total_iters=3), s.ExponentialLR(o, 0.9)], optimizer=o
    ),
}


def groups(library: Any) -> list[dict[str, Any]]:
    ones = [library.ones(2, requires_grad=True) for _ in range(2)]
    return [{"params": [ones[0]], "lr": 0.05}, {"params": [ones[1]], "lr": 0.2}]


@pytest.mark.filterwarnings("ignore")  # PyTorch's about the order of steps
@pytest.mark.parametrize("kind", ["SGD", "Adam"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_thirty_steps_of_a_schedule(name: str, kind: str) -> None:
    histories = []
    for library in (tm, torch):
        options = {"momentum": 0.9} if kind == "SGD" else {}
        optimizer = getattr(library.optim, kind)(groups(library), **options)
        schedule = SCHEDULES[name](library.optim.lr_scheduler, optimizer)
        history = []
        for _ in range(30):
            momenta = [g.get("momentum", g.get("betas", [0])) for g in optimizer.param_groups]
            rates = [g["lr"] for g in optimizer.param_groups]
            assert rates == pytest.approx(schedule.get_last_lr(), rel=1e-12)
            history.append([*rates, *np.ravel(momenta)])
            schedule.step()
        histories.append(history)
    np.testing.assert_allclose(*histories, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize(
    "options",
    [
        {"patience": 2},
        {"patience": 1, "mode": "max", "factor": 0.5, "cooldown": 2},
        {"patience": 0, "threshold_mode": "abs", "threshold": 0.05, "min_lr": [1e-4, 0.1]},
    ],
)
def test_plateau(options: dict[str, Any]) -> None:
    values = np.abs(np.random.default_rng(0).normal(size=30)) + 1 / np.arange(1, 31)
    histories = []
    for library in (tm, torch):
        optimizer = library.optim.SGD(groups(library))
        schedule = library.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **options)
        history = []
        for value in values:
            schedule.step(float(value))
            history.append([g["lr"] for g in optimizer.param_groups])
        histories.append(history)
    assert len({tuple(rates) for rates in histories[0]}) > 2
    np.testing.assert_allclose(*histories, rtol=1e-12)


@pytest.mark.parametrize("norm", [1.0, 2.0, 3.0, float("inf")])
@pytest.mark.parametrize("most", [0.5, 1e6])
def test_clipping(norm: float, most: float) -> None:
    results = []
    for library in (tm, torch):
        params = make(library, "float64")
        loss_of(params, 1).backward()
        total = library.nn.utils.clip_grad_norm_(params, most, norm_type=norm)
        results.append([total, *[p.grad for p in params]])
    assert_near(*results, "float64")


def test_clipping_values() -> None:
    results = []
    for library in (tm, torch):
        params = make(library, "float32")
        loss_of(params, 1).backward()
        library.nn.utils.clip_grad_value_(params, 0.7)
        results.append([p.grad for p in params])
    assert_near(*results, "float32")
