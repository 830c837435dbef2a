"""Map-style data sets: an index in, a sample out; and sets made of other sets.

A set may also define `__getitems__(indices)`, which returns the samples of a whole batch.  Sets
that hold arrays return a `Batch` there: a sequence of samples that is kept as columns, which the
default collate function takes as they are.  So a batch costs one `take` per column, not a Python
loop over samples.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any, Generic, TypeVar, overload

import numpy as np

from ..device import Generator
from ..ops.creation import from_numpy
from ..tensor import Tensor
from .keys import draw_seed, item_scope, part_scope, permutation, seed_key

T = TypeVar("T")


class Dataset(Generic[T]):
    """A set of samples: define `__getitem__` (and `__len__`); `a + b` is one set after the other.

    >>> class Squares(Dataset[int]):
    ...     def __getitem__(self, index): return index * index
    ...     def __len__(self): return 10
    >>> len(Squares() + Squares()), (Squares() + Squares())[13]
    (20, 9)
    """

    def __getitem__(self, index: Any) -> T:
        raise NotImplementedError(f"{type(self).__name__} must define __getitem__(index)")

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} must define __len__()")

    def __add__(self, other: Dataset[T]) -> ConcatDataset[T]:
        return ConcatDataset([self, other])


class Batch(Sequence[tuple[Any, ...]]):
    """Samples kept as columns: a Tensor or an array each, with the batch in front.

    As a sequence it is its samples: a Tensor's row is a Tensor; so is an array's, but for an
    array of numbers, whose rows are Python's.
    """

    __slots__ = ("columns",)

    def __init__(self, *columns: Any) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(self.columns[0])

    @overload
    def __getitem__(self, index: int) -> tuple[Any, ...]: ...
    @overload
    def __getitem__(self, index: slice) -> Batch: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return Batch(*(column[index] for column in self.columns))
        return tuple(_row(column, index) for column in self.columns)

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))


def _row(column: Any, index: int) -> Any:
    """Return one sample's entry of a column."""
    if isinstance(column, Tensor):
        return column[index]
    return column[index].item() if column.ndim == 1 else from_numpy(column[index])


def fetch(dataset: Any, indices: list[int]) -> Sequence[Any]:
    """Return the samples at `indices`: all at once where the set can."""
    if _fetches_batches(type(dataset)):
        samples: Sequence[Any] = dataset.__getitems__(indices)
        if len(samples) != len(indices):
            raise ValueError(
                f"{type(dataset).__name__}.__getitems__ was asked for {len(indices)} samples and "
                f"returned {len(samples)}"
            )
        return samples
    return [_fetch_one(dataset, index) for index in indices]


def _fetches_batches(kind: type) -> bool:
    """Tell whether `__getitems__` is there, and no subclass has since redefined `__getitem__`."""
    for parent in kind.__mro__:
        if "__getitems__" in vars(parent):
            return True
        if "__getitem__" in vars(parent):
            return False
    return False


def _fetch_one(dataset: Any, index: int) -> Any:
    """Return one sample, its random transforms keyed by its index."""
    with item_scope(index):
        return dataset[index]


class TensorDataset(Dataset[tuple[Tensor, ...]]):
    """Tensors of equal length, sliced along the first dimension.

    Args:
        tensors: one or more Tensors with the same first size.

    Raises:
        TypeError: an argument is no Tensor.
        ValueError: the first sizes differ.

    >>> import toumei as tm
    >>> data = TensorDataset(tm.arange(6).reshape(3, 2), tm.arange(3))
    >>> len(data), data[1][0].tolist()
    (3, [2, 3])
    """

    def __init__(self, *tensors: Tensor) -> None:
        if not tensors:
            raise ValueError("TensorDataset needs at least one Tensor")
        for tensor in tensors:
            if not isinstance(tensor, Tensor):
                raise TypeError(
                    f"TensorDataset takes Tensors, not {type(tensor).__name__}; for an array: "
                    "toumei.from_numpy(array)"
                )
            if tensor.ndim == 0:
                raise ValueError("TensorDataset takes Tensors with a first dimension, not a scalar")
        if len({len(tensor) for tensor in tensors}) > 1:
            sizes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
            raise ValueError(f"TensorDataset: the Tensors' first sizes differ: {sizes}")
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(tensor[index] for tensor in self.tensors)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        where = np.asarray(indices, np.int64)
        return Batch(*(_take(tensor, where) for tensor in self.tensors))

    def __len__(self) -> int:
        return len(self.tensors[0])


def _take(tensor: Tensor, where: np.ndarray[Any, Any]) -> Tensor:
    """Return rows of a Tensor; through the graph only where there is one."""
    if tensor.requires_grad:
        return tensor[from_numpy(where)]
    return from_numpy(tensor.numpy().take(where, axis=0))


class Subset(Dataset[T]):
    """The samples of `dataset` at `indices`, in that order.

    >>> Subset("abcdef", [4, 0])[0]
    'e'
    """

    def __init__(self, dataset: Any, indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = indices

    def __getitem__(self, index: Any) -> T:
        if isinstance(index, list):
            return self.dataset[[self.indices[i] for i in index]]
        sample: T = self.dataset[self.indices[index]]
        return sample

    def __getitems__(self, indices: Sequence[int]) -> Sequence[T]:
        return fetch(self.dataset, [int(self.indices[i]) for i in indices])

    def __len__(self) -> int:
        return len(self.indices)


class ConcatDataset(Dataset[T]):
    """One data set after the other.

    Raises:
        ValueError: there is no data set to concatenate.

    >>> ConcatDataset(["abc", "de"])[3]
    'd'
    """

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise ValueError("ConcatDataset needs at least one data set")
        self.cumulative_sizes = list(accumulate(len(part) for part in self.datasets))

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    def __getitem__(self, index: int) -> T:
        part, local = self._locate(index)
        with part_scope(part):
            sample: T = _fetch_one(self.datasets[part], local)
        return sample

    def __getitems__(self, indices: Sequence[int]) -> Sequence[T]:
        places: dict[int, list[tuple[int, int]]] = {}  # part -> (place in the batch, local index)
        for place, index in enumerate(indices):
            part, local = self._locate(index)
            places.setdefault(part, []).append((place, local))
        order: list[int] = []
        pieces: list[Sequence[T]] = []
        for part, pairs in places.items():
            with part_scope(part):
                pieces.append(fetch(self.datasets[part], [local for _, local in pairs]))
            order += [place for place, _ in pairs]
        return _merge(pieces, order)

    def _locate(self, index: int) -> tuple[int, int]:
        """Return the number of the part that holds a sample, and its index there."""
        size = len(self)
        if not -size <= index < size:
            raise IndexError(f"index {index} is out of range for a set of {size} samples")
        index %= size
        part = bisect_right(self.cumulative_sizes, index)
        return part, index - (self.cumulative_sizes[part - 1] if part else 0)


def _merge(pieces: list[Sequence[Any]], order: list[int]) -> Sequence[Any]:
    """Put samples back: the k-th of the pieces, end to end, has its place at order[k]."""
    if len(pieces) == 1:
        return pieces[0]
    back = np.argsort(np.asarray(order, np.int64))
    if all(isinstance(piece, Batch) for piece in pieces):
        grouped = list(zip(*(piece.columns for piece in pieces), strict=True))  # type: ignore[attr-defined]
        if all(_alike(group) for group in grouped):
            return Batch(*(_joined(group, back) for group in grouped))
    samples = [sample for piece in pieces for sample in piece]
    return [samples[k] for k in back]


def _alike(group: tuple[Any, ...]) -> bool:
    """Tell whether columns can be joined without changing a value or a type."""
    first = group[0]
    return all(
        type(c) is type(first) and c.shape[1:] == first.shape[1:] and c.dtype == first.dtype
        for c in group
    ) and not any(getattr(c, "requires_grad", False) for c in group)


def _joined(group: tuple[Any, ...], back: np.ndarray[Any, Any]) -> Any:
    """Join columns end to end and put the rows in order."""
    if isinstance(group[0], Tensor):
        return from_numpy(np.concatenate([column.numpy() for column in group])[back])
    return np.concatenate(group)[back]


def random_split(
    dataset: Any, lengths: Sequence[int | float], generator: Generator | None = None
) -> list[Subset[Any]]:
    """Split a data set at random into parts of given lengths, or of given fractions.

    Fractions (sum 1) are rounded down; the samples left over go to the parts in turn.

    Args:
        dataset: what to split.
        lengths: numbers of samples that add up to len(dataset), or fractions that add up to 1.
        generator: where the order comes from; the default generator unless given.

    Raises:
        ValueError: the lengths don't add up, or a fraction is outside [0, 1].

    >>> import toumei as tm
    >>> parts = random_split(range(10), [0.7, 0.3], generator=tm.Generator().manual_seed(0))
    >>> [len(part) for part in parts]
    [7, 3]
    """
    size = len(dataset)
    counts = _counts(lengths, size)
    if min(counts, default=0) < 0 or sum(counts) != size:
        raise ValueError(
            f"random_split: lengths {list(lengths)} add up to {sum(counts)}; the set has "
            f"{size} samples"
        )
    order = permutation(seed_key(draw_seed(generator)), size).tolist()
    ends = list(accumulate(counts))
    return [Subset(dataset, order[end - n : end]) for n, end in zip(counts, ends, strict=True)]


def _counts(lengths: Sequence[int | float], size: int) -> list[int]:
    """Turn fractions into numbers of samples; leave numbers as they are."""
    total = sum(lengths)
    if abs(total - 1) > 1e-8:
        if any(not float(n).is_integer() for n in lengths):
            raise ValueError(f"random_split: fractions {list(lengths)} add up to {total}, not to 1")
        return [int(n) for n in lengths]
    if any(not 0 <= f <= 1 for f in lengths):
        raise ValueError(f"random_split: fractions {list(lengths)} must lie between 0 and 1")
    counts = [int(size * f) for f in lengths]
    for k in range(size - sum(counts)):
        counts[k % len(counts)] += 1
    return counts
