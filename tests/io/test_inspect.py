"""toumei inspect: the table, its totals and statistics, and files that are no good."""

from __future__ import annotations

import json
import math
import pathlib
import re
import struct

import numpy as np
import pytest
from click.testing import CliRunner, Result
from rich.console import Console
from safetensors.numpy import save_file

import toumei as tm
from toumei import nn
from toumei.cli import main
from toumei.viz.inspect import inspect

Path = pathlib.Path


def call(*args: object) -> Result:
    return CliRunner().invoke(main, ["inspect", *map(str, args)])


@pytest.fixture
def state() -> dict[str, object]:
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(11)))
    model[10].weight = model[0].weight
    return {
        "model": model.state_dict(),
        "betas": (0.9, 0.99),
        "epoch": 3,
        "name": "[red]first[/red] \x1b[2J",
    }


def cells(line: str) -> list[str]:
    return re.split(r"\s{2,}", line.strip())


def test_the_table(state: dict[str, object], tmp_path: Path) -> None:
    tm.save(state, tmp_path / "x.safetensors")
    lines = call(tmp_path / "x.safetensors").output.splitlines()
    assert lines[0] == str(tmp_path / "x.safetensors")
    assert cells(lines[1]) == ["tensor", "dtype", "shape", "elements", "size"]
    assert cells(lines[2]) == ["model.0.weight", "float32", "[4, 4]", "16", "64 bytes"]
    assert cells(lines[3]) == ["= model.10.weight"]
    names = [cells(line)[0] for line in lines[4:-4]]
    assert names == [f"model.{i // 2}.{('weight', 'bias')[i % 2]}" for i in range(1, 20)] + [
        "model.10.bias"
    ]
    assert lines[-4:] == [
        "21 tensors, 204 elements, 816 bytes", "betas: [0.9, 0.99]", "epoch: 3",
        "name: [red]first[/red] �[2J",
    ]  # fmt: skip


def test_files_of_others_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    arrays = {f"layer.{i}.w": np.zeros((i, 2), np.float16) for i in (10, 9, 2)}
    arrays["n"] = np.array(1)
    save_file(arrays, tmp_path / "model.safetensors", {"author": "x" * 300, "format": "pt"})
    contents = inspect(tmp_path)
    assert [row.name for row in contents.rows] == ["layer.2.w", "layer.9.w", "layer.10.w", "n"]
    assert contents.totals() == "4 tensors, 43 elements (42 float16, 1 int64), 92 bytes"
    assert contents.facts == [("author", "x" * 300)]
    assert call(tmp_path).output.splitlines()[-1] == f"author: {'x' * 200}…"


def test_shards(state: dict[str, object], tmp_path: Path) -> None:
    tm.save(state, tmp_path / "model.safetensors", max_shard_size=500)
    for place in (tmp_path, tmp_path / "model.safetensors"):
        output = call(place).output
        assert "21 tensors in 2 files, 204 elements, 816 bytes" in output
        assert "file 2: model-00002-of-00002.safetensors" in output
    shard = json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"]
    for line in output.splitlines()[2:]:
        if (found := cells(line))[0] in shard:
            assert found[-1] == str(int(shard[found[0]][6:11]))


def test_statistics(tmp_path: Path) -> None:
    values = np.array([1.0, 2.0, 6.0, math.nan, -math.inf], np.float32)
    half = np.array([1, -2], "<f2")
    bits = (np.array([1.5, 2.5], np.float32).view(np.uint32) >> 16).astype("<u2")
    header, data = {}, b""
    for name, dtype, array in (("a", "F32", values), ("b", "BF16", bits), ("h", "F16", half),
                               ("e", "F32", values[:0]), ("f", "F8_E4M3", np.zeros(2, "u1")),
                               ("n", "F32", values[3:])):  # fmt: skip
        place = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": dtype, "shape": [array.size], "data_offsets": place}
        data += array.tobytes()
    text = json.dumps(header).encode()
    (tmp_path / "x").write_bytes(struct.pack("<Q", len(text)) + text + data)
    found = {row.name: row for row in inspect(tmp_path / "x", statistics=True).rows}
    assert found["a"].statistics == pytest.approx((1, 3, 6, np.std([1, 2, 6]), 2))
    assert found["b"].statistics == (1.5, 2, 2.5, 0.5, 0) and found["b"].dtype == "bfloat16"
    assert found["h"].statistics == (-2, -0.5, 1, 1.5, 0)
    assert found["e"].statistics is None and found["f"].statistics is None
    assert found["f"].dtype == "F8_E4M3" and found["n"].statistics.bad == 2
    lines = call(tmp_path / "x", "--stats").output.splitlines()
    titles = [
        "tensor",
        "dtype",
        "shape",
        "elements",
        "size",
        "min",
        "mean",
        "max",
        "std",
        "NaN/inf",
    ]
    assert cells(lines[1]) == titles
    assert cells(lines[2])[5:] == ["1", "3", "6", "2.16", "2"]
    assert "min" not in call(tmp_path / "x").output


def shown(path: Path, width: int, statistics: bool) -> list[str]:
    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        console.print(inspect(path, statistics))
    return capture.get().splitlines()


@pytest.mark.parametrize("statistics", [False, True])
def test_narrow_terminals(statistics: bool, tmp_path: Path) -> None:
    name = "encoder.layer.0.attention.output.LayerNorm.weight"
    save_file({name: np.zeros((1000, 3), np.float32)}, tmp_path / "x")
    wide = cells(shown(tmp_path / "x", 150, statistics)[1])
    for width in (200, 130, 110, 90, 80, 70):
        lines = shown(tmp_path / "x", width, statistics)
        assert all(len(line) <= width for line in lines[1:])
        left = cells(lines[1])
        assert set(wide) - set(left) <= {"elements", "size"} and "shape" in left
        table = "".join(line[: line.find("float32")].strip() if "float32" in line
                        else line.strip() for line in lines[2:-1])  # fmt: skip
        assert table.replace(" ", "") == name
        assert "[1000, 3]" in lines[2]


def test_runs(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    tm.save({"w": tm.ones(1)}, checkpoint / "best.safetensors")
    tm.save({"w": tm.ones(1)}, checkpoint / "last.safetensors")
    assert inspect(tmp_path).path == str(checkpoint / "best.safetensors")  # not finished yet
    tm.save({"w": tm.ones(2)}, tmp_path / "model.safetensors")
    assert inspect(tmp_path).path == str(tmp_path / "model.safetensors")


def test_files_that_are_no_good(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    tm.save({"w": tm.ones(100)}, path)
    path.write_bytes(path.read_bytes()[:-5])
    for args, words in (
        ([path], r"x\.safetensors is cut short, damaged"),
        ([tmp_path / "y"], "doesn't exist"),
        ([tmp_path / "checkpoint"], "doesn't exist"),
    ):
        result = call(*args)
        assert result.exit_code == 1 and re.search(words, result.output)
        assert "Traceback" not in result.output
    assert call().exit_code == 2
