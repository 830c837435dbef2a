"""The examples in the bench's docstrings."""

from __future__ import annotations

import doctest

import pytest

import bench.__main__
from bench import flops, measure, report, workloads
from bench.peers import serve


@pytest.mark.parametrize(
    "module", [bench.__main__, flops, measure, report, workloads, serve], ids=lambda m: m.__name__
)
def test_examples(module: object) -> None:
    found = doctest.testmod(module)
    assert found.attempted and not found.failed
