"""Fusion: nodes become kernels, each a walk through one index space.

Nodes are taken in order.  Each joins the first kernel in which everything that it reads is there
when it is needed: written by an earlier kernel, or by this one at the very same index, so that it
is still in a register.  A node that fits nowhere begins a kernel of its own at the end.

A kernel's domain is a list of axes, outermost first.  What is combined along the last axes ("rows")
is there for the rest of the row; what is combined along others ("columns"), or along all, is only
there when the kernel has ended.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Self

from .axes import Mapping, Match, Sizes, match, merge, same_shape
from .expr import Const, Expr, Read, leaves, rewrite
from .lowering import order_of
from .nodes import Compute, Extern, Lowered, Node, Tile

SMALL = 4096  # elements: kernels as small as that are put together even if they share nothing
MOST = 48  # nodes in a kernel
#: Ops whose kernels hand over their results while they are in registers, and how many of the
#: result's axes, as they lie in memory, come before the columns that they hand over.
HOSTS = {"Matmul": -1, "Convolution": -1, "ConvolutionInputGrad": -1, "ConvolutionWeightGrad": 1}


@dataclass(frozen=True)
class Placed:
    """Something within a kernel: how the dims of its index space become the kernel's axes."""

    mapping: Mapping

    def over(self, access: Read) -> Read:
        """Return an access along the kernel's axes."""
        strides = self.mapping.strides(access.strides)
        return Read(access.value, access.dtype, strides, access.offset)

    def refined(self, cuts: tuple[Sizes, ...]) -> Self:
        """Return the same after the kernel's axes have been cut."""
        return replace(self, mapping=refined(self.mapping, cuts))


@dataclass(frozen=True)
class Member(Placed):
    """An expression that a kernel computes."""

    node: Compute

    def axes(self) -> list[int]:
        """Return the axes along which it is combined."""
        atoms: set[int] = set()
        number = 0
        for d, sizes in enumerate(self.mapping.factors):
            atoms.update(range(number, number + len(sizes)) if d in self.node.reduced else ())
            number += len(sizes)
        return [a for a, p in enumerate(self.mapping.places) if p in atoms]


@dataclass(frozen=True)
class Host(Placed):
    """The op whose results a kernel's members take over while they are in registers."""

    node: Extern | Tile


@dataclass
class Kernel:
    """Nodes that are computed together.

    Attributes:
        domain: sizes of the axes.
        members: what is computed, in order.
        host: the op whose results the members take over, if there is one.
        lead: how many axes come before the columns that it hands over.
        rows: the first axis of a row, if something is combined along rows.
        columns: the axes (from, to) that columns are combined along.
    """

    domain: Sizes
    members: list[Member] = field(default_factory=list)
    host: Host | None = None
    lead: int = 0
    rows: int | None = None
    columns: tuple[int, int] | None = None

    def nodes(self) -> Iterator[Node]:
        """Yield the nodes."""
        if self.host is not None:
            yield self.host.node
        for m in self.members:
            yield m.node

    def __post_init__(self) -> None:
        self.size = math.prod(self.domain)
        self.written: set[int] = set()  # values
        self.touched: set[int] = set()  # values written, or read in more than one place
        for node in self.nodes():
            self.note(node)

    def note(self, node: Node) -> None:
        """Note down what a new node touches."""
        self.written.update(w.value for w in node.writes())
        self.touched.update(r.value for r in node.reads() if any(r.strides))
        self.touched |= self.written

    def produced(self) -> Iterator[Read]:
        """Yield what is computed, along the kernel's axes."""
        if self.host is not None:
            for w in self.host.node.outputs:
                yield self.host.over(w)
        for m in self.members:
            yield m.over(m.node.out)

    def is_row_level(self, member: Member) -> bool:
        """Tell whether a member has one element per row."""
        if self.rows is None or member.node.how:
            return False
        long = [a for a in range(self.rows, len(self.domain)) if self.domain[a] != 1]
        return bool(long) and all(member.mapping.places[a] < 0 for a in long)


def refined(mapping: Mapping, cuts: tuple[Sizes, ...]) -> Mapping:
    """Return a mapping after the target's axes have been cut.

    >>> refined(Mapping(((6,), (4,)), (1, 0)), ((4,), (2, 3)))
    Mapping(factors=((2, 3), (4,)), places=(2, 0, 1))
    """
    if all(len(c) == 1 for c in cuts):
        return mapping
    pieces = {p: c for p, c in zip(mapping.places, cuts, strict=True) if p >= 0}
    starts: list[int] = []
    factors: list[Sizes] = []
    number = atom = 0
    for sizes in mapping.factors:
        new: list[int] = []
        for n in sizes:
            part = pieces.get(atom, (n,))
            starts.append(number)
            new.extend(part)
            number += len(part)
            atom += 1
        factors.append(tuple(new))
    places: list[int] = []
    for p, c in zip(mapping.places, cuts, strict=True):
        places.extend([-1] * len(c) if p < 0 else range(starts[p], starts[p] + len(c)))
    return Mapping(tuple(factors), tuple(places))


class Fusion:
    """Kernels that are being put together."""

    def __init__(self, lowered: Lowered) -> None:
        self.lowered = lowered
        self.kernels: list[Kernel] = []
        self.made: dict[int, int] = {}  # the kernel after which a value is whole
        self.read: dict[int, int] = {}  # the last kernel that reads a value
        self.writers: dict[int, int] = {}
        for node in lowered.nodes:
            for w in node.writes():
                self.writers[w.value] = self.writers.get(w.value, 0) + 1

    def run(self) -> list[Kernel]:
        """Place every node."""
        for node in self.lowered.nodes:
            place = self._place(node)
            for w in node.writes():
                self.made[w.value] = max(self.made.get(w.value, -1), place)
            for r in node.reads():
                self.read[r.value] = max(self.read.get(r.value, -1), place)
        return self.kernels

    def _place(self, node: Node) -> int:
        """Put a node into a kernel; return its number."""
        if isinstance(node, Compute):
            for i in self._candidates(node):
                if self._join(self.kernels[i], node):
                    return i
                if self.kernels[i].host is not None and self._join(self.kernels[i], joined(node)):
                    return i
            self.kernels.append(self._begin(node))
        else:
            self.kernels.append(_alone(node))
        return len(self.kernels) - 1

    def _earliest(self, node: Compute) -> int:
        """Return the first kernel that a node may join."""
        first = max((self.made.get(r.value, -1) for r in node.reads()), default=-1)
        if node.over:
            first = max(first, self.made[node.out.value] + 1)
        home = self.lowered.homes.get(node.out.value)
        if home is not None:
            first = max(first, self.read.get(home, -1))
        return max(first, 0)

    def _candidates(self, node: Compute) -> Iterator[int]:
        reads = {r.value for r in node.reads()}
        size = math.prod(node.shape)
        for i in range(self._earliest(node), len(self.kernels)):
            kernel = self.kernels[i]
            if kernel.size != size and (kernel.rows is None or size > kernel.size):
                continue
            if len(kernel.members) >= MOST:
                continue
            if max(size, kernel.size) > SMALL and kernel.touched.isdisjoint(reads):
                continue
            if kernel.host is not None and not self._takes_over(kernel, reads):
                continue
            yield i

    def _takes_over(self, kernel: Kernel, reads: set[int]) -> bool:
        """Tell whether a node reads what an op with a kernel of its own computes."""
        assert kernel.host is not None
        if isinstance(kernel.host.node, Tile):
            return False
        if type(kernel.host.node.call.op).__name__ not in HOSTS or kernel.domain[-1:] == (1,):
            return False
        if kernel.host.node.outputs[0].dtype.kind != "f" or not _is_written(kernel.host.node):
            return False
        return not kernel.written.isdisjoint(reads)

    # --- joining ---

    def _join(self, kernel: Kernel, node: Compute) -> bool:
        """Put a node into a kernel, if it fits."""
        for found in self._matches(kernel, node):
            domain = tuple(n for c in found.cuts for n in c)
            if any(len(c) > 1 for c in found.cuts[kernel.lead :]) and kernel.host is not None:
                continue
            member = Member(found.first, node)
            members = [m.refined(found.cuts) for m in kernel.members]
            tried = self._tried(kernel, domain, found.cuts, members, member)
            if tried is None:
                continue
            kernel.domain, kernel.members = domain, [*members, member]
            kernel.note(node)
            if kernel.host is not None:
                kernel.host = kernel.host.refined(found.cuts)
                kernel.lead = _starts(found.cuts)[kernel.lead]
            kernel.rows, kernel.columns = tried
            return True
        return False

    def _matches(self, kernel: Kernel, node: Compute) -> Iterator[Match]:
        """Yield ways in which a node's index space may be the kernel's."""
        whole = tuple((n,) for n in kernel.domain)
        reads = {(r.value, r.offset): r for r in node.reads()}
        produced = {(w.value, w.offset): w for w in kernel.produced()}
        for key, r in reads.items():
            if key in produced:
                found = match(node.shape, r.strides, kernel.domain, produced[key].strides)
                if found is not None:
                    yield found
        for m in kernel.members:
            if m.node.shape == node.shape:
                yield Match(m.mapping, whole)
                break
        for m in kernel.members if kernel.host is None else ():
            for theirs in m.node.reads():
                mine = reads.get((theirs.value, theirs.offset))
                if mine is not None:
                    walk = m.over(theirs).strides
                    found = match(node.shape, mine.strides, kernel.domain, walk)
                    if found is not None:
                        yield found
        if kernel.host is None and (found := same_shape(node.shape, kernel.domain)):
            yield found

    def _tried(
        self, kernel: Kernel, domain: Sizes, cuts: tuple[Sizes, ...], members: list[Member],
        member: Member,
    ) -> tuple[int | None, tuple[int, int] | None] | None:  # fmt: skip
        """Return the kernel's rows and columns with a new member, or None if it can't be one."""
        starts = _starts(cuts)
        rows = None if kernel.rows is None else starts[kernel.rows]
        columns = None
        if kernel.columns is not None:
            columns = starts[kernel.columns[0]], starts[kernel.columns[1]]
        if member.node.how:
            if kernel.host is not None:
                return None
            part = segment(member.axes(), domain)
            if part is None:
                return None
            if part == (0, len(domain)):
                pass  # along all axes: fits everywhere
            elif part[1] == len(domain):
                if rows not in (None, part[0]) or columns not in (None, (0, part[0])):
                    return None
                rows = part[0]
            else:
                if columns not in (None, part) or (rows is not None and part != (0, rows)):
                    return None
                columns = part
        everyone = [*members, member]
        if not self._levels_fit(domain, rows, everyone):
            return None
        if not self._reads_fit(kernel, domain, cuts, members, member, rows):
            return None
        if rows is not None and not _run_through(domain, rows, everyone):
            return None
        if kernel.host is not None and not (
            _run_through(domain, starts[kernel.lead], [member]) and _side_by_side(member)
        ):
            return None
        return rows, columns

    def _levels_fit(self, domain: Sizes, rows: int | None, members: list[Member]) -> bool:
        """Tell whether each member runs along all axes, or else along those outside of rows."""
        for m in members:
            missing = [a for a, p in enumerate(m.mapping.places) if p < 0 and domain[a] != 1]
            if missing and (
                rows is None
                or m.node.how
                or [a for a in range(rows, len(domain)) if domain[a] != 1] != missing
            ):
                return False
        return True

    def _reads_fit(
        self, kernel: Kernel, domain: Sizes, cuts: tuple[Sizes, ...], members: list[Member],
        member: Member, rows: int | None,
    ) -> bool:  # fmt: skip
        """Tell whether all that a new member reads of this kernel's is there in time."""
        produced = {m.node.out.value: m for m in members}
        own: dict[int, Read] = {v: m.over(m.node.out) for v, m in produced.items()}
        if kernel.host is not None:
            host = kernel.host.refined(cuts)
            own.update((w.value, host.over(w)) for w in host.node.outputs)
        for r in member.node.reads():
            if r.value not in own:
                continue
            if self.writers[r.value] > 1:
                return False
            there = own[r.value]
            if member.over(r).strides != there.strides or r.offset != there.offset:
                return False
            maker = produced.get(r.value)
            if maker is None or not maker.node.how:
                continue
            if rows is None or segment(maker.axes(), domain) != (rows, len(domain)):
                return False
        return self._states_fit(kernel, members, member)

    def _states_fit(self, kernel: Kernel, members: list[Member], member: Member) -> bool:
        """Tell whether a new state only replaces elements that nobody needs any more."""
        home = self.lowered.homes.get(member.node.out.value)
        if home is None:
            return True
        if kernel.host is not None and any(r.value == home for r in kernel.host.node.inputs):
            return False
        where = member.over(member.node.out)
        for m in [*members, member]:
            for r in m.node.reads():
                if r.value == home:
                    over = m.over(r)
                    if over.strides != where.strides or over.offset != where.offset:
                        return False
        return True

    def _begin(self, node: Compute) -> Kernel:
        """Return a kernel of one node, its axes in the order of what it writes or reads."""
        if node.how:
            order = order_of(node.expr, node.shape)
        else:
            steps = [
                abs(s) if n > 1 else 0 for n, s in zip(node.shape, node.out.strides, strict=True)
            ]
            order = tuple(sorted(range(len(steps)), key=lambda d: -steps[d] if steps[d] else 1))
            if any(s == 0 and n > 1 for n, s in zip(node.shape, steps, strict=True)):
                order = order_of(node.expr, node.shape)
        order = tuple(d for d in order if node.shape[d] != 1)
        factors = tuple((n,) for n in node.shape)
        member = Member(Mapping(factors, tuple(order)), node)
        domain = tuple(node.shape[d] for d in order)
        kernel = Kernel(domain, [member])
        if node.how:
            part = segment(member.axes(), domain)
            assert part is not None, "a reduction along scattered axes"
            if part == (0, len(domain)):
                pass
            elif part[1] == len(domain):
                kernel.rows = part[0]
                if not _run_through(domain, part[0], [member]):
                    return self._gathered(node, kernel)
            else:
                kernel.columns = part
        return kernel

    def _gathered(self, node: Compute, kernel: Kernel) -> Kernel:
        """A row that memory doesn't run through: combine along columns instead, the row outside."""
        a, n = kernel.rows, len(kernel.domain)
        assert a is not None
        (member,) = kernel.members
        turned = (*range(a, n), *range(a))
        places = tuple(member.mapping.places[i] for i in turned)
        kernel.members = [Member(Mapping(member.mapping.factors, places), node)]
        kernel.domain = tuple(kernel.domain[i] for i in turned)
        kernel.rows, kernel.columns = None, (0, n - a)
        return kernel


def joined(node: Compute) -> Compute:
    """Return a node with those dims joined that all accesses pass through as through one.

    So the columns of a product are a single dim again, which a view may have cut into heads.
    """
    if node.how:
        return node
    order = sorted(range(len(node.shape)), key=lambda d: -node.out.strides[d])
    found = [e for e in (node.out, *leaves(node.expr)) if not isinstance(e, Const)]
    shape, walks = merge(
        [node.shape[d] for d in order], [[e.strides[d] for d in order] for e in found]
    )
    strides = {id(e): walk for e, walk in zip(found, walks, strict=True)}
    change: Callable[[Any], Expr] = lambda e: (  # noqa: E731
        replace(e, strides=strides[id(e)]) if id(e) in strides else e
    )
    out = replace(node.out, strides=strides[id(node.out)])
    return replace(node, out=out, shape=shape, expr=rewrite(node.expr, change))


def _starts(cuts: tuple[Sizes, ...]) -> list[int]:
    """Return where each axis begins after cutting, and the end."""
    out, at = [], 0
    for c in cuts:
        out.append(at)
        at += len(c)
    return [*out, at]


def segment(axes: list[int], domain: Sizes) -> tuple[int, int] | None:
    """Return (from, to) if some axes lie side by side; axes of size 1 don't count."""
    wanted = [a for a in axes if domain[a] != 1]
    if not wanted:
        return (0, len(domain)) if all(n == 1 for n in domain) else None
    a, b = wanted[0], wanted[-1] + 1
    if any(domain[i] != 1 and i not in wanted for i in range(a, b)):
        return None
    if all(n == 1 for n in domain[:a]):
        a = 0
    if all(n == 1 for n in domain[b:]):
        b = len(domain)
    return a, b


def _side_by_side(member: Member) -> bool:
    """Tell whether neighbours along the columns are neighbours in memory, or the same element."""
    read = [e.strides for e in leaves(member.node.expr) if isinstance(e, Read)]
    last = [member.mapping.strides(s)[-1] for s in read]
    return all(s in (0, 1) for s in last) and member.over(member.node.out).strides[-1] == 1


def _run_through(domain: Sizes, first: int, members: Iterable[Member]) -> bool:
    """Tell whether the axes from the first one on are a single one for every access."""
    walks: list[Sizes] = []
    for m in members:
        read = [e for e in leaves(m.node.expr) if not isinstance(e, Const)]
        walks += [m.mapping.strides(e.strides)[first:] for e in read]
        walks.append(m.mapping.strides(m.node.out.strides)[first:])
    return len(merge(domain[first:], walks)[0]) <= 1


def _alone(node: Extern | Tile) -> Kernel:
    """Return the kernel of an op, its axes those of its (last) result as it lies in memory."""
    if isinstance(node, Tile):
        return Kernel((), host=Host(Mapping((), ()), node))
    shape, out = node.shapes[-1], node.outputs[-1]
    order = tuple(sorted(range(len(shape)), key=lambda d: -out.strides[d]))
    host = Host(Mapping(tuple((n,) for n in shape), order), node)
    lead = HOSTS.get(type(node.call.op).__name__, -1)
    return Kernel(tuple(shape[d] for d in order), host=host, lead=lead % max(1, len(shape)))


def _is_written(node: Extern) -> bool:
    """Tell whether a kernel is written for an op: there is none for nothing, nor for 3-d images."""
    is_product = type(node.call.op).__name__ == "Matmul"
    return not any(0 in s or (len(s) > 4 and not is_product) for s in node.shapes)


def fuse(lowered: Lowered) -> list[Kernel]:
    """Put nodes together into kernels."""
    return Fusion(lowered).run()
