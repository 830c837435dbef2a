"""The command line: what each command writes, and what it says when it is called wrongly."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner, Result

import toumei as tm
from toumei import cli
from toumei.cli import main
from toumei.data import Subset
from toumei.errors import SaveError
from toumei.io.checkpoint import save_checkpoint
from toumei.recipes import find
from toumei.recipes.recipe import Options
from toumei.recipes.run import open_run

SHORT = ["--epochs", "1", "--batch-size", "500"]


def call(*args: str) -> Result:
    environment = {"TOUMEI_DATA": "/nowhere", "COLUMNS": "200"}
    return CliRunner(env=environment).invoke(main, list(args))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("runs") / "first"
    result = call("train", "mlp", *SHORT, "--out", str(folder))
    assert result.exit_code == 0, result.output
    assert "MNIST sample (8,000 + 2,000), embedded" in result.output
    assert re.search(r"result  test accuracy 0\.\d+ after 1 epoch", result.output)
    return folder


def test_train_writes_its_files(run: pathlib.Path) -> None:
    names = {"loss.png", "history.json", "summary.json", "model.safetensors", "checkpoint"}
    assert names <= {p.name for p in run.iterdir()}
    summary = json.loads((run / "summary.json").read_text())
    assert list(summary) == [
        "recipe", "title", "command", "preset", "metric", "value", "target", "mode", "source",
        "epochs", "seconds", "parameters", "data", "seed", "compiled", "machine", "version",
    ]  # fmt: skip
    assert summary["command"] == "toumei train mlp --epochs 1 --batch-size 500"
    assert f"{os.cpu_count()} cores" in summary["machine"]
    assert summary["recipe"] == "mlp" and summary["parameters"] == 669_706
    assert 0.5 < summary["value"] <= 1 and summary["epochs"] == 1
    assert summary["compiled"] is True and summary["version"] == tm.__version__
    assert set(tm.load(run / "model.safetensors")) >= {"hidden.0.weight", "output.bias"}


def test_evaluate_gives_the_figure_of_the_summary(run: pathlib.Path) -> None:
    result = call("evaluate", str(run))
    value = json.loads((run / "summary.json").read_text())["value"]
    assert result.exit_code == 0 and f"{value:#.4g}" in result.output


def test_plot_draws_several_runs(run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    other = tmp_path / "second"
    shutil.copytree(run, other)
    picture = tmp_path / "both.png"
    result = call("plot", str(run), str(other), "--out", str(picture))
    assert result.exit_code == 0 and picture.read_bytes()[:4] == b"\x89PNG"


def test_report_is_one_page_without_links_to_elsewhere(
    run: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    page = tmp_path / "report.html"
    result = call("report", str(run), "--out", str(page))
    assert result.exit_code == 0 and "1 runs" not in result.output
    text = page.read_text()
    summary = json.loads((run / "summary.json").read_text())
    assert f"{summary['value']:.4g}" in text and summary["command"] in text
    pictures = [p for p in run.iterdir() if p.suffix == ".png"]
    assert text.count('src="data:image/png;base64,') == len(pictures) >= 3
    assert "src=" not in text.replace('src="data:', "") and "http" not in text
    assert (
        ElementTree.fromstring(text[text.index("<table") : text.index("</table>") + 8]) is not None
    )


def test_report_refuses_what_is_no_run(run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    result = call("report", str(tmp_path))
    assert result.exit_code == 1 and "holds no finished run" in result.output
    damaged = tmp_path / "damaged"
    shutil.copytree(run, damaged)
    (damaged / "summary.json").write_text("{}")
    result = call("report", str(damaged), "--out", str(tmp_path / "page.html"))
    assert result.exit_code == 1 and "damaged" in result.output
    assert not (tmp_path / "page.html").exists()


def test_report_takes_all_runs_where_none_is_named(
    run: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "there is nothing to report" in call("report").output
    shutil.copytree(run, tmp_path / "runs" / "a<b")
    shutil.copytree(run, tmp_path / "runs" / "second")
    assert "2 runs" in call("report").output
    text = (tmp_path / "report.html").read_text()
    assert "a&lt;b" in text and "a<b" not in text


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
        (["train", "mlp", "--preset", "long"], "mlp has no preset 'long': one of default, fast"),
        (["train", "mlp", "--epochs", "0"], "0 is not in the range"),
        (["train", "mlp", "--batch-size", "100000"], "more than all 7200 samples"),
        (["train", "mlp", "--data-dir", "/no/such/folder"], "does not exist"),
        (["train", "mlp", "--lr", "nan"], "nan is not a finite number"),
        (["train", "mlp", "--lr", "inf"], "inf is not a finite number"),
        (["sample", ".", "--temperature", "nan"], "nan is not a finite number"),
        (["sample", ".", "--count", "100000"], "100000 is not in the range"),
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


def test_find_lr_suggests_a_rate_and_draws_the_sweep(tmp_path: pathlib.Path) -> None:
    picture = tmp_path / "rates.png"
    result = call("find-lr", "mlp", "--fast", "--steps", "40", "--out", str(picture))
    assert result.exit_code == 0, result.output
    found = re.search(r"suggestion  (\S+)", result.output)
    assert found and 1e-5 < float(found[1]) < 1
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_tensorboard_writes_beside_the_run(tmp_path: pathlib.Path) -> None:
    pytest.importorskip("tensorboardX")
    folder = tmp_path / "run"
    result = call("train", "mlp", *SHORT, "--samples", "500", "--tensorboard", "--out", str(folder))
    assert result.exit_code == 0, result.output
    assert [p.stat().st_size > 100 for p in (folder / "tensorboard").iterdir()] == [True]


def test_data_that_a_recipe_has_not_is_refused(tmp_path: pathlib.Path) -> None:
    for args, words in [
        (["mlp", "--data", "imagenet"], "mlp has no data 'imagenet': one of mnist"),
        (["pinn", "--data", "mnist"], "pinn has no data 'mnist': there is one set only"),
    ]:
        result = call("train", *args, "--out", str(tmp_path / "x"))
        assert result.exit_code == 2 and words in result.output


def test_predict_and_sample_refuse_what_they_cant(
    run: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    result = call("predict", str(tmp_path), "5")
    assert result.exit_code == 1 and "holds no run" in result.output
    result = call("sample", str(run))
    assert result.exit_code == 1 and "toumei predict RUN INPUT" in result.output


def test_help_teaches() -> None:
    assert "toumei train mlp" in call("--help").output
    for command in (
        "train",
        "predict",
        "sample",
        "find-lr",
        "plot",
        "evaluate",
        "summary",
        "inspect",
        "data",
        "list",
    ):
        result = call(command, "--help")
        assert result.exit_code == 0 and "Usage" in result.output


def test_a_folder_without_a_checkpoint_takes_a_new_run(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "killed early"
    (folder / "checkpoint").mkdir(parents=True)
    result = call("train", "--resume", str(folder))
    assert result.exit_code == 1 and "A new one can start there" in result.output
    assert call("train", "mlp", *SHORT, "--out", str(folder), "--quiet").exit_code == 0


def test_a_checkpoint_of_another_program_is_refused(tmp_path: pathlib.Path) -> None:
    save_checkpoint(tmp_path / "checkpoint" / "last.safetensors", {"epoch": 1})
    for args in (["train", "--resume", str(tmp_path)], ["evaluate", str(tmp_path)]):
        result = call(*args)
        assert result.exit_code == 1 and "is no checkpoint of a recipe" in result.output


def test_a_run_does_not_go_on_with_other_data(
    run: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = find("mlp")
    found = recipe.data(Options(data_dir="/nowhere"))
    fewer = replace(found, train=Subset(found.train, range(2000)))
    with monkeypatch.context() as patch:
        patch.setattr(recipe, "data", lambda o: found if o.data_dir else fewer, raising=False)
        result = call("train", "--resume", str(run))
        assert result.exit_code == 1
        assert "was trained on 7,200 samples" in result.output and "--data-dir" in result.output
        result = call("train", "--resume", str(run), "--data-dir", str(tmp_path), "--quiet")
        assert result.exit_code == 0, result.output
    assert call("train", "--resume", str(run), "--quiet").exit_code == 0


def test_a_run_is_not_evaluated_with_other_data(run: pathlib.Path, tmp_path: pathlib.Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run, other)
    content = json.loads((other / "run.json").read_text())
    content["facts"]["mean"] = [0.5]
    (other / "run.json").write_text(json.dumps(content))
    result = call("evaluate", str(other))
    assert result.exit_code == 1 and "was trained on other data than" in result.output


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("run.json", '{"recipe": "mlp", "facts": {}}', "run.json is damaged: it has no 'classes'"),
        ("run.json", "[1]", "run.json is damaged"),
        ("run.json", '{"recipe": "ml', "run.json is damaged"),
        ("model.safetensors", "x", "model.safetensors is cut short, damaged"),
        ("model.safetensors", None, "holds no finished run: there is no model.safetensors"),
    ],
)
def test_a_damaged_run_is_refused(
    run: pathlib.Path, tmp_path: pathlib.Path, name: str, content: str | None, words: str
) -> None:
    other = tmp_path / "other"
    shutil.copytree(run, other)
    (other / name).unlink() if content is None else (other / name).write_text(content)
    for args in (["predict", str(other), "seven.png"], ["evaluate", str(other)]):
        result = call(*args)
        assert result.exit_code == 1 and words in result.output.replace("\n", " "), result.output


def test_a_run_without_its_checkpoint_is_not_called_no_run(
    run: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(run, other, ignore=shutil.ignore_patterns("last.safetensors"))
    for args in (["evaluate", str(other)], ["train", "--resume", str(other)]):
        result = call(*args)
        assert result.exit_code == 1 and "has lost its checkpoint" in result.output


@pytest.mark.parametrize(("recipe", "lr"), [("mlp", "1e30"), ("pinn", "1e300")])  # float32 and 64
def test_a_training_that_diverges_says_so(recipe: str, lr: str, tmp_path: pathlib.Path) -> None:
    few = ("--samples", "1000", "--epochs", "1", "--lr", lr)
    data = ("--data", "sample") if recipe == "mlp" else ()
    with np.errstate(all="ignore"):
        result = call("train", recipe, *few, *data, "--out", str(tmp_path), "--quiet")
    assert result.exit_code == 1 and "the training diverged" in result.output, result.output
    assert not (tmp_path / "model.safetensors").exists()


def test_out_must_not_be_a_file(tmp_path: pathlib.Path) -> None:
    (tmp_path / "x").write_text("")
    result = call("train", "mlp", "--out", str(tmp_path / "x"))
    assert result.exit_code == 2 and "is a file" in result.output


def test_a_terminal_without_unicode_gets_the_text_all_the_same(run: pathlib.Path) -> None:
    args = [sys.executable, "-m", "toumei.cli", "data", "list", "--data-dir", "/nowhere"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(args, env=environment, capture_output=True, check=False)
    assert done.returncode == 0 and b"cifar10" in done.stdout, done.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C otherwise")
def test_ctrl_c_says_how_to_go_on(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "run"
    args = ["train", "mlp", "--epochs", "1000", "--out", str(folder)]
    process = subprocess.Popen(
        [sys.executable, "-m", "toumei.cli", *args],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    try:
        while process.poll() is None and not (folder / "checkpoint/last.safetensors").exists():
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        text = process.communicate(timeout=60)[0].decode()
    finally:
        process.kill()
    # Python itself dies of the signal where it met code under exec; a shell shows 130 for both.
    assert process.returncode in (130, -signal.SIGINT) and "Traceback" not in text, text
    assert f"toumei train --resume {folder}" in text.replace("\n", "")
    assert open_run(folder)[0] == "mlp"


def test_a_disk_that_gets_full_loses_no_run(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"

    def full(*args: object) -> None:
        raise SaveError("best.safetensors could not be written: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("toumei.io.safetensors.save", full)  # the best weights after an epoch
        result = call("train", "mlp", *SHORT, "--out", str(folder))
        assert result.exit_code == 1 and f"Go on with:  toumei train --resume {folder}" in (
            result.output
        )
    assert call("train", "--resume", str(folder), "--quiet").exit_code == 0


@pytest.mark.parametrize(("value", "word"), [(0.97, "reached"), (0.96, "missed")])
def test_the_verdict_says_whether_the_figure_was_reached(value: float, word: str) -> None:
    summary = {"metric": "test accuracy", "value": value, "target": 0.965, "mode": "max",
               "epochs": 3, "seconds": 9.0}  # fmt: skip
    assert f"(aim: 0.965, {word}) after 3 epochs, 9 s" in cli._verdict(summary)
