"""Checks of arguments: labels and indices out of range are refused before anything is written.

An op's `check` looks at numbers that `infer` can't see.  Where those come from arguments or states
through views and casts alone, the check can run before the step; the executor runs the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..config import run_quietly
from ..device import xp
from ..op import Array, Composite, View
from ..ops.elementwise import Cast
from ..tape import explain
from .graph import Call, Graph


class Check:
    """The check of one op, and the calls that its arguments go through."""

    def __init__(self, graph: Graph, call: Call, path: Sequence[Call]) -> None:
        self.call = call
        self.path = path
        wanted = {v for c in path for v in c.inputs} | set(call.inputs)
        self.arguments = [(i, v) for i, v in enumerate(graph.inputs) if v in wanted]
        self.states = [(i, v) for i, v in enumerate(graph.states) if v in wanted]
        self.fixed: dict[int, Array] = {v: a for v, a in graph.constants.items() if v in wanted}
        for v in wanted:
            spec = graph.specs[v]
            self.fixed.setdefault(v, np.broadcast_to(np.zeros((), spec.dtype), spec.shape))

    def __call__(self, arguments: Sequence[Array], states: Sequence[Array]) -> None:
        """Raise if a number is out of range."""
        values = dict(self.fixed)
        values.update((v, arguments[i]) for i, v in self.arguments)
        values.update((v, states[i]) for i, v in self.states)
        for call in self.path:
            inputs = [values[v] for v in call.inputs]
            values[call.outputs[0]] = run_quietly(call.op.forward, xp, *inputs)
        run_check(self.call, [values[v] for v in self.call.inputs])


def run_check(call: Call, arrays: Sequence[Array]) -> None:
    """Let an op look at its arguments; what it refuses is told as eager, with the step's line."""
    assert call.op.check is not None
    told(call, call.op.check, arrays)


def told(call: Call, function: Callable[..., Any], arrays: Sequence[Array]) -> Any:
    """Call a function of an op; an error becomes the one that an eager step would raise."""
    try:
        return function(*arrays)
    except Exception as error:
        op, given = call.within or (call.op, arrays)
        refusal = explain(op, given, error)
        if call.place is not None:
            refusal.where, refusal.modules = call.place.line, list(call.place.modules)
        raise refusal from None


class _Found(NamedTuple):
    """How far numbers can be followed from outside."""

    known: set[int]
    makers: dict[int, Call]


def argument_checks(graph: Graph) -> list[Check]:
    """Return the checks that can run before the step."""
    found = _follow(graph)
    return [
        Check(graph, call, _path(call, found.makers))
        for call in graph.calls
        if call.op.check is not None and _can_run(graph, call, found.known)
    ]


def _follow(graph: Graph) -> _Found:
    known = {*graph.inputs, *graph.states, *graph.constants}
    makers: dict[int, Call] = {}
    for call in graph.calls:
        if isinstance(call.op, View | Cast) and call.inputs[0] in known:
            known.add(call.outputs[0])
            makers[call.outputs[0]] = call
    return _Found(known, makers)


def _can_run(graph: Graph, call: Call, known: set[int]) -> bool:
    """Tell whether all numbers that the check looks at are known.

    Where it takes integers, it is those; of the other arguments it reads the shapes.
    """
    if isinstance(call.op, Composite):
        return False
    whole = [v for v in call.inputs if graph.specs[v].dtype.kind in "iu"]
    return all(v in known for v in whole or call.inputs)


def _path(call: Call, makers: dict[int, Call]) -> list[Call]:
    """Return the views and casts that lead to the inputs of a call, in order."""
    path: list[Call] = []
    stack = list(call.inputs)
    while stack:
        maker = makers.get(stack.pop())
        if maker is not None:
            path.append(maker)
            stack += maker.inputs
    return list(dict.fromkeys(reversed(path)))
