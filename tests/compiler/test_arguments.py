"""Arguments and results of compiled functions, live numbers and hyper-parameters."""

from __future__ import annotations

import dataclasses
import math
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

import toumei as tm
import toumei.nn.functional as F
from tests.compiler.eager import check, exact
from toumei import nn, optim
from toumei.compiler import Compiled


def traces(function: Compiled) -> int:
    return sum(map(len, function.programs.values()))


class Point(NamedTuple):
    x: Any
    y: Any


@dataclasses.dataclass
class Batch:
    inputs: Any
    target: Any
    name: str = ""


# --- structures ---


def test_nested_arguments_and_results() -> None:
    def build(compile: Any) -> Iterator[Any]:
        @compile
        def f(a: Any, *rest: Any, **named: Any) -> Any:
            x, (y, z) = a["x"], a["yz"]
            p = rest[0]
            total = x + y * z + p.x - p.y + named["batch"].inputs
            out = Point(total, [total * 2, "text", None, 3, 2.5])
            return {"p": out, "t": (total.sum(), x), "b": Batch(total * 3, rest[1], "new")}

        for n in (2, 2, 3):
            x = tm.arange(n).float()
            given = {"x": x, "yz": [x + 1, (x + 2)]}
            out = f(given, Point(x, x * 0.5), 7, batch=Batch(x, None))
            assert type(out["p"]) is Point and type(out["b"]) is Batch
            assert out["b"].name == "new" and out["b"].target == 7
            yield out["p"], out["t"], out["b"].inputs

    check(build)


def test_kinds_of_dicts_and_sizes_stay() -> None:
    @exact
    def f(d: Any, shape: tm.Size) -> Any:
        assert type(d) is OrderedDict and isinstance(shape, tm.Size)
        return OrderedDict(b=d["a"] + 1), shape

    out, shape = f(OrderedDict(a=tm.ones(2)), tm.ones(2).shape)
    assert type(out) is OrderedDict and out["b"].tolist() == [2, 2]
    assert type(shape) is tm.Size


def test_arrays_count_as_tensors() -> None:
    f = exact(lambda a: a * 2)
    a = np.arange(3.0)
    assert isinstance(f(a), tm.Tensor) and f(a).dtype == tm.float64
    assert f(np.ones(3)).tolist() == [2, 2, 2]
    assert traces(f) == 1


def test_results_have_memory_of_their_own() -> None:
    w = nn.Parameter(tm.ones(3))
    f = exact(lambda x: (x * 1, x[:2], w.detach(), w))
    x = tm.ones(3)
    first = f(x)
    second = f(x)
    for a, b in zip(first[:3], second[:3], strict=True):
        a.add_(1)
        assert b.tolist() == [1] * len(b)
    assert x.tolist() == w.tolist() == [1, 1, 1]
    assert first[3] is w  # a tensor from outside is itself, as eager


def test_an_argument_that_is_returned_is_itself() -> None:
    f = exact(lambda x, y: (y, x, x))
    x, y = tm.ones(2), 2.5
    assert f(x, y)[0] == 2.5 and f(x, y)[1] is x and f(x, y)[2] is x
    g = exact(lambda x: (lambda t: (t, t))(x + 1))
    a, b = g(x)
    assert a is b


# --- the same memory twice ---


def test_the_same_tensor_twice() -> None:
    def build(compile: Any) -> Iterator[Any]:
        @compile
        def f(a: tm.Tensor, b: tm.Tensor) -> tm.Tensor:
            a.add_(1)
            return a * b

        x, y = tm.ones(3), tm.full((3,), 2.0)
        for pair in ((x, x), (x, y), (y, y), (x, x), (x, x.detach())):
            yield f(*pair)
            yield x, y

    check(build)


def test_a_parameter_as_an_argument() -> None:
    def build(compile: Any) -> Iterator[Any]:
        v, w = nn.Parameter(tm.ones(3)), nn.Parameter(tm.full((3,), 2.0))

        @compile
        def f(p: tm.Tensor) -> tm.Tensor:
            loss = (p * v).sum() + (v**2).sum()
            loss.backward()
            with tm.no_grad():
                p.mul_(0.5)
            return (p + v).detach()

        for p in (v, w, v, w, v):
            yield f(p)
            yield v, w, v.grad, w.grad

    check(build)


def test_arguments_changed_in_place() -> None:
    def build(compile: Any) -> Iterator[Any]:
        @compile
        def f(x: tm.Tensor, y: tm.Tensor) -> tm.Tensor:
            x.mul_(2)
            x[0] = 7.0
            y.t().add_(tm.arange(2).float())
            return x.sum() + y.sum()

        base = tm.arange(12).float()
        for rows in (base[:3], base.view(3, 4)[:, 1], base[3:6]):
            y = tm.zeros(2, 2).t()
            yield f(rows, y)
            yield rows, y, base

    check(build)


def test_a_part_of_a_known_memory() -> None:
    """The data is known to the step and comes in slices as well: fine while nobody changes it."""

    def build(compile: Any) -> Iterator[Any]:
        data = tm.arange(12).float().view(4, 3)

        @compile
        def f(x: tm.Tensor) -> tm.Tensor:
            return x - data.mean(0)

        for i in (0, 2, 1):
            yield f(data[i : i + 2])
        yield f(data)
        data.add_(1)
        yield f(data)
        yield f(data[0:2])

    check(build)
    data = tm.zeros(4)

    @exact
    def bad(x: tm.Tensor) -> None:
        x.add_(1)
        data.add_(1)

    with pytest.raises(tm.errors.TraceError, match="shows a part"):
        bad(data[:2])
    assert data.tolist() == [0, 0, 0, 0]


def test_two_names_of_one_memory() -> None:
    a = tm.zeros(3)
    b = a.data  # another tensor, the same memory, unnoticed

    @exact
    def f() -> Any:
        a.add_(1)
        return b + 1

    with pytest.raises(tm.errors.TraceError, match="share memory"):
        f()
    assert a.tolist() == [0, 0, 0]


# --- numbers ---


def test_floats_are_live() -> None:
    def build(compile: Any) -> Iterator[Any]:
        @compile
        def f(x: tm.Tensor, a: float, b: float = 0.5) -> Any:
            return x * a + (1 - b) / 3, a * 2 - b, -(abs(a) ** 2), 2**b, a

        for a in (0.1, 0.7, -2.0):
            for dtype in (tm.float32, tm.float64, tm.int64):
                yield f(tm.arange(3).to(dtype), a)
                yield f(tm.arange(3).to(dtype), a, b=a / 3)

    check(build)


def test_floats_make_no_new_trace() -> None:
    f = exact(lambda x, a: x * a)
    for i in range(20):
        assert f(tm.ones(2), i / 4).tolist() == [i / 4] * 2
    assert traces(f) == 1


def test_a_float_that_python_must_know_is_fixed() -> None:
    def build(compile: Any) -> Iterator[Any]:
        @compile
        def f(x: tm.Tensor, a: float, p: float, scale: float) -> Any:
            x = x * math.sqrt(a) if a > 1 else x
            return F.dropout(F.leaky_relu(x, p), p) * scale, f"{p:.2f}"

        for a, p, scale in ((0.5, 0.1, 1.0), (2.0, 0.1, 3.0), (2.0, 0.2, 4.0), (2.0, 0.2, 5.0)):
            yield f(tm.ones(3), a, p, scale)

    check(build)
    f = exact(lambda x, a, b: x * a if b > 1 else x)
    for a in range(5):
        f(tm.ones(2), a / 3, 2.0)
    assert traces(f) == 1  # only b is fixed


def test_ints_bools_strings_and_none_are_fixed() -> None:
    f = exact(lambda x, how: x.sum() if how == "sum" else x * 2 if how else x + 1)
    x = tm.ones(2)
    assert f(x, "sum").item() == 2 and f(x, 1).tolist() == [2, 2]
    assert f(x, True).tolist() == [2, 2] and f(x, None).tolist() == [2, 2]
    assert traces(f) == 4
    f(x, "su" + "m")
    assert traces(f) == 4


def test_objects_count_by_identity() -> None:
    class Scale:
        def __init__(self, by: int) -> None:
            self.by = by

    f = exact(lambda x, s: x * s.by)
    a, b = Scale(2), Scale(3)
    x = tm.ones(1)
    assert [f(x, s).item() for s in (a, b, a, b)] == [2, 3, 2, 3]
    assert traces(f) == 2


# --- hyper-parameters ---


def test_hyper_parameters_take_effect_without_a_new_trace() -> None:
    def build(compile: Any) -> Iterator[Any]:
        w = nn.Parameter(tm.randn(3))
        optimizer = optim.AdamW([w], lr=1)
        schedule = optim.lr_scheduler.ExponentialLR(optimizer, 0.5)

        @compile
        def step(x: tm.Tensor) -> None:
            optimizer.zero_grad()
            ((w - x) ** 2).sum().backward()
            optimizer.step()

        for i in range(8):
            step(tm.ones(3))
            schedule.step()
            optimizer.param_groups[0]["weight_decay"] = 0.1 / (i + 1)
            optimizer.param_groups[0]["betas"] = (0.9 - i / 100, 0.99)
            optimizer.param_groups[0]["eps"] = 1e-8 * (i + 1)
            yield w
        assert not isinstance(step, Compiled) or traces(step) == 1

    check(build)


def test_flags_of_groups_make_a_new_trace() -> None:
    w = nn.Parameter(tm.ones(1))
    optimizer = optim.SGD([w], lr=1.0)

    @exact
    def step() -> None:
        optimizer.zero_grad()
        w.sum().backward()
        optimizer.step()

    group = optimizer.param_groups[0]
    step()
    assert w.item() == 0
    group["maximize"] = True
    step()
    assert w.item() == 1
    group["momentum"] = 0.5
    step()
    step()
    assert w.item() == 3.5 and traces(step) == 3
    group["momentum"] = 0.25
    step()
    assert w.item() == 3.5 + 1 + 0.375 and traces(step) == 3
    group["momentum"], group["maximize"] = 0, False
    step()
    assert traces(step) == 3  # the first program serves again


def test_groups_and_parameters_that_are_added() -> None:
    def build(compile: Any) -> Iterator[Any]:
        a, b = nn.Parameter(tm.ones(2)), nn.Parameter(tm.ones(2))
        optimizer = optim.SGD([a], lr=0.1)

        @compile
        def step() -> None:
            optimizer.zero_grad()
            (a * b).sum().backward()
            optimizer.step()

        step()
        yield a, b, b.grad
        optimizer.add_param_group({"params": [b], "lr": 0.2})
        step()
        step()
        yield a, b

    check(build)
