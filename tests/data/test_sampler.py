"""Samplers: pure functions of (seed, epoch) that visit what they should."""

from __future__ import annotations

import numpy as np
import pytest

from toumei.data import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from toumei.data.sampler import order_of
from toumei.device import Generator


def ints(order: object) -> list[int]:
    return [int(i) for i in order]  # type: ignore[attr-defined]


def test_random_order_is_a_permutation_of_seed_and_epoch() -> None:
    sampler = RandomSampler(range(50))
    orders = [ints(sampler.order(seed, epoch)) for seed in range(3) for epoch in range(3)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 9
    assert ints(sampler.order(1, 2)) == orders[5]


def test_random_order_has_no_favourite_place() -> None:
    sampler, places = RandomSampler(range(5)), np.zeros((5, 5))
    for epoch in range(2000):
        places[np.arange(5), ints(sampler.order(0, epoch))] += 1
    # A cell's standard deviation is √(2000 · 0.2 · 0.8) ≈ 18; five of them leave room.
    assert np.abs(places - 400).max() < 90


def test_iterating_draws_anew_but_from_the_generator() -> None:
    def two(seed: int) -> tuple[list[int], list[int]]:
        sampler = RandomSampler(range(30), generator=Generator(seed))
        return list(sampler), list(sampler)

    first, second = two(4)
    assert first != second and two(4) == (first, second)


def test_random_samples_more_or_fewer_than_there_are() -> None:
    few = ints(RandomSampler(range(10), num_samples=4).order(0, 0))
    assert len(few) == len(set(few)) == 4
    many = ints(RandomSampler(range(3), num_samples=8).order(0, 0))
    assert len(many) == 8 and sorted(many[:3]) == sorted(many[3:6]) == [0, 1, 2]
    drawn = ints(RandomSampler(range(3), replacement=True, num_samples=600).order(0, 0))
    assert min(np.bincount(drawn, minlength=3)) > 140


def test_subset_sampler_visits_its_indices() -> None:
    sampler = SubsetRandomSampler([9, 5, 7])
    assert sorted(sampler.order(0, 0)) == [5, 7, 9] and len(sampler) == 3


def test_weighted_draws_follow_the_weights() -> None:
    weights = [0.0, 1.0, 3.0, 0.0]
    counts = np.bincount(WeightedRandomSampler(weights, 4000).order(0, 0), minlength=4)
    assert counts[0] == counts[3] == 0 and abs(counts[2] - 3000) < 150


def test_weighted_without_replacement_prefers_heavy_weights() -> None:
    sampler = WeightedRandomSampler([1.0, 0.0, 9.0, 1.0], 2, replacement=False)
    draws = [ints(sampler.order(0, epoch)) for epoch in range(500)]
    assert all(len(set(draw)) == 2 and 1 not in draw for draw in draws)
    # The first of a draw is index 2 with probability 9/11.
    assert abs(sum(draw[0] == 2 for draw in draws) / 500 - 9 / 11) < 0.08


@pytest.mark.parametrize("weights", [[-1.0, 2.0], [0.0, 0.0], [float("nan")], [[1.0]]])
def test_weights_that_make_no_sense_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="weights must be"):
        WeightedRandomSampler(weights, 1)


def test_other_arguments_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="only 1 weights are positive"):
        WeightedRandomSampler([1.0, 0.0], 2, replacement=False)
    with pytest.raises(ValueError, match="must be positive"):
        RandomSampler(range(3), num_samples=0)
    with pytest.raises(ValueError, match="empty set"):
        RandomSampler([], num_samples=2).order(0, 0)
    for size in (0, -1, True, 2.5):
        with pytest.raises(ValueError, match="batch_size"):
            BatchSampler(range(3), size, False)  # type: ignore[arg-type]


def test_batches_of_any_iterable() -> None:
    assert list(BatchSampler(range(5), 2, drop_last=True)) == [[0, 1], [2, 3]]
    batches = BatchSampler(SequentialSampler(range(5)), 3, drop_last=False)
    assert list(batches) == [[0, 1, 2], [3, 4]] and len(batches) == 2


def test_a_users_sampler_is_iterated_and_told_the_epoch() -> None:
    class Mine(Sampler):
        def __iter__(self):  # type: ignore[no-untyped-def]
            return iter([2, 0])

    class Distributed(list[int]):
        epoch = -1

        def set_epoch(self, epoch: int) -> None:
            self.epoch = epoch

    assert list(order_of(Mine(), 0, 0)) == [2, 0]
    told = Distributed([1])
    assert list(order_of(told, 0, 6)) == [1] and told.epoch == 6
    with pytest.raises(NotImplementedError, match="__iter__ or order"):
        iter(Sampler())
