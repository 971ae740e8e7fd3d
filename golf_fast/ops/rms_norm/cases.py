"""Calls of the op for the tests (see `golf_fast.ops.registry`)."""

from __future__ import annotations

import torch

from golf_fast.ops import passes
from golf_fast.ops.registry import Cases, OperatorCall, Sample
from golf_fast.ops.rms_norm import reference, rms_norm

# one row; no power of two; more rows than one part; no row, and nothing in a row but one number
SHAPES = ((1, 8), (2, 17, 24), (70, 192), (0, 16), (3, 1), (5, 33))


def _rows(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randn((*shape[:-1], 1), generator=generator, dtype=torch.float64).exp()
    return (torch.randn(shape, generator=generator, dtype=torch.float64) * sizes).to(device, dtype)


def samples(device: torch.device, dtype: torch.dtype) -> list[Sample]:
    made = [
        Sample("x".join(map(str, shape)), (_rows(shape, device, dtype, seed),), {}, (0,))
        for seed, shape in enumerate(SHAPES)
        if dtype != torch.float64 or 0 < shape[-1] * shape[0] < 200
    ]
    strided = _rows((6, 5, 32), device, dtype, 9)[:, 2:, ::2]
    return [*made, Sample("strided", (strided,), {}, (0,))]


def operator_calls(device: torch.device, dtype: torch.dtype) -> list[OperatorCall]:
    if passes.obstacle(device.type):
        return []
    x = _rows((3, 5, 24), device, dtype, 0)
    _, factors = torch.ops.golf_fast.rms_norm_forward(x)
    return [
        OperatorCall("rms_norm_forward", (x.clone().requires_grad_(),)),
        OperatorCall("rms_norm_backward", (x.cos(), x, factors)),
    ]


CASES = Cases(rms_norm, reference.rms_norm, samples, operator_calls)
