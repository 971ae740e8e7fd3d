"""The launch of a Triton kernel as a value, which a program runs and the compile gates compile without a GPU.

As both use the same value, the gates check exactly what a GPU runs, down to the specialization of each argument.
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
"""Number of kernel launches of this process by op and kernel, by which tests and `doctor` verify that an op ran."""

INTERPRETED_MULTIPROCESSORS = 3
"""Number of programs of a persistent kernel in the interpreter, few so that each processes several tiles."""


@dataclass(frozen=True)
class Launch:
    """A kernel with its grid, arguments and options.

    Attributes:
        op: name under which the launch is counted: the op, followed by a dot and the kernel if it has several.
        kernel: the Triton kernel.
        grid: the launch grid.
        arguments: arguments by name, including constants.
        num_warps: warps per program.
        num_stages: stages of the software pipeline.
        max_registers: limit of registers per thread; None: the compiler decides.
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
        """The options of triton's compiler."""
        # Fused multiply-adds are set explicitly, since triton's default differs between versions.
        options = {"num_warps": self.num_warps, "num_stages": self.num_stages, "enable_fp_fusion": True}
        return options if self.max_registers is None else options | {"maxnreg": self.max_registers}

    def __call__(self) -> None:
        """Start the kernel on the current stream of the device of its first tensor."""
        launches[self.op] += 1
        bases = (getattr(value, "base", value) for value in self.arguments.values())  # the tensor of a descriptor
        device, *_ = (base.device for base in bases if isinstance(base, torch.Tensor))
        if device.type == "cuda" and device.index != torch.cuda.current_device():
            with torch.cuda.device(device):
                self._start()
        else:
            self._start()

    def _start(self) -> None:
        self.kernel[self.grid](**self.arguments, **self.options)

    def compile(self) -> Any:
        """Compile for the target of triton's active driver, which need not exist; returns the compiled kernel."""
        return self.kernel.warmup(**self.arguments, grid=self.grid, **self.options)


def triton_obstacle(device_kind: str) -> str | None:
    """The `backends.Candidate.obstacle` of Triton kernels: None if they can run on a device type, else what is
    missing."""
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
    """The set of launch configurations for `device`: 90 (TMA, 227 KiB of shared memory) or 80.

    Configurations for 80 use less than 99 KiB, so they also suit 8.6, 8.9 and 12.0. In the interpreter it is 90.
    """
    if device.type != "cuda":
        return 90
    return 90 if torch.cuda.get_device_capability(device)[0] in (9, 10) else 80


@functools.cache
def multiprocessors(device: torch.device) -> int:
    """The number of programs of a persistent kernel on `device`."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).multi_processor_count
    return INTERPRETED_MULTIPROCESSORS


def strides(**tensors: torch.Tensor) -> dict[str, int]:
    """Strides of `[B, T, heads, head_dim]` tensors under the names of kernel arguments: `q_batch`, `q_row`,
    `q_head`."""
    return {
        f"{name}_{axis}": stride
        for name, tensor in tensors.items()
        for axis, stride in zip(("batch", "row", "head"), tensor.stride()[:3], strict=True)
    }
