"""Ops with kernels of their own: from a node to the generator that writes its kernels.

An op that has none runs its NumPy `forward` between native steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from ..op import Array
from .axes import merge
from .expr import Read
from .llvm import matmul as products
from .llvm.elements import memory_type
from .llvm.ir import Function
from .llvm.kernel import Kernel, Memory
from .llvm.matmul_plan import MatmulSpec, plan
from .llvm.target import Target
from .nodes import Extern, Shape

# write(name): the kernels, whose buffers are inputs, outputs, the workspace.
Write: TypeAlias = Callable[[str], "list[Kernel]"]


def memories(node: Extern) -> tuple[list[Memory], list[Memory]]:
    """Return how the inputs and the outputs of an op lie in memory."""
    reads = (*node.inputs, *node.outputs)
    found = [
        Memory(shape, r.strides, memory_type(r.dtype))
        for shape, r in zip(node.shapes, reads, strict=True)
    ]
    return found[: len(node.inputs)], found[len(node.inputs) :]


def matmul_spec(node: Extern) -> MatmulSpec:
    """Return a matrix product as its kernels see it: batches joined to rows where they can be."""
    (a, b), (c,) = node.inputs, node.outputs
    a_shape, b_shape, c_shape = node.shapes
    batch = c_shape[:-2]
    (m, n), k = c_shape[-2:], a_shape[-1]
    walks = [
        (*_batch_strides(a, a_shape, len(batch)), a.strides[-2]),
        (*_batch_strides(b, b_shape, len(batch)), 0),
        (*c.strides[:-2], c.strides[-2]),
    ]
    sizes, (aw, bw, cw) = merge((*batch, m), walks)
    if m == 1 or not sizes:  # merging drops what has one element
        sizes, aw, bw, cw = (*sizes, 1), (*aw, 0), (*bw, 0), (*cw, 0)
    if bw[-1]:  # the rows of B differ: the last axis is a batch
        sizes, aw, bw, cw = (*sizes, 1), (*aw, 0), (*bw, 0), (*cw, 0)
    dtype = memory_type(c.dtype)
    return MatmulSpec(
        sizes[-1], n, k,
        (aw[-1], a.strides[-1], *aw[:-1]),
        (b.strides[-2], b.strides[-1], *bw[:-1]),
        (cw[-1], c.strides[-1], *cw[:-1]),
        sizes[:-1], dtype,
    )  # fmt: skip


def _batch_strides(x: Read, shape: Shape, ndim: int) -> Shape:
    """Return the strides of the batch dims, 0 where x is broadcast."""
    own = tuple(0 if n == 1 else s for n, s in zip(shape[:-2], x.strides[:-2], strict=True))
    return (0,) * (ndim - len(own)) + own


def write_matmul(spec: MatmulSpec, target: Target, epilogue: Any = None) -> Write:
    """Return what writes a matrix product."""
    chosen = plan(spec, target)

    def write(name: str) -> list[Kernel]:
        functions = products.emit(name, spec, chosen, epilogue)
        return [
            Kernel(f, items, workspace=chosen.workspace(spec))
            for f, items in zip(functions, chosen.items(spec), strict=True)
        ]

    return write


Found: TypeAlias = "tuple[str, Write] | None"


def matmul(node: Extern, target: Target) -> Found:
    """A matrix product."""
    if node.outputs[0].dtype.kind != "f":
        return None
    spec = matmul_spec(node)
    if not spec.k or not spec.m * spec.n * spec.batches:
        return None
    if spec.n == 1:
        spec = spec.swapped()
        swap = True
    else:
        swap = False
    write = write_matmul(spec, target)
    if not swap:
        return f"matmul {spec}", write
    return f"matmul swapped {spec}", lambda name: [_exchanged(k) for k in write(name)]


def _exchanged(kernel: Kernel) -> Kernel:
    """The same kernel, called with its first two buffers exchanged."""
    f: Function = kernel.function
    for i, line in enumerate(f.locals):
        if line.endswith("i64 0") and "%buffer0.p" in line:
            f.locals[i] = line[: -len("0")] + "1"
        elif line.endswith("i64 1") and "%buffer1.p" in line:
            f.locals[i] = line[: -len("1")] + "0"
    return kernel


def generated(node: Extern, target: Target) -> Found:
    """An op whose generator is in one of the tables."""
    name = type(node.call.op).__name__
    table = _tables().get(name)
    if table is None:
        return None
    inputs, outputs = memories(node)
    op = node.call.op
    probe = table("probe", op, inputs, outputs, target)
    if probe is None:
        return None
    key = f"{op.token()} {inputs} {outputs}"
    return key, lambda called: table(called, op, inputs, outputs, target) or []


def _tables() -> dict[str, Any]:
    from .llvm import pooling, recurrent

    return {**pooling.KERNELS, **recurrent.KERNELS}


def kernels_of(node: Extern, target: Target) -> Found:
    """Return the key of an op's kernels and what writes them; None: there are none."""
    if type(node.call.op).__name__ == "Matmul":
        return matmul(node, target)
    return generated(node, target)


def forward(node: Extern, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
    """Run an op's NumPy forward from memory to memory."""
    import numpy as np

    from ..device import xp

    op = node.call.op
    if op.check is not None:
        op.check(*inputs)
    found = op.forward(xp, *inputs)
    for out, y in zip(outputs, found if type(found) is tuple else (found,), strict=True):
        np.copyto(out, y)
