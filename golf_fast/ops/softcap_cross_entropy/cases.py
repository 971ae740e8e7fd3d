"""Calls and compilations of the op for the tests (see `golf_fast.ops.registry`)."""

from __future__ import annotations

import torch

from golf_fast.ops import passes
from golf_fast.ops.registry import Build, Cases, OperatorCall, Sample
from golf_fast.ops.softcap_cross_entropy import reference, softcap_cross_entropy

# (rows, D, V): one row and a vocabulary of no round size; the seed's vocabulary; one that takes several warps' columns
SHAPES = ((1, 24, 83), (63, 64, 260), (65, 32, 1024), (20, 16, 1500))


def samples(device: torch.device, dtype: torch.dtype) -> list[Sample]:
    made = []
    for i, (rows, width, vocabulary) in enumerate(SHAPES):
        if dtype == torch.float64 and vocabulary > 300:
            continue
        generator = torch.Generator().manual_seed(i)
        x = torch.randn(rows, width, generator=generator).to(device, dtype)
        # logits of size 3, and in the last of size 30, where the cap of 10 bends them
        size = 30.0 if i == len(SHAPES) - 1 else 3.0
        weight = (torch.randn(vocabulary, width, generator=generator) * size * width**-0.5).to(device, dtype)
        targets = torch.randint(vocabulary, (rows,), generator=generator).to(device)
        made.append(Sample(f"{rows}x{width}x{vocabulary}", (x, weight, targets, 10.0), {}, (0, 1)))
    return made


def operator_calls(device: torch.device, dtype: torch.dtype) -> list[OperatorCall]:
    x, weight = torch.rand(3, 8, device=device).to(dtype), torch.rand(10, 8, device=device).to(dtype)
    targets = torch.tensor([1, 9, 0], device=device)
    scoring = OperatorCall("softcap_cross_entropy_forward", (x, weight, targets, 30.0, False))
    training = (x.clone().requires_grad_(), weight.clone().requires_grad_(), targets, 30.0, True)
    calls = [scoring, OperatorCall("softcap_cross_entropy_forward", training)]
    if not passes.obstacle(device.type):
        logits, g = torch.rand(3, 10).to(dtype) * 9, torch.rand(3)
        calls.append(OperatorCall("softcap_losses_backward", (g, logits, targets, 5.0)))
        calls.append(OperatorCall("softcap_losses_forward", (logits.clone().requires_grad_(), targets, 5.0)))
    return calls


def builds() -> list[Build]:
    from golf_fast.ops.softcap_cross_entropy import triton

    made = []
    for arch in (90, 80):
        for row in triton.ROWS:
            vocabulary = row.columns if row.whole else 65536
            logits = torch.empty(98304, vocabulary, dtype=torch.bfloat16, device="meta")
            targets = torch.empty(98304, dtype=torch.int64, device="meta")
            for gradient in (False, True):
                launch = triton.row_launch(logits, targets, targets.float(), 30.0, gradient, row)
                label = f"{'training' if gradient else 'scoring'} {vocabulary}"
                made.append(Build(label, arch, launch, tensor_cores=False))
    return made


# The gradient of a loss is multiplied in after the product and not before it: that is one rounding more.
CASES = Cases(softcap_cross_entropy, reference.softcap_cross_entropy, samples, operator_calls, builds, rms_factor=1.4)
