"""The backward driver: walks the graph in reverse, newest node first, without recursion.

`Tensor.backward` calls `backward_from`, which looks at the arguments; `run_backward` is the walk.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from .config import config, grad_mode
from .debug import Place, check_backward
from .errors import GradError
from .op import Composite, Gradient, Spec, Want
from .tape import ACCUMULATE, Cell, Edge, Hook, Node, Saved, Value, operand, spec_of, wrap
from .traced import there

if TYPE_CHECKING:
    from .tensor import Tensor


def backward_from(
    outputs: Sequence[Tensor],
    gradients: Sequence[Any],
    retain_graph: bool | None,
    create_graph: bool,
    inputs: Any = None,
) -> None:
    """Add the derivatives of some tensors to `.grad` of the leaves, or of `inputs` alone."""
    for t in outputs:
        if t._edge() is None:
            raise GradError(
                f"backward on {spec_of(t)}: it doesn't depend on any tensor that requires grad. "
                "Was it computed within no_grad, or from a detach()? requires_grad_() asks for it"
            )
    targets: list[Any] | None = None
    if inputs is not None:
        several = (inputs,) if isinstance(inputs, Value) else inputs
        targets = [_target(cast("Tensor", t)) for t in several]
    run_backward(
        [t._edge() for t in outputs],  # type: ignore[misc]
        [initial_gradient(t, g) for t, g in zip(outputs, gradients, strict=True)],
        retain_graph=create_graph if retain_graph is None else retain_graph,
        create_graph=create_graph,
        targets=targets,
    )


def initial_gradient(output: Tensor, gradient: Any) -> Tensor:
    """Return the gradient that a backward pass starts with: ones for a single element."""
    if gradient is None:
        if output._data.size != 1:
            raise GradError(
                f"backward on {spec_of(output)}: only a single element has a gradient by itself. "
                "Use .sum() or .mean() first, or pass gradient="
            )
        return wrap(np.ones(output._data.shape, output._data.dtype))
    value = operand(gradient)
    if value.shape != output.shape:
        raise GradError(f"a gradient of {spec_of(value)} can't belong to {spec_of(output)}")
    return value


def _target(t: Tensor) -> Any:
    if not t.requires_grad:
        raise GradError(f"backward(inputs=…): {spec_of(t)} among the inputs doesn't require grad")
    if not t.is_leaf:
        t.retain_grad()
    return t._edge()


def run_backward(
    roots: Sequence[tuple[Node, int]],
    gradients: Sequence[Tensor],
    *,
    retain_graph: bool = False,
    create_graph: bool = False,
    targets: Sequence[tuple[Node, int]] | None = None,
    accumulate: bool = True,
) -> dict[tuple[Node, int], Tensor]:
    """Walk the graph from the roots back, newest node first, and hand every node its gradients.

    `targets` are the places whose gradients are returned; with them, only what leads there is
    walked.  Leaves add theirs to `.grad` if `accumulate` (with targets: those among them).
    """
    goals = set(targets or ())
    wanted = None if targets is None else _leading_to({n for n, _ in goals}, roots)
    found: dict[tuple[Node, int], Tensor] = {}
    pending: dict[Node, list[Tensor | None]] = {}
    heap: list[tuple[int, Node]] = []
    owned: set[int] = {id(g._storage) for g in gradients}  # memory that a `.grad` may not take

    def arrive(edge: Edge, g: Tensor) -> None:
        if edge is None or (wanted is not None and edge[0] not in wanted):
            return
        node, index = edge
        slots = pending.get(node)
        if slots is None:
            slots = pending[node] = [None] * len(node.outs)
            heapq.heappush(heap, (-node.order, node))
        g = _fit(g, node.outs[index])
        before = slots[index]
        slots[index] = g if before is None else before + g

    with grad_mode(create_graph):
        for root, g in zip(roots, gradients, strict=True):
            arrive(root, g)
        while heap:
            node = heapq.heappop(heap)[1]
            slots = pending.pop(node)
            if node.hooks:
                _run_hooks(node.hooks, slots, owned)
            for i, slot in enumerate(slots):
                if slot is None:
                    continue
                if (node, i) in goals:
                    found[node, i] = slot
                if accumulate and node.cells is not None and i in node.cells:
                    _accumulate(node.cells[i](), slot, create_graph, owned)
            if node.op is ACCUMULATE or not any(s is not None for s in slots):
                continue
            if config.trace is not None and config.trace.stops_at(node, wanted):
                continue
            for i, g in _differentiate(node, slots, wanted):
                if node.op.by_user:
                    owned.add(id(g._storage))
                arrive(node.edges[i], g)
            if not retain_graph:
                node.kept = None
    return found


def _leading_to(targets: set[Node], roots: Sequence[tuple[Node, int]]) -> set[Node]:
    """Return the nodes, reachable from the roots, from which a target can be reached."""
    stack = [node for node, _ in roots]
    seen = set(stack)
    while stack:
        for edge in stack.pop().edges:
            if edge is not None and edge[0] not in seen:
                seen.add(edge[0])
                stack.append(edge[0])
    leading: set[Node] = set()
    for node in sorted(seen, key=lambda n: n.order):
        if node in targets or any(e is not None and e[0] in leading for e in node.edges):
            leading.add(node)
    return leading


def _fit(g: Tensor, spec: Spec) -> Tensor:
    """Give a gradient the shape and dtype of what it belongs to."""
    if g._data.shape != spec.shape:
        g = g.sum_to_size(spec.shape)
    if g._data.dtype != spec.dtype:
        g = g.to(spec.dtype)
    return g


def _run_hooks(hooks: dict[int, list[Hook]], slots: list[Tensor | None], owned: set[int]) -> None:
    """Let hooks see, and replace, the gradients; they may keep them as well."""
    for index, functions in hooks.items():
        for hook in list(functions):
            g = slots[index]
            if g is None:
                break
            new = hook(g)
            if new is not None and new._data.shape != g._data.shape:
                raise GradError(
                    f"a hook returned a gradient of {spec_of(new)} in place of one of {spec_of(g)}"
                )
            slots[index] = g = g if new is None else new
            owned.add(id(g._storage))


def _accumulate(cell: Cell | None, g: Tensor, create_graph: bool, owned: set[int]) -> None:
    """Add to `.grad`, in place where no graph is wanted; never take memory that is in use."""
    if cell is None:  # the tensor is gone: nobody can read its gradient
        return
    if config.trace is not None:
        config.trace.saw_gradient(cell)
    before = there(cell.grad)
    if before is None:
        if not create_graph:
            taken = id(g._storage) in owned or g._parent is not None
            if taken or (type(g._data) is np.ndarray and g._data.base is not None):
                g = g.clone()
            owned.add(id(g._storage))
        cell.grad = g
    elif create_graph or before._node is not None:
        cell.grad = before + g
    else:
        before.add_(g)
    for hook in cell.after or ():
        hook()


def _differentiate(
    node: Node, slots: list[Tensor | None], wanted: set[Node] | None
) -> Iterable[tuple[int, Tensor]]:
    """Yield (input, gradient) for the inputs of a node that need one."""
    if node.kept is None:
        raise GradError(
            f"backward through {node.name} a second time: what it kept was freed after the first. "
            "Use backward(retain_graph=True) the first time, or compute the loss again"
        )
    gy: Any = slots[0] if len(slots) == 1 else tuple(slots)
    needed = [e is not None and (wanted is None or e[0] in wanted) for e in node.edges]
    for gradient, kept in zip(node.op.gradients, node.kept, strict=True):
        one = gradient.input
        inputs = range(len(needed)) if one is None else range(one, min(one + 1, len(needed)))
        if not any(needed[i] for i in inputs):
            continue
        values = [_restore(v, want, node) for v, want in zip(kept, gradient.wants, strict=True)]
        call = _call_checked if config.debug else _call_gradient
        result = call(node, gradient, gy, values)
        grads = result if one is None else (result,)
        if len(grads) != len(inputs):
            raise GradError(
                f"{type(node.op).__name__}.{gradient.function} returned {len(grads)} gradients "
                f"for {len(inputs)} inputs"
            )
        for i, g in zip(inputs, grads, strict=True):
            if g is None or not needed[i]:
                continue
            _check_shape(node, gradient, i, g)
            yield i, g.clone() if any(g is v for v in values) else g


def _call_gradient(node: Node, gradient: Gradient, gy: Any, values: list[Any]) -> Any:
    if gradient.function == "decompose":
        given = [v for v in values if v is not None]  # some inputs are optional
        return vjp(cast(Composite, node.op).decompose, given, gy)
    flat: list[Any] = []
    for value, want in zip(values, gradient.wants, strict=True):
        flat += value if want.source == "input" and type(want.place) is slice else (value,)
    return getattr(node.op, gradient.function)(gy, *flat)


def _call_checked(node: Node, gradient: Gradient, gy: Any, values: list[Any]) -> Any:
    """Debug mode: stop at the first NaN or infinity among the gradients."""
    before, config.within = config.within, (node.place or Place()).of_gradient()
    try:
        result = _call_gradient(node, gradient, gy, values)
    finally:
        config.within = before
    inputs = gy if isinstance(gy, tuple) else (gy,)
    check_backward(node.name, node.place, (*inputs, *values), result)
    return result


def vjp(function: Callable[..., Any], inputs: list[Tensor], gy: Any) -> tuple[Tensor | None, ...]:
    """Return the gradients of a function of tensors by recording it: for composites."""
    create_graph = config.grad
    with grad_mode(True):
        fresh = [t.view_as(t) if create_graph else t.detach() for t in inputs]
        for t in fresh:
            if t._data.dtype.kind == "f" and t._node is None:
                t.requires_grad_()
        outs = function(*fresh)
    pairs = list(zip(outs, gy, strict=True)) if isinstance(outs, tuple) else [(outs, gy)]
    pairs = [(o, g) for o, g in pairs if g is not None and o._edge() is not None]
    targets = [t._edge() for t in fresh]
    found = run_backward(
        [o._edge() for o, _ in pairs],
        [g for _, g in pairs],
        create_graph=create_graph,
        retain_graph=create_graph,
        targets=[t for t in targets if t is not None],
        accumulate=False,
    )
    return tuple(None if t is None else found.get(t) for t in targets)


def _restore(value: Any, want: Want, node: Node) -> Any:
    """Make a tensor of a saved value, in its old place in the graph."""
    if type(want.place) is slice:
        start = want.place.start or 0
        return tuple([_restore_one(v, want, node, i) for i, v in enumerate(value, start)])
    return _restore_one(value, want, node, want.place)


def _restore_one(saved: Any, want: Want, node: Node, i: int) -> Any:
    if type(saved) is not Saved:
        return saved
    edge: Edge = (node, i) if want.source == "output" else saved.edge
    if saved.version != saved.storage.version:
        raise GradError(
            f"backward of {node.name} needs {_role(want, node, i)}, "
            f"{Spec(saved.data.shape, saved.data.dtype)}, which has been changed in place since "
            f"(version {saved.version} was kept, it is at version {saved.storage.version}). Use "
            "the out-of-place form, or change a clone()"
        )
    t = wrap(saved.data, saved.storage)
    if saved.data.dtype.kind == "f" and edge is not None:
        t._node, t._index = edge
    return t


def _role(want: Want, node: Node, i: int) -> str:
    """Name a kept value as the user knows it."""
    if want.source == "output":
        return "its result" if len(node.outs) == 1 else f"its result {i}"
    named = not node.op.variadic and i < len(node.op.params)
    return f"its input {node.op.params[i] if named else i}"


def _check_shape(node: Node, gradient: Gradient, i: int, g: Tensor) -> None:
    """Refuse a gradient of the wrong shape: only ops that broadcast may return a larger one."""
    edge = node.edges[i]
    assert edge is not None
    expected, given = edge[0].outs[edge[1]].shape, g._data.shape
    if given == expected:
        return
    pairs = zip(expected[::-1], given[::-1], strict=False)
    fits = len(expected) <= len(given) and all(n in (1, m) for n, m in pairs)
    if not (fits and node.op.broadcasts):
        name = node.name if node.op.by_user else type(node.op).__name__
        raise GradError(
            f"{name}.{gradient.function} returned a gradient of shape "
            f"{given} for an input of shape {expected}"
        )
