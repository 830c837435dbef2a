"""Random numbers: the published words, the distributions, and what a key means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import toumei as tm
import toumei.nn.functional as F
from toumei import Tensor
from toumei.ops import philox

N = 200_000


@pytest.fixture(autouse=True)
def _seeded() -> None:
    tm.manual_seed(20)


# Random123's known answers for philox4x32 with 10 rounds: counter, key, words.
KNOWN = [
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_published_words(counter: list[int], key: list[int], words: list[int]) -> None:
    got = philox.philox(np.array(counter, np.uint64)[:, None], np.array(key, np.uint64))
    assert [int(w[0]) for w in got] == words


def test_words_depend_on_key_and_index_alone() -> None:
    key = np.array([-3, 5])
    many = philox.random_words(key, 100_003)
    assert np.array_equal(philox.random_words(key, 40_000), many[:40_000])
    block = 9_000  # beyond the first chunk: its counter is (9000, 0, 5, 0), the seed 2⁶⁴ − 3
    words = philox.philox(
        np.array([block, 0, 5, 0], np.uint64)[:, None], np.array([2**32 - 3, 2**32 - 1], np.uint64)
    )
    assert [int(w[0]) for w in words] == many[4 * block : 4 * block + 4].tolist()


def test_float32_has_24_bits_and_float64_53() -> None:
    u = tm.rand(N)._array()
    assert u.dtype == np.float32 and (u < 1).all() and ((u * 2**24) % 1 == 0).all()
    wide = tm.rand(N, dtype=tm.float64)._array()
    assert ((wide * 2**53) % 1 == 0).all() and ((wide * 2**25) % 1 != 0).any()


def uniform_bins(u: Any) -> float:
    """Return χ² per degree of freedom of 256 bins."""
    counts = np.histogram(u, 256, (0, 1))[0]
    return float(((counts - len(u) / 256) ** 2).sum() / (len(u) / 256) / 255)


def normal_cdf(x: Any) -> Any:
    order = np.array([0.5 * (1 + _erf(v / np.sqrt(2))) for v in np.linspace(-6, 6, 4001)])
    return np.interp(x, np.linspace(-6, 6, 4001), order)


def _erf(x: float) -> float:
    from math import erf

    return erf(x)


# Each draw, brought to uniform numbers by the distribution function that it should have.
DISTRIBUTIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Any], Any]]] = {
    "rand": (lambda x: tm.rand_like(x), lambda y: y),
    "uniform_": (lambda x: x.uniform_(-2, 3), lambda y: (y + 2) / 5),
    "randn": (lambda x: tm.randn_like(x), normal_cdf),
    "normal_": (lambda x: x.normal_(1, 2), lambda y: normal_cdf((y - 1) / 2)),
    "log_normal_": (lambda x: x.log_normal_(0, 0.5), lambda y: normal_cdf(np.log(y) / 0.5)),
    "exponential_": (lambda x: x.exponential_(2.0), lambda y: 1 - np.exp(-2 * y)),
    "cauchy_": (lambda x: x.cauchy_(1, 2), lambda y: np.arctan((y - 1) / 2) / np.pi + 0.5),
}


@pytest.mark.parametrize("dtype", [tm.float32, tm.float64])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_distribution(name: str, dtype: Any) -> None:
    draw, cdf = DISTRIBUTIONS[name]
    u = np.asarray(cdf(draw(tm.zeros(N, dtype=dtype)).numpy().astype(np.float64)))
    assert 0.7 < uniform_bins(u) < 1.3  # five standard deviations are 0.44
    assert abs(u.mean() - 0.5) < 5 * np.sqrt(1 / 12 / N)
    assert abs(u.var() - 1 / 12) < 5 * np.sqrt(1 / 180 / N)
    neighbours = np.corrcoef(u[:-1], u[1:])[0, 1]
    assert abs(neighbours) < 5 / np.sqrt(N)


def test_consecutive_draws_are_independent() -> None:
    a, b = tm.rand(N)._array(), tm.rand(N)._array()
    assert abs(np.corrcoef(a, b)[0, 1]) < 5 / np.sqrt(N)
    tm.manual_seed(21)
    c = tm.rand(N)._array()
    assert abs(np.corrcoef(a, c)[0, 1]) < 5 / np.sqrt(N)


def test_whole_numbers() -> None:
    y = tm.randint(-3, 4, (N,))._array()
    counts = np.bincount(y + 3, minlength=7)
    assert len(counts) == 7 and abs(counts - N / 7).max() < 5 * np.sqrt(N / 7)
    huge = tm.randint(-(2**62), 2**62, (1000,))._array()
    assert huge.min() < -(2**61) and huge.max() > 2**61
    trials = tm.zeros(N).geometric_(0.25)._array()
    assert trials.min() == 1 and abs(trials.mean() - 4) < 0.05
    ones = tm.bernoulli(tm.full((N,), 0.3)).mean().item()
    assert abs(ones - 0.3) < 5 * np.sqrt(0.21 / N)
    assert tm.zeros(1000, dtype=tm.uint8).random_().max().item() > 250


def test_permutations_are_uniform() -> None:
    assert sorted(tm.randperm(1000).tolist()) == list(range(1000))
    first = np.bincount([tm.randperm(5)[0].item() for _ in range(2000)], minlength=5)
    assert abs(first - 400).max() < 100


def test_multinomial_follows_the_weights() -> None:
    weights = tm.tensor([[0.0, 1.0, 3.0], [2.0, 2.0, 0.0]])
    y = tm.multinomial(weights, 40_000, replacement=True)._array()
    share = np.stack([np.bincount(row, minlength=3) / 40_000 for row in y])
    assert np.allclose(share, [[0, 0.25, 0.75], [0.5, 0.5, 0]], atol=0.015)
    first = [tm.multinomial(tm.tensor([1.0, 3.0]), 2).tolist() for _ in range(800)]
    assert all(sorted(f) == [0, 1] for f in first)
    assert abs(sum(f[0] for f in first) / 800 - 0.75) < 0.08


def test_a_generator_repeats_itself_and_leaves_the_default_alone() -> None:
    g = tm.Generator(3)
    state = tm.get_rng_state()
    a = tm.randn(5, generator=g), tm.rand(5, generator=g)
    assert np.array_equal(tm.get_rng_state(), state)
    g.manual_seed(3)
    assert (tm.randn(5, generator=g) == a[0]).all() and (tm.rand(5, generator=g) == a[1]).all()
    assert not (tm.rand(5, generator=g) == a[1]).any()


def test_dropout_drops_and_rescales_and_its_gradient_uses_the_same_mask() -> None:
    x = tm.ones(N, requires_grad=True)
    y = F.dropout(x, 0.2)
    y.sum().backward()
    assert x.grad is not None
    assert set(np.unique(y.detach().numpy()).tolist()) == {0.0, 1.25}
    assert abs((y == 0).to(tm.float64).mean().item() - 0.2) < 5 * np.sqrt(0.16 / N)
    assert (x.grad == y.detach()).all()
    assert F.dropout(x, 0.2, training=False) is x and F.dropout(x, 0.0) is x
    assert (F.dropout(x, 1.0) == 0).all()


@pytest.mark.parametrize("p", [0.003, 0.1, 0.5, 0.9])
def test_neighbours_drop_independently(p: float) -> None:
    pairs = (F.dropout(tm.ones(2 * N + 1), p)._array()[: 2 * N] == 0).reshape(N, 2)
    for share, wanted in ((pairs[:, 0], p), (pairs[:, 1], p), (pairs.all(1), p * p)):
        assert abs(share.mean() - wanted) < 5 * np.sqrt(wanted * (1 - wanted) / N)


def test_dropout_depends_on_key_and_index_alone() -> None:
    masks = []
    for n in (7, 70_001):
        tm.manual_seed(5)
        masks.append(F.dropout(tm.ones(n), 0.5)._array())
    assert np.array_equal(masks[0], masks[1][:7])


def test_channels_drop_whole() -> None:
    y = F.dropout2d(tm.ones(50, 20, 3, 4), 0.5)._array().reshape(1000, 12)
    assert (y == y[:, :1]).all() and 400 < (y[:, 0] == 0).sum() < 600


def test_alpha_dropout_keeps_mean_and_variance() -> None:
    y = F.alpha_dropout(tm.randn(N), 0.3, training=True)._array()
    assert abs(y.mean()) < 0.02 and abs(y.var() - 1) < 0.03


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: F.dropout(tm.ones(2), 1.5), "p is a probability, 0 to 1, not 1.5"),
        (lambda: tm.randint(3, 3, (2,)), "low = 3 must be below high = 3"),
        (lambda: tm.randint(0, 300, (2,), dtype=tm.uint8), "uint8 doesn't hold"),
        (lambda: tm.rand(2, dtype=tm.int64), "floating-point numbers, not int64"),
        (lambda: tm.normal(0.0, -1.0, (2,)), "std must not be negative"),
        (lambda: tm.bernoulli(tm.tensor([0.5, 1.5])), "these in [0.5, 1.5]"),
        (lambda: tm.multinomial(tm.ones(3), 4), "4 of 3 can't be drawn"),
        (lambda: tm.multinomial(tm.tensor([1.0, 0.0]), 2), "only 1 weights above 0"),
        (lambda: tm.zeros(2).exponential_(0.0), "lambd must be above 0, it is 0.0"),
    ],
)
def test_refusals(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(tm.errors.OpError) as caught:
        call()
    assert words in caught.value.message
