"""Tensors made from nothing, from Python numbers, or from arrays."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ..config import get_default_dtype
from ..device import on_cpu, sized
from ..errors import OpError, OpTypeError
from ..op import RANK, DType
from ..tape import Value, unsupported, wrap
from ..traced import numbers_of, refuse_array
from .shape import sizes_of

if TYPE_CHECKING:
    from ..tensor import Tensor


__all__ = [
    "arange",
    "as_tensor",
    "asarray",
    "empty",
    "empty_like",
    "empty_permuted",
    "empty_strided",
    "eye",
    "fill",
    "from_numpy",
    "full",
    "full_like",
    "linspace",
    "logspace",
    "ones",
    "ones_like",
    "scalar_tensor",
    "tensor",
    "zeros",
    "zeros_like",
]


def _finish(array: np.ndarray[Any, Any], requires_grad: bool) -> Tensor:
    t = wrap(array)
    return t.requires_grad_() if requires_grad else t


def _shape(size: tuple[Any, ...]) -> tuple[int, ...]:
    """Return (2, 3) of f(2, 3) and of f((2, 3)); refuse negative sizes."""
    sizes = sizes_of(size)
    if any(n < 0 for n in sizes):
        raise OpError(f"a tensor can't have the shape {sizes}: no size may be negative")
    return sizes


def dtype_of(dtype: Any, default: Any = None) -> DType:
    """Return `dtype` as one that tensors may have; the default float if None."""
    if dtype is None:
        return np.dtype(get_default_dtype() if default is None else default)
    wanted = np.dtype(dtype)
    if wanted not in RANK:
        raise OpTypeError(unsupported(wanted))
    return wanted


@on_cpu
def tensor(data: Any, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Make a tensor of numbers, nested lists, arrays or tensors; the numbers are copied.

    Python floats become the default float (float32), integers int64.

    Args:
        data: a number, nested sequences of numbers, an array or a tensor.
        dtype: float32, float64, int64, int32, uint8 or bool; None takes the data's.
        requires_grad: whether derivatives with respect to it are wanted.

    Raises:
        OpTypeError: no dtype of Toumei fits the data.

    >>> import toumei as tm
    >>> tm.tensor([[1, 2], [3, 4]]).dtype
    dtype('int64')
    """
    if isinstance(data, Value):
        array = np.array(numbers_of("tensor() of a tensor (use clone())", data), copy=True)
    elif isinstance(data, np.ndarray | np.generic):
        refuse_array(data)
        array = np.array(data, copy=True)
    else:
        array = _from_python(data)
    if dtype is not None:
        array = array.astype(dtype_of(dtype))
    if array.dtype not in RANK:
        raise OpTypeError(f"tensor: {unsupported(array.dtype)}. Pass dtype= to convert")
    return _finish(array, requires_grad)


def _from_python(data: Any) -> np.ndarray[Any, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, Value):
            return numbers_of("tensor() of tensors (use stack())", value)
        return [plain(v) for v in value] if isinstance(value, list | tuple) else value

    try:
        array = np.array(plain(data))
    except ValueError as error:
        raise OpError(f"tensor: the nested sequences differ in length: {error}") from None
    if array.dtype.kind == "f" and _has_only_python_floats(data):
        return array.astype(get_default_dtype())
    if array.dtype.kind not in "biuf":
        raise OpTypeError(f"tensor: can't make numbers of {type(data).__name__}: {data!r:.60}")
    return array


def _has_only_python_floats(data: Any) -> bool:
    while isinstance(data, list | tuple) and data:
        data = data[0]
    return not isinstance(data, Value | np.ndarray) and type(data).__module__ != "numpy"


def from_numpy(array: np.ndarray[Any, Any]) -> Tensor:
    """Make a tensor that shares its memory with an array: a change of one is seen in the other.

    Raises:
        OpTypeError: the array's dtype is none of Toumei's.
    """
    if not isinstance(array, np.ndarray):
        raise OpTypeError(f"from_numpy: expected an array, got {type(array).__name__}")
    refuse_array(array)
    if array.dtype not in RANK:
        raise OpTypeError(f"from_numpy: {unsupported(array.dtype)}")
    return wrap(array)


@on_cpu
def as_tensor(data: Any, dtype: Any = None) -> Tensor:
    """Make a tensor, without a copy where the data is a tensor or an array already."""
    if isinstance(data, Value):
        return data.to(dtype_of(dtype, data._data.dtype))  # type: ignore[attr-defined]
    if isinstance(data, np.ndarray) and data.dtype in RANK:
        return from_numpy(data).to(dtype_of(dtype, data.dtype))
    return tensor(data, dtype=dtype)


@on_cpu
def asarray(
    obj: Any, *, dtype: Any = None, copy: bool | None = None, requires_grad: bool = False
) -> Tensor:
    """Make a tensor as `as_tensor` does; `copy` says whether the numbers must be copied.

    Raises:
        OpError: `copy` is False, but the numbers can't be taken as they are.
    """
    t = tensor(obj, dtype=dtype) if copy else as_tensor(obj, dtype)
    source = obj._data if isinstance(obj, Value) else obj
    if copy is False and not (isinstance(source, np.ndarray) and np.shares_memory(t._data, source)):
        raise OpError(f"asarray(copy=False): {type(obj).__name__} can't be used without a copy")
    return t.detach().requires_grad_() if requires_grad else t


@on_cpu
def full(size: Any, fill_value: Any, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor filled with one number.  Shape: -> size"""
    if isinstance(fill_value, float):  # NumPy's float64 counts as Python's number
        fill_value = float(fill_value)
    kind = tensor(fill_value).dtype
    return _finish(np.full(_shape((size,)), fill_value, dtype_of(dtype, kind)), requires_grad)


@on_cpu
@sized
def zeros(*size: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of zeros.  Shape: -> size"""
    return _finish(np.zeros(_shape(size), dtype_of(dtype)), requires_grad)


@on_cpu
@sized
def ones(*size: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of ones.  Shape: -> size"""
    return _finish(np.ones(_shape(size), dtype_of(dtype)), requires_grad)


@on_cpu
@sized
def empty(*size: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor whose numbers are whatever was in memory.  Shape: -> size"""
    return _finish(np.empty(_shape(size), dtype_of(dtype)), requires_grad)


@on_cpu
def zeros_like(input: Tensor, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros in the shape and dtype of `input`.  Shape: (…) -> (…)"""
    return new_zeros(input, tuple(input.shape), dtype=dtype, requires_grad=requires_grad)


@on_cpu
def ones_like(input: Tensor, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones in the shape and dtype of `input`.  Shape: (…) -> (…)"""
    return new_ones(input, tuple(input.shape), dtype=dtype, requires_grad=requires_grad)


@on_cpu
def empty_like(input: Tensor, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Unset numbers in the shape and dtype of `input`.  Shape: (…) -> (…)"""
    return new_empty(input, tuple(input.shape), dtype=dtype, requires_grad=requires_grad)


@on_cpu
def full_like(
    input: Tensor, fill_value: Any, *, dtype: Any = None, requires_grad: bool = False
) -> Tensor:
    """One number in the shape and dtype of `input`.  Shape: (…) -> (…)"""
    kind = dtype_of(dtype, input.dtype)
    return full(tuple(input.shape), fill_value, dtype=kind, requires_grad=requires_grad)


@on_cpu
def arange(
    start: float,
    end: float | None = None,
    step: float = 1,
    *,
    dtype: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """The numbers start, start + step, … below `end`.  Shape: -> (⌈(end − start)/step⌉)

    >>> import toumei as tm
    >>> tm.arange(1, 4)
    tensor([1, 2, 3])
    """
    if end is None:
        start, end = 0, start
    whole = all(isinstance(v, int) for v in (start, end, step))
    if step == 0 or (end - start) / step < 0:
        raise OpError(f"arange: from {start} to {end} there is no way in steps of {step}")
    kind = dtype_of(dtype, np.int64 if whole else None)
    count = -(-(end - start) // step) if whole else math.ceil((end - start) / step)
    return _finish((start + np.arange(int(count)) * step).astype(kind), requires_grad)


@on_cpu
def linspace(
    start: Any, end: Any, steps: int, *, dtype: Any = None, requires_grad: bool = False
) -> Tensor:
    """`steps` numbers at equal distances from `start` to `end`, both included.  Shape: -> (steps)

    Raises:
        OpError: `steps` is negative, or `start` and `end` have dimensions.
    """
    kind = dtype_of(dtype)
    return _finish(_evenly("linspace", start, end, steps, kind).astype(kind), requires_grad)


@on_cpu
def logspace(
    start: Any,
    end: Any,
    steps: int,
    base: float = 10.0,
    *,
    dtype: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """base to the power of `steps` numbers from `start` to `end`.  Shape: -> (steps)

    >>> import toumei as tm
    >>> tm.logspace(0, 2, 3)
    tensor([  1.,  10., 100.])
    """
    powers = _evenly("logspace", start, end, steps, np.dtype(np.float64))
    with np.errstate(all="ignore"):
        values = np.power(float(base), powers)
    return _finish(values.astype(dtype_of(dtype)), requires_grad)


def _evenly(name: str, start: Any, end: Any, steps: int, dtype: DType) -> np.ndarray[Any, Any]:
    """Return numbers at equal distances; integers are truncated at the end, so stay exact."""
    if steps < 0:
        raise OpError(f"{name}: the number of steps is {steps}, it can't be negative")
    ends = [numbers_of(name, v) if isinstance(v, Value) else np.asarray(v) for v in (start, end)]
    if any(v.ndim for v in ends):
        raise OpError(
            f"{name}: start and end must be numbers, their shapes are {[v.shape for v in ends]}"
        )
    if dtype.kind != "f":  # a step that is a float can fall just below a whole number
        return np.linspace(int(ends[0]), int(ends[1]), steps)
    return np.linspace(float(ends[0]), float(ends[1]), steps)


@on_cpu
def scalar_tensor(s: float, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A number as a tensor without dimensions, of the default float.  Shape: -> ()"""
    return full((), s, dtype=dtype_of(dtype), requires_grad=requires_grad)


@on_cpu
def empty_strided(
    size: Any, stride: Any, *, dtype: Any = None, requires_grad: bool = False
) -> Tensor:
    """Unset numbers that lie `stride` elements apart in memory.  Shape: -> size"""
    shape, steps = sizes_of((size,)), sizes_of((stride,))
    if len(shape) != len(steps) or any(s < 0 for s in steps):
        raise OpError(f"empty_strided: size {shape} and stride {steps} don't fit together")
    count = 0 if 0 in shape else 1 + sum((n - 1) * s for n, s in zip(shape, steps, strict=True))
    memory = np.empty(count, dtype_of(dtype))
    strides = [s * memory.itemsize for s in steps]
    return _finish(np.lib.stride_tricks.as_strided(memory, shape, strides), requires_grad)


@on_cpu
def empty_permuted(
    size: Any, physical_layout: Any, *, dtype: Any = None, requires_grad: bool = False
) -> Tensor:
    """Unset numbers, the dimensions in memory in the order `physical_layout`.  Shape: -> size"""
    shape, layout = sizes_of((size,)), sizes_of((physical_layout,))
    if sorted(layout) != list(range(len(shape))):
        raise OpError(f"empty_permuted: {layout} doesn't name each dimension of {shape} once")
    memory = np.empty([shape[d] for d in layout], dtype_of(dtype))
    return _finish(memory.transpose(np.argsort(layout)) if layout else memory, requires_grad)


@on_cpu
def eye(n: int, m: int | None = None, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones on the diagonal, zeros elsewhere.  Shape: -> (n, m)"""
    rows, columns = _shape((n, n if m is None else m))
    return _finish(np.eye(rows, columns, dtype=dtype_of(dtype)), requires_grad)


# --- like another tensor -------------------------------------------------------------------------


@on_cpu
@sized
def new_zeros(input: Tensor, *size: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros in the dtype of `input`.  Shape: -> size"""
    return zeros(*size, dtype=dtype_of(dtype, input.dtype), requires_grad=requires_grad)


@on_cpu
@sized
def new_ones(input: Tensor, *size: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones in the dtype of `input`.  Shape: -> size"""
    return ones(*size, dtype=dtype_of(dtype, input.dtype), requires_grad=requires_grad)


@on_cpu
@sized
def new_empty(input: Tensor, *size: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """Unset numbers in the dtype of `input`.  Shape: -> size"""
    return empty(*size, dtype=dtype_of(dtype, input.dtype), requires_grad=requires_grad)


@on_cpu
def new_full(
    input: Tensor, size: Any, fill_value: Any, *, dtype: Any = None, requires_grad: bool = False
) -> Tensor:
    """One number in the dtype of `input`.  Shape: -> size"""
    kind = dtype_of(dtype, input.dtype)
    return full(size, fill_value, dtype=kind, requires_grad=requires_grad)


@on_cpu
def new_tensor(
    input: Tensor, data: Any, *, dtype: Any = None, requires_grad: bool = False
) -> Tensor:
    """A tensor of the given numbers in the dtype of `input`."""
    return tensor(data, dtype=dtype_of(dtype, input.dtype), requires_grad=requires_grad)


@on_cpu
def new_empty_strided(
    input: Tensor, size: Any, stride: Any, *, dtype: Any = None, requires_grad: bool = False
) -> Tensor:
    """Unset numbers in the dtype of `input`, `stride` elements apart in memory.  Shape: -> size"""
    kind = dtype_of(dtype, input.dtype)
    return empty_strided(size, stride, dtype=kind, requires_grad=requires_grad)


def fill(input: Tensor, value: Any) -> Tensor:
    """`value` everywhere in the shape and dtype of `input`; the gradient goes to `value`."""
    return input.masked_fill(wrap(np.ones((), bool)), value)


def zero(input: Tensor) -> Tensor:
    """Zeros in the shape and dtype of `input`; nothing flows back."""
    return fill(input, 0)
