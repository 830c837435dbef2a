"""The ops that docs/ops.md calls complete agree with PyTorch on every float64 sample."""

from __future__ import annotations

import pathlib
import re
import warnings

import pytest

from .opinfo import infos, run

TABLE = pathlib.Path(__file__).parents[2] / "docs" / "ops.md"
COMPLETE = re.findall(r"`([^`]+)`", TABLE.read_text(encoding="utf-8").split("## ")[1])


def test_the_table_names_enough_ops() -> None:
    assert len(set(COMPLETE)) == len(COMPLETE) >= 220


@pytest.mark.parametrize("name", COMPLETE)
def test_complete(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcome = run(name, infos()[name])
    assert outcome.total > 0 and outcome.good == outcome.total, outcome.problem
