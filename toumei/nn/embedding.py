"""Tables whose rows are looked up by number: words, tokens, categories."""

from __future__ import annotations

from typing import Any, Self

from ..config import grad_mode
from ..errors import ModuleError
from ..tape import spec_of
from ..tensor import Parameter, Tensor
from . import functional as F
from . import init
from .linear import check_sizes, new_parameter
from .module import Module

__all__ = ["Embedding", "EmbeddingBag"]


class _Table(Module):
    """What the two layers share: the table and its options."""

    padding_idx: int | None
    max_norm: float | None
    norm_type: float
    scale_grad_by_freq: bool

    def _set_up(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None, sparse: bool,
        weight: Tensor | None, dtype: Any,
    ) -> None:  # fmt: skip
        name = type(self).__name__
        check_sizes(name, num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        if sparse:
            raise ModuleError(f"{name}: sparse gradients aren't supported; use sparse=False")
        self.sparse = sparse
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        if padding_idx is not None:
            if not -num_embeddings <= padding_idx < num_embeddings:
                raise ModuleError(
                    f"{name}: padding_idx {padding_idx} is out of range for {num_embeddings} rows"
                )
            padding_idx %= num_embeddings
        self.padding_idx = padding_idx
        if weight is None:
            self.weight = new_parameter(num_embeddings, embedding_dim, dtype=dtype)
            self.reset_parameters()
        elif tuple(weight.shape) == (num_embeddings, embedding_dim):
            self.weight = Parameter(weight)
        else:
            raise ModuleError(
                f"{name}: {spec_of(weight)} isn't a table of {num_embeddings} rows of "
                f"{embedding_dim} numbers"
            )

    def reset_parameters(self) -> None:
        """Draw new rows from N(0, 1); that of `padding_idx` is zero."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            with grad_mode(False):
                self.weight[self.padding_idx] = 0

    def _shown(self, *names: str) -> str:
        """Return the options of these names that aren't at their defaults."""
        usual = {"norm_type": 2.0, "scale_grad_by_freq": False}
        shown = [n for n in names if getattr(self, n) != usual.get(n)]
        parts = [f"{self.num_embeddings}, {self.embedding_dim}"]
        return ", ".join([*parts, *(f"{n}={getattr(self, n)!r}" for n in shown)])


def _rows_and_columns(layer: type[Module], embeddings: Tensor) -> tuple[int, int]:
    if embeddings.ndim != 2:
        raise ModuleError(
            f"{layer.__name__}.from_pretrained: needs a table of 2 dimensions (rows, numbers), "
            f"not {spec_of(embeddings)}"
        )
    return embeddings.shape[0], embeddings.shape[1]


class Embedding(_Table):
    """y[…] = weight[input[…]]: row number input[…] of a learnt table.

    The rows start from N(0, 1).

    Shape: (…) of integers -> (…, embedding_dim);  weight (num_embeddings, embedding_dim)

    Args:
        num_embeddings: how many rows the table has.
        embedding_dim: how many numbers a row has.
        padding_idx: the row that starts at zero and gets no gradient; negative ones count from
            the end.
        max_norm: rows that are looked up are shortened, in the table, to this norm.
        norm_type: p of the p-norm for `max_norm`.
        scale_grad_by_freq: whether a row's gradient is divided by how often it is looked up.
        sparse: must be False: gradients are dense.
        _weight: the table to start from, not copied; drawn if None.
        _freeze: whether the table isn't trained.
        dtype: of the table; the default dtype if None.

    Raises:
        ModuleError: a size isn't a positive integer, `padding_idx` isn't in the table, or sparse.

    Paper: Bengio et al., "A Neural Probabilistic Language Model" (2003)

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.Embedding(10, 3, padding_idx=0)(tm.tensor([[1, 2], [4, 0]])).shape
    Size([2, 2, 3])
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Tensor | None = None,
        _freeze: bool = False,
        *,
        dtype: Any = None,
    ) -> None:
        self._set_up(num_embeddings, embedding_dim, padding_idx, sparse, _weight, dtype)
        self.weight.requires_grad = not _freeze
        self.max_norm = max_norm
        self.norm_type = norm_type
        self.scale_grad_by_freq = scale_grad_by_freq

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Tensor,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> Self:
        """Return a layer of this table, which isn't copied.

        Args:
            embeddings: the table.  Shape: (num_embeddings, embedding_dim)
            freeze: whether the table isn't trained.
            padding_idx: as for the layer; the row stays as it is.
            max_norm: as for the layer.
            norm_type: as for the layer.
            scale_grad_by_freq: as for the layer.
            sparse: as for the layer.

        >>> import toumei as tm
        >>> from toumei import nn
        >>> nn.Embedding.from_pretrained(tm.tensor([[1.0, 2.0], [3.0, 4.0]]))(tm.tensor([1]))
        tensor([[3., 4.]])
        """
        rows, columns = _rows_and_columns(cls, embeddings)
        options = padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse
        return cls(rows, columns, *options, _weight=embeddings, _freeze=freeze)

    def forward(self, input: Tensor) -> Tensor:
        options = self.padding_idx, self.max_norm, self.norm_type, self.scale_grad_by_freq
        return F.embedding(input, self.weight, *options)

    def extra_repr(self) -> str:
        return self._shown("padding_idx", "max_norm", "norm_type", "scale_grad_by_freq")


class EmbeddingBag(_Table):
    """The sum, mean or largest of several rows of a learnt table, per bag.

    The rows start from N(0, 1).

    Shape: (bags, length) of integers -> (bags, embedding_dim);  (total) and offsets (bags) ->
    (bags, embedding_dim);  weight (num_embeddings, embedding_dim)

    Args:
        num_embeddings: how many rows the table has.
        embedding_dim: how many numbers a row has.
        max_norm: rows that are looked up are shortened, in the table, to this norm.
        norm_type: p of the p-norm for `max_norm`.
        scale_grad_by_freq: whether a row's gradient is divided by how often it is looked up.
        mode: "sum", "mean" or "max".
        sparse: must be False: gradients are dense.
        _weight: the table to start from, not copied; drawn if None.
        include_last_offset: whether `offsets` ends with the number of indices.
        padding_idx: the row that starts at zero, counts for nothing and gets no gradient.
        dtype: of the table; the default dtype if None.

    Raises:
        ModuleError: a size isn't a positive integer, an option is unknown, or sparse.

    >>> import toumei as tm
    >>> from toumei import nn
    >>> bags = nn.EmbeddingBag(10, 3, mode="sum")
    >>> bags(tm.tensor([1, 2, 4, 5]), offsets=tm.tensor([0, 3])).shape
    Size([2, 3])
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        _weight: Tensor | None = None,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        *,
        dtype: Any = None,
    ) -> None:
        if mode not in ("sum", "mean", "max"):
            raise ModuleError(f"EmbeddingBag: mode must be 'sum', 'mean' or 'max', not {mode!r}")
        self._set_up(num_embeddings, embedding_dim, padding_idx, sparse, _weight, dtype)
        self.max_norm = max_norm
        self.norm_type = norm_type
        self.scale_grad_by_freq = scale_grad_by_freq
        self.mode = mode
        self.include_last_offset = include_last_offset

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Tensor,
        freeze: bool = True,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
    ) -> Self:
        """Return a layer of this table, which isn't copied.

        Args:
            embeddings: the table.  Shape: (num_embeddings, embedding_dim)
            freeze: whether the table isn't trained.
            max_norm: as for the layer.
            norm_type: as for the layer.
            scale_grad_by_freq: as for the layer.
            mode: as for the layer.
            sparse: as for the layer.
            include_last_offset: as for the layer.
            padding_idx: as for the layer; the row stays as it is.
        """
        rows, columns = _rows_and_columns(cls, embeddings)
        options = max_norm, norm_type, scale_grad_by_freq, mode, sparse
        layer = cls(rows, columns, *options, embeddings, include_last_offset, padding_idx)
        layer.weight.requires_grad = not freeze
        return layer

    def forward(
        self,
        input: Tensor,
        offsets: Tensor | None = None,
        per_sample_weights: Tensor | None = None,
    ) -> Tensor:
        """Compute the result.

        Args:
            input: the numbers of the rows.  Shape: (bags, length), or (total) with offsets
            offsets: where each bag starts in an input of one dimension.
            per_sample_weights: factors of the rows, for mode "sum".  Shape: that of the input
        """
        return F.embedding_bag(
            input,
            self.weight,
            offsets,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.mode,
            False,
            per_sample_weights,
            self.include_last_offset,
            self.padding_idx,
        )

    def extra_repr(self) -> str:
        return self._shown("max_norm", "norm_type", "scale_grad_by_freq", "mode", "padding_idx")
