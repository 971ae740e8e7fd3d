"""Compiles launches for a GPU that is not present, and reads resource usage and machine code from the result.

It does not work in a process with TRITON_INTERPRET=1, where triton compiles nothing.
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
"""Registers of a multiprocessor, for compute capability 8.0 and 9.0."""
SHARED = {90: 233472, 80: 167936}
"""Bytes of shared memory of a multiprocessor; each program takes 1024 in addition to its own."""
SHARED_LIMIT = {90: 232448, 80: 166912}
"""Greatest number of bytes of shared memory of a program, which triton's compiler does not enforce."""
WARPS = 64
"""Greatest number of warps of a multiprocessor."""


class AbsentGpu:
    """A driver for triton with a target but without a device."""

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
    """The result of compiling a launch.

    Attributes:
        registers: registers per thread.
        shared: bytes of shared memory per program.
        stack: bytes per thread that are spilled from registers or indexed at run time.
        programs: number of programs that fit on a multiprocessor at once.
        ptx: the PTX code.
        hazards: uses of registers of matrix products in flight (see `golf_fast.ops.wgmma`), for 9.0.
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
    """The intended number of programs per multiprocessor, which follows from the limit of registers."""
    if launch.max_registers is None:
        return 1
    return min(_by_registers(launch.max_registers, launch.num_warps), WARPS // launch.num_warps)


def _programs(registers: int, shared: int, warps: int, arch: int) -> int:
    return min(_by_registers(registers, warps), SHARED[arch] // (shared + 1024), WARPS // warps)


def _by_registers(registers: int, warps: int) -> int:
    """The number of programs that fit by their registers, which are allocated per warp in units of 8 per thread."""
    return REGISTERS // (-(-registers // 8) * 8 * 32 * warps)
