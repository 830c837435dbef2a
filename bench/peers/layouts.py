"""PyTorch's weights in the layouts that JAX and TensorFlow compute with.

Linear: (out, in) -> (in, out).  Convolution: (out, in, h, w) -> (h, w, in, out).  Images are NHWC,
so a linear layer that reads or makes a flattened image gets its features in another order.
"""

from __future__ import annotations

import numpy as np

from bench.workloads import Array

# Linear layers that read a flattened image, and its shape (C, H, W).
_READS = {("W3", "7.weight"): (64, 12, 12), ("W9", "discriminator.6.weight"): (128, 7, 7)}
_MAKES = {("W9", "generator.0.weight"): (128, 7, 7)}
_TABLES = ("embedding.weight", "token.weight", "place.weight", "source.weight", "target.weight")


def converted(workload: str, weights: dict[str, Array]) -> dict[str, Array]:
    """Return a workload's parameters, by PyTorch's names; running statistics are among them."""
    kept = {n: w for n, w in weights.items() if not n.endswith("num_batches_tracked")}
    return {name: _convert((workload, name), w) for name, w in kept.items()}


def inputs_converted(inputs: dict[str, Array]) -> dict[str, Array]:
    """Return inputs with images as NHWC, and int32 for int64."""
    return {name: _convert_input(array) for name, array in inputs.items()}


def _convert(place: tuple[str, str], weight: Array) -> Array:
    if place in _READS:
        shape = _READS[place]
        image = weight.reshape(-1, *shape).transpose(2, 3, 1, 0)  # (H, W, C, out)
        return np.ascontiguousarray(image.reshape(-1, len(weight)))
    if place in _MAKES:
        image = weight.reshape(*_MAKES[place], -1).transpose(3, 1, 2, 0)  # (in, H, W, C)
        return np.ascontiguousarray(image.reshape(weight.shape[1], -1))
    if weight.ndim == 4:  # of a transposed convolution: (in, out, h, w) -> (h, w, out, in)
        return np.ascontiguousarray(weight.transpose(2, 3, 1, 0))
    if weight.ndim == 2 and not place[1].endswith(_TABLES):
        return np.ascontiguousarray(weight.T)
    return weight


def _convert_input(array: Array) -> Array:
    if array.ndim == 4:
        return np.ascontiguousarray(array.transpose(0, 2, 3, 1))
    return array.astype(np.int32) if array.dtype == np.int64 else array
