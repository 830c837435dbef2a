"""The compiler: a function of tensors becomes a graph, and the graph native code.

`compiled.py` is the door: it keeps the programs of a function, one for each trace (`program.py`,
`module.py` for modules), and runs the one whose guards hold.  How a program comes about:

    trace      Python -> Graph: the step runs once, on symbols    trace graph symbol structure
               what Python has read, to be compared at each call  guards watch live
               what the step changes besides numbers in memory    effects outcome vjp checks
    passes     Graph -> Graph                                     passes/
    lowering   ops -> nodes: an expression for one element each   lower lowering rules_* scalar
                                                                  expr nodes regions
    fusion     nodes -> kernels, each a walk through index space  fuse axes tile* row*
    code       kernels -> LLVM IR                                 nest hosting externs tuning
    plan       values -> places in memory, kernels -> steps       plan memory
    running    plan -> machine code, threads; Ctrl-C              native interrupts

`single.py` does it for one op, which eager asks for where that is worth it.  `reference.py` runs a
graph with NumPy and is right by definition.  `explain*.py` and `peaks.py` show all of this for a
given step; docs/compiler.md follows one from the first line to the last.
"""

from __future__ import annotations

from .compiled import Compiled, compile
from .llvm.runtime import get_num_threads, set_num_threads

__all__ = ["Compiled", "compile", "get_num_threads", "set_num_threads"]
