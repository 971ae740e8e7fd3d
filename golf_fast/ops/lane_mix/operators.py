"""The streams after a block with lanes as operators of torch.library, so that torch.compile keeps the passes whole."""

from __future__ import annotations

from typing import Any

import torch

from golf_fast.ops import passes


@torch.library.custom_op("golf_fast::lane_mix_forward", mutates_args=())
def forward(
    first: torch.Tensor,
    second: torch.Tensor,
    attended: torch.Tensor,
    hidden: torch.Tensor,
    kept: torch.Tensor,
    shares: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Both streams; all arguments are contiguous, and saved."""
    one, two = torch.empty_like(first), torch.empty_like(first)
    if first.numel():
        given = first, second, attended, hidden, kept, shares
        passes.run("lane_mix", first, *given, one, two, *passes.rows(first))
    return one, two


@forward.register_fake
def _(
    first: torch.Tensor,
    second: torch.Tensor,
    attended: torch.Tensor,
    hidden: torch.Tensor,
    kept: torch.Tensor,
    shares: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty_like(first), torch.empty_like(first)


@torch.library.custom_op("golf_fast::lane_mix_backward", mutates_args=())
def backward(
    d_one: torch.Tensor,
    d_two: torch.Tensor,
    first: torch.Tensor,
    second: torch.Tensor,
    attended: torch.Tensor,
    hidden: torch.Tensor,
    kept: torch.Tensor,
    shares: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of the arguments; those of `kept` and `shares` are float32, sums of parts in a fixed order."""
    made = _gradients(first)
    if not first.numel():
        made[4].zero_(), made[5].zero_()
        return made
    # The gradient of a sum or a mean is one number with strides of zero.
    given = d_one.contiguous(), d_two.contiguous(), first, second, attended, hidden, kept, shares
    rows, width = passes.rows(first)
    parts = made[4].new_empty(passes.parts(rows), 2 * width + 4)
    passes.run("lane_mix_gradient", first, *given, *made[:4], parts, rows, width)
    total = parts.sum(0)
    return *made[:4], total[: 2 * width].view(2, width).clone(), total[2 * width :].view(2, 2).clone()


def _gradients(
    first: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    a, b, c, d = (torch.empty_like(first) for _ in range(4))
    of_kept, of_shares = (first.new_empty((2, n), dtype=torch.float32) for n in (first.shape[-1], 2))
    return a, b, c, d, of_kept, of_shares


@backward.register_fake
def _(
    d_one: torch.Tensor,
    d_two: torch.Tensor,
    first: torch.Tensor,
    second: torch.Tensor,
    attended: torch.Tensor,
    hidden: torch.Tensor,
    kept: torch.Tensor,
    shares: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    return _gradients(first)


def _setup_context(ctx: Any, inputs: tuple[torch.Tensor, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, d_one: torch.Tensor, d_two: torch.Tensor) -> tuple[torch.Tensor, ...]:
    *others, d_kept, d_shares = backward(d_one, d_two, *ctx.saved_tensors)
    dtype = ctx.saved_tensors[4].dtype
    return *others, d_kept.to(dtype), d_shares.to(dtype)


forward.register_autograd(_backward, setup_context=_setup_context)
