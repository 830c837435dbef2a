"""Rows of a table, looked up by number; alone, or combined in bags.

EmbeddingRead and EmbeddingGrad are each other's gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..config import config, grad_mode
from ..errors import OpError, OpIndexError, OpTypeError, TraceError
from ..op import Array, Case, Indexing, Refused, RefusedIndex, RefusedType, Spec, op
from ..tape import Value, apply, operand, spec_of, wrap
from ..traced import known
from ..views import assign
from .choice import where

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = ["embedding", "embedding_bag"]


class EmbeddingFamily(Indexing):
    """`padding_idx` (−1: none) gets no gradient; `by_freq` divides by how often a row is used."""

    padding_idx: int
    by_freq: bool

    def shares(self, index: Array, dtype: Any) -> Array | None:
        """Return what each use of a row counts, or None if all count 1."""
        if self.padding_idx < 0 and not self.by_freq:
            return None
        share = np.ones(index.shape, dtype)
        if self.by_freq and index.size:
            share /= np.bincount(index.reshape(-1))[index]
        share[index == self.padding_idx] = 0
        return share[..., None]


@op
class Embedding(EmbeddingFamily):
    """y[…] = weight[index[…]]"""

    def forward(self, xp: Any, weight: Array, index: Array) -> Array:
        return weight.take(index, axis=0)

    def check(self, weight: Array, index: Array) -> None:
        if index.dtype.kind not in "iu":
            raise RefusedType(f"the indices must be integers, not {index.dtype}")
        if not index.size:
            return
        low, high = int(index.min()), int(index.max())
        if low < 0 or high >= len(weight):
            raise RefusedIndex(
                f"index {low if low < 0 else high} is out of range: num_embeddings is "
                f"{len(weight)}, so 0 to {len(weight) - 1}"
            )

    def infer(self, weight: Spec, index: Spec) -> Spec:
        if weight.ndim != 2:
            raise Refused(f"the weight needs 2 dimensions (rows, numbers), it has {weight.ndim}")
        return Spec((*index.shape, weight.shape[1]), weight.dtype)

    def backward_weight(self, gy: Tensor, weight_spec: Spec, index: Tensor) -> Tensor:
        grad = EmbeddingGrad(self.padding_idx, self.by_freq, weight_spec.shape[0])
        return apply(grad, gy, index)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case(cls(-1, False), (rng.normal(size=(4, 3)), np.array([[0, 2], [2, 1]])))
        yield Case(cls(-1, False), (rng.normal(size=(4, 3)), np.zeros((0,), np.int64)))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        weight = np.zeros((4, 3))
        yield Case(cls(-1, False), (weight, np.array([1, 4]))), "index 4 is out of range"
        yield Case(cls(-1, False), (weight, np.array([1.0]))), "the indices must be integers"


@op
class EmbeddingRead(Embedding):
    """y[…] = share[…]·weight[index[…]]: rows as much as their gradients count"""

    def forward(self, xp: Any, weight: Array, index: Array) -> Array:
        y = weight.take(index, axis=0)
        share = self.shares(index, weight.dtype)
        return y if share is None else np.multiply(y, share, out=y)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case(cls(2, True), (rng.normal(size=(4, 3)), np.array([[0, 2], [0, 1]])))


@op
class EmbeddingGrad(EmbeddingFamily):
    """weight[r] = Σ share[…]·g[…] over the places with index[…] = r; there are `rows` rows"""

    rows: int

    def forward(self, xp: Any, g: Array, index: Array) -> Array:
        width = g.shape[-1]
        weight = xp.zeros((self.rows, width), g.dtype)
        share = self.shares(index, g.dtype)
        flat = (g if share is None else g * share).reshape(-1, width)
        order = np.argsort(index.reshape(-1), kind="stable")
        if len(order):
            sorted_index = index.reshape(-1)[order]
            starts = np.flatnonzero(np.diff(sorted_index, prepend=-1))
            weight[sorted_index[starts]] = np.add.reduceat(flat[order], starts, axis=0)
        return weight

    def infer(self, g: Spec, index: Spec) -> Spec:
        return Spec((self.rows, g.shape[-1]), g.dtype)

    def backward_g(self, gy: Tensor, index: Tensor) -> Tensor:
        return apply(EmbeddingRead(self.padding_idx, self.by_freq), gy, index)

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        for padding_idx, by_freq in ((-1, False), (2, True)):
            case = rng.normal(size=(2, 2, 3)), np.array([[0, 2], [0, 1]])
            yield Case(cls(padding_idx, by_freq, 4), case)


@op
class BagArgmax(Indexing):
    """The position of the largest of the rows in each bag, number by number; −1 in an empty bag"""

    bags: int

    def forward(self, xp: Any, rows: Array, bag: Array) -> Array:
        out = xp.full((self.bags, rows.shape[1]), -1, np.int64)
        for b in range(self.bags):
            members = np.flatnonzero(bag == b)
            if len(members):
                out[b] = members[rows[members].argmax(axis=0)]
        return out

    def infer(self, rows: Spec, bag: Spec) -> Spec:
        return Spec((self.bags, rows.shape[1]), np.dtype("int64"))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case(cls(3), (rng.normal(size=(4, 2)), np.array([0, 2, 2, 0])))


@op
class BagNumbers(Indexing):
    """The bag that each of `total` places is in: bag b reaches from offsets[b] to offsets[b + 1]

    The last bag reaches to the end; with `closed`, offsets say so themselves.
    """

    name: ClassVar[str] = "embedding_bag"
    total: int
    closed: bool

    def check(self, offsets: Array) -> None:
        self.infer(Spec(offsets.shape, offsets.dtype))
        if not len(offsets):
            return
        if offsets[0] != 0 or (np.diff(offsets) < 0).any() or offsets[-1] > self.total:
            raise Refused(f"offsets must start with 0, rise, and stay within {self.total}")
        if self.closed and offsets[-1] != self.total:
            raise Refused(
                f"with include_last_offset, offsets must end with the number of indices, "
                f"{self.total}, not {offsets[-1]}"
            )

    def forward(self, xp: Any, offsets: Array) -> Array:
        starts = offsets[:-1] if self.closed else offsets
        found: Array = xp.searchsorted(starts, xp.arange(self.total), side="right") - 1
        return found

    def infer(self, offsets: Spec) -> Spec:
        if offsets.dtype.kind not in "iu" or offsets.ndim != 1:
            raise RefusedType("offsets must be a row of integers")
        if self.closed and not offsets.shape[0]:
            raise Refused("with include_last_offset, offsets need at least one number")
        return Spec((self.total,), np.dtype("int64"))

    @classmethod
    def samples(cls, rng: np.random.Generator) -> Iterator[Case]:
        yield Case(cls(5, False), (np.array([0, 2, 2, 4]),))
        yield Case(cls(5, True), (np.array([0, 2, 2, 5]),))

    @classmethod
    def bad(cls) -> Iterator[tuple[Case, str]]:
        yield Case(cls(5, False), (np.array([0, 3, 2]),)), "offsets must start with 0, rise"
        yield Case(cls(5, True), (np.array([0, 3]),)), "must end with the number of indices, 5"
        yield Case(cls(5, False), (np.array([0.0]),)), "offsets must be a row of integers"


# --- functions -----------------------------------------------------------------------------------


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Rows of a table: y[…] = weight[input[…]].

    Shape: (…), (num_embeddings, embedding_dim) -> (…, embedding_dim)

    Args:
        input: the numbers of the rows, integers.
        weight: the table.
        padding_idx: the row that gets no gradient; negative ones count from the end.
        max_norm: rows that are looked up are shortened, in the table, to this norm.
        norm_type: p of the p-norm for `max_norm`.
        scale_grad_by_freq: whether a row's gradient is divided by how often it is looked up.
        sparse: gradients are dense: refused where one would be computed.

    Raises:
        OpIndexError: an index is not in the table.
        OpError: `padding_idx` is not in the table, or a sparse gradient is asked for.

    >>> import toumei as tm
    >>> import toumei.nn.functional as F
    >>> F.embedding(tm.tensor([1, 0]), tm.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([[3., 4.],
            [1., 2.]])
    """
    call = f"embedding(input: {spec_of(input)}, weight: {spec_of(weight)})"
    padding = _padding(call, weight, padding_idx)
    _refuse_sparse(call, weight, sparse)
    if max_norm is not None:
        _shorten(weight, input, max_norm, norm_type)
    return apply(Embedding(padding, scale_grad_by_freq), weight, input)


def _refuse_sparse(call: str, weight: Tensor, sparse: bool) -> None:
    if sparse and config.grad and weight.requires_grad:
        raise OpError(f"{call}: sparse gradients aren't supported; use sparse=False")


def _padding(call: str, weight: Tensor, padding_idx: int | None) -> int:
    """Return the row without gradient, −1 for none."""
    if weight.ndim != 2:
        raise OpError(f"{call}: the weight needs 2 dimensions (num_embeddings, embedding_dim)")
    if padding_idx is None:
        return -1
    rows = weight.shape[0]
    if not -rows <= padding_idx < rows:
        raise OpIndexError(f"{call}: padding_idx {padding_idx} is out of range for {rows} rows")
    return padding_idx % rows


def _shorten(weight: Tensor, index: Tensor, max_norm: float, norm_type: float) -> None:
    """Scale the rows in use whose norm is above `max_norm`, in place and outside of the graph."""
    if not known(index):
        raise TraceError(
            "embedding with max_norm changes the table and can't be compiled: shorten its rows "
            "outside of the step"
        )
    with grad_mode(False):
        Embedding(-1, False).check(weight._data, index._data)
        used = np.unique(index._data)
        norms = np.linalg.norm(weight._data[used], norm_type, axis=1)
        long = used[norms > max_norm]
        new = weight._data.copy()
        new[long] *= (max_norm / (norms[norms > max_norm] + 1e-7)).astype(new.dtype)[:, None]
        assign(weight, wrap(new), "embedding with max_norm")


def embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """The sum, mean or largest of several rows of a table, per bag.

    Shape: (bags, length), (num_embeddings, embedding_dim) -> (bags, embedding_dim);
    (total), (num_embeddings, embedding_dim), offsets (bags) -> (bags, embedding_dim)

    Args:
        input: the numbers of the rows, integers.
        weight: the table.
        offsets: where each bag starts, for an input of one dimension.
        max_norm: as for `embedding`.
        norm_type: as for `embedding`.
        scale_grad_by_freq: as for `embedding`.
        mode: "sum", "mean" or "max".
        sparse: as for `embedding`.
        per_sample_weights: factors of the rows, for mode "sum".
        include_last_offset: whether `offsets` ends with the number of indices.
        padding_idx: rows that don't count.

    Raises:
        OpIndexError: an index is not in the table.
        OpError: the arguments don't go together.
    """
    call = f"embedding_bag(input: {spec_of(input)}, weight: {spec_of(weight)}, mode={mode!r})"
    _check_bags(call, input, offsets, mode, per_sample_weights)
    index, bag, bags = _bags(call, input, offsets, include_last_offset)
    padding = _padding(call, weight, padding_idx)
    _refuse_sparse(call, weight, sparse)
    if max_norm is not None:
        _shorten(weight, input, max_norm, norm_type)
    rows: Tensor = apply(Embedding(padding, scale_grad_by_freq), weight, index)
    counts_row = index != padding
    if mode == "max":
        return _largest(rows, where(counts_row, bag, -1), bags)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.reshape(-1, 1)
    rows = rows * counts_row.to(rows.dtype).unsqueeze(1)
    add = EmbeddingGrad(-1, False, bags)
    total: Tensor = apply(add, rows, bag)
    if mode == "sum":
        return total
    ones = counts_row.to(rows.dtype).unsqueeze(1)
    return total / apply(add, ones, bag).clamp(min=1)


def _largest(rows: Tensor, bag: Tensor, bags: int) -> Tensor:
    best: Tensor = apply(BagArgmax(bags), rows.detach(), bag)
    if not rows.shape[0]:
        return rows.sum(dim=0).expand(bags, rows.shape[1])
    picked = rows.gather(0, best.clamp(min=0))
    return picked.masked_fill(best < 0, 0)


def _check_bags(
    call: str, input: Tensor, offsets: Tensor | None, mode: str, factors: Tensor | None
) -> None:
    if mode not in ("sum", "mean", "max"):
        raise OpError(f"{call}: mode must be 'sum', 'mean' or 'max'")
    if input.ndim not in (1, 2) or (input.ndim == 1) != (offsets is not None):
        raise OpError(f"{call}: needs an input of 1 dimension with offsets, or of 2 without")
    if factors is not None and (mode != "sum" or factors.shape != input.shape):
        raise OpError(f"{call}: per_sample_weights need mode 'sum' and the shape of the input")


def _bags(
    call: str, input: Tensor, offsets: Tensor | None, include_last: bool
) -> tuple[Tensor, Tensor, int]:
    """Return the indices as one row, the bag of each, and how many bags there are."""
    if offsets is None:
        n, length = input.shape
        return input.reshape(-1), operand(np.repeat(np.arange(n), length)), n
    if not isinstance(offsets, Value) or not offsets.ndim:
        raise OpTypeError(f"{call}: offsets must be a row of integers")
    bag: Tensor = apply(BagNumbers(len(input), include_last), offsets)
    return input, bag, len(offsets) - include_last
