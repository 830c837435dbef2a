"""What the kernels of a convolution and of its input's gradient have in common, and their plans.

Both compute a *problem*: out[q] = Σ over taps and channels of in[q · stride + tap] · w, where `in`
is zero outside of its bounds.  In the gradient of the input of a convolution of stride s, output
pixels fall into s · s *phases*, by their place modulo s: the pixels of one phase meet the same
part of the taps, and are a convolution of stride 1 of their own.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from .conv_spec import ConvSpec
from .ir import SIZES
from .matmul_plan import NARROW, fits, parts, step_cycles
from .target import Target

BAND = 256 * 1024  # bytes of a copied part of an image: it should stay in the second cache
L1 = 32 * 1024
FEW_ITEMS = 16  # fewer leave threads idle


class Taps(NamedTuple):
    """The taps of one axis, in the order of the input's memory.

    Args:
        first: the place in the input that the first tap of output 0 meets; may be negative.
        step: from tap to tap.
        number: of taps.
        place: of the first tap in the convolution's window.
        turn: from tap to tap there.
    """

    first: int
    step: int
    number: int
    place: int
    turn: int

    @property
    def extent(self) -> int:
        """Places from the first tap to the last."""
        return max(0, self.number - 1) * self.step


class Axis(NamedTuple):
    """The outputs of one phase along one axis: origin, origin + step …; `size` of them."""

    size: int
    origin: int
    step: int
    taps: Taps


@dataclass(frozen=True)
class Problem:
    """A convolution, or the gradient of the input of one.

    Args:
        images: how many.
        size: rows and columns of `in`.
        out: rows and columns of `out`.
        channels: of `in`, of `out`, per group.
        groups: how many.
        stride: of the input, from output to output of a phase.
        phases: (rows, columns) of each.
        source, target: strides of `in` and `out`: of images, rows, columns, channels.
        weight: strides of w: of in-channels, out-channels, window rows, window columns, groups.
        element: "float" or "double".
    """

    images: int
    size: tuple[int, int]
    out: tuple[int, int]
    channels: tuple[int, int]
    groups: int
    stride: tuple[int, int]
    phases: tuple[tuple[Axis, Axis], ...]
    source: tuple[int, int, int, int]
    target: tuple[int, int, int, int]
    weight: tuple[int, int, int, int, int]
    element: str

    @property
    def apart(self) -> bool:
        """Each channel has a window of its own: lanes run over channels of both sides."""
        return self.groups > 1 and self.channels == (1, 1)

    def steps(self, phase: tuple[Axis, Axis]) -> int:
        """Return the length of an output's sum, in one group."""
        return phase[0].taps.number * phase[1].taps.number * self.channels[0]

    def reach(self, axis: int, count: int | None = None) -> tuple[int, int]:
        """Return the first place in the input that outputs meet, and the one after the last.

        Args:
            axis: rows or columns.
            count: of outputs of each phase, from 0 on; None: all.
        """
        firsts, lasts = [], []
        for phase in self.phases:
            a = phase[axis]
            if self.steps(phase):
                outputs = a.size if count is None else count
                firsts.append(a.taps.first)
                lasts.append((outputs - 1) * self.stride[axis] + a.taps.first + a.taps.extent)
        return (min(firsts), max(lasts) + 1) if firsts else (0, 0)

    @property
    def padded(self) -> bool:
        """Some taps fall outside of the input."""
        reaches = [self.reach(0), self.reach(1)]
        return any(r[0] < 0 or r[1] > size for r, size in zip(reaches, self.size, strict=True))


def problem(direction: str, spec: ConvSpec) -> Problem:
    """Return what to compute for the direction "forward" or "input"."""
    s = spec
    c, k = s.c // max(1, s.groups), s.k // max(1, s.groups)
    of_k, of_c, *of_window = s.weight
    weight = (of_window[0], of_window[1], k * of_k)  # groups follow one another along k
    if direction == "forward":
        axes = [forward_axes(s, (s.oh, s.ow)[i], i) for i in range(2)]
        found = Problem(
            s.n, (s.h, s.w), (s.oh, s.ow), (c, k), s.groups, s.stride, crossed(axes), s.x, s.y,
            (of_c, of_k, *weight), s.dtype,
        )  # fmt: skip
    else:
        axes = [input_axes(s, (s.h, s.w)[i], i) for i in range(2)]
        found = Problem(
            s.n, (s.oh, s.ow), (s.h, s.w), (k, c), s.groups, (1, 1), crossed(axes), s.y, s.x,
            (of_k, of_c, *weight), s.dtype,
        )  # fmt: skip
    return found


def crossed(axes: list[list[Axis]]) -> tuple[tuple[Axis, Axis], ...]:
    """Return each phase along the rows with each along the columns."""
    return tuple((rows, columns) for rows in axes[0] for columns in axes[1])


def forward_axes(spec: ConvSpec, count: int, i: int) -> list[Axis]:
    """Return the one phase of a convolution's outputs along an axis."""
    taps = Taps(-spec.padding[i], spec.dilation[i], spec.kernel[i], 0, 1)
    return [Axis(count, 0, 1, taps)] if count else []


def input_axes(spec: ConvSpec, size: int, i: int) -> list[Axis]:
    """Return the phases of an input's gradient along an axis.

    The gradient at p gets from tap t what y's gradient at (p + padding - t · dilation) / stride
    says, where that is whole.
    """
    stride, padding, dilation = spec.stride[i], spec.padding[i], spec.dilation[i]
    axes = []
    for origin in range(min(stride, size)):
        met = [t for t in range(spec.kernel[i]) if (origin + padding - t * dilation) % stride == 0]
        taps = Taps(0, 1, 0, 0, 0)
        if met:
            turn = met[1] - met[0] if len(met) > 1 else 1
            first = (origin + padding - met[-1] * dilation) // stride
            taps = Taps(first, turn * dilation // stride or 1, len(met), met[-1], -turn)
        axes.append(Axis(len(range(origin, size, stride)), origin, stride, taps))
    return axes


@dataclass(frozen=True)
class Plan:
    """How a problem is computed.

    Args:
        target: the processor.
        form: "sums", "apart" or "dot": see conv_tile.Tile.
        rows, columns: the most output pixels of a register tile.
        vectors: the most vectors of out-channels of a tile; in form "dot", channels.
        band: rows of a phase that a work item computes; a multiple of `rows`.
        copied: the input is copied first, with zeros around it.
        planar: that copy has the channels outermost, as the input has them, rather than innermost.
    """

    target: Target
    form: str
    rows: int
    columns: int
    vectors: int
    band: int
    copied: bool
    planar: bool


class Layout(NamedTuple):
    """Where packed weights are: per group, phase by phase, panel by panel, tap by tap.

    A panel is as wide as a register tile; the last one may be narrower.
    """

    lanes: int
    width: int
    columns: int  # of out-channels, whole vectors
    phases: tuple[int, ...]  # where each begins
    size: int  # of one group


def pseudo(problem: Problem) -> tuple[int, int, int]:
    """Return (groups, in-channels, out-channels) as register tiles see them.

    Where each channel has its own window, all of them are the columns of one group.
    """
    if problem.apart:
        return 1, 1, problem.groups
    return problem.groups, *problem.channels


def layout(problem: Problem, plan: Plan) -> Layout:
    """Return where the packed weights go."""
    lanes = plan.target.lanes(problem.element)
    columns = pseudo(problem)[2]
    if plan.form != "dot":
        columns = -(-columns // lanes) * lanes
    starts, size = [], 0
    for phase in problem.phases:
        starts.append(size)
        size += columns * depth(problem, plan, phase)
    width = plan.vectors * (1 if plan.form == "dot" else lanes)
    return Layout(lanes, width, columns, tuple(starts), -(-size // lanes) * lanes)


def depth(problem: Problem, plan: Plan, phase: tuple[Axis, Axis]) -> int:
    """Return the packed numbers per out-channel; in form "dot", runs are whole vectors."""
    rows, taps, length, _ = runs(problem, plan, phase)
    if plan.form == "dot":
        lanes = plan.target.lanes(problem.element)
        length = -(-length // lanes) * lanes
    return rows * taps * length


class Runs(NamedTuple):
    """The turns of the loops over a sum's terms.

    Where taps stand side by side, a row of them with their channels is one run of numbers.
    """

    rows: int  # of taps
    taps: int  # of a row; 1 where they are merged
    length: int  # channels, or merged taps and channels
    merged: bool


def runs(problem: Problem, plan: Plan, phase: tuple[Axis, Axis]) -> Runs:
    """Return the loops over a phase's taps and channels."""
    taps, channels = phase[1].taps, problem.channels[0]
    if not problem.steps(phase):
        return Runs(0, 0, 0, False)
    dense = plan.copied or channel_unit(problem)
    if dense and taps.step == 1 and pixel(problem, plan) == channels:
        return Runs(phase[0].taps.number, 1, taps.number * channels, True)
    return Runs(phase[0].taps.number, taps.number, channels, False)


def pixel(problem: Problem, plan: Plan) -> int:
    """Return the numbers from pixel to pixel of the input that is read."""
    if not plan.copied:
        return problem.source[2]
    if plan.planar:
        return 1
    return problem.groups if problem.apart else problem.channels[0]


def channel_unit(problem: Problem) -> bool:
    """Tell whether the channels of a pixel, of one group, are side by side in the input."""
    return problem.source[3] == 1 or (problem.channels[0] == 1 and not problem.apart)


def even(size: int, most: int) -> list[tuple[int, int]]:
    """Cut a size into pieces that differ by at most one: (how many, how large).

    >>> even(26, 14), even(17, 10), even(0, 4)
    ([(2, 13)], [(1, 9), (1, 8)], [])
    """
    if not size:
        return []
    count = -(-size // most)
    small, larger = divmod(size, count)
    return [(n, s) for n, s in ((larger, small + 1), (count - larger, small)) if n]


@functools.lru_cache(maxsize=512)
def choose(problem: Problem, target: Target) -> Plan:
    """Return a plan: the register tile that the processor should need the fewest cycles for."""
    lanes = target.lanes(problem.element)
    _, inner, columns = pseudo(problem)
    form = "apart" if problem.apart else "sums"
    phase = max(problem.phases, key=problem.steps, default=None)
    if phase is None or not columns:
        return Plan(target, form, 1, 1, 1, 1, False, False)
    run = inner * phase[1].taps.number
    if form == "sums" and 4 * columns <= lanes and run >= lanes and problem.channels[0] > 1:
        tall, wide = dot_tile(problem, phase, lanes, columns, target)
        chosen = read(problem, Plan(target, "dot", tall, wide, columns, 1, False, False))
    else:
        wide, tall, vectors = min(
            tiles(problem, phase, target, columns, lanes),
            key=lambda t: tile_cost(problem, phase, columns, lanes, t),
        )
        chosen = read(problem, Plan(target, form, tall, wide, vectors, 1, False, False))
    return band(problem, chosen)


def read(problem: Problem, plan: Plan) -> Plan:
    """Return the plan with the way in which the input is read.

    Single numbers may be read wherever they are, vectors only from channels side by side.
    """
    unit = channel_unit(problem)
    if plan.form == "sums":
        near = problem.source[2] == 1 and not unit
        return replace(plan, copied=problem.padded or not (unit or near), planar=near)
    return replace(plan, copied=problem.padded or not unit)


def dot_tile(
    problem: Problem, phase: tuple[Axis, Axis], lanes: int, columns: int, target: Target
) -> tuple[int, int]:
    """Return rows and columns of pixels of a tile of dot products."""
    most = max(1, min(lanes, (target.registers - 2) // (columns + 1)))
    wide = max(size for _, size in even(phase[1].size, most))
    tall = max(1, min(most // wide, phase[0].size))
    return tall, wide


def tiles(
    problem: Problem, phase: tuple[Axis, Axis], target: Target, columns: int, lanes: int
) -> Iterator[tuple[int, int, int]]:
    """Yield the register tiles worth looking at: (columns of pixels, rows of pixels, vectors)."""
    for vectors in range(1, min(4, -(-columns // lanes)) + 1):
        widths = {even(phase[1].size, most)[0][1] for most in range(1, 29)}
        for wide in sorted(widths):
            for tall in range(1, min(8, phase[0].size) + 1):
                if wide * tall == 1 or fits(target, wide * tall, vectors):
                    yield wide, tall, vectors


def tile_cost(
    problem: Problem, phase: tuple[Axis, Axis], columns: int, lanes: int, tile: tuple[int, int, int]
) -> float:
    """Return the estimated cycles of one image with a register tile."""
    wide, tall, vectors = tile
    steps, size, total = problem.steps(phase), SIZES[problem.element], 0.0
    shapes = 0
    for panels, width in parts(columns, vectors * lanes):
        v = -(-width // lanes)
        far = steps * v * lanes * size > L1  # its weights come from the second cache each time
        for down, r in parts(phase[0].size, tall):
            for across, c in even(phase[1].size, wide):
                one = step_cycles(r * c, v) * (NARROW[v] + 0.01 * (r - 1)) + (0.5 * v if far else 0)
                total += panels * down * across * (steps * one + 16 + 2 * r * c * v)
                shapes += 1
    return total * (1 + 0.01 * shapes)


def band(problem: Problem, plan: Plan) -> Plan:
    """Return the plan with the rows that a work item computes."""
    rows = max(phase[0].size for phase in problem.phases)
    columns = problem.reach(1)
    wide = max(1, columns[1] - columns[0])
    row = wide * max(1, pixel(problem, plan)) * SIZES[problem.element]
    halo = max(phase[0].taps.extent for phase in problem.phases)
    most = (BAND // row - halo) // problem.stride[0]
    wanted = max(1, -(-FEW_ITEMS // max(1, problem.images * pseudo(problem)[0])))
    height = max(1, min(rows, most, -(-rows // wanted)))
    pieces = -(-rows // height)
    height = -(-rows // pieces)
    height = -(-height // plan.rows) * plan.rows
    return replace(plan, band=height)


def bands(problem: Problem, plan: Plan) -> int:
    """Return how many bands an image has."""
    return -(-max((p[0].size for p in problem.phases), default=0) // plan.band)


def items(problem: Problem, plan: Plan) -> int:
    """Return the work items of the main kernel."""
    groups, _, columns = pseudo(problem)
    return problem.images * groups * bands(problem, plan) if columns else 0


def workspace(problem: Problem, plan: Plan) -> int:
    """Return the bytes of the packed weights."""
    return math.prod((pseudo(problem)[0], layout(problem, plan).size, SIZES[problem.element]))
