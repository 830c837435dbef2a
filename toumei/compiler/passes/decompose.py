"""Composites become the ops that they are made of; the scheduler puts together what belongs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...config import config, grad_mode
from ...op import Composite
from ...tape import wrap
from ..graph import Call, Graph
from ..symbol import Symbol
from ..trace import Trace, tracing

#: Composites that have kernels of their own.
WHOLE = frozenset({"LstmLoop", "LstmLoopGrad", "GruLoop", "GruLoopGrad", "RnnLoop", "RnnLoopGrad"})


def decompose(graph: Graph) -> Graph:
    """Replace each composite by its definition, and those within it by theirs."""
    trace = Trace()
    trace.specs = dict(graph.specs)
    trace.constants = dict(graph.constants)
    calls: list[Call] = []
    same: dict[int, int] = {}  # a result of a composite, and the value that its parts give it
    with tracing(trace), grad_mode(False):
        _split_up(trace, graph.calls, calls, same)
    return replace(
        graph,
        specs=trace.specs,
        calls=tuple(calls),
        constants=trace.constants,
        results=tuple(same.get(v, v) for v in graph.results),
        writes={s: same.get(v, v) for s, v in graph.writes.items()},
    )


def _split_up(trace: Trace, given: Sequence[Call], calls: list[Call], same: dict[int, int]) -> None:
    """Add some calls to `calls`, composites as what they are made of in the end."""
    for call in given:
        if not same.keys().isdisjoint(call.inputs):
            call = call._replace(inputs=tuple([same.get(v, v) for v in call.inputs]))
        if _is_split(call):
            trace.calls = []
            results = _parts(trace, call)
            _split_up(trace, trace.calls, calls, same)
            same.update((v, same.get(r, r)) for v, r in zip(call.outputs, results, strict=True))
        else:
            calls.append(call)


def _is_split(call: Call) -> bool:
    if not isinstance(call.op, Composite) or hasattr(call.op, "lower"):
        return False
    return type(call.op).__name__ not in WHOLE


def _parts(trace: Trace, call: Call) -> list[int]:
    """Note down what a composite is made of; return the values of its results."""
    assert isinstance(call.op, Composite)
    trace.within = call.within or (call.op, tuple(trace.specs[v] for v in call.inputs))
    before, config.within = config.within, call.place
    try:
        found = call.op.decompose(*(wrap(Symbol(trace.specs[v], v, trace)) for v in call.inputs))
    finally:
        config.within = before
    outs = found if type(found) is tuple else (found,)
    return [trace.symbol(t).number for t in outs]
