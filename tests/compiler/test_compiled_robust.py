"""What a step as machine code does when things go wrong: nothing is left half done."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import toumei as tm
import toumei.nn.functional as F
from tests.compiler.agree import check, check_training, executor, fallbacks, native, numbers
from toumei import nn, optim
from toumei.compiler.compiled import Compiled
from toumei.compiler.llvm.runtime import get_num_threads, set_num_threads
from toumei.compiler.native import Native
from toumei.compiler.program import Backend
from toumei.errors import OpError, OpIndexError
from toumei.tensor import Tensor


def scripted(
    text: str, *arguments: str, cache: pathlib.Path | None = None
) -> subprocess.Popen[str]:
    """Start a Python process on a program that may use everything imported here."""
    head = "import os, signal, sys, threading, time\nimport numpy as np\nimport toumei as tm\n"
    head += "from tests.compiler.agree import check, executor, native, numbers\n"
    # a shell that starts pytest in the background has Ctrl-C ignored
    head += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    if cache is not None:
        environment["TOUMEI_CACHE"] = str(cache)
    return subprocess.Popen(
        [sys.executable, "-c", head + textwrap.dedent(text), *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        cwd=pathlib.Path(__file__).parents[2],
    )  # fmt: skip


def output(process: subprocess.Popen[str]) -> str:
    """Return what a process has printed; it must have gone well."""
    with process:
        try:
            out, errors = process.communicate(timeout=100)
        finally:
            process.kill()
    assert process.returncode == 0, errors
    return out


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = get_num_threads()
    yield set_num_threads
    set_num_threads(before)


# --- numbers that aren't finite -------------------------------------------------------------------


@pytest.mark.parametrize("spoilt", [np.nan, np.inf, -np.inf])
def test_training_on_numbers_that_are_not_finite(spoilt: float) -> None:
    """They reach the loss and the parameters as they do eager."""

    def build() -> Any:
        model = nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(12, 7), nn.LayerNorm(7), nn.GELU(), nn.Linear(7, 5),
        )  # fmt: skip
        optimizer = optim.Adam(model.parameters())

        def step(x: Tensor, y: Tensor) -> Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss.detach()

        x = tm.randn(4, 1, 6, 6)
        x[1, 0, 2, 3] = spoilt
        return step, (x, tm.randint(0, 5, (4,))), model

    check_training(build)


def test_rows_that_are_not_finite() -> None:
    def step(x: Tensor) -> Any:
        softs = F.softmax(x, -1), F.log_softmax(x, -1), x.logsumexp(-1), F.layer_norm(x, [17])
        return *softs, x.amax(1), x.amin(1), x.argmax(1), x.max(1), x.cumsum(1), x.sort(1), x.std(1)

    x = tm.randn(8, 17)
    x[0, 3], x[1, 4], x[2, 5] = tm.nan, tm.inf, -tm.inf
    x[3], x[4] = -tm.inf, tm.nan
    x[5, 2:5] = tm.inf
    check(step, x)


# --- indices and labels ---------------------------------------------------------------------------


def trainer() -> tuple[Callable[[Tensor, Tensor], Tensor], list[Tensor]]:
    """Return a step that changes weights, a momentum and a count, and all of these."""
    table, w = tm.randn(7, 6).requires_grad_(), tm.randn(5, 6).requires_grad_()
    calls = tm.zeros(2, 3)
    optimizer = optim.SGD([table, w], lr=0.1, momentum=0.9)

    def step(tokens: Tensor, labels: Tensor) -> Tensor:
        calls.add_(1)
        optimizer.zero_grad()
        loss = F.cross_entropy(F.linear(F.embedding(tokens, table), w), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step, [table, w, calls]


@pytest.mark.parametrize(
    ("tokens", "labels"), [([0, 7], [1, 2]), ([0, 6], [5, 2]), ([-8, 1], [1, 2])]
)
def test_nothing_is_written_where_an_index_is_out_of_range(
    tokens: list[int], labels: list[int]
) -> None:
    step, states = trainer()
    compiled = native(step)
    compiled(tm.tensor([0, 6]), tm.tensor([1, 4]))
    before = numbers(states)
    with pytest.raises(OpIndexError) as mine:
        compiled(tm.tensor(tokens), tm.tensor(labels))
    with pytest.raises(OpIndexError) as theirs:
        step(tm.tensor(tokens), tm.tensor(labels))
    assert str(mine.value).splitlines()[0] == str(theirs.value).splitlines()[0]
    states[2].sub_(1)  # which eager has counted before it met the index
    assert all(map(np.array_equal, numbers(states), before))
    assert compiled(tm.tensor([0, 6]), tm.tensor([1, 4])).isfinite()


def test_labels_that_the_step_computes_are_checked() -> None:
    w, calls = tm.randn(6, 5).requires_grad_(), tm.zeros(())

    def step(x: Tensor, more: Tensor) -> Tensor:
        calls.add_(1)
        y = x @ w
        (g,) = tm.autograd.grad(F.cross_entropy(y, y.argmax(1) + more), [w])
        with tm.no_grad():
            w.sub_(g)
        return g

    compiled, x = native(step), tm.randn(3, 6)
    compiled(x, tm.tensor(0))
    before = numbers([w, calls])
    with pytest.raises(OpIndexError, match="there are 5 classes"):
        compiled(x, tm.tensor(5))
    assert all(map(np.array_equal, numbers([w, calls]), before))


def test_labels_made_of_labels_are_checked_before_the_step() -> None:
    """… by the numbers of a few integers, and cost no call of Python within it."""

    def step(x: Tensor, labels: Tensor, hidden: Tensor) -> Tensor:
        return F.cross_entropy(x, tm.where(hidden, -100, labels + 1))

    x, labels = tm.randn(3, 5), tm.tensor([0, 9, 3])
    compiled = check(step, x, labels, tm.tensor([False, True, False]))
    assert not fallbacks(compiled)
    with pytest.raises(OpIndexError, match="label 10 at 1"):
        compiled(x, labels, tm.tensor([True, False, False]))


INDEXING: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "embedding": lambda x, i: F.embedding(i, x),
    "index_select": lambda x, i: x.index_select(0, i),
    "gather": lambda x, i: x.gather(1, i[:, None]),
    "scatter": lambda x, i: x.scatter(1, i[:, None], x),
    "index": lambda x, i: x[i],
    "one_hot": lambda x, i: F.one_hot(i, 3),
}


@pytest.mark.parametrize("name", INDEXING)
def test_computed_indices_are_clamped_and_told_of(name: str) -> None:
    """No memory is touched that isn't the tensor's; the next call is as good as any."""

    def step(x: Tensor, more: Tensor) -> Tensor:
        return INDEXING[name](x, (x * 0).argmax(1) + more)

    compiled = check(step, tm.randn(3, 3), tm.tensor(1))
    for wrong in (3, -4, 2**40, -(2**62)):
        with pytest.raises(OpIndexError, match="out of range"):
            compiled(tm.randn(3, 3), tm.tensor(wrong))
    x = tm.randn(3, 3)
    assert np.array_equal(compiled(x, tm.tensor(2)).numpy(), step(x, tm.tensor(2)).numpy())


# --- threads --------------------------------------------------------------------------------------


def test_any_number_of_threads_gives_the_same_bits(
    threads: Callable[[int], None], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOUMEI_CACHE", str(tmp_path))

    def trained(count: int) -> list[Any]:
        threads(count)
        tm.manual_seed(1)
        conv = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.MaxPool2d(2))
        head = nn.Sequential(nn.TransformerEncoderLayer(16, 2, 32), nn.Flatten(), nn.Linear(784, 9))
        optimizer = optim.Adam([*conv.parameters(), *head.parameters()])

        def step(x: Tensor, y: Tensor) -> Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(head(conv(x).flatten(2).mT), y)
            loss.backward()
            optimizer.step()
            return loss.detach()

        compiled = Compiled(step, backend=Backend(Native))
        x, y = tm.randn(32, 3, 14, 14), tm.randint(0, 9, (32,))
        losses = [compiled(x, y) for _ in range(3)]
        return numbers([losses, conv.state_dict(), head.state_dict()])

    first = trained(1)
    for count in (2, 3, max(4, get_num_threads())):
        assert all(map(np.array_equal, trained(count), first)), f"{count} threads"


def test_a_step_called_from_several_threads() -> None:
    w = tm.zeros(50, 40)

    def step(x: Tensor) -> Tensor:
        w.add_(x.sum(0))
        return (x * 2).tanh().sum()

    compiled = native(step)
    x = tm.ones(200, 40)
    wrong: list[Any] = []

    def call(offset: int) -> None:
        for _ in range(25):
            given = x * offset
            y, expected = compiled(given).item(), (given * 2).tanh().sum().item()
            if abs(y - expected) > 1e-4 * expected:
                wrong.append((y, expected))

    workers = [threading.Thread(target=call, args=(k,)) for k in (1, 2, 3, 4)]
    for t in workers:
        t.start()
    for t in workers:
        t.join()
    assert not wrong
    assert (w == 200 * 25 * 10).all()


def test_backward_passes_on_several_threads() -> None:
    """A compiled result's backward pass runs beside other steps."""
    w = tm.randn(60, 60).requires_grad_()
    forward = native(lambda x: ((x @ w).tanh() @ w).sigmoid().sum())
    inputs = [tm.randn(90, 60) for _ in range(4)]

    def gradient(f: Callable[..., Any], x: Tensor) -> Any:
        return tm.autograd.grad(f(x), [w])[0].numpy()

    expected = [gradient(forward, x) for x in inputs]
    wrong: list[int] = []

    def call(i: int) -> None:
        for _ in range(25):
            same = np.array_equal(gradient(forward, inputs[i]), expected[i])
            wrong.extend([] if same else [i])

    workers = [threading.Thread(target=call, args=(i,)) for i in range(4)]
    for t in workers:
        t.start()
    for t in workers:
        t.join()
    assert not wrong


# --- errors and interrupts ------------------------------------------------------------------------


def test_an_error_in_a_fallback_leaves_the_states_alone() -> None:
    a, b = tm.ones(3, 3), tm.zeros(4, 4)

    def step(x: Tensor, y: Tensor) -> Tensor:
        b[1:, :3].add_(1)
        a.mul_(2)
        root = tm.linalg.cholesky(x + 0 * a.sum())
        b.add_(root.sum())
        return y.gather(0, root.argmax(0)[:, None])

    compiled = native(step)
    eye, y = tm.eye(3), tm.randn(3, 1)
    compiled(eye, y)
    assert "Cholesky" in fallbacks(compiled)
    before = numbers([a, b])
    with pytest.raises(OpError, match=r"cholesky\(.*the matrix is not positive definite"):
        compiled(-eye, y)
    assert all(map(np.array_equal, numbers([a, b]), before))
    compiled(eye, y)
    assert (a == 4).all() and b[0, 3] == 2 * 3 and b[2, 1] == 2 * 3 + 2


def test_fallbacks_are_as_quiet_as_eager() -> None:
    check(lambda x: tm.special.i0(x) + tm.lgamma(x), tm.tensor([1e5, -1.0, 0.0, tm.nan]))


@pytest.mark.skipif(os.name == "nt", reason="signals are Unix's")
def test_interrupts_come_between_steps() -> None:
    """States stay in step with each other, and the pool stays usable."""
    script = """
        a, b, c = tm.zeros(300, 300), tm.zeros(300, 300), tm.zeros(5)
        x = tm.randn(300, 300)

        def step(x):
            a.add_(1)
            b.copy_(a.T)
            c.add_(1)
            y = x
            for _ in range(4):
                y = (y @ x).tanh()
            return y

        compiled = native(step)
        expected = compiled(x).numpy()
        main = threading.get_ident()
        stopped = 0
        for i in range(40):
            def interrupt(delay=0.001 + 0.0007 * i):
                time.sleep(delay)
                signal.pthread_kill(main, signal.SIGINT)
            t = threading.Thread(target=interrupt)
            try:
                t.start()
                while True:
                    compiled(x)
            except KeyboardInterrupt:
                stopped += 1
            t.join()
            n = c.numpy()[0]
            assert (a.numpy() == n).all() and (b.numpy() == n).all() and (c.numpy() == n).all(), (
                i, n, a.numpy()[0, 0], b.numpy()[0, 0])
        assert np.array_equal(compiled(x).numpy(), expected)
        print(stopped)
    """
    assert int(output(scripted(script))) == 40


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_compiles_and_runs() -> None:
    script = """
        tm.set_num_threads(2)
        def step(x):
            return (x @ x.T).tanh().sum(0)
        x = tm.randn(200, 100)
        compiled = native(step)
        expected = compiled(x).numpy()
        child = os.fork()
        if child == 0:
            good = np.array_equal(compiled(x).numpy(), expected)
            fresh = native(lambda x: (x * 2 + 1).exp().mean(1))
            good = good and np.allclose(fresh(x).numpy(), np.exp(x.numpy() * 2 + 1).mean(1))
            os._exit(0 if good else 3)
        assert np.array_equal(compiled(x).numpy(), expected)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    assert output(scripted(script)).strip() == "0"


# --- the cache ------------------------------------------------------------------------------------

TRAIN = """
    from tests.compiler.test_compiled_robust import cached_training
    print(*cached_training())
"""


def cached_training() -> list[str]:
    """Train a little with the cache on disk; return the loss of each step, to the last bit."""
    tm.manual_seed(3)
    model = nn.Sequential(nn.Linear(20, 33), nn.ReLU(), nn.Dropout(0.2), nn.Linear(33, 5))
    optimizer = optim.Adam(model.parameters())

    def step(x: Tensor, y: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    compiled = Compiled(step, backend=Backend(Native))
    x, y = tm.randn(17, 20), tm.randint(0, 5, (17,))
    return [compiled(x, y).item().hex() for _ in range(3)]


def test_processes_share_a_cache(tmp_path: pathlib.Path) -> None:
    """Several that start at once, on an empty folder, and one that comes later."""
    started = [scripted(TRAIN, cache=tmp_path) for _ in range(3)]
    first, *others = [output(p) for p in started]
    assert len(first.split()) == 3 and set(others) == {first}
    files = {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()}
    assert files and output(scripted(TRAIN, cache=tmp_path)) == first
    assert {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()} == files


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "turned": lambda data: data[:-9] + bytes([data[-9] ^ 0x40]) + data[-8:],
    "other": lambda data: b"something else altogether",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_are_made_anew(
    damage: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOUMEI_CACHE", str(tmp_path))
    first = cached_training()
    files = [f for f in tmp_path.rglob("*") if f.is_file()]
    assert files
    for f in files:
        f.write_bytes(DAMAGES[damage](f.read_bytes()))
    assert cached_training() == first
    assert cached_training() == first


def test_a_plan_whose_code_is_gone_is_compiled_again(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOUMEI_CACHE", str(tmp_path))
    first = cached_training()
    files = [f for f in tmp_path.rglob("*") if f.is_file()]
    for kept in files:
        for f in files:
            if f != kept:
                f.unlink(missing_ok=True)
        assert cached_training() == first


def test_programs_are_forgotten_with_their_functions() -> None:
    """Compiling again and again doesn't pile up memory."""
    import gc
    import weakref

    def made() -> weakref.ref[Any]:
        compiled = native(lambda x: (x * 3).sin())
        compiled(tm.randn(5))
        return weakref.ref(executor(compiled))

    seen = made()
    gc.collect()
    assert seen() is None
