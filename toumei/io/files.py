"""Files that are written whole or not at all, and the folder for those that can be had again."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import SaveError

_ENDING = ".toumei-part"  # of the hidden folder next to a file that is being written


def cache_home() -> Path:
    """Return the user's cache folder for Toumei: what is there can be had again.

    >>> cache_home().name
    'toumei'
    """
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "toumei"


def write_whole(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file so that a reader sees the old content or the new one, never a part.

    Raises:
        SaveError: the file can't be written (no space, no permission); the old one is untouched.
    """
    replace_with(path, lambda temporary: _write(temporary, data))


def _write(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


def replace_with(path: str | os.PathLike[str], write: Callable[[str], None]) -> None:
    """Let `write(temporary)` make a file next to `path`, then put it in its place."""
    target = os.path.realpath(os.fspath(path))  # a link stays, and what it points to is replaced
    if os.path.exists(target) and not os.path.isfile(target):
        raise SaveError(f"{target} could not be written: it is no ordinary file")
    folder, name = os.path.split(target)
    try:
        os.makedirs(folder, exist_ok=True)
        _sweep(folder)
        with _workplace(folder, name) as workplace:
            temporary = os.path.join(workplace, name)
            write(temporary)
            _sync(temporary)
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, target)
    except OSError as error:
        raise SaveError(
            f"{target} could not be written: {error.strerror or error}. Nothing has been changed"
        ) from error


@contextlib.contextmanager
def _workplace(folder: str, name: str) -> Iterator[str]:
    """Make a hidden folder for one save, locked as long as the process that saves is alive."""
    path, lock = _locked_folder(folder, name)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _locked_folder(folder: str, name: str) -> tuple[str, int | None]:
    """Make a hidden folder and lock it, anew if another save swept it away before it was locked."""
    for tries_left in (3, 2, 1, 0):
        path = tempfile.mkdtemp(prefix=f".{name}.", suffix=_ENDING, dir=folder)
        lock = _lock(path)
        if os.path.isdir(path) and (lock is not None or sys.platform == "win32"):
            break
        if tries_left:  # else there are no locks here, and so no sweeping
            if lock is not None:
                os.close(lock)
            shutil.rmtree(path, ignore_errors=True)
    return path, lock


def _sweep(folder: str) -> None:
    """Remove what saves into this folder left behind when they were killed."""
    with os.scandir(folder) as entries:
        left = [e.path for e in entries if e.name.startswith(".") and e.name.endswith(_ENDING)]
    for path in left:
        if (lock := _lock(path)) is not None:  # whoever held it is gone
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)


def _lock(path: str) -> int | None:
    """Lock a folder until the handle is closed; None if another has it or there are no locks."""
    if sys.platform == "win32":
        return None
    import fcntl

    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
        else:
            return handle
    return None


def _sync(path: str) -> None:
    """Make sure that the content is on the disk before the name points to it."""
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
