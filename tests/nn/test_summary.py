"""The table of a model."""

from __future__ import annotations

import io
from typing import Any

import pytest

import toumei as tm
from toumei import nn
from toumei.errors import ModuleError, OpError


class Net(nn.Module):
    def __init__(self) -> None:
        self.layers = [nn.Linear(6, 4), nn.Sequential(nn.Tanh(), nn.Linear(4, 4))]
        self.drop = nn.Dropout(0.5)
        self.tied = nn.Linear(4, 4)
        self.tied.weight = self.layers[1][1].weight
        self.register_buffer("count", tm.zeros(3))

    def forward(self, x: Any, y: Any) -> Any:
        h = self.drop(self.layers[0](x.flatten(1)))
        return self.tied(self.layers[1](h)), y.sum()


def test_rows_and_totals() -> None:
    net = Net()
    net.layers[0].bias.requires_grad_(False)
    table = tm.summary(net, (8, 2, 3), tm.arange(4))
    rows = [(r.name, r.label, r.depth, r.output, r.parameters, r.trainable) for r in table.rows]
    assert rows == [
        ("", "", 0, "[8, 4], []", 0, 0),
        ("layers.0", "layers.0", 1, "[8, 4]", 28, 24),
        ("layers.1", "layers.1", 1, "[8, 4]", 0, 0),
        ("layers.1.0", "0", 2, "[8, 4]", 0, 0),
        ("layers.1.1", "1", 2, "[8, 4]", 20, 20),
        ("drop", "drop", 1, "[8, 4]", 0, 0),
        ("tied", "tied", 1, "[8, 4]", 20, 20),
    ]
    assert (table.parameters, table.trainable) == (52, 48)  # the tied weight once
    assert table.bytes == (52 + 3) * 4
    assert "layers.0: Linear" in str(table)
    assert "52 parameters (48 trainable, 4 frozen)" in str(table)


def test_nothing_is_computed_or_changed() -> None:
    net = Net().train()
    state = tm.get_rng_state().tolist()
    tm.summary(net, (10**7, 2, 3), (1,))  # as numbers these would be a gigabyte
    assert net.training and net.drop.training and not net.drop._hooks
    assert tm.get_rng_state().tolist() == state


def test_without_inputs_and_with_wrong_ones() -> None:
    net = Net()
    assert {row.output for row in tm.summary(net).rows} == {""}
    with pytest.raises(OpError, match=r"linear.*inner sizes differ"):
        tm.summary(net, (8, 2, 5), (1,))
    assert not net.drop._hooks and net.training
    with pytest.raises(ModuleError, match="a tensor or a shape"):
        tm.summary(net, 8)


def test_rich_table() -> None:
    from rich.console import Console

    console = Console(width=100, file=io.StringIO())
    console.print(tm.summary(Net(), (8, 2, 3), (1,)))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "layers.0: Linear" in text and "52 parameters" in text
