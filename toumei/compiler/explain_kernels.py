"""What each kernel of a step does, in words and in numbers, and what bounds it.

The roofline: a kernel can't be quicker than its operations at the machine's peak, nor than its
bytes at the bandwidth of where they are.  The larger of the two times bounds it; that time over
the measured one is its share of the peak.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..debug import Place
from ..op import Random
from .explain import Seen, Timed
from .explain_costs import is_winograd, moved, operations
from .expr import Apply, Const, Expr, Index, Read
from .fuse import Kernel as Group
from .graph import Call
from .nodes import Compute, Extern, Node, Tile
from .peaks import Peaks
from .plan import Planner, Stage

COMPOSITE = 3  # members of one composite op in a row that are told by its name


@dataclass(frozen=True)
class KernelRow:
    """One stage of a step: a kernel of native code (or the few of one op), or a call of Python.

    Attributes:
        number: of the stage, in the order in which they run.
        does: what is computed, in short.
        shape: of what it goes through.
        code: equal for stages that share their machine code; empty for Python.
        where: the user's line that asked for most of it, as "file.py:12"; may be empty.
        text: that line.
        module: the module that the line called it in; may be empty.
        backward: whether it computes a gradient of what the line says.
        seconds: of one run.
        operations, read, written: counted, not measured; bytes.
        share: of what the machine could do at most; None where nobody knows.
        bound: "arithmetic", "cache" or "memory"; "start": it is too small for any of them;
            "Python".
        reason: why it isn't native; empty if it is.
    """

    number: int
    does: str
    shape: str
    code: tuple[str, ...]
    where: str
    text: str
    module: str
    backward: bool
    seconds: float
    operations: int
    read: int
    written: int
    share: float | None
    bound: str
    reason: str = ""

    @property
    def flops(self) -> float:
        """Operations per second."""
        return self.operations / self.seconds if self.seconds else 0.0

    @property
    def bandwidth(self) -> float:
        """Bytes per second."""
        return (self.read + self.written) / self.seconds if self.seconds else 0.0


def kernel_rows(seen: Seen, timed: Timed, peaks: Peaks) -> list[KernelRow]:
    """Describe every stage of a step."""
    stages = zip(seen.planner.stages, timed.stages, strict=True)
    return [_row(seen, i, stage, seconds, peaks) for i, (stage, seconds) in enumerate(stages)]


def _row(seen: Seen, number: int, stage: Stage, seconds: float, peaks: Peaks) -> KernelRow:
    group = stage.group
    call = main_call(group, seen)
    place = call.place if call is not None else None
    where, text = source_of(place, seen.outer)
    ops = sum(operations(n, seen.planner) for n in group.nodes())
    read, written = moved(stage, seen.planner)
    share, bound = _judged_stage(stage, seconds, ops, read + written, peaks)
    return KernelRow(
        number, ", ".join(words(group, seen.planner)), shape_of(group),
        tuple(k.function.name for k in stage.kernels),
        where, text, module_of(place), bool(place and place.backward), seconds, ops, read, written,
        share, bound, reason_of(stage),
    )  # fmt: skip


# --- the roofline --------------------------------------------------------------------------------


def judged(
    seconds: float, ops: int, size: int, dtype: str, kernels: int, peaks: Peaks
) -> tuple[float | None, str]:
    """Return the share of the peak that a stage reaches, and what bounds it.

    Args:
        seconds, ops, size, dtype: its time, operations, bytes, and what it computes with.
        kernels: how many are run for it.
        peaks: of the machine.
    """
    if seconds < 2 * peaks.start * kernels:
        return None, "start"
    arithmetic = ops / peaks.operations(dtype)
    place, speed = peaks.place_of(size)
    moving = size / speed
    if moving > arithmetic:
        return moving / seconds, place
    return arithmetic / seconds, "arithmetic"


def _judged_stage(
    stage: Stage, seconds: float, ops: int, size: int, peaks: Peaks
) -> tuple[float | None, str]:
    if not stage.kernels:
        return None, "Python"
    host = stage.group.host
    if host is not None and isinstance(host.node.call.op, Random):
        return None, "arithmetic"  # of integers, which aren't counted
    dtype = next((w.dtype.name for n in stage.group.nodes() for w in n.writes()), "float32")
    return judged(seconds, ops, size, dtype, len(stage.kernels), peaks)


# --- in words ------------------------------------------------------------------------------------


def main_call(group: Group, seen: Seen) -> Call | None:
    """Return the op that most of a kernel's work is for."""
    if group.host is not None:
        return group.host.node.call
    calls = [m.node for m in group.members if m.node.call is not None]
    if not calls:
        return None
    return max(calls, key=lambda n: operations(n, seen.planner) + _elements(n)).call


def _elements(node: Compute) -> int:
    size = 1
    for n in node.shape:
        size *= n
    return size


def source_of(place: Place | None, outer: str) -> tuple[str, str]:
    """Return where a line of the user's is, as "file.py:12", and what it says."""
    if place is None or place.line in ("", outer):
        return "", ""
    where, _, text = place.line.partition(":  ")
    return where.partition(" in ")[0], text.partition("  #")[0]


def module_of(place: Place | None) -> str:
    """Return the kind of the innermost module around a line, or the optimiser's step."""
    inner = place.modules[0] if place is not None and place.modules else ""
    return inner if inner.endswith(".step()") else inner.partition("(")[0]


def words(group: Group, planner: Planner) -> list[str]:
    """Return what a kernel does, op by op."""
    found = [] if group.host is None else _of_host(group.host.node, planner)
    return list(dict.fromkeys(found + _of_all([m.node for m in group.members])))


def _of_all(nodes: Sequence[Compute]) -> list[str]:
    """Return what some expressions compute; parts of one composite op are told by its name."""
    found: list[str] = []
    at = 0
    while at < len(nodes):
        name, end = _composite(nodes, at)
        if name and end - at >= COMPOSITE:
            found.append(name)
        else:
            end = at + 1
            found += _of_node(nodes[at])
        at = end
    return found


def _of_host(node: Extern | Tile, planner: Planner) -> list[str]:
    if isinstance(node, Tile):
        products = dict.fromkeys(n.call.op.name for n in node.members if isinstance(n, Extern))
        rest = _of_all([n for n in node.members if isinstance(n, Compute)])
        return [f"{len(node.members)} ops by rows: {' '.join(products)}", *rest]
    name = node.call.op.name.replace("convolution", "conv")
    return [f"{name} (Winograd)" if is_winograd(node, planner) else name]


def _composite(nodes: Sequence[Compute], at: int) -> tuple[str, int]:
    """Return the composite op that a member is a part of, and where its members end."""
    name = _within(nodes[at].call)
    end = at
    while name and end < len(nodes) and _within(nodes[end].call) == name:
        end += 1
    return name, end


def _within(call: Call | None) -> str:
    if call is None:
        return ""
    if call.within is not None:
        return call.within[0].name
    # An optimiser's arithmetic is told by its name.
    modules = call.place.modules if call.place is not None else []
    return modules[0] if modules and modules[0].endswith(".step()") else ""


def _of_node(node: Compute) -> list[str]:
    found = list(dict.fromkeys(_functions(node.expr)))
    if node.how:
        found.append(node.how)
    if found == ["cast"] or any(name != "cast" for name in found):
        return found if found == ["cast"] else [name for name in found if name != "cast"]
    return ["fill"] if isinstance(node.expr, Const | Index) else ["copy"]


def _functions(e: Expr) -> Iterator[str]:
    """Yield the functions in an expression, in the order in which they are computed."""
    seen: set[int] = set()

    def visit(e: Expr) -> Iterator[str]:
        if isinstance(e, Apply) and id(e) not in seen:
            seen.add(id(e))
            for a in e.args:
                yield from visit(a)
            yield e.name

    yield from visit(e)


def shape_of(group: Group) -> str:
    """Return the sizes of what a kernel goes through."""
    if group.host is None:
        return str(list(group.domain))
    node = group.host.node
    if isinstance(node, Tile):
        return f"[{node.rows}, …]"
    shapes = [s for s in node.shapes[: len(node.inputs)] if s]
    two = len(shapes) == 2 and len(node.inputs) == 2
    return (" × " if two else ", ").join(str(list(s)) for s in shapes[:3])


def reason_of(stage: Stage) -> str:
    """Say why a stage isn't native; "" if it is."""
    if stage.kernels:
        return ""
    assert stage.group.host is not None
    node = stage.group.host.node
    assert isinstance(node, Extern)
    kinds = dict.fromkeys(
        f"{r.dtype}[{len(s)}-d]" for r, s in zip(node.inputs, node.shapes, strict=False)
    )
    given = f" of {', '.join(kinds)}" if kinds else ""
    return f"no native kernel for '{node.call.op.name}'{given}: NumPy"


# --- all of it -----------------------------------------------------------------------------------


def group_text(number: int, planner: Planner) -> str:
    """Say what a kernel computes, formula by formula."""
    stage = planner.stages[number]
    group = stage.group
    kind = f"over {list(group.domain)}"
    if group.rows is not None:
        kind += f", rows of {list(group.domain[group.rows :])}"
    if group.columns is not None:
        a, b = group.columns
        kind += f", combined along {list(group.domain[a:b])}"
    lines = [f"kernel {number}  {', '.join(words(group, planner))}  {kind}"]
    nodes = list(group.nodes())
    if isinstance(nodes[0], Tile):
        nodes[:1] = nodes[0].members
    for n in nodes:
        lines += _node_lines(n, planner)
    if reason := reason_of(stage):
        lines.append(f"    ({reason})")
    return "\n".join(lines)


def memory_text(planner: Planner) -> str:
    """Say where in the arena each value lies, and from which kernel to which."""
    lives: dict[int, list[int]] = {}
    for i, stage in enumerate(planner.stages):
        for buffer in stage.buffers:
            if buffer.value >= 0 and buffer.value in planner.places:
                lives.setdefault(buffer.value, []).append(i)
    lines = [f"{'value':<8} {'bytes':>24}  {'kernels':<9}  shape"]
    for v in sorted(lives, key=lambda v: (planner.places[v], lives[v][0])):
        spec, start = planner.lowered.specs[v], planner.places[v]
        place = f"{start:,} – {start + max(1, spec.size) * spec.dtype.itemsize:,}"
        turns = f"{lives[v][0]} – {lives[v][-1]}"
        lines.append(f"{f'%{v}':<8} {place:>24}  {turns:<9}  {spec}")
    return "\n".join([*lines, f"{planner.plan.arena:,} bytes in all"])


def _node_lines(node: Node, planner: Planner) -> list[str]:
    """Write a node as a formula, and where its results go."""
    outs = [w.value for w in node.writes()]
    left = f"    {', '.join(f'%{v}' for v in outs)} = "
    if not isinstance(node, Compute):
        fields = [f"{f}={getattr(node.call.op, f)!r}" for f in node.call.op.fields]
        given = ", ".join([*(f"%{r.value}" for r in node.reads()), *fields])
        return [f"{left}{node.call.op.name}({given})"]
    home = planner.homes.get(outs[0])
    stored = "   -> memory" if outs[0] in planner.stored else ""
    place = stored if home is None else f"   -> memory of %{home}"
    sizes = [node.shape[d] for d in node.reduced]
    how = f"{node.how} over {sizes} of " if node.how else ""
    return [f"{left}{how}{formula(node.expr)}{place}"]


_INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/", "lt": "<", "gt": ">", "le": "<=",
          "ge": ">=", "eq": "==", "ne": "!=", "and": "&", "or": "|"}  # fmt: skip


def formula(e: Expr) -> str:
    """Write an expression as one would by hand; %n is a value of the graph.

    >>> import numpy as np
    >>> f32 = np.dtype("float32")
    >>> x = Read(5, f32, (1,))
    >>> formula(Apply("tanh", (Apply("add", (x, Const(1.0, f32)), f32),), f32))
    'tanh(%5 + 1)'
    """
    if isinstance(e, Const):
        return f"{e.value:g}" if isinstance(e.value, float) else str(e.value)
    if isinstance(e, Index):
        return "index"
    if isinstance(e, Read):
        return f"%{e.value}"
    args = [formula(a) for a in e.args]
    if e.name in _INFIX and len(args) == 2:
        args = [
            f"({t})" if isinstance(a, Apply) and a.name in _INFIX else t
            for a, t in zip(e.args, args, strict=True)
        ]
        return f"{args[0]} {_INFIX[e.name]} {args[1]}"
    return f"{e.name}({', '.join(args)})"
