"""What the threads of the pool run, as LLVM IR: no Python is involved once they are inside.

A *plan* is a table of steps; a step is a kernel and its chunks of work items.  Every thread goes
through the whole table.  Of each step it first takes the chunks of its own range (the same rows
in each step, so they are still in its cache), then what is left of the other threads' ranges.

No step waits for a thread, only for work: `done` counts the chunks that are finished, ever since
the pool was made, and a step begins when all chunks before it are counted.  A thread that sleeps
or is kept from its core holds nothing up: the others do its share, and when it comes it finds
everything taken.  (An ordinary barrier would wait for it to arrive.)

For that, what is taken of a range is one number, `ticket << 16 | chunks taken`, where the ticket
numbers the steps ever run.  A smaller ticket means that nothing is taken yet, a larger one that
the step is long over; so nothing has ever to be reset, and a late thread can do no harm.  48 bits
of ticket last nine years at a step per microsecond.

Layout of the shared memory and of a plan: the constants below, in bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from .ir import Function, Value, module

# The shared memory.  What one thread writes often has a pair of cache lines for itself.
GO = 0  # changes with every run: 2 · runs; odd while the job is being written
JOB = 128  # what to run, see below
DONE = 256  # chunks finished, ever
WAITING = 384  # threads that sleep until DONE grows
IDLE = 392  # workers that sleep until GO changes
THREADS, SPINS, STOP = 512, 520, 528  # hardly ever written
BUSY, TICKET = 640, 648  # whether a run is on; steps ever run
OWN = 768  # then, for every thread, OWN_SIZE bytes:
TAKEN, INSIDE, OWN_JOB = 0, 64, 128  # … of its range; whether it may be in a plan; its copy of JOB
OWN_SIZE = 256

# A job: a plan and what belongs to this run.
PLAN, BUFFERS, BASE, FIRST, TIMES = 0, 8, 16, 24, 32  # BASE: DONE, FIRST: TICKET at the start
JOB_FIELDS = (PLAN, BUFFERS, BASE, FIRST, TIMES)

# A plan: a head, then a row for each step, of 16 numbers each.
COUNT, SCRATCH, STRIDE, HELPERS, TOTAL = 0, 8, 16, 24, 32  # TOTAL: chunks of all steps
KERNEL, ITEMS, CHUNK, CHUNKS, SHARE, WAIT, LAST, SERIAL, FIRST_BUFFER = range(0, 72, 8)
ROW = 128
# FIRST_BUFFER: where in the array of buffers the step's own begin, in bytes.
# WAIT: chunks that must be done before; LAST: chunks done when the steps up to the next wait are.
TAKEN_BITS = 16  # so a range has fewer than 2**16 chunks

FUTEX_WAIT, FUTEX_WAKE = 128, 129  # between threads of one process
EVERYBODY = 2**31 - 1


class Machine(NamedTuple):
    """What the runtime must know of the system that it runs on.

    Args:
        processor: "x86", "aarch64", or "" for another one.
        sleep: how to sleep and wake: "futex"; else a polling sleep, "usleep" or "Sleep".
        futex: the number of the system call.
        clock: the number of the steady clock for clock_gettime; 0: there is none.
    """

    processor: str
    sleep: str
    futex: int = 0
    clock: int = 1


def i64(value: int) -> Value:
    """Return a constant of 64 bits."""
    return Value(str(value), "i64")


# --- the processor ---


def _pause(f: Function, machine: Machine) -> None:
    """Tell the processor that this is a waiting loop."""
    if machine.processor == "x86":
        f.call("llvm.x86.sse2.pause", "void")
    elif machine.processor == "aarch64":
        f.call("llvm.aarch64.isb", "void", Value("15", "i32"))  # "yield" does nothing on most


def _flush_denormals(f: Function, machine: Machine) -> Value | None:
    """Make float results and operands too small for full precision zero; return the old mode.

    They cost a hundred times as much as ordinary numbers.  Processors that aren't named here keep
    them.
    """
    if machine.processor == "x86":
        old = f.local(Value("0", "i32"))
        f.call("llvm.x86.sse.stmxcsr", "void", old)
        mode = f.bits("or", f.load(old, "i32"), 0x8040)  # flush to zero, denormals are zero
        f.call("llvm.x86.sse.ldmxcsr", "void", f.local(mode))
        return old
    if machine.processor == "aarch64":
        old = f.call("llvm.aarch64.get.fpcr", "i64")
        f.call("llvm.aarch64.set.fpcr", "void", f.bits("or", old, 1 << 24))
        return old
    return None


def _restore_denormals(f: Function, machine: Machine, old: Value | None) -> None:
    if old is not None and machine.processor == "x86":
        f.call("llvm.x86.sse.ldmxcsr", "void", old)
    elif old is not None:
        f.call("llvm.aarch64.set.fpcr", "void", old)


# --- sleeping ---


def sleep(machine: Machine) -> Function:
    """`sleep(word, value)`: sleep until woken, unless the word's low half is no longer `value`."""
    f = Function("toumei_sleep", [("word", "ptr"), ("value", "i64")], private=True)
    word, value = f.args
    if machine.sleep == "futex":
        low = f.cast("trunc", value, "i32")
        flags, null = Value(str(FUTEX_WAIT), "i32"), Value("null", "ptr")
        f.call(
            "syscall", "i64", i64(machine.futex), word, flags, low, null, null, Value("0", "i32")
        )
    elif machine.sleep == "usleep":
        f.call("usleep", "i32", Value("50", "i32"))  # microseconds; the caller looks again
    else:
        f.call("Sleep", "void", Value("1", "i32"))  # a millisecond, the least that Windows has
    f.ret()
    return f


def wake(machine: Machine) -> Function:
    """`wake(word, count)`: wake so many of those that sleep on a word."""
    f = Function("toumei_wake", [("word", "ptr"), ("count", "i32")], private=True)
    if machine.sleep == "futex":  # the other ways wake by themselves
        word, count = f.args
        flags, null, zero = Value(str(FUTEX_WAKE), "i32"), Value("null", "ptr"), Value("0", "i32")
        f.call("syscall", "i64", i64(machine.futex), word, flags, count, null, null, zero)
    f.ret()
    return f


def _wait(
    f: Function, machine: Machine, word: Value, sleepers: Value, over: Callable[[Value], Value]
) -> None:
    """Wait until `over` holds for a word in memory: spin first, then sleep, counted as sleeper."""
    turn = f.local(i64(0))
    spins = f.load(f.at(f.args[0], SPINS), "i64")
    with f.repeat() as leave:
        leave(over(f.atomic_load(word)))
        leave(f.compare("sge", f.load(turn, "i64"), spins))
        f.store(f.add(f.load(turn, "i64"), 1), turn)
        _pause(f, machine)
    with f.repeat() as leave:
        leave(over(f.atomic_load(word)))
        f.atomic_add(sleepers, 1)  # from here on, who changes the word sees that somebody sleeps
        seen = f.atomic_load(word, order="seq_cst")
        with f.when(f.bits("xor", over(seen), True)):
            f.call("toumei_sleep", "void", word, seen)
        f.atomic_add(sleepers, -1)


def wait_done(machine: Machine) -> Function:
    """`wait_done(team, target)`: wait until `target` chunks are done."""
    f = Function("toumei_wait_done", [("team", "ptr"), ("target", "i64")], private=True)
    team, target = f.args
    _wait(f, machine, f.at(team, DONE), f.at(team, WAITING), lambda x: f.compare("sge", x, target))
    f.ret()
    return f


def wait_go(machine: Machine) -> Function:
    """`wait_go(team, seen)`: wait until GO is no longer `seen`."""
    f = Function("toumei_wait_go", [("team", "ptr"), ("seen", "i64")], private=True)
    team, seen = f.args
    _wait(f, machine, f.at(team, GO), f.at(team, IDLE), lambda x: f.compare("ne", x, seen))
    f.ret()
    return f


# --- steps ---


def finish(machine: Machine) -> Function:
    """`finish(team, chunks, last)`: count chunks as done; wake who waits for `last` of them."""
    args = [("team", "ptr"), ("chunks", "i64"), ("last", "i64")]
    f = Function("toumei_finish", args, private=True)
    team, chunks, last = f.args
    now = f.add(f.atomic_add(f.at(team, DONE), chunks), chunks)
    with f.when(f.compare("sge", now, last)):
        asleep = f.atomic_load(f.at(team, WAITING), order="seq_cst")
        with f.when(f.compare("ne", asleep, 0)):
            f.call("toumei_wake", "void", f.at(team, DONE), Value(str(EVERYBODY), "i32"))
    f.ret()
    return f


def take(machine: Machine) -> Function:
    """`take(taken, fresh, limit)`: take the next chunk of a range; -1 if there is none."""
    args = [("taken", "ptr"), ("fresh", "i64"), ("limit", "i64")]
    f = Function("toumei_take", args, "i64", private=True)
    taken, fresh, limit = f.args  # fresh: the step's ticket, with no chunk taken
    result = f.local(i64(-1))
    with f.repeat() as leave:
        seen = f.atomic_load(taken)
        stale = f.compare("slt", seen, fresh)  # from an earlier step
        start = f.select(stale, fresh, seen)
        number = f.sub(start, fresh)
        leave(f.compare("sge", number, limit))
        won = f.atomic_replace(taken, seen, f.add(start, 1))
        with f.when(won):
            f.store(number, result)
        leave(won)
    f.ret(f.load(result, "i64"))
    return f


def _row(f: Function, row: Value, field: int) -> Value:
    return f.load(f.at(row, field), "i64")


def _call_kernel(f: Function, row: Value, begin: Value, end: Value, more: list[Value]) -> None:
    """Call a step's kernel on a range of items; `more` = [buffers, the thread's memory]."""
    kernel = f.load(f.at(row, KERNEL), "ptr")
    buffers = f.at(more[0], _row(f, row, FIRST_BUFFER))
    f.call_at(kernel, buffers, begin, end, more[1])


def range_of(machine: Machine) -> Function:
    """`range(team, row, owner, fresh, buffers, scratch)`: do what is left of a thread's range.

    Returns how many chunks that were.
    """
    args = [("team", "ptr"), ("row", "ptr"), ("owner", "i64"), ("fresh", "i64")]
    args += [("buffers", "ptr"), ("scratch", "ptr")]
    f = Function("toumei_range", args, "i64", private=True)
    team, row, owner, fresh, buffers, scratch = f.args
    taken = f.at(f.at(team, OWN + TAKEN), f.mul(owner, OWN_SIZE))
    share, items, chunk = (_row(f, row, field) for field in (SHARE, ITEMS, CHUNK))
    first = f.mul(owner, share)
    left = f.sub(_row(f, row, CHUNKS), first)
    limit = f.select(f.compare("slt", left, share), left, share)  # the last ranges may be short
    mine = f.local(i64(0))
    with f.repeat() as leave:
        number = f.call("toumei_take", "i64", taken, fresh, limit)
        leave(f.compare("slt", number, 0))
        begin = f.mul(f.add(first, number), chunk)
        full = f.add(begin, chunk)
        end = f.select(f.compare("slt", full, items), full, items)
        _call_kernel(f, row, begin, end, [buffers, scratch])
        f.store(f.add(f.load(mine, "i64"), 1), mine)
    f.ret(f.load(mine, "i64"))
    return f


def clock(machine: Machine) -> Function:
    """`clock()`: nanoseconds, from the system's steady clock."""
    f = Function("toumei_clock", [], "i64", private=True)
    if not machine.clock:
        f.ret(i64(0))
        return f
    time = f.local(Value("zeroinitializer", "<2 x i64>"))
    f.call("clock_gettime", "i32", Value(str(machine.clock), "i32"), time)
    seconds, nanoseconds = f.load(time, "i64"), f.load(f.at(time, 8), "i64")
    f.ret(f.add(f.mul(seconds, 1_000_000_000), nanoseconds))
    return f


def _stamp(f: Function, times: Value, index: Value | int) -> None:
    """Write the time into times[index], if times are wanted.

    Whoever finishes a share of a step stamps the step before counting the share as done, so the
    last stamp is that of the last share, and is there when the run is over.
    """
    with f.when(f.compare("ne", times, Value("null", "ptr"))):
        f.store(f.call("toumei_clock", "i64"), f.at(times, index, "i64"))


def steps(machine: Machine) -> Function:
    """`steps(team, thread, job)`: go through a plan as one of several threads."""
    f = Function("toumei_steps", [("team", "ptr"), ("thread", "i64"), ("job", "ptr")], private=True)
    team, thread, job = f.args
    plan, buffers, times = (f.load(f.at(job, field), "ptr") for field in (PLAN, BUFFERS, TIMES))
    base, ticket = (f.load(f.at(job, field), "i64") for field in (BASE, FIRST))
    stride = f.load(f.at(plan, STRIDE), "i64")
    scratch = f.at(f.load(f.at(plan, SCRATCH), "ptr"), f.mul(thread, stride))
    with f.loop(0, f.load(f.at(plan, COUNT), "i64")) as loop:
        row = f.at(f.at(plan, ROW), f.mul(loop.index, ROW))
        last = f.add(_row(f, row, LAST), base)
        with f.when(_takes_part(f, team, thread, row, last)):
            f.call("toumei_wait_done", "void", team, f.add(_row(f, row, WAIT), base))
            following = f.add(loop.index, 1)
            serial = f.compare("ne", _row(f, row, SERIAL), 0)
            with f.when(serial):  # not through TAKEN: the others may be further on already
                _call_kernel(f, row, i64(0), _row(f, row, ITEMS), [buffers, scratch])
                _stamp(f, times, following)
                f.call("toumei_finish", "void", team, i64(1), last)
            with f.when(f.bits("xor", serial, 1)):
                fresh = f.bits("shl", f.add(ticket, loop.index), TAKEN_BITS)
                values = (team, thread, row, fresh, last, buffers, scratch, times, following)
                f.call("toumei_step", "void", *values)
    f.ret()
    return f


def _takes_part(f: Function, team: Value, thread: Value, row: Value, last: Value) -> Value:
    """Whether a step concerns a thread: not if it came too late; serial ones are the caller's."""
    on = f.compare("slt", f.atomic_load(f.at(team, DONE)), last)
    shared = f.compare("eq", _row(f, row, SERIAL), 0)
    return f.bits("and", on, f.bits("or", shared, f.compare("eq", thread, 0)))


def step(machine: Machine) -> Function:
    """`step(team, thread, row, fresh, last, buffers, scratch, times, following)`: help with one."""
    args = [("team", "ptr"), ("thread", "i64"), ("row", "ptr"), ("fresh", "i64"), ("last", "i64")]
    args += [("buffers", "ptr"), ("scratch", "ptr"), ("times", "ptr"), ("following", "i64")]
    f = Function("toumei_step", args, private=True)
    team, thread, row, fresh, last, buffers, scratch, times, following = f.args
    threads = f.load(f.at(team, THREADS), "i64")
    mine = f.local(i64(0))
    with f.loop(0, threads) as loop:
        after = f.add(thread, loop.index)
        over = f.compare("sge", after, threads)
        owner = f.select(over, f.sub(after, threads), after)
        values = (team, row, owner, fresh, buffers, scratch)
        count = f.call("toumei_range", "i64", *values)
        f.store(f.add(f.load(mine, "i64"), count), mine)
    with f.when(f.compare("ne", f.load(mine, "i64"), 0)):
        _stamp(f, times, following)
        f.call("toumei_finish", "void", team, f.load(mine, "i64"), last)
    f.ret()
    return f


# --- what Python calls ---


def work(machine: Machine) -> Function:
    """`work(team, thread)`: be a worker, until STOP."""
    f = Function("toumei_work", [("team", "ptr"), ("thread", "i64")])
    team, thread = f.args
    _flush_denormals(f, machine)
    own = f.at(f.at(team, OWN), f.mul(thread, OWN_SIZE))
    inside, job = f.at(own, INSIDE), f.at(own, OWN_JOB)
    seen = f.local(i64(0))
    with f.repeat() as leave:
        f.call("toumei_wait_go", "void", team, f.load(seen, "i64"))
        leave(f.compare("ne", f.atomic_load(f.at(team, STOP)), 0))
        f.atomic_store(i64(1), inside, "seq_cst")  # now no plan is freed that GO still names
        before = f.atomic_load(f.at(team, GO), order="seq_cst")
        for field in JOB_FIELDS:
            f.store(f.atomic_load(f.at(team, JOB + field)), f.at(job, field))
        f.fence("acquire")
        same = f.compare("eq", before, f.atomic_load(f.at(team, GO), order="seq_cst"))
        even = f.compare("eq", f.bits("and", before, 1), 0)
        with f.when(f.bits("and", same, even)):  # the copy is of one job, and whole
            f.store(before, seen)
            f.call("toumei_steps", "void", team, thread, job)
        f.atomic_store(i64(0), inside, "seq_cst")
    f.ret()
    return f


def publish(machine: Machine) -> Function:
    """`publish(team, job)`: tell the workers of a job; those that are awake see it at once."""
    f = Function("toumei_publish", [("team", "ptr"), ("job", "ptr")], private=True)
    team, job = f.args
    go = f.at(team, GO)
    old = f.load(go, "i64")  # only who holds BUSY writes it
    f.atomic_store(f.add(old, 1), go, "seq_cst")
    for field in JOB_FIELDS:
        f.atomic_store(f.load(f.at(job, field), "i64"), f.at(team, JOB + field))
    f.atomic_store(f.add(old, 2), go, "seq_cst")
    f.ret()
    return f


def run(machine: Machine) -> Function:
    """`run(team, plan, buffers, times)`: run a plan; return 0, undone, if the pool is in use."""
    args = [("team", "ptr"), ("plan", "ptr"), ("buffers", "ptr"), ("times", "ptr")]
    f = Function("toumei_run", args, "i64")
    team, plan, buffers, times = f.args
    won = f.local(Value("false", "i1"))
    f.store(f.atomic_replace(f.at(team, BUSY), i64(0), i64(1)), won)
    with f.when(f.load(won, "i1")):
        mode = _flush_denormals(f, machine)
        f.call("toumei_lead", "void", team, plan, buffers, times)
        _restore_denormals(f, machine, mode)
        f.atomic_store(i64(0), f.at(team, BUSY), "seq_cst")
    f.ret(f.cast("zext", f.load(won, "i1"), "i64"))
    return f


def lead(machine: Machine) -> Function:
    """`lead(team, plan, buffers, times)`: give the others a plan and go through it with them."""
    args = [("team", "ptr"), ("plan", "ptr"), ("buffers", "ptr"), ("times", "ptr")]
    f = Function("toumei_lead", args, private=True)
    team, plan, buffers, times = f.args
    job = f.at(team, OWN + OWN_JOB)
    base, ticket = f.atomic_load(f.at(team, DONE)), f.load(f.at(team, TICKET), "i64")
    count = f.load(f.at(plan, COUNT), "i64")
    f.store(f.add(ticket, count), f.at(team, TICKET))
    values = (plan, buffers, base, ticket, times)
    for field, value in zip(JOB_FIELDS, values, strict=True):
        f.store(value, f.at(job, field))
    _stamp(f, times, 0)  # before a worker can be at the first step
    helpers = f.load(f.at(plan, HELPERS), "i64")
    with f.when(f.compare("ne", helpers, 0)):
        f.call("toumei_publish", "void", team, job)
        asleep = f.atomic_load(f.at(team, IDLE), order="seq_cst")
        with f.when(f.compare("ne", asleep, 0)):
            f.call("toumei_wake", "void", f.at(team, GO), f.cast("trunc", helpers, "i32"))
    f.call("toumei_steps", "void", team, i64(0), job)
    f.call("toumei_wait_done", "void", team, f.add(f.load(f.at(plan, TOTAL), "i64"), base))
    f.ret()
    return f


def solo(machine: Machine) -> Function:
    """`solo(plan, buffers, times)`: run a plan on this thread alone, each step in one piece."""
    f = Function("toumei_solo", [("plan", "ptr"), ("buffers", "ptr"), ("times", "ptr")])
    plan, buffers, times = f.args
    mode = _flush_denormals(f, machine)
    count, scratch = f.load(f.at(plan, COUNT), "i64"), f.load(f.at(plan, SCRATCH), "ptr")
    _stamp(f, times, 0)
    with f.loop(0, count) as loop:
        row = f.at(f.at(plan, ROW), f.mul(loop.index, ROW))
        _call_kernel(f, row, i64(0), _row(f, row, ITEMS), [buffers, scratch])
        _stamp(f, times, f.add(loop.index, 1))
    _restore_denormals(f, machine, mode)
    f.ret()
    return f


def settle(machine: Machine) -> Function:
    """`settle(team, empty)`: return 1 if no worker can be in, or get into, a plan run so far.

    0 means that one may be, or that the pool is in use: ask again later.
    """
    f = Function("toumei_settle", [("team", "ptr"), ("empty", "ptr")], "i64")
    team, empty = f.args
    clear = f.local(i64(0))
    with f.when(f.atomic_replace(f.at(team, BUSY), i64(0), i64(1))):
        job = f.at(team, OWN + OWN_JOB)
        f.store(empty, f.at(job, PLAN))
        f.call("toumei_publish", "void", team, job)
        f.store(i64(1), clear)
        with f.loop(1, f.load(f.at(team, THREADS), "i64")) as loop:
            own = f.at(f.at(team, OWN + INSIDE), f.mul(loop.index, OWN_SIZE))
            outside = f.compare("eq", f.atomic_load(own, order="seq_cst"), 0)
            f.store(f.select(outside, f.load(clear, "i64"), 0), clear)
        f.atomic_store(i64(0), f.at(team, BUSY), "seq_cst")
    f.ret(f.load(clear, "i64"))
    return f


def stop(machine: Machine) -> Function:
    """`stop(team)`: make the workers leave; they are gone when their threads have ended."""
    f = Function("toumei_stop", [("team", "ptr")])
    (team,) = f.args
    f.atomic_store(i64(1), f.at(team, STOP), "seq_cst")
    f.atomic_add(f.at(team, GO), 2)
    f.call("toumei_wake", "void", f.at(team, GO), Value(str(EVERYBODY), "i32"))
    f.ret()
    return f


def pauses(machine: Machine) -> Function:
    """`pauses(count)`: a waiting loop of so many turns, to find out how long they take."""
    f = Function("toumei_pauses", [("count", "i64")])
    place = f.local(i64(0))
    with f.loop(0, f.args[0]):
        f.atomic_load(place)
        _pause(f, machine)
    f.ret()
    return f


PARTS = (sleep, wake, wait_done, wait_go, finish, take, range_of, clock, step, steps, publish)
ENTRIES = (work, run, solo, settle, stop, pauses)


def runtime_ir(machine: Machine) -> str:
    """Return the whole runtime as a module."""
    return module([make(machine) for make in (*PARTS, lead, *ENTRIES)])
