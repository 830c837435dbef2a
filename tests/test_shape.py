"""Views share memory, copies don't, and what can't be is refused with both numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import toumei as tm
from toumei.errors import OpError

View = Callable[[Any], Any]

VIEWS: dict[str, View] = {
    "T": lambda x: x.T,
    "chunk": lambda x: x.chunk(2, 1)[1],
    "diagonal": lambda x: x.diagonal(1),
    "movedim": lambda x: x.movedim(0, 1),
    "narrow": lambda x: x.narrow(1, 1, 2),
    "select": lambda x: x.select(0, 2),
    "select twice": lambda x: x[1][2],
    "split": lambda x: x.split([1, 3], 1)[0],
    "squeeze": lambda x: x.unsqueeze(0).squeeze(0),
    "unbind": lambda x: x.unbind(1)[3],
    "unfold": lambda x: x.unfold(1, 2, 2),
    "view": lambda x: x.view(2, 6),
    "as_strided": lambda x: x.as_strided((2, 2), (4, 1), 1),
}


@pytest.mark.parametrize("name", VIEWS)
def test_change_through_a_view(name: str) -> None:
    """The base changes where the view shows it, and the gradient knows."""
    leaf = tm.arange(1, 13, dtype=tm.float64).reshape(3, 4).clone().requires_grad_()
    base = leaf * 1
    before = base.detach().clone()
    view = VIEWS[name](base)
    assert view.data_ptr() >= base.data_ptr()
    view.mul_(3.0)
    factor = (base.detach() / before).numpy()
    assert set(np.unique(factor)) <= {1.0, 3.0}
    assert (factor == 3).sum() == view.numel()
    weights = np.arange(1.0, 13).reshape(4, 3).T  # not contiguous, on purpose
    base.backward(tm.from_numpy(weights))
    np.testing.assert_allclose(leaf.grad.numpy(), factor * weights)


@pytest.mark.parametrize(
    "overlapping",
    [
        lambda x: x.unfold(1, 2, 1),
        lambda x: x.as_strided((2, 2), (1, 1)),
        lambda x: x.expand(2, 3, 4),
    ],
)
def test_overlapping_views_are_not_changed_in_place(overlapping: View) -> None:
    with pytest.raises(OpError, match="share one place in memory"):
        overlapping(tm.zeros(3, 4)).add_(1)


COPIES = ["permute_copy", "transpose_copy", "view_copy", "expand_copy", "narrow_copy", "t_copy"]
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "permute_copy": ((1, 0),),
    "transpose_copy": (0, 1),
    "view_copy": ((4, 3),),
    "expand_copy": ((2, 3, 4),),
    "narrow_copy": (0, 0, 3),
    "t_copy": (),
}


@pytest.mark.parametrize("name", COPIES)
def test_copies_have_memory_of_their_own(name: str) -> None:
    x = tm.zeros(3, 4)
    out = getattr(tm, name)(x, *ARGUMENTS[name])
    out.add_(1)
    assert out.is_contiguous()
    assert x.sum().item() == 0


REFUSED: dict[str, tuple[View, str]] = {
    "view": (lambda x: x.T.view(6), "with the strides (1, 3) the elements don't lie"),
    "reshape": (lambda x: x.reshape(4, 2), "6 elements don't fill the shape (4, 2)"),
    "cat": (lambda x: tm.cat([x, tm.zeros(2, 4)]), "dim 1 is 3 in tensor 0 and 4 in tensor 1"),
    "expand": (lambda x: x.expand(4, 3), "dim 0 has size 2, which can't become 4"),
    "select": (lambda x: x.select(1, 7), "dim 1 of size 3 has no index 7"),
    "narrow": (lambda x: x.narrow(1, 2, 5), "dim 1 of size 3 has no 5 elements from 2 on"),
    "split": (lambda x: x.split([1, 3], 1), "add up to 4, dim 1 has 3"),
    "unfold": (lambda x: x.unfold(1, 9, 1), "dim 1 of size 3 has no windows of 9"),
    "max": (lambda x: x.max(5), "dim 5 is out of range: the tensor has 2 dimensions"),
    "topk": (lambda x: x.topk(9), "dim 1 of size 3 has no 9 largest"),
    "zeros": (lambda x: tm.zeros(-1), "no size may be negative"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    call, words = REFUSED[name]
    with pytest.raises(OpError) as caught:
        call(tm.zeros(2, 3))
    assert words in caught.value.message
