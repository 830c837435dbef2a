"""Minutes to quality: the loop with a made-up side, documents, tables and arguments."""

from __future__ import annotations

import doctest
import io
import json
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

import toumei as tm
from bench.process import SideError
from bench.quality import __main__ as command
from bench.quality import compare, course, report, rungs, side
from bench.quality.compare import Result
from bench.quality.course import NOWHERE, Course, Row, open_course, rates_of
from bench.quality.picture import draw
from bench.quality.side import Arrays, Rates, Side
from toumei.errors import ToumeiError
from toumei.recipes import NAMES, find
from toumei.recipes.recipe import Options
from toumei.recipes.run import Run

SMALL = Options(dataset="sample", samples=256, epochs=2, batch_size=64)


@pytest.mark.parametrize(
    "name", ["__main__", "compare", "picture", "pinn", "report", "rungs", "side"]
)
def test_examples(name: str) -> None:
    found = doctest.testmod(import_module(f"bench.quality.{name}"))
    assert found.attempted and not found.failed


# --- the loop ---


class Counter(Side):
    """Its weight is the number of its steps; what it measures is given, epoch by epoch."""

    def __init__(self, values: Iterable[float]) -> None:
        self.values = list(values)
        self.weight, self.waits = 0, 0
        self.seen: list[tuple[float, Rates]] = []

    def step(self, batch: Arrays, rates: Rates) -> Mapping[str, Any]:
        self.weight += 1
        self.seen.append((float(batch[0][0]), rates))
        return {"loss": np.float32(1 / self.weight)}

    def wait(self) -> None:
        self.waits += 1
        time.sleep(0.02)

    def evaluate(self, batches: Iterable[Arrays]) -> dict[str, float]:
        kinds = {str(batch[0].dtype) for batch in batches}
        if kinds == {"int64"}:  # the test part: what the weight is
            return {"accuracy": float(self.weight)}
        time.sleep(0.05)
        return {"accuracy": self.values.pop(0), "loss": 7.0}

    def snapshot(self) -> Any:
        return self.weight

    def restore(self, kept: Any) -> None:
        self.weight = kept


def a_course(values: Iterable[float], mode: str = "max") -> Course:
    train = [(tm.tensor([1.0]),), (tm.tensor([2.0]),), (tm.tensor([3.0]),)]
    rates = [Rates(0.1 * k, 0.9) for k in range(9)]
    test = [(tm.tensor([1]),)]
    return Course(Counter(values), train, [(tm.zeros(1),)], test, rates, "accuracy", mode)


@pytest.mark.parametrize(("mode", "best"), [("max", 6), ("min", 3)])
def test_the_best_epoch_is_tested(mode: str, best: int) -> None:
    found = a_course([0.5, 0.9, 0.6], mode)
    rows = [found.epoch() for _ in range(3)]
    assert [(row.epoch, row.value) for row in rows] == [(1, 0.5), (2, 0.9), (3, 0.6)]
    assert found.finish() == {"accuracy": best}


def test_batches_and_rates_go_to_the_side_in_order() -> None:
    found = a_course([0.0, 0.0])
    found.epoch(), found.epoch()
    values, rates = zip(*found.side.seen, strict=True)  # type: ignore[attr-defined]
    assert values == (1, 2, 3, 1, 2, 3)
    assert [rate.lr for rate in rates] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])


def test_time_runs_in_training_only() -> None:
    found = a_course([0.0, 0.0])
    first, second = found.epoch(), found.epoch()
    assert 0.02 <= first.seconds < 0.05, "what is waited for counts, what is measured doesn't"
    assert first.seconds + 0.02 <= second.seconds < 0.09
    assert 0 <= second.data < second.seconds


def test_not_a_number_is_never_the_best() -> None:
    found = a_course([float("nan"), 0.2, float("nan")])
    for _ in range(3):
        found.epoch()
    assert found.finish() == {"accuracy": 6}
    diverged = a_course([float("nan")])
    diverged.epoch()
    with pytest.raises(ToumeiError, match="diverged"):
        diverged.finish()


def test_losses_of_some_steps() -> None:
    assert a_course([]).losses(2) == [{"loss": 1.0}, {"loss": 0.5}]


# --- Toumei's side ---


def test_toumei_trains_as_its_own_command_does(tmp_path: Path) -> None:
    options = Options(dataset="sample", samples=256, epochs=2, batch_size=64, seed=3, compile=False)
    (tmp_path / "checkpoint").mkdir()
    run = Run(find("mlp"), tmp_path, options)
    run.trainer.callbacks = []
    history = run.trainer.fit(run.train, run.validation, epochs=2)

    found = open_course("toumei", "mlp", options)
    found.side.trainer.compile = False  # type: ignore[attr-defined]
    rows = [found.epoch() for _ in range(2)]
    assert [row.value for row in rows] == history["validation_accuracy"]
    assert set(found.finish()) == {"loss", "accuracy"}
    assert not NOWHERE.exists()


def test_the_rates_are_those_of_the_recipe() -> None:
    run = Run(find("mlp"), NOWHERE, SMALL)
    rates = rates_of(run)
    assert len(rates) == 8  # 2 epochs of 4 batches
    trainer = run.trainer
    for rate in rates:
        group = trainer.optimizer.param_groups[0]
        assert rate == Rates(group["lr"], group["betas"][0])
        if rate is not rates[-1]:
            trainer.scheduler.step()
    assert len({rate.momentum for rate in rates}) > 1, "a one-cycle schedule moves beta1 as well"


def test_without_dropout_steps_are_the_same_whatever_is_drawn() -> None:
    def losses(exact: bool, shift: int) -> list[float]:
        found = open_course("toumei", "mlp", SMALL, exact)
        found.side.trainer.compile = False  # type: ignore[attr-defined]
        for _ in range(shift):
            tm.rand(1)
        return [step["loss"] for step in found.losses(3)]

    assert losses(True, 0) == losses(True, 1)
    assert losses(False, 0) != losses(False, 1)


def test_twins_are_where_they_are_said_to_be() -> None:
    assert set(rungs.RUNGS) <= set(NAMES)
    for name in {"torch_networks", "torch_pinn", "jax_networks", "jax_pinn"}:
        assert find_spec(f"bench.quality.{name}") is not None
        assert any(name in twins.values() for twins in rungs.TWINS.values())


# --- the processes ---


class Answers:
    """Stands for a process: has an answer for each request, or fails."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        self.asked.append(do)
        answer = self.answers[do]
        answer = answer.pop(0) if isinstance(answer, list) else answer
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)

    def __enter__(self) -> Answers:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def row(epoch: int, value: float) -> dict[str, Any]:
    return {"epoch": epoch, "seconds": 60.0 * epoch, "data": 1.0, "value": value}


def played(monkeypatch: pytest.MonkeyPatch, **processes: Answers) -> dict[str, Path]:
    """Let processes be played; return who is ready."""

    class Kind:
        def __init__(self, name: str) -> None:
            self.name, self.title = name, name

        def start(self, *_: object) -> Answers:
            return processes[self.name]

    monkeypatch.setattr(compare, "KINDS", {name: Kind(name) for name in processes})
    return dict.fromkeys(processes, Path("python"))


def test_sides_take_turns_and_one_that_fails_is_out(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Answers(open={}, epoch=[row(1, 0.5), row(2, 0.6)], finish={"accuracy": 0.7})
    other = Answers(open={}, epoch=[row(1, 0.4), SideError("no memory")])
    ready = played(monkeypatch, toumei=ours, torch=other)
    lines: list[str] = []
    found = compare.train("mlp", ready, Options(seed=4), 2, 1, None, lines.append)
    assert found[0] == Result(
        "toumei", 4, [Row(1, 60.0, 1.0, 0.5), Row(2, 120.0, 1.0, 0.6)], {"accuracy": 0.7}
    )
    assert found[1] == Result("torch", 4, [Row(1, 60.0, 1.0, 0.4)], error="no memory")
    assert other.asked == ["open", "epoch", "epoch"]
    assert "epoch 1/2: toumei 0.5 (1.00 min), torch 0.4 (1.00 min)" in lines[0]


def test_another_one_begins_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    ready = played(monkeypatch, a=Answers(epoch={}), b=Answers(epoch={}), c=Answers(epoch={}))
    with ExitStack() as stack:
        sides = compare.Sides(stack, ready, 1)
        orders = ["".join(side for side, _ in sides.ask("epoch", first=k)) for k in range(4)]
    assert orders == ["abc", "bca", "cab", "abc"]


def test_losses_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    def losses(*values: float) -> Answers:
        steps = [{"loss": value, "accuracy": value / 7} for value in values]
        return Answers(open={}, losses={"losses": steps})

    ready = played(
        monkeypatch, toumei=losses(2.0, 1.0), right=losses(2.0, 1.001), wrong=losses(2.0, 1.1),
        nothing=losses(2.0, float("nan")), dead=Answers(open=SideError("no module")),
    )  # fmt: skip
    offs = compare.check("mlp", ready, Options(), 1)
    assert offs["right"] == pytest.approx(0.0005) and compare.is_right(offs["right"])
    assert offs["wrong"] == pytest.approx(0.05) and not compare.is_right(offs["wrong"])
    assert offs["nothing"] == float("inf") and offs["dead"] == "no module"
    assert "toumei" not in offs


def test_a_loss_that_is_missing_is_no_agreement() -> None:
    assert compare.distance([{"loss_d": 1.0, "loss_g": 1.0}], [{"loss_d": 1.0}]) == float("inf")
    assert compare.distance([{"accuracy": 1.0}], [{"accuracy": 1.0}]) == float("inf")


# --- what comes out ---

FACTS = {
    "title": "MLP on MNIST",
    "data": "MNIST",
    "metric": "accuracy",
    "mode": "max",
    "target": 0.98,
    "budget": {"epochs": 3},
    "steps_per_epoch": 4,
    "parameters": 5,
}


def rows(speed: float, *values: float) -> list[Row]:
    return [Row(k + 1, 60 * speed * (k + 1), 0.1, value) for k, value in enumerate(values)]


def a_document(seed: int = 0, threads: int = 2) -> dict[str, Any]:
    """Toumei reaches the figure after 2 minutes, PyTorch after 9, JAX fails."""
    results = [
        Result("toumei", seed, rows(1.0, 0.9, 0.98, 0.99), {"accuracy": 0.985, "loss": 0.1}),
        Result("torch", seed, rows(3.0, 0.9, 0.97, 0.98), {"accuracy": 0.981}),
        Result("jax", seed, rows(2.0, float("nan")), error="MemoryError: no"),
    ]
    offs = {"torch": 1e-7, "jax": 0.2}
    return report.document("mlp", FACTS, {}, threads, {"torch": {"torch": "2"}}, offs, results)


def text(table: object) -> str:
    out = io.StringIO()
    Console(file=out, width=160).print(table)
    return out.getvalue()


def test_when_the_figure_is_reached() -> None:
    ours, torch, jax = a_document()["runs"]
    assert (ours["epochs_to_figure"], ours["seconds_to_figure"]) == (2, 120.0)
    assert (torch["epochs_to_figure"], torch["seconds_to_figure"]) == (3, 540.0)
    assert jax["seconds_to_figure"] is None and jax["rows"][0]["value"] is None
    assert report.ratio(torch, ours, "seconds_to_figure") == 4.5
    assert report.ratio(torch, ours, "seconds") == 3.0
    assert report.ratio(ours, ours, "seconds") is None, "ours to ours is no news"
    assert report.ratio(jax, ours, "seconds") is None, "a side that failed took no time"


def test_smaller_may_be_better() -> None:
    falling = [{"epoch": 1, "value": 2.0}, {"epoch": 2, "value": 1.8}]
    found = report.first_reaching(falling, 1.8, "min")
    assert found is not None and found["epoch"] == 2
    assert report.first_reaching(falling, None, "min") is None


def test_the_table() -> None:
    lines = text(report.table(a_document())).splitlines()
    assert "figure 0.98" in lines[0]
    cells = [[c.strip() for c in line.split("│")[1:-1]] for line in lines if "│" in line]
    assert cells == [
        ["Toumei", "0", "0.985", "3", "2", "2.00", "–", "3.00", "–"],
        ["PyTorch", "0", "0.981", "3", "3", "9.00", "4.50", "9.00", "3.00"],
        ["JAX ≠", "0", "failed", "1", "–", "–", "–", "2.00", "–"],
    ]


def test_problems_are_named() -> None:
    failed, wrong = report.problems(a_document())
    assert "JAX, seed 0: MemoryError" in failed and "differ from ours by 2.0e-01" in wrong


def test_other_seeds_of_the_same_setting_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "results" / "quality-mlp.json"
    report.write(path, a_document(seed=1))
    report.write(path, a_document(seed=0))
    report.write(path, a_document(seed=1))
    seeds = [run["seed"] for run in json.loads(path.read_text())["runs"]]
    assert seeds == [0, 0, 0, 1, 1, 1]
    report.write(path, a_document(seed=2, threads=1))
    assert {run["seed"] for run in json.loads(path.read_text())["runs"]} == {2}


def test_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    draw(report.joined(a_document(1), a_document(0)), path)
    assert path.read_bytes()[:4] == b"\x89PNG"


# --- the command ---


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "Missing argument"),
        (["lstm"], "'lstm' is not one of"),
        (["mlp", "--sides", "tf"], "there is no 'tf'"),
        (["mlp", "--seeds", "one"], "seeds are numbers"),
        (["mlp", "--seeds", ""], "seeds are numbers"),
        (["mlp", "--epochs", "0"], "not in the range"),
    ],
)
def test_what_is_refused(arguments: list[str], complaint: str) -> None:
    found = CliRunner().invoke(command.main, arguments)
    assert found.exit_code == 2 and complaint in found.output


class Played:
    """Stands for the processes of the command: notes what it is asked to do."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.trained: list[tuple[str, list[str], int, int]] = []
        self.checked: list[str] = []
        monkeypatch.setattr(command, "_environments", lambda sides: dict.fromkeys(sides, Path()))
        monkeypatch.setattr(course, "about", lambda rung, options: FACTS)
        monkeypatch.setattr(compare, "check", self.check)
        monkeypatch.setattr(compare, "versions", lambda ready, threads: {})
        monkeypatch.setattr(compare, "train", self.train)

    def check(self, rung: str, *_: object) -> dict[str, float | str]:
        self.checked.append(rung)
        return {"torch": 1e-6}

    def train(
        self, rung: str, ready: Any, options: Options, epochs: int, *_: object
    ) -> list[Result]:
        self.trained.append((rung, list(ready), options.seed, epochs))
        return [Result(side, options.seed, rows(1.0, 0.99), {"accuracy": 0.99}) for side in ready]


def test_recipes_and_seeds_one_after_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = Played(monkeypatch)
    found = CliRunner().invoke(command.main, ["mlp", "vae", "--seeds", "0,2", "--out", tmp_path])
    assert found.exit_code == 0, found.output
    sides, two = ["toumei", "torch", "jax"], ["toumei", "torch"]
    assert calls.trained == [
        ("mlp", sides, 0, 3), ("mlp", sides, 2, 3), ("vae", two, 0, 3), ("vae", two, 2, 3)
    ]  # fmt: skip
    assert "JAX has no twin of vae" in found.output and "MLP on MNIST" in found.output
    written = json.loads((tmp_path / "quality-vae.json").read_text())
    assert [(run["side"], run["seed"]) for run in written["runs"]] == [
        ("toumei", 0), ("torch", 0), ("toumei", 2), ("torch", 2)
    ]  # fmt: skip
    assert (tmp_path / "quality-mlp.png").exists()


def test_only_whole_runs_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Played(monkeypatch)
    monkeypatch.setattr(command, "RESULTS", tmp_path)
    short = CliRunner().invoke(command.main, ["mlp", "--epochs", "1"])
    assert short.exit_code == 0 and "Only whole runs are kept" in short.output
    assert not list(tmp_path.iterdir())
    arguments = ["cnn", "--data", "fashion-mnist", "--sides", "torch"]
    assert CliRunner().invoke(command.main, arguments).exit_code == 0
    assert {p.name for p in tmp_path.iterdir()} == {
        "quality-cnn-fashion-mnist.json", "quality-cnn-fashion-mnist.png"
    }  # fmt: skip


def test_a_check_trains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Played(monkeypatch)
    found = CliRunner().invoke(command.main, ["mlp", "--check"])
    assert found.exit_code == 0 and calls.checked == ["mlp"] and not calls.trained
    assert "PyTorch: 1e-06 from ours" in found.output


def test_wrong_losses_are_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    Played(monkeypatch)
    monkeypatch.setattr(compare, "check", lambda *_: {"torch": 0.5})
    found = CliRunner().invoke(command.main, ["mlp", "--check"])
    assert found.exit_code == 1 and "differ from ours" in found.output


def test_means_weigh_each_sample_alike() -> None:
    found = side.Mean()
    found.add({"loss": 1.0}, 3)
    found.add({"loss": 5.0}, 1)
    assert found.means() == {"loss": 2.0}
