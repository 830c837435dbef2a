"""explain: what a compiled step became, kernel by kernel, and where its time goes."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import ToumeiError

if TYPE_CHECKING:
    import os

    from rich.console import Console, ConsoleOptions
    from rich.text import Text

    from ..compiler.explain import Seen, Timed
    from ..compiler.explain_kernels import KernelRow
    from ..compiler.peaks import Peaks

MOST = 15  # lines of the table of kernels
NARROW, WIDE = 60, 160  # columns
OVER = 1.05  # of a peak: more than that, and it was measured while something disturbed
_COLOURS = {"arithmetic": "green", "cache": "cyan", "memory": "blue", "Python": "red"}

Line = list[tuple[str, str]]  # pieces of text, each with rich's name of its style


class Alike(NamedTuple):
    """Kernels that share their code and the line that asked for them: the table's lines."""

    rows: Sequence[KernelRow]

    @property
    def seconds(self) -> float:
        return sum(r.seconds for r in self.rows)

    @property
    def flops(self) -> float:
        return sum(r.operations for r in self.rows) / max(self.seconds, 1e-12)

    @property
    def bandwidth(self) -> float:
        return sum(r.read + r.written for r in self.rows) / max(self.seconds, 1e-12)

    @property
    def share(self) -> float | None:
        return average_share(self.rows)


class Explanation:
    """What a step became: print it, or ask for the parts.

    Attributes:
        name: of the step.
        kernels: one KernelRow per kernel, in the order in which they run.
        passes: (name of the pass, the graph as it left it), the trace first.
        seconds: of one step, the median of some runs.
        peaks: what the machine could do.
        arena: bytes of the memory for all that is in between.
    """

    def __init__(
        self, seen: Seen, timed: Timed, peaks: Peaks, kernels: Sequence[KernelRow]
    ) -> None:
        self._seen, self._timed = seen, timed
        self.name, self.passes = seen.name, list(seen.passes)
        self.kernels, self.peaks, self.seconds = list(kernels), peaks, timed.step
        self.arena = seen.planner.plan.arena

    # --- on request ---

    def graph(self, pass_name: str | None = None) -> str:
        """Return the graph as text: before and after a pass, or before and after all of them.

        Raises:
            ToumeiError: there is no such pass.
        """
        names = [name for name, _ in self.passes]
        if pass_name is None:
            shown = [0, len(names) - 1]
        elif pass_name in names:
            at = names.index(pass_name)
            shown = [at - 1, at] if at else [0]
        else:
            raise ToumeiError(f"there is no pass {pass_name!r}: there are {', '.join(names)}")
        return "\n\n".join(titled_graph(*self.passes[i]) for i in shown)

    def groups(self) -> str:
        """Return what each kernel computes, formula by formula; %n are the graph's values."""
        from ..compiler.explain_kernels import group_text

        numbers = range(len(self.kernels))
        return "\n".join(group_text(i, self._seen.planner) for i in numbers)

    def memory(self) -> str:
        """Return where each value lies in the arena, and which kernels need it there."""
        from ..compiler.explain_kernels import memory_text

        return memory_text(self._seen.planner)

    def ir(self, kernel: int, target: str | None = None) -> str:
        """Return the LLVM IR of one kernel.

        Args:
            kernel: its number in the table.
            target: "avx512", "avx2", "generic" (any x86-64) or "aarch64": as it would be written
                for that processor; None: for this one.

        Raises:
            ToumeiError: there is no such kernel, or it is NumPy's.
        """
        from ..compiler.llvm.ir import module

        self._check(kernel)
        planner = self._seen.planner_for(target)
        return module([k.function for k in planner.stages[kernel].kernels])

    def assembly(self, kernel: int, target: str | None = None) -> str:
        """Return one kernel's instructions; arguments and errors are those of `ir`."""
        from ..compiler.llvm.jit import assembly

        text = self.ir(kernel, target)
        return _instructions(assembly(text, self._seen.planner_for(target).target))

    def picture(self, path: str | os.PathLike[str]) -> None:
        """Draw where the step's time goes; the file's ending says in which format."""
        from .kernels import plot_kernels

        plot_kernels(self, path)

    def _check(self, kernel: int) -> None:
        if not 0 <= kernel < len(self.kernels):
            raise ToumeiError(f"there is no kernel {kernel}: they are 0 to {len(self.kernels) - 1}")
        if self.kernels[kernel].reason:
            raise ToumeiError(f"kernel {kernel} has no machine code: {self.kernels[kernel].reason}")

    # --- as text ---

    def text(self, width: int | None = None, most: int = MOST) -> str:
        """Return the table as plain text.

        Args:
            width: columns; the terminal's if None.
            most: kernels to be shown, the costliest ones.
        """
        lines = self._lines(width or shutil.get_terminal_size((100, 24)).columns, most)
        return "\n".join("".join(text for text, _ in line).rstrip() for line in lines)

    def __str__(self) -> str:
        return self.text()

    __repr__ = __str__

    def rich(self, width: int, most: int = MOST) -> Text:
        """Return the table with styles, for rich."""
        from rich.text import Text

        lines = [Text.assemble(*line) for line in self._lines(width, most)]
        return Text("\n", no_wrap=True, end="").join(lines)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        yield self.rich(options.max_width)

    def alike(self) -> list[Alike]:
        """Return the kernels, those that are alike together, the costliest first."""
        found: dict[Any, list[KernelRow]] = {}
        for r in self.kernels:
            key = (r.code, r.does, r.shape, r.where, r.backward) if r.code else r.number
            found.setdefault(key, []).append(r)
        return sorted(map(Alike, found.values()), key=lambda a: -a.seconds)

    def _lines(self, width: int, most: int) -> list[Line]:
        width = min(max(width, NARROW), WIDE)
        lines: list[Line] = [[(line, style)] for line, style in self._head(width)]
        lines += [[], [(_HEAD, "bold")]]
        alike, total = self.alike(), sum(r.seconds for r in self.kernels)
        for a in alike[:most]:
            lines += _kernel_lines(a, total, width)
        if rest := alike[most:]:
            part = sum(a.seconds for a in rest) / max(total, 1e-12)
            count = sum(len(a.rows) for a in rest)
            lines.append([(f"     and {count} more: {part:.1%} of the time", "dim")])
        return [*lines, [], *([(line, "")] for line in textwrap.wrap(self._verdict(), width))]

    def _head(self, width: int) -> Iterator[tuple[str, str]]:
        yield f"{self.name} as native code", "bold"
        counts = [f"{name} {len(graph.calls)}" for name, graph in self.passes]
        python = sum(not r.code for r in self.kernels)
        parts = [
            f"ops: {' → '.join(counts)} → {_count(len(self.kernels), 'kernel')}"
            + (f", {python} of them NumPy" if python else ""),
            f"time: {write_time(self.seconds)} a step (median of {self._timed.runs}, quickest "
            f"{write_time(self._timed.quickest)}, {_count(self.peaks.threads, 'thread')}); "
            f"kernels one by one {write_time(sum(r.seconds for r in self.kernels))}; "
            f"memory for what is in between {self.arena / 2**20:.1f} MiB",
            f"machine's peak: {self.peaks}",
        ]
        if self._seen.later is not None:
            parts.append(
                "the results have a backward pass: another "
                f"{_count(len(self._seen.later.built.stages), 'kernel')}, not shown"
            )
        for part in parts:
            for i, line in enumerate(textwrap.wrap(part, width - 2)):
                yield ("  " * (i > 0) + line), ""

    def _verdict(self) -> str:
        """Say what bounds the step."""
        if not self.kernels:
            return "nothing is computed"
        total = max(sum(r.seconds for r in self.kernels), 1e-12)
        bounds = {r.bound: 0.0 for r in self.kernels}
        for r in self.kernels:
            bounds[r.bound] += r.seconds / total
        order = sorted(bounds, key=lambda b: -bounds[b])
        words = ", ".join(f"{b} {bounds[b]:.0%}" for b in order if bounds[b] >= 0.005)
        share = average_share(self.kernels)
        mean = "" if share is None else f"; it reaches {share:.0%} of what the machine allows there"
        return f"bound by: {words}{mean}"


def average_share(rows: Sequence[KernelRow]) -> float | None:
    """Return the share of the peak of several kernels, each as long as it takes."""
    known = [(r.share, r.seconds) for r in rows if r.share is not None]
    total = sum(seconds for _, seconds in known)
    return sum(share * seconds for share, seconds in known) / total if total else None


def explain(function: Callable[..., Any]) -> Callable[..., Explanation]:
    """Return a function that compiles a step for its arguments and says what became of it.

    The step is compiled afresh and run some times on copies of its state: parameters, optimiser
    and random generators stay as they are.  Each kernel is told by what it computes, the line of
    yours that asked for it, its time, and by the *roofline*: operations at the machine's measured
    peak, or bytes at its measured bandwidth, whichever take longer, are what bounds it; the share
    is that time over the kernel's own.

    Args:
        function: a function or module, compiled or not.

    Raises:
        TraceError: it can't be compiled.

    >>> import toumei as tm
    >>> found = tm.explain(lambda x: x.tanh() * 2)(tm.randn(64, 64))
    >>> [kernel.does for kernel in found.kernels]
    ['tanh, mul']
    >>> print(found.groups())
    kernel 0  tanh, mul  over [64, 64]
        %... = tanh(%0) * 2   -> memory
    """

    def explained(*args: Any, **kwargs: Any) -> Explanation:
        from ..compiler.explain import see
        from ..compiler.explain_kernels import kernel_rows
        from ..compiler.peaks import peaks

        seen = see(function, args, kwargs)
        limits, timed = peaks(), seen.run()
        rows = kernel_rows(seen, timed, limits)
        if any(r.share is not None and r.share > OVER for r in rows):
            limits = peaks(again=True)
            rows = kernel_rows(seen, timed, limits)
        return Explanation(seen, timed, limits, rows)

    return explained


# --- lines ---------------------------------------------------------------------------------------

_HEAD = "   #     time     %  GFLOP/s   GB/s   peak  bound by    what it does"
_INDENT = " " * 5


def _kernel_lines(a: Alike, total: float, width: int) -> list[Line]:
    """Return the lines of some kernels that are alike: numbers, and where they come from."""
    first = a.rows[0]
    share = "–" if a.share is None else f"{a.share:.0%}"
    numbers = (
        f"{first.number:4d} {write_time(a.seconds):>8} {a.seconds / max(total, 1e-12):5.1%} "
        f"{_number(a.flops / 1e9):>8} {_number(a.bandwidth / 1e9):>6} {share:>6}  "
    )
    times = f"×{len(a.rows)} " if len(a.rows) > 1 else ""
    bound = f"{first.bound:<12}"
    room = width - len(numbers) - len(bound)
    does = f"{times}{first.does}"
    lines: list[Line] = [
        [(numbers, ""), (bound, _COLOURS.get(first.bound, "dim")), (_cut(does, room), "bold")]
    ]
    whence = " ".join(filter(None, ["gradient of" if first.backward else "", first.where]))
    place = "  ".join(filter(None, [first.shape, first.module, whence, first.text]))
    lines.append([(_INDENT + _cut(place, width - len(_INDENT)), "dim")])
    if first.reason:
        lines.append([(_INDENT + _cut(first.reason, width - len(_INDENT)), "red")])
    return lines


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[: max(room - 1, 0)].rstrip(", ") + "…"


def write_time(seconds: float) -> str:
    """Write a time with three digits.

    >>> write_time(0.0123), write_time(4.56e-6), write_time(2)
    ('12.3 ms', '4.56 µs', '2.00 s')
    """
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale:
            return f"{_number(seconds / scale)} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def _number(x: float) -> str:
    """Write a number with three digits; nothing for zero."""
    if x <= 0:
        return "–"
    return f"{x:.0f}" if x >= 99.95 else f"{x:.1f}" if x >= 9.995 else f"{x:.2f}"


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'s' * (n != 1)}"


def titled_graph(name: str, graph: Any) -> str:
    """Return a graph as text under the name of the pass that left it."""
    title = "# as traced" if name == "trace" else f"# after {name}"
    return f"{title}: {_count(len(graph.calls), 'op')}\n{graph}"


def _instructions(text: str) -> str:
    """Return assembly without what is for debuggers and for aligning code."""
    skipped = ("\t.cfi_", "\t.p2align", "\t.type", "\t.size", "\t.file", '\t.section\t".note')
    kept = [line for line in text.splitlines() if not line.startswith(skipped)]
    return "\n".join(line for line in kept if line.strip() and not line.startswith("# %bb"))
