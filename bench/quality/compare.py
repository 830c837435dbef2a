"""The sides of one recipe: processes that take turns, an epoch each, all in one run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bench.measure import CHECKED, TOLERANCE
from bench.process import Process, SideError
from bench.sides import Side
from toumei.recipes import find
from toumei.recipes.recipe import Options

from .course import Row
from .rungs import OURS

#: How many steps' losses are compared, where not CHECKED.  In DCGAN's third step roundings have
#: grown past the tolerance (in one step up to 400 times).  WGAN's generator learns in the fifth.
CHECKED_OF = {"gan": 2, "wgan": 5}
LIMIT = 3600  # seconds of an epoch
SHEET = 100  # images that are drawn of a recipe that draws

KINDS = {
    OURS: Side("Toumei", "", "bench.quality.worker", OURS),
    "torch": Side("PyTorch", "torch", "bench.quality.worker", "torch"),
    "jax": Side("JAX", "jax", "bench.quality.worker", "jax"),
}

Say = Callable[[str], None]
Ready = Mapping[str, Path]  # who takes part, each with its Python
Losses = Sequence[Mapping[str, float]]


@dataclass
class Result:
    """What came out of one training; one that failed has an `error` and no test.

    Args:
        side, seed: whose, and which.
        rows: of each epoch.
        test: the test part's figures with the weights of the best epoch, by name.
        error: why there is nothing, or not all, in one line.
    """

    side: str
    seed: int
    rows: list[Row] = field(default_factory=list)
    test: dict[str, float] = field(default_factory=dict)
    error: str = ""


class Sides:
    """Processes of several sides; one that fails is out, and it is noted why."""

    def __init__(self, stack: ExitStack, ready: Ready, threads: int) -> None:
        self.errors: dict[str, str] = {}
        self.processes: dict[str, Process] = {}
        for side, python in ready.items():
            caches = Path(stack.enter_context(TemporaryDirectory(prefix="bench-")))
            process = KINDS[side].start(python, threads, caches, LIMIT)
            self.processes[side] = stack.enter_context(process)

    def ask(self, do: str, first: int = 0, **request: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        """Ask one side after another, another one first each time; yield who answers what."""
        names = list(self.processes)
        for k in range(len(names)):
            side = names[(first + k) % len(names)]
            if side in self.errors:
                continue
            try:
                answer = self.processes[side].ask(do, **request)
            except SideError as error:
                self.errors[side] = str(error)
            else:
                yield side, answer


@contextmanager
def opened(rung: str, ready: Ready, options: Options, threads: int, exact: bool) -> Iterator[Sides]:
    """Let sides begin with a recipe, each in a process that ends with the block."""
    with ExitStack() as stack:
        sides = Sides(stack, ready, threads)
        list(sides.ask("open", rung=rung, options=asdict(options), exact=exact))
        yield sides


def check(rung: str, ready: Ready, options: Options, threads: int) -> dict[str, float | str]:
    """Return how far the losses of the first steps are from ours, or why that isn't known.

    Nothing is dropped in them, and noise is the same for all.
    """
    with opened(rung, ready, options, threads, exact=True) as sides:
        found = dict(sides.ask("losses", count=CHECKED_OF.get(rung, CHECKED)))
    offs: dict[str, float | str] = dict(sides.errors)
    for side, answer in found.items():
        if side != OURS and OURS in found:
            offs[side] = distance(found[OURS]["losses"], answer["losses"])
    return offs


def distance(ours: Losses, theirs: Losses) -> float:
    """Return the largest difference of two sequences of losses, relative to the largest of ours.

    Figures that are no losses are left aside: an accuracy jumps.

    >>> distance([{"loss": 2.0}, {"loss": 1.0, "accuracy": 0.5}], [{"loss": 2.0}, {"loss": 1.5}])
    0.25
    """
    scales: dict[str, float] = {}
    for step in ours:
        for name in (n for n in step if n.startswith("loss")):
            scales[name] = max(scales.get(name, 0.0), abs(step[name]))
    gaps = [
        abs(mine[name] - other[name]) / scale if name in other else float("inf")
        for mine, other in zip(ours, theirs, strict=True)
        for name, scale in scales.items()
        if name in mine
    ]
    return max((gap if gap == gap else float("inf") for gap in gaps), default=float("inf"))


def is_right(off: float | str | None) -> bool:
    """Return whether a side's losses are ours."""
    return off is None or (isinstance(off, float) and off <= TOLERANCE)


def versions(ready: Ready, threads: int) -> dict[str, dict[str, Any]]:
    """Return the versions of each side's framework and of its NumPy."""
    with ExitStack() as stack:
        return dict(Sides(stack, ready, threads).ask("about"))


def train(
    rung: str, ready: Ready, options: Options, epochs: int, threads: int, folder: Path | None,
    say: Say,
) -> list[Result]:  # fmt: skip
    """Train a recipe with one seed on all sides; they take turns, an epoch each.

    What recipes that draw have drawn at the end goes into the folder, if there is one.
    """
    results = {side: Result(side, options.seed) for side in ready}
    with opened(rung, ready, options, threads, exact=False) as sides:
        for epoch in range(epochs):
            for side, row in sides.ask("epoch", first=epoch):
                results[side].rows.append(Row(**row))
            say(f"{rung}, seed {options.seed}, epoch {epoch + 1}/{epochs}: {_standing(results)}")
        for side, answer in sides.ask("finish"):
            results[side].test = answer["test"]
        if folder is not None and "out" in find(rung).sampling:
            _draw_samples(rung, sides, options.seed, folder)
    return [replace(r, error=sides.errors.get(r.side, "")) for r in results.values()]


def _draw_samples(rung: str, sides: Sides, seed: int, folder: Path) -> None:
    """Draw a sheet of what each side's model makes up."""
    from toumei.viz.images import save_images

    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="bench-") as place:
        for side, answer in sides.ask("samples", count=SHEET, folder=place):
            path = folder / f"quality-{rung}-{side}-{seed}.png"
            title = f"{rung}, {KINDS[side].title}, seed {seed}"
            save_images(np.load(answer["file"]), path, 10, title=title)


def _standing(results: Mapping[str, Result]) -> str:
    """Return the last row of each side in words."""
    parts = []
    for side, result in results.items():
        if result.rows:
            row = result.rows[-1]
            parts.append(f"{KINDS[side].title} {row.value:.5g} ({row.seconds / 60:.2f} min)")
    return ", ".join(parts) or "all sides failed"
