"""What the tests need to know of each op, so that none can skip them.

Every op folder has a `cases.py` with a `CASES`. A test fails if one has not, if an operator of the `golf_fast` library
is in no `operator_calls`, or if a Triton kernel is in no `builds`. From these come `gradcheck` and `opcheck` for every
op, and a compilation of every kernel with every configuration for sm_90 and sm_80.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from golf_fast.ops.launch import Launch


@dataclass(frozen=True)
class Sample:
    """One call of an op's public function.

    `differentiable` are the positions in `arguments` that have gradients; those tensors are leaves without
    `requires_grad`, which the user sets.
    """

    label: str
    arguments: tuple[Any, ...]
    keywords: dict[str, Any] = field(default_factory=dict)
    differentiable: tuple[int, ...] = ()


@dataclass(frozen=True)
class OperatorCall:
    """One call of `torch.ops.golf_fast.<operator>`; tensors that have gradients already require them."""

    operator: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Build:
    """A launch that is compiled without a GPU for `arch` (80 or 90), and what must be true of the result.

    `launch` is made with tensors on the meta device and shapes that a run has. `tensor_cores`: the PTX uses wgmma
    (sm_90) or mma.sync (sm_80). `tma`: it uses bulk tensor copies. `stack_bytes`: how much of a thread's registers may
    spill; 0 wherever the seed's shapes lead on sm_90.
    """

    label: str
    arch: int
    launch: Launch
    tensor_cores: bool
    tma: bool = False
    stack_bytes: int = 0


@dataclass(frozen=True)
class Cases:
    """What an op gives the tests.

    `function` is the public function and `reference` its plain definition, called with the same arguments. `samples`
    makes small, odd-sized random calls on a device in a dtype (float64 for `gradcheck`). `operator_calls` makes at
    least one call of each registered operator (float32 on the CPU, for the interpreter). `builds` lists every kernel
    with every configuration that its heuristic can return; it may import triton. `rms_factor` is how much larger than
    the plain version's the root mean square of the kernels' errors may be; what is above 1.1 says why.
    """

    function: Callable[..., Any]
    reference: Callable[..., Any]
    samples: Callable[[torch.device, torch.dtype], list[Sample]]
    operator_calls: Callable[[torch.device, torch.dtype], list[OperatorCall]] = lambda device, dtype: []
    builds: Callable[[], list[Build]] = list
    rms_factor: float = 1.1


def op_folders() -> list[str]:
    """Names of the op folders beside this file, sorted."""
    return sorted(path.parent.name for path in Path(__file__).parent.glob("*/__init__.py"))


def load() -> dict[str, Cases]:
    """The cases of every op that has them, by op."""
    here = Path(__file__).parent
    return {
        op: importlib.import_module(f"golf_fast.ops.{op}.cases").CASES
        for op in op_folders()
        if (here / op / "cases.py").exists()
    }
