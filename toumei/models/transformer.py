"""The Transformer: an encoder reads a sentence, a decoder writes its translation, word by word.

Vaswani, Shazeer, Parmar, Uszkoreit, Jones, Gomez, Kaiser, Polosukhin, "Attention is all you need",
NIPS 2017, arXiv:1706.03762; tied embeddings: Press, Wolf, EACL 2017, arXiv:1608.05859; the norm
before each part: Xiong et al., ICML 2020, arXiv:2002.04745; beam search with a length penalty:
Wu et al., 2016, arXiv:1609.08144, section 7.

Shapes: N sentences, S source tokens, T target tokens, D numbers per token, H heads, V words.
Sentences of a batch are padded to one length: (source … <eos> <pad> …), (<bos> target …).

`forward` is given the whole target, as in training.  Decoding goes place by place in a window of
fixed size: what is behind lies in a cache, what is ahead is masked, and every step has one shape.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from .. import nn
from ..autograd import no_grad
from ..errors import ModuleError
from ..nn import functional as F
from ..ops.choice import where
from ..ops.creation import arange, from_numpy, ones, tensor, zeros
from ..tensor import Tensor

Array: TypeAlias = np.ndarray[Any, Any]


class Past(NamedTuple):
    """What one decoder layer looks at: earlier target places, and the source."""

    keys: Tensor  # (N, H, T, D/H), zero at places that are still to come
    values: Tensor
    source_keys: Tensor  # (N, H, S, D/H)
    source_values: Tensor


class State(NamedTuple):
    """What decoding knows of a batch of sources between two places."""

    layers: tuple[Past, ...]
    readable: Tensor  # (N, 1, 1, S), False at padding


class Transformer(nn.Module):
    """Embeddings·√D + sinusoids → encoder and decoder → a score for each word at each place.

    scores[:, t] = W·decoder(target[:, :t+1], encoder(source)) + b

    Shape: source (N, S), target (N, T) -> scores (N, T, target_size); the target begins with <bos>,
        and scores at place t are those of the word at place t + 1.

    Args:
        source_size, target_size: words of the vocabularies.
        d_model: D, numbers per token.
        heads: H, of each attention.
        encoder_layers, decoder_layers: how many there are.
        feedforward: width within the feed-forward networks.
        dropout: the probability of a number to be left out in training, in all places.
        norm_first: normalise the input of each part of a layer instead of its sum.
        tied: W is the table of the target's embeddings.
        shared: source and target have one table of embeddings, and one vocabulary.
        max_length: the most tokens of a sentence.
        pad, bos, eos: the numbers of <pad>, <bos> and <eos>.

    Raises:
        ModuleError: a size is not positive, H doesn't divide D, or vocabularies that are shared
            differ in size.

    >>> import toumei as tm
    >>> model = Transformer(20, 30, d_model=8, heads=2, encoder_layers=1, decoder_layers=1)
    >>> source, target = tm.tensor([[4, 5, 3, 0]]), tm.tensor([[2, 7, 8]])
    >>> model(source, target).shape
    Size([1, 3, 30])
    """

    def __init__(
        self,
        source_size: int,
        target_size: int,
        *,
        d_model: int = 512,
        heads: int = 8,
        encoder_layers: int = 6,
        decoder_layers: int = 6,
        feedforward: int = 2048,
        dropout: float = 0.1,
        norm_first: bool = False,
        tied: bool = True,
        shared: bool = False,
        max_length: int = 512,
        pad: int = 0,
        bos: int = 2,
        eos: int = 3,
    ) -> None:
        if shared and source_size != target_size:
            raise ModuleError(
                f"shared embeddings need one vocabulary: {source_size} and {target_size} words"
            )
        self.d_model, self.heads = d_model, heads
        self.pad, self.bos, self.eos = pad, bos, eos
        self.source_embedding = nn.Embedding(source_size, d_model)
        self.target_embedding = (
            self.source_embedding if shared else nn.Embedding(target_size, d_model)
        )
        self.position = nn.SinusoidalPosition(d_model, dropout, max_length, batch_first=True)
        self.transformer = nn.Transformer(
            d_model, heads, encoder_layers, decoder_layers, feedforward, dropout,
            batch_first=True, norm_first=norm_first,
        )  # fmt: skip
        self.output = nn.Linear(d_model, target_size)
        if tied:
            self.output.weight = self.target_embedding.weight
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        """Start with embeddings that have a variance of 1 once they are scaled by √D."""
        for weight in (
            self.source_embedding.weight, self.target_embedding.weight, self.output.weight
        ):  # fmt: skip
            nn.init.normal_(weight, std=self.d_model**-0.5)
        assert self.output.bias is not None
        nn.init.zeros_(self.output.bias)

    # --- all places at once ---

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        memory = self.encode(source)  # (N, S, D)
        h = self.decode(target, memory, source == self.pad)  # (N, T, D)
        return self.output(h)  # (N, T, V)

    def encode(self, source: Tensor) -> Tensor:
        """Return what the encoder reads.  Shape: (N, S) -> (N, S, D)"""
        x = self.position(self.source_embedding(source) * math.sqrt(self.d_model))  # (N, S, D)
        return self.transformer.encoder(x, src_key_padding_mask=source == self.pad)

    def decode(self, target: Tensor, memory: Tensor, padding: Tensor) -> Tensor:
        """Return what the decoder makes of each place.

        Padding in the target needs no mask: it comes last, so that no word looks at it.

        Shape: target (N, T), memory (N, S, D), padding (N, S), True at padding -> (N, T, D)
        """
        x = self.position(self.target_embedding(target) * math.sqrt(self.d_model))  # (N, T, D)
        ahead = ones(target.shape[1], target.shape[1], dtype="bool").triu(1)  # (T, T)
        return self.transformer.decoder(
            x, memory, tgt_mask=ahead, memory_key_padding_mask=padding, tgt_is_causal=True
        )

    # --- place by place ---

    @no_grad()
    def start(self, source: Tensor, length: int) -> State:
        """Read sources, and make room for translations of `length` tokens.  Shape: (N, S)"""
        memory = self.encode(source)  # (N, S, D)
        shape = (len(source), self.heads, length, self.d_model // self.heads)
        empty = zeros(shape, dtype=memory.dtype)
        layers = []
        for layer in self.transformer.decoder.layers:
            keys, values = self._keys_and_values(layer.multihead_attn, memory)
            layers.append(Past(empty, empty, keys, values))
        return State(tuple(layers), (source != self.pad).reshape(len(source), 1, 1, -1))

    @no_grad()
    def step(self, words: Tensor, place: Tensor, state: State) -> tuple[Tensor, State]:
        """Return log-probabilities of the words after those at a place.

        It computes what `forward` does in evaluation, of one place.

        Shape: words (N), place () -> (N, V)
        """
        x = self.target_embedding(words) * math.sqrt(self.d_model)  # (N, D)
        x = (x + F.embedding(place, self.position.weight)).unsqueeze(1)  # (N, 1, D)
        places = arange(state.layers[0].keys.shape[2]).reshape(1, 1, -1, 1)  # (1, 1, T, 1)
        layers = []
        for layer, past in zip(self.transformer.decoder.layers, state.layers, strict=True):
            x, past = self._advance(layer, x, past, places, place, state.readable)
            layers.append(past)
        h = self.transformer.decoder.norm(x).squeeze(1)  # (N, D)
        return F.log_softmax(self.output(h), -1), State(tuple(layers), state.readable)

    def _advance(
        self, layer: Any, x: Tensor, past: Past, places: Tensor, place: Tensor, readable: Tensor
    ) -> tuple[Tensor, Past]:
        """Take one place through a decoder layer.  Shape: (N, 1, D) -> (N, 1, D)"""

        def attend(x: Tensor) -> Tensor:
            nonlocal past
            q = self._queries(layer.self_attn, x)  # (N, H, 1, D/H)
            k, v = self._keys_and_values(layer.self_attn, x)  # (N, H, 1, D/H) each
            here = places == place
            keys, values = where(here, k, past.keys), where(here, v, past.values)
            past = past._replace(keys=keys, values=values)
            seen = (places <= place).transpose(-1, -2)  # (1, 1, 1, T)
            return _merged(layer.self_attn, F.scaled_dot_product_attention(q, keys, values, seen))

        def look_up(x: Tensor) -> Tensor:
            q = self._queries(layer.multihead_attn, x)
            y = F.scaled_dot_product_attention(q, past.source_keys, past.source_values, readable)
            return _merged(layer.multihead_attn, y)

        def feed_forward(x: Tensor) -> Tensor:
            return layer.linear2(layer.activation(layer.linear1(x)))

        norms = (layer.norm1, layer.norm2, layer.norm3)
        for block, norm in zip((attend, look_up, feed_forward), norms, strict=True):
            x = x + block(norm(x)) if layer.norm_first else norm(x + block(x))
        return x, past

    def _queries(self, attention: Any, x: Tensor) -> Tensor:
        d = self.d_model
        weight, bias = attention.in_proj_weight[:d], attention.in_proj_bias[:d]
        return self._split(F.linear(x, weight, bias))

    def _keys_and_values(self, attention: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        d = self.d_model
        weight, bias = attention.in_proj_weight[d:], attention.in_proj_bias[d:]
        keys, values = F.linear(x, weight, bias).chunk(2, -1)
        return self._split(keys), self._split(values)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (N, L, D) -> (N, H, L, D/H)


def _merged(attention: Any, y: Tensor) -> Tensor:
    """Put the heads together and project them out.  Shape: (N, H, 1, D/H) -> (N, 1, D)"""
    return attention.out_proj(y.transpose(1, 2).flatten(2))


# --- the search for a translation ---------------------------------------------------------------


class Translated(NamedTuple):
    """Translations of a batch."""

    tokens: Tensor  # (N, T) int64: words, <eos>, then padding
    log_probability: Tensor  # (N), float64: the sum over the words and <eos>


@no_grad()
def greedy(
    model: Transformer, source: Tensor, length: int, *, banned: Sequence[int] = ()
) -> Translated:
    """Return translations that take the likeliest word at each place.

    They have at most `length` tokens: where a sentence hasn't ended by itself, <eos> comes last.
    A sentence's translation does not depend on the others of its batch.

    Shape: source (N, S) -> tokens (N, length), log_probability (N)

    Args:
        model: in evaluation mode.
        source: sentences, padded.
        length: the size of the window: the most tokens of a translation, <eos> included.
        banned: words that are never written, such as <unk>; <pad> and <bos> never are.
    """
    n, state = len(source), model.start(source, length)
    tokens = np.full((n, length), model.pad)
    words, running = np.full(n, model.bos), np.ones(n, bool)
    total = np.zeros(n)
    for place in range(length):
        scores, state = _next_words(model, words, place, state, banned)
        words = scores.argmax(axis=1)
        tokens[running, place] = words[running]
        total[running] += scores[running, words[running]]
        running &= words != model.eos
        if not running.any():
            break
    return Translated(from_numpy(tokens), from_numpy(total))


def _next_words(
    model: Transformer, words: Array, place: int, state: State, banned: Sequence[int]
) -> tuple[Array, State]:
    """Return log-probabilities of what may come next; in the window's last place, of <eos> alone.

    Shape: (N) -> (N, V)
    """
    found, state = model.step(from_numpy(words), tensor(place), state)
    scores = found.numpy().copy()
    scores[:, [model.pad, model.bos, *banned]] = -np.inf
    if place == state.layers[0].keys.shape[2] - 1:
        scores[:, np.arange(scores.shape[1]) != model.eos] = -np.inf
    return scores, state


@no_grad()
def beam_search(
    model: Transformer,
    source: Tensor,
    length: int,
    *,
    width: int = 5,
    alpha: float = 0.6,
    banned: Sequence[int] = (),
) -> Translated:
    """Return the best translations found when, at each place, the `width` likeliest are kept.

    They are measured by log P(Y) / ((5 + |Y|) / 6)^α, |Y| counting <eos>: without the penalty
    short ones would win.  A sentence is finished when `width` translations have ended.  With a
    width of 1 it is `greedy`; with a width of all possible beginnings it finds the optimum.

    Shape: source (N, S) -> tokens (N, length), log_probability (N)

    Args:
        model, source, length, banned: as for `greedy`.
        width: how many beginnings are kept for each sentence.
        alpha: α, the strength of the length penalty; 0 for none.

    Raises:
        ValueError: `width` is not positive.

    Paper: Wu et al., 2016, arXiv:1609.08144, equation 14.
    """
    if width < 1:
        raise ValueError(f"beam_search: width must be positive, it is {width}")
    beams = _Beams.begin(model, len(source), length, width, alpha)
    state = model.start(source, length)
    first = from_numpy(np.repeat(np.arange(len(source)), width))
    layers = (Past(*(x.index_select(0, first) for x in past)) for past in state.layers)
    state = State(tuple(layers), state.readable.index_select(0, first))
    for place in range(length):
        scores, state = _next_words(model, beams.last(place), place, state, banned)
        state = _follow(state, beams.extend(scores, place))
        if beams.finished():
            break
    return Translated(from_numpy(beams.best), from_numpy(beams.best_total))


def _follow(state: State, rows: Array) -> State:
    """Return the state in which each row goes on from another one of the same sentence."""
    chosen = from_numpy(rows)
    layers = [
        past._replace(
            keys=past.keys.index_select(0, chosen), values=past.values.index_select(0, chosen)
        )
        for past in state.layers
    ]
    return State(tuple(layers), state.readable)


@dataclass
class _Beams:
    """The translations of N sentences under way, B of each, and the best that has ended."""

    model: Transformer
    alpha: float
    tokens: Array  # (N, B, T)
    total: Array  # (N, B) log-probabilities, best first; −∞ where there are not so many
    ended: Array  # (N) how many have ended
    best: Array  # (N, T)
    best_total: Array  # (N)
    best_score: Array  # (N) with the length penalty

    @classmethod
    def begin(cls, model: Transformer, n: int, length: int, width: int, alpha: float) -> _Beams:
        total = np.full((n, width), -np.inf)
        total[:, 0] = 0
        tokens = np.full((n, width, length), model.pad)
        best, nothing = np.full((n, length), model.pad), np.full(n, -np.inf)
        ended = np.zeros(n, np.int64)
        return cls(model, alpha, tokens, total, ended, best, nothing.copy(), nothing)

    def last(self, place: int) -> Array:
        """Return the words before a place.  Shape: (N·B)"""
        if place:
            return np.ascontiguousarray(self.tokens[:, :, place - 1]).reshape(-1)
        return np.full(self.total.size, self.model.bos)

    def finished(self) -> bool:
        return bool((self.ended >= self.total.shape[1]).all())

    def extend(self, scores: Array, place: int) -> Array:
        """Write the likeliest words; return the row that each translation goes on from.

        Of the 2B likeliest at least B go on.  What ends counts if it is among the first B.

        Shape: (N·B, V) -> (N·B)
        """
        n, width = self.total.shape
        words = _largest(scores, 2 * width)  # (N·B, K), K = 2B or all words
        gain = np.take_along_axis(scores, words, 1).reshape(n, width, -1)
        total = (self.total[:, :, None] + gain).reshape(n, -1)  # (N, B·K)
        found = _largest(total, 2 * width)  # (N, 2B), best first
        value, word = (np.take_along_axis(a.reshape(n, -1), found, 1) for a in (total, words))
        beam = found // words.shape[1]
        ends = word == self.model.eos
        self._retire(beam, value, ends, place)
        on = np.argsort(ends, axis=1, kind="stable")[:, :width]  # the first B that don't end
        self.total, beam, word = (np.take_along_axis(a, on, 1) for a in (value, beam, word))
        self.tokens = np.take_along_axis(self.tokens, beam[:, :, None], 1)
        self.tokens[:, :, place] = word
        return (np.arange(n)[:, None] * width + beam).reshape(-1)

    def _retire(self, beam: Array, value: Array, ends: Array, place: int) -> None:
        """Take in what has ended; keep the best."""
        width = self.total.shape[1]
        penalty = ((5 + place + 1) / 6) ** self.alpha
        for rank in range(width):
            counts = ends[:, rank] & np.isfinite(value[:, rank]) & (self.ended < width)
            self.ended += counts
            better = counts & (value[:, rank] / penalty > self.best_score)
            self.best_score[better] = value[better, rank] / penalty
            self.best_total[better] = value[better, rank]
            self.best[better] = self.tokens[np.flatnonzero(better), beam[better, rank]]
            self.best[better, place] = self.model.eos


def _largest(values: Array, count: int) -> Array:
    """Return where the largest values of each row are, in falling order.  Shape: (N, M)"""
    count = min(count, values.shape[1])
    some = np.sort(np.argpartition(values, -count, axis=1)[:, -count:], axis=1)
    order = np.argsort(-np.take_along_axis(values, some, 1), axis=1, kind="stable")
    return np.take_along_axis(some, order, 1)
