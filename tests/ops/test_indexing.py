"""x[index], gather and scatter: what is read, what is written, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import toumei as tm
from toumei.errors import OpError, OpIndexError, OpTypeError


def grid() -> Any:
    return tm.arange(24).reshape(2, 3, 4)


INDICES: dict[str, Any] = {
    "int": 1,
    "slices": (slice(None), slice(0, 3, 2), slice(-3, None)),
    "ellipsis": (Ellipsis, 2),
    "none": (None, 0, None),
    "list": (slice(None), [2, 0, 0]),
    "lists": ([0, 1], [2, 0]),
    "grid": (slice(None), [[0], [2]], [1, 3]),
    "negative": (slice(None), [-1, -3]),
    "true": True,
    "false": (False, 1),
    "empty": (slice(None), []),
}


@pytest.mark.parametrize("name", INDICES)
def test_reads_as_numpy_does(name: str) -> None:
    x = grid()
    got = x[INDICES[name]]
    assert np.array_equal(got.numpy(), x.numpy()[INDICES[name]])
    assert got.shape == x.numpy()[INDICES[name]].shape


@pytest.mark.parametrize("name", INDICES)
def test_writes_as_numpy_does(name: str) -> None:
    x, expected = grid(), grid().numpy().copy()
    x[INDICES[name]] = -1
    expected[INDICES[name]] = -1
    assert np.array_equal(x.numpy(), expected)


def test_an_integer_beside_a_list_is_taken_first() -> None:
    """NumPy would move the list's dimension to the front, PyTorch doesn't."""
    x = tm.zeros(2, 3, 4)
    assert x[0, :, [1, 2, 3, 0, 1]].shape == (3, 5)
    assert x[[0, 1, 1], :, [1, 2, 3]].shape == (3, 3)


def test_masks() -> None:
    x = tm.arange(6).reshape(2, 3)
    assert x[x > 2].tolist() == [3, 4, 5]
    assert x[tm.tensor([True, False])].tolist() == [[0, 1, 2]]
    assert x[:, tm.tensor([True, False, True])].tolist() == [[0, 2], [3, 5]]
    x[x % 2 == 0] = 9
    assert x.tolist() == [[9, 1, 9], [3, 9, 5]]


def test_values_with_leading_ones_fit() -> None:
    x = tm.zeros(2, 3)
    x[0] = tm.ones(1, 1, 3)
    x[:, [0, 2]] = tm.full((1, 2, 2), 5.0)
    assert x.tolist() == [[5, 1, 5], [5, 0, 5]]


def test_writing_through_a_view_changes_its_base_and_its_gradient() -> None:
    a = tm.ones(3, requires_grad=True)
    v = tm.tensor(5.0, requires_grad=True)
    x = a * 2
    x[1:][[1]] = v  # through the view x[1:], into x[2]
    x[1:][0] = v
    x[tm.tensor([False, False, True])] = v * 3
    x.sum().backward()
    assert x.tolist() == [2, 5, 15]
    assert a.grad is not None and a.grad.tolist() == [2, 0, 0]
    assert v.grad is not None and v.grad.item() == 4


def test_repeated_places_add_their_gradients() -> None:
    x = tm.ones(4, 2, requires_grad=True)
    x[[0, 2, 2, -1]].sum().backward()
    assert x.grad is not None and x.grad.tolist() == [[1, 1], [0, 0], [2, 2], [1, 1]]


def test_index_add_adds_in_order() -> None:
    """float32 sums depend on their order: it is that of the source, on every run."""
    rng = np.random.default_rng(0)
    places = rng.integers(0, 5, 1000)
    source = rng.normal(size=(1000, 3)).astype("float32")
    expected = np.zeros((5, 3), "float32")
    np.add.at(expected, places, source)
    got = tm.zeros(5, 3).index_add(0, tm.from_numpy(places), tm.from_numpy(source))
    assert np.array_equal(got.numpy(), expected)


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "int": (lambda x: x[2], OpIndexError, "index 2 is out of range: dim 0 has size 2"),
    "deep": (lambda x: x[0, 3], OpIndexError, "index 3 is out of range: dim 1 has size 3"),
    "list": (lambda x: x[:, [0, 7]], OpIndexError, "index 7 is out of range: dim 1 has size 3"),
    "many": (lambda x: x[0, 0, 0], OpIndexError, "3 indices for 2 dimensions"),
    "mask": (
        lambda x: x[tm.tensor([True, False, True])],
        OpIndexError,
        "the mask has shape (3,), but what it masks has (2,)",
    ),
    "float": (lambda x: x[1.0], OpTypeError, "float is no index"),
    "floats": (lambda x: x[tm.tensor([1.0])], OpTypeError, "must be integer or bool, not float32"),
    "step": (lambda x: x[::-1], OpError, "must be positive, not -1"),
    "shapes": (lambda x: x[[0, 1], [0, 1, 2]], OpIndexError, "don't broadcast"),
    "gather": (
        lambda x: x.gather(1, tm.tensor([[0], [3]])),
        OpIndexError,
        "index 3 is out of range: dim 1 has size 3",
    ),
    "gather negative": (
        lambda x: x.gather(1, tm.tensor([[-1]])),
        OpIndexError,
        "index -1 is out of range",
    ),
    "gather large": (
        lambda x: x.gather(1, tm.zeros(3, 1, dtype=tm.int64)),
        OpError,
        "index has size 3 in dim 0, where x has only 2",
    ),
    "scatter": (
        lambda x: x.scatter(0, tm.tensor([[5, 0, 0]]), 1.0),
        OpIndexError,
        "index 5 is out of range: dim 0 has size 2",
    ),
    "index_select": (
        lambda x: x.index_select(0, tm.tensor([0, -1])),
        OpIndexError,
        "index -1 is out of range: dim 0 has size 2",
    ),
    "index_add": (
        lambda x: x.index_add(0, tm.tensor([0]), tm.ones(2, 3)),
        OpError,
        "source is float32[2, 3], but 1 places along dim 0 of float32[2, 3]",
    ),
    "masked_scatter": (
        lambda x: x.masked_scatter(x == 0, tm.ones(2)),
        OpError,
        "the mask holds 6 times, source has 2",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_name_the_index(name: str) -> None:
    call, error, words = REFUSED[name]
    with pytest.raises(error) as caught:
        call(tm.zeros(2, 3))
    assert words in str(caught.value)


def test_negative_indices_where_pytorch_takes_them() -> None:
    x = tm.arange(3)
    assert x.take(tm.tensor([-1])).tolist() == [2]
    assert x.index_fill(0, tm.tensor([-1]), 7).tolist() == [0, 1, 7]
    assert x.put(tm.tensor([-3]), tm.tensor([9])).tolist() == [9, 1, 2]
    assert x.take_along_dim(tm.tensor([-2]), 0).tolist() == [1]


def test_in_place_variants_write_into_the_same_memory() -> None:
    x = tm.zeros(2, 3)
    row = x[0]
    row.index_fill_(0, tm.tensor([1]), 4.0)
    x.scatter_(1, tm.tensor([[0], [2]]), 1.0)
    x.scatter_add_(1, tm.tensor([[0], [2]]), tm.ones(2, 1))
    x.masked_fill_(x == 0, -1.0)
    assert x.tolist() == [[2, 4, -1], [-1, -1, 2]]
    assert row.tolist() == [2, 4, -1]


def test_scatter_reduce_without_self() -> None:
    x, index = tm.tensor([10.0, 20.0, 30.0]), tm.tensor([0, 0, 1])
    src = tm.tensor([1.0, 3.0, 5.0])

    def reduced(how: str, include: bool) -> Any:
        return x.scatter_reduce(0, index, src, how, include_self=include).tolist()

    assert reduced("sum", False) == [4, 5, 30]
    assert reduced("mean", False) == [2, 5, 30]
    assert reduced("amax", False) == [3, 5, 30]
    assert reduced("prod", True) == [30, 100, 30]
