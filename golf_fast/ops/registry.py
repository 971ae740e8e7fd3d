"""The registry of test cases of all ops, so that no op can go untested.

Every op folder has a `cases.py` with a `CASES`. A test fails if it is missing, if an operator of the `golf_fast`
library is in no `operator_calls`, or if a Triton kernel is in no `builds`. They drive `gradcheck` and `opcheck` for
every op, and the compilation of every kernel with every configuration for sm_90 and sm_80.
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

    Attributes:
        label: name of the sample.
        arguments: positional arguments.
        keywords: keyword arguments.
        differentiable: indices of the arguments that have gradients; these tensors are leaves whose `requires_grad` the
            test sets.
    """

    label: str
    arguments: tuple[Any, ...]
    keywords: dict[str, Any] = field(default_factory=dict)
    differentiable: tuple[int, ...] = ()


@dataclass(frozen=True)
class OperatorCall:
    """One call of `torch.ops.golf_fast.<operator>`; tensors with gradients have `requires_grad` set."""

    operator: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class Build:
    """A launch that is compiled without a GPU, and the expected properties of the result.

    Attributes:
        label: name of the build.
        arch: compute capability, 80 or 90.
        launch: the launch, with tensors on the meta device and shapes as in a run.
        tensor_cores: whether the PTX must use wgmma (sm_90) or mma.sync (sm_80).
        tma: whether it must use bulk tensor copies.
        stack_bytes: greatest number of bytes of registers per thread that may spill; 0 for the seed's shapes on sm_90.
    """

    label: str
    arch: int
    launch: Launch
    tensor_cores: bool
    tma: bool = False
    stack_bytes: int = 0


@dataclass(frozen=True)
class Cases:
    """The test cases of an op.

    Attributes:
        function: the public function.
        reference: its definition in plain PyTorch, called with the same arguments.
        samples: makes small, odd-sized random calls on a device in a dtype (float64 for `gradcheck`).
        operator_calls: makes at least one call of each registered operator (float32 on the CPU, for the interpreter).
        builds: lists every kernel with every configuration that its heuristic can return; may import triton.
        rms_factor: greatest ratio of the kernels' root-mean-square error to that of the reference; a comment gives the
            reason for a value above 1.1.
    """

    function: Callable[..., Any]
    reference: Callable[..., Any]
    samples: Callable[[torch.device, torch.dtype], list[Sample]]
    operator_calls: Callable[[torch.device, torch.dtype], list[OperatorCall]] = lambda device, dtype: []
    builds: Callable[[], list[Build]] = list
    rms_factor: float = 1.1


def op_folders() -> list[str]:
    """The names of the op folders, sorted."""
    return sorted(path.parent.name for path in Path(__file__).parent.glob("*/__init__.py"))


def load() -> dict[str, Cases]:
    """The cases of every op that has a `cases.py`, by op."""
    here = Path(__file__).parent
    return {
        op: importlib.import_module(f"golf_fast.ops.{op}.cases").CASES
        for op in op_folders()
        if (here / op / "cases.py").exists()
    }
