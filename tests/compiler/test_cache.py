"""Machine code on disk: found again, never believed when damaged, kept within bounds."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from toumei.compiler.llvm import cache, jit, runtime
from toumei.compiler.llvm.ir import Function, module
from toumei.compiler.llvm.target import Target

pytestmark = pytest.mark.skipif(not runtime.supported(), reason="no LLVM here")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("TOUMEI_CACHE", str(tmp_path))
    cache._since_shrunk.clear()
    cache._usable.cache_clear()
    cache._warn_once.cache_clear()
    yield tmp_path / "compiled"


def answer(number: int) -> str:
    f = Function("answer", [], "i64")
    f.ret(f.const("i64", number))
    return module([f])


def call(library: jit.Library) -> int:
    return ctypes.CFUNCTYPE(ctypes.c_int64)(library.address("answer"))()


def files(home: Path) -> list[Path]:
    return sorted(home.iterdir()) if home.exists() else []


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was really compiled."""
    texts: list[str] = []
    real = jit.compile_ir

    def compile_ir(text: str, target: Target | None = None) -> bytes:
        texts.append(text)
        return real(text, target)

    monkeypatch.setattr(jit, "compile_ir", compile_ir)
    return texts


def test_code_is_compiled_once(home: Path, compiled: list[str]) -> None:
    assert call(cache.library(answer(42), ["answer"])) == 42
    assert call(cache.library(answer(42), ["answer"])) == 42
    assert call(cache.library(answer(43), ["answer"])) == 43
    assert compiled == [answer(42), answer(43)]
    assert len(files(home)) == 2


def test_a_key_of_the_callers_spares_writing_the_ir(compiled: list[str]) -> None:
    written = []

    def text() -> str:
        written.append(1)
        return answer(5)

    for _ in range(3):
        assert call(cache.library(text, ["answer"], key="five")) == 5
    assert written == [1]
    assert len(compiled) == 1
    assert call(cache.library(lambda: answer(6), ["answer"], key="six")) == 6


def test_each_target_has_its_own_code() -> None:
    generic = Target.named("generic")
    names = {cache.digest("x"), cache.digest("x", generic), cache.digest("y")}
    names.add(cache.digest("x", generic._replace(features="+avx")))
    assert len(names) == 4


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:20],
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:],
        lambda data: b"toumei object 0\n" + data[16:],
        lambda data: b"something else entirely",
    ],
    ids=["empty", "cut in the head", "cut", "longer", "a bit", "stale", "foreign"],
)
def test_damaged_files_are_ignored_and_replaced(damage, home: Path, compiled: list[str]) -> None:
    cache.library(answer(42), ["answer"])
    (place,) = files(home)
    whole = place.read_bytes()
    place.write_bytes(damage(whole))
    assert call(cache.library(answer(42), ["answer"])) == 42
    assert len(compiled) == 2
    assert place.read_bytes() == whole


def test_code_under_another_name_is_ignored(home: Path, compiled: list[str]) -> None:
    cache.library(answer(1), ["answer"])
    (one,) = files(home)
    cache.library(answer(2), ["answer"])
    (two,) = (place for place in files(home) if place != one)
    two.write_bytes(one.read_bytes())
    assert call(cache.library(answer(2), ["answer"])) == 2
    assert len(compiled) == 3


def test_code_that_does_not_link_is_compiled_afresh(home: Path, compiled: list[str]) -> None:
    name = cache.digest(answer(42))
    cache.save(name, jit.compile_ir(answer(41).replace("@answer", "@reply")))
    assert call(cache.library(answer(42), ["answer"])) == 42
    cache.save(name, b"no object code at all")
    assert call(cache.library(answer(42), ["answer"])) == 42


def test_a_folder_that_cannot_be_written_to_is_warned_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("TOUMEI_CACHE", str(tmp_path / "file"))
    with pytest.warns(RuntimeWarning, match="compiled code can't be kept in .*compiled"):
        assert call(cache.library(answer(7), ["answer"])) == 7
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert call(cache.library(answer(7), ["answer"])) == 7


@pytest.mark.skipif(sys.platform == "win32", reason="no modes here")
def test_code_that_others_could_have_written_is_not_run(home: Path, compiled: list[str]) -> None:
    cache.library(answer(42), ["answer"])
    assert home.stat().st_mode & 0o077 == 0
    home.chmod(0o777)
    cache._usable.cache_clear()
    with pytest.warns(RuntimeWarning, match="other users can write there"):
        assert call(cache.library(answer(42), ["answer"])) == 42
    assert len(compiled) == 2


def test_the_least_recently_used_go_first(home: Path) -> None:
    names = [cache.digest(str(i)) for i in range(5)]
    now = time.time()
    for age, name in enumerate(names):
        cache.save(name, bytes(1000))
        os.utime(home / f"{name}.object", (now - 100 * (age + 1),) * 2)
    assert cache.load(names[4]) == bytes(1000)  # the oldest, but used just now
    (home / "else").write_text("not ours")
    cache.shrink(home, 3500)
    left = {name for name in names if cache.load(name) is not None}
    assert left == {names[0], names[1], names[4]}
    assert (home / "else").exists()


def test_saving_keeps_the_folder_within_its_limit(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "LIMIT", 100_000)
    for i in range(60):
        cache.save(cache.digest(str(i)), bytes(5000))
    total = sum(place.stat().st_size for place in files(home))
    assert 50_000 < total <= 100_000 + 100_000 // 16 + 6000
    assert cache.load(cache.digest("59")) is not None


def test_clear(home: Path) -> None:
    assert cache.clear() == 0
    cache.library(answer(1), ["answer"])
    cache.library(answer(2), ["answer"])
    size = sum(place.stat().st_size for place in files(home))
    assert cache.clear() == size > 0
    assert files(home) == []


WRITER = """
import ctypes, os, sys
sys.path.insert(0, {folder!r})
import test_cache as t
for round in range(40):
    for i in range(4):
        assert t.call(t.cache.library(t.answer(i), ["answer"])) == i
    if round % 10 == {turn}:
        t.cache.clear()
print("done")
"""


def test_several_processes_write_read_and_clear_at_once(home: Path) -> None:
    folder = os.path.dirname(__file__)
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER.format(folder=folder, turn=turn)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for turn in (3, 7)
    ]
    for writer in writers:
        assert writer.communicate(timeout=60) == ("done\n", "")
        assert writer.returncode == 0
    assert all(place.suffix == ".object" for place in files(home))  # nothing half-done is left


def test_loading_is_quick(home: Path) -> None:
    cache.library(answer(42), ["answer"])
    best = float("inf")
    for _ in range(30):
        start = time.perf_counter()
        cache.library(answer(42), ["answer"])
        best = min(best, time.perf_counter() - start)
    assert best < 3e-3
