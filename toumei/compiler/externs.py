"""Ops with kernels of their own: from a node to the generator that writes its kernels.

An op that has none runs its NumPy `forward` between native steps.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

from ..config import run_quietly
from ..op import Array, Op
from .axes import merge
from .expr import Read
from .llvm import conv, drawing, matmul, recurrent, tables, winograd
from .llvm.conv_spec import ConvSpec
from .llvm.elements import memory_type
from .llvm.ir import SIZES
from .llvm.kernel import Generator, Kernel, Memory
from .llvm.matmul_plan import L2, MatmulSpec
from .llvm.target import Target
from .nodes import Extern, Lowered, Shape
from .tuning import tuned_plan

# An epilogue, as llvm/matmul.py describes it; None: the results are stored.
Epilogue: TypeAlias = Any


class Found(NamedTuple):
    """How an op's kernels are written.

    Args:
        key: equal for ops whose kernels are the same.
        write: (name, epilogue) -> the kernels, to be run one after the other.
        buffers: the places of the node's inputs and outputs among the kernel's buffers.
        workspaces: bytes of each buffer that follows these.
        rows: of a batch entry, as an epilogue counts them; 0: it takes none.
        flagged: whether the last buffer is a number that says that an index is out of range.
    """

    key: str
    write: Callable[[str, Epilogue], list[Kernel]]
    buffers: tuple[int, ...]
    workspaces: tuple[int, ...]
    rows: int = 0
    flagged: bool = False


def find(node: Extern, target: Target, exact: bool = False) -> Found | None:
    """Return how an op's kernels are written; None: there are none for it.

    `exact` rules Winograd's convolutions out.
    """
    name = type(node.call.op).__name__
    if name == "Matmul":
        return _matmul(node, target)
    if name in DIRECTIONS:
        return _convolution(node, target, exact)
    return _generated(node, target)


def forward(op: Op, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
    """Run an op's NumPy forward from memory to memory."""
    import numpy as np

    from ..device import xp

    if op.check is not None:
        op.check(*inputs)
    found = run_quietly(op.forward, xp, *inputs)
    for out, y in zip(outputs, found if type(found) is tuple else (found,), strict=True):
        np.copyto(out, y)


# --- matrix products -----------------------------------------------------------------------------


def matmul_spec(node: Extern) -> MatmulSpec:
    """Return a matrix product as its kernels see it: batches joined to rows where they can be."""
    (a, b), (c,) = node.inputs, node.outputs
    a_shape, b_shape, c_shape = node.shapes
    (m, n), k, ndim = c_shape[-2:], a_shape[-1], len(c_shape) - 2
    walks = [
        (*_batch_strides(a, a_shape, ndim), a.strides[-2]),
        (*_batch_strides(b, b_shape, ndim), 0),
        c.strides[:-1],
    ]
    if m > 1 or ndim == 0 or any(walks[1]):  # else the batch is the rows
        batch, walks = _merged_batch(c_shape[:-2], m, walks)
    else:
        batch, walks = merge(c_shape[:-1], walks)
        batch = batch or (1,)
        walks = [w or (0,) for w in walks]
    aw, bw, cw = walks
    return MatmulSpec(
        batch[-1], n, k,
        (aw[-1], a.strides[-1], *aw[:-1]),
        (b.strides[-2], b.strides[-1], *bw[:-1]),
        (cw[-1], c.strides[-1], *cw[:-1]),
        batch[:-1], memory_type(c.dtype),
    )  # fmt: skip


def _merged_batch(
    batch: Shape, m: int, walks: list[tuple[int, ...]]
) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    """Join batch dims to the rows where B is the same for them, and to each other."""
    sizes, merged = merge((*batch, m), walks)
    if m > 1 and sizes and not merged[1][-1]:
        return sizes, merged
    sizes, merged = merge(batch, [w[:-1] for w in walks])
    return (*sizes, m), [(*s, w[-1]) for s, w in zip(merged, walks, strict=True)]


def _batch_strides(x: Read, shape: Shape, ndim: int) -> Shape:
    """Return the strides of the batch dims, 0 where x is broadcast."""
    own = tuple(0 if n == 1 else s for n, s in zip(shape[:-2], x.strides[:-2], strict=True))
    return (0,) * (ndim - len(own)) + own


def products(lowered: Lowered) -> Iterator[MatmulSpec]:
    """Yield the matrix products of a step as their kernels see them."""
    for node in lowered.nodes:
        if isinstance(node, Extern) and type(node.call.op).__name__ == "Matmul":
            spec = matmul_spec(node)
            if spec.dtype in ("float", "double") and spec.work:
                yield spec.swapped() if spec.n == 1 else spec


def _matmul(node: Extern, target: Target) -> Found | None:
    spec = matmul_spec(node)
    if spec.dtype not in ("float", "double") or not spec.work:
        return None
    if spec.n == 1:
        turned = spec.swapped()
        return _product(turned, (1, 0, 2), target)._replace(rows=0)
    return _product(spec, (0, 1, 2), target)


def _product(spec: MatmulSpec, buffers: tuple[int, ...], target: Target) -> Found:
    chosen = tuned_plan(spec, target)

    def write(name: str, epilogue: Epilogue) -> list[Kernel]:
        ahead = epilogue.ahead if epilogue is not None and _is_large(spec) else None
        functions = matmul.emit(name, spec, chosen, epilogue, ahead)
        return [Kernel(f, n) for f, n in zip(functions, chosen.items(spec), strict=True)]

    return Found(f"matmul {spec}", write, buffers, (chosen.workspace(spec),), spec.m)


def _is_large(spec: MatmulSpec) -> bool:
    """Tell whether the result is so large that its place should be fetched ahead of writing."""
    return spec.batches * spec.m * spec.n * SIZES[spec.dtype] > L2 // 4


# --- convolutions --------------------------------------------------------------------------------

DIRECTIONS = {
    "Convolution": "forward",
    "ConvolutionInputGrad": "input",
    "ConvolutionWeightGrad": "weight",
}


Four: TypeAlias = tuple[int, int, int, int]


def conv_spec(node: Extern) -> ConvSpec | None:
    """Return a convolution as its kernels see it, of one or two dimensions."""
    op: Any = node.call.op
    direction = DIRECTIONS[type(op).__name__]
    first, second, out = (
        (r, s) for r, s in zip((*node.inputs, *node.outputs), node.shapes, strict=True)
    )
    x, w, y = {
        "forward": (first, second, out),
        "input": (out, second, first),
        "weight": (second, out, first),
    }[direction]
    rank = len(x[1]) - 2
    if rank > 2 or x[0].dtype.kind != "f":
        return None

    def both(values: Sequence[int], alone: int) -> tuple[int, int]:
        return (values[0], values[1]) if rank == 2 else (alone, values[0])

    def image(memory: tuple[Read, Shape]) -> tuple[Four, Four]:
        (n, c, *size), (sn, sc, *steps) = memory[1], memory[0].strides
        (h, w), (sh, sw) = both(size, 1), both(steps, 0)
        return (n, h, w, c), (sn, sh, sw, sc)

    (n, h, width, c), x_strides = image(x)
    (_, oh, ow, k), y_strides = image(y)
    kernel, w_strides = both(w[1][2:], 1), w[0].strides
    return ConvSpec(
        n, h, width, c, oh, ow, k, kernel,
        both(op.stride, 1), both([lo for lo, _ in op.padding], 0), both(op.dilation, 1), op.groups,
        x_strides, y_strides, (w_strides[0], w_strides[1], *both(w_strides[2:], 0)),
        memory_type(x[0].dtype),
    )  # fmt: skip


def _convolution(node: Extern, target: Target, exact: bool) -> Found | None:
    spec = conv_spec(node)
    if spec is None:
        return None
    direction = DIRECTIONS[type(node.call.op).__name__]
    order = (1, 0, 2) if direction == "weight" else (0, 1, 2)
    rows = {"forward": spec.oh * spec.ow, "input": spec.h * spec.w, "weight": spec.k}[direction]
    if not exact and winograd_pays(spec, direction, target):
        return Found(
            f"winograd {direction} {spec}",
            lambda name, epilogue: winograd.emit(
                direction, name, spec, target, epilogue, epilogue and epilogue.ahead
            ),
            order, (winograd.workspace(direction, spec, target),), rows,
        )  # fmt: skip

    def write(name: str, epilogue: Epilogue) -> list[Kernel]:
        ahead = epilogue and epilogue.ahead
        found = conv.emit(direction, name, spec, target, epilogue, ahead)
        return [Kernel(k.function, k.items, k.chunk, scratch=k.scratch) for k in found]

    work = (conv.workspace(direction, spec, target),)
    return Found(f"conv {direction} {spec}", write, order, work, rows)


def winograd_pays(spec: ConvSpec, direction: str, target: Target) -> bool:
    """Tell whether Winograd's kernels are the faster ones."""
    fine = winograd.supports(spec, direction, target)
    return fine and winograd.worth(spec, direction, target)


# --- ops whose generators are in tables ----------------------------------------------------------


def memories(node: Extern) -> tuple[list[Memory], list[Memory]]:
    """Return how the inputs and the outputs of an op lie in memory."""
    reads = (*node.inputs, *node.outputs)
    found = [
        Memory(shape, r.strides, memory_type(r.dtype))
        for shape, r in zip(node.shapes, reads, strict=True)
    ]
    return found[: len(node.inputs)], found[len(node.inputs) :]


def _generated(node: Extern, target: Target) -> Found | None:
    """An op whose generator is in one of the tables."""
    op = node.call.op
    name = type(op).__name__
    generator = _generators().get(name)
    if generator is None:
        return None
    inputs, outputs = memories(node)
    probe = generator("probe", op, inputs, outputs, target)
    if probe is None:
        return None
    work = max((k.workspace for k in probe), default=0)
    works: tuple[int, ...] = (work,) if work else ()
    if name in recurrent.KERNELS:
        works = tuple(recurrent.workspaces(op, inputs, outputs, target))
    key = f"{op.token()} {inputs} {outputs}"
    places = tuple(range(len(node.inputs) + len(node.outputs)))

    def write(called: str, _: Epilogue) -> list[Kernel]:
        return generator(called, op, inputs, outputs, target) or []

    return Found(key, write, places, works, flagged=name in tables.FLAGGED)


@functools.cache
def _generators() -> dict[str, Generator]:
    draws = dict.fromkeys(drawing.RULES, drawing.emit_draw)
    return {**tables.KERNELS, **recurrent.KERNELS, **draws}
