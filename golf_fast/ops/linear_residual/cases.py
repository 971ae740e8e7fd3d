"""Calls and compilations of the op for the tests (see `golf_fast.ops.registry`)."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from golf_fast.ops import passes
from golf_fast.ops.linear_residual import linear_residual, reference
from golf_fast.ops.registry import Build, Cases, OperatorCall, Sample

# rows, K, D: one row; a block and a bit; several blocks for a program; several tiles across, the last one not full
SHAPES = (((1,), 64, 64), ((2, 40), 64, 128), ((3, 150), 128, 64), ((1, 70), 64, 320))


def random_arguments(
    rows: tuple[int, ...], width: int, features: int, device: torch.device, dtype: torch.dtype, seed: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x, w and residual; rows differ in size."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float64)

    x, w = draw(*rows, width), draw(features, width) * width**-0.5
    residual = draw(*rows, features) * draw(*rows, 1).exp()
    return x.to(device, dtype), w.to(device, dtype), residual.to(device, dtype)


def samples(device: torch.device, dtype: torch.dtype) -> list[Sample]:
    made = []
    for seed, (rows, width, features) in enumerate(SHAPES):
        if dtype == torch.float64:
            # finite differences of every entry: narrow matrices say as much
            rows, width, features = (*rows[:-1], min(rows[-1], 5)), width // 16, features // 16
        label = f"{'x'.join(map(str, rows))} {width} to {features}"
        made.append(Sample(label, random_arguments(rows, width, features, device, dtype, seed), {}, (0, 1, 2)))
    return made


def operator_calls(device: torch.device, dtype: torch.dtype) -> list[OperatorCall]:
    x, w, residual = random_arguments((40,), 64, 128, device, dtype, 0)
    calls = [OperatorCall("linear_residual", tuple(t.clone().requires_grad_() for t in (x, w, residual)))]
    if not passes.obstacle(device.type):
        rstd, drstd = (torch.rand(40) + 0.5 for _ in range(2))
        for g in (residual.cos(), None):
            calls.append(OperatorCall("linear_residual_norm_gradient", (g, residual, rstd, drstd)))
    return calls


def builds() -> list[Build]:
    return list(_builds())


def _builds() -> Iterator[Build]:
    from golf_fast.ops.linear_residual import triton

    def empty(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    tokens, width = 98304, 512
    for arch, choices in triton.TILES.items():
        for tiles in choices:
            matrices = empty(tokens, width), empty(width, width), empty(tokens, width), empty(tokens, width)
            launch = triton.launch(*matrices, empty(tokens, dtype=torch.float32), tiles, 132)
            yield Build(f"{tiles.rows}x{tiles.columns}", arch, launch, tensor_cores=True, tma=tiles.tma)


CASES = Cases(linear_residual, reference.linear_residual, samples, operator_calls, builds)
