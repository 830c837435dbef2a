"""The ops of convolution, of any spatial rank: it, and its two gradients.

The three are one trilinear form, T(x, w, g) = Σ g·(x ∗ w), differentiated by one of its arguments
each.  So the family is closed: every derivative of one is made of the other two.

In NumPy: windows are copied into the rows of a matrix (channels last, some samples at a time, so
that they stay in the cache), and one matrix product per chunk does the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from ..op import Array, Case, Contraction, Refused, Spec, op
from ..tape import apply
from .windows import Pads, Sizes, padded, taps, window_count, windows

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__: list[str] = []

_CHUNK_BYTES = 1 << 22  # how large the copies of windows may be that are made at a time


def channels_last(x: Array) -> Array:
    """Return [N, C, sizes…] as [N, sizes…, C], a copy unless it lies in memory like that."""
    return np.ascontiguousarray(np.moveaxis(x, 1, -1))


def channels_first(x: Array) -> Array:
    """Return [N, sizes…, C] as [N, C, sizes…], contiguous: `conv(x).view(n, -1)` is a habit."""
    return np.ascontiguousarray(np.moveaxis(x, -1, 1))


class ConvolutionFamily(Contraction):
    """What the three share: how the window moves.  x [N, C, sizes…], w [O, C/groups, kernel…]."""

    stride: Sizes
    padding: Pads
    dilation: Sizes
    groups: int

    def counts(self, x: Sizes, w: Sizes) -> Sizes:
        """Return the spatial sizes of the output for the shapes of x and w; refuses misfits."""
        if len(x) != len(w) or len(x) != len(self.stride) + 2:
            raise Refused(f"x has {len(x)} dimensions, w has {len(w)}: not {len(self.stride) + 2}")
        if x[1] != w[1] * self.groups:
            in_groups = f" in each of {self.groups} groups" if self.groups > 1 else ""
            raise Refused(f"x has {x[1]} channels, but w takes {w[1]}{in_groups}")
        if w[0] % self.groups:
            raise Refused(f"{w[0]} output channels can't be split into {self.groups} groups")
        return window_count(x[2:], w[2:], self.stride, self.padding, self.dilation)

    def fields_of_family(self) -> tuple[Sizes, Pads, Sizes, int]:
        """Return the fields that all three have."""
        return self.stride, self.padding, self.dilation, self.groups

    def columns(self, x: Array, kernel: Sizes, counts: Sizes) -> Iterator[tuple[slice, Array]]:
        """Yield (samples, their windows as the rows of a matrix per group).

        Shape: [groups, samples · windows, kernel · C/groups], overwritten by the next chunk
        """
        n, c, rank = x.shape[0], x.shape[1], len(kernel)
        per_group = (*kernel, self.groups, c // self.groups)
        step = max(1, _CHUNK_BYTES // max(1, prod(counts) * prod(kernel) * c * x.itemsize))
        buffer = np.empty((self.groups, min(step, n), *counts, *kernel, c // self.groups), x.dtype)
        for start in range(0, n, step):
            part = padded(channels_last(x[start : start + step]), (*self.padding, (0, 0)))
            shown = windows(part, 1, kernel, counts, self.stride, self.dilation)
            if self.groups > 1:
                shown = shown.reshape(*shown.shape[: 1 + rank], *per_group)
                shown = np.moveaxis(shown, -2, 0)
            cols = buffer[:, : len(part)]
            np.copyto(cols, shown)  # one group: broadcast
            rows = len(part) * prod(counts)
            yield slice(start, start + step), cols.reshape(self.groups, rows, -1)

    def convolve(self, x: Array, w: Array, bias: Array | None = None) -> Array:
        """Return x ∗ w (+ bias) with this window.  Shape: [N, counts…, O]"""
        counts = self.counts(x.shape, w.shape)
        y = np.empty((x.shape[0], *counts, w.shape[0]), x.dtype)
        if self.is_depthwise(w.shape):
            for sample, tap, shown in self.tap_views(x, w.shape[2:], counts):
                at: Any = (..., *tap)
                part = shown * w[at][:, 0]
                np.copyto(y[sample], part) if not any(tap) else np.add(y[sample], part, y[sample])
            return y if bias is None else np.add(y, bias, out=y)
        matrix = self.matrix(w)
        for samples, cols in self.columns(x, w.shape[2:], counts):
            np.matmul(cols, matrix, out=self.rows(y[samples]))
            if bias is not None:
                y[samples] += bias
        return y

    def is_depthwise(self, w: Sizes) -> bool:
        """Tell whether each channel is convolved by itself: then there is no matrix product."""
        return w[0] == self.groups and w[1] == 1 and self.groups > 1

    def tap_views(
        self, x: Array, kernel: Sizes, counts: Sizes
    ) -> Iterator[tuple[int, Sizes, Array]]:
        """Yield (sample, place in the kernel, what stands there for all windows, channels last)."""
        for i in range(len(x)):
            full = padded(channels_last(x[i : i + 1])[0], (*self.padding, (0, 0)))
            places = taps(kernel, counts, self.stride, self.dilation)
            for tap, place in zip(np.ndindex(*kernel), places, strict=True):
                yield i, tap, full[place]

    def matrix(self, w: Array) -> Array:
        """Return w as one matrix per group.  Shape: [groups, kernel · C/groups, O/groups]"""
        last = np.moveaxis(w, 1, -1)
        grouped = last.reshape(self.groups, w.shape[0] // self.groups, -1)
        return np.ascontiguousarray(grouped.transpose(0, 2, 1))

    def rows(self, y: Array) -> Array:
        """Show channels-last values as one matrix per group.  Shape: [groups, rows, O/groups]"""
        return y.reshape(-1, self.groups, y.shape[-1] // self.groups).transpose(1, 0, 2)

    @classmethod
    def shapes(cls) -> Iterator[tuple[tuple[Any, ...], Sizes, Sizes]]:
        """Yield (fields, shape of x, shape of w) for samples."""
        yield ((1,), ((0, 0),), (1,), 1), (2, 3, 5), (4, 3, 2)
        yield ((2, 1), ((1, 1), (0, 2)), (1, 2), 2), (2, 4, 5, 6), (6, 2, 3, 2)
        yield ((1, 2), ((1, 1), (2, 2)), (1, 1), 1), (2, 2, 3, 4), (3, 2, 3, 3)
        yield ((2, 1, 1), ((1, 0), (0, 0), (0, 1)), (1, 1, 1), 3), (1, 3, 3, 2, 3), (3, 1, 2, 2, 2)
        yield ((1,), ((1, 1),), (1,), 1), (0, 2, 4), (3, 2, 3)


@op
class Convolution(ConvolutionFamily):
    """y = x ∗ w: y[n, o, p] = Σ x[n, c, stride·p + dilation·k − pad]·w[o, c, k]"""

    def forward(self, xp: Any, x: Array, w: Array) -> Array:
        return channels_first(self.convolve(x, w))

    def infer(self, x: Spec, w: Spec) -> Spec:
        return Spec((x.shape[0], w.shape[0], *self.counts(x.shape, w.shape)), x.dtype)

    def backward_x(self, gy: Tensor, x_spec: Spec, w: Tensor) -> Tensor:
        return apply(ConvolutionInputGrad(*self.fields_of_family(), x_spec.shape[2:]), gy, w)

    def backward_w(self, gy: Tensor, x: Tensor, w_spec: Spec) -> Tensor:
        return apply(ConvolutionWeightGrad(*self.fields_of_family(), w_spec.shape[2:]), gy, x)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for fields, x, w in cls.shapes():
            yield Case(cls(*fields), (rng.normal(size=x), rng.normal(size=w)))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        plain = cls((1,), ((0, 0),), (1,), 1)
        yield Case(plain, (np.zeros((2, 3, 5)), np.zeros((4, 2, 2)))), "but w takes 2"
        yield Case(plain, (np.zeros((2, 3, 5)), np.zeros((4, 3, 6)))), "kernel of size 6 is larger"


@op
class BiasedConvolution(Convolution):
    """y = x ∗ w + b, one number per output channel"""

    def forward(self, xp: Any, x: Array, w: Array, b: Array) -> Array:  # type: ignore[override]
        return channels_first(self.convolve(x, w, b))

    def check(self, x: Any, w: Any, b: Any) -> None:  # arrays or Specs
        if b.shape != w.shape[:1]:
            raise Refused(f"the bias has shape {b.shape}, but w makes {w.shape[0]} channels")

    def infer(self, x: Spec, w: Spec, b: Spec) -> Spec:  # type: ignore[override]
        self.check(x, w, b)
        return super().infer(x, w)

    def backward_b(self, gy: Tensor) -> Tensor:
        return gy.sum(dim=(0, *range(2, gy.ndim)))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for fields, x, w in cls.shapes():
            arrays = rng.normal(size=x), rng.normal(size=w), rng.normal(size=w[0])
            yield Case(cls(*fields), arrays)

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        arrays = np.zeros((2, 3, 5)), np.zeros((4, 3, 2)), np.zeros(3)
        yield Case(cls((1,), ((0, 0),), (1,), 1), arrays), "w makes 4 channels"


@op
class ConvolutionInputGrad(ConvolutionFamily):
    """x = ∂/∂x Σ g·(x ∗ w), of the spatial sizes `sizes`: a transposed convolution"""

    sizes: Sizes

    def forward(self, xp: Any, g: Array, w: Array) -> Array:
        self.check_fit(g.shape, w.shape)
        if max(self.stride) == 1:
            return channels_first(self.flipped_convolution(g, w))
        x = np.empty((g.shape[0], *self.sizes, w.shape[1] * self.groups), g.dtype)
        one = max(1, prod(g.shape[2:]) * prod(w.shape[1:]) * self.groups * g.itemsize)
        step = max(1, _CHUNK_BYTES // one)
        for start in range(0, g.shape[0], step):
            self.scatter(channels_last(g[start : start + step]), w, x[start : start + step])
        return channels_first(x)

    def flipped_convolution(self, g: Array, w: Array) -> Array:
        """At stride 1 the gradient is a convolution with w flipped and its channels swapped."""
        split = w.reshape(self.groups, -1, *w.shape[1:]).swapaxes(1, 2)
        swapped = np.flip(split.reshape(-1, *split.shape[2:]), tuple(range(2, w.ndim)))
        reach = [d * (k - 1) for d, k in zip(self.dilation, w.shape[2:], strict=True)]
        pads = tuple((r - lo, r - hi) for r, (lo, hi) in zip(reach, self.padding, strict=True))
        return Convolution(self.stride, pads, self.dilation, self.groups).convolve(g, swapped)

    def scatter(self, g: Array, w: Array, x: Array) -> None:
        """Fill x with the windows' gradients g·wᵀ, added in their places; both channels-last."""
        kernel, counts = w.shape[2:], g.shape[1:-1]
        cols = np.matmul(self.rows(g), self.matrix(w).transpose(0, 2, 1))
        cols = cols.reshape(self.groups, len(g), *counts, prod(kernel), w.shape[1])
        inner = [n + lo + hi for n, (lo, hi) in zip(self.sizes, self.padding, strict=True)]
        total = np.zeros((len(g), *inner, self.groups, w.shape[1]), g.dtype)
        for k, place in enumerate(taps(kernel, counts, self.stride, self.dilation)):
            total[:, *place] += np.moveaxis(cols[..., k, :], 0, -2)
        crop = tuple((-lo, -hi) for lo, hi in self.padding)
        x[...] = padded(total.reshape(len(g), *inner, -1), (*crop, (0, 0)))

    def check_fit(self, g: Sizes, w: Sizes) -> None:
        """Refuse an output gradient that no convolution of these sizes returns."""
        if len(g) != len(w):
            raise Refused(f"x has {len(g)} dimensions, w has {len(w)}")
        if g[1] != w[0]:
            raise Refused(f"x has {g[1]} channels, but w takes {w[0]}")
        counts = self.counts((g[0], w[1] * self.groups, *self.sizes), w)
        if counts != g[2:]:
            raise Refused(f"sizes {self.sizes} make {counts} windows, not {g[2:]}")

    def infer(self, g: Spec, w: Spec) -> Spec:
        self.check_fit(g.shape, w.shape)
        return Spec((g.shape[0], w.shape[1] * self.groups, *self.sizes), g.dtype)

    def backward_g(self, gy: Tensor, w: Tensor) -> Tensor:
        return apply(Convolution(*self.fields_of_family()), gy, w)

    def backward_w(self, gy: Tensor, g: Tensor, w_spec: Spec) -> Tensor:
        return apply(ConvolutionWeightGrad(*self.fields_of_family(), w_spec.shape[2:]), g, gy)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for fields, x, w in cls.shapes():
            g = (x[0], w[0], *Convolution(*fields).counts(x, w))
            yield Case(cls(*(*fields, x[2:])), (rng.normal(size=g), rng.normal(size=w)))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        arrays = np.zeros((2, 3, 5)), np.zeros((4, 3, 2))
        yield Case(cls((1,), ((0, 0),), (1,), 1, (6,)), arrays), "x has 3 channels, but w takes 4"


@op
class ConvolutionWeightGrad(ConvolutionFamily):
    """w = ∂/∂w Σ g·(x ∗ w), of the spatial sizes `kernel`"""

    kernel: Sizes

    def forward(self, xp: Any, g: Array, x: Array) -> Array:
        shape = self.shape(g.shape, x.shape)
        if self.is_depthwise(shape):
            w = xp.zeros(shape, g.dtype)
            last = np.moveaxis(g, 1, -1)
            for sample, tap, shown in self.tap_views(x, self.kernel, g.shape[2:]):
                w[(..., 0, *tap)] += (last[sample] * shown).reshape(-1, shape[0]).sum(axis=0)
            return w
        total = xp.zeros((self.groups, shape[0] // self.groups, prod(shape[1:])), g.dtype)
        for samples, cols in self.columns(x, self.kernel, g.shape[2:]):
            rows = self.rows(channels_last(g[samples]))
            total += xp.matmul(rows.transpose(0, 2, 1), cols)
        w = total.reshape(shape[0], *self.kernel, shape[1])
        return channels_first(w)

    def shape(self, g: Sizes, x: Sizes) -> Sizes:
        """Return the shape of w; refuses a g that isn't an output's gradient."""
        w = (g[1], x[1] // self.groups, *self.kernel)
        counts = self.counts(x, w)
        if counts != g[2:] or g[0] != x[0]:
            raise Refused(f"x makes {x[0]} times {counts} windows, but g has {g[0]} times {g[2:]}")
        return w

    def infer(self, g: Spec, x: Spec) -> Spec:
        return Spec(self.shape(g.shape, x.shape), g.dtype)

    def backward_g(self, gy: Tensor, x: Tensor) -> Tensor:
        return apply(Convolution(*self.fields_of_family()), x, gy)

    def backward_x(self, gy: Tensor, g: Tensor, x_spec: Spec) -> Tensor:
        return apply(ConvolutionInputGrad(*self.fields_of_family(), x_spec.shape[2:]), g, gy)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for fields, x, w in cls.shapes():
            g = (x[0], w[0], *Convolution(*fields).counts(x, w))
            yield Case(cls(*(*fields, w[2:])), (rng.normal(size=g), rng.normal(size=x)))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        arrays = np.zeros((2, 3, 5)), np.zeros((3, 3, 5))
        yield Case(cls((1,), ((0, 0),), (1,), 1, (1,)), arrays), "but g has 2 times"
