"""From IR text to functions that can be called, through llvmlite."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any

from .target import Target, host


@functools.cache
def machine(target: Target | None = None) -> Any:
    """Return LLVM's machine for a target; None is this processor."""
    import llvmlite.binding as llvm

    target = target or host()
    if target.triple:  # a foreign one
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
        found = llvm.Target.from_triple(target.triple)
    else:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        found = llvm.Target.from_default_triple()
    return found.create_target_machine(
        cpu=target.cpu, features=target.features, opt=2, jit=not target.triple
    )


@functools.cache
def _linker() -> Any:
    import llvmlite.binding as llvm

    return llvm.create_lljit_compiler(machine())


class Library:
    """Machine code in memory; it lives as long as this object."""

    _numbers = itertools.count()

    def __init__(self, code: bytes, exports: Sequence[str]) -> None:
        import llvmlite.binding as llvm

        builder = llvm.JITLibraryBuilder().add_object_img(code).add_current_process()
        for name in exports:
            builder.export_symbol(name)
        self._tracker = builder.link(_linker(), f"toumei{next(self._numbers)}")

    def address(self, function: str) -> int:
        """Return where a function begins."""
        return int(self._tracker[function])


def parse(text: str, target: Target | None = None) -> Any:
    """Return LLVM's module for IR text, checked."""
    import llvmlite.binding as llvm

    to = machine(target)
    parsed = llvm.parse_assembly(text)
    parsed.triple, parsed.data_layout = to.triple, str(to.target_data)
    parsed.verify()
    return parsed


def compile_ir(text: str, target: Target | None = None) -> bytes:
    """Return the object code of a module for a target; None is this processor."""
    return bytes(machine(target).emit_object(parse(text, target)))


def assembly(text: str, target: Target | None = None) -> str:
    """Return the assembly of a module, to be read."""
    return str(machine(target).emit_assembly(parse(text, target)))
