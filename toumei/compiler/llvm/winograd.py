"""Convolution kernels by Winograd's F(4 x 4, 3 x 3): 36 products in place of 144.

    if supports(spec, "forward", target) and worth(spec, "forward", target):
        kernels = emit("forward", "conv", spec, target)    # to be run one after the other

For 3 x 3 windows with stride 1, float, channels innermost.  The buffers, by direction:

- "forward": x, w, y, workspace;
- "input": the gradient of y, w, the gradient of x, workspace;
- "weight": x, the gradient of y, the gradient of w, workspace.

The error is about 1e-5 of the root mean square of the result, a few times that of a plain sum.
A NaN or an infinity makes NaN of all 4 x 4 results of each tile whose 6 x 6 inputs it is among (in
a plain sum, of 3 x 3 results): it spreads further than it should, but not beyond these tiles.
"""

from __future__ import annotations

from collections.abc import Iterator

from .conv_spec import ConvSpec
from .integers import as_value, smaller
from .ir import Function, Value
from .kernel import Kernel, kernel_function
from .matmul import Epilogue, Place
from .matmul_tile import transpose_store
from .target import Target
from .winograd_math import POINTS, spread
from .winograd_plan import DIRECTIONS, SIZE, Plan, supports, worth
from .winograd_tiles import (
    Loader,
    Writer,
    clear,
    fetch,
    finish,
    products,
    scratch_bytes,
    scratch_parts,
    units,
)
from .winograd_weight import chunks, combine, sum_items

__all__ = [
    "DIRECTIONS",
    "emit",
    "place_result",
    "store_result",
    "supports",
    "workspace",
    "worth",
]


def workspace(direction: str, spec: ConvSpec, target: Target) -> int:
    """Return the bytes of workspace that the kernels of a direction share."""
    return Plan(spec, direction, target).workspace()


def emit(
    direction: str,
    name: str,
    spec: ConvSpec,
    target: Target,
    epilogue: Epilogue | None = None,
    place: Place | None = None,
) -> list[Kernel]:
    """Write the kernels of a convolution or of one of its gradients.

    Args:
        direction: "forward", "input" or "weight".
        name: the kernels' names begin with it.
        spec, target: what to compute, for which processor.
        epilogue: what becomes of each vector of results, as in a matrix product; by default it is
            stored.  Forward and for the input's gradient, its row is the number of the pixel in
            the image, its column the channel, its batch entry the image.  For the weight's, its
            row is the channel of y, its column the place among the 9 c numbers of that channel.
        place: where the epilogue writes, if that is laid out like the result: it is fetched into
            the cache while the sums are computed.  By default with the default epilogue only.

    Raises:
        ValueError: there are no such kernels; see `supports`.
    """
    if not supports(spec, direction, target):
        raise ValueError(f"there is no Winograd kernel for {direction!r} of {spec}")
    plan = Plan(spec, direction, target)
    if epilogue is None:
        epilogue, place = store_result(spec, direction), place_result(spec, direction)
    if direction == "weight":
        parts = Kernel(chunks(f"{name}_parts", plan), plan.chunks, 1, scratch=scratch_bytes(plan))
        return [parts, Kernel(combine(f"{name}_sum", plan, epilogue), sum_items(plan))]
    return [
        Kernel(weights(f"{name}_weights", plan), plan.source.channels),
        Kernel(tiles(name, plan, epilogue, place), plan.blocks, scratch=scratch_bytes(plan)),
    ]


# --- where results go ---


def place_result(spec: ConvSpec, direction: str, buffer: int = 2) -> Place:
    """Return what tells the place of a result, at its strides, in one of the buffers."""
    if direction == "weight":
        return lambda f, row, column, batch: f.at(
            f.at(f.buffer(buffer), f.mul(row, spec.weight[0]), "float"), column, "float"
        )
    strides, width = (spec.y, spec.ow) if direction == "forward" else (spec.x, spec.w)

    def place(f: Function, row: Value, column: Value, batch: Value) -> Value:
        image = f.at(f.buffer(buffer), f.mul(batch, strides[0]), "float")
        if strides[1] == width * strides[2]:
            offset = f.mul(row, strides[2])
        else:
            down = f.mul(f.udiv(row, width), strides[1])
            offset = f.add(down, f.mul(f.urem(row, width), strides[2]))
        return f.at(f.at(image, offset, "float"), column, "float")

    return place


def store_result(spec: ConvSpec, direction: str, buffer: int = 2) -> Epilogue:
    """Return the epilogue that stores the results, at their strides, into one of the buffers."""
    place = place_result(spec, direction, buffer)

    def epilogue(
        f: Function, sums: Value, row: Value, column: Value, batch: Value, mask: Value | None
    ) -> None:
        f.store_masked(sums, place(f, row, column, batch), mask)

    return epilogue


# --- forward and the input's gradient ---


def tiles(name: str, plan: Plan, epilogue: Epilogue, place: Place | None) -> Function:
    """Write the kernel of tiles: transformed, multiplied, transformed back, block by block."""
    f = kernel_function(name, scratch=True)
    w = Writer(f, plan)
    _, begin, end, scratch = f.args
    parts = scratch_parts(w, scratch)
    loader = Loader(w, plan.source, POINTS, plan.padding, parts)
    with f.loop(begin, end) as items:
        first = f.mul(items.index, plan.group)
        stop = f.add(first, plan.group)
        last = as_value(f, smaller(f, stop, plan.units))
        count = loader.load(first, last, parts["source"], plan.sources)
        ahead = [fetch(w, plan.source, stop)]
        if place:
            ahead.append(fetch(w, plan.result, first, place))
        products(w, parts["source"], f.buffer(3), parts["result"], count, ahead)
        for unit, tile, _ in units(w, first, last):
            finish(w, unit, w.at(parts["result"], f.mul(tile, plan.results.row)), epilogue)
    f.ret()
    return f


# --- the weight ---


def weights(name: str, plan: Plan) -> Function:
    """Write the kernel that transforms the weight; its items are the channels of the source."""
    f = kernel_function(name)
    w, lanes = Writer(f, plan), plan.lanes
    taps, lines = (f.scratch(n * lanes * SIZE) for n in (9, 3 * POINTS))
    first, along = w.at(taps, 0), (lanes, 3 * lanes)  # columns of taps, one after the other
    if plan.turned:
        first, along = w.at(taps, 8 * lanes), (-lanes, -3 * lanes)
    step = plan.weights.step
    _, begin, end = f.args
    with f.loop(begin, end) as channels:
        for k, count in parts_of(w, plan.result.channels):
            gather(w, taps, channels.index, k, count)
            spread_lines(w, first, along, 3, lines, (lanes, 3 * lanes))
            to = w.at(f.buffer(3), f.add(f.mul(channels.index, plan.weights.row), k))
            spread_lines(w, lines, (3 * lanes, lanes), POINTS, to, (POINTS * step, step))
    f.ret()
    return f


def parts_of(w: Writer, channels: int) -> Iterator[tuple[Value, int]]:
    """Write a loop over vectors of channels, and the last one apart: yield (channel, lanes)."""
    for channel, mask in w.vectors(channels):
        yield channel, w.plan.lanes if mask is None else channels % w.plan.lanes


def gather(w: Writer, taps: Value, c: Value, k: Value, count: int) -> None:
    """Write the gathering of the 9 taps of some channels k, made up to vectors with zeros."""
    f, lanes = w.f, w.plan.lanes
    of_k, of_c, *inner = w.plan.weight
    source = w.at(f.buffer(1), f.add(f.mul(c, of_c), f.mul(k, of_k)))
    if inner == [3, 1]:
        for i, columns in ((0, 8), (5, 4)):  # whole vectors of 4, which overlap
            to = w.at(taps, i * lanes)
            transpose_store(
                f, "float", lanes, w.at(source, i), of_k, to, lanes, count, columns
            )  # fmt: skip
        return
    if count < lanes:
        clear(f, taps, 9 * lanes)
    with f.loop(0, count) as loop:
        line, target = w.at(source, f.mul(loop.index, of_k)), w.at(taps, loop.index)
        for i in range(9):
            value = f.load(w.at(line, i // 3 * inner[0] + i % 3 * inner[1]), "float")
            f.store(value, w.at(target, i * lanes))


def spread_lines(
    w: Writer,
    source: Value,
    strides: tuple[int, int],
    lines: int,
    target: Value,
    to: tuple[int, int],
) -> None:
    """Write the transformation of some lines of the weight.

    Args:
        source, strides: where they are: from line to line, from number to number.
        lines: how many.
        target, to: where they go.
    """
    f = w.f
    with f.loop(0, lines) as loop:
        line = w.at(source, f.mul(loop.index, strides[0]))
        result = w.at(target, f.mul(loop.index, to[0]))
        values = [w.load(line, i * strides[1]) for i in range(3)]
        for i, value in enumerate(spread(f, values, scaled=True)):
            w.store(value, result, i * to[1])
