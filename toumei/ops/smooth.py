"""Smooth activations, each one op with a fast forward and backward: gelu, silu, mish."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import OpError
from ..numerics.error import erfc
from ..op import Array, Case, Composite, Spec, op
from ..tape import apply
from .activation import maybe_in_place, softplus
from .blocks import in_blocks
from .elementwise import need_floats

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = ["gelu", "mish", "silu"]


class FastElementwise(Composite):
    """A composite of elementwise ops, all inputs of one shape, with a faster `forward`."""

    def check(self, *arrays: Array) -> None:
        need_floats(*arrays)

    def infer(self, *specs: Spec) -> Spec:
        need_floats(*specs)
        return Spec(specs[0].shape, specs[0].dtype)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for shape in ((), (3,), (2, 0), (2, 3, 4)):
            yield Case(cls(), tuple(rng.uniform(-3, 3, shape) for _ in cls.params))


# --- gelu ----------------------------------------------------------------------------------------

SQRT_HALF = math.sqrt(0.5)
NORMAL_PEAK = 1 / math.sqrt(2 * math.pi)  # the density of the normal distribution at 0

# Φ(−a)·e^(a²/2) = Σ cᵢ·tⁱ, t = 1/(1 + 0.3·a), 0 ≤ a ≤ 14: a least-squares fit with its largest
# relative error, 1.5e-7, made as small as possible; 5e-7 when evaluated in float32.
_TAIL = (
    0.03567482853292223, -0.1572033038882182, 0.20635387321516283, -0.05368396491107863,
    0.12856178560657588, 0.09991344751012027, 0.12075396257718332, 0.1196292984417431,
)  # fmt: skip


def _tail(xp: Any, a: Array, density: Array) -> Array:
    """Return Φ(−a), a ≥ 0, with full relative precision; `density` is e^(−a²/2)."""
    if a.dtype == np.float64:
        return erfc(a * SQRT_HALF) * 0.5
    real = a.dtype.type
    t = xp.asarray(a * real(0.3))
    t += 1
    xp.divide(1, t, out=t)
    y = xp.asarray(t * real(_TAIL[0]))
    for coefficient in _TAIL[1:]:
        y += real(coefficient)
        y *= t
    y *= density
    return y


def _parts(xp: Any, x: Array) -> tuple[Array, Array, Array]:
    """Return a = |x| (at most 14: beyond, all is 0), e^(−a²/2), and Φ(−a)."""
    a = xp.asarray(xp.minimum(xp.abs(x), x.dtype.type(14 if x.dtype == np.float32 else 40)))
    density = xp.asarray(a * a)
    density *= x.dtype.type(-0.5)
    xp.exp(density, out=density)
    return a, density, _tail(xp, a, density)


@op
class Gelu(FastElementwise):
    """y = x·Φ(x), Φ(x) = (1 + erf(x/√2))/2;   dy/dx = Φ(x) + x·φ(x), φ(x) = e^(−x²/2)/√(2π)"""

    def forward(self, xp: Any, x: Array) -> Array:
        return in_blocks(xp, _gelu, x)

    def decompose(self, x: Tensor) -> Tensor:
        return x * (0.5 + 0.5 * (x * SQRT_HALF).erf())

    def lower(self, b: Any, x: Any) -> Any:
        return b.gelu(x)

    def backward(self, gy: Tensor, x: Tensor) -> Tensor:
        return apply(GeluGrad(), gy, x)


@op
class GeluGrad(FastElementwise):
    """y = g·(Φ(x) + x·φ(x)): the derivative of gelu"""

    def forward(self, xp: Any, g: Array, x: Array) -> Array:
        return in_blocks(xp, _gelu_grad, g, x)

    def decompose(self, g: Tensor, x: Tensor) -> Tensor:
        cdf = 0.5 + 0.5 * (x * SQRT_HALF).erf()
        return g * (cdf + x * ((x * x * -0.5).exp() * NORMAL_PEAK))

    def lower(self, b: Any, g: Any, x: Any) -> Any:
        return b.mul(g, b.gelu_slope(x))


def _gelu(xp: Any, x: Array) -> Array:
    a, _, tail = _parts(xp, x)
    tail *= a
    return xp.subtract(xp.maximum(x, 0), tail)  # max(x, 0) − a·Φ(−a)


def _gelu_grad(xp: Any, g: Array, x: Array) -> Array:
    a, density, tail = _parts(xp, x)
    a *= density
    a *= x.dtype.type(NORMAL_PEAK)
    tail -= a
    # Φ(x) + x·φ(x) is r = Φ(−a) − a·φ(a) for negative x, else 1 − r.
    positive = xp.asarray(x >= 0).astype(x.dtype)
    tail *= 1 - 2 * positive
    tail += positive
    tail *= g
    return tail


# --- silu ----------------------------------------------------------------------------------------


@op
class Silu(FastElementwise):
    """y = x·σ(x);   dy/dx = σ(x)·(1 + x·(1 − σ(x)))"""

    def forward(self, xp: Any, x: Array) -> Array:
        return in_blocks(xp, _silu, x)

    def decompose(self, x: Tensor) -> Tensor:
        return x * x.sigmoid()

    def lower(self, b: Any, x: Any) -> Any:
        return b.div(x, b.add(b.exp(b.neg(x)), 1.0))

    def backward(self, gy: Tensor, x: Tensor) -> Tensor:
        return apply(SiluGrad(), gy, x)


@op
class SiluGrad(FastElementwise):
    """y = g·s·(1 + x·(1 − s)) with s = σ(x): the derivative of silu"""

    def forward(self, xp: Any, g: Array, x: Array) -> Array:
        return in_blocks(xp, _silu_grad, g, x)

    def decompose(self, g: Tensor, x: Tensor) -> Tensor:
        s = x.sigmoid()
        return g * (s * (1 + x * (1 - s)))

    def lower(self, b: Any, g: Any, x: Any) -> Any:
        s = b.sigmoid(x)
        return b.mul(g, b.mul(s, b.fma(x, b.sub(1.0, s), 1.0)))


def _one_plus_exp_minus(xp: Any, x: Array) -> Array:
    y = xp.asarray(xp.exp(-x))
    y += 1
    return y


def _silu(xp: Any, x: Array) -> Array:
    return x / _one_plus_exp_minus(xp, x)


def _silu_grad(xp: Any, g: Array, x: Array) -> Array:
    s = 1 / _one_plus_exp_minus(xp, x)
    y = xp.asarray(1 - s)
    y *= x
    y += 1
    y *= s
    y *= g
    return y


# --- functions -----------------------------------------------------------------------------------


def gelu(input: Tensor, *, approximate: str = "none") -> Tensor:
    """x·Φ(x), with Φ the normal distribution's cumulative function.  Shape: (…) -> (…)

    Args:
        approximate: "tanh" takes (1 + tanh(√(2/π)·(x + 0.044715·x³)))/2 for Φ(x).

    Raises:
        OpError: `approximate` is neither "none" nor "tanh".

    Paper: Hendrycks & Gimpel 2016, arXiv:1606.08415.

    >>> import toumei as tm
    >>> tm.nn.functional.gelu(tm.tensor([-1.0, 0.0, 1.0]))
    tensor([-0.1587,  0.    ,  0.8413])
    """
    if approximate == "none":
        return apply(Gelu(), input)
    if approximate != "tanh":
        raise OpError(f"gelu: approximate must be 'none' or 'tanh', not {approximate!r}")
    inner = input * (1 + 0.044715 * (input * input)) * math.sqrt(2 / math.pi)
    return input * (0.5 + 0.5 * inner.tanh())


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """x·σ(x), also called swish.  Shape: (…) -> (…)

    Paper: Elfwing et al. 2017, arXiv:1702.03118.
    """
    return maybe_in_place(lambda x: apply(Silu(), x), input, inplace, "silu_")


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """x·tanh(ln(1 + eˣ)).  Shape: (…) -> (…)

    Paper: Misra 2019, arXiv:1908.08681.
    """
    return maybe_in_place(lambda x: x * softplus(x).tanh(), input, inplace, "mish_")
