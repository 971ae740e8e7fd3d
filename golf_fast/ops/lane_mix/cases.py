"""Calls of the op for the tests (see `golf_fast.ops.registry`)."""

from __future__ import annotations

import torch

from golf_fast.ops import passes
from golf_fast.ops.lane_mix import lane_mix, reference
from golf_fast.ops.registry import Cases, OperatorCall, Sample

# one row; no power of two; more rows than one part; no row
SHAPES = ((1, 8), (2, 17, 24), (0, 16), (70, 37))


def random_arguments(
    shape: tuple[int, ...], device: torch.device, dtype: torch.dtype, seed: int
) -> tuple[torch.Tensor, ...]:
    """Rows differ in size, and no weight is near 0 or 1."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float64)

    rows = [draw(*shape) * draw(*shape[:-1], 1).exp() for _ in range(4)]
    weights = [0.5 + draw(2, shape[-1]) / 4, 0.7 + draw(2, 2) / 4]
    return tuple(tensor.to(device, dtype) for tensor in (*rows, *weights))


def samples(device: torch.device, dtype: torch.dtype) -> list[Sample]:
    everything = tuple(range(6))
    return [
        Sample("x".join(map(str, shape)), random_arguments(shape, device, dtype, seed), {}, everything)
        for seed, shape in enumerate(SHAPES)
        if dtype != torch.float64 or 0 < shape[0] < 70
    ]


def operator_calls(device: torch.device, dtype: torch.dtype) -> list[OperatorCall]:
    if passes.obstacle(device.type):
        return []
    given = random_arguments((3, 5, 24), device, dtype, 0)
    leaves = tuple(tensor.clone().requires_grad_() for tensor in given)
    return [
        OperatorCall("lane_mix_forward", leaves),
        OperatorCall("lane_mix_backward", (given[0].cos(), given[1].cos(), *given)),
    ]


CASES = Cases(lane_mix, reference.lane_mix, samples, operator_calls)
