"""Compile launches for a GPU that is not there, and read off what the compiler made of them.

Not in a process where TRITON_INTERPRET=1: there triton compiles nothing.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from golf_fast.ops import wgmma
from golf_fast.ops.launch import Launch

REGISTERS = 65536
"""Of a multiprocessor, of compute capability 8.0 and 9.0 alike."""
SHARED = {90: 233472, 80: 167936}
"""Bytes of shared memory of a multiprocessor; a program takes 1024 besides its own."""
SHARED_LIMIT = {90: 232448, 80: 166912}
"""Bytes of shared memory that a program can have; triton's compiler does not refuse more."""
WARPS = 64
"""That a multiprocessor holds."""


class AbsentGpu:
    """A driver for triton that knows its target and has no device."""

    def __init__(self, arch: int) -> None:
        from triton.backends.compiler import GPUTarget

        self.target = GPUTarget("cuda", arch, 32)

    def get_current_target(self) -> Any:
        return self.target

    def get_current_device(self) -> int:
        return int(self.target.arch)

    def get_current_stream(self, device: int) -> int:
        return 0


@dataclass(frozen=True)
class Compiled:
    """What the compiler made of a launch.

    Attributes:
        registers: of a thread.
        shared: bytes of shared memory of a program.
        stack: bytes of a thread that do not fit its registers, or are indexed at run time.
        programs: how many programs a multiprocessor holds at once.
        ptx: the program.
        hazards: registers of matrix products in flight that are touched too early (see `golf_fast.ops.wgmma`), for 9.0.
    """

    registers: int
    shared: int
    stack: int
    programs: int
    ptx: str
    hazards: list[str]


def compile_launch(launch: Launch, arch: int) -> Compiled:
    """Compile for `arch` (80 or 90); the tensors of the launch may be on the meta device."""
    import triton

    triton.runtime.driver.set_active(AbsentGpu(arch))
    made = launch.compile()
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"

    def said(*command: str | Path) -> str:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        usage = said(tools / "cuobjdump", "-res-usage", file.name)
        has_products = "wgmma.mma_async" in made.asm["ptx"]
        found = wgmma.hazards(said(tools / "nvdisasm", "-c", file.name)) if has_products else []
    # A kernel that spills shows it in STACK; the LOCAL field stays 0.
    stack, registers = (int(re.search(rf"\b{field}:(\d+)", usage)[1]) for field in ("STACK", "REG"))  # type: ignore[index]
    shared = int(made.metadata.shared)
    programs = _programs(registers, shared, launch.num_warps, arch)
    return Compiled(registers, shared, stack, programs, made.asm["ptx"], found)


def planned_programs(launch: Launch) -> int:
    """How many programs a multiprocessor is meant to hold: as many as the limit on registers leaves room for."""
    if launch.max_registers is None:
        return 1
    return min(_by_registers(launch.max_registers, launch.num_warps), WARPS // launch.num_warps)


def _programs(registers: int, shared: int, warps: int, arch: int) -> int:
    return min(_by_registers(registers, warps), SHARED[arch] // (shared + 1024), WARPS // warps)


def _by_registers(registers: int, warps: int) -> int:
    """Registers are dealt out to warps, in units of 8 a thread."""
    return REGISTERS // (-(-registers // 8) * 8 * 32 * warps)
