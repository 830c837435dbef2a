"""Virtual environments of the peers: each has its own, made once, remade when its list changes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from toumei.io.files import cache_home

STAMP = "made-for.txt"  # within an environment: what it was made for; written when all is in


class Environment(NamedTuple):
    """What is installed for a peer.

    Args:
        name: of the folder.
        requirements: as pip takes them.
        gigabytes: that it takes on the disk, about, on Linux.
    """

    name: str
    requirements: tuple[str, ...]
    gigabytes: float

    @property
    def folder(self) -> Path:
        return home() / self.name

    @property
    def python(self) -> Path:
        windows = sys.platform == "win32"
        return self.folder / ("Scripts/python.exe" if windows else "bin/python")

    def key(self) -> str:
        """Return what the environment depends on, in short: it is remade when this changes."""
        text = "\n".join([sys.version, *self.requirements])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def is_ready(self) -> bool:
        stamp = self.folder / STAMP
        return stamp.is_file() and stamp.read_text() == self.key() and self.python.exists()


ENVIRONMENTS = {
    "torch": Environment("torch", ("torch==2.13.0", "numpy>=2", "setuptools", "safetensors"), 1.3),
    "jax": Environment("jax", ("jax==0.10.2", "jaxlib==0.10.2", "numpy>=2"), 0.6),
    "tensorflow": Environment("tensorflow", ("tensorflow-cpu==2.21.0", "numpy>=2"), 1.9),
}


class InstallError(Exception):
    """A peer's environment could not be made; the message says why, in one line."""


def home() -> Path:
    """Return the folder of the environments."""
    return cache_home() / "bench"


def ensure(environment: Environment, say: Callable[[str], None]) -> Path:
    """Return the Python of an environment; make it first if it isn't there or is out of date.

    Args:
        environment: which one.
        say: shows a line of progress.

    Raises:
        InstallError: no network, no space, or no such package for this Python.
    """
    if environment.is_ready():
        return environment.python
    with _locked(environment):
        if not environment.is_ready():  # another process may have made it meanwhile
            _make(environment, say)
    return environment.python


@contextlib.contextmanager
def _locked(environment: Environment) -> Iterator[None]:
    from filelock import FileLock

    home().mkdir(parents=True, exist_ok=True)
    with FileLock(home() / f"{environment.name}.lock"):
        yield


def _make(environment: Environment, say: Callable[[str], None]) -> None:
    folder, size = environment.folder, environment.gigabytes
    free = shutil.disk_usage(home()).free / 1e9
    if free < 2.5 * size:  # pip's downloads and unpacked files lie side by side for a while
        raise InstallError(f"{folder} needs {2.5 * size:.1f} GB, {free:.1f} GB are free")
    wanted = ", ".join(environment.requirements)
    say(f"Installing {wanted} into {folder}: once, about {size} GB ({free:.0f} GB are free)")
    shutil.rmtree(folder, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(folder)], say)
    pip = [str(environment.python), "-m", "pip", "install", "--progress-bar", "off"]
    _run([*pip, *environment.requirements], say)
    (folder / STAMP).write_text(environment.key())
    say(f"{environment.name} is installed: {_size(folder) / 1e9:.1f} GB in {folder}")


def _run(command: Sequence[str], say: Callable[[str], None]) -> None:
    """Run a command and show its lines."""
    variables = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONPATH": ""}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=variables
    )
    assert process.stdout is not None
    last = ""
    with process:
        for line in process.stdout:
            last = line.strip() or last
            say(f"  {last[:100]}")
    if process.returncode:
        raise InstallError(last or f"{command[0]} failed")


def _size(folder: Path) -> int:
    """Return how many bytes a folder takes on the disk."""
    found = 0
    for path, _, names in os.walk(folder):
        found += sum(os.lstat(os.path.join(path, name)).st_size for name in names)
    return found
