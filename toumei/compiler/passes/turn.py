"""Turned products: (Aᵀ·B)ᵀ is computed as Bᵀ·A, with the numbers in the order of its readers.

The gradient of a factor that has been transposed is such a product.
"""

from __future__ import annotations

from dataclasses import replace

from ...op import Spec
from ...ops.shape import Permute
from ..graph import Call, Graph


def turn_products(graph: Graph) -> Graph:
    """Let a product of a transposed matrix be turned, where it is only read transposed."""
    makers = {v: call for call in graph.calls for v in call.outputs}
    once = {v for v, calls in graph.users().items() if len(calls) == 1} - {*graph.wanted()}
    specs = dict(graph.specs)
    calls: list[Call] = []
    for call in graph.calls:
        c = _transposed(call)
        product = makers.get(c) if c in once else None
        if product is None or type(product.op).__name__ != "Matmul":
            calls.append(call)
            continue
        a, b = _transposed(makers.get(product.inputs[0])), product.inputs[1]
        if a is None or specs[b].ndim != specs[product.outputs[0]].ndim:
            calls.append(call)
            continue
        *batch, rows, columns = specs[b].shape
        turned = max(specs) + 1
        specs[turned] = Spec((*batch, columns, rows), specs[b].dtype)
        calls.append(call._replace(inputs=(b,), outputs=(turned,)))
        calls.append(product._replace(inputs=(turned, a), outputs=call.outputs))
    return replace(graph, specs=specs, calls=tuple(calls))


def _transposed(call: Call | None) -> int | None:
    """Return the value of which a call exchanges the last two dims; None: it does something else.

    >>> [_transposed(Call(Permute(dims), (7,), (8,))) for dims in ((0, 2, 1), (0, 1))]
    [7, None]
    """
    if call is None or not isinstance(call.op, Permute):
        return None
    *batch, last = range(len(call.op.dims))
    exchanged = (*batch[:-1], last, *batch[-1:])
    return call.inputs[0] if batch and call.op.dims == exchanged else None
