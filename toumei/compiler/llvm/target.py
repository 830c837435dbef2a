"""The processor that code is generated for: its vectors, its registers, what it can do.

The host by default; another one by name, to test the narrow vectors on a wide machine or to look at
foreign assembly: `Target.named("avx2")`.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

SIZES = {"float": 4, "double": 8, "i1": 1, "i8": 1, "i16": 2, "i32": 4, "i64": 8}  # bytes

# name: (triple, LLVM's cpu, bytes of a vector, number of vector registers, FMA, rounding)
_KNOWN: dict[str, tuple[str, str, int, int, bool, bool]] = {
    "avx512": ("", "x86-64-v4", 64, 32, True, True),
    "avx2": ("", "x86-64-v3", 32, 16, True, True),
    "generic": ("", "x86-64", 16, 16, False, False),  # SSE2: any x86-64
    "aarch64": ("aarch64-unknown-linux-gnu", "generic", 16, 32, True, True),  # NEON
}
_AVX512 = ("avx512f", "avx512vl", "avx512dq", "avx512bw")  # what the 64-byte code relies on


class Target(NamedTuple):
    """A processor.

    Args:
        name: "avx512", "avx2", "generic" or "aarch64".
        triple: as LLVM names the platform; "" is the host's.
        cpu, features: as LLVM names them.
        vector_bytes: of one vector register.
        registers: how many of them there are.
        has_fma: a·b + c is one instruction.
        has_rounding: so are floor, ceil, trunc and rounding to even.
    """

    name: str
    triple: str
    cpu: str
    features: str
    vector_bytes: int
    registers: int
    has_fma: bool
    has_rounding: bool

    def lanes(self, element: str) -> int:
        """Return how many numbers a vector register holds.

        >>> Target.named("avx2").lanes("float"), Target.named("generic").lanes("double")
        (8, 2)
        """
        return self.vector_bytes // SIZES[element]

    @classmethod
    def named(cls, name: str) -> Target:
        """Return a target by name; code for "avx512" or "avx2" runs only where the host has it."""
        if name == "host":
            return host()
        if name not in _KNOWN:
            known = ", ".join(["host", *_KNOWN])
            raise ValueError(f"there is no target {name!r}: it is one of {known}")
        triple, cpu, *_ = _KNOWN[name]
        return _described(name, triple, cpu, "")

    def runs_here(self) -> bool:
        """Return whether the host can execute code for this target."""
        order = ("generic", "avx2", "avx512")
        here = host().name
        if self.name not in order or here not in order:
            return self == host()
        return order.index(self.name) <= order.index(here)


@functools.cache
def host() -> Target:
    """Return the processor that this program runs on."""
    import llvmlite.binding as llvm

    cpu, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features()
    name = _best("x86_64" in llvm.get_process_triple(), features)
    return _described(name, "", cpu, features.flatten())


def _described(name: str, triple: str, cpu: str, features: str) -> Target:
    _, _, vector_bytes, registers, has_fma, has_rounding = _KNOWN[name]
    return Target(
        name, triple, cpu, features, vector_bytes, registers, has_fma, has_rounding
    )  # fmt: skip


def _best(is_x86: bool, features: dict[str, bool]) -> str:
    """Return the widest known target that a processor with these features covers."""
    if not is_x86:
        return "aarch64"
    if all(features.get(f) for f in _AVX512):
        return "avx512"
    return "avx2" if features.get("avx2") and features.get("fma") else "generic"
