"""einsum and tensordot: sums of products over named dimensions, by way of the matrix product."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..errors import OpError
from ..tape import dims_of, spec_of
from .linalg import matmul
from .parts import diagonal
from .shape import permute

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = ["einsum", "tensordot"]

Label: TypeAlias = (
    "str | int"  # a letter; −1, −2, … for the dimensions of an ellipsis, from the end
)
Named: TypeAlias = "tuple[Tensor, tuple[Label, ...]]"  # a tensor and the names of its dimensions

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def einsum(equation: Any, *operands: Any) -> Tensor:
    """Sum of products over named dimensions (Einstein's convention).

    einsum("ij,jk->ik", a, b)ᵢₖ = Σⱼ aᵢⱼ·bⱼₖ

    A letter that stands twice in one operand takes the diagonal; "..." stands for any dimensions,
    which broadcast; without "->" the letters that stand once remain, in alphabetical order.
    Operands and lists of numbers may alternate instead: einsum(a, [0, 1], b, [1, 2], [0, 2]).

    Raises:
        OpError: the equation doesn't fit the tensors.

    >>> import toumei as tm
    >>> tm.einsum("ii->i", tm.tensor([[1, 2], [3, 4]]))
    tensor([1, 4])
    """
    if not isinstance(equation, str):
        equation, operands = _from_lists((equation, *operands))
    elif len(operands) == 1 and isinstance(operands[0], tuple | list):
        operands = tuple(operands[0])
    named, output, sizes = _parse(equation.replace(" ", ""), operands)
    group = [_prepared(t, labels, sizes) for t, labels in named]
    while len(group) > 1:
        i, j = _cheapest_pair(group, sizes)
        a, b = group[i], group[j]
        group = [g for k, g in enumerate(group) if k not in (i, j)]
        wanted = set(output).union(*(labels for _, labels in group))
        group.append(_contract(a, b, wanted, sizes))
    t, labels = _summed(group[0], set(output))
    return permute(t, *(labels.index(label) for label in output)) if output else t


def _from_lists(args: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]]:
    """Write (a, [0, 1], b, [1, 2], [0, 2]) as "AB,BC->AC" and (a, b)."""
    pairs, output = args[: len(args) // 2 * 2], args[len(args) // 2 * 2 :]

    def text(numbers: Any) -> str:
        return "".join("..." if n is Ellipsis else LETTERS[int(n)] for n in numbers)

    equation = ",".join(text(numbers) for numbers in pairs[1::2])
    return equation + (f"->{text(output[0])}" if output else ""), pairs[::2]


def _parse(
    equation: str, operands: Sequence[Tensor]
) -> tuple[list[Named], tuple[Label, ...], dict[Label, int]]:
    """Return the operands with their labels, the labels of the output, and the sizes."""
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if len(terms) != len(operands):
        raise OpError(f"einsum({equation!r}): {len(terms)} operands named, {len(operands)} given")
    named = [
        (t, _labels(equation, i, term, t))
        for i, (t, term) in enumerate(zip(operands, terms, strict=True))
    ]
    sizes: dict[Label, int] = {}
    for i, (t, labels) in enumerate(named):
        for label, n in zip(labels, t.shape, strict=True):
            if sizes.setdefault(label, n) == 1:
                sizes[label] = n
            elif n not in (1, sizes[label]):
                what = "an ellipsis" if isinstance(label, int) else repr(label)
                raise OpError(
                    f"einsum({equation!r}): {what} is {sizes[label]}, but {n} in operand {i}"
                )
    dots = tuple(sorted(label for label in sizes if isinstance(label, int)))
    output = _output(equation, right, dots) if arrow else _implicit(named, dots)
    missing = [label for label in output if label not in sizes]
    if missing or len(set(output)) < len(output):
        raise OpError(
            f"einsum({equation!r}): the output must name letters of the operands, each once"
        )
    return named, output, sizes


def _labels(equation: str, i: int, term: str, t: Tensor) -> tuple[Label, ...]:
    before, dots, after = term.partition("...")
    if not (before + after).isalpha() and before + after:
        raise OpError(
            f"einsum({equation!r}): operand {i} has the subscripts {term!r}; they must be letters"
        )
    hidden = t.ndim - len(before) - len(after)
    if hidden < 0 or (hidden and not dots):
        raise OpError(
            f"einsum({equation!r}): operand {i} is {spec_of(t)}, but {term!r} names "
            f"{len(before) + len(after)} dimensions"
        )
    return (*before, *range(-hidden, 0), *after)


def _output(equation: str, right: str, dots: tuple[Label, ...]) -> tuple[Label, ...]:
    before, found, after = right.partition("...")
    return (*before, *(dots if found else ()), *after)


def _implicit(named: list[Named], dots: tuple[Label, ...]) -> tuple[Label, ...]:
    letters = [label for _, labels in named for label in labels if isinstance(label, str)]
    return (*dots, *sorted(label for label in letters if letters.count(label) == 1))


def _prepared(t: Tensor, labels: tuple[Label, ...], sizes: dict[Label, int]) -> Named:
    """Take diagonals for repeated letters; drop dimensions of size 1 that others make larger."""
    for label in dict.fromkeys(labels):
        while labels.count(label) > 1:
            i = labels.index(label)
            j = labels.index(label, i + 1)
            t = diagonal(t, 0, i, j)
            labels = (*(n for k, n in enumerate(labels) if k not in (i, j)), label)
    drop = [d for d, label in enumerate(labels) if t.shape[d] == 1 and sizes[label] != 1]
    if drop:
        t = t.reshape([n for d, n in enumerate(t.shape) if d not in drop])
    return t, tuple(label for d, label in enumerate(labels) if d not in drop)


def _volume(labels: set[Label], sizes: dict[Label, int]) -> int:
    return int(np.prod([sizes[label] for label in labels], dtype=np.float64))


def _cheapest_pair(group: list[Named], sizes: dict[Label, int]) -> tuple[int, int]:
    """Return the two operands whose product takes the fewest multiplications."""
    pairs = [(i, j) for i in range(len(group)) for j in range(i + 1, len(group))]
    return min(pairs, key=lambda p: _volume({*group[p[0]][1], *group[p[1]][1]}, sizes))


def _summed(x: Named, wanted: set[Label]) -> Named:
    """Sum over the dimensions that nobody wants any more."""
    t, labels = x
    dims = tuple(d for d, label in enumerate(labels) if label not in wanted)
    if dims:
        t = t.sum(dims)
    return t, tuple(label for label in labels if label in wanted)


def _contract(a: Named, b: Named, wanted: set[Label], sizes: dict[Label, int]) -> Named:
    """Multiply two operands and sum over what they share and nobody else wants."""
    (x, xs), (y, ys) = _summed(a, wanted | {*b[1]}), _summed(b, wanted | {*a[1]})
    batch = [label for label in xs if label in ys and label in wanted]
    inner = [label for label in xs if label in ys and label not in wanted]
    left = [label for label in xs if label not in ys]
    right = [label for label in ys if label not in xs]
    groups = [_volume(set(g), sizes) for g in (batch, left, inner, right)]
    n, rows, depth, columns = groups
    x = permute(x, *map(xs.index, (*batch, *left, *inner))) if xs else x
    y = permute(y, *map(ys.index, (*batch, *inner, *right))) if ys else y
    x, y = x.reshape(n, rows, depth), y.reshape(n, depth, columns)
    product = matmul(x, y) if inner else x * y
    labels = (*batch, *left, *right)
    return product.reshape([sizes[label] for label in labels]), labels


def _matched(a: Tensor, b: Tensor, dims: tuple[int, ...], others: tuple[int, ...]) -> Tensor:
    """Sum `a` over those of `dims` that have size 1 in the other tensor."""
    if len(dims) != len(others):
        raise OpError(
            f"tensordot: {len(dims)} dimensions of one, {len(others)} of the other tensor"
        )
    single = []
    for d, e in zip(dims, others, strict=True):
        n, m = a.shape[d], b.shape[e]
        if n != m and 1 not in (n, m):
            raise OpError(
                f"tensordot({spec_of(a)}, {spec_of(b)}): dim {d} of one has size {n}, dim {e} of "
                f"the other {m}"
            )
        if n != m and m == 1:
            single.append(d)
    return a.sum(tuple(single), keepdim=True) if single else a


def tensordot(a: Tensor, b: Tensor, dims: Any = 2) -> Tensor:
    """Sum of products over several dimensions at once.

    Args:
        dims: n for the last n dimensions of `a` and the first n of `b`, or a pair of lists that
            name them.

    Shape: (a…, k…), (k…, b…) -> (a…, b…)

    >>> import toumei as tm
    >>> tm.tensordot(tm.ones(2, 3, 4), tm.ones(3, 4, 5)).shape
    Size([2, 5])
    """
    if isinstance(dims, int):
        if not 0 <= dims <= min(a.ndim, b.ndim):
            raise OpError(
                f"tensordot({spec_of(a)}, {spec_of(b)}): it can't sum over {dims} dimensions"
            )
        dims = range(a.ndim - dims, a.ndim), range(dims)
    first, second = ([d] if isinstance(d, int) else list(d) for d in dims)
    summed_a = dims_of("tensordot", a, first) if first else ()
    summed_b = dims_of("tensordot", b, second) if second else ()
    a, b = _matched(a, b, summed_a, summed_b), _matched(b, a, summed_b, summed_a)
    keep_a = [d for d in range(a.ndim) if d not in summed_a]
    keep_b = [d for d in range(b.ndim) if d not in summed_b]
    depth = math.prod([a.shape[d] for d in summed_a])
    shape = [*(a.shape[d] for d in keep_a), *(b.shape[d] for d in keep_b)]
    rows = math.prod([a.shape[d] for d in keep_a])
    columns = math.prod([b.shape[d] for d in keep_b])
    left = (permute(a, *keep_a, *summed_a) if a.ndim else a).reshape(rows, depth)
    right = (permute(b, *summed_b, *keep_b) if b.ndim else b).reshape(depth, columns)
    return matmul(left, right).reshape(shape)
