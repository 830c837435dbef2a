"""Downloads, against a local server: mirrors, checksums, resumption, locks, a full disk."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import shutil
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from toumei.data.fetch import download, fetch
from toumei.data.files import KNOWN, DataFile, Remote
from toumei.errors import DataError, SaveError

CONTENT = bytes(range(256)) * 4000  # about 1 MB
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `files`; `faults` maps a path to what goes wrong, once each in turn."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[Any]] = {}
        self.log: list[tuple[str, str | None]] = []  # (path, Range)
        self.ranges = True

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class Handler(BaseHTTPRequestHandler):
    """GET with byte ranges, and with the faults that the test orders."""

    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.log.append((self.path, wanted))
        faults = self.server.faults.get(self.path, [])
        fault = faults.pop(0) if faults else None
        body = self.server.files.get(self.path)
        if isinstance(fault, int):
            return self.send_error(fault)
        if fault == "hang":
            threading.Event().wait(1.0)
            return None
        if body is None:
            return self.send_error(404)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if not self.server.ranges:
            start = 0
        if start >= len(body) > 0:
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        body = body[start:]
        self.wfile.write(body[: len(body) // 2] if fault == "cut" else body)
        return None

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.files["/a"] = running.files["/b"] = CONTENT
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toumei.data.fetch.time.sleep", lambda seconds: None)


def remote(server: Server, *paths: str, md5: str = MD5) -> Remote:
    return Remote("file.bin", len(CONTENT), md5, tuple(server.url(p) for p in paths))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_a_download_reports_its_progress(server: Server, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    path = download(remote(server, "/a"), tmp_path, lambda *step: steps.append(step))
    assert path.read_bytes() == CONTENT and names(tmp_path) == ["file.bin"]
    assert steps[-1] == (len(CONTENT), len(CONTENT)) and len(steps) > 2
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)


def test_what_is_there_is_not_downloaded_again(server: Server, tmp_path: Path) -> None:
    for _ in range(2):
        download(remote(server, "/a"), tmp_path)
    assert len(server.log) == 1
    (tmp_path / "file.bin").write_bytes(b"damaged")
    assert download(remote(server, "/a"), tmp_path).read_bytes() == CONTENT


def test_a_cut_off_transfer_is_continued(server: Server, tmp_path: Path) -> None:
    server.faults["/a"] = ["cut", "cut"]
    download(remote(server, "/a"), tmp_path)
    half = len(CONTENT) // 2
    assert server.log == [
        ("/a", None),
        ("/a", f"bytes={half}-"),
        ("/a", f"bytes={half + half // 2}-"),
    ]
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_an_interrupted_download_goes_on_at_the_next_call(server: Server, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done > 500_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(remote(server, "/a"), tmp_path, interrupt)
    assert names(tmp_path) == ["file.bin.part"]
    had = (tmp_path / "file.bin.part").stat().st_size
    assert 0 < had < len(CONTENT)
    assert download(remote(server, "/a"), tmp_path).read_bytes() == CONTENT
    assert server.log[-1] == ("/a", f"bytes={had}-")


def test_a_server_without_ranges_starts_again(server: Server, tmp_path: Path) -> None:
    server.ranges, server.faults["/a"] = False, ["cut"]
    assert download(remote(server, "/a"), tmp_path).read_bytes() == CONTENT


def test_a_complete_part_is_taken_as_it_is(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    assert download(remote(server, "/a"), tmp_path).read_bytes() == CONTENT
    assert len(server.log) == 1


@pytest.mark.parametrize("part", [b"another file's beginning", CONTENT + b"too long"])
def test_a_wrong_part_is_thrown_away(server: Server, tmp_path: Path, part: bytes) -> None:
    (tmp_path / "file.bin.part").write_bytes(part)
    assert download(remote(server, "/a"), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("fault", [[404], [500] * 3, [503] * 3, ["cut"] * 3])
def test_the_next_mirror_takes_over(server: Server, tmp_path: Path, fault: list[Any]) -> None:
    server.faults["/a"] = list(fault)
    assert download(remote(server, "/a", "/b"), tmp_path).read_bytes() == CONTENT
    assert [path for path, _ in server.log] == ["/a"] * len(fault) + ["/b"]


def test_a_mirror_with_other_content_is_passed_over(server: Server, tmp_path: Path) -> None:
    server.files["/a"] = b"<html>moved</html>"
    assert download(remote(server, "/a", "/b"), tmp_path).read_bytes() == CONTENT
    assert [path for path, _ in server.log] == ["/a", "/b"]


def test_a_server_error_is_tried_again(server: Server, tmp_path: Path) -> None:
    server.faults["/a"] = [503, 429]
    assert download(remote(server, "/a"), tmp_path).read_bytes() == CONTENT
    assert len(server.log) == 3


def test_a_silent_server_times_out(server: Server, tmp_path: Path) -> None:
    server.faults["/a"] = ["hang"]
    path = download(remote(server, "/a"), tmp_path, timeout=0.1, retries=2)
    assert path.read_bytes() == CONTENT and len(server.log) == 2


def test_when_no_mirror_delivers_each_is_named(server: Server, tmp_path: Path) -> None:
    server.files["/b"] = b"wrong"
    closed = "http://127.0.0.1:9/c"
    source = remote(server, "/gone", "/b")
    source = source._replace(urls=(*source.urls, closed))
    with pytest.raises(DataError) as caught:
        download(source, tmp_path, retries=2)
    message = str(caught.value)
    assert "/gone: HTTP 404" in message and "run the command again" in message
    assert f"/b: wrong content: MD5 {hashlib.md5(b'wrong').hexdigest()} instead of" in message
    assert f"{closed}: [Errno" in message and names(tmp_path) == []


def test_a_full_disk_is_found_out_before_writing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("toumei.data.fetch.shutil.disk_usage", lambda folder: usage)
    with pytest.raises(
        SaveError, match=r"disk is full: .* has 1,000 bytes free, 1,024,000 are need"
    ):
        download(remote(server, "/a", "/b"), tmp_path)
    assert names(tmp_path) == [] and len(server.log) == 1


def test_a_disk_that_fills_up_leaves_nothing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fills_up(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("toumei.data.fetch.os.fsync", fills_up)
    with pytest.raises(SaveError, match="the disk is full"):
        download(remote(server, "/a"), tmp_path)
    assert names(tmp_path) == []


# --- whole data sets ---


@pytest.fixture
def digits(server: Server, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Serve a tiny "mnist" of two gzipped files, packed otherwise than when it was described."""
    contents = {"x": b"first" * 1000, "y": b"second" * 1000}
    described, remotes = [], []
    for name, content in contents.items():
        md5 = hashlib.md5(content).hexdigest()
        server.files[f"/{name}.gz"] = gzip.compress(content, 1)
        described.append(DataFile(name, len(content), md5))
        remotes.append(Remote(f"{name}.gz", 100, md5, (server.url(f"/{name}.gz"),), True))
    known = KNOWN["mnist"]._replace(files=tuple(described), remotes=tuple(remotes))
    monkeypatch.setitem(KNOWN, "mnist", known)
    return contents


def test_fetch_brings_all_files(server: Server, digits: dict[str, bytes], tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    folder = fetch("mnist", tmp_path, lambda *step: steps.append(step))
    assert folder == tmp_path / "mnist" and names(folder) == ["x.gz", "y.gz"]
    assert gzip.decompress((folder / "x.gz").read_bytes()) == digits["x"]
    assert steps[-1] == (200, 200) and all(done <= total == 200 for done, total in steps)
    fetch("mnist", tmp_path)
    assert len(server.log) == 2


def test_fetch_repairs_a_damaged_file(
    server: Server, digits: dict[str, bytes], tmp_path: Path
) -> None:
    folder = fetch("mnist", tmp_path)
    (folder / "y.gz").write_bytes(b"damaged")
    (folder / "x.gz").unlink()
    (folder / "x").write_bytes(b"damaged")  # a raw file in the place of the packed one
    fetch("mnist", tmp_path)
    assert all(gzip.decompress((folder / f"{n}.gz").read_bytes()) == digits[n] for n in "xy")


def test_two_at_once_download_once(
    server: Server, digits: dict[str, bytes], tmp_path: Path
) -> None:
    threads = [threading.Thread(target=fetch, args=("mnist", tmp_path)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(path for path, _ in server.log) == ["/x.gz", "/y.gz"]


def test_fetch_refuses_names_and_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unknown data set 'minst'; known are mnist, fashion"):
        fetch("minst", tmp_path)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SaveError, match="can't be written"):
        fetch("mnist", tmp_path / "file")


def tar_of(entries: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def serve_cifar(server: Server, monkeypatch: pytest.MonkeyPatch, entries: dict[str, bytes]) -> None:
    archive = tar_of(entries)
    server.files["/c.tar.gz"] = archive
    source = Remote(
        "c.tar.gz", len(archive), hashlib.md5(archive).hexdigest(), (server.url("/c.tar.gz"),)
    )
    known = KNOWN["cifar10"]._replace(files=(DataFile("test_batch.bin", 5),), remotes=(source,))
    monkeypatch.setitem(KNOWN, "cifar10", known)


def test_an_archive_is_unpacked_whole(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    serve_cifar(server, monkeypatch, {"cifar-10-batches-bin/test_batch.bin": b"12345"})
    old = tmp_path / "cifar10" / "cifar-10-batches-bin"
    old.mkdir(parents=True)
    (old.parent / ".unpack-killed").mkdir()
    (old / "test_batch.bin").write_bytes(b"123")  # cut short: to be replaced
    folder = fetch("cifar10", tmp_path)
    assert folder == old and (old / "test_batch.bin").read_bytes() == b"12345"
    assert names(tmp_path / "cifar10") == ["cifar-10-batches-bin"]
    assert not list((tmp_path / "cifar10").glob(".unpack-*"))
    fetch("cifar10", tmp_path)
    assert len(server.log) == 1


@pytest.mark.parametrize(
    "entries", [{"../../evil.bin": b"x"}, {"/tmp/toumei-evil.bin": b"x"}, {"other/name": b"x"}]
)
def test_an_archive_that_reaches_outside_is_refused(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, entries: dict[str, bytes]
) -> None:
    serve_cifar(server, monkeypatch, entries)
    with pytest.raises(DataError, match=r"c\.tar\.gz"):
        fetch("cifar10", tmp_path)
    assert not Path("/tmp/toumei-evil.bin").exists()
    assert names(tmp_path) == ["cifar10"] and names(tmp_path / "cifar10") == ["c.tar.gz"]
