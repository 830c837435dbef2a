"""Normalisations: over a batch, a layer, groups of channels, one instance; by mean and variance.

One op does the mathematics of all; they differ in the dimensions that the mean runs over.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..config import grad_mode
from ..errors import OpError
from ..op import Array, Case, Composite, Refused, Spec, op
from ..tape import apply, spec_of
from .activation import need_floats
from .combine import cat
from .creation import zeros

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = [
    "batch_norm",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "local_response_norm",
    "native_batch_norm",
    "native_group_norm",
    "native_layer_norm",
    "rms_norm",
]


# --- sums in few passes --------------------------------------------------------------------------


def _count(shape: Sequence[int], dim: tuple[int, ...]) -> int:
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
    return xp.reshape(out, tuple(1 if d in dim else n for d, n in enumerate(a.shape)))  # type: ignore[no-any-return]


def _sum_to(xp: Any, a: Array, shape: tuple[int, ...]) -> Array:
    dims = tuple(d for d, n in enumerate(shape) if n == 1)
    return xp.sum(a, axis=dims, keepdims=True)  # type: ignore[no-any-return]


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
        n = x.dtype.type(_count(x.shape, self.dim))
        if self.center:
            mean = xp.sum(x, axis=self.dim, keepdims=True) / n
            xc = xp.asarray(x - mean)
        else:
            mean = xp.zeros([1 if d in self.dim else m for d, m in enumerate(x.shape)], x.dtype)
            xc = xp.array(x)
        var = sum_of_products(xp, xc, xc, self.dim) / n
        return xc, mean, var, 1 / xp.sqrt(var + x.dtype.type(self.eps))

    def standardized(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return x̂ = (x − mean)/√(variance + eps), the mean, the variance and the root, in Tensors."""
        if self.center:
            mean = x.mean(self.dim, keepdim=True)
            xc = x - mean
        else:
            xc = x
            mean = zeros([1 if d in self.dim else m for d, m in enumerate(x.shape)], dtype=x.dtype)
        var = (xc * xc).mean(self.dim, keepdim=True)
        root = (var + self.eps).sqrt()
        return xc / root, mean, var, root


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
        n = _count(x.shape, self.dim)
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
        n = x.dtype.type(_count(x.shape, self.dim))
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
        return dx if weight is None else (dx, Spec(weight.shape, x.dtype), Spec(weight.shape, x.dtype))

    def decompose(self, g: Tensor, x: Tensor, weight: Tensor | None = None) -> Any:
        xhat, _, _, root = self.standardized(x)
        gw = g if weight is None else g * weight
        inner = gw - xhat * (gw * xhat).mean(self.dim, keepdim=True)
        if self.center:
            inner = inner - gw.mean(self.dim, keepdim=True)
        if weight is None:
            return inner / root
        return inner / root, (g * xhat).sum_to_size(weight.shape), g.sum_to_size(weight.shape)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for case in Normalize.samples(rng):
            x, *rest = case.inputs
            yield Case(cls(*vars(case.op).values()), (rng.normal(size=x.shape), x, *rest[:1]))


# --- functions -----------------------------------------------------------------------------------


def _normalize(
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


def _check_channels(name: str, x: Tensor, channels: int, **params: Tensor | None) -> None:
    for key, p in params.items():
        if p is not None and tuple(p.shape) != (channels,):
            raise OpError(
                f"{name}(input: {spec_of(x)}, {key}: {spec_of(p)}): {key} must have one number "
                f"for each of the {channels} channels (dim 1 of the input)"
            )


def _per_channel(p: Tensor | None, ndim: int) -> Tensor | None:
    return None if p is None else p.reshape(1, -1, *[1] * (ndim - 2))


def _trailing(
    name: str, x: Tensor, shape: Sequence[int], **params: Tensor | None
) -> tuple[tuple[int, ...], list[Tensor | None]]:
    """Return the last dimensions, which `shape` names, and the parameters with all dimensions."""
    sizes = (int(shape),) if isinstance(shape, int) else tuple(shape)
    if not sizes or tuple(x.shape[-len(sizes) :]) != sizes:
        raise OpError(
            f"{name}(input: {spec_of(x)}, normalized_shape={sizes}): the input's last dimensions "
            f"are {tuple(x.shape[-len(sizes) :]) if sizes else ()}, not {sizes}"
        )
    for key, p in params.items():
        if p is not None and tuple(p.shape) != sizes:
            raise OpError(f"{name}: {key} has the shape {tuple(p.shape)}, not {sizes}")
    lead = x.ndim - len(sizes)
    whole = [None if p is None else p.reshape(*[1] * lead, *sizes) for p in params.values()]
    return tuple(range(lead, x.ndim)), whole


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalised over the last dimensions: (x − mean)/√(var + eps)·weight + bias.

    Shape: (…, *normalized_shape) -> the same; weight and bias: normalized_shape

    Raises:
        OpError: the shapes don't fit.

    Paper: Ba et al. 2016, arXiv:1607.06450.

    >>> import toumei as tm
    >>> tm.layer_norm(tm.tensor([[1.0, 3.0]]), (2,), eps=0.0)
    tensor([[-1.,  1.]])
    """
    dim, (w, b) = _trailing("layer_norm", input, normalized_shape, weight=weight, bias=bias)
    return _normalize(input, dim, eps, w, b)[0]  # type: ignore[no-any-return]


def native_layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Layer norm; also returns the mean and 1/√(var + eps), with the normalised dimensions as 1."""
    dim, (w, b) = _trailing("native_layer_norm", input, normalized_shape, weight=weight, bias=bias)
    y, mean, var = _normalize(input, dim, eps, w, b)
    return y, mean, 1 / (var + eps).sqrt()


def rms_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """x/√(mean(x²) + eps)·weight over the last dimensions.

    Shape: (…, *normalized_shape) -> the same

    Args:
        eps: None takes the machine epsilon of the input's dtype.

    Paper: Zhang & Sennrich 2019, arXiv:1910.07467.
    """
    dim, (w,) = _trailing("rms_norm", input, normalized_shape, weight=weight)
    if eps is None:
        need_float = input if input.is_floating_point() else input.float()
        eps = float(np.finfo(need_float.dtype).eps)
    return _normalize(input, dim, eps, w, None, center=False)[0]  # type: ignore[no-any-return]


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalised per channel over the batch: (x − mean)/√(var + eps)·weight + bias.

    In training the batch's mean and variance are taken, and the running ones move towards them
    in place: running ← (1 − momentum)·running + momentum·batch (the unbiased variance).
    Otherwise the running ones are taken.

    Shape: (n, c, …) -> (n, c, …); all parameters: (c)

    Raises:
        OpError: the shapes don't fit, running statistics are missing outside training, or there
            is a single number per channel in training.

    Paper: Ioffe & Szegedy 2015, arXiv:1502.03167.
    """
    return _batch_norm(
        "batch_norm", input, running_mean, running_var, weight, bias, training, momentum, eps
    )[0]


def native_batch_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Batch norm; also returns the batch's mean and 1/√(var + eps), both empty outside training."""
    y, mean, var = _batch_norm(
        "native_batch_norm", input, running_mean, running_var, weight, bias, training, momentum, eps
    )
    if mean is None or var is None:
        return y, zeros(0, dtype=input.dtype), zeros(0, dtype=input.dtype)
    return y, mean.reshape(-1), (1 / (var + eps).sqrt()).reshape(-1)


def _batch_norm(
    name: str,
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    if x.ndim == 1 and not x.shape[0]:  # PyTorch takes this one shape without channels
        return x.clone(), None, None
    if x.ndim < 2:
        raise OpError(f"{name}({spec_of(x)}): the input needs a batch and a channel dimension")
    params = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    _check_channels(name, x, x.shape[1], **params)
    w, b = _per_channel(weight, x.ndim), _per_channel(bias, x.ndim)
    if not training:
        return _fixed_norm(name, x, running_mean, running_var, w, b, eps), None, None
    dim = tuple(d for d in range(x.ndim) if d != 1)
    n = _count(x.shape, dim)
    if n == 1:
        raise OpError(
            f"{name}({spec_of(x)}): one number per channel has no variance: training needs a larger "
            "batch (or call eval() first)"
        )
    y, mean, var = _normalize(x, dim, eps, w, b)
    _update(running_mean, mean.reshape(-1), momentum)
    _update(running_var, var.reshape(-1) * (n / max(n - 1, 1)), momentum)
    return y, mean, var


def _update(running: Tensor | None, value: Tensor, momentum: float) -> None:
    """Move running statistics towards the batch's, in place and outside of the graph."""
    if running is not None:
        with grad_mode(False):
            running.copy_(running * (1 - momentum) + value.detach() * momentum)  # type: ignore[attr-defined]


def _fixed_norm(
    name: str,
    x: Tensor,
    mean: Tensor | None,
    var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> Tensor:
    """Normalise by given statistics: one scale and one shift per channel."""
    if mean is None or var is None:
        raise OpError(f"{name}({spec_of(x)}): without batch statistics it needs running_mean and running_var")
    mean, var = _per_channel(mean, x.ndim), _per_channel(var, x.ndim)
    assert mean is not None and var is not None
    scale = 1 / (var + eps).sqrt()
    scale = scale if weight is None else scale * weight
    shift = -mean * scale
    return x * scale + (shift if bias is None else shift + bias)


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalised per instance and channel.  Shape: (n, c, …) -> (n, c, …); parameters: (c)

    Args:
        use_input_stats: False takes the running statistics, as batch_norm does.

    Raises:
        OpError: the shapes don't fit, or there is a single number per instance and channel.

    Paper: Ulyanov et al. 2016, arXiv:1607.08022.
    """
    name = "instance_norm"
    if input.ndim < 2:
        raise OpError(f"{name}({spec_of(input)}): the input needs a batch and a channel dimension")
    params = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    _check_channels(name, input, input.shape[1], **params)
    w, b = _per_channel(weight, input.ndim), _per_channel(bias, input.ndim)
    if not use_input_stats:
        return _fixed_norm(name, input, running_mean, running_var, w, b, eps)
    dim = tuple(range(2, input.ndim))
    n = _count(input.shape, dim)
    if n == 1:
        raise OpError(f"{name}({spec_of(input)}): a single number per channel has no variance")
    y, mean, var = _normalize(input, dim, eps, w, b)
    channels = input.shape[:2]
    _update(running_mean, mean.reshape(channels).mean(0), momentum)
    _update(running_var, var.reshape(channels).mean(0) * (n / max(n - 1, 1)), momentum)
    return y  # type: ignore[no-any-return]


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalised per instance and group of channels.  Shape: (n, c, …) -> the same; parameters: (c)

    Raises:
        OpError: the channels can't be divided into `num_groups`, or the shapes don't fit.

    Paper: Wu & He 2018, arXiv:1803.08494.
    """
    if input.ndim < 2:
        raise OpError(f"group_norm({spec_of(input)}): the input needs a batch and a channel dimension")
    _check_channels("group_norm", input, input.shape[1], weight=weight, bias=bias)
    return _group_norm(input, num_groups, weight, bias, eps)[0]


def native_group_norm(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    N: int,
    C: int,
    HxW: int,
    group: int,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Group norm; also returns each group's mean and 1/√(var + eps).  Shape: (n, group)"""
    if input.numel() != N * C * HxW:
        raise OpError(f"native_group_norm({spec_of(input)}): it hasn't N·C·HxW = {N}·{C}·{HxW} elements")
    y, mean, var = _group_norm(input, group, weight, bias, eps)
    return y, mean.reshape(N, group), (1 / (var + eps).sqrt()).reshape(N, group)


def _group_norm(
    x: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    n, c = x.shape[:2]
    if groups < 1 or c % groups:
        raise OpError(f"group_norm({spec_of(x)}): {c} channels can't be divided into {groups} groups")
    size = c // groups
    grouped = x.reshape(n, groups, size, math.prod(x.shape[2:]))
    w, b = (None if p is None else p.reshape(1, groups, size, 1) for p in (weight, bias))
    y, mean, var = _normalize(grouped, (2, 3), eps, w, b)
    return y.reshape(x.shape), mean, var


def local_response_norm(
    input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """x/(k + α·mean of x² over `size` neighbouring channels)^β; channels outside count as 0.

    Shape: (n, c, …) -> (n, c, …)

    Raises:
        OpError: the input has fewer than three dimensions.

    Paper: Krizhevsky et al. 2012.
    """
    if input.ndim < 3:
        raise OpError(f"local_response_norm({spec_of(input)}): the input needs at least 3 dimensions")
    if input.numel() == 0:
        return input.clone()
    n, c, *rest = input.shape
    squares = input * input
    before, after = (
        zeros((n, width, *rest), dtype=input.dtype) for width in (size // 2, (size - 1) // 2)
    )
    padded = cat([before, squares, after], dim=1)
    total = padded[:, :c]
    for i in range(1, size):
        total = total + padded[:, i : i + c]
    return input / (total * (alpha / size) + k) ** beta
