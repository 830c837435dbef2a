"""The time loop of the LSTM.

Paper: Hochreiter & Schmidhuber, "Long short-term memory" (1997); forget gate: Gers et al. (2000)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..backward import vjp
from ..op import Array, Case, Spec, op
from ..tape import apply
from .combine import cat
from .dense import linear
from .timeloop import (
    Steps,
    TimeLoop,
    filled,
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


def lstm_step(z: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return h′, c′ and the gates i, f, g, o, of what goes into the gates."""
    i, f, g, o = z.chunk(4, -1)
    i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
    c = f * c + i * g
    return o * c.tanh(), c, cat([i, f, g, o], -1)


@op
class LstmLoop(TimeLoop):
    """c′ = σ(f)·c + σ(i)·tanh(g), h′ = σ(o)·tanh(c′) with (i, f, g, o) = gx + w_hh·h

    Returns the states h, the states c and the gates σ(i), σ(f), tanh(g), σ(o).
    """

    gates: ClassVar[int] = 4

    def forward(
        self, xp: Any, gx: Array, w_hh: Array, h0: Array, c0: Array, mask: Array | None = None
    ) -> tuple[Array, Array, Array]:
        n = h0.shape[1]
        scale = np.repeat(np.array([0.5, 0.5, 1, 0.5], gx.dtype), n)
        gates = xp.multiply(gx, scale, order="C")
        w = (w_hh * scale[:, None]).T
        ys, cs = (xp.empty((len(gx), *h0.shape), gx.dtype) for _ in range(2))
        h, c = h0, c0
        for t in self.order(len(gx)):
            y, z = ys[t], gates[t]
            z += h @ w
            xp.tanh(z, out=z)
            z *= scale
            z += 1 - scale
            new = xp.multiply(z[:, n : 2 * n], c, out=cs[t])
            new += z[:, :n] * z[:, 2 * n : 3 * n]
            xp.tanh(new, out=y)
            y *= z[:, 3 * n :]
            if mask is not None:
                xp.copyto(y, h, where=~mask[t])
                xp.copyto(new, c, where=~mask[t])
            h, c = y, new
        return ys, cs, gates

    def check(self, gx: Any, w_hh: Any, h0: Any, c0: Any, mask: Any = None) -> None:
        self.fit(gx, w_hh, [h0, c0], mask)

    def infer(self, gx: Spec, w_hh: Spec, h0: Spec, c0: Spec, mask: Spec | None = None) -> Any:
        self.check(gx, w_hh, h0, c0, mask)
        states = Spec((gx.shape[0], *h0.shape), gx.dtype)
        return states, states, Spec(gx.shape, gx.dtype)

    def decompose(
        self, gx: Tensor, w_hh: Tensor, h0: Tensor, c0: Tensor, mask: Tensor | None = None
    ) -> Any:
        return self.in_tensors(gx, w_hh, h0, c0, mask)

    def in_tensors(
        self,
        gx: Tensor,
        w_hh: Tensor,
        h: Tensor,
        c: Tensor,
        mask: Tensor | None,
        w_hr: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run the loop in Tensors; with `w_hr` the next h is w_hr·h."""
        parts, masks = apply(Steps(), gx), self.masks(mask, len(gx))
        made = []
        for t in self.order(len(gx)):
            y, new, gates = lstm_step(parts[t] + linear(h, w_hh), c)
            h = kept_where(masks[t], y if w_hr is None else linear(y, w_hr), h)
            c = kept_where(masks[t], new, c)
            made.append((h, c, gates))
        ys, cs, zs = (self.in_time(list(group)) for group in zip(*made, strict=True))
        return ys, cs, zs

    def backward(
        self, gys: Any, gx: Tensor, w_hh: Tensor, h0: Tensor, c0: Tensor, mask: Any, ys: Any
    ) -> Any:
        rest = optional(mask)
        if gys[2] is not None:  # nobody but a higher derivative asks for the gates'
            return vjp(self.decompose, [gx, w_hh, h0, c0, *rest], gys)
        given = filled(gys[:2], [Spec(y.shape, y.dtype) for y in ys])
        grads = apply(LstmLoopGrad(self.reverse), *given, w_hh, h0, c0, *ys, *rest)
        return (*grads, *(None for _ in rest))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for reverse, arrays in loop_cases(cls, rng, 2):
            yield Case(cls(reverse), arrays)

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        gx, w, h = np.zeros((3, 2, 8)), np.zeros((8, 2)), np.zeros((2, 2))
        yield Case(cls(False), (gx[..., :4], w, h, h)), "as many columns, but they have 8 and 4"
        yield Case(cls(False), (gx, w, h, h[:1])), "a state has the shape (1, 2), not (2, 2)"


def _slopes(xp: Any, gates: Array, tanh_c: Array, before_c: Array, out: Array) -> Array:
    """Write ∂c′/∂(i, f, g) and ∂h′/∂o of one step, by what goes into the gates; return ∂h′/∂c′.

    One step at a time stays in the cache.
    """
    n = tanh_c.shape[1]
    i, f, g, o = (slice(k * n, (k + 1) * n) for k in range(4))
    xp.subtract(1, gates, out=out)
    out *= gates
    out[:, i] *= gates[:, g]
    out[:, f] *= before_c
    out[:, o] *= tanh_c
    xp.multiply(gates[:, g], gates[:, g], out=out[:, g])
    xp.subtract(1, out[:, g], out=out[:, g])
    out[:, g] *= gates[:, i]
    tanh_c *= tanh_c
    xp.subtract(1, tanh_c, out=tanh_c)
    tanh_c *= gates[:, o]
    return tanh_c


@op
class LstmLoopGrad(TimeLoop):
    """The derivative of LstmLoop: ∂gx, ∂w_hh, ∂h0, ∂c0 for g_ys and g_cs, those of h and c"""

    gates: ClassVar[int] = 4

    def forward(
        self,
        xp: Any,
        g_ys: Array,
        g_cs: Array,
        w_hh: Array,
        h0: Array,
        c0: Array,
        ys: Array,
        cs: Array,
        zs: Array,
        mask: Array | None = None,
    ) -> Any:
        n = h0.shape[1]
        dgx = xp.empty(zs.shape, zs.dtype)
        before_c = self.before(xp, cs, c0)
        dh, dc = xp.zeros_like(h0), xp.zeros_like(c0)
        for t in reversed(self.order(len(cs))):
            to_c = _slopes(xp, zs[t], xp.tanh(cs[t]), before_c[t], dgx[t])
            blocks = dgx[t].reshape(-1, 4, n)
            dh = dh + g_ys[t]
            dc = dc + g_cs[t]
            to_c *= dh
            to_c += dc
            blocks[:, :3] *= to_c[:, None]
            blocks[:, 3] *= dh
            to_c *= zs[t, :, n : 2 * n]
            if mask is None:
                dh, dc = dgx[t] @ w_hh, to_c
                continue
            xp.copyto(dgx[t], 0, where=~mask[t])
            dh = xp.where(mask[t], 0, dh) + dgx[t] @ w_hh
            dc = xp.where(mask[t], to_c, dc)
        return dgx, weight_gradient(xp, dgx, self.before(xp, ys, h0)), dh, dc

    def check(
        self,
        g_ys: Any,
        g_cs: Any,
        w_hh: Any,
        h0: Any,
        c0: Any,
        ys: Any,
        cs: Any,
        zs: Any,
        mask: Any = None,
    ) -> None:
        self.fit(zs, w_hh, [h0, c0], mask)

    def infer(self, *specs: Spec) -> Any:
        self.check(*specs)
        _, _, w_hh, h0, c0, _, _, zs, *_ = specs
        return tuple(Spec(s.shape, s.dtype) for s in (zs, w_hh, h0, c0))

    def decompose(
        self,
        g_ys: Tensor,
        g_cs: Tensor,
        w_hh: Tensor,
        h0: Tensor,
        c0: Tensor,
        ys: Tensor,
        cs: Tensor,
        zs: Tensor,
        mask: Tensor | None = None,
    ) -> Any:
        i, f, g, o = zs.chunk(4, -1)
        tanh_c, before_c = cs.tanh(), self.before_in_tensors(cs, c0)
        slope = [g * i * (1 - i), before_c * f * (1 - f), i * (1 - g * g), tanh_c * o * (1 - o)]
        groups = (cat(slope, -1), o * (1 - tanh_c * tanh_c), f, g_ys, g_cs)
        slopes, to_c, forget, g_hs, g_c = (apply(Steps(), x) for x in groups)
        masks = self.masks(mask, len(cs))
        made: list[Tensor] = []
        dh, dc = h0 * 0, c0 * 0
        for t in reversed(self.order(len(cs))):
            dh, dc = dh + g_hs[t], dc + g_c[t]
            through = where_running(masks[t], dc + dh * to_c[t])
            running = where_running(masks[t], dh)
            made.append(cat([through, through, through, running], -1) * slopes[t])
            dh = past_gradient(masks[t], made[-1] @ w_hh, dh)
            dc = past_gradient(masks[t], through * forget[t], dc)
        dgx = self.back_in_time(made)
        return dgx, weight_gradient_in_tensors(dgx, self.before_in_tensors(ys, h0)), dh, dc

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for case in LstmLoop.samples(rng):
            made = case.op.forward(np, *case.inputs)
            grads = [np.asarray(rng.normal(size=y.shape)) for y in made[:2]]
            inputs = (*grads, *case.inputs[1:4], *made, *case.inputs[4:])
            yield Case(cls(**vars(case.op)), inputs)
