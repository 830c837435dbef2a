"""The time loop of the plain recurrent layer: h' = tanh(gx + w_hh·h).

Paper: Elman, "Finding structure in time" (1990)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..op import Array, Case, Spec, op
from ..tape import apply
from .dense import linear
from .timeloop import (
    Steps,
    TimeLoop,
    kept_where,
    loop_cases,
    optional,
    past_gradient,
    weight_gradient,
    weight_gradient_in_tensors,
    where_running,
)

if TYPE_CHECKING:
    from ..tensor import Tensor


class _Plain(TimeLoop):
    relu: bool
    gates: ClassVar[int] = 1


@op
class RnnLoop(_Plain):
    """h′ = tanh(gx + w_hh·h), or max(0, …) if `relu`;   returns the states"""

    def forward(
        self, xp: Any, gx: Array, w_hh: Array, h0: Array, mask: Array | None = None
    ) -> Array:
        ys = xp.array(gx, order="C")
        h, w = h0, w_hh.T
        for t in self.order(len(gx)):
            y = ys[t]
            y += h @ w
            _ = xp.maximum(y, 0, out=y) if self.relu else xp.tanh(y, out=y)
            if mask is not None:
                xp.copyto(y, h, where=~mask[t])
            h = y
        return ys

    def check(self, gx: Any, w_hh: Any, h0: Any, mask: Any = None) -> None:
        self.fit(gx, w_hh, [h0], mask)

    def infer(self, gx: Spec, w_hh: Spec, h0: Spec, mask: Spec | None = None) -> Spec:
        self.check(gx, w_hh, h0, mask)
        return Spec(gx.shape, gx.dtype)

    def decompose(self, gx: Tensor, w_hh: Tensor, h0: Tensor, mask: Tensor | None = None) -> Any:
        parts, masks = apply(Steps(), gx), self.masks(mask, len(gx))
        made: list[Tensor] = []
        h = h0
        for t in self.order(len(gx)):
            z = parts[t] + linear(h, w_hh)
            h = kept_where(masks[t], z.relu() if self.relu else z.tanh(), h)
            made.append(h)
        return self.in_time(made)

    def backward(self, gy: Tensor, w_hh: Tensor, h0: Tensor, mask: Tensor | None, y: Tensor) -> Any:
        rest = optional(mask)
        grads = apply(RnnLoopGrad(self.reverse, self.relu), gy, w_hh, h0, y, *rest)
        return (*grads, *(None for _ in rest))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for reverse, arrays in loop_cases(cls, rng, 1):
            yield Case(cls(reverse, False), arrays)
            yield Case(cls(reverse, True), arrays)

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        gx, w, h = np.zeros((3, 2, 4)), np.zeros((4, 4)), np.zeros((2, 4))
        yield Case(cls(False, False), (gx, w[:3], h)), "w_hh needs 4 rows"
        yield Case(cls(False, False), (gx, w, h[:1])), "a state has the shape (1, 4), not (2, 4)"
        yield Case(cls(False, False), (gx, w, h, np.ones((3, 2), bool))), "mask must be bool"
        yield Case(cls(False, False), (gx, w.astype(np.float32), h)), "dtypes differ"


@op
class RnnLoopGrad(_Plain):
    """The derivative of RnnLoop: ∂gx, ∂w_hh, ∂h0 for g, the gradient of the states ys

    ∂gxₜ = ∂hₜ·f′, ∂hₜ₋₁ = w_hhᵀ·∂gxₜ, ∂w_hh = Σ ∂gxₜ·hₜ₋₁ᵀ
    """

    def forward(
        self, xp: Any, g: Array, w_hh: Array, h0: Array, ys: Array, mask: Array | None = None
    ) -> Any:
        dgx = xp.ascontiguousarray((ys > 0).astype(ys.dtype) if self.relu else 1 - ys * ys)
        dh = xp.zeros_like(h0)
        for t in reversed(self.order(len(ys))):
            dh = dh + g[t]
            dgx[t] *= dh
            if mask is None:
                dh = dgx[t] @ w_hh
                continue
            xp.copyto(dgx[t], 0, where=~mask[t])
            dh = xp.where(mask[t], 0, dh) + dgx[t] @ w_hh
        return dgx, weight_gradient(xp, dgx, self.before(xp, ys, h0)), dh

    def check(self, g: Any, w_hh: Any, h0: Any, ys: Any, mask: Any = None) -> None:
        self.fit(ys, w_hh, [h0], mask)

    def infer(self, g: Spec, w_hh: Spec, h0: Spec, ys: Spec, mask: Spec | None = None) -> Any:
        self.check(g, w_hh, h0, ys, mask)
        return tuple(Spec(s.shape, s.dtype) for s in (ys, w_hh, h0))

    def decompose(
        self, g: Tensor, w_hh: Tensor, h0: Tensor, ys: Tensor, mask: Tensor | None = None
    ) -> Any:
        slope = (ys > 0).to(ys.dtype) if self.relu else 1 - ys * ys
        gs, slopes, masks = apply(Steps(), g), apply(Steps(), slope), self.masks(mask, len(ys))
        made: list[Tensor] = []
        dh = h0 * 0
        for t in reversed(self.order(len(ys))):
            dh = dh + gs[t]
            made.append(where_running(masks[t], dh * slopes[t]))
            dh = past_gradient(masks[t], made[-1] @ w_hh, dh)
        dgx = self.back_in_time(made)
        return dgx, weight_gradient_in_tensors(dgx, self.before_in_tensors(ys, h0)), dh

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for case in RnnLoop.samples(rng):
            gx, w_hh, h0, *rest = case.inputs
            g, ys = (np.asarray(rng.normal(size=gx.shape)) for _ in range(2))
            inputs = (g, w_hh, h0, ys, *rest)
            yield Case(cls(**vars(case.op)), inputs)
