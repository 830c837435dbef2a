"""Machine code kept on disk, so that a program is compiled once per machine and not per process.

A file holds a mark, a digest and the object code.  Its name is a digest of everything that the
code depends on: the IR (or the caller's key for it), LLVM's version and the processor.  What is
damaged, cut short or of another origin doesn't match its digest and counts as not there.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from ...errors import SaveError
from ...io.files import cache_home, write_whole
from . import jit
from .target import Target, host

_MARK = b"toumei object 1\n"
_ENDING = ".object"
_DIGEST = 32  # bytes of a sha256
LIMIT = 512 << 20  # bytes of all files together


def folder() -> Path:
    """Return where compiled code is kept: `$TOUMEI_CACHE`, else in the user's cache folder.

    >>> folder().name
    'compiled'
    """
    home = os.environ.get("TOUMEI_CACHE")
    return (Path(home).expanduser() if home else cache_home()) / "compiled"


def library(
    text: str | Callable[[], str],
    exports: Sequence[str],
    key: str | None = None,
    target: Target | None = None,
) -> jit.Library:
    """Return the functions of a module, from the cache if they are there.

    Args:
        text: the module's IR, or a function that writes it, called only if it is needed.
        exports: the names of the functions to be called.
        key: says what the IR will be, so that it needn't be written: equal keys, equal IR.
            The IR itself if left out.
        target: the processor; None is this one.
    """
    if key is None:
        text = text if isinstance(text, str) else text()
        key = text
    name = digest(key, target)
    if (code := load(name)) is not None:
        with contextlib.suppress(RuntimeError):  # it doesn't link: compile it afresh
            return jit.Library(code, exports)
    code = jit.compile_ir(text if isinstance(text, str) else text(), target)
    save(name, code)
    return jit.Library(code, exports)


def digest(key: str, target: Target | None = None) -> str:
    """Return the name under which the code for a key is kept."""
    return hashlib.sha256("\0".join([_machine(target or host()), key]).encode()).hexdigest()


@functools.cache
def _machine(target: Target) -> str:
    """Everything but the IR that machine code depends on."""
    import llvmlite
    import llvmlite.binding as llvm

    triple = target.triple or llvm.get_default_triple()
    return "\0".join([llvmlite.__version__, triple, target.cpu, target.features])


# --- files ---


def load(name: str) -> bytes | None:
    """Return the code kept under a name, or None if it isn't there or isn't whole."""
    place = folder() / f"{name}{_ENDING}"
    try:
        data = place.read_bytes()
    except OSError:
        return None
    start = len(_MARK) + _DIGEST
    code = data[start:]
    if data[:start] != _MARK + _check(name, code) or not _usable(place.parent):
        return None
    with contextlib.suppress(OSError):
        os.utime(place)  # the least recently used go first
    return code


def save(name: str, code: bytes) -> None:
    """Keep code under a name; a folder that can't be written to is warned of, once."""
    home = folder()
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _usable(home):
            write_whole(home / f"{name}{_ENDING}", _MARK + _check(name, code) + code)
            _saved(home, len(code))
    except (OSError, SaveError) as error:
        _warn_once(f"compiled code can't be kept in {home}: {error}")


def clear() -> int:
    """Remove all code that is kept; return the bytes that this freed."""
    freed = 0
    for place, status in _files(folder()):
        freed += _remove(place, status.st_size)
    return freed


def shrink(home: Path, limit: int) -> None:
    """Remove the files that were used longest ago, until the others have at most `limit` bytes."""
    files = sorted(_files(home), key=lambda entry: entry[1].st_mtime)
    total = sum(status.st_size for _, status in files)
    for place, status in files:
        if total <= limit:
            return
        total -= _remove(place, status.st_size)


def _check(name: str, code: bytes) -> bytes:
    """Return the digest in a file: of the code and of the name that it was kept under."""
    return hashlib.sha256(name.encode() + code).digest()


def _files(home: Path) -> list[tuple[Path, os.stat_result]]:
    found = []
    with contextlib.suppress(OSError), os.scandir(home) as entries:
        for entry in entries:
            if entry.name.endswith(_ENDING):
                with contextlib.suppress(OSError):  # another process has just removed it
                    found.append((Path(entry.path), entry.stat()))
    return found


def _remove(place: Path, size: int) -> int:
    """Remove a file; return the bytes that this freed."""
    try:
        place.unlink()
    except OSError:  # gone already, or in use (Windows)
        return 0
    return size


_since_shrunk: dict[Path, int] = {}  # bytes saved by this process since it last looked


def _saved(home: Path, size: int) -> None:
    """Keep the folder within its limit; looking is for the first save and now and then."""
    _since_shrunk[home] = _since_shrunk.get(home, LIMIT) + size
    if _since_shrunk[home] >= LIMIT // 16:
        shrink(home, LIMIT)
        _since_shrunk[home] = 0


# --- trust ---


@functools.cache
def _usable(home: Path) -> bool:
    """Whether only this user can write into a folder: what lies there gets executed."""
    if sys.platform == "win32":
        return True
    status = home.stat()
    if status.st_uid in (os.getuid(), 0) and not status.st_mode & 0o022:
        return True
    _warn_once(f"compiled code is not kept in {home}: other users can write there")
    return False


@functools.cache
def _warn_once(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=2)
