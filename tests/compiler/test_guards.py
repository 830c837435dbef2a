"""When a function is traced anew, what becomes of gradients, how many programs are kept."""

from __future__ import annotations

import copy
import functools
import threading
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import toumei as tm
from tests.compiler.eager import check, exact, plain, same, trail
from toumei import nn, optim
from toumei.compiler import Compiled
from toumei.compiler.compiled import LIMIT


def traces(function: Compiled) -> int:
    return sum(map(len, function.programs.values()))


# --- modules ---


def test_a_compiled_module() -> None:
    def build(compile: Any) -> Iterator[Any]:
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
        quick = model if compile is plain else tm.compile(model)
        assert isinstance(quick, nn.Module) and [*quick.state_dict()] == [*model.state_dict()]
        assert next(iter(quick.parameters())) is model[0].weight and quick[0] is model[0]
        optimizer = optim.SGD(quick.parameters(), lr=0.1)
        for _ in range(3):
            quick.train()
            assert quick.training and model[2].training
            optimizer.zero_grad()
            loss = (quick(tm.randn(4, 3)) ** 2).sum()
            loss.backward()
            optimizer.step()
            yield loss, model.state_dict()
            quick.eval()
            assert not quick.training and not model.training and not model[2].training
            with tm.no_grad():
                yield quick(tm.randn(4, 3))
        other = copy.deepcopy(quick)
        assert repr(other) == repr(quick) and other is not quick
        other[0].weight.data.zero_()
        yield quick(tm.ones(1, 3)), other(tm.ones(1, 3))

    check(build, close=True)


def test_methods() -> None:
    class Learner:
        def __init__(self, size: int) -> None:
            self.model = nn.Linear(size, 1)
            self.optimizer = optim.SGD(self.model.parameters(), lr=0.1)
            self.scale = 1

        @exact
        def step(self, x: tm.Tensor) -> tm.Tensor:
            self.optimizer.zero_grad()
            loss = (self.model(x) * self.scale).sum()
            loss.backward()
            self.optimizer.step()
            return loss.detach()

    a, b = Learner(2), Learner(2)
    x = tm.ones(1, 2)
    before = float(b.model(x))
    for learner in (a, b, a, b):
        learner.step(x)
    assert traces(Learner.__dict__["step"]) == 2
    assert float(b.model(x)) == pytest.approx(before - 0.6)
    bound = exact(a.model.forward)
    assert bound(x).shape == (1, 1)


def test_functions_over_one_model_see_each_other() -> None:
    def build(compile: Any) -> Iterator[Any]:
        model = nn.Linear(3, 2)
        optimizer = optim.Adam(model.parameters())
        saved = {k: v.clone() for k, v in model.state_dict().items()}
        memory = copy.deepcopy(optimizer.state_dict())

        @compile
        def step(x: tm.Tensor) -> tm.Tensor:
            optimizer.zero_grad()
            loss = (model(x) ** 2).mean()
            loss.backward()
            optimizer.step()
            return loss.detach()

        measure = compile(lambda x: model(x).detach())
        for i in range(6):
            x = tm.randn(2, 3)
            yield step(x), measure(x)
            if i == 1:
                model.load_state_dict(saved)
                memory = copy.deepcopy(optimizer.state_dict())
            if i == 3:
                optimizer.load_state_dict(memory)
            yield optimizer.state_dict()["state"], model.state_dict()

    check(build)


def test_loading_makes_no_new_trace() -> None:
    model = nn.Linear(2, 1)
    optimizer = optim.Adam(model.parameters())

    @exact
    def step(x: tm.Tensor) -> None:
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()

    for _ in range(3):
        step(tm.ones(1, 2))
        model.load_state_dict({k: v.clone() for k, v in model.state_dict().items()})
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert traces(step) == 1


def test_what_a_trace_read_from_modules() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            self.first = nn.Linear(2, 2)
            self.drop = nn.Dropout(0.0)
            self.scale = 1.0
            self.layers = [nn.Identity()]
            self.note = 0  # nobody reads it

        def forward(self, x: tm.Tensor) -> tm.Tensor:
            x = self.drop(self.first(x)) * self.scale
            for layer in self.layers:
                x = layer(x)
            return x

    model = Net()
    f = exact(model.__call__)
    x = tm.ones(1, 2)

    def agrees(count: int) -> None:
        same([f(x).detach().numpy()], [model(x).detach().numpy()])
        assert traces(f) == count

    agrees(1)
    model.note += 1
    agrees(1)
    model.scale = 2.0
    agrees(2)
    model.first.weight = nn.Parameter(tm.ones(2, 2))
    agrees(3)
    model.layers.append(nn.Tanh())
    agrees(4)
    model.drop.p = 1.0
    agrees(5)
    model.eval()
    agrees(6)
    model.double()
    x = x.double()
    agrees(7)


def test_modules_that_grow() -> None:
    def build(compile: Any) -> Iterator[Any]:
        model = nn.Sequential(nn.Linear(2, 2))
        f = compile(lambda x: model(x))
        decay = compile(lambda: sum((p * p).sum() for p in model.parameters()))
        x = tm.randn(3, 2)
        yield f(x), decay()
        model.append(nn.Tanh())
        yield f(x), decay()
        model.extend([nn.Linear(2, 3)])
        yield f(x), decay()
        del model[0]
        yield f(x), decay()

    check(build, close=True)


def test_modules_that_are_read_but_not_called() -> None:
    class Learner(nn.Module):
        def __init__(self) -> None:
            self.net = nn.Linear(2, 2)
            self.scale = 1.0
            self.count = 0  # the step doesn't read it

        def training_step(self, x: tm.Tensor) -> tm.Tensor:
            return self.scaled(x).sum()

        def scaled(self, x: tm.Tensor) -> tm.Tensor:
            return self.net(x) * self.scale

        def epoch(self) -> None:
            self.count += 1

    learner, layer = Learner(), nn.Linear(2, 2)
    layers = [layer]
    steps = {
        "method": learner.training_step,
        "method of a closure": lambda x: learner.training_step(x),
        "attribute": lambda x: x @ layer.weight,
        "in a list": lambda x: x @ layers[0].weight,
        "argument": lambda x, m=layer: x @ m.weight,
    }
    compiled = {name: exact(step) for name, step in steps.items()}
    x = tm.randn(3, 2)

    def agree(count: int) -> None:
        for name, step in steps.items():
            more = [layer] if name == "argument" else []
            same([compiled[name](x, *more).tolist()], [step(x, *more).tolist()])
        learner.epoch()
        for name in ("method", "attribute"):
            assert traces(compiled[name]) == count

    agree(1)
    agree(1)
    learner.scale = 2.0
    layer.weight = nn.Parameter(tm.randn(2, 2))
    agree(2)
    learner.net = nn.Linear(2, 2)
    layer.weight = nn.Parameter(tm.randn(2, 2))
    agree(3)


class Settings:
    power = 1.0

    def __init__(self) -> None:
        self.inner = types.SimpleNamespace(scale=1.0)


class Keeper:
    """Reads settings in a method that the step doesn't name."""

    def __init__(self) -> None:
        self.settings, self.many = Settings(), {"factor": 1.0}

    def step(self, x: tm.Tensor) -> tm.Tensor:
        return self._scaled(x)

    def _scaled(self, x: tm.Tensor) -> tm.Tensor:
        return x * self.settings.inner.scale * self.many["factor"] + self.settings.power


def test_numbers_within_objects() -> None:
    keeper = Keeper()
    steps: list[Callable[[tm.Tensor], tm.Tensor]] = [
        keeper.step,
        lambda x: keeper.step(x),
        functools.partial(Keeper.step, keeper),
        lambda x: x * Settings.power,
    ]
    compiled: list[Any] = [exact(step) for step in steps]
    decorated = exact(Keeper.step)  # as in a class's body: the object is an argument
    steps.append(keeper.step)
    compiled.append(functools.partial(decorated, keeper))
    x = tm.randn(3)

    def agree() -> None:
        for f, step in zip(compiled, steps, strict=True):
            same([f(x).tolist()], [step(x).tolist()])

    agree()
    agree()
    assert [traces(f) for f in (*compiled[:4], decorated)] == [1] * 5
    keeper.settings.inner.scale = 2.0
    agree()
    keeper.many["factor"] = 3.0
    agree()
    keeper.settings = Settings()
    agree()
    Settings.power = 2.0
    agree()
    Settings.power = 1.0


def test_requires_grad_makes_a_new_trace() -> None:
    def build(compile: Any) -> Iterator[Any]:
        model = nn.Linear(2, 1)

        @compile
        def step(x: tm.Tensor) -> Any:
            model.zero_grad()
            loss = model(x).sum()
            loss.backward()
            return loss.requires_grad

        for frozen in (False, True, False):
            model.weight.requires_grad_(not frozen)
            yield step(tm.ones(1, 2))
            yield [p.grad for p in model.parameters()]

    check(build)


# --- gradients ---


def test_gradients_that_were_used_up() -> None:
    model = nn.Linear(2, 1)
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step(x: tm.Tensor) -> None:
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()

    x = tm.ones(1, 2)
    quick = exact(step)
    for _ in range(3):
        quick(x)
    assert traces(quick) == 1
    with pytest.raises(tm.errors.GradError, match="keep_grads=True"):
        _ = model.weight.grad
    with pytest.raises(tm.errors.GradError, match="zero_grad"):
        model(x).sum().backward()
    with pytest.raises(tm.errors.GradError, match="used up"):
        optimizer.step()
    copied = copy.deepcopy(model)
    with pytest.raises(tm.errors.GradError, match="used up"):
        _ = copied.weight.grad
    optimizer.zero_grad(set_to_none=False)
    assert model.weight.grad is not None and model.weight.grad.tolist() == [[0, 0]]
    quick(x)
    optimizer.zero_grad()
    assert model.weight.grad is None
    step(x)
    assert model.weight.grad is not None

    kept = exact(keep_grads=True)(step)
    kept(x)
    assert model.weight.grad.tolist() == [[1, 1]]
    kept(x)
    kept(x)
    assert traces(kept) == 1


def test_zeroes_in_the_place_of_gradients() -> None:
    def build(compile: Any) -> Iterator[Any]:
        w = nn.Parameter(tm.ones(2))
        optimizer = optim.SGD([w], lr=0.1, momentum=0.9)
        made = compile(keep_grads=True)

        @made
        def step(x: tm.Tensor) -> None:
            optimizer.zero_grad(set_to_none=False)
            (w * x).sum().backward()
            optimizer.step()

        for _ in range(4):
            step(tm.rand(2))
            yield w, w.grad

    check(build)


def test_a_step_without_zero_grad_says_so() -> None:
    w = nn.Parameter(tm.ones(2))
    optimizer = optim.SGD([w], lr=0.1)

    @exact
    def step(x: tm.Tensor) -> None:
        (w * x).sum().backward()
        optimizer.step()

    step(tm.ones(2))
    with pytest.raises(tm.errors.GradError, match="zero_grad"):
        step(tm.ones(2))
    for _ in range(3):
        optimizer.zero_grad()
        step(tm.ones(2))
    assert traces(step) == 1


def test_gradients_of_arguments() -> None:
    def build(compile: Any) -> Iterator[Any]:
        @compile
        def f(x: tm.Tensor) -> Any:
            (x**2).sum().backward()
            return x.grad, x.is_leaf

        x = tm.ones(3, requires_grad=True)
        for _ in range(3):
            yield f(x)
            yield x.grad
        yield f(tm.rand(3, requires_grad=True))

        @compile
        def g(x: tm.Tensor) -> Any:
            x.requires_grad_()
            (x**3).sum().backward()

        x = tm.ones(3)
        g(x)
        yield x.grad, x.requires_grad

    check(build)


# --- modes ---


def test_modes_make_a_new_trace() -> None:
    w = nn.Parameter(tm.ones(2))
    f = exact(lambda x: w * x * 0.1 + tm.ones(2))
    x = tm.ones(2)
    assert f(x).requires_grad
    with tm.no_grad():
        assert not f(x).requires_grad
    tm.set_default_dtype(tm.float64)
    try:
        assert f(x).dtype == tm.float64
    finally:
        tm.set_default_dtype(tm.float32)
    assert traces(f) == 3


def test_grad_mode_set_within() -> None:
    w = nn.Parameter(tm.ones(2))

    @exact
    def f(on: bool) -> tm.Tensor:
        tm.set_grad_enabled(on)
        return w * 2

    try:
        for on in (False, True, False, False):
            assert f(on).requires_grad is on
            assert tm.is_grad_enabled() is on
    finally:
        tm.set_grad_enabled(True)


def test_train_and_eval_within() -> None:
    def build(compile: Any) -> Iterator[Any]:
        model = nn.Dropout(0.5)

        @compile
        def f(x: tm.Tensor) -> Any:
            model.train()
            a = model(x)
            model.eval()
            return a, model(x)

        for _ in range(3):
            yield f(tm.ones(8))
            yield model.training

    check(build)


def test_debug_mode_runs_eager() -> None:
    f = exact(lambda x: x.log())
    f(tm.ones(1))
    with tm.debug(), pytest.raises(tm.errors.AnomalyError):
        f(tm.zeros(1))


# --- the number of programs ---


def test_too_many_shapes_run_eager_and_say_why() -> None:
    f = exact(lambda x: x * 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n in range(1, LIMIT + 1):
            f(tm.ones(n))
    with pytest.warns(UserWarning, match=rf"float32\[{LIMIT}\] to float32\[{LIMIT + 1}\]"):
        assert f(tm.ones(LIMIT + 1)).tolist() == [2] * (LIMIT + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # told once
        f(tm.ones(LIMIT + 2))
    assert traces(f) == LIMIT


def test_programs_out_of_use_make_room() -> None:
    f = exact(lambda x: x * 2)
    for n in range(1, LIMIT + 1):
        f(tm.ones(n))
    for _ in range(100):
        f(tm.ones(LIMIT))
    f(tm.ones(LIMIT + 1))
    assert traces(f) == LIMIT and len(f.programs[f._key(*_flat(tm.ones(LIMIT + 1)))]) == 1


def _flat(*args: Any) -> Any:
    from toumei.compiler.structure import flatten

    leaves: list[Any] = []
    return flatten((args, {}), leaves), leaves


def test_a_guard_that_keeps_failing_is_named() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            self.count = 0

        def forward(self, x: tm.Tensor) -> tm.Tensor:
            self.count += 1
            return x * self.count

    model = Counting()
    f = exact(model.__call__)
    with pytest.warns(UserWarning, match=r"Counting\.count changed from \d+ to \d+"):
        found = [f(tm.ones(1)).item() for _ in range(LIMIT + 4)]
    assert found == list(range(1, LIMIT + 5)) and model.count == LIMIT + 4


def test_threads_share_a_step() -> None:
    w = nn.Parameter(tm.zeros(1))
    optimizer = optim.SGD([w], lr=1.0)

    @exact
    def step() -> None:
        optimizer.zero_grad()
        (-w).sum().backward()
        optimizer.step()

    threads = [threading.Thread(target=lambda: [step() for _ in range(20)]) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert w.item() == 80 and traces(step) == 1


def test_compiled_within_compiled() -> None:
    def build(compile: Any) -> Iterator[Any]:
        inner = compile(lambda x: x.sin())
        outer = compile(lambda x: inner(x) + inner(2 * x))
        yield outer(tm.ones(2)), inner(tm.ones(2))

    check(build)


def test_names() -> None:
    @tm.compile
    def step(x: tm.Tensor) -> tm.Tensor:
        """Do something."""
        return x

    assert step.__name__ == "step" and step.__doc__ == "Do something."
    assert tm.compile(step) is step
    with pytest.raises(tm.errors.TraceError, match="takes a function"):
        tm.compile(3)  # type: ignore[call-overload]
    assert trail(lambda c: iter([c(lambda: 3)()]), plain)[0] == 3
