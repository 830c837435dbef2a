"""The time loops of the recurrent layers: all steps of one layer, in one direction, are one op.

An op gets what the inputs add to the gates, `gx`, computed for all steps at once, and runs the
recurrence.  Its `decompose` is the definition, in Tensors; `forward` does the same in arrays.  The
derivative is an op too, `…LoopGrad`: backpropagation through time, from what the loop returned.

    T, B, H    steps, sequences, size of the state;   k·H: the gates, side by side
    gx         (T, B, k·H)       w_hh    (k·H, H)       h0, c0    (B, H)
    mask       (T, B, 1), bool: whether the sequence still runs.  Where it doesn't, the state stays
               as it is: so forwards it keeps its last value, and backwards its first one until
               the sequence begins.

σ(x) = (1 + tanh(x/2))/2: so one tanh serves all the gates, of which some are halved before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..op import Array, Case, Composite, Op, Refused, RefusedType, Spec, op
from ..tape import apply
from .choice import where
from .combine import cat

if TYPE_CHECKING:
    from ..tensor import Tensor


@op
class Steps(Op):
    """y₀, y₁, … = x[0], x[1], …, each in memory of its own;   ∂x = the gradients, stacked

    (The gradient of a view of one step would be as large as x, for each of the steps.)
    """

    def forward(self, xp: Any, x: Array) -> tuple[Array, ...]:
        return tuple(xp.array(part) for part in x)

    def infer(self, x: Spec) -> tuple[Spec, ...]:
        if not x.ndim:
            raise Refused("there are no steps: the tensor has no dimension")
        return (Spec(x.shape[1:], x.dtype),) * x.shape[0]

    def backward(self, gys: Any, x_spec: Spec) -> Tensor:
        zero = np.zeros(x_spec.shape[1:], x_spec.dtype)
        parts = gys if isinstance(gys, tuple) else (gys,)  # of a single step comes no tuple
        return apply(Stacked(), *(zero if g is None else g for g in parts))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for shape in ((3, 2, 4), (1, 2), (2,)):
            yield Case(cls(), (rng.normal(size=shape),))


@op
class Stacked(Op):
    """y = the inputs along a new first dimension;   ∂xₜ = gy[t]"""

    def forward(self, xp: Any, *xs: Array) -> Array:
        return xp.stack(xs)

    def infer(self, *xs: Spec) -> Spec:
        if any(x.shape != xs[0].shape for x in xs):
            raise Refused(f"the shapes differ: {', '.join(str(x.shape) for x in xs)}")
        return Spec((len(xs), *xs[0].shape), xs[0].dtype)

    def backward(self, gy: Tensor) -> Any:
        return apply(Steps(), gy)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case(cls(), (rng.normal(size=(2, 4)), rng.normal(size=(2, 4))))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls(), (np.zeros(2), np.zeros(3))), "the shapes differ: (2,), (3,)"


class TimeLoop(Composite):
    """The states of a layer, one after another; `reverse` starts at the end."""

    reverse: bool
    gates: ClassVar[int]  # how many blocks of size H gx and w_hh have

    def order(self, steps: int) -> range:
        """Return the steps in the order in which they are computed."""
        return range(steps - 1, -1, -1) if self.reverse else range(steps)

    def fit(self, gx: Any, w_hh: Any, states: Sequence[Any], mask: Any) -> None:
        """Refuse shapes that don't fit together; NumPy would broadcast some."""
        if gx.ndim != 3 or w_hh.ndim != 2:
            raise Refused(f"gx and w_hh have {gx.ndim} and {w_hh.ndim} dimensions, not 3 and 2")
        steps, batch, width = gx.shape
        hidden = w_hh.shape[1]
        if w_hh.shape[0] != self.gates * hidden or width != self.gates * hidden:
            raise Refused(
                f"for states of size {hidden} w_hh needs {self.gates * hidden} rows and gx as "
                f"many columns, but they have {w_hh.shape[0]} and {width}"
            )
        for state in states:
            if state.shape != (batch, hidden):
                raise Refused(f"a state has the shape {state.shape}, not {(batch, hidden)}")
        if mask is not None and (mask.shape != (steps, batch, 1) or mask.dtype.kind != "b"):
            raise Refused(f"mask must be bool{[steps, batch, 1]}, not {mask.dtype}{mask.shape}")
        for other in (w_hh, *states):
            if other.dtype != gx.dtype:
                raise RefusedType(f"the dtypes differ: {gx.dtype} and {other.dtype}")

    def before(self, xp: Any, states: Array, first: Array) -> Array:
        """Return the state before each step."""
        parts = (states[1:], first[None]) if self.reverse else (first[None], states[:-1])
        return xp.concatenate(parts if len(states) else (states,))

    def before_in_tensors(self, states: Tensor, first: Tensor) -> Tensor:
        """Return the state before each step."""
        start = first.unsqueeze(0)
        return cat([states[1:], start]) if self.reverse else cat([start, states[:-1]])

    def in_time(self, made: list[Tensor]) -> Tensor:
        """Stack what the steps made, in the order of time."""
        return apply(Stacked(), *(made[::-1] if self.reverse else made))

    def back_in_time(self, made: list[Tensor]) -> Tensor:
        """Stack what the steps made in the opposite order, that of the backward pass."""
        return self.in_time(made[::-1])

    def masks(self, mask: Tensor | None, steps: int) -> Any:
        """Return the mask of each step, or None for each."""
        return [None] * steps if mask is None else apply(Steps(), mask)


def kept_where(mask: Tensor | None, new: Tensor, old: Tensor) -> Tensor:
    """Return the new state where the sequence still runs, else the old one."""
    return new if mask is None else where(mask, new, old)


def optional(mask: Any) -> tuple[Any, ...]:
    """Return the mask as the rest of some arguments."""
    return () if mask is None else (mask,)


def filled(gys: Sequence[Tensor | None], specs: Sequence[Spec]) -> list[Any]:
    """Return the gradients, zeros for those that didn't arrive."""
    return [
        np.zeros(s.shape, s.dtype) if g is None else g for g, s in zip(gys, specs, strict=False)
    ]


def weight_gradient(xp: Any, gates: Array, states: Array) -> Array:
    """Return Σₜ gatesₜᵀ·statesₜ.  Shape: (T, B, k·H), (T, B, H) -> (k·H, H)"""
    rows = gates.shape[0] * gates.shape[1]
    return xp.matmul(gates.reshape(rows, gates.shape[2]).T, states.reshape(rows, states.shape[2]))


def weight_gradient_in_tensors(gates: Tensor, states: Tensor) -> Tensor:
    """Return Σₜ gatesₜᵀ·statesₜ.  Shape: (T, B, k·H), (T, B, H) -> (k·H, H)"""
    return gates.flatten(0, 1).t() @ states.flatten(0, 1)


def past_gradient(mask: Tensor | None, through: Tensor, still: Tensor) -> Tensor:
    """Return what reaches the state before: that of a frozen step is handed on as it is."""
    return through if mask is None else through + where(mask, 0, still)


def where_running(mask: Tensor | None, gradient: Tensor) -> Tensor:
    """Return a gradient, 0 where the sequence doesn't run."""
    return gradient if mask is None else where(mask, gradient, 0)


def loop_cases(
    cls: Any, rng: np.random.Generator, states: int, bias: bool = False
) -> Iterator[Any]:
    """Yield whether to go backwards, and the inputs of a loop."""
    for steps, batch, hidden, reverse, masked in (
        (2, 1, 2, False, False),
        (1, 1, 1, True, False),
        (3, 2, 1, True, True),
    ):
        width = cls.gates * hidden
        arrays: list[Array] = [
            rng.normal(size=(steps, batch, width)),
            rng.normal(size=(width, hidden)),
        ]
        arrays += [rng.normal(size=width)] * bias
        arrays += [rng.normal(size=(batch, hidden)) for _ in range(states)]
        if masked:
            arrays.append(np.arange(steps)[:, None, None] < np.array([2, 3])[:, None])
        yield reverse, tuple(arrays)
