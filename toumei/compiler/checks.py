"""Checks of arguments: labels and indices out of range are refused before anything is written.

An op's `check` looks at numbers that `infer` can't see, and `bounds` at indices.  Where those come
from arguments or states through views, casts and a little arithmetic of integers alone, they can be
looked at before the step; the executor looks at the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..config import run_quietly
from ..device import xp
from ..op import Array, Composite, Elementwise, Op, View, repeated_zero
from ..ops.combine import Cat
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
            self.fixed.setdefault(v, repeated_zero(graph.specs[v]))

    def __call__(self, arguments: Sequence[Array], states: Sequence[Array]) -> None:
        """Raise if a number is out of range."""
        values = dict(self.fixed)
        values.update((v, arguments[i]) for i, v in self.arguments)
        values.update((v, states[i]) for i, v in self.states)
        for call in self.path:
            inputs = [values[v] for v in call.inputs]
            values[call.outputs[0]] = run_quietly(call.op.forward, xp, *inputs)
        check = check_of(self.call.op)
        assert check is not None
        told(self.call, check, [values[v] for v in self.call.inputs])


def check_of(op: Op) -> Callable[..., None] | None:
    """Return what an op has to say about its arguments' numbers."""
    return op.check or op.bounds


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


def argument_checks(graph: Graph) -> list[Check]:
    """Return the checks that can run before the step; those of constants run at once."""
    known, makers = _follow(graph, _outside(graph))
    fixed, _ = _follow(graph, set(graph.constants))
    found: list[Check] = []
    for call in graph.calls:
        seen = _looked_at(graph, call)
        if not seen or not known.issuperset(seen):
            continue
        check = Check(graph, call, _path(call, makers))
        if fixed.issuperset(seen):
            outside = (graph.inputs, graph.states)
            ghosts = [[repeated_zero(graph.specs[v]) for v in vs] for vs in outside]
            check(*ghosts)
        else:
            found.append(check)
    return found


def known_before(graph: Graph) -> set[int]:
    """Return the values that are looked at before the step, where a check looks at them."""
    return _follow(graph, _outside(graph))[0]


def _outside(graph: Graph) -> set[int]:
    return {*graph.inputs, *graph.states, *graph.constants}


def _follow(graph: Graph, known: set[int]) -> tuple[set[int], dict[int, Call]]:
    """Return the values that are known with some others, and the calls that make them."""
    makers: dict[int, Call] = {}
    for call in graph.calls:
        if known.issuperset(call.inputs) and _is_quick(graph, call):
            known.add(call.outputs[0])
            makers[call.outputs[0]] = call
    return known, makers


def _is_quick(graph: Graph, call: Call) -> bool:
    """Tell whether a call is a view or a cast, or arithmetic of integers."""
    if isinstance(call.op, Elementwise | Cat):
        return all(graph.specs[v].dtype.kind in "iub" for v in (*call.inputs, *call.outputs))
    return isinstance(call.op, View | Cast)


def _looked_at(graph: Graph, call: Call) -> list[int]:
    """Return the inputs whose numbers a call's check looks at: integers if it takes any."""
    check = check_of(call.op)
    if check is None or isinstance(call.op, Composite):
        return []
    try:
        check(*(graph.specs[v] for v in call.inputs))
    except Exception:  # it wants more than a shape and a dtype
        whole = [v for v in call.inputs if graph.specs[v].dtype.kind in "iu"]
        return whole or list(call.inputs)
    return []


def _path(call: Call, makers: dict[int, Call]) -> list[Call]:
    """Return the calls that lead to the inputs of a call, in order."""
    needed: set[int] = set()
    stack = list(call.inputs)
    while stack:
        v = stack.pop()
        if v in makers and v not in needed:
            needed.add(v)
            stack += makers[v].inputs
    return [maker for v, maker in makers.items() if v in needed]
