"""The counted arithmetic: against counts by hand, and against the shapes of the networks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import toumei as tm
from bench import flops
from bench.peers import networks
from bench.workloads import WORKLOADS, inputs


def test_an_mlp_by_hand() -> None:
    first, second = 2 * 100 * 784 * 100, 2 * 100 * 100 * 10
    assert flops.FLOPS["W1"] == 2 * first + 3 * second


def test_a_convolution_is_a_product_per_pixel() -> None:
    assert flops.conv(5, 3, 7, 4, times=1) == 2 * 5 * (3 * 4 * 4) * 7


def test_all_workloads_are_counted() -> None:
    assert list(flops.FLOPS) == list(WORKLOADS)


def forward_operations(name: str) -> int:
    """Count the products and convolutions of a forward pass as its layers are called."""
    found = 0

    def count(layer: Any, _: Any, y: Any) -> None:
        nonlocal found
        found += 2 * y.numel() * math.prod(layer.weight.shape[1:])

    model = networks.build(tm, name, dropout=False)
    for layer in model.modules():
        if isinstance(layer, tm.nn.Linear | tm.nn.Conv2d):
            layer.register_forward_hook(count)
    with tm.no_grad():
        model(tm.from_numpy(inputs(name)["x"]))
    return found


@pytest.mark.parametrize(
    ("name", "first"),  # the operations of the layer that reads the data
    [
        ("W1", 2 * 100 * 784 * 100),
        ("W2", 2 * 100 * 784 * 1000),
        ("W3", 2 * 64 * 26 * 26 * 9 * 32),
        ("W4", 2 * 128 * 32 * 32 * 27 * 16),
    ],
)
def test_three_times_forward_less_the_gradient_of_the_input(name: str, first: int) -> None:
    assert flops.FLOPS[name] == 3 * forward_operations(name) - first


def test_inputs_are_the_same_each_time() -> None:
    for name in WORKLOADS:
        once, again = inputs(name), inputs(name)
        assert all(np.array_equal(once[key], again[key]) for key in once)
