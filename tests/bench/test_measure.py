"""Turns, medians and comparisons, with processes that only pretend."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import measure
from bench.measure import Plan, Result
from bench.process import Process, SideError


class Pretended:
    """Answers at once that each step took so long; writes down who was asked."""

    def __init__(self, name: str, seconds: float, asked: list[tuple[str, int]]) -> None:
        self.name, self.seconds, self.asked = name, seconds, asked
        self.fails_after = 10**9

    def ask(self, do: str, count: int) -> dict[str, Any]:
        assert do == "step"
        self.asked.append((self.name, count))
        if len(self.asked) > self.fails_after:
            raise SideError("no more")
        return {"times": [9.0] + [self.seconds] * (count - 1)}


def turns(plan: Plan, **sides: float) -> tuple[dict[str, Result], list[tuple[str, int]]]:
    asked: list[tuple[str, int]] = []
    processes = {name: Pretended(name, seconds, asked) for name, seconds in sides.items()}
    results = {name: Result() for name in sides}
    measure.take_turns(processes, results, plan, pause=0)
    return results, asked


def test_sides_take_turns_and_another_one_begins() -> None:
    _, asked = turns(Plan(2, steps=6, rounds=3), a=0.2, b=0.2)
    assert [name for name, _ in asked] == ["a", "b", "a", "b", "b", "a", "a", "b"]


def test_a_turns_first_step_does_not_count() -> None:
    results, _ = turns(Plan(2, steps=6, rounds=3), a=0.2)
    assert results["a"].times == [0.2] * 6
    assert results["a"].median == 0.2


def test_slow_sides_take_fewer_steps_and_quick_ones_more() -> None:
    results, _ = turns(Plan(2, steps=30, rounds=5), slow=0.5, usual=0.05, quick=0.001)
    counts = {name: len(r.times) for name, r in results.items()}
    assert counts == {"slow": 10, "usual": 30, "quick": 500}


def test_a_side_that_fails_leaves_the_others_alone() -> None:
    asked: list[tuple[str, int]] = []
    bad, good = Pretended("bad", 0.2, []), Pretended("good", 0.2, asked)
    bad.fails_after = 2
    results = {"bad": Result(), "good": Result()}
    measure.take_turns({"bad": bad, "good": good}, results, Plan(2, 6, 3), pause=0)
    assert results["bad"].error == "no more" and results["bad"].median is None
    assert len(results["good"].times) == 6


def test_losses_are_compared_with_ours() -> None:
    results = {
        "toumei": Result(losses=[[2.0], [1.0]]),
        "near": Result(losses=[[2.0], [1.0005]]),
        "far": Result(losses=[[2.0], [1.1]]),
        "lost": Result(losses=[[2.0], [math.nan]]),
        "absent": Result(error="?"),
    }
    measure.compare(results)
    assert results["near"].is_right and results["near"].off == pytest.approx(5e-4)
    assert not results["far"].is_right
    assert not results["lost"].is_right
    assert results["absent"].off is None


@pytest.fixture
def speaker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that answers like a side: what it gets, an error, or its end."""
    (tmp_path / "speaker.py").write_text(
        "import json, sys\n"
        "for line in sys.stdin:\n"
        "    request = json.loads(line)\n"
        "    if request['do'] == 'die':\n"
        "        sys.exit('out of memory')\n"
        "    answer = {'error': 'no\\nmore'} if request['do'] == 'fail' else request\n"
        "    print(json.dumps(answer), flush=True)\n"
    )
    monkeypatch.setattr("bench.process.ROOT", tmp_path)
    return "speaker"


def test_a_process_answers_fails_and_dies_in_plain_words(speaker: str) -> None:
    with Process(sys.executable, speaker, [], threads=1) as process:
        assert process.ask("echo", count=3) == {"do": "echo", "count": 3}
        with pytest.raises(SideError, match=r"^no$"):
            process.ask("fail")
        assert process.ask("echo") == {"do": "echo"}
        with pytest.raises(SideError, match="ended by itself: out of memory"):
            process.ask("die")


def test_a_python_that_cannot_start_is_a_failure_of_that_side(speaker: str) -> None:
    with (
        Process(sys.executable, "no_such_module", [], threads=1) as process,
        pytest.raises(SideError, match="no_such_module"),
    ):
        process.ask("about")
