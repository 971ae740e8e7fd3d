"""Calls of the op for the tests (see `golf_fast.ops.registry`)."""

from __future__ import annotations

import torch

from golf_fast.ops import passes
from golf_fast.ops.gated_smear import gated_smear, reference
from golf_fast.ops.registry import Cases, OperatorCall, Sample

# (rows, positions, width, channels), whether some positions begin: one position; no power of two; more channels than a
# vector has lanes; no row; more rows than one part
SHAPES = (
    ((1, 1, 8, 3), False),
    ((2, 17, 24, 12), True),
    ((3, 5, 20, 20), False),
    ((0, 3, 16, 4), True),
    ((2, 40, 33, 12), True),
)


def random_arguments(
    shape: tuple[int, int, int, int], some_begin: bool, device: torch.device, dtype: torch.dtype, seed: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """x, gate, share and begins; positions differ in size."""
    rows, length, width, channels = shape
    generator = torch.Generator().manual_seed(seed)

    def draw(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float64)

    drawn = draw(rows, length, width) * draw(rows, length, 1).exp(), draw(1, channels) / channels, draw(1)
    x, gate, share = (tensor.to(device, dtype) for tensor in drawn)
    begins = (torch.rand(rows, length, generator=generator) < 0.2).to(device) if some_begin else None
    return x, gate, share, begins


def samples(device: torch.device, dtype: torch.dtype) -> list[Sample]:
    made = []
    for seed, (shape, some_begin) in enumerate(SHAPES):
        if dtype != torch.float64 or 0 < shape[0] * shape[1] < 40:
            *given, begins = random_arguments(shape, some_begin, device, dtype, seed)
            label = "x".join(map(str, shape)) + " some begin" * some_begin
            made.append(Sample(label, tuple(given), {"begins": begins}, (0, 1, 2)))
    return made


def operator_calls(device: torch.device, dtype: torch.dtype) -> list[OperatorCall]:
    if passes.obstacle(device.type):
        return []
    calls = []
    for shape, some_begin in SHAPES[1:3]:
        x, gate, share, begins = random_arguments(shape, some_begin, device, dtype, 0)
        out, openings = torch.ops.golf_fast.gated_smear_forward(x, gate, share, begins)
        calls.append(OperatorCall("gated_smear_backward", (out.cos(), x, gate, share, openings)))
        leaves = tuple(tensor.clone().requires_grad_() for tensor in (x, gate, share))
        calls.append(OperatorCall("gated_smear_forward", (*leaves, begins)))
    return calls


CASES = Cases(gated_smear, reference.gated_smear, samples, operator_calls)
