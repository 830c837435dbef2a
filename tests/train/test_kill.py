"""A run killed at any moment and resumed is, bit for bit, one that was never interrupted."""

from __future__ import annotations

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

import toumei as tm
from toumei.io.checkpoint import load_checkpoint

OPTIONS = ["mlp", "--epochs", "3", "--batch-size", "250", "--checkpoint-every", "0.1"]
ENVIRONMENT = {**os.environ, "TOUMEI_DATA": "/nowhere"}


def start(*args: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "toumei.cli", "train", *args, "--quiet"],
        env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def finish(*args: str) -> None:
    process = start(*args)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, (out + err).decode()


def written(path: pathlib.Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


def kill_after_checkpoint(run: pathlib.Path, wait: float, *args: str) -> bool:
    """Kill a run some time after its first checkpoint; return whether it was still running."""
    last = run / "checkpoint/last.safetensors"
    before = written(last)
    process = start(*args)
    while process.poll() is None and written(last) == before:
        time.sleep(0.005)
    time.sleep(wait)
    running = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return running


def content(run: pathlib.Path) -> tuple[dict[str, bytes], list[dict[str, float]], int]:
    """Return the weights and the optimiser's state, the rows without times, and the steps."""
    state = load_checkpoint(run / "checkpoint/last.safetensors")["state"]
    tensors = {f"model.{k}": v for k, v in state["model"].items()}
    for i, values in state["optimizer"]["state"].items():
        tensors |= {f"{i}.{k}": v for k, v in values.items() if isinstance(v, tm.Tensor)}
    rows = json.loads((run / "history.json").read_text())
    kept = [{k: v for k, v in row.items() if k != "seconds"} for row in rows]
    return {k: v.numpy().tobytes() for k, v in tensors.items()}, kept, state["steps"]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_killed_and_resumed_is_bit_for_bit_the_same(tmp_path: pathlib.Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish(*OPTIONS, "--out", str(whole))
    seconds = json.loads((whole / "summary.json").read_text())["seconds"]  # of training alone

    rng = random.Random(time.time_ns())
    args = (*OPTIONS, "--out", str(broken))
    killed = 0
    for _ in range(4):
        killed += kill_after_checkpoint(broken, rng.uniform(0, seconds / 6), *args)
        args = ("--resume", str(broken))
    assert killed, "the run was over before it could be killed"  # all four, on a quiet machine
    finish("--resume", str(broken))

    tensors, rows, steps = content(whole)
    tensors_again, rows_again, steps_again = content(broken)
    assert tensors == tensors_again
    assert rows == rows_again and len(rows) == 3
    assert steps == steps_again
    best = [(run / "model.safetensors").read_bytes() for run in (whole, broken)]
    assert best[0] == best[1]
    assert list(broken.rglob(".*")) == []  # the next save clears up after a kill
