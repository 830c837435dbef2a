"""Derivatives as functions: grad, vjp, jvp, jacobian, hessian, hvp, and ops written by the user.

Whatever is computed here is made of ops, so with `create_graph=True` it can be differentiated
again, to any order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, cast

import numpy as np

from .backward import run_backward
from .config import config, debug_mode, grad_mode
from .errors import GradError
from .op import Gradient, Op
from .tape import Node, Value, record, spec_of, wrap
from .tensor import Tensor, initial_gradient

Tensors = Tensor | Sequence[Tensor]


class no_grad:  # noqa: N801
    """Nothing is recorded within the block, or within the decorated function.

    >>> import toumei as tm
    >>> w = tm.ones(2, requires_grad=True)
    >>> with tm.no_grad():
    ...     y = w * 2
    >>> y.requires_grad
    False
    """

    _on: ClassVar[bool] = False

    def __enter__(self) -> None:
        self._mode: AbstractContextManager[None] = grad_mode(self._on)
        self._mode.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._mode.__exit__(*error)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with grad_mode(self._on):
                return function(*args, **kwargs)

        wrapped.__name__, wrapped.__doc__ = function.__name__, function.__doc__
        return wrapped


class enable_grad(no_grad):  # noqa: N801
    """The graph is recorded within the block, even inside of `no_grad`."""

    _on: ClassVar[bool] = True


def is_grad_enabled() -> bool:
    """Tell whether ops are being recorded."""
    return config.grad


class set_grad_enabled:  # noqa: N801
    """Record or not, from here on or within the block."""

    def __init__(self, mode: bool) -> None:
        self._before, config.grad = config.grad, mode

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: Any) -> None:
        config.grad = self._before


def detect_anomaly() -> AbstractContextManager[None]:
    """Within the block, stop at the first NaN or infinity, forward or backward.

    The error names the op, the user's line and the modules that it happened in.

    >>> import toumei as tm
    >>> with tm.autograd.detect_anomaly():
    ...     tm.tensor([-1.0]).log()
    Traceback (most recent call last):
    ...
    toumei.errors.AnomalyError: forward of log made the first NaN ...
    """
    return debug_mode(True)


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return (value,) if isinstance(value, Value) else tuple(value)


def grad(
    outputs: Tensors,
    inputs: Tensors,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
    materialize_grads: bool = False,
) -> tuple[Any, ...]:
    """Return the derivatives of outputs with respect to inputs, without touching `.grad`.

    gᵢ = Σⱼ grad_outputsⱼ · ∂outputsⱼ/∂inputsᵢ

    Args:
        outputs: one or several tensors.
        inputs: one or several tensors that require grad.
        grad_outputs: what to weigh the outputs' elements with; ones for single elements.
        retain_graph: keep the graph for another pass (default: create_graph).
        create_graph: record the derivatives, so that they can be differentiated again.
        allow_unused: give None for an input that the outputs don't depend on.
        materialize_grads: give zeros instead of None.

    Raises:
        GradError: an input isn't used, or doesn't require grad.

    >>> import toumei as tm
    >>> x = tm.tensor(3.0, requires_grad=True)
    >>> (g,) = tm.autograd.grad(x ** 3, x, create_graph=True)
    >>> tm.autograd.grad(g, x)
    (tensor(18.),)
    """
    outs, ins = _as_tuple(outputs), _as_tuple(inputs)
    starts = [None] * len(outs) if grad_outputs is None else list(_as_tuple(grad_outputs))
    if len(starts) != len(outs):
        raise GradError(f"grad: {len(outs)} outputs, but {len(starts)} grad_outputs")
    targets = [t._edge() for t in ins]
    for i, edge in enumerate(targets):
        if edge is None and not (allow_unused or materialize_grads):
            raise GradError(f"grad: input {i}, {spec_of(ins[i])}, doesn't require grad")
    pairs = [(o._edge(), initial_gradient(o, g)) for o, g in zip(outs, starts, strict=True)]
    if all(edge is None for edge, _ in pairs):
        raise GradError("grad: no output depends on a tensor that requires grad")
    found = run_backward(
        [e for e, _ in pairs if e is not None],
        [g for e, g in pairs if e is not None],
        retain_graph=create_graph if retain_graph is None else retain_graph,
        create_graph=create_graph,
        targets=[e for e in targets if e is not None],
        accumulate=False,
    )
    result: list[Tensor | None] = [None if e is None else found.get(e) for e in targets]
    for i, g in enumerate(result):
        if g is None and materialize_grads:
            result[i] = wrap(np.zeros_like(ins[i]._data))
        elif g is None and not allow_unused:
            raise GradError(
                f"grad: the outputs don't depend on input {i}, {spec_of(ins[i])}; "
                "allow_unused=True gives None for it"
            )
    return tuple(result)


def backward(tensors: Tensors, grad_tensors: Any = None, **options: Any) -> None:
    """Add the derivatives of several tensors to `.grad` of their leaves: `Tensor.backward` for many."""
    outs = _as_tuple(tensors)
    starts = [None] * len(outs) if grad_tensors is None else list(_as_tuple(grad_tensors))
    create = options.get("create_graph", False)
    retain = options.pop("retain_graph", None)
    edges = [o._edge() for o in outs]
    if None in edges:
        raise GradError("backward: one of the tensors doesn't depend on any that requires grad")
    values = [initial_gradient(o, g) for o, g in zip(outs, starts, strict=True)]
    run_backward(edges, values, retain_graph=create if retain is None else retain, **options)


def _leaves(inputs: Any, create_graph: bool) -> tuple[Tensor, ...]:
    """Return stand-ins for the inputs that require grad and keep their past if that is wanted."""
    fresh = []
    for t in _as_tuple(inputs):
        linked = create_graph and t.requires_grad
        fresh.append(t.view_as(t) if linked else t.detach().requires_grad_())
    return tuple(fresh)


def _pack(like: Any, values: Sequence[Any]) -> Any:
    return values[0] if isinstance(like, Value) else tuple(values)


def vjp(
    func: Callable[..., Any], inputs: Tensors, v: Any = None, create_graph: bool = False
) -> tuple[Any, Any]:
    """Return func(*inputs) and the product of `v` with its Jacobian: vᵀ·J."""
    with grad_mode(True):
        ins = _leaves(inputs, create_graph)
        outs = func(*ins)
        grads = grad(outs, ins, v, create_graph=create_graph, materialize_grads=True)
    return outs if create_graph else _detach(outs), _pack(inputs, grads)


def jvp(
    func: Callable[..., Any], inputs: Tensors, v: Any = None, create_graph: bool = False
) -> tuple[Any, Any]:
    """Return func(*inputs) and the product of its Jacobian with `v`: J·v.

    A vector-Jacobian product is linear in its vector; its derivative is the wanted product.
    """
    with grad_mode(True):
        ins = _leaves(inputs, create_graph)
        outs = func(*ins)
        results = _as_tuple(outs)
        dummies = [wrap(np.zeros_like(o._data)).requires_grad_() for o in results]
        back = grad(results, ins, dummies, create_graph=True, materialize_grads=True)
        directions = [initial_gradient(t, d) for t, d in zip(ins, _as_tuple(v), strict=True)] if v is not None else [initial_gradient(t, None) for t in ins]
        if not any(b.requires_grad for b in back):
            pushed: tuple[Any, ...] = tuple(wrap(np.zeros_like(o._data)) for o in results)
        else:
            pushed = grad(
                [b for b in back if b.requires_grad],
                dummies,
                [d for b, d in zip(back, directions, strict=True) if b.requires_grad],
                create_graph=create_graph,
                materialize_grads=True,
            )
    return outs if create_graph else _detach(outs), _pack(outs, pushed)


def _detach(outs: Any) -> Any:
    return outs.detach() if isinstance(outs, Value) else tuple(o.detach() for o in outs)  # type: ignore[attr-defined]


def jacobian(func: Callable[..., Any], inputs: Tensors, create_graph: bool = False) -> Any:
    """Return the Jacobian of func at the inputs: one row of derivatives per output element.

    Shape: outputs (…out), inputs (…in) -> (…out, …in); tuples of tensors give nested tuples

    >>> import toumei as tm
    >>> tm.autograd.jacobian(lambda x: x * x, tm.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    with grad_mode(True):
        ins = _leaves(inputs, create_graph)
        outs = func(*ins)
        blocks = [_rows(out, ins, create_graph) for out in _as_tuple(outs)]
    nested = [_pack(inputs, row) for row in blocks]
    return _pack(outs, nested)


def _rows(out: Tensor, ins: tuple[Tensor, ...], create_graph: bool) -> list[Tensor]:
    from .ops.combine import stack

    rows: list[tuple[Any, ...]] = []
    for i in range(out.numel()):
        unit = np.zeros(out.numel(), out.dtype)
        unit[i] = 1
        start = wrap(unit.reshape(out.shape))
        if out.requires_grad:
            rows.append(
                grad(out, ins, start, retain_graph=True, create_graph=create_graph, materialize_grads=True)
            )
        else:
            rows.append(tuple(wrap(np.zeros_like(t._data)) for t in ins))
    if not rows:
        return [wrap(np.zeros((*out.shape, *t.shape), t.dtype)) for t in ins]
    return [stack(column).reshape(*out.shape, *t.shape) for column, t in zip(zip(*rows, strict=True), ins, strict=True)]


def hessian(func: Callable[..., Any], inputs: Tensors, create_graph: bool = False) -> Any:
    """Return the second derivatives of a func whose result has one element.

    Shape: inputs (…) -> (…, …); tuples of tensors give nested tuples
    """
    single = isinstance(inputs, Value)

    def gradient(*ins: Tensor) -> Any:
        out = func(*ins)
        if out.numel() != 1:
            raise GradError(f"hessian needs a function with one output element, not {spec_of(out)}")
        if not out.requires_grad:
            return _pack(inputs, [t * 0 for t in ins])
        return _pack(inputs, grad(out, ins, None if out.ndim == 0 else wrap(np.ones(out.shape, out.dtype)), create_graph=True, materialize_grads=True))

    del single
    return jacobian(gradient, inputs, create_graph=create_graph)


def hvp(
    func: Callable[..., Any], inputs: Tensors, v: Any = None, create_graph: bool = False
) -> tuple[Any, Any]:
    """Return func(*inputs) and the product of its Hessian with `v`, without building the Hessian."""
    with grad_mode(True):
        ins = _leaves(inputs, create_graph)
        out = func(*ins)
        first = grad(out, ins, create_graph=True, materialize_grads=True)
        vectors = [initial_gradient(t, d) for t, d in zip(ins, _as_tuple(v), strict=True)] if v is not None else [initial_gradient(t, None) for t in ins]
        linked = [(g, d) for g, d in zip(first, vectors, strict=True) if g.requires_grad]
        if not linked:
            return out if create_graph else _detach(out), _pack(inputs, [wrap(np.zeros_like(t._data)) for t in ins])
        second = grad([g for g, _ in linked], ins, [d for _, d in linked], create_graph=create_graph, materialize_grads=True)
    return out if create_graph else _detach(out), _pack(inputs, second)


# --- ops written by the user ---------------------------------------------------------------------


class FunctionCtx:
    """What `forward` leaves for `backward`: tensors through `save_for_backward`, else attributes."""

    def __init__(self) -> None:
        self._saved: tuple[Any, ...] = ()
        self.needs_input_grad: tuple[bool, ...] = ()

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep tensors (inputs or outputs of the function) for the backward pass."""
        self._saved = tensors

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """The tensors that `save_for_backward` kept, in their places in the graph."""
        return tuple(self._saved)
