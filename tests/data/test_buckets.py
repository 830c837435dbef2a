"""Buckets: the best lengths, batches of one bucket each, padding; few shapes in all."""

from __future__ import annotations

import json
from itertools import combinations, pairwise
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import toumei as tm
from toumei.data import (
    BucketBatchSampler,
    DataLoader,
    bucket_lengths,
    bucket_shapes,
    pad_collate,
)
from toumei.device import Generator


def places(lengths: Any, buckets: Any) -> int:
    """How many places the samples take, each padded to the first bucket that holds it."""
    lengths = np.reshape(lengths, (len(lengths), -1))
    buckets = np.reshape(buckets, (len(buckets), -1))
    first = (lengths[:, None] <= buckets[None]).all(2).argmax(1)
    return int(buckets[first].sum())


# --- which buckets ---


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(st.lists(st.integers(1, 12), min_size=1, max_size=30), st.integers(1, 4))
def test_no_choice_of_lengths_pads_less(lengths: list[int], count: int) -> None:
    found = bucket_lengths(lengths, count)
    assert found == sorted(set(found)) and found[-1] == max(lengths) and len(found) <= count
    choices = [
        [*few, max(lengths)]
        for n in range(count)
        for few in combinations(range(1, max(lengths)), n)
    ]
    assert places(lengths, found) == min(places(lengths, choice) for choice in choices)


@hypothesis.settings(max_examples=30, deadline=None)
@hypothesis.given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=20),
    st.integers(1, 3),
)
def test_no_chain_of_shapes_pads_less(pairs: list[tuple[int, int]], count: int) -> None:
    found = bucket_shapes(pairs, count)
    top = (max(s for s, _ in pairs), max(t for _, t in pairs))
    assert found[-1] == top and len(found) <= count
    grid = [(s, t) for s in range(1, top[0] + 1) for t in range(1, top[1] + 1) if (s, t) != top]
    chains = [
        [*few, top]
        for n in range(count)
        for few in combinations(grid, n)
        if all(a[0] <= b[0] and a[1] <= b[1] for a, b in pairwise(few))
    ]
    assert places(pairs, found) == min(places(pairs, chain) for chain in chains)


def test_eight_buckets_pad_little() -> None:
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(2.5, 0.5, 20_000).astype(int), 1, 80)
    assert places(lengths, [lengths.max()]) > 4 * lengths.sum()
    assert places(lengths, bucket_lengths(lengths)) < 1.16 * lengths.sum()
    pairs = np.stack([lengths, np.maximum(1, lengths + rng.integers(-3, 4, 20_000))], 1)
    shapes = bucket_shapes(pairs)
    assert len(shapes) == 8 and places(pairs, shapes) < 1.35 * pairs.sum()


def test_thousands_of_different_lengths_are_weighed_by_quantiles() -> None:
    lengths = np.arange(1, 5001)
    found = bucket_lengths(lengths)
    # For uniform lengths eight equal steps are best: 5000 · 5000 · (1 + 1/8) / 2 places.
    assert found[-1] == 5000 and len(found) == 8
    assert places(lengths, found) < 1.002 * 5000**2 * (1 + 1 / 8) / 2


def test_few_lengths_need_no_more_buckets() -> None:
    assert bucket_lengths([7] * 5) == [7] and bucket_lengths([2, 9, 2], count=8) == [2, 9]


@pytest.mark.parametrize(
    ("lengths", "count", "message"),
    [
        ([], 8, "positive integers"),
        ([0, 3], 8, "positive integers"),
        ([1.5], 8, "positive integers"),
        ([1], 0, "number of buckets"),
        ([(1, 2)], 8, "for pairs: bucket_shapes"),
    ],
)
def test_lengths_that_make_no_sense_are_refused(lengths: Any, count: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bucket_lengths(lengths, count)


# --- batches ---

LENGTHS = np.random.default_rng(1).integers(1, 21, 500)
BUCKETS = [5, 9, 14, 20]


def bucket_of(index: int) -> int:
    return next(b for b, length in enumerate(BUCKETS) if LENGTHS[index] <= length)


def batches(epoch: int = 0, seed: int = 0, **given: Any) -> list[list[int]]:
    sampler = BucketBatchSampler(LENGTHS, BUCKETS, **given)
    made = list(sampler.order(seed, epoch))
    assert len(made) == len(sampler)
    return made


@pytest.mark.parametrize("shuffle", [False, True])
def test_every_sample_comes_once_beside_others_of_its_bucket(shuffle: bool) -> None:
    made = batches(batch_size=16, shuffle=shuffle)
    assert sorted(i for batch in made for i in batch) == list(range(500))
    assert all(len({bucket_of(i) for i in batch}) == 1 for batch in made)
    assert sum(len(batch) < 16 for batch in made) <= 4


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    made = [batches(e, s, batch_size=16, shuffle=True) for e in (0, 1) for s in (0, 1)]
    assert made[0] == batches(0, 0, batch_size=16, shuffle=True)
    assert all(a != b for a, b in combinations(made, 2))
    # Not only the batches come in another order: they hold others.
    assert {frozenset(b) for b in made[0]} != {frozenset(b) for b in made[1]}
    order = [bucket_of(batch[0]) for batch in made[0]]
    assert order != sorted(order)
    generator = BucketBatchSampler(LENGTHS, BUCKETS, 9, shuffle=True, generator=Generator(4))
    assert list(generator) != list(generator)


@pytest.mark.parametrize("given", [{"batch_size": 16}, {"max_tokens": 200}])
def test_whole_batches_lose_only_short_samples_and_fewer_than_a_batch(given: Any) -> None:
    seen: list[int] = []
    for epoch in range(30):
        made = batches(epoch, shuffle=True, drop_last=True, **given)
        sizes = [40, 22, 14, 10] if "max_tokens" in given else [16] * 4
        for batch in made:
            longest = max(bucket_of(i) for i in batch)
            assert len(batch) == sizes[longest]
        flat = [i for batch in made for i in batch]
        lost = set(range(500)) - set(flat)
        assert len(flat) == len(set(flat)) and len(lost) < sizes[0]
        assert all(bucket_of(i) == 0 for i in lost)
        seen += flat
    assert set(seen) == set(range(500))


def test_a_lone_long_sample_is_kept_by_whole_batches() -> None:
    sampler = BucketBatchSampler([2, 2, 2, 9, 5, 2, 2], [2, 5, 9], 3, drop_last=True)
    # 9 borrows the 5 and a 2; the five 2s that are left make one batch and lose one of them.
    made = list(sampler)
    assert made == [[0, 1, 2], [3, 4, 6]] and len(sampler) == 2
    assert list(BucketBatchSampler([2, 2], [2], 3, drop_last=True)) == []


def test_pairs_belong_to_the_first_shape_that_holds_both() -> None:
    pairs = [(2, 9), (2, 2), (9, 2), (3, 3), (4, 4)]
    sampler = BucketBatchSampler(pairs, [(3, 3), (4, 4), (9, 9)], 2)
    assert list(sampler) == [[1, 3], [4], [0, 2]]
    sampler = BucketBatchSampler(pairs, [(3, 3), (4, 4), (9, 9)], max_tokens=18)
    assert list(sampler) == [[1, 3], [4], [0], [2]]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"buckets": [5, 9, 14]}, "more than every bucket"),
        ({"buckets": [9, 5, 20]}, "must ascend"),
        ({"buckets": [5, 20, 20]}, "must ascend"),
        ({"buckets": [(5, 5), (20, 20)]}, "buckets have 2"),
        ({"batch_size": None}, "either batch_size or max_tokens"),
        ({"max_tokens": 100}, "either batch_size or max_tokens"),
        ({"batch_size": 0}, "batch_size must be positive"),
        ({"batch_size": None, "max_tokens": 19}, "max_tokens is 19"),
    ],
)
def test_batches_that_make_no_sense_are_refused(given: dict[str, Any], message: str) -> None:
    settings: dict[str, Any] = {"buckets": BUCKETS, "batch_size": 4} | given
    with pytest.raises(ValueError, match=message):
        BucketBatchSampler(LENGTHS, **settings)


# --- padding ---


def sequences() -> list[Any]:
    rng = np.random.default_rng(2)
    return [tm.from_numpy(rng.integers(1, 50, n)) for n in LENGTHS]


def test_a_loader_hands_out_one_shape_per_bucket_and_resumes_exactly() -> None:
    data = sequences()

    def loader() -> DataLoader:
        sampler = BucketBatchSampler(LENGTHS, BUCKETS, 16, shuffle=True, drop_last=True)
        return DataLoader(data, batch_sampler=sampler, collate_fn=pad_collate(BUCKETS), seed=7)

    first = loader()
    epoch = list(first)
    assert {tuple(batch.shape) for batch in epoch} == {(16, length) for length in BUCKETS}
    for batch, indices in zip(epoch, first.batch_sampler.order(7, 0), strict=True):
        for row, index in zip(batch.numpy(), indices, strict=True):
            n = LENGTHS[index]
            assert (row[:n] == data[index].numpy()).all() and (row[n:] == 0).all()
    running = iter(first)
    for _ in range(5):
        next(running)
    again = loader()
    again.load_state_dict(json.loads(json.dumps(first.state_dict())))
    rest, resumed = [b.tolist() for b in running], [b.tolist() for b in again]
    assert rest == resumed and len(rest) == len(epoch) - 5


def test_pairs_meet_at_most_eight_shapes() -> None:
    rng = np.random.default_rng(3)
    lengths = rng.integers(3, 60, (2000, 1)) + rng.integers(0, 6, (2000, 2))
    data = [(np.ones(s, int), np.ones(t, int), k) for k, (s, t) in enumerate(lengths.tolist())]
    shapes = bucket_shapes(lengths)
    sizes: tuple[dict[str, Any], ...] = ({"batch_size": 32}, {"max_tokens": 2000})
    for size in sizes:
        sampler = BucketBatchSampler(lengths, shapes, shuffle=True, drop_last=True, **size)
        collate = pad_collate(shapes, pad_id=(0, 7))
        loader = DataLoader(data, batch_sampler=sampler, collate_fn=collate, seed=0)
        met = set()
        for _ in range(3):
            for source, target, number in loader:
                met.add((tuple(source.shape), tuple(target.shape)))
                lens = lengths[number.numpy()]
                assert (source.numpy().sum(1) == lens[:, 0]).all()
                assert ((target.numpy() == 1).sum(1) == lens[:, 1]).all()
                assert set(np.unique(target.numpy())) <= {1, 7}
        assert len(met) == len(shapes) == 8


def test_padding_keeps_the_dtype_and_refuses_what_does_not_fit() -> None:
    collate = pad_collate([4], pad_id=-1)
    assert collate([np.ones(2, np.int32)]).dtype == tm.int32
    assert collate([[1, 2, 3], [4]]).tolist() == [[1, 2, 3, -1], [4, -1, -1, -1]]
    with pytest.raises(ValueError, match="more than every bucket"):
        collate([[1] * 5])
    with pytest.raises(ValueError, match="one dimension"):
        collate([np.ones((2, 2))])
    with pytest.raises(ValueError, match="1 entries, not 2"):
        pad_collate([(2, 2)])([([1],)])
    with pytest.raises(ValueError, match="3 pad_ids for 2"):
        pad_collate([(2, 2)], pad_id=(0, 0, 0))
