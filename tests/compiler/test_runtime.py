"""The pool of threads and the programs that it runs: same results however it is disturbed."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator

import numpy as np
import pytest

from toumei.compiler.llvm import jit, pool_ir, program, runtime
from toumei.compiler.llvm.ir import Function, Value
from toumei.compiler.llvm.program import Program, Step, build
from toumei.compiler.llvm.target import Target

pytestmark = pytest.mark.skipif(not runtime.supported(), reason="no LLVM here")

ITEMS = 97
ARGS = [("buffers", "ptr"), ("begin", "i64"), ("end", "i64")]


@pytest.fixture(autouse=True)
def _cache_and_threads(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = os.environ.get("TOUMEI_CACHE")
    os.environ["TOUMEI_CACHE"] = str(tmp_path_factory.getbasetemp() / "cache")
    yield
    runtime.set_num_threads(2)
    if before is None:
        del os.environ["TOUMEI_CACHE"]
    else:
        os.environ["TOUMEI_CACHE"] = before


def add(name: str = "add", amount: int = 1) -> Function:
    """x[i] += amount, a plain read and write: an item done twice at once or never shows."""
    f = Function(name, ARGS)
    buffers, begin, end = f.args
    x = f.load(buffers, "ptr")
    with f.loop(begin, end) as loop:
        place = f.at(x, loop.index, "i64")
        f.store(f.add(f.load(place, "i64"), amount), place)
    f.ret()
    return f


def mix(name: str, source: int, target: int) -> Function:
    """y[i] = 3 x[i] + 5 x[n - 1 - i], modulo 2**64: each item needs one of another thread."""
    f = Function(name, ARGS)
    buffers, begin, end = f.args
    x, y = (f.load(f.at(buffers, 8 * i), "ptr") for i in (source, target))
    with f.loop(begin, end) as loop:
        mirror = f.sub(Value(str(ITEMS - 1), "i64"), loop.index)
        near = f.load(f.at(x, loop.index, "i64"), "i64")
        far = f.load(f.at(x, mirror, "i64"), "i64")
        f.store(f.add(f.mul(near, 3), f.mul(far, 5)), f.at(y, loop.index, "i64"))
    f.ret()
    return f


def mixing() -> list[Function]:
    return [mix("there", 0, 1), mix("back", 1, 0)]


def mixed(x: np.ndarray, times: int) -> np.ndarray:
    """What mixing comes to."""
    for _ in range(times):
        x = x * 3 + x[::-1] * 5
    return x


def numbers() -> np.ndarray:
    return np.random.default_rng(0).integers(-(2**62), 2**62, ITEMS)


def spin(name: str, turns: int) -> Function:
    """x[i] = turns, counted one by one: an item takes a while."""
    f = Function(name, ARGS)
    buffers, begin, end = f.args
    x = f.load(buffers, "ptr")
    with f.loop(begin, end) as loop:
        zero = Value("0x0000000000000000", "double")
        with f.loop(0, turns, carried=[zero]) as inner:
            inner.next = [f.fadd(inner.carried[0], 1.0)]
        f.store(inner.results[0], f.at(x, loop.index, "double"))
    f.ret()
    return f


def addresses(*arrays: np.ndarray) -> np.ndarray:
    return np.array([a.ctypes.data for a in arrays], np.uint64)


# --- results ---


@pytest.mark.parametrize("threads", [1, 2, 3, 5, 8])
def test_thousands_of_steps_with_barriers_equal_numpy(threads: int) -> None:
    runtime.set_num_threads(threads)
    steps = [Step("there", ITEMS, 3), Step("back", ITEMS, 5)] * 2000
    run = build(mixing(), steps)
    x, y = numbers(), np.zeros(ITEMS, np.int64)
    run.run(addresses(x, y))
    assert np.array_equal(x, mixed(numbers(), 4000))


@pytest.mark.parametrize("chunk", [0, 1, 7, ITEMS, 1000])
@pytest.mark.parametrize("threads", [1, 2, 4, 7])
def test_every_item_is_done_once(threads: int, chunk: int) -> None:
    runtime.set_num_threads(threads)
    for items in (1, 2, ITEMS):
        run = build([add()], [Step("add", items, chunk)])
        x = np.zeros(ITEMS, np.int64)
        where = addresses(x)
        for _ in range(300):
            run.run(where)
        assert (x[:items] == 300).all() and (x[items:] == 0).all()


def test_more_chunks_than_a_range_can_count() -> None:
    runtime.set_num_threads(2)
    items = 400_000
    x = np.zeros(items, np.int64)
    build([add()], [Step("add", items, chunk=1)]).run(addresses(x))
    assert (x == 1).all()


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_steps_that_need_no_barrier_run_side_by_side(threads: int) -> None:
    runtime.set_num_threads(threads)
    parts = [add(f"add{i}", amount=i + 1) for i in range(2)]
    steps: list[Step] = []
    for _ in range(50):  # serial steps without barriers: the other threads pass them by
        steps += [Step("there", ITEMS, 4), Step("back", ITEMS, 4)]
        steps += [Step("add0", ITEMS, serial=True), Step("nothing", 9, 1, barrier=False)]
        steps += [Step("nothing", 20, 1, barrier=False), Step("add1", ITEMS, 2)]
        steps += [Step("nothing", 9, 1, barrier=False, serial=True)]
    nothing = Function("nothing", ARGS)
    nothing.ret()
    run = build([*mixing(), *parts, nothing], steps)
    want = numbers()
    for _ in range(50):
        want = mixed(want, 2) + 3
    for _ in range(20):
        x, y = numbers(), np.zeros(ITEMS, np.int64)
        run.run(addresses(x, y))
        assert np.array_equal(x, want)


def test_programs_of_different_lengths_in_turn() -> None:
    runtime.set_num_threads(3)
    long = build([add()], [Step("add", ITEMS, 2)] * 40)
    short = build([add()], [Step("add", ITEMS, 11)])
    serial = build([add()], [Step("add", ITEMS, serial=True)] * 3)
    x = np.zeros(ITEMS, np.int64)
    where = addresses(x)
    for _ in range(500):
        long.run(where), short.run(where), serial.run(where), short.run(where)
    assert (x == 500 * 45).all()


def test_empty_programs_and_steps_without_items() -> None:
    runtime.set_num_threads(2)
    x = np.zeros(ITEMS, np.int64)
    build([add()], []).run(addresses(x))
    build([add()], [Step("add", 0)]).run(addresses(x))
    run = build([add()], [Step("add", 0), Step("add", 5), Step("add", 0)])
    run.run(addresses(x))
    assert x.sum() == 5
    assert [t > 0 for t in run.times(addresses(x))] == [False, True, False]


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_scratch_memory_is_the_threads_own(threads: int) -> None:
    f = Function("k", [*ARGS, ("scratch", "ptr")])  # through scratch and back: x[i] += 1
    buffers, begin, end, scratch = f.args
    x = f.load(buffers, "ptr")
    with f.loop(begin, end) as loop:
        place = f.at(x, loop.index, "double")
        value = f.load(place, "double")
        with f.loop(0, 50) as fill:
            f.store(value, f.at(scratch, fill.index, "double"))
        with f.loop(0, 50, carried=[value]) as check:
            there = f.load(f.at(scratch, check.index, "double"), "double")
            same = f.compare("oeq", there, value)
            bad = f.const("double", float("nan"))
            check.next = [f.select(same, check.carried[0], bad)]
        f.store(f.fadd(check.results[0], 1.0), place)
    f.ret()
    runtime.set_num_threads(threads)
    run = build([f], [Step("k", ITEMS, 1, scratch=400)] * 20)
    data = np.arange(float(ITEMS))
    for _ in range(20):
        run.run(addresses(data))
    assert np.array_equal(data, np.arange(ITEMS) + 400.0)


def test_scratch_memory_of_two_callers_at_once() -> None:
    test = test_scratch_memory_is_the_threads_own
    failures: list[BaseException] = []

    def call() -> None:
        try:
            test(2)
        except BaseException as error:
            failures.append(error)

    callers = [threading.Thread(target=call) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not failures


def test_denormals_are_zero_within_and_as_before_afterwards() -> None:
    tiny = 5e-324  # the smallest number there is, a denormal
    for threads in (1, 2):
        runtime.set_num_threads(threads)
        x = np.full(ITEMS, 2.5e-308)
        build([scale(0.25)], [Step("scale", ITEMS, 1)]).run(addresses(x))
        assert (x == 0).all()
        assert np.float64(tiny) * np.float64(1.0) == tiny
        assert np.float64(2.5e-308) * np.float64(0.25) > 0


def scale(factor: float) -> Function:
    f = Function("scale", ARGS)
    buffers, begin, end = f.args
    x = f.load(buffers, "ptr")
    with f.loop(begin, end) as loop:
        place = f.at(x, loop.index, "double")
        f.store(f.fmul(f.load(place, "double"), factor), place)
    f.ret()
    return f


# --- Python in between ---


@pytest.mark.parametrize("threads", [1, 2])
def test_python_calls_between_native_parts(threads: int) -> None:
    runtime.set_num_threads(threads)
    x = np.zeros(ITEMS, np.int64)

    def double() -> None:
        x[:] *= 2

    steps = [Step("add", ITEMS, 5), double, Step("add", ITEMS, 5), Step("add", ITEMS), double]
    run = build([add()], steps)
    run.run(addresses(x))
    assert (x == 8).all()
    assert len(run.times(addresses(x))) == 5


def test_an_exception_in_python_ends_the_run_and_harms_nothing() -> None:
    runtime.set_num_threads(2)
    x = np.zeros(ITEMS, np.int64)
    fails = [True]

    def fail() -> None:
        if fails[0]:
            raise KeyError("on purpose")

    run = build([add()], [Step("add", ITEMS, 1), fail, Step("add", ITEMS, 1)])
    with pytest.raises(KeyError, match="on purpose"):
        run.run(addresses(x))
    assert (x == 1).all()
    fails[0] = False
    run.run(addresses(x))
    assert (x == 3).all()


def test_a_program_may_run_another_and_change_the_number_of_threads() -> None:
    runtime.set_num_threads(2)
    x = np.zeros(ITEMS, np.int64)
    inner = build([add()], [Step("add", ITEMS, 1)])

    def call() -> None:
        inner.run(addresses(x))
        runtime.set_num_threads(3)

    run = build([add()], [Step("add", ITEMS, 1), call, Step("add", ITEMS, 1)])
    run.run(addresses(x))
    assert (x == 3).all()
    assert runtime.get_num_threads() == 3


def test_callers_on_several_threads() -> None:
    runtime.set_num_threads(2)
    steps = [Step("there", ITEMS, 3), Step("back", ITEMS, 5)] * 20
    run = build(mixing(), steps)
    outcomes: list[np.ndarray] = []

    def call() -> None:
        for _ in range(100):
            x, y = numbers(), np.zeros(ITEMS, np.int64)
            run.run(addresses(x, y))
            outcomes.append(x)

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(outcomes) == 400
    want = mixed(numbers(), 40)
    assert all(np.array_equal(x, want) for x in outcomes)


# --- times ---


@pytest.mark.parametrize("threads", [1, 2])
def test_times_of_steps(threads: int) -> None:
    runtime.set_num_threads(threads)
    run = build([spin("long", 20_000), spin("short", 200)], [Step("long", 8), Step("short", 8)] * 2)
    x = np.zeros(8)
    best = np.min([run.times(addresses(x)) for _ in range(20)], axis=0)
    assert best.shape == (4,)
    assert (best > 0).all()
    assert best[0] > 10 * best[1] and best[2] > 10 * best[3]


# --- lifetime ---


def test_programs_come_and_go_while_threads_are_late() -> None:
    runtime.set_num_threads(4)
    x = np.zeros(ITEMS, np.int64)
    where = addresses(x)
    for i in range(100):
        run = build([add(amount=i)], [Step("add", ITEMS, 1)] * 3)
        run.run(where)
        del run
    assert (x == 3 * sum(range(100))).all()


def test_code_is_freed_when_no_thread_uses_it() -> None:
    runtime.set_num_threads(2)
    run = build([add()], [Step("add", ITEMS, 1)])
    run.run(addresses(np.zeros(ITEMS, np.int64)))
    gone = []
    weakref.finalize(run._parts[0]._library, gone.append, True)  # type: ignore[union-attr]
    del run
    for _ in range(200):
        gc.collect()
        runtime.retire(None)
        if gone:
            break
        time.sleep(0.01)
    assert gone


def test_nothing_is_freed_while_a_thread_may_be_in_a_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:  # no worker: the test says where thread 1 is
        patch.setattr(threading.Thread, "start", lambda self: (_ for _ in ()).throw(RuntimeError))
        team = runtime.Team(2, runtime.native())
    inside = ctypes.c_int64.from_address(
        team.address + pool_ir.OWN + pool_ir.OWN_SIZE + pool_ir.INSIDE
    )
    monkeypatch.setattr(runtime, "_team", team)
    thing = np.zeros(3)
    gone = weakref.ref(thing)
    inside.value = 1
    assert not team.settled()
    runtime.retire(thing)
    del thing
    assert gone() is not None
    inside.value = 0
    assert team.settled()
    runtime.retire(None)
    assert gone() is None


def test_the_number_of_threads() -> None:
    for threads in (1, 2, 6, 3):
        runtime.set_num_threads(threads)
        assert runtime.get_num_threads() == threads
        x = np.zeros(ITEMS, np.int64)
        build([add()], [Step("add", ITEMS, 1)]).run(addresses(x))
        assert (x == 1).all()
        alive = [t for t in threading.enumerate() if t.name.startswith("toumei-")]
        assert len(alive) == threads - 1
    for wrong in (0, -1, 10_000):
        with pytest.raises(ValueError, match="threads must be from 1"):
            runtime.set_num_threads(wrong)
    for kind in (True, 2.0, "2"):
        with pytest.raises(TypeError, match="threads must be an int"):
            runtime.set_num_threads(kind)  # type: ignore[arg-type]


def test_one_thread_has_no_pool() -> None:
    runtime.set_num_threads(1)
    build([add()], [Step("add", ITEMS, 1)]).run(addresses(np.zeros(ITEMS, np.int64)))
    assert not [t for t in threading.enumerate() if t.name.startswith("toumei-")]


def test_a_system_without_threads_to_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime.set_num_threads(1)  # ends the pool
    runtime.set_num_threads(4)

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    x = np.zeros(ITEMS, np.int64)
    build([add()], [Step("add", ITEMS, 1)] * 10).run(addresses(x))
    assert (x == 10).all()


# --- fork, signals, exit ---


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # fork of a process with threads
def test_fork_then_run_in_parent_and_child() -> None:
    runtime.set_num_threads(2)
    run = build([add()], [Step("add", ITEMS, 1)] * 20)
    x = np.zeros(ITEMS, np.int64)
    run.run(addresses(x))
    child = os.fork()
    if child == 0:  # no pytest in here
        code = 1
        try:
            signal.alarm(20)
            for _ in range(50):
                run.run(addresses(x))
            team = runtime._team  # the child's own
            workers = [worker.is_alive() for worker in team._workers] if team else []
            code = 0 if (x == 51 * 20).all() and workers == [True] else 2
        finally:
            os._exit(code)
    for _ in range(50):
        run.run(addresses(x))
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert (x == 51 * 20).all()


@pytest.mark.skipif(sys.platform == "win32", reason="no timers here")
def test_interrupts_leave_the_pool_usable() -> None:
    runtime.set_num_threads(2)
    run = build([add()], [Step("add", ITEMS, 1)] * 20)
    x = np.zeros(ITEMS, np.int64)
    where = addresses(x)
    caught, before = 0, signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        for _ in range(30):
            signal.setitimer(signal.ITIMER_REAL, 0.003)
            try:
                for _ in range(1_000_000):
                    run.run(where)
            except KeyboardInterrupt:
                caught += 1
            assert (x == x[0]).all() and x[0] % 20 == 0  # runs are whole
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert caught == 30
    team = runtime._team
    assert team is not None and team.run(run._parts[0]._plan(2, False), where.ctypes.data)  # type: ignore


SCRIPT = """
import sys; sys.path.insert(0, {folder!r})
from test_runtime import *
runtime.set_num_threads({threads})
x = np.zeros(ITEMS, np.int64)
run = build([add()], [Step("add", ITEMS, 1)] * 20)
run.run(addresses(x))
assert (x == 20).all()
{more}
"""


def script(more: str, threads: int = 3) -> subprocess.CompletedProcess[str]:
    text = SCRIPT.format(folder=os.path.dirname(__file__), more=more, threads=threads)
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60)


def test_exit_with_the_pool_alive() -> None:
    done = script(
        "import atexit, time\n"
        "start = time.perf_counter()\n"
        "atexit.register(lambda: print('late' if time.perf_counter() - start > 5 else 'soon'))\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "soon\n", "")


def test_exit_while_workers_run_at_exit() -> None:
    done = script(
        "import atexit\n"
        "atexit.register(lambda: (run.run(addresses(x)), print(x.sum() // ITEMS)))\n"
        "atexit._run_exitfuncs()\n"  # now the pool has ended: the caller runs alone
        "run.run(addresses(x))\n"
        "print(x.sum() // ITEMS)\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "40\n60\n", "")


def test_exit_by_an_exception_and_within_a_daemon_thread() -> None:
    done = script(
        "def forever():\n"
        "    while True: run.run(addresses(x))\n"
        "threading.Thread(target=forever, daemon=True).start()\n"
        "time.sleep(0.2)\n"
        "raise SystemExit(3)\n"
    )
    assert (done.returncode, done.stderr) == (3, "")


def test_busy_neighbours_do_not_stall_the_steps() -> None:
    """With a busy process for each processor, two threads take no longer than they must.

    A barrier that spins or yields waits for whole time slices at every step: 2000 of them would
    take many seconds.
    """
    runtime.set_num_threads(2)
    run = build([spin("work", 2000)], [Step("work", 16, 1)] * 2000)
    x = np.zeros(16)
    busy = "import time\nend = time.time() + 20\nwhile time.time() < end: pass"
    neighbours = [subprocess.Popen([sys.executable, "-c", busy]) for _ in range(2)]
    try:
        runtime.set_num_threads(1)
        alone = min(timed(run, x) for _ in range(3))
        runtime.set_num_threads(2)
        together = min(timed(run, x) for _ in range(3))
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()
    assert together < 5 * alone


def timed(run: Program, x: np.ndarray) -> float:
    start = time.perf_counter()
    run.run(addresses(x))
    return time.perf_counter() - start


# --- other systems ---


@pytest.mark.parametrize("sleep", ["usleep", "futex"])
def test_the_ways_to_sleep(sleep: str) -> None:
    """Also the polling sleep that stands in where there is no futex; and no spinning before."""
    machine = runtime.this_machine()
    if machine.sleep != "futex" and sleep == "futex":
        pytest.skip("no futex here")
    native = runtime.native(machine._replace(sleep=sleep))._replace(spins=1)
    team = runtime.Team(3, native)
    run = build([add()], [Step("add", ITEMS, 2)] * 10)
    part = run._parts[0]
    assert isinstance(part, program._Native)
    x = np.zeros(ITEMS, np.int64)
    where = addresses(x)
    for _ in range(50):
        assert team.run(part._plan(3, False), where.ctypes.data)
        time.sleep(0.0005)
    team.stop()
    assert (x == 500).all()
    assert not any(worker.is_alive() for worker in team._workers)


MACHINES = [
    ("x86_64-pc-windows-msvc", pool_ir.Machine("x86", "Sleep", 0, 0)),
    ("aarch64-unknown-linux-gnu", pool_ir.Machine("aarch64", "futex", 98, 1)),
    ("arm64-apple-macosx", pool_ir.Machine("aarch64", "usleep", 0, 6)),
    ("riscv64-unknown-linux-gnu", pool_ir.Machine("", "futex", 98, 1)),
]


@pytest.mark.parametrize(("triple", "machine"), MACHINES, ids=[m[0] for m in MACHINES])
def test_the_runtime_compiles_for_other_systems(triple: str, machine: pool_ir.Machine) -> None:
    features = "+m,+a,+d" if triple.startswith("riscv") else ""
    target = Target("other", triple, "", features, 16, 32, True, True)
    text = jit.assembly(pool_ir.runtime_ir(machine), target)
    wanted = {"Sleep": "Sleep", "usleep": "usleep", "futex": "syscall"}[machine.sleep]
    assert wanted in text
    assert ("fpcr" in text.lower()) == (machine.processor == "aarch64")
    assert ("ldmxcsr" in text) == (machine.processor == "x86")
    for name in runtime._SIGNATURES:
        assert f"toumei_{name}" in text
