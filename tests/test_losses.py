"""Losses refuse what is nearly always a mistake, and say how to put it right."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import toumei as tm
import toumei.nn.functional as F
from toumei.errors import OpError, OpIndexError, OpTypeError

PAIRS: list[Callable[..., tm.Tensor]] = [
    F.mse_loss,
    F.l1_loss,
    F.smooth_l1_loss,
    F.huber_loss,
    F.binary_cross_entropy,
    F.binary_cross_entropy_with_logits,
    F.soft_margin_loss,
    F.multilabel_soft_margin_loss,
    F.kl_div,
    F.poisson_nll_loss,
    F.hinge_embedding_loss,
]


@pytest.mark.parametrize("loss", PAIRS)
def test_losses_never_broadcast(loss: Callable[..., tm.Tensor]) -> None:
    column, row = tm.full((4, 1), 0.5), tm.full((4,), 0.5)
    with pytest.raises(OpError, match=r"losses don't broadcast: use input\.squeeze\(1\)"):
        loss(column, row)
    with pytest.raises(OpError, match=r"losses don't broadcast: use target\.squeeze\(1\)"):
        loss(row, column)


@pytest.mark.parametrize(
    ("a", "b", "cure"),
    [
        ((1, 4), (4,), r"use input\.squeeze\(0\)"),
        ((2, 3), (3,), r"use target\.expand\(2, 3\)"),
        ((2, 1), (2, 3), r"use input\.expand\(2, 3\)"),
        ((2, 3), (3, 2), r"use target\.view_as\(input\)"),
        ((2, 3), (4,), "6 elements can't be compared with 4"),
    ],
)
def test_the_message_proposes_a_cure(a: tuple[int, ...], b: tuple[int, ...], cure: str) -> None:
    with pytest.raises(OpError, match=cure):
        F.mse_loss(tm.zeros(*a), tm.zeros(*b))


@pytest.mark.parametrize("loss", PAIRS)
def test_reduction_is_checked(loss: Callable[..., tm.Tensor]) -> None:
    x = tm.full((3,), 0.5)
    with pytest.raises(OpError, match="must be 'none', 'mean' or 'sum', not 'avg'"):
        loss(x, x, reduction="avg")
    if loss is not F.huber_loss:  # PyTorch's never had the old arguments
        with pytest.raises(OpError, match="size_average and reduce are no longer supported"):
            loss(x, x, size_average=False)


@pytest.mark.parametrize("label", [3, -1, -99])
@pytest.mark.parametrize("loss", [F.cross_entropy, F.nll_loss])
def test_labels_out_of_range_are_named(loss: Callable[..., tm.Tensor], label: int) -> None:
    target = tm.tensor([0, label, 2])
    with pytest.raises(OpIndexError, match=f"label {label} at 1 is out of range: there are 3"):
        loss(tm.zeros(3, 3), target)
    images = tm.tensor([[[0, 1], [2, label]]])
    with pytest.raises(OpIndexError, match=rf"label {label} at \(0, 1, 1\) is out of range"):
        loss(tm.zeros(1, 3, 2, 2), images)


def test_ignored_labels_may_be_anything() -> None:
    x = tm.tensor([[0.0, 1.0], [3.0, 2.0]])
    expected = F.cross_entropy(x[:1], tm.tensor([1]))
    for ignored in (-100, -1, 7):
        loss = F.cross_entropy(x, tm.tensor([1, ignored]), ignore_index=ignored)
        assert loss.item() == pytest.approx(expected.item())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_batch_of_ignored_labels_has_no_gradient(smoothing: float) -> None:
    x = tm.zeros(2, 3, requires_grad=True)
    loss = F.cross_entropy(x, tm.tensor([-100, -100]), label_smoothing=smoothing)
    (gradient,) = tm.autograd.grad(loss, [x], create_graph=True)
    assert loss.isnan() and not gradient.any()


def test_gaussian_nll_loss_shares_a_variance_along_any_one_dimension() -> None:
    x, var = tm.tensor([[1.0, 2.0], [3.0, 5.0]]), tm.tensor([[0.5, 2.0]])
    loss = F.gaussian_nll_loss(x, tm.zeros(2, 2), var)
    assert loss.item() == F.gaussian_nll_loss(x, tm.zeros(2, 2), var.expand(2, 2)).item()
    with pytest.raises(OpError, match="var doesn't fit"):
        F.gaussian_nll_loss(x, tm.zeros(2, 2), tm.ones(1, 1))


def test_labels_and_probabilities_are_told_apart() -> None:
    x = tm.zeros(4, 3)
    with pytest.raises(OpTypeError, match=r"class labels must be integers: use target\.long\(\)"):
        F.cross_entropy(x, tm.zeros(4))
    with pytest.raises(OpTypeError, match="holds probabilities, so floats"):
        F.cross_entropy(x, tm.zeros(4, 3).long())
    with pytest.raises(OpError, match=r"the labels have the shape \(4, 1\)"):
        F.cross_entropy(x, tm.zeros(4, 1).long())
    with pytest.raises(OpError, match="it needs one float32 number for each"):
        F.cross_entropy(x, tm.zeros(4).long(), weight=tm.ones(2))
    with pytest.raises(OpTypeError, match="the target must be float32 as x is, not int64"):
        F.binary_cross_entropy_with_logits(tm.zeros(3), tm.tensor([0, 1, 1]))


def test_probabilities_leave_no_room_for_logits() -> None:
    with pytest.raises(OpError, match=r"reaches from -2 to 0\.5"):
        F.binary_cross_entropy(tm.tensor([-2.0, 0.5]), tm.tensor([0.0, 1.0]))
    with pytest.raises(OpError, match="must hold probabilities"):
        F.binary_cross_entropy(tm.tensor([float("nan")]), tm.tensor([0.0]))


def test_one_hot_refuses_negative_labels() -> None:
    with pytest.raises(OpIndexError, match="label -1 at 1 is out of range"):
        F.one_hot(tm.tensor([2, -1]))
    with pytest.raises(OpIndexError, match="label 3 at 0"):
        F.one_hot(tm.tensor([3]), 3)


def test_ctc_refuses_what_does_not_fit() -> None:
    log_probs, targets = tm.zeros(5, 2, 4), tm.ones(2, 3).long()
    with pytest.raises(OpError, match="input_lengths reach from 5 to 6, but must be from 0 to 5"):
        F.ctc_loss(log_probs, targets, [5, 6], [3, 3])
    with pytest.raises(OpError, match="target_lengths reach from 3 to 4"):
        F.ctc_loss(log_probs, targets, [5, 5], [3, 4])
    with pytest.raises(OpIndexError, match=r"label 4 at \(0, 0\)"):
        F.ctc_loss(log_probs, targets + 3, [5, 5], [3, 3])
    with pytest.raises(OpError, match="blank is 4, but there are 4 classes"):
        F.ctc_loss(log_probs, targets, [5, 5], [3, 3], blank=4)


def test_linear_cross_entropy_refuses_what_does_not_fit() -> None:
    x, weight, labels = tm.zeros(2, 3), tm.zeros(4, 3), tm.zeros(2).long()
    with pytest.raises(OpError, match="the input has 3 features, the weight 5"):
        F.linear_cross_entropy(x, tm.zeros(4, 5), labels)
    with pytest.raises(OpError, match=r"linear_bias is float32\[3\], it needs \(4,\)"):
        F.linear_cross_entropy(x, weight, labels, linear_bias=tm.zeros(3))
    with pytest.raises(OpError, match="need an input with a batch"):
        F.linear_cross_entropy(x[0], tm.zeros(4, 2, 3), labels)
    with pytest.raises(OpError, match="ignore_index has no meaning"):
        F.linear_cross_entropy(x, weight, tm.zeros(2, 4), ignore_index=1)
    with pytest.raises(OpError, match="options must be None"):
        F.linear_cross_entropy(x, weight, labels, options={})  # type: ignore[arg-type]
