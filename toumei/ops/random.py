"""Random numbers.  Each draw is a function of a key (seed, counter) and the element's index.

The ops (in `draws.py`) take the key as their only input; the functions here take it from a
Generator, which moves on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..config import config, get_default_dtype
from ..device import Generator, default_generator, on_cpu, sized
from ..errors import OpError, OpTypeError
from ..op import Array, DType, Op
from ..tape import Value, apply, operand, spec_of
from ..traced import known
from .creation import dtype_of
from .draws import (
    CauchyDraw,
    Draw,
    ExponentialDraw,
    GeometricDraw,
    IntegerDraw,
    Multinomial,
    NormalDraw,
    PermutationDraw,
    Shape,
    UniformDraw,
)
from .elementwise import exp
from .shape import sizes_of

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = [
    "bernoulli",
    "multinomial",
    "normal",
    "rand",
    "rand_like",
    "randint",
    "randint_like",
    "randn",
    "randn_like",
    "randperm",
]


def key_of(generator: Generator | None) -> Any:
    """Return the key of the next draw; the generator moves on."""
    source = default_generator() if generator is None else generator
    return source.next_key() if config.trace is None else config.trace.key(source)


def _float(name: str, dtype: Any) -> DType:
    found = dtype_of(dtype)
    if found.kind != "f":
        raise OpTypeError(f"{name}: draws floating-point numbers, not {found}")
    return found


def _refuse_unless(condition: bool, text: str) -> None:
    if not condition:
        raise OpError(text)


def _draw(draw: Op, generator: Generator | None, requires_grad: bool = False) -> Tensor:
    y: Tensor = apply(draw, key_of(generator))
    return y.requires_grad_() if requires_grad else y


# --- functions -----------------------------------------------------------------------------------


@on_cpu
@sized
def rand(
    *size: Any, generator: Generator | None = None, dtype: Any = None, requires_grad: bool = False
) -> Tensor:
    """Uniform numbers in [0, 1).  Shape: size

    float32 numbers have 24 random bits, float64 numbers 53.

    Args:
        size: the shape, as numbers or as one tuple.
        generator: where the key comes from (default: the one that `manual_seed` seeds).
        dtype: float32 or float64 (default: the default dtype).
        requires_grad: whether derivatives with respect to it are wanted.

    Raises:
        OpTypeError: `dtype` isn't floating-point.

    Paper: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

    >>> import toumei as tm
    >>> tm.rand(2, 3).shape
    Size([2, 3])
    """
    return _draw(UniformDraw(sizes_of(size), _float("rand", dtype)), generator, requires_grad)


@on_cpu
@sized
def randn(
    *size: Any, generator: Generator | None = None, dtype: Any = None, requires_grad: bool = False
) -> Tensor:
    """Standard normal numbers: mean 0, variance 1.  Shape: size; arguments as for `rand`

    >>> import toumei as tm
    >>> tm.randn(2, 3).shape
    Size([2, 3])
    """
    return _draw(NormalDraw(sizes_of(size), _float("randn", dtype)), generator, requires_grad)


@on_cpu
def randint(
    low: Any = 0,
    high: Any = None,
    size: Any = None,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
) -> Tensor:
    """Integers from low … high − 1, called as randint(high, size) or randint(low, high, size).

    Shape: size; int64 unless `dtype` says otherwise

    Raises:
        OpError: there is no integer between `low` and `high`, or the dtype doesn't hold them.

    >>> import toumei as tm
    >>> bool((tm.randint(2, 5, (100,)) < 5).all())
    True
    """
    if size is None:
        low, high, size = 0, low, high
    elif high is None:
        low, high = 0, low
    if size is None:
        raise OpTypeError("randint: takes (high, size) or (low, high, size)")
    return _integers("randint", low, high, sizes_of((size,)), dtype_of(dtype, np.int64), generator)


def _integers(
    name: str, low: int, high: int, shape: Shape, dtype: DType, generator: Generator | None
) -> Tensor:
    low, high = int(low), int(high)
    _refuse_unless(low < high, f"{name}: low = {low} must be below high = {high}")
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        fits = info.min <= low and high - 1 <= info.max
        _refuse_unless(fits, f"{name}: {dtype} doesn't hold the numbers {low} to {high - 1}")
    return _draw(IntegerDraw(shape, dtype, low, high), generator)


@on_cpu
def randperm(n: int, *, generator: Generator | None = None, dtype: Any = None) -> Tensor:
    """The numbers 0 … n − 1 in random order.  Shape: (n); int64 unless `dtype` says otherwise

    >>> import toumei as tm
    >>> sorted(tm.randperm(4).tolist())
    [0, 1, 2, 3]
    """
    _refuse_unless(n >= 0, f"randperm: n must not be negative, it is {n}")
    return _draw(PermutationDraw((int(n),), dtype_of(dtype, np.int64)), generator)


@on_cpu
def rand_like(
    input: Tensor,
    *,
    dtype: Any = None,
    requires_grad: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Uniform numbers in [0, 1), in the shape and dtype of `input`.  Shape: (…) -> (…)"""
    dtype = _float("rand_like", input.dtype if dtype is None else dtype)
    return _draw(UniformDraw(tuple(input.shape), dtype), generator, requires_grad)


@on_cpu
def randn_like(
    input: Tensor,
    *,
    dtype: Any = None,
    requires_grad: bool = False,
    generator: Generator | None = None,
) -> Tensor:
    """Standard normal numbers, in the shape and dtype of `input`.  Shape: (…) -> (…)"""
    dtype = _float("randn_like", input.dtype if dtype is None else dtype)
    return _draw(NormalDraw(tuple(input.shape), dtype), generator, requires_grad)


@on_cpu
def randint_like(
    input: Tensor,
    low: int = 0,
    high: int | None = None,
    *,
    dtype: Any = None,
    generator: Generator | None = None,
) -> Tensor:
    """Integers from low … high − 1, as randint_like(x, high) or randint_like(x, low, high).

    Shape: (…) -> (…), in the dtype of `input` unless `dtype` says otherwise
    """
    if high is None:
        low, high = 0, low
    dtype = dtype_of(dtype, input.dtype)
    return _integers("randint_like", low, high, tuple(input.shape), dtype, generator)


@on_cpu
def normal(
    mean: Any,
    std: Any = 1.0,
    size: Sequence[int] | None = None,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Normal numbers: mean + std·z.

    Shape: size for two numbers; else what the tensors `mean` and `std` broadcast to

    Raises:
        OpError: `std` is negative, or `size` is missing or given beside tensors.

    >>> import toumei as tm
    >>> tm.normal(5.0, 0.1, (2, 3)).shape
    Size([2, 3])
    """
    tensors = [v for v in (mean, std) if isinstance(v, Value)]
    deviations = _deviations(std)
    lowest = float(np.min(deviations, initial=np.inf))
    _refuse_unless(lowest >= 0, f"normal: std must not be negative, the smallest is {lowest}")
    if not tensors:
        if size is None:
            raise OpTypeError("normal: two numbers need a size")
        draw = NormalDraw(sizes_of((size,)), _float("normal", dtype), float(mean), float(std))
        return _draw(draw, generator, requires_grad)
    if size is not None:
        raise OpTypeError("normal: tensors have a size already; leave out `size`")
    shape = np.broadcast_shapes(*(t._data.shape for t in tensors))
    found = _float("normal", max((t._data.dtype for t in tensors), key=lambda d: d.itemsize))
    z = _draw(NormalDraw(shape, found), generator)
    return z * operand(std).detach() + operand(mean).detach()


def _deviations(std: Any) -> Array:
    """Return the numbers to check: none while a step is traced."""
    if isinstance(std, Value):
        return np.asarray(std._data, np.float64) if known(std) else np.empty(0)
    return np.asarray(std, np.float64)


def bernoulli(
    input: Tensor, p: float | None = None, *, generator: Generator | None = None
) -> Tensor:
    """1 with a probability, else 0: `input` holds the probabilities unless `p` is given.

    Shape: (…) -> (…), in the dtype of `input`

    Raises:
        OpError: a probability lies outside of 0 to 1.

    >>> import toumei as tm
    >>> tm.bernoulli(tm.tensor([0.0, 1.0]))
    tensor([0., 1.])
    """
    if p is None and input.dtype.kind != "f":
        raise OpTypeError(f"bernoulli({spec_of(input)}): probabilities must be floating-point")
    low, high = (p, p) if p is not None else _range(input)
    _refuse_unless(
        low >= 0 and high <= 1,
        f"bernoulli({spec_of(input)}): probabilities lie in [0, 1], these in [{low}, {high}]",
    )
    dtype = input.dtype if input.dtype.kind == "f" else get_default_dtype()
    u = _draw(UniformDraw(tuple(input.shape), np.dtype(dtype)), generator)
    return (u < (input.detach() if p is None else p)).to(input.dtype)


def _range(x: Tensor) -> tuple[float, float]:
    """Return the smallest and the largest number; (0, 0) if there is none, or for a Spec."""
    if not known(x) or not x._data.size:
        return 0.0, 0.0
    return float(x._data.min()), float(x._data.max())


def multinomial(
    input: Tensor,
    num_samples: int,
    replacement: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """Indices drawn from each row with the row's weights, which need not add up to 1.

    Shape: (n) -> (num_samples), (m, n) -> (m, num_samples); int64

    Raises:
        OpError: a weight is negative or not finite, or there are too few above 0.

    >>> import toumei as tm
    >>> tm.multinomial(tm.tensor([0.0, 3.0, 0.0]), 2, replacement=True)
    tensor([1, 1])
    """
    call = f"multinomial({spec_of(input)}, num_samples={num_samples})"
    _refuse_unless(input.ndim in (1, 2), f"{call}: expected 1 or 2 dimensions")
    _refuse_unless(num_samples > 0, f"{call}: at least one sample must be drawn")
    if input.dtype.kind != "f":
        raise OpTypeError(f"{call}: weights must be floating-point")
    n = input.shape[-1]
    if not replacement and num_samples > n:
        raise OpError(f"{call}: {num_samples} of {n} can't be drawn without replacement")
    shape = (*input.shape[:-1], num_samples if replacement else n)
    u = _draw(UniformDraw(shape, np.dtype("float64")), generator)
    return apply(Multinomial(num_samples, replacement), input.detach(), u)


# --- methods: each draws what the in-place method of the same name puts into a tensor -----------


def _like(
    name: str, draw: type[Draw], input: Tensor, generator: Generator | None, *fields: float
) -> Tensor:
    return _draw(draw(tuple(input.shape), _float(name, input.dtype), *fields), generator)


def uniform(
    input: Tensor, from_: float = 0.0, to: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Uniform numbers in [from_, to), in the shape and dtype of `input`.  Shape: (…) -> (…)"""
    _refuse_unless(from_ <= to, f"uniform_: from_ = {from_} lies above to = {to}")
    return _like("uniform_", UniformDraw, input, generator, float(from_), float(to))


def normal_like(
    input: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Normal numbers, in the shape and dtype of `input`.  Shape: (…) -> (…)"""
    _refuse_unless(std >= 0, f"normal_: std must not be negative, it is {std}")
    return _like("normal_", NormalDraw, input, generator, float(mean), float(std))


def log_normal(
    input: Tensor, mean: float = 1.0, std: float = 2.0, *, generator: Generator | None = None
) -> Tensor:
    """Numbers whose logarithm is normal, with a mean and a std.  Shape: (…) -> (…)"""
    _refuse_unless(std > 0, f"log_normal_: std must be above 0, it is {std}")
    return exp(_like("log_normal_", NormalDraw, input, generator, float(mean), float(std)))


def exponential(input: Tensor, lambd: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Numbers with the density λ·exp(−λy).  Shape: (…) -> (…)"""
    _refuse_unless(lambd > 0, f"exponential_: lambd must be above 0, it is {lambd}")
    return _like("exponential_", ExponentialDraw, input, generator, float(lambd))


def cauchy(
    input: Tensor, median: float = 0.0, sigma: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Numbers with the density σ / (π(σ² + (y − median)²)).  Shape: (…) -> (…)"""
    _refuse_unless(sigma > 0, f"cauchy_: sigma must be above 0, it is {sigma}")
    return _like("cauchy_", CauchyDraw, input, generator, float(median), float(sigma))


def geometric(input: Tensor, p: float, *, generator: Generator | None = None) -> Tensor:
    """How many trials it takes up to the first success: P(k) = (1 − p)ᵏ⁻¹·p.  Shape: (…) -> (…)"""
    _refuse_unless(0 < p <= 1, f"geometric_: p must lie in (0, 1], it is {p}")
    dtype = input.dtype if input.dtype.kind == "f" else np.dtype("float64")
    return _draw(GeometricDraw(tuple(input.shape), dtype, float(p)), generator).to(input.dtype)


def bernoulli_like(input: Tensor, p: Any = 0.5, *, generator: Generator | None = None) -> Tensor:
    """1 with probability `p` (a number, or a tensor that broadcasts), else 0.  Shape: (…) -> (…)"""
    if not isinstance(p, Value):
        return bernoulli(input, p, generator=generator)
    chances: Tensor = operand(p).expand(input.shape)
    return bernoulli(chances, generator=generator).to(input.dtype)


#: The largest number + 1 that `random_` draws: all that the dtype holds exactly.
_TOP: dict[str, int] = {
    "bool": 2, "uint8": 256, "int32": 2**31, "int64": 2**63 - 1, "float32": 2**24 + 1,
    "float64": 2**53 + 1,
}  # fmt: skip


def random(input: Tensor, *bounds: int, generator: Generator | None = None) -> Tensor:
    """Integers in the shape and dtype of `input`, as random_(), random_(to), random_(from, to).

    Without bounds they go from 0 to the largest that the dtype holds exactly.  Shape: (…) -> (…)
    """
    bounds = bounds or (_TOP[input.dtype.name],)
    low, high = bounds if len(bounds) == 2 else (0, *bounds)
    return _integers("random_", low, high, tuple(input.shape), input.dtype, generator)
