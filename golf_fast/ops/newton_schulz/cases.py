"""Calls and compilations of the op for the tests (see `golf_fast.ops.registry`)."""

from __future__ import annotations

import torch

from golf_fast.ops.newton_schulz import newton_schulz, reference
from golf_fast.ops.registry import Build, Cases, OperatorCall, Sample

# wide, tall, square; one row; sides that are no multiple of a tile or of 16
SHAPES = ((2, 40, 70), (3, 65, 33), (1, 130, 130), (2, 1, 50), (1, 64, 192))


def samples(device: torch.device, dtype: torch.dtype) -> list[Sample]:
    made = []
    for i, shape in enumerate(SHAPES):
        bank = torch.randn(shape, generator=torch.Generator().manual_seed(i), dtype=torch.float32)
        coefficients = ("quintic", "polar_express", "polar_express_published")[i % 3]
        keywords = {"iterations": 5, "dtype": dtype, "coefficients": coefficients}
        made.append(Sample(f"{'x'.join(map(str, shape))} {coefficients}", (bank.to(device, dtype),), keywords))
    return made


def operator_calls(device: torch.device, dtype: torch.dtype) -> list[OperatorCall]:
    x = torch.rand(2, 5, 9, device=device).to(dtype)
    add = torch.rand(2, 5, 5, device=device).to(dtype)
    return [
        OperatorCall("symmetric_product", (x, None, 1.0, 0.0)),
        OperatorCall("symmetric_product", (x, add, 0.5, -2.0)),
    ]


def builds() -> list[Build]:
    from golf_fast.ops.newton_schulz import triton

    made = []
    for arch, choices in triton.TILES.items():
        for tiles in choices:
            for name, shape in (("gram", (10, 512, 1536)), ("polynomial", (20, 512, 512))):
                x, out = (torch.empty(s, dtype=torch.bfloat16, device="meta") for s in (shape, (*shape[:2], shape[1])))
                add = None if name == "gram" else out
                launch = triton.product_launch(x, add, 1.0, 0.5, out, tiles)
                made.append(Build(f"{name} {tiles.side}", arch, launch, tensor_cores=True))
    return made


CASES = Cases(newton_schulz, reference.newton_schulz, samples, operator_calls, builds)
