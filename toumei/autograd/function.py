"""Function: an op written by the user, with a backward pass of its own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from ..config import config, grad_mode
from ..errors import GradError
from ..op import Gradient, Op, Spec, Want
from ..tape import Value, record, wrap
from ..tensor import Tensor

__all__ = ["Function", "FunctionCtx", "once_differentiable"]


class FunctionCtx:
    """Carries what `forward` computed over to `backward`.

    Tensors go through `save_for_backward`, which sees to it that they are freed after the backward
    pass, that changes in place are noticed and that no reference cycle arises; anything else may
    be set as an attribute.
    """

    #: Whether each argument of `apply` requires a gradient.
    needs_input_grad: tuple[bool, ...] = ()

    def __init__(self) -> None:
        self._saved: tuple[Tensor | None, ...] = ()
        self._constant: tuple[Any, ...] = ()
        self._materialize = True

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep tensors (inputs, outputs or others) for the backward pass; None stays None."""
        for i, t in enumerate(tensors):
            if t is not None and not isinstance(t, Value):
                raise GradError(
                    f"save_for_backward: argument {i} is {t!r:.60}, no tensor; set it as an "
                    "attribute of ctx instead"
                )
        self._saved = tensors

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """The tensors that `save_for_backward` kept, each in its place in the graph."""
        return self._saved

    def mark_non_differentiable(self, *outputs: Tensor) -> None:
        """Declare outputs that have no derivative: they won't require grad."""
        self._constant = outputs

    def set_materialize_grads(self, value: bool) -> None:
        """Whether backward gets zeros (the default) or None for outputs that weren't used."""
        self._materialize = value

    def mark_dirty(self, *args: Tensor) -> None:
        """Refused: a Function can't change its inputs.

        Raises:
            GradError: always.
        """
        raise GradError(
            "mark_dirty: a Function can't change its inputs in place; return new tensors"
        )


class Function:
    """An op written by the user: `forward` on tensors, and `backward` for its gradient.

    `forward(ctx, *args)` runs unrecorded and returns a tensor or a tuple.  `backward(ctx, *grads)`
    gets one gradient per output and returns one per argument: None for those that aren't tensors.
    Instead, `forward(*args)` may leave the ctx to `setup_context(ctx, inputs, output)`.  The
    backward pass is made of ops and can be differentiated again; `once_differentiable` forbids it.

    >>> import toumei as tm
    >>> class Cube(tm.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x ** 3
    ...     @staticmethod
    ...     def backward(ctx, g):
    ...         (x,) = ctx.saved_tensors
    ...         return g * 3 * x ** 2
    >>> x = tm.tensor(2.0, requires_grad=True)
    >>> Cube.apply(x).backward()
    >>> x.grad
    tensor(12.)
    """

    setup_context: ClassVar[Callable[..., None] | None] = None

    def __new__(cls, *args: Any, **options: Any) -> Any:
        """Refuse to make an object: Functions are used through `apply`."""
        raise TypeError(
            f"{cls.__name__} is used as {cls.__name__}.apply(…), without making an object"
        )

    @staticmethod
    def forward(*args: Any, **options: Any) -> Any:
        """Compute the result: to be written by the user."""
        raise NotImplementedError("a Function needs a static method forward(ctx, *args)")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """Compute the gradients of the arguments: to be written by the user."""
        raise NotImplementedError("a Function needs a static method backward(ctx, *grads)")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """Run `forward` and note the Function down for the backward pass.

        Raises:
            GradError: `forward` changed an input in place.
        """
        ctx = FunctionCtx()
        ctx.needs_input_grad = tuple([isinstance(a, Tensor) and a.requires_grad for a in args])
        tensors = [a for a in args if isinstance(a, Tensor)]
        versions = [t._storage.version for t in tensors]
        with grad_mode(False):
            if cls.setup_context is None:
                result = cls.forward(ctx, *args)
            else:
                result = cls.forward(*args)
                cls.setup_context(ctx, args, result)
        if versions != [t._storage.version for t in tensors]:
            raise GradError(f"{cls.__name__}.forward changed an input in place: change a clone()")
        outputs = list(result) if isinstance(result, tuple) else [result]
        saved = _own_memory(ctx, tensors, outputs)
        if config.grad and any(ctx.needs_input_grad):
            _record(cls, ctx, args, outputs, saved)
        ctx._saved = ctx._constant = ()  # they are kept by the node from here on
        return tuple(outputs) if isinstance(result, tuple) else outputs[0]


def _own_memory(ctx: FunctionCtx, inputs: Sequence[Any], outputs: list[Any]) -> list[Any]:
    """Give each output memory of its own, in place; return the saved tensors accordingly.

    An output that shares memory with an input would have two places in the graph.
    """
    taken = {id(t._storage) for t in inputs}
    saved, constant = list(ctx._saved), list(ctx._constant)
    for i, out in enumerate(outputs):
        if not isinstance(out, Tensor):
            continue
        if id(out._storage) in taken:
            outputs[i] = out.detach().clone()
            if not any(out is t for t in inputs):
                saved = [outputs[i] if t is out else t for t in saved]
            constant = [outputs[i] if t is out else t for t in constant]
        taken.add(id(outputs[i]._storage))
    ctx._constant = tuple(constant)
    return saved


def _record(
    cls: type[Function], ctx: FunctionCtx, args: Any, outputs: Sequence[Any], saved: list[Any]
) -> None:
    inputs = [a for a in args if isinstance(a, Tensor)]
    linked = [
        o for o in outputs if isinstance(o, Tensor) and not any(o is c for c in ctx._constant)
    ]
    if not linked:
        return
    extra: list[Any] = []  # saved tensors that are neither input nor output: more inputs
    wants: list[Want | None] = []
    for t in saved:
        if t is None:
            wants.append(None)
        elif (i := _place(t, linked)) is not None:
            wants.append(Want("value", "output", i))
        elif (i := _place(t, inputs)) is not None:
            wants.append(Want("value", "input", i))
        else:
            wants.append(Want("value", "input", len(inputs) + len(extra)))
            extra.append(t)
    op = _UserOp(
        cls,
        ctx,
        tuple(w is not None for w in wants),
        tuple(isinstance(a, Tensor) for a in args),
        len(extra),
        tuple(_place(o, linked) if isinstance(o, Tensor) else None for o in outputs),
        tuple(Spec(o.shape, o.dtype) if isinstance(o, Tensor) else None for o in outputs),
        (Gradient("backward", None, tuple(w for w in wants if w is not None)),),
    )
    record(op, [*inputs, *extra], linked)


def _place(t: Any, among: Sequence[Any]) -> int | None:
    return next((i for i, other in enumerate(among) if other is t), None)


class _UserOp(Op):
    """One call of a Function, as the tape sees it."""

    by_user: ClassVar[bool] = True
    broadcasts: ClassVar[bool] = True  # gradients are summed to the inputs' shapes, as in PyTorch

    def __init__(
        self,
        function: type[Function],
        ctx: FunctionCtx,
        saved: tuple[bool, ...],
        tensors: tuple[bool, ...],
        extra: int,
        slots: tuple[int | None, ...],
        specs: tuple[Spec | None, ...],
        gradients: tuple[Gradient, ...],
    ) -> None:
        self.__dict__.update(
            function=function,
            ctx=ctx,
            saved=saved,  # which arguments of save_for_backward were tensors
            tensors=tensors,  # which arguments of apply were tensors
            extra=extra,  # how many saved tensors are neither input nor output
            slots=slots,  # for each output its place among those that have a gradient
            specs=specs,
            gradients=gradients,
            name=function.__name__,
        )

    function: type[Function]
    ctx: FunctionCtx
    saved: tuple[bool, ...]
    tensors: tuple[bool, ...]
    extra: int
    slots: tuple[int | None, ...]
    specs: tuple[Spec | None, ...]

    def backward(self, gy: Any, *saved: Tensor) -> tuple[Tensor | None, ...]:
        """Call the Function's backward with the gradients of all outputs."""
        gys = gy if isinstance(gy, tuple) else (gy,)
        grads = [None if s is None else gys[s] for s in self.slots]
        if self.ctx._materialize:
            grads = [_zeros(g, spec) for g, spec in zip(grads, self.specs, strict=True)]
        values = iter(saved)
        self.ctx._saved = tuple(next(values) if there else None for there in self.saved)
        try:
            result = self.function.backward(self.ctx, *grads)
        finally:
            self.ctx._saved = ()
        return (*self._of_tensors(result), *(None for _ in range(self.extra)))

    def _of_tensors(self, result: Any) -> list[Any]:
        """Return the gradients of those arguments that are tensors, checked."""
        grads = list(result) if isinstance(result, tuple | list) else [result]
        given, wanted = len(grads), len(self.tensors)
        if given < wanted or any(g is not None for g in grads[wanted:]):
            raise GradError(
                f"{self.name}.backward returned {given} gradients for {wanted} arguments: it must "
                "return one for each argument of forward, None for those that aren't tensors"
            )
        for i, (g, is_tensor) in enumerate(zip(grads, self.tensors, strict=False)):
            if g is not None and not is_tensor:
                raise GradError(
                    f"{self.name}.backward returned a gradient for argument {i}, no tensor"
                )
            if g is not None and not isinstance(g, Tensor):
                raise GradError(f"{self.name}.backward returned {g!r:.60} for argument {i}")
        return [g for g, is_tensor in zip(grads, self.tensors, strict=False) if is_tensor]


def _zeros(g: Any, spec: Spec | None) -> Any:
    return wrap(np.zeros(spec.shape, spec.dtype)) if g is None and spec is not None else g


def once_differentiable(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a `backward` that can't be differentiated itself, say because it uses NumPy.

    What it returns is a constant; a second derivative through it is refused.

    >>> import toumei as tm
    >>> class Double(tm.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         return 2 * x
    ...     @staticmethod
    ...     @tm.autograd.once_differentiable
    ...     def backward(ctx, g):
    ...         return tm.from_numpy(2 * g.numpy())
    >>> x = tm.ones(2, requires_grad=True)
    >>> Double.apply(x).sum().backward()
    >>> x.grad
    tensor([2., 2.])
    """

    @functools.wraps(backward)
    def wrapped(ctx: FunctionCtx, *grads: Any) -> Any:
        sources = [
            t for t in (*grads, *ctx.saved_tensors) if isinstance(t, Tensor) and t.requires_grad
        ]
        plain = [g.detach() if isinstance(g, Tensor) else g for g in grads]
        saved = ctx._saved
        ctx._saved = tuple([None if t is None else t.detach() for t in saved])
        with grad_mode(False):
            result = backward(ctx, *plain)
        ctx._saved = saved
        if not config.grad or not sources:
            return result
        several = isinstance(result, tuple | list)
        for g in result if several else (result,):
            if isinstance(g, Tensor) and g.dtype.kind == "f":
                record(_Once(), sources, [g])
        return result

    return wrapped


class _Once(Op):
    """Stands where a backward that is differentiable only once was run."""

    name: ClassVar[str] = "once_differentiable"
    gradients: ClassVar[tuple[Gradient, ...]] = (Gradient("backward", None, ()),)

    def backward(self, gy: Any) -> Any:
        """Refuse."""
        raise GradError(
            "a second derivative is wanted of a backward that is marked @once_differentiable: "
            "write it in ops, without NumPy, and drop the mark"
        )
