"""The command line: what each command writes, and what it says when it is called wrongly."""

from __future__ import annotations

import json
import pathlib
import re
import shutil

import pytest
from click.testing import CliRunner, Result

import toumei as tm
from toumei.cli import main

SHORT = ["--epochs", "1", "--batch-size", "500"]


def call(*args: str) -> Result:
    return CliRunner(env={"TOUMEI_DATA": "/nowhere"}).invoke(main, list(args))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("runs") / "first"
    result = call("train", "mlp", *SHORT, "--out", str(folder))
    assert result.exit_code == 0, result.output
    assert "MNIST sample (8,000 + 2,000), embedded" in result.output
    assert re.search(
        r"result  test accuracy 0\.\d{4} \(aim: 0\.9650, (missed|reached)\)", result.output
    )
    return folder


def test_train_writes_its_files(run: pathlib.Path) -> None:
    names = {"loss.png", "history.json", "summary.json", "model.safetensors", "checkpoint"}
    assert names <= {p.name for p in run.iterdir()}
    summary = json.loads((run / "summary.json").read_text())
    assert list(summary) == [
        "recipe", "metric", "value", "target", "epochs", "seconds", "parameters", "data", "seed",
        "compiled", "version",
    ]  # fmt: skip
    assert summary["recipe"] == "mlp" and summary["parameters"] == 669_706
    assert 0.5 < summary["value"] <= 1 and summary["epochs"] == 1
    assert summary["compiled"] is False and summary["version"] == tm.__version__
    assert set(tm.load(run / "model.safetensors")) >= {"hidden.0.weight", "output.bias"}


def test_evaluate_gives_the_figure_of_the_summary(run: pathlib.Path) -> None:
    result = call("evaluate", str(run))
    value = json.loads((run / "summary.json").read_text())["value"]
    assert result.exit_code == 0 and f"{value:.4f}" in result.output


def test_plot_draws_several_runs(run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    other = tmp_path / "second"
    shutil.copytree(run, other)
    picture = tmp_path / "both.png"
    result = call("plot", str(run), str(other), "--out", str(picture))
    assert result.exit_code == 0 and picture.read_bytes()[:4] == b"\x89PNG"


def test_resume_of_a_finished_run_changes_nothing(run: pathlib.Path) -> None:
    before = (run / "model.safetensors").read_bytes()
    result = call("train", "--resume", str(run), "--quiet")
    assert result.exit_code == 0, result.output
    assert (run / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["train"], "Which recipe? One of: mlp"),
        (["train", "nothing"], "'nothing' is not"),
        (["train", "mlp", "--epochs", "0"], "0 is not in the range"),
        (["train", "mlp", "--batch-size", "100000"], "more than all 7200 samples"),
        (["train", "mlp", "--data-dir", "/no/such/folder"], "does not exist"),
        (["plot", "/no/such/run"], "does not exist"),
        (["data", "fetch", "imagenet"], "unknown data set 'imagenet'"),
    ],
)  # fmt: skip
def test_wrong_calls_say_what_is_wrong(args: list[str], words: str, tmp_path: pathlib.Path) -> None:
    result = call(*args, *(["--out", str(tmp_path / "x")] if "mlp" in args else []))
    assert result.exit_code != 0 and words in result.output.replace("\n", " ")
    assert "Traceback" not in result.output


def test_a_run_is_not_overwritten_and_its_options_stay(
    run: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    result = call("train", "mlp", *SHORT, "--out", str(run))
    assert result.exit_code == 2 and "holds a run already" in result.output
    result = call("train", "--resume", str(run), "--lr", "0.1")
    assert result.exit_code == 2 and "--lr can't be changed in a resumed run" in result.output
    result = call("evaluate", str(tmp_path))
    assert result.exit_code == 1 and "holds no run" in result.output


def test_list_summary_and_data() -> None:
    assert "98.40 % on full MNIST" in call("list").output.replace("\n", " ")
    text = call("summary", "mlp").output
    assert "669,706" in text and "Linear" in text
    assert "mnist" in call("data", "list", "--data-dir", "/nowhere").output


def test_help_teaches() -> None:
    assert "toumei train mlp" in call("--help").output
    for command in ("train", "plot", "evaluate", "summary", "data", "list"):
        result = call(command, "--help")
        assert result.exit_code == 0 and "Usage" in result.output
