"""The native core, native/module.cpp: whether it was built, and which instruction sets it may use here."""

import os

from stl_ray.options import require_known

try:
    from stl_ray.csc import _native as core
except ImportError:  # installed without a compiler
    core = None  # type: ignore[assignment]

__all__ = ["CAP", "INSTRUCTION_SETS", "available", "core", "instruction_sets"]

INSTRUCTION_SETS = ("avx512bf16", "avx512", "avx2", "baseline")
"""Instruction sets that the native core can be built for, the fastest first; every processor has "baseline"."""

CAP = "STL_RAY_MAX_CPU_ISA"
"""The environment variable that names the fastest of INSTRUCTION_SETS that the native core may use; unset allows all."""


def available() -> bool:
    """Whether the native core was built."""
    return core is not None


def instruction_sets() -> list[str]:
    """Instruction sets that the native core may use here, the fastest first; none where it is missing.

    The processor has them, and STL_RAY_MAX_CPU_ISA allows them.

    Raises:
        ConfigError: STL_RAY_MAX_CPU_ISA names none of INSTRUCTION_SETS.
    """
    cap = os.environ.get(CAP) or INSTRUCTION_SETS[0]
    require_known(cap, INSTRUCTION_SETS, kind=f"instruction set in {CAP}")
    allowed = INSTRUCTION_SETS[INSTRUCTION_SETS.index(cap) :]
    return [name for name in core.instruction_sets() if name in allowed] if available() else []
