"""Derivatives of functions: vjp, jvp, jacobian, hessian, hvp, vhp.

`func` takes one tensor, or as many as the tuple `inputs` holds, and returns one or a tuple; the
results are nested in the same way.  With `create_graph` they can be differentiated again.  With
`strict`, an output that doesn't depend on an input is refused instead of giving zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..backward import initial_gradient
from ..config import grad_mode
from ..errors import GradError
from ..ops.combine import stack
from ..ops.creation import ones_like, zeros_like
from ..tape import Value, spec_of, wrap
from ..tensor import Tensor
from .derivatives import Tensors, as_tuple, grad

__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]

Function = Callable[..., Any]


class _Options(NamedTuple):
    name: str  # of the function that the user called, for messages
    create_graph: bool
    strict: bool


def vjp(
    func: Function, inputs: Tensors, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """Return func(*inputs) and the product of `v` with its Jacobian: vᵀ·J.

    Shape: v is like the outputs, the product like the inputs

    >>> import toumei as tm
    >>> tm.autograd.functional.vjp(lambda x: x * x, tm.tensor([1.0, 2.0]), tm.ones(2))
    (tensor([1., 4.]), tensor([2., 4.]))
    """
    options = _Options("vjp", create_graph, strict)
    with grad_mode(True):
        ins, outs = _call(func, inputs, options)
        product = _product(as_tuple(outs), ins, _vectors(as_tuple(outs), v), options)
    return _result(outs, options), _pack(inputs, product)


def jvp(
    func: Function, inputs: Tensors, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """Return func(*inputs) and the product of its Jacobian with `v`: J·v.

    uᵀ·J is linear in u, and its derivative with respect to u in the direction v is J·v: so two
    backward passes make a forward one.

    Shape: v is like the inputs, the product like the outputs

    >>> import toumei as tm
    >>> tm.autograd.functional.jvp(lambda x: x * x, tm.tensor([1.0, 2.0]), tm.ones(2))
    (tensor([1., 4.]), tensor([2., 4.]))
    """
    options = _Options("jvp", create_graph, strict)
    with grad_mode(True):
        ins, outs = _call(func, inputs, options)
        results = as_tuple(outs)
        u = [zeros_like(o, requires_grad=True) for o in results]
        linear = _product(results, ins, u, options._replace(create_graph=True))
        pushed = _product(linear, u, _vectors(ins, v), options._replace(strict=False))
    return _result(outs, options), _pack(outs, pushed)


def jacobian(
    func: Function, inputs: Tensors, create_graph: bool = False, strict: bool = False
) -> Any:
    """Return the Jacobian of func at the inputs, one backward pass per output element.

    J[i, j] = ∂funcᵢ/∂inputsⱼ

    Shape: outputs (…out), inputs (…in) -> (…out, …in); tuples of tensors give nested tuples

    >>> import toumei as tm
    >>> tm.autograd.functional.jacobian(lambda x: x * x, tm.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    options = _Options("jacobian", create_graph, strict)
    with grad_mode(True):
        ins, outs = _call(func, inputs, options)
        blocks = [_pack(inputs, _block(out, ins, options)) for out in as_tuple(outs)]
    return _pack(outs, blocks)


def hessian(
    func: Function, inputs: Tensors, create_graph: bool = False, strict: bool = False
) -> Any:
    """Return the second derivatives of a func whose result has one element.

    H[i, j] = ∂²func/∂inputsᵢ∂inputsⱼ

    Shape: inputs (…) -> (…, …); tuples of tensors give nested tuples

    Raises:
        GradError: the result of func has more than one element.

    >>> import toumei as tm
    >>> tm.autograd.functional.hessian(lambda x: (x ** 3).sum(), tm.tensor([1.0, 2.0]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    inner = _Options("hessian", True, strict)

    def gradient(*ins: Tensor) -> Any:
        out = _single(func(*ins), "hessian")
        return _pack(inputs, _product((out,), ins, [ones_like(out)], inner))

    return jacobian(gradient, inputs, create_graph=create_graph, strict=strict)


def hvp(
    func: Function, inputs: Tensors, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """Return func(*inputs) and the product of its Hessian with `v`, without building the Hessian.

    H·v = ∇(∇func · v)   (the Hessian is symmetric, so vᵀ·H has the same elements)

    Shape: v and the product are like the inputs

    Raises:
        GradError: the result of func has more than one element.

    >>> import toumei as tm
    >>> tm.autograd.functional.hvp(lambda x: (x ** 3).sum(), tm.tensor([1.0, 2.0]), tm.ones(2))
    (tensor(9.), tensor([ 6., 12.]))
    """
    options = _Options("hvp", create_graph, strict)
    with grad_mode(True):
        ins, out = _call(func, inputs, options)
        ones = [ones_like(_single(out, "hvp"))]
        first = _product((out,), ins, ones, options._replace(create_graph=True))
        second = _product(first, ins, _vectors(ins, v), options)
    return _result(out, options), _pack(inputs, second)


def vhp(
    func: Function, inputs: Tensors, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """Return func(*inputs) and vᵀ·H: the same numbers as `hvp`, for the Hessian is symmetric."""
    return hvp(func, inputs, v, create_graph, strict)


def _call(func: Function, inputs: Tensors, options: _Options) -> tuple[tuple[Tensor, ...], Any]:
    """Call func on stand-ins for the inputs, which keep their past only if a graph is wanted."""
    ins = tuple(
        t.view_as(t) if options.create_graph and t.requires_grad else t.detach().requires_grad_()
        for t in as_tuple(inputs)
    )
    outs = func(*ins)
    for i, out in enumerate(as_tuple(outs) if isinstance(outs, Value | tuple | list) else (outs,)):
        if not isinstance(out, Value):
            raise GradError(f"{options.name}: output {i} of the function is {out!r:.60}, no tensor")
    return ins, outs


def _single(out: Any, name: str) -> Tensor:
    if not isinstance(out, Tensor) or out.numel() != 1:
        given = spec_of(out) if isinstance(out, Tensor) else type(out).__name__
        raise GradError(f"{name} needs a function whose result is a single element, not {given}")
    return out


def _vectors(like: Sequence[Tensor], v: Any) -> list[Tensor]:
    """Return v as a list, checked against what it belongs to; a one for a single element."""
    vectors = [None] * len(like) if v is None else list(as_tuple(v))
    if len(vectors) != len(like):
        raise GradError(f"v has {len(vectors)} tensors, {len(like)} are needed")
    return [initial_gradient(t, d) for t, d in zip(like, vectors, strict=True)]


def _product(
    outs: Sequence[Tensor], ins: Sequence[Tensor], vectors: Sequence[Tensor], options: _Options
) -> tuple[Tensor, ...]:
    """Return Σⱼ vⱼ·∂outⱼ/∂inᵢ for each input: zeros where nothing depends on it."""
    if options.strict:
        for j, out in enumerate(outs):
            if not out.requires_grad:
                raise GradError(
                    f"{options.name}: output {j} doesn't depend on any input (strict=True)"
                )
    linked = [(o, v) for o, v in zip(outs, vectors, strict=True) if o.requires_grad]
    found: tuple[Any, ...] = (None,) * len(ins)
    if linked:
        found = grad(
            [o for o, _ in linked],
            ins,
            [v for _, v in linked],
            retain_graph=True,
            create_graph=options.create_graph,
            allow_unused=True,
        )
    for i, g in enumerate(found):
        if g is None and options.strict:
            raise GradError(f"{options.name}: no output depends on input {i} (strict=True)")
    zeros = [zeros_like(t) for t in ins]
    return tuple(z if g is None else g for g, z in zip(found, zeros, strict=True))


def _block(out: Tensor, ins: tuple[Tensor, ...], options: _Options) -> list[Tensor]:
    """Return the derivatives of all elements of one output, for each input."""
    count = out.numel()
    units = np.eye(count, dtype=out.dtype).reshape(count, *out.shape)
    rows = [_product((out,), ins, [wrap(unit)], options) for unit in units]
    if not rows:
        return [wrap(np.zeros((*out.shape, *t.shape), t.dtype)) for t in ins]
    columns = zip(*rows, strict=True)
    return [stack(c).reshape(*out.shape, *t.shape) for c, t in zip(columns, ins, strict=True)]


def _pack(like: Any, values: Sequence[Any]) -> Any:
    return values[0] if isinstance(like, Value) else tuple(values)


def _result(outs: Any, options: _Options) -> Any:
    if options.create_graph:
        return outs
    return outs.detach() if isinstance(outs, Tensor) else tuple(o.detach() for o in outs)
