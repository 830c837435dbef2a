"""grad and backward: derivatives of tensors that have been computed already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..backward import backward_from, initial_gradient, run_backward
from ..errors import GradError
from ..tape import Value, spec_of, wrap
from ..tensor import Tensor

__all__ = ["backward", "grad"]

Tensors = Tensor | Sequence[Tensor]


def as_tuple(value: Any) -> tuple[Any, ...]:
    """Return one tensor as a tuple of one; several as a tuple."""
    return (value,) if isinstance(value, Value) else tuple(value)


def grad(
    outputs: Tensors,
    inputs: Tensors,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    materialize_grads: bool = False,
) -> tuple[Any, ...]:
    """Return the derivatives of outputs with respect to inputs, without touching `.grad`.

    gᵢ = Σⱼ grad_outputsⱼ · ∂outputsⱼ/∂inputsᵢ

    Shape: one gradient per input, of its shape

    Args:
        outputs: one or several tensors.
        inputs: one or several tensors that require grad.
        grad_outputs: what to weigh the outputs' elements with; ones for single elements.
        retain_graph: keep the graph for another pass (default: create_graph).
        create_graph: record the derivatives, so that they can be differentiated again.
        allow_unused: give None for an input that the outputs don't depend on.
        materialize_grads: give zeros instead of None.

    Raises:
        GradError: an input isn't used, or a tensor doesn't require grad.

    >>> import toumei as tm
    >>> x = tm.tensor(3.0, requires_grad=True)
    >>> (g,) = tm.autograd.grad(x ** 3, x, create_graph=True)
    >>> tm.autograd.grad(g, x)
    (tensor(18.),)
    """
    outs, ins = as_tuple(outputs), as_tuple(inputs)
    starts = _starts("grad_outputs", outs, grad_outputs)
    targets = [_edge(t, "input", i) for i, t in enumerate(ins)]
    found = run_backward(
        [_edge(t, "output", i) for i, t in enumerate(outs)],
        [initial_gradient(t, g) for t, g in zip(outs, starts, strict=True)],
        retain_graph=create_graph if retain_graph is None else retain_graph,
        create_graph=create_graph,
        targets=targets,
        accumulate=False,
    )
    unused = "zero" if materialize_grads else "none" if allow_unused else "refuse"
    return tuple(
        _gradient(found, e, i, t, unused) for i, (t, e) in enumerate(zip(ins, targets, strict=True))
    )


def _starts(name: str, outputs: tuple[Tensor, ...], given: Any) -> list[Any]:
    """Return what each output's backward pass starts with; None: what it has by itself."""
    starts = [None] * len(outputs) if given is None else list(as_tuple(given))
    if len(starts) != len(outputs):
        raise GradError(f"{len(outputs)} outputs, but {len(starts)} {name}")
    return starts


def _edge(t: Tensor, role: str, i: int) -> Any:
    edge = t._edge()
    if edge is None:
        raise GradError(f"grad: {role} {i}, {spec_of(t)}, doesn't require grad")
    return edge


def _gradient(found: dict[Any, Tensor], edge: Any, i: int, t: Tensor, unused: str) -> Tensor | None:
    g = found.get(edge)
    if g is None and unused == "refuse":
        raise GradError(
            f"grad: the outputs don't depend on input {i}, {spec_of(t)}; "
            "allow_unused=True gives None for it, materialize_grads=True zeros"
        )
    return wrap(np.zeros(t._data.shape, t._data.dtype)) if g is None and unused == "zero" else g


def backward(
    tensors: Tensors,
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """Add the derivatives of several tensors to `.grad`: `Tensor.backward` for many at once.

    Args:
        tensors: one or several tensors.
        grad_tensors: what to weigh their elements with; ones for single elements.
        retain_graph: keep the graph for another pass (default: create_graph).
        create_graph: record the derivatives, so that they can be differentiated again.
        inputs: the tensors whose `.grad` is wanted (default: all leaves).

    Raises:
        GradError: a tensor doesn't depend on anything that requires grad, the graph was freed, or
            a value that is needed has been changed in place.

    >>> import toumei as tm
    >>> x = tm.tensor(3.0, requires_grad=True)
    >>> tm.autograd.backward([x * 2, x * x])
    >>> x.grad
    tensor(8.)
    """
    outs = as_tuple(tensors)
    starts = _starts("grad_tensors", outs, grad_tensors)
    backward_from(outs, starts, retain_graph, create_graph, inputs)
