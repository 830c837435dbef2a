"""MultiheadAttention: every position takes from the positions that fit its query."""

from __future__ import annotations

from typing import Any

from ..errors import ModuleError
from ..tensor import Tensor
from . import functional as F
from . import init
from .linear import Linear, check_sizes, new_parameter
from .module import Module

__all__ = ["MultiheadAttention"]


class MultiheadAttention(Module):
    """Concat(head₁, …, head_h)·W_Oᵀ + b_O with headᵢ = softmax(Qᵢ·Kᵢᵀ/√d)·Vᵢ, d = embed_dim/h.

    Qᵢ, Kᵢ and Vᵢ are the i-th parts of the projected queries, keys and values.

    Shape: (L, N, embed_dim), (S, N, kdim), (S, N, vdim) -> (L, N, embed_dim), weights (N, L, S);
        N comes first with `batch_first`, and may be left out

    Args:
        embed_dim: features of the queries and of the result.
        num_heads: heads that the features are divided among.
        dropout: the probability of a weight to be left out in training.
        bias: whether the projections add learnt biases.
        add_bias_kv: add one learnt key and value to each sequence.
        add_zero_attn: add one key and value of zeros to each sequence.
        kdim: features of the keys; embed_dim if None.
        vdim: features of the values; embed_dim if None.
        batch_first: the batch is the first dimension, not the second.
        dtype: of the parameters; the default dtype if None.

    Raises:
        ModuleError: a size isn't a positive integer, or num_heads doesn't divide embed_dim.

    Paper: Vaswani et al., "Attention is all you need" (2017), arXiv:1706.03762

    >>> import toumei as tm
    >>> from toumei import nn
    >>> x = tm.ones(2, 5, 8)
    >>> out, weights = nn.MultiheadAttention(8, 2, batch_first=True)(x, x, x)
    >>> out.shape, weights.shape
    (Size([2, 5, 8]), Size([2, 5, 5]))
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        *,
        dtype: Any = None,
    ) -> None:
        kdim = embed_dim if kdim is None else kdim
        vdim = embed_dim if vdim is None else vdim
        name = "MultiheadAttention"
        check_sizes(name, embed_dim=embed_dim, num_heads=num_heads, kdim=kdim, vdim=vdim)
        if embed_dim % num_heads:
            raise ModuleError(
                f"{name}: embed_dim {embed_dim} can't be divided among {num_heads} heads"
            )
        if not 0 <= dropout <= 1:
            raise ValueError(f"{name}: dropout is a probability, 0 to 1, not {dropout}")
        self.embed_dim = embed_dim
        self.kdim = kdim
        self.vdim = vdim
        self.num_heads = num_heads
        self.head_dim = embed_dim // num_heads
        self.dropout = dropout
        self.batch_first = batch_first
        self.add_zero_attn = add_zero_attn
        self._make_parameters(bias, add_bias_kv, dtype)
        self.reset_parameters()

    def _make_parameters(self, bias: bool, add_bias_kv: bool, dtype: Any) -> None:
        e, joint = self.embed_dim, self._qkv_same_embed_dim
        self.in_proj_weight = new_parameter(3 * e, e, dtype=dtype) if joint else None
        self.q_proj_weight = None if joint else new_parameter(e, e, dtype=dtype)
        self.k_proj_weight = None if joint else new_parameter(e, self.kdim, dtype=dtype)
        self.v_proj_weight = None if joint else new_parameter(e, self.vdim, dtype=dtype)
        self.in_proj_bias = new_parameter(3 * e, dtype=dtype) if bias else None
        self.bias_k = new_parameter(1, 1, e, dtype=dtype) if add_bias_kv else None
        self.bias_v = new_parameter(1, 1, e, dtype=dtype) if add_bias_kv else None
        self.out_proj = Linear(e, e, bias=bias, dtype=dtype)

    @property
    def _qkv_same_embed_dim(self) -> bool:
        """Whether one weight projects queries, keys and values."""
        return self.kdim == self.embed_dim == self.vdim

    def reset_parameters(self) -> None:
        """Draw new weights, by Glorot's rule where they project in; projections' biases are 0."""
        for w in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if w is not None:
                init.xavier_uniform_(w)
        self.out_proj.reset_parameters()
        for b in (self.in_proj_bias, self.out_proj.bias):
            if b is not None:
                init.zeros_(b)
        for extra in (self.bias_k, self.bias_v):
            if extra is not None:
                init.xavier_normal_(extra)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the result, and the weights if they are needed.

        Args:
            query: what looks, (L, N, embed_dim).
            key: what is looked at, (S, N, kdim).
            value: what is found there, (S, N, vdim).
            key_padding_mask: (N, S); bool: True where a key is padding; float: added to the scores.
            need_weights: return the weights as well; without them it is faster.  A query that may
                look nowhere gets NaN with them and zeros (before the projection out) without.
            attn_mask: (L, S) or (N·num_heads, L, S); bool: True where a query may not look; float:
                added to the scores.
            average_attn_weights: weights are the mean over the heads, (N, L, S); otherwise those of
                each head, (N, num_heads, L, S).
            is_causal: says that attn_mask is the causal mask; the mask must be given and decides.

        Raises:
            OpError: the shapes don't fit.
        """
        return F.multi_head_attention_forward(
            query,
            key,
            value,
            self.embed_dim,
            self.num_heads,
            self.in_proj_weight,
            self.in_proj_bias,
            self.bias_k,
            self.bias_v,
            self.add_zero_attn,
            self.dropout,
            self.out_proj.weight,
            self.out_proj.bias,
            training=self.training,
            key_padding_mask=key_padding_mask,
            need_weights=need_weights,
            attn_mask=attn_mask,
            use_separate_proj_weight=not self._qkv_same_embed_dim,
            q_proj_weight=self.q_proj_weight,
            k_proj_weight=self.k_proj_weight,
            v_proj_weight=self.v_proj_weight,
            average_attn_weights=average_attn_weights,
            is_causal=is_causal,
            batch_first=self.batch_first,
        )
