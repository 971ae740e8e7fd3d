"""One launch of a Triton kernel as a value: the program runs it, the compile gates compile it without a GPU.

Because both use the same value, what is checked for sm_90 and sm_80 is what a GPU gets, down to the specialization of
each argument.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch

launches: Counter[str] = Counter()
"""Kernel launches of this process by op and kernel: tests and `doctor` prove with it that an op ran."""

INTERPRETED_MULTIPROCESSORS = 3
"""How many programs a persistent kernel starts in the interpreter: few, so that each of them has several tiles."""


@dataclass(frozen=True)
class Launch:
    """A kernel with its grid, its arguments by name (constants included) and its options.

    `op` is the name under which the launch is counted: that of the op, with the kernel behind a dot if it has several.
    `max_registers` limits the compiler, for each thread; None: it decides.
    """

    op: str
    kernel: Any
    grid: tuple[int, ...]
    arguments: dict[str, Any]
    num_warps: int
    num_stages: int
    max_registers: int | None = None

    @property
    def options(self) -> dict[str, int]:
        """What triton's compiler is told besides the arguments."""
        # Fused multiply-adds are said and not left to triton's default, which differs between versions.
        options = {"num_warps": self.num_warps, "num_stages": self.num_stages, "enable_fp_fusion": True}
        return options if self.max_registers is None else options | {"maxnreg": self.max_registers}

    def __call__(self) -> None:
        """Start the kernel on the current stream of the device of its first tensor."""
        launches[self.op] += 1
        bases = (getattr(value, "base", value) for value in self.arguments.values())  # a descriptor's, or itself
        device, *_ = (base.device for base in bases if isinstance(base, torch.Tensor))
        if device.type == "cuda" and device.index != torch.cuda.current_device():
            with torch.cuda.device(device):
                self._start()
        else:
            self._start()

    def _start(self) -> None:
        self.kernel[self.grid](**self.arguments, **self.options)

    def compile(self) -> Any:
        """Compile for the target of triton's active driver, which need not be real; return the compiled kernel."""
        return self.kernel.warmup(**self.arguments, grid=self.grid, **self.options)


def triton_obstacle(device_kind: str) -> str | None:
    """None if Triton kernels can run on `device_kind`, else what is missing (see `backends.Candidate`)."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if os.environ.get("TRITON_INTERPRET") == "1":
        return None if device_kind == "cpu" else "TRITON_INTERPRET=1 is set, which is for the CPU"
    if device_kind != "cuda":
        return f"there is no Triton for {device_kind}; TRITON_INTERPRET=1 interprets its kernels on a CPU, slowly"
    if torch.version.cuda is None:
        return "this build of torch is not for NVIDIA GPUs"
    if not torch.cuda.is_available():
        return "there is no GPU that torch can use"
    capability = torch.cuda.get_device_capability()
    if capability < (8, 0):
        return f"the GPU has compute capability {capability[0]}.{capability[1]}, and 8.0 is the least"
    return None


@functools.cache
def architecture(device: torch.device) -> int:
    """Which set of launch configurations suits `device`: 90 (TMA, 227 KiB of shared memory) or 80.

    Those for 80 stay below 99 KiB, so they also serve 8.6, 8.9 and 12.0. In the interpreter it is 90.
    """
    if device.type != "cuda":
        return 90
    return 90 if torch.cuda.get_device_capability(device)[0] in (9, 10) else 80


@functools.cache
def multiprocessors(device: torch.device) -> int:
    """How many programs a persistent kernel starts on `device`."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).multi_processor_count
    return INTERPRETED_MULTIPROCESSORS


def strides(**tensors: torch.Tensor) -> dict[str, int]:
    """Strides of `[B, T, heads, head_dim]` tensors as kernels call them: `q_batch`, `q_row`, `q_head`."""
    return {
        f"{name}_{axis}": stride
        for name, tensor in tensors.items()
        for axis, stride in zip(("batch", "row", "head"), tensor.stride()[:3], strict=True)
    }
