"""Attention: each query takes a mean of the values, weighed by how well their keys fit."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import OpError
from ..tape import spec_of
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
    if isinstance(blind._data, np.ndarray) and not blind._data.any():
        return softmax(
            scores.masked_fill(hidden, -math.inf) if mask.dtype.kind == "b" else scores, -1
        )
    weights = softmax(scores.masked_fill(hidden, -math.inf).masked_fill(blind, 0), -1)
    return weights.masked_fill(blind, 0)


# --- many heads ----------------------------------------------------------------------------------


class Heads(NamedTuple):
    """Queries, keys, values of all heads, (n·heads, length, size), and what is added to scores."""

    q: Tensor
    k: Tensor
    v: Tensor
    bias: Tensor | None


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
        need_weights: also return the weights, averaged over the heads or (n, heads, l, s).
        static_k, static_v: (n·heads, s, e/heads) to take instead of the projected ones.
        is_causal: a hint that attn_mask is the causal mask; the mask decides.

    Raises:
        OpError: the shapes don't fit.
    """
    name = "multi_head_attention_forward"
    batched = query.ndim == 3
    if not batched:
        query, key, value = query.unsqueeze(1), key.unsqueeze(1), value.unsqueeze(1)
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    length, n, e = query.shape
    _check_heads(name, query, key, value, embed_dim_to_check, num_heads)
    if is_causal and attn_mask is None:
        raise OpError(f"{name}: is_causal is a hint about attn_mask, which must be given with it")
    weights: tuple[Tensor | None, ...]
    if use_separate_proj_weight:
        weights = (q_proj_weight, k_proj_weight, v_proj_weight)
    else:
        weights = (
            (None,) * 3 if in_proj_weight is None else in_proj_weight.split_with_sizes([e] * 3)
        )
    projected = _project(name, (query, key, value), weights, in_proj_bias)
    heads = _heads(name, projected, num_heads, bias_k, bias_v, static_k, static_v)
    heads = heads._replace(bias=_scores_bias(name, heads, num_heads, n, attn_mask, key_padding_mask,
                                             int(bias_k is not None)))  # fmt: skip
    if add_zero_attn:
        heads = _with_zero_key(heads)
    out, w = _attend(heads, dropout_p if training else 0.0)
    out = linear(out.transpose(0, 1).reshape(length, n, e), out_proj_weight, out_proj_bias)
    if not batched:
        out = out.squeeze(1)
    if not need_weights:
        return out, None
    w = w.reshape(n, num_heads, length, w.shape[-1])
    w = w.mean(1) if average_attn_weights else w
    return out, w if batched else w.squeeze(0)


def _check_heads(
    name: str, query: Tensor, key: Tensor, value: Tensor, embed_dim: int, num_heads: int
) -> None:
    e = query.shape[2]
    reason = ""
    if e != embed_dim:
        reason = f"the query has {e} features, not {embed_dim}"
    elif e % num_heads:
        reason = f"{e} features can't be divided among {num_heads} heads"
    elif key.shape[:2] != value.shape[:2]:
        reason = "keys and values differ in length or batch"
    elif key.shape[1] != query.shape[1]:
        reason = f"the batch has {query.shape[1]} queries, but {key.shape[1]} keys"
    if reason:
        raise OpError(
            f"{name}(query: {spec_of(query)}, key: {spec_of(key)}, value: {spec_of(value)}): "
            f"{reason}"
        )


def _project(name: str, inputs: Any, weights: Any, bias: Tensor | None) -> list[Tensor]:
    if any(w is None for w in weights):
        raise OpError(f"{name}: a projection weight is missing")
    e = inputs[0].shape[2]
    biases = (None,) * 3 if bias is None else bias.split_with_sizes([e] * 3)
    return [linear(x, w, b) for x, w, b in zip(inputs, weights, biases, strict=True)]


def _heads(
    name: str,
    projected: list[Tensor],
    num_heads: int,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    static_k: Tensor | None,
    static_v: Tensor | None,
) -> Heads:
    """Append the extra key and value, and give every head its part of the features."""
    q, k, v = projected
    n, e = q.shape[1:]
    if (bias_k is None) != (bias_v is None):
        raise OpError(f"{name}: bias_k and bias_v belong together")
    if bias_k is not None and bias_v is not None:
        k, v = cat([k, bias_k.expand(1, n, e)]), cat([v, bias_v.expand(1, n, e)])

    def split(x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], n * num_heads, e // num_heads).transpose(0, 1)

    k = split(k) if static_k is None else static_k
    v = split(v) if static_v is None else static_v
    return Heads(split(q), k, v, None)


def _scores_bias(
    name: str,
    heads: Heads,
    num_heads: int,
    n: int,
    attn_mask: Tensor | None,
    key_padding_mask: Tensor | None,
    extra: int,
) -> Tensor | None:
    """Merge both masks into one tensor to add to the scores, (n·heads or 1, l or 1, s)."""
    length, s = heads.q.shape[1], heads.k.shape[1]
    bias = None
    if attn_mask is not None:
        bias = _additive(name, attn_mask, heads.q.dtype)
        bias = bias.unsqueeze(0) if bias.ndim == 2 else bias
        if tuple(bias.shape) not in ((1, length, s - extra), (n * num_heads, length, s - extra)):
            raise OpError(
                f"{name}: attn_mask is {spec_of(attn_mask)}: it has not {length} × {s - extra}"
            )
    if key_padding_mask is not None:
        if tuple(key_padding_mask.shape) != (n, s - extra):
            raise OpError(
                f"{name}: key_padding_mask is {spec_of(key_padding_mask)}, not ({n}, {s - extra})"
            )
        padding = _additive(name, key_padding_mask, heads.q.dtype)
        padding = padding.reshape(n, 1, 1, s - extra).expand(n, num_heads, 1, s - extra)
        padding = padding.reshape(n * num_heads, 1, s - extra)
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
        return cat([x, zeros((x.shape[0], 1, x.shape[2]), dtype=x.dtype)], 1)

    bias = None if heads.bias is None else _pad_keys(heads.bias)
    return Heads(heads.q, longer(heads.k), longer(heads.v), bias)


def _attend(heads: Heads, dropout_p: float) -> tuple[Tensor, Tensor]:
    """Return the mean of the values for each query, and the weights."""
    scores = (heads.q * (1 / math.sqrt(heads.q.shape[-1]))) @ heads.k.transpose(-1, -2)
    weights = softmax(scores if heads.bias is None else scores + heads.bias, -1)
    if dropout_p:
        weights = dropout(weights, dropout_p)
    return weights @ heads.v, weights
