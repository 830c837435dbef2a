"""BERT: a transformer encoder that reads a text from both sides.

Devlin, Chang, Lee, Toutanova, "BERT: Pre-training of Deep Bidirectional Transformers for Language
Understanding", NAACL 2019, arXiv:1810.04805; mean pooling for sentences: Reimers, Gurevych,
"Sentence-BERT", EMNLP 2019, arXiv:1908.10084.

The parameters are named as in the files on the Hugging Face Hub, which load as they are.

Shapes: N texts, L tokens, D numbers per token, H heads.
"""

from __future__ import annotations

import json
import os
from typing import Any, Self

from .. import io, nn
from ..errors import LoadError, ModuleError
from ..nn import functional as F
from ..ops.creation import zeros
from ..tensor import Tensor


class Embeddings(nn.Module):
    """y = dropout(LayerNorm(word + position + segment)).  Shape: (N, L) -> (N, L, D)"""

    def __init__(
        self, vocab_size: int, dim: int, max_length: int, segments: int, dropout: float, eps: float
    ) -> None:
        self.word_embeddings = nn.Embedding(vocab_size, dim, padding_idx=0)
        self.position_embeddings = nn.Embedding(max_length, dim)
        self.token_type_embeddings = nn.Embedding(segments, dim)
        self.LayerNorm = nn.LayerNorm(dim, eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, segments: Tensor | None) -> Tensor:
        length, longest = tokens.shape[-1], self.position_embeddings.num_embeddings
        if length > longest:
            raise ModuleError(f"a text has {length} tokens, but there are {longest} positions")
        words = self.word_embeddings(tokens)  # (N, L, D)
        places = self.position_embeddings.weight[:length]  # (L, D)
        if segments is None:
            segments = zeros(1, dtype="int64")  # all in the first one
        return self.dropout(self.LayerNorm(words + places + self.token_type_embeddings(segments)))


class SelfAttention(nn.Module):
    """softmax(Q·Kᵀ/√d)·V for each head, d = D/H.  Shape: (N, L, D) -> (N, L, D)"""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        if dim % heads:
            raise ModuleError(f"{dim} numbers per token can't be divided among {heads} heads")
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (N, H, L, d)

    def forward(self, h: Tensor, visible: Tensor | None) -> Tensor:
        q, k, v = (self._split(layer(h)) for layer in (self.query, self.key, self.value))
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, visible, dropout)  # (N, H, L, d)
        return y.transpose(1, 2).flatten(2)  # (N, L, D)

    def weights(self, h: Tensor, visible: Tensor | None) -> Tensor:
        """Return how much each token looks at each: rows that sum to 1.  Shape: (N, H, L, L)"""
        q, k = self._split(self.query(h)), self._split(self.key(h))
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        return F.softmax(scores if visible is None else scores.masked_fill(~visible, -1e30), -1)


class AddAndNorm(nn.Module):
    """y = LayerNorm(x + dropout(W·h + b)).  Shape: (N, L, inner), (N, L, D) -> (N, L, D)"""

    def __init__(self, inner: int, dim: int, dropout: float, eps: float) -> None:
        self.dense = nn.Linear(inner, dim)
        self.LayerNorm = nn.LayerNorm(dim, eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor, x: Tensor) -> Tensor:
        return self.LayerNorm(x + self.dropout(self.dense(h)))


class Attention(nn.Module):
    """Attention between the tokens, added to them.  Shape: (N, L, D) -> (N, L, D)"""

    def __init__(self, dim: int, heads: int, dropout: float, eps: float) -> None:
        self.self = SelfAttention(dim, heads, dropout)
        self.output = AddAndNorm(dim, dim, dropout, eps)

    def forward(self, x: Tensor, visible: Tensor | None) -> Tensor:
        return self.output(self.self(x, visible), x)


class Dense(nn.Module):
    """y = GELU(W·x + b)"""

    def __init__(self, dim: int, inner: int) -> None:
        self.dense = nn.Linear(dim, inner)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.dense(x))


class Block(nn.Module):
    """Attention, then a layer on each token; normalised after each.  Shape: (N, L, D) -> same"""

    def __init__(self, dim: int, heads: int, inner: int, dropout: float, eps: float) -> None:
        self.attention = Attention(dim, heads, dropout, eps)
        self.intermediate = Dense(dim, inner)
        self.output = AddAndNorm(inner, dim, dropout, eps)

    def forward(self, x: Tensor, visible: Tensor | None) -> Tensor:
        x = self.attention(x, visible)
        return self.output(self.intermediate(x), x)


class Encoder(nn.Module):
    """The blocks, one after the other.  Shape: (N, L, D) -> (N, L, D)"""

    def __init__(self, layers: int, *block: Any) -> None:
        self.layer = [Block(*block) for _ in range(layers)]

    def forward(self, x: Tensor, visible: Tensor | None) -> Tensor:
        for block in self.layer:
            x = block(x, visible)
        return x


class Pooler(nn.Module):
    """y = tanh(W·x₀ + b), of the first token.  Shape: (N, L, D) -> (N, D)"""

    def __init__(self, dim: int) -> None:
        self.dense = nn.Linear(dim, dim)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.dense(hidden[:, 0]).tanh()


class BERT(nn.Module):
    """Turns tokens into vectors that depend on the whole text.

    x₀ = LayerNorm(word + position + segment);
    a = LayerNorm(xᵢ + attention(xᵢ));  xᵢ₊₁ = LayerNorm(a + W₂·GELU(W₁·a))

    Shape: (N, L) of integers -> (N, L, dim)

    Args:
        vocab_size: how many different tokens there are; number 0 is padding.
        dim: numbers per token.
        layers: blocks.
        heads: of each block's attention.
        inner: numbers between W₁ and W₂; 4·dim if None.
        max_length: tokens of the longest text.
        segments: kinds of tokens, such as those of a first and of a second text.
        dropout: probability that a number is dropped in training.
        eps: of the LayerNorms.
        pooler: whether there is one; `model.pooler(model(tokens))` is one vector per text.

    Raises:
        ModuleError: dim can't be divided among the heads.

    >>> import toumei as tm
    >>> model = BERT(100, dim=16, layers=2, heads=4)
    >>> model(tm.tensor([[5, 7, 2, 0]]), tm.tensor([[1, 1, 1, 0]])).shape
    Size([1, 4, 16])
    """

    def __init__(
        self,
        vocab_size: int = 30522,
        dim: int = 768,
        layers: int = 12,
        heads: int = 12,
        inner: int | None = None,
        max_length: int = 512,
        segments: int = 2,
        dropout: float = 0.1,
        eps: float = 1e-12,
        pooler: bool = True,
    ) -> None:
        inner = 4 * dim if inner is None else inner
        self.embeddings = Embeddings(vocab_size, dim, max_length, segments, dropout, eps)
        self.encoder = Encoder(layers, dim, heads, inner, dropout, eps)
        self.pooler = Pooler(dim) if pooler else None
        self.apply(_draw)

    def forward(
        self, tokens: Tensor, attention_mask: Tensor | None = None, segments: Tensor | None = None
    ) -> Tensor:
        """Return each token's vector.

        Args:
            tokens: their numbers.  Shape: (N, L)
            attention_mask: 1 or True for tokens, 0 or False for padding.  Shape: (N, L)
            segments: 0 for tokens of a first text, 1 for those of a second …; all 0 if None.
        """
        return self.encoder(self.embeddings(tokens, segments), _visible(attention_mask))

    def attention_maps(
        self, tokens: Tensor, attention_mask: Tensor | None = None, segments: Tensor | None = None
    ) -> list[Tensor]:
        """Return how much each token looks at each, one (N, heads, L, L) per block."""
        x, visible, maps = self.embeddings(tokens, segments), _visible(attention_mask), []
        for block in self.encoder.layer:
            maps.append(block.attention.self.weights(x, visible))
            x = block(x, visible)
        return maps

    @classmethod
    def from_folder(cls, folder: str | os.PathLike[str]) -> Self:
        """Return a trained model from a folder as on the Hugging Face Hub, in evaluation mode.

        Args:
            folder: holds config.json and model.safetensors (or several files and their index).

        Raises:
            LoadError: a file is missing or damaged, or it is a model of another kind.
        """
        options, state = _options(folder), _encoder_state(io.load(folder))
        model = cls(**options, pooler="pooler.dense.weight" in state)
        model.load_state_dict(state)
        return model.eval()


def _visible(mask: Tensor | None) -> Tensor | None:
    """Return which keys may be looked at, the same for all heads and queries: (N, 1, 1, L)."""
    return None if mask is None else (mask != 0)[:, None, None, :]


def _draw(module: nn.Module) -> None:
    """Draw weights from N(0, 0.02²), as the paper's authors do."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
    if isinstance(module, nn.Embedding) and module.padding_idx is not None:
        nn.init.zeros_(module.weight.detach()[module.padding_idx])  # shares the table's memory


def mean_pool(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """Return the mean of each text's tokens, without the padding.  Shape: (N, L, D) -> (N, D)

    >>> import toumei as tm
    >>> mean_pool(tm.tensor([[[1.0], [3.0], [9.0]]]), tm.tensor([[1, 1, 0]]))
    tensor([[2.]])
    """
    share = attention_mask.to(hidden.dtype).unsqueeze(-1)  # (N, L, 1)
    return (hidden * share).sum(1) / share.sum(1).clamp(min=1e-9)


# --- training it: which token is behind the mask? ------------------------------------------------


class Transform(nn.Module):
    """y = LayerNorm(GELU(W·x + b)).  Shape: (N, L, D) -> (N, L, D)"""

    def __init__(self, dim: int, eps: float) -> None:
        self.dense = nn.Linear(dim, dim)
        self.LayerNorm = nn.LayerNorm(dim, eps)

    def forward(self, x: Tensor) -> Tensor:
        return self.LayerNorm(F.gelu(self.dense(x)))


class Predictions(nn.Module):
    """Scores of each of V words, by its own embedding.  Shape: (N, L, D) -> (N, L, V)"""

    def __init__(self, words: nn.Embedding, eps: float) -> None:
        self.transform = Transform(words.embedding_dim, eps)
        self.decoder = nn.Linear(words.embedding_dim, words.num_embeddings)
        self.decoder.weight = words.weight
        self.bias = self.decoder.bias  # one parameter with two names, as in the files

    def forward(self, hidden: Tensor) -> Tensor:
        return self.decoder(self.transform(hidden))


class MaskedLM(nn.Module):
    """BERT with the head that it is trained with: scores of the tokens behind a mask.

    scores = E·LayerNorm(GELU(W·h + b)) + c, with E the word embeddings themselves

    Shape: (N, L) of integers -> (N, L, vocab_size)

    Args:
        bert: the encoder.

    >>> import toumei as tm
    >>> model = MaskedLM(BERT(100, dim=16, layers=2, heads=4, pooler=False))
    >>> model(tm.tensor([[5, 7, 2]])).shape
    Size([1, 3, 100])
    """

    def __init__(self, bert: BERT) -> None:
        self.bert = bert
        head = Predictions(bert.embeddings.word_embeddings, bert.embeddings.LayerNorm.eps)
        self.cls = nn.ModuleDict({"predictions": head})
        head.apply(_draw)

    def forward(
        self, tokens: Tensor, attention_mask: Tensor | None = None, segments: Tensor | None = None
    ) -> Tensor:
        return self.cls["predictions"](self.bert(tokens, attention_mask, segments))


# --- files of the Hugging Face Hub ---------------------------------------------------------------

_OPTIONS = {
    "vocab_size": "vocab_size", "hidden_size": "dim", "num_hidden_layers": "layers",
    "num_attention_heads": "heads", "intermediate_size": "inner",
    "max_position_embeddings": "max_length", "type_vocab_size": "segments",
    "hidden_dropout_prob": "dropout", "layer_norm_eps": "eps",
}  # fmt: skip
_FIXED = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}


def _options(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the arguments of a model by its config.json."""
    path = os.path.join(folder, "config.json")
    try:
        with open(path, encoding="utf-8") as file:
            config = json.load(file)
        options = {ours: config[theirs] for theirs, ours in _OPTIONS.items()}
    except (OSError, ValueError, TypeError) as error:
        raise LoadError(f"{path} can't be read: {error}") from error
    except KeyError as error:
        raise LoadError(f"{path} is not that of a BERT: it has no {error}") from error
    for name, value in _FIXED.items():
        if config.get(name, value) != value:
            raise LoadError(f"{path}: {name} is {config[name]!r}; this model knows {value!r} only")
    return options


def _encoder_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the encoder's tensors: files may also hold a head, and the numbers 0, 1, 2 …"""
    prefix = "bert." if any(name.startswith("bert.") for name in state) else ""
    own = {n[len(prefix) :]: t for n, t in state.items() if n.startswith(prefix)}
    return {
        n.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        : t for n, t in own.items() if n != "embeddings.position_ids"
    }  # fmt: skip
