"""From a list of samples to one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..ops.creation import from_numpy
from ..tensor import Tensor
from .dataset import Batch


def default_collate(batch: Sequence[Any]) -> Any:
    """Stack samples: a new first dimension for arrays, containers of the same form around them.

    Tensors and arrays are stacked; ints make int64, floats float64, bools bool; strings and bytes
    stay a list; tuples and lists become a list of batches, named tuples and dictionaries keep
    their type.

    Args:
        batch: samples of the same form.

    Raises:
        ValueError: the batch is empty, or samples differ in form.
        TypeError: there is no way to stack what the samples hold.

    >>> default_collate([{"x": 1.0, "name": "a"}, {"x": 2.0, "name": "b"}])["name"]
    ['a', 'b']
    """
    if isinstance(batch, Batch):
        return [c if isinstance(c, Tensor) else from_numpy(c) for c in batch.columns]
    if not len(batch):
        raise ValueError("default_collate: an empty batch can't be stacked")
    return _collate(list(batch))


def _collate(batch: list[Any]) -> Any:
    """Stack a list of like values."""
    first = batch[0]
    if isinstance(first, Tensor):
        return _stack_tensors(batch)
    if isinstance(first, (np.ndarray, np.generic)):
        return _stack(batch)
    if isinstance(first, (bool, int, float)):
        return from_numpy(np.array(batch, _number_dtype(batch)))
    if isinstance(first, (str, bytes)):
        return batch
    if isinstance(first, Mapping):
        return _collate_mappings(batch)
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*_collate_columns(batch))
    if isinstance(first, (tuple, list)):
        return _collate_columns(batch)
    raise TypeError(
        f"default_collate can't stack {type(first).__name__}: it takes Tensors, arrays, numbers, "
        "strings, and tuples, lists and dictionaries of them; give the loader a collate_fn"
    )


def _number_dtype(batch: list[Any]) -> Any:
    """Return the dtype for Python numbers: of one kind, or the widest of them."""
    for kind, dtype in ((float, np.float64), (int, np.int64)):
        # bool is an int to isinstance, so the exact type is asked for.
        if any(isinstance(v, kind) and not isinstance(v, bool) for v in batch):
            return dtype
    return np.bool_


def _stack_tensors(batch: list[Any]) -> Tensor:
    """Stack Tensors: through the graph only where there is one."""
    if any(getattr(t, "requires_grad", False) for t in batch):
        from ..ops.combine import stack

        return stack(batch)
    return _stack([t.numpy() if isinstance(t, Tensor) else t for t in batch])


def _stack(batch: list[Any]) -> Tensor:
    """Stack arrays into a Tensor."""
    arrays = [np.asarray(value) for value in batch]
    if arrays[0].dtype.kind in "OSU":
        raise TypeError(f"default_collate can't stack arrays of dtype {arrays[0].dtype}")
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        listed = ", ".join(str(shape) for shape in sorted(shapes)[:4])
        raise ValueError(
            f"default_collate: the samples of a batch differ in shape: {listed}; make them equal "
            "in a transform, or give the loader a collate_fn that pads them"
        )
    return from_numpy(np.stack(arrays))


def _collate_columns(batch: list[Any]) -> list[Any]:
    """Turn samples that are rows into one batch per column."""
    if len({len(sample) for sample in batch}) > 1:
        raise ValueError("default_collate: the samples of a batch differ in length")
    return [_collate(list(column)) for column in zip(*batch, strict=True)]


def _collate_mappings(batch: list[Any]) -> Any:
    """Turn dictionaries into one dictionary of batches, of their type where it can be built."""
    first = batch[0]
    for sample in batch:
        if sample.keys() != first.keys():
            raise ValueError(
                f"default_collate: the samples of a batch differ in keys: {sorted(first)} and "
                f"{sorted(sample)}"
            )
    merged = {key: _collate([sample[key] for sample in batch]) for key in first}
    try:
        return type(first)(merged)
    except TypeError:
        return merged
