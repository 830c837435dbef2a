"""The methods of Tensor that are ops: each is the function of the same name in `toumei.ops`.

A function `f(input, …)` becomes the method `x.f(…)`; `in_place(f)` becomes `x.f_(…)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from .linalgmethods import LinalgMethods
from .ops import (
    activation,
    calculus,
    copies,
    counting,
    creation,
    dtypes,
    elementwise,
    indexing,
    parts,
    random,
    rearrange,
    reduction,
    rowwise,
    scan,
    scattering,
    selection,
    sorting,
    statistics,
)
from .ops import shape as shapes
from .tape import apply
from .views import Copy, assign, in_place

if TYPE_CHECKING:
    from .tensor import Tensor


class TensorMethods(LinalgMethods):
    """The ops as methods and operators."""

    __getitem__ = indexing.getitem
    __setitem__ = indexing.setitem

    def copy_(self, source: Any) -> Tensor:
        """Take over the numbers of `source`, broadcast and cast."""
        return assign(cast("Tensor", self), apply(Copy(), self, source), "copy_")

    @property
    def T(self) -> Tensor:  # noqa: N802
        return shapes.permute(cast("Tensor", self), *reversed(range(len(self._data.shape))))

    def type_as(self, other: Tensor) -> Tensor:
        """Return this tensor with the dtype of another."""
        return elementwise.cast(cast("Tensor", self), other.dtype)

    @property
    def nbytes(self) -> int:
        return int(self._data.size * self._data.dtype.itemsize)

    mT = mH = property(shapes.adjoint)  # noqa: N815
    H = property(shapes.matrix_H)

    # dtypes
    numel = nelement = dtypes.numel
    is_floating_point, is_complex = dtypes.is_floating_point, dtypes.is_complex
    # reduction, scan, sorting
    sum, mean, prod = reduction.sum, reduction.mean, reduction.prod
    nansum, nanmean, logsumexp = reduction.nansum, reduction.nanmean, reduction.logsumexp
    amax, amin, aminmax = reduction.amax, reduction.amin, reduction.aminmax
    max, min = reduction.max, reduction.min
    argmax, argmin = reduction.argmax, reduction.argmin
    all, any, count_nonzero = reduction.all, reduction.any, reduction.count_nonzero
    cumsum, cumprod, logcumsumexp = scan.cumsum, scan.cumprod, scan.logcumsumexp
    cummax, cummin = scan.cummax, scan.cummin
    sort, argsort, msort = sorting.sort, sorting.argsort, sorting.msort
    topk, kthvalue, mode = sorting.topk, sorting.kthvalue, sorting.mode
    median, nanmedian = sorting.median, sorting.nanmedian
    quantile, nanquantile = sorting.quantile, sorting.nanquantile
    # statistics, counting, calculus
    var, std, dist, renorm = statistics.var, statistics.std, statistics.dist, statistics.renorm
    cov, corrcoef, diff = statistics.cov, statistics.corrcoef, calculus.diff
    histc, histogram, bincount = counting.histc, counting.histogram, counting.bincount
    unique, unique_consecutive = counting.unique, counting.unique_consecutive
    renorm_ = in_place(statistics.renorm)
    cumsum_, cumprod_ = in_place(scan.cumsum), in_place(scan.cumprod)
    # shape
    reshape, reshape_as, view = shapes.reshape, shapes.reshape_as, shapes.view
    view_as, flatten, unflatten, ravel = (
        shapes.view_as,
        shapes.flatten,
        shapes.unflatten,
        shapes.ravel,
    )
    squeeze, unsqueeze, permute = shapes.squeeze, shapes.unsqueeze, shapes.permute
    transpose, swapaxes, swapdims = shapes.transpose, shapes.swapaxes, shapes.swapdims
    movedim, moveaxis, t, adjoint = shapes.movedim, shapes.moveaxis, shapes.t, shapes.adjoint
    expand, expand_as = shapes.expand, shapes.expand_as
    broadcast_to, sum_to_size = shapes.broadcast_to, shapes.sum_to_size
    contiguous = copies.contiguous
    # parts, rearrange
    select, narrow, narrow_copy = parts.select, parts.narrow, copies.narrow_copy
    diagonal, unfold, as_strided = parts.diagonal, parts.unfold, parts.as_strided
    select_scatter, slice_scatter = parts.select_scatter, parts.slice_scatter
    diagonal_scatter, as_strided_scatter = parts.diagonal_scatter, parts.as_strided_scatter
    split, split_with_sizes, chunk = parts.split, parts.split_with_sizes, parts.chunk
    unsafe_split, unsafe_chunk = parts.unsafe_split, parts.unsafe_chunk
    tensor_split, hsplit, vsplit = parts.tensor_split, parts.hsplit, parts.vsplit
    dsplit, unbind = parts.dsplit, parts.unbind
    flip, fliplr, flipud = rearrange.flip, rearrange.fliplr, rearrange.flipud
    roll, rot90, trace = rearrange.roll, rearrange.rot90, rearrange.trace
    repeat, tile = rearrange.repeat, rearrange.tile
    repeat_interleave = rearrange.repeat_interleave
    tril, triu = rearrange.tril, rearrange.triu
    diag, diag_embed, diagflat = rearrange.diag, rearrange.diag_embed, rearrange.diagflat
    # creation
    new_zeros, new_ones, new_full = creation.new_zeros, creation.new_ones, creation.new_full
    new_empty, new_empty_strided = creation.new_empty, creation.new_empty_strided
    new_tensor = creation.new_tensor
    fill_, zero_ = in_place(creation.fill), in_place(creation.zero)
    tril_, triu_ = in_place(rearrange.tril), in_place(rearrange.triu)
    # indexing, scatter
    masked_fill, masked_select = selection.masked_fill, selection.masked_select
    masked_scatter, take, put = selection.masked_scatter, selection.take, selection.put
    index_select, index_add = selection.index_select, selection.index_add
    index_copy, index_fill = selection.index_copy, selection.index_fill
    index_put, index_reduce = selection.index_put, scattering.index_reduce
    nonzero, argwhere = selection.nonzero, selection.argwhere
    nonzero_static = selection.nonzero_static
    gather, take_along_dim = scattering.gather, scattering.take_along_dim
    scatter, scatter_add = scattering.scatter, scattering.scatter_add
    scatter_reduce = scattering.scatter_reduce
    masked_fill_, masked_scatter_ = in_place(masked_fill), in_place(masked_scatter)
    put_, index_add_, index_copy_ = in_place(put), in_place(index_add), in_place(index_copy)
    index_fill_, index_put_ = in_place(index_fill), in_place(index_put)
    index_reduce_, scatter_ = in_place(index_reduce), in_place(scatter)
    scatter_add_, scatter_reduce_ = in_place(scatter_add), in_place(scatter_reduce)
    # random
    bernoulli, multinomial = random.bernoulli, random.multinomial
    bernoulli_, random_ = in_place(random.bernoulli_like), in_place(random.random)
    uniform_, normal_ = in_place(random.uniform), in_place(random.normal_like)
    log_normal_, exponential_ = in_place(random.log_normal), in_place(random.exponential)
    cauchy_, geometric_ = in_place(random.cauchy), in_place(random.geometric)
    # activation, rowwise
    relu, prelu, hardshrink = activation.relu, activation.prelu, activation.hardshrink
    softmax, log_softmax = rowwise.softmax, rowwise.log_softmax
    relu_ = in_place(activation.relu)
