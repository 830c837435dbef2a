"""Random indices of every kind, read and written: the same as PyTorch, or refused by both."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

import toumei as tm

torch = pytest.importorskip("torch")


def draw_part(n: int, rng: np.random.Generator) -> tuple[Any, int]:
    """Draw a part of an index for a dimension of size n; and how many dimensions it takes."""

    def end() -> Any:
        return random.choice([None, *range(-n - 1, n + 2)])

    kinds: list[Any] = [
        lambda: (random.randrange(-n, n), 1),
        lambda: (slice(end(), end(), random.choice([None, 1, 2])), 1),
        lambda: (slice(None), 1),
        lambda: (None, 0),
        lambda: (rng.integers(-n, n, random.choice([(3,), (2, 3), (1,), ()])), 1),
        lambda: (rng.random(n) > 0.5, 1),
        lambda: ([random.randrange(-n, n) for _ in range(3)], 1),
        lambda: (bool(random.randrange(2)), 0),
    ]
    part: tuple[Any, int] = random.choice(kinds)()
    return part


def draw_index(shape: tuple[int, ...], rng: np.random.Generator) -> list[Any]:
    """Draw an index for a tensor of a shape."""
    index: list[Any] = []
    dim = 0
    while dim < len(shape) and random.random() < 0.85:
        part, used = draw_part(shape[dim], rng)
        index.append(part)
        dim += used
    if index and random.random() < 0.2:
        index[random.randrange(len(index))] = Ellipsis
    return index


def as_index(parts: list[Any], tensor: Any) -> tuple[Any, ...]:
    return tuple(tensor(p) if isinstance(p, np.ndarray | np.generic) else p for p in parts)


def attempt(call: Any) -> Any:
    """Return what a call gives, or the error."""
    try:
        return call()
    except (IndexError, RuntimeError, TypeError) as error:
        return error


def test_random_indices() -> None:
    random.seed(0)
    rng = np.random.default_rng(0)
    agreed = 0
    for _ in range(1500):
        shape = tuple(random.choices([1, 2, 3, 4], k=random.randrange(1, 5)))
        array, parts = rng.normal(size=shape), draw_index(shape, rng)
        theirs, mine = torch.tensor(array), tm.tensor(array)
        index_theirs, index_mine = as_index(parts, torch.tensor), as_index(parts, tm.tensor)
        a = attempt(lambda x=theirs, i=index_theirs: x[i])
        b = attempt(lambda x=mine, i=index_mine: x[i])
        what = f"{shape}, {parts}: PyTorch {a!r:.200}, Toumei {b!r:.200}"
        if isinstance(a, Exception):
            assert isinstance(b, IndexError | TypeError), what
            continue
        assert not isinstance(b, Exception), what
        assert a.shape == b.shape and np.array_equal(a.numpy(), b.numpy()), what
        value = rng.normal(size=random.choice([tuple(a.shape), (), (1, *a.shape)]))
        if any(isinstance(p, list | np.ndarray) and np.asarray(p).dtype.kind == "i" for p in parts):
            value = value.reshape(-1)[:1].reshape(()) if value.size else value  # places may meet
        theirs[index_theirs], mine[index_mine] = torch.tensor(value), tm.tensor(value)
        assert np.array_equal(theirs.numpy(), mine.numpy()), f"writing {value.shape} at {what}"
        agreed += 1
    assert agreed > 1000
