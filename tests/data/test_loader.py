"""DataLoader: batches, exact resumption, threads, errors."""

from __future__ import annotations

import gc
import json
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import numpy as np
import pytest

from toumei.data import (
    DataLoader,
    Dataset,
    ImageSet,
    RandomSampler,
    Subset,
    WeightedRandomSampler,
    item_rng,
)
from toumei.data.transforms import Compose, RandomCrop, RandomHorizontalFlip
from toumei.device import Generator, manual_seed


def lists(loader: Any) -> list[list[int]]:
    return [batch.tolist() for batch in loader]


def data_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("toumei-data")]


def wait_until(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()


@pytest.fixture
def pictures() -> ImageSet:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (50, 3, 8, 8)).astype(np.uint8)
    transform = Compose([RandomCrop(8, padding=2), RandomHorizontalFlip()])
    return ImageSet(images, np.arange(50), transform)


def test_batches_in_order_with_and_without_the_last() -> None:
    assert lists(DataLoader(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert lists(DataLoader(range(5), 2, drop_last=True)) == [[0, 1], [2, 3]]
    assert [len(DataLoader(range(5), 2, drop_last=d)) for d in (False, True)] == [3, 2]
    assert lists(DataLoader([], 2)) == []


def test_each_epoch_is_another_permutation_and_a_function_of_the_seed() -> None:
    loader = DataLoader(range(40), 8, shuffle=True, seed=3)
    epochs = [lists(loader) for _ in range(3)]
    assert all(sorted(chain.from_iterable(epoch)) == list(range(40)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    again = DataLoader(range(40), 8, shuffle=True, seed=3)
    assert [lists(again) for _ in range(3)] == epochs
    assert lists(DataLoader(range(40), 8, shuffle=True, seed=4)) != epochs[0]


def test_the_seed_comes_once_from_the_generator() -> None:
    def order(**options: Any) -> list[list[int]]:
        return lists(DataLoader(range(30), 5, shuffle=True, **options))

    assert order(generator=Generator(1)) == order(generator=Generator(1))
    manual_seed(5)
    first, second = order(), order()
    manual_seed(5)
    assert order() == first != second
    sampler = RandomSampler(range(30), generator=Generator(1))
    assert lists(DataLoader(range(30), 5, sampler=sampler)) == order(generator=Generator(1))
    with pytest.raises(ValueError, match="one of seed, generator"):
        DataLoader(range(30), sampler=sampler, seed=1)


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("stop", [0, 1, 4, 7])
def test_resuming_gives_exactly_the_next_batch(pictures: ImageSet, workers: int, stop: int) -> None:
    def make(seed: int, num_workers: int = workers) -> DataLoader:
        return DataLoader(pictures, 7, shuffle=True, seed=seed, num_workers=num_workers)

    whole = make(9, 0)
    expected = [batch for _ in range(2) for batch in whole]
    loader = make(9)
    iterator = iter(loader)
    for _ in range(stop):
        next(iterator)
    state = json.loads(json.dumps(loader.state_dict()))
    assert (state["epoch"], state["batches_consumed"]) == (0, stop)
    resumed = make(1234)
    resumed.load_state_dict(state)
    rest = [batch for _ in range(2) for batch in resumed]
    assert len(rest) == len(expected) - stop
    for (x, y), (want_x, want_y) in zip(rest, expected[stop:], strict=True):
        assert (x.numpy() == want_x.numpy()).all() and y.tolist() == want_y.tolist()


def test_the_state_counts_epochs() -> None:
    loader = DataLoader(range(6), 2, shuffle=True, seed=0)
    for _ in range(2):
        list(loader)
    assert (loader.epoch, loader.state_dict()["batches_consumed"]) == (2, 0)
    for _ in loader:
        break
    assert (loader.epoch, loader.state_dict()["batches_consumed"]) == (2, 1)
    after_break = lists(loader)
    fresh = DataLoader(range(6), 2, shuffle=True, seed=0)
    assert after_break == [lists(fresh) for _ in range(4)][3]


def test_after_the_last_batch_the_epoch_is_still_to_be_closed() -> None:
    loader = DataLoader(range(4), 2)
    iterator = iter(loader)
    next(iterator), next(iterator)
    resumed = DataLoader(range(4), 2)
    resumed.load_state_dict(loader.state_dict())
    assert (resumed.epoch, lists(resumed), resumed.epoch) == (0, [], 1)


def test_a_state_of_other_batches_is_refused() -> None:
    loader = DataLoader(range(12), 3, shuffle=True)
    next(iter(loader))
    state = loader.state_dict()
    with pytest.raises(ValueError, match="batch_size 3; this loader's is 4"):
        DataLoader(range(12), 4).load_state_dict(state)
    with pytest.raises(ValueError, match="length 12; this loader's is 10"):
        DataLoader(range(10), 3).load_state_dict(state)
    list(loader)
    at_the_start = {**state, "batches_consumed": 0}
    DataLoader(range(12), 4).load_state_dict(at_the_start)


def test_weighted_sampler_resumes() -> None:
    def make() -> DataLoader:
        sampler = WeightedRandomSampler(np.arange(1.0, 9.0).tolist(), 20)
        return DataLoader(range(8), 4, sampler=sampler, seed=2)

    loader, expected = make(), lists(make())
    it = iter(loader)
    next(it), next(it)
    resumed = make()
    resumed.load_state_dict(loader.state_dict())
    assert lists(resumed) == expected[2:]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_threads_change_nothing(pictures: ImageSet, workers: int) -> None:
    plain = DataLoader(pictures, 4, shuffle=True, seed=1)
    threaded = DataLoader(pictures, 4, shuffle=True, seed=1, num_workers=workers, prefetch_factor=3)
    for _ in range(2):
        for (x, y), (tx, ty) in zip(plain, threaded, strict=True):
            assert (x.numpy() == tx.numpy()).all() and y.tolist() == ty.tolist()


def test_batches_come_in_order_though_the_threads_do_not() -> None:
    class Uneven(Dataset[int]):
        def __getitem__(self, index: int) -> int:
            time.sleep(0.02 if index % 4 == 0 else 0)
            return index

        def __len__(self) -> int:
            return 16

    assert lists(DataLoader(Uneven(), num_workers=4)) == [[i] for i in range(16)]


def test_threads_work_at_the_same_time_and_not_too_far_ahead() -> None:
    fetched: list[int] = []
    together = threading.Barrier(2, timeout=5)

    class Watched(Dataset[int]):
        def __getitem__(self, index: int) -> int:
            if index < 2:
                together.wait()  # passes only if two threads are here at once
            fetched.append(index)
            return index

        def __len__(self) -> int:
            return 100

    iterator = iter(DataLoader(Watched(), num_workers=2, prefetch_factor=3))
    next(iterator)
    assert wait_until(lambda: len(fetched) == 7)
    time.sleep(0.05)
    assert len(fetched) == 7  # 2 threads x 3 ahead, and the one that was handed out


@pytest.mark.parametrize("how", ["dropped", "exhausted", "failed"])
def test_threads_end_with_the_iterator(how: str) -> None:
    def fail(samples: list[int]) -> list[int]:
        if how == "failed" and samples[0] > 2:
            raise KeyError("stop")
        return samples

    iterator: Any = iter(DataLoader(range(50), 1, num_workers=2, collate_fn=fail))
    next(iterator)
    assert data_threads()
    if how == "exhausted":
        list(iterator)
    elif how == "failed":
        with pytest.raises(KeyError):
            list(iterator)
    else:
        del iterator
        gc.collect()
    assert wait_until(lambda: not data_threads())


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_arrives_with_its_place(workers: int) -> None:
    class Broken(Dataset[int]):
        def __getitem__(self, index: int) -> int:
            return self.decode(index)

        def decode(self, index: int) -> int:
            if index == 5:
                raise ZeroDivisionError("picture 5")
            return index

        def __len__(self) -> int:
            return 8

    loader = DataLoader(Broken(), 2, num_workers=workers)
    iterator = iter(loader)
    assert [next(iterator).tolist() for _ in range(2)] == [[0, 1], [2, 3]]
    with pytest.raises(ZeroDivisionError, match="picture 5") as caught:
        next(iterator)
    assert loader.state_dict()["batches_consumed"] == 2
    text = "".join(traceback.format_exception(caught.value))
    assert "in decode" in text and "while batch 2 of epoch 0 was loaded" in text
    assert ("by thread toumei-data" in text) == bool(workers)


def test_an_interrupt_loses_no_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures import Future

    loader = DataLoader(range(10), 2, shuffle=True, seed=0, num_workers=2)
    expected = lists(DataLoader(range(10), 2, shuffle=True, seed=0))
    iterator = iter(loader)
    next(iterator)
    with monkeypatch.context() as patch:
        patch.setattr(Future, "result", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            next(iterator)
    assert wait_until(lambda: not data_threads())
    resumed = DataLoader(range(10), 2, seed=7, shuffle=True)
    resumed.load_state_dict(loader.state_dict())
    assert lists(resumed) == expected[1:]


def _interrupted(*_: Any) -> None:
    raise KeyboardInterrupt


def test_a_users_own_augmentation_is_resumable_too() -> None:
    class Noisy(Dataset[float]):
        def __getitem__(self, index: int) -> float:
            return index + float(item_rng().random())

        def __len__(self) -> int:
            return 12

    def epochs(workers: int, batch: int) -> dict[tuple[int, int], float]:
        loader = DataLoader(Noisy(), batch, shuffle=True, seed=1, num_workers=workers)
        values = [(e, v) for e in range(2) for b in loader for v in b.tolist()]
        return {(e, int(v)): v for e, v in values}

    reference = epochs(0, 3)
    assert epochs(2, 5) == reference
    assert len(set(reference.values())) == 24  # another number for each item and epoch


def test_augmentation_is_keyed_by_the_item_not_its_place(pictures: ImageSet) -> None:
    def by_label(loader: DataLoader) -> dict[int, bytes]:
        return {
            int(label): image.numpy().tobytes()
            for images, labels in loader
            for image, label in zip(images, labels.tolist(), strict=True)
        }

    whole = by_label(DataLoader(pictures, 8, seed=3))
    part = by_label(DataLoader(Subset(pictures, [31, 4, 17]), 2, seed=3))
    assert part == {label: whole[label] for label in (31, 4, 17)}
    assert by_label(DataLoader(pictures, 8, seed=4)) != whole


def test_the_same_set_twice_is_augmented_in_two_ways(pictures: ImageSet) -> None:
    images = np.concatenate([x.numpy() for x, _ in DataLoader(pictures + pictures, 10, seed=0)])
    same = (images[:50] == images[50:]).reshape(50, -1).all(axis=1)
    assert same.sum() < 15  # 1 in 50 by chance


def test_batch_sampler_and_collate_function() -> None:
    loader = DataLoader(range(6), batch_sampler=[[0, 5], [2]], collate_fn=tuple)
    assert list(loader) == [(0, 5), (2,)] and len(loader) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sampler": [0], "shuffle": True}, "sampler and shuffle"),
        ({"batch_sampler": [[0]], "batch_size": 2}, "batch_sampler excludes"),
        ({"batch_sampler": [[0]], "drop_last": True}, "batch_sampler excludes"),
        ({"num_workers": -1}, "num_workers"),
        ({"prefetch_factor": 2}, "needs num_workers"),
        ({"num_workers": 1, "prefetch_factor": 0}, "must be positive"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": None}, "batch_size"),
        ({"seed": 1, "generator": Generator(0)}, "one of seed, generator"),
    ],
)
def test_options_that_exclude_each_other(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DataLoader(range(3), **options)


def test_unknown_options_and_other_data_are_refused() -> None:
    with pytest.raises(TypeError, match="pin_memory"):
        DataLoader(range(3), pin_memory=True)  # type: ignore[call-arg]

    def stream() -> Iterator[int]:
        yield 1

    with pytest.raises(TypeError, match="generator has no __getitem__"):
        DataLoader(stream())


def test_a_batch_of_an_array_set_costs_microseconds() -> None:
    data = ImageSet(np.zeros((4096, 1, 28, 28), np.uint8), np.zeros(4096, np.int64))
    loader = DataLoader(data, 128, shuffle=True, seed=0)
    list(loader)
    best = min(_seconds(lambda: list(loader)) for _ in range(3))
    assert best / len(loader) < 1e-3  # a loop over 128 samples takes longer by far


def _seconds(action: Callable[[], Any]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start
