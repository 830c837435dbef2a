"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable

from ..errors import SaveError


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
    temporary = ""
    try:
        os.makedirs(folder, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
        os.close(handle)
        write(temporary)
        _sync(temporary)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
    except OSError as error:
        raise SaveError(
            f"{target} could not be written: {error.strerror or error}. Nothing has been changed"
        ) from error
    finally:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


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
