"""Toumei's side, asked as the bench asks it, in this process; and layouts for the other sides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.__main__ import _write_start
from bench.peers.layouts import converted, inputs_converted
from bench.peers.serve import Server
from bench.peers.toumei import Toumei
from toumei.compiler.llvm.runtime import get_num_threads


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("start")


@pytest.mark.parametrize("name", ["W1", "W7", "W9", "W10"])
def test_the_first_losses(name: str, folder: Path) -> None:
    file = folder / f"{name}.npz"
    _write_start(name, file)
    server = Server(Toumei(get_num_threads(), compiled=False))
    server.answer({"do": "load", "workload": name, "file": str(file), "dropout": False})
    found = server.answer({"do": "step", "count": 3})
    assert len(found["times"]) == 3 and all(t > 0 for t in found["times"])
    losses = np.array(found["losses"])
    assert losses.shape == (3, 2 if name == "W9" else 1)
    at_chance = {"W1": np.log(10), "W7": np.log(65), "W9": 2 * np.log(2), "W10": np.log(65)}
    assert losses[0, 0] == pytest.approx(at_chance[name], rel=0.15)
    assert losses[2, 0] < losses[0, 0]  # D's, of the GAN


@pytest.mark.parametrize(("name", "has_dropout"), [("W3", True), ("W7", False)])
def test_only_some_workloads_have_dropout(name: str, has_dropout: bool, folder: Path) -> None:
    class Listening:
        def load(self, name: str, inputs: Any, weights: Any, dropout: bool) -> Any:
            self.dropout, self.inputs, self.weights = dropout, inputs, weights

        def versions(self) -> dict[str, str]:
            return {}

    file = folder / f"{name}-start.npz"
    _write_start(name, file)
    side = Listening()
    for wanted in (True, False):
        Server(side).answer({"do": "load", "workload": name, "file": str(file), "dropout": wanted})
        assert side.dropout is (wanted and has_dropout)
    assert list(side.inputs) == ["x", "y"]
    assert ("0.weight" if name == "W3" else "blocks.0.qkv.weight") in side.weights


def test_memory_is_measured(folder: Path) -> None:
    class Hungry:
        def load(self, *_: object) -> object:
            return lambda: [float(np.ones(1 << 23).sum())]  # 64 MB for a moment

        def versions(self) -> dict[str, str]:
            return {"hungry": "1"}

    server = Server(Hungry())
    server.take_step = server.side.load("", {}, {}, False)
    grown = server.answer({"do": "memory", "count": 2})["bytes"]
    assert 60e6 < grown < 120e6
    assert server.answer({"do": "about"}) == {"versions": {"hungry": "1"}}


def test_a_flattened_image_keeps_its_meaning() -> None:
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, 64, 12, 12))
    weight = rng.normal(size=(128, 9216))
    ours = images.reshape(2, -1) @ weight.T
    nhwc = inputs_converted({"x": images})["x"].reshape(2, -1)
    assert np.allclose(nhwc @ converted("W3", {"7.weight": weight})["7.weight"], ours)


def test_a_made_image_keeps_its_meaning() -> None:
    rng = np.random.default_rng(0)
    noise, weight = rng.normal(size=(2, 100)), rng.normal(size=(6272, 100))
    ours = (noise @ weight.T).reshape(2, 128, 7, 7)
    theirs = noise @ converted("W9", {"generator.0.weight": weight})["generator.0.weight"]
    assert np.allclose(theirs.reshape(2, 7, 7, 128).transpose(0, 3, 1, 2), ours)


def test_tables_stay_and_counters_go() -> None:
    table = np.arange(6.0).reshape(3, 2)
    found = converted("W7", {"token.weight": table, "bn.num_batches_tracked": np.array(1)})
    assert list(found) == ["token.weight"] and found["token.weight"] is table
