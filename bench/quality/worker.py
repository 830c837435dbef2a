"""A side in a process of its own.  python -m bench.quality.worker THREADS SIDE

    {"do": "about"}                                                -> {"torch": "2.13.0"}
    {"do": "open", "rung": "mlp", "options": {…}, "exact": false}  -> {}
    {"do": "losses", "count": 3}                                   -> {"losses": [{…}, …]}
    {"do": "epoch"}                                                -> a Row
    {"do": "finish"}                                               -> {"accuracy": 0.98, …}
    {"do": "samples", "count": 100, "folder": "…"}                 -> {"file": "….npy"}

The options are those of `toumei train`.  A request that fails is answered with {"error": "…"}.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

import toumei
from bench.peers.serve import Answering, listen, stay_on
from toumei.recipes.recipe import Options

from .course import Course, open_course
from .rungs import OURS


class Worker(Answering):
    """Answers requests about the training of one side."""

    def __init__(self, side: str) -> None:
        self.side = side
        self.course: Course | None = None

    def do_about(self) -> dict[str, Any]:
        version = import_module(self.side).__version__
        return {self.side: version, "numpy": np.__version__}

    def do_open(self, rung: str, options: dict[str, Any], exact: bool) -> dict[str, Any]:
        self.course = open_course(self.side, rung, Options(**options), exact)
        return {}

    def do_losses(self, count: int) -> dict[str, Any]:
        return {"losses": self._opened().losses(count)}

    def do_epoch(self) -> dict[str, Any]:
        return asdict(self._opened().epoch())

    def do_finish(self) -> dict[str, Any]:
        return self._opened().finish()

    def do_samples(self, count: int, folder: str) -> dict[str, Any]:
        path = Path(folder) / f"{self.side}.npy"
        np.save(path, self._opened().side.samples(count, seed=2))
        return {"file": str(path)}

    def _opened(self) -> Course:
        if self.course is None:
            raise ValueError("nothing is open")
        return self.course


if __name__ == "__main__":
    threads = int(sys.argv[1])
    stay_on(threads)
    if sys.argv[2] == OURS:
        toumei.set_num_threads(threads)
    listen(lambda: Worker(sys.argv[2]))
