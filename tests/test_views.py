"""Views, changes in place, and the memory of graphs."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import numpy as np
import pytest

import toumei as tm
from toumei.errors import GradError, OpError
from toumei.tape import Node


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Only reference counts free memory within the test."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def live(kind: type) -> int:
    return sum(issubclass(type(o), kind) for o in gc.get_objects())


def leaf(*shape: int) -> tm.Tensor:
    values = np.random.default_rng(0).uniform(0.5, 1.5, shape)
    return tm.from_numpy(values).requires_grad_()


# --- what may be changed -------------------------------------------------------------------------


def test_a_value_that_nobody_kept_may_be_changed() -> None:
    x = leaf(3)
    y = x + 1
    x.detach().add_(1)
    y.add_(1)
    y.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [1, 1, 1]


def test_an_input_that_nobody_kept_may_be_changed() -> None:
    x = tm.ones(3)
    w = leaf(3).float()
    y = x + w
    x.add_(1)
    y.sum().backward()


def test_a_kept_value_may_not_be_changed() -> None:
    x = leaf(3)
    y = x.exp()
    y.add_(1)
    with pytest.raises(GradError, match=r"changed in place since .*version 0 was kept, .* 1"):
        y.sum().backward()


def test_changing_another_part_of_kept_memory_counts() -> None:
    x = leaf(2, 3)
    y = x * 1
    z = y[0].exp() * y[0]
    y[1].mul_(2)
    with pytest.raises(GradError, match="changed in place"):
        z.sum().backward()


def test_a_leaf_may_be_changed_only_outside_of_the_graph() -> None:
    x = leaf(3)
    with pytest.raises(GradError, match="it is a leaf that requires grad"):
        x.add_(1)
    with pytest.raises(GradError, match="a view of a leaf"):
        x[0].add_(1)
    with pytest.raises(GradError, match="a leaf"):
        x[0] = 1.0
    before = x.tolist()
    with tm.no_grad():
        x.add_(1)
    assert x.tolist() == [v + 1 for v in before]
    assert x.is_leaf and x.requires_grad


def test_an_expanded_tensor_may_not_be_changed() -> None:
    with pytest.raises(OpError, match="share one place in memory"):
        tm.ones(1).expand(3).add_(1)


def test_in_place_keeps_shape_and_category() -> None:
    with pytest.raises(OpError, match="can't change the shape"):
        tm.ones(1).add_(tm.ones(3))
    with pytest.raises(OpError, match="doesn't fit"):
        tm.ones(3, dtype=tm.int64).mul_(1.5)


def test_a_change_may_need_the_numbers_that_it_overwrites() -> None:
    x, w = leaf(3), leaf(3)
    y = x * 1
    y.mul_(w)
    y.mul_(y)  # (xw)²
    y.sum().backward()
    expected = (2 * x * w * w).detach()
    assert x.grad is not None and tm.allclose(x.grad, expected)
    assert w.grad is not None and tm.allclose(w.grad, (2 * x * x * w).detach())


def test_a_view_made_within_no_grad_can_not_take_its_base_along() -> None:
    y = leaf(2, 2) * 1
    with tm.no_grad():
        v = y[0]
        v.add_(1)  # both within: y simply has other numbers
    with pytest.raises(GradError, match="made within no_grad"):
        v.add_(1)
    with pytest.raises(GradError, match="made within no_grad"):
        v[0].add_(1)


# --- views and their bases -----------------------------------------------------------------------


def test_a_change_through_a_view_reaches_base_and_other_views() -> None:
    x, w = leaf(2, 3), leaf(3)
    base = x * 1
    row, column = base[0], base[:, 0]
    row.mul_(w)
    assert base[0].tolist() == row.tolist()
    column.sum().backward()
    assert x.grad is not None and w.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), [[w[0].item(), 0, 0], [1, 0, 0]])
    np.testing.assert_allclose(w.grad.numpy(), [x[0, 0].item(), 0, 0])


def test_a_plain_tensor_takes_in_what_requires_grad() -> None:
    w = leaf(3)
    out = tm.zeros(2, 3, dtype=tm.float64)
    out[0] = w
    out[1] = 2 * w
    assert out.requires_grad and not out.is_leaf
    out.sum().backward()
    assert w.grad is not None and w.grad.tolist() == [3, 3, 3]


def test_a_retained_gradient_follows_its_tensor() -> None:
    x = leaf(2, 2)
    y = x * 1
    y.retain_grad()
    y.mul_(3)
    y.sum().backward()
    assert y.grad is not None and y.grad.tolist() == [[1, 1], [1, 1]]
    v = (x * 1)[0]
    v.retain_grad()
    assert v.retains_grad


def test_a_retained_gradient_follows_a_view() -> None:
    x = leaf(2, 2)
    y = x * 1
    v = y[0]
    v.retain_grad()
    y.mul_(3)
    (2 * v).sum().backward()
    assert v.grad is not None and v.grad.tolist() == [2, 2]


def test_detach_shares_memory_and_versions() -> None:
    x = leaf(3)
    y = x * 1
    z = y * y
    y.detach().zero_()
    assert y.tolist() == [0, 0, 0]
    with pytest.raises(GradError, match="changed in place"):
        z.sum().backward()


def test_a_view_of_a_view_of_a_view_in_place() -> None:
    x = leaf(4, 4)
    y = x * 1
    y[1:].transpose(0, 1)[1].mul_(5)
    y.sum().backward()
    expected = np.ones((4, 4))
    expected[1:, 1] = 5
    assert x.grad is not None and np.array_equal(x.grad.numpy(), expected)


# --- memory --------------------------------------------------------------------------------------


def graph(x: tm.Tensor) -> tm.Tensor:
    """Ops of every make: outputs kept, views, in place, several outputs, a Function."""
    y = ((x.exp() * x).tanh() + 1).reshape(-1)
    y[1:].mul_(2)
    a, b = y.sort()
    y = (a * b.double()).softmax(0) + y.max(0)[0]
    return (Cube.apply(y) ** 2).sum()


class Cube(tm.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: tm.Tensor) -> tm.Tensor:
        y = x**3
        ctx.save_for_backward(x, y, x * 2)  # type: ignore[attr-defined]
        return y

    @staticmethod
    def backward(ctx: object, g: tm.Tensor) -> tm.Tensor:
        x, _, double = ctx.saved_tensors  # type: ignore[attr-defined]
        return g * 1.5 * x * double


@pytest.mark.usefixtures("no_collector")
def test_a_graph_goes_with_its_last_reference() -> None:
    x = leaf(3, 3)
    graph(x)
    before = live(Node)
    y = graph(x)
    assert live(Node) > before + 10
    del y
    assert live(Node) == before


@pytest.mark.usefixtures("no_collector")
def test_backward_frees_what_was_kept() -> None:
    x = leaf(3, 3)
    hidden = x * 2
    data = weakref.ref(hidden._data)
    y = (hidden * hidden).sum()
    del hidden
    assert data() is not None
    y.backward()
    assert data() is None


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("how", ["backward", "grad", "hessian", "refused"])
def test_derivatives_of_derivatives_go_as_well(how: str) -> None:
    before = live(Node), live(tm.Tensor)

    def work() -> None:
        x = leaf(3, 3)
        if how == "backward":
            y = x * 1
            y.retain_grad()
            graph(y).backward(create_graph=True)
            assert x.grad is not None and x.grad.requires_grad
            x.grad.sum().backward()
        elif how == "grad":
            (g,) = tm.autograd.grad(graph(x), x, create_graph=True)
            tm.autograd.grad(g.sum(), x)
        elif how == "hessian":
            tm.autograd.hessian(graph, x)
        else:
            y = graph(x)
            y.backward()
            with pytest.raises(GradError):
                y.backward()

    work()
    if how == "refused":  # pytest keeps the error, and what its frames refer to, for a while
        gc.collect()
    assert (live(Node), live(tm.Tensor)) == before


@pytest.mark.usefixtures("no_collector")
def test_training_keeps_no_memory() -> None:
    w, counts = leaf(3), []
    for _ in range(5):
        loss = ((w * 2 - 1) ** 2).sum()
        w.grad = None
        loss.backward()
        with tm.no_grad():
            assert w.grad is not None
            w.sub_(0.1 * w.grad)
        counts.append((live(Node), live(tm.Tensor), len(gc.get_objects())))
    assert counts[2][:2] == counts[4][:2]
    assert abs(counts[4][2] - counts[2][2]) < 5


@pytest.mark.usefixtures("no_collector")
def test_a_chain_of_100_000_ops() -> None:
    x = tm.tensor(1.0, requires_grad=True)
    y = x
    for _ in range(100_000):
        y = y + 0.5
    y.backward()
    assert x.grad is not None and x.grad.item() == 1
    before = live(Node)
    del y
    assert live(Node) <= before - 100_000


@pytest.mark.usefixtures("no_collector")
def test_a_chain_of_100_000_views() -> None:
    x = leaf(2, 3)
    base = x * 1
    y = base
    for _ in range(100_000):
        y = y.transpose(0, 1)
    base.mul_(2)  # every view gets a new node
    y.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [[2, 2, 2], [2, 2, 2]]
    with tm.no_grad():
        y = x
        for _ in range(100_000):
            y = y.transpose(0, 1)
    del y


@pytest.mark.usefixtures("no_collector")
def test_a_change_at_the_end_of_a_chain_of_views() -> None:
    x = leaf(2, 2)
    y = x * 1
    for _ in range(3_000):
        y = y.transpose(0, 1)
    y[0].mul_(3)
    y.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [[3, 3], [1, 1]]
