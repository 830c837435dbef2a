"""How much a kernel computes and moves, counted from what it was made of, not measured.

Operations are those of floats: two for a multiply-add of a product or convolution (borders count as
if they were pixels; by Winograd's algorithm a quarter of them are left).  Of expressions, every
addition, multiplication, division and root counts that is written for an element: exp and tanh are
as many as the polynomials that they are.  Bytes are those of memory that is read and written, each
element once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

from ..op import Spec
from .expr import Expr, Index, Read
from .externs import DIRECTIONS, conv_spec, winograd_pays
from .llvm.elements import Elements, register_type
from .llvm.ir import Function, Value, vector
from .llvm.target import Target
from .nodes import Compute, Extern, Node, Shape, Tile
from .plan import Planner, Stage

SAVED = 4  # Winograd's F(4 x 4, 3 x 3) multiplies 36 times where a direct sum does 144 times
_FLOAT = re.compile(r"= (?:fadd|fsub|fmul|fdiv|frem) |@llvm\.(?:sqrt|fma)\.")
Specs: TypeAlias = Mapping[int, Spec]
_FUSED = re.compile(r"@llvm\.fma\.")


# --- operations ----------------------------------------------------------------------------------


def operations(node: Node, planner: Planner) -> int:
    """Return how many operations on floats a node is."""
    if isinstance(node, Tile):
        return sum(operations(n, planner) for n in node.members)
    if isinstance(node, Extern):
        return _of_extern(node, planner)
    each = of_expression(node.expr, planner.target)
    if node.how in ("sum", "prod") and node.out.dtype.kind == "f":
        each += 1
    return each * math.prod(node.shape)


def of_expression(expr: Expr, target: Target) -> int:
    """Return how many operations on floats an element is: it is written, and they are counted.

    >>> import numpy as np
    >>> from toumei.compiler.expr import Apply, Read
    >>> from toumei.compiler.llvm.target import host
    >>> x = Read(0, np.dtype("float32"), (1,))
    >>> of_expression(Apply("add", (x, Apply("mul", (x, x), x.dtype)), x.dtype), host())
    2
    """
    f = Function("counted", [("buffers", "ptr")])
    lanes = target.lanes("float")

    def load(leaf: Read | Index) -> Value:
        f.count += 1
        return Value(f"%leaf{f.count}", vector(register_type(leaf.dtype), lanes))

    Elements(f, target, lanes, load)(expr)
    lines = [line for g in (f, *f.helpers.values()) for line in g.lines]
    return sum(len(_FLOAT.findall(line)) + len(_FUSED.findall(line)) for line in lines)


def _of_extern(node: Extern, planner: Planner) -> int:
    name, op = type(node.call.op).__name__, node.call.op
    made = node.shapes[len(node.inputs) :]
    if name == "Matmul":
        return 2 * math.prod(made[0]) * node.shapes[0][-1]
    if name in DIRECTIONS:
        direct = _of_convolution(node, DIRECTIONS[name])
        return direct // SAVED if is_winograd(node, planner) else direct
    if name.removesuffix("Grad").endswith("Loop"):
        return _of_loop(node)
    if hasattr(op, "kernel"):  # pooling: a comparison or a sum per place in a window
        return min(map(math.prod, node.shapes)) * math.prod(op.kernel)
    return 0


def is_winograd(node: Extern, planner: Planner) -> bool:
    """Tell whether a convolution is computed by Winograd's algorithm."""
    direction = DIRECTIONS.get(type(node.call.op).__name__)
    spec = conv_spec(node) if direction is not None else None
    if spec is None or planner.exact:
        return False
    return winograd_pays(spec, str(direction), planner.target)


def _of_convolution(node: Extern, direction: str) -> int:
    """Return the multiply-adds, twice: as many in each of the three directions."""
    first, second, out = node.shapes
    weight = out if direction == "weight" else second  # (K, C / groups, *kernel)
    image = out if direction == "forward" else first  # the one that has K channels
    return 2 * math.prod(image) * math.prod(weight[1:])


def _of_loop(node: Extern) -> int:
    """Return the operations of the products with w_hh; a gradient has two of them per step."""
    gates = getattr(node.call.op, "gates", 1)
    steps, batch = next(s for s in node.shapes if len(s) == 3)[:2]
    hidden = next(s[1] for s in node.shapes if len(s) == 2 and s[0] == gates * s[1])
    products = 2 if type(node.call.op).__name__.endswith("Grad") else 1
    return 2 * steps * batch * gates * hidden * hidden * products


# --- bytes ---------------------------------------------------------------------------------------


def moved(stage: Stage, planner: Planner) -> tuple[int, int]:
    """Return the bytes that a stage reads from memory and writes there."""
    group, specs = stage.group, planner.lowered.specs
    alone = group.host is not None and not group.members  # nothing is handed over in registers
    inside = set() if alone else {w.value for n in group.nodes() for w in n.writes()}
    reads, writes = [], []
    for n in group.nodes():
        reads += [(r, shape) for r, shape in _reads(n, specs) if r.value not in inside]
        kept = (w for w in n.writes() if alone or w.value in planner.stored)
        writes += [(w, _shape_written(n, w, specs)) for w in kept]
    return _distinct(reads, specs), _distinct(writes, specs)


def _reads(node: Node, specs: Specs) -> Iterator[tuple[Read, Shape]]:
    """Yield what a node reads, with the shape that the strides belong to."""
    if isinstance(node, Compute):
        yield from ((r, node.shape) for r in node.reads())
    elif isinstance(node, Tile):
        yield from ((_whole(r), (specs[r.value].size,)) for r in node.inputs)
    else:
        most = _looked_up(node)
        for r, shape in zip(node.inputs, node.shapes, strict=False):
            yield (r, shape) if math.prod(shape) <= most else (_whole(r), (most,))


def _shape_written(node: Node, out: Read, specs: Specs) -> Shape:
    if isinstance(node, Compute):
        return node.shape
    if isinstance(node, Tile):
        return specs[out.value].shape
    return node.shapes[len(node.inputs) + node.outputs.index(out)]


def _looked_up(node: Extern) -> int:
    """Return the most elements that an op reads of an input: of a table, only what it takes."""
    if type(node.call.op).__name__ in ("Embedding", "EmbeddingRead", "Gather", "Index"):
        return math.prod(node.shapes[-1])
    return max(map(math.prod, node.shapes))


def _whole(r: Read) -> Read:
    return Read(r.value, r.dtype, (1,), r.offset)


def _distinct(accesses: Iterable[tuple[Read, Shape]], specs: Specs) -> int:
    """Return the bytes of some accesses, no element of a value counted twice."""
    found: dict[int, dict[tuple[int, Shape], int]] = {}
    sizes: dict[int, int] = {}
    for r, shape in accesses:
        touched = math.prod(n for n, s in zip(shape, r.strides, strict=True) if s)
        mine = found.setdefault(r.value, {})
        key = (r.offset, tuple(sorted(s for s in r.strides if s)))
        mine[key] = max(mine.get(key, 0), touched * r.dtype.itemsize)
        sizes[r.value] = max(1, specs[r.value].size) * r.dtype.itemsize
    return sum(min(sizes[v], sum(parts.values())) for v, parts in found.items())
