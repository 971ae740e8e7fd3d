"""Calls and compilations of the op for the tests (see `golf_fast.ops.registry`)."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from golf_fast.ops import passes
from golf_fast.ops.registry import Build, Cases, OperatorCall, Sample
from golf_fast.ops.relu2_mlp import reference, relu2_mlp

# (tokens, width, hidden): one token; one less and one more than a tile; several tiles that do not divide the sizes.
SHAPES = ((1, 64, 64), (63, 64, 192), (65, 128, 64), (200, 192, 320))


def _random(shape: tuple[int, ...], scale: float, device: torch.device, dtype: torch.dtype, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=generator) * scale).to(device=device, dtype=dtype)


def samples(device: torch.device, dtype: torch.dtype) -> list[Sample]:
    made = []
    for i, (tokens, width, hidden) in enumerate(SHAPES):
        if dtype == torch.float64 and tokens > 65:
            continue
        x = _random((tokens, width), 1.0, device, dtype, 3 * i)
        w_up = _random((hidden, width), width**-0.5, device, dtype, 3 * i + 1)
        w_down = _random((width, hidden), hidden**-0.5, device, dtype, 3 * i + 2)
        rstd = x.double().square().mean(-1).rsqrt().to(torch.float64 if dtype == torch.float64 else torch.float32)
        label = f"{tokens}x{width}x{hidden}"
        made += [
            Sample(label, (x, w_up, w_down), {}, (0, 1, 2)),
            Sample(f"{label} rstd", (3 * x, w_up, w_down, rstd / 3), {}, (0, 1, 2, 3)),
            Sample(f"{label} leaky", (x, w_up, w_down, None), {"negative_slope": 0.5}, (0, 1, 2)),
            Sample(f"{label} leaky rstd", (x, w_up, w_down, rstd), {"negative_slope": 0.5}, (0, 1, 2, 3)),
        ]
    return made


def operator_calls(device: torch.device, dtype: torch.dtype) -> list[OperatorCall]:
    calls = []
    if not passes.obstacle(device.type):
        read = torch.rand(5, 64).to(dtype)
        calls.append(OperatorCall("relu2_mlp_factor_gradient", (read.cos(), read, torch.rand(5) + 0.5)))
    for slope in (0.0, 0.5):
        x, w_up, w_down = (
            _random(shape, 0.2, device, dtype, seed) for seed, shape in enumerate([(5, 64), (64, 64), (64, 64)])
        )
        rstd = torch.rand(5, device=device) + 0.5 if slope else None
        saved, g = (torch.rand(5, 64, device=device).to(dtype) for _ in range(2))
        calls.append(
            OperatorCall("relu2_mlp_dpre", (g, w_down.clone(), saved, None if rstd is None else rstd.clone(), slope))
        )
        for tensor in (x, w_up, w_down, rstd):
            if tensor is not None:
                tensor.requires_grad_()
        calls.append(OperatorCall("relu2_mlp_forward", (x, w_up, w_down, rstd, slope)))
    return calls


def builds() -> list[Build]:
    return list(_builds())


def _builds() -> Iterator[Build]:
    from golf_fast.ops.relu2_mlp import triton

    def empty(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    tokens, width, hidden = 98304, 512, 1536
    for (kernel, arch), choices in triton.TILES.items():
        for tiles in choices:
            # every variant of the largest tile, which has the least room, and the two extremes of the others
            variants = ((0.0, False), (0.5, True), (0.0, True), (0.5, False))
            for slope, with_rstd in variants if tiles is choices[0] else variants[:2]:
                rstd = empty(tokens, dtype=torch.float32) if with_rstd else None
                if kernel == "up":
                    pre = empty(tokens, hidden) if slope else None
                    launch = triton.up_launch(
                        empty(tokens, width), empty(hidden, width), rstd, empty(tokens, hidden), pre, slope, tiles, 132
                    )
                else:
                    launch = triton.dpre_launch(
                        empty(tokens, width), empty(width, hidden), empty(tokens, hidden), rstd,
                        empty(tokens, hidden), slope, tiles, 132,
                    )  # fmt: skip
                variant = f"{'leaky' if slope else 'relu'}{' rstd' if with_rstd else ''}"
                label = f"{kernel} {tiles.rows}x{tiles.columns} {variant}"
                yield Build(label, arch, launch, tensor_cores=True, tma=tiles.tma)


CASES = Cases(relu2_mlp, reference.relu2_mlp, samples, operator_calls, builds)
