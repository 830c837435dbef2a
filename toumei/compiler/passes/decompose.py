"""Composites become the ops that they are made of; the scheduler puts together what belongs."""

from __future__ import annotations

from dataclasses import replace

from ...config import grad_mode
from ...op import Composite
from ...tape import wrap
from ..graph import Call, Graph
from ..symbol import Symbol
from ..trace import Trace, tracing

#: Composites that have kernels of their own.
WHOLE = frozenset({"LstmLoop", "LstmLoopGrad", "GruLoop", "GruLoopGrad", "RnnLoop", "RnnLoopGrad"})


def decompose(graph: Graph) -> Graph:
    """Replace each composite by its definition, and those within it by theirs."""
    while any(_is_split(call) for call in graph.calls):
        graph = _decompose_once(graph)
    return graph


def _is_split(call: Call) -> bool:
    return isinstance(call.op, Composite) and type(call.op).__name__ not in WHOLE


def _decompose_once(graph: Graph) -> Graph:
    trace = Trace()
    trace.specs = dict(graph.specs)
    trace.constants = dict(graph.constants)
    same: dict[int, int] = {}
    with tracing(trace), grad_mode(False):
        for call in graph.calls:
            inputs = tuple(same.get(v, v) for v in call.inputs)
            if not _is_split(call):
                trace.calls.append(replace(call, inputs=inputs))
                continue
            before = len(trace.calls)
            whole = call.within or (call.op, tuple(trace.specs[v] for v in inputs))
            tensors = [wrap(Symbol(trace.specs[v], v, trace)) for v in inputs]
            assert isinstance(call.op, Composite)
            found = call.op.decompose(*tensors)
            outs = found if type(found) is tuple else (found,)
            same.update(
                (v, trace.symbol(t).number) for v, t in zip(call.outputs, outs, strict=True)
            )
            for i in range(before, len(trace.calls)):
                trace.calls[i] = replace(trace.calls[i], place=call.place, within=whole)
    return replace(
        graph,
        specs=trace.specs,
        calls=tuple(trace.calls),
        constants=trace.constants,
        results=tuple(same.get(v, v) for v in graph.results),
        writes={s: same.get(v, v) for s, v in graph.writes.items()},
    )
