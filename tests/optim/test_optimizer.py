"""What all optimisers share: groups, state, refusals.  The mathematics is in tests/oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import toumei as tm
from toumei import nn, ops, optim
from toumei.errors import LoadError
from toumei.optim import optimizer as core

KINDS: list[tuple[type[optim.Optimizer], dict[str, Any]]] = [
    (optim.SGD, {}),
    (optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    (optim.SGD, {"momentum": 0.9, "dampening": 0.5, "maximize": True}),
    (optim.Adam, {"weight_decay": 0.1}),
    (optim.Adam, {"amsgrad": True}),
    (optim.AdamW, {}),
    (optim.Adamax, {}),
    (optim.NAdam, {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    (optim.RAdam, {"betas": (0.9, 0.9)}),
    (optim.RMSprop, {"centered": True, "momentum": 0.5}),
    (optim.Adagrad, {"lr_decay": 0.1}),
    (optim.Adadelta, {}),
]


def parameters(*shapes: tuple[int, ...]) -> list[tm.Tensor]:
    rng = np.random.default_rng(0)
    return [tm.tensor(rng.normal(size=s), dtype=tm.float64).requires_grad_() for s in shapes]


def give_gradients(params: list[tm.Tensor], t: int) -> None:
    rng = np.random.default_rng(t)
    for p in params:
        p.grad = tm.tensor(np.asarray(rng.normal(size=tuple(p.shape))), dtype=p.dtype)


def train(optimizer: optim.Optimizer, params: list[tm.Tensor], steps: range) -> None:
    for t in steps:
        give_gradients(params, t)
        optimizer.step()


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_the_update_is_the_same_in_tensors(kind: Any, options: dict[str, Any]) -> None:
    """`update` must run on Tensors as on arrays, or it could not be traced."""
    (p,) = parameters((3, 4))
    (q,) = parameters((3, 4))
    eager, traced = kind([p], **options), kind([q], **options)
    group = traced.param_groups[0]
    for t in range(6):
        give_gradients([p], t)
        give_gradients([q], t)
        eager.step()
        with tm.no_grad():
            state = traced.state.setdefault(q, {})
            traced.init(q, state, group)
            number = traced.advance(state, group)
            slots = {name: state[name] for name in traced.slots(group)}
            traced.update(ops, q, q.grad, slots, number, group)
    np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-12)


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_blocks_and_layouts_change_nothing(
    kind: Any, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for block, columns in ((7, False), (1 << 20, False), (7, True)):
        monkeypatch.setattr(core, "BLOCK", block)
        (p,) = parameters((5, 6))
        if columns:
            p = tm.from_numpy(np.asfortranarray(p.detach().numpy())).requires_grad_()
        train(kind([p], **options), [p], range(4))
        results.append(p.detach().numpy())
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_saving_and_going_on(kind: Any, options: dict[str, Any], tmp_path: Any) -> None:
    params, others = parameters((3, 4), ()), parameters((3, 4), ())
    first, second = kind(params, lr=0.03, **options), kind(others, **options)
    train(first, params, range(3))
    train(second, others, range(1))
    memory = {k: v for s in second.state_dict()["state"].values() for k, v in s.items()}
    tm.save(first.state_dict(), tmp_path / "optimizer.safetensors")
    second.load_state_dict(tm.load(tmp_path / "optimizer.safetensors"))
    for other, p in zip(others, params, strict=True):
        with tm.no_grad():
            other.copy_(p)
    assert second.param_groups[0]["lr"] == 0.03
    after = {k: v for s in second.state_dict()["state"].values() for k, v in s.items()}
    assert all(after[k] is v for k, v in memory.items())  # copied into the same tensors
    train(first, params, range(3, 6))
    train(second, others, range(3, 6))
    for p, other in zip(params, others, strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), other.detach().numpy())


def test_state_dict_has_pytorchs_layout() -> None:
    params = parameters((2,), (3,))
    optimizer = optim.Adam([{"params": params[:1]}, {"params": params[1], "lr": 1.0}])
    train(optimizer, params, range(2))
    state = optimizer.state_dict()
    assert [group["params"] for group in state["param_groups"]] == [[0], [1]]
    assert state["param_groups"][1]["lr"] == 1.0
    assert set(state["state"][1]) == {"step", "exp_avg", "exp_avg_sq"}
    assert state["state"][0]["step"].item() == 2 and state["state"][0]["step"].dtype == tm.float32


def test_state_of_other_parameters_is_refused() -> None:
    a, b = optim.Adam(parameters((2,), (3,))), optim.Adam(parameters((2,), (4,)))
    train(a, a.param_groups[0]["params"], range(1))
    with pytest.raises(LoadError, match=r"exp_avg of parameter 1 is \[3\], the parameter \[4\]"):
        b.load_state_dict(a.state_dict())
    assert not b.state
    with pytest.raises(LoadError, match=r"\[1\] parameters, those in the state dict \[2\]"):
        optim.Adam(parameters((2,))).load_state_dict(a.state_dict())


def test_missing_gradients_are_skipped() -> None:
    p, q = parameters((2,), (2,))
    optimizer = optim.Adam([p, q])
    before = q.detach().clone()
    train(optimizer, [p], range(3))
    assert tm.equal(q.detach(), before) and q not in optimizer.state
    optimizer.zero_grad(set_to_none=False)
    assert p.grad is not None and not p.grad.any()
    optimizer.zero_grad()
    assert p.grad is None


def test_hyper_parameters_are_read_at_each_step() -> None:
    (p,) = parameters((2,))
    optimizer = optim.SGD([p], lr=0.1)
    before = p.detach().clone()
    optimizer.param_groups[0]["lr"] = 0.0
    train(optimizer, [p], range(1))
    assert tm.equal(p.detach(), before)
    optimizer.param_groups[0].update(lr=0.1, momentum=0.9)  # needs state that wasn't there
    train(optimizer, [p], range(2))
    assert "momentum_buffer" in optimizer.state[p]


def test_closure() -> None:
    (p,) = parameters((2,))
    optimizer = optim.SGD([p], lr=0.1)

    def closure() -> tm.Tensor:
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    before = p.detach().clone()
    with tm.no_grad():  # the closure records all the same
        loss = optimizer.step(closure)
    assert loss.item() == pytest.approx((before**2).sum().item())
    assert tm.allclose(p.detach(), before * 0.8)
    with pytest.raises(TypeError, match="needs a closure"):
        optim.LBFGS([p]).step()


def test_backward_after_a_step_in_between_is_refused() -> None:
    (p,) = parameters((2,))
    loss = (p * p).sum()
    give_gradients([p], 0)
    optim.SGD([p], lr=0.1).step()
    with pytest.raises(tm.errors.GradError, match="changed in place"):
        loss.backward()


def test_learning_from_a_generator_of_parameters() -> None:
    tm.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = optim.AdamW((p for p in model.parameters()), lr=0.05)
    x = tm.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    y = tm.tensor([[0.0], [1.0], [1.0], [0.0]])
    for _ in range(150):
        optimizer.zero_grad()
        loss = nn.MSELoss()(model(x), y)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.01


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda p: optim.SGD([]), ValueError, "no parameters"),
        (lambda p: optim.SGD(p), TypeError, "several parameters"),
        (lambda p: optim.SGD([3]), TypeError, "updates tensors, got int"),
        (lambda p: optim.SGD([p * 2]), ValueError, "can only update leaves"),
        (lambda p: optim.SGD([p, p]), ValueError, "twice"),
        (lambda p: optim.SGD({"params": [p]}), TypeError, "pass \\[group\\]"),
        (lambda p: optim.SGD([{"params": [p]}, {"params": [p]}]), ValueError, "twice"),
        (lambda p: optim.SGD([{"params": [p], "momentun": 1}]), ValueError, "mean 'momentum'"),
        (lambda p: optim.SGD([{"params": [p], "lr": -1}]), ValueError, "lr must be at least 0"),
        (lambda p: optim.SGD([p], lr=float("nan")), ValueError, "lr must be at least 0"),
        (lambda p: optim.SGD([p], lr="0.1"), TypeError, "lr must be a number"),
        (lambda p: optim.SGD([p], nesterov=True), ValueError, "nesterov needs a momentum"),
        (lambda p: optim.Adam([p], betas=(0.9, 1.0)), ValueError, "betas must be .* below 1"),
        (lambda p: optim.Adam([p], betas=0.9), ValueError, "betas must be two numbers"),
        (lambda p: optim.Adadelta([p], rho=1.1), ValueError, "rho"),
        (lambda p: optim.Adagrad([p], lr_decay=-1), ValueError, "lr_decay"),
        (lambda p: optim.RMSprop([p], eps=-1), ValueError, "eps"),
        (lambda p: optim.LBFGS([p], line_search_fn="wolfe"), ValueError, "strong_wolfe"),
        (lambda p: optim.LBFGS([{"params": [p]}, {"params": [p.clone().detach()]}]), ValueError,
         "one parameter group"),
    ],
)  # fmt: skip
def test_refusals(make: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make(tm.ones(2, requires_grad=True))


def test_repr() -> None:
    (p,) = parameters((1,))
    assert repr(optim.Adagrad([p])).splitlines()[:4] == [
        "Adagrad (", "Parameter Group 0", "    eps: 1e-10", "    initial_accumulator_value: 0",
    ]  # fmt: skip


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_lbfgs_finds_the_minimum_and_its_state_is_kept(search: str | None, tmp_path: Any) -> None:
    (p,) = parameters((4,))
    target = tm.arange(4.0, dtype=tm.float64)

    def make(p: tm.Tensor) -> tuple[optim.LBFGS, Any]:
        optimizer = optim.LBFGS([p], lr=0.3, max_iter=4, line_search_fn=search)

        def closure() -> tm.Tensor:
            optimizer.zero_grad()
            loss = ((p - target).exp() - (p - target)).sum()
            loss.backward()
            return loss

        return optimizer, closure

    optimizer, closure = make(p)
    optimizer.step(closure)
    tm.save([optimizer.state_dict(), p], tmp_path / "state")
    optimizer.step(closure)
    state, q = tm.load(tmp_path / "state")
    again, closure_again = make(q.requires_grad_())
    again.load_state_dict(state)
    again.step(closure_again)
    np.testing.assert_array_equal(p.detach().numpy(), q.detach().numpy())
    for _ in range(20):
        optimizer.step(closure)
    assert tm.allclose(p.detach(), target, atol=1e-4)
