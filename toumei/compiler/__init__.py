"""The compiler: a function of tensors becomes a graph, and the graph native code.

`compile.py` is the door: it keeps the programs of a function.  `program.py` makes one of a trace
(`trace.py`), which is a graph (`graph.py`) and what it means for the world outside (`effects.py`,
`guards.py`, `outcome.py`).
"""

from __future__ import annotations

from .compile import Compiled, compile
from .llvm.runtime import get_num_threads, set_num_threads

__all__ = ["Compiled", "compile", "get_num_threads", "set_num_threads"]
