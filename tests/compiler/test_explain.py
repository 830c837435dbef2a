"""explain: it changes nothing, counts rightly, names the right lines, judges by the roofline."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import toumei as tm
import toumei.nn.functional as F
from toumei import nn, optim
from toumei.compiler import peaks as peaks_module
from toumei.compiler.explain_costs import of_expression
from toumei.compiler.explain_kernels import KernelRow, judged
from toumei.compiler.expr import Apply, Read
from toumei.compiler.llvm.target import host
from toumei.compiler.peaks import Peaks, peaks
from toumei.errors import ToumeiError, TraceError
from toumei.viz.explain import Alike, Explanation, write_time
from toumei.viz.kernels import lines_of, sides_of

GIB = 2.0**30


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOUMEI_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


class Net(nn.Module):
    def __init__(self) -> None:
        self.first, self.second = nn.Linear(40, 24), nn.Linear(24, 5)

    def forward(self, x: tm.Tensor) -> tm.Tensor:
        h = self.first(x).tanh()  # the line of the first product
        return self.second(h)


def training(
    make: Callable[[Any], optim.Optimizer], seed: int = 0
) -> tuple[Net, Callable[..., Any]]:
    tm.manual_seed(seed)
    net = Net()
    optimizer = make(net.parameters())

    def step(x: tm.Tensor, y: tm.Tensor) -> tm.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(F.dropout(net(x), 0.1), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return net, step


def batch() -> tuple[tm.Tensor, tm.Tensor]:
    rng = np.random.default_rng(0)
    x = tm.tensor(rng.normal(size=(16, 40)).astype(np.float32))
    return x, tm.tensor(rng.integers(0, 5, 16))


@pytest.fixture(scope="module")
def found() -> Explanation:
    _, step = training(lambda p: optim.SGD(p, lr=0.1))
    return tm.explain(step)(*batch())


def line_of(thing: Any, text: str) -> str:
    """Return "file.py:n" of a line in a function of this file."""
    lines, first = inspect.getsourcelines(thing)
    return f"{Path(__file__).name}:{first + next(i for i, s in enumerate(lines) if text in s)}"


# --- nothing changes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda p: optim.SGD(p, lr=0.1, momentum=0.9),
        lambda p: optim.Adam(p, lr=1e-2),
        lambda p: optim.AdamW(p, lr=1e-2),
    ],
    ids=["momentum", "Adam", "AdamW"],
)
def test_nothing_is_changed_by_looking(make: Callable[[Any], optim.Optimizer]) -> None:
    net, step = training(make)
    before = {k: v.numpy().copy() for k, v in net.state_dict().items()}
    state = np.array(tm.get_rng_state())
    tm.explain(step)(*batch())
    assert all((before[k] == v.numpy()).all() for k, v in net.state_dict().items())
    assert (state == np.asarray(tm.get_rng_state())).all()
    assert all(p.grad is None for p in net.parameters())
    seen = [float(step(*batch())) for _ in range(3)]
    _, other = training(make)
    assert seen == [float(other(*batch())) for _ in range(3)]


def test_debug_mode_ends_with_the_trace() -> None:
    tm.explain(lambda x: x + 1)(tm.ones(3))
    (tm.tensor([-1.0])).log()  # would raise
    with pytest.raises(TraceError, match=r"item\(\)"):
        tm.explain(lambda x: x.sum().item())(tm.ones(3))
    (tm.tensor([-1.0])).log()


# --- what is said --------------------------------------------------------------------------------


def test_kernels_are_told_with_the_lines_that_asked_for_them(found: Explanation) -> None:
    forward = line_of(Net, "the line of the first product")
    products = [k for k in found.kernels if k.does.startswith("matmul") and k.where == forward]
    assert [k.shape for k in products if not k.backward] == ["[16, 40] × [40, 24]"]
    assert {k.shape for k in products if k.backward} == {"[24, 16] × [16, 40]"}
    assert all(k.module == "Linear" for k in products)
    assert products[0].text == "h = self.first(x).tanh()" and "tanh" in products[0].does
    update = line_of(training, "optimizer.step()")
    assert any(k.where == update and k.module == "SGD.step()" for k in found.kernels)
    assert any("cross_entropy" in k.does for k in found.kernels)
    assert all(k.where for k in found.kernels)


def test_a_line_outside_of_the_step_explains_nothing() -> None:
    seen = tm.explain(nn.Linear(3, 2))(tm.ones(4, 3))
    assert [(k.where, k.module) for k in seen.kernels] == [("", "Linear")]


def test_the_ways_in(found: Explanation) -> None:
    net, step = training(lambda p: optim.SGD(p, lr=0.1))
    names = [k.does for k in found.kernels]
    assert [k.does for k in tm.explain(tm.compile(step))(*batch()).kernels] == names
    x = tm.ones(4, 40)
    assert [k.does for k in tm.explain(tm.compile(net))(x).kernels] == [
        k.does for k in tm.explain(net)(x).kernels
    ]
    for wrong in (3, "step"):
        with pytest.raises(TraceError, match="a function or a module"):
            tm.explain(wrong)()


def test_graphs_before_and_after_each_pass(found: Explanation) -> None:
    names = [name for name, _ in found.passes]
    assert names[0] == "trace" and {"decompose", "merge_equal_calls", "drop_unused"} <= set(names)
    assert "linear(" in found.graph("trace") and "# after" not in found.graph("trace")
    before, after = found.graph("decompose").split("# after decompose")
    assert "linear(" in before and "linear(" not in after and "matmul(" in after
    first, last = found.graph().split(f"# after {names[-1]}")
    assert str(found.passes[0][1]) in first and str(found.passes[-1][1]) in last
    with pytest.raises(ToumeiError, match="no pass 'magic': there are trace, decompose"):
        found.graph("magic")


def test_groups_and_memory(found: Explanation) -> None:
    groups = found.groups()
    assert groups.count("\nkernel ") == len(found.kernels) - 1
    assert "= tanh(%" in groups and "-> memory of %" in groups
    assert f"{found.arena:,} bytes in all" in found.memory()


def test_code_of_a_kernel(found: Explanation) -> None:
    number = next(k.number for k in found.kernels if "tanh" in k.does)
    for target, register, product in (
        ("avx512", "%zmm", "vfmadd231ps"),
        ("avx2", "%ymm", "vfmadd231ps"),
        ("generic", "%xmm", "mulps"),
    ):
        code = found.assembly(number, target)
        assert register in code and product in code and "divps" in code, target
        assert ".cfi_" not in code
    assert "<16 x float>" in found.ir(number, "avx512") and "define" in found.ir(number)
    assert "ret" in found.assembly(number)
    for wrong in (-1, len(found.kernels)):
        with pytest.raises(ToumeiError, match="there is no kernel"):
            found.ir(wrong)


def test_python_between_kernels_says_why() -> None:
    seen = tm.explain(lambda x: (x * 2).sort()[0] + 1)(tm.randn(50, 4))
    (row,) = (k for k in seen.kernels if not k.code)
    assert row.reason == "no native kernel for 'argsort' of float32[2-d]: NumPy"
    assert row.bound == "Python" and row.share is None
    text = seen.text(80)
    assert "1 of them NumPy" in " ".join(text.split()) and row.reason in text
    with pytest.raises(ToumeiError, match="no machine code: no native kernel"):
        seen.assembly(row.number)


def test_results_with_a_backward_pass_of_their_own() -> None:
    seen = tm.explain(lambda w: (w * w).exp())(tm.ones(7, requires_grad=True))
    assert "the results have a backward pass: another" in seen.text(100)


# --- counting ------------------------------------------------------------------------------------


def only(function: Callable[..., Any], *args: tm.Tensor, does: str = "") -> KernelRow:
    """Return the only kernel, or the only one that does something; others may copy."""
    (row,) = (k for k in tm.explain(function)(*args).kernels if does in k.does)
    return row


def test_a_product() -> None:
    row = only(lambda a, b: a @ b, tm.randn(30, 20), tm.randn(20, 10))
    assert row.operations == 2 * 30 * 20 * 10
    assert (row.read, row.written) == (4 * (30 * 20 + 20 * 10), 4 * 30 * 10)
    row = only(lambda a, b: a @ b, tm.randn(6, 30, 20).double(), tm.randn(20, 10).double())
    assert row.operations == 6 * 2 * 30 * 20 * 10 and row.written == 8 * 6 * 30 * 10


def test_convolutions_in_all_three_directions() -> None:
    x, w = tm.randn(4, 6, 12, 12), tm.randn(8, 6, 5, 5)
    each = 2 * (4 * 8 * 8 * 8) * 6 * 5 * 5

    def gradients(x: tm.Tensor, w: tm.Tensor) -> Any:
        x, w = x.detach().requires_grad_(), w.detach().requires_grad_()
        return tm.autograd.grad(F.conv2d(x, w).square().sum(), [x, w])

    rows = [k for k in tm.explain(gradients)(x, w).kernels if "conv" in k.does]
    assert len(rows) == 3
    for row in rows:  # a little more for what follows in the same kernel
        assert each <= row.operations <= 1.01 * each, row.does


def test_winograd_is_named_and_counts_a_quarter() -> None:
    def conv(x: tm.Tensor, w: tm.Tensor) -> tm.Tensor:
        return F.conv2d(x, w, padding=1)

    x, w = tm.randn(8, 32, 32, 32), tm.randn(32, 32, 3, 3)
    plain = only(tm.compile(conv, exact=True), x, w, does="conv")
    assert plain.does.split(", ")[0] == "conv"
    assert plain.operations == 2 * (8 * 32 * 32 * 32) * 32 * 9
    quick = only(conv, x, w, does="conv")
    if host().name == "avx512":  # where it is known to pay
        assert quick.does.startswith("conv (Winograd)") and 4 * quick.operations == plain.operations


def test_groups_of_a_convolution_count_once() -> None:
    x, w = tm.randn(2, 6, 9, 9), tm.randn(9, 2, 3, 3)
    row = only(lambda x, w: F.conv2d(x, w, groups=3, stride=2), x, w, does="conv")
    assert row.operations == 2 * (2 * 9 * 4 * 4) * 2 * 9


def test_a_recurrent_loop() -> None:
    loop = nn.LSTM(12, 10)
    rows = tm.explain(loop)(tm.randn(7, 3, 12)).kernels
    (row,) = (k for k in rows if "lstm_loop" in k.does)
    assert row.operations == 2 * 7 * 3 * 10 * 40


def test_formulas_and_sums() -> None:
    x = tm.randn(50, 30)
    assert only(lambda x: x * 2 + x, x).operations == 2 * 1500
    row = only(lambda x: (x * x).sum(1), x)
    assert row.operations == 2 * 1500 and (row.read, row.written) == (4 * 1500, 4 * 50)
    assert only(lambda x: x.exp(), x).operations > 5 * 1500
    assert only(lambda x: x.t().contiguous(), x).operations == 0


def test_what_is_read_twice_counts_once() -> None:
    x, b = tm.randn(64, 32), tm.randn(32)
    row = only(lambda x, b: x * b + x * x, x, b)
    assert (row.read, row.written) == (4 * (64 * 32 + 32), 4 * 64 * 32)


def test_of_a_table_only_what_is_taken() -> None:
    table, index = tm.randn(1000, 16), tm.randint(0, 1000, (5,))
    row = only(lambda t, i: F.embedding(i, t), table, index, does="embedding")
    assert row.read == 4 * 5 * 16 + 8 * 5


def test_an_expression_is_written_to_be_counted() -> None:
    f32 = np.dtype("float32")
    x = Read(0, f32, (1,))
    shared = Apply("mul", (x, x), f32)
    assert of_expression(Apply("add", (shared, shared), f32), host()) == 2
    assert of_expression(Apply("cast", (x,), np.dtype("float64")), host()) == 0


# --- the roofline --------------------------------------------------------------------------------

PEAKS = Peaks(100e9, 50e9, 40e9, 20e9, 10e9, 1e-7, 2)


@pytest.mark.parametrize(
    "seconds, operations, size, dtype, share, bound",
    [
        (1e-3, 50_000_000, 1000, "float32", 0.5, "arithmetic"),
        (1e-3, 25_000_000, 1000, "float64", 0.5, "arithmetic"),
        (1e-4, 1000, 1_000_000, "float32", 0.25, "cache"),
        (1e-3, 1000, 10_000_000, "float32", 0.5, "cache"),  # in a cache that the cores share
        (0.1, 1000, 500_000_000, "float32", 0.5, "memory"),
        (1.5e-7, 1000, 1000, "float32", None, "start"),
    ],
)
def test_what_bounds_a_kernel(
    seconds: float, operations: int, size: int, dtype: str, share: float | None, bound: str
) -> None:
    assert judged(seconds, operations, size, dtype, 1, PEAKS) == (
        None if share is None else pytest.approx(share),
        bound,
    )


def test_without_a_shared_cache_memory_is_what_bounds() -> None:
    plain = Peaks(100e9, 50e9, 40e9, 10e9, 10e9, 1e-7, 2)
    assert judged(1e-3, 1000, 8_000_000, "float32", 1, plain)[1] == "memory"


def test_peaks_are_measured_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOUMEI_CACHE", str(tmp_path))
    measured = []

    def measure(threads: int) -> Peaks:
        measured.append(threads)
        return Peaks(10.0 + len(measured), 5.0, 4.0, 3.0, 2.0, 1.0 / len(measured), threads)

    monkeypatch.setattr(peaks_module, "_measure", measure)
    first = peaks()
    assert peaks() == first and len(measured) == 1
    better = peaks(again=True)
    assert (better.float32, better.start) == (12.0, 0.5) and peaks() == better
    (file,) = (tmp_path / "compiled").glob("peaks-*.json")
    for damage in ("{", json.dumps({"float32": 1.0}), "[1, 2]"):
        file.write_text(damage)
        assert peaks().threads == measured[-1]
    assert len(measured) == 5


def test_the_figures_of_this_machine_make_sense() -> None:
    found = peaks()
    assert 1e9 < found.float64 <= 1.2 * found.float32 < 1e14
    assert found.memory > 1e8 and found.cache > 0.5 * found.memory
    assert 0 < found.start < 1e-3


# --- the table and the picture -------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 100, 120])
def test_the_table_lines_up(found: Explanation, width: int) -> None:
    lines = found.text(width).splitlines()
    assert max(map(len, lines)) <= width
    at = next(i for i, line in enumerate(lines) if "bound by    what it does" in line)
    column = lines[at].index("bound by")
    shown = min(len(found.alike()), 15)
    rows = lines[at + 1 : at + 1 + 2 * shown : 2]
    for row, alike in zip(rows, found.alike()[:shown], strict=True):
        assert row[column:].startswith(alike.rows[0].bound) and row[column - 1] == " "
        assert int(row[:4]) == alike.rows[0].number
    seconds = [a.seconds for a in found.alike()]
    assert seconds == sorted(seconds, reverse=True)


def test_the_rest_is_named(found: Explanation) -> None:
    text = found.text(100, most=2)
    shown = sum(len(a.rows) for a in found.alike()[:2])
    assert f"and {len(found.kernels) - shown} more: " in text
    assert "more:" not in found.text(100, most=99)


def test_kernels_that_are_alike_are_one_line() -> None:
    class Deep(nn.Module):
        def __init__(self) -> None:
            self.layers = [nn.Linear(16, 16) for _ in range(5)]

        def forward(self, x: tm.Tensor) -> tm.Tensor:
            for layer in self.layers:
                x = layer(x).relu()
            return x

    with tm.no_grad():
        seen = tm.explain(Deep())(tm.ones(8, 16))
    assert len(seen.kernels) == 5
    (together,) = seen.alike()
    assert isinstance(together, Alike) and len(together.rows) == 5
    assert "×5 matmul" in seen.text(100)
    assert math.isclose(together.seconds, sum(k.seconds for k in seen.kernels))


def test_a_step_without_kernels(tmp_path: Path) -> None:
    seen = tm.explain(lambda x: x)(tm.ones(3))
    assert seen.kernels == [] and seen.text(80).endswith("nothing is computed")
    assert "0 bytes in all" in seen.memory() and seen.groups() == ""
    seen.picture(tmp_path / "nothing.png")


def test_rich_shows_the_same(found: Explanation) -> None:
    from rich.console import Console

    console = Console(width=100, force_terminal=False)
    with console.capture() as capture:
        console.print(found)
    shown = [line.rstrip() for line in capture.get().rstrip().splitlines()]
    assert shown == found.text(100).splitlines()


def test_times_are_told_with_three_digits() -> None:
    assert [write_time(s) for s in (2.5, 0.0999, 1e-3, 45e-6, 3e-9)] == [
        "2.50 s", "99.9 ms", "1.00 ms", "45.0 µs", "3 ns",
    ]  # fmt: skip


def test_the_picture(found: Explanation, tmp_path: Path) -> None:
    file = tmp_path / "step.png"
    found.picture(file)
    assert file.read_bytes()[:4] == b"\x89PNG"
    lines = lines_of(found)
    total = sum(k.seconds for k in found.kernels)
    assert math.isclose(sum(line.seconds for line in lines), total)
    for line in lines:
        assert math.isclose(sum(side.seconds for side in sides_of(line)), line.seconds)
    products = next(line for line in lines if "self.first" in line.label)
    assert {side.label for side in sides_of(products)} == {"itself", "gradient"}
    with pytest.raises(ToumeiError, match=r"no picture can be a \.docx"):
        found.picture(tmp_path / "step.docx")
