"""Kernels of 2-d convolutions and their gradients, specialised for sizes and strides.

    kernels = emit("forward", "conv", spec, target)     # to be run one after the other

Directions, their buffers (the workspace last, `workspace(…)` bytes), and what the result is:

- "forward": x, w, y, workspace: y;
- "input": y's gradient, w, x's gradient, workspace: the gradient of x; it is the transposed
  convolution of y, too;
- "weight": x, y's gradient, w's gradient, workspace: the gradient of w.

A kernel is a C function `void name(ptr buffers, i64 begin, i64 end)`, with a fourth argument
`ptr scratch` where `Kernel.scratch` isn't 0: memory of the thread's own.  It computes the work
items begin … end - 1; how they are shared out among threads does not change a bit of the result.

The channels of images should be innermost in memory (stride 1); any other strides work, slower.

What becomes of the finished sums is up to an *epilogue*, as in matmul.py, by default they are
stored: `epilogue(f, sums, row, column, batch, mask)`, where `batch` is the image, `row` the number
of the pixel within it, oy · OW + ox, and `column` the first channel of the vector `sums`; `mask`
tells which of its lanes exist, None: all.  For few channels `sums` may be a single number.
In the direction "weight", `row` is the out-channel k and `column` the place within w[k, :, :, :],
row-major; `batch` is 0.
"""

from __future__ import annotations

from . import conv_combine, conv_direct, conv_pack, conv_plan, conv_weight, conv_weight_plan
from .conv_spec import ConvSpec
from .kernel import Kernel
from .matmul import Epilogue, Place
from .target import Target

__all__ = ["ConvSpec", "Epilogue", "Place", "emit", "epilogue_lanes", "workspace"]

DIRECTIONS = ("forward", "input", "weight")


def emit(
    direction: str,
    name: str,
    spec: ConvSpec,
    target: Target,
    epilogue: Epilogue | None = None,
    place: Place | None = None,
) -> list[Kernel]:
    """Write the kernels of a convolution or a gradient; each needs what those before it wrote.

    Args:
        direction: "forward", "input" or "weight".
        name: of the kernels; each has its own end.
        spec: of the convolution.
        target: the processor.
        epilogue: what becomes of the sums; by default they are stored.
        place: place(f, row, column, batch): where the epilogue writes images, to be fetched into
            the cache beforehand where that pays.  By default nothing is, but with the default
            epilogue.
    """
    if direction not in DIRECTIONS:
        raise ValueError(f"direction must be one of {', '.join(DIRECTIONS)}, not {direction!r}")
    if direction == "weight":
        return emit_weight(name, spec, target, epilogue)
    problem = conv_plan.problem(direction, spec)
    plan = conv_plan.choose(problem, target)
    main = conv_direct.Convolution(f"{name}_main", problem, plan, epilogue, place)
    pack = conv_pack.Packing(f"{name}_pack", problem, plan)
    return [
        Kernel(pack.function(), conv_pack.items(problem, plan)),
        Kernel(main.function(), conv_plan.items(problem, plan), scratch=main.scratch),
    ]


def emit_weight(
    name: str, spec: ConvSpec, target: Target, epilogue: Epilogue | None
) -> list[Kernel]:
    """Write the kernels of the gradient of the weight."""
    plan = conv_weight_plan.choose(spec, target)
    first, second = conv_weight_plan.items(spec, plan)
    partial = conv_weight.Partial(f"{name}_parts", spec, plan)
    combine = conv_combine.Combine(f"{name}_sum", spec, plan, epilogue)
    return [
        Kernel(partial.function(), first, chunk=1, scratch=partial.scratch),
        Kernel(combine.function(), second),
    ]


def epilogue_lanes(direction: str, spec: ConvSpec, target: Target) -> int:
    """Return the lanes of the sums that an epilogue gets: 1 for few channels, else a vector's.

    With one lane, costly functions are better left to another kernel.
    """
    if direction != "weight":
        problem = conv_plan.problem(direction, spec)
        if conv_plan.choose(problem, target).form == "dot":
            return 1
    return target.lanes(spec.dtype)


def workspace(direction: str, spec: ConvSpec, target: Target) -> int:
    """Return the bytes of workspace that the kernels of a direction share."""
    if direction == "weight":
        return conv_weight_plan.workspace(spec, conv_weight_plan.choose(spec, target))
    problem = conv_plan.problem(direction, spec)
    return conv_plan.workspace(problem, conv_plan.choose(problem, target))
