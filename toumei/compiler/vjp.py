"""Results that require grad: the step's own derivative, as a program of its own.

When the step has been traced, the trace goes on: a backward pass from the results that require
grad, to all tensors from outside that they depend on.  The graph of both is cut in two: what the
results need runs at once; the rest runs when backward comes to the node that the results carry.
Values that cross the cut are kept.  A second derivative across the boundary is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from ..backward import run_backward
from ..config import config, grad_mode
from ..errors import GradError
from ..op import Array, Gradient, Op, Spec, Want
from ..tape import ACCUMULATE, Edge, Node, Storage, Value, wrap
from .graph import Graph, leading_to
from .symbol import Symbol

if TYPE_CHECKING:
    from ..tensor import Tensor
    from .trace import Trace


class Kept(NamedTuple):
    """An array kept for the backward pass; with a storage: its owner's, which may change it."""

    array: Array
    storage: Storage | None
    version: int


class CompiledStep(Op):
    """A compiled step as one node of the graph that its results are part of."""

    name: ClassVar[str] = "a compiled step"
    gradients: ClassVar[tuple[Gradient, ...]] = (
        Gradient("pull_back", None, (Want("value", "input", 0),)),
    )

    def __init__(
        self, run: Callable[[list[Array]], list[Array]] | None = None, specs: Sequence[Spec] = ()
    ) -> None:
        self.__dict__.update(run=run, specs=specs)

    def pull_back(self, gy: Any, kept: Sequence[Kept]) -> tuple[Tensor, ...]:
        """Run the second part of the graph."""
        if config.grad:
            raise GradError(
                "a second derivative through the results of a compiled step isn't there: compute "
                "the first one within the step, by autograd.grad(…, create_graph=True)"
            )
        for k in kept:
            if k.storage is not None and k.storage.version != k.version:
                raise GradError(
                    f"backward of a compiled step needs a tensor of {k.array.dtype}"
                    f"{list(k.array.shape)} that has been changed in place since: call backward "
                    "before changing it (before optimizer.step(), for one)"
                )
        gys = gy if isinstance(gy, tuple) else (gy,)
        specs = self.__dict__["specs"]
        arrays = [
            np.zeros(s.shape, s.dtype) if g is None else g._data
            for g, s in zip(gys, specs, strict=True)
        ]
        return tuple([wrap(a) for a in self.__dict__["run"](arrays + [k.array for k in kept])])


def is_spent(t: Value, began: int) -> bool:
    """Tell whether the graph behind a traced tensor has been freed by a backward pass."""
    edge = t._edge()
    assert edge is not None
    stack, seen = [edge[0]], {edge[0]}
    while stack:
        node = stack.pop()
        if node.op is ACCUMULATE or node.order <= began:
            continue
        if node.kept is None:
            return True
        for e in node.edges:
            if e is not None and e[0] not in seen:
                seen.add(e[0])
                stack.append(e[0])
    return False


class Backward(NamedTuple):
    """The traced derivative of some results."""

    gys: list[Symbol]
    sources: list[Any]  # the outside tensors, or numbers of arguments, that gradients go to
    gradients: list[Symbol]


def trace_backward(
    trace: Trace, results: list[Tensor], arguments: Sequence[tuple[int, Value]]
) -> Backward | None:
    """Go on tracing: the gradients of some results; None if they depend on nothing outside.

    `arguments` are the tensors that stand for arguments, and the numbers of those.
    """
    sources: dict[Any, Any] = {}
    for source, t in (*((t, t) for t in trace.outside.values()), *arguments):
        edge = t._edge()
        if edge is not None:
            sources.setdefault(edge, source)
    gys = [trace.open_value(Spec(t._data.shape, t._data.dtype)) for t in results]
    trace.ending = True
    with grad_mode(False):
        found = run_backward(
            [t._edge() for t in results],  # type: ignore[misc]
            [wrap(g, Storage()) for g in gys],
            retain_graph=True,
            targets=list(sources),
            accumulate=False,
        )
        gradients = [trace.symbol(g) for g in found.values()]
    return Backward(gys, [sources[edge] for edge in found], gradients) if found else None


def split(graph: Graph, results: int, gys: Sequence[int]) -> tuple[Graph, Graph, list[int]]:
    """Cut a graph in two: what the first `results` results and the writes need, and the rest.

    Returns the two graphs and the values that cross from one to the other: the second one's
    inputs are `gys` and these.  Those that the first one computes are its last results.
    """
    first = leading_to(graph.calls, {*graph.results[:results], *graph.writes.values()})
    ids = {id(c) for c in first}
    wanted = graph.results[results:]
    second = leading_to([c for c in graph.calls if id(c) not in ids], set(wanted))
    made = {v for c in second for v in c.outputs}
    read = dict.fromkeys([v for c in second for v in c.inputs] + list(wanted))
    crossing = [v for v in read if v not in made and v not in graph.constants and v not in gys]
    outside = {*graph.inputs, *(s for s in graph.states if s not in graph.writes)}
    computed = [v for v in crossing if v not in outside]
    forward = replace(
        graph,
        calls=first,
        inputs=tuple(v for v in graph.inputs if v not in gys),
        results=(*graph.results[:results], *computed),
    )
    backward = replace(
        graph, calls=second, inputs=(*gys, *crossing), states=(), results=wanted, writes={}
    )
    return forward, backward, crossing


def attach_refusal(message: str, result: Tensor) -> None:
    """Let the backward pass of a result raise an error."""

    def refuse(_: list[Array]) -> list[Array]:
        raise GradError(message)

    somewhere = wrap(np.zeros(())).requires_grad_()._edge()
    step = CompiledStep(refuse, [Spec(result._data.shape, result._data.dtype)])
    attach(step, (somewhere,), (), [result])


def attach(op: CompiledStep, edges: tuple[Edge, ...], kept: Any, results: list[Tensor]) -> None:
    """Give results the node that their derivatives start from."""
    outs = tuple([Spec(t._data.shape, t._data.dtype) for t in results])
    node = Node(op, edges, outs)
    node.kept = None if kept is None else [(kept,)]
    for i, t in enumerate(results):
        t._node, t._index = node, i
