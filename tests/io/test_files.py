"""Files that are written whole or not at all, and what a kill leaves behind."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys

import pytest

from toumei.errors import SaveError
from toumei.io.files import replace_with, write_whole

KILLED = """
import os, signal, sys
from toumei.io.files import replace_with
def write(path):
    open(path, "wb").write(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
replace_with(sys.argv[1], write)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_the_next_save_clears_up_after_a_kill(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "state"
    write_whole(path, b"old")
    subprocess.run([sys.executable, "-c", KILLED, path], check=False)
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 2
    write_whole(tmp_path / "other", b"new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other", "state"]


def test_a_save_leaves_one_under_way_alone(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "state"

    def write(temporary: str) -> None:
        write_whole(path, b"another")
        pathlib.Path(temporary).write_bytes(b"mine")

    replace_with(path, write)
    assert path.read_bytes() == b"mine" and os.listdir(tmp_path) == ["state"]


def test_a_failed_save_leaves_nothing(tmp_path: pathlib.Path) -> None:
    def fail(temporary: str) -> None:
        pathlib.Path(temporary).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(SaveError, match=r"space left on device\. Nothing has been changed"):
        replace_with(tmp_path / "state", fail)
    with pytest.raises(KeyError):  # an error of another kind is not hidden, and leaves nothing
        replace_with(tmp_path / "state", lambda temporary: {}[temporary])
    assert list(tmp_path.iterdir()) == []
