"""GPT: a transformer decoder that reads a text from the left and guesses what comes next.

Radford et al., "Language models are unsupervised multitask learners" (GPT-2), 2019; attention:
Vaswani et al., "Attention is all you need", NeurIPS 2017, arXiv:1706.03762; one table for words
in and out: Press, Wolf, "Using the output embedding to improve language models", EACL 2017.

The parameters are named as in GPT-2's files; their matrices are ours transposed.

Shapes: N texts, L tokens, D numbers per token, H heads, V tokens that there are.
"""

from __future__ import annotations

from .. import nn
from ..errors import ModuleError
from ..nn import functional as F
from ..ops.creation import ones
from ..tensor import Tensor


class CausalSelfAttention(nn.Module):
    """softmax(Q·Kᵀ/√d)·V for each head, d = D/H; a token looks at itself and those before it.

    Shape: (N, L, D) -> (N, L, D)
    """

    def __init__(self, dim: int, heads: int, dropout: float, bias: bool) -> None:
        if dim % heads:
            raise ModuleError(f"{dim} numbers per token can't be divided among {heads} heads")
        self.heads, self.dropout = heads, dropout
        self.c_attn = nn.Linear(dim, 3 * dim, bias)
        self.c_proj = nn.Linear(dim, dim, bias)

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values of each head, each (N, H, L, d)."""
        q, k, v = self.c_attn(x).chunk(3, -1)  # each (N, L, D)
        return self._split(q), self._split(k), self._split(v)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (N, H, L, d)

    def forward(self, x: Tensor) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        q, k, v = self._heads(x)
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        y = self.c_proj(y.transpose(1, 2).flatten(2))  # (N, L, D)
        return F.dropout(y, self.dropout, self.training)

    def weights(self, x: Tensor) -> Tensor:
        """Return how much each token looks at each: rows that sum to 1.  Shape: (N, H, L, L)"""
        q, k, _ = self._heads(x)
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5  # (N, H, L, L)
        later = ones(*scores.shape[-2:], dtype="bool").triu(1)
        return F.softmax(scores.masked_fill(later, -1e30), -1)


class MLP(nn.Module):
    """y = dropout(W₂·GELU(W₁·x + b₁) + b₂).  Shape: (N, L, D) -> (N, L, D)"""

    def __init__(self, dim: int, dropout: float, bias: bool, approximate: str) -> None:
        self.c_fc = nn.Linear(dim, 4 * dim, bias)
        self.gelu = nn.GELU(approximate)
        self.c_proj = nn.Linear(4 * dim, dim, bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        h = self.gelu(self.c_fc(x))  # (N, L, 4·D)
        return self.dropout(self.c_proj(h))


class Block(nn.Module):
    """a = x + attention(LayerNorm(x));  y = a + MLP(LayerNorm(a)).  Shape: (N, L, D) -> same"""

    def __init__(self, dim: int, heads: int, dropout: float, bias: bool, approximate: str) -> None:
        self.ln_1 = nn.LayerNorm(dim, bias=bias)
        self.attn = CausalSelfAttention(dim, heads, dropout, bias)
        self.ln_2 = nn.LayerNorm(dim, bias=bias)
        self.mlp = MLP(dim, dropout, bias, approximate)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    """Tokens and positions as numbers, the blocks, a last norm.  Shape: (N, L) -> (N, L, D)"""

    def __init__(
        self, vocab_size: int, dim: int, layers: int, heads: int, max_length: int, dropout: float,
        bias: bool, approximate: str,
    ) -> None:  # fmt: skip
        self.wte = nn.Embedding(vocab_size, dim)
        self.wpe = nn.Embedding(max_length, dim)
        self.drop = nn.Dropout(dropout)
        self.h = [Block(dim, heads, dropout, bias, approximate) for _ in range(layers)]
        self.ln_f = nn.LayerNorm(dim, bias=bias)

    def embed(self, tokens: Tensor) -> Tensor:
        """Return what the first block gets."""
        length, longest = tokens.shape[-1], self.wpe.num_embeddings
        if length > longest:
            raise ModuleError(f"a text has {length} tokens, but there are {longest} positions")
        return self.drop(self.wte(tokens) + self.wpe.weight[:length])  # (N, L, D) + (L, D)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        for block in self.h:
            x = block(x)
        return self.ln_f(x)


class GPT(nn.Module):
    """Scores of each token that may come next, at each place of a text.

    x₀ = E[token] + P[place];  a = xᵢ + attention(LN(xᵢ));  xᵢ₊₁ = a + W₂·GELU(W₁·LN(a));
    scores = E·LN(x)

    A score depends on the tokens up to its place only, so a text may be padded at its right.

    Shape: (N, L) of integers -> (N, L, vocab_size)

    Args:
        vocab_size: how many different tokens there are.
        dim: numbers per token.
        layers: blocks.
        heads: of each block's attention.
        max_length: tokens of the longest text.
        dropout: probability that a number is dropped in training.
        bias: whether the linear layers and the norms have biases.
        approximate: GELU's, "none" or "tanh"; GPT-2's own is "tanh".

    Raises:
        ModuleError: dim can't be divided among the heads.

    >>> import toumei as tm
    >>> model = GPT(65, dim=16, layers=2, heads=4, max_length=8)
    >>> model(tm.tensor([[5, 7, 2]])).shape
    Size([1, 3, 65])
    """

    def __init__(
        self,
        vocab_size: int = 50257,
        dim: int = 768,
        layers: int = 12,
        heads: int = 12,
        max_length: int = 1024,
        dropout: float = 0.1,
        bias: bool = True,
        approximate: str = "none",
    ) -> None:
        self.transformer = Transformer(
            vocab_size, dim, layers, heads, max_length, dropout, bias, approximate
        )
        self.lm_head = nn.Linear(dim, vocab_size, bias=False)
        self.lm_head.weight = self.transformer.wte.weight
        self.reset_parameters()

    def reset_parameters(self, std: float = 0.02) -> None:
        """Draw weights as GPT-2's authors do: N(0, std²), the last of a block 1/√(2·layers) it.

        Each block adds to the sum twice; so it starts as large whatever the number of blocks.

        Args:
            std: GPT-2's is for 768 numbers per token; a narrow model learns faster with more.
        """
        for module in self.modules():
            _draw(module, std)
        blocks = self.transformer.h
        for block in blocks:
            for layer in (block.attn.c_proj, block.mlp.c_proj):
                nn.init.normal_(layer.weight, std=std * (2 * len(blocks)) ** -0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.lm_head(self.transformer(tokens))  # (N, L, D) -> (N, L, V)

    def attention_maps(self, tokens: Tensor) -> list[Tensor]:
        """Return how much each token looks at each before it, one (N, heads, L, L) per block."""
        x, maps = self.transformer.embed(tokens), []
        for block in self.transformer.h:
            maps.append(block.attn.weights(block.ln_1(x)))
            x = block(x)
        return maps


def _draw(module: nn.Module, std: float) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=std)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
