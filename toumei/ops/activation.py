"""Activations with corners, and simple smooth ones (gelu, silu: `smooth.py`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..config import config
from ..errors import OpError
from ..op import Array, Case, Elementwise, Spec, op
from ..tape import apply, spec_of
from ..views import assign
from . import rounding
from .choice import where
from .elementwise import need_floats

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = [
    "celu",
    "elu",
    "glu",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "logsigmoid",
    "prelu",
    "relu",
    "relu6",
    "rrelu",
    "selu",
    "sigmoid",
    "softplus",
    "softshrink",
    "softsign",
    "tanh",
    "tanhshrink",
    "threshold",
]


class Activation(Elementwise):
    """An elementwise function of floating-point numbers; nothing is promoted."""

    broadcasts = False
    promote = ""

    def check(self, *arrays: Array) -> None:
        need_floats(*arrays)

    def infer(self, *specs: Spec) -> Spec:
        need_floats(*specs)
        return Spec(specs[0].shape, specs[0].dtype)

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        for case in cls.samples(np.random.default_rng(0)):
            yield Case(case.op, tuple(a.astype(np.int64) for a in case.inputs)), "floating-point"
            return


# --- relu and its kin ----------------------------------------------------------------------------


@op
class Gate(Activation):
    """y = g where x > 0, slope·g where x ≤ 0;   linear in g, constant in x"""

    slope: float

    def forward(self, xp: Any, g: Array, x: Array) -> Array:
        closed = xp.asarray(x <= 0).view(np.int8)
        if self.slope:
            return xp.multiply(xp.array([1, self.slope], g.dtype).take(closed), g)
        # Bits, not a product with 0: an infinite g must give 0 too.  Many times faster than where.
        bits = xp.asarray(g).view(np.int32 if g.dtype.itemsize == 4 else np.int64)
        return xp.asarray(xp.bitwise_and(closed - np.int8(1), bits)).view(g.dtype)

    def backward_g(self, gy: Tensor, x: Tensor) -> Tensor:
        return apply(self, gy, x)

    def lower(self, b: Any, g: Any, x: Any) -> Any:
        return b.where(b.le(x, 0.0), b.mul(g, self.slope) if self.slope else 0.0, g)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for slope in (0.0, 0.3):
            for shape in ((), (2, 0), (3, 4)):
                yield Case(cls(slope), (rng.normal(size=shape), rng.normal(size=shape)))


@op
class Relu(Elementwise):
    """y = max(x, 0);   dy/dx = 1 where x > 0, else 0"""

    promote = ""

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.maximum(x, x.dtype.type(0))

    def lower(self, b: Any, x: Any) -> Any:
        return b.maximum(x, 0)

    def backward(self, gy: Tensor, y: Tensor) -> Tensor:
        return apply(Gate(0.0), gy, y)


@op
class LeakyRelu(Activation):
    """y = x where x > 0, else slope·x;   dy/dx = 1 or slope"""

    slope: float

    def forward(self, xp: Any, x: Array) -> Array:
        if 0 < self.slope <= 1:
            return xp.maximum(x, x * x.dtype.type(self.slope))
        return Gate(self.slope).forward(xp, x, x)

    def lower(self, b: Any, x: Any) -> Any:
        return Gate(self.slope).lower(b, x, x)

    def backward(self, gy: Tensor, x: Tensor) -> Tensor:
        return apply(Gate(self.slope), gy, x)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for slope in (0.01, 2.0, -0.5):
            yield Case(cls(slope), (rng.normal(size=(3, 4)),))


@op
class Elu(Activation):
    """y = s·x where x > 0, else s·α·(e^(r·x) − 1), with scale s and rate r

    dy/dx = s, or s·α·r·e^(r·x)
    """

    alpha: float
    scale: float
    rate: float

    def forward(self, xp: Any, x: Array) -> Array:
        real = x.dtype.type
        y = xp.expm1(xp.minimum(x, 0) * real(self.rate))
        y = y * real(self.alpha)
        y = y + xp.maximum(x, 0)
        return y * real(self.scale)

    def lower(self, b: Any, x: Any) -> Any:
        below = b.mul(b.expm1(b.mul(x, self.rate)), self.alpha * self.scale)
        return b.where(b.gt(x, 0.0), b.mul(x, self.scale), below)

    def backward(self, gy: Tensor, x: Tensor) -> Tensor:
        positive = x > 0
        slope = (x.masked_fill(positive, 0) * self.rate).exp() * (self.alpha * self.rate)
        return gy * (slope.masked_fill(positive, 1) * self.scale)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for fields in ((1.0, 1.0, 1.0), (0.5, 2.0, 1.5)):
            yield Case(cls(*fields), (rng.normal(size=(3, 4)),))


@op
class Hardtanh(Activation):
    """y = x cut off at low and high;   dy/dx = 1 strictly between them, else 0"""

    low: float
    high: float

    def forward(self, xp: Any, x: Array) -> Array:
        return xp.clip(x, x.dtype.type(self.low), x.dtype.type(self.high))

    def lower(self, b: Any, x: Any) -> Any:
        return b.clamp(x, self.low, self.high)

    def backward(self, gy: Tensor, x: Tensor) -> Tensor:
        return gy.masked_fill((x <= self.low) | (x >= self.high), 0)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case(cls(-1.0, 0.5), (rng.uniform(-2, 2, (3, 4)),))


# --- smooth ones ---------------------------------------------------------------------------------


@op
class Softplus(Activation):
    """y = ln(1 + e^(βx))/β, x itself where βx > threshold;   dy/dx = σ(βx), 1 there"""

    beta: float
    threshold: float

    def forward(self, xp: Any, x: Array) -> Array:
        z = x * x.dtype.type(self.beta)
        y = xp.maximum(z, 0) + xp.log1p(xp.exp(-xp.abs(z)))
        if self.threshold < math.inf:
            y = xp.where(z > self.threshold, z, y)
        return y / x.dtype.type(self.beta)

    def lower(self, b: Any, x: Any) -> Any:
        z = b.mul(x, self.beta)
        return b.div(b.where(b.gt(z, self.threshold), z, b.softplus(z)), self.beta)

    def backward(self, gy: Tensor, x: Tensor) -> Tensor:
        z = x * self.beta
        slope = z.sigmoid()
        if self.threshold < math.inf:
            slope = slope.masked_fill(z > self.threshold, 1)
        return gy * slope

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for beta, threshold in ((1.0, 20.0), (2.0, 1.0), (1.0, math.inf)):
            yield Case(cls(beta, threshold), (rng.uniform(-3, 3, (3, 4)),))


# --- functions -----------------------------------------------------------------------------------


def maybe_in_place(
    function: Callable[[Tensor], Tensor], input: Tensor, inplace: bool, name: str
) -> Tensor:
    """Call a function and, if `inplace`, let the result take the place of the input's value."""
    if not inplace:
        return function(input)
    # What backward needs of the input must survive the change: then the function gets a copy.
    keeps = config.grad and input._edge() is not None
    return assign(input, function(input.clone() if keeps else input), name)


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """Rectified linear unit: max(x, 0).  Shape: (…) -> (…)

    >>> import toumei as tm
    >>> tm.relu(tm.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """
    return maybe_in_place(lambda x: apply(Relu(), x), input, inplace, "relu_")


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x, 0), 6).  Shape: (…) -> (…)"""
    return hardtanh(input, 0.0, 6.0, inplace)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where x > 0, else negative_slope·x.  Shape: (…) -> (…)"""
    f = LeakyRelu(float(negative_slope))
    return maybe_in_place(lambda x: apply(f, x), input, inplace, "leaky_relu_")


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """Exponential linear unit: x where x > 0, else α·(eˣ − 1).  Shape: (…) -> (…)

    Paper: Clevert et al. 2015, arXiv:1511.07289.
    """
    return maybe_in_place(lambda x: apply(Elu(float(alpha), 1.0, 1.0), x), input, inplace, "elu_")


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """Elu without a kink: x where x > 0, else α·(e^(x/α) − 1).  Shape: (…) -> (…)

    Raises:
        OpError: alpha is 0.

    Paper: Barron 2017, arXiv:1704.07483.
    """
    if alpha == 0:
        raise OpError("celu: alpha must not be 0: x is divided by it")
    f = Elu(float(alpha), 1.0, 1 / alpha)
    return maybe_in_place(lambda x: apply(f, x), input, inplace, "celu_")


#: Klambauer et al. 2017: the two constants that keep mean 0 and variance 1.
SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """Self-normalising linear unit: s·x where x > 0, else s·α·(eˣ − 1).  Shape: (…) -> (…)

    Paper: Klambauer et al. 2017, arXiv:1706.02515.
    """
    f = Elu(SELU_ALPHA, SELU_SCALE, 1.0)
    return maybe_in_place(lambda x: apply(f, x), input, inplace, "selu_")


def softplus(input: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    """ln(1 + e^(βx))/β: a smooth relu; x itself where β·x > threshold.  Shape: (…) -> (…)

    Raises:
        OpError: beta is 0.
    """
    if beta == 0:
        raise OpError("softplus: beta must not be 0: the result is divided by it")
    return apply(Softplus(float(beta), float(threshold)), input)


def logsigmoid(input: Tensor) -> Tensor:
    """ln σ(x) = −ln(1 + e⁻ˣ), without overflow.  Shape: (…) -> (…)"""
    return -apply(Softplus(1.0, math.inf), -input)


def softsign(input: Tensor) -> Tensor:
    """x/(1 + |x|).  Shape: (…) -> (…)"""
    return input / (1 + input.abs())


def hardtanh(
    input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Tensor:
    """x cut off at min_val and max_val.  Shape: (…) -> (…)

    Raises:
        OpError: min_val is larger than max_val.
    """
    if min_val > max_val:
        raise OpError(f"hardtanh: min_val ({min_val}) must not be larger than max_val ({max_val})")
    if input.dtype.kind in "iu":
        low, high = int(min_val), int(max_val)
        return maybe_in_place(lambda x: rounding.clamp(x, low, high), input, inplace, "hardtanh_")
    f = Hardtanh(float(min_val), float(max_val))
    return maybe_in_place(lambda x: apply(f, x), input, inplace, "hardtanh_")


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x + 3, 0), 6)/6: a sigmoid of three straight lines.  Shape: (…) -> (…)"""
    return maybe_in_place(lambda x: relu6(x + 3) / 6, input, inplace, "hardsigmoid_")


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """x·hardsigmoid(x).  Shape: (…) -> (…)

    Paper: Howard et al. 2019, arXiv:1905.02244.
    """
    return maybe_in_place(lambda x: x * hardsigmoid(x), input, inplace, "hardswish_")


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """0 where |x| ≤ λ, else x.  Shape: (…) -> (…)"""
    return input.masked_fill((input >= -lambd) & (input <= lambd), 0)


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x moved towards 0 by λ, at most to 0.  Shape: (…) -> (…)

    Raises:
        OpError: lambd is negative.
    """
    if lambd < 0:
        raise OpError(f"softshrink: lambd must be at least 0, not {lambd}")
    return input - input.clamp(-lambd, lambd)


def tanhshrink(input: Tensor) -> Tensor:
    """x − tanh x.  Shape: (…) -> (…)"""
    return input - input.tanh()


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """x where x > threshold, else value.  Shape: (…) -> (…)"""
    return maybe_in_place(
        lambda x: x.masked_fill(x <= threshold, value), input, inplace, "threshold_"
    )


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """x where x > 0, else weight·x, with one learnt weight, or one per channel (dim 1).

    Shape: (n, c, …), (c) or (1) -> (n, c, …)

    Raises:
        OpError: the number of weights is neither 1 nor the number of channels.

    Paper: He et al. 2015, arXiv:1502.01852.
    """
    if weight.numel() != 1:
        channels = input.shape[1] if input.ndim > 1 else 1
        if weight.ndim != 1 or weight.numel() != channels:
            raise OpError(
                f"prelu(input: {spec_of(input)}, weight: {spec_of(weight)}): there must be 1 "
                f"weight or one per channel, and the input has {channels} channels"
            )
        weight = weight.reshape(-1, *[1] * (input.ndim - 2))
    elif weight.ndim > input.ndim:
        weight = weight.reshape(())
    return where(input > 0, input, weight * input)


def rrelu(
    input: Tensor,
    lower: float = 1.0 / 8,
    upper: float = 1.0 / 3,
    training: bool = False,
    inplace: bool = False,
) -> Tensor:
    """Leaky relu whose slope is drawn from [lower, upper] per element when training.

    Otherwise the slope is (lower + upper)/2.  Shape: (…) -> (…)

    Raises:
        OpError: lower is larger than upper.
    """
    if lower > upper:
        raise OpError(f"rrelu: lower ({lower}) must not be larger than upper ({upper})")
    if not training:
        return leaky_relu(input, (lower + upper) / 2, inplace)
    return maybe_in_place(
        lambda x: where(x > 0, x, _slopes(x, lower, upper) * x), input, inplace, "rrelu_"
    )


def _slopes(x: Tensor, lower: float, upper: float) -> Tensor:
    """Draw a slope for each element."""
    from .random import rand  # the random ops stand above this file

    return lower + (upper - lower) * rand(*x.shape, dtype=x.dtype)


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """a·σ(b), with a and b the two halves of the input along `dim`.  Shape: (…, 2n, …) -> (…, n, …)

    Raises:
        OpError: the size of `dim` is odd, or the input has no dimension.

    Paper: Dauphin et al. 2016, arXiv:1612.08083.
    """
    if input.ndim == 0:
        raise OpError(f"glu({spec_of(input)}): a tensor without dimensions can't be halved")
    size = input.shape[dim]
    if size % 2:
        raise OpError(f"glu({spec_of(input)}): dim {dim} is halved, but has the odd size {size}")
    a, b = input.split_with_sizes([size // 2, size // 2], dim)
    return a * b.sigmoid()


def sigmoid(input: Tensor) -> Tensor:
    """σ(x) = 1/(1 + e⁻ˣ).  Shape: (…) -> (…)"""
    return input.sigmoid()


def tanh(input: Tensor) -> Tensor:
    """Hyperbolic tangent.  Shape: (…) -> (…)"""
    return input.tanh()
