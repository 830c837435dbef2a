"""Ratios, tables, files and the picture of made-up results."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from bench import report
from bench.__main__ import main
from bench.measure import Plan, Result
from bench.peak import Peak
from bench.picture import draw
from toumei.machine import cpu_name

TITLES = {"toumei": "Toumei", "torch": "PyTorch", "jax": "JAX"}
PEAK = Peak(200.0, 20.0)


def results() -> dict[str, dict[str, Result]]:
    """Toumei is 2 times as fast on W1, where JAX is wrong, and half as fast on W5."""
    return {
        "W1": {
            "toumei": Result([0.001] * 3, first=0.1, warm=0.02, losses=[[2.3]]),
            "torch": Result([0.002] * 3, first=0.3, off=1e-7, memory=5_000_000),
            "jax": Result([0.0001] * 3, first=0.4, off=0.5),
        },
        "W5": {
            "toumei": Result([0.004, 0.004, 9.0], losses=[[0.5]]),
            "torch": Result(error="OSError: no"),
            "jax": Result([0.002] * 3, off=0.0),
        },
    }


def text(table: object) -> str:
    out = io.StringIO()
    Console(file=out, width=200).print(table)
    return out.getvalue()


def test_a_wrong_peer_is_not_the_fastest() -> None:
    found = results()["W1"]
    assert report.fastest_peer(found) == "torch"
    assert report.ratio(found) == pytest.approx(2.0)


def test_the_median_forgives_an_outlier() -> None:
    assert report.ratio(results()["W5"]) == pytest.approx(0.5)


def test_without_peers_there_is_no_ratio() -> None:
    alone = {"toumei": Result([0.1])}
    assert report.fastest_peer(alone) is None and report.ratio(alone) is None
    assert report.geometric_mean([]) is None


def test_the_table_of_speeds() -> None:
    lines = text(report.speeds(results(), TITLES, PEAK)).splitlines()
    first = next(line for line in lines if "W1" in line)
    assert [cell.strip() for cell in first.split("│")[2:7]] == ["1.00", "2.00", "0.10 ≠", "2.00",
                                                                "32"]  # fmt: skip
    assert "failed" in next(line for line in lines if "W5" in line)
    assert "1.00" in next(line for line in lines if "geometric mean" in line)


def test_the_other_tables() -> None:
    found = results()
    assert "0.02" in text(report.first_steps(found, TITLES))
    memory = report.memories(found, TITLES)
    assert memory is not None and " 5 " in text(memory)
    assert "5.0e-01" in text(report.checks(found, TITLES))
    assert report.memories({"W2": {"toumei": Result()}}, TITLES) is None


def test_problems_are_named() -> None:
    lines = report.problems(results(), TITLES)
    assert len(lines) == 2
    assert "W1, JAX" in lines[0] and "0.001" in lines[0]
    assert lines[1] == "W5, PyTorch: OSError: no"


def test_the_file_and_the_picture(tmp_path: Path) -> None:
    plan = Plan(2, 30, 6)
    found = report.document(results(), plan, PEAK, {"jax": {"jax": "1"}}, {}, compiled=True)
    path = tmp_path / "new" / "machine.json"
    report.write(path, found)
    read = json.loads(path.read_text())
    assert read["geometric_mean"] == pytest.approx(1.0)
    assert read["workloads"]["W1"]["sides"]["torch"]["median_ms"] == pytest.approx(2.0)
    assert read["workloads"]["W1"]["share_of_peak"] == pytest.approx(0.03196 / 0.2)
    draw(read, TITLES, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_a_name_of_a_machine() -> None:
    assert report.slug(cpu_name())
    assert report.slug("AMD EPYC 9R14 (TM)") == "amd-epyc-9r14"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["W11"], "'W11' is not one of 'W1'"),
        (["--peers", "keras"], "there is no 'keras': the peers are torch"),
        (["--steps", "0"], "--steps"),
    ],
)
def test_bad_arguments_are_refused(arguments: list[str], words: str) -> None:
    found = CliRunner().invoke(main, arguments)
    assert found.exit_code == 2
    assert words in found.output


def test_help_names_workloads_and_examples() -> None:
    found = CliRunner().invoke(main, ["--help"])
    assert "W10  lstm" in found.output and "python -m bench --check" in found.output
