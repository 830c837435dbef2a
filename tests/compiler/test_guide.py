"""docs/compiler.md says what is so: its examples run, its excerpts and links exist."""

from __future__ import annotations

import doctest
import platform
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from toumei.cli import main

pytestmark = pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64"), reason="the guide shows x86 instructions"
)

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "compiler.md"
TEXT = GUIDE.read_text(encoding="utf-8")


class Renumbered(doctest.OutputChecker):
    """Compares texts in which only the order of the numbers of values counts."""

    def check_output(self, want: str, got: str, flags: int) -> bool:
        return super().check_output(_without_numbers(want), _without_numbers(got), flags)


def _without_numbers(text: str) -> str:
    return re.sub(r"%v?\d+", "%n", text)


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """Run the examples; return what they define."""
    found: dict[str, Any] = {}
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    blocks = re.findall(r"```python\n(>>> .*?)```", TEXT, re.DOTALL)
    assert len(blocks) >= 7
    test = doctest.DocTestParser().get_doctest("\n".join(blocks), found, "guide", str(GUIDE), 0)
    test.globs = found
    log: list[str] = []
    runner = doctest.DocTestRunner(Renumbered(), optionflags=flags)
    runner.run(test, out=log.append, clear_globs=False)
    assert runner.failures == 0 and runner.tries > 12, "".join(log)
    return found


def test_the_examples_run(names: dict[str, Any]) -> None:
    assert names["found"].kernels[0].does == "matmul, add, tanh"


def test_links_lead_to_files() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert len(links) > 20
    missing = [link for link in links if not (GUIDE.parent / link).exists()]
    assert not missing


def test_excerpts_are_in_the_files_that_they_are_from() -> None:
    excerpts = re.findall(r"<!-- from (\S+) -->\n```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(excerpts) == 2
    for file, excerpt in excerpts:
        rest = (ROOT / file).read_text(encoding="utf-8")
        for line in filter(str.strip, excerpt.splitlines()):
            assert line in rest, f"{file} has no {line!r} (any more, or in this order)"
            rest = rest[rest.index(line) :]


def test_instructions_are_those_of_the_kernels(names: dict[str, Any]) -> None:
    shown = re.findall(r"<!-- assembly of (\w+) (\d+) (\w+) -->\n```asm\n(.*?)```", TEXT, re.DOTALL)
    assert len(shown) == 2
    for name, kernel, target, excerpt in shown:
        code = names[name].assembly(int(kernel), target)
        wanted = " ".join(line.split()[0] for line in excerpt.splitlines())
        there = " ".join(line.split()[0] for line in code.splitlines())
        assert wanted in there, f"{name}.assembly({kernel}, {target!r}) has no\n{wanted}"


def test_the_table_looks_as_shown(names: dict[str, Any]) -> None:
    head = next(line for line in names["found"].text(100).splitlines() if "bound by" in line)
    assert head in TEXT


def test_the_tanh_has_as_many_operations_as_said(names: dict[str, Any]) -> None:
    (kernel,) = names["alone"].kernels
    said = re.search(r"\(a tanh is (\d+)\)", TEXT)
    assert said and kernel.operations == int(said[1]) * 64 * 512


def test_the_commands_run(tmp_path: Path) -> None:
    commands = set(re.findall(r"`toumei (explain [^`]+)`", TEXT))
    assert len(commands) >= 3
    for command in commands:
        words = command.replace("mlp.png", str(tmp_path / "mlp.png")).split()
        result = CliRunner(env={"TOUMEI_DATA": "/nowhere"}).invoke(main, words)
        assert result.exit_code == 0, result.output
    assert (tmp_path / "mlp.png").exists()
