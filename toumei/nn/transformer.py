"""Transformer: layers of attention and feed-forward networks, stacks of them, and both together."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

from ..device import device_of
from ..errors import ModuleError
from ..ops.creation import full
from ..tensor import Tensor
from . import functional as F
from . import init
from .attention import MultiheadAttention
from .container import ModuleList
from .dropout import Dropout
from .linear import Linear, check_sizes
from .module import Module, check_is_module
from .norm import LayerNorm

__all__ = [
    "Transformer",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
]

Activation: TypeAlias = "str | Callable[[Tensor], Tensor]"
Mask: TypeAlias = "Tensor | None"

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu}


class _Layer(Module):
    """What both kinds of layer share: their parts, the feed-forward network, the norms' place."""

    _attentions: ClassVar[tuple[str, ...]]  # their names; each has a norm and a dropout
    self_attn: MultiheadAttention
    norm1: LayerNorm
    norm2: LayerNorm
    dropout1: Dropout
    dropout2: Dropout

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = F.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        *,
        dtype: Any = None,
    ) -> None:
        for name in self._attentions:
            attention = MultiheadAttention(
                d_model, nhead, dropout, bias, batch_first=batch_first, dtype=dtype
            )
            setattr(self, name, attention)
        self.linear1 = Linear(d_model, dim_feedforward, bias, dtype=dtype)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, dtype=dtype)
        self.norm_first = norm_first
        parts = range(1, len(self._attentions) + 2)
        for i in parts:
            setattr(self, f"norm{i}", LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype))
        for i in parts:
            setattr(self, f"dropout{i}", Dropout(dropout))
        self.activation = _activation(activation)

    def _add(self, x: Tensor, block: Callable[[Tensor], Tensor], norm: Module) -> Tensor:
        """Add a block's result to its input; normalise the block's input, or else the sum."""
        return x + block(norm(x)) if self.norm_first else norm(x + block(x))

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.linear2(self.dropout(self.activation(self.linear1(x))))

    def _attend_self(
        self, x: Tensor, mask: Mask, key_padding_mask: Mask, is_causal: bool
    ) -> Tensor:
        return _attended(self.self_attn, x, x, mask, key_padding_mask, is_causal)


def _attended(
    attention: Module, x: Tensor, memory: Tensor, mask: Mask, padding: Mask, is_causal: bool
) -> Tensor:
    """Return the result of attention without its weights."""
    out: Tensor = attention(
        x,
        memory,
        memory,
        key_padding_mask=padding,
        need_weights=False,
        attn_mask=mask,
        is_causal=is_causal,
    )[0]
    return out


def _activation(value: Activation) -> Callable[[Tensor], Tensor]:
    """Return the function of that name, or the function or module itself."""
    function = _ACTIVATIONS.get(value) if isinstance(value, str) else value
    if not callable(function):
        raise ModuleError(f"activation must be 'relu', 'gelu' or a function, not {value!r:.60}")
    return function


class TransformerEncoderLayer(_Layer):
    """Self-attention, then a feed-forward network, each added to its input and normalised.

    x ← norm₁(x + attention(x)),  y = norm₂(x + linear₂(activation(linear₁(x)))); with
    `norm_first` the norms take the input of each part instead: x ← x + attention(norm₁(x)), …

    Shape: (S, N, d_model) -> (S, N, d_model); N comes first with `batch_first`, and may be left out

    Args:
        d_model: features of the input and of the result.
        nhead: heads of the attention.
        dim_feedforward: features between the two linear layers.
        dropout: the probability of an element to be left out in training, in all places.
        activation: 'relu', 'gelu', or a function or module.
        layer_norm_eps: ε of the norms.
        batch_first: the batch is the first dimension, not the second.
        norm_first: normalise the input of each part instead of each sum.
        bias: whether linear layers, attention and norms add learnt biases.
        dtype: of the parameters; the default dtype if None.

    Raises:
        ModuleError: a size isn't a positive integer, nhead doesn't divide d_model, or the
            activation has an unknown name.

    Paper: Vaswani et al., "Attention is all you need" (2017), arXiv:1706.03762; `norm_first` after
    Xiong et al., "On layer normalization in the Transformer architecture" (2020), arXiv:2002.04745

    >>> import toumei as tm
    >>> from toumei import nn
    >>> nn.TransformerEncoderLayer(8, nhead=2, batch_first=True)(tm.ones(3, 5, 8)).shape
    Size([3, 5, 8])
    """

    _attentions = ("self_attn",)

    def forward(
        self,
        src: Tensor,
        src_mask: Mask = None,
        src_key_padding_mask: Mask = None,
        is_causal: bool = False,
    ) -> Tensor:
        """Return the encoded sequences; for the masks see MultiheadAttention.

        Args:
            src: the sequences.
            src_mask: (S, S) or (N·nhead, S, S); where a position may not look.
            src_key_padding_mask: (N, S); which positions are padding.
            is_causal: says that src_mask is the causal mask; the mask must be given and decides.
        """

        def attend(x: Tensor) -> Tensor:
            out = self._attend_self(x, src_mask, src_key_padding_mask, is_causal)
            return self.dropout1(out)

        x = self._add(src, attend, self.norm1)
        return self._add(x, lambda x: self.dropout2(self._feed_forward(x)), self.norm2)


class TransformerDecoderLayer(_Layer):
    """Self-attention, attention over an encoder's result, then a feed-forward network.

    Each part is added to its input and normalised, as in TransformerEncoderLayer.

    Shape: (T, N, d_model), (S, N, d_model) -> (T, N, d_model); N comes first with `batch_first`,
        and may be left out

    Args and Raises: those of TransformerEncoderLayer.

    Paper: Vaswani et al., "Attention is all you need" (2017), arXiv:1706.03762

    >>> import toumei as tm
    >>> from toumei import nn
    >>> layer = nn.TransformerDecoderLayer(8, nhead=2, batch_first=True)
    >>> layer(tm.ones(3, 4, 8), memory=tm.ones(3, 5, 8)).shape
    Size([3, 4, 8])
    """

    _attentions = ("self_attn", "multihead_attn")
    multihead_attn: MultiheadAttention
    norm3: LayerNorm
    dropout3: Dropout

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Mask = None,
        memory_mask: Mask = None,
        tgt_key_padding_mask: Mask = None,
        memory_key_padding_mask: Mask = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """Return the decoded sequences; for the masks see MultiheadAttention.

        Args:
            tgt: the sequences.
            memory: what the encoder returned.
            tgt_mask, memory_mask: where a position may not look, in tgt and in memory.
            tgt_key_padding_mask, memory_key_padding_mask: which positions are padding.
            tgt_is_causal, memory_is_causal: say that a mask is the causal one; it must be given.
        """

        def attend(x: Tensor) -> Tensor:
            out = self._attend_self(x, tgt_mask, tgt_key_padding_mask, tgt_is_causal)
            return self.dropout1(out)

        def look_up(x: Tensor) -> Tensor:
            masks = memory_mask, memory_key_padding_mask, memory_is_causal
            return self.dropout2(_attended(self.multihead_attn, x, memory, *masks))

        x = self._add(tgt, attend, self.norm1)
        x = self._add(x, look_up, self.norm2)
        return self._add(x, lambda x: self.dropout3(self._feed_forward(x)), self.norm3)


def _copies(name: str, layer: Module, n: int) -> ModuleList:
    """Return n deep copies: they start from the same numbers and learn each for itself."""
    check_is_module(layer, f"{name}: the layer")
    if not isinstance(n, int) or isinstance(n, bool) or n < 0:
        raise ModuleError(f"{name}: num_layers must be an integer from 0 on, got {n!r:.60}")
    return ModuleList(copy.deepcopy(layer) for _ in range(n))


class TransformerEncoder(Module):
    """A stack of encoder layers: deep copies of one layer.

    Shape: (S, N, d_model) -> (S, N, d_model), as the layer has it

    Args:
        encoder_layer: the layer to copy.
        num_layers: how many copies.
        norm: a layer that the result goes through.
        enable_nested_tensor, mask_check: taken for PyTorch's sake, where they steer a faster way
            of evaluation; the result doesn't depend on them.  (PyTorch's faster way puts zeros at
            padded positions; here they are computed as in training.)

    >>> import toumei as tm
    >>> from toumei import nn
    >>> layer = nn.TransformerEncoderLayer(8, nhead=2, batch_first=True)
    >>> nn.TransformerEncoder(layer, num_layers=2)(tm.ones(3, 5, 8)).shape
    Size([3, 5, 8])
    """

    def __init__(
        self,
        encoder_layer: Module,
        num_layers: int,
        norm: Module | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        self.layers = _copies("TransformerEncoder", encoder_layer, num_layers)
        self.num_layers = num_layers
        self.norm = norm
        self.enable_nested_tensor = enable_nested_tensor
        self.mask_check = mask_check

    def forward(
        self,
        src: Tensor,
        mask: Mask = None,
        src_key_padding_mask: Mask = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        """Return what the last layer does; for the masks see MultiheadAttention.

        Args:
            src: the sequences.
            mask: (S, S) or (N·nhead, S, S); where a position may not look.
            src_key_padding_mask: (N, S); which positions are padding.
            is_causal: says that the mask is the causal one; it must be given and decides.
        """
        for layer in self.layers:
            src = layer(
                src,
                src_mask=mask,
                src_key_padding_mask=src_key_padding_mask,
                is_causal=bool(is_causal),
            )
        return src if self.norm is None else self.norm(src)


class TransformerDecoder(Module):
    """A stack of decoder layers: deep copies of one layer.

    Shape: (T, N, d_model), (S, N, d_model) -> (T, N, d_model), as the layer has it

    Args:
        decoder_layer: the layer to copy.
        num_layers: how many copies.
        norm: a layer that the result goes through.

    >>> import toumei as tm
    >>> from toumei import nn
    >>> layer = nn.TransformerDecoderLayer(8, nhead=2, batch_first=True)
    >>> nn.TransformerDecoder(layer, num_layers=2)(tm.ones(3, 4, 8), tm.ones(3, 5, 8)).shape
    Size([3, 4, 8])
    """

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        self.layers = _copies("TransformerDecoder", decoder_layer, num_layers)
        self.num_layers = num_layers
        self.norm = norm

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Mask = None,
        memory_mask: Mask = None,
        tgt_key_padding_mask: Mask = None,
        memory_key_padding_mask: Mask = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """Return what the last layer does; the arguments are those of TransformerDecoderLayer."""
        for layer in self.layers:
            tgt = layer(
                tgt,
                memory,
                tgt_mask=tgt_mask,
                memory_mask=memory_mask,
                tgt_key_padding_mask=tgt_key_padding_mask,
                memory_key_padding_mask=memory_key_padding_mask,
                tgt_is_causal=bool(tgt_is_causal),
                memory_is_causal=memory_is_causal,
            )
        return tgt if self.norm is None else self.norm(tgt)


class Transformer(Module):
    """An encoder and a decoder, each with a norm at its end.  Weights start by Glorot's rule.

    Embeddings, positions and the layer that predicts are the user's.

    Shape: (S, N, d_model), (T, N, d_model) -> (T, N, d_model); N comes first with `batch_first`,
        and may be left out

    Args:
        d_model: features of the inputs and of the result.
        nhead: heads of each attention.
        num_encoder_layers: layers of the encoder.
        num_decoder_layers: layers of the decoder.
        dim_feedforward, dropout, activation: as in TransformerEncoderLayer.
        custom_encoder: a module to take instead, called as TransformerEncoder is.
        custom_decoder: a module to take instead, called as TransformerDecoder is.
        layer_norm_eps, batch_first, norm_first, bias, dtype: as in TransformerEncoderLayer.

    Raises:
        ModuleError: as TransformerEncoderLayer; forward: the batches or the features don't fit.

    Paper: Vaswani et al., "Attention is all you need" (2017), arXiv:1706.03762

    >>> import toumei as tm
    >>> from toumei import nn
    >>> model = nn.Transformer(8, 2, 1, 1, dim_feedforward=16, batch_first=True)
    >>> causal = model.generate_square_subsequent_mask(4)
    >>> model(tm.ones(3, 5, 8), tm.ones(3, 4, 8), tgt_mask=causal).shape
    Size([3, 4, 8])
    """

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = F.relu,
        custom_encoder: Module | None = None,
        custom_decoder: Module | None = None,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        *,
        dtype: Any = None,
    ) -> None:
        check_sizes("Transformer", d_model=d_model, nhead=nhead)
        options: tuple[Any, ...] = (d_model, nhead, dim_feedforward, dropout, activation)
        options = (*options, layer_norm_eps, batch_first, norm_first, bias)

        def norm() -> LayerNorm:
            return LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=dtype)

        if custom_encoder is None:
            layer: Module = TransformerEncoderLayer(*options, dtype=dtype)
            custom_encoder = TransformerEncoder(layer, num_encoder_layers, norm())
        if custom_decoder is None:
            layer = TransformerDecoderLayer(*options, dtype=dtype)
            custom_decoder = TransformerDecoder(layer, num_decoder_layers, norm())
        self.encoder = custom_encoder
        self.decoder = custom_decoder
        self.d_model = d_model
        self.nhead = nhead
        self.batch_first = batch_first
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        """Draw new weights, in custom parts as well: those of two or more dimensions."""
        for p in self.parameters():
            if p.ndim > 1:
                init.xavier_uniform_(p)

    def forward(
        self,
        src: Tensor,
        tgt: Tensor,
        src_mask: Mask = None,
        tgt_mask: Mask = None,
        memory_mask: Mask = None,
        src_key_padding_mask: Mask = None,
        tgt_key_padding_mask: Mask = None,
        memory_key_padding_mask: Mask = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """Encode src, and decode tgt by it; for the masks see MultiheadAttention.

        Args:
            src: what the encoder takes.
            tgt: what the decoder takes.
            src_mask, tgt_mask, memory_mask: where a position may not look: encoder, decoder,
                decoder over the encoder's result.
            src_key_padding_mask, tgt_key_padding_mask, memory_key_padding_mask: which positions
                are padding; the memory's are mostly those of src.
            src_is_causal, tgt_is_causal, memory_is_causal: say that a mask is the causal one; it
                must be given and decides.
        """
        self._check(src, tgt)
        memory = self.encoder(
            src, mask=src_mask, src_key_padding_mask=src_key_padding_mask, is_causal=src_is_causal
        )
        out: Tensor = self.decoder(
            tgt,
            memory,
            tgt_mask=tgt_mask,
            memory_mask=memory_mask,
            tgt_key_padding_mask=tgt_key_padding_mask,
            memory_key_padding_mask=memory_key_padding_mask,
            tgt_is_causal=tgt_is_causal,
            memory_is_causal=memory_is_causal,
        )
        return out

    def _check(self, src: Tensor, tgt: Tensor) -> None:
        batch = 0 if self.batch_first else 1
        if src.ndim == tgt.ndim == 3 and src.shape[batch] != tgt.shape[batch]:
            raise ModuleError(
                f"Transformer: the batch has {src.shape[batch]} sequences in src, but "
                f"{tgt.shape[batch]} in tgt"
            )
        for name, x in (("src", src), ("tgt", tgt)):
            if x.shape[-1:] != (self.d_model,):
                raise ModuleError(
                    f"Transformer: {name} has the shape {tuple(x.shape)}; its last dimension must "
                    f"be d_model, {self.d_model}"
                )

    @staticmethod
    def generate_square_subsequent_mask(sz: int, device: Any = None, dtype: Any = None) -> Tensor:
        """Return the causal mask: 0 where position i may look, j <= i, and −∞ elsewhere.

        Shape: (sz, sz)

        >>> from toumei import nn
        >>> nn.Transformer.generate_square_subsequent_mask(2)
        tensor([[  0., -inf],
                [  0.,   0.]])
        """
        device_of(device or "cpu")
        return full((sz, sz), -math.inf, dtype=dtype).triu(1)
