"""The op behind all normalisations: mean 0 and variance 1 along some dimensions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..op import Array, Case, Composite, Refused, Spec, op
from ..tape import apply
from .creation import zeros
from .elementwise import need_floats

if TYPE_CHECKING:
    from ..tensor import Tensor


# --- sums in few passes --------------------------------------------------------------------------


def count_along(shape: Sequence[int], dim: tuple[int, ...]) -> int:
    """Return how many elements lie along some dimensions."""
    return math.prod(shape[d] for d in dim)


def sum_of_products(xp: Any, a: Array, b: Array, dim: tuple[int, ...]) -> Array:
    """Return Σ a·b over `dim`, which are kept as 1, without an array of all products."""
    ndim = a.ndim
    trailing = 0
    while trailing < ndim and ndim - 1 - trailing in dim:
        trailing += 1
    if not trailing:
        places = list(range(ndim))
        out = xp.einsum(a, places, b, places, [d for d in places if d not in dim])
    else:
        lead = a.shape[: ndim - trailing]
        flat = (*lead, math.prod(a.shape[ndim - trailing :]))
        out = xp.vecdot(a.reshape(flat), b.reshape(flat))
        out = out.sum(axis=tuple(d for d in dim if d < len(lead)))
    return xp.reshape(out, tuple(1 if d in dim else n for d, n in enumerate(a.shape)))


def _sum_to(xp: Any, a: Array, shape: tuple[int, ...]) -> Array:
    dims = tuple(d for d, n in enumerate(shape) if n == 1)
    return xp.sum(a, axis=dims, keepdims=True)


def _is_constant_along(weight_shape: tuple[int, ...], dim: tuple[int, ...]) -> bool:
    return all(weight_shape[d] == 1 for d in dim)


class Statistics(Composite):
    """Works with the mean and the variance of x over `dim`; `center` False takes 0 for the mean."""

    dim: tuple[int, ...]
    eps: float
    center: bool

    def check(self, *arrays: Array) -> None:
        need_floats(*arrays)
        if any(a.dtype != arrays[0].dtype for a in arrays):
            raise Refused(f"the dtypes differ: {', '.join(str(a.dtype) for a in arrays)}")

    def centered(self, xp: Any, x: Array) -> tuple[Array, Array, Array, Array]:
        """Return x less its mean, the mean, the variance and 1/√(variance + eps)."""
        n = x.dtype.type(count_along(x.shape, self.dim))
        if self.center:
            mean = xp.sum(x, axis=self.dim, keepdims=True) / n
            xc = xp.asarray(x - mean)
        else:
            mean = xp.zeros([1 if d in self.dim else m for d, m in enumerate(x.shape)], x.dtype)
            xc = xp.array(x)
        var = sum_of_products(xp, xc, xc, self.dim) / n
        return xc, mean, var, 1 / xp.sqrt(var + x.dtype.type(self.eps))

    def standardized(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return x̂ = (x − mean)·r, mean, variance and r = 1/√(variance + eps), in Tensors."""
        if self.center:
            mean = x.mean(self.dim, keepdim=True)
            xc = x - mean
        else:
            xc = x
            mean = zeros([1 if d in self.dim else m for d, m in enumerate(x.shape)], dtype=x.dtype)
        var = (xc * xc).mean(self.dim, keepdim=True)
        scale = 1 / (var + self.eps).sqrt()
        return xc * scale, mean, var, scale


@op
class Normalize(Statistics):
    """y = x̂·weight + bias, x̂ = (x − mean)/√(var + eps);   also returns mean and var

    `weight` and `bias` have as many dimensions as x, and broadcast to it.
    """

    def forward(
        self, xp: Any, x: Array, weight: Array | None = None, bias: Array | None = None
    ) -> tuple[Array, Array, Array]:
        y, mean, var, scale = self.centered(xp, x)
        if weight is not None and _is_constant_along(weight.shape, self.dim):
            scale, weight = scale * weight, None
        y *= scale
        if weight is not None:
            y *= weight
        if bias is not None:
            y += bias
        return y, mean, var

    def infer(self, x: Spec, weight: Spec | None = None, bias: Spec | None = None) -> Any:
        given = [s for s in (x, weight, bias) if s is not None]
        self.check(*given)  # type: ignore[arg-type]
        for name, s in zip(("x", "weight", "bias"), given, strict=False):
            if any(n not in (1, m) for n, m in zip(s.shape, x.shape, strict=True)):
                raise Refused(f"{name} of shape {s.shape} doesn't broadcast to {x.shape}")
        small = Spec(tuple(1 if d in self.dim else n for d, n in enumerate(x.shape)), x.dtype)
        return Spec(x.shape, x.dtype), small, small

    def decompose(self, x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Any:
        y, mean, var, _ = self.standardized(x)
        y = y if weight is None else y * weight
        return y if bias is None else y + bias, mean, var

    def backward(self, gys: Any, x: Tensor, weight: Tensor | None, bias_spec: Spec | None) -> Any:
        gy, g_mean, g_var = gys
        grads: list[Tensor | None] = [None] * (1 + (weight is not None) + (bias_spec is not None))
        if gy is not None:
            inputs = (gy, x) if weight is None else (gy, x, weight)
            outs = apply(NormalizeGrad(self.dim, self.eps, self.center), *inputs)
            grads = list(outs if isinstance(outs, tuple) else (outs,))[: len(grads)]
        n = count_along(x.shape, self.dim)
        if g_mean is not None and self.center:
            grads[0] = _add(grads[0], (g_mean / n).expand(x.shape))
        if g_var is not None:
            xc = x - x.mean(self.dim, keepdim=True) if self.center else x
            grads[0] = _add(grads[0], xc * (g_var * (2 / n)))
        return tuple(grads)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        x = rng.normal(size=(3, 4, 5))
        yield Case(cls((2,), 1e-5, True), (x,))
        for shape, dim, center in (
            ((1, 4, 1), (0, 2), True),
            ((1, 1, 5), (2,), True),
            ((1, 4, 5), (1, 2), False),
        ):
            yield Case(cls(dim, 0.1, center), (x, rng.normal(size=shape), rng.normal(size=shape)))
            yield Case(cls(dim, 0.1, center), (x, rng.normal(size=shape)))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls((1,), 0.1, True), (np.ones((2, 3)), np.ones((1, 4)))), "doesn't broadcast"
        yield Case(cls((1,), 0.1, True), (np.ones((2, 3), np.int64),)), "floating-point"


def _add(a: Tensor | None, b: Tensor) -> Tensor:
    return b if a is None else a + b


@op
class NormalizeGrad(Statistics):
    """∂x = (g·w − mean(g·w) − x̂·mean(g·w·x̂))/√(var + eps), ∂w = Σ g·x̂, ∂bias = Σ g

    Means run over `dim`, sums over the dimensions that w repeats along.  Without w only ∂x.
    """

    def forward(self, xp: Any, g: Array, x: Array, weight: Array | None = None) -> Any:
        n = x.dtype.type(count_along(x.shape, self.dim))
        xhat, _, _, rstd = self.centered(xp, x)
        xhat *= rstd
        constant = weight is None or _is_constant_along(weight.shape, self.dim)
        gw = g if constant or weight is None else g * weight
        s1 = xp.sum(gw, axis=self.dim, keepdims=True)
        s2 = sum_of_products(xp, gw, xhat, self.dim)
        others: tuple[Array, ...] = ()
        if weight is not None:
            others = self._of_weight(xp, g, xhat, weight.shape, (s2, s1) if constant else None)
            rstd = rstd * weight if constant else rstd
        xhat *= s2 / n
        if self.center:
            xhat += s1 / n
        dx = xp.subtract(gw, xhat, out=xhat)
        dx *= rstd
        return (dx, *others) if others else dx

    def _of_weight(
        self, xp: Any, g: Array, xhat: Array, shape: tuple[int, ...], sums: Any
    ) -> tuple[Array, Array]:
        """Return ∂w and ∂bias, from the sums over `dim` where those are a part of the way."""
        if sums is not None:
            return _sum_to(xp, sums[0], shape), _sum_to(xp, sums[1], shape)
        dims = tuple(d for d, n in enumerate(shape) if n == 1)
        return sum_of_products(xp, g, xhat, dims), _sum_to(xp, g, shape)

    def infer(self, g: Spec, x: Spec, weight: Spec | None = None) -> Any:
        dx = Spec(x.shape, x.dtype)
        return (
            dx if weight is None else (dx, Spec(weight.shape, x.dtype), Spec(weight.shape, x.dtype))
        )

    def decompose(self, g: Tensor, x: Tensor, weight: Tensor | None = None) -> Any:
        xhat, _, _, scale = self.standardized(x)
        n = count_along(x.shape, self.dim)
        constant = weight is None or _is_constant_along(weight.shape, self.dim)
        gw = g if constant or weight is None else g * weight
        s1, s2 = (t.sum(self.dim, keepdim=True) for t in (gw, gw * xhat))
        inner = gw - xhat * (s2 / n)
        if self.center:
            inner = inner - s1 / n
        if weight is None:
            return inner * scale
        if constant:
            sums = s2.sum_to_size(weight.shape), s1.sum_to_size(weight.shape)
            return inner * (scale * weight), *sums
        return inner * scale, (g * xhat).sum_to_size(weight.shape), g.sum_to_size(weight.shape)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for case in Normalize.samples(rng):
            x, *rest = case.inputs
            g = np.asarray(rng.normal(size=x.shape))
            yield Case(cls(**vars(case.op)), (g, x, *rest[:1]))


def normalize_over(
    x: Tensor,
    dim: tuple[int, ...],
    eps: float,
    weight: Tensor | None,
    bias: Tensor | None,
    center: bool = True,
) -> Any:
    """Return y, mean and variance; weight and bias have as many dimensions as x."""
    if weight is None and bias is not None:
        y, mean, var = apply(Normalize(dim, eps, center), x)
        return y + bias, mean, var
    inputs = [t for t in (x, weight, bias) if t is not None]
    return apply(Normalize(dim, eps, center), *inputs)
