"""Who takes part: Toumei, and its peers in environments of their own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from .process import LIMIT, Process
from .venvs import ENVIRONMENTS, ensure

OURS = "toumei"


class Side(NamedTuple):
    """A framework in one of its forms.

    Args:
        title: as the table says it.
        environment: by its name in bench/venvs.py; "" is the one that the bench runs in.
        module: what its process runs.
        mode: the argument of the module that says which form.
    """

    title: str
    environment: str
    module: str
    mode: str

    def python(self, say: Callable[[str], None]) -> Path:
        """Return the Python that it runs in, made first if need be.

        Raises:
            InstallError: it can't be made.
        """
        if not self.environment:
            return Path(sys.executable)
        return ensure(ENVIRONMENTS[self.environment], say)

    def start(self, python: Path, threads: int, caches: Path, limit: float = LIMIT) -> Process:
        """Start it; compiled code that it keeps on the disk goes into a folder of `caches`."""
        kept = {"TOUMEI_CACHE": str(caches), "TORCHINDUCTOR_CACHE_DIR": str(caches / "inductor")}
        return Process(python, self.module, [self.mode], threads, kept, limit)


PEERS = {
    "torch": Side("PyTorch", "torch", "bench.peers.torch", "eager"),
    "torch-compile": Side("torch.compile", "torch", "bench.peers.torch", "compiled"),
    "jax": Side("JAX", "jax", "bench.peers.jax", "jit"),
    "tf": Side("TensorFlow", "tensorflow", "bench.peers.tensorflow", "graph"),
    "tf-xla": Side("TF XLA", "tensorflow", "bench.peers.tensorflow", "xla"),
}


def ours(compiled: bool) -> Side:
    """Return Toumei, its steps compiled or not."""
    title = "Toumei" if compiled else "Toumei eager"
    return Side(title, "", "bench.peers.toumei", "compiled" if compiled else "eager")
