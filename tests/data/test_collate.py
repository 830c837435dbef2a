"""The default collate function: what each kind of sample becomes."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
import pytest

from toumei.data import default_collate
from toumei.ops.creation import from_numpy


class Pair(NamedTuple):
    x: float
    name: str


@pytest.mark.parametrize(
    ("batch", "dtype", "values"),
    [
        ([1, 2], np.int64, [1, 2]),
        ([1.5, 2], np.float64, [1.5, 2.0]),
        ([1, 2.5], np.float64, [1.0, 2.5]),
        ([True, False], np.bool_, [True, False]),
        ([np.float32(1), np.float32(2)], np.float32, [1, 2]),
        ([np.zeros(2, np.uint8), np.ones(2, np.uint8)], np.uint8, [[0, 0], [1, 1]]),
    ],
)
def test_numbers_and_arrays(batch: list[Any], dtype: Any, values: list[Any]) -> None:
    result = default_collate(batch)
    assert result.dtype == dtype and result.tolist() == values


def test_tensors_are_stacked_and_copied() -> None:
    one = np.ones(3, np.float32)
    result = default_collate([from_numpy(one), from_numpy(2 * one)])
    one[:] = 9
    assert result.shape == (2, 3) and result.tolist() == [[1, 1, 1], [2, 2, 2]]


def test_tensors_with_a_graph_keep_it() -> None:
    x = from_numpy(np.ones(2, np.float32))
    x.requires_grad_()
    default_collate([x, 3 * x]).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [4, 4]


def test_containers_keep_their_form() -> None:
    assert default_collate(["a", "b"]) == ["a", "b"]
    x, name = default_collate([(1, "a"), (2, "b")])
    assert x.tolist() == [1, 2] and name == ["a", "b"]
    pair = default_collate([Pair(1.0, "a"), Pair(2.0, "b")])
    assert isinstance(pair, Pair) and pair.x.tolist() == [1, 2] and pair.name == ["a", "b"]
    mapped = default_collate([OrderedDict(k=(1, [2])), OrderedDict(k=(3, [4]))])
    assert isinstance(mapped, OrderedDict)
    assert mapped["k"][0].tolist() == [1, 3] and mapped["k"][1][0].tolist() == [2, 4]


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        ([], "empty batch"),
        ([np.zeros(2), np.zeros(3)], r"differ in shape: \(2,\), \(3,\)"),
        ([(1, 2), (1,)], "differ in length"),
        ([{"a": 1}, {"b": 1}], "differ in keys"),
    ],
)
def test_samples_that_differ_are_refused(batch: list[Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        default_collate(batch)


@pytest.mark.parametrize("sample", [None, object(), np.array(["a"]), {1, 2}])
def test_what_cannot_be_stacked_is_refused(sample: Any) -> None:
    with pytest.raises(TypeError, match="can't stack"):
        default_collate([sample, sample])
