"""Attention: each query takes a mean of the values, weighed by how well their keys fit."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import OpError
from ..tape import spec_of
from ..traced import known
from .combine import cat
from .creation import ones, zeros
from .dense import linear
from .dropping import dropout
from .rowwise import softmax

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = ["multi_head_attention_forward", "scaled_dot_product_attention"]


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(scale·Q·Kᵀ + mask)·V.

    Shape: (…, l, e), (…, s, e), (…, s, v) -> (…, l, v); the leading dimensions broadcast

    Args:
        attn_mask: broadcast to (…, l, s); bool: True where a query may look; float: added to the
            scores.  A query that may look nowhere gets zeros.
        dropout_p: with this probability a weight is left out (always: pass 0 when evaluating).
        is_causal: query i looks at keys 0 to i only; not together with attn_mask.
        scale: None takes 1/√e.
        enable_gqa: keys and values have fewer heads (dim −3), each for a group of query heads.

    Raises:
        OpError: the shapes don't fit, or both is_causal and attn_mask are given.

    Paper: Vaswani et al. 2017, arXiv:1706.03762.

    >>> import toumei as tm
    >>> q = k = v = tm.eye(2).reshape(1, 2, 2)
    >>> tm.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    tensor([[[1.    , 0.    ],
             [0.3302, 0.6698]]])
    """
    _check(query, key, value)
    if is_causal and attn_mask is not None:
        raise OpError("scaled_dot_product_attention: pass attn_mask or is_causal=True, not both")
    if enable_gqa:
        key, value = _for_groups(query, key), _for_groups(query, value)
    scale = 1 / math.sqrt(max(query.shape[-1], 1)) if scale is None else scale
    scores = (query * scale) @ key.transpose(-1, -2)
    if is_causal:
        attn_mask = ones(scores.shape[-2:], dtype=np.dtype(bool)).tril()
    weights = softmax(scores, -1) if attn_mask is None else _masked_softmax(scores, attn_mask)
    if dropout_p:
        weights = dropout(weights, dropout_p)
    return weights @ value


def _check(query: Tensor, key: Tensor, value: Tensor) -> None:
    reason = ""
    if min(query.ndim, key.ndim, value.ndim) < 2:
        reason = "each needs at least 2 dimensions"
    elif query.shape[-1] != key.shape[-1]:
        reason = f"queries have {query.shape[-1]} features, keys {key.shape[-1]}"
    elif key.shape[-2] != value.shape[-2]:
        reason = f"there are {key.shape[-2]} keys, but {value.shape[-2]} values"
    if reason:
        raise OpError(
            f"scaled_dot_product_attention(query: {spec_of(query)}, key: {spec_of(key)}, value: "
            f"{spec_of(value)}): {reason}"
        )


def _for_groups(query: Tensor, x: Tensor) -> Tensor:
    """Repeat each head of keys or values for its group of query heads."""
    heads, wanted = x.shape[-3], query.shape[-3]
    if heads == 0 or wanted % heads:
        raise OpError(
            f"scaled_dot_product_attention: {wanted} query heads can't be divided among {heads} "
            "heads of keys and values"
        )
    *lead, s, e = x.shape
    wide = x.unsqueeze(-3).expand(*lead, wanted // heads, s, e)
    return wide.reshape(*lead[:-1], wanted, s, e)


def _masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over what the mask lets through; a row that is all masked becomes 0, not NaN."""
    if mask.dtype.kind == "b":
        hidden = ~mask
    elif mask.dtype.kind == "f":
        hidden = mask == -math.inf
        scores = scores + mask
    else:
        raise OpError(
            f"scaled_dot_product_attention: attn_mask must be bool or float, not {mask.dtype}"
        )
    blind = hidden.all(-1, keepdim=True)
    if known(blind) and not blind._data.any():
        return softmax(
            scores.masked_fill(hidden, -math.inf) if mask.dtype.kind == "b" else scores, -1
        )
    weights = softmax(scores.masked_fill(hidden, -math.inf).masked_fill(blind, 0), -1)
    return weights.masked_fill(blind, 0)


# --- many heads ----------------------------------------------------------------------------------


class Heads(NamedTuple):
    """Queries, keys and values of all heads, (n, heads, length, size)."""

    q: Tensor
    k: Tensor
    v: Tensor


def multi_head_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
    *,
    batch_first: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Attention with several heads, between a projection in and one out.

    Shape: (l, n, e), (s, n, e), (s, n, e) -> (l, n, e), weights (n, l, s); n may be left out

    Args:
        embed_dim_to_check: e, which must be the query's.
        in_proj_weight: (3·e, e), for queries, keys and values; or with
            `use_separate_proj_weight` the three *_proj_weight instead.
        bias_k, bias_v: (1, 1, e): one more key and value.
        add_zero_attn: one more key and value of zeros.
        key_padding_mask: (n, s); bool: True where a key is padding; float: added to the scores.
        attn_mask: (l, s) or (n·heads, l, s); bool: True where a query may not look; float: added.
        need_weights: also return the weights, averaged over the heads or (n, heads, l, s).  A query
            that may look nowhere gets NaN with them and zeros without, as in PyTorch.
        static_k, static_v: (n·heads, s, e/heads) to take instead of the projected ones.
        is_causal: a hint that attn_mask is the causal mask; the mask decides.
        batch_first: queries, keys, values and the result are (n, l, e) instead.

    Raises:
        OpError: the shapes don't fit.
    """
    name = "multi_head_attention_forward"
    batched = query.ndim == 3
    if not batched:
        place = 0 if batch_first else 1
        query, key, value = (x.unsqueeze(place) for x in (query, key, value))
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    sequence = 1 if batch_first else 0
    _check_heads(name, query, key, value, embed_dim_to_check, num_heads, sequence)
    if is_causal and attn_mask is None:
        raise OpError(f"{name}: is_causal is a hint about attn_mask, which must be given with it")
    separate = (q_proj_weight, k_proj_weight, v_proj_weight)
    weights = separate if use_separate_proj_weight else _thirds(in_proj_weight)
    projected = _project(name, (query, key, value), weights, in_proj_bias)
    heads = _heads(name, projected, num_heads, sequence, bias_k, bias_v, static_k, static_v)
    extra = int(bias_k is not None)
    bias = _scores_bias(name, heads, attn_mask, key_padding_mask, extra)
    if add_zero_attn:
        heads, bias = _with_zero_key(heads), None if bias is None else _pad_keys(bias)
    p = dropout_p if training else 0.0
    if need_weights:
        out, w = _attend(heads, bias, p)
    else:
        out, w = scaled_dot_product_attention(*heads, bias, p), None
    out = out.permute(0, 2, 1, 3) if batch_first else out.permute(2, 0, 1, 3)
    out = linear(out.reshape(query.shape), out_proj_weight, out_proj_bias)
    if w is not None and average_attn_weights:
        w = w.mean(1)
    if batched:
        return out, w
    return out.squeeze(1 - sequence), None if w is None else w.squeeze(0)


def _check_heads(
    name: str,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim: int,
    num_heads: int,
    sequence: int,
) -> None:
    reason = ""
    if not query.ndim == key.ndim == value.ndim == 3:
        reason = "each needs 3 dimensions, or 2 without a batch"
    elif query.shape[2] != embed_dim:
        reason = f"the query has {query.shape[2]} features, not {embed_dim}"
    elif embed_dim % num_heads:
        reason = f"{embed_dim} features can't be divided among {num_heads} heads"
    elif key.shape[:2] != value.shape[:2]:
        reason = "keys and values differ in length or batch"
    elif key.shape[1 - sequence] != query.shape[1 - sequence]:
        reason = (
            f"the batch has {query.shape[1 - sequence]} queries, but {key.shape[1 - sequence]} keys"
        )
    if reason:
        raise OpError(
            f"{name}(query: {spec_of(query)}, key: {spec_of(key)}, value: {spec_of(value)}): "
            f"{reason}"
        )


def _thirds(joint: Tensor | None) -> tuple[Tensor | None, ...]:
    """Cut the weights or biases of queries, keys and values apart."""
    return (None,) * 3 if joint is None else joint.chunk(3)


def _project(name: str, inputs: Any, weights: Any, bias: Tensor | None) -> list[Tensor]:
    if any(w is None for w in weights):
        raise OpError(f"{name}: a projection weight is missing")
    return [linear(x, w, b) for x, w, b in zip(inputs, weights, _thirds(bias), strict=True)]


def _heads(
    name: str,
    projected: list[Tensor],
    num_heads: int,
    sequence: int,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    static_k: Tensor | None,
    static_v: Tensor | None,
) -> Heads:
    """Append the extra key and value, and give every head its part of the features."""
    q, k, v = projected
    n, e = q.shape[1 - sequence], q.shape[2]
    if (bias_k is None) != (bias_v is None):
        raise OpError(f"{name}: bias_k and bias_v belong together")
    if bias_k is not None and bias_v is not None:
        one = (n, 1, e) if sequence else (1, n, e)
        k, v = cat([k, bias_k.expand(one)], sequence), cat([v, bias_v.expand(one)], sequence)

    def split(x: Tensor) -> Tensor:
        x = x.reshape(*x.shape[:2], num_heads, e // num_heads)
        return x.permute(0, 2, 1, 3) if sequence else x.permute(1, 2, 0, 3)

    def given(x: Tensor) -> Tensor:
        return x.reshape(n, num_heads, *x.shape[1:])

    k = split(k) if static_k is None else given(static_k)
    v = split(v) if static_v is None else given(static_v)
    return Heads(split(q), k, v)


def _scores_bias(
    name: str,
    heads: Heads,
    attn_mask: Tensor | None,
    key_padding_mask: Tensor | None,
    extra: int,
) -> Tensor | None:
    """Merge both masks into one tensor to add to the scores, (n or 1, heads or 1, l or 1, s)."""
    n, num_heads, length, _ = heads.q.shape
    s = heads.k.shape[2] - extra
    bias = None
    if attn_mask is not None:
        shape = tuple(attn_mask.shape)
        if shape not in ((length, s), (1, length, s), (n * num_heads, length, s)):
            raise OpError(
                f"{name}: attn_mask is {spec_of(attn_mask)}, neither ({length}, {s}) nor "
                f"({n * num_heads}, {length}, {s})"
            )
        bias = _additive(name, attn_mask, heads.q.dtype)
        if attn_mask.ndim == 3 and shape[0] == n * num_heads:
            bias = bias.reshape(n, num_heads, length, s)
    if key_padding_mask is not None:
        if tuple(key_padding_mask.shape) != (n, s):
            raise OpError(
                f"{name}: key_padding_mask is {spec_of(key_padding_mask)}, not ({n}, {s})"
            )
        padding = _additive(name, key_padding_mask, heads.q.dtype).reshape(n, 1, 1, s)
        bias = padding if bias is None else bias + padding
    return bias if bias is None or not extra else _pad_keys(bias)


def _additive(name: str, mask: Tensor, dtype: Any) -> Tensor:
    if mask.dtype.kind == "f":
        return mask.to(dtype)
    if mask.dtype.kind != "b":
        raise OpError(f"{name}: a mask must be bool or float, not {mask.dtype}")
    return zeros(mask.shape, dtype=dtype).masked_fill(mask, -math.inf)


def _pad_keys(bias: Tensor) -> Tensor:
    """Nothing is added to the scores of one more key."""
    return cat([bias, zeros((*bias.shape[:-1], 1), dtype=bias.dtype)], -1)


def _with_zero_key(heads: Heads) -> Heads:
    def longer(x: Tensor) -> Tensor:
        n, h, _, size = x.shape
        return cat([x, zeros((n, h, 1, size), dtype=x.dtype)], 2)

    return Heads(heads.q, longer(heads.k), longer(heads.v))


def _attend(heads: Heads, bias: Tensor | None, dropout_p: float) -> tuple[Tensor, Tensor]:
    """Return the mean of the values for each query, and the weights."""
    scores = (heads.q * (1 / math.sqrt(heads.q.shape[-1]))) @ heads.k.transpose(-1, -2)
    weights = softmax(scores if bias is None else scores + bias, -1)
    if dropout_p:
        weights = dropout(weights, dropout_p)
    return weights @ heads.v, weights
