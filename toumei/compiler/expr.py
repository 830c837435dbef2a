"""What one element of a value is: a small expression over elements of other values.

    Read(value, strides, offset)   the element of a stored value at offset + Σ strides·index
    Index(strides, offset)         offset + Σ strides·index itself, an integer
    Const(value)                   a number
    Apply(name, args)              a scalar function: "add", "exp", "select", "cast" …

All of an expression's leaves share one index space, the shape of the value.  A view of a value is
the same expression with the leaves' strides and offsets changed; NumPy itself says how: the view is
taken of an array with those strides whose memory nobody touches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from ..op import DType

INT64 = np.dtype(np.int64)
Strides: TypeAlias = tuple[int, ...]  # in elements


@dataclass(frozen=True, slots=True)
class Read:
    """An element of a stored value."""

    value: int
    dtype: DType
    strides: Strides
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Index:
    """A whole number that is linear in the index."""

    strides: Strides
    offset: int = 0
    dtype: DType = INT64


@dataclass(frozen=True, slots=True)
class Const:
    """The same number everywhere."""

    value: float
    dtype: DType


@dataclass(frozen=True, slots=True)
class Apply:
    """A scalar function of other expressions."""

    name: str
    args: tuple[Expr, ...]
    dtype: DType


Expr: TypeAlias = Read | Index | Const | Apply


def leaves(expr: Expr) -> Iterator[Read | Index | Const]:
    """Yield the leaves, each once."""
    seen: set[int] = set()
    stack: list[Expr] = [expr]
    while stack:
        e = stack.pop()
        if id(e) in seen:
            continue
        seen.add(id(e))
        if isinstance(e, Apply):
            stack.extend(reversed(e.args))
        else:
            yield e


def rewrite(expr: Expr, change: Callable[[Any], Expr]) -> Expr:
    """Return the expression with each leaf changed; what is shared stays shared."""
    done: dict[int, Expr] = {}

    def visit(e: Expr) -> Expr:
        if id(e) not in done:
            done[id(e)] = (
                Apply(e.name, tuple(map(visit, e.args)), e.dtype)
                if isinstance(e, Apply)
                else change(e)
            )
        return done[id(e)]

    return visit(expr)


def broadcast(expr: Expr, shape: Sequence[int], to: Sequence[int]) -> Expr:
    """Let the elements of a shape stand for those of a larger one."""
    if tuple(shape) == tuple(to):
        return expr
    new = len(to) - len(shape)

    def change(leaf: Read | Index | Const) -> Expr:
        if isinstance(leaf, Const):
            return leaf
        kept = tuple(
            0 if n == 1 and m != 1 else s
            for s, n, m in zip(leaf.strides, shape, to[new:], strict=True)
        )
        return _moved(leaf, (0,) * new + kept, leaf.offset)

    return rewrite(expr, change)


def view(expr: Expr, shape: Sequence[int], take: Callable[[Any], Any]) -> Expr:
    """Return what a view shows; `take` is the view as a function of an array."""
    return rewrite(expr, lambda leaf: _viewed(leaf, tuple(shape), take))


_MEMORY = np.zeros(1, np.uint8)  # where ghosts claim to start


def _viewed(leaf: Read | Index | Const, shape: Strides, take: Callable[[Any], Any]) -> Expr:
    if isinstance(leaf, Const):
        return leaf
    # A ghost: one byte per element, so that strides and addresses count elements.
    ghost = np.lib.stride_tricks.as_strided(_MEMORY, shape, leaf.strides)
    shown = take(ghost)
    moved = shown.__array_interface__["data"][0] - ghost.__array_interface__["data"][0]
    return _moved(leaf, tuple(shown.strides), leaf.offset + moved)


def reshape(expr: Expr, shape: Sequence[int], to: Sequence[int]) -> Expr | None:
    """Return the elements in another shape, or None if a leaf would have to be copied for it."""
    parts = _pieces(shape, to)
    for leaf in leaves(expr):
        if not isinstance(leaf, Const) and _reshaped(leaf.strides, shape, to, parts) is None:
            return None

    def change(leaf: Read | Index | Const) -> Expr:
        if isinstance(leaf, Const):
            return leaf
        strides = _reshaped(leaf.strides, shape, to, parts)
        assert strides is not None
        return _moved(leaf, strides, leaf.offset)

    return rewrite(expr, change)


Pieces: TypeAlias = list[tuple[list[int], list[int]]]


def _pieces(shape: Sequence[int], to: Sequence[int]) -> Pieces:
    """Group the dimensions of two shapes of one size so that each group holds as many elements.

    >>> _pieces((2, 3, 4), (6, 2, 2))
    [([0, 1], [0]), ([2], [1, 2])]
    """
    old = [d for d, n in enumerate(shape) if n != 1]
    new = [d for d, n in enumerate(to) if n != 1]
    groups: Pieces = []
    i = j = 0
    while i < len(old) or j < len(new):
        first, second = [old[i]], [new[j]]
        a, b = shape[old[i]], to[new[j]]
        i, j = i + 1, j + 1
        while a != b:
            if a < b:
                a, i = a * shape[old[i]], i + 1
                first.append(old[i - 1])
            else:
                b, j = b * to[new[j]], j + 1
                second.append(new[j - 1])
        groups.append((first, second))
    return groups


def _reshaped(
    strides: Strides, shape: Sequence[int], to: Sequence[int], pieces: Pieces
) -> Strides | None:
    """Return the strides in another shape, or None: within a group they must run through."""
    out = [0] * len(to)
    for old, new in pieces:
        for d, e in pairwise(old):
            if strides[d] != strides[e] * shape[e]:
                return None
        step = strides[old[-1]]
        for d in reversed(new):
            out[d] = step
            step *= to[d]
    return tuple(out)


def _moved(leaf: Any, strides: Strides, offset: int) -> Expr:
    if isinstance(leaf, Read):
        return Read(leaf.value, leaf.dtype, strides, offset)
    return Index(strides, offset, leaf.dtype)


def dense(shape: Sequence[int], order: Sequence[int] | None = None) -> Strides:
    """Return the strides of a shape laid out without gaps, dims from outermost to innermost.

    >>> dense((2, 3, 4)), dense((2, 3, 4), (0, 2, 1))
    ((12, 4, 1), (12, 1, 3))
    """
    strides = [0] * len(shape)
    step = 1
    for d in reversed(range(len(shape)) if order is None else order):
        strides[d] = step
        step *= shape[d]
    return tuple(strides)
