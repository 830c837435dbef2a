"""Keys: independent, uniform, and the same on every machine."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from toumei.data.keys import (
    batch_scope,
    fold,
    item_keys,
    item_rng,
    item_scope,
    next_key,
    normal,
    part_scope,
    permutation,
    seed_key,
    uniform,
)
from toumei.device import manual_seed


def test_draws_are_those_of_splitmix64() -> None:
    # The generator's first outputs from state 0, as published; a key's draws start from ~key.
    words = np.array([[0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]], np.uint64)
    assert (uniform(seed_key_of_state(0), 3) == (words >> np.uint64(11)) / 2.0**53).all()


def seed_key_of_state(state: int) -> Any:
    return np.array([~state & 0xFFFFFFFFFFFFFFFF], np.uint64)


def test_orders_stay_as_they_are() -> None:
    # If this changes, no checkpoint from before can be resumed in the middle of an epoch.
    assert permutation(fold(seed_key(1), 2), 8).tolist() == [1, 6, 7, 3, 4, 2, 5, 0]


def test_keys_of_seeds_epochs_and_items_differ() -> None:
    roots = [fold(seed_key(seed), epoch) for seed in range(20) for epoch in range(20)]
    keys = np.concatenate([fold(root, np.arange(50)) for root in roots])
    assert len(np.unique(keys)) == 20_000


def test_uniform_numbers_are_uniform_and_uncorrelated() -> None:
    u = uniform(fold(seed_key(3), np.arange(20_000)), 3)
    assert u.min() >= 0 and u.max() < 1
    counts = np.histogram(u, 20, (0, 1))[0]
    # χ² with 19 degrees of freedom exceeds 43.8 once in a thousand times.
    assert ((counts - 3000) ** 2 / 3000).sum() < 43.8
    neighbours = np.corrcoef(np.column_stack([u, np.roll(u[:, 0], 1)]).T)
    assert np.abs(neighbours - np.eye(4)).max() < 0.03


def test_normal_numbers_are_normal() -> None:
    z = normal(fold(seed_key(3), np.arange(100)), 200).ravel()
    assert abs(z.mean()) < 0.03 and abs(z.std() - 1) < 0.03
    assert abs((np.abs(z) < 1).mean() - 0.6827) < 0.015 and np.isfinite(z).all()


def test_big_and_negative_seeds_are_words() -> None:
    assert seed_key(-1)[0] == seed_key(2**64 - 1)[0] != seed_key(1)[0]


def test_item_keys_depend_on_seed_epoch_and_index_only() -> None:
    with batch_scope(1, 2, 0):
        first = item_keys([3, 4])
        with part_scope(0):
            assert (item_keys([3, 4]) == first).all()
        with part_scope(1):
            assert (item_keys([3, 4]) != first).all()
    with batch_scope(1, 2, 77):
        assert item_keys([4, 3]).tolist() == first[::-1].tolist()
    with batch_scope(1, 3, 0):
        assert (item_keys([3, 4]) != first).all()


def test_an_item_has_a_stream_of_keys() -> None:
    def three(index: int) -> list[int]:
        with batch_scope(0, 0, 0), item_scope(index):
            return [int(next_key()[0]) for _ in range(3)]

    assert three(1) == three(1) and len(set(three(1) + three(2))) == 6


def test_a_batch_has_a_stream_of_its_own() -> None:
    def key(number: int) -> int:
        with batch_scope(0, 0, number):
            return int(next_key()[0])

    assert key(0) == key(0) != key(1)


def test_outside_a_loader_the_default_generator_is_drawn_from() -> None:
    def draws() -> list[float]:
        manual_seed(3)
        with item_scope(5):  # nothing without a loader
            values = [float(item_rng().random()) for _ in range(2)]
        return [*values, float(item_keys([0])[0])]

    assert draws() == draws() and len(set(draws())) == 3


def test_another_thread_is_outside_the_scope() -> None:
    inside: list[int] = []
    with batch_scope(0, 0, 0):
        here = int(next_key()[0])
        thread = threading.Thread(target=lambda: inside.append(int(next_key()[0])))
        thread.start()
        thread.join()
    assert inside != [here]
