"""What compiled steps compute is what eager ones do: training steps of many kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import toumei as tm
import toumei.nn.functional as F
from tests.compiler.eager import check, exact, trail
from toumei import nn, optim
from toumei.nn.utils import clip_grad_norm_, clip_grad_value_

STEPS = 4


def net(*, norm: bool = False, drop: float = 0.0) -> nn.Sequential:
    # Before a norm a bias has no gradient but noise, which Adam would make as large as any.
    layers: list[Any] = [nn.Linear(6, 8, bias=not norm)]
    layers += [nn.BatchNorm1d(8)] if norm else []
    layers += [nn.Tanh()]
    layers += [nn.Dropout(drop)] if drop else []
    return nn.Sequential(*layers, nn.Linear(8, 3))


def batches(n: int = STEPS) -> list[tuple[tm.Tensor, tm.Tensor]]:
    return [(tm.randn(5, 6), tm.randint(0, 3, (5,))) for _ in range(n)]


def left(model: nn.Module, *optimizers: optim.Optimizer) -> Any:
    """Return all that a step changes."""
    return [model.state_dict(), [o.state_dict()["state"] for o in optimizers]]


OPTIMIZERS: dict[str, Callable[[Any], optim.Optimizer]] = {
    "SGD": lambda p: optim.SGD(p, lr=0.1),
    "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-2),
    "nesterov": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "dampening": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.5),
    "maximize": lambda p: optim.SGD(p, lr=0.1, maximize=True),
    "Adam": lambda p: optim.Adam(p, lr=1e-2, weight_decay=1e-2),
    "amsgrad": lambda p: optim.Adam(p, lr=1e-2, amsgrad=True),
    "AdamW": lambda p: optim.AdamW(p, lr=1e-2),
    "Adamax": lambda p: optim.Adamax(p, lr=1e-2),
    "NAdam": lambda p: optim.NAdam(p, lr=1e-2),
    "RAdam": lambda p: optim.RAdam(p, lr=1e-2, betas=(0.9, 0.99)),
    "RMSprop": lambda p: optim.RMSprop(p, lr=1e-2),
    "centered": lambda p: optim.RMSprop(p, lr=1e-2, centered=True, momentum=0.5),
    "Adagrad": lambda p: optim.Adagrad(p, lr=1e-2, lr_decay=0.1),
    "Adadelta": lambda p: optim.Adadelta(p, lr=0.5),
    "groups": lambda p: optim.SGD(
        [{"params": [q], "lr": 0.1 / (i + 1), "momentum": 0.5 * (i % 2)} for i, q in enumerate(p)]
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(name: str) -> None:
    def build(compile: Any) -> Iterator[Any]:
        model = net()
        optimizer = OPTIMIZERS[name](model.parameters())

        @compile
        def step(x: tm.Tensor, y: tm.Tensor) -> tm.Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        for x, y in batches():
            yield step(x, y)
            yield left(model, optimizer)

    # NAdam's powers of numbers are Python's eager: another last bit.
    check(build, close=name == "NAdam")


def test_dropout_and_batch_norm() -> None:
    def build(compile: Any) -> Iterator[Any]:
        model = net(norm=True, drop=0.3)
        optimizer = optim.Adam(model.parameters())

        @compile
        def step(x: tm.Tensor, y: tm.Tensor) -> tm.Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        @compile
        @tm.no_grad()
        def measure(x: tm.Tensor) -> tm.Tensor:
            return model(x).argmax(-1)

        for x, y in batches():
            model.train()
            yield step(x, y)
            model.eval()
            yield measure(x)
            yield left(model, optimizer)

    check(build)


@pytest.mark.parametrize("layer", ["BatchNorm", "cumulative", "InstanceNorm"])
def test_running_statistics_of_several_passes_in_one_step(layer: str) -> None:
    def build(compile: Any) -> Iterator[Any]:
        norm: Any = {
            "BatchNorm": lambda: nn.BatchNorm2d(3),
            "cumulative": lambda: nn.BatchNorm2d(3, momentum=None),
            "InstanceNorm": lambda: nn.InstanceNorm2d(3, track_running_stats=True),
        }[layer]()

        @compile
        def step(x: tm.Tensor) -> tm.Tensor:
            return norm(norm(norm(x) * 2) + 1).mean()

        for _ in range(STEPS):
            yield step(tm.randn(2, 3, 4, 4))
            yield norm.state_dict()

    check(build)


def test_numbers_put_where_a_mask_is() -> None:
    def build(compile: Any) -> Iterator[Any]:
        @compile
        def step(x: tm.Tensor, rows: tm.Tensor, s: tm.Tensor) -> Any:
            y = x * 1
            y[y > 1] = 0.0
            y[:, 1][y[:, 0] < 0] = 2
            y[rows] = s
            x[x < 0] = -1
            return y, tm.autograd.grad((y * y).sum(), s)

        for _ in range(2):
            x = tm.randn(5, 4)
            yield step(x, tm.rand(5) > 0.5, tm.tensor(0.3, requires_grad=True)), x

    check(build, close=True)  # a scalar's gradient is a sum in another order


def test_clipping() -> None:
    def build(compile: Any) -> Iterator[Any]:
        model = net()
        optimizer = optim.SGD(model.parameters(), lr=0.5)

        @compile
        def step(x: tm.Tensor, y: tm.Tensor, most: float) -> tuple[tm.Tensor, tm.Tensor]:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            clip_grad_value_(model.parameters(), 0.05)
            norm = clip_grad_norm_(model.parameters(), most)
            optimizer.step()
            return loss, norm

        for i, (x, y) in enumerate(batches()):
            yield step(x, y, 0.01 * (i % 2 + 1))
            yield left(model)

    check(build)


def test_accumulation_by_two_functions() -> None:
    def build(compile: Any) -> Iterator[Any]:
        model = net(drop=0.2)
        optimizer = optim.Adam(model.parameters())

        @compile
        def accumulate(x: tm.Tensor, y: tm.Tensor) -> tm.Tensor:
            loss = F.cross_entropy(model(x), y)
            (loss / 2).backward()
            return loss.detach()

        @compile
        def update() -> None:
            optimizer.step()
            optimizer.zero_grad()

        for i, (x, y) in enumerate(batches(6)):
            yield accumulate(x, y)
            yield [p.grad for p in model.parameters()]
            if i % 2:
                yield update()
                yield [p.grad is None for p in model.parameters()]
            yield left(model, optimizer)

    check(build)


def test_two_optimisers_in_one_step() -> None:
    def build(compile: Any) -> Iterator[Any]:
        g = nn.Sequential(
            nn.Linear(4, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 6)
        )
        d = nn.Sequential(nn.Linear(6, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))
        og, od = optim.Adam(g.parameters(), lr=1e-2), optim.Adam(d.parameters(), lr=1e-2)
        bce = F.binary_cross_entropy_with_logits

        @compile
        def step(real: tm.Tensor) -> dict[str, tm.Tensor]:
            fake = g(tm.randn(real.shape[0], 4))
            od.zero_grad()
            score = d(real)
            loss_d = bce(score, tm.ones_like(score))
            score = d(fake.detach())
            loss_d = loss_d + bce(score, tm.zeros_like(score))
            loss_d.backward()
            od.step()
            og.zero_grad()
            score = d(fake)
            loss_g = bce(score, tm.ones_like(score))
            loss_g.backward()
            og.step()
            return {"d": loss_d.detach(), "g": loss_g.detach()}

        for _ in range(STEPS):
            yield step(tm.randn(5, 6))
            yield left(g, og), left(d, od)

    check(build)


def test_weights_cut_through_data() -> None:
    """A critic whose weights are clipped, and frozen while the generator learns."""

    def build(compile: Any) -> Iterator[Any]:
        g, d = nn.Linear(4, 6), nn.Linear(6, 1)
        og, od = optim.RMSprop(g.parameters(), lr=0.1), optim.RMSprop(d.parameters(), lr=0.1)

        @compile
        def step(real: tm.Tensor) -> tm.Tensor:
            fake = g(tm.randn(real.shape[0], 4))
            od.zero_grad()
            (d(fake.detach()).mean() - d(real).mean()).backward()
            od.step()
            for p in d.parameters():
                p.data.clamp_(-0.05, 0.05)
                p.data[0].mul_(0.5)
            d.requires_grad_(False)
            og.zero_grad()
            loss = -d(fake).mean()
            loss.backward()
            og.step()
            d.requires_grad_(True)
            return loss.detach()

        for _ in range(STEPS):
            yield step(tm.randn(5, 6))
            yield left(g, og), left(d, od)
            yield [p.requires_grad for p in d.parameters()]

    check(build)


def test_second_derivatives() -> None:
    """u'' of a network as a loss, and a penalty on the norm of a gradient."""

    def build(compile: Any) -> Iterator[Any]:
        model = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
        optimizer = optim.Adam(model.parameters(), lr=1e-2)

        @compile
        def step(x: tm.Tensor) -> tm.Tensor:
            x = x.detach().requires_grad_()
            optimizer.zero_grad()
            u = model(x)
            (du,) = tm.autograd.grad(u.sum(), x, create_graph=True)
            (ddu,) = tm.autograd.grad(du.sum(), x, create_graph=True)
            weights = tm.autograd.grad(u.mean(), list(model.parameters()), create_graph=True)
            loss = ((ddu + u * du) ** 2).mean() + sum((w * w).sum() for w in weights)
            loss.backward()
            optimizer.step()
            return loss

        for _ in range(STEPS):
            yield step(tm.rand(7, 1))
            yield left(model, optimizer)

    check(build)


def test_gradient_penalty_through_backward() -> None:
    def build(compile: Any) -> Iterator[Any]:
        w = nn.Parameter(tm.randn(3))
        optimizer = optim.SGD([w], lr=0.1)

        @compile
        def step(x: tm.Tensor) -> tm.Tensor:
            optimizer.zero_grad()
            loss = ((w * x) ** 3).sum()
            loss.backward(create_graph=True)
            assert w.grad is not None
            penalty = (w.grad**2).sum()
            optimizer.zero_grad()
            penalty.backward()
            optimizer.step()
            return penalty.detach()

        for _ in range(STEPS):
            yield step(tm.rand(3))
            yield w

    check(build)


def test_moving_average_of_weights() -> None:
    def build(compile: Any) -> Iterator[Any]:
        model = net(norm=True)
        shadow = net(norm=True).requires_grad_(False)
        average = optim.swa_utils.get_ema_multi_avg_fn(0.9)
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        count = tm.tensor(0)

        @compile
        def step(x: tm.Tensor, y: tm.Tensor) -> tm.Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            with tm.no_grad():
                old = [a.detach() for a in shadow.parameters()]
                average(old, [p.detach() for p in model.parameters()], count)
                for a, b in zip(shadow.buffers(), model.buffers(), strict=True):
                    a.copy_(b)
                count.add_(1)
            return loss.detach()

        for x, y in batches():
            yield step(x, y)
            yield left(model), left(shadow), count

    check(build)


def test_tied_weights() -> None:
    def build(compile: Any) -> Iterator[Any]:
        table = nn.Embedding(7, 4)
        out = nn.Linear(4, 7, bias=False)
        out.weight = table.weight
        model = nn.ModuleList([table, out])
        optimizer = optim.AdamW(model.parameters())

        @compile
        def step(tokens: tm.Tensor) -> tm.Tensor:
            optimizer.zero_grad()
            logits = out(table(tokens[:, :-1]))
            loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
            loss.backward()
            optimizer.step()
            return loss.detach()

        for _ in range(STEPS):
            yield step(tm.randint(0, 7, (3, 5)))
            yield left(model, optimizer)

    check(build)


def test_views_and_changes_in_place() -> None:
    def build(compile: Any) -> Iterator[Any]:
        memory = tm.zeros(4, 3)
        w = nn.Parameter(tm.randn(3))

        @compile
        def step(x: tm.Tensor) -> Any:
            y = x * w
            y[0].mul_(2)
            y[:, 1] = 0.5
            flat = y.view(-1)
            flat[::2].add_(1)
            y.relu_()
            loss = (y * y).sum()
            (g,) = tm.autograd.grad(loss, w)
            with tm.no_grad():
                memory[1:].copy_(memory[:-1].clone())
                row = memory[0]
                row.copy_(y.sum(0))
                w.sub_(g * 0.01)
                w[0] = 0.25
            return loss.detach(), flat.detach(), row.sum()

        for _ in range(STEPS):
            yield step(tm.randn(4, 3))
            yield memory, w

    check(build)


def test_a_result_that_requires_grad() -> None:
    """The loss comes out of the compiled function; backward and optimiser are outside."""

    def build(compile: Any) -> Iterator[Any]:
        model = net(drop=0.2)
        head = nn.Linear(3, 2)
        both = nn.ModuleList([model, head])
        optimizer = optim.Adam(both.parameters())
        forward = compile(lambda x, scale: (model(x) * scale, x.sum()))

        for x, _ in batches():
            x = (x * 2).requires_grad_()
            before = tm.ones(5, 6, requires_grad=True)
            optimizer.zero_grad()
            out, total = forward(x * before, 0.5)
            loss = head(out).tanh().sum() + total
            loss.backward()
            yield loss, x.grad, before.grad, [p.grad for p in both.parameters()]
            optimizer.step()
            yield left(both)

    check(build)


def test_two_results_of_one_graph() -> None:
    def build(compile: Any) -> Iterator[Any]:
        w = nn.Parameter(tm.randn(3))
        forward = compile(lambda x: {"a": (w * x).sum(), "b": w**2, "c": x})
        x = tm.rand(3)
        for key in ("a", "b"):
            out = forward(x)
            out[key].sum().backward()
            yield out, w.grad
        out = forward(x)
        (out["a"] * out["b"].sum()).backward()
        yield w.grad, out["a"].requires_grad, out["c"].requires_grad, out["c"] is x

    check(build)


def test_no_grad_and_detach_within() -> None:
    def build(compile: Any) -> Iterator[Any]:
        model = net()
        teacher = net()

        @compile
        def step(x: tm.Tensor) -> Any:
            with tm.no_grad():
                target = teacher(x).softmax(-1)
            out = model(x)
            loss = F.mse_loss(out, target) + out.detach().sum() * 0
            model.zero_grad()
            loss.backward()
            return loss.detach(), target.requires_grad, out.requires_grad

        for x, _ in batches():
            yield step(x)
            yield [p.grad for p in model.parameters()], [p.grad for p in teacher.parameters()]

    check(build)


def test_closure_of_lbfgs() -> None:
    def build(compile: Any) -> Iterator[Any]:
        model = net()
        optimizer = optim.LBFGS(model.parameters(), lr=0.5, max_iter=3)
        x, y = batches(1)[0]

        @compile
        def closure() -> tm.Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            return loss

        for _ in range(3):
            yield optimizer.step(closure)
            yield left(model)

    check(build)


def test_optimizer_with_a_closure() -> None:
    def build(compile: Any) -> Iterator[Any]:
        w = nn.Parameter(tm.randn(3))
        optimizer = optim.SGD([w], lr=0.1)

        @compile
        def step(x: tm.Tensor) -> Any:
            def closure() -> tm.Tensor:
                optimizer.zero_grad()
                loss = (w * x).pow(2).sum()
                loss.backward()
                return loss

            return optimizer.step(closure)

        for _ in range(STEPS):
            yield step(tm.rand(3))
            yield w

    check(build)


def test_random_numbers_continue_where_they_stood() -> None:
    def build(compile: Any) -> Iterator[Any]:
        own = tm.Generator().manual_seed(3)

        @compile
        def draw(x: tm.Tensor) -> Any:
            a = tm.rand(3) + x
            return a, tm.randn(2, generator=own), F.dropout(x, 0.5), tm.randperm(5), x.bernoulli()

        for i in range(STEPS):
            yield draw(tm.rand(3))
            yield tm.rand(2)  # eager, in between
            if i == 1:
                own.manual_seed(9)
        yield own.get_state().tolist()

    check(build)


def test_unfinished_cases_of_the_loss_come_back_as_spent() -> None:
    w = nn.Parameter(tm.ones(2))

    @exact
    def step(x: tm.Tensor) -> tm.Tensor:
        w.grad = None
        loss = (w * x).pow(2).sum()
        loss.backward()
        return loss

    loss = step(tm.ones(2))
    assert loss.requires_grad and not loss.is_leaf
    with pytest.raises(tm.errors.GradError, match="a second time"):
        loss.backward()


def test_the_generator_moves_by_as_much_even_for_unused_draws() -> None:
    def build(compile: Any) -> Iterator[Any]:
        @compile
        def step(x: tm.Tensor) -> tm.Tensor:
            tm.rand(3)
            return x + tm.rand(3)

        yield step(tm.zeros(3))
        yield step(tm.zeros(3))

    check(build)


def test_double_precision() -> None:
    def build(compile: Any) -> Iterator[Any]:
        model = net().double()
        optimizer = optim.Adam(model.parameters())

        @compile
        def step(x: tm.Tensor, y: tm.Tensor, scale: float) -> tm.Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x) * (scale / 3), y)
            loss.backward()
            optimizer.step()
            return loss.detach()

        for x, y in batches():
            yield step(x.double(), y, 0.7)
            yield left(model, optimizer)

    first, second = (trail(build, c) for c in (lambda f: f, exact))
    assert str(first) == str(second)


def test_seeding_within_a_step() -> None:
    def build(compile: Any) -> Iterator[Any]:
        own = tm.Generator().manual_seed(3)

        @compile
        def step(x: tm.Tensor) -> Any:
            before = tm.rand(2)
            tm.manual_seed(7)
            new = tm.Generator().manual_seed(5)
            own.manual_seed(2)
            drawn = [tm.rand(2, generator=g) for g in (own, new, None, new)]
            return x + before, drawn

        for i in range(3):
            yield step(tm.rand(2))
            yield tm.rand(1), tm.rand(1, generator=own)
            if i:
                tm.manual_seed(i)

    check(build)
