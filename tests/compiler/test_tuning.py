"""Timed choices of kernels: kept on disk, and the same bits as without them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from tests.compiler.test_matmul import Compiled, make, spec_of
from toumei.compiler import tuning
from toumei.compiler.llvm import cache, runtime
from toumei.compiler.llvm.matmul import MatmulSpec, plan
from toumei.compiler.llvm.target import Target, host
from toumei.compiler.tuning import fingerprint, tune, tuned_plan

SPECS = [
    MatmulSpec(100, 70, 90, (90, 1), (1, 90), (70, 1)),
    MatmulSpec(64, 96, 700, (1, 64), (96, 1), (96, 1)),
    MatmulSpec(40, 48, 33, (33, 1, 1320), (48, 1, 0), (48, 1, 1920), (5,), "double"),
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TOUMEI_CACHE", str(tmp_path))


def let_last_one_win(monkeypatch) -> None:
    """Let the last candidate of each product seem to be the fastest."""

    def times(trials, end):
        figures = [[1.0] * (len(t.plans) - 1) + [0.5] for t in trials]
        return [tuning.Measured(f, f) for f in figures]

    monkeypatch.setattr(tuning, "_times", times)


def table():
    (place,) = cache.folder().glob("products-*")
    return place


def test_what_is_found_is_kept(monkeypatch):
    assert [tuned_plan(s, host()) for s in SPECS] == [plan(s, host()) for s in SPECS]
    before = fingerprint()
    let_last_one_win(monkeypatch)
    found = tune(SPECS, host())
    assert {t.spec for t in found} == set(SPECS)
    assert all(tuned_plan(t.spec, host()) == t.plan != plan(t.spec, host()) for t in found)
    after = fingerprint()
    assert after != before and after == fingerprint()
    assert tune(SPECS, host()) == [], "known already"
    more = replace(SPECS[0], m=120)
    assert [t.spec for t in tune([more, *SPECS], host())] == [more]
    assert fingerprint() != after
    assert all(tuned_plan(t.spec, host()) == t.plan for t in found), "older entries stay"


def test_candidates_are_timed():
    found = tune(SPECS[:2], host(), seconds=0.5)
    for spec, chosen, before, after in found:
        assert 0 < after <= before < 1
        assert (after < before) == (chosen != plan(spec, host()))
        assert tuned_plan(spec, host()) == chosen


def test_tuned_products_have_the_same_bits(monkeypatch):
    rng = np.random.default_rng(1)
    let_last_one_win(monkeypatch)
    for ta, tb in ((False, False), (True, False), (False, True), (True, True)):
        a, b = make(rng, 90, 400, ta, np.float32), make(rng, 400, 110, tb, np.float32)
        spec = spec_of(a, b, np.empty((90, 110), np.float32))
        tune([spec], host())
        results = []
        for how in (plan(spec, host()), tuned_plan(spec, host())):
            results.append(np.full((90, 110), np.nan, np.float32))
            Compiled(spec, how)(a, b, results[-1])
        assert tuned_plan(spec, host()) != plan(spec, host())
        np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("harm", [lambda d: d[: len(d) // 2], lambda d: d[:-9] + b"000000000"])
def test_a_damaged_table_is_not_there(monkeypatch, harm):
    nothing = fingerprint()
    let_last_one_win(monkeypatch)
    tune(SPECS, host())
    table().write_bytes(harm(table().read_bytes()))
    assert fingerprint() == nothing
    assert [tuned_plan(s, host()) for s in SPECS] == [plan(s, host()) for s in SPECS]
    assert len(tune(SPECS, host())) == len(SPECS)


def test_entries_that_would_change_the_order_of_a_sum_are_left(monkeypatch):
    spec = SPECS[1]
    usual = plan(spec, host())
    for other in (
        replace(usual, chains=2 * usual.chains, unroll=2 * usual.chains),
        replace(usual, depth=112, span=224, chunks=4),
        replace(usual, form="dot", depth=spec.k),
    ):
        tuning._keep([tuning.Timing(spec, other, 1.0, 0.5)])
        assert tuned_plan(spec, host()) == usual
    fine = replace(usual, unroll=4 * usual.unroll)
    tuning._keep([tuning.Timing(spec, fine, 1.0, 0.5)])
    assert tuned_plan(spec, host()) == fine


def test_other_threads_and_targets_have_their_own(monkeypatch):
    let_last_one_win(monkeypatch)
    (timing,) = tune(SPECS[:1], host())
    threads = runtime.get_num_threads()
    runtime.set_num_threads(threads + 1)
    try:
        assert tuned_plan(SPECS[0], host()) == plan(SPECS[0], host()) != timing.plan
    finally:
        runtime.set_num_threads(threads)
    generic = Target.named("generic")
    assert tune(SPECS, generic) == [], "it can't be timed for another processor"
    assert tuned_plan(SPECS[0], generic) == plan(SPECS[0], generic)


def test_small_products_are_left():
    nothing = fingerprint()
    assert tune([MatmulSpec(8, 8, 8, (8, 1), (8, 1), (8, 1))], host()) == []
    assert fingerprint() == nothing


def test_memory_of_operands():
    spec = MatmulSpec(3, 4, 5, (-5, 1, 100), (4, 1, 0), (4, 1, 12), (2,))
    a, b, c = tuning._spans(spec)
    assert a == (-40, (100 + 4 + 1) * 4) and b == (0, 80) and c == (0, 96)
