"""What a convolution kernel computes: sizes and strides of a 2-d convolution and its gradients."""

from __future__ import annotations

from typing import NamedTuple


class ConvSpec(NamedTuple):
    """A 2-d convolution.

    y[n, oy, ox, k] = Σ x[n, oy·sy + i·dy − py, ox·sx + j·dx − px, c] · w[k, c, i, j] over c, i, j

    The same spec stands for the convolution ("forward"), for the gradient of its input ("input":
    x from y and w) and for that of its weight ("weight": w from x and y).  Strides count elements.

    Args:
        n: images.
        h, w, c: rows, columns and channels of x.
        oh, ow, k: of y.
        kernel: rows and columns of the window.
        stride, padding, dilation: of rows and columns; padding is before the first and after the
            last.
        groups: channels of x and of y are cut into so many groups, each of which sees its own.
        x, y: strides of (n, row, column, channel); the channel's is 1 for fast kernels.
        weight: strides of (k, c / groups, i, j).
        dtype: "float" or "double".
    """

    n: int
    h: int
    w: int
    c: int
    oh: int
    ow: int
    k: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    x: tuple[int, int, int, int]
    y: tuple[int, int, int, int]
    weight: tuple[int, int, int, int]
    dtype: str = "float"
