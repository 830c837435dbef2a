"""The time loop of the GRU.

Paper: Cho et al., "Learning phrase representations using RNN encoder-decoder" (2014)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..backward import vjp
from ..op import Array, Case, Refused, Spec, op
from ..tape import apply
from .combine import cat
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


def gru_step(x: Tensor, hidden: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """Return h′ and r, z, n, m, of what the input and the state add to the gates."""
    x_r, x_z, x_n = x.chunk(3, -1)
    h_r, h_z, m = hidden.chunk(3, -1)
    r, z = (x_r + h_r).sigmoid(), (x_z + h_z).sigmoid()
    n = (x_n + r * m).tanh()
    return n + z * (h - n), cat([r, z, n, m], -1)


@op
class GruLoop(TimeLoop):
    """h′ = (1 − z)·n + z·h with r = σ(gx_r + m_r), z = σ(gx_z + m_z), n = tanh(gx_n + r·m_n)

    m = w_hh·h + b_hh.  Returns the states and r, z, n, m_n.
    """

    gates: ClassVar[int] = 3

    def forward(
        self, xp: Any, gx: Array, w_hh: Array, b_hh: Array, h0: Array, mask: Array | None = None
    ) -> tuple[Array, Array]:
        k = h0.shape[1]
        ys = xp.empty((len(gx), *h0.shape), gx.dtype)
        zs = xp.empty((*gx.shape[:2], 4 * k), gx.dtype)
        half = gx.dtype.type(0.5)
        h, w = h0, w_hh.T
        for t in self.order(len(gx)):
            y, step = ys[t], zs[t]
            rz, n, m = step[:, : 2 * k], step[:, 2 * k : 3 * k], step[:, 3 * k :]
            hidden = h @ w
            hidden += b_hh
            xp.add(gx[t, :, : 2 * k], hidden[:, : 2 * k], out=rz)
            rz *= half
            xp.tanh(rz, out=rz)
            rz *= half
            rz += half
            m[...] = hidden[:, 2 * k :]
            xp.multiply(rz[:, :k], m, out=n)
            n += gx[t, :, 2 * k :]
            xp.tanh(n, out=n)
            xp.subtract(h, n, out=y)
            y *= rz[:, k:]
            y += n
            if mask is not None:
                xp.copyto(y, h, where=~mask[t])
            h = y
        return ys, zs

    def check(self, gx: Any, w_hh: Any, b_hh: Any, h0: Any, mask: Any = None) -> None:
        self.fit(gx, w_hh, [h0], mask)
        if b_hh.shape != w_hh.shape[:1]:
            raise Refused(f"b_hh has the shape {b_hh.shape}, but w_hh {w_hh.shape[0]} rows")

    def infer(self, gx: Spec, w_hh: Spec, b_hh: Spec, h0: Spec, mask: Spec | None = None) -> Any:
        self.check(gx, w_hh, b_hh, h0, mask)
        steps, batch, hidden = gx.shape[0], *h0.shape
        return Spec((steps, batch, hidden), gx.dtype), Spec((steps, batch, 4 * hidden), gx.dtype)

    def decompose(
        self, gx: Tensor, w_hh: Tensor, b_hh: Tensor, h0: Tensor, mask: Tensor | None = None
    ) -> Any:
        parts, masks = apply(Steps(), gx), self.masks(mask, len(gx))
        made = []
        h = h0
        for t in self.order(len(gx)):
            new, gates = gru_step(parts[t], linear(h, w_hh, b_hh), h)
            h = kept_where(masks[t], new, h)
            made.append((h, gates))
        return tuple(self.in_time(list(group)) for group in zip(*made, strict=True))

    def backward(
        self, gys: Any, gx: Tensor, w_hh: Tensor, b_hh: Tensor, h0: Tensor, mask: Any, ys: Any
    ) -> Any:
        rest = optional(mask)
        if gys[1] is not None:  # nobody but a higher derivative asks for the gates'
            return vjp(self.decompose, [gx, w_hh, b_hh, h0, *rest], gys)
        grads = apply(GruLoopGrad(self.reverse), gys[0], w_hh, h0, *ys, *rest)
        return (*grads, *(None for _ in rest))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for reverse, arrays in loop_cases(cls, rng, 1, bias=True):
            yield Case(cls(reverse), arrays)

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        gx, w, h, b = np.zeros((3, 2, 6)), np.zeros((6, 2)), np.zeros((2, 2)), np.zeros(6)
        yield Case(cls(False), (gx, w, b[:1], h)), "b_hh has the shape (1,), but w_hh 6 rows"


@op
class GruLoopGrad(TimeLoop):
    """The derivative of GruLoop: ∂gx, ∂w_hh, ∂b_hh, ∂h0 for g, the gradient of the states"""

    gates: ClassVar[int] = 3

    def forward(
        self,
        xp: Any,
        g: Array,
        w_hh: Array,
        h0: Array,
        ys: Array,
        zs: Array,
        mask: Array | None = None,
    ) -> Any:
        k = h0.shape[1]
        before = self.before(xp, ys, h0)
        dgh, d_n = self._slopes(xp, zs, before)
        blocks = dgh.reshape(*ys.shape[:2], 3, k)
        dh = xp.zeros_like(h0)
        for t in reversed(self.order(len(ys))):
            dh = dh + g[t]
            blocks[t] *= dh[:, None]
            d_n[t] *= dh
            past = dh * zs[t, :, k : 2 * k]
            if mask is not None:
                xp.copyto(dgh[t], 0, where=~mask[t])
                xp.copyto(d_n[t], 0, where=~mask[t])
                past = xp.where(mask[t], past, dh)
            dh = past + dgh[t] @ w_hh
        dgx = dgh.copy()
        dgx[..., 2 * k :] = d_n
        return dgx, weight_gradient(xp, dgh, before), dgh.sum((0, 1)), dh

    def _slopes(self, xp: Any, zs: Array, before: Array) -> tuple[Array, Array]:
        """Return ∂h′ by what the state adds to the gates, and by what the input adds to n."""
        k = before.shape[-1]
        r, z, n, m = (zs[..., j * k : (j + 1) * k] for j in range(4))
        d_n = (1 - z) * (1 - n * n)
        return xp.concatenate([d_n * m * r * (1 - r), (before - n) * z * (1 - z), d_n * r], -1), d_n

    def check(self, g: Any, w_hh: Any, h0: Any, ys: Any, zs: Any, mask: Any = None) -> None:
        if w_hh.shape[0] != self.gates * h0.shape[-1]:
            raise Refused(f"w_hh has {w_hh.shape[0]} rows for states of size {h0.shape[-1]}")

    def infer(self, *specs: Spec) -> Any:
        self.check(*specs)
        _, w_hh, h0, ys, *_ = specs
        dgx = Spec((*ys.shape[:2], w_hh.shape[0]), ys.dtype)
        return dgx, *(Spec(s, ys.dtype) for s in (w_hh.shape, w_hh.shape[:1], h0.shape))

    def decompose(
        self,
        g: Tensor,
        w_hh: Tensor,
        h0: Tensor,
        ys: Tensor,
        zs: Tensor,
        mask: Tensor | None = None,
    ) -> Any:
        r, z, n, m = zs.chunk(4, -1)
        before = self.before_in_tensors(ys, h0)
        d_n = (1 - z) * (1 - n * n)
        slope = cat([d_n * m * r * (1 - r), (before - n) * z * (1 - z), d_n * r], -1)
        gs, slopes, keeps = (apply(Steps(), x) for x in (g, slope, z))
        masks = self.masks(mask, len(ys))
        made: list[Tensor] = []
        runs: list[Tensor] = []
        dh = h0 * 0
        for t in reversed(self.order(len(ys))):
            dh = dh + gs[t]
            runs.append(where_running(masks[t], dh))
            made.append(cat([runs[-1]] * 3, -1) * slopes[t])
            dh = past_gradient(masks[t], made[-1] @ w_hh + runs[-1] * keeps[t], dh)
        dgh = self.back_in_time(made)
        d_rz = dgh[..., : 2 * h0.shape[1]]
        dgx = cat([d_rz, self.back_in_time(runs) * d_n], -1)
        return dgx, weight_gradient_in_tensors(dgh, before), dgh.sum((0, 1)), dh

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for case in GruLoop.samples(rng):
            made = case.op.forward(np, *case.inputs)
            g = np.asarray(rng.normal(size=made[0].shape))
            _, w_hh, _, h0, *rest = case.inputs
            yield Case(cls(**vars(case.op)), (g, w_hh, h0, *made, *rest))
