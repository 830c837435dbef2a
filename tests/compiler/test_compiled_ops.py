"""Every op of the registry as machine code computes what it does eager: values, derivatives.

Each op's samples are one step: results, gradients, and gradients of a weighing of these.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

import toumei as tm
import toumei.nn.functional as F
from tests.compiler.agree import Array, check, executor, fallbacks, native, scattered
from toumei.config import run_quietly
from toumei.errors import GradError, ToumeiError
from toumei.op import REGISTRY, Case, Elementwise, Random, Reduction
from toumei.ops.reduction import ArgExtreme
from toumei.ops.sorting import Middle
from toumei.tape import apply, wrap
from toumei.tensor import Tensor
from toumei.testing import op_cases

OPS = {n: c for n, c in REGISTRY.items() if c.__module__.startswith("toumei.")}

Weights = list[Tensor]


# --- a step that differentiates an op -------------------------------------------------------------


def derivatives(op: Any, inputs: Sequence[Tensor], w: Weights, v: Weights, order: int) -> Any:
    """Return the results of an op, and gradients of the orders up to `order`."""
    made = apply(op, *inputs)
    outs = made if isinstance(made, tuple) else (made,)
    found = [y.detach() for y in outs]
    real = [y for y in outs if y.requires_grad]
    if not real or order == 0:
        return found
    leaves = [x for x in inputs if x.requires_grad]
    total = sum(((y * k).sum() for y, k in zip(real, w, strict=True)), start=tm.tensor(0.0))
    first = tm.autograd.grad(total, leaves, create_graph=order > 1, allow_unused=True)
    found += [g.detach() for g in first if g is not None]
    weighed = [(g * k).sum() for g, k in zip(first, v, strict=True) if g is not None]
    if order > 1 and (weighed := [s for s in weighed if s.requires_grad]):
        second = tm.autograd.grad(sum(weighed[1:], start=weighed[0]), leaves, allow_unused=True)
        found += [g.detach() for g in second if g is not None]
    return found


def prepared(case: Case, dtype: str) -> tuple[list[Tensor], Weights, Weights]:
    """Return an op's inputs as tensors, scattered in memory for float32, and weights."""
    rng = np.random.default_rng(1)
    inputs = [_tensor(a, dtype) for a in case.inputs]
    made = run_quietly(apply, case.op, *inputs)
    outs = made if isinstance(made, tuple) else (made,)

    def weights(tensors: Sequence[Tensor]) -> Weights:
        shapes = [(t.shape, str(t.dtype)) for t in tensors if t.requires_grad]
        return [wrap(np.asarray(rng.uniform(0.5, 1.5, s)).astype(d)) for s, d in shapes]

    return inputs, weights(outs), weights(inputs)


def _tensor(a: Array, dtype: str) -> Tensor:
    if a.dtype != np.float64:
        return wrap(np.array(a))
    a = np.asarray(a).astype(dtype)
    return wrap(scattered(a) if dtype == "float32" else a).requires_grad_()


def order_of(case: Case, dtype: str, most: int) -> int:
    """Return the highest order up to `most` that eager has all derivatives of."""
    for order in range(most, 0, -1):
        try:
            run_quietly(derivatives, case.op, *prepared(case, dtype), order)
        except GradError:
            continue
        return order
    return 0


def check_cases(cases: Sequence[Case], dtype: str, most: int = 2, target: Any = None) -> Any:
    """Compare all cases in one step; return it, compiled."""
    data = [prepared(case, dtype) for case in cases]
    orders = [order_of(case, dtype, most) for case in cases]

    def step(data: Any) -> Any:
        return [
            derivatives(case.op, *given, order)
            for case, given, order in zip(cases, data, orders, strict=True)
        ]

    return check(step, data, target=target)


# --- samples -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", OPS)
def test_samples(name: str, dtype: str) -> None:
    cases = op_cases(OPS[name])
    if dtype == "float32" and issubclass(OPS[name], Random):  # its input is a key of integers
        pytest.skip("the same as with float64")
    check_cases(cases, dtype, most=2 if dtype == "float64" else 1)


# --- sizes, dtypes, numbers that aren't finite ----------------------------------------------------

SHAPES = ((17,), (1,), (0,), (15, 16), (33, 5), (3, 17, 9), (16, 1, 17), (0, 3), (300, 7), (5, 300))
INTEGERS = ("int64", "int32", "uint8", "bool")
REDUCTIONS = {n: c for n, c in OPS.items() if issubclass(c, Reduction)}


def reductions(cls: type[Reduction]) -> Iterator[Case]:
    """Yield reductions along all choices of dims, with the other fields of the op's samples."""
    rng = np.random.default_rng(3)
    for shape in SHAPES:
        ndim = len(shape)
        counts = list(range(1, ndim + 1))
        if issubclass(cls, ArgExtreme | Middle):  # which take one, or all
            counts = [1] if issubclass(cls, Middle) or ndim == 1 else [1, ndim]
        for dims in itertools.chain(*(itertools.combinations(range(ndim), k) for k in counts)):
            if cls.needs_elements and 0 in shape:
                continue
            op = _with_dims(cls, dims, keepdim=bool(rng.integers(2)))
            yield Case(op, (rng.uniform(-2, 2, shape),))
            if shape == (3, 17, 9):
                yield Case(op, (_spoilt(rng.uniform(-2, 2, shape), rng),))
                yield from (Case(op, (_whole(shape, d, rng),)) for d in INTEGERS)


@functools.cache
def _sample(cls: type[Reduction]) -> Any:
    return op_cases(cls)[0].op


def _with_dims(cls: type[Reduction], dims: tuple[int, ...], keepdim: bool) -> Any:
    fields = {f: getattr(_sample(cls), f) for f in cls.fields}
    return cls(**{**fields, "dim": dims, "keepdim": keepdim})


def _spoilt(x: Array, rng: np.random.Generator) -> Array:
    x.reshape(-1)[rng.choice(x.size, 4, replace=False)] = [np.nan, np.inf, -np.inf, np.inf]
    return x


def _whole(shape: tuple[int, ...], dtype: str, rng: np.random.Generator) -> Array:
    low, high = {"bool": (0, 2), "uint8": (0, 256)}.get(dtype, (-300, 300))
    return rng.integers(low, high, shape).astype(dtype)


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions_along_any_dims(name: str) -> None:
    cases = [c for c in reductions(REDUCTIONS[name]) if _is_taken(c)]
    check_cases(cases, "float64", most=0)


def _is_taken(case: Case) -> bool:
    """Tell whether eager takes the arguments (some reductions are of floats only)."""
    try:
        run_quietly(apply, case.op, *map(wrap, case.inputs))
    except ToumeiError:
        return False
    return True


ELEMENTWISE = {n: c for n, c in OPS.items() if issubclass(c, Elementwise) and hasattr(c, "lower")}
SPECIAL = np.array([np.nan, np.inf, -np.inf, 0, -0.0, 1, -1, 0.5, -2.5, 88, -100, 1e10, -1e30])


def elementwise(cls: type[Elementwise]) -> Iterator[Case]:
    """Yield numbers that aren't finite in all combinations, and integers."""
    sample = next(c for c in op_cases(cls) if c.inputs[0].ndim)
    count = len(sample.inputs)
    if any(a.dtype.kind != "f" for a in sample.inputs):
        return
    yield Case(sample.op, tuple(a.reshape(-1) for a in np.meshgrid(*[SPECIAL] * count)))
    for dtype in ("int64", "bool"):
        inputs = [np.resize(np.abs(a * 4) + 1, 19).astype(dtype) for a in sample.inputs]
        yield Case(sample.op, tuple(inputs))


@pytest.mark.parametrize("part", range(8))
def test_special_numbers(part: int) -> None:
    """Forward and backward: NaN and infinity come out where they do eager."""
    names = sorted(ELEMENTWISE)[part::8]
    cases = [c for n in names for c in elementwise(ELEMENTWISE[n]) if _is_taken(c)]
    assert len(cases) > len(names)
    check_cases(cases, "float32", most=1)


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 1_000_003])
def test_sizes(size: int) -> None:
    def rows(x: Tensor) -> Tensor:
        return F.softmax(x.reshape(1, -1), 1) if size else x

    def step(x: Tensor, y: Tensor, w: Tensor) -> Any:
        z = (x * w).tanh() + y.sigmoid()
        loss = (z * z).sum() + (z - z.detach().mean()).abs().sum()
        (gx, gw) = tm.autograd.grad(loss, [x, w])
        chosen = tm.where(x > y, x, 2 * y).detach()
        return z.detach(), loss.detach(), gx, gw, chosen, rows(x.detach())

    rng = np.random.default_rng(0)
    x, y = (wrap(rng.normal(size=size)) for _ in range(2))
    check(step, x.requires_grad_(), y, tm.tensor(0.7, dtype=tm.float64).requires_grad_())


# --- what runs as Python --------------------------------------------------------------------------


def test_common_ops_have_kernels() -> None:
    """None of what networks are made of is left to Python."""

    def step(x: Tensor, w: Tensor, tokens: Tensor) -> Any:
        h = F.embedding(tokens, w)
        h = F.layer_norm(h, [h.shape[-1]])
        h = F.dropout(h @ h.mT, 0.1) + tm.cat([x, x.flip([0])], 0)[:, None]
        h = F.softmax(h, -1).cumsum(-1)
        return h, h.argmax(-1), F.max_pool2d(h[None], 2), h.sort(-1)[0]

    x, w = tm.randn(2, 6), tm.randn(9, 8)
    compiled = native(step)
    compiled(x, w, tm.randint(0, 9, (4, 6)))
    assert fallbacks(compiled) <= {"Argsort", "Flip"}


def test_views_cost_nothing() -> None:
    """Views are read where they lie: the step is one kernel."""

    def step(x: Tensor, y: Tensor) -> Tensor:
        part = x.permute(2, 0, 1)[1:, ::2].unsqueeze(0)
        return part.tanh() * y.expand(part.shape) + x[0, 0, 0]

    compiled = check(step, tm.randn(5, 6, 7), tm.randn(6))
    assert len(executor(compiled).built.stages) == 1
