"""Download a known data set: mirrors, resumption, checksums; whole or not at all.

A file grows as NAME.part, is checked against its MD5 and only then gets its name.  A transfer
that breaks off is continued with an HTTP range request, now or at the next call.  A lock file
keeps two processes apart: the second waits and finds the file there.
"""

from __future__ import annotations

import errno
import http.client
import os
import shutil
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import DataError, SaveError
from .files import KNOWN, Known, Remote, data_home, file_md5, is_whole, locate

Progress = Callable[[int, int], None]  # (bytes done, bytes in all)

_CHUNK = 1 << 18
_BROKEN = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


def fetch(
    name: str,
    root: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    *,
    timeout: float = 30.0,
    retries: int = 3,
) -> Path:
    """Download a data set unless it is there, and return its folder.

    Args:
        name: one that `catalogue` lists, such as "mnist".
        root: the data folder; see `data_home`.
        progress: called with (bytes done, bytes in all) as they come.
        timeout: seconds without an answer after which a mirror counts as silent.
        retries: how often each mirror is tried.

    Raises:
        DataError: the name is unknown, or no mirror delivered the file.
        SaveError: the disk is full, or the folder can't be written.
    """
    if name not in KNOWN:
        raise DataError(f"unknown data set {name!r}; known are {', '.join(KNOWN)}")
    known = KNOWN[name]
    folder = locate(known, root)
    if folder is not None and is_whole(known, folder):
        return folder
    from filelock import FileLock

    folder = data_home(root) / known.folder
    into = folder.parent if known.archive else folder
    try:
        into.mkdir(parents=True, exist_ok=True)
        with FileLock(into / f".{name}.lock"):
            if not is_whole(known, folder):  # else another process has just brought it
                _bring(known, folder, into, progress, timeout, retries)
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise SaveError(f"{into} can't be written: {error}") from error
    return folder


def _bring(
    known: Known,
    folder: Path,
    into: Path,
    progress: Progress | None,
    timeout: float,
    retries: int,
) -> None:
    """Download the files of a data set, and unpack them if they are an archive."""
    done, total = 0, sum(remote.size for remote in known.remotes)
    for remote in known.remotes:
        report = _shifted(progress, done, total)
        path = download(remote, into, report, timeout=timeout, retries=retries)
        if known.archive:
            _unpack(path, folder)
        done += remote.size
    if progress is not None:
        progress(total, total)


def _shifted(progress: Progress | None, before: int, total: int) -> Progress | None:
    """Return a callback for one of several files: `before` bytes are done."""
    if progress is None:
        return None
    return lambda done, _: progress(min(before + done, total), total)


def download(
    remote: Remote,
    folder: Path,
    progress: Progress | None = None,
    *,
    timeout: float = 30.0,
    retries: int = 3,
) -> Path:
    """Download one file into a folder, unless it is there with the right MD5.

    Raises:
        DataError: no mirror delivered the file; the message lists what each one did.
        SaveError: the disk is full.
    """
    target = folder / remote.name
    if not (target.is_file() and file_md5(target, remote.inside) == remote.md5):
        _from_mirrors(remote, target, progress, timeout, retries)
    return target


def _from_mirrors(
    remote: Remote, target: Path, progress: Progress | None, timeout: float, retries: int
) -> None:
    """Bring a file from the first mirror that delivers it whole."""
    part = target.with_name(target.name + ".part")
    problems = []
    for url in remote.urls:
        problem = _from_mirror(url, remote, part, progress, timeout, retries)
        if problem is None:
            os.replace(part, target)
            _sync_folder(target.parent)
            return
        problems.append(f"\n  {url}: {problem}")
    raise DataError(
        f"{remote.name} could not be downloaded to {target.parent}:{''.join(problems)}\n"
        "  check the network (a proxy? https_proxy=…) and run the command again: it goes on where "
        "it stopped"
    )


def _from_mirror(
    url: str, remote: Remote, part: Path, progress: Progress | None, timeout: float, retries: int
) -> str | None:
    """Fill `part` from one mirror; return None if its content is right, else what was wrong."""
    problem = "not tried"
    for attempt in range(retries):
        if attempt:
            time.sleep(min(0.25 * 2**attempt, 8.0))
        resumed = part.is_file() and part.stat().st_size > 0
        try:
            _transfer(url, part, progress, timeout)
        except urllib.error.HTTPError as error:
            problem = f"HTTP {error.code} {error.reason}"
            if error.code == 416:  # the part is as long as the file, or longer
                if file_md5(part, remote.inside) == remote.md5:
                    return None
                part.unlink()
            elif error.code < 500 and error.code not in (408, 429):
                return problem
            continue
        except _BROKEN as error:
            problem = str(getattr(error, "reason", None) or error or type(error).__name__)
            continue
        found = file_md5(part, remote.inside)
        if found == remote.md5:
            return None
        part.unlink()
        problem = f"wrong content: MD5 {found} instead of {remote.md5}"
        if not resumed:  # else the beginning may have come from elsewhere: once more, from zero
            return problem
    return problem


def _transfer(url: str, part: Path, progress: Progress | None, timeout: float) -> None:
    """Append to `part` what it lacks of the file at `url`."""
    start = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "toumei"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    with urllib.request.urlopen(request, timeout=timeout) as response:
        if not str(response.headers.get("Content-Range", "")).startswith(f"bytes {start}-"):
            start = 0  # the server sends the whole file
        length = response.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        try:
            _check_space(part.parent, 0 if total is None else total - start)
            done = _write(response, part, start, total, progress)
        except OSError as error:
            if error.errno in _FULL:
                raise _disk_full(part, total) from error
            raise
    if total is not None and done < total:
        raise ConnectionError(f"the connection closed after {done:,} of {total:,} bytes")


def _write(
    response: Any, part: Path, start: int, total: int | None, progress: Progress | None
) -> int:
    """Copy a response to the end of `part`, or to a new one; return the bytes it then has."""
    done = start
    with open(part, "ab" if start else "wb") as stream:
        while chunk := response.read(_CHUNK):
            stream.write(chunk)
            done += len(chunk)
            if progress is not None:
                progress(done, done if total is None else total)
        stream.flush()
        os.fsync(stream.fileno())
    return done


def _check_space(folder: Path, needed: int) -> None:
    """Find out before writing that the disk is too full."""
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _disk_full(part: Path, total: int | None) -> SaveError:
    """Remove the partial file, which would only fill the disk, and say what is needed."""
    part.unlink(missing_ok=True)
    free = shutil.disk_usage(part.parent).free
    need = "" if total is None else f", {total:,} are needed"
    return SaveError(
        f"the disk is full: {part.parent} has {free:,} bytes free{need}; nothing was kept\n"
        "  make room, or choose another folder: --data-dir DIR or TOUMEI_DATA"
    )


def _unpack(archive: Path, target: Path) -> Path:
    """Unpack an archive beside `target`, move the folder there in one step, drop the archive."""
    if not hasattr(tarfile, "data_filter"):
        raise DataError("archives are unpacked safely by Python 3.11.4 or newer: this one is older")
    for left in target.parent.glob(".unpack-*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix=".unpack-", dir=target.parent))
    try:
        with tarfile.open(archive, "r:gz") as tar:
            tar.extractall(temporary, filter="data")
        if not (temporary / target.name).is_dir():
            raise DataError(f"{archive} holds no folder {target.name}")
        if target.exists():
            os.replace(target, temporary / "incomplete")
        os.replace(temporary / target.name, target)
        _sync_folder(target.parent)
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"{archive} can't be unpacked: {error}") from error
    except OSError as error:
        if error.errno in _FULL:
            raise SaveError(
                f"the disk is full: {archive} could not be unpacked in {target.parent}; nothing "
                "was left half-written"
            ) from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    archive.unlink()
    return target


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where the system can."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
