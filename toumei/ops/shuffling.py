"""Channels and pixels of images rearranged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import OpError
from ..tape import spec_of

if TYPE_CHECKING:
    from ..tensor import Tensor

__all__ = [
    "channel_shuffle",
    "pixel_shuffle",
    "pixel_unshuffle",
]


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """Channels moved into space, r = upscale_factor.  Shape: (…, c·r², h, w) -> (…, c, h·r, w·r)

    Raises:
        OpError: the number of channels isn't divisible by r².

    Paper: Shi et al. 2016, arXiv:1609.05158.
    """
    r = upscale_factor
    _need_image("pixel_shuffle", input, 3)
    *lead, c, h, w = input.shape
    if r < 1 or c % (r * r):
        raise OpError(
            f"pixel_shuffle({spec_of(input)}): {c} channels aren't divisible by {r}² = {r * r}"
        )
    x = input.reshape(*lead, c // (r * r), r, r, h, w)
    n = len(lead)
    x = x.permute(*range(n), n, n + 3, n + 1, n + 4, n + 2)
    return x.reshape(*lead, c // (r * r), h * r, w * r)


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """Space moved into channels, r = downscale_factor.  Shape: (…, c, h·r, w·r) -> (…, c·r², h, w)

    Raises:
        OpError: the height or the width isn't divisible by r.
    """
    r = downscale_factor
    _need_image("pixel_unshuffle", input, 3)
    *lead, c, h, w = input.shape
    if r < 1 or h % r or w % r:
        raise OpError(f"pixel_unshuffle({spec_of(input)}): {h}×{w} pixels aren't divisible by {r}")
    x = input.reshape(*lead, c, h // r, r, w // r, r)
    n = len(lead)
    x = x.permute(*range(n), n, n + 2, n + 4, n + 1, n + 3)
    return x.reshape(*lead, c * r * r, h // r, w // r)


def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """Channels dealt out like cards from `groups` stacks.  Shape: (n, c, …) -> (n, c, …)

    Raises:
        OpError: the number of channels isn't divisible by `groups`.

    Paper: Zhang et al. 2017, arXiv:1707.01083.
    """
    _need_image("channel_shuffle", input, 3)
    n, c, *rest = input.shape
    if groups < 1 or c % groups:
        raise OpError(
            f"channel_shuffle({spec_of(input)}): {c} channels aren't divisible by {groups}"
        )
    return input.reshape(n, groups, c // groups, *rest).transpose(1, 2).reshape(input.shape)


def _need_image(name: str, x: Tensor, ndim: int) -> None:
    if x.ndim < ndim:
        raise OpError(f"{name}({spec_of(x)}): the input needs at least {ndim} dimensions")
