"""Kernels of the time loops: LSTM, GRU and the plain recurrent layer, and their gradients.

    kernels = KERNELS["LstmLoop"]("lstm", op, inputs, outputs, target)

The buffers of each kernel are the op's inputs, its outputs, and then the workspaces, whose sizes
in bytes `workspaces(op, inputs, outputs, target)` returns.  The kernels run in the order of the
list.  Inputs may have any strides; but states and gates, as the loop returned them, and outputs
have to be contiguous: else there are no kernels.

    forwards    w_hh is packed; all steps, a block of the batch's rows being one work item
    gradient    w_hh is packed; all steps backwards, with ∂w_hh as far as it comes from the block;
                the parts of the blocks are added up

Sums are taken in an order that depends on sizes alone, not on threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .ir import SIZES
from .kernel import Generator, Kernel, Memory, is_dense
from .recurrent_back import WeightSums, add_parts, backward
from .recurrent_cells import Cell, Gru, Lstm, Rnn
from .recurrent_loop import forward, pack
from .recurrent_spec import Arrays, LoopSpec, Panels, choose_panels
from .target import Target
from .vec import FLOATS

__all__ = ["KERNELS", "workspaces"]


@dataclass(frozen=True)
class _Setting:
    """An op with its arrays."""

    spec: LoopSpec
    cell: Cell
    arrays: Arrays
    panels: Panels
    spaces: tuple[int, ...]  # the numbers in each workspace


def _cell(op: Any) -> tuple[Cell, bool]:
    """Return the kind of loop of an op, and whether the op is the gradient."""
    kind = type(op).__name__
    cells: dict[str, Callable[[], Cell]] = {"Lstm": Lstm, "Gru": Gru, "Rnn": lambda: Rnn(op.relu)}
    return cells[kind.removesuffix("Grad").removesuffix("Loop")](), kind.endswith("Grad")


def _setting(
    op: Any, inputs: Sequence[Memory], outputs: Sequence[Memory], target: Target
) -> _Setting | None:
    """Describe an op; None where there are no kernels for it."""
    cell, gradient = _cell(op)
    wanted, made = (
        (cell.grad_inputs, cell.grad_outputs) if gradient else (cell.inputs, cell.outputs)
    )
    masked = len(inputs) > len(wanted)
    names = (*wanted, *["mask"] * masked, *made)
    memories = dict(zip(names, (*inputs, *outputs), strict=True))
    dtype = memories["w_hh"].dtype
    whole = {"ys", "cs", "zs", *made} & set(memories)
    if dtype not in FLOATS or not all(is_dense(memories[name]) for name in whole):
        return None
    steps, (batch, hidden) = memories["ys"].shape[0], memories["h0"].shape
    spec = LoopSpec(steps, batch, hidden, op.gates, dtype, op.reverse, masked, target)
    parts, depth = (1, spec.width) if gradient else (spec.gates, hidden)
    panels = choose_panels(spec, parts, depth, cut=gradient)
    spaces = {"packed": panels.numbers(spec.lanes)}
    if gradient:
        spaces["parts"] = spec.blocks * WeightSums(spec).numbers
    arrays = Arrays((*names, *spaces), memories)
    return _Setting(spec, cell, arrays, panels, tuple(spaces.values()))


def workspaces(
    op: Any, inputs: Sequence[Memory], outputs: Sequence[Memory], target: Target
) -> list[int]:
    """Return the bytes of each workspace of an op; they follow the outputs."""
    setting = _setting(op, inputs, outputs, target)
    return [max(1, n) * SIZES[setting.spec.dtype] for n in setting.spaces] if setting else []


def _forward(
    name: str, op: Any, inputs: Sequence[Memory], outputs: Sequence[Memory], target: Target
) -> list[Kernel] | None:
    """Return the kernels of a loop."""
    s = _setting(op, inputs, outputs, target)
    if s is None:
        return None
    return [
        pack(f"{name}_pack", s.spec, s.arrays, s.panels, transposed=True),
        forward(f"{name}_steps", s.spec, s.cell, s.arrays, s.panels),
    ]


def _gradient(
    name: str, op: Any, inputs: Sequence[Memory], outputs: Sequence[Memory], target: Target
) -> list[Kernel] | None:
    """Return the kernels of a loop's derivative."""
    s = _setting(op, inputs, outputs, target)
    if s is None:
        return None
    kernels = [
        pack(f"{name}_pack", s.spec, s.arrays, s.panels, transposed=False),
        backward(f"{name}_steps", s.spec, s.cell, s.arrays, s.panels),
    ]
    sums = [output for output in ("dw", "db") if output in s.arrays.index]
    return kernels + [add_parts(f"{name}_{output}", s.spec, s.arrays, output) for output in sums]


KERNELS: dict[str, Generator] = {
    **dict.fromkeys(("LstmLoop", "GruLoop", "RnnLoop"), _forward),
    **dict.fromkeys(("LstmLoopGrad", "GruLoopGrad", "RnnLoopGrad"), _gradient),
}
