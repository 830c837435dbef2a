"""The command `toumei explain`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from toumei.cli import main


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOUMEI_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def call(*args: str, columns: int = 100) -> Result:
    environment = {"TOUMEI_DATA": "/nowhere", "COLUMNS": str(columns)}
    return CliRunner(env=environment).invoke(main, ["explain", *args])


def shown(*args: str, columns: int = 100) -> str:
    result = call(*args, columns=columns)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("columns", [80, 120])
def test_the_table_of_a_training_step(columns: int) -> None:
    text = shown("mlp", "--fast", "--batch-size", "32", "--top", "3", columns=columns)
    assert "mlp: a training step with 32 samples as native code" in text
    assert max(map(len, text.splitlines())) <= columns
    assert re.search(r"gradient of mlp\.py:\d+", text) and "AdamW.step()" in text
    assert re.search(r"and \d+ more: [\d.]+% of the time", text)
    assert "toumei explain" not in text and "cli_explain" not in text


def test_inference_has_no_gradients() -> None:
    text = shown("mlp", "--fast", "--inference", "--top", "99")
    assert "a step of inference" in text and "matmul" in text
    assert "gradient" not in text and "AdamW" not in text


def test_a_trainer_with_a_step_of_its_own() -> None:
    text = shown("gan", "--fast", "--batch-size", "8", "--top", "99", columns=160)
    assert text.count("Adam.step()") >= 2 and "conv" in text


def test_a_trainer_whose_first_steps_are_the_usual_ones() -> None:
    text = shown("pinn", "--fast", "--batch-size", "20", "--top", "99", columns=160)
    assert "pinn: a training step with 20 samples" in text and "Adam.step()" in text
    text = shown("pinn", "--fast", "--batch-size", "20", "--inference", "--top", "99")
    assert "a step of inference" in text and "gradient" not in text


def test_parts_take_the_place_of_the_table(tmp_path: Path) -> None:
    picture = tmp_path / "mlp.png"
    args = ("mlp", "--fast", "--batch-size", "16")
    text = shown(*args, "--passes", "--groups", "--memory", "--picture", str(picture))
    for part in ("# as traced: ", "# after decompose: ", "kernel 0  ", "bytes in all"):
        assert part in text
    assert "bound by" not in text
    assert f"wrote {picture}" in text and picture.read_bytes()[:4] == b"\x89PNG"


def test_the_code_of_one_kernel() -> None:
    args = ("mlp", "--fast", "--batch-size", "16", "--kernel", "0")
    text = shown(*args, "--ir", "--assembly", "--target", "avx2")
    assert "define void @kernel0" in text and "<8 x float>" in text and "%ymm" in text
    assert "retq" in text and "bound by" not in text


def test_threads_are_as_many_as_asked_for() -> None:
    from toumei.compiler.llvm.runtime import get_num_threads

    before = get_num_threads()
    assert "1 thread)" in shown("mlp", "--fast", "--batch-size", "16", "--threads", "1")
    assert get_num_threads() == before


@pytest.mark.parametrize(
    "args, message",
    [
        (["mlp", "--kernel", "1"], "--kernel N goes with --ir or --assembly"),
        (["mlp", "--assembly"], "--kernel N goes with --ir or --assembly"),
        (["mlp", "--target", "avx2"], "--kernel N goes with --ir or --assembly"),
        (["mlp", "--data", "cats"], "mlp has no data 'cats': one of mnist"),
        (["mlp", "--fast", "--kernel", "9999", "--ir"], "there is no kernel 9999"),
        (["nothing"], "is not one of"),
    ],
)
def test_mistakes_are_told(args: list[str], message: str) -> None:
    result = call(*args)
    assert result.exit_code in (1, 2) and message in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_help_teaches() -> None:
    text = " ".join(shown("--help").split())
    for word in ("GFLOP/s", "bound by", "Examples:", "--kernel", "docs/compiler.md"):
        assert word in text
