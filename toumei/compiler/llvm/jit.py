"""From IR text to functions that can be called, through llvmlite."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any


@functools.cache
def host() -> Any:
    """Return LLVM's machine for this processor."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=2, jit=True
    )


@functools.cache
def _linker() -> Any:
    import llvmlite.binding as llvm

    return llvm.create_lljit_compiler(host())


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


def compile_ir(text: str) -> bytes:
    """Return the object code of a module."""
    import llvmlite.binding as llvm

    machine = host()
    parsed = llvm.parse_assembly(text)
    parsed.triple, parsed.data_layout = machine.triple, str(machine.target_data)
    parsed.verify()
    return bytes(machine.emit_object(parsed))
