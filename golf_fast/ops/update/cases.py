"""Calls and compilations of the op for the tests (see `golf_fast.ops.registry`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from golf_fast.ops.registry import Build, Cases, OperatorCall, Sample
from golf_fast.ops.update import nesterov, reference, update_factors

# no power of two; one number; nothing; several programs, the last partial
SIZES = (777, 1, 0, 5000)


def _together(factors: Callable[..., reference.Factors], move: Callable[..., torch.Tensor]) -> Callable[..., Any]:
    """Both halves of the op as a function that changes none of its arguments."""

    def update(
        gradient: torch.Tensor,
        momentum: torch.Tensor,
        found: torch.Tensor,
        doubt: torch.Tensor,
        mu: float,
        grad_clip: float,
        squares: bool,
    ) -> tuple[torch.Tensor, ...]:
        made = factors(found, doubt, grad_clip, squares=squares)
        moved = momentum.clone()
        direction = move(gradient, moved, mu, made.clip, made.failed)
        return direction, moved, made.doubt, made.ok.to(doubt.dtype), made.failed, made.clip

    return update


def _draw(count: int, device: torch.device, dtype: torch.dtype, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, generator=generator, dtype=torch.float64).to(device, dtype)


def samples(device: torch.device, dtype: torch.dtype) -> list[Sample]:
    """Clipped and not; `found` is never of a narrow dtype."""
    made = []
    for i, size in enumerate(SIZES):
        gradient, momentum = (_draw(size, device, dtype, 10 * i + seed) for seed in (0, 1))
        found = _draw(4 + 5 * i, device, torch.float32, 10 * i + 2).square()
        doubt = torch.zeros((), device=device)
        grad_clip = (0.3, 100.0, 0.0, 1.0)[i]
        arguments = (gradient, momentum, found, doubt, 0.95, grad_clip, i % 2 == 1)
        made.append(Sample(f"{size} numbers, clipped at {grad_clip}", arguments))
    return made


def operator_calls(device: torch.device, dtype: torch.dtype) -> list[OperatorCall]:
    gradient, momentum = (_draw(70, device, dtype, seed) for seed in (0, 1))
    found, zero = _draw(9, device, torch.float32, 2).square(), torch.zeros((), device=device)
    return [
        OperatorCall("update_factors", (found, zero, 0.3, False)),
        OperatorCall("nesterov", (gradient, momentum, 0.95, zero + 0.5, zero)),
        OperatorCall("nesterov", (gradient, momentum, 0.95, None, None)),
    ]


def builds() -> list[Build]:
    from golf_fast.ops.update import triton

    def empty(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    made = []
    for arch in (90, 80):
        for squares in (False, True):
            ok = empty(dtype=torch.bool)
            launch = triton.factors(empty(20), empty(), 0.3, squares, empty(), ok, empty(), empty())
            made.append(Build(f"factors of {'squares' if squares else 'norms'}", arch, launch, tensor_cores=False))
        for dtype in (torch.float32, torch.bfloat16):
            for clip, failed in ((empty(), empty()), (None, empty()), (empty(), None), (None, None)):
                gradient, momentum, out = (empty(22 * 512 * 512, dtype=dtype) for _ in range(3))
                launch = triton.nesterov(gradient, momentum, 0.95, clip, failed, out)
                given = [name for name, factor in (("clip", clip), ("failed", failed)) if factor is not None]
                label = " ".join(["momentum", str(dtype).removeprefix("torch."), *given])
                made.append(Build(label, arch, launch, tensor_cores=False))
    return made


CASES = Cases(
    _together(update_factors, nesterov),
    _together(reference.factors, reference.nesterov),
    samples,
    operator_calls,
    builds,
)
