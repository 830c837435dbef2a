"""Convolution, pooling, padding, resizing, embeddings: against plain loops, and refusals."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest

import toumei as tm
import toumei.nn.functional as F


def normal(*shape: int) -> tm.Tensor:
    return tm.from_numpy(np.random.default_rng(0).normal(size=shape))


def plain_conv2d(x: Any, w: Any, stride: int, pad: int, dilation: int, groups: int) -> Any:
    """Convolution by its definition."""
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    per_group, out_group = w.shape[1], w.shape[0] // groups
    height, width = (
        (n - dilation * (k - 1) - 1) // stride + 1
        for n, k in zip(x.shape[2:], w.shape[2:], strict=True)
    )
    y = np.zeros((x.shape[0], w.shape[0], height, width))
    for o, i, j in product(range(w.shape[0]), range(height), range(width)):
        first = o // out_group * per_group
        rows = i * stride + np.arange(w.shape[2]) * dilation
        columns = j * stride + np.arange(w.shape[3]) * dilation
        window = x[:, first : first + per_group][:, :, rows][:, :, :, columns]
        y[:, o, i, j] = (window * w[o]).sum(axis=(1, 2, 3))
    return y


@pytest.mark.parametrize(
    ("stride", "pad", "dilation", "groups"),
    [(1, 0, 1, 1), (2, 1, 1, 2), (1, 2, 2, 1), (1, 1, 1, 4)],
)
def test_conv2d_is_its_definition(stride: int, pad: int, dilation: int, groups: int) -> None:
    x, w = normal(3, 4, 7, 6), normal(4, 4 // groups, 3, 2)
    y = F.conv2d(x, w, None, stride, pad, dilation, groups)
    expected = plain_conv2d(x.numpy(), w.numpy(), stride, pad, dilation, groups)
    np.testing.assert_allclose(y.numpy(), expected, 1e-10, 1e-12)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_transposed_convolution_is_the_adjoint(stride: int) -> None:
    x, w = normal(2, 4, 7, 7), normal(6, 2, 3, 3)
    y = F.conv2d(x, w, stride=stride, padding=1, groups=2)
    g = normal(*y.shape)
    back = F.conv_transpose2d(g, w, stride=stride, padding=1, groups=2)
    np.testing.assert_allclose((y * g).sum().item(), (x * back).sum().item())


def test_chunks_of_samples_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = normal(7, 3, 6, 5).requires_grad_(), normal(4, 3, 3, 3).requires_grad_()
    results = []
    for size in (1, 1 << 30):
        monkeypatch.setattr("toumei.ops.convolution._CHUNK_BYTES", size)
        y = F.conv2d(x, w, normal(4), stride=2)
        results.append([y, *tm.autograd.grad((y**2).sum(), [x, w])])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), 1e-12, 1e-12)


def test_same_padding_keeps_the_size_also_for_even_kernels() -> None:
    y = F.conv1d(normal(1, 1, 5), normal(1, 1, 4), padding="same")
    assert y.shape == (1, 1, 5)


def test_nan_wins_in_max_pool_and_names_its_place() -> None:
    x = tm.tensor([[1.0, float("nan"), 2.0, -float("inf"), -float("inf"), -float("inf")]])
    y, index = F.max_pool1d(x, 3, return_indices=True)
    assert np.isnan(y[0, 0].item()) and index.tolist() == [[1, 3]]
    assert F.max_pool1d(x, 3, 1, 1)[0, 3].item() == 2


def test_padding_is_never_the_largest() -> None:
    x = tm.full((1, 4), -float("inf"))
    _, index = F.max_pool1d(x, 3, 1, 1, return_indices=True)
    assert index.min().item() >= 0


def test_unpooling_puts_back() -> None:
    x = normal(2, 3, 4, 6)
    y, index = F.max_pool2d(x, 2, return_indices=True)
    back = F.max_unpool2d(y, index, 2)
    assert ((back == x) | (back == 0)).all() and (back != 0).sum().item() == y.numel()


def test_resizing_keeps_infinity_to_itself() -> None:
    x = tm.tensor([[[1.0, float("inf"), 2.0, 3.0]]])
    y = F.interpolate(x, 8, mode="linear", align_corners=False)
    assert np.isfinite(y.numpy()[0, 0, [0, 6, 7]]).all() and not np.isnan(y.numpy()).any()


def test_an_image_sampled_at_its_own_grid_is_itself() -> None:
    x, same = normal(1, 2, 4, 5), tm.tensor([[[1.0, 0, 0], [0, 1, 0]]], dtype=tm.float64)
    for align in (True, False):
        grid = F.affine_grid(same, (1, 2, 4, 5), align_corners=align)
        for mode in ("bilinear", "nearest", "bicubic"):
            y = F.grid_sample(x, grid, mode, align_corners=align)
            np.testing.assert_allclose(y.numpy(), x.numpy(), 1e-9, 1e-9)


def test_embedding_gradient_counts_each_use_but_padding() -> None:
    weight = normal(4, 2).requires_grad_()
    index = tm.tensor([[0, 2], [2, 3]])
    F.embedding(index, weight, padding_idx=3).sum().backward()
    assert weight.grad is not None and weight.grad[:, 0].tolist() == [1, 0, 2, 0]


def test_max_norm_shortens_only_the_rows_in_use() -> None:
    weight = tm.tensor([[3.0, 4.0], [3.0, 4.0]], requires_grad=True)
    y = F.embedding(tm.tensor([1]), weight, max_norm=1.0)
    np.testing.assert_allclose(y.detach().numpy(), [[0.6, 0.8]], 1e-6)
    assert weight[0].tolist() == [3.0, 4.0]


X = normal(2, 3, 8, 8)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: F.conv2d(X, normal(4, 2, 3, 3)), "x has 3 channels, but w takes 2"),
        (lambda: F.conv2d(X, normal(4, 3, 9, 3)), "kernel of size 9 is larger"),
        (lambda: F.conv2d(X, normal(4, 3, 3, 3), normal(3)), "(3,), but w makes 4 channels"),
        (lambda: F.conv2d(X, normal(4, 3, 3, 3), stride=0), "stride must be at least 1, it is 0"),
        (lambda: F.conv2d(X, normal(4, 3, 3, 3), stride=2, padding="same"), "needs stride 1"),
        (lambda: F.conv2d(X, normal(4, 3, 3, 3), padding=(1, 2, 3)), "needs 2 numbers, got 3"),
        (lambda: F.conv_transpose2d(X, normal(4, 3, 3, 3)), "x has 3 channels, but w takes 4"),
        (lambda: F.max_pool2d(X, 9), "kernel of size 9"),
        (lambda: F.max_pool2d(X, 2, padding=2), "padding 2 is more than half of the kernel"),
        (lambda: F.pad(X, (8, 0, 0, 0), "reflect"), "dim 3 has 8 elements: at most 7, not 8"),
        (lambda: F.interpolate(X, 4, mode="linear"), "needs an input of 3 dimensions, it has 4"),
        (lambda: F.interpolate(X, 4, 2.0), "either size or scale_factor"),
        (lambda: F.grid_sample(X, normal(1, 2, 2, 2)), "2 images, but 1 grids"),
        (lambda: F.embedding(tm.tensor([5]), normal(4, 2)), "index 5 is out of range"),
        (lambda: F.embedding(tm.tensor([-1]), normal(4, 2)), "index -1 is out of range"),
    ],
)
def test_refusals(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(tm.errors.OpError) as caught:
        call()
    assert words in caught.value.message


def test_an_infinite_gradient_of_max_pool_stays_at_its_place() -> None:
    x = tm.tensor([[[1.0, 3.0, 2.0, 0.0]]], requires_grad=True)
    F.max_pool1d(x, 2).backward(tm.tensor([[[float("inf"), 1.0]]]))
    assert x.grad is not None and x.grad.tolist() == [[[0.0, float("inf"), 1.0, 0.0]]]
