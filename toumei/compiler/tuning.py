"""Timed choices of how matrix products are computed, kept on disk.

    tune(specs, target)                # times a few candidates of each, keeps the fastest
    how = tuned_plan(spec, target)     # what was found so, or else the heuristic's choice

Tuning changes how fast a product is, never a bit of it: the candidates all add up in the same
order (see llvm/matmul_candidates.py), and what the table says is checked for that once more.

The table is a file among those of the cache: JSON behind a mark and a digest, so that a damaged
one counts as not there.  There is one for each processor, number of threads and version of the
kernels.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from .llvm import cache, jit, runtime
from .llvm.ir import SIZES, Function, module
from .llvm.matmul import MatmulSpec, Plan, emit, plan
from .llvm.matmul_candidates import candidates, same_bits
from .llvm.program import Program, Step
from .llvm.target import Target, host

LEAST = 1 << 18  # multiplications: below, a product takes microseconds
GAIN = 0.97  # of the heuristic's time: what is not clearly faster is noise
ROUNDS = 12  # runs of a candidate, before those that are far behind are left out
KERNEL = 0.040  # seconds that one takes to be compiled, about
LIMIT = 1000  # entries; the oldest go first

_Entry: TypeAlias = list[Any]  # a plan's fields but the target


class Timing(NamedTuple):
    """What tuning found for a product: seconds of the heuristic's plan and of the fastest."""

    spec: MatmulSpec
    plan: Plan
    before: float
    after: float


# --- looking up ----------------------------------------------------------------------------------


def tuned_plan(spec: MatmulSpec, target: Target) -> Plan:
    """Return the fastest known way to compute a product: the same bits as the heuristic's."""
    usual = plan(spec, target)
    entry = _table().get(_key(spec, target))
    found = None if entry is None else _from_entry(entry, target)
    return found if found is not None and same_bits(usual, found) else usual


def fingerprint() -> str:
    """Return a text that differs when what `tuned_plan` returns differs: that of the whole table.

    It goes into the key of a compiled program.
    """
    return hashlib.sha256(cache.load(_name(runtime.get_num_threads())) or b"").hexdigest()


def _table() -> dict[str, _Entry]:
    """Return the entries of this machine; none if the file is not there or damaged."""
    return _parsed(cache.load(_name(runtime.get_num_threads())) or b"{}")


@functools.lru_cache(maxsize=4)
def _parsed(data: bytes) -> dict[str, _Entry]:
    try:
        entries = json.loads(data)
    except ValueError:
        return {}
    return entries if isinstance(entries, dict) else {}


def _key(spec: MatmulSpec, target: Target) -> str:
    sizes = f"{spec.m} {spec.n} {spec.k} {spec.batch}"
    return f"{target.name} {spec.dtype} {sizes} {spec.a} {spec.b} {spec.c}"


@functools.cache
def _name(threads: int) -> str:
    """Return the table's name: of this processor, these kernels and so many threads."""
    here = Path(__file__).parent / "llvm"
    h = hashlib.sha256(f"{host()} {_model()} {threads}".encode())
    for path in [*sorted(here.glob("matmul*.py")), here / "ir.py"]:
        h.update(path.read_bytes())
    return f"products-{h.hexdigest()[:32]}"


def _model() -> str:
    """Return the processor's name, as precisely as the system tells it."""
    import platform

    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text()
        return "\n".join(dict.fromkeys(x for x in text.splitlines() if x.startswith("model")))
    return platform.processor()


def _to_entry(how: Plan) -> _Entry:
    return [getattr(how, f.name) for f in fields(how)[1:]]


def _from_entry(entry: _Entry, target: Target) -> Plan | None:
    """Return the plan that an entry stands for; None if it is none."""
    try:
        form, rows, vectors, block, *rest = entry
        return Plan(target, form, rows, vectors, (block[0], block[1]), *rest)
    except (TypeError, ValueError, IndexError):
        return None


def _keep(found: Sequence[Timing]) -> None:
    """Add what was found to the table."""
    made = {_key(t.spec, t.plan.target): _to_entry(t.plan) for t in found}
    entries = {k: v for k, v in _table().items() if k not in made} | made
    recent = dict(list(entries.items())[-LIMIT:])
    cache.save(_name(runtime.get_num_threads()), json.dumps(recent).encode())


# --- timing --------------------------------------------------------------------------------------


def tune(specs: Iterable[MatmulSpec], target: Target, seconds: float = 3.0) -> list[Timing]:
    """Time some candidates for products that the table doesn't have yet, and keep the fastest.

    Args:
        specs: the products of a step; small ones are left as they are.
        target: the processor; only this machine's own is tuned for.
        seconds: about how long it may take, compiling included.
    """
    table = _table()
    wanted = [s for s in dict.fromkeys(specs) if s.work >= LEAST and _key(s, target) not in table]
    if not wanted or target != host():
        return []
    end = time.perf_counter() + seconds
    trials = _trials(wanted, target, int(seconds * 0.6 / KERNEL))
    found = list(_judged(trials, _times(trials, end)))
    _keep(found)
    return found


class Trial(NamedTuple):
    """A product and the plans to be timed for it; the heuristic's is the first."""

    spec: MatmulSpec
    plans: list[Plan]


def _trials(specs: Sequence[MatmulSpec], target: Target, kernels: int) -> list[Trial]:
    """Share out kernels among products: some for each, more for those with much work."""
    specs = sorted(specs, key=lambda s: -s.work)
    all_work = sum(math.sqrt(s.work) for s in specs)
    shares = [max(2, min(10, round(kernels * math.sqrt(s.work) / all_work))) for s in specs]
    return [Trial(s, candidates(s, target, n)) for s, n in zip(specs, shares, strict=True)]


def _compiled(trials: Sequence[Trial]) -> tuple[jit.Library, list[list[list[Step]]]]:
    """Return the kernels of all plans, in one module, and the steps of each plan of each trial."""
    functions: list[Function] = []
    steps: list[list[list[Step]]] = []
    for i, (spec, plans) in enumerate(trials):
        steps.append([])
        for j, how in enumerate(plans):
            made = emit(f"trial{i}_{j}", spec, how)
            functions += made
            sizes = zip(made, how.items(spec), strict=True)
            steps[i].append([Step(f.name, n, first=4 * i) for f, n in sizes])
    names = [f.name for f in functions]
    return jit.Library(jit.compile_ir(module(functions)), names), steps


class Measured(NamedTuple):
    """What was measured of a trial.

    Args:
        least: the shortest time of each plan, in seconds.
        ratios: of each plan's time to the first plan's.
    """

    least: list[float]
    ratios: list[float]


def _times(trials: Sequence[Trial], end: float) -> list[Measured]:
    """Time the plans of all trials.

    All run one after the other, again and again.  Each is compared to the first plan of its trial
    in the same round, moments before: what disturbs the machine for a while falls on both.  Plans
    that are far behind are left out after some rounds.
    """
    library, steps = _compiled(trials)
    memory, table = _memory(trials)
    runs: list[list[list[tuple[float, float]]]] = [[[] for _ in t.plans] for t in trials]
    for left, allowed in ((3, math.inf), (2, 1.1), (1, 1.0)):
        chosen = [
            [j for j, pairs in enumerate(each) if j == 0 or _ratio(pairs) < allowed]
            for each in runs
        ]
        order = [steps[i][j] for i, js in enumerate(chosen) for j in js]
        program = Program(library, [s for each in order for s in each])
        until = time.perf_counter() + (end - time.perf_counter()) / left
        for n in range(ROUNDS):
            taken = iter(program.times(table))
            for i, js in enumerate(chosen):
                now = [sum(next(taken) for _ in steps[i][j]) for j in js]
                for j, t in zip(js, now, strict=True):
                    runs[i][j].append((t, max(now[0], 1e-9)))
            if n >= 2 and time.perf_counter() > until:
                break
    del memory
    return [
        Measured([min(pairs)[0] for pairs in each], [_ratio(pairs) for pairs in each])
        for each in runs
    ]


def _ratio(pairs: Sequence[tuple[float, float]]) -> float:
    """Return the median of ratios; 0 where there are none yet."""
    return float(np.median([x / y for x, y in pairs])) if pairs else 0.0


def _memory(trials: Sequence[Trial]) -> tuple[list[Any], np.ndarray[Any, Any]]:
    """Return memory for the operands of all trials, which share it, and the kernels' table."""
    needs: list[tuple[int, ...]] = []
    starts: list[list[int]] = []
    for spec, plans in trials:
        spans = list(_spans(spec))
        work = max(how.workspace(spec) for how in plans)
        needs.append((*(high - low for low, high in spans), work))
        starts.append([-low for low, _ in spans] + [0])
    made = [runtime.aligned(max(sizes) + 128) for sizes in zip(*needs, strict=True)]
    for memory, _ in made[:2]:  # A and B: 1.5 and 1.1875, whichever the type
        memory[:] = 0x3F
    table = [address + s for row in starts for (_, address), s in zip(made, row, strict=True)]
    return made, np.array(table, np.int64)


def _spans(spec: MatmulSpec) -> Iterator[tuple[int, int]]:
    """Yield where each operand's memory begins and ends, in bytes from its first element."""
    shapes = ((spec.m, spec.k), (spec.k, spec.n), (spec.m, spec.n))
    for shape, strides in zip(shapes, (spec.a, spec.b, spec.c), strict=True):
        ends = [(n - 1) * s for n, s in zip((*shape, *spec.batch), strides, strict=True)]
        size = SIZES[spec.dtype]
        low, high = sum(min(0, e) for e in ends), sum(max(0, e) for e in ends)
        yield low * size, (high + 1) * size


def _judged(trials: Sequence[Trial], measured: Sequence[Measured]) -> Iterator[Timing]:
    """Yield the fastest plan of each trial; the heuristic's, where none is clearly faster."""
    for (spec, plans), (least, ratios) in zip(trials, measured, strict=True):
        best = min(range(len(plans)), key=ratios.__getitem__)
        best = best if ratios[best] < GAIN and least[best] < least[0] else 0
        yield Timing(spec, plans[best], least[0], least[best])
