"""Data sets: indexing, concatenation, splitting, and whole batches at once."""

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np
import pytest

from toumei.data import (
    Batch,
    ConcatDataset,
    Dataset,
    ImageSet,
    Subset,
    TensorDataset,
    default_collate,
    random_split,
)
from toumei.data.dataset import fetch
from toumei.device import Generator
from toumei.ops.creation import from_numpy


def numbers(n: int, start: int = 0) -> TensorDataset:
    """Return samples (row, number) that can be told apart."""
    x = np.arange(start, start + n, dtype=np.float32)
    return TensorDataset(from_numpy(np.stack([x, -x], 1)), from_numpy(x.astype(np.int64)))


def test_tensor_dataset_indexes_all_tensors() -> None:
    data = numbers(5)
    x, y = data[3]
    assert x.tolist() == [3.0, -3.0] and y.item() == 3
    assert data[1:3][1].tolist() == [1, 2]
    with pytest.raises(IndexError):
        data[5]


def test_tensor_dataset_refuses_what_does_not_fit() -> None:
    with pytest.raises(TypeError, match="from_numpy"):
        TensorDataset(np.zeros(3))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\(3,\), \(4,\)"):
        TensorDataset(from_numpy(np.zeros(3)), from_numpy(np.zeros(4)))
    with pytest.raises(ValueError, match="at least one"):
        TensorDataset()


def test_a_batch_is_its_samples_and_its_columns() -> None:
    batch = fetch(numbers(6), [4, 0, 4])
    assert isinstance(batch, Batch) and len(batch) == 3
    assert [sample[1].item() for sample in batch] == [4, 0, 4]
    assert [sample[1].item() for sample in batch[1:]] == [0, 4]
    x, y = default_collate(batch)
    assert x.tolist() == [[4, -4], [0, 0], [4, -4]] and y.tolist() == [4, 0, 4]


def test_a_label_column_gives_python_ints() -> None:
    data = ImageSet(np.zeros((3, 1, 2, 2), np.uint8), np.array([7, 8, 9]))
    sample = fetch(data, [2])[0]
    assert sample[1] == 9 and type(sample[1]) is int and sample[0].shape == (1, 2, 2)


def test_a_batch_keeps_the_graph_of_a_tensor_that_needs_it() -> None:
    x = from_numpy(np.arange(4, dtype=np.float32))
    x.requires_grad_()
    picked, _ = fetch(TensorDataset(x, x), [1, 3]).columns
    picked.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [0, 1, 0, 1]


def test_an_overridden_getitem_is_not_bypassed_by_the_batch_path() -> None:
    class Doubled(TensorDataset):
        def __getitem__(self, index: Any) -> Any:
            return tuple(2 * t for t in super().__getitem__(index))

    samples = fetch(Doubled(from_numpy(np.arange(3.0))), [1, 2])
    assert [sample[0].item() for sample in samples] == [2, 4]


def test_getitems_of_the_wrong_length_is_refused() -> None:
    class Short(Dataset[int]):
        def __getitems__(self, indices: list[int]) -> list[int]:
            return indices[1:]

    with pytest.raises(ValueError, match="asked for 2 samples and returned 1"):
        fetch(Short(), [0, 1])


def test_subset_of_subset() -> None:
    outer = Subset(Subset(numbers(10), range(0, 10, 2)), [4, 1])
    assert [outer[i][1].item() for i in range(2)] == [8, 2]
    assert default_collate(fetch(outer, [1, 0]))[1].tolist() == [2, 8]


def test_concatenation_finds_each_sample() -> None:
    data = numbers(3) + numbers(2, start=10) + numbers(4, start=20)
    assert isinstance(data, ConcatDataset) and len(data) == 9
    assert [data[i][1].item() for i in (0, 2, 3, 4, 5, -1)] == [0, 2, 10, 11, 20, 23]
    for bad in (9, -10):
        with pytest.raises(IndexError, match="9 samples"):
            data[bad]


def test_concatenated_batches_keep_the_order() -> None:
    data = numbers(3) + numbers(2, start=10)
    batch = fetch(data, [4, 0, 3, 2])
    assert isinstance(batch, Batch)
    assert default_collate(batch)[1].tolist() == [11, 0, 10, 2]


def test_concatenated_sets_of_different_form_give_samples() -> None:
    mixed = ConcatDataset([numbers(2), [("a", 1)]])
    assert fetch(mixed, [2, 1])[0] == ("a", 1)
    wide = TensorDataset(from_numpy(np.zeros((1, 5), np.float32)), from_numpy(np.array([1.5])))
    samples = fetch(ConcatDataset([numbers(2), wide]), [2, 0])
    assert samples[0][0].shape == (5,) and samples[1][0].shape == (2,)


def test_a_set_without_methods_says_which() -> None:
    class Empty(Dataset[int]):
        pass

    with pytest.raises(NotImplementedError, match="Empty must define __getitem__"):
        Empty()[0]
    with pytest.raises(NotImplementedError, match="Empty must define __len__"):
        len(Empty())


def test_random_split_is_a_partition_and_seeded() -> None:
    def split(seed: int) -> list[list[int]]:
        parts = random_split(range(10), [5, 3, 2], Generator(seed))
        return [list(part.indices) for part in parts]

    first = split(0)
    assert [len(part) for part in first] == [5, 3, 2]
    assert sorted(chain.from_iterable(first)) == list(range(10))
    assert split(0) == first != split(1)


@pytest.mark.parametrize(
    ("size", "fractions", "lengths"),
    [(10, [0.5, 0.5], [5, 5]), (11, [0.5, 0.5], [6, 5]), (8, [0.33, 0.33, 0.34], [3, 3, 2])],
)
def test_random_split_by_fractions(size: int, fractions: list[float], lengths: list[int]) -> None:
    assert [len(part) for part in random_split(range(size), fractions)] == lengths


@pytest.mark.parametrize("lengths", [[3, 3], [0.5, 0.4], [1.5, -0.5], [12, -2]])
def test_random_split_refuses_lengths_that_do_not_add_up(lengths: list[Any]) -> None:
    with pytest.raises(ValueError, match="random_split"):
        random_split(range(10), lengths)
