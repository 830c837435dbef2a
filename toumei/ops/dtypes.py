"""Questions about dtypes and tensors: what is it, how large, and what do two dtypes make."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..op import DType, category
from ..op import result_type as common_dtype
from ..tape import Value, common_type, operand
from .creation import dtype_of

__all__ = [
    "can_cast",
    "finfo",
    "iinfo",
    "is_complex",
    "is_floating_point",
    "is_tensor",
    "numel",
    "promote_types",
    "result_type",
]


def is_tensor(obj: Any) -> bool:
    """Tell whether an object is a tensor."""
    return isinstance(obj, Value)


def is_floating_point(input: Value) -> bool:
    """Tell whether the dtype is float32 or float64."""
    return bool(input._data.dtype.kind == "f")


def is_complex(input: Value) -> bool:
    """Tell whether the dtype is complex: it never is."""
    return bool(input._data.dtype.kind == "c")


def numel(input: Value) -> int:
    """Return the number of elements."""
    return int(input._data.size)


def promote_types(type1: Any, type2: Any) -> DType:
    """Return the dtype of a result of two tensors of these dtypes.

    >>> import toumei as tm
    >>> tm.promote_types(tm.int64, tm.float32)
    dtype('float32')
    """
    return common_dtype(tuple([(dtype_of(t), False, False) for t in (type1, type2)]))


def result_type(tensor1: Any, tensor2: Any) -> DType:
    """Return the dtype of a result of two tensors or numbers; numbers and 0-d tensors adapt.

    >>> import toumei as tm
    >>> tm.result_type(tm.ones(2, dtype=tm.int32), 1.5)
    dtype('float32')
    """
    return common_type([operand(tensor1), operand(tensor2)])


def can_cast(from_: Any, to: Any) -> bool:
    """Tell whether `from_` turns into `to` by promotion: bool to integer to float, never back.

    >>> import toumei as tm
    >>> tm.can_cast(tm.float32, tm.int64)
    False
    """
    return category(dtype_of(from_)) <= category(dtype_of(to))


def finfo(type: Any = None) -> np.finfo[Any]:
    """Return the limits of a floating-point dtype (default: the default dtype): eps, max, tiny …

    >>> import toumei as tm
    >>> float(tm.finfo(tm.float64).eps)
    2.220446049250313e-16
    """
    return np.finfo(dtype_of(type))


def iinfo(type: Any) -> np.iinfo[Any]:
    """Return the limits of an integer dtype: min, max, bits.

    >>> import toumei as tm
    >>> tm.iinfo(tm.uint8).max
    255
    """
    return np.iinfo(dtype_of(type))
