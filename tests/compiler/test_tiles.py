"""Row tiles: which nodes they take, and that they compute what op by op would be computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import toumei as tm
from tests.compiler.agree import check
from toumei import nn
from toumei.compiler.compiled import Compiled
from toumei.compiler.llvm import runtime
from toumei.compiler.llvm.rowtile_shape import shape_of
from toumei.compiler.llvm.rowtile_sums import Sums
from toumei.compiler.llvm.target import Target
from toumei.compiler.native import Native
from toumei.compiler.nodes import Compute, Extern, Tile
from toumei.compiler.program import Backend
from toumei.compiler.reference import Reference
from toumei.compiler.rowplan import Gram, Map, Product, plan_rows

F = nn.functional
grad = tm.autograd.grad
Loss = Callable[[Any, Any, Any], Any]


class Network(nn.Module):
    """A stack of linear layers."""

    def __init__(self, widths: Sequence[int], act: Callable[[Any], Any], dtype: Any) -> None:
        super().__init__()
        pairs = pairwise(widths)
        self.layers = nn.ModuleList([nn.Linear(a, b, dtype=dtype) for a, b in pairs])
        self.act = act
        self.scale = nn.Parameter(tm.tensor(0.5, dtype=dtype))

    def forward(self, x: Any) -> Any:
        """Apply the layers."""
        *first, last = self.layers
        for layer in first:
            x = self.act(layer(x))
        return last(x)


class Ran:
    """A step that has run once: loss, gradients, and what ran it."""

    def __init__(
        self, loss: Loss, widths: Sequence[int], rows: int, act: Callable[[Any], Any] = tm.tanh,
        dtype: Any = tm.float32, make: Callable[[Any], Any] | None = None, x: Any = None,
    ) -> None:  # fmt: skip
        tm.manual_seed(0)
        rng = np.random.default_rng(0)
        model = Network(widths, act, dtype)
        kind = np.float32 if dtype == tm.float32 else np.float64
        if x is None:
            x = rng.uniform(-1, 1, (rows, widths[0]))
        y = rng.uniform(-1, 1, (rows, widths[-1]))

        def step(x: Any, y: Any) -> Any:
            model.zero_grad()
            found = loss(model, x.detach().requires_grad_(), y)
            found.backward()
            return found

        made: list[Any] = []

        def build(graph: Any) -> Any:
            made.append((make or (lambda g: Native(g, kept=False)))(graph))
            return made[0]

        self.run = Compiled(step, True, Backend(build))
        self.args = [tm.from_numpy(np.ascontiguousarray(a, kind)) for a in (x, y)]
        self.model, self.made = model, made
        self.again()

    def again(self) -> None:
        """Run the step once more."""
        self.loss = float(self.run(*self.args))
        grads = [p.grad for p in self.model.parameters() if p.grad is not None]
        self.grads = [g.numpy().copy() for g in grads]

    @property
    def nodes(self) -> list[Any]:
        return list(self.made[0].planner.lowered.nodes)

    @property
    def tiles(self) -> list[Tile]:
        return [n for n in self.nodes if isinstance(n, Tile)]

    @property
    def products(self) -> list[Extern]:
        """Return the matrix products outside of tiles."""
        return [n for n in self.nodes if isinstance(n, Extern)]


def agree(loss: Loss, widths: Sequence[int], rows: int, *args: Any, **kwargs: Any) -> Ran:
    """Compare machine code with the reference executor; return the former."""
    make = kwargs.pop("make", None)
    ours = Ran(loss, widths, rows, *args, make=make, **kwargs)
    theirs = Ran(loss, widths, rows, *args, make=Reference, **kwargs)
    exact = ours.args[0].dtype == tm.float64
    bound = 1e-12 if exact else 1e-5
    assert abs(ours.loss - theirs.loss) <= bound * abs(theirs.loss)
    assert len(ours.grads) == len(theirs.grads) > 0
    for a, b in zip(ours.grads, theirs.grads, strict=True):
        assert np.abs(a - b).max() <= bound * np.sqrt((b**2).mean()) + 1e-30
    return ours


# --- problems ------------------------------------------------------------------------------------


def plain(m: Any, x: Any, y: Any) -> Any:
    """Plain regression."""
    return ((m(x) - y) ** 2).mean()


def pde(order: int) -> Loss:
    """Return a residual with derivatives up to an order, each along another input."""

    def loss(m: Any, x: Any, y: Any) -> Any:
        u = m(x)
        d, total = u[:, 0], ((u - y) ** 2).mean()
        for k in range(order):
            (g,) = grad(d.sum(), x, create_graph=True)
            d = g[:, k % x.shape[1]]
            total = total + ((d - m.scale * u[:, 0]) ** 2).mean()
        return total

    return loss


def laplace(m: Any, x: Any, y: Any) -> Any:
    """A sum over the columns between two derivatives."""
    u = m(x)
    (g,) = grad(u, x, tm.ones_like(u), create_graph=True)
    (h,) = grad(g.sum(1).sum(), x, create_graph=True)
    return (h.sum(1) - y[:, 0]).abs().mean() + g.square().sum() / x.shape[0]


def burgers(m: Any, x: Any, y: Any) -> Any:
    """Two inputs side by side, and columns of gradients."""
    a, b = x[:, :1].detach().requires_grad_(), x[:, 1:].detach().requires_grad_()
    u = m(tm.cat([a, b], 1))
    u_a, u_b = grad(u.sum(), [a, b], create_graph=True)
    (u_aa,) = grad(u_a.sum(), [a], create_graph=True)
    return ((u_b + u * u_a - m.scale * u_aa) ** 2).mean()


def weighted(m: Any, x: Any, y: Any) -> Any:
    """What is summed over all rows scales the rows: no single tile can do it."""
    u = m(x)
    scale = ((u - y) ** 2).mean()
    v = m(x * scale.detach().reshape(1, 1)) + u
    return ((v - y) ** 2).mean() * scale


def shared(m: Any, x: Any, y: Any) -> Any:
    """Products over the rows that are no gradients, and one network used three times."""
    a, b, c = m(x), m(-x), m(x * x)
    return (a * b - c).square().mean() + (a.T @ b).square().mean() * 1e-3


def grid(m: Any, x: Any, y: Any) -> Any:
    """Rows in two dims, and products of three."""
    u = m(x.reshape(-1, 5, x.shape[1]))
    (g,) = grad(u.sum(), x, create_graph=True)
    return (u.squeeze(-1) * m.scale - y.reshape(-1, 5)).square().mean() + g.square().mean()


# --- results -------------------------------------------------------------------------------------

CASES: dict[str, tuple[Loss, tuple[int, ...], int, Callable[[Any], Any]]] = {
    "second order": (pde(2), (2, 20, 20, 20, 1), 1000, tm.tanh),
    "third order": (pde(3), (1, 11, 13, 1), 700, tm.tanh),
    "odd widths": (pde(1), (3, 21, 7, 33, 2), 129, F.gelu),
    "laplace": (laplace, (3, 17, 16, 1), 777, tm.sin),
    "burgers": (burgers, (2, 20, 20, 1), 333, tm.tanh),
    "weighted": (weighted, (2, 20, 20, 20, 2), 500, tm.tanh),
    "shared": (shared, (2, 20, 20, 3), 260, F.silu),
    "wide": (pde(1), (2, 50, 64, 50, 1), 500, tm.tanh),
    "grid": (grid, (2, 20, 20, 1), 1000, tm.tanh),
    "no derivative": (plain, (4, 12, 12, 12, 12), 2500, F.relu),
    "one tile": (pde(1), (2, 16, 16, 1), 64, F.softplus),
}


@pytest.mark.parametrize("case", CASES)
def test_results(case: str) -> None:
    ran = agree(*CASES[case])
    assert ran.tiles


@pytest.mark.parametrize("case", ["wide", "laplace"])
def test_float64(case: str) -> None:
    loss, widths, rows, act = CASES[case]
    assert agree(loss, widths, rows, act, dtype=tm.float64).tiles


@pytest.mark.parametrize("name", ["avx512", "avx2", "generic"])
@pytest.mark.parametrize("case", ["wide", "burgers"])
def test_targets(name: str, case: str) -> None:
    target = Target.named(name)
    if not target.runs_here():
        pytest.skip(f"this processor doesn't run {name}")
    assert agree(*CASES[case], make=lambda g: Native(g, target, kept=False)).tiles


@pytest.mark.parametrize("rows", [65, 127, 128, 2047, 2049])
def test_the_last_tile_may_be_short(rows: int) -> None:
    assert agree(pde(2), (2, 9, 9, 1), rows).tiles


def test_what_does_not_exist_is_not_summed() -> None:
    """Beyond the last row a logarithm is infinite."""

    def loss(m: Any, x: Any, y: Any) -> Any:
        return (m(x.abs().log()) ** 2).mean()

    rng = np.random.default_rng(0)
    ran = agree(loss, (3, 10, 10, 10, 1), 300, x=rng.uniform(0.5, 1, (300, 3)))
    assert ran.tiles
    assert np.isfinite(ran.loss)


def test_a_nan_reaches_the_gradients() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (300, 2))
    x[17, 1] = np.nan
    ran = Ran(plain, (2, 10, 10, 10, 1), 300, x=x)
    assert ran.tiles
    assert np.isnan(ran.loss)
    assert all(np.isnan(g).all() for g in ran.grads)


def test_same_bits_for_any_number_of_threads() -> None:
    ran = Ran(pde(2), (2, 20, 20, 1), 3000)
    before = runtime.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            runtime.set_num_threads(threads)
            ran.again()
            found.append([ran.loss, *(g.tobytes() for g in ran.grads)])
    finally:
        runtime.set_num_threads(before)
    assert found[0] == found[1] == found[2]


# --- what is taken -------------------------------------------------------------------------------


def test_a_whole_step_becomes_one_tile() -> None:
    ran = Ran(burgers, (2, 20, 20, 20, 1), 1000)
    (tile,) = ran.tiles
    assert tile.rows == 1000
    assert all(1000 not in n.shapes[0] for n in ran.products)
    left = [n for n in ran.nodes if isinstance(n, Compute) and 1000 in n.shape]
    assert not left


def test_rows_may_be_several_dims() -> None:
    ran = Ran(grid, (2, 20, 20, 1), 1000)
    (tile,) = ran.tiles
    assert tile.rows == 1000
    assert all(n.shapes[0][0] == 1 for n in ran.products)


def test_terms_of_a_gradient_are_one_sum() -> None:
    ran = Ran(burgers, (2, 20, 20, 20, 1), 1000)
    (tile,) = ran.tiles
    plan, _ = plan_rows(tile, ran.made[0].planner.lowered)
    grams = [s for s in plan.steps if isinstance(s, Gram) and (s.inner, s.columns) == (20, 20)]
    assert len(grams) == 8
    assert len({s.sums.value for s in grams}) == 2


@pytest.mark.parametrize(("width", "found"), [(20, []), (64, [(64, 64, 64)]), (50, [(50, 50, 64)])])
def test_large_sums_are_matrices(width: int, found: list[tuple[int, int, int]]) -> None:
    ran = Ran(pde(2), (2, width, width, 1), 300)
    (tile,) = ran.tiles
    plan, _ = plan_rows(tile, ran.made[0].planner.lowered)
    sums = Sums(plan, shape_of(plan, Target.named("avx512")), 0)
    assert [m for m in sums.matrices if m is not None] == found


def test_rows_that_are_all_equal_are_computed_once() -> None:
    ran = Ran(burgers, (2, 20, 20, 20, 1), 1000)
    ones = [n for n in ran.products if n.shapes[0][0] == 1]
    assert ones, "the gradient of a sum is a row of ones times a matrix"


def test_what_replaces_a_part_comes_after_the_whole() -> None:
    tm.manual_seed(0)
    w = tm.randn(5, 2)

    def step(x: tm.Tensor) -> tuple[tm.Tensor, ...]:
        v = (x @ w.T).diagonal(0, 1, 3)  # its gradient: zeros, then one column of five
        loss = (v * v).mean()
        (g,) = tm.autograd.grad(loss, x, create_graph=True)
        (h,) = tm.autograd.grad((g * g).sum(), x)
        return loss, g, h

    check(step, tm.randn(9, 1, 31, 2, requires_grad=True))


def test_maps_follow_products() -> None:
    ran = Ran(plain, (4, 12, 12, 12, 12), 500)
    (tile,) = ran.tiles
    plan, _ = plan_rows(tile, ran.made[0].planner.lowered)
    products = [s for s in plan.steps if isinstance(s, Product)]
    assert all(s.then is not None and not s.stored for s in products), plan.steps
    assert not any(isinstance(s, Map) for s in plan.steps)


def test_what_depends_on_a_sum_comes_later() -> None:
    ran = Ran(weighted, (2, 20, 20, 20, 20, 2), 500)
    assert len(ran.tiles) > 1
    first, second, *_ = ran.tiles
    assert {r.value for r in second.inputs} & {r.value for r in first.outputs}


@pytest.mark.parametrize(
    ("widths", "rows"),
    [((784, 100, 10), 100), ((2, 20, 20, 1), 64), ((30, 64, 64, 10), 500), ((2, 100, 100, 1), 900)],
)
def test_what_is_better_left_alone(widths: tuple[int, ...], rows: int) -> None:
    assert not Ran(plain, widths, rows).tiles


def test_values_that_others_need_are_stored() -> None:
    def loss(m: Any, x: Any, y: Any) -> Any:
        u = m(x)
        return ((u - y) ** 2).mean() + (u.max() - 1) ** 2

    ran = agree(loss, (2, 20, 20, 20, 3), 301)
    kept = [r for t in ran.tiles for r in t.outputs if r.strides == (3, 1)]
    assert kept
