"""When environments are made; nothing is installed here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench import venvs
from bench.venvs import Environment


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    monkeypatch.setattr(venvs, "home", lambda: tmp_path)
    return Environment("toy", (), 1e-3)


def test_it_is_made_once_and_again_when_the_list_changes(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = []

    def run(command: list[str], say: object) -> None:
        commands.append(command)
        environment.python.parent.mkdir(parents=True, exist_ok=True)
        environment.python.touch()

    monkeypatch.setattr(venvs, "_run", run)
    said: list[str] = []
    for _ in range(2):
        assert venvs.ensure(environment, said.append) == environment.python
    assert len(commands) == 2 and commands[0][1:3] == ["-m", "venv"]
    assert "once, about" in said[0] and "GB" in said[0]
    venvs.ensure(environment._replace(requirements=("numpy",)), said.append)
    assert len(commands) == 4 and commands[3][-1] == "numpy"


def test_what_failed_is_not_taken_for_ready(environment: Environment) -> None:
    with pytest.raises(venvs.InstallError, match="no such package"):
        venvs._run([sys.executable, "-c", "print('no such package'); exit(1)"], lambda line: None)
    assert not environment.is_ready()


def test_it_needs_room(environment: Environment) -> None:
    with pytest.raises(venvs.InstallError, match=r"needs 2500000\.0 GB"):
        venvs.ensure(environment._replace(gigabytes=1e6), lambda line: None)
