"""Other ways to compute a product, to be timed against the one that the heuristic chooses.

They all compute the same bits.  Each element of C is a sum over k in a fixed order, and neither
the register tile, the blocks, the pieces of k that follow one another, nor what is copied first
change it.  What would change it stays as it is: the chunks of k whose sums are added up at the
end, several sums per element ("chains"), and lanes over k (form "dot").
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from .ir import SIZES
from .matmul_plan import (
    L2,
    WIDE,
    MatmulSpec,
    Plan,
    default_depth,
    even,
    plan,
    ranked,
)
from .target import Target

STACK = 1 << 19  # bytes of what a work item keeps there, at most


def same_bits(a: Plan, b: Plan) -> bool:
    """Tell whether two plans of a product add up its sums in the same order."""
    if (a.target, a.chains, a.chunks, a.form == "dot") != (
        b.target, b.chains, b.chunks, b.form == "dot",
    ):  # fmt: skip
        return False
    if a.chunks > 1 and a.span != b.span:
        return False
    if a.chains == 1 and a.form != "dot":
        return True
    tile = a.rows, a.vectors, a.unroll, a.depth
    turns = a.unroll % a.chains == b.unroll % b.chains == 0
    if a.form == "dot":
        return tile == (b.rows, b.vectors, b.unroll, b.depth)
    return turns and a.depth == b.depth


def candidates(spec: MatmulSpec, target: Target, count: int = 10) -> list[Plan]:
    """Return plans to be timed: the heuristic's first, then the most promising others."""
    base = plan(spec, target)
    if not spec.work:
        return [base]
    found = [base]
    for other in variations(spec, base):
        sound = same_bits(base, other) and stack(spec, other) <= STACK
        if sound and other.units(spec) >= min(2, base.units(spec)):
            found.append(other)
    return list(dict.fromkeys(found))[:count]


def stack(spec: MatmulSpec, how: Plan) -> int:
    """Return the bytes that a work item keeps on the stack."""
    size = SIZES[spec.dtype]
    panel = min(how.depth, spec.k) * how.width(spec) * size if how.form == "packed" else 0
    waiting = how.block[0] * how.block[1] * size if how.blocked(spec) else 0
    return panel + waiting + (how.a_bytes(spec) if how.pack_a else 0)


def variations(spec: MatmulSpec, base: Plan) -> Iterator[Plan]:
    """Yield plans that differ from one in a thing or two."""
    if base.group > 1:
        yield replace(base, group=1)
        yield replace(base, group=2 * base.group)
    if base.form == "dot":
        return
    tall, across = base.block
    width = base.width(spec)
    other = "packed" if base.form == "direct" else "direct"
    yield sized(spec, base, 2 * tall, across)
    yield sized(spec, base, spec.m, spec.n)
    if spec.columns_unit:
        yield replace(base, form=other)
        yield sized(spec, replace(base, form=other), spec.m, spec.n)
    yield sized(spec, base, tall, width if across > width else 4 * width)
    yield from tiled(spec, base)
    yield from deeper(spec, base)
    if spec.a[0] == 1 and base.depth < spec.k:
        yield replace(base, pack_a=not base.pack_a)
    yield sized(spec, base, tall // 2, across)
    if base.chains == 1:
        yield replace(base, unroll=2 * base.unroll)


def sized(spec: MatmulSpec, how: Plan, tall: int, across: int) -> Plan:
    """Return a plan with blocks of about a size, as large as makes sense."""
    width = how.width(spec)
    most = -(-spec.n // width) * width
    if how.chunks == 1:
        most = min(most, 2 * WIDE // width * width)
    if how.chunks == 1 or across < most:
        most = min(most, max(width, -(-across // width) * width))
    tall = min(max(tall, how.rows), 2 * WIDE)
    return replace(how, block=(even(spec.m, tall, how.rows), most), group=1)


def tiled(spec: MatmulSpec, base: Plan) -> Iterator[Plan]:
    """Yield plans with the best tiles of other widths."""
    seen = {base.vectors}
    for _, form, rows, vectors in ranked(spec, base.target):
        if form != "dot" and vectors not in seen and rows * vectors >= 8:
            seen.add(vectors)
            how = replace(base, rows=rows, vectors=vectors)
            how = sized(spec, how, base.block[0], base.block[1])
            far = spec.a[0] == 1 and how.pitch(spec) * 7 <= rows * 8  # full vectors of A
            yield replace(how, pack_a=far and base.depth < spec.k) if far else how


def deeper(spec: MatmulSpec, base: Plan) -> Iterator[Plan]:
    """Yield plans that take more of k at a time, or less."""
    if base.chains > 1:
        return
    if base.chunks > 1:
        if base.depth < base.span and base.span <= 2048:
            yield replace(base, depth=base.span)
        return
    width = base.width(spec)
    usual = default_depth(spec, width)
    half = even(spec.k, base.depth // 2, base.target.lanes(spec.dtype))
    for depth in (2 * base.depth, half, usual, spec.k):
        if 64 <= depth <= spec.k and depth != base.depth and depth <= 2048:
            whole = depth * 4 > spec.k * 3
            how = replace(base, depth=spec.k if whole else depth, pack_a=base.pack_a and not whole)
            large = spec.m * spec.k * SIZES[spec.dtype] >= L2 // 2
            yield how if not whole or large else sized(spec, how, base.block[0], width)
