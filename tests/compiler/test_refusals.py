"""What can't be compiled: each time the line, the reason and the cure; and nothing has changed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import toumei as tm
import toumei.nn.functional as F
from tests.compiler.eager import exact, passed
from toumei import nn, optim
from toumei.errors import GradError, OpError, TraceError

ARRAY = np.ones(3, np.float32)
OUTSIDE = tm.tensor([1.0, 0.0, 2.0])
KEPT: list[Any] = []
STATE = {"h": tm.zeros(3)}


class Box:
    """Something that a step can put a tensor into unseen."""

    kept: Any = None


class Holder:
    """Something that isn't taken apart."""

    def __init__(self, value: Any) -> None:
        self.value = value


def set_rate(x: tm.Tensor) -> None:
    optimizer.param_groups[0]["lr"] = 0.5


def carry(x: tm.Tensor) -> tm.Tensor:
    STATE["h"] = STATE["h"] + x
    return STATE["h"].sum()


# What needs numbers, of a tensor that is computed and of one from outside.
READS: dict[str, tuple[Callable[[tm.Tensor], Any], str]] = {
    "item": (lambda x: x.sum().item(), r"item\(\).*return the tensor"),
    "float": (lambda x: float(x.sum()), r"float\(\)"),
    "int": (lambda x: int(x.sum()), r"int\(\)"),
    "bool": (lambda x: 1 if x.sum() > 0 else 0, r"truth of a tensor.*use where\(\)"),
    "and": (lambda x: x.sum() and x, "truth of a tensor"),
    "numpy": (lambda x: x.detach().numpy(), r"numpy\(\)"),
    "asarray": (lambda x: np.asarray(x.detach()), r"numpy\(\)"),
    "sin": (lambda x: np.sin(x.detach()), "numpy|ufunc"),
    "tolist": (lambda x: x.tolist(), r"tolist\(\)"),
    "index": (lambda x: [1, 2, 3][x.long()[0]], "as an index"),
    "range": (lambda x: list(range(x.long()[0])), "as an index"),
    "in": (lambda x: 1.0 in x, r"\.any\(\)"),
    "format": (lambda x: f"{x.sum():.3f}", "formatted number"),
    "nonzero": (lambda x: x.nonzero(), "nonzero.*depends on the numbers"),
    "where": (lambda x: tm.where(x > 0), "depends on the numbers"),
    "mask": (lambda x: x[x > 0], r"masked_fill\(\)"),
    "masked_select": (lambda x: x.masked_select(x > 0), "depends on the numbers"),
    "unique": (lambda x: x.unique(), "unique.*depends on the numbers"),
    "bincount": (lambda x: x.long().bincount(), "depends on the numbers"),
    "repeat": (lambda x: x.repeat_interleave(x.long()), "depends on the numbers"),
    "allclose": (lambda x: tm.allclose(x, x), "depends on the numbers"),
    "equal": (lambda x: tm.equal(x, x), "depends on the numbers"),
    "tensor": (lambda x: tm.tensor([x[0], x[1]]), r"use stack\(\)"),
    "copy": (lambda x: tm.tensor(x), r"use clone\(\)"),
    "full": (lambda x: tm.full((2,), x[0]), "use stack|depends on the numbers|tensor"),
    "data_ptr": (lambda x: x.data_ptr(), "data_ptr"),
    "max_norm": (
        lambda x: F.embedding(x.long(), OUTSIDE.view(3, 1), max_norm=1.0),
        "embedding with max_norm",
    ),
}


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("whence", ["computed", "argument", "outside"])
def test_numbers_are_not_known(name: str, whence: str) -> None:
    read, message = READS[name]

    @exact
    def step(x: tm.Tensor) -> Any:
        return read({"computed": x * 1, "argument": x, "outside": OUTSIDE}[whence])

    with pytest.raises((TraceError, OpError, TypeError), match=message) as caught:
        step(tm.tensor([1.0, 0.0, 2.0]))
    if isinstance(caught.value, TraceError):
        assert "test_refusals.py" in str(caught.value)


# What would act only once.
generator = tm.Generator()
model = nn.Linear(3, 3)
optimizer = optim.SGD(model.parameters(), lr=0.1)
schedule = optim.lr_scheduler.StepLR(optimizer, 1)
lbfgs = optim.LBFGS(model.parameters())
counter = 0


def count(x: tm.Tensor) -> None:
    global counter
    counter += 1


def append_to_argument(x: tm.Tensor, to: Any) -> None:
    to.append(x)


def assign_attribute(x: tm.Tensor) -> tm.Tensor:
    model.last = x * 2  # type: ignore[assignment]
    return model(x)


ACTS: dict[str, tuple[Callable[[tm.Tensor], Any], str]] = {
    "array": (lambda x: x + ARRAY, "hand it to the step as an argument"),
    "right array": (lambda x: ARRAY * x, "hand it to the step as an argument"),
    "array in place": (lambda x: x.mul_(ARRAY), "hand it to the step as an argument"),
    "from_numpy": (lambda x: tm.from_numpy(ARRAY) + x, "hand it to the step as an argument"),
    "tm.tensor": (lambda x: tm.tensor(ARRAY) + x, "hand it to the step as an argument"),
    "as_tensor": (lambda x: tm.as_tensor(ARRAY) + x, "hand it to the step as an argument"),
    "index by array": (lambda x: x[np.array([0, 1])], "hand it to the step as an argument"),
    "np.random": (lambda x: x + np.random.rand(3), "hand it to the step as an argument"),
    "random": (lambda x: x * random.random(), "random number of Python or NumPy.*only once"),
    "np.random's number": (lambda x: x * float(np.random.normal()), "random number.*only once"),
    "seed": (lambda x: tm.seed(), "seed.* outside"),
    "generator": (lambda x: generator.seed(), "seed.* outside"),
    "get state": (lambda x: tm.get_rng_state(), "outside"),
    "set state": (lambda x: tm.set_rng_state(np.zeros(2, np.int64)), "outside"),
    "scheduler": (lambda x: schedule.step(), r"step\(\) of a StepLR.*outside"),
    "rate": (set_rate, "setting the optimizer's 'lr'.*outside"),
    "LBFGS": (lambda x: lbfgs.step(lambda: x.sum()), "compile its closure"),
    "state_dict": (lambda x: model.state_dict(), "outside of the step"),
    "load_state_dict": (lambda x: model.load_state_dict({}), "outside of the step"),
    "optimizer's state": (lambda x: optimizer.state_dict(), "outside of the step"),
    "optimizer's loading": (lambda x: optimizer.load_state_dict({}), "outside of the step"),
    "to": (lambda x: model.double(), "outside of the step"),
    "global": (count, "the global 'counter' changed.*only once"),
    "list": (lambda x: KEPT.append(x * 2), "the length of the global 'KEPT' changed"),
    "dict": (carry, r"the global 'STATE'\['h'\] changed"),
    "object": (lambda x: Holder(x * 2), "returns a Holder with tensors in it"),
    "attribute": (assign_attribute, r"Linear\.last.*copy_\("),
    "default dtype": (lambda x: tm.set_default_dtype(tm.float64), "outside of the step"),
}


@pytest.mark.parametrize("name", ACTS)
def test_effects_that_would_come_once(name: str) -> None:
    act, message = ACTS[name]
    state = tm.get_rng_state()
    for _ in range(2):
        with pytest.raises(TraceError, match=message) as caught:
            exact(act)(tm.ones(3))
        KEPT.clear()
        STATE["h"] = tm.zeros(3)
    assert "test_refusals.py" in str(caught.value)
    assert tm.get_rng_state().tolist() == state.tolist()
    assert not hasattr(model, "last")


def test_a_list_that_was_handed_over() -> None:
    with pytest.raises(TraceError, match="changes a list"):
        exact(append_to_argument)(tm.ones(3), [])


def test_constants_of_python_numbers_are_fine() -> None:
    f = exact(lambda x: x * tm.tensor([1.0, 2.0, 3.0]) + tm.ones(3) + tm.arange(3))
    assert f(tm.ones(3)).tolist() == [2, 4, 6]


def test_numbers_that_the_step_made_itself_are_known() -> None:
    def step(x: tm.Tensor) -> tm.Tensor:
        mask = tm.tensor([True, False, True])
        return (
            x.repeat_interleave(tm.tensor([1, 2, 0])) + mask.nonzero().sum() + tm.equal(mask, mask)
        )

    x = tm.rand(3)
    assert exact(step)(x).tolist() == step(x).tolist()


def test_printing_a_traced_tensor(capsys: pytest.CaptureFixture[str]) -> None:
    @exact
    def f(x: tm.Tensor) -> tm.Tensor:
        y = x * 2
        print(y, f"{y}", repr(x), y.shape, y.is_contiguous(), y.T.stride(), y.dtype)
        return y

    f(tm.ones(2, 3))
    text = capsys.readouterr().out
    assert "shape=(2, 3)" in text and "float32" in text and "True (1, 3)" in text


def test_a_tensor_that_outlives_its_trace() -> None:
    @exact
    def step(x: tm.Tensor) -> tm.Tensor:
        Box.kept = x * 2
        return x + 1

    assert step(tm.ones(2)).tolist() == [2, 2]
    kept = Box.kept
    for use in (
        lambda: kept + 1,
        lambda: kept.sum(),
        lambda: kept.reshape(1, 2),
        lambda: kept.numpy(),
        lambda: tm.stack([kept, kept]),
        lambda: step(kept),
        lambda: exact(lambda x: x + kept)(tm.ones(2)),
        lambda: kept.tolist(),
        lambda: bool(kept.sum()),
    ):
        with pytest.raises(TraceError, match="Return it from the step"):
            use()
    assert "shape=(2,)" in repr(kept)


def test_a_graph_that_would_outlive_the_step() -> None:
    w = nn.Parameter(tm.ones(2))
    memory = tm.zeros(2)

    @exact
    def step(x: tm.Tensor) -> None:
        memory.add_(w * x)

    with pytest.raises(TraceError, match="detach"):
        step(tm.ones(2))
    assert memory.tolist() == [0, 0] and not memory.requires_grad

    @exact
    def keep(x: tm.Tensor) -> None:
        (w * x).pow(2).sum().backward(create_graph=True)

    with pytest.raises(TraceError, match="create_graph=True"):
        keep(tm.ones(2))
    assert w.grad is None


def test_backward_into_a_graph_made_outside() -> None:
    w = nn.Parameter(tm.ones(2))
    y = w * 2

    @exact
    def captured(x: tm.Tensor) -> None:
        (y * x).sum().backward()

    @exact
    def given(y: tm.Tensor) -> None:
        (y * 2).sum().backward()

    with pytest.raises(TraceError, match="made outside of it"):
        captured(tm.ones(2))
    with pytest.raises(TraceError, match=r"argument 0.*made outside"):
        given(y)
    assert w.grad is None
    inner = exact(lambda y: tm.autograd.grad((y**2).sum(), y)[0])
    assert inner(y).tolist() == [4, 4]
    y.sum().backward()  # the graph is as it was
    assert w.grad is not None and w.grad.tolist() == [2, 2]


def test_a_second_order_across_the_boundary() -> None:
    w = nn.Parameter(tm.ones(2))
    f = exact(lambda x: (w**3 * x).sum())
    with pytest.raises(GradError, match="second derivative"):
        tm.autograd.grad(f(tm.ones(2)), w, create_graph=True)
    (g,) = tm.autograd.grad(f(tm.ones(2)), w)
    assert g.tolist() == [3, 3]


def test_what_a_result_needs_was_changed() -> None:
    w = nn.Parameter(tm.ones(2))
    f = exact(lambda x: (w * x).sum())
    x = tm.ones(2, requires_grad=True)
    out = f(x)
    with tm.no_grad():
        w.add_(1)
    with pytest.raises(GradError, match="changed in place since"):
        out.backward()
    out = f(x)
    out.backward()
    assert x.grad is not None and x.grad.tolist() == [2, 2]
    with pytest.raises(GradError, match="a second time"):
        out.backward()


def test_results_whose_gradient_is_lost_within_the_step() -> None:
    def step(x: tm.Tensor, w: tm.Tensor) -> tuple[tm.Tensor, tm.Tensor, tm.Tensor]:
        y = (x * w).exp()
        z = y * 3
        y.mul_(2)  # exp needs its result for the gradient
        return y, z, (w * w).sum()

    x, w = tm.randn(3), tm.randn(3, requires_grad=True)
    for f in (step, exact(step)):
        y, z, other = f(x, w)
        np.testing.assert_array_equal((y * 1.5).tolist(), z.tolist())
        for lost in (y, z):
            with pytest.raises(GradError, match=r"exp needs its result.*changed in place since"):
                lost.sum().backward()
        other.backward()
    assert w.grad is not None
    np.testing.assert_allclose(w.grad.tolist(), (4 * w).tolist(), rtol=1e-6)


# --- nothing has changed ---


class Everything:
    """All that a step may change, to see that it hasn't."""

    def __init__(self) -> None:
        self.model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
        self.optimizer = optim.Adam(self.model.parameters())
        self.memory = tm.zeros(3)
        self.grad = tm.ones(4, 3)
        self.model[0].weight.grad = self.grad

    def now(self) -> Any:
        return (
            {k: v.numpy().copy().tolist() for k, v in self.model.state_dict().items()},
            self.optimizer.state_dict(),
            len(self.optimizer.state),
            tm.get_rng_state().tolist(),
            self.memory.tolist(),
            self.memory._storage.version,
            [p._storage.version for p in self.model.parameters()],
            [None if p.grad is None else p.grad.tolist() for p in self.model.parameters()],
            self.model[0].weight.grad is self.grad,
            [m.training for m in self.model.modules()],
            [p.requires_grad for p in self.model.parameters()],
            tm.is_grad_enabled(),
        )


@contextmanager
def unchanged(all_: Everything) -> Iterator[None]:
    before = all_.now()
    yield
    assert all_.now() == before


def test_an_error_while_tracing_changes_nothing() -> None:
    all_ = Everything()

    @exact
    def step(x: tm.Tensor, late: bool) -> None:
        all_.optimizer.zero_grad()
        all_.memory.add_(1)
        all_.memory[0].mul_(2)
        loss = (all_.model(x) ** 2).sum()
        all_.model.eval()
        loss.backward()
        all_.optimizer.step()
        all_.model.requires_grad_(False)
        tm.set_grad_enabled(False)
        if late:
            raise KeyError("late")
        loss.item()

    for late in (True, False):
        with unchanged(all_), pytest.raises((KeyError, TraceError)):
            step(tm.ones(2, 3), late)
    step = exact(step.function)  # the same, now that nothing is wrong
    with unchanged(all_), pytest.raises(OpError):
        step(tm.ones(2, 5), False)


@pytest.mark.parametrize("compile", [exact, passed])
def test_labels_and_indices_are_checked_before_anything_is_written(compile: Any) -> None:
    table, head = nn.Embedding(5, 4), nn.Linear(4, 3)
    both = nn.ModuleList([table, head])
    optimizer = optim.SGD(both.parameters(), lr=0.1)
    steps = tm.tensor(0)

    def eager(tokens: tm.Tensor, y: tm.Tensor) -> tm.Tensor:
        steps.add_(1)
        optimizer.zero_grad()
        loss = F.cross_entropy(head(F.dropout(table(tokens.view(-1)))), y[0].long())
        loss.backward()
        optimizer.step()
        return loss.detach()

    step = compile(eager)
    tokens = tm.tensor([[0, 1], [2, 4]])
    labels = tm.tensor([[0, 1, 2, 0], [9, 9, 9, 9]]).int()
    step(tokens, labels)
    (program,) = next(iter(step.programs.values()))
    if compile is passed:
        program.executor = None  # it never comes to that
    bad_tokens = tm.tensor([[0, 1], [2, 5]])
    bad_labels = tm.tensor([[0, 1, 3, 0], [0, 0, 0, 0]]).int()
    for bad in ((bad_tokens, labels), (tokens, bad_labels)):
        state = [p.detach().clone() for p in both.parameters()]
        drawn = tm.get_rng_state().tolist()
        with pytest.raises(OpError) as caught:
            step(*bad)
        assert steps.item() == 1 and tm.get_rng_state().tolist() == drawn
        for p, before in zip(both.parameters(), state, strict=True):
            assert tm.equal(p, before)
        with pytest.raises(type(caught.value)) as expected:
            eager(*bad)
        assert caught.value.message == expected.value.message
        assert caught.value.where == expected.value.where
        steps.fill_(1)


INDEXED: dict[str, Callable[[tm.Tensor, tm.Tensor], Any]] = {
    "x[i]": lambda x, i: x[i],
    "x[:, i]": lambda x, i: x[:, i],
    "gather": lambda x, i: x.gather(0, i[None].expand(1, 3)),
    "index_select": lambda x, i: x.index_select(0, i),
    "index_add": lambda x, i: x.index_add(0, i, tm.ones(3, 3)),
    "scatter": lambda x, i: x.scatter(1, i.view(3, 1), 1.0),
    "embedding": lambda x, i: F.embedding(i, x),
    "one_hot": lambda x, i: F.one_hot(i, 3),
    "nll_loss": lambda x, i: F.nll_loss(x, i),
}


@pytest.mark.parametrize("name", INDEXED)
def test_places_are_looked_at_before_the_step(name: str) -> None:
    memory = tm.zeros(())

    @passed
    def step(x: tm.Tensor, i: tm.Tensor) -> Any:
        memory.add_(1)
        return INDEXED[name](x * 2, i)

    x = tm.rand(3, 3)
    good, bad = tm.tensor([2, 0, 1]), tm.tensor([0, 3, 1])
    step(x, good)
    (program,) = next(iter(step.programs.values()))
    assert len(program.checks) == 1
    program.executor = None
    with pytest.raises(tm.errors.OpIndexError, match="3") as caught:
        step(x, bad)
    with pytest.raises(tm.errors.OpIndexError) as expected:
        step.function(x, bad)
    assert caught.value.where == expected.value.where
    assert memory.item() == 2  # once compiled, once eager


def test_places_that_never_change_are_looked_at_once() -> None:
    f = passed(lambda x: x[tm.arange(3)])
    f(tm.rand(3))
    (program,) = next(iter(f.programs.values()))
    assert not program.checks
    with pytest.raises(tm.errors.OpIndexError, match="index 2"):
        f(tm.rand(2))
