"""Every model of the package as machine code: training is that of eager, and fuses as it should.

graphs/ holds the printed graph of each model's loss.  After a change that is meant:

    python -m tests.compiler.test_compiled_models
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import pytest

import toumei as tm
import toumei.nn.functional as F
from tests.compiler.agree import check, check_training, executor, fallbacks, native
from tests.compiler.test_models import CASES
from toumei import nn, optim
from toumei.compiler.fuse import Kernel
from toumei.tensor import Tensor

GRAPHS = pathlib.Path(__file__).parent / "graphs"
PYTHON = {"Tril", "Triu"}  # masks, made before the first layer

SLOW = {"resnet"}  # to compile: other tests cover its parts


@pytest.mark.parametrize("name", [n for n in CASES if n not in SLOW])
def test_training(name: str) -> None:
    make, sample, loss_of = CASES[name]

    def build() -> Any:
        model = make()
        optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

        def step(*batch: Tensor) -> Tensor:
            optimizer.zero_grad()
            loss = loss_of(model, *batch)
            loss.backward()
            optimizer.step()
            return loss.detach()

        return step, sample(), model

    compiled = check_training(build)
    assert fallbacks(compiled) <= PYTHON


# --- graphs ---------------------------------------------------------------------------------------


def graph_of(name: str) -> str:
    """Return the graph of a model's loss after the passes, printed."""
    make, sample, loss_of = CASES[name]
    tm.manual_seed(0)
    model, batch = make(), sample()
    compiled = native(lambda *batch: loss_of(model, *batch).detach())
    compiled(*batch)
    return str(executor(compiled).graph) + "\n"


@pytest.mark.parametrize("name", [n for n in CASES if n not in SLOW])
def test_printed_graph(name: str) -> None:
    expected = (GRAPHS / f"{name}.txt").read_text(encoding="utf-8")
    assert graph_of(name) == expected, f"see the first lines of {__file__}"


# --- kernels --------------------------------------------------------------------------------------


def kernels_of(step: Callable[..., Any], *arguments: Tensor) -> list[Kernel]:
    """Return the fused kernels of a step, which is checked."""
    return [s.group for s in executor(check(step, *arguments)).built.stages]


def gradient(function: Callable[..., Tensor]) -> Callable[..., Any]:
    """Return a step that computes a function and its gradient for the first argument."""

    def step(x: Tensor, g: Tensor, *more: Tensor) -> Any:
        y = function(x, *more)
        return y.detach(), tm.autograd.grad((y * g).sum(), [x])[0]

    return step


SHAPES = [(64, 100), (8, 12, 33), (4, 3000)]
ROWS = {
    "softmax": lambda x: F.softmax(x, -1),
    "log_softmax": lambda x: F.log_softmax(x, -1),
    "layer_norm": lambda x: F.layer_norm(x, x.shape[-1:]),
    "rms_norm": lambda x: F.rms_norm(x, x.shape[-1:]),
}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("shape", SHAPES)
def test_one_kernel_of_rows(name: str, shape: tuple[int, ...]) -> None:
    (kernel,) = kernels_of(ROWS[name], tm.randn(*shape))
    assert (kernel.domain, kernel.rows) == (shape, len(shape) - 1)


def test_layer_norm_with_weights_is_one_kernel() -> None:
    def norm(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], w, b)

    (kernel,) = kernels_of(norm, tm.randn(8, 12, 33), tm.randn(33), tm.randn(33))
    assert kernel.rows == 2


@pytest.mark.parametrize("shape", SHAPES)
def test_softmax_and_its_gradient_are_one_kernel(shape: tuple[int, ...]) -> None:
    step = gradient(ROWS["softmax"])
    (kernel,) = kernels_of(step, tm.randn(*shape).requires_grad_(), tm.randn(*shape))
    assert kernel.rows == len(shape) - 1


def test_attention_scores_are_scaled_and_masked_within_softmax() -> None:
    def weights(x: Tensor, mask: Tensor) -> Tensor:
        return F.softmax((x * 0.25).masked_fill(mask, -tm.inf), -1)

    mask = tm.ones(16, 16).triu(1).bool()
    (kernel,) = kernels_of(weights, tm.randn(2, 4, 16, 16), mask)
    assert kernel.rows == 3


def large(kernels: list[Kernel]) -> list[Kernel]:
    """Return the kernels that touch every class of every row."""
    return [k for k in kernels if k.size > 64]


def test_cross_entropy_goes_through_the_scores_once() -> None:
    x, labels = tm.randn(64, 100), tm.randint(0, 100, (64,))
    (rows,) = large(kernels_of(F.cross_entropy, x, labels))
    assert (rows.domain, rows.rows) == ((64, 100), 1)


def test_cross_entropy_s_gradient_goes_through_them_once_more() -> None:
    def step(x: Tensor, labels: Tensor) -> Any:
        loss = F.cross_entropy(x, labels)
        return loss.detach(), tm.autograd.grad(loss, [x])[0]

    x, labels = tm.randn(64, 100).requires_grad_(), tm.randint(0, 100, (64,))
    assert len(large(kernels_of(step, x, labels))) == 2


def test_a_chain_of_elementwise_ops_is_one_kernel() -> None:
    def chain(x: Tensor, y: Tensor) -> Tensor:
        return (x.tanh() * y + x.exp()).sigmoid() - F.gelu(x)

    assert len(kernels_of(chain, tm.randn(30, 40), tm.randn(40))) == 1


def test_bias_and_activation_belong_to_the_product() -> None:
    def layer(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return F.relu(F.linear(x, w, b))

    (kernel,) = kernels_of(layer, tm.randn(33, 20), tm.randn(17, 20), tm.randn(17))
    assert kernel.host is not None and kernel.members


def test_views_of_a_product_and_its_bias_are_read_in_place() -> None:
    def parts(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        first, second = F.linear(x, w, b).chunk(2, -1)
        return first @ second.mT

    made = kernels_of(parts, tm.randn(6, 33, 20), tm.randn(34, 20), tm.randn(34))
    assert len(made) == 2 and all(k.host is not None for k in made)


def test_heads_are_written_by_the_product() -> None:
    def heads(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        y = F.linear(x, w, b).unflatten(-1, (4, 8)).transpose(1, 2) * 0.5
        return y @ y.mT

    made = kernels_of(heads, tm.randn(3, 9, 20), tm.randn(32, 20), tm.randn(32))
    assert len(made) == 2 and all(k.host is not None for k in made)


def test_the_gradient_of_a_transposed_factor_is_a_product_turned() -> None:
    def step(x: Tensor, w: Tensor, g: Tensor) -> Any:
        return tm.autograd.grad((x @ w.mT * g).sum(), [w])

    for batch in ((), (3,)):
        w = tm.randn(*batch, 7, 5).requires_grad_()
        compiled = check(step, tm.randn(*batch, 6, 5), w, tm.randn(*batch, 6, 7))
        last = executor(compiled).graph.calls[-1]
        assert type(last.op).__name__ == "Matmul"


PARTS: dict[str, tuple[Callable[[Tensor], tuple[Tensor, ...]], bool]] = {
    "columns": (lambda x: (x[:, :5], x[:, 5:7], x[:, 7:]), True),
    "a gap": (lambda x: (x[:, :5], x[:, 7:]), True),
    "an overlap": (lambda x: (x[:, :5], x[:, 4:]), False),
    "rows and columns": (lambda x: (x[:3, :5], x[3:], x[:3, 5:].mT), True),
    "a step": (lambda x: (x[:, ::2], x[:, 1::2]), False),
    "all": (lambda x: (x[:, :5], x[:, 5:], x), False),
}


@pytest.mark.parametrize("name", PARTS)
def test_gradients_of_parts_become_one_value(name: str) -> None:
    take, together = PARTS[name]

    def step(x: Tensor) -> Any:
        parts = [(part * part).exp() for part in take(x)]
        return tm.autograd.grad(parts, [x], [tm.ones_like(part) for part in parts])

    added = [
        m for k in kernels_of(step, tm.randn(6, 9).requires_grad_())
        for m in k.members if m.node.shape == (6, 9) and "add" in str(m.node.expr)
    ]  # fmt: skip
    assert bool(added) != together


def test_optimizers_update_weights_within_the_products_of_their_gradients() -> None:
    model = nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10))
    optimizer = optim.Adam(model.parameters())

    def step(x: Tensor, labels: Tensor) -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x), labels).backward()
        optimizer.step()

    compiled = native(step)
    compiled(tm.randn(32, 64), tm.randint(0, 10, (32,)))
    made = [s.group for s in executor(compiled).built.stages if s.group.host is not None]
    updates = {g.domain: len(g.members) for g in made if g.domain in [(100, 64), (10, 100)]}
    assert updates == {(100, 64): 3, (10, 100): 3}  # the weight and both averages


def main() -> None:
    """Write the graphs."""
    GRAPHS.mkdir(exist_ok=True)
    for name in CASES:
        if name not in SLOW:
            (GRAPHS / f"{name}.txt").write_text(graph_of(name), encoding="utf-8")


if __name__ == "__main__":
    main()
