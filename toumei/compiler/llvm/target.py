"""What a processor offers to generated code: vector width, registers, fused multiply-add."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from .ir import SIZES


@dataclass(frozen=True)
class Target:
    """A processor to generate code for.

    Args:
        name: "host", "avx512", "avx2", "generic".
        width: of a vector register, in bytes.
        registers: how many vector registers there are.
        has_fma: it multiplies and adds in one instruction.
        cpu, features: as LLVM names them.
    """

    name: str
    width: int
    registers: int
    has_fma: bool
    cpu: str
    features: str = ""

    def lanes(self, element: str) -> int:
        """Return how many numbers fill a register.

        >>> target("avx2").lanes("float"), target("avx512").lanes("double")
        (8, 8)
        """
        return self.width // SIZES[element]


KNOWN = {
    "avx512": Target("avx512", 64, 32, True, "x86-64-v4"),
    "avx2": Target("avx2", 32, 16, True, "x86-64-v3"),
    "generic": Target("generic", 16, 16, False, "x86-64"),
}


@functools.cache
def target(name: str = "host") -> Target:
    """Return a target by name; "host" is this processor.

    Raises:
        ValueError: no such target.
    """
    if name == "host":
        return _host()
    if name not in KNOWN:
        raise ValueError(f"target {name!r}: it should be 'host' or one of {', '.join(KNOWN)}")
    return KNOWN[name]


def runs_here(wanted: Target) -> bool:
    """Tell whether this processor can run the code of a target."""
    return wanted.width <= _host().width and wanted.has_fma <= _host().has_fma


@functools.cache
def _host() -> Target:
    import llvmlite.binding as llvm

    found = llvm.get_host_cpu_features()
    cpu, features = llvm.get_host_cpu_name(), found.flatten()
    if found.get("avx512f") and found.get("avx512vl") and found.get("avx512dq"):
        return Target("host", 64, 32, True, cpu, features)
    if found.get("avx2") and found.get("fma"):
        return Target("host", 32, 16, True, cpu, features)
    arm = bool(found.get("neon"))  # 32 registers of 16 bytes, with fused multiply-add
    return Target("host", 16, 32 if arm else 16, arm, cpu, features)
