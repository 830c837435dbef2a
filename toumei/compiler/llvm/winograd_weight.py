"""The gradient of the weight by Winograd: products add up over all tiles, then are transformed.

A first kernel adds up the products of each chunk of units and transforms the sums back; a second
one adds up the chunks' results in their order, and turns them from lanes = channels of y to the
order of the weight in memory.
"""

from __future__ import annotations

from .integers import smaller, smaller_of, tail_mask
from .ir import Function, Value
from .kernel import kernel_function
from .matmul import Epilogue
from .matmul_tile import transpose_store
from .winograd_math import POINTS, STEP
from .winograd_plan import SIZE, Plan
from .winograd_tiles import Loader, Writer, add_products, clear, fetch, scratch_parts, square


def chunks(name: str, plan: Plan) -> Function:
    """Write the kernel of the chunks: each one's part of the gradient goes to the workspace."""
    f = kernel_function(name, scratch=True)
    w = Writer(f, plan)
    _, begin, end, scratch = f.args
    parts = scratch_parts(w, scratch)
    with f.loop(begin, end) as items:
        clear(f, parts["sums"], plan.weights.size)
        first = f.udiv(f.mul(items.index, plan.units), plan.chunks)
        last = f.udiv(f.mul(f.add(items.index, 1), plan.units), plan.chunks)
        with f.loop(first, last, plan.group, nonempty=True) as blocks:
            stop = smaller_of(f, f.add(blocks.index, plan.group), last)
            block(w, blocks.index, stop, parts)
        bring_back(w, parts["sums"], w.at(f.buffer(3), f.mul(items.index, plan.part)))
    f.ret()
    return f


def block(w: Writer, first: Value, last: Value, parts: dict[str, Value]) -> None:
    """Write the transformation of a block's units, and their products."""
    plan = w.plan
    x = Loader(w, plan.source, POINTS, plan.padding, parts)
    gradient = Loader(w, plan.result, STEP, (0, 0), parts)
    count = x.load(first, last, parts["source"], plan.sources)
    gradient.load(first, last, parts["result"], plan.results)
    ahead = [fetch(w, image, last) for image in (plan.source, plan.result)]
    add_products(w, parts["source"], parts["result"], parts["sums"], count, ahead)


def bring_back(w: Writer, sums: Value, to: Value) -> None:
    """Write the transformation of a chunk's sums: vectors of channels of y, by number of w[k]."""
    f, plan = w.f, w.plan
    with f.loop(0, plan.wide, plan.lanes) as k, f.loop(0, plan.spec.c) as c:
        source = w.at(w.at(sums, k.index), f.mul(c.index, plan.weights.row))
        target = w.at(to, f.mul(k.index, plan.flat))
        for i, values in square(w, source, plan.weights.step, 3, True, 3):
            number = f.add(f.mul(c.index, 9), f.mul(i, 3))
            place = w.at(target, f.mul(number, plan.lanes))
            for q, value in enumerate(values):
                w.store(value, place, q * plan.lanes)


def sum_items(plan: Plan) -> int:
    """Return the work items of the second kernel: squares of vectors."""
    return plan.part // plan.lanes**2


def combine(name: str, plan: Plan, epilogue: Epilogue) -> Function:
    """Write the kernel that adds up the chunks and finishes; its items are squares of numbers."""
    f = kernel_function(name)
    w, lanes = Writer(f, plan), plan.lanes
    added, turned = (f.scratch(lanes * lanes * SIZE) for _ in range(2))
    _, begin, end = f.args
    across = plan.flat // lanes
    rest = 9 * plan.spec.c % lanes
    with f.loop(begin, end) as items:
        number = f.mul(f.urem(items.index, across), lanes)
        k = f.mul(f.udiv(items.index, across), lanes)
        add_chunks(w, f.add(f.mul(k, plan.flat), f.mul(number, lanes)), added)
        transpose_store(f, "float", lanes, added, lanes, turned, lanes, lanes, lanes)
        if rest:
            with f.when(f.compare("eq", number, plan.flat - lanes)):
                finish_square(w, turned, k, number, epilogue, tail_mask(f, rest, lanes))
        with f.when(f.compare("slt", number, 9 * plan.spec.c - lanes + 1)):
            finish_square(w, turned, k, number, epilogue, None)
    f.ret()
    return f


def add_chunks(w: Writer, offset: Value, to: Value) -> None:
    """Write the sums over the chunks of a square of numbers."""
    f, lanes = w.f, w.plan.lanes
    source = w.at(f.buffer(3), offset)
    with f.loop(0, lanes) as rows:
        place = w.at(source, f.mul(rows.index, lanes))
        with f.loop(0, w.plan.chunks, carried=[f.const(w.kind, 0.0)]) as parts:
            more = w.load(place, f.mul(parts.index, w.plan.part))
            parts.next = [f.fadd(parts.carried[0], more)]
        w.store(parts.results[0], to, f.mul(rows.index, lanes))


def finish_square(
    w: Writer, source: Value, k: Value, number: Value, epilogue: Epilogue, mask: Value | None
) -> None:
    """Write what becomes of a square of the gradient, row by row."""
    f, lanes = w.f, w.plan.lanes
    count = smaller(f, f.sub(f.const("i64", w.plan.spec.k), k), lanes)
    with f.loop(f.const("i64", 0), count, nonempty=True) as rows:
        sums = w.load(source, f.mul(rows.index, lanes))
        epilogue(f, sums, f.add(k, rows.index), number, f.const("i64", 0), mask)
