"""Kernels of the time loops: LSTM, GRU and the plain recurrent layer, and their gradients.

    kernels = KERNELS["LstmLoop"]("lstm", op, inputs, outputs, target)

The buffers of each kernel are the op's inputs, its outputs, and then the workspaces, whose sizes
in bytes `workspaces(op, inputs, outputs, target)` returns.  The kernels run in the order of the
list.  Inputs may have any strides; but states and gates, as the loop returned them, and outputs
have to be contiguous.

    forwards    w_hh is packed; all steps, a block of the batch's rows being one work item
    gradient    w_hh is packed; all steps backwards, as far as ∂gates; ∂w_hh, a matrix product over
                all steps at once (in two parts: the state before the first step is an array of its
                own); ∂b_hh of the GRU, sums of columns

Sums are taken in an order that depends on sizes alone, not on threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from . import matmul
from .ir import SIZES, Function, Value
from .kernel import Generator, Kernel, Memory
from .matmul_plan import MatmulSpec, Plan
from .matmul_tile import load_maybe, store_maybe
from .recurrent_cells import Cell, Gru, Lstm, Rnn
from .recurrent_loop import backward, backward_panels, forward, forward_panels, pack
from .recurrent_spec import ARGS, Arrays, LoopSpec, Panels, contiguous, tail_mask
from .target import Target

__all__ = ["KERNELS", "workspaces"]


@dataclass(frozen=True)
class _Setting:
    """An op with its arrays."""

    spec: LoopSpec
    cell: Cell
    arrays: Arrays
    panels: Panels
    names: tuple[str, ...]  # of the workspaces
    numbers: tuple[int, ...]  # that each of them holds


def _cell(op: Any) -> tuple[Cell, bool]:
    """Return the kind of loop of an op, and whether the op is the gradient."""
    kind = type(op).__name__
    cells: dict[str, Callable[[], Cell]] = {"Lstm": Lstm, "Gru": Gru, "Rnn": lambda: Rnn(op.relu)}
    return cells[kind.removesuffix("Grad").removesuffix("Loop")](), kind.endswith("Grad")


def _setting(
    op: Any, inputs: Sequence[Memory], outputs: Sequence[Memory], target: Target
) -> _Setting:
    cell, gradient = _cell(op)
    wanted, made = (
        (cell.grad_inputs, cell.grad_outputs) if gradient else (cell.inputs, cell.outputs)
    )
    masked = len(inputs) > len(wanted)
    names = (*wanted, *["mask"] * masked, *made)
    memories = dict(zip(names, (*inputs, *outputs), strict=True))
    for name in {"ys", "cs", "zs", *made} & set(memories):
        if not contiguous(memories[name]):
            raise ValueError(f"{type(op).__name__}: {name} has to be contiguous")
    steps, (batch, hidden) = memories["ys"].shape[0], memories["h0"].shape
    dtype = memories["w_hh"].dtype
    spec = LoopSpec(steps, batch, hidden, op.gates, dtype, op.reverse, masked, target)
    panels = backward_panels(spec) if gradient else forward_panels(spec)
    spaces = {"packed": panels.numbers(spec.lanes)}
    if gradient:
        spaces["start"] = batch * hidden
        spaces["parts"] = max(p.workspace(s) // SIZES[dtype] for s, p in _products(spec))
        spaces |= {"dgh": steps * batch * spec.width} if cell.weight_grad() == "dgh" else {}
        memories["start"] = Memory((batch, hidden), (hidden, 1), dtype)
        line = (batch * spec.width, spec.width, 1)
        memories["dgh"] = Memory((steps, batch, spec.width), line, dtype)
    index = (*names, *spaces)
    return _Setting(
        spec, cell, Arrays(index, memories), panels, tuple(spaces), tuple(spaces.values())
    )


def workspaces(
    op: Any, inputs: Sequence[Memory], outputs: Sequence[Memory], target: Target
) -> list[int]:
    """Return the bytes of each workspace of an op; they follow the outputs."""
    setting = _setting(op, inputs, outputs, target)
    return [max(1, n) * SIZES[setting.spec.dtype] for n in setting.numbers]


def _forward(
    name: str, op: Any, inputs: Sequence[Memory], outputs: Sequence[Memory], target: Target
) -> list[Kernel]:
    """Return the kernels of a loop."""
    s = _setting(op, inputs, outputs, target)
    return [
        pack(f"{name}_pack", s.spec, s.arrays, s.panels, transposed=True),
        forward(f"{name}_steps", s.spec, s.cell, s.arrays, s.panels),
    ]


def _gradient(
    name: str, op: Any, inputs: Sequence[Memory], outputs: Sequence[Memory], target: Target
) -> list[Kernel]:
    """Return the kernels of a loop's derivative."""
    s = _setting(op, inputs, outputs, target)
    kernels = [
        pack(f"{name}_pack", s.spec, s.arrays, s.panels, transposed=False),
        backward(f"{name}_steps", s.spec, s.cell, s.arrays, s.panels),
        *_weight_gradient(f"{name}_weight", s),
    ]
    if "db" in s.arrays.index:
        kernels.append(_column_sums(f"{name}_bias", s))
    return kernels


# --- sums over steps and batch ---


def _products(spec: LoopSpec) -> list[tuple[MatmulSpec, Plan]]:
    """Return the products that make up ∂w_hh: of the first step, and of the others."""
    n, width = spec.hidden, spec.width
    found = []
    for rows in (spec.batch * min(1, spec.steps), spec.batch * max(0, spec.steps - 1)):
        product = MatmulSpec(width, n, rows, (1, width), (n, 1), (n, 1), (), spec.dtype)
        found.append((product, matmul.plan(product, spec.target)))
    return found


def _weight_gradient(name: str, s: _Setting) -> list[Kernel]:
    """Return the kernels of ∂w_hh = Σ ∂gatesₜ·hₜ₋₁, the first step's part and then the rest."""
    spec, source, reverse = s.spec, s.cell.weight_grad(), s.spec.reverse
    gates, states = spec.batch * spec.width, spec.batch * spec.hidden  # numbers in a step
    start = (spec.steps - 1) * gates if reverse and spec.steps else 0
    first = ((source, start), ("start", 0))
    rest = ((source, 0), ("ys", states)) if reverse else ((source, gates), ("ys", 0))
    kernels: list[Kernel] = []
    for number, ((product, plan), (a, b)) in enumerate(
        zip(_products(spec), (first, rest), strict=True)
    ):
        if number and not product.k:
            continue
        functions = matmul.emit(f"{name}{number}", product, plan, _adding(product, bool(number)))
        places = (a, b, ("dw", 0), ("parts", 0))
        for function, items in zip(functions, plan.items(product), strict=True):
            kernels.append(Kernel(_on(function, s, places), items))
    return kernels


def _adding(product: MatmulSpec, more: bool) -> matmul.Epilogue:
    """Return the epilogue that stores a product, or adds it to what is there."""
    place = matmul.place_c(product)

    def epilogue(
        f: Function, sums: Value, row: Value, column: Value, batch: Value, mask: Value | None
    ) -> None:
        to = place(f, row, column, batch)
        if more:
            sums = f.fadd(load_maybe(f, to, sums.type, mask), sums)
        store_maybe(f, sums, to, mask)

    return epilogue


def _on(inner: Function, s: _Setting, places: Sequence[tuple[str, int]]) -> Function:
    """Return a kernel that calls another one on buffers of its own, named by array and offset."""
    f = Function(f"{inner.name}_at", ARGS[:3])
    inner.private = True
    table = f.scratch(SIZES["ptr"] * len(places))
    for i, (array, offset) in enumerate(places):
        place = f.at(f.buffer(s.arrays.index[array]), offset, s.spec.dtype)
        f.store(place, f.at(table, i, "ptr"))
    f.call_helper(inner, table, *f.args[1:])
    f.ret()
    return f


def _column_sums(name: str, s: _Setting) -> Kernel:
    """Return the kernel of ∂b_hh: sums within each step, and then of these."""
    f, spec = Function(name, ARGS[:3]), s.spec
    lanes, width = spec.lanes, spec.width
    zero, vectors = f.const(spec.kind, 0.0), -(-width // lanes)
    wide = next(n for n in (4, 3, 2, 1) if vectors % n == 0)  # columns side by side

    def row(step: Value, index: Value, columns: Sequence[Value]) -> list[Value]:
        base = s.arrays.row(f, "dgh", step, index)
        return [
            load_maybe(f, f.at(base, c, spec.dtype), spec.kind, tail_mask(f, lanes, c, width))
            for c in columns
        ]

    with f.loop(f.args[1], f.args[2]) as items:
        start = f.mul(items.index, wide * lanes)
        columns = [f.add(start, k * lanes) for k in range(wide)]
        with f.loop(0, spec.steps, carried=[zero] * wide) as steps:
            with f.loop(0, spec.batch, carried=[zero] * wide) as rows:
                loaded = row(steps.index, rows.index, columns)
                rows.next = [f.fadd(x, y) for x, y in zip(rows.carried, loaded, strict=True)]
            sums = zip(steps.carried, rows.results, strict=True)
            steps.next = [f.fadd(x, y) for x, y in sums]
        for column, total in zip(columns, steps.results, strict=True):
            to = f.at(f.buffer(s.arrays.index["db"]), column, spec.dtype)
            store_maybe(f, total, to, tail_mask(f, lanes, column, width))
    f.ret()
    return Kernel(f, vectors // wide)


KERNELS: dict[str, Generator] = {
    **dict.fromkeys(("LstmLoop", "GruLoop", "RnnLoop"), _forward),
    **dict.fromkeys(("LstmLoopGrad", "GruLoopGrad", "RnnLoopGrad"), _gradient),
}
