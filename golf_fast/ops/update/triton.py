"""Triton kernels of an update's factors and momentum, and how they are launched.

Momentum is bound by memory: two tensors are read once, and two are written. The factors are a few dozen numbers, so a
program with all of them costs a launch and little else.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from golf_fast.ops.launch import Launch

BLOCK, WARPS = 2048, 8
"""Numbers of a program: 8 a thread, two accesses of 16 bytes for a float32 tensor. Nothing was timed."""


@triton.jit
def factors_kernel(
    found, doubt, new_doubt, ok, failed, clip, count, grad_clip, CLIPS: tl.constexpr, SQUARES: tl.constexpr,
    WIDTH: tl.constexpr,
):  # fmt: skip
    """All outputs from `count` norms and the loss behind them; one program."""
    at = tl.arange(0, WIDTH)
    norms = tl.load(found + at, mask=at < count, other=0.0)
    norm = tl.sqrt(tl.sum(norms if SQUARES else norms * norms, 0))
    loss = tl.load(found + count)
    # A comparison with no number is false.
    finite = (tl.abs(norm) < float("inf")) & (tl.abs(loss) < float("inf"))
    doubts = tl.where(finite, tl.load(doubt), float("nan"))
    tl.store(new_doubt, doubts)
    tl.store(ok, doubts == 0)
    tl.store(failed, tl.where(doubts == 0, 0.0, 1.0))
    factor = grad_clip / (norm + 1e-6)
    tl.store(clip, tl.where(factor > 1, 1.0, factor) if CLIPS else 1.0)


@triton.jit
def nesterov_kernel(gradient, momentum, clip, failed, direction, total, mu, BLOCK: tl.constexpr):
    """`BLOCK` numbers of direction, and of momentum in place; clip and failed may be None."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < total
    g = tl.load(gradient + at, mask=inside, other=0.0).to(tl.float32)
    before = tl.load(momentum + at, mask=inside, other=0.0).to(tl.float32)
    if clip is not None:
        g *= tl.load(clip).to(tl.float32)
    after = mu * before + g
    way = g + mu * after
    if failed is not None:
        ok = tl.load(failed) == 0
        after = tl.where(ok, after, before)
        way = tl.where(ok, way, 0.0)
    tl.store(momentum + at, after.to(momentum.dtype.element_ty), mask=inside)
    tl.store(direction + at, way.to(direction.dtype.element_ty), mask=inside)


def factors(
    found: torch.Tensor, doubt: torch.Tensor, grad_clip: float, squares: bool,
    new_doubt: torch.Tensor, ok: torch.Tensor, failed: torch.Tensor, clip: torch.Tensor,
) -> Launch:  # fmt: skip
    """The launch that fills the last four."""
    count = found.shape[0] - 1
    arguments = {
        "found": found, "doubt": doubt, "new_doubt": new_doubt, "ok": ok, "failed": failed, "clip": clip,
        "count": count, "grad_clip": float(grad_clip), "CLIPS": grad_clip > 0, "SQUARES": squares,
        "WIDTH": triton.next_power_of_2(max(count, 1)),
    }  # fmt: skip
    return Launch("update.factors", factors_kernel, (1,), arguments, 1, 1)


def nesterov(
    gradient: torch.Tensor, momentum: torch.Tensor, mu: float, clip: torch.Tensor | None, failed: torch.Tensor | None,
    direction: torch.Tensor,
) -> Launch:  # fmt: skip
    """The launch that changes momentum and fills direction."""
    total = gradient.numel()
    arguments = {
        "gradient": gradient, "momentum": momentum, "clip": clip, "failed": failed, "direction": direction,
        "total": total, "mu": float(mu), "BLOCK": BLOCK,
    }  # fmt: skip
    return Launch("update.nesterov", nesterov_kernel, (triton.cdiv(total, BLOCK),), arguments, WARPS, 1)
